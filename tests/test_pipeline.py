"""The user's document, run in its order: the real scripts, from a parent folder with spaces in its name, on the tiny model.

python -m pytest tests/test_pipeline.py -v
"""

import json
import shutil
import sys
from collections import Counter

import pytest
from safetensors.torch import load_file
from user_copy import launch, make_parent, run

SMALL = [
    "train.max_steps=4",
    "train.save_steps=2",
    "train.eval_steps=2",
    "train.logging_steps=1",
    "train.eval_images=4",
    "train.num_workers=0",
]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("user"))


def tensors(adapter):
    return load_file(adapter / "adapter_model.safetensors")


def test_train(parent):
    output = run(parent, "exp1/train_exp1.py", *SMALL).stdout
    outputs = parent / "exp1" / "outputs"
    assert (
        "enriched train: 108 rows" in output and "one optimizer step: 8 images (8 x 1 accumulated x 1 processes), ~72 questions" in output
    )
    assert {path.name for path in outputs.iterdir()} >= {
        "checkpoint-2",
        "checkpoint-4",
        "adapter",
        "trainer_state.json",
        "loss_curve.png",
        "train_run.json",
    }
    history = json.loads((outputs / "trainer_state.json").read_text())["log_history"]
    assert [entry["loss"] > 0 for entry in history if "loss" in entry] == [True] * 4 and "learning_rate" in history[0]
    assert "eval_exact_match_yes_no" in next(entry for entry in history if "eval_loss" in entry)
    record = json.loads((outputs / "train_run.json").read_text())
    assert record["config"]["train"]["max_steps"] == 4 and record["versions"]["transformers"] and record["device"] == "cpu"
    assert [path.name for path in (parent / "exp1").iterdir() if path.name.startswith("outputs")] == ["outputs"]
    assert sorted(path.name for path in parent.iterdir()) == ["exp1"], "nothing may be written outside output_dir"


def test_training_over_a_finished_run_is_refused(parent):
    error = run(parent, "exp1/train_exp1.py", *SMALL, expect=1).stderr
    assert "already holds a training run; continue it with --resume_from_checkpoint, replace it with --overwrite" in error
    assert "Traceback" not in error


def test_resumed_equals_uninterrupted(parent):
    outputs = parent / "exp1" / "outputs"
    uninterrupted = tensors(outputs / "checkpoint-4")
    shutil.rmtree(outputs / "checkpoint-4")
    run(parent, "exp1/train_exp1.py", "--resume_from_checkpoint", "outputs/checkpoint-2", *SMALL)
    resumed = tensors(outputs / "checkpoint-4")
    assert uninterrupted.keys() == resumed.keys() and all((uninterrupted[name] == resumed[name]).all() for name in resumed)
    assert any((resumed[name] != tensors(outputs / "checkpoint-2")[name]).any() for name in resumed)


def test_predict(parent):
    output = run(parent, "exp1/predict_exp1.py").stdout
    outputs = parent / "exp1" / "outputs"
    rows = [json.loads(line) for line in (outputs / "predictions.jsonl").read_text().splitlines()]
    assert list(rows[0])[:4] == ["id", "pred", "gt", "qtype"] and [row["id"] for row in rows] == [str(number) for number in range(54)]
    enriched = [json.loads(line) for line in (outputs / "data" / "val.jsonl").read_text().splitlines()]
    constrained = [(row, full) for row, full in zip(rows, enriched) if full["answer_candidates"]]
    assert len(constrained) > 10 and all(row["pred"] in full["answer_candidates"] for row, full in constrained)
    free = Counter(full["question_type"] for full in enriched if not full["answer_candidates"])
    assert f"{len(constrained)} of 54 rows constrained; free: " in output and f"mcq {free['mcq']}" in output
    assert sum("options" in full for full in enriched) == sum(full["question_type"] == "mcq" for _, full in constrained)
    sidecar = json.loads((outputs / "predictions.meta.json").read_text())
    assert sidecar["ids"] == [row["id"] for row in rows] and sidecar["rows_in_split"] == 54 and sidecar["limit"] is None


def test_eval(parent):
    output = run(parent, "exp1/eval_exp1.py", "--show", "2").stdout
    assert output.splitlines()[:3] == ["=" * 80, "EVALUATION RESULTS - EXP1", "=" * 80] and "OVERALL (micro)      54" in output
    assert "Predicted: '" in output and "The blind prior answers every question" in output
    assert json.loads((parent / "exp1" / "outputs" / "metrics.json").read_text())["n"] == 54


def test_a_limited_run_is_partial(parent):
    run(parent, "exp1/predict_exp1.py", "--adapter", "none", "--limit", "7", "predict.decoding=allowed_set")
    output = run(parent, "exp1/eval_exp1.py", "--predictions", "outputs/predictions_val_none.jsonl").stdout
    assert "partial: 7 of 54 rows" in output


def test_another_prompt_than_trained_is_refused(parent):
    error = run(parent, "exp1/predict_exp1.py", "prompt_style=chat", expect=1).stderr
    assert 'was trained with prompt_style="plain", this run has "chat"' in error and "Traceback" not in error


def test_two_processes_train_like_one(parent):
    """torchrun on gloo: 2 ranks x 2 images = 1 rank x 4 images, the same loss and gradient norm at every step."""
    exp1 = parent / "exp1"
    steps = [
        "train.max_steps=3",
        "train.logging_steps=1",
        "train.grad_accum=1",
        "train.eval_steps=3",
        "train.eval_images=4",
        "train.num_workers=0",
    ]
    steps += ["lora.dropout=0.0"]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517")
    launch(parent, "exp1/train_exp1.py", *steps, "train.train_bs=2", f"output_dir={exp1 / 'outputs_two'}", launcher=torchrun)
    run(parent, "exp1/train_exp1.py", *steps, "train.train_bs=4", f"output_dir={exp1 / 'outputs_one'}")
    two, one = (json.loads((exp1 / name / "trainer_state.json").read_text())["log_history"] for name in ("outputs_two", "outputs_one"))
    for key in ("loss", "grad_norm", "eval_exact_match"):
        values = [[entry[key] for entry in history if key in entry] for history in (two, one)]
        assert values[0] == pytest.approx(values[1], rel=2e-3), key
