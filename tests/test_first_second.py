"""What a user mistyped is said in the first second, before anything is imported that takes longer.

python -m pytest tests/test_first_second.py -v
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ["train_exp1.py", "predict_exp1.py", "eval_exp1.py", "sanity_overfit.py"]
SLOW = {"torch", "transformers", "peft", "scipy", "matplotlib", "pandas"}  # packages that take the most of a second, or several


def run_watched(*command, cwd=ROOT, env=os.environ):
    """(the finished process without Python's own lines, the packages that it and the Pythons below it imported)"""
    watched = {**env, "PYTHONPROFILEIMPORTTIME": "1"}
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=watched)
    lines = result.stderr.splitlines(keepends=True)
    result.stderr = "".join(line for line in lines if not line.startswith("import time:"))
    return result, {line.split("|")[-1].strip().split(".")[0] for line in lines if line.startswith("import time:")}


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "Is there text?", "answer": "yes", "image": "a.jpg"}\n')
    return f"data.train_jsonl={tmp_path / 'rows.jsonl'}", f"data.val_jsonl={tmp_path / 'rows.jsonl'}", f"output_dir={tmp_path / 'out'}"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--config PATH"),
        (["train.learning_rate=1"], 1, "error: {config}: unknown key train.learning_rate"),
        (["--config", "no/such.yaml"], 1, "no/such.yaml: no such configuration file; give another with --config"),
        (["data.train_jsonl=no/such.jsonl", "data.val_jsonl=no/such.jsonl", "output_dir=no/such"], 1, "does not exist"),
    ],
)
def test_help_and_mistakes(script, arguments, code, said):
    result, imported = run_watched(sys.executable, script, *arguments)
    output = result.stdout if code == 0 else result.stderr
    assert result.returncode == code and said.format(config=ROOT / "config_exp1.yaml") in output and "Traceback" not in output
    assert code == 0 or len(output.splitlines()) == 1
    assert imported.isdisjoint(SLOW) and "yaml" in imported


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("train_exp1.py", [], "already holds a training run; continue it with --resume_from_checkpoint"),
        ("train_exp1.py", ["--resume_from_checkpoint", "no/such"], "is not a checkpoint"),
        ("predict_exp1.py", ["--adapter", "no/such"], "does not exist; train first: "),
        ("predict_exp1.py", ["--split", "test", "--adapter", "none"], "set data.test_jsonl"),
        ("predict_exp1.py", ["--image", "no/such.png", "--question", "Is it?"], "--image no/such.png: there is no such file"),
        ("eval_exp1.py", ["--predictions", "no/such.jsonl"], "does not exist; predict first: "),
        ("eval_exp1.py", ["--predictions", "README.md", "--against", "no/such.jsonl"], "there is no such file"),
        ("merge_adapter.py", ["--out", "README.md"], "README.md exists already; give a new folder"),
        ("merge_adapter.py", ["--adapter", "no/such", "--out", "new"], "does not exist; train first: "),
    ],
)
def test_what_is_missing_or_there_already(rows, tmp_path, script, arguments, said):
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    result, imported = run_watched(sys.executable, script, *rows, *arguments)
    assert result.returncode == 1 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert imported.isdisjoint(SLOW) and "yaml" in imported


def test_the_one_command_with_everything_done(tmp_path):
    """Stamps, hashes and printing only."""
    exp1 = tmp_path / "exp1"
    shutil.copytree(ROOT, exp1, ignore=shutil.ignore_patterns(".*", "outputs*", "tests", "docs"))
    shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    demo = {"cwd": exp1, "check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "data/preprocess.py", "--config", "config_demo.yaml"], **demo)
    out = exp1 / "outputs_demo"
    names = ["untuned_free", "untuned_constrained", "tuned_free", "tuned_constrained"]
    written = ["adapter/adapter_model.safetensors", "summary.txt", "comparison.txt", "report.html"]
    written += [name for run in names for name in (f"predictions_{run}.jsonl", f"metrics_{run}.json", f"evaluation_{run}.txt")]
    for path in [out / name for name in written]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.name}\n")
    facts = subprocess.run([sys.executable, "tools/fingerprint.py", "--config", "config_demo.yaml"], **demo)
    hashes = dict(line.split("=", 1) for line in facts.stdout.splitlines())
    stamps = {"train": hashes["train_inputs"]}
    stamps |= {f"predict_{name}": hashes["predict_inputs"] + " test" for name in names}
    for name in names:
        checksum = subprocess.run(["bash", "-c", f"cksum < {out}/predictions_{name}.jsonl"], **demo).stdout.strip()
        stamps[f"eval_{name}"] = f"{hashes['eval_inputs']} test {checksum}"
    stamps |= dict.fromkeys(("summary", "compare"), hashes["eval_inputs"] + " test")
    (out / ".stages").mkdir()
    for name, value in stamps.items():
        (out / ".stages" / name).write_text(value + "\n")
    result, imported = run_watched("bash", "run_exp1.sh", cwd=exp1, env=shell)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("unchanged, skipped") == len(stamps) == 11
    assert "evaluation_tuned_constrained.txt\n" in result.stdout and "summary.txt\n" in result.stdout
    assert imported.isdisjoint(SLOW) and "yaml" in imported


NO_PACKAGE = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ROOT)
sys.argv = ["script", *ARGUMENTS]
runpy.run_path(f"{ROOT}/{SCRIPT}", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "package", "arguments"),
    [
        *(
            (script, "pydantic", ["--help"])
            for script in (*SCRIPTS, "merge_adapter.py", "data/check.py", "data/split.py", "data/preprocess.py")
        ),
        *((script, "yaml", ["--help"]) for script in ("train_exp1.py", "data/readers.py", "dataset.py", "tools/fingerprint.py")),
        ("data/split.py", "numpy", ["--help"]),
        ("data/readers.py", "PIL", ["--help"]),
        ("dataset.py", "torch", ["--help"]),
        ("train_exp1.py", "transformers", []),
        ("predict_exp1.py", "torch", ["--adapter", "none"]),
    ],
)
def test_a_missing_package_is_one_line_even_for_help(rows, script, package, arguments):
    code = f"ROOT, SCRIPT, PACKAGE, ARGUMENTS = {str(ROOT)!r}, {script!r}, {package!r}, {[*arguments, *rows]!r}\n{NO_PACKAGE}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"error: the package {package} is missing in this Python ({sys.executable}); in {ROOT}: ")
    assert "requirements.txt" in result.stderr or ".venv/bin/activate" in result.stderr
