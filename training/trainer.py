"""The transformers Trainer on token trees: loss, validation, callbacks. Shared by training and the sanity test."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py")

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from data.rules import ordered_types
from dataset import COUNTS
from files import atomic_open, read_json, write_json
from model.adapter import EXPERIMENT_FILE, save_adapter
from model.forward import answer_loss, base_model, training_inputs, why_rows_stay_plain
from model.token_tree import IGNORE_INDEX
from training.cost import MicroBatch, model_flops, model_shape
from training.gpus import device_peak_flops


class TreeTrainer(Trainer):
    """The transformers Trainer on token trees: the way from batch to model inputs, the eval logits, and speed in the log."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.speed = SpeedMeter(self.model, self.args.device)
        self.add_callback(self.speed)
        self.remove_callback(PrinterCallback)  # which prints every number as text in a dict
        self.add_callback(LogLines())

    def get_train_dataloader(self):
        self.data_collator = self.train_dataset.collate  # packs several images into a row
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset=None):
        self.data_collator = self.eval_dataset.collate  # an image a row, or gathering from several ranks would miscount
        return super().get_eval_dataloader(eval_dataset)

    def _prepare_inputs(self, inputs):
        batch = super()._prepare_inputs(inputs)
        if self.model.training:
            self.speed.count(batch)
        return {**training_inputs(self.model, batch), "labels": batch["labels"]}

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs = {**logs, **self.speed.rates(self.accelerator)}
        super().log(logs, start_time)


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
        self.shape = model_shape(model) if self.peak_flops else None

    def count(self, batch):
        flops = model_flops(self.shape, MicroBatch.of(batch, self.shared)) if self.shape else 0
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
            right = f"exact match {metrics['eval_exact_match']:.1%} (teacher-forced)"
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


def build_trainer(model, train_dataset, eval_dataset, args, callbacks=()):
    """A Trainer with the exact loss: the mean over the supervised tokens of the optimizer step, on all micro-batches and ranks."""
    types = [row["question_type"] for rows in eval_dataset.groups for row in rows] if eval_dataset else []
    return TreeTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_loss_func=answer_loss,
        preprocess_logits_for_metrics=predicted_tokens,
        compute_metrics=lambda evaluation: exact_match_by_type(evaluation, types),
        callbacks=list(callbacks),
    )


def predicted_tokens(logits, labels):
    """(B, T) int64: the likeliest token where labels (B, T) are supervised, IGNORE_INDEX elsewhere. logits: (N, V)."""
    predicted = torch.full_like(labels, IGNORE_INDEX)
    predicted[labels != IGNORE_INDEX] = logits.reshape(-1, logits.shape[-1]).argmax(-1)
    return predicted


def exact_match_by_type(evaluation, types):
    """Teacher-forced exact match: the share of answers whose every token, EOS included, is the likeliest one.

    evaluation.predictions, evaluation.label_ids: (images, T) int64. types: question type of each answer, in order.
    """
    supervised = evaluation.label_ids != IGNORE_INDEX
    right = evaluation.predictions[supervised] == evaluation.label_ids[supervised]
    # Answers stand one behind another in a row; a new one starts after each EOS, the last token of every answer.
    eos = evaluation.label_ids[supervised][-1]
    starts = np.flatnonzero(np.r_[True, evaluation.label_ids[supervised][:-1] == eos])
    correct = np.logical_and.reduceat(right, starts)
    metrics = {"exact_match": float(correct.mean())}
    for name in ordered_types(types):
        metrics[f"exact_match_{name}"] = float(correct[np.array(types) == name].mean())
    return metrics


def training_arguments(cfg, output_dir, **changes):
    """The configuration in the Trainer's words."""
    train = cfg.train
    args = TrainingArguments(
        output_dir=str(output_dir),
        per_device_train_batch_size=train.train_bs,
        per_device_eval_batch_size=train.eval_bs,
        gradient_accumulation_steps=train.grad_accum,
        learning_rate=train.lr,
        weight_decay=train.weight_decay,
        num_train_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        warmup_steps=train.warmup_ratio,  # below 1 it is a share of all steps
        bf16=train.bf16 and torch.cuda.is_available(),
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # or a NaN run logs loss 0.0 and looks perfect
        save_steps=train.save_steps,
        save_total_limit=train.save_total_limit,
        seed=train.seed,
        dataloader_num_workers=train.num_workers,
        train_sampling_strategy="sequential",  # the dataset orders itself (`VQADataset.set_epoch`)
        remove_unused_columns=False,  # items are trees, not columns
        label_names=["labels"],
        ddp_find_unused_parameters=False,
        report_to=train.report_to,
        disable_tqdm=True,  # `LogLines` instead
        **changes,
    )
    if args.n_gpu > 1:  # DataParallel would split image patches by number, not by image
        print(f"{args.n_gpu} GPUs and no launcher: training on one. For all of them: torchrun --nproc_per_node={args.n_gpu} train_exp1.py")
        args._n_gpu = 1
    return args


def validation_arguments(cfg):
    """Validate every eval_steps if there is a validation file."""
    if cfg.data.val_jsonl is None:
        return {"eval_strategy": "no"}
    best = {"metric_for_best_model": "exact_match", "greater_is_better": True}
    return {"eval_strategy": "steps", "eval_steps": cfg.train.eval_steps, **best}


class ExperimentFiles(TrainerCallback):
    """Keeps what a watcher reads current: trainer_state.json, the loss curve, and the best adapter so far.

    facts, beside: what lies in the adapter's folder, see `save_adapter`.
    """

    def __init__(self, output_dir, facts, beside=None):
        self.output_dir, self.facts, self.beside = Path(output_dir), facts, beside

    def on_log(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_json(self.output_dir / "trainer_state.json", asdict(state))

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):
        if state.is_world_process_zero:
            draw_loss_curve(state.log_history, self.output_dir / "loss_curve.png")
            score = {"step": state.global_step, "exact_match": metrics["eval_exact_match"], "eval_loss": metrics["eval_loss"]}
            if _rank(score) > _rank(self._best()):
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


def _rank(score):
    """Exact match first, then the lower loss; a NaN loss loses to any other."""
    loss = score.get("eval_loss", float("inf"))
    return score.get("exact_match", -1.0), -loss if loss == loss else -float("inf")


def training_callbacks(cfg, facts, beside):
    """What a run does beside its steps: keep its files current, check the first gradients, stop early where that is asked for."""
    early = cfg.train.early_stopping_patience
    return [ExperimentFiles(cfg.output_dir, facts, beside), GradientCheck(), *([EarlyStoppingCallback(early)] if early else [])]


class GradientCheck(TrainerCallback):
    """After the first backward every LoRA tensor must have a gradient; without this a run can train nothing and look well."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == 0:
            idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
            assert not idle, f"{len(idle)} LoRA tensors got no gradient, first {idle[0]}"


def draw_loss_curve(log_history, path):
    """Write a PNG of training loss, validation loss and validation exact match over optimizer steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    lines = []
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
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
