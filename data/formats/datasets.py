"""One function per published dataset: where its rows, images, splits and groups lie. data/readers.py calls them.

A reader takes a Request and returns `(image_root, records)`. `records` yields `(where, record)` for every row of the
source, `where` being its file and line; a record has `image`, `question`, `answer` and any further keys of the output
row. `junk` says why a row is dropped without --keep-junk, `drop` why it always is; such a row needs no image.
The first line of a reader's docstring is its line in --help. "To be checked" marks what nobody here has seen.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.formats import source_files as source
from files import UserError

ROW_KEYS = ("question", "answer", "options", "answers", "group", "box", "stage")  # kept of the predecessor's JSON
IMAGE_COLUMNS = ("file_name", "image", "img_id")  # what may name a row's image in metadata.csv, best first
REAL_COLON_FILES = ("in_template.jsonl", "annotations/in_template.jsonl")
JUNK_QUESTIONS = ("", "none", "nan")
JUNK_ANSWERS = ("", "nan")  # `none` is an answer: there is no polyp, no instrument, …
OTHER_IMAGE = "with another image than an earlier row of the same img_id"

# Official splits, by sequence or video; a name in none of them gets no split.
ENDOVIS_18 = {"train": {2, 3, 4, 6, 7, 9, 10, 11, 12, 14, 15}, "val": {1, 5, 16}}
CHOLEC80 = {"val": {5, 11, 12, 17, 19, 26, 27, 31}}
CHOLEC80["train"] = set(range(1, 41)) - CHOLEC80["val"]
PITVQA = {"val": {2, 6, 12, 13, 24}}
PITVQA["train"] = set(range(1, 26)) - PITVQA["val"]
SSG = {"val": {1, 18, 31, 35, 48}, "test": {2, 22, 43, 60, 74}}
SSG["train"] = {4, 5, 6, 8, 10, 12, 13, 14, 15, 23, 25, 26, 27, 29, 32, 36, 40, 42, 47, 49, 50, 51, 52, 56, 57, 62, 65,
                66, 68, 70, 73, 75, 78, 79, 80}  # fmt: skip


@dataclass
class Request:
    """What the user asked for."""

    src: Path
    dst: Path
    images: Path | None = None  # the folder that image names start from, where it isn't the reader's own choice
    language: str = "en"  # slake: en, zh or all
    answers: str = "short"  # for datasets with short and long answers: which of them is `answer`
    keep_junk: bool = False

    def wants(self, record):
        """Whether a record is going to be a row as far as its question and answer tell: only then it needs an image."""
        return self.keep_junk or not junk_reason(record.get("question"), record.get("answer"))


def read_kvasir_vqa(request):
    """Kvasir-VQA (2024): endoscopy, 6,500 images; Parquet, metadata.csv or JSON; CC BY-NC 4.0

    Gautam et al. 2024, https://datasets.simula.no/kvasir-vqa, on the Hugging Face hub as SimulaMet-HOST/Kvasir-VQA:
    58,849 questions about 6,500 images, without patient, video or official split. SRC is
      a. a Parquet file, or the folder of several (itself or its data/), with columns image {bytes, path}, question,
         answer, img_id and source. Needs pyarrow. Image names start from DST: set data.image_root to DST.
      b. a folder with metadata.csv, or that file: columns question, answer, source and file_name, image or img_id, the
         last for images named img_id.jpg. Images lie in SRC or SRC/images. Set data.image_root to SRC.
      c. a .json or .jsonl file: see kvasir-vqa-json.
    """
    src = request.src
    if src.suffix in (".json", ".jsonl"):
        return read_kvasir_vqa_json(request)
    if parquet := source.parquet_files(src):
        return request.dst, _kvasir_parquet(parquet, request)
    table = src / "metadata.csv" if src.is_dir() else src
    if table.suffix == ".csv" and table.is_file():
        folder = request.images or table.parent
        return folder, _csv_rows(table, folder, request)
    raise UserError(f"{src}: has no *.parquet, data/*.parquet or metadata.csv; give the dataset's folder")


def _kvasir_parquet(paths, request):
    embedded = source.EmbeddedImages(request.dst)
    for path in paths:
        for where, record in source.parquet_records(path, ("image", "question", "answer", "img_id"), ("source",)):
            img_id, image = record.pop("img_id"), record.pop("image")
            if request.wants(record):
                record["image"] = embedded.name(img_id, source.image_bytes(image, where), where)
                if record["image"] is None:  # which of the two images the question is about can't be known
                    record["drop"] = OTHER_IMAGE
            yield where, record


def _csv_rows(table, folder, request):
    """Yield the rows of metadata.csv; image names are relative to `folder`."""
    names = {}  # by file name with and without suffix
    for path in sorted((*folder.glob("images/*"), *folder.glob("*"))):
        if path.suffix.lower() in Image.registered_extensions():
            names[path.stem] = names[path.name] = path.relative_to(folder).as_posix()
    for where, record in source.csv_records(table, ("question", "answer"), IMAGE_COLUMNS):
        row = {key: record[key] for key in ("question", "answer", "source") if record.get(key) is not None}
        if request.wants(record):
            name = next((record[column] for column in IMAGE_COLUMNS if record.get(column)), None)
            if name is None:
                raise UserError(f"{where}: names no image; fill {' or '.join(IMAGE_COLUMNS)}")
            row["image"] = names.get(name) or _name_inside(folder, name)
            if row["image"] is None:
                missing = f"no image {name} in {folder} or its images/"
                raise UserError(f"{where}: {missing}; add the file or correct the name")
        yield where, row


def _name_inside(folder, name):
    """One spelling of the name of a file below `folder`, or None."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts and (folder / path).is_file()
    return path.as_posix() if inside else None


def read_kvasir_vqa_json(request):
    """Kvasir-VQA as the predecessor's JSON array or JSONL; CC BY-NC 4.0

    The predecessor's train, val and test files: image_id, image_filename, question, answer; source and licence as
    kvasir-vqa. SRC is the file. The images need not be there yet: their names start from SRC's folder, or from
    --images. Some of these files repeat rows or hold junk: data.check counts that in what --keep-junk writes.
    """
    root = request.images or request.src.parent
    return root, _kvasir_json(request.src, root)


def _kvasir_json(path, root):
    for where, record in source.json_records(_require_file(path)):
        name, img_id = record.get("image_filename"), record.get("image_id")
        if not isinstance(name, str) and not isinstance(img_id, str):
            raise UserError(f"{where}: names no image; add image_filename")
        name = _slashes(name if isinstance(name, str) else f"{img_id}.jpg")
        row = {key: record[key] for key in ROW_KEYS if record.get(key) is not None}
        row |= {"split": _split(record["split"], where)} if record.get("split") else {}
        yield where, row | {"image": source.find_image(root, name, f"images/{name}")}


def read_kvasir_vqa_x1(request):
    """Kvasir-VQA-x1 (2025): reasoning questions on its images; Parquet or JSONL; CC BY-NC 4.0

    Gautam et al. 2025, arXiv 2506.09958, https://github.com/simula/Kvasir-VQA-x1, on the Hugging Face hub as
    SimulaMet/Kvasir-VQA-x1: 159,549 questions, official train and test. Which split a row is of stands in its file's
    name. SRC is
      a. the folder with data/*.parquet, or one such file: columns img_id, question, answer, complexity,
         question_class. It has no images: --images names a folder with img_id.jpg in it or in its images/, such as the
         DST of kvasir-vqa. (That the hub's files hold no images is to be checked; an image column is read if there.)
      b. a folder with Kvasir-VQA-x1-train.jsonl and -test.jsonl, or one such file: lines of {"messages": [user,
         assistant], "images": [path]}, as the dataset's README exports them. Absolute paths there are searched for
         below --images, or SRC's folder, by their last two parts or their last.
    """
    src = request.src
    folder = src if src.is_dir() else src.parent
    root = request.images or folder
    if parquet := source.parquet_files(src):
        return _x1_parquet(parquet, request, root)
    exports = [src] if src.is_file() else sorted(src.glob("*-train*.jsonl")) + sorted(src.glob("*-test*.jsonl"))
    if not exports:
        raise UserError(f"{src}: has no data/*.parquet, *-train.jsonl or *-test.jsonl; give the dataset's folder")
    return root, _x1_messages(exports, root)


def _x1_parquet(paths, request, root):
    required, optional = ("img_id", "question", "answer"), ("complexity", "question_class", "image")
    embedded = source.EmbeddedImages(request.dst)
    first = next(source.parquet_records(paths[0], required, optional), ("", {}))[1]
    has_images = first.get("image") is not None

    def rows():
        for path in paths:
            for where, record in source.parquet_records(path, required, optional):
                img_id, image = record.pop("img_id"), record.pop("image", None)
                if not has_images:
                    record["image"] = source.find_image(root, f"images/{img_id}.jpg", f"{img_id}.jpg")
                elif request.wants(record):
                    record["image"] = embedded.name(img_id, source.image_bytes(image, where), where)
                    record |= {} if record["image"] else {"drop": OTHER_IMAGE}
                yield where, record | {"split": source.split_in_name(path)}

    return request.dst if has_images else root, rows()


def _x1_messages(paths, root):
    for path in paths:
        for where, record in source.json_records(path):
            question, answer = _two_turns(record.get("messages"), "role", "content", ("user", "assistant"), where)
            images = record.get("images")
            if not (isinstance(images, list) and len(images) == 1 and isinstance(images[0], str) and images[0]):
                raise UserError(f"{where}: images is {images!r}, not a list of one path; correct or delete the line")
            image = _image_below(root, images[0])
            split = source.split_in_name(path)
            question = question.removeprefix("<image>")
            yield where, {"image": image, "question": question, "answer": answer, "split": split}


def _two_turns(turns, who, what, names, where):
    """The texts of a conversation of one question and one answer."""
    turns = turns if isinstance(turns, list) else []
    if [turn.get(who) if isinstance(turn, dict) else None for turn in turns] != list(names):
        raise UserError(f"{where}: is no conversation of one {names[0]} and one {names[1]} turn; correct or delete it")
    for turn in turns:
        if not isinstance(turn.get(what), str):
            raise UserError(f"{where}: {what} is {turn.get(what)!r}, not text; correct or delete it")
    return [turn[what] for turn in turns]


def _image_below(root, path):
    """A name below `root` for a path that was written on another machine."""
    parts = [part for part in _slashes(path).split("/") if part not in ("", ".")] or [""]
    last_two = "/".join(parts[-2:])
    return source.find_image(root, last_two, f"images/{parts[-1]}", parts[-1])


# --- question|answer, one text file a frame ---


def read_endovis_18_vqa(request):
    """EndoVis-18-VQA (2022): robotic nephrectomy; CC BY-NC-SA 4.0 (to be checked)

    Seenivasan et al. 2022, https://github.com/lalithjets/Surgical_VQA; the images need a registration with the EndoVis
    2018 challenge, whose licence CC BY-NC-SA 4.0 is from memory, to be checked. SRC holds
    seq_N/vqa/Classification/frameNNN_QA.txt (with --answers long: vqa/Sentence) and the images
    seq_N/left_frames/frameNNN.png or left_fr/. Official split by sequence: val 1, 5, 16; group: the sequence.
    """
    folder = {"short": "Classification", "long": "Sentence"}[request.answers]
    return _endovis_rows(request, f"seq_*/vqa/{folder}/*.txt", "question|answer", "EndoVis-18-VQA")


def read_endovis_vqla(request):
    """EndoVis-18/17-VQLA (2023): as endovis-18-vqa, with a box; CC BY-NC-SA 4.0 (to be checked)

    Bai et al. 2023, https://github.com/longbai1006/Surgical-VQLA; images and licence as endovis-18-vqa, to be checked.
    `box` is left, top, right, bottom in pixels of the 1280 × 1024 frame, counted from 1, as the source has it (its own
    loader subtracts 1). SRC is
      a. EndoVis-18-VQLA: seq_N/vqla/label/frameNNN_QA.txt, images, split and group as endovis-18-vqa.
      b. EndoVis-17-VQLA: vqla/label/seqN_frameNNN.txt and left_frames/seqN_frameNNN.jpg (names to be checked), all of
         it split test, since the dataset's authors use it as external validation; group endovis17_seqN.
    """
    shape = "question|answer|x1, y1, x2, y2"
    if request.src.is_dir() and any(request.src.glob("vqla/label/*.txt")):
        return _endovis_rows(request, "vqla/label/*.txt", shape, "EndoVis-17-VQLA")
    return _endovis_rows(request, "seq_*/vqla/label/*.txt", shape, "EndoVis-18-VQLA or EndoVis-17-VQLA")


def _endovis_rows(request, pattern, shape, hint):
    folder, paths = source.dataset_files(request.src, pattern, f"the folder {hint}")
    root = request.images or folder

    def rows():
        for path in paths:
            facts = _endovis_frame(path.relative_to(folder), root)
            for where, fields in source.bar_lines(path, shape):
                record = {"question": fields[0], "answer": fields[1], **facts}
                yield where, record | ({"box": _box(fields[2], where)} if len(fields) > 2 else {})

    return root, rows()


def _endovis_frame(path, root):
    """Image, group and split of a text file's name, relative to the dataset's folder."""
    frame, sequence = path.stem.removesuffix("_QA"), path.parts[0]
    if not sequence.startswith("seq"):  # EndoVis-17
        return _endovis_17(source.find_image(root, f"left_frames/{frame}.jpg", f"left_frames/{frame}.png"))
    names = [f"{sequence}/{folder}/{frame}.{end}" for end in ("png", "jpg") for folder in ("left_frames", "left_fr")]
    return {"image": source.find_image(root, *names), "group": sequence, "split": _official(ENDOVIS_18, sequence)}


def _endovis_17(image):
    return {"image": image, "group": "endovis17_" + image.split("/")[-1].split("_")[0], "split": "test"}


def _box(text, where):
    box = source.numbers(text, 4, where, "the box")
    if box[0] > box[2] or box[1] > box[3]:
        raise UserError(f"{where}: the box {text} ends before it starts; correct or delete the line")
    return box


def _official(splits, name):
    """The split whose numbers include the first number in `name`, or None."""
    number = re.search(r"\d+", name)
    return next((split for split in splits if number and int(number.group()) in splits[split]), None)


def read_cholec80_vqa(request):
    """Cholec80-VQA (2022): gallbladder removal, 40 videos; CC BY-NC-SA 4.0 (to be checked)

    Seenivasan et al. 2022, https://github.com/lalithjets/Surgical_VQA; the images are those of Cholec80, given out on
    request; their licence CC BY-NC-SA 4.0 is from memory, to be checked. SRC holds Classification/VIDEO/FRAME_QA.txt
    (with --answers long: Sentence/) and cropped_image/VIDEO/FRAME.png. Frames whose number isn't a multiple of 100 are
    dropped, as by the official loader. Official split: val 5, 11, 12, 17, 19, 26, 27, 31 of the 40 videos; group: the
    video.
    """
    part = {"short": "Classification", "long": "Sentence"}[request.answers]
    folder, paths = source.dataset_files(request.src, f"{part}/*/*.txt", "the folder Cholec80-VQA")
    root = request.images or folder

    def rows():
        for path in paths:
            video, frame = path.parent.name, path.stem.removesuffix("_QA")
            if not frame.isdecimal():
                raise UserError(f"{path}: its name is no frame number; name it FRAME_QA.txt or remove it")
            image = source.find_image(root, f"cropped_image/{video}/{frame}.png", f"cropped_image/{video}/{frame}.jpg")
            facts = {"image": image, "group": video, "split": _official(CHOLEC80, video)}
            facts |= {"junk": "of frames between the multiples of 100"} if int(frame) % 100 else {}
            for where, (question, answer) in source.bar_lines(path, "question|answer"):
                yield where, {"question": question, "answer": answer, **facts}

    return root, rows()


def read_ssg_vqa(request):
    """SSG-VQA (2023): gallbladder removal, 45 videos, scene graphs; CC BY-NC-SA 4.0

    Yuan et al. 2023, arXiv 2312.10251, https://github.com/CAMMA-public/SSG-VQA. SRC holds qa_txt/VIDxx/N.txt (or
    VIDxx/N.txt). A file's first two lines are captions of the scene, no questions: skipped, as by the official loader.
    The others are question|answer|template|query_type|relation, or question|answer, or question|answer|[x, y] (kept as
    `point`). Images are CholecT45's, VIDxx/NNNNNN.png below --images (its layout is to be checked).
    Official splits by video (35, 5, 5); group: the video.
    """
    src = request.src / "qa_txt" if (request.src / "qa_txt").is_dir() else request.src
    folder, paths = source.dataset_files(src, "VID*/*.txt", "the folder with qa_txt/VID01/1.txt")
    root = request.images or folder

    def rows():
        for path in paths:
            video = path.parent.name
            if not path.stem.isdecimal():
                raise UserError(f"{path}: its name is no frame number; name it N.txt or remove it")
            image = source.find_image(root, f"{video}/{int(path.stem):06}.png", f"{video}/{int(path.stem):06}.jpg")
            facts = {"image": image, "group": video, "split": _official(SSG, video)}
            yield from ((where, record | facts) for where, record in _ssg_questions(path))

    return root, rows()


def _ssg_questions(path):
    shapes = ("question|answer", "question|answer|[x, y]", "question|answer|template|query_type|relation")
    for index, (where, fields) in enumerate(source.bar_lines(path, *shapes)):
        if index < 2:
            if len(fields) != 2:
                raise UserError(f"{where}: is no scene caption, which a file's first two lines are; add the captions")
            continue
        record = {"question": fields[0], "answer": fields[1]}
        if len(fields) == 3:
            record["point"] = source.numbers(fields[2], 2, where, "the point")
        yield where, record | dict(zip(("template", "query_type", "relation"), fields[2:] if len(fields) == 5 else ()))


def read_pitvqa(request):
    """PitVQA (2024): pituitary surgery, 25 videos; CC BY-NC-ND 4.0 (to be checked)

    He et al. 2024, https://doi.org/10.5522/04/27004666, code https://github.com/mobarakol/PitVQA; the PitVis videos'
    licence CC BY-NC-ND 4.0 is from memory, to be checked. SRC holds one folder of question files, ANY/video_NN/N.txt,
    and images/video_NN/N.png; of two such folders (short and open-ended answers), give the one wanted as SRC.
    Answers no_visible_instrument and no_secondary_instrument are dropped, as by the official loader.
    Official split: val 02, 06, 12, 13, 24 of 25 videos; group: the video.
    """
    src = request.src
    pattern = "video_*/*.txt" if src.is_dir() and any(src.glob("video_*/*.txt")) else "*/video_*/*.txt"
    _, paths = source.dataset_files(src, pattern, "the folder PitVQA")
    parts = sorted({str(path.parents[1]) for path in paths})
    if len(parts) > 1:
        raise UserError(f"{src}: has questions in {' and '.join(parts)}; give one of these folders")
    root = request.images or Path(parts[0]).parent

    def rows():
        for path in paths:
            video, frame = path.parent.name, path.stem.removesuffix("_QA")
            image = source.find_image(root, f"images/{video}/{frame}.png", f"images/{video}/{frame}.jpg")
            facts = {"image": image, "group": video, "split": _official(PITVQA, video)}
            for where, (question, answer) in source.bar_lines(path, "question|answer"):
                left_out = answer in ("no_visible_instrument", "no_secondary_instrument")
                junk = {"junk": f"answered {answer}"} if left_out else {}
                yield where, {"question": question, "answer": answer, **facts, **junk}

    return root, rows()


def read_psi_ava_vqa(request):
    """PSI-AVA-VQA (2023): robotic prostatectomy, Spanish labels; licence to be checked

    Seenivasan et al. 2023, https://github.com/lalithjets/SurgicalGPT. SRC holds Train/ and Val/, each with
    C1_location.txt, C2_action.txt, C3_phase.txt and C4_step.txt, and keyframes/ with the frames that the lines name.
    Text is put into Unicode NFC: label lists compare `Vesículas_Seminales` letter by letter. C2 is dropped, as by the
    official training and evaluation. Official train and val; `category` is the file's name; group: CASEnnn where the
    frame's name has it (to be checked), else none.
    """
    folder, paths = source.dataset_files(request.src, "*/C[1-4]_*.txt", "the folder PSI-AVA-VQA")
    root = request.images or folder

    def rows():
        for path in paths:
            facts = {"split": source.split_in_name(path.parent), "category": path.stem}
            if path.stem.startswith("C2"):
                facts["junk"] = f"of {path.stem}, which the official evaluation leaves out"
            for where, (frame, *texts) in source.bar_lines(path, "frame|question|answer"):
                question, answer = (unicodedata.normalize("NFC", text) for text in texts)
                case = re.search(r"CASE\d+", frame)
                image = source.find_image(root, f"keyframes/{frame}", frame)
                group = {"group": case.group()} if case else {}
                yield where, {"image": image, "question": question, "answer": answer, **group, **facts}

    return root, rows()


# --- video clips: one row for the middle frame ---


def read_surgvu(request):
    """SurgVU (2025): robotic clips, five references each; CC BY-NC-SA 4.0 (to be checked)

    Category 2 of https://surgvu25.grand-challenge.org; licence from memory, to be checked. SRC holds
    caseN/caseN_question.json (a JSON string), caseN/caseN.json (a list of references) and the 30 s clip's frames as
    caseN/*.jpg or *.png, taken from the video beforehand. One row a clip, for its middle frame in name order (of an
    even number, the later of the two): `answer` is the first reference, `answers` are all. No official split; group:
    the case.
    """
    pattern = "*_question.json" if any(request.src.glob("*_question.json")) else "*/*_question.json"
    folder, paths = source.dataset_files(request.src, pattern, "the folder with case122/case122_question.json")
    root = request.images or folder
    if pattern.startswith("*_") and len(paths) > 1:
        raise UserError(f"{folder}: has {len(paths)} cases, whose frames mix; give each its own folder")

    def rows():
        for path in paths:
            case = path.name.removesuffix("_question.json")
            question, where = source.json_value(path), f"{path.with_name(case)}.json:1"
            if not isinstance(question, str):
                raise UserError(f"{path}:1: is no JSON string; write the question in quotes")
            answers = source.json_value(path.with_name(f"{case}.json"))
            _check_texts(answers, where, "the references")
            image = _middle(_frames(root, path.parent.relative_to(folder)))
            row = {"image": image, "question": question, "answer": answers[0], "answers": answers, "group": case}
            yield f"{path}:1", row

    return root, rows()


def _frames(root, folder):
    """The names of a clip's frames below `root`, in reading order."""
    paths = (root / folder).iterdir() if (root / folder).is_dir() else ()
    frames = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not frames:
        raise UserError(f"{root / folder}: has no frames; take some from the video, as .jpg")
    return [path.relative_to(root).as_posix() for path in sorted(frames, key=source.natural)]


def _middle(frames):
    return frames[len(frames) // 2]


def _check_texts(texts, where, name):
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
        raise UserError(f"{where}: {name} are {json.dumps(texts)[:60]}, not a list of texts; correct or delete them")


def read_real_colon_vqa(request):
    """REAL-Colon-VQA (2025): colonoscopy clips, short and long answers; no licence stated

    Drago et al. 2025, arXiv 2511.03325, https://github.com/madratak/SurgViVQA. SRC is in_template.jsonl (or
    out_template.jsonl, the same questions rephrased), or a folder that has it, itself or in annotations/. Images are
    videos/VIDEO_frames/FRAME.jpg beside annotations/ (to be checked) or below --images. One row a clip, for its middle
    frame: the fifth of eight. `answer` is short_answer (with --answers long: answer), `answers` are both, that one
    first. The source's `id` isn't unique: kept as source_id. No official split; group: the video.
    """
    path = request.src
    if path.is_dir():
        path = next((path / name for name in REAL_COLON_FILES if (path / name).is_file()), None)
        if path is None:
            raise UserError(f"{request.src}: has no {' or '.join(REAL_COLON_FILES)}; give the file")
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    root = request.images or folder
    return root, _real_colon_rows(path, root, request)


def _real_colon_rows(path, root, request):
    for where, record in source.json_records(path):
        frames, video = record.get("frames"), record.get("video_id")
        _check_texts(frames, where, "frames")
        _check_texts([video], where, "video_id")
        question, answers = record.get("question"), [record.get("short_answer"), record.get("answer")]
        _check_texts(answers, where, "short_answer and answer")
        answers = answers if request.answers == "short" else answers[::-1]
        frame = _middle(frames)
        places = (f"videos/{video}_frames/", f"{video}_frames/", "")
        image = source.find_image(root, *(f"{place}{frame}.jpg" for place in places))
        row = {"image": image, "question": question, "answer": answers[0], "answers": answers, "group": video}
        yield where, row | {"question_class": record.get("question_type"), "source_id": record.get("id")}


# --- JSON records ---


def read_endovis_single_phrase(request):
    """EndoVis-17/18 as the predecessor's conversations; CC BY-NC-SA 4.0 (to be checked)

    The predecessor's JSON array of {"conversations": [human, gpt], "image": path}; licence believed to be that of the
    EndoVis images, CC BY-NC-SA 4.0, to be checked. SRC is the file. Back-slashes in image paths become slashes, and the
    instruction glued to each question, "Answer the question with a single phrase.", goes. The images need not be there
    yet: their names start from SRC's folder, or from --images. Splits and groups as endovis-vqla gives them.
    """
    root = request.images or request.src.parent
    return root, _single_phrase_rows(request.src, root)


def _single_phrase_rows(path, root):
    for where, record in source.json_records(_require_file(path)):
        question, answer = _two_turns(record.get("conversations"), "from", "value", ("human", "gpt"), where)
        question = re.sub(r"\s*Answer the question with a single phrase\.\s*$", "", question)
        _check_texts([record.get("image")], where, "image")
        image = _slashes(record["image"])
        sequence = re.search(r"EndoVis-18.*/(seq_\d+)/", image)
        if not sequence and "EndoVis-17" not in image:
            raise UserError(f"{where}: image {image} is neither of EndoVis-18, seq_N/, nor of EndoVis-17; correct it")
        facts = {"group": sequence[1], "split": _official(ENDOVIS_18, sequence[1])} if sequence else _endovis_17(image)
        yield where, {"question": question, "answer": answer, **facts, "image": image}


def read_vqa_rad(request):
    """VQA-RAD (2018): radiology, 2,248 questions; Parquet or JSON; CC0 1.0

    Lau et al. 2018, https://osf.io/89kps, on the Hugging Face hub as flaviagiammarino/vqa-rad, whose card says CC0 1.0.
    Official train and test share images. SRC is
      a. the folder with data/train-*.parquet and test-*.parquet, or one such file: columns image, question, answer.
         Images are written to DST/images under a name made of their content. Needs pyarrow.
      b. `VQA_RAD Dataset Public.json`, or the folder with it and `VQA_RAD Image Folder` (keys from memory, to be
         checked): rows whose phrase_type starts with test are the test split.
      c. rows.jsonl, or the folder with it and images/: id, image, question, answer, answer_type, split.
    """
    src = request.src
    if parquet := source.parquet_files(src):
        return request.dst, _vqa_rad_parquet(parquet, request)
    names = ("VQA_RAD Dataset Public.json", "rows.jsonl")
    path = src if src.is_file() else next((src / name for name in names if (src / name).is_file()), None)
    if path is None:
        raise UserError(f"{src}: has no data/*.parquet, {' or '.join(names)}; give the dataset's folder")
    root = request.images or path.parent
    return root, _vqa_rad_json(path, root)


def _vqa_rad_parquet(paths, request):
    embedded = source.EmbeddedImages(request.dst)
    for path in paths:
        for where, record in source.parquet_records(path, ("image", "question", "answer")):
            image = record.pop("image")
            if request.wants(record):
                data = source.image_bytes(image, where)
                record["image"] = embedded.name(hashlib.sha256(data).hexdigest()[:16], data, where)
            yield where, record | {"split": source.split_in_name(path)}


def _vqa_rad_json(path, root):
    for where, record in source.json_records(path):
        name, answer = record.get("image", record.get("image_name")), record.get("answer")
        _check_texts([name], where, "image")
        if isinstance(answer, (int, float)) and not isinstance(answer, bool):  # some counts are numbers in the source
            answer = str(answer)
        phrase_split = "test" if str(record.get("phrase_type")).startswith("test") else "train"
        row = {"image": source.find_image(root, name, f"images/{name}", f"VQA_RAD Image Folder/{name}")}
        row |= {"question": record.get("question"), "answer": answer}
        row |= {"split": _split(record.get("split", phrase_split), where)}
        facts = {"answer_type": record.get("answer_type"), "source_id": record.get("id", record.get("qid"))}
        yield where, row | facts


def _split(name, where):
    if not isinstance(name, str) or name not in source.SPLIT_WORDS:
        raise UserError(f"{where}: split is {name!r}, not train, val or test; correct it")
    return source.SPLIT_WORDS[name]


def read_slake(request):
    """SLAKE (2021): radiology, English and Chinese (--language); CC BY 4.0

    Liu et al. 2021, https://www.med-vqa.com/slake, on the Hugging Face hub as BoKelvin/SLAKE, whose card says
    CC BY 4.0. SRC holds train.json, validation.json (or validate.json) and test.json, arrays of qid, img_name,
    question, answer, q_lang and more, and imgs/xmlabN/source.jpg. Official splits. Without --language only English rows
    are kept; ids are the same with every language. `language` is q_lang.
    """
    names = ("train.json", "validation.json", "validate.json", "test.json")
    paths = [request.src / name for name in names if (request.src / name).is_file()]
    if not paths:
        raise UserError(f"{request.src}: has no train.json, validation.json or test.json; give the folder Slake1.0")
    root = request.images or request.src
    return root, _slake_rows(paths, root, request.language)


def _slake_rows(paths, root, language):
    for path in paths:
        for where, record in source.json_records(path):
            name, spoken = record.get("img_name"), record.get("q_lang")
            _check_texts([name], where, "img_name")
            if spoken not in ("en", "zh"):
                raise UserError(f"{where}: q_lang is {spoken!r}, not en or zh; correct it")
            row = {"image": source.find_image(root, f"imgs/{name}", name), "split": source.split_in_name(path)}
            row |= {"question": record.get("question"), "answer": record.get("answer"), "language": spoken}
            row |= {"answer_type": record.get("answer_type"), "source_id": record.get("qid")}
            row |= {"drop": f"in {spoken}"} if language not in (spoken, "all") else {}
            yield where, row


# --- shared ---


def junk_reason(question, answer):
    """Why a row is junk (str), or None if it isn't. Missing values are None or empty text."""
    if str(question or "").strip().lower() in JUNK_QUESTIONS:
        return "without a question"
    if str("" if answer is None else answer).strip().lower() in JUNK_ANSWERS:
        return "without an answer"
    return None


def _require_file(path):
    if not path.is_file():
        raise UserError(f"{path}: is a folder; give the JSON file")
    return path


def _slashes(path):
    return path.replace("\\", "/")


FORMATS = {
    "kvasir-vqa": read_kvasir_vqa,
    "kvasir-vqa-json": read_kvasir_vqa_json,
    "kvasir-vqa-x1": read_kvasir_vqa_x1,
    "endovis-18-vqa": read_endovis_18_vqa,
    "endovis-vqla": read_endovis_vqla,
    "endovis-single-phrase": read_endovis_single_phrase,
    "cholec80-vqa": read_cholec80_vqa,
    "ssg-vqa": read_ssg_vqa,
    "pitvqa": read_pitvqa,
    "psi-ava-vqa": read_psi_ava_vqa,
    "surgvu": read_surgvu,
    "real-colon-vqa": read_real_colon_vqa,
    "vqa-rad": read_vqa_rad,
    "slake": read_slake,
}
