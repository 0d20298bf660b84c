"""Kvasir-VQA as Parquet, metadata.csv and JSON, and Kvasir-VQA-x1: rows in order, and the image that each is about.

python -m pytest tests/data/formats/test_kvasir.py -v
"""

import json

import pytest
from data_sets import (
    HEADER,
    JPEG,
    OTHER_JPEG,
    PNG,
    RECORDS,
    contents,
    converted,
    error_of,
    kvasir_json,
    lay,
    only,
    read,
    record,
    write_folder,
    write_parquet,
    write_table,
)

from data import readers
from files import UserError


def test_parquet_rows_in_order_with_answers_as_they_are(tmp_path):
    source = write_parquet(tmp_path / "src" / "data" / "raw-00000-of-00001.parquet", RECORDS)
    image_root, images, dropped, _ = readers.convert("kvasir-vqa", tmp_path / "src", tmp_path / "dst")
    expected = [
        ("0", "images/b.jpg", "What color is the abnormality? If more than one separate with ;", "Pink; red"),
        ("1", "images/a.png", "Is there text?", "yes"),
        ("2", "images/b.jpg", "How many polyps are in the image?", "0"),
        ("4", "images/a.png", "What is the size of the polyp?", "<5mm"),
        ("5", "images/c.jpg", "What type of polyp is present?", "none"),
        ("8", "images/a.png", "Is there a green/black box artefact?", "no"),
    ]
    keys = ("id", "image", "question", "answer")
    assert read(tmp_path / "dst" / "all.jsonl") == [dict(zip(keys, values)) | {"source": "HyperKvasir"} for values in expected]
    assert image_root == tmp_path / "dst"
    assert images == {"images/b.jpg": 2, "images/a.png": 3, "images/c.jpg": 1}
    assert dropped == {"without a question": 2, "without an answer": 1}
    readers.convert("kvasir-vqa", source, tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


def test_a_row_whose_image_contradicts_its_img_id_is_dropped_and_counted(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, record("b", OTHER_JPEG)])
    _, images, dropped, _ = readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert (images.total(), dropped["with another image than an earlier row of the same img_id"]) == (6, 1)
    assert (tmp_path / "dst" / "images" / "b.jpg").read_bytes() == JPEG


def test_source_column_is_optional(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "source"} for row in RECORDS]
    readers.convert("kvasir-vqa", write_parquet(tmp_path / "rows.parquet", rows, source=None), tmp_path)
    assert set(read(tmp_path / "all.jsonl")[0]) == {"id", "image", "question", "answer"}


def test_csv_rows_reference_the_images_where_they_are(tmp_path):
    lines = [HEADER, "HyperKvasir,Is there text?,yes,a", 'x,"How many polyps, in all?","""3""",b', "x,none,nan,zzz",
             "x,Is there text?,,b", '"x","two', 'lines",no,top', "x,Is there text?,none,a"]  # fmt: skip
    folder = write_folder(tmp_path / "src", lines)
    before = contents(folder)
    image_root, images, dropped, _ = readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert [tuple(row.values()) for row in read(tmp_path / "dst" / "all.jsonl")] == [
        ("0", "images/a.png", "Is there text?", "yes", "HyperKvasir"),
        ("1", "images/b.jpg", "How many polyps, in all?", '"3"', "x"),
        ("4", "top.jpg", "two\r\nlines", "no", "x"),
        ("5", "images/a.png", "Is there text?", "none", "x"),
    ]
    assert dropped == {"without a question": 1, "without an answer": 1}
    assert image_root == folder and all((image_root / name).is_file() for name in images)
    assert list(contents(tmp_path / "dst")) == ["all.jsonl"] and contents(folder) == before, "no image was copied"
    readers.convert("kvasir-vqa", folder / "metadata.csv", tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("file_name", "images/a.png"),
        ("file_name", "./images/a.png"),
        ("file_name", "a.png"),
        ("image", "images/a.png"),
        ("img_id", "a"),
        (",img_id", "7,a"),  # the number column that pandas writes unless told not to
    ],
)
def test_csv_columns_that_may_name_the_image(tmp_path, header, name):
    folder = write_folder(tmp_path, [f"question,answer,{header}", f"Is there text?,yes,{name}"])
    readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    expected = {"id": "0", "image": "images/a.png", "question": "Is there text?", "answer": "yes"}
    assert read(tmp_path / "dst" / "all.jsonl") == [expected]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "x,q,y,a", "x,q,y"], "metadata.csv:3: has 3 fields, not the header's 4"),
        ([HEADER, "x,q,y,a", "x,q,y,a,b"], "metadata.csv:3: has 5 fields, not the header's 4"),
        ([HEADER, 'x,"two', 'lines",y,a', 'x,"q"z,y,a'], "metadata.csv:4: not valid CSV ("),
        ([HEADER, 'x,"never closed,y,a'], "metadata.csv:2: not valid CSV ("),
        ([HEADER, "x,q,y,a", "x,q,y,missing"], "metadata.csv:3: no image missing in "),
        ([HEADER, "x,q,y,"], "metadata.csv:2: names no image; fill file_name or image or img_id"),
        ([HEADER, "x,q,y,../outside.jpg"], "metadata.csv:2: no image ../outside.jpg in "),
        (["source,question,img_id", "x,q,a"], "metadata.csv: has no column answer; found source, question, img_id"),
        (["source,question,answer", "x,q,y"], "metadata.csv: has no column file_name; found source, question, answer"),
        ([""], "metadata.csv: has no column question, answer, file_name; found none"),
        ([HEADER], "has no usable rows; dropped rows: 0"),
    ],
)
def test_a_broken_csv_is_named_by_file_and_line(tmp_path, lines, message):
    folder = write_folder(tmp_path / "src", lines)
    (tmp_path / "outside.jpg").write_bytes(JPEG)
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_a_source_without_either_form(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"has no \*.parquet, data/\*.parquet or metadata.csv"):
            readers.convert("kvasir-vqa", source, tmp_path / "dst")


def message(image, question="<image>Is there a polyp?", answer="A polyp is visible."):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": [image]}


def test_kvasir_vqa_x1_messages_find_images_by_name(tmp_path):
    train = ("/home/someone/Kvasir-VQA-x1/images/a.jpg", "D:\\x\\images\\b.jpg")
    test = ("/elsewhere/images_augmented/a.jpg", "/elsewhere/pictures/a.jpg")
    of = {
        "Kvasir-VQA-x1-train.jsonl": [message(path) for path in train],
        "Kvasir-VQA-x1-test.jsonl": [message(path) for path in test],
    }
    src = lay(tmp_path / "src", of=of, images=["images/a.jpg", "images_augmented/a.jpg"])
    rows, _ = converted("kvasir-vqa-x1", src, tmp_path / "dst")
    assert only(rows, "id", "image", "question", "answer", "split") == [
        ("0", "images/a.jpg", "Is there a polyp?", "A polyp is visible.", "train"),
        ("1", "images/b.jpg", "Is there a polyp?", "A polyp is visible.", "train"),
        ("2", "images_augmented/a.jpg", "Is there a polyp?", "A polyp is visible.", "test"),
        ("3", "images/a.jpg", "Is there a polyp?", "A polyp is visible.", "test"),
    ]
    rows, _ = converted("kvasir-vqa-x1", src / "Kvasir-VQA-x1-test.jsonl", tmp_path / "one")
    assert only(rows, "id", "split") == [("0", "test"), ("1", "test")]


def test_kvasir_vqa_x1_parquet_with_and_without_images(tmp_path):
    row = {"img_id": "a", "question": "Is it a polyp?", "answer": "Yes.", "complexity": 2, "question_class": ["polyp"]}
    write_table(tmp_path / "src" / "data" / "train-00000-of-00001.parquet", [row])
    write_table(tmp_path / "src" / "data" / "test-00000-of-00001.parquet", [row, {**row, "answer": None}])
    lay(tmp_path / "kvasir", images=["images/a.jpg"])
    rows, dropped = converted("kvasir-vqa-x1", tmp_path / "src", tmp_path / "dst", images=tmp_path / "kvasir")
    assert only(rows, "id", "image", "complexity", "question_class", "split") == [
        ("0", "images/a.jpg", 2, ["polyp"], "test"),
        ("2", "images/a.jpg", 2, ["polyp"], "train"),
    ]
    assert dropped == {"without an answer": 1}
    embedded = {**row, "image": {"bytes": PNG, "path": "a.jpg"}}
    other = {**embedded, "image": {"bytes": JPEG, "path": ""}}
    unasked = {**row, "img_id": "b", "question": "none", "image": None}
    source = write_table(tmp_path / "embedded" / "test.parquet", [embedded, other, unasked])
    rows, dropped = converted("kvasir-vqa-x1", source, tmp_path / "with_images")
    assert only(rows, "image", "split") == [("images/a.png", "test")]
    assert (tmp_path / "with_images" / "images" / "a.png").read_bytes() == PNG
    assert dropped == {"with another image than an earlier row of the same img_id": 1, "without a question": 1}


def test_a_split_that_rows_of_json_name_is_official(tmp_path):
    records = [kvasir_json(split=name) for name in ("train", "validation", "test")]
    src = lay(tmp_path, of={"rows.json": records}, images=["images/a.jpg"]) / "rows.json"
    *_, splits = readers.convert("kvasir-vqa-json", src, tmp_path / "dst")
    assert splits == {"train": 1, "val": 1, "test": 1} and only(read(tmp_path / "dst" / "val.jsonl"), "id", "split") == [("1", "val")]


def test_kvasir_vqa_json_keeps_junk_on_request(tmp_path):
    unanswered = kvasir_json(answer=None, image_id="b", image_filename=None)
    records = [kvasir_json(), kvasir_json("none", "nan"), kvasir_json(), unanswered, kvasir_json(answer=float("nan"))]
    for name, content in {"rows.json": records, "rows.jsonl": records}.items():
        src = lay(tmp_path, of={name: content}, images=["images/a.jpg"]) / name
        rows, dropped = converted("kvasir-vqa-json", src, tmp_path / "dst")
        expected = {"image": "images/a.jpg", "question": "Is there text?", "answer": "yes"}
        assert rows == [{"id": "0", **expected}, {"id": "2", **expected}]
        assert dropped == {"without a question": 1, "without an answer": 2}
        for format_name in ("kvasir-vqa-json", "kvasir-vqa"):
            readers.convert(format_name, src, tmp_path / "kept", keep_junk=True)
            assert only(read(tmp_path / "kept" / "all.jsonl"), "id", "image", "question", "answer") == [
                ("0", "images/a.jpg", "Is there text?", "yes"),
                ("1", "images/a.jpg", "none", "nan"),
                ("2", "images/a.jpg", "Is there text?", "yes"),
                ("3", "b.jpg", "Is there text?", None),
                ("4", "images/a.jpg", "Is there text?", None),
            ]


def test_kept_junk_of_parquet_and_csv_has_its_image(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    readers.convert("kvasir-vqa", source, tmp_path / "parquet", keep_junk=True)
    rows = read(tmp_path / "parquet" / "all.jsonl")
    assert [row["id"] for row in rows] == [str(index) for index in range(len(RECORDS))]
    assert only(rows, "image", "question", "answer")[3] == ("images/b.jpg", "none", "nan")
    folder = write_folder(tmp_path / "csv", [HEADER, "x,q,yes,a", "x,none,nan,b"])
    readers.convert("kvasir-vqa", folder, tmp_path / "dst", keep_junk=True)
    assert only(read(tmp_path / "dst" / "all.jsonl"), "image") == [("images/a.png",), ("images/b.jpg",)]


def distinct(rows):
    return len(set(only(rows, "image", "question", "answer")))


def test_real_kvasir_vqa_json(shared, tmp_path):
    folder = shared / "real-data" / "kvasir_vqa"
    rows, dropped = converted("kvasir-vqa-json", folder / "dirty_12082.json", tmp_path / "kept", keep_junk=True)
    answers = {}
    for row in rows:
        answers.setdefault((row["image"], row["question"]), set()).add(row["answer"])
    assert (len(rows), distinct(rows), sum(len(found) > 1 for found in answers.values())) == (12082, 6899, 33)
    assert only(rows, "question", "answer").count(("none", "nan")) == 10 and not dropped
    val, _ = converted("kvasir-vqa-json", folder / "val.jsonl", tmp_path / "val", keep_junk=True)
    assert (len(val), len(val) - distinct(val)) == (8786, 18)
    assert len({row["image"] for row in val} & {row["image"] for row in rows}) == 109
    clean, dropped = converted("kvasir-vqa-json", folder / "dirty_12082.json", tmp_path / "clean")
    assert len(clean) == 12072 and dropped == {"without a question": 10}


BROKEN = {
    "three turns": ("kvasir-vqa-x1", {"x-train.jsonl": [{**message("a.jpg"), "messages": [{"role": "user"}] * 3}]},
                    "x-train.jsonl:1, turn 2: is no conversation of questions and answers in turn; correct or delete it"),
    "image without a name": ("kvasir-vqa-x1", {"x-test.jsonl": [message("/")]},
                             "x-test.jsonl:1: names no image; correct or delete it"),
    "answer as object": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json(answer={"text": "yes"})) + "]"},
                         "r.json:2: answer is an object with fields text, not text; write it as text, a number, true or false, "
                         "or a list of these"),
    "no image": ("kvasir-vqa-json", {"r.jsonl": [kvasir_json(), {"question": "q", "answer": "a"}]},
                 "r.jsonl:2: names no image; add image_filename"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"


X1 = {"img_id": "a", "question": "Is it a polyp?", "answer": "Yes."}
PARQUET = {
    "no image": ({**X1, "image": {"bytes": None, "path": "a.jpg"}}, "has no image bytes; save the dataset with its images embedded"),
    "no picture": ({**X1, "img_id": "b", "image": {"bytes": b"GIF? no", "path": ""}},
                   "its image is unreadable (not in a format Pillow knows)"),
    "name outside": ({**X1, "img_id": "../a", "image": {"bytes": JPEG, "path": ""}}, "img_id '../a' can't be a file name"),
    "no name": ({**X1, "img_id": None, "image": {"bytes": JPEG, "path": ""}},
                "img_id None can't be a file name; write text or a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARQUET)
@pytest.mark.parametrize("name", ["kvasir-vqa", "kvasir-vqa-x1"])
def test_a_broken_row_with_an_image_is_named_by_file_and_row(tmp_path, name, kind):
    broken, said = PARQUET[kind]
    source = write_table(tmp_path / "src" / "data" / "test.parquet", [{**X1, "image": {"bytes": PNG, "path": "a.jpg"}}, broken])
    with pytest.raises(UserError) as error:
        readers.convert(name, tmp_path / "src", tmp_path / "dst")
    assert str(error.value) == f"{source}: row 1: {said}"
