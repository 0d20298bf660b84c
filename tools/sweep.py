"""Which settings? A training for each setting and seed, compared on validation rows or on folds; the test split is not read.

    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 lora.r=8,16 --seeds 3       four settings, three seeds: twelve runs
    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 --folds folds               folds of data.split: a run for each fold
    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 --dry-run                   what would run, and what is there already

A key with one value holds for all runs. A run is train_exp1.py and predict_exp1.py in output_dir/sweep/SETTING/seed_N, with
their output in sweep.log there. Killed and started again, the sweep goes on where it was; what is done, by the run's own files,
is skipped. It ends with a table, sweep.json, table.csv and chosen.yaml, the setting with the highest mean, in output_dir/sweep.

With folds it is output_dir/sweep_folds. A fold's held-out rows choose nothing, not even the checkpoint: its adapter is the last.
Its answer space and blind prior come from its own training rows. SETTING/seed_N/predictions.jsonl pools the answers to all
held-out rows: eval_exp1.py --predictions FILE --against output_dir/sweep_folds/out_of_fold.jsonl
"""

import argparse
import fcntl
import json
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ROOT, Config, load_config, near
from files import Interrupted, UserError, printable, read_json, run_script, sha256
from tools.sweep_table import conclude

# isort: split
import yaml

# Keys that a sweep can't choose, and why.
REFUSED = {
    "output_dir": "every run has its own",
    "train.seed": "give --seeds N",
    "data.val_jsonl": "all settings answer the same rows",
    "data.test_jsonl": "a sweep doesn't read the test split",
}


class Run(NamedTuple):
    """A training and its predictions. setting: ("train.lr=1e-4", …), what is varied. trained, predicted: configurations of the scripts."""

    name: str
    setting: tuple
    seed: int
    fold: int | None
    trained: Config
    predicted: Config

    @property
    def folder(self):
        return self.predicted.output_dir


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("grid", nargs="*", metavar="section.key=VALUE,VALUE", help="what to vary; one value holds for all runs")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="runs of each setting: train.seed and the N - 1 after it (default 1)"
    )
    parser.add_argument("--folds", metavar="DIR", help="fold_0, fold_1, … of `data.split --folds`, instead of the configuration's rows")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    args = parser.parse_intermixed_args()
    return args if args.seeds > 0 else parser.error("--seeds must be at least 1")


def values_of(grid):
    """{key: its values as texts} of the arguments `section.key=VALUE,VALUE`; a list is one value: [q_proj,v_proj],[q_proj]."""
    found = {}
    for argument in grid:
        key, _, text = argument.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]")
        except yaml.YAMLError:
            values = []
        if not values:
            raise UserError(f"{argument!r}: write section.key=VALUE,VALUE, for example train.lr=1e-4,2e-4")
        if key in found:
            raise UserError(f"{argument!r}: {key} is given twice; write its values behind one another, by commas")
        found[key] = list(dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values))
        if len(found[key]) > 1 and (key in REFUSED or key.startswith("eval.")):
            raise UserError(f"{argument!r}: {REFUSED.get(key, 'eval.* is how answers are judged, no setting of the model')}")
    return found


def fold_folders(folder):
    """[fold_0, fold_1, …] of a folder. Raises UserError unless each has its two files and none is missing."""
    folder = Path(folder).resolve()
    record = folder / "fold_0" / "split.json"
    made = read_json(record).get("folds", 0) if record.is_file() else 0
    folders = [folder / f"fold_{number}" for number in range(max(made, len(list(folder.glob("fold_*"))), 2))]
    for path in [path / f"{split}.jsonl" for path in folders for split in ("train", "val")]:
        if not path.is_file():
            raise UserError(f"--folds: {near(path)} does not exist; make folds: python -m data.split ROWS {near(folder)} --folds 5")
    return folders


def plan(args):
    """(base configuration, the sweep's folder, [Run]); runs in the order in which they are made: settings, then seeds, then folds."""
    values = values_of(args.grid)
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if len(texts) == 1]
    base = load_config(args.config, fixed)
    varied = [[f"{key}={text}" for text in texts] for key, texts in values.items() if len(texts) > 1]
    folds = list(enumerate(fold_folders(args.folds))) if args.folds else [(None, None)]
    folder = base.output_dir / ("sweep_folds" if args.folds else "sweep")
    runs = []
    for setting, seed, (fold, rows) in product(product(*varied), range(base.train.seed, base.train.seed + args.seeds), folds):
        kept = re.sub(r"[^\w.=+-]+", "-", "_".join(setting)) or "as_configured"  # letters that every file system has
        name = "/".join([kept, f"seed_{seed}", *([f"fold_{fold}"] if rows else [])])
        path = lambda key, value: f"{key}={json.dumps(str(value), ensure_ascii=False)}"
        own = [*fixed, *setting, f"train.seed={seed}", path("output_dir", folder / name), "data.test_jsonl=null"]
        own += [path("data.train_jsonl", rows / "train.jsonl"), path("data.val_jsonl", rows / "val.jsonl")] if rows else []
        blind = ["data.val_jsonl=null", "train.early_stopping_patience=null"] if rows else []
        runs.append(Run(name, setting, seed, fold, load_config(args.config, own + blind), load_config(args.config, own)))
    for run in runs:  # what the user mistyped is said before the first of them trains
        run.predicted.split_path("train"), run.predicted.split_path("val"), run.predicted.image_folder()
    if repeated := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise UserError(f"two settings would share the folder {repeated[0]}; change the spelling of one")
    return base, folder, runs


def is_done(run):
    """By the run's own files: has this very training ended, on these rows, and has it answered all of these questions?"""
    paths = [run.folder / name for name in ("train_run.json", "predictions.meta.json", "data/train.meta.json")]
    if not all(path.is_file() for path in [*paths, run.folder / "predictions.jsonl"]):
        return False
    record, sidecar, enriched = map(read_json, paths)
    pairs = [(record["config"], run.trained), (sidecar["config"], run.predicted)]
    same = all({**config, "eval": None} == {**cfg.model_dump(mode="json"), "eval": None} for config, cfg in pairs)
    rows = [(enriched["inputs"]["source"], "train"), (sidecar["source_sha256"], "val")]
    return "finished" in record and same and all(known == sha256(run.predicted.split_path(split)) for known, split in rows)


def make(run, lock):
    """Train and predict, or go on with it. Returns None, or why it failed: the last line of the script that did."""
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "sweep.log"
    for script, cfg, flags in (("train_exp1.py", run.trained, ["--resume_from_checkpoint"]), ("predict_exp1.py", run.predicted, [])):
        command = [sys.executable, str(ROOT / script), "--config", str(cfg.config_path), *cfg.overrides, *flags]
        with open(log, "a", encoding="utf-8") as output:
            done = subprocess.run(command, stdout=output, stderr=output, pass_fds=[lock.fileno()])
        if done.returncode:
            lines = log.read_text(encoding="utf-8").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "").removeprefix("error: ")
            return f"{script} ended with exit code {done.returncode}: {printable(last)} (all of it: {near(log)})"


def make_all(runs, folder):
    """Make what is not done yet, a line for each run. Returns {name: why} of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:  # scripts hold it with the sweep: what a killed one left ends before the next begins
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another sweep here, or the script that a killed one left, to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        done, seconds, failed = [is_done(run) for run in runs], [], {}
        for number, run in enumerate(runs, start=1):
            print(f"run {number}/{len(runs)} {run.name}: ", end="" if not done[number - 1] else "done before\n", flush=True)
            if done[number - 1]:
                continue
            began = time.monotonic()
            if problem := make(run, lock):
                failed[run.name] = problem
            seconds.append(time.monotonic() - began)
            left = done[number:].count(False)
            then = f"; {left} left, about {left * sum(seconds) / len(seconds) / 60:.0f} min" * bool(left)
            print((problem or f"{seconds[-1]:.0f} s") + then, flush=True)
    return failed


def main():
    args = parse_arguments()
    base, folder, runs = plan(args)
    if args.dry_run:
        done = [is_done(run) for run in runs]
        print("\n".join(f"{run.name}: {'done' if there else 'to do'}" for run, there in zip(runs, done)))
        return print(f"{len(runs)} runs, {done.count(True)} of them done, in {near(folder)}")
    try:
        failed = make_all(runs, folder)
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on where it was") from None
    lost = {run.setting for run in runs if run.name in failed}  # a training may diverge, and the others count all the same
    if whole := [run for run in runs if run.setting not in lost]:
        conclude(base, folder, whole)
    if failed:
        name, problem = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(runs)} runs failed, so {len(lost)} settings have no score; {name}: {problem}")


if __name__ == "__main__":
    run_script(main)
