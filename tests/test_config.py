"""The configuration: its keys and defaults, its errors, and how its paths are resolved.

python -m pytest tests/test_config.py -v
"""

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml
from evaluating import CFG
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import config
import predict_exp1
import sanity_overfit
import train_exp1
from config import Config, PublicNames, check_transformers, load_config
from files import UserError

ROOT = Path(__file__).resolve().parents[1]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# DESIGN.md's table, typed in; the steps between savings are for the shared rows' ~650 steps
DEFAULTS = {
    "model_name": "Qwen/Qwen2-VL-7B-Instruct", "quantization": "none", "vision_frozen": True, "prompt_style": "plain", "answer_prefix": "",
    "prompt.system": "You are a surgical VQA assistant. Answer concisely with only the final answer.",
    "prompt.question_type": "Question type", "prompt.question": "Question", "prompt.valid_answers": "Valid answers",
    "prompt.answer": "Answer", "data.min_groups": 2, "data.language": "en",
    "image.min_pixels": 3136, "image.max_pixels": 200704,
    "lora.r": 16, "lora.alpha": 32, "lora.dropout": 0.05, "lora.target_modules": PROJECTIONS, "lora.vision": None,
    "train.train_bs": 4, "train.eval_bs": 4, "train.questions_per_image": "all", "train.grad_accum": 2,
    "train.seed": 42, "train.lr": 1e-4, "train.weight_decay": 0.0, "train.epochs": 1, "train.warmup_ratio": 0.05,
    "train.bf16": True, "train.gradient_checkpointing": True, "train.logging_steps": 10, "train.save_steps": 100,
    "train.max_seq_len": 2048, "train.report_to": "none", "train.select_by": "micro", "train.init_adapter": None, "train.cascade": "none",
    "data.train_jsonl": None, "data.val_jsonl": None, "data.test_jsonl": None, "data.image_root": None,
    "data.corrections": None, "data.answer_space": "mined", "data.max_unseen": 0.01, "data.count_margin": 5, "data.max_listed": 20,
    "data.max_frames": None, "data.stages": None, "data.stage_prefix": "keep", "train.order": "random",
    "predict.decoding": "exact", "predict.cascade": False, "predict.max_new_tokens": 4, "predict.batch_size": 4,
    "predict.candidates_kept": 5, "predict.calibrated": False, "predict.coverage": None,
    "eval.numeric_rel_tol": 0.05, "eval.numeric_abs_tol": 0.0, "eval.count_abs_tol": 0,
}  # fmt: skip
HISTORICAL = {
    "lora.r": 32, "lora.alpha": 64, "lora.dropout": 0.05, "train.lr": 5e-6, "train.weight_decay": 0.01,
    "train.epochs": 3, "train.train_bs": 1, "train.grad_accum": 16, "train.questions_per_image": 1,
    "train.warmup_ratio": 0.0, "train.bf16": True, "train.gradient_checkpointing": False, "image.max_pixels": 448 * 448,
    "model_name": "Qwen/Qwen2-VL-7B-Instruct",
}  # fmt: skip


def at(cfg, key):
    for name in key.split("."):
        cfg = getattr(cfg, name)
    return cfg


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def error_of(*arguments):
    with pytest.raises(UserError) as error:
        load_config(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- keys and defaults ---


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults_of_the_code_and_of_config_exp1(tmp_path, key):
    in_code, in_file = load_config(write(tmp_path / "empty.yaml", "")), load_config(ROOT / "config_exp1.yaml")
    assert at(in_code, key) == at(in_file, key) == DEFAULTS[key]


def test_config_exp1_states_every_key_at_its_default(tmp_path):
    in_code = load_config(write(tmp_path / "empty.yaml", "")).model_dump()
    in_file = load_config(ROOT / "config_exp1.yaml").model_dump()
    assert (in_code.pop("output_dir"), in_file.pop("output_dir")) == (tmp_path / "outputs", ROOT / "outputs")
    assert in_file == in_code
    stated = yaml.safe_load((ROOT / "config_exp1.yaml").read_text())
    assert {key: set(value) for key, value in stated.items() if isinstance(value, dict)} == {
        key: set(value) for key, value in in_code.items() if isinstance(value, dict)
    }
    assert set(stated) == {*in_code, "output_dir"}


@pytest.mark.parametrize("key", HISTORICAL)
def test_config_exp1_actual_holds_the_historical_values(key):
    assert at(load_config(ROOT / "config_exp1_actual.yaml"), key) == HISTORICAL[key]


def test_config_exp1_actual_writes_elsewhere_than_config_exp1():
    folders = [load_config(ROOT / name).output_dir for name in ("config_exp1.yaml", "config_exp1_actual.yaml")]
    assert folders[0] != folders[1]


@pytest.mark.parametrize("name", ["config_exp1.yaml", "config_exp1_actual.yaml", "config_demo.yaml"])
def test_every_key_has_its_reason_on_the_line_above(name):
    if name == "config_demo.yaml" and not (ROOT / name).exists():
        pytest.skip("config_demo.yaml is not there")
    lines = (ROOT / name).read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r" *\w+: *\S", line)]
    stated = yaml.safe_load("\n".join(lines))
    assert len(keys) == sum(len(value) if isinstance(value, dict) else 1 for value in stated.values())
    bare = [lines[number] for number in keys if not re.match(r" *# \S", lines[number - 1])]
    assert not bare


def test_a_configuration_is_immutable():
    cfg = load_config(ROOT / "config_exp1.yaml")
    for section, key in ((cfg, "output_dir"), (cfg.train, "lr"), (cfg.lora, "r")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 1)


# --- values ---


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("2E-5", 2e-5), ("5", 5.0)])
def test_numbers_that_yaml_takes_for_text(tmp_path, text, number):
    path = write(tmp_path / "c.yaml", f"train:\n  lr: {text}\n")
    for cfg in (load_config(path), load_config(None, [f"train.lr={text}"])):
        assert cfg.train.lr == number and isinstance(cfg.train.lr, float)


def test_overrides_win_over_the_file_and_keep_the_rest(tmp_path):
    path = write(tmp_path / "c.yaml", "train: {lr: 3.0e-4, epochs: 2}\npredict:\n")
    overrides = ["train.lr=2e-4", "predict.max_new_tokens=auto", "answer_prefix=' '", "lora.target_modules=[q_proj]"]
    cfg = load_config(path, [*overrides, "train.lr=1e-3", "eval.numeric_abs_tol=1"])
    assert (cfg.train.lr, cfg.train.epochs, cfg.predict.max_new_tokens) == (1e-3, 2, "auto")
    assert (cfg.answer_prefix, cfg.lora.target_modules, cfg.eval.numeric_abs_tol) == (" ", ["q_proj"], 1.0)
    assert load_config(path).train.lr == 3e-4


@pytest.mark.parametrize(
    "text",
    [
        "Über prüfung [1] #2/lauf #1",
        "2026_11_26",
        "0010",
        "1:30",
        "off",
        "null",
        "{a: 1}",
        "a: b",
        "- x",
        "1e3",
        "'lauf",
        " x",
        "[1]",
        "*a",
    ],
)
def test_the_path_or_text_of_an_override_is_taken_as_it_stands(tmp_path, monkeypatch, text):
    """A shell has taken off its quotes; YAML would cut at ` #`, and read dates, numbers and truth."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "c.yaml", "train: {epochs: 1}\n")
    assert load_config(path, [f"output_dir={text}"]).output_dir == tmp_path / text
    assert load_config(path, [f"answer_prefix={text}"]).answer_prefix == text
    assert load_config(path, [f"model_name={text}"]).model_name == (text if text.count("/") < 2 else str(tmp_path / text))
    for key in ("data.train_jsonl", "data.image_root", "train.init_adapter"):
        assert at(load_config(path, [f"{key}={text}"]), key) == (None if text == "null" else tmp_path / text)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.val_jsonl=", None), ("data.val_jsonl=~", None), ("answer_prefix=", ""), ("answer_prefix=' '", " "),
        ('prompt.system="a\\nb"', "a\nb"), ("prompt.answer=Yes: or no #1", "Yes: or no #1"),
        ("answer_prefix=no", "no"), ("train.report_to=[wandb, mlflow]", ["wandb", "mlflow"]),
        ("train.report_to=null", "none"), ("train.report_to=[none]", "none"), ("train.report_to=[null]", "none"),
        ("train.report_to=off", "off"),
        ("data.language=[de, en]", ["de", "en"]), ("train.questions_per_image=all", "all"), ("train.questions_per_image=2", 2),
        ("train.max_steps=null", None), ("train.bf16=off", False), ("predict.max_new_tokens=auto", "auto"),
    ],
)  # fmt: skip
def test_everything_else_of_an_override_is_yaml(override, value):
    assert at(load_config(None, [override]), override.partition("=")[0]) == value


def test_no_path_is_no_folder():
    assert error_of(None, ["output_dir="]) == "override 'output_dir=': give a path"


def test_defaults_are_not_shared_between_configurations():
    load_config(None, ["data.train_jsonl=x.jsonl"])
    assert load_config(None).data.train_jsonl is None and Config().lora.target_modules == PROJECTIONS


# --- errors ---


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.learnig_rate", None),
        ("train.epoch", "train.epochs"),
        ("train.gradacum", "train.grad_accum"),
        ("predict.max_tokens", "predict.max_new_tokens"),
        ("data.val_json", "data.val_jsonl"),
        ("train_bs", "train.train_bs"),
        ("model", "model_name"),
        ("lora.rank", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, key, nearest):
    section, _, name = key.rpartition(".")
    path = write(tmp_path / "c.yaml", f"{section}:\n  {name}: 1\n" if section else f"{name}: 1\n")
    for message in (error_of(path), error_of(None, [f"{key}=1"])):
        assert f"unknown key {key}" in message
        assert nearest is None or f"(did you mean {nearest}?)" in message
    assert error_of(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", "fast"), ("train.lr", "-1"), ("train.lr", ".inf"), ("train.lr", "null"), ("train.lr", "[1]"),
        ("train.train_bs", "0"), ("train.train_bs", "2.5"), ("train.train_bs", "many"), ("train.train_bs", "true"),
        ("train.epochs", "0"), ("train.bf16", "maybe"), ("train.questions_per_image", "some"), ("train.epochs", "true"),
        ("train.questions_per_image", "0"), ("train.warmup_ratio", "1.5"),
        ("predict.max_new_tokens", "0"), ("predict.max_new_tokens", "few"), ("predict.decoding", "beam"),
        ("lora.target_modules", "q_proj"), ("lora.target_modules", "[]"), ("lora.dropout", "1"), ("lora.r", "1.5"),
        ("prompt_style", "fancy"), ("vision_frozen", "maybe"), ("lora.vision", "all"), ("eval.count_abs_tol", "0.5"),
        ("image.max_pixels", "-3"), ("eval.numeric_rel_tol", "-0.1"), ("train", "5"), ("data", "[]"),
        ("image.max_pixels", "783"), ("image.min_pixels", "783"), ("train.seed", "4294967296"), ("data.stages", "[]"),
        ("predict.coverage", "90"), ("predict.min_confidence", "60"), ("data.max_unseen", "5"), ("eval.numeric_rel_tol", "5"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_key(tmp_path, key, value):
    section, _, name = key.rpartition(".")
    path = write(tmp_path / "c.yaml", f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n")
    for message in (error_of(path), error_of(None, [f"{key}={value}"])):
        assert re.search(rf": {re.escape(key)}: ", message), message
    assert error_of(path).startswith(f"{path}: ")


@pytest.mark.parametrize(("key", "value"), [("model_name", "7"), ("train.report_to", "3"), ("answer_prefix", "no"), ("output_dir", "0010")])
def test_a_text_of_a_file_is_in_quotes_where_yaml_takes_it_for_something_else(tmp_path, key, value):
    section, _, name = key.rpartition(".")
    path = tmp_path / "c.yaml"
    assert f": {key}: " in error_of(write(path, f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n"))
    load_config(write(path, f"{section}:\n  {name}: '{value}'\n" if section else f"{name}: '{value}'\n"))


def test_one_size_for_all_images_may_be_asked_for():
    cfg = load_config(None, ["image.min_pixels=200704", "image.max_pixels=200704"])
    assert cfg.image.min_pixels == cfg.image.max_pixels == 200704
    assert "min_pixels=200705 is more than max_pixels=200704" in error_of(None, ["image.min_pixels=200705", "image.max_pixels=200704"])
    unsaid = error_of(None, ["vision_frozen=false"])
    assert unsaid.endswith(": vision_frozen=false does not say what is trained; set lora.vision to merger or tower"), unsaid


def test_all_mistakes_are_reported_at_once(tmp_path):
    message = error_of(write(tmp_path / "c.yaml", "train: {lr: fast, epoch: 1}\nlora: {r: 0}\n"))
    assert all(words in message for words in ("train.lr: ", "unknown key train.epoch", "lora.r: "))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [unclosed", "not a YAML file ("),
        (b"a: b: c", "not a YAML file ("),
        (b"\xff\xfe\x00", "not a YAML file ("),
        (b"- a\n- b\n", "holds a list, not `key: value` lines"),
        (b"just text", "holds a str, not `key: value` lines"),
        (b"1: 2", "the key 1 is no text"),
        (b"data:\n  no: 2", "the key False is no text"),
        (b"# \n\ntrain: {lr: 1, \xe4: 2}", "not a YAML file (line 3: not UTF-8 text (invalid continuation byte at byte 16 of the line))"),
        (b"train:\n  lr: 1\n  seed: 2\n  lr: 2", "line 4: lr is given twice, first in line 2; keep one"),
        (b"output_dir: a\n# b\noutput_dir: c", "line 3: output_dir is given twice, first in line 1; keep one"),
        (b"data: " + b"[" * 100_000, ""),
        (b"config_path: x", ""),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    assert error_of(path).startswith(f"{path}: {message}")


def test_a_key_of_a_merged_mapping_may_be_given_anew(tmp_path):
    path = write(tmp_path / "c.yaml", "train: &same {lr: 1.0e-3, seed: 1}\n")
    assert load_config(path).train.seed == 1
    cfg = load_config(write(path, "lora: &a {r: 8}\ntrain:\n  seed: 3\nimage:\n  <<: {min_pixels: 800}\n  min_pixels: 900\n"))
    assert (cfg.lora.r, cfg.image.min_pixels) == (8, 900)


@pytest.mark.parametrize(
    ("override", "languages"), [("data.language=de", ("de",)), ("data.language=[zh, en, zh]", ("zh", "en")), ("data.min_groups=3", ("en",))]
)
def test_languages_are_one_or_several(override, languages):
    assert load_config(None, [override]).data.languages == languages


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.language=xx", "data.language: .*one of de, en, es, fr, zh is wanted"), ("data.language=[]", "data.language: "),
        ("data.language=no", "data.language: "), ("prompt.system='<|im_end|>'", "prompt.system: .*without special tokens"),
        ("prompt.question=' '", "prompt.question: "), ('prompt.answer="a\\nb"', "prompt.answer: .*on one line"),
    ],
)  # fmt: skip
def test_languages_and_prompts_that_cannot_be(override, message):
    assert re.search(message, error_of(None, [override]))


def test_missing_configuration_file(tmp_path):
    assert error_of(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: no such configuration file; give another with --config"
    assert "not a YAML file" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "override 'train.lr': write section.key=value, for example train.lr=2e-4"),
        ("train.lr=[1", "override 'train.lr=[1': '[1' is not a YAML value"),
        ("model_name.x=1", "override 'model_name.x=1': model_name is not a section"),
    ],
)
def test_bad_overrides(override, message):
    assert error_of(None, [override]) == message


def test_a_command_that_goes_on_starts_as_many_processes(tmp_path, monkeypatch):
    """As one process a run of two is refused: its steps would be others."""
    cfg = load_config(write(tmp_path / "c.yaml", "train: {epochs: 1}\n"), ["train.train_bs=2"])
    command = lambda: shlex.split(cfg.command("train_exp1.py", "--resume_from_checkpoint", start=config.launcher()))
    assert command()[1].endswith("train_exp1.py")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert command()[1:4] == ["-m", "torch.distributed.run", "--nproc_per_node=2"] and command()[4].endswith("train_exp1.py")
    assert command()[-2:] == ["--resume_from_checkpoint", "train.train_bs=2"]
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert command()[3:5] == ["--nnodes=4", "--nproc_per_node=2"]
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert command()[:2] == ["srun", "bash"] and command()[2].endswith("tools/slurm/process.sh")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun within a job of Slurm's
    assert command()[3:5] == ["--nnodes=4", "--nproc_per_node=2"]
    assert "torch" not in cfg.command("eval_exp1.py"), "other stages are not shared"


# --- paths ---


def test_paths_in_a_file_are_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = "output_dir: out\ndata: {train_jsonl: rows/t.jsonl, val_jsonl: /abs/v.jsonl, image_root: ../images}\n"
    cfg = load_config(write(tmp_path / "exp 1" / "c.yaml", text))
    assert cfg.output_dir == tmp_path / "exp 1" / "out"
    assert cfg.data.train_jsonl == tmp_path / "exp 1" / "rows" / "t.jsonl"
    assert cfg.data.val_jsonl == Path("/abs/v.jsonl")
    assert cfg.data.image_root.resolve() == tmp_path / "images"
    assert cfg.config_path == tmp_path / "exp 1" / "c.yaml"


def test_paths_of_the_command_line_start_here_or_else_at_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "exp1" / "c.yaml", "data: {train_jsonl: t.jsonl}\n")
    write(tmp_path / "exp1" / "only_there.jsonl", "{}")
    write(tmp_path / "exp1" / "both.jsonl", "{}")
    write(tmp_path / "both.jsonl", "{}")
    train = lambda value: load_config(path, [f"data.train_jsonl={value}"]).data.train_jsonl
    assert train("both.jsonl") == tmp_path / "both.jsonl"
    assert train("only_there.jsonl") == tmp_path / "exp1" / "only_there.jsonl"
    assert train(tmp_path / "nowhere.jsonl") == tmp_path / "nowhere.jsonl"
    assert load_config(path, ["data.train_jsonl=null"]).data.train_jsonl is None
    assert load_config(path, ["output_dir=new"]).output_dir == tmp_path / "new"
    # the user's own form: a checkpoint of the config's outputs, named from the folder above
    write(tmp_path / "exp1" / "outputs" / "checkpoint-500" / "adapter_config.json", "{}")
    resolved = config.resolve_path("outputs/checkpoint-500", path.parent)
    assert resolved == tmp_path / "exp1" / "outputs" / "checkpoint-500"


def test_default_configuration_is_the_one_beside_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config().config_path == ROOT / "config_exp1.yaml"
    write(tmp_path / "config_exp1_actual.yaml", "train: {epochs: 7}\n")
    assert load_config("config_exp1_actual.yaml").train.epochs == 7, "the working directory comes first"
    (tmp_path / "config_exp1_actual.yaml").unlink()
    assert load_config("config_exp1_actual.yaml").train.epochs == 3, "then the script's folder"


def test_a_model_folder_or_a_hub_id(tmp_path, monkeypatch):
    """One rule for a file: from its folder, wherever the working directory is; and one for the command line, as for paths."""
    path = write(tmp_path / "file" / "c.yaml", "model_name: models/tiny\n")
    write(tmp_path / "here" / "models" / "tiny" / "config.json", "{}")
    monkeypatch.chdir(tmp_path / "here")
    assert load_config(path).model_name == "models/tiny", "no such folder beside the file: a hub id"
    assert load_config(path, ["model_name=models/tiny"]).model_name == str(tmp_path / "here" / "models" / "tiny")
    write(tmp_path / "file" / "models" / "tiny" / "config.json", "{}")
    assert load_config(path).model_name == str(tmp_path / "file" / "models" / "tiny")
    assert load_config(path, ["model_name=Qwen/other"]).model_name == "Qwen/other"
    absent = "model_name: {} is no model folder, with a config.json; give a model folder or a hub id"
    assert error_of(path, ["model_name=./absent"]) == absent.format(tmp_path / "here" / "absent")
    write(path, "model_name: data/demo/tiny\n")  # a hub id has one slash
    assert error_of(path) == absent.format(tmp_path / "file" / "data" / "demo" / "tiny")
    assert load_config(path, ["model_name=Qwen/other"]).model_name == "Qwen/other", "what is overridden need not exist"
    (tmp_path / "file" / "empty").mkdir()
    assert error_of(path, ["model_name=empty"]) == absent.format(tmp_path / "file" / "empty")
    assert "model_name: String should have at least 1 character" in error_of(path, ["model_name=''"])


def test_one_key_at_a_time_is_overridden(tmp_path):
    """A section given whole would silently drop its other keys."""
    path = write(tmp_path / "c.yaml", "train: {epochs: 6}\n")
    assert error_of(path, ["train={lr: 0.01}"]) == "override 'train={lr: 0.01}': give one key at a time, such as train.lr=…"


def test_an_output_folder_that_is_a_file_is_said_at_once(tmp_path):
    path, file = write(tmp_path / "c.yaml", "train: {epochs: 6}\n"), write(tmp_path / "out", "")
    assert error_of(path, [f"output_dir={file}"]) == f"output_dir: {file} is a file; give a folder"


def test_dots_are_taken_from_the_files_own_folder(tmp_path):
    """Behind a linked folder they mean what they mean to the shell."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    write(tmp_path / "real" / "rows.jsonl", "{}")
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "link").symlink_to(tmp_path / "real" / "deep")
    path = write(tmp_path / "cfg" / "c.yaml", "output_dir: ../out\ndata: {train_jsonl: link/../rows.jsonl}\n")
    cfg = load_config(path)
    assert cfg.split_path("train").read_text() == "{}" and cfg.output_dir == tmp_path / "out"


# --- extends ---


def test_a_file_extends_another_and_its_own_keys_win(tmp_path):
    write(
        tmp_path / "base.yaml", "output_dir: base_outputs\ntrain: {lr: 1e-3, epochs: 3}\ndata: {train_jsonl: rows.jsonl, image_root: ~}\n"
    )
    write(tmp_path / "mine" / "middle.yaml", "extends: ../base.yaml\ntrain: {epochs: 5}\ndata:\n")
    path = write(tmp_path / "mine" / "c.yaml", "extends: middle.yaml\ndata: {val_jsonl: val.jsonl}\nlora: {target_modules: [q_proj]}\n")
    cfg = load_config(path, ["train.seed=7"])
    assert (cfg.train.lr, cfg.train.epochs, cfg.train.seed, cfg.train.grad_accum) == (1e-3, 5, 7, 2)
    assert cfg.lora.target_modules == ["q_proj"], "a list is replaced, not merged"
    assert cfg.data.train_jsonl == tmp_path / "rows.jsonl", "relative to the file in which it stands"
    assert cfg.data.val_jsonl == tmp_path / "mine" / "val.jsonl"
    assert cfg.output_dir == tmp_path / "base_outputs" and cfg.config_path == path
    assert "extends" not in cfg.model_dump(), "what is saved is the resolved file"


def test_images_lie_beside_the_file_that_names_the_rows(tmp_path):
    write(tmp_path / "a" / "base.yaml", "data: {train_jsonl: rows.jsonl}\n")
    path = write(tmp_path / "b" / "c.yaml", "extends: ../a/base.yaml\ntrain: {epochs: 2}\n")
    assert load_config(path).image_folder() == tmp_path / "a"
    write(path, "extends: ../a/base.yaml\ndata: {train_jsonl: mine.jsonl}\n")
    assert load_config(path).image_folder() == tmp_path / "b"
    write(path, "extends: ../a/base.yaml\ndata: {image_root: .}\n")
    assert load_config(path).image_folder() == tmp_path / "b"


def test_what_extends_the_real_experiment_is_the_real_experiment(tmp_path):
    path = write(tmp_path / "c.yaml", f"extends: {ROOT / 'config_exp1.yaml'}\n")
    assert load_config(path).model_dump() == load_config(ROOT / "config_exp1.yaml").model_dump()


def test_a_chain_that_leads_nowhere_is_one_line(tmp_path):
    first, second = write(tmp_path / "a.yaml", "extends: b.yaml\n"), write(tmp_path / "b.yaml", "extends: a.yaml\n")
    assert error_of(first) == f"{second}: extends {first}, which extends it in turn; take one of the two lines out"
    write(second, "extends: b.yaml\n")
    assert error_of(second) == f"{second}: extends {second}, which extends it in turn; take one of the two lines out"
    write(first, "extends: [b.yaml]\n")
    assert error_of(first) == f"{first}: extends is ['b.yaml']; give one file, such as extends: config_exp1.yaml"
    write(first, "extends: sub/none.yaml\n")
    assert (
        error_of(first)
        == f"{first}: extends {tmp_path / 'sub' / 'none.yaml'}, which does not exist; paths in a file are relative to that file"
    )


def test_an_error_names_the_file_in_which_the_key_stands(tmp_path):
    base = write(tmp_path / "base.yaml", "train: {learning: 3}\n")
    path = write(tmp_path / "c.yaml", "extends: base.yaml\ntrain: {lr: fast}\n")
    first, second = error_of(path).split("; ")
    assert first == f"{path}: train.lr: Input should be a valid number, unable to parse string as a number, not 'fast'"
    assert second.startswith(f"{base}: unknown key train.learning")


# --- what scripts say to run next ---


def test_the_next_command_keeps_configuration_and_overrides(tmp_path, monkeypatch):
    path = write(tmp_path / "my experiment" / "c.yaml", "train: {lr: 1e-3}\n")
    monkeypatch.chdir(path.parent)
    words = shlex.split(load_config(path, ["output_dir=other", "train.lr=2e-4"]).command("predict_exp1.py", "--split", "test"))
    assert Path(words[1]).resolve() == ROOT / "predict_exp1.py"
    assert words[2:] == ["--config", "c.yaml", "--split", "test", "output_dir=other", "train.lr=2e-4"]
    assert shlex.split(load_config(ROOT / "config_exp1.yaml").command("eval_exp1.py"))[2:] == [], "the default needs no --config"
    assert subprocess.run([*words[:2], "--help"], capture_output=True).returncode == 0, "it runs in this shell"


def test_the_next_command_starts_the_python_that_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert config.this_python() == "python"
    other = tmp_path / "bin"
    other.mkdir()
    (other / "python").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(other))  # an environment that is not activated: `python` is another one
    assert Path(config.this_python()).absolute() == Path(sys.executable)


# --- inputs ---


def test_missing_inputs_name_the_key_and_the_file(tmp_path):
    cfg = load_config(ROOT / "config_exp1.yaml")
    with pytest.raises(UserError) as error:
        cfg.split_path("train")
    assert str(error.value) == "set data.train_jsonl in config_exp1.yaml, or try --config config_demo.yaml"
    with pytest.raises(UserError, match=r"^set data.val_jsonl in config_exp1.yaml$"):
        cfg.split_path("val")
    path = write(tmp_path / "c.yaml", "data: {test_jsonl: no.jsonl, image_root: none}\n")
    with pytest.raises(UserError, match=rf"^data.test_jsonl: {tmp_path}/no.jsonl does not exist; correct it in {path}$"):
        load_config(path).split_path("test")
    with pytest.raises(UserError, match=rf"^data.image_root: {tmp_path}/none is not a folder; correct it in {path}$"):
        load_config(path).image_folder()
    write(tmp_path / "no.jsonl", "{}")
    assert load_config(path).split_path("test") == tmp_path / "no.jsonl"
    assert load_config(path, ["data.image_root=null"]).image_folder() == tmp_path


@pytest.mark.parametrize(
    ("found", "refused"),
    [("5.22.9", True), ("4.57.1", True), (None, True), ("5.23.0", False), ("5.100.0", False), ("6.0.0.dev0", False), ("6.0rc1", False)],
)
def test_an_old_transformers_is_refused_by_name_and_a_newer_one_is_not(monkeypatch, found, refused):
    def version(package):
        if found is None:
            raise PackageNotFoundError(package)
        return found

    monkeypatch.setattr(config, "version", version)
    said = None
    try:
        check_transformers()
    except UserError as error:
        said = str(error)
    message = f"transformers 5.23 or newer is needed, found {found or 'not installed'}; run: pip install -r requirements.txt"
    assert said == (message if refused else None)


def test_run_info_records_configuration_versions_and_commit(tmp_path):
    cfg = load_config(None, ["train.lr=2e-4"])
    config.save_run_info(tmp_path / "run.json", cfg, device="cpu", stage="train")
    info = json.loads((tmp_path / "run.json").read_text())
    assert (info["stage"], info["device"], info["config"]["train"]["lr"]) == ("train", "cpu", 2e-4)
    assert set(info["versions"]) >= {"torch", "transformers", "peft", "pillow"} and "commit" in info
    assert info["config"]["output_dir"] == "outputs" and "bitsandbytes" not in info["versions"]
    assert "bitsandbytes" in config.environment_facts(load_config(None, ["quantization=nf4"]))["versions"], "whose numbers they are"


def test_the_commit_says_where_the_code_was_changed_since(tmp_path, monkeypatch):
    write(tmp_path / "train.py", "1\n")
    for arguments in (["init", "-q"], ["add", "train.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(config, "ROOT", tmp_path)
    commit = config.environment_facts()["commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    write(tmp_path / "train.py", "2\n")
    assert config.environment_facts()["commit"] == f"{commit}-dirty"


def test_what_is_saved_can_be_run_again_wherever_it_lies(tmp_path):
    """It names no folder of this machine: paths are relative to the configuration."""
    write(tmp_path / "a" / "my.yaml", "data: {train_jsonl: rows.jsonl, image_root: /elsewhere/frames}")
    for folder in ("a", "b"):
        write(tmp_path / folder / "model" / "config.json", "{}")
    cfg = load_config(tmp_path / "a" / "my.yaml", [f"model_name={tmp_path}/a/model"])
    config.save_run_info(tmp_path / "a" / "run.json", cfg, command=["x.py", f"output_dir={tmp_path}/a/out", "/elsewhere/x y.jsonl"])
    text = (tmp_path / "a" / "run.json").read_text()
    assert str(tmp_path) not in text and "/elsewhere" not in text
    assert json.loads(text)["command"] == ["x.py", "output_dir=out", "x y.jsonl"]
    saved = write(tmp_path / "b" / "again.yaml", json.dumps(json.loads(text)["config"]))
    again = load_config(saved)
    assert again.model_dump() == {
        **cfg.model_dump(),
        "model_name": str(tmp_path / "b" / "model"),
        "output_dir": tmp_path / "b" / "outputs",
        "data": {**cfg.data.model_dump(), "train_jsonl": tmp_path / "b" / "rows.jsonl", "image_root": tmp_path / "b" / "frames"},
    }
    assert (cfg.find("model"), cfg.find("no"), cfg.find(None)) == (tmp_path / "a" / "model", None, None)
    assert cfg.find("model", tmp_path / "b") == tmp_path / "a" / "model" and cfg.find("again.yaml", tmp_path / "b") == saved
    write(tmp_path / "b" / "config.py", "")
    assert cfg.find("config.py", tmp_path / "b") == ROOT / "config.py"


def test_every_script_takes_a_config_and_overrides():
    args = config.argument_parser("x").parse_args(["--config", "c.yaml", "train.lr=1", "lora.r=2"])
    assert (args.config, args.overrides) == ("c.yaml", ["train.lr=1", "lora.r=2"])
    text = config.argument_parser("x").format_help()
    assert "--config PATH" in text and "section.key=value" in text


# --- what a launcher or a package lacks


@pytest.mark.parametrize(
    "environ, named",
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP: "),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_FSDP": "false"}, "DeepSpeed: "),
        ({"ACCELERATE_USE_MEGATRON_LM": "1"}, "Megatron-LM: "),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "True"}, "a parallelism configuration: "),
    ],
)
def test_what_splits_a_model_over_processes_is_refused_with_what_serves(environ, named):
    """They failed in the first micro-batch, with a traceback about tensors."""
    with pytest.raises(UserError) as error:
        config.check_environment(load_config(), environ=environ)
    assert str(error.value).startswith(named) and "\n" not in str(error.value)
    assert "start with torchrun or `accelerate launch --multi_gpu`" in str(error.value) and "quantization=nf4" in str(error.value)
    config.check_environment(load_config(), environ={"ACCELERATE_USE_FSDP": "false", "WORLD_SIZE": "4"})


@pytest.mark.parametrize("script", [train_exp1, predict_exp1, sanity_overfit])
def test_a_missing_bitsandbytes_is_one_line_with_the_command(script, monkeypatch, tmp_path):
    """Before rows are read, and torch is imported."""
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["script.py", "quantization=nf4", f"output_dir={tmp_path / 'out'}"])
    with pytest.raises(UserError, match="^quantization: nf4 needs bitsandbytes; run: pip install bitsandbytes$"):
        script.main()
    assert not (tmp_path / "out").exists()


def test_nothing_is_missing_where_no_weights_are_loaded(monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    config.check_environment(load_config(None, ["quantization=nf4"]), weights=False, environ={})
    config.check_environment(load_config(), environ={})


def test_an_order_of_stages_is_of_whole_epochs():
    """Half an epoch would never reach the last stage."""
    said = "train.order=stages needs whole epochs, because a part of an epoch holds its first stages alone; train.epochs is 1.5"
    assert error_of(None, ["train.order=stages", "train.epochs=1.5"]).endswith(said)
    assert load_config(None, ["train.order=stages", "train.epochs=3"]).train.epochs == 3


# --- names that may be passed on ---

PATHS = {
    "/work space/exp1/outputs/adapter": "outputs/adapter",
    "/work space/exp1": ".",
    "/work space/exp10/adapter": "adapter",
    "/home/alice/a b.jsonl": "a b.jsonl",
    "/tmp/run/": "run",
    "~/data/x.jsonl": "x.jsonl",
    "../alice/x.jsonl": "x.jsonl",
    "C:\\Users\\alice\\x.jsonl": "x.jsonl",
    "\\\\server\\alice\\x.jsonl": "x.jsonl",
    "file:///home/alice/x.jsonl": "x.jsonl",
    "/root/.cache/huggingface/hub/models--Qwen--Qwen2-VL-7B-Instruct/snapshots/eed13092": "Qwen/Qwen2-VL-7B-Instruct",
    "Qwen/Qwen2-VL-7B-Instruct": "Qwen/Qwen2-VL-7B-Instruct",
    "data/x.jsonl": "data/x.jsonl",
    "5 mm/s": "5 mm/s",
    "none": "none",
    None: "",
}


@pytest.mark.parametrize("path", PATHS)
def test_public_paths(path):
    assert PublicNames(CFG, {}).path(path) == PATHS[path]


@pytest.mark.parametrize("override", ["data.train_jsonl=/home/alice smith/lab/t.jsonl", "--out=/home/alice smith/t.jsonl"])
def test_a_folder_with_a_space_in_an_override_is_left_out(override):
    said = PublicNames(CFG, {}).values({"command": ["train_exp1.py", override]})["command"][1]
    assert said == override.split("=")[0] + "=t.jsonl"


LINES = {
    "rows go by the training rows /home/alice/x/train.jsonl; see --against": "rows go by the training rows train.jsonl; see --against",
    "/work space/exp1/train.jsonl: row '3' (of /home/b/y.jsonl) is bad": "train.jsonl: row '3' (of y.jsonl) is bad",
    "asks of ../../alice/train.jsonl, too few": "asks of train.jsonl, too few",
    "a green/black box, 5 mm/s or 1 / 2 and https://example.org/a/b": "a green/black box, 5 mm/s or 1 / 2 and https://example.org/a/b",
}


@pytest.mark.parametrize("line", LINES)
def test_paths_in_lines(line):
    assert PublicNames(CFG, {}).text(line, "/work space/exp1/train.jsonl") == LINES[line]


@pytest.mark.parametrize("output_dir", ["/outputs", "/home/outputs", "/scratch/outputs", "outputs", "/Users/outputs"])
def test_a_folder_that_others_share_makes_no_relative_paths(output_dir):
    names = PublicNames(CFG, {"config": {"output_dir": output_dir}})
    for path in ("/home/alice/x.jsonl", "/scratch/alice/x.jsonl", "/Users/alice/x.jsonl", "/alice/x.jsonl"):
        assert names.path(path) == "x.jsonl"


@given(st.lists(st.text("ab .-_é", min_size=1, max_size=5).filter(lambda part: part.strip(". ")), min_size=1, max_size=4))
def test_settings_keep_their_shape_and_lose_their_homes(parts):
    path = "/home/" + "/".join(["ALICE", *parts])
    settings = {"data": {"image_root": path, "n": 3}, "report_to": [path, None], "model_name": "Qwen/Qwen2-VL-7B-Instruct"}
    public = PublicNames(CFG, {}).values(settings)
    assert public == {"data": {"image_root": parts[-1], "n": 3}, "report_to": [parts[-1], None], "model_name": "Qwen/Qwen2-VL-7B-Instruct"}
