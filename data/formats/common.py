"""What a reader is asked (Request), and what the readers of several families share."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.formats import source_files as source
from data.rows import junk_reason
from data.values import with_texts
from files import UserError, quoted

FIELDS = ("stage", "source", "complexity", "question_class", "hospital", "answer_type", "procedure", "patient")  # to group scores by
ROW_KEYS = ("question", "answer", "options", "answers", "group", "box", *FIELDS)  # kept of a JSON of rows


@dataclass
class Request:
    """What the user asked for, and what is to be said of it at the end."""

    src: Path
    dst: Path
    images: Path | None = None  # the folder that image names start from, where it isn't the reader's own choice
    language: str = "en"  # slake: en, zh or all
    answers: str = "short"  # for datasets with short and long answers: which of them is `answer`
    lists: str = "labels"  # an answer that is a list: labels of one answer, or references
    keep_junk: bool = False
    frames: int = 1  # of a clip
    strip_prefix: str | None = None  # conversations: the instruction before each question
    mapping: Path | None = None  # table: which column is what
    say: Callable = print  # takes a line on how the source was read
    converted: Counter = field(default_factory=Counter)  # values that were changed, by what they became

    def with_texts(self, where, record):
        """The record with its question and answer as text or None (data/values.py). Raises UserError, which begins with `where`."""
        return with_texts(record, where, self.converted, self.lists == "references")

    def wants(self, where, record):
        """Whether a record is going to be a row as far as its question and answer tell: only then it needs an image."""
        record = with_texts(record, where, Counter())
        return self.keep_junk or not junk_reason(record.get("question"), record.get("answer"))


def embedded_rows(paths, request):
    """Yield the rows of Parquet files with the columns image, question and answer; images are named by their content."""
    embedded = source.EmbeddedImages(request.dst)
    for path in paths:
        for where, record in source.parquet_records(path, ("image", "question", "answer")):
            image = record.pop("image")
            if request.wants(where, record):
                record["image"] = embedded_name(image, where, embedded)
            yield where, record | {"split": source.split_in_name(path)}


def embedded_name(image, where, embedded):
    """The name of a picture that lies in a row, by its content. embedded: source_files.EmbeddedImages, which writes it."""
    data = source.image_bytes(image, where)
    return embedded.name(hashlib.sha256(data).hexdigest()[:16], data, where)


def check_texts(texts, where, name):
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
        raise UserError(f"{where}: {name} are {json.dumps(texts)[:60]}, not a list of texts; correct or delete them")


def official(splits, name):
    """The split whose numbers include the first number in `name`, or None."""
    number = re.search(r"\d+", name)
    return next((split for split in splits if number and int(number.group()) in splits[split]), None)


def known_split(name, where):
    if not isinstance(name, str) or name not in source.SPLIT_WORDS:
        raise UserError(f"{where}: split is {quoted(name)}, not train, val or test; correct it")
    return source.SPLIT_WORDS[name]


def require_file(path):
    if not path.is_file():
        raise UserError(f"{path}: is a folder; give the JSON file")
    return path


def slashes(path):
    return path.replace("\\", "/")


def image_below(root, path):
    """A name below `root` for a path that may have been written on another machine."""
    path = slashes(path)
    parts = [part for part in path.split("/") if part not in ("", ".")] or [""]
    whole = () if path.startswith("/") or ":" in path or ".." in parts else ("/".join(parts),)
    return source.find_image(root, *whole, "/".join(parts[-2:]), f"images/{parts[-1]}", parts[-1])
