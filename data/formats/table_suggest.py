"""A first mapping of a spreadsheet's columns, for people to edit. What it knows of words is table.yaml."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
import re
import shlex
from collections import Counter

from PIL import Image

from data.formats.table import DATES, WORDS, table_rows, yes_no_of
from data.personal import ROLES, found_in
from data.spreadsheet import sheet_names
from data.text import clean, group_key
from data.values import as_text, is_date
from files import UserError, short, write_text

MOST_KINDS = 30  # a column of more different texts is prose, or names
SHOWN = 6  # values of a column that a comment shows
NEARLY = 0.9  # of a column's cells differ: it names pictures
MANY = 2 / 3  # as many kinds as patients, for each patient one: a column may name them, as few share a name
PICTURE = "a picture itself.png"  # what stands for a cell with a picture's bytes
YES, NO = ({clean(word) for word in WORDS[side]} for side in ("yes", "no"))
IDS, UNITS = set(WORDS["private"]["id"]), {clean(unit): unit for unit in WORDS["columns"]["unit"]}
PERSON = [*WORDS["private"]["person"], *(role for role in ROLES if " " not in role)]
GROUP_IDS = IDS | set(WORDS["columns"]["group"]) | set(WORDS["private"]["number"])


def suggest_mapping(src, path, dst, images=None):
    """Write a first mapping of the table SRC to `path` and return lines on what it says and what comes next.

    Raises UserError where `path` exists, and where no column names pictures.
    """
    if not src.is_file():
        raise UserError(f"{src}: is no file; give the .xlsx, .csv or .parquet file")
    if path.exists():
        raise UserError(f"{path}: exists; edit it, delete it, or name another file with --mapping")
    said = []
    sheet, rows, cells, image = _sheet_of_pictures(src, said.append)
    columns = list(cells)
    language = _language(cells)
    lines = [f"# A first mapping of {src.name} ({len(rows)} rows), made by --suggest. Check every line; what follows a # is a remark."]
    lines += [f"sheet: {_scalar(sheet)}"] if sheet else []
    lines += [f"image: {_scalar(image)}   # the column with the pictures' file names"]
    rest = [name for name in columns if name != image]
    group = _group_column([name for name in rest if any(cells[name])])
    lines += (
        [f"group: {_scalar(group)}   # the column with the patient or video, which is never in two splits"]
        if group
        else ["# group: COLUMN   # none found: name the column with the patient or video, or patients will be in two splits"]
    )
    lines += [f"language: {language}   # of questions and answers: {', '.join(WORDS['languages'])}"]
    private = {name for name in rest if is_private(name, cells[name]) or group and _names_groups([(r[group], r[name]) for _, r in rows])}
    lines += _question_lines({name: cells[name] for name in rest if name != group}, language, private)
    write_text(path, "\n".join(lines) + "\n")
    command = ["python", "-m", "data.readers", "table", str(src), str(dst), "--mapping", str(path)]
    command += ["--images", str(images)] if images else []
    return [*said, f"{path}: a first mapping; correct its questions and values, then", shlex.join(command)]


def _sheet_of_pictures(src, say):
    """(sheet or None for the first or only one, rows, {column: Counter of its cells' texts}, the column that names pictures) of the first
    sheet with such a column. Raises UserError where there is none, or the only one can't be read."""
    sheets, found = sheet_names(src), []
    for sheet in [None, *sheets[1:]]:
        said = []
        try:
            columns, rows = table_rows(src, sheet, said.append)
            rows = [(where, {name: _not_the_picture(value) for name, value in row.items()}) for where, row in rows]
        except UserError:  # a sheet without cells, or with other things
            if len(sheets) < 2:
                raise
            continue
        cells = {name: Counter(_text(row[name]) for _, row in rows) for name in columns}
        if image := _image_column(cells):
            for line in said:
                say(line)
            return sheet, rows, cells, image
        found += columns
    looked = f" on any of its sheets ({', '.join(sheets)})" if len(sheets) > 1 else ""
    problem = f"no column seems to name pictures{looked}; found {', '.join(found)}"
    raise UserError(f"{src}: {short(problem, 300)}; add one with their file names")


def _not_the_picture(value):
    """A cell's value; of a picture that lies in the table itself not its bytes."""
    return PICTURE if isinstance(value, bytes) or isinstance(value, dict) and isinstance(value.get("bytes"), bytes) else value


def _question_lines(cells, language, private):
    question, answer = (next((name for name in cells if _named(name, role)), None) for role in ("question", "answer"))
    if question and answer:
        return [f"question: {_scalar(question)}   # one row of the table is one question", f"answer: {_scalar(answer)}"]
    asked, left = ["questions:   # one row of the table is one picture; each of these columns is a question"], []
    for name, found in cells.items():
        kinds = {kind for kind in found if kind}
        if name in private:
            left.append(f"# left out: {name} (may name patients)")
        elif not kinds or len(kinds) > max(2, min(MOST_KINDS, found.total() // 2)) or kinds == {DATES}:
            left.append(f"# left out: {name} ({'dates' if kinds == {DATES} else f'{len(kinds)} different texts'})")
        else:
            asked += _column_lines(name, found, kinds, language)
    if len(asked) == 1:
        return ["# questions:   # none found", *left]
    return [*asked, *left]


def _column_lines(name, found, kinds, language):
    says = WORDS["languages"][language]
    lines = [f"  {_scalar(name)}:   # {_seen(found)}"]
    if unit := next((UNITS[word] for word in _words(name) if word in UNITS), None):
        return [*lines, f"    question: {_scalar(says['size'].format(_asked(name, 'size', 'unit'), unit=unit))}", "    empty: skip"]
    folded = {clean(kind) for kind in kinds}
    counts = all(re.fullmatch("[0-9]+", kind) for kind in kinds) and (len(kinds) > 2 or _named(name, "count"))
    if folded <= YES | NO and not counts and (len(folded) > 1 or found[""]):
        yes, no = yes_no_of(language)
        values = {kind: yes if clean(kind) in YES else no for kind in sorted(kinds)}
        empty = no if folded <= YES else "skip"
        lines += [f"    question: {_scalar(says['ask'].format(_asked(name)))}"]
        lines += ["    values: {" + ", ".join(f"{_scalar(cell)}: {_scalar(answer)}" for cell, answer in values.items()) + "}"]
        return [*lines, f"    empty: {_scalar(empty)}   # what an empty cell says; skip: nothing"]
    return [*lines, f"    question: {_scalar(says['count' if counts else 'name'].format(_asked(name)))}", "    empty: skip"]


def _asked(column, *roles):
    """What a column's name says of its question, without the roles' words: `Polypen` of `Anzahl Polypen (0-9)`."""
    known = {clean(word) for role in roles or ("count",) for word in WORDS["columns"][role]}
    name = re.sub(r"\s*\([^)]*\)\s*$", "", column).replace("_", " ")
    words = [word for word in name.split() if clean(word) not in known]
    return " ".join(words) or name or column


def is_private(column, cells):
    """Does a column tell who somebody is, by its own name or by what its cells (texts) look like?"""
    words = set(_words(column))
    return bool(
        _tells(column) or IDS & words or words <= GROUP_IDS or any(found_in(cell) or found_in(f"{column}: {cell}") for cell in cells)
    )


def _tells(column):
    """Is one of the words for a person a word of a column's name, or, from four letters on, the end of one?"""
    words = _words(column)
    return any(f" {role} " in f" {' '.join(words)} " for role in ROLES) or any(
        word == end or len(end) >= 4 and word.endswith(end) or not end.isascii() and end in word for word in words for end in PERSON
    )


def _names_groups(pairs):
    """Has each group one value of its own, which may be the patient's name whatever the column's? pairs: (group, value) of the rows."""
    values = {}
    for group, value in pairs:
        if value is not None:
            values.setdefault(group_key(group), set()).add(_text(value))
    own = [next(iter(found)) for found in values.values() if len(found) == 1]
    return len(values) < len(pairs) and len(own) >= NEARLY * len(values) and len(set(own)) > max(2, MANY * len(own))


def _group_column(columns):
    """The column that names the patient or video: of these words alone (`Pat-ID`), or else with one (`Patient (neu)`, `Patientencode`)."""
    columns = [name for name in columns if not _tells(name)]
    for whole in (True, False):
        for word in WORDS["columns"]["group"]:
            for name in columns:
                words = set(_words(name))
                if word in words and words <= GROUP_IDS if whole else word in words:
                    return name
    return next((name for name in columns if _named(name, "group")), None)


def _words(column):
    """The words of a column's name: `pat`, `nr` of `PatNr`."""
    return [word for word in re.split(r"[^\w]|_", clean(re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", column))) if word]


def _text(value):
    """A cell as text for counting; dates all alike, as a column of them is no finding."""
    if is_date(value):
        return DATES
    try:
        return (as_text(value, "", "", Counter()) or "").strip()
    except UserError:
        return DATES


def _seen(found):
    some = ", ".join(f"{kind[:30] or 'empty'} {count}" for kind, count in found.most_common(SHOWN))
    return "seen: " + " ".join(some.split()) + ", …" * (len(found) > SHOWN)


def _image_column(cells):
    """The column most of whose cells are names of image files, or else of those whose own name says so.

    Of several the one whose cells nearly all differ, whose name is such a word, whose cells differ most.
    """
    suffixes = tuple(Image.registered_extensions())
    for name, found in cells.items():
        filled = {kind: count for kind, count in found.items() if kind}
        if filled and 2 * sum(count for kind, count in filled.items() if kind.lower().endswith(suffixes)) > sum(filled.values()):
            return name
    differ = {name: sum(map(bool, found)) / max(1, found.total()) for name, found in cells.items() if _named(name, "image")}
    words = set(WORDS["columns"]["image"])
    return max(differ, key=lambda name: (differ[name] >= NEARLY, bool(words & set(_words(name))), differ[name]), default=None)


def _named(column, role):
    """Does a column's name hold one of the role's words: a short one as a word, a longer one anywhere?"""
    text = clean(column)
    words = re.split(r"[^\w]|_", text)
    return any(word in words or (len(word) >= 4 or not word.isascii()) and word in text for word in WORDS["columns"][role])


def _language(cells):
    """The language whose words are most of the column names and cells; English where none is."""
    seen = [word for name in cells for word in re.split(r"[^\w]|_", clean(name))]
    seen += [clean(kind) for found in cells.values() for kind in found]
    text = " ".join(seen)
    score = {
        name: sum(word in seen or (len(word) >= 4 or not word.isascii()) and word in text for word in facts["words"])
        for name, facts in WORDS["languages"].items()
    }
    return max(score, key=score.get)


def _scalar(text):
    """A text as a YAML scalar on one line, in quotes where it needs them."""
    plain = re.fullmatch(r"\w[\w ./-]*", text) and text == text.strip()
    return text if plain else json.dumps(text, ensure_ascii=False)
