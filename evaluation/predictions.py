"""Predictions files: read, and refused where they can't mean what they seem to. No torch.

A repeated or missing row, an answer of another split or a NaN would each give a number that looks like a score.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import posixpath
import sys
from collections import Counter, defaultdict

from config import flat
from data.aliases import fold_label
from data.matching import normalize_answer, option_text
from data.rows import read_rows
from files import UserError, read_json, read_jsonl

# ---------------------------------------------------------------------------------------------------------------------
# Input


def load_predictions(path):
    """Return the rows of a predictions file, `id` as text and `pred` as text or None.

    Raises UserError naming file:line for a row without id, pred, gt or qtype, and for ids that come twice.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run predict_exp1.py first")
    rows = []  # with names and questions interned: json makes a new copy for every row
    for line, row in read_jsonl(path):
        for key in ("id", "pred", "gt", "qtype"):
            if key not in row:
                raise UserError(f"{path}:{line}: has no {key}; a prediction row needs id, pred, gt and qtype")
            _check_value(key, row[key], f"{path}:{line}")
        _check_optional(row, f"{path}:{line}")
        rows.append({sys.intern(key): sys.intern(value) if key in ("qtype", "question") else value for key, value in row.items()})
        rows[-1]["id"] = str(row["id"])
    repeated = [row_id for row_id, count in Counter(row["id"] for row in rows).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: repeats {_listed(repeated)}; give every row its own id, or predict again")
    broken = [row["id"] for row in rows if not _is_probability(row.get("confidence"))]
    if broken:
        raise UserError(f"{path}: confidence is no number from 0 to 1 in {_listed(broken)}; write null, or predict again")
    return rows


def _check_value(key, value, where):
    if isinstance(value, str) or (key == "pred" and value is None) or (key == "id" and type(value) is int):
        return
    if key == "gt" and value is None:
        raise UserError(f"{where}: gt is null; only rows that have an answer can be evaluated")
    raise UserError(f"{where}: {key} is {value!r}, not text; write it as text")


def _check_optional(row, where):
    """The other fields that evaluation reads: absent, null, or of their kind."""
    for key in ("question", "image", "greedy", "runner_up"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise UserError(f"{where}: {key} is {row[key]!r}, not text; write it as text, or leave it out")
    if row.get("abstained") is not None and not isinstance(row["abstained"], bool):
        raise UserError(f"{where}: abstained is {row['abstained']!r}, not true or false")
    check_references(row, where)
    top = row.get("candidates_top") or []
    pairs = isinstance(top, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in top)
    if not pairs or not all(isinstance(text, str) and share is not None and _is_probability(share) for text, share in top):
        raise UserError(f"{where}: candidates_top is {top!r}; write a list of [candidate, probability]")


def check_references(row, where):
    """`answers`, where a row has it, is a list of texts: several references for --text-metrics."""
    answers = row.get("answers")
    if answers is not None and not (isinstance(answers, list) and answers and all(isinstance(text, str) for text in answers)):
        raise UserError(f"{where}: answers is {answers!r}; write a list of texts, or leave it out")


def _is_probability(value):
    """Is it null, or a number from 0 to 1? NaN is not; 1.0000001 is what float sums make of 1."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1 + 1e-6)


def _listed(ids, first=5):
    return f"{len(ids)} id{'s' * (len(ids) > 1)} ({', '.join(ids[:first])}{', …' * (len(ids) > first)})"


def load_sidecar(path, rows):
    """Return `(facts, partial)` of the predictions' `.meta.json`, having checked its ids against the rows.

    facts: what it says besides the ids; {} without a sidecar. partial: None, or [number of rows, rows in the split]
    where not all of them were asked for.
    """
    sidecar = path.with_suffix(".meta.json")
    if not sidecar.is_file():
        return {}, None
    meta = read_json(sidecar)
    if not isinstance(meta, dict) or not isinstance(meta.get("ids"), list):
        raise UserError(f"{sidecar}: has no list of ids; predict again, or delete it to evaluate {path.name} alone")
    asked = dict.fromkeys(map(str, meta.pop("ids")))
    found = {row["id"] for row in rows}
    missing = [row_id for row_id in asked if row_id not in found]
    extra = [row["id"] for row in rows if row["id"] not in asked]
    if missing or extra:
        faults = [f"{name} {_listed(ids)}" for name, ids in (("misses", missing), ("has unasked-for", extra)) if ids]
        raise UserError(f"{path}: {' and '.join(faults)} by the list in {sidecar.name}; run predict_exp1.py again")
    total = meta.get("rows_in_split") or len(rows)
    return meta, [len(rows), total] if len(rows) < total else None


# ---------------------------------------------------------------------------------------------------------------------
# Against a data file
# ---------------------------------------------------------------------------------------------------------------------


def with_data(rows, path, source, partial):
    """The rows checked against a data file, with its `group` (patient or video) and `answers` (references) where it has them."""
    keys = ("question", "image", "answer", "answer_raw", "options", "group", "answers")
    data_rows = {row["id"]: {key: row[key] for key in keys if row.get(key) is not None} for row in read_rows(source, need_answer=False)}
    for row_id, row in data_rows.items():
        check_references(row, f"{source}: row {row_id!r}")
    check_against(rows, path, data_rows, source, partial)
    extra = {row_id: {key: row[key] for key in ("group", "answers") if key in row} for row_id, row in data_rows.items()}
    return [{**row, **extra[row["id"]]} if extra[row["id"]] else row for row in rows]


def check_against(rows, path, data_rows, source, partial):
    """Check that predictions are about the rows of a data file: the same ids, questions, images and answers.

    partial: as `load_sidecar` gives it; a declared --limit run may lack ids. Raises UserError that counts and lists what
    differs. Predictions of another split have the same row numbers, and are told by their questions and answers.
    """
    found, faults = {row["id"]: row for row in rows}, defaultdict(list)
    for row_id in found.keys() - data_rows.keys():
        faults["unknown"].append(row_id)
    for row_id, data_row in data_rows.items():
        row = found.get(row_id)
        if row is None:
            faults["missing" if partial is None else "not asked for"].append(row_id)
        else:
            for name in _differences(row, data_row):
                faults[name].append(row_id)
    faults.pop("not asked for", None)
    if faults:
        said = "; ".join(f"{name}: {_listed(sorted(ids))}" for name, ids in faults.items())
        raise UserError(f"{path} does not fit {source}: {said}; predict this split again, or give its own data file with --against")


def _differences(row, data_row):
    if data_row.get("answer") is None or _answer_labels(data_row) != _folded_labels(row["gt"]):
        yield "another answer"
    if row.get("question") is not None and " ".join(row["question"].split()) != " ".join(data_row["question"].split()):
        yield "another question"
    if row.get("image") is not None and posixpath.normpath(row["image"]) != data_row["image"]:
        yield "another image"


def _answer_labels(data_row):
    """The labels of a data row's answer, original or enriched; of a multiple-choice letter, the option it stands for."""
    if data_row.get("options"):
        options = [normalize_answer(option) for option in data_row["options"]]
        return _folded_labels(option_text(normalize_answer(data_row["answer"]), options))
    return _folded_labels(data_row.get("answer_raw") or data_row["answer"])


def _folded_labels(text):
    return {fold_label(label, {}) for label in normalize_answer(text).split("; ")}


# ---------------------------------------------------------------------------------------------------------------------
# Several files
# ---------------------------------------------------------------------------------------------------------------------


def check_same_rows(runs):
    """Raise UserError unless all runs have the ids of the first, each with the same type and ground truth."""
    first = runs[0]
    known = {row["id"]: row for row in first["judged"]}
    for run in runs[1:]:
        found, faults = {row["id"]: row for row in run["judged"]}, {}
        faults["missing"] = [row_id for row_id in known if row_id not in found]
        faults["extra"] = [row_id for row_id in found if row_id not in known]
        both = [row_id for row_id in known if row_id in found]
        faults["another ground truth"] = [i for i in both if _folded_labels(known[i]["gt"]) != _folded_labels(found[i]["gt"])]
        faults["another type"] = [i for i in both if known[i]["qtype"] != found[i]["qtype"]]
        faults["another question or image"] = [i for i in both if any(known[i].get(k) != found[i].get(k) for k in ("question", "image"))]
        said = "; ".join(f"{name}: {_listed(ids)}" for name, ids in faults.items() if ids)
        if said:
            raise UserError(f"{run['path']} is not about the rows of {first['path']}: {said}; predict the same rows with both")


def check_same_configuration(runs):
    """Raise UserError where the sidecars tell that runs differ in more than the seed."""
    configs = [_settings(run["sidecar"]) for run in runs]
    if not all(configs):
        return
    keys = sorted({key for config in configs for key in config if config[key] != configs[0].get(key)})
    if keys:
        raise UserError(
            f"--predictions of several files takes seeds of one configuration, and these differ in {', '.join(keys)}; use --compare"
        )


def _settings(sidecar, ignored=("output_dir", "train.seed")):
    """What decides a run's predictions, flat: configuration keys but the seed and where the outputs lie, and whether it was tuned."""
    config = sidecar.get("config") or {}
    deciding = {key: value for key, value in flat(config).items() if key not in ignored and not key.startswith("eval.")}
    return deciding | {"split": sidecar.get("split"), "adapter (none or some)": sidecar.get("adapter") == "none"} if config else {}
