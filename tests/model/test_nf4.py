"""A base of four bits a weight: the same objective and the same answers as its own weights unpacked, and refusals of what is another.

Needs bitsandbytes (requirements-dev.txt).    python -m pytest tests/model/test_nf4.py -v
"""

import shutil
import weakref

import bitsandbytes
import pytest
import torch
from conftest import TINY_MODEL, make_experiment, plain_base, with_random_lora
from peft.tuners.lora.bnb import Linear4bit
from safetensors.torch import load_file, save_file
from test_forward import assert_same_objective

from config import Config
from dataset import load_dataset
from files import UserError
from model import nf4
from model.adapter import attach_lora, check_adapter, experiment_facts, load_adapter, save_adapter
from model.forward import answer_loss, training_inputs, use_tree_attention
from model.load import describe_parameters, load_model
from prediction.decode import answer_questions
from prediction.setup import facts_of_files
from prediction.streaming import differences
from training.cost import Precision, model_shape, weight_bytes
from training.origin import check_init_adapter
from training.resume import refuse_other_settings

LAYERS, PROJECTIONS = 4, 7  # of the shipped model


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(config, enriched rows) on the shipped model in NF4, whose training has no dropout."""
    return make_experiment(tmp_path_factory.mktemp("nf4"), (1, 3, 5, 9), quantization="nf4")


@pytest.fixture(scope="module")
def adapter(small, tmp_path_factory):
    """An adapter's folder, of random weights."""
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    save_adapter(with_random_lora(plain_base(), small[0].lora), folder, experiment_facts(small[0], {}))
    return folder


@pytest.fixture
def model(small, adapter):
    """As training loads it, with LoRA that changes something."""
    model, _ = load_model(small[0], phase="train")
    with torch.no_grad():
        source = dict(load_adapter(plain_base(), adapter).named_parameters())
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(source[name])
    return model


def packed(model):
    return {name: weight for name, weight in model.named_parameters() if isinstance(weight, bitsandbytes.nn.Params4bit)}


def test_the_language_layers_matrices_are_packed_and_nothing_else_is_touched(model):
    weights = packed(model)
    assert len(weights) == LAYERS * PROJECTIONS and all(
        ".language_model.layers." in name and "_proj.base_layer" in name for name in weights
    )
    others = {weight.dtype for name, weight in model.named_parameters() if name not in weights}
    assert others == {torch.float32} and not any(weight.requires_grad for weight in weights.values())
    assert {weight.quant_state.quant_type for weight in weights.values()} == {"nf4"}, "not fp4, which is as long and less exact"
    lora = [layer for layer in model.modules() if isinstance(layer, Linear4bit)]
    assert len(lora) == LAYERS * PROJECTIONS and all("forward" not in vars(layer) for layer in lora), "peft's own forward"
    assert describe_parameters(model) == describe_parameters(attach_lora(plain_base().requires_grad_(False), Config().lora))


def test_the_bytes_of_the_weights_are_those_predicted(model):
    """To the byte, by the storages that there are: packed numbers, their scales, the scales' scales and the tables."""
    state = lambda weight: weight.quant_state
    parts = lambda of: [of.absmax, of.code, of.offset, of.state2.absmax, of.state2.code]
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    tensors = [*frozen, *(part for weight in packed(model).values() for part in parts(state(weight)))]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    assert sum(storages.values()) == weight_bytes(model_shape(model), Precision("fp32", nf4=True))
    assert weight_bytes(model_shape(model), Precision("fp32")) == sum(weight.nbytes for weight in plain_base().parameters())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_packed_backward_equals_separate_rows(small, processor, model, checkpointing):
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same_objective(*small, processor, model)


def test_a_look_at_the_validation_changes_neither_numbers_nor_gradients(small, processor, model):
    """bitsandbytes packs weights anew for CPUs with AVX512-BF16, computes in bfloat16 then, and no gradient passes any more."""
    data = load_dataset(small[1], processor, small[0], training=True)
    batch = data.collate([data[0], data[1]])
    loss = lambda: answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    before = loss()
    with torch.no_grad():
        seen = model.eval() and loss()
    model.train()
    after = loss()
    after.backward()
    assert torch.equal(before, seen) and torch.equal(before, after)
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def unpacked(model):
    """The shipped model with the numbers that a packed one stands for."""
    plain, numbers = plain_base(), {}
    for name, weight in packed(model).items():
        name = name.removeprefix("base_model.model.").replace(".base_layer", "")
        numbers[name] = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    result = plain.load_state_dict(numbers, strict=False)
    assert not result.unexpected_keys and len(numbers) == LAYERS * PROJECTIONS
    return plain


@pytest.fixture(scope="module")
def both(small, adapter):
    """(model in four bits, the same of unpacked weights), as prediction loads them."""
    four_bits, _ = load_model(small[0], adapter)
    return four_bits, use_tree_attention(load_adapter(unpacked(four_bits), adapter)).eval()


@pytest.mark.parametrize("decoding", ["exact", "greedy", "allowed_set", "free"])
def test_answers_are_those_of_the_unpacked_weights(small, processor, both, decoding):
    cfg, rows = small
    data, found = load_dataset(rows[:6], processor, cfg, supervised=False), []
    for one in both:
        found.append([answer for batch in answer_questions(one, data, cfg, decoding, 6) for _, answer in batch])
    assert [answer.text for answer in found[0]] == [answer.text for answer in found[1]]
    for ours, theirs in zip(*found):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_weights_are_packed_one_by_one(small, monkeypatch):
    """72 billion of them in bfloat16 are more than most machines' memory: those that are packed are gone before the next come."""
    seen, alive = [], []

    def look(weights):
        alive.append(sum(reference() is not None for reference in seen))
        seen.extend(weakref.ref(weight) for weight in weights.values())

    looked_at = nf4.looked_at_before
    monkeypatch.setattr("model.load.looked_at_before", lambda check: looked_at(look))
    load_model(small[0])
    assert len(alive) == LAYERS * PROJECTIONS and max(alive) <= 1


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_not_finite_is_seen_before_it_is_packed(small, tmp_path, value):
    folder = shutil.copytree(TINY_MODEL, tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="tensors hold NaN or infinity, first model.language_model.layers.1.mlp.up_proj.weight; download"):
        load_model(small[0].model_copy(update={"model_name": str(folder)}))


@pytest.mark.parametrize("was, now", [("none", "nf4"), ("nf4", "none")])
def test_another_precision_of_the_base_is_refused_by_name(small, adapter, was, now, tmp_path):
    """By prediction, by a run that starts from an adapter, and by one that goes on; what older adapters and runs don't say is none."""
    of = lambda quantization: small[0].model_copy(update={"quantization": quantization})
    folder = tmp_path / "adapter"
    facts = experiment_facts(of(was), {})
    save_adapter(with_random_lora(plain_base(), of(was).lora), folder, facts if was == "nf4" else without(facts, "quantization"))
    said = rf'was trained with quantization="{was}", this run has "{now}"; use the '
    check_adapter(folder, experiment_facts(of(was), {}))
    with pytest.raises(UserError, match=said):
        check_adapter(folder, experiment_facts(of(now), {}))
    start = of(now).train.model_copy(update={"init_adapter": folder})
    with pytest.raises(UserError, match=said):
        check_init_adapter(of(now).model_copy(update={"train": start}))
    made_from, now_from = (facts_of_files(of(name), "val", folder) for name in (was, now))
    assert list(differences(made_from, now_from)) == ["config quantization"], "which an unfinished or finished prediction is refused by"
    config = of(was).model_dump(mode="json")
    record = {"config": config if was == "nf4" else without(config, "quantization"), "world_size": 1}
    refuse_other_settings(record, of(was), 1)
    with pytest.raises(UserError, match=f'was started with quantization="{was}", not "{now}"; go on with what it was started with'):
        refuse_other_settings(record, of(now), 1)


def without(facts, key):
    return {name: value for name, value in facts.items() if name != key}
