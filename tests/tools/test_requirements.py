"""The lists of packages agree: the older pins, and the lock file.

python -m pytest tests/tools/test_requirements.py -v
"""

from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def read(name):
    """{package: what a list says of its version}"""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    found = [Requirement(line) for line in lines if line]
    return {requirement.name.lower().replace("_", "-"): requirement.specifier for requirement in found}


def test_the_older_pins_are_those_of_today_but_for_torch():
    now, older = read("requirements.txt"), read("requirements-older.txt")
    assert {name for name in now.keys() | older.keys() if now.get(name) != older.get(name)} == {"torch", "torchvision"}
    assert all(str(version).startswith("==") for name, version in older.items() if name.startswith("torch"))


def test_the_lock_has_one_version_of_all_that_is_wanted():
    lock = read("requirements.lock")
    assert all(str(version).startswith("==") for version in lock.values()), "and no address"
    for name, wanted in {**read("requirements.txt"), **read("requirements-dev.txt")}.items():
        assert name in lock and wanted.contains(str(lock[name]).removeprefix("==")), name
