"""SurgVU and REAL-Colon-VQA: frames of clips, references, short and long answers.

python -m pytest tests/data/formats/test_clips.py -v
"""

import json
from collections import Counter

import pytest
from data_sets import converted, error_of, lay, only

from data import readers
from data.image_names import images_of
from data.rows import read_rows
from files import UserError

REFERENCES = ["No", "No forceps are used.", "They are not used.", "None is in use.", "Not mentioned."]


def surgvu(folder, frames):
    of = {"case9/case9_question.json": "Are there forceps being used here?", "case9/case9.json": REFERENCES}
    of = {name: json.dumps(value) for name, value in of.items()}
    return lay(folder, of=of, images=[f"case9/{name}.jpg" for name in frames])


@pytest.mark.parametrize(
    ("frames", "middle"),
    [("a", "a"), ("abc", "b"), (("f2", "f10", "f9"), "f9"), (("f_0", "f_10", "f_20", "f_29"), "f_20")],
)
def test_surgvu_gives_the_middle_frame_and_all_references(tmp_path, frames, middle):
    rows, _ = converted("surgvu", surgvu(tmp_path / "src", frames), tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": f"case9/{middle}.jpg", "question": "Are there forceps being used here?", "answer": "No",
         "answers": REFERENCES, "group": "case9"}
    ]  # fmt: skip


@pytest.mark.parametrize(("frames", "most", "images"), [("abcde", 3, "ace"), ("abcde", 9, "abcde"), ("a", 4, None), ("ab", 1, None)])
def test_surgvu_gives_so_many_frames_of_a_clip(tmp_path, frames, most, images):
    rows, _ = converted("surgvu", surgvu(tmp_path / "src", frames), tmp_path / "dst", frames=most)
    names = [f"case9/{name}.jpg" for name in images or ("b" if most == 1 else "a")]
    assert [(row["image"], row.get("images")) for row in rows] == [(names[0], names if images else None)]
    assert images_of(next(iter(read_rows(tmp_path / "dst" / "all.jsonl")))) == names


def test_surgvu_cases_have_their_own_folders(tmp_path):
    src = surgvu(tmp_path / "src", "abc") / "case9"
    rows, _ = converted("surgvu", src, tmp_path / "dst")
    assert only(rows, "image", "group") == [("b.jpg", "case9")]
    lay(src, of={"case8_question.json": '"q"', "case8.json": '["a"]'})
    with pytest.raises(UserError) as error:
        readers.convert("surgvu", src, tmp_path / "dst")
    assert str(error.value) == f"{src}: has 2 cases, whose frames mix; give each its own folder"


COLON = {
    "id": "qa_7", "video_id": "002-003", "frames": [f"002-003_{n}" for n in range(10, 42, 4)],
    "question_type": "nbi_status", "question": "Is the NBI light on?",
    "answer": "Yes, NBI light is on in these frames.", "short_answer": "yes",
}  # fmt: skip


def test_real_colon_vqa_short_and_long_answers(tmp_path):
    other = {**COLON, "video_id": "002-001", "question": "Is the scope moving?"}
    src = lay(tmp_path / "src", of={"annotations/in_template.jsonl": [COLON, other]},
              images=["videos/002-003_frames/002-003_26.jpg"])  # fmt: skip
    rows, _ = converted("real-colon-vqa", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "videos/002-003_frames/002-003_26.jpg", "question": "Is the NBI light on?", "answer": "yes",
        "answers": ["yes", "Yes, NBI light is on in these frames."], "group": "002-003", "question_class": "nbi_status",
        "source_id": "qa_7",
    }  # fmt: skip
    assert only(rows, "id", "group") == [("0", "002-003"), ("1", "002-001")]
    path = src / "annotations" / "in_template.jsonl"
    rows, _ = converted("real-colon-vqa", path, tmp_path / "long", answers="long")
    assert rows[0]["answer"] == COLON["answer"] and rows[0]["answers"] == [COLON["answer"], "yes"]
    assert rows[0]["image"] == "videos/002-003_frames/002-003_26.jpg"
    rows, _ = converted("real-colon-vqa", path, tmp_path / "several", frames=3)
    assert rows[0]["images"] == [f"videos/002-003_frames/002-003_{frame}.jpg" for frame in (10, 22, 38)] and rows[0]["group"] == "002-003"


def test_real_colon_vqas_images_lie_beside_its_annotations_or_its_file(tmp_path):
    beside = lay(tmp_path / "one", of={"annotations/in_template.jsonl": [COLON]})
    itself = lay(tmp_path / "other", of={"in_template.jsonl": [COLON]})
    sources = [(beside, beside), (beside / "annotations" / "in_template.jsonl", beside), (itself, itself)]
    for number, (source, root) in enumerate(sources):
        assert readers.convert("real-colon-vqa", source, tmp_path / f"dst {number}")[0] == root
    assert readers.convert("real-colon-vqa", itself, tmp_path / "dst", images=tmp_path / "frames")[0] == tmp_path / "frames"


def test_real_colon_vqa(shared, tmp_path):
    rows, _ = converted("real-colon-vqa", shared / "real-data" / "real_colon_vqa", tmp_path / "dst")
    assert Counter(row["group"] for row in rows) == {
        "002-001": 700, "002-002": 1000, "002-003": 1000, "002-004": 1000, "002-005": 750, "002-006": 750
    }  # fmt: skip
    assert Counter(row["answer"] for row in rows)["no"] == 2004
    assert all(len(row["answers"]) == 2 and row["answers"][1].endswith(".") for row in rows)
    assert rows[0]["image"] == "videos/002-003_frames/002-003_3822.jpg", "the fifth of eight"


def test_real_surgvu(shared, tmp_path):
    rows, _ = converted("surgvu", shared / "real-data" / "surgvu25", tmp_path / "dst")
    cases = [f"case{number}" for number in range(122, 128)]
    assert only(rows, "group", "image") == [(case, f"{case}/frame_000020.jpg") for case in cases]
    assert all(len(row["answers"]) == 5 and row["answer"] == row["answers"][0] for row in rows)
    assert readers.describe_missing(shared / "real-data" / "surgvu25", {row["image"] for row in rows}) is None


BROKEN = {
    "references as one text": ("surgvu", {"case1/case1_question.json": '"q"', "case1/case1.json": '"No"'},
                               'case1/case1.json:1: the references are "No", not a list of texts; '
                               "correct or delete them"),
    "question without quotes": ("surgvu", {"case1/case1_question.json": "What organ?", "case1/case1.json": '["No"]'},
                                "case1/case1_question.json:1: not valid JSON (Expecting value); correct the file"),
    "no references": ("surgvu", {"case1/case1_question.json": '"q"'}, "case1/case1.json: no such file"),
    "no frames": ("surgvu", {"case1/case1_question.json": '"q"', "case1/case1.json": '["No"]'},
                  "case1: has no frames; take some from the video, as .jpg"),
    "frames missing": ("real-colon-vqa", {"in_template.jsonl": [COLON, {**COLON, "frames": []}]},
                       "in_template.jsonl:2: frames are [], not a list of texts; correct or delete them"),
    "one answer missing": ("real-colon-vqa", {"in_template.jsonl": [{**COLON, "answer": None}]},
                           'in_template.jsonl:1: short_answer and answer are ["yes", null], not a list of texts; '
                           "correct or delete them"),
    "question that is no text": ("surgvu", {"case1/case1_question.json": "3", "case1/case1.json": '["No"]'},
                                 "case1/case1_question.json:1: is no JSON string; write the question in quotes"),
    "no video": ("real-colon-vqa", {"annotations/in_template.jsonl": [{**COLON, "video_id": None}]},
                 "annotations/in_template.jsonl:1: video_id are [null], not a list of texts; correct or delete them"),
    "no cases": ("surgvu", {"a.txt": []}, ": has no */*_question.json; give the folder with case122/case122_question.json"),
    "no annotations": ("real-colon-vqa", {"a.txt": []}, ": has no in_template.jsonl or annotations/in_template.jsonl; give the file"),
    "empty file": ("real-colon-vqa", {"in_template.jsonl": []},
                   "in_template.jsonl: has no rows; write one JSON object a line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC{'/' * (message[0] != ':')}{message}"
