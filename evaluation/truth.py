"""What the rows of a predictions file are about: by the data file where there is one, else by the file's own word.

With a data file, a prediction is only believed for what it says. Question, image, patient, options, references, type and what the
constraint allows come from the data and the answer space, and a prediction that claims otherwise is refused: spellings
in a sidecar, a patient per row or wrong rows moved to another type would each make a better number.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import posixpath
import re
from collections import defaultdict

from config import DataConfig, near
from data import answer_space
from data.image_copies import join_by_rows
from data.image_names import images_of
from data.matching import conventions_of, labels_of, normalize_answer
from data.preprocess import training_space, why_untrainable
from data.rows import junk_reason, read_rows
from data.rules import BUILT_IN
from data.schema import infer_question_type
from data.stages import with_stage
from data.text import clean, group_of, strip_placeholders
from evaluation.predictions import listed
from files import UserError, quoted, short

RULES_ALONE = {"mode": "mined", "rows": 0, "questions": {}, "given": {}, "as_the_rules_say": {"questions": 0, "rows": 0}}
KNOWN = ("question", "image", "images", "group", "options", "answers", "answers_by", "box")  # of a data row, as it is there
SETS = ("answer_set", "answer_set_filled", "confidence_calibrated")
WAY_IN = "give the data file that it answers with --against DATA.jsonl"


# ---------------------------------------------------------------------------------------------------------------------
# What types, spellings and constraints go by


def space_for(cfg, sidecars, paths=()):
    """(answer space, what it is in words): mined from data.train_jsonl, else the adapter's, else the rules alone.

    Never what a predictions file or its sidecar says of itself; the sidecars only tell which adapters answered, of which the
    first that has a space gives it to all files. paths: of the predictions, beside which adapters may lie. Raises UserError for a
    broken one.
    """
    train = cfg.data.train_jsonl
    if train and train.is_file():
        return training_space(cfg, say=lambda line: None), f"the training rows {near(train)}"
    missing = f" (data.train_jsonl {near(train)} is not there)" if train else ""
    beside = [path.parent for path in paths]
    for folder in (cfg.output_dir / "adapter", *(cfg.find(facts.get("adapter"), *beside) for facts in sidecars)):
        path = (folder or cfg.output_dir / "none") / answer_space.SPACE_FILE
        if path.is_file():
            return answer_space.load(path), f"the answer space of {near(path.parent)}{missing}"
    return {**RULES_ALONE, "languages": list(cfg.data.languages)}, f"the rules of data/schema.py{missing}"


# ---------------------------------------------------------------------------------------------------------------------
# With a data file


def with_data(
    rows, path, source, space, limit=None, by_rules=False, any_wording=False, training=False, corrections=None, settings=DataConfig()
):
    """(rows of a predictions file with all that the data file knows of them, number of rows in the data), in the file's order.

    rows: of `predictions.load_predictions`. Where none has an id they are taken in the data's order. limit: so many of the
    data's first rows were asked for; None: all. by_rules: types are the literal rules', so the file's own are not compared.
    any_wording: their questions, and what goes by these, may differ from the data's. training: these are the training rows, some of
    which enrichment leaves out. Raises UserError that counts and lists what differs.
    """
    data = read_truths(source, space, training, corrections, settings)
    if not any("id" in row for row in rows):
        if len(rows) != len(data):
            said = f"{path}: its {len(rows)} rows have no id, and {source} has {len(data)} rows"
            raise UserError(f"{said}; add the data's ids, or answer every row in its order")
        rows = [{**row, "id": row_id} for row, row_id in zip(rows, data)]
    first = list(data)[: len(rows)]
    part = limit is not None and len(rows) <= limit and {row.get("id") for row in rows} == set(first)
    asked = {row_id: data[row_id] for row_id in first} if part else data
    loose = {"type"} if by_rules else set()
    check_against(rows, path, asked, source, {"type", "question", "ceiling"} if any_wording else loose, answer_space.conventions(space))
    believed = ("id", "pred", "greedy", "confidence", "candidates_top", "abstained", "pred_box", *SETS)
    return [{**{key: row[key] for key in believed if key in row}, **data[row["id"]]} for row in rows], len(data)


def read_truths(source, space, training=False, corrections=None, settings=DataConfig()):
    """{id: what is known of a data row}: question, image, group, options, answers, gt, qtype, candidates and reachable.

    training: without the rows that training leaves out. corrections: {id: answer}, applied as enrichment does. settings: the data section
    of a configuration, whose `stages` choose rows.
    """
    truths, verdicts = {}, {}
    for row in with_stage(read_rows(source, need_answer=False, corrections=corrections), settings, source):
        known = {key: row[key] for key in KNOWN if row.get(key) is not None}
        case = row["question"], row.get("answer"), row.get("answer_raw"), tuple(row.get("options") or ()), tuple(row.get("answers") or ())
        verdict = verdicts.get(case) or _verdict(row, space)
        if verdict["qtype"] in BUILT_IN:  # of these the question and its options decide: the same few come again and again
            verdicts[case] = verdict
        if not (training and verdict["untrainable"]):
            truths[row["id"]] = known | {key: value for key, value in verdict.items() if key != "untrainable"}
    return truths


def _verdict(row, space):
    """What the answer space says of a data row."""
    enriched = answer_space.apply(space, row)
    verdict = {"qtype": enriched["question_type"], "candidates": enriched["answer_candidates"], "untrainable": False}
    if row.get("answer") is not None:
        # of an option's letter, the option; of an enriched file, the answer as it was
        verdict["gt"] = enriched["answer"] if row.get("options") else row.get("answer_raw") or row["answer"]
        verdict |= {"reachable": answer_space.reachable(enriched), "untrainable": why_untrainable(enriched) is not None}
    return verdict


def check_against(rows, path, data, source, loose, conventions):
    """Check that predictions are about these rows of a data file (`read_truths`), all of them, and claim nothing else of them.

    Predictions of another split have the same row numbers, and are told by their questions and answers. loose: names of what may differ.
    """
    if without := [place for place, row in enumerate(rows) if "id" not in row]:
        raise UserError(f"{path}: {len(without)} of {len(rows)} rows have no id, first row {without[0]}; give ids to all rows or to none")
    found, faults = {row["id"]: row for row in rows}, defaultdict(list)
    faults["unknown"] = [row_id for row_id in found if row_id not in data]
    for row_id, known in data.items():
        if row_id not in found:
            faults["missing"].append(row_id)
        elif "gt" not in known:
            faults["no answer in the data"].append(row_id)
        else:
            for name in differences(found[row_id], known, conventions):
                if name not in loose:
                    faults[f"another {name}"].append(row_id)
    faults = {name: sorted(ids) for name, ids in faults.items() if ids}
    if faults:
        said = "; ".join(f"{name}: {listed(ids)}" for name, ids in faults.items())
        remedy = "predict this split again, or give its own data file with --against"
        if faults.keys() <= {"another type", "another ceiling"}:
            remedy = "its types are not those of the training rows; predict again, or leave qtype and reachable out of the file"
        raise UserError(f"{path} does not fit {source}: {said}; {remedy}")


def differences(row, known, conventions):
    """Names of what a prediction's row says otherwise than the data: where it says nothing, nothing differs."""
    if "gt" in row and row["gt"] != known["gt"] and _labels(row["gt"], known, conventions) != _labels(known["gt"], known, conventions):
        yield "answer"
    question = known["question"]
    if "question" in row and row["question"] != question and clean(strip_placeholders(row["question"])) != clean(question):
        yield "question"
    elif "question" not in row and "prompt" in row and not _asks(row["prompt"], question):
        yield "question"
    if "shown" in row and not f"/{posixpath.normpath(row['shown'].replace(chr(92), '/'))}".endswith(f"/{known['image']}"):
        yield "image"
    if "image" in row and row["image"] != known["image"] and posixpath.normpath(row["image"]) != known["image"]:
        yield "image"
    elif "images" in row and _paths(row) != images_of(known):
        yield "image"
    if group_of(row) is not None and group_of(row) != group_of(known):
        yield "group"
    for key in ("options", "answers"):
        if key in row and sorted(map(normalize_answer, row[key])) != sorted(map(normalize_answer, known.get(key) or [])):
            yield key
    if "qtype" in row and row["qtype"] != known["qtype"]:
        yield "type"
    if "reachable" in row and row["reachable"] != known["reachable"]:
        yield "ceiling"


def _paths(row):
    return list(map(posixpath.normpath, row["images"]))


def _asks(prompt, question):
    """Does a prompt hold a question, and not only as a part of a longer one?"""
    return re.search(rf"(?<!\w){re.escape(clean(question))}(?!\w)", clean(prompt)) is not None


def _labels(text, row, conventions):
    return labels_of(text, conventions_of(row, conventions), row.get("options")).keys()


# ---------------------------------------------------------------------------------------------------------------------
# Without one


def completed(rows, path, space):
    """The rows by their own word. An absent id is the row's number, an absent type that of its question. Raises UserError for a row
    that lacks its truth, or the question to tell its type by."""
    done = []
    for number, row in enumerate(rows):
        where = f"{path}: row {quoted(row.get('id', number))}"
        if "gt" not in row:
            raise UserError(f"{where} has no gt; add the true answer as text, or {WAY_IN}")
        if not row.get("qtype") and "question" not in row:
            raise UserError(f"{where} has no qtype, and no question to tell its type by; add one of them, or {WAY_IN}")
        row.pop("prompt", None)
        row.setdefault("id", str(number))
        if "image" in row:
            row["image"] = posixpath.normpath(row["image"])
        if "images" in row:
            row["images"] = _paths(row)
            row.setdefault("image", row["images"][0])
        if not row.get("qtype"):
            row["qtype"] = answer_space.apply(space, row)["question_type"]
        done.append(row)
    return done


def valid_answers(row, space):
    """The valid answers of a row's question (list of str), or None where any may be given or the question isn't known."""
    if "candidates" in row or "question" not in row:
        return row.get("candidates")
    return answer_space.apply(space, {key: row[key] for key in ("question", "options") if key in row})["answer_candidates"]


# ---------------------------------------------------------------------------------------------------------------------
# Either way


def without_junk(rows):
    """(rows whose truth is an answer, number of the others): `nan` for a missing value is what the doctor calls junk."""
    kept = [row for row in rows if not junk_reason(row.get("question", "not known"), row["gt"])]
    return kept, len(rows) - len(kept)


def with_clusters(rows, path):
    """Give the rows `cluster`, and return them: what a row shares with others.

    That is its patient or video (`group`), else its image, else nothing (its id).

    Images are one where rows are about several of them together. Where only some rows of an image name the patient, the others are
    that patient's, too. Raises UserError where one image
    has several groups: what isn't the same for all questions about an image is no patient.
    """
    groups, joined = {}, join_by_rows(rows)
    image_of = lambda row: joined.get(row.get("image"), row.get("image"))
    for row in rows:
        group = group_of(row)
        if group is not None and "image" in row and group_of(known := groups.setdefault(image_of(row), row)) != group:
            both = f"image {short(row['image'])} has two groups, {quoted(known['group'])} and {quoted(row['group'])}"
            raise UserError(f"{path}: {both}; a group is the patient or the video of the whole image")
    for row in rows:
        group = group_of(row) or group_of(groups.get(image_of(row), {}))
        kind, name = ("group", group) if group is not None else ("image", image_of(row)) if "image" in row else ("id", row["id"])
        row["cluster"] = f"{kind} {name}"
    return rows


def unit_of(rows):
    """What the rows' clusters are: `groups`, `images`, `groups and images`, or `rows` where neither is known."""
    kinds = {row["cluster"].split(" ", 1)[0] for row in rows}
    named = " and ".join(f"{kind}s" for kind in ("group", "image") if kind in kinds)
    return named if named and "id" not in kinds else f"{named} and rows" if named else "rows"


def by_rules(rows, key):
    """The rows with the literal rules' type of their question (and options) at `key`."""
    if any("question" not in row for row in rows):
        raise UserError(f"--types rules: a prediction row has no question to infer its type from; {WAY_IN}")
    return [{**row, key: infer_question_type(row["question"], row.get("options"))} for row in rows]


def check_same_rows(runs, any_wording=False):
    """Raise UserError unless all loaded runs have the ids of the first, each about the same question, image, truth and type.

    any_wording: questions may differ, and with them the types, which are then those of the first.
    """
    first = runs[0]
    known = {row["id"]: row for row in first["judged"]}
    for run in runs[1:]:
        found, faults = {row["id"]: row for row in run["judged"]}, {}
        faults["missing"] = [row_id for row_id in known if row_id not in found]
        faults["extra"] = [row_id for row_id in found if row_id not in known]
        both = [(known[row_id], found[row_id]) for row_id in known if row_id in found]
        told = [_labels(a["gt"], a, first["conventions"]) != _labels(b["gt"], b, first["conventions"]) for a, b in both]
        faults["another ground truth"] = [a["id"] for (a, _), other in zip(both, told) if other]
        same = (
            [("image", ["image", "images"])]
            if any_wording
            else [("type", ["qtype"]), ("question or image", ["question", "image", "images"])]
        )
        for name, keys in [*same, ("group", ["cluster"])]:
            faults[f"another {name}"] = [a["id"] for a, b in both if any(a.get(key) != b.get(key) for key in keys)]
        for key in ("options", "answers"):
            faults[f"other {key}"] = [a["id"] for a, b in both if a.get(key) != b.get(key)]
        said = "; ".join(f"{name}: {listed(ids)}" for name, ids in faults.items() if ids)
        if said:
            remedy = "predict the same rows with both"
            if faults.get("another question or image") and all(a.get("image") == b.get("image") for a, b in both):
                remedy += ", or pair two wordings of the questions with --pair wording"
            raise UserError(f"{run['path']} is not about the rows of {first['path']}: {said}; {remedy}")
