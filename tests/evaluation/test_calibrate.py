"""eval_exp1.py --calibrate: a temperature that was put in is found again, answer sets cover what they promise; refusals.

python -m pytest tests/evaluation/test_calibrate.py -v
"""

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from config import EvalConfig, PredictConfig, load_config
from data import calibration
from data.calibration import Calibration, rounded, tempered
from evaluation import calibrate
from evaluation.confidence import answer_set_table, answer_sets
from files import UserError, write_jsonl
from prediction.run import calibrated_values, calibration_for


def judged(rng, images, temperature, questions=4):
    """Judged rows whose truth is drawn from their candidates' probabilities to the power 1 / temperature."""
    rows = []
    for image in range(images):
        for question in range(questions):
            shares = [rounded(value) for value in sorted(rng.dirichlet([0.5] * 4), reverse=True)]
            truth = "abcd"[rng.choice(4, p=tempered(shares, temperature))]
            row = {"id": f"{image}-{question}", "qtype": "mcq", "question": "Which?", "gt": truth, "pred": "a", "correct": truth == "a"}
            row |= {"image": f"{image}.png", "cluster": f"image {image}.png", "confidence": shares[0]}
            rows.append(row | {"candidates_top": [list(pair) for pair in zip("abcd", shares)]})
    return rows


FACTS = {"adapter": "A", "answer space": "S", "model files": "M", "config": {"prompt_style": "plain", "predict.coverage": None}}
SIDECAR = {"made_from": FACTS, "config": {"predict": {"candidates_kept": "all"}}}


def run_of(rows, path, sidecar=SIDECAR):
    return {"judged": rows, "path": path, "sidecar": sidecar, "conventions": None}


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "c.yaml").write_text("output_dir: out\ntrain: {eval_images: 150}\n")
    return load_config(tmp_path / "c.yaml")


def answered(shares, truth, images=20):
    """Judged rows, one an image, which all have the same candidates and truth."""
    ranking = [list(pair) for pair in zip("abcd", shares)]
    row = {"qtype": "mcq", "question": "Which?", "gt": truth, "pred": "a", "correct": truth == "a", "confidence": shares[0]}
    names = [f"{n}.png" for n in range(images)]
    return [{**row, "id": name, "image": name, "cluster": f"image {name}", "candidates_top": ranking} for name in names]


def test_the_temperature_that_made_the_truths_is_found_and_held_out_scores_improve(cfg, tmp_path):
    rows = judged(np.random.default_rng(0), 400, 2.5)
    scored = calibrate.scored_rows(run_of(rows, tmp_path), EvalConfig())
    assert calibrate.fit_temperature(scored) == pytest.approx(2.5, rel=0.1)
    temperatures, folds = calibrate.cross_fit(scored)
    assert len(folds) == 5 and len(set(temperatures.tolist())) == 5
    for cluster in range(5):
        assert len(set(temperatures[scored.clusters == cluster].tolist())) == 1, "an image is in one fold"
    before, after = (calibrate.reliability_of(scored, values) for values in (np.ones(len(rows)), temperatures))
    assert all(after[key] < before[key] for key in ("nll", "ece", "brier"))


def test_the_stage_writes_what_prediction_applies(cfg, tmp_path, capsys):
    rng = np.random.default_rng(1)
    calibrate.calibrate(cfg, run_of(judged(rng, 400, 1.5), tmp_path / "p.jsonl"))
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("--split test predict.calibrated=true predict.coverage=0.9")
    assert "of 600 rows of 150 images" in out and "1,000 rows of 250 images that chose neither adapter nor temperature" in out
    told = cfg.model_copy(update={"predict": PredictConfig(calibrated=True, coverage=0.9)})
    fitted = calibration_for(told, FACTS)
    new = judged(rng, 400, 1.5)
    for row in new:
        row |= calibrated_values(row["candidates_top"], told.predict, fitted)
    found = answer_sets(new, EvalConfig(), None, 0.9)
    assert found["overall"]["over_images"] == pytest.approx(0.9, abs=0.03) and found["without"] == 0
    assert found["overall"]["unfilled"] <= found["overall"]["coverage"] and 1 < found["overall"]["sizes"]["mean"] < 4
    assert new[0]["confidence_calibrated"] == pytest.approx(
        tempered([s for _, s in new[0]["candidates_top"]], fitted.temperature)[0], abs=1e-6
    )
    table = answer_set_table(found, "images")
    assert "made for 90%" in table and "not another hospital" in table and "Without a set" not in table
    free = [{key: value for key, value in row.items() if key != "answer_set"} for row in new[:3]]
    table = answer_set_table(answer_sets([*new[3:], *free], EvalConfig(), None, 0.9), "images")
    assert table.splitlines()[-1] == "Without a set, and without a promise: 3 rows (free answers, lists by beams)."
    assert calibration_for(cfg, FACTS) is None, "nothing is applied unasked"


@pytest.mark.parametrize(
    "shares, truth, said",
    [
        ([1.0, 0.0], "a", "0 of 20 rows have a truth that is no candidate, and 20 one possible candidate alone"),
        ([1.0], "a", "0 of 20 rows have a truth that is no candidate, and 20 one"),
        ([0.6, 0.4], "z", "20 of 20 rows have a truth that is no candidate, and 0 one"),
        ([0.5, 0.5], "a", "0 of 20 rows have a truth that is no candidate, and 0 one"),
        ([0.0, 0.0], "a", "row 0.png: the probabilities of its candidates are all 0"),
    ],
)
def test_rows_that_tell_nothing_of_a_temperature_are_refused(cfg, tmp_path, shares, truth, said):
    with pytest.raises(UserError, match=f"p.jsonl: .*{said}"):
        calibrate.calibrate(cfg, run_of(answered(shares, truth), tmp_path / "p.jsonl"))
    assert not (cfg.output_dir / calibration.FILE).exists()


@pytest.mark.parametrize("truth", ["a", "b"])
def test_a_temperature_at_the_end_of_the_range_is_not_recommended(cfg, tmp_path, capsys, truth):
    run = run_of(answered([0.9, 0.1], truth), tmp_path / "p.jsonl")
    calibrate.calibrate(cfg, run)
    out = capsys.readouterr().out
    assert "WARNING: no temperature from 0.05 to 20.09 is best" in out and "next:" not in out and "of itself" not in out
    calibrate.calibrate(cfg.model_copy(update={"train": cfg.train.model_copy(update={"eval_images": 10})}), run)
    assert capsys.readouterr().out.splitlines()[-1].endswith("--split test predict.coverage=0.9")


@pytest.mark.parametrize(
    ("temperature", "said"), [(1.02, "too sure of itself"), (0.98, "too unsure of itself"), (1.01, None), (0.99, None)]
)
def test_which_way_a_model_errs_is_said_where_it_does(cfg, temperature, said):
    scored = of_two([0, 0, 0, 0, 1] * 10)  # whose best is 1
    scores = {"nll": 0.5, "ece": 0.1, "brier": 0.2}
    found = SimpleNamespace(
        temperature=temperature, rows=30, clusters=30, unit="images", folds=[1.0], before=scores, after=scores, sets=None
    )
    lines = "\n".join(islice(calibrate.calibration_lines(cfg, found, scored, None), 4))
    assert (f"the model is {said}" in lines) if said else "of itself" not in lines


def test_images_that_chose_something_calibrate_no_sets(cfg, tmp_path):
    rng = np.random.default_rng(3)
    run, same = (run_of(judged(rng, 30, 1.0), tmp_path / name) for name in ("p.jsonl", "q.jsonl"))
    with pytest.raises(UserError, match="30 images or groups of it, such as image 0.png, chose the temperature"):
        calibrate.calibrate(cfg, run, same)
    others = judged(rng, 30, 1.0)
    for row in others:
        row |= {"image": f"o{row['image']}", "cluster": f"image o{row['image']}"}
    write_jsonl(tmp_path / "train.jsonl", [{"question": "Which?", "answer": "a", "image": "o7.png"}])
    trained = cfg.model_copy(update={"data": cfg.data.model_copy(update={"train_jsonl": tmp_path / "train.jsonl"})})
    with pytest.raises(UserError, match="1 images or groups of it, such as image o7.png, chose the adapter"):
        calibrate.calibrate(trained, run, run_of(others, tmp_path / "q.jsonl"))
    calibrate.calibrate(cfg, run, run_of(others, tmp_path / "q.jsonl"))
    assert Calibration(**json.loads((cfg.output_dir / calibration.FILE).read_text())).sets.clusters == 30


def test_where_a_calibration_does_not_hold_is_one_line(cfg, tmp_path):
    told = cfg.model_copy(update={"predict": PredictConfig(coverage=0.9)})
    with pytest.raises(UserError, match=r"calibration.json: there is none; .* run eval_exp1.py --calibrate"):
        calibration_for(told, FACTS)
    run = run_of(judged(np.random.default_rng(2), 20, 1.0), tmp_path / "p.jsonl")
    calibrate.calibrate(cfg, run)
    with pytest.raises(UserError, match="has no answer sets; run eval_exp1.py --calibrate with --sets PATH"):
        calibration_for(told, FACTS)
    for changed, said in (({"adapter": "B"}, "adapter"), ({"config": {**FACTS["config"], "prompt_style": "chat"}}, "prompt_style")):
        with pytest.raises(UserError, match=f"was fitted with other {said}"):
            calibration_for(told, {**FACTS, **changed})
    path = cfg.output_dir / calibration.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": -1}))
    with pytest.raises(UserError, match="temperature is not as it was written"):
        calibration_for(told, FACTS)
    bare = {"made_from": FACTS}  # of older code, which kept few candidates and did not say so
    few = {**SIDECAR, "config": {"predict": {"candidates_kept": 5}}}
    for sidecar, said in (({}, "no sidecar"), (bare, "likeliest candidates alone"), (few, "likeliest candidates alone")):
        with pytest.raises(UserError, match=said):
            calibrate.calibrate(cfg, run_of(run["judged"], tmp_path / "p.jsonl", sidecar))


TOLD = """\
temperature 2.0000, of 6 rows of 6 images
  without a part of the images at a time: 20.086, 1.000, 1.000, 3.419, 3.419
  the model is too sure of itself: probabilities are drawn together

                              NLL      ECE    Brier
as predicted               0.6852   0.1333   0.2400
with it, cross-fitted      0.9265   0.5609   0.3443
On images that had no part in it the temperature doesn't help: leave predict.calibrated at false.
left out: 1 row whose candidates weren't all scored (free answers, lists by beams)

answer sets: 24 rows of 24 images that chose neither adapter nor temperature
  coverage 80%: candidates from 0.3333 on, 2.00 answers a set
  coverage 90%: candidates from 0.3333 on, 2.00 answers a set
  coverage 95%: all candidates: too few images
WARNING: the truth of 1 row is no candidate, so no set can hold it
The guarantee is for other images of the same kind, on average: not for another hospital, nor for each question type.
"""


def thirty(**last):
    """Rows whose candidates are 4 to 1, the first right in two of three, and one without candidates."""
    rows = []
    for n in range(30):
        rows += answered([0.8, 0.2], "ab"[n % 3 == 2], 1)
        rows[-1] |= {"id": str(n), "image": f"{n}.png", "cluster": f"image {n}.png"}
    rows[-1] |= last
    return [*rows, {**rows[0], "id": "free", "candidates_top": None}]


def test_the_stage_tells_and_writes_all_that_it_found(cfg, tmp_path, capsys):
    cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update={"eval_images": 6})})
    run = run_of(thirty(gt="z", correct=False), tmp_path / "p.jsonl")
    calibrate.calibrate(cfg, run)
    out = capsys.readouterr().out
    assert out.startswith(TOLD) and [line.split()[0] for line in out.removeprefix(TOLD).splitlines()] == ["calibration:", "next:"]
    assert out.splitlines()[-1].endswith("--split test predict.coverage=0.9")
    written = json.loads((cfg.output_dir / calibration.FILE).read_text())
    assert {key: written[key] for key in ("rows", "clusters", "unit", "predictions", "predictions_of_sets", "made_from")} == {
        "rows": 6,
        "clusters": 6,
        "unit": "images",
        "predictions": "p.jsonl",
        "predictions_of_sets": "p.jsonl",
        "made_from": {**FACTS, "config": {"prompt_style": "plain"}},
    }
    assert written["temperature"] == pytest.approx(2, abs=1e-6)
    assert written["before"] == pytest.approx({"nll": (2 * np.log(1 / 0.8) + np.log(1 / 0.2)) / 3, "ece": 0.8 - 2 / 3, "brier": 0.24})
    sets = written["sets"]
    assert (sets["clusters"], sets["rows"], sets["uncoverable"]) == (24, 24, 1)
    assert sets["truths"] == [[pytest.approx(2 / 3), 1]] * 16 + [[pytest.approx(1 / 3), 1]] * 7
    assert sets["images"] == sorted(calibration.mark(row) for row in run["judged"][6:30])


def test_rows_that_chose_and_sets_of_few_images_are_said_to_be_so(cfg, tmp_path, capsys):
    changed = lambda count: cfg.model_copy(update={"train": cfg.train.model_copy(update={"eval_images": count})})
    run = run_of(thirty(), tmp_path / "p.jsonl")
    calibrate.calibrate(changed(30), run)
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[-2]
        == "no answer sets: all 30 images chose the adapter or fit the temperature; give predictions about others with --sets PATH"
    )
    written = json.loads((cfg.output_dir / calibration.FILE).read_text())
    assert written["sets"] is None is written["predictions_of_sets"]
    warning = "images: the coverage of sets holds on average over such calibrations, and varies much"
    for count, told in ((10, False), (11, True)):
        calibrate.calibrate(changed(count), run)
        assert (f"WARNING: {30 - count} {warning}" in capsys.readouterr().out.splitlines()) is told


def test_the_folds_are_of_images_that_chance_dealt():
    """Seven images go into five folds, two of them of two."""
    scored = of_two([0, 1, 0, 0, 1, 0, 0])._replace(clusters=np.arange(7))
    temperatures, folds = calibrate.cross_fit(scored)
    order = np.random.default_rng(0).permutation(7).tolist()
    for fold, value in enumerate(folds):
        own = order[fold::5]
        assert temperatures[own].tolist() == [value] * len(own)
        assert value == calibrate.fit_temperature(scored.take([place for place in range(7) if place not in own]))
    assert len(folds) == 5


def test_images_and_groups_of_the_training_files_chose_the_adapter(cfg, tmp_path):
    """A patient of a validation row is as much seen as an image, and an empty group is none."""
    rng = np.random.default_rng(6)
    run = run_of(judged(rng, 5, 1.0), tmp_path / "p.jsonl")
    others = [{**row, "image": f"o{row['image']}", "cluster": "patient 7", "group": "7"} for row in judged(rng, 5, 1.0)]
    path = tmp_path / "val.jsonl"
    validated = cfg.model_copy(update={"data": cfg.data.model_copy(update={"val_jsonl": path})})
    for group, refused in (("7", True), ("", False), (None, False)):
        write_jsonl(path, [{"question": "Which?", "image": "v.png", "group": group}])
        for row in others if not refused else ():
            row["group"] = group
        if refused:
            with pytest.raises(UserError, match="q.jsonl: 1 images or groups of it, such as group 7, chose the adapter; give predictions"):
                calibrate.check_apart(validated, run, run_of(others, tmp_path / "q.jsonl"))
        else:
            calibrate.check_apart(validated, run, run_of(others, tmp_path / "q.jsonl"))


def test_candidates_are_judged_as_answers_are(tmp_path):
    rows = answered([0.7, 0.3], "10 mm", 1)
    rows[0] |= {"qtype": "size_numeric", "candidates_top": [["3 mm", 0.70000001], ["11 mm", 0.3], ["12 mm", 0.0]]}
    more = answered([0.6], "snare; clip", 1)
    more[0] |= {"qtype": "open_ended", "id": "1", "cluster": "image 1", "candidates_top": [["clip, snare", 0.6]]}
    run = run_of([*rows, *more, {**rows[0], "candidates_top": None}], tmp_path / "p.jsonl")
    run["conventions"] = {"which": {"separators": [","]}}
    scored = calibrate.scored_rows(run, EvalConfig(numeric_rel_tol=0.1))
    assert scored.shares.tolist() == [[0.7, 0.3, 0], [0.6, 0, 0]], "six digits, as prediction reads them, and 0 behind the last"
    assert scored.right.tolist() == [[False, True, False], [True, False, False]]
    assert scored.clusters.tolist() == [0, 1] and scored.left_out == 1 and scored.rows == [*rows, *more]


# ---------------------------------------------------------------------------------------------------------------------
# By hand


def of_two(right_of):
    """Scored rows with candidates of 0.8 and 0.2, of which the first, the second or none is right; an image a row."""
    rows = [{"id": str(n), "correct": right == 0, "qtype": "mcq", "gt": "a", "pred": "a"} for n, right in enumerate(right_of)]
    right = np.array([[place == right for place in (0, 1)] for right in right_of])
    return calibrate.Scored(rows, np.tile([0.8, 0.2], (len(rows), 1)), right, np.arange(len(rows)))


def test_a_row_costs_what_its_truth_was_thought_unlikely_and_nothing_where_no_candidate_is_true():
    scored = of_two([0, 1, None])
    assert calibrate.losses(scored, 1.0) == pytest.approx([-np.log(0.8), -np.log(0.2), 0])
    assert calibrate.losses(scored, 2.0) == pytest.approx([-np.log(2 / 3), -np.log(1 / 3), 0])
    assert calibrate.losses(scored, np.array([2.0, 1.0, 2.0])) == pytest.approx([-np.log(2 / 3), -np.log(0.2), 0])
    assert calibrate.informative(scored).tolist() == [True, True, False]


def test_the_best_temperature_makes_the_surest_as_likely_as_it_is_right():
    """Of candidates 4 to 1 the first is right in two of three: square roots, 2 to 1, say so."""
    scored = of_two([0, 0, 1] * 10)
    assert calibrate.fit_temperature(scored) == pytest.approx(2, abs=1e-4)
    found = calibrate.reliability_of(scored, np.full(30, 2.0))
    assert found["nll"] == pytest.approx((2 * np.log(3 / 2) + np.log(3)) / 3)
    assert found["brier"] == pytest.approx(2 / 9) and found["ece"] == pytest.approx(0)
    assert calibrate.reliability_of(scored, np.ones(30))["ece"] == pytest.approx(0.8 - 2 / 3)
    assert not calibrate.at_an_end(scored, 2.0) and calibrate.at_an_end(of_two([0, 0]), np.exp(calibrate.BOUNDS[0]))
    with pytest.raises(UserError, match="two images or patients at least"):
        calibrate.cross_fit(scored._replace(clusters=np.zeros(30, dtype=int)))


def test_in_the_sets_of_an_image_each_of_its_rows_weighs_a_part():
    scored = of_two([0, 1, None])._replace(clusters=np.array([0, 0, 1]))
    sets = calibrate.fit_sets(scored, 1.0)
    assert sets.truths == [[0.8, 0.5], [pytest.approx(0.2), 0.5]]
    assert (sets.clusters, sets.rows, sets.uncoverable) == (2, 3, 1)


def test_the_first_images_and_all_of_their_patients_fit_the_temperature():
    """`train.eval_images` counts images in the file's order, and what shares a patient with one of them chose as well."""
    scored = of_two([0, 1, 0, 1, 0])
    rows = [{**row, "image": image} for row, image in zip(scored.rows, ["a.png", "a.png", "b.png", "c.png", "d.png"])]
    rows = [{**row, "cluster": patient} for row, patient in zip(rows, ["p", "p", "q", "p", "r"])]
    own, others = calibrate.shared_out(scored._replace(rows=rows, left_out=7), 1)
    assert [row["id"] for row in own.rows] == ["0", "1", "3"] and own.left_out == 7
    assert [row["id"] for row in others.rows] == ["2", "4"] and others.shares.shape == (2, 2)
    several = [{**row, "image": None} for row in rows[:2]] + [{**row, "images": [row["image"], "e.png"]} for row in rows[2:]]
    assert [row["id"] for row in calibrate.shared_out(scored._replace(rows=several), 1)[1].rows] == ["2", "4"], "a row without image is one"
    assert calibrate.shared_out(scored._replace(rows=rows), 2)[1].rows[0]["id"] == "4" and calibrate.shared_out(own, 1)[1] is None


def test_sets_of_another_adapter_are_refused_by_what_differs(cfg, tmp_path):
    rng = np.random.default_rng(5)
    run = run_of(judged(rng, 20, 1.0), tmp_path / "p.jsonl")
    other = run_of(judged(rng, 20, 1.0), tmp_path / "q.jsonl", {**SIDECAR, "made_from": {**FACTS, "adapter": "B"}})
    with pytest.raises(UserError, match="--sets .*q.jsonl: was made with other adapter than .*p.jsonl; predict again"):
        calibrate.calibrate(cfg, run, other)
