"""Image files: every way a file can be wrong, and one source of sizes.    python -m pytest tests/data/test_images.py -v"""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from data_sets import eight_pictures, file_of
from PIL import Image, ImageOps, JpegImagePlugin

from config import ImageConfig
from data import images
from data.contents import picture_hashes
from data.image_names import image_path
from data.images import BadImage, check_images, image_token_count, load_image, open_image
from data.rows import read_rows
from data.thumbnails import Thumbnails
from files import UserError, sha256

ROOT = Path(__file__).resolve().parents[2]


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
        (lambda path: path.mkdir(), "is a folder; name a picture in it$"),
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
    monkeypatch.setattr(images, "check_image", lambda *_: pytest.fail("decoded again"))
    assert check(folder, "good.jpg") == {"good.jpg": (300, 200)}
    monkeypatch.undo()
    Image.new("RGB", (64, 64)).save(folder / "good.jpg")
    assert check(folder, "good.jpg") == {"good.jpg": (64, 64)}
    for second, size in ((1, (40, 80)), (2, (80, 40)), (2, (80, 80))):  # as many bytes at another time, more at the same time
        Image.new("RGB", size).save(folder / "same.bmp")
        os.utime(folder / "same.bmp", (second, second))
        assert check(folder, "same.bmp") == {"same.bmp": size}
    status = (folder / "good.jpg").stat()
    (folder / "cache.json").write_text(json.dumps({str(folder / "good.jpg"): f"9x9 {status.st_size} {status.st_mtime_ns}"}))
    assert check(folder, "good.jpg") == {"good.jpg": (64, 64)}, "a size kept by the code from before orientations is not believed"


@pytest.mark.parametrize("size, tokens", [((448, 448), 256), ((56, 56), 4), ((10, 10), 4), ((1920, 1072), 231), ((617, 1348), 230)])
def test_token_counts_agree_with_loading(tmp_path, size, tokens):
    Image.new("RGB", size).save(tmp_path / "image.png")
    loaded = load_image(tmp_path / "image.png", ImageConfig())
    assert loaded.width * loaded.height // 28**2 == image_token_count(size, ImageConfig()) == tokens
    assert loaded.mode == "RGB"
    of_qwen3 = load_image(tmp_path / "image.png", ImageConfig(), 16)
    assert of_qwen3.width % 32 == of_qwen3.height % 32 == 0
    assert of_qwen3.width * of_qwen3.height // 32**2 == image_token_count(size, ImageConfig(), 16)


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


# --- what a file's pixels mean ---


def scene():
    """A picture that no turn leaves as it is: 60 x 40, three corners coloured."""
    pixels = np.full((40, 60, 3), 90, np.uint8)
    pixels[:12, :12], pixels[:12, -12:], pixels[-12:, :12] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return Image.fromarray(pixels)


def stored(picture, tag):
    """The pixels that, turned by the tag, are the picture: Pillow turns it by the tag that undoes this one."""
    picture.getexif()[0x0112] = {6: 8, 8: 6}.get(tag, tag)
    return ImageOps.exif_transpose(picture)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_a_picture_is_turned_by_its_tag_everywhere(tmp_path, tag, suffix):
    exif, how = Image.Exif(), {"jpg": {"quality": 100, "subsampling": 0}, "tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    exif[0x0112] = tag
    path = tmp_path / f"a.{suffix}"
    stored(scene(), tag).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else how))
    opened = open_image(path)
    assert np.abs(np.asarray(opened.image, int) - np.asarray(scene(), int)).max() <= 8
    assert (opened.size, opened.turned) == ((60, 40), tag > 1)
    assert check(tmp_path, path.name) == {path.name: (60, 40)}
    limits = ImageConfig(min_pixels=784, max_pixels=60 * 40 * 4)
    assert np.abs(np.asarray(load_image(path, limits), int) - np.asarray(scene().resize((56, 28)), int)).max() <= 8
    small = Image.open(io.BytesIO(base64.b64decode(Thumbnails(tmp_path).get([path.name]).split(",")[1])))
    assert small.size == (60, 40) and np.abs(np.asarray(small, int) - np.asarray(scene(), int)).mean() < 6


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
@pytest.mark.parametrize("tag", range(2, 9))
def test_a_tiff_without_compression_is_turned_rightly_by_its_path_too(tmp_path, tag, mode):
    """Pillow maps such a file into memory, and garbles what it turns."""
    grey = np.asarray(scene().convert("L"))
    pixels = {"L": grey, "I;16": grey.astype(np.uint16) * 257, "RGB": np.asarray(scene())}[mode]
    exif = Image.Exif()
    exif[0x0112] = tag
    turned = stored(scene(), tag)
    turned = turned if mode == "RGB" else turned.convert("L")
    deep = Image.fromarray(np.asarray(turned).astype(np.uint16) * 257) if mode == "I;16" else turned
    deep.save(tmp_path / "a.tif", exif=exif)
    expected = pixels // 257 if mode == "I;16" else pixels
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif").image, int), expected.astype(int))


def png_of_16_bits(values, colour_type):
    """A PNG file of values (height, width, channels), written by hand: Pillow writes no colours of 16 bits."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels, colour_type", [(3, 2), (2, 4), (4, 6)], ids=["RGB", "LA", "RGBA"])
def test_colours_of_12_bits_in_16_are_refused_and_not_nearly_black(channels, colour_type):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60, 1).repeat(channels, 2)
    if channels != 3:
        values[..., -1] = 65535  # wholly there
    assert np.asarray(open_image(io.BytesIO(png_of_16_bits(values, colour_type))).image).max() == 255
    for bits, brightest in ((14, 63), (12, 15)):
        values[..., : 3 if channels > 2 else 1] /= 4
        with pytest.raises(BadImage, match=f"colours up to {brightest} of 255, as if {bits} bits were stored in 16"):
            open_image(io.BytesIO(png_of_16_bits(values, colour_type)))


@pytest.mark.parametrize("suffix", ["bmp", "tif", "png", "jp2"])
def test_a_dark_picture_of_8_bits_is_none_of_them(tmp_path, suffix):
    """Whatever numbers stand in its tiles: a line of this one has 164 bytes as BMP."""
    dark = np.full((16, 54, 3), 12, np.uint8)
    Image.fromarray(dark).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(np.asarray(open_image(tmp_path / f"a.{suffix}").image), dark)


def with_depth(values, suffix, bits):
    """A PGM, PPM or JPEG 2000 file of values (height, width[, 3]) below 2 ** bits that says so in its header."""
    if suffix in ("pgm", "ppm"):
        header = f"P{5 if values.ndim == 2 else 6}\n{values.shape[1]} {values.shape[0]}\n{2**bits - 1}\n"
        return header.encode() + values.astype(">u2").tobytes()
    buffer = io.BytesIO()  # a value v of 16 bits, saved without loss, is v >> 4 once the header says 12
    Image.fromarray(values.astype(np.uint16)).save(buffer, "JPEG2000", irreversible=False)
    content = bytearray(buffer.getvalue())
    content[content.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
    return bytes(content)


@pytest.mark.parametrize("bits", [12, 14])
@pytest.mark.parametrize("suffix", ["pgm", "ppm", "jp2"])
def test_a_file_that_says_how_many_bits_it_has_is_scaled_by_them(tmp_path, suffix, bits):
    """And a dark one stays dark."""
    grey = np.linspace(0, 2**bits - 1, 200).astype(np.uint16).reshape(10, 20)
    for values, brightest in ((grey, 255), (grey // 32, 8)):
        content = with_depth(values[..., None].repeat(3, 2) if suffix == "ppm" else values, suffix, bits)
        (tmp_path / f"a.{suffix}").write_bytes(content)
        if suffix == "jp2":  # the same bytes, said to be fewer bits: Pillow scales by what the header says
            deep = np.asarray(Image.open(tmp_path / "a.jp2"))
            assert not (deep & 3).any()
            assert np.array_equal(np.asarray(open_image(tmp_path / "a.jp2").image), np.rint(deep / 257))
        else:
            assert abs(int(np.asarray(open_image(tmp_path / f"a.{suffix}").image).max()) - brightest) <= 1


@pytest.mark.parametrize("bits", [12, 14])
def test_colours_of_fewer_bits_than_their_header_says_are_refused(tmp_path, bits):
    (tmp_path / "a.ppm").write_bytes(with_depth((WIDE >> 16 - bits)[..., None].repeat(3, 2), "ppm", 16))
    with pytest.raises(BadImage, match=f"colours up to {2 ** (bits - 8)} of 255, as if {bits} bits were stored in 16"):
        open_image(tmp_path / "a.ppm")


def test_eight_bits_in_sixteen_are_refused_in_colour_too(tmp_path):
    """Pillow keeps the upper byte of a colour, so that of these nothing is left: all black, in silence."""
    (tmp_path / "a.ppm").write_bytes(with_depth((WIDE >> 8)[..., None].repeat(3, 2), "ppm", 16))
    with pytest.raises(BadImage, match="colours up to [01] of 255, as if 12 bits were stored in 16"):
        open_image(tmp_path / "a.ppm")


def test_the_greatest_value_that_a_tiff_names_is_white(tmp_path):
    Image.fromarray(WIDE // 16).save(tmp_path / "a.tif", tiffinfo={281: 4095})
    assert np.abs(np.asarray(open_image(tmp_path / "a.tif").image, int) - np.rint(WIDE // 16 / 4095 * 255)).max() <= 1


def test_a_broken_exif_part_turns_nothing_and_says_nothing(tmp_path):
    for name, exif in (("a.jpg", b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x09\x01"), ("b.jpg", b"Exif\0\0nonsense")):
        scene().save(tmp_path / name, exif=exif)
    code = f"from data.images import open_image\nfor name in 'ab': print(open_image(f'{tmp_path}/{{name}}.jpg')[1:])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)  # pytest has its own warnings
    assert (result.stdout, result.stderr) == ("((60, 40), False)\n" * 2, "")


WIDE = np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("a.png", WIDE, np.rint(WIDE / 257)),
        ("a.tif", WIDE, np.rint(WIDE / 257)),
        ("a.pgm", WIDE, np.rint(WIDE / 257)),
        ("a.png", WIDE // 3, np.rint(WIDE // 3 / 257)),  # dark, but more than 14 bits
        ("a.png", WIDE // 14 // 16 * 16, np.rint(WIDE // 14 // 16 * 16 / 257)),  # 12 bits, scaled up: a dark picture
        ("a.tif", WIDE // 2570 * 257, WIDE // 2570),  # 8 bits, scaled up
        ("a.jp2", WIDE, np.rint(WIDE / 257)),
        ("a.png", np.zeros_like(WIDE), np.zeros_like(WIDE)),
        ("a.tif", (WIDE / 65535).astype(np.float32), np.rint(WIDE / 257)),
        ("a.tif", np.array([[-0.001, 0.5, 1.001]], np.float32), np.array([[0, 128, 255]])),
    ],
)
def test_deep_grey_values_are_scaled_by_what_their_mode_means(tmp_path, name, values, expected):
    """Pillow's own convert makes 16 bits white and floats from 0 to 1 black."""
    Image.fromarray(values).save(tmp_path / name)
    assert np.abs(np.asarray(open_image(tmp_path / name).image, int) - expected).max() <= 1
    assert load_image(tmp_path / name, ImageConfig()).mode == "RGB"


def test_white_is_zero_where_a_tiff_says_so(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(WIDE).save(path)
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # 262, PhotometricInterpretation, one short
    path.write_bytes(path.read_bytes().replace(tag + b"\x01", tag + b"\x00"))
    assert np.abs(np.asarray(open_image(path).image, int) - (255 - np.rint(WIDE / 257))).max() <= 1


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("a.png", WIDE // 16, "holds grey values from 0 to 4095 of 65,535, as if 12 bits were stored in 16"),
        ("a.png", WIDE // 4, "holds grey values from 0 to 16383 of 65,535, as if 14 bits were stored in 16"),
        ("a.pgm", WIDE // 16, "holds grey values from 0 to 4095 of 65,535, as if 12 bits were stored in 16"),
        ("a.jp2", WIDE // 16, "holds grey values from 0 to 4095 of 65,535, as if 12 bits were stored in 16"),
        ("a.tif", WIDE.astype(np.int32) - 1000, "holds grey values from -1000 to 64535 in 32 or signed bits"),
        ("a.tif", WIDE.astype(np.float32), "holds grey values from 0 to 65535 as floats, of which 0 to 1 are read"),
        ("a.tif", np.array([[0, np.nan]], np.float32), "holds grey values from nan to nan as floats"),
    ],
)
def test_grey_values_of_unknown_scale_are_refused_and_never_black_or_white_in_silence(tmp_path, name, values, why):
    Image.fromarray(values).save(tmp_path / name)
    with pytest.raises(UserError, match=f"row 'r7': image .*{name} {why}.*; save it with 8 bits$"):
        check(tmp_path, name)
    with pytest.raises(UserError, match=f"image .*{name} {why}.*; save it with 8 bits$"):
        load_image(tmp_path / name, ImageConfig())


def transparent(mode):
    """A picture, the left half 40 and not transparent, the right half 0 and wholly so."""
    grey, alpha = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    grey[:, :4], alpha[:, :4] = 40, 255
    image = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
    if mode in ("LA", "RGBA"):
        return image.convert(mode), {}
    if mode == "I;16":
        return Image.fromarray(np.where(alpha, 40 * 257, 65535 // 2).astype(np.uint16)), {"transparency": 65535 // 2}
    if mode in ("L", "RGB"):
        return Image.fromarray(grey).convert(mode), {"transparency": 0 if mode == "L" else (0, 0, 0)}
    palette = Image.fromarray(np.where(alpha, 1, 0).astype(np.uint8), "L")
    palette.putpalette([0, 0, 0, 40, 40, 40])
    return palette, {"transparency": b"\0\xff" if mode == "P bytes" else 0}


@pytest.mark.parametrize("mode", ["LA", "RGBA", "L", "RGB", "P", "P bytes", "I;16"])
def test_transparent_parts_are_white_whatever_the_mode(tmp_path, mode):
    image, how = transparent(mode)
    image.save(tmp_path / "a.png", **how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = np.asarray(open_image(tmp_path / "a.png").image.convert("RGB"))
    assert (found[:, :4] == 40).all() and (found[:, 4:] == 255).all() and not said


@pytest.mark.parametrize("mode, suffix", [("1", "png"), ("P", "gif"), ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("L", "bmp")])
def test_other_modes_keep_their_colours(tmp_path, mode, suffix):
    picture = scene().convert("L" if mode == "L" else "RGB").convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    found, expected = (np.asarray(image.convert("RGB"), int) for image in (open_image(tmp_path / f"a.{suffix}").image, picture))
    assert np.abs(found - expected).mean() < 8


def test_lab_is_refused_in_a_line(tmp_path):
    Image.new("LAB", (60, 40)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="image .*a.tif has its colours as LAB; save it as RGB"):
        check(tmp_path, "a.tif")


def test_metadata_stays_behind(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "patient Meier"  # ImageDescription
    scene().save(tmp_path / "a.jpg", comment="patient Meier", exif=exif)
    assert open_image(tmp_path / "a.jpg").image.info == {} and not open_image(tmp_path / "a.jpg").image.getexif()


def test_whatever_a_decoder_raises_is_one_short_line(tmp_path, monkeypatch):
    scene().save(tmp_path / "a.jpg")
    for error in (KeyError("x" * 9999), MemoryError(), AttributeError("a\nb")):
        monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", Mock(side_effect=error))
        with pytest.raises(BadImage) as said:
            open_image(tmp_path / "a.jpg")
        assert 0 < len(str(said.value)) <= 200 and "\n" not in str(said.value)


def test_every_image_of_a_list_is_checked_and_hashed_unless_it_is_thinned_away(tmp_path):
    folder = eight_pictures(tmp_path)
    (row,) = read_rows(file_of(folder, {"images": ["a.png", "gone.png", "b.png"]}))
    with pytest.raises(UserError, match="row '0': image .*gone.png does not exist"):
        check_images([row], folder, folder / "cache.json")
    assert check_images([row], folder, folder / "cache.json", max_frames=2) == {"a.png": (60, 40), "b.png": (61, 40)}
    hashes = dict(picture_hashes([row], folder, folder / "hashes.json"))
    assert hashes == {"a.png": sha256(folder / "a.png"), "b.png": sha256(folder / "b.png"), "gone.png": None}
