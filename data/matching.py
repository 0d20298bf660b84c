"""When two answers are the same: normalising, options and their letters, lists of labels, judging. Enrichment and evaluation share it.

Every answer is compared after `normalize_answer`. Where this departs
from the experiment's first snippet (equality, or `|gt - pred| <= max(abs_tol, rel_tol * gt)` on a number found):

- Label lists (`pink; red`) compare as sets; 25 % of Kvasir-VQA's colour lists aren't in alphabetical order.
- An option's letter is its option: `B`, `(b)` and `B: Snare` are `Snare` where that is the row's second option.
- Of several references (`answers`) the best one counts.
- Tolerance is for single measurements. Ranges and bounds (`5-10mm`, `<5mm`) are classes and equal only themselves.
- Counts are whole numbers with a tolerance of their own (default 0): 5 % of 20 would accept 21 instruments.
- Each yes of the data's languages is a yes, `sí` and `si`, and each no a no.
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
from data.aliases import ALIASES, fold_label, question_template
from data.language import ENGLISH, EXCLUSIVE, NO, YES, same_yes_no
from data.quantities import parse_count, parse_quantity
from data.text import CLOSING, clean

# ---------------------------------------------------------------------------------------------------------------------
# Normalising

QUOTES = "\"'`“”‘’«»‹›„‚「」『』"
INCHES = re.compile(r"""\d ?['"’”]+[ .,!?]*$""")
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
    return "; ".join(item for item in map(_bare, text.split(";")) if item)


def _bare(item):
    """An item without quotes around it and closing marks. `2"` keeps its mark where no quote opens: it is two inches."""
    item = item.strip(" ")
    if INCHES.search(item) and item[0] not in QUOTES:
        return item
    return item.strip(" ¡¿" + QUOTES).rstrip(" " + CLOSING + QUOTES)


def question_key(question):
    """A question's text with case and spacing folded: what makes two rows ask the same."""
    return clean(question)


def is_junk(answer):
    """Does an answer (str, list of str or None) stand for a missing value: nothing at all, or the table's `junk` alone?"""
    return set(normalize_answer(answer or "").split("; ")) <= {"", *ALIASES["junk"]}


# ---------------------------------------------------------------------------------------------------------------------
# Options and their letters

LETTERS, NUMBERS = "abcdefghijklmnopqrstuvwxyz", [str(number) for number in range(1, 100)]
LEAD = "(?:(?:option|answer|choice)[: ]+)?"
LABEL = r"(?P<label>[a-z]|[1-9][0-9]?)"
# `A:Forceps`, `(b) snare`, `1. tube`, `a - x`; not `1.5 cm`, `1:2`, `1 - 2 mm`, `C-arm`
LABELLED = re.compile(rf"{LEAD}[(\[]?{LABEL}(?: ?[)\]][:.]?| ?[:.、](?!(?<=[0-9].)[0-9])| - (?!(?<=[0-9] - )[0-9])) ?(?P<text>.+)")
# `B`, `(B)`, `B) snare`, `Option B: snare`; not `a snare`, whose first letter is an article
NAMED = re.compile(rf"{LEAD}[(\[{{]?{LABEL}(?: ?[)\]}}:.、,-][)\]}}:.、, -]*(?P<text>.+)?)?")


def without_letters(options):
    """The options (list of str), normalised, without the letters or numbers that stand before them.

    A label is one only where all options carry one, in order, so that a `B cell` or a `1. tube` among others isn't cut.
    """
    return list(_read_options(tuple(options))[0])


@lru_cache(1 << 14)  # a question's options come again
def _read_options(options):
    """`(texts, spellings, labels)`: what the options say, `{a way to write one: its text}`, and what their labels would be."""
    whole = [normalize_answer(option) for option in options]
    found, texts, labels = [LABELLED.fullmatch(text) for text in whole], whole, LETTERS
    for kind in (LETTERS, NUMBERS) if all(found) and len(found) > 1 else ():
        own = [normalize_answer(match["text"]) for match in found]
        if [match["label"] for match in found] == list(kind[: len(found)]) and all(own) and len(set(own)) == len(own):
            texts, labels = own, kind
    spellings = dict(zip(whole, texts))
    for text in texts:
        spellings.setdefault(fold_label(text, {}), text)
        spellings.setdefault(_tight(text), text)
    return texts, spellings | dict(zip(texts, texts)), labels


def _tight(text):
    """`10 mm` as `10mm`."""
    return re.sub(r"(?<=[0-9]) (?=[a-zµμ])", "", text)


def option_text(answer, options):
    """The option that an answer stands for: by its text, its letter or both (`B`, `(b)`, `**B.** Snare`, `Option B`).

    options: list of str, lettered or not. An answer that is none of them, or that contradicts itself (`B: Forceps` where B is
    Snare), stays as it is, normalised. A number is a letter only where the options are numbered.
    """
    texts, spellings, labels = _read_options(tuple(options))
    said = normalize_answer(answer)
    for text in (said, fold_label(said, {}), _tight(said)):
        if text in spellings:
            return spellings[text]
    found = NAMED.fullmatch(said.replace("*", "").strip("_"))
    if not found:
        return said
    label, rest = found["label"], fold_label(normalize_answer(found["text"] or ""), {})
    if not rest and label in spellings:
        return spellings[label]  # an option whose own text is a letter means itself
    labels = labels if label.isdecimal() and labels is NUMBERS else LETTERS
    place = labels.index(label) if label in labels else len(texts)
    agrees = place < len(texts) and (not rest or spellings.get(rest) == texts[place])
    return texts[place] if agrees else said


def chosen_options(answer, options):
    """The options that an answer names (list of str), and nothing else: one, or several as a list. Empty where it says another thing."""
    known, whole = set(without_letters(options)), option_text(answer, options)
    chosen = [whole] if whole in known else [option_text(item, options) for item in split_labels(answer, ALIASES["separators"])]
    return list(dict.fromkeys(chosen)) if set(chosen) <= known else []


# ---------------------------------------------------------------------------------------------------------------------
# Lists of labels

LABEL_WORDS = 5  # `a; b` is a list of labels where each is at most this long, and prose otherwise


def split_labels(text, separators=()):
    """A text's items (list of str): parted by `;`, and by the separators that are given, except between two digits (`1,5 cm`).

    Of the last item of `clip, sponge, and gauze` the `and` goes.
    """
    items = [item for item in map(str.strip, _splitter(tuple(separators)).split(clean(text))) if item]
    return [*items[:-1], items[-1].removeprefix("and ")] if separators and len(items) > 1 else items


@lru_cache
def _splitter(separators):
    patterns = [";"]
    for sign in filter(None, map(clean, separators)):
        if sign[0].isalpha() and sign.isascii():
            patterns.append(rf"(?<!\S){re.escape(sign)}(?!\S)")  # a word, ` and `, not a part of one
        else:
            patterns.append(rf"(?<![0-9]){re.escape(sign)}|{re.escape(sign)}(?![0-9])")
    return re.compile("|".join(patterns))


def separators_in(text):
    """The table's separators, beside `;`, that part a text."""
    count = len(split_labels(text))
    return [sign for sign in ALIASES["separators"] if len(split_labels(text, [sign])) > count]


def are_labels(items):
    """Are these items (of a list) labels, and not prose or numbers?"""
    return max(len(item.split()) for item in items) <= LABEL_WORDS and not all(item.isdecimal() for item in items)


def looks_like_list(text):
    """Would a text be a list of labels if its question used the table's separators? `yes, there is` never is."""
    items = split_labels(text, ALIASES["separators"])
    return len(items) > 1 and are_labels(items) and set(items).isdisjoint({*YES, *NO, *EXCLUSIVE})


def conventions_of(row, conventions):
    """What holds for a row's question: `{"spellings": {…}, "separators": […], "languages": […]}`, or less. conventions: of all questions,
    with those that hold for each at ""."""
    if not conventions:
        return {}
    return {**conventions.get("", {}), **conventions.get(question_template(row.get("question") or ""), {})}


def languages_of(convention):
    """The languages (tuple) in which a question's numbers are read. convention: of `conventions_of`, or None."""
    return tuple((convention or {}).get("languages", ENGLISH))


def labels_of(text, convention=None, options=None):
    """The labels that a text (str or None) says, `{normalised label: the text's own}`; empty where it says nothing.

    One label, or those of a list; in a row with options, options by their text. convention: of `conventions_of`.
    """
    convention, labels = convention or {}, {}
    if options and (chosen := chosen_options(text or "", options)):
        return {label: label for label in split_labels("; ".join(chosen))}
    for item in split_labels(text or "", convention.get("separators", ())):
        if normalized := normalize_answer(item):
            kept = fold_label(normalized, convention.get("spellings", {}))
            labels[kept] = item if kept == normalized else kept
    return labels


def unsplit_lists(rows, conventions=None):
    """How many rows' truths (`gt`) look like lists by a separator that their question isn't known to use: they compare as text."""
    return sum(
        looks_like_list(row["gt"])
        and not row.get("options")
        and not set(separators_in(row["gt"])) <= set(conventions_of(row, conventions).get("separators", ()))
        for row in rows
    )


# ---------------------------------------------------------------------------------------------------------------------
# Matching


def is_correct(question_type, gt, pred, tolerances=EvalConfig(), question=None, convention=None, options=None):
    """Does the prediction (str or None) match the ground truth (str)?

    tolerances: `numeric_rel_tol` (share of |gt|) and `numeric_abs_tol` (mm; plain numbers where both texts are bare)
    for size_numeric, `count_abs_tol` for count_numeric. Types that users add match like open_ended: by equality.
    Lists of labels match as sets, each label by its type's rule. question: str, whose words may stand around a number.
    convention, options: as for `labels_of`.
    """
    gt_labels, pred_labels = labels_of(gt, convention, options), labels_of(pred, convention, options)
    if not pred_labels:
        return False
    if gt_labels.keys() == pred_labels.keys():
        return True  # before any number is read, so that tolerance can only add to what equality accepts
    if question_type == "yes_no" and len(gt_labels) == len(pred_labels) == 1:
        return same_yes_no(*gt_labels, *pred_labels, languages_of(convention))
    same_number = {"size_numeric": _same_size, "count_numeric": _same_count}.get(question_type)
    if same_number is None or not gt_labels:
        return False
    asked = question, languages_of(convention)
    same = [[g == p or same_number(g, p, tolerances, asked) for p in pred_labels.values()] for g in gt_labels.values()]
    return all(map(any, same)) and all(map(any, zip(*same)))


def is_empty(pred):
    """Nothing is left of the prediction after normalising (`None`, `""`, `"."`)."""
    return pred is None or not normalize_answer(pred)


def _same_count(gt, pred, tolerances, asked):
    true, said = parse_count(gt, *asked), parse_count(pred, *asked)
    if true is None or said is None:
        return _same_interval(gt, pred, asked)
    return abs(true - said) <= tolerances.count_abs_tol


def _same_size(gt, pred, tolerances, asked):
    true, said = parse_quantity(gt, *asked), parse_quantity(pred, *asked)
    if not (true and said and true.single and said.single and true.unit == said.unit):
        return _same_interval(gt, pred, asked)
    tolerance = max(tolerances.numeric_abs_tol, tolerances.numeric_rel_tol * abs(true.lo))
    return abs(true.lo - said.lo) <= tolerance + 1e-9 * abs(true.lo)  # 11.55 is within 5 % of 11 in floats too


def _same_interval(gt, pred, asked):
    """Ranges and bounds are classes: `5-10mm` is `0.5-1 cm`."""
    true, said = parse_quantity(gt, *asked), parse_quantity(pred, *asked)
    return true is not None and not true.single and true == said


def references(row):
    """What a row's answer may be: `gt`, and those of `answers` that are no junk. The first is `gt`."""
    return list(dict.fromkeys([row["gt"], *(text for text in row.get("answers") or () if not is_junk(text))]))


def judge(rows, tolerances=EvalConfig(), conventions=None):
    """Return the prediction rows (dicts with `pred`, `gt`, `qtype`), each with `correct` (bool) added.

    Of several references (`answers`) one is enough. Options' letters (`options`) and the spellings of data/aliases.yaml count
    as the same. conventions: what holds for one question template only, as `answer_space.conventions` gives it.
    """
    judged, known = [], {}
    for row in rows:
        pred, gt = row["pred"], row["gt"]
        question, options = row.get("question"), tuple(row.get("options") or ())
        case = row["qtype"], question, gt, pred, options, *(row.get("answers") or ())
        if case not in known:  # the same few answers come again and again
            own = conventions_of(row, conventions)
            known[case] = any(is_correct(row["qtype"], text, pred, tolerances, question, own, options) for text in references(row))
        judged.append({**row, "correct": known[case]})
    return judged
