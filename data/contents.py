"""Hashes of what files hold: pictures and model folders, which are large and hardly ever change.

A copy with another time, on another disk, is the same; so a file is read once and again only when its size or time has changed.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.images import image_path
from files import UserError, read_json, sha256, write_json

CACHE = "hashes.json"  # in output_dir/data


def file_hashes(paths, cache_path):
    """{path: SHA-256 of its bytes, or None where there is no such file}; those of unchanged files come from `cache_path`."""
    known = read_json(cache_path) if Path(cache_path).is_file() else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing and reading run without Python's lock
        found = dict(zip(paths, pool.map(lambda path: _entry(path, known), paths)))
    present = {str(path): entry for path, entry in found.items() if entry}
    if present.items() - known.items():
        write_json(cache_path, {**known, **present})
    return {path: entry and entry.split()[0] for path, entry in found.items()}


def _entry(path, known):
    """`HASH bytes time` of a file, None if it is not there."""
    if not os.path.isfile(path):
        return None
    status = os.stat(path)
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    entry = known.get(str(path), "")
    return entry if entry.partition(" ")[2] == stamp else f"{sha256(path)} {stamp}"


def picture_hashes(rows, root, cache_path):
    """[[name, hash]] of every picture that rows name, sorted; None for one that is missing, of which the stages speak."""
    paths = {name: _inside(root, name) for name in {row["image"] for row in rows}}
    hashes = file_hashes(sorted({path for path in paths.values() if path}), cache_path)
    return [[name, hashes.get(path)] for name, path in sorted(paths.items())]


def _inside(root, name):
    try:
        return image_path(root, name)
    except UserError:
        return None


def model_hashes(model_name, cache_path):
    """A hub id as it is; [[name, hash]] of the files of a model's folder."""
    if not Path(model_name).is_dir():
        return model_name
    paths = sorted(path for path in Path(model_name).iterdir() if path.is_file())
    return [[path.name, hash] for path, hash in file_hashes(paths, cache_path).items()]
