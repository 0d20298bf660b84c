"""Tables, conversations and published datasets as one JSONL: rows that data.split, data.preprocess and the four scripts read.

    python -m data.readers FORMAT SRC DST
    python data/readers.py kvasir-vqa Kvasir-VQA/ kvasir/
    python -m data.readers table findings.xlsx DST --suggest          writes a first mapping of your spreadsheet's columns
    python -m data.readers table findings.xlsx DST --mapping mapping.yaml
    python -m data.readers conversations chats.jsonl DST              LLaVA, ShareGPT, ms-swift
    python -m data.readers FORMAT --help                    what SRC looks like; the dataset's source and licence

writes DST/all.jsonl, in the source's order, one object a line: id (the source's row number from 0, so that it stays
the same whatever is dropped), image, question and answer as the source has them, and where the source has them:
images (several frames), answers (several references), box, group (patient or video), split, source. A dataset's official
splits are also written as DST/train.jsonl, val.jsonl and test.jsonl. Embedded images go to DST/images, once each and byte for
byte; existing image files are referenced where they are. Values that are no text (numbers, true and false, lists) become
text, and image placeholders before or behind a question go; both are counted. Junk rows (question empty or `none`, answer
empty or `nan`) and rows that a dataset's own loader leaves out are dropped and counted; --keep-junk keeps them.
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
from data.foreign import fitting_reader
from data.formats import FORMATS
from data.formats.common import Request
from data.formats.table_suggest import suggest_mapping
from data.image_names import images_of, why_no_file
from data.rows import check_further, junk_reason, with_pictures
from data.values import describe_converted, plain
from files import UserError, atomic_open, json_line, quoted, run_script, short

BILINGUAL = ("slake",)  # formats with --language
CLIPS = ("surgvu", "real-colon-vqa")  # formats with --frames
SHORT_AND_LONG = ("endovis-18-vqa", "cholec80-vqa", "real-colon-vqa")  # formats with --answers
ALSO_READS = {"kvasir-vqa-x1": "conversations", "surgcheck": "conversations", "kvasir-vqa": "kvasir-vqa-json"}


# --- from a reader's records to files ---


def convert(format_name, src, dst, **options):
    """Write DST/all.jsonl, and official splits, from SRC and return `(image_root, images, dropped, splits)`.

    options: the further fields of Request; its `say` takes the lines on how the source was read. The last three are Counters of
    rows: per image (of a row's several the first), per reason of leaving them out, per official split. Raises UserError for bad
    input, which names the reader that fits where SRC looks like another format, and then leaves earlier files as they were.
    """
    request = Request(Path(src), Path(dst), **options)
    images, dropped, splits = Counter(), Counter(), Counter()
    if not request.src.exists():
        raise UserError(f"{src}: no such file or folder; give the dataset as downloaded")
    try:
        image_root = _write_rows(format_name, request, images, dropped, splits)
    except UserError as error:
        fits = None if images else fitting_reader(request.src)  # where rows were read, the format is the right one
        if fits and not any(f"data.readers {name} " in fits for name in (format_name, ALSO_READS.get(format_name))):
            raise UserError(f"{error}; {fits}") from None
        raise
    _remove_leftovers(request.dst)
    if said := describe_converted(request.converted):
        request.say(said)
    return image_root, images, dropped, splits


def _write_rows(format_name, request, images, dropped, splits):
    """Write the JSONL files, fill the Counters that `convert` returns, and return the images' folder."""
    image_root, records = FORMATS[format_name](request)
    with ExitStack() as stack:
        outputs = {}
        for index, (where, record) in enumerate(records):
            record = record if record.get("drop") else request.with_texts(where, record)
            if reason := _reason_to_drop(record, request.keep_junk):
                dropped[reason] += 1
                continue
            row = _row(index, where, record)
            for place, name in enumerate(images_of(row)):
                images[name] += place == 0
            own_split = [row["split"]] if "split" in row else []
            splits.update(own_split)
            for name in ("all", *own_split):
                if name not in outputs:
                    outputs[name] = stack.enter_context(atomic_open(request.dst / f"{name}.jsonl"))
                outputs[name].write(json_line(row, where))
        if not images:
            raise UserError(f"{request.src}: has no usable rows; {describe_dropped(dropped)}")
        _check_no_other_split(request.dst, splits)
    return image_root


def _reason_to_drop(record, keep_junk):
    junk = junk_reason(record.get("question"), record.get("answer")) or record.get("junk")
    return record.get("drop") or (None if keep_junk else junk)


def _row(index, where, record):
    """One row of the output. Raises UserError naming `where` for an image outside the root, values that JSON can't hold, and
    options, references or a group that no row can have."""
    image = record.get("image")
    for name in [image] if record.get("images") is None else images_of(with_pictures(record, where)):
        _check_image(name, where)
    row = {"id": str(index), "image": image, "question": record.get("question"), "answer": record.get("answer")}
    own = (*row, "junk", "drop")
    further = {key: plain(value, where, key) for key, value in record.items() if key not in own}
    row |= {key: value for key, value in further.items() if value not in (None, "")}
    check_further(row, where)
    return row


def _check_image(image, where):
    if not isinstance(image, str) or not image.strip():
        raise UserError(f"{where}: names no image; correct or delete it")
    if why := why_no_file(image):
        raise UserError(f"{where}: image is {quoted(image)}, {why}")
    if image.startswith("/") or re.match(r"[A-Za-z]:", image) or ".." in image.split("/"):
        raise UserError(f"{where}: image {short(image)} lies outside the images' folder; name it relative to that")


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


def _count(text):
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{short(text)} is no number of frames; give 1 or more")
    return int(text)


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
        lists = "an answer that is a list: the labels of one answer (default), or several references"
        command.add_argument("--lists", choices=("labels", "references"), default="labels", help=lists)
        if name in BILINGUAL:
            command.add_argument("--language", choices=("en", "zh", "all"), default="en", help="default en")
        if name in SHORT_AND_LONG:
            command.add_argument("--answers", choices=("short", "long"), default="short", help="default short")
        if name in CLIPS:
            command.add_argument("--frames", type=_count, default=1, metavar="N", help="frames of a clip (default 1: the middle one)")
        if name == "conversations":
            command.add_argument("--strip-prefix", metavar="TEXT", help="fixed instruction before the questions, to be left out")
        if name == "table":
            command.add_argument("--mapping", type=Path, metavar="FILE", help="YAML: which column is what")
            command.add_argument("--suggest", action="store_true", help="write a first mapping, to --mapping or DST/mapping.yaml")
    return parser


def main():
    options = vars(build_parser().parse_args())
    dst = options["dst"]
    if options.pop("suggest", False):
        return print("\n".join(suggest_mapping(Path(options["src"]), options["mapping"] or dst / "mapping.yaml", dst, options["images"])))
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
