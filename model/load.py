"""The one loader of every script: processor, base model, LoRA or a trained adapter; and the forward of token trees."""

import json
import warnings
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from types import MethodType

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from data import answer_space
from files import UserError, read_json, write_json
from model.token_tree import IGNORE_INDEX, supervised_parents, tree_position_ids
from model.tree_attention import LAYOUT, branch_mask

# peft 0.21 reads an attribute that transformers 5.23 has renamed; nothing a user could do about it
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)

EXPERIMENT_FILE = "experiment.json"  # beside an adapter: what its training saw
LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
LANGUAGE_LAYERS = r"model\.language_model\.layers\.\d+\.\w+"  # anchored: the tower has projections of its own


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


def use_tree_attention(model):
    """Prepare the language model for flattened trees: `tree_attention.tree_attention`, and `compute_only_what_is_read`.

    The tower keeps its own attention. Returns the model.
    """
    if not why_rows_stay_plain(base_model(model).config):
        base_model(model).set_attn_implementation({"text_config": "tree"})
        compute_only_what_is_read(model)
    return model


def compute_only_what_is_read(model):
    """Give the last language layer the argument `read`. Returns the model.

    read: (R,) int64, tokens whose output anybody reads, counted through all rows; None: all. Of the other tokens the last layer
    has to know keys and values alone, so its MLP leaves them out, and what it returns for them is no hidden state.
    """
    layer = base_model(model).model.language_model.layers[-1]
    if {name for name, _ in layer.named_children()} == LAYER_PARTS:  # else the model's own forward, which computes all
        layer.forward = MethodType(_last_layer_forward, layer)
    return model


def _last_layer_forward(layer, hidden_states, read=None, **kwargs):
    if read is None:
        return type(layer).forward(layer, hidden_states, **kwargs)
    hidden_states = hidden_states + layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)[0]
    tokens = hidden_states.flatten(0, 1)
    some = tokens.index_select(0, read)[None]
    some = some + layer.mlp(layer.post_attention_layernorm(some))
    return tokens.index_copy(0, read, some[0]).view_as(hidden_states)


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


def describe_parameters(model):
    """`trainable 1,234 of 5,678 parameters (0.12 %)`"""
    total = sum(weight.numel() for weight in model.parameters())
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return f"trainable {trainable:,} of {total:,} parameters ({trainable / total:.2%})"


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


def save_adapter(model, folder, facts, space=None):
    """Write the adapter, `facts` and answer space to `folder`, replacing what was there only when all is written."""
    folder = Path(folder)
    temporary, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for path in (temporary, old):
        _remove_folder(path)
    model.save_pretrained(str(temporary))
    write_json(temporary / EXPERIMENT_FILE, facts)
    if space is not None:
        answer_space.save(space, temporary / answer_space.SPACE_FILE)
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


def base_model(model):
    """The transformers model under an optional adapter or DDP wrapper."""
    model = getattr(model, "module", model)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def why_rows_stay_plain(config):
    """Why trees can't be flattened exactly for a model of this config: a clause, or None where they can.

    A flattened tree needs attention layers that take any mask, and image features that are computed beforehand.
    """
    layers = set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if layers:
        return f"has {', '.join(sorted(layers))} layers, which take no tree mask"
    model_class = AutoModelForImageTextToText._model_mapping[type(config)]
    if "mm_encoder_outputs" not in signature(model_class.forward).parameters:
        return f"({model_class.__name__}) takes no image features computed beforehand"
    return None


def attention_par(config):
    """Tokens of a row at which a layer's attention costs as many operations as its matrices: 32,545 for Qwen2-VL-7B."""
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head_dim, text.num_key_value_heads * head_dim
    matrices = text.hidden_size * (2 * queries + 2 * keys + 3 * text.intermediate_size)
    return 2 * matrices / (4 * queries)  # two operations a weight; scores and values take two each a pair of tokens and channel


def image_features(inner, batch):
    """Features of the trees' images, in the order of the trees: the frozen tower runs once an image, without a graph."""
    with torch.no_grad():
        features = inner.get_image_features(batch["pixel_values"], batch["image_grid_thw"], return_dict=True)
    per_tree = lambda of_images: [of_images[index] for index in batch["image_index"].tolist()]  # noqa: E731
    features.pooler_output = per_tree(features.pooler_output)
    if getattr(features, "deepstack_features", None):  # Qwen3-VL also feeds them into deeper layers
        features.deepstack_features = [per_tree(layer) for layer in features.deepstack_features]
    return features


def tree_inputs(model, batch):
    """Turn a collated batch of trees into the model's keyword arguments. Positions come from the model's own `get_rope_index`."""
    inner = base_model(model).model
    if why_rows_stay_plain(base_model(model).config):
        return plain_inputs(batch)
    prefix_ids = batch["prefix_ids"]
    prefix_positions, _ = inner.get_rope_index(
        prefix_ids,
        mm_token_type_ids=(prefix_ids == inner.config.image_token_id).int(),
        image_grid_thw=batch["image_grid_thw"][batch["image_index"]],
    )
    inputs = {
        "input_ids": batch["input_ids"],
        "position_ids": tree_position_ids(prefix_positions, batch),
        "mm_encoder_outputs": {"image": image_features(inner, batch)},
    }
    if "attention_mask" in batch:
        return {**inputs, "attention_mask": batch["attention_mask"]}
    assert inner.config.get_text_config()._attn_implementation == "tree", "a layout needs `use_tree_attention`"
    layout = {name: batch[name] for name in LAYOUT}
    return {**inputs, "layout": {**layout, "mask": branch_mask(layout), "rows": len(batch["input_ids"])}}


def plain_inputs(batch):
    """The model's ordinary arguments for trees of one branch, each in a row of its own: the model masks and places them itself."""
    grid, patches = batch["image_grid_thw"], batch["pixel_values"].split(batch["image_grid_thw"].prod(1).tolist())
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": (batch["place"] >= 0).long().view_as(batch["input_ids"]),
        "mm_token_type_ids": batch["mm_token_type_ids"],
        "pixel_values": torch.cat([patches[index] for index in batch["image_index"].tolist()]),
        "image_grid_thw": grid[batch["image_index"]],
    }


def training_inputs(model, batch):
    """`tree_inputs` for a loss: logits on the tokens before supervised ones only, flat in row order, and no cache."""
    keep = supervised_parents(batch["labels"])
    read = {} if why_rows_stay_plain(base_model(model).config) else {"read": keep.flatten().nonzero().squeeze(1)}
    return {**tree_inputs(model, batch), **read, "logits_to_keep": keep, "use_cache": False}


def answer_loss(outputs, labels, num_items_in_batch=None):
    """Mean cross-entropy over the supervised tokens.

    outputs.logits: (N, V) for the N supervised tokens of labels (B, T) in row order. num_items_in_batch: their number in
    the whole optimizer step (micro-batches and ranks), over which the mean goes; None for this batch alone.
    """
    targets = labels[labels != IGNORE_INDEX]
    logits = outputs.logits.reshape(-1, outputs.logits.shape[-1]).float()
    loss = torch.nn.functional.cross_entropy(logits, targets.to(logits.device), reduction="sum")
    return loss / (num_items_in_batch if num_items_in_batch is not None else len(targets))


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
