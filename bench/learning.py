"""What grouping an image's questions in one step does to learning.

    python bench/learning.py                             about half an hour on two cores; writes bench/results/learning.json
    python bench/learning.py --seeds 42 train.epochs=1

Trains the demo with all questions of an image in one tree and with one question a row: the same
questions in all, the same number per optimizer step, three seeds. Prints test accuracy with 95 % intervals (bootstrap over
images of the mean over seeds, scipy.stats.bootstrap), the difference to one question a row, and the seconds of training.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, environment_facts, load_config
from data.matching import judge
from files import read_json, read_jsonl, run_script, write_json

QUESTIONS_PER_STEP = 144
MODES = {"all": 16, 1: 144}  # train.questions_per_image: groups of that many questions an optimizer step holds


def run(script, *arguments):
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True, stdout=subprocess.DEVNULL)


def train_and_answer(cap, seed, config, overrides, folder):
    """Return ({row id: right}, {row id: image}, seconds of training) of one run."""
    out = Path(folder) / f"{cap}_{seed}"
    settings = ["--config", str(config), *overrides, f"output_dir={out}", f"train.seed={seed}"]
    run("train_exp1.py", *settings, f"train.questions_per_image={cap}", f"train.train_bs={MODES[cap]}", "train.grad_accum=1")
    run("predict_exp1.py", *settings, "--split", "test", "--out", str(out / "predictions.jsonl"))
    judged = judge([row for _, row in read_jsonl(out / "predictions.jsonl")])
    log = [entry for entry in read_json(out / "trainer_state.json")["log_history"] if "training_seconds" in entry]
    seconds = log[-1]["training_seconds"] / log[-1]["step"]
    return {row["id"]: row["correct"] for row in judged}, {row["id"]: row["image"] for row in judged}, seconds


def mean_with_interval(shares):
    """(mean, low, high) in % of per-image shares (images,): 95 % by bootstrap over images."""
    interval = bootstrap((shares,), np.mean, confidence_level=0.95, n_resamples=10_000, rng=0).confidence_interval
    return [round(100 * float(value), 2) for value in (shares.mean(), interval.low, interval.high)]


def per_image(runs, images):
    """(images,) share of right answers of each image over all its questions and seeds."""
    shares = defaultdict(list)
    for right in runs:
        for row_id, correct in right.items():
            shares[images[row_id]].append(correct)
    return np.array([np.mean(shares[image]) for image in sorted(shares)])


def main():
    parser = argument_parser("What grouping an image's questions in one step does to learning.", epilog=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "learning.json"), metavar="PATH")
    args = parser.parse_intermixed_args()
    config = args.config or ROOT / "config_demo.yaml"
    load_config(config, args.overrides)  # a wrong key is told before the first training
    runs, seconds, images = defaultdict(list), defaultdict(list), {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for cap in MODES:  # interleaved, so that a busy machine slows all alike
                right, images, step = train_and_answer(cap, seed, config, args.overrides, folder)
                runs[cap].append(right)
                seconds[cap].append(step)
                print(f"seed {seed}, questions_per_image={cap}: {np.mean(list(right.values())):.2%}, {step:.2f} s a step", flush=True)
    reference, report = per_image(runs[1], images), {}
    for cap in MODES:
        shares = per_image(runs[cap], images)
        report[str(cap)] = {
            "accuracy": mean_with_interval(shares),
            "per_seed": [round(100 * float(np.mean(list(right.values()))), 2) for right in runs[cap]],
            "difference_to_1": mean_with_interval(shares - reference) if cap != 1 else None,
            "seconds_per_step": [round(value, 3) for value in seconds[cap]],
            "times_faster_than_1": round(float(np.median(np.divide(seconds[1], seconds[cap]))), 2),
        }
    print(json.dumps(report, indent=2))
    facts = {"seeds": args.seeds, "overrides": args.overrides, "questions_per_step": QUESTIONS_PER_STEP, **environment_facts()}
    write_json(args.out, {"questions_per_image": report, **facts})


if __name__ == "__main__":
    run_script(main)
