"""VQA-RAD and SLAKE: names of images, official splits, languages.

python -m pytest tests/data/formats/test_radiology.py -v
"""

import hashlib
from collections import Counter

import pytest
from data_sets import JPEG, PNG, contents, converted, error_of, lay, only, write_table

from data import readers


def test_vqa_rad_parquet_names_images_by_content(tmp_path):
    def row(data, answer):
        return {"image": {"bytes": data, "path": None}, "question": "is there a mass?", "answer": answer}

    write_table(tmp_path / "src" / "data" / "train-00000-of-00001.parquet", [row(PNG, "yes"), row(JPEG, "no")])
    write_table(tmp_path / "src" / "data" / "test-00000-of-00001.parquet", [row(PNG, "no")])
    rows, _ = converted("vqa-rad", tmp_path / "src", tmp_path / "dst")
    png, jpeg = (hashlib.sha256(data).hexdigest()[:16] for data in (PNG, JPEG))
    assert only(rows, "image", "answer", "split") == [
        (f"images/{png}.png", "no", "test"),
        (f"images/{png}.png", "yes", "train"),
        (f"images/{jpeg}.jpg", "no", "train"),
    ]
    assert set(contents(tmp_path / "dst" / "images")) == {f"{png}.png", f"{jpeg}.jpg"}


def test_vqa_rad_public_json_tells_test_by_phrase_type(tmp_path):
    row = {"qid": 7, "image_name": "s.jpg", "question": "How many?", "answer": 3, "answer_type": "OPEN"}
    records = [{**row, "phrase_type": "freeform"}, {**row, "phrase_type": "test_para", "answer": "three"}]
    src = lay(tmp_path / "src", of={"VQA_RAD Dataset Public.json": records}, images=["VQA_RAD Image Folder/s.jpg"])
    rows, _ = converted("vqa-rad", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "VQA_RAD Image Folder/s.jpg", "question": "How many?", "answer": "3", "split": "train",
        "answer_type": "OPEN", "source_id": 7,
    }  # fmt: skip
    assert only(rows, "answer", "split") == [("3", "train"), ("three", "test")]


def test_vqa_rad_rows_keep_what_both_of_its_json_forms_say(tmp_path):
    own = {"id": "x1", "image": "a.jpg", "question": "Is it?", "answer": "yes", "answer_type": "CLOSED", "split": "validation"}
    src = lay(tmp_path / "src", of={"rows.jsonl": [own, {**own, "id": None, "split": "test"}]}, images=["images/a.jpg"])
    rows, _ = converted("vqa-rad", src, tmp_path / "dst")
    row = {"image": "images/a.jpg", "question": "Is it?", "answer": "yes", "answer_type": "CLOSED"}
    assert rows == [{"id": "0", **row, "split": "val", "source_id": "x1"}, {"id": "1", **row, "split": "test"}]
    public = {"qid": 7, "image_name": "s.jpg", "question": "How many?", "answer": 3, "answer_type": "OPEN", "phrase_type": "test_freeform"}
    public |= {"question_type": "COUNT", "image_organ": "CHEST"}
    src = lay(tmp_path / "public", of={"VQA_RAD Dataset Public.json": [public]})
    rows, _ = converted("vqa-rad", src / "VQA_RAD Dataset Public.json", tmp_path / "dst 2", images=lay(tmp_path / "i", images=["s.jpg"]))
    assert rows == [
        {"id": "0", "image": "s.jpg", "question": "How many?", "answer": "3", "split": "test", "answer_type": "OPEN", "source_id": 7,
         "question_class": "COUNT", "organ": "CHEST"}
    ]  # fmt: skip


def test_a_slake_row_keeps_all_that_the_source_says(tmp_path):
    record = {"qid": 11, "img_name": "xmlab1/source.jpg", "question": "Is this a CT?", "answer": "Yes", "q_lang": "en", "img_id": 1}
    record |= {"answer_type": "CLOSED", "content_type": "Modality", "location": "Lung", "modality": "CT", "triple": ["vhead", "_", "_"]}
    rows, _ = converted("slake", lay(tmp_path / "src", of={"validate.json": [record]}), tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": "imgs/xmlab1/source.jpg", "question": "Is this a CT?", "answer": "Yes", "split": "val", "language": "en",
         "answer_type": "CLOSED", "source_id": 11, "question_class": "Modality", "organ": "Lung", "modality": "CT"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("language", "kept", "left_out"),
    [("en", ["0", "2", "3"], {"in zh": 1}), ("zh", ["1"], {"in en": 3}), ("all", ["0", "1", "2", "3"], {})],
)
def test_slake_languages_and_official_splits(tmp_path, language, kept, left_out):
    en = {"qid": 0, "img_name": "xmlab1/source.jpg", "question": "Is this a CT?", "answer": "Yes", "q_lang": "en"}
    zh = {**en, "question": "这是CT吗？", "answer": "是", "q_lang": "zh"}
    src = lay(tmp_path / "src", of={"train.json": [en, zh], "validation.json": [en], "test.json": [en]},
              images=["imgs/xmlab1/source.jpg"])  # fmt: skip
    rows, dropped = converted("slake", src, tmp_path / "dst", language=language)
    splits = {"0": "train", "1": "train", "2": "val", "3": "test"}
    assert only(rows, "id", "split", "image") == [(row, splits[row], "imgs/xmlab1/source.jpg") for row in kept]
    assert {row["language"] for row in rows} == ({"en", "zh"} if language == "all" else {language})
    assert dropped == left_out
    assert ("这是CT吗？", "是") in only(rows, "question", "answer") or language == "en"
    kept_junk = readers.convert("slake", src, tmp_path / "dst", language=language, keep_junk=True)
    assert kept_junk[2] == left_out, "another language is no junk"


def test_real_vqa_rad(shared, tmp_path):
    rows, _ = converted("vqa-rad", shared / "real-data" / "vqa_rad", tmp_path / "dst")
    assert Counter(row["split"] for row in rows) == {"train": 64, "test": 30}
    assert len({row["image"] for row in rows}) == 12
    assert readers.describe_missing(shared / "real-data" / "vqa_rad", {row["image"] for row in rows}) is None


BROKEN = {
    "endless name": ("vqa-rad", {"rows.jsonl": [{"image": "a" * 999, "question": "q", "answer": 1, "split": [1]}]},
                     "rows.jsonl:1: split is [1], not train, val or test; correct it"),
    "unknown split": ("vqa-rad", {"rows.jsonl": [{"image": "a.jpg", "question": "q", "answer": "a", "split": "dev"}]},
                      "rows.jsonl:1: split is 'dev', not train, val or test; correct it"),
    "no image": ("vqa-rad", {"rows.jsonl": [{"question": "q", "answer": "a"}]},
                 "rows.jsonl:1: image are [null], not a list of texts; correct or delete them"),
    "no image of slake": ("slake", {"train.json": [{"q_lang": "en", "question": "q", "answer": "a"}]},
                          "train.json:2: img_name are [null], not a list of texts; correct or delete them"),
    "unknown language": ("slake", {"test.json": [{"img_name": "a", "q_lang": "fr", "question": "q", "answer": "a"}]},
                         "test.json:2: q_lang is 'fr', not en or zh; correct it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"
