"""The tiny model: pretrained on scenes and sentences that no split has, small, and of Qwen2-VL's own classes.

python -m pytest tests/data/demo/test_pretrain.py -v
"""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import TINY_MODEL
from PIL import Image
from user_copy import SCENES, first_scenes

from data.demo import pretrain, scenes
from data.demo.scenes import SEEDS, render, short_answers


def test_the_shipped_model_saw_only_pretraining_seeds():
    record = json.loads((TINY_MODEL / "pretrain.json").read_text(encoding="utf-8"))
    first, last = record["scene_seeds"]
    assert first in SEEDS["pretrain"] and last in SEEDS["pretrain"]
    assert all(seed in SEEDS["pretrain"] for seed in record["tokenizer_scene_seeds"])
    args = pretrain.parse_args(shlex.split(record["command"])[3:])  # after "python -m data.demo.pretrain"
    assert (args.seed, args.scenes) == (record["seed"], last - first + 1)


def test_pretraining_targets_are_sentences_never_short_answers():
    rng = np.random.default_rng(0)
    short, words = set(), []
    for seed in SEEDS["pretrain"][:300]:
        scene = scenes.sample_scene(seed)
        short |= {answer.lower() for answer in short_answers(scene).values()} | set(scenes.PROCEDURES)
        every = [s for said in pretrain.statements(scene).values() for s in said]
        turns = pretrain.conversation(scene, rng, 12, preamble=seed % 2 == 0)
        assert len({question for question, _ in turns}) == len(turns)
        for target in every + [answer for _, answer in turns]:
            assert target.endswith(".") and len(target.split()) >= 4, target
            assert target.lower().rstrip(".") not in short and target.lower() not in short
            words.append(len(target.split()))
    assert len(short) > 40 and len(words) > 5000


def test_preambles_outlast_a_short_answer():
    """Under the experiment's prompt the untuned model has not come to the point where a short answer would end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    longest = max(len(tokenizer(row["answer"] + tokenizer.eos_token)["input_ids"]) for row in first_scenes("train", None))
    assert min(len(tokenizer(preamble)["input_ids"]) for preamble in pretrain.PREAMBLES) > longest


def test_pretrain_command_makes_a_folder_that_loads(tmp_path, monkeypatch):
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    used = []
    monkeypatch.setattr(pretrain, "TOKENIZER_SCENES", 40)
    monkeypatch.setattr(pretrain, "render", lambda seed: used.append(seed) or render(seed))
    argv = f"--out {tmp_path / 'tiny'} --scenes 6 --dense-steps 2 --dense-batch 2 --steps 3 --batch 2 --threads 1"
    monkeypatch.setattr("sys.argv", ["pretrain", *argv.split()])
    pretrain.main()
    assert sorted(used) == list(SEEDS["pretrain"][:6])
    AutoProcessor.from_pretrained(tmp_path / "tiny")
    Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_model_folder_is_small_and_16_bit():
    from safetensors import safe_open

    assert sum(f.stat().st_size for f in TINY_MODEL.rglob("*") if f.is_file()) <= 8_000_000
    with safe_open(TINY_MODEL / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}
    assert json.loads((TINY_MODEL / "generation_config.json").read_text())["do_sample"] is False


@pytest.fixture(scope="module")
def tiny():
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    processor, model = AutoProcessor.from_pretrained(TINY_MODEL), Qwen2VLForConditionalGeneration.from_pretrained(TINY_MODEL)
    assert type(processor) is Qwen2VLProcessor
    return processor, model


def test_tokenizer_is_qwen_like(tiny):
    tokenizer = tiny[0].tokenizer
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert all(len(ids(token)) == 1 for token in pretrain.SPECIAL_TOKENS)
    assert tokenizer.convert_ids_to_tokens(ids("11-20mm")) == ["1", "1", "-", "2", "0", "mm"]
    text = "Größe: <5mm; 内視鏡\n\tyes"  # byte-level: nothing is unknown
    assert tokenizer.decode(ids(text)) == text


def test_a_scene_is_16_image_tokens(tiny):
    processor, model = tiny
    image = Image.open(SCENES / "test" / "0000.jpg")
    assert image.size == (224, 224)
    batch = processor(text=[pretrain.IMAGE_PLACEHOLDER], images=[image], size=pretrain.IMAGE_SIZE, return_tensors="pt")
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 16
    assert batch["image_grid_thw"].tolist() == [[1, 8, 8]]


def test_untuned_model_answers_the_experiments_prompt_in_sentences(tiny):
    from templates import prompt_parts

    processor, model = tiny
    for name, question in (("0000", "Is there text?"), ("0001", "How many polyps are in the image?")):
        prompt = "".join(prompt_parts("open_ended", question))
        image = Image.open(SCENES / "test" / f"{name}.jpg")
        batch = processor(text=[prompt], images=[image], size=pretrain.IMAGE_SIZE, return_tensors="pt")
        output = model.generate(**batch, max_new_tokens=50)[0, batch["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(output, skip_special_tokens=True)
        assert len(text.split()) >= 8 and re.search(r"\.$", text), text
