"""What users get wrong: one line that names the place and the remedy, exit code 1, before the model loads.

python -m pytest tests/test_bad_input.py -v
"""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY_MODEL
from PIL import Image

import predict_exp1
import prediction.run
import train_exp1
import training.run
from config import load_config
from data.images import check_images
from data.rows import read_rows
from data.split import grouped_rows
from evaluation.predictions import load_predictions
from files import UserError, write_jsonl
from model import load
from training.resume import LOCK

GOOD = {"question": "Is there text?", "answer": "yes", "image": "good.png"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one good image; any script that loads the model fails."""
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "pointer.png").write_text(POINTER)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-500])
    for module in (load, prediction.run, training.run):
        monkeypatch.setattr(module, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    return tmp_path


def mistake(script, folder, monkeypatch, lines, *arguments):
    """Run a script's main on a training file of these lines; return the one line the user would read."""
    (folder / "train.jsonl").write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    settings = [f"model_name={TINY_MODEL}", f"data.train_jsonl={folder / 'train.jsonl'}", f"data.val_jsonl={folder / 'train.jsonl'}"]
    settings += [f"data.image_root={folder}", f"output_dir={folder / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["script.py", *settings, *arguments])
    with pytest.raises(UserError) as error:
        script.main()
    assert "\n" not in str(error.value)
    return str(error.value)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456789\n"
CASES = [
    ([GOOD, '{"question": '], "train.jsonl:2: not valid JSON"),
    ([json.dumps([GOOD])], "train.jsonl:1: is a list, not an object"),
    (["[", json.dumps(GOOD), "]"], "the file looks like one JSON array; write one JSON object a line"),
    ([POINTER], "train.jsonl: is a Git LFS pointer, not the file itself; run `git lfs pull` where it came from, or download it again"),
    (
        [GOOD, {**GOOD, "image": "pointer.png"}],
        "row '1': image .*pointer.png is a Git LFS pointer, not the file itself; run `git lfs pull`",
    ),
    ([], "train.jsonl: has no rows; write one JSON object a line"),
    ([GOOD, {**GOOD, "question": None}], "train.jsonl:2: has no question; add the question as text"),
    ([GOOD, {"question": "Is it?", "answer": "yes"}], "train.jsonl:2: has no image; add the image's name, relative to data.image_root"),
    ([{**GOOD, "answer": 3}], "train.jsonl:1: answer is 3, not text; write the answer as text"),
    ([{**GOOD, "answer": " "}], "train.jsonl:1: answer is empty"),
    ([{"question": "Is it?", "image": "good.png"}], "train.jsonl:1: has no answer"),
    ([GOOD, {**GOOD, "image": "gone.png"}], "row '1': image .*gone.png does not exist; correct the row or data.image_root"),
    ([GOOD, {**GOOD, "image": "text.png"}], "row '1': image .*text.png can't be read .*; replace or remove it"),
    ([GOOD, {**GOOD, "image": "cut.png"}], "row '1': image .*cut.png can't be read .*; replace or remove it"),
    ([GOOD, {**GOOD, "image": "../x.png"}], "row '1': image '../x.png' lies outside data.image_root"),
    ([GOOD, {**GOOD, "id": "a"}, {**GOOD, "id": "a"}], "train.jsonl:3: id 'a' is already that of line 2"),
    ([{**GOOD, "question": "why? " * 2000}], "row '0': is .* tokens long, over train.max_seq_len=2048"),
    ([{**GOOD, "question": "Is <|image_pad|> it?"}], "jsonl:1: question has <.image_pad.> inside it, where no picture can stand"),
    ([{**GOOD, "question": "<|im_end|> it?"}], "row '0': the question contains '<.im_end.>'; remove it"),
    ([{**GOOD, "options": "yes, no"}], "train.jsonl:1: options is 'yes, no'; write a list of texts"),
]


@pytest.mark.parametrize("lines, message", CASES)
def test_training_names_the_place(folder, monkeypatch, lines, message):
    import re

    assert re.search(message, mistake(train_exp1, folder, monkeypatch, lines)), mistake(train_exp1, folder, monkeypatch, lines)
    assert not (folder / "out" / "adapter").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["data.train_jsonl=/no/such.jsonl"], "data.train_jsonl: /no/such.jsonl does not exist; correct it in"),
        (["data.val_jsonl=/no/such.jsonl"], "data.val_jsonl: /no/such.jsonl does not exist"),
        (["data.image_root=/no/such"], "data.image_root: /no/such is not a folder"),
        (["train.learning_rate=1"], "unknown key train.learning_rate"),
        (["--resume_from_checkpoint", "/no/such"], "/no/such is not a checkpoint; give a checkpoint-N folder"),
        (["--config", "/no/such.yaml"], "/no/such.yaml: no such configuration file"),
        (["train.report_to=tensorbord"], "train.report_to: 'tensorbord' is unknown; did you mean tensorboard?"),
        (["train.report_to=[none, wndb]"], "train.report_to: none stands alone; "),
    ],
)
def test_training_names_the_key(folder, monkeypatch, arguments, message):
    assert message in mistake(train_exp1, folder, monkeypatch, [GOOD], *arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "out/adapter does not exist; train first: "),
        (["--adapter", "/no/such"], "adapter /no/such does not exist"),
        (["--split", "test", "--adapter", "none"], "set data.test_jsonl in config_exp1.yaml"),
    ],
)
def test_prediction_says_what_is_missing(folder, monkeypatch, arguments, message):
    assert message in mistake(predict_exp1, folder, monkeypatch, [GOOD], *arguments)


def spoil(folder, name):
    """One thing that is wrong with a model's folder."""
    if name == "quantised":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}))
    elif name == "cut":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    elif name == "pointer":
        (folder / "model.safetensors").write_text(POINTER)
    else:
        (folder / name).unlink()


@pytest.mark.parametrize(
    "fault, message",
    [
        (
            "pointer",
            "is a Git LFS pointer, not the file itself; run `git lfs pull` where it came from, or download it again",
        ),
        ("cut", "model.safetensors: is not whole, "),
        ("quantised", "is quantised (gptq), which LoRA is not trained on or merged into here; give the model that it was made from"),
        ("tokenizer.json", "has no tokenizer.json; download the whole model"),
        ("processor_config.json", "has no preprocessor_config.json; download the whole model"),
        ("config.json", "is no model folder, with a config.json; give a model folder or a hub id"),
        ("model.safetensors", "has no model.safetensors; download the whole model"),
    ],
)
@pytest.mark.parametrize("script, arguments", [(predict_exp1, ["--adapter", "none"]), (train_exp1, [])])
def test_training_and_prediction_say_what_is_wrong_with_the_models_folder(folder, monkeypatch, fault, message, script, arguments):
    model = shutil.copytree(TINY_MODEL, folder / "model")
    spoil(model, fault)
    assert message in mistake(script, folder, monkeypatch, [GOOD], f"model_name={model}", *arguments)
    assert not (folder / "out" / "adapter").exists()


def test_prediction_says_what_is_wrong_with_an_adapters_folder(folder, monkeypatch):
    adapter = folder / "adapter"
    adapter.mkdir()
    assert "has no adapter_config.json; train one" in mistake(predict_exp1, folder, monkeypatch, [GOOD], "--adapter", str(adapter))
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_text(POINTER)
    said = mistake(predict_exp1, folder, monkeypatch, [GOOD], "--adapter", str(adapter))
    assert said.startswith(f"{adapter / 'adapter_model.safetensors'}: is a Git LFS pointer") and said.endswith("or train it anew")


@pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--resume_from_checkpoint"]])
def test_two_trainings_do_not_write_into_one_folder(folder, monkeypatch, flags):
    """The second removed the adapter of the first, and both wrote the same files."""
    (folder / "out" / "adapter").mkdir(parents=True)
    code = "import files, pathlib, sys\nfiles.keep_others_away(pathlib.Path(sys.argv[1]), 'training')\n"
    code += "print('mine', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder / "out" / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "mine\n"
        said = mistake(train_exp1, folder, monkeypatch, [GOOD], *flags)
    assert said.startswith(f"{folder / 'out'}: another training is writing here (since 20") and (folder / "out" / "adapter").is_dir()
    with pytest.raises(pytest.fail.Exception):  # gets as far as loading the model
        mistake(train_exp1, folder, monkeypatch, [GOOD], "--overwrite")


def test_nothing_written_is_lost(folder, monkeypatch):
    """A mistake in a new training file leaves the old enriched rows as they were."""
    enriched = folder / "out" / "data" / "train.jsonl"
    with pytest.raises(pytest.fail.Exception):  # gets as far as loading the model
        mistake(train_exp1, folder, monkeypatch, [GOOD])
    before = enriched.read_bytes()
    assert "train.jsonl:2" in mistake(train_exp1, folder, monkeypatch, [GOOD, "{"])
    assert enriched.read_bytes() == before and [path.name for path in enriched.parent.glob(".*")] == []


def test_overwrite_removes_the_old_run_only_when_the_new_one_can_start(folder, monkeypatch):
    adapter = folder / "out" / "adapter"
    adapter.mkdir(parents=True)
    assert "already holds a training run" in mistake(train_exp1, folder, monkeypatch, [GOOD])
    assert "train.jsonl:2" in mistake(train_exp1, folder, monkeypatch, [GOOD, "{"], "--overwrite")
    assert adapter.is_dir()


def test_bare_train_on_a_fresh_clone():
    """Through the real process: one line on stderr, exit code 1, no traceback."""
    result = subprocess.run([sys.executable, "train_exp1.py"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "error: set data.train_jsonl in config_exp1.yaml, or try --config config_demo.yaml"
    assert "Traceback" not in result.stderr


HUGE = "data:image/png;base64," + "iVBORw0KGgo" * 27_000
HUGE_ROWS = [
    [{**GOOD, "id": HUGE}, {**GOOD, "id": HUGE}],
    *[[{**GOOD, key: value}] for key in ("question", "answer") for value in ([HUGE], {"a": HUGE}, [[HUGE] * 3] * 9)],
    *[[{**GOOD, "image": value}] for value in (HUGE, [HUGE], {"bytes": HUGE}, HUGE[22:], f"https://{HUGE}", "/".join(["a" * 90] * 9))],
    *[[{**GOOD, "options": value}] for value in (HUGE, [HUGE, HUGE], [[HUGE]])],
    [{**GOOD, "answers": HUGE}],
    [{**GOOD, "group": [HUGE]}],
    [{**GOOD, "group": HUGE}, {**GOOD, "group": HUGE + "b"}],
]


@pytest.mark.parametrize("rows", HUGE_ROWS, ids=lambda rows: f"{list(rows[0])[-1]} {type(rows[0][list(rows[0])[-1]]).__name__}")
def test_no_message_quotes_more_than_80_letters_of_a_row(tmp_path, rows):
    """A row's value may be a whole picture as text."""
    path = tmp_path / "t.jsonl"
    write_jsonl(path, rows)
    with pytest.raises(UserError) as said:
        list(grouped_rows(path))
        check_images(list(read_rows(path)), tmp_path, tmp_path / "images.json")
    assert len(str(said.value)) < 3 * len(str(path)) + 400 and "\n" not in str(said.value)


@pytest.mark.parametrize(
    "key", ["id", "pred", "gt", "qtype", "question", "image", "group", "options", "answers", "candidates_top", "confidence"]
)
def test_no_message_quotes_more_than_80_letters_of_a_prediction(tmp_path, key):
    row = {"id": HUGE, "pred": "yes", "gt": "yes", "qtype": "yes_no"}
    write_jsonl(tmp_path / "p.jsonl", [{**row, key: {"a": HUGE}}] if key != "id" else [row, row])
    with pytest.raises(UserError) as said:
        load_predictions(tmp_path / "p.jsonl")
    assert len(str(said.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("override", [HUGE, f"{HUGE}=1", f"train.lr={HUGE}", f"train.lr=[{HUGE}", f"train={HUGE}"])
def test_no_message_quotes_more_than_80_letters_of_a_setting(override):
    with pytest.raises(UserError) as said:
        load_config(None, [override])
    assert len(str(said.value)) < 500


def test_an_old_transformers_is_named(monkeypatch):
    import config

    monkeypatch.setattr(config, "version", lambda package: "4.57.1")
    with pytest.raises(UserError, match="transformers 5.23 or newer is needed, found 4.57.1; run: pip install -r requirements.txt"):
        config.check_transformers()


@pytest.mark.parametrize("script", ["train_exp1.py", "predict_exp1.py", "eval_exp1.py", "sanity_overfit.py", "dataset.py"])
def test_help_shows_config_and_overrides(script):
    result = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--config PATH" in result.stdout and "section.key=value" in result.stdout
