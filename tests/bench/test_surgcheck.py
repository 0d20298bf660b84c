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


def test_rows_of_one_key_are_paired_by_the_files_order_or_not_at_all(folder, monkeypatch, capsys):
    """What the order of rows in a file can't tell is left out of what depends on it, and of nothing else."""
    path = folder / "Evaluation" / "all_results_a" / "a-lora-pred-less-bias.jsonl"
    twice = [("1_10.jpg", "Tool", "Box_Cue", "grasper", ("Is it a tool?", "hook"), ("Is it?", "grasper"))]
    monkeypatch.setitem(globals(), "ROWS", ROWS + twice)
    write(path.with_name("a-lora-pred.jsonl"), rows_of(0))
    found = {}
    for name, rows in (("published", list(rows_of(1))), ("another", list(rows_of(1))[::-1])):
        write(path, rows)
        _, out = printed(folder, monkeypatch, capsys)
        (found[name],) = cells(out, "a-lora-pred", "Less biased minus original")
    assert found["published"][3:] == ["66.7% of 3", "1, 1"] and found["another"][3:] == ["0.0% of 1", "0, 0"]
    assert found["published"][:3] == found["another"][:3]
    assert "a-lora-pred: 2 of 6 rows share image, task, cue and truth with others, and the files' order differs" in out


def test_one_video_tells_no_interval(folder, monkeypatch, capsys):
    monkeypatch.setitem(globals(), "ROWS", [("1_" + image[2:], task, *rest) for image, task, *rest in ROWS])
    for wording, name in enumerate(("a|b.jsonl", "a|b-less-bias.jsonl")):
        write(folder / "Evaluation" / "all_results_a" / name, rows_of(wording))
    _, out = printed(folder, monkeypatch, capsys)
    assert cells(out, r"a\|b", "Table 2")[0][:3] == ["5, 1", "80.00 (–)", "60.00 (–)"]
    assert cells(out, r"a\|b", "Less biased minus original")[0][:2] == ["-20.00 (–)", "-30.00 (–)"]


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


def test_the_published_rows_in_another_order(shared):
    """Rows that could be paired in several ways are all asked in one wording, so the share of changed answers is the published one."""
    names = ("qwen-vl-lora-inference-pred", "qwen-vl-lora-inference-pred-less-bias")
    folder = shared / "real-data" / "surgcheck" / "Evaluation" / "all_results_qwen"
    first, second = (surgcheck.read_predictions(folder / f"{name}.jsonl") for name in names)
    np.random.default_rng(0).shuffle(second)
    both = surgcheck.pair(first, second)
    assert sum(row["sure"] for row in both[0]) == 2368
    _, accuracy, *_, changed, only = surgcheck.differences("m", *both)
    assert accuracy.startswith("-4.66") and changed == "20.2% of 1,311" and only == "194, 14"


def test_a_draw_of_each_video_once_is_the_score_itself(folder):
    rows = surgcheck.read_predictions(folder / "Evaluation" / "all_results_a" / "a-lora-pred.jsonl")
    sums = surgcheck.Videos(rows, ["group 1", "group 2", "group 3"])
    assert sums.accuracy(np.array([[1, 1, 1], [0, 2, 0]])) == pytest.approx([0.8, 0.5])
    # video 2 twice: truths hook and yes, answers hook and no
    assert sums.macro_f1(np.array([[0, 2, 0]])) == pytest.approx([0.5])
