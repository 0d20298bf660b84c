"""Confidence: AUROC with its interval, a temperature, answer sets; by hand, against scikit-learn, and by simulation.

python -m pytest tests/evaluation/test_confidence.py -v
"""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from config import EvalConfig, PredictConfig
from data.calibration import Calibration, Sets
from evaluation.confidence import answer_set_table, answer_sets, auroc
from evaluation.intervals import accuracy_interval, wilson
from prediction.decode import Answer
from prediction.run import prediction_row

# ---------------------------------------------------------------------------------------------------------------------
# AUROC


def test_auroc_is_scikit_learn_s_ties_included():
    rng = np.random.default_rng(0)
    confidence, right = rng.integers(0, 8, 300) / 8, rng.random(300) < 0.7
    found = auroc(confidence, right, [str(n // 5) for n in range(300)])
    assert found["value"] == pytest.approx(roc_auc_score(right, confidence)) and (found["right"], found["wrong"]) == (
        right.sum(),
        300 - right.sum(),
    )
    assert auroc(confidence, right, np.arange(300))["interval"][:2] == pytest.approx(
        auroc(1 - confidence, ~right, np.arange(300))["interval"][:2]
    ), "the same question, asked of the other kind"


def pair_by_pair(confidence, right, clusters):
    """(AUROC, rows whose independence would make it as sure) by Obuchowski's sums over all pairs."""
    said = dict(zip((True, False), ([n for n, one in enumerate(right) if one is kind] for kind in (True, False))))
    order = lambda sure, unsure: (confidence[sure] > confidence[unsure]) + 0.5 * (confidence[sure] == confidence[unsure])
    part = {sure: np.mean([order(sure, unsure) for unsure in said[False]]) for sure in said[True]}
    part |= {unsure: np.mean([order(sure, unsure) for sure in said[True]]) for unsure in said[False]}
    value = np.mean([part[sure] for sure in said[True]])
    names, total = sorted(set(clusters)), {}
    for kind in (True, False):
        total[kind] = {name: sum(part[n] - value for n in said[kind] if clusters[n] == name) for name in names}
    those = {kind: {clusters[n] for n in said[kind]} for kind in (True, False)}
    variance = 2 * len(names) / (len(names) - 1) * sum(total[True][name] * total[False][name] for name in names)
    variance /= len(said[True]) * len(said[False])
    for kind, count in ((kind, len(those[kind])) for kind in (True, False)):
        variance += count / (count - 1) * sum(gap**2 for gap in total[kind].values()) / len(said[kind]) ** 2
    few = min(map(len, those.values()))
    return value, value * (1 - value) / variance * (1.959963984540054 / student.ppf(0.975, few - 1)) ** 2


@pytest.mark.parametrize(
    ("confidence", "right", "clusters"),
    [
        ([0.9, 0.2, 0.6, 0.4, 0.6, 0.5], [1, 1, 1, 0, 0, 0], "abcabc"),
        ([0.9, 0.2, 0.6, 0.4, 0.6, 0.5, 0.7], [1, 1, 1, 0, 0, 0, 1], "abcdefa"),
        ([0.9, 0.2, 0.3, 0.5, 0.1], [1, 1, 0, 0, 1], "aabba"[:3] + "ab"),
        ([0.9, 0.2, 0.3, 0.5], [1, 1, 0, 0], "abab"),
    ],
)
def test_auroc_and_its_interval_by_hand(confidence, right, clusters):
    value, rows = pair_by_pair(confidence, list(map(bool, right)), clusters)
    found = auroc(confidence, right, list(clusters))
    assert found == {"value": pytest.approx(value), "interval": found["interval"], "wrong": right.count(0), "right": right.count(1)}
    assert (
        found["interval"][:2] == pytest.approx(wilson(value * rows, rows)[:2]) and found["interval"].method == "Obuchowski, Wilson's ends"
    )


@pytest.mark.parametrize(
    ("confidence", "right", "clusters", "value", "votes"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], "aabb", 1, 1),
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], "abcd", 1, 2),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], "abab", 0, 2),
        ([0.9, 0.1, 0.5], [1, 1, 0], "aaa", 0.5, 1),
        ([0.9, 0.1, 0.5], [1, 1, 0], "abc", 0.5, 1),
    ],
)
def test_auroc_without_a_variance_is_one_vote_a_cluster(confidence, right, clusters, value, votes):
    found = auroc(confidence, right, list(clusters))
    assert found["value"] == value and found["interval"][:2] == wilson(value * votes, votes)[:2]


def test_auroc_knows_clusters_and_what_it_cannot_tell():
    assert auroc([0.5, 0.6], [True, True], ["a", "b"]) is None
    perfect = auroc([0.9, 0.8, 0.1], [True, True, False], ["a", "b", "c"])
    assert perfect["value"] == 1 and perfect["interval"][0] < 0.3, "one wrong answer tells little"
    rng = np.random.default_rng(1)
    confidence, right = rng.random(60), rng.random(60) < 0.6
    single = auroc(np.repeat(confidence, 5), np.repeat(right, 5), np.arange(300))["interval"]
    clustered = auroc(np.repeat(confidence, 5), np.repeat(right, 5), np.repeat(np.arange(60), 5))["interval"]
    once = auroc(confidence, right, np.arange(60))["interval"]
    assert clustered[:2] == pytest.approx(once[:2], abs=1e-9), "five copies of an image's row tell no more than one"
    assert single[1] - single[0] < 0.6 * (once[1] - once[0])


def test_auroc_is_surer_where_every_image_has_right_and_wrong_answers():
    """What makes all of an image's confidences high or low is no error of their order."""
    rng = np.random.default_rng(4)
    level = rng.normal(size=60)
    confidence = np.concatenate([level + 0.6 + 0.3 * rng.normal(size=60), level])
    right, image = np.arange(120) < 60, np.tile(np.arange(60), 2)
    low, high = auroc(confidence, right, image)["interval"][:2]
    wide = auroc(confidence, right, np.arange(120))["interval"]
    assert high - low < 0.75 * (wide[1] - wide[0])


def test_auroc_s_intervals_hold():
    rng, held = np.random.default_rng(2), 0
    for _ in range(300):
        image = np.repeat(np.arange(40), 6)
        hard = rng.normal(size=40)[image]
        right = rng.normal(size=240) + 0.7 * hard < 0.7
        confidence = right + rng.normal(size=240) - 0.7 * hard
        low, high, _ = auroc(confidence, right, image)["interval"]
        held += low <= TRUE_AUROC <= high
    assert 0.92 <= held / 300 <= 0.985


def _true_auroc():
    rng = np.random.default_rng(3)
    hard = rng.normal(size=400_000)
    right = rng.normal(size=400_000) + 0.7 * hard < 0.7
    return roc_auc_score(right, right + rng.normal(size=400_000) - 0.7 * hard)


TRUE_AUROC = _true_auroc()

# ---------------------------------------------------------------------------------------------------------------------
# Answer sets


def with_set(truth, texts, image, qtype="mcq", **more):
    return {"gt": truth, "pred": "a", "question": "Which?", "qtype": qtype, "answer_set": texts, "cluster": image, "correct": False, **more}


SETS = [
    with_set("a", ["b", "a"], "1"),
    with_set("A.", ["b"], "1"),
    with_set("c", ["a", "b", "c", "d"], "2", answer_set_filled=False),
    with_set("red", ["red"], "2", "color", answer_set_filled=True),
    with_set("pink", ["red"], "3", "color", answer_set_filled=True),
    with_set("red", None, "3", "color"),
]


def test_answer_sets_by_hand():
    found = answer_sets(SETS, EvalConfig(), None, 0.8, 2)
    mcq = {"count": 3, "coverage": 2 / 3, "interval": accuracy_interval([[2, 1], [1, 1]]), "over_images": 0.75, "unfilled": 2 / 3}
    mcq |= {"filled": 0, "sizes": {"mean": pytest.approx(7 / 3), "median": 2.0, "largest": 4}, "single": 1 / 3}
    color = {"count": 2, "coverage": 0.5, "interval": accuracy_interval([[1, 1], [1, 0]]), "over_images": 0.5, "unfilled": 0.0}
    color |= {"filled": 2, "sizes": {"mean": 1.0, "median": 1.0, "largest": 1}, "single": 1.0}
    overall = {"count": 5, "coverage": 0.6, "interval": accuracy_interval([[2, 1], [2, 2], [1, 0]]), "over_images": 0.5, "unfilled": 0.4}
    overall |= {"filled": 2, "sizes": {"mean": pytest.approx(9 / 5), "median": 1.0, "largest": 4}, "single": 0.6}
    assert found == {"target": 0.8, "calibrated_on": 2, "without": 1, "overall": overall, "per_type": {"color": color, "mcq": mcq}}
    assert answer_sets(SETS, EvalConfig(), None, None)["calibrated_on"] == 0
    assert answer_sets(SETS[5:], EvalConfig(), None, 0.8) is None is answer_sets([{"qtype": "mcq"}], EvalConfig(), None, 0.8)


def test_answer_sets_are_judged_as_answers_are():
    sizes = [with_set("10 mm", ["3 mm", "11 mm"], "1", "size_numeric")]
    lists = [with_set("snare; clip", ["clip, snare"], "1", "open_ended")]
    assert answer_sets(sizes, EvalConfig(numeric_rel_tol=0.1), None, 0.8)["overall"]["coverage"] == 1
    assert answer_sets(sizes, EvalConfig(), None, 0.8)["overall"]["coverage"] == 0
    assert answer_sets(lists, EvalConfig(), {"which": {"separators": [","]}}, 0.8)["overall"]["coverage"] == 1
    assert answer_sets(lists, EvalConfig(), None, 0.8)["overall"]["coverage"] == 0


SET_TABLE = """\
Answer sets: how often they hold the truth, made for 80%

Question Type           Sets  Coverage     95 % interval  Unfilled  Mean size   Single
--------------------------------------------------------------------------------------
color                      2    50.00%    9.45% - 90.55%     0.00%       1.00   100.0%
mcq                        3    66.67%   14.80% - 95.84%    66.67%       2.33    33.3%
OVERALL (micro)            5    60.00%   16.43% - 91.97%    40.00%       1.80    60.0%
Mean coverage over images: 50.00%. Empty sets filled with the likeliest answer: 2.
Promised is the average over images like those of the calibration: not each type, not another hospital or camera.
WARNING: 2 rows are about images that calibrated these sets: their coverage proves nothing.
Without a set, and without a promise: 1 rows (free answers, lists by beams)."""


def test_the_table_of_answer_sets_is_told_to_the_letter():
    found = answer_sets(SETS, EvalConfig(), None, 0.8, 2)
    assert answer_set_table(found, "images") == SET_TABLE
    lines = SET_TABLE.splitlines()
    told = answer_set_table(found | {"target": None, "calibrated_on": 0, "without": 0}, "patients").splitlines()
    assert told == [lines[0].removesuffix(", made for 80%"), *lines[1:7], lines[7].replace("images", "patients"), lines[8]]


# ---------------------------------------------------------------------------------------------------------------------
# Calibration


def test_a_prediction_row_has_the_new_fields_only_when_told():
    answer = Answer("a", "exact", -0.2, scored=(("a", -0.2), ("b", -2.0), ("c", -20.0)), greedy="a")
    row = {"id": "0", "question": "Which?", "answer": "a", "answer_raw": "a", "image": "0.png", "question_type": "mcq"}
    row |= {"answer_candidates": ["a", "b", "c"], "multi_label": False}
    plain = prediction_row(row, answer)
    assert not {"answer_set", "confidence_calibrated"} & plain.keys() and plain["candidates_top"][2] == ["c", 0.0]
    everything = prediction_row(row, answer, predict=PredictConfig(candidates_kept="all"))
    assert everything["candidates_top"][2][1] == pytest.approx(2.16e-9, rel=0.01), "of a small probability its digits are kept"
    assert len(prediction_row(row, answer, predict=PredictConfig(candidates_kept=2))["candidates_top"]) == 2
    facts = {"rows": 2, "clusters": 2, "unit": "images", "folds": [2.0], "before": {}, "after": {}, "predictions": "p", "made_from": {}}
    truths = [[0.5, 1], [0.3, 1], [0.3, 1], [0.3, 1]]
    sets = Sets(clusters=4, rows=4, uncoverable=0, images=[], truths=truths)
    fitted = Calibration(temperature=2.0, sets=sets, predictions_of_sets="p", **facts)
    told = PredictConfig(calibrated=True, coverage=0.8)
    found = prediction_row(row, answer, 0.8, told, fitted)
    assert found["confidence"] == plain["confidence"] > 0.8 > found["confidence_calibrated"] and found["abstained"]
    assert found["answer_set"] == ["a"] and not found["answer_set_filled"] and prediction_row(row, answer, 0.8)["abstained"] is False
    free = prediction_row({**row, "answer_candidates": None}, Answer("well", "free", -1.0), 0.8, told, fitted)
    assert free["answer_set"] is None and free["confidence_calibrated"] is None and free["abstained"] is False
