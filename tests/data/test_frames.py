"""Frames of clips made here: which ones, masked before anything is written, and clips that break off.

python -m pytest tests/data/test_frames.py -v
"""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from data.frames import extract_frames, main, mask, seconds
from data.rows import read_rows
from files import UserError, read_json, write_jsonl

RATE = 10


def grey(number):
    return 40 + 2 * number


def make_clip(path, frames=25, size=(96, 64), start=0, noise=False, pixel_aspect=None, turn=None, **options):
    """A clip of ten frames a second, each of its own grey, with a white corner as if a name stood there."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 8_000_000
        stream.codec_context.sample_aspect_ratio = pixel_aspect or Fraction(1)
        if turn:
            stream.set_display_rotation(*turn)
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), grey(number), np.uint8)
            pixels[:20, :40] = 255
            pixels = rng.integers(0, 255, pixels.shape, dtype=np.uint8) if noise else pixels
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = number + start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "op 1.mp4")


@pytest.mark.parametrize(
    ("every", "numbers"),
    [("1s", [0, 10, 20]), ("500ms", [0, 5, 10, 15, 20]), ("0.3s", [0, 3, 6, 9, 12, 15, 18, 21, 24]), ("1min", [0]), ("1ms", range(25))],
)
def test_one_frame_every_so_long_named_by_seconds(clip, tmp_path, every, numbers):
    paths = extract_frames(clip, tmp_path, seconds(every))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"op 1/{number / RATE:09.3f}.jpg" for number in numbers]
    for path, number in zip(paths, numbers):
        picture = np.asarray(Image.open(path), int)
        assert picture.shape == (64, 96, 3) and abs(picture[40:, 50:].mean() - grey(number)) < 2
    facts = read_json(tmp_path / "op 1" / "frames.json")
    assert facts["frames"] == [path.name for path in paths] and facts["size"] == [96, 64] and facts["masks"] == []


def test_time_begins_with_the_clip(tmp_path):
    paths = extract_frames(make_clip(tmp_path / "late.mkv", start=33), tmp_path, 1.0)
    assert [path.stem for path in paths] == ["00000.000", "00001.000", "00002.000"]


def test_pictures_are_jpeg_of_quality_95_with_their_colours_whole(clip, tmp_path):
    (path,) = extract_frames(clip, tmp_path, 60)
    Image.new("RGB", (8, 8)).save(tmp_path / "as asked.jpg", quality=95)
    with Image.open(path) as picture, Image.open(tmp_path / "as asked.jpg") as asked:
        assert (picture.format, picture.quantization) == ("JPEG", asked.quantization)
        assert JpegImagePlugin.get_sampling(picture) == 0 and not picture.getexif()


def test_masks_are_black_in_what_is_written(clip, tmp_path):
    for path in extract_frames(clip, tmp_path, 1.0, [(0, 0, 40, 20), (90, 60, 96, 64)]):
        picture = np.asarray(Image.open(path), int)
        assert picture[:20, :40].max() < 12 and picture[60:, 90:].max() < 12 and picture[24:56, 44:88].min() > 30


def test_a_clip_is_turned_as_it_says(clip, tmp_path):
    """A phone's: its header says a quarter turn clockwise."""
    matrix = lambda a, b, c, d: struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content = clip.read_bytes()
    at = content.index(matrix(1, 0, 0, 1), content.index(b"tkhd"))
    (tmp_path / "turned.mp4").write_bytes(content[:at] + matrix(0, 1, -1, 0) + content[at + 36 :])
    picture = np.asarray(Image.open(extract_frames(tmp_path / "turned.mp4", tmp_path, 9)[0]), int)
    assert picture.shape == (96, 64, 3) and picture[:36, 48:].min() > 200 and picture[44:].max() < 90
    with pytest.raises(UserError, match="turned.mp4, which has 64 x 96 pixels"):
        extract_frames(tmp_path / "turned.mp4", tmp_path / "masked", 9, [(0, 0, 96, 10)])


@pytest.mark.parametrize(
    ("name", "pixel_aspect", "size"),
    [
        ("a.mp4", (64, 45), (137, 64)),
        ("a.mkv", (64, 45), (137, 64)),
        ("a.avi", (8, 9), (96, 72)),
        ("a.mp4", (2, 1), (192, 64)),
        ("a.mp4", (1, 1), (96, 64)),
    ],
)
def test_pixels_that_are_not_square_are_shown_as_a_player_does_and_said_once(tmp_path, name, pixel_aspect, size):
    said = []
    clip = make_clip(tmp_path / name, 12, pixel_aspect=Fraction(*pixel_aspect))
    paths = extract_frames(clip, tmp_path / "frames", 1.0, [(size[0] - 4, size[1] - 4, *size)], say=said.append)
    assert [Image.open(path).size for path in paths] == [size, size]
    picture, corner = np.asarray(Image.open(paths[0]), int), (round(size[0] / 96 * 40), round(size[1] / 64 * 20))
    assert picture[: corner[1] - 3, : corner[0] - 3].min() > 200 and picture[corner[1] + 4 :].max() < 100, "the white corner's own form"
    assert picture[-3:, -3:].max() < 12, "a mask is where the picture is seen"
    ratio = f"{pixel_aspect[0]}:{pixel_aspect[1]}"
    line = f"{clip}: its pixels are {ratio}; pictures are written as it is shown, {size[0]} x {size[1]}, not 96 x 64 as stored"
    assert said == [line] * (ratio != "1:1")
    assert extract_frames(clip, tmp_path / "frames", 1.0, [(size[0] - 4, size[1] - 4, *size)], say=said.append) == paths, "started again"


CORNERS = {"upper left": (slice(3, 14), slice(3, 14)), "upper right": (slice(3, 14), slice(-14, -3))}
CORNERS |= {"lower left": (slice(-14, -3), slice(3, 14)), "lower right": (slice(-14, -3), slice(-14, -3))}


@pytest.mark.parametrize(
    ("turn", "size", "corner"),
    [
        ((0, True, False), (96, 64), "upper right"),
        ((0, False, True), (96, 64), "lower left"),
        ((180, False, False), (96, 64), "lower right"),
        ((90, False, False), (64, 96), "lower left"),
        ((-90, False, False), (64, 96), "upper right"),
        ((90, True, False), (64, 96), "lower right"),
        ((90, False, True), (64, 96), "upper left"),
    ],
)
def test_clips_are_turned_and_mirrored_as_they_say(tmp_path, turn, size, corner):
    (path,) = extract_frames(make_clip(tmp_path / "a.mp4", 3, turn=turn), tmp_path / "frames")
    picture = Image.open(path)
    found = {name: np.asarray(picture, int)[place].mean() for name, place in CORNERS.items()}
    assert picture.size == size and max(found, key=found.get) == corner and found[corner] > 200


def test_frames_of_two_ways_never_mix(clip, tmp_path):
    before = [path.read_bytes() for path in extract_frames(clip, tmp_path, 1.0)]
    assert [path.read_bytes() for path in extract_frames(clip, tmp_path, 1.0)] == before, "started again"
    for changed in ({"every": 0.5}, {"every": 1.0, "masks": [(0, 0, 40, 20)]}):
        with pytest.raises(UserError, match="op 1: holds other files than frames that were made just so; delete it"):
            extract_frames(clip, tmp_path, **changed)
    (tmp_path / "x" / "op 1").mkdir(parents=True)
    (tmp_path / "x" / "op 1" / "mine.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="holds other files"):
        extract_frames(clip, tmp_path / "x")


def test_a_clip_that_breaks_off_keeps_the_frames_before(tmp_path):
    content = make_clip(tmp_path / "whole.mp4", 60, noise=True, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut.mp4: breaks off after [23]\.\d of 6.0 s; give a whole clip; the \d frames before .* kept in"):
        extract_frames(tmp_path / "cut.mp4", tmp_path)
    assert len(list((tmp_path / "cut").glob("*.jpg"))) in (3, 4)
    (tmp_path / "later.mp4").write_bytes(content[: len(content) * 76 // 100])
    with pytest.raises(
        UserError, match=r"later.mp4: breaks off after 4\.[1-8] of 6.0 s; give a whole clip; the 5 frames before that are kept"
    ):
        extract_frames(tmp_path / "later.mp4", tmp_path)
    for name in ("whole.mkv", "whole.avi"):  # whose length stands elsewhere
        content_of = make_clip(tmp_path / name, 60, noise=True).read_bytes()
        cut = tmp_path / name.replace("whole", "cut")
        cut.write_bytes(content_of[: len(content_of) // 2])
        with pytest.raises(UserError, match=r"breaks off after [23]\.\d of \d.\d s; give a whole clip"):
            extract_frames(cut, tmp_path / cut.suffix)
        assert len(extract_frames(tmp_path / name, tmp_path / "wholes" / cut.suffix)) == 6
    (tmp_path / "headless.mp4").write_bytes(content[len(content) // 2 :])
    with pytest.raises(UserError, match=r"headless.mp4: can't be read \(.+\); give a whole clip$"):
        extract_frames(tmp_path / "headless.mp4", tmp_path)
    assert not (tmp_path / "headless").exists()


def test_what_is_no_clip_is_one_line(tmp_path):
    with pytest.raises(UserError, match="gone.mp4: no such file"):
        extract_frames(tmp_path / "gone.mp4", tmp_path)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(UserError, match="sound.wav: has no picture in it"):
        extract_frames(tmp_path / "sound.wav", tmp_path)


@pytest.mark.parametrize(
    ("read", "text"),
    [*((seconds, text) for text in ("", "0s", "-1s", "1h")), *((mask, text) for text in ("", "1,2,3", "5,0,5,9", "0,9,5,1", "-1,0,2,2"))],
)
def test_times_and_masks_are_refused_by_name(read, text):
    with pytest.raises(UserError, match=f"^--{'every' if read is seconds else 'mask'} '{text}': write "):
        read(text)


def test_what_is_to_be_written_is_said_whole():
    with pytest.raises(UserError) as error:
        mask("5,0,5,9")
    assert str(error.value) == "--mask '5,0,5,9': write x0,y0,x1,y1 in pixels, with x0 < x1 and y0 < y1"
    with pytest.raises(UserError) as error:
        seconds("1h")
    assert str(error.value) == "--every '1h': write a time such as 1s, 0.5s, 500ms or 2min"


@pytest.mark.parametrize(("text", "value"), [("2", 2), ("1s", 1), ("0.5 s", 0.5), ("500ms", 0.5), ("2min", 120), ("1.5min", 90)])
def test_times_as_people_write_them_are_seconds(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("0,0,1,1", (0, 0, 1, 1)), ("5, 60, 400, 61", (5, 60, 400, 61))])
def test_a_mask_is_four_numbers(text, value):
    assert mask(text) == value


def test_the_command_says_what_it_made_and_how_rows_name_it(clip, tmp_path, monkeypatch, capsys):
    argv = ["frames.py", str(clip), str(tmp_path / "frames")]
    monkeypatch.setattr("sys.argv", argv)
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{tmp_path}/frames/op 1: 3 frames, the last after 2 s",
        "nothing was masked: look whether a name is burnt into the picture (--mask x0,y0,x1,y1 blackens it)",
        f'rows name them below data.image_root, {tmp_path}/frames, such as "images": ["op 1/00000.000.jpg", "op 1/00001.000.jpg"]',
    ]
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a", "images": ["op 1/00000.000.jpg", "op 1/00001.000.jpg"]}])
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert all((tmp_path / "frames" / name).is_file() for name in row["images"])


def test_the_command_masks_every_place_and_takes_the_time_between_frames(clip, tmp_path, monkeypatch, capsys):
    masks = ["--mask", "0,0,40,20", "--mask", "90, 60, 96, 64"]
    monkeypatch.setattr("sys.argv", ["frames.py", str(clip), str(tmp_path), "--every", "1200ms", *masks])
    main()
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/op 1: 3 frames, the last after 2.4 s",
        f'rows name them below data.image_root, {tmp_path}, such as "images": ["op 1/00000.000.jpg", "op 1/00001.200.jpg"]',
    ]
    assert read_json(tmp_path / "op 1" / "frames.json") == {
        "clip": "op 1.mp4", "bytes": clip.stat().st_size, "every": 1.2, "masks": [[0, 0, 40, 20], [90, 60, 96, 64]], "size": [96, 64],
        "frames": ["00000.000.jpg", "00001.200.jpg", "00002.400.jpg"],
    }  # fmt: skip
    picture = np.asarray(Image.open(tmp_path / "op 1" / "00002.400.jpg"), int)
    assert picture[:20, :40].max() < 12 and picture[60:, 90:].max() < 12 and picture[24:56, 44:88].min() > 30
