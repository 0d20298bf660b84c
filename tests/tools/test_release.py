"""What of a run may go out: no patient, no row, no folder of this machine; and what stayed, and why.

python -m pytest tests/tools/test_release.py -v
"""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from config import near
from data import answer_space
from data.asked import load
from data.preprocess import answer_rules
from files import UserError, write_json, write_jsonl
from model.adapter import check_adapter
from tools import release

HOME = "/home/meier/exp"
PATIENT = "pat. meier, born 1900"


def rows(answers):
    return [
        {"question": question, "answer": answer, "image": f"{n}.png"}
        for question, given in answers.items()
        for n, answer in enumerate(given)
    ]


@pytest.fixture
def run(tmp_path):
    """A finished run, as older code wrote it on a machine of Meier's: whole paths, and a patient in rows, report and metrics."""
    folder = tmp_path / "outputs"
    (folder / "adapter").mkdir(parents=True)
    save_file({"a.lora_A.weight": np.zeros((2, 2), np.float32)}, folder / "adapter" / "adapter_model.safetensors")
    write_json(folder / "adapter" / "adapter_config.json", {"base_model_name_or_path": f"{HOME}/models/Qwen2-VL", "eva_config": None})
    write_json(folder / "adapter" / "experiment.json", {"model_name": "Qwen2-VL", "trained_on": ["7654321", "1234567"], "min_groups": 2})
    write_json(folder / "adapter" / "questions.json", [["Is there a polyp?", False], ["What else?", False]])
    space = answer_space.mine(rows({"Is there a polyp?": ["yes", "no"] * 30, "What else?": [PATIENT, "a clip"]}))
    space.pop("found", None)
    answer_space.save(space, folder / "adapter" / "answer_space.json")
    (folder / "adapter" / "README.md").write_text("[More Information Needed]")
    data = {"train_jsonl": f"{HOME}/train.jsonl", "val_jsonl": "val_meier.jsonl", "corrections": "meier.csv"}
    config = {"model_name": f"{HOME}/models/Qwen2-VL", "output_dir": f"{HOME}/outputs", "data": data}
    write_json(
        folder / "train_run.json",
        {
            "config": config,
            "command": ["train_exp1.py", "--config", "meier/my.yaml", f"output_dir={HOME}/outputs"],
            "made_from": {"data.train_jsonl": "a" * 64},
            "versions": {"a": "1.2.19"},
        },
    )
    write_json(folder / "trainer_state.json", {"log_history": [{"step": 1, "loss": 2.0}], "best_model_checkpoint": f"{HOME}/outputs"})
    recall = [{"label": PATIENT, "found": 0}]
    details = {"per_type": {"open_ended": {"accuracy": 0.5, "recall": recall, "confusion": {"labels": [PATIENT]}}}}
    questions = {"Is there a polyp?": "is there a polyp", "[meier] Is there a polyp?": "is there a polyp"}
    questions |= {"Is meier's polyp flat?": "is meier s polyp flat"}
    details["per_question"] = [{"question": text, "template": template, "rows": 9} for text, template in questions.items()]
    metrics = {
        "micro": 0.5,
        "predictions": f"{HOME}/outputs/predictions.jsonl",
        "details": details,
        "sidecar": {
            "date": "2026-11-05T10:00:00",
            "source": "val_meier.jsonl",
            "command": ["predict_exp1.py", "--config", "meier.yaml"],
            "conventions": {"": {"languages": ["de"]}, "is meier s polyp flat": {"separators": [","]}, "what else": {"separators": [","]}},
        },
    }
    by = {"surgeon": [("Meier", 9), ("(not given)", 9)], "group": [("P1", 1), ("meier", 1)], "stage": [("1", 9), ("meiers own", 1)]}
    by |= {"ward": [("Schwester Meier", 9), ("west", 8)]}
    metrics["by"] = {
        name: {"groups": [{"value": value, "clusters": of, "accuracy": 0.5} for value, of in found]} for name, found in by.items()
    }
    for name in ("metrics.json", "metrics_meier.json"):
        write_json(folder / name, {**metrics, "config": config})
    write_jsonl(folder / "predictions.jsonl", [{"id": "0", "pred": "x", "gt": PATIENT}])
    write_jsonl(folder / "data" / "train.jsonl", [{"answer": PATIENT}])
    write_jsonl(folder / "checkpoint-2" / "trainer_state.json", [])
    for name in ("loss_curve.png", "report.html", "notes_of_meier.txt", ".lock"):
        (folder / name).write_text(PATIENT if name != "loss_curve.png" else "")
    return folder


def everything_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_goes_out_names_neither_patient_nor_machine(run, tmp_path):
    going, left = release.release(run, tmp_path / "release")
    found = everything_in(tmp_path / "release")
    assert set(found) == set(going) == {
        *release.ADAPTER, "loss_curve.png", "trainer_state.json", "train_run.json", "metrics.json"
    }  # fmt: skip
    assert not any(secret in content.lower() for content in found.values() for secret in (b"meier", b"/home", b"1900"))
    assert json.loads(found["adapter/adapter_config.json"])["base_model_name_or_path"] == "models/Qwen2-VL"
    record, metrics = json.loads(found["train_run.json"]), json.loads(found["metrics.json"])
    assert record == {
        "config": {"model_name": "models/Qwen2-VL", "output_dir": "…", "data": dict.fromkeys(record["config"]["data"], "…")},
        "made_from": {"data.train_jsonl": "a" * 64},
        "versions": {"a": "1.2.19"},
    }
    about = [{"question": text, "template": "is there a polyp", "rows": 9} for text in ("Is there a polyp?", "is there a polyp")]
    assert metrics["details"] == {"per_type": {"open_ended": {"accuracy": 0.5}}, "per_question": about}
    assert metrics["sidecar"]["conventions"] == {"": {"languages": ["de"]}, "what else": {"separators": [","]}}
    assert metrics["by"] == {}, "a column of the user's may be one of people, whatever its name"
    assert left["metrics_meier.json"] == "its name has words of yours, and may name people; call it metrics_test.json or the like"
    assert found["adapter/adapter_model.safetensors"] == (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert set(everything_in(run)) == {*going, *left}, "every file is copied or listed"
    assert left["predictions.jsonl"].startswith("rows of the data") and left["data/train.jsonl"].startswith("rows of the data")
    assert left["notes_of_meier.txt"] == "nothing that this script knows to be free of patients"
    space = answer_space.load(tmp_path / "release" / "adapter" / "answer_space.json")
    assert answer_space.fingerprint(space) == answer_space.fingerprint(answer_space.load(run / "adapter" / "answer_space.json"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("adapter/README.md", "peft's empty form"),
        ("adapter/SHA256SUMS", "hashes of the files as they lay here"),
        ("predictions_test_none.meta.json", "rows of the data: ids, images, patients, answers"),
        ("metrics_of_meier.json", "its name has words of yours, and may name people"),
        ("report_test.html", "single rows, and perhaps pictures; eval_exp1.py --no-images"),
        ("comparison.json", "made for you; the metrics have the numbers"),
        ("seeds.json", "made for you; the metrics have the numbers"),
        ("checkpoint-20/trainer_state.json", "states of the training"),
        ("abandoned/checkpoint-2/trainer_state.json", "of another course of the training"),
        ("data/val.jsonl", "rows of the data, and paths of this machine"),
        ("sanity/sanity.json", "training rows"),
        ("sweep/sweep.json", "runs of their own, each with its rows"),
        (".lock", "working files"),
        ("loss_curve.txt", "nothing that this script knows to be free of patients"),
    ],
)
def test_each_file_that_stays_has_its_reason(run, tmp_path, name, why):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("{}")
    _, left = release.release(run, tmp_path / "release")
    assert left[name].startswith(why)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("questions.json", [["Is this Dr. Huber?", False]], "'Dr. Huber' looks like a name; if it is none, change data/personal.yaml"),
        (
            "experiment.json",
            {"min_groups": 2, "prompt": {"system": "You help Dr. Huber."}},
            "'Dr. Huber' looks like a name (prompt.system); if it is none, change data/personal.yaml",
        ),
        (
            "adapter_config.json",
            {"base_model_name_or_path": "models/pat_meier"},
            "'pat meier' looks like a name (base_model_name_or_path); if it is none, change data/personal.yaml",
        ),
        (
            "answer_space.json",
            {"mode": "mined", "questions": {"is meier s flat": {"candidates": None, "groups": 1}}, "given": {}},
            "names 1 question that perhaps one patient alone was asked, 'is meier s flat' for one: made by older code; train anew",
        ),
        (
            "answer_space.json",
            {"mode": "mined", "questions": {"what": {"candidates": None, "counts": {"a clip": 1}}}, "given": {}},
            "holds answers to open questions, to 'what' for one: made by older code; train anew",
        ),
    ],
)
def test_an_adapter_goes_whole_or_not_at_all(run, tmp_path, name, value, why, monkeypatch, capsys):
    write_json(run / "adapter" / name, value)
    if name == "answer_space.json":
        write_json(run / "adapter" / "experiment.json", {"model_name": "Qwen2-VL"})  # of older code
    monkeypatch.setattr(sys, "argv", ["release.py", str(run), str(tmp_path / "release")])
    assert release.main() == 1
    out = capsys.readouterr().out
    assert (
        f"left adapter/{name}: {why}" in out
        and f"left adapter/adapter_model.safetensors: part of an adapter whose adapter/{name} stays" in out
    )
    read = "left of metrics.json, train_run.json, trainer_state.json: names of files and folders, commands, tables of answers, questions"
    assert read in out and "left data/: rows of the data, and paths of this machine" in out and "the adapter stays; see above" in out
    assert not (tmp_path / "release" / "adapter").exists() and (tmp_path / "release" / "metrics.json").is_file()


@pytest.mark.parametrize("name", ["train_run.json", "trainer_state.json", "metrics.json"])
def test_beside_an_adapter_a_file_that_names_a_person_stays(run, tmp_path, name):
    facts = json.loads((run / name).read_text())
    write_json(run / name, {**facts, "note": "as Dr. Huber asked"})
    going, left = release.release(run, tmp_path / "release")
    assert left[name] == "'Dr. Huber' looks like a name (note); if it is none, change data/personal.yaml" and name not in going
    assert set(release.ADAPTER) <= set(going) and not (tmp_path / "release" / name).exists()


def test_questions_of_an_older_adapter_stay(run, tmp_path, monkeypatch, capsys):
    """Older code kept every question beside it. Without them prediction compares data/schema.py, as it does for still older ones."""
    space = answer_space.load(run / "adapter" / "answer_space.json")
    kept = [["Is there a polyp?", False], ["Is meier's polyp flat?", False]]
    for facts, asked in (({"min_groups": 2}, [["Is there a polyp?", False]]), ({}, kept)):
        rules = answer_rules(space, asked)
        write_json(run / "adapter" / "questions.json", asked)
        write_json(run / "adapter" / "experiment.json", {"model_name": "Qwen2-VL", "answer_rules": rules, **facts})
        folder = tmp_path / f"released {len(asked)}"
        monkeypatch.setattr(sys, "argv", ["release.py", str(run), str(folder)])
        assert release.main() == 0
        check_adapter(folder / "adapter", {"answer_rules": answer_rules(space, load(folder / "adapter"))})
        assert load(folder / "adapter") == ([] if asked is kept else asked)
        named = f"{len(load(folder / 'adapter'))} questions (questions.json) and 2 answers (answer_space.json)"
        assert f"its files name {named}, each of 2 patients" in capsys.readouterr().out
    facts = json.loads((run / "adapter" / "experiment.json").read_text())
    for least, said in ((5, "each of 5 patients (images, where rows name no group) or more"), (1, "of any number of patients")):
        write_json(run / "adapter" / "experiment.json", {**facts, "min_groups": least})
        assert said in release.named_by(run / "adapter")


@pytest.mark.parametrize(
    ("space", "known", "why"),
    [
        ({"questions": {"is it": {"candidates": ["a", "b"], "groups": 2}}}, {}, None),
        ({"questions": {"is it": {"candidates": ["a", "b"], "groups": 1}}}, {"min_groups": 1}, None),
        ({"given": {"is it": {"label_lists": 1}}}, {}, None),
        ({"questions": {"is it": {"candidates": None, "counts": {}, "groups": 2}}}, {}, None),
        ({"questions": {"is it": {"candidates": ["a", "b"], "counts": {"a": 1}, "groups": 2}}}, {}, None),
        ({"unconstrained": ["one", "two"], "multi_label": ["three"]}, {"min_groups": 2}, None),
        ({"unconstrained": ["one", "two"], "multi_label": ["three"]}, {},
         "names 3 questions that perhaps one patient alone was asked, 'one' "),
        ({"multi_label": ["three"]}, {}, "names 1 question that perhaps one patient alone was asked, 'three' for one: made by older code"),
        ({"given": {"which": {"candidates": None, "example_outside": "x"}}}, {},
         "holds answers to open questions, to 'which' for one: made"),
        ({"given": {"which": {"example_outside": "x"}}}, {"min_groups": 2}, "holds answers to open questions, to 'which' for one: made"),
    ],
)  # fmt: skip
def test_a_space_of_older_code_goes_where_it_names_no_question_of_few_and_no_answer_to_an_open_one(space, known, why):
    found = release.asked_of_few({"adapter/answer_space.json": space, "adapter/experiment.json": known})
    assert (found == {}) if why is None else (found.keys() == {"adapter/answer_space.json"})
    assert why is None or found["adapter/answer_space.json"].startswith(why)


def test_facts_go_without_people_wherever_they_are_nested():
    """Names of files are those keys', at any depth, or whole paths; hashes and `none` name nobody."""
    asked = {"Is it?": "is it"}
    facts = {
        "recall": [1], "command": ["x"], "by": {"ward": 1}, "source": "rows.jsonl", "adapter": "none", "note": "/home/a/b.jsonl",
        "nested": [{"by": "black", "confusion": 1, "data.train_jsonl": "a.jsonl"}, {"template": "other"}, {"n": 1}],
        "conventions": {"": 1, "is it": 2, "other": 3}, "source_sha256": "a" * 64, "train_jsonl": "a" * 64, "n": 3,
        "one": {"question": "Is IT?", "template": "is it"}, "two": {"question": "Is it?", "template": "is it"},
    }  # fmt: skip
    assert release.without_people(facts, asked) == {
        "by": {}, "source": "…", "adapter": "none", "note": "…", "nested": [{"by": "black", "data.train_jsonl": "…"}, {"n": 1}],
        "conventions": {"": 1, "is it": 2}, "source_sha256": "a" * 64, "train_jsonl": "a" * 64, "n": 3,
        "one": {"question": "is it", "template": "is it"}, "two": {"question": "Is it?", "template": "is it"},
    }  # fmt: skip


def test_texts_are_looked_at_with_their_places_but_for_those_of_the_machine():
    facts = {"a": [{"b": "one"}, "two"], "date": {"c": "2026"}, "commit": "0f", "versions": {"x": "1.2"}, "n": 3}
    assert list(release.texts_of(facts)) == [("", "a"), ("a", "b"), ("a.b", "one"), ("a", "two"), ("", "n")]
    assert release.why_not({"Dr. Huber": 1}) == "'Dr. Huber' looks like a name; if it is none, change data/personal.yaml"
    assert release.why_not({"a": {"b": ["fine", "Dr. Huber"]}}) == (
        "'Dr. Huber' looks like a name (a.b); if it is none, change data/personal.yaml"
    )
    assert release.why_not(facts) is None


def test_files_of_a_folder_that_stay_for_one_reason_are_one_line():
    """Those of an adapter stand one by one."""
    left = {"a/b": "x", "a/c/d": "x", "adapter/e": "z", "f": "x", "g/h": "x", "g/i": "y"}
    assert list(release.folded(left)) == [("a/", "x"), ("adapter/e", "z"), ("f", "x"), ("g/h", "x"), ("g/i", "y")]


def test_a_folder_that_is_none_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["release.py", str(tmp_path / "gone"), str(tmp_path / "out")])
    with pytest.raises(UserError) as error:
        release.main()
    assert str(error.value) == f"{tmp_path / 'gone'}: is no folder; give the output_dir of a run"


def test_the_whole_of_what_is_said_of_a_release(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["release.py", str(run), str(tmp_path / "release")])
    assert release.main() == 0
    first, second, *lines = capsys.readouterr().out.splitlines()
    names = [name for name in sorted(everything_in(run)) if (tmp_path / "release" / name).is_file()]
    assert first == f"copied to {near(tmp_path / 'release')}: {', '.join(names)}" and len(names) == 9
    assert second == (
        "left of metrics.json, train_run.json, trainer_state.json: names of files and folders, commands, tables of answers, "
        "questions that the adapter doesn't name, scores by a column (--by)"
    )
    stay = [".lock", "adapter/README.md", "checkpoint-2/", "data/", "metrics_meier.json", "notes_of_meier.txt", "predictions.jsonl"]
    assert [line.partition(":")[0] for line in lines[:-2]] == [f"left {name}" for name in [*stay, "report.html"]]
    assert lines[-2] == (
        "its files name 2 questions (questions.json) and 2 answers (answer_space.json), "
        "each of 2 patients (images, where rows name no group) or more"
    )
    assert lines[-1] == "look through it before it goes out"


def test_scores_by_a_column_stay_and_those_of_the_one_command_go(run, tmp_path):
    """A column may hold patients, and so may a question of few in the table of what perturbations change."""
    item = {"count": 9, "kinds": {}}
    asked = [{"question": text, "template": template, **item} for text, template in (("Is there a polyp?", "is there a polyp"),
        ("Is meier's polyp flat?", "is meier s polyp flat"))]  # fmt: skip
    metrics = {"by": {"patient": {"groups": [{"value": "A. Nowak", "count": 9}]}}, "sidecar": {"adapter": "none"}}
    write_json(run / "metrics_tuned_free.json", {**metrics, "robustness": {"samples": {"by": "black", "per_question": asked}}})
    going, _ = release.release(run, tmp_path / "out")
    assert "metrics_tuned_free.json" in going
    found = json.loads((tmp_path / "out" / "metrics_tuned_free.json").read_text())
    assert found["by"] == {} and found["sidecar"]["adapter"] == "none"
    assert found["robustness"]["samples"] == {"by": "black", "per_question": asked[:1]}


def test_nothing_is_replaced_and_no_half_of_a_run_taken(run, tmp_path):
    (tmp_path / "there").mkdir()
    for dst, said in ((tmp_path / "there", "is there already"), (run / "release", "lies in the run's own folder")):
        with pytest.raises(UserError, match=said):
            release.release(run, dst)
    (run / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="has no adapter_model.safetensors"):
        release.release(run, tmp_path / "release")
    assert not (tmp_path / "release").exists()
