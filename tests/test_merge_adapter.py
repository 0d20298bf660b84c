"""Adapters served elsewhere: merged for plain transformers, unmerged for plain PEFT and vLLM.

python -m pytest tests/test_merge_adapter.py -v
"""

import json
import re
import shutil
import sys

import pytest
import torch
from conftest import TINY_MODEL, make_experiment, with_random_lora
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

import merge_adapter
from data.images import load_image
from data.preprocess import answer_rules, training_space
from dataset import load_dataset
from files import UserError, json_text
from model.adapter import experiment_facts, save_adapter
from model.load import load_model
from model.merge import merge
from prediction.decode import Plan, candidate_trie, run_searches
from templates import prompt_parts

CANDIDATES = ("yes", "no", "not relevant", "pink; red", "11-20mm", "biopsy forceps")
# What vLLM's Qwen2VLForConditionalGeneration.hf_to_vllm_mapper does to prefixes, `base_model.model.` set aside (vLLM 0.10 to 0.11).
VLLM_PREFIXES = {"model.language_model.": "language_model.model.", "model.visual.": "visual.", "lm_head.": "language_model.lm_head."}


def plain_base():
    return AutoModelForImageTextToText.from_pretrained(TINY_MODEL, dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, rows, adapter folder) with an adapter as train_exp1.py saves it, of random weights on the shipped model.

    The model bears the kind of generation settings that Qwen2-VL comes with.
    """
    folder = tmp_path_factory.mktemp("merge")
    shutil.copytree(TINY_MODEL, folder / "base")
    settings = {"do_sample": True, "temperature": 5.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 3.0}
    (folder / "base" / "generation_config.json").write_text(json.dumps(settings))
    cfg, rows = make_experiment(folder, questions=(2, 3), model_name=folder / "base")
    space = training_space(cfg, say=lambda line: None)
    adapter = cfg.output_dir / "adapter"
    save_adapter(
        with_random_lora(plain_base(), cfg.lora),
        adapter,
        experiment_facts(cfg, answer_rules(space)),
        {"answer_space.json": json_text(space)},
    )
    return cfg, rows, adapter


@pytest.fixture(scope="module")
def merged(trained):
    cfg, _, adapter = trained
    out = cfg.output_dir / "merged"
    merge(cfg, adapter, out, "float32")
    return out


def test_the_merged_model_scores_and_answers_as_base_and_adapter_do(trained, merged, processor):
    cfg, rows, adapter = trained
    data = load_dataset(rows, processor, cfg, supervised=False)
    plans = [Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)), Plan("free")] * len(rows)
    found = {}
    models = {"adapter": load_model(cfg, adapter)[0], "base": plain_base(), "merged": AutoModelForImageTextToText.from_pretrained(merged)}
    for name, model in models.items():
        items = [data[index] for index in range(len(data))]
        searches = run_searches(model.eval(), data, items, plans[: len(rows)], 8, 4096)
        found[name] = [
            [place.logprob for place in search.all_answers()] if search.plan.decoding == "exact" else search.beam[0].ids
            for search in searches
        ]
    for unmerged, one in zip(found["adapter"], found["merged"], strict=True):
        assert unmerged == (one if isinstance(one[0], int) else pytest.approx(one, abs=1e-3))
    assert found["base"] != found["merged"], "an adapter that changes nothing would prove nothing"


def test_in_the_bases_precision_the_merge_rounds_once(trained, merged):
    cfg, _, adapter = trained
    merge(cfg, adapter, cfg.output_dir / "rounded")
    rounded = AutoModelForImageTextToText.from_pretrained(cfg.output_dir / "rounded", dtype="auto")
    exact = AutoModelForImageTextToText.from_pretrained(merged, dtype="auto").state_dict()
    assert rounded.dtype == torch.bfloat16
    same = [torch.equal(weight, exact[name].bfloat16()) for name, weight in rounded.state_dict().items()]
    assert all(same)


def test_plain_transformers_generates_the_same_answer_from_the_merged_folder_alone(trained, merged, processor):
    cfg, rows, adapter = trained
    data = load_dataset(rows[:1], processor, cfg, supervised=False)
    (expected,) = run_searches(load_model(cfg, adapter)[0], data, [data[0]], [Plan("free")], 8, 4096)
    own = AutoProcessor.from_pretrained(merged)
    prompt = "".join(prompt_parts(rows[0]["question_type"], rows[0]["question"], rows[0]["answer_candidates"]))
    image = load_image(cfg.data.image_root / rows[0]["image"], cfg.image)
    inputs = own(text=[prompt], images=[image], return_tensors="pt")
    output = AutoModelForImageTextToText.from_pretrained(merged).generate(**inputs, max_new_tokens=8)
    answer = output[0, inputs["input_ids"].shape[1] :].tolist()
    assert answer[: len(expected.beam[0].ids)] == expected.beam[0].ids


def test_plain_peft_loads_the_adapter_without_a_missing_or_unexpected_key(trained):
    _, _, adapter = trained
    model = PeftModel.from_pretrained(plain_base(), adapter)
    result = model.load_adapter(adapter, "again")
    assert not result.unexpected_keys and not [key for key in result.missing_keys if "lora" in key and "again" in key]
    saved = safe_open(adapter / "adapter_model.safetensors", "pt")
    weights = model.state_dict()
    for key in saved.keys():
        assert torch.equal(weights[re.sub(r"(lora_[AB])\.", r"\1.again.", key)], saved.get_tensor(key))


def test_vllm_finds_every_tensor_of_the_adapter(trained):
    """Its names for Qwen2-VL's language layers, each with an A and a B, and nothing on the vision tower, which it refuses."""
    _, _, adapter = trained
    names = set(safe_open(adapter / "adapter_model.safetensors", "pt").keys())
    mapped = set()
    for name in names:
        name = name.removeprefix("base_model.model.")
        prefix = next(prefix for prefix in VLLM_PREFIXES if name.startswith(prefix))
        mapped.add(VLLM_PREFIXES[prefix] + name.removeprefix(prefix))
    layers = plain_base().config.text_config.num_hidden_layers
    modules = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    expected = {
        f"language_model.model.layers.{layer}.{module}.lora_{ab}.weight" for layer in range(layers) for module in modules for ab in "AB"
    }
    assert mapped == expected and len(names) == len(mapped)


def test_the_script_refuses_an_existing_folder_and_leaves_nothing_half_written(trained, merged, monkeypatch, tmp_path):
    cfg, _, adapter = trained
    settings = [f"model_name={cfg.model_name}", f"output_dir={cfg.output_dir}", "image.max_pixels=12544"]
    monkeypatch.setattr(sys, "argv", ["merge_adapter.py", *settings, "--adapter", str(adapter), "--out", str(merged)])
    with pytest.raises(UserError, match="exists already; give a new folder"):
        merge_adapter.main()
    monkeypatch.setattr(sys, "argv", ["merge_adapter.py", *settings, "--adapter", str(adapter), "--out", str(tmp_path / "new")])
    merge_adapter.main()
    assert (tmp_path / "new" / "model.safetensors").is_file() and [path.name for path in tmp_path.iterdir()] == ["new"]
