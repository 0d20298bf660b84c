"""Which image files show the same picture: copies by their bytes, near-duplicates by a perceptual hash.

The hash is dHash (Krawetz 2013, "Kind of Like That", hackerfactor.com) in both directions: the picture shrunk to 9 x 8
grey values and to 8 x 9, one bit for each pair of neighbours. Pictures that differ in at most MAX_DISTANCE of its 128
bits count as near-duplicates. Measured on 41 real frames and photographs: JPEG of quality 30 to 90, sizes from 0.3 to
1.5 and 15 % more light change at most 5 bits; the nearest frames of different clips differ by 19. With 64 bits the two
overlap. Pictures without contrast are only compared by their bytes: black frames would join unrelated videos.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.image_names import image_path, spelled, twin
from data.images import BadImage, open_image
from data.personal import in_picture
from data.text import group_of
from files import UserError

BITS, MAX_DISTANCE = 128, 8
MIN_CONTRAST = 8  # grey levels between the darkest and the brightest of 9 x 8 values
BLOCK = 256  # rows of the distance table that are held at a time


class Picture(NamedTuple):
    """An image file as `images.open_image` sees it: size (width, height), hash of its bytes, dHash (None without contrast); or its problem.

    turned: does its EXIF tag turn it? there: the file that a missing one's name probably means. personal: what is written beside the
    pixels and looks like a person (`personal.in_picture`).
    """

    size: tuple[int, int] | None = None
    sha256: str | None = None
    dhash: int | None = None
    problem: str | None = None
    turned: bool = False
    there: str | None = None
    personal: tuple = ()


def look_at_images(root, names):
    """Open every image once; return `{name: Picture}`. A file that is missing or broken has a problem, and no error."""
    names, listings = sorted(set(names)), {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        return dict(zip(names, pool.map(lambda name: look_at(root, name, listings), names)))


def look_at(root, name, listings=None):
    """The Picture of one file. Every byte is read, so a truncated file is found. listings: see `image_names.twin`."""
    try:
        path = image_path(root, name)
    except UserError:
        return Picture(problem="outside the images' folder")
    if os.path.isdir(path):
        return Picture(problem="unreadable (a folder; name a picture in it)")
    if not os.path.isfile(path):
        there = twin(path, listings)
        return Picture(problem="missing", there=there and os.path.relpath(spelled(path, there), root))
    try:
        content = Path(path).read_bytes()
        found = open_image(io.BytesIO(content), draft=("L", (72, 64)))
        facts = {"turned": found.turned, "personal": in_picture(content)}
        return Picture(found.size, hashlib.sha256(content).hexdigest(), dhash(found.image), **facts)
    except OSError as error:
        return Picture(problem=f"unreadable ({error.strerror or error})")
    except BadImage as error:
        return Picture(problem=f"unreadable ({error})")


def dhash(image):
    """128 bits of a PIL image as an int, or None for one without contrast. Integer arithmetic throughout."""
    image = image.convert("L")
    wide, high = (np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.int16) for size in ((9, 8), (8, 9)))
    if wide.max() - wide.min() < MIN_CONTRAST:
        return None
    bits = np.concatenate([(wide[:, 1:] > wide[:, :-1]).ravel(), (high[1:] > high[:-1]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(left, right):
    """Yield the index pairs `(i, j)` of hashes (ints) in left and right that differ in at most MAX_DISTANCE bits."""
    left, right = (np.array([divmod(value, 2**64) for value in side], np.uint64).reshape(-1, 2) for side in (left, right))
    for start in range(0, len(left), BLOCK):
        some = left[start : start + BLOCK, None]
        distance = np.bitwise_count(some[..., 0] ^ right[:, 0]) + np.bitwise_count(some[..., 1] ^ right[:, 1])
        for i, j in np.argwhere(distance <= MAX_DISTANCE).tolist():
            yield start + i, j


def same_pictures(pictures):
    """Yield pairs of names that show the same picture, enough of them to connect all that do.

    pictures: `{name: Picture}`.
    """
    first = {}  # content or hash -> the first name that has it
    for name in sorted(pictures):
        picture = pictures[name]
        for key in (picture.sha256, picture.dhash):
            if key is not None and first.setdefault(key, name) != name:
                yield first[key], name
    hashes = sorted(key for key in first if isinstance(key, int))
    for i, j in near_pairs(hashes, hashes):
        if i < j:
            yield first[hashes[i]], first[hashes[j]]


def join_by_rows(rows):
    """`{image: the alphabetically first that it is connected with}` by rows that are about several; empty where none is."""
    return join(pair for row in rows if row.get("images") for pair in pairwise(row["images"]))


def unit(row, joined):
    """What counts as one where people are counted: a row's group, else its image. joined: of `join_by_rows`, or nothing."""
    group = group_of(row)
    return ("image", joined.get(row.get("image"), row.get("image"))) if group is None else ("group", group)


def join(pairs):
    """`{name: the alphabetically first name it is connected with}` for every name of the pairs."""
    parent = {}

    def root(name):
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for pair in pairs:
        low, high = sorted(map(root, pair))
        parent[high] = low
    return {name: root(name) for name in list(parent)}
