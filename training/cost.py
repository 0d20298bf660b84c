"""What a training step costs, from the model's shape and the batch's: operations (FLOPs) and bytes.

    shape = model_shape(model_on_meta(config, lora_cfg))          no weights are loaded
    step_flops(shape, MicroBatch.of(batch))                       FLOPs by part
    step_memory(shape, micro_batch, Precision("bf16", dropout=0.05), checkpointing=True)

A multiplication and an addition are two FLOPs. Counted are matrix products, convolution and attention, as in Kaplan et al. 2020
and PaLM (Chowdhery et al. 2022, appendix B, from where model FLOPs utilisation comes); norms, activations, softmax, rotary
positions and the optimizer are not (below 1 % at these widths). A frozen matrix costs its product forward and that of the
input's gradient backward, no weight gradient; LoRA's matrices cost all three. Padding is counted: it is computed.
tests/training/test_cost.py holds FLOPs and saved bytes against torch's own, bench/cost.py the peak memory of real steps.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --dry-run")

import re
from dataclasses import dataclass

import torch
from transformers import AutoModelForImageTextToText

from dataset import patch_sizes
from model.adapter import attach_lora
from model.forward import LOGITS_AT_ONCE, base_model, use_tree_attention
from model.nf4 import count, nf4_bytes
from model.token_tree import IGNORE_INDEX
from training.tower import Tower, tower_bytes, tower_flops, tower_of

STAGES = {
    "q_proj": 0,
    "k_proj": 0,
    "v_proj": 0,
    "o_proj": 1,
    "gate_proj": 2,
    "up_proj": 2,
    "down_proj": 3,
}  # of a layer: what shares an input
LANGUAGE_LORA = re.compile(r"\.language_model\..*\.(\w+)\.lora_A\.")
MLP = {name for name, stage in STAGES.items() if stage >= 2}


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward computes: B rows of T tokens (padding included), and the patches of each image.

    supervised: tokens with a loss. prefixes: (N, P), branches: (S, L), numbers and padded lengths of what
    `tree_attention` sees apart; None for rows that stay plain. all_pairs: rows of trees under one mask (`computes_all_pairs`).
    """

    rows: int
    length: int
    supervised: int
    patches: tuple[int, ...]
    prefixes: tuple[int, int] | None = None
    branches: tuple[int, int] | None = None
    all_pairs: bool = False

    @classmethod
    def of(cls, batch, shared=True, all_pairs=False):
        """Of a batch of `VQADataset.collate`. shared=False: of a model whose rows stay plain (`model.plain_inputs`)."""
        rows, length = batch["input_ids"].shape
        supervised, grid = int((batch["labels"] != IGNORE_INDEX).sum()), batch["image_grid_thw"]
        if not shared:
            return cls(rows, length, supervised, tuple(grid[batch["image_index"]].prod(1).tolist()))
        patches, prefixes, branches = grid.prod(1).tolist(), batch["prefix_index"].shape, batch["branch_index"].shape
        return cls(rows, length, supervised, tuple(patches), tuple(prefixes), tuple(branches), all_pairs)

    @property
    def tokens(self):
        return self.rows * self.length

    @property
    def unread(self):
        """Tokens that the last layer's MLP leaves out (`model.compute_only_what_is_read`)."""
        return self.tokens - self.supervised if self.prefixes is not None else 0

    @property
    def pairs(self):
        """Pairs of tokens whose attention is computed in a layer; a causal mask's upper half is counted, as torch counts it."""
        if self.prefixes is None or self.all_pairs:
            return self.rows * self.length**2
        (count, prefix), (branches, branch) = self.prefixes, self.branches
        return count * prefix**2 + branches * branch * (prefix + branch)


def epoch_micro_batches(dataset, all_pairs=False):
    """The MicroBatch of every micro-batch of a training VQADataset's epoch, from token counts alone: no image is opened."""
    size = dataset.cfg.train.train_bs
    return [micro_batch(dataset, dataset.groups[at : at + size], all_pairs) for at in range(0, len(dataset.groups), size)]


def micro_batch(dataset, groups, all_pairs=False):
    """The MicroBatch of these groups of a training VQADataset, from token counts alone."""
    packed = dataset.pack([{"tree": range(dataset.count_tokens(rows))} for rows in groups])  # a range is as long as its tree
    merge = patch_sizes(dataset.processor)[1] ** 2
    patches = [(name, merge * dataset.image_tokens[name]) for rows in groups for name in dataset.images(rows[0])]
    encoded = [dataset.encoded[row["id"]] for rows in groups for row in rows]
    prefixes, branches = [dataset.prefix_length(rows[0]) for rows in groups], [len(one) + len(other) for one, other in encoded]
    return MicroBatch(
        rows=len(packed),
        length=max(sum(len(item["tree"]) for item in row) for row in packed),
        supervised=sum(len(answer_ids) for _, answer_ids in encoded),
        patches=tuple(dict(patches).values()) if dataset.shared else tuple(count for _, count in patches),
        prefixes=(len(groups), max(prefixes)) if dataset.shared else None,
        branches=(len(branches), max(branches)) if dataset.shared else None,
        all_pairs=all_pairs and dataset.shared,
    )


@dataclass(frozen=True)
class Shape:
    """A model with LoRA in numbers. Weights are counted in parameters, widths in channels."""

    parameters: int  # without LoRA
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    queries: int  # heads x width of a head
    keys: int
    head_norms: bool  # Qwen3-VL normalises queries and keys
    vocabulary: int
    rank: int
    targets: tuple[str, ...]
    projections: dict  # name -> (in, out) of a language layer's matrices
    tower: Tower


def model_on_meta(config, lora_cfg):
    """The model of a config with LoRA attached, without memory for its weights: exact layers and parameter counts."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").requires_grad_(False)
        return use_tree_attention(attach_lora(model, lora_cfg))


def model_shape(model):
    """The Shape of a model with LoRA, real or on the meta device. Layers of other kinds than attention count as if they were."""
    text = base_model(model).config.get_text_config()
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    projections = {}
    for name, module in linears.items():
        found = re.search(r"language_model\.layers\..*\.(\w+_proj)(\.base_layer)?$", name)
        if found and found[1] in STAGES:
            projections.setdefault(found[1], (module.in_features, module.out_features))
    adapted = {found[1]: module.out_features for name, module in linears.items() if (found := LANGUAGE_LORA.search(name))}
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)  # of LoRA, never packed
    return Shape(
        parameters=sum(map(count, model.parameters())) - trainable,
        trainable=trainable,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=projections["down_proj"][0],
        heads=text.num_attention_heads,
        key_heads=text.num_key_value_heads,
        queries=projections["o_proj"][0],
        keys=projections["k_proj"][1],
        head_norms=any(name.endswith("q_norm") for name, _ in model.named_modules()),
        vocabulary=base_model(model).lm_head.weight.shape[0],
        rank=max(adapted.values(), default=0),
        targets=tuple(adapted),
        projections=projections,
        tower=tower_of(base_model(model)),
    )


def step_flops(shape, batch, checkpointing=False):
    """FLOPs of a micro-batch, forward and backward, by part: language, attention, lora, lm_head, vision, recomputation.

    Model FLOPs, which utilisation is about, are all but "recomputation": what gradient checkpointing computes a second time.
    """
    layer = {
        "language": 2 * batch.tokens * sum(map(_numel, shape.projections.values())),
        "attention": 4 * batch.pairs * shape.queries,  # scores and values, each a product over all heads' channels
        "lora": 2 * batch.tokens * _lora_numel(shape, shape.targets),
    }
    skipped = {  # by the last layer
        "language": 2 * batch.unread * sum(_numel(shape.projections[name]) for name in MLP),
        "lora": 2 * batch.unread * _lora_numel(shape, set(shape.targets) & MLP),
    }
    forward = {name: shape.layers * count - skipped.get(name, 0) for name, count in layer.items()}
    forward["lm_head"] = 2 * batch.supervised * shape.hidden * shape.vocabulary
    wanted = checkpointing or shape.tower.rank  # the embeddings' gradient
    spared = _spared_backward(shape, batch) if not wanted else {}
    both = {"language": 2, "attention": 3, "lora": 3, "lm_head": 2}
    flops = {name: both[name] * count - spared.get(name, 0) for name, count in forward.items()}
    flops["vision"], again_in_tower = tower_flops(shape.tower, batch.patches, checkpointing)
    recomputed = shape.layers - (batch.prefixes is not None)  # of trees the last layer is not: it would be at once
    flops["recomputation"] = recomputed * sum(layer.values()) + again_in_tower if checkpointing else 0
    return flops


def model_flops(shape, batch):
    """FLOPs of a micro-batch without recomputation: what model FLOPs utilisation divides by seconds and peak."""
    return sum(step_flops(shape, batch).values())


def _numel(sizes):
    return sizes[0] * sizes[1]


def _lora_numel(shape, names):
    return sum(shape.rank * sum(shape.projections[name]) for name in names)


def _spared_backward(shape, batch):
    """FLOPs of the gradients that the first layer does not need: nothing below its lowest LoRA is trained."""
    lowest = min(STAGES[name] for name in shape.targets)
    below = [name for name in shape.projections if STAGES[name] <= lowest]
    return {
        "language": 2 * batch.tokens * sum(_numel(shape.projections[name]) for name in below),
        "attention": 0 if lowest == 0 else 8 * batch.pairs * shape.queries,
        "lora": 2 * batch.tokens * sum(shape.rank * shape.projections[name][0] for name in below if name in shape.targets),
    }


@dataclass(frozen=True)
class Precision:
    """dtype "bf16" or "fp32" of the frozen weights. LoRA's own weights are float32 in any case, as peft makes them.

    autocast: of bf16, as on a GPU, where LoRA computes in bf16 too; without it LoRA's inputs are kept as float32 copies.
    dropout: that of LoRA. fused: a GPU keeps one byte of an element's dropout and a norm's input as it is, a CPU a mask of the
    element's size and the input in float32.
    nf4: are the language layers' matrices kept in four bits (`model.nf4`), and computed with in `dtype`?
    """

    dtype: str = "bf16"
    autocast: bool = True
    dropout: float = 0.0
    fused: bool = True
    nf4: bool = False

    @property
    def size(self):
        return 2 if self.dtype == "bf16" else 4

    @property
    def lora_size(self):
        return 2 if self.dtype == "bf16" and self.autocast else 4


def step_memory(shape, batch, precision, checkpointing=False):
    """Bytes of a training step by part, and "peak", their sum at the worst moment.

    weights, unpacked (of NF4: the one matrix at work), lora (float32 weight, gradient and Adam's two moments), activations (kept for
    the backward), last_layer (of trees: its own, never recomputed, few of them of its MLP), layer (another one at a time: recomputed,
    with checkpointing, and gradients in flight), logits, tower (what a trained one keeps for its backward), vision (the tower's
    transient) and batch (pixels). Vision comes before activations, or after them, and last layer and logits before the other layers'
    turn, so the peak holds the greater of each pair. Not counted: the CUDA context, kernels' workspaces and fragmentation, together 1-2
    GB on a GPU.
    """
    one_layer, size = layer_bytes(shape, batch, precision), precision.size
    kept = batch.tokens * shape.hidden * size if checkpointing else one_layer
    last = layer_bytes(shape, batch, precision, batch.supervised) if batch.prefixes else 0
    tower, vision = tower_bytes(shape.tower, batch.patches, precision, checkpointing)
    memory = {
        "weights": weight_bytes(shape, precision),
        "unpacked": size * max(map(_numel, shape.projections.values())) if precision.nf4 else 0,
        "lora": 16 * shape.trainable,
        "batch": size * shape.tower.patch_values * sum(batch.patches),
        "activations": (shape.layers - bool(batch.prefixes)) * kept + outside_bytes(shape, batch, precision),
        "last_layer": last,
        "layer": (one_layer if checkpointing else 0) + gradient_bytes(shape, batch, precision),
        "logits": logits_bytes(shape, batch),
        "tower": tower,
        "vision": vision,
    }
    steady = memory["weights"] + memory["lora"] + memory["batch"] + memory["tower"]
    at_work = memory["activations"] + max(memory["last_layer"] + memory["logits"], memory["layer"] + memory["unpacked"])
    return memory | {"peak": steady + max(memory["vision"], at_work)}


def logits_bytes(shape, batch):
    """Bytes of the logits that exist at once: float32 of the log-softmax, its gradient and the logits'."""
    return min(batch.supervised, max(1, LOGITS_AT_ONCE // shape.vocabulary)) * shape.vocabulary * 12


def weight_bytes(shape, precision):
    """Bytes of the frozen weights."""
    if not precision.nf4:
        return precision.size * shape.parameters
    packed = shape.layers * sum(map(_numel, shape.projections.values()))
    return shape.layers * sum(map(nf4_bytes, shape.projections.values())) + precision.size * (shape.parameters - packed)


def layer_bytes(shape, batch, precision, mlp_tokens=None):
    """Bytes that autograd keeps of one language layer from forward to backward: what norms, LoRA, attention and SiLU need again.

    mlp_tokens: tokens that its MLP computes, by default all. The bytes were found by looking
    (torch.autograd.graph.saved_tensors_hooks); a test compares every one of a layer that computes all.
    """
    norm = norm_bytes(shape.hidden, precision)
    heads = sum(count * norm_bytes(width // count, precision) for width, count in head_norms(shape))
    names = set(shape.targets)
    attention = norm + heads + _lora_bytes(shape, names - MLP, precision)
    mlp = norm + 3 * precision.size * shape.intermediate + _lora_bytes(shape, names & MLP, precision)  # gate, SiLU(gate), up
    cast = 2 * _lora_numel(shape, names) if precision.lora_size == 2 else 0  # LoRA's A and B in bf16, once a step
    mlp_tokens = batch.tokens if mlp_tokens is None else mlp_tokens
    return batch.tokens * attention + mlp_tokens * mlp + cast + _attention_bytes(shape, batch, precision.size)


def norm_bytes(width, precision):
    """Bytes that a norm over so many channels keeps of a token: its input, and its root mean square in float32."""
    return width * (precision.size if precision.fused else 4) + 4


def head_norms(shape):
    """(channels, heads) of the norms over queries and keys."""
    return ((shape.queries, shape.heads), (shape.keys, shape.key_heads)) if shape.head_norms else ()


def _lora_bytes(shape, names, precision):
    """Inputs of LoRA's A and B in the named projections, for each token."""
    size = precision.lora_size
    mask = 0 if not precision.dropout else 1 if precision.fused else size
    if precision.dropout or size > precision.size:  # every projection has a copy of its own
        inputs = sum(shape.projections[name][0] * (size + mask) for name in names)
    else:  # no copies; projections share their input, and the heads' output is kept by nothing else
        inputs = size * sum({STAGES[name]: shape.projections[name][0] for name in names}.values())
    return inputs + len(names) * shape.rank * size


def _attention_bytes(shape, batch, size):
    """Queries, keys and values as attention takes them, its output and log-sum-exps; not the mask, which all layers share.

    Several heads share keys, but sdpa under a mask wants the keys repeated for each.
    """
    width, logsumexp = shape.queries, 4 * shape.heads
    if batch.prefixes is None or batch.all_pairs:
        return batch.tokens * (4 * width * size + logsumexp)
    (count, prefix), (branches, branch) = batch.prefixes, batch.branches
    keys, queries = branches * (prefix + branch), count * prefix + branches * branch
    of_prefixes = size * count * prefix * 2 * shape.keys  # causal without a mask: not repeated
    of_branches = size * (2 * keys * width + branch * keys)
    index = 8 * batch.tokens + size * branches * count  # where tokens stand; which branch is of which prefix
    return queries * (2 * width * size + logsumexp) + of_prefixes + of_branches + index


def outside_bytes(shape, batch, precision):
    """Bytes kept outside the layers: by the last norm, the rotary cosines and sines, and the mask that all layers share."""
    mask = precision.size * batch.rows * batch.length**2 if batch.prefixes is None or batch.all_pairs else 0
    return batch.tokens * (norm_bytes(shape.hidden, precision) + 2 * precision.size * shape.queries // shape.heads) + mask


def gradient_bytes(shape, batch, precision):
    """Bytes of gradients in flight where a layer's backward is widest, at the MLP's product: its frozen and its LoRA path meet.

    By then LoRA's own copy of the product, which dropout asks for, is free again.
    """
    wide = shape.intermediate * precision.lora_size * (1 if precision.dropout else 2)
    return batch.tokens * (wide + 2 * shape.hidden * precision.size)
