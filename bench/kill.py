"""Real kills, signals and full disks over the demo's stages, each started again: does all end as if nothing had happened?

    python train_exp1.py --config config_demo.yaml                                an adapter for the parts on prediction and disks
    python bench/kill.py --config config_demo.yaml                                all parts
    python bench/kill.py --config config_demo.yaml --part signals --times 5 --seed 1

    training     30 kill -9 by turns while it starts, trains, and writes a checkpoint or adapter
    prediction   20 kill -9 at random moments; the last run is shared by two processes (torchrun)
    ranks        5 kill -9 of one process of two that train together: the other has to end, too
    signals      5 each of SIGTERM, SIGUSR1 and SIGINT to a training: at once or at a step's end, it leaves in one line at most
    disk         3 disks for each stage (enrich, train, predict, eval, merge) that are full on the way (a tmpfs, which needs root)

It is always the same command that goes on. What it leaves has to be what a run leaves that nobody disturbed, byte for byte: of a
training adapter, checkpoints and log, of a prediction its file. Exit code 1 where something differs, or speaks in more than one line.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from files import UserError, run_script, sha256

STEPS = ["train.max_steps=24", "train.save_steps=3", "train.eval_steps=2", "train.logging_steps=4", "train.eval_images=10"]
STEPS += ["train.train_bs=8", "train.questions_per_image=4", "lora.dropout=0.1", "train.early_stopping_patience=30"]
SAME = ("step", "epoch", "loss", "grad_norm", "learning_rate")  # of a log line, and all of a validation but its seconds
MOMENTS = ("start", "training", "writing")
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
TWO = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533"]
PATIENCE = 600  # seconds in which a job has to end whose process was killed
# torchrun would set 1, and another number changes last bits
THREADS = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}


# ---------------------------------------------------------------------------------------------------------------------
# Training


def training(cfg, out, *overrides, launcher=()):
    """The command of a short training into the folder `out`, which starts it and goes on with it."""
    script = [sys.executable, *launcher, str(ROOT / "train_exp1.py"), "--config", str(cfg.config_path), "--resume_from_checkpoint"]
    return [*script, *STEPS, *overrides, f"output_dir={out}"]


def run(command, **options):
    """Run to the end, with its standard error as text. Raises CalledProcessError where that fails."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=THREADS, **options)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        done.check_returncode()
    return done


def undisturbed(command, out):
    """(seconds of a run from its beginning, `state_of` what it leaves)."""
    shutil.rmtree(out, ignore_errors=True)
    begin = time.perf_counter()
    run(command)
    return time.perf_counter() - begin, state_of(out)


def state_of(out, every=True):
    """All that a training left behind and that may not depend on kills: {name: hash or value}. every: or of checkpoints only the last."""
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    files = [path for path in out.rglob("*") if path.suffix in (".safetensors", ".pt", ".pth") or path.parent.name == "adapter"]
    files = [path for path in files if every or path.parent.name in ("adapter", last.name)]
    found = {str(path.relative_to(out)): sha256(path) for path in files if path.is_file()}
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    keep = lambda key: key in SAME or key.startswith("eval_") and "second" not in key and "runtime" not in key
    found["log"] = [{key: value for key, value in entry.items() if keep(key)} for entry in log if "train_loss" not in entry]
    found["hidden"] = sorted(path.name for path in out.glob(".*"))
    return found


def same(expected, found, counts):
    """Note whether two states are the same, and say on standard error what differs."""
    expected = {name: value for name, value in expected.items() if name in found or not name.startswith("checkpoint-")}
    counts["runs that ended"] += 1
    counts["identical"] += found == expected
    for name in sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        print(f"differs: {name}", file=sys.stderr)


def one_line(text, counts):
    """Note whether a run that was disturbed spoke of it in one line, or not at all: no traceback."""
    if "Traceback" in text or sum(line.startswith(("error: ", "interrupted")) for line in text.splitlines()) > 1:
        counts["said in more than a line"] += 1
        print(text[-3000:], file=sys.stderr)


def kill_trainings(cfg, args, rng):
    out = cfg.output_dir / "killed"
    command = training(cfg, out, *args.overrides)
    seconds, expected = undisturbed(command, out)
    counts = {"kills": 0, "while writing": 0, "runs that ended": 0, "identical": 0, "seconds of an uninterrupted run": round(seconds, 1)}
    kills = args.times or 30
    while counts["kills"] < kills:
        shutil.rmtree(out, ignore_errors=True)
        while counts["kills"] < kills:
            moment = MOMENTS[counts["kills"] % len(MOMENTS)]
            process = start_and_wait(command, out, rng, seconds, moment)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if process.returncode != -signal.SIGKILL:
                break
            counts["kills"] += 1
            counts["while writing"] += moment == "writing"
        run(command)
        same(expected, state_of(out), counts)
    return counts


def start_and_wait(command, out, rng, seconds, moment):
    """Start a training and return its process at a moment of this kind, or ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=THREADS)
    if moment == "start":
        wait(process, rng.uniform(0, seconds))
        return process
    for line in process.stdout:
        if line.startswith("training "):
            break
    wait(process, rng.uniform(0, seconds / 4))
    until = time.perf_counter() + seconds
    while moment == "writing" and process.poll() is None and time.perf_counter() < until and not list(out.glob(".*.new")):
        time.sleep(0.0005)
    wait(process, rng.uniform(0, 0.05) if moment == "writing" else 0)
    return process


def wait(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def signal_trainings(cfg, args, rng):
    out = cfg.output_dir / "signalled"
    command = training(cfg, out, *args.overrides)
    seconds, _ = undisturbed(command, out)
    expected = state_of(out, every=False)  # a signal may leave a checkpoint of its own
    counts = {"signals": 0, "codes": {}, "runs that ended": 0, "identical": 0, "said in more than a line": 0}
    signs = [sign for sign in SIGNALS for _ in range(args.times or 5)]
    rng.shuffle(signs)
    while signs:
        shutil.rmtree(out, ignore_errors=True)
        while signs:
            process = start_and_wait(command, out, rng, seconds, MOMENTS[len(signs) % len(MOMENTS)])
            if process.poll() is None:
                process.send_signal(signs[-1])
            _, said = process.communicate(timeout=PATIENCE)
            if process.returncode == 0:
                break
            one_line(said, counts)
            seen = counts["codes"].setdefault(signs.pop().name, [])
            seen.append(process.returncode)
            counts["signals"] += 1
            if len(signs) % 4 == 0:  # not a dozen in one run
                break
        run(command)
        same(expected, state_of(out, every=False), counts)
    return counts


def kill_ranks(cfg, args, rng):
    out = cfg.output_dir / "one_rank_killed"
    command = training(cfg, out, "train.train_bs=4", *args.overrides, launcher=TWO)
    seconds, expected = undisturbed(command, out)
    counts = {"kills": 0, "seconds till the job ended": [], "runs that ended": 0, "identical": 0}
    while counts["kills"] < (args.times or 5):
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(2):
            process = start_and_wait(command, out, rng, seconds, "training")
            ranks = workers(process.pid) if process.poll() is None else []
            if ranks:
                os.kill(rng.choice(ranks), signal.SIGKILL)
                begin = time.perf_counter()
                process.communicate(timeout=PATIENCE)
                counts["seconds till the job ended"].append(round(time.perf_counter() - begin, 1))
                counts["kills"] += process.returncode != 0
        process.communicate()
        run(command)
        same(expected, state_of(out), counts)
    return counts


def workers(pid):
    """Process ids of the trainings that a launcher started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if "train_exp1.py" in Path(f"/proc/{child}/cmdline").read_text()]


# ---------------------------------------------------------------------------------------------------------------------
# Prediction


def kill_predictions(cfg, args, rng):
    out = cfg.output_dir / "predictions_killed.jsonl"
    script = [str(ROOT / "predict_exp1.py"), "--config", str(cfg.config_path), "--out", str(out), "predict.batch_size=5"]
    script += [f"output_dir={cfg.output_dir}", *args.overrides]
    script += ["--adapter", args.adapter] if args.adapter else []
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "env": THREADS}
    start = time.perf_counter()
    subprocess.run([sys.executable, *script, "--overwrite"], check=True, **quiet)
    seconds, expected = time.perf_counter() - start, out.read_bytes()
    kills = args.times or 20
    counts = {"kills": 0, "runs that ended": 0, "continued": 0, "identical": 0, "seconds of an uninterrupted run": round(seconds, 1)}
    while counts["kills"] < kills:
        out.unlink(missing_ok=True)
        while True:
            process = subprocess.Popen([sys.executable, *script], **quiet)
            try:
                output, _ = process.communicate(timeout=rng.uniform(0, seconds) if counts["kills"] < kills else None)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                counts["kills"] += 1
        assert process.returncode == 0, output
        counts["runs that ended"] += 1
        counts["continued"] += "continuing:" in output
        counts["identical"] += out.read_bytes() == expected
    out.unlink()
    subprocess.run([sys.executable, *TWO, *script], check=True, **quiet)
    counts["runs that ended"] += 1
    counts["identical"] += out.read_bytes() == expected
    return counts


# ---------------------------------------------------------------------------------------------------------------------
# Full disks


@contextmanager
def disk(folder, size):
    """A disk of so many bytes in a folder; yields a function that makes it larger."""
    mount = lambda options: subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    folder.mkdir(parents=True, exist_ok=True)
    if (done := mount(f"size={size}")).returncode:
        raise UserError(f"--part disk: no tmpfs can be mounted ({done.stderr.strip()}); run it as root, or leave this part out")
    try:
        yield lambda more: mount(f"remount,size={more}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def stages(cfg, args, place):
    """{stage: (command, function that gives the state of what it leaves in `place`)}."""
    adapter = args.adapter or cfg.output_dir / "adapter"
    script = lambda name, *rest: [sys.executable, str(ROOT / name), "--config", str(cfg.config_path), *map(str, rest), *args.overrides]
    hashes = lambda *names: lambda: {name: sha256(path) for name in names for path in sorted(place.rglob(name))}
    out = f"output_dir={place / 'out'}"
    return {
        "enrich": (script("data/preprocess.py", out), hashes("train.jsonl", "val.jsonl", "answer_space.json")),
        "train": (training(cfg, place / "out", *args.overrides), lambda: state_of(place / "out")),
        "predict": (script("predict_exp1.py", "--adapter", adapter, "--out", place / "p.jsonl", out), hashes("p.jsonl")),
        "eval": (script("eval_exp1.py", "--predictions", cfg.output_dir / "p.jsonl", out), hashes("metrics_p.json")),
        "merge": (script("merge_adapter.py", "--adapter", adapter, "--out", place / "merged", out), hashes("*.safetensors", "*.json")),
    }


def fill_disks(cfg, args, rng):
    place, large = cfg.output_dir / "disk", 2**31
    counts = {"full": {}, "runs that ended": 0, "identical": 0, "said in more than a line": 0}
    for name, (command, state) in stages(cfg, args, place).items():
        with disk(place, large):
            run(command)
            expected, used = state(), shutil.disk_usage(place).used
            if name == "predict":
                shutil.copyfile(place / "p.jsonl", cfg.output_dir / "p.jsonl")
                shutil.copyfile(place / "p.meta.json", cfg.output_dir / "p.meta.json")
        for _ in range(args.times or 3):
            with disk(place, int(used * rng.uniform(0.05, 0.95))) as grow:
                done = subprocess.run(command, capture_output=True, text=True, env=THREADS)
                if done.returncode:
                    counts["full"][name] = counts["full"].get(name, 0) + 1
                    one_line(done.stderr, counts)
                    if not any(line.startswith("error: ") and "space" in line for line in done.stderr.splitlines()):
                        counts["said in more than a line"] += 1
                        print(f"{name}: {done.stderr[-2000:]}", file=sys.stderr)
                grow(large)
                run(command)
                same(expected, state(), counts)
    return counts


PARTS = {
    "training": kill_trainings,
    "prediction": kill_predictions,
    "ranks": kill_ranks,
    "signals": signal_trainings,
    "disk": fill_disks,
}


def main():
    parser = argument_parser("Kill, signal and starve the demo's stages again and again.", epilog=__doc__)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS), help="default: all")
    parser.add_argument("--times", type=int, help="how often (default: what the part is made for)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapter", default=None, help="as for predict_exp1.py")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    args.overrides = [text for text in args.overrides if not text.startswith("output_dir=")]
    good = True
    for name in args.part:
        begin = time.perf_counter()
        counts = PARTS[name](cfg, args, random.Random(f"{name} {args.seed}"))
        print(json.dumps({"part": name, **counts, "seconds": round(time.perf_counter() - begin)}), flush=True)
        good &= 0 < counts["runs that ended"] == counts["identical"] and not counts.get("said in more than a line")
    return 0 if good else 1


if __name__ == "__main__":
    run_script(main)
