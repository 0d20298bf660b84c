"""Trees against plain transformers rows, and loading that refuses what doesn't fit.    python -m pytest tests/model/test_model.py -v"""

import json
import re

import pytest
import torch
from conftest import as_clips, make_experiment, random_model, with_random_lora
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from data import answer_space
from data.earlier_answers import EARLIER, with_earlier_answers
from data.images import load_image
from dataset import check_supervision, encode_answer, load_dataset
from files import UserError, json_text
from model import forward
from model.adapter import attach_lora, check_adapter, experiment_facts, load_adapter, save_adapter, start_from
from model.forward import answer_loss, attention_par, base_model, token_scores, training_inputs, why_rows_stay_plain
from model.load import compute_dtype, errors_explained, load_model, load_processor
from model.token_tree import IGNORE_INDEX
from prediction.decode import answer_questions
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


def test_several_images_of_a_row_are_exact_where_rows_stay_plain(experiment, processor):
    rows = as_clips(experiment[1])
    model = random_model(processor, family="qwen3_5", layer_types=["linear_attention", "full_attention"])
    data = load_dataset(rows, processor, experiment[0], training=True, model_config=model.config)
    batch = data.collate([data[index] for index in range(len(data))])
    loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"])
    expected = model(**plain_rows(rows, processor, experiment[0], data.image_root)).loss
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


def test_dropout_is_drawn_in_training_and_never_in_prediction(experiment, tmp_path):
    """The shipped model as the two scripts load it: a training step's loss is another each time, an answer's probability the same."""
    cfg, rows = experiment
    cfg = cfg.model_copy(update={"lora": cfg.lora.model_copy(update={"dropout": 0.5})})
    model, processor = load_model(cfg, phase="train")
    weights = next(base_model(model).model.visual.parameters())
    assert base_model(model).config._attn_implementation == "sdpa" and weights.dtype == compute_dtype(cfg)
    assert processor.image_processor.size["longest_edge"] == 12544
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
        data = load_dataset(rows, processor, cfg, training=True)
        inputs = training_inputs(model, data.collate([data[0]]))
        first, second = (answer_loss(model(**inputs), None) for _ in range(2))
    assert first != second
    save_adapter(model, tmp_path / "adapter", experiment_facts(cfg, {}))
    loaded, asked = load_model(cfg, tmp_path / "adapter")[0], load_dataset(rows[:1], processor, cfg, supervised=False)
    first, second = (next(iter(answer_questions(loaded, asked, cfg, "exact", 4)))[0][1] for _ in range(2))
    assert first.logprob == second.logprob


def test_a_model_that_is_not_there_is_one_line(experiment):
    with pytest.raises(UserError, match="model_name: nobody/nothing can't be loaded") as error:
        load_processor(experiment[0].model_copy(update={"model_name": "nobody/nothing"}))
    assert "\n" not in str(error.value)


def test_pixel_limits_reach_the_processor(tmp_path):
    cfg, rows = make_experiment(tmp_path, questions=(1,), sizes=[(300, 200)], **{"image.max_pixels": 50176})
    processor = load_processor(cfg)
    data = load_dataset(rows, processor, cfg)
    assert data[0]["image_grid_thw"].tolist() == [[1, 12, 18]]  # 300 x 200 -> 252 x 168 pixels


def test_a_loading_process_that_the_kernel_ended_is_out_of_memory():
    """torch raises the second error where it was waiting for the process, with the first as its cause."""
    with pytest.raises(UserError, match="out of memory; lower it"), errors_explained("lower it"):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(UserError, match="out of memory"), errors_explained("lower it"):
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly") from RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Killed. "
        )
    with pytest.raises(RuntimeError, match="shape"), errors_explained("lower it"):
        raise RuntimeError("a shape does not fit")
