"""The readers: bytes, order and ids kept, junk counted, and one line for each kind of broken source.

python -m pytest tests/test_readers.py -v
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from data import readers
from files import UserError, sha256

ROOT = Path(__file__).resolve().parents[1]


def image_bytes(color, format="JPEG"):
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), color).convert("RGB").save(buffer, format)
    return buffer.getvalue()


JPEG, OTHER_JPEG, PNG = image_bytes(20), image_bytes(60), image_bytes(40, "PNG")


def record(img_id, data, question="Is there text?", answer="yes", **changes):
    # the path's suffix is wrong on purpose: the bytes decide
    return {
        "image": {"bytes": data, "path": "x.bmp"},
        "source": "HyperKvasir",
        "question": question,
        "answer": answer,
        "img_id": img_id,
        **changes,
    }


RECORDS = [
    record("b", JPEG, "What color is the abnormality? If more than one separate with ;", "Pink; red"),
    record("a", PNG),
    record("b", JPEG, "How many polyps are in the image?", "0"),
    record("b", JPEG, "none", "nan"),
    record("a", PNG, "What is the size of the polyp?", "<5mm"),
    record("c", OTHER_JPEG, "What type of polyp is present?", "none"),
    record("c", OTHER_JPEG, "Is there text?", None),
    record("c", OTHER_JPEG, "  ", "yes"),
    record("a", PNG, "Is there a green/black box artefact?", "no"),
]  # fmt: skip


def write_parquet(path, records, **columns):
    """A Parquet file as `datasets` writes it, in row groups of 4."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (optional) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    text = dict.fromkeys(("source", "question", "answer", "img_id"), pyarrow.string())
    fields = {"image": image, **text, **columns}
    schema = pyarrow.schema([(name, kind) for name, kind in fields.items() if kind])
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(records, schema=schema), path, row_group_size=4)
    return path


def write_folder(folder, lines, images=("images/a.png", "images/b.jpg", "top.jpg")):
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG if name.endswith("png") else JPEG)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_bytes("\r\n".join(lines).encode())
    return folder


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def contents(folder):
    """Every file below `folder`, hidden ones too, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Parquet ---


def test_parquet_rows_in_order_with_answers_as_they_are(tmp_path):
    source = write_parquet(tmp_path / "src" / "data" / "raw-00000-of-00001.parquet", RECORDS)
    image_root, images, dropped = readers.convert("kvasir-vqa", tmp_path / "src", tmp_path / "dst")
    expected = [
        ("0", "images/b.jpg", "What color is the abnormality? If more than one separate with ;", "Pink; red"),
        ("1", "images/a.png", "Is there text?", "yes"),
        ("2", "images/b.jpg", "How many polyps are in the image?", "0"),
        ("4", "images/a.png", "What is the size of the polyp?", "<5mm"),
        ("5", "images/c.jpg", "What type of polyp is present?", "none"),
        ("8", "images/a.png", "Is there a green/black box artefact?", "no"),
    ]
    keys = ("id", "image", "question", "answer")
    assert read(tmp_path / "dst" / "all.jsonl") == [
        dict(zip(keys, values)) | {"source": "HyperKvasir"} for values in expected
    ]
    assert image_root == tmp_path / "dst"
    assert images == {"images/b.jpg": 2, "images/a.png": 3, "images/c.jpg": 1}
    assert dropped == {"without a question": 2, "without an answer": 1}
    readers.convert("kvasir-vqa", source, tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


def test_parquet_images_keep_their_bytes_and_are_written_once(tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    written = Counter()
    atomic_open = readers.atomic_open
    monkeypatch.setattr(
        readers, "atomic_open", lambda path, mode: written.update([path.name]) or atomic_open(path, mode)
    )
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written == {"b.jpg": 1, "a.png": 1, "c.jpg": 1}
    for name, data in {"b.jpg": JPEG, "a.png": PNG, "c.jpg": OTHER_JPEG}.items():
        assert sha256(tmp_path / "dst" / "images" / name) == hashlib.sha256(data).hexdigest()
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written.total() == 3, "a second run found the images and wrote none"


@pytest.mark.parametrize("below", ["data", "."])
def test_parquet_files_of_a_folder_are_one_dataset_in_name_order(tmp_path, below):
    write_parquet(tmp_path / "parts" / below / "raw-00001-of-00002.parquet", RECORDS[4:])
    write_parquet(tmp_path / "parts" / below / "raw-00000-of-00002.parquet", RECORDS[:4])
    write_parquet(tmp_path / "whole" / "all.parquet", RECORDS)
    readers.convert("kvasir-vqa", tmp_path / "parts", tmp_path / "two")
    readers.convert("kvasir-vqa", tmp_path / "whole", tmp_path / "one")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_row_whose_image_contradicts_its_img_id_is_dropped_and_counted(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, record("b", OTHER_JPEG)])
    _, images, dropped = readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert (images.total(), dropped["with another image than an earlier row of the same img_id"]) == (6, 1)
    assert (tmp_path / "dst" / "images" / "b.jpg").read_bytes() == JPEG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record("d", None), "row 9: has no image bytes"),
        (record("d", b""), "row 9: has no image bytes"),
        (record("d", JPEG, image=None), "row 9: has no image bytes"),
        (record("d", b"GIF? no"), "row 9: its image is unreadable (not in a format Pillow knows)"),
        (record("../d", JPEG), "row 9: img_id '../d' can't be a file name"),
        (record(None, JPEG), "row 9: img_id None can't be a file name"),
    ],
)
def test_a_broken_parquet_row_is_named(tmp_path, change, message):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, change])
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: {message}") and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_parquet_without_a_column_or_with_numbers_for_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (optional) is not installed")
    rows = [{key: value for key, value in row.items() if key != "img_id"} for row in RECORDS]
    source = write_parquet(tmp_path / "rows.parquet", rows, img_id=None)
    with pytest.raises(UserError, match="rows.parquet: has no column img_id; found image, source, question, answer"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    source = write_parquet(tmp_path / "rows.parquet", [record("a", PNG, answer=3)], answer=pyarrow.int64())
    with pytest.raises(UserError, match="rows.parquet: row 0: answer is 3, not text"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    source = write_parquet(tmp_path / "rows.parquet", [RECORDS[3]])
    with pytest.raises(UserError, match=r"has no usable rows; dropped rows: 1 \(1 without a question\)"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")


def test_source_column_is_optional(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "source"} for row in RECORDS]
    readers.convert("kvasir-vqa", write_parquet(tmp_path / "rows.parquet", rows, source=None), tmp_path)
    assert set(read(tmp_path / "all.jsonl")[0]) == {"id", "image", "question", "answer"}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: unreadable from row 0 on (") and "\n" not in str(error.value)


def test_missing_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="rows.parquet: reading Parquet needs pyarrow; run: pip install pyarrow$"):
        readers.convert("kvasir-vqa", tmp_path, tmp_path / "dst")


KILLED = """
import os, signal, sys
from data import readers
write = readers._write_image
def write_two(dst, img_id, data, where):
    if img_id == "c":  # the third image: die with its temporary file half written
        with readers.atomic_open(dst / "images" / "c.jpg", "wb") as file:
            file.write(data[:50])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return write(dst, img_id, data, where)
readers._write_image = write_two
readers.convert("kvasir-vqa", sys.argv[1], sys.argv[2])
"""


def test_a_killed_run_started_again_ends_in_the_same_files(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    killed = run("-c", KILLED, source, tmp_path / "killed", cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert {"images/a.png", "images/b.jpg"} < set(contents(tmp_path / "killed")), "it was stopped in the middle"
    assert not (tmp_path / "killed" / "all.jsonl").exists()
    for folder in ("killed", "whole"):
        readers.convert("kvasir-vqa", source, tmp_path / folder)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# --- metadata.csv ---

HEADER = "source,question,answer,img_id"


def test_csv_rows_reference_the_images_where_they_are(tmp_path):
    lines = [HEADER, "HyperKvasir,Is there text?,yes,a", 'x,"How many polyps, in all?","""3""",b', "x,none,nan,zzz",
             "x,Is there text?,,b", '"x","two', 'lines",no,top', "x,Is there text?,none,a"]  # fmt: skip
    folder = write_folder(tmp_path / "src", lines)
    before = contents(folder)
    image_root, images, dropped = readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert [tuple(row.values()) for row in read(tmp_path / "dst" / "all.jsonl")] == [
        ("0", "images/a.png", "Is there text?", "yes", "HyperKvasir"),
        ("1", "images/b.jpg", "How many polyps, in all?", '"3"', "x"),
        ("4", "top.jpg", "two\r\nlines", "no", "x"),
        ("5", "images/a.png", "Is there text?", "none", "x"),
    ]
    assert dropped == {"without a question": 1, "without an answer": 1}
    assert image_root == folder and all((image_root / name).is_file() for name in images)
    assert list(contents(tmp_path / "dst")) == ["all.jsonl"] and contents(folder) == before, "no image was copied"
    readers.convert("kvasir-vqa", folder / "metadata.csv", tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("file_name", "images/a.png"),
        ("file_name", "./images/a.png"),
        ("file_name", "a.png"),
        ("image", "images/a.png"),
        ("img_id", "a"),
        (",img_id", "7,a"),  # the number column that pandas writes unless told not to
    ],
)
def test_csv_columns_that_may_name_the_image(tmp_path, header, name):
    folder = write_folder(tmp_path, [f"question,answer,{header}", f"Is there text?,yes,{name}"])
    readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    expected = {"id": "0", "image": "images/a.png", "question": "Is there text?", "answer": "yes"}
    assert read(tmp_path / "dst" / "all.jsonl") == [expected]


def test_csv_with_byte_order_mark(tmp_path):
    folder = write_folder(tmp_path, ["\ufeffquestion,answer,img_id", "Is there text?,yes,a"])
    assert readers.convert("kvasir-vqa", folder, tmp_path / "dst")[1] == {"images/a.png": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "x,q,y,a", "x,q,y"], "metadata.csv:3: has 3 fields, not the header's 4"),
        ([HEADER, "x,q,y,a", "x,q,y,a,b"], "metadata.csv:3: has 5 fields, not the header's 4"),
        ([HEADER, 'x,"two', 'lines",y,a', 'x,"q"z,y,a'], "metadata.csv:4: not valid CSV ("),
        ([HEADER, 'x,"never closed,y,a'], "metadata.csv:2: not valid CSV ("),
        ([HEADER, "x,q,y,a", "x,q,y,missing"], "metadata.csv:3: no image missing in "),
        ([HEADER, "x,q,y,"], "metadata.csv:2: names no image; fill file_name or image or img_id"),
        ([HEADER, "x,q,y,../outside.jpg"], "metadata.csv:2: no image ../outside.jpg in "),
        (["source,question,img_id", "x,q,a"], "metadata.csv: has no column answer; found source, question, img_id"),
        (["source,question,answer", "x,q,y"], "metadata.csv: has no column file_name; found source, question, answer"),
        ([""], "metadata.csv: has no column question, answer, file_name; found none"),
        ([HEADER], "has no usable rows; dropped rows: 0"),
    ],
)
def test_a_broken_csv_is_named_by_file_and_line(tmp_path, lines, message):
    folder = write_folder(tmp_path / "src", lines)
    (tmp_path / "outside.jpg").write_bytes(JPEG)
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_csv_that_is_not_utf8(tmp_path):
    folder = write_folder(tmp_path, [HEADER])
    (folder / "metadata.csv").write_bytes(HEADER.encode() + b"\nx,caf\xe9,y,a\n")
    with pytest.raises(UserError, match="metadata.csv: not UTF-8 text"):
        readers.convert("kvasir-vqa", folder, tmp_path / "dst")


def test_a_source_without_either_form(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"has no \*.parquet, data/\*.parquet or metadata.csv"):
            readers.convert("kvasir-vqa", source, tmp_path / "dst")


# --- the command ---


def test_command_from_another_folder_says_what_it_did_and_what_comes_next(tmp_path):
    write_folder(tmp_path / "my data", [HEADER, "x,q,yes,a", "x,q,no,b", "x,r,no,b", "x,none,nan,a"])
    for command in (["-m", "data.readers"], [ROOT / "data" / "readers.py"]):
        done = run(
            *command, "kvasir-vqa", "my data", "out put", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "out put/all.jsonl: 3 rows, 2 images, 1.5 questions per image",
            "dropped rows: 1 (1 without a question)",
            f"data.image_root: {tmp_path / 'my data'}",
            "next: python -m data.split 'out put/all.jsonl' 'out put'",
        ]


def test_command_error_is_one_line(tmp_path):
    done = run(ROOT / "data" / "readers.py", "kvasir-vqa", tmp_path / "absent", tmp_path / "dst")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'absent'}: no such file or folder; give the dataset as downloaded\n"
    assert not (tmp_path / "dst").exists()


def test_help_states_formats_source_and_licence():
    done = run(ROOT / "data" / "readers.py", "--help")
    assert done.returncode == 0
    for words in ("kvasir-vqa", "CC BY-NC 4.0", "datasets.simula.no/kvasir-vqa", "metadata.csv", "data.image_root"):
        assert words in done.stdout
