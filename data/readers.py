"""Published datasets as one JSONL: rows that data.split, data.preprocess and the four scripts read.

    python -m data.readers FORMAT SRC DST
    python data/readers.py kvasir-vqa Kvasir-VQA/ kvasir/
    python -m data.readers FORMAT --help                    what SRC looks like; the dataset's source and licence

writes DST/all.jsonl, in the source's order, one object a line: id (the source's row number from 0, so that it stays
the same whatever is dropped), image, question and answer as the source has them, and where the source has them:
answers (several references), box, group (patient or video), split, source. A dataset's official splits are also written
as DST/train.jsonl, val.jsonl and test.jsonl. Embedded images go to DST/images, once each and byte for byte; existing
image files are referenced where they are. Junk rows (question empty or `none`, answer empty or `nan`) and rows that a
dataset's own loader leaves out are dropped and counted; --keep-junk keeps them.
A run that was stopped can be started again and ends in the same files.
"""

import argparse
import inspect
import os
import re
import shlex
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/readers.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DEFAULT_CONFIG, ROOT, SPLITS, near, this_python
from data.formats import FORMATS
from data.formats.common import Request
from data.rows import junk_reason
from files import UserError, atomic_open, json_line, run_script

BILINGUAL = ("slake",)  # formats with --language
SHORT_AND_LONG = ("endovis-18-vqa", "cholec80-vqa", "real-colon-vqa")  # formats with --answers


# --- from a reader's records to files ---


def convert(format_name, src, dst, **options):
    """Write DST/all.jsonl, and official splits, from SRC and return `(image_root, images, dropped, splits)`.

    options: `images`, `language`, `answers`, `keep_junk` of Request. The last three are Counters of rows: per image,
    per reason of leaving them out, per official split. Raises UserError for bad input, and then leaves earlier files
    as they were.
    """
    request = Request(Path(src), Path(dst), **options)
    images, dropped, splits = Counter(), Counter(), Counter()
    if not request.src.exists():
        raise UserError(f"{src}: no such file or folder; give the dataset as downloaded")
    image_root, records = FORMATS[format_name](request)
    with ExitStack() as stack:
        outputs = {}
        for index, (where, record) in enumerate(records):
            if reason := _reason_to_drop(record, request.keep_junk):
                dropped[reason] += 1
                continue
            row = _row(index, where, record)
            images[row["image"]] += 1
            own_split = [row["split"]] if "split" in row else []
            splits.update(own_split)
            for name in ("all", *own_split):
                if name not in outputs:
                    outputs[name] = stack.enter_context(atomic_open(request.dst / f"{name}.jsonl"))
                outputs[name].write(json_line(row, f"row {row['id']!r}" if "id" in row else "a row"))
        if not images:
            raise UserError(f"{src}: has no usable rows; {describe_dropped(dropped)}")
        _check_no_other_split(request.dst, splits)
    _remove_leftovers(request.dst)
    return image_root, images, dropped, splits


def _reason_to_drop(record, keep_junk):
    junk = junk_reason(record.get("question"), record.get("answer")) or record.get("junk")
    return record.get("drop") or (None if keep_junk else junk)


def _row(index, where, record):
    """One row of the output. Raises UserError naming `where` for text that isn't text and an image outside the root."""
    texts = {key: record.get(key) for key in ("question", "answer")}
    for key, text in texts.items():
        if text is None or str(text) == "nan" and not isinstance(text, str):  # missing: junk, here only if that is kept
            texts[key] = None
        elif not isinstance(text, str):
            raise UserError(f"{where}: {key} is {text!r}, not text")
    image = record.get("image")
    if not isinstance(image, str) or not image.strip():
        raise UserError(f"{where}: names no image; correct or delete it")
    if image.startswith("/") or re.match(r"[A-Za-z]:", image) or ".." in image.split("/"):
        raise UserError(f"{where}: image {image} lies outside the images' folder; name it relative to that")
    row = {"id": str(index), "image": image, **texts}
    own = (*row, "junk", "drop")
    return row | {key: value for key, value in record.items() if key not in own and value not in (None, "")}


def _check_no_other_split(dst, splits):
    """Official splits never lie beside files of another split, which would be mistaken for theirs."""
    names = [f"{split}.jsonl" for split in SPLITS if split not in splits] + ["split.json"]
    for path in (dst / name for name in names):
        if splits and path.exists():
            raise UserError(f"{path}: is of another split than the official one; delete it or choose another DST")


def _remove_leftovers(dst):
    """Remove the temporary files of `atomic_open` that a killed run left beside its results."""
    outputs = [leftover for name in ("all", *SPLITS) for leftover in dst.glob(f".{name}.jsonl.????????")]
    for leftover in (*outputs, *dst.glob("images/.*.*.????????")):
        leftover.unlink()


# --- the command ---


def describe_dropped(dropped):
    """`dropped rows: 3 (2 without a question, 1 without an answer)`."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return f"dropped rows: {dropped.total()}" + (f" ({reasons})" if reasons else "")


def describe_missing(image_root, images):
    """`images not found: 2 of 5, such as seq_1/left_frames/frame000.png`, or None if all are there."""
    missing = sorted(name for name in images if not os.path.isfile(os.path.join(image_root, name)))
    if missing:
        return f"images not found: {len(missing)} of {len(images)}, such as {missing[0]}"
    return None


def next_step(dst, splits, image_root):
    """What to run or to set after the conversion."""
    split = [this_python(), near(ROOT / "data" / "split.py")]
    if not splits:
        return "next: " + shlex.join([*split, str(dst / "all.jsonl"), str(dst), "--image_root", str(image_root)])
    if "train" in splits and "val" not in splits:
        train = [str(dst / "train.jsonl"), str(dst / "train_val"), "--test", "0", "--image_root", str(image_root)]
        return "next, as there is no official val: " + shlex.join([*split, *train])
    own = ", ".join(f"{split}_jsonl: {(dst / f'{split}.jsonl').resolve()}" for split in SPLITS if split in splits)
    return f"next: a configuration of your own, with extends: {DEFAULT_CONFIG} and, below data:, {own}"


def build_parser():
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    about = {name: inspect.getdoc(reader) for name, reader in FORMATS.items()}
    lines = [f"  {name:<22} {text.splitlines()[0]}" for name, text in about.items()]
    parser = argparse.ArgumentParser(description=__doc__, epilog="\n".join(["formats:", *lines]), **raw)
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True, help="one of the formats below")
    for name, text in about.items():
        command = formats.add_parser(name, description=text, **raw)
        command.add_argument("src", metavar="SRC", help="the dataset as downloaded: a file or a folder")
        command.add_argument("dst", metavar="DST", type=Path, help="folder that the JSONL and embedded images go to")
        command.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, where it isn't SRC")
        command.add_argument("--keep-junk", action="store_true", help="keep the rows that are dropped as junk")
        if name in BILINGUAL:
            command.add_argument("--language", choices=("en", "zh", "all"), default="en", help="default en")
        if name in SHORT_AND_LONG:
            command.add_argument("--answers", choices=("short", "long"), default="short", help="default short")
    return parser


def main():
    options = vars(build_parser().parse_args())
    dst = options["dst"]
    image_root, images, dropped, splits = convert(options.pop("format"), **options)
    rows, output = images.total(), dst / "all.jsonl"
    print(f"{output}: {rows} rows, {len(images)} images, {rows / len(images):.1f} questions per image")
    if splits:
        counts = ", ".join(f"{split} {splits[split]} rows" for split in SPLITS if split in splits)
        print(f"official split: {counts}" + (f", none {rows - splits.total()} rows" * (rows > splits.total())))
    print(describe_dropped(dropped))
    if missing := describe_missing(image_root, images):
        print(missing)
    print(f"data.image_root: {Path(image_root).resolve()}")
    print(next_step(dst, splits, image_root))


if __name__ == "__main__":
    run_script(main)
