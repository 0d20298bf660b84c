"""The forward of token trees: their inputs, a last layer that computes only what is read, and the loss."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from types import MethodType

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy, rms_norm
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForImageTextToText
from transformers.utils import ModelOutput
from transformers.vision_utils import get_vision_cu_seqlens

from model.token_tree import IGNORE_INDEX, supervised_parents, tree_position_ids
from model.tree_attention import LAYOUT, branch_mask, chain_mask

LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
NORMS = {"Qwen2VLRMSNorm", "Qwen2_5_VLRMSNorm", "Qwen3VLTextRMSNorm"}  # x / rms(x) in float32, times a weight: torch's rms_norm
LOGITS_AT_ONCE = 2**26  # 441 tokens of Qwen2-VL's vocabulary, 0.8 GB with what the loss needs


def use_tree_attention(model):
    """Prepare the model for flattened trees: `tree_attention.tree_attention`, `compute_only_what_is_read`, `score_targets`, and on a
    GPU `norms_in_one_kernel`.

    The tower keeps its own attention. Returns the model.
    """
    score_targets(norms_in_one_kernel(model))
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


def norms_in_one_kernel(model):
    """Let a GPU compute each of the language model's norms in one kernel, not six: a tenth of a training step (`bench/gpu.py`).

    Elsewhere the model's own forward stays, to the last bit. Returns the model.
    """
    for norm in base_model(model).model.language_model.modules():
        if type(norm).__name__ in NORMS:
            norm.forward = MethodType(_norm_forward, norm)
    return model


def _norm_forward(norm, hidden_states):
    if not on_gpu(hidden_states):
        return type(norm).forward(norm, hidden_states)
    return rms_norm(hidden_states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def on_gpu(tensor):
    return tensor.is_cuda


@dataclass
class AnswerScores(ModelOutput):
    """Of N supervised tokens, flat in row order: cross-entropy in nats, (N,) float32, and the likeliest token, (N,) int64."""

    losses: torch.Tensor = None
    predicted: torch.Tensor = None


def score_targets(model):
    """Give the model's forward the argument `targets`. Returns the model.

    targets: (N,) int64, the tokens after those that logits_to_keep (B, T) bool marks. With them the forward returns AnswerScores,
    and logits exist LOGITS_AT_ONCE at a time, computed again in the backward: whole, those of sentences would need gigabytes.
    """
    inner = base_model(model)
    of_class = type(inner).forward

    @wraps(of_class)  # whose arguments `generate` looks at
    def forward(self, *args, targets=None, **kwargs):
        if targets is None:
            return of_class(self, *args, **kwargs)
        keep, _ = kwargs.pop("logits_to_keep"), kwargs.pop("labels", None)
        return token_scores(self.lm_head, self.model(*args, **kwargs).last_hidden_state[keep], targets)

    inner.forward = MethodType(forward, inner)
    return model


def token_scores(lm_head, hidden, targets):
    """AnswerScores of hidden states (N, H) and the tokens (N,) that they should predict."""
    at_once = max(1, LOGITS_AT_ONCE // lm_head.weight.shape[0])
    if len(hidden) <= at_once:
        return AnswerScores(*_token_scores(lm_head, hidden, targets))
    parts = zip(hidden.split(at_once), targets.split(at_once))
    scores = [checkpoint(_token_scores, lm_head, *part, use_reentrant=False) for part in parts]
    return AnswerScores(*map(torch.cat, zip(*scores)))


def _token_scores(lm_head, hidden, targets):
    logits = lm_head(hidden)
    return cross_entropy(logits.float(), targets, reduction="none"), logits.argmax(-1)


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


def attention_par(config, gpu=None):
    """Tokens of a row at which a layer's attention costs as much as its matrices: 32,545 for Qwen2-VL-7B by operations.

    gpu: on one? By default, if there is one. There masked attention runs at a fifth of the matrices' speed (`bench/gpu.py`).
    """
    gpu = torch.cuda.is_available() if gpu is None else gpu
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head_dim, text.num_key_value_heads * head_dim
    matrices = text.hidden_size * (2 * queries + 2 * keys + 3 * text.intermediate_size)
    operations = 4 * queries  # of a pair of tokens: scores and values take two each a channel
    return 2 * matrices / operations / (5 if gpu else 1)  # two operations a weight


def computes_all_pairs(device):
    """Is attention over trees one masked product over whole rows on this device, or `tree_attention`, which skips pairs?

    On a GPU gathering the tokens of prefixes and branches takes longer than the pairs that it spares (`bench/gpu.py`).
    """
    return device.type == "cuda"


def no_graph_below_lora(visual):
    """Let what lies below the tower's lowest LoRA run without a graph, which gradient checkpointing would ask for.

    Gradient checkpointing lets the patches' embedding require a gradient, so that a tower in which the merger alone is trained would
    keep all its activations and compute all their gradients, for nobody.
    """
    for part in (visual.patch_embed, *visual.blocks):
        if trains(part):
            part.register_forward_pre_hook(lambda part, args: (args[0].detach(), *args[1:]))
            return
        part.forward = torch.no_grad()(part.forward)


def trains(part):
    """Is anything trained in a part of the model?"""
    return any(weight.requires_grad for weight in part.parameters())


def image_features(inner, batch):
    """Features of the trees' images, in the order of the trees: the tower runs once an image, and without a graph where it is frozen."""
    grid = batch["image_grid_thw"]
    lengths = {"image_cu_seqlens": get_vision_cu_seqlens(grid)}  # every block of the tower reads them, so where the batch is
    with nullcontext() if trains(inner.visual) else torch.no_grad():
        features = inner.get_image_features(*_put((batch["pixel_values"], grid), inner), return_dict=True, **lengths)
    per_tree = lambda of_images: [of_images[index] for index in batch["image_index"].tolist()]
    features.pooler_output = per_tree(features.pooler_output)
    if getattr(features, "deepstack_features", None):  # Qwen3-VL also feeds them into deeper layers
        features.deepstack_features = [per_tree(layer) for layer in features.deepstack_features]
    return features


def autocast_of_training(model):
    """The context in which training runs the language model: on a GPU in half precision, LoRA computes in it too; else none."""
    half = model.device.type == "cuda" and model.dtype != torch.float32
    return torch.autocast("cuda", model.dtype) if half else nullcontext()


def _put(tensors, model):
    """Tensors, or a dict of them, on the model's device; from pinned memory nobody waits till they are there."""
    if isinstance(tensors, dict):
        return dict(zip(tensors, _put(tensors.values(), model)))
    return [tensor.to(model.device, non_blocking=True) for tensor in tensors]


def tree_inputs(model, batch):
    """Turn a collated batch of trees into the model's keyword arguments, on the model's device.

    batch: best on the CPU, where positions and counts don't wait for a GPU. Positions come from the model's own `get_rope_index`.
    """
    inner = base_model(model).model
    if why_rows_stay_plain(base_model(model).config):
        return _put(plain_inputs(batch), inner)
    prefix_ids = batch["prefix_ids"]
    prefix_positions, _ = inner.get_rope_index(
        prefix_ids,
        mm_token_type_ids=(prefix_ids == inner.config.image_token_id).int(),
        image_grid_thw=batch["image_grid_thw"][batch["image_index"]],
    )
    inputs = {"input_ids": batch["input_ids"], "position_ids": tree_position_ids(prefix_positions, batch)}
    if "attention_mask" in batch:
        inputs |= {"attention_mask": batch["attention_mask"]}
    inputs = _put(inputs, inner) | {"mm_encoder_outputs": {"image": image_features(inner, batch)}}
    if "attention_mask" in batch:
        return inputs
    if computes_all_pairs(inner.device):
        chains = _put((batch["depths"], batch["tree_index"]), inner)
        return {**inputs, "attention_mask": chain_mask(*chains, inner.dtype)}
    assert inner.config.get_text_config()._attn_implementation == "tree", "a layout needs `use_tree_attention`"
    layout = _put({name: batch[name] for name in LAYOUT}, inner)
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
    """`tree_inputs` for a loss: the forward returns the AnswerScores of the supervised tokens, and keeps no cache."""
    keep = supervised_parents(batch["labels"])
    read = {} if why_rows_stay_plain(base_model(model).config) else {"read": keep.flatten().nonzero().squeeze(1)}
    targets = batch["labels"][batch["labels"] != IGNORE_INDEX]
    return {**tree_inputs(model, batch), **_put({**read, "logits_to_keep": keep, "targets": targets}, model), "use_cache": False}


def answer_loss(scores, labels, num_items_in_batch=None):
    """Mean cross-entropy over the supervised tokens, a scalar. scores: AnswerScores.

    labels: not read; the Trainer hands them over. num_items_in_batch: number of supervised tokens in the whole optimizer step
    (micro-batches and ranks), over which the mean goes; None for this batch alone.
    """
    return scores.losses.sum() / (num_items_in_batch if num_items_in_batch is not None else len(scores.losses))
