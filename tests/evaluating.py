"""Predictions to be evaluated, and what an evaluation of them leaves. The fixtures `folder` and `evaluate` are in conftest.py."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from conftest import ROOT
from PIL import Image
from quick_python import quick_python

from config import load_config
from evaluation import runs
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
    command = [quick_python(), str(ROOT / "eval_exp1.py"), *([] if report else REPORT_NONE), *map(str, args)]
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


# ---------------------------------------------------------------------------------------------------------------------
# A study of Alice Smith's: sixty predictions, for a report

SCRIPT = "<script>document.title = 'broken'</script> Is there $x_{2}$ & \"more\"?"
TYPES = ("yes_no", "color", "mcq")
CFG = SimpleNamespace(config_path=Path("/work space/exp1/config.yaml"))
ALICE = "/home/alice smith/study"  # where another machine's files lie


def make_rows(count=60):
    """Predictions about six images: confident and unsure ones, right and wrong, an empty one, one with a hostile question."""
    rows = []
    for number in range(count):
        right, confidence = number % 3 > 0, round((number % 10) / 10 + 0.05, 2)
        question = SCRIPT if number == 0 else f"Question {number % 4} of type {TYPES[number % 3]}?"
        truth = "ac"[number % 2]
        row = {"id": str(number), "pred": truth if right else "b", "gt": truth, "qtype": TYPES[number // 3 % 3], "question": question}
        row |= {
            "image": f"{number % 6}.png",
            "confidence": confidence,
            "candidates_top": [[truth if right else "b", confidence], ["<i>c</i>", 0.01]],
        }
        rows.append(row | {"reachable": True})
    rows[3] |= {"pred": "", "confidence": None, "candidates_top": None}
    return rows


def sidecar_of(rows):
    """What prediction wrote beside the rows, on a machine of Alice Smith's."""
    settings = {"model_name": f"{ALICE}/models/Qwen2-VL-7B-Instruct", "output_dir": f"{ALICE}/exp1/out", "eval": {"numeric_rel_tol": 0.05}}
    settings["data"] = {"train_jsonl": f"{ALICE}/exp1/data/train.jsonl", "image_root": "/mnt/alice/frames"}
    command = [f"{ALICE}/exp1/predict_exp1.py", "--split", "val", "data.image_root=/mnt/alice/frames"]
    facts = {"ids": [row["id"] for row in rows], "split": "val", "source": f"{ALICE}/exp1/data/val.jsonl", "command": command}
    return facts | {"adapter": "out/adapter", "decoding": "exact", "config": settings, "date": "2026-11-05T10:00:00+00:00"}


def make_study(folder):
    """Write images, the predictions, others to compare with, training rows and a training log into `folder`; return it."""
    rng = np.random.default_rng(0)
    for number in range(5):  # the sixth is missing
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    rows = make_rows()
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    (folder / "out" / "predictions.meta.json").write_text(json.dumps(sidecar_of(rows)))
    write_jsonl(folder / "out" / "predictions_a.jsonl", [{**row, "pred": row["gt"] if row["id"] in ("0", "1") else "b"} for row in rows])
    write_jsonl(folder / "train.jsonl", [{"question": row["question"], "answer": "a", "image": "0.png"} for row in rows[1:]])
    (folder / "config.yaml").write_text("output_dir: out\ndata: {train_jsonl: train.jsonl, image_root: .}\n")
    log = [{"step": 1, "loss": 7.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 1.0, "eval_exact_match": 0.5}]
    (folder / "out" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    return folder


ONE_FILE = SimpleNamespace(
    pair=None, robustness=False, against=None, predictions=True, compare=None, types="predicted", text_metrics=False, verbose=False, show=0
)
ONE_FILE.by, ONE_FILE.recipe = [], []


def opened(folder):
    """(configuration, function that loads one of a study's predictions files)."""
    cfg = load_config(folder / "config.yaml")
    return cfg, lambda name: runs.load_all(cfg, [cfg.output_dir / name], ONE_FILE)[0]
