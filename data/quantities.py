"""Numbers with units, as answers say them: `5mm`, `5-10 mm`, `<5mm`, `two`, `There are two polyps in the image.`

A number was said only where every other word stands in a table, languages/*.yaml: words that change a number (`not`,
`inches`, `larger`) are without end, those that merely accompany it aren't. No general unit parser serves here: they read
`5–10 mm` as 50 mm and `1,5 cm` as 15 cm.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import functools
import math
import re
from functools import lru_cache
from typing import NamedTuple

from data.answer_words import WORD, accompanies, content_words, phrases, singular
from data.language import ENGLISH, spaced, table
from data.text import CLOSING, clean


class _Words(NamedTuple):
    """What numbers of some languages look like, as patterns."""

    mm_per_unit: dict
    comparisons: dict
    numbers: dict
    decimal_commas: frozenset
    quantity: re.Pattern
    before: re.Pattern
    after: re.Pattern
    with_a_length: re.Pattern
    zero: re.Pattern
    zero_of: re.Pattern
    things: list


@lru_cache
def _words(languages):
    own = table(languages)
    mm_per_unit = {unit: float(factor) for factor, units in own["mm_per_unit"].items() for unit in units}
    comparisons = {words: sign for sign, spellings in own["comparisons"].items() for words in spellings}
    numbers = {word.replace(" ", "-"): value for value, words in own["numbers"].items() for word in words}
    numbers |= {word: value for value, word in enumerate(own["ones"])} | {word.replace(" ", "-"): 1 for word in own["single"]}
    for tens, word in enumerate(own["tens"], 2):
        numbers |= {word: 10 * tens} | {f"{word}-{one}": 10 * tens + value for value, one in enumerate(own["ones"][1:10], 1)}
    things = [{part: {singular(word, languages) for word in words} for part, words in line.items()} for line in own["things"]]
    on_either_side = functools.partial(phrases, "on_either_side", "nearby", languages=languages)
    rest = [phrases(key, languages=languages) for key in ("with_a_length", "zero", "zero_of")]
    quantity = _quantity_pattern(own, mm_per_unit, comparisons)
    commas = frozenset(table((language,))["decimal_comma"] for language in languages)
    return _Words(mm_per_unit, comparisons, numbers, commas, quantity, on_either_side("before"), on_either_side("after"), *rest, things)


def _any_of(words):
    return "(?:" + ("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)") + ")"  # `<=` before `<`


def _quantity_pattern(own, units, comparisons):
    """Pattern of a number, a range or a bound (groups `lo`, `hi`, `bound`), with an optional unit: `5mm`, `5 mm`, `5-mm`."""
    single = [*own["ones"], *own["single"], *(word for words in own["numbers"].values() for word in words)]
    words = _any_of(single)
    if own["tens"]:
        words = rf"{_any_of(own['tens'])}(?:[ -]?{_any_of(own['ones'][1:10])}(?!\w))?|{words}"
    number = rf"-?[0-9]+(?:[.,][0-9]+)*(?:e[+-]?[0-9]+)?|-?\.[0-9]+|{words}"
    measure = rf"(?P<%s>{number})(?:[ -]?(?!ms\b)(?P<%s_unit>{_any_of(units)}s?(?!\w))|(?!\w))"
    return re.compile(
        rf"(?:(?<!\w)(?P<bound>{_any_of(comparisons)}) ?|(?:\b(?P<between>{_any_of(own['between'])}) )?(?<![\w.,]))"
        rf"{measure % ('lo', 'lo')}"
        rf"(?: ?(?(between)(?:-|{_any_of(own['up_to'] + own['and'])})|(?:-|{_any_of(own['up_to'])})) ?{measure % ('hi', 'hi')})?"
    )


MARKS_BEFORE, MARKS_AFTER = set(" .,:;()\"'*_`-=~≈"), set(" .,;!()\"'*_`")
STRAIGHT = str.maketrans("’“”„", '\'"""')
PRIME = re.compile(r" ?(['\"])")
ASIDE = re.compile(r"(.*?) ?[(\[]([^()\[\]]+)[)\]](.*)", re.DOTALL)
THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?")
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


def parse_quantity(text, question=None, languages=ENGLISH):
    """Return the one Quantity a text (str) says, or None where it says none, several, or one that can't be read.

    Reads units in any case, with or without space (mm, cm, m, µm); ranges with `-`, `–`, `to`, `between … and`; bounds
    as symbols or words; number words zero to ninety-nine; a decimal comma before one or two digits (`1,500` is None: 1.5
    to some, 1500 to others) and, in German and the like, before any (`1.500` is 1500 there); a number said twice, `two (2)`.
    Around it stand words of the tables and of the question (str), and no others: `not 5`, `5 inches`, `5 mm²` are None. With a
    question the things counted have to be its own. A closing question mark doubts a sentence, not a bare number. Never raises.
    """
    return _said_once_or_twice(_read_quantity, text, question, languages)


@lru_cache(1 << 16)  # answers repeat
def _said_once_or_twice(read, text, question, languages):
    """What a text says by `read`, or what it says both outside and inside its first brackets (`two (2)`); else None.

    A list of labels (`2; polyp`) says no number, wherever one stands in it.
    """
    text = spaced(clean(text).translate(STRAIGHT), languages)
    if len(list(filter(str.strip, text.split(";")))) > 1:
        return None
    said, aside = read(text, question, languages), ASIDE.fullmatch(text)
    if said is None and aside:
        said, again = read(aside[1] + aside[3], question, languages), read(aside[2], question, languages)
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
def _read_quantity(text, question, languages):
    own = _words(languages)
    if not (parts := _around(text, own.quantity)):
        return None
    found, before, after, closing = parts
    unit = found["lo_unit"] or found["hi_unit"]  # `5-10mm`: the unit stands for both
    if not unit and (prime := PRIME.match(after + closing)) and not re.search(rf"(?<!\w){prime[1]}", before):
        return None  # two feet or inches; `"2"` is quoted
    things, sides = things_of(question, True, languages), [(before, own.before, MARKS_BEFORE), (after, own.after, MARKS_AFTER)]
    if unit:
        sides = [(own.with_a_length.sub("", text), words, marks) for text, words, marks in sides]
    if not all(accompanies(*side, things, languages) for side in sides):
        return None
    if not unit and _says_which(before, after, things, languages):
        return None
    return _quantity(found, unit, own)


def extract_number(text, languages=ENGLISH):
    """Return the single number of a text (float, in mm where it has a unit of length), or None.

    Ranges, bounds and texts with several numbers have none.
    """
    quantity = parse_quantity(text, None, languages)
    return quantity.lo if quantity and quantity.single else None


def parse_count(text, question=None, languages=ENGLISH):
    """Return the whole number (int) that a text (str) counts, or None.

    Zero is also said by `none`, `no polyps`, `There are no instruments in the image.`, under the same table of words; not
    by `no`, `not relevant` or `no one can tell`.
    """
    return _said_once_or_twice(_read_count, text, question, languages)


def _read_count(text, question, languages):
    quantity = _read_quantity(text, question, languages)
    if quantity:
        counts = quantity.single and quantity.unit is None and quantity.lo >= 0 and quantity.lo.is_integer()
        return int(quantity.lo) if counts else None
    return 0 if says_none(text, question, languages) else None


@lru_cache(1 << 16)
def says_none(text, question=None, languages=ENGLISH):
    """Does the text (str) say in words that there is none of what the question (str or None) asks for?"""
    own, text = _words(languages), spaced(clean(text).translate(STRAIGHT), languages)
    things = things_of(question, False, languages)
    if not (parts := _around(text, own.zero, own.zero_of)):
        return False
    found, before, after, _ = parts
    if not (
        accompanies(before, own.before, MARKS_BEFORE, things, languages) and accompanies(after, own.after, MARKS_AFTER, things, languages)
    ):
        return False
    return found.re is own.zero or any(singular(word, languages) in things for word in WORD.findall(after))


@lru_cache(1 << 12)
def things_of(question, kinds=True, languages=ENGLISH):
    """What is counted or measured (frozenset of words, singular): a question's own words, and what the table has beside them.

    Without kinds, only what the absence of means zero: having no scalpel isn't having no tool.
    """
    words, things = content_words(question, languages), _words(languages).things
    named = [line for line in things if words & line["names"] | words & line["kinds"]]
    names = words.union(*(line["names"] for line in named or things))
    return names.union(*(line["kinds"] for line in named or things if not named or kinds and words & line["names"]))


def _says_which(before, after, things, languages):
    """Does a bare number beside these texts tell one thing from others (`polyp 2`, `the one`, `2. polyp`) or count a thing's parts?"""
    last, is_thing = LAST_WORD.search(before), lambda word: singular(word, languages) in things
    if LIST_MARK.match(after) or last and (last[1] in table(languages)["articles"] or last[1] == "number" or is_thing(last[1])):
        return True
    return all(any(map(is_thing, WORD.findall(side))) for side in (before, after))  # `a polyp with 2 lesions`


def _quantity(found, unit, own):
    lo = _value(found["lo"], unit, own)
    if lo is None:
        return None
    unit_name = "mm" if unit else None
    if found["bound"]:
        return None if found["hi"] else _bound(own.comparisons[found["bound"]], lo, unit_name)
    if not found["hi"]:
        return None if found["between"] else Quantity(lo, lo, unit=unit_name)
    if found["lo_unit"] and not found["hi_unit"]:
        return None  # `5mm-10`: ten of what?
    hi = _value(found["hi"], found["hi_unit"], own)
    return None if hi is None or hi <= lo else Quantity(lo, hi, unit=unit_name)


def _value(number, unit, own):
    """The number (str) as a float, in mm if it has a unit; None if it is ambiguous (`1,500`, `1.2.3`) or not finite."""
    value = own.numbers.get(number.replace(" ", "-"))
    if value is None:
        values = {_read_number(number, comma) for comma in own.decimal_commas}
        value = values.pop() if len(values) == 1 else None  # `1.500` is one thing in German, another in English
    if value is None:
        return None
    value = round(value * own.mm_per_unit[unit if unit in own.mm_per_unit else unit[:-1]], 9) if unit else value
    return float(value) if math.isfinite(value) else None


def _read_number(text, decimal_comma):
    """A number in digits as a float, or None. decimal_comma: `1,500` is 1.5 and `1.500` is 1500; else only one or two digits tell that a
    comma is a decimal one."""
    if decimal_comma and THOUSANDS.fullmatch(text):
        text = text.replace(".", "")
    try:
        return float(re.sub(r"^(-?[0-9]+),([0-9]+)$" if decimal_comma else r"^(-?[0-9]+),([0-9]{1,2})$", r"\1.\2", text))
    except ValueError:
        return None


def _bound(comparison, value, unit):
    is_open = comparison in ("<", ">")
    if comparison in ("<", "<="):
        return Quantity(-math.inf, value, hi_open=is_open, unit=unit)
    return Quantity(value, math.inf, lo_open=is_open, unit=unit)
