"""What the vision tower costs in a training step: FLOPs and bytes, frozen or with LoRA on it. A part of training/cost.py.

The tower runs once an image. Frozen it has a forward; with LoRA on its mergers (`lora.vision: merger`) these have a backward, too; with
LoRA also on its blocks' attention (`tower`) all above the patches' embedding has. Counted as in cost.py.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --dry-run")

import re
from dataclasses import dataclass

import torch

ACTIVATIONS = {"QuickGELUActivation": 2, "SiLUActivation": 3}  # tensors of the MLP's width that a block keeps (GELU: 1)


@dataclass(frozen=True)
class Tower:
    """A vision tower in numbers. Weights are counted in parameters, widths in channels; a merged token is of `merge` patches.

    mergers: (in, middle, out) of each projector: one, or with Qwen3-VL one more for each layer that takes features.
    """

    patch_values: int  # pixels x colours x frames of a patch
    embedding: int  # weights of the patches' embedding
    block: int  # weights of a block's matrices, applied to each patch
    mergers: tuple[tuple[int, int, int], ...]
    merge: int
    width: int
    heads: int
    mlp: int
    activations: int
    float32_norms: bool  # Qwen2.5-VL's norms keep their input in float32, others as it is
    windows: tuple[int | None, ...]  # for each block, patches that attend to each other; None: the whole image
    rank: int  # of LoRA on the mergers, 0 where the tower is frozen
    whole: bool  # LoRA on the blocks' attention, too

    @property
    def merged_weights(self):
        return sum(first * middle + middle * last for first, middle, last in self.mergers)

    @property
    def patch_weights(self):
        return self.embedding + len(self.windows) * self.block


def tower_of(model):
    """The Tower of a transformers model, with LoRA or without, real or on the meta device."""
    visual, vision = model.model.visual, model.config.vision_config
    linears = {name: part for name, part in visual.named_modules() if isinstance(part, torch.nn.Linear) and ".lora_" not in name}
    mergers = {}
    for name, part in linears.items():
        if found := re.match(r"(merger|deepstack_merger_list\.\d+)\.", name):
            mergers.setdefault(found[1], []).append((part.in_features, part.out_features))
    first_block = {name: part for name, part in linears.items() if name.startswith("blocks.0.")}
    ranks = {name: part.out_features for name, part in visual.named_modules() if ".lora_A." in name}
    norms = visual.blocks[0].norm1
    embedding = visual.patch_embed.proj.weight
    return Tower(
        patch_values=embedding[0].numel(),
        embedding=embedding.numel(),
        block=sum(part.in_features * part.out_features for part in first_block.values()),
        mergers=tuple((first[0], first[1], second[1]) for first, second in mergers.values()),
        merge=vision.spatial_merge_size**2,
        width=embedding.shape[0],
        heads=vision.num_heads,
        mlp=max(part.out_features for name, part in first_block.items() if ".mlp." in name),
        activations=ACTIVATIONS.get(next(type(part).__name__ for name, part in visual.blocks[0].mlp.named_children() if "act" in name), 1),
        float32_norms=not isinstance(norms, torch.nn.LayerNorm),
        windows=_windows(vision),
        rank=max(ranks.values(), default=0),
        whole=any(name.startswith("blocks.") for name in ranks),
    )


def _windows(vision):
    size, whole = getattr(vision, "window_size", None), getattr(vision, "fullatt_block_indexes", ())
    return tuple((size // vision.patch_size) ** 2 if size and block not in whole else None for block in range(vision.depth))


def tower_flops(tower, patches, checkpointing=False):
    """(FLOPs of the tower's forward and backward, FLOPs of what gradient checkpointing computes again) for images of so many patches."""
    count, pairs = sum(patches), sum(size * min(window or size, size) for window in tower.windows for size in patches)
    merged, lora = count / tower.merge, tower.rank * sum(first + 2 * middle + last for first, middle, last in tower.mergers)
    attention = 4 * pairs * tower.width
    forward = 2 * count * tower.patch_weights + 2 * merged * tower.merged_weights + attention
    if not tower.rank:
        return forward, 0
    backward = 2 * merged * (tower.merged_weights + 2 * lora)
    if not tower.whole:  # nothing before the mergers wants a gradient
        backward -= 2 * merged * sum(first * (middle + tower.rank) for first, middle, _ in tower.mergers)
        return forward + 2 * merged * lora + backward, 0
    blocks, lora_block = len(tower.windows), tower.rank * 6 * tower.width  # of qkv, w to 3 w, and proj, w to w
    first_input = 2 * count * tower.width * (3 * tower.width + tower.rank)  # the first block's, which nobody wants
    backward += 2 * count * blocks * (tower.block + 2 * lora_block) + 2 * attention - first_input
    lora_forward = 2 * merged * lora + 2 * count * blocks * lora_block
    return forward + lora_forward + backward, again(tower, count, attention, lora_block) if checkpointing else 0


def again(tower, count, attention, lora_block):
    """FLOPs of the blocks' second forward, which ends before its last product, whose result no gradient needs."""
    return 2 * count * len(tower.windows) * (tower.block - tower.mlp * tower.width + lora_block) + attention


def tower_bytes(tower, patches, precision, checkpointing=False):
    """(bytes that the tower keeps for its backward, transient bytes beside them) over images of so many patches, all in one call.

    Frozen it keeps nothing. LoRA computes in float32 here, outside autocast. The transient ones are of a block: of its forward, or,
    where it has a backward, what is recomputed with checkpointing, and its gradients.
    """
    count, size = sum(patches), precision.size
    rotated = 3 * size + (6 if size == 2 else 4) * 4  # attention rotates queries and keys in float32
    transient = count * (2 * size * tower.width + max(rotated * tower.width, 4 * size * tower.mlp))
    if not tower.rank:
        return 0, transient
    kept = count / tower.merge * sum(_merger_bytes(tower, widths, precision) for widths in tower.mergers)
    if not tower.whole:
        return kept, transient
    kept += count * size * tower.width * len(tower.mergers)  # what the mergers' norms take
    block, blocks = count * _block_bytes(tower, precision), len(tower.windows)
    if not checkpointing:
        return kept + blocks * block, transient
    return kept + count * size * tower.width * blocks, transient + block


def _lora_input(width, precision, wanted=True):
    """Bytes that LoRA keeps of an input: itself in float32, and dropout's mask if anybody wants the input's gradient."""
    mask = 0 if not (precision.dropout and wanted) else 1 if precision.fused else 4
    return width * (4 + mask)


def _merger_bytes(tower, widths, precision):
    first, middle, last = widths
    inputs = _lora_input(first, precision, tower.whole) + _lora_input(middle, precision) + 8 * tower.rank
    return inputs + (middle + last) * precision.size  # what GELU takes, and the features, which stay


def _norm_bytes(tower, size):
    return tower.width * 4 + 4 if tower.float32_norms else tower.width * size + 2 * size


def _block_bytes(tower, precision):
    """Bytes of a patch that a block keeps: what norms, LoRA on qkv and proj, attention and the MLP's activation take."""
    size = precision.size
    norms = 2 * _norm_bytes(tower, size)
    lora = 2 * _lora_input(tower.width, precision) + 8 * tower.rank
    attention = 6 * tower.width * size + 4 * tower.heads  # qkv's output as a whole, queries and keys rotated, and what comes out
    return norms + lora + attention + tower.activations * tower.mlp * size
