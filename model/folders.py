"""Folders that appear whole or not at all: adapters and checkpoints. What `files.atomic_open` is to a file."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import ctypes
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from files import UserError, sha256, write_text

SUMS_FILE = "SHA256SUMS"  # as `sha256sum --check` reads it
EDITED = "README.md"  # by people, and read by nobody here
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fs.h


def staged_path(folder):
    """Where a folder is written before it takes its place: hidden, so that nobody takes it for whole."""
    return folder.with_name(f".{folder.name}.new")


@contextmanager
def whole_folder(folder):
    """A new folder to write into (its Path), which takes the place of `folder` when the block ends well and is removed otherwise.

    Killed at any instant, `folder` is the old or the new one; what is left over, the next call or `remove_staged` removes.
    """
    folder = Path(folder)
    staged = staged_path(folder)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
        _settle(staged)
        if not folder.exists():
            staged.rename(folder)
        elif not _exchange(staged, folder):
            _replace_files(staged, folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def remove_staged(parent):
    """Remove what killed processes left of their `whole_folder(parent / …)`. Nobody may be writing there."""
    for path in Path(parent).glob(".*.new"):
        shutil.rmtree(path, ignore_errors=True)


def write_sums(folder):
    """Write the hashes of a folder's files beside them: what is read later is known to be what was written."""
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.name not in (SUMS_FILE, EDITED))
    write_text(Path(folder) / SUMS_FILE, "".join(f"{sha256(Path(folder) / name)}  {name}\n" for name in names))


def read_sums(folder):
    """{file name: SHA-256} as `write_sums` wrote it, None where older code did not."""
    path = Path(folder) / SUMS_FILE
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def refuse_edited(folder, names):
    """Raise UserError where one of these files of a folder is not what `write_sums` saw; folders without sums are believed."""
    sums = read_sums(folder) or {}
    for name in names:
        if name in sums and sha256(Path(folder) / name) != sums[name]:
            raise UserError(
                f"{Path(folder) / name}: is not what was written there, by the {SUMS_FILE} beside it; copy the folder again, or, where it "
                f"was changed on purpose, delete {SUMS_FILE}"
            )


def _settle(folder):
    """To disk, and readable by whoever may read the folder: safetensors makes private files."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)
        _flush(path)
    _flush(folder)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one, other):
    """Swap two folders in one step, as Linux can on local disks; False where nothing was done."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or an older C library
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _replace_files(staged, folder):
    """Where folders can't be swapped (NFS): file by file, so that `folder` is always there and each of its files whole; what
    describes the weights comes after them."""
    names = sorted((path.name for path in staged.iterdir()), key=lambda name: (name == SUMS_FILE, name.endswith(".json")))
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    for name in names:
        os.replace(staged / name, folder / name)
