"""What a prediction starts from: its adapter, the image that is asked about, and where its answers go.

python -m pytest tests/prediction/test_setup.py -v
"""

import shlex
from pathlib import Path

import pytest
from PIL import Image

from config import code_facts, load_config
from data import answer_space
from files import UserError, hash_of, sha256, write_jsonl
from prediction.setup import adapter_folder, facts_of_files, image_file, output_path, space_of


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
    assert output_path(cfg, "test", None, None) == tmp_path / "out" / "predictions_test_none.jsonl"
    with pytest.raises(UserError, match="^--out answers.txt: predictions are JSONL; let the name end in .jsonl$"):
        output_path(cfg, "val", own, "answers.txt")


def test_a_name_is_found_here_or_beside_the_configuration(cfg, tmp_path, monkeypatch):
    """An adapter where there is one, predictions where there is a folder for them."""
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "run7").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert adapter_folder(cfg, "run7").resolve() == tmp_path / "run7"
    assert adapter_folder(cfg, "mine").resolve() == tmp_path / "elsewhere" / "mine"
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    assert adapter_folder(cfg, None) == cfg.output_dir / "adapter"
    assert output_path(cfg, "val", None, "p.jsonl").resolve() == tmp_path / "elsewhere" / "p.jsonl"
    assert output_path(cfg, "val", None, "run7/p.jsonl").resolve() == tmp_path / "run7" / "p.jsonl"


def test_an_adapters_answer_space_comes_from_its_folder_and_else_from_the_training_rows(cfg, tmp_path):
    rows = [{"question": "What color?", "answer": "pink; red", "image": f"{number}.png", "id": str(number)} for number in range(40)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(UserError, match=f"^adapter {adapter} has no answer_space.json; train it with train_exp1.py$"):
        space_of(cfg, adapter)
    other = answer_space.mine([{**row, "answer": "blue; green"} for row in rows])
    answer_space.save(other, adapter / "answer_space.json")
    trained = cfg.model_copy(update={"data": cfg.data.model_copy(update={"train_jsonl": tmp_path / "train.jsonl"})})
    labels = lambda space: space["questions"]["what color"]["candidates"]
    assert space_of(cfg, adapter) == other and (labels(other), labels(space_of(trained, None))) == (["blue", "green"], ["pink", "red"])


def test_files_and_settings_that_decide_predictions_are_told_by_what_they_hold(cfg, tmp_path):
    """Of an adapter its own files, of the configuration what changes an answer; rows need no answers for it."""
    Image.new("RGB", (56, 56)).save(tmp_path / "frames" / "0.png")
    write_jsonl(tmp_path / "val.jsonl", [{"id": "0", "question": "Is it?", "image": "0.png"}])
    (tmp_path / "corrections.csv").write_text("id,answer,who,why\n0,no,A. Smith,seen again\n")
    (tmp_path / "adapter" / "checkpoint").mkdir(parents=True)
    for name, text in (("b", "second"), ("a", "first")):
        (tmp_path / "adapter" / name).write_text(text)
    files = {"val_jsonl": tmp_path / "val.jsonl", "corrections": tmp_path / "corrections.csv"}
    own = lambda **more: cfg.model_copy(update={"data": cfg.data.model_copy(update={**files, **more})})
    facts = facts_of_files(own(), "val", tmp_path / "adapter")
    assert list(facts) == ["adapter", "config", "data file", "corrections", "image files", "code"]
    assert facts["adapter"] == sha256(tmp_path / "adapter" / "a", tmp_path / "adapter" / "b")
    assert facts["data file"] == sha256(tmp_path / "val.jsonl") and facts["image files"] == hash_of(
        [["0.png", sha256(tmp_path / "frames/0.png")]]
    )
    assert facts["code"] == code_facts("enrich") | code_facts("predict")
    assert len(facts["code"]) > max(len(code_facts("enrich")), len(code_facts("predict")))
    settings = facts["config"]
    assert {"train.bf16": True, "train.seed": 42, "quantization": "none", "data.stage_prefix": "keep"}.items() <= settings.items()
    sections = {key.partition(".")[0] for key in settings}
    assert sections == {"quantization", "prompt_style", "prompt", "answer_prefix", "image", "predict", "data", "train"}
    assert {key for key in settings if key.startswith("data.")} == {
        f"data.{key}" for key in ("max_listed", "max_frames", "stages", "stage_prefix")
    }
    assert {"predict.batch_size", "predict.tokens_per_row"}.isdisjoint(settings) and "predict.beams" in settings
    plain = facts_of_files(own(corrections=None), "val", None)
    assert plain["adapter"] == "none" and "corrections" not in plain


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
    with pytest.raises(UserError, match=r"^--image b.jpg: there is no such file, neither here nor in \.\. or \.\./frames$"):
        image_file(cfg, "b.jpg")
    rootless = cfg.model_copy(update={"data": cfg.data.model_copy(update={"image_root": None})})
    with pytest.raises(UserError, match=r"^/image b.jpg: there is no such file, neither here nor in \.\.$"):
        image_file(rootless, "b.jpg", "/image")
    with pytest.raises(UserError, match=r"--image A.JPG: there is no such file, .*; is .*a.jpg meant\?$"):
        image_file(cfg, "A.JPG")
    with pytest.raises(UserError, match=r"--image 'https://x.org/a.jpg': an address; images must be files"):
        image_file(cfg, "https://x.org/a.jpg")
