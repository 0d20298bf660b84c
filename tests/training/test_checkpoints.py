"""Which checkpoints count: whole ones, and of a damaged one it is said what is wrong.

python -m pytest tests/training/test_checkpoints.py -v
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from training.checkpoints import newest_whole, processes_of, what_is_missing


def make(folder, step, processes=1):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "adapter_config.json").write_text("{}")
    (path / "experiment.json").write_text(json.dumps({"processes": processes}))
    save_file({"a": torch.zeros(100), "b": torch.ones(3, dtype=torch.bfloat16)}, path / "adapter_model.safetensors")
    names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]
    for name in ("optimizer.pt", "scheduler.pt", *names):
        torch.save({"state": torch.zeros(1000)}, path / name)
    return path


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    """A byte in the middle is another, as after a crash whose blocks never reached the disk."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 985620\n")


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_a_whole_checkpoint_is_whole(tmp_path, processes):
    path = make(tmp_path, 5, processes)
    assert what_is_missing(path) is None and processes_of(path) == processes
    (path / "experiment.json").unlink()  # which older code did not write
    assert what_is_missing(path) is None and processes_of(path) == processes


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("trainer_state.json", "adapter_config.json") for damage in (empty, cut)),
        *((name, damage) for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth") for damage in (empty, cut, flip, lfs_pointer)),
        *(("adapter_model.safetensors", damage) for damage in (empty, cut, lambda path: cut(path, 0.02), lfs_pointer)),
        ("trainer_state.json", lambda path: path.write_text("[]")),
        ("trainer_state.json", lambda path: path.write_text('{"global_step": 7}')),  # another's
    ],
)
def test_a_damaged_one_is_not_and_the_one_before_counts(tmp_path, name, damage):
    before, newest = make(tmp_path, 9), make(tmp_path, 10)
    damage(newest / name)
    assert what_is_missing(newest) == f"{name} is damaged"
    assert newest_whole(tmp_path) == (before, [f"note: checkpoint-10 is not whole ({name} is damaged), so it does not count"])
    (newest / name).unlink()
    assert what_is_missing(newest) == f"it has no {name}" and newest_whole(tmp_path)[0] == before


def test_every_process_that_wrote_it_needs_its_random_state(tmp_path):
    path = make(tmp_path, 5, processes=4)
    (path / "rng_state_3.pth").unlink()
    assert what_is_missing(path) == "it has no rng_state_3.pth" and newest_whole(tmp_path)[0] is None


def test_steps_count_as_numbers_and_other_folders_do_not(tmp_path):
    assert newest_whole(tmp_path) == (None, [])
    newest = [make(tmp_path, step) for step in (500, 1000, 90)][1]
    for name in ("checkpoint-best", "checkpoint-2000-copy", ".checkpoint-3000.new"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-4000").write_text("a file")
    assert newest_whole(tmp_path) == (newest, [])
