"""Cholec80-VQA and SSG-VQA, both of Cholec80's videos: question|answer, one text file a frame."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data.formats import source_files as source
from data.formats.common import official
from files import UserError

# Official splits, by sequence or video; a name in none of them gets no split.
CHOLEC80 = {"val": {5, 11, 12, 17, 19, 26, 27, 31}}
CHOLEC80["train"] = set(range(1, 41)) - CHOLEC80["val"]
SSG = {"val": {1, 18, 31, 35, 48}, "test": {2, 22, 43, 60, 74}}
SSG["train"] = {4, 5, 6, 8, 10, 12, 13, 14, 15, 23, 25, 26, 27, 29, 32, 36, 40, 42, 47, 49, 50, 51, 52, 56, 57, 62, 65,
                66, 68, 70, 73, 75, 78, 79, 80}  # fmt: skip


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
            facts = {"image": image, "group": video, "split": official(CHOLEC80, video)}
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
            facts = {"image": image, "group": video, "split": official(SSG, video)}
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
