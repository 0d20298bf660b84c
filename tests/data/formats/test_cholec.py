"""Cholec80-VQA and SSG-VQA: which frames and lines are questions, and what further fields say.

python -m pytest tests/data/formats/test_cholec.py -v
"""

import json
from collections import Counter

import pytest
from data_sets import converted, error_of, lay, only

from data import readers
from data.formats.cholec import SSG


def test_cholec80_vqa_keeps_every_hundredth_frame(tmp_path):
    phase, tools = "what is the phase of image?|preparation", "how many tools are operating?|1"
    of = {"5/1200_QA.txt": [phase, tools], "40/50_QA.txt": [phase], "40/100_QA.txt": [tools]}
    lay(tmp_path / "src" / "Classification", of=of)
    src = lay(tmp_path / "src", images=["cropped_image/5/1200.png"])
    rows, dropped = converted("cholec80-vqa", src, tmp_path / "dst")
    assert only(rows, "id", "image", "answer", "group", "split") == [
        ("0", "cropped_image/5/1200.png", "preparation", "5", "val"),
        ("1", "cropped_image/5/1200.png", "1", "5", "val"),
        ("3", "cropped_image/40/100.png", "1", "40", "train"),
    ]
    assert dropped == {"of frames between the multiples of 100": 1}
    question, _ = tools.split("|")
    facts = {"question": question, "answer": "1", "group": "5", "split": "val"}
    assert rows[1] == {"id": "1", "image": "cropped_image/5/1200.png", **facts}
    long = lay(tmp_path / "long", of={"Sentence/5/1200_QA.txt": [tools]}, images=["cropped_image/5/1200.jpg"])
    assert converted("cholec80-vqa", long, tmp_path / "from_long", answers="long")[0] == [
        {"id": "0", "image": "cropped_image/5/1200.jpg", **facts}
    ]
    rows, dropped = converted("cholec80-vqa", src, tmp_path / "all", keep_junk=True)
    assert only(rows, "id", "image")[2] == ("2", "cropped_image/40/50.png") and not dropped


@pytest.mark.parametrize(
    ("name", "file", "line", "picture"),
    [
        ("cholec80-vqa", "Classification/5/1200_QA.txt", "how many tools are operating?|1", "cropped_image/5/1200.jpg"),
        ("ssg-vqa", "qa_txt/VID01/10.txt", "Which?|liver\nWhich?|hook\nWhich tools are present?|hook", "VID01/000010.jpg"),
    ],
)
def test_pictures_may_lie_in_a_folder_of_their_own(tmp_path, name, file, line, picture):
    src, elsewhere = lay(tmp_path / "src", of={file: line.split("\n")}), lay(tmp_path / "pictures", images=[picture])
    root, images, _, _ = readers.convert(name, src, tmp_path / "dst", images=elsewhere)
    assert root == elsewhere and list(images) == [picture] and readers.describe_missing(root, images) is None


SSG_LINES = [
    "Which anatomical structures are present?|liver, omentum",
    "Which tools are present?|hook",
    "Which target is being dissected in the scene?|cystic_duct",
    "What anatomy is at the top-mid of the frame ?|cystic_plate|[157.0, 60]",
    "Are there any top-mid things left of the top-mid hook instrument?|True|one_hop.json|exist|relate_spatial",
]


def test_ssg_vqa_skips_captions_and_keeps_points_and_query_types(tmp_path):
    names = ("VID01/10", "VID01/2", "VID02/7", "VID80/1")
    of = {f"qa_txt/{name}.txt": SSG_LINES for name in names}
    rows, dropped = converted("ssg-vqa", lay(tmp_path / "src", of=of), tmp_path / "dst")
    assert rows[:3] == [
        {"id": "0", "image": "VID01/000002.png", "question": "Which target is being dissected in the scene?",
         "answer": "cystic_duct", "group": "VID01", "split": "val"},
        {"id": "1", "image": "VID01/000002.png", "question": "What anatomy is at the top-mid of the frame ?",
         "answer": "cystic_plate", "point": [157.0, 60], "group": "VID01", "split": "val"},
        {"id": "2", "image": "VID01/000002.png", "answer": "True", "template": "one_hop.json", "query_type": "exist",
         "question": "Are there any top-mid things left of the top-mid hook instrument?", "relation": "relate_spatial",
         "group": "VID01", "split": "val"},
    ]  # fmt: skip
    expected = [(image, split) for image, split in (("VID01/000002.png", "val"), ("VID01/000010.png", "val"),
                ("VID02/000007.png", "test"), ("VID80/000001.png", "train")) for _ in range(3)]  # fmt: skip
    assert only(rows, "image", "split") == expected and not dropped


def test_real_ssg_vqa(shared, tmp_path):
    folder = shared / "real-data" / "ssg_vqa"
    lines = (folder / "VID01_262.sample.txt").read_text(encoding="utf-8").splitlines()
    rows, _ = converted("ssg-vqa", lay(tmp_path / "src", of={"qa_txt/VID01/262.txt": lines}), tmp_path / "dst")
    assert Counter(only(rows, "image", "group", "split")) == {("VID01/000262.png", "VID01", "val"): 19}
    assert Counter(row.get("template") for row in rows) == {
        None: 4, "single_and.json": 4, "zero_hop.json": 1, "one_hop.json": 10
    }  # fmt: skip
    assert [row["point"] for row in rows if "point" in row] == [[157.0, 60.0], [203.5, 207.0]]
    for split, videos in SSG.items():
        assert set(json.loads((folder / f"{split}_videos.json").read_text())) == {f"VID{video:02}" for video in videos}


SSG_SHAPES = "question|answer or question|answer|[x, y] or question|answer|template|query_type|relation"
BROKEN = {
    "four fields": ("ssg-vqa", {"qa_txt/VID01/1.txt": [*SSG_LINES, "q|a|zero_hop.json|count"]},
                    f"qa_txt/VID01/1.txt:6: has 4 fields, not {SSG_SHAPES}; correct or delete the line"),
    "no captions": ("ssg-vqa", {"qa_txt/VID01/1.txt": SSG_LINES[4:]},
                    "qa_txt/VID01/1.txt:1: is no scene caption, which a file's first two lines are; add the captions"),
    "no point": ("ssg-vqa", {"qa_txt/VID01/1.txt": [*SSG_LINES, "q|a|[1.0]"]},
                 "qa_txt/VID01/1.txt:6: the point is '[1.0]', not 2 numbers; correct or delete the line"),
    "one field": ("ssg-vqa", {"qa_txt/VID01/1.txt": [*SSG_LINES, "q"]},
                                        f"qa_txt/VID01/1.txt:6: has 1 field, not {SSG_SHAPES}; correct or delete the line"),
    "no number of a frame": ("ssg-vqa", {"VID01/a.txt": SSG_LINES}, "VID01/a.txt: its name is no frame number; name it N.txt or remove it"),
    "no scenes": ("ssg-vqa", {"a.txt": []}, ": has no VID*/*.txt; give the folder with qa_txt/VID01/1.txt"),
    "no questions": ("cholec80-vqa", {"a.txt": []}, ": has no Classification/*/*.txt; give the folder Cholec80-VQA"),
    "three fields": ("cholec80-vqa", {"Classification/5/100_QA.txt": ["q|a", "q|a|b"]},
                     "Classification/5/100_QA.txt:2: has 3 fields, not question|answer; correct or delete the line"),
    "no frame number": ("cholec80-vqa", {"Classification/5/notes.txt": ["q|a"]},
                        "Classification/5/notes.txt: its name is no frame number; name it FRAME_QA.txt or remove it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC{'/' * (message[0] != ':')}{message}"
