"""The rules: types in their order, candidates from question and options alone, and a type that a user adds.

python -m pytest tests/data/test_schema.py -v
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.schema import COLOR_VOCAB, QUESTION_TYPES, build_candidates, infer_question_type

ROOT = Path(__file__).resolve().parents[2]
COLORS = ["pink", "red", "white", "yellow", "flesh", "orange", "brown", "black", "blue", "green", "grey", "purple"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is there a polyp?", "yes_no"),
        ("ARE THERE ANY POLYPS?", "yes_no"),
        ("Was it removed, yes or no?", "yes_no"),
        ("Island of mucosa seen where?", "open_ended"),
        ("Area of the lesion?", "open_ended"),
        ("What color is the abnormality?", "color"),
        ("Which Colour has the mucosa?", "color"),
        ("What is the size of the polyp?", "size_numeric"),
        ("Length of the segment?", "size_numeric"),
        ("Diameter?", "size_numeric"),
        ("How many polyps are in the image?", "count_numeric"),
        ("Give the count of instruments", "count_numeric"),
        ("Choose the landmark", "mcq"),
        ("Which of the options holds?", "mcq"),
        ("MCQ: which organ?", "mcq"),
        ("Where in the image is the abnormality?", "open_ended"),
        ("", "open_ended"),
    ],
)
def test_each_rule(question, expected):
    assert infer_question_type(question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is the color red?", "yes_no"),
        ("What color is it, yes or no?", "yes_no"),
        ("What color has a polyp of this size?", "color"),
        ("How many colors are there?", "color"),
        ("How many polyps of this size?", "size_numeric"),
        ("Choose how many polyps", "count_numeric"),
        ("Choose the diameter", "size_numeric"),
    ],
)
def test_rules_apply_in_the_issue_s_order(question, expected):
    assert infer_question_type(question) == expected


@given(st.text(), st.lists(st.text(), min_size=1))
def test_options_make_any_question_multiple_choice(question, options):
    assert infer_question_type(question, options) == infer_question_type(question=question, options=options) == "mcq"
    assert build_candidates("mcq", {"question": question, "options": options}) == options
    assert infer_question_type(question, []) == infer_question_type(question, None) == infer_question_type(question)


def test_candidates_of_each_type():
    assert COLOR_VOCAB == COLORS
    assert QUESTION_TYPES == ["yes_no", "color", "count_numeric", "size_numeric", "mcq", "open_ended"]
    sample = {"question": "q", "answer": "maybe"}
    expected = {"yes_no": ["yes", "no"], "color": COLORS}
    for question_type in QUESTION_TYPES:
        assert build_candidates(question_type, sample) == expected.get(question_type)


@given(st.sampled_from(QUESTION_TYPES), st.none() | st.text(), st.none() | st.lists(st.text(), min_size=1))
def test_an_answer_never_decides_candidates(question_type, answer, options):
    row = {"question": "q", **({"options": options} if options else {})}
    assert build_candidates(question_type, {**row, "answer": answer}) == build_candidates(question_type, row)


def test_counts_of_the_real_validation_file(shared):
    lines = (shared / "real-data" / "kvasir_vqa" / "val.jsonl").read_text(encoding="utf-8").splitlines()
    found = Counter(infer_question_type(json.loads(line)["question"]) for line in lines)
    assert found == {"yes_no": 3012, "color": 475, "count_numeric": 1512, "size_numeric": 476, "open_ended": 3311}


# --- a type that a user adds, as the README shows ---

TYPE_LINES = '    if "instrument" in question.lower():\n        return "instrument_type"\n'
CANDIDATE_LINES = '    if question_type == "instrument_type":\n        return ["forceps", "scissors", "grasper", "scalpel"]\n'


def insert_at_the_top(source, function, lines):
    """Put lines between a function's docstring and its code."""
    start = source.index('"""\n', source.index('"""', source.index(f"def {function}(")) + 3) + 4
    return source[:start] + lines + source[start:]


def copy_with_instrument_type(folder):
    (folder / "data" / "languages").mkdir(parents=True)
    for path in (path for pattern in ("*.py", "*.yaml", "data/*.py", "data/*.yaml", "data/languages/*") for path in ROOT.glob(pattern)):
        shutil.copy(path, folder / path.relative_to(ROOT))
    schema = folder / "data" / "schema.py"
    source = insert_at_the_top(schema.read_text(), "infer_question_type", TYPE_LINES)
    schema.write_text(insert_at_the_top(source, "build_candidates", CANDIDATE_LINES))


@pytest.mark.parametrize("command", [["-m", "data.preprocess"], ["data/preprocess.py"]])
def test_a_custom_type_needs_the_two_functions_and_nothing_else(tmp_path, command):
    copy_with_instrument_type(tmp_path / "copy")
    rows = [
        {"question": "Which Instrument is used?", "answer": "Grasper", "image": "a.jpg"},
        {"question": "Is an instrument in view?", "answer": "scalpel.", "image": "a.jpg"},
        {"question": "Is there a polyp?", "answer": "yes", "image": "a.jpg"},
        {"question": "Which instruments are held?", "answer": "forceps; scissors", "image": "a.jpg"},
    ]
    rows += [{**row, "image": "b.jpg"} for row in rows]  # what one picture alone was asked, a space doesn't name
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--src", str(tmp_path / "rows.jsonl"), "--dst", str(tmp_path / "enriched.jsonl")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=tmp_path / "copy",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    enriched = [json.loads(line) for line in (tmp_path / "enriched.jsonl").read_text().splitlines()]
    candidates = ["forceps", "scissors", "grasper", "scalpel"]
    assert [(row["question_type"], row["answer_candidates"], row["answer"]) for row in enriched] == 2 * [
        ("instrument_type", candidates, "grasper"),
        ("instrument_type", candidates, "scalpel"),
        ("yes_no", ["yes", "no"], "yes"),
        ("instrument_type", None, "forceps; scissors"),  # a training answer outside the candidates
    ]
    assert "(yes_no 2, instrument_type 6)" in done.stdout, "custom types come after the built-in ones"
