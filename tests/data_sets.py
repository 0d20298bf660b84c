"""What the tests of data/ write and read: pictures, rows, tables, conversations and data sets in their published layouts."""

import csv
import io
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from config import DataConfig
from data import readers
from data.answer_space import apply, mine
from data.preprocess import enrich_jsonl
from data.rows import read_rows
from files import UserError, write_jsonl


def image_bytes(spread, format="JPEG"):
    """A small picture of noise."""
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), spread).convert("RGB").save(buffer, format)
    return buffer.getvalue()


JPEG, OTHER_JPEG, PNG = image_bytes(20), image_bytes(60), image_bytes(40, "PNG")


def eight_pictures(folder):
    """a.png to h.png, each like no other, 40 pixels high and from 60 on wide."""
    rng = np.random.default_rng(0)
    for number, name in enumerate("abcdefgh"):
        pixels = rng.integers(0, 255, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60 + number, 40), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def lay(folder, of=None, images=()):
    """Write files below `folder`: `of` maps names to text, to lines (of text or JSON) or to JSON, by the suffix."""
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG if name.endswith("png") else JPEG)
    for name, content in (of or {}).items():
        if name.endswith((".txt", ".jsonl")):
            lines = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content]
            content = "".join(f"{line}\n" for line in lines)
        text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder):
    """Every file below `folder`, hidden ones too, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments, **options):
    """What a Python started with these arguments says and ends with."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


# --- rows, and what enrichment makes of them ---

RULES = DataConfig(answer_space="rules")
ABNORMALITIES = "Are there any abnormalities in the image? Check all that are present."


def row(question="Is there a polyp?", answer="yes", image="a.jpg", **extra):
    return {"question": question, "answer": answer, "image": image, **extra}


def without(key):
    """A row without one of its fields."""
    return {name: value for name, value in row().items() if name != key}


ASKED = {"question": "Is there a polyp?", "answer": "yes"}


def file_of(folder, *rows):
    """A file of rows of one question, which these say more of."""
    write_jsonl(folder / "rows.jsonl", [{**ASKED, **row} for row in rows])
    return folder / "rows.jsonl"


def chain(*lists):
    """Rows about these images, one or several, letters for names."""
    return [{"images": [f"{name}.png" for name in names]} if len(names) > 1 else {"image": f"{names}.png"} for names in lists]


def enrich(folder, rows, train=None, settings=DataConfig()):
    """Enrich rows by what `train` (default: the rows themselves) says; return (enriched rows, counts)."""
    write_jsonl(folder / "rows.jsonl", rows)
    if train:
        write_jsonl(folder / "train.jsonl", train)
    source, train = folder / "rows.jsonl", train and folder / "train.jsonl"
    counts = enrich_jsonl(source, folder / "enriched.jsonl", train, settings=settings)
    return read(folder / "enriched.jsonl"), counts


def rows_of(question, answers, **extra):
    """One checked row per answer; answers is a list or `{answer: count}`."""
    answers = list(Counter(answers).elements()) if isinstance(answers, dict) else answers
    return [{"question": question, "answer": answer, "image": f"{i}.jpg", "id": str(i), **extra} for i, answer in enumerate(answers)]


def patients(question, answers):
    """A row for each answer, each of a patient of their own."""
    return [{**row, "group": f"patient {n}"} for n, row in enumerate(rows_of(question, answers))]


def ask(space, question, answer="?", **extra):
    """The enriched row of a new question."""
    return apply(space, {"question": question, "answer": answer, "image": "x.jpg", "id": "x", **extra})


def enriched(question, answers, *, ask_for=None, **options):
    """What a question asked like this in training looks like afterwards."""
    return ask(mine(rows_of(question, answers), DataConfig(**options)), ask_for or question)


# --- what every reader is held to ---


def converted(name, src, dst, **options):
    """Convert and return `(rows, dropped)`. Holds for every format: see the assertions."""
    before = contents(src) if src.is_dir() else {}
    image_root, images, dropped, splits = readers.convert(name, src, dst, **options)
    rows = read(dst / "all.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in read_rows(dst / "all.jsonl")], "preprocess takes them"
    assert Counter(row["image"] for row in rows) == images
    assert Counter(row["split"] for row in rows if "split" in row) == splits
    for split in ("train", "val", "test"):
        path = dst / f"{split}.jsonl"
        assert (read(path) if path.exists() else []) == [row for row in rows if row.get("split") == split]
    if src.is_dir():
        assert contents(src) == before, "the source stays as it is"
    if image_root != dst:
        assert not (dst / "images").exists(), "existing images are not copied"
    return rows, dropped


def error_of(name, of, folder):
    """What `convert` says of a broken source in SRC, and then writes nothing. of: as `lay` takes it."""
    src = lay(folder / "src", of=of)
    if name in ("kvasir-vqa-json", "endovis-single-phrase"):
        src = src / next(iter(of))
    with pytest.raises(UserError) as error:
        readers.convert(name, src, folder / "dst")
    assert not list(folder.glob("dst/*"))
    return str(error.value).replace(f"{folder / 'src'}", "SRC")


def only(rows, *keys):
    """The rows' values of these keys, as tuples."""
    return [tuple(row.get(key) for key in keys) for row in rows]


# --- data sets and tables ---

HEADER = "source,question,answer,img_id"


def write_folder(folder, lines, images=("images/a.png", "images/b.jpg", "top.jpg")):
    """Kvasir-VQA as a folder: images and, of these lines, metadata.csv."""
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG if name.endswith("png") else JPEG)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_bytes("\r\n".join(lines).encode())
    return folder


def record(img_id, data, question="Is there text?", answer="yes", **changes):
    """A row of Kvasir-VQA's Parquet file. The path's suffix is wrong on purpose: the bytes decide."""
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
    """A Parquet file of such rows as `datasets` writes it, in row groups of 4."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (optional) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    text = dict.fromkeys(("source", "question", "answer", "img_id"), pyarrow.string())
    fields = {"image": image, **text, **columns}
    schema = pyarrow.schema([(name, kind) for name, kind in fields.items() if kind])
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(records, schema=schema), path, row_group_size=4)
    return path


def write_table(path, rows):
    """A Parquet file of rows of any kind."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (optional) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def kvasir_json(question="Is there text?", answer="yes", **changes):
    return {"image_id": "a", "image_filename": "a.jpg", "question": question, "answer": answer, **changes}


ORGAN, WHERE = "What organ is being operated?", "Where is bipolar forceps located?"


def endovis(folder):
    """EndoVis-18-VQA: three frames of three sequences, two of them with their picture."""
    return lay(
        folder,
        images=["seq_1/left_frames/frame000.png", "seq_2/left_fr/frame010.png"],
        of={
            "seq_2/vqa/Classification/frame010_QA.txt": [f"{ORGAN}|kidney", "", f" {WHERE} | left-top "],
            "seq_2/vqa/Sentence/frame010_QA.txt": [f"{ORGAN}|organ being operated is kidney"],
            "seq_1/vqa/Classification/frame000_QA.txt": [f"{ORGAN}|kidney"],
            "seq_13/vqa/Classification/frame002_QA.txt": [f"{ORGAN}|nan", f"{ORGAN}|kidney"],
        },
    )


PMC = "Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label"
CHAT = ("role", "content", "user", "assistant")


def say(question, answer, forms=("from", "value", "human", "gpt")):
    """A question and its answer as two turns of a conversation."""
    who, what, user, assistant = forms
    return [{who: user, what: question}, {who: assistant, what: answer}]


M = "image: f\ngroup: g\nquestions: {p: q}\n"  # of a table with the columns f, g and p


def workbook(path, *lines, **sheets):
    """A workbook with these lines on its first sheet, and with further sheets by name."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    for name, others in sheets.items():
        sheet = book.create_sheet(name)
        for line in others:
            sheet.append(line)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def table_of(folder, mapping, *lines, name="t.xlsx", **sheets):
    """(SRC, options) of a table beside three pictures, and of a mapping."""
    lay(folder, images=("a.png", "b.png", "c.png"))
    (folder / "m.yaml").write_text(mapping, encoding="utf-8")
    if name.endswith(".xlsx"):
        workbook(folder / name, *lines, **sheets)
    else:
        with open(folder / name, "w", encoding="cp1252", newline="") as file:  # as Excel writes it in Germany
            csv.writer(file, delimiter=";").writerows(lines)
    return folder / name, {"mapping": folder / "m.yaml"}


def parquet_table(folder, pictures, **more):
    """A table of three rows, whose column `pic` has these pictures."""
    columns = {"pic": pictures, "who": [7, 7, 8], "polyp": [True, False, None], "kinds": [["1", "2"], ["2"], []], **more}
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    (folder / "m.yaml").write_text(
        "image: pic\ngroup: who\nlanguage: de\nquestions: {polyp: q1, kinds: {question: q2, values: {1: rot, 2: blau}}}"
    )
    return folder / "t.parquet", {"mapping": folder / "m.yaml"}
