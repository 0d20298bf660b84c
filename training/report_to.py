"""`train.report_to`: wandb, tensorboard and others that transformers reports to, asked before a model is loaded for them."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py train.report_to=tensorboard")

import sys
from contextlib import contextmanager
from difflib import get_close_matches

from transformers.integrations import INTEGRATION_TO_CALLBACK

from files import UserError, quoted


def check_report_to(report_to):
    """Raise UserError for a name (of a list, or one) that transformers does not know, or whose package is missing here."""
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if isinstance(report_to, str) and name in ("none", "all"):
            continue
        if name in ("none", "all"):
            raise UserError(f"train.report_to: {name} stands alone; set train.report_to={name}, or take it out of the list")
        if name not in INTEGRATION_TO_CALLBACK:
            near = get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(INTEGRATION_TO_CALLBACK))}, and none"
            raise UserError(f"train.report_to: {quoted(name)} is unknown; {hint}")
        if reason := _why_not(name):
            raise _user_error(name, reason)


def _why_not(name):
    """What is missing for a reporter (str), or None."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda *_: None  # some are not made for being half made, and say so when they go
    try:
        INTEGRATION_TO_CALLBACK[name]()
    except Exception as error:  # each of its own kind
        return _first_line(error)
    finally:
        sys.unraisablehook = hook


@contextmanager
def reports_explained():
    """Turn what a reporter's package raises while training begins, such as that nobody is logged in, into one line."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in INTEGRATION_TO_CALLBACK:
            raise
        raise _user_error(package, _first_line(error)) from None


def _first_line(error):
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _user_error(name, reason):
    return UserError(f"train.report_to={name}: {reason.rstrip('.')}; or set train.report_to=none")
