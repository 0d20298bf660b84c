"""One question from the terminal: its candidates, its answer as bars, and what it needs.

python -m pytest tests/prediction/test_ask.py -v
"""

from math import log

import pytest
from conftest import random_model
from PIL import Image
from test_run import SURE

from config import DataConfig, load_config
from data import answer_space
from data.preprocess import training_space
from files import UserError
from prediction.ask import answer_one, describe, named_images, question_row, read_line, split_candidates
from prediction.decode import Answer


def test_bars_are_as_long_as_probabilities():
    bars = ["no    75.0%  " + "█" * 22, "yes   25.0%  " + "█" * 8]
    mass = "unconstrained, the model says one of them with probability 80.0%"
    assert describe(SURE, {"question_type": "yes_no"}, 0.75).splitlines() == [*bars, mass], "no more than a file's row, which is rounded"
    unsure = "abstained: less sure than predict.min_confidence=0.9"
    assert describe(SURE, {"question_type": "yes_no"}, 0.9).splitlines() == [*bars, unsure, mass]


def test_ten_candidates_have_bars_and_the_others_are_summed():
    shares = [0.3, *[0.07] * 9, 0.04, 0.03]
    answer = Answer("a", "exact", log(0.3), scored=tuple((letter, log(share)) for letter, share in zip("abcdefghijkl", shares)))
    lines = describe(answer, {"question_type": "mcq"}).splitlines()
    assert [line[0] for line in lines[:10]] == list("abcdefghij") and lines[10] == "2 more: 7.0%"
    assert lines[11:] == ["unconstrained, the model says one of them with probability 100.0%"]


def test_a_known_question_has_the_mined_candidates(experiment):
    cfg, rows = experiment
    space = training_space(cfg, say=lambda line: None)
    known = next(row for row in rows if row["answer_candidates"])
    row = question_row(space, ["x.png"], known["question"])
    assert row["answer_candidates"] == known["answer_candidates"] == answer_space.apply(space, known)["answer_candidates"]
    assert not answer_space.says_more_than_the_rules(space, known["question"])
    other = next(row for row in rows if not row["answer_candidates"])
    assert answer_space.says_more_than_the_rules(space, other["question"]) and not answer_space.says_more_than_the_rules(
        space, "Is it raining?"
    )
    assert question_row(space, ["x.png"], known["question"], split_candidates("A, b,, a"))["answer_candidates"] == ["a", "b"]
    with pytest.raises(UserError, match="candidates ' , .': there is no answer in it"):
        split_candidates(" , .")


@pytest.fixture
def colors():
    """An answer space that knows one question, whose answers are lists of labels."""
    rows = [{"question": "What color?", "answer": "pink; red", "image": f"{number}.png", "id": str(number)} for number in range(40)]
    return answer_space.mine(rows, DataConfig())


def test_of_given_candidates_one_is_the_answer_also_where_the_mined_ones_make_lists(colors):
    mined = question_row(colors, ["x.png"], "What color?")
    assert (mined["answer_candidates"], mined["multi_label"]) == (["pink", "red"], True)
    given = question_row(colors, ["x.png"], "What color?", ["red", "blue"])
    assert (given["answer_candidates"], given["multi_label"]) == (["red", "blue"], False)


def test_one_question_is_scored_over_all_lists_where_a_split_takes_beams(experiment, processor, colors):
    cfg = experiment[0].model_copy(update={"predict": experiment[0].predict.model_copy(update={"exact_sets": 1})})
    image = str(cfg.data.image_root / "0.png")
    answer, _ = answer_one(random_model(processor), processor, cfg, colors, [image], "What color?", None, 4)
    assert sorted(text for text, _ in answer.probabilities()) == ["pink", "pink; red", "red"]
    assert sum(share for _, share in answer.probabilities()) == pytest.approx(1)


def test_a_question_needs_an_image(experiment):
    with pytest.raises(UserError, match="there is no image to ask about"):
        answer_one(None, None, experiment[0], {}, None, "Is it?", None, 4)


def test_a_line_names_one_image_whose_name_may_hold_spaces_or_several_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "a b.png", "Meier's.png"):
        Image.new("RGB", (56, 56)).save(name)
    (tmp_path / "c.png").write_text("no picture")
    names = lambda text: [path.name for path in named_images(load_config(), text, "/image")]
    assert names("a.png") == ["a.png"] and names("a b.png") == ["a b.png"] and names("Meier's.png") == ["Meier's.png"]
    assert names("b.png a.png b.png") == ["b.png", "a.png", "b.png"] and names('"a b.png" a.png') == ["a b.png", "a.png"]
    assert names('"a b.png"') == ["a b.png"] and names("a\\ b.png") == ["a b.png"], "as a terminal completes it"
    for text, said in (
        ("gone.png", "^/image gone.png: there is no such file"),
        ("a.png gone.png", "^/image gone.png: there is no such file"),
        ("Müller's.png", "^/image Müller's.png: there is no such file"),
        ("c.png", "c.png"),
        ("", "^/image : there is no such file"),
    ):
        with pytest.raises(UserError, match=said):
            names(text)


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_input_ends_the_questions_on_a_line_of_its_own(monkeypatch, capsys, end):
    def ends(prompt):
        raise end

    monkeypatch.setattr("builtins.input", ends)
    assert read_line() == "" and capsys.readouterr().out == "\n"
    monkeypatch.setattr("builtins.input", lambda prompt: "  Is it? ")
    assert read_line() == "Is it?"
