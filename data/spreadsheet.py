"""The rows of a spreadsheet: Excel's .xlsx or a CSV file, as columns and values. Whatever is a table is read by this."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import csv
import io
import re
import warnings
import zipfile
from collections import Counter

from data.values import number_text
from files import UserError, quoted, refuse_pointer, short

OLD_EXCEL = b"\xd0\xcf\x11\xe0"  # .xls, and .xlsx with a password
SHEETS = (".xlsx", ".xlsm")
TRUTHS = dict.fromkeys(("TRUE", "WAHR", "VRAI", "VERDADERO"), True) | dict.fromkeys(("FALSE", "FALSCH", "FAUX", "FALSO"), False)  # Excel's
# What Excel writes for a cell in error, and in a column too narrow; English (and Chinese), German, French, Spanish.
ERRORS = re.compile(
    r"#(?:N/?[AVD]|(?:VALUE|WERT|VALEUR|¡VALOR|REF|BEZUG|¡REF|¡?DIV/0|¡?NUM|ZAHL|NOMBRE|NULL|NUL|¡NULO|SPILL|ÜBERLAUF|CALC|KALK)!"
    r"|(?:NAME|NOM|¿NOMBRE)\?|#{3,})"
)
ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d{2,}", re.IGNORECASE)  # 1,23E+05, which several numbers are shown as
FIRST_LINES = 20  # among which the columns' names stand


def read_spreadsheet(path, sheet, say, named=()):
    """Return `(columns, rows)`: the names of the columns, and `[(where, {column: value})]` without empty rows.

    Values are as the file has them: text, numbers, booleans, dates; None where empty. `where` names file and row. Columns without a
    name are left out. `say` takes lines on how the file was read. sheet: the sheet's name, or None for the first. named: columns that
    are wanted; with them, a title of several cells above the columns' names is told from these.
    Raises UserError naming file and cell for what can't be read.
    """
    lines = _lines(path, sheet, say)
    at = _header_at([values for _, values in lines[:FIRST_LINES]], named)
    if at:
        title = " ".join(dict.fromkeys(str(value) for _, values in lines[:at] for value in values if value is not None))
        say(f"{lines[at][0]}: has the columns' names; left out above it: {short(title, 60)}")
    (where, header), *lines = lines[at:]
    columns = [None if value is None else " ".join(str(value).split()) for value in header]
    for line, values in lines:
        if any(value is not None for value in values[len(columns) :]):
            problem = f"has more fields than {where} names columns ({len(columns)})"
            raise UserError(f"{line}: {problem}; correct it, or delete what stands above the columns' names")
    names = [name for name in columns if name]
    rows = [(line, {name: value for name, value in zip(columns, values) if name}) for line, values in lines]
    return names, [(line, {**dict.fromkeys(names), **row}) for line, row in rows]


def sheet_names(path):
    """The names (list) of a workbook's sheets; [] of any other file."""
    if path.suffix.lower() not in SHEETS or not zipfile.is_zipfile(path):
        return []
    return [found.title for found in _workbook(path, read_only=True).worksheets]


def _lines(path, sheet, say):
    """`[(where, values)]` of the lines that aren't empty, one at least."""
    refuse_pointer(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if start == OLD_EXCEL or path.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise UserError(f"{path}: is of an old or another program, or has a password; save it as .xlsx without one, or as CSV UTF-8")
    if start.startswith(b"PK") or path.suffix.lower() in SHEETS:
        lines = _excel_lines(path, sheet, say)
    elif sheet:
        raise UserError(f"{path}: is no workbook, and has no sheet {quoted(sheet)}; take `sheet` out of the mapping")
    else:
        lines = [(f"{path}:{line}", [_field_value(path, line, field.strip()) for field in fields]) for line, fields in csv_lines(path, say)]
    lines = [(where, values) for where, values in lines if any(value is not None for value in values)]
    if not lines:
        raise UserError(f"{path}: has no first row with the columns' names; add it")
    return lines


def _header_at(lines, named):
    """Which of the first lines has the columns' names: the first with all the wanted ones, or else the first that isn't a title,
    which says but one thing, however many cells it was merged from."""
    texts = [{" ".join(str(value).split()) for value in values if value is not None} for values in lines]
    whole = (number for number, found in enumerate(texts) if named and found >= set(named))
    return next(whole, next((number for number, found in enumerate(texts) if len(found) > 1), 0))


# --- CSV ---

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LOOKED_AT = 1 << 16  # letters in which the separator is looked for
CSV_UTF8 = 'in Excel save it as "CSV UTF-8"'
# High bytes that stand alone beside no Latin letter: Chinese, Cyrillic or Greek in an old encoding, and no Western language.
NOT_WESTERN = re.compile(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]{2,}(?![A-Za-z\x80-\xff])")


def table_text(path, say):
    """The text of a CSV file: UTF-8, or what Excel writes otherwise (UTF-16, Windows-1252), which `say` is told.

    Raises UserError naming file and line for text in neither.
    """
    refuse_pointer(path)
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        say(f"{path}: read as UTF-16")
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        not_utf8 = error.start
    try:
        text = data.decode("cp1252")
        foreign = NOT_WESTERN.search(data)
        start = foreign and foreign.start()
    except UnicodeDecodeError as error:
        start = error.start
    if start is not None:
        line = data.count(b"\n", 0, start) + 1
        raise UserError(f"{path}:{line}: is neither UTF-8 nor Western (Windows-1252) text; {CSV_UTF8}")
    line = data.count(b"\n", 0, not_utf8) + 1
    shown = text.split("\n")[line - 1].strip()[:60]
    say(f"{path}: read as Windows-1252, as it is not UTF-8, such as line {line}: {shown}; if letters are wrong, {CSV_UTF8}")
    return text


def separator_of(text):
    """What separates the fields of a CSV text: of comma, semicolon, tab and bar the one that the most lines have equally many of.

    A title above the columns' names has none, or others; so have remarks in a cell.
    """
    lines = [line for line in re.sub(r'"[^"]*"', "", text[:LOOKED_AT]).splitlines() if line.strip()][:FIRST_LINES]

    def evenness(separator):
        number, count = max(((lines_with, count) for count, lines_with in counts[separator].items()), default=(0, 0))
        return number, count, lines[0].count(separator)

    counts = {separator: Counter(filter(None, (line.count(separator) for line in lines))) for separator in SEPARATORS}
    return max(SEPARATORS, key=evenness) if lines else ","  # of equals the first: a comma


def csv_lines(path, say):
    """Yield `(line, fields)` of a CSV file, line numbers from 1, blank lines left out. The first is the header.

    Quoted fields may hold line ends. Raises UserError naming file and line for what is no CSV.
    """
    text = table_text(path, say)
    skipped = 0
    if told := re.match(r"sep=(.)\r?\n", text):  # Excel's own way to name the separator
        separator, text, skipped = told[1], text[told.end() :], 1
    else:
        separator = separator_of(text)
    if separator != ",":
        say(f"{path}: fields are separated by {SEPARATORS.get(separator, separator)}")
    line = 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for fields in reader:
            if any(field.strip() for field in fields) or not fields and line == 1:
                yield line + skipped, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line + skipped}: not valid CSV ({error})") from None


def _field_value(path, line, text):
    """What a field of a CSV file says: text, Excel's TRUE and FALSE as such, None where it is empty."""
    if ERRORS.fullmatch(text):
        raise UserError(f"{path}:{line}: a cell holds the error {text}; correct or empty it")
    return TRUTHS.get(text, text or None)


# --- Excel ---


def _workbook(path, **options):
    """The workbook of an Excel file. options: of openpyxl.load_workbook."""
    try:
        import openpyxl
        import openpyxl.utils.exceptions
    except ImportError:
        raise UserError(f"{path}: reading Excel needs openpyxl; run: pip install openpyxl") from None
    try:
        with warnings.catch_warnings():  # of what openpyxl doesn't keep, such as drop-down lists
            warnings.simplefilter("ignore")
            return openpyxl.load_workbook(path, **options)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise UserError(f"{path}: is no Excel file that can be read ({' '.join(str(error).split())[:80]}); save it anew as .xlsx") from None


def _excel_lines(path, sheet, say):
    """`[(where, values)]` of the rows of a sheet that aren't empty."""
    formulas, results = (_workbook(path, data_only=only) for only in (False, True))
    names = [found.title for found in results.worksheets]
    if sheet is not None and sheet not in names:
        raise UserError(f"{path}: has no sheet {quoted(sheet)}; found {', '.join(names)}")
    if not names:
        raise UserError(f"{path}: has no sheet with cells; give another file")
    sheet = sheet or names[0]
    if len(names) > 1:
        say(f"{path}: read the sheet {sheet}, of {', '.join(names)}")
    formulas, results = formulas[sheet], results[sheet]
    cells = formulas._cells  # those in the file, {(row, column): cell}; iter_rows makes every one up to the last that was ever formatted
    last = {}
    for (row, column), cell in cells.items():
        if cell.value is not None:
            last[row] = max(last.get(row, 0), column)
    merged = {}
    for area in formulas.merged_cells.ranges:
        merged |= dict.fromkeys(((row, column) for row, column in area.cells), (area.min_row, area.min_col))
    if merged:
        say(f"{path}: merged cells are read as if each held the value: {', '.join(map(str, formulas.merged_cells.ranges))[:80]}")
    for row, column in merged:
        if row in last:
            last[row] = max(last[row], column)
    lines = []
    for number in sorted(last):
        places = [merged.get((number, column), (number, column)) for column in range(1, last[number] + 1)]
        values = [_cell_value(path, results._cells[place], cells[place]) if place in cells else None for place in places]
        lines.append((f"{path}: row {number}", values))
    return lines


def _cell_value(path, cell, formula):
    """What a cell shows: its value, a number with its leading zeros and with the text of its format; None where it is empty."""
    value, shown_as = cell.value, cell.number_format or ""
    if cell.data_type == "e":
        raise UserError(f"{path}: cell {cell.coordinate} holds the error {value}; correct or empty it")
    if value is None and formula.data_type == "f":
        raise UserError(f"{path}: the formula in cell {cell.coordinate} has no result; save the file in Excel, or write the value")
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if (shown := _with_text(value, shown_as)) is not None:
            return shown
        if re.fullmatch("0+", shown_as) and float(value).is_integer():
            return str(int(value)).zfill(len(shown_as))
    return value


# The pieces of a number format: quoted or escaped text, what shows nothing (colours, `_x` and `*x`, which pad), digits, anything else.
# ECMA-376 part 1, 18.8.31.
_PIECE = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[\$(?P<currency>[^]-]*)[^]]*\]|(?P<nothing>\[[^]]*\]|[_*].)'
    r"|(?P<digits>General|[#0?.,]+(?:E[+-]0+)?)|(?P<other>.)",
    re.IGNORECASE,
)


def _with_text(number, number_format):
    """A number with what its format writes beside it, as `5 mm` of `0" mm"` and `28.5%` of `0%`, in all its digits.

    None where that is nothing, and for formats that hold no single number (fractions, conditions).
    """
    sections = [[]]
    for piece in _PIECE.finditer(number_format):
        if piece["other"] == ";":
            sections.append([])
        elif (piece["nothing"] or "")[1:2] in ("<", ">", "=") and piece["nothing"].startswith("["):
            return None
        elif not piece["nothing"]:
            sections[-1].append(piece)
    chosen = 1 if number < 0 and len(sections) > 1 else 2 if number == 0 and len(sections) > 2 else 0
    pieces = sections[chosen]
    if sum(bool(piece["digits"]) for piece in pieces) != 1:
        return None
    scale = 100 ** sum(piece["other"] == "%" for piece in pieces)
    size = (abs(number) if chosen == 1 else number) * scale
    texts = [_digits(size, piece["digits"]) if piece["digits"] else piece["quoted"] or piece[piece.lastgroup] for piece in pieces]
    if not any(text.strip() and not piece["digits"] for text, piece in zip(texts, pieces)):
        return None
    text = " ".join("".join(texts).split())
    return text.replace(" %", "%") if scale > 1 else text


def _digits(number, digits):
    """A number by the digits of its format: with leading zeros where it is of these alone, in thousands for each comma at its end."""
    number = float(f"{number / 1000 ** (len(digits) - len(digits.rstrip(','))):.15g}")
    return number_text(number).zfill(len(digits) if re.fullmatch("0+", digits) and number.is_integer() else 0)
