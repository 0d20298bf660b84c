"""What the report says of where its numbers come from, in words that may be passed on: no absolute paths, so no user names.

A path inside the configuration's folder is shown relative to it, another by its last part; a model by its hub id. No torch.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH")

from datetime import datetime

import yaml

from config import environment_facts
from files import printable, sha256

SPLITS = {"train": "training split", "val": "validation split", "test": "test split"}


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
    weights = (cfg.find(adapter, run["path"].parent) or cfg.output_dir / "none") / "adapter_model.safetensors"
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
