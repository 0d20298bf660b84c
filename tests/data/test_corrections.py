"""Corrected answers: read, refused by name, applied wherever rows are read, and part of what decides a run; never in place.

python -m pytest tests/data/test_corrections.py -v
"""

import datetime
import json
import sys

import openpyxl
import pytest
import yaml

import eval_exp1
from config import DataConfig, load_config
from data.check import check, describe, fix
from data.corrections import corrections_for, read_corrections, unheard
from data.preprocess import enrich_jsonl, enrich_split, space_inputs, training_space
from files import UserError, read_json, read_jsonl, sha256, write_jsonl
from tools import sweep

ROWS = {
    "train": [
        {"id": f"t{number}", "question": "Is there a polyp?", "answer": ("yes", "no")[number % 2], "image": f"{number}.png"}
        for number in range(6)
    ],
    "val": [
        {"id": "v0", "question": "Is there a polyp?", "answer": "yes", "answers": ["yes", "maybe"], "image": "6.png"},
        {"id": "v1", "question": "Is there a polyp?", "answer": "no", "image": "7.png"},
    ],
    "test": [{"id": "x0", "question": "Is there a polyp?", "answer": "no", "image": "8.png"}],
}
TABLE = "id,answer,who,why\nt1,yes,dr a,small but there\nv0,No,dr b,a fold\n"


@pytest.fixture
def folder(tmp_path):
    """my.yaml, three splits, and corrections.csv, which is not in the configuration yet."""
    for split, rows in ROWS.items():
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    data = {f"{split}_jsonl": f"{split}.jsonl" for split in ROWS}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"output_dir": "out", "data": {**data, "image_root": "."}}))
    (tmp_path / "corrections.csv").write_text(TABLE)
    return tmp_path


def load(folder, *overrides):
    return load_config(folder / "my.yaml", overrides)


def corrected(folder, *overrides):
    return load(folder, f"data.corrections={folder / 'corrections.csv'}", *overrides)


def rows_of(path):
    return {row["id"]: row for _, row in read_jsonl(path)}


GERMAN = "id;split;answer;who;why\r\nt1;;yes;Dr. Müller;schön, klein\r\nv0;;No;;\r\nt2;;;;\r\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        "\ufeff".encode() + TABLE.replace(",", ";").encode(),
        b"question\tID\tAnswer\twho\twhy\n?\tt1\tyes\tdr a\t\n?\tt1\tYes.\tdr b\t\n?\tv0\tNo\t\t\n?\tt2\t\t\t\n",
        GERMAN.encode("cp1252"),
        GERMAN.replace(";", "\t").encode("utf-16"),
        b"sep=;\r\n" + GERMAN.encode(),
        b"Korrekturen\r\n\r\n" + GERMAN.encode(),
    ],
)
def test_a_table_of_any_spreadsheet_is_read(tmp_path, content):
    (tmp_path / "c.csv").write_bytes(content)
    assert {row["id"]: row["answer"] for row in read_corrections(tmp_path / "c.csv")} == {"t1": "yes", "v0": "No"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,answer\nt1,yes\n", "c.csv:1: has no column who, why; the first line is id,answer,who,why"),
        (TABLE + "t2,,me,\n", "c.csv:4: answer is empty"),
        (TABLE + ",yes,me,\n", "c.csv:4: id is empty"),
        (TABLE + "t2,#NV,me,\n", "c.csv:4: a cell holds the error #NV; correct or empty it"),
        (TABLE + "t1,no,dr c,\n", "c.csv:4: id 't1' is corrected to two answers, 'yes' on line 2, 'no' here"),
        (TABLE + "t9,no,,\nw 1,no,,\n", "2 ids ('t9', 'w 1') are those of no row of train.jsonl, val.jsonl, test.jsonl"),
        (TABLE + "t9,no,,\n", "id 't9' is that of no row of train.jsonl"),
        (TABLE + "t2,02. Jan,,\n", "c.csv:4: the answer is the date '02. Jan'; tables make dates of entries such as 5-10"),
        ("id,split,answer,who,why\nt1,dev,no,,\n", "c.csv:2: split is 'dev'; write train, val, test, or leave it empty"),
        ("id,split,answer,who,why\nt1,val,no,,\n", "id 't1' is that of no row of train.jsonl"),
        ("id,split,answer,who,why\nt1,,no,,\nt1,train,yes,,\n", "id 't1' is corrected to two answers, 'no' and 'yes'; agree on one"),
    ],
)
def test_what_is_wrong_with_it_is_said_by_name(folder, text, said):
    (folder / "c.csv").write_text(text)
    cfg = load(folder, f"data.corrections={folder / 'c.csv'}")
    with pytest.raises(UserError) as error:
        corrections_for(cfg.data, cfg.data.train_jsonl)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_workbook_is_read_and_a_number_in_it_is_what_people_write(tmp_path):
    book = openpyxl.Workbook()
    for line in (["id", "answer", "who", "why"], [7, 1.0, None, None], ["8", True, "me", datetime.date(2024, 1, 2)]):
        book.active.append(line)
    book.save(tmp_path / "c.xlsx")
    assert [(row["id"], row["answer"]) for row in read_corrections(tmp_path / "c.xlsx")] == [("7", "1"), ("8", "yes")]
    assert [row["answer"] for row in read_corrections(tmp_path / "c.xlsx", ("de", "en"))] == ["1", "ja"]


def test_rows_without_an_id_are_told_apart_by_their_split(folder):
    """Each split has a row that is known as 1."""
    for split in ("train", "val"):
        write_jsonl(folder / f"{split}.jsonl", [{key: row[key] for key in row if key != "id"} for row in ROWS[split]])
    (folder / "corrections.csv").write_text("id,split,answer,who,why\n1,train,yes,,\n1,val,yes,,\n0,val,no,,\n")
    cfg = corrected(folder)
    found = {split: corrections_for(cfg.data, folder / f"{split}.jsonl") for split in ROWS}
    assert found == {"train": {"1": "yes"}, "val": {"1": "yes", "0": "no"}, "test": {}}
    (folder / "corrections.csv").write_text("id,answer,who,why\n1,yes,,\n")
    with pytest.raises(UserError, match="id '1' is that of several rows, .*or name its split in a column `split`"):
        corrections_for(cfg.data, folder / "val.jsonl")


@pytest.mark.parametrize(("answer", "new"), [("yess", True), ("1.0", True), ("2024", True), ("No.", False), ("YES", False)])
def test_an_answer_that_no_other_row_of_the_question_has_is_said(folder, answer, new, capsys):
    """A misspelling, and what a spreadsheet made of it, would be a label of its own: in training, in validation, in the doctor."""
    (folder / "corrections.csv").write_text(f"id,answer,who,why\nt1,{answer},,\nv1,{answer},,\n")
    cfg = corrected(folder)
    for split in ("train", "val"):
        enrich_split(cfg, split)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING: 1 corrected answer")]
    text = "1 corrected answer is no other row's of the question (id '{}': '" + answer + "'): if misspelled"
    assert len(said) == 2 * new and all(text.format(row_id) in line for row_id, line in zip(("t1", "v1"), said))
    report = check({"train": cfg.data.train_jsonl, "val": cfg.data.val_jsonl}, cfg)
    warned = [finding["text"] for finding in report["findings"] if "corrected answer" in finding["text"]]
    assert len(warned) == 2 * new and all(finding.startswith(split) for finding, split in zip(warned, ("train", "val")))


@pytest.mark.parametrize(
    ("rows", "answer", "new"),
    [
        ([("Where?", f"text {number}") for number in range(12)], "another text", False),  # answered freely
        ([("Where?", ("left", "right")[number % 2]) for number in range(12)], "lft", True),
        ([("Where?", "left; right"), ("Where?", "up")], "up; left", False),  # a list of what others say
        ([("Where?", "left; right"), ("Where?", "up")], "up; lef", True),
        ([("Else?", "left")], "lft", False),  # nobody else is asked this
    ],
)
def test_answers_are_heard_by_question_and_label(tmp_path, rows, answer, new):
    told = [{"question": question, "answer": text, "image": "a.png"} for question, text in [("Where?", "left"), *rows]]
    write_jsonl(tmp_path / "rows.jsonl", told)
    assert unheard({"0": answer}, tmp_path / "rows.jsonl") == ({"0": answer} if new else {})


def test_what_two_corrections_say_is_heard(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "Where?", "answer": "left", "image": "a.png"}] * 4)
    assert unheard({"0": "up", "1": "Up", "2": "lef"}, tmp_path / "rows.jsonl") == {"2": "lef"}


def test_an_option_is_heard(tmp_path):
    row = {"question": "Which?", "answer": "snare", "image": "a.png", "options": ["snare", "clip"]}
    write_jsonl(tmp_path / "rows.jsonl", [row, row])
    assert [bool(unheard({"0": answer}, tmp_path / "rows.jsonl")) for answer in ("clip", "B", "clipp")] == [False, False, True]


def test_an_id_that_two_splits_have_corrects_neither(folder):
    write_jsonl(folder / "val.jsonl", [ROWS["val"][0], {**ROWS["val"][1], "id": "t1"}])
    with pytest.raises(UserError, match="id 't1' is that of several rows, in train.jsonl and val.jsonl; give every row an id of its own"):
        training_space(corrected(folder), say=lambda line: None)


def test_a_missing_split_may_hold_the_ids_that_no_other_has(folder):
    """Prediction needs no training file."""
    (folder / "train.jsonl").unlink()
    cfg = corrected(folder)
    assert corrections_for(cfg.data, cfg.data.val_jsonl) == {"v0": "No"}
    (folder / "corrections.csv").unlink()
    with pytest.raises(UserError, match="data.corrections: .*corrections.csv does not exist"):
        corrections_for(cfg.data, cfg.data.val_jsonl)


def test_enrichment_applies_them_and_counts_and_leaves_the_file_alone(folder, capsys):
    before = sha256(folder / "train.jsonl", folder / "val.jsonl")
    cfg = corrected(folder)
    train, val = (rows_of(enrich_split(cfg, split)) for split in ("train", "val"))
    assert capsys.readouterr().out.count("1 answer corrected") == 2
    assert (train["t1"]["answer"], train["t1"]["answer_raw"], train["t1"]["answer_uncorrected"]) == ("yes", "yes", "no")
    assert (val["v0"]["answer"], val["v0"]["answer_raw"], val["v0"]["answer_uncorrected"]) == ("no", "No", "yes")
    assert "answers" not in val["v0"], "the references that the correction replaces would still be right"
    assert "answer_uncorrected" not in train["t0"] and sha256(folder / "train.jsonl", folder / "val.jsonl") == before
    counts = enrich_jsonl(folder / "val.jsonl", folder / "x.jsonl", folder / "train.jsonl", settings=cfg.data)
    assert counts["corrected"] == 1 and rows_of(folder / "x.jsonl")["v0"]["answer"] == "no"


def test_an_answer_may_be_given_where_none_was(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "Is there a polyp?", "image": "a.png"}, {**ROWS["train"][0], "id": None}])
    (tmp_path / "c.csv").write_text("id,answer,who,why\n0,yes,me,\n")
    enrich_jsonl(tmp_path / "rows.jsonl", tmp_path / "x.jsonl", settings=DataConfig(corrections=tmp_path / "c.csv"))
    assert [row["answer"] for row in rows_of(tmp_path / "x.jsonl").values()] == ["yes", "yes"]


def test_they_are_part_of_what_decides_rows_and_space(folder):
    """Another correction of a split makes its rows anew, and those of the others stay; none at all leaves hashes as they were."""
    plain, cfg = load(folder), corrected(folder)
    assert "corrections" not in space_inputs(plain.split_path("train"), plain.data)
    enrich_split(plain, "val")
    assert "corrections" not in read_json(folder / "out" / "data" / "val.meta.json")["inputs"]
    written = {}
    for text in (TABLE, TABLE.replace("No", "maybe"), "id,answer,who,why\n"):
        (folder / "corrections.csv").write_text(text)
        written[text] = [sha256(enrich_split(cfg, split)) for split in ("train", "val")]
    (first, second), (third, fourth), (fifth, _) = written.values()
    assert first == third != fifth and second != fourth
    assert training_space(cfg)["made_from"] == training_space(plain)["made_from"]
    (folder / "corrections.csv").write_text(TABLE)
    assert training_space(cfg)["made_from"] != training_space(plain)["made_from"]


def test_evaluation_believes_them(folder, monkeypatch, capsys):
    """The data file's truth is the corrected one, as it is in the predictions."""
    rows = [{"id": "v0", "pred": "no", "gt": "No"}, {"id": "v1", "pred": "no", "gt": "no"}]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    arguments = ["eval_exp1.py", "--config", str(folder / "my.yaml"), "--report", "none"]
    monkeypatch.setattr(sys, "argv", [*arguments, f"data.corrections={folder / 'corrections.csv'}"])
    eval_exp1.main()
    assert "OVERALL (micro)      2          2          100.00%" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(UserError, match="another answer: 1 id"):
        eval_exp1.main()


def test_rows_of_a_split_in_another_file_are_the_same_rows_where_they_say_their_id(folder):
    """As in a sweep's out_of_fold.jsonl; a row's mere number is another row's there."""
    write_jsonl(folder / "pooled.jsonl", [*ROWS["val"], *ROWS["train"]])
    assert corrections_for(corrected(folder).data, folder / "pooled.jsonl") == {"t1": "yes", "v0": "No"}
    (folder / "corrections.csv").write_text("id,answer,who,why\n1,yes,me,\n")
    unnamed = [{key: value for key, value in row.items() if key != "id"} for row in ROWS["train"]]
    write_jsonl(folder / "train.jsonl", unnamed)
    write_jsonl(folder / "pooled.jsonl", unnamed[::-1])
    cfg = corrected(folder)
    assert corrections_for(cfg.data, folder / "pooled.jsonl") == {} and corrections_for(cfg.data, cfg.data.train_jsonl) == {"1": "yes"}
    with pytest.raises(UserError, match="id '1' is that of several rows, in train.jsonl and pooled.jsonl"):
        corrections_for(
            cfg.data.model_copy(update=dict.fromkeys(("train_jsonl", "val_jsonl", "test_jsonl"))),
            folder / "train.jsonl",
            folder / "pooled.jsonl",
        )


def test_the_doctor_counts_them_and_sees_what_they_mend(folder):
    write_jsonl(folder / "train.jsonl", [*ROWS["train"], {**ROWS["train"][1], "id": "t6", "answer": "yes"}])
    reports = [check({"train": cfg.data.train_jsonl, "val": cfg.data.val_jsonl}, cfg) for cfg in (load(folder), corrected(folder))]
    assert [report["splits"]["train"]["conflicting_pairs"] for report in reports] == [1, 0]
    assert [report["corrected"] for report in reports] == [{"train": 0, "val": 0}, {"train": 1, "val": 1}]
    assert "  answers corrected 1" in list(describe(reports[1])) and reports[0]["made_from"] != reports[1]["made_from"]
    fix({"train": folder / "train.jsonl"}, folder / "fixed", {"train": {"t1": "yes"}})
    assert rows_of(folder / "fixed" / "train.jsonl")["t1"]["answer"] == "yes"


def test_a_sweep_takes_those_of_its_rows(folder):
    """It does not read the test split, so it can't know that x0 is no mistake."""
    (folder / "corrections.csv").write_text(TABLE + "x0,yes,me,\n")
    for fold, (train, val) in enumerate((("train", "val"), ("val", "train"))):
        for name, split in (("train", train), ("val", val)):
            write_jsonl(folder / "folds" / f"fold_{fold}" / f"{name}.jsonl", ROWS[split])
    (folder / "test.jsonl").write_text("nobody may read this")
    values = yaml.safe_load((folder / "my.yaml").read_text())
    values["data"]["corrections"] = "corrections.csv"
    (folder / "my.yaml").write_text(yaml.safe_dump(values))
    for folds in (None, str(folder / "folds")):
        _, _, runs = sweep.plan(sweep.argparse.Namespace(config=str(folder / "my.yaml"), grid=[], seeds=1, folds=folds))
        for run in runs:
            for cfg in (run.trained, run.predicted):
                found = {**corrections_for(cfg.data, cfg.data.train_jsonl)}
                found |= corrections_for(cfg.data, cfg.data.val_jsonl) if cfg.data.val_jsonl else {}
                ids = {row["id"] for split in cfg.given_splits() for row in json_rows(cfg.split_path(split))}
                assert found == {row_id: answer for row_id, answer in (("t1", "yes"), ("v0", "No")) if row_id in ids}


def test_folds_leave_out_what_names_a_row_by_its_number_in_a_split(folder):
    write_jsonl(folder / "val.jsonl", [ROWS["val"][0], {key: value for key, value in ROWS["val"][1].items() if key != "id"}])
    (folder / "corrections.csv").write_text("id,split,answer,who,why\nt1,train,yes,,\n1,val,yes,,\nx0,test,yes,,\n")
    write_jsonl(folder / "fold.jsonl", [*ROWS["train"], {**ROWS["train"][0], "id": "1"}])
    cfg = corrected(folder)
    fold = cfg.model_copy(update={"data": cfg.data.model_copy(update={"train_jsonl": folder / "fold.jsonl", "val_jsonl": None})})
    assert [row["id"] for row in read_corrections(folder / "corrections.csv") if sweep._corrects(row, fold, cfg)] == ["t1"]
    own = cfg.model_copy(update={"data": cfg.data.model_copy(update={"test_jsonl": None})})
    assert [row["id"] for row in read_corrections(folder / "corrections.csv") if sweep._corrects(row, own, None)] == ["t1", "1"]


def json_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
