"""Comparing two predictions files, and several seeds of one configuration.

python -m pytest tests/evaluation/test_compare.py -v
"""

import random

import numpy as np
import pytest
from scipy.stats import t as student

from evaluation import compare as comparing
from evaluation.compare import changed_rows, comparison_table, conclusion, over_seeds, seed_variance, seeds_table
from evaluation.intervals import accuracy_interval, difference_interval, macro_interval, paired_test
from evaluation.truth import with_clusters


def judged(verdicts, images=None, qtype="mcq", first_id=0):
    """Judged rows, one for each letter: `+` right, `-` wrong."""
    images = images or range(len(verdicts))
    rows = [
        {"id": str(first_id + place), "qtype": qtype, "image": f"{image}.png", "correct": letter == "+", "pred": letter}
        for place, (letter, image) in enumerate(zip(verdicts, images))
    ]
    return with_clusters(rows, "rows")


def compare(a, b):
    return comparing.compare([a], [b])


def test_compare_by_hand_where_rows_are_independent():
    a = judged("++--++----", qtype="yes_no") + judged("+", qtype="mcq", first_id=10)
    b = judged("++++++++--", qtype="yes_no") + judged("-", qtype="mcq", first_id=10)
    b[-1]["cluster"] = a[-1]["cluster"] = "image other.png"
    comparison = compare(a, random.Random(0).sample(b, len(b)))
    item = comparison["per_type"]["yes_no"]
    assert (item["count"], item["a"], item["b"], item["only_a"], item["only_b"]) == (10, 0.4, 0.8, 0, 4)
    assert item["difference"] == pytest.approx(0.4)
    assert item["interval"] == difference_interval(np.array([[1, 0]] * 6 + [[1, 1]] * 4)), "whose ends have tests of their own"
    assert item["p"] == pytest.approx(2 * student.sf(2, 6)), "McNemar's 4 / √4, with one and a half degrees of freedom for each change"
    assert item["p_holm"] == 2 * item["p"] and comparison["per_type"]["mcq"]["p_holm"] == comparison["per_type"]["mcq"]["p"]
    assert comparison["unit"] == "images" and list(comparison["per_type"]) == ["yes_no", "mcq"]


def test_compare_by_hand_where_images_have_several_rows():
    images = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    a, b = judged("+--+-----", images), judged("++++---++", images)
    item = compare(a, b)["overall"]
    sums = np.array([[3, 2], [3, 0], [3, 2]])
    assert item["clusters"] == 3 and item["difference"] == pytest.approx(4 / 9)
    assert item["interval"] == difference_interval(sums)
    # each image one vote, which changes by 4/9: 4/9 / √(4/9 / 3) = 2 / √3, with one and a half degrees of freedom for each of two
    assert item["p"] == pytest.approx(2 * student.sf(2 / 3**0.5, 3)) and item["test"] == "score test by cluster"


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
        "score test by image, p = 0.001)."
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


def test_a_type_is_told_apart_only_where_it_still_is_among_all_of_them():
    """Six of 20 gained: p = 0.037, and 0.074 by Holm beside a type without a difference."""
    a = judged("-" * 20) + judged("+-" * 10, range(20, 40), qtype="yes_no", first_id=20)
    b = judged("+" * 6 + "-" * 14) + judged("+-" * 10, range(20, 40), qtype="yes_no", first_id=20)
    comparison = compare(a, b)
    item = comparison["per_type"]["mcq"]
    assert (item["p"], item["p_holm"]) == (pytest.approx(0.0368, abs=1e-4), 2 * item["p"])
    assert conclusion(comparison, "A", "B").endswith("the accuracy was not distinguishable on yes_no and mcq.")
    assert comparison_table(comparison).splitlines()[3].endswith(" 0.074")


@pytest.mark.parametrize("gained, p, told", [(5, "0.058", False), (6, "0.037", True)])
def test_the_sentence_is_sure_from_p_of_0_05_on(gained, p, told):
    sentence = conclusion(compare(judged("-" * 60), judged("+" * gained + "-" * (60 - gained))), "A", "B")
    assert f"p = {p})" in sentence and ("which these rows cannot tell from no difference" not in sentence) is told


GAINED_AND_LOST = """\
Question Type         Count        A        B    B - A  95 % interval      p (Holm)
--------------------------------------------------------------------------------
yes_no                   40  100.00%   50.00%   -50.00  -64.80 to -34.64   <0.001
color                    20   50.00%   50.00%    +0.00  -16.11 to +16.11   1.000
size_numeric             40    0.00%  100.00%  +100.00  +81.47 to +100.00  <0.001
mcq                      40    0.00%   50.00%   +50.00  +34.64 to +64.80   <0.001
OVERALL (micro)         140   35.71%   64.29%   +28.57  +16.42 to +39.71   <0.001
OVERALL (macro)           -   37.50%   62.50%   +25.00  +14.77 to +31.73   -"""


def test_table_and_sentence_of_types_that_gained_and_lost_are_told_to_the_letter():
    types = {"mcq": ("-" * 40, "+-" * 20), "yes_no": ("+" * 40, "+-" * 20), "color": ("+-" * 10,) * 2, "size_numeric": ("-" * 40, "+" * 40)}
    sides = ([], [])
    for qtype, letters in types.items():
        first = len(sides[0])
        for side, verdicts in zip(sides, letters):
            side += judged(verdicts, range(first, first + len(verdicts)), qtype, first)
    comparison = compare(*sides)
    assert comparison_table(comparison) == GAINED_AND_LOST
    said = (
        "On 140 questions about 140 images, B answered 64.29% correctly and A 35.71%: a paired difference of +28.57 percentage points (95% "
        "confidence interval +16.42 to +39.71; score test by image, p < 0.001). By question type (Holm-adjusted over 4 types, alpha = "
        "0.05) the accuracy was higher on size_numeric (+100.00) and mcq (+50.00), and lower on yes_no (-50.00), and not distinguishable "
        "on color."
    )
    assert conclusion(comparison, "A", "B") == said
    named = conclusion(comparison | {"seeds": [1, 3], "unit": "rows"}, "A", "B")
    assert named.startswith("On 140 questions, B (mean of 3 seeds) answered 64.29% correctly and A 35.71%: ")
    assert "(95% confidence interval over questions and seeds +16.42 to +39.71; score test by row, p < 0.001)" in named
    small = comparison["overall"] | {"p": 0.001}
    assert "p = 0.001)" in conclusion(comparison | {"overall": small}, "A", "B")
    for p, told in ((0.05, ""), (0.0501, ", which these rows cannot tell from no difference")):
        sentence = conclusion(comparison | {"overall": small | {"p": p}}, "A", "B")
        assert f"; score test by image, p = 0.050){told}. By" in sentence
    for item in comparison["per_type"].values():
        item["p_holm"] = 0.0501
    assert conclusion(comparison, "A", "B").endswith("the accuracy was not distinguishable on yes_no, color, size_numeric and mcq.")
    comparison["per_type"]["mcq"]["p_holm"] = 0.05
    assert conclusion(comparison, "A", "B").endswith("higher on mcq (+50.00), and not distinguishable on yes_no, color and size_numeric.")


def test_the_mean_over_types_is_of_types_and_not_of_rows():
    a = judged("++--++----", qtype="yes_no") + judged("+-", [0, 1], first_id=10)
    b = judged("++++++++--", qtype="yes_no") + judged("-+", [0, 1], first_id=10)
    comparison = compare(a, b)
    one, other = (comparison["per_type"][name]["interval"] for name in ("yes_no", "mcq"))
    gained = [[1, 1] if place in (2, 3, 6, 7) else [1, 0] for place in range(10)]
    of_mcq = [[1, -1], [1, 1]] + [[0, 0]] * 8
    means = {"count": 2, "a": pytest.approx(0.45), "b": pytest.approx(0.65), "difference": pytest.approx(0.2)}
    assert comparison["macro"] == {**means, "interval": macro_interval(np.array([gained, of_mcq]), [one, other])}
    whole = comparison["overall"]
    assert (whole["count"], whole["clusters"], whole["only_a"], whole["only_b"]) == (12, 10, 1, 5)
    assert (whole["a"], whole["b"]) == (5 / 12, 9 / 12) and comparison["seeds"] == [1, 1]


def test_changed_rows_are_those_that_one_file_alone_has_right():
    a, b = judged("++--"), judged("+-+-")
    assert [(before["pred"], after["pred"], after["id"]) for before, after in changed_rows(a, b)] == [("+", "-", "1"), ("-", "+", "2")]


def test_seeds_by_hand():
    images = [0, 0, 1, 1]
    runs = [judged("+++-", images), judged("++--", images), judged("+---", images)]
    seeds = over_seeds(runs)
    assert seeds["per_type"] == {"mcq": seeds["overall"]}
    assert (seeds["overall"]["count"], seeds["overall"]["mean"], seeds["overall"]["sd"]) == (4, pytest.approx(0.5), pytest.approx(0.25))
    assert seeds["overall"]["interval"] == accuracy_interval(np.array([[2, 5 / 3], [2, 1 / 3]])), (
        "three answers to a question are no new images"
    )
    assert seeds_table(seeds).splitlines() == [
        "Question Type        Count      Mean       SD         95 % interval",
        "-" * 80,
        "mcq                  4          50.00%     25.00%     9.45% to 90.55%",
        "OVERALL (micro)      4          50.00%     25.00%     9.45% to 90.55%",
    ]


def test_a_type_may_be_called_overall():
    runs = [judged("+-", qtype="overall"), judged("++", qtype="overall")]
    assert over_seeds(runs)["per_type"]["overall"]["mean"] == 0.75 == over_seeds(runs)["overall"]["mean"]
    assert list(compare(*runs)["per_type"]) == ["overall"]


def test_seeds_on_both_sides_by_hand():
    """Three seeds against two: differences of means, and Welch's variance between seeds beside that between images."""
    images = [place // 2 for place in range(20)]
    first = [judged("+" * right + "-" * (20 - right), images) for right in (8, 10, 12)]
    second = [judged("+" * right + "-" * (20 - right), images) for right in (15, 17)]
    comparison = comparing.compare(first, second)
    item = comparison["overall"]
    assert comparison["seeds"] == [3, 2] and (item["a"], item["b"]) == (pytest.approx(0.5), pytest.approx(0.8))
    assert item["difference"] == pytest.approx(0.3) and "only_a" not in item
    parts = 0.01 / 3, 0.005 / 2  # variances of 0.4, 0.5, 0.6 and of 0.75, 0.85, over their numbers
    variance, df = seed_variance(*(np.array([[row["correct"] for row in run] for run in side]) for side in (first, second)))
    assert variance == pytest.approx(sum(parts)) and df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2))
    alone = comparing.compare([first[1]], [second[0]])["overall"]
    assert item["interval"].low < item["difference"] < item["interval"].high
    gained = np.mean([[row["correct"] for row in run] for run in second], axis=0) - np.mean(
        [[row["correct"] for row in run] for run in first], axis=0
    )
    sums = np.stack([np.full(10, 2.0), gained.reshape(10, 2).sum(axis=1)], axis=1)
    assert item["interval"] == difference_interval(sums, (variance, df)) and item["p"] == paired_test(sums, (variance, df))[0]
    without = difference_interval(sums)
    assert item["interval"].low < without.low and without.high < item["interval"].high, "another seed would have done otherwise"
    assert alone["test"] == item["test"]


def test_seeds_that_agree_add_nothing():
    a, b = judged("+--+" * 8), judged("++-+" * 8)
    assert comparing.compare([a, a], [b, b, b])["overall"]["interval"] == compare(a, b)["overall"]["interval"]


@pytest.mark.parametrize("seed", range(40))
def test_with_seeds_too_interval_and_test_agree_about_zero(seed):
    rng = np.random.default_rng(seed)
    runs = [[judged("".join(rng.choice(["+", "-"], 30, p=[p, 1 - p])), [n // 3 for n in range(30)]) for _ in range(3)] for p in (0.4, 0.6)]
    item = comparing.compare(*runs)["overall"]
    assert (item["interval"].low > 0 or item["interval"].high < 0) == (item["p"] < 0.05)
