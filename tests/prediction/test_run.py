"""What decides a prediction, what its rows and closing lines say, and how long its answers may be.

python -m pytest tests/prediction/test_run.py -v
"""

import os
import shutil
from math import log
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, make_experiment, random_model, with_random_lora
from data_sets import ask, rows_of

import config
from config import load_config
from data import answer_space
from data.answer_space import mine
from data.preprocess import training_space
from files import UserError, json_text
from model.adapter import experiment_facts, save_adapter
from prediction import streaming
from prediction.decode import Answer
from prediction.run import describe, free_limit, prediction_row, run_facts

SURE = Answer("no", "exact", log(0.6), scored=(("no", log(0.6)), ("yes", log(0.2))), greedy="yes")


def rows(**decodings):
    return [{"qtype": qtype, "decoding": decoding} for qtype, kinds in decodings.items() for decoding in kinds]


def test_the_closing_line_counts_constrained_rows_and_names_the_others():
    assert describe(rows(yes_no=["exact"] * 700, mcq=["beam", "greedy"] * 370), 9) == "1,440 of 1,440 rows constrained"
    some = rows(open_ended=["free"] * 15, yes_no=["exact"] * 16, count_numeric=["free"] * 2)
    some[0]["cut"] = True
    assert describe(some, 4) == (
        "16 of 33 rows constrained; free: count_numeric 2, open_ended 15; 1 answers cut at predict.max_new_tokens=4"
    )


def test_free_answers_are_as_long_as_the_adapters_longest_training_answer(tmp_path):
    """Where that is asked for; without a training file, which whoever has the adapter need not have."""
    cfg = load_config()
    auto = cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"max_new_tokens": "auto"})})
    (tmp_path / "experiment.json").write_text('{"longest_answer": 27}')
    assert free_limit(auto, None, tmp_path) == 27 and free_limit(cfg, None, tmp_path) == 4
    (tmp_path / "experiment.json").write_text("{}")  # of older code
    with pytest.raises(UserError, match="does not say what its longest training answer is; set predict.max_new_tokens=N"):
        free_limit(auto, None, tmp_path)


def test_a_row_says_how_sure_the_answer_is():
    row = {
        "id": "x",
        "question": "Is it?",
        "image": "x.jpg",
        "question_type": "yes_no",
        "answer_candidates": ["yes", "no"],
        "multi_label": False,
    }
    row |= {"answer": "no", "answer_raw": "No"}
    found = prediction_row(row, SURE)
    assert list(found)[:4] == ["id", "pred", "gt", "qtype"] and (found["pred"], found["gt"], found["greedy"]) == ("no", "No", "yes")
    assert found["confidence"] == 0.75 and (found["runner_up"], found["runner_up_confidence"]) == ("yes", 0.25)
    assert found["valid_mass"] == 0.8 and found["logprob"] == -0.510826 == round(log(0.6), 6)
    named = prediction_row(row, Answer("no", "allowed_set"))
    assert named["logprob"] is named["valid_mass"] is named["confidence"] is None and named["decoding"] == "allowed_set"
    assert found["candidates_top"] == [["no", 0.75], ["yes", 0.25]] and "abstained" not in found and "cut" not in found
    assert prediction_row(row, SURE, 0.76)["abstained"] is True and prediction_row(row, SURE, 0.75)["abstained"] is False
    free = prediction_row(row, Answer("well", "free", -2.0, cut=True), 0.5)
    assert free["confidence"] is free["runner_up"] is free["valid_mass"] is None and free["cut"] and not free["abstained"]
    assert "candidates_top" not in free and "greedy" not in free


def change(path, at=-1):
    """Flip one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_all_that_decides_predictions_is_among_the_facts(tmp_path, monkeypatch, processor):
    """Change one thing at a time, and the names that a refusal would give are just its own."""
    cfg, rows = make_experiment(tmp_path, questions=(3, 3))
    space = training_space(cfg, say=lambda line: None)
    model, adapter, code = (tmp_path / name for name in ("model", "adapter", "code"))
    shutil.copytree(cfg.model_name, model)
    save_adapter(
        with_random_lora(random_model(processor), cfg.lora), adapter, experiment_facts(cfg, {}), {"answer_space.json": json_text(space)}
    )
    code.mkdir()
    for path in (*ROOT.glob("*.py"), *ROOT.glob("data/*.*"), *ROOT.glob("model/*.py"), *ROOT.glob("prediction/*.py")):
        target = code / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    monkeypatch.setattr(config, "ROOT", code)
    args = SimpleNamespace(split="val", limit=None)
    settings = {"model_name": str(model)}
    before = None

    def changed(limit=4, space=space, **update):
        nonlocal before
        now = run_facts(cfg.model_copy(update={**settings, **update}), args, adapter, space, limit, SimpleNamespace())
        names = sorted(streaming.differences(before, now)) if before else []
        before = before or now
        return names

    assert changed() == [] and changed() == []
    assert changed(limit=5) == ["arguments max_new_tokens"]
    assert changed(space=answer_space.mine([*rows, *rows])) == ["answer space"], "of an untuned model it comes from the training rows"
    assert changed(data=cfg.data.model_copy(update={"max_listed": 3})) == ["config data.max_listed"]
    assert changed(train=cfg.train.model_copy(update={"bf16": not cfg.train.bf16})) == ["config train.bf16"]
    args.limit = 3
    assert changed() == ["arguments --limit"]
    args.limit = None
    assert changed(answer_prefix=" ") == ["config answer_prefix"]
    assert changed(train=cfg.train.model_copy(update={"seed": 7})) == ["config train.seed"]
    assert changed(predict=cfg.predict.model_copy(update={"beams": 9})) == ["config predict.beams"]
    less_at_once = {"batch_size": 1, "tokens_per_row": 90}  # what a run without memory is told to lower
    assert changed(predict=cfg.predict.model_copy(update=less_at_once)) == []
    assert changed(model_name=str(shutil.copytree(model, tmp_path / "moved"))) == []
    for path, name in (
        (adapter / "adapter_model.safetensors", "adapter"),
        (model / "model.safetensors", "model files"),
        (cfg.split_path("val"), "data file"),
        (code / "prediction" / "answer_trees.py", "code prediction/answer_trees.py"),
        (code / "data" / "aliases.yaml", "code data/aliases.yaml"),
    ):
        before = None
        changed()
        change(path, at=16 if name == "data file" else -1)
        assert changed() == [name]
    before = None
    changed()
    os.utime(cfg.image_folder() / "0.png", ns=(1, 1))
    os.utime(model / "model.safetensors", ns=(1, 1))
    assert changed() == [], "a copy with another time is the same"
    change(cfg.image_folder() / "0.png")
    assert changed() == ["image files"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert "device" in changed()
    finally:
        torch.set_num_threads(threads)


def test_a_prediction_carries_the_options_that_the_rules_types_ask_for():
    row = ask(mine(rows_of("Which?", ["a"], options=["a", "b"])), "Which?", "B", options=["a", "b"])
    found = prediction_row(row, Answer("b", "greedy", -1.0))
    assert found.items() >= {"id": "x", "pred": "b", "gt": "b", "qtype": "mcq", "reachable": True}.items() and found["options"] == [
        "a",
        "b",
    ]
    bare = prediction_row(ask(mine(rows_of("Which?", ["a"])), "Which?", "a", answers=None), Answer("b", "greedy", -1.0))
    assert bare.keys().isdisjoint(("options", "group", "answers"))


def test_a_prediction_carries_the_patient_and_the_references():
    extra = {"group": "P 1", "answers": ["Big snare", "b"]}
    row = ask(mine(rows_of("Is it a?", ["yes"])), "Is it a?", "maybe", **extra)
    found = prediction_row(row, Answer("b", "exact", -1.0))
    assert {key: found[key] for key in extra} == extra and list(found)[:4] == ["id", "pred", "gt", "qtype"]
    assert found["reachable"] is False
    assert prediction_row({**row, "group": 0}, Answer("b", "exact", -1.0))["group"] == 0
    assert prediction_row({**row, "answers": ["Yes."]}, Answer("b", "exact", -1.0))["reachable"] is True
