"""SurgCheck's table, by hand on a small folder of the same layout, and the published one where its files are.

python -m pytest tests/bench/test_surgcheck.py -v
"""

import csv
import json
import re
import sys

import numpy as np
import pytest

from bench import surgcheck
from files import run_script

# image, task, cue, truth, and what two wordings were answered with: (question, prediction) each
ROWS = [
    ("1_10.jpg", "Tool", "Box_Cue", "grasper", ("Which tool grasps?", "Grasper."), ("Which tool?", "hook")),
    ("1_20.jpg", "Tool", "No_Cue", "hook", ("Which tool?", "hook"), ("Which tool?", "hook")),
    ("2_10.jpg", "Tool", "No_Cue", "hook", ("Which tool cuts?", "hook"), ("Which tool?", "hook")),
    ("2_20.jpg", "CVS", "No_Cue", "Yes", ("Is it exposed?", "No"), ("Is it exposed?", "No")),
    ("3_10.jpg", "CVS", "No_Cue", "No", ("Is it exposed?", "No"), ("Is it exposed?", "No")),
]


def rows_of(wording, columns=("image", "question", "pred", "gt", "ori_img_tag", "main_tag", "sub_tag", "sub_sub_tag")):
    for image, task, cue, truth, *answers in ROWS:
        question, pred = answers[wording]
        known = {"image": image, "question": f"<image>\n{question}", "pred": pred, "gt": truth, "ori_img_tag": image}
        known |= {"main_tag": "QA", "sub_tag": cue, "sub_sub_tag": task}
        yield {name: known[name] for name in columns}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    """A model in both wordings, one whose files have other names, columns and order (one of them CSV), and one with a half."""
    results = tmp_path / "Evaluation"
    write(results / "all_results_a" / "a-lora-pred.jsonl", rows_of(0))
    write(results / "all_results_a" / "a-lora-pred-less-bias.jsonl", rows_of(1))
    (results / "all_results_a_score").mkdir()
    (results / "all_results_a_score" / "_summary.json").write_text("{}")
    columns = ("sub_sub_tag", "gt", "pred", "sub_tag", "image", "question")
    write(results / "all_results_b" / "b_original.jsonl", reversed(list(rows_of(0, columns))))
    with open(results / "all_results_b" / "b_less_biased.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows_of(1, columns))
    write(results / "all_results_c" / "c-pred.jsonl", rows_of(0))
    write(results / "all_results_c" / "c-broken.jsonl", [{"image": "1_1.jpg", "pred": "x", "sub_sub_tag": "T"}])
    return tmp_path


def printed(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["surgcheck.py", str(folder)])
    with pytest.raises(SystemExit) as ended:
        run_script(surgcheck.main)
    return ended.value.code, capsys.readouterr().out


def cells(out, model, title):
    table = out[out.index(title) :].split("\n\n")[1]
    return [line.strip("| ").split(" | ")[1:] for line in table.splitlines() if line.startswith(f"| {model} |")]


def test_a_small_folder_by_hand(folder, monkeypatch, capsys):
    code, out = printed(folder, monkeypatch, capsys)
    assert code is None
    # truths grasper, hook twice, yes, no: F1 1, 1, 0, 2/3 in the original wording; 0, 4/5, 0, 2/3 in the other
    points = [f"{100 * value:.2f}" for value in (4 / 5, 3 / 5, (1 + 1 + 0 + 2 / 3) / 4, (0 + 4 / 5 + 0 + 2 / 3) / 4)]
    for model in ("a-lora-pred", "b"):
        (row,) = cells(out, model, "Table 2")
        assert row[0] == "5, 3" and [cell.split()[0] for cell in row[1:]] == points
        (row,) = cells(out, model, "Less biased minus original")
        assert row[0].split()[0] == "-20.00" and row[3:] == ["50.0% of 2", "1, 0"]
        assert cells(out, model, "Balanced accuracy by task") == [
            ["CVS", "2", "2", "50.00% (50.00%)", "50.00% (50.00%)", "50.00%"],
            ["Tool", "3", "2", "100.00% (100.00%)", "50.00% (66.67%)", "66.67%"],
        ]
    assert cells(out, "c-pred", "Table 2")[0][2] == "–"
    assert "c-pred: its answers to the less biased questions are not there" in out
    assert re.search(r"left out: \S*c-broken.jsonl:1: has no gt", out)


def test_halves_about_other_rows_are_not_compared(folder, monkeypatch, capsys):
    write(folder / "Evaluation" / "all_results_a" / "a-lora-pred-less-bias.jsonl", list(rows_of(1))[:-1])
    _, out = printed(folder, monkeypatch, capsys)
    assert "a-lora-pred: its 5 and 4 rows are not about the same images, tasks and truths, so no differences" in out
    assert cells(out, "a-lora-pred", "Table 2")[0][2].startswith("50.00") and not cells(out, "a-lora-pred", "Less biased minus original")


def test_a_folder_without_predictions_is_one_line(tmp_path, monkeypatch, capsys):
    code, _ = printed(tmp_path, monkeypatch, capsys)
    assert code.startswith("error: ") and "no .jsonl or .csv of predictions" in code and "\n" not in code


def test_the_published_table(shared, monkeypatch, capsys):
    monkeypatch.setattr(surgcheck, "DRAWS", 2000)
    code, out = printed(shared / "real-data" / "surgcheck", monkeypatch, capsys)
    (row,) = cells(out, "qwen-vl-lora-inference-pred", "Table 2")
    assert code is None and row[0] == "3,860, 40" and [cell.split()[0] for cell in row[1:]] == ["71.40", "66.74", "44.83", "35.25"]
    (row,) = cells(out, "qwen-vl-lora-inference-pred", "Less biased minus original")
    difference, low, high = map(float, re.findall(r"[-+][\d.]+", row[0]))
    assert difference == -4.66 and (low, high) == pytest.approx((-5.58, -3.90), abs=0.1)  # an independent computation's draws
    assert row[3:] == ["20.2% of 1,311", "194, 14"]
    (cvs,) = [row for row in cells(out, "qwen-vl-lora-inference-pred", "Balanced accuracy") if row[0] == "CVS"]
    assert cvs[3] == "50.00% (65.14%)"


def test_a_draw_of_each_video_once_is_the_score_itself(folder):
    rows = surgcheck.read_predictions(folder / "Evaluation" / "all_results_a" / "a-lora-pred.jsonl")
    sums = surgcheck.Videos(rows, ["group 1", "group 2", "group 3"])
    assert sums.accuracy(np.array([[1, 1, 1], [0, 2, 0]])) == pytest.approx([0.8, 0.5])
    # video 2 twice: truths hook and yes, answers hook and no
    assert sums.macro_f1(np.array([[0, 2, 0]])) == pytest.approx([0.5])
