"""The forward of trees against plain transformers rows: losses, gradients, likeliest tokens.

python -m pytest tests/model/test_forward.py -v
"""

import re

import pytest
import torch
from conftest import as_clips, make_experiment, random_model, with_random_lora
from torch.nn.utils.rnn import pad_sequence

from data.earlier_answers import EARLIER, with_earlier_answers
from data.images import load_image
from dataset import check_supervision, encode_answer, load_dataset
from model import forward
from model.forward import answer_loss, attention_par, base_model, token_scores, training_inputs, why_rows_stay_plain
from model.token_tree import IGNORE_INDEX
from templates import IMAGE_PLACEHOLDER, prompt_parts


def plain_rows(rows, processor, cfg, image_root):
    """One row per question through the processor, as a textbook would: the independent computation."""
    ids, labels, pixels, grids = [], [], [], []
    patch = processor.image_processor.patch_size
    for row in rows:
        names = row.get("images") or [row["image"]]
        fields = row["question_type"], row["question"], row["answer_candidates"], cfg.prompt_style, processor
        prompt = "".join(prompt_parts(*fields, earlier=row.get(EARLIER, ())))
        prompt = prompt.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * len(names))
        encoded = processor(text=[prompt], images=[load_image(image_root / name, cfg.image, patch) for name in names], return_tensors="pt")
        answer = torch.tensor(encode_answer(processor.tokenizer, row["answer"]))
        ids.append(torch.cat([encoded["input_ids"][0], answer]))
        labels.append(torch.cat([torch.full_like(encoded["input_ids"][0], -100), answer]))
        pixels.append(encoded["pixel_values"])
        grids.append(encoded["image_grid_thw"])
    input_ids = pad_sequence(ids, True, processor.tokenizer.pad_token_id)
    return {
        "input_ids": input_ids,
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], True),
        "labels": pad_sequence(labels, True, -100),
        "mm_token_type_ids": (input_ids == processor.image_token_id).int(),
        "pixel_values": torch.cat(pixels),
        "image_grid_thw": torch.cat(grids),
    }


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}


def relative_difference(one, other):
    difference = sum(((one[name] - other[name]) ** 2).sum() for name in one).sqrt()
    return float(difference / sum((grad**2).sum() for grad in one.values()).sqrt())


def assert_same_objective(cfg, rows, processor, model, **dataset_arguments):
    """One backward over the training batch of all rows against plain transformers; returns the batch."""
    data = load_dataset(rows, processor, cfg, training=True, **dataset_arguments)
    batch = data.collate([data[index] for index in range(len(data))])
    packed_loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    packed = gradients(model, packed_loss)
    plain_loss = model(**plain_rows(rows, processor, cfg, data.image_root)).loss
    plain = gradients(model, plain_loss)
    assert abs(packed_loss - plain_loss) / plain_loss < 1e-5
    layers = base_model(model).config.get_text_config().num_hidden_layers
    assert len(plain) == layers * 7 * 2 and all(grad.abs().max() > 0 for grad in plain.values())
    assert relative_difference(plain, packed) < 1e-5
    return batch


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_logits_of_many_answer_tokens_exist_a_few_at_a_time(experiment, processor, family, monkeypatch):
    """Losses, likeliest tokens and gradients as of all at once; sentences of a few images would need gigabytes."""
    cfg, rows = experiment
    types = {"layer_types": ["linear_attention", "full_attention"]} if family == "qwen3_5" else {}
    model = with_random_lora(random_model(processor, family=family, **types), cfg.lora).train()
    data = load_dataset(rows, processor, cfg, training=True, model_config=base_model(model).config)
    batch = data.collate([data[index] for index in range(len(data))])
    sizes = []
    base_model(model).lm_head.register_forward_hook(lambda module, args, logits: sizes.append(len(logits)))
    whole = model(**training_inputs(model, batch))
    expected = gradients(model, answer_loss(whole, None))
    (answers,) = sizes
    sizes.clear()
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 5 * base_model(model).lm_head.out_features + 1)
    scores = model(**training_inputs(model, batch))
    found = gradients(model, answer_loss(scores, None))
    assert answers > 15 and max(sizes) == 5 and sum(sizes) == 2 * answers  # the backward computes them again
    assert torch.allclose(scores.losses, whole.losses, atol=1e-6) and torch.equal(scores.predicted, whole.predicted)
    assert relative_difference(expected, found) < 1e-5


def training_config(cfg, **changes):
    return cfg.model_copy(update={"train": cfg.train.model_copy(update=changes)})


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_one_packed_backward_equals_separate_rows(experiment, processor, checkpointing, style):
    cfg = experiment[0].model_copy(update={"prompt_style": style})
    model = with_random_lora(random_model(processor), cfg.lora).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same_objective(cfg, experiment[1], processor, model)


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_a_cascades_training_equals_separate_rows_and_supervises_no_earlier_answer(experiment, processor, style):
    """Also with one question a row: it is told what was answered before, wherever that is trained."""
    cfg = experiment[0].model_copy(update={"prompt_style": style})
    rows = [{**row, "stage": int(row["id"]) % 3 + 1} for row in experiment[1]]
    rows = with_earlier_answers(rows, {row["id"]: row["answer"] for row in rows})
    assert {len(row[EARLIER]) for row in rows} >= {0, 1, 2, 3, 6}
    model = with_random_lora(random_model(processor), cfg.lora).train()
    batch = assert_same_objective(cfg, rows, processor, model)
    answers = [encode_answer(processor.tokenizer, row["answer"]) for row in rows]
    assert (batch["labels"] != IGNORE_INDEX).sum() == sum(map(len, answers))
    single = load_dataset(rows, processor, training_config(cfg, questions_per_image=1), training=True)
    for index in range(len(single)):
        check_supervision(single.collate([single[index]]), [single[index]["rows"]], processor, cfg)
        (row,), ids = single[index]["rows"], single[index]["input_ids"]
        assert processor.tokenizer.decode(ids).count("Answer: ") == len(row[EARLIER])


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_gpus_masked_rows_are_the_same_objective(tmp_path, processor, family, monkeypatch):
    """All pairs under a mask, and norms in one kernel: both by kernels that a CPU has too."""
    monkeypatch.setattr(forward, "computes_all_pairs", lambda device: True)
    monkeypatch.setattr(forward, "on_gpu", lambda tensor: True)
    norms, rms_norm = [], forward.rms_norm
    monkeypatch.setattr(forward, "rms_norm", lambda states, *rest: norms.append(states) or rms_norm(states, *rest))
    cfg, rows = make_experiment(tmp_path, questions=(20, 1, 12, 4))
    model = with_random_lora(random_model(processor, family=family), cfg.lora).train()
    batch = assert_same_objective(cfg, rows, processor, model)
    assert len(norms) == 2 * (2 * (4 if family == "qwen3_vl" else 2) + 1)  # a packed and a plain forward of two layers
    inputs = training_inputs(model, batch)
    assert "layout" not in inputs and inputs["attention_mask"].shape[0] == len(batch["input_ids"]) < 4


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_several_images_share_a_row_exactly_in_every_family(tmp_path, processor, family):
    """Images of different sizes with 1 to 20 questions: two of them in one row beside the longest."""
    cfg, rows = make_experiment(tmp_path, questions=(20, 1, 12, 4))
    model = with_random_lora(random_model(processor, family=family), cfg.lora).train()
    batch = assert_same_objective(cfg, rows, processor, model)
    assert len(batch["input_ids"]) < len(batch["prefix_ids"]) == 4


@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_several_images_of_a_row_are_exact_in_every_family(tmp_path, processor, family, style, monkeypatch):
    """Lists of one to four images of different sizes, some in several lists or twice in one, beside each other in a row."""
    cfg, rows = make_experiment(tmp_path, questions=(4, 1, 2, 3))
    cfg, rows = cfg.model_copy(update={"prompt_style": style}), as_clips(rows)
    model = with_random_lora(random_model(processor, family=family), cfg.lora).train()
    inner, seen = base_model(model).model, []
    tower = inner.get_image_features
    monkeypatch.setattr(inner, "get_image_features", lambda pixels, grid, **kwargs: seen.append(len(grid)) or tower(pixels, grid, **kwargs))
    batch = assert_same_objective(cfg, rows, processor, model)
    assert len(batch["input_ids"]) < len(batch["prefix_ids"]) == 4 and len(batch["image_index"]) == 3 + 1 + 2 + 4
    assert seen == [4, 4 * 3 + 1 + 2 * 2 + 3 * 4], "four images in one call; the plain rows encode each of theirs"


def test_several_images_of_a_row_are_exact_where_rows_stay_plain(tmp_path, processor):
    cfg, rows = make_experiment(tmp_path, questions=(2, 1, 1, 2))
    rows = as_clips(rows)
    model = random_model(processor, family="qwen3_5", layer_types=["linear_attention", "full_attention"])
    data = load_dataset(rows, processor, cfg, training=True, model_config=model.config)
    batch = data.collate([data[index] for index in range(len(data))])
    loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    expected = model(**plain_rows(rows, processor, cfg, data.image_root)).loss
    assert abs(loss - expected) / expected < 1e-5


@pytest.mark.parametrize("cap", [1, 2])
def test_groups_of_one_image_are_exact_and_its_tower_runs_once(tmp_path, processor, cap, monkeypatch):
    cfg, rows = make_experiment(tmp_path, questions=(5, 3))
    model = with_random_lora(random_model(processor), cfg.lora).train()
    inner, seen = base_model(model).model, []
    tower = inner.get_image_features
    monkeypatch.setattr(inner, "get_image_features", lambda pixels, grid, **kwargs: seen.append(len(grid)) or tower(pixels, grid, **kwargs))
    batch = assert_same_objective(training_config(cfg, questions_per_image=cap), rows, processor, model)
    assert len(batch["prefix_ids"]) == {1: 8, 2: 5}[cap]
    assert seen == [2, 8], "two images in one call; the plain rows, which come second, encode one a question"


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_the_last_layer_computes_what_is_read_and_nothing_else(experiment, processor, family):
    """Its MLP has the read tokens alone, the other layer's all; what is read is what it would be otherwise."""
    cfg, rows = experiment
    data = load_dataset(rows, processor, training_config(cfg), training=True)
    batch = data.collate([data[index] for index in range(len(data))])
    model, seen = random_model(processor, family=family), []
    for layer in model.model.language_model.layers:
        layer.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:-1].numel()))
    inputs = training_inputs(model, batch)
    some, read = model(**inputs).losses, inputs.pop("read")
    assert len(read) == (batch["labels"] != IGNORE_INDEX).sum() and seen == [batch["labels"].numel(), len(read)]
    seen.clear()
    assert torch.allclose(model(**inputs).losses, some, atol=1e-5) and seen == [batch["labels"].numel()] * 2


@pytest.mark.parametrize(
    "family, changes", [("qwen2_vl", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}), ("qwen3_5", {})]
)
def test_a_family_that_cannot_be_packed_falls_back_to_plain_rows(experiment, processor, family, changes):
    types = {"layer_types": ["linear_attention", "full_attention"]} if family == "qwen3_5" else {}
    model = random_model(processor, family=family, **changes, **types)
    assert re.fullmatch(r"has (sliding|linear)_attention layers, which take no tree mask", why_rows_stay_plain(model.config))
    data = load_dataset(experiment[1], processor, experiment[0], training=True, model_config=model.config)
    batch = data.collate([data[index] for index in range(len(data))])
    assert batch["input_ids"].shape[0] == len(experiment[1])
    loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    expected = model(**plain_rows(experiment[1], processor, experiment[0], data.image_root)).loss
    assert abs(loss - expected) / expected < 1e-5


def test_attention_par_of_the_real_7b(shared):
    from transformers import AutoConfig

    layer = 2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944
    config = AutoConfig.from_pretrained(shared / "qwen2-vl-processor")
    assert attention_par(config) == 2 * layer / (4 * 3584) == 5 * attention_par(config, gpu=True)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_families_that_can_be_packed_are_known_from_their_config(processor, family):
    assert why_rows_stay_plain(random_model(processor, family=family).config) is None


def test_branches_would_differ_if_they_saw_each_other(experiment, processor):
    """The equality above can fail: with a plain causal mask the loss is another."""
    model = random_model(processor)
    data = load_dataset(experiment[1], processor, experiment[0])
    batch = data.collate([data[3]])
    loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    length = batch["input_ids"].shape[1]
    batch["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    assert abs(answer_loss(model(**training_inputs(model, batch)), batch["labels"]) - loss) > 1e-3


def test_answer_loss_is_a_mean_over_the_step():
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), torch.tensor([0, 1, 1])
    by_hand = -logits.log_softmax(-1)[range(3), targets]
    identity = torch.nn.Linear(2, 2, bias=False)
    identity.weight.data = torch.eye(2)
    scores = token_scores(identity, logits, targets)
    assert torch.allclose(scores.losses, by_hand) and scores.predicted.tolist() == [0, 1, 0]
    assert torch.allclose(answer_loss(scores, None), by_hand.mean())
    assert torch.allclose(answer_loss(scores, None, num_items_in_batch=12), by_hand.sum() / 12)


def test_a_loss_of_half_precision_is_computed_in_float32():
    """The grid of bfloat16 is 0.03 about a loss of 7, and a mean over many answers would keep that error."""
    torch.manual_seed(0)
    lm_head, hidden = torch.nn.Linear(64, 1000, dtype=torch.bfloat16), torch.randn(20, 64, dtype=torch.bfloat16)
    targets = torch.arange(20)
    exact = -lm_head(hidden).double().log_softmax(-1)[range(20), targets]
    losses = token_scores(lm_head, hidden, targets).losses
    assert losses.dtype == torch.float32 and torch.allclose(losses.double(), exact, atol=1e-5)
