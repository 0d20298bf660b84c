"""Base model and adapter as one model: its answers, its precision, its files, and what is not merged.

python -m pytest tests/model/test_merge.py -v
"""

import shutil
import stat

import pytest
import torch
from conftest import plain_base
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from data.images import load_image
from dataset import load_dataset
from files import UserError
from model import load
from model.folders import write_sums
from model.load import load_model, load_processor
from model.merge import merge
from prediction.decode import Plan, candidate_trie, run_searches
from templates import prompt_parts

CANDIDATES = ("yes", "no", "not relevant", "pink; red", "11-20mm", "biopsy forceps")


def test_the_merged_model_scores_and_answers_as_base_and_adapter_do(trained_adapter, merged_model, processor):
    cfg, rows, adapter = trained_adapter
    data = load_dataset(rows, processor, cfg, supervised=False)
    plans = [Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)), Plan("free")] * len(rows)
    found = {}
    models = {
        "adapter": load_model(cfg, adapter)[0],
        "base": plain_base(),
        "merged": AutoModelForImageTextToText.from_pretrained(merged_model),
    }
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


def test_in_the_bases_precision_the_merge_rounds_once(trained_adapter, merged_model):
    cfg, _, adapter = trained_adapter
    merge(cfg, adapter, cfg.output_dir / "rounded")
    rounded = AutoModelForImageTextToText.from_pretrained(cfg.output_dir / "rounded", dtype="auto")
    exact = AutoModelForImageTextToText.from_pretrained(merged_model, dtype="auto").state_dict()
    assert rounded.dtype == torch.bfloat16
    same = [torch.equal(weight, exact[name].bfloat16()) for name, weight in rounded.state_dict().items()]
    assert all(same)


def test_plain_transformers_generates_the_same_answer_from_the_merged_folder_alone(trained_adapter, merged_model, processor):
    cfg, rows, adapter = trained_adapter
    data = load_dataset(rows[:1], processor, cfg, supervised=False)
    (expected,) = run_searches(load_model(cfg, adapter)[0], data, [data[0]], [Plan("free")], 8, 4096)
    own = AutoProcessor.from_pretrained(merged_model)
    prompt = "".join(prompt_parts(rows[0]["question_type"], rows[0]["question"], rows[0]["answer_candidates"]))
    image = load_image(cfg.data.image_root / rows[0]["image"], cfg.image)
    inputs = own(text=[prompt], images=[image], return_tensors="pt")
    output = AutoModelForImageTextToText.from_pretrained(merged_model).generate(**inputs, max_new_tokens=8)
    answer = output[0, inputs["input_ids"].shape[1] :].tolist()
    assert answer[: len(expected.beam[0].ids)] == expected.beam[0].ids


def test_the_files_of_a_merged_model_are_readable_as_others(merged_model, tmp_path):
    """safetensors makes private files."""
    (tmp_path / "by_open").write_text("")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (*merged_model.iterdir(), tmp_path / "by_open")}
    assert set(modes.values()) == {modes["by_open"]}, modes


@pytest.mark.parametrize("where", ["base", "adapter"])
def test_weights_that_are_not_finite_are_not_merged(trained_adapter, tmp_path, where):
    cfg, _, adapter = trained_adapter
    base, copy = (shutil.copytree(folder, tmp_path / name) for folder, name in ((cfg.model_name, "base"), (adapter, "adapter")))
    path = base / "model.safetensors" if where == "base" else copy / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[max(tensors)].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"1 of {len(tensors)} tensors hold NaN or infinity, first .*; "):
        merge(cfg.model_copy(update={"model_name": str(base)}), copy, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_precision_that_the_sum_overflows_is_not_written(trained_adapter, tmp_path):
    """float16 ends at 65,504: base and adapter are finite, their sum in that precision is not."""
    cfg, _, adapter = trained_adapter
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    tensors = load_file(copy / "adapter_model.safetensors")
    name = max(name for name in tensors if "lora_B" in name)
    tensors[name].fill_(1e6)
    save_file(tensors, copy / "adapter_model.safetensors", metadata={"format": "pt"})
    write_sums(copy)
    with pytest.raises(UserError, match="merged in torch.float16: 1 of .* tensors hold NaN or infinity, first .*; give --dtype float32"):
        merge(cfg, copy, tmp_path / "merged", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_merging_needs_no_gpus_precision(trained_adapter, tmp_path, monkeypatch):
    """It happens on the CPU, whatever `train.bf16` says of a card without bfloat16."""
    cfg, _, adapter = trained_adapter
    monkeypatch.setattr(load, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    merge(cfg, adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_an_interrupted_merge_leaves_nothing(trained_adapter, tmp_path, monkeypatch):
    cfg, _, adapter = trained_adapter

    def stops(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(load_processor(cfg)), "save_pretrained", stops)
    with pytest.raises(KeyboardInterrupt):
        merge(cfg, adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
