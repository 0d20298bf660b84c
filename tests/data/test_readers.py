"""What holds for every reader: official splits, files of an earlier run, what no row can have; and the command.

python -m pytest tests/data/test_readers.py -v
"""

import os
import shlex
import signal
from pathlib import Path

import pytest
from data_sets import HEADER, RECORDS, contents, endovis, error_of, lay, run, say, write_folder, write_parquet

from config import near, this_python
from data import readers
from files import UserError

ROOT = Path(__file__).resolve().parents[2]


KILLED = """
import os, signal, sys
from data import readers
from data.formats import source_files
write = source_files.write_image
def write_two(dst, img_id, data, where):
    if img_id == "c":  # the third image: die with its temporary file half written
        with source_files.atomic_open(dst / "images" / "c.jpg", "wb") as file:
            file.write(data[:50])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return write(dst, img_id, data, where)
source_files.write_image = write_two
readers.convert("kvasir-vqa", sys.argv[1], sys.argv[2])
"""


def test_a_killed_run_started_again_ends_in_the_same_files(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    killed = run("-c", KILLED, source, tmp_path / "killed", cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert {"images/a.png", "images/b.jpg"} < set(contents(tmp_path / "killed")), "it was stopped in the middle"
    assert not (tmp_path / "killed" / "all.jsonl").exists()
    for folder in ("killed", "whole"):
        readers.convert("kvasir-vqa", source, tmp_path / folder)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# --- the command ---


def test_command_from_another_folder_says_what_it_did_and_what_comes_next(tmp_path):
    write_folder(tmp_path / "my data", [HEADER, "x,q,yes,a", "x,q,no,b", "x,r,no,b", "x,none,nan,a"])
    for command in (["-m", "data.readers"], [ROOT / "data" / "readers.py"]):
        done = run(*command, "kvasir-vqa", "my data", "out put", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stderr) == (0, "")
        *lines, last = done.stdout.splitlines()
        assert lines == [
            "out put/all.jsonl: 3 rows, 2 images, 1.5 questions per image",
            "dropped rows: 1 (1 without a question)",
            f"data.image_root: {tmp_path / 'my data'}",
        ]
        words = shlex.split(last.removeprefix("next: "))
        assert words[2:] == ["out put/all.jsonl", "out put", "--image_root", "my data"]
        assert run(*words[1:], "--test", "0", cwd=tmp_path).returncode == 0, "two images make two splits"


def test_command_error_is_one_line(tmp_path):
    done = run(ROOT / "data" / "readers.py", "kvasir-vqa", tmp_path / "absent", tmp_path / "dst")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'absent'}: no such file or folder; give the dataset as downloaded\n"
    assert not (tmp_path / "dst").exists()


def test_a_number_of_frames_is_one_or_more(tmp_path, capsys):
    parse = lambda *frames: readers.build_parser().parse_args(["surgvu", "a", "b", *frames]).frames
    assert (parse(), parse("--frames", "8"), parse("--frames", "1")) == (1, 8, 1)
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(SystemExit):
            parse("--frames", text)
        assert f"argument --frames: {text} is no number of frames; give 1 or more\n" in capsys.readouterr().err


@pytest.fixture
def help_of(capsys):
    """What the command says for help about these arguments."""

    def ask(*arguments):
        with pytest.raises(SystemExit, match="^0$"):
            readers.build_parser().parse_args([*arguments, "--help"])
        return capsys.readouterr().out

    return ask


def test_help_lists_every_format_in_one_line_with_its_licence(help_of):
    lines = help_of().split("formats:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(readers.FORMATS)
    for line in lines:
        assert "CC" in line.split(";")[-1] or "licence" in line.split(";")[-1], line


@pytest.mark.parametrize("name", readers.FORMATS)
def test_help_of_a_format_states_source_licence_and_layout(name, help_of):
    text = " ".join(help_of(name).split())
    assert "SRC" in text.split("positional arguments")[0]
    assert "https://" in text or name == "table"
    assert ("--language" in text.split("options:")[1]) == (name == "slake")
    assert ("--answers" in text.split("options:")[1]) == (name in ("endovis-18-vqa", "cholec80-vqa", "real-colon-vqa"))
    assert ("--frames" in text.split("options:")[1]) == (name in ("surgvu", "real-colon-vqa"))


# --- images and official splits ---


def test_images_elsewhere(tmp_path):
    src, elsewhere = endovis(tmp_path / "src"), lay(tmp_path / "pictures", images=["seq_1/left_fr/frame000.png"])
    root, images, _, _ = readers.convert("endovis-18-vqa", src, tmp_path / "dst", images=elsewhere)
    assert root == elsewhere and "seq_1/left_fr/frame000.png" in images
    assert readers.describe_missing(root, images) == ("images not found: 2 of 3, such as seq_13/left_frames/frame002.png")


@pytest.mark.parametrize("name", ["test.jsonl", "split.json"])
def test_official_splits_are_not_mixed_with_others(tmp_path, name):
    src, other = endovis(tmp_path / "src"), lay(tmp_path / "dst", of={name: ["{}"]}) / name
    before = contents(tmp_path / "dst")
    with pytest.raises(UserError) as error:
        readers.convert("endovis-18-vqa", src, tmp_path / "dst")
    assert str(error.value) == f"{other}: is of another split than the official one; delete it or choose another DST"
    assert contents(tmp_path / "dst") == before


def test_command_tells_official_splits_and_missing_images(tmp_path, monkeypatch):
    endovis(tmp_path / "src")
    done = run(ROOT / "data" / "readers.py", "endovis-18-vqa", "src", "dst", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "dst/all.jsonl: 4 rows, 3 images, 1.3 questions per image",
        "official split: train 2 rows, val 1 rows, none 1 rows",
        "dropped rows: 1 (1 without an answer)",
        "images not found: 1 of 3, such as seq_13/left_frames/frame002.png",
        f"data.image_root: {tmp_path / 'src'}",
        f"next: a configuration of your own, with extends: {ROOT}/config_exp1.yaml and, below data:, "
        f"train_jsonl: {tmp_path}/dst/train.jsonl, val_jsonl: {tmp_path}/dst/val.jsonl",
    ]
    rows = [{"image": "a.jpg", "question": "q", "answer": "a", "split": split} for split in ("train", "test")]
    lay(tmp_path / "rad", of={"rows.jsonl": rows}, images=["images/a.jpg"])
    monkeypatch.chdir(tmp_path)
    done = run(ROOT / "data" / "readers.py", "vqa-rad", "rad", "out", cwd=tmp_path)
    said, command = done.stdout.splitlines()[-1].split(": ", 1)
    words = [this_python(), near(ROOT / "data" / "split.py"), "out/train.jsonl", "out/train_val", "--test", "0", "--image_root", "rad"]
    assert said == "next, as there is no official val" and shlex.split(command) == words


# --- malformed sources ---

BROKEN = {
    "image outside": ("vqa-rad", {"rows.jsonl": [{"image": "../a.jpg", "question": "q", "answer": "a"}]},
                      "rows.jsonl:1: image ../a.jpg lies outside the images' folder; name it relative to that"),
    "absolute image": ("vqa-rad", {"rows.jsonl": [{"image": "/a.jpg", "question": "q", "answer": "a"}]},
                       "rows.jsonl:1: image /a.jpg lies outside the images' folder; name it relative to that"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    assert error_of(name, of, tmp_path) == f"SRC/{message}"


@pytest.mark.parametrize("name", sorted(set(readers.FORMATS) - {"kvasir-vqa"}))
def test_a_folder_without_the_dataset_is_named(tmp_path, name):
    with pytest.raises(UserError) as error:
        readers.convert(name, lay(tmp_path / "src", of={"notes.md": "hello"}), tmp_path / "dst")
    assert str(error.value).startswith(f"{tmp_path / 'src'}: ") and "; give the " in str(error.value)
    with pytest.raises(UserError):
        readers.convert(name, tmp_path / "src" / "notes.md", tmp_path / "dst")


@pytest.mark.parametrize("branch", ["conversations", "kvasir-vqa-json"])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("group", ["P1"], "group is ['P1']; write one name, the patient's or the video's"),
        ("group", {"id": 1}, "group is {'id': 1}; write one name"),
        ("group", 1.5, "group is 1.5; write one name"),
        ("answers", "a", "answers is 'a'; write a list of texts"),
        ("answers", ["a", 2], "answers is ['a', 2]; write a list of texts"),
        ("options", "A: yes", "options is 'A: yes'; write a list of texts"),
        ("options", ["yes", "Yes"], "options repeats an item: ['yes', 'Yes']; give each option once"),
    ],
)
def test_what_no_row_can_have_is_refused_by_every_reader(tmp_path, branch, key, value, said):
    good = {"conversations": say("q", "a")} if branch == "conversations" else {"question": "q", "answer": "a"}
    records = [{"image": "a.png", "image_filename": "a.png", **good, **more} for more in ({}, {key: value})]
    src = lay(tmp_path, of={"r.jsonl": records}) / "r.jsonl"
    with pytest.raises(UserError) as error:
        readers.convert(branch, src, tmp_path / "dst")
    assert str(error.value).startswith(f"{src}:2: {said}") and not (tmp_path / "dst" / "all.jsonl").exists()
