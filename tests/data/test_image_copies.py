"""Copies of pictures, and what the doctor says of the files: turned ones, misspelled names, no contrast, what training refuses.

python -m pytest tests/data/test_image_copies.py -v
"""

import json

import pytest
from PIL import Image, ImageFilter, ImageOps

from config import Config
from data.check import check, read_raw, shared_between
from data.image_copies import Picture, look_at, look_at_images


def picture(size=(200, 160)):
    """Blurred noise, which has contrast everywhere and is not symmetric."""
    return ImageOps.autocontrast(Image.effect_noise(size, 90).filter(ImageFilter.GaussianBlur(16))).convert("RGB")


def rows_file(folder, names, name):
    rows = [{"image": image, "question": "Is there text?", "answer": ("yes", "no")[at % 2]} for at, image in enumerate(names)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("tag", range(2, 9))
def test_a_turned_twin_is_a_copy_and_a_leak(tmp_path, tag):
    upright = picture()
    upright.save(tmp_path / "upright.jpg")
    upright.getexif()[0x0112] = {6: 8, 8: 6}.get(tag, tag)
    exif = Image.Exif()
    exif[0x0112] = tag
    ImageOps.exif_transpose(upright).save(tmp_path / "turned.jpg", exif=exif)
    rows = {
        "train": read_raw(rows_file(tmp_path, ["upright.jpg"], "train.jsonl")),
        "val": read_raw(rows_file(tmp_path, ["turned.jpg"], "val.jsonl")),
    }
    pictures = look_at_images(tmp_path, ["upright.jpg", "turned.jpg"])
    assert shared_between(rows, pictures)["train and val"]["near_duplicates"] == 1
    assert [(found.size, found.turned) for found in pictures.values()] == [((200, 160), True), ((200, 160), False)]


def test_the_doctor_compares_names_as_training_does(tmp_path):
    train, val = rows_file(tmp_path, ["./a.jpg", "b//c.jpg"], "train.jsonl"), rows_file(tmp_path, ["a.jpg", "b/./c.jpg"], "val.jsonl")
    report = check({"train": train, "val": val}, Config(), tokens=False)
    assert report["between"]["train and val"]["names"] == 2 and report["splits"]["train"]["images"] == 2


def test_the_doctor_counts_what_training_would_refuse_or_could_not_see(tmp_path):
    for name in ("good.png", "Big.PNG"):
        picture().save(tmp_path / name)
    Image.new("L", (2000, 5), 90).save(tmp_path / "long.png")
    Image.new("L", (2100, 5), 90).save(tmp_path / "longer.png")
    Image.new("L", (50, 50)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no image")
    names = ["good.png", "big.png", "long.png", "longer.png", "black.png", "text.png", "gone.png", "data:image/png;base64," + "A" * 90_000]
    report = check({"train": rows_file(tmp_path, names, "train.jsonl")}, Config(), tmp_path, tokens=False)
    facts, said = report["images"], [finding["text"] for finding in report["findings"]]
    assert (facts["read"], facts["missing"], facts["unreadable"], facts["misspelled"]) == (4, 2, 3, 1)
    assert (facts["turned"], facts["without_contrast"]) == (0, 3)
    find = lambda part: next(text for text in said if part in text)
    assert find("1 with an image that is no file").startswith("train: 1 of 8 rows (12.5%) are junk")
    refused = find("2 images missing, 3 unreadable or unusable")
    for kind in ("big.png: missing", "long.png: unusable (an image of 2000 x 5 pixels", "text.png: unreadable (not an image)"):
        assert kind in refused
    assert find("another spelling").startswith(
        "1 of the missing images are there under another spelling, such as big.png, which is Big.PNG;"
    )
    assert find("3 images have no contrast (black, white or one colour), such as black.png, long.png, longer.png; nothing can be seen")
    assert max(map(len, said)) < 600


def test_a_file_that_is_missing_names_its_twin(tmp_path):
    picture().save(tmp_path / "a.jpg")
    assert look_at(tmp_path, "A.jpeg") == Picture(problem="missing", there="a.jpg")
    assert look_at(tmp_path, "x" * 5000).problem == "missing" and look_at(tmp_path, "../a.jpg").there is None
