"""Confidence: AUROC with its interval, a temperature, answer sets; by hand, against scikit-learn, and by simulation.

python -m pytest tests/evaluation/test_confidence.py -v
"""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from config import PredictConfig
from data.calibration import Calibration, Sets
from evaluation.confidence import auroc
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
