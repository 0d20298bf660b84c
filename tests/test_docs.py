"""README and docs: short paragraphs, links that lead somewhere, and only files, flags and keys that exist.

python -m pytest tests/test_docs.py -v
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from config import _known_keys, load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "demo" / "README.md"]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Names of files that a reader has or makes, and of other programs' flags.
THEIRS = {"my.yaml", "mapping.yaml", "mine/mapping.yaml", "make_example.py", "table.csv", "metadata.csv", "requirements-gpu.txt"}
THEIRS |= {"REPORTING.md"}
FOREIGN_FLAGS = {
    "--signal",
    "--time",
    "--gres",
    "--ntasks-per-node",
    "--partition",
    "--account",
    "--multi_gpu",
    "--num_processes",
    "--no-index",
    "--find-links",
    "--nproc_per_node",
    "--revision",
    "--local-dir",
    "--master_port",
    "--no-deps",
    "--version",
    "--enable-lora",
    "--quiet",
}
SUFFIXES = ("py", "sh", "yaml", "yml", "md", "toml", "j2", "cff", "png")
PATH = re.compile(rf"(?<![\w./<*-])((?:[\w-]+/)*[\w-]+\.(?:{'|'.join(SUFFIXES)}))(?![\w/*])")
MADE = ("outputs", "split/", "rows", "frames/", "evaluation_", "comparison", "summary", "loss_curve", "videos/", "kvasir/")


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page):
    """The inline code and the lines of code blocks of a page, with their line numbers left out."""
    text = page.read_text(encoding="utf-8")
    blocks = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    return [*re.findall(r"`([^`\n]+)`", prose(page)), *blocks]


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose(page)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page):
    named = {name for span in spans(page) for name in PATH.findall(span)}
    named = {name for name in named if name not in THEIRS and not name.startswith(MADE)}
    missing = [name for name in sorted(named) if not (ROOT / name).exists() and not (page.parent / name).exists()]
    assert not missing
    assert named or page.parent == ROOT / "data" / "demo"


@cache
def flags_of(path):
    """The flags that a script defines, with those that every script has."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        return set(re.findall(r"--[\w-]+", source))
    found = {"--help", "-h"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) in ("add_argument", "argument_parser"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and str(arg.value).startswith("-")}
            found |= {"--config"} if getattr(node.func, "id", None) == "argument_parser" else set()
            found |= (
                {f"--{split}" for split in ("train", "val", "test")} if any(isinstance(arg, ast.JoinedStr) for arg in node.args) else set()
            )
    return found


SCRIPTS = [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *(ROOT / "data").glob("**/*.py"), *ROOT.glob("bench/*.py"), *ROOT.glob("tools/*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_flag_that_is_named_exists(page):
    known = set().union(*map(flags_of, SCRIPTS)) | FOREIGN_FLAGS
    for span in spans(page):
        for command in re.split(r"&&|;|\|", span):
            flags = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*(?![\w.-])", command))
            script = re.search(r"(?:python3?|bash|torchrun[^\n]*?) (?:-m )?([\w./]+)", command)
            path = script and ROOT / (script[1] if script[1].endswith((".py", ".sh")) else script[1].replace(".", "/") + ".py")
            allowed = flags_of(path) | FOREIGN_FLAGS if path and path.is_file() else known
            assert flags <= allowed, f"{page.name}: {sorted(flags - allowed)} in {command.strip()!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_key_that_is_named_exists(page):
    known = set(_known_keys())
    for span in spans(page):
        for section, key in re.findall(r"(?<![\w/.])(image|lora|train|data|predict|eval)\.([a-z_]+)\b(?!\.py|/|\()", span):
            module = section == "data" and (ROOT / "data" / f"{key}.py").is_file()
            dataset_file = key in ("jsonl", "json", "parquet", "png", "jpg", "meta")
            assert f"{section}.{key}" in known or module or dataset_file, f"{page.name}: {section}.{key} in {span!r}"


def test_the_table_of_keys_is_complete():
    """docs/running.md lists every key of the configuration."""
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    missing = [key for key in _known_keys() if "." in key and key.split(".", 1)[1] not in rows or key.split(".")[0] not in rows]
    assert not missing


def test_paragraphs_are_short():
    for page in PAGES[:-1]:
        for paragraph in re.split(r"\n\s*\n", prose(page)):
            assert paragraph.lstrip().startswith("|") or len(paragraph) <= 800, f"{page.name}: {paragraph[:60]!r}"
    assert len((ROOT / "README.md").read_bytes()) <= 12_000


@pytest.mark.parametrize("path", [*ROOT.glob("*.yaml"), *ROOT.glob("configs/*.yaml")], ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    cfg = load_config(path)
    assert yaml.safe_load(path.read_text(encoding="utf-8")) and cfg.output_dir.parent == ROOT, "outputs lie in the repository's root"


def test_no_two_shipped_configurations_share_their_outputs():
    folders = [load_config(path).output_dir for path in [*ROOT.glob("*.yaml"), *ROOT.glob("configs/*.yaml")]]
    assert len(set(folders)) == len(folders)
