"""PitVQA: rows of video frames without those that the official loader leaves out.

python -m pytest tests/data/formats/test_pitvqa.py -v
"""

import pytest
from data_sets import converted, error_of, lay, only

from data import readers
from files import UserError


def test_pitvqa_leaves_out_what_the_official_loader_does(tmp_path):
    steps = ["What is the current surgical step?|durotomy", "What is the second instrument?|no_secondary_instrument"]
    of = {"qa-classification/video_02/00012.txt": steps, "qa-classification/video_25/00001.txt": steps[:1]}
    src = lay(tmp_path / "src", of=of, images=["images/video_02/00012.png"])
    rows, dropped = converted("pitvqa", src, tmp_path / "dst")
    assert only(rows, "id", "image", "answer", "group", "split") == [
        ("0", "images/video_02/00012.png", "durotomy", "video_02", "val"),
        ("2", "images/video_25/00001.png", "durotomy", "video_25", "train"),
    ]
    assert rows[0] == {
        "id": "0", "image": "images/video_02/00012.png", "question": "What is the current surgical step?", "answer": "durotomy",
        "group": "video_02", "split": "val",
    }  # fmt: skip
    assert dropped == {"answered no_secondary_instrument": 1}
    kept, left_out = converted("pitvqa", src, tmp_path / "kept", keep_junk=True)
    assert only(kept, "id", "answer") == [("0", "durotomy"), ("1", "no_secondary_instrument"), ("2", "durotomy")] and not left_out
    again, _ = converted("pitvqa", src / "qa-classification", tmp_path / "from_part")
    assert again == rows
    lay(src, of={"qa-sentence/video_02/00012.txt": steps})
    with pytest.raises(UserError, match="has questions in .*qa-classification and .*qa-sentence; give one of these"):
        readers.convert("pitvqa", src, tmp_path / "dst")


def test_a_frame_is_the_file_of_its_name_and_a_video_beyond_the_25_has_no_split(tmp_path):
    of = {"qa/video_26/7_QA.txt": ["q|no_visible_instrument", "q|a"], "qa/video_01/3.txt": ["q|b"]}
    src = lay(tmp_path / "src", of=of, images=["images/video_26/7.jpg"])
    rows, dropped = converted("pitvqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": "images/video_01/3.png", "question": "q", "answer": "b", "group": "video_01", "split": "train"},
        {"id": "2", "image": "images/video_26/7.jpg", "question": "q", "answer": "a", "group": "video_26"},
    ]
    assert dropped == {"answered no_visible_instrument": 1}


BROKEN = {
    "too many fields": ("pitvqa", {"qa/video_01/1.txt": ["q|a|b"]},
                        "qa/video_01/1.txt:1: has 3 fields, not question|answer; correct or delete the line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"
