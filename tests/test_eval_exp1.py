"""eval_exp1.py as its users run it: the fixed table first, refusals, sidecar, blind prior, metrics files, summary.

python -m pytest tests/test_eval_exp1.py -v
"""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import eval_exp1
from config import near
from evaluation import tables
from files import run_script, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
SHARED = os.environ.get("SURGVQA_SHARED")
REPORT_NONE = ("--report", "none")  # a report takes seconds: tests/test_report.py has its tests

TRAIN = [
    {"question": "Is there a polyp?", "answer": "yes", "image": "a.png"},
    {"question": "Is there a polyp?", "answer": "yes", "image": "b.png"},
    {"question": "Is there a polyp?", "answer": "no", "image": "c.png"},
    {"question": "How many polyps?", "answer": "1", "image": "a.png"},
]
PREDICTIONS = [
    {"id": "0", "pred": "yes", "gt": "Yes", "qtype": "yes_no", "question": "Is there a polyp?", "image": "d.png"},
    {"id": "1", "pred": "no", "gt": "yes", "qtype": "yes_no", "question": "Is there a polyp?", "image": "e.png"},
    {"id": "2", "pred": "two", "gt": "2", "qtype": "count_numeric", "question": "How many polyps?", "image": "d.png"},
    {"id": "3", "pred": "no", "gt": "no", "qtype": "yes_no", "question": "Is there a polyp?", "image": "f.png"},
]
TABLE = """\
================================================================================
EVALUATION RESULTS - EXP1
================================================================================

Question Type        Count      Correct    Accuracy
--------------------------------------------------------------------------------
yes_no               3          2          66.67%
count_numeric        1          1          100.00%
--------------------------------------------------------------------------------
OVERALL (micro)      4          3          75.00%
================================================================================
"""
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


def stripped(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration, training rows and an output folder with predictions."""
    (tmp_path / "config.yaml").write_text("output_dir: out\ndata:\n  train_jsonl: train.jsonl\n")
    write_jsonl(tmp_path / "train.jsonl", TRAIN)
    write_jsonl(tmp_path / "out" / "predictions.jsonl", PREDICTIONS)
    return tmp_path


@pytest.fixture
def evaluate(folder, monkeypatch, capsys):
    """Run the script in this process; return (exit code, stdout, stderr), as a shell would see them."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["eval_exp1.py", "--config", str(folder / "config.yaml"), *REPORT_NONE, *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_script(eval_exp1.main)
        code, printed = stopped.value.code, capsys.readouterr()
        if isinstance(code, str):
            return 1, stripped(printed.out), printed.err + code
        return code or 0, stripped(printed.out), printed.err

    return run


def run_process(*args, cwd=None, report=False):
    command = [sys.executable, str(ROOT / "eval_exp1.py"), *([] if report else REPORT_NONE), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8")


def write_sidecar(folder, stem="predictions", **facts):
    meta = {
        "split": "val",
        "limit": None,
        "rows_in_split": 4,
        "ids": ["0", "1", "2", "3"],
        "adapter": "none",
        "decoding": "free",
    }
    (folder / "out" / f"{stem}.meta.json").write_text(json.dumps({**meta, **facts}))


def metrics_of(folder, name="metrics.json"):
    return json.loads((folder / "out" / name).read_text(encoding="utf-8"))


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


# ---------------------------------------------------------------------------------------------------------------------
# The metrics file


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


def test_a_row_without_a_prediction_is_named(folder, evaluate):
    broken = {name: value for name, value in PREDICTIONS[1].items() if name != "pred"}
    write_jsonl(folder / "out" / "predictions.jsonl", [PREDICTIONS[0], broken])
    code, out, err = evaluate()
    assert (code, out) == (1, "")
    assert "predictions.jsonl:2: has no pred;" in err


@pytest.mark.parametrize("key", ["id", "qtype"])
def test_what_a_row_lacks_is_told_by_the_rest_of_it(evaluate, folder, key):
    """An id is the row's number, a type that of its question."""
    evaluate()  # which enriches, and says so
    _, expected, _ = evaluate()
    write_jsonl(folder / "out" / "predictions.jsonl", [{name: value for name, value in row.items() if name != key} for row in PREDICTIONS])
    assert evaluate() == (0, expected, "")


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("pred", 2, "predictions.jsonl:1: pred is 2"),
        ("gt", ["a"], "predictions.jsonl:1: gt is ['a']"),
        ("gt", None, "predictions.jsonl: row '0' has no gt"),
        ("qtype", 3, "predictions.jsonl:1: qtype is 3"),
        ("id", 1.5, "predictions.jsonl:1: id is 1.5"),
        ("group", 1.5, "predictions.jsonl:1: group is 1.5"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(folder, evaluate, key, value, said):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**PREDICTIONS[0], key: value}])
    code, out, err = evaluate()
    assert (code, out) == (1, "") and said in err


def test_only_the_four_keys_are_needed(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{"id": 5, "pred": None, "gt": "none", "qtype": "open_ended"}])
    code, out, _ = evaluate()
    assert code == 0 and "open_ended           1          0          0.00%" in out


def test_repeated_ids_are_counted_and_listed(folder, evaluate):
    ids = ["a", "b", "a", 7, "7", "c", "b", "a"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**PREDICTIONS[0], "id": row_id} for row_id in ids])
    code, out, err = evaluate()
    assert (code, out) == (1, "")
    assert "repeats 3 ids (a, b, 7);" in err


@pytest.mark.parametrize(
    "ids, said",
    [
        (["0", "1", "2", "3", "4"], "misses 1 id (4) by"),
        (["0", "1", "2"], "has unasked-for 1 id (3) by"),
        (["0", "1", "2", "8", "9"], "misses 2 ids (8, 9) and has unasked-for 1 id (3) by"),
        ([str(number) for number in range(20)], "misses 16 ids (4, 5, 6, 7, 8, …) by"),
    ],
)
def test_ids_other_than_those_asked_for_stop_the_evaluation(folder, ids, said):
    write_sidecar(folder, ids=ids)
    result = run_process("--config", folder / "config.yaml")
    assert (result.returncode, result.stdout) == (1, "")
    assert said in result.stderr and "run predict_exp1.py again" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list((folder / "out").glob("metrics*"))


@pytest.mark.parametrize("content", ["[]", "{}", '{"ids": null}', "{"])
def test_a_broken_sidecar_is_an_error(folder, evaluate, content):
    (folder / "out" / "predictions.meta.json").write_text(content)
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "predictions.meta.json: " in err


def test_a_limited_run_is_called_partial(folder, evaluate):
    write_sidecar(folder, limit=4, rows_in_split=9)
    code, out, _ = evaluate()
    assert code == 0 and out.startswith(TABLE)
    assert "partial: 4 of 9 rows\n" in out
    assert metrics_of(folder)["partial"] == [4, 9]


# ---------------------------------------------------------------------------------------------------------------------
# Several evaluations in one table


def test_summary(folder, evaluate):
    tuned = [{**row, "pred": row["gt"]} for row in PREDICTIONS]
    color = {"id": "9", "pred": "red", "gt": "red", "qtype": "color"}
    for stem, rows, facts in [
        ("untuned_free", PREDICTIONS, {}),
        ("tuned_greedy", tuned, {"adapter": "out/adapter", "decoding": "greedy"}),
        ("foreign", [*PREDICTIONS[:2], color], None),
    ]:
        write_jsonl(folder / "out" / f"predictions_{stem}.jsonl", rows)
        if facts is not None:
            write_sidecar(folder, f"predictions_{stem}", **facts)
        assert evaluate("--predictions", f"out/predictions_{stem}.jsonl")[0] == 0
    files = [f"out/metrics_{stem}.json" for stem in ("untuned_free", "tuned_greedy", "foreign")]
    code, out, _ = evaluate("--summary", *files)
    assert code == 0
    assert out == (
        "                                                               rows  overall   yes_no    color  count_numeric\n"
        "-------------------------------------------------------------------------------------------------------------\n"
        "untuned, free                                                     4   75.00%   66.67%        -        100.00%\n"
        "tuned, constrained                                                4  100.00%  100.00%        -        100.00%\n"
        "foreign                                                           3   66.67%   50.00%  100.00%              -\n"
        "commonest training answer (untuned, free; tuned, constrained)     4   50.00%   66.67%        -          0.00%\n"
        "commonest training answer (foreign)                               3   66.67%  100.00%    0.00%              -\n"
    )
    assert evaluate("--summary", *files[:2])[1].count("commonest training answer") == 1


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


def test_robustness_names_what_it_lacks(folder, evaluate):
    code, _, err = evaluate("--robustness")
    assert code == 1 and re.search(
        r"error: --robustness: no perturbed predictions lie beside .*; make them first: predict_exp1.py --perturb all", err
    )
    assert evaluate("--robustness", "--compare", "a", "b")[0] == 2 and evaluate("--pair", "wording")[0] == 2


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


def test_runs_that_the_sidecars_cannot_tell_apart_go_by_their_file_names(folder, evaluate):
    for stem in ("predictions", "predictions_seed2"):
        write_jsonl(folder / "out" / f"{stem}.jsonl", PREDICTIONS)
        write_sidecar(folder, stem)
        evaluate("--predictions", f"out/{stem}.jsonl")
    _, out, _ = evaluate("--summary", "out/metrics.json", "out/metrics_seed2.json")
    assert [line.split("  ")[0] for line in out.splitlines()[2:]] == [
        "untuned, free, out",
        "untuned, free, seed2",
        "commonest training answer",
    ]


def test_a_summary_of_six_types_stays_within_110_characters(folder, evaluate):
    types = ["yes_no", "color", "count_numeric", "size_numeric", "mcq", "open_ended"]
    rows = [{"id": i, "pred": "7", "gt": "7", "qtype": name} for i, name in enumerate(types)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    evaluate()
    _, out, _ = evaluate("--summary", "out/metrics.json")
    assert "size_numeric" in out and max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize("content, said", [(None, "no such file"), ("[1]", "not a metrics file"), ('{"n": 3}', "not a metrics file")])
def test_a_summary_names_the_file_that_is_none(folder, evaluate, content, said):
    if content:
        (folder / "other.json").write_text(content)
    code, out, err = evaluate("--summary", "other.json")
    assert (code, out) == (1, "") and f"other.json: {said}" in err


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


# ---------------------------------------------------------------------------------------------------------------------
# Checked against the data file

DATA = [
    {"id": row["id"], "question": row["question"], "answer": row["gt"], "image": row["image"], "group": f"patient {row['image']}"}
    for row in PREDICTIONS
]


def write_nan(folder, rows):
    """Predictions as another tool may write them: this project writes no NaN."""
    (folder / "out" / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_data(folder, rows=DATA, name="val.jsonl"):
    write_jsonl(folder / name, rows)
    return folder / name


def changed(rows, place, **values):
    return [{**row, **values} if index == place else row for index, row in enumerate(rows)]


def test_predictions_that_fit_the_data_file_are_said_to(folder, evaluate):
    data = with_data(folder)
    code, out, _ = evaluate("--against", data)
    said = f"questions, images, answers and patients are those of {near(data)}"
    assert code == 0 and out.startswith(TABLE) and said in out
    assert metrics_of(folder)["against"] == data.name
    assert "only the file itself was checked" in evaluate("--predictions", "out/predictions.jsonl")[1]
    assert said in evaluate(f"data.val_jsonl={data}")[1], "the default predictions are those of val"


@pytest.mark.parametrize(
    "rows, said",
    [
        (DATA[:3], "unknown: 1 id (3);"),
        ([*DATA, {**DATA[0], "id": "17"}, {**DATA[0], "id": "18"}], "missing: 2 ids (17, 18);"),
        (changed(DATA, 1, answer="no"), "another answer: 1 id (1);"),
        (changed(DATA, 2, question="How many snares?"), "another question: 1 id (2);"),
        (changed(DATA, 2, image="z.png"), "another image: 1 id (2);"),
        ([{**row, "answer": "purple"} for row in DATA], "another answer: 4 ids (0, 1, 2, 3);"),
        ([{**row, "id": f"t{row['id']}"} for row in DATA], "unknown: 4 ids (0, 1, 2, 3); missing: 4 ids (t0, t1, t2, t3);"),
    ],
)
def test_predictions_that_do_not_fit_the_data_file_are_refused(folder, evaluate, rows, said):
    data = with_data(folder, rows)
    for arguments in (("--against", data), (f"data.val_jsonl={data}",)):
        code, out, err = evaluate(*arguments)
        assert (code, out) == (1, "") and said in err and f"does not fit {data}" in err and len(err.splitlines()) == 1


def test_the_data_files_own_forms_of_an_answer_are_the_same(folder, evaluate):
    """Case, label order, spellings and an option's letter differ between data and predictions, and mean the same."""
    rows = [
        {"id": "0", "pred": "a", "gt": "red; pink", "qtype": "color", "question": "What  color?", "image": "./a.png"},
        {"id": "1", "pred": "a", "gt": "lower-right", "qtype": "mcq", "question": "Where?", "image": "a.png"},
        {"id": "2", "pred": "a", "gt": "snare", "qtype": "mcq", "question": "Which?", "image": "a.png", "options": ["Forceps", "Snare"]},
        {"id": "3", "pred": "a", "gt": "Pink;red", "qtype": "color", "question": "What color?", "image": "a.png"},
    ]
    data = [
        {"question": "What color?", "answer": "Pink;Red", "image": "a.png"},
        {"question": "Where?", "answer": "lower-rigth", "image": "a.png"},
        {"question": "Which?", "answer": "B", "image": "a.png", "options": ["Forceps", "Snare"]},
        {"question": "What color?", "answer": "pink; red", "answer_raw": "Pink;red", "image": "a.png"},
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    types = ["color", "mcq", "mcq", "color"]  # the second one's question alone doesn't tell
    rows = [{**row, "qtype": "open_ended" if name == "mcq" and "options" not in row else name} for row, name in zip(rows, types)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, _, err = evaluate("--against", with_data(folder, data))
    assert code == 0, err


def test_a_declared_limit_may_lack_rows_and_an_undeclared_one_may_not(folder, evaluate):
    data = with_data(folder)
    write_jsonl(folder / "out" / "predictions.jsonl", PREDICTIONS[:2])
    assert "missing: 2 ids (2, 3);" in evaluate("--against", data)[2]
    write_sidecar(folder, ids=["0", "1"], limit=2)
    code, out, _ = evaluate("--against", data)
    assert code == 0 and "partial: 2 of 4 rows\n" in out


def test_the_default_file_must_be_of_the_validation_split(folder, evaluate):
    write_sidecar(folder, split="test")
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "holds predictions for the test split, not val;" in err
    assert evaluate("--predictions", "out/predictions.jsonl")[0] == 0


def test_groups_come_from_the_data_file(folder, evaluate):
    """Two images of one patient are one cluster."""
    evaluate("--against", with_data(folder, [{**row, "group": "p1" if row["image"] in ("d.png", "e.png") else "p2"} for row in DATA]))
    assert metrics_of(folder)["details"]["overall"]["clusters"] == 2
    evaluate()
    assert metrics_of(folder)["details"]["overall"]["clusters"] == 3


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), -0.1, 1.1, True, "high"])
def test_confidences_that_are_no_probabilities_are_counted_and_listed(folder, evaluate, confidence):
    rows = [{**row, "confidence": confidence if row["id"] in "02" else 0.5} for row in PREDICTIONS]
    write_nan(folder, rows)
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "confidence is no number from 0 to 1 in 2 ids (0, 2);" in err


@pytest.mark.parametrize(
    "key, value",
    [
        *(("question", 3), ("image", ["a"]), ("abstained", "no"), ("answers", "yes"), ("greedy", 1), ("options", [1]), ("reachable", 1)),
        *(("candidates_top", [["yes"]]), ("candidates_top", [["yes", float("nan")]])),
    ],
)
def test_other_fields_of_the_wrong_kind_are_named(folder, evaluate, key, value):
    write_nan(folder, [PREDICTIONS[0], {**PREDICTIONS[1], key: value}])
    code, out, err = evaluate()
    assert (code, out) == (1, "") and f"predictions.jsonl:2: {key} is " in err


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


def test_a_model_below_its_blind_prior_is_marked(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": "no"} for row in PREDICTIONS])
    _, out, _ = evaluate()
    lines = {line.split("  ")[0]: line for line in out.splitlines() if " - " in line}
    assert "-33.33" in lines["yes_no"].split() and lines["yes_no"].split()[-3:] == ["-", "BELOW", "BLIND"]
    assert "+0.00" in lines["count_numeric"].split() and lines["count_numeric"].split()[-1] == "-"
    assert "-25.00" in lines["OVERALL (micro)"].split() and lines["OVERALL (micro)"].split()[-3:] == ["-", "BELOW", "BLIND"]


def test_text_metrics_state_what_they_are(folder, evaluate):
    row = {"id": "0", "pred": "a small polyp", "gt": "none", "qtype": "open_ended", "question": "What?", "image": "a"}
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    data = with_data(folder, [{"question": "What?", "answer": "none", "answers": ["none", "a small polyp"], "image": "a"}])
    _, out, _ = evaluate("--text-metrics", "--against", data)
    assert "corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing; words of any script, lower case), ROUGE-L F" in out
    assert "open_ended                  1  100.00%  100.00%  100.00%        -  100.00%\n" in out, "no reference has a 4-gram"
    assert "Text overlap" not in evaluate()[1] and metrics_of(folder)["text"] is None


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def seed_file(folder, seed, rows, **changes):
    stem = f"predictions_seed{seed}"
    write_jsonl(folder / "out" / f"{stem}.jsonl", rows)
    write_sidecar(folder, stem, config={"output_dir": f"out{seed}", "train": {"seed": seed, "lr": 1e-4}, **changes})
    return f"out/{stem}.jsonl"


def test_several_seeds(folder, evaluate):
    runs = (PREDICTIONS, changed(PREDICTIONS, 1, pred="yes"), changed(PREDICTIONS, 0, pred="no"))
    files = [seed_file(folder, seed, rows) for seed, rows in enumerate(runs)]
    code, out, err = evaluate("--predictions", *files, "eval.count_abs_tol=1")
    assert code == 0 and out.startswith(TABLE), err
    assert "OVERALL (micro)      4          75.00%     25.00%     " in out
    assert "3 seeds: mean and standard deviation over them; the interval of the mean is by images" in out
    seeds = json.loads((folder / "out" / "seeds_seed0_and_2_more.json").read_text())
    assert seeds["overall"]["mean"] == 0.75 and seeds["overall"]["sd"] == 0.25


def test_seeds_must_be_of_one_configuration_and_about_the_same_rows(folder, evaluate):
    first = seed_file(folder, 0, PREDICTIONS)
    other = seed_file(folder, 1, PREDICTIONS, train={"seed": 1, "lr": 2e-4})
    code, out, err = evaluate("--predictions", first, other)
    assert (code, out) == (1, "") and "these files differ in train.lr; use --compare" in err
    write_sidecar(folder, "predictions_seed1", config={"output_dir": "out1", "train": {"seed": 1, "lr": 1e-4}}, adapter="outputs/adapter")
    code, out, err = evaluate("--predictions", first, other)
    assert (code, out) == (1, "") and "these files differ in adapter (none or some); use --compare" in err
    fewer = seed_file(folder, 2, changed(PREDICTIONS[:3], 0, gt="no"))
    write_sidecar(folder, "predictions_seed2", ids=["0", "1", "2"], config=None)
    code, out, err = evaluate("--predictions", first, fewer)
    assert (code, out) == (1, "") and "missing: 1 id (3); another ground truth: 1 id (0);" in err


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


@pytest.mark.parametrize("files", [["A"], ["A", "B", "C"], ["A", "--"], ["--", "A"], ["A", "--", "B", "--", "C"]])
def test_compare_says_how_its_sides_are_given(evaluate, capsys, files):
    code, _, err = evaluate("--compare", *files)
    assert code == 2 and "A1 A2 A3 -- B1 B2 B3" in err


def test_each_report_has_its_own_name(folder, evaluate):
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
        assert run_process("--config", folder / "config.yaml", *arguments, report=True).returncode == 0
    assert sorted(path.name for path in (folder / "out").glob("*.html")) == [
        "report.html",
        "report_b.html",
        "report_comparison_predictions_b.html",
        "report_other.html",
        "report_seeds_predictions_and_1_more.html",
    ]
    assert sorted(path.name for path in (folder / "out").glob("metrics*")) == ["metrics.json", "metrics_b.json", "metrics_other.json"]


# ---------------------------------------------------------------------------------------------------------------------
# What can't be believed

KNOWN = {"question": "Where is it?", "answer": "center", "image": "a.png"}


def accuracy(out):
    return re.search(r"^OVERALL \(micro\) +\d+ +\d+ +(\S+)$", out, re.MULTILINE)[1]


def test_spellings_of_a_sidecar_change_nothing(folder, evaluate):
    write_sidecar(folder)
    evaluate("--against", with_data(folder))
    _, expected, _ = evaluate("--against", folder / "val.jsonl")
    spellings = {"is there a polyp": {"no": "yes"}, "how many polyps": {"1": "2"}}
    for facts in ({"spellings": spellings}, {"conventions": {key: {"spellings": value} for key, value in spellings.items()}}):
        write_sidecar(folder, **facts)
        assert evaluate("--against", folder / "val.jsonl")[1] == expected
        assert accuracy(evaluate("--predictions", "out/predictions.jsonl")[1]) == "75.00%", "nor without a data file"


def test_references_and_groups_come_from_the_data_alone(folder, evaluate):
    for claim, said in (({"answers": ["no", "yes"]}, "another answers: 4 ids"), ({"group": "g"}, "another group: 4 ids")):
        write_jsonl(folder / "out" / "predictions.jsonl", [{**row, **claim} for row in PREDICTIONS])
        code, out, err = evaluate("--against", with_data(folder))
        assert (code, out) == (1, "") and said in err


def test_the_best_of_several_references_counts_and_that_is_said(folder, evaluate):
    data = with_data(folder, [{**row, "answers": [row["answer"], "no"]} for row in DATA])
    _, out, _ = evaluate("--against", data)
    assert accuracy(out) == "100.00%" and "several references: 3 of 4 rows; an answer is right if it is any of them" in out


def test_junk_truths_are_left_out_and_counted(folder, evaluate):
    junk = {"id": "9", "pred": "nan", "gt": "nan", "qtype": "mcq", "question": "Where is it?", "image": "d.png"}
    write_jsonl(folder / "out" / "predictions.jsonl", [*PREDICTIONS, junk])
    _, out, _ = evaluate()
    assert out.startswith(TABLE) and "left out: 1 row whose question or true answer stands for a missing value" in out
    assert metrics_of(folder)["junk"] == 1


def test_training_rows_that_ask_other_questions_are_no_prior(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "question": f"{row['question']} Truly?"} for row in PREDICTIONS[:3]])
    _, out, _ = evaluate()
    assert "train.jsonl asks the questions of 0 of these 3 rows, too few for a prior" in out and "BELOW" not in out
    assert metrics_of(folder)["blind_prior"] is None and metrics_of(folder)["gains"] is None
    write_jsonl(folder / "out" / "predictions.jsonl", PREDICTIONS)
    assert "training asks the questions of 4 of these 4 rows" in evaluate()[1]


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


def test_a_lenient_score_stands_beside_the_strict_one(folder, evaluate):
    said = ["Yes, there is a polyp.", "No, there is no polyp.", "2", "maybe no"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": text} for row, text in zip(PREDICTIONS, said)])
    _, out, _ = evaluate()
    assert accuracy(out) == "25.00%", "the headline stays strict"
    assert re.search(r"^OVERALL \(micro\) +25\.00% .* 50\.00% ", out, re.MULTILINE)
    assert "NOTE: these answers have 3.2 words, the truth 1.0: exact match measures form here" in out
    assert metrics_of(folder)["lenient"]["correct"] == 2


def test_what_is_independent_is_said_with_its_number_and_few_are_warned_of(folder, evaluate):
    assert "Intervals take 3 images as independent, not rows.\nWARNING: 3 images: intervals from fewer than 20 are rough" in evaluate()[1]
    data = with_data(folder, [{**row, "group": "p1" if row["image"] in ("d.png", "e.png") else "p2"} for row in DATA])
    assert "Intervals take 2 groups as independent, not rows.\nWARNING: 2 groups" in evaluate("--against", data)[1]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "image": None} for row in PREDICTIONS])
    assert "Intervals take 4 rows as independent: the file names no images." in evaluate()[1]
    rows = [{**PREDICTIONS[0], "id": str(place), "image": f"{place}.png"} for place in range(20)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    assert "Intervals take 20 images as independent, not rows.\nThe blind" in evaluate()[1]


def test_overall_macro_f1_is_on_the_screen(evaluate):
    assert re.search(r"^macro-F1: \d+\.\d\d% \(mean over all different true answers, of which there are 3\)$", evaluate()[1], re.MULTILINE)


@pytest.mark.parametrize("key, place", [("qtype", "table"), ("id", "mismatches")])
def test_what_a_file_says_steers_no_terminal(folder, evaluate, key, place):
    write_jsonl(folder / "out" / "predictions.jsonl", changed(PREDICTIONS, 1, **{key: "x\x1b[2Jy\nz"}))
    _, out, _ = evaluate("--show", 5, "-v")
    assert "x\\x1b[2Jy\\nz" in out and "\x1b" not in out and "\nz" not in out, place


def test_an_error_stays_on_its_line(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", changed(PREDICTIONS, 1, id="first\nerror: all is well\x1b[1A"))
    code, _, err = evaluate("--against", with_data(folder))
    assert code == 1 and len(err.splitlines()) == 1 and "first\\nerror: all is well\\x1b[1A" in err


def test_predictions_of_llama_factory_and_ms_swift_beside_a_data_file(folder, evaluate):
    data = with_data(folder)
    for rows in (
        [{"prompt": f"user\n{row['question']}\nassistant\n", "predict": row["pred"], "label": row["gt"]} for row in PREDICTIONS],
        [{"response": row["pred"], "labels": row["gt"], "messages": [{"role": "user", "content": row["question"]}]} for row in PREDICTIONS],
    ):
        write_jsonl(folder / "out" / "predictions.jsonl", rows)
        code, out, err = evaluate("--against", data)
        assert code == 0 and out.startswith(TABLE), err
        code, out, err = evaluate()
        assert (code, out) == (1, "") and "--against DATA.jsonl" in err


def test_references_that_are_junk_are_none(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": "nan", "answers": [row["gt"], "nan"]} for row in PREDICTIONS])
    assert accuracy(evaluate()[1]) == "0.00%"


def test_text_metrics_know_all_references(folder, evaluate):
    row = {"id": "0", "pred": "a b c d", "gt": "a b c d", "answers": ["e f g h"], "qtype": "open_ended", "question": "What?", "image": "a"}
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    assert "open_ended                  1  100.00%  100.00%  100.00%  100.00%  100.00%\n" in evaluate("--text-metrics")[1]


@pytest.mark.parametrize("option", ["--predictions", "--compare"])
def test_the_same_file_twice_is_no_second_seed(folder, evaluate, option):
    files = ["out/predictions.jsonl"] * 2
    code, out, err = evaluate(option, *files, *(["--", *files] if option == "--compare" else []))
    assert (code, out) == (1, "") and "is given twice" in err


def test_a_file_with_a_strange_name_steers_no_terminal(folder, evaluate):
    write_jsonl(folder / "out" / "predictions_\x1b[31m.jsonl", PREDICTIONS)
    _, out, _ = evaluate("--predictions", "out/predictions_\x1b[31m.jsonl")
    assert "metrics: " in out and "\x1b" not in out


def test_questions_that_differ_in_form_only_have_a_prior(folder, evaluate):
    forms = ["Is there a polyp", "is there a  POLYP?", "How many polyps", "[Stage-1] Is there a polyp?"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "question": form} for row, form in zip(PREDICTIONS, forms)])
    assert "training asks the questions of 4 of these 4 rows" in evaluate()[1]
