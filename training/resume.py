"""Which checkpoint a run goes on from, and whether it may: never a new run mixed with an old one. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --resume_from_checkpoint")

import re
import shutil
from pathlib import Path

from config import resolve_path
from files import UserError


def checkpoint_to_resume(cfg, resume, overwrite):
    """Return the checkpoint to resume from, or None for a new run. Raises UserError rather than mix a new run with an old one."""
    checkpoints = find_checkpoints(cfg.output_dir)
    if resume is not None:
        if resume == "newest" and not checkpoints:
            raise UserError(f"--resume_from_checkpoint: {cfg.output_dir} has no checkpoint; start without it")
        path = checkpoints[-1] if resume == "newest" else resolve_path(resume, cfg.config_path.parent)
        if not (path / "trainer_state.json").is_file():
            raise UserError(f"--resume_from_checkpoint: {path} is not a checkpoint; give a checkpoint-N folder")
        return str(path)
    if (checkpoints or (cfg.output_dir / "adapter").exists()) and not overwrite:
        raise UserError(
            f"{cfg.output_dir} already holds a training run; continue it with --resume_from_checkpoint, replace it with "
            "--overwrite, or set another output_dir"
        )
    return None


def remove_run(cfg):
    """Remove the run that --overwrite replaces; called when nothing but the training itself can go wrong any more."""
    for path in [*cfg.output_dir.glob("checkpoint-*"), cfg.output_dir / "adapter"]:
        shutil.rmtree(path, ignore_errors=True)


def find_checkpoints(folder):
    """Complete checkpoint-N folders, oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    complete = [path for path in found if (path / "trainer_state.json").is_file()]
    return sorted(complete, key=lambda path: int(path.name.split("-")[1]))
