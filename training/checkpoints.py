"""Which checkpoints are whole, and so may be resumed from. No torch: it takes seconds, and this is asked first."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --resume_from_checkpoint")

import re
import zipfile
from pathlib import Path

from files import UserError, read_json
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, WEIGHTS_FILE, safetensors_header

STATE_FILE = "trainer_state.json"


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
    checks = [
        (STATE_FILE, lambda path: read_json(path)["global_step"] == step_of(checkpoint)),
        (CONFIG_FILE, lambda path: isinstance(read_json(path), dict)),
        (WEIGHTS_FILE, safetensors_header),
        *((name, _zip_whole) for name in ("optimizer.pt", "scheduler.pt", *_random_states(checkpoint))),
    ]
    for name, is_whole in checks:
        if not (checkpoint / name).is_file():
            return f"it has no {name}"
        try:
            if is_whole(checkpoint / name):
                continue
        except (UserError, KeyError, TypeError):  # cut off, or something else
            pass
        return f"{name} is damaged"
    return None


def processes_of(checkpoint):
    """The number of processes that wrote a checkpoint; by the random states that are there where it does not say."""
    path = checkpoint / EXPERIMENT_FILE
    try:
        return read_json(path)["processes"]
    except (UserError, KeyError, TypeError):
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
