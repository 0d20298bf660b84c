"""Where the report says its numbers come from: title, date, files with their hashes, settings.

python -m pytest tests/evaluation/test_provenance.py -v
"""

import json
import os

import pytest
import yaml
from evaluating import ALICE, CFG, make_study, opened

from config import PublicNames
from evaluation.provenance import date_of, run_facts, settings_of, title_of


@pytest.mark.parametrize(
    ("sidecar", "title"),
    [
        ({}, "predictions_x.jsonl, 28 May 2026"),  # nobody knows the model
        ({"config": {"model_name": "Qwen/Qwen2-VL-2B"}, "adapter": "none"}, "Qwen2-VL-2B, no adapter, 28 May 2026"),
        ({"split": "test", "date": "soon", "adapter": f"{ALICE}/exp1"}, "predictions_x.jsonl, adapter exp1, test split, 28 May 2026"),
        ({"config": {"model_name": "/m/Own\n7B"}, "split": "centre 2"}, "Own\\n7B, no adapter, centre 2 split, 28 May 2026"),
    ],
)
def test_titles_of_other_files(tmp_path, sidecar, title):
    path = tmp_path / "predictions_x.jsonl"
    path.touch()
    os.utime(path, (1_779_966_000, 1_779_966_000))  # 11 o'clock UTC on that day
    run = {"sidecar": sidecar, "path": path}
    assert title_of(run, PublicNames(CFG, sidecar)) == title and date_of(run)[1] == "that of the predictions file's last change"


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the SHA-256 of no bytes


def test_each_fact_is_that_of_its_own_file(tmp_path):
    """Hashes of the adapter and of training rows are of what lies there now, and names are those that may be passed on."""
    cfg, load = opened(make_study(tmp_path))
    (tmp_path / "out" / "adapter").mkdir()
    (tmp_path / "out" / "adapter" / "adapter_model.safetensors").touch()
    sidecar = json.loads((tmp_path / "out" / "predictions.meta.json").read_text())
    sidecar |= {"source_sha256": "5" * 64, "commit": "abc", "device": "a card", "versions": {"torch": "2", "peft": None, "numpy": "1"}}
    (tmp_path / "out" / "predictions.meta.json").write_text(json.dumps(sidecar))
    run = load("predictions.jsonl")
    (tmp_path / "train.jsonl").write_text("")
    facts = dict(run_facts(cfg, run, PublicNames(cfg, run["sidecar"])))
    assert facts["adapter SHA-256 (as it is now)"] == facts["training data SHA-256"] == EMPTY != facts["predictions SHA-256"]
    told = {"model": "Qwen2-VL-7B-Instruct", "adapter": "out/adapter", "decoding": "exact", "split": "val", "data": "data/val.jsonl"}
    told |= {"date": "5 Nov 2026 (that of prediction)", "data SHA-256 (as predicted)": "5" * 64, "commit of prediction": "abc"}
    told |= {"device of prediction": "a card", "versions at prediction": "torch 2, numpy 1", "configuration of evaluation": "config.yaml"}
    told |= {"tolerances": "numeric_rel_tol 0.05, numeric_abs_tol 0.0, count_abs_tol 0"}
    assert {name: facts[name] for name in told} == told and "checked against" not in facts


def test_an_adapter_that_gave_the_spellings_is_named_without_the_folders_it_lies_in(tmp_path):
    cfg, load = opened(make_study(tmp_path))
    run, adapter = load("predictions.jsonl"), "/data/alice meier/exp 1/adapter"
    run |= {"sidecar": {**run["sidecar"], "adapter": adapter}, "space_from": f"the answer space of {adapter}"}
    facts = dict(run_facts(cfg, run, PublicNames(cfg, run["sidecar"])))
    assert facts["types and spellings"] == "the answer space of adapter"


def test_settings_are_those_of_prediction_where_they_are_known(tmp_path):
    cfg, load = opened(make_study(tmp_path))
    run = load("predictions.jsonl")
    title, text = settings_of(cfg, run, PublicNames(cfg, run["sidecar"]))
    assert title == "Configuration of the prediction"
    assert yaml.safe_load(text) == {
        "model_name": "Qwen2-VL-7B-Instruct",
        "output_dir": "out",
        "eval": {"numeric_rel_tol": 0.05},
        "data": {"train_jsonl": "data/train.jsonl", "image_root": "frames"},
    }
    title, text = settings_of(cfg, {**run, "sidecar": {}}, PublicNames(cfg))
    assert title == "Configuration of the evaluation" and yaml.safe_load(text)["data"]["train_jsonl"] == "train.jsonl"
