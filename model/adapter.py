"""LoRA on the language model: attached, saved, and loaded only where it fits."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

from files import UserError, read_json, write_json, write_text

# peft 0.21 reads an attribute that transformers 5.23 has renamed; nothing a user could do about it
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)

EXPERIMENT_FILE = "experiment.json"  # beside an adapter: what its training saw
LANGUAGE_LAYERS = r"model\.language_model\.layers\.\d+\.\w+"  # anchored: the tower has projections of its own


def attach_lora(model, lora_cfg):
    """Put new LoRA layers on the language model's projections, and on nothing else."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    missing = [target for target in lora_cfg.target_modules if not any(_is_target(name, target) for name in names)]
    if missing:
        raise UserError(f"lora.target_modules: the language model has no {', '.join(missing)}")
    pattern = rf"{LANGUAGE_LAYERS}\.({'|'.join(lora_cfg.target_modules)})"
    config = LoraConfig(
        r=lora_cfg.r, lora_alpha=lora_cfg.alpha, lora_dropout=lora_cfg.dropout, target_modules=pattern, task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config)
    stray = [name for name, weight in model.named_parameters() if weight.requires_grad and ".language_model." not in name]
    assert not stray, f"parameters outside the language model would be trained: {stray[:3]}"
    return model


def _is_target(name, target):
    return name.startswith("model.language_model.layers.") and name.endswith("." + target)


def load_adapter(model, folder):
    """Load a trained adapter. Raises UserError when its tensors are not exactly those that its config describes."""
    folder = Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder} has no {name}; train one with train_exp1.py or give --adapter none")
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    model = PeftModel(model, config)
    expected, found = get_peft_model_state_dict(model), load_peft_weights(str(folder), device="cpu")
    wrong = sorted(set(expected) ^ set(found))
    wrong += [name for name in set(expected) & set(found) if expected[name].shape != found[name].shape]
    if wrong:
        raise UserError(f"adapter {folder} does not fit the model: {len(wrong)} tensors missing or alien, first {wrong[0]}")
    set_peft_model_state_dict(model, found)
    return model


def experiment_facts(cfg, answer_rules):
    """What prediction must share with training. answer_rules: hashes of what decides types and candidates."""
    return {
        "model_name": Path(cfg.model_name).name,
        "prompt_style": cfg.prompt_style,
        "answer_prefix": cfg.answer_prefix,
        "image": cfg.image.model_dump(),
        "valid_answers": {"answer_space": cfg.data.answer_space, "max_listed": cfg.data.max_listed},
        "answer_rules": answer_rules,
    }


def save_adapter(model, folder, facts, beside=None):
    """Write the adapter, `facts` and the texts `beside` it ({file name: text}) to `folder`, replacing what was there only when
    all is written."""
    folder = Path(folder)
    temporary, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for path in (temporary, old):
        _remove_folder(path)
    model.save_pretrained(str(temporary))
    write_json(temporary / EXPERIMENT_FILE, facts)
    for name, text in (beside or {}).items():
        write_text(temporary / name, text)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    _remove_folder(old)


def _remove_folder(folder):
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def check_adapter(folder, facts):
    """Raise UserError when the adapter in `folder` was trained with other `experiment_facts`."""
    path = Path(folder) / EXPERIMENT_FILE
    if not path.is_file():
        raise UserError(f"adapter {folder} has no {EXPERIMENT_FILE}; train it with train_exp1.py")
    saved = read_json(path)
    for key, value in facts.items():
        if saved.get(key) != value:
            raise UserError(
                f"adapter {folder} was trained with {key}={json.dumps(saved.get(key))}, this run has {json.dumps(value)}; "
                "use the configuration it was trained with, or train anew"
            )
