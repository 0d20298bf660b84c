"""Which spellings mean the same: templates of questions, labels, and labels where another one occurs.

python -m pytest tests/data/test_aliases.py -v
"""

import runpy
import shutil

import pytest
from data_sets import ask, enriched, rows_of

from data import aliases
from data.aliases import fold_label, question_template, spellings_where_seen, strip_prefix
from data.answer_space import mine


@pytest.mark.parametrize(
    "question",
    [
        "Is there text", "is there  TEXT?", " Is there text ? ", "[Stage-2] Is there text?",
        "[Stage-1: finding] Is there text?",
        "[phase 1][Stage 3]Is there text?!", "“Is there text?”", "Is there, text.",
    ],
)  # fmt: skip
def test_template_folds_case_spacing_punctuation_and_prefix(question):
    assert question_template(question) == question_template("Is there text?") == "is there text"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is it <5mm?", "Is it >5mm?"), ("Is it 1.5 cm?", "Is it 15 cm?"), ("Is it 5-10 mm?", "Is it 510 mm?"),
        ("Is there text?", "Is there no text?"), ("[A]", "[B]"), ("?", "!"),
    ],
)  # fmt: skip
def test_template_keeps_what_has_meaning(one, other):
    assert question_template(one) != question_template(other) and question_template(one)


def test_template_folds_misspelt_words_of_the_table_and_only_whole_words():
    assert question_template("How many instrumnets are in the image?") == question_template("How many instruments are in the image?")
    assert [question_template(word) for word in ("Artifacts?", "Nonartifact!")] == ["artifacts", "nonartifact"], "words, not letters"
    assert question_template("Is it grade 2, or 3? (1.5, no more)") == "is it grade 2 or 3 1.5 no more"


def test_questions_in_another_width_ask_the_same():
    assert question_template("Ｗｈｅｒｅ？") == question_template("where?")


def test_bounds_without_unit_fold_only_where_the_other_spelling_occurs():
    space = mine(rows_of("What size?", {">20mm": 30, ">20": 3, "none": 3}) + rows_of("What score?", {">20": 30, "none": 3}))
    assert ask(space, "What size?", ">20")["answer"] == ">20mm" and ask(space, "What score?", ">20")["answer"] == ">20"
    assert ask(space, "What size?")["answer_candidates"] == [">20mm", "none"]
    assert ask(space, "What score?")["answer_candidates"] == [">20", "none"]
    assert space["found"]["folded"] == {">20 → >20mm": 3}


def test_the_alias_table_is_data(monkeypatch):
    monkeypatch.setitem(aliases.ALIASES["labels"], "oesophagus", "esophagus")
    assert enriched("Which organ?", {"oesophagus": 40, "colon": 9})["answer_candidates"] == ["colon", "esophagus"]


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("[Stage-2] Is it?", "Is it?"), (" [a][b]  Is it?", "Is it?"), ("Is it [here]?", "Is it [here]?"), ("[A]", "[A]"),
        ("Is it?", "Is it?"), (f"[{'x' * 40}] q", "q"), (f"[{'x' * 41}] q", f"[{'x' * 41}] q"),
    ],
)  # fmt: skip
def test_a_prefix_in_brackets_goes_where_a_question_follows(question, left):
    assert strip_prefix(question) == left


def test_a_label_is_folded_by_its_question_first_and_else_by_the_table():
    own = spellings_where_seen({">20mm", "none", "5-10"})
    assert own == {">20": ">20mm"} and spellings_where_seen(set()) == {}
    assert [fold_label(label, own) for label in (">20", "<5", "lower-rigth", "none")] == [">20mm", "<5", "lower-right", "none"]
    assert fold_label(">20", {}) == ">20" and fold_label("gray", {"gray": "ashen"}) == "ashen"


def test_without_the_table_nothing_is_folded(tmp_path):
    code = runpy.run_path(shutil.copy(aliases.__file__, tmp_path))
    assert code["question_template"]("[Stage-1] What colour, ARTIFACTS?") == "what colour artifacts"
    assert code["fold_label"]("gray", code["spellings_where_seen"]({">20mm"})) == "gray"
