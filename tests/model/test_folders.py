"""Folders that are whole at any instant: a process is ended at every single system operation, and what it leaves is looked at.

python -m pytest tests/model/test_folders.py -v
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from model import folders
from model.folders import remove_staged, staged_path, whole_folder

HERE = Path(__file__).resolve().parent
OLD = {"adapter_model.safetensors": "old weights", "experiment.json": "old facts", "stale.txt": "old"}
NEW = {"adapter_model.safetensors": "new weights", "experiment.json": "new facts"}


def write(folder, texts):
    for name, text in texts.items():
        (folder / name).write_text(text)


def read(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def replace_until_killed(folder, operation):
    """In a process of its own, replace `folder` and end without a word before the given operation; return whether it came to its end."""
    process = os.fork()
    if process == 0:
        count = 0

        def kill(event, args):
            nonlocal count
            count += 1
            if count > operation:
                os._exit(9)

        sys.addaudithook(kill)  # told of every open, rename, removal, change of mode and call into C
        with whole_folder(folder) as staged:
            write(staged, NEW)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def small_process(function, *arguments):
    """What a function of this file yields in a Python without torch, which forks ten times as quickly as one that has it loaded."""
    code = f"import json, sys; sys.path[:0] = {[str(HERE), str(HERE.parents[1])]}; import test_folders as here\n"
    code += f"print(json.dumps(list(here.{function.__name__}(*{arguments}))))"
    return json.loads(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)


def after_every_kill(folder, swapped=True):
    """What a kill before each operation leaves, one after another, until the replacement comes to its end."""
    folder = Path(folder)
    if not swapped:
        folders._exchange = lambda one, other: False
    for operation in range(1000):
        if folder.exists():
            for path in folder.iterdir():
                path.unlink()
        folder.mkdir(exist_ok=True)
        write(folder, OLD)
        ended = replace_until_killed(folder, operation)
        yield read(folder)
        if ended:
            return


def after_every_first_kill(folder):
    """The same, of a folder that isn't there yet; None where it still isn't."""
    folder = Path(folder)
    for operation in range(1000):
        ended = replace_until_killed(folder, operation)
        yield read(folder) if folder.exists() else None
        if ended:
            return


def test_a_kill_at_any_instant_leaves_the_old_folder_or_the_new_one(tmp_path):
    found = small_process(after_every_kill, str(tmp_path / "adapter"))
    assert len(found) > 20 and found[0] == OLD and found[-1] == NEW
    assert all(texts in (OLD, NEW) for texts in found), "and it is always there"


def test_where_folders_cannot_be_swapped_every_file_is_whole_and_facts_never_run_ahead(tmp_path):
    found = small_process(after_every_kill, str(tmp_path / "adapter"), False)
    assert found[0] == OLD and found[-1] == NEW
    for texts in found:
        assert texts["adapter_model.safetensors"] in ("old weights", "new weights")
        assert texts["experiment.json"] == "old facts" or texts["adapter_model.safetensors"] == "new weights"


def test_a_first_folder_is_absent_or_whole(tmp_path):
    found = small_process(after_every_first_kill, str(tmp_path / "checkpoint-3"))
    assert len(found) > 10 and found[0] is None and found[-1] == NEW and all(texts in (None, NEW) for texts in found)


def test_a_folder_may_lie_in_folders_that_are_not_there_yet(tmp_path):
    with whole_folder(tmp_path / "a" / "b" / "c") as folder:
        write(folder, NEW)
    assert read(tmp_path / "a" / "b" / "c") == NEW and os.listdir(tmp_path / "a" / "b") == ["c"]


def test_what_a_kill_left_is_removed_and_a_failure_leaves_nothing(tmp_path):
    folder = tmp_path / "adapter"
    while not staged_path(folder).exists():
        assert not replace_until_killed(folder, 5)
    remove_staged(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write(folder.parent, {"kept.txt": "kept"})
    with pytest.raises(OSError, match="full"), whole_folder(folder) as staged:
        write(staged, NEW)
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_all_is_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    """Or a power cut leaves empty files under the name of a whole adapter; its own name is put on the disk at last."""
    folder, fsync, synced = tmp_path / "adapter", os.fsync, []

    def watched(handle):
        fsync(handle)
        status = os.fstat(handle)
        synced.append((status.st_ino, status.st_size, folder.exists()))

    monkeypatch.setattr(os, "fsync", watched)
    with whole_folder(folder) as staged:
        write(staged, NEW)
    of = lambda path, named: (path.stat().st_ino, path.stat().st_size, named)
    *files, itself, parent = synced
    assert sorted(files) == sorted(of(path, False) for path in folder.iterdir())
    assert (itself, parent[0], parent[2]) == (of(folder, False), tmp_path.stat().st_ino, True)


def test_files_are_readable_as_others_are(tmp_path):
    """safetensors makes private files (mode 600)."""
    umask = os.umask(0o022)
    try:
        with whole_folder(tmp_path / "adapter") as staged:
            write(staged, NEW)
            os.chmod(staged / "adapter_model.safetensors", 0o600)
    finally:
        os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "adapter").iterdir()} == {0o644}
