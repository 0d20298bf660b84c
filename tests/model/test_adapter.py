"""LoRA on its layers, adapters saved and loaded whole, and whom one lets in: what its rules say counts, not how they are spelt.

python -m pytest tests/model/test_adapter.py -v
"""

import json
import re

import pytest
import torch
from conftest import ROOT, plain_base, random_model, with_random_lora
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from config import load_config
from data import answer_space
from dataset import load_dataset
from files import UserError, json_text, read_json
from model.adapter import attach_lora, check_adapter, experiment_facts, load_adapter, save_adapter, start_from
from model.forward import base_model
from model.on_disk import adapter_facts
from prediction.decode import answer_questions

TRAINED = {"rules": "verdict", "schema": "file", "space": "s"}
OLDER = {"rules": "file", "space": "s"}  # of code that knew the file alone


def check(folder, was, now):
    (folder / "experiment.json").write_text(json.dumps({"prompt_style": "plain", "answer_rules": was}))
    check_adapter(folder, {"prompt_style": "plain", "answer_rules": now})


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (TRAINED, {"rules": "verdict", "schema": "edited", "space": "s"}),  # a comment
        (TRAINED, TRAINED),
        (OLDER, OLDER),
        (OLDER, {"rules": "file", "schema": "file", "space": "s"}),  # no questions lie beside it: the file itself
        (OLDER, {"rules": "verdict", "schema": "file", "space": "s"}),
        (TRAINED, OLDER),
        (TRAINED, {**TRAINED, "words": "w"}),  # of code that knew no languages
        ({**TRAINED, "words": "w"}, {**TRAINED, "words": "w"}),
    ],
)
def test_what_says_the_same_is_accepted(tmp_path, was, now):
    check(tmp_path, was, now)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (TRAINED, {"rules": "another", "schema": "edited", "space": "s"}),
        (OLDER, {"rules": "edited", "schema": "edited", "space": "s"}),
        (OLDER, {"rules": "edited", "space": "s"}),
    ],
)
def test_another_schema_is_named_and_no_hash_shown(tmp_path, was, now):
    with pytest.raises(UserError) as error:
        check(tmp_path, was, now)
    assert str(error.value) == (
        f"adapter {tmp_path} was trained with another data/schema.py: the rules give questions of its training another type or other "
        "valid answers now; put the file back as it was, or train anew"
    )


def test_other_words_of_a_language_are_named(tmp_path):
    with pytest.raises(UserError, match=r"trained with another data/schema.py or words in data/languages/: the rules give questions"):
        check(tmp_path, {**TRAINED, "words": "these"}, {**TRAINED, "words": "those"})


def test_the_prompts_words_are_shared_with_training_and_older_adapters_had_the_default(tmp_path):
    usual = load_config(ROOT / "config_demo.yaml")
    german = load_config(ROOT / "config_demo.yaml", ["prompt.question=Frage"])
    older = {key: value for key, value in experiment_facts(usual, TRAINED).items() if key != "prompt"}
    for was, now, accepted in ((older, usual, True), (older, german, False), (experiment_facts(german, TRAINED), german, True)):
        (tmp_path / "experiment.json").write_text(json.dumps(was))
        if accepted:
            check_adapter(tmp_path, experiment_facts(now, TRAINED))
        else:
            with pytest.raises(UserError, match="was trained with prompt="):
                check_adapter(tmp_path, experiment_facts(now, TRAINED))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["quantization=nf4"], 'quantization="none", this run has "nf4"'),
        (["prompt_style=chat"], 'prompt_style="plain", this run has "chat"'),
        (["answer_prefix=' '"], 'answer_prefix="", this run has " "'),
        (["image.min_pixels=784"], "image="),
        (["image.max_pixels=50176"], "image="),
        (["data.max_frames=8"], "max_frames=null, this run has 8"),
        (["train.cascade=gold", "predict.cascade=true"], 'cascade="none", this run has "gold"'),
        (["data.answer_space=rules"], "valid_answers="),
        (["data.max_listed=3"], "valid_answers="),
    ],
)
def test_what_decides_a_prompt_or_a_picture_is_refused_where_training_had_another(tmp_path, overrides, said):
    was, now = (experiment_facts(load_config(ROOT / "config_demo.yaml", some), TRAINED) for some in ([], overrides))
    (tmp_path / "experiment.json").write_text(json.dumps(was))
    check_adapter(tmp_path, was)
    with pytest.raises(UserError, match=f"was trained with {re.escape(said)}"):
        check_adapter(tmp_path, now)


def test_stages_that_prompts_say_otherwise_are_another_experiment(tmp_path):
    was, now = (experiment_facts(load_config(ROOT / "config_demo.yaml"), TRAINED, *stages) for stages in ([], ["add"]))
    (tmp_path / "experiment.json").write_text(json.dumps(was))
    with pytest.raises(UserError, match='was trained with stage_prefix="keep", this run has "add"'):
        check_adapter(tmp_path, now)


@pytest.mark.parametrize("now", [{**TRAINED, "space": "another"}, {}])
def test_another_answer_space_is_another_experiment(tmp_path, now):
    with pytest.raises(UserError, match="was trained with answer_rules="):
        check(tmp_path, TRAINED, now)


@pytest.mark.parametrize("change", [{"dtype": "F33"}, {"shape": [3, 3]}, {"shape": "a"}, {"data_offsets": [4, 16]}])
def test_weights_whose_header_contradicts_them_are_refused_in_one_line(tmp_path, change):
    """The file has the length that its header gives, so that only who reads its tensors can know."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file({"a": torch.zeros(2, 2)}, path := tmp_path / "adapter_model.safetensors")
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    text = json.dumps({"a": {**header["a"], **change}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is no safetensors file \(.*; copy the adapter again") as said:
        start_from(model, tmp_path)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "facts",
    [{"model_name": 3}, {"image": []}, {"image": {"max_pixels": "many"}}, {"longest_answer": "4"}, {"trained_on": {}}, {"answer_rules": 1}],
)
def test_facts_that_no_training_wrote_are_refused_by_name(tmp_path, facts):
    (tmp_path / "experiment.json").write_text(json.dumps({"model_name": "m", "image": {"max_pixels": 12544}, **facts}))
    (key,) = facts
    with pytest.raises(UserError, match=f"experiment.json: {key} is .*, which no training wrote; copy the adapter again"):
        adapter_facts(tmp_path)


# --- LoRA on its layers


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_loras_product_is_pefts_under_autocast_and_pefts_own_without(experiment, processor, dropout):
    """In bfloat16, against float64 within peft's own error; without autocast bit for bit peft's."""
    cfg, model = experiment[0], random_model(processor)
    layer = with_random_lora(model, cfg.lora.model_copy(update={"dropout": dropout})).base_model.model.model.language_model.layers[0]
    layer = layer.mlp.down_proj.train()
    x = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(0), requires_grad=True)

    weights = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]

    def run(function):
        torch.manual_seed(1)
        output = function(x)
        return [output.detach(), *torch.autograd.grad(output.float().square().sum(), weights)]

    pefts = lambda x: type(layer).forward(layer, x)
    exact = run(pefts)
    assert all(torch.equal(*pair) for pair in zip(run(layer), exact))
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = run(layer), run(pefts)
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    error = lambda found, right: float((found.float() - right).norm() / right.norm())
    for right, one, other in zip(exact, ours, theirs):
        assert error(one, right) <= 1.2 * error(other, right) < 0.02


def test_lora_adds_the_product_of_its_matrices_times_alpha_by_r(model, experiment):
    cfg = experiment[0].lora.model_copy(update={"r": 4, "alpha": 12})
    layer = base_model(with_random_lora(model, cfg)).model.language_model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(5, a.shape[1])
    assert a.shape[0] == 4 and torch.allclose(layer(x) - layer.base_layer(x), 3 * x @ a.T @ b.T, atol=1e-5)


def test_lora_sits_on_the_language_model_only(model, experiment):
    lora = attach_lora(model, experiment[0].lora)
    trained = [name for name, weight in lora.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * 7 * 2  # layers x projections x (A, B)
    assert all(".language_model.layers." in name and ".lora_" in name for name in trained)
    assert not any(weight.requires_grad for weight in base_model(lora).model.visual.parameters())


def test_unknown_target_module_is_named(model, experiment):
    with pytest.raises(UserError, match="lora.target_modules: the language model has no qkv"):
        attach_lora(model, experiment[0].lora.model_copy(update={"target_modules": ["q_proj", "qkv"]}))  # qkv is the tower's


def test_lora_on_the_real_7b_shape(shared, experiment):
    """On the meta device: 40.4 M trainable parameters, as config_exp1.yaml says, none of them in the vision tower."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(shared / "qwen2-vl-processor")
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").requires_grad_(False)
        lora = attach_lora(model, experiment[0].lora)
    trained = [weight.numel() for weight in lora.parameters() if weight.requires_grad]
    assert len(trained) == 28 * 7 * 2 and sum(trained) == 40_370_176
    assert round(sum(weight.numel() for weight in lora.parameters()) / 1e9, 2) == 8.33


# --- saved and loaded


@pytest.fixture
def adapter(model, experiment, tmp_path):
    facts = experiment_facts(experiment[0], {"rules": "a", "train": "b"})
    lora = with_random_lora(model, experiment[0].lora)
    save_adapter(lora, tmp_path / "adapter", facts)
    return tmp_path / "adapter", lora, facts


def test_adapter_round_trip_is_exact(adapter, processor):
    folder, lora, _ = adapter
    loaded = load_adapter(random_model(processor), folder)
    saved = {name: weight for name, weight in lora.named_parameters() if "lora_" in name}
    found = {name: weight for name, weight in loaded.named_parameters() if "lora_" in name}
    assert saved.keys() == found.keys() and all(torch.equal(saved[name], found[name]) for name in saved)
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_a_training_that_has_not_stepped_yet_predicts_as_the_adapter_it_starts_from(adapter, experiment, processor):
    """A curriculum's next stage: its new LoRA, before a first step, against the old adapter as prediction loads it. Answer for answer."""
    folder, _, _ = adapter
    cfg, rows = experiment
    data = load_dataset(rows, processor, cfg, supervised=False)

    def answers(model):
        found = [pair for batch in answer_questions(model.eval(), data, cfg, "exact", 4) for pair in batch]
        return [(row["id"], answer.text, answer.scored, answer.logprob) for row, answer in found]

    trained, fresh = load_adapter(random_model(processor), folder), attach_lora(random_model(processor), cfg.lora)
    assert answers(fresh) != answers(trained)
    start_from(fresh, folder)
    assert answers(fresh) == answers(trained) and len(answers(trained)) == len(rows)


def test_the_answer_space_is_saved_beside_the_adapter(adapter):
    folder, lora, facts = adapter
    entry = {"type": "mcq", "candidates": ["ja"], "multi_label": False, "spellings": {}}
    space = {"mode": "mined", "questions": {"is it über": entry}, "given": {}}
    save_adapter(lora, folder, facts, {answer_space.SPACE_FILE: json_text(space)})
    path = folder / "answer_space.json"
    assert answer_space.load(path) == space and "über" in path.read_text("utf-8")


@pytest.mark.parametrize("damage", ["missing", "alien", "shape"])
def test_adapter_that_does_not_fit_is_refused(adapter, processor, damage):
    folder = adapter[0]
    tensors = load_file(folder / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    tensor = tensors.pop(name)
    if damage == "alien":
        tensors = {**tensors, name: tensor, name.replace("layers.0", "layers.7"): tensor.clone()}
    if damage == "shape":
        tensors[name] = tensor[:, :-1].contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match="does not fit the model: 1 tensors"):
        load_adapter(random_model(processor), folder)


def test_settings_that_peft_cannot_take_are_one_line_with_its_own_words(adapter, processor):
    path = adapter[0] / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layers_pattern": "layers"}))
    with pytest.raises(UserError, match=r"can't be loaded \(adapter_config.json: ValueError: `layers_pattern` cannot be used ") as error:
        load_adapter(random_model(processor), adapter[0])
    assert "\n" not in str(error.value)


def test_an_adapter_that_was_changed_since_is_refused_by_its_sums(adapter, processor):
    """Another scale, or other weights, load as well, and answer something else."""
    folder = adapter[0]
    config, sums = (folder / "adapter_config.json").read_text(), folder / "SHA256SUMS"
    (folder / "adapter_config.json").write_text(config.replace('"lora_alpha": ', '"lora_alpha": 1'))
    with pytest.raises(UserError, match="adapter_config.json: is not what was written there, by the SHA256SUMS beside it"):
        load_adapter(random_model(processor), folder)
    (folder / "adapter_config.json").write_text(config)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="adapter_model.safetensors: is not what was written there"):
        load_adapter(random_model(processor), folder)
    sums.unlink()  # as whoever changed it on purpose does, and adapters of older code have none
    load_adapter(random_model(processor), folder)


def test_saving_replaces_an_adapter_whole(adapter):
    folder, lora, facts = adapter
    (folder / "stale.txt").write_text("old")
    save_adapter(lora, folder, {**facts, "best": 1})
    assert not (folder / "stale.txt").exists() and json.loads((folder / "experiment.json").read_text())["best"] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_a_changed_schema_is_named_and_not_shown_as_hashes(adapter):
    """What the rules say of the training's questions decides; an adapter of older code knows the file's hash alone."""
    folder, lora, facts = adapter
    rules = {"rules": "1" * 64, "schema": "2" * 64, "space": "3" * 64}
    save_adapter(lora, folder, {**facts, "answer_rules": rules})
    check_adapter(folder, {**facts, "answer_rules": {**rules, "schema": "4" * 64}})  # a comment
    with pytest.raises(UserError, match="was trained with another data/schema.py: .*; put the file back as it was, or train anew") as error:
        check_adapter(folder, {**facts, "answer_rules": {**rules, "rules": "5" * 64, "schema": "4" * 64}})
    assert not re.search(r"\d{64}", str(error.value))
    save_adapter(lora, folder, {**facts, "answer_rules": {"rules": "2" * 64, "space": "3" * 64}})
    check_adapter(folder, {**facts, "answer_rules": rules})
    with pytest.raises(UserError, match="was trained with another data/schema.py"):
        check_adapter(folder, {**facts, "answer_rules": {**rules, "schema": "4" * 64}})


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, processor, experiment):
    model = with_random_lora(random_model(processor), experiment[0].lora)
    save_adapter(model, tmp_path / "adapter", {"best": {"step": 1}})
    name, weight = next((name, weight) for name, weight in model.named_parameters() if "lora_A" in name)
    with torch.no_grad():
        weight[0, 0] = float("inf")
    with pytest.raises(UserError, match="1 of 28 LoRA tensors hold NaN or infinity, first .*lora_A.weight: not saved"):
        save_adapter(model, tmp_path / "adapter", {"best": {"step": 2}})
    assert read_json(tmp_path / "adapter" / "experiment.json")["best"] == {"step": 1} and len(list(tmp_path.iterdir())) == 1
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[sorted(tensors)[0]][0, 0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(UserError, match=f"{path}: 1 of 28 tensors hold NaN or infinity"):
        load_adapter(random_model(processor), tmp_path / "adapter")


# --- served elsewhere: by plain PEFT and vLLM


# What vLLM's Qwen2VLForConditionalGeneration.hf_to_vllm_mapper does to prefixes, `base_model.model.` set aside (vLLM 0.10 to 0.11).
VLLM_PREFIXES = {"model.language_model.": "language_model.model.", "model.visual.": "visual.", "lm_head.": "language_model.lm_head."}


def test_plain_peft_loads_the_adapter_without_a_missing_or_unexpected_key(trained_adapter):
    _, _, adapter = trained_adapter
    model = PeftModel.from_pretrained(plain_base(), adapter)
    result = model.load_adapter(adapter, "again")
    assert not result.unexpected_keys and not [key for key in result.missing_keys if "lora" in key and "again" in key]
    saved = safe_open(adapter / "adapter_model.safetensors", "pt")
    weights = model.state_dict()
    for key in saved.keys():
        assert torch.equal(weights[re.sub(r"(lora_[AB])\.", r"\1.again.", key)], saved.get_tensor(key))


def test_vllm_finds_every_tensor_of_the_adapter(trained_adapter):
    """Its names for Qwen2-VL's language layers, each with an A and a B, and nothing on the vision tower, which it refuses."""
    _, _, adapter = trained_adapter
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
