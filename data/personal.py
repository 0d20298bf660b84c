"""What looks like a person: names, dates and identifiers in texts, file names and what is written beside a picture's pixels.

The table is data/personal.yaml. It is a net with holes: it finds the usual forms, and `nothing found` is no proof that there is nothing.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python -m data.check")

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml
from PIL import ExifTags, Image

from data.image_names import images_of
from files import printable, short

TABLE = yaml.safe_load(Path(__file__).with_name("personal.yaml").read_text(encoding="utf-8"))
NO_NAMES = frozenset(TABLE["no_names"])
GIVEN_NAMES = frozenset(TABLE["given_names"]) - NO_NAMES
WORD, DIGIT = re.compile(r"[^\W\d_]+"), re.compile(r"[\d@]")  # without a digit (or an address) there is no date and no identifier
KNOWN = {"id", "answer", "answers", "question", "group", "image", "images", "options"}
METADATA = {tag: kind for kind, tags in TABLE["metadata"].items() for tag in tags}


class Found(NamedTuple):
    """kind: `name`, `date`, `identifier` or `place`. text: what looks like one, on one line."""

    kind: str
    text: str


def _compiled(patterns):
    return {kind: [re.compile(pattern, re.IGNORECASE) for pattern in own] for kind, own in patterns.items()}


PATTERNS, FILE_PATTERNS = _compiled(TABLE["patterns"]), _compiled(TABLE["file_patterns"])


@lru_cache(1 << 16)  # answers and questions repeat
def in_text(text):
    """The Found (a tuple, at most one of a kind) of a text."""
    return _search(text, PATTERNS)


@lru_cache(1 << 16)
def in_file_name(name):
    """The Found of a file's name with its folders, whose parts and `_` separate words."""
    text = name.replace("_", " ").replace("/", " / ")
    found = {item.kind: item for item in (*_search(text, FILE_PATTERNS), *_search(text, PATTERNS))}
    return tuple(found.values())


def _search(text, patterns):
    found = {}
    for kind, own in patterns.items():
        for pattern in own if kind == "name" or DIGIT.search(text) else ():
            match = pattern.search(text)
            if match and match.groupdict().get("word", "").lower() not in NO_NAMES:
                found.setdefault(kind, match[0])
    if "name" not in found and (names := [word for word in WORD.findall(text) if word.lower() in GIVEN_NAMES]):
        found["name"] = names[0]
    if "identifier" in found and found["identifier"] in found.get("date", ""):  # the same digits
        del found["identifier"]
    return tuple(Found(kind, _line(value)) for kind, value in found.items())


def _line(value):
    return printable(short(" ".join(value.split()), 60))


def in_picture(content):
    """The Found of what is written beside the pixels of an image file (its bytes): EXIF, a PNG's texts, a JPEG's comment.

    A file that is no image, or whose metadata is broken, has none: whoever reads the pixels says so.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            written = {**image.info, **_exif(image)}
    except Exception:  # on broken files Pillow raises whatever it comes upon
        return ()
    found = {}
    for tag, value in written.items():
        kind = METADATA.get(tag) or ("name" if "patient" in str(tag).lower() else None)
        text = _text(value)
        if kind == "texts":
            for item in in_text(text):
                found.setdefault(item.kind, Found(item.kind, f"{tag}: {item.text}"))
        elif kind and text:
            found.setdefault(kind, Found(kind, f"{tag}: {_line(text)}"))
    return tuple(found.values())


def _exif(image):
    exif = image.getexif()
    tags = {ExifTags.TAGS.get(tag): value for tag, value in {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}.items()}
    places = {ExifTags.GPSTAGS.get(tag): value for tag, value in exif.get_ifd(ExifTags.IFD.GPSInfo).items()}
    where = {key: places[key] for key in ("GPSLatitude", "GPSLongitude") if key in places}
    return {**tags, "GPSInfo": str(where) if where else "", "GPSDateStamp": places.get("GPSDateStamp", "")}


def _text(value):
    """A tag's value as text: EXIF has bytes with a code in front, and Windows UTF-16."""
    if isinstance(value, (bytes, tuple)):
        data = bytes(value) if isinstance(value, bytes) or all(isinstance(byte, int) and 0 <= byte < 256 for byte in value) else b""
        data = data.removeprefix(b"ASCII\0\0\0").removeprefix(b"UNICODE\0")
        value = data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-8", errors="replace")
    return str(value).replace("\0", "").strip()


# ---------------------------------------------------------------------------------------------------------------------
# Counting


def count(rows, pictures=None):
    """{where: {"rows": {kind: rows}, "first": [[id, kind, text]]}} of rows (dicts with `id` and `image`); only where there is something.

    where: `answers`, `questions`, `groups`, `file names`, and `pictures` (of `{image name: (Found, …)}`).
    """
    found = {}
    for row in rows:
        references = row.get("answers") if isinstance(row.get("answers"), list) else ()
        group = str(row["group"]) if isinstance(row.get("group"), int) else row.get("group")
        places = {"answers": [row.get("answer"), *references], "questions": [row.get("question")], "groups": [group]}
        places |= {f"column {key}": [value] for key, value in row.items() if key not in KNOWN}
        hits = {name: [item for text in texts if isinstance(text, str) for item in in_text(text)] for name, texts in places.items()}
        hits |= {"file names": [item for name in images_of(row) for item in in_file_name(name)]}
        hits |= {"pictures": [item for name in images_of(row) for item in (pictures or {}).get(name, ())]}
        for name, items in hits.items():
            for kind, text in {item.kind: item.text for item in items}.items():
                facts = found.setdefault(name, {"rows": {}, "first": []})
                facts["rows"][kind] = facts["rows"].get(kind, 0) + 1
                if sum(entry[1] == kind for entry in facts["first"]) < 3:
                    facts["first"].append([row["id"], kind, text])
    return found
