"""Published datasets as one JSONL: rows that data.split, data.preprocess and the four scripts read.

    python -m data.readers FORMAT SRC DST
    python data/readers.py kvasir-vqa Kvasir-VQA/ kvasir/

writes DST/all.jsonl, in the source's order, one object a line: id (the source's row number from 0, so that it stays
the same whatever is dropped), image, question and answer as the source has them, `group` (patient or video) where the
source gives one, source. Embedded images go to DST/images, once each and byte for byte; existing image files are
referenced where they are. Junk rows (question empty or `none`, answer empty or `nan`) are dropped and counted.
A run that was stopped can be started again and ends in the same files.

Formats

kvasir-vqa: Kvasir-VQA (Gautam et al. 2024, https://datasets.simula.no/kvasir-vqa, on the Hugging Face hub as
SimulaMet-HOST/Kvasir-VQA), licence CC BY-NC 4.0: 58,849 questions about 6,500 images, without patient or video. SRC is
  a. a Parquet file, or the folder of several (itself or its data/), with columns image {bytes, path}, question, answer,
     img_id and source. Needs pyarrow. Image names start from DST: set data.image_root to DST.
  b. a folder with metadata.csv, or that file: columns question, answer, source and file_name, image or img_id, the last
     for images named img_id.jpg. Images lie in SRC or SRC/images. Set data.image_root to SRC.
"""

import argparse
import csv
import hashlib
import io
import re
import shlex
import sys
from collections import Counter
from pathlib import Path

from PIL import Image, UnidentifiedImageError

if __package__ in (None, ""):  # run as `python data/readers.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from files import UserError, atomic_open, run_script, write_jsonl  # noqa: E402

BATCH_ROWS = 64  # turned into Python objects at once; pyarrow holds a row group, which `datasets` makes of ~100 rows
IMAGE_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif", "WEBP": ".webp"}
IMAGE_COLUMNS = ("file_name", "image", "img_id")  # what may name a row's image in metadata.csv, best first
JUNK_QUESTIONS = ("", "none", "nan")
JUNK_ANSWERS = ("", "nan")  # `none` is an answer: there is no polyp, no instrument, …


def read_kvasir_vqa(src, dst, dropped):
    """Return `(image_root, rows)` of Kvasir-VQA; reading `rows` counts junk in `dropped` and writes embedded images.

    Raises UserError if SRC has neither form, and from `rows` for a missing column or a row without its image.
    """
    folder = src if src.is_dir() else src.parent
    if src.suffix == ".parquet":
        return dst, _parquet_rows([src], dst, dropped)
    if parquet := sorted(src.glob("data/*.parquet")) or sorted(src.glob("*.parquet")):
        return dst, _parquet_rows(parquet, dst, dropped)
    table = src / "metadata.csv" if src.is_dir() else src
    if table.suffix == ".csv" and table.is_file():
        return folder, _csv_rows(table, folder, dropped)
    raise UserError(f"{src}: has no *.parquet, data/*.parquet or metadata.csv; give the dataset's folder")


FORMATS = {"kvasir-vqa": read_kvasir_vqa}


def convert(format_name, src, dst):
    """Write DST/all.jsonl from SRC and return `(image_root, images, dropped)`.

    images: Counter of rows per image. dropped: Counter of rows left out per reason. Raises UserError for bad input,
    and then leaves an earlier all.jsonl as it was.
    """
    src, dst, images, dropped = Path(src), Path(dst), Counter(), Counter()
    if not src.exists():
        raise UserError(f"{src}: no such file or folder; give the dataset as downloaded")
    image_root, rows = FORMATS[format_name](src, dst, dropped)

    def counted_rows():
        for row in rows:
            images[row["image"]] += 1
            yield row
        if not images:
            raise UserError(f"{src}: has no usable rows; {describe_dropped(dropped)}")

    write_jsonl(dst / "all.jsonl", counted_rows())
    _remove_leftovers(dst)
    return image_root, images, dropped


def junk_reason(question, answer):
    """Why a row is junk (str), or None if it isn't. Missing values are None or empty text."""
    if str(question or "").strip().lower() in JUNK_QUESTIONS:
        return "without a question"
    if str("" if answer is None else answer).strip().lower() in JUNK_ANSWERS:
        return "without an answer"
    return None


def _row(index, where, image, record):
    """One row of the output. Raises UserError naming `where` if question or answer isn't text."""
    for key in ("question", "answer"):
        if not isinstance(record[key], str):
            raise UserError(f"{where}: {key} is {record[key]!r}, not text")
    row = {"id": str(index), "image": image, "question": record["question"], "answer": record["answer"]}
    return row | ({"source": record["source"]} if record.get("source") else {})


def _check_columns(path, columns, required):
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; found {', '.join(map(str, columns)) or 'none'}")


# --- embedded images: Parquet ---


def _parquet_rows(paths, dst, dropped):
    """Yield the rows of Parquet files, one after the other, and write each image at its first row."""
    written = {}  # img_id -> (image name, hash of its bytes)
    for index, (where, record) in enumerate(_parquet_records(paths)):
        if reason := junk_reason(record["question"], record["answer"]):
            dropped[reason] += 1
            continue
        img_id, image = record["img_id"], record["image"]
        data = image.get("bytes") if isinstance(image, dict) else None
        if not data:
            raise UserError(f"{where}: has no image bytes; save the dataset with its images embedded")
        digest = hashlib.sha256(data).digest()
        if img_id not in written:
            written[img_id] = (_write_image(dst, img_id, data, where), digest)
        if written[img_id][1] != digest:  # which of the two images the question is about can't be known
            dropped["with another image than an earlier row of the same img_id"] += 1
            continue
        yield _row(index, where, written[img_id][0], record)


def _parquet_records(paths):
    """Yield `(where, record)` for every row; `where` names the file and its row, counted from 0 as pyarrow does."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{paths[0]}: reading Parquet needs pyarrow; run: pip install pyarrow") from None
    for path in paths:
        number = 0
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                _check_columns(path, names, ("image", "question", "answer", "img_id"))
                columns = [name for name in ("image", "question", "answer", "img_id", "source") if name in names]
                for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                    for record in batch.to_pylist():
                        yield f"{path}: row {number}", record
                        number += 1
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: unreadable from row {number} on ({reason}); download it again") from None


def _write_image(dst, img_id, data, where):
    """Write an image's original bytes to DST/images and return its name relative to DST."""
    if not (isinstance(img_id, str) and re.fullmatch(r"\w[\w .()-]*", img_id)):
        raise UserError(f"{where}: img_id {img_id!r} can't be a file name")
    try:
        with Image.open(io.BytesIO(data)) as image:
            suffix = IMAGE_SUFFIXES.get(image.format) or f".{image.format.lower()}"
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        reason = "not in a format Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{where}: its image is unreadable ({reason})") from None
    path = Path(dst) / "images" / f"{img_id}{suffix}"
    if not (path.is_file() and path.read_bytes() == data):  # a run started again finds most of them there
        with atomic_open(path, "wb") as file:
            file.write(data)
    return f"images/{path.name}"


def _remove_leftovers(dst):
    """Remove the temporary files of `atomic_open` that a killed run left beside its results."""
    for leftover in (*dst.glob(".all.jsonl.????????"), *dst.glob("images/.*.*.????????")):
        leftover.unlink()


# --- existing image files: metadata.csv ---


def _csv_rows(table, folder, dropped):
    """Yield the rows of metadata.csv; image names are relative to `folder`."""
    names = {}  # by file name with and without suffix
    for path in sorted((*folder.glob("images/*"), *folder.glob("*"))):
        if path.suffix.lower() in Image.registered_extensions():
            names[path.stem] = names[path.name] = path.relative_to(folder).as_posix()
    for index, (where, record) in enumerate(_csv_records(table)):
        if reason := junk_reason(record["question"], record["answer"]):
            dropped[reason] += 1
            continue
        name = next((record[column] for column in IMAGE_COLUMNS if record.get(column)), None)
        if name is None:
            raise UserError(f"{where}: names no image; fill {' or '.join(IMAGE_COLUMNS)}")
        image = names.get(name) or _name_inside(folder, name)
        if image is None:
            raise UserError(f"{where}: no image {name} in {folder} or its images/; add the file or correct the name")
        yield _row(index, where, image, record)


def _name_inside(folder, name):
    """One spelling of the name of a file below `folder`, or None."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts and (folder / path).is_file()
    return path.as_posix() if inside else None


def _csv_records(table):
    """Yield `(where, record)` for every row; `where` names the file and the line the row starts on."""
    line = 1
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or ()
            named = any(name in columns for name in IMAGE_COLUMNS)
            _check_columns(table, columns, ("question", "answer", *(() if named else IMAGE_COLUMNS[:1])))
            line = reader.line_num + 1
            for record in reader:
                extra = record.pop(None, ())  # DictReader's way to say "too many"; None values: too few
                found = len(columns) + len(extra) - list(record.values()).count(None)
                if found != len(columns):
                    raise UserError(f"{table}:{line}: has {found} fields, not the header's {len(columns)}")
                yield f"{table}:{line}", record
                line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{table}:{line}: not valid CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


# --- the command ---


def describe_dropped(dropped):
    """`dropped rows: 3 (2 without a question, 1 without an answer)`."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return f"dropped rows: {dropped.total()}" + (f" ({reasons})" if reasons else "")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("format", metavar="FORMAT", choices=FORMATS, help=f"one of: {', '.join(FORMATS)}")
    parser.add_argument("src", metavar="SRC", help="the dataset as downloaded: a file or a folder")
    parser.add_argument("dst", metavar="DST", type=Path, help="folder that all.jsonl and embedded images go to")
    args = parser.parse_args()
    image_root, images, dropped = convert(args.format, args.src, args.dst)
    rows, output = images.total(), args.dst / "all.jsonl"
    print(f"{output}: {rows} rows, {len(images)} images, {rows / len(images):.1f} questions per image")
    print(describe_dropped(dropped))
    print(f"data.image_root: {Path(image_root).resolve()}")
    print("next: " + shlex.join(["python", "-m", "data.split", str(output), str(args.dst)]))


if __name__ == "__main__":
    run_script(main)
