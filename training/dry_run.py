"""What a training will cost, before it is paid: `train_exp1.py --dry-run`.

Tokens, steps, parameters, FLOPs, peak memory and time, from the data, the processor and the model's config.json: no weights are
loaded. The arithmetic is in cost.py; this is its text.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py --dry-run")

import math
from collections import Counter
from datetime import timedelta

from model.forward import attention_par
from model.load import describe_parameters, load_model_config
from training import cost
from training.fits import what_fits
from training.gpus import PEAK_TFLOPS

PARTS = {  # of cost.step_memory
    "weights": "frozen weights",
    "unpacked": "the matrix at work, out of nf4",
    "lora": "LoRA: float32 weights, gradients, Adam's moments",
    "batch": "pixels",
    "activations": "activations kept for the backward",
    "last_layer": "last layer's, gone before the next line's",
    "layer": "the layer at work: recomputed, and its gradients",
    "logits": "logits, beside the last layer's",
    "tower": "trained vision tower's activations, kept as well",
    "vision": "vision tower's transient, before all others",
    "peak": "peak",
}


def dry_run(dataset, cfg, world_size, gpu, utilisation):
    """What training will cost on world_size GPUs of PEAK_TFLOPS at a share of their peak, recomputation included, as text."""
    config = load_model_config(cfg)
    dataset.attention_par = attention_par(config, gpu=True)  # whatever this machine has
    model = cost.model_on_meta(config, cfg.lora)
    shape, batches = cost.model_shape(model), cost.epoch_micro_batches(dataset, all_pairs=True)
    per_epoch = math.ceil(len(batches) / (cfg.train.grad_accum * world_size))
    steps = cfg.train.max_steps or math.ceil(cfg.train.epochs * per_epoch)
    flops = Counter()
    for batch in batches:
        flops.update(cost.step_flops(shape, batch, cfg.train.gradient_checkpointing))
    done, useful = sum(flops.values()), sum(flops.values()) - flops["recomputation"]
    seconds = done * steps / per_epoch / (1e12 * PEAK_TFLOPS[gpu] * utilisation * world_size)
    return "\n".join(
        [
            "dry run: from data and config.json; no weights loaded, nothing trained",
            describe_epoch(dataset, batches),
            f"optimizer steps: {steps:,} in all, {per_epoch:,} an epoch",
            f"parameters: {describe_parameters(model)}",
            f"FLOPs an epoch: {done:.3g} = " + " + ".join(f"{name} {count:.3g}" for name, count in flops.items() if count),
            describe_memory(shape, batches, cfg),
            what_fits(dataset, cfg.lora, config.model_type),
            f"time: {timedelta(seconds=math.ceil(seconds))} for {steps:,} steps on {world_size} x {gpu} at {utilisation:.0%} of its "
            f"{PEAK_TFLOPS[gpu]:g} TFLOP/s (dense bf16); without recomputation, as `mfu` in the log, that is "
            f"{utilisation * useful / done:.0%}",
        ]
    )


def describe_epoch(dataset, batches):
    """Tokens of an epoch, by kind, and what sharing an image's prefix saves."""
    image = sum(dataset.image_tokens[name] for rows in dataset.groups for name in dataset.images(rows[0]))
    unique = sum(map(dataset.count_tokens, dataset.groups))
    plain = sum(dataset.count_tokens([row]) for rows in dataset.groups for row in rows)
    padding = 1 - unique / sum(batch.tokens for batch in batches)
    return (
        f"an epoch: {len(dataset.sizes):,} images, {len(dataset.encoded):,} questions; {image:,} image tokens + "
        f"{unique - image:,} text tokens, and {padding:.1%} padding; sharing saves {plain - unique:,} tokens, "
        f"{1 - unique / plain:.0%} of {plain:,} with one question a row"
    )


def describe_memory(shape, batches, cfg):
    """Estimated peak memory by part in the heaviest micro-batch, with and without gradient checkpointing."""
    precision = cost.Precision("bf16" if cfg.train.bf16 else "fp32", dropout=cfg.lora.dropout, nf4=cfg.quantization == "nf4")
    heaviest = lambda checkpointing: max(
        (cost.step_memory(shape, batch, precision, checkpointing) for batch in batches), key=lambda memory: memory["peak"]
    )
    columns = {"with": heaviest(True), "without": heaviest(False)}
    kind = f"{precision.dtype}, nf4" if precision.nf4 else precision.dtype
    lines = [f"peak memory in GB, {kind:36}checkpointing   without"]
    for part in [part for part in PARTS if part not in ("unpacked", "tower") or any(memory[part] for memory in columns.values())]:
        values = [memory[part] / 1e9 for memory in columns.values()]
        lines.append(f"  {PARTS[part]:48} {values[0]:10.2f}{values[1]:10.2f}")
    return "\n".join(lines)
