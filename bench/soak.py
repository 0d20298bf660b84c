"""A long training and a long prediction of the demo's tiny model: do memory and open files stay as they are after warming up?

    python bench/soak.py --config config_demo.yaml                       2,000 steps, 20,000 predictions
    python bench/soak.py --config config_demo.yaml --part training --steps 500

The real scripts, watched from outside (Linux's /proc). Training validates, saves and loads ahead in a process of its own; prediction
uses the adapter that the training leaves, or none where there is none. What a straight line through resident memory and open files
rises, from a fifth of the run to its end, has to stay below LIMITS. Exit code 1 where it doesn't.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from files import read_jsonl, run_script, write_jsonl

LIMITS = {"MB": 25.0, "files": 2.0}  # growth between warm-up and end
WARM_UP = 0.2  # of the run, by its progress
SMALL = ["train.train_bs=2", "train.grad_accum=1", "train.num_workers=1", "train.logging_steps=5", "train.eval_images=10"]
PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6  # MB


def usage(pid):
    """(resident MB, open files) of a process. Raises OSError where it has ended."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return resident, len(os.listdir(f"/proc/{pid}/fd"))


def watch(process, progress, every=0.25):
    """[(steps or rows done, resident MB, open files)] of a running process, till it ends. progress: function of no argument."""
    samples = []
    while process.poll() is None:
        try:
            samples.append((progress(), *usage(process.pid)))
        except OSError:  # it has just ended
            break
        time.sleep(every)
    process.wait()
    last = max((done for done, *_ in samples), default=0)
    return [sample for sample in samples if 0 < sample[0] < last]  # neither start-up nor what is closed at the end


def growth(samples, warm_up=WARM_UP):
    """What resident memory (MB) and open files rise from warm-up to end, by a straight line through them: {"MB", "files"}.

    Raises ValueError with fewer than ten samples after the warm-up.
    """
    done, resident, files = np.array(samples, dtype=float).T
    late = done >= warm_up * done.max()
    if late.sum() < 10:
        raise ValueError(f"{late.sum()} samples after the warm-up are too few; more steps or rows are needed")
    span = np.ptp(done[late])
    line = lambda values: float(np.polyfit(done[late], values[late], 1)[0] * span) if span else 0.0
    return {"MB": line(resident), "files": line(files)}


def judge(name, samples, seconds):
    """The figures of a part, printed as a line of JSON; True where nothing grew beyond LIMITS."""
    grown = growth(samples)
    found = {"part": name, "done": int(samples[-1][0]), "seconds": round(seconds), "samples": len(samples)}
    fifths = [part.mean(axis=0) for part in np.array_split(np.array(samples, dtype=float), 5)]
    found |= {"MB by fifths": [round(mean[1]) for mean in fifths], "files by fifths": [round(mean[2]) for mean in fifths]}
    flat = all(grown[key] <= limit for key, limit in LIMITS.items())
    print(json.dumps({**found, "grown": {key: round(value, 2) for key, value in grown.items()}, "flat": flat}), flush=True)
    return flat


def soak(name, command, progress, log, every=0.25):
    """Run a command whose output goes to the file `log`, and judge what it used. Raises CalledProcessError where it fails."""
    start = time.perf_counter()
    with open(log, "w", encoding="utf-8") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        samples = watch(process, progress, every)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, Path(log).read_text()[-2000:])
    return judge(name, samples, time.perf_counter() - start)


def training(cfg, args, out):
    """`--steps` optimizer steps, with twenty checkpoints and validations on the way."""
    often = max(1, args.steps // 20)
    command = [sys.executable, str(ROOT / "train_exp1.py"), "--config", str(cfg.config_path), "--overwrite", *SMALL, *args.overrides]
    command += [f"train.max_steps={args.steps}", f"train.save_steps={often}", f"train.eval_steps={often}", f"output_dir={out}"]
    log = out / "training.log"

    def step():
        lines = [line for line in log.read_text().splitlines() if line.startswith("step ")]
        return int(lines[-1].split()[1].split("/")[0]) if lines else 0

    return soak("training", command, step, log)


def prediction(cfg, args, out):
    """`--rows` rows: those of the training file again and again, under other ids."""
    rows = [row for _, row in read_jsonl(cfg.split_path("train"))]
    many, predictions = out / "many.jsonl", out / "predictions.jsonl"
    write_jsonl(many, ({**rows[number % len(rows)], "id": str(number)} for number in range(args.rows)))
    command = [sys.executable, str(ROOT / "predict_exp1.py"), "--config", str(cfg.config_path), "--out", str(predictions), "--overwrite"]
    command += ["--adapter", str(out / "adapter") if (out / "adapter").is_dir() else "none", f"output_dir={out}"]
    command += [f"data.val_jsonl={many}", "predict.batch_size=2", *args.overrides]
    part = predictions.with_name(f".{predictions.name}.part-0")
    return soak("prediction", command, lambda: part.read_bytes().count(b"\n") if part.exists() else 0, out / "prediction.log")


PARTS = {"training": training, "prediction": prediction}


def main():
    parser = argument_parser("Memory and open files of a long training and a long prediction.", epilog=__doc__)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS), help="default: both")
    parser.add_argument("--steps", type=int, default=2000, help="of training (default 2,000)")
    parser.add_argument("--rows", type=int, default=20_000, help="of prediction (default 20,000)")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    out = cfg.output_dir / "soak"
    out.mkdir(parents=True, exist_ok=True)
    flat = [PARTS[name](cfg, args, out) for name in args.part]
    return 0 if all(flat) else 1


if __name__ == "__main__":
    run_script(main)
