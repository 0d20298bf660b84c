"""What an adapter depends on is what the rules do to the questions of its training.

python -m pytest tests/data/test_asked.py -v
"""

import importlib.util
import json

import pytest
from conftest import ROOT

from data import asked, preprocess, schema
from data.asked import MOST, asked_questions, load, rules_verdict
from data.preprocess import answer_rules
from data.rules import Reading
from files import UserError, hash_of

ROWS = [
    {"question": "Is there a polyp?"},
    {"question": "What color is it?"},
    {"question": "[Stage-1] How many polyps are there?"},
    {"question": "Which one?", "options": ["Snare", "Loop"]},
]
SPACE = {"mode": "mined", "questions": {}}


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """Use data/schema.py with a change of its text."""
    text = (ROOT / "data" / "schema.py").read_text()

    def edit(old, new):
        assert old in text
        path = tmp_path / "schema.py"
        path.write_text(text.replace(old, new, 1))
        spec = importlib.util.spec_from_file_location("edited", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for user in (asked, preprocess):
            monkeypatch.setattr(user, "schema", module)

    return edit


def test_questions_are_kept_once_with_whether_they_have_options():
    assert asked_questions(ROWS + ROWS, 1) == sorted([row["question"], "options" in row] for row in ROWS)
    assert asked_questions([], 2) == []
    many = [{"question": f"Is it {number}?"} for number in range(2 * MOST + 1)]
    evenly = [[text, False] for text in sorted(row["question"] for row in many)[::3]]
    assert len(evenly) <= MOST and asked_questions(many, 1) == asked_questions(many[::-1], 1) == evenly


def test_a_question_of_few_patients_or_with_a_name_in_it_is_not_kept():
    """`P1` and `p1 ` are one patient; pictures count where no patient is named, and those of one clip are one."""
    asked_of = {
        "Is Kowalczyk's lesion flat?": [{"group": "P1"}, {"group": "p1 "}],
        "Is Dr. Huber's clip there?": [{"group": "P1"}, {"group": "P2"}],
        "Is it flat?": [{"group": "P1"}, {"group": 2}],
        "Is it red?": [{"image": "a.png"}, {"image": "b.png"}],
        "Is it blue?": [{"image": "c.png", "images": ["c.png", "d.png"]}, {"image": "d.png"}],
        "[Meier] Is it flat?": [{"group": "P1"}],
    }
    rows = [{"question": question, "image": "x.png", **row} for question, found in asked_of.items() for row in found]
    assert asked_questions(rows, 2) == [["Is it flat?", False], ["Is it red?", False]]
    assert len(asked_questions(rows, 1)) == 5, "Dr. Huber stays out"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# The order of the evaluation table.", "# An edited comment."),
        ('"""Return the type of a question (str)', '"""Say the type of a question (str)'),
        ("text = question.lower().strip()", "text = question.strip().lower()"),
        ("    if options:", '    if "biopsy" in text:\n        return "biopsy"\n    if options:'),  # a type that no question has
    ],
)
def test_how_the_rules_are_spelt_does_not_count(edited, old, new):
    questions = asked_questions(ROWS, 1)
    before = answer_rules(SPACE, questions)
    edited(old, new)
    after = answer_rules(SPACE, questions)
    assert after["rules"] == before["rules"] and after["schema"] != before["schema"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"pink", "red"', '"red"'),
        ('return ["yes", "no"]', 'return ["no", "yes"]'),
        ('"how many" in text', '"how much" in text'),
        ('return sample.get("options") or None', "return None"),
        (
            "    if options:",
            '    if text.startswith("how"):\n        return "open_ended"\n    if options:',
        ),  # without its prefix
    ],
)
def test_what_the_rules_say_of_a_training_question_counts(edited, old, new):
    before = rules_verdict(asked_questions(ROWS, 1))
    edited(old, new)
    assert rules_verdict(asked_questions(ROWS, 1)) != before


def test_the_words_verdict_is_of_each_question_without_options():
    said = [["Does it bleed?", "yes_no", ["ja", "nein"]], ["What color is it?", "color", schema.COLOR_VOCAB]]
    reading = Reading(yes_no_forms={"does": ("ja", "nein")})
    questions = [["Does it bleed?", False], ["Which one?", True], ["What color is it?", False]]
    assert asked.words_verdict(questions, reading) == hash_of(said)


def test_a_users_type_sees_the_question_as_it_is_and_built_in_ones_without_its_prefix(edited):
    """A type for `[Stage-1]` questions is one, though the rules strip that prefix for the built-in types."""
    before = rules_verdict(asked_questions(ROWS, 1))
    edited("    if options:", '    if "stage-1" in text:\n        return "first"\n    if options:')
    assert rules_verdict(asked_questions(ROWS, 1)) != before


def test_without_questions_the_file_itself_counts(tmp_path):
    """Adapters of older code have none."""
    assert load(tmp_path) == []
    rules = answer_rules(SPACE)
    assert rules["rules"] == rules["schema"] == preprocess.sha256(schema.__file__)
    (tmp_path / "questions.json").write_text(json.dumps([["Is it?", False]]))
    assert load(tmp_path) == [["Is it?", False]]


@pytest.mark.parametrize("text", ["{}", "[3]", '[["Is it?"]]', '[["Is it?", 1]]', "[[3, true]]", '[["a", true, 1]]'])
def test_questions_that_no_training_wrote_are_refused(tmp_path, text):
    (tmp_path / "questions.json").write_text(text)
    with pytest.raises(UserError, match="questions.json: is not the list of questions that training wrote; copy the adapter again"):
        load(tmp_path)
