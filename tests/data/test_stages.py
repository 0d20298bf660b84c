"""A row's stage, by its field, its prefix or the table; what prompts say of it, and which rows it chooses.

python -m pytest tests/data/test_stages.py -v
"""

import hashlib
import json
from collections import Counter

import pytest
from conftest import ROOT
from user_copy import SCENES

from config import DataConfig, load_config
from data import answer_space, stages
from data.preprocess import enrich_jsonl, ensure_enriched, training_space
from data.stages import needed_stage, shown_question, stage_name, stage_of, with_stage
from files import UserError, read_jsonl

POLYPS = "How many polyps are in the image?"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "stage"),
    [
        ({"question": "Is there text?"}, 1),
        ({"question": " is there TEXT "}, 1),
        ({"question": "How many instrumnets are in the image?"}, 2),  # as the data sets spell it
        ({"question": "Have all polyps been removed?"}, 3),
        ({"question": "none"}, 2),
        ({"question": "Is there text?", "stage": 3}, 3),
        ({"question": "Is there text?", "stage": "2"}, 2),
        ({"question": "Is there text?", "stage": 2.0}, 2),
        ({"question": "Is there text?", "stage": None}, 1),
        ({"question": "Is there text?", "stage": ""}, 1),
        ({"question": "[Stage-2: Findings Identification] Is there text?"}, 2),
        ({"question": "[phase 1][stage 3]Is it?"}, 3),
        ({"question": "[STAGE_4: later] Is it?"}, 4),
        ({"question": "[backstage 2] Is there text?"}, 1),
        ({"question": "[Stage] Is there text?"}, 1),
        ({"question": "Is it [Stage-3] so?"}, None),
        ({"question": "Is it so?"}, None),
    ],
)
def test_field_then_prefix_then_table(row, stage):
    assert stage_of(row) == stage


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"stage": "T2"}, "row '7': stage is 'T2'; write 1, 2 or 3, or leave it out"),
        ({"stage": 0}, "stage is 0"),
        ({"stage": True}, "stage is true"),
        ({"stage": 1.5}, "stage is 1.5"),
        ({"stage": 1, "question": "[Stage-2: x] Is it?"}, "row '7': stage is 1, and its question begins with '[Stage-2: x]'; correct one"),
        ({}, "row '7': its question has no stage (Is it?); add it to data/stages.yaml, or give the row a stage"),
    ],
)
def test_a_row_without_a_stage_is_named(row, said):
    with pytest.raises(UserError) as error:
        needed_stage({"id": "7", "question": "Is it?", **row})
    assert said.casefold() in str(error.value).replace('"', "'").casefold()


def test_the_table_has_every_question_of_the_demo_and_three_stages_of_each():
    found = Counter(stage_of(row) for split in ("train", "val", "test") for _, row in read_jsonl(SCENES / f"{split}.jsonl"))
    assert set(found) == {1, 2, 3}
    table = stages._table()[0]
    assert len(table.keys() - {"none", "nan"}) == 19 and set(table.values()) == {1, 2, 3}


def test_the_table_has_every_question_of_kvasir_vqa(shared):
    questions = {row["question"] for _, row in read_jsonl(shared / "real-data" / "kvasir_vqa" / "val.jsonl")}
    dirty = json.loads((shared / "real-data" / "kvasir_vqa" / "dirty_12082.json").read_text())
    questions |= {row["question"] for row in dirty}
    assert len(questions) == 20 and {stage_of({"question": question}) for question in questions} == {1, 2, 3}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("1: {name: a, questions: [Is it?]}\n2: {name: b, questions: [is it]}\n", "is in stages 1 and 2; keep one"),
        ("first: {name: a, questions: [Is it?]}\n", "first"),
        ("1: [Is it?]\n", "write `1: {name: …, questions: […]}`"),
        ("1: {questions: [Is it?]}\n", "write `1: {name: …, questions: […]}`"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, monkeypatch, table, said):
    (tmp_path / "stages.yaml").write_text(table)
    monkeypatch.setattr(stages, "STAGES_FILE", tmp_path / "stages.yaml")
    stages._table.cache_clear()
    try:
        with pytest.raises(UserError) as error:
            stage_of({"question": "Is it?"})
        assert said in str(error.value) and str(tmp_path / "stages.yaml") in str(error.value)
    finally:
        stages._table.cache_clear()


@pytest.mark.parametrize(
    ("question", "add", "strip"),
    [
        (POLYPS, f"[Stage-2: Findings Identification] {POLYPS}", POLYPS),
        (f"[Stage-2] {POLYPS}", f"[Stage-2: Findings Identification] {POLYPS}", POLYPS),
        ("[Stage-4] Is it?", "[Stage-4] Is it?", "Is it?"),
        (f"[CT] [Stage-1: x] {POLYPS}", f"[Stage-1: Initial Assessment] [CT] {POLYPS}", f"[CT] {POLYPS}"),
        (f"[CT] {POLYPS}", f"[Stage-2: Findings Identification] [CT] {POLYPS}", f"[CT] {POLYPS}"),
    ],
)
def test_a_prompt_says_the_stage_in_one_form(question, add, strip):
    row = {"id": "0", "question": question}
    assert [shown_question(row, how) for how in ("keep", "add", "strip")] == [question, add, strip]
    assert stage_name(2) == "Stage-2: Findings Identification"


def test_rows_of_a_stage_are_kept_and_the_answer_space_is_that_of_all(tmp_path):
    settings = {"data.stages": "[1]", "output_dir": tmp_path / "one"}
    one = load_config(ROOT / "config_demo.yaml", [f"{key}={value}" for key, value in settings.items()])
    everything = load_config(ROOT / "config_demo.yaml", [f"output_dir={tmp_path / 'all'}"])
    kept, rows = ensure_enriched(one, "val"), ensure_enriched(everything, "val")
    assert kept == [{**row, "stage": 1} for row in rows if stage_of(row) == 1] and 0 < len(kept) < len(rows)
    assert answer_space.fingerprint(training_space(one)) == answer_space.fingerprint(training_space(everything))
    again = load_config(one.config_path, [f"output_dir={tmp_path / 'one'}", "data.stages=[3]"])
    assert {row["stage"] for row in ensure_enriched(again, "val")} == {3}, "a file of another stage is not taken for this one's"


def test_enrichment_says_which_stages(tmp_path, capsys):
    ensure_enriched(load_config(ROOT / "config_demo.yaml", [f"output_dir={tmp_path}", "data.stages=[1,3]"]), "val")
    assert "enriched val: " in (out := capsys.readouterr().out) and " rows of stage 1, 3 (" in out


def test_a_stage_without_rows_is_said_with_those_that_there_are(tmp_path):
    source = write(tmp_path / "rows.jsonl", [{"question": "Is there text?", "answer": "yes", "image": "a.png"}])
    with pytest.raises(UserError) as error:
        enrich_jsonl(source, tmp_path / "out.jsonl", settings=DataConfig(stages=[2, 3]))
    assert str(error.value) == f"{source}: has no row of data.stages=[2, 3]; its stages: 1" and not (tmp_path / "out.jsonl").exists()


def test_an_unknown_question_is_named_with_its_file():
    rows = [{"id": "a", "question": "Is there text?"}, {"id": "b", "question": "Is it?"}]
    with pytest.raises(UserError, match=r"^rows.jsonl: row .b.: its question has no stage"):
        list(with_stage(rows, DataConfig(stage_prefix="add"), "rows.jsonl"))
    for settings in (DataConfig(), DataConfig(stage_prefix="strip")):
        assert list(with_stage(rows, settings, "rows.jsonl")) == rows, "unless somebody asks for stages, none is needed"


def test_without_stages_enriched_rows_are_what_they_were(tmp_path):
    """Byte for byte as before there were stages: the SHA-256 that the code before gave."""
    cfg = load_config(ROOT / "config_demo.yaml", [f"output_dir={tmp_path}"])
    ensure_enriched(cfg, "val")
    found = (tmp_path / "data" / "val.jsonl").read_bytes()
    assert hashlib.sha256(found).hexdigest() == BEFORE


BEFORE = "fd694859adf13aade0e4a5936ef010f25169662746a8f0f2a29a37d1bf902648"


def test_a_row_tells_its_stage_and_with_a_prefix_what_the_prompt_says():
    row = {"question": "[Stage-2] Is it?", "answer": "a"}
    assert list(with_stage([row], DataConfig(stages=[2]), "t")) == [{**row, "stage": 2}]
    assert list(with_stage([row], DataConfig(stage_prefix="add"), "t")) == [{**row, "stage": 2, "stage_name": stage_name(2)}]
    assert list(with_stage([row], DataConfig(), "t")) == [row]
    with pytest.raises(UserError) as error:
        list(with_stage([row], DataConfig(stages=[3]), "t"))
    assert str(error.value) == "t: has no row of data.stages=[3]; its stages: 2"
