"""The house: what lies where, and which way imports may run. Read off the code by `ast`, so nothing is imported.

python -m pytest tests/test_layout.py -v
"""

import argparse
import ast
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import warnings
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from quick_python import quick_python

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {"train_exp1", "predict_exp1", "eval_exp1", "sanity_overfit", "merge_adapter"}
SHARED = {"templates", "dataset", "constraints"}
STAGES = {"training", "prediction", "evaluation"}
# Arrows run down: a module may import those of lower storeys, and of its own folder.
STOREYS = [{"files"}, {"config"}, {"data", "model"}, SHARED, STAGES, {*SCRIPTS, "tools"}, {"bench", "docs"}]
PRETRAINING = "data.demo.pretrain"  # makes the tiny model, and may look where it likes
# Imported inside functions: slow or optional packages. (A script's `main` imports what it needs after its checks.)
LATE = {
    ("data.check", "tokenizers"),
    ("data.contents", "huggingface_hub"),
    ("data.formats.source_files", "pyarrow"),
    ("data.spreadsheet", "openpyxl"),
    ("data.images", "qwen_vl_utils"),  # brings torchvision
    ("evaluation.recipes", "bert_score"),
    ("evaluation.recipes", "huggingface_hub"),
    ("evaluation.recipes", "nltk"),
    ("evaluation.recipes", "rouge_score"),
    ("evaluation.recipes", "sacrebleu"),
    ("evaluation.text_overlap", "rouge_score"),
    ("evaluation.text_overlap", "sacrebleu"),
    ("training.callbacks", "matplotlib"),
}


HEAVY = {"torch", "torchvision", "transformers", "peft", "accelerate", "qwen_vl_utils"}
LIGHT = ("files", "config", "data", "evaluation", "tools", "model.on_disk", "model.folders", "prediction.setup", *SCRIPTS)
LIGHT += tuple(f"training.{name}" for name in ("checkpoints", "gpus", "origin", "resume"))


def is_light(name):
    """Is this a module without torch: of data/ and evaluation/, or what a script imports before its checks?"""
    return name != PRETRAINING and any(name == light or name.startswith(f"{light}.") for light in LIGHT)


@functools.cache
def modules(root=ROOT):
    """{dotted name: syntax tree} of the repository's own modules, tests left out."""
    paths = [
        *root.glob("*.py"),
        *(path for folder in ("data", "model", *STAGES, "tools", "bench", "docs") for path in root.glob(f"{folder}/**/*.py")),
    ]
    names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in names.items()}


def imports(tree, known):
    """(line, module, function it stands in or None) of every import: project modules by their full name, packages by their first.

    A relative import is called `.`, one that is made as the program runs `import_module`.
    """

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((child.lineno, name.name, function) for name in child.names)
            elif isinstance(child, ast.Call) and getattr(child.func, "attr", getattr(child.func, "id", "")) in (
                "import_module",
                "__import__",
            ):
                yield child.lineno, "import_module", function
            elif isinstance(child, ast.ImportFrom) and child.level:
                yield child.lineno, ".", function
            elif isinstance(child, ast.ImportFrom):
                for name in child.names:
                    full = f"{child.module}.{name.name}"
                    yield child.lineno, full if full in known else child.module, function
            inside = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and function is None else function
            yield from walk(child, inside)

    for line, name, function in walk(tree, None):
        yield line, name if name in known or name == "." else name.split(".")[0], function


def storey(name):
    return next(number for number, storey in enumerate(STOREYS) if name.split(".")[0] in storey)


def faults(trees):
    """Every import that runs the wrong way, and every late one that is not in the list, as text."""
    for name, tree in trees.items():
        script = name in SCRIPTS
        for line, imported, function in imports(tree, trees):
            own = imported in trees
            if imported in (".", "import_module", "tests", "conftest"):
                yield f"{name}:{line} imports {imported}: name the module, and none of the tests"
            if imported in HEAVY and function is None and is_light(name):
                yield f"{name}:{line} imports {imported} at the top: it has to run where that is missing, or speak within a second"
            if own and name != PRETRAINING:
                same = name.split(".")[0] == imported.split(".")[0] or {name, imported} <= SHARED
                down = storey(imported) < storey(name)
                if not (same or down):
                    yield f"{name}:{line} imports {imported}: arrows run down only"
            if function and not (script and function == "main") and name != PRETRAINING and not name.startswith("bench."):
                if own or (name, imported) not in LATE and imported not in sys.stdlib_module_names:
                    yield f"{name}:{line} imports {imported} inside {function}: do it at the top, or add a slow package to LATE"


def circles(trees):
    graph = {
        name: {imported for _, imported, _ in imports(tree, trees) if imported in trees and imported != name}
        for name, tree in trees.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_arrows_run_down_only():
    assert list(faults(modules())) == []


def test_there_are_no_circles():
    assert circles(modules()) == []


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("data.rows", "from model.load import device", "data.rows:1 imports model.load"),
        ("model.adapter", "from data import answer_space", "model.adapter:1 imports data.answer_space"),
        ("evaluation.compare", "import training.cost", "evaluation.compare:1 imports training.cost"),
        ("prediction.decode", "from evaluation.metrics import measure", "prediction.decode:1 imports evaluation.metrics"),
        ("files", "import config", "files:1 imports config"),
        ("dataset", "from training.checkpoints import newest_whole", "dataset:1 imports training.checkpoints"),
        ("data.rules", "def late():\n    from data.rows import read_rows", "data.rules:2 imports data.rows inside late"),
        ("model.load", "def late():\n    import bitsandbytes", "model.load:2 imports bitsandbytes inside late"),
        ("data.aliases", "from .matching import judge", "data.aliases:1 imports .: name the module"),
        ("data.aliases", "from . import matching", "data.aliases:1 imports .: name the module"),
        ("model.load", "import importlib\nimportlib.import_module('data.rows')", "model.load:2 imports import_module"),
        ("model.load", "import data.rows as rows", "model.load:1 imports data.rows"),
        ("model.load", "try:\n    from data import rows\nexcept ImportError:\n    rows = None", "model.load:2 imports data.rows"),
        ("data.rows", "from tests.conftest import ROOT", "data.rows:1 imports tests"),
        ("evaluation.metrics", "import torch", "evaluation.metrics:1 imports torch at the top"),
        ("train_exp1", "from transformers import Trainer", "train_exp1:1 imports transformers at the top"),
        ("prediction.setup", "import peft", "prediction.setup:1 imports peft at the top"),
        ("eval_exp1", "def load():\n    from evaluation.runs import load", "eval_exp1:2 imports evaluation.runs inside load"),
    ],
)
def test_a_forbidden_import_is_found(module, line, said):
    trees = modules()
    added = {**trees, module: ast.parse(line + "\n")}
    assert [fault for fault in faults(added) if fault.startswith(said)]


def test_a_circle_is_found():
    trees = modules()
    assert circles({**trees, "data.aliases": ast.parse("from data.matching import judge")})


def test_late_imports_are_still_there():
    """An entry of the list that nothing uses would let a later mistake through."""
    trees = modules()
    assert {(name, imported) for name, tree in trees.items() for _, imported, function in imports(tree, trees) if function} >= LATE


def test_the_root_holds_what_a_user_runs_reads_or_edits_first():
    assert {path.stem for path in ROOT.glob("*.py")} == {*SCRIPTS, *SHARED, "config", "files"}
    folders = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/**/*.py")}
    assert {name for name in folders if not name.startswith("outputs")} == {"data", "model", *STAGES, "tools", "bench", "docs", "tests"}


def test_every_module_is_tested_in_its_own_folder():
    """tests/ has the same folders, no packages, and no two files of one name, so that pytest can find all of them."""
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert len(names) == len(set(names)) and not list(ROOT.glob("tests/**/__init__.py"))
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        "bench",
        "data",
        "model",
        "tools",
        *STAGES,
    }


def test_every_module_has_a_test_file_of_its_name():
    """But training/run.py, which wires the others: test_pipeline.py runs it."""
    own = [name for name in modules() if not name.startswith(("bench", "docs"))]
    file = lambda name: ROOT.joinpath("tests", *name.split(".")[:-1], f"test_{name.split('.')[-1]}.py")
    empty = {name for name in own if (ROOT / name.replace(".", "/") / "__init__.py").is_file()}
    assert {name for name in own if name not in empty and not file(name).is_file()} == {"training.run"}


COMMANDS = {
    *SCRIPTS,
    "dataset",
    "tools.fingerprint",
    "data.check",
    "data.frames",
    "data.preprocess",
    "data.readers",
    "data.reword",
    "data.split",
    "data.demo.scenes",
    PRETRAINING,
}
# Its bytes are part of every adapter's record, and it is the user's to edit.
NO_COMMANDS = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.py"), *(path for folder in ("data", "model", *STAGES) for path in ROOT.glob(f"{folder}/**/*.py"))]
    if ".".join(path.relative_to(ROOT).with_suffix("").parts) not in {*COMMANDS, "data.schema"} and path.name != "__init__.py"
)


@pytest.mark.parametrize("path", NO_COMMANDS)
def test_a_module_that_is_no_command_says_so(path):
    """Before it imports anything, and by its path as by its name; to the shell that is this line and exit code 1."""
    for run, name in ((runpy.run_path, str(ROOT / path)), (runpy.run_module, path.removesuffix(".py").replace("/", "."))):
        before = set(sys.modules)
        with pytest.raises(SystemExit, match="^not a command[^\n]*$"), warnings.catch_warnings(action="ignore"):
            run(name, run_name="__main__")
        assert {name for name in set(sys.modules) - before if name.split(".")[0] in HEAVY} == set()


def test_to_the_shell_it_is_one_line():
    for command in (["data/values.py"], ["-m", "data.values"]):
        result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 1 and result.stderr.startswith("not a command") and len(result.stderr.splitlines()) == 1


BY_PATH = [f"tools/{name}.py" for name in ("fingerprint", "publish", "release", "series", "sweep")]
BY_PATH += [f"data/{name}.py" for name in ("check", "frames", "preprocess", "readers", "reword", "split")]


@pytest.mark.parametrize("path", BY_PATH)
def test_a_command_is_run_by_its_path_from_any_folder(tmp_path, path):
    command = [quick_python(), str(ROOT / path), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {Path(path).name}"), result.stderr


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "name",
    [*sorted(SCRIPTS), "data.check", "data.frames", "data.preprocess", "data.readers", "data.split"]
    + [f"tools.{name}" for name in ("fingerprint", "publish", "release", "series", "sweep")],
)
def test_an_option_is_given_by_its_whole_name(monkeypatch, name):
    """`--over` for --overwrite would replace a run by a slip, and stand for another option in a later version."""
    seen = []

    def stop(parser, *_, **__):
        seen.append(parser)
        raise Stopped

    for how in ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, how, stop)
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(Stopped):
        importlib.import_module(name).main()
    below = [action for action in seen[0]._actions if isinstance(action, argparse._SubParsersAction)]
    parsers = [seen[0], *(parser for action in below for parser in action.choices.values())]
    assert not any(parser.allow_abbrev for parser in parsers)


NO_TORCH = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "qwen_vl_utils", "peft", "accelerate"):
            raise ImportError(f"{name} is not to be had")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ROOT)
for command in COMMANDS:
    sys.argv = command
    try:
        runpy.run_path(f"{ROOT}/{command[0]}", run_name="__main__")
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""


@pytest.mark.slow("four commands on whole files in a process of their own")
def test_data_and_evaluation_work_without_torch(tmp_path):
    scenes = ROOT / "data" / "demo" / "scenes"
    (tmp_path / "train.jsonl").write_text("".join((scenes / "train.jsonl").read_text().splitlines(keepends=True)[:900]))
    config = ["--config", str(ROOT / "config_demo.yaml"), f"output_dir={tmp_path}", f"data.train_jsonl={tmp_path / 'train.jsonl'}"]
    rows = str(scenes / "val.jsonl")
    gold = [line for line in Path(rows).read_text().splitlines() if '"options"' not in line][:90]
    rows_of = [json.loads(line) for line in gold]
    (tmp_path / "rows.jsonl").write_text("\n".join(gold))
    predictions = [{"id": str(n), "pred": row["answer"], "gt": row["answer"]} for n, row in enumerate(rows_of)]
    (tmp_path / "predictions_x.jsonl").write_text("\n".join(json.dumps(row) for row in predictions))
    commands = [
        ["data/preprocess.py", *config],
        ["data/check.py", *config, "--no-images"],
        ["data/split.py", rows, str(tmp_path / "split")],
        [
            "eval_exp1.py",
            *config,
            "--predictions",
            str(tmp_path / "predictions_x.jsonl"),
            "--against",
            str(tmp_path / "rows.jsonl"),
            "--text-metrics",
        ],
    ]
    code = f"ROOT, COMMANDS = {str(ROOT)!r}, {commands!r}\n{NO_TORCH}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-1500:]
    assert "enriched train: 899 rows" in result.stdout and "100.00%" in result.stdout and (tmp_path / "report_x.html").is_file()
