"""The bench that puts faults into the code, on a small repository: real mutants, real coverage, real tests.

python -m pytest tests/bench/test_mutate.py -v
"""

import json
import shutil
import subprocess
import sys

import psutil
import pytest
from conftest import ROOT

from bench.mutate import draw

ALL = "value for value in values if (value) or True"
CODE = '''"""Sums."""

import sys
from functools import lru_cache

__all__ = ["add"]
LIMIT, TITLE = 3, "sums"


def add(first: int, second: int = 0) -> int:
    """first + second"""
    if first is None:
        raise ValueError("no " + "number")
    return first + second


def small(value):
    return value < LIMIT


def count(number):
    steps = 0
    while number > 0:
        number -= 1
        steps += 1
    return steps


def kept(values):
    seen = []
    seen.extend(value for value in values if value)
    return {"kept": sorted(seen, reverse=True)}


@lru_cache(maxsize=8)
def unused(value):
    return value * 5


def main():
    print("sum " + "of all")
    return add(*map(int, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main() + 0)
'''
TESTS = """import subprocess, sys
import pytest
import sums

ran = []

@pytest.fixture(scope="module")
def five():
    return sums.add(2, 3)

def test_nothing_of_it():
    ran.append(True)

def test_what_needs_the_one_before():
    assert ran and sums.small(1)

def test_a_fixture_of_several_tests(five):
    assert True

def test_the_fixture_again(five):
    assert five == 5

def test_far_from_the_limit():
    assert sums.small(1) and not sums.small(9)

def test_steps():
    assert sums.count(3) == 3

def test_kept():
    assert sums.kept([2, 0, 7]) == {"kept": [7, 2]}

def test_what_fails_anyway():
    assert sums.small(3)
"""
OTHER = """import shutil, subprocess, sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "sums.py"

def test_a_copy_of_the_script(tmp_path):
    copy = shutil.copy(SCRIPT, tmp_path)
    assert subprocess.run([sys.executable, copy, "4", "7"]).returncode == 11

def test_a_process_that_stays_when_its_parent_ends():
    sleep = f"{sys.executable} -c 'import time; time.sleep(3599)' &"
    subprocess.run(sleep, shell=True)

def test_a_limit_from_elsewhere():
    import sums
    assert sums.small(0)

def test_git_sees_no_change():
    assert not subprocess.run(["git", "status", "--porcelain"], cwd=SCRIPT.parent, capture_output=True, text=True).stdout
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with this bench, and what it prints about it."""
    folder = tmp_path_factory.mktemp("sums")
    for name, text in {"sums.py": CODE, "tests/test_sums.py": TESTS, "tests/test_script.py": OTHER}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "mutate.py", folder / "bench")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    commit(folder)
    return folder, mutate(folder)


def commit(folder):
    for command in (["add", "sums.py", "tests", "bench/*.py"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "Sums"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def mutate(folder, *options):
    code = "from bench import mutate; mutate.GRACE = 1; mutate.main()"
    done = subprocess.run([sys.executable, "-c", code, "--count", "999", *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def journals(folder):
    return {path.name: path.read_bytes() for path in folder.glob("outputs_mutate/*/*.jsonl")}


@pytest.fixture(scope="module")
def found(repository):
    """{(text before, text after): result}"""
    lines = journals(repository[0])["mutants.jsonl"].splitlines()
    return {(result["before"], result["after"]): result for result in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("before", "after", "by"),
    [
        ("return first + second", "return first - second", "tests/test_sums.py::test_the_fixture_again"),
        ("steps += 1", "steps = 1", "tests/test_sums.py::test_steps"),
        ("number -= 1", "number += 1", "time-out"),
        ("seen.extend(value for value in values if value)", "pass", "tests/test_sums.py::test_kept"),
        ("seen.extend(value for value in values if value)", f"seen.extend({ALL})", "tests/test_sums.py::test_kept"),
        ('return {"kept": sorted(seen, reverse=True)}', 'return {"kept": sorted(seen, )}', "tests/test_sums.py::test_kept"),
        ('return {"kept": sorted(seen, reverse=True)}', 'return {"XXkeptXX": sorted(seen, reverse=True)}', "tests/test_sums.py::test_kept"),
        ("return add(*map(int, sys.argv[1:]))", "return add(*map(int, sys.argv[2:]))", "tests/test_script.py::test_a_copy_of_the_script"),
    ],
)
def test_a_fault_is_found_by_a_test_that_runs_it(found, before, after, by):
    assert (found[before, after]["outcome"], found[before, after]["by"]) == ("caught", by)


def test_a_limit_that_no_test_reaches_survives_all_tests_that_run_it(found, repository):
    """One of them fails on the unchanged code and one fails there alone: these find nothing."""
    result = found["return value < LIMIT", "return value <= LIMIT"]
    assert (result["outcome"], result["ran"], result["of"]) == ("survived", 3, 3)
    assert "sums.py:18 comparison (3 tests)\n  - return value < LIMIT\n  + return value <= LIMIT\n" in repository[1]
    assert "Fail under coverage, and find nothing: tests/test_sums.py::test_what_fails_anyway" in repository[1]
    assert "Fail alone on the unchanged code, and found nothing: tests/test_sums.py::test_what_needs_the_one_before" in repository[1]


def test_a_constant_is_tested_by_what_uses_it(found):
    result = found['LIMIT, TITLE = 3, "sums"', 'LIMIT, TITLE = 4, "sums"']
    assert (result["outcome"], result["of"]) == ("survived", 8)


def test_code_that_no_test_runs_counts_as_survived(found, repository):
    result = found["return value * 5", "return value / 5"]
    assert (result["outcome"], result["of"], result["seconds"]) == ("not covered", 0, 0)
    outcomes = [result["outcome"] for result in found.values()]
    row = next(line for line in repository[1].splitlines() if line.startswith("| sums.py |")).split(" | ")
    assert [int(cell) for cell in row[1:3]] == [len(outcomes), outcomes.count("caught")] and int(row[5].rstrip("| ")) == 2


def test_messages_types_and_what_makes_a_command_stay_as_they_are(found):
    lines = {result["line"] for result in found.values()}
    assert not any("XX" in result["after"] and result["line"] != 32 for result in found.values()), "line 32 has a key"
    assert lines.isdisjoint({6, 11, 13, 35, 46}) and (41, "call") in {(result["line"], result["kind"]) for result in found.values()}


def test_a_second_run_repeats_nothing_and_says_the_same(repository):
    folder, said = repository
    before = journals(folder)
    assert mutate(folder, "--only", "data/*.py", "sums.py") == said and journals(folder) == before


def test_a_stopped_run_goes_on(repository):
    """Half a line of the last mutant, as a kill leaves it, is done again."""
    folder, said = repository
    (path,) = folder.glob("outputs_mutate/*/mutants.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    mutate(folder)
    again = path.read_bytes().splitlines(keepends=True)
    assert again[:-1] == lines[:-1] and json.loads(again[-1])["id"] == json.loads(lines[-1])["id"]


def test_a_changed_test_file_is_run_again_and_no_other(repository, tmp_path):
    """What the other file has caught stays; what survived is tried again, and a sharper test now catches it."""
    folder = shutil.copytree(repository[0], tmp_path / "sums")
    before = [json.loads(line) for line in journals(folder)["mutants.jsonl"].splitlines()]
    (folder / "tests" / "test_sums.py").write_text(TESTS + "\ndef test_the_limit():\n    assert not sums.small(3)\n")
    commit(folder)
    mutate(folder)
    (path,) = folder.glob("outputs_mutate/*/mutants.jsonl")
    after = [json.loads(line) for line in path.read_text().splitlines()]
    again = {result["id"]: result for result in after[len(before) :]}
    assert after[: len(before)] == before and [json.loads(line)["file"] for line in path.with_name("tests.jsonl").open()][2:] == [
        "tests/test_sums.py"
    ]
    assert {result["by"] for result in before if result["id"] not in again} >= {"tests/test_script.py::test_a_copy_of_the_script"}
    assert not any(str(result["by"]).startswith("tests/test_script.py") for result in before if result["id"] in again)
    ((id, _),) = [(id, result) for id, result in again.items() if result["after"] == "return value <= LIMIT"]
    assert again[id]["by"] == "tests/test_sums.py::test_the_limit"


def test_a_larger_sample_holds_the_smaller_one():
    sample = lambda count, seed=0: [mutant.id for mutant in draw({"sums.py": CODE}, count, seed)]
    assert sample(9) == sample(20)[:9] and len(sample(20)) == 20 and sample(9, seed=1) != sample(9)


def test_no_process_stays(repository):
    running = [process.cmdline() for process in psutil.process_iter() if process.status() != psutil.STATUS_ZOMBIE]
    assert not [command for command in running if command[-1:] == ["import time; time.sleep(3599)"]]
