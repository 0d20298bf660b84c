"""Kvasir-VQA, its form as one JSON, and Kvasir-VQA-x1: questions about the same images."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from pathlib import Path

from PIL import Image

from data.formats import source_files as source
from data.formats.common import FIELDS, ROW_KEYS, known_split, require_file, slashes
from data.formats.conversations import conversation_rows
from files import UserError, short

IMAGE_COLUMNS = ("file_name", "image", "img_id")  # what may name a row's image in metadata.csv, best first
OTHER_IMAGE = "with another image than an earlier row of the same img_id"


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
        for where, record in source.parquet_records(path, ("image", "question", "answer", "img_id"), FIELDS):
            img_id, image = record.pop("img_id"), record.pop("image")
            if request.wants(where, record):
                record["image"] = embedded.name(source.image_id(img_id, where), source.image_bytes(image, where), where)
                if record["image"] is None:  # which of the two images the question is about can't be known
                    record["drop"] = OTHER_IMAGE
            yield where, record


def _csv_rows(table, folder, request):
    """Yield the rows of metadata.csv; image names are relative to `folder`."""
    names = {}  # by file name with and without suffix
    for path in sorted((*folder.glob("images/*"), *folder.glob("*"))):
        if path.suffix.lower() in Image.registered_extensions():
            names[path.stem] = names[path.name] = path.relative_to(folder).as_posix()
    for where, record in source.csv_records(table, ("question", "answer"), IMAGE_COLUMNS, request.say):
        row = {key: record[key] for key in ("question", "answer", *FIELDS) if record.get(key) is not None}
        if request.wants(where, record):
            name = next((record[column] for column in IMAGE_COLUMNS if record.get(column)), None)
            if name is None:
                raise UserError(f"{where}: names no image; fill {' or '.join(IMAGE_COLUMNS)}")
            row["image"] = names.get(name) or _name_inside(folder, name)
            if row["image"] is None:
                missing = f"no image {short(name)} in {folder} or its images/"
                raise UserError(f"{where}: {missing}; add the file or correct the name")
        yield where, row


def _name_inside(folder, name):
    """One spelling of the name of a file below `folder`, or None."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts and (folder / path).is_file()
    return path.as_posix() if inside else None


def read_kvasir_vqa_json(request):
    """Kvasir-VQA as a JSON array or JSONL of rows; CC BY-NC 4.0

    Files that earlier projects made of Kvasir-VQA (https://datasets.simula.no/kvasir-vqa): image_id, image_filename, question,
    answer; source and licence as kvasir-vqa. SRC is the file. The images need not be there yet: their names start from SRC's
    folder, or from --images. Some of these files repeat rows or hold junk: data.check counts that in what --keep-junk writes.
    """
    root = request.images or request.src.parent
    return root, _kvasir_json(request.src, root)


def _kvasir_json(path, root):
    for where, record in source.json_records(require_file(path)):
        name, img_id = record.get("image_filename"), record.get("image_id")
        if not isinstance(name, str) and not isinstance(img_id, str):
            raise UserError(f"{where}: names no image; add image_filename")
        name = slashes(name if isinstance(name, str) else f"{img_id}.jpg")
        row = {key: record[key] for key in ROW_KEYS if record.get(key) is not None}
        row |= {"split": known_split(record["split"], where)} if record.get("split") else {}
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
    return root, _x1_messages(exports, root, request)


def _x1_parquet(paths, request, root):
    required, optional = ("img_id", "question", "answer"), (*FIELDS, "image")
    embedded = source.EmbeddedImages(request.dst)
    first = next(source.parquet_records(paths[0], required, optional), ("", {}))[1]
    has_images = first.get("image") is not None

    def rows():
        for path in paths:
            for where, record in source.parquet_records(path, required, optional):
                img_id, image = source.image_id(record.pop("img_id"), where), record.pop("image", None)
                if not has_images:
                    record["image"] = source.find_image(root, f"images/{img_id}.jpg", f"{img_id}.jpg")
                elif request.wants(where, record):
                    record["image"] = embedded.name(img_id, source.image_bytes(image, where), where)
                    record |= {} if record["image"] else {"drop": OTHER_IMAGE}
                yield where, record | {"split": source.split_in_name(path)}

    return request.dst if has_images else root, rows()


def _x1_messages(paths, root, request):
    for path in paths:
        for where, row in conversation_rows(path, root, request):
            yield where, row | {"split": source.split_in_name(path)}
