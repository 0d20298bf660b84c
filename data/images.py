"""Image files: find, check, size, load. Sizes and token counts come from one place, `qwen_vl_utils.smart_resize`.

qwen_vl_utils is imported where it is needed: it brings torchvision, which costs seconds before an error in a row could be said.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from files import UserError, read_json, write_json


def image_path(root, name):
    """Path of an image inside `root`. Raises UserError for a name that leads out of it."""
    path = os.path.normpath(os.path.join(root, name))
    if not Path(path).is_relative_to(os.path.normpath(root)):
        raise UserError(f"image {name!r} lies outside data.image_root ({root}); move it there or correct the name")
    return path


def smart_resize(height, width, factor, **limits):
    """(height, width) of an image in the model, multiples of `factor` pixels; `limits`: min_pixels, max_pixels. As in qwen_vl_utils."""
    from qwen_vl_utils.vision_process import smart_resize

    return smart_resize(height, width, factor=factor, **limits)


def check_image(path):
    """Decode an image wholly and return its (width, height). Raises UserError that says what is wrong with the file."""
    try:
        with Image.open(path) as image:
            size = image.size
            if size[0] * size[1] > Image.MAX_IMAGE_PIXELS:  # Pillow itself only warns up to twice this
                raise Image.DecompressionBombError
            image.draft("RGB", (size[0] // 8, size[1] // 8))  # JPEG only: reads every byte, decodes at an eighth of the size
            image.load()
        smart_resize(size[1], size[0], factor=28)
        return size
    except FileNotFoundError:
        problem = "does not exist; correct the row or data.image_root"
    except Image.DecompressionBombError:
        problem = f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; shrink it"
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's ways to say truncated or not an image; ratio over 200
        problem = f"can't be read ({error}); replace or remove it"
    raise UserError(f"image {path} {problem}")


def check_images(rows, root, cache_path):
    """Check every image that rows name; return `{image name: (width, height)}`.

    Files that have not changed since the last check (size and time, kept in `cache_path`) are not decoded again.
    Raises UserError with the id of the first row whose image is missing, broken or outside `root`.
    """
    first_row = {}
    for row in rows:
        first_row.setdefault(row["image"], row)
    known = read_json(cache_path) if Path(cache_path).is_file() else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        checked = pool.map(lambda row: _check_row(row, root, known), first_row.values())
        checked = dict(tqdm(checked, desc="checking images", total=len(first_row), leave=False, disable=None))
    if checked.items() - known.items():
        write_json(cache_path, {**known, **checked})
    return {name: tuple(map(int, checked[image_path(root, name)].split()[0].split("x"))) for name in first_row}


def _check_row(row, root, known):
    """Return (path, stamp) of a row's image, where the stamp is `WIDTHxHEIGHT bytes time`."""
    try:
        path = image_path(root, row["image"])
        status = os.stat(path) if os.path.exists(path) else None
        suffix = f"{status.st_size} {status.st_mtime_ns}" if status else ""
        if status and known.get(path, "").split(" ", 1)[-1] == suffix:
            return path, known[path]
        width, height = check_image(path)
        return path, f"{width}x{height} {suffix}"
    except UserError as error:
        raise UserError(f"row {row['id']!r}: {error}") from None


def image_token_count(size, image_cfg, patch_size=14, merge_size=2):
    """Number of image tokens of a (width, height) image under the configured pixel limits.

    Raises UserError for an image so narrow that nothing would be left of its short side.
    """
    width, height = size
    factor = patch_size * merge_size
    limits = {"min_pixels": image_cfg.min_pixels, "max_pixels": image_cfg.max_pixels}
    new_height, new_width = smart_resize(height, width, factor=factor, **limits)
    if not new_height * new_width:
        raise UserError(f"an image of {width} x {height} pixels is too narrow for image.max_pixels={image_cfg.max_pixels}; crop it")
    return new_height * new_width // factor**2


def load_image(path, image_cfg, patch_size=14):
    """Open an image as RGB, resized to the configured pixel limits. Returns a PIL image with sides divisible by 28."""
    from qwen_vl_utils.vision_process import fetch_image

    try:
        with Image.open(path) as image:
            limits = {"min_pixels": image_cfg.min_pixels, "max_pixels": image_cfg.max_pixels}
            return fetch_image({"image": image, **limits}, image_patch_size=patch_size)
    except OSError as error:  # it was checked; it went away or changed since
        raise UserError(f"image {path} can't be read any more ({error.strerror or error}); put it back and start again") from None
