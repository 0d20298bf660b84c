"""Hashes of what files hold: pictures and model folders, which are large and hardly ever change.

A copy with another time, on another disk, is the same; so a file is read once and again only when its size or time has changed.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.image_names import image_path, images_of
from files import UserError, hash_of, read_cache, read_json, sha256, write_json

CACHE = "hashes.json"  # in output_dir/data


def file_hashes(paths, cache_path):
    """{path: SHA-256 of its bytes, or None where there is no such file}; those of unchanged files come from `cache_path`, if any."""
    known = read_cache(cache_path) if cache_path else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing and reading run without Python's lock
        found = dict(zip(paths, pool.map(lambda path: _entry(path, known), paths)))
    present = {str(path): entry for path, entry in found.items() if entry}
    if cache_path and present.items() - known.items():
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
    paths = {name: _inside(root, name) for name in {name for row in rows for name in images_of(row)}}
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


def weights_hash(model_name, cache_path=None):
    """SHA-256 that tells a model by its weights, whatever its folder is called and whatever else lies in it.

    None where a hub id's weights are not on this machine, or not all of them.
    """
    folder = model_folder(model_name)
    index = next(iter(sorted(folder.glob("*.index.json"))), None) if folder else None
    if index:
        paths = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    else:
        paths = folder and (sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")))
    if not paths or not all(path.is_file() for path in paths):
        return None
    named = {path: path.resolve().name for path in paths if path.is_symlink()}  # the hub's cache calls large files by their SHA-256
    known = {path: name for path, name in named.items() if re.fullmatch("[0-9a-f]{64}", name)}
    found = file_hashes([path for path in paths if path not in known], cache_path)
    return hash_of([known.get(path) or found[path] for path in paths])


def base_revision(model_name):
    """The hub's commit (40 hex digits) that a model is of: of the cache's copy, or of a folder that the hub's client has filled.

    None where the folder doesn't tell, and where the model is not on this machine.
    """
    folder = model_folder(model_name)
    if folder is None:
        return None
    # What `hf download --local-dir` leaves: lines of commit, etag and time.
    said = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    first = said.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if said.is_file() else folder.resolve().name
    return first.strip() if re.fullmatch("[0-9a-f]{40}", first.strip()) else None


def base_facts(model_name, cache_path):
    """Which model it is: base_source (`hub`: its name is an id; or `folder`), base_revision (above), base_weights (`weights_hash`)."""
    source = "folder" if Path(model_name).is_dir() else "hub"
    return {"base_source": source, "base_revision": base_revision(model_name), "base_weights": weights_hash(model_name, cache_path)}


def model_folder(model_name):
    """The folder of a model: a path of one, or where the hub's cache holds an id's; None where it is not on this machine."""
    if Path(model_name).is_dir():
        return Path(model_name)
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(model_name, "config.json")
    except ValueError:  # not a hub id
        return None
    return Path(path).parent if isinstance(path, str) else None
