"""PathVQA and PMC-VQA: splits, and four options without their letters.

python -m pytest tests/data/formats/test_literature.py -v
"""

import pyarrow
import pytest
from data_sets import JPEG, PMC, PNG, converted, error_of, lay, only
from pyarrow import parquet


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (PMC, "a.png,Which tool?,Snare,A:Forceps,B:Snare,C:Clip,D:Needle,B"),
        (PMC, "a.png,Which tool?, B:Snare, A: Forceps, B: Snare, C: Clip, D: Needle,B"),
        ("index," + PMC.removesuffix(",Answer_label"), "0,a.png,Which tool?,B,Forceps,Snare,Clip,Needle"),
    ],
)
def test_pmc_vqa_is_four_options_without_letters(tmp_path, header, line):
    repeated, empty = line.replace("Clip", "Snare"), line.replace("Clip", "")
    src = lay(tmp_path / "src", of={"test.csv": "\n".join([header, line, repeated, empty])}, images=["images/a.png"])
    rows, dropped = converted("pmc-vqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": "images/a.png", "question": "Which tool?", "answer": "Snare", "split": "test",
         "options": ["Forceps", "Snare", "Clip", "Needle"]}
    ]  # fmt: skip
    assert dropped == {"whose choices repeat or are empty": 2}


def test_path_vqa_has_official_splits(tmp_path):
    for name, data in (("train", PNG), ("validation", JPEG), ("test", PNG)):
        row = {"image": {"bytes": data, "path": None}, "question": "is it liver?", "answer": "yes"}
        (tmp_path / "src" / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "src" / "data" / f"{name}-00000-of-00001.parquet")
    rows, _ = converted("path-vqa", tmp_path / "src", tmp_path / "dst")
    assert only(rows, "split", "answer") == [("test", "yes"), ("train", "yes"), ("val", "yes")] and len({row["image"] for row in rows}) == 2


LINE = "a.png,Which tool?,Snare,A:Forceps,B:Snare,C:Clip,D:Needle,B"
BROKEN = {
    "a field missing": ("pmc-vqa", {"train.csv": f"{PMC}\n{LINE}\na.png,Which tool?\n"},
                        "/train.csv:3: has 2 fields, not the header's 8"),
    "a column missing": ("pmc-vqa", {"train.csv": PMC.replace("Choice D", "D") + "\n"},
                         "/train.csv: has no column Choice D; found Figure_path, Question, Answer, Choice A, Choice B, Choice C, D, "
                         "Answer_label"),
    "no table": ("pmc-vqa", {"a.txt": []}, ": has no *.csv; give the dataset's folder or train.csv"),
    "no Parquet": ("path-vqa", {"a.txt": []}, ": has no *.parquet or data/*.parquet; give the dataset's folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC{message}"


@pytest.mark.parametrize("folder", ["images/", "images_2/", "figures/", ""])
def test_figures_of_pmc_vqa_lie_in_one_of_its_folders(tmp_path, folder):
    src = lay(tmp_path / "src", of={"train.csv": f"{PMC}\n{LINE}\n"}, images=[f"{folder}a.png"])
    rows, _ = converted("pmc-vqa", src / "train.csv", tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": f"{folder}a.png", "question": "Which tool?", "answer": "Snare",
         "options": ["Forceps", "Snare", "Clip", "Needle"], "split": "train"}
    ]  # fmt: skip


def test_an_answer_of_pmc_vqa_that_is_empty_is_no_choice(tmp_path):
    header, choices = PMC.removesuffix(",Answer_label"), "A:Forceps,B:Snare,C:Clip,D:Needle"
    src = lay(tmp_path / "src", of={"train.csv": f"{header}\na.png,Which?,,{choices}\nb.png,Which?,D,{choices}\n"})
    rows, dropped = converted("pmc-vqa", src, tmp_path / "dst")
    assert only(rows, "id", "image", "answer") == [("1", "images/b.png", "Needle")] and dropped == {"without an answer": 1}


@pytest.mark.parametrize(
    ("answer", "label", "read"), [("Snare", "", "Snare"), ("Snare", "C", "Clip"), ("E", "", "E"), ("Snare", "E", "Snare")]
)
def test_an_answer_of_pmc_vqa_is_the_choice_of_its_letter_and_a_letter_of_none_is_text(tmp_path, answer, label, read):
    line = f"a.png,Which?,{answer},A:Forceps,B:Snare,C:Clip,D:Needle,{label}"
    src = lay(tmp_path / "src", of={"train.csv": f"{PMC.removesuffix(',Answer_label')},Answer_label\n{line}\n"})
    assert only(converted("pmc-vqa", src, tmp_path / "dst")[0], "answer") == [(read,)]
