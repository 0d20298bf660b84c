"""Stage 2: fine-tune with LoRA on the enriched rows.

    python train_exp1.py --config config_demo.yaml
    python train_exp1.py --resume_from_checkpoint              starts the run, goes on with it, or finds it finished
    python train_exp1.py --resume_from_checkpoint PATH         from this checkpoint
    torchrun --nproc_per_node=4 train_exp1.py train.train_bs=2 train.grad_accum=8

Reads the rows of data.train_jsonl and data.val_jsonl; writes to output_dir: checkpoint-N/, adapter/ (best on validation),
trainer_state.json (rewritten at every log), loss_curve.png, train_run.json. Warnings of data.check are printed first.

    python train_exp1.py --dry-run --gpu "H100 PCIe"           tokens, steps, FLOPs, memory and time; no weights, no training
"""

import os
from collections import Counter
from pathlib import Path

from config import DEFAULT_CONFIG, argument_parser, check_environment, load_config, near, resolve_path
from data.rules import ordered_types
from files import UserError, heed_signals, keep_others_away, read_json, run_script
from model.on_disk import EXPERIMENT_FILE, check_model_folder
from training.gpus import PEAK_TFLOPS
from training.origin import check_init_adapter
from training.resume import (
    LOCK,
    Start,
    contents,
    finished_lines,
    how_it_goes_on,
    how_to_start,
    is_finished,
    refuse_other_contents,
    steps_before,
)


def describe_step(dataset, cfg, world_size):
    """What one optimizer step holds, and what sharing the image prefix saves."""
    images_per_step = dataset.images_per_step
    questions, supervised = len(dataset.encoded), sum(len(answer_ids) for _, answer_ids in dataset.encoded.values())
    shared = sum(map(dataset.count_tokens, dataset.groups))
    separate = sum(dataset.count_tokens([row]) for rows in dataset.groups for row in rows)
    scale, longest = images_per_step / len(dataset), max(len(dataset.images(rows[0])) for rows in dataset.groups)
    images = "images" if longest == 1 else f"lists of up to {longest} images"
    images += ", each with one stage's questions" * dataset.in_stages
    return (
        f"one optimizer step: {images_per_step} {images} ({cfg.train.train_bs} x {cfg.train.grad_accum} accumulated x {world_size} "
        f"processes), ~{questions * scale:.0f} questions, ~{supervised * scale:.0f} answer tokens, ~{shared * scale:,.0f} tokens "
        f"in all; one question a row would be ~{separate * scale:,.0f} ({separate / shared:.1f}x)"
    )


def describe_types(dataset):
    """The share of each question type in the rows, and in the answer tokens, over which the loss is a mean."""
    tokens, rows = Counter(), Counter()
    for row in (row for group in dataset.groups for row in group):
        rows[row["question_type"]] += 1
        tokens[row["question_type"]] += len(dataset.encoded[row["id"]][1])
    shares = [f"{name} {rows[name] / rows.total():.1%} / {tokens[name] / tokens.total():.1%}" for name in ordered_types(rows)]
    return f"question types, share of rows / of the loss (answer tokens): {', '.join(shares)}"


def long_answers_note(dataset, cfg):
    """One line if the limit of free decoding would cut training answers, else an empty text."""
    lengths = [len(answer_ids) for _, answer_ids in dataset.encoded.values()]
    limit = max(lengths) if cfg.predict.max_new_tokens == "auto" else cfg.predict.max_new_tokens
    longer = sum(length > limit for length in lengths)
    if not longer:
        return ""
    return (
        f"note: {longer} of {len(lengths)} training answers ({longer / len(lengths):.1%}) need more than "
        f"predict.max_new_tokens={limit} tokens with their end token, so free predictions will be cut; the longest needs "
        f"{max(lengths)}, which is what predict.max_new_tokens=auto gives"
    )


def describe_adapter(folder, best):
    """What is there. best: step and score of the adapter that validation chose."""
    score = f" (validation exact match {best['exact_match']:.1%}, teacher-forced)" if "exact_match" in best else ""
    return f"the adapter of step {best['step']}{score} is in {near(folder)}"


def share(text):
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError  # argparse makes it a line that names the argument
    return value


def parse_arguments():
    parser = argument_parser("Fine-tune with LoRA on the enriched rows.", epilog=__doc__)
    parser.add_argument(
        "--resume_from_checkpoint",
        nargs="?",
        const="newest",
        metavar="PATH",
        help="go on with the run, from its newest checkpoint or PATH; start it where none is yet",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in output_dir")
    group = parser.add_argument_group("before training")
    group.add_argument("--dry-run", action="store_true", help="print what training will cost, from data and config.json alone, and stop")
    names = ", ".join(PEAK_TFLOPS)
    group.add_argument("--gpu", default="A100", choices=PEAK_TFLOPS, metavar="NAME", help=f"{names} (default A100)")
    group.add_argument("--utilisation", type=share, default=0.35, metavar="SHARE", help="of the GPU's peak that is reached (default 0.35)")
    parsed = parser.parse_intermixed_args()
    given = parsed.resume_from_checkpoint
    if given and "=" in given and not resolve_path(given, Path(parsed.config or DEFAULT_CONFIG).parent).exists():
        parsed.resume_from_checkpoint, parsed.overrides = "newest", [given, *parsed.overrides]  # a key, not the path
    if given and parsed.overwrite:
        parser.error("--resume_from_checkpoint goes on with a run, --overwrite replaces it: give one of them")
    return parsed


def splits_to_read(cfg):
    """Training and, where it is set, validation. Raises UserError for a file or folder that is not there."""
    splits = ["train", "val"] if cfg.data.val_jsonl else ["train"]
    for split in splits:
        cfg.split_path(split)
    cfg.image_folder()
    if "val" not in splits:
        for key, value in (("early_stopping_patience", cfg.train.early_stopping_patience), ("select_by", cfg.train.select_by == "macro")):
            if value:
                raise UserError(f"train.{key} needs validation rows; set data.val_jsonl")
    return splits


def main():
    parsed = parse_arguments()
    cfg = load_config(parsed.config, parsed.overrides)
    if not parsed.dry_run:
        heed_signals(lambda: how_it_goes_on(cfg))
    check_environment(cfg, weights=not parsed.dry_run)
    splits, processes = splits_to_read(cfg), int(os.environ.get("WORLD_SIZE", 1))  # which torchrun sets
    if not parsed.dry_run and os.environ.get("RANK", "0") == "0":
        keep_others_away(cfg.output_dir / LOCK, "training")
    start = Start() if parsed.dry_run else how_to_start(cfg, parsed.resume_from_checkpoint, parsed.overwrite, processes)
    check_model_folder(cfg.model_name, weights=not parsed.dry_run)
    if not start.goes_on:
        start = start._replace(notes=(*start.notes, *check_init_adapter(cfg)))  # or it says what does not fit

    # torch and transformers take seconds: what the user mistyped is said before
    from transformers import set_seed

    from dataset import check_first_batch
    from training.dry_run import dry_run
    from training.prepare import prepare
    from training.report_to import check_report_to
    from training.run import train
    from training.shares import Shares
    from training.trainer import training_arguments, validation_arguments

    check_report_to(cfg.train.report_to)
    args = training_arguments(cfg, cfg.output_dir, **validation_arguments(cfg))
    say = print if args.process_index == 0 else lambda *_: None
    for note in start.notes:
        say(note)
    set_seed(cfg.train.seed)
    ready = prepare(cfg, splits, args, start, say)
    train_set = ready.train_set
    if not parsed.dry_run:
        made_from = contents(cfg, ready.rows) if args.process_index == 0 else {}
        refuse_other_contents(start.record, made_from, cfg)
    check_first_batch(train_set)
    shares = Shares(train_set, args.world_size).describe() if args.world_size > 1 and args.process_index == 0 else ""
    lines = [describe_step(train_set, cfg, args.world_size), describe_types(train_set), shares, long_answers_note(train_set, cfg)]
    say("\n".join(filter(None, lines)))
    if parsed.dry_run:
        say(dry_run(train_set, cfg, args.world_size, parsed.gpu, parsed.utilisation))
        return
    steps = cfg.train.steps(len(train_set), train_set.images_per_step)
    before = steps_before(start.record, len(train_set), train_set.images_per_step)
    if is_finished(start, cfg, steps, before):
        for line in finished_lines(start, cfg, before) if args.process_index == 0 else ():
            say(line)
    else:
        if before and steps > before:
            say(f"note: {steps} steps now, {before} before; from here on the learning rate falls as in a run of {steps}")
        trainer = train(cfg, args, start, ready, made_from, say, longer=bool(before) and steps > before)
        say(f"{trainer.speed.steps} steps in {trainer.speed.seconds:.1f} s (start-up, validation and saving excluded)")
    if args.process_index == 0:
        say(describe_adapter(cfg.output_dir / "adapter", read_json(cfg.output_dir / "adapter" / EXPERIMENT_FILE)["best"]))
        say(f"next: {cfg.command('predict_exp1.py', *([] if ready.val_set else ['--split', 'train']))}")


if __name__ == "__main__":
    run_script(main)
