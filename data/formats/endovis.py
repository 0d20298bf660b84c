"""EndoVis-18 and EndoVis-17: question|answer, one text file a frame, and conversations about both."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re

from data.formats import source_files as source
from data.formats.common import official, require_file
from data.formats.conversations import conversation_rows
from files import UserError, short

# Official splits, by sequence or video; a name in none of them gets no split.
ENDOVIS_18 = {"train": {2, 3, 4, 6, 7, 9, 10, 11, 12, 14, 15}, "val": {1, 5, 16}}


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
    return {"image": source.find_image(root, *names), "group": sequence, "split": official(ENDOVIS_18, sequence)}


def _endovis_17(image):
    return {"image": image, "group": "endovis17_" + image.split("/")[-1].split("_")[0], "split": "test"}


def _box(text, where):
    box = source.numbers(text, 4, where, "the box")
    if box[0] > box[2] or box[1] > box[3]:
        raise UserError(f"{where}: the box {short(text)} ends before it starts; correct or delete the line")
    return box


def read_endovis_single_phrase(request):
    """EndoVis-17/18 as one JSON of conversations with paths of these data sets; CC BY-NC-SA 4.0 (to be checked)

    A JSON array of {"conversations": [human, gpt], "image": path} made by an earlier project, whose paths hold EndoVis-18…/seq_N/
    or EndoVis-17; for any other conversations take the format conversations. Licence believed to be that of the EndoVis images
    (https://endovissub2018-roboticscenesegmentation.grand-challenge.org), CC BY-NC-SA 4.0, to be checked. SRC is the file.
    Back-slashes in image paths become slashes, and the instruction glued to each question, "Answer the question with a single
    phrase.", goes. The images need not be there yet: their names start from SRC's folder, or from --images. Splits and groups as
    endovis-vqla gives them.
    """
    root = request.images or request.src.parent
    return root, _single_phrase_rows(require_file(request.src), root, request)


def _single_phrase_rows(path, root, request):
    for where, row in conversation_rows(path, root, request):
        question = re.sub(r"\s*Answer the question with a single phrase\.\s*$", "", row["question"])
        image = row.get("image", "")
        sequence = re.search(r"EndoVis-18.*/(seq_\d+)/", image)
        if image and not sequence and "EndoVis-17" not in image:
            raise UserError(f"{where}: image {short(image)} is neither of EndoVis-18, seq_N/, nor of EndoVis-17, which this format is for")
        facts = {"group": sequence[1], "split": official(ENDOVIS_18, sequence[1])} if sequence else _endovis_17(image)
        yield where, {**row, "question": question, **facts, "image": image}
