"""One question from the terminal: its candidates, its answer as bars, and what it needs.

python -m pytest tests/prediction/test_ask.py -v
"""

from math import log
from types import SimpleNamespace

import pytest
from conftest import random_model
from PIL import Image
from test_run import SURE

from config import DataConfig, PredictConfig, load_config
from data import answer_space
from data.preprocess import training_space
from files import UserError
from prediction.ask import HELP, answer_one, ask, describe, named_images, question_row, read_line, split_candidates
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
    bars = ["a   30.0%  █████████", *(f"{letter}    7.0%  ██" for letter in "bcdefghij")]
    mass = "unconstrained, the model says one of them with probability 100.0%"
    assert describe(answer, {"question_type": "mcq"}).splitlines() == [*bars, "2 more: 7.0%", mass]
    sure = Answer("no", "exact", log(0.99), scored=(("no", log(0.99)), ("no text", log(0.01))))
    assert describe(sure, {}).splitlines()[:2] == ["no        99.0%  " + "█" * 30, "no text    1.0%"], "nothing after a bar of no length"


def test_an_answer_without_candidates_scores_says_what_is_known():
    sure, note = "  (the model says just this with probability 25.0%)", "\nanswered freely: open_ended, no valid answers are known; "
    row, closed = ({"question_type": "open_ended", "answer_candidates": some} for some in (None, ["a", "b"]))
    assert describe(Answer("well", "free", log(0.25)), row) == f"well{sure}{note}--candidates gives some"
    assert describe(Answer("well and", "free", log(0.25), cut=True), closed) == f"well and{sure} …"
    assert describe(Answer("7mm", "beam", log(0.25)), row) == f"7mm{sure}", "a number's grammar"
    assert describe(Answer("a; b", "beam", log(0.25)), closed) == f"a; b{sure}" and describe(Answer("ba", "allowed_set"), closed) == "ba"


def test_a_known_question_has_the_mined_candidates(experiment):
    cfg, rows = experiment
    space = training_space(cfg, say=lambda line: None)
    known = next(row for row in rows if row["answer_candidates"])
    row = question_row(space, ["x.png"], known["question"])
    assert row["answer_candidates"] == known["answer_candidates"] == answer_space.apply(space, known)["answer_candidates"]
    assert "images" not in row and question_row(space, ["x.png", "y.png"], known["question"])["images"] == ["x.png", "y.png"]
    assert not answer_space.says_more_than_the_rules(space, known["question"])
    other = next(row for row in rows if not row["answer_candidates"])
    assert answer_space.says_more_than_the_rules(space, other["question"]) and not answer_space.says_more_than_the_rules(
        space, "Is it raining?"
    )
    assert question_row(space, ["x.png"], known["question"], split_candidates("A, b,, a"))["answer_candidates"] == ["a", "b"]
    assert split_candidates(None) == split_candidates("") == split_candidates("  ") == []
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


@pytest.mark.parametrize("of_a_split, of_one", [(1, 1024), (3, 1)])
def test_one_question_is_scored_over_all_lists_where_a_split_takes_beams(experiment, processor, colors, monkeypatch, of_a_split, of_one):
    """And over no fewer than a split's is."""
    monkeypatch.setattr("prediction.ask.EXACT_SETS", of_one)
    cfg = experiment[0].model_copy(update={"predict": experiment[0].predict.model_copy(update={"exact_sets": of_a_split})})
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
    monkeypatch.setattr("builtins.input", lambda prompt: f"  {prompt}Is it? ")
    assert read_line() == "> Is it?"


def test_a_conversation_is_read_to_the_letter(experiment, processor, model, colors, monkeypatch, capsys):
    """Of three images two are read; what is asked, and what is changed in between, is answered as `answer_one` does it alone."""
    values = {"data": {"max_frames": 2}, "predict": {"min_confidence": 0.999}}
    cfg = experiment[0].model_copy(update={name: getattr(experiment[0], name).model_copy(update=some) for name, some in values.items()})
    clip, one = ([str(cfg.data.image_root / f"{number}.png") for number in numbers] for numbers in ((0, 1, 2), (3,)))
    thinned = "note: 1 of 1 rows have more images than data.max_frames=2 (up to 3); so many are read, evenly spaced, the first and the "
    thinned += "last among them"
    by_rules = "valid answers: those of yes_no in data/schema.py; training answers to this question add nothing"
    said = lambda *about: describe(*answer_one(model, processor, cfg, colors, *about, 4), 0.999)
    begin = lambda **given: ask(model, processor, cfg, colors, SimpleNamespace(**given), 4)
    conversation = [
        ("What color?", said(clip, "What color?", None)),
        ("Is there text?", f"{said(clip, 'Is there text?', None)}\n{by_rules}"),
        ("/candidates Snare, forceps", ""),
        ("Is there text?", said(clip, "Is there text?", ["snare", "forceps"])),
        (f"/image  {one[0]} ", ""),
        ("Why?", said(one, "Why?", ["snare", "forceps"])),
        ("/candidates", ""),
        ("Why?", said(one, "Why?", None)),
        (f"/image {' '.join(clip)}", thinned),
        ("/image gone.png", None),
        ("/what now", f"error: /what: no such command; {HELP}"),
        ("/candidates .", "error: candidates '.': there is no answer in it; write them as a, b, c"),
        ("What color?", said(clip, "What color?", None)),
    ]
    asked = iter([*(line for line, _ in conversation), ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(asked))
    begin(image=clip, candidates=[], question="Is there text?", interactive=True)
    answers = [answer for _, answer in conversation if answer != ""]
    found, before, after = capsys.readouterr().out, [thinned, said(clip, "Is there text?", None), by_rules, HELP], answers[-3:]
    gone = found.split("error: /image ")[1].splitlines()[0]
    assert gone.startswith("gone.png: there is no such file") and "abstained: less sure than predict.min_confidence=0.999" in found
    assert found == "\n".join([*before, *answers[: answers.index(None)], f"error: /image {gone}", *after, ""])
    assert next(asked, "nothing more is read") == "nothing more is read"
    assert HELP == (
        "type a question; /image FILE changes the image (FILE FILE … are a clip's), /candidates a, b, c the valid answers (none: the "
        "mined ones), an empty line ends"
    )
    begin(image=one, candidates=["snare"], question="Why?", interactive=False)
    assert capsys.readouterr().out == f"{said(one, 'Why?', ['snare'])}\n", "one question is no conversation"
    asked = iter(["Why?", ""])
    begin(image=[], candidates=[], question=None, interactive=True)
    assert capsys.readouterr().out == f"{HELP}\nerror: there is no image to ask about; give one with --image FILE, or /image FILE\n"


def test_a_file_abstains_by_calibrated_probabilities_which_one_question_does_not_have(experiment, processor, model, colors, capsys):
    """It abstained by the model's own, where the same row of a file did not."""
    about = SimpleNamespace(
        image=[str(experiment[0].data.image_root / "0.png")], candidates=["a", "b"], question="Is it?", interactive=False
    )
    for calibrated in (False, True):
        changes = {"min_confidence": 0.999999, "calibrated": calibrated}
        ask(model, processor, experiment[0].model_copy(update={"predict": PredictConfig(**changes)}), colors, about, 4)
        said = capsys.readouterr().out
        assert ("abstained: less sure than" in said) != calibrated and ("note: predict.calibrated is about files" in said) == calibrated


def test_of_a_clip_only_the_images_that_are_read_have_to_be_whole(experiment, processor, model, colors, tmp_path):
    cfg = experiment[0].model_copy(update={"data": experiment[0].data.model_copy(update={"max_frames": 2})})
    clip = [str(cfg.data.image_root / "0.png"), str(tmp_path / "1.png"), str(cfg.data.image_root / "2.png")]
    (tmp_path / "1.png").write_text("no picture")
    answer, row = answer_one(model, processor, cfg, colors, clip, "Is it?", ["yes", "no"], 4)
    assert answer.text in ("yes", "no") and len(row["images"]) == 3
