"""The scores against hand-made cases, scikit-learn and properties.

python -m pytest tests/evaluation/test_metrics.py -v
"""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from config import EvalConfig
from data.matching import judge
from evaluation.intervals import macro_interval, wilson
from evaluation.metrics import (
    INVALID,
    OTHER,
    calibration,
    classification,
    compare_rows,
    confusion,
    greedy_comparison,
    group_scores,
    label_lists,
    measure,
    risk_coverage,
    strict_match,
)
from evaluation.truth import with_clusters

property_test = settings(max_examples=60, deadline=None, database=None)
QUESTIONS = {"yes_no": "Is it?", "color": "What color?", "count_numeric": "How many?", "size_numeric": "What size?", "mcq": "Which?"}
LABELS = ["yes", "no", "none", "pink", "red", "white", "5-10mm", "<5mm", "7 mm", "2", "three", "polyp snare"]


def row(qtype, gt, pred, **more):
    return {"qtype": qtype, "gt": gt, "pred": pred, "question": QUESTIONS.get(qtype), **more}


def compared(*rows, conventions=None):
    return compare_rows(judge([{"id": str(place), **item} for place, item in enumerate(rows)], EvalConfig(), conventions), conventions)


def measured(rows, conventions=None):
    judged = with_clusters(judge(rows, EvalConfig(), conventions), "rows")
    return measure(judged, compare_rows(judged, conventions))


def random_rows(rng, count):
    types = list(QUESTIONS)
    return [
        row(rng.choice(types), "; ".join(rng.sample(LABELS, rng.randint(1, 3))), rng.choice(["", None, *LABELS, "pink; red"]),
            id=str(place), image=f"{rng.randint(0, 9)}.png", confidence=rng.choice([None, rng.random(), 0.5]))
        for place in range(count)
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Single rows


@pytest.mark.parametrize(
    "gt, pred, expected",
    [
        ("Yes", "Yes", True),
        ("a  b", " a b\n", True),
        ("Yes", "yes", False),
        ("10mm", "10 mm", False),
        ("", "", False),
        ("none", None, False),
        (".", ".", False),
    ],
)
def test_strict_match_folds_white_space_only(gt, pred, expected):
    assert strict_match(gt, pred) is expected


def test_numbers_bins_and_millimetres_by_hand():
    items = compared(
        row("count_numeric", "2", "two"), row("count_numeric", "two", "3 polyps"),
        row("count_numeric", "2", "9"), row("count_numeric", "2", "many"),
        row("count_numeric", "many", "0"),  # no number in the truth
        row("size_numeric", "<5mm", "0.5-1 cm"), row("size_numeric", "5-10mm", "5-10mm"), row("size_numeric", "11-20mm", "<5mm"),
        row("size_numeric", ">20mm", "none"), row("size_numeric", "7mm", "1 cm"),
        row("size_numeric", "7mm", "6.5mm"), row("size_numeric", "7", "8mm"), row("size_numeric", "7", "9"),  # of what?
    )  # fmt: skip
    assert [item.number for item in items[:5]] == [(2, 2), (2, 3), (2, 9), (2, None), None]
    assert [item.bins for item in items[5:]] == [(0, 1), (1, 1), (2, 0), (3, None), None, None, None, None]
    assert [item.mm for item in items[5:]] == [None, None, None, None, 3.0, 0.5, None, None]
    scores = group_scores(items)
    assert scores["counts"] == {"count": 4, "exact": 0.25, "within_one": 0.5}
    assert scores["size_bins"] == {"count": 4, "exact": 0.25, "within_one": 0.5}
    assert scores["millimetres"] == {"count": 2, "mean_abs_error": 1.75, "median_abs_error": 1.75}
    assert group_scores(compared(row("size_numeric", "10mm", "1cm")))["millimetres"]["count"] == 1, "no distance is one, too"


# ---------------------------------------------------------------------------------------------------------------------
# Classes and lists


def test_rows_that_differ_in_their_options_or_question_alone_have_labels_of_their_own():
    items = compared(row("mcq", "b", "b", options=["x", "y"]), row("mcq", "b", "b", options=["b", "c"]), row("mcq", "b", "b"))
    assert [(item.gt, item.pred) for item in items] == [({"y"}, {"y"}), ({"b"}, {"b"}), ({"b"}, {"b"})]
    conventions = {"which": {"separators": [","]}, "where": {"spellings": {"a": "z"}}}
    items = compared(row("mcq", "a, b", "a"), row("mcq", "a, b", "a") | {"question": "Where?"}, conventions=conventions)
    assert [(item.gt, item.pred, item.listed) for item in items] == [({"a", "b"}, {"a"}, True), ({"a, b"}, {"z"}, False)]


def test_sizes_stand_in_their_order_and_numbers_are_read_in_the_data_s_languages():
    sizes = ["<5mm", "≤5mm", "5-10", "5-10mm", "5-20mm", "≥20mm", ">20mm"]
    items = compared(*(row("size_numeric", size, size) for size in reversed(sizes)))
    assert [item.bins for item in items] == [(place, place) for place in reversed(range(7))]
    german = {"": {"languages": ("de",)}}
    (size, count) = compared(row("size_numeric", "zwei Zentimeter", "eins cm"), row("count_numeric", "zwei", "drei"), conventions=german)
    assert (size.mm, count.number) == (10.0, (2, 3))
    (size,) = compared(row("size_numeric", "1.500-2.000 mm", "1500-2000 mm"), conventions=german)
    assert size.bins == (0, 0)
    (size, _) = compared(row("size_numeric", "5-10mm", "5-10mm"), row("mcq", "1-2mm", "x") | {"question": "What size?"})
    assert size.bins == (0, 0), "another type's truths are no bins"


def test_macro_f1_cannot_be_fooled_by_answers_nobody_gave():
    """Three classes, one of them always predicted: 0.33 balanced accuracy, and F1 over the labels of the truth."""
    gold = ["a", "b", "c"]
    fooled = classification(gold, ["a", "a", "a"])
    assert fooled == {
        "labels": 3,
        "invalid": 0,
        "balanced_accuracy": pytest.approx(1 / 3),
        "macro_f1": pytest.approx(0.5 / 3),
    }
    assert (
        classification(gold, ["a", None, None])["macro_f1"] == pytest.approx(1 / 3)
        and classification(gold, ["a", None, None])["invalid"] == 2
    )


def test_classification_is_scikit_learns_on_200_random_cases():
    rng = random.Random(1)
    for _ in range(200):
        names = LABELS[: rng.randint(2, 8)]
        gold = rng.choices(names, k=rng.randint(1, 40))
        pred = [rng.choice([*names, None]) if rng.random() < 0.6 else label for label in gold]
        pred = [label if label in gold else None for label in pred]
        said = [label or "(invalid)" for label in pred]
        scores, labels = classification(gold, pred), sorted(set(gold))
        assert scores["macro_f1"] == pytest.approx(sk.f1_score(gold, said, labels=labels, average="macro", zero_division=0))
        assert scores["balanced_accuracy"] == pytest.approx(sk.recall_score(gold, said, labels=labels, average="macro", zero_division=0))


def test_label_lists_are_scikit_learns_on_200_random_cases():
    rng = random.Random(2)
    for _ in range(200):
        rows = [
            row("color", "; ".join(rng.sample(LABELS, rng.randint(1, 4))), "; ".join(rng.sample(LABELS, rng.randint(1, 4))))
            for _ in range(rng.randint(1, 30))
        ]
        items = compared(*rows)
        gold, pred = (np.array([[label in getattr(item, side) for label in LABELS] for item in items]) for side in ("gt", "pred"))
        scores, true = label_lists(items), gold.any(axis=0).nonzero()[0]
        assert scores["exact_set"] == pytest.approx(sk.accuracy_score(gold, pred))
        assert scores["jaccard"] == pytest.approx(sk.jaccard_score(gold, pred, average="samples", zero_division=0))
        assert scores["example_f1"] == pytest.approx(sk.f1_score(gold, pred, average="samples", zero_division=0))
        assert scores["micro_f1"] == pytest.approx(sk.f1_score(gold, pred, average="micro", zero_division=0))
        assert scores["macro_f1"] == pytest.approx(sk.f1_score(gold, pred, average="macro", labels=true, zero_division=0))


def test_label_lists_by_hand():
    items = compared(
        row("color", "pink; red", "red"), row("color", "white", "white"), row("color", "none", ""), row("color", "pink", "pink; white")
    )
    assert label_lists(items) == {
        "count": 4,
        "exact_set": 0.25,
        "jaccard": (1 / 2 + 1 + 0 + 1 / 2) / 4,
        "example_f1": (2 / 3 + 1 + 0 + 2 / 3) / 4,
        "micro_f1": 2 * 3 / (5 + 4),
        "macro_f1": pytest.approx((2 / 3 + 1 + 2 / 3 + 0) / 4),  # pink 2/3, red 1, white 2/3, none 0
    }
    assert not compared(row("color", "pink", "red"))[0].listed and items[1].listed, "listed is a matter of the question"


def test_an_option_with_a_semicolon_is_one_choice_and_no_list_of_labels():
    options = ["pink; red", "white"]
    item = row("mcq", "pink; red", "white", options=options)
    assert "label_lists" not in group_scores(compared(item, item))
    assert "label_lists" in group_scores(compared(row("mcq", "pink; red", "white")))


def test_confusion_matrix_by_hand():
    items = compared(row("mcq", "a", "A."), row("mcq", "a", "b"), row("mcq", "b", ""), row("mcq", "b", "zebra"), row("mcq", "c", "c"))
    assert confusion(items) == {
        "rows": ["a", "b", "c"],
        "columns": ["a", "b", "c", INVALID],
        "counts": [[1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]],
    }
    assert confusion(items, limit=2) == {
        "rows": ["a", "b", OTHER],
        "columns": ["a", "b", OTHER, INVALID],
        "counts": [[1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]],
    }


def test_the_commonest_labels_are_shown_numbers_in_their_order_and_before_words():
    truths = ["none", "10", "10", "9", "5-20", "5-10", "a", "none"]
    assert confusion(compared(*(row("mcq", text, text) for text in truths)))["rows"] == ["5-10", "5-20", "9", "10", "none", "a"]
    items = compared(
        *(row("mcq", text, text) for text in "nmlkjihgfedcba"), row("mcq", "n", "c"), row("mcq", "n", "d"), row("mcq", "d", "n")
    )
    found = confusion(items)
    assert found["rows"] == [*"ndabcefghijk", OTHER] and found["columns"] == [*found["rows"], INVALID]
    assert found["counts"][:2] == [[1, 1, 0, 0, 1, *[0] * 9], [1, 1, *[0] * 12]] and found["counts"][12] == [*[0] * 12, 2, 0]


def test_an_answer_within_tolerance_stands_on_the_diagonal():
    items = compared(row("size_numeric", "10mm", "10.4 mm"), row("size_numeric", "20mm", "1 cm"), row("count_numeric", "2", "two"))
    assert confusion(items)["counts"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]  # 2, 10 mm, 20 mm: `1 cm` is no label of the truth


def test_spellings_are_folded_before_labels_are_compared():
    rows = [row("mcq", "a; >20", ">20mm; a", id="1", image="x")]
    conventions = {"which": {"spellings": {">20": ">20mm"}}}
    assert measured(rows, conventions)["overall"]["label_lists"]["jaccard"] == 1
    assert measured(rows)["overall"]["label_lists"]["jaccard"] == pytest.approx(1 / 3)


def test_lists_with_another_separator_are_read_as_their_question_has_them():
    rows = [row("mcq", "Clip, Sponge", "sponge,hook", id="1", image="x")]
    assert measured(rows, {"which": {"separators": [","]}})["overall"]["label_lists"]["jaccard"] == pytest.approx(1 / 3)
    assert "label_lists" not in measured(rows)["overall"]


# ---------------------------------------------------------------------------------------------------------------------
# Confidences


def test_calibration_by_hand():
    rows = [("yes", 0.9), ("yes", 0.95), ("no", 0.95), ("no", 0.2), ("yes", 0.0), ("no", 1.0)]
    scores = calibration(compared(*(row("yes_no", "yes", pred, confidence=share) for pred, share in rows)))
    # bins: 0.0 right | 0.2 wrong (3/15 ends its bin) | 0.9 right (13/15 to 14/15) | 0.95, 0.95, 1.0: one right of three
    gaps = abs(1 - 0.0) + abs(0 - 0.2) + abs(1 - 0.9) + abs(1 - (0.95 + 0.95 + 1.0))
    assert scores["ece"] == pytest.approx(gaps / 6)
    assert scores["brier"] == pytest.approx((0.1**2 + 0.05**2 + 0.95**2 + 0.2**2 + 1 + 1) / 6)
    assert [item["count"] for item in scores["bins"]] == [1, 0, 1, 0, 0, *[0] * 8, 1, 3]
    assert scores["curve"] == [
        [pytest.approx(c), pytest.approx(a)] for c, a in [(1 / 6, 0), (3 / 6, 1 / 3), (4 / 6, 2 / 4), (5 / 6, 2 / 5), (1, 3 / 6)]
    ]
    assert scores["aurc"] == pytest.approx((1 + 2 * 2 / 3 + 1 / 2 + 3 / 5 + 1 / 2) / 6)


def test_brier_is_scikit_learns_and_coverage_ends_at_the_accuracy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        confidence, right = rng.random(n).round(1), rng.random(n) < 0.5
        items = compared(*(row("yes_no", "yes", "yes" if hit else "no", confidence=float(share)) for share, hit in zip(confidence, right)))
        scores = calibration(items)
        assert scores["brier"] == pytest.approx(np.mean((confidence - right) ** 2))
        if 0 < right.sum() < n:
            assert scores["brier"] == pytest.approx(sk.brier_score_loss(right, confidence))
        assert scores["curve"][-1] == [1.0, pytest.approx(right.mean())]
        assert sum(item["count"] for item in scores["bins"]) == n


def test_a_long_risk_coverage_curve_is_thinned_and_keeps_its_ends():
    curve, area = risk_coverage(np.linspace(0, 1, 5000), np.ones(5000))
    assert len(curve) == 101 and curve[0] == [1 / 5000, 1.0] and curve[-1] == [1.0, 1.0] and area == 0


def test_abstention_by_hand():
    rows = [
        row("yes_no", "yes", "yes", abstained=False),
        row("yes_no", "yes", "no", abstained=True),
        row("yes_no", "yes", "no"),
        row("yes_no", "yes", "yes"),
    ]
    assert group_scores(compared(*rows))["abstention"] == {"abstained": 1, "coverage": 0.75, "accuracy_of_the_rest": 2 / 3}
    assert group_scores(compared(rows[1]))["abstention"] == {"abstained": 1, "coverage": 0.0, "accuracy_of_the_rest": None}
    assert "abstention" not in group_scores(compared(rows[2]))


def test_exact_against_greedy_by_hand():
    rows = [row("mcq", "a", *pair) for pair in (["a"], ["a"], ["b"], ["b"], ["b"])]
    for item, greedy in zip(rows, ["A.", "b", "a", "c", None]):
        item["greedy"] = greedy
    assert greedy_comparison(judge(rows), EvalConfig()) == {"count": 4, "disagree": 3, "only_exact_right": 1, "only_greedy_right": 1}
    assert greedy_comparison(judge([row("mcq", "a", "a")]), EvalConfig()) is None
    sizes = [row("size_numeric", "10mm", "2mm", greedy="11mm"), row("mcq", ">20", None, greedy=">20mm")]
    conventions = {"which": {"spellings": {">20": ">20mm"}}}
    for known, hits in ((None, 1), (conventions, 2)):
        found = greedy_comparison(judge(sizes, EvalConfig(), known), EvalConfig(numeric_abs_tol=1), known)
        assert found == {"count": 2, "disagree": 2, "only_exact_right": 0, "only_greedy_right": hits}


# ---------------------------------------------------------------------------------------------------------------------
# All groups


def test_measure_by_hand():
    rows = [
        row("yes_no", "yes", "yes", id="0", image="a"), row("yes_no", "no", "yes", id="1", image="b"),
        row("yes_no", "no", "No", id="2", image="c"),
        row("color", "red", "red", id="3", image="a"),
        {**row("color", "red", "red", id="4", image="b"), "question": "[Stage-1] WHAT color"},
    ]  # fmt: skip
    details = measured(rows)
    assert [(item["question"], item["qtype"], item["count"], item["accuracy"]) for item in details["per_question"]] == [
        ("Is it?", "yes_no", 3, pytest.approx(2 / 3)),
        ("What color?", "color", 2, 1.0),
    ]
    yes_no = details["per_type"]["yes_no"]
    assert (yes_no["count"], yes_no["correct"], yes_no["strict"], yes_no["balanced_accuracy"]) == (3, 2, 1 / 3, 0.75)
    assert yes_no["interval"] == wilson(2, 3) and details["per_type"]["color"]["interval"] == wilson(2, 2)
    assert details["macro"]["accuracy"] == pytest.approx((2 / 3 + 1) / 2) and details["macro"]["balanced_accuracy"] == pytest.approx(0.875)
    assert details["overall"]["clusters"] == 3 and details["questions_left_out"] == 0
    assert details["macro"] == {
        "count": 2, "accuracy": pytest.approx(5 / 6), "strict": pytest.approx(2 / 3), "balanced_accuracy": pytest.approx(0.875),
        "macro_f1": pytest.approx(5 / 6),
        "interval": macro_interval(np.array([[[1, 1], [1, 0], [1, 1]], [[1, 1], [1, 1], [0, 0]]])),
    }  # fmt: skip


def test_the_commonest_questions_and_labels_are_listed_and_the_rest_counted():
    rows = [{"qtype": "mcq", "question": f"Which {n:03}?", "gt": f"l{n:03}", "pred": "x", "id": str(n), "image": "a"} for n in range(201)]
    rows += [
        {**rows[200], "id": "again", "question": "WHICH 200"},
        {"qtype": "mcq", "gt": "l200", "pred": "x", "id": "asks nothing", "image": "a"},
    ]
    details = measured(rows)
    assert [item["question"] for item in details["per_question"]] == ["WHICH 200", *(f"Which {n:03}?" for n in range(199))]
    assert details["questions_left_out"] == 1 and details["per_question"][0]["count"] == 2
    assert [(item["label"], item["count"]) for item in details["per_type"]["mcq"]["recall"]] == [
        ("l200", 3),
        *((f"l{n:03}", 1) for n in range(99)),
    ]


@pytest.mark.parametrize(("labels", "drawn"), [(1, False), (2, True), (12, True), (13, False)])
def test_a_question_of_2_to_12_labels_has_a_matrix_of_its_own(labels, drawn):
    rows = [row("mcq", "abcdefghijklm"[n % labels], "a", id=str(n), image="a") for n in range(26)]
    assert ("confusion" in measured(rows)["per_question"][0]) is drawn


@pytest.mark.parametrize("count, drawn", [(19, False), (20, True)])
def test_a_question_of_20_rows_has_a_matrix_of_its_own(count, drawn):
    rows = [row("mcq", "ab"[place % 2], "a", id=str(place), image=f"{place}.png") for place in range(count)]
    (question,) = measured(rows)["per_question"]
    assert question["count"] == count and ("confusion" in question) is drawn


@property_test
@given(st.integers(0, 10**6), st.integers(1, 60))
@example(727, 51)  # `polyp snare; 2` was no number and `2; polyp snare` one
def test_the_order_of_rows_and_labels_changes_nothing(seed, count):
    rng = random.Random(seed)
    rows = random_rows(rng, count)
    turned = [{**item, "gt": "; ".join(rng.sample(item["gt"].split("; "), item["gt"].count(";") + 1))} for item in rng.sample(rows, count)]
    expected, found = measured(rows), measured(turned)
    for details in (expected, found):
        for item in [details["overall"], *details["per_type"].values(), *details["per_question"]]:
            del item["strict"]  # a list in another order is another string
        del details["macro"]["strict"]
    assert_same(found, expected)


def assert_same(found, expected):
    """The same but for the last bits of floats, where sums depend on their order."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-9) if isinstance(expected, float) else expected)


@property_test
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_a_perfect_file_is_perfect_and_an_empty_one_scores_nothing(seed, count):
    rows = random_rows(random.Random(seed), count)
    perfect = measured([{**item, "pred": item["gt"]} for item in rows])
    empty = measured([{**item, "pred": ""} for item in rows])
    for details, share in ((perfect, 1), (empty, 0)):
        for scores in (details["overall"], *details["per_type"].values(), *details["per_question"]):
            keys = [scores[key] for key in ("accuracy", "strict", "balanced_accuracy", "macro_f1")]
            keys += [
                scores[part][key]
                for part in ("label_lists",)
                if part in scores
                for key in ("exact_set", "jaccard", "example_f1", "micro_f1", "macro_f1")
            ]
            keys += [scores[part][key] for part in ("counts", "size_bins") if part in scores for key in ("exact", "within_one")]
            assert keys == pytest.approx([share] * len(keys))
            votes = scores["effective_clusters"]
            assert scores["interval"][:2] == pytest.approx(wilson(share * votes, votes)[:2], abs=1e-9)
        assert details["overall"]["invalid"] == (0 if share else count)


@property_test
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_repeating_the_rows_of_every_image_narrows_no_interval(seed, count):
    rows = random_rows(random.Random(seed), count)
    repeated = [{**item, "id": f"{item['id']} {time}"} for item in rows for time in range(3)]
    once, thrice = measured(rows), measured(repeated)
    for name in once["per_type"]:
        assert thrice["per_type"][name]["interval"][:2] == pytest.approx(once["per_type"][name]["interval"][:2], abs=1e-12)


def test_recall_by_label_by_hand():
    rows = [
        row("mcq", "polyp; ulcer", "polyp", id="0", image="a"),  # of a list, each label by itself
        row("mcq", "polyp; ulcer", "ulcer; polyp", id="1", image="b"),
        row("mcq", "none", "polyp", id="2", image="c"),
        row("mcq", "polyp", "", id="3", image="d"),
        row("open_ended", "a polyp", "a polyp", id="4", image="e"),
    ]
    per_type = measured(rows)["per_type"]
    found = [(item["label"], item["count"], item["found"], item["recall"]) for item in per_type["mcq"]["recall"]]
    assert found == [("polyp", 3, 2, pytest.approx(2 / 3)), ("ulcer", 2, 1, 0.5), ("none", 1, 0, 0.0)]
    assert per_type["open_ended"]["recall"] is None
    (recall,) = measured([row("mcq", "polyp", "lump", answers=["lump"], id="0", image="a")])["per_type"]["mcq"]["recall"]
    assert recall["found"] == 1, "another reference makes it right"
    assert all(item["interval"][0] <= item["recall"] <= item["interval"][1] for item in per_type["mcq"]["recall"])


def test_the_real_label_vectors_give_the_published_scores(shared):
    lines = Path(shared / "real-data" / "predictions" / "kvasir_vilt_multilabel.csv").read_text().splitlines()
    texts = [
        ["; ".join(f"label {place}" for place, bit in enumerate(half.split(",")) if bit == "1") for half in line.split(";")]
        for line in lines[1:]
    ]
    rows = [{"id": str(place), "qtype": "mcq", "gt": gt, "pred": pred} for place, (gt, pred) in enumerate(texts)]
    scores = measured(rows)["overall"]
    assert len(rows) == scores["label_lists"]["count"] == 8820
    assert round(scores["label_lists"]["exact_set"], 4) == 0.8729 == round(scores["accuracy"], 4)
    assert round(scores["label_lists"]["jaccard"], 4) == 0.9124
