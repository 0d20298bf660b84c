"""The sanity test as a user runs it: it passes, fails with a broken mask, and fails where nothing is learnt.

python -m pytest tests/test_sanity_overfit.py -v
"""

import pytest
from user_copy import make_parent, run


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("user"))


def test_sanity_passes_and_fails_with_a_broken_mask(parent):
    exp1 = parent / "exp1"
    result = run(parent, "exp1/sanity_overfit.py")
    assert "loss < 2.0: label masking works" in result.stdout and "SANITY TEST PASSED" in result.stdout
    assert "supervised ids: [" in result.stdout.split("loss:")[0]
    source = (exp1 / "model" / "token_tree.py").read_text()
    (exp1 / "model" / "token_tree.py").write_text(
        source.replace("self.labels.append(token if supervised", "self.labels.append(token if True")
    )
    error = run(parent, "exp1/sanity_overfit.py", expect=1).stderr
    (exp1 / "model" / "token_tree.py").write_text(source)
    assert "label mask broken at row" in error and "Traceback" not in error


def test_sanity_fails_when_nothing_is_learnt(parent):
    output = run(parent, "exp1/sanity_overfit.py", "train.max_steps=2", expect=1).stdout
    assert "SANITY TEST FAILED" in output
