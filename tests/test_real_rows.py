"""Every real Kvasir-VQA row with the real Qwen2-VL processor, from JSONL to tokens and labels.

    SURGVQA_SHARED=… python -m pytest tests/test_real_rows.py -v
"""

from collections import Counter
from functools import lru_cache

import pytest
from PIL import Image

from config import load_config
from data.preprocess import ensure_enriched, normalize_answer
from dataset import load_dataset
from images import load_image
from model import load_processor
from templates import prompt_parts
from token_tree import IGNORE_INDEX


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared):
    """(config, rows, dataset): the 8,786 rows; their images, which can't be shipped, are stood in for by five real frames."""
    from files import read_jsonl

    folder = tmp_path_factory.mktemp("kvasir")
    source = shared / "real-data" / "kvasir_vqa" / "val.jsonl"
    frames = sorted((shared / "real-data" / "kvasir_seg" / "images").iterdir())
    for index, name in enumerate(dict.fromkeys(row["image_filename"] for _, row in read_jsonl(source))):
        (folder / name).symlink_to(frames[index % len(frames)])
    settings = {"model_name": shared / "qwen2-vl-processor", "data.train_jsonl": source, "data.image_root": folder, "output_dir": folder / "out"}
    cfg = load_config(None, [f"{key}={value}" for key, value in settings.items()])
    rows = ensure_enriched(cfg, "train")
    return cfg, rows, load_dataset(rows, load_processor(cfg), cfg)


def test_types_are_the_users(real):
    counts = {"yes_no": 3012, "open_ended": 3311, "count_numeric": 1512, "size_numeric": 476, "color": 475}
    assert Counter(row["question_type"] for row in real[1]) == counts


def test_a_constraint_never_forces_a_wrong_answer(real):
    assert all(row["answer"] in row["answer_candidates"] for row in real[1] if row["answer_candidates"])
    constrained = Counter(row["question"] for row in real[1] if row["answer_candidates"])
    assert constrained == {"Is there a green/black box artefact?": 595, "Is there text?": 595}
    unconstrained = {row["question"] for row in real[1] if row["question_type"] in ("yes_no", "color")} - constrained.keys()
    assert "Is this finding easy to detect?" in unconstrained and len(unconstrained) == 6


def test_every_row_is_encoded_as_the_processor_would_and_supervises_its_answer(real):
    cfg, _, dataset = real
    processor = dataset.processor
    seen = 0

    @lru_cache(None)  # the rows share their few hundred prompt-and-frame combinations
    def whole_prompt(prompt, frame):
        image = load_image(frame, cfg.image)
        encoded = processor(text=[prompt], images=[image], return_tensors="pt")
        assert (encoded["input_ids"] == processor.image_token_id).sum() == encoded["image_grid_thw"].prod() // 4
        return encoded["input_ids"][0].tolist()

    for rows in dataset.groups:
        tree, leaves = dataset.tree(rows)
        ends = [index for index, label in enumerate(tree.labels) if label == processor.tokenizer.eos_token_id]
        frame = (dataset.image_root / rows[0]["image"]).resolve()
        for row, leaf, end in zip(rows, leaves, ends, strict=True):
            prompt = "".join(prompt_parts(row["question_type"], row["question"], row["answer_candidates"]))
            path = tree.path(end)
            prompt_ids, answer = whole_prompt(prompt, frame), [tree.labels[node] for node in path if tree.labels[node] != IGNORE_INDEX]
            assert [tree.input_ids[node] for node in tree.path(leaf)] == prompt_ids
            assert [tree.input_ids[node] for node in path] == prompt_ids + answer
            assert processor.tokenizer.decode(answer) == row["answer"] + "<|im_end|>" and answer[-1] == 151645
            assert normalize_answer(row["answer_raw"]).split("; ") == row["answer"].split("; ") or row["multi_label"]
            seen += 1
    assert seen == 8786


def test_one_epoch_shares_most_image_tokens(real):
    """About nine questions an image: one row each would compute several times the tokens."""
    _, rows, dataset = real
    shared = sum(len(dataset.tree(group)[0]) for group in dataset.groups)
    separate = sum(len(tree.path(leaf)) for group in dataset.groups for tree, leaves in [dataset.tree(group)] for leaf in leaves)
    assert len(dataset.groups) == 975 and separate / shared > 3


def test_frames_keep_their_size_limits(real):
    cfg, _, dataset = real
    assert set(dataset.image_tokens.values()) <= set(range(200, 257))
    assert Image.open(dataset.image_root / dataset.groups[0][0]["image"]).size >= (600, 500)
