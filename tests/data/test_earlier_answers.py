"""What a question is told of its image's earlier stages.    python -m pytest tests/data/test_earlier_answers.py -v"""

import pytest

from data.earlier_answers import EARLIER, WORDING, with_earlier_answers
from data.stages import stage_of
from files import UserError


def row(number, stage=None, image="a.png", question="Is there text?", **more):
    return {"id": str(number), "question": question, "image": image, **({"stage": stage} if stage else {}), **more}


def test_a_question_is_told_the_earlier_stages_of_its_own_images_by_stage_and_then_in_order():
    rows = [row(0, 3), row(1, 2, question="B?"), row(2, 1, question="A?"), row(3, 2, question="C?"), row(4, 1, image="b.png")]
    rows += [row(5, 2, images=["a.png", "b.png"]), row(6, 2, image="b.png", question="[Stage-2: Findings] D?")]
    told = with_earlier_answers(rows, {str(number): f"answer\n{number}" for number in range(7)})
    assert [asked[EARLIER] for asked in told] == [
        (("A?", "answer 2"), ("B?", "answer 1"), ("C?", "answer 3")),
        (("A?", "answer 2"),),
        (),
        (("A?", "answer 2"),),
        (),
        (),  # several images are not one of them
        (("Is there text?", "answer 4"),),
    ]
    assert [{key: value for key, value in asked.items() if key != EARLIER} for asked in told] == rows


def test_what_is_not_answered_yet_is_not_told_and_each_wording_is_told_its_own():
    rows = [row(f"{number} {wording}", number, **{WORDING: wording}) for number in (1, 2, 3) for wording in (0, 1)]
    told = with_earlier_answers(rows, {"1 0": "yes", "1 1": "no"})
    assert [[answer for _, answer in asked[EARLIER]] for asked in told] == [[], [], ["yes"], ["no"], ["yes"], ["no"]]


def test_junk_is_told_to_nobody():
    """Training leaves such rows out, so no prompt of it tells them; validation and prediction keep every row."""
    rows = [row(0, 1, question="nan"), row(1, 1, question="B?"), row(2, 1, question="C?"), row(3, 1, question="D?"), row(4, 2)]
    told = with_earlier_answers(rows, {"0": "no", "1": "nan", "2": "", "3": "none"})
    assert told[4][EARLIER] == (("D?", "none"),)


@pytest.mark.parametrize("question", ["[Stage-2: Findings Identification] Is there a polyp?", "[stage 2] Is there a polyp?"])
def test_a_stage_is_that_of_the_field_or_of_the_questions_prefix(question):
    assert stage_of(row(0, question=question)) == 2 and stage_of(row(0, "3")) == 3


def test_rows_that_a_cascade_can_not_place_are_refused_by_name():
    with pytest.raises(UserError, match=r"^row '7': its question has no stage "):
        with_earlier_answers([row(6, 1), row(7, question="What does [Stage-1] say?")], {})
    for wrong in ("first", 1.5, True, "-1", "0"):
        with pytest.raises(UserError, match="^row '7': stage is .*; write 1, 2 or 3"):
            with_earlier_answers([row(7, wrong)], {})
