"""Experiments 1 to 5 of the series on your rows, each against Experiment 1: is any of them worth anything?

    python tools/series.py my.yaml                                    all experiments, the validation rows
    python tools/series.py my.yaml --test                             the test rows: once, at the end
    python tools/series.py my.yaml --seeds 3 train.epochs=2           three trainings of each, with overrides for all
    python tools/series.py my.yaml configs/exp2.yaml                  Experiments 1 and 2 alone
    python tools/series.py my.yaml --dry-run                          what would run, and what is there already

An experiment is what its file in configs/ changes in your configuration; numbers of its `train` section are in proportion to those of
config_exp1.yaml. Its trainings and predictions go to output_dir/series/EXPERIMENT/seed_N (with their output in sweep.log there),
a model per stage or the steps of the curriculum to stage_1, stage_2, … below. Killed and started again, the series goes on where it
was; what is done is skipped, and what was made with other settings, files or code is refused by name, or made anew with --overwrite.
It ends with a table by stage, differences paired, in output_dir/series/series_val.txt and .json. `bash run_series.sh` finds the
environment first, and without a configuration runs the demo.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ROOT, flat, load_config, near, resolve_path, yaml_file
from data.rows import group_by_image, read_rows
from data.stages import needed_stage, shown_question, with_stage
from files import Interrupted, UserError, heed_signals, quoted, run_script
from tools.series_table import conclude, write_joined
from tools.sweep import Run, described, make_all, state_of

ONCE, PER_STAGE, IN_TURN = "once", "a model per stage", "stage by stage"
# Experiment: (its file in configs/, None for the base itself; how it trains; what it is called).
EXPERIMENTS = {
    "exp1": (None, ONCE, "random order"),
    "exp2": ("exp2.yaml", ONCE, "order of stages"),
    "exp3": ("exp3.yaml", PER_STAGE, "a model per stage"),
    "exp4": ("exp4.yaml", IN_TURN, "curriculum"),
    "exp5": ("exp5.yaml", ONCE, "cascade"),
}
# Of the base, which is Experiment 1. So many steps would be made in each stage.
FIRST_HAS = {"train.order": "random", "train.cascade": "none", "predict.cascade": False, "train.max_steps": None}
STAGES, ACCUMULATED = 3, "train.grad_accum"  # what the files are written for: images with questions of all stages
OWN = ("extends", "output_dir")  # of an experiment's file: what makes it run alone


class Experiment(NamedTuple):
    """An experiment with one seed. runs: of tools.sweep, in the order of stages; a curriculum's start each from the one before."""

    name: str
    seed: int
    how: str
    runs: list

    @property
    def predictions(self):
        """Of all rows: the last run's, or, of a model per stage, the joined file."""
        last = self.runs[-1]
        return last.folder.parent / last.predictions.name if self.how == PER_STAGE else last.predictions


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    what = "your YAML file; experiments' own (configs/exp2.yaml), for these alone; overrides"
    parser.add_argument("given", nargs="+", metavar="CONFIG | section.key=value", help=what)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train.seed and the N - 1 after it (default 1)")
    parser.add_argument("--test", action="store_true", help="predict and compare the test rows instead of the validation rows")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    parser.add_argument("--overwrite", action="store_true", help="make the runs anew that were made with other settings, files or code")
    args = parser.parse_intermixed_args()
    args.overrides = [text for text in args.given if "=" in text and not Path(text).is_file()]
    files = [resolve_path(text, ROOT) for text in args.given if text not in args.overrides]
    own = {(ROOT / "configs" / file).resolve(): name for name, (file, *_) in EXPERIMENTS.items() if file}
    bases = [path for path in files if path.resolve() not in own]
    if len(bases) != 1:
        parser.error("give one configuration of your own, such as my.yaml, and experiments as configs/exp2.yaml")
    args.config, args.names = bases[0], ["exp1", *(own[path.resolve()] for path in files if path.resolve() in own)]
    if args.seeds < 1:
        parser.error("--seeds must be at least 1")
    return args


def keys_of(path, base, trees=STAGES):
    """["section.key=value"] that an experiment's file changes in a configuration. Numbers of `train` keep their proportion to those of
    the file that it extends: `grad_accum: 6` instead of 2 is three times the base's, where an image has three trees, one a stage; with
    fewer it is less. trees: of an image, on average. Raises UserError for a file that extends none."""
    values = yaml_file(path) or {}
    if "extends" not in values:
        raise UserError(f"{near(path)}: extends no file, of which it would be a change; begin it with extends: ../config_exp1.yaml")
    changed, extended, here = (
        flat(cfg.model_dump(mode="json")) for cfg in (load_config(path), load_config(path.parent / values["extends"]), base)
    )
    given = flat({key: value for key, value in values.items() if key not in OWN})
    own = {key: changed[key] for key in given if key in changed}  # as it is read there: 5e-5 a number, a path from that folder
    for key, value in own.items():
        numbers = {type(value), type(extended[key]), type(here[key])} <= {int, float}
        if key.startswith("train.") and numbers and value and extended[key]:
            value = here[key] * value / extended[key] * (trees / STAGES if key == ACCUMULATED else 1)
            own[key] = max(1, round(value)) if type(extended[key]) is int else value
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in own.items()]


def staged_rows(base, split):
    """The rows of a split, each with its `stage`. Raises UserError for a row whose stage isn't known."""
    path = base.split_path(split)
    return with_stage(read_rows(path, need_answer=False), base.data.model_copy(update={"stage_prefix": "add"}), path)


def stages_in(base, split):
    """{stage: rows} of a split (Counter)."""
    return Counter(row["stage"] for row in staged_rows(base, split))


def refuse_said_stages(base):
    """Raise UserError where Experiment 1's own prompts would say the stage: it would be Experiment 2 in another order."""
    rows = [] if base.data.stage_prefix == "strip" else read_rows(base.split_path("train"), need_answer=False)
    if base.data.stage_prefix == "add" or any(shown_question(row, "strip") != row["question"] for row in rows):
        raise UserError(
            f"{near(base.config_path)}: the prompts of Experiment 1 would say a question's stage, which is what Experiment 2 adds; "
            "set data.stage_prefix=strip"
        )


def trees_of_an_image(base):
    """In how many stages an image of the training rows is asked about, on average."""
    rows = list(staged_rows(base, "train"))
    return len(group_by_image(rows, needed_stage)) / len(group_by_image(rows))


def refuse_no_first(base):
    """Raise UserError for a configuration that is no Experiment 1, or whose stages wouldn't be trained as long as they are in it."""
    values = flat(base.model_dump(mode="json"))
    for key, value in FIRST_HAS.items():
        if values[key] != value:
            others = "Experiment 1 asks all questions at once, in random order, and its epochs are what the others' stages share"
            remedy = f"set {key}={json.dumps(value) if not isinstance(value, str) else value}"
            raise UserError(f"{near(base.config_path)}: has {key}={json.dumps(values[key]).strip(chr(34))}, but {others}; {remedy}")


def plan(args):
    """(base configuration, the series' folder, [Experiment])."""
    base, split = load_config(args.config, args.overrides), "test" if args.test else "val"
    refuse_no_first(base)
    for needed in {"train", "val", split}:
        base.split_path(needed)
    base.image_folder()
    stages = {name: stages_in(base, name) for name in {"train", "val", split}}
    if lost := sorted(stages[split].keys() - stages["train"].keys()):
        rows = sum(stages[split][stage] for stage in lost)
        raise UserError(
            f"{near(base.split_path(split))}: {rows:,} rows of stage {', '.join(map(str, lost))} would have no model, since "
            f"{near(base.split_path('train'))} has none of that stage; add such rows there, or leave these out: "
            f"data.stages={sorted(stages['train'])}"
        )
    refuse_said_stages(base)
    folder, experiments, trees = base.output_dir / "series", [], trees_of_an_image(base)
    for name in EXPERIMENTS if len(args.names) == 1 else args.names:
        file, how, _ = EXPERIMENTS[name]
        if file and not (ROOT / "configs" / file).is_file():
            print(f"note: {name} is left out: there is no configs/{file}")
            continue
        keys = keys_of(ROOT / "configs" / file, base, trees) if file else []
        for seed in range(base.train.seed, base.train.seed + args.seeds):
            own = [*args.overrides, *keys, f"train.seed={seed}"]
            experiments.append(Experiment(name, seed, how, runs_of(base, name, how, own, folder, stages, split)))
    return base, folder, experiments


def runs_of(base, name, how, own, folder, stages, split):
    """The runs of one experiment and seed. own: its overrides, the seed last. stages: {split: `stages_in` it}."""
    config, seed = base.config_path, int(own[-1].partition("=")[2])
    place = f"{name}/seed_{seed}"
    if how == ONCE:
        cfg = load_config(config, [*own, f"output_dir={folder / place}"])
        return [Run(place, (), seed, None, cfg, cfg, split)]
    runs = []
    for stage in sorted(stages[split] if how == PER_STAGE else stages["train"]):
        runs.append(_run_of_stage(config, f"{place}/stage_{stage}", own, folder, stage, stages, runs[-1:] if how == IN_TURN else []))
    if how == PER_STAGE:
        return [run._replace(split=split) for run in runs]
    everything = load_config(config, [*own, f"output_dir={runs[-1].folder}", f"data.stages={json.dumps(base.data.stages)}"])
    return [*runs[:-1], runs[-1]._replace(predicted=everything, split=split)]


def _run_of_stage(config, name, own, folder, stage, stages, before):
    """A training on one stage's rows, from the adapter of `before` ([Run] or []), which predicts nothing."""
    ours = [*own, f"output_dir={folder / name}", f"data.stages=[{stage}]"]
    blind = [] if stage in stages["val"] else ["data.val_jsonl=null", "train.early_stopping_patience=null"]
    start = [f"train.init_adapter={run.folder / 'adapter'}" for run in before]
    trained = load_config(config, [*ours, *blind, *start])
    return Run(name, (), trained.train.seed, None, trained, load_config(config, ours), None)


def waves(experiments):
    """Lists of runs, each of which needs but those of earlier lists: a curriculum's stages follow one another."""
    found = []
    for experiment in experiments:
        for number, run in enumerate(experiment.runs):
            at = number if experiment.how == IN_TURN else 0
            found += [[] for _ in range(at + 1 - len(found))]
            found[at].append(run)
    return found


def make_series(experiments, folder, overwrite):
    """Make what isn't done yet. Returns {run: why} of those that failed, or whose start did."""
    failed = {}
    for runs in waves(experiments):
        whole = [run for run in runs if not _needs(run, failed)]
        failed |= {run.name: f"{_needs(run, failed)} failed" for run in runs if _needs(run, failed)}
        failed |= make_all(whole, folder, overwrite) if whole else {}
    return failed


def _needs(run, failed):
    """The failed run whose adapter this one would start from, or None."""
    start = run.trained.train.init_adapter
    return next((name for name in failed if start and start.parent.parts[-3:] == tuple(name.split("/"))), None)


def main():
    args = parse_arguments()
    base, folder, experiments = plan(args)
    runs = [run for experiment in experiments for run in experiment.runs]
    if args.dry_run:
        for run in runs:
            start = run.trained.train.init_adapter
            print(f"{run.name}: {described(state_of(run)) if start is None or start.is_dir() else 'to do'}")
        return
    again = "the same command goes on where it was"
    heed_signals(lambda: again)
    try:
        failed = make_series(experiments, folder, args.overwrite)
    except KeyboardInterrupt as stop:
        raise Interrupted.because(stop, again) from None
    lost = {experiment.name for experiment in experiments if failed.keys() & {run.name for run in experiment.runs}}  # with all its seeds
    whole = [experiment for experiment in experiments if experiment.name not in lost]
    for experiment in whole:
        if experiment.how == PER_STAGE:
            write_joined(experiment)
    if "exp1" in {experiment.name for experiment in whole}:
        titles = {name: title for name, (_, _, title) in EXPERIMENTS.items()}
        conclude(base, folder, whole, "test" if args.test else "val", titles)
    if failed:
        name, problem = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(runs)} runs failed, and their experiments have no score; {quoted(name)}: {problem}")


if __name__ == "__main__":
    run_script(main)
