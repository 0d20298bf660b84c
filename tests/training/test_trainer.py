"""The Trainer on trees: exact accumulation, validation by type, files kept current.

python -m pytest tests/training/test_trainer.py -v
"""

import json
import math
import os
import re
import shutil
import signal
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import ROOT, make_experiment, random_model, with_random_lora
from transformers import EvalPrediction, TrainerCallback, set_seed

from config import load_config
from data.preprocess import ensure_enriched
from dataset import load_dataset, prompt_fields
from files import GOES_ON, SIGNALS, Interrupted, UserError, heed_signals, read_json, signals_later
from model.adapter import attach_lora, load_adapter
from model.folders import write_sums
from model.forward import answer_loss, base_model, training_inputs
from model.load import load_model
from templates import prompt_parts
from training.callbacks import training_callbacks
from training.checkpoints import best_score, mend_adapter, newest_whole
from training.trainer import (
    answer_metrics,
    build_trainer,
    exact_match_by_type,
    in_rows,
    training_arguments,
    validation_arguments,
)

EOS = 9


class Gradients(TrainerCallback):
    """Keeps the gradients that the first optimizer step is about to use."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == 0:
            self.grads = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}


def first_step(tmp_path, processor, bs, accum, **changes):
    cfg, rows = make_experiment(
        tmp_path, (1, 3, 5, 9), **{"train.train_bs": bs, "train.grad_accum": accum, "train.max_steps": 1, **changes}
    )
    model = with_random_lora(random_model(processor), cfg.lora)
    data = load_dataset(rows, processor, cfg, training=True)
    seen = Gradients()
    args = training_arguments(cfg, tmp_path, eval_strategy="no", save_strategy="no", max_grad_norm=0.0, logging_first_step=True)
    trainer = build_trainer(model, data, None, args, [seen])
    trainer.train()
    return trainer.state.log_history[0]["loss"], seen.grads


def test_accumulation_is_exact(tmp_path, processor):
    """4 images at once = 4 times 1 image, though the images hold 1, 3, 5 and 9 questions: a mean of means would differ."""
    loss, grads = first_step(tmp_path, processor, 4, 1)
    accumulated_loss, accumulated = first_step(tmp_path, processor, 1, 4)
    assert loss == pytest.approx(accumulated_loss, rel=1e-5)
    difference = sum(((grads[name] - accumulated[name]) ** 2).sum() for name in grads)
    assert (difference / sum((grad**2).sum() for grad in grads.values())).sqrt() < 1e-5


def test_logged_loss_is_the_mean_over_answer_tokens(tmp_path, processor):
    loss, _ = first_step(tmp_path, processor, 2, 2)
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9))
    data = load_dataset(rows, processor, cfg)
    batch = data.collate([data[index] for index in range(4)])
    model = with_random_lora(random_model(processor), cfg.lora)
    assert loss == pytest.approx(float(answer_loss(model(**training_inputs(model, batch)), batch["labels"])), rel=1e-4)


def scenes(tmp_path, count, **changes):
    """(config, enriched rows) of the demo's first scenes, 9 questions each."""
    demo = ROOT / "data" / "demo" / "scenes"
    lines = (demo / "train.jsonl").read_text().splitlines()[: 9 * count]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    settings = {"data.train_jsonl": tmp_path / "train.jsonl", "output_dir": tmp_path / "out", "train.train_bs": 4, **changes}
    cfg = load_config(ROOT / "config_demo.yaml", [f"{key}={value}" for key, value in settings.items()])
    return cfg, ensure_enriched(cfg, "train")


def test_no_token_is_computed_twice(tmp_path, processor):
    """What the language model and the tower are given, counted at their doors, against the rows' own token counts."""
    cfg, rows = scenes(tmp_path, 20, **{"train.epochs": 1, "train.logging_steps": 1})
    model = with_random_lora(random_model(processor), cfg.lora)
    computed, images = [], []
    inner = base_model(model).model
    inner.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["inputs_embeds"][..., 0].numel()), with_kwargs=True
    )
    inner.visual.register_forward_pre_hook(lambda module, args, kwargs: images.append(len(kwargs["grid_thw"])), with_kwargs=True)
    data = load_dataset(rows, processor, cfg, training=True)
    trainer = build_trainer(model, data, None, training_arguments(cfg, tmp_path, eval_strategy="no", save_strategy="no"))
    trainer.train()
    encode = lambda text: len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    prompts = [prompt_parts(*prompt_fields(row, cfg.data.max_listed)) for row in rows]
    prefix = encode(prompts[0][0]) - 1 + 16
    branches = sum(encode(branch) + encode(row["answer"]) + 1 for row, (_, branch) in zip(rows, prompts))
    unique, plain = 20 * prefix + branches, 180 * prefix + branches
    assert images == [4] * 5, "each image once, those of a step in one call"
    assert trainer.speed.totals.tolist() == [180, unique, sum(computed), plain, 0], "no FLOPs on a CPU, whose peak is not known"
    assert unique <= sum(computed) <= 1.05 * unique < plain / 1.2
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert sum(entry["shared_tokens_saved"] for entry in logs) == plain - unique
    assert all(0 <= entry["padding"] <= 0.05 and entry["tokens_per_second"] > entry["questions_per_second"] > 0 for entry in logs)


def test_every_epoch_is_drawn_anew_and_known_from_the_seed(tmp_path, processor):
    cfg, rows = scenes(tmp_path, 8, **{"train.epochs": 2, "train.questions_per_image": 4, "train.train_bs": 3, "train.grad_accum": 2})
    data, seen = load_dataset(rows, processor, cfg, training=True), []
    collate = data.collate
    data.collate = lambda items: seen.append([[row["id"] for row in item["rows"]] for item in items]) or collate(items)
    model = with_random_lora(random_model(processor), cfg.lora)
    build_trainer(model, data, None, training_arguments(cfg, tmp_path, eval_strategy="no", save_strategy="no")).train()
    epochs = [[group for batch in half for group in batch] for half in (seen[:8], seen[8:])]
    for epoch, groups in enumerate(epochs):
        data.set_epoch(epoch)
        assert groups == [[row["id"] for row in rows] for rows in data.groups]
        assert Counter(row_id for group in groups for row_id in group) == Counter(row["id"] for row in rows)
    assert len(epochs[0]) == 24 and sorted(map(sorted, epochs[0])) != sorted(map(sorted, epochs[1]))


def test_only_the_log_lines_speak(tmp_path, model, experiment, processor, capsys):
    """transformers' own printer and progress bars are off."""
    cfg, rows = experiment
    dataset = load_dataset(rows, processor, cfg, training=True)
    cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update={"max_steps": 2, "logging_steps": 1})})
    args = training_arguments(cfg, tmp_path, eval_strategy="no", save_strategy="no")
    build_trainer(with_random_lora(model, cfg.lora), dataset, None, args).train()
    printed = capsys.readouterr()
    assert [line.split("  ")[0] for line in printed.out.splitlines()] == ["training 2 steps, a line every 1", "step 1/2", "step 2/2"]
    assert "\r" not in printed.err and "it/s" not in printed.err


def test_a_tensor_that_gets_no_gradient_ends_every_training_at_its_first_step(tmp_path, processor, model):
    cfg, rows = make_experiment(tmp_path, (1,), **{"train.max_steps": 2})
    lora = with_random_lora(model, cfg.lora)
    lora.idle = torch.nn.Parameter(torch.zeros(1))
    args = training_arguments(cfg, tmp_path, eval_strategy="no", save_strategy="no")
    trainer = build_trainer(lora, load_dataset(rows, processor, cfg, training=True), None, args)
    with pytest.raises(AssertionError, match="^1 LoRA tensors got no gradient, first idle$"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_predicted_tokens_and_losses_stand_where_labels_do():
    labels = torch.tensor([[-100, 7, -100], [7, -100, 7]])
    predicted, losses = in_rows((torch.tensor([0.5, 1.5, 2.5]), torch.tensor([1, 0, 2])), labels)
    assert predicted.tolist() == [[-100, 1, -100], [0, -100, 2]]
    assert losses.tolist() == [[-100, 0.5, -100], [1.5, -100, 2.5]] and losses.dtype == torch.float32


def test_exact_match_by_type_needs_every_token_and_eos():
    labels = np.array([[-100, 5, 6, EOS, -100, 5, EOS], [-100, 7, EOS, -100, -100, -100, -100]])
    predictions = np.array([[-100, 5, 6, EOS, -100, 5, 5], [-100, 7, EOS, -100, -100, -100, -100]])
    metrics = exact_match_by_type(labels, predictions, ["color", "yes_no", "color"])
    assert metrics == {"exact_match": 2 / 3, "exact_match_yes_no": 0.0, "exact_match_color": 1.0}


def test_macro_is_the_mean_of_types_and_loss_that_of_answer_tokens():
    """Three colours right, one yes_no wrong: 3/4 of the answers, 1/2 of the types. Losses in a batch's padding don't count."""
    labels = np.array([[5, EOS, 5, EOS], [6, EOS, -100, -100], [7, EOS, -100, -100]])
    tokens = np.array([[5, EOS, 5, EOS], [6, EOS, -100, -100], [5, EOS, -100, -100]])
    losses = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, -100.0, -100.0], [7.0, 8.0, -100.0, -100.0]], dtype=np.float32)
    metrics = answer_metrics(EvalPrediction((tokens, losses), labels), ["color", "color", "color", "yes_no"])
    assert (metrics["exact_match"], metrics["macro_exact_match"], metrics["token_loss"]) == (0.75, 0.5, 4.5)


def test_validation_loss_is_the_mean_over_answer_tokens_whatever_the_batch(tmp_path, processor):
    """Images of 1, 3, 5 and 9 questions: a mean of batches' means depends on who shares a batch."""
    found = []
    for size in (1, 2, 3, 4):
        cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **{"train.eval_bs": size})
        model, data = random_model(processor), load_dataset(rows, processor, cfg)
        found.append(build_trainer(model, data, data, training_arguments(cfg, tmp_path, eval_strategy="no")).evaluate()["eval_loss"])
    batch = data.collate([data[index] for index in range(4)])
    with torch.no_grad():
        by_token = float(answer_loss(model(**training_inputs(model, batch)), batch["labels"]))
    assert found == pytest.approx([by_token] * 4, rel=1e-6)


def test_teacher_forced_exact_match_equals_free_greedy_when_right(tmp_path, processor):
    """Through the Trainer's own evaluation loop, with padding between batches: the same as counting by hand."""
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **{"train.eval_bs": 2})
    model = random_model(processor)
    data = load_dataset(rows, processor, cfg)
    trainer = build_trainer(model, data, data, training_arguments(cfg, tmp_path, eval_strategy="no"))
    metrics = trainer.evaluate()
    right = []
    for index in range(4):
        item = data[index]
        batch = data.collate([item])
        predicted = model(**training_inputs(model, batch)).predicted
        targets = batch["labels"][batch["labels"] != -100]
        ends = (targets == processor.tokenizer.eos_token_id).nonzero()[:, 0].tolist()
        for start, end in zip([0, *[end + 1 for end in ends]], ends):
            right.append(torch.equal(predicted[start : end + 1], targets[start : end + 1]))
    assert metrics["eval_exact_match"] == pytest.approx(sum(right) / len(rows)) and len(right) == len(rows)
    assert {name for name in metrics if "exact_match_" in name} == {f"eval_exact_match_{row['question_type']}" for row in rows}
    assert not trainer.speed.totals.any(), "a validation's questions are none that training does a second"


# ---- what the Trainer is told


def test_rates_decay_and_seed_are_the_configurations(tmp_path, processor):
    """Of eight steps a quarter is warm-up; then the rate falls to nothing. Not the seed 42, which is the Trainer's own, too."""
    settings = {"train.lr": 0.5, "train.weight_decay": 0.25, "train.warmup_ratio": 0.25, "train.seed": 7}
    cfg, rows = make_experiment(tmp_path, (1, 3), **settings)
    model, data = attach_lora(random_model(processor), cfg.lora), load_dataset(rows, processor, cfg, training=True)
    trainer, rates = build_trainer(model, data, None, training_arguments(cfg, tmp_path, eval_strategy="no")), []
    assert torch.initial_seed() == 7, "from here on dropout is drawn"
    trainer.create_optimizer_and_scheduler(num_training_steps=8)
    for _ in range(9):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates == pytest.approx([0, 1 / 4, *(0.5 * left / 6 for left in range(6, -1, -1))])
    decays = {weight: group["weight_decay"] for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert set(decays.values()) == {0.25} and decays.keys() == {weight for weight in model.parameters() if weight.requires_grad}


def test_what_saves_memory_loads_and_is_told_is_as_configured(experiment, tmp_path):
    """None is the Trainer's own: 8 of validation at once, nothing recomputed, nobody else loads, nobody is told."""
    settings = {"eval_bs": 3, "gradient_checkpointing": True, "num_workers": 5, "report_to": ["tensorboard"]}
    cfg = experiment[0].model_copy(update={"train": experiment[0].train.model_copy(update=settings)})
    args = training_arguments(cfg, tmp_path)
    told = (args.per_device_eval_batch_size, args.activation_checkpointing, args.dataloader_num_workers, args.report_to)
    assert told == tuple(settings.values())


def test_processes_that_load_take_no_notice_of_a_signal(tmp_path, processor):
    """It goes to all of a terminal, and the step that it lets end needs what they load."""
    cfg, rows = make_experiment(tmp_path, (1, 3), **{"train.num_workers": 1})
    data = load_dataset(rows, processor, cfg, training=True)
    data.collate = lambda items: [signal.getsignal(number) == signal.SIG_IGN for number in SIGNALS]
    trainer = build_trainer(random_model(processor), data, data, training_arguments(cfg, tmp_path, eval_strategy="no"))
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        assert next(iter(loader)) == [True] * 3


# ---- ends, stops, resumptions


def trainer_of(folder, processor, resume=None, also=(), drawn_bs=None, prepare=None, **changes):
    """A Trainer of a random model on four images that validates and saves every second step; resumed where a checkpoint is given.

    In NF4 it is the shipped model, which has files. prepare: called with the Trainer before it trains.
    """
    settings = {"train.train_bs": 1, "train.grad_accum": 1, "train.epochs": 2, "train.eval_steps": 2, "train.save_steps": 2}
    cfg, rows = make_experiment(folder, (1, 3, 5, 9), **{**settings, "train.logging_steps": 3, "train.save_total_limit": 20, **changes})
    set_seed(0)
    model = load_model(cfg, phase="train")[0] if cfg.quantization == "nf4" else attach_lora(random_model(processor), cfg.lora)
    train_set, val_set = load_dataset(rows, processor, cfg, training=True, drawn_bs=drawn_bs), load_dataset(rows, processor, cfg)
    args = training_arguments(cfg, cfg.output_dir, **validation_arguments(cfg))
    trainer = build_trainer(model, train_set, val_set, args, [*training_callbacks(cfg, {}, {}), *also])
    if prepare:
        prepare(trainer)
    trainer.train(resume_from_checkpoint=resume and str(cfg.output_dir / resume))
    return trainer


def numbers(trainer):
    """Its log without seconds."""
    told = lambda key: not any(word in key for word in ("second", "runtime", "padding", "shared", "train_loss", "flos"))
    return [{key: value for key, value in entry.items() if told(key)} for entry in trainer.state.log_history if "train_loss" not in entry]


def lora_weights(trainer):
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


@pytest.mark.slow("trains, and goes on")
@pytest.mark.parametrize("quantization, checkpoint", [("none", "checkpoint-4"), ("none", "checkpoint-8"), ("nf4", "checkpoint-4")])
def test_a_resumed_run_has_the_weights_and_the_log_of_an_uninterrupted_one(tmp_path, processor, checkpoint, quantization):
    """With dropout, and a checkpoint between two log lines: the mean that is logged next holds the losses before it."""
    settings = {"lora.dropout": 0.3, "train.questions_per_image": 3, "train.train_bs": 2, "quantization": quantization}
    whole = trainer_of(tmp_path, processor, **settings)
    weights, before = lora_weights(whole), sorted(path.name for path in (tmp_path / "outputs").glob("checkpoint-*"))
    assert whole.state.global_step == 8 and {0.0} != {float(weight.abs().max()) for weight in weights.values()}
    resumed = trainer_of(tmp_path, processor, resume=checkpoint, **settings)
    assert numbers(resumed) == numbers(whole)
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(resumed).items())
    assert resumed.speed.steps == 8 - int(checkpoint.split("-")[1]), "a finished one trains no step more"
    assert sorted(path.name for path in (tmp_path / "outputs").glob("checkpoint-*")) == before, "and removes none"


@pytest.mark.slow("trains, and goes on")
def test_what_saves_memory_may_change_at_a_resume_and_changes_no_weight(tmp_path, processor):
    """With dropout: recomputation draws the same again."""
    settings = {"lora.dropout": 0.3, "train.train_bs": 2}
    weights = lora_weights(trainer_of(tmp_path, processor, **settings))
    smaller = {"train.eval_bs": 1, "train.gradient_checkpointing": "true", "train.logging_steps": 1}
    resumed = trainer_of(tmp_path, processor, resume="checkpoint-2", **settings, **smaller)
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(resumed).items())
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [3, 4], "it was logged every third before"


@pytest.mark.slow("trains, and goes on")
def test_a_step_that_is_split_in_another_way_at_a_resume_has_the_same_images_and_sums(tmp_path, processor):
    """From within an epoch; the order, which depends on micro-batches, stays that of the run's beginning."""
    whole = trainer_of(tmp_path, processor, **{"train.train_bs": 2, "train.save_steps": 1})
    weights, other = lora_weights(whole), {"train.train_bs": 1, "train.grad_accum": 2}
    resumed = trainer_of(tmp_path, processor, resume="checkpoint-1", drawn_bs=2, **other)
    assert resumed.speed.steps == 3 == whole.state.global_step - 1
    assert all(torch.allclose(weight, weights[name], atol=1e-6) for name, weight in lora_weights(resumed).items())


class Signal(TrainerCallback):
    """Sends this process a signal in step 3, or while the checkpoint of step 2 is written, or its adapter."""

    def __init__(self, number, moment, monkeypatch):
        self.number, self.moment = number, moment
        if moment == "saving":
            monkeypatch.setattr("training.trainer.write_sums", lambda folder: (write_sums(folder), self.send()))

    def send(self):
        os.kill(os.getpid(), self.number)

    def on_step_begin(self, args, state, control, **kwargs):
        if self.moment == "step" and state.global_step == 2:
            self.send()

    def on_evaluate(self, args, state, control, **kwargs):
        if self.moment == "validation":
            self.send()


SHORT_RUN = {"lora.dropout": 0.3, "train.train_bs": 2, "train.save_total_limit": 2, "train.epochs": 3}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, processor):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return trainer_of(folder, processor, **SHORT_RUN), sorted(path.name for path in (folder / "outputs").iterdir())


@pytest.mark.parametrize(
    ("number", "moment", "step"), [(signal.SIGTERM, "step", 3), (signal.SIGUSR1, "saving", 2), (signal.SIGINT, "validation", 2)]
)
def test_a_signal_saves_at_a_steps_end_and_what_goes_on_ends_as_if_there_had_been_none(
    tmp_path, processor, monkeypatch, uninterrupted, number, moment, step
):
    """In its weights, its log and its checkpoints; with dropout."""
    (whole, names), settings = uninterrupted, SHORT_RUN
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heed_signals(str)
    try:
        with monkeypatch.context() as patch, signals_later(), pytest.raises(Interrupted) as end:
            trainer_of(tmp_path, processor, also=[Signal(number, moment, patch)], **settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert end.value.code == GOES_ON and newest_whole(tmp_path / "outputs")[0].name == f"checkpoint-{step}"
    resumed = trainer_of(tmp_path, processor, resume=f"checkpoint-{step}", **settings)
    weights = lora_weights(whole)
    assert numbers(resumed) == numbers(whole) and resumed.state.global_step == 6
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(resumed).items())
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == names and "checkpoint-3" not in names


def test_of_two_processes_one_that_is_told_to_end_ends_both_and_the_loss_is_their_mean(tmp_path, processor):
    """The other one, which is none of this machine's, has two more of loss since the last log line, and gets a signal in step 3."""
    own = []

    def beside_another(trainer):
        told = lambda: torch.tensor([0, 0, float(trainer.state.global_step == 2)])
        trainer.accelerator.reduce = lambda seen, how: seen + told()
        both = lambda loss: own.append(float(loss)) or torch.stack([loss, loss + 2])
        one = lambda found: torch.is_tensor(found) and not found.ndim  # a validation's are many
        trainer.accelerator.gather = lambda found: both(found) if one(found) else found

    with pytest.raises(Interrupted) as end:
        trainer_of(tmp_path, processor, prepare=beside_another, **{"train.logging_steps": 9})
    newest = newest_whole(tmp_path / "outputs")[0]
    assert end.value.code == GOES_ON and newest.name == "checkpoint-3"
    assert read_json(newest / "experiment.json")["unlogged"] == {"loss": pytest.approx(own[-1] + 1), "since_step": 0} and own[-1] > 0


@pytest.mark.slow("trains, and goes on")
def test_a_lost_best_adapter_is_written_again_to_the_byte(tmp_path, processor):
    trainer_of(tmp_path, processor)
    out = tmp_path / "outputs"
    before = {path.name: path.read_bytes() for path in (out / "adapter").iterdir()}
    shutil.rmtree(out / "adapter")
    assert mend_adapter(out, out / "checkpoint-8", best_score(out / "checkpoint-8", "micro"))
    assert {path.name: path.read_bytes() for path in (out / "adapter").iterdir()} == before


def test_an_optimizer_that_is_not_finite_is_not_saved(tmp_path, processor):
    class Overflow(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer, **kwargs):
            next(iter(optimizer.state.values()))["exp_avg_sq"][0, 0] = float("inf")

    with pytest.raises(UserError, match="training stopped: the optimizer's state of step 2 is nan; there is no checkpoint before it"):
        trainer_of(tmp_path, processor, also=[Overflow()])
    assert not list((tmp_path / "outputs").glob("*checkpoint*"))


@pytest.mark.slow("trains, and goes on")
@pytest.mark.parametrize(("select_by", "last"), [("micro", 8), ("macro", 6)])
def test_early_stopping_goes_by_what_selects_and_keeps_its_patience_at_a_resume(tmp_path, processor, select_by, last):
    """Two validations in a row that are no better end the run, whatever the loss does: here it falls all the while."""
    scores = {"exact_match": {2: 0.1, 4: 0.2}, "macro_exact_match": {2: 0.2, 4: 0.1}}  # {step: of its validation}; later as at step 4

    def told(trainer):
        at = lambda step: {name: steps[min(step, 4)] for name, steps in scores.items()}
        trainer.compute_metrics = lambda _: {**at(trainer.state.global_step), "token_loss": 1 / trainer.state.global_step}

    settings = {"train.early_stopping_patience": 2, "train.select_by": select_by, "train.epochs": 3, "prepare": told}
    assert trainer_of(tmp_path, processor, **settings).state.global_step == last
    resumed = trainer_of(tmp_path, processor, resume="checkpoint-6", **settings)
    assert (resumed.state.global_step, resumed.speed.steps) == (last, last - 6), "one that had stopped trains no step more"


def test_only_the_newest_checkpoints_are_kept_each_an_adapter_of_its_own(tmp_path, processor):
    trainer = trainer_of(tmp_path, processor, **{"train.save_total_limit": 2})
    out = tmp_path / "outputs"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]
    assert newest_whole(out) == (out / "checkpoint-8", []) and not list(out.glob(".*"))
    loaded = dict(load_adapter(random_model(processor), out / "checkpoint-8").named_parameters())
    assert all(torch.equal(loaded[name], weight) for name, weight in lora_weights(trainer).items())
    assert read_json(out / "checkpoint-8" / "experiment.json")["best"] == {"step": 8}


@pytest.mark.slow("trains, and goes on")
def test_checkpoints_that_a_kill_left_over_go_though_no_step_follows(tmp_path, processor):
    """Between the saving of the last one and the removal of an old one: all is trained, and none is saved any more."""
    trainer_of(tmp_path, processor)
    trainer_of(tmp_path, processor, resume="checkpoint-8", **{"train.save_total_limit": 2})
    assert sorted(path.name for path in (tmp_path / "outputs").glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]


def test_a_rate_that_diverges_ends_the_run_before_the_weights_do(tmp_path, processor):
    """The reported one: NaN at some step, and the run went to its end, with the NaN adapter as its best."""
    with pytest.raises(UserError) as error:
        trainer_of(tmp_path, processor, **{"train.lr": 1e36, "train.warmup_ratio": 0.0})
    assert re.fullmatch(
        r"training stopped: the (loss|gradient norm|validation loss) of step \d+ is (nan|inf); there is no checkpoint before it; "
        r"lower train.lr or raise train.warmup_ratio, and start again with --overwrite \(train.lr is 1e\+36\)",
        str(error.value),
    )
    out = tmp_path / "outputs"
    assert not (out / "adapter").exists() and not list(out.glob("checkpoint-*"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN, Infinity


class Poison(TrainerCallback):
    """Makes one weight NaN after a step, as an overflow does."""

    def __init__(self, step):
        self.step = step

    def on_train_begin(self, args, state, control, **kwargs):
        self.on_step_end(args, state, control, **kwargs)

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                next(weight for name, weight in model.named_parameters() if "lora_B" in name)[0, 0] = float("nan")


@pytest.mark.parametrize(("after", "said"), [(2, "the validation loss of step 2"), (3, "the loss of step 4")])
def test_the_first_number_that_is_not_finite_ends_the_run(tmp_path, processor, after, said):
    """After step 2 it is the validation's, after 3 the next step's; checkpoint and adapter of step 2 stay."""
    with pytest.raises(UserError) as error:
        trainer_of(tmp_path, processor, also=[Poison(after)])
    assert said in str(error.value) and ("the last good checkpoint is " in str(error.value)) == (after == 3)
    out = tmp_path / "outputs"
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"] * (after == 3)
    assert (out / "adapter").exists() == (after == 3)
    log = json.loads((out / "trainer_state.json").read_text())["log_history"] if after == 3 else []
    assert [entry["step"] for entry in log] == [2, 3] * (after == 3)
    assert all(math.isfinite(value) for entry in log for value in entry.values())


@pytest.mark.parametrize("dtype, flags", [("float16", (False, True)), ("bfloat16", (True, False)), ("float32", (False, False))])
def test_the_trainer_is_told_the_cards_precision(experiment, tmp_path, monkeypatch, dtype, flags):
    """float16 comes with a scaler of the loss: the Trainer's own."""
    told = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("training.trainer.compute_dtype", lambda cfg: getattr(torch, dtype))
    monkeypatch.setattr("training.trainer.TrainingArguments", lambda **given: told.update(given) or SimpleNamespace(n_gpu=1))
    training_arguments(experiment[0], tmp_path)
    assert (told["bf16"], told["fp16"]) == flags


def in_float16(scale):
    """Let a Trainer on a CPU compute as on a card without bfloat16, under autocast of float16 and a scaler; accelerate itself does so
    on GPUs alone."""

    def prepare(trainer):
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.accelerator.native_amp = True
        trainer.accelerator.state._mixed_precision = "fp16"

    return prepare


@pytest.fixture
def accelerate_anew():
    """What `in_float16` says to accelerate is said to all Trainers of a process."""
    yield
    AcceleratorState._reset_state()


@pytest.mark.slow("trains, and goes on")
def test_steps_that_float16_overflows_in_are_left_out_and_a_resume_goes_on_with_their_scale(tmp_path, processor, accelerate_anew):
    """At first the scale is too large for some steps; none is taken for diverged, and no infinity gets into a file."""
    scales = {}

    class Scales(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            scales[state.global_step] = trainers[-1].accelerator.scaler.get_scale()

    trainers, scale = [], 2.0**19
    prepare = lambda trainer: (trainers.append(trainer), in_float16(scale)(trainer))
    settings = {"also": [Scales()], "prepare": prepare, "lora.dropout": 0.3, "train.logging_steps": 1, "train.max_steps": 5}
    whole = trainer_of(tmp_path, processor, **settings)
    weights, seen = lora_weights(whole), dict(scales)
    assert seen[1] == scale / 2 and seen[5] == seen[4] < seen[2] and any((weight != 0).any() for weight in weights.values())
    logs = [entry for entry in whole.state.log_history if "loss" in entry]
    assert ["grad_norm" in entry for entry in logs] == [seen[step] == seen.get(step - 1, scale) for step in range(1, 6)]
    for path in (tmp_path / "outputs").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN, Infinity
    AcceleratorState._reset_state()
    resumed = trainer_of(tmp_path, processor, resume="checkpoint-2", **settings)
    assert scales == seen and numbers(resumed) == numbers(whole)
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(resumed).items())


def test_gradients_that_overflow_without_a_scale_end_the_run(tmp_path, processor, accelerate_anew):
    class Infinite(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **kwargs):
            weight = next(weight for weight in model.parameters() if weight.requires_grad)
            weight.register_hook(lambda grad: grad * float("inf"))

    with pytest.raises(UserError, match=r"the gradient norm of step 3 is (nan|inf); the last good checkpoint is .*checkpoint-2"):
        trainer_of(tmp_path, processor, also=[Infinite()], prepare=in_float16(4.0))


def test_what_overflows_before_anything_was_learned_is_not_the_rates_fault(tmp_path, processor):
    with pytest.raises(
        UserError, match="the loss of step 1 is nan; .*; nothing was learned yet, so the model's own numbers overflow; give"
    ):
        trainer_of(tmp_path, processor, also=[Poison(0)])
