"""Can the model memorise 64 training answers? Minutes now instead of a wasted night.

    python sanity_overfit.py --config config_demo.yaml

Trains 200 steps at lr 1e-3 on 64 training rows, then generates their answers through the prediction code. Exit code 0 only
if the loss ends below 2.0 and at least 95 % of the answers, generated without constraint, are right.
"""

import sys
from itertools import chain

from config import argument_parser, check_transformers, load_config, near, save_run_info
from data.matching import normalize_answer, question_key
from data.preprocess import ensure_enriched
from data.rows import group_by_image
from files import run_script, use_color, write_json

SETTINGS = ["train.max_steps=200", "train.lr=1e-3", "train.logging_steps=10", "train.num_workers=0", "train.report_to=none"]
SAMPLES = 64
REQUIRED_EXACT_MATCH = 0.95


def choose_rows(rows, count):
    """The first `count` rows, image by image, without those that contradict another on the same image and question."""
    answers = {}
    for row in rows:
        answers.setdefault((row["image"], question_key(row["question"])), set()).add(row["answer"])
    agreeing = [row for row in rows if len(answers[row["image"], question_key(row["question"])]) == 1]
    return [row for group in group_by_image(agreeing) for row in group][:count]


def loss_verdict(loss):
    """What a final loss says, in the user's words."""
    if loss < 2.0:
        return "loss < 2.0: label masking works, the model learns short answers"
    if loss < 5.0:
        return "loss 2-5: partial learning; more steps may be needed"
    if loss <= 7.0:
        return "loss 5-7: hardly any learning; check the learning rate and that the LoRA layers train"
    if loss > 7.0:
        return "loss > 7: label masking bug; check dataset.py"
    return "loss is NaN: the run diverged or nothing is supervised; lower train.lr, check dataset.py"


def right_share(answers, name):
    """Share of the (row, Answer) pairs that equal the training answer after normalisation; prints the first misses."""
    total = right = misses = 0
    for row, answer in answers:
        match = normalize_answer(answer.text) == row["answer"]
        total, right = total + 1, right + match
        if not match and (misses := misses + 1) <= 5:
            print(f"  {name}: Predicted: '{answer.text}' vs GT: '{row['answer']}'  ({row['question']})")
    return right / total


def main():
    parser = argument_parser("Can the model memorise 64 training answers?", epilog=__doc__)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, SETTINGS + args.overrides)
    check_transformers()
    cfg.split_path("train")
    cfg.image_folder()

    # torch and transformers take seconds: what the user mistyped is said before
    from transformers import set_seed

    from dataset import check_first_batch, load_dataset, show_item
    from model.load import load_model, load_processor, memory_errors_explained
    from prediction.decode import answer_questions
    from training.trainer import GradientCheck, build_trainer, training_arguments

    set_seed(cfg.train.seed)
    output_dir = cfg.output_dir / "sanity"
    rows = choose_rows(ensure_enriched(cfg, "train"), SAMPLES)
    processor = load_processor(cfg)
    dataset = load_dataset(rows, processor, cfg, training=True)
    print(show_item(dataset[0], processor, use_color(sys.stdout)).split("\n\n")[0] + "\n")
    check_first_batch(dataset)

    with memory_errors_explained("lower train.train_bs or image.max_pixels"):
        model, _ = load_model(cfg, phase="train")
        settings = training_arguments(cfg, output_dir, eval_strategy="no", save_strategy="no")
        trainer = build_trainer(model, dataset, None, settings, [GradientCheck()])
        mean_loss = trainer.train().training_loss
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] or [mean_loss]
    model.eval()
    prompts = load_dataset(rows, processor, cfg, supervised=False)
    limit = max(len(answer_ids) for _, answer_ids in dataset.encoded.values())
    exact_match = {}
    for name, decoding in (("free", "free"), ("constrained", "greedy")):
        answers = chain.from_iterable(answer_questions(model, prompts, cfg, decoding, limit))
        exact_match[name] = right_share(answers, name)

    passed = losses[-1] < 2.0 and exact_match["free"] >= REQUIRED_EXACT_MATCH
    print(f"loss: {losses[0]:.3f} -> {losses[-1]:.3f} in {trainer.state.global_step} steps on {len(rows)} rows")
    print(loss_verdict(losses[-1]))
    wanted = f"(>= {REQUIRED_EXACT_MATCH:.0%} wanted)"
    print(f"generated answers right: free {exact_match['free']:.1%} {wanted}, constrained {exact_match['constrained']:.1%}")
    report = {"passed": passed, "losses": losses, "rows": len(rows), "exact_match": exact_match}
    write_json(output_dir / "sanity.json", report)
    save_run_info(output_dir / "sanity_run.json", cfg, model.device)
    print(f"wrote {near(output_dir / 'sanity.json')}")
    print("SANITY TEST " + ("PASSED" if passed else "FAILED"))
    if passed:
        print(f"next: {command_of_training(args)}")
    return 0 if passed else 1


def command_of_training(args):
    """How to train with the configuration as it was given; the number of steps was this test's."""
    overrides = [override for override in args.overrides if not override.startswith("train.max_steps=")]
    return load_config(args.config, overrides).command("train_exp1.py")


if __name__ == "__main__":
    run_script(main)
