"""What SECURITY.md says.    python -m pytest tests/test_security.py -v"""

import json
import os
import pickle
import re
import shutil
import socket
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import ROOT, TINY_MODEL
from huggingface_hub import constants
from PIL import Image
from transformers import dynamic_module_utils

from config import _OneOfEachKey, load_config
from data.formats.table import TextLoader
from data.image_names import image_path
from data.images import check_image
from files import UserError
from model.load import load_model_config, load_processor
from training.run import checkpoints_explained
from training.trainer import TreeTrainer

FORBIDDEN = re.compile(
    r"(?<![\w.])(?:eval|exec)\(|\b(?:torch|pickle|np|numpy)\.loads?\(|yaml\.(?:unsafe|full)_load|yaml\.load\((?!.*(?:_OneOfEachKey|TextLoader)\))"
    r"|trust_remote_code=(?!False)|shell=True|os\.system"
)


def test_no_code_runs_what_it_reads():
    """No pickle, no eval or exec, no YAML but by a safe loader, no shell, no model's own code."""
    folders = ("data", "model", "training", "prediction", "evaluation", "tools")
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    lines = [(path.name, line.strip()) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(paths) > 80 and [found for found in lines if FORBIDDEN.search(found[1])] == []
    assert issubclass(_OneOfEachKey, (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert issubclass(TextLoader, yaml.BaseLoader)
    for line in ("torch.load(x)", "eval(x)", "yaml.load(x, Loader=yaml.Loader)", "f(trust_remote_code=True)", "run(x, shell=True)"):
        assert FORBIDDEN.search(line)


class Evil:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_a_checkpoint_is_refused_and_does_not_run(tmp_path):
    torch.save({"python": Evil(tmp_path / "ran")}, tmp_path / "rng_state.pth")
    trainer = SimpleNamespace(args=SimpleNamespace(world_size=1, process_index=0))
    with pytest.raises(UserError, match=r"checkpoint-3: holds more than tensors .*; it was not written by this project: delete it"):
        with checkpoints_explained(tmp_path / "checkpoint-3"):
            TreeTrainer._load_rng_state(trainer, str(tmp_path))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(pickle.UnpicklingError), checkpoints_explained(None):  # where nothing was resumed it is another fault
        raise pickle.UnpicklingError


CODE = "from pathlib import Path\nPath(__file__).with_name('ran').mkdir()\nclass Mine: pass\n"


@pytest.mark.parametrize("model_type", ["qwen2_vl", "mine"])
def test_a_models_own_code_does_not_run(tmp_path, monkeypatch, model_type):
    """One of a known kind is loaded without; one of another kind is refused, and nobody is asked."""
    folder = shutil.copytree(TINY_MODEL, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    auto_map = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer"), "mine.Mine")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        facts = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**facts, "auto_map": auto_map}))
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": model_type, "auto_map": auto_map}))
    (folder / "mine.py").write_text(CODE)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    cfg = load_config(None, [f"model_name={folder}"])
    if model_type == "mine":
        with pytest.raises(UserError, match="is of the family mine, supported are"):
            load_model_config(cfg)
    else:
        assert load_model_config(cfg).model_type == "qwen2_vl" and load_processor(cfg).tokenizer
    assert not list(tmp_path.rglob("ran"))


def test_names_that_lead_out_of_the_folder_are_refused_and_links_are_followed(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    Image.new("RGB", (56, 28)).save(tmp_path / "out.png")
    for name in ("../out.png", "a/../../out.png", str(tmp_path / "out.png"), "/etc/passwd", "../images2/a.png"):
        with pytest.raises(UserError, match="lies outside data.image_root"):
            image_path(root, name)
    (root / "link.png").symlink_to(tmp_path / "out.png")
    assert check_image(image_path(root, "link.png")) == (56, 28)


def test_a_models_folder_needs_no_network(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    cfg = load_config(None, [f"model_name={TINY_MODEL}"])
    assert load_model_config(cfg).model_type == "qwen2_vl" and load_processor(cfg).tokenizer


def test_the_page_is_half_a_page_and_names_tests_that_are_there():
    text = (ROOT / "SECURITY.md").read_text()
    assert len(text.split()) < 400
    for name in ("tests/test_security.py", "tests/evaluation/test_report.py", "tests/test_files.py", "bench/fuzz.py", "tools/release.py"):
        assert name in text and (ROOT / name).is_file()
