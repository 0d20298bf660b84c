"""What a training will cost, as `train_exp1.py --dry-run` says it.

python -m pytest tests/training/test_dry_run.py -v
"""

import re
import subprocess
import sys
import time

from conftest import ROOT
from transformers import AutoTokenizer

from templates import prompt_parts


def dry_run(folder, *arguments):
    scenes = ROOT / "data" / "demo" / "scenes"
    for split, count in (("train", 20), ("val", 1)):
        lines = (scenes / f"{split}.jsonl").read_text().splitlines()[: 9 * count]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"data.train_jsonl": folder / "train.jsonl", "data.val_jsonl": folder / "val.jsonl", "data.image_root": scenes}
    settings["output_dir"] = folder / "out"
    command = [sys.executable, ROOT / "train_exp1.py", "--dry-run", *arguments, *(f"{key}={value}" for key, value in settings.items())]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_dry_run_of_the_real_experiment_needs_seconds_and_no_weights(tmp_path, shared, processor):
    folder = shared / "qwen2-vl-processor"
    assert not list(folder.glob("*.safetensors"))
    start = time.perf_counter()
    done = dry_run(tmp_path, f"model_name={folder}", "--gpu", "H100 PCIe", "--utilisation", "0.5", "train.epochs=3")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 60
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
