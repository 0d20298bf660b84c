"""What decides a prediction, what its rows and closing lines say, and how long its answers may be.

python -m pytest tests/prediction/test_run.py -v
"""

import errno
import os
import shutil
import sys
from contextlib import nullcontext
from math import log
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, make_experiment, random_model, with_random_lora
from data_sets import ask, rows_of

import config
from config import PredictConfig, environment_facts, load_config, near
from data import answer_space, calibration
from data.answer_space import mine
from data.calibration import Calibration, Sets
from data.contents import CACHE, weights_hash
from data.preprocess import training_space
from files import Interrupted, UserError, json_text, read_json, read_jsonl, sha256, write_json
from model.adapter import experiment_facts, save_adapter
from model.load import device_name, load_model_config
from prediction import run, streaming
from prediction.decode import Answer
from prediction.run import calibrated_on, calibration_for, describe, free_limit, prediction_row, run_facts, sidecar_facts

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


def test_without_an_adapter_the_longest_training_answer_is_looked_up(experiment, processor):
    """In tokens, with what comes before it and the end; and in no other split."""
    (cfg, rows), sections = experiment, {"predict": {"max_new_tokens": "auto"}, "data": {"val_jsonl": "gone.jsonl"}}
    sections = {name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()}
    auto = cfg.model_copy(update={**sections, "answer_prefix": " so: "})
    longest = max(len(processor.tokenizer(f" so: {row['answer']}<|im_end|>")["input_ids"]) for row in rows)
    assert free_limit(auto, processor.tokenizer) == longest > 5


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
    whole = {"id": "x", "pred": "no", "gt": "No", "qtype": "yes_no", "question": "Is it?", "image": "x.jpg", "confidence": 0.75}
    whole |= {"logprob": -0.510826, "runner_up": "yes", "runner_up_confidence": 0.25, "valid_mass": 0.8, "decoding": "exact"}
    whole |= {"candidates_top": [["no", 0.75], ["yes", 0.25]], "greedy": "yes", "reachable": True}
    assert found == whole and list(found) == list(whole) and found["logprob"] == round(log(0.6), 6)
    thirds = prediction_row(row, Answer("no", "exact", log(0.4), scored=(("no", log(0.4)), ("yes", log(0.2)))))
    assert (thirds["confidence"], thirds["runner_up_confidence"], thirds["valid_mass"]) == (0.666667, 0.333333, 0.6)
    assert prediction_row({key: row[key] for key in row if key != "answer_raw"}, SURE) == {**whole, "gt": None, "reachable": None}
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
    assert list(before) == [
        *("adapter", "config", "data file", "image files", "code", "model files", "answer space", "arguments", "packages", "device")
    ]
    assert before["arguments"] == {"--split": "val", "--limit": None, "max_new_tokens": 4} and before["device"] == device_name()
    assert before["packages"] == environment_facts()["versions"] and before["data file"] == sha256(cfg.split_path("val"))
    of_the_hub = lambda **update: run_facts(cfg.model_copy(update=update), args, adapter, space, 4, SimpleNamespace(_commit_hash="c0ffee"))
    assert of_the_hub()["model files"] == "c0ffee" and "bitsandbytes" in of_the_hub(quantization="nf4")["packages"]
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


# --- a split: its rows, files, sidecars and lines


class Split:
    """answer_split of six questions of the training split, the only one that there is, three about each of two images, with one answer for
    a model; everything else is the real thing."""

    def __init__(self, folder, monkeypatch, processor, **predict):
        self.cfg, self.rows = make_experiment(folder, questions=(3, 3))
        one_split = self.cfg.data.model_copy(update={"val_jsonl": folder / "gone.jsonl"})
        self.cfg = self.cfg.model_copy(update={"predict": PredictConfig(batch_size=1, **predict), "data": one_split})
        self.space, self.out = training_space(self.cfg, say=lambda line: None), self.cfg.output_dir / "p.jsonl"
        self.state = self.process()
        self.fixed = [None, self.space, 4, load_model_config(self.cfg)]
        self.processor, self.args = processor, SimpleNamespace(split="train", limit=None, overwrite=False, perturb=[], perturb_all=False)
        monkeypatch.setattr(run, "answer_questions", self.answers)
        monkeypatch.setattr(run, "load_model", lambda cfg, adapter: (SimpleNamespace(device="the first"), None))
        monkeypatch.setattr(run, "processes", lambda: self.state)

    def process(self, number=0, of=1):
        return SimpleNamespace(
            process_index=number,
            num_processes=of,
            is_main_process=number == 0,
            wait_for_everyone=lambda: None,
            main_process_first=nullcontext,
        )

    def answers(self, model, dataset, cfg, decoding, limit, batches):
        return ([(row, SURE) for index in batch for row in dataset.groups[index]] for batch in batches)

    def facts(self):
        return run_facts(self.cfg, self.args, *self.fixed)

    def calibrate(self, sets=True):
        """Write what `--calibrate` leaves: a temperature of 2, and, where wanted, sets with all candidates of at least 30 %."""
        known = {"rows": 2, "clusters": 2, "unit": "images", "folds": [2.0], "before": {}, "after": {}, "predictions": "p"}
        images, truths = [calibration.mark({"image": "0.png"})], [[0.5, 1.0], [0.3, 1.0], [0.3, 1.0], [0.3, 1.0]]
        made = Sets(clusters=4, rows=4, uncoverable=0, images=images, truths=truths) if sets else None
        fitted = Calibration(temperature=2.0, sets=made, predictions_of_sets="q", made_from=calibration.tied(self.facts()), **known)
        write_json(self.cfg.output_dir / calibration.FILE, fitted.model_dump())
        return fitted

    def __call__(self, capsys, **args):
        """(has this process the last word, what was printed)."""
        vars(self.args).update(args)
        capsys.readouterr()
        return run.answer_split(self.cfg, self.args, *self.fixed, self.processor, self.out), capsys.readouterr().out.splitlines()


def test_a_split_with_answer_sets_is_told_what_calibrated_it(tmp_path, monkeypatch, processor, capsys):
    split = Split(tmp_path, monkeypatch, processor, calibrated=True, coverage=0.8, min_confidence=0.7)
    split.calibrate()
    last, said = split(capsys)
    note = "note: 3 of these 6 rows are about images that calibrated the answer sets, which proves nothing"
    assert last and said == [note, "6 of 6 rows constrained", f"wrote 6 predictions to {near(split.out)}"]
    found, last_row = [row for _, row in read_jsonl(split.out)], split.rows[-1]
    whole = {"id": last_row["id"], "pred": "no", "gt": last_row["answer_raw"], "qtype": last_row["question_type"]}
    whole |= {"question": last_row["question"], "image": "1.png", "confidence": 0.75, "logprob": -0.510826, "runner_up": "yes"}
    whole |= {"runner_up_confidence": 0.25, "valid_mass": 0.8, "decoding": "exact", "candidates_top": [["no", 0.75], ["yes", 0.25]]}
    whole |= {"greedy": "yes", "confidence_calibrated": 0.633975, "answer_set": ["no", "yes"], "answer_set_filled": False}
    assert [row["id"] for row in found] == [row["id"] for row in split.rows]
    assert found[-1] == whole | {"abstained": True, "reachable": True} and 0.633975 == round(3**0.5 / (3**0.5 + 1), 6)
    sidecar = read_json(split.out.with_suffix(".meta.json"))
    assert sidecar["calibrated_on"] == 3 and sidecar["device"] == "the first" and "perturbation" not in sidecar
    assert sidecar["made_from"] == split.facts() | {"calibration": sha256(split.cfg.output_dir / calibration.FILE)}
    there = f"{near(split.out)} is there already, made from just this; --overwrite makes it anew"
    assert split(capsys, perturb=None) == (True, [there])


def test_of_answers_that_were_not_scored_nothing_is_calibrated(tmp_path, monkeypatch, processor):
    split = Split(tmp_path, monkeypatch, processor, coverage=0.8)
    fitted, told = split.calibrate(), split.cfg.predict
    empty = {"answer_set": None, "answer_set_filled": False}
    free = prediction_row(split.rows[0], Answer("well", "free", -1.0), 0.5, told, fitted)
    assert {key: free.get(key) for key in empty} == empty and free["abstained"] is False and "confidence_calibrated" not in free
    assert prediction_row(split.rows[0], SURE, 0.76, told, fitted)["abstained"] is True, "by the confidence that there is"


def test_a_temperature_is_applied_without_answer_sets(tmp_path, monkeypatch, processor, capsys):
    split = Split(tmp_path, monkeypatch, processor, calibrated=True)
    fitted = split.calibrate(sets=False)
    assert calibration_for(split.cfg, split.facts()) == fitted and calibrated_on(split.rows, split.cfg, fitted) == 0
    assert split(capsys)[1] == ["6 of 6 rows constrained", f"wrote 6 predictions to {near(split.out)}"]
    assert [row["confidence_calibrated"] for _, row in read_jsonl(split.out)] == [0.633975] * 6
    assert "calibrated_on" not in read_json(split.out.with_suffix(".meta.json"))


def test_uncalibrated_rows_know_of_no_calibration(tmp_path, monkeypatch, processor, capsys):
    split = Split(tmp_path, monkeypatch, processor)
    assert split(capsys, limit=4)[1] == ["4 of 4 rows constrained", f"wrote 4 predictions to {near(split.out)}"]
    sidecar = read_json(split.out.with_suffix(".meta.json"))
    assert sidecar["made_from"] == split.facts() and sidecar["rows_in_split"] == 6 and not {"calibrated_on", "perturbation"} & set(sidecar)


def test_of_several_processes_one_speaks_and_writes(tmp_path, monkeypatch, processor, capsys):
    """The second of two answers its share and says nothing, neither of what is there already nor of what can't be asked."""
    split = Split(tmp_path, monkeypatch, processor, coverage=0.8)
    split.calibrate()
    split.state = split.process(1, of=2)
    assert split(capsys) == (False, [])
    parts = {path.name: [row["id"] for _, row in read_jsonl(path)] for path in split.out.parent.glob(".p.jsonl.part-*")}
    assert parts == {".p.jsonl.part-1": [row["id"] for row in split.rows[3:]]} and not split.out.exists()
    split.state = split.process()
    assert split(capsys, overwrite=True)[0]
    split.state = split.process(1, of=2)
    rows = [{**row, "group": "P1"} for row in split.rows]
    monkeypatch.setattr(run, "ensure_enriched", lambda *args: rows)
    assert split(capsys, overwrite=False, perturb=["other_image"], perturb_all=True) == (False, [])


def test_what_ends_a_split_early_is_one_line_with_what_is_kept_and_what_to_do(tmp_path, monkeypatch, processor, capsys):
    """One of two batches is kept: no memory, a disk that is full elsewhere than where the rows go, and Ctrl-C."""
    split, answers = Split(tmp_path, monkeypatch, processor), Split.answers
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", "--limit", "6"])
    folder = split.out.parent
    lower = (
        "lower predict.batch_size or predict.tokens_per_row and start again, finished batches are kept; if neither is enough, lower "
        "image.max_pixels and train anew"
    )
    ends = {
        RuntimeError("CUDA out of memory"): (UserError, f"out of memory; {lower}"),
        OSError(errno.ENOSPC, "No space left on device"): (UserError, f"no space left on the disk of {folder}: free some and start again"),
        KeyboardInterrupt(): (Interrupted, f"3 of 6 rows are kept; go on with: {config.this_python()} predict_exp1.py --limit 6"),
    }
    for error, (kind, said) in ends.items():

        def first_batch(*args, error=error):
            yield from list(answers(split, *args))[:1]
            raise error

        monkeypatch.setattr(run, "answer_questions", first_batch)
        split.out = folder / f"{kind.__name__} {error}.jsonl"  # the last one is locked until this process ends
        with pytest.raises(kind) as end:
            split(capsys)
        assert str(end.value) == said


def test_a_job_reads_the_rows_of_its_space(tmp_path, monkeypatch, processor):
    split = Split(tmp_path, monkeypatch, processor)
    other = mine(rows_of("Is there text?", {"yes": 30, "no": 3, "none": 3}))
    job = run.Job(split.cfg, split.args, None, other, 4, None, None, None, {})
    assert split.rows[0]["answer_candidates"] == ["yes", "no"] and job.all_rows[0]["answer_candidates"] == ["yes", "no", "none"]


def test_a_sidecar_says_what_was_asked_and_of_what(experiment, tmp_path, monkeypatch):
    cfg, adapter = experiment[0], tmp_path / "adapter"
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", "--limit", "2"])
    adapter.mkdir()
    write_json(adapter / "experiment.json", {"trained_on": ["a", "b"]})
    args, space = SimpleNamespace(split="val", limit=2), {"mode": "auto", "questions": {}, "languages": ["de"]}
    source, weights = cfg.split_path("val"), weights_hash(cfg.model_name, cfg.output_dir / "data" / CACHE)
    whole = {"split": "val", "limit": 2, "source": str(source), "source_sha256": sha256(source), "rows_in_split": 5, "ids": ["0", "1"]}
    whole |= {"adapter": str(adapter), "trained_on": ["a", "b"], "decoding": "exact", "max_new_tokens": 7}
    whole |= {"command": ["predict_exp1.py", "--limit", "2"], "hardware": device_name(), "precision": "float32"}
    whole |= {"base_source": "folder", "base_revision": None, "base_weights": weights}
    whole |= {"conventions": {"": {"languages": ["de"]}}, "made_from": {"adapter": "A"}}
    found = sidecar_facts(cfg, args, ["0", "1"], 5, adapter, space, 7, {"adapter": "A"})
    assert found == whole and list(found) == list(whole)
    untuned = sidecar_facts(cfg, args, [], 5, None, space, 7, {})
    assert untuned["adapter"] == "none" and "trained_on" not in untuned
