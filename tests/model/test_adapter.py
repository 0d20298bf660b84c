"""Whom an adapter lets in: what its rules say of its training questions counts, not how the file of rules is spelt.

python -m pytest tests/model/test_adapter.py -v
"""

import json
import re

import pytest
import torch
from conftest import ROOT
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from config import load_config
from files import UserError
from model.adapter import check_adapter, experiment_facts, start_from
from model.on_disk import adapter_facts

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
