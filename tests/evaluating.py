"""Predictions to be evaluated, and what an evaluation of them leaves. The fixtures `folder` and `evaluate` are in conftest.py."""

import json
import re
import subprocess
import sys

from conftest import ROOT

from evaluation.predictions import load_predictions
from files import write_jsonl

REPORT_NONE = ("--report", "none")  # a report takes seconds: tests/evaluation/test_report.py has its tests

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
VAL = [
    {"id": row["id"], "question": row["question"], "answer": row["gt"], "image": row["image"], "group": f"patient {row['image']}"}
    for row in PREDICTIONS
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


def stripped(text):
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


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


def write_data(folder, rows=VAL, name="val.jsonl"):
    write_jsonl(folder / name, rows)
    return folder / name


def changed(rows, place, **values):
    return [{**row, **values} if index == place else row for index, row in enumerate(rows)]


def seed_file(folder, seed, rows, **changes):
    stem = f"predictions_seed{seed}"
    write_jsonl(folder / "out" / f"{stem}.jsonl", rows)
    write_sidecar(folder, stem, config={"output_dir": f"out{seed}", "train": {"seed": seed, "lr": 1e-4}, **changes})
    return f"out/{stem}.jsonl"


def accuracy(out):
    return re.search(r"^OVERALL \(micro\) +\d+ +\d+ +(\S+)$", out, re.MULTILINE)[1]


def loaded(tmp_path, rows):
    """The rows of a predictions file as they are read."""
    write_jsonl(tmp_path / "predictions.jsonl", rows)
    return load_predictions(tmp_path / "predictions.jsonl")
