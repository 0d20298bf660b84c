"""The blind prior by hand.

python -m pytest tests/data/test_blind_prior.py -v
"""

import random

from data.blind_prior import answer_blindly, blind_prior
from data.matching import judge


def train_rows(*triples):
    return [{"question": question, "question_type": qtype, "answer": answer} for question, qtype, answer in triples]


TRAIN = train_rows(
    ("Is there a polyp?", "yes_no", "yes"),
    ("is there  a POLYP?", "yes_no", "yes"),
    ("Is there a polyp?", "yes_no", "no"),
    ("Is there text?", "yes_no", "no"),
    ("Is there text?", "yes_no", "no"),
    ("Is there a box?", "yes_no", "no"),
    ("What color?", "color", "red; pink"),
    ("What color?", "color", "white"),
    ("What color?", "color", "white"),
    ("What color?", "color", "pink; red"),
    ("What color?", "color", "red; pink"),
    ("How many?", "count_numeric", "1"),
    ("How many?", "count_numeric", "0"),
)


def test_blind_prior_takes_the_commonest_answer_of_each_question_and_type():
    by_question, by_type = blind_prior(TRAIN)
    assert by_question == {
        "is there a polyp": "yes",
        "is there text": "no",
        "is there a box": "no",
        "what color": "pink; red",  # 2 + 1 in two orders outnumber 2 of white
        "how many": "0",  # a tie: the alphabetically first
    }
    assert by_type == {"yes_no": "no", "color": "pink; red", "count_numeric": "0"}


def test_the_order_of_the_training_rows_decides_no_tie():
    for seed in range(10):
        assert blind_prior(random.Random(seed).sample(TRAIN, len(TRAIN))) == blind_prior(TRAIN)


def test_answering_blindly_by_hand():
    rows = [
        {"qtype": "yes_no", "question": "IS there a polyp? ", "gt": "yes", "pred": "no"},
        {
            "qtype": "yes_no",
            "question": "Is there a fold?",
            "gt": "no",
            "pred": "yes",
        },  # never asked: the type's answer
        {"qtype": "yes_no", "gt": "no", "pred": "yes"},  # a foreign file without questions
        {"qtype": "color", "question": "What color?", "gt": "red; pink", "pred": ""},
        {"qtype": "count_numeric", "question": "How many?", "gt": "zero", "pred": "5"},  # the same matching
        {"qtype": "stage", "question": "Which stage?", "gt": "none", "pred": "none"},  # a type training doesn't have
    ]
    blind = answer_blindly(rows, blind_prior(TRAIN))
    assert [row["pred"] for row in blind] == ["yes", "no", "no", "pink; red", "0", None]
    assert [row["correct"] for row in judge(blind)] == [True, True, True, True, True, False]
    assert [row["pred"] for row in rows] == ["no", "yes", "yes", "", "5", "none"]
