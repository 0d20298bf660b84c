"""Adapters served elsewhere: merged for plain transformers, unmerged for plain PEFT and vLLM.

python -m pytest tests/test_merge_adapter.py -v
"""

import json
import re
import shutil
import stat
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TINY_MODEL, make_experiment, with_random_lora
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import merge_adapter
from config import load_config
from data.contents import weights_hash
from data.images import load_image
from data.preprocess import answer_rules, training_space
from dataset import load_dataset
from files import UserError, json_text, sha256
from model import load
from model.adapter import check_adapter, experiment_facts, save_adapter
from model.folders import write_sums
from model.forward import tree_inputs
from model.load import load_model, load_processor
from model.merge import merge
from model.on_disk import refuse_other_base
from prediction.decode import Plan, candidate_trie, run_searches
from templates import prompt_parts

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456789\n"
CANDIDATES = ("yes", "no", "not relevant", "pink; red", "11-20mm", "biopsy forceps")
# What vLLM's Qwen2VLForConditionalGeneration.hf_to_vllm_mapper does to prefixes, `base_model.model.` set aside (vLLM 0.10 to 0.11).
VLLM_PREFIXES = {"model.language_model.": "language_model.model.", "model.visual.": "visual.", "lm_head.": "language_model.lm_head."}


def plain_base(folder=TINY_MODEL):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


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
        with_random_lora(plain_base(cfg.model_name), cfg.lora),
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


def merge_script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["merge_adapter.py", *map(str, arguments)])
    merge_adapter.main()


def test_the_script_takes_model_and_pixels_from_the_adapter_and_leaves_nothing_half_written(trained, merged, monkeypatch, tmp_path):
    """No --config: the one beside the script names Qwen2-VL-7B and 200,704 pixels."""
    cfg, _, adapter = trained
    with pytest.raises(UserError, match="exists already; give a new folder"):
        merge_script(monkeypatch, "--adapter", adapter, "--out", merged)
    merge_script(monkeypatch, "--adapter", adapter, "--out", tmp_path / "new", "--dtype", "float32")
    found, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "new", merged))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    facts = json.loads((tmp_path / "new" / "merged_from.json").read_text())
    assert facts["adapter_sha256"] == sha256(adapter / "adapter_model.safetensors") and facts["base_source"] == "folder"
    assert facts["base_weights"] == weights_hash(cfg.model_name) and facts["date"] and facts["model_name"][0] != "/"
    assert AutoProcessor.from_pretrained(tmp_path / "new").image_processor.size["longest_edge"] == cfg.image.max_pixels == 12544
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_files_of_a_merged_model_are_readable_as_others(merged, tmp_path):
    """safetensors makes private files."""
    (tmp_path / "by_open").write_text("")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (*merged.iterdir(), tmp_path / "by_open")}
    assert set(modes.values()) == {modes["by_open"]}, modes


def test_a_base_that_was_moved_is_told_by_the_command_or_the_configuration(trained, monkeypatch, tmp_path):
    cfg, _, adapter = trained
    moved = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "/elsewhere/base"}))
    with pytest.raises(UserError, match="was trained on /elsewhere/base, which is not there; say where it is now: model_name=PATH"):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "a")
    with pytest.raises(UserError, match='was trained with model_name="base", this run has "tiny-qwen2-vl"; use the model it was trained'):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "a", f"model_name={TINY_MODEL}")
    (tmp_path / "c.yaml").write_text(f"model_name: {cfg.model_name}\n")
    given = load_config(tmp_path / "c.yaml")
    assert merge_adapter.as_trained(given, moved).model_name == cfg.model_name
    assert merge_adapter.as_trained(load_config(None, [f"model_name={cfg.model_name}"]), moved).model_name == cfg.model_name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "c.yaml"]


def test_what_is_merged_is_asked_as_the_adapter_was_trained(trained, tmp_path):
    """Prompt, answer prefix and pixel limits are the adapter's own, whatever a configuration says."""
    cfg, _, adapter = trained
    adapter = shutil.copytree(adapter, tmp_path / "adapter")
    other = load_config(None, ["prompt_style=chat", "answer_prefix=' '", "image.max_pixels=50176", "prompt.question=Frage"])
    (adapter / "experiment.json").write_text(json_text({**experiment_facts(other, {}), "model_name": "base"}))
    settings = lambda cfg: (cfg.prompt_style, cfg.answer_prefix, cfg.image, cfg.prompt)
    assert settings(merge_adapter.as_trained(cfg, adapter)) == settings(other)
    assert all(was != now for was, now in zip(settings(other), settings(cfg)))


def test_the_base_of_an_adapter_is_known_by_its_weights(trained, monkeypatch, tmp_path):
    """Prediction and merging took any model in a folder of the same name, and refused the same one in another."""
    cfg, _, adapter = trained
    moved, renamed, other = (
        shutil.copytree(source, tmp_path / name)
        for source, name in (
            (adapter, "adapter"),
            (cfg.model_name, "renamed"),
            (cfg.model_name, "other/base"),
        )
    )
    facts = experiment_facts(cfg, answer_rules(training_space(cfg, say=lambda line: None)))
    check = lambda adapter, base: refuse_other_base(adapter, str(base), weights_hash(base))
    (moved / "experiment.json").write_text(json_text({**facts, "base_weights": weights_hash(cfg.model_name)}))
    tensors = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 if "layers" in name else tensor for name, tensor in tensors.items()}, other / "model.safetensors")
    (renamed / "config.json").write_text(json.dumps(json.loads((renamed / "config.json").read_text())))  # another spelling
    assert check(moved, renamed) == [] and check_adapter(moved, facts | {"model_name": "renamed"}) is None
    with pytest.raises(UserError, match=r"on other weights \(base\) than those of .*base; give the model that it was trained on"):
        check(moved, other)
    with pytest.raises(UserError, match=rf"was trained on other weights \(base\) than those of {other}; give the model"):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "merged", f"model_name={other}")
    given = load_config(None, [f"model_name={renamed}"])
    assert merge_adapter.as_trained(given, moved).model_name == str(renamed) and not (tmp_path / "merged").exists()
    (note,) = check(adapter, other)
    assert note.endswith("compared by name (base), not by weights: the adapter does not say which, as older code wrote it")


def test_a_model_of_the_hub_is_known_by_the_weights_in_its_cache(monkeypatch, tmp_path):
    """There a large file is a link to one that is called by its SHA-256, and so nothing is read."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    source = TINY_MODEL / "model.safetensors"
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: str(snapshot / file))
    assert weights_hash("owner/tiny") is None, "not downloaded yet"
    (blobs / sha256(source)).write_text("not looked at")
    (snapshot / "model.safetensors").symlink_to(blobs / sha256(source))
    assert weights_hash("owner/tiny") == weights_hash(TINY_MODEL)
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    assert weights_hash("owner/tiny") is None, "not whole"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda base, adapter: (base / "model.safetensors").write_text(POINTER), "base/model.safetensors: is a Git LFS pointer"),
        (
            lambda base, adapter: (adapter / "adapter_model.safetensors").write_text(POINTER),
            "adapter_model.safetensors: is a Git LFS pointer",
        ),
        (lambda base, adapter: (adapter / "experiment.json").unlink(), "has no experiment.json; train it with train_exp1.py"),
        (lambda base, adapter: (adapter / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda base, adapter: shutil.rmtree(base), "which is not there; say where it is now: model_name=PATH"),
    ],
)
def test_merging_checks_before_torch_is_imported(trained, tmp_path, damage, message):
    """Its refusal took 14 of the 16 seconds that merging takes."""
    cfg, _, adapter = trained
    base, copy = (shutil.copytree(folder, tmp_path / name) for folder, name in ((cfg.model_name, "base"), (adapter, "adapter")))
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    damage(base, copy)
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['merge_adapter.py', '--adapter', {str(copy)!r}, '--out', 'never']; "
    code += f"import runpy; runpy.run_path({str(ROOT / 'merge_adapter.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("where", ["base", "adapter"])
def test_weights_that_are_not_finite_are_not_merged(trained, tmp_path, where):
    cfg, _, adapter = trained
    base, copy = (shutil.copytree(folder, tmp_path / name) for folder, name in ((cfg.model_name, "base"), (adapter, "adapter")))
    path = base / "model.safetensors" if where == "base" else copy / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[max(tensors)].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"1 of {len(tensors)} tensors hold NaN or infinity, first .*; "):
        merge(cfg.model_copy(update={"model_name": str(base)}), copy, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_precision_that_the_sum_overflows_is_not_written(trained, tmp_path):
    """float16 ends at 65,504: base and adapter are finite, their sum in that precision is not."""
    cfg, _, adapter = trained
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    tensors = load_file(copy / "adapter_model.safetensors")
    name = max(name for name in tensors if "lora_B" in name)
    tensors[name].fill_(1e6)
    save_file(tensors, copy / "adapter_model.safetensors", metadata={"format": "pt"})
    write_sums(copy)
    with pytest.raises(UserError, match="merged in torch.float16: 1 of .* tensors hold NaN or infinity, first .*; give --dtype float32"):
        merge(cfg, copy, tmp_path / "merged", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_merging_needs_no_gpus_precision(trained, tmp_path, monkeypatch):
    """It happens on the CPU, whatever `train.bf16` says of a card without bfloat16."""
    cfg, _, adapter = trained
    monkeypatch.setattr(load, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    merge(cfg, adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_an_interrupted_merge_leaves_nothing(trained, tmp_path, monkeypatch):
    cfg, _, adapter = trained

    def stops(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(load_processor(cfg)), "save_pretrained", stops)
    with pytest.raises(KeyboardInterrupt):
        merge(cfg, adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


# --- an adapter of a base in four bits


@pytest.fixture
def of_nf4(trained, tmp_path):
    """The adapter, as one that was trained on its base in NF4."""
    adapter = shutil.copytree(trained[2], tmp_path / "adapter")
    facts = json.loads((adapter / "experiment.json").read_text())
    (adapter / "experiment.json").write_text(json_text({**facts, "quantization": "nf4"}))
    return adapter


def test_an_adapter_of_four_bits_is_merged_into_the_whole_base_and_the_difference_is_said(
    trained, merged, of_nf4, processor, monkeypatch, tmp_path, capsys
):
    cfg, rows, _ = trained
    (tmp_path / "c.yaml").write_text(f"data: {{val_jsonl: {cfg.data.val_jsonl}, image_root: {cfg.data.image_root}}}\n")
    out = tmp_path / "out"
    merge_script(monkeypatch, "--config", tmp_path / "c.yaml", "--adapter", of_nf4, "--out", out, "--dtype", "float32")
    found, expected = (load_file(folder / "model.safetensors") for folder in (out, merged))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    said = capsys.readouterr().out
    number = r"(\d+\.\d{3})"
    line = re.search(
        rf"in nf4, and is merged into it in float32: at the (\d+) answer tokens of {len(rows)} rows logits differ by {number} on average "
        rf"and {number} at most, and the likeliest token is the same at (\d+)\n",
        said,
    )
    data = load_dataset(rows, processor, cfg)
    tokens = sum(len(answer_ids) for _, answer_ids in data.encoded.values())
    models = load_model(cfg.model_copy(update={"quantization": "nf4"}), of_nf4)[0], load_model(cfg, of_nf4)[0]
    batch = data.collate([data[index] for index in range(len(data))])
    answers = batch["labels"].flatten().roll(-1) != -100  # the tokens before them
    with torch.no_grad():
        before, after = (model(**tree_inputs(model, batch)).logits.flatten(0, 1)[answers] for model in models)
    apart = (before - after).abs()
    assert (int(line[1]), float(line[2]), float(line[3])) == (
        tokens,
        pytest.approx(float(apart.mean()), abs=1e-3),
        pytest.approx(float(apart.max()), abs=1e-3),
    )
    assert int(line[4]) == (before.argmax(1) == after.argmax(1)).sum() and apart.max() > 0.01


def test_where_the_difference_cannot_be_measured_it_is_said_how_it_can(trained, of_nf4, monkeypatch, tmp_path, capsys):
    cfg = trained[0]
    merge_script(monkeypatch, "--adapter", of_nf4, "--out", tmp_path / "a")
    note = "note: the adapter was trained on the base in nf4, so merged it answers a little differently; "
    assert f"{note}--config FILE with data.val_jsonl measures how much\n" in capsys.readouterr().out
    rows = [f"data.val_jsonl={cfg.data.val_jsonl}", f"data.image_root={tmp_path}", f"output_dir={tmp_path / 'outputs'}"]
    merge_script(monkeypatch, "--adapter", of_nf4, "--out", tmp_path / "b", *rows)
    assert re.search(rf"{note}how much can't be measured: row '0': image .* does not exist", capsys.readouterr().out)
    assert (tmp_path / "b" / "model.safetensors").is_file()
