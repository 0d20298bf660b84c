"""The sanity test fails with a broken mask, and where nothing is learnt. That it passes, and how, is in test_tutorial.py.

python -m pytest tests/test_sanity_overfit.py -v
"""

import pytest
from user_copy import make_parent, run


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("user"))


def test_sanity_fails_with_a_broken_mask_before_it_trains(parent):
    code = parent / "exp1" / "model" / "token_tree.py"
    source = code.read_text()
    code.write_text(source.replace("self.labels.append(token if supervised", "self.labels.append(token if True"))
    result = run(parent, "exp1/sanity_overfit.py", expect=1)
    code.write_text(source)
    assert "label mask broken at row" in result.stderr and "Traceback" not in result.stderr
    assert "supervised ids: [" in result.stdout and "training 200 steps" not in result.stdout


def test_sanity_fails_when_nothing_is_learnt(parent):
    output = run(parent, "exp1/sanity_overfit.py", "train.max_steps=2", expect=1).stdout
    assert "SANITY TEST FAILED" in output
