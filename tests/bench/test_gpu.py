"""The bench that only a card makes worth while runs through where there is none.    python -m pytest tests/bench/test_gpu.py -v"""

import json
import subprocess

import pytest
from conftest import ROOT, TINY_MODEL
from quick_python import quick_python

PARTS = ["train", "peers", "shapes", "predict", "attention", "profile", "grads", "nf4"]


@pytest.mark.slow("runs every part of the bench")
def test_every_part_runs_on_a_cpu(tmp_path):
    command = [quick_python(), "bench/gpu.py", "--size", "tiny", "--device", "cpu", "--processor", TINY_MODEL]
    command += ["--out", tmp_path / "gpu.json"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(PARTS) < set(found)
    assert [case["questions_per_s"] > 0 for case in found["train"]] == [True] * 8
    assert {case["method"] for case in found["peers"]} >= {"packed", "plain"}
    assert all(max(case["packed"], case["separate"], case["packed_twice"]) < 1e-4 for case in found["grads"])  # float32 on a CPU
