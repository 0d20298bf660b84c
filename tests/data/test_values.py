"""Values as tables have them: numbers, true and false, lists, dates; the same in every branch of the readers.

python -m pytest tests/data/test_values.py -v
"""

import datetime
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow
import pytest
from data_sets import PNG, lay, read
from pyarrow import parquet

from data import readers
from data.values import LISTS, PLACEHOLDERS, TRUTHS, as_text, is_date, plain, with_texts
from files import UserError

QUESTION = "Is there a polyp?"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None), (float("nan"), None), ([], None), ([None, " "], None), ("yes", "yes"), ("", ""), (3, "3"), (3.0, "3"), (2.5, "2.5"),
        (float(np.float32(0.1)), "0.1"), (1e22, "10000000000000000000000"), (Decimal("3.50"), "3.5"), (Decimal("10"), "10"),
        (True, "yes"), (False, "no"), (np.int64(4), "4"), (np.bool_(False), "no"), (["pink", "red"], "pink; red"), ([1, 2.0], "1; 2"),
    ],
)  # fmt: skip
def test_a_value_as_text(value, text):
    assert as_text(value, "t: row 1", "answer", Counter()) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\x89PNG" * 9, "answer is binary data (36 bytes), not text; write it as text, a number, true or false, or a list of these"),
        ({"text": ["yes"]}, "answer is an object with fields text, not text; write it as text, a number"),
        ([["a"], ["b"]], "answer is a list of lists; write one list of texts"),
        (float("inf"), "answer is inf, not text; write it"),
        (datetime.date(2024, 10, 5), "answer is the date or time 2024-10-05; tables make dates of entries such as 5-10: format the column"),
    ],
)
def test_what_has_no_text_is_refused_with_the_remedy(value, said):
    with pytest.raises(UserError) as error:
        as_text(value, "t: row 1", "answer", Counter())
    assert str(error.value).startswith(f"t: row 1: {said}")


def test_what_was_changed_is_counted():
    converted = Counter()
    rows = [{"question": "<image>\nIs it?", "answer": True}, {"question": "What?", "answer": ["a", "b"]}, {"question": "q", "answer": "b"}]
    assert [with_texts(row, "t", converted)["answer"] for row in rows] == ["yes", "a; b", "b"]
    assert +converted == {PLACEHOLDERS: 1, TRUTHS: 1, LISTS: 1}
    row = with_texts({"question": "q", "answer": ["Two.", 2]}, "t", converted, references=True)
    assert (row["answer"], row["answers"]) == ("Two.", ["Two.", "2"])
    row = with_texts({"question": "q", "answer": ["a", "b"], "answers": ["a; b", "none"]}, "t", converted, references=True)
    assert (row["answer"], row["answers"]) == ("a; b", ["a; b", "none"]), "a row's own references stay"


def test_further_columns_are_what_json_holds():
    value = {"at": datetime.datetime(2024, 1, 2, 3), "size": Decimal("1.5"), "none": float("nan"), "list": [np.int64(1), float("inf")]}
    assert plain(value, "t", "note") == {"at": "2024-01-02T03:00:00", "size": "1.5", "none": None, "list": [1, None]}
    with pytest.raises(UserError, match=r"t: mask is binary data \(3 bytes\), which a row can't hold; leave the column out"):
        plain(b"123", "t", "mask")


# ---- the same in every branch of the readers

ANSWERS = [True, 3, 2.5, ["pink", "red"], [], None]
TEXTS = ["yes", "3", "2.5", "pink; red"]
BRANCHES = ("kvasir-vqa", "kvasir-vqa-x1", "vqa-rad", "path-vqa", "json", "jsonl", "conversations", "slake")


def source_in(folder, branch, answer):
    """(format, SRC) of a data set of one row with this answer, in one of the branches."""
    if branch in ("kvasir-vqa", "kvasir-vqa-x1", "vqa-rad", "path-vqa"):
        row = {"image": {"bytes": PNG, "path": None}, "img_id": 7, "question": QUESTION, "answer": answer}
        path = lay(folder, of={"x.txt": []}) / "train.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
        return branch, path
    if branch in ("json", "jsonl"):
        name = f"rows.{branch}"
        return "kvasir-vqa-json", lay(folder, of={name: [{"image_filename": "a.png", "question": QUESTION, "answer": answer}]}) / name
    if branch == "slake":
        return branch, lay(folder, of={"train.json": [{"img_name": "a.png", "q_lang": "en", "question": QUESTION, "answer": answer}]})
    turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": answer}]
    return branch, lay(folder, of={"r.json": [{"image": "a.png", "conversations": turns}]}) / "r.json"


@pytest.mark.parametrize("branch", BRANCHES[:-2] + BRANCHES[-1:])
def test_answers_become_text_in_every_branch(tmp_path, branch):
    found, dropped = [], 0
    for number, answer in enumerate(ANSWERS):
        format_name, src = source_in(tmp_path / str(number), branch, answer)
        try:
            readers.convert(format_name, src, tmp_path / f"dst{number}")
            found += [row["answer"] for row in read(tmp_path / f"dst{number}" / "all.jsonl")]
        except UserError as error:
            assert "has no usable rows; dropped rows: 1 (1 without an answer)" in str(error)
            dropped += 1
    assert (found, dropped) == (TEXTS, 2)


def test_bytes_for_an_answer_are_refused_in_one_line(tmp_path):
    format_name, src = source_in(tmp_path, "kvasir-vqa", b"yes")
    with pytest.raises(UserError, match=r"train.parquet: row 0: answer is binary data \(3 bytes\), not text; write it as text"):
        readers.convert(format_name, src, tmp_path / "dst")


def test_lists_are_references_when_told(tmp_path):
    said = []
    format_name, src = source_in(tmp_path, "kvasir-vqa", ["Yes", "There is one"])
    readers.convert(format_name, src, tmp_path / "dst", lists="references", say=said.append)
    (row,) = read(tmp_path / "dst" / "all.jsonl")
    assert (row["answer"], row["answers"], said) == ("Yes", ["Yes", "There is one"], ["converted: 1 lists to references"])


# ---- dates


@pytest.mark.parametrize("text", ["5-10", "5-10 mm", "5.10", "3 markers", "1/2", "II-III", "may", "5 mm", "3 mars-like folds", "1.2.3.4"])
def test_texts_that_only_resemble_a_date_are_answers(text):
    assert not is_date(text)


@pytest.mark.parametrize(("answer", "said"), [([["a"], "b"], "a list of lists; write one list of texts"), ([{"x": 1}], "an object with")])
@pytest.mark.parametrize("references", [True, False])
def test_a_list_that_can_not_be_read_is_named_by_place_and_key(answer, said, references):
    with pytest.raises(UserError) as error:
        with_texts({"question": "q", "answer": answer}, "t.jsonl:3", Counter(), references)
    assert str(error.value).startswith(f"t.jsonl:3: answer is {said}")
