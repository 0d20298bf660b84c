"""Small copies of pictures for HTML pages: those of the evaluation's report and of the doctor's suspects."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import base64
import io
import math

from PIL import Image

from data.image_names import evenly, image_path
from data.images import BadImage, open_image
from files import UserError

THUMBNAIL = 320  # pixels on the longer side
SHEET = 9  # frames of a clip that are shown
IMAGE_BYTES = 16_000_000  # of base64 in all; cards beyond it name their image instead


class Thumbnails:
    """Small JPEG copies of images as data URIs, each made once, until the budget is spent. root: a folder, or None for no pictures.

    Several images, a row's frames, are one copy, side by side in rows: SHEET of them, evenly spaced.
    """

    def __init__(self, root, budget=IMAGE_BYTES):
        self.root, self.budget, self.made = root, budget, {}

    def get(self, names):
        """Data URI of the images (list of names), or None where there is none, none can be read or lies in the root, or it is too much."""
        names = tuple(names)
        if names not in self.made:
            self.made[names] = self._make(names) if names and self.root else None
        uri = self.made[names]
        if uri is None or len(uri) > self.budget:
            return None
        self.budget -= len(uri)
        return uri

    def _make(self, names):
        shown = evenly(names, SHEET)
        columns = math.ceil(math.sqrt(len(shown)))
        images = [image for name in shown if (image := self._small(name, THUMBNAIL // columns))]
        if not images:
            return None
        image = images[0] if len(names) == 1 else _sheet(images, columns)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80, optimize=True, comment=b"")  # else Pillow copies the original's
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

    def _small(self, name, side):
        try:
            image = open_image(image_path(self.root, name), draft=("RGB", (2 * side, 2 * side))).image.convert("RGB")
        except (OSError, BadImage, UserError):
            return None
        image.thumbnail((side, side))
        return image


def _sheet(images, columns):
    """PIL images in rows of so many, on white."""
    width, height = (max(image.size[axis] for image in images) for axis in (0, 1))
    sheet = Image.new("RGB", (width * min(columns, len(images)), height * math.ceil(len(images) / columns)), "white")
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * width, place // columns * height))
    return sheet
