"""EndoVis-18 and EndoVis-17: frames, boxes and groups by their paths, and conversations about both.

python -m pytest tests/data/formats/test_endovis.py -v
"""

import json
from collections import Counter

import pytest
from data_sets import ORGAN, WHERE, converted, endovis, error_of, lay, only


def test_endovis_18_vqa(tmp_path):
    rows, dropped = converted("endovis-18-vqa", endovis(tmp_path / "E" / "EndoVis-18-VQA"), tmp_path / "dst")
    facts = ("id", "image", "question", "answer", "group", "split")
    assert only(rows, *facts) == [
        ("0", "seq_1/left_frames/frame000.png", ORGAN, "kidney", "seq_1", "val"),
        ("1", "seq_2/left_fr/frame010.png", ORGAN, "kidney", "seq_2", "train"),
        ("2", "seq_2/left_fr/frame010.png", WHERE, "left-top", "seq_2", "train"),
        ("4", "seq_13/left_frames/frame002.png", ORGAN, "kidney", "seq_13", None),
    ]
    assert dropped == {"without an answer": 1}
    from_parent, _ = converted("endovis-18-vqa", tmp_path / "E", tmp_path / "from_parent")
    assert from_parent == rows, "the folder may lie in SRC"
    long, _ = converted("endovis-18-vqa", tmp_path / "E", tmp_path / "long", answers="long")
    assert only(long, "id", "answer", "split") == [("0", "organ being operated is kidney", "train")]


def test_endovis_vqla_boxes(tmp_path):
    line = f"{WHERE}|left-top|1, 20, 640, 1024"
    src = lay(tmp_path / "18", of={"seq_16/vqla/label/frame005_QA.txt": [line, f"{ORGAN}|kidney|1,1,1280,1024"]})
    rows, _ = converted("endovis-vqla", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "seq_16/left_frames/frame005.png", "question": WHERE, "answer": "left-top",
        "group": "seq_16", "split": "val", "box": [1, 20, 640, 1024],
    }  # fmt: skip
    assert rows[1]["box"] == [1, 1, 1280, 1024]
    src = lay(tmp_path / "17", of={"vqla/label/seq9_frame015.txt": [line]}, images=["left_frames/seq9_frame015.jpg"])
    rows, _ = converted("endovis-vqla", src, tmp_path / "dst17")
    assert rows == [
        {"id": "0", "image": "left_frames/seq9_frame015.jpg", "question": WHERE, "answer": "left-top", "group": "endovis17_seq9",
         "split": "test", "box": [1, 20, 640, 1024]}
    ]  # fmt: skip


def conversation(image, question="Where is suction located? Answer the question with a single phrase."):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "left-top"}]
    return {"conversations": turns, "image": image}


def test_endovis_single_phrase_mends_paths_and_questions(tmp_path):
    records = [
        conversation("EndoVis-18-VQA_extended\\seq_5\\left_frames\\frame000.png"),
        conversation("EndoVis-18-VQA_extended\\seq_7\\left_frames\\frame000.png", "Where is it?"),
        conversation("EndoVis-17-VQA_extended_final\\left_frames\\seq1_frame015.jpg"),
    ]
    src = lay(tmp_path, of={"single_phrase.json": records})
    rows, _ = converted("endovis-single-phrase", src / "single_phrase.json", tmp_path / "dst")
    asked = "Where is suction located?"
    assert only(rows, "image", "question", "group", "split") == [
        ("EndoVis-18-VQA_extended/seq_5/left_frames/frame000.png", asked, "seq_5", "val"),
        ("EndoVis-18-VQA_extended/seq_7/left_frames/frame000.png", "Where is it?", "seq_7", "train"),
        ("EndoVis-17-VQA_extended_final/left_frames/seq1_frame015.jpg", asked, "endovis17_seq1", "test"),
    ]


def test_real_endovis_single_phrase(shared, tmp_path):
    source = shared / "real-data" / "endovis" / "single_phrase.json"
    rows, dropped = converted("endovis-single-phrase", source, tmp_path / "dst")
    assert Counter(only(rows, "group", "split")) == {
        ("seq_1", "val"): 1136, ("seq_5", "val"): 1219, ("seq_16", "val"): 881, ("endovis17_seq1", "test"): 60,
        ("endovis17_seq2", "test"): 48, ("endovis17_seq6", "test"): 118, ("endovis17_seq8", "test"): 120,
        ("endovis17_seq9", "test"): 267,
    }  # fmt: skip
    assert not any("\\" in row["image"] or "single phrase" in row["question"] for row in rows) and not dropped
    assert all(row["question"].endswith("?") for row in rows)


C18, VQLA = "seq_2/vqa/Classification/frame010_QA.txt", "seq_2/vqla/label/frame010_QA.txt"
BROKEN = {
    "too few fields": ("endovis-18-vqa", {C18: [f"{ORGAN}|kidney", "", ORGAN]},
                       f"{C18}:3: has 1 field, not question|answer; correct or delete the line"),
    "box of three": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 2, 3"]},
                     f"{VQLA}:1: the box is '1, 2, 3', not 4 numbers; correct or delete the line"),
    "box inside out": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 2, 3, 4", f"{ORGAN}|kidney|9, 2, 3, 4"]},
                       f"{VQLA}:2: the box 9, 2, 3, 4 ends before it starts; correct or delete the line"),
    "box upside down": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 9, 3, 4"]},
                        f"{VQLA}:1: the box 1, 9, 3, 4 ends before it starts; correct or delete the line"),
    "no classification": ("endovis-18-vqa", {"a.txt": []}, ": has no seq_*/vqa/Classification/*.txt; give the folder EndoVis-18-VQA"),
    "no labels": ("endovis-vqla", {"a.txt": []},
                  ": has no seq_*/vqla/label/*.txt; give the folder EndoVis-18-VQLA or EndoVis-17-VQLA"),
    "no box": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney"]},
               f"{VQLA}:1: has 2 fields, not question|answer|x1, y1, x2, y2; correct or delete the line"),
    "neither dataset": ("endovis-single-phrase", {"r.json": json.dumps([conversation("frames\\f.png")])},
                        "r.json:1: image frames/f.png is neither of EndoVis-18, seq_N/, nor of EndoVis-17, which this format is for; "
                        "this looks like conversations: python -m data.readers conversations SRC/r.json DST"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC{'/' * (message[0] != ':')}{message}"
