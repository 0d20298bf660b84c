"""Calibration: temperatures, the score that answer sets are cut by, and what a saved one holds for; by hand.

python -m pytest tests/data/test_calibration.py -v
"""

import pytest

from data.calibration import Calibration, Sets, answer_set, cut, load, mark, rounded, tempered, tied
from files import UserError, write_json


def test_tempered_by_hand():
    assert tempered([0.8, 0.2], 1.0) == pytest.approx([0.8, 0.2])
    assert tempered([0.8, 0.2], 2.0) == pytest.approx([2 / 3, 1 / 3])  # square roots, 2 to 1
    assert tempered([1.0, 0.0], 0.5) == pytest.approx([1, 0])
    assert tempered([[0.8, 0.2, 0], [0.5, 0.25, 0.25]], 2.0)[0] == pytest.approx([2 / 3, 1 / 3, 0])


def sets_of(truths, uncoverable=0):
    """Sets of images; truths: one list of probabilities an image."""
    pairs = sorted(([value, 1 / len(own)] for own in truths for value in own), reverse=True)
    rows = sum(map(len, truths)) + uncoverable
    return Sets(clusters=len(truths), rows=rows, uncoverable=uncoverable, images=[], truths=pairs)


def test_cut_is_the_quantile_of_images_with_one_to_come():
    """Of nine images and the one to come, the least probability of all nine covers nine of ten."""
    nine = [[value / 10] for value in range(1, 10)]
    assert cut(sets_of(nine), 0.9) == 0.1 and cut(sets_of(nine), 0.8) == 0.2 and cut(sets_of(nine), 0.89) == 0.1
    assert cut(sets_of(nine), 0.91) == 0.0, "nine images can't promise more: all candidates"
    # an image of eight rows weighs as much as one of one
    assert cut(sets_of([[0.9] * 8, [0.5], [0.4]]), 0.5) == 0.5
    assert cut(sets_of([[0.9] * 8, [0.5], [0.4]]), 0.25) == 0.9


def test_answer_set_holds_what_is_likely_enough_and_never_nothing():
    ranking = [["a", 0.6], ["b", 0.3], ["c", 0.1]]
    assert answer_set(ranking, 1.0, 0.3) == (["a", "b"], False)
    assert answer_set(ranking, 1.0, 0.7) == (["a"], True)
    assert answer_set(ranking, 1.0, 0.0) == (["a", "b", "c"], False)
    assert answer_set(ranking, 2.0, 0.3) == (["a", "b"], False)


FACTS = {"adapter": "A", "answer space": "S", "model files": "M", "rows": "R"}
FACTS |= {"config": {"prompt_style": "plain", "predict.coverage": None, "predict.decoding": "exact"}}


def saved(path, **changes):
    """A calibration of these predictions in a file."""
    found = Calibration(
        temperature=2.0, rows=2, clusters=2, unit="images", folds=[2.0], before={"ece": 0.2}, after={"ece": 0.1},
        sets=sets_of([[0.5], [0.3]]), predictions="p.jsonl", predictions_of_sets=None, made_from=tied(FACTS),
    )  # fmt: skip
    write_json(path, {**found.model_dump(), **changes})
    return found


def test_a_calibration_holds_for_predictions_that_differ_in_nothing_that_changes_a_probability(tmp_path):
    found = saved(tmp_path / "c.json")
    assert tied(FACTS) == {
        "adapter": "A", "answer space": "S", "model files": "M", "config": {"prompt_style": "plain", "predict.decoding": "exact"}
    }  # fmt: skip
    for changed in ({}, {"rows": "others"}, {"config": {**FACTS["config"], "predict.coverage": 0.9}}):
        assert load(tmp_path / "c.json", {**FACTS, **changed}) == found


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"adapter": "B"}, "other adapter;"), ({"answer space": "T", "model files": None}, "other answer space, model files;"),
        ({"config": {"prompt_style": "chat", "image.max_pixels": 784}}, "other image.max_pixels, predict.decoding, prompt_style;"),
    ],
)  # fmt: skip
def test_a_calibration_of_other_predictions_is_refused_by_what_differs(tmp_path, changed, said):
    saved(tmp_path / "c.json")
    with pytest.raises(UserError, match=f"c.json: was fitted with {said} predict the calibration rows"):
        load(tmp_path / "c.json", {**FACTS, **changed})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"temperature": 0}, "temperature"), ({"temperature": "2"}, "temperature"), ({"clusters": 1}, "clusters"),
        ({"folds": [0.0]}, "folds"), ({"sets": {"clusters": 1}}, "sets"), ({"more": 1}, "more"), ({"unit": None}, "unit"),
    ],
)  # fmt: skip
def test_a_calibration_that_is_not_as_it_was_written_is_one_line(tmp_path, damage, said):
    saved(tmp_path / "c.json", **damage)
    with pytest.raises(UserError, match=f"c.json: {said} is not as it was written; predict") as error:
        load(tmp_path / "c.json", FACTS)
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(UserError, match="c.json: it is not as it was written"):
        load(tmp_path / "c.json", FACTS)
    (tmp_path / "c.json").unlink()
    with pytest.raises(UserError, match="c.json: there is none; predict .* run eval_exp1.py --calibrate$"):
        load(tmp_path / "c.json", FACTS)
    assert "\n" not in str(error.value)


def test_an_image_is_marked_without_its_name():
    row = {"id": "7", "image": "meier/a.png"}
    assert mark(row) == mark({"id": "8", "image": "meier/a.png"}) != mark({"id": "7", "image": "meier/b.png"})
    assert len(mark(row)) == 16 and "meier" not in mark(row) and mark({"id": "7"}) != mark({"id": "8", "image": None})


def test_probabilities_are_rounded_as_files_hold_them():
    assert [rounded(value) for value in (1 / 3, 2e-9 / 3, 1.0, 0.0)] == [0.333333, 6.66667e-10, 1.0, 0.0]
    ranking = [["a", 0.6000004], ["b", 0.3999996]]  # rounded, and then as likely as the cut
    assert answer_set(ranking, 1.0, 0.6) == (["a"], False) and answer_set(ranking, 1.0, 0.4)[0] == ["a", "b"]
