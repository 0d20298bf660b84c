"""What tests start by quick_python.py is as Python itself would start it.    python -m pytest tests/test_quick_python.py -v"""

import os
import signal
import subprocess
import sys
import time

import pytest
from quick_python import quick_python

TELLS = """
import os, sys
print(sys.argv, sys.path[0], os.getcwd(), __name__, os.environ["MARK"], sys.stdin.read(), "torch" in sys.modules)
print("said", file=sys.stderr)
sys.exit(eval(sys.argv[1]))
"""
SLEEPS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(30)\n"


@pytest.mark.parametrize("start", [["a b/tells.py"], ["-m", "tells"], ["-c", TELLS]], ids=["script", "module", "text"])
@pytest.mark.parametrize("code", ["0", "3", "None", "'in words'", "1 / 0"])
def test_folder_arguments_environment_files_and_exit_code_are_python_s_own(tmp_path, start, code):
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "tells.py").write_text(TELLS)
    options = {"cwd": folder if start[0] == "-m" else tmp_path, "env": {**os.environ, "MARK": "é"}, "input": "given"}
    run = lambda python: subprocess.run([python, *start, code, "--x"], capture_output=True, text=True, **options)
    quick, slow = run(quick_python()), run(sys.executable)
    assert quick.returncode == slow.returncode and quick.stderr.splitlines()[-1] == slow.stderr.splitlines()[-1]
    assert quick.stdout == slow.stdout.replace("False\n", "True\n" if start[0] != "-c" else "False\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_ends_the_script_as_well_as_its_starter(tmp_path, number):
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    started = subprocess.Popen([quick_python(), tmp_path / "sleeps.py"], stdout=subprocess.PIPE, text=True)
    script = int(started.stdout.readline())
    started.send_signal(number)
    assert started.wait(10) == -number
    for _ in range(200):
        if not os.path.exists(f"/proc/{script}"):
            return
        time.sleep(0.02)
    raise AssertionError("the script goes on")
