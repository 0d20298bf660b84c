"""PSI-AVA-VQA: one Unicode form, and the tasks of the official evaluation.

python -m pytest tests/data/formats/test_psi_ava.py -v
"""

import pytest
from data_sets import converted, error_of, lay


def test_psi_ava_vqa_in_one_unicode_form(tmp_path):
    decomposed = "CASE018/00245.png|What is the current phase?|Vesi\u0301culas_Seminales"
    of = {
        "Train/C3_phase.txt": [decomposed],
        "Train/C2_action.txt": ["CASE018/00245.png|What is the action?|Cut"],
        "Val/C1_location.txt": ["k.png|Where is the tool?|top left"],
    }
    src = lay(tmp_path / "src", of=of, images=["keyframes/CASE018/00245.png"])
    rows, dropped = converted("psi-ava-vqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "1", "image": "keyframes/CASE018/00245.png", "question": "What is the current phase?",
         "answer": "Vesículas_Seminales", "group": "CASE018", "split": "train", "category": "C3_phase"},
        {"id": "2", "image": "keyframes/k.png", "question": "Where is the tool?", "answer": "top left", "split": "val",
         "category": "C1_location"},
    ]  # fmt: skip
    assert dropped == {"of C2_action, which the official evaluation leaves out": 1}


BROKEN = {
    "no frame": ("psi-ava-vqa", {"Val/C4_step.txt": ["f.png|q|a", "What is the step?|Corte"]},
                 "Val/C4_step.txt:2: has 2 fields, not frame|question|answer; correct or delete the line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"
