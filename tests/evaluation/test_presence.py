"""The dangerous error, by hand.

python -m pytest tests/evaluation/test_presence.py -v
"""

import pytest

from data.matching import judge
from evaluation.metrics import compare_rows, template_of
from evaluation.presence import presence, rows_that_ask


def found(rows):
    judged = judge([{**row, "cluster": f"image {place}"} for place, row in enumerate(rows)])
    return presence(rows_that_ask(judged, compare_rows(judged), [template_of(row) for row in judged]))


def rows_of(question, qtype, pairs):
    return [{"question": question, "qtype": qtype, "gt": gt, "pred": pred} for gt, pred in pairs]


def values(scores):
    return {name: score and (score["value"], score["count"]) for name, score in scores.items() if isinstance(score, dict) or score is None}


POLYP = [("yes", "yes")] * 3 + [("yes", "no")] * 2 + [("no", "no")] * 90 + [("no", "yes")] * 1


def test_a_model_that_always_says_no_misses_everything():
    pairs = [(gt, "no") for gt, _ in POLYP]
    scores = found(rows_of("Is there a polyp?", "yes_no", pairs))["overall"]
    assert (scores["there"], scores["absent"], scores["missed"], scores["false_alarms"]) == (5, 91, 5, 0)
    assert values(scores) == {
        "sensitivity": (0.0, 5),
        "specificity": (1.0, 91),
        "positive_predictive_value": None,
        "negative_predictive_value": (91 / 96, 96),
    }


def test_the_four_values_by_hand():
    scores = found(rows_of("Is there a polyp?", "yes_no", POLYP))["overall"]
    assert (scores["there"], scores["absent"], scores["missed"], scores["false_alarms"]) == (5, 91, 2, 1)
    assert values(scores) == {
        "sensitivity": (3 / 5, 5),
        "specificity": (90 / 91, 91),
        "positive_predictive_value": (3 / 4, 4),
        "negative_predictive_value": (90 / 92, 92),
    }
    low, high, _ = scores["sensitivity"]["interval"]
    assert 0 < low < 0.6 < high < 1


def test_an_answer_that_says_neither_is_wrong_and_no_finding():
    pairs = [
        ("yes", "not relevant"),
        ("yes", ""),
        ("yes", None),
        ("yes", "a polyp"),
        ("no", "maybe"),
        ("yes", "yes"),
        ("not relevant", "no"),
    ]
    scores = found(rows_of("Is there a polyp?", "yes_no", pairs))["overall"]
    assert (scores["there"], scores["absent"], scores["missed"], scores["false_alarms"]) == (5, 1, 0, 0)
    assert values(scores)["sensitivity"] == (1 / 5, 5) and values(scores)["specificity"] == (0.0, 1)
    assert values(scores)["negative_predictive_value"] is None


def test_counts_are_there_or_not_whatever_their_number():
    pairs = [("0", "0"), ("0", "2"), ("2", "3"), ("1", "0"), ("1", "none"), ("3", "three"), ("2", "many")]
    scores = found(rows_of("How many polyps are in the image?", "count_numeric", pairs))["overall"]
    assert (scores["there"], scores["absent"], scores["missed"], scores["false_alarms"]) == (5, 2, 2, 1)
    assert values(scores)["sensitivity"] == (2 / 5, 5), "3 for 2 finds something, `many` is no number"


def test_labels_with_none_among_them():
    pairs = [("none", "none"), ("none", "polyp"), ("polyp", "ulcer"), ("polyp; ulcer", "none"), ("ulcer", "nothing that I know")]
    scores = found(rows_of("Are there any abnormalities in the image?", "mcq", pairs))["overall"]
    assert (scores["there"], scores["absent"], scores["missed"], scores["false_alarms"]) == (3, 2, 1, 1)
    assert values(scores)["sensitivity"] == (1 / 3, 3), "ulcer for polyp finds something; an unknown text says nothing"


def test_a_question_whose_truths_are_all_alike_still_counts_its_misses():
    every = found(rows_of("Is there a polyp?", "yes_no", [("yes", "no")] * 20))["overall"]
    assert (every["missed"], values(every)["negative_predictive_value"]) == (20, (0.0, 20))
    assert found(rows_of("Is there a polyp?", "yes_no", [("no", "yes")] * 20))["overall"]["false_alarms"] == 20


def test_a_miss_that_is_said_in_a_sentence_is_one():
    pairs = [("yes", "No, there is no polyp in this image.")] * 3 + [("no", "No, there is no polyp in this image.")] * 2
    scores = found(rows_of("Is there a polyp?", "yes_no", pairs))["overall"]
    assert (scores["missed"], values(scores)["sensitivity"], values(scores)["specificity"]) == (3, (0.0, 3), (1.0, 2))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_row_that_another_reference_makes_right_lends_its_verdict_to_no_other(order):
    rows = rows_of("Is there a polyp?", "yes_no", [("yes", "no"), ("yes", "no"), ("no", "no")])
    rows[1]["answers"] = ["yes", "no"]
    scores = found([rows[place] for place in order])["overall"]
    assert (scores["missed"], values(scores)["sensitivity"]) == (1, (0.5, 2))


@pytest.mark.parametrize(
    "question, asks",
    [
        ("Is a polyp present?", True),
        ("Is any instrument visible?", True),
        ("Can you see a polyp?", True),
        ("Have any polyps been found?", True),
        ("Is there no polyp?", False),  # the reverse
        ("Is there more than one polyp?", False),
        ("Is there enough light?", False),
        ("Is there a polyp?", True),
        ("Are there any instruments visible?", True),
        ("[Stage-2] Is there text?", True),
        ("Does this image contain any finding?", True),
        ("Have all polyps been removed?", False),
        ("Is this finding easy to detect?", False),
        ("Is the polyp red?", False),
    ],
)
def test_which_yes_no_questions_ask_whether_something_is_there(question, asks):
    assert (found(rows_of(question, "yes_no", [("yes", "no"), ("no", "no")])) is not None) is asks


def test_each_question_by_itself_the_commonest_first():
    rows = rows_of("Is there a polyp?", "yes_no", POLYP) + rows_of("Is there text?", "yes_no", [("yes", "yes"), ("no", "yes")])
    questions = found(rows)["per_question"]
    assert [(item["question"], item["there"], item["missed"]) for item in questions] == [
        ("Is there a polyp?", 5, 2),
        ("Is there text?", 1, 0),
    ]


def test_an_answer_in_a_sentence_is_one_of_the_valid_answers_or_options():
    rows = rows_of("What abnormality is there?", "mcq", [("polyp", "The image shows an ulcer."), ("none", "none"), ("ulcer", "ulcer")])
    sensitivity = lambda **more: values(found([{**rows[0], **more}, *rows[1:]])["overall"])["sensitivity"]
    assert sensitivity() == (0.5, 2) and sensitivity(candidates=["none", "polyp", "ulcer"]) == (1, 2)


def test_questions_that_are_asked_as_often_stand_by_type_and_wording():
    rows = rows_of("Is there text?", "yes_no", [("yes", "yes")]) + rows_of("IS THERE a polyp?", "yes_no", [("yes", "no"), ("no", "no")])
    rows += rows_of("Is there a polyp?", "yes_no", [("yes", "no")]) + rows_of("Is there a clip?", "yes_no", [("no", "no")])
    rows += rows_of("How many clips?", "count_numeric", [("0", "1")])
    scores = found(rows)
    questions = [(item["question"], item["template"], item["qtype"], item["there"], item["missed"]) for item in scores["per_question"]]
    assert questions == [
        ("IS THERE a polyp?", "is there a polyp", "yes_no", 2, 2),
        ("How many clips?", "how many clips", "count_numeric", 0, 0),
        ("Is there a clip?", "is there a clip", "yes_no", 0, 0),
        ("Is there text?", "is there text", "yes_no", 1, 0),
    ]
    assert (scores["overall"]["there"], scores["overall"]["absent"], scores["overall"]["missed"], scores["overall"]["false_alarms"]) == (
        3,
        3,
        2,
        1,
    )


def test_nothing_is_said_where_no_question_asks():
    assert found(rows_of("What color is it?", "color", [("red", "pink")])) is None
    assert found([{"qtype": "yes_no", "gt": "yes", "pred": "no"}]) is None, "without its question a row may ask anything"
