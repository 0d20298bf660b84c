"""The trained adapter that a new run starts from: `train.init_adapter`. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py train.init_adapter=PATH")

import json

from config import flat
from data.contents import CACHE, weights_hash
from data.stages import prompts_say
from files import UserError, short
from model.on_disk import CONFIG_FILE, adapter_facts, check_adapter_folder, read_object, refuse_other_base

# Of adapter_config.json: what is compared, and what decides nothing here. All other settings are off in what this project trains.
COMPARED = {"r", "lora_alpha", "target_modules"}
HARMLESS = {"lora_dropout", "base_model_name_or_path", "revision", "task_type", "peft_version", "inference_mode", "auto_mapping"}
HARMLESS |= {"init_lora_weights", "megatron_core", "qalora_group_size", "loftq_config"}
VISION_PARTS = {"tower": r"visual\.blocks", "merger": r"visual\."}  # lora.vision, by what only its pattern names
OFF = {"bias": "none", "peft_type": "LORA"}


def check_init_adapter(cfg):
    """Return lines (a list) about `train.init_adapter`, none where it is not set.

    Raises UserError where it is no adapter, would be replaced by this run, or names what does not fit: model (by its weights), prompt,
    pixels, rank, alpha, target modules or another kind of LoRA. Rows and valid answers may be others: that is what it is for.
    """
    folder = cfg.train.init_adapter
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"train.init_adapter: {folder} is no folder; give that of a trained adapter")
    if folder.resolve().is_relative_to(cfg.output_dir.resolve()):
        raise UserError(f"train.init_adapter: {folder} lies in output_dir, whose run would be replaced; set another output_dir")
    check_adapter_folder(folder)
    was = flat(adapter_facts(folder)) | _lora(folder / CONFIG_FILE)
    now = {"quantization": cfg.quantization, "prompt_style": cfg.prompt_style, "answer_prefix": cfg.answer_prefix}
    now |= {"stage_prefix": prompts_say(cfg.data)}
    now |= flat({"prompt": cfg.prompt.model_dump(), "image": cfg.image.model_dump(), "lora": cfg.lora.model_dump(exclude={"dropout"})})
    now["lora.target_modules"] = sorted(now["lora.target_modules"])
    for key, value in now.items():
        if was.get(key) != value:
            theirs, ours = json.dumps(was.get(key)), json.dumps(value)
            both = f"{key}={short(theirs)}, this run has {short(ours)}"
            raise UserError(f"train.init_adapter: {folder} was trained with {both}; use the same {key}")
    return refuse_other_base(folder, cfg.model_name, weights_hash(cfg.model_name, cfg.output_dir / "data" / CACHE))


def _lora(path):
    """What decides the shape and scale of LoRA in an adapter_config.json, by our names; targets from the pattern that we write.

    Raises UserError where it lacks one of them, or is of a kind of LoRA that is not trained here.
    """
    config = read_object(path)
    targets = config.get("target_modules")
    if missing := sorted(COMPARED - config.keys()):
        raise UserError(f"{path}: has no {missing[0]}; copy the adapter again, or train it anew")
    odd = [key for key, value in config.items() if value and value != OFF.get(key) and key not in COMPARED | HARMLESS]
    if odd or not isinstance(targets, (str, list)):
        key = odd[0] if odd else "target_modules"
        raise UserError(f"{path}: has {key}={short(json.dumps(config[key]))}, which is not trained here; give an adapter of train_exp1.py")
    vision = next((name for name, part in VISION_PARTS.items() if part in str(targets)), None)
    targets = targets.rpartition("(")[2].rstrip(")").split("|") if isinstance(targets, str) else targets
    targets = sorted(map(str, targets))
    return {"lora.r": config["r"], "lora.alpha": config["lora_alpha"], "lora.target_modules": targets, "lora.vision": vision}
