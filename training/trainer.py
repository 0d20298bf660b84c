"""The transformers Trainer on token trees: loss, validation, checkpoints. Shared by training and the sanity test."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py")

import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from config import near
from data.rules import ordered_types
from files import GOES_ON, Interrupted, UserError, leave_signals_to_parent, read_json, signal_seen
from model.adapter import DIVERGED, EXPERIMENT_FILE, not_finite, write_adapter
from model.folders import staged_path, whole_folder, write_sums
from model.forward import answer_loss, training_inputs
from model.load import compute_dtype
from model.token_tree import IGNORE_INDEX
from training.callbacks import LogLines, SpeedMeter
from training.checkpoints import SELECTED, STATE_FILE, newest_whole, remove_old
from training.shares import shared_loader


class TreeTrainer(Trainer):
    """The transformers Trainer on token trees: the way from batch to model inputs, the validation's mean over tokens, checkpoints that
    are whole or not there, speed in the log, and an end where a loss is not finite.

    facts, beside: what lies in a checkpoint's folder besides its states, as in an adapter's (`save_adapter`).
    """

    def __init__(self, facts=None, beside=None, **kwargs):
        super().__init__(**kwargs)
        self.ends_here, self.saved = False, None  # with this step, because a process was told to; the last step that was saved
        self.facts, self.beside = facts or {}, beside
        self.accelerator.device_placement = False  # of batches: `training_inputs` puts what it makes of them on the device
        self.speed = SpeedMeter(self.model, self.args.device)
        self.add_callback(self.speed)
        self.remove_callback(PrinterCallback)  # which prints every number as text in a dict
        self.add_callback(LogLines())

    def get_train_dataloader(self):
        self.data_collator = self.train_dataset.collate  # packs several images into a row
        shared = self.args.world_size > 1
        return not_signalled(shared_loader(self.train_dataset, self.args) if shared else super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset=None):
        self.data_collator = self.eval_dataset.collate  # an image a row, or gathering from several ranks would miscount
        return not_signalled(super().get_eval_dataloader(eval_dataset))

    def _prepare_inputs(self, inputs):
        if self.model.training:
            self.speed.count(inputs)
        return {**training_inputs(self.model, inputs), "labels": inputs["labels"].to(self.args.device, non_blocking=True)}

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs = {**logs, **self.speed.rates(self.accelerator)}
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            del logs["grad_norm"]  # of a step that the scaler left out
        super().log(logs, start_time)

    def evaluation_loop(self, *args, **kwargs):
        """The Trainer's, whose loss is a mean of batches' means: the mean over answer tokens instead (`answer_metrics`)."""
        output = super().evaluation_loop(*args, **kwargs)
        output.metrics["eval_loss"] = output.metrics.pop("eval_token_loss")
        self._require_finite("validation loss", output.metrics["eval_loss"], self.state.global_step)
        return output

    def _get_grad_norm(self, model, grad_norm=None):
        """Called once a step, before the weights change: a loss or gradient that is not finite ends the training here."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        facts = (norm, float(signal_seen()))
        seen = torch.stack(
            [self._tr_loss.float(), *(torch.as_tensor(fact, dtype=torch.float32, device=self._tr_loss.device) for fact in facts)]
        )
        loss, norms, told = self.accelerator.reduce(seen, "sum").tolist()  # of all processes, so that all end together
        self.ends_here = told > 0
        self._require_finite("loss", loss, self.state.global_step + 1)
        scaler = self.accelerator.scaler
        if scaler is None or scaler.get_scale() <= 1:  # else it leaves out a step whose scaled gradient overflows, and halves its scale
            self._require_finite("gradient norm", norms, self.state.global_step + 1)
        return norm

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        """The Trainer's; where a process was told to end, this step is saved and the last, unless it is that anyway."""
        step, alone = self.state.global_step, self.args.world_size == 1  # several processes have to agree: `_get_grad_norm`
        self.ends_here |= alone and signal_seen()
        self.control.should_save |= self.ends_here and self.saved != step
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.ends_here |= alone and signal_seen() and self.saved == step
        if self.ends_here and not self.control.should_training_stop:
            raise Interrupted(code=GOES_ON)

    def _require_finite(self, name, value, step):
        if math.isfinite(value):
            return
        if not self.is_world_process_zero():
            raise SystemExit(1)  # one process speaks
        good, _ = newest_whole(self.args.output_dir)
        good = f"the last good checkpoint is {near(good)}" if good else "there is no checkpoint before it"
        remedy = f"{DIVERGED} (train.lr is {self.args.learning_rate:g})"
        if step == 1 and name in ("loss", "gradient norm"):
            remedy = "nothing was learned yet, so the model's own numbers overflow; give another model_name (or train.init_adapter)"
        if self.args.fp16:
            remedy += "; float16 ends at 65,504, float32 (train.bf16=false, twice the memory) does not"
        raise UserError(f"training stopped: the {name} of step {step} is {value}; {good}; {remedy}")

    def _run_epoch(self, **kwargs):
        """The Trainer's, but nothing where all is trained, which would be one more step; and a log that goes on as it would have."""
        if kwargs["resume_from_checkpoint"] and kwargs["epoch"] == kwargs["epochs_trained"]:
            self._continue_log(Path(kwargs["resume_from_checkpoint"]))
        if self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            super()._run_epoch(**kwargs)

    def _continue_log(self, checkpoint):
        """Take up the losses since the last log line, and the interval that is asked for now."""
        self.state.logging_steps = self.args.logging_steps
        path = checkpoint / EXPERIMENT_FILE
        unlogged = read_json(path).get("unlogged") if path.is_file() else None  # which older code did not write
        if unlogged:
            self._globalstep_last_logged = unlogged["since_step"]
            self._tr_loss += unlogged["loss"]

    def _save_checkpoint(self, model, trial):
        """As the Trainer's, but whole or not at all: written under another name, flushed, renamed, and only then are old ones removed."""
        folder, first = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}", self.is_world_process_zero()
        states = enumerate(self.optimizer.state.values())
        moments = {f"{index}.{name}": value for index, state in states for name, value in state.items() if torch.is_tensor(value)}
        self._require_finite("optimizer's state", math.nan if not_finite(moments) else 0.0, self.state.global_step)
        with whole_folder(folder) if first else nullcontext(staged_path(folder)) as staged:
            self.accelerator.wait_for_everyone()
            self._save_optimizer_and_scheduler(str(staged))
            self._save_scaler(str(staged))
            self._save_rng_state(str(staged))
            unlogged = {"loss": float(self.accelerator.gather(self._tr_loss).mean()), "since_step": self._globalstep_last_logged}
            if first:
                facts = {**self.facts, "best": {"step": self.state.global_step}, "processes": self.args.world_size, "unlogged": unlogged}
                write_adapter(self.model, staged, facts, self.beside)
                self._note_callbacks()
                self.state.save_to_json(str(staged / STATE_FILE))
            self.accelerator.wait_for_everyone()
            if first:
                write_sums(staged)
        if first:
            remove_old(folder.parent, self.args, self.state.max_steps)
        self.saved = self.state.global_step
        self.accelerator.wait_for_everyone()

    def _note_callbacks(self):
        """What callbacks have to remember, early stopping its patience, into the state: by class, as the Trainer reads it."""
        callbacks = [*self.callback_handler.callbacks, self.control]
        self.state.stateful_callbacks = {type(one).__name__: one.state() for one in callbacks if isinstance(one, ExportableState)}


def not_signalled(loader):
    """A loader whose processes outlive a signal that goes to all: the step that it ends with needs what they load."""
    inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps it
    inner.worker_init_fn = partial(_begin_worker, inner.worker_init_fn)
    return loader


def _begin_worker(begin, worker):
    leave_signals_to_parent()
    if begin:
        begin(worker)


def build_trainer(model, train_dataset, eval_dataset, args, callbacks=(), facts=None, beside=None):
    """A Trainer with the exact loss: the mean over the supervised tokens of the optimizer step, on all micro-batches and ranks.

    It ends at its first step where a tensor that is to be trained gets no gradient. facts, beside: see TreeTrainer.
    """
    types = [row["question_type"] for rows in eval_dataset.groups for row in rows] if eval_dataset else []
    return TreeTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_loss_func=answer_loss,
        preprocess_logits_for_metrics=in_rows,
        compute_metrics=lambda evaluation: answer_metrics(evaluation, types),
        callbacks=[GradientCheck(), *callbacks],
        facts=facts,
        beside=beside,
    )


def in_rows(scores, labels):
    """AnswerScores' predicted tokens and losses where labels (B, T) are supervised, IGNORE_INDEX elsewhere: two of (B, T)."""
    losses, predicted = scores
    rows = [torch.full(labels.shape, IGNORE_INDEX, dtype=values.dtype, device=labels.device) for values in (predicted, losses)]
    for row, values in zip(rows, (predicted, losses)):
        row[labels != IGNORE_INDEX] = values
    return tuple(rows)


def answer_metrics(evaluation, types):
    """`exact_match_by_type`, its mean over types (macro), and the mean loss over answer tokens, whatever batch they came in.

    evaluation.predictions: (images, T) int64 tokens and (images, T) float32 losses. types: question type of each answer, in order.
    """
    tokens, losses = evaluation.predictions
    by_type = exact_match_by_type(evaluation.label_ids, tokens, types)
    macro = np.mean([value for name, value in by_type.items() if name != "exact_match"])
    loss = losses[evaluation.label_ids != IGNORE_INDEX].mean(dtype=np.float64)
    return {**by_type, "macro_exact_match": float(macro), "token_loss": float(loss)}


def exact_match_by_type(labels, predicted, types):
    """Teacher-forced exact match: the share of answers whose every token, EOS included, is the likeliest one.

    labels, predicted: (images, T) int64. types: question type of each answer, in order.
    """
    supervised = labels != IGNORE_INDEX
    labels, right = labels[supervised], predicted[supervised] == labels[supervised]
    # Answers stand one behind another in a row; a new one starts after each EOS, the last token of every answer.
    starts = np.flatnonzero(np.r_[True, labels[:-1] == labels[-1]])
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
        bf16=torch.cuda.is_available() and compute_dtype(cfg) == torch.bfloat16,
        fp16=torch.cuda.is_available() and compute_dtype(cfg) == torch.float16,  # with a scaler of the loss
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=train.logging_steps,
        logging_nan_inf_filter=False,  # or a NaN run logs loss 0.0 and looks perfect
        save_steps=train.save_steps,
        save_total_limit=train.save_total_limit,
        seed=train.seed,
        dataloader_num_workers=train.num_workers,
        restore_callback_states_from_checkpoint=True,  # the patience of early stopping
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
    best = {"metric_for_best_model": SELECTED[cfg.train.select_by], "greater_is_better": True}
    return {"eval_strategy": "steps", "eval_steps": cfg.train.eval_steps, **best}


class GradientCheck(TrainerCallback):
    """After the first backward every LoRA tensor must have a gradient; without this a run can train nothing and look well."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == 0:
            idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
            assert not idle, f"{len(idle)} LoRA tensors got no gradient, first {idle[0]}"
