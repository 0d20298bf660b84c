"""What a training does beside its steps: speed and log lines, files kept current, the best adapter, early stopping."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py")

import gc
import time
from dataclasses import asdict
from math import inf
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from dataset import COUNTS
from files import atomic_open, read_json, write_json
from model.adapter import EXPERIMENT_FILE, save_adapter
from model.forward import base_model, computes_all_pairs, why_rows_stay_plain
from training.checkpoints import SELECTED, rank, remove_old, score_of
from training.cost import MicroBatch, model_flops, model_shape
from training.gpus import device_peak_flops

CURVE_SECONDS = 10  # between two drawings of the loss curve, at least: each takes a second, as long as a small model's validation


class SpeedMeter(TrainerCallback):
    """What training steps compute and how long they take: waiting for data included, start-up, validation and saving not.

    seconds, steps and totals are those of this process since training began; totals are COUNTS and, where the device's peak
    is known, model FLOPs (`cost.model_flops`).
    """

    def __init__(self, model, device):
        self.seconds, self.steps, self.totals = 0.0, 0, torch.zeros(len(COUNTS) + 1, dtype=torch.double)
        self.logged = (0.0, self.totals.clone())
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.peak_flops, self.shared = device_peak_flops(name), not why_rows_stay_plain(base_model(model).config)
        self.all_pairs = computes_all_pairs(device)
        self.shape = model_shape(model) if self.peak_flops else None

    def count(self, batch):
        flops = model_flops(self.shape, MicroBatch.of(batch, self.shared, self.all_pairs)) if self.shape else 0
        self.totals += torch.tensor([*batch["counts"].tolist(), flops])

    def rates(self, accelerator):
        """For the log, on all ranks since the last call: questions and tokens a second, the share of padding, the tokens that
        sharing an image's prefix saved, model FLOPs utilisation where the peak is known; and the seconds of training so far."""
        seconds, totals = self.seconds - self.logged[0], self.totals - self.logged[1]
        self.logged = (self.seconds, self.totals.clone())
        device = accelerator.device
        counts = accelerator.reduce(totals.to(device, torch.float32 if device.type == "mps" else torch.double), "sum").tolist()
        questions, tokens, padded, plain, flops = counts
        rates = {
            "questions_per_second": round(questions / seconds, 2),
            "tokens_per_second": round(tokens / seconds, 1),
            "padding": round(1 - tokens / padded, 4),
            "shared_tokens_saved": int(plain - tokens),
            "training_seconds": round(self.seconds, 2),
        }
        if self.peak_flops:
            rates["mfu"] = round(flops / (seconds * self.peak_flops * accelerator.num_processes), 4)
        return rates

    def _skip(self, *args, **kwargs):
        self.mark = time.perf_counter()

    on_train_begin = on_evaluate = on_save = _skip

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        self.seconds, self.steps, self.mark = self.seconds + now - self.mark, self.steps + 1, now


class LogLines(TrainerCallback):
    """One line a log step and a validation, for people; trainer_state.json keeps every number."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.began, self.first = time.perf_counter(), state.global_step
        if state.is_world_process_zero:
            print(f"training {state.max_steps - self.first:,} steps, a line every {args.logging_steps:g}", flush=True)

    def on_log(self, args, state, control, logs, **kwargs):
        if state.is_world_process_zero and "loss" in logs:
            seconds = (time.perf_counter() - self.began) / max(1, state.global_step - self.first)
            left = duration(seconds * (state.max_steps - state.global_step))
            speed = f"{logs['questions_per_second']:.0f} questions/s" + (f"  {logs['mfu']:.0%} MFU" if "mfu" in logs else "")
            print(f"{self._step(state)}  loss {logs['loss']:.3f}  {speed}  {left} left", flush=True)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if state.is_world_process_zero:
            macro = f", macro {metrics['eval_macro_exact_match']:.1%}" if args.metric_for_best_model == SELECTED["macro"] else ""
            right = f"exact match {metrics['eval_exact_match']:.1%}{macro} (teacher-forced)"
            print(f"{self._step(state)}  validation loss {metrics['eval_loss']:.3f}  {right}", flush=True)

    def _step(self, state):
        width = len(str(state.max_steps))
        return f"step {state.global_step:>{width}}/{state.max_steps}"


def duration(seconds):
    """`45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class ExperimentFiles(TrainerCallback):
    """Keeps what a watcher reads current: trainer_state.json, the loss curve, and the best adapter so far.

    facts, beside: what lies in the adapter's folder, see `save_adapter`. select_by: a key of SELECTED.
    """

    def __init__(self, output_dir, facts, beside=None, select_by="micro"):
        self.output_dir, self.facts, self.beside, self.select_by = Path(output_dir), facts, beside, select_by
        self.drawn = -inf  # when the loss curve was, by the monotonic clock

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:  # a kill after a checkpoint was saved, perhaps the last one, leaves that undone
            remove_old(self.output_dir, args, state.max_steps)

    def on_log(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_json(self.output_dir / "trainer_state.json", asdict(state))

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):
        if state.is_world_process_zero:
            if time.monotonic() - self.drawn > CURVE_SECONDS:
                draw_loss_curve(state.log_history, self.output_dir / "loss_curve.png")
                self.drawn = time.monotonic()
            score = score_of(state.global_step, metrics)
            if rank(score, self.select_by) > rank(self._best(), self.select_by):
                save_adapter(model, self.output_dir / "adapter", {**self.facts, "best": score}, self.beside)

    def on_train_end(self, args, state, control, model, **kwargs):
        if state.is_world_process_zero:
            draw_loss_curve(state.log_history, self.output_dir / "loss_curve.png")
            if args.eval_strategy == "no":  # nothing to choose by: the last adapter is the adapter
                last = {**self.facts, "best": {"step": state.global_step}}
                save_adapter(model, self.output_dir / "adapter", last, self.beside)

    def _best(self):
        path = self.output_dir / "adapter" / EXPERIMENT_FILE
        return read_json(path)["best"] if path.is_file() else {}


class EarlyStopping(EarlyStoppingCallback):
    """The Trainer's, whose count of validations without improvement is kept in checkpoints; one that had stopped stays stopped."""

    def on_train_begin(self, args, state, control, **kwargs):
        control.should_training_stop |= self.early_stopping_patience_counter >= self.early_stopping_patience


def training_callbacks(cfg, facts, beside):
    """What a run does beside its steps: keep its files current, and stop early where that is asked for."""
    early = cfg.train.early_stopping_patience
    files = ExperimentFiles(cfg.output_dir, facts, beside, cfg.train.select_by)
    return [files, *([EarlyStopping(early)] if early else [])]


def draw_loss_curve(log_history, path):
    """Write a PNG of training loss, validation loss and validation exact match over optimizer steps."""
    with atomic_open(path, "wb") as file:
        loss_figure(log_history).savefig(file, format="png", dpi=120)
    gc.collect()  # a figure's parts hold each other: else a hundred megabytes of them wait for Python to look (bench/soak.py)


def loss_figure(log_history):
    """`draw_loss_curve`'s matplotlib Figure, axes of losses first."""
    from matplotlib.figure import Figure

    figure, lines = Figure(figsize=(8, 4.5), layout="constrained"), []
    axis = figure.subplots()
    for key, label, style in (("loss", "training loss", "-"), ("eval_loss", "validation loss", "o-")):
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if points:
            lines += axis.plot(*zip(*points), style, label=label, markersize=4)
    axis.set(xlabel="optimizer step", ylabel="loss per answer token", ylim=(0, None))
    points = [(entry["step"], 100 * entry["eval_exact_match"]) for entry in log_history if "eval_exact_match" in entry]
    if points:
        right = axis.twinx()
        lines += right.plot(*zip(*points), "s--", color="tab:green", label="validation exact match", markersize=4)
        right.set(ylabel="exact match, % (teacher-forced)", ylim=(0, 100))
    axis.legend(handles=lines, loc="center right")
    return figure
