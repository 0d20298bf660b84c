"""What readers of several families share: official splits, names below a folder, what isn't what it should be.

python -m pytest tests/data/formats/test_common.py -v
"""

import json
import re

import pytest
from data_sets import lay

from data.formats.cholec import CHOLEC80, SSG
from data.formats.common import Request, check_texts, image_below, official
from data.formats.endovis import ENDOVIS_18
from data.formats.pitvqa import PITVQA
from files import UserError


@pytest.mark.parametrize(
    ("splits", "sizes", "absent"),
    [
        (ENDOVIS_18, {"train": 11, "val": 3}, {8, 13}),
        (CHOLEC80, {"train": 32, "val": 8}, {0, 41}),
        (PITVQA, {"train": 20, "val": 5}, {0, 26}),
        (SSG, {"train": 35, "val": 5, "test": 5}, {3, 81}),
    ],
)
def test_official_splits_are_disjoint_and_of_the_published_size(splits, sizes, absent):
    assert {split: len(videos) for split, videos in splits.items()} == sizes
    assert len(set().union(*splits.values())) == sum(sizes.values())
    assert not absent & set().union(*splits.values())


def test_official_splits_are_the_published_videos():
    """Typed in from the data sets' own lists: one video in another split would be learnt and then tested."""
    assert ENDOVIS_18 == {"train": {2, 3, 4, 6, 7, 9, 10, 11, 12, 14, 15}, "val": {1, 5, 16}}
    assert (CHOLEC80["val"], PITVQA["val"]) == ({5, 11, 12, 17, 19, 26, 27, 31}, {2, 6, 12, 13, 24})
    assert set().union(*CHOLEC80.values()) == set(range(1, 41)) and set().union(*PITVQA.values()) == set(range(1, 26))
    assert (SSG["val"], SSG["test"]) == ({1, 18, 31, 35, 48}, {2, 22, 43, 60, 74})


@pytest.mark.parametrize("texts", ["a", [], ["a", 1], ["a", " "], None])
def test_texts_are_a_list_of_texts_with_something_in_them(texts):
    check_texts(["a", "b c"], "r.jsonl:1", "answers")
    with pytest.raises(UserError, match=re.escape(f"r.jsonl:1: answers are {json.dumps(texts)}, not a list of texts; correct or delete")):
        check_texts(texts, "r.jsonl:1", "answers")


def test_the_first_number_of_a_name_tells_its_official_split():
    splits, names = {"val": {5}, "train": {1, 12}}, ("seq_5", "video_05", "VID12", "12_5", "seq", "6")
    assert [official(splits, name) for name in names] == [
        "val",
        "val",
        "train",
        "train",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("v/b.jpg", "v/b.jpg"), ("./v//b.jpg", "v/b.jpg"), ("v\\b.jpg", "v/b.jpg"), ("d.jpg", "images/d.jpg"), ("a.jpg", "a.jpg"),
        ("/x/images/a.jpg", "images/a.jpg"), ("D:\\x\\a.jpg", "images/a.jpg"), ("/x/v/b.jpg", "v/b.jpg"), ("x/y/c.jpg", "c.jpg"),
        ("../v/b.jpg", "v/b.jpg"), ("../v/outside.jpg", "v/outside.jpg"), ("x/y/gone.jpg", "x/y/gone.jpg"), ("/x/y/gone.jpg", "y/gone.jpg"),
    ],
)  # fmt: skip
def test_a_path_of_another_machine_is_found_below_the_folder(tmp_path, path, name):
    """The whole, then the last two parts, then the file alone; nothing that leads out of the folder."""
    lay(tmp_path, images=("v/outside.jpg",))
    root = lay(tmp_path / "root", images=("images/a.jpg", "a.jpg", "v/b.jpg", "c.jpg", "images/d.jpg"))
    assert image_below(root, path) == name


def test_junk_needs_no_image_unless_it_is_kept(tmp_path):
    rows = [{"question": "q", "answer": True}, {"question": "none", "answer": "a"}, {"question": "q", "answer": None}]
    for keep_junk, wanted in ((False, [True, False, False]), (True, [True, True, True])):
        request = Request(tmp_path, tmp_path, keep_junk=keep_junk)
        assert [request.wants("t: row 1", row) for row in rows] == wanted
        assert not request.converted, "the row is changed, and counted, later"
