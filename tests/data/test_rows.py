"""The user's rows: completed with id and image, of one picture or several, and refused by file and line.

python -m pytest tests/data/test_rows.py -v
"""

import re

import pytest
from data_sets import enrich, file_of, row, without

from data.check import read_raw
from data.rows import check_further, group_by_image, junk_reason, numbered_rows, read_rows
from files import UserError, write_jsonl


@pytest.mark.parametrize(
    ("row", "image", "images"),
    [
        ({"images": ["./b.png", "a.png", "b.png"]}, "b.png", ["b.png", "a.png", "b.png"]),
        ({"image": "v/../b.png", "images": ["b.png", "a.png"]}, "b.png", ["b.png", "a.png"]),
        ({"image_filename": "b.png", "images": ["b.png", "a.png"]}, "b.png", ["b.png", "a.png"]),
        ({"images": ["b.png"]}, "b.png", None),
        ({"image": "b.png", "images": ["b.png"]}, "b.png", None),
        ({"image": "b.png", "images": None}, "b.png", None),
    ],
)
def test_a_row_has_one_image_or_several_in_order(tmp_path, row, image, images):
    (found,) = read_rows(file_of(tmp_path, row))
    assert (found["image"], found.get("images")) == (image, images) and ("images" in found) == bool(images)
    assert [list(item.images) for item in read_raw(tmp_path / "rows.jsonl")] == [images or [image]]


def test_rows_of_one_image_are_written_as_before(tmp_path):
    """Enriched rows are hashed: keys and their order are those of the file, and what was absent comes last."""
    rows = [{"image": "a.png", "k": 1}, {"image_filename": "a.png", "k": 1, "id": "x"}]
    assert [list(row) for row in read_rows(file_of(tmp_path, *rows))] == [
        ["question", "answer", "image", "k", "id"], ["question", "answer", "image_filename", "k", "id", "image"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"images": []}, r"images is \[\]; write a list of names"),
        ({"images": "a.png"}, "images is 'a.png'; write a list of names"),
        ({"images": ["a.png", 3]}, r"images is \['a.png', 3\]; write a list of names"),
        ({"images": ["a.png", " "]}, "write a list of names"),
        ({"images": [{"path": "a.png"}]}, "write a list of names"),
        ({"images": ["a.png", "https://x.org/b.png"]}, "image is 'https://x.org/b.png', an address; images must be files"),
        ({"image": "b.png", "images": ["a.png", "b.png"]}, "image is 'b.png' and the first of images 'a.png'; a row has image or images"),
        ({}, "has no image; add the image's name"),
    ],
)
def test_what_is_no_list_of_images_is_refused_by_line(tmp_path, row, said):
    path = file_of(tmp_path, {"image": "x.png"}, row)
    with pytest.raises(UserError, match=f"^{path}:2: .*{said}"):
        list(read_rows(path))
    junk = [item.junk for item in read_raw(path)]
    assert junk[0] is None and junk[1] == ("with images that aren't a list of files, or another image than the first of them"
                                           if row else "without an image")  # fmt: skip


def test_ids_and_images_are_completed(tmp_path):
    rows = [row(), row(id=7), row(id="x"), {"question": "q", "answer": "a", "image_filename": "b.jpg"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    text = (tmp_path / "rows.jsonl").read_text().replace("\n", "\n\n")  # blank lines are no rows
    (tmp_path / "rows.jsonl").write_text(text)
    found = list(read_rows(tmp_path / "rows.jsonl"))
    assert [item["id"] for item in found] == ["0", "7", "x", "3"]
    assert [item["image"] for item in found] == ["a.jpg", "a.jpg", "a.jpg", "b.jpg"]


def test_null_means_absent(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [row(id=None), row(id=None, image=None, image_filename="b.jpg")])
    found = [(item["id"], item["image"]) for item in read_rows(tmp_path / "rows.jsonl")]
    assert found == [("0", "a.jpg"), ("1", "b.jpg")]


BAD_ROWS = [
    (without("question"), ":2: has no question; add the question as text"),
    (row(question=["q"]), ":2: question is ['q'], not text; add the question as text"),
    (row(question="  "), ":2: question is empty; add the question as text"),
    (without("image"), ":2: has no image; add the image's name, relative to data.image_root"),
    (row(image=3), ":2: image is 3, not text; "),
    (row(image=""), ":2: image is empty; "),
    (without("answer"), ":2: has no answer; write the answer as text"),
    (row(answer=None), ":2: has no answer; write the answer as text"),
    (row(answer=3), ":2: answer is 3, not text; write the answer as text"),
    (row(answer=["a", "b"]), ":2: answer is ['a', 'b'], not text; "),
    (row(answer=""), ":2: answer is empty; "),
    (row(answer=" . "), ":2: answer is empty; "),
    (row(options="a, b"), ":2: options is 'a, b'; write a list of texts"),
    (row(options=[]), ":2: options is []; write a list of texts"),
    (row(options=["a", 2]), ":2: options is ['a', 2]; write a list of texts"),
    (row(options=["a", " "]), ":2: options is ['a', ' ']; write a list of texts"),
    (row(options=["Polyp", "polyp."]), ":2: options repeats an item: "),
    (row(answers="yes"), ":2: answers is 'yes'; write a list of texts, or leave it out"),
    (row(answers=[]), ":2: answers is []; write a list of texts, or leave it out"),
    (row(answers=["yes", 1]), ":2: answers is ['yes', 1]; write a list of texts, or leave it out"),
    (row(id="0"), ":2: id '0' is already that of line 1; give every row its own id"),
    (row(id=0), ":2: id '0' is already that of line 1; give every row its own id"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, bad, message):
    with pytest.raises(UserError) as error:
        enrich(tmp_path, [row(), bad])
    assert str(error.value).startswith(f"{tmp_path / 'rows.jsonl'}{message}") and "\n" not in str(error.value)
    assert not (tmp_path / "enriched.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "<image>"}, "question is empty; it has but a place for a picture"),
        ({"question": "Is <image> like <image>?"}, "question has <image> inside it, where no picture can stand; write what it stands for"),
        ({"group": ["p1", "p2"]}, r"group is \['p1', 'p2'\]; write one name, the patient's or the video's"),
        ({"group": {"id": 1}}, "group is {'id': 1}; write one name"), ({"group": True}, "group is True; write one name"),
    ],
)  # fmt: skip
def test_what_can_stand_for_no_picture_and_no_patient_is_refused_by_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=rf"rows.jsonl:2: {message}") as error:
        enrich(tmp_path, [row(), row(**changes)])
    assert "\n" not in str(error.value)


def test_group_by_image_keeps_order():
    rows = [{"image": name, "id": number} for number, name in enumerate("abac")]
    assert [[row["id"] for row in group] for group in group_by_image(rows)] == [[0, 2], [1], [3]]


def test_questions_about_the_same_images_in_the_same_order_are_a_group():
    clips = [["a", "b"], ["a"], ["b", "a"], ["a", "b"]]
    rows = [{"image": names[0], "images": names if len(names) > 1 else None, "id": number} for number, names in enumerate(clips)]
    ids = lambda groups: [[row["id"] for row in group] for group in groups]
    assert ids(group_by_image(rows)) == [[0, 3], [1], [2]]
    assert ids(group_by_image(rows, key=lambda row: row["id"] > 1)) == [[0], [1], [2], [3]], "nor of another key"


@pytest.mark.parametrize(
    ("question", "answer", "why"),
    [
        ("q", "a", None), ("q", "none", None), ("q", 0, None), ("Nanometres?", "nano", None), ("q", "0", None),
        ("", "a", "without a question"), (" ", "a", "without a question"), ("None", "a", "without a question"),
        (" NaN ", "a", "without a question"), (None, None, "without a question"),
        ("q", None, "without an answer"), ("q", "", "without an answer"), ("q", "NaN.", "without an answer"),
        ("q", " . ", "without an answer"), ("q", float("nan"), "without an answer"),
    ],
)  # fmt: skip
def test_what_stands_for_a_missing_value_is_junk(question, answer, why):
    assert junk_reason(question, answer) == why


@pytest.mark.parametrize(
    ("further", "said"),
    [
        ({}, None), ({"options": None, "answers": None, "group": None, "answers_by": None}, None),
        ({"options": ["a"], "answers": [""], "group": 0, "answers_by": {"Dr. A": "yes", "Dr. B": None}}, None),
        ({"answers_by": {"Dr. A": 1}}, "answers_by is {'Dr. A': 1}; write {rater: answer}, each answer as text"),
        ({"answers_by": ["yes"]}, "answers_by is ['yes']; write {rater: answer}, each answer as text"),
        ({"options": ["."]}, "options is ['.']; write a list of texts"), ({"group": 0.5}, "group is 0.5; write one name"),
    ],
)  # fmt: skip
def test_options_references_raters_and_groups_have_one_form_each(further, said):
    if said is None:
        return check_further(further, "t.jsonl:1")
    with pytest.raises(UserError, match=re.escape(f"t.jsonl:1: {said}")):
        check_further(further, "t.jsonl:1")


def test_of_a_file_the_wanted_rows_are_read_under_their_numbers(tmp_path):
    """Whoever asks for some lines gets these alone, with the ids that they have in the whole file."""
    write_jsonl(tmp_path / "rows.jsonl", [{"question": f"q{number}?", "answer": "yes", "image": "a.png"} for number in range(4)])
    some = [line for line in numbered_rows(tmp_path / "rows.jsonl") if line[0] in (1, 3)]
    assert [(row["id"], row["question"]) for row in read_rows(tmp_path / "rows.jsonl", lines=some)] == [("1", "q1?"), ("3", "q3?")]
    with pytest.raises(UserError, match=r"rows.jsonl:4: id '3' is already that of line 4; give every row its own id"):
        list(read_rows(tmp_path / "rows.jsonl", lines=some[1:] * 2))
