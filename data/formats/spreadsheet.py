"""The rows of a spreadsheet: Excel's .xlsx or a CSV file, as columns and values."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
import warnings
import zipfile

from data.formats import source_files as source
from data.values import number_text
from files import UserError, quoted, refuse_pointer

OLD_EXCEL = b"\xd0\xcf\x11\xe0"  # .xls, and .xlsx with a password
SHEETS = (".xlsx", ".xlsm")


def read_spreadsheet(path, sheet, say):
    """Return `(columns, rows)`: the names of the columns, and `[(where, {column: value})]` without empty rows.

    Values are as the file has them: text, numbers, booleans, dates; None where empty. `where` names file and row. Columns without a
    name are left out. `say` takes lines on how the file was read. sheet: the sheet's name, or None for the first.
    Raises UserError naming file and cell for what can't be read.
    """
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
        lines = [(f"{path}:{line}", [field.strip() or None for field in fields]) for line, fields in source.csv_lines(path, say)]
    lines = [(where, values) for where, values in lines if any(value is not None for value in values)]
    if not lines:
        raise UserError(f"{path}: has no first row with the columns' names; add it")
    columns = [None if value is None else " ".join(str(value).split()) for value in lines[0][1]]
    for where, values in lines[1:]:
        if any(value is not None for value in values[len(columns) :]):
            raise UserError(f"{where}: has more fields than the first row names columns ({len(columns)}); correct it")
    rows = [(where, {name: value for name, value in zip(columns, values) if name}) for where, values in lines[1:]]
    rows = [(where, {**dict.fromkeys(filter(None, columns)), **row}) for where, row in rows]
    return [name for name in columns if name], rows


def _excel_lines(path, sheet, say):
    """`[(where, values)]` of the rows of a sheet that aren't empty."""
    try:
        import openpyxl
        import openpyxl.utils.exceptions
    except ImportError:
        raise UserError(f"{path}: reading Excel needs openpyxl; run: pip install openpyxl") from None
    try:
        with warnings.catch_warnings():  # of what openpyxl doesn't keep, such as drop-down lists
            warnings.simplefilter("ignore")
            formulas, results = (openpyxl.load_workbook(path, data_only=only) for only in (False, True))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise UserError(f"{path}: is no Excel file that can be read ({' '.join(str(error).split())[:80]}); save it anew as .xlsx") from None
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
