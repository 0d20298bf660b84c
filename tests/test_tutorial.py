"""docs/your-data.md as a stranger follows it: every file is written, every command runs, and the output is what the page shows.

python -m pytest tests/test_tutorial.py -v
"""

import json
import os
import re
import subprocess
from pathlib import Path

import openpyxl
import pytest
from conftest import ROOT
from quick_python import quick_python
from user_copy import copy_repository

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEARNT = re.compile(r"[+-]?\d+\.\d+%?")  # figures that depend on training, whose last digits another machine may not share
TRAINS = "run_exp1.sh"


@pytest.fixture(scope="module")
def page():
    """[(language, text)] of the page's blocks, in its order."""
    return BLOCK.findall((ROOT / "docs" / "your-data.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def followed(page, tmp_path_factory):
    """(folder, [(commands, what they print)]) of all bash blocks, run in a copy of the repository, with the files that the page shows."""
    folder = copy_repository(tmp_path_factory.mktemp("tutorial") / "surgical vqa")
    (folder / "data" / "demo").symlink_to(ROOT / "data" / "demo", target_is_directory=True)
    shell = {**os.environ, "PATH": f"{Path(quick_python()).parent}:{os.environ['PATH']}", "OMP_WAIT_POLICY": "PASSIVE"}
    shell |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    printed = []
    for language, text in page:
        name = text.split("\n")[0].removeprefix("# ")
        if language in ("python", "yaml"):
            assert re.fullmatch(r"[\w.]+", name), f"the first line is no file name: {name}"
            (folder / name).write_text(text, encoding="utf-8")
        elif language == "bash":
            result = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, capture_output=True, text=True, env=shell)
            assert result.returncode == 0, f"{text}{result.stdout[-2000:]}{result.stderr[-4000:]}"
            printed.append((text, result.stdout))
    return folder, printed


def output_of(followed, command):
    """What the one block with this command printed."""
    (found,) = [printed for commands, printed in followed[1] if command in commands]
    return found


def test_the_page_has_every_step(page):
    """What isn't run is the installation alone, into the environment that the tests already run in."""
    assert {language for language, _ in page} == {"console", "python", "yaml", "bash", "text"}
    console = [text for language, text in page if language == "console"]
    assert ["pip install -r requirements.txt" in text for text in console] == [True, False] and "activate" in console[1]
    commands = "".join(text for language, text in page if language == "bash")
    steps = [
        "--suggest",
        "--mapping mapping.yaml",
        "data/split.py",
        "data.check",
        "--dry-run",
        "sanity_overfit.py",
        TRAINS,
        "swapped_images.py",
        "my.yaml --test",
    ]
    places = [commands.index(step) for step in steps]
    assert places == sorted(places)


def test_the_output_is_what_the_page_shows(page, followed):
    """Every line of a text block begins a line of what the commands above it print, in this order."""
    runs = iter(followed[1])
    shown = 0
    for language, text in page:
        if language == "bash":
            commands, printed = next(runs)
            lines = iter(comparable(printed, commands))
        elif language == "text":
            for line in comparable(text, commands):
                assert any(found.startswith(line) for found in lines), f"not printed, or not in this order, by {commands}: {line}"
                shown += 1
    assert shown > 20 and next(runs, None) is None


def comparable(text, commands):
    """Lines of an output, without trailing spaces; of trained models without the figures."""
    lines = [line.rstrip() for line in text.splitlines()]
    return [" ".join(LEARNT.sub("#", line).split()) for line in lines] if TRAINS in commands else lines


def test_no_patient_is_in_two_files(followed):
    rows = {split: read_rows(followed[0] / "mine" / "split" / f"{split}.jsonl") for split in ("train", "val", "test")}
    patients = {split: {row["group"] for row in found} for split, found in rows.items()}
    assert {split: len(found) for split, found in patients.items()} == {"train": 14, "val": 5, "test": 5}
    assert len(set.union(*patients.values())) == 24
    sheet = openpyxl.load_workbook(followed[0] / "mine" / "Befunde.xlsx").active
    cells = [value for line in sheet.iter_rows(min_row=2, min_col=3, values_only=True) for value in line]
    assert sum(map(len, rows.values())) == sum(value is not None for value in cells), "a row for every cell with a finding, and no other"


def test_the_german_table_is_german_rows_and_read_as_such(followed):
    """The suggested mapping needs one better question only; the types come from German words."""
    rows = read_rows(followed[0] / "mine" / "split" / "train.jsonl")
    answers = {question: {row["answer"] for row in rows if row["question"] == question} for question in {row["question"] for row in rows}}
    assert answers["Ist Schrift zu sehen?"] == {"ja", "nein"} and set(answers) == {
        "Ist Schrift zu sehen?", "Wie viele Polypen sind zu sehen?", "Wie groß ist der Polyp?"
    } and {row["language"] for row in rows} == {"de"}  # fmt: skip
    enriched = {row["question"]: row for row in read_rows(followed[0] / "outputs_mine" / "data" / "train.jsonl")}
    types = {question: row["question_type"] for question, row in enriched.items()}
    assert types == dict(zip(sorted(types), ("yes_no", "size_numeric", "count_numeric")))
    assert set(enriched["Ist Schrift zu sehen?"]["answer_candidates"]) == {"ja", "nein"}


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_the_doctor_and_the_dry_run_say(followed):
    doctor = output_of(followed, "data.check")
    assert "rows with a constraint 72\n" in doctor and doctor.count("\nnote: ") == 1 and "WARNING" not in doctor
    assert "optimizer steps: 60 in all, 6 an epoch\n" in output_of(followed, "--dry-run")


def test_the_sanity_test_passes(followed):
    assert "SANITY TEST PASSED\n" in output_of(followed, "sanity_overfit.py")
    report = json.loads((followed[0] / "outputs_mine" / "sanity" / "sanity.json").read_text())
    assert report["rows"] == 64 and report["exact_match"]["free"] >= 0.95


def test_the_number_and_its_interval(followed):
    """The validation's number by patient, above the blind prior; the test split is touched by the last command alone."""
    folder, printed = followed
    (_, first), (_, last) = [run for run in printed if TRAINS in run[0]]
    assert re.search(r"^OVERALL \(micro\)      35 ", first, re.MULTILINE)
    assert "Intervals take 5 groups as independent, not rows.\nWARNING: 5 groups" in first
    assert "The test split was not touched." in first and "on the test split" not in first
    table = last.split("on the test split\n")[1]
    assert re.search(r"^OVERALL \(micro\)      32 ", table, re.MULTILINE)
    assert "Intervals take 5 groups as independent, not rows.\nWARNING: 5 groups" in table
    assert "== train: unchanged, skipped\n" in last, "the check with swapped images must leave the run as it was"
    metrics = json.loads((folder / "outputs_mine" / "metrics_tuned_constrained.json").read_text())
    assert metrics["n"] == 35 and metrics["details"]["overall"]["clusters"] == 5
    assert metrics["micro"] > metrics["blind_prior"]["micro"] and (folder / "outputs_mine" / "report.html").is_file()
    swapped = json.loads(output_of(followed, "swapped_images.py"))
    assert swapped["rows"] == 35 and swapped["swapped"] < metrics["micro"]


# ---- the one command, on what the page left


def one_command(folder, *arguments):
    shell = {**os.environ, "PATH": f"{Path(quick_python()).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(folder / "run_exp1.sh"), str(folder / "my.yaml"), *arguments]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, env=shell)


def test_the_one_command_shows_four_runs_in_one_table(followed):
    first = output_of(followed, "run_exp1.sh my.yaml\n")
    lines = first.splitlines()
    names = ["untuned, free", "untuned, constrained", "tuned, free", "tuned, constrained", "commonest training answer", "reachable answers"]
    start = next(number for number, line in enumerate(lines) if line.startswith("untuned, free"))
    assert [line.split("  ")[0] for line in lines[start : start + 6]] == names
    assert lines[start + 7].startswith("On 35 questions about 5 groups, the tuned model with exact constrained decoding")
    assert lines[-3] == "report: outputs_mine/report.html" and lines[-1].endswith("run_exp1.sh my.yaml --test")
    assert ".venv" not in first


def test_a_second_call_skips_what_is_done_and_an_edit_runs_again_what_depends_on_it(followed):
    folder, _ = followed
    again = one_command(folder)
    assert (again.returncode, again.stdout.count("unchanged, skipped")) == (0, 11), again.stderr
    assert "OVERALL (micro)      35 " in again.stdout and "untuned, free" in again.stdout
    with open(folder / "evaluation" / "tables.py", "a") as file:
        file.write("# an edit that no prediction depends on\n")
    edited = one_command(folder).stdout
    assert all(f"== predict_{run}: unchanged, skipped\n" in edited for run in ("untuned_free", "tuned_constrained"))
    assert all(f"== {stage}\n" in edited for stage in ("eval_untuned_free", "eval_tuned_constrained", "summary", "compare"))


def test_a_run_is_not_replaced_unasked(followed):
    folder, _ = followed
    weights = folder / "outputs_mine" / "adapter" / "adapter_model.safetensors"
    before = weights.read_bytes()
    other = one_command(folder, "train.max_steps=2")
    assert other.returncode == 1 and "already holds a training run" in other.stderr and weights.read_bytes() == before


def test_what_the_one_command_does_not_know_is_one_line(followed):
    folder, _ = followed
    for arguments, said in ((["--tset"], "--tset: give a .yaml file"), (["data.test_jsonl=null", "--test"], "set data.test_jsonl in")):
        result = one_command(folder, *arguments)
        assert result.returncode == 1 and said in result.stderr and len(result.stderr.splitlines()) == 1
