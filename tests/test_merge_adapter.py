"""The script that merges: what it takes from the adapter, which base it takes, and what it checks before it loads either.

python -m pytest tests/test_merge_adapter.py -v
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TINY_MODEL
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

import merge_adapter
from config import load_config, near
from data.contents import weights_hash
from data.preprocess import answer_rules, training_space
from dataset import load_dataset
from files import UserError, json_text, sha256
from model.adapter import check_adapter, experiment_facts
from model.forward import tree_inputs
from model.load import load_model
from model.on_disk import refuse_other_base

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456789\n"


def merge_script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["merge_adapter.py", *map(str, arguments)])
    merge_adapter.main()


def test_the_script_takes_model_and_pixels_from_the_adapter_and_leaves_nothing_half_written(
    trained_adapter, merged_model, monkeypatch, tmp_path, capsys
):
    """No --config: the one beside the script names Qwen2-VL-7B and 200,704 pixels."""
    cfg, _, adapter = trained_adapter
    with pytest.raises(UserError, match="exists already; give a new folder"):
        merge_script(monkeypatch, "--adapter", adapter, "--out", merged_model)
    capsys.readouterr()
    merge_script(monkeypatch, "--adapter", adapter, "--out", tmp_path / "new", "--dtype", "float32")
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"wrote {near(adapter)} merged into {cfg.model_name} to {near(tmp_path / 'new')}" and len(said) == 2, (
        "and how bases are compared"
    )
    found, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "new", merged_model))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    facts = json.loads((tmp_path / "new" / "merged_from.json").read_text())
    assert facts["adapter_sha256"] == sha256(adapter / "adapter_model.safetensors") and facts["base_source"] == "folder"
    assert facts["base_weights"] == weights_hash(cfg.model_name) and facts["date"] and facts["model_name"][0] != "/"
    assert AutoProcessor.from_pretrained(tmp_path / "new").image_processor.size["longest_edge"] == cfg.image.max_pixels == 12544
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_a_precision_is_one_of_four(monkeypatch, capsys, dtype):
    with pytest.raises(UserError, match="^--adapter none: there is nothing to merge; give an adapter folder$"):
        merge_script(monkeypatch, "--adapter", "none", "--out", "never", "--dtype", dtype)
    with pytest.raises(SystemExit):
        merge_script(monkeypatch, "--adapter", "none", "--out", "never", "--dtype", f"{dtype}s")
    assert re.search(f"argument --dtype: invalid choice: '{dtype}s' .*auto.*float32.*bfloat16.*float16", capsys.readouterr().err)


@pytest.mark.parametrize("key", ["model_name", "image"])
def test_an_adapter_that_does_not_say_what_it_was_trained_with_is_not_merged(trained_adapter, monkeypatch, tmp_path, key):
    copy = shutil.copytree(trained_adapter[2], tmp_path / "adapter")
    facts = json.loads((copy / "experiment.json").read_text())
    del facts[key]
    (copy / "experiment.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=f"adapter: its experiment.json does not say {key}; copy the adapter again"):
        merge_script(monkeypatch, "--adapter", copy, "--out", tmp_path / "out")


def test_a_base_that_was_moved_is_told_by_the_command_or_the_configuration(trained_adapter, monkeypatch, tmp_path):
    cfg, _, adapter = trained_adapter
    moved = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "/elsewhere/base"}))
    with pytest.raises(UserError, match="was trained on /elsewhere/base, which is not there; say where it is now: model_name=PATH"):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "a")
    with pytest.raises(UserError, match='was trained with model_name="base", this run has "tiny-qwen2-vl"; use the model it was trained'):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "a", f"model_name={TINY_MODEL}")
    (tmp_path / "c.yaml").write_text(f"model_name: {cfg.model_name}\n")
    given = load_config(tmp_path / "c.yaml")
    assert merge_adapter.as_trained(given, moved).model_name == cfg.model_name
    assert merge_adapter.as_trained(load_config(None, [f"model_name={cfg.model_name}"]), moved).model_name == cfg.model_name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "c.yaml"]


def told_of(adapter, base):
    """The adapter, whose config says that it was trained on this base."""
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": base}))
    return adapter


def test_the_base_is_the_commands_or_the_adapters_or_where_that_is_gone_the_configurations(trained_adapter, tmp_path, capsys):
    """One of the hub is taken as it is; of a path or a bare name, which PublicNames wrote for one, there has to be a folder."""
    cfg, _, adapter = trained_adapter
    moved = shutil.copytree(adapter, tmp_path / "adapter")
    other = shutil.copytree(cfg.model_name, tmp_path / "other" / "base")
    (tmp_path / "c.yaml").write_text(f"model_name: {other}\n")
    configured, given = load_config(tmp_path / "c.yaml"), load_config(None, [f"model_name={other}"])
    model = lambda cfg, base: merge_adapter.as_trained(cfg, told_of(moved, base)).model_name
    assert model(configured, cfg.model_name) == cfg.model_name and model(given, cfg.model_name) == str(other)
    assert model(configured, "/gone/base") == str(other)
    capsys.readouterr()
    assert model(load_config(None), "owner/base") == "owner/base"
    note = f"note: adapter {moved} and model are compared by name (base), not by weights: the adapter does not say which, as older code "
    assert capsys.readouterr().out == f"{note}wrote it\n"
    shutil.copytree(cfg.model_name, tmp_path / "base")
    assert model(load_config(None), "base") == str(tmp_path / "base"), "beside the adapter"
    shutil.rmtree(tmp_path / "base")
    for gone in ("/gone/base", "base", None):
        with pytest.raises(UserError) as error:
            model(load_config(None), gone)
        assert str(error.value) == (
            f"adapter {near(moved)} was trained on {gone or 'base'}, which is not there; say where it is now: model_name=PATH"
        )
    (other / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=f"^model_name: {other} has no tokenizer.json; download the whole model"):
        model(given, cfg.model_name)


def test_the_folder_to_write_is_asked_for_and_one_beside_the_configuration_where_its_parent_is_not_here(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        merge_script(monkeypatch, "--adapter", "none")
    assert "the following arguments are required: --out" in capsys.readouterr().err
    (tmp_path / "here").mkdir()
    for folder in ("adapter", "merged", "sub/merged"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "c.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    for out, found in (("sub/merged", "exists already; give a new folder"), ("merged", "has no adapter_config.json")):
        with pytest.raises(UserError, match=found):
            merge_script(monkeypatch, "--config", tmp_path / "c.yaml", "--adapter", tmp_path / "adapter", "--out", out)


def test_what_is_merged_is_asked_as_the_adapter_was_trained(trained_adapter, tmp_path):
    """Prompt, answer prefix and pixel limits are the adapter's own, whatever a configuration says."""
    cfg, _, adapter = trained_adapter
    adapter = shutil.copytree(adapter, tmp_path / "adapter")
    other = load_config(None, ["prompt_style=chat", "answer_prefix=' '", "image.max_pixels=50176", "prompt.question=Frage"])
    (adapter / "experiment.json").write_text(json_text({**experiment_facts(other, {}), "model_name": "base"}))
    settings = lambda cfg: (cfg.prompt_style, cfg.answer_prefix, cfg.image, cfg.prompt)
    assert settings(merge_adapter.as_trained(cfg, adapter)) == settings(other)
    assert all(was != now for was, now in zip(settings(other), settings(cfg)))


def test_the_base_of_an_adapter_is_known_by_its_weights(trained_adapter, monkeypatch, tmp_path):
    """Prediction and merging took any model in a folder of the same name, and refused the same one in another."""
    cfg, _, adapter = trained_adapter
    moved, renamed, other = (
        shutil.copytree(source, tmp_path / name)
        for source, name in (
            (adapter, "adapter"),
            (cfg.model_name, "renamed"),
            (cfg.model_name, "other/base"),
        )
    )
    facts = experiment_facts(cfg, answer_rules(training_space(cfg, say=lambda line: None)))
    check = lambda adapter, base: refuse_other_base(adapter, str(base), weights_hash(base))
    (moved / "experiment.json").write_text(json_text({**facts, "base_weights": weights_hash(cfg.model_name)}))
    tensors = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 if "layers" in name else tensor for name, tensor in tensors.items()}, other / "model.safetensors")
    (renamed / "config.json").write_text(json.dumps(json.loads((renamed / "config.json").read_text())))  # another spelling
    assert check(moved, renamed) == [] and check_adapter(moved, facts | {"model_name": "renamed"}) is None
    with pytest.raises(UserError, match=r"on other weights \(base\) than those of .*base; give the model that it was trained on"):
        check(moved, other)
    with pytest.raises(UserError, match=rf"was trained on other weights \(base\) than those of {other}; give the model"):
        merge_script(monkeypatch, "--adapter", moved, "--out", tmp_path / "merged", f"model_name={other}")
    given = load_config(None, [f"model_name={renamed}"])
    assert merge_adapter.as_trained(given, moved).model_name == str(renamed) and not (tmp_path / "merged").exists()
    (note,) = check(adapter, other)
    assert note.endswith("compared by name (base), not by weights: the adapter does not say which, as older code wrote it")


def test_a_model_of_the_hub_is_known_by_the_weights_in_its_cache(monkeypatch, tmp_path):
    """There a large file is a link to one that is called by its SHA-256, and so nothing is read."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    source = TINY_MODEL / "model.safetensors"
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: str(snapshot / file))
    assert weights_hash("owner/tiny") is None, "not downloaded yet"
    (blobs / sha256(source)).write_text("not looked at")
    (snapshot / "model.safetensors").symlink_to(blobs / sha256(source))
    assert weights_hash("owner/tiny") == weights_hash(TINY_MODEL)
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    assert weights_hash("owner/tiny") is None, "not whole"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda base, adapter: (base / "model.safetensors").write_text(POINTER), "base/model.safetensors: is a Git LFS pointer"),
        (
            lambda base, adapter: (adapter / "adapter_model.safetensors").write_text(POINTER),
            "adapter_model.safetensors: is a Git LFS pointer",
        ),
        (lambda base, adapter: (adapter / "experiment.json").unlink(), "has no experiment.json; train it with train_exp1.py"),
        (lambda base, adapter: (adapter / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda base, adapter: shutil.rmtree(base), "which is not there; say where it is now: model_name=PATH"),
    ],
)
def test_merging_checks_before_torch_is_imported(trained_adapter, tmp_path, damage, message):
    """Its refusal took 14 of the 16 seconds that merging takes."""
    cfg, _, adapter = trained_adapter
    base, copy = (shutil.copytree(folder, tmp_path / name) for folder, name in ((cfg.model_name, "base"), (adapter, "adapter")))
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    damage(base, copy)
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['merge_adapter.py', '--adapter', {str(copy)!r}, '--out', 'never']; "
    code += f"import runpy; runpy.run_path({str(ROOT / 'merge_adapter.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


# --- an adapter of a base in four bits


@pytest.fixture
def of_nf4(trained_adapter, tmp_path):
    """The adapter, as one that was trained on its base in NF4."""
    adapter = shutil.copytree(trained_adapter[2], tmp_path / "adapter")
    facts = json.loads((adapter / "experiment.json").read_text())
    (adapter / "experiment.json").write_text(json_text({**facts, "quantization": "nf4"}))
    return adapter


def test_an_adapter_of_four_bits_is_merged_into_the_whole_base_and_the_difference_is_said(
    trained_adapter, merged_model, of_nf4, processor, monkeypatch, tmp_path, capsys
):
    cfg, rows, _ = trained_adapter
    (tmp_path / "c.yaml").write_text(f"data: {{val_jsonl: {cfg.data.val_jsonl}, image_root: {cfg.data.image_root}}}\n")
    out = tmp_path / "out"
    merge_script(monkeypatch, "--config", tmp_path / "c.yaml", "--adapter", of_nf4, "--out", out, "--dtype", "float32")
    found, expected = (load_file(folder / "model.safetensors") for folder in (out, merged_model))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    said = capsys.readouterr().out
    number = r"(\d+\.\d{3})"
    line = re.search(
        rf"in nf4, and is merged into it in float32: at the (\d+) answer tokens of {len(rows)} rows logits differ by {number} on average "
        rf"and {number} at most, and the likeliest token is the same at (\d+)\n",
        said,
    )
    data = load_dataset(rows, processor, cfg)
    tokens = sum(len(answer_ids) for _, answer_ids in data.encoded.values())
    models = load_model(cfg.model_copy(update={"quantization": "nf4"}), of_nf4)[0], load_model(cfg, of_nf4)[0]
    batch = data.collate([data[index] for index in range(len(data))])
    answers = batch["labels"].flatten().roll(-1) != -100  # the tokens before them
    with torch.no_grad():
        before, after = (model(**tree_inputs(model, batch)).logits.flatten(0, 1)[answers] for model in models)
    apart = (before - after).abs()
    assert (int(line[1]), float(line[2]), float(line[3])) == (
        tokens,
        pytest.approx(float(apart.mean()), abs=1e-3),
        pytest.approx(float(apart.max()), abs=1e-3),
    )
    assert int(line[4]) == (before.argmax(1) == after.argmax(1)).sum() and apart.max() > 0.01


def test_where_the_difference_cannot_be_measured_it_is_said_how_it_can(trained_adapter, of_nf4, monkeypatch, tmp_path, capsys):
    cfg = trained_adapter[0]
    merge_script(monkeypatch, "--adapter", of_nf4, "--out", tmp_path / "a")
    note = "note: the adapter was trained on the base in nf4, so merged it answers a little differently; "
    assert f"{note}--config FILE with data.val_jsonl measures how much\n" in capsys.readouterr().out
    rows = [f"data.val_jsonl={cfg.data.val_jsonl}", f"data.image_root={tmp_path}", f"output_dir={tmp_path / 'outputs'}"]
    merge_script(monkeypatch, "--adapter", of_nf4, "--out", tmp_path / "b", *rows)
    assert re.search(rf"{note}how much can't be measured: row '0': image .* does not exist", capsys.readouterr().out)
    assert (tmp_path / "b" / "model.safetensors").is_file()
