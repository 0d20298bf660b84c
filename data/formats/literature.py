"""PathVQA and PMC-VQA: pictures of textbooks and articles."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re

from data.formats import source_files as source
from data.formats.common import embedded_rows, slashes
from data.matching import normalize_answer
from files import UserError

LETTERS = "ABCD"
CHOICES = tuple(f"Choice {letter}" for letter in LETTERS)


def read_path_vqa(request):
    """PathVQA (2020): pathology, 32,799 questions; Parquet; licence MIT (to be checked)

    He et al. 2020, arXiv 2003.10286, https://github.com/UCSD-AI4H/PathVQA, on the Hugging Face hub as flaviagiammarino/path-vqa,
    whose card says MIT (from memory, to be checked). SRC is the folder with data/train-*.parquet, validation-*.parquet and
    test-*.parquet, or one such file: columns image, question, answer. Images are written to DST/images under a name made of their
    content. Official splits by the files' names. Needs pyarrow.
    """
    paths = source.parquet_files(request.src)
    if not paths:
        raise UserError(f"{request.src}: has no *.parquet or data/*.parquet; give the dataset's folder")
    return request.dst, embedded_rows(paths, request)


def read_pmc_vqa(request):
    """PMC-VQA (2023): figures of articles, multiple choice; CSV; CC BY-SA 4.0 (to be checked)

    Zhang et al. 2023, arXiv 2305.10415, on the Hugging Face hub as xmcmic/PMC-VQA (https://huggingface.co/datasets/xmcmic/PMC-VQA);
    licence from memory, to be checked. SRC is a CSV such as train.csv or test_2.csv, or the folder of those: columns Figure_path,
    Question, Answer, Choice A to Choice D (of the second version Answer is a letter). A row has four `options`, without their
    letters, and `answer` is one of their texts. Images are files below --images or SRC's folder, in images/, images_2/ or figures/.
    Official split by the file's name. Rows whose choices repeat or are empty are dropped and counted.
    """
    src = request.src
    paths = [src] if src.is_file() else sorted(src.glob("*.csv"))
    if not paths:
        raise UserError(f"{src}: has no *.csv; give the dataset's folder or train.csv")
    root = request.images or paths[0].parent
    return root, (found for path in paths for found in _pmc_rows(path, root, request))


def _pmc_rows(path, root, request):
    split = source.split_in_name(path)
    for where, record in source.csv_records(path, ("Figure_path", "Question", "Answer", *CHOICES), say=request.say):
        name = slashes(record["Figure_path"].strip())
        options = _without_letters([record[choice].strip() for choice in CHOICES])
        answer = record["Answer"].strip()
        letter = (record.get("Answer_label") or "").strip() or answer
        if letter in ("", *LETTERS):
            answer = options[LETTERS.index(letter)] if letter else None
        texts = {normalize_answer(option) for option in options}
        row = {"image": source.find_image(root, *(f"{folder}{name}" for folder in ("images/", "images_2/", "figures/", "")))}
        row |= {"question": record["Question"].strip(), "answer": answer, "options": options, "split": split}
        yield where, row | ({} if len(texts) == len(options) and "" not in texts else {"drop": "whose choices repeat or are empty"})


def _without_letters(choices):
    """`A:Forceps`, `B. Snare`, … as `Forceps`, `Snare`, …, if every choice carries its own letter."""
    found = [re.fullmatch(rf"\(?{letter}\s*[:.)]\s*(.*)", choice, re.DOTALL) for letter, choice in zip(LETTERS, choices)]
    return [match[1] for match in found] if all(found) else choices
