"""The real scripts, as a user runs them: from a parent folder with spaces in its name, on the shipped tiny model.

python -m pytest tests/test_pipeline.py -v
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, TINY_MODEL
from safetensors.torch import load_file

SCENES = ROOT / "data" / "demo" / "scenes"
SMALL = [
    "train.max_steps=4",
    "train.save_steps=2",
    "train.eval_steps=2",
    "train.logging_steps=1",
    "train.eval_images=4",
    "train.num_workers=0",
]


def copy_repository(target):
    """The code without data/demo's weights and scenes, which are used where they are."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "outputs*", "demo", "tests", "__pycache__", "*.md"))
    return target


def write_config(exp1, data, **changes):
    """What the user's document says: edit config_exp1.yaml."""
    text = (exp1 / "config_exp1.yaml").read_text()
    values = {"model_name": TINY_MODEL, "train_jsonl": data / "train.jsonl", "val_jsonl": data / "val.jsonl", "image_root": SCENES}
    values |= {"max_pixels": 12544, "lr": "1.0e-3", "max_new_tokens": "auto", "train_bs": 8, "grad_accum": 1}
    values |= {"gradient_checkpointing": "false", **changes}
    lines = []
    for line in text.splitlines():
        key = line.split(":")[0].strip()
        lines.append(f"{line.split(key)[0]}{key}: {values[key]}" if key in values and not line.lstrip().startswith("#") else line)
    (exp1 / "config_exp1.yaml").write_text("\n".join(lines) + "\n")


def first_scenes(split, count):
    rows = [json.loads(line) for line in (SCENES / f"{split}.jsonl").read_text().splitlines()]
    names = list(dict.fromkeys(row["image"] for row in rows))[:count]
    return [row for row in rows if row["image"] in names]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """`corrected 1-5 experiments/` with exp1/ in it, configured for 12 scenes; no outputs yet."""
    parent = tmp_path_factory.mktemp("user") / "corrected 1-5 experiments"
    exp1 = copy_repository(parent / "exp1")
    for split, count in (("train", 12), ("val", 6)):
        write_rows(exp1 / "rows" / f"{split}.jsonl", first_scenes(split, count))
    write_config(exp1, exp1 / "rows")
    return parent


def run(folder, *command, expect=0, launcher=(sys.executable,)):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    result = subprocess.run([*launcher, *map(str, command)], cwd=folder, capture_output=True, text=True, env=environment)
    assert result.returncode == expect, result.stdout[-2000:] + result.stderr[-4000:]
    return result


def tensors(adapter):
    return load_file(adapter / "adapter_model.safetensors")


# ---- the user's document, in its order


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
    run(parent, "exp1/train_exp1.py", *steps, "train.train_bs=2", f"output_dir={exp1 / 'outputs_two'}", launcher=torchrun)
    run(parent, "exp1/train_exp1.py", *steps, "train.train_bs=4", f"output_dir={exp1 / 'outputs_one'}")
    two, one = (json.loads((exp1 / name / "trainer_state.json").read_text())["log_history"] for name in ("outputs_two", "outputs_one"))
    for key in ("loss", "grad_norm", "eval_exact_match"):
        values = [[entry[key] for entry in history if key in entry] for history in (two, one)]
        assert values[0] == pytest.approx(values[1], rel=2e-3), key


def test_sanity_passes_and_fails_with_a_broken_mask(parent):
    exp1 = parent / "exp1"
    result = run(parent, "exp1/sanity_overfit.py")
    assert "loss < 2.0: label masking works" in result.stdout and "SANITY TEST PASSED" in result.stdout
    assert "supervised ids: [" in result.stdout.split("loss:")[0]
    source = (exp1 / "model" / "token_tree.py").read_text()
    (exp1 / "model" / "token_tree.py").write_text(
        source.replace("self.labels.append(token if supervised", "self.labels.append(token if True")
    )
    error = run(parent, "exp1/sanity_overfit.py", expect=1).stderr
    (exp1 / "model" / "token_tree.py").write_text(source)
    assert "label mask broken at row" in error and "Traceback" not in error


def test_sanity_fails_when_nothing_is_learnt(parent):
    output = run(parent, "exp1/sanity_overfit.py", "train.max_steps=2", expect=1).stdout
    assert "SANITY TEST FAILED" in output


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


# ---- what README says about question types of one's own


def test_a_question_type_of_ones_own(tmp_path):
    """Edit the two functions as README shows, and nothing else: prompt, constraint, prediction and table follow."""
    exp1 = copy_repository(tmp_path / "exp1")
    source = (exp1 / "data" / "schema.py").read_text()
    for line, addition in (
        ("    text = question.lower().strip()\n", '    if "instrument" in text:\n        return "instrument_type"\n'),
        (
            '    if question_type == "yes_no":\n',
            '    if question_type == "instrument_type":\n        return ["forceps", "scissors", "grasper", "scalpel"]\n',
        ),
    ):
        assert source.count(line) == 1
        source = source.replace(line, line + addition if "strip" in line else addition + line)
    (exp1 / "data" / "schema.py").write_text(source)
    image = first_scenes("train", 1)[0]["image"]
    rows = [{"question": "Which instrument is this?", "answer": "grasper", "image": image}]
    rows += [{"question": "Is there text?", "answer": "yes", "image": image}]
    for split in ("train", "val"):
        write_rows(tmp_path / f"{split}.jsonl", rows)
    write_config(exp1, tmp_path)
    viewer = run(tmp_path, "exp1/dataset.py", "--show", "1").stdout
    assert "Question type: instrument_type" in viewer and "Valid answers: forceps, scissors, grasper, scalpel" in viewer
    run(tmp_path, "exp1/predict_exp1.py", "--adapter", "none", "--out", "exp1/outputs/p.jsonl")
    prediction = json.loads((exp1 / "outputs" / "p.jsonl").read_text().splitlines()[0])
    assert prediction["qtype"] == "instrument_type" and prediction["pred"] in ("forceps", "scissors", "grasper", "scalpel")
    table = run(tmp_path, "exp1/eval_exp1.py", "--predictions", "exp1/outputs/p.jsonl").stdout
    assert "yes_no               1 " in table and "instrument_type      1 " in table


# ---- real input


def test_the_four_scripts_on_vqa_rad(tmp_path, shared):
    """12 real images, 94 real questions: train 64, predict 30."""
    source = shared / "real-data" / "vqa_rad"
    rows = [json.loads(line) for line in (source / "rows.jsonl").read_text().splitlines()]
    for split in ("train", "test"):
        write_rows(tmp_path / f"{split}.jsonl", [row for row in rows if row["split"] == split])
    settings = [
        f"data.train_jsonl={tmp_path / 'train.jsonl'}",
        f"data.val_jsonl={tmp_path / 'test.jsonl'}",
        f"data.image_root={source / 'images'}",
    ]
    settings += [f"output_dir={tmp_path / 'out'}", "train.max_steps=2", "train.num_workers=0", "train.max_seq_len=512"]
    config = ["--config", ROOT / "config_demo.yaml"]
    assert "train: " in run(ROOT, "-m", "data.preprocess", *config, *settings, "data.test_jsonl=null").stdout
    run(ROOT, "train_exp1.py", *config, *settings)
    run(ROOT, "predict_exp1.py", *config, *settings)
    table = run(ROOT, "eval_exp1.py", *config, *settings, "--predictions", tmp_path / "out" / "predictions.jsonl").stdout
    assert "OVERALL (micro)      30 " in table
    predictions = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {row["id"] for row in predictions} == {row["id"] for row in rows if row["split"] == "test"}
    assert all(
        row["pred"] in ("yes", "no") for row in predictions if row["qtype"] == "yes_no" and row["question"].startswith("Is the image")
    )


def test_real_endoscopy_frames(tmp_path, shared):
    """Frames of 617 to 1348 pixels through training and prediction at the real pixel limits."""
    frames = sorted((shared / "real-data" / "kvasir_seg" / "images").iterdir())
    rows = [
        {"question": question, "answer": "yes", "image": frame.name}
        for frame in frames
        for question in ("Is there a polyp?", "Is there text?")
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    settings = [f"data.train_jsonl={tmp_path / 'train.jsonl'}", "data.val_jsonl=null", f"data.image_root={frames[0].parent}"]
    settings += [
        f"output_dir={tmp_path / 'out'}",
        "image.max_pixels=200704",
        "train.max_steps=1",
        "train.train_bs=2",
        "train.num_workers=0",
    ]
    config = ["--config", ROOT / "config_demo.yaml"]
    assert "trainable" in run(ROOT, "train_exp1.py", *config, *settings).stdout
    run(ROOT, "predict_exp1.py", *config, *settings, "--split", "train")
    name = Path(tmp_path / "out" / "predictions_train_adapter.jsonl")
    assert len(name.read_text().splitlines()) == len(rows)
