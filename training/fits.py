"""What fits which card: a family's sizes, in bf16 or nf4, with and without checkpointing. A table of `train_exp1.py --dry-run`."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --dry-run")

from transformers import AutoConfig

from model.on_disk import FAMILIES
from training import cost

CARDS = (12, 16, 24, 40, 80)  # GB
BESIDE = 1.5  # GB that the estimate doesn't know: the CUDA context, kernels' workspaces, fragmentation
IMAGES = (1, 2, 4, 8, 16)  # of a micro-batch


def size_config(family, name):
    """The configuration of one of the sizes of a family, a key of FAMILIES."""
    size, vision = FAMILIES[family]["sizes"][name], FAMILIES[family]["vision"]
    parts = {"text_config": size["text"], "vision_config": {**vision, **size["vision"]}}
    return AutoConfig.for_model(family, **parts, tie_word_embeddings=size["tie_word_embeddings"])


def most_images(shape, batches, precision, checkpointing, card):
    """The most images of a micro-batch whose step fits a card of so many GB, 0 where none does. batches: {images: MicroBatch}."""
    peak = lambda batch: cost.step_memory(shape, batch, precision, checkpointing)["peak"]
    return max((images for images, batch in batches.items() if peak(batch) <= (card - BESIDE) * 1e9), default=0)


def what_fits(dataset, lora_cfg, family):
    """The table of a family (a key of FAMILIES) as text. Micro-batches are of the training set's heaviest images."""
    groups = sorted(dataset.groups, key=dataset.count_tokens, reverse=True)
    batches = {images: cost.micro_batch(dataset, groups[:images], all_pairs=True) for images in IMAGES if images <= len(groups)}
    lines = [
        f"{FAMILIES[family]['name']}: images a micro-batch may hold (of {', '.join(map(str, batches))}; - none), by the same estimate, "
        f"of these rows' heaviest, "
        f"{BESIDE:g} GB left free",
        f"  {'':28}" + "".join(f"{f'{card} GB':>8}" for card in CARDS),
    ]
    for name in FAMILIES[family]["sizes"]:
        shape = cost.model_shape(cost.model_on_meta(size_config(family, name), lora_cfg))
        for kind in ("bf16", "nf4"):
            precision = cost.Precision(dropout=lora_cfg.dropout, nf4=kind == "nf4")
            for checkpointing in (True, False):
                found = [most_images(shape, batches, precision, checkpointing, card) or "-" for card in CARDS]
                label = f"{name:4} {kind:5} {'checkpointing' if checkpointing else 'without'}"
                lines.append(f"  {label:28}" + "".join(f"{cell:>8}" for cell in found))
    return "\n".join(lines)
