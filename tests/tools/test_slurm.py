"""The jobs for Slurm: their options, and what they do when the queue warns them. Real trainings in them: python bench/slurm.py.

python -m pytest tests/tools/test_slurm.py -v
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(ROOT.glob("tools/slurm/*.sbatch"))
STAND_INS = ROOT / "bench" / "stand_ins"
OPTIONS = {  # what each may say
    "job-name": r"\w+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "gres": r"gpu:\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+G",
    "time": r"\d\d:\d\d:\d\d",
    "signal": r"B:USR1@\d+",
    "requeue": "",
    "open-mode": "append",
    "output": r"slurm-%j\.out",
}
# Stands in for Python: which script, as which process, with which arguments; it waits to be warned at the script $SLOW, once.
STAGE = """#!/usr/bin/env python3
import os, signal, sys, time
from pathlib import Path
task = " ".join(os.environ.get(name, "-") for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"))
line = " ".join([sys.argv[1], task, *sys.argv[2:]])
os.write(1, f"{line}\\n".encode())  # at once: eight of them write to one file
done = [Path(f"{sys.argv[1]}.{rank}.done") for rank in range(int(os.environ.get("WORLD_SIZE", 1)))]
mine = done[int(os.environ.get("RANK", 0))]
if sys.argv[1] == os.environ["SLOW"] and not mine.exists():
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
    mine.touch()
    while not all(path.exists() for path in done):
        time.sleep(0.01)
    if mine == done[0]:
        print("waits", flush=True)
    time.sleep(20)
    sys.exit(1)
sys.exit(int(os.environ.get("FAILS") == sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path):
    """The repository's folder as far as jobs know it, in a place with a space in its name."""
    folder = tmp_path / "exp 1"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(STAGE)
    (folder / "bin" / "python").chmod(0o755)
    return folder


def submit(folder, job, *arguments, slow="train_exp1.py", options=(), **environment):
    """Exit code and output of a job under the stand-ins, warned when a stage waits for that."""
    # the tests' own Python before another's launcher (pyenv's), which would put its folder before ours
    path = f"{folder / 'bin'}:{STAND_INS}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLOW": slow, "STAND_IN_WARN_AT": "waits", "VIRTUAL_ENV": "x", **environment}
    done = subprocess.run(
        ["sbatch", *options, f"tools/slurm/{job}", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.stdout == "Submitted batch job 7\n" and not done.stderr, done.stderr
    return done.returncode, (folder / "slurm-7.out").read_text().splitlines()


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_says_what_slurm_has_to_know(job):
    text = job.read_text()
    head, _, body = text.partition("set -euo pipefail")
    found = dict(re.fullmatch(r"--([\w-]+)=?(.*)", line).groups() for line in re.findall(r"^#SBATCH (.*)$", head, re.MULTILINE))
    assert found.keys() == OPTIONS.keys() and "#SBATCH" not in body, "after the first command Slurm reads no more"
    assert all(re.fullmatch(OPTIONS[name], value) for name, value in found.items()), found
    assert found["job-name"] == job.stem and found["gres"] == f"gpu:{found['ntasks-per-node']}", "a process for each GPU"
    assert head.startswith("#!/usr/bin/env bash\n") and f"sbatch tools/slurm/{job.name} my.yaml" in head
    for script in (job, *job.parent.glob("*.sh"), ROOT / "tools" / "pass_signals.sh"):
        assert subprocess.run(["bash", "-n", script], capture_output=True).stderr == b""
    assert re.findall(r"\b(\w+_exp1\.py)", body) == ["train_exp1.py", "predict_exp1.py", "eval_exp1.py"][: 3 if job.stem == "chain" else 1]


@pytest.mark.parametrize(("job", "tasks", "nodes"), [("one_gpu", 1, 1), ("four_gpus", 4, 1), ("two_nodes", 8, 2)])
def test_a_job_that_is_warned_goes_back_into_the_queue_and_on(folder, job, tasks, nodes):
    code, lines = submit(folder, f"{job}.sbatch", "my own.yaml", "train.lr=2e-4")
    ranks = ["- - - - localhost"] if tasks == 1 else [f"{n} {n % 4} {tasks} {tasks // nodes} localhost" for n in range(tasks)]
    expected = [f"train_exp1.py {rank} --config my own.yaml train.lr=2e-4 --resume_from_checkpoint" for rank in ranks]
    again = lines.index("== job 7 goes back into the queue")
    assert code == 0 and sorted(line for line in lines[:again] if line != "waits") == expected and sorted(lines[again + 1 :]) == expected


def test_the_chain_goes_on_where_it_was(folder):
    """Warned in its second stage, on four GPUs, which evaluation does not need."""
    options = ["--ntasks-per-node=4", "--gres=gpu:4"]
    code, lines = submit(folder, "chain.sbatch", "my.yaml", slow="predict_exp1.py", options=options)
    found = [line.split()[0] for line in lines if line != "waits"]
    assert code == 0 and found == ["train_exp1.py"] * 4 + ["predict_exp1.py"] * 4 + ["=="] + ["train_exp1.py"] * 4 + [
        "predict_exp1.py"
    ] * 4 + ["eval_exp1.py"]
    assert lines[-1] == "eval_exp1.py - - - - localhost --config my.yaml"


def test_a_stage_that_fails_ends_the_chain(folder):
    code, lines = submit(folder, "chain.sbatch", "my.yaml", slow="", FAILS="train_exp1.py")
    assert code == 1 and len(lines) == 1, "neither requeued nor followed by the next stage"
    code, lines = submit(folder, "chain.sbatch", "train.lr=1", slow="")
    assert (code, lines) == (1, ["error: sbatch chain FILE.yaml section.key=value …: give a configuration"])


CHILD = """
import signal, sys, time
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda number, _: (print(signal.Signals(number).name, flush=True), sys.exit(75)))
print("up", flush=True)
time.sleep(20)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
@pytest.mark.parametrize("whole_group", [False, True], ids=["the shell alone", "all of a terminal"])
def test_a_shell_hands_a_signal_to_its_command_once_and_ends_with_its_code(name, whole_group):
    program = 'set -euo pipefail; source "$0"; pass_signals "$@"; echo after'
    command = ["bash", "-c", program, ROOT / "tools" / "pass_signals.sh", sys.executable, "-c", CHILD]
    shell = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert shell.stdout.readline() == "up\n"
    began, number = time.monotonic(), getattr(signal, name)
    os.killpg(shell.pid, number) if whole_group else shell.send_signal(number)
    assert (shell.communicate()[0], shell.returncode) == (f"{name}\n", 75) and time.monotonic() - began < 5


def test_a_stage_without_a_handler_ends_with_the_code_of_what_goes_on():
    """Enrichment and evaluation die of a signal, and the same command goes on all the same."""
    program = 'set -euo pipefail; source "$0"; pass_signals sleep 20; echo after'
    shell = subprocess.Popen(["bash", "-c", program, ROOT / "tools" / "pass_signals.sh"], stdout=subprocess.PIPE, start_new_session=True)
    time.sleep(0.3)
    shell.send_signal(signal.SIGTERM)
    assert shell.communicate()[0] == b"" and shell.returncode == 75
