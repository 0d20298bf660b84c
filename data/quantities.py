"""Numbers with units, as answers say them: `5mm`, `5-10 mm`, `<5mm`, `two`. No general unit parser serves here: they read

`5–10 mm` as 50 mm and `1,5 cm` as 15 cm.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
import re
from typing import NamedTuple

from data.text import clean

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
    text = clean(text)
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
