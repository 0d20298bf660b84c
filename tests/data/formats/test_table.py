"""Tables of one's own as rows: both forms, what a mapping says of cells, pictures that lie in a table.

python -m pytest tests/data/formats/test_table.py -v
"""

import datetime

import pytest
import yaml
from data_sets import JPEG, PNG, M, converted, lay, only, parquet_table, read, table_of

from data import readers
from data.formats.table import TextLoader, read_mapping
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
WESTERN = "read as Windows-1252, as it is not UTF-8, such as line 4: C.PNG;P2;5.5;9;0;Größe unklar; if letters are wrong, "
WESTERN += 'in Excel save it as "CSV UTF-8"'
LINES = [["a.png", "P1", 63, 1, 2, "Adenom; rot"], ["b", "P1", None, 0, None, None], ["C.PNG", "P2", 5.5, 9, 0, "Größe unklar"]]


@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_one_row_a_picture_with_a_column_for_each_finding(tmp_path, name):
    src, options = table_of(tmp_path, WIDE, HEADER, *LINES, [None] * 6, name=name)
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
    assert said == [
        *[f"{src}: {line}" for line in (WESTERN, "fields are separated by semicolons") if name == "t.csv"],
        f"{src}: 2 cells are empty or `skip`, and ask nothing",
        "data.language: de",
    ]


def test_one_row_a_question(tmp_path):
    mapping = "image: file\nquestion: q\nanswer: a\noptions: [A, B]\nvalues: {x: yes}\nempty: none\n"
    src, options = table_of(
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


def test_what_a_column_says_of_its_cells_goes_before_what_is_said_of_all(tmp_path):
    of_all, own = "values: {1: yes, 0: no}\nempty: none\n", "{question: q2, values: {1: small, 0: large}, empty: skip}"
    mapping = f"image: f\n{of_all}questions: {{p: q1, s: {own}}}"
    src, options = table_of(tmp_path, mapping, ["f", "p", "s"], ["a", 1, 1], ["b", None, None], ["c", 0, 0])
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert only(rows, "question", "answer") == [("q1", "yes"), ("q2", "small"), ("q1", "none"), ("q1", "no"), ("q2", "large")]


def test_cells_that_values_do_not_list_stay_and_are_said(tmp_path):
    src, options = table_of(
        tmp_path, "image: f\nquestions: {p: {question: 'Is it?', values: {1: yes}}}", ["f", "p"], ["a", 1], ["b", 11], ["c", 11]
    )
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert [row["answer"] for row in rows] == ["yes", "11", "11"]
    assert f"{src}: p: 2 cells that `values` doesn't list stay as they are: '11' (2)" in said


def test_of_cells_that_values_do_not_list_three_are_said_and_how_many_there_are(tmp_path):
    lines = [["abc"[number % 3], code] for number, code in enumerate([1, 5, 5, 5, 6, 6, 7, 8])]
    src, options = table_of(tmp_path, "image: f\nquestions: {p: {question: q, values: {1: yes, 9: skip}}}", ["f", "p"], *lines, ["a", 9])
    said = []
    converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert said == [
        f"{src}: 1 cells are empty or `skip`, and ask nothing",
        f"{src}: p: 7 cells that `values` doesn't list stay as they are: '5' (3), '6' (2), '7' (1), …",
    ]


def test_the_whole_row_of_a_table(tmp_path):
    mapping = "image: f\ngroup: g\nlanguage: fr\nkeep: [when, size]\noptions: [A, B]\nquestion: q\nanswer: a\n"
    header, day = ["f", "g", "when", "size", "A", "B", "q", "a"], datetime.datetime(2024, 10, 5)
    src, options = table_of(
        tmp_path, mapping, header, ["B", 7, day, 2.5, True, "non", "Oui ?", True], ["a", "x", None, None, None, None, "q", 3]
    )
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert rows == [
        {"id": "0", "image": "b.png", "question": "Oui ?", "answer": "oui", "group": "7", "options": ["yes", "non"], "language": "fr",
         "when": "2024-10-05T00:00:00", "size": 2.5},
        {"id": "1", "image": "a.png", "question": "q", "answer": "3", "group": "x", "language": "fr"},
    ]  # fmt: skip


MAPPINGS = {
    "image: f\n image: [": ":2: not valid YAML (",
    "image: \0": ": not valid YAML (unacceptable character #x0000",  # where the reader of YAML names no line
    "[image]: f": ":1: not valid YAML (has a list for a key: ",
    "questions: q": ": questions is 'q'; give each column its question",
    "questions: {p: {question: ' '}}": ": questions: p: has no question; write it",
    "questions: {p: [q]}": ": questions: p: is ['q']; write `key: value` lines: question, values, empty",
    "keep: x": ": keep is 'x'; give a list of columns",
    "options: [[x]]": ": options is [['x']]; give a list of columns",
    "image: [f]": ": image is ['f']; give one text",
    "questions: {p: {question: q, empty: [x]}}": ": questions: p: empty is ['x']; give one text",
    "values: {1: [x]}": ": values is {'1': ['x']}; write what each cell means, such as {1: yes, 0: no}",
    "imgae: f": ": unknown key 'imgae'; known are image, group, sheet, language, keep, questions, question, answer, options, values, empty",
}


@pytest.mark.parametrize("text", MAPPINGS)
def test_a_mapping_that_can_not_be_used_is_named_by_file_and_key(tmp_path, text):
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_mapping(tmp_path / "m.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'm.yaml'}{MAPPINGS[text]}") and "\n" not in str(error.value)


def test_what_is_no_mapping_or_no_table_says_what_to_do(tmp_path):
    src, options = table_of(tmp_path, "image: f\nquestion: p\n", ["f", "p"], ["a", 1])
    for arguments, said in (
        ((src.parent, options), f"{src.parent}: is a folder; give the .xlsx, .csv or .parquet file"),
        ((src, {}), f"{src}: has no mapping; say what its columns are with --mapping FILE; --suggest writes a first one"),
        ((src, {"mapping": tmp_path / "n.yaml"}), f"{tmp_path / 'n.yaml'}: no such file; --suggest writes a first mapping"),
        ((src, options), f"{tmp_path / 'm.yaml'}: has no answer; name the column that holds it, one of f, p"),
    ):
        with pytest.raises(UserError) as error:
            readers.convert("table", arguments[0], tmp_path / "dst", **arguments[1], say=[].append)
        assert str(error.value) == said
    parquet, _ = parquet_table(tmp_path, ["a", "b", "c"])
    (tmp_path / "m.yaml").write_text("sheet: x\nimage: pic\nquestions: {polyp: q}")
    with pytest.raises(UserError) as error:
        readers.convert("table", parquet, tmp_path / "dst", **options, say=[].append)
    assert str(error.value) == f"{parquet}: is no workbook, and has no sheet 'x'; take `sheet` out of the mapping"


@pytest.mark.parametrize(("language", "expected"), [("de", ["ja", "nein"]), ("en", ["yes", "no"])])
@pytest.mark.parametrize("cells", [(True, False), ("TRUE", "FALSE"), ("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("VERDADERO", "FALSO")])
def test_true_and_false_are_words_of_the_tables_language(tmp_path, language, expected, cells):
    """Of a workbook, and of the CSV file that Excel writes of it."""
    name = "t.xlsx" if cells[0] is True else "t.csv"
    lines = [["f", "p"], ["a", cells[0]], ["b", cells[1]]]
    src, options = table_of(tmp_path, f"image: f\nlanguage: {language}\nquestions: {{p: q}}", *lines, name=name)
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=(said := []).append)
    assert [row["answer"] for row in rows] == expected and "converted: 2 true and false to yes and no" in said


def test_a_sheet_by_name_and_pictures_elsewhere(tmp_path):
    lines = [["Bild\n(Datei)", "p"], ["C:\\Bilder\\x.png", 1]]
    src, options = table_of(tmp_path, "image: Bild (Datei)\nsheet: Zwei\nquestions: {p: q}", ["f"], Zwei=lines)
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
    src, options = table_of(tmp_path, mapping, ["f", "g", "p"], *lines, name="t.csv" if said.startswith("t.csv") else "t.xlsx")
    with pytest.raises(UserError) as error:
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    text = str(error.value).replace(f"{tmp_path}/", "")
    assert text.startswith(said) and "\n" not in text and not list(tmp_path.glob("dst/*"))


OBJECT = [{"x": 1}] * 3
CELLS = {
    "group": ({"who": OBJECT}, "", "row 0: who is an object with fields x, not text; write it as text, a number, true or false, or a list"),
    "no group": ({"who": [None] * 3}, "", "row 0: who is empty, which names the patient or video; fill it, so that no patient is in"),
    "no picture": ({"pic": [None] * 3}, "", "row 0: pic is empty, which names the picture; fill it or delete the row"),
    "several pictures": ({"pic": [["a", "b"]] * 3}, "", "row 0: pic is a list, ['a', 'b']; name one picture a row"),
    "answer": ({"polyp": OBJECT}, "", "row 0, polyp: the answer is an object with fields x, not text; write it as text, a number"),
    "options": ({"o": OBJECT}, "options: [o]\n", "row 0: o is an object with fields x, not text; write it as text, a number"),
    "keep": ({"o": [b"12"] * 3}, "keep: [o]\n", "row 0: o is binary data (2 bytes), which a row can't hold; leave the column out"),
    "picture without bytes": ({"pic": [{"bytes": None, "path": "a"}] * 3}, "", "row 0: has no image bytes; save the dataset with"),
    "no picture's bytes": ({"pic": [b"x"] * 3}, "", "row 0: its image is unreadable (not in a format Pillow knows)"),
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_that_can_not_be_read_is_named_by_row_and_column(tmp_path, kind):
    columns, further, said = CELLS[kind]
    src, options = parquet_table(
        tmp_path, columns.get("pic", ["a"] * 3), **{name: cells for name, cells in columns.items() if name != "pic"}
    )
    options["mapping"].write_text(f"image: pic\ngroup: who\n{further}questions: {{polyp: q1}}")
    with pytest.raises(UserError) as error:
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    assert str(error.value).startswith(f"{src}: {said}") and "\n" not in str(error.value)


def test_columns_that_rows_have_themselves_or_twice_are_refused(tmp_path):
    src, options = table_of(tmp_path, "image: f\nkeep: [group]\nquestions: {p: q}", ["f", "group", "p", "p"], ["a", "g", 1, 2])
    with pytest.raises(UserError, match=r"t.xlsx: has more than one column 'p', which .*m.yaml names"):
        readers.convert("table", src, tmp_path / "dst", **options)
    own = ["id", "image", "images", "question", "answer", "group", "options", "answers", "split", "language"]
    src, options = table_of(tmp_path, "", ["f", *own], ["a", *own])
    for name in own:
        (tmp_path / "m.yaml").write_text(f"image: f\nkeep: [{name}]\nquestions: {{f: q}}")
        with pytest.raises(UserError, match=f"m.yaml: keep: {name} is a field that rows have themselves; rename the column in the table"):
            readers.convert("table", src, tmp_path / "dst", **options)


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
    src, options = table_of(tmp_path, mapping, ["f", "p", "n"], ["a", cell, 0])
    said = []
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=said.append)
    assert [row["answer"] for row in rows if row["question"] == "q"] == ([answer] if answer else [])
    assert any("that `values` doesn't list" in line for line in said) == left_alone


# ---- Parquet of one's own


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


def test_a_parquet_file_that_is_none_is_one_line(tmp_path):
    src, options = parquet_table(tmp_path, ["a", "b", "c"])
    src.write_bytes(src.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"t.parquet: unreadable from row 0 on \(.*\); download it again$"):
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)


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
    src, options = table_of(tmp_path, M, ["f", "g", "p"], ["a", "g1", text], name=name)
    with pytest.raises(UserError, match=r"2, p: the answer is the date '.*'; tables make dates of entries such as 5-10: format the column"):
        readers.convert("table", src, tmp_path / "dst", **options, say=[].append)
    options["mapping"].write_text(f"image: f\nquestions: {{p: {{question: q, values: {{'{text}': 5-10}}}}}}", encoding="utf-8")
    rows, _ = converted("table", src, tmp_path / "dst", **options, say=[].append)
    assert [row["answer"] for row in rows] == ["5-10"]
