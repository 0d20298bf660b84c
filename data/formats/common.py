"""What a reader is asked (Request), and what the readers of several families share."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
import re
from dataclasses import dataclass
from pathlib import Path

from data.formats import source_files as source
from data.rows import junk_reason
from files import UserError

ROW_KEYS = ("question", "answer", "options", "answers", "group", "box", "stage")  # kept of the predecessor's JSON


@dataclass
class Request:
    """What the user asked for."""

    src: Path
    dst: Path
    images: Path | None = None  # the folder that image names start from, where it isn't the reader's own choice
    language: str = "en"  # slake: en, zh or all
    answers: str = "short"  # for datasets with short and long answers: which of them is `answer`
    keep_junk: bool = False

    def wants(self, record):
        """Whether a record is going to be a row as far as its question and answer tell: only then it needs an image."""
        return self.keep_junk or not junk_reason(record.get("question"), record.get("answer"))


def two_turns(turns, who, what, names, where):
    """The texts of a conversation of one question and one answer."""
    turns = turns if isinstance(turns, list) else []
    if [turn.get(who) if isinstance(turn, dict) else None for turn in turns] != list(names):
        raise UserError(f"{where}: is no conversation of one {names[0]} and one {names[1]} turn; correct or delete it")
    for turn in turns:
        if not isinstance(turn.get(what), str):
            raise UserError(f"{where}: {what} is {turn.get(what)!r}, not text; correct or delete it")
    return [turn[what] for turn in turns]


def check_texts(texts, where, name):
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
        raise UserError(f"{where}: {name} are {json.dumps(texts)[:60]}, not a list of texts; correct or delete them")


def official(splits, name):
    """The split whose numbers include the first number in `name`, or None."""
    number = re.search(r"\d+", name)
    return next((split for split in splits if number and int(number.group()) in splits[split]), None)


def known_split(name, where):
    if not isinstance(name, str) or name not in source.SPLIT_WORDS:
        raise UserError(f"{where}: split is {name!r}, not train, val or test; correct it")
    return source.SPLIT_WORDS[name]


def require_file(path):
    if not path.is_file():
        raise UserError(f"{path}: is a folder; give the JSON file")
    return path


def slashes(path):
    return path.replace("\\", "/")
