"""Numbers, matching and sums, against hand-made cases and properties.

python -m pytest tests/data/test_matching.py -v
"""

import inspect
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import EvalConfig
from data import matching
from data.matching import is_correct, is_empty, judge, normalize_answer
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
    ("count_numeric", "0", "none", False),
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
TOLERANCES = st.builds(EvalConfig, numeric_rel_tol=st.floats(0, 2), numeric_abs_tol=st.floats(0, 30), count_abs_tol=st.integers(0, 3))
ROWS = st.lists(st.fixed_dictionaries({"qtype": TYPES, "gt": ANSWERS, "pred": st.none() | ANSWERS}), min_size=1, max_size=12)


@settings(property_test, max_examples=500)
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
