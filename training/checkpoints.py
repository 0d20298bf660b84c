"""Which checkpoints and best adapters are whole, and what becomes of the others. No torch: it takes seconds, and this is asked first."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --resume_from_checkpoint")

import re
import shutil
import zipfile
from pathlib import Path

from config import near
from files import UserError, read_json, sha256, write_json
from model.folders import SUMS_FILE, read_sums, whole_folder, write_sums
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, WEIGHTS_FILE, read_object, safetensors_header

STATE_FILE = "trainer_state.json"
STATES = (".pt", ".pth", ".bin")  # files of a checkpoint that are no adapter's
FACTS = ("processes", "unlogged")  # and what only its experiment.json says
SELECTED = {"micro": "exact_match", "macro": "macro_exact_match"}  # train.select_by: the metric of validation that decides
ABANDONED = "abandoned"  # folder of output_dir
OBJECTS = (STATE_FILE, CONFIG_FILE, EXPERIMENT_FILE)


def checkpoint_folders(folder):
    """checkpoint-N folders, whole or not, newest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint):
    return int(checkpoint.name.split("-")[1])


def newest_whole(folder):
    """(newest checkpoint that is whole or None, a line about each newer one that is not)."""
    notes = []
    for path in checkpoint_folders(folder):
        problem = what_is_missing(path)
        if problem is None:
            return path, notes
        notes.append(f"note: {path.name} is not whole ({problem}), so it does not count")
    return None, notes


def what_is_missing(checkpoint):
    """Why a checkpoint can't be resumed from (str), or None: it is whole, with a random state for each process that wrote it."""
    needed = (STATE_FILE, CONFIG_FILE, WEIGHTS_FILE, "optimizer.pt", "scheduler.pt", *_random_states(checkpoint))
    return _damage(checkpoint, needed) or _damage_of_state(checkpoint)


def what_an_adapter_lacks(folder):
    """Why an adapter's folder is not as training wrote it (str), or None."""
    return _damage(folder, (CONFIG_FILE, WEIGHTS_FILE, EXPERIMENT_FILE)) if folder.is_dir() else "it is gone"


def _damage(folder, needed):
    """What is wrong with a folder's files, by their hashes; and by what can be read of them, which is all where older code wrote none."""
    sums = read_sums(folder)
    known = sorted(path.name for path in folder.glob("*.json")) if sums is None else sums
    for name in dict.fromkeys([*needed, *known]):
        path = folder / name
        if not path.is_file():
            return f"it has no {name}"
        if sums is not None and name not in sums:
            return f"{SUMS_FILE} is damaged"
        if not _opens(path) or sums and sha256(path) != sums[name]:
            return f"{name} is damaged"
    return None


def _opens(path):
    try:
        if path.suffix == ".json":
            return isinstance(read_json(path), dict if path.name in OBJECTS else object)
        if path.suffix == ".safetensors":
            return bool(safetensors_header(path))
        return path.suffix not in (".pt", ".pth") or _zip_whole(path)
    except UserError:  # cut off, or something else
        return False


def _damage_of_state(checkpoint):
    state = read_json(checkpoint / STATE_FILE)
    return None if state.get("global_step") == step_of(checkpoint) else f"{STATE_FILE} is damaged"


def processes_of(checkpoint):
    """The number of processes that wrote a checkpoint; by the random states that are there where it does not say."""
    path = checkpoint / EXPERIMENT_FILE
    try:
        return int(read_object(path)["processes"])
    except (UserError, KeyError, TypeError, ValueError):
        return max(1, len(list(checkpoint.glob("rng_state_*.pth"))))


def _random_states(checkpoint):
    processes = processes_of(checkpoint)
    return ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]


def _zip_whole(path):
    """Can a file of torch.save be read to its end? Such a file is a zip with a checksum for each part."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def remove_old(folder, args, last):
    """Remove checkpoints but the newest args.save_total_limit (None: all are kept). args: TrainingArguments; last: the last step.

    One between every args.save_steps, which a signal has made, isn't among them, and goes when there is a newer: at its end a run
    has those that it would have without.
    """
    there = checkpoint_folders(folder)
    regular = [path for path in there if step_of(path) in (last, step_of(path) // args.save_steps * args.save_steps)]
    between = [path for path in there[1:] if path not in regular]
    for path in [*between, *regular[args.save_total_limit or len(regular) :]]:
        shutil.rmtree(path)


# ---------------------------------------------------------------------------------------------------------------------
# The best adapter


def score_of(step, metrics):
    """What experiment.json says of the best adapter. metrics: a validation's, as the log has them."""
    names = {"exact_match": "eval_exact_match", "eval_loss": "eval_loss", "macro_exact_match": "eval_macro_exact_match"}
    return {"step": step, **{name: metrics[key] for name, key in names.items() if key in metrics}}


def rank(score, select_by):
    """The exact match that decides first, then the lower loss. score: see `score_of`; select_by: a key of SELECTED."""
    return score.get(SELECTED[select_by], -1.0), -score.get("eval_loss", float("inf"))


def best_score(checkpoint, select_by):
    """The best validation in a checkpoint's log (see `score_of`), or None."""
    log = read_json(checkpoint / STATE_FILE).get("log_history", [])
    scores = [score_of(entry["step"], entry) for entry in log if "eval_exact_match" in entry]
    return max(scores, key=lambda score: rank(score, select_by), default=None)  # of equals the first, as training keeps it


def mend_adapter(output_dir, checkpoint, wanted, ahead=True):
    """Make adapter/ the best one at a whole checkpoint, and return lines (a list) about it.

    wanted: its score, see `best_score`; None where none is known. ahead: may it be of a later step, which training comes to again?
    One that is neither is written from the checkpoint of its step, or, where that is gone, set aside.
    """
    adapter = output_dir / "adapter"
    problem = what_an_adapter_lacks(adapter)
    step = None if problem else (read_json(adapter / EXPERIMENT_FILE).get("best") or {}).get("step", 0)
    if step is not None and (wanted and step == wanted["step"] or ahead and step > step_of(checkpoint)):
        return []
    problem = problem or f"it is of step {step}"
    source = wanted and output_dir / f"checkpoint-{wanted['step']}"
    if source and not (what_an_adapter_lacks(source) or what_is_missing(source)):
        _write_best(adapter, source, wanted)
        return [f"note: {near(adapter)} is written anew from {source.name}, the best one on validation so far ({problem})"]
    if step is not None and step <= step_of(checkpoint):
        return []  # no better one is left
    moved = _move_aside(adapter)
    if not (moved or wanted):
        return []
    lost = f"the best one, of step {wanted['step']}, has no checkpoint any more; " if wanted else ""
    return [f"note: {near(adapter)} does not count ({problem}); {lost}it is chosen from the validations to come"]


def _write_best(adapter, checkpoint, score):
    """adapter/ as training wrote it at the step of a checkpoint."""
    leave = {STATE_FILE, SUMS_FILE, EXPERIMENT_FILE}
    facts = {key: value for key, value in read_json(checkpoint / EXPERIMENT_FILE).items() if key not in FACTS}
    with whole_folder(adapter) as staged:
        for path in checkpoint.iterdir():
            if path.is_file() and path.suffix not in STATES and path.name not in leave:
                shutil.copyfile(path, staged / path.name)
        write_json(staged / EXPERIMENT_FILE, {**facts, "best": score})
        write_sums(staged)


def set_aside_after(output_dir, checkpoint):
    """Move checkpoints after this one out of the way, into `abandoned/`: a run that goes on from here must never take them for its own.
    Returns lines (a list) about it."""
    later = [path for path in checkpoint_folders(output_dir) if step_of(path) > step_of(checkpoint)]
    for path in later:  # newest first: killed in between, what is left belongs together
        _move_aside(path)
    names, where = ", ".join(path.name for path in later), near(output_dir / ABANDONED)
    return [f"note: {names} moved to {where}, which you may delete: training goes on from {checkpoint.name}"] * bool(later)


def _move_aside(path):
    if not path.exists():
        return False
    target = path.parent / ABANDONED / path.name
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    return True
