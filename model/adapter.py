"""LoRA on the language model, and on request in the vision tower: attached, saved, and loaded only where it fits."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
import re
import warnings
from pathlib import Path
from types import MethodType

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError

from files import UserError, short, write_json, write_text
from model.folders import refuse_edited, whole_folder, write_sums
from model.forward import base_model, no_graph_below_lora
from model.on_disk import CONFIG_FILE, COPY, EXPERIMENT_FILE, WEIGHTS_FILE, adapter_facts, check_adapter_folder

# peft 0.21 reads an attribute that transformers 5.23 has renamed; nothing a user could do about it
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)

CARD_FILE = "README.md"
DIVERGED = "lower train.lr or raise train.warmup_ratio, and start again with --overwrite"  # the remedy
LANGUAGE_LAYERS = r"model\.language_model\.layers\.\d+\.\w+"  # anchored: the tower has projections of its own
MERGERS = r"model\.visual\.(?:merger|deepstack_merger_list\.\d+)\.(?:mlp\.[02]|linear_fc[12])"
VISION = {"merger": MERGERS, "tower": rf"(?:{MERGERS}|model\.visual\.blocks\.\d+\.attn\.(?:qkv|proj))"}  # by lora.vision


def attach_lora(model, lora_cfg):
    """Put new LoRA layers on the language model's projections, on what `lora_cfg.vision` names, and on nothing else."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    missing = [target for target in lora_cfg.target_modules if not any(_is_target(name, target) for name in names)]
    if missing:
        raise UserError(f"lora.target_modules: the language model has no {', '.join(missing)}")
    pattern = rf"{LANGUAGE_LAYERS}\.({'|'.join(lora_cfg.target_modules)})"
    if lora_cfg.vision:
        pattern = f"{VISION[lora_cfg.vision]}|{pattern}"
    config = LoraConfig(
        r=lora_cfg.r, lora_alpha=lora_cfg.alpha, lora_dropout=lora_cfg.dropout, target_modules=pattern, task_type="CAUSAL_LM"
    )
    model = add_in_one_product(get_peft_model(model, config))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    thawed = re.compile(rf"base_model\.model\.(?:{VISION[lora_cfg.vision]})\.lora_.*") if lora_cfg.vision else None
    stray = [name for name in trained if ".language_model." not in name and not (thawed and thawed.fullmatch(name))]
    assert not stray, f"parameters outside the language model would be trained: {stray[:3]}"
    if lora_cfg.vision:
        no_graph_below_lora(base_model(model).model.visual)
    return model


def _is_target(name, target):
    return name.startswith("model.language_model.layers.") and name.endswith("." + target)


def load_adapter(model, folder):
    """Load a trained adapter. Raises UserError when its tensors are not exactly those that its config describes, or not finite."""
    folder = Path(folder)
    config = _lora_config(folder)
    config.inference_mode = True
    model = PeftModel(model, config)
    _load_tensors(model, folder)
    return add_in_one_product(model)


def add_in_one_product(model):
    """Let LoRA compute in autocast's precision where there is autocast, and add what it finds, in place, as its last product is taken.

    peft casts LoRA's inputs to float32, and scales and adds in two more passes over what are the widest tensors of a layer. Without
    autocast, as on a CPU, its own forward stays. Returns the model.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            layer.forward = MethodType(_lora_forward, layer)
    return model


def _lora_forward(layer, x, *args, **kwargs):
    if layer.disable_adapters or layer.merged or not torch.is_autocast_enabled(x.device.type):
        return type(layer).forward(layer, x, *args, **kwargs)
    (name,) = layer.active_adapters
    tokens = x.flatten(0, -2)
    result = layer.base_layer(tokens)
    inner = layer.lora_A[name](layer.lora_dropout[name](tokens))
    weight = layer.lora_B[name].weight.to(result.dtype)
    return result.addmm_(inner, weight.T, alpha=layer.scaling[name]).view(*x.shape[:-1], -1)


def start_from(model, folder):
    """Give the new LoRA of `model` the weights of a trained adapter. Raises UserError as `load_adapter` does."""
    _lora_config(Path(folder))
    _load_tensors(model, Path(folder))


def _lora_config(folder):
    check_adapter_folder(folder)
    try:
        return LoraConfig.from_pretrained(str(folder))
    except Exception as error:  # of many kinds, for settings that it can't take
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"adapter {folder} can't be loaded ({CONFIG_FILE}: {short(why, 200)}); {COPY}") from None


def _load_tensors(model, folder):
    expected, found = get_peft_model_state_dict(model, save_embedding_layers=False), _read_tensors(folder)
    wrong = sorted(set(expected) ^ set(found))
    wrong += [name for name in set(expected) & set(found) if expected[name].shape != found[name].shape]
    if wrong:
        raise UserError(f"adapter {folder} does not fit the model: {len(wrong)} tensors missing or alien, first {wrong[0]}")
    refuse_not_finite(found, folder / WEIGHTS_FILE, "that training diverged; train anew with a lower train.lr")
    refuse_edited(folder, (CONFIG_FILE, WEIGHTS_FILE))
    set_peft_model_state_dict(model, found)


def _read_tensors(folder):
    try:
        return load_peft_weights(str(folder), device="cpu")
    except SafetensorError as error:  # shapes and offsets that contradict each other, a type that there isn't
        raise UserError(f"{folder / WEIGHTS_FILE}: is no safetensors file ({short(error, 200)}); {COPY}") from None


def refuse_not_finite(tensors, where, remedy):
    """Raise UserError where one of the tensors (a dict) holds NaN or infinity."""
    refuse_broken(not_finite(tensors), tensors, where, remedy)


def refuse_broken(broken, tensors, where, remedy):
    """Raise UserError where there are names in `broken`, of tensors that hold NaN or infinity."""
    if broken:
        raise UserError(f"{where}: {len(broken)} of {len(tensors)} tensors hold NaN or infinity, first {broken[0]}; {remedy}")


def not_finite(tensors):
    """Names of the tensors (a dict) that hold NaN or infinity: both show in the extremes, which take one pass and no copy."""
    return [name for name, tensor in tensors.items() if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all()]


def experiment_facts(cfg, answer_rules, stage_prefix="keep"):
    """What prediction must share with training. answer_rules: hashes of what decides types and candidates. stage_prefix: of
    `stages.prompts_say`."""
    return {
        "model_name": Path(cfg.model_name).name,
        "quantization": cfg.quantization,
        "prompt_style": cfg.prompt_style,
        "answer_prefix": cfg.answer_prefix,
        "prompt": cfg.prompt.model_dump(),
        "image": cfg.image.model_dump(),
        "max_frames": cfg.data.max_frames,
        "cascade": cfg.train.cascade,
        "stage_prefix": stage_prefix,
        "valid_answers": {"answer_space": cfg.data.answer_space, "max_listed": cfg.data.max_listed},
        "answer_rules": answer_rules,
    }


def save_adapter(model, folder, facts, beside=None):
    """Write the adapter, `facts` and the texts `beside` it ({file name: text}) to `folder`, which is whole at any instant: the old
    adapter or the new one. Raises UserError rather than keep weights that are not finite."""
    with whole_folder(folder) as staged:
        write_adapter(model, staged, facts, beside)
        write_sums(staged)


def write_adapter(model, folder, facts, beside=None):
    """`save_adapter` into a folder that nobody reads yet."""
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)  # else peft looks for the base's config.json
    if broken := not_finite(tensors):
        raise UserError(f"{len(broken)} of {len(tensors)} LoRA tensors hold NaN or infinity, first {broken[0]}: not saved; {DIVERGED}")
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / CARD_FILE).unlink(missing_ok=True)  # peft's is an empty form; tools/publish.py writes one
    write_json(folder / EXPERIMENT_FILE, facts)
    for name, text in (beside or {}).items():
        write_text(folder / name, text)


def check_adapter(folder, facts):
    """Raise UserError when the adapter in `folder` was trained with other `experiment_facts`; of the model see `refuse_other_base`."""
    saved = adapter_facts(folder)
    for key, value in facts.items():
        was = saved.get(key)
        if key == "model_name" or was == value or key == "answer_rules" and _same_rules(was, value):
            continue
        if key == "answer_rules" and was and was.get("space", "none") == value.get("space"):
            other = "data/schema.py" if was.get("words") in (None, value.get("words")) else "data/schema.py or words in data/languages/"
            raise UserError(
                f"adapter {folder} was trained with another {other}: the rules give questions of its training another type or "
                "other valid answers now; put the file back as it was, or train anew"
            )
        raise UserError(
            f"adapter {folder} was trained with {key}={short(json.dumps(was))}, this run has {short(json.dumps(value))}; "
            "use the configuration it was trained with, or train anew"
        )


def _same_rules(was, now):
    """The same space, and rules that say the same of the training questions, or, where one does not know these, the same file; and words
    that say the same, where both know them."""
    if not was or not now or was.get("space") != now.get("space"):
        return False
    if "words" in was and "words" in now and was["words"] != now["words"]:
        return False
    return was.get("rules") == now["rules"] or was.get("schema", was.get("rules")) == now.get("schema", now["rules"])
