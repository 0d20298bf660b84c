"""What an evaluation prints: alarms above the table, what its columns mean below it, more scores and mismatches when asked.

python -m pytest tests/evaluation/test_tables.py -v
"""

import inspect
import re

import pytest
from evaluating import PREDICTIONS, TABLE, VAL, accuracy, changed, metrics_of, write_data, write_sidecar

from evaluation import tables
from files import write_jsonl

# ---------------------------------------------------------------------------------------------------------------------
# Above and in the table


def test_tolerances_and_parts_stand_beside_the_headline(folder, evaluate):
    write_sidecar(folder, limit=4, rows_in_split=9)
    evaluate()
    _, out, _ = evaluate("eval.numeric_abs_tol=2", "eval.count_abs_tol=1")
    between = out.split(TABLE)[1].split("Question Type")[0]
    assert between.strip().splitlines() == [
        "partial: 4 of 9 rows",
        "tolerances other than the defaults: eval.numeric_abs_tol=2.0 (default 0.0), eval.count_abs_tol=1 (default 0)",
    ]
    code, out, err = evaluate("eval.numeric_rel_tol=1.5")
    assert (code, out) == (1, "") and "numeric_rel_tol" in err


@pytest.mark.parametrize("empty, warned", [(1, False), (2, True)])  # of 20: 5 % is tolerated, more is not
def test_many_empty_predictions_are_a_loud_warning(folder, evaluate, empty, warned):
    rows = [{"id": i, "pred": "" if i < empty else "none", "gt": "none", "qtype": "open_ended"} for i in range(20)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, out, _ = evaluate()
    assert code == 0
    assert f"open_ended           20         {20 - empty}         " in out
    assert f"empty predictions: {empty} of 20, counted as wrong\n" in out
    assert ("WARNING: 10.00% OF THE PREDICTIONS ARE EMPTY" in out) is warned
    assert metrics_of(folder)["empty"] == empty


def test_a_model_below_its_blind_prior_is_marked(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": "no"} for row in PREDICTIONS])
    _, out, _ = evaluate()
    lines = {line.split("  ")[0]: line for line in out.splitlines() if " - " in line}
    assert "-33.33" in lines["yes_no"].split() and lines["yes_no"].split()[-3:] == ["-", "BELOW", "BLIND"]
    assert "+0.00" in lines["count_numeric"].split() and lines["count_numeric"].split()[-1] == "-"
    assert "-25.00" in lines["OVERALL (micro)"].split() and lines["OVERALL (micro)"].split()[-3:] == ["-", "BELOW", "BLIND"]


# ---------------------------------------------------------------------------------------------------------------------
# Below it


def test_what_is_independent_is_said_with_its_number_and_few_are_warned_of(folder, evaluate):
    assert "Intervals take 3 images as independent, not rows.\nWARNING: 3 images: intervals from fewer than 20 are rough" in evaluate()[1]
    data = write_data(folder, [{**row, "group": "p1" if row["image"] in ("d.png", "e.png") else "p2"} for row in VAL])
    assert "Intervals take 2 groups as independent, not rows.\nWARNING: 2 groups" in evaluate("--against", data)[1]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "image": None} for row in PREDICTIONS])
    assert "Intervals take 4 rows as independent: the file names no images." in evaluate()[1]
    rows = [{**PREDICTIONS[0], "id": str(place), "image": f"{place}.png"} for place in range(20)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    assert "Intervals take 20 images as independent, not rows.\nThe blind" in evaluate()[1]


def test_overall_macro_f1_is_on_the_screen(evaluate):
    assert re.search(r"^macro-F1: \d+\.\d\d% \(mean over all different true answers, of which there are 3\)$", evaluate()[1], re.MULTILINE)


def test_the_best_of_several_references_counts_and_that_is_said(folder, evaluate):
    data = write_data(folder, [{**row, "answers": [row["answer"], "no"]} for row in VAL])
    _, out, _ = evaluate("--against", data)
    assert accuracy(out) == "100.00%" and "several references: 3 of 4 rows; an answer is right if it is any of them" in out


def test_text_metrics_state_what_they_are(folder, evaluate):
    row = {"id": "0", "pred": "a small polyp", "gt": "none", "qtype": "open_ended", "question": "What?", "image": "a"}
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    data = write_data(folder, [{"question": "What?", "answer": "none", "answers": ["none", "a small polyp"], "image": "a"}])
    _, out, _ = evaluate("--text-metrics", "--against", data)
    assert "corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing; words of any script, lower case), ROUGE-L F" in out
    assert "open_ended                  1  100.00%  100.00%  100.00%        -  100.00%\n" in out, "no reference has a 4-gram"
    assert "Text overlap" not in evaluate()[1] and metrics_of(folder)["text"] is None


# ---------------------------------------------------------------------------------------------------------------------
# Mismatches


def test_show_prints_the_first_mismatches(folder, evaluate):
    rows = [*PREDICTIONS, {"id": "9", "pred": None, "gt": "red", "qtype": "color"}]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    first = "Predicted: 'no' vs GT: 'yes'  [id 1, yes_no] Is there a polyp?\n"
    second = "Predicted: '' vs GT: 'red'  [id 9, color]\n"
    assert "1 of 2 mismatches:\n" + first + "metrics:" in evaluate("--show", 1)[1]
    assert "2 of 2 mismatches:\n" + first + second + "metrics:" in evaluate("--show", 20)[1]


def test_the_documented_debug_line_works_where_mismatches_are_shown(capsys):
    anchor = 'pred, gt = row["pred"] or "", row["gt"]\n'
    source = inspect.getsource(tables)
    assert source.count(anchor) == 1
    debug = """        print(f"Predicted: '{pred}' vs GT: '{gt}' -> Match: {pred == gt}")\n"""
    pasted = {"__name__": "pasted"}
    exec(source.replace(anchor, anchor + debug), pasted)
    pasted["show_mismatches"]([{**PREDICTIONS[1], "correct": False}], 1)
    assert "Predicted: 'no' vs GT: 'yes' -> Match: False\n" in capsys.readouterr().out


@pytest.mark.parametrize("key, place", [("qtype", "table"), ("id", "mismatches")])
def test_what_a_file_says_steers_no_terminal(folder, evaluate, key, place):
    write_jsonl(folder / "out" / "predictions.jsonl", changed(PREDICTIONS, 1, **{key: "x\x1b[2Jy\nz"}))
    _, out, _ = evaluate("--show", 5, "-v")
    assert "x\\x1b[2Jy\\nz" in out and "\x1b" not in out and "\nz" not in out, place
