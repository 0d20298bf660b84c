"""A copy of the repository as a user has it, with rows of the demo, and a way to run its scripts."""

import json
import os
import shutil
import subprocess

from conftest import ROOT, TINY_MODEL
from quick_python import quick_python

SCENES = ROOT / "data" / "demo" / "scenes"


def copy_repository(target):
    """The code without data/demo's weights and scenes, which are used where they are."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "outputs*", "demo", "tests", "*.md"))
    return target


def write_config(exp1, data, **changes):
    """What the user's document says: edit config_exp1.yaml."""
    text = (exp1 / "config_exp1.yaml").read_text()
    values = {"model_name": TINY_MODEL, "train_jsonl": data / "train.jsonl", "val_jsonl": data / "val.jsonl", "image_root": SCENES}
    values |= {"max_pixels": 12544, "lr": "1.0e-3", "max_new_tokens": "auto", "train_bs": 8, "grad_accum": 1}
    values |= {"gradient_checkpointing": "false", **changes}
    lines = []
    for line in text.splitlines():
        key = line.split(":")[0].strip()
        lines.append(f"{line.split(key)[0]}{key}: {values[key]}" if key in values and not line.lstrip().startswith("#") else line)
    (exp1 / "config_exp1.yaml").write_text("\n".join(lines) + "\n")


def first_scenes(split, count):
    rows = [json.loads(line) for line in (SCENES / f"{split}.jsonl").read_text().splitlines()]
    names = list(dict.fromkeys(row["image"] for row in rows))[:count]
    return [row for row in rows if row["image"] in names]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_parent(folder):
    """`corrected 1-5 experiments/` with exp1/ in it, configured for 12 scenes; no outputs yet."""
    parent = folder / "corrected 1-5 experiments"
    exp1 = copy_repository(parent / "exp1")
    for split, count in (("train", 12), ("val", 6)):
        write_rows(exp1 / "rows" / f"{split}.jsonl", first_scenes(split, count))
    write_config(exp1, exp1 / "rows")
    return parent


def run(folder, script, *arguments, expect=0):
    """Run a script in `folder` as `python script arguments…` does; return its standard output and error as `.stdout` and `.stderr`."""
    result = subprocess.run([quick_python(), script, *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    assert result.returncode == expect, result.stdout[-2000:] + result.stderr[-4000:]
    return result


def launch(folder, *command, launcher=()):
    """Run a command of Python, or one of a launcher's with it, on the CPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([quick_python(), *launcher, *map(str, command)], cwd=folder, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result
