"""A predictions file on its way to scores: the data it is checked against, its blind prior, metrics file, seeds and comparisons.

python -m pytest tests/evaluation/test_runs.py -v
"""

import json
import re
from pathlib import Path

import pytest
from evaluating import ONE_FILE, PREDICTIONS, TABLE, accuracy, changed, metrics_of, opened, seed_file, write_data, write_sidecar

from config import near
from evaluation.metrics import template_of
from evaluation.runs import beside_questions, evaluate_seeds, metrics_path, names_in_words, score_leniently, score_reachable
from evaluation.truth import RULES_ALONE
from files import write_jsonl

# ---------------------------------------------------------------------------------------------------------------------
# One file


def test_predictions_that_fit_the_data_file_are_said_to(folder, evaluate):
    data = write_data(folder)
    code, out, _ = evaluate("--against", data)
    said = f"questions, images, answers and patients are those of {near(data)}"
    assert code == 0 and out.startswith(TABLE) and said in out
    assert metrics_of(folder)["against"] == data.name
    assert "only the file itself was checked" in evaluate("--predictions", "out/predictions.jsonl")[1]
    assert said in evaluate(f"data.val_jsonl={data}")[1], "the default predictions are those of val"


def test_the_default_file_must_be_of_the_validation_split(folder, evaluate):
    write_sidecar(folder, split="test")
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "holds predictions for the test split, not val;" in err
    assert evaluate("--predictions", "out/predictions.jsonl")[0] == 0


def test_a_part_is_a_part_of_the_data_whatever_the_sidecar_calls_the_whole(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", PREDICTIONS[:2])
    for rows_in_split in (None, 2):
        write_sidecar(folder, limit=2, ids=["0", "1"], rows_in_split=rows_in_split)
        code, out, _ = evaluate("--against", write_data(folder))
        assert code == 0 and "\npartial: 2 of 4 rows\n" in out and metrics_of(folder)["partial"] == [2, 4]


def test_answer_sets_for_images_that_calibrated_them_prove_nothing_and_the_output_says_so(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "answer_set": [row["pred"]]} for row in PREDICTIONS])
    write_sidecar(folder, calibrated_on=3, config={"predict": {"coverage": 0.8}})
    out = evaluate()[1].splitlines()
    assert "WARNING: 3 rows are about images that calibrated these sets: their coverage proves nothing." in out
    found = metrics_of(folder)["answer_sets"]
    assert (found["target"], found["calibrated_on"], found["overall"]["coverage"]) == (0.8, 3, 0.75)


def test_an_image_of_two_patients_is_refused_by_the_files_name(folder, evaluate):
    path = folder / "out" / "predictions.jsonl"
    row = {"pred": "yes", "gt": "yes", "qtype": "yes_no", "image": "a.png"}
    write_jsonl(path, [{**row, "id": patient, "question": f"Is it {patient}?", "group": patient} for patient in "pq"])
    code, _, err = evaluate()
    assert code == 1 and err.strip() == (
        f"error: {path}: image a.png has two groups, 'p' and 'q'; a group is the patient or the video of the whole image"
    )


def test_tolerances_come_from_the_configuration(folder, evaluate):
    rows = [
        {"id": "0", "pred": "12mm", "gt": "10mm", "qtype": "size_numeric"},
        {"id": "1", "pred": "3", "gt": "2", "qtype": "count_numeric"},
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    assert "OVERALL (micro)      2          0          0.00%" in evaluate()[1]
    assert "size_numeric         1          1          100.00%" in evaluate("eval.numeric_abs_tol=2")[1]
    assert "count_numeric        1          1          100.00%" in evaluate("eval.count_abs_tol=1")[1]
    assert metrics_of(folder)["tolerances"] == {"numeric_rel_tol": 0.05, "numeric_abs_tol": 0.0, "count_abs_tol": 1}


def test_the_metrics_file_by_hand(folder, evaluate):
    write_sidecar(folder)
    evaluate()
    metrics = metrics_of(folder)
    assert {key: metrics[key] for key in ("n", "correct", "micro", "macro", "empty", "partial")} == {
        "n": 4,
        "correct": 3,
        "micro": 0.75,
        "macro": (2 / 3 + 1) / 2,
        "empty": 0,
        "partial": None,
    }
    assert metrics["per_type"] == {
        "yes_no": {"count": 3, "correct": 2, "accuracy": 2 / 3},
        "count_numeric": {"count": 1, "correct": 1, "accuracy": 1.0},
    }
    assert metrics["blind_prior"]["micro"] == 0.5
    assert metrics["blind_prior"]["per_type"]["yes_no"] == {"count": 3, "correct": 2, "accuracy": 2 / 3}
    assert metrics["predictions"] == "out/predictions.jsonl"
    assert metrics["sidecar"] == {
        "split": "val",
        "limit": None,
        "rows_in_split": 4,
        "adapter": "none",
        "decoding": "free",
    }
    assert metrics["config"]["output_dir"] == "out"
    assert {"versions", "commit"} <= metrics.keys()


@pytest.mark.parametrize(
    "predictions, metrics",
    [
        ("out/predictions.jsonl", "metrics.json"),
        ("out/predictions_test_none.jsonl", "metrics_test_none.json"),
        ("elsewhere/foreign.jsonl", "metrics_foreign.json"),
    ],
)
def test_each_predictions_file_has_its_own_metrics_file_in_the_output_folder(folder, evaluate, predictions, metrics):
    (folder / "out" / "predictions.jsonl").unlink()
    write_jsonl(folder / predictions, PREDICTIONS)
    assert evaluate("--predictions", predictions)[0] == 0  # found from the config's folder
    assert [path.name for path in (folder / "out").glob("metrics*")] == [metrics]


def test_a_file_with_a_strange_name_steers_no_terminal(folder, evaluate):
    write_jsonl(folder / "out" / "predictions_\x1b[31m.jsonl", PREDICTIONS)
    _, out, _ = evaluate("--predictions", "out/predictions_\x1b[31m.jsonl")
    assert "metrics: " in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("predictions", "types", "name"),
    [
        ("out/predictions.jsonl", "predicted", "metrics.json"),
        ("out/predictions.jsonl", "rules", "metrics_rules.json"),
        ("out/predictions_test.jsonl", "rules", "metrics_test_rules.json"),
        ("seed2/predictions.jsonl", "predicted", "metrics_seed2.json"),
        ("seed2/predictions_test.jsonl", "predicted", "metrics_seed2_test.json"),
        ("elsewhere/foreign.jsonl", "predicted", "metrics_foreign.json"),
    ],
)
def test_a_metrics_file_is_called_after_its_predictions(predictions, types, name):
    assert metrics_path(Path("out"), Path(predictions), types) == Path("out") / name


# ---------------------------------------------------------------------------------------------------------------------
# The blind prior


@pytest.mark.parametrize(
    "override, reason",
    [
        ("data.train_jsonl=null", "data.train_jsonl is not set"),
        ("data.train_jsonl=gone.jsonl", "gone.jsonl does not exist"),
    ],
)
def test_without_training_rows_there_is_no_blind_prior_and_the_reason_is_said(folder, evaluate, override, reason):
    code, out, _ = evaluate(override)
    assert code == 0 and out.startswith(TABLE)
    assert "no blind prior: " in out and reason in out and "blind prior answers" not in out and "config_demo.yaml" not in out
    assert re.search(r"^yes_no +66\.67% +20\.77% - 93\.85% +66\.67% +- +- +- +-$", out, re.MULTILINE)
    assert metrics_of(folder)["blind_prior"] is None


def test_training_rows_that_ask_other_questions_are_no_prior(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "question": f"{row['question']} Truly?"} for row in PREDICTIONS[:3]])
    _, out, _ = evaluate()
    assert "train.jsonl asks the questions of 0 of these 3 rows, too few for a prior" in out and "BELOW" not in out
    assert metrics_of(folder)["blind_prior"] is None and metrics_of(folder)["gains"] is None
    write_jsonl(folder / "out" / "predictions.jsonl", PREDICTIONS)
    assert "training asks the questions of 4 of these 4 rows" in evaluate()[1]


def test_questions_that_differ_in_form_only_have_a_prior(folder, evaluate):
    forms = ["Is there a polyp", "is there a  POLYP?", "How many polyps", "[Stage-1] Is there a polyp?"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "question": form} for row, form in zip(PREDICTIONS, forms)])
    assert "training asks the questions of 4 of these 4 rows" in evaluate()[1]


# ---------------------------------------------------------------------------------------------------------------------
# The other scores


def test_scores_beside_the_table(folder, evaluate):
    rows = [{**row, "confidence": 0.75, "abstained": row["id"] == "1", "greedy": "no", "reachable": True} for row in PREDICTIONS]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, out, _ = evaluate("-v")
    assert code == 0 and out.startswith(TABLE)
    assert re.search(
        r"^yes_no +66\.67% +20\.77% - 93\.85% +66\.67% +66\.67% +\+0\.00 +-\d\d\.\d\d to \+\d\d\.\d\d +100\.00%$", out, re.MULTILINE
    )
    assert "yes_no                  33.33%    75.00%    66.67%\n" in out
    assert "calibration (4 rows with a confidence): ECE 0.0000 (15 bins), Brier 0.1875, AURC 0.2500\n" in out
    assert "abstained: 1 of 4, coverage 75.00%, accuracy of the rest 100.00%\n" in out
    assert "exact and greedy differ in 2 of 4 exactly scored rows: exact alone is right in 2, greedy alone in 0\n" in out
    assert metrics_of(folder)["greedy"] == {"count": 4, "disagree": 2, "only_exact_right": 2, "only_greedy_right": 0}
    assert metrics_of(folder)["details"]["per_question"][0]["blind"] == pytest.approx(2 / 3)


def test_reachable_answers_stand_beside_the_scores(folder, evaluate):
    """Three of four rows have an answer that their constraint allows; a file without the field shows no such line."""
    rows = [{**row, "reachable": row["id"] != PREDICTIONS[0]["id"]} for row in PREDICTIONS]
    for stem, content in (("told", rows), ("untold", PREDICTIONS)):
        write_jsonl(folder / "out" / f"predictions_{stem}.jsonl", content)
        _, out, _ = evaluate("--predictions", f"out/predictions_{stem}.jsonl")
        ceiling = next(line for line in out.splitlines() if "(micro)" in line and " - " in line).split()[-1]
        assert ceiling == {"told": "75.00%", "untold": "-"}[stem]
        _, out, _ = evaluate("--predictions", f"out/predictions_{stem}.jsonl", "-v")
        assert ("reachable answers: 75.00% of the rows" in out) == (stem == "told")
    assert metrics_of(folder, "metrics_told.json")["reachable"]["correct"] == 3
    _, out, _ = evaluate("--summary", "out/metrics_told.json", "out/metrics_untold.json")
    assert [line.split("  ")[0] for line in out.splitlines()[-2:]] == ["commonest training answer", "reachable answers"]


def test_a_lenient_score_stands_beside_the_strict_one(folder, evaluate):
    said = ["Yes, there is a polyp.", "No, there is no polyp.", "2", "maybe no"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": text} for row, text in zip(PREDICTIONS, said)])
    _, out, _ = evaluate()
    assert accuracy(out) == "25.00%", "the headline stays strict"
    assert re.search(r"^OVERALL \(micro\) +25\.00% .* 50\.00% ", out, re.MULTILINE)
    assert "NOTE: these answers have 3.2 words, the truth 1.0: exact match measures form here" in out
    assert metrics_of(folder)["lenient"]["correct"] == 2


def test_text_metrics_know_all_references(folder, evaluate):
    row = {"id": "0", "pred": "a b c d", "gt": "a b c d", "answers": ["e f g h"], "qtype": "open_ended", "question": "What?", "image": "a"}
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    assert "open_ended                  1  100.00%  100.00%  100.00%  100.00%  100.00%\n" in evaluate("--text-metrics")[1]


def test_each_recipe_is_printed_and_written_once_by_its_name(folder, evaluate):
    code, out, _ = evaluate("--recipe", "vqla", "surgvu25", "vqla")
    assert code == 0 and re.findall(r"^Recipe (\w+): ", out, re.MULTILINE) == ["vqla", "surgvu25"]
    recipes = metrics_of(folder)["recipes"]
    assert list(recipes) == ["vqla", "surgvu25"] and recipes["vqla"]["notes"] == []
    accuracies = {who: scores["accuracy"] for who, scores in recipes["vqla"]["scores"].items()}
    assert accuracies == {"these answers": 0.75, "always yes": 0.5, "the question": 0, "nothing": 0, "the commonest answer": 0.5}
    code, out, err = evaluate("--recipe", "vqla", "surgvu")
    assert (code, out) == (1, "") and "--recipe 'surgvu': there is no such recipe" in err


def test_each_question_has_its_own_floor_and_ceiling():
    rows = [{"qtype": "color", "question": question, "reachable": n != 1} for n, question in enumerate(["A?", "A?", "A?", "B?"])]
    details = {"per_question": [{"qtype": "color", "template": template_of(row)} for row in (rows[0], rows[3])]}
    beside_questions(details, rows, [{"correct": n == 0} for n in range(4)])
    assert [(item["blind"], item["reachable"]) for item in details["per_question"]] == [(1 / 3, 2 / 3), (0, 1)]
    beside_questions(details, [rows[0], {**rows[3], "reachable": None}], None)
    assert [(item["blind"], item["reachable"]) for item in details["per_question"]] == [(None, None)] * 2


def test_a_ceiling_is_known_only_where_every_row_tells_it():
    rows = [{"qtype": "color", "pred": "red", "reachable": reachable} for reachable in (True, True, False)]
    assert score_reachable(rows)["micro"] == pytest.approx(2 / 3)
    assert score_reachable([*rows, {"qtype": "color", "pred": "red"}]) is None


def test_rows_of_one_question_have_lenient_verdicts_of_their_own():
    row = {"qtype": "yes_no", "question": "Is there a polyp?", "gt": "yes", "correct": False}
    said = ["Yes, there is a polyp.", "no", "Yes, there is a polyp."]
    judged = [*({**row, "pred": text} for text in said), {**row, "pred": "yes", "correct": True}]
    assert score_leniently(judged, RULES_ALONE)["correct"] == 3
    assert [row["lenient"] for row in judged] == [True, False, True, True]
    row = {"qtype": "mcq", "question": "Which tool?", "gt": "snare", "pred": "The answer is B.", "correct": False}
    lettered = [{**row, "options": options} for options in (["clip", "snare"], ["snare", "clip"])]
    assert score_leniently(lettered, RULES_ALONE)["correct"] == 1 and [row["lenient"] for row in lettered] == [True, False]


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def test_several_seeds(folder, evaluate):
    runs = (PREDICTIONS, changed(PREDICTIONS, 1, pred="yes"), changed(PREDICTIONS, 0, pred="no"))
    files = [seed_file(folder, seed, rows) for seed, rows in enumerate(runs)]
    code, out, err = evaluate("--predictions", *files, "eval.count_abs_tol=1")
    assert code == 0 and out.startswith(TABLE), err
    assert "OVERALL (micro)      4          75.00%     25.00%     " in out
    assert "3 seeds: mean and standard deviation over them; the interval of the mean is by images" in out
    seeds = json.loads((folder / "out" / "seeds_seed0_and_2_more.json").read_text())
    assert seeds["overall"]["mean"] == 0.75 and seeds["overall"]["sd"] == 0.25


def test_compare_prints_both_tables_and_a_conclusion(folder, evaluate):
    write_jsonl(folder / "out" / "predictions_b.jsonl", [{**row, "pred": row["gt"]} for row in reversed(PREDICTIONS)])
    code, out, _ = evaluate("--compare", "out/predictions.jsonl", "out/predictions_b.jsonl")
    assert code == 0 and out.startswith(TABLE) and out.count("EVALUATION RESULTS - EXP1") == 2
    assert "OVERALL (micro)           4   75.00%  100.00%   +25.00  " in out
    assert "On 4 questions about 3 images, b answered 100.00% correctly and predictions 75.00%: a paired difference of +25.00 " in out
    written = json.loads((folder / "out" / "comparison_predictions_b.json").read_text())
    assert written["overall"]["only_b"] == 1 and written["conclusion"] in out
    write_jsonl(folder / "out" / "predictions_b.jsonl", PREDICTIONS[1:])
    code, out, err = evaluate("--compare", "out/predictions.jsonl", "out/predictions_b.jsonl")
    assert (code, out) == (1, "") and "missing: 1 id (0);" in err


def test_the_file_of_several_seeds_has_each_score_its_spread_and_no_folder(folder, evaluate):
    runs = (PREDICTIONS, changed(PREDICTIONS, 1, pred="yes"), changed(PREDICTIONS, 0, pred="no")[::-1])  # in an order of its own
    files = [seed_file(folder, seed, rows) for seed, rows in enumerate(runs)]
    evaluate("--predictions", *files)
    written = json.loads((folder / "out" / "seeds_seed0_and_2_more.json").read_text())
    ends = [written["overall"].pop("interval"), *(item.pop("interval") for item in written["per_type"].values())]
    assert written == {
        "predictions": [f"out/predictions_seed{seed}.jsonl" for seed in range(3)],
        "overall": {"count": 4, "mean": 0.75, "sd": 0.25},
        "per_type": {
            "yes_no": {"count": 3, "mean": pytest.approx(2 / 3), "sd": pytest.approx(1 / 3)},
            "count_numeric": {"count": 1, "mean": 1.0, "sd": 0.0},
        },
    }
    assert ends == [
        [pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5), "Wilson"]
        for low, high in ((0.2385, 0.9664), (0.2077, 0.9385), (0.2065, 1))
    ]


def test_several_seeds_are_reported_by_the_first(folder):
    """Its rows and scores are those of the page; what all have in common stands beside them."""
    for seed, rows in enumerate((PREDICTIONS, changed(PREDICTIONS, 1, pred="yes"))):
        seed_file(folder, seed, rows)
    cfg, load = opened(folder)
    found = evaluate_seeds(cfg, [load(f"predictions_seed{seed}.jsonl") for seed in (0, 1)], ONE_FILE)
    assert (found["path"].name, found["metrics"].name, found["scores"]["micro"]) == ("predictions_seed0.jsonl", "metrics_seed0.json", 0.75)
    assert found["seeds"]["overall"]["mean"] == 0.875 and found["about_file"].name == "seeds_seed0_and_1_more.json"


def test_the_file_of_a_comparison_has_every_score_of_both_sides(folder, evaluate):
    write_jsonl(folder / "out" / "predictions_b.jsonl", [{**row, "pred": row["gt"]} for row in reversed(PREDICTIONS)])
    _, out, _ = evaluate("--compare", "out/predictions.jsonl", "out/predictions_b.jsonl")
    written = json.loads((folder / "out" / "comparison_predictions_b.json").read_text())
    ends = lambda low, high, how: [pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5), how]
    about = lambda p: pytest.approx(p, abs=5e-4)
    tested = {"test": "score test by cluster"}
    assert written == {
        "a": ["out/predictions.jsonl"],
        "b": ["out/predictions_b.jsonl"],
        "overall": tested
        | {"count": 4, "clusters": 3, "a": 0.75, "b": 1.0, "difference": 0.25, "interval": ends(-0.4878, 0.7615, "score")}
        | {"p": about(0.524), "only_a": 0, "only_b": 1},
        "macro": {"count": 2, "a": pytest.approx(5 / 6), "b": 1.0, "difference": pytest.approx(1 / 6)}
        | {"interval": ends(-0.5231, 0.7318, "MOVER")},
        "per_type": {
            "yes_no": tested
            | {"count": 3, "clusters": 3, "a": 2 / 3, "b": 1.0, "difference": pytest.approx(1 / 3)}
            | {"interval": ends(-0.4153, 0.7923, "score"), "p": about(0.451), "p_holm": about(0.902), "only_a": 0, "only_b": 1},
            "count_numeric": tested
            | {"count": 1, "clusters": 1, "a": 1.0, "b": 1.0, "difference": 0.0}
            | {"interval": ends(-0.7935, 0.7935, "score"), "p": 1.0, "p_holm": 1.0, "only_a": 0, "only_b": 0},
        },
        "unit": "images",
        "seeds": [1, 1],
        "conclusion": out.splitlines()[-3],
    }


def test_the_conclusion_that_is_written_names_no_folder_outside_of_the_study(folder, evaluate):
    """Folders with spaces, which no pattern would find the end of, on both sides."""
    for name in ("a b", "c d"):
        write_jsonl(folder / "of" / name / "p" / "predictions.jsonl", PREDICTIONS)
    code, _, _ = evaluate("--compare", "of/a b/p/predictions.jsonl", "of/c d/p/predictions.jsonl")
    written = json.loads((folder / "out" / "comparison_predictions_predictions.json").read_text())
    assert code == 0 and (written["a"], written["b"]) == (["of/a b/p/predictions.jsonl"], ["of/c d/p/predictions.jsonl"])
    said = "of/c d/p/predictions.jsonl answered 75.00% correctly and of/a b/p/predictions.jsonl 75.00%: "
    assert written["conclusion"].startswith(f"On 4 questions about 3 images, {said}")


def test_compare_takes_seeds_on_both_sides(folder, evaluate):
    runs = (PREDICTIONS, changed(PREDICTIONS, 1, pred="yes"), changed(PREDICTIONS, 0, pred="no"))
    for side in "ab":
        for seed, rows in enumerate(runs if side == "a" else [[{**row, "pred": row["gt"]} for row in PREDICTIONS]] * 2):
            write_jsonl(folder / "out" / f"predictions_{side}{seed}.jsonl", rows)
    files = [f"out/predictions_{name}.jsonl" for name in ("a0", "a1", "a2")], [f"out/predictions_{name}.jsonl" for name in ("b0", "b1")]
    code, out, err = evaluate("--compare", *files[0], "--", *files[1], "eval.count_abs_tol=1")
    assert code == 0, err
    assert "a: a paired" not in out and "A, 3 seeds" in out and "B, 2 seeds" in out
    assert "b0 (mean of 2 seeds) answered 100.00% correctly and a0 (mean of 3 seeds) 75.00%: a paired difference of +25.00 " in out
    assert "95% confidence interval over questions and seeds " in out
    written = json.loads((folder / "out" / "comparison_a0_and_2_more_b0_and_1_more.json").read_text())
    assert written["seeds"] == [3, 2] and len(written["a"]) == 3 and written["overall"]["a"] == 0.75


def test_the_seeds_of_one_side_are_of_one_configuration(folder, evaluate):
    first, *second = (seed_file(folder, seed, PREDICTIONS, train={"seed": seed, "lr": lr}) for seed, lr in enumerate((2e-4, 1e-4, 2e-4)))
    code, out, err = evaluate("--compare", first, "--", *second)
    assert (code, out) == (1, "") and "these files differ in train.lr; use --compare" in err
    assert evaluate("--compare", second[0], "--", first, second[1])[0] == 0, "the sides differ, and are compared"


def test_two_wordings_are_compared_when_told_so(folder, evaluate):
    """By pairs of ids, though another question has another type; images, truths and ids still have to be the same."""
    reworded = [{**PREDICTIONS[0], "question": "Which polyp?", "qtype": "open_ended", "pred": "no"}, *PREDICTIONS[1:]]
    write_jsonl(folder / "out" / "predictions_b.jsonl", reworded)
    compare = ("--compare", "out/predictions.jsonl", "out/predictions_b.jsonl")
    code, _, err = evaluate(*compare)
    assert code == 1 and "another question or image: 1 id (0)" in err and err.rstrip().endswith("with --pair wording")
    code, out, _ = evaluate(*compare, "--pair", "wording")
    assert code == 0 and re.search(r"^yes_no +3 +66\.67% +33\.33% +-33\.33 ", out, re.MULTILINE)
    assert re.search(r"^OVERALL \(micro\) +4 +75\.00% +50\.00% ", out, re.MULTILINE)
    data = folder / "data.jsonl"
    write_jsonl(data, [{"id": row["id"], "question": row["question"], "answer": row["gt"], "image": row["image"]} for row in PREDICTIONS])
    assert evaluate(*compare, "--against", data)[0] == 1
    assert evaluate(*compare, "--against", data, "--pair", "wording")[0] == 0
    write_jsonl(folder / "out" / "predictions_b.jsonl", [{**reworded[0], "image": "e.png"}, *reworded[1:]])
    code, _, err = evaluate(*compare, "--pair", "wording")
    assert code == 1 and "another image: 1 id (0)" in err and "--pair" not in err


UNTUNED = {"adapter": "none", "decoding": "free"}
TUNED = {"adapter": "out/adapter", "decoding": "greedy"}


@pytest.mark.parametrize(
    ("sidecars", "paths", "names"),
    [
        ([UNTUNED, TUNED], "ab", ["the untuned model with free decoding", "the tuned model with greedy constrained decoding"]),
        ([TUNED, {}], "ab", ["the tuned model with greedy constrained decoding", "b"]),
        ([TUNED, TUNED], "ab", ["a", "b"]),
        ([{}, {}], ["x/predictions.jsonl", "y/predictions.jsonl"], ["x/predictions", "y/predictions"]),
        ([{}, {}], ["x/p/predictions.jsonl", "y/p/predictions.jsonl"], ["x/p/predictions.jsonl", "y/p/predictions.jsonl"]),
    ],
)
def test_two_runs_are_called_by_what_tells_them_apart(sidecars, paths, names):
    paths = [Path(path if "/" in path else f"out/predictions_{path}.jsonl") for path in paths]
    assert names_in_words(*({"sidecar": sidecar, "path": path} for sidecar, path in zip(sidecars, paths))) == names
