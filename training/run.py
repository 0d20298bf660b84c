"""One training: the model, the record of what decides the run, the steps, and what is said where they end early."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py")

import sys
from contextlib import contextmanager
from pickle import UnpicklingError

from config import code_facts, near, now, save_run_info
from data.contents import CACHE, base_facts
from files import UserError, short, signals_later
from model.adapter import start_from
from model.load import describe_parameters, errors_explained, load_model, machine_facts, precision_note
from training.callbacks import training_callbacks
from training.report_to import reports_explained
from training.resume import RECORD, note_finished, put_in_order, remove_leftovers, remove_run, resumptions
from training.trainer import build_trainer

LOWER = (
    "lower train.train_bs and raise train.grad_accum as much, set train.gradient_checkpointing=true, or, if it was validation, lower "
    "train.eval_bs, and go on with --resume_from_checkpoint; image.max_pixels and train.questions_per_image make another run: lower "
    "them with --overwrite"
)


def train(cfg, args, start, ready, made_from, say, longer=False):
    """Train from `start` (training.resume.Start) to the last step, adapter and record written; return the trainer.

    ready: training.prepare.Prepared. made_from: `training.resume.contents`. say: print, once. longer: see
    `training.resume.put_in_order`. A run that `start` does not go on with is removed when the model is loaded.
    """
    with errors_explained(LOWER, cfg.output_dir):
        model, _ = load_model(cfg, phase="train")
    say("\n".join(filter(None, [describe_parameters(model), precision_note(cfg)])))
    if start.checkpoint is None and cfg.train.init_adapter:
        start_from(model, cfg.train.init_adapter)
        say(f"starting from the weights of {near(cfg.train.init_adapter)}")
    base = base_facts(cfg.model_name, cfg.output_dir / "data" / CACHE) if args.process_index == 0 else {}  # which alone writes them
    if args.process_index == 0:
        remove_leftovers(cfg.output_dir)
        if start.checkpoint is None:
            remove_run(cfg)
        command = start.record.get("command", sys.argv) if start.checkpoint else sys.argv
        for line in put_in_order(start, cfg, longer) if start.checkpoint else ():
            say(line)
        record = {"command": command, "world_size": args.world_size, "made_from": {**made_from, "code": code_facts("train")}}
        record |= {"first_draw": ready.train_set.first_draw, "drawn_bs": ready.train_set.drawn_bs}
        record |= {"date": start.record.get("date") if start.checkpoint else now(), **machine_facts(cfg), **base}
        save_run_info(cfg.output_dir / RECORD, cfg, args.device, **record, resumed=resumptions(start, sys.argv))
    facts = {**ready.facts, **base}
    callbacks = training_callbacks(cfg, facts, ready.beside)
    trainer = build_trainer(model, ready.train_set, ready.val_set, args, callbacks, facts, ready.beside)
    try:
        with signals_later(), errors_explained(LOWER, cfg.output_dir), reports_explained(), checkpoints_explained(start.checkpoint):
            trainer.train(resume_from_checkpoint=start.checkpoint and str(start.checkpoint))
    except UserError as error:
        error.alone = True  # of several processes: the others wait for this one's part of a step, and have nothing to say
        raise
    trainer.accelerator.wait_for_everyone()  # till the adapter is written
    if args.process_index == 0:
        note_finished(cfg.output_dir, trainer.state.global_step)
    return trainer


@contextmanager
def checkpoints_explained(checkpoint):
    """Turn into one line that a checkpoint's states are no plain tensors and values, which are all that torch may load of them here."""
    try:
        yield
    except UnpicklingError as error:
        if checkpoint is None:
            raise
        why = short(" ".join(str(error).split()), 100)
        raise UserError(
            f"{near(checkpoint)}: holds more than tensors and plain values ({why}); it was not written by this project: delete it"
        ) from None
