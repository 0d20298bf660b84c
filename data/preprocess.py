"""Enrichment: the user's rows plus question type, candidates and normalised answer.

    python -m data.preprocess --config config_exp1.yaml                      all splits, to output_dir/data/
    python data/preprocess.py --src rows.jsonl --dst enriched.jsonl --train train.jsonl

A constraint is decided by the question and the training rows, never by a row's own answer. Where a rule's candidates
can't express a training answer to the same question, the question goes unconstrained everywhere.
"""

import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/preprocess.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import SPLITS, argument_parser, load_config, save_run_info  # noqa: E402
from data import schema  # noqa: E402
from files import UserError, read_json, read_jsonl, run_script, sha256, write_jsonl  # noqa: E402

DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
QUOTES = "\"'`“”‘’"


def normalize_answer(answer):
    """Fold case, Unicode form, dashes, spacing and a closing full stop; keep `<`, `>`, `;`, `-`, digits and units.

    A list, or text with semicolons, becomes one string joined with `; ` in the given order, without empty items.
    The same function serves enrichment and evaluation.
    """
    text = ";".join(answer) if isinstance(answer, (list, tuple)) else answer
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
    """Return the enriched row. `verdict`: what `mine_verdict` says about the training file."""
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
            answer = _option_text(answer, [normalize_answer(option) for option in row["options"]])
    return question_type, candidates, answer


def _option_text(answer, options):
    """The option an answer stands for: its own text, or its letter as `B`, `b)` or `(b)`."""
    letter = answer.strip("()[]:. ")
    index = ord(letter) - ord("a") if len(letter) == 1 else -1
    return options[index] if answer not in options and 0 <= index < len(options) else answer


def mine_verdict(train_rows):
    """What the training answers say about each question text.

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


def enrich_jsonl(src, dst, train_jsonl=None, verdict=None):
    """Write `src` enriched to `dst` (never the same file) and return counts.

    The verdict on each question comes from `train_jsonl` (default: `src` itself, being the training file), or ready-made.
    Counts: rows, rows by type, rows whose constraint the training answers forbid (`dropped`) and their questions.
    """
    if Path(src).resolve() == Path(dst).resolve():
        raise UserError(f"{dst}: is the input itself; choose another output")
    verdict = verdict or mine_verdict(read_rows(train_jsonl or src))
    types, dropped = Counter(), Counter()

    def enriched_rows():
        for row in read_rows(src, need_answer=False):
            enriched = enrich_row(row, verdict)
            types[enriched["question_type"]] += 1
            dropped[row["question"]] += enriched["answer_candidates"] is None and classify(row)[1] is not None
            yield enriched

    write_jsonl(dst, enriched_rows())
    return {"rows": types.total(), "types": dict(types), "dropped": dropped.total(), "questions_dropped": dict(+dropped)}


def enriched_path(cfg, split):
    """Path of a split's enriched rows under `output_dir/data/`."""
    return cfg.output_dir / "data" / f"{split}.jsonl"


def ensure_enriched(cfg, split):
    """Enrich a split if its enriched file is missing or was made from other inputs or rules; return its rows (list).

    The training file decides the constraints of every split, so it has to be there for all of them.
    """
    src, dst = cfg.split_path(split), enriched_path(cfg, split)
    sidecar = dst.with_suffix(".meta.json")
    inputs = {"source": sha256(src), "train": sha256(cfg.split_path("train")), "rules": rules_hash()}
    if not (dst.is_file() and sidecar.is_file() and read_json(sidecar)["inputs"] == inputs):
        counts = enrich_jsonl(src, dst, cfg.split_path("train"))
        save_run_info(sidecar, cfg, inputs=inputs, **counts)
        print(describe(split, counts))
    return [row for _, row in read_jsonl(dst)]


def rules_hash():
    """Hash of the files that decide what enrichment writes."""
    return sha256(schema.__file__, __file__)


def answer_rules(cfg):
    """Hashes of what decides types and candidates, the rules and the training rows. Prediction refuses others."""
    return {"rules": rules_hash(), "train": sha256(cfg.split_path("train"))}


def describe(split, counts):
    """One line on what enrichment found, for people."""
    types = ", ".join(f"{name} {counts['types'][name]}" for name in ordered_types(counts["types"]))
    line = f"enriched {split}: {counts['rows']} rows ({types})"
    if counts["dropped"]:
        line += (
            f"; {counts['dropped']} rows of {len(counts['questions_dropped'])} questions go unconstrained, "
            "because training answers lie outside their rule's candidates"
        )
    return line


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
    if args.src:
        return print(describe(args.src, enrich_jsonl(args.src, args.dst, args.train)))
    cfg = load_config(args.config, args.overrides)
    for split in SPLITS:
        if split == "train" or getattr(cfg.data, f"{split}_jsonl"):
            ensure_enriched(cfg, split)
            print(f"{split}: {enriched_path(cfg, split)}")


if __name__ == "__main__":
    run_script(main)
