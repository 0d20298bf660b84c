"""What a training will cost, before it is paid: `train_exp1.py --dry-run`.

Tokens, steps, parameters, FLOPs, peak memory and time, from the data, the processor and the model's config.json: no weights are
loaded. The arithmetic is in cost.py; this is its text.
"""

import math
from collections import Counter

import cost
from files import UserError
from model import describe_parameters, load_model_config

PARTS = {  # of cost.step_memory
    "weights": "frozen weights",
    "lora": "LoRA: float32 weights, gradients, Adam's moments",
    "batch": "pixels",
    "activations": "activations kept for the backward",
    "layer": "the layer at work: recomputed, and its gradients",
    "logits": "logits, before the layers' backward",
    "vision": "vision tower's transient, before all others",
    "peak": "peak",
}


def dry_run_arguments(parser):
    parser.add_argument("--dry-run", action="store_true", help="print what training will cost, from data and config.json alone")
    parser.add_argument("--gpu", default="A100", metavar="NAME", help=f"for --dry-run: one of {', '.join(cost.PEAK_TFLOPS)} (default A100)")
    parser.add_argument(
        "--utilisation", type=float, default=0.4, metavar="SHARE", help="for --dry-run: share of the GPU's peak that is reached (default 0.4)"
    )


def dry_run(dataset, cfg, world_size, gpu, utilisation):
    """What training will cost, as text. Raises UserError for an unknown GPU or a share that can't be."""
    peak = cost.device_peak_flops(gpu)
    if peak is None:
        raise UserError(f"--gpu: {gpu!r} is unknown; give one of {', '.join(cost.PEAK_TFLOPS)}")
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation: {utilisation} is no share of a peak; give a number above 0 and up to 1")
    model = cost.model_on_meta(load_model_config(cfg), cfg.lora)
    shape, batches = cost.model_shape(model), cost.epoch_micro_batches(dataset)
    per_epoch = math.ceil(len(batches) / (cfg.train.grad_accum * world_size))
    steps = cfg.train.max_steps or math.ceil(cfg.train.epochs * per_epoch)
    flops = Counter()
    for batch in batches:
        flops.update(cost.step_flops(shape, batch, cfg.train.gradient_checkpointing))
    done, useful = sum(flops.values()), sum(flops.values()) - flops["recomputation"]
    hours = done * steps / per_epoch / (peak * utilisation * world_size) / 3600
    return "\n".join(
        [
            "dry run: from data and config.json; no weights loaded, nothing trained",
            describe_epoch(dataset, batches),
            f"optimizer steps: {steps:,} in all, {per_epoch:,} an epoch",
            f"parameters: {describe_parameters(model)}",
            f"FLOPs an epoch: {done:.3g} = " + " + ".join(f"{name} {count:.3g}" for name, count in flops.items() if count),
            describe_memory(shape, batches, cfg),
            f"time: {hours:.2f} h for {steps:,} steps on {world_size} x {gpu} at {utilisation:.0%} of its {peak / 1e12:g} TFLOP/s (dense bf16); "
            f"model FLOPs utilisation, which leaves recomputation out, is then {utilisation * useful / done:.0%}",
        ]
    )


def describe_epoch(dataset, batches):
    """Tokens of an epoch, by kind, and what sharing an image's prefix saves."""
    image = sum(dataset.image_tokens[rows[0]["image"]] for rows in dataset.groups)
    unique = sum(map(dataset.count_tokens, dataset.groups))
    plain = sum(dataset.count_tokens([row]) for rows in dataset.groups for row in rows)
    padding = 1 - unique / sum(batch.tokens for batch in batches)
    return (
        f"an epoch: {len(dataset.image_groups):,} images, {len(dataset.encoded):,} questions; {image:,} image tokens + {unique - image:,} text "
        f"tokens, and {padding:.1%} padding; sharing saves {plain - unique:,} tokens, {1 - unique / plain:.0%} of {plain:,} with one question a row"
    )


def describe_memory(shape, batches, cfg):
    """Estimated peak memory by part in the heaviest micro-batch, with and without gradient checkpointing."""
    precision = cost.Precision("bf16" if cfg.train.bf16 else "fp32", dropout=cfg.lora.dropout)
    heaviest = lambda checkpointing: max(  # noqa: E731
        (cost.step_memory(shape, batch, precision, checkpointing) for batch in batches), key=lambda memory: memory["peak"]
    )
    columns = {"with": heaviest(True), "without": heaviest(False)}
    lines = [f"peak memory in GB, {precision.dtype}{'':32}checkpointing   without"]
    for part in columns["with"]:
        values = [memory[part] / 1e9 for memory in columns.values()]
        lines.append(f"  {PARTS[part]:48} {values[0]:10.2f}{values[1]:10.2f}")
    return "\n".join(lines)
