"""What the results of run_exp1.sh depend on, as shell variables. Not a stage: it reads, hashes and prints.

    python tools/fingerprint.py --config config_demo.yaml

out: the output folder. split_SPLIT: the rows of each split that the configuration names. For each stage the hash of all that
decides what it writes: enrich_inputs; train_inputs and predict_inputs, in which enrichment counts by the rows that it wrote (so
they are right once it has run); eval_inputs.
"""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import SPLITS, argument_parser, code_facts, load_config
from data.images import image_stamps
from data.preprocess import enriched_path
from data.rows import read_rows
from files import hash_of, run_script, sha256


def given_splits(cfg):
    """{split: path of the user's rows} of the configuration. Raises UserError where a file is missing."""
    return {split: cfg.split_path(split) for split in SPLITS if split == "train" or getattr(cfg.data, f"{split}_jsonl")}


def enriched_facts(cfg, split, source):
    """Hash of a split's enriched rows (None before they are made), and size and time of the images that they name."""
    path = enriched_path(cfg, split)
    return [sha256(path) if path.is_file() else None, image_stamps(read_rows(source, need_answer=False), cfg.image_folder())]


def model_facts(cfg):
    folder = Path(cfg.model_name)
    return sha256(*sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])) if folder.is_dir() else cfg.model_name


def stage_hashes(cfg):
    """{stage: hash of all that decides what it writes}."""
    splits = given_splits(cfg)
    rows = {split: sha256(path) for split, path in splits.items()}
    keys = cfg.model_dump(mode="json")
    scoring, predicting = keys.pop("eval"), keys.pop("predict")
    keys["data"].pop("test_jsonl")
    enriched = {split: enriched_facts(cfg, split, path) for split, path in splits.items()}
    train = [keys, model_facts(cfg), code_facts("train"), enriched["train"], enriched.get("val", enriched["train"])]
    predict = [train, predicting, code_facts("predict"), enriched]
    return {
        "enrich": hash_of([rows, keys["data"], code_facts("enrich")]),
        "train": hash_of(train),
        "predict": hash_of(predict),
        "eval": hash_of([predict, scoring, rows, code_facts("evaluate")]),
    }


def main():
    args = argument_parser("Print what the results of run_exp1.sh depend on.", epilog=__doc__).parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    values = {"out": cfg.output_dir, **{f"split_{split}": path for split, path in given_splits(cfg).items()}}
    values |= {f"{stage}_inputs": value for stage, value in stage_hashes(cfg).items()}
    for name, value in values.items():
        print(f"{name}={shlex.quote(str(value))}")


if __name__ == "__main__":
    run_script(main)
