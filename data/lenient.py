"""A lenient score beside the strict one: does a prediction that talks say the right answer?

`Yes, there is a polyp.` says yes, `The answer is B.` the second option, `The image shows a polyp snare.` the only valid
answer that it names. The reading never looks at the truth, so it can't find one there; what is denied, hedged or left
open is no answer. Words that do so are without end, so beside a label or after a yes stand only those of languages/en.yaml
and of the question, as beside a number. Usual lenient scores search for the truth in the text: `no` is then right in
`normal`, `polyp` in `no polyp` and in `polyp snare`.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from collections import Counter
from functools import lru_cache

from data.answer_words import TABLE, WORD, accompanies, content_words, phrases, singular
from data.matching import normalize_answer, option_text, without_letters
from data.quantities import parse_quantity, says_none, things_of
from data.text import clean

NUMERIC = ("count_numeric", "size_numeric")
EMPHASIS = re.compile(r"[*`]|(?<!\w)_+|_+(?!\w)|^(?:[-•#]+ )(?!\d)")
JOINTS = re.compile(r"(?<=[^\W\d])[-_](?=[^\W\d])")  # between letters: `5-10` stays
LEADS = re.compile(rf"^(?:{phrases('answer_leads').pattern}[ :,]*)+")
TAILS = re.compile(rf" {phrases('answer_tails').pattern}[ .!]*$")
LETTER = re.compile(r"[(\[]?[a-z][)\]:.]")
ARTICLE = re.compile(rf"{phrases('articles').pattern} (?=\w)")
# `no` alone leads a sentence or stands before a comma; in `no doubt` it belongs to the next word.
YES_NO = re.compile(r"(yes(?![\w/])|no(?= ?[.,;:!(-]| ?$| (?:there|it|they|the|this)\b))(.*)")
AROUND = phrases("on_either_side", "before", "after")
# A sentence's label is looked for where plurals are folded, so the table's are folded too.
LABEL_LISTS = ("on_either_side", "before", "after", "beside_a_label")
BESIDE_A_LABEL = re.compile(WORD.sub(lambda word: singular(word[0]), phrases(*LABEL_LISTS).pattern))
BESIDE_A_YES = phrases(*LABEL_LISTS, "beside_a_yes")
MARKS = set(" .,:;()\"'*_`-")
NAMES = frozenset(name for line in TABLE["things"] for name in line["names"])
YES, DENIALS, ABSENCES, TURNS = re.compile(r"\byes\b"), phrases("denials"), phrases("absences"), phrases("turns")
HEDGES = phrases("hedges")


def lenient_match(question_type, references, pred, candidates=None, options=None, question=None):
    """Does the prediction (str or None) say one of the references, in a sentence or in another form?

    Asked where the strict verdict is no: it needn't accept what `matching.is_correct` does. Numbers are read strictly
    only, so count_numeric and size_numeric never gain.

    references: list of str, lists of labels joined with `;`. The others: as for `said_leniently`.
    """
    said = said_leniently(question_type, pred, candidates, options, question)
    return said is not None and said in [_labels(option_text(reference, options) if options else reference) for reference in references]


def said_leniently(question_type, pred, candidates=None, options=None, question=None):
    """The labels (frozenset of str: lower case, singular, no article or hyphen) that a prediction (str or None) says, or None.

    `{"no"}` of `No, there is no polyp.`, `{"needle driver"}` of `The needle-drivers`. None of numbers, and where nothing is
    said, or it is hedged or left open.

    candidates: the question's valid answers (list of str), or None where any answer may be given: then nothing can be
    picked out of a sentence but a yes, a no, or an option. options: of multiple choice, with or without letters. question:
    str; its own words may stand beside an answer, and it tells `No, the scope is advancing.` from an answer.
    """
    text = _plain(pred or "")
    if question_type in NUMERIC or "?" in text:
        return None
    valid = tuple(without_letters(options) if options else candidates or ())
    return _said(text, valid, tuple(options or ()), question or "") or None


def _plain(text):
    """A text without case, markdown's emphasis and curly apostrophes."""
    return EMPHASIS.sub("", clean(text)).replace("’", "'").strip()


@lru_cache(1 << 16)  # predictions repeat
def _said(text, valid, options, question):
    """The labels (frozenset, folded) that a plain text says, or None."""
    body = TAILS.sub("", LEADS.sub("", text))
    if options and (option := option_text(body, options)) in valid:
        return _labels(option)
    if options and LETTER.match(body):
        return None  # `B: forceps` where B is another
    folded, whole = _folded(valid), _labels(body)
    if any(folded[label] > 1 for label in whole):
        return None  # `polyp` and `polyps` are both valid: form matters
    if whole <= folded.keys():
        return whole
    if not valid:
        return frozenset(filter(None, [_yes_no(body, question)])) or whole
    if {"yes", "no"} <= folded.keys():
        answer, others = _yes_no(body, question), tuple(folded.keys() - {"yes", "no"})
        if answer and not (others and _any_label(others).search(_fold_words(body))):
            return frozenset([answer])
    return _named(_fold_words(body).rstrip(" .!"), folded, content_words(question) | NAMES)


@lru_cache(1 << 12)
def _folded(labels):
    return Counter(map(_fold, set(map(normalize_answer, labels))))


def _fold(label):
    """A label without article, plural, hyphens and underscores: `The needle-drivers` is `needle driver`."""
    text = _fold_words(normalize_answer(label))
    article = ARTICLE.match(text)
    return text[article.end() :] if article else text


def _fold_words(text):
    return WORD.sub(lambda word: singular(word[0]), JOINTS.sub(" ", text))


def _labels(text):
    return frozenset(filter(None, map(_fold, text.split(";"))))


def _yes_no(text, question):
    """The `yes` or `no` that a text leads with and doesn't contradict; `no`, too, where it says that there is none of what is asked."""
    content = content_words(question)
    found = YES_NO.match(text)
    if not found:
        words = {singular(word) for word in WORD.findall(text)}
        return "no" if content and content <= words and says_none(text, question) else None
    answer, rest = found.groups()
    if answer == "yes":
        return "yes" if _bears_out(rest, question) else None
    denied, absent = DENIALS.search(rest), ABSENCES.search(rest)
    if YES.search(rest) or TURNS.search(rest) or (denied and absent) or _hedged(rest, content):
        return None
    return "no" if denied or absent or not _affirms(rest, content) else None


def _bears_out(rest, question):
    """Is the rest of a sentence after `yes` one that says more of the same: words of the table, or a number of the things?"""
    if accompanies(rest, BESIDE_A_YES, MARKS | {"!"}, things_of(question)):
        return True
    number = parse_quantity(rest, question)
    return bool(number and number.lo > 0)


def _hedged(rest, content):
    adverbs = {word for word in WORD.findall(BESIDE_A_YES.sub("", rest)) if word.endswith("ly")}
    return bool(HEDGES.search(rest) or adverbs - content - NAMES)


def _affirms(rest, content):
    """Does the rest of a sentence after `no`, without a negation, say what the question asks (`there is a polyp`)?"""
    words = {singular(word) for word in WORD.findall(AROUND.sub("", rest))}
    return bool(WORD.search(rest)) and (words <= content or content <= words)


def _named(text, folded, words):
    """The valid answers (folded) that a folded text names, the longest where one holds another; None where another word stands beside.

    words: what the question lends, but no part of another label: `left center` names neither `center` nor `center left`.
    """
    labels = [label for label in folded if label != "yes" and not DENIALS.fullmatch(label)]
    pattern = _any_label(tuple(sorted(labels, key=len, reverse=True)))
    named = frozenset(pattern.findall(text)) if labels else frozenset()
    if not named or any(folded[label] > 1 or re.search(r"\d", label) for label in named):
        return None
    parts = {word for label in folded.keys() - named for word in WORD.findall(label) if len(word) > 2}
    rest = pattern.sub(" ", text)
    return named if accompanies(rest, BESIDE_A_LABEL, MARKS, words - parts) and not parts & set(WORD.findall(rest)) else None


@lru_cache(1 << 12)
def _any_label(labels):
    return re.compile(r"(?<![\w<>≤≥=+-])(?:" + "|".join(map(re.escape, labels)) + r")(?![\w+%]|[-/.,]\w)")
