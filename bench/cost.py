"""Is the predicted cost right? Peak memory and FLOPs of real packed LoRA steps against training/cost.py.

    python bench/cost.py                        115M and 2B shapes; about 10 minutes on two cores, 9 GB
    python bench/cost.py --shapes 115M

A random model of each shape takes steps of one 448 x 448 image (256 image tokens) with 9 questions, LoRA r 16 on the seven
projections, in the way train_exp1.py does, with and without gradient checkpointing. Every case runs in a process of its own.

memory: the growth of the process's peak resident memory (VmHWM of /proc, Linux) from before the model is made to the end of its
second step, with Adam's moments in place. allocated: apart from weights, optimizer and pixels, the peak of what torch itself
allocated in a step, from its profiler. flops: those that torch.utils.flop_counter counts. A CPU has no autocast here, so bf16
keeps LoRA's inputs in float32. Exit code 1 where an estimate is off by over 25 % (memory) or 2 % (FLOPs).
"""

import argparse
import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPES = {  # the published Qwen2-VL-2B; and a small one, whose vocabulary outweighs its layers
    "2B": dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, mrope_section=[16, 24, 24]),
    "115M": dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8, mrope_section=[8, 12, 12]),
    "tiny": dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, mrope_section=[2, 3, 3]),
}
TOWERS = {"2B": dict(depth=32, embed_dim=1280, num_heads=16), "115M": dict(depth=6, embed_dim=256, num_heads=4)}
TOWERS["tiny"] = dict(depth=2, embed_dim=32, num_heads=2)
VISION_START, VISION_END, IMAGE, EOS, PAD = 151652, 151653, 151655, 151645, 151643
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # freed tensors leave the process, or the holes in glibc's heap count as resident
CASES = [("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)]  # dtype, gradient checkpointing


def random_model(shape, dtype):
    """A Qwen2-VL of a shape with random weights of a torch dtype, with LoRA, ready to train."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    from config import LoraConfig
    from model.adapter import attach_lora
    from model.forward import use_tree_attention

    text = {key: value for key, value in SHAPES[shape].items() if key != "mrope_section"}
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": SHAPES[shape]["mrope_section"], "rope_theta": 1e6}
    text |= dict(num_key_value_heads=2, vocab_size=151936, rope_parameters=rope, bos_token_id=None, eos_token_id=EOS, pad_token_id=PAD)
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=dict(hidden_size=text["hidden_size"], mlp_ratio=4, **TOWERS[shape]),
        image_token_id=IMAGE,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    model = Qwen2VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model = attach_lora(model.requires_grad_(False), LoraConfig(dropout=0.0))
    return use_tree_attention(model).train()


def packed_batch(questions=9, grid=(1, 32, 32)):
    """One image of 256 tokens with questions of Kvasir-VQA's lengths (30-45 tokens, answers of 1-6 and EOS), as collated."""
    import torch

    from model.token_tree import TokenTree, batch_trees
    from model.tree_attention import tree_layout

    rng = random.Random(0)
    words = lambda low, high: [rng.randrange(1000, 50000) for _ in range(rng.randint(low, high))]
    tree = TokenTree([151644, 100, 101, 102, 198, VISION_START] + [IMAGE] * (grid[1] * grid[2] // 4) + [VISION_END])
    for _ in range(questions):
        tree.grow(tree.grow(tree.root, words(30, 45)), words(1, 6) + [EOS], supervised=True)
    batch = batch_trees([[tree]], PAD) | tree_layout([[tree]], len(tree))
    pixels = torch.randn(grid[1] * grid[2], 1176, generator=torch.Generator().manual_seed(0))
    return batch | {"pixel_values": pixels, "image_grid_thw": torch.tensor([grid]), "image_index": torch.tensor([0])}


def resident(field):
    """Bytes of VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))


def allocated_peak(step):
    """Bytes at the peak of what torch allocates while `step` runs, above what it held before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [(event.start_ns(), event.nbytes()) for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for _, change in sorted(events):
        now, peak = now + change, max(peak, now + change)
    return peak


def reset_peak():
    """Give freed memory back to the system, and let VmHWM start anew from what is resident now."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def counted_flops(step):
    """FLOPs of `step` by torch's counter, with attention as plain products: it does not know the CPU's fused kernel."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def make_step(shape, dtype, checkpointing, batch):
    """(model, function that takes a training step on the batch)"""
    import torch

    from model.forward import answer_loss, base_model, training_inputs

    model = random_model(shape, {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype])
    if checkpointing:
        base_model(model).activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)

    def step():
        answer_loss(model(**training_inputs(model, batch)), batch["labels"]).backward()
        optimizer.step()

    return model, step


def measure(shape, dtype, checkpointing):
    """One case: a dict of estimated and measured bytes and FLOPs."""
    from training.cost import MicroBatch, Precision, model_shape, step_flops, step_memory

    batch = packed_batch()
    counted_flops(make_step("tiny", dtype, checkpointing, batch)[1])  # loads what libraries load at their first use
    reset_peak()
    before = resident("VmRSS")
    model, step = make_step(shape, dtype, checkpointing, batch)
    counted = counted_flops(step)
    reset_peak()
    start = time.perf_counter()
    step()
    seconds, peak = time.perf_counter() - start, resident("VmHWM") - before
    allocated = allocated_peak(step)
    numbers, micro = model_shape(model), MicroBatch.of(batch)
    memory = step_memory(numbers, micro, Precision(dtype, autocast=False), checkpointing)
    flops = step_flops(numbers, micro, checkpointing)
    held = memory["weights"] + memory["lora"]
    return {
        "shape": shape, "dtype": dtype, "checkpointing": checkpointing, "tokens": micro.tokens, "seconds": round(seconds, 1),
        "memory": [memory["peak"], peak], "allocated": [memory["peak"] - held - memory["batch"], allocated],
        "flops": [sum(flops.values()), counted], "parts": memory,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=["115M", "2B"], default=["115M", "2B"])
    parser.add_argument("--case", nargs=3, metavar=("SHAPE", "DTYPE", "CHECKPOINTING"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case[0], args.case[1], args.case[2] == "True")))
        return 0
    print(f"{'shape':5} {'dtype':5} {'checkpointing':13} {'':11} {'estimate':>10} {'measured':>10} {'ratio':>6}   seconds a step")
    worst = {"memory": 0.0, "allocated": 0.0, "flops": 0.0}
    for shape in args.shapes:
        for dtype, checkpointing in CASES:
            if (shape, dtype) == ("2B", "fp32"):
                continue  # what a GPU holds is bf16, and 9 GB of weights say nothing new
            command = [sys.executable, __file__, "--case", shape, dtype, str(checkpointing)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **GIVE_BACK})
            found = json.loads(done.stdout.splitlines()[-1])
            for name in worst:
                estimate, measured = found[name]
                worst[name] = max(worst[name], abs(estimate / measured - 1))
                unit, text = (1e12, "TFLOP") if name == "flops" else (1e9, "GB")
                numbers = f"{estimate / unit:8.3f} {text:5} {measured / unit:8.3f} {text:5} {estimate / measured:6.3f}"
                print(f"{shape:5} {dtype:5} {checkpointing!s:13} {name:11} {numbers}   {found['seconds']}", flush=True)
            print("      " + ", ".join(f"{part} {value / 1e9:.3f}" for part, value in found["parts"].items()) + " GB", flush=True)
    return int(worst["memory"] > 0.25 or worst["allocated"] > 0.25 or worst["flops"] > 0.02)


if __name__ == "__main__":
    sys.exit(main())
