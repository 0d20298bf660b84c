"""Predictions files: read, and refused where they can't mean what they seem to. No torch.

A repeated or missing row, an answer of another split or a NaN would each give a number that looks like a score. What the
rows are about, a data file says: see truth.py.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config import PATH_KEYS, flat
from data.rows import is_by_rater
from files import UserError, quoted, read_json, read_jsonl, short

# How other tools call the fields: LLaMA-Factory's generated_predictions.jsonl and the result files of ms-swift.
OTHER_NAMES = {"pred": ("predict", "response"), "gt": ("label", "labels")}
TEXTS = ("gt", "qtype", "question", "image", "greedy", "prompt", "shown")  # shown: the image in other tools' files
# What is used of a row, and what it mostly is. Prediction writes more, which would only fill memory.
USED = {"id": str, "pred": str, **dict.fromkeys(TEXTS, str), "group": str, "reachable": bool, "abstained": bool}
USED |= {"confidence": float, "options": None, "answers": None, "images": None, "answers_by": None, "candidates_top": None}
USED |= {"box": None, "pred_box": None, "answer_set": None, "answer_set_filled": bool, "confidence_calibrated": None}
REPEATED = {"qtype", "question"}  # which json would copy for every row


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def load_predictions(path):
    """Return the rows of a predictions file, each with `pred` (text or None), and `id` as text where it has one.

    A row is a JSON object with `pred`, or with the names that LLaMA-Factory and ms-swift use; what else it must have depends
    on what is known from elsewhere (truth.py). Raises UserError naming file:line for a value of the wrong kind, and for ids
    that come twice.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run predict_exp1.py first")
    rows = [_checked(row, path, line) for line, row in read_jsonl(path)]
    ids = Counter(row["id"] for row in rows if "id" in row)
    if repeated := [row_id for row_id, count in ids.items() if count > 1]:
        raise UserError(f"{path}: repeats {listed(repeated)}; give every row its own id, or predict again")
    broken = [row.get("id", str(place)) for place, row in enumerate(rows) if not _is_probability(row.get("confidence"))]
    if broken:
        raise UserError(f"{path}: confidence is no number from 0 to 1 in {listed(broken)}; write null, or predict again")
    return rows


def _checked(row, path, line):
    """A row with this project's names, its values checked, and without the fields that nothing reads."""
    if "pred" not in row or "gt" not in row:
        _rename(row)
    if "pred" not in row:
        raise UserError(f"{path}:{line}: has no pred; a prediction row needs it, or predict (LLaMA-Factory) or response (ms-swift)")
    kept = {}
    for key, kind in USED.items():
        if (value := row.get(key)) is not None:
            if type(value) is not kind:
                _check_kind(key, value, path, line)
            kept[key] = sys.intern(value) if key in REPEATED else value
    kept.setdefault("pred", None)
    if "id" in kept:
        kept["id"] = str(kept["id"])
    return kept


def _rename(row):
    """Give a row of another tool this project's names, and the text of its conversation as `prompt`."""
    for key, others in OTHER_NAMES.items():
        if key not in row and (found := [name for name in others if name in row]):
            row[key] = row[found[0]]
    if "prompt" not in row and isinstance(row.get("messages"), list):
        turns = [turn for turn in row["messages"] if isinstance(turn, dict) and turn.get("role") != "assistant"]
        row["prompt"] = "\n".join(_text_of(turn.get("content")) for turn in turns)
    if "image" not in row and isinstance(images := row.pop("images", None), list) and len(images) == 1:
        row["shown"] = images[0].get("path") if isinstance(images[0], dict) else images[0]


def _text_of(content):
    """The text of a turn's content: a text, or a list of parts of which some have `text`."""
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _check_kind(key, value, path, line):
    """Is a field that isn't null of its kind? Confidences are checked together, to be counted."""
    if key == "pred" or key in TEXTS:
        right, wanted = isinstance(value, str), "write it as text"
    elif key == "id":
        right, wanted = isinstance(value, str) or type(value) is int, "write text or a whole number"
    elif key == "group":
        right, wanted = isinstance(value, str) or type(value) is int, "write the patient's or video's name"
    elif key in ("abstained", "reachable", "answer_set_filled"):
        right, wanted = isinstance(value, bool), "write true or false"
    elif key == "confidence_calibrated":
        right, wanted = _is_probability(value), "write a number from 0 to 1, or null"
    elif key in ("options", "answers", "images", "answer_set"):
        right, wanted = _is_texts(value), "write a list of texts, or leave it out"
    elif key == "answers_by":
        right, wanted = is_by_rater(value), "write {rater: answer}, the answers as text"
    elif key in ("box", "pred_box"):
        right, wanted = is_box(value), "write left, top, right, bottom, as numbers"
    elif key == "candidates_top":
        right, wanted = _is_ranking(value), "write a list of [candidate, probability]"
    else:
        return
    if not right:
        raise UserError(f"{path}:{line}: {key} is {quoted(value)}; {wanted}")


def is_box(value):
    """Is it left, top, right, bottom of a box?"""
    if not isinstance(value, list) or len(value) != 4:
        return False
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) and math.isfinite(side) for side in value)
    return numbers and value[0] <= value[2] and value[1] <= value[3]


def _is_texts(value):
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _is_ranking(value):
    if not isinstance(value, list):
        return False
    for pair in value:
        if not (
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and pair[1] is not None and _is_probability(pair[1])
        ):
            return False
    return True


def _is_probability(value):
    """Is it null, or a number from 0 to 1? NaN is not; 1.0000001 is what float sums make of 1."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1 + 1e-6)


def listed(ids, first=5):
    """`7 ids (0, 1, 2, 3, 4, …)`."""
    return f"{len(ids)} id{'s' * (len(ids) > 1)} ({', '.join(map(short, ids[:first]))}{', …' * (len(ids) > first)})"


# ---------------------------------------------------------------------------------------------------------------------
# Sidecars


class Sidecar(BaseModel):
    """What a `.meta.json` says that evaluation reads; further facts are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    ids: list[str | int]
    rows_in_split: Annotated[int, Field(ge=0)] | None = None
    limit: int | None = None
    date: str | None = None
    split: str | None = None
    source: str | None = None
    source_sha256: str | None = None
    adapter: str | None = None
    decoding: Literal["exact", "greedy", "allowed_set", "free"] | None = None
    config: dict[str, Any] | None = None
    versions: dict[str, str | None] | None = None
    commit: str | None = None
    device: str | None = None


class SidecarConfig(BaseModel):
    """The values of a sidecar's `config` that evaluation reads."""

    model_config = ConfigDict(extra="allow", strict=True)

    model_name: str | None = None
    output_dir: str | None = None
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}


def load_sidecar(path):
    """The facts of the predictions' `.meta.json` as a dict with `ids`; {} without one. Raises UserError for one that is broken."""
    sidecar = path.with_suffix(".meta.json")
    if not sidecar.is_file():
        return {}
    remedy = f"predict again, or delete it to evaluate {path.name} alone"
    facts = read_json(sidecar)
    if not isinstance(facts, dict):
        raise UserError(f"{sidecar}: is no JSON object; {remedy}")
    try:
        Sidecar(**facts)
    except (ValidationError, TypeError) as error:
        raise UserError(f"{sidecar}: {_fault(error)}; {remedy}") from None
    try:
        SidecarConfig(**facts.get("config") or {})
    except (ValidationError, TypeError) as error:
        raise UserError(f"{sidecar}: config.{_fault(error)}; {remedy}") from None
    root = ((facts.get("config") or {}).get("data") or {}).get("image_root")
    if not isinstance(root, str | None):
        raise UserError(f"{sidecar}: config.data.image_root is {quoted(root)}; {remedy}")
    return facts


def _fault(error):
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][:1])
    return f"has no {name}" if first["type"] == "missing" else f"{name} is {quoted(first['input'])}: {first['msg']}"


def check_asked(path, rows, facts):
    """Check rows (with ids) against the ids that a sidecar says were asked for. Returns None, or [rows, rows in the split] of a part,
    by the sidecar's word."""
    if not facts:
        return None
    asked = dict.fromkeys(map(str, facts["ids"]))
    found = {row["id"] for row in rows}
    missing = [row_id for row_id in asked if row_id not in found]
    extra = [row["id"] for row in rows if row["id"] not in asked]
    if missing or extra:
        faults = [f"{name} {listed(ids)}" for name, ids in (("misses", missing), ("has unasked-for", extra)) if ids]
        raise UserError(f"{path}: {' and '.join(faults)} by the list in {path.stem}.meta.json; run predict_exp1.py again")
    total = facts.get("rows_in_split") or len(rows)
    return [len(rows), total] if len(rows) < total else None


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def check_same_configuration(runs):
    """Raise UserError where the sidecars tell that runs differ in more than the seed."""
    configs = [_settings(run["sidecar"]) for run in runs]
    if not all(configs):
        return
    first = configs[0]
    keys = set(first).union(*configs)
    if keys := sorted(key for key in keys if any(not _same(key, config.get(key), first.get(key)) for config in configs)):
        raise UserError(f"seeds of one configuration are wanted, and these files differ in {', '.join(keys)}; use --compare")


def _same(key, one, other):
    """Are two values of a configuration key the same? Older sidecars name files by their whole paths, of which newer ones keep the end."""
    if key not in (*PATH_KEYS, "model_name") or None in (one, other) or Path(one).is_absolute() == Path(other).is_absolute():
        return one == other
    short, long = sorted((Path(one), Path(other)), key=Path.is_absolute)
    return long.parts[-len(short.parts) :] == short.parts


def _settings(sidecar, ignored=("output_dir", "train.seed")):
    """What decides a run's predictions, flat: configuration keys but the seed and where the outputs lie, whether it was tuned, and what
    was done to the pictures."""
    config = sidecar.get("config")
    if not config:
        return {}
    deciding = {key: value for key, value in flat(config).items() if key not in ignored and not key.startswith("eval.")}
    facts = {"adapter (none or some)": sidecar.get("adapter") == "none"}
    return {**deciding, **facts, **{key: sidecar.get(key) for key in ("split", "perturbation")}}
