"""Other wordings of a question: the table, the rows' own, and the command that writes them.

python -m pytest tests/data/test_reword.py -v
"""

import json
import sys

import pytest
from conftest import ROOT

from config import near
from data import reword
from data.aliases import question_template
from data.reword import added, replaced, rewordings, wordings_of
from files import UserError, read_jsonl, write_jsonl


def test_the_table_has_two_wordings_of_each_question_and_none_is_another_question():
    table = rewordings()
    said = [question_template(wording) for wordings in table.values() for wording in wordings]
    assert len(table) == 19 and all(len(wordings) == 2 for wordings in table.values())
    assert len(set(said)) == len(said) and set(said).isdisjoint(table)
    for key, wordings in table.items():  # what tells the form of the answer stays
        for hint in ("Check all that are present.", "If more than one separate with ;", "green/black"):
            template = question_template(hint)
            assert all((template in key) == (template in question_template(wording)) for wording in wordings), key


def test_every_question_of_the_demo_is_in_it():
    asked = {question_template(row["question"]) for _, row in read_jsonl(ROOT / "data" / "demo" / "scenes" / "val.jsonl")}
    assert len(asked) == 11 and asked <= rewordings().keys()


def test_every_question_of_kvasir_vqa_is_in_it(shared):
    asked = json.loads((shared / "real-data" / "kvasir_vqa" / "question_answer_sets.json").read_text())
    assert {question_template(question) for question in asked} == rewordings().keys()


def test_a_rows_own_wordings_come_first_and_its_prefix_stays():
    question = "[Stage-2] How many instruments are in the image?"
    assert wordings_of({"id": "0", "question": question})[0] == "[Stage-2] How many instruments does the image show?"
    assert wordings_of({"id": "0", "question": question, "rewordings": ["Count the tools."]}) == ["Count the tools."]
    assert wordings_of({"id": "0", "question": "Which phase is it?"}) == []
    for wrong in ("Count the tools.", [], [""], [1]):
        with pytest.raises(UserError, match="^row '7': rewordings is .*; write a list of texts, or leave it out$"):
            wordings_of({"id": "7", "question": question, "rewordings": wrong})


def test_rows_are_added_or_replaced():
    rows = [{"id": "4", "question": "Is there text?", "answer": "yes"}, {"id": "5", "question": "Which phase?", "answer": "two"}]
    one, two = wordings_of(rows[0])
    assert [(row["id"], row["question"]) for row in added(rows)] == [
        ("4", "Is there text?"),
        ("4 (wording 1)", one),
        ("4 (wording 2)", two),
        ("5", "Which phase?"),
    ]
    assert len(list(added(rows, 1))) == 3
    assert list(replaced(rows, 2)) == [{**rows[0], "question": two}, rows[1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Is it?: Was it?\n", "'Is it?' has 'Was it?'"),
        ("Is it?: ['Was it?', '']\n", "'Is it?' has ['Was it?', '']"),
        ("1: [Was it?]\n", "1 has ['Was it?']"),
        ("- Is it?\n", "'' has None"),
    ],
)
def test_a_table_that_is_none_is_said(tmp_path, monkeypatch, text, said):
    table = tmp_path / "rewordings.yaml"
    monkeypatch.setattr(reword, "REWORDINGS_FILE", table)
    assert rewordings.__wrapped__() == {}, "without the file"
    table.write_text("Is it?: [Was it?]\n")
    assert rewordings.__wrapped__() == {"is it": ["Was it?"]}
    table.write_text(text)
    with pytest.raises(UserError) as error:
        rewordings.__wrapped__()
    assert str(error.value) == f"{table}: {said}; write `question: [other wording, …]`"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reword.py", *map(str, arguments)])
    reword.main()


def test_the_command(tmp_path, monkeypatch, capsys):
    rows = [{"question": "Is there text?", "answer": "yes", "image": "a.jpg"}, {"question": "Which?", "answer": "b", "image": "a.jpg"}]
    write_jsonl(tmp_path / "in.jsonl", rows)
    run(monkeypatch, tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--only", 1)
    written = [row for _, row in read_jsonl(tmp_path / "out.jsonl")]
    assert [(row["id"], row["question"]) for row in written] == [("0", "Does the image contain text?"), ("1", "Which?")]
    written_to, rest = near(tmp_path / "out.jsonl"), "made from 2; 1 rows have no such wording and stay as they are"
    assert capsys.readouterr().out == f"wrote 2 rows to {written_to}, {rest}\n"
    for arguments, count in (((), 4), (("--add", 1), 3)):
        run(monkeypatch, tmp_path / "in.jsonl", tmp_path / "out.jsonl", *arguments)
        written = [row["id"] for _, row in read_jsonl(tmp_path / "out.jsonl")]
        assert written == ["0", *(f"0 (wording {number})" for number in range(1, count - 1)), "1"]
        assert capsys.readouterr().out == f"wrote {count} rows to {written_to}, {rest}\n"
    for arguments in (("--add", 0), ("--only", 0)):
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, tmp_path / "in.jsonl", tmp_path / "out.jsonl", *arguments)
        assert ended.value.code == 2 and capsys.readouterr().err.endswith("error: --add and --only take a number from 1\n")
    write_jsonl(tmp_path / "known.jsonl", rows[:1])
    run(monkeypatch, tmp_path / "known.jsonl", tmp_path / "out.jsonl", "--only", 2)
    assert capsys.readouterr().out == f"wrote 1 rows to {written_to}, made from 1\n"
    write_jsonl(tmp_path / "unknown.jsonl", rows[1:])
    for arguments, message in (
        (("in.jsonl", "in.jsonl"), "is the input itself"),
        (("unknown.jsonl", "other.jsonl"), "unknown.jsonl: no question has any other wordings; add them to .*rewordings.yaml"),
        (("in.jsonl", "other.jsonl", "--only", 9), "no question has so many other wordings; add them to .*rewordings.yaml"),
    ):
        with pytest.raises(UserError, match=message):
            run(monkeypatch, *(tmp_path / name if str(name).endswith(".jsonl") else name for name in arguments))
    doubled = [{**row, "id": row_id} for row, row_id in zip([rows[0]] * 2, ("7", "7 (wording 1)"))]
    write_jsonl(tmp_path / "doubled.jsonl", doubled)
    with pytest.raises(UserError, match="doubled.jsonl: holds other wordings already, by its ids"):
        run(monkeypatch, tmp_path / "doubled.jsonl", tmp_path / "out.jsonl")
