"""Corrected answers: what people found wrong in the annotations. Applied to rows as they are read, never written into the users' files.

`data.corrections` names a table (CSV or .xlsx) with the columns id, answer, who and why, and any others; `python -m data.check
--suspects` writes one to be filled in. A line whose answer, who and why are empty corrects nothing. An id has to be that of one row of
the configured splits, or of the one that the line's `split` names: a row without an id of its own is known by its number, which each
split has.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; give the file as data.corrections")

import csv
import io
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

from config import SPLITS
from data.language import table
from data.matching import labels_of, normalize_answer, question_key
from data.spreadsheet import read_spreadsheet
from data.values import MADE_A_DATE, as_text, is_date
from files import UserError, hash_of, quoted, read_jsonl, short, write_text

COLUMNS = ("id", "answer", "who", "why")
SPLIT = "split"  # an optional column
UNCORRECTED = "answer_uncorrected"  # a corrected row's column with the annotation as it was
MANY = 10  # rows of a question, of whose answers most are given once: it is answered freely


# ---------------------------------------------------------------------------------------------------------------------
# The file


def read_corrections(path, languages=("en",)):
    """The lines of a table, CSV as spreadsheets write it or .xlsx, that correct a row: a list of dicts of COLUMNS and `split` ("": any).

    languages: of data.language, the first of which says what Excel's TRUE and FALSE are called.
    How the file was read is not said, as each stage reads it. Raises UserError naming file and line, and the ids, for a column that is
    missing, an answer or id that is empty, an answer that a spreadsheet made a date, and an id that is given two answers.
    """
    found, truths = {}, dict(zip((True, False), table(tuple(languages[:1]))["yes_no"][0]))
    for where, row in _lines(path):
        values = {name: (as_text(row.get(name), where, name, Counter(), truths) or "").strip() for name in ("id", "answer", SPLIT)}
        values |= {name: str(row.get(name) or "").strip() for name in ("who", "why")}  # of a workbook also a date
        if not any(values[name] for name in COLUMNS[1:]):
            continue
        row_id, answer, split = values["id"], values["answer"], values[SPLIT]
        if not row_id or not normalize_answer(answer):
            raise UserError(f"{where}: {'answer' if row_id else 'id'} is empty; write it, or take the line out")
        if is_date(answer):
            raise UserError(f"{where}: the answer is the date {quoted(answer)}; {MADE_A_DATE}")
        if split not in ("", *SPLITS):
            raise UserError(f"{where}: split is {quoted(split)}; write {', '.join(SPLITS)}, or leave it empty")
        before, first = found.setdefault((row_id, split), (values, where))
        if normalize_answer(before["answer"]) != normalize_answer(answer):
            line = first.rpartition(":")[2].replace("row", "").strip()
            both = f"{quoted(before['answer'])} on line {line}, {quoted(answer)} here"
            raise UserError(f"{where}: id {quoted(row_id)} is corrected to two answers, {both}; agree on one")
    return [values for values, _ in found.values()]


def _lines(path):
    """`(where, {column in lower case: value})` of the table's rows."""
    if not Path(path).is_file():
        raise UserError(f"data.corrections: {path} does not exist; correct the path, or set data.corrections=null")
    columns, rows = read_spreadsheet(Path(path), None, lambda line: None, COLUMNS)
    names = {column: column.lower() for column in columns}
    if lacking := [name for name in COLUMNS if name not in names.values()]:
        raise UserError(f"{path}:1: has no column {', '.join(lacking)}; the first line is {','.join(COLUMNS)}")
    for where, row in rows:
        yield where, {names[column]: value for column, value in row.items()}


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
    found = read_corrections(settings.corrections, settings.languages)
    named = {split: Path(file) for split in SPLITS if (file := getattr(settings, f"{split}_jsonl"))}
    known = {file.resolve() for file in named.values()}
    more = list({Path(file).resolve(): Path(file) for file in (path, *others) if file and Path(file).resolve() not in known}.values())
    where = {}
    for row in found:
        files = [named[row[SPLIT]]] if row[SPLIT] in named else [] if row[SPLIT] else list(named.values())
        where[row["id"], row[SPLIT]] = _holding(row["id"], files) or ([] if row[SPLIT] else _holding(row["id"], more))
    _refuse_unknown(settings.corrections, where, named, more)
    here = Path(path).resolve()
    again = set() if here in known else row_ids(path, given=True)  # a row's number is another row's in another file
    chosen = {}
    for row in found:
        files = where[row["id"], row[SPLIT]]
        own = not row[SPLIT] or all(row["id"] in row_ids(file, given=True) for file in files)
        if here in map(Path.resolve, files) or row["id"] in again and own:
            before = chosen.setdefault(row["id"], row["answer"])
            if normalize_answer(before) != normalize_answer(row["answer"]):
                both = f"{quoted(before)} and {quoted(row['answer'])}"
                raise UserError(f"{settings.corrections}: id {quoted(row['id'])} is corrected to two answers, {both}; agree on one")
    return chosen


def _holding(row_id, files):
    return [file for file in files if file.is_file() and row_id in row_ids(file)]


def _refuse_unknown(path, where, named, more):
    """Refuse ids that no file has or several have. where: {(id, split or ""): files that have it}."""
    unknown = [row_id for (row_id, _), files in where.items() if not files]
    if unknown and all(file.is_file() for file in named.values()):  # to predict, no training file is needed
        names = ", ".join(file.name for file in (*named.values(), *more))
        remedy = "correct the lines, or take them out (spreadsheets make 7 of 007, and dates of 1-2)"
        raise UserError(f"{path}: {_listed(unknown)} no row of {names}; {remedy}")
    if twice := [key for key, files in where.items() if len({file.resolve() for file in files}) > 1]:
        names = " and ".join(file.name for file in where[twice[0]])
        remedy = "give every row an id of its own, as data.split does, or name its split in a column `split`"
        raise UserError(f"{path}: {_listed([row_id for row_id, _ in twice])} several rows, in {names}; {remedy}")


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


def unheard(corrections, path, *others):
    """{id: answer} of corrected answers that no other row of their question has: a misspelling would be a label of its own.

    corrections: of `corrections_for` for `path`; looked for in its rows and those of `others`. Answers in a row's options are heard, and
    so is every answer to a question that nobody else is asked, or that is answered freely: of MANY rows more than half once.
    """
    asked, heard = {}, defaultdict(Counter)
    for file in (path, *others) if corrections else ():
        for number, (_, row) in enumerate(read_jsonl(file)):
            row_id = str(number if row.get("id") is None else row["id"])
            if not isinstance(question := row.get("question"), str):
                continue
            if file is path and row_id in corrections:
                asked[row_id] = question_key(question), labels_of(corrections[row_id], options=row.get("options"))
                heard[question_key(question)].update(dict.fromkeys(map(normalize_answer, row.get("options") or ()), 2))
            elif isinstance(answer := row.get("answer"), str):
                heard[question_key(question)].update(list(labels_of(answer, options=row.get("options"))))
    freely = {key for key, found in heard.items() if found.total() >= MANY and 2 * sum(n == 1 for n in found.values()) > found.total()}
    by_others = Counter((key, label) for key, labels in asked.values() for label in labels)
    is_heard = lambda key, label: label in heard[key] or by_others[key, label] > 1
    new = lambda key, labels: heard[key] and key not in freely and not all(is_heard(key, label) for label in labels)
    return {row_id: corrections[row_id] for row_id, (key, labels) in asked.items() if new(key, labels)}


def describe_unheard(found):
    """`2 corrected answers are no other row's of the question (id 't1': 'yess', …): …` of what `unheard` found."""
    some = ", ".join(f"id {quoted(row_id)}: {quoted(answer)}" for row_id, answer in list(found.items())[:3]) + ", …" * (len(found) > 3)
    text = f"{len(found)} corrected answers are" if len(found) > 1 else "1 corrected answer is"
    return f"{text} no other row's of the question ({some}): if misspelled, or changed by a spreadsheet, correct data.corrections"


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
