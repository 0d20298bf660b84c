"""What makes a stage run again: a file added to each folder changes the right hashes and no others.

python -m pytest tests/tools/test_fingerprint.py -v
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import config
from config import CODE, code_facts, load_config
from data.preprocess import ensure_enriched, rules_hash
from tools import fingerprint

ROOT = Path(__file__).resolve().parents[2]
ROWS = [{"question": "Is there text?", "answer": answer, "image": "a.jpg"} for answer in ("yes", "no")]


def stage_hashes(cfg):
    return {"enrich": rules_hash(), **fingerprint.stage_hashes(cfg)}


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """A copy of the code, which `code_facts` takes for the repository."""
    shutil.copytree(ROOT, tmp_path / "moved", ignore=shutil.ignore_patterns(".*", "outputs*", "demo", "tests", "__pycache__", "docs"))
    monkeypatch.setattr(config, "ROOT", tmp_path / "moved")
    return tmp_path / "moved"


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    lines = ["model_name: tiny", "data:", *(f"  {split}_jsonl: {split}.jsonl" for split in ("train", "val", "test")), ""]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    return load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("added", "stages"),
    [
        ("data/added.py", {"enrich", "predict", "eval"}),  # enrichment counts in training by the rows that it writes
        ("data/personal.yaml", {"enrich", "eval"}),  # a table that only scores or looks
        ("data/rewordings.yaml", set()),  # of perturbations, whose records name it
        ("data/formats/added.py", set()),
        ("model/added.py", {"train", "predict", "eval"}),
        ("training/added.py", {"train", "predict", "eval"}),
        ("training/added.yaml", set()),
        ("training/cost.py", set()),  # what only tells
        ("training/sanity.py", set()),
        ("training/dry_run.py", set()),
        ("model/merge.py", set()),
        ("files.py", {"enrich", "train", "predict", "eval"}),
        ("prediction/added.py", {"predict", "eval"}),
        ("evaluation/added.py", {"eval"}),
        ("evaluation/report.html.j2", {"eval"}),
        ("tools/added.py", set()),
        ("bench/added.py", set()),
        ("dataset.py", {"train", "predict", "eval"}),
        ("templates.py", {"train", "predict", "eval"}),
        ("constraints.py", {"train", "predict", "eval"}),
        ("config.py", {"train", "predict", "eval"}),
        ("data/images.py", {"enrich", "train", "predict", "eval"}),
        ("train_exp1.py", {"train", "predict", "eval"}),
        ("predict_exp1.py", {"predict", "eval"}),
        ("eval_exp1.py", {"eval"}),
        ("sanity_overfit.py", set()),
        ("merge_adapter.py", set()),
        ("README.md", set()),
    ],
)
def test_an_edit_runs_again_what_depends_on_it_and_nothing_else(moved, cfg, added, stages):
    before = stage_hashes(cfg)
    (moved / added).parent.mkdir(exist_ok=True)
    with open(moved / added, "a") as file:
        file.write("\n# edited\n")
    after = stage_hashes(cfg)
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_a_moved_repository_is_the_same(moved):
    here = {stage: code_facts(stage) for stage in CODE}
    config.ROOT = ROOT
    assert {stage: code_facts(stage) for stage in CODE} == here and all(here.values())


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("eval.numeric_rel_tol=0.1", {"eval"}),
        ("predict.decoding=greedy", {"predict", "eval"}),
        ("train.lr=1e-3", {"train", "predict", "eval"}),
        ("data.max_unseen=0.5", {"train", "predict", "eval"}),
    ],
)
def test_a_setting_runs_again_what_depends_on_it(cfg, change, stages):
    before, after = stage_hashes(cfg), stage_hashes(load_config(cfg.config_path, [change]))
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_rows_and_pictures_count(cfg):
    """Enriched rows decide training; the test split's rows don't."""
    ensure_enriched(cfg, "train")
    before = stage_hashes(cfg)
    folder = cfg.config_path.parent

    def changed():
        after = stage_hashes(cfg)
        return {stage for stage in before if before[stage] != after[stage]}

    test = folder / "test.jsonl"
    test.write_text(test.read_text().replace("yes", "maybe"))
    assert changed() == {"eval"}, "enriched anew, it will change what is predicted"
    before = stage_hashes(cfg)
    os.utime(folder / "a.jpg", ns=(1, 1))
    assert changed() == set(), "copied without its time"
    (folder / "a.jpg").write_bytes(b"another")
    assert changed() == {"train", "predict", "eval"}
    before = stage_hashes(cfg)
    enriched = cfg.output_dir / "data" / "train.jsonl"
    enriched.write_text(enriched.read_text().replace("yes", "no"))
    assert changed() == {"train", "predict", "eval"}


def test_an_experiment_moved_to_another_disk_is_the_same(cfg, tmp_path):
    """Frames, rows, model and outputs lie elsewhere, with other times; then one of the frames is another."""
    for split in ("train", "val", "test"):
        ensure_enriched(cfg, split)
    (tmp_path / "b").mkdir()
    adapter = tmp_path / "b" / "adapter_model.safetensors"
    adapter.write_bytes(b"trained")
    before = stage_hashes(load_config(cfg.config_path, [f"train.init_adapter={tmp_path / 'b'}"]))
    assert before != stage_hashes(cfg)
    moved = tmp_path / "other disk"
    for name in ("a.jpg", "train.jsonl", "val.jsonl", "test.jsonl", "c.yaml"):
        moved.mkdir(exist_ok=True)
        shutil.copyfile(tmp_path / name, moved / name)
    for name in ("tiny", "b", "outputs"):
        shutil.copytree(tmp_path / name, moved / name, copy_function=shutil.copyfile)
    there = load_config(moved / "c.yaml", [f"train.init_adapter={moved / 'b'}"])
    assert stage_hashes(there) == before
    (moved / "b" / "adapter_model.safetensors").write_bytes(b"trained on")
    assert stage_hashes(there)["train"] != before["train"]
    (moved / "b" / "adapter_model.safetensors").write_bytes(b"trained")
    (moved / "a.jpg").write_bytes(b"picturE")
    assert stage_hashes(there)["train"] != before["train"]


def test_the_model_and_the_adapter_count(cfg):
    before = stage_hashes(cfg)
    (cfg.config_path.parent / "tiny" / "chat_template.jinja").write_text("{{ messages }}")
    now = stage_hashes(cfg)
    assert {stage for stage in before if before[stage] != now[stage]} == {"train", "predict", "eval"}
    (cfg.output_dir / "adapter").mkdir(parents=True)
    (cfg.output_dir / "adapter" / "adapter_model.safetensors").write_bytes(b"trained by hand")
    assert {stage for stage in now if now[stage] != stage_hashes(cfg)[stage]} == {"predict", "eval"}


def test_the_shell_gets_variables(cfg, tmp_path):
    strange = tmp_path / "it's here"
    command = [sys.executable, str(ROOT / "tools" / "fingerprint.py"), "--config", str(cfg.config_path), f"output_dir={strange}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    script = f'{printed}\necho "$out|$split_val|$train_inputs"'
    out, val, train = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.strip().split("|")
    assert (out, val) == (str(strange), str(tmp_path / "val.jsonl")) and len(train) == 64
    hashes = fingerprint.stage_hashes(load_config(cfg.config_path, [f"output_dir={strange}"]))
    values = {"out": strange, **{f"split_{split}": tmp_path / f"{split}.jsonl" for split in ("train", "val", "test")}}
    values |= {f"{stage}_inputs": hashes[stage] for stage in ("train", "predict", "eval")}
    assert printed.splitlines() == [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]
