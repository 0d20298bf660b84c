"""What fits which card: the table's cells by hand, and the table of a dry run.

python -m pytest tests/training/test_fits.py -v
"""

import re
import shutil
import sys

import pytest
from conftest import ROOT, TINY_MODEL
from test_cost import ready

import train_exp1
from dataset import load_dataset
from training import fits
from training.cost import Precision, micro_batch, model_on_meta, model_shape, step_memory


def test_what_is_configured_for_a_small_card_fits_it_and_the_table_says_so(tmp_path, monkeypatch, capsys):
    """configs/small.yaml as it is, the 7B by its config.json alone, on the demo's rows; sizes are those of the model cards."""
    shapes = []
    monkeypatch.setattr("training.cost.model_shape", lambda model: shapes.append(model_shape(model)) or shapes[-1])
    for path in TINY_MODEL.glob("*.json"):
        shutil.copy(path, tmp_path)
    fits.size_config("qwen2_vl", "7B").save_pretrained(tmp_path)
    demo = ROOT / "data" / "demo" / "scenes"
    (tmp_path / "rows.jsonl").write_text("".join((demo / "train.jsonl").read_text().splitlines(keepends=True)[:72]))
    settings = [f"model_name={tmp_path}", f"data.train_jsonl={tmp_path / 'rows.jsonl'}", f"data.image_root={demo}"]
    monkeypatch.setattr(
        sys, "argv", ["x", "--dry-run", "--config", str(ROOT / "configs/small.yaml"), *settings, f"output_dir={tmp_path}/out"]
    )
    train_exp1.main()
    text = " ".join(capsys.readouterr().out.split())
    assert "8 images (2 x 4 accumulated x 1 processes)" in text and "of 8,331,745,792 parameters" in text
    peak = re.search(r"peak memory in GB, bf16, nf4 .* frozen weights 6\.90 6\.90 .* peak (\S+) ", text)
    assert float(peak[1]) < 16 - fits.BESIDE
    row = lambda name: re.search(rf"{name} (\S+) (\S+) (\S+) (\S+) (\S+)", text).groups()
    assert row("7B bf16 checkpointing")[:2] == ("-", "-") and "-" not in row("7B bf16 checkpointing")[2:]
    assert row("7B nf4 checkpointing")[1] != "-" and row("7B bf16 without")[:2] == ("-", "-")
    assert "2B bf16 checkpointing" in text and "images a micro-batch may hold (of 1, 2, 4, 8; - none)" in text
    assert "of these rows' heaviest, 1.5 GB left free 12 GB 16 GB 24 GB 40 GB 80 GB 2B bf16 checkpointing" in text
    assert set(row("72B bf16 checkpointing")) == {"-"} and row("72B nf4 checkpointing")[:3] == ("-", "-", "-")
    assert row("72B nf4 checkpointing")[4] != "-", "what a refused FSDP is pointed to"
    assert [shape.parameters / 1e9 for shape in shapes] == pytest.approx([8.29, 2.21, 8.29, 73.4], abs=0.02), (
        "the configured one, and the table's"
    )


def test_a_card_holds_as_many_images_as_the_estimate_says(experiment, processor):
    """The table's cells, by hand: the largest micro-batch of the heaviest images that leaves 1.5 GB of the card free."""
    shape, data = model_shape(ready(processor)), load_dataset(experiment[1], processor, experiment[0], training=True)
    groups = sorted(data.groups, key=len, reverse=True)
    batches = {images: micro_batch(data, groups[:images], all_pairs=True) for images in (1, 2, 4)}
    peaks = {images: step_memory(shape, batch, Precision(dropout=0.05), True)["peak"] / 1e9 for images, batch in batches.items()}
    assert peaks[1] < peaks[2] < peaks[4]
    for images, peak in peaks.items():
        assert fits.most_images(shape, batches, Precision(dropout=0.05), True, 1.0001 * peak + 1.5) == images
        assert fits.most_images(shape, batches, Precision(dropout=0.05), True, 0.9999 * peak + 1.5) < images


def test_the_table_is_of_the_heaviest_images_with_dropout_as_a_card_computes_them(experiment, processor, monkeypatch):
    """Cards that hold just so many of them, and a ten-thousandth less."""
    shape = model_shape(model_on_meta(fits.size_config("qwen2_vl", "2B"), experiment[0].lora))
    data = load_dataset(experiment[1], processor, experiment[0], training=True)
    lora = experiment[0].lora.model_copy(update={"dropout": 0.1})
    heaviest = sorted(data.groups, key=lambda rows: -data.count_tokens(rows))
    peak = lambda images: step_memory(shape, micro_batch(data, heaviest[:images], True), Precision("bf16", dropout=0.1), True)["peak"]
    cards = [times * peak(images) / 1e9 + 1.5 for images in (1, 2, 4) for times in (0.9999, 1.0001)]
    monkeypatch.setattr(fits, "CARDS", cards)
    monkeypatch.setitem(fits.FAMILIES["qwen2_vl"], "sizes", {"2B": fits.FAMILIES["qwen2_vl"]["sizes"]["2B"]})
    line = next(line for line in fits.what_fits(data, lora, "qwen2_vl").splitlines() if line.startswith("  2B   bf16  checkpointing"))
    assert line.split()[3:] == ["-", "1", "1", "2", "2", "4"]
