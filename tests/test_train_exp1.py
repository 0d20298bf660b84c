"""What the script says before it trains, and the arguments that it takes. That it trains is in test_pipeline.py.

python -m pytest tests/test_train_exp1.py -v
"""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import as_clips, make_experiment, token_counts
from safetensors.torch import save_file

import config
import train_exp1
import training.run
from config import load_config, save_run_info
from dataset import VQADataset, load_dataset
from files import UserError, write_json
from model.load import load_processor
from train_exp1 import describe_adapter, describe_step, long_answers_note, parse_arguments, splits_to_read


def arguments(monkeypatch, *given):
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", *given])
    return parse_arguments()


@pytest.mark.parametrize(
    ("given", "resume", "overrides"),
    [
        ([], None, []),
        (["--resume_from_checkpoint"], "newest", []),
        (["--resume_from_checkpoint", "checkpoint-4", "train.lr=1e-3"], "checkpoint-4", ["train.lr=1e-3"]),
        (["--resume_from_checkpoint", "train.lr=1e-3", "train.seed=7"], "newest", ["train.lr=1e-3", "train.seed=7"]),
        (["--resume_from_checkpoint", "lr=1/checkpoint-4"], "lr=1/checkpoint-4", []),
    ],
)
def test_a_key_after_the_flag_is_no_checkpoint_unless_there_is_one_of_that_name(tmp_path, monkeypatch, given, resume, overrides):
    (tmp_path / "lr=1" / "checkpoint-4").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    parsed = arguments(monkeypatch, *given)
    assert (parsed.resume_from_checkpoint, parsed.overrides) == (resume, overrides)


def test_a_run_is_gone_on_with_or_replaced_not_both(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        arguments(monkeypatch, "--resume_from_checkpoint", "--overwrite")
    assert "--resume_from_checkpoint goes on with a run, --overwrite replaces it: give one of them" in capsys.readouterr().err


def test_validation_rows_are_read_where_they_are_set_and_needed_by_what_goes_by_them(tmp_path):
    for name in ("train", "val"):
        (tmp_path / f"{name}.jsonl").write_text("")
    (tmp_path / "c.yaml").write_text(f"data: {{train_jsonl: train.jsonl, image_root: {tmp_path}}}\n")
    cfg = lambda *overrides: load_config(tmp_path / "c.yaml", overrides)
    assert splits_to_read(cfg()) == ["train"] and splits_to_read(cfg("data.val_jsonl=val.jsonl")) == ["train", "val"]
    for override in ("train.early_stopping_patience=2", "train.select_by=macro"):
        key = override.split("=")[0]
        assert splits_to_read(cfg("data.val_jsonl=val.jsonl", override)) == ["train", "val"]
        with pytest.raises(UserError, match=f"^{key} needs validation rows; set data.val_jsonl$"):
            splits_to_read(cfg(override))
    with pytest.raises(UserError, match="gone.jsonl"):
        splits_to_read(cfg("data.val_jsonl=gone.jsonl"))


@pytest.mark.parametrize("argument, value", [("--gpu", "V100"), ("--utilisation", "40"), ("--utilisation", "0"), ("--utilisation", "1.5")])
def test_dry_run_refuses_what_it_cannot_know(capsys, monkeypatch, argument, value):
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", argument, value])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert re.search(f"argument {argument}: invalid .*'{value}'", capsys.readouterr().err)


def test_what_is_told_before_training_and_what_is_not_asked_for(monkeypatch):
    told = lambda *given: [getattr(arguments(monkeypatch, *given), name) for name in ("dry_run", "gpu", "utilisation", "overwrite")]
    assert told() == [False, "A100", 0.35, False]
    assert told("--dry-run", "--gpu", "H100 PCIe", "--utilisation", "1", "--overwrite") == [True, "H100 PCIe", 1.0, True]


def test_a_dry_run_beside_a_finished_run_is_not_refused_and_changes_nothing(tmp_path, monkeypatch, capsys):
    cfg, _ = make_experiment(tmp_path, (1, 3))
    (cfg.output_dir / "adapter").mkdir(parents=True)
    (cfg.output_dir / "train_run.json").write_text("{}")
    settings = [f"model_name={cfg.model_name}", f"data.train_jsonl={tmp_path / 'rows.jsonl'}", f"data.val_jsonl={tmp_path / 'rows.jsonl'}"]
    settings += [f"data.image_root={tmp_path}", f"output_dir={cfg.output_dir}", "image.max_pixels=12544"]
    monkeypatch.setattr(config, "find_spec", lambda name: None)  # no bitsandbytes: no weights are loaded
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", "--dry-run", "train.gradient_checkpointing=false", "quantization=nf4", *settings])
    train_exp1.main()
    assert "one optimizer step: " in capsys.readouterr().out
    assert (cfg.output_dir / "train_run.json").read_text() == "{}" and not list((cfg.output_dir / "adapter").iterdir())


def test_question_types_shares_by_hand(experiment, processor):
    cfg, rows = experiment
    data = load_dataset(rows, processor, cfg, training=True)
    tokens = {row["id"]: len(processor.tokenizer(row["answer"])["input_ids"]) + 1 for row in rows}
    share = lambda kind, of: sum(of(row) for row in rows if row["question_type"] == kind) / sum(map(of, rows))
    both = lambda kind: f"{kind} {share(kind, lambda row: 1):.1%} / {share(kind, lambda row: tokens[row['id']]):.1%}"
    expected = ", ".join(map(both, ("yes_no", "color", "count_numeric")))
    assert train_exp1.describe_types(data) == "question types, share of rows / of the loss (answer tokens): " + expected


def test_a_steps_size_by_hand(tmp_path, processor):
    """Of four images, with 1, 3, 5 and 9 questions, three are a step."""
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **{"train.train_bs": 3, "train.grad_accum": 1})
    counts = token_counts(cfg, rows, processor)
    separate = sum(map(sum, counts))
    again = sum(image + before for number, (image, before, _) in enumerate(counts) if rows[number]["image"] == rows[number - 1]["image"])
    answers = sum(len(processor.tokenizer(row["answer"])["input_ids"]) + 1 for row in rows)
    assert describe_step(load_dataset(rows, processor, cfg, training=True), cfg, 1) == (
        "one optimizer step: 3 images (3 x 1 accumulated x 1 processes), "
        f"~{18 * 3 / 4:.0f} questions, ~{answers * 3 / 4:.0f} answer tokens, ~{(separate - again) * 3 / 4:,.0f} tokens in all; "
        f"one question a row would be ~{separate * 3 / 4:,.0f} ({separate / (separate - again):.1f}x)"
    )


def test_lists_of_images_and_stages_are_called_so(experiment, processor):
    """Of the experiment's four lists the longest has four images; in stages each is an item a stage."""
    cfg, rows = experiment
    rows = [{**row, "stage": 1 + int(row["id"]) % 3} for row in as_clips(rows)]
    assert "8 lists of up to 4 images (4 x 2 acc" in describe_step(load_dataset(rows, processor, cfg, training=True), cfg, 1)
    staged = load_config(cfg.config_path, [*cfg.overrides, "data.stage_prefix=add", "train.order=stages"])
    line = describe_step(load_dataset(rows, processor, staged, training=True), staged, 1)
    assert line.startswith(
        "one optimizer step: 8 lists of up to 4 images, each with one stage's questions (4 x 2 accumulated x 1 processes), "
    )


def test_training_answers_that_free_predictions_would_cut_are_counted():
    """A limit is kept by an answer that needs just so many tokens."""
    dataset = SimpleNamespace(encoded={str(length): ([], [0] * length) for length in (2, 4, 5, 9)})
    note = lambda limit: long_answers_note(dataset, load_config(None, [f"predict.max_new_tokens={limit}"]))
    assert note(9) == note("auto") == ""
    assert note(4) == (
        "note: 2 of 4 training answers (50.0%) need more than predict.max_new_tokens=4 tokens with their end token, so free predictions "
        "will be cut; the longest needs 9, which is what predict.max_new_tokens=auto gives"
    )


def test_the_adapter_is_told_with_its_step_and_its_score_where_it_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scored = "the adapter of step 20 (validation exact match 81.2%, teacher-forced) is in adapter"
    assert describe_adapter(tmp_path / "adapter", {"step": 20, "exact_match": 0.8123, "loss": 1.0}) == scored
    assert describe_adapter(tmp_path / "adapter", {"step": 20}) == "the adapter of step 20 is in adapter"


@pytest.mark.parametrize("validated", [True, False])
def test_a_finished_run_is_told_whole_and_what_comes_next(tmp_path, monkeypatch, capsys, validated):
    """With all that is said before training: notes, sizes, types. Nothing is trained, and no model loaded."""
    settings = {"train.max_steps": 4, "predict.max_new_tokens": 2, **({} if validated else {"data.val_jsonl": "null"})}
    cfg, rows = make_experiment(tmp_path, (1, 3), **settings)
    save_run_info(cfg.output_dir / "train_run.json", cfg, world_size=1, finished={"step": 4})
    adapter = cfg.output_dir / "adapter"
    adapter.mkdir()
    write_json(adapter / "experiment.json", {"best": {"step": 4, "exact_match": 0.75}})
    write_json(adapter / "adapter_config.json", {})
    save_file({"weights": torch.zeros(3)}, adapter / "adapter_model.safetensors")
    (cfg.output_dir / "checkpoint-4").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", "--resume_from_checkpoint", *cfg.overrides])
    capsys.readouterr()
    train_exp1.main()
    data = load_dataset(rows, load_processor(cfg), cfg, training=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "note: checkpoint-4 is not whole (it has no trainer_state.json), so it does not count"
    assert lines[-6:] == [
        describe_step(data, cfg, 1),
        train_exp1.describe_types(data),
        long_answers_note(data, cfg),
        "finished: all 4 steps are trained; nothing to do",
        "the adapter of step 4 (validation exact match 75.0%, teacher-forced) is in outputs/adapter",
        f"next: {cfg.command('predict_exp1.py', *([] if validated else ['--split', 'train']))}",
    ]
    save_run_info(cfg.output_dir / "train_run.json", cfg, world_size=1, finished={"step": 4}, made_from={"model_name": "another"})
    with pytest.raises(UserError, match="was started with other contents of model_name; put them back"):
        train_exp1.main()


def test_a_training_whose_labels_are_shifted_does_not_begin(tmp_path, monkeypatch):
    cfg, _ = make_experiment(tmp_path, (1, 3))
    collate = VQADataset.collate

    def shifted(self, items):
        batch = collate(self, items)
        return {**batch, "labels": batch["labels"].roll(1, 1)}

    monkeypatch.setattr(VQADataset, "collate", shifted)
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", *cfg.overrides])
    monkeypatch.setattr(training.run, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="label mask broken at row"):
        train_exp1.main()
