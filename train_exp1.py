"""Stage 2: fine-tune with LoRA on the enriched rows.

    python train_exp1.py --config config_demo.yaml
    python train_exp1.py --resume_from_checkpoint              the newest checkpoint; or give its path
    torchrun --nproc_per_node=4 train_exp1.py train.train_bs=2 train.grad_accum=8

Reads the rows of data.train_jsonl and data.val_jsonl; writes to output_dir: checkpoint-N/, adapter/ (best on validation),
trainer_state.json (rewritten at every log), loss_curve.png, train_run.json. Warnings of data.check are printed first.

    python train_exp1.py --dry-run --gpu "H100 PCIe"           tokens, steps, FLOPs, memory and time; no weights, no training
"""

import sys

from config import argument_parser, check_transformers, load_config, near, save_run_info
from files import UserError, json_text, read_json, run_script
from training.gpus import PEAK_TFLOPS
from training.resume import checkpoint_to_resume, remove_run

LOWER = (
    "lower train.train_bs (and raise train.grad_accum), image.max_pixels or train.questions_per_image, "
    "or set train.gradient_checkpointing=true"
)


def describe_step(dataset, cfg, world_size):
    """What one optimizer step holds, and what sharing the image prefix saves."""
    images_per_step = dataset.images_per_step
    questions, supervised = len(dataset.encoded), sum(len(answer_ids) for _, answer_ids in dataset.encoded.values())
    shared = sum(map(dataset.count_tokens, dataset.groups))
    separate = sum(dataset.count_tokens([row]) for rows in dataset.groups for row in rows)
    scale = images_per_step / len(dataset)
    return (
        f"one optimizer step: {images_per_step} images ({cfg.train.train_bs} x {cfg.train.grad_accum} accumulated x {world_size} "
        f"processes), ~{questions * scale:.0f} questions, ~{supervised * scale:.0f} answer tokens, ~{shared * scale:,.0f} tokens "
        f"in all; one question a row would be ~{separate * scale:,.0f} ({separate / shared:.1f}x)"
    )


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


def longest_answer(dataset):
    """Tokens of the longest training answer with its EOS, for `predict.max_new_tokens: auto`."""
    return max(len(answer_ids) for _, answer_ids in dataset.encoded.values())


def describe_adapter(folder, best):
    """What was written. best: step and score of the adapter that validation chose."""
    score = f" (validation exact match {best['exact_match']:.1%}, teacher-forced)" if "exact_match" in best else ""
    return f"wrote the adapter of step {best['step']}{score} to {near(folder)}"


def share(text):
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError  # argparse makes it a line that names the argument
    return value


def parse_arguments():
    parser = argument_parser("Fine-tune with LoRA on the enriched rows.", epilog=__doc__)
    parser.add_argument(
        "--resume_from_checkpoint", nargs="?", const="newest", metavar="PATH", help="continue a run (no path: its newest checkpoint)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in output_dir")
    group = parser.add_argument_group("before training")
    group.add_argument("--dry-run", action="store_true", help="print what training will cost, from data and config.json alone, and stop")
    names = ", ".join(PEAK_TFLOPS)
    group.add_argument("--gpu", default="A100", choices=PEAK_TFLOPS, metavar="NAME", help=f"{names} (default A100)")
    group.add_argument("--utilisation", type=share, default=0.4, metavar="SHARE", help="of the GPU's peak that is reached (default 0.4)")
    return parser.parse_intermixed_args()


def splits_to_read(cfg):
    """Training and, where it is set, validation. Raises UserError for a file or folder that is not there."""
    splits = ["train", "val"] if cfg.data.val_jsonl else ["train"]
    for split in splits:
        cfg.split_path(split)
    cfg.image_folder()
    if cfg.train.early_stopping_patience and "val" not in splits:
        raise UserError("train.early_stopping_patience needs validation rows; set data.val_jsonl")
    return splits


def main():
    parsed = parse_arguments()
    cfg = load_config(parsed.config, parsed.overrides)
    check_transformers()
    splits = splits_to_read(cfg)
    resume = None if parsed.dry_run else checkpoint_to_resume(cfg, parsed.resume_from_checkpoint, parsed.overwrite)

    # torch and transformers take seconds: what the user mistyped is said before
    from transformers import set_seed

    from data import answer_space
    from data.check import warnings_before_training
    from data.preprocess import answer_rules, ensure_enriched, training_space
    from dataset import check_first_batch, first_images, load_dataset
    from model.adapter import EXPERIMENT_FILE, check_adapter, experiment_facts
    from model.forward import why_rows_stay_plain
    from model.load import describe_parameters, load_model, load_model_config, load_processor, memory_errors_explained
    from training.dry_run import dry_run
    from training.trainer import build_trainer, training_arguments, training_callbacks, validation_arguments

    args = training_arguments(cfg, cfg.output_dir, **validation_arguments(cfg))
    say = print if args.process_index == 0 else lambda *_: None
    set_seed(cfg.train.seed)
    with args.main_process_first(local=False):  # one process enriches and checks images, the others read what it wrote
        processor = load_processor(cfg)
        space = training_space(cfg)
        for line in warnings_before_training(cfg, splits, space) if args.process_index == 0 else ():
            print(line)
        rows = {split: ensure_enriched(cfg, split, space) for split in splits}
        model_config = load_model_config(cfg)
        if plain := why_rows_stay_plain(model_config):
            say(f"note: {cfg.model_name} {plain}; every question is trained in a row of its own")
        train_set = load_dataset(rows["train"], processor, cfg, model_config, training=True, world_size=args.world_size)
        val_rows = first_images(rows["val"], cfg.train.eval_images) if "val" in rows else None
        val_set = load_dataset(val_rows, processor, cfg, model_config) if val_rows else None
    facts = {**experiment_facts(cfg, answer_rules(space)), "longest_answer": longest_answer(train_set)}
    if resume and (cfg.output_dir / "adapter" / EXPERIMENT_FILE).is_file():
        check_adapter(cfg.output_dir / "adapter", facts)  # the same run goes on, or none
    check_first_batch(train_set)
    say("\n".join(filter(None, [describe_step(train_set, cfg, args.world_size), long_answers_note(train_set, cfg)])))
    if parsed.dry_run:
        say(dry_run(train_set, cfg, args.world_size, parsed.gpu, parsed.utilisation))
        return

    with memory_errors_explained(LOWER):
        model, _ = load_model(cfg, phase="train")
    say(describe_parameters(model))
    if args.process_index == 0:
        if resume is None:
            remove_run(cfg)
        save_run_info(cfg.output_dir / "train_run.json", cfg, args.device, command=sys.argv, world_size=args.world_size)
    callbacks = training_callbacks(cfg, facts, {answer_space.SPACE_FILE: json_text(space)})
    trainer = build_trainer(model, train_set, val_set, args, callbacks)
    with memory_errors_explained(LOWER):
        trainer.train(resume_from_checkpoint=resume)
    say(f"{trainer.speed.steps} steps in {trainer.speed.seconds:.1f} s (start-up, validation and saving excluded)")
    say(describe_adapter(cfg.output_dir / "adapter", read_json(cfg.output_dir / "adapter" / EXPERIMENT_FILE)["best"]))
    say(f"next: {cfg.command('predict_exp1.py', *([] if val_set else ['--split', 'train']))}")


if __name__ == "__main__":
    run_script(main)
