"""Which reader fits a file that isn't rows: conversations, tables and published data sets, told by their first bytes."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
import re
import shlex
from pathlib import Path

from files import UserError, refuse_pointer

TABLES = (".csv", ".tsv", ".xlsx", ".xlsm", ".xls", ".ods")
READ = 1 << 16  # bytes that are looked at
READERS = "python -m data.readers"


def fitting_reader(path):
    """`this looks like conversations: python -m data.readers conversations PATH DST`, or None where it looks like rows or nothing known."""
    path = Path(path)
    if path.is_dir():
        files = sorted(found for found in path.iterdir() if found.suffix.lower() in (".json", ".jsonl", *TABLES))
        return fitting_reader(files[0]) if len(files) == 1 else None
    name = shlex.quote(str(path))
    try:
        with open(path, "rb") as file:
            start = file.read(READ)
    except OSError:
        return None
    if start.startswith(b"PAR1"):
        known = f"{READERS} --help names the data sets that are read from it"
        return f"this looks like Parquet: {known}; a table of your own: {READERS} table {name} DST --suggest"
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")) or path.suffix.lower() in TABLES:
        if {b"Figure_path", b"Choice A"} <= set(re.split(rb"[,;\t\r\n\"]+", start[:2000])):
            return f"this looks like PMC-VQA: {READERS} pmc-vqa {name} DST"
        return f"this looks like a table: {READERS} table {name} DST --suggest"
    record = _first_record(start.decode("utf-8", "ignore").lstrip("\ufeff").lstrip())
    if isinstance(record, dict) and isinstance(record.get("messages", record.get("conversations", record.get("conversation"))), list):
        return f"this looks like conversations: {READERS} conversations {name} DST"
    if isinstance(record, dict) and {"image_id", "image_filename"} & set(record) and start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        return f"this looks like rows in one JSON array: {READERS} kvasir-vqa-json {name} DST"
    return None


def _first_record(text):
    """The first JSON object of an array or of lines, also of one that the bytes looked at cut; None where there is none."""
    text = text[1:].lstrip() if text.startswith("[") else text
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        cut = re.match(r"\{[^{}]*?\"(messages|conversations)\"\s*:\s*\[", text)
        return {cut[1]: []} if cut else None


def refuse_foreign(path):
    """Raise UserError that names the reader, if a file of rows was wanted and this is none. A missing file is for others to tell."""
    if Path(path).is_file():
        refuse_pointer(path)
    if fits := fitting_reader(path):
        raise UserError(f"{path}: is not JSONL with one question a line; {fits}")
