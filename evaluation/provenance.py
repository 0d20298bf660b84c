"""What the report says of where its numbers come from, in words that may be passed on: no absolute paths, so no user names.

A path inside the configuration's folder is shown relative to it, another by its last part; a model by its hub id. No torch.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH")

import os
import re
from datetime import datetime
from pathlib import Path

import yaml

from config import environment_facts
from files import printable, sha256

HOMES = ("home", "Users")  # what lies in them are people
START = r"file:/{2,3}|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\|(?:\.\.[/\\])+|/"  # of a path that says where somebody's files lie
WHOLE_PATH = re.compile(rf"(?:{START}).+", re.DOTALL)
PATH_IN_TEXT = re.compile(rf"(?<![\w./\\<-])(?<!https:)(?<!http:)(?:{START})[^\s:;,'\"()<>]+")
HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
SPLITS = {"train": "training split", "val": "validation split", "test": "test split"}


class PublicNames:
    """Names of a run's files without the folders that they lie in.

    cfg: the evaluation's. sidecar: the predictions' facts, whose paths may be another machine's.
    """

    def __init__(self, cfg, sidecar):
        used = Path((sidecar.get("config") or {}).get("output_dir") or "").parent
        folders = ((cfg.config_path.parent, 1), (used, 2))  # `/scratch`, say, holds other people's, too
        self.folders = [folder for folder, least in folders if len(folder.parts) > least and folder.name not in HOMES]

    def path(self, value):
        """A text that is a path or not (str or Path, or None): relative to a folder of the run, else the last part of an absolute one."""
        text = str(value or "")
        if found := HUB_CACHE.search(text):
            return "/".join(found.groups())
        for folder in self.folders:
            if Path(text).is_relative_to(folder):
                return os.path.relpath(text, folder)
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if WHOLE_PATH.fullmatch(text) else text

    def text(self, line, *known):
        """A line in which paths may stand, those of `known` even if they hold spaces."""
        for path in sorted(map(str, filter(None, known)), key=len, reverse=True):
            for form in (path, os.path.relpath(path)):
                if WHOLE_PATH.fullmatch(form):
                    line = line.replace(form, self.path(path))
        return PATH_IN_TEXT.sub(lambda found: self.path(found[0]), line)

    def values(self, value):
        """Nested settings with every path made public."""
        if isinstance(value, dict):
            return {key: self.values(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.values(item) for item in value]
        if not isinstance(value, str):
            return value
        key, sign, rest = value.partition("=")  # an override, `data.train_jsonl=/home/…`
        return f"{key}={self.values(rest)}" if sign and "/" not in key else self.text(self.path(value))


def title_of(run, names):
    """What the page is about: model, adapter, split and date, or the file's name where no sidecar tells these."""
    sidecar, (date, _) = run["sidecar"], date_of(run)
    if not sidecar:
        return printable(f"{run['path'].name}, {date}")
    model = names.path((sidecar.get("config") or {}).get("model_name")).rsplit("/", 1)[-1] or run["path"].name
    adapter = sidecar.get("adapter")
    tuned = "no adapter" if adapter in (None, "none") else f"adapter {names.path(adapter)}"
    split = sidecar.get("split")
    return printable(", ".join(filter(None, [model, tuned, SPLITS.get(split, split and f"{split} split"), date])))


def date_of(run):
    """(`26 Nov 2026`, whose date it is): when the sidecar says that was predicted, else when the file last changed."""
    try:
        date, whose = datetime.fromisoformat(run["sidecar"]["date"]), "that of prediction"
    except (KeyError, TypeError, ValueError):
        date, whose = datetime.fromtimestamp(run["path"].stat().st_mtime), "that of the predictions file's last change"
    return f"{date.day} {date:%b %Y}", whose


def run_facts(cfg, run, names):
    """(name, value) pairs on where the numbers come from: model, adapter, files with their hashes, commits, versions."""
    sidecar, here = run["sidecar"], environment_facts()
    adapter = sidecar.get("adapter")
    weights = cfg.config_path.parent / (adapter or "none") / "adapter_model.safetensors"
    command = sidecar.get("command") if isinstance(sidecar.get("command"), list) else []
    facts = {
        "model": names.path((sidecar.get("config") or {}).get("model_name")) or "not known: no sidecar lies beside the file",
        "adapter": names.path(adapter),
        "adapter SHA-256 (as it is now)": sha256(weights) if weights.is_file() else None,
        "decoding": sidecar.get("decoding"),
        "split": sidecar.get("split"),
        "date": "{} ({})".format(*date_of(run)),
        "data": names.path(sidecar.get("source")),
        "data SHA-256 (as predicted)": sidecar.get("source_sha256"),
        "checked against": names.path(run["source"]),
        "types and spellings": names.text(run["space_from"], cfg.data.train_jsonl, cfg.output_dir / "adapter", adapter),
        "predictions": names.path(run["path"]),
        "predictions SHA-256": sha256(run["path"]),
        "training data SHA-256": _hash_if_there(cfg.data.train_jsonl),
        "configuration of evaluation": cfg.config_path.name,
        "command of prediction": " ".join(names.values([str(part) for part in command])),
        "commit of prediction": sidecar.get("commit"),
        "commit of evaluation": here["commit"],
        "device of prediction": sidecar.get("device"),
        "versions at prediction": ", ".join(f"{name} {number}" for name, number in (sidecar.get("versions") or {}).items() if number),
        "tolerances": ", ".join(f"{key} {value}" for key, value in cfg.eval.model_dump().items()),
    }
    return [(name, printable(value)) for name, value in facts.items() if value]


def settings_of(cfg, run, names):
    """(whose they are, the settings as YAML): those of prediction where the sidecar has them, else those of this evaluation."""
    used = run["sidecar"].get("config")
    values = names.values(used or cfg.model_dump(mode="json"))
    return f"Configuration of the {'prediction' if used else 'evaluation'}", yaml.safe_dump(values, sort_keys=False)


def _hash_if_there(path):
    return sha256(path) if path and path.is_file() else None
