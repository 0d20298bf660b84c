"""What the results of run_exp1.sh depend on, as shell variables. Not a stage: it reads, hashes and prints.

    python tools/fingerprint.py --config config_demo.yaml

out: the output folder. split_SPLIT: the rows of each split that the configuration names. For each stage the hash of all that
decides what it writes: train_inputs, predict_inputs and eval_inputs. What earlier stages wrote counts as it lies there, enriched
rows and adapter, so a hash is right once they have run.
"""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import argument_parser, code_facts, load_config
from data.images import image_stamps
from data.preprocess import enriched_path
from data.rows import read_rows
from files import hash_of, run_script, sha256

LARGE = 100_000_000  # bytes


def split_paths(cfg):
    """{split: path of the user's rows} of the configuration. Raises UserError where a file is missing."""
    return {split: cfg.split_path(split) for split in cfg.given_splits()}


def enriched_facts(cfg, split, source):
    """Hash of a split's enriched rows (None before they are made), and size and time of the images that they name."""
    path = enriched_path(cfg, split)
    return [sha256(path) if path.is_file() else None, image_stamps(read_rows(source, need_answer=False), cfg.image_folder())]


def model_facts(cfg):
    """A hub id, or name and content of a folder's files; of the large ones, which take minutes to read, size and time."""
    if not Path(cfg.model_name).is_dir():
        return cfg.model_name
    files = sorted(path for path in Path(cfg.model_name).iterdir() if path.is_file())
    stamp = lambda path: sha256(path) if path.stat().st_size < LARGE else [path.stat().st_size, path.stat().st_mtime_ns]
    return [[path.name, stamp(path)] for path in files]


def stage_hashes(cfg):
    """{stage: hash of all that decides what it writes}."""
    splits = split_paths(cfg)
    rows = {split: sha256(path) for split, path in splits.items()}
    keys = cfg.model_dump(mode="json")
    scoring, predicting = keys.pop("eval"), keys.pop("predict")
    keys["data"].pop("test_jsonl")
    enriched = {split: enriched_facts(cfg, split, path) for split, path in splits.items()}
    train = [keys, model_facts(cfg), code_facts("train"), enriched["train"], enriched.get("val", enriched["train"])]
    adapter = cfg.output_dir / "adapter" / "adapter_model.safetensors"
    predict = [train, predicting, code_facts("predict"), enriched, sha256(adapter) if adapter.is_file() else None]
    return {
        "train": hash_of(train),
        "predict": hash_of(predict),
        "eval": hash_of([predict, scoring, rows, code_facts("evaluate")]),
    }


def main():
    args = argument_parser("Print what the results of run_exp1.sh depend on.", epilog=__doc__).parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    values = {"out": cfg.output_dir, **{f"split_{split}": path for split, path in split_paths(cfg).items()}}
    values |= {f"{stage}_inputs": value for stage, value in stage_hashes(cfg).items()}
    for name, value in values.items():
        print(f"{name}={shlex.quote(str(value))}")


if __name__ == "__main__":
    run_script(main)
