"""Sides and places when a picture is mirrored or turned.

python -m pytest tests/data/test_sides.py -v
"""

import pytest

from data.sides import mirrored, moved_back, moved_row, turned
from files import UserError

EN = ("en",)
GRID = ["center", "center-left", "center-right", "lower-center", "lower-left", "lower-right", "upper-center", "upper-left", "upper-right"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("center-left; lower-right", "center-right; lower-left"),
        ("Left", "Right"),
        ("left_top", "right_top"),
        ("Is it on the LEFT of the leftmost clip?", "Is it on the RIGHT of the rightmost clip?"),
        ("left or right", "right or left"),
        ("at 11 o'clock, not 1 o'clock", "at 1 o'clock, not 11 o'clock"),
        ("a bright, upright leftover", "a bright, upright leftover"),
        ("12 o'clock", "12 o'clock"),
        ("left lobe", None),
        ("the left side of the liver", None),
        ("right-sided colon", None),
    ],
)
def test_left_and_right_change_places(text, expected):
    assert mirrored(text, EN) == expected
    if expected:
        assert mirrored(expected, EN) == text


@pytest.mark.parametrize(
    "language, text, expected",
    [
        ("de", "Links oben, beim linken Instrument", "Rechts oben, beim rechten Instrument"),
        ("de", "linke Niere", None),
        ("fr", "à gauche", "à droite"),
        ("fr", "lobe droit", None),
        ("es", "arriba a la izquierda", "arriba a la derecha"),
        ("zh", "图像左上方", "图像右上方"),
    ],
)
def test_in_other_languages(language, text, expected):
    assert mirrored(text, (language,)) == expected


def test_a_language_without_a_table_is_refused():
    with pytest.raises(UserError, match="sides.yaml: has no left and right for the language xx; add"):
        mirrored("links", ("en", "xx"))


def test_a_turn_moves_whole_labels():
    """Checked against the pixels: counter-clockwise, the top becomes the left."""
    place = {"upper": 0, "center": 1, "lower": 2, "left": 0, "right": 2}
    for label in GRID:
        row, column = (label.split("-") * 2)[:2]
        row, column = place[row], place[column]
        found = turned(label, EN)
        new_row, new_column = (found.split("-") * 2)[:2]
        assert (place[new_row], place[new_column]) == (2 - column, row), label
        assert turned(found, EN, back=True) == label
    assert turned("top", EN) == "left" and turned("Bottom-Left", EN) == "bottom-right" and turned("3", EN) == "3"
    for text in ("Which color? If more than one separate with ;", "red;pink"):
        assert turned(text, EN) == text, "nothing moves"
    assert turned("upper-left; center", EN) == "lower-left; center"
    assert turned("somewhere at the top", EN) is None and turned("Is it above the clip?", EN) is None


def row(question="Where is it?", answer="center-left", candidates=GRID, multi_label=True, **more):
    return {"id": "0", "question": question, "answer": answer, "answer_candidates": candidates, "multi_label": multi_label, **more}


def test_candidates_that_are_the_same_set_keep_their_order():
    """For the order is what training saw; new ones come where others left."""
    for name in ("flip", "rotation"):
        assert moved_row(name, row(), EN)["answer_candidates"] == GRID
    some = row(candidates=["upper-left", "center", "lower-left", "lower-right"])
    assert moved_row("flip", some, EN)["answer_candidates"] == ["upper-right", "center", "lower-left", "lower-right"]


def test_options_move_in_place_for_letters_name_them():
    asked = moved_row("flip", row(options=["Left", "Right"], candidates=["left", "right"], answer="right", multi_label=False), EN)
    assert (asked["options"], asked["answer_candidates"]) == (["Right", "Left"], ["right", "left"])
    assert asked["answer"] == "right", "the row's own"


def test_what_is_said_comes_back_in_the_order_of_the_candidates():
    assert moved_back("flip", "center-left; lower-right", row(), EN) == "center-right; lower-left"
    assert moved_back("flip", "center-left; center-right", row(), EN) == "center-left; center-right"
    assert moved_back("rotation", "center-left; lower-left", row(), EN) == "upper-center; upper-left"
    free = row(candidates=None, multi_label=False)
    assert moved_back("flip", "On the left; near it", free, EN) == "On the right; near it"
    assert moved_back("rotation", "somewhere on top", free, EN) == "somewhere on top"


@pytest.mark.parametrize(
    "name, left_out",
    [
        ("flip", row("Is the left lobe visible?", "yes", ["yes", "no"])),
        ("rotation", row("Is it on the left?", "yes", ["yes", "no"])),
        ("rotation", row("center-left", "yes", ["yes", "no"])),
        ("rotation", row(answer="the upper half", candidates=None)),
        ("rotation", row(answer="1", candidates=["1"], answers=["one above"])),
    ],
)
def test_rows_that_cant_be_moved_are_left_out(name, left_out):
    assert moved_row(name, left_out, EN) is None


def test_a_question_about_a_side_asks_about_the_other():
    asked = moved_row("flip", row("Is there a clip on the left?", "yes", ["yes", "no"], False), EN)
    assert (asked["question"], asked["answer_candidates"]) == ("Is there a clip on the right?", ["yes", "no"])
