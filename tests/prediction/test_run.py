"""The closing lines of a prediction, how long its answers may be, and where they go.

python -m pytest tests/prediction/test_run.py -v
"""

import shlex
from pathlib import Path

import pytest
from data_sets import ask, rows_of

from config import load_config
from data.answer_space import mine
from files import UserError
from prediction.decode import Answer
from prediction.run import describe, free_limit, prediction_row
from prediction.setup import adapter_folder, image_file, output_path


def rows(**decodings):
    return [{"qtype": qtype, "decoding": decoding} for qtype, kinds in decodings.items() for decoding in kinds]


def test_the_closing_line_counts_constrained_rows_and_names_the_others():
    assert describe(rows(yes_no=["exact"] * 700, mcq=["beam", "greedy"] * 370), 9) == "1,440 of 1,440 rows constrained"
    some = rows(open_ended=["free"] * 15, yes_no=["exact"] * 16, count_numeric=["free"] * 2)
    some[0]["cut"] = True
    assert describe(some, 4) == (
        "16 of 33 rows constrained; free: count_numeric 2, open_ended 15; 1 answers cut at predict.max_new_tokens=4"
    )


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "c.yaml").write_text("output_dir: out\ndata: {image_root: frames}\n")
    (tmp_path / "frames").mkdir()
    return load_config(tmp_path / "c.yaml")


def test_predictions_are_named_after_split_and_adapter(cfg, tmp_path):
    own, other = cfg.output_dir / "adapter", tmp_path / "run7" / "adapter"
    names = [
        output_path(cfg, *arguments).name
        for arguments in (("val", own, None), ("test", own, None), ("val", None, None), ("val", other, None))
    ]
    assert names == [
        "predictions.jsonl",
        "predictions_test_adapter.jsonl",
        "predictions_val_none.jsonl",
        "predictions_val_run7_adapter.jsonl",
    ]
    with pytest.raises(UserError, match="let the name end in .jsonl"):
        output_path(cfg, "val", own, "answers.txt")


def test_free_answers_are_as_long_as_the_adapters_longest_training_answer(cfg, tmp_path):
    """Where that is asked for; without a training file, which whoever has the adapter need not have."""
    auto = cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"max_new_tokens": "auto"})})
    (tmp_path / "experiment.json").write_text('{"longest_answer": 27}')
    assert free_limit(auto, None, tmp_path) == 27 and free_limit(cfg, None, tmp_path) == 4
    (tmp_path / "experiment.json").write_text("{}")  # of older code
    with pytest.raises(UserError, match="does not say what its longest training answer is; set predict.max_new_tokens=N"):
        free_limit(auto, None, tmp_path)


def test_a_missing_adapter_says_how_to_train_one(cfg, monkeypatch):
    assert adapter_folder(cfg, "none") is None
    monkeypatch.chdir(cfg.config_path.parent)
    with pytest.raises(UserError, match="train first: .*, or give --adapter PATH or --adapter none") as error:
        adapter_folder(cfg, None)
    words = shlex.split(str(error.value).split("train first: ")[1].split(", or give")[0])
    assert Path(words[1]).name == "train_exp1.py" and words[2:] == ["--config", "c.yaml"]


def test_an_image_is_found_where_rows_find_theirs(cfg, tmp_path, monkeypatch):
    """In the working directory, beside the configuration, or in data.image_root."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in (tmp_path / "frames", tmp_path, tmp_path / "elsewhere"):
        (folder / "a.jpg").write_bytes(b"")
        assert image_file(cfg, "a.jpg").resolve() == folder / "a.jpg"
    with pytest.raises(UserError, match=r"--image b.jpg: there is no such file, neither here nor in "):
        image_file(cfg, "b.jpg")
    with pytest.raises(UserError, match=r"--image A.JPG: there is no such file, .*; is .*a.jpg meant\?$"):
        image_file(cfg, "A.JPG")
    with pytest.raises(UserError, match=r"--image 'https://x.org/a.jpg': an address; images must be files"):
        image_file(cfg, "https://x.org/a.jpg")


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
