"""What evaluation promises about itself: seconds and memory at the size of Kvasir-VQA, and intervals that cover the truth.

    python bench/evaluate.py speed                    58,849 predictions: metrics, then metrics and report (~1 minute)
    python bench/evaluate.py coverage                 2,000 simulated data sets per setting (~5 minutes)
    python bench/evaluate.py coverage --quick         a tenth of them

`speed` makes predictions, training rows and frames of its own in a temporary folder and runs the real script on them; the
training rows are enriched before, as training does. `coverage` draws data sets whose images differ in difficulty, and counts
how often the 95 % interval of the accuracy contains the truth; beside it, the interval that takes rows as independent.
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
from evaluation.intervals import accuracy_interval, wilson
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
    """Run a script of the project; return (seconds, its peak resident memory in MB)."""
    code = "import resource, runpy, sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0)\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code, ROOT, *map(str, command)], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, int(result.stderr.split()[-1]) / 1024


def speed(rows):
    """Exit code 0 if metrics take at most 10 s and 600 MB and the report at most 60 s and 25 MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder, rows)
        script = [ROOT / "eval_exp1.py", "--config", folder / "config.yaml", "--predictions", folder / "predictions.jsonl"]
        enrich_split(load_config(folder / "config.yaml"), "train")
        seconds, memory = timed(*script, "--report", "none")
        whole, _ = timed(*script)
        size = (folder / "out" / "report.html").stat().st_size / 1e6
    result = {"rows": rows, "metrics_seconds": seconds, "metrics_peak_mb": memory, "report_seconds": whole - seconds, "report_mb": size}
    print(json.dumps({key: round(value, 2) for key, value in result.items()}, indent=2))
    return 0 if seconds <= 10 and memory <= 600 and whole - seconds <= 60 and size <= 25 else 1


# ---------------------------------------------------------------------------------------------------------------------
# Coverage


def simulate(rng, images, accuracy, strength, questions):
    """(images, 2) rows and right rows: each image's own accuracy is beta-distributed around `accuracy`.

    strength: the intraclass correlation of two answers about one image. questions: (fewest, most) per image.
    """
    spread = 1 / strength - 1
    own = rng.beta(accuracy * spread, (1 - accuracy) * spread, images)
    rows = rng.integers(questions[0], questions[1] + 1, images)
    return np.stack([rows, rng.binomial(rows, own)], axis=1)


def coverage(data_sets):
    """Exit code 0 if every setting's interval covers the truth in 93 to 97 % of the data sets."""
    print("images  accuracy  correlation  questions   clustered   rows as independent")
    within = []
    for images in (150, 750):
        for accuracy in (0.3, 0.6, 0.8, 0.95):
            for strength, questions in ((0.1, (9, 9)), (0.3, (1, 12)), (0.5, (9, 9))):
                rng, hits, naive = np.random.default_rng(1), 0, 0
                for _ in range(data_sets):
                    sums = simulate(rng, images, accuracy, strength, questions)
                    clustered, rowwise = accuracy_interval(sums), wilson(sums[:, 1].sum(), sums[:, 0].sum())
                    hits += clustered.low <= accuracy <= clustered.high
                    naive += rowwise.low <= accuracy <= rowwise.high
                asked = f"{questions[0]}-{questions[1]}"
                print(
                    f"{images:>6}  {accuracy:>8.0%}  {strength:>11}  {asked:>9}  {hits / data_sets:>10.1%}  {naive / data_sets:>20.1%}",
                    flush=True,
                )
                within.append(0.93 <= hits / data_sets <= 0.97)
    return 0 if all(within) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "coverage"])
    parser.add_argument("--rows", type=int, default=ROWS, help="predictions of `speed`")
    parser.add_argument("--quick", action="store_true", help="200 data sets per setting instead of 2,000")
    args = parser.parse_args()
    return speed(args.rows) if args.what == "speed" else coverage(200 if args.quick else 2000)


if __name__ == "__main__":
    sys.exit(main())
