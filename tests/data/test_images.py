"""Image files: every way a file can be wrong, and one source of sizes.    python -m pytest tests/data/test_images.py -v"""

import json

import pytest
from PIL import Image

from config import ImageConfig
from data import images
from data.images import check_images, image_path, image_token_count, load_image
from files import UserError


@pytest.fixture
def folder(tmp_path):
    Image.effect_noise((300, 200), 80).convert("RGB").save(tmp_path / "good.jpg", quality=90)
    return tmp_path


def row(name):
    return {"id": "r7", "image": name}


def check(folder, name):
    return check_images([row(name)], folder, folder / "cache.json")


def test_size_is_width_height(folder):
    assert check(folder, "good.jpg") == {"good.jpg": (300, 200)}


@pytest.mark.parametrize(
    "make, problem",
    [
        (lambda path: None, "does not exist; correct the row or data.image_root"),
        (lambda path: path.write_text("not an image"), "can't be read .*; replace or remove it"),
        (lambda path: path.write_bytes((path.parent / "good.jpg").read_bytes()[:-3000]), "can't be read .*truncated"),
        (lambda path: path.write_bytes(b""), "can't be read"),
        (lambda path: path.mkdir(), "can't be read"),
        (lambda path: Image.new("L", (2000, 5)).save(path), "can't be read .*aspect ratio"),
    ],
)
def test_a_bad_image_is_named_with_its_row(folder, make, problem):
    make(folder / "bad.png")
    with pytest.raises(UserError, match=f"row 'r7': image .*bad.png {problem}") as error:
        check(folder, "bad.png")
    assert "\n" not in str(error.value)


def test_a_truncated_png_is_found(folder):
    Image.effect_noise((300, 200), 80).save(folder / "whole.png")
    (folder / "bad.png").write_bytes((folder / "whole.png").read_bytes()[:-2000])
    with pytest.raises(UserError, match="bad.png can't be read"):
        check(folder, "bad.png")


def test_decompression_bombs_are_refused(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # 60,000 pixels: only a warning in Pillow's own terms
    with pytest.raises(UserError, match="has more than 50,000 pixels; shrink it"):
        check(folder, "good.jpg")


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd"])
def test_names_that_lead_out_of_the_root_are_refused(folder, name):
    with pytest.raises(UserError, match="row 'r7': image .* lies outside data.image_root"):
        check(folder, name)
    assert image_path(folder, "a/../good.jpg") == str(folder / "good.jpg")
    assert image_path(folder, str(folder / "good.jpg")) == str(folder / "good.jpg")


def test_unchanged_files_are_not_decoded_again_and_changed_ones_are(folder, monkeypatch):
    check(folder, "good.jpg")
    monkeypatch.setattr(images, "check_image", lambda path: pytest.fail("decoded again"))
    assert check(folder, "good.jpg") == {"good.jpg": (300, 200)}
    monkeypatch.undo()
    Image.new("RGB", (64, 64)).save(folder / "good.jpg")
    assert check(folder, "good.jpg") == {"good.jpg": (64, 64)}
    assert len(json.loads((folder / "cache.json").read_text())) == 1


@pytest.mark.parametrize("size, tokens", [((448, 448), 256), ((56, 56), 4), ((10, 10), 4), ((1920, 1072), 231), ((617, 1348), 230)])
def test_token_counts_agree_with_loading(tmp_path, size, tokens):
    Image.new("RGB", size).save(tmp_path / "image.png")
    loaded = load_image(tmp_path / "image.png", ImageConfig())
    assert loaded.width * loaded.height // 28**2 == image_token_count(size, ImageConfig()) == tokens
    assert loaded.mode == "RGB"


def test_token_counts_agree_with_the_image_processor(processor):
    for size in ((300, 200), (1348, 617), (40, 400), (112, 112)):
        grid = processor.image_processor(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"]
        limits = ImageConfig(min_pixels=3136, max_pixels=12544)
        assert int(grid.prod()) // 4 == image_token_count(size, limits)


def test_an_image_too_narrow_for_the_pixel_limit_is_an_error():
    with pytest.raises(UserError, match="an image of 33 x 900 pixels is too narrow for image.max_pixels=12544"):
        image_token_count((33, 900), ImageConfig(max_pixels=12544))


def test_an_image_that_went_away_after_its_check_is_named(folder):
    with pytest.raises(UserError, match=r"image .*gone.png can't be read any more \(No such file or directory\); put it back"):
        load_image(folder / "gone.png", ImageConfig())
