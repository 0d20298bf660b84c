"""BLEU and ROUGE-L in any script: by hand, and a text against itself.

python -m pytest tests/evaluation/test_text_overlap.py -v
"""

import math
import statistics
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.text_overlap import ORDERS, Words, text_scores, tokens

property_test = settings(max_examples=60, deadline=None, database=None)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), min_size=1, max_size=12).filter(tokens)
ROWS = st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), st.integers(0, 2)), min_size=1, max_size=5)


def bleu(scores):
    return [scores[f"bleu_{order}"] for order in ORDERS]


def test_text_scores_by_hand():
    scores = text_scores(["the polyp is small", "two"], [["a polyp", "The polyp is large"], ["two"]])
    # 1-grams: 3 + 1 of 5; 2-grams: 2 of 3; 5 words against 4 + 1 of the references nearest in length: no brevity penalty
    assert scores["bleu_1"] == pytest.approx(4 / 5) and scores["bleu_2"] == pytest.approx(math.sqrt(4 / 5 * 2 / 3))
    assert scores["rouge_l"] == pytest.approx(statistics.fmean([3 / 4, 1]))  # `the polyp is`: precision and recall 3 / 4
    assert scores["count"] == 2


@pytest.mark.parametrize(
    "text, found",
    [
        ("Größe über 5 mm, ß", ["größe", "über", "5", "mm", ",", "ß"]),
        ("肺に結節。", ["肺", "に", "結", "節", "。"]),
        ("没有息肉 polyp", ["没", "有", "息", "肉", "polyp"]),
        ("كبد سليم", ["كبد", "سليم"]),
        ("มีติ่ง เนื้อ", ["มีติ่ง", "เนื้อ"]),  # vowels and tones are marks, which belong to their letters
        ("नहीं", ["नहीं"]),
        ("용종 없음", ["용종", "없음"]),
        ("５ｍｍ", ["5mm"]),  # full width
        ("1,000.5 mm", ["1,000.5", "mm"]),
        ("5-10mm.", ["5", "-", "10mm", "."]),
        ("👍 ?!", ["👍", "?", "!"]),
        (unicodedata.normalize("NFD", "Ä"), ["ä"]),
        (" \u3000\t", []),
    ],
)
def test_tokens_keep_every_letter(text, found):
    assert tokens(text) == found


@pytest.mark.parametrize("text, found", [("No, 5.5 mm!", ["no", "5.5", "mm"]), ("肺。", ["肺"]), ("?!", ["?", "!"]), ("👍", ["👍"])])
def test_rouge_leaves_punctuation_out_unless_there_is_nothing_else(text, found):
    assert Words().tokenize(text) == found


def test_an_order_that_no_reference_has_is_no_score():
    assert bleu(text_scores(["yes", "no", "polyp"], [["yes"], ["no"], ["polyp"]])) == pytest.approx([1, None, None, None])
    assert bleu(text_scores(["yes", "a b"], [["no"], ["a b"]])) == [pytest.approx(2 / 3), pytest.approx(math.sqrt(2 / 3)), None, None]
    assert bleu(text_scores(["a long wrong answer"], [["no"]]))[1:] == [None] * 3


def test_an_answer_that_is_too_short_is_wrong_not_unscored():
    assert bleu(text_scores(["polyp"], [["a small polyp"]]))[1:] == [0, 0, None]
    assert bleu(text_scores(["", "polyp"], [["two words"], ["polyp"]]))[1:] == [0, None, None]


@pytest.mark.parametrize(
    "text, other, rouge, unigrams",
    [
        ("keine Größe", "keine Grösse", 1 / 2, 1 / 2),
        ("有息肉", "没有息肉", 6 / 7, math.exp(1 - 4 / 3)),  # three of four characters; brevity
        ("كبد سليم", "كبد مريض", 1 / 2, 1 / 2),
        ("ä", "ö", 0, 0),
    ],
)
def test_scores_in_other_scripts_by_hand(text, other, rouge, unigrams):
    scores = text_scores([text], [[other]])
    assert scores["rouge_l"] == pytest.approx(rouge) and scores["bleu_1"] == pytest.approx(unigrams)


@property_test
@given(ROWS)
def test_any_reference_against_itself_is_right(rows):
    references = [texts for texts, _ in rows]
    said = [texts[chosen % len(texts)] for texts, chosen in rows]
    scores = text_scores(said, references)
    longest = max(len(tokens(text)) for text in said)
    assert scores["rouge_l"] == pytest.approx(1)
    assert bleu(scores) == pytest.approx([1 if order <= longest else None for order in ORDERS])


@property_test
@given(ROWS, LINES)
def test_scores_are_shares(rows, said):
    scores = text_scores([said] * len(rows), [texts for texts, _ in rows])
    assert all(value is None or 0 <= value <= 1 + 1e-12 for value in [*bleu(scores), scores["rouge_l"]])
    assert scores["bleu_1"] is not None
