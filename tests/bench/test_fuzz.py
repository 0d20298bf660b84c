"""The bench that spoils files: a small version of it, and that it finds what goes wrong.    python -m pytest tests/bench/test_fuzz.py -v"""

import os
import time

import pytest

from bench import fuzz
from files import UserError


@pytest.mark.parametrize(("name", "cases"), [("rows", 60), ("training rows", 20), ("predictions", 60), ("images", 60), ("yaml", 15)])
def test_spoilt_files_are_read_or_refused_in_one_line(tmp_path, name, cases):
    counts, wrong = fuzz.fuzz(name, 1, range(cases), tmp_path)
    assert wrong == {} and counts["refused"] > 0 and counts.total() == cases


def read(path, ready):
    """A reader with every fault there is, by the number in its file."""
    number = int(path.read_text())
    if number == 1:
        raise UserError("refused")
    if number == 2:
        raise KeyError("a traceback")
    if number == 3:
        time.sleep(60)
    if number == 4:
        os._exit(11)
    if number == 5:
        raise UserError("two\nlines")


def test_a_traceback_a_hang_a_crash_and_two_lines_are_found_and_kept(tmp_path, monkeypatch):
    def numbered(rng, folder, ready):
        path = folder / "number"
        path.write_text(rng)
        return path

    monkeypatch.setattr(fuzz.random, "Random", lambda text: text.split()[-1])  # the case's number
    monkeypatch.setitem(fuzz.PARTS, "faults", fuzz.Part(6, lambda folder: None, numbered, read))
    counts, wrong = fuzz.fuzz("faults", 0, range(7), tmp_path, limit=1)
    assert dict(counts) == {"accepted": 2, "refused": 1, "wrong": 4}
    assert wrong[2].startswith("KeyError: 'a traceback' at test_fuzz.py:")
    assert (wrong[3], wrong[4]) == ("takes longer than 1 s", "the process ended (11)")
    assert wrong[5].startswith("a message of 9 letters") and (tmp_path / "faults-0-3" / "number").read_text() == "3"


def test_a_case_is_the_same_again(tmp_path):
    for number in (1, 2):
        fuzz.keep_cases("images", 5, [3, 4], tmp_path / str(number))
    files = [sorted((tmp_path / number).rglob("picture.*")) for number in ("1", "2")]
    assert len(files[0]) == 2 and [one.read_bytes() for one in files[0]] == [one.read_bytes() for one in files[1]]
