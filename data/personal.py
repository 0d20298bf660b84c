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
from xml.etree import ElementTree

import yaml
from PIL import ExifTags, Image, IptcImagePlugin

from data.image_names import images_of
from files import printable, short

TABLE = yaml.safe_load(Path(__file__).with_name("personal.yaml").read_text(encoding="utf-8"))
NO_NAMES = frozenset(TABLE["no_names"])
GIVEN_NAMES = frozenset(TABLE["given_names"]) - NO_NAMES
BEHIND_SURNAMES = GIVEN_NAMES | frozenset(TABLE["given_names_after_a_comma"])
WORD, DIGIT = re.compile(r"[^\W\d_]+"), re.compile(r"[\d@]")  # without a digit (or an address) there is no date and no identifier
FILE = re.compile(r"[/\\]|\.\w{1,6}$|^[^\s]*_[^\s]*$")  # a text that may be a file's name
KNOWN = {"id", "answer", "answers", "question", "group", "image", "images", "options", "answers_by"}
ROLES = TABLE["roles"]
CONTAINERS = {"exif", "xmp", "icc_profile", "photoshop", "mp", "XML:com.adobe.xmp"}  # whose entries are read one by one
OF_PROGRAMS = "of_programs"
IPTC = {(2, 5): "Title", (2, 55): "DateCreated", (2, 80): "By-line", (2, 105): "Headline", (2, 116): "Copyright", (2, 120): "Caption"}
METADATA = {tag: kind for kind, tags in TABLE["metadata"].items() for tag in tags}


class Found(NamedTuple):
    """kind: `name`, `date`, `identifier` or `place`. text: what looks like one, on one line."""

    kind: str
    text: str


def _compiled(patterns):
    stands_for = {name: TABLE[name] for name in ("month_name", "month", "is", "Name", "chinese")}
    stands_for["role"] = "(?:" + "|".join(map(re.escape, ROLES)) + ")"
    whole = lambda pattern: re.sub(rf"\{{({'|'.join(stands_for)})\}}", lambda name: stands_for[name[1]], pattern)
    return {kind: [re.compile(whole(pattern), re.IGNORECASE) for pattern in own] for kind, own in patterns.items()}


PATTERNS, FILE_PATTERNS = _compiled(TABLE["patterns"]), _compiled(TABLE["file_patterns"])


@lru_cache(1 << 16)  # answers and questions repeat
def found_in(text):
    """The Found (a tuple, at most one of a kind) of a text, which may be a file's name or a path: what all else here asks."""
    found = _search(text, PATTERNS)
    if FILE.search(text):
        found = {**{item.kind: item for item in _in_file_name(text)}, **{item.kind: item for item in found}}.values()
    return tuple(found)


def may_be_named(text, groups, min_groups):
    """May an answer or a question of so many groups stand in what lies beside an adapter that people publish?"""
    return groups >= min_groups and not found_in(text)


def _in_file_name(name):
    """The Found of a file's name with its folders, whose parts and `_` separate words."""
    text = name.replace("_", " ").replace("\\", "/").replace("/", " / ")
    return *_search(text, FILE_PATTERNS), *_search(text, PATTERNS)


def _search(text, patterns):
    found = {}
    for kind, own in patterns.items():
        for pattern in own if kind == "name" or DIGIT.search(text) else ():
            if kind not in found and (match := next(filter(_counts, pattern.finditer(text)), None)):
                found[kind] = match[0]
    if "name" not in found and (names := [word for word in WORD.findall(text) if word.lower() in GIVEN_NAMES]):
        found["name"] = names[0]
    if "identifier" in found and found["identifier"] in found.get("date", ""):  # the same digits
        del found["identifier"]
    return tuple(Found(kind, _line(value)) for kind, value in found.items())


def _counts(match):
    """Is a match of a pattern no word that is no name, and are given names some?"""
    parts = {name: (part or "").lower() for name, part in match.groupdict().items()}
    return parts.get("word", "") not in NO_NAMES and parts.get("given") in (None, *BEHIND_SURNAMES)


def _line(value):
    return printable(short(" ".join(value.split()), 60))


def in_picture(content):
    """The Found of what is written beside the pixels of an image file (its bytes): EXIF, IPTC, XMP, a PNG's texts, a JPEG's comment.

    A file that is no image, or whose metadata is broken, has none: whoever reads the pixels says so.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            info = {key: value for key, value in image.info.items() if key not in CONTAINERS and "profile" not in str(key)}
            written = {**info, **_iptc(image), **_exif(image), **_xmp(image)}
    except Exception:  # on broken files Pillow raises whatever it comes upon
        return ()
    found = {}
    for tag, value in written.items():
        kind = METADATA.get(tag) or ("name" if "patient" in str(tag).lower() else None)
        text = _text(value)
        if kind is None:
            for item in (
                (found_in(text) or found_in(f"{tag}: {text}")) if isinstance(value, str | bytes) or str(tag).startswith("XP") else ()
            ):
                found.setdefault(item.kind, Found(item.kind, _line(f"{tag}: {item.text}" if item.text in text else item.text)))
        elif kind != OF_PROGRAMS and text:
            found.setdefault(kind, Found(kind, f"{tag}: {_line(text)}"))
    return tuple(found.values())


def _iptc(image):
    """{name of an entry, or its number: its text} of a JPEG's or TIFF's IPTC block."""
    entries = IptcImagePlugin.getiptcinfo(image) or {}
    return {IPTC.get(key, f"IPTC {key[0]}:{key[1]}"): b"; ".join(v) if isinstance(v, list) else v for key, v in entries.items()}


def _xmp(image):
    """{name of a property: its text} of an image's XMP packet, which JPEG, PNG, WebP and TIFF have in places of their own."""
    packet = next((image.info[key] for key in ("xmp", "XML:com.adobe.xmp") if key in image.info), None) or image.getexif().get(0x02BC)
    packet = packet.encode() if isinstance(packet, str) else packet
    written = {}

    def read(element, name):
        own = element.tag.rpartition("}")[2]
        name = name if own in ("li", "Seq", "Bag", "Alt", "RDF", "Description") else own
        texts = {name: element.text or "", **{key.rpartition("}")[2]: value for key, value in element.attrib.items()}}
        for key, text in texts.items():
            if text.strip() and key not in ("about", "lang"):
                written[key] = " ".join(filter(None, (written.get(key), text.strip())))
        for child in element:
            read(child, name)

    try:
        read(ElementTree.fromstring(packet.strip(b"\0 \n\r\t")), "") if packet else None
    except ElementTree.ParseError:
        return {"Comment": re.sub(rb'[\w:]+="http[^"]*"|[<>]', b" ", packet)}
    return written


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


def texts_in(value):
    """The texts and whole numbers in nested lists and dicts, and the keys of these, none of which may name a person."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts_in(item)


def count(rows, pictures=None):
    """{where: {"rows": {kind: rows}, "first": [[id, kind, text]]}} of rows (dicts with `id` and `image`); only where there is something.

    where: `answers`, `options`, `questions`, `groups`, `ids`, `raters`, `file names`, `column NAME`, and `pictures` (of
    `{image name: (Found, …)}`).
    """
    found = {}
    for number, row in enumerate(rows):
        by_rater = row["answers_by"] if isinstance(row.get("answers_by"), dict) else {}
        places = {"answers": [row.get("answer"), row.get("answers"), [*by_rater.values()]], "options": row.get("options")}
        places |= {
            "questions": row.get("question"),
            "groups": row.get("group"),
            "ids": row["id"] if row["id"] != str(number) else None,
            "raters": [*by_rater],
            "file names": images_of(row),
        }
        # what a column's name says of a value that says nothing alone: `patient_name: Kowalczyk`
        places |= {f"column {key}": [f"{key}: {text}" for text in texts_in(value)] for key, value in row.items() if key not in KNOWN}
        hits = {name: [item for text in texts_in(value) for item in found_in(text)] for name, value in places.items()}
        hits |= {"pictures": [item for name in images_of(row) for item in (pictures or {}).get(name, ())]}
        for name, items in hits.items():
            for kind, text in {item.kind: item.text for item in items}.items():
                facts = found.setdefault(name, {"rows": {}, "first": []})
                facts["rows"][kind] = facts["rows"].get(kind, 0) + 1
                if sum(entry[1] == kind for entry in facts["first"]) < 3:
                    facts["first"].append([row["id"], kind, text])
    return found
