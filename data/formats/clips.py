"""SurgVU and REAL-Colon-VQA: video clips, one row for the middle frame or, with --frames N, for several."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data.formats import source_files as source
from data.formats.common import check_texts
from data.image_names import evenly
from files import UserError

REAL_COLON_FILES = ("in_template.jsonl", "annotations/in_template.jsonl")


def read_surgvu(request):
    """SurgVU (2025): robotic clips, five references each; CC BY-NC-SA 4.0 (to be checked)

    Category 2 of https://surgvu25.grand-challenge.org; licence from memory, to be checked. SRC holds
    caseN/caseN_question.json (a JSON string), caseN/caseN.json (a list of references) and the 30 s clip's frames as
    caseN/*.jpg or *.png, taken from the video beforehand (data/frames.py). One row a clip, for its middle frame in name
    order (of an even number, the later of the two), with --frames N for N of them, evenly spaced: `answer` is the first
    reference, `answers` are all. No official split; group: the case.
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
            check_texts(answers, where, "the references")
            images = _images(evenly(_frames(root, path.parent.relative_to(folder)), request.frames))
            yield f"{path}:1", images | {"question": question, "answer": answers[0], "answers": answers, "group": case}

    return root, rows()


def _frames(root, folder):
    """The names of a clip's frames below `root`, in reading order."""
    paths = (root / folder).iterdir() if (root / folder).is_dir() else ()
    frames = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not frames:
        raise UserError(f"{root / folder}: has no frames; take some from the video, as .jpg")
    return [path.relative_to(root).as_posix() for path in sorted(frames, key=source.natural)]


def _images(names):
    """The fields of a row about one picture, or several in order."""
    return {"image": names[0], **({"images": names} if len(names) > 1 else {})}


def read_real_colon_vqa(request):
    """REAL-Colon-VQA (2025): colonoscopy clips, short and long answers; no licence stated

    Drago et al. 2025, arXiv 2511.03325, https://github.com/madratak/SurgViVQA. SRC is in_template.jsonl (or
    out_template.jsonl, the same questions rephrased), or a folder that has it, itself or in annotations/. Images are
    videos/VIDEO_frames/FRAME.jpg beside annotations/ (to be checked) or below --images. One row a clip, for its middle
    frame, the fifth of eight; with --frames N for N of them, evenly spaced. `answer` is short_answer (with --answers
    long: answer), `answers` are both, that one first. The source's `id` isn't unique: kept as source_id. No official
    split; group: the video.
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
        check_texts(frames, where, "frames")
        check_texts([video], where, "video_id")
        question, answers = record.get("question"), [record.get("short_answer"), record.get("answer")]
        check_texts(answers, where, "short_answer and answer")
        answers = answers if request.answers == "short" else answers[::-1]
        places = (f"videos/{video}_frames/", f"{video}_frames/", "")
        shown = evenly(frames, request.frames)
        images = _images([source.find_image(root, *(f"{place}{frame}.jpg" for place in places)) for frame in shown])
        row = images | {"question": question, "answer": answers[0], "answers": answers, "group": video}
        yield where, row | {"question_class": record.get("question_type"), "source_id": record.get("id")}
