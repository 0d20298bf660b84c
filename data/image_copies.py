"""Which image files show the same picture: copies by their bytes, near-duplicates by a perceptual hash.

The hash is dHash (Krawetz 2013, "Kind of Like That", hackerfactor.com): the picture shrunk to 9 x 8 grey values, one bit
for each pair of neighbours in a row. Another size or JPEG quality changes few of its 64 bits; pictures that differ in at
most MAX_DISTANCE of them count as near-duplicates. Pictures without contrast are only compared by their bytes: black
frames would join unrelated videos.
"""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_DISTANCE = 4  # of 64 bits
MIN_CONTRAST = 8  # grey levels between the darkest and the brightest of the 72 values
BLOCK = 256  # rows of the distance table that are held at a time


class Picture(NamedTuple):
    """An image file: (width, height), hash of its bytes, dHash (int, or None without contrast) - or its problem (str)."""

    size: tuple[int, int] | None = None
    sha256: str | None = None
    dhash: int | None = None
    problem: str | None = None


def look_at_images(root, names):
    """Open every image once; return `{name: Picture}`. A file that is missing or broken has a problem, and no error."""
    names = sorted(set(names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        return dict(zip(names, pool.map(lambda name: look_at(root, name), names)))


def look_at(root, name):
    """The Picture of one file. Every byte is read, so a truncated file is found."""
    path = os.path.normpath(os.path.join(root, name))
    if not Path(path).is_relative_to(os.path.normpath(root)):
        return Picture(problem="outside the images' folder")
    if not os.path.isfile(path):
        return Picture(problem="missing")
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            size = image.size
            if size[0] * size[1] > Image.MAX_IMAGE_PIXELS:  # Pillow itself only warns up to twice this
                raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels")
            image.draft("L", (72, 64))  # JPEG only: decodes at a fraction of the size
            return Picture(size, hashlib.sha256(content).hexdigest(), dhash(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        text = "not an image" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
        return Picture(problem=f"unreadable ({text})")


def dhash(image):
    """64 bits of a PIL image as an int, or None for one without contrast. Integer arithmetic throughout."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    if grey.max() - grey.min() < MIN_CONTRAST:
        return None
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def near_pairs(left, right):
    """Yield the index pairs `(i, j)` of hashes (ints) in `left` and `right` that differ in at most MAX_DISTANCE bits."""
    left, right = np.array(left, dtype=np.uint64), np.array(right, dtype=np.uint64)
    for start in range(0, len(left), BLOCK):
        distance = np.bitwise_count(left[start : start + BLOCK, None] ^ right[None, :])
        for i, j in np.argwhere(distance <= MAX_DISTANCE).tolist():
            yield start + i, j


def same_pictures(pictures):
    """Yield pairs of names that show the same picture, enough of them to connect all that do. pictures: `{name: Picture}`."""
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
