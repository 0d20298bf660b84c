"""What a training does beside its steps: speed, log lines, files kept current, the best adapter.

python -m pytest tests/training/test_callbacks.py -v
"""

import gc
import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from conftest import SLIDING, random_model, with_random_lora
from matplotlib.figure import Figure
from transformers import TrainerControl, TrainerState

from dataset import load_dataset
from training.callbacks import (
    EarlyStopping,
    ExperimentFiles,
    LogLines,
    SpeedMeter,
    draw_loss_curve,
    duration,
    loss_figure,
    training_callbacks,
)
from training.cost import MicroBatch, model_flops, model_shape


def test_utilisation_is_model_flops_by_seconds_and_peak(experiment, processor, monkeypatch):
    """The figure itself, on a device whose peak is told: `cost.model_flops`, tested against torch's counting, a second a peak."""
    monkeypatch.setattr("training.callbacks.device_peak_flops", lambda name: 1e9)
    model = with_random_lora(random_model(processor), experiment[0].lora)
    data = load_dataset(experiment[1], processor, experiment[0], training=True)
    counts = torch.tensor([4, 100, 103, 150])  # questions, tokens, with padding, of one question a row
    batch = {**data.collate([data[0], data[1]]), "counts": counts}
    meter = SpeedMeter(model, torch.device("cpu"))
    meter.count(batch)
    meter.count(batch)
    meter.seconds = 4.0
    flops = model_flops(model_shape(model), MicroBatch.of(batch))
    accelerator, told = Accelerator(cpu=True), {"padding": 0.0291}
    told |= {"questions_per_second": 2.0, "tokens_per_second": 50.0, "shared_tokens_saved": 100, "training_seconds": 4.0}
    assert flops > 1e6 and meter.rates(accelerator) == {**told, "mfu": round(2 * flops / 4e9, 4)}
    meter.count(batch)
    meter.seconds = 5.006
    told |= {"questions_per_second": 3.98, "tokens_per_second": 99.4, "shared_tokens_saved": 50, "training_seconds": 5.01}
    assert meter.rates(accelerator) == {**told, "mfu": round(flops / 1.006e9, 4)}, "since the last log line, but for the last"
    meter.count(batch)
    meter.seconds = 9.006
    both = {"sum": lambda own: 2 * own, "mean": lambda own: own}  # of two processes that do the same
    two = SimpleNamespace(device=torch.device("cpu"), num_processes=2, reduce=lambda own, how: both[how](own))
    told |= {"questions_per_second": 2.0, "tokens_per_second": 50.0, "shared_tokens_saved": 100, "training_seconds": 9.01}
    assert meter.rates(two) == {**told, "mfu": round(flops / 4e9, 4)}, "a second of all, and of each one's peak"


@pytest.mark.parametrize("shared", [True, False])
def test_flops_are_those_of_the_rows_that_are_computed(experiment, processor, monkeypatch, shared):
    """On a card a row of trees is one masked product; a model whose layers take no tree mask has plain rows."""
    monkeypatch.setattr("training.callbacks.device_peak_flops", lambda name: 1e9)
    monkeypatch.setattr("training.callbacks.computes_all_pairs", lambda device: shared)
    model = with_random_lora(random_model(processor, **({} if shared else SLIDING)), experiment[0].lora)
    data = load_dataset(experiment[1], processor, experiment[0], model.get_base_model().config, training=True)
    batch, meter = data.collate([data[0], data[1]]), SpeedMeter(model, torch.device("cpu"))
    meter.count(batch)
    rows, length = batch["input_ids"].shape
    micro = MicroBatch.of(batch, shared, all_pairs=shared)
    assert meter.totals[-1] == model_flops(model_shape(model), micro) and micro.pairs == rows * length**2


def test_seconds_of_training_are_those_of_steps_without_validation_and_saving(model, monkeypatch):
    clock = iter([0, 2, 102, 105, 1105, 1109])  # begin, step, validation, step, saving, step
    monkeypatch.setattr("training.callbacks.time.perf_counter", lambda: next(clock))
    meter = SpeedMeter(model, torch.device("cpu"))
    step = meter.on_step_end
    for event in (meter.on_train_begin, step, meter.on_evaluate, step, meter.on_save, step):
        event(None, None, None)
    assert meter.seconds == 2 + 3 + 4 and meter.steps == 3


def test_the_log_is_lines_for_people(capsys, monkeypatch):
    """One line a log step and a validation, without carriage returns; the state file has every number (below)."""
    clock = iter([100.0, 130.0, 700.0])
    monkeypatch.setattr("training.callbacks.time.perf_counter", lambda: next(clock))
    lines, args = LogLines(), SimpleNamespace(logging_steps=10, metric_for_best_model="exact_match")
    state = TrainerState(max_steps=228, global_step=20, is_world_process_zero=True)
    lines.on_train_begin(args, state, None)
    state.global_step = 30  # ten steps in 30 s
    lines.on_log(args, state, None, logs={"loss": 0.28449, "questions_per_second": 91.3, "learning_rate": 1e-4})
    lines.on_evaluate(args, state, None, metrics={"eval_loss": 0.25, "eval_exact_match": 0.8111, "eval_exact_match_yes_no": 0.0})
    args.metric_for_best_model = "macro_exact_match"
    lines.on_evaluate(args, state, None, metrics={"eval_loss": 0.25, "eval_exact_match": 0.8111, "eval_macro_exact_match": 0.46})
    state.global_step = 120
    lines.on_log(args, state, None, logs={"loss": 0.2, "questions_per_second": 7.0, "mfu": 0.41})
    lines.on_log(args, state, None, logs={"train_runtime": 5.0})
    assert capsys.readouterr().out.splitlines() == [
        "training 208 steps, a line every 10",
        "step  30/228  loss 0.284  91 questions/s  10 min left",
        "step  30/228  validation loss 0.250  exact match 81.1% (teacher-forced)",
        "step  30/228  validation loss 0.250  exact match 81.1%, macro 46.0% (teacher-forced)",
        "step 120/228  loss 0.200  7 questions/s  41% MFU  11 min left",
    ]
    clock = iter([0.0, 80.0])
    state.max_steps, state.global_step = 11, 0
    lines.on_train_begin(args, state, None)
    state.global_step = 1
    lines.on_log(args, state, None, logs={"loss": 1.0, "questions_per_second": 0.6})
    assert capsys.readouterr().out.splitlines()[1:] == ["step  1/11  loss 1.000  1 questions/s  13 min left"], "from its first step on"
    state.is_world_process_zero, clock = False, iter([0.0])
    lines.on_train_begin(args, state, None)
    lines.on_log(args, state, None, logs={"loss": 0.2, "questions_per_second": 7.0})
    lines.on_evaluate(args, state, None, metrics={"eval_loss": 0.25, "eval_exact_match": 0.8, "eval_macro_exact_match": 0.8})
    assert capsys.readouterr().out == "", "one process speaks"


def test_durations_are_short():
    assert [duration(seconds) for seconds in (0, 44.6, 89.4, 100, 3600, 7199, 7200, 86400)] == [
        "0 s", "45 s", "89 s", "2 min", "60 min", "2 h 0 min", "2 h 0 min", "24 h 0 min",
    ]  # fmt: skip


@pytest.mark.slow("trains with a validation a step")
def test_files_follow_the_run(tmp_path, model, experiment):
    lora = with_random_lora(model, experiment[0].lora)
    files = ExperimentFiles(tmp_path, {"prompt_style": "plain"}, {"answer_space.json": '{"mode": "rules"}'})
    state = TrainerState(log_history=[{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "learning_rate": 1e-4}])
    files.on_log(None, state, None)
    assert json.loads((tmp_path / "trainer_state.json").read_text())["log_history"][1]["loss"] == 2.0

    def evaluated(step, exact_match, loss):
        state.global_step = step
        state.log_history.append({"step": step, "eval_loss": loss, "eval_exact_match": exact_match})
        metrics = {"eval_exact_match": exact_match, "eval_macro_exact_match": 1 - exact_match, "eval_loss": loss}
        files.on_evaluate(None, state, None, metrics=metrics, model=lora)
        return json.loads((tmp_path / "adapter" / "experiment.json").read_text())["best"]["step"]

    assert evaluated(10, 0.0, 9.0) == 10, "even a first validation without a right answer gives an adapter"
    assert evaluated(20, 0.5, 1.0) == 20
    assert evaluated(30, 0.4, 0.1) == 20, "exact match decides"
    assert evaluated(40, 0.5, 0.9) == 40, "loss breaks ties"
    assert evaluated(45, 0.5, 0.9) == 40, "of equals the first"
    files.select_by = "macro"  # here the opposite of micro
    assert evaluated(50, 0.6, 0.1) == 40 and evaluated(60, 0.4, 2.0) == 60, "train.select_by decides"
    assert json.loads((tmp_path / "adapter" / "answer_space.json").read_text()) == {"mode": "rules"}
    assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


LOGGED = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.5}, {"step": 20, "eval_loss": 1.25, "eval_exact_match": 0.5}]


def test_the_loss_curve_is_what_was_logged():
    losses, right = loss_figure(LOGGED).axes
    assert [(line.get_label(), *map(list, line.get_data())) for line in [*losses.lines, *right.lines]] == [
        ("training loss", [10, 20], [2.0, 1.5]),
        ("validation loss", [20], [1.25]),
        ("validation exact match", [20], [50.0]),
    ]
    assert len(loss_figure(LOGGED[:2]).axes) == 1, "nothing was validated"


def test_a_drawn_figure_is_gone(tmp_path):
    """Its parts hold each other, and each has megabytes: a training draws one a validation."""
    gc.collect()
    before = sum(isinstance(item, Figure) for item in gc.get_objects())
    gc.disable()
    try:
        draw_loss_curve(LOGGED, tmp_path / "loss_curve.png")
        assert sum(isinstance(item, Figure) for item in gc.get_objects()) == before
    finally:
        gc.enable()


def test_quick_validations_draw_the_loss_curve_once_and_the_end_draws_it_whole(tmp_path, model, experiment, monkeypatch):
    drawn, clock = [], iter([100.0, 100.0, 109.9, 110.1, 110.1, 120.0])
    monkeypatch.setattr("training.callbacks.draw_loss_curve", lambda log, path: drawn.append(log[-1]["step"]))
    monkeypatch.setattr("training.callbacks.time", SimpleNamespace(monotonic=lambda: next(clock)))
    lora, state = with_random_lora(model, experiment[0].lora), TrainerState(log_history=[])
    files = ExperimentFiles(tmp_path, {"prompt_style": "plain"})
    for step in (1, 2, 3, 4):
        state.log_history.append({"step": step, "eval_loss": 1.0})
        files.on_evaluate(None, state, None, metrics={"eval_exact_match": 0.5, "eval_loss": 1.0}, model=lora)
    assert drawn == [1, 3]
    files.on_train_end(SimpleNamespace(eval_strategy="steps"), state, None, model=lora)
    assert drawn == [1, 3, 4]


def test_the_loss_curve_says_what_its_axes_are_and_begins_at_nothing():
    losses, right = loss_figure(LOGGED).axes
    assert (losses.get_xlabel(), losses.get_ylabel(), right.get_ylabel()) == (
        "optimizer step",
        "loss per answer token",
        "exact match, % (teacher-forced)",
    )
    assert losses.get_ylim()[0] == 0 and losses.get_ylim()[1] > 2.0 and right.get_ylim() == (0, 100)
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training loss", "validation loss", "validation exact match"]


@pytest.mark.parametrize(("counter", "told", "stops"), [(1, False, False), (2, False, True), (3, False, True), (1, True, True)])
def test_a_run_that_had_stopped_stays_stopped_and_so_does_one_that_another_has_stopped(counter, told, stops):
    early, control = EarlyStopping(2), TrainerControl(should_training_stop=told)
    early.early_stopping_patience_counter = counter
    early.on_train_begin(None, None, control)
    assert control.should_training_stop == stops


def test_at_its_end_a_run_that_validates_nothing_has_its_last_adapter(tmp_path, model, experiment, monkeypatch):
    """One process writes; what a kill left over goes as training begins, the last step being a checkpoint of its own."""
    monkeypatch.setattr("training.callbacks.draw_loss_curve", lambda log, path: path.write_text(json.dumps(log)))  # takes a second
    lora, state = with_random_lora(model, experiment[0].lora), TrainerState(global_step=7, max_steps=7, log_history=LOGGED)
    files = ExperimentFiles(tmp_path, {"prompt_style": "plain"}, {"answer_space.json": "{}"})
    args = SimpleNamespace(eval_strategy="no", save_total_limit=1, save_steps=4)
    there = lambda: sorted(path.name for path in tmp_path.iterdir())
    for step in (4, 7):
        (tmp_path / f"checkpoint-{step}").mkdir()
    state.is_world_process_zero = False
    files.on_train_begin(args, state, None)
    files.on_log(args, state, None)
    files.on_evaluate(args, state, None, metrics={"eval_exact_match": 0.5, "eval_loss": 1.0}, model=lora)
    files.on_train_end(args, state, None, model=lora)
    assert there() == ["checkpoint-4", "checkpoint-7"]
    state.is_world_process_zero, args.eval_strategy = True, "steps"
    files.on_train_begin(args, state, None)
    files.on_train_end(args, state, None, model=lora)
    assert there() == ["checkpoint-7", "loss_curve.png"], "the best adapter is chosen by validations"
    assert json.loads((tmp_path / "loss_curve.png").read_text()) == LOGGED
    args.eval_strategy = "no"
    files.on_train_end(args, state, None, model=lora)
    assert json.loads((tmp_path / "adapter" / "experiment.json").read_text()) == {"prompt_style": "plain", "best": {"step": 7}}
    assert (tmp_path / "adapter" / "answer_space.json").read_text() == "{}"
    files.on_log(args, state, None)
    assert json.loads((tmp_path / "trainer_state.json").read_text()) == asdict(state)


@pytest.mark.parametrize(("patience", "select_by"), [(None, "micro"), (2, "macro")])
def test_what_a_training_does_beside_its_steps_is_as_configured(experiment, patience, select_by):
    cfg, facts, beside = experiment[0], {"prompt_style": "plain"}, {"a.json": "{}"}
    train = cfg.train.model_copy(update={"early_stopping_patience": patience, "select_by": select_by})
    files, *early = training_callbacks(cfg.model_copy(update={"train": train}), facts, beside)
    assert (files.output_dir, files.facts, files.beside, files.select_by) == (cfg.output_dir, facts, beside, select_by)
    assert [one.early_stopping_patience for one in early] == [patience] * bool(patience)
