"""Rows of Excel and CSV files: what cells mean, what Excel does to them, where the columns' names stand.

python -m pytest tests/data/test_spreadsheet.py -v
"""

import tracemalloc
import zipfile

import openpyxl
import pytest
from data_sets import M, converted, only, read, table_of, workbook, write_folder

from data import readers
from data.spreadsheet import read_spreadsheet, separator_of
from files import UserError

GERMAN = 'question;answer;img_id\r\n"Größe, grob?";5 – 10 mm;a\r\nWelche Farbe?;rötlich;b\r\n'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GERMAN.encode(), ["fields are separated by semicolons"]),
        (b"\xef\xbb\xbf" + GERMAN.encode(), ["fields are separated by semicolons"]),
        (b"\xef\xbb\xbfsep=;\r\n" + GERMAN.encode(), ["fields are separated by semicolons"]),
        (GERMAN.encode("cp1252"), ['read as Windows-1252, as it is not UTF-8, such as line 2: "Größe, grob?";5 – 10 mm;a;', "separated"]),
        (GERMAN.replace(";", "\t").encode("utf-16"), ["read as UTF-16", "fields are separated by tabs"]),
        (GERMAN.replace(";", "\t").encode(), ["fields are separated by tabs"]),
        ((GERMAN + ";;\r\n\r\n").encode(), ["fields are separated by semicolons"]),
    ],
)
def test_csv_of_excel_is_read_and_said(tmp_path, data, said):
    folder, lines = write_folder(tmp_path / "src", []), []
    (folder / "metadata.csv").write_bytes(data)
    readers.convert("kvasir-vqa", folder, tmp_path / "dst", say=lines.append)
    rows = read(tmp_path / "dst" / "all.jsonl")
    assert [(row["question"], row["answer"]) for row in rows] == [("Größe, grob?", "5 – 10 mm"), ("Welche Farbe?", "rötlich")]
    assert len(lines) == len(said) and all(text in line for text, line in zip(said, lines))


@pytest.mark.parametrize("text, encoding", [("question,answer,img_id\nq,是,a", "gb18030"), ("question,answer,img_id\nq,да,a", "cp1251")])
def test_text_that_is_neither_utf8_nor_western_is_refused(tmp_path, text, encoding):
    folder = write_folder(tmp_path / "src", [])
    (folder / "metadata.csv").write_bytes(text.encode(encoding))
    with pytest.raises(
        UserError, match=r'metadata.csv:2: is neither UTF-8 nor Western \(Windows-1252\) text; in Excel save it as "CSV UTF-8"'
    ):
        readers.convert("kvasir-vqa", folder, tmp_path / "dst")


def test_csv_with_byte_order_mark(tmp_path):
    folder = write_folder(tmp_path, ["\ufeffquestion,answer,img_id", "Is there text?,yes,a"])
    assert readers.convert("kvasir-vqa", folder, tmp_path / "dst")[1] == {"images/a.png": 1}


def test_what_excel_makes_of_cells(tmp_path):
    """True and false, percentages, leading zeros, merged patients and a formula's result are what the user sees."""
    src, options = table_of(
        tmp_path, "image: f\ngroup: g\nquestions: {p: q1, t: q2, n: q3}", ["f", "g", "p", "t", "n"], ["a", 7, 0.285, True, 3.0]
    )
    book = openpyxl.load_workbook(src)
    sheet = book.active
    sheet.append(["b", None, 1, False, 2.5])
    sheet["B2"].number_format, sheet["C2"].number_format, sheet["C3"].number_format = "000", "0.0%", "0%"
    sheet.merge_cells("B2:B3")
    book.save(src)
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert only(rows, "group", "answer") == [("007", text) for text in ("28.5%", "yes", "3", "100%", "no", "2.5")]
    assert f"{src}: merged cells are read as if each held the value: B2:B3" in said


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("old.xls", b"\xd0\xcf\x11\xe0" + b"x" * 99, "is of an old or another program, or has a password"),
        ("locked.xlsx", b"\xd0\xcf\x11\xe0" + b"x" * 99, "is of an old or another program, or has a password"),
        ("cut.xlsx", b"PK\x03\x04" + b"x" * 99, "is no Excel file that can be read"),
        ("text.xlsx", b"f,p\na,1\n", "is no Excel file that can be read"),
        ("empty.csv", b"", "has no first row with the columns' names; add it"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "m.yaml").write_text(M)
    with pytest.raises(UserError) as error:
        readers.convert("table", tmp_path / name, tmp_path / "dst", mapping=tmp_path / "m.yaml", say=[].append)
    assert str(error.value).startswith(f"{tmp_path / name}: {said}") and "\n" not in str(error.value)


TITLES = {
    "a line": [["Befunde, Klinik X"]],
    "two lines and an empty one": [["Befunde; Stand 2024"], [], ["vertraulich"]],
    "pairs": [["Klinik", "X"], ["Stand", "2024"]],
}


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_a_title_above_the_columns_names_is_left_out_and_said(tmp_path, title, name):
    lines = [["a", "g1", "5,5"], ["b", "g1", "6"]]
    src, options = table_of(tmp_path, M, *TITLES[title], ["f", "g", "p"], *lines, name=name)
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert only(rows, "image", "answer") == [("a.png", "5,5"), ("b.png", "6")]
    place = f"row {len(TITLES[title]) + 1}" if name == "t.xlsx" else f"{len(TITLES[title]) + 1}"
    words = " ".join(cell for line in TITLES[title] for cell in line)
    assert [line for line in said if "left out above" in line] == [
        f"{src}:{' ' * ('row' in place)}{place}: has the columns' names; left out above it: {words}"
    ]


def test_a_title_merged_over_all_columns_is_one(tmp_path):
    src, options = table_of(tmp_path, M, ["Befunde 2024", None, None], ["f", "g", "p"], ["a", "g1", 1])
    book = openpyxl.load_workbook(src)
    book.active.merge_cells("A1:C1")
    book.save(src)
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert only(rows, "image", "group", "answer") == [("a.png", "g1", "1")]


def test_merged_cells_hold_their_value_in_every_row_and_column_of_them(tmp_path):
    """To the right of a row's last value too; a row without any value of its own stays left out."""
    src = workbook(tmp_path / "t.xlsx", ["n", "m", "o"], ["a", 1, 2], ["b"], [], ["c", None, 3])
    book, said = openpyxl.load_workbook(src), []
    book.active.merge_cells("A3:C4")
    book.save(src)
    assert read_spreadsheet(src, None, said.append) == (
        ["n", "m", "o"],
        [
            (f"{src}: row 2", {"n": "a", "m": 1, "o": 2}),
            (f"{src}: row 3", {"n": "b", "m": "b", "o": "b"}),
            (f"{src}: row 5", {"n": "c", "m": None, "o": 3}),
        ],
    )
    assert said == [f"{src}: merged cells are read as if each held the value: A3:C4"]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a;b;c\n1,5;2,5;3,5\n1;2;3\n", ";"), ("Titel, mit Komma\na;b\n1;2\n", ";"), ("a,b\nx; y,1\nx; y,2\n", ","),
        ('a;b\n"x, y, z";1\n', ";"), ("a\tb\n1, 2\t3\n", "\t"), ("a\nb\n", ","), ("", ","), ("a;b", ";"), ("a|b\n1|2", "|"),
    ],
)  # fmt: skip
def test_the_separator_is_what_lines_have_equally_many_of(text, separator):
    assert separator_of(text) == separator


@pytest.mark.parametrize(
    ("number_format", "value", "shown"),
    [
        ('0" mm"', 5, "5 mm"), ("0\\ \\m\\m", 5, "5 mm"), ('0.0" mm"', 2.5, "2.5 mm"), ('"ca. "0" mm"', 5, "ca. 5 mm"),
        ('000" ml"', 7, "007 ml"),
        ("0 %", 0.285, "28.5%"), ('0" %"', 5, "5 %"), ('0" mm";"minus "0" mm"', -5, "minus 5 mm"), ('0" mm"', -5, "-5 mm"),
        ('0" mm";-0" mm"', 0, "0 mm"), ('0" mm";-0" mm";0" none"', 0, "0 none"),
        ('0.0,"k"', 5500, "5.5k"), ("[$€-407] 0", 5, "€ 5"), ('General" mm"', 2.5, "2.5 mm"), ("0.00E+00", 5, 5), ("# ?/?", 0.5, 0.5),
        ("_-* #,##0.00\\ _€_-", 5, 5), ('[>9]0" mm";0" cm"', 5, 5), ("[Red]0", 5, 5), ("000", 7, "007"), ("General", 5, 5),
    ],
)  # fmt: skip
def test_a_number_is_what_its_format_shows(tmp_path, number_format, value, shown):
    src = workbook(tmp_path / "t.xlsx", ["n"], [value])
    book = openpyxl.load_workbook(src)
    book.active["A2"].number_format = number_format
    book.save(src)
    assert read_spreadsheet(src, None, print)[1][0][1] == {"n": shown}


def test_cells_that_are_only_formatted_take_no_memory(tmp_path):
    src = workbook(tmp_path / "t.xlsx", ["n", "m"], ["a", 1], [None, None], [None, 2])
    book = openpyxl.load_workbook(src)
    book.active.cell(20_000, 300).number_format = "0.0"
    book.save(src)
    tracemalloc.start()
    try:
        assert read_spreadsheet(src, None, print) == (
            ["n", "m"],
            [(f"{src}: row 2", {"n": "a", "m": 1}), (f"{src}: row 4", {"n": None, "m": 2})],
        )
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_formula_is_its_result(tmp_path):
    """A spreadsheet program writes both; openpyxl writes the formula alone, so the result is put in by hand."""
    src, done = workbook(tmp_path / "made.xlsx", ["n", "m"], ["a", "=1+1"]), tmp_path / "t.xlsx"
    with zipfile.ZipFile(src) as made, zipfile.ZipFile(done, "w") as file:
        for name in made.namelist():
            content = made.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert content.count(b"<v/>") + content.count(b"<v />") + content.count(b"<v></v>") == 1
                for empty in (b"<v/>", b"<v />", b"<v></v>"):
                    content = content.replace(empty, b"<v>2</v>")
            file.writestr(name, content)
    assert read_spreadsheet(done, None, print) == (["n", "m"], [(f"{done}: row 2", {"n": "a", "m": 2})])


UNREADABLE = {
    "more fields": ("t.csv", "a,b\n1,2\n1,2,3\n", None,
                    "{src}:3: has more fields than {src}:1 names columns (2); correct it, or delete what stands above the columns' names"),
    "error": ("t.csv", 'a,b\n"x\ny",2\n1,#NV\n', None, "{src}:4: a cell holds the error #NV; correct or empty it"),
    "quote": ("t.csv", 'sep=,\na,b\n1,2\n"1"x,2\n', None, "{src}:4: not valid CSV (',' expected after '\"')"),
    "sheet": ("t.csv", "a,b\n1,2\n", "x", "{src}: is no workbook, and has no sheet 'x'; take `sheet` out of the mapping"),
    "blank": ("t.csv", ",\n\n", None, "{src}: has no first row with the columns' names; add it"),
    "other program": ("t.ods", "PK", None,
                      "{src}: is of an old or another program, or has a password; save it as .xlsx without one, or as CSV UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_can_not_be_read_is_named_by_line(tmp_path, kind):
    name, text, sheet, said = UNREADABLE[kind]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_spreadsheet(tmp_path / name, sheet, print)
    assert str(error.value) == said.replace("{src}", str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "columns", "rows", "said"),
    [
        ("a, b \n1,\n\n x ,TRUE\n", ["a", "b"], [("2", "1", None), ("4", "x", True)], []),
        ("sep=|\na|b\n1|2\n", ["a", "b"], [("3", "1", "2")], ["fields are separated by vertical bars"]),
        ("sep=#\na#b\n1#2\n", ["a", "b"], [("3", "1", "2")], ["fields are separated by #"]),
        ("a;;b\n1;x;2\n", ["a", "b"], [("2", "1", "2")], ["fields are separated by semicolons"]),
        ("a,b\n1\n", ["a", "b"], [("2", "1", None)], []),
        ("Titel\nStand; 2024\nStand; 2024\na,b\n1,2\n", ["a", "b"], [("5", "1", "2")],
         ["4: has the columns' names; left out above it: Titel Stand; 2024"]),
    ],
)  # fmt: skip
def test_the_whole_of_a_csv_table(tmp_path, text, columns, rows, said):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    lines = []
    found = [(f"{tmp_path / 't.csv'}:{line}", dict(zip(columns, values))) for line, *values in rows]
    assert read_spreadsheet(tmp_path / "t.csv", None, lines.append) == (columns, found)
    assert lines == [f"{tmp_path / 't.csv'}:{' ' * (not line[0].isdigit())}{line}" for line in said]
