"""One form for the same text.

python -m pytest tests/data/test_text.py -v
"""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.matching import is_correct, is_empty, normalize_answer
from data.text import clean, group_key, group_of, placeholder_inside, strip_placeholders

FOLDED = [
    ("５－１０ｍｍ", "5-10mm"),  # full width
    ("ｙｅｓ", "yes"),
    ("＜5mm", "<5mm"),
    ("﹥20mm", ">20mm"),  # small form
    ("Ｘ光", "x光"),
    ("肺，心脏", "肺,心脏"),
    ("ｶﾞｰｾﾞ", "ガーゼ"),  # half width, voiced
    ("5 ㎜", "5 mm"),
    ("ﬁnding", "finding"),
    ("5\u00a0mm", "5 mm"),
    ("e\u0301", "é"),
    ("\u017f\u0307", "\u1e9b"),  # a letter and its mark, before a long s is folded
    ("10⁵", "10⁵"),  # not 105
    ("½", "½"),  # not 1 and 2
    ("②", "②"),
    ("≠5mm", "≠5mm"),
    ("YES\u200b", "yes"),  # zero-width space
    ("\ufeffyes", "yes"),  # byte order mark
    ("po\u00adlyp", "polyp"),  # soft hyphen
    ("yes\x00", "yes"),
    ("a\t b\nc", "a b c"),
    ("yes<|im_end|>", "yes"),
    ("yes <|im_end|>\n<|endoftext|>", "yes"),
    ("no</s>", "no"),
    ("<｜end▁of▁sentence｜>", ""),
    ("<|im_end|> yes", "<|im_end|> yes"),  # only at the end
    ("a<b|c>d", "a<b|c>d"),
]


@pytest.mark.parametrize("text, expected", FOLDED)
def test_clean(text, expected):
    assert clean(text) == expected


@settings(max_examples=500, deadline=None, database=None)
@given(st.text(max_size=30))
def test_cleaning_twice_changes_nothing(text):
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("肺。", "肺"),
        ("是｡", "是"),
        ("ｙｅｓ．", "yes"),
        ("polyp：", "polyp"),
        ("「息肉」", "息肉"),
        ("50 %", "50%"),
        ("50 ％。", "50%"),
        ("37 °C", "37°c"),
    ],
)
def test_answers_lose_closing_punctuation_of_any_width(answer, expected):
    assert normalize_answer(answer) == expected
    assert is_correct("open_ended", expected, answer)


@pytest.mark.parametrize("pred", ["\u200b", "\ufeff", "<|im_end|>", "。", " \u2060 .", "</s><|endoftext|>"])
def test_what_nobody_sees_is_an_empty_prediction(pred):
    assert is_empty(pred)
    assert not is_correct("open_ended", "none", pred)
    assert not is_correct("open_ended", pred, pred)


@pytest.mark.parametrize(
    "gt, pred",
    [("肺", "肺。"), ("是", "是。"), ("肺,心脏", "肺，心脏"), ("X光", "Ｘ光"), ("5-10mm", "５-１０ｍｍ"), ("red; pink", "red；pink")],
)
def test_predictions_in_another_width_are_right(gt, pred):
    assert is_correct("open_ended", gt, pred)


@pytest.mark.parametrize("space", [" ", "\n", "\\n", "\u200b", "user: "])
def test_a_long_run_of_spaces_takes_no_minutes(space):
    question, began = "<q" + space * 20_000 + "<", time.monotonic()
    assert strip_placeholders(question, everywhere=True) == question and time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Is it in <image>?", "<image>"),
        ("Is it in &lt;image&gt;?", "&lt;image&gt;"),
        ("Is it in &lt;image&gt;; there?", "&lt;image&gt;"),
        ("Is it in <image>: there?", "<image>"),
        ("Is it in [image] 2?", None),
        ("Is it <5mm?", None),
    ],
)
def test_a_place_for_a_picture_inside_a_question_is_found(question, found):
    assert placeholder_inside(question) == found


def test_groups_are_compared_in_one_form():
    assert {group_key(group) for group in ("P1", "p1", " P1 ", "P1\u200b", "Ｐ1")} == {"p1"} and group_key(7) == "7"
    assert [group_of(row) for row in ({"group": "P 1"}, {"group": " "}, {"group": None}, {})] == ["p 1", None, None, None]
