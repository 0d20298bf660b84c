"""Numbers with units, against hand-made texts and properties.

python -m pytest tests/data/test_quantities.py -v
"""

import math
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.language import table
from data.matching import normalize_answer
from data.quantities import Quantity, _words, extract_number, parse_count, parse_quantity

property_test = settings(max_examples=150, deadline=None, database=None)
INF = math.inf
WORDS = _words(("en",))


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
    ("5 ms", None),  # a number of something else
    ("5 mmol", None),
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
    ("1,500 mm", None),  # 1.5 to some, 1500 to others
    ("1,000", None),
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
    ("twenty-one", bare(21)),
    ("twenty-five", bare(25)),
    ("thirty", bare(30)),
    ("ninety nine polyps", bare(99)),
    ("twenty five mm", mm(25)),
    ("a hundred", None),  # a round number, more often than a count
    ("one hundred", None),
    ("twenty-third", None),
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


# Sentences in which a real 7B model counted, and their like.
SENTENCES = [
    ("There are two findings present in the image.", bare(2)),
    ("Two tools are visible.", bare(2)),
    ("One tool is visible.", bare(1)),
    ("Three scalpels.", bare(3)),
    ("There is 1 polyp visible in this endoscopic image.", bare(1)),
    ("There’s one polyp.", bare(1)),
    ("The image shows two instruments.", bare(2)),
    ("I can see three polyps", bare(3)),
    ("The number of polyps is 3.", bare(3)),
    ("Number of polyps: 3", bare(3)),
    ("There are a total of 3 polyps.", bare(3)),
    ("The answer is 2.", bare(2)),
    ("**2**", bare(2)),
    ("only one", bare(1)),
    ("The polyp is approximately 5 mm in diameter.", mm(5)),
    ("The polyp measures about 5-10mm", mm(5, 10)),
    ("The lesion is <5 mm.", below(5, True)),
    ("The size of the polyp is between 5 and 10 mm.", mm(5, 10)),
    ("It appears to be 11-20 mm in size.", mm(11, 20)),
    ("Based on the image, there are 2 polyps.", bare(2)),
    ("The polyp's size is in the range of 5 to 10 mm", mm(5, 10)),
    ("estimated at 5mm", mm(5)),
    ("a small, sessile polyp of 5mm", mm(5)),
    ("5 mm or so", mm(5)),
]
# Bounds, however they are said; none of them is the number itself.
BOUNDS = [
    ("＜5mm", below(5, True)),
    ("shorter than 5 mm", below(5, True)),
    ("max 5 mm", below(5, False)),
    ("a maximum of 5 mm", below(5, False)),
    ("not exceeding 5 mm", below(5, False)),
    ("less than or equal to 5 mm", below(5, False)),
    ("≦5mm", below(5, False)),
    ("longer than 5 mm", above(5, True)),
    ("in excess of 5mm", above(5, True)),
    ("exceeding 5mm", above(5, True)),
    ("min. 5 mm", above(5, False)),
    ("minimum 5", above(5, False, bare)),
    ("There are no fewer than two polyps", above(2, False, bare)),
]
# However a model leads to a number, says it twice, quotes it or closes it.
FORMS = [
    *((text, bare(2)) for text in ("two (2)", "2 (two)", "two (2) polyps", "2 [two]", "two polyps (2)", "There are two (2) polyps.")),
    ("5 mm (0.5 cm)", mm(5)),
    ("<5 mm (less than 0.5 cm)", below(5, True)),
    ("5-10 mm (0.5-1 cm)", mm(5, 10)),
    *((f"{lead} 2 polyps.", bare(2)) for lead in ("It seems there are", "It looks like there are", "It appears that there are")),
    *(
        (f"{lead} 2 polyps", bare(2))
        for lead in ("There appear to be", "I can identify", "I can only see", "We detect", "I can clearly spot")
    ),
    *((text, bare(1)) for text in ("a single polyp", "There is a single polyp.", "single", "only one single polyp", "a solitary lesion")),
    *((text, bare(2)) for text in ('"2"', "'2'", "“2”", "“two”", 'The answer is "2".', '"2" polyps')),
    *((text, bare(2)) for text in ("2?", "two?", "2 ?", '"two?"', "two!", "two。", "two:")),
    ("5 mm?", mm(5)),
    ("<5 mm?", below(5, True)),
]
# A word or sign that isn't in the table: no number was said.
NO_NUMBERS = """
≠5mm | !=5 | ≮5 | +5 | ±5 | #5 | $5 | ?5 | 5- | 5° | 5x | 5:1 | 5 % | 5 per cent
up to about 5mm | at least roughly 5 | between 2 | from 5 | 5 to | than 5
isn't 1 | isn’t 1 | not 5 | no 5 mm | never 5 | without 5 | doesn't have one | can't be 5 | cannot see 5 | 5 are not visible | 5 missing
no one can tell | no one | another one | the one | this one | every one | neither one | one another | one-sided | all but one
there are many, one of them large | one of the polyps | 1 of 3 | two of them | half of 5 | one or more | two more polyps | two other polyps
maybe 5 | might be 5 | could be 5 mm | can be 5 | probably 5 | possibly two polyps | either 5 | 5 or | if 5
hardly 5 | barely 5 | almost 5 mm | nearly 5 mm | nearly five times | twice 5 | 5 times | double 5
5 inches | 5 feet | 5 mm/s | 5 mm3 | 5 mm^3 | 5 square mm | 5 mm squared | 5 mmHg | 5 km | 5 ml | 5 pixels | 5 minutes | 5 years old
5th | 5 th | grade 5 | number 5 | polyp 2 | image 5 | no. 5 | 2. polyp | minus 5 | 5 dozen | five hundred | twenty-five percent
5 mm or so larger | 5 mm smaller | 5 mm below | 5 mm away | 5 mm apart | 5 mm from the anal verge | 5 mm and above | two large polyps
a polyp with 2 lesions | the instrument has 2 hooks | in the 2 images
2' | 2" | 2” | 2’ | 2 " | 2'' | it's 2' | 2-3" | The answer is 2".
five to 5mm | 5mm to 5mm | 5-5 mm | between 2 and two | two to two
two (3) | 2 (5 mm) | 5 mm (5 cm) | 5 mm (5) | two (not 2) | two (2) or 3 | two (2) (3) | polyp (2) | 2 (?) | couple (2)
2 polyps? | is it 2? | are there two polyps? | about 5 mm? | 5 (mm?)
the single polyp | every single one | not a single polyp | a single 5 mm polyp | single-use | it looks like 2
"""
QUANTITIES += [*SENTENCES, *BOUNDS, *FORMS]
QUANTITIES += [(text.strip(), None) for text in NO_NUMBERS.replace("\n", " | ").split(" | ") if text.strip()]


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


COUNTED = "How many polyps are in the image?"
COUNTS = [
    ("0", 0),
    ("zero", 0),
    ("none", 0),
    ("None.", 0),
    ("nil", 0),
    ("no polyp", 0),
    ("no polyps", 0),
    ("There are no polyps in the image.", 0),
    ("No polyps are visible.", 0),
    ("No visible polyps", 0),
    ("There aren't any polyps.", 0),
    ("None of the polyps are visible", 0),
    ("no evidence of polyps", 0),
    ("no lesions", 0),  # a polyp is one
    ("two lesions", 2),
    ("0 (none)", 0),
    ("none (0)", 0),
    ("0 (no polyps)", 0),
    ("None?", 0),
    ("none。", 0),
    ("no evidence of a polyp", 0),
    ("2", 2),
    ("2.0", 2),
    ("twenty-five", 25),
    ("There are two polyps in the image.", 2),
    # of something else
    ("no instruments", None),
    ("no ulcers", None),
    ("two ulcers", None),
    ("There are two instruments.", None),
    ("2 images", None),
    ("no image", None),
    # no zero, and no whole number
    ("no", None),
    ("nothing", None),
    ("not none", None),
    ("none or one", None),
    ("not relevant", None),
    ("no one can tell", None),
    ("no idea", None),
    ("no more polyps", None),
    ("no other polyps", None),
    ("no polyps but one", None),
    ("no polyps, possibly", None),
    ("no 2 polyps", None),
    ("no polyps?", None),
    ("Are there none?", None),
    ("none (1)", None),
    ("no (0)", None),
    ("-1", None),
    ("2.5", None),
    ("2mm", None),
    ("2-3", None),
    ("<2", None),
    ("", None),
]


@pytest.mark.parametrize("text, count", COUNTS)
def test_parse_count(text, count):
    assert parse_count(text, COUNTED) == count and type(parse_count(text, COUNTED)) is type(count)


@pytest.mark.parametrize("label", ["2", "5mm", "snare", "two"])
@pytest.mark.parametrize("closing", ["?", ".", "!", "?!", "…", "。", ":", " ?"])
def test_what_closes_a_bare_answer_is_dropped_as_from_a_label(label, closing):
    """One rule: `two?` is two, as `snare?` is snare; normalising and reading numbers agree."""
    assert normalize_answer(label + closing) == label
    assert parse_quantity(label + closing) == parse_quantity(label)


@property_test
@given(st.integers(0, 99), st.integers(0, 99))
def test_a_number_said_twice_counts_where_both_agree(first, second):
    words = [word for word, value in WORDS.numbers.items() if value == second][0]
    expected = first if first == second else None
    assert parse_count(f"{first} ({words})") == parse_count(f"{words} ({first})") == expected


def test_without_a_question_anything_is_counted():
    assert parse_count("There are no instruments") == parse_count("no polyps") == 0 and parse_count("two scalpels") == 2
    assert parse_count("no sutures") is parse_count("two sutures") is None  # the table doesn't know the word


@pytest.mark.parametrize(
    "question, text, count",
    [
        ("How many sutures are placed?", "Two sutures are placed.", 2),
        ("How many sutures are placed?", "One suture.", 1),
        ("How many sutures are placed?", "no sutures", 0),
        ("How many tools are visible in this scene?", "Three scalpels.", 3),
        ("How many tools are visible in this scene?", "No instruments.", 0),
        ("How many tools are visible in this scene?", "No scalpel.", None),  # but perhaps a grasper
        ("How many scalpels are visible?", "No scalpel.", 0),
        ("How many scalpels are visible?", "Two graspers.", None),
        ("How many findings are present?", "two polyps", 2),
        ("How many findings are present?", "no polyps", None),
        ("How many times is the needle passed?", "2 needles", 2),
        ("How many polyps are larger than 5 mm?", "2 larger", None),
        ("How many polyps are not visible?", "2 are not visible", None),
        ("How many polyps are there, at most two?", "most 2", None),
        ("How many of the two polyps remain?", "two of two", None),
        ("How many dozens of polyps may remain?", "2 dozen", None),
        ("How many dozens of polyps may remain?", "may remain 2", None),
        ("How many inches is the cut long?", "5 inches", 5),
    ],
)
def test_a_question_lends_its_words_but_none_that_changes_a_number(question, text, count):
    assert parse_count(text, question) == count


def test_no_word_outside_the_table_may_stand_beside_a_number():
    """Every single word of a clinical vocabulary that nobody listed."""
    for word in "bleeding margin approximate anterior suspicious severe post cm2 mmhg inch frames kg lateral roughly5 gt lt neq".split():
        assert parse_quantity(f"{word} 5 mm") is parse_quantity(f"5 mm {word}") is None, word


@property_test
@given(st.integers(0, 99))
def test_number_words_to_ninety_nine(number):
    ones, tens = table()["ones"], table()["tens"]
    word = ones[number] if number < 20 else " ".join([tens[number // 10 - 2], *([ones[number % 10]] if number % 10 else [])])
    assert extract_number(word) == extract_number(word.replace(" ", "-")) == parse_count(f"There are {word} polyps.") == number


def test_extract_number_survives_10_000_fuzzed_strings():
    rng = random.Random(0)
    pieces = [*"0123456789.,-–−<>≤≥=+~±×/;%eE^²½٣五 \n\t\0", "to", "between", "and", "none"]
    pieces += [*WORDS.numbers, *WORDS.comparisons, *WORDS.mm_per_unit]
    found = Counter()
    for _ in range(10_000):
        text = "".join(rng.choice(pieces) if rng.random() < 0.9 else chr(rng.randrange(0x110000)) for _ in range(rng.randint(0, 25)))
        number = extract_number(text)
        assert number is None or (isinstance(number, float) and math.isfinite(number))
        found[number is None] += 1
    assert found[False] > 100, "fuzz that never makes a number tests nothing"


NUMBERISH = st.text(alphabet="0123456789.,-–<>≤≥=+~±×/;%eE mcµ ", max_size=30)
WORDY = st.lists(
    st.sampled_from([*WORDS.numbers, *WORDS.comparisons, *WORDS.mm_per_unit, "to", "and", "between", "5", "1,5"]),
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


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "1." * 3000, "-" * 5000, "5 to " * 2000, "1e" + "9" * 400, "between " * 1000, "there is " * 2000, "no polyp " * 2000],
)
def test_the_parser_stands_long_texts(text):
    start = time.process_time()
    assert parse_quantity(text) is None and parse_count(text, text) is None
    assert time.process_time() - start < 2


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


@pytest.mark.parametrize("text", ["2; polyp snare", "polyp snare; 2", "none; polyp", "polyp；2", "5-10mm; <5mm", "7 mm; polyp"])
def test_a_list_of_labels_is_no_number(text):
    assert parse_quantity(text, "How many?") is None and parse_count(text, "How many?") is None
    assert parse_quantity("2;") == parse_quantity("2")
