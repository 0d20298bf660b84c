"""Rows about several images: read or refused, and never torn apart by splits, counts, groups and pages.

python -m pytest tests/data/test_clips.py -v
"""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from config import Config, DataConfig
from data import answer_space, personal
from data.check import check, clean, personal_rows, read_raw
from data.contents import picture_hashes
from data.images import check_images
from data.rows import read_rows
from data.split import config_lines, describe, folds_jsonl, split_jsonl
from data.suspects import pair_of
from data.thumbnails import THUMBNAIL, Thumbnails
from files import UserError, read_jsonl, sha256, write_jsonl

ROW = {"question": "Is there a polyp?", "answer": "yes"}


def rows_of(folder, *rows):
    write_jsonl(folder / "rows.jsonl", [{**ROW, **row} for row in rows])
    return folder / "rows.jsonl"


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
    (found,) = read_rows(rows_of(tmp_path, row))
    assert (found["image"], found.get("images")) == (image, images) and ("images" in found) == bool(images)
    assert [list(item.images) for item in read_raw(tmp_path / "rows.jsonl")] == [images or [image]]


def test_rows_of_one_image_are_written_as_before(tmp_path):
    """Enriched rows are hashed: keys and their order are those of the file, and what was absent comes last."""
    rows = [{"image": "a.png", "k": 1}, {"image_filename": "a.png", "k": 1, "id": "x"}]
    assert [list(row) for row in read_rows(rows_of(tmp_path, *rows))] == [
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
    path = rows_of(tmp_path, {"image": "x.png"}, row)
    with pytest.raises(UserError, match=f"^{path}:2: .*{said}"):
        list(read_rows(path))
    junk = [item.junk for item in read_raw(path)]
    assert junk[0] is None and junk[1] == ("with images that aren't a list of files, or another image than the first of them"
                                           if row else "without an image")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number, name in enumerate("abcdefgh"):
        pixels = rng.integers(0, 255, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60 + number, 40), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    return tmp_path


def test_every_image_of_a_list_is_checked_and_hashed_unless_it_is_thinned_away(folder):
    (row,) = read_rows(rows_of(folder, {"images": ["a.png", "gone.png", "b.png"]}))
    with pytest.raises(UserError, match="row '0': image .*gone.png does not exist"):
        check_images([row], folder, folder / "cache.json")
    assert check_images([row], folder, folder / "cache.json", max_frames=2) == {"a.png": (60, 40), "b.png": (61, 40)}
    hashes = dict(picture_hashes([row], folder, folder / "hashes.json"))
    assert hashes == {"a.png": sha256(folder / "a.png"), "b.png": sha256(folder / "b.png"), "gone.png": None}


# --- splits


def chain(*lists):
    """Rows about these images, letters for names."""
    return [{"images": [f"{name}.png" for name in names]} if len(names) > 1 else {"image": f"{names}.png"} for names in lists]


@pytest.mark.parametrize("near", ["on", "off"])
@pytest.mark.parametrize("by", ["group", "image"])
def test_rows_that_share_an_image_stay_together(folder, near, by):
    path = rows_of(folder, *chain("ab", "c", "de", "cb", "f", "g", "h", "ed", "d"))
    for seed in range(8):
        result = split_jsonl(path, folder / "split", seed=seed, val=0.3, test=0.3, by=by, near=near)
        part_of = {}
        for part in result["splits"]:
            for _, row in read_jsonl(folder / "split" / f"{part}.jsonl"):
                for name in row.get("images") or [row["image"]]:
                    assert part_of.setdefault(name, part) == part
        assert len({part_of[f"{name}.png"] for name in "abc"}) == len({part_of[f"{name}.png"] for name in "de"}) == 1
        assert sum(facts["groups"] for facts in result["splits"].values()) == 5
        assert sum(facts["images"] for facts in result["splits"].values()) == 8
        assert near == "off" or result["near_duplicates"]["groups_joined"] == 0
        assert list(describe(result))
    assert "image_root: " in config_lines(path, {"train": path})


def test_folds_keep_them_together_too(folder):
    path = rows_of(folder, *chain("ab", "c", "bc", "d", "e", "f"))
    folds_jsonl(path, folder / "folds", 3)
    held_out = [{row["id"] for _, row in read_jsonl(folder / "folds" / f"fold_{fold}" / "val.jsonl")} for fold in range(3)]
    assert any({"0", "1", "2"} <= ids for ids in held_out) and sum(map(len, held_out)) == 6


def test_near_duplicates_of_any_image_join_rows(folder):
    Image.open(folder / "b.png").save(folder / "copy.png")
    result = split_jsonl(rows_of(folder, *chain("ab", "c", "d"), {"images": ["e.png", "copy.png"]}), folder / "split")
    assert sum(facts["groups"] for facts in result["splits"].values()) == 3 and result["near_duplicates"]["groups_joined"] == 1


def test_an_image_of_two_patients_is_refused(folder):
    path = rows_of(folder, {"images": ["a.png", "b.png"], "group": "p"}, {"images": ["c.png", "b.png"], "group": "q"})
    with pytest.raises(UserError, match="rows.jsonl:2: image b.png is of group q, on line 1 of p; give it one group"):
        split_jsonl(path, folder / "split")
    assert split_jsonl(path, folder / "split", by="image", val=0, test=0)["splits"]["train"]["groups"] == 1


# --- the doctor


def test_the_doctor_looks_at_every_image(folder):
    (folder / "broken.png").write_bytes(b"no picture")
    train = rows_of(folder, *chain("ab", "ab", "ba", "c"), {"images": ["c.png", "broken.png"], "answer": "no"}).rename(folder / "t.jsonl")
    val = rows_of(folder, *chain("db", "ef"))
    report = check({"train": train, "val": val}, Config(), folder, tokens=False)
    facts = report["splits"]["train"]
    assert (facts["rows"], facts["images"], facts["duplicates"], facts["conflicting_pairs"]) == (5, 4, 1, 0)
    assert facts["questions_per_image"]["max"] == 1, "questions about one list, in its order"
    assert report["between"]["train and val"] == {
        "names": 1, "groups": 0, "copies": 0, "near_duplicates": 0, "rows": 1, "example": "b.png"
    }  # fmt: skip
    assert report["images"]["unreadable"] == 1 and report["images"]["read"] == 6
    kept, changes = clean(read_raw(train))
    assert changes["removed"]["duplicates"] == 1 and [row["images"] for row in kept[:2]] == [["a.png", "b.png"], ["b.png", "a.png"]]


def test_file_names_of_every_image_are_searched_for_people(tmp_path):
    rows = read_raw(rows_of(tmp_path, {"images": ["a.png", "Herr_Mueller/b.png"]}, {"image": "a.png"}))
    found = personal.count(personal_rows(rows))
    assert found["file names"]["rows"] == {"name": 1} and found["file names"]["first"][0][0] == "0"


def test_what_a_model_was_trained_on_is_known_by_the_whole_list():
    row = {**ROW, "image": "a.png", "images": ["a.png", "./b.png"]}
    assert pair_of(row) == pair_of({**ROW, "images": ["a.png", "b.png"]}) != pair_of({**ROW, "image": "a.png"})


# --- what counts as independent


@pytest.mark.parametrize(("apart", "closed"), [(True, True), (False, False)])
def test_clips_that_overlap_are_one_group_for_the_answer_space(apart, closed):
    """Forty clips, each of two images: of its own, or the second of which is the next one's first."""
    step = 2 if apart else 1
    rows = [
        {"id": str(n), "question": "Where is it?", "answer": "left" if n % 2 else "right", "image": f"{n * step}.png",
         "images": [f"{n * step}.png", f"{n * step + 1}.png"]} for n in range(40)
    ]  # fmt: skip
    found = [entry["candidates"] for entry in answer_space.mine(rows, DataConfig())["questions"].values()]
    assert found == ([["left", "right"]] if closed else [])


# --- pages


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_a_page_shows_a_list_as_one_sheet(folder):
    pages = Thumbnails(folder)
    alone = picture(pages.get(["a.png"]))
    assert alone.size == (60, 40) and picture(pages.get(["a.png", "b.png"])).size == (121 + 1, 40)
    four = np.asarray(picture(pages.get([f"{name}.png" for name in "abcd"])), int)
    assert four.shape == (80, 126, 3)
    for place, name in enumerate("abcd"):
        one = np.asarray(Image.open(folder / f"{name}.png"), int)
        part = four[place // 2 * 40 :, place % 2 * 63 :][:40, : one.shape[1]]
        assert np.abs(part - one).mean() < 12
    many = picture(pages.get([f"{name}.png" for name in "abcdefgh"] * 9))
    assert many.width <= THUMBNAIL and pages.get(["gone.png", "a.png"]) and pages.get(["gone.png", "gone2.png"]) is None
    assert json.dumps(pages.get([])) == "null"
