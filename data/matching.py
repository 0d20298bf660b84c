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
ChartQA's relaxed accuracy has no units.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache

from config import EvalConfig
from data.aliases import fold_label, question_template
from data.quantities import parse_quantity
from data.text import clean

# ---------------------------------------------------------------------------------------------------------------------
# Normalising

QUOTES = "\"'`“”‘’«»‹›„‚「」『』"
CLOSING = ".,!?:…。、।۔؟،"  # full stops and the like of several scripts
SPACE_BEFORE_SIGN = re.compile(r"(?<=\d) (?=[%‰°])")


def normalize_answer(answer):
    """Fold case, Unicode form, dashes, spacing and a closing full stop; keep `<`, `>`, `;`, `-`, digits and units.

    `ｙｅｓ。` is `yes`, `50 %` is `50%`; invisible letters and special tokens at the end go (`text.clean`).

    A list, or text with semicolons, becomes one string joined with `; ` in the given order, without empty items.
    The same function serves enrichment and evaluation.
    """
    return _normalize_text(";".join(answer) if isinstance(answer, (list, tuple)) else answer)


@lru_cache(1 << 16)  # answers repeat
def _normalize_text(text):
    text = SPACE_BEFORE_SIGN.sub("", clean(text))
    items = (item.strip(" " + QUOTES).rstrip(" " + CLOSING + QUOTES) for item in text.split(";"))
    return "; ".join(item for item in items if item)


def question_key(question):
    """A question's text with case and spacing folded: what makes two rows ask the same."""
    return clean(question)


def option_text(answer, options):
    """The option an answer stands for: its own text, or its letter as `B`, `b)` or `(b)`."""
    letter = answer.strip("()[]:. ")
    index = ord(letter) - ord("a") if len(letter) == 1 else -1
    return options[index] if answer not in options and 0 <= index < len(options) else answer


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
    """The labels of a list: normalised -> in the text's own spelling ."""
    return {normalized: label for label in clean(text).split(";") if (normalized := normalize_answer(label))}


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
