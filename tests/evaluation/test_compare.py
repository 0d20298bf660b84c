"""Comparing two predictions files, and several seeds of one configuration.

python -m pytest tests/evaluation/test_compare.py -v
"""

import random

import numpy as np
import pytest

from evaluation.compare import changed_rows, compare, comparison_table, conclusion, over_seeds, seeds_table
from evaluation.intervals import accuracy_interval, difference_interval, mcnemar, sign_flip_test


def judged(verdicts, images=None, qtype="mcq", first_id=0):
    """Judged rows, one for each letter: `+` right, `-` wrong."""
    images = images or range(len(verdicts))
    return [
        {"id": str(first_id + place), "qtype": qtype, "image": f"{image}.png", "correct": letter == "+", "pred": letter}
        for place, (letter, image) in enumerate(zip(verdicts, images))
    ]


def test_compare_by_hand_where_rows_are_independent():
    a = judged("++--++----", qtype="yes_no") + judged("+", qtype="mcq", first_id=10)
    b = judged("++++++++--", qtype="yes_no") + judged("-", qtype="mcq", first_id=10)
    b[-1]["image"] = a[-1]["image"] = "other.png"
    comparison = compare(a, random.Random(0).sample(b, len(b)))
    item = comparison["per_type"]["yes_no"]
    assert (item["count"], item["a"], item["b"], item["only_a"], item["only_b"]) == (10, 0.4, 0.8, 0, 4)
    assert item["difference"] == pytest.approx(0.4)
    assert item["test"] == "exact McNemar" and item["p"] == mcnemar(0, 4) == 0.125
    assert item["p_holm"] == 0.25 and comparison["per_type"]["mcq"]["p_holm"] == 1, "two types: the smaller p doubles"
    assert comparison["unit"] == "images" and list(comparison["per_type"]) == ["yes_no", "mcq"]


def test_compare_by_hand_where_images_have_several_rows():
    images = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    a, b = judged("+--+-----", images), judged("++++---++", images)
    item = compare(a, b)["overall"]
    sums = np.array([[3, 2], [3, 0], [3, 2]])
    assert item["clusters"] == 3 and item["difference"] == pytest.approx(4 / 9)
    assert item["interval"] == difference_interval(sums) and item["p"] == sign_flip_test(sums[:, 1])
    assert item["test"] == "sign-flip test by cluster"


def test_the_sentence_of_a_clear_difference():
    images = [place // 5 for place in range(200)]
    letters = random.Random(1).choices("+-", [1, 2], k=200)
    comparison = compare(judged(letters, images), judged("+" * 150 + "-" * 50, images))
    sentence = conclusion(comparison, "the untuned model", "the tuned model")
    low, high = (100 * end for end in comparison["overall"]["interval"][:2])
    assert sentence == (
        "On 200 questions about 40 images, the tuned model answered 75.00% correctly and the untuned model "
        f"{letters.count('+') / 2:.2f}%: a paired difference of {75 - letters.count('+') / 2:+.2f} percentage points "
        f"(95% confidence interval {low:+.2f} to {high:+.2f}; "
        "sign-flip test by image, p < 0.001)."
    )


def test_the_sentence_claims_nothing_where_there_is_nothing():
    a = judged("+-" * 20, qtype="yes_no") + judged("+" * 20 + "-" * 20, [f"x{n}" for n in range(40)], qtype="mcq", first_id=40)
    b = judged("-+" * 20, qtype="yes_no") + judged("+" * 40, [f"x{n}" for n in range(40)], qtype="mcq", first_id=40)
    same = conclusion(compare(a, a), "A", "B")
    assert "which these rows cannot tell from no difference" in same and "p = 1.000" in same
    assert same.endswith("the accuracy was not distinguishable on yes_no and mcq.")
    by_type = conclusion(compare(a, b), "A", "B").split("By question type ")[1]
    assert (
        by_type == "(Holm-adjusted over 2 types, alpha = 0.05) the accuracy was higher on mcq (+50.00), and not distinguishable on yes_no."
    )


def test_the_table_fits_its_columns():
    lines = comparison_table(compare(judged("++--"), judged("+-++"))).splitlines()
    assert lines[0].split() == ["Question", "Type", "Count", "A", "B", "B", "-", "A", "95", "%", "interval", "p", "(Holm)"]
    assert lines[-1].startswith("OVERALL (micro)           4   50.00%   75.00%   +25.00  ") and len({len(line) for line in lines[2:]}) == 1


def test_changed_rows_are_those_that_one_file_alone_has_right():
    a, b = judged("++--"), judged("+-+-")
    assert [(before["pred"], after["pred"], after["id"]) for before, after in changed_rows(a, b)] == [("+", "-", "1"), ("-", "+", "2")]


def test_seeds_by_hand():
    images = [0, 0, 1, 1]
    runs = [judged("+++-", images), judged("++--", images), judged("+---", images)]
    seeds = over_seeds(runs)
    assert seeds["mcq"] == seeds["overall"]
    assert (seeds["overall"]["count"], seeds["overall"]["mean"], seeds["overall"]["sd"]) == (4, pytest.approx(0.5), pytest.approx(0.25))
    assert seeds["overall"]["interval"] == accuracy_interval(np.array([[6, 5], [6, 1]])), "three answers to a question are no new images"
    assert "OVERALL (micro)      4          50.00%     25.00%" in seeds_table(seeds)
