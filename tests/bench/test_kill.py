"""What the bench of kills calls the same, and one line.    python -m pytest tests/bench/test_kill.py -v"""

import json
from collections import Counter

from bench import kill


def run_of(folder, weights=b"w", loss=1.0):
    for name in ("adapter", "checkpoint-3", "checkpoint-12"):
        (folder / name).mkdir(parents=True)
        (folder / name / "adapter_model.safetensors").write_bytes(weights)
    log = [{"step": 1, "loss": loss, "training_seconds": 3.0}, {"step": 2, "train_loss": 1.0}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    return folder


def test_a_changed_weight_loss_or_leftover_is_seen_and_seconds_are_not(tmp_path, capsys):
    expected, counts = kill.state_of(run_of(tmp_path / "a")), Counter()
    kill.same(expected, kill.state_of(run_of(tmp_path / "b")), counts)
    assert counts == {"runs that ended": 1, "identical": 1}
    changed = [run_of(tmp_path / "c", weights=b"v"), run_of(tmp_path / "d", loss=1.1), run_of(tmp_path / "e")]
    (changed[2] / ".training.lock").touch()
    for folder in changed:
        kill.same(expected, kill.state_of(folder), counts)
    assert counts == {"runs that ended": 4, "identical": 1} and "differs: log" in capsys.readouterr().err
    assert set(kill.state_of(changed[0], every=False)) == {
        "adapter/adapter_model.safetensors", "checkpoint-12/adapter_model.safetensors", "log", "hidden"
    }  # fmt: skip


def test_a_traceback_and_a_second_line_are_seen():
    counts = Counter()
    for text in ("", "note\nerror: x\n", "interrupted: at step 3\n"):
        kill.one_line(text, counts)
    assert not counts
    for text in ("Traceback (most recent call last):\n", "error: x\nerror: y\n"):
        kill.one_line(text, counts)
    assert counts["said in more than a line"] == 2
