"""What evaluation promises about itself: seconds and memory at the size of Kvasir-VQA, and intervals that cover the truth.

    python bench/evaluate.py --speed                    58,849 predictions: metrics, then metrics and report (~1 minute)
    python bench/evaluate.py --coverage                 1,500 simulated data sets per setting (~6 minutes)
    python bench/evaluate.py --coverage --quick         500 of them, half of the settings (~1 minute)

`--speed` makes predictions, training rows and frames of its own in a temporary folder and runs the real script on them; the
training rows are enriched before, as training does. `--coverage` draws data sets whose clusters (images or patients) differ
in difficulty and in their number of questions, and counts how often the 95 % intervals hold the truth, and how often the
paired test finds a difference that isn't there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import load_config
from data.preprocess import enrich_split
from evaluation.intervals import accuracy_interval, difference_interval, macro_interval, paired_test
from files import write_jsonl

ROWS, IMAGES, FRAMES = 58_849, 6_500, 200
GRID = ["upper-left", "upper-center", "upper-right", "center-left", "center", "center-right", "lower-left", "lower-center", "lower-right"]
QUESTIONS = [
    *(("yes_no", f"Is there {thing}?", ["yes", "no"]) for thing in ("text", "a polyp", "a green box", "an artefact", "bleeding")),
    *(
        ("count_numeric", f"How many {thing} are in the image?", list(map(str, range(17))))
        for thing in ("polyps", "instruments", "findings")
    ),
    ("size_numeric", "What is the size of the polyp?", ["<5mm", "5-10mm", "11-20mm", ">20mm", "none"]),
    *(
        ("color", f"What color is the {thing}?", ["pink", "red", "pink; red", "white", "yellow", "brown; red"])
        for thing in ("abnormality", "landmark")
    ),
    *(
        ("mcq", f"Where in the image is the {thing}?", [f"{a}; {b}" if a != b else a for a in GRID for b in GRID])
        for thing in ("polyp", "instrument", "landmark")
    ),
    *(
        ("mcq", f"What type of {thing} is it?", ["gastroscopy", "colonoscopy", "capsule endoscopy", "paris is", "paris ip", "paris iia"])
        for thing in ("procedure", "polyp", "instrument")
    ),
    *(
        ("open_ended", f"What does the {thing} show?", [f"finding number {n}" for n in range(400)])
        for thing in ("frame", "margin", "vessel")
    ),
]


# ---------------------------------------------------------------------------------------------------------------------
# Seconds and memory


def make_folder(folder, rows):
    """Write predictions with probabilities, training rows as many, noise frames of 720 x 576 and a configuration."""
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir()
    for number in range(IMAGES):
        if number < FRAMES:
            Image.fromarray(rng.integers(0, 255, (72, 90, 3), dtype=np.uint8)).resize((720, 576)).save(folder / "frames" / f"{number}.jpg")
        else:
            os.link(folder / "frames" / f"{number % FRAMES}.jpg", folder / "frames" / f"{number}.jpg")
    predictions, train = [], []
    for number in range(rows):
        qtype, question, answers = QUESTIONS[number % len(QUESTIONS)]
        truth, wrong = (answers[place] for place in rng.choice(len(answers), 2, replace=False))
        confidence = float(rng.beta(5, 2))
        said = truth if rng.random() < confidence else wrong
        top = [[said, confidence], [wrong if said == truth else truth, 1 - confidence]]
        image = f"frames/{number * IMAGES // rows}.jpg"
        row = {"id": str(number), "pred": said, "gt": truth, "qtype": qtype, "question": question, "image": image, "confidence": confidence}
        predictions.append(
            {
                **row,
                "reachable": True,
                "runner_up": top[1][0],
                "runner_up_confidence": 1 - confidence,
                "candidates_top": top,
                "greedy": said if rng.random() < 0.95 else truth,
            }
        )
        train.append({"question": question, "answer": truth, "image": image})
    write_jsonl(folder / "predictions.jsonl", predictions)
    write_jsonl(folder / "train.jsonl", train)
    (folder / "config.yaml").write_text("output_dir: out\ndata: {train_jsonl: train.jsonl, image_root: .}\n")


def timed(*command):
    """Run a script of the project; return (seconds, processor seconds, its peak resident memory in MB)."""
    code = "import resource, runpy, sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0)\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit: pass\n"
    code += "used = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)"
    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code, ROOT, *map(str, command)], check=True, capture_output=True, text=True)
    processor, memory = result.stderr.split()[-2:]
    return time.perf_counter() - began, float(processor), int(memory) / 1024


def speed(rows):
    """Exit code 0 if metrics take at most 6 s of processor time and 300 MB, the report at most 60 s and 25 MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder, rows)
        script = [ROOT / "eval_exp1.py", "--config", folder / "config.yaml", "--predictions", folder / "predictions.jsonl"]
        enrich_split(load_config(folder / "config.yaml"), "train")
        seconds, processor, memory = timed(*script, "--report", "none")
        whole, *_ = timed(*script, "--report", folder / "report.html")
        size = (folder / "report.html").stat().st_size / 1e6
    result = {"rows": rows, "metrics_seconds": seconds, "metrics_processor_seconds": processor, "metrics_peak_mb": memory}
    result |= {"report_seconds": whole - seconds, "report_mb": size}
    print(json.dumps({key: round(value, 2) for key, value in result.items()}, indent=2))
    return 0 if processor <= 6 and memory <= 300 and whole - seconds <= 60 and size <= 25 else 1


# ---------------------------------------------------------------------------------------------------------------------
# Coverage


SIZES = {
    "9": lambda rng, shape: np.full(shape, 9),
    "1-12": lambda rng, shape: rng.integers(1, 13, shape),
    "geometric": lambda rng, shape: rng.geometric(1 / 9, shape),
    "lognormal": lambda rng, shape: np.maximum(1, np.rint(rng.lognormal(np.log(6), 1, shape))).astype(int),  # a few have 50
    "a third": lambda rng, shape: np.where(np.arange(shape) == 0, 9 * (shape - 1) // 2, 9),  # one has a third of all rows
}
TYPES = [0.5, 0.3, 0.15, 0.05]  # shares of rows, for the macro accuracy
WORSE = 0.1  # how much lower B's accuracy is
CORRELATIONS = (0.1, 0.3, 0.5)
GATED = [(clusters, accuracy, sizes) for clusters in (20, 50, 150, 750) for sizes in list(SIZES)[:4] for accuracy in (0.5, 0.8, 0.95)]
SHOWN = [
    *((clusters, accuracy, sizes) for clusters in (3, 5, 10) for sizes in ("9", "1-12") for accuracy in (0.5, 0.8, 0.95)),
    *((clusters, 0.99, sizes) for clusters in (20, 150, 750) for sizes in ("9", "lognormal")),
    *((clusters, accuracy, "a third") for clusters in (20, 150) for accuracy in (0.5, 0.8, 0.95)),
]
LOW, HIGH, FALSE_POSITIVES = 0.93, 0.97, 0.06
# Null differences of 20 images of nine questions, most of which gain little and few of which lose much: {gain: probability}.
SKEWED = [{1: 0.75, -3: 0.25}, {1: 0.8, -4: 0.2}, {1: 0.4, 2: 0.4, -6: 0.2}, {0: 0.5, 1: 0.4, -4: 0.1}, {1: 0.9, -9: 0.1}]


def simulate(rng, clusters, accuracy, correlation, sizes, harder=0.0):
    """(rows, abilities) of some clusters, both (clusters,): each has a beta-distributed accuracy of its own.

    correlation: of two answers about one cluster. sizes: a key of SIZES. harder: how much lower the mean accuracy of clusters
    of more than nine rows is than `accuracy`, and how much higher that of the others.
    """
    rows = SIZES[sizes](rng, clusters)
    mean, spread = accuracy - harder * np.where(rows > 9, 1, -1), 1 / correlation - 1
    return rows, rng.beta(mean * spread, (1 - mean) * spread)


def intervals_hold(rng, clusters, accuracy, correlation, sizes):
    """One data set: do the intervals of accuracy, macro accuracy and difference hold the truth, and does the test cry wolf?

    B answers the same questions a tenth less accurately, and for the test as accurately as A.
    """
    rows, ability = simulate(rng, clusters, accuracy, correlation, sizes)
    right = rng.binomial(rows, ability)
    typed = rng.multinomial(rows, TYPES).T
    types = np.stack([typed, rng.binomial(typed, ability)], axis=2)
    worse = rng.binomial(rows, ability * (1 - WORSE / accuracy)) - right
    other = rng.binomial(rows, ability) - right
    found = [
        (accuracy_interval(np.stack([rows, right], axis=1)), accuracy),
        (macro_interval(types[types[:, :, 0].any(axis=1)]), accuracy),
        (difference_interval(np.stack([rows, worse], axis=1)), -WORSE),
    ]
    return [*(low <= truth <= high for (low, high, _), truth in found), paired_test(np.stack([rows, other], axis=1))[0] <= 0.05]


def within(shares, data_sets, setting):
    """Do shares (4,), as of `intervals_hold`, pass the gate? Chance gets three standard deviations of the binomial.

    Above 97 % is a fault only where two and a half clusters' worth of answers or more are wrong: with fewer, hardly a data
    set can be told from one that is all right, and no interval can miss the truth from above.
    """
    clusters, accuracy, _ = setting
    low, high, false = (
        limit + sign * 3 * (limit * (1 - limit) / data_sets) ** 0.5 for limit, sign in ((LOW, -1), (HIGH, 1), (FALSE_POSITIVES, 1))
    )
    too_high = clusters * (1 - accuracy) > 2.51 and max(shares[:3]) > high
    return min(shares[:3]) >= low and not too_high and shares[3] <= false


def coverage_rows(settings, data_sets, gate):
    """Print a line per setting and correlation; return how many fail the gate."""
    failed = 0
    for clusters, accuracy, sizes in settings:
        for correlation in CORRELATIONS:
            rng = np.random.default_rng(1)
            shares = np.mean([intervals_hold(rng, clusters, accuracy, correlation, sizes) for _ in range(data_sets)], axis=0)
            fails = gate and not within(shares, data_sets, (clusters, accuracy, sizes))
            cells = "".join(f"{share:>12.1%}" for share in shares)
            print(f"{clusters:>8}  {sizes:>9}  {accuracy:>8.0%}  {correlation:>11}{cells}{'  FAILS' if fails else ''}", flush=True)
            failed += fails
    return failed


def skewed_nulls(data_sets):
    """Print how often the test calls a difference that isn't there, where few images lose much; return how many fail."""
    print("\n20 images of nine questions each, no true difference: false positives, and how often no loss is among the images")
    failed = 0
    for gains in SKEWED:
        rng, values, odds = np.random.default_rng(1), list(gains), list(gains.values())
        draws = rng.choice(values, p=odds, size=(data_sets, 20))
        false = np.mean([paired_test(np.stack([np.full(20, 9), gained], axis=1))[0] <= 0.05 for gained in draws])
        unseen = (1 - odds[-1]) ** 20
        fails = unseen < 0.01 and false > FALSE_POSITIVES + 3 * (FALSE_POSITIVES / data_sets) ** 0.5
        print(f"{gains}: {false:.1%}, {unseen:.1%}{'  FAILS' if fails else ''}", flush=True)
        failed += fails
    return failed


def harder_if_larger(data_sets):
    """Print the coverage of accuracies where large images are harder: the truth is then the accuracy over rows."""
    print("\nimages of more than nine questions (1-12) 20 points harder: accuracy's interval holds the accuracy over rows")
    rows = np.arange(1, 13)
    truth = (rows * np.where(rows > 9, 0.5, 0.7)).sum() / rows.sum()
    for clusters in (20, 50, 150):
        rng, held = np.random.default_rng(1), 0
        for _ in range(data_sets):
            asked, ability = simulate(rng, clusters, 0.6, 0.3, "1-12", harder=0.1)
            low, high, _ = accuracy_interval(np.stack([asked, rng.binomial(asked, ability)], axis=1))
            held += low <= truth <= high
        print(f"{clusters} images: {held / data_sets:.1%}", flush=True)


def coverage(data_sets, gated):
    """Exit code 0 if all intervals of `gated` settings hold the truth in 93 to 97 % of data sets, and tests err in 6 %."""
    head = f"{'clusters':>8}  {'questions':>9}  {'accuracy':>8}  {'correlation':>11}"
    print(head + "".join(f"{name:>12}" for name in ("accuracy", "macro", "difference", "false p")))
    failed = coverage_rows(gated, data_sets, gate=True)
    print("\nwithout gate")
    coverage_rows(SHOWN if len(gated) == len(GATED) else SHOWN[::5], data_sets // 4, gate=False)
    failed += skewed_nulls(data_sets)
    harder_if_larger(data_sets)
    print(f"\n{failed} settings outside {LOW:.0%} to {HIGH:.0%}, or over {FALSE_POSITIVES:.0%} false positives")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "coverage"], help="or --speed, --coverage")
    parser.add_argument("--speed", dest="flag", action="store_const", const="speed", help=argparse.SUPPRESS)
    parser.add_argument("--coverage", dest="flag", action="store_const", const="coverage", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=ROWS, help="predictions of `speed`")
    parser.add_argument("--quick", action="store_true", help="coverage: 20 and 150 clusters, 500 data sets per setting instead of 1,500")
    args = parser.parse_args()
    what = args.what or args.flag or parser.error("say --speed or --coverage")
    if what == "speed":
        return speed(args.rows)
    return coverage(500, [setting for setting in GATED if setting[0] in (20, 150)]) if args.quick else coverage(1500, GATED)


if __name__ == "__main__":
    sys.exit(main())
