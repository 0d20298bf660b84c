"""A first mapping of a table's columns: pictures, patients, questions; nothing that tells who somebody is.

python -m pytest tests/data/formats/test_table_suggest.py -v
"""

import datetime
import re

import pytest
import yaml
from data_sets import JPEG, PNG, converted, parquet_table, read, run, workbook

from data.formats.table import TextLoader
from data.formats.table_suggest import PICTURE, _not_the_picture, suggest_mapping
from files import UserError


def test_without_a_mapping_lines_of_several_cells_are_no_title_and_the_error_says_what_to_do(tmp_path):
    src = workbook(tmp_path / "t.xlsx", ["Klinik", "X"], ["file", "g", "p"], ["a.png", "g1", 1])
    with pytest.raises(UserError) as error:
        suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    assert str(error.value) == (
        f"{src}: row 2: has more fields than {src}: row 1 names columns (2); correct it, or delete what stands above the columns' names"
    )


def test_a_first_mapping_of_a_parquet_file(tmp_path):
    src, _ = parquet_table(tmp_path, [PNG, JPEG, PNG], when=[datetime.datetime(2024, 1, day) for day in (1, 2, 3)])
    (tmp_path / "m.yaml").unlink()
    suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    mapping = yaml.load((tmp_path / "m.yaml").read_text(encoding="utf-8"), TextLoader)
    assert mapping["image"] == "pic" and "polyp" in mapping["questions"]
    rows, _ = converted("table", src, tmp_path / "dst", mapping=tmp_path / "m.yaml", say=[].append)
    assert {row["answer"] for row in rows} >= {"yes", "no"}


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


def test_columns_with_a_number_or_a_patient_in_their_name_are_still_asked(tmp_path):
    columns = ["Bild", "Patient", "Number of polyps", "No. of clips", "Patient position", "Video quality"]
    lines = ([f"{i}.jpg", f"P{i // 3}", i % 4, i % 5, ["left", "supine"][i % 2], ["good", "poor"][i % 2]] for i in range(20))
    _, mapping = suggested(tmp_path, columns, *lines)
    assert (mapping["group"], list(mapping["questions"])) == ("Patient", columns[2:])


MAPPING = """\
# A first mapping of Befunde.xlsx (12 rows), made by --suggest. Check every line; what follows a # is a remark.
sheet: "Befunde (Ü)"
image: "Übersicht (Bild)"   # the column with the pictures' file names
group: Fall-Nr.   # the column with the patient or video, which is never in two splits
language: de   # of questions and answers: en, de, fr, es, zh
questions:   # one row of the table is one picture; each of these columns is a question
  "Polyp (j/n)":   # seen: j 6, n 6
    question: "Ist Polyp zu sehen?"
    values: {j: ja, n: nein}
    empty: skip   # what an empty cell says; skip: nothing
  Blutung:   # seen: x 8, empty 4
    question: "Ist Blutung zu sehen?"
    values: {x: ja}
    empty: nein   # what an empty cell says; skip: nothing
  "Größe (mm)":   # seen: 3 4, 4 4, 5 4
    question: "Wie groß in mm: Größe?"
    empty: skip
  Anzahl Polypen:   # seen: 0 3, 1 3, 2 3, 3 3
    question: "Wie viele Polypen sind zu sehen?"
    empty: skip
  Färbung:   # seen: rosa 4, rot 4, empty 4
    question: "Was ist zu sehen: Färbung?"
    empty: skip
  "Prädikat: Güte":   # seen: gut 6, mäßig 6
    question: "Was ist zu sehen: Prädikat: Güte?"
    empty: skip
# left out: Arzt (may name patients)
# left out: Kommentar (12 different texts)
# left out: Datum (dates)
# left out: Leer (0 different texts)
"""


def test_the_whole_of_a_first_mapping_of_a_sheet_in_german(tmp_path):
    columns = ["Übersicht (Bild)", "Fall-Nr.", "Polyp (j/n)", "Blutung", "Größe (mm)", "Anzahl Polypen", "Färbung", "Prädikat: Güte"]
    columns += ["Arzt", "Kommentar", "Datum", "Leer"]
    lines = [
        [f"{i:02}.jpg", f"P{i // 3}", "jn"[i % 2], "x" if i % 3 else None, i % 3 + 3, i % 4, ["rosa", "rot", None][i % 3],
         ["gut", "mäßig"][i % 2], "Meier", f"Text {i}", datetime.date(2024, 1, 1 + i), None]
        for i in range(12)
    ]  # fmt: skip
    src = workbook(tmp_path / "Befunde.xlsx", ["Studie", "Stand"], ["X", 2024], **{"Befunde (Ü)": [columns, *lines]})
    said = suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst", tmp_path / "my pictures")
    assert (tmp_path / "m.yaml").read_text(encoding="utf-8") == MAPPING
    assert said == [
        f"{src}: read the sheet Befunde (Ü), of Sheet, Befunde (Ü)",
        f"{tmp_path / 'm.yaml'}: a first mapping; correct its questions and values, then",
        f"python -m data.readers table {src} {tmp_path / 'dst'} --mapping {tmp_path / 'm.yaml'} --images '{tmp_path / 'my pictures'}'",
    ]


def test_the_whole_of_a_first_mapping_that_found_little(tmp_path):
    text, _ = suggested(tmp_path, ["file", "note", "when"], *([f"{i}.jpg", f"text {i}", None] for i in range(4)))
    assert text == (
        "# A first mapping of t.xlsx (4 rows), made by --suggest. Check every line; what follows a # is a remark.\n"
        "image: file   # the column with the pictures' file names\n"
        "# group: COLUMN   # none found: name the column with the patient or video, or patients will be in two splits\n"
        "language: en   # of questions and answers: en, de, fr, es, zh\n"
        "# questions:   # none found\n"
        "# left out: note (4 different texts)\n"
        "# left out: when (0 different texts)\n"
    )


@pytest.mark.parametrize("more", [{}, {"Zwei": [["a", "b"], [1, 2]]}])
def test_where_pictures_were_looked_for_in_vain_is_said(tmp_path, more):
    src = workbook(tmp_path / "t.xlsx", ["Studie", "Stand"], ["X", 2024], **more)
    with pytest.raises(UserError) as error:
        suggest_mapping(src, tmp_path / "m.yaml", tmp_path / "dst")
    where, found = (" on any of its sheets (Sheet, Zwei)", "Studie, Stand, a, b") if more else ("", "Studie, Stand")
    assert str(error.value) == f"{src}: no column seems to name pictures{where}; found {found}; add one with their file names"
    assert not (tmp_path / "m.yaml").exists()
    with pytest.raises(UserError) as error:
        suggest_mapping(tmp_path, tmp_path / "m.yaml", tmp_path / "dst")
    assert str(error.value) == f"{tmp_path}: is no file; give the .xlsx, .csv or .parquet file"


def test_the_whole_of_a_first_mapping_of_one_question_a_row(tmp_path):
    text, _ = suggested(tmp_path, ["file", "video", "question", "answer"], ["a.jpg", "v1", "Is it?", "yes"], ["b.jpg", "v2", "Why?", "red"])
    assert text.splitlines()[1:] == [
        "image: file   # the column with the pictures' file names",
        "group: video   # the column with the patient or video, which is never in two splits",
        "language: en   # of questions and answers: en, de, fr, es, zh",
        "question: question   # one row of the table is one question",
        "answer: answer",
    ]


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ("aab", True), ("abc", False),  # two kinds are a finding, whoever has them
        ("aabbcd", True), ("abcdee", False),  # of two thirds as many kinds as patients a column may be a finding, of more a name
        ("aaaaaabbbb", True),
    ],
)  # fmt: skip
def test_a_column_with_nearly_a_value_of_its_own_for_each_patient_may_name_them(tmp_path, values, asked):
    lines = [[f"{who}{n}.jpg", f"P{who}", value, n] for who, value in enumerate(values) for n in range(3)]
    text, mapping = suggested(tmp_path, ["file", "patient", "note", "polyp"], *lines)
    assert ("note" in mapping["questions"], "# left out: note (may name patients)" in text) == (asked, not asked)


@pytest.mark.parametrize(("mixed", "asked"), [(1, False), (2, True)])
def test_one_patient_of_ten_may_have_two_names(tmp_path, mixed, asked):
    """And still a column names them: somebody mistyped one."""
    lines = [[f"{who}{n}.jpg", f"P{who}", "abcdefghij"[who] + "x" * (n == 0 and who < mixed)] for who in range(10) for n in range(3)]
    text, mapping = suggested(tmp_path, ["file", "patient", "note"], *lines)
    assert ("note" in mapping.get("questions", {}), "# left out: note (may name patients)" in text) == (asked, not asked)


@pytest.mark.parametrize("value", ["x", {"bytes": None, "path": "a.png"}, {"a": 1}, None, 3])
def test_only_a_pictures_bytes_are_left_out_of_a_suggestion(value):
    assert _not_the_picture(value) == value and _not_the_picture(PNG) == _not_the_picture({"bytes": PNG}) == PICTURE
