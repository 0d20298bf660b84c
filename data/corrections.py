"""Corrected answers: what people found wrong in the annotations. Applied to rows as they are read, never written into the users' files.

`data.corrections` names a CSV with the columns id, answer, who and why, and any others; `python -m data.check --suspects` writes one
to be filled in. A row whose answer, who and why are empty corrects nothing. An id has to be that of one row of the configured splits.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; give the file as data.corrections")

import csv
import io
from functools import lru_cache
from pathlib import Path

from data.matching import normalize_answer
from files import UserError, hash_of, quoted, read_jsonl, short, write_text

COLUMNS = ("id", "answer", "who", "why")
UNCORRECTED = "answer_uncorrected"  # a corrected row's column with the annotation as it was


# ---------------------------------------------------------------------------------------------------------------------
# The file


def read_corrections(path):
    """The lines of a CSV (comma, semicolon or tab; UTF-8) that correct a row, as {id: dict of COLUMNS}.

    Raises UserError naming file and line, and the ids, for a column that is missing, an answer or id that is empty, and an id that
    is given two answers.
    """
    found = {}
    for line, row in _lines(path):
        values = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if not any(values[name] for name in COLUMNS[1:]):
            continue
        row_id, answer = values["id"], values["answer"]
        if not row_id or not normalize_answer(answer):
            raise UserError(f"{path}:{line}: {'answer' if row_id else 'id'} is empty; write it, or take the line out")
        before, first = found.setdefault(row_id, (values, line))
        if normalize_answer(before["answer"]) != normalize_answer(answer):
            both = f"{quoted(before['answer'])} on line {first}, {quoted(answer)} here"
            raise UserError(f"{path}:{line}: id {quoted(row_id)} is corrected to two answers, {both}; agree on one")
    return {row_id: values for row_id, (values, _) in found.items()}


def _lines(path):
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"data.corrections: {path} does not exist; correct the path, or set data.corrections=null") from None
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise UserError(f"{path}:{line}: not UTF-8 text ({error.reason}); save it as CSV UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=text.partition("\n")[0].count))
    try:
        reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if lacking := [name for name in COLUMNS if name not in reader.fieldnames]:
            raise UserError(f"{path}:1: has no column {', '.join(lacking)}; the first line is {','.join(COLUMNS)}")
        yield from ((reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error}); save it as CSV UTF-8") from None


def write_csv(path, rows, columns):
    """Write rows (dicts) as CSV that spreadsheets open with their letters right: UTF-8 with a byte order mark."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, "\ufeff" + file.getvalue())


# ---------------------------------------------------------------------------------------------------------------------
# Applying it


def corrections_for(settings, path, *others):
    """{id: corrected answer} of the rows of one file, by `data.corrections`; {} where that is not set.

    settings: the data section of a configuration. An id has to be in one of its splits, or in `path` or `others`, which may hold rows of
    the splits once more (`out_of_fold.jsonl` of a sweep). Raises UserError naming the ids that are in none of these files, or in
    several splits, and as `read_corrections` does.
    """
    if settings.corrections is None:
        return {}
    found = read_corrections(settings.corrections)
    named = [Path(file) for file in (settings.train_jsonl, settings.val_jsonl, settings.test_jsonl) if file]
    known = {file.resolve() for file in named}
    more = list({Path(file).resolve(): Path(file) for file in (path, *others) if file and Path(file).resolve() not in known}.values())
    holding = lambda row_id, files: [file for file in files if file.is_file() and row_id in row_ids(file)]
    where = {row_id: holding(row_id, named) or holding(row_id, more) for row_id in found}
    unknown = [row_id for row_id in found if not where[row_id]]
    if unknown and all(file.is_file() for file in named):  # to predict, no training file is needed
        names = ", ".join(file.name for file in (*named, *more))
        raise UserError(f"{settings.corrections}: {_listed(unknown)} no row of {names}; correct the lines, or take them out")
    if twice := [row_id for row_id in found if len({file.resolve() for file in where[row_id]}) > 1]:
        names = " and ".join(file.name for file in where[twice[0]])
        remedy = "give every row an id of its own, as data.split does"
        raise UserError(f"{settings.corrections}: {_listed(twice)} several rows, in {names}; {remedy}")
    here = Path(path).resolve()
    again = set() if here in known else row_ids(path, given=True)  # a row's number is another row's in another file
    chosen = [row_id for row_id in found if row_id in again or here in map(Path.resolve, where[row_id])]
    return {row_id: found[row_id]["answer"] for row_id in chosen}


def row_ids(path, given=False):
    """The ids (set of str) of a file's rows, as `rows.read_rows` has them. given: without those that are but the row's number."""
    numbered, own = _ids(Path(path), Path(path).stat().st_mtime_ns)
    return own if given else own | numbered


@lru_cache(8)
def _ids(path, changed):  # changed: when the file was, so that what is kept is not of another
    numbered, own = set(), set()
    for number, (_, row) in enumerate(read_jsonl(path)):
        (numbered if row.get("id") is None else own).add(str(number if row.get("id") is None else row["id"]))
    return numbered, own


def _listed(ids, first=5):
    shown = ", ".join(map(quoted, ids[:first])) + ", …" * (len(ids) > first)
    return f"id {shown} is that of" if len(ids) == 1 else f"{len(ids)} ids ({short(shown, 200)}) are those of"


def corrected(row, corrections):
    """A row (dict with `id`) with its corrected answer, if it has one: the annotation is kept as `answer_uncorrected`, and other
    references (`answers`), which the correction replaces, go."""
    if row["id"] not in corrections:
        return row
    kept = {key: value for key, value in row.items() if key != "answers"}
    return {**kept, "answer": corrections[row["id"]], UNCORRECTED: row.get("answer")}


def fingerprint(corrections):
    """{"corrections": their hash}, which hashes of inputs hold; {} where there are none, as if nobody had thought of any."""
    return {"corrections": hash_of(sorted(corrections.items()))} if corrections else {}
