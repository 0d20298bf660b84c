"""VQA-RAD and SLAKE: Parquet or JSON records."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data.formats import source_files as source
from data.formats.common import check_texts, embedded_rows, known_split
from files import UserError, quoted


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
        return request.dst, embedded_rows(parquet, request)
    names = ("VQA_RAD Dataset Public.json", "rows.jsonl")
    path = src if src.is_file() else next((src / name for name in names if (src / name).is_file()), None)
    if path is None:
        raise UserError(f"{src}: has no data/*.parquet, {' or '.join(names)}; give the dataset's folder")
    root = request.images or path.parent
    return root, _vqa_rad_json(path, root)


def _vqa_rad_json(path, root):
    for where, record in source.json_records(path):
        name, answer = record.get("image", record.get("image_name")), record.get("answer")
        check_texts([name], where, "image")
        phrase_split = "test" if str(record.get("phrase_type")).startswith("test") else "train"
        row = {"image": source.find_image(root, name, f"images/{name}", f"VQA_RAD Image Folder/{name}")}
        row |= {"question": record.get("question"), "answer": answer}
        row |= {"split": known_split(record.get("split", phrase_split), where)}
        facts = {"answer_type": record.get("answer_type"), "source_id": record.get("id", record.get("qid"))}
        facts |= {"question_class": record.get("question_type"), "organ": record.get("image_organ")}
        yield where, row | facts


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
            check_texts([name], where, "img_name")
            if spoken not in ("en", "zh"):
                raise UserError(f"{where}: q_lang is {quoted(spoken)}, not en or zh; correct it")
            row = {"image": source.find_image(root, f"imgs/{name}", name), "split": source.split_in_name(path)}
            row |= {"question": record.get("question"), "answer": record.get("answer"), "language": spoken}
            row |= {"answer_type": record.get("answer_type"), "source_id": record.get("qid"), "question_class": record.get("content_type")}
            row |= {"organ": record.get("location"), "modality": record.get("modality")}
            row |= {"drop": f"in {spoken}"} if language not in (spoken, "all") else {}
            yield where, row
