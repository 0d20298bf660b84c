"""Spreadsheets of one's own: one row a question, or one row a picture with a column for each finding. A mapping says which is what."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
import re
from collections import Counter

from config import LANGUAGES
from data.formats import source_files as source
from data.formats.common import embedded_name, image_below
from data.image_names import twin, why_no_file
from data.language import table
from data.spreadsheet import ROUNDED, read_spreadsheet
from data.text import clean
from data.values import MADE_A_DATE, as_text, is_date, plain
from files import UserError, quoted

# isort: split
import yaml

with open(os.path.join(os.path.dirname(__file__), "table.yaml"), encoding="utf-8") as file:
    WORDS = yaml.safe_load(file)
KEYS = ("image", "group", "sheet", "language", "keep", "questions", "question", "answer", "options", "values", "empty")
COLUMN_KEYS = ("question", "values", "empty")
SKIP = ("skip", "")  # what `values` and `empty` give for a cell that asks nothing
RESERVED = {"id", "image", "images", "question", "answer", "group", "options", "answers", "split", "language"}  # no names of kept columns
DATES = "dates"  # what --suggest calls a column of them
TRUTHS = {
    True: ("yes", "true", "1", "wahr", "vrai", "verdadero"),
    False: ("no", "false", "0", "falsch", "faux", "falso"),
}  # how `values` may spell Excel's TRUE and FALSE
PARQUET = b"PAR1"


class TextLoader(yaml.BaseLoader):
    """YAML whose values are all text: `ja: yes` and `1: yes` mean what they say. A key given twice is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen if isinstance(key.value, str) else True:
                problem = "gives a key twice" if isinstance(key.value, str) else "has a list for a key"
                raise yaml.MarkedYAMLError(problem=f"{problem}: {quoted(key.value)}", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_table(request):
    """A table of your own, .xlsx, CSV or Parquet, by a mapping of its columns (--suggest writes a first one); licence: your own

    SRC is the file; images lie in its folder or below --images, or in a column of a Parquet file. --mapping names a YAML file:
      image, group: the columns with the picture's file name (its suffix may be missing) and with the patient or video
      questions: {COLUMN: {question: …, values: {1: yes, 0: no}, empty: skip}}     one row a picture, or
      question, answer: the columns with them, and options: [COLUMNS]               one row a question
      values: what cells mean, the same for every column; `skip` leaves the cell out. What it doesn't list stays as it is.
      empty: what an empty cell says: skip (the default), or an answer such as none
      sheet, language (of the questions, for data.language), keep: [COLUMNS] that rows carry along
    docs/your-data.md takes a table through every step.
    """
    if request.src.is_dir():
        raise UserError(f"{request.src}: is a folder; give the .xlsx, .csv or .parquet file")
    if request.mapping is None:
        raise UserError(f"{request.src}: has no mapping; say what its columns are with --mapping FILE; --suggest writes a first one")
    mapping = read_mapping(request.mapping)
    columns, rows = table_rows(request.src, mapping.get("sheet"), request.say, columns_of(mapping))
    check_mapping(mapping, columns, request.mapping, request.src)
    pictures = is_parquet(request.src) and source.parquet_columns(request.src)[mapping["image"]]
    root = request.dst if pictures else request.images or request.src.parent
    return root, _records(rows, mapping, root, request)


def is_parquet(path):
    with open(path, "rb") as file:
        return file.read(4) == PARQUET or path.suffix.lower() == ".parquet"


def table_rows(path, sheet, say, named=()):
    """`(columns, rows)` of a table as `read_spreadsheet` returns them, and of a Parquet file, whose rows come one by one."""
    if not is_parquet(path):
        return read_spreadsheet(path, sheet, say, named)
    if sheet:
        raise UserError(f"{path}: is no workbook, and has no sheet {quoted(sheet)}; take `sheet` out of the mapping")
    columns = list(source.parquet_columns(path))
    missing = lambda value: value != value or value == [] or isinstance(value, str) and not value.strip()
    rows = source.parquet_records(path, columns)
    return columns, ((where, {name: None if missing(row[name]) else row[name] for name in columns}) for where, row in rows)


def columns_of(mapping):
    """The names (list) of all the columns that a mapping names."""
    named = [mapping[key] for key in ("image", "group", "question", "answer") if mapping.get(key)]
    return [*named, *mapping["questions"], *mapping["keep"], *mapping["options"]]


def read_mapping(path):
    """The mapping (dict of texts, lists and dicts) of a YAML file. Raises UserError naming the file and what is wrong with it."""
    try:
        mapping = yaml.load(path.read_text(encoding="utf-8-sig"), TextLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; --suggest writes a first mapping") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply; write it flat") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())  # the reader's own has line ends
        raise UserError(f"{path}{line}: not valid YAML ({problem}); correct it") from None
    _check_keys(mapping, KEYS, path)
    if mapping.get("language", "en") not in LANGUAGES:
        raise UserError(f"{path}: language is {quoted(mapping['language'])}; one of {', '.join(LANGUAGES)} is wanted")
    questions = mapping.get("questions", {})
    if not isinstance(questions, dict):
        raise UserError(f"{path}: questions is {quoted(questions)}; give each column its question")
    mapping["questions"] = {name: {"question": entry} if isinstance(entry, str) else entry for name, entry in questions.items()}
    for name, entry in mapping["questions"].items():
        _check_keys(entry, COLUMN_KEYS, f"{path}: questions: {name}")
        if not str(entry.get("question") or "").strip():
            raise UserError(f"{path}: questions: {name}: has no question; write it")
    for key in ("keep", "options"):
        if not isinstance(mapping.setdefault(key, []), list) or not all(isinstance(name, str) for name in mapping[key]):
            raise UserError(f"{path}: {key} is {quoted(mapping[key])}; give a list of columns")
    return mapping


def _check_keys(mapping, known, where):
    if not isinstance(mapping, dict):
        raise UserError(f"{where}: is {quoted(mapping)}; write `key: value` lines: {', '.join(known)}")
    if unknown := sorted(set(mapping) - set(known)):
        raise UserError(f"{where}: unknown key {quoted(unknown[0])}; known are {', '.join(known)}")
    values = mapping.get("values", {})
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UserError(f"{where}: values is {quoted(values)}; write what each cell means, such as {{1: yes, 0: no}}")
    for key in set(known) - {"questions", "values", "keep", "options"}:
        if not isinstance(mapping.get(key, ""), str):
            raise UserError(f"{where}: {key} is {quoted(mapping[key])}; give one text")


def check_mapping(mapping, columns, path, src):
    """Raise UserError for a mapping that is neither of both forms, or that names columns the table doesn't have once."""
    if bool(mapping["questions"]) == bool(mapping.get("question") or mapping.get("answer")):
        raise UserError(f"{path}: give either questions (one row a picture) or question and answer (one row a question)")
    required = ["image"] if mapping["questions"] else ["image", "question", "answer"]
    for key in required:
        if not mapping.get(key):
            raise UserError(f"{path}: has no {key}; name the column that holds it, one of {', '.join(columns)}"[:400])
    for name in columns_of(mapping):
        if columns.count(name) != 1:
            problem = "has no column" if name not in columns else "has more than one column"
            raise UserError(f"{src}: {problem} {quoted(name)}, which {path} names; found {', '.join(columns)}"[:400])
    if taken := RESERVED & set(mapping["keep"]):
        raise UserError(f"{path}: keep: {min(taken)} is a field that rows have themselves; rename the column in the table")


def _records(rows, mapping, root, request):
    """Yield `(where, record)` of every cell that answers a question; say what was kept as it was and what was left out."""
    listings, unlisted, empty, embedded = {}, {}, 0, source.EmbeddedImages(request.dst)
    asked = mapping["questions"] or {mapping["answer"]: {}}
    for where, cells in rows:
        facts = None
        for column, entry in asked.items():
            at = f"{where}, {column}"
            answer, listed = _answer(cells[column], {**_general(mapping), **entry}, at, request)
            if answer is None:
                empty += 1
                continue
            if not listed:
                unlisted.setdefault(column, Counter())[answer] += 1
            facts = facts or {"image": _image(cells, mapping, where, root, listings, embedded), **_facts(cells, mapping, where, request)}
            yield at, {"question": entry.get("question") or cells[mapping["question"]], "answer": answer, **facts}
    if empty:
        request.say(f"{request.src}: {empty} cells are empty or `skip`, and ask nothing")
    for column, found in unlisted.items():
        some = ", ".join(f"{quoted(value)} ({count})" for value, count in found.most_common(3)) + ", …" * (len(found) > 3)
        request.say(f"{request.src}: {column}: {found.total()} cells that `values` doesn't list stay as they are: {some}")
    if mapping.get("language"):
        request.say(f"data.language: {mapping['language']}")


def _general(mapping):
    return {key: mapping[key] for key in ("values", "empty", "language") if key in mapping}


def _answer(value, entry, where, request):
    """`(answer, whether values or empty say so)` of a cell; the answer is None where it asks nothing."""
    values, truths = (
        {clean(cell): answer for cell, answer in entry.get("values", {}).items()},
        dict(zip((True, False), yes_no_of(entry.get("language")))),
    )
    if value is None or isinstance(value, str) and not value.strip():
        answer = entry.get("empty", "skip")
        return None if answer.strip() in SKIP else answer, True
    if isinstance(value, bool):
        found = next((values[word] for word in TRUTHS[value] if word in values), None)
        if found is None:
            found = as_text(value, where, "the answer", request.converted, truths)
    else:
        text = as_text(value, where, "the answer", Counter(), truths)
        found = values.get(clean(text))
        if found is None and (parts := parts_of(text, values)):
            said = [values.get(clean(part), part) for part in parts]
            said = [text for text in said if text.strip() not in SKIP]
            return "; ".join(said) or None, all(clean(part) in values for part in parts)
    if found is not None:
        return None if found.strip() in SKIP else found, True
    if is_date(value):
        raise UserError(f"{where}: the answer is the date {quoted(value)}; {MADE_A_DATE}, or list it in `values`")
    return as_text(value, where, "the answer", request.converted, truths), not values


def parts_of(text, values):
    """The codes in a cell that holds several, `1; 3`; [] where it is no list of them. values: {code: what it means}.

    Semicolons and line ends part them, and commas where each part is a code and the text no decimal fraction.
    """
    by_signs, by_commas = ([part.strip() for part in re.split(signs, text) if part.strip()] for signs in ("[;\n]", ","))
    if by_signs != [text] and any(clean(part) in values for part in by_signs):
        return by_signs
    commas = by_commas != [text] and not re.fullmatch(r"\d+,\d+", text) and all(clean(part) in values for part in by_commas)
    return by_commas if commas else []


def yes_no_of(language):
    """(yes, no) in a language of data/languages/, English by default."""
    return table((language or "en",))["yes_no"][0]


def _image(cells, mapping, where, root, listings, embedded):
    """The name of a row's picture below `root`, where one that lies in the table itself is written."""
    image = cells[mapping["image"]]
    if image is None:
        raise UserError(f"{where}: {mapping['image']} is empty, which names the picture; fill it or delete the row")
    if isinstance(image, list):
        raise UserError(f"{where}: {mapping['image']} is a list, {quoted(image)}; name one picture a row")
    if isinstance(image, bytes | dict):
        return embedded_name(image, where, embedded)
    name = as_text(image, where, mapping["image"], Counter())
    if why := why_no_file(name):
        raise UserError(f"{where}: {mapping['image']} is {quoted(name)}, {why}")
    name = image_below(root, name)
    if not os.path.isfile(os.path.join(root, name)) and (found := twin(os.path.join(root, name), listings)):
        name = os.path.relpath(found, root).replace(os.sep, "/")
    return name


def _facts(cells, mapping, where, request):
    """Group, options, language and kept columns of a table's row."""
    facts = {}
    if group := mapping.get("group"):
        if cells[group] is None:
            raise UserError(f"{where}: {group} is empty, which names the patient or video; fill it, so that no patient is in two splits")
        facts["group"] = as_text(cells[group], where, group, Counter())
        if ROUNDED.fullmatch(facts["group"] or ""):
            problem = "a number that a spreadsheet rounded, so that different patients become one"
            raise UserError(f"{where}: {group} is {quoted(facts['group'])}, {problem}; format the column as text and save it anew")
    if options := [as_text(cells[name], where, name, request.converted) for name in mapping["options"] if cells[name] is not None]:
        facts["options"] = options
    facts |= {"language": mapping["language"]} if mapping.get("language") else {}
    return facts | {name: plain(cells[name], where, name) for name in mapping["keep"] if cells[name] is not None}
