"""Numbers with units, as answers say them: `5mm`, `5-10 mm`, `<5mm`, `two`, `There are two polyps in the image.`

A number was said only where every other word stands in a table, answer_words.yaml: words that change a number (`not`,
`inches`, `larger`) are without end, those that merely accompany it aren't. No general unit parser serves here: they read
`5–10 mm` as 50 mm and `1,5 cm` as 15 cm.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
import re
from functools import lru_cache
from typing import NamedTuple

from data.answer_words import TABLE, WORD, accompanies, content_words, phrases, singular
from data.text import CLOSING, clean

MM_PER_UNIT = {unit: factor for factor, units in TABLE["mm_per_unit"].items() for unit in units}
COMPARISONS = {words: sign for sign, spellings in TABLE["comparisons"].items() for words in spellings}
ONES, TENS = TABLE["ones"], TABLE["tens"]
NUMBER_WORDS = {word: value for value, word in enumerate(ONES)} | {word.replace(" ", "-"): 1 for word in TABLE["single"]}
for _tens, _word in enumerate(TENS, 2):
    NUMBER_WORDS |= {_word: 10 * _tens} | {f"{_word}-{one}": 10 * _tens + value for value, one in enumerate(ONES[1:10], 1)}


def _any_of(words):
    return "(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"  # `<=` before `<`


def _measure(name):
    """Pattern of a number with an optional unit (`5mm`, `5 mm`, `5-mm`) as groups `name` and `name_unit`."""
    words = rf"{_any_of(TENS)}(?:[ -]?{_any_of(ONES[1:10])}(?!\w))?|{_any_of(ONES + TABLE['single'])}"
    number = rf"-?[0-9]+(?:[.,][0-9]+)*(?:e[+-]?[0-9]+)?|-?\.[0-9]+|{words}"
    unit = rf"{_any_of(MM_PER_UNIT)}s?(?!\w)"
    return rf"(?P<{name}>{number})(?:[ -]?(?!ms\b)(?P<{name}_unit>{unit})|(?!\w))"


QUANTITY = re.compile(
    rf"(?:(?<!\w)(?P<bound>{_any_of(COMPARISONS)}) ?|(?:\b(?P<between>between|from) )?(?<![\w.,]))"
    rf"{_measure('lo')}"
    rf"(?: ?(?(between)(?:-|to|and)|(?:-|to)) ?{_measure('hi')})?"
)
BEFORE, AFTER = phrases("on_either_side", "nearby", "before"), phrases("on_either_side", "nearby", "after")
WITH_A_LENGTH = phrases("with_a_length")
THINGS = [{part: {singular(word) for word in words} for part, words in line.items()} for line in TABLE["things"]]
ZERO, ZERO_OF = phrases("zero"), phrases("zero_of")
MARKS_BEFORE, MARKS_AFTER = set(" .,:;()\"'*_`-=~≈"), set(" .,;!()\"'*_`")
STRAIGHT = str.maketrans("’“”„", '\'"""')
PRIME = re.compile(r" ?(['\"])")
ASIDE = re.compile(r"(.*?) ?[(\[]([^()\[\]]+)[)\]](.*)", re.DOTALL)
LAST_WORD = re.compile(r"(?<!\w)([^\W\d_]+)[ *_`(-]*$")
LIST_MARK = re.compile(r"[.)]\W*\w")


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


def parse_quantity(text, question=None):
    """Return the one Quantity a text (str) says, or None where it says none, several, or one that can't be read.

    Reads units in any case, with or without space (mm, cm, m, µm); ranges with `-`, `–`, `to`, `between … and`; bounds
    as symbols or words; number words zero to ninety-nine; a decimal comma before one or two digits (`1,500` is None: 1.5
    to some, 1500 to others); a number said twice, `two (2)`. Around it stand words of answer_words.yaml and of the question
    (str), and no others: `not 5`, `5 inches`, `5 mm²` are None. With a question the things counted have to be its own. A
    closing question mark doubts a sentence, not a bare number. Never raises.
    """
    return _said_once_or_twice(_read_quantity, text, question)


@lru_cache(1 << 16)  # answers repeat
def _said_once_or_twice(read, text, question):
    """What a text says by `read`, or what it says both outside and inside its first brackets (`two (2)`); else None.

    A list of labels (`2; polyp`) says no number, wherever one stands in it.
    """
    text = clean(text).translate(STRAIGHT)
    if len(list(filter(str.strip, text.split(";")))) > 1:
        return None
    said, aside = read(text, question), ASIDE.fullmatch(text)
    if said is None and aside:
        said, again = read(aside[1] + aside[3], question), read(aside[2], question)
        return said if said == again else None
    return said


def _around(text, *patterns):
    """`(match, before, after, closing marks)` of the first pattern that a text has; None without one, or where a question is asked.

    A question mark after the bare match (`two?`) is dropped, as it is in normalising; in a sentence it asks.
    """
    bare = text.rstrip(f" {CLOSING}\"'")
    found, closing = next(filter(None, (pattern.search(bare) for pattern in patterns)), None), text[len(bare) :]
    if not found:
        return None
    before, after = bare[: found.start()], bare[found.end() :]
    return None if "?" in closing and WORD.search(before + after) else (found, before, after, closing)


@lru_cache(1 << 16)
def _read_quantity(text, question):
    if not (parts := _around(text, QUANTITY)):
        return None
    found, before, after, closing = parts
    unit = found["lo_unit"] or found["hi_unit"]  # `5-10mm`: the unit stands for both
    if not unit and (prime := PRIME.match(after + closing)) and not re.search(rf"(?<!\w){prime[1]}", before):
        return None  # two feet or inches; `"2"` is quoted
    things = things_of(question)
    if not (_accompanies(before, BEFORE, MARKS_BEFORE, things, unit) and _accompanies(after, AFTER, MARKS_AFTER, things, unit)):
        return None
    if not unit and _says_which(before, after, things):
        return None
    return _quantity(found, unit)


def extract_number(text):
    """Return the single number of a text (float, in mm where it has a unit of length), or None.

    Ranges, bounds and texts with several numbers have none.
    """
    quantity = parse_quantity(text)
    return quantity.lo if quantity and quantity.single else None


def parse_count(text, question=None):
    """Return the whole number (int) that a text (str) counts, or None.

    Zero is also said by `none`, `no polyps`, `There are no instruments in the image.`, under the same table of words; not
    by `no`, `not relevant` or `no one can tell`.
    """
    return _said_once_or_twice(_read_count, text, question)


def _read_count(text, question):
    quantity = _read_quantity(text, question)
    if quantity:
        counts = quantity.single and quantity.unit is None and quantity.lo >= 0 and quantity.lo.is_integer()
        return int(quantity.lo) if counts else None
    return 0 if says_none(text, question) else None


@lru_cache(1 << 16)
def says_none(text, question=None):
    """Does the text (str) say in words that there is none of what the question (str or None) asks for?"""
    text, things = clean(text).translate(STRAIGHT), things_of(question, kinds=False)
    if not (parts := _around(text, ZERO, ZERO_OF)):
        return False
    found, before, after, _ = parts
    if not (accompanies(before, BEFORE, MARKS_BEFORE, things) and accompanies(after, AFTER, MARKS_AFTER, things)):
        return False
    return found.re is ZERO or any(singular(word) in things for word in WORD.findall(after))


def _accompanies(text, table, marks, things, unit):
    return accompanies(WITH_A_LENGTH.sub("", text) if unit else text, table, marks, things)


@lru_cache(1 << 12)
def things_of(question, kinds=True):
    """What is counted or measured (frozenset of words, singular): a question's own words, and what the table has beside them.

    Without kinds, only what the absence of means zero: having no scalpel isn't having no tool.
    """
    words = content_words(question)
    named = [line for line in THINGS if words & line["names"] | words & line["kinds"]]
    names = words.union(*(line["names"] for line in named or THINGS))
    return names.union(*(line["kinds"] for line in named or THINGS if not named or kinds and words & line["names"]))


def _says_which(before, after, things):
    """Does a bare number beside these texts tell one thing from others (`polyp 2`, `the one`, `2. polyp`) or count a thing's parts?"""
    last = LAST_WORD.search(before)
    if LIST_MARK.match(after) or last and (last[1] in TABLE["articles"] or last[1] == "number" or singular(last[1]) in things):
        return True
    return all(any(singular(word) in things for word in WORD.findall(side)) for side in (before, after))  # `a polyp with 2 lesions`


def _quantity(found, unit):
    lo = _value(found["lo"], unit)
    if lo is None:
        return None
    unit_name = "mm" if unit else None
    if found["bound"]:
        return None if found["hi"] else _bound(COMPARISONS[found["bound"]], lo, unit_name)
    if not found["hi"]:
        return None if found["between"] else Quantity(lo, lo, unit=unit_name)
    if found["lo_unit"] and not found["hi_unit"]:
        return None  # `5mm-10`: ten of what?
    hi = _value(found["hi"], found["hi_unit"])
    return None if hi is None or hi <= lo else Quantity(lo, hi, unit=unit_name)


def _value(number, unit):
    """The number (str) as a float, in mm if it has a unit; None if it is ambiguous (`1,500`, `1.2.3`) or not finite."""
    value = NUMBER_WORDS.get(number.replace(" ", "-"))
    if value is None:
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
