"""Real kill -9 over the demo's training and prediction, each time started again: does all end as if nothing had happened?

    python bench/kill.py --config config_demo.yaml --training          30 kill -9 and 5 SIGTERM; --kills 30 --terms 5
    python bench/kill.py --config config_demo.yaml                     of prediction, after train_exp1.py; --kills 20

Kills of a training come by turns while it starts, while it trains, and while it writes a checkpoint or adapter; it is always the
same command that goes on. Its adapter, checkpoints and log have to be those of a run that nobody killed. Kills of a prediction
come at random moments; its file has to be the same, and the last run is shared by two processes (torchrun).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from files import run_script, sha256

STEPS = ["train.max_steps=24", "train.save_steps=3", "train.eval_steps=2", "train.logging_steps=4", "train.eval_images=10"]
STEPS += ["train.train_bs=8", "train.questions_per_image=4", "lora.dropout=0.1", "train.early_stopping_patience=30"]
SAME = ("step", "epoch", "loss", "grad_norm", "learning_rate")  # of a log line, and all of a validation but its seconds
MOMENTS = ("start", "training", "writing")


def kill_trainings(cfg, args):
    """Kill trainings in a folder of their own until all kills are spent; compare each that ends with one that nobody killed."""
    out = cfg.output_dir / "killed"
    script = [sys.executable, str(ROOT / "train_exp1.py"), "--config", str(cfg.config_path), "--resume_from_checkpoint"]
    script += [*STEPS, *args.overrides, f"output_dir={out}"]
    shutil.rmtree(out, ignore_errors=True)
    begin = time.perf_counter()
    subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
    seconds, expected = time.perf_counter() - begin, state_of(out)
    rng = random.Random(0)
    signals = [signal.SIGKILL] * args.kills + [signal.SIGTERM] * args.terms
    rng.shuffle(signals)
    counts = {"kills": 0, "while writing": 0, "runs that ended": 0, "identical": 0, "seconds of an uninterrupted run": round(seconds, 1)}
    while signals:
        shutil.rmtree(out, ignore_errors=True)
        while signals and (moment := kill_once(script, out, rng, seconds, signals[-1], counts)):
            counts["kills"] += 1
            counts["while writing"] += moment == "writing"
            signals.pop()
        subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
        counts["runs that ended"] += 1
        found = state_of(out)
        counts["identical"] += found == expected
        for name in sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
            print(f"differs: {name}", file=sys.stderr)
    print(json.dumps(counts, indent=1))
    return 0 if counts["identical"] == counts["runs that ended"] else 1


def kill_once(script, out, rng, seconds, sign, counts):
    """Start the training and kill it at a moment of the next kind. Returns the kind, None if it ended before."""
    moment = MOMENTS[counts["kills"] % len(MOMENTS)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True, start_new_session=True)
    if moment == "start":
        wait(process, rng.uniform(0, seconds))
    else:
        for line in process.stdout:
            if line.startswith("training "):
                break
        wait(process, rng.uniform(0, seconds / 4))
        until = time.perf_counter() + seconds
        while moment == "writing" and process.poll() is None and time.perf_counter() < until and not list(out.glob(".*.new")):
            time.sleep(0.0005)
        wait(process, rng.uniform(0, 0.05) if moment == "writing" else 0)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, sign)
    process.communicate()
    return None if ended else moment


def wait(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def state_of(out):
    """All that a training left behind and that may not depend on kills: {name: hash or value}."""
    files = [path for path in out.rglob("*") if path.suffix in (".safetensors", ".pt", ".pth") or path.parent.name == "adapter"]
    found = {str(path.relative_to(out)): sha256(path) for path in files if path.is_file()}
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    keep = lambda key: key in SAME or key.startswith("eval_") and "second" not in key and "runtime" not in key
    found["log"] = [{key: value for key, value in entry.items() if keep(key)} for entry in log if "train_loss" not in entry]
    found["hidden"] = sorted(path.name for path in out.glob(".*"))
    return found


def kill_predictions(cfg, args):
    """Kill predictions until all kills are spent; compare the file of each that ends with that of one that nobody killed."""
    out = cfg.output_dir / "predictions_killed.jsonl"
    script = [str(ROOT / "predict_exp1.py"), "--config", str(cfg.config_path), "--out", str(out), "predict.batch_size=5", *args.overrides]
    script += ["--adapter", args.adapter] if args.adapter else []
    threads = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}  # torchrun would set 1, and another number changes last bits
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "env": threads}

    start = time.perf_counter()
    subprocess.run([sys.executable, *script, "--overwrite"], check=True, **quiet)
    seconds, expected = time.perf_counter() - start, out.read_bytes()
    rng, kills, continued, complete, identical = random.Random(0), 0, 0, 0, 0
    while kills < args.kills:
        out.unlink(missing_ok=True)
        while True:
            process = subprocess.Popen([sys.executable, *script], **quiet)
            try:
                output, _ = process.communicate(timeout=rng.uniform(0, seconds) if kills < args.kills else None)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        assert process.returncode == 0, output
        complete += 1
        continued += "continuing:" in output
        identical += out.read_bytes() == expected
    out.unlink()
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533", *script], check=True, **quiet
    )
    shared = out.read_bytes() == expected
    facts = {"kills": kills, "runs that ended": complete, "continued": continued, "identical": identical, "two processes identical": shared}
    print(json.dumps({**facts, "seconds of an uninterrupted run": round(seconds, 1)}, indent=1))
    return 0 if identical == complete and continued and shared else 1


def main():
    parser = argument_parser("Kill trainings or predictions again and again.", epilog=__doc__)
    parser.add_argument("--training", action="store_true", help="training instead of prediction")
    parser.add_argument("--kills", type=int, help="kill -9 (default 30 of training, 20 of prediction)")
    parser.add_argument("--terms", type=int, default=5, help="SIGTERM, of training (default 5)")
    parser.add_argument("--adapter", default=None, help="as for predict_exp1.py")
    args = parser.parse_intermixed_args()
    args.kills = (30 if args.training else 20) if args.kills is None else args.kills
    cfg = load_config(args.config, args.overrides)
    return kill_trainings(cfg, args) if args.training else kill_predictions(cfg, args)


if __name__ == "__main__":
    run_script(main)
