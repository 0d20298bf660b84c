"""Enrichment: the user's rows plus question type, candidates and normalised answer.

    python -m data.preprocess --config config_exp1.yaml                      all splits, to output_dir/data/
    python data/preprocess.py --src rows.jsonl --dst enriched.jsonl --train train.jsonl

A constraint is decided by the question and the training rows, never by a row's own answer: data/answer_space.py. With
`data.answer_space: rules` it is the literal rules of data/schema.py, and where a rule's candidates can't express a
training answer to the same question, the question goes unconstrained everywhere.
"""

import posixpath
import re
import sys
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/preprocess.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import SPLITS, DataConfig, argument_parser, load_config, save_run_info  # noqa: E402
from data import schema  # noqa: E402
from files import UserError, read_json, read_jsonl, run_script, sha256, write_jsonl  # noqa: E402

DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
QUOTES = "\"'`“”‘’"


def normalize_answer(answer):
    """Fold case, Unicode form, dashes, spacing and a closing full stop; keep `<`, `>`, `;`, `-`, digits and units.

    A list, or text with semicolons, becomes one string joined with `; ` in the given order, without empty items.
    The same function serves enrichment and evaluation.
    """
    return _normalize_text(";".join(answer) if isinstance(answer, (list, tuple)) else answer)


@lru_cache(1 << 16)  # answers repeat
def _normalize_text(text):
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).translate(DASHES)
    items = (re.sub(r"\s+", " ", item).strip(" " + QUOTES).rstrip(" .,!?" + QUOTES) for item in text.split(";"))
    return "; ".join(item for item in items if item)


def question_key(question):
    """A question's text with case and spacing folded: what makes two rows ask the same."""
    return " ".join(question.lower().split())


def read_rows(path, need_answer=True):
    """Yield the user's rows, checked and completed with `id` and `image`, in file order.

    Raises UserError naming file:line for a row without question, image or (if needed) answer, for values that aren't
    text, for options that aren't a list of text, and for an id given twice.
    """
    seen = {}
    for index, (line, row) in enumerate(read_jsonl(path)):
        where = f"{path}:{line}"
        row_id, image = row.get("id"), row.get("image")
        row = {**row, "id": str(index if row_id is None else row_id), "image": row.get("image_filename") if image is None else image}
        _check_text(row, "question", where, "add the question as text")
        _check_text(row, "image", where, "add the image's name, relative to data.image_root")
        row["image"] = posixpath.normpath(row["image"])  # `./a.jpg` is `a.jpg`, here and in the splits
        if need_answer or row.get("answer") is not None:
            _check_text(row, "answer", where, "write the answer as text")
        if row.get("options") is not None:
            _check_options(row["options"], where)
        if row["id"] in seen:
            raise UserError(f"{where}: id {row['id']!r} is already that of line {seen[row['id']]}; give every row its own id")
        seen[row["id"]] = line
        yield row


def _check_text(row, key, where, remedy):
    value = row.get(key)
    if value is None:
        raise UserError(f"{where}: has no {key}; {remedy}")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is {value!r}, not text; {remedy}")
    if not value.strip() or (key == "answer" and not normalize_answer(value)):
        raise UserError(f"{where}: {key} is empty; {remedy}")


def _check_options(options, where):
    if not isinstance(options, list) or not options or not all(isinstance(item, str) and normalize_answer(item) for item in options):
        raise UserError(f"{where}: options is {options!r}; write a list of texts")
    if len({normalize_answer(item) for item in options}) < len(options):
        raise UserError(f"{where}: options repeats an item: {options!r}; give each option once")


def enrich_row(row, verdict):
    """Return the row enriched by the literal rules. `verdict`: what `mine_verdict` says about the training file."""
    question_type, candidates, answer = classify(row)
    key = question_key(row["question"])
    multi_label = key in verdict["multi_label"]
    if answer is not None and multi_label:
        answer = "; ".join(sorted(set(answer.split("; "))))  # one order in training, or order is what it learns
    enriched = {**row, "question_type": question_type, "multi_label": multi_label}
    enriched["answer_candidates"] = None if multi_label or key in verdict["unconstrained"] else candidates
    if answer is not None:
        enriched |= {"answer": answer, "answer_raw": row["answer"]}
    return enriched


def classify(row):
    """Return `(question_type, candidates, answer)` of a row by the rules; candidates and answer normalised."""
    question_type = schema.infer_question_type(row["question"], row.get("options"))
    candidates = schema.build_candidates(question_type, row)
    candidates = list(dict.fromkeys(map(normalize_answer, candidates))) if candidates else None
    answer = None
    if row.get("answer") is not None:
        answer = normalize_answer(row["answer"])
        if row.get("options"):
            answer = option_text(answer, [normalize_answer(option) for option in row["options"]])
    return question_type, candidates, answer


def option_text(answer, options):
    """The option an answer stands for: its own text, or its letter as `B`, `b)` or `(b)`."""
    letter = answer.strip("()[]:. ")
    index = ord(letter) - ord("a") if len(letter) == 1 else -1
    return options[index] if answer not in options and 0 <= index < len(options) else answer


def mine_verdict(train_rows):
    """What the training answers say about each question's rule; all that `data.answer_space: rules` uses.

    unconstrained: questions with a training answer outside their rule's candidates, with one such answer each.
    multi_label: questions that some training row answers with a list.
    """
    unconstrained, multi_label = {}, set()
    for row in train_rows:
        question_type, candidates, answer = classify(row)
        key = question_key(row["question"])
        if candidates and answer not in candidates:
            unconstrained.setdefault(key, answer)
        if "; " in answer and not row.get("options"):
            multi_label.add(key)
    return {"unconstrained": unconstrained, "multi_label": sorted(multi_label)}


def enrich_jsonl(src, dst, train_jsonl=None, space=None, settings=DataConfig()):
    """Write `src` enriched to `dst` (never the same file), row by row, and return counts.

    The answer space is mined from `train_jsonl` (default: `src` itself, being the training file) by `settings`, the
    data section of a configuration, or given ready-made. Counts: rows, rows by type, rows with a constraint by type,
    rows whose rule has candidates that the space drops (`dropped`) and their questions, spellings folded.
    """
    from data import answer_space  # which needs this module

    if Path(src).resolve() == Path(dst).resolve():
        raise UserError(f"{dst}: is the input itself; choose another output")
    if space is None:
        space = mine_space(train_jsonl or src, settings)
    types, constrained, dropped, folded = Counter(), Counter(), Counter(), Counter()

    def enriched_rows():
        for row in read_rows(src, need_answer=False):
            enriched = answer_space.apply(space, row, folded)
            types[enriched["question_type"]] += 1
            if enriched["answer_candidates"]:
                constrained[enriched["question_type"]] += 1
            elif has_rule(row):
                dropped[row["question"]] += 1
            yield enriched

    write_jsonl(dst, enriched_rows())
    counts = {"rows": types.total(), "types": dict(types), "constrained": dict(constrained)}
    return {**counts, "dropped": dropped.total(), "questions_dropped": dict(dropped), "folded": dict(+folded)}


def has_rule(row):
    """Do the rules have candidates for the row?"""
    return bool(schema.build_candidates(schema.infer_question_type(row["question"], row.get("options")), row))


def mine_space(train_jsonl, settings, say=print):
    """The answer space of a training file, with what it was made from. `say` gets the lines on what was found."""
    from data import answer_space

    space = answer_space.mine(read_rows(train_jsonl), settings)  # first: it names what is wrong with the file
    space = {"made_from": space_inputs(train_jsonl, settings), **space}
    for line in answer_space.describe(space):
        say(line)
    return space


def space_inputs(train_jsonl, settings):
    """What decides an answer space: the training file (its hash), the settings, and the code and tables."""
    chosen = {key: getattr(settings, key) for key in ("answer_space", "max_unseen", "count_margin")}
    return {"train_sha256": sha256(train_jsonl), "code_sha256": rules_hash(), "settings": chosen}


def training_space(cfg, say=print):
    """The answer space of the configured training file, mined anew if it, the settings or the rules have changed."""
    from data import answer_space

    path = cfg.output_dir / "data" / answer_space.SPACE_FILE
    train = cfg.split_path("train")
    if path.is_file() and (space := answer_space.load(path)).get("made_from") == space_inputs(train, cfg.data):
        return space
    space = mine_space(train, cfg.data, say)
    answer_space.save(space, path)
    return space


def enriched_path(cfg, split):
    """Path of a split's enriched rows under `output_dir/data/`."""
    return cfg.output_dir / "data" / f"{split}.jsonl"


def enrich_split(cfg, split, space=None):
    """Enrich a split if its enriched file is missing or was made from other inputs, rules or space; return its path.

    space: an adapter's own, which needs no training file; default: that of the configured training file.
    """
    from data import answer_space

    src, dst = cfg.split_path(split), enriched_path(cfg, split)
    sidecar = dst.with_suffix(".meta.json")
    space = space or training_space(cfg)
    inputs = {"source": sha256(src), "answer_space": answer_space.fingerprint(space), "rules": rules_hash()}
    if not (dst.is_file() and sidecar.is_file() and read_json(sidecar)["inputs"] == inputs):
        sidecar.unlink(missing_ok=True)  # killed in between, the old one would vouch for the new rows
        counts = enrich_jsonl(src, dst, space=space)
        save_run_info(sidecar, cfg, inputs=inputs, **counts)
        print(describe(split, counts))
    return dst


def ensure_enriched(cfg, split, space=None):
    """The rows (list) of a split's enriched file, which is made or remade as needed: see `enrich_split`."""
    return [row for _, row in read_jsonl(enrich_split(cfg, split, space))]


def rules_hash():
    """Hash of the files that decide what enrichment writes."""
    from data import aliases, answer_space

    table = [aliases.ALIASES_FILE] * aliases.ALIASES_FILE.is_file()
    return sha256(schema.__file__, __file__, answer_space.__file__, aliases.__file__, *table)


def answer_rules(space):
    """Hashes of what decides types and candidates: the answer space, and the rules for questions it lacks.

    Prediction refuses an adapter that was trained with others.
    """
    from data import answer_space

    return {"rules": sha256(schema.__file__), "space": answer_space.fingerprint(space)}


def describe(split, counts):
    """One line on what enrichment found, for people."""
    from data.answer_space import folding_note

    types = ", ".join(f"{name} {counts['types'][name]}" for name in ordered_types(counts["types"]))
    line = f"enriched {split}: {counts['rows']} rows ({types}), {sum(counts['constrained'].values())} constrained"
    if counts["dropped"]:
        line += (
            f"; {counts['dropped']} rows of {len(counts['questions_dropped'])} questions go unconstrained, "
            "because training answers or their wording rule out their rule's candidates"
        )
    return line + folding_note(counts["folded"])


def ordered_types(types):
    """Question types in table order: the built-in ones, then custom ones alphabetically."""
    known = [name for name in schema.QUESTION_TYPES if name in types]
    return known + sorted(set(types) - set(known))


def main():
    parser = argument_parser("Add question type, candidates and normalised answer to every row.", epilog=__doc__)
    parser.add_argument("--src", help="enrich this file instead of the configured splits (needs --dst)")
    parser.add_argument("--dst", help="where the enriched rows of --src go")
    parser.add_argument("--train", help="training rows that decide the constraints of --src (default: --src itself)")
    args = parser.parse_intermixed_args()
    if bool(args.src) != bool(args.dst):
        parser.error("--src and --dst go together")
    cfg = load_config(args.config, args.overrides)
    if args.src:
        return print(describe(args.src, enrich_jsonl(args.src, args.dst, args.train, settings=cfg.data)))
    for split in SPLITS:
        if split == "train" or getattr(cfg.data, f"{split}_jsonl"):
            print(f"{split}: {enrich_split(cfg, split)}")


if __name__ == "__main__":
    run_script(main)
