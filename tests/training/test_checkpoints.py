"""Which checkpoints count: whole ones, and of a damaged one it is said what is wrong.

python -m pytest tests/training/test_checkpoints.py -v
"""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from files import read_json
from model.folders import SUMS_FILE, read_sums, write_sums
from training.checkpoints import (
    best_score,
    mend_adapter,
    newest_whole,
    processes_of,
    remove_old,
    score_of,
    set_aside_after,
    what_an_adapter_lacks,
    what_is_missing,
)

SCORES = {2: 0.5, 4: 0.75, 6: 0.25}  # {step of a validation: exact match}


def make(folder, step, processes=1, sums=False):
    """A checkpoint as older code wrote it, or with the hashes of its files; validated at the steps of SCORES."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    log = [{"step": at, "eval_exact_match": score, "eval_loss": 1.0} for at, score in SCORES.items() if at <= step]
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    (path / "adapter_config.json").write_text("{}")
    (path / "experiment.json").write_text(json.dumps({"prompt_style": "plain", "best": {"step": step}, "processes": processes}))
    weights = {"a": torch.full((100,), float(step)), "b": torch.ones(3, dtype=torch.bfloat16)}
    save_file(weights, path / "adapter_model.safetensors")
    names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]
    for name in ("optimizer.pt", "scheduler.pt", *names):
        torch.save({"state": torch.zeros(1000)}, path / name)
    if sums:
        write_sums(path)
    return path


def make_adapter(folder, step):
    """adapter/ as training writes it at a step."""
    checkpoint, path = make(folder / "as_written", step), folder / "adapter"
    path.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(checkpoint / name, path / name)
    facts = {"prompt_style": "plain", "best": score_of(step, {"eval_exact_match": SCORES[step], "eval_loss": 1.0})}
    (path / "experiment.json").write_text(json.dumps(facts, indent=2) + "\n")
    write_sums(path)
    shutil.rmtree(folder / "as_written")
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


# ---- hashes of what was written


def of_another_shape(path):
    torch.save({"state": {0: {"exp_avg": torch.zeros(7)}}, "param_groups": [{"params": [0]}]}, path)


def change_weights(change):
    def damage(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def zero_the_tail(path):
    content = path.read_bytes()
    path.write_bytes(content[:-50] + bytes(50))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("adapter_model.safetensors", change_weights(lambda tensors: tensors.pop("a"))),
        ("adapter_model.safetensors", change_weights(lambda tensors: tensors["a"].fill_(float("nan")))),
        ("adapter_model.safetensors", change_weights(lambda tensors: tensors.update(a=torch.zeros(7)))),
        ("adapter_model.safetensors", zero_the_tail),
        ("optimizer.pt", of_another_shape),
        ("scheduler.pt", lambda path: torch.save({}, path)),
        ("rng_state.pth", lambda path: torch.save([], path)),
        ("trainer_state.json", lambda path: path.write_text('{"global_step": 10}')),
        ("experiment.json", cut),
        ("experiment.json", lambda path: path.write_text("{}")),
        ("questions.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_file_that_is_not_what_was_written_is_damage_though_it_opens(tmp_path, name, damage):
    """Each of these went on, or ended in a traceback or a segmentation fault, beside a whole checkpoint."""
    before, newest = make(tmp_path, 9, sums=True), make(tmp_path, 10)
    (newest / "questions.json").write_text('["Is there text?"]')
    write_sums(newest)
    assert newest_whole(tmp_path) == (newest, [])
    damage(newest / name)
    assert newest_whole(tmp_path) == (before, [f"note: checkpoint-10 is not whole ({name} is damaged), so it does not count"])
    (newest / name).unlink()
    assert what_is_missing(newest) == f"it has no {name}"


def test_sums_are_those_of_sha256sum_and_what_people_edit_is_not_among_them(tmp_path):
    path = make(tmp_path, 4)
    (path / "README.md").write_text("a model card")
    write_sums(path)
    assert read_sums(path).keys() == {file.name for file in path.iterdir()} - {"README.md", SUMS_FILE}
    assert (path / SUMS_FILE).read_text().splitlines()[0].endswith("  adapter_config.json")
    for damage in (cut, empty):
        damage(path / SUMS_FILE)
        assert what_is_missing(path) == f"{SUMS_FILE} is damaged"


@pytest.mark.parametrize("name", ["experiment.json", "answer_space.json"])
def test_without_sums_every_json_file_has_to_open(tmp_path, name):
    path = make(tmp_path, 4)
    (path / name).write_text('{"processes": 1')
    assert what_is_missing(path) == f"{name} is damaged"


# ---- the best adapter


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mend(folder, step, wanted=True, **options):
    checkpoint = folder / f"checkpoint-{step}"
    return mend_adapter(folder, checkpoint, best_score(checkpoint, "micro") if wanted else None, **options)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda adapter: (adapter / "adapter_model.safetensors").unlink(), "it has no adapter_model.safetensors"),
        (lambda adapter: cut(adapter / "adapter_model.safetensors"), "adapter_model.safetensors is damaged"),
        (lambda adapter: zero_the_tail(adapter / "adapter_model.safetensors"), "adapter_model.safetensors is damaged"),
        (lambda adapter: (adapter / "experiment.json").unlink(), "it has no experiment.json"),
        (lambda adapter: cut(adapter / "adapter_config.json"), "adapter_config.json is damaged"),
        (shutil.rmtree, "it is gone"),
    ],
)
def test_a_damaged_best_adapter_is_written_from_its_checkpoint_to_the_byte(tmp_path, damage, why):
    for step in (2, 4, 6):
        make(tmp_path, step, sums=True)
    adapter = make_adapter(tmp_path, 4)
    before = contents_of(adapter)
    assert mend(tmp_path, 6) == [] and what_an_adapter_lacks(adapter) is None
    damage(adapter)
    (line,) = mend(tmp_path, 6)
    assert line.endswith(f"adapter is written anew from checkpoint-4, the best one on validation so far ({why})")
    assert contents_of(adapter) == before and mend(tmp_path, 6) == []


def test_where_the_best_has_no_checkpoint_that_is_said_and_the_next_best_is_kept(tmp_path):
    for step in (2, 6):
        make(tmp_path, step, sums=True)
    adapter = make_adapter(tmp_path, 4)
    cut(adapter / "adapter_model.safetensors")
    (line,) = mend(tmp_path, 6)
    assert "does not count (adapter_model.safetensors is damaged); the best one, of step 4, has no checkpoint any more" in line
    assert not adapter.exists() and (tmp_path / "abandoned" / "adapter").exists()
    for step in (6, 2):
        make_adapter(tmp_path, step)
        assert mend(tmp_path, 6) == [] and adapter.exists(), "the best of those that are left"
        shutil.rmtree(adapter)
    assert "does not count (it is gone); the best one, of step 4, has no checkpoint any more; it is chosen from" in mend(tmp_path, 6)[0]
    assert mend(tmp_path, 6, wanted=False) == [] and not adapter.exists(), "nothing was validated yet"


def test_an_adapter_of_the_checkpoints_own_step_is_the_best_only_where_validation_says_so(tmp_path):
    for step in (4, 6):
        make(tmp_path, step, sums=True)
    adapter = make_adapter(tmp_path, 6)
    (line,) = mend(tmp_path, 6)
    assert line.endswith("adapter is written anew from checkpoint-4, the best one on validation so far (it is of step 6)")
    assert read_json(adapter / "experiment.json")["best"]["step"] == 4


def test_an_adapter_of_a_later_step_counts_where_training_comes_to_it_again_and_nowhere_else(tmp_path):
    for step in (2, 6):
        make(tmp_path, step, sums=True)
    adapter = make_adapter(tmp_path, 4)
    assert mend(tmp_path, 2) == [] and read_json(adapter / "experiment.json")["best"]["step"] == 4
    assert mend(tmp_path, 2, ahead=False)[0].endswith("checkpoint-2, the best one on validation so far (it is of step 4)")
    assert read_json(adapter / "experiment.json")["best"] == {"step": 2, "exact_match": 0.5, "eval_loss": 1.0}
    shutil.rmtree(adapter)
    make_adapter(tmp_path, 4)
    assert "does not count (it is of step 4); it is chosen from" in mend(tmp_path, 2, wanted=False, ahead=False)[0]
    assert not adapter.exists()


def test_the_best_by_type_is_another(tmp_path):
    path = make(tmp_path, 4)
    log = [
        {"step": step, "eval_exact_match": micro, "eval_macro_exact_match": 1 - micro, "eval_loss": 1.0} for step, micro in SCORES.items()
    ]
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 4, "log_history": log}))
    assert (best_score(path, "micro")["step"], best_score(path, "macro")["step"]) == (4, 6)


def test_later_checkpoints_are_set_aside(tmp_path):
    two, *later = (make(tmp_path, step, sums=True) for step in (2, 4, 6))
    (line,) = set_aside_after(tmp_path, two)
    assert "checkpoint-6, checkpoint-4 moved to " in line and line.endswith("training goes on from checkpoint-2")
    assert newest_whole(tmp_path) == (two, []) and set_aside_after(tmp_path, two) == []
    again = make(tmp_path, 4, sums=True)
    assert set_aside_after(tmp_path, two) and not again.exists(), "what lay there before is replaced"
    assert sorted(path.name for path in (tmp_path / "abandoned").iterdir()) == ["checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize(
    ("there", "limit", "kept"),
    [
        ([4, 8, 12, 16], 3, [8, 12, 16]),
        ([4, 8, 12, 13], 3, [4, 8, 12, 13]),  # made by a signal: one more
        ([4, 8, 12, 13, 16], 3, [8, 12, 16]),  # there is a newer, which it would else keep one less of
        ([4, 8, 13, 14], None, [4, 8, 14]),
        ([16, 20, 22], 1, [22]),  # the last step
        ([4, 8], None, [4, 8]),
    ],
)
def test_checkpoints_that_a_signal_has_made_leave_those_that_there_would_be_without(tmp_path, there, limit, kept):
    for step in there:
        (tmp_path / f"checkpoint-{step}").mkdir()
    remove_old(tmp_path, SimpleNamespace(save_total_limit=limit, save_steps=4), 22)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"checkpoint-{step}" for step in kept)


@pytest.mark.parametrize("facts", [{"prompt_style": "plain"}, {"prompt_style": "plain", "best": None}])
def test_an_adapter_that_does_not_say_its_step_is_older_than_all(tmp_path, facts):
    for step in (4, 6):
        make(tmp_path, step, sums=True)
    adapter = make_adapter(tmp_path, 4)
    (adapter / SUMS_FILE).unlink()
    (adapter / "experiment.json").write_text(json.dumps(facts))
    assert mend(tmp_path, 6)[0].endswith("adapter is written anew from checkpoint-4, the best one on validation so far (it is of step 0)")


def test_a_checkpoint_that_nothing_was_validated_before_has_no_best(tmp_path):
    path = make(tmp_path, 1)
    assert best_score(path, "micro") is None
    (path / "trainer_state.json").write_text('{"global_step": 1}')
    assert best_score(path, "micro") is None
