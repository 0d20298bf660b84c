"""What data sets are made of: Parquet, JSON and text files, embedded images; broken ones named by file and line.

python -m pytest tests/data/formats/test_source_files.py -v
"""

import hashlib
import json
import sys
from collections import Counter

import pyarrow
import pytest
from data_sets import JPEG, OTHER_JPEG, PNG, RECORDS, contents, endovis, error_of, kvasir_json, lay, read, record, write_parquet
from pyarrow import parquet

from data import readers
from data.formats import source_files
from data.formats.source_files import json_records, json_value
from files import UserError, sha256


def test_parquet_images_keep_their_bytes_and_are_written_once(tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    written = Counter()
    atomic_open = source_files.atomic_open
    monkeypatch.setattr(source_files, "atomic_open", lambda path, mode: written.update([path.name]) or atomic_open(path, mode))
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written == {"b.jpg": 1, "a.png": 1, "c.jpg": 1}
    for name, data in {"b.jpg": JPEG, "a.png": PNG, "c.jpg": OTHER_JPEG}.items():
        assert sha256(tmp_path / "dst" / "images" / name) == hashlib.sha256(data).hexdigest()
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written.total() == 3, "a second run found the images and wrote none"
    (tmp_path / "dst" / "images" / "b.jpg").write_bytes(OTHER_JPEG)  # of an earlier edition of the data set
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert (tmp_path / "dst" / "images" / "b.jpg").read_bytes() == JPEG


@pytest.mark.parametrize("below", ["data", "."])
def test_parquet_files_of_a_folder_are_one_dataset_in_name_order(tmp_path, below):
    write_parquet(tmp_path / "parts" / below / "raw-00001-of-00002.parquet", RECORDS[4:])
    write_parquet(tmp_path / "parts" / below / "raw-00000-of-00002.parquet", RECORDS[:4])
    write_parquet(tmp_path / "whole" / "all.parquet", RECORDS)
    readers.convert("kvasir-vqa", tmp_path / "parts", tmp_path / "two")
    readers.convert("kvasir-vqa", tmp_path / "whole", tmp_path / "one")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record("d", None), "row 9: has no image bytes"),
        (record("d", b""), "row 9: has no image bytes"),
        (record("d", JPEG, image=None), "row 9: has no image bytes"),
        (record("d", b"GIF? no"), "row 9: its image is unreadable (not in a format Pillow knows)"),
        (record("../d", JPEG), "row 9: img_id '../d' can't be a file name"),
        (record(None, JPEG), "row 9: img_id None can't be a file name"),
    ],
)
def test_a_broken_parquet_row_is_named(tmp_path, change, message):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, change])
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: {message}") and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_parquet_without_a_column_or_rows(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "img_id"} for row in RECORDS]
    source = write_parquet(tmp_path / "rows.parquet", rows, img_id=None)
    with pytest.raises(UserError, match="rows.parquet: has no column img_id; found image, source, question, answer"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    source = write_parquet(tmp_path / "rows.parquet", [RECORDS[3]])
    with pytest.raises(UserError, match=r"has no usable rows; dropped rows: 1 \(1 without a question\)"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: unreadable from row 0 on (") and "\n" not in str(error.value)


def test_missing_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="rows.parquet: reading Parquet needs pyarrow; run: pip install pyarrow$"):
        readers.convert("kvasir-vqa", tmp_path, tmp_path / "dst")


def test_text_that_is_not_utf8_is_named_by_line(tmp_path):
    src = endovis(tmp_path / "src")
    name = "seq_2/vqa/Classification/frame010_QA.txt"
    (src / name).write_bytes(b"q|a\nVes\xedculas|b\n")
    with pytest.raises(UserError, match=f"{name}:2: not UTF-8 text \\(.* at byte 7\\); save it as UTF-8$"):
        readers.convert("endovis-18-vqa", src, tmp_path / "dst")


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path):
    src = lay(tmp_path, of={"r.json": '[{"a": 1},\n{"a": ' + "9" * 5000 + "}]"}) / "r.json"
    with pytest.raises(UserError, match=r"r.json:2: has a number of too many digits to be read; correct or delete it"):
        list(json_records(src))
    with pytest.raises(UserError, match=r"r.json: has a number of too many digits to be read; correct the file"):
        json_value(src)


@pytest.mark.parametrize("image", [PNG, {"bytes": PNG, "path": None}, [{"bytes": PNG, "path": "x"}]])
@pytest.mark.parametrize("img_id", ["a", 7, 7.0])
def test_images_as_bytes_and_ids_as_numbers(tmp_path, image, img_id):
    row = {"image": image, "img_id": img_id, "question": "Is there a polyp?", "answer": "yes"}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "x.parquet")
    for format_name in ("kvasir-vqa", "kvasir-vqa-x1"):
        readers.convert(format_name, tmp_path / "x.parquet", tmp_path / format_name)
        name = f"images/{'a' if img_id == 'a' else 7}.png"
        assert read(tmp_path / format_name / "all.jsonl")[0]["image"] == name and (tmp_path / format_name / name).read_bytes() == PNG


def test_numbers_of_classes_become_their_names(tmp_path):
    table = pyarrow.table({"image": [PNG, JPEG, PNG], "question": ["a", "b", "c"], "answer": [1, 0, -1]})
    features = {"info": {"features": {"answer": {"names": ["no polyp", "polyp"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")
    _, _, dropped, _ = readers.convert("path-vqa", tmp_path / "x.parquet", tmp_path / "dst")
    assert [row["answer"] for row in read(tmp_path / "dst" / "all.jsonl")] == ["polyp", "no polyp"]
    assert dropped == {"without an answer": 1}


def test_a_class_without_a_name_is_named_by_row_and_column(tmp_path):
    table = pyarrow.table({"image": [PNG, JPEG], "question": ["a", "b"], "answer": [1, 2]})
    features = {"info": {"features": {"answer": {"names": ["no polyp", "polyp"], "_type": "ClassLabel"}}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")
    with pytest.raises(UserError) as error:
        readers.convert("path-vqa", tmp_path / "x.parquet", tmp_path / "dst")
    assert str(error.value) == f"{tmp_path / 'x.parquet'}: row 1: answer is 2, and there are 2 classes; correct it"


BROKEN = {
    "comma missing": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + "\n{}\n]"},
                      "r.json:3: not valid JSON (a comma or ] is missing); correct the file"),
    "cut array": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + ',\n{"image_id": "b'},
                  "r.json:3: not valid JSON (Unterminated string starting at); correct the file"),
    "key twice": ("kvasir-vqa-json", {"r.json": '[\n{"image_id": "a", "answer": "a", "answer": "b"}]'},
                  "r.json:2: key 'answer' is given twice; keep one of them"),
    "no JSON": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + ",\n\n  nothing]"},
                "r.json:4: not valid JSON (Expecting value); correct the file"),
    "digits": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + ',\n\n{"a": ' + "9" * 5000 + "}]"},
               "r.json:4: has a number of too many digits to be read; correct or delete it"),
    "lines": ("kvasir-vqa-json", {"r.jsonl": [kvasir_json(), kvasir_json(answer={"a": 1})]},
              "r.jsonl:2: answer is an object with fields a, not text; write it as text, a number, true or false, or a list of these"),
    "split": ("kvasir-vqa-json", {"r.json": [kvasir_json(split="val"), kvasir_json(split="dev")]},
              "r.json:9: split is 'dev', not train, val or test; correct it"),
    "nested": ("kvasir-vqa-json", {"r.json": "[\n" + "[" * 100_000}, "r.json:2: is nested too deeply; correct or delete it"),
    "no object": ("kvasir-vqa-json", {"r.json": "[\n\n" + json.dumps(kvasir_json()) + ",\n7]"},
                  "r.json:4: is 7, not an object; correct or delete it"),
    "half a character": ("kvasir-vqa-json", {"r.json": "[" + json.dumps(kvasir_json(answer="\ud800")) + "]"},
                         "r.json:1: holds half a character (an unpaired \\ud800-\\udfff); correct the text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"
