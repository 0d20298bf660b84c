"""Whom an adapter lets in: what its rules say of its training questions counts, not how the file of rules is spelt.

python -m pytest tests/model/test_adapter.py -v
"""

import json

import pytest

from files import UserError
from model.adapter import check_adapter

TRAINED = {"rules": "verdict", "schema": "file", "space": "s"}
OLDER = {"rules": "file", "space": "s"}  # of code that knew the file alone


def check(folder, was, now):
    (folder / "experiment.json").write_text(json.dumps({"prompt_style": "plain", "answer_rules": was}))
    check_adapter(folder, {"prompt_style": "plain", "answer_rules": now})


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (TRAINED, {"rules": "verdict", "schema": "edited", "space": "s"}),  # a comment
        (TRAINED, TRAINED),
        (OLDER, OLDER),
        (OLDER, {"rules": "file", "schema": "file", "space": "s"}),  # no questions lie beside it: the file itself
        (OLDER, {"rules": "verdict", "schema": "file", "space": "s"}),
        (TRAINED, OLDER),
    ],
)
def test_what_says_the_same_is_accepted(tmp_path, was, now):
    check(tmp_path, was, now)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (TRAINED, {"rules": "another", "schema": "edited", "space": "s"}),
        (OLDER, {"rules": "edited", "schema": "edited", "space": "s"}),
        (OLDER, {"rules": "edited", "space": "s"}),
    ],
)
def test_another_schema_is_named_and_no_hash_shown(tmp_path, was, now):
    with pytest.raises(UserError) as error:
        check(tmp_path, was, now)
    assert str(error.value) == (
        f"adapter {tmp_path} was trained with another data/schema.py: the rules give questions of its training another type or other "
        "valid answers now; put the file back as it was, or train anew"
    )


@pytest.mark.parametrize("now", [{**TRAINED, "space": "another"}, {}])
def test_another_answer_space_is_another_experiment(tmp_path, now):
    with pytest.raises(UserError, match="was trained with answer_rules="):
        check(tmp_path, TRAINED, now)
