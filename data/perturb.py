"""Pictures as a model is shown them to see what its answers rest on: another's, black, spoilt, mirrored or turned.

Names and strengths are those of `perturbations.yaml`. Nothing is written: a perturbed picture exists while it is shown.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py --perturb black")

import hashlib
import inspect
import io
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from config import yaml_file
from data.image_copies import join
from data.image_names import images_of
from data.text import group_key
from files import UserError, quoted

PERTURBATIONS_FILE = Path(__file__).with_name("perturbations.yaml")
GAMMA = 2.2  # of a screen: what is linear in light is a power of a pixel's value
WARM_WHITE = (255, 252, 246)


class NotPossible(UserError):
    """A perturbation that these rows don't allow, through no fault of theirs."""


def random_of(*names):
    """A generator that follows from the names alone, on every machine."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(" ".join(map(str, names)).encode()).digest()[:8]))


# ---------------------------------------------------------------------------------------------------------------------
# Pixels: each takes an RGB picture and its own generator, and returns a picture of the same size


def black(image, rng):
    return Image.new("RGB", image.size)


def jpeg(image, rng, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def blur(image, rng, sigma):
    return image.filter(ImageFilter.GaussianBlur(sigma * min(image.size)))


def overexposure(image, rng, stops):
    light = (np.asarray(image, dtype=np.float32) / 255) ** GAMMA * 2**stops
    return Image.fromarray(np.rint(255 * np.minimum(light, 1) ** (1 / GAMMA)).astype(np.uint8))


def glare(image, rng, spots, smallest, largest):
    """Bright ellipses with soft rims. Their places and sizes don't depend on the picture's size in pixels."""
    width, height = image.size
    side, pixels = min(width, height), np.asarray(image, dtype=np.float32).copy()
    for x, y, turn, *axes in rng.random((spots, 5)):
        (a, b), angle = (side * (smallest + (largest - smallest) * np.array(axes))).clip(1), turn * np.pi
        reach = int(2 * max(a, b)) + 2
        left, top = max(0, int(x * width) - reach), max(0, int(y * height) - reach)
        window = pixels[top : int(y * height) + reach + 1, left : int(x * width) + reach + 1]
        dy, dx = np.mgrid[: window.shape[0], : window.shape[1]]
        dx, dy = dx + left - x * width, dy + top - y * height
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        alpha = np.clip(2 - 1.5 * np.hypot(along / a, across / b), 0, 1)[..., None]
        window += alpha * (np.array(WARM_WHITE, np.float32) - window)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def rotation(image, rng):
    return image.transpose(Image.Transpose.ROTATE_90)


def flip(image, rng):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


PIXELS = {change.__name__: change for change in (black, jpeg, blur, overexposure, glare, rotation, flip)}


# ---------------------------------------------------------------------------------------------------------------------
# The table


@cache
def perturbations():
    """{name: {strength: number}} of the table, in its order. Raises UserError for names and strengths that nothing reads."""
    table = yaml_file(PERTURBATIONS_FILE)
    known = {"other_image": [], "reworded": []}
    known |= {name: list(inspect.signature(change).parameters)[2:] for name, change in PIXELS.items()}
    for name, strengths in table.items() if isinstance(table, dict) else [(quoted(table), None)]:
        numbers = isinstance(strengths, dict) and all(type(value) in (int, float) for value in strengths.values())
        if name not in known or not numbers or sorted(strengths) != sorted(known[name]):
            wanted = f"{name} takes {', '.join(known[name]) or 'nothing'}" if name in known else f"its names are {', '.join(known)}"
            raise UserError(f"{PERTURBATIONS_FILE}: {name} is {quoted(strengths)}; {wanted}, each a number")
    return table


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


@dataclass(frozen=True)
class Shown:
    """What a model is shown instead of a row's pictures. name: of the table. donors: {a row's pictures: those shown instead}, tuples."""

    name: str
    seed: int
    donors: dict = field(default_factory=dict)

    def instead(self, row):
        """The row as it names the pictures that are shown."""
        names = self.donors.get(tuple(images_of(row)))
        return {**row, "image": names[0], "images": list(names)} if names else row

    def size(self, size):
        """(width, height) of a picture of this size as it is shown."""
        return size[::-1] if self.name == "rotation" else size

    def change(self, name, image):
        """An RGB picture as it is shown. name: its file's, from which the noise follows."""
        if self.name not in PIXELS:
            return image
        return PIXELS[self.name](image, random_of(self.seed, self.name, name), **perturbations()[self.name])


def other_pictures(rows, seed, copies=()):
    """{pictures of a row: pictures of another}, tuples of names, drawn among all that share neither patient or video nor a file.

    rows: all of a split. copies: pairs of names of the same picture. Raises NotPossible where all are of one.
    """
    keys = {tuple(images_of(row)): None for row in rows}
    links = [(f"image {key[0]}", f"image {name}") for key in keys for name in key]
    links += [(f"image {one}", f"image {two}") for one, two in copies]
    grouped = {(key[0], group_key(row["group"])) for row in rows if (key := tuple(images_of(row))) and str(row.get("group") or "").strip()}
    owners = join([*links, *((f"image {name}", f"group {group}") for name, group in grouped)])
    ordered = sorted(keys, key=lambda key: (owners[f"image {key[0]}"], key))
    blocks = [list(some) for _, some in groupby(ordered, key=lambda key: owners[f"image {key[0]}"])]
    if len(blocks) < 2:
        raise NotPossible(
            f"other_image: the {len(ordered):,} pictures of this split are of one patient or video; there is no other to show"
        )
    donors, start = {}, 0
    for block in blocks:
        for key in block:
            place = int(random_of(seed, "other_image", *key).integers(len(ordered) - len(block)))
            donors[key] = ordered[place + (len(block) if place >= start else 0)]
        start += len(block)
    return donors
