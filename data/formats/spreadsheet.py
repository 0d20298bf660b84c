"""The rows of a spreadsheet: Excel's .xlsx or a CSV file, as columns and values."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
import warnings
import zipfile

from data.formats import source_files as source
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
    merged = {}
    for area in formulas.merged_cells.ranges:
        merged |= dict.fromkeys(((row, column) for row, column in area.cells), (area.min_row, area.min_col))
    if merged:
        say(f"{path}: merged cells are read as if each held the value: {', '.join(map(str, formulas.merged_cells.ranges))[:80]}")
    lines = []
    for number, row in enumerate(formulas.iter_rows(values_only=True), 1):
        if any(value is not None for value in row):
            places = [merged.get((number, column), (number, column)) for column in range(1, len(row) + 1)]
            values = [_cell_value(path, results.cell(*place), formulas.cell(*place)) for place in places]
            lines.append((f"{path}: row {number}", values))
    return lines


def _cell_value(path, cell, formula):
    """What a cell shows: its value, a percentage with its sign, a number with its leading zeros; None where it is empty."""
    value, shown_as = cell.value, cell.number_format or ""
    if cell.data_type == "e":
        raise UserError(f"{path}: cell {cell.coordinate} holds the error {value}; correct or empty it")
    if value is None and formula.data_type == "f":
        raise UserError(f"{path}: the formula in cell {cell.coordinate} has no result; save the file in Excel, or write the value")
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "%" in shown_as:
            return f"{value * 100:g}%"
        if re.fullmatch("0+", shown_as) and float(value).is_integer():
            return str(int(value)).zfill(len(shown_as))
    return value
