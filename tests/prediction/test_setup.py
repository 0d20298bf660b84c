"""What a prediction starts from: its adapter, the image that is asked about, and where its answers go.

python -m pytest tests/prediction/test_setup.py -v
"""

import shlex
from pathlib import Path

import pytest

from config import load_config
from files import UserError
from prediction.setup import adapter_folder, image_file, output_path


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
