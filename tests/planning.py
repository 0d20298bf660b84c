"""Sweeps and series over a few scenes of the demo, as they are planned."""

from argparse import Namespace

import yaml
from conftest import ROOT
from user_copy import SCENES, first_scenes, write_rows

from data.stages import stage_of
from files import read_jsonl, sha256, write_json, write_jsonl
from tools import series

SETTINGS = {"extends": str(ROOT / "config_demo.yaml"), "output_dir": "outputs"}
# 12 held-out answers of each of two patients; what one says most often is what the other says least often.
ANSWERS = {"patient 0": ["yes"] * 8 + ["no"] * 4, "patient 1": ["no"] * 9 + ["yes"] * 3}


def write_experiment(folder, **data):
    """my.yaml in `folder`, with four training scenes, two of validation, and a test file that nobody can read."""
    for split, count in (("train", 4), ("val", 2)):
        write_rows(folder / "rows" / f"{split}.jsonl", first_scenes(split, count))
    (folder / "rows" / "test.jsonl").write_text("no JSON at all\n")
    data = {**{f"{split}_jsonl": f"rows/{split}.jsonl" for split in ("train", "val", "test")}, "image_root": str(SCENES), **data}
    train = {"max_steps": 2, "train_bs": 2, "save_steps": 1}
    (folder / "my.yaml").write_text(yaml.safe_dump({**SETTINGS, "data": data, "train": train}))
    return folder


def arguments(folder, *grid, seeds=1, folds=None):
    """What tools/sweep.py is told on its command line."""
    return Namespace(config=str(folder / "my.yaml"), grid=list(grid), seeds=seeds, folds=folds and str(folds))


def hand_made_folds(folder):
    """Two folds without data.split: a patient of twelve scenes, with one question each, is held out by each."""
    scenes = [f"train/{number:04}.jpg" for number in range(24)]
    rows = [
        {"id": f"{patient} {number}", "question": "Is there text?", "answer": answer, "group": patient, "image": scenes.pop()}
        for patient, answers in ANSWERS.items()
        for number, answer in enumerate(answers)
    ]
    for fold, patient in enumerate(ANSWERS):
        write_rows(folder / f"fold_{fold}" / "val.jsonl", [row for row in rows if row["group"] == patient])
        write_rows(folder / f"fold_{fold}" / "train.jsonl", [row for row in rows if row["group"] != patient])
    return folder


def answer(run, right, **more):
    """Predictions of a run about the rows of its stages, of which so many are right, as predict_exp1.py writes them. more: for each row."""
    source, stages = run.predicted.split_path("val"), run.predicted.data.stages
    rows = [{"id": str(number), **row} for number, (_, row) in enumerate(read_jsonl(source))]
    rows = [row for row in rows if stages is None or stage_of(row) in stages]
    pred = lambda number, row: row["answer"] if number < right else "?"
    said = [{"id": row["id"], "pred": pred(number, row), "gt": row["answer"], **more} for number, row in enumerate(rows)]
    write_jsonl(run.predictions, said)
    facts = {"split": "val", "limit": None, "source": str(source), "source_sha256": sha256(source), "decoding": "exact"}
    facts |= {"max_new_tokens": 4, "conventions": {}, "ids": [row["id"] for row in said], "rows_in_split": len(said), "adapter": "a"}
    write_json(run.predictions.with_suffix(".meta.json"), facts)
    return said


def ask(*given, monkeypatch):
    """What tools/series.py plans when it is told this on its command line."""
    monkeypatch.setattr("sys.argv", ["series.py", *map(str, given)])
    return series.plan(series.parse_arguments())


def plan_series(folder, monkeypatch, *given, train=(1, 2, 3), val=(1, 2, 3)):
    """What is planned for a few scenes of the demo, with further arguments; train, val: the stages that a split's rows keep."""
    for split, kept in (("train", train), ("val", val)):
        rows = [row for row in first_scenes(split, 4) if stage_of(row) in kept]
        write_rows(folder / f"{split}.jsonl", [{**row, "id": f"{split} {number}"} for number, row in enumerate(rows)])
    data = {"train_jsonl": "train.jsonl", "val_jsonl": "val.jsonl", "image_root": str(SCENES)}
    own = {"extends": str(ROOT / "config_demo.yaml"), "output_dir": "out", "data": data}
    (folder / "my.yaml").write_text(yaml.safe_dump(own))
    return ask(folder / "my.yaml", *given, monkeypatch=monkeypatch)


def by_name(experiments):
    return {experiment.name: experiment for experiment in experiments}
