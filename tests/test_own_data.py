"""The real scripts on a question type of one's own and on real pictures.

python -m pytest tests/test_own_data.py -v
"""

import json
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from user_copy import copy_repository, first_scenes, launch, run, write_config, write_rows

# ---- what README says about question types of one's own


@pytest.mark.slow("runs three real scripts")
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


@pytest.mark.slow("runs the four real scripts")
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
    assert "train: " in launch(ROOT, "-m", "data.preprocess", *config, *settings, "data.test_jsonl=null").stdout
    trained = run(ROOT, "train_exp1.py", *config, *settings).stdout
    says, script, *others = shlex.split(trained.splitlines()[-1].removeprefix("next: "))
    assert Path(says).name.startswith("python") and script.endswith("predict_exp1.py") and {*settings} <= {*others}
    run(ROOT, "predict_exp1.py", *config, *settings)
    table = run(ROOT, "eval_exp1.py", *config, *settings, "--predictions", tmp_path / "out" / "predictions.jsonl").stdout
    assert "OVERALL (micro)      30 " in table
    predictions = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {row["id"] for row in predictions} == {row["id"] for row in rows if row["split"] == "test"}
    assert all(
        row["pred"] in ("yes", "no") for row in predictions if row["qtype"] == "yes_no" and row["question"].startswith("Is the image")
    )


@pytest.mark.slow("runs two real scripts on pictures of up to 1348 pixels")
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
