"""The one loader of every script: processor, base model, and on it a new LoRA, a trained adapter or nothing."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import sys
from contextlib import contextmanager

import torch
from huggingface_hub.utils import disable_progress_bars
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from files import UserError
from model.adapter import attach_lora, load_adapter
from model.forward import use_tree_attention

if not sys.stderr.isatty():  # in a file their bars are one long line of carriage returns
    disable_progress_bars()
    logging.disable_progress_bar()


def load_processor(cfg):
    """Load the processor with the configured pixel limits."""
    processor = from_pretrained(AutoProcessor, cfg.model_name)
    processor.image_processor.size = {"shortest_edge": cfg.image.min_pixels, "longest_edge": cfg.image.max_pixels}
    processor.tokenizer.padding_side = "left"  # for generate; token trees pad on their own
    return processor


def load_model(cfg, adapter=None, phase="eval"):
    """Return `(model, processor)`, on the best device there is.

    phase "train" attaches a new LoRA to the frozen base; "eval" loads `adapter` (a folder), or leaves the base untuned with
    None. Raises UserError when a model, adapter or target module can't be found, or the adapter was trained on other prompts.
    """
    processor = load_processor(cfg)
    dtype = torch.float32 if device().type == "cpu" or not cfg.train.bf16 else torch.bfloat16
    model = from_pretrained(AutoModelForImageTextToText, cfg.model_name, dtype=dtype, attn_implementation="sdpa")
    check_special_tokens(model, processor)
    model.requires_grad_(False)
    if phase == "train":
        model = attach_lora(model, cfg.lora)
    elif adapter is not None:
        model = load_adapter(model, adapter)
    return use_tree_attention(model).to(device()).train(phase == "train"), processor


def load_model_config(cfg):
    """The model's config.json, without its weights."""
    return from_pretrained(AutoConfig, cfg.model_name)


def device():
    """cuda, else Apple's mps, else cpu. Under a launcher the Trainer moves each rank to its own GPU."""
    name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name)


def from_pretrained(auto_class, model_name, **kwargs):
    """What an Auto class of transformers loads. Raises UserError where it can't."""
    try:
        return auto_class.from_pretrained(model_name, **kwargs)
    except (OSError, ValueError) as error:  # what transformers raises for a missing folder, file, hub id or network
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model_name: {model_name} can't be loaded ({reason}); give a model folder or a hub id") from None


def check_special_tokens(model, processor):
    """Raise UserError unless model and processor belong together."""
    if model.config.image_token_id != processor.image_token_id:
        raise UserError(f"the model's image token is {model.config.image_token_id}, the processor's {processor.image_token_id}")
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(processor.tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(processor.tokenizer)} tokens, the model {vocabulary}: they don't belong together")


def describe_parameters(model):
    """`trainable 1,234 of 5,678 parameters (0.12 %)`"""
    total = sum(weight.numel() for weight in model.parameters())
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return f"trainable {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


MEMORY_SIGNS = ("allocate memory", "is killed by signal: Killed")  # torch's allocator; a DataLoader's worker that the kernel ended


@contextmanager
def memory_errors_explained(remedy):
    """Turn running out of memory into one line that says what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        memory |= any(sign in f"{error} {error.__cause__}" for sign in MEMORY_SIGNS)
        if not memory:
            raise
        raise UserError(f"out of memory; {remedy}") from None
