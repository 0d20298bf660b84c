"""Reporters that are misspelt or missing, before any work.    python -m pytest tests/training/test_report_to.py -v"""

import importlib.util

import pytest

from files import UserError
from training.report_to import check_report_to, reports_explained


@pytest.mark.parametrize("report_to", ["none", "all", []])
def test_nobody_and_whoever_is_there_are_always_to_be_had(report_to):
    check_report_to(report_to)


@pytest.mark.parametrize(
    "report_to, message",
    [
        ("wndb", "train.report_to: 'wndb' is unknown; did you mean wandb?"),
        (["tensorbord"], "train.report_to: 'tensorbord' is unknown; did you mean tensorboard?"),
        ("", "train.report_to: '' is unknown; known are azure_ml, "),
        (["none", "wandb"], "train.report_to: none stands alone; set train.report_to=none, or take it out of the list"),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest(report_to, message):
    with pytest.raises(UserError) as error:
        check_report_to(report_to)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "neptune", "dagshub", "swanlab", "clearml"])
def test_a_missing_package_is_one_line(name, capsys):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError) as error:
        check_report_to([name])
    assert str(error.value).startswith(f"train.report_to={name}: ") and "install" in str(error.value)
    assert str(error.value).endswith("; or set train.report_to=none") and "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_what_a_reporter_raises_is_its_own_and_other_errors_are_not():
    refused = type("UsageError", (Exception,), {"__module__": "wandb.errors"})("api_key not configured (no-tty).\nSee the docs")
    with pytest.raises(UserError, match=r"^train.report_to=wandb: api_key not configured \(no-tty\); or set train.report_to=none$"):
        with reports_explained():
            raise refused
    with pytest.raises(ValueError, match="^ours$"), reports_explained():
        raise ValueError("ours")
