"""What a training will cost, as `train_exp1.py --dry-run` says it.

python -m pytest tests/training/test_dry_run.py -v
"""

import math
import re
import subprocess
from datetime import timedelta

import pytest
from conftest import ROOT, make_experiment, token_counts
from quick_python import quick_python
from transformers import AutoTokenizer

from config import LoraConfig, load_config
from dataset import load_dataset
from model.forward import attention_par
from model.load import load_model_config
from templates import prompt_parts
from training.cost import MicroBatch, Precision, epoch_micro_batches, model_on_meta, model_shape, step_flops, step_memory
from training.dry_run import PARTS, describe_epoch, describe_memory, dry_run
from training.fits import size_config


def dry_run_script(folder, *arguments):
    scenes = ROOT / "data" / "demo" / "scenes"
    for split, count in (("train", 20), ("val", 1)):
        lines = (scenes / f"{split}.jsonl").read_text().splitlines()[: 9 * count]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"data.train_jsonl": folder / "train.jsonl", "data.val_jsonl": folder / "val.jsonl", "data.image_root": scenes}
    settings["output_dir"] = folder / "out"
    command = [quick_python(), ROOT / "train_exp1.py", "--dry-run", *arguments, *(f"{key}={value}" for key, value in settings.items())]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.mark.slow("a process of its own, the 7B on the meta device")
def test_dry_run_of_the_real_experiment_needs_no_weights(tmp_path, shared, processor):
    folder = shared / "qwen2-vl-processor"
    assert not list(folder.glob("*.safetensors"))
    done = dry_run_script(tmp_path, f"model_name={folder}", "--gpu", "H100 PCIe", "--utilisation", "0.5", "train.epochs=3")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "trainable 40,370,176 of 8,331,745,792 parameters" in text
    assert "20 images, 180 questions; 1,280 image tokens" in text  # 224 x 224 pixels: 64 tokens an image
    assert "optimizer steps: 9 in all, 3 an epoch" in text  # 20 images in steps of 4 x 2
    before_image, after_image = prompt_parts("yes_no", "?")[0].split("<|image_pad|>")
    count = lambda part: len(AutoTokenizer.from_pretrained(folder)(part)["input_ids"])
    saved = 20 * 8 * (count(before_image) + 64 + count(after_image))  # of every image's 9 prefixes 8
    assert f"sharing saves {saved:,} tokens" in text
    assert re.search(r"peak memory in GB, bf16 .* frozen weights 16\.58 16\.58 ", text)
    assert "of its 756.5 TFLOP/s" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data"]


def test_an_epoch_is_told_by_its_tokens(experiment, processor):
    cfg, rows = experiment
    data = load_dataset(rows, processor, cfg, training=True)
    counts = token_counts(cfg, rows, processor)
    firsts = [number for number, row in enumerate(rows) if row["image"] != rows[number - 1]["image"]]
    images, plain = sum(counts[number][0] for number in firsts), sum(map(sum, counts))
    unique = plain - sum(sum(counts[number][:2]) for number in range(len(rows)) if number not in firsts)
    batches = [MicroBatch(2, unique, 1, ())]  # of which half is padding
    assert describe_epoch(data, batches) == (
        f"an epoch: 4 images, 18 questions; {images:,} image tokens + {unique - images:,} text tokens, and 50.0% padding; "
        f"sharing saves {plain - unique:,} tokens, {1 - unique / plain:.0%} of {plain:,} with one question a row"
    )


def test_memory_is_that_of_the_heaviest_micro_batch_by_part():
    """A frozen tower keeps nothing, and only a base in four bits is unpacked: their lines are left out."""
    shape = model_shape(model_on_meta(size_config("qwen2_vl", "2B"), LoraConfig()))
    light, heavy = MicroBatch(1, 1000, 10, (64,)), MicroBatch(1, 4000, 40, (256,))
    cfg = load_config(None, ["lora.dropout=0.1"])
    first, *lines = describe_memory(shape, [light, heavy, light], cfg).splitlines()
    assert first.split() == ["peak", "memory", "in", "GB,", "bf16", "checkpointing", "without"]
    columns = [step_memory(shape, heavy, Precision("bf16", dropout=0.1), checkpointing) for checkpointing in (True, False)]
    table = {line[:50].strip(): [float(number) for number in line[50:].split()] for line in lines}
    shown = [part for part in PARTS if part not in ("unpacked", "tower")]
    assert table == {PARTS[part]: [pytest.approx(memory[part] / 1e9, abs=0.006) for memory in columns] for part in shown}
    assert table["peak"][0] < table["peak"][1], "which is why one checkpoints"
    assert f"  {PARTS['unpacked']}" in describe_memory(shape, [light], load_config(None, ["quantization=nf4"]))
    first, weights, *_ = describe_memory(shape, [light], load_config(None, ["train.bf16=false"])).splitlines()
    assert first.split()[4] == "fp32" and float(weights.split()[-1]) == pytest.approx(4 * shape.parameters / 1e9, abs=0.006)


def test_the_whole_description_by_its_parts(tmp_path, processor, monkeypatch):
    """18 questions, each an item: 9 micro-batches of 2, and 2 x 2 of them a step, so 3 steps an epoch; their cost is cost.py's."""
    table = lambda data, lora, family: f"what fits: {len(data)} items, rank {lora.r}, {family}"
    monkeypatch.setattr("training.dry_run.what_fits", table)
    settings = {"train.questions_per_image": 1, "train.train_bs": 2, "train.grad_accum": 2, "train.epochs": 2.5}
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **settings, **{"train.gradient_checkpointing": "true"})
    data, config = load_dataset(rows, processor, cfg, training=True, world_size=2), load_model_config(cfg)
    data.attention_par = attention_par(config, gpu=True)
    model = model_on_meta(config, cfg.lora)
    shape, batches = model_shape(model), epoch_micro_batches(data, all_pairs=True)
    parts = [step_flops(shape, batch, True) for batch in batches]
    flops = {name: sum(part[name] for part in parts) for name in parts[0]}
    done = sum(flops.values())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    numel = sum(weight.numel() for weight in model.parameters())
    data.attention_par = attention_par(config)

    def expected(steps, seconds):
        return [
            "dry run: from data and config.json; no weights loaded, nothing trained",
            describe_epoch(data, batches),
            f"optimizer steps: {steps} in all, 3 an epoch",
            f"parameters: trainable {trained:,} of {numel:,} parameters ({trained / numel:.2%})",
            f"FLOPs an epoch: {done:.3g} = language {flops['language']:.3g} + attention {flops['attention']:.3g} + lora "
            f"{flops['lora']:.3g} + lm_head {flops['lm_head']:.3g} + vision {flops['vision']:.3g} + recomputation "
            f"{flops['recomputation']:.3g}",
            *describe_memory(shape, batches, cfg).splitlines(),
            "what fits: 18 items, rank 16, qwen2_vl",
            f"time: {timedelta(seconds=seconds)} for {steps} steps on 2 x H100 PCIe at 50% of its 756.5 TFLOP/s (dense bf16); without "
            f"recomputation, as `mfu` in the log, that is {(done - flops['recomputation']) / done / 2:.0%}",
        ]

    assert len(batches) == 9 and dry_run(data, cfg, 2, "H100 PCIe", 0.5).splitlines() == expected("8", 1)
    longer = cfg.model_copy(update={"train": cfg.train.model_copy(update={"max_steps": 3 * 10**9})})
    seconds = math.ceil(done * 10**9 / 756.5e12)  # two cards at half of that
    assert seconds > 1000 and dry_run(data, longer, 2, "H100 PCIe", 0.5).splitlines() == expected("3,000,000,000", seconds)
