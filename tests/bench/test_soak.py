"""The bench that watches memory and open files finds what grows, and nothing where nothing does.

python -m pytest tests/bench/test_soak.py -v
"""

import json
import subprocess
import sys

import pytest

from bench import soak

LOOP = """
import sys, time
log, kept = open(sys.argv[1], "w"), []
for step in range(1, 61):
    {leak}
    print(step, file=log, flush=True)
    time.sleep(0.02)
"""
LEAKS = {"nothing": "pass", "memory": "kept.append(b'x' * 2**20)", "files": "kept.append(open(sys.argv[1]))"}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_grows_is_found(tmp_path, capsys, leak):
    log = tmp_path / "steps"
    command = [sys.executable, "-c", LOOP.format(leak=LEAKS[leak]), str(log)]
    progress = lambda: len(log.read_text().splitlines()) if log.exists() else 0
    flat = soak.soak(leak, command, progress, tmp_path / "log", every=0.02)
    found = json.loads(capsys.readouterr().out)
    assert flat is found["flat"] is (leak == "nothing") and found["done"] > 40
    assert (found["grown"]["MB"] > 30) == (leak == "memory") and (found["grown"]["files"] > 30) == (leak == "files")


def test_a_run_that_fails_is_no_flat_one(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        soak.soak("x", [sys.executable, "-c", "raise SystemExit(3)"], lambda: 1, tmp_path / "log")


def test_too_few_samples_say_nothing():
    with pytest.raises(ValueError, match="9 samples after the warm-up are too few"):
        soak.growth([(step, 100.0, 5) for step in range(2, 11)])
