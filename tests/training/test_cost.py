"""Predicted cost against torch's own counting of real training steps.    python -m pytest tests/training/test_cost.py -v"""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, TINY_MODEL, as_clips, make_experiment, random_model, with_random_lora
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from config import LoraConfig
from dataset import load_dataset
from model import forward
from model.forward import answer_loss, base_model, image_features, training_inputs, why_rows_stay_plain
from model.load import load_model
from model.nf4 import nf4_bytes
from train_exp1 import describe_step
from training.cost import (
    MicroBatch,
    Precision,
    _lora_bytes,
    epoch_micro_batches,
    layer_bytes,
    logits_bytes,
    model_flops,
    model_on_meta,
    model_shape,
    norm_bytes,
    step_flops,
    step_memory,
    weight_bytes,
)
from training.dry_run import describe_epoch


def ready(processor, checkpointing=False, dtype=torch.float32, lora=LoraConfig(dropout=0.0), family="qwen2_vl", **text):
    """A random model with LoRA as the Trainer would have it before a step; gradients are there, as from the step before."""
    model = with_random_lora(random_model(processor, family=family, **text).to(dtype), lora).train()
    if checkpointing:
        base_model(model).activation_checkpointing_enable({"use_reentrant": False})
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    return model


def train_step(model, batch, autocast=False):
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    loss.backward()


def counted_flops(function, *args):
    """By torch, with attention as plain products: its counter does not know the CPU's fused kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("vision, checkpointing", [(None, False), (None, True), ("merger", False), ("tower", False), ("tower", True)])
def test_flops_are_those_that_torch_counts(processor, batch, family, checkpointing, vision):
    model = ready(processor, checkpointing, lora=LoraConfig(dropout=0.0, vision=vision), family=family)
    shape, micro = model_shape(model), MicroBatch.of(batch)
    flops = step_flops(shape, micro, checkpointing)
    assert sum(flops.values()) == pytest.approx(counted_flops(train_step, model, batch), rel=0.01)
    forward = counted_flops(image_features, base_model(model).model, batch)
    assert (flops["vision"] == pytest.approx(forward, rel=0.01)) == (vision is None)
    if vision:  # forward and backward to one number, which no gradient of the language model reaches
        counted = counted_flops(lambda: sum_of_features(image_features(base_model(model).model, batch)).backward())
        again = step_flops(shape, micro, True)["recomputation"] - language_again(shape, micro)
        assert flops["vision"] + checkpointing * again == pytest.approx(counted, rel=0.01)
    assert (flops["recomputation"] > 0) == checkpointing


def sum_of_features(features):
    """A scalar of all that a tower hands over, Qwen3-VL's features for deeper layers included."""
    deeper = [part for layer in getattr(features, "deepstack_features", None) or [] for part in layer]
    return sum(part.sum() for part in [*features.pooler_output, *deeper])


def language_again(shape, micro):
    """Recomputed FLOPs of the language model alone, as of a frozen tower."""
    return step_flops(replace(shape, tower=replace(shape.tower, rank=0)), micro, True)["recomputation"]


@pytest.mark.parametrize("targets", [["o_proj"], ["gate_proj", "down_proj"], ["down_proj"], ["q_proj", "k_proj", "v_proj"]])
def test_the_first_layer_needs_no_gradient_below_its_lowest_lora(processor, batch, targets):
    model = ready(processor, lora=LoraConfig(dropout=0.0, target_modules=targets))
    flops = step_flops(model_shape(model), MicroBatch.of(batch))
    assert sum(flops.values()) == pytest.approx(counted_flops(train_step, model, batch), rel=0.01)


def test_flops_of_7b_by_hand():
    """Widths from its config.json: a row of 1,000 tokens, 10 of them supervised, no image."""
    heads, keys, hidden, mlp = 28 * 128, 4 * 128, 3584, 18944
    layer = hidden * (heads + 2 * keys + heads + 3 * mlp)
    text = dict(hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4)
    text["vocab_size"] = 152064
    config = AutoConfig.for_model("qwen2_vl", text_config=text, vision_config=dict(hidden_size=hidden))
    flops = step_flops(model_shape(model_on_meta(config, LoraConfig())), MicroBatch(1, 1000, 10, ()), checkpointing=True)
    assert flops["language"] == 2 * 2 * 28 * layer * 1000
    assert flops["attention"] == 3 * 28 * 4 * 1000**2 * heads
    assert flops["lora"] == 6 * 1000 * 40_370_176
    assert flops["lm_head"] == 4 * 10 * hidden * 152064
    assert flops["recomputation"] == 2 * 28 * layer * 1000 + 28 * 4 * 1000**2 * heads + 2 * 1000 * 40_370_176
    assert flops["vision"] == 0


def test_attention_is_over_prefixes_and_branches_or_over_whole_rows():
    """A prefix of 4 tokens among themselves, and two branches of 3, each beside the prefix; on a card 10 x 10 of both rows."""
    trees = MicroBatch(2, 10, 3, (), prefixes=(1, 4), branches=(2, 3))
    assert trees.pairs == 4 * 4 + 2 * 3 * (4 + 3) and replace(trees, all_pairs=True).pairs == 2 * 10 * 10
    assert MicroBatch(2, 10, 3, ()).pairs == 2 * 10 * 10, "rows that stay plain"


def test_model_flops_leave_recomputation_out(processor, batch):
    shape, micro = model_shape(ready(processor)), MicroBatch.of(batch)
    assert model_flops(shape, micro) == sum(step_flops(shape, micro).values()) < sum(step_flops(shape, micro, True).values())


def saved_bytes(model, batch, autocast):
    """Bytes that autograd keeps from forward to backward, parameters excluded: every storage once."""
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        inputs = training_inputs(model, batch)
        return kept_bytes(model, lambda: answer_loss(model(**inputs), batch["labels"]))


def kept_bytes(model, function):
    """Bytes that autograd keeps of a function's forward, parameters excluded: every storage once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in weights)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("dtype, autocast", [("fp32", False), ("bf16", False), ("bf16", True)])
def test_every_byte_that_a_layer_keeps_is_predicted(processor, batch, dtype, autocast, dropout, family):
    """A fourth layer keeps exactly as much as is said."""
    torch_dtype, lora = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], LoraConfig(dropout=dropout)
    three, four = (ready(processor, dtype=torch_dtype, lora=lora, family=family, num_hidden_layers=layers) for layers in (3, 4))
    measured = saved_bytes(four, batch, autocast) - saved_bytes(three, batch, autocast)
    assert measured == layer_bytes(model_shape(three), MicroBatch.of(batch), Precision(dtype, autocast, dropout, fused=False))


def test_every_byte_that_a_layer_keeps_under_one_mask_is_predicted(processor, batch, monkeypatch):
    """As on a card, whose rows of trees are not taken apart: one mask for all layers, which each was said to have of its own."""
    monkeypatch.setattr(forward, "computes_all_pairs", lambda device: True)
    three, four = (ready(processor, lora=LoraConfig(dropout=0.1), num_hidden_layers=layers) for layers in (3, 4))
    measured = saved_bytes(four, batch, False) - saved_bytes(three, batch, False)
    assert measured == layer_bytes(model_shape(three), MicroBatch.of(batch, all_pairs=True), Precision("fp32", False, 0.1, fused=False))


def test_the_bytes_that_a_layer_keeps_of_rows_that_stay_plain_are_predicted(experiment, processor):
    """They share their mask, too."""
    plain = dict(family="qwen2_5_vl", use_sliding_window=True, sliding_window=8)
    three, four = (ready(processor, num_hidden_layers=layers, layer_types=["sliding_attention"] * layers, **plain) for layers in (3, 4))
    data = load_dataset(experiment[1], processor, experiment[0], base_model(three).config, training=True)
    batch = data.collate([data[0], data[1], data[2]])
    measured = saved_bytes(four, batch, False) - saved_bytes(three, batch, False)
    said = layer_bytes(model_shape(three), MicroBatch.of(batch, data.shared), Precision("fp32", False, fused=False))
    assert not data.shared and measured <= said < 1.02 * measured


def allocated_peak(function, *args):
    """Bytes at the peak of what torch allocates, above what it held before."""
    function(*args)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function(*args)
    events = [(event.start_ns(), event.nbytes()) for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for _, change in sorted(events):
        now, peak = now + change, max(peak, now + change)
    return peak


@pytest.mark.parametrize("vision", ["merger", "tower"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_memory_of_a_step_with_a_trained_tower(processor, batch, checkpointing, vision, monkeypatch):
    """Of eight blocks beside three layers: the tower's part is a quarter of the peak."""
    monkeypatch.setitem(FAMILIES["qwen3_vl"][1], "depth", 8)
    lora, precision = LoraConfig(dropout=0.1, vision=vision), Precision("bf16", True, 0.1, fused=False)
    model = ready(processor, checkpointing, torch.bfloat16, lora, "qwen3_vl", num_hidden_layers=3)
    memory = step_memory(model_shape(model), MicroBatch.of(batch), precision, checkpointing)
    estimate = memory["peak"] - memory["weights"] - memory["lora"] - memory["batch"]
    assert estimate == pytest.approx(allocated_peak(train_step, model, batch, True), rel=0.1) and memory["tower"] > 0


@pytest.mark.parametrize("text", [dict(num_hidden_layers=12), dict(num_hidden_layers=3, intermediate_size=1024)], ids=["deep", "wide"])
@pytest.mark.parametrize("dtype, autocast, dropout", [("fp32", False, 0.0), ("bf16", False, 0.0), ("bf16", True, 0.1)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_memory_of_a_step(processor, batch, checkpointing, dtype, autocast, dropout, text):
    torch_dtype, lora = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], LoraConfig(dropout=dropout)
    model, precision = ready(processor, checkpointing, torch_dtype, lora, **text), Precision(dtype, autocast, dropout, fused=False)
    memory = step_memory(model_shape(model), MicroBatch.of(batch), precision, checkpointing)
    estimate = memory["peak"] - memory["weights"] - memory["lora"] - memory["batch"]
    assert estimate == pytest.approx(allocated_peak(train_step, model, batch, autocast), rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_memory_of_a_step_in_four_bits(experiment, processor, batch, checkpointing, tmp_path):
    """Of one matrix at a time the numbers are unpacked; else it is the step of a base that is not packed."""
    random_model(processor, num_hidden_layers=3, intermediate_size=1024).save_pretrained(tmp_path)
    for path in TINY_MODEL.glob("*token*.json"), TINY_MODEL.glob("*processor*.json"):
        for file in path:
            shutil.copy(file, tmp_path)
    cfg = experiment[0].model_copy(update={"model_name": str(tmp_path), "quantization": "nf4"})
    model = load_model(cfg, phase="train")[0]
    if checkpointing:
        base_model(model).activation_checkpointing_enable({"use_reentrant": False})
    precision = Precision("fp32", autocast=False, fused=False, nf4=True)
    memory = step_memory(model_shape(model), MicroBatch.of(batch), precision, checkpointing)
    train_step(model, batch)
    estimate = memory["peak"] - memory["weights"] - memory["lora"] - memory["batch"]
    assert estimate == pytest.approx(allocated_peak(train_step, model, batch), rel=0.1)


def test_fixed_memory_is_that_of_the_tensors(processor, batch):
    model = ready(processor)
    memory = step_memory(model_shape(model), MicroBatch.of(batch), Precision("fp32"))
    nbytes = lambda trained: sum(weight.nbytes for weight in model.parameters() if weight.requires_grad == trained)
    assert memory["weights"] == nbytes(False) and memory["lora"] == 4 * nbytes(True)
    assert memory["batch"] == batch["pixel_values"].nbytes


def test_four_bits_a_number_of_the_language_models_projections_and_the_rest_as_it_is(processor):
    shape = model_shape(ready(processor))
    packed = shape.layers * sum(rows * columns for rows, columns in shape.projections.values())
    nf4, plain = (weight_bytes(shape, Precision("bf16", nf4=nf4)) for nf4 in (True, False))
    blocks = sum(nf4_bytes(sizes) for sizes in shape.projections.values())
    assert plain == 2 * shape.parameters and nf4 == shape.layers * blocks + 2 * (shape.parameters - packed)


@pytest.mark.parametrize(("vocabulary", "supervised", "tokens"), [(2**24, 10, 4), (2**24, 3, 3), (2**27, 10, 1)])
def test_logits_exist_67_million_at_a_time(processor, vocabulary, supervised, tokens):
    """Those of sentences are not there at once (`model.forward.LOGITS_AT_ONCE`), those of a token are."""
    shape = replace(model_shape(ready(processor)), vocabulary=vocabulary)
    assert logits_bytes(shape, MicroBatch(1, 100, supervised, ())) == tokens * vocabulary * 12


def test_a_norm_keeps_its_input_as_it_is_where_a_card_fuses_it():
    of = lambda dtype, fused: norm_bytes(10, Precision(dtype, fused=fused))
    assert [of("bf16", True), of("bf16", False), of("fp32", True)] == [10 * 2 + 4, 10 * 4 + 4, 10 * 4 + 4]


def test_the_tower_is_the_peak_where_it_needs_more_than_all_that_comes_after_it(processor):
    """Many patches beside little text, as of a large picture with one question."""
    memory = step_memory(model_shape(ready(processor)), MicroBatch(1, 10, 1, (10_000,)), Precision("bf16"), True)
    assert memory["peak"] == memory["weights"] + memory["lora"] + memory["batch"] + memory["vision"]
    assert memory["vision"] > memory["activations"] + memory["layer"]


def test_dropouts_mask_is_a_byte_where_a_card_fuses_it(processor):
    """Of each number that goes into a projection; in Python it is as large as the number."""
    shape, of = model_shape(ready(processor)), lambda **facts: Precision("bf16", False, 0.1, **facts)
    names = set(shape.targets)
    inputs = sum(shape.projections[name][0] for name in names)
    fused, python = (_lora_bytes(shape, names, of(fused=fused)) for fused in (True, False))
    assert python - fused == inputs * (of(fused=False).lora_size - 1) > 0


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_the_model_on_meta_has_the_shape_of_the_real_one(processor, family):
    real = ready(processor, family=family)
    assert model_shape(model_on_meta(base_model(real).config, LoraConfig())) == model_shape(real)


@pytest.mark.parametrize("questions", ["all", 2, 1])
@pytest.mark.parametrize("tokens_per_row", [64, 4096])
def test_micro_batches_known_beforehand_are_those_collated(tmp_path, processor, questions, tokens_per_row):
    changes = {"train.questions_per_image": questions, "train.tokens_per_row": tokens_per_row, "train.train_bs": 3}
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **changes)
    for of_rows in (rows, as_clips(rows)):
        data = load_dataset(of_rows, processor, cfg, training=True)
        items = [data[index] for index in range(len(data))]
        assert epoch_micro_batches(data) == [MicroBatch.of(data.collate(items[at : at + 3])) for at in range(0, len(items), 3)]
    assert describe_epoch(data, epoch_micro_batches(data)).startswith("an epoch: 4 images, 18 questions; ")
    assert "one optimizer step: 6 lists of up to 4 images (3 x 2 accumulated x 1 processes)" in describe_step(data, cfg, 1)


def test_micro_batches_of_rows_that_stay_plain(experiment, processor):
    config = base_model(random_model(processor, family="qwen3_5")).config
    assert why_rows_stay_plain(config)
    for rows in (as_clips(experiment[1]), experiment[1]):
        data = load_dataset(rows, processor, experiment[0], config, training=True)
        items = [data[index] for index in range(len(data))]
        expected = [MicroBatch.of(data.collate(items[at : at + 4]), shared=False) for at in range(0, len(items), 4)]
        assert epoch_micro_batches(data) == expected
    assert epoch_micro_batches(data) == expected and expected[0].pairs == 4 * expected[0].length ** 2
