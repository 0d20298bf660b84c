"""What the results of run_exp1.sh depend on, as shell variables. Not a stage: it reads, hashes and prints.

    python tools/fingerprint.py --config config_demo.yaml

out: the output folder. split: the one to predict. train_inputs: hash of all that decides an adapter; inputs: hash of all
that decides predictions and scores.
"""

import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ROOT, argument_parser, load_config
from data.preprocess import read_rows
from files import UserError, run_script, sha256
from data.images import image_path

# Code that can't change an adapter: an edit here must not make anybody train again.
AFTER_TRAINING = {"predict_exp1", "scoring", "decode", "streaming", "ask", "merge_adapter", "eval_exp1", "metrics", "sanity_overfit", "fingerprint"}
AFTER_TRAINING |= {"cost", "dry_run"}  # they count, and change nothing
AFTER_TRAINING |= {"check", "image_copies", "readers", "reader_formats", "source_files", "split"}
AFTER_TRAINING |= {"scores", "intervals", "compare", "predictions", "report"}


def hash_of(facts):
    """Hex SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def code_hash(skip=()):
    files = [*ROOT.glob("*.py"), *ROOT.glob("data/*.py"), *ROOT.glob("data/*.yaml")]
    return sha256(*sorted(path for path in files if path.stem not in skip))


def rows_facts(cfg, split):
    """Hash of a split's rows, and size and time of the images that they name."""
    path, root = cfg.split_path(split), cfg.image_folder()
    names = dict.fromkeys(row["image"] for row in read_rows(path, need_answer=False))
    return [sha256(path), *(_file_stamp(root, name) for name in names)]


def _file_stamp(root, name):
    try:
        status = os.stat(image_path(root, name))
    except (OSError, UserError):
        return [name]  # the stages say what is wrong with it
    return [name, status.st_size, status.st_mtime_ns]


def model_facts(cfg):
    folder = Path(cfg.model_name)
    return sha256(*sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])) if folder.is_dir() else cfg.model_name


def main():
    args = argument_parser("Print what the results of run_exp1.sh depend on.", epilog=__doc__).parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    split = "test" if cfg.data.test_jsonl else "val"
    rows = {name: rows_facts(cfg, name) for name in dict.fromkeys(("train", "val" if cfg.data.val_jsonl else "train", split))}
    keys = cfg.model_dump(mode="json", exclude={"eval", "predict"})
    keys["data"].pop("test_jsonl")
    training = [keys, model_facts(cfg), code_hash(AFTER_TRAINING), rows["train"], rows.get("val")]
    everything = [training, cfg.model_dump(mode="json"), code_hash(), rows]
    for name, value in (("out", cfg.output_dir), ("split", split), ("train_inputs", hash_of(training)), ("inputs", hash_of(everything))):
        print(f"{name}={shlex.quote(str(value))}")


if __name__ == "__main__":
    run_script(main)
