"""PitVQA: question|answer, one text file a frame."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from pathlib import Path

from data.formats import source_files as source
from data.formats.common import official
from files import UserError

# Official splits, by sequence or video; a name in none of them gets no split.
PITVQA = {"val": {2, 6, 12, 13, 24}}
PITVQA["train"] = set(range(1, 26)) - PITVQA["val"]


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
            facts = {"image": image, "group": video, "split": official(PITVQA, video)}
            for where, (question, answer) in source.bar_lines(path, "question|answer"):
                left_out = answer in ("no_visible_instrument", "no_secondary_instrument")
                junk = {"junk": f"answered {answer}"} if left_out else {}
                yield where, {"question": question, "answer": answer, **facts, **junk}

    return root, rows()
