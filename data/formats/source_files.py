"""What datasets are made of: `|` lines, JSON, CSV and Parquet records, and image files.

Every generator yields `(where, record)`; `where` names the file and the line (or the Parquet row) for error messages.
Nothing here knows about a dataset: data/readers.py does.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import hashlib
import io
import json
import os
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data.spreadsheet import csv_lines
from files import DECODER, UserError, atomic_open, quoted, read_jsonl, refuse_pointer, short

BATCH_ROWS = 64  # turned into Python objects at once; pyarrow holds a row group, which `datasets` makes of ~100 rows
IMAGE_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif", "WEBP": ".webp"}
SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val", "test": "test"}


def dataset_files(src, pattern, hint):
    """Return `(folder, paths)`: SRC or the first folder in it that has files named like `pattern`, in reading order."""
    folders = (src, *sorted(path for path in src.iterdir() if path.is_dir())) if src.is_dir() else ()
    for folder in folders:
        if files := sorted(folder.glob(pattern), key=natural):
            return folder, files
    raise UserError(f"{src}: has no {pattern}; give {hint}")


def natural(path):
    """Sort key by which 2.txt comes before 10.txt."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def split_in_name(path):
    """The split that a file name such as `train-00000-of-00001.parquet` tells, or None."""
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def read_text(path):
    """The text of a UTF-8 file. Raises UserError naming file and line if it isn't one."""
    refuse_pointer(path)
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"{error.reason} at byte {error.start}"
        raise UserError(f"{path}:{line}: not UTF-8 text ({reason}); save it as UTF-8") from None


# --- lines of fields with | between them ---


def bar_lines(path, *shapes):
    """Yield `(where, fields)` of every non-blank line of a file; `shapes`: what a line may be, as `question|answer`."""
    counts = {shape.count("|") + 1 for shape in shapes}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) not in counts:
            found = f"{len(fields)} field{'s' * (len(fields) > 1)}"
            raise UserError(f"{path}:{number}: has {found}, not {' or '.join(shapes)}; correct or delete the line")
        yield f"{path}:{number}", fields


def numbers(text, count, where, what):
    """`count` numbers from text such as `[157.0, 60.0]` or `1, 2, 3, 4`, whole ones as int."""
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if len(parts) != count or not all(re.fullmatch(r"\s*\d+(\.\d+)?\s*", part) for part in parts):
        raise UserError(f"{where}: {what} is {quoted(text)}, not {count} numbers; correct or delete the line")
    return [float(part) if "." in part else int(part) for part in parts]


# --- JSON ---


def json_value(path):
    """What a JSON file holds. Raises UserError naming file and line."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return DECODER.decode(read_text(path))
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply for a data set; correct the file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); correct the file") from None
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise UserError(f"{path}: has a number of too many digits to be read; correct the file") from None


def json_records(path):
    """Yield `(where, record)` of a JSON array of objects or of JSONL, whichever the file is, whatever its name."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        yield from _array_records(path, text)
    else:
        yield from ((f"{path}:{line}", record) for line, record in read_jsonl(path))


def _array_records(path, text):
    """Decode the array's items one by one, which is what tells the line that each starts on."""
    position, line, counted = _skip_space(text, text.index("[") + 1), 1, 0
    while text[position : position + 1] != "]":
        try:
            record, end = DECODER.raw_decode(text, position)
        except (RecursionError, UserError) as error:  # UserError: a key given twice
            problem = error if isinstance(error, UserError) else "is nested too deeply; correct or delete it"
            raise UserError(f"{path}:{text.count(chr(10), 0, position) + 1}: {problem}") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); correct the file") from None
        except ValueError:  # Python reads no whole number of more than 4300 digits
            at = text.count(chr(10), 0, position) + 1
            raise UserError(f"{path}:{at}: has a number of too many digits to be read; correct or delete it") from None
        line, counted = line + text.count("\n", counted, position), position
        where = f"{path}:{line}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: is {json.dumps(record)[:40]}, not an object; correct or delete it")
        if "\\u" in text[position:end] and re.search("[\ud800-\udfff]", json.dumps(record, ensure_ascii=False)):
            raise UserError(f"{where}: holds half a character (an unpaired \\ud800-\\udfff); correct the text")
        yield where, record
        position = _skip_space(text, end)
        if text[position : position + 1] == ",":
            position = _skip_space(text, position + 1)
        elif text[position : position + 1] != "]":
            line += text.count("\n", counted, position)
            raise UserError(f"{path}:{line}: not valid JSON (a comma or ] is missing); correct the file")


def _skip_space(text, position):
    return re.compile(r"\s*").match(text, position).end()


# --- CSV ---


def csv_records(path, required, one_of=(), say=print):
    """Yield `(where, record)` of a CSV file with the columns `required` and at least one of `one_of`."""
    lines = csv_lines(path, say)
    columns = [name.strip() for name in next(lines, (1, []))[1]]
    named = any(name in columns for name in one_of)
    check_columns(path, [name for name in columns if name], (*required, *(() if named else one_of[:1])))
    for line, fields in lines:
        if len(fields) != len(columns):
            raise UserError(f"{path}:{line}: has {len(fields)} fields, not the header's {len(columns)}")
        yield f"{path}:{line}", dict(zip(columns, fields))


def check_columns(path, columns, required):
    missing = [name for name in required if name not in columns]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; found {short(', '.join(map(str, columns)), 400) or 'none'}")


# --- Parquet ---


def parquet_files(src):
    """SRC itself, or the Parquet files in its data/ or in it, in name order; empty if it has none."""
    if src.suffix == ".parquet":
        return [src]
    return sorted(src.glob("data/*.parquet")) or sorted(src.glob("*.parquet"))


def parquet_records(path, required, optional=()):
    """Yield `(where, record)` of a Parquet file; `where` counts rows from 0, as pyarrow does.

    A number that stands for a class (ClassLabel of `datasets`) becomes the class's name.
    """
    pyarrow, number = _pyarrow(path), 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns(path, names, required)
            columns = [name for name in (*required, *optional) if name in names]
            classes = {name: of for name, of in class_names(file.schema_arrow.metadata).items() if name in columns}
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                for record in batch.to_pylist():
                    where = f"{path}: row {number}"
                    yield where, record | {name: _class_of(record[name], of, where, name) for name, of in classes.items()}
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, number, error) from None


def parquet_columns(path):
    """`{column: does it hold pictures, as bytes or as `datasets` stores them?}` of a Parquet file."""
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_struct)
            return {field.name: any(test(field.type) for test in binary) for field in file.schema_arrow}
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, 0, error) from None


def _pyarrow(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs pyarrow; run: pip install pyarrow") from None
    return pyarrow


def _unreadable(path, number, error):
    refuse_pointer(path)
    return UserError(f"{path}: unreadable from row {number} on ({short(' '.join(str(error).split()), 200)}); download it again")


def class_names(metadata):
    """`{column: names of its classes}` of what `datasets` writes into a Parquet file's metadata (dict of bytes, or None)."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):  # another program's file
        return {}


def _class_of(number, names, where, column):
    if number is None or number == -1:  # how `datasets` writes an unknown class
        return None
    if isinstance(number, int) and 0 <= number < len(names):
        return names[number]
    raise UserError(f"{where}: {column} is {str(number)[:40]}, and there are {len(names)} classes; correct it")


# --- images ---


def find_image(root, *names):
    """The first of the names that is a file below `root`; the first of all if none is: images often come later."""
    return next((name for name in names if os.path.isfile(os.path.join(root, name))), names[0])


def image_bytes(image, where):
    """The original bytes of an embedded image: plain bytes, `{bytes, path}` as `datasets` stores one, or a list of one of these."""
    if isinstance(image, (list, tuple)) and len(image) == 1:
        image = image[0]
    data = image.get("bytes") if isinstance(image, dict) else image
    if not data or not isinstance(data, bytes):
        raise UserError(f"{where}: has no image bytes; save the dataset with its images embedded")
    return data


def image_id(value, where, name="img_id"):
    """An image's id as text: an id may be a whole number. Raises UserError for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(f"{where}: {name} {quoted(value)} can't be a file name; write text or a whole number")
    return str(value)


class EmbeddedImages:
    """Images that lie in a dataset's rows: written once each, as their original bytes, to DST/images."""

    def __init__(self, dst):
        self.dst = dst
        self.written = {}  # img_id -> (image name, hash of its bytes)

    def name(self, img_id, data, where):
        """The name of a row's image below DST, or None if an earlier row of this img_id has another image."""
        digest = hashlib.sha256(data).digest()
        if img_id not in self.written:
            self.written[img_id] = (write_image(self.dst, img_id, data, where), digest)
        name, first = self.written[img_id]
        return name if first == digest else None


def write_image(dst, img_id, data, where):
    """Write an image's original bytes to DST/images and return its name relative to DST."""
    if not re.fullmatch(r"\w[\w .()-]*", img_id):
        raise UserError(f"{where}: img_id {quoted(img_id)} can't be a file name")
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
