"""PathVQA and PMC-VQA: splits, and four options without their letters.

python -m pytest tests/data/formats/test_literature.py -v
"""

import pyarrow
import pytest
from data_sets import JPEG, PMC, PNG, converted, lay, only
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
    repeated = line.replace("Clip", "Snare")
    src = lay(tmp_path / "src", of={"test.csv": "\n".join([header, line, repeated])}, images=["images/a.png"])
    rows, dropped = converted("pmc-vqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": "images/a.png", "question": "Which tool?", "answer": "Snare", "split": "test",
         "options": ["Forceps", "Snare", "Clip", "Needle"]}
    ]  # fmt: skip
    assert dropped == {"whose choices repeat or are empty": 1}


def test_path_vqa_has_official_splits(tmp_path):
    for name, data in (("train", PNG), ("validation", JPEG), ("test", PNG)):
        row = {"image": {"bytes": data, "path": None}, "question": "is it liver?", "answer": "yes"}
        (tmp_path / "src" / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "src" / "data" / f"{name}-00000-of-00001.parquet")
    rows, _ = converted("path-vqa", tmp_path / "src", tmp_path / "dst")
    assert only(rows, "split", "answer") == [("test", "yes"), ("train", "yes"), ("val", "yes")] and len({row["image"] for row in rows}) == 2
