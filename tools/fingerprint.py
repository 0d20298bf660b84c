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

from config import PATH_KEYS, argument_parser, code_facts, flat, load_config
from data.contents import CACHE, file_hashes, model_hashes, picture_hashes
from data.preprocess import enriched_path
from data.rows import read_rows
from files import hash_of, run_script, sha256
from model.on_disk import WEIGHTS_FILE


def split_paths(cfg):
    """{split: path of the user's rows} of the configuration. Raises UserError where a file is missing."""
    return {split: cfg.split_path(split) for split in cfg.given_splits()}


def enriched_facts(cfg, split, source):
    """Hashes of a split's enriched rows (None before they are made) and of the pictures that they name."""
    path, rows = enriched_path(cfg, split), read_rows(source, need_answer=False)
    return [sha256(path) if path.is_file() else None, picture_hashes(rows, cfg.image_folder(), cfg.output_dir / "data" / CACHE)]


def settings(cfg):
    """{key: value} of all that decides a training but the evaluation and prediction; of files what they hold, not where they lie."""
    keys = flat(cfg.model_dump(mode="json", exclude={"eval", "predict"}))
    keys = {key: value for key, value in keys.items() if key not in PATH_KEYS}
    keys["model_name"] = model_hashes(cfg.model_name, cfg.output_dir / "data" / CACHE)
    if cfg.train.init_adapter:
        weights = cfg.train.init_adapter / WEIGHTS_FILE
        keys["train.init_adapter"] = file_hashes([weights], cfg.output_dir / "data" / CACHE)[weights]
    return keys


def stage_hashes(cfg):
    """{stage: hash of all that decides what it writes}."""
    splits = split_paths(cfg)
    rows = {split: sha256(path) for split, path in splits.items()}
    enriched = {split: enriched_facts(cfg, split, path) for split, path in splits.items()}
    train = [settings(cfg), code_facts("train"), enriched["train"], enriched.get("val", enriched["train"])]
    adapter = cfg.output_dir / "adapter" / WEIGHTS_FILE
    predict = [train, cfg.predict.model_dump(mode="json"), code_facts("predict"), enriched, sha256(adapter) if adapter.is_file() else None]
    return {
        "train": hash_of(train),
        "predict": hash_of(predict),
        "eval": hash_of([predict, cfg.eval.model_dump(mode="json"), rows, code_facts("evaluate")]),
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
