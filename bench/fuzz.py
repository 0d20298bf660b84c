"""Spoilt files, by the thousand: is each of them read, or refused in one line, within five seconds?

    python bench/fuzz.py                                         all parts, as many cases as they are made for
    python bench/fuzz.py --part images --cases 100 --seed 7
    python bench/fuzz.py --part yaml --first 231 --cases 1       one case again

Each part spoils good files of its own and hands them to the functions that the scripts read such files with: bits, bytes and chunks
(with their checksums mended, so that decoders get past them), and values inside JSON and YAML. A case is found wanting where anything
but a UserError of one line comes out, where it takes longer than LIMIT, or where it ends the process. Its file is kept in --keep. Cases
depend on part, seed and number alone. Exit code 1 with a finding.
"""

import argparse
import copy
import io
import json
import multiprocessing
import os
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import DEFAULT_CONFIG, DataConfig, ImageConfig, load_config
from data import answer_space, asked
from data.images import check_image, load_image
from data.preprocess import enrich_jsonl, mine_space
from data.rows import read_rows
from data.split import grouped_rows
from evaluation.metrics import compare_rows, measure
from evaluation.predictions import load_sidecar
from evaluation.runs import load as load_run
from files import UserError, run_script, short
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, WEIGHTS_FILE, adapter_facts
from training.checkpoints import STATE_FILE, newest_whole
from training.origin import check_init_adapter
from training.resume import RECORD, how_to_start

LIMIT = 5  # seconds of a case
TINY = ROOT / "data" / "demo" / "tiny-qwen2-vl"


# ---------------------------------------------------------------------------------------------------------------------
# What is done to a file. rng: random.Random


def spoil_bytes(rng, data):
    """Some bytes (bytes) changed: bits flipped, cut off, put in, taken out, swapped, blanked, or a number made extreme."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 200))
        other = rng.randrange(len(data) + 1)
        how = rng.choice(("flip", "flip", "cut", "put in", "take out", "swap", "blank", "extreme"))
        if how == "flip" and data:
            for _ in range(rng.choice((1, 1, 8))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del data[at:]
        elif how == "put in":
            data[at:at] = rng.randbytes(length)
        elif how == "take out":
            del data[at : at + length]
        elif how == "swap":
            one, two = bytes(data[at : at + length]), bytes(data[other : other + length])
            data[at : at + length], data[other : other + length] = two, one
        elif how == "blank":
            data[at : at + length] = rng.choice((b"\0", b"\xff")) * length
        else:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
    return bytes(data)


ODD = [None, True, False, 0, -1, 3, 10**400, -(2**63), 1e308, 0.5, float("nan"), float("inf"), -float("inf"), "", " ", "\0", "\ud800"]
ODD += ["\ufeff", "\u202e", "x" * 100_000, "<script>alert(1)</script>", "../../etc/passwd", "/etc/passwd", "data:image/png;base64,AAAA"]
ODD += ["nan", "None", "<image>", "<|im_end|>", "1e999", "9" * 5000, "٣", [], {}, [[]], [None], {"": None}, {"a": {"b": []}}]
ODD += [["yes", "yes"], [1, "a"], ["yes", ["no"]], [{"role": "user"}], [{"bytes": "x"}], {"path": "good.png"}]


def spoil_value(rng, value):
    """A JSON value with some of its parts exchanged for odd ones, taken away, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(rng.choice(ODD))
        holder, key = rng.choice(places)
        how = rng.choice(("odd", "odd", "odd", "wrap", "nest", "delete", "rename", "swap"))
        if how == "odd":
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif how == "wrap":
            holder[key] = rng.choice(([holder[key]], {"a": holder[key]}, str(holder[key]), [holder[key]] * 3))
        elif how == "nest":
            for _ in range(rng.choice((3, 50, 300))):
                holder[key] = rng.choice(([holder[key]], {"a": holder[key]}))
        elif how == "swap":
            (other, there) = rng.choice(places)
            holder[key], other[there] = other[there], holder[key]
            value = _without_circles(value)
        elif how == "delete":
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice((f" {key}", str(key).upper(), "", "__proto__", "id"))] = holder.pop(key)
    return value


def _places(value):
    """(container, key or index) of every part of a JSON value."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _without_circles(value):
    """What a swap of a part with a part of itself has made a circle of, without it."""
    try:
        json.dumps(value)
        return value
    except ValueError:
        return {}


def spoil_json(rng, value):
    """Bytes of a JSON value that is spoilt as a value, as text or as bytes."""
    text = json.dumps(spoil_value(rng, value) if rng.random() < 0.8 else value, ensure_ascii=rng.random() < 0.5)
    how = rng.choice(("", "", "", "", "bytes", "bytes", "bom", "utf-16", "latin-1", "twice", "deep", "NUL", "separator", "comma", "two"))
    if how == "twice" and text.startswith("{"):
        text = text[:1] + rng.choice(('"id": 1, "id": 2, ', '"question": "Is it?", ', '"": 1, "": 1, ')) + text[1:]
    elif how == "deep":
        text = text.replace('"yes"', "[" * rng.choice((100, 5_000, 100_000)), 1) if '"yes"' in text else "[" * 100_000
    elif how in ("NUL", "separator"):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + ("\0" if how == "NUL" else rng.choice(("\u2028", "\x85", "\r", "\x1c", "\v"))) + text[at:]
    elif how in ("comma", "two"):
        text = text[:-1] + "," + text[-1:] if how == "comma" else f"{text} {text}"
    elif how == "bom":
        text = "\ufeff" + text
    coding = how if how in ("utf-16", "latin-1") else "utf-8"
    data = text.encode(coding, errors="surrogatepass" if coding == "utf-8" else "replace")
    return spoil_bytes(rng, data) if how == "bytes" else data


# ---------------------------------------------------------------------------------------------------------------------
# Rows and predictions

ROWS = [
    {"question": "Is there a polyp?", "answer": "yes", "image": "a/1.png", "id": "r1", "group": "patient 7", "answers": ["yes", "no"]},
    {"question": "How many polyps are in the image?", "answer": "3", "image_filename": "2.png", "stage": 2, "box": [1, 2, 3, 4]},
    {"question": "Which tool is it?", "answer": "B", "image": "3.png", "options": ["A: Snare", "B: Forceps"], "answers_by": {"x": "B"}},
    {"question": "What colors are there?", "answer": "pink; red", "images": ["4.png", "5.png"], "id": 9, "answer_raw": "Pink, red"},
]
ANSWERS = [
    {"id": "1", "pred": "yes", "gt": "no", "qtype": "yes_no", "question": "Is it?", "image": "1.png", "confidence": 0.8, "group": "p"},
    {"id": 2, "pred": "3", "gt": "4", "qtype": "count_numeric", "answers": ["3", "4"], "candidates_top": [["3", 0.9], ["4", 0.1]]},
    {"id": "3", "pred": "A", "gt": "Snare", "qtype": "mcq", "options": ["A: Snare", "B: Forceps"], "reachable": True, "greedy": "A"},
    {"predict": "red", "label": "red; pink", "messages": [{"role": "user", "content": [{"text": "What color?"}]}], "qtype": "color"},
    {"id": "5", "response": "5-10mm", "labels": "<5mm", "images": [{"path": "1.png"}], "qtype": "size_numeric", "answers_by": {"r": "a"}},
]


def spoilt_lines(rng, folder, good, name):
    """A file of good rows, one of which is spoilt."""
    number = rng.randrange(len(good))
    lines = [json.dumps(row).encode() for row in good]
    lines[number] = spoil_json(rng, good[number])
    path = folder / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read_as_rows(path, ready):
    list(read_rows(path, need_answer=False))
    list(grouped_rows(path))
    enrich_jsonl(path, path.with_name("enriched.jsonl"), space=ready, training=True)
    list(read_rows(path.with_name("enriched.jsonl"), need_answer=False))


def mine_from(path, ready):
    mine_space(path, DataConfig(), say=lambda line: None)


def score(path, ready):
    cfg, args, space = ready
    run = load_run(cfg, path, args, load_sidecar(path), space, "rows")
    measure(run["judged"], compare_rows(run["judged"], run["conventions"]))


def good_space(folder):
    (folder / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return mine_space(folder / "good.jsonl", DataConfig(), say=lambda line: None)


def to_score(folder):
    args = argparse.Namespace(against=None, predictions=["p"], compare=None, types="predicted", limit=None, by=[], recipe=[], pair=None)
    return load_config(DEFAULT_CONFIG), args, good_space(folder)


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def picture(rng):
    """(bytes, suffix) of a small JPEG, PNG or TIFF of some mode and compression."""
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (40, 56, 4), dtype=np.uint8)
    kind, mode = rng.choice(("jpeg", "png", "tiff")), rng.choice(("RGB", "L", "RGBA", "P", "I;16", "CMYK", "1", "F"))
    image = Image.fromarray(pixels).convert("L" if mode in ("I;16", "F") else mode)
    image = image.convert({"I;16": "I;16", "F": "F"}.get(mode, image.mode))
    if kind == "jpeg":
        image = image.convert("RGB" if image.mode not in ("L", "CMYK") else image.mode)
        options = {"progressive": rng.random() < 0.5, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
    elif kind == "png":
        image = image.convert("RGB") if image.mode in ("CMYK", "F") else image
        options = {"dpi": (72, 72)}
    else:
        lossless = ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"]
        options = {"compression": rng.choice(lossless if image.mode != "1" else [*lossless, "group4"])}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue(), kind


def chunks(data, kind):
    """[bytes] of the parts of a picture's file; joined they are the file."""
    if kind == "png":
        parts, at = [data[:8]], 8
        while at < len(data):
            length = 12 + struct.unpack(">I", data[at : at + 4])[0]
            parts, at = [*parts, data[at : at + length]], at + length
        return parts
    if kind == "jpeg":
        parts = data.split(b"\xff")
        return [parts[0], *(b"\xff" + part for part in parts[1:])]
    first = struct.unpack("<I", data[4:8])[0]  # of a TIFF: head, pixels, and its directory's 12-byte entries
    return [data[:8], data[8:first], *(data[at : at + 12] for at in range(first + 2 - 12, len(data), 12))]


def spoilt_picture(rng, folder):
    data, kind = picture(rng)
    if rng.random() < 0.5:
        parts = chunks(data, kind)
        one, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        how = rng.choice(("swap", "delete", "double", "inside", "inside"))
        if how == "swap":
            parts[one], parts[other] = parts[other], parts[one]
        elif how == "delete":
            del parts[one]
        elif how == "double":
            parts.insert(other, parts[one])
        elif kind == "png" and len(parts[one]) >= 12:
            inside = parts[one][4:8] + spoil_bytes(rng, parts[one][8:-4])
            parts[one] = struct.pack(">I", len(inside) - 4) + inside + struct.pack(">I", zlib.crc32(inside))
        else:
            parts[one] = spoil_bytes(rng, parts[one])
        data = b"".join(parts)
    else:
        data = spoil_bytes(rng, data)
    path = folder / f"picture.{kind}"
    path.write_bytes(data)
    return path


def warm_up(folder):
    """Load what the first picture would load, which takes seconds."""
    Image.new("RGB", (56, 56)).save(folder / "good.png")
    read_picture(folder / "good.png", None)


def read_picture(path, ready):
    check_image(path)
    load_image(path, ImageConfig())


# ---------------------------------------------------------------------------------------------------------------------
# Configurations

LETTERS = "abcdefghijklmnopqrstuv"
ALIASES = "a: &a {x: 1}\n" + "".join(f"{new}: &{new} {{p: *{old}, q: *{old}}}\n" for old, new in zip(LETTERS, LETTERS[1:]))
SNIPPETS = [ALIASES, "[" * 5000, "a: " + "{b: " * 3000, "a: 0x" + "f" * 5000, "- " * 5000 + "x\n", "\0", "\x85", "\t lr: 1\n"]
SNIPPETS += ["a: !!python/object/apply:os.system ['echo no']\n", "a: &a [*a]\n", "train: &t {lr: *t}\n", "? [1]\n: 2\n", "%YAML 9.9\n"]
SNIPPETS += ["---\nb: 1\n", "...\n", "a: !!binary x\n", "1: 2\n", "null: 1\n", "train: {lr: 1, lr: 2}\n", "a: 2001-13-40\n", "a: 1e999\n"]
SNIPPETS += ["extends: config.yaml\n", "extends: [1]\n", "extends: ../../x.yaml\n", "lora: {target_modules: !!set {q_proj}}\n"]
SNIPPETS += ["<<: *none\n", "'a': \"\\ud800\"\n", "data: !!omap [a: 1]\n", 'output_dir: "a\\0b"\n']


def spoilt_yaml(rng, folder):
    values = yaml.safe_load(DEFAULT_CONFIG.read_text(encoding="utf-8"))
    values["output_dir"] = str(folder / "outputs")
    how, text = rng.random(), yaml.safe_dump(values)
    if how < 0.5:
        text = yaml.safe_dump(spoil_value(rng, values), allow_unicode=True)
    elif how < 0.8:
        lines = text.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(SNIPPETS))
        text = "".join(lines)
    data = text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig")), errors="surrogatepass")
    path = folder / "config.yaml"
    path.write_bytes(spoil_bytes(rng, data) if how > 0.7 else data)
    return path


def read_config(path, ready):
    load_config(path, [])


# ---------------------------------------------------------------------------------------------------------------------
# Models, adapters, checkpoints


def good_adapter(folder):
    """(configuration, the tiny model with LoRA, {file name: bytes} of an adapter that fits it)."""
    from transformers import AutoModelForImageTextToText

    from model.adapter import attach_lora, experiment_facts, write_adapter
    from model.load import load_model_config

    cfg = load_config(DEFAULT_CONFIG, [f"model_name={TINY}", f"output_dir={folder / 'outputs'}"])
    model = attach_lora(AutoModelForImageTextToText.from_config(load_model_config(cfg)), cfg.lora)
    model.name_or_path = TINY.name
    target, space = folder / "good", good_space(folder)
    target.mkdir()
    questions = asked.asked_questions([answer_space.apply(space, {**row, "id": "1"}) for row in ROWS], 1)
    beside = {answer_space.SPACE_FILE: json.dumps(space), asked.QUESTIONS_FILE: json.dumps(questions)}
    write_adapter(model, target, {**experiment_facts(cfg, {}), "longest_answer": 3, "trained_on": ["a"], "best": {"step": 1}}, beside)
    files = {path.name: path.read_bytes() for path in target.iterdir()}
    shutil.rmtree(target)
    return cfg, model, files


def spoilt_weights(rng, folder, files):
    """The adapter with spoilt weights: their bytes, or what their header says."""
    data = files[WEIGHTS_FILE]
    if rng.random() < 0.5:
        data = spoil_bytes(rng, data[: rng.choice((64, 2000, len(data)))]) + (data[2000:] if rng.random() < 0.5 else b"")
    else:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        name = rng.choice(list(header))
        part = {name: header.pop(name)}
        header |= _a_dict(spoil_value(rng, part))
        text = json.dumps(header).encode() if rng.random() < 0.8 else spoil_json(rng, header)
        data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    return _put(folder / "adapter", {**files, WEIGHTS_FILE: data})


def spoilt_record(rng, folder, files):
    """The adapter, as a checkpoint of a run, with one of its JSON files spoilt."""
    record = {"config": load_config(DEFAULT_CONFIG).model_dump(mode="json"), "world_size": 1, "finished": {"step": 2}, "command": ["x"]}
    state = {"global_step": 2, "log_history": [{"step": 2, "eval_exact_match": 0.5, "eval_loss": 1.0}]}
    names = [CONFIG_FILE, EXPERIMENT_FILE, answer_space.SPACE_FILE, asked.QUESTIONS_FILE, RECORD, STATE_FILE]
    files = {**files, RECORD: json.dumps(record), STATE_FILE: json.dumps(state)}
    name = rng.choice(names)
    files[name] = spoil_json(rng, json.loads(files[name]))
    _put(folder, {RECORD: files.pop(RECORD)})
    _put(folder / "outputs" / "checkpoint-2", {**files, "optimizer.pt": b"", "scheduler.pt": b"", "rng_state.pth": b""})
    return _put(folder / "adapter", files)


def _a_dict(value):
    return value if isinstance(value, dict) else {"odd": value}


def _put(folder, files):
    shutil.rmtree(folder, ignore_errors=True) if folder.name != "case" else None
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def read_adapter(path, ready):
    from model.adapter import start_from

    start_from(ready[1], path)


def read_adapter_and_records(path, ready):
    from model.adapter import check_adapter, experiment_facts

    (cfg, *_), refused = ready, []
    outputs = path.parent / "outputs"
    cfg = cfg.model_copy(update={"output_dir": outputs, "train": cfg.train.model_copy(update={"init_adapter": path})})
    newest_whole(outputs)
    for read in (
        lambda: how_to_start(cfg, "newest", False, 1),
        lambda: check_init_adapter(cfg),
        lambda: check_adapter(path, experiment_facts(cfg, {})),
        lambda: answer_space.load(path / answer_space.SPACE_FILE),
        lambda: asked.rules_verdict(asked.load(path)),
        lambda: adapter_facts(path).get("trained_on"),
        lambda: read_adapter(path, ready),
    ):
        try:
            read()
        except UserError as error:
            refused.append(error)
    if refused:
        raise max(refused, key=lambda error: "\n" in str(error))


# ---------------------------------------------------------------------------------------------------------------------
# Running


class Part(NamedTuple):
    """cases: how many there are by default. start: folder -> what `spoil` and `read` need. spoil: (rng, folder, ready) -> path of a
    spoilt file or folder. read: (path, ready), raises UserError where it refuses."""

    cases: int
    start: object
    spoil: object
    read: object


PARTS = {
    "rows": Part(6000, good_space, lambda rng, folder, ready: spoilt_lines(rng, folder, ROWS, "rows.jsonl"), read_as_rows),
    "training rows": Part(2000, good_space, lambda rng, folder, ready: spoilt_lines(rng, folder, ROWS, "t.jsonl"), mine_from),
    "predictions": Part(2000, to_score, lambda rng, folder, ready: spoilt_lines(rng, folder, ANSWERS, "predictions.jsonl"), score),
    "images": Part(2000, warm_up, lambda rng, folder, ready: spoilt_picture(rng, folder), read_picture),
    "yaml": Part(500, lambda folder: None, lambda rng, folder, ready: spoilt_yaml(rng, folder), read_config),
    "safetensors": Part(500, good_adapter, lambda rng, folder, ready: spoilt_weights(rng, folder, ready[2]), read_adapter),
    "records": Part(500, good_adapter, lambda rng, folder, ready: spoilt_record(rng, folder, ready[2]), read_adapter_and_records),
}


def outcome(part, path, ready):
    """How a spoilt file was read: "accepted", "refused", or what is wrong with it (str)."""
    try:
        with redirect_stdout(io.StringIO()):
            part.read(path, ready)
    except UserError as error:
        text = str(error)
        return "refused" if "\n" not in text and len(text) < 3000 else f"a message of {len(text)} letters: {short(text, 300)!r}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename][-1]
        at = f"{Path(own.filename).name}:{own.lineno} ({Path(place.filename).name}:{place.lineno})"
        return f"{type(error).__name__}: {short(' '.join(str(error).split()), 200)} at {at}"
    return "accepted"


def run_cases(name, seed, numbers, folder, pipe):
    """What a child process does: `ready`, then the outcome of each case, into `pipe`."""
    part = PARTS[name]
    ready = part.start(folder)
    pipe.send("ready")
    for number in numbers:
        shutil.rmtree(folder / "case", ignore_errors=True)
        (folder / "case").mkdir()
        path = part.spoil(random.Random(f"{name} {seed} {number}"), folder / "case", ready)
        pipe.send(outcome(part, path, ready))


def outcomes(name, seed, numbers, limit):
    """Yield (number, outcome) of cases that a child process reads; the last of them may have ended it, or taken so long that it was."""
    here, there = multiprocessing.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as place:
        child = multiprocessing.get_context("fork").Process(target=run_cases, args=(name, seed, numbers, Path(place), there))
        child.start()
        there.close()
        try:
            here.recv()
            for number in numbers:
                if not here.poll(limit):
                    return (yield number, f"takes longer than {limit} s")
                try:
                    yield number, here.recv()
                except EOFError:
                    child.join()
                    return (yield number, f"the process ended ({child.exitcode})")
        finally:
            child.kill()
            child.join()


def fuzz(name, seed, numbers, keep, limit=LIMIT):
    """({outcome: count}, {number: what is wrong}) of a part's cases, the files of what is wrong kept in folders of `keep`."""
    counts, wrong, left = Counter(), {}, list(numbers)
    with tqdm(total=len(left), desc=name, leave=False, disable=None) as progress:
        while left:
            for number, found in outcomes(name, seed, list(left), limit):
                left.remove(number)
                if found not in ("accepted", "refused"):
                    wrong[number], found = found, "wrong"
                counts[found] += 1
                progress.update()
    if wrong:
        keep_cases(name, seed, wrong, keep)
    return counts, wrong


def keep_cases(name, seed, numbers, keep):
    """Make the files of some cases again, into folders of `keep`."""
    with tempfile.TemporaryDirectory() as place:
        ready = PARTS[name].start(Path(place))
        for number in numbers:
            folder = keep / f"{name}-{seed}-{number}".replace(" ", "-")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            PARTS[name].spoil(random.Random(f"{name} {seed} {number}"), folder, ready)


def main():
    parser = argparse.ArgumentParser(epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS), help="default: all")
    parser.add_argument("--cases", type=int, help="of each part (default: its own number)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=ROOT / "outputs_fuzz", help="folder for the files of findings (default outputs_fuzz)")
    args = parser.parse_args()
    found = 0
    for name in args.part:
        start, cases = time.perf_counter(), args.cases or PARTS[name].cases
        counts, wrong = fuzz(name, args.seed, range(args.first, args.first + cases), args.keep)
        seconds = time.perf_counter() - start
        ends = f"{counts['refused']} refused, {counts['accepted']} accepted, {len(wrong)} wrong"
        print(f"{name}: {cases} cases, {ends}, {seconds:.0f} s", flush=True)
        for text, times in Counter(wrong.values()).most_common(20):
            print(f"  {times} x {text} (first case {next(number for number in wrong if wrong[number] == text)})")
        found += len(wrong)
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run_script(main)
