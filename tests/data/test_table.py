"""Spreadsheets as rows: both forms, what cells mean, what Excel does to them, and a first mapping.

python -m pytest tests/data/test_table.py -v
"""

import datetime
import re
import tracemalloc

import openpyxl
import pyarrow
import pytest
import yaml
from data_sets import JPEG, PNG, M, converted, lay, only, read, run, table, workbook
from pyarrow import parquet

from data import readers
from data.formats.table import TextLoader, read_mapping
from data.formats.table_suggest import suggest_mapping
from data.spreadsheet import read_spreadsheet, separator_of
from data.values import is_date
from files import UserError

WIDE = """\
image: Datei
group: Patient
language: de
keep: [Alter]
questions:
  Polyp:
    question: Ist ein Polyp zu sehen?
    values: {1: ja, 0: nein, 9: skip}
  Anzahl: Wie viele Polypen?
  Befund:
    question: Welcher Befund?
    empty: kein
"""
HEADER = ["Datei", "Patient", "Alter", "Polyp", "Anzahl", "Befund"]
LINES = [["a.png", "P1", 63, 1, 2, "Adenom; rot"], ["b", "P1", None, 0, None, None], ["C.PNG", "P2", 5.5, 9, 0, "Größe unklar"]]


@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_one_row_a_picture_with_a_column_for_each_finding(tmp_path, name):
    src, options = table(tmp_path, WIDE, HEADER, *LINES, [None] * 6, name=name)
    said = []
    rows, dropped = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert only(rows, "image", "question", "answer", "group", "language") == [
        ("a.png", "Ist ein Polyp zu sehen?", "ja", "P1", "de"),
        ("a.png", "Wie viele Polypen?", "2", "P1", "de"),
        ("a.png", "Welcher Befund?", "Adenom; rot", "P1", "de"),
        ("b.png", "Ist ein Polyp zu sehen?", "nein", "P1", "de"),
        ("b.png", "Welcher Befund?", "kein", "P1", "de"),
        ("c.png", "Wie viele Polypen?", "0", "P2", "de"),
        ("c.png", "Welcher Befund?", "Größe unklar", "P2", "de"),
    ]
    assert [str(row.get("Alter")) for row in rows] == ["63"] * 3 + ["None"] * 2 + ["5.5"] * 2 and not dropped
    assert f"{src}: 2 cells are empty or `skip`, and ask nothing" in said and said[-1] == "data.language: de"


def test_one_row_a_question(tmp_path):
    mapping = "image: file\nquestion: q\nanswer: a\noptions: [A, B]\nvalues: {x: yes}\nempty: none\n"
    src, options = table(
        tmp_path,
        mapping,
        ["file", "q", "a", "A", "B"],
        ["a", "Is it?", "X", None, None],
        ["b", "Which?", "snare", "snare", "clip"],
        ["b", "Why?"],
    )
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert only(rows, "image", "question", "answer", "options") == [
        ("a.png", "Is it?", "yes", None), ("b.png", "Which?", "snare", ["snare", "clip"]), ("b.png", "Why?", "none", None)
    ]  # fmt: skip


def test_cells_that_values_do_not_list_stay_and_are_said(tmp_path):
    src, options = table(
        tmp_path, "image: f\nquestions: {p: {question: 'Is it?', values: {1: yes}}}", ["f", "p"], ["a", 1], ["b", 11], ["c", 11]
    )
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert [row["answer"] for row in rows] == ["yes", "11", "11"]
    assert f"{src}: p: 2 cells that `values` doesn't list stay as they are: '11' (2)" in said


def test_what_excel_makes_of_cells(tmp_path):
    """True and false, percentages, leading zeros, merged patients and a formula's result are what the user sees."""
    src, options = table(
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


@pytest.mark.parametrize(("language", "expected"), [("de", ["ja", "nein"]), ("en", ["yes", "no"])])
@pytest.mark.parametrize("cells", [(True, False), ("TRUE", "FALSE"), ("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("VERDADERO", "FALSO")])
def test_true_and_false_are_words_of_the_tables_language(tmp_path, language, expected, cells):
    """Of a workbook, and of the CSV file that Excel writes of it."""
    name = "t.xlsx" if cells[0] is True else "t.csv"
    lines = [["f", "p"], ["a", cells[0]], ["b", cells[1]]]
    src, options = table(tmp_path, f"image: f\nlanguage: {language}\nquestions: {{p: q}}", *lines, name=name)
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=(said := []).append)
    assert [row["answer"] for row in rows] == expected and "converted: 2 true and false to yes and no" in said


def test_a_sheet_by_name_and_pictures_elsewhere(tmp_path):
    lines = [["Bild\n(Datei)", "p"], ["C:\\Bilder\\x.png", 1]]
    src, options = table(tmp_path, "image: Bild (Datei)\nsheet: Zwei\nquestions: {p: q}", ["f"], Zwei=lines)
    said = []
    pictures = lay(tmp_path / "pictures", images=["x.png"])
    rows, _ = converted("table", src, tmp_path / "dst", images=pictures, say=said.append, **options)
    assert only(rows, "image", "answer") == [("x.png", "1")] and f"{src}: read the sheet Zwei, of Sheet, Zwei" in said


REFUSED = {
    "date": (M, [["a", "g1", datetime.date(2024, 10, 5)]], "t.xlsx: row 2, p: the answer is the date or time 2024-10-05 00:00:00; tables"),
    "error cell": (M, [["a", "g1", "#N/A"]], "t.xlsx: cell C2 holds the error #N/A; correct or empty it"),
    "error in a column too narrow": (M, [["a", "g1", "#####"]], "t.csv:2: a cell holds the error #####; correct or empty it"),
    **{
        f"error in CSV, {text}": (M, [["a", "g1", text]], f"t.csv:2: a cell holds the error {text}; correct or empty it")
        for text in ("#NV", "#N/A", "#WERT!", "#DIV/0!", "#NAME?", "#VALEUR!", "#¡VALOR!", "#N/D")
    },
    "patient rounded": (M, [["a", "1,23E+05", 1]], "t.csv:2: g is '1,23E+05', a number that a spreadsheet"),
    "formula without a result": (M, [["a", "g1", "=1+1"]], "t.xlsx: the formula in cell C2 has no result; save the file in Excel"),
    "no patient": (M, [["a", "g1", 1], ["b", None, 1]], "t.xlsx: row 3: g is empty, which names the patient or video; fill it"),
    "no picture": (M, [[None, "g1", 1]], "t.xlsx: row 2: f is empty, which names the picture; fill it or delete the row"),
    "picture of the web": (M, [["https://x/a.png", "g1", 1]], "t.xlsx: row 2: f is 'https://x/a.png', an address; images must be files"),
    "nothing": (M, [], "t.xlsx: has no usable rows; dropped rows: 0"),
    "no such column": (M.replace("{p:", "{P:"), [], "t.xlsx: has no column 'P', which m.yaml names; found f, g, p"),
    "no such sheet": ("sheet: x\n" + M, [], "t.xlsx: has no sheet 'x'; found Sheet"),
    "unknown key": ("imgae: f\n", [], "m.yaml: unknown key 'imgae'; known are image, group, sheet"),
    "unknown key of a column": ("image: f\nquestions: {p: {question: q, map: {}}}", [], "m.yaml: questions: p: unknown key 'map'; known"),
    "key twice": (M + "questions:\n  g: r\n", [], "m.yaml:4: not valid YAML (gives a key twice: 'questions'); correct it"),
    "deep": ("image: " + "[" * 100_000, [], "m.yaml: is nested too deeply; write it flat"),
    "no YAML": ("image: [", [], "m.yaml:1: not valid YAML"),
    "text for a mapping": ("image", [], "m.yaml: is 'image'; write `key: value` lines"),
    "both forms": (M + "question: p\nanswer: p\n", [], "m.yaml: give either questions (one row a picture) or question and answer"),
    "neither form": ("image: f\n", [], "m.yaml: give either questions (one row a picture) or question and answer"),
    "no image": ("questions: {p: q}\n", [], "m.yaml: has no image; name the column that holds it, one of f, g, p"),
    "no question": ("image: f\nquestions: {p: {values: {1: a}}}", [], "m.yaml: questions: p: has no question; write it"),
    "values as list": ("image: f\nquestions: {p: {question: q, values: [1]}}", [], "m.yaml: questions: p: values is ['1']; write what"),
    "keep of a column that isn't there": ("keep: [x]\n" + M, [], "t.xlsx: has no column 'x', which m.yaml names; found f, g, p"),
    "language": ("language: it\n" + M, [], "m.yaml: language is 'it'; one of de, en, es, fr, zh is wanted"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_read_is_named(tmp_path, kind):
    mapping, lines, said = REFUSED[kind]
    src, options = table(tmp_path, mapping, ["f", "g", "p"], *lines, name="t.csv" if said.startswith("t.csv") else "t.xlsx")
    with pytest.raises(UserError) as error:
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    text = str(error.value).replace(f"{tmp_path}/", "")
    assert text.startswith(said) and "\n" not in text and not list(tmp_path.glob("dst/*"))


def test_columns_that_rows_have_themselves_or_twice_are_refused(tmp_path):
    src, options = table(tmp_path, "image: f\nkeep: [group]\nquestions: {p: q}", ["f", "group", "p", "p"], ["a", "g", 1, 2])
    with pytest.raises(UserError, match=r"t.xlsx: has more than one column 'p', which .*m.yaml names"):
        readers.convert("table", src, tmp_path / "dst", **options)
    (tmp_path / "m.yaml").write_text("image: f\nkeep: [group]\nquestions: {f: q}")
    with pytest.raises(UserError, match="m.yaml: keep: group is a field that rows have themselves; rename the column in the table"):
        readers.convert("table", src, tmp_path / "dst", **options)


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


def test_a_mapping_is_text_whatever_yaml_makes_of_it(tmp_path):
    assert yaml.load("{1: yes, ja: on, 007: no, 5-10: ~}", TextLoader) == {"1": "yes", "ja": "on", "007": "no", "5-10": "~"}
    (tmp_path / "m.yaml").write_bytes("image: Größe".encode("cp1252"))
    with pytest.raises(UserError, match="m.yaml: not UTF-8 text"):
        read_mapping(tmp_path / "m.yaml")


# ---- several codes in a cell

CODES = {"1": "Polyp", "2": "Blut", "9": "skip"}


@pytest.mark.parametrize(
    ("cell", "answer", "left_alone"),
    [
        ("1; 2", "Polyp; Blut", False), ("2;1", "Blut; Polyp", False), ("1\n2", "Polyp; Blut", False), ("1, 2", "Polyp; Blut", False),
        ("1; 9", "Polyp", False), ("9; 9", None, False), ("1; 3", "Polyp; 3", True), ("1,2", "1,2", True), ("1, 3", "1, 3", True),
        ("1, 2, 1", "Polyp; Blut; Polyp", False), ("rot; 3", "rot; 3", True), (1, "Polyp", False), (12, "12", True),
        (";1;", "Polyp", False),
    ],
)  # fmt: skip
def test_a_cell_with_several_codes_is_read_code_by_code(tmp_path, cell, answer, left_alone):
    """A comma between two digits may be a decimal one."""
    mapping = f"image: f\nquestions: {{p: {{question: q, values: {CODES}}}, n: q2}}"
    src, options = table(tmp_path, mapping, ["f", "p", "n"], ["a", cell, 0])
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert [row["answer"] for row in rows if row["question"] == "q"] == ([answer] if answer else [])
    assert any("that `values` doesn't list" in line for line in said) == left_alone


# ---- what stands above the columns' names

TITLES = {
    "a line": [["Befunde, Klinik X"]],
    "two lines and an empty one": [["Befunde; Stand 2024"], [], ["vertraulich"]],
    "pairs": [["Klinik", "X"], ["Stand", "2024"]],
}


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_a_title_above_the_columns_names_is_left_out_and_said(tmp_path, title, name):
    lines = [["a", "g1", "5,5"], ["b", "g1", "6"]]
    src, options = table(tmp_path, M, *TITLES[title], ["f", "g", "p"], *lines, name=name)
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert only(rows, "image", "answer") == [("a.png", "5,5"), ("b.png", "6")]
    place = f"row {len(TITLES[title]) + 1}" if name == "t.xlsx" else f"{len(TITLES[title]) + 1}"
    words = " ".join(cell for line in TITLES[title] for cell in line)
    assert [line for line in said if "left out above" in line] == [
        f"{src}:{' ' * ('row' in place)}{place}: has the columns' names; left out above it: {words}"
    ]


def test_a_title_merged_over_all_columns_is_one(tmp_path):
    src, options = table(tmp_path, M, ["Befunde 2024", None, None], ["f", "g", "p"], ["a", "g1", 1])
    book = openpyxl.load_workbook(src)
    book.active.merge_cells("A1:C1")
    book.save(src)
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert only(rows, "image", "group", "answer") == [("a.png", "g1", "1")]


def test_without_a_mapping_lines_of_several_cells_are_no_title_and_the_error_says_what_to_do(tmp_path):
    src = workbook(tmp_path / "t.xlsx", ["Klinik", "X"], ["file", "g", "p"], ["a.png", "g1", 1])
    with pytest.raises(UserError) as error:
        suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    assert str(error.value) == (
        f"{src}: row 2: has more fields than {src}: row 1 names columns (2); correct it, or delete what stands above the columns' names"
    )


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a;b;c\n1,5;2,5;3,5\n1;2;3\n", ";"), ("Titel, mit Komma\na;b\n1;2\n", ";"), ("a,b\nx; y,1\nx; y,2\n", ","),
        ('a;b\n"x, y, z";1\n', ";"), ("a\tb\n1, 2\t3\n", "\t"), ("a\nb\n", ","), ("", ","), ("a;b", ";"), ("a|b\n1|2", "|"),
    ],
)  # fmt: skip
def test_the_separator_is_what_lines_have_equally_many_of(text, separator):
    assert separator_of(text) == separator


# ---- Parquet of one's own


def parquet_table(folder, pictures, **more):
    """A table of three rows, whose column `pic` has these pictures."""
    columns = {"pic": pictures, "who": [7, 7, 8], "polyp": [True, False, None], "kinds": [["1", "2"], ["2"], []], **more}
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    (folder / "m.yaml").write_text(
        "image: pic\ngroup: who\nlanguage: de\nquestions: {polyp: q1, kinds: {question: q2, values: {1: rot, 2: blau}}}"
    )
    return folder / "t.parquet", {"mapping": folder / "m.yaml"}


def test_a_list_of_true_and_false_is_of_the_tables_language(tmp_path):
    lay(tmp_path, images=("a.png",))
    src, options = parquet_table(tmp_path, ["a"] * 3, kinds=[[True, False], [], []])
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert [row["answer"] for row in rows if row["question"] == "q2"] == ["ja; nein"]


EXPECTED = [("7", "q1", "ja"), ("7", "q2", "rot; blau"), ("7", "q1", "nein"), ("7", "q2", "blau")]


def test_a_parquet_file_of_ones_own_is_a_table(tmp_path):
    src, options = parquet_table(lay(tmp_path, images=("a.png", "b.png")), ["a", "B.PNG", "c.png"])
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert only(rows, "group", "question", "answer") == EXPECTED
    assert [row["image"] for row in rows] == ["a.png"] * 2 + ["b.png"] * 2


@pytest.mark.parametrize("form", [lambda data: data, lambda data: {"bytes": data, "path": None}])
def test_pictures_that_lie_in_the_table_are_written_once_each(tmp_path, form):
    src, options = parquet_table(tmp_path, [form(PNG), form(JPEG), form(PNG)])
    root, images, _, _ = readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    rows = read(tmp_path / "dst" / "all.jsonl")
    assert only(rows, "group", "question", "answer") == EXPECTED and root == tmp_path / "dst"
    assert [(root / name).read_bytes() for name in dict.fromkeys(row["image"] for row in rows)] == [PNG, JPEG]


def test_a_first_mapping_of_a_parquet_file(tmp_path):
    src, _ = parquet_table(tmp_path, [PNG, JPEG, PNG], when=[datetime.datetime(2024, 1, day) for day in (1, 2, 3)])
    (tmp_path / "m.yaml").unlink()
    suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    mapping = yaml.load((tmp_path / "m.yaml").read_text(encoding="utf-8"), TextLoader)
    assert mapping["image"] == "pic" and "polyp" in mapping["questions"]
    rows, _ = converted("table", src, tmp_path / "dst", mapping=tmp_path / "m.yaml", say=[].append)
    assert {row["answer"] for row in rows} >= {"yes", "no"}


def test_a_parquet_file_that_is_none_is_one_line(tmp_path):
    src, options = parquet_table(tmp_path, ["a", "b", "c"])
    src.write_bytes(src.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"t.parquet: unreadable from row 0 on \(.*\); download it again$"):
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)


# ---- a first mapping


def test_a_first_mapping_takes_the_sheet_that_names_pictures(tmp_path):
    src = workbook(tmp_path / "t.xlsx", ["Studie", "Stand"], ["X", 2024], Leer=[], Befunde=list(findings()))
    suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    mapping = yaml.load((tmp_path / "m.yaml").read_text(encoding="utf-8"), TextLoader)
    assert (mapping["sheet"], mapping["image"]) == ("Befunde", "Bilddatei")
    assert converted("table", src, tmp_path / "dst", mapping=tmp_path / "m.yaml", say=[].append)[0]
    src = workbook(tmp_path / "u.xlsx", ["Studie", "Stand"], ["X", 2024], Zwei=[["a", "b"], [1, 2]])
    with pytest.raises(
        UserError, match=r"no column seems to name pictures on any of its sheets \(Sheet, Zwei\); found Studie, Stand, a, b"
    ):
        suggest_mapping(src, tmp_path / "n.yaml", tmp_path / "dst")


def findings(rows=20):
    yield ["Bilddatei", "Fall", "Polyp (j/n)", "Blut", "Anzahl Polypen", "Farbe", "Kommentar", "Datum"]
    for i in range(rows):
        day = datetime.date(2024, 1, 1 + i)
        yield [
            f"{i:04}.jpg",
            f"P{i // 3}",
            "jn"[i % 2],
            "x" if i % 3 else None,
            i % 4 or None,
            ["rosa", "rot", None][i % 3],
            f"Text {i}",
            day,
        ]


def test_the_first_mapping_is_read_as_it_stands(tmp_path):
    src = workbook(tmp_path / "t.xlsx", *findings())
    said = suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    mapping = yaml.load((tmp_path / "m.yaml").read_text(encoding="utf-8"), TextLoader)
    assert (mapping["image"], mapping["group"], mapping["language"]) == ("Bilddatei", "Fall", "de")
    assert mapping["questions"] == {
        "Polyp (j/n)": {"question": "Ist Polyp zu sehen?", "values": {"j": "ja", "n": "nein"}, "empty": "skip"},
        "Blut": {"question": "Ist Blut zu sehen?", "values": {"x": "ja"}, "empty": "nein"},
        "Anzahl Polypen": {"question": "Wie viele Polypen sind zu sehen?", "empty": "skip"},
        "Farbe": {"question": "Was ist zu sehen: Farbe?", "empty": "skip"},
    }
    assert "# left out: Kommentar (20 different texts)" in (tmp_path / "m.yaml").read_text(encoding="utf-8"), "and no patient's text"
    assert said[-1] == f"python -m data.readers table {src} {tmp_path / 'dst'} --mapping {tmp_path / 'm.yaml'}"
    rows, _ = converted("table", src, tmp_path / "dst", mapping=tmp_path / "m.yaml", say=[].append)
    assert len(rows) == 20 + 20 + 15 + 14
    with pytest.raises(UserError, match="m.yaml: exists; edit it, delete it, or name another file with --mapping"):
        suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")


@pytest.mark.parametrize(
    ("columns", "cells", "language", "expected"),
    [
        (["file", "question", "answer"], ["a.jpg", "Is it?", "yes"], "en", {"question": "question", "answer": "answer"}),
        (["fichier", "polype"], ["a.jpg", "oui"], "fr", {"polype": {"question": "Que voit-on : polype ?", "empty": "skip"}}),
        (["图片", "息肉"], ["a.jpg", "是"], "zh", {"息肉": {"question": "息肉是什么？", "empty": "skip"}}),
        (["x", "polyp"], ["a.jpg", 3], "en", {"polyp": {"question": "Which polyp is it?", "empty": "skip"}}),
    ],
)
def test_a_first_mapping_in_other_languages_and_forms(tmp_path, columns, cells, language, expected):
    src = workbook(tmp_path / "t.xlsx", columns, cells, [cells[0], *cells[1:]])
    suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    mapping = yaml.load((tmp_path / "m.yaml").read_text(encoding="utf-8"), TextLoader)
    assert mapping["image"] == columns[0] and mapping["language"] == language
    assert mapping.get("questions", {key: mapping.get(key) for key in ("question", "answer")}) == expected


def test_the_command_suggests_and_converts(tmp_path):
    workbook(tmp_path / "my findings.xlsx", *findings(6))
    first = run("-m", "data.readers", "table", tmp_path / "my findings.xlsx", tmp_path / "dst", "--suggest")
    assert first.returncode == 0 and (tmp_path / "dst" / "mapping.yaml").is_file()
    assert re.search(r"data\.readers table '.*my findings\.xlsx' .*dst --mapping .*dst/mapping\.yaml$", first.stdout)
    bare = run("-m", "data.readers", "table", tmp_path / "my findings.xlsx", tmp_path / "dst")
    assert bare.returncode == 1 and "--suggest writes a first one" in bare.stderr and bare.stderr.count("\n") == 1
    done = run(
        "-m", "data.readers", "table", tmp_path / "my findings.xlsx", tmp_path / "dst", "--mapping", tmp_path / "dst" / "mapping.yaml"
    )
    assert done.returncode == 0 and "data.language: de\n" in done.stdout and read(tmp_path / "dst" / "all.jsonl")


def suggested(folder, *lines):
    """(the first mapping's text, the mapping) of a workbook of these lines."""
    suggest_mapping(workbook(folder / "t.xlsx", *lines), folder / "m.yaml", folder / "dst")
    text = (folder / "m.yaml").read_text(encoding="utf-8")
    return text, yaml.load(text, TextLoader)


def patients(*columns, count=20, pictures=3):
    """A table of patients with pictures; cells of columns that it doesn't know are the patient's number in letters."""
    yield list(columns)
    for number in range(count * pictures):
        who = number // pictures
        known = {
            "Bildqualität": ["gut", "schlecht"][number % 2],
            "Patientenalter": 30 + who // 3,
            "Bild": f"{number:03}",
            "Polyp": number % 2,
        }
        code = "".join("abcdefghij"[int(digit)] for digit in f"{who:02}")
        known |= {"Name": f"Meier {code}", "Geb.": datetime.date(1950, 1, 1 + who), "Befund": ["Anna", "rot"][number % 2]}
        yield [known.get(column, f"P{code}") for column in columns]


@pytest.mark.parametrize(
    ("columns", "group", "left"),
    [
        (["Bildqualität", "Patientenalter", "Patient", "Name", "Geb.", "Bild", "Polyp"], "Patient", ["Patientenalter", "Name", "Geb."]),
        (["Bild", "PatientName", "Pat-ID", "Hausarztcode", "Polyp"], "Pat-ID", ["PatientName", "Hausarztcode"]),
        (["Bild", "Video", "PatNr", "birth_date", "Befund", "Polyp"], "PatNr", ["Video", "birth_date", "Befund"]),
        (["Bild", "Patient age", "Patientencode", "Polyp"], "Patientencode", ["Patient age"]),
        (["Bild", "Patientenname", "Polyp"], None, ["Patientenname"]),
    ],
)
def test_a_first_mapping_asks_nothing_that_tells_who_the_patient_is(tmp_path, columns, group, left):
    text, mapping = suggested(tmp_path, *patients(*columns))
    asked = {"Polyp", "Bildqualität"} & set(columns)
    assert (mapping["image"], mapping.get("group"), set(mapping["questions"])) == ("Bild", group, asked)
    assert all(f"# left out: {name} (may name patients)" in text for name in left)
    assert not re.search("Meier|Anna|Pa[a-j]|1950", text)


@pytest.mark.parametrize(
    "columns",
    [
        ["Bild", "Patient", "Assistenz", "Pflege", "Schwester", "Zuweiser", "Oberärztin"],
        ["image", "patient", "read by", "nurse", "performed_by", "Reported By"],
        ["image", "dossier", "Praticien", "Infirmière", "Réalisé par"],
        ["imagen", "Historia clínica", "Realizado por", "DNI", "Enfermera"],
        ["图片", "病历号", "检查医师", "护士"],
    ],
)
def test_who_examined_is_not_asked_and_a_record_number_is_the_group(tmp_path, columns):
    image, group, *left = columns
    lines = [[f"{n}.jpg", f"K{n // 3}", *(["Nowak", "Szabo"][n % 2] for _ in left), n % 2] for n in range(60)]
    text, mapping = suggested(tmp_path, [*columns, "Polyp"], *lines)
    assert (mapping["image"], mapping["group"], set(mapping["questions"])) == (image, group, {"Polyp"})
    assert all(f"# left out: {name} (may name patients)" in text for name in left) and "Nowak" not in text


@pytest.mark.parametrize(
    ("column", "question"),
    [
        ("Größe (mm)", "Wie groß in mm: Größe?"),
        ("Polypgröße mm", "Wie groß in mm: Polypgröße?"),
        ("Größe_Polyp_µm", "Wie groß in µm: Polyp?"),
    ],
)
def test_a_unit_in_a_columns_name_asks_for_a_size(tmp_path, column, question):
    _, mapping = suggested(tmp_path, ["Bild", column], *([f"{i}.jpg", i % 5] for i in range(20)))
    assert mapping["questions"] == {column: {"question": question, "empty": "skip"}}


DATES = [
    "05. Okt",
    "5-Oct",
    "10. Mai",
    "Okt 24",
    "Mai. 10",
    "05.10.2024",
    "5/10/24",
    "05.10.",
    "2024-10-05",
    "2024-10-05 00:00:00",
    "10月5日",
]


@pytest.mark.parametrize("text", DATES)
@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_texts_that_were_a_date_to_the_spreadsheet_are_refused(tmp_path, text, name):
    name = name if text.isascii() else "t.xlsx"  # Windows-1252 has no such letters
    src, options = table(tmp_path, M, ["f", "g", "p"], ["a", "g1", text], name=name)
    with pytest.raises(UserError, match=r"2, p: the answer is the date '.*'; tables make dates of entries such as 5-10: format the column"):
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    options["mapping"].write_text(f"image: f\nquestions: {{p: {{question: q, values: {{'{text}': 5-10}}}}}}", encoding="utf-8")
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert [row["answer"] for row in rows] == ["5-10"]


@pytest.mark.parametrize("text", ["5-10", "5-10 mm", "5.10", "3 markers", "1/2", "II-III", "may", "5 mm", "3 mars-like folds", "1.2.3.4"])
def test_texts_that_only_resemble_a_date_are_answers(text):
    assert not is_date(text)


@pytest.mark.parametrize(
    ("number_format", "value", "shown"),
    [
        ('0" mm"', 5, "5 mm"), ("0\\ \\m\\m", 5, "5 mm"), ('0.0" mm"', 2.5, "2.5 mm"), ('"ca. "0" mm"', 5, "ca. 5 mm"),
        ('000" ml"', 7, "007 ml"),
        ("0 %", 0.285, "28.5%"), ('0" %"', 5, "5 %"), ('0" mm";"minus "0" mm"', -5, "minus 5 mm"), ('0" mm"', -5, "-5 mm"),
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


def test_columns_with_a_number_or_a_patient_in_their_name_are_still_asked(tmp_path):
    columns = ["Bild", "Patient", "Number of polyps", "No. of clips", "Patient position", "Video quality"]
    lines = ([f"{i}.jpg", f"P{i // 3}", i % 4, i % 5, ["left", "supine"][i % 2], ["good", "poor"][i % 2]] for i in range(20))
    _, mapping = suggested(tmp_path, columns, *lines)
    assert (mapping["group"], list(mapping["questions"])) == ("Patient", columns[2:])
