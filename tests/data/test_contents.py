"""Hashes of pictures and model folders: by what they hold, read once.

python -m pytest tests/data/test_contents.py -v
"""

import hashlib
import json
import os
import shutil

import pytest

from data import contents
from data.contents import base_facts, file_hashes, model_hashes, picture_hashes, weights_hash
from files import hash_of, read_json


def sha(text):
    return hashlib.sha256(text).hexdigest()


@pytest.fixture
def reads(monkeypatch):
    """The files that are read."""
    seen, real = [], contents.sha256
    monkeypatch.setattr(contents, "sha256", lambda path: seen.append(os.path.basename(path)) or real(path))
    return seen


def test_a_file_is_read_once_until_its_size_or_time_changes(tmp_path, reads):
    cache = tmp_path / "hashes.json"
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png"]
    for path in paths[:2]:
        path.write_bytes(path.name.encode())
    expected = {paths[0]: sha(b"a.png"), paths[1]: sha(b"b.png"), paths[2]: None}
    assert file_hashes(paths, cache) == file_hashes(paths, cache) == expected and sorted(reads) == ["a.png", "b.png"]
    os.utime(paths[0], ns=(1, 1))
    assert file_hashes(paths, cache) == expected and reads[2:] == ["a.png"], "looked at again, and the same"
    paths[1].write_bytes(b"B.png")
    assert file_hashes(paths, cache)[paths[1]] == sha(b"B.png") and reads[3:] == ["b.png"]


@pytest.mark.parametrize("damaged", [b'{"a.png": "0', b"[]", b"", b"\xff"])
def test_a_damaged_cache_is_made_anew(tmp_path, damaged):
    (tmp_path / "a.png").write_bytes(b"a.png")
    (tmp_path / "hashes.json").write_bytes(damaged)
    assert file_hashes([tmp_path / "a.png"], tmp_path / "hashes.json") == {tmp_path / "a.png": sha(b"a.png")}
    assert list(read_json(tmp_path / "hashes.json")) == [str(tmp_path / "a.png")]


def test_pictures_are_known_by_name_and_bytes_wherever_they_lie(tmp_path):
    rows = [{"image": name} for name in ("b/2.png", "1.png", "1.png", "../outside.png", "none.png")]
    (tmp_path / "one" / "b").mkdir(parents=True)
    (tmp_path / "one" / "1.png").write_bytes(b"first")
    (tmp_path / "one" / "b" / "2.png").write_bytes(b"second")
    (tmp_path / "outside.png").write_bytes(b"not ours")
    found = picture_hashes(rows, tmp_path / "one", tmp_path / "cache.json")
    assert found == [["../outside.png", None], ["1.png", sha(b"first")], ["b/2.png", sha(b"second")], ["none.png", None]]
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    assert picture_hashes(rows[::-1], tmp_path / "two", tmp_path / "cache.json") == found


def test_a_model_is_its_files_or_its_hub_id(tmp_path):
    (tmp_path / "m" / "onnx").mkdir(parents=True)
    (tmp_path / "m" / "config.json").write_bytes(b"{}")
    assert model_hashes(str(tmp_path / "m"), tmp_path / "cache.json") == [["config.json", sha(b"{}")]]
    assert model_hashes("Qwen/Qwen2-VL-7B-Instruct", tmp_path / "cache.json") == "Qwen/Qwen2-VL-7B-Instruct"


def test_a_base_model_is_known_by_the_hubs_commit_where_one_is_known(tmp_path, monkeypatch):
    commit, weights = "0123456789" * 4, b"weights"
    cached, filled, copied = tmp_path / "snapshots" / commit, tmp_path / "filled", tmp_path / "copied"
    for folder in (cached, filled, copied):
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes(b"{}")
        (folder / "model.safetensors").write_bytes(weights)
    note = filled / ".cache" / "huggingface" / "download" / "config.json.metadata"  # as huggingface_hub 2.4 writes it
    note.parent.mkdir(parents=True)
    note.write_text(f"{commit}\netag\n1700000000.0\n")
    found = [base_facts(str(folder), None) for folder in (cached, filled, copied)]
    assert [facts["base_revision"] for facts in found] == [commit, commit, None]
    assert {facts["base_source"] for facts in found} == {"folder"} and len({facts["base_weights"] for facts in found}) == 1
    monkeypatch.setattr(contents, "model_folder", lambda name: cached if name == "Qwen/Qwen2-VL-2B-Instruct" else None)
    assert base_facts("Qwen/Qwen2-VL-2B-Instruct", None) == {**found[0], "base_source": "hub"}
    assert base_facts("other/model", None) == {"base_source": "hub", "base_revision": None, "base_weights": None}


def test_weights_are_told_by_their_bytes_and_those_of_an_index_alone(tmp_path, reads):
    folder = tmp_path / "m"
    folder.mkdir()
    assert weights_hash(str(folder)) is None
    for name in ("pytorch_model.bin", "model.safetensors", "2.safetensors", "1.safetensors"):
        (folder / name).write_bytes(name.encode())
        listed = sorted(path.name for path in folder.glob("*.safetensors")) or ["pytorch_model.bin"]
        assert weights_hash(str(folder)) == hash_of([sha(text.encode()) for text in listed])
    index = {"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weights_hash(str(folder)) == hash_of([sha(b"1.safetensors"), sha(b"2.safetensors")])
    (folder / "1.safetensors").unlink()
    assert weights_hash(str(folder)) is None, "not all of them"
    blob, cached = tmp_path / ("e" * 64), tmp_path / "cached"
    blob.write_bytes(b"large")
    cached.mkdir()
    (cached / "model.safetensors").symlink_to(blob)  # as the hub's cache has it
    reads.clear()
    assert weights_hash(str(cached)) == hash_of(["e" * 64]) and reads == []
    blob.rename(tmp_path / "another")
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to(tmp_path / "another")
    assert weights_hash(str(cached)) == hash_of([sha(b"large")])
