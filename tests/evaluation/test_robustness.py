"""Predictions beside those about perturbed pictures and reworded questions.

python -m pytest tests/evaluation/test_robustness.py -v
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from evaluating import PREDICTIONS, TABLE, metrics_of

from config import EvalConfig
from data.matching import judge
from evaluation.intervals import accuracy_interval, difference_interval
from evaluation.robustness import about_samples, load_perturbed, perturbed_files, robustness, robustness_tables, samples
from evaluation.truth import with_clusters
from files import UserError, write_jsonl

CFG = SimpleNamespace(eval=EvalConfig())
# (question type, question, truth, plain, black, first wording, second wording); two rows an image
ROWS = [
    ("yes_no", "Is there text?", "yes", "yes", "no", "yes", "Yes."),  # ideal
    ("color", "What color is it?", "pink; red", "red; pink", "red", "pink; red", "red; pink"),  # ideal: order is nothing
    ("yes_no", "Is there text?", "yes", "yes", "no", "yes", "no"),  # fragile
    ("color", "What color is it?", "red", "red", "red", "red", "red"),  # dangerous, and right
    ("yes_no", "Is there text?", "yes", "no", "no", "no", "no"),  # dangerous
    ("color", "What color is it?", "pink", "red", "red", "red", "pink"),  # worst
]
COLUMNS = {"": 3, "_black": 4, "_reworded_1": 5, "_reworded_2": 6}


def written(column, rows=ROWS, **more):
    base = lambda number, row: {"id": str(number), "pred": row[column], "gt": row[2], "qtype": row[0], "question": row[1]}
    return [{**base(number, row), "image": f"{number // 2}.png", **more} for number, row in enumerate(rows)]


@pytest.fixture
def run(tmp_path):
    """The loaded plain run, its perturbed files beside it."""
    for suffix, column in COLUMNS.items():
        write_jsonl(tmp_path / f"predictions{suffix}.jsonl", written(column))
    return loaded(tmp_path)


def loaded(folder, **sidecar):
    judged = judge(with_clusters(written(3), "rows"), EvalConfig(), {})
    return {"path": folder / "predictions.jsonl", "judged": judged, "sidecar": sidecar, "conventions": {}}


def test_accuracies_and_drops_are_paired_row_by_row(run):
    black = robustness(CFG, run, None)["perturbations"]["black"]
    item = black["overall"]
    assert (item["count"], item["clusters"], item["plain"], item["perturbed"]) == (6, 3, 4 / 6, 1 / 6)
    assert item["drop"] == pytest.approx(0.5) and item["rows_left_out"] == 0
    low, high = difference_interval(np.array([[2, -2], [2, -1], [2, 0]]))[:2]
    assert item["interval"][:2] == pytest.approx([-high, -low])
    assert black["per_type"]["yes_no"]["drop"] == pytest.approx(2 / 3) and black["per_type"]["color"]["drop"] == pytest.approx(1 / 3)
    assert black["changed"]["count"] == 3 and black["changed"]["interval"] == accuracy_interval(np.array([[2, 2], [2, 1], [2, 0]]))


def test_all_that_is_found_is_the_comparison_turned_round(run):
    """Plain less perturbed, so that a loss is a drop."""
    blind = [{**row, "pred": "yes", "correct": row["gt"] == "yes"} for row in run["judged"]]
    found = robustness(CFG, run, blind)
    assert list(found["files"].items()) == [(name, f"predictions_{name}.jsonl") for name in ("black", "reworded_1", "reworded_2")]
    assert found["missing"] == ["other_image", "jpeg", "blur", "overexposure", "glare", "rotation", "flip"]
    black = found["perturbations"]["black"]
    assert list(black) == ["overall", "macro", "per_type", "changed", "empty"] and black["empty"] == 0
    facts = {"count", "clusters", "test", "p", "p_holm", "plain", "perturbed", "drop", "interval"}
    assert black["overall"].keys() == facts | {"rows_left_out"} and black["per_type"]["color"].keys() == facts
    low, high, method = macro_ends = black["macro"].pop("interval")
    assert black["macro"] == {"count": 2, "plain": pytest.approx(2 / 3), "perturbed": pytest.approx(1 / 6), "drop": pytest.approx(0.5)}
    assert method == "MOVER" and low < 0.5 < high and macro_ends != black["overall"]["interval"]
    assert black["changed"] == {"count": 3, "share": 0.5, "interval": black["changed"]["interval"]}
    beside = found["beside_blind"]
    low, high = difference_interval(np.array([[2, 0], [2, -1], [2, 0]]))[:2]
    assert list(beside) == ["black"] and beside["black"]["overall"] == {
        "count": 6,
        "blind": 0.5,
        "accuracy": 1 / 6,
        "difference": pytest.approx(-1 / 3),
        "interval": beside["black"]["overall"]["interval"],
        "p": beside["black"]["overall"]["p"],
    }
    assert beside["black"]["overall"]["p"] > 0.05 and beside["black"]["per_type"]["yes_no"]["blind"] == 1
    assert robustness(CFG, run, None)["beside_blind"] == {} == robustness(CFG, run, [])["beside_blind"]


def test_p_values_are_corrected_for_the_number_of_perturbations(run):
    found = robustness(CFG, run, None)["perturbations"]
    ps = sorted(item["overall"]["p"] for item in found.values())
    assert min(item["overall"]["p_holm"] for item in found.values()) == pytest.approx(min(1, 3 * ps[0]))


def test_each_answer_is_ideal_fragile_dangerous_or_worst(run):
    found = robustness(CFG, run, None)["samples"]
    assert (found["rows"], found["by"], found["wordings"]) == (6, "black", ["reworded_1", "reworded_2"])
    assert {kind: (item["count"], item["accuracy"]) for kind, item in found["kinds"].items()} == {
        "ideal": (2, 1.0),
        "fragile": (1, 1.0),
        "dangerous": (2, 0.5),
        "worst": (1, 0.0),
    }
    assert found["consistent"]["share"] == 4 / 6 and found["reliant"]["share"] == 3 / 6
    assert [(item["question"], item["count"], item["kinds"]["fragile"]) for item in found["per_question"]] == [
        ("Is there text?", 3, pytest.approx(1 / 3)),
        ("What color is it?", 3, 0),
    ]
    assert found["per_question"][0]["template"] == "is there text"  # by which tools/release.py knows which questions may go out
    text = robustness_tables(robustness(CFG, run, None))
    assert "Of 6 answers, 66.67% are the same in every wording (2 others); 50.00% change with a black picture" in text
    assert "not there, so not told: other_image, jpeg, blur, overexposure, glare, rotation, flip" in text


def test_without_other_wordings_or_pictures_half_of_it_is_told(run):
    answers = {"other_image": {row["id"]: {**row, "pred": "no"} for row in run["judged"]}}
    found = samples(run["judged"], answers, {})
    assert found["by"] == "other_image" and found["consistent"] is None and "kinds" not in found
    assert samples(run["judged"], {"jpeg": {}}, {}) is None
    only_words = samples(run["judged"], {"reworded_1": answers["other_image"]}, {})
    assert only_words["reliant"] is None and only_words["consistent"]["count"] == 1


def test_a_row_takes_part_that_is_in_another_wording_and_without_the_picture(run):
    """Four are; the commonest question comes first; black pictures are asked before other ones."""
    judged = {row["id"]: row for row in run["judged"]}
    answers = {"other_image": judged, "black": {key: judged[key] for key in "01235"}}
    answers |= {"reworded_1": {key: judged[key] for key in "0135"}, "reworded_3": {"4": judged["4"], "5": {**judged["5"], "pred": "x"}}}
    found = samples(run["judged"], answers, {})
    assert (found["rows"], found["by"], found["wordings"], found["empty"]) == (4, "black", ["reworded_1", "reworded_3"], 0)
    assert (found["consistent"]["count"], found["reliant"]["count"]) == (3, 0)
    assert {kind: (item["count"], item["share"], item["accuracy"]) for kind, item in found["kinds"].items()} == {
        "ideal": (0, 0, None),
        "fragile": (0, 0, None),
        "dangerous": (3, 0.75, 1),
        "worst": (1, 0.25, 0),
    }
    none = {"ideal": 0, "fragile": 0, "dangerous": 1, "worst": 0}
    color = {"question": "What color is it?", "template": "what color is it", "qtype": "color", "count": 3}
    assert found["per_question"] == [
        {**color, "kinds": {**none, "dangerous": 2 / 3, "worst": 1 / 3}, "accuracy": 2 / 3},
        {"question": "Is there text?", "template": "is there text", "qtype": "yes_no", "count": 1, "kinds": none, "accuracy": 1},
    ]
    assert samples(run["judged"], {"reworded_1": {}}, {}) is None is samples(run["judged"], {"black": {}}, {})


def test_an_answer_that_failed_rests_on_nothing(run):
    """An empty answer is neither another one, which would be seen, nor the same in other words."""
    path = run["path"].with_name("predictions_black.jsonl")
    write_jsonl(path, [{**row, "pred": pred} for row, pred in zip(written(4), [None, "", " . ", "red", "no", None])])
    for wording in (1, 2):
        write_jsonl(path.with_name(f"predictions_reworded_{wording}.jsonl"), [{**written(3)[0], "pred": None}, *written(3)[1:]])
    run["judged"] = judge([{**row, "pred": None} for row in run["judged"][:1]] + run["judged"][1:], EvalConfig(), {})
    found = robustness(CFG, run, None)
    assert found["perturbations"]["black"]["empty"] == 4
    assert (found["samples"]["reliant"]["count"], found["samples"]["consistent"]["count"], found["samples"]["empty"]) == (0, 5, 4)
    assert [item["count"] for item in found["samples"]["kinds"].values()] == [0, 0, 5, 1]
    text = robustness_tables(found)
    assert "black: 4 rows got an empty answer, which is wrong" in text
    assert "In 4 rows an answer is empty: such counts neither as the same nor as another one." in text


def test_black_pictures_beside_the_blind_prior(run):
    blind = [{**row, "pred": "yes", "correct": row["gt"] == "yes"} for row in run["judged"]]
    item = robustness(CFG, run, blind)["beside_blind"]["black"]
    assert (item["overall"]["accuracy"], item["overall"]["blind"]) == (1 / 6, 0.5)
    assert item["per_type"]["color"]["difference"] == pytest.approx(1 / 3)


def test_rows_that_a_file_lacks_are_left_out_of_its_pairs(run):
    write_jsonl(run["path"].with_name("predictions_flip.jsonl"), written(3)[:4])
    item = robustness(CFG, run, None)["perturbations"]["flip"]["overall"]
    assert (item["count"], item["plain"], item["drop"], item["rows_left_out"]) == (4, 1.0, 0.0, 2)


def test_files_are_found_by_the_table_of_perturbations(run):
    folder = run["path"].parent
    for name in ("reworded_10", "reworded_x", "reworded_1x", "blurred", "other_black"):
        write_jsonl(folder / f"predictions_{name}.jsonl", written(3))
    found, missing = perturbed_files(run["path"])
    assert sorted(found) == ["black", "reworded_1", "reworded_10", "reworded_2"] and "blur" in missing and "reworded" not in missing
    with pytest.raises(
        UserError, match="no perturbed predictions lie beside .*nothing.jsonl; make them first: predict_exp1.py --perturb all"
    ):
        robustness(CFG, {**run, "path": folder / "nothing.jsonl"}, None)


def test_files_are_found_beside_a_name_that_is_a_pattern(tmp_path):
    for name in ("p[1]", "p[1]_black", "p[1]_blur", "p1_flip"):
        write_jsonl(tmp_path / f"{name}.jsonl", written(3))
    found, missing = perturbed_files(tmp_path / "p[1].jsonl")
    assert found == {"black": tmp_path / "p[1]_black.jsonl", "blur": tmp_path / "p[1]_blur.jsonl"}
    assert missing == ["other_image", "reworded", "jpeg", "overexposure", "glare", "rotation", "flip"]


def test_of_a_perturbed_file_the_answers_alone_are_believed(run):
    """Truth, type and patient are the plain run's, the confidence is nobody's; a truth may be spelt another way."""
    path, plain = run["path"].with_name("predictions_black.jsonl"), run["judged"]
    of_plain = {"greedy": "yes", "confidence": 0.5, "candidates_top": [["yes", 0.5]], "abstained": False, "lenient": True}
    run["judged"] = [{**row, **of_plain} for row in plain]
    lied = [{**row, "gt": f" {row['gt'].upper()}.", "qtype": "open_ended", "group": "9", "confidence": 1.0} for row in written(4)]
    write_jsonl(path, lied)
    found = load_perturbed(path, "black", run, EvalConfig())
    right = [False, False, False, True, False, False]
    assert list(found.values()) == [{**row, "pred": own["pred"], "correct": mark} for row, own, mark in zip(plain, lied, right)]
    assert list(found) == list("012345")


def test_answers_are_compared_by_the_tolerances_and_conventions_of_the_run(tmp_path):
    """Its lists' separators, and its options' letters."""
    question = {"question": "Which?", "image": "0.png"}
    rows = [
        {"id": "0", "pred": "clip, snare", "gt": "snare; clip", "qtype": "open_ended", **question},
        {"id": "1", "pred": "10 mm", "gt": "10 mm", "qtype": "size_numeric", **question},
        {"id": "2", "pred": "B", "gt": "clip", "qtype": "mcq", "options": ["A: snare", "B: clip"], **question},
    ]
    conventions, loose = {"which": {"separators": [","]}}, EvalConfig(numeric_rel_tol=0.1)
    run = {"path": tmp_path / "p.jsonl", "judged": judge(with_clusters(rows, "rows"), loose, conventions), "sidecar": {}}
    run["conventions"] = conventions
    other = [{"pred": "snare; clip", "gt": "clip, snare"}, {"pred": "11 mm"}, {"pred": "clip", "gt": "B"}]
    write_jsonl(tmp_path / "p_black.jsonl", [{**row, **changed} for row, changed in zip(rows, other)])
    write_jsonl(tmp_path / "p_reworded_1.jsonl", [{"id": row["id"], **changed} for row, changed in zip(rows, other)])
    found = robustness(SimpleNamespace(eval=loose), run, None)
    black = found["perturbations"]["black"]
    assert (black["overall"]["perturbed"], black["changed"]["count"]) == (1, 1)
    assert (found["samples"]["consistent"]["count"], found["samples"]["reliant"]["count"]) == (2, 1)
    assert robustness(CFG, run, None)["perturbations"]["black"]["overall"]["perturbed"] == pytest.approx(2 / 3)


def test_what_a_file_does_not_say_is_no_contradiction(run):
    """Another wording is another question; a file may lack images and truths, and so may the plain run."""
    path = run["path"].with_name("predictions_reworded_1.jsonl")
    write_jsonl(path, [{**row, "question": "In other words?"} for row in written(3)])
    assert len(load_perturbed(path, "reworded_1", run, EvalConfig())) == 6
    black = path.with_name("predictions_black.jsonl")
    write_jsonl(black, [{"id": row["id"], "pred": row["pred"]} for row in written(4)])
    assert len(load_perturbed(black, "black", run, EvalConfig())) == 6
    run["judged"] = [{key: value for key, value in row.items() if key not in ("question", "image")} for row in run["judged"]]
    write_jsonl(black, written(4))
    assert len(load_perturbed(black, "black", run, EvalConfig())) == 6


def test_rows_without_question_and_truth_are_no_junk(run):
    path = run["path"].with_name("predictions_reworded_2.jsonl")
    write_jsonl(path, [*written(3), {"id": "8", "pred": "no"}, {"id": "9", "pred": "no", "question": "nan", "gt": "no"}])
    with pytest.raises(UserError, match=r"predictions.jsonl: rows that it lacks: 1 id \(8\); predict the same rows with both"):
        load_perturbed(path, "reworded_2", run, EvalConfig())
    write_jsonl(path, [{**written(3)[0], "id": "9", "gt": "nan"}])
    message = "predictions_reworded_2.jsonl: answers none of the rows of predictions.jsonl; predict it again: --perturb reworded"
    with pytest.raises(UserError, match=f"{message}$"):
        load_perturbed(path, "reworded_2", run, EvalConfig())


def test_all_that_differs_is_named(run):
    path = run["path"].with_name("predictions_black.jsonl")
    write_jsonl(path, [{**row, "image": "9.png", "question": "Is it?", "gt": "no way"} for row in written(4)[:2]])
    message = "another image in: 2 ids (0, 1); another question in: 2 ids (0, 1); another truth in: 2 ids (0, 1); predict the same rows"
    with pytest.raises(UserError, match=re.escape(f"{path}: is not about the rows of predictions.jsonl: {message} with both")):
        load_perturbed(path, "black", run, EvalConfig())


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda rows: [{**rows[0], "image": "9.png"}, *rows[1:]], r"another image in: 1 id \(0\); predict the same rows with both"),
        (lambda rows: [{**rows[0], "question": "Is it?"}, *rows[1:]], r"another question in: 1 id \(0\)"),
        (lambda rows: [{**rows[0], "gt": "No."}, *rows[1:]], r"another truth in: 1 id \(0\)"),
        (lambda rows: [*rows, {**rows[0], "id": "77"}], r"rows that it lacks: 1 id \(77\)"),
        (lambda rows: [{key: row[key] for key in ("pred", "gt")} for row in rows], "has rows without an id"),
    ],
)
def test_a_file_about_other_rows_is_refused(run, change, said):
    path = run["path"].with_name("predictions_black.jsonl")
    write_jsonl(path, change(written(4)))
    with pytest.raises(UserError, match=f"predictions_black.jsonl: .*{said}"):
        robustness(CFG, run, None)


def test_a_file_of_another_model_is_refused(run):
    """Predicted before the adapter was trained again."""
    made = {"adapter": "a", "config": {"predict.beams": 4}, "device": "cpu", "arguments": {"--limit": None}}
    path = run["path"].with_name("predictions_black.meta.json")
    sidecar = lambda **changes: path.write_text(json.dumps({"ids": list("012345"), "made_from": {**made, **changes}}))
    sidecar(device="cuda", perturbation={"name": "black"})
    assert robustness(CFG, loaded(path.parent, made_from=made), None)["perturbations"]
    sidecar(adapter="b", arguments={"--limit": 3})
    message = "predictions_black.jsonl: was made with other adapter, arguments than predictions.jsonl; predict it again: --perturb black"
    with pytest.raises(UserError, match=message):
        robustness(CFG, loaded(path.parent, made_from=made), None)


def test_rows_whose_truth_is_junk_are_left_out_of_both(run):
    path = run["path"].with_name("predictions_black.jsonl")
    write_jsonl(path, [*written(4), {**written(4)[0], "id": "9", "gt": "nan"}])
    assert robustness(CFG, run, None)["perturbations"]["black"]["overall"]["count"] == 6


WHOLE = """\
Robustness: the same rows, perturbed. Drop: percentage points of accuracy that this costs

Perturbation       Rows    Plain Perturbed    Drop  95 % interval      p (Holm) Other answers
----------------------------------------------------------------------------------------------
black                 6   66.67%    16.67%  +50.00  -34.22 to +87.47   1.000           50.00%
reworded_1            6   66.67%    66.67%   +0.00  -56.15 to +56.15   1.000            0.00%
reworded_2            6   66.67%    66.67%   +0.00  -63.04 to +63.04   1.000           33.33%
flip                  4  100.00%     0.00% +100.00  -31.52 to +100.00  1.000          100.00%
flip: 2 rows could not be perturbed, or asked so
flip: 4 rows got an empty answer, which is wrong

Drop by question type (*: p < 0.05 after Holm's correction over the types)

Perturbation            yes_no         color
--------------------------------------------
black                  +66.67        +33.33
reworded_1              +0.00         +0.00
reworded_2             +33.33        -33.33
flip                  +100.00       +100.00

Perturbation     Question Type          Rows    Plain Perturbed    Drop  95 % interval      p (Holm)
----------------------------------------------------------------------------------------------------
black            yes_no                    3   66.67%     0.00%  +66.67  -26.92 to +93.85   0.504
black            color                     3   66.67%    33.33%  +33.33  -41.53 to +79.23   0.504
reworded_1       yes_no                    3   66.67%    66.67%   +0.00  -56.15 to +56.15   1.000
reworded_1       color                     3   66.67%    66.67%   +0.00  -56.15 to +56.15   1.000
reworded_2       yes_no                    3   66.67%    33.33%  +33.33  -41.53 to +79.23   0.902
reworded_2       color                     3   66.67%   100.00%  -33.33  -79.23 to +41.53   0.902
flip             yes_no                    2  100.00%     0.00% +100.00  -31.52 to +100.00  0.586
flip             color                     2  100.00%     0.00% +100.00  -31.52 to +100.00  0.586

Right without the picture, beside the blind prior: what is left above it is a shortcut in the data

Picture          Question Type          Rows    Right    Blind   Above  95 % interval
------------------------------------------------------------------------------------------
black            yes_no                    3    0.00%  100.00% -100.00  -100.00 to +12.30
black            color                     3   33.33%    0.00%  +33.33  -41.53 to +79.23
black            OVERALL (micro)           6   16.67%   50.00%  -33.33  -79.23 to +41.53

Of 6 answers, 66.67% are the same in every wording (2 others); 50.00% change with a black picture, so rest on what is seen.
ideal: both; fragile: seen, but not the same in every wording; dangerous: the same, but not seen; worst: neither

Question                                         Rows     ideal   fragile dangerous     worst  Accuracy
-------------------------------------------------------------------------------------------------------
Is there text?                                      3    33.33%    33.33%    33.33%     0.00%    66.67%
What color is it?                                   3    33.33%     0.00%    33.33%    33.33%    66.67%
all                                                 6    33.33%    16.67%    33.33%    16.67%
95 % interval                                         6.1 - 79.2 1.8 - 69.0 6.1 - 79.2 1.8 - 69.0
right among them                                        100.00%   100.00%    50.00%     0.00%

not there, so not told: other_image, jpeg, blur, overexposure, glare, rotation (predict_exp1.py --perturb other_image jpeg blur \
overexposure glare rotation)
"""


def stripped(text):
    return [line.rstrip() for line in text.splitlines()]


def test_the_tables_are_told_to_the_letter(run):
    write_jsonl(run["path"].with_name("predictions_flip.jsonl"), [{**row, "pred": ""} for row in written(3)[:4]])
    blind = [{**row, "pred": "yes", "correct": row["gt"] == "yes"} for row in run["judged"]]
    found = robustness(CFG, run, blind)
    assert stripped(robustness_tables(found, verbose=True)) == WHOLE.splitlines()
    parts = WHOLE.rstrip().split("\n\n")
    assert [*parts[:4], *parts[5:]] == "\n".join(stripped(robustness_tables(found))).split("\n\n")
    without = "\n".join(stripped(robustness_tables(found | {"beside_blind": {}, "missing": [], "samples": None}))).split("\n\n")
    assert without == parts[:4]


def test_a_type_that_drops_for_certain_has_a_star_and_one_that_a_file_lacks_a_dash(run):
    found = robustness(CFG, run, None)
    found["perturbations"]["black"]["per_type"]["yes_no"]["p_holm"] = 0.0499
    found["perturbations"]["black"]["per_type"]["color"]["p_holm"] = 0.05
    del found["perturbations"]["reworded_1"]["per_type"]["color"]
    lines = robustness_tables(found).split("\n\n")[3].splitlines()
    assert lines[2:4] == ["black                  +66.67*       +33.33 ", "reworded_1              +0.00             - "]


def test_the_commonest_20_questions_are_shown_and_the_others_counted(run):
    found = robustness(CFG, run, None)
    (item, _), more = found["samples"]["per_question"], lambda count: robustness_tables(found | {"samples": samples_of(count)}).splitlines()
    samples_of = lambda count: found["samples"] | {"per_question": [item | {"question": f"Is it {n}?"} for n in range(count)]}
    shown = more(22)
    assert "Is it 19?" in "\n".join(shown) and "Is it 20?" not in "\n".join(shown) and "2 more questions in the metrics file" in shown
    assert "1 more question in the metrics file" in more(21) and "in the metrics file" not in "\n".join(more(20))
    found["samples"]["per_question"] = [item | {"question": None, "accuracy": None}]
    (line,) = (line for line in robustness_tables(found).splitlines() if line.startswith("(yes_no)"))
    assert line.split()[-1] == "-"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Of 9 answers, 50.00% are the same in every wording (1 others); 25.00% change with a black picture, so rest on what is seen."),
        ({"reliant": None}, "Of 9 answers, 50.00% are the same in every wording (1 others)."),
        (
            {"consistent": None, "by": "other_image", "rows": 1},
            "Of 1 answer, 25.00% change with another picture, so rest on what is seen.",
        ),
        (
            {"consistent": None, "empty": 1},
            "Of 9 answers, 25.00% change with a black picture, so rest on what is seen. In 1 row an answer is empty: such counts neither "
            "as the same nor as another one.",
        ),
    ],
)
def test_what_single_answers_rest_on_is_one_sentence(changes, said):
    found = {"rows": 9, "by": "black", "wordings": ["reworded_1"], "consistent": {"share": 0.5}, "reliant": {"share": 0.25}, "empty": 0}
    assert about_samples(found | changes) == said


def test_robustness_stands_in_table_metrics_and_report(folder, evaluate):
    """With a truth that the black pictures leave right in half of the rows."""
    for name in ("black", "reworded_1"):
        write_jsonl(folder / "out" / f"predictions_{name}.jsonl", [{**row, "pred": "no"} for row in PREDICTIONS])
    code, out, _ = evaluate("--robustness", "--report", folder / "out" / "report.html")
    assert code == 0 and out.startswith(TABLE)
    assert re.search(r"^black +4 +75\.00% +25\.00% +\+50\.00  ", out, re.MULTILINE)
    assert re.search(r"^black +OVERALL \(micro\) +4 +25\.00% +50\.00% +-25\.00  ", out, re.MULTILINE)
    found = metrics_of(folder)["robustness"]
    assert found["perturbations"]["black"]["per_type"]["yes_no"]["perturbed"] == pytest.approx(1 / 3)
    assert {kind: item["count"] for kind, item in found["samples"]["kinds"].items()} == {
        "ideal": 0,
        "fragile": 2,
        "dangerous": 2,
        "worst": 0,
    }
    page = (folder / "out" / "report.html").read_text()
    assert '<h2 id="robustness">' in page and "Accuracy as it is and perturbed" in page and ">reworded 1<" in page
    assert metrics_of(folder)["robustness"] and evaluate()[0] == 0 and metrics_of(folder)["robustness"] is None


def test_a_long_question_is_cut_in_the_table_and_one_that_fits_is_not(tmp_path):
    fits, long = "Which of the five instruments is in the image?", "Which of the five instruments is in this image?"
    rows = [(row[0], (fits, long)[number % 2], *row[2:]) for number, row in enumerate(ROWS)]
    for suffix, column in COLUMNS.items():
        write_jsonl(tmp_path / f"predictions{suffix}.jsonl", written(column, rows))
    judged = judge(with_clusters(written(3, rows), "rows"), EvalConfig(), {})
    run = {"path": tmp_path / "predictions.jsonl", "judged": judged, "sidecar": {}, "conventions": {}}
    lines = robustness_tables(robustness(CFG, run, None)).splitlines()
    (one,), (other,) = ([line for line in lines if line.startswith(text)] for text in (f"{fits} ", f"{long[:45]}… "))
    assert len(fits) == 46 and one.index(" 3 ") == other.index(" 3 ") == 51


def test_robustness_names_what_it_lacks(folder, evaluate):
    code, _, err = evaluate("--robustness")
    assert code == 1 and re.search(
        r"error: --robustness: no perturbed predictions lie beside .*; make them first: predict_exp1.py --perturb all", err
    )
    assert evaluate("--robustness", "--compare", "a", "b")[0] == 2 and evaluate("--pair", "wording")[0] == 2
