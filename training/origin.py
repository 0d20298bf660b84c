"""The trained adapter that a new run starts from: `train.init_adapter`. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py train.init_adapter=PATH")

import json
from pathlib import Path

from config import flat
from files import UserError, read_json
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, check_adapter_folder


def adapter_to_start_from(cfg):
    """`train.init_adapter` (a folder) or None.

    Raises UserError where it is no adapter, would be replaced by this run, or names what does not fit: model, prompt, pixels, rank,
    alpha or target modules. Rows and valid answers may be others: that is what it is for.
    """
    folder = cfg.train.init_adapter
    if folder is None:
        return None
    if not folder.is_dir():
        raise UserError(f"train.init_adapter: {folder} is no folder; give that of a trained adapter")
    if folder.resolve().is_relative_to(cfg.output_dir.resolve()):
        raise UserError(f"train.init_adapter: {folder} lies in output_dir, whose run would be replaced; set another output_dir")
    check_adapter_folder(folder)
    was = {**flat(read_json(folder / EXPERIMENT_FILE)), **_lora(read_json(folder / CONFIG_FILE))}
    now = {"model_name": Path(cfg.model_name).name, "prompt_style": cfg.prompt_style, "answer_prefix": cfg.answer_prefix}
    now |= flat({"image": cfg.image.model_dump(), "lora": cfg.lora.model_dump(exclude={"dropout"})})
    now["lora.target_modules"] = sorted(now["lora.target_modules"])
    for key, value in now.items():
        if was.get(key) != value:
            theirs, ours = json.dumps(was.get(key)), json.dumps(value)
            raise UserError(f"train.init_adapter: {folder} was trained with {key}={theirs}, this run has {ours}; use the same {key}")
    return folder


def _lora(config):
    """What decides the shape and scale of LoRA in an adapter_config.json, by our names; targets from the pattern that we write."""
    targets = config["target_modules"]
    targets = targets.rpartition("(")[2].rstrip(")").split("|") if isinstance(targets, str) else targets
    return {"lora.r": config["r"], "lora.alpha": config["lora_alpha"], "lora.target_modules": sorted(targets)}
