"""Image files: find, check, size, load. Sizes and token counts come from one place, `qwen_vl_utils.smart_resize`.

qwen_vl_utils is imported where it is needed: it brings torchvision, which costs seconds before an error in a row could be said.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.image_names import image_path, images_of, is_of_windows, spelled, twin
from files import POINTER, UserError, pointer_note, printable, quoted, read_cache, short, write_json

VERSION = "v4"  # of what sizes mean: raised where `open_image` changes, so that sizes kept from before are not believed
ORIENTATION = 0x0112  # EXIF's tag
HEADER = 1 << 16  # bytes of a file that are looked at for what it says of itself
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TWELVE_BITS, FOURTEEN_BITS = 1 << 12, 1 << 14
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE_VALUE = 258, 262, 281  # TIFF's tags
SIZ, PRECISION = b"\xff\x4f\xff\x51", 42  # how JPEG 2000's codestream begins, and where in it stands the bits of the first channel, less 1
# What the pictures' library finds odd in a file (its metadata, its palette) is nothing that a user can mend.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(ValueError):
    """Why a file can't be used as a picture, in a few words; `clause`: as a message says it, with what to do."""

    def __init__(self, problem, verb=None, remedy="replace or remove it"):
        super().__init__(problem)
        self.clause = f"{verb} {problem}; {remedy}" if verb else f"can't be read ({problem}); {remedy}"


class Opened(NamedTuple):
    """A picture as everything here sees it: 8 bits, L or RGB, the right way up, on white. size: (width, height) in the file, upright."""

    image: Image.Image
    size: tuple[int, int]
    turned: bool


def open_image(file, draft=None):
    """Read a picture wholly: a path, or a file opened for reading bytes. The one way into the program for pixels; see Opened.

    draft: (mode, size) from which on a JPEG may be decoded smaller, which is faster. Orientation is EXIF's. One channel of
    more bits is scaled by what its mode means (see `_eight_bits`); what is transparent shows white.
    Raises FileNotFoundError, and BadImage for all else that is wrong with the file.
    """
    try:
        # never by its path: Pillow maps such a file into memory, and turns what it has mapped wrongly
        with open(file, "rb") if isinstance(file, str | os.PathLike) else nullcontext(file) as stream, Image.open(stream) as image:
            size, bits = image.size, _bits(image)
            if size[0] * size[1] > Image.MAX_IMAGE_PIXELS:  # Pillow itself only warns up to twice this
                raise Image.DecompressionBombError
            tag = _orientation(image)
            if draft:
                image.draft(*draft)
            image.load()
            still = _orientation(image)  # Pillow turns TIFFs by itself
            plain = _on_white(image, bits)
            if bits == 16 and len(image.getbands()) > 1:
                brightest = max(high for band, (_, high) in zip(image.getbands(), image.getextrema()) if band != "A")
                # Pillow keeps the upper eight bits, some rounded up: of 0 to 255 in 16 bits nothing is left
                _refuse_few_bits(brightest * 255 or 1, f"colours up to {brightest} of 255")
        turn = TURNS.get(still)
        plain = plain if turn is None else plain.transpose(turn)
        plain.info.clear()  # metadata, which may name a patient
        return Opened(plain, size[::-1] if turn is not None and still >= 5 else size, tag in TURNS)
    except (FileNotFoundError, BadImage):
        raise
    except IsADirectoryError:
        raise BadImage("a folder", "is", "name a picture in it") from None
    except Image.DecompressionBombError:
        raise BadImage(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels", "has", "shrink it") from None
    except Exception as error:  # on broken files Pillow's decoders raise whatever they come upon, struct.error and KeyError among it
        if isinstance(error, Image.UnidentifiedImageError) and _starts_with(file, POINTER):
            verb, _, rest = pointer_note("copy the pictures again").partition(" ")
            problem, _, remedy = rest.partition("; ")
            raise BadImage(problem, verb, remedy) from None
        text = "not an image" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
        raise BadImage(short(text, 200) or type(error).__name__) from None


def _starts_with(file, start):
    """Does a file (a path, or one opened for reading bytes) begin with these bytes?"""
    if hasattr(file, "seek"):
        file.seek(0)
        return file.read(len(start)) == start
    with open(file, "rb") as opened:
        return opened.read(len(start)) == start


def _bits(image):
    """How many bits a channel has by what a file says that is not read yet: 16 at most, as many as Pillow scales its values to."""
    if image.format == "JPEG2000":
        image.fp.seek(0)
        start = image.fp.read(HEADER)
        at = start.find(SIZ)
        return (start[at + PRECISION] & 0x7F) + 1 if 0 <= at < len(start) - PRECISION else 16
    codec, _, _, details = image.tile[0] if image.tile else (None, None, None, None)
    if image.format == "PPM" and codec.startswith("ppm"):  # details: (mode, the value that is white)
        return (details[1] + 1).bit_length() - 1
    rawmode = str(details if isinstance(details, str) else (details or ("",))[0])
    return 16 if image.mode.startswith("I;16") or rawmode.startswith("I;16") or rawmode.endswith((";16B", ";16L", ";16N")) else 8


def _refuse_few_bits(brightest, found):
    """Refuse 16 bits of whose range so little is used that the picture would be dark: as 12 or 14 bits look that nobody scaled."""
    for bits, least in ((12, TWELVE_BITS), (14, FOURTEEN_BITS)):
        if 0 < brightest < least:
            problem = f"{found}, as if {bits} bits were stored in 16, and nothing says which is white"
            raise BadImage(problem, "holds", "save it with 8 bits")


def _orientation(image):
    """EXIF's orientation tag, 1 (upright) where there is none or the EXIF part is broken.

    ImageOps.exif_transpose would write the EXIF part anew, which fails on broken ones.
    """
    try:
        tag = image.getexif().get(ORIENTATION)
    except Exception:  # as above
        tag = None
    return tag if isinstance(tag, int) and tag in TURNS else 1


def _on_white(image, bits):
    """A loaded image with 8 bits a channel, as L or RGB; transparent parts white, as qwen_vl_utils has it for RGBA. bits: of `_bits`."""
    if image.mode[:1] in ("I", "F"):
        return _eight_bits(image, bits)
    if image.mode in ("LAB", "La"):
        raise BadImage(f"colours as {image.mode}", "has its", "save it as RGB")
    if not image.has_transparency_data:
        return image.copy() if image.mode == "L" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _eight_bits(image, bits):
    """Grey values of 16 bits or floats as L, scaled from black to white as their mode says.

    Unsigned 16 bits: 65,535 is white, or what the file says (its bits, a TIFF's greatest value). Floats: 1.0. Raises BadImage where
    nothing says what is white.
    """
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    low, high = values.min(), values.max()
    found, remedy = f"grey values from {low:g} to {high:g}", "save it with 8 bits"
    if image.mode == "F":
        white = 1
        if not -0.01 <= low <= high <= 1.01:  # also false for NaN
            raise BadImage(f"{found} as floats, of which 0 to 1 are read", "holds", remedy)
    elif image.mode == "I" and image.format != "PPM":
        raise BadImage(f"{found} in 32 or signed bits, and nothing says which is white", "holds", remedy)
    else:
        white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1  # a PPM and a JPEG 2000 of fewer bits were scaled to 16 by Pillow
        greatest = np.max(tags.get(MAX_SAMPLE_VALUE, 0))
        white = greatest if 255 < greatest < white and high <= greatest else white
        if bits == 16 and white == 65535 and not _are_scaled(values):
            _refuse_few_bits(high, f"{found} of 65,535")
    scaled = np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero
        scaled = 255 - scaled
    key = image.info.get("transparency")
    if isinstance(key, int):  # a PNG's one grey value that is not to be seen
        scaled[values == key] = 255
    return Image.fromarray(scaled)


def _are_scaled(values):
    """Do grey values of 16 bits come from 8 or 12 that were scaled up, so that a dark picture is one? Then they are all multiples."""
    return not ((values & 15).any() and (values % 257).any())


def smart_resize(height, width, factor, **limits):
    """(height, width) of an image in the model, multiples of `factor` pixels; `limits`: min_pixels, max_pixels. As in qwen_vl_utils."""
    from qwen_vl_utils.vision_process import smart_resize

    return smart_resize(height, width, factor=factor, **limits)


def check_image(path, shown=None):
    """Decode an image wholly and return its (width, height) as it is seen. Raises UserError that says what is wrong with the file.

    shown: how a message names it, if not by its path.
    """
    try:
        size = open_image(path, draft=("RGB", (1, 1))).size  # a JPEG's every byte is read, but decoded at an eighth of the size
        smart_resize(size[1], size[0], factor=28)
        return size
    except FileNotFoundError:
        there = twin(path)
        below = "write the name below data.image_root, not a path of Windows"
        remedy = below if is_of_windows(str(path)) else "correct the row or data.image_root"
        found = f", but {short(spelled(path, there), 200)} does; correct the name" if there else f"; {remedy}"
        problem = f"does not exist{found}"
    except BadImage as error:
        problem = error.clause
    except ValueError as error:  # smart_resize's: a ratio over 200
        problem = f"can't be read ({error}); replace or remove it"
    raise UserError(f"image {printable(short(shown or path, 300))} {problem}")


def check_images(rows, root, cache_path, max_frames=None):
    """Check every image that rows name, of longer lists those that are used; return `{image name: (width, height)}`.

    Files that have not changed since the last check (size and time, kept in `cache_path`) are not decoded again.
    Raises UserError with the id of the first row whose image is missing, broken or outside `root`.
    """
    first_row = {}
    for row in rows:
        for name in images_of(row, max_frames):
            first_row.setdefault(name, row)
    known = read_cache(cache_path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding Python's lock
        checked = pool.map(lambda item: _check_image(*item, root, known), first_row.items())
        checked = dict(tqdm(checked, desc="checking images", total=len(first_row), leave=False, disable=None))
    if checked.items() - known.items():
        write_json(cache_path, {**known, **checked})
    return {name: tuple(map(int, checked[image_path(root, name)].split()[0].split("x"))) for name in first_row}


def _check_image(name, row, root, known):
    """Return (path, stamp) of an image that a row names, where the stamp is `WIDTHxHEIGHT bytes time version`."""
    try:
        path = image_path(root, name)
        status = os.stat(path) if os.path.exists(path) else None
        suffix = f"{status.st_size} {status.st_mtime_ns} {VERSION}" if status else ""
        if status and known.get(path, "").split(" ", 1)[-1] == suffix:
            return path, known[path]
        width, height = check_image(path, os.path.join(root, short(name)))
        return path, f"{width}x{height} {suffix}"
    except UserError as error:
        raise UserError(f"row {quoted(row['id'])}: {error}") from None


def image_token_count(size, image_cfg, patch_size=14, merge_size=2):
    """Number of image tokens of a (width, height) image under the configured pixel limits.

    Raises UserError for an image whose sides differ too much, or that is so narrow that nothing would be left of its short side.
    """
    width, height = size
    factor = patch_size * merge_size
    limits = {"min_pixels": image_cfg.min_pixels, "max_pixels": image_cfg.max_pixels}
    try:
        new_height, new_width = smart_resize(height, width, factor=factor, **limits)
    except ValueError as error:
        raise UserError(f"an image of {width} x {height} pixels can't be used ({error}); crop it") from None
    if not new_height * new_width:
        raise UserError(f"an image of {width} x {height} pixels is too narrow for image.max_pixels={image_cfg.max_pixels}; crop it")
    return new_height * new_width // factor**2


def load_image(path, image_cfg, patch_size=14, change=None):
    """Open an image as RGB, resized to the configured pixel limits. Returns a PIL image with sides divisible by 28.

    change: what is done to the RGB picture before that (`perturb.Shown.change`).
    """
    from qwen_vl_utils.vision_process import fetch_image

    try:
        image = open_image(path).image.convert("RGB")
    except FileNotFoundError as error:  # it was there when it was checked
        raise UserError(f"image {path} can't be read any more ({error.strerror}); put it back and start again") from None
    except BadImage as error:
        raise UserError(f"image {path} {error.clause}") from None
    image = change(image) if change else image
    limits = {"min_pixels": image_cfg.min_pixels, "max_pixels": image_cfg.max_pixels}
    return fetch_image({"image": image, **limits}, image_patch_size=patch_size)
