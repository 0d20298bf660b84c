"""Whether a run starts, goes on or is finished, and from what: never with something else than it was started with. No torch.

train_run.json is the record of what decides a run: its settings, and hashes of what it was made from.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --resume_from_checkpoint")

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from config import PATH_KEYS, Config, TrainConfig, flat, launcher, near, now, resolve_path
from data.contents import CACHE, file_hashes, model_hashes, picture_hashes
from data.preprocess import enriched_path
from files import UserError, hash_of, read_json, remove_temporaries, sha256, write_json
from model.folders import remove_staged
from model.on_disk import WEIGHTS_FILE
from training.checkpoints import (
    ABANDONED,
    best_score,
    checkpoint_folders,
    mend_adapter,
    newest_whole,
    processes_of,
    set_aside_after,
    step_of,
    what_an_adapter_lacks,
    what_is_missing,
)

RECORD = "train_run.json"
LOCK = ".training.lock"  # in output_dir, held by a running training
WRITTEN = ("trainer_state.json", "loss_curve.png", RECORD)  # by a training, besides checkpoints and adapter
# Of the configuration: what decides a run.
SECTIONS = ("quantization", "prompt_style", "prompt", "answer_prefix", "image", "lora", "train", "data")
# What only tells, keeps or loads; more steps may follow (`check_steps`); files are compared by what they hold (`contents`).
FREE = {"train.logging_steps", "train.report_to", "train.num_workers", "train.save_total_limit", "train.epochs", "train.max_steps"}
FREE |= {"train.eval_bs", "train.gradient_checkpointing"}  # memory against time: the weights stay the same to the bit (on a CPU)
FREE |= set(PATH_KEYS)
SPLIT = ("train.train_bs", "train.grad_accum")  # how a step's images are split: the same sums, up to rounding
AGAIN = "start again with --overwrite, or set another output_dir"


class Start(NamedTuple):
    """How a training begins: from a checkpoint (its folder) or the beginning, as the run of a record (a dict) or a new one."""

    checkpoint: Path | None = None
    record: dict = {}
    notes: tuple = ()  # lines for people
    back: bool = False  # from an earlier checkpoint than it could: what comes after it is abandoned

    @property
    def goes_on(self):
        return self.checkpoint is not None or bool(self.record.get("finished"))


def how_to_start(cfg, resume, overwrite, processes):
    """Return the Start of a training. resume: None for a new run, a checkpoint's path, or `newest`, which also starts or has finished.

    Raises UserError rather than replace a run unasked, or mix a run with another.
    """
    folder, there = near(cfg.output_dir), checkpoint_folders(cfg.output_dir)
    holds_run = bool(there) or (cfg.output_dir / "adapter").exists()
    if resume is None:
        if holds_run and not overwrite:
            raise UserError(
                f"{folder} already holds a training run; continue it with --resume_from_checkpoint, replace it with --overwrite, or "
                "set another output_dir"
            )
        return Start()
    checkpoint, notes = newest_whole(cfg.output_dir) if resume == "newest" else (given_checkpoint(cfg, resume), [])
    if not (cfg.output_dir / RECORD).is_file():
        if holds_run:
            raise UserError(f"--resume_from_checkpoint: {folder} has no {RECORD}, which says what its run was started with; {AGAIN}")
        return Start(notes=(f"{folder} holds no run yet: training starts",))
    record = read_record(cfg)
    refuse_other_settings(record, cfg, processes)
    back = resume != "newest" and checkpoint != newest_whole(cfg.output_dir)[0]
    if back or resume != "newest" and record.get("finished", {}).get("step", 0) > step_of(checkpoint):
        record.pop("finished", None)  # from here it is to be trained again
    if checkpoint:
        notes += split_notes(checkpoint, record, cfg, processes)
    if checkpoint is None and not record.get("finished"):
        if there:
            raise UserError(f"--resume_from_checkpoint: {folder} has no whole checkpoint: {'; '.join(notes)}; {AGAIN}")
        notes.append(f"no checkpoint in {folder} yet: the run starts from its beginning")
    return Start(checkpoint, record, tuple(notes), back)


def how_it_goes_on(cfg):
    """One line for a training that a signal has ended: where it stands, and the command that goes on."""
    checkpoint, _ = newest_whole(cfg.output_dir)
    kept = f"{near(checkpoint)} is kept" if checkpoint else "before the first checkpoint"
    return f"{kept}; go on with: {cfg.command('train_exp1.py', '--resume_from_checkpoint', start=launcher())}"


def split_notes(checkpoint, record, cfg, processes):
    """Lines about a step's images that are split in another way than before: over processes, or into micro-batches."""
    if processes_of(checkpoint) != processes:
        return [f"note: {checkpoint.name} has the random states of {processes_of(checkpoint)} processes; dropout is drawn anew"]
    was, now = _deciding(Config()) | _deciding(record["config"]), _deciding(cfg)
    changed = " ".join(f"{key}={now[key]}" for key in SPLIT if now[key] != was[key])
    return [f"note: {changed}: a step keeps its images, its sums are the same up to rounding, and dropout is drawn anew"] * bool(changed)


def given_checkpoint(cfg, argument):
    """The checkpoint of `--resume_from_checkpoint PATH`. Raises UserError unless it is a whole one of this run."""
    path = resolve_path(argument, cfg.config_path.parent)
    problem = None
    if path not in checkpoint_folders(path.parent):
        problem = "is not a checkpoint; give a checkpoint-N folder"
    elif path.resolve().parent != cfg.output_dir.resolve():
        problem = (
            f"is not of the run in {near(cfg.output_dir)}; set its output_dir, or start from its weights: train.init_adapter={argument}"
        )
    elif missing := what_is_missing(path):
        whole, _ = newest_whole(cfg.output_dir)
        problem = f"is not whole ({missing}); " + (f"the newest that is: {near(whole)}" if whole else AGAIN)
    if problem:
        raise UserError(f"--resume_from_checkpoint: {near(path)} {problem}")
    return path


def read_record(cfg):
    """What a run was started with. Raises UserError where its file does not say."""
    path = cfg.output_dir / RECORD
    record = read_json(path)
    config = record.get("config") if isinstance(record, dict) else None
    sections = isinstance(config, dict) and all(isinstance(config.get(name), dict) for name in ("image", "lora", "train", "data"))
    if not sections or not isinstance(record.get("world_size"), int) or not isinstance(record.get("finished", {}), dict):
        raise UserError(f"{near(path)}: does not say what its run was started with (config, world_size); put it back, or {AGAIN}")
    return record


def refuse_other_settings(record, cfg, processes):
    """Raise UserError that names every setting that decides a run and is not the one that the record's run was started with."""
    was = {**_deciding(Config()), **_deciding(record["config"])}
    changed = {key: (was[key], value) for key, value in _deciding(cfg).items() if was[key] != value}
    hint, at_once = "", cfg.train.train_bs * processes
    images = was["train.train_bs"] * was["train.grad_accum"] * record["world_size"]  # of a step
    if at_once * cfg.train.grad_accum == images:  # the same steps, split in another way
        changed = {key: both for key, both in changed.items() if key not in SPLIT}
    elif processes != record["world_size"] or "train.train_bs" in changed:
        if processes != record["world_size"]:
            changed["processes"] = (record["world_size"], processes)
        keeps = f"train.grad_accum={images // at_once} keeps its steps" if images % at_once == 0 else "none keeps its steps"
        split = f"{processes} processes" if "processes" in changed else f"train.train_bs={cfg.train.train_bs}"
        hint = f" (with {split} {keeps})"
    if changed:
        names = ", ".join(f"{key}={json.dumps(old)}, not {json.dumps(new)}" for key, (old, new) in changed.items())
        raise UserError(
            f"--resume_from_checkpoint: the run in {near(cfg.output_dir)} was started with {names}{hint}; go on with what it was started "
            f"with, or {AGAIN}"
        )


def other_settings(record, cfg):
    """Names of the settings that decide a run, its length among them, and are not those that the record's run was started with."""
    decides = lambda config: {key: flat(config)[key] for key in (*_deciding(config), "train.epochs", "train.max_steps")}
    was, now = ({**Config().model_dump(mode="json"), **config} for config in (record["config"], cfg.model_dump(mode="json")))
    was, now = decides(was), decides(now)
    return [key for key in now if was.get(key, now[key]) != now[key]]


def _deciding(config):
    values = config if isinstance(config, dict) else config.model_dump(mode="json")
    return {key: value for key, value in flat({name: values[name] for name in SECTIONS if name in values}).items() if key not in FREE}


# ---------------------------------------------------------------------------------------------------------------------
# What a run is made from, and how long it is


def contents(cfg, rows):
    """{key: hash of what it names}: enriched rows, their pictures, the model, the adapter it starts from (None where not set).

    rows: {split: enriched rows} of training and, where there is one, validation.
    """
    cache = cfg.output_dir / "data" / CACHE
    named = [row for split in rows.values() for row in split]
    found = {f"data.{split}_jsonl": sha256(enriched_path(cfg, split)) if split in rows else None for split in ("train", "val")}
    found |= {"data.image_root": hash_of(picture_hashes(named, cfg.image_folder(), cache))}
    found |= {"model_name": hash_of(model_hashes(cfg.model_name, cache)), "train.init_adapter": None}
    if cfg.train.init_adapter:
        weights = cfg.train.init_adapter / WEIGHTS_FILE
        found["train.init_adapter"] = file_hashes([weights], cache)[weights]
    return found


def refuse_other_contents(record, now, cfg):
    """Raise UserError that names the keys whose files hold something else than when the record's run was started."""
    was = {**now, **record.get("made_from", {})}  # which older code did not write
    changed = [key for key in now if was[key] != now[key]]
    if changed:
        raise UserError(
            f"--resume_from_checkpoint: the run in {near(cfg.output_dir)} was started with other contents of {', '.join(changed)}; put "
            f"them back, or {AGAIN}"
        )


def steps_before(record, images, images_per_step):
    """Optimizer steps that the record's run was to make, 0 without a record. images: groups of an epoch."""
    return TrainConfig.model_construct(**record["config"]["train"]).steps(images, images_per_step) if record else 0


def is_finished(start, cfg, steps, before):
    """Are the `steps` that a run is to make all trained? before: those that its record's run was to make.

    Raises UserError where fewer are asked for now, or more where there is nothing to go on from.
    """
    folder = near(cfg.output_dir)
    if steps < before:
        raise UserError(
            f"--resume_from_checkpoint: train.epochs and train.max_steps make {steps} steps, fewer than the {before} that the run in "
            f"{folder} was started with; only more can follow"
        )
    if not start.record.get("finished"):
        return False
    last = start.record["finished"].get("step", before)
    if what_an_adapter_lacks(cfg.output_dir / "adapter") and start.checkpoint and step_of(start.checkpoint) < last:
        return False  # from there it is trained again
    if stopped_early(start.record, before):
        return True
    if steps > before and start.checkpoint is None:
        raise UserError(f"--resume_from_checkpoint: the finished run in {folder} has no checkpoint to go on from; {AGAIN}")
    return steps == before


def stopped_early(record, before):
    """Did a finished run end by its patience, before all the steps that it was to make?"""
    return bool(record["config"]["train"].get("early_stopping_patience")) and record["finished"].get("step", before) < before


def finished_lines(start, cfg, before):
    """What is said of a finished run, whose adapter/ is mended from a checkpoint where that is needed and possible.

    Raises UserError where it is gone or damaged, and no checkpoint has it.
    """
    step, adapter, notes = start.record["finished"].get("step", before), cfg.output_dir / "adapter", []
    problem = what_an_adapter_lacks(adapter)
    if start.checkpoint:
        notes = mend_adapter(cfg.output_dir, start.checkpoint, wanted_at(start.checkpoint, cfg) or {"step": step_of(start.checkpoint)})
    if what_an_adapter_lacks(adapter):
        raise UserError(
            f"--resume_from_checkpoint: the run in {near(cfg.output_dir)} is finished, but its adapter is not whole ({problem}) and no "
            f"checkpoint has it; {AGAIN}"
        )
    if not stopped_early(start.record, before):
        return [*notes, f"finished: all {before} steps are trained; nothing to do"]
    patience = start.record["config"]["train"]["early_stopping_patience"]
    return [
        *notes,
        f"finished: train.early_stopping_patience={patience} ended it at step {step} of {before}, and would again; nothing to do. To "
        f"train on, start a new run from its weights: output_dir=FOLDER train.init_adapter={near(adapter)}",
    ]


def wanted_at(checkpoint, cfg):
    """The score of the best adapter up to a checkpoint (see `best_score`), None where validation does not choose it."""
    return best_score(checkpoint, cfg.train.select_by) if cfg.data.val_jsonl else None


def put_in_order(start, cfg, longer):
    """Let nothing in output_dir be of another course than the training that goes on from `start`; return lines (a list) about it.

    longer: does the run have more steps than before, and so other learning rates from here on?
    """
    other = start.back or longer
    if start.back:
        write_json(cfg.output_dir / RECORD, start.record)  # no more finished, if this is killed
    notes = mend_adapter(cfg.output_dir, start.checkpoint, wanted_at(start.checkpoint, cfg), ahead=not other)
    return [*notes, *set_aside_after(cfg.output_dir, start.checkpoint)]


# ---------------------------------------------------------------------------------------------------------------------
# The folder


def resumptions(start, command):
    """The record's list of resumptions with this one."""
    if start.checkpoint is None:
        return []
    return [*start.record.get("resumed", []), {"step": step_of(start.checkpoint), "command": command, "date": now()}]


def note_finished(output_dir, step):
    """Say in the record that all is trained and written."""
    write_json(output_dir / RECORD, {**read_json(output_dir / RECORD), "finished": {"step": step, "date": now()}})


def remove_run(cfg):
    """Remove the run that is replaced; called when nothing but the training itself can go wrong any more. The record goes last: a
    kill in between leaves what belongs to it, or nothing."""
    for path in [*checkpoint_folders(cfg.output_dir), cfg.output_dir / "adapter", cfg.output_dir / ABANDONED]:
        shutil.rmtree(path, ignore_errors=True)
    for name in WRITTEN:
        (cfg.output_dir / name).unlink(missing_ok=True)


def remove_leftovers(output_dir):
    """Remove what a killed training left half written. No other may be running there."""
    remove_staged(output_dir)
    for name in WRITTEN:
        remove_temporaries(output_dir / name)
