"""Options, lists, matching and sums, against hand-made cases and properties.

python -m pytest tests/data/test_matching.py -v
"""

import inspect
import unicodedata
from types import ModuleType

import pytest
from data_sets import read
from hypothesis import given, settings
from hypothesis import strategies as st

from config import EvalConfig
from data import matching
from data.matching import (
    conventions_of,
    is_correct,
    is_empty,
    is_junk,
    judge,
    labels_of,
    languages_of,
    looks_like_list,
    normalize_answer,
    option_text,
    references,
    split_labels,
    unsplit_lists,
    without_letters,
)
from evaluation.metrics import aggregate

NUMBERISH = st.text(alphabet="0123456789.,-–<>≤≥=+~±×/;%eE mcµ ", max_size=30)
EXACT = EvalConfig(numeric_rel_tol=0, numeric_abs_tol=0, count_abs_tol=0)
property_test = settings(max_examples=150, deadline=None, database=None)

# ---------------------------------------------------------------------------------------------------------------------
# Matching

MATCHES = [
    # equality after normalising
    ("yes_no", "yes", "Yes.", True),
    ("yes_no", "yes", "no", False),
    ("yes_no", "no", "none", False),
    ("yes_no", "no", "not relevant", False),
    ("color", "pink", " Pink ", True),
    ("color", "pink", "pinkish", False),
    ("mcq", "biopsy  forceps", "Biopsy Forceps", True),
    ("open_ended", "ulcerative colitis", "ulcerative col", False),
    ("open_ended", "10mm", "1cm", False),  # numbers are read in numeric types only
    ("open_ended", "two", "2", False),
    ("open_ended", "2", '"2"', True),  # in quotes, and not two inches
    ("open_ended", "2", '2"', False),
    ("instrument_type", "grasper", "Grasper", True),
    ("instrument_type", "grasper", "forceps", False),
    # label lists are sets
    ("color", "pink; red", "red;pink", True),
    ("color", "pink; red", "pink", False),
    ("color", "pink", "pink; red", False),
    ("color", "pink; red", "pink; pink", False),
    ("color", "pink; red", "pink; red; pink", True),
    ("color", "pink; red", "pink red", False),
    ("open_ended", "center; center-left", "Center-left; center", True),
    # sizes: single measurements within tolerance (5 %)
    ("size_numeric", "10mm", "1cm", True),
    ("size_numeric", "10mm", "10.5mm", True),
    ("size_numeric", "10mm", "9.5 mm", True),
    ("size_numeric", "10mm", "10.6mm", False),
    ("size_numeric", "10mm", "9.4mm", False),
    ("size_numeric", "11mm", "11.55mm", True),
    ("size_numeric", "20mm", "19mm", True),
    ("size_numeric", "19mm", "20mm", False),  # 5 % of the truth, not of the prediction
    ("size_numeric", "0mm", "0 cm", True),
    ("size_numeric", "0mm", "0.01mm", False),
    ("size_numeric", "7 mm", "a polyp of approx. 7 mm", True),
    # a bare number is not mm
    ("size_numeric", "10mm", "10", False),
    ("size_numeric", "10", "10mm", False),
    ("size_numeric", "10", "10.0", True),
    ("size_numeric", "10", "10.4", True),
    ("size_numeric", "10", "11", False),
    ("size_numeric", ">20", ">20mm", False),
    # ranges and bounds are classes
    ("size_numeric", "5-10mm", "5–10 mm", True),
    ("size_numeric", "5-10mm", "0.5-1cm", True),
    ("size_numeric", "5-10mm", "between 5 and 10 mm", True),
    ("size_numeric", "5-10mm", "5-10.1mm", False),
    ("size_numeric", "5-10mm", "7mm", False),
    ("size_numeric", "5-10mm", "5-10", False),
    ("size_numeric", "11-20mm", "11-2", False),
    ("size_numeric", "<5mm", "< 0.5 cm", True),
    ("size_numeric", "<5mm", "5mm", False),
    ("size_numeric", "<5mm", "≤5mm", False),
    ("size_numeric", "<5mm", ">5mm", False),
    ("size_numeric", "<5mm", "<5.1mm", False),
    ("size_numeric", "≤5mm", "<=5 mm", True),
    ("size_numeric", ">20mm", "≥20mm", False),
    ("size_numeric", "20mm", ">20mm", False),
    # words that are answers
    ("size_numeric", "none", "None.", True),
    ("size_numeric", "none", "0mm", False),
    ("size_numeric", "not relevant", "not  relevant", True),
    ("size_numeric", "none", "not relevant", False),
    # lists of sizes
    ("size_numeric", "5-10mm;<5mm", "< 5 mm; 0.5-1 cm", True),
    ("size_numeric", "5-10mm; <5mm", "5-10mm", False),
    ("size_numeric", "5-10mm", "5-10mm; <5mm", False),
    ("size_numeric", "5mm; 0.5cm", "5 mm", True),
    ("size_numeric", "5mm; none", "0.5 cm; none", True),
    ("size_numeric", "5mm; none", "0.5 cm; not relevant", False),
    # two unrelated numbers
    ("size_numeric", "5mm", "5mm and 10mm", False),
    ("size_numeric", "5mm", "5mm 10mm", False),
    ("size_numeric", "5mm; 10mm", "5mm and 10mm", False),
    ("size_numeric", "3 x 4 mm", "3 x 4 mm", True),
    ("size_numeric", "3 x 4 mm", "3 mm", False),
    # counts
    ("count_numeric", "2", "2.0", True),
    ("count_numeric", "2", "two", True),
    ("count_numeric", "two", "There are 2 polyps.", True),
    ("count_numeric", "0", "zero", True),
    ("count_numeric", "0", "none", True),
    ("count_numeric", "0", "no", False),
    ("size_numeric", "0", "none", False),
    ("count_numeric", "1", "2", False),
    ("count_numeric", "20", "21", False),  # 5 % are for millimetres
    ("count_numeric", "20", "20.4", False),
    ("count_numeric", "2", "2.5", False),
    ("count_numeric", "2", "2 or 3", False),
    ("count_numeric", "2", "2 2", False),
    ("count_numeric", "2", "2mm", False),
    ("count_numeric", "1", "-1", False),
    ("count_numeric", "2-3", "2 to 3", True),
    ("count_numeric", "2-3", "2", False),
    ("count_numeric", ">10", "more than ten", True),
    ("count_numeric", ">10", "10", False),
    # empty is never correct
    ("open_ended", "none", "", False),
    ("open_ended", "", "", False),
    ("open_ended", "", None, False),
    ("open_ended", ".", "...", False),
    ("size_numeric", "none", None, False),
    ("size_numeric", "", " ; ", False),
    ("count_numeric", "0", "", False),
    ("yes_no", "no", " \n", False),
    ("size_numeric", "", "5mm", False),
]


@pytest.mark.parametrize("question_type, gt, pred, expected", MATCHES)
def test_is_correct(question_type, gt, pred, expected):
    assert is_correct(question_type, gt, pred) is expected


@pytest.mark.parametrize(
    "question_type, gt, pred, tolerances, expected",
    [
        ("size_numeric", "10mm", "11mm", EvalConfig(numeric_abs_tol=1), True),
        ("size_numeric", "10mm", "1.11cm", EvalConfig(numeric_abs_tol=1), False),
        ("size_numeric", "100mm", "105mm", EvalConfig(numeric_abs_tol=1), True),  # the larger tolerance holds
        ("size_numeric", "10mm", "10.1mm", EXACT, False),
        ("size_numeric", "11mm", "1.1cm", EXACT, True),
        ("size_numeric", "<5mm", "<5.5mm", EvalConfig(numeric_abs_tol=1), False),
        ("count_numeric", "2", "3", EvalConfig(numeric_abs_tol=5, numeric_rel_tol=1), False),
        ("count_numeric", "2", "3", EvalConfig(count_abs_tol=1), True),
        ("count_numeric", "2", "4", EvalConfig(count_abs_tol=1), False),
        ("count_numeric", "2", "2.5", EvalConfig(count_abs_tol=1), False),
        ("size_numeric", "2mm", "3mm", EvalConfig(count_abs_tol=5), False),
    ],
)
def test_each_type_has_its_own_tolerance(question_type, gt, pred, tolerances, expected):
    assert is_correct(question_type, gt, pred, tolerances) is expected


TYPES = st.sampled_from(["yes_no", "color", "count_numeric", "size_numeric", "mcq", "open_ended", "instrument_type"])
LABELS = st.one_of(
    st.sampled_from(
        [
            "yes",
            "none",
            "pink",
            "red",
            "5-10mm",
            "<5mm",
            "5 mm",
            "0.5cm",
            "10mm",
            "1 cm",
            "10.4mm",
            "2",
            "two",
            "3 x 4",
            ">20",
            ".",
        ]
    ),
    st.text(max_size=8),
    NUMBERISH,
)
ANSWERS = st.lists(LABELS, max_size=4).map("; ".join)
TOLERANCES = st.builds(EvalConfig, numeric_rel_tol=st.floats(0, 0.5), numeric_abs_tol=st.floats(0, 30), count_abs_tol=st.integers(0, 3))
ROWS = st.lists(st.fixed_dictionaries({"qtype": TYPES, "gt": ANSWERS, "pred": st.none() | ANSWERS}), min_size=1, max_size=12)


@settings(property_test, max_examples=200)
@given(TYPES, ANSWERS, ANSWERS, TOLERANCES, TOLERANCES)
def test_tolerance_never_lowers_the_score(question_type, gt, pred, small, extra):
    large = EvalConfig(**{key: value + getattr(extra, key) for key, value in small.model_dump().items()})
    equal = normalize_answer(gt) == normalize_answer(pred) != ""
    assert equal <= is_correct(question_type, gt, pred, EXACT) <= is_correct(question_type, gt, pred, small)
    assert is_correct(question_type, gt, pred, small) <= is_correct(question_type, gt, pred, large)


@settings(property_test, max_examples=300)
@given(TYPES, st.lists(LABELS, max_size=4), st.lists(LABELS, max_size=4), st.randoms(use_true_random=False))
def test_label_order_never_matters(question_type, gt, pred, rng):
    expected = is_correct(question_type, "; ".join(gt), "; ".join(pred))
    rng.shuffle(gt)
    rng.shuffle(pred)
    assert is_correct(question_type, ";".join(gt), ";".join(pred)) is expected


# ---------------------------------------------------------------------------------------------------------------------
# Options and their letters


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["A:Forceps", "B:Snare", "C:Clip", "D:Needle"], ["forceps", "snare", "clip", "needle"]),
        (["(a) forceps", "(b) snare"], ["forceps", "snare"]), (["1. tube", "2. clip"], ["tube", "clip"]),
        (["A. x", "B. y"], ["x", "y"]), (["A) x", "B) y"], ["x", "y"]), (["[A] x", "[B]: y"], ["x", "y"]),
        (["a - x", "b – y"], ["x", "y"]), (["Ａ：肺", "Ｂ、心"], ["肺", "心"]), (["Option A: x", "Option B: y"], ["x", "y"]),
        (["A:5 mm", "B:10 mm"], ["5 mm", "10 mm"]), (["1: 5 mm", "2: 10 mm"], ["5 mm", "10 mm"]),
        (["A: clip; sponge", "B: none"], ["clip; sponge", "none"]),
    ],
)  # fmt: skip
def test_options_lose_letters_that_all_of_them_carry(options, texts):
    assert without_letters(options) == texts
    assert [option_text(option, options) for option in options] == texts, "whole, an option is itself"


@pytest.mark.parametrize(
    "options",
    [
        ["1. tube", "clip"], ["a clip", "b cell"], ["B cell", "T cell"], ["B: x", "C: y"], ["A: x", "C: y"], ["B: x", "A: y"],
        ["1 mm", "2 mm"], ["1.5 cm", "2.5 cm"], ["1-2 mm", "2-3 mm"], ["1 - 2 mm", "2 - 3 mm"], ["1:1", "2:1"], ["C-arm", "laser"],
        ["A-scan", "B-scan"], ["a", "b"], ["a)", "b)"], ["a: x", "b: x"], ["a: x"],
    ],
)  # fmt: skip
def test_what_is_no_label_stays(options):
    assert without_letters(options) == [option.lower() for option in options]


TOOLS = ["forceps", "snare", "scissors", "grasper"]
MEANS_SNARE = ["B", "b", "(B)", "[B]", "B.", "B)", "B:", " b ", "Ｂ", "（Ｂ）", "**B**", "__B__", "`B`", "B\u200b", "B<|im_end|>"]
MEANS_SNARE += ["Option B", "option (b)", "Answer: B", "Choice B.", "B: Snare", "B:snare", "B. snare", "B) snare", "(B) snare"]
MEANS_SNARE += ["B - snare", "B, Snare.", "**B.** snare", "**B: Snare**", "Option B: snare", "Snare", "snare."]
MEANS_NONE = ["E", "2", "2.", "A: snare", "B: forceps", "B or C", "B and C", "B because", "a snare", "bsnare", "not B", "the b", "", "()"]


def test_an_option_is_named_by_text_letter_or_both_and_by_nothing_else():
    for options in (TOOLS, ["A:Forceps", "B:Snare", "C:Scissors", "D:Grasper"], ["1. Forceps", "2. snare", "3. x", "4. y"]):
        assert {text: option_text(text, options) for text in MEANS_SNARE} == dict.fromkeys(MEANS_SNARE, "snare")
    assert {text: option_text(text, TOOLS) for text in MEANS_NONE} == {text: normalize_answer(text) for text in MEANS_NONE}


@pytest.mark.parametrize(
    ("text", "options", "means"),
    [
        ("B", ["B", "A"], "b"), ("(B)", ["B", "A"], "b"), ("B.", ["B", "A"], "b"), ("A: B", ["B", "A"], "b"), ("b", ["x", "y"], "y"),
        ("2", ["1. tube", "2. clip"], "clip"), ("(2) clip", ["1. tube", "2. clip"], "clip"),
        ("2", ["2", "1"], "2"), ("(2)", ["2", "1"], "2"),
        ("2: tube", ["1. tube", "2. clip"], "2: tube"), ("A", ["1. B", "2. A"], "a"), ("2", ["1. B", "2. A"], "a"),
        ("gray", ["white", "grey"], "grey"), ("grey", ["white", "Gray"], "gray"), ("B: gray", ["white", "grey"], "grey"),
        ("b cell", ["t cell", "b cell"], "b cell"), ("c-arm", ["laser", "C-arm"], "c-arm"), ("a clip", ["sponge", "a clip"], "a clip"),
        ("12", [f"{number}. item {number}" for number in range(1, 13)], "item 12"), ("10 mm", ["5mm", "10mm"], "10mm"),
        ("10mm", ["5 mm", "10 mm"], "10 mm"),
    ],
)  # fmt: skip
def test_an_options_own_text_comes_before_its_letter(text, options, means):
    assert option_text(text, options) == means


words = st.text(alphabet="defgnort ", min_size=2, max_size=12).filter(lambda text: len(text.replace(" ", "")) > 1)
forms = st.sampled_from(["{}: {}", "{}:{}", "({}) {}", "{}. {}", "{}) {}", "[{}] {}", "{} - {}"])


@property_test
@given(st.lists(words, min_size=2, max_size=8, unique_by=normalize_answer), forms, forms, st.sampled_from([str.upper, str.lower]))
def test_letters_change_nothing_but_the_writing(texts, form, other, case):
    texts = [normalize_answer(text) for text in texts]
    letters = [case(letter) for letter in "abcdefgh"[: len(texts)]]
    options = [form.format(letter, text) for letter, text in zip(letters, texts)]
    assert without_letters(options) == without_letters(texts) == texts
    for given_options in (options, texts):
        assert [option_text(letter, given_options) for letter in letters] == texts
        assert [option_text(other.format(letter, text), given_options) for letter, text in zip(letters, texts)] == texts
        contradictions = [other.format(letter, text) for letter, text in zip(letters, texts[1:] + texts[:1])]
        assert not {option_text(text, given_options) for text in contradictions} & set(texts)


def test_judge_reads_the_options_of_a_row():
    row = {"gt": "snare", "qtype": "mcq", "question": "Which tool is used?", "options": TOOLS}
    said = ["B", "b", "(B)", "B.", "B. snare", "snare", "A", "", "A: snare", None]
    assert [item["correct"] for item in judge([{**row, "pred": pred} for pred in said])] == [True] * 6 + [False] * 4
    lettered = {**row, "options": ["A:Forceps", "B:Snare"], "gt": "B: Snare"}
    assert [item["correct"] for item in judge([{**lettered, "pred": pred} for pred in ("Snare", "b", "B:Snare", "A", "A:Snare")])] == [
        True, True, True, False, False,
    ]  # fmt: skip
    bare = {"gt": "snare", "pred": "B", "qtype": "mcq", "question": "Which tool is used?"}
    assert [item["correct"] for item in judge([bare, {**bare, "options": TOOLS}, bare])] == [False, True, False]


def test_several_options_are_a_list_of_nothing_else():
    assert list(labels_of("A, C", options=TOOLS)) == list(labels_of("scissors; a", options=TOOLS))[::-1] == ["forceps", "scissors"]
    assert list(labels_of("A, x", options=TOOLS)) == ["a, x"]
    assert is_correct("mcq", "forceps; scissors", "C, A", options=TOOLS) and not is_correct("mcq", "forceps", "A, C", options=TOOLS)
    assert is_correct("mcq", "pink; red", "red; pink", options=["pink; red", "white"])


# ---------------------------------------------------------------------------------------------------------------------
# Lists, references, junk


@pytest.mark.parametrize(
    ("text", "separators", "items"),
    [
        ("Clip;Sponge", [], ["clip", "sponge"]), ("clip, sponge", [], ["clip, sponge"]), ("clip , sponge,", [","], ["clip", "sponge"]),
        ("clip; sponge，tube", [","], ["clip", "sponge", "tube"]), ("1,5 cm", [","], ["1,5 cm"]),
        ("1,5 cm, 2 cm", [","], ["1,5 cm", "2 cm"]),
        ("clip and band", [" and "], ["clip", "band"]), ("clip, sponge and tube", [",", "and"], ["clip", "sponge", "tube"]),
        ("clip, and tube", [",", " AND "], ["clip", "tube"]), ("stop-and-go", ["and"], ["stop-and-go"]), ("1/2", ["/"], ["1/2"]),
        ("left/right", ["/"], ["left", "right"]), ("a | b", ["|", ""], ["a", "b"]), (" ; ,", [","], []),
        ("红色和白色", ["和"], ["红色", "白色"]),  # a word of a script that parts none
    ],
)  # fmt: skip
def test_split_labels(text, separators, items):
    assert split_labels(text, separators) == items


def test_separators_and_spellings_hold_for_their_question_alone():
    conventions = {"which tools are visible": {"separators": [","]}, "what size": {"spellings": {">20": ">20mm"}}}
    row = {"gt": "forceps, scissors", "qtype": "mcq", "question": "Which tools are visible?"}
    for pred, right in (("scissors, forceps", True), ("forceps , scissors", True), ("scissors;forceps", True), ("forceps", False)):
        for question, correct in ((row["question"], right), ("Which?", pred == "forceps, scissors")):
            assert judge([{**row, "pred": pred, "question": question}], EvalConfig(), conventions)[0]["correct"] is correct
    assert list(labels_of("Scissors, forceps", conventions["which tools are visible"])) == ["scissors", "forceps"]
    size = {"gt": ">20mm", "pred": ">20", "qtype": "size_numeric"}
    found = judge([{**size, "question": question} for question in ("What size?", "What score?")], EvalConfig(), conventions)
    assert [item["correct"] for item in found] == [True, False]


def test_labels_keep_their_own_text_and_conventions_hold_for_their_question_or_for_all():
    assert labels_of("10 MM; Gray") == {"10 mm": "10 mm", "grey": "grey"} and labels_of(None) == {} == labels_of(" ; ")
    assert labels_of(">20; a", {"spellings": {">20": ">20mm"}}) == {">20mm": ">20mm", "a": "a"}
    conventions = {"": {"languages": ("de",), "separators": [","]}, "which": {"separators": ["/"]}}
    assert conventions_of({"question": "Which?"}, conventions) == {"languages": ("de",), "separators": ["/"]}
    assert conventions_of({"question": "What?"}, conventions) == conventions_of({}, conventions) == conventions[""]
    assert conventions_of({"question": "Which?"}, {"which": {"separators": ["/"]}}) == {"separators": ["/"]}
    assert conventions_of({}, None) == {} and languages_of(None) == languages_of({}) == ("en",) and languages_of(conventions[""]) == ("de",)
    assert references({"gt": "a", "answers": ["b", "a", "nan", "b"]}) == ["a", "b"] and references({"gt": "nan"}) == ["nan"]


def test_words_of_the_data_s_languages_and_of_the_question_are_read():
    german = {"languages": ("de", "en")}
    assert is_correct("yes_no", "ja", "yes", convention=german) and not is_correct("yes_no", "ja", "yes")
    assert not is_correct("yes_no", "ja; a", "yes", convention=german) and not is_correct("mcq", "ja", "yes", convention=german)
    assert is_correct("count_numeric", "2", "zwei", convention=german) and not is_correct("count_numeric", "2", "zwei")
    assert is_correct("size_numeric", "20 mm", "zwei Zentimeter", convention=german) and not is_correct(
        "size_numeric", "20 mm", "zwei Zentimeter"
    )
    asked = "How many gizmos are there?"
    assert is_correct("count_numeric", "2", "2 gizmos", question=asked) and not is_correct(
        "count_numeric", "2", "2 widgets", question=asked
    )
    row = {"qtype": "count_numeric", "gt": "2", "pred": "2 gizmos"}
    assert [row["correct"] for row in judge([{**row, "question": asked}, {**row, "question": "How many snares?"}])] == [True, False]


@pytest.mark.parametrize(
    ("text", "listed"),
    [("one two three four five, six", True), ("one two three four five six, seven", False), ("1, 2", False), ("1, polyp", True)]
    + [("none, polyp", False), ("polyp, no", False)],
)
def test_what_looks_like_a_list(text, listed):
    assert looks_like_list(text) is listed


def test_lists_that_compare_as_text_are_counted():
    texts = ["forceps, scissors", "forceps; scissors", "forceps", "yes, there is", "1,5 cm", "a rather long clause of words, and another"]
    assert [looks_like_list(text) for text in texts] == [True, True, False, False, False, False]
    rows = [{"gt": text, "question": "Which tools?"} for text in texts]
    assert unsplit_lists(rows) == 1 == unsplit_lists(rows, {"which": {"separators": [","]}})
    assert unsplit_lists(rows, {"which tools": {"separators": [","]}}) == 0
    assert unsplit_lists([{**rows[0], "options": [texts[0], "clip"]}]) == 0


def test_the_best_of_several_references_counts():
    row = {"gt": "needle driver", "qtype": "open_ended", "question": "Which tool?", "answers": ["needle driver", "Large  Needle Driver"]}
    said = ["large needle driver", "needle driver", "driver", ""]
    assert [item["correct"] for item in judge([{**row, "pred": pred} for pred in said])] == [True, True, False, False]
    alone = {**row, "pred": said[0], "answers": None}
    assert [item["correct"] for item in judge([alone, {**alone, "answers": row["answers"]}, alone])] == [False, True, False]
    assert judge([{**row, "pred": "needle driver", "answers": ["another"]}])[0]["correct"], "gt is a reference, too"
    sizes = {"gt": "5mm", "qtype": "size_numeric", "answers": ["20mm", "1 cm"]}
    assert [item["correct"] for item in judge([{**sizes, "pred": pred} for pred in ("10.4mm", "11mm", "2cm")])] == [True, False, True]


@pytest.mark.parametrize("answer", [None, "", " . ", "nan", "NaN", " nan. ", "ｎａｎ", "nan; nan", []])
def test_a_missing_value_is_junk(answer):
    assert is_junk(answer)


@pytest.mark.parametrize("answer", ["none", "0", "no", "nan; polyp", "banana", "not relevant", "-"])
def test_an_answer_is_no_junk(answer):
    assert not is_junk(answer)


# ---------------------------------------------------------------------------------------------------------------------
# Adding up


def rows_of(*triples):
    return [{"qtype": qtype, "gt": gt, "pred": pred} for qtype, gt, pred in triples]


def test_aggregate_by_hand():
    rows = rows_of(
        ("zebra", "a", "a"),
        ("open_ended", "polyp", ""),
        ("open_ended", "polyp", None),
        ("open_ended", "polyp", "polyp"),
        ("open_ended", "polyp", "snare"),
        ("count_numeric", "2", "two"),
        ("yes_no", "yes", "yes"),
        ("yes_no", "yes", "no"),
    )
    scores = aggregate(judge(rows))
    assert scores == {
        "n": 8,
        "correct": 4,
        "micro": 0.5,
        "macro": (1 / 2 + 1 + 1 / 4 + 1) / 4,
        "per_type": {
            "yes_no": {"count": 2, "correct": 1, "accuracy": 0.5},
            "count_numeric": {"count": 1, "correct": 1, "accuracy": 1.0},
            "open_ended": {"count": 4, "correct": 1, "accuracy": 0.25},
            "zebra": {"count": 1, "correct": 1, "accuracy": 1.0},
        },
        "empty": 2,
    }
    assert list(scores["per_type"]) == ["yes_no", "count_numeric", "open_ended", "zebra"]


@property_test
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows, rng):
    expected = aggregate(judge(rows))
    shuffled = rng.sample(rows, len(rows))
    assert aggregate(judge(shuffled)) == expected
    assert list(aggregate(judge(shuffled))["per_type"]) == list(expected["per_type"])


@property_test
@given(ROWS)
def test_a_perfect_file_scores_100_percent(rows):
    perfect = [{**row, "pred": row["gt"]} for row in rows if normalize_answer(row["gt"])]
    if perfect:
        scores = aggregate(judge(perfect))
        assert (scores["micro"], scores["macro"], scores["empty"]) == (1, 1, 0)


@property_test
@given(ROWS, st.sampled_from(["", None, " ", ".", ";", "''", "\n;\t"]))
def test_an_empty_file_scores_nothing(rows, nothing):
    scores = aggregate(judge([{**row, "pred": nothing} for row in rows]))
    assert (scores["micro"], scores["macro"], scores["empty"]) == (0, 0, len(rows))
    assert is_empty(nothing)


def test_judge_keeps_the_rows_and_their_fields():
    rows = [{"id": "7", "qtype": "color", "gt": "Red", "pred": "red", "confidence": None}]
    assert judge(rows) == [{"id": "7", "qtype": "color", "gt": "Red", "pred": "red", "confidence": None, "correct": True}]
    assert "correct" not in rows[0]
    assert judge(rows_of(("size_numeric", "10mm", "11mm")), EvalConfig(numeric_abs_tol=1))[0]["correct"] is True


def test_the_documented_debug_line_works_in_the_matching_loop(capsys):
    anchor = 'pred, gt = row["pred"], row["gt"]\n'
    source = inspect.getsource(matching)
    assert source.count(anchor) == 1
    debug = """        print(f"Predicted: '{pred}' vs GT: '{gt}' -> Match: {pred == gt}")\n"""
    pasted = ModuleType("pasted")
    exec(source.replace(anchor, anchor + debug), pasted.__dict__)
    pasted.judge(rows_of(("yes_no", "yes", "yes"), ("count_numeric", "1", "2")))
    assert capsys.readouterr().out == "Predicted: 'yes' vs GT: 'yes' -> Match: True\nPredicted: '2' vs GT: '1' -> Match: False\n"


@pytest.mark.parametrize(
    "pred, right", [('2"', False), ("2'", False), ("2”", False), ('2 "', False), ('"2"', True), ("“2”", True), ("'2'", True)]
)
def test_a_quote_behind_a_number_is_feet_or_inches(pred, right):
    assert is_correct("count_numeric", "2", pred) is right


def test_the_last_label_of_a_list_loses_its_and():
    assert split_labels("clip, sponge, and gauze", [","]) == ["clip", "sponge", "gauze"]
    assert split_labels("and gauze", [","]) == ["and gauze"] and split_labels("clip, and so on; x") == ["clip, and so on", "x"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"), ("  NO ", "no"), ("Pink;red", "pink; red"), ("pink ;  red;", "pink; red"), (";", ""),
        (["Pink", "red"], "pink; red"), (("a;b", " ", "c"), "a; b; c"), ([], ""), ("<5mm", "<5mm"), (">20mm", ">20mm"),
        ("5-10mm;<5mm", "5-10mm; <5mm"), ("11–20mm", "11-20mm"), ("−3", "-3"), ("10.5 mm", "10.5 mm"), ("0", "0"),
        ("lower-rigth", "lower-rigth"), ("paris  iia\n", "paris iia"), ('"Polyp"', "polyp"),
        ("cafe\u0301", "café"), ("CAFÉ", "café"), ("upper-left;  center", "upper-left; center"), ("None", "none"),
        ("red; pink; red", "red; pink; red"), ("yes, it is", "yes, it is"), ("50 %", "50%"), ("", ""), (" . ", ""),
    ],
)  # fmt: skip
def test_normalisation_of_known_answers(answer, expected):
    assert normalize_answer(answer) == expected


@given(st.text() | st.lists(st.text(), max_size=4))
def test_normalisation_is_idempotent_and_nfc(answer):
    once = normalize_answer(answer)
    assert normalize_answer(once) == once == unicodedata.normalize("NFC", once)
    assert ";;" not in once and not once.startswith((" ", ";")) and not once.endswith((" ", ";"))


units = st.sampled_from(["", "mm", " mm", "cm", "%"])


numbers = st.integers(0, 999).map(str) | st.decimals(0, 99, places=1).map(str)


measures = st.builds("{}{}{}".format, st.sampled_from(["", "<", ">", "-"]), numbers, units)


ranges = st.builds("{}-{}{}".format, numbers, numbers, units)


@given(st.lists(measures | ranges | st.sampled_from(["none", "not relevant", "lower-left"]), min_size=1, max_size=4))
def test_normalisation_keeps_bounds_ranges_digits_and_units(items):
    assert normalize_answer(";".join(items)) == normalize_answer(items) == "; ".join(items)
    assert normalize_answer("; ".join(items).upper() + ".") == "; ".join(items)


def test_normalisation_keeps_a_leading_decimal_point():
    assert normalize_answer(".5 cm") == ".5 cm", "not ten times as much"


def test_real_answers_survive_normalisation(shared):
    distinct = {item["answer"] for item in read(shared / "real-data" / "kvasir_vqa" / "val.jsonl")}
    for answer in distinct:  # clean already, but for `;` without a space: nothing else may change
        assert normalize_answer(answer).replace("; ", ";") == answer.lower().strip().replace("; ", ";")
