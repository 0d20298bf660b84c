"""Frames of a video clip as pictures: for rows about one of them, or about several in order (`images`).

    python -m data.frames CLIP.mp4 DST --every 1s [--mask x0,y0,x1,y1]

writes DST/CLIP/00000.000.jpg, DST/CLIP/00001.000.jpg, … : the first frame and then one every so long, named by seconds from the
clip's beginning; and DST/CLIP/frames.json, which says how they were made. --mask blackens what was burnt into the picture, such as
a patient's name: the pixels from (x0, y0) to just before (x1, y1), counted from the upper left corner; give it again for a second
place. Pictures have the form in which a player shows them (pixels that aren't square, turned or mirrored as the clip says), are JPEG
of quality 95, and hold nothing of what else is written in the clip.
A run that was stopped can be started again and ends in the same files.
"""

import argparse
import io
import json
import math
import re
import struct
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/frames.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from files import UserError, atomic_open, quoted, read_json, remove_temporaries, run_script, short, write_json

# isort: split
import av
from PIL import Image, ImageDraw

RECORD = "frames.json"
SECONDS = {"": 1, "s": 1, "ms": 0.001, "min": 60}
SLACK = 1  # seconds that the last picture may be before the end of a whole clip
QUALITY = {"quality": 95, "subsampling": 0}


def extract_frames(clip, dst, every=1.0, masks=(), say=print):
    """Write a clip's frames to DST/<its name>/ and return their paths, in order.

    every: seconds from one to the next; of a clip with fewer frames, all. masks: (x0, y0, x1, y1) in pixels of the picture as it is
    seen. say: takes a line on pixels that aren't square. Raises UserError for a file that is no clip or breaks off (what was written
    before stays), for a mask that lies outside the picture, and for a folder that holds frames made otherwise.
    """
    clip, folder = Path(clip), Path(dst) / Path(clip).stem
    if not clip.is_file():
        raise UserError(f"{clip}: no such file; give a video clip")
    facts = {"clip": clip.name, "bytes": clip.stat().st_size, "every": every, "masks": [list(mask) for mask in masks]}
    _check_folder(folder, facts)
    paths, next_time = [], 0.0
    for time, frame, pixel_aspect in _frames(clip, folder, paths):
        if time < next_time - 1e-6:
            continue
        next_time = (math.floor(time / every + 1e-6) + 1) * every
        image = _as_shown(frame, pixel_aspect)
        if not paths:
            if pixel_aspect != 1:
                facts["pixel_aspect"] = f"{pixel_aspect.numerator}:{pixel_aspect.denominator}"
                stored, shown = (f"{width} x {height}" for width, height in ((frame.width, frame.height), image.size))
                say(f"{clip}: its pixels are {facts['pixel_aspect']}; pictures are written as it is shown, {shown}, not {stored} as stored")
            _check_masks(masks, image.size, clip)
            write_json(folder / RECORD, facts)
        paths.append(folder / f"{time:09.3f}.jpg")
        _write(paths[-1], image, masks)
    if not paths:
        raise UserError(f"{clip}: has no picture in it; give a video clip")
    write_json(folder / RECORD, {**facts, "size": list(image.size), "frames": [path.name for path in paths]})
    return paths


def _check_folder(folder, facts):
    """Refuse to mix frames: an earlier run's may lack a mask."""
    record = folder / RECORD
    known = read_json(record) if record.is_file() else None
    if folder.exists() and any(folder.iterdir()) and not (known and known.items() >= facts.items()):
        raise UserError(f"{folder}: holds other files than frames that were made just so; delete it, or choose another DST")
    if known:
        for path in (record, *folder.glob("*.jpg")):
            remove_temporaries(path)


def _frames(clip, folder, written):
    """Yield (seconds from the clip's beginning, frame, width by height of its pixels: a Fraction, or 1) of every frame.

    written: paths of those that are kept if it breaks off.
    """
    start = None
    try:
        with av.open(str(clip), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise UserError(f"{clip}: has no picture in it; give a video clip")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                time = number / rate if frame.time is None else frame.time
                start = time if start is None else start
                yield max(0.0, time - start), frame, stream.sample_aspect_ratio or 1
            lasts = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0
            if not lasts:  # what such containers say counts from the time 0, where a clip need not begin
                lasts = (container.duration or 0) / av.time_base - start if written else 0
            if written and (time - start < lasts - SLACK or number + 1 < (stream.frames or 0) - SLACK * rate):
                raise UserError(f"{clip}: breaks off after {time - start:.1f} of {lasts:.1f} s; give a whole clip{_kept(folder, written)}")
    except av.error.FFmpegError as error:
        problem = f"can't be read ({short(error.strerror or str(error))})"
        raise UserError(f"{clip}: {problem}; give a whole clip{_kept(folder, written)}") from None


def _kept(folder, written):
    return f"; the {len(written)} frames before that are kept in {folder}" if written else ""


def _as_shown(frame, pixel_aspect):
    """A frame as a picture of square pixels, no side of it smaller than stored, turned and mirrored as its display matrix says."""
    image = frame.to_image()
    width, height = image.size
    if pixel_aspect != 1:
        size = (round(width * pixel_aspect), height) if pixel_aspect > 1 else (width, round(height / pixel_aspect))
        image = image.resize(size, Image.Resampling.LANCZOS)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))  # the point (x, y) is shown at (ax + cy, bx + dy), y downwards
    if aside := abs(b) > abs(a):
        image = image.transpose(Image.Transpose.TRANSPOSE)
    if (c if aside else a) < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if (b if aside else d) < 0 else image


def _check_masks(masks, size, clip):
    for mask in masks:
        if mask[2] > size[0] or mask[3] > size[1]:
            text = ",".join(map(str, mask))
            raise UserError(f"--mask {text}: lies outside the picture of {clip}, which has {size[0]} x {size[1]} pixels; correct it")


def _write(path, image, masks):
    for x0, y0, x1, y1 in masks:
        ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **QUALITY)
    with atomic_open(path, "wb") as file:
        file.write(buffer.getvalue())


def seconds(text):
    """`1s`, `0.5s`, `500ms` or `2min` as seconds. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|ms|min|)", text)
    value = found and round(float(found[1]) * SECONDS[found[2]], 6)
    if not value:
        raise UserError(f"--every {quoted(text)}: write a time such as 1s, 0.5s, 500ms or 2min")
    return value


def mask(text):
    """`x0,y0,x1,y1` as four ints. Raises UserError."""
    found = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
    x0, y0, x1, y1 = map(int, found.groups()) if found else (0, 0, 0, 0)
    if not (x0 < x1 and y0 < y1):
        raise UserError(f"--mask {quoted(text)}: write x0,y0,x1,y1 in pixels, with x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("clip", metavar="CLIP", type=Path, help="a video file, such as MP4, AVI or MKV")
    parser.add_argument("dst", metavar="DST", type=Path, help="folder that the frames' folder goes to")
    parser.add_argument("--every", default="1s", metavar="TIME", help="from one frame to the next, such as 1s, 500ms or 2min (default 1s)")
    parser.add_argument("--mask", action="append", default=[], metavar="X0,Y0,X1,Y1", help="blacken these pixels; may be given again")
    args = parser.parse_args()
    paths = extract_frames(args.clip, args.dst, seconds(args.every), tuple(map(mask, args.mask)))
    print(f"{paths[0].parent}: {len(paths)} frames, the last after {float(paths[-1].stem):g} s")
    if not args.mask:
        print("nothing was masked: look whether a name is burnt into the picture (--mask x0,y0,x1,y1 blackens it)")
    names = json.dumps([path.relative_to(args.dst).as_posix() for path in paths[:2]], ensure_ascii=False)
    print(f'rows name them below data.image_root, {args.dst.resolve()}, such as "images": {names}')


if __name__ == "__main__":
    run_script(main)
