"""Numbers with units, against hand-made texts and properties.

python -m pytest tests/data/test_quantities.py -v
"""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import quantities
from data.quantities import Quantity, extract_number, parse_quantity

property_test = settings(max_examples=150, deadline=None, database=None)
INF = math.inf


def mm(lo, hi=None, **ends):
    return Quantity(lo, lo if hi is None else hi, unit="mm", **ends)


def bare(lo, hi=None, **ends):
    return Quantity(lo, lo if hi is None else hi, **ends)


def below(hi, hi_open, make=mm):
    return make(-INF, hi, hi_open=hi_open)


def above(lo, lo_open, make=mm):
    return make(lo, INF, lo_open=lo_open)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers and units

QUANTITIES = [
    # units
    ("10mm", mm(10)),
    ("10 mm", mm(10)),
    ("10 MM", mm(10)),
    ("10\u00a0mm", mm(10)),  # no-break space
    ("10  mm.", mm(10)),
    ("1cm", mm(10)),
    ("1 cm", mm(10)),
    ("1.1 CM", mm(11)),  # 1.1 * 10 is 11.000000000000002
    ("0.02 m", mm(20)),
    ("500 µm", mm(0.5)),  # micro sign
    ("500μm", mm(0.5)),  # Greek mu
    ("500um", mm(0.5)),
    ("7 millimeters", mm(7)),
    ("2 centimetres", mm(20)),
    ("2 meter", mm(2000)),
    ("5-mm polyp", mm(5)),
    ("a polyp of 5mm, flat", mm(5)),
    ("5 ms", bare(5)),  # no unit of length: the number stays bare
    ("5 mmol", bare(5)),
    ("5kg", None),
    ("5 mm²", None),
    ("5%", None),
    # numbers
    ("10", bare(10)),
    ("0", bare(0)),
    ("2.0", bare(2)),
    ("007", bare(7)),
    (".5 cm", mm(5)),
    ("1,5 cm", mm(15)),
    ("1,25 cm", mm(12.5)),
    ("1,500 mm", None),  # 1.5 or 1500
    ("1,2,3", None),
    ("1.500", bare(1.5)),
    ("1.2.3", None),
    ("10 000", None),
    ("-1", bare(-1)),
    ("−1", bare(-1)),  # minus sign
    ("- 5 mm", mm(5)),  # a list's dash
    ("1e3", bare(1000)),
    ("1e999", None),
    ("½ cm", None),
    ("1/2 cm", None),
    ("T1", None),
    ("grade 2b", None),
    # words
    ("two", bare(2)),
    ("Twenty", bare(20)),
    ("zero polyps", bare(0)),
    ("two mm", mm(2)),
    ("there are three polyps.", bare(3)),
    ("twenty-one", None),
    ("one hundred", None),
    ("two dozen", None),
    ("one and a half cm", None),
    ("none", None),  # contains "one"
    ("someone", None),
    ("not 2", None),
    # approximations
    ("approx. 7 mm", mm(7)),
    ("~7mm", mm(7)),
    ("about seven mm", mm(7)),
    # ranges
    ("5-10mm", mm(5, 10)),
    ("5–10 mm", mm(5, 10)),
    ("5 — 10 mm", mm(5, 10)),
    ("5mm-10mm", mm(5, 10)),
    ("5mm-1cm", mm(5, 10)),
    ("0.5-1cm", mm(5, 10)),
    ("0,5 to 1,0 cm", mm(5, 10)),
    ("from 5 to 10 mm", mm(5, 10)),
    ("between 5 and 10 mm", mm(5, 10)),
    ("between two and three", bare(2, 3)),
    ("2-3", bare(2, 3)),
    ("-5 to -3", bare(-5, -3)),
    ("10-5mm", None),  # descending
    ("5mm-10", None),  # ten of what?
    # bounds
    ("<5mm", below(5, True)),
    ("< 5 mm", below(5, True)),
    ("less than 5 mm", below(5, True)),
    ("≤5mm", below(5, False)),
    ("<= 0.5cm", below(5, False)),
    ("at most 5 mm", below(5, False)),
    (">20mm", above(20, True)),
    ("larger than 2 cm", above(20, True)),
    ("≥ 2 cm", above(20, False)),
    (">=2cm", above(20, False)),
    ("at least two", above(2, False, bare)),
    ("no more than 2", below(2, False, bare)),
    ("20+ mm", None),
    ("5 mm or more", None),
    (">5-10mm", None),
    ("<answer>5mm</answer>", None),
    # several numbers
    ("5mm and 10mm", None),
    ("5 and 10 mm", None),
    ("12 mm and 3 cm", None),
    ("3 x 4 mm", None),
    ("5 ± 1 mm", None),
    ("1 cm 5 mm", None),
    ("two or three", None),
    ("2 polyps of 5 mm", None),
    ("", None),
    ("not relevant", None),
]


def test_the_table_of_number_texts_is_long_and_has_no_repeats():
    assert len(QUANTITIES) >= 60
    assert len({text for text, _ in QUANTITIES}) == len(QUANTITIES)


@pytest.mark.parametrize("text, expected", QUANTITIES)
def test_parse_quantity(text, expected):
    assert parse_quantity(text) == expected


@pytest.mark.parametrize(
    "text, number",
    [
        ("10mm", 10),
        ("1 cm", 10),
        ("two", 2),
        ("0", 0),
        ("5-10mm", None),
        ("<5mm", None),
        ("3 x 4", None),
        ("none", None),
    ],
)
def test_extract_number_takes_single_numbers_only(text, number):
    assert extract_number(text) == number


@pytest.mark.parametrize("text, quantity", QUANTITIES)
def test_extract_number_of_the_whole_table(text, quantity):
    """The number of a single measurement or count; ranges, bounds and unreadable texts have none."""
    assert extract_number(text) == (quantity.lo if quantity is not None and quantity.lo == quantity.hi else None)


def test_extract_number_survives_10_000_fuzzed_strings():
    rng = random.Random(0)
    pieces = [*"0123456789.,-–−<>≤≥=+~±×/;%eE^²½٣五 \n\t\0", "to", "between", "and", "none"]
    pieces += [*quantities.NUMBER_WORDS, *quantities.COMPARISONS, *quantities.MM_PER_UNIT]
    found = Counter()
    for _ in range(10_000):
        text = "".join(rng.choice(pieces) if rng.random() < 0.9 else chr(rng.randrange(0x110000)) for _ in range(rng.randint(0, 25)))
        number = extract_number(text)
        assert number is None or (isinstance(number, float) and math.isfinite(number))
        found[number is None] += 1
    assert found[False] > 100, "fuzz that never makes a number tests nothing"


NUMBERISH = st.text(alphabet="0123456789.,-–<>≤≥=+~±×/;%eE mcµ ", max_size=30)
WORDY = st.lists(
    st.sampled_from([*quantities.NUMBER_WORDS, *quantities.COMPARISONS, *quantities.MM_PER_UNIT, "to", "and", "between", "5", "1,5"]),
    max_size=8,
)


@settings(property_test, max_examples=1500)
@given(st.one_of(st.text(max_size=40), NUMBERISH, WORDY.map(" ".join), WORDY.map("".join)))
def test_the_parser_never_raises_and_returns_sound_intervals(text):
    quantity = parse_quantity(text)
    number = extract_number(text)
    if quantity is None:
        assert number is None
        return
    assert quantity.lo <= quantity.hi and quantity.unit in (None, "mm")
    assert not (math.isnan(quantity.lo) or math.isnan(quantity.hi))
    assert number == (quantity.lo if quantity.lo == quantity.hi else None)


@pytest.mark.parametrize("text", ["9" * 5000, "1." * 3000, "-" * 5000, "5 to " * 2000, "1e" + "9" * 400, "between " * 1000])
def test_the_parser_stands_long_texts(text):
    assert parse_quantity(text) is None


@property_test
@given(st.integers(0, 10**6))
def test_a_millimetre_value_reads_the_same_in_every_unit(micrometres):
    texts = [
        f"{micrometres} µm",
        f"{micrometres / 1000:.3f}mm",
        f"{micrometres / 10_000:.4f} cm",
        f"{micrometres / 10**6:.6f} M",
    ]
    assert {extract_number(text) for text in texts} == {micrometres / 1000}
