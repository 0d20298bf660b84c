"""Which settings? A training for each setting and seed, compared on validation rows or on folds; the test split is not read.

    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 lora.r=8,16 --seeds 3       four settings, three seeds: twelve runs
    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 --folds folds               folds of data.split: a run for each fold
    python tools/sweep.py my.yaml train.lr=1e-4,2e-4 --dry-run                   what would run, and what is there already

A key with one value holds for all runs. A run is train_exp1.py and predict_exp1.py in output_dir/sweep/SETTING/seed_N, with
their output in sweep.log there. Killed and started again, the sweep goes on where it was; what is done, by the run's own files,
is skipped, and what was made with other settings, files or code is refused by name, or made anew with --overwrite. It ends with
a table, sweep.json, table.csv and chosen.yaml, the setting with the highest mean, in output_dir/sweep.

With folds it is output_dir/sweep_folds. A fold's held-out rows choose nothing, not even the checkpoint: its adapter is the last.
Its answer space and blind prior come from its own training rows. SETTING/seed_N/predictions.jsonl pools the answers to all
held-out rows: eval_exp1.py --predictions FILE --against output_dir/sweep_folds/out_of_fold.jsonl
"""

import argparse
import fcntl
import json
import re
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ROOT, Config, code_facts, kinds_of, load_config, near
from data.answer_space import fingerprint
from data.contents import CACHE, base_facts
from data.corrections import COLUMNS, SPLIT, read_corrections, row_ids, write_csv
from data.preprocess import ensure_enriched, training_space
from files import Interrupted, UserError, heed_signals, printable, quoted, read_json, run_child, run_script
from prediction.setup import facts_of_files
from prediction.streaming import damage_since, differences, listed
from tools.sweep_table import conclude
from training.resume import RECORD, contents, other_settings, read_record

# isort: split
import yaml

# Keys that a sweep can't choose, and why.
REFUSED = {
    "output_dir": "every run has its own",
    "train.seed": "give --seeds N",
    "data.val_jsonl": "all settings answer the same rows",
    "data.test_jsonl": "a sweep doesn't read the test split",
    "data.stages": "all settings answer the same rows",
}


class Run(NamedTuple):
    """A training and its predictions. setting: ("train.lr=1e-4", …), what is varied. trained, predicted: configurations of the scripts.
    split: what is predicted, None for nothing. through: what Python runs the scripts by, and its arguments; () for themselves."""

    name: str
    setting: tuple
    seed: int
    fold: int | None
    trained: Config
    predicted: Config
    split: str | None = "val"
    through: tuple = ()

    @property
    def folder(self):
        return self.predicted.output_dir

    @property
    def predictions(self):
        """Where predict_exp1.py writes them."""
        return self.folder / ("predictions.jsonl" if self.split == "val" else f"predictions_{self.split}_adapter.jsonl")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("grid", nargs="*", metavar="section.key=VALUE,VALUE", help="what to vary; one value holds for all runs")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="runs of each setting: train.seed and the N - 1 after it (default 1)"
    )
    parser.add_argument("--folds", metavar="DIR", help="fold_0, fold_1, … of `data.split --folds`, instead of the configuration's rows")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    parser.add_argument("--overwrite", action="store_true", help="make the runs anew that were made with other settings, files or code")
    args = parser.parse_intermixed_args()
    return args if args.seeds > 0 else parser.error("--seeds must be at least 1")


def values_of(grid):
    """{key: its values as texts} of the arguments `section.key=VALUE,VALUE`; a list is one value: [q_proj,v_proj],[q_proj]."""
    found = {}
    for argument in grid:
        key, _, text = argument.partition("=")
        values = split_values(key, text)
        if not values:
            raise UserError(f"{quoted(argument)}: write section.key=VALUE,VALUE, for example train.lr=1e-4,2e-4")
        if key in found:
            raise UserError(f"{quoted(argument)}: {key} is given twice; write its values behind one another, by commas")
        found[key] = list(dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values))
        if len(found[key]) > 1 and (key in REFUSED or key.startswith("eval.")):
            raise UserError(f"{quoted(argument)}: {REFUSED.get(key, 'eval.* is how answers are judged, no setting of the model')}")
    return found


def split_values(key, text):
    """The values of a key, split at commas: YAML, or paths and texts as they stand (in quotes where they hold commas); [] for none."""
    kinds = kinds_of(key)
    if kinds & {str, Path} and not re.search(r"[\"']", text) and not (list in kinds and "[" in text):
        return [value.strip() for value in text.split(",") if value.strip()]
    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        return []


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
        path = lambda key, value: f"{key}={value}"
        own = [*fixed, *setting, f"train.seed={seed}", path("output_dir", folder / name), "data.test_jsonl=null"]
        blind = ["data.val_jsonl=null", "train.early_stopping_patience=null"] if rows else []
        if base.data.corrections:
            own.append(path("data.corrections", folder / "corrections.csv"))
            blind += [path("data.corrections", folder / f"corrections_fold_{fold}.csv")] if rows else []
        own += [path("data.train_jsonl", rows / "train.jsonl"), path("data.val_jsonl", rows / "val.jsonl")] if rows else []
        runs.append(Run(name, setting, seed, fold, load_config(args.config, own + blind), load_config(args.config, own)))
    write_corrections(base, runs)
    for run in runs:  # what the user mistyped is said before the first of them trains
        run.predicted.split_path("train"), run.predicted.split_path("val"), run.predicted.image_folder()
    if repeated := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise UserError(f"two settings would share the folder {repeated[0]}; change the spelling of one")
    return base, folder, runs


def write_corrections(base, runs):
    """The files that the runs' configurations name, each with the corrections of their rows: those of the test split aren't read."""
    found = read_corrections(base.data.corrections, base.data.languages) if base.data.corrections else []
    for path, cfg in {cfg.data.corrections: cfg for run in runs for cfg in (run.trained, run.predicted)}.items():
        if path:
            folds = cfg.data.train_jsonl != base.data.train_jsonl
            kept = [row for row in found if _corrects(row, cfg, base if folds else None)]
            write_csv(path, [{**row, SPLIT: ""} if folds else row for row in kept], (*COLUMNS, SPLIT))


def _corrects(row, cfg, base):
    """Is a line of the corrections about a row of a run? base: of folds, the configuration whose splits the lines name: a row that is
    known there by its number is none of theirs."""
    splits = cfg.given_splits() if base is None else ("train", "val")
    if row[SPLIT] and row[SPLIT] not in splits:
        return False
    if row[SPLIT] and base and row["id"] not in row_ids(base.split_path(row[SPLIT]), given=True):
        return False
    return any(row["id"] in row_ids(cfg.split_path(split)) for split in cfg.given_splits())


class State(NamedTuple):
    """Of a run, by its own files. training, prediction: names of what it was made from that is another now."""

    done: bool = False
    training: list = []
    prediction: list = []


def state_of(run):
    """Has this very training ended, and answered all of these questions; and is what is there what would be made now?"""
    if not (run.folder / RECORD).is_file():
        return State()
    record = read_record(run.trained)
    training = other_training(run, record)
    if training or not record.get("finished"):
        return State(training=training)
    if run.split is None:
        return State(done=(run.folder / "adapter").is_dir())
    prediction = other_predictions(run.predicted, run.split, run.folder / "adapter", run.predictions)
    return State(done=prediction == [], prediction=prediction or [])


def other_training(run, record):
    """Names of what decides a training and is another now: all that a resumed one compares, and length and code besides."""
    cfg = run.trained
    with redirect_stdout(StringIO()):  # rows are enriched anew where they are others
        rows = {split: ensure_enriched(cfg, split) for split in (["train", "val"] if cfg.data.val_jsonl else ["train"])}
    now = {**contents(cfg, rows), "code": code_facts("train")}
    return sorted([*other_settings(record, cfg), *differences({**now, **record.get("made_from", {})}, now)])


def other_predictions(cfg, split, adapter, out):
    """Names of what decides the finished predictions `out` and is another now; None where there are none, or no adapter. adapter: folder,
    None for the untuned model."""
    if not (out.is_file() and out.with_suffix(".meta.json").is_file() and (adapter is None or adapter.is_dir())):
        return None
    facts = read_json(out.with_suffix(".meta.json"))
    now = {**facts_of_files(cfg, split, adapter), "arguments": {"--limit": None}}
    made = {**facts.get("made_from", {}), "arguments": {"--limit": facts.get("limit")}}
    if adapter is None:  # which would tell both
        now["model"] = base_facts(cfg.model_name, cfg.output_dir / "data" / CACHE)
        now["answer space"] = fingerprint(training_space(cfg, say=lambda line: None))
        made["model"] = {key: facts.get(key) for key in now["model"]}
    was = {key: made.get(key) for key in now}
    names = sorted(name.removeprefix("config ") for name in differences(was, now))
    return names or [f"contents of {out.name}"] * bool(damage_since(out))


def refuse_others(runs, states, folder):
    """Raise UserError where runs were made from something else than others will be: one table would compare them."""
    others = {run.name: [*state.training, *state.prediction] for run, state in zip(runs, states) if state.training or state.prediction}
    if others:
        names = listed(sorted({name for found in others.values() for name in found}))
        raise UserError(
            f"{len(others)} of {len(runs)} runs in {near(folder)} were made with other {names} ({next(iter(others))}"
            f"{', …' * (len(others) > 1)}); put that back, set another output_dir, or add --overwrite to make them anew"
        )


def make(run, state, lock):
    """Train and predict, or go on with it; what is another is made anew. Returns None, or why it failed: the last line of the script."""
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "sweep.log"
    scripts = [("train_exp1.py", run.trained), ("predict_exp1.py", run.predicted)]
    for script, cfg in scripts[: 1 if run.split is None else 2]:
        if script == "train_exp1.py":
            flags = ["--overwrite"] if state.training else ["--resume_from_checkpoint"]
        else:
            others = other_predictions(cfg, run.split, run.folder / "adapter", run.predictions)
            flags = ["--overwrite"] if (state.training or state.prediction) and others else []
            flags += ["--split", run.split] if run.split != "val" else []
        command = [sys.executable, *run.through, str(ROOT / script), "--config", str(cfg.config_path), *cfg.overrides, *flags]
        with open(log, "a", encoding="utf-8") as output:
            code = run_child(command, stdout=output, stderr=output, pass_fds=[lock.fileno()])
        if code:
            return failure(script, code, log)


def failure(script, code, log):
    """Why a script failed: the last line that it wrote to its log."""
    lines = log.read_text(encoding="utf-8").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "").removeprefix("error: ")
    return f"{script} ended with exit code {code}: {printable(last)} (all of it: {near(log)})"


def make_all(runs, folder, overwrite=False):
    """Make what is not done yet, a line for each run, and with `overwrite` what is another. Returns {name: why} of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:  # scripts hold it with the sweep: what a killed one left ends before the next begins
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another sweep here, or the script that a killed one left, to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        states, seconds, failed = [state_of(run) for run in runs], [], {}
        if not overwrite:
            refuse_others(runs, states, folder)
        done = [state.done for state in states]
        for number, run in enumerate(runs, start=1):
            print(f"run {number}/{len(runs)} {run.name}: ", end="" if not done[number - 1] else "done before\n", flush=True)
            if done[number - 1]:
                continue
            began = time.monotonic()
            if problem := make(run, states[number - 1], lock):
                failed[run.name] = problem
            seconds.append(time.monotonic() - began)
            left = done[number:].count(False)
            then = f"; {left} left, about {left * sum(seconds) / len(seconds) / 60:.0f} min" * bool(left)
            print((problem or f"{seconds[-1]:.0f} s") + then, flush=True)
    return failed


def described(state):
    others = [*state.training, *state.prediction]
    return "done" if state.done else f"made with other {listed(others)}" if others else "to do"


def list_runs(runs, folder):
    """Print what would run, and what is there already."""
    states = [state_of(run) for run in runs]
    print("\n".join(f"{run.name}: {described(state)}" for run, state in zip(runs, states)))
    print(f"{len(runs)} runs, {sum(state.done for state in states)} of them done, in {near(folder)}")


def main():
    args = parse_arguments()
    base, folder, runs = plan(args)
    if args.dry_run:
        return list_runs(runs, folder)
    heed_signals(lambda: "the same command goes on where it was")
    try:
        failed = make_all(runs, folder, args.overwrite)
    except KeyboardInterrupt as stop:
        raise Interrupted.because(stop, "the same command goes on where it was") from None
    lost = {run.setting for run in runs if run.name in failed}  # a training may diverge, and the others count all the same
    if whole := [run for run in runs if run.setting not in lost]:
        conclude(base, folder, whole)
    if failed:
        name, problem = next(iter(failed.items()))
        old = "; table and chosen.yaml there are an earlier sweep's" if not whole and (folder / "chosen.yaml").exists() else ""
        raise UserError(f"{len(failed)} of {len(runs)} runs failed, so {len(lost)} settings have no score; {name}: {problem}{old}")


if __name__ == "__main__":
    run_script(main)
