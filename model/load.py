"""The one loader of every script: processor, base model, and on it a new LoRA, a trained adapter or nothing."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
import os
import re
import shutil
import sys
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.utils import disable_progress_bars
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig
from transformers.utils import logging

from config import PublicNames
from files import UserError, is_full, short
from model.adapter import attach_lora, load_adapter, not_finite, refuse_broken
from model.forward import use_tree_attention
from model.nf4 import count, keep_one_arithmetic, looked_at_before, nf4_settings
from model.on_disk import check_adapter_folder, check_model_folder, refuse_other_family

if not sys.stderr.isatty():  # in a file their bars are one long line of carriage returns
    disable_progress_bars()
    logging.disable_progress_bar()


def keep_memory_in_one_piece(environ):
    """Let CUDA's allocator grow its segments, unless the user says otherwise: no two micro-batches are of one size, and fixed
    segments fall into pieces that fit none. torch reads this when CUDA starts."""
    if "PYTORCH_CUDA_ALLOC_CONF" not in environ:  # its older name
        environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


keep_memory_in_one_piece(os.environ)


QUANTISED = ("quantization_config", "compression_config")  # keys of a config.json; the second is llm-compressor's older one


def load_processor(cfg):
    """Load the processor with the configured pixel limits."""
    check_model_folder(cfg.model_name, weights=False)
    processor = from_pretrained(AutoProcessor, cfg.model_name)
    check_pictures_fit(load_model_config(cfg), processor.image_processor)
    processor.image_processor.size = {"shortest_edge": cfg.image.min_pixels, "longest_edge": cfg.image.max_pixels}
    return processor


def load_model(cfg, adapter=None, phase="eval"):
    """Return `(model, processor)`, on the best device there is.

    phase "train" attaches a new LoRA to the frozen base; "eval" loads `adapter` (a folder), or leaves the base untuned with
    None. Raises UserError when a model, adapter or target module can't be found, does not fit or is damaged.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and trees hardly ever have one twice
    dtype = compute_dtype(cfg)
    how = {"attn_implementation": "sdpa", "device_map": {"": device()}}
    if cfg.quantization == "nf4":
        how["quantization_config"] = nf4_settings(dtype)
    model, processor = load_base(cfg, dtype, adapter, **how)
    model.requires_grad_(False)
    if phase == "train":
        model = attach_lora(model, cfg.lora)
    elif adapter is not None:
        model = load_adapter(model, adapter)
    return use_tree_attention(model).train(phase == "train"), processor


def load_base(cfg, dtype, adapter=None, **kwargs):
    """Return `(base model, processor)`. dtype: of torch, or its name, or `auto`. adapter: a folder that is to fit the model.

    kwargs: of `from_pretrained`. What can be known before the weights are loaded is said before. Raises UserError as `load_model` does.
    """
    check_model_folder(cfg.model_name)
    config, processor = load_model_config(cfg), load_processor(cfg)
    check_special_tokens(config, processor)
    if adapter is not None:
        check_fit(config, adapter)
    broken = []
    with looked_at_before(lambda weights: broken.extend(not_finite(weights))):
        model, info = from_pretrained(AutoModelForImageTextToText, cfg.model_name, dtype=dtype, output_loading_info=True, **kwargs)
    keep_one_arithmetic(model)
    if missing := sorted(info["missing_keys"]):  # transformers would draw them at random
        raise UserError(
            f"model_name: the weights in {cfg.model_name} lack {len(missing)} tensors that its config.json asks for, first {missing[0]}; "
            "download the whole model"
        )
    weights = dict(model.named_parameters())
    refuse_broken([*broken, *not_finite(weights)], weights, f"model_name: {cfg.model_name}", "download the model again")
    model.name_or_path = model.config._name_or_path = PublicNames(cfg).path(cfg.model_name)  # which peft and transformers save
    return model, processor


def check_base(cfg):
    """Return the model's config if the model can be loaded here, as far as that is known without reading its weights.

    Raises UserError for a file that is missing, cut off or a Git LFS pointer, a quantised model, or a device without its precision.
    """
    check_model_folder(cfg.model_name)
    compute_dtype(cfg)
    return load_model_config(cfg)


def check_fit(config, adapter):
    """Raise UserError unless the adapter in a folder is whole, finite and of the shape of a model that has this config."""
    check_adapter_folder(adapter)
    with torch.device("meta"), warnings.catch_warnings():  # shapes alone: a copy to the meta device does nothing, and says so
        warnings.simplefilter("ignore")
        model = AutoModelForImageTextToText.from_config(config)
        try:
            load_adapter(model, adapter)
        except UserError:
            raise
        except Exception as error:  # what peft raises for settings that it can't take, which is anything
            raise UserError(f"adapter {adapter} can't be loaded ({first_line(error)}); train it anew, or give another") from None


def load_model_config(cfg):
    """The model's config.json, without its weights. Raises UserError where it is that of another family, or of a quantised model."""
    refuse_other_family(cfg.model_name, loaded(config_dict, cfg.model_name))
    config = from_pretrained(AutoConfig, cfg.model_name)
    if method := quantisation(config.to_dict()):
        raise UserError(
            f"model_name: {cfg.model_name} is quantised ({method}), which LoRA is not trained on or merged into here; give the model "
            "that it was made from, and quantization=nf4 if it is too large"
        )
    return config


def quantisation(config):
    """How a config.json (a dict) says that weights are quantised, all or those of a part such as `text_config`; None where it doesn't."""
    for key, value in config.items():
        if key in QUANTISED and value:
            return value.get("quant_method") or key if isinstance(value, dict) else key
        if isinstance(value, dict) and (method := quantisation(value)):
            return method
    return None


def device():
    """cuda, else Apple's mps, else cpu. Under a launcher the Trainer moves each rank to its own GPU."""
    name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name)


def device_name():
    """The GPU's name, or `cpu, 2 threads`: both change the order of sums, and so last digits."""
    return torch.cuda.get_device_name() if device().type == "cuda" else f"{device().type}, {torch.get_num_threads()} threads"


def machine_facts(cfg):
    """What computed a run, for its record: {"hardware": `device_name`, "precision": of `compute_dtype`, by its name}."""
    return {"hardware": device_name(), "precision": str(compute_dtype(cfg)).removeprefix("torch.")}


class Card(NamedTuple):
    """A CUDA card: its name, compute capability, whether it computes in bfloat16, and what the installed torch has kernels for."""

    name: str
    capability: tuple[int, int]
    bfloat16: bool
    kernels: tuple[str, ...]  # of torch.cuda.get_arch_list: "sm_75", …, "compute_120"; an AMD card's begin with "gfx"


@cache  # workers that load images ask, too, and may not start CUDA
def cuda_card():
    """The Card of this process."""
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    return Card(name, capability, torch.cuda.is_bf16_supported(including_emulation=False), tuple(torch.cuda.get_arch_list()))


def half_precision(card):
    """The torch dtype of half the size of float32 in which a Card computes: bfloat16, or float16 where it has none.

    Raises UserError for a card that is older than all that torch has kernels for.
    """
    known = [int(found[1]) for name in card.kernels if (found := re.match(r"(?:sm|compute)_(\d+)", name))]
    major, minor = card.capability
    if known and 10 * major + minor < min(known):
        raise UserError(
            f"{card.name} is of compute capability {major}.{minor}, and torch {torch.__version__} has kernels from "
            f"{min(known) // 10}.{min(known) % 10} on; install a torch for an older CUDA, or compute on another card (or, slowly, on the "
            "CPU: CUDA_VISIBLE_DEVICES=)"
        )
    return torch.bfloat16 if card.bfloat16 else torch.float16


def compute_dtype(cfg):
    """The precision of weights and sums: `half_precision` on GPUs with `train.bf16`, else float32. Raises UserError as that does."""
    kind = device().type
    half = torch.float32 if kind == "cpu" else half_precision(cuda_card()) if kind == "cuda" else torch.bfloat16
    return half if cfg.train.bf16 else torch.float32


def precision_note(cfg):
    """One line where a card has no bfloat16, else an empty text."""
    if compute_dtype(cfg) != torch.float16:
        return ""
    return f"note: {cuda_card().name} has no bfloat16; it computes in float16, and training scales the loss so that gradients don't vanish"


def from_pretrained(auto_class, model_name, **kwargs):
    """What an Auto class of transformers loads. Raises UserError as `loaded` does."""
    return loaded(auto_class.from_pretrained, model_name, trust_remote_code=False, **kwargs)  # else a terminal is asked whether it may run


def config_dict(model_name):
    """A model's config.json as a dict, whatever it is of."""
    return PreTrainedConfig.get_config_dict(model_name)[0]


def loaded(load, model_name, **kwargs):
    """What a function of transformers loads. Raises UserError where it can't, whatever the reason: files, network, a package."""
    try:
        return load(model_name, **kwargs)
    except Exception as error:  # of many kinds: OSError, ValueError, ImportError, SafetensorError, RuntimeError, …
        if (lacking := what_is_lacking(error)) == "memory":
            raise  # whoever called knows what to lower
        if lacking:
            raise UserError(remedy(lacking, None, HF_HUB_CACHE)) from None
        raise UserError(f"model_name: {model_name} can't be loaded ({first_line(error)}); give a model folder or a hub id") from None


def first_line(error):
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def check_special_tokens(config, processor):
    """Raise UserError unless a model of this config and the processor belong together."""
    if config.image_token_id != processor.image_token_id:
        raise UserError(
            f"the model's image token is {config.image_token_id}, the tokenizer's {processor.image_token_id}: its tokenizer files are "
            "another model's; download the whole model"
        )
    vocabulary = config.get_text_config().vocab_size
    if len(processor.tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(processor.tokenizer)} tokens, the model {vocabulary}: they don't belong together")


SIZES = {"patch_size": "patch_size", "temporal_patch_size": "temporal_patch_size", "merge_size": "spatial_merge_size"}


def check_pictures_fit(config, image_processor):
    """Raise UserError unless an image processor cuts and scales pictures as the vision tower of this config takes them."""
    remedy = "its files are another model's, or changed; download them again"
    for ours, theirs in SIZES.items():
        found, wanted = getattr(image_processor, ours, None), getattr(config.vision_config, theirs, None)
        if found != wanted:
            raise UserError(f"the image processor's {ours} is {short(repr(found))}, the model's {wanted}: {remedy}")
    for name in ("image_mean", "image_std", "rescale_factor"):
        value = getattr(image_processor, name, None)
        numbers = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(one, int | float) and math.isfinite(one) and (one or name == "image_mean") for one in numbers):
            raise UserError(f"the image processor's {name} is {short(repr(value))}, by which no picture can be scaled: {remedy}")


def describe_parameters(model):
    """`trainable 1,234 of 5,678 parameters (0.12 %)`"""
    total = sum(map(count, model.parameters()))
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return f"trainable {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


# ---------------------------------------------------------------------------------------------------------------------
# What a machine lacks, known by what torch and the system say, which is of many kinds of error: first come, first named.

SHARED_MEMORY = "/dev/shm"
SIGNS = {
    "shared memory": ("out of shared memory", "insufficient shared memory", "shared memory object", "to file </torch_"),
    "disk": ("No space left on device", "Disk quota exceeded", "unexpected pos", "PytorchStreamWriter failed"),
    "bfloat16": ("BFloat16 is not supported", "not implemented for 'BFloat16'"),
    # of the allocators; of a DataLoader's worker that the kernel ended
    "memory": ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "is killed by signal: Killed"),
}
REMEDIES = {
    "shared memory": "shared memory is too small (/dev/shm has {shared}): set train.num_workers=0, or give the container more "
    "(docker run --shm-size=8g)",
    "disk": "no space left on the disk of {folder}: free some and start again",
    "bfloat16": "train.bf16: this device has no bfloat16; set train.bf16=false",
    "memory": "out of memory; {lower}",
}


def what_is_lacking(error):
    """A key of SIGNS, or None where the error is about something else."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "memory"
    if isinstance(error, OSError) and is_full(error):
        return "shared memory" if str(error.filename).startswith(SHARED_MEMORY) else "disk"
    text = f"{error} {error.__cause__}"
    return next((name for name, signs in SIGNS.items() if any(sign in text for sign in signs)), None)


def remedy(lacking, lower, folder):
    """One line about a key of REMEDIES. lower: what to lower where memory is short. folder: where was being written."""
    shared = f"{shutil.disk_usage(SHARED_MEMORY).total / 2**20:,.0f} MiB" if Path(SHARED_MEMORY).is_dir() else "little"
    return REMEDIES[lacking].format(lower=lower, folder=folder, shared=shared)


@contextmanager
def errors_explained(lower, folder="output_dir"):
    """Turn running out of memory, shared memory, disk space or precision into one line. lower, folder: see `remedy`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of many kinds: OSError, RuntimeError, SafetensorError, pickle's, …
        lacking = what_is_lacking(error)
        if lacking is None:
            raise
        raise UserError(remedy(lacking, lower, getattr(error, "filename", None) or folder)) from None
