"""When two answers are the same: normalising, numbers with units, judging. Enrichment and evaluation share all of it.

Every answer is compared after `normalize_answer`. Where this departs
from the experiment's first snippet (equality, or `|gt - pred| <= max(abs_tol, rel_tol * gt)` on a number found):

- Label lists (`pink; red`) compare as sets; 25 % of Kvasir-VQA's colour lists aren't in alphabetical order.
- Tolerance is for single measurements. Ranges and bounds (`5-10mm`, `<5mm`) are classes and equal only themselves.
- Counts are whole numbers with a tolerance of their own (default 0): 5 % of 20 would accept 21 instruments.
- A text with two unrelated numbers means neither of them; the first one doesn't win.
- An empty prediction is never correct, not even where the answer is empty or `none`: an evaluator that let
  them match gave 100 % to 2,384 empty answers.

The usual scorers don't serve here: VQA v2's normalisation makes `<5mm`, `>5mm` and `5mm` the same and `none` a zero;
ChartQA's relaxed accuracy has no units; general unit parsers read `5–10 mm` as 50 mm and `1,5 cm` as 15 cm.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from config import EvalConfig
from data.aliases import fold_label, question_template

# ---------------------------------------------------------------------------------------------------------------------
# Normalising

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


def option_text(answer, options):
    """The option an answer stands for: its own text, or its letter as `B`, `b)` or `(b)`."""
    letter = answer.strip("()[]:. ")
    index = ord(letter) - ord("a") if len(letter) == 1 else -1
    return options[index] if answer not in options and 0 <= index < len(options) else answer


# ---------------------------------------------------------------------------------------------------------------------
# Numbers and units

MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10),
    **dict.fromkeys(("m", "meter", "metre"), 1000),
    **dict.fromkeys(("µm", "μm", "um", "micrometer", "micrometre"), 0.001),  # micro sign and Greek mu look the same
}
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
COMPARISONS = {
    **dict.fromkeys(("<", "less than", "smaller than", "fewer than", "under", "below"), "<"),
    **dict.fromkeys(("≤", "<=", "=<", "at most", "up to", "no more than", "not more than"), "<="),
    **dict.fromkeys((">", "more than", "larger than", "bigger than", "greater than", "over", "above"), ">"),
    **dict.fromkeys(("≥", ">=", "=>", "at least", "no less than", "not less than"), ">="),
}


def _any_of(words):
    return "(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"  # `<=` before `<`


def _measure(name):
    """Pattern of a number with an optional unit (`5mm`, `5 mm`, `5-mm`) as groups `name` and `name_unit`."""
    number = rf"-?[0-9]+(?:[.,][0-9]+)*(?:e[+-]?[0-9]+)?|-?\.[0-9]+|{_any_of(NUMBER_WORDS)}"
    unit = rf"(?!ms\b){_any_of(MM_PER_UNIT)}s?(?!\w)"
    return rf"(?P<{name}>{number})(?:[ -]?(?P<{name}_unit>{unit})|(?!\w))"


QUANTITY = re.compile(
    rf"(?:(?<!\w)(?P<bound>{_any_of(COMPARISONS)}) ?|(?:\b(?P<between>between) )?(?<![\w.,]))"
    rf"{_measure('lo')}"
    rf"(?: ?(?(between)(?:-|to|and)|(?:-|to)) ?{_measure('hi')})?"
)
# What may not stand beside a quantity: it would change or negate its meaning.
SPOILER = re.compile(
    r"[<>≤≥±+%^]|\b(?:not|half|quarter|third|dozen|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|"
    r"(?:or|and) (?:more|less|fewer|larger|bigger|greater|smaller|longer|shorter|above|over|below|under|up)|"
    rf"{_any_of(NUMBER_WORDS)})\b"
)


class Quantity(NamedTuple):
    """An interval of numbers: `5mm` has lo == hi, `5-10mm` lo < hi, `<5mm` lo = -inf and hi_open.

    lo, hi: float, in mm where unit is "mm"; plain numbers where it is None (a bare number isn't mm by guess).
    lo_open, hi_open: the end itself is excluded (`>`, `<`).
    """

    lo: float
    hi: float
    lo_open: bool = False
    hi_open: bool = False
    unit: str | None = None

    @property
    def single(self):
        return self.lo == self.hi


def parse_quantity(text):
    """Return the one Quantity a text (str) speaks of, or None where it has none, several, or one that can't be read.

    Reads units in any case, with or without space (mm, cm, m, µm); ranges with `-`, `–`, `to`, `between … and`; bounds
    as symbols or words; number words zero to twenty; a decimal comma before one or two digits (`1,500` is None).
    Other words around it (`approx.`, `about`) are passed over. Never raises.
    """
    text = " ".join(text.lower().translate(DASHES).split())
    found = QUANTITY.search(text)
    if not found:
        return None
    rest = text[: found.start()] + " ; " + text[found.end() :]
    if SPOILER.search(rest) or any(character.isnumeric() for character in rest):
        return None
    unit = found["lo_unit"] or found["hi_unit"]  # `5-10mm`: the unit stands for both
    lo = _value(found["lo"], unit)
    if lo is None:
        return None
    unit_name = "mm" if unit else None
    if found["bound"]:
        return None if found["hi"] else _bound(COMPARISONS[found["bound"]], lo, unit_name)
    if not found["hi"]:
        return Quantity(lo, lo, unit=unit_name)
    if found["lo_unit"] and not found["hi_unit"]:
        return None  # `5mm-10`: ten of what?
    hi = _value(found["hi"], found["hi_unit"])
    return None if hi is None or hi < lo else Quantity(lo, hi, unit=unit_name)


def extract_number(text):
    """Return the single number of a text (float, in mm where it has a unit of length), or None.

    Ranges, bounds and texts with several numbers have none.
    """
    quantity = parse_quantity(text)
    return quantity.lo if quantity and quantity.single else None


def _value(number, unit):
    """The number (str) as a float, in mm if it has a unit; None if it is ambiguous (`1,500`, `1.2.3`) or not finite."""
    if number in NUMBER_WORDS:
        value = NUMBER_WORDS.index(number)
    else:
        try:
            value = float(re.sub(r"^(-?[0-9]+),([0-9]{1,2})$", r"\1.\2", number))
        except ValueError:
            return None
    value = round(value * MM_PER_UNIT[unit if unit in MM_PER_UNIT else unit[:-1]], 9) if unit else value
    return float(value) if math.isfinite(value) else None


def _bound(comparison, value, unit):
    is_open = comparison in ("<", ">")
    if comparison in ("<", "<="):
        return Quantity(-math.inf, value, hi_open=is_open, unit=unit)
    return Quantity(value, math.inf, lo_open=is_open, unit=unit)


# ---------------------------------------------------------------------------------------------------------------------
# Matching


def is_correct(question_type, gt, pred, tolerances=EvalConfig()):
    """Does the prediction (str or None) match the ground truth (str)?

    tolerances: `numeric_rel_tol` (share of |gt|) and `numeric_abs_tol` (mm; plain numbers where both texts are bare)
    for size_numeric, `count_abs_tol` for count_numeric. Types that users add match like open_ended: by equality.
    Lists of labels match as sets, each label by its type's rule.
    """
    gt_labels, pred_labels = _labels(gt), _labels(pred or "")
    if not pred_labels:
        return False
    if gt_labels.keys() == pred_labels.keys():
        return True  # before any number is read, so that tolerance can only add to what equality accepts
    if question_type not in ("size_numeric", "count_numeric"):
        return False
    same = [[_same_label(question_type, g, p, tolerances) for p in pred_labels.values()] for g in gt_labels.values()]
    return bool(same) and all(map(any, same)) and all(map(any, zip(*same)))


def fold_spelling(text, spellings):
    """A text (str or None) with its labels in the spelling that is kept, and otherwise as it is."""
    changed = {label: kept for label in _labels(text or "") if (kept := fold_label(label, spellings)) != label}
    if not changed:
        return text
    return "; ".join(changed.get(normalize_answer(label), label) for label in text.split(";"))


def _labels(text):
    """The labels of a list: normalised -> in the text's own spelling (normalising would cost `.5 cm` its point)."""
    return {normalized: label for label in text.split(";") if (normalized := normalize_answer(label))}


def is_empty(pred):
    """Nothing is left of the prediction after normalising (`None`, `""`, `"."`)."""
    return pred is None or not normalize_answer(pred)


def _same_label(question_type, gt, pred, tolerances):
    if normalize_answer(gt) == normalize_answer(pred):
        return True
    gt_quantity, pred_quantity = parse_quantity(gt), parse_quantity(pred)
    if gt_quantity is None or pred_quantity is None or gt_quantity.unit != pred_quantity.unit:
        return False
    if not (gt_quantity.single and pred_quantity.single):
        return gt_quantity == pred_quantity
    gt_num, pred_num = gt_quantity.lo, pred_quantity.lo
    if question_type == "count_numeric":
        whole = gt_num.is_integer() and pred_num.is_integer() and gt_quantity.unit is None
        return whole and abs(gt_num - pred_num) <= tolerances.count_abs_tol
    tolerance = max(tolerances.numeric_abs_tol, tolerances.numeric_rel_tol * abs(gt_num))
    return abs(gt_num - pred_num) <= tolerance + 1e-9 * abs(gt_num)  # 11.55 is within 5 % of 11 in floats too


def judge(rows, tolerances=EvalConfig(), spellings=None):
    """Return the prediction rows (dicts with `pred`, `gt`, `qtype`), each with `correct` (bool) added.

    Spellings of data/aliases.yaml count as the same. spellings: those that hold for one question template only, as
    `answer_space.spellings` gives them.
    """
    judged, known = [], {}
    for row in rows:
        pred, gt = row["pred"], row["gt"]
        own = (spellings or {}).get(question_template(row.get("question") or ""), {})
        pair = row["qtype"], gt, pred, *own.items()
        if pair not in known:  # the same few answers come again and again
            known[pair] = is_correct(row["qtype"], fold_spelling(gt, own), fold_spelling(pred, own), tolerances)
        judged.append({**row, "correct": known[pair]})
    return judged
