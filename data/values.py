"""What tables and columns hold, as the text that a row has: numbers, true and false, lists, missing values."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import datetime
import math
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import yaml

from data.text import placeholder_inside, strip_placeholders
from files import UserError

YES_NO = {True: "yes", False: "no"}
PLACEHOLDERS = "image placeholders taken out of questions"
INSIDE = "with a place for a picture inside the question"
MADE_A_DATE = "tables make dates of entries such as 5-10: format the column as text and type it anew"
LISTS, REFERENCES, TRUTHS = "lists to label lists", "lists to references", "true and false to yes and no"

_WORDS = yaml.safe_load(Path(__file__).with_name("dates.yaml").read_text(encoding="utf-8"))
_PARTS = {"day": "(?:0?[1-9]|[12][0-9]|3[01])", "month": f"(?:{'|'.join(_WORDS['months'])})"}
_DATES = [re.compile(pattern.format(**_PARTS), re.IGNORECASE) for pattern in _WORDS["dates"]]


def is_date(value):
    """Is this cell a text that spells a date: `05. Okt`, `05.10.2024`?"""
    return isinstance(value, str) and any(pattern.fullmatch(" ".join(value.split())) for pattern in _DATES)


def number_text(number):
    """An int, float or Decimal as people write it: 3.0 is `3`, and a single-precision 0.1 is not 0.10000000149."""
    if isinstance(number, float):
        short = np.float32(number) if abs(number) < 3e38 else number
        return str(int(number)) if number.is_integer() else str(short) if float(short) == number else repr(number)
    return format(number.normalize(), "f") if isinstance(number, Decimal) else str(number)


def as_text(value, where, key, converted, truths=YES_NO):
    """One value as text, or None where it is missing (None, NaN, an empty list). A list becomes a label list, joined with `; `.

    converted: Counter of what was changed, which is said at the end. truths: what True and False are called. Raises UserError,
    which begins with `where` and names `key`, for what has no text: bytes, dates, nested values, infinity.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        converted[TRUTHS] += 1
        return truths[value]
    if isinstance(value, (int, float, Decimal)) and math.isnan(value):
        return None
    if isinstance(value, (int, float, Decimal)) and math.isfinite(value):
        return number_text(value)
    if isinstance(value, (list, tuple)):
        texts = list_texts(value, where, key, converted, truths)
        converted[LISTS] += bool(texts)
        return "; ".join(texts) or None
    if isinstance(value, (datetime.date, datetime.time, datetime.datetime)):
        raise UserError(f"{where}: {key} is the date or time {value}; {MADE_A_DATE}")
    raise UserError(f"{where}: {key} is {_kind(value)}, not text; write it as text, a number, true or false, or a list of these")


def list_texts(values, where, key, converted, truths=YES_NO):
    """The items of a list as texts, without missing and blank ones; errors as `as_text`."""
    if any(isinstance(item, (list, tuple)) for item in values):
        raise UserError(f"{where}: {key} is a list of lists; write one list of texts")
    texts = (as_text(item, where, key, converted, truths) for item in values)
    return [text for text in texts if text is not None and text.strip()]


def _kind(value):
    if isinstance(value, (bytes, bytearray)):
        return f"binary data ({len(value)} bytes)"
    return "an object with fields " + ", ".join(map(str, value))[:60] if isinstance(value, dict) else str(value)[:60]


def with_texts(row, where, converted, references=False):
    """A row (dict) whose question and answer are text or None, and the question without foreign image placeholders.

    references: an answer that is a list gives several references, the first of them `answer`, and not labels.
    """
    row = {**row}
    if references and isinstance(row.get("answer"), (list, tuple)) and row.get("answers") is None:
        row["answers"] = list_texts(row["answer"], where, "answer", converted) or None
        row["answer"] = (row["answers"] or [None])[0]
        converted[REFERENCES] += row["answers"] is not None
    for key in ("question", "answer"):
        if key in row:
            row[key] = as_text(row[key], where, key, converted)
    if row.get("question") and (question := strip_placeholders(row["question"])) != row["question"]:
        row["question"] = question
        converted[PLACEHOLDERS] += 1
    if row.get("question") and placeholder_inside(row["question"]):
        row["drop"] = row.get("drop") or INSIDE
    return row


def plain(value, where, key):
    """A further column's value as JSON holds it: dates and exact decimals as text, NaN as None; UserError for bytes."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [plain(item, where, key) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item, where, key) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return number_text(value)
    if isinstance(value, (datetime.date, datetime.time, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, set)) or not isinstance(value, (str, int, float, type(None))):
        raise UserError(f"{where}: {key} is {_kind(value)}, which a row can't hold; leave the column out")
    return value


def describe_converted(converted):
    """`converted: 3 true and false to yes and no, 2 lists to label lists`, or None of nothing."""
    found = +converted
    return "converted: " + ", ".join(f"{count} {what}" for what, count in sorted(found.items())) if found else None
