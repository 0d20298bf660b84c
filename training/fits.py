"""What fits which card: Qwen2-VL's sizes, in bf16 or nf4, with and without gradient checkpointing. A table of `train_exp1.py --dry-run`."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --dry-run")

from pathlib import Path

import yaml
from transformers import Qwen2VLConfig

from training import cost

SIZES = yaml.safe_load(Path(__file__).with_name("sizes.yaml").read_text(encoding="utf-8"))
CARDS = (12, 16, 24, 40, 80)  # GB
BESIDE = 1.5  # GB that the estimate doesn't know: the CUDA context, kernels' workspaces, fragmentation
IMAGES = (1, 2, 4, 8, 16)  # of a micro-batch


def size_config(name):
    """The configuration of one of SIZES."""
    text = dict(SIZES[name])
    tied = text.pop("tie_word_embeddings")
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": text["hidden_size"]}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


def most_images(shape, batches, precision, checkpointing, card):
    """The most images of a micro-batch whose step fits a card of so many GB, 0 where none does. batches: {images: MicroBatch}."""
    peak = lambda batch: cost.step_memory(shape, batch, precision, checkpointing)["peak"]
    return max((images for images, batch in batches.items() if peak(batch) <= (card - BESIDE) * 1e9), default=0)


def what_fits(dataset, lora_cfg):
    """The table as text. Micro-batches are of the training set's heaviest images, each with its questions."""
    groups = sorted(dataset.groups, key=dataset.count_tokens, reverse=True)
    batches = {images: cost.micro_batch(dataset, groups[:images], all_pairs=True) for images in IMAGES if images <= len(groups)}
    lines = [
        f"images a micro-batch may hold (of {', '.join(map(str, batches))}; - none), by the same estimate, of these rows' heaviest, "
        f"{BESIDE:g} GB left free",
        f"  {'':28}" + "".join(f"{f'{card} GB':>8}" for card in CARDS),
    ]
    for name in SIZES:
        shape = cost.model_shape(cost.model_on_meta(size_config(name), lora_cfg))
        for kind in ("bf16", "nf4"):
            precision = cost.Precision(dropout=lora_cfg.dropout, nf4=kind == "nf4")
            for checkpointing in (True, False):
                found = [most_images(shape, batches, precision, checkpointing, card) or "-" for card in CARDS]
                label = f"{name:4} {kind:5} {'checkpointing' if checkpointing else 'without'}"
                lines.append(f"  {label:28}" + "".join(f"{cell:>8}" for cell in found))
    return "\n".join(lines)
