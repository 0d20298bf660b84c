"""The jobs of tools/slurm, here: real trainings of the tiny model that the queue interrupts, against ones that it doesn't.

    python bench/slurm.py                     all four; --job one_gpu, --starts 3

sbatch, srun and scontrol are stand-ins (bench/stand_ins/), which start a process on this CPU for each GPU. A job is warned in each of
its first starts but the last, at a log line, goes back into the queue, and has to end in the files of a job that nobody warned: to
the byte, or, of more than two processes, with weights to 1e-5: DDP lays gradients out anew after the first step of a start, and then
adds them in another order.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from safetensors.torch import load_file

from config import argument_parser, load_config
from files import read_json, run_script, sha256

STEPS = ["train.max_steps=16", "train.save_steps=4", "train.eval_steps=4", "train.logging_steps=2", "train.eval_images=4"]
STEPS += ["train.train_bs=2", "train.grad_accum=1", "train.num_workers=1", "lora.dropout=0.1"]
JOBS = {"one_gpu": [], "four_gpus": [], "two_nodes": ["--ntasks-per-node=1", "--gres=gpu:1"], "chain": []}


def submit(cfg, args, job, warnings):
    """Run a job to its end; return its folder, exit code, output, and seconds."""
    out = cfg.output_dir / "slurm" / f"{job}_{'warned' if warnings else 'left_alone'}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    path = f"{Path(sys.executable).parent}:{ROOT / 'bench' / 'stand_ins'}:{os.environ['PATH']}"
    environment = {"VIRTUAL_ENV": sys.prefix, "STAND_IN_WARN_AT": "step ", "STAND_IN_WARNINGS": str(warnings), "OMP_NUM_THREADS": "1"}
    settings = [str(cfg.config_path), *STEPS, *args.overrides, f"output_dir={out}"]
    command = ["sbatch", *JOBS[job], f"--output={out / 'slurm-%j.out'}", f"tools/slurm/{job}.sbatch", *settings]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment, "PATH": path}, stdout=subprocess.DEVNULL)
    return out, done.returncode, (out / "slurm-7.out").read_text(), time.perf_counter() - began


def difference(alone, warned):
    """The largest of two adapters' weights."""
    before, after = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (alone, warned))
    return max(float((before[name] - after[name]).abs().max()) for name in before)


def files_of(out):
    """{name: hash} of what a job left and that no interruption may change: its adapter and checkpoints, and its answers."""
    found = [*out.glob("checkpoint-*/*.pt"), *out.glob("**/*.safetensors"), *out.glob("predictions.jsonl")]
    return {str(path.relative_to(out)): sha256(path) for path in found}


def main():
    parser = argument_parser("The jobs for Slurm, interrupted, on this CPU.", epilog=__doc__)
    parser.add_argument("--job", choices=JOBS, help="one of them (default: all)")
    parser.add_argument("--starts", type=int, default=3, help="of a job, all but the last of which are warned (default 3)")
    args = parser.parse_intermixed_args()
    cfg, faults = load_config(args.config or ROOT / "config_demo.yaml", args.overrides), 0
    for job in [args.job] if args.job else JOBS:
        (alone, _, _, seconds), (warned, code, text, longer) = (submit(cfg, args, job, warnings) for warnings in (0, args.starts - 1))
        facts = {"job": job, "exit code": code, "back into the queue": text.count("goes back into the queue")}
        facts |= {"identical": bool(files_of(alone)) and files_of(alone) == files_of(warned), "difference": difference(alone, warned)}
        facts |= {"tracebacks": text.count("Traceback")}
        facts |= {"step": read_json(warned / "train_run.json").get("finished", {}).get("step"), "seconds": [round(seconds), round(longer)]}
        print(json.dumps(facts), flush=True)
        same = facts["identical"] or job == "four_gpus" and facts["difference"] < 1e-5
        faults += code != 0 or not same or facts["back into the queue"] != args.starts - 1 or facts["tracebacks"] > 0
    return int(faults > 0)


if __name__ == "__main__":
    run_script(main)
