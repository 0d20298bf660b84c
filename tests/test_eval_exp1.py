"""eval_exp1.py as its users run it: the fixed table first, what follows, refusals, and where reports go.

Most of what it prints and writes is decided in evaluation/, and tested in tests/evaluation/.

python -m pytest tests/test_eval_exp1.py -v
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from evaluating import PREDICTIONS, TABLE, changed, run_process, stripped, write_data

import eval_exp1
from files import write_jsonl

SHARED = os.environ.get("SURGVQA_SHARED")
MAIN_TABLE = """\
Question Type        Accuracy     95 % interval  Lenient    Blind     Gain      95 % interval  Reachable
--------------------------------------------------------------------------------------------------------
yes_no                 66.67%   20.77% - 93.85%   66.67%   66.67%    +0.00   -69.24 to +69.24          -
count_numeric         100.00%  20.65% - 100.00%  100.00%    0.00%  +100.00  -58.69 to +100.00          -
OVERALL (micro)        75.00%   23.85% - 96.64%   75.00%   50.00%   +25.00   -60.61 to +82.84          -
OVERALL (macro)        83.33%   26.82% - 96.93%   83.33%   33.33%   +50.00   -53.88 to +84.62          -
"""
USER_COUNTS = {
    "yes_no": (1853, 3071),
    "color": (98, 491),
    "count_numeric": (85, 1544),
    "size_numeric": (10, 498),
    "open_ended": (450, 3380),
}
USER_TABLE = """\
================================================================================
EVALUATION RESULTS - EXP1
================================================================================

Question Type        Count      Correct    Accuracy
--------------------------------------------------------------------------------
yes_no               3071       1853       60.34%
color                491        98         19.96%
count_numeric        1544       85         5.51%
size_numeric         498        10         2.01%
open_ended           3380       450        13.31%
--------------------------------------------------------------------------------
OVERALL (micro)      8984       2496       27.78%
================================================================================
"""


# ---------------------------------------------------------------------------------------------------------------------
# The table


def test_the_users_counts_give_the_users_table(folder):
    rows = [
        {"id": f"{qtype}-{number}", "pred": "7" if number < correct else "8", "gt": "7", "qtype": qtype}
        for qtype, (correct, count) in reversed(USER_COUNTS.items())
        for number in range(count)
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    result = run_process("--config", folder / "config.yaml")
    assert (result.returncode, result.stderr) == (0, "")
    assert stripped(result.stdout).startswith(USER_TABLE)
    assert result.stdout.splitlines()[4] == "Question Type        Count      Correct    Accuracy  "


def test_the_table_comes_first_although_the_training_rows_are_enriched_on_the_way(folder):
    result = run_process("--config", folder / "config.yaml", "--show", 1, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    out = stripped(result.stdout)
    assert out.startswith(TABLE)
    assert MAIN_TABLE in out and "enriched train: 4 rows" in out


def test_torch_is_never_imported(folder):
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = ['eval_exp1.py', '--config', {str(folder / 'config.yaml')!r}, '--text-metrics']\n"  # and with a report
        "try:\n    runpy.run_path(sys.path[0] + '/eval_exp1.py', run_name='__main__')\n"
        "except SystemExit as stopped:\n    assert not stopped.code, stopped.code\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["HEAVY []"], result.stderr


def test_custom_types_come_last_alphabetically_and_nothing_is_left_out(folder, evaluate):
    types = ["zoom", "open_ended", "instrument_type", "mcq", "yes_no"]
    rows = [{"id": i, "pred": "a", "gt": "a", "qtype": name} for i, name in enumerate(types)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    _, out, _ = evaluate()
    assert [line.split()[0] for line in out.splitlines()[6:11]] == [
        "yes_no",
        "mcq",
        "open_ended",
        "instrument_type",
        "zoom",
    ]
    assert out.splitlines()[8] == "open_ended           1          1          100.00%"


# ---------------------------------------------------------------------------------------------------------------------
# What comes after it


def test_the_rest_of_the_output(evaluate):
    evaluate()  # which enriches, and says so
    _, out, _ = evaluate()
    assert out.count("75.00%") == 3, "the overall accuracy stands in the user's table and, strict and lenient, in the one beside it"
    assert "empty predictions" not in out and "partial" not in out and "mismatches:\n" not in out
    assert out.count("WARNING") == 1 and "WARNING: 3 images" in out
    assert out.splitlines()[-1] == "more scores: -v; mistakes: --show 20"
    for flag in ("-v", "--verbose"):
        _, more, _ = evaluate(flag)
        assert more.startswith(out.split("metrics: ")[0]), "what is printed without -v comes first, unchanged"
        assert "macro accuracy: 83.33% (mean of 2 question types)\n" in more and "Macro-F1" in more and "more scores" not in more


def test_each_report_has_its_own_name(folder, monkeypatch):
    """A comparison replaces no other report, nor do seeds, nor another run's predictions of the same name."""
    write_jsonl(folder / "out" / "predictions_b.jsonl", PREDICTIONS)
    write_jsonl(folder / "other" / "predictions.jsonl", PREDICTIONS)
    for arguments in (
        ["--predictions", "out/predictions.jsonl"],
        ["--predictions", "out/predictions_b.jsonl"],
        ["--predictions", "other/predictions.jsonl"],
        ["--predictions", "out/predictions.jsonl", "out/predictions_b.jsonl"],
        ["--compare", "out/predictions.jsonl", "out/predictions_b.jsonl"],
    ):
        monkeypatch.setattr("sys.argv", ["eval_exp1.py", "--config", str(folder / "config.yaml"), *arguments])
        assert eval_exp1.main() is None
    assert sorted(path.name for path in (folder / "out").glob("*.html")) == [
        "report.html",
        "report_b.html",
        "report_comparison_predictions_b.html",
        "report_other.html",
        "report_seeds_predictions_and_1_more.html",
    ]
    assert sorted(path.name for path in (folder / "out").glob("metrics*")) == ["metrics.json", "metrics_b.json", "metrics_other.json"]


# ---------------------------------------------------------------------------------------------------------------------
# Refusals


def test_missing_predictions_end_in_one_line(folder):
    path = folder / "out" / "predictions.jsonl"
    path.unlink()
    result = run_process("--config", folder / "config.yaml")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path} does not exist; predict first: ") and len(result.stderr.splitlines()) == 1
    command = shlex.split(result.stderr.split("predict first: ")[1])
    assert Path(command[1]).name == "predict_exp1.py" and command[2] == "--config" and Path(command[3]).samefile(folder / "config.yaml")


@pytest.mark.parametrize("files", [["A"], ["A", "B", "C"], ["A", "--"], ["--", "A"], ["A", "--", "B", "--", "C"]])
def test_compare_says_how_its_sides_are_given(evaluate, capsys, files):
    code, _, err = evaluate("--compare", *files)
    assert code == 2 and "A1 A2 A3 -- B1 B2 B3" in err


@pytest.mark.parametrize(
    ("more", "code"), [(["--compare", "a.jsonl", "b.jsonl"], 2), (["--summary", "a.json"], 2), (["--predictions", "a.jsonl", "b.jsonl"], 2),
                       (["--predictions", "a.jsonl"], 1), ([], 1)],
)  # fmt: skip
def test_robustness_is_that_of_one_file(evaluate, more, code):
    """Where it is one, the fault is another: there is no such file, or nothing beside it."""
    ended, _, err = evaluate("--robustness", *more)
    assert ended == code and ("--robustness is about one predictions file, and what lies beside it" in err) == (code == 2)


@pytest.mark.parametrize("option", ["--predictions", "--compare"])
def test_the_same_file_twice_is_no_second_seed(folder, evaluate, option):
    files = ["out/predictions.jsonl"] * 2
    code, out, err = evaluate(option, *files, *(["--", *files] if option == "--compare" else []))
    assert (code, out) == (1, "") and "is given twice" in err


def test_an_error_stays_on_its_line(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", changed(PREDICTIONS, 1, id="first\nerror: all is well\x1b[1A"))
    code, _, err = evaluate("--against", write_data(folder))
    assert code == 1 and len(err.splitlines()) == 1 and "first\\nerror: all is well\\x1b[1A" in err


# ---------------------------------------------------------------------------------------------------------------------
# Real predictions


@pytest.mark.skipif(not SHARED, reason="SURGVQA_SHARED is not set: no real predictions here")
def test_real_empty_predictions_that_once_scored_100_percent_score_nothing(folder, evaluate):
    source = Path(SHARED) / "real-data" / "predictions" / "endovis_all_empty.json"
    rows = [
        {
            "id": index,
            "pred": row["prediction"],
            "gt": row["ground_truth"],
            "qtype": row["question_type"],
            "question": row["question"],
        }
        for index, row in enumerate(json.loads(source.read_text(encoding="utf-8"))["predictions"])
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, out, _ = evaluate()
    assert code == 0
    assert "OVERALL (micro)      2384       0          0.00%\n" in out
    assert "empty predictions: 2,384 of 2,384, counted as wrong\n" in out
    assert "WARNING: 100.00% OF THE PREDICTIONS ARE EMPTY" in out
