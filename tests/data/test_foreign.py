"""Which reader fits a file that isn't rows, and who says so.

python -m pytest tests/data/test_foreign.py -v
"""

import json

import openpyxl
import pyarrow
import pytest
from data_sets import CHAT, PMC, lay, run, say
from pyarrow import parquet

from data import check, readers
from data.foreign import fitting_reader
from data.rows import read_rows
from data.split import split_jsonl
from files import UserError


def write_foreign(folder, name):
    """A file of each kind that isn't rows."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    if name.endswith(".xlsx"):
        workbook = openpyxl.Workbook()
        workbook.active.append(["file", "polyp"])
        workbook.save(path)
    elif name.endswith(".parquet"):
        parquet.write_table(pyarrow.table({"question": ["q"]}), path)
    else:
        lay(folder, of={name: FOREIGN[name][0]})
    return path


LONG = {"id": "1", "conversations": say("q" * 100_000, "a"), "image": "a.png"}


FOREIGN = {
    "llava.json": ([{"image": "a.png", "conversations": say("q", "a")}], "conversations: python -m data.readers conversations {} DST"),
    "long.jsonl": ([LONG], "conversations: python -m data.readers conversations {} DST"),
    "chat.jsonl": ([{"messages": say("q", "a", CHAT)}], "conversations: python -m data.readers conversations {} DST"),
    "german.csv": ("Datei;Polyp\na;1\n", "a table: python -m data.readers table {} DST --suggest"),
    "findings.xlsx": (None, "a table: python -m data.readers table {} DST --suggest"),
    "pmc.csv": (f"{PMC}\n", "PMC-VQA: python -m data.readers pmc-vqa {} DST"),
    "kvasir.json": ([{"image_id": "a", "question": "q"}], "rows in one JSON array: python -m data.readers kvasir-vqa-json {} DST"),
    "x.parquet": (None, "Parquet: python -m data.readers --help names the data sets that are read from it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_errors_name_the_reader_that_fits(tmp_path, name):
    path = write_foreign(tmp_path / "src", name)
    said = "this looks like " + FOREIGN[name][1].format(path)
    wrong = [lambda: list(read_rows(path)), lambda: split_jsonl(path, tmp_path / "dst"), lambda: check.read_raw(path)]
    wrong += [lambda: readers.convert("surgvu", path, tmp_path / "dst"), lambda: readers.convert("kvasir-vqa-x1", path, tmp_path / "dst")]
    for action in wrong[:4] if "conversations" in said or ".parquet" in name else wrong:
        with pytest.raises(UserError) as error:
            action()
        assert said in str(error.value) and "\n" not in str(error.value) and "correct it" not in str(error.value)


@pytest.mark.parametrize("line", ['{"question": "q", "answer": "a", "image": "a.png"}', "no JSON", "[]", '{"messages": "q"}'])
def test_rows_and_what_nobody_knows_fit_no_reader(tmp_path, line):
    assert fitting_reader(lay(tmp_path, of={"r.jsonl": [line]}) / "r.jsonl") is None and fitting_reader(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        *[(f"a{suffix}", b"no matter", "table") for suffix in (".csv", ".TSV", ".xlsx", ".xlsm", ".xls", ".ods")],
        ("a.bin", b"PK\x03\x04", "table"),
        ("a.jsonl", b"\xd0\xcf\x11\xe0", "table"),
        ("a.csv", b'"Figure_path";"Choice A"\n', "pmc-vqa"),
        ("a.csv", b"Figure_path,Choice B\n", "table"),
        ("a.jsonl", b'\xef\xbb\xbf {"conversation": []}', "conversations"),
        ("a.json", b'[ {"messages": [], "conversations": 1}]', "conversations"),
        ("a.json", b'[{"id": "1", "messages": [{"role": "user", "content": "cut', "conversations"),
        ("a.json", b'\xef\xbb\xbf\n[{"image_filename": "a"}]', "kvasir-vqa-json"),
        ("a.jsonl", b'{"image_filename": "a"}\n', None),
        ("a.json", b'[{"image": "a"}]', None),
        ("a.jsonl", b"", None),
    ],
)
def test_a_file_is_known_by_its_first_bytes_or_its_suffix_also_where_it_is_all_that_a_folder_holds(tmp_path, name, content, reader):
    path = tmp_path / "one" / name
    path.parent.mkdir()
    path.write_bytes(content)
    said = {
        "table": "a table",
        "pmc-vqa": "PMC-VQA",
        "conversations": "conversations",
        "kvasir-vqa-json": "rows in one JSON array",
        None: "",
    }
    suggest = " --suggest" if reader == "table" else ""
    wanted = f"this looks like {said[reader]}: python -m data.readers {reader} {path} DST{suggest}" if reader else None
    assert fitting_reader(path) == wanted
    if name != "a.bin":
        assert fitting_reader(path.parent) == wanted
        (path.parent / "another.csv").write_text("a,b")
        assert fitting_reader(path.parent) is None, "of two files nobody knows which"


def test_the_command_says_it_in_one_line(tmp_path):
    path = lay(tmp_path, of={"my chats.jsonl": [json.dumps(FOREIGN["llava.json"][0][0])]}) / "my chats.jsonl"
    done = run("-m", "data.check", "--train", path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"this looks like conversations: python -m data.readers conversations '{path}' DST\n")
