"""A model's or an adapter's folder that is not whole, known without loading it.    python -m pytest tests/model/test_on_disk.py -v"""

import json
import shutil
import struct

import numpy as np
import pytest
from conftest import TINY_MODEL
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from config import PromptConfig
from files import UserError
from model.on_disk import adapter_facts, check_adapter_folder, check_model_folder, refuse_other_base, safetensors_header, shards

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 123456789\n".format(64 * "0")


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY_MODEL, tmp_path / "model")


def said(call, *arguments, **options):
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_model_a_hub_id_and_the_real_processors_folder_pass(folder, shared):
    check_model_folder(folder)
    check_model_folder("Qwen/Qwen2-VL-7B-Instruct")
    check_model_folder(shared / "qwen2-vl-processor", weights=False)  # vocab.json and merges.txt in the place of tokenizer.json
    assert "has no model.safetensors; download the whole model" in said(check_model_folder, shared / "qwen2-vl-processor")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert said(check_model_folder, folder).startswith(f"model_name: {folder} has no {name}; download the whole model")
    if name == "model.safetensors":
        check_model_folder(folder, weights=False)


def test_half_a_pair_of_tokenizer_files_is_none(folder):
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert "has no tokenizer.json" in said(check_model_folder, folder, weights=False)
    (folder / "merges.txt").write_text("")
    check_model_folder(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "processor_config.json", "pytorch_model.bin"])
def test_a_git_lfs_pointer_is_called_so_whatever_it_stands_for(folder, name):
    (folder / name).write_text(POINTER)
    assert said(check_model_folder, folder) == (
        f"{folder / name}: is a Git LFS pointer, not the file itself; run `git lfs pull` where it came from, or download it again"
    )


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert said(check_model_folder, folder) == f"model_name: {folder} has no model-00002-of-00002.safetensors; download the whole model"


def file_with(path, *shapes):
    tensors = {str(number): np.zeros(shape, np.float32) for number, shape in enumerate(shapes)}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def test_the_header_tells_the_shapes(tmp_path):
    header = safetensors_header(file_with(tmp_path / "a.safetensors", (2, 3), (5,)))
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {"0": ("F32", [2, 3]), "1": ("F32", [5])}
    assert safetensors_header(file_with(tmp_path / "none.safetensors")) == {}


@given(st.data())
def test_cut_at_any_byte_a_file_is_refused(tmp_path_factory, data):
    path = file_with(tmp_path_factory.mktemp("cut") / "a.safetensors", (4, 3), (2,))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert str(path) in said(safetensors_header, path) and said(safetensors_header, path).endswith("; download it again")


def test_what_is_no_safetensors_file_is_called_so(tmp_path):
    path = tmp_path / "a.safetensors"
    for content in (b"<!DOCTYPE html><html>", struct.pack("<Q", 4) + b"[12]", struct.pack("<Q", 8) + b'{"a": 1}'):
        path.write_bytes(content)
        assert str(path) in said(safetensors_header, path)
    file_with(path, (2,))
    with open(path, "ab") as file:
        file.write(b"more")
    assert "is not whole" in said(safetensors_header, path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors; train one with train_exp1.py or give --adapter none"),
        ("adapter_config.json", None, "has no adapter_config.json"),
        ("adapter_config.json", "{", "adapter_config.json: not valid JSON"),
        ("adapter_config.json", POINTER, "adapter_config.json: is a Git LFS pointer"),
        ("adapter_model.safetensors", POINTER, "adapter_model.safetensors: is a Git LFS pointer"),
        ("adapter_model.safetensors", "cut", "copy the adapter again, or train it anew"),
    ],
)
def test_an_adapter_is_looked_at_likewise(tmp_path, name, content, message):
    file_with(tmp_path / "adapter_model.safetensors", (2, 3))
    (tmp_path / "adapter_config.json").write_text("{}")
    check_adapter_folder(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    elif content == "cut":
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    else:
        (tmp_path / name).write_text(content)
    assert message in said(check_adapter_folder, tmp_path)


@pytest.mark.parametrize("header", ["[" * 50_000, '{"a": {"data_offsets": []}}', '{"a": {"data_offsets": "x"}}', "[1]", '{"a": 3}'])
def test_a_header_of_another_kind_is_refused(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    assert said(safetensors_header, path) == f"{path}: is no safetensors file; download it again"


@pytest.mark.parametrize(
    "key", ["model_name", "image", "answer_rules", "base_weights", "base_revision", "base_source", "longest_answer", "best"]
)
def test_a_fact_of_an_adapter_that_is_of_another_kind_is_refused_by_its_name(tmp_path, key):
    (tmp_path / "experiment.json").write_text(json.dumps({key: [1.5]}))
    with pytest.raises(UserError, match=f"experiment.json: {key} is .*1.5.*, which no training wrote; copy the adapter again"):
        adapter_facts(tmp_path)


def test_what_an_older_adapter_does_not_say_it_was_trained_with(tmp_path):
    older = {"prompt": PromptConfig().model_dump(), "max_frames": None, "quantization": "none", "cascade": "none", "stage_prefix": "keep"}
    for facts in ({"model_name": "m"}, {"quantization": "nf4", "max_frames": 8, "longest_answer": 3}):
        (tmp_path / "experiment.json").write_text(json.dumps(facts))
        assert adapter_facts(tmp_path) == {**older, **facts}
    (tmp_path / "experiment.json").unlink()
    assert said(adapter_facts, tmp_path) == f"adapter {tmp_path} has no experiment.json; train it with train_exp1.py"


def test_a_base_is_known_by_its_weights_or_by_its_name(tmp_path):
    def compare(facts, model_name, weights):
        (tmp_path / "experiment.json").write_text(json.dumps(facts))
        return refuse_other_base(tmp_path, model_name, weights)

    by_name = f"note: adapter {tmp_path} and model are compared by name (base), not by weights: "
    older = "the adapter does not say which, as older code wrote it"
    assert compare({"model_name": "base", "base_weights": "a"}, "/x/renamed", "a") == []
    assert compare({"model_name": "base"}, "/x/base", "a") == compare({"model_name": "base"}, "x/base", None) == [by_name + older]
    assert compare({"model_name": "base", "base_weights": "a"}, "x/base", None) == [by_name + "the model's are not on this machine yet"]
    assert said(compare, {"model_name": "base", "base_weights": "a"}, "/x/base", "b") == (
        f"adapter {tmp_path} was trained on other weights (base) than those of /x/base; give the model that it was trained on, "
        "model_name=PATH, or train anew"
    )
    for facts, weights in (({"model_name": "base"}, "b"), ({"model_name": "base", "base_weights": "a"}, None)):
        assert said(compare, facts, "/x/other", weights) == (
            f'adapter {tmp_path} was trained with model_name="base", this run has "other"; use the model it was trained with, or train anew'
        )


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../b"}}']
)
def test_an_index_that_names_no_weights_is_refused(folder, index):
    path = folder / "model.safetensors.index.json"
    path.write_text(index)
    holds = "holds a list, not the object that was written" if index == "[]" else "has no weight_map, which names the files of the weights"
    assert said(check_model_folder, folder) == f"{path}: {holds}; download it again"
    path.write_text('{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}')
    assert shards(path) == ["1.safetensors", "2.safetensors"]


def test_weights_and_settings_of_older_forms_are_whole_too(folder):
    """What a config.json of another kind lacks, transformers says."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    (folder / "processor_config.json").rename(folder / "preprocessor_config.json")
    check_model_folder(folder)
    for text in ("{", "[1]"):
        (folder / "config.json").write_text(text)
        check_model_folder(folder)
    (folder / "preprocessor_config.json").unlink()
    assert said(check_model_folder, folder) == (
        f"model_name: {folder} has no preprocessor_config.json; download the whole model, or copy that file from its base"
    )
