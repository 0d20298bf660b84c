"""SIGTERM, SIGUSR1 and Ctrl-C: what a script, its loading processes, its children and the other processes of a launcher do then.

python -m pytest tests/test_signals.py -v
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quick_python import quick_python

from files import GOES_ON

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["SIGTERM", "SIGUSR1", "SIGINT"]
SCRIPT = """
import os, signal, sys, time
import files
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.01)  # a handler runs between two lines of Python
def main():
    files.heed_signals(lambda: "go on with: python x.py")
    BODY
files.run_script(main)
"""


def run(body, *arguments, **environment):
    """(exit code, lines of both outputs) of a script with this body."""
    code = SCRIPT.replace("BODY", body.replace("\n", "\n    "))
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines() + done.stderr.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_outside_of_steps_a_signal_ends_at_once_with_the_command_that_goes_on(name):
    assert run(f"send('{name}'); print('never')") == (GOES_ON, ["interrupted: go on with: python x.py"]) == (75, [
        "interrupted: go on with: python x.py"
    ])  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_within_steps_it_is_noted_and_obeyed_where_they_look(name):
    body = f"""
with files.signals_later():
    send('{name}')
    print('the step is done and saved', files.signal_seen())
    raise files.Interrupted('checkpoint-3 is kept', files.GOES_ON)"""
    told = f"{name}: ends when this step is done and saved; Ctrl-C {'again ' if name == 'SIGINT' else ''}leaves at once"
    assert run(body) == (75, ["the step is done and saved True", told, "interrupted: checkpoint-3 is kept"])


def test_a_second_ctrl_c_leaves_at_once_and_a_repeated_signal_does_not():
    body = "with files.signals_later():\n    send('{}')\n    send('{}')\n    print('the step is done')"
    assert run(body.format("SIGINT", "SIGINT"))[0] == run(body.format("SIGUSR1", "SIGINT"))[0] == 130
    for first, second in (("SIGUSR1", "SIGUSR1"), ("SIGUSR1", "SIGTERM"), ("SIGINT", "SIGTERM")):
        code, lines = run(body.format(first, second))
        assert code == 0 and lines[0] == "the step is done" and len(lines) == 2, "said once"


def test_one_of_several_processes_speaks_and_all_have_the_code():
    assert run("send('SIGUSR1')", RANK="1", WORLD_SIZE="2") == (75, [])
    assert run("send('SIGUSR1')", RANK="0", WORLD_SIZE="2") == (75, ["interrupted: go on with: python x.py"])


LOADER = """
import multiprocessing
queue = multiprocessing.Queue()
def load():
    files.leave_signals_to_parent()
    queue.put('up')
    time.sleep(60)
child = multiprocessing.get_context('fork').Process(target=load, daemon=True)
child.start()
queue.get()
for name in ('SIGTERM', 'SIGUSR1', 'SIGINT'):
    os.kill(child.pid, getattr(signal, name))
child.join(1)
print(child.is_alive(), flush=True)
send('SIGTERM')
"""


def test_a_process_that_loads_outlives_a_signal_to_all_and_ends_with_its_parent():
    began = time.monotonic()
    assert run(LOADER) == (75, ["True", "interrupted: go on with: python x.py"]) and time.monotonic() - began < 30


CHILD = SCRIPT.replace(
    "BODY",
    """with files.signals_later():
        print('up', flush=True)
        while not files.signal_seen():
            time.sleep(0.01)
        time.sleep(0.3)
        raise files.Interrupted('saved', files.GOES_ON)""",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("whole_group", [False, True], ids=["the parent alone", "all of a terminal"])
def test_a_child_gets_a_signal_once_and_its_code_is_its_parents(name, whole_group):
    body = "files.run_child([sys.executable, '-c', sys.argv[1]])\nprint('the next run')"
    code = SCRIPT.replace("BODY", body.replace("\n", "\n    "))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT, "start_new_session": True}
    parent = subprocess.Popen([sys.executable, "-c", code, CHILD], **pipes)
    assert parent.stdout.readline() == "up\n"
    (os.killpg if whole_group else os.kill)(parent.pid, getattr(signal, name))
    lines = parent.communicate()[0].splitlines()
    assert parent.returncode == 75 and lines[1:] == ["interrupted: saved", "interrupted: go on with: python x.py"]


def test_a_child_that_was_signalled_itself_stops_its_parent():
    assert run("files.run_child([sys.executable, '-c', 'raise SystemExit(75)'])\nprint('the next run')")[0] == 75
    assert run("print(files.run_child([sys.executable, '-c', 'raise SystemExit(3)']))") == (0, ["3"])


RANKS = """
import torch.distributed as dist
import torch
dist.init_process_group('gloo')
with files.signals_later():
    dist.all_reduce(torch.ones(1))
    if os.environ['RANK'] == '1':
        if sys.argv[1] == 'killed':
            send('SIGKILL')
        error = files.UserError('image 7.png: changed on disk while it was used; start again')
        error.alone = True
        raise error
    dist.all_reduce(torch.ones(1))
"""


@pytest.mark.parametrize("how", ["error", "killed"])
def test_a_process_that_dies_takes_the_others_along_with_its_message(tmp_path, how):
    """Two processes over gloo, started as srun does; the other one waits in a sum for it."""
    (tmp_path / "x.py").write_text(f"import sys; sys.path.append({str(ROOT)!r})" + SCRIPT.replace("BODY", RANKS.replace("\n", "\n    ")))
    port = str(20000 + os.getpid() % 20000)
    environment = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    command = [ROOT / "bench" / "stand_ins" / "srun", "--kill-on-bad-exit=1", "bash", ROOT / "tools" / "slurm" / "process.sh"]
    command += [quick_python(), tmp_path / "x.py", how]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=50)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode not in (0, 75) and "Traceback" not in done.stderr, done.stderr
    gone = "error: another process of this job has ended, so this one does, too: "
    if how == "error":
        assert lines[0] == "error: image 7.png: changed on disk while it was used; start again"
    assert all(line.startswith(gone) for line in lines[how == "error" :]) and len(lines) <= 2
