"""A run starts, goes on or is finished, and never with something else than it was started with.

python -m pytest tests/training/test_resume.py -v
"""

import json
import shutil

import pytest
from test_checkpoints import cut, make, make_adapter

from config import launcher, load_config, near, save_run_info
from files import UserError, read_json, sha256, write_jsonl
from training.checkpoints import step_of
from training.prepare import drawn_before
from training.resume import (
    Start,
    contents,
    finished_lines,
    how_it_goes_on,
    how_to_start,
    is_finished,
    note_finished,
    other_settings,
    put_in_order,
    refuse_other_contents,
    remove_leftovers,
    remove_run,
    resumptions,
    steps_before,
)

SECTIONS = ("image", "lora", "train", "data")
ROW = {"question": "Is there text?", "answer": "yes", "image": "a.png"}


@pytest.fixture
def cfg(tmp_path):
    return configured(tmp_path)


def configured(folder):
    """A configuration of one row for each split, their picture and a model that is not read."""
    for split in ("train", "val"):
        write_jsonl(folder / f"{split}.jsonl", [ROW])
    (folder / "c.yaml").write_text("model_name: tiny\ndata: {train_jsonl: train.jsonl, val_jsonl: val.jsonl}\n")
    (folder / "a.png").write_bytes(b"picture")
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text("{}")
    return load_config(folder / "c.yaml")


def with_changes(cfg, *overrides):
    return load_config(cfg.config_path, [f"output_dir={cfg.output_dir}", *overrides])


def begin(cfg, processes=1, steps=(), **facts):
    """A run that was started, with checkpoints."""
    save_run_info(cfg.output_dir / "train_run.json", cfg, world_size=processes, **facts)
    return [make(cfg.output_dir, step, processes) for step in steps]


def refusal(cfg, resume="newest", overwrite=False, processes=1):
    with pytest.raises(UserError) as error:
        how_to_start(cfg, resume, overwrite, processes)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- start, go on, finished


def test_an_empty_folder_starts_and_a_checkpoint_goes_on(cfg):
    assert how_to_start(cfg, None, False, 1) == Start()
    start = how_to_start(cfg, "newest", False, 1)
    assert (start.checkpoint, start.record) == (None, {}) and start.notes[0].endswith("holds no run yet: training starts")
    _, newest = begin(cfg, steps=(2, 4))
    start = how_to_start(cfg, "newest", False, 1)
    assert (start.checkpoint, start.notes) == (newest, ()) and start.record["config"]["train"]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("start", "goes_on"), [(Start(), False), (Start(record={"finished": False}), False), (Start(record={"finished": True}), True)]
)
def test_a_finished_run_goes_on_without_a_checkpoint(start, goes_on):
    """Its checkpoints may be gone (train.save_total_limit), its adapter is there."""
    assert start.goes_on == goes_on


def test_killed_before_its_first_checkpoint_a_run_starts_from_its_beginning(cfg):
    """With an adapter of a first validation, or nothing but the record."""
    begin(cfg)
    for _ in range(2):
        start = how_to_start(cfg, "newest", False, 1)
        assert start.checkpoint is None and not start.goes_on
        assert start.notes[0].startswith("no checkpoint in ") and start.notes[0].endswith("yet: the run starts from its beginning")
        (cfg.output_dir / "adapter").mkdir(exist_ok=True)
    assert "train.lr=0.0001, not 0.001" in refusal(with_changes(cfg, "train.lr=1e-3")), "another run's adapter is not replaced"


def test_a_run_is_not_replaced_unasked(cfg):
    (checkpoint,) = begin(cfg, steps=(2,))
    assert "already holds a training run; continue it with --resume_from_checkpoint" in refusal(cfg, resume=None)
    assert how_to_start(cfg, None, True, 1) == Start()
    shutil.rmtree(checkpoint)
    assert how_to_start(cfg, None, False, 1) == Start(), "a record alone is no loss"
    (cfg.output_dir / "adapter").mkdir()
    (cfg.output_dir / "train_run.json").unlink()
    assert "already holds a training run" in refusal(cfg, resume=None)
    assert "has no train_run.json, which says what its run was started with" in refusal(cfg)


def test_a_damaged_checkpoint_does_not_count_and_none_is_not_restarted_from(cfg):
    before, newest = begin(cfg, steps=(2, 4))
    cut(newest / "optimizer.pt")
    start = how_to_start(cfg, "newest", False, 1)
    assert start.checkpoint == before and start.notes == (
        "note: checkpoint-4 is not whole (optimizer.pt is damaged), so it does not count",
    )
    cut(before / "trainer_state.json")
    assert "has no whole checkpoint: note: checkpoint-4" in refusal(cfg), "work is lost only when asked for"


def test_a_path_is_a_whole_checkpoint_of_this_run(cfg, tmp_path):
    before, newest = begin(cfg, steps=(2, 4))
    assert how_to_start(cfg, str(before), False, 1).checkpoint == before
    cut(before / "optimizer.pt")
    assert "checkpoint-2 is not whole (optimizer.pt is damaged); the newest that is: " in refusal(cfg, str(before))
    assert "checkpoint-9 is not a checkpoint" in refusal(cfg, str(cfg.output_dir / "checkpoint-9"))
    assert "data is not a checkpoint; give a checkpoint-N folder" in refusal(cfg, str(cfg.output_dir / "data"))
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other", 3)
    assert refusal(cfg, str(other)) == (
        f"--resume_from_checkpoint: {near(other)} is not of the run in {near(cfg.output_dir)}; set its output_dir, or start from its "
        f"weights: train.init_adapter={other}"
    )
    cut(newest / "optimizer.pt")
    assert refusal(cfg, str(newest)) == (
        f"--resume_from_checkpoint: {near(newest)} is not whole (optimizer.pt is damaged); start again with --overwrite, or set another "
        "output_dir"
    )


def test_a_run_that_a_signal_ended_says_where_it_stands_and_what_goes_on(cfg, monkeypatch):
    command = f"go on with: {cfg.command('train_exp1.py', '--resume_from_checkpoint', start=launcher())}"
    assert how_it_goes_on(cfg) == f"before the first checkpoint; {command}"
    _, newest = begin(cfg, steps=(2, 4))
    assert how_it_goes_on(cfg) == f"{near(newest)} is kept; {command}"
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    assert " -m torch.distributed.run --nproc_per_node=2 " in how_it_goes_on(cfg), "as it was started"


def test_settings_that_decide_are_named_where_a_record_has_others(cfg):
    """Its length among them; what only tells, and keys that older code did not know, are none."""
    begin(cfg)
    record = read_json(cfg.output_dir / "train_run.json")
    others = lambda *overrides: other_settings(record, with_changes(cfg, *overrides))
    assert others() == others("train.logging_steps=1", "predict.beams=2") == []
    assert others("train.lr=1e-3", "prompt_style=chat") == ["prompt_style", "train.lr"]
    assert others("train.epochs=9", "train.max_steps=5") == ["train.epochs", "train.max_steps"]
    del record["config"]["prompt_style"], record["config"]["train"]["select_by"]
    assert others() == others("train.select_by=macro") == [] and others("prompt_style=chat") == ["prompt_style"]


def test_without_validation_the_last_adapter_is_the_one_that_is_written_anew(cfg):
    cfg = with_changes(cfg, "data.val_jsonl=null")
    begin(cfg, steps=(2, 4))
    adapter = make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 4)
    cut(adapter / "adapter_model.safetensors")
    mended, finished = finished_lines(how_to_start(cfg, "newest", False, 1), cfg, before=4)
    assert "is written anew from checkpoint-4" in mended and finished == "finished: all 4 steps are trained; nothing to do"
    assert read_json(adapter / "experiment.json")["best"] == {"step": 4}


def test_finished_is_finished_and_more_steps_may_follow(cfg):
    begin(with_changes(cfg, "train.max_steps=4"), steps=(2, 4))
    make_adapter(cfg.output_dir, 4)
    start = how_to_start(with_changes(cfg, "train.max_steps=4"), "newest", False, 1)
    assert not is_finished(start, cfg, steps=4, before=4), "the last checkpoint is there, but what comes after it may not be"
    note_finished(cfg.output_dir, 4)
    again = how_to_start(with_changes(cfg, "train.max_steps=4"), str(cfg.output_dir / "checkpoint-2"), False, 1)
    assert not is_finished(again, cfg, steps=4, before=4), "an earlier checkpoint was asked for"
    last = how_to_start(with_changes(cfg, "train.max_steps=4"), str(cfg.output_dir / "checkpoint-4"), False, 1)
    assert is_finished(last, cfg, steps=4, before=4)
    start = how_to_start(with_changes(cfg, "train.max_steps=9"), "newest", False, 1)
    assert start.goes_on and steps_before(start.record, images=100, images_per_step=8) == 4
    assert is_finished(start, cfg, steps=4, before=4) and not is_finished(start, cfg, steps=9, before=4)
    with pytest.raises(UserError, match="make 3 steps, fewer than the 4 that the run in .* only more can follow"):
        is_finished(start, cfg, steps=3, before=4)
    with pytest.raises(UserError, match="has no checkpoint to go on from"):
        is_finished(start._replace(checkpoint=None), cfg, steps=9, before=4)
    assert finished_lines(start, cfg, before=4) == ["finished: all 4 steps are trained; nothing to do"]


def test_from_a_checkpoint_that_is_asked_for_a_finished_run_is_trained_again_though_no_newer_one_is_left(cfg):
    """It was told to train from step 2, and would have said that there is nothing to do."""
    cfg = with_changes(cfg, "train.max_steps=4")
    (two,) = begin(cfg, steps=(2,))
    make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 4)
    assert is_finished(how_to_start(cfg, "newest", False, 1), cfg, steps=4, before=4), "its adapter is there"
    assert not is_finished(how_to_start(cfg, str(two), False, 1), cfg, steps=4, before=4)


def test_the_best_adapter_is_written_anew_by_what_selects_it(cfg):
    """By type it is another checkpoint's than by answer."""
    for path in begin(cfg, steps=(2, 4)):
        log = [{"step": step, "eval_exact_match": step / 10, "eval_macro_exact_match": 1 / step, "eval_loss": 1.0} for step in (2, 4)]
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step_of(path), "log_history": log}))
    for select_by, step in (("micro", 4), ("macro", 2)):
        put_in_order(Start(path), with_changes(cfg, f"train.select_by={select_by}"), longer=False)
        assert read_json(cfg.output_dir / "adapter" / "experiment.json")["best"]["step"] == step
        shutil.rmtree(cfg.output_dir / "adapter")


def test_a_finished_run_without_its_adapter_has_it_again_or_is_not_finished(cfg):
    """It said `nothing to do` beside weights of 4,000 bytes."""
    two, four = begin(cfg, steps=(2, 4))
    adapter = make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 4)
    cut(adapter / "adapter_model.safetensors")
    start = how_to_start(cfg, "newest", False, 1)
    assert is_finished(start, cfg, steps=4, before=4)
    mended, finished = finished_lines(start, cfg, before=4)
    assert "is written anew from checkpoint-4" in mended and finished.startswith("finished: all 4 steps are trained")
    shutil.rmtree(adapter)
    shutil.rmtree(four)
    assert not is_finished(how_to_start(cfg, "newest", False, 1), cfg, steps=4, before=4), "trained again from checkpoint-2"
    shutil.rmtree(two)
    with pytest.raises(
        UserError, match=r"is finished, but its adapter is not whole \(it is gone\) and no checkpoint has it; start again with"
    ):
        finished_lines(how_to_start(cfg, "newest", False, 1), cfg, before=4)


def test_a_run_that_its_patience_ended_says_so_whatever_steps_are_asked_for(cfg):
    """It said `all 20 steps are trained`, and with more of them `0 steps`."""
    patient = with_changes(cfg, "train.early_stopping_patience=2", "train.max_steps=20")
    begin(patient, steps=(2, 4))
    make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 4)
    for steps in (20, 30):
        start = how_to_start(with_changes(patient, *patient.overrides[1:], f"train.max_steps={steps}"), "newest", False, 1)
        assert is_finished(start, patient, steps=steps, before=20)
        (line,) = finished_lines(start, patient, before=20)
        assert line.startswith(
            "finished: train.early_stopping_patience=2 ended it at step 4 of 20, and would again; nothing to do. To train on"
        )


def test_a_run_without_patience_that_made_fewer_steps_is_not_finished_by_it(cfg):
    """As where the record was put together by hand: what it lacks is trained, and no patience is said to have ended it."""
    begin(with_changes(cfg, "train.max_steps=20"), steps=(2, 4))
    make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 4)
    start = how_to_start(with_changes(cfg, "train.max_steps=30"), "newest", False, 1)
    assert not is_finished(start, cfg, steps=30, before=20)
    assert finished_lines(start, cfg, before=20) == ["finished: all 20 steps are trained; nothing to do"]


def test_from_an_earlier_checkpoint_what_follows_it_is_abandoned(cfg):
    """Killed at step 3 it went on from checkpoint-6, of the course that it had left, whose best adapter competed too."""
    two, *_ = begin(cfg, steps=(2, 4, 6))
    adapter = make_adapter(cfg.output_dir, 4)
    note_finished(cfg.output_dir, 6)
    start = how_to_start(cfg, str(two), False, 1)
    assert start.back and not how_to_start(cfg, str(cfg.output_dir / "checkpoint-6"), False, 1).back
    mended, moved = put_in_order(start, cfg, longer=False)
    assert "is written anew from checkpoint-2" in mended and "checkpoint-6, checkpoint-4 moved to" in moved
    assert read_json(adapter / "experiment.json")["best"]["step"] == 2
    killed = how_to_start(cfg, "newest", False, 1)
    assert killed.checkpoint == two and not killed.record.get("finished"), "whatever comes first, a kill or the new record"


def test_a_damaged_newer_checkpoint_is_set_aside_or_it_would_outlive_those_to_come(cfg):
    two, four = begin(cfg, steps=(2, 4))
    make_adapter(cfg.output_dir, 4)
    cut(four / "optimizer.pt")
    start = how_to_start(cfg, "newest", False, 1)
    assert not start.back
    (moved,) = put_in_order(start, cfg, longer=False)
    assert "checkpoint-4 moved to" in moved and (cfg.output_dir / "adapter").exists(), "of a step that comes again"
    assert "is written anew from checkpoint-2" in put_in_order(start, cfg, longer=True)[0], "of another course"


@pytest.mark.parametrize(
    ("settings", "images", "per_step", "steps"),
    [({"epochs": 1}, 600, 16, 38), ({"epochs": 2.5}, 600, 16, 95), ({"epochs": 3, "max_steps": 7}, 600, 16, 7), ({"epochs": 2}, 3, 8, 2)],
)
def test_steps_of_a_run(cfg, settings, images, per_step, steps):
    assert with_changes(cfg, *(f"train.{key}={value}" for key, value in settings.items())).train.steps(images, per_step) == steps


# ---- what decides a run


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lr=2e-4", "train.lr=0.0001, not 0.0002"),
        ("train.seed=7", "train.seed=42, not 7"),
        ("train.train_bs=2", "train.train_bs=4, not 2"),
        ("train.grad_accum=1", "train.grad_accum=2, not 1"),
        ("train.weight_decay=0.1", "train.weight_decay=0.0, not 0.1"),
        ("train.warmup_ratio=0.1", "train.warmup_ratio=0.05, not 0.1"),
        ("train.questions_per_image=1", 'train.questions_per_image="all", not 1'),
        ("train.tokens_per_row=100", "train.tokens_per_row=4096, not 100"),
        ("train.early_stopping_patience=3", "train.early_stopping_patience=null, not 3"),
        ("train.eval_images=3", "train.eval_images=64, not 3"),
        ("train.select_by=macro", 'train.select_by="micro", not "macro"'),
        ("lora.r=8", "lora.r=16, not 8"),
        ("lora.alpha=8", "lora.alpha=32, not 8"),
        ("lora.dropout=0", "lora.dropout=0.05, not 0.0"),
        ("lora.target_modules=[q_proj]", '"down_proj"], not ["q_proj"]'),
        ("image.max_pixels=10000", "image.max_pixels=200704, not 10000"),
        ("prompt_style=chat", 'prompt_style="plain", not "chat"'),
        ('answer_prefix=" "', 'answer_prefix="", not " "'),
        ("data.max_listed=3", "data.max_listed=20, not 3"),
        ("data.answer_space=rules", 'data.answer_space="mined", not "rules"'),
    ],
)
def test_what_decides_a_run_is_refused_by_name(cfg, override, said):
    begin(cfg, steps=(2,))
    before = (cfg.output_dir / "train_run.json").read_bytes()
    text = refusal(with_changes(cfg, override))
    assert said in text and text.count(", not ") == 1 and text.endswith("or set another output_dir")
    assert (cfg.output_dir / "train_run.json").read_bytes() == before


@pytest.mark.parametrize(
    "override",
    [
        "train.logging_steps=1",
        "train.eval_bs=1",
        "train.gradient_checkpointing=false",
        "train.num_workers=0",
        "train.report_to=tensorboard",
        "train.save_total_limit=1",
        "train.epochs=2",
        "train.max_steps=9",
        "predict.beams=2",
        "eval.count_abs_tol=1",
        "data.test_jsonl=train.jsonl",
    ],
)
def test_what_only_tells_or_comes_later_is_not(cfg, override):
    begin(cfg, steps=(2,))
    assert how_to_start(with_changes(cfg, override), "newest", False, 1).checkpoint


def test_all_that_differs_is_named_at_once(cfg):
    begin(cfg, steps=(2,))
    text = refusal(with_changes(cfg, "train.lr=1e-3", "lora.r=4", "image.max_pixels=784", "image.min_pixels=784"))
    assert all(key in text for key in ("train.lr=", "lora.r=", "image.max_pixels=", "image.min_pixels="))


def test_a_record_of_older_code_has_the_defaults_of_keys_that_it_lacks(cfg):
    begin(cfg, steps=(2,))
    record = read_json(cfg.output_dir / "train_run.json")
    del record["config"]["train"]["select_by"]
    (cfg.output_dir / "train_run.json").write_text(json.dumps(record))
    assert how_to_start(cfg, "newest", False, 1).checkpoint
    assert 'train.select_by="micro", not "macro"' in refusal(with_changes(cfg, "train.select_by=macro"))


def test_fewer_processes_go_on_where_the_step_keeps_its_images(cfg):
    """8 processes x 2 micro-batches are 4 x 4; 3 processes can't make 16."""
    begin(cfg, processes=8, steps=(2,))
    text = refusal(cfg, processes=4)
    assert "processes=8, not 4 (with 4 processes train.grad_accum=4 keeps its steps)" in text and "--overwrite" in text
    assert "processes=8, not 3 (with 3 processes none keeps its steps)" in refusal(cfg, processes=3)
    start = how_to_start(with_changes(cfg, "train.grad_accum=4"), "newest", False, 4)
    assert start.notes == ("note: checkpoint-2 has the random states of 8 processes; dropout is drawn anew",)
    assert "train.grad_accum=2, not 4" in refusal(with_changes(cfg, "train.grad_accum=4"), processes=8)


def test_smaller_micro_batches_go_on_where_the_step_keeps_its_images(cfg):
    """What a run that is out of memory is told to do."""
    begin(cfg, steps=(2,))
    text = refusal(with_changes(cfg, "train.train_bs=2"))
    assert "train.train_bs=4, not 2 (with train.train_bs=2 train.grad_accum=4 keeps its steps); go on with" in text
    assert "(with train.train_bs=3 none keeps its steps)" in refusal(with_changes(cfg, "train.train_bs=3"))
    start = how_to_start(with_changes(cfg, "train.train_bs=2", "train.grad_accum=4"), "newest", False, 1)
    assert start.checkpoint and start.notes == (
        "note: train.train_bs=2 train.grad_accum=4: a step keeps its images, its sums are the same up to rounding, and dropout is drawn "
        "anew",
    )
    assert drawn_before(start) == {"first_draw": 0, "drawn_bs": 4}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "3",
        '{"config": {}}',
        '{"config": null}',
        '{"config": {"image": {}, "lora": {}, "train": {}, "data": {}}}',
        '{"config": {"image": {}, "lora": {}, "train": {}, "data": {}}, "world_size": "1"}',
        '{"config": {"image": {}, "lora": {}, "train": {}, "data": {}}, "world_size": 1, "finished": 4}',
        *(json.dumps({"config": {**dict.fromkeys(SECTIONS, {}), name: []}, "world_size": 1}) for name in SECTIONS),
    ],
)
def test_a_record_that_says_nothing_is_one_line(cfg, text):
    begin(cfg, steps=(2,))
    (cfg.output_dir / "train_run.json").write_text(text)
    assert "train_run.json: does not say what its run was started with (config, world_size); put it back, or start again" in refusal(cfg)


def test_rows_pictures_and_model_are_compared_by_what_they_hold(cfg, tmp_path):
    for split in ("train", "val"):
        write_jsonl(cfg.output_dir / "data" / f"{split}.jsonl", [ROW])
    rows = {"train": [ROW], "val": [ROW]}
    made_from = contents(cfg, rows)
    record = {"made_from": made_from}
    refuse_other_contents(record, contents(cfg, rows), cfg)
    refuse_other_contents({}, made_from, cfg)

    def refused():
        with pytest.raises(UserError) as error:
            refuse_other_contents(record, contents(cfg, rows), cfg)
        return str(error.value)

    (tmp_path / "a.png").write_bytes(b"another")
    assert "other contents of data.image_root; put them back" in refused()
    (tmp_path / "a.png").write_bytes(b"picture")
    refuse_other_contents(record, contents(cfg, rows), cfg)
    (tmp_path / "tiny" / "config.json").write_text("{ }")
    write_jsonl(cfg.output_dir / "data" / "val.jsonl", [ROW, ROW])
    assert "other contents of data.val_jsonl, model_name;" in refused()
    alone = contents(cfg, {"train": [ROW]})
    assert alone["data.val_jsonl"] is None and alone["train.init_adapter"] is None
    assert alone["data.train_jsonl"] == sha256(cfg.output_dir / "data" / "train.jsonl")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "adapter_model.safetensors").write_bytes(b"weights")
    from_adapter = contents(with_changes(cfg, f"train.init_adapter={tmp_path / 'trained'}"), {"train": [ROW]})
    assert from_adapter == {**alone, "train.init_adapter": sha256(tmp_path / "trained" / "adapter_model.safetensors")}


# ---- the folder


def test_a_replaced_run_leaves_nothing_and_leftovers_of_kills_go(cfg):
    begin(cfg, steps=(2, 10))
    out = cfg.output_dir
    for name in ("adapter", "abandoned", "data", ".checkpoint-12.new", ".adapter.new"):
        (out / name).mkdir()
        (out / name / "file").write_text("")
    for name in ("trainer_state.json", ".trainer_state.json.ab1_2xyz", ".train_run.json.ab1_2xyz", "predictions.jsonl"):
        (out / name).write_text("")
    remove_leftovers(out)
    assert sorted(path.name for path in out.glob(".*")) == []
    assert (out / "checkpoint-2").exists() and (out / "adapter").exists()
    remove_run(cfg)
    assert sorted(path.name for path in out.iterdir()) == ["data", "predictions.jsonl"]


def test_the_record_tells_each_resumption(cfg):
    begin(cfg, steps=(2, 4), resumed=[{"step": 2, "command": ["a"]}])
    start = how_to_start(cfg, "newest", False, 1)
    first, second = resumptions(start, ["b"])
    assert first == {"step": 2, "command": ["a"]} and (second["step"], second["command"]) == (4, ["b"]) and second["date"]
    assert resumptions(Start(record=start.record), ["b"]) == []
