"""The one command.

python -m pytest tests/test_run_exp1.py -v
"""

import os
import subprocess
import sys
from pathlib import Path

from user_copy import copy_repository, first_scenes, write_config, write_rows


def test_run_exp1_runs_everything_once(tmp_path):
    """The one command: four runs in one table; a second call skips what is done; the test split is touched when asked."""
    exp1 = copy_repository(tmp_path / "exp1")
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        write_rows(exp1 / "rows" / f"{split}.jsonl", first_scenes(split, count))
    write_config(exp1, exp1 / "rows", test_jsonl=exp1 / "rows" / "test.jsonl")
    shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", "exp1/run_exp1.sh", "exp1/config_exp1.yaml", "train.max_steps=1", "train.num_workers=0"]
    first, second = (subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=shell) for _ in range(2))
    assert first.returncode == 0, first.stderr[-3000:]
    *lines, untouched = first.stdout.splitlines()
    assert lines[-2] == "report: exp1/outputs/report.html" and (exp1 / "outputs" / "report.html").is_file()
    assert untouched.startswith("The test split was not touched.") and not list((exp1 / "outputs").glob("*_test*"))
    assert lines[-3].startswith("comparison: ") and lines[-4].startswith("On 18 questions about 2 images, the tuned model")
    table = lines[-13:-5]
    assert [line.split("  ")[0] for line in table[2:]] == [
        "untuned, free",
        "untuned, constrained",
        "tuned, free",
        "tuned, constrained",
        "commonest training answer",
        "reachable answers",
    ]
    assert "EVALUATION RESULTS - EXP1" in first.stdout and ".venv" not in first.stdout
    assert second.stdout.count("unchanged, skipped") == 12 and second.stdout.splitlines()[-14:-6] == table
    adapter = (exp1 / "outputs" / "adapter" / "adapter_model.safetensors").read_bytes()
    with open(exp1 / "evaluation" / "metrics.py", "a") as file:
        file.write("# an edit that no prediction depends on\n")
    other = subprocess.run(
        [*command[:-2], "train.max_steps=2", "train.num_workers=0"], cwd=tmp_path, capture_output=True, text=True, env=shell
    )
    assert other.returncode == 1 and "already holds a training run" in other.stderr, "a run must not be replaced unasked"
    assert (exp1 / "outputs" / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    third = subprocess.run([*command, "--test"], cwd=tmp_path, capture_output=True, text=True, env=shell)
    assert "== train: unchanged, skipped" in third.stdout and "== predict_untuned_free: unchanged, skipped" in third.stdout
    assert "== eval_untuned_free\n" in third.stdout and "== predict_test\n" in third.stdout
    last_table = third.stdout.split("on the test split\n")[1]
    assert "OVERALL (micro)      9 " in last_table and "checked against" in last_table and "not touched" not in last_table
    assert (exp1 / "outputs" / "report_test.html").is_file()
