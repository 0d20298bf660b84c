"""Names of images: how rows spell them, what can't be one, and the twin of a name under which no file is there.

Training, splits, doctor and evaluation compare names as `image_name` gives them.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
import posixpath
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from files import UserError, quoted

WINDOWS = re.compile(r"(?:^|(?<=/))(?:[A-Za-z]:[\\/]|\\\\)")  # how C:\x and \\machine\x begin, below a folder or alone
OF_FILE = re.compile(r"file:/", re.IGNORECASE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
QUOTES = " \t\r\n\"'“”‘’`"
LONGEST, LONGEST_PART = 1000, 255  # letters; bytes, which file systems set
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}


def image_name(text, where):
    """A row's image (str) as it is compared: `./a.jpg` is `a.jpg`. Raises UserError, which begins with `where`, for what is no file."""
    if why := why_no_file(text):
        raise UserError(f"{where}: image is {quoted(text)}, {why}")
    return posixpath.normpath(text)


def images_of(row, most=None):
    """Names (list) of a row's pictures, in their order. most: `data.max_frames`, of which more are thinned to."""
    return evenly(row.get("images") or [row["image"]], most)


def evenly(items, most):
    """At most so many items (None: all) of a list, evenly spaced: the first and the last among them, or of one the middle."""
    if most is None or len(items) <= most:
        return items
    return [items[place * (len(items) - 1) // (most - 1)] for place in range(most)] if most > 1 else [items[len(items) // 2]]


def why_no_file(text):
    """Why a text can't be the name of a file, and what to do; None where it can."""
    text = text.lstrip()
    if text[:5].lower() == "data:":
        return "a picture as text; images must be files: save it below data.image_root and give the file's name"
    if OF_FILE.match(text):
        return "an address; images must be files: write the file's name below data.image_root"
    if ADDRESS.match(text):
        return "an address; images must be files: download it below data.image_root and give the file's name"
    if len(text) > LONGEST or any(len(part.encode(errors="replace")) > LONGEST_PART for part in text.split("/")) or "\0" in text:
        return f"{len(text):,} letters that can't be the name of a file; images must be files below data.image_root"
    return None


def image_path(root, name):
    """Path of an image inside `root`. Raises UserError for a name that leads out of it."""
    path = os.path.normpath(os.path.join(root, name))
    if not Path(path).is_relative_to(os.path.normpath(root)):
        raise UserError(f"image {quoted(name)} lies outside data.image_root ({root}); move it there or correct the name")
    return path


def twin(path, listings=None):
    r"""The file that `path`, where none is, probably means: `a\b.jpg` is a/b.jpg, A.JPG is a.jpg, whatever the accents are made of.

    Tried part by part from the last folder that is there: letters alike in all but case and Unicode form, then the last
    part with another suffix or none. Of `C:\x\a.jpg` and `..\x\a.jpg` it is the longest end that is there, x/a.jpg or a.jpg, and of
    img/a.jpg below img/, a.jpg. `a%20b.jpg` is `a b.jpg`. listings: a dict that keeps folders' names over many calls.
    Returns a path or None.
    """
    listings = {} if listings is None else listings
    folder, missing = os.path.split(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder, part = os.path.split(folder)
        missing = f"{part}/{missing}"
    missing = missing.strip(QUOTES)
    parts = [part for part in missing.replace("\\", "/").split("/") if part not in ("", ".")]
    ends = range(1, len(parts)) if WINDOWS.match(missing) or ".." in parts else (0,)
    if len(parts) > 1 and _key(parts[0]) == _key(os.path.basename(folder)):
        ends = (0, 1)
    return next((found for start in ends if (found := _file_alike(folder, parts[start:], listings))), None)


def _file_alike(folder, parts, listings):
    for place, part in enumerate(parts, 1):
        found = _alike(folder, part, listings, last=place == len(parts))
        if found is None:
            return None
        folder = os.path.join(folder, found)
    return folder if os.path.isfile(folder) else None


def is_of_windows(path):
    r"""Does the name of a file that isn't there hold a whole path of Windows, `C:\x\a.jpg`?"""
    return WINDOWS.search(path) is not None


def _alike(folder, part, listings, last):
    """The entry of a folder that is like `part`, or None. last: may it be without its suffix, too?"""
    if folder not in listings:
        listings[folder] = _entries(folder)
    by_key, by_stem = listings[folder]
    spellings = dict.fromkeys((part, unquote(part)))
    stems = {_key(text) for part in spellings for text in (part, os.path.splitext(part)[0])} if last else ()
    same_stem = {name for stem in stems for name in by_stem.get(stem, ())}
    same = next((name for part in spellings if (name := by_key.get(_key(part)))), None)
    return same or (same_stem.pop() if len(same_stem) == 1 else None)


def _entries(folder):
    """({key: entry}, {key without suffix: images}) of a folder."""
    by_key, by_stem = {}, {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no folder, or none that may be read
        names = []
    for name in names:
        by_key.setdefault(_key(name), name)
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in SUFFIXES:
            by_stem.setdefault(_key(stem), []).append(name)
    return by_key, by_stem


def _key(name):
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def spelled(path, twin):
    """How to show a file's twin: its path, and where both look the same, what tells them apart."""
    if unicodedata.normalize("NFC", path) != unicodedata.normalize("NFC", twin):
        return twin
    form = "NFD" if unicodedata.is_normalized("NFD", twin) else "NFC"
    return f"{twin} in Unicode's {form}"
