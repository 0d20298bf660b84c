"""Small copies of pictures: of clips side by side, made once, within a budget, of what lies in the folder alone.

python -m pytest tests/data/test_thumbnails.py -v
"""

import base64
import io
import json

import numpy as np
import pytest
from data_sets import eight_pictures
from PIL import Image

from data.thumbnails import IMAGE_BYTES, THUMBNAIL, Thumbnails


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_a_page_shows_a_list_as_one_sheet(tmp_path):
    folder = eight_pictures(tmp_path)
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


def test_a_copy_is_made_once_and_pages_hold_as_much_as_the_budget(tmp_path):
    folder = eight_pictures(tmp_path)
    pages = Thumbnails(folder)
    uri = pages.get(["a.png"])
    (folder / "a.png").write_bytes((folder / "b.png").read_bytes())
    assert pages.get(["a.png"]) == uri != Thumbnails(folder).get(["a.png"])
    assert pages.budget == IMAGE_BYTES - 2 * len(uri), "the page holds it twice"
    for budget, shown in ((2, 2), (1.9, 1), (0.9, 0)):
        page = Thumbnails(folder, int(budget * len(uri)))
        page.made["a.png",] = uri
        assert [page.get(["a.png"]) for _ in range(3)] == [uri] * shown + [None] * (3 - shown)


def test_without_a_folder_or_outside_it_there_is_no_picture(tmp_path):
    eight_pictures(tmp_path)
    (tmp_path / "in").mkdir()
    assert Thumbnails(None).get(["a.png"]) is None and Thumbnails(tmp_path / "in").get(["../a.png"]) is None
    assert Thumbnails(tmp_path).get(["in/../a.png"]) and Thumbnails(tmp_path).get([]) is None, "a row may name no picture"


def test_a_copy_fits_and_says_nothing_that_the_original_says_of_itself(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "Anna Meier"
    Image.effect_noise((1280, 800), 60).save(tmp_path / "a.jpg", comment=b"Anna Meier", exif=exif)
    copy = picture(Thumbnails(tmp_path).get(["a.jpg"]))
    assert copy.size == (THUMBNAIL, 200) and copy.mode == "RGB" and not {"comment", "exif"} & copy.info.keys()


def test_of_a_long_clip_nine_frames_evenly_spaced_are_three_by_three(tmp_path):
    names = [f"{number}.png" for number in range(10)]
    for number, name in enumerate(names):
        Image.new("L", (640, 480), 25 * number).save(tmp_path / name)
    sheet = np.asarray(picture(Thumbnails(tmp_path).get(names)).convert("L"), int)
    assert sheet.shape == (240, 318)
    shown = [sheet[40 + 80 * (place // 3), 53 + 106 * (place % 3)] / 25 for place in range(9)]
    assert shown == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 9], abs=0.1)
