"""What users get wrong: one line that names the place and the remedy, exit code 1, before the model loads, and nothing lost.

python -m pytest tests/test_bad_input.py -v
"""

import errno
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY_MODEL
from PIL import Image
from quick_python import quick_python

import config
import eval_exp1
import files
import merge_adapter
import predict_exp1
import prediction.run
import train_exp1
import training.run
from bench.fuzz import good_adapter
from config import load_config, save_run_info
from data.images import check_images
from data.rows import read_rows
from data.split import grouped_rows
from evaluation.predictions import load_predictions
from files import UserError, run_script, write_jsonl
from model import load
from model.folders import write_sums
from training.resume import LOCK

CASES = yaml.safe_load(Path(__file__).with_name("bad_input.yaml").read_text(encoding="utf-8"))
SCRIPTS = {"train": train_exp1, "predict": predict_exp1, "eval": eval_exp1, "merge": merge_adapter}
GOOD = {"question": "Is there text?", "answer": "yes", "image": "good.png"}
ANSWERED = {"id": "0", "pred": "yes", "gt": "yes", "qtype": "yes_no", "question": "Is there text?"}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123456789\n"


@pytest.fixture(scope="session")
def adapter_files(tmp_path_factory):
    """{file name: bytes} of an adapter that fits the tiny model."""
    return good_adapter(tmp_path_factory.mktemp("adapter"))[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with good and bad images, in which any script that loads the model fails."""
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "good.png")
    for module in (load, prediction.run, training.run):
        monkeypatch.setattr(module, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    return tmp_path


def cases():
    """(kind, script, case) of the table, each script's for itself, with a readable name."""
    for kind, entries in CASES.items():
        for entry in entries:
            for script in [entry.get("script", "train")] if isinstance(entry.get("script", "train"), str) else entry["script"]:
                yield pytest.param(script, entry, id=f"{kind}: {script}: {entry['says'][:50]}")


def test_the_table_is_large_and_of_every_kind():
    counts = Counter(case.id.split(":")[0] for case in cases())
    kinds = {"configuration", "rows", "images", "models", "adapters", "checkpoints", "predictions", "environment"}
    assert counts.total() >= 120 and counts.keys() == kinds and min(counts.values()) >= 3


def make(folder, case, adapter_files):
    """Lay a case's files into a folder with an earlier run's outputs; return the arguments that make a script read them."""
    text = json.dumps(case)
    if "model/" in text:
        shutil.copytree(TINY_MODEL, folder / "model")
    (folder / "adapter").mkdir()
    for name, data in adapter_files.items():
        (folder / "adapter" / name).write_bytes(data)
    rows = [GOOD, with_changes(GOOD, case["row"])] if "row" in case else [GOOD]
    write_lines(folder / "train.jsonl", case.get("lines", rows))
    write_lines(folder / "p.jsonl", case.get("predictions", [ANSWERED]))
    (folder / "out").mkdir()
    for name in ("predictions.jsonl", "metrics.json", "report.html", "predictions_val_none.jsonl"):
        (folder / "out" / name).write_text('{"id": "0"}\n')
    make_images(folder, text)
    settings = [f"model_name={folder / 'model' if 'model/' in text else TINY_MODEL}", f"data.train_jsonl={folder / 'train.jsonl'}"]
    settings += [f"data.val_jsonl={folder / 'train.jsonl'}", f"data.image_root={folder}", f"output_dir={folder / 'out'}"]
    if "checkpoint" in case:
        make_run(folder, settings)
    spoil(folder, case)
    fixed = ["--config", str(folder / case["config"])] if "config" in case else settings
    return [*fixed, *(text.replace("{folder}", str(folder)) for text in case.get("args", []))]


def with_changes(row, changes):
    """The row with these keys; null takes one away."""
    return {key: value for key, value in {**row, **changes}.items() if value is not None}


def write_lines(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def make_images(folder, text):
    """The bad pictures that a case names."""
    good = (folder / "good.png").read_bytes()
    huge = Image.new("1", (10_000, 10_000))
    line = Image.new("RGB", (3, 900))
    (folder / "text.png").write_text("not an image")
    (folder / "cut.png").write_bytes(good[:-500])
    for name, image in (("huge.png", huge), ("line.png", line)):
        if name in text:
            image.save(folder / name)
    (folder / "latin.jsonl").write_bytes('{"question": "Où?"}\n'.encode("latin-1"))
    (folder / "pointer.png").write_text(POINTER)


def make_run(folder, settings):
    """An earlier training in out/, with one whole checkpoint."""
    cfg = load_config(None, settings)
    save_run_info(folder / "out" / "train_run.json", cfg, world_size=1)
    checkpoint = shutil.copytree(folder / "adapter", folder / "out" / "checkpoint-2")
    (checkpoint / "trainer_state.json").write_text('{"global_step": 2, "log_history": []}')
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, checkpoint / name)
    write_sums(checkpoint)


def spoil(folder, case):
    """What a case says that is done to the files."""
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(text)
    for name, changes in case.get("json", {}).items():
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))
    if "remove" in case:
        (folder / case["remove"]).unlink()
    if "cut" in case:
        (folder / case["cut"]).write_bytes((folder / case["cut"]).read_bytes()[:-1])
    if "pointer" in case:
        (folder / case["pointer"]).write_text(POINTER)


def refusal(monkeypatch, capsys, script, arguments):
    """The line with which a script ends; SystemExit with a text is what gives exit code 1."""
    if script == "merge" and "--out" not in arguments:
        arguments = ["--out", "merged", *arguments]
    if script == "eval" and not {"--predictions", "--summary"} & set(arguments):  # the case's own
        arguments = ["--predictions", "p.jsonl", *arguments]
    if script in ("merge", "predict") and "--adapter" not in arguments and "output_dir=empty" not in arguments:
        arguments = ["--adapter", "adapter", *arguments]
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    with pytest.raises(SystemExit) as end:
        run_script(SCRIPTS[script].main)
    assert isinstance(end.value.code, str), capsys.readouterr().err
    assert end.value.code.startswith("error: ") and "\n" not in end.value.code
    return end.value.code.removeprefix("error: ")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("script", "case"), list(cases()))
def test_a_mistake_is_one_line_and_loses_nothing(folder, adapter_files, monkeypatch, capsys, script, case):
    if case.get("row", {}).get("question") == "long":
        case = {**case, "row": {"question": "why? " * 2000}}
    arguments = make(folder, case, adapter_files)
    before = contents(folder)
    monkeypatch.chdir(folder)
    for name in case.get("env", []):
        ENVIRONMENT[name](monkeypatch)
    said = refusal(monkeypatch, capsys, script, arguments)
    pattern = ".*".join(map(re.escape, case["says"].split("…")))
    assert re.search(pattern, said), said
    after = contents(folder)
    assert {path: after.get(path) for path in before} == before
    assert not (folder / "out" / "adapter").exists() and not list(folder.rglob(".*.new"))


def _full(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda handle: raise_(OSError(errno.ENOSPC, "No space left on device")))


def _read_only(monkeypatch):
    error = OSError(errno.EROFS, "Read-only file system", "out/x")
    monkeypatch.setattr(files.tempfile, "mkstemp", lambda **_: raise_(error))


def raise_(error):
    raise error


ENVIRONMENT = {
    "transformers": lambda monkeypatch: monkeypatch.setattr(config, "version", lambda package: "4.57.1"),
    "full": _full,
    "read-only": _read_only,
}


def test_a_configuration_whose_aliases_multiply_is_refused_at_once(tmp_path):
    """Each of 40 sections names the one before twice: a trillion keys for who follows all of them."""
    lines = ["s0: &s0 {x: 1}"] + [f"s{n}: &s{n} {{p: *s{n - 1}, q: *s{n - 1}}}" for n in range(1, 40)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="unknown key s0"):
        load_config(tmp_path / "c.yaml")


def mistake(script, folder, monkeypatch, lines, *arguments):
    """Run a script's main on a training file of these lines; return the one line the user would read."""
    write_lines(folder / "train.jsonl", lines)
    settings = [f"model_name={TINY_MODEL}", f"data.train_jsonl={folder / 'train.jsonl'}", f"data.val_jsonl={folder / 'train.jsonl'}"]
    settings += [f"data.image_root={folder}", f"output_dir={folder / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["script.py", *settings, *arguments])
    with pytest.raises(UserError) as error:
        script.main()
    assert "\n" not in str(error.value)
    return str(error.value)


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


@pytest.mark.parametrize("script", ["train_exp1.py", "predict_exp1.py", "eval_exp1.py", "sanity_overfit.py", "dataset.py"])
def test_help_shows_config_and_overrides(script):
    result = subprocess.run([quick_python(), script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--config PATH" in result.stdout and "section.key=value" in result.stdout
