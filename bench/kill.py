"""Twenty real kill -9 over the demo's prediction, each time started again: do they all end in the identical file?

    python bench/kill.py --config config_demo.yaml            after train_exp1.py; --kills 20

Kills come at random moments from the start of the process to its end. The last run is shared by two processes (torchrun).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from files import run_script


def main():
    parser = argument_parser("Kill the prediction again and again.", epilog=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--adapter", default=None, help="as for predict_exp1.py")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
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


if __name__ == "__main__":
    run_script(main)
