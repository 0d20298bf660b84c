"""Labels that are probably wrong: rows where a model that never saw them is sure of another answer than the annotation.

    python -m data.check --config my.yaml --suspects outputs_mine/sweep_folds/as_configured/seed_42/predictions.jsonl

After confident learning (Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"): a model is
sure of an answer when it gives it at least the probability that it gives it, on average, where it is the annotation. Without
training rows among them: what a model has learnt by heart it repeats, mistakes included.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python -m data.check --suspects PREDICTIONS")

import posixpath
from collections import Counter, defaultdict
from pathlib import Path

import jinja2

from config import near
from data import answer_space
from data.aliases import question_template
from data.corrections import COLUMNS, SPLIT, read_corrections, row_ids, write_csv
from data.image_names import images_of
from data.matching import conventions_of, is_junk, judge, labels_of, question_key, references
from data.preprocess import training_space
from data.thumbnails import Thumbnails
from files import UserError, atomic_open, printable, quoted, read_json, read_jsonl, sha256, short

CARDS = 300  # rows on the page; the table has all
FIELDS = ("id", SPLIT, "annotation", "predicted", "confidence", "annotation_probability", "question", "image", "images", "group")
FIELDS += COLUMNS[1:]
FOLDS = "python -m data.split ROWS DIR --folds 5, then python tools/sweep.py CONFIG --folds DIR"
REPEATS = f"its rows are those that the model was trained on, whose answers it repeats; have held-out rows answered: {FOLDS}"
LEFT_OUT = {
    "trained": "{} that the model was trained on",
    "unsure": "{} without a confidence (predict.decoding=exact gives one)",
    "junk": "{} whose annotation stands for a missing value",
    "corrected": "{} that data.corrections has already",
}


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_predictions(path):
    """The rows of a predictions file (dicts). Raises UserError naming file:line for one without id, question, pred or gt, or with a
    confidence that is no probability."""
    rows, seen = [], set()
    for line, row in read_jsonl(path):
        row = {**row, "id": None if row.get("id") is None else str(row["id"]), "pred": row.get("pred")}
        if lacking := [key for key in ("id", "question", "gt") if not isinstance(row.get(key), str)]:
            raise UserError(f"{path}:{line}: has no {lacking[0]}; give a file that predict_exp1.py wrote, of rows with answers")
        confidence = row.get("confidence")
        if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1 + 1e-6):
            raise UserError(f"{path}:{line}: confidence is {quoted(confidence)}; write a number from 0 to 1, or null")
        if row["id"] in seen:
            raise UserError(f"{path}:{line}: id {quoted(row['id'])} comes twice; predict again")
        seen.add(row["id"])
        rows.append(row)
    return rows


def trained_pairs(path, facts, files):
    """(what makes a row one that the model was trained on: (image, question, options), a line on how that is known).

    path: of the predictions; facts: of their sidecar. files: {split: path} of the configured rows, train among them.
    Raises UserError where all of the rows are such.
    """
    if facts.get("split") == "folds":
        return set(), "each row was answered by a model that was trained on the other folds"
    if facts.get("adapter") == "none":
        return set(), "no row was trained on: the answers are the untuned model's"
    seen = facts.get("trained_on")
    if facts.get("source_sha256") in (seen or ()) or seen is None and facts.get("split") == "train":
        raise UserError(f"--suspects {path}: {REPEATS}")
    hashes = {split: sha256(file) for split, file in files.items()}
    known = [split for split, value in hashes.items() if value in (seen or ())]
    pairs = {pair_of(row) for split in known or ["train"] for _, row in read_jsonl(files[split])}
    names = " and ".join(near(files[split]) for split in known or ["train"])
    if known and set(seen) <= set(hashes.values()):
        return pairs, f"the model was trained on {names}"
    return pairs, f"WARNING: nothing says what the model was trained on; rows of {names} are left out, others may have been, too"


def pair_of(row):
    """What makes two rows ask the same: images, question and options."""
    image = row.get("image_filename") if row.get("image") is None else row["image"]
    images = tuple(posixpath.normpath(str(name)) for name in row.get("images") or [image])
    return images, question_key(str(row.get("question"))), tuple(map(str, row.get("options") or ()))


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def find_suspects(rows, tolerances, conventions):
    """The suspects among predictions rows with `qtype` and `confidence`, worst first: each row with `annotation_probability`.

    Worst is where most lies between the probability of the model's answer and that of the annotation, which is 0 where the row's
    `candidates_top` lack it. tolerances, conventions: as for `matching.judge`.
    """
    judged = [{**row, "annotation_probability": _probability(row, conventions)} for row in judge(rows, tolerances, conventions)]
    given = defaultdict(list)  # question and answer -> the probabilities that it had where it is the annotation
    for row in judged:
        given[_key(row), _labels(row, row["gt"], conventions)].append(row["annotation_probability"])
    sure = {key: sum(values) / len(values) for key, values in given.items()}
    strictest = {}  # for answers that annotate no row of their question
    for (question, _), least in sure.items():
        strictest[question] = max(least, strictest.get(question, 0))
    is_sure = lambda row: row["confidence"] >= sure.get((_key(row), _labels(row, row["pred"], conventions)), strictest[_key(row)])
    found = [row for row in judged if not row["correct"] and is_sure(row)]
    return sorted(found, key=lambda row: (row["annotation_probability"] - row["confidence"], -row["confidence"], row["id"]))


def _key(row):
    return question_template(row["question"]), tuple(row.get("options") or ())


def _labels(row, text, conventions):
    return frozenset(labels_of(text, conventions_of(row, conventions), row.get("options")))


def _probability(row, conventions):
    """The probability that the model gave to a row's annotation, or another of its references."""
    true = {_labels(row, text, conventions) for text in references(row)}
    ranking = row.get("candidates_top") or [[row["pred"], row["confidence"]]]
    return max((share for text, share in ranking if _labels(row, text, conventions) in true), default=0.0)


def suspects_of(path, cfg, files):
    """(suspects, lines on what was looked at) of a predictions file; each suspect with `split`, by which corrections find a row that has
    no id of its own. files: {split: path} of the configured rows."""
    rows, sidecar = read_predictions(path), path.with_suffix(".meta.json")
    facts = read_json(sidecar) if sidecar.is_file() else {}
    pairs, how = trained_pairs(path, facts, files)
    done = {(row["id"], row[SPLIT]) for row in read_corrections(cfg.data.corrections)} if cfg.data.corrections else set()
    split, numbered = rows_by_number(facts, files)
    space, counts, kept = training_space(cfg, say=lambda line: None), Counter(), []
    for row in rows:
        row[SPLIT] = split if row["id"] in numbered else ""
        why = "trained" if pair_of(row) in pairs else "junk" if is_junk(row["gt"]) else None
        why = "corrected" if why != "trained" and done & {(row["id"], ""), (row["id"], split)} else why
        why = why or ("unsure" if row.get("confidence") is None else None)
        counts[why] += 1
        if why is None:
            kept.append({**row, "qtype": row.get("qtype") or answer_space.apply(space, row)["question_type"]})
    if counts["trained"] == len(rows):
        raise UserError(f"--suspects {path}: {REPEATS}")
    if not kept:
        raise UserError(f"--suspects {path}: no row is left: {left_out(counts)}")
    found = find_suspects(kept, cfg.eval, answer_space.conventions(space))
    lines = [f"suspects: {len(found):,} of {len(kept):,} rows, where the model is sure of another answer than the annotation; {how}"]
    lines += [f"left out: {left_out(counts)}"] if counts.total() > counts[None] else []
    return found, lines + not_to_be_corrected(found, files)


def rows_by_number(facts, files):
    """(split that predictions are of, ids (set) of its rows that are known by their number alone); (None, empty) where it isn't told."""
    told = (split for split, file in files.items() if facts.get("source_sha256") == sha256(file))
    split = next(told, facts.get("split"))
    return (split, row_ids(files[split]) - row_ids(files[split], given=True)) if split in files else (None, set())


def not_to_be_corrected(found, files):
    """A line on suspects whose id is that of rows of several splits, of which a correction couldn't tell which is meant."""
    several = [row["id"] for row in found if not row[SPLIT] and sum(row["id"] in row_ids(file) for file in files.values()) > 1]
    if not several:
        return []
    rows = f"{len(several)} suspects have ids" if len(several) > 1 else "1 suspect has an id"
    remedy = "give every row an id of its own, as data.split does, and predict again"
    return [f"WARNING: {rows} of rows in several splits, such as {quoted(several[0])}, and can't be corrected by the table; {remedy}"]


def left_out(counts):
    return ", ".join(text.format(f"{counts[why]:,} row{'s' * (counts[why] > 1)}") for why, text in LEFT_OUT.items() if counts[why])


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def _has_corrections(table):
    try:
        return bool(read_corrections(table))
    except UserError:  # somebody has begun to
        return True


def write_suspects(found, folder, image_root=None):
    """Write folder/suspects.csv, with empty columns for the correction, and suspects.html with the pictures of `image_root` (None: none).

    Raises UserError rather than replace a table in which somebody has begun to correct.
    """
    table, page = Path(folder) / "suspects.csv", Path(folder) / "suspects.html"
    if table.is_file() and _has_corrections(table):
        raise UserError(f"{table}: holds corrections, which would be lost; move it, and set data.corrections to where it is")
    rounded = lambda row: {key: round(row[key], 4) for key in ("confidence", "annotation_probability")}
    rows = [{**row, **rounded(row), "annotation": row["gt"], "predicted": row["pred"]} for row in found]
    several = lambda row: {"images": "; ".join(row.get("images") or ())}
    cells = lambda row: {key: row.get(key, "") for key in FIELDS} | several(row) | dict.fromkeys(COLUMNS[1:], "")
    write_csv(table, map(cells, rows), FIELDS)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["shown"] = lambda text: printable(short(text or "", 400))
    pictures = Thumbnails(image_root)
    shown = lambda row: pictures.get(images_of(row) if row.get("image") else [])
    cards = [{**row, "group": row.get("group"), "picture": shown(row)} for row in rows[:CARDS]]
    with atomic_open(page) as file:
        file.write(environment.get_template("suspects.html.j2").render(cards=cards, total=len(rows)))
    return table, page
