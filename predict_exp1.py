"""Stage 3: answer the questions of a split.

    python predict_exp1.py --config config_demo.yaml                 validation split, the trained adapter
    python predict_exp1.py --split test --adapter none predict.decoding=free        the untuned model, unconstrained

Reads the rows of data.<split>_jsonl and output_dir/adapter; writes output_dir/predictions.jsonl (another split or adapter:
predictions_<split>_<adapter>.jsonl) and, beside it, a .meta.json with the ids it was asked for and how it answered.
"""

import os
import shlex
import sys
from collections import Counter

from tqdm import tqdm
from transformers import set_seed

from config import SPLITS, argument_parser, check_transformers, load_config, resolve_path, save_run_info
from data import answer_space
from data.preprocess import answer_rules, ensure_enriched, ordered_types, training_space
from dataset import encode_answer, load_dataset
from decode import answer_questions
from files import UserError, read_json, run_script, sha256, write_jsonl
from model import EXPERIMENT_FILE, check_adapter, experiment_facts, load_model, load_processor, memory_errors_explained


def adapter_folder(cfg, argument):
    """The adapter to use: output_dir/adapter by default, None for `none`."""
    if argument == "none":
        return None
    folder = resolve_path(argument, cfg.config_path.parent) if argument else cfg.output_dir / "adapter"
    if not folder.is_dir():
        raise UserError(f"adapter {folder} does not exist; run train_exp1.py first, or give --adapter PATH or --adapter none")
    return folder


def output_path(cfg, split, adapter, argument):
    """Where predictions go: `--out`, or predictions.jsonl for the default split and adapter, or a name that tells them."""
    if argument:
        if not argument.endswith(".jsonl"):
            raise UserError(f"--out {argument}: predictions are JSONL; let the name end in .jsonl")
        return resolve_path(argument, cfg.config_path.parent, writing=True)
    if split == "val" and adapter == cfg.output_dir / "adapter":
        return cfg.output_dir / "predictions.jsonl"
    name = "none" if adapter is None else adapter.name
    if adapter is not None and adapter.parent != cfg.output_dir:  # another run's: its folder tells it from this one's
        name = f"{adapter.parent.name}_{name}"
    return cfg.output_dir / f"predictions_{split}_{name}.jsonl"


def space_of(cfg, adapter):
    """The answer space that the adapter's training saw; without an adapter, that of the training file.

    Prediction with an adapter reads no training file: rows that were enriched with another space are enriched anew.
    """
    if adapter is None:
        return training_space(cfg)
    if not (adapter / answer_space.SPACE_FILE).is_file():
        raise UserError(f"adapter {adapter} has no {answer_space.SPACE_FILE}; train it with train_exp1.py")
    return answer_space.load(adapter / answer_space.SPACE_FILE)


def free_limit(cfg, tokenizer, adapter=None):
    """predict.max_new_tokens in tokens; `auto` is the longest training answer with its EOS, which adapters remember."""
    if cfg.predict.max_new_tokens != "auto":
        return cfg.predict.max_new_tokens
    if adapter is not None:
        return read_json(adapter / EXPERIMENT_FILE)["longest_answer"]
    return max(len(encode_answer(tokenizer, row["answer"], cfg.answer_prefix)) for row in ensure_enriched(cfg, "train"))


def prediction_row(row, text):
    """One line of the predictions file. `gt` is the original answer; of a multiple-choice letter, the option it stands for."""
    gt = row.get("answer") if row.get("options") else row.get("answer_raw")
    first = {"id": row["id"], "pred": text, "gt": gt, "qtype": row["question_type"]}
    options = {"options": row["options"]} if row.get("options") else {}  # evaluation by the rules' types asks for them
    reachable = answer_space.reachable(row) if gt is not None else None  # what the row's constraint allows, used or not
    rest = {"question": row["question"], "image": row["image"], "confidence": None, "reachable": reachable}
    return {**first, **rest, **options}


def predict(model, dataset, cfg, max_new_tokens, decoding=None):
    """Return `(prediction rows in file order, counts)`; counts has (question type, "constrained" | "free" | "cut") keys."""
    predictions, counts = {}, Counter()
    answers = answer_questions(model, dataset, cfg, decoding or cfg.predict.decoding, max_new_tokens)
    for row, text, constrained, cut in tqdm(answers, desc="predicting", total=len(dataset.encoded), unit="row", disable=None):
        predictions[row["id"]] = prediction_row(row, text)
        counts[row["question_type"], "constrained" if constrained else "free"] += 1
        counts[row["question_type"], "cut"] += cut
    return [predictions[row_id] for row_id in dataset.encoded], counts


def describe(counts, limit):
    """Closing line: rows constrained and unconstrained per type, and answers cut by the limit."""
    types = ordered_types({name for name, _ in counts})
    parts = [f"{name} {counts[name, 'constrained']} + {counts[name, 'free']}" for name in types]
    cut = sum(counts[name, "cut"] for name in types)
    return f"rows constrained + free: {', '.join(parts)}; {cut} answers cut at max_new_tokens={limit}"


def main():
    parser = argument_parser("Answer the questions of a split.", epilog=__doc__)
    parser.add_argument("--split", default="val", choices=SPLITS)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder, or `none` for the untuned model (default: output_dir/adapter)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows; evaluation will call it partial")
    parser.add_argument("--out", metavar="PATH", help="where the predictions go")
    args = parser.parse_intermixed_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    cfg = load_config(args.config, args.overrides)
    check_transformers()
    source = cfg.split_path(args.split)
    adapter = adapter_folder(cfg, args.adapter)
    space = space_of(cfg, adapter)
    if adapter:
        check_adapter(adapter, experiment_facts(cfg, answer_rules(space)))
    set_seed(cfg.train.seed)

    all_rows = ensure_enriched(cfg, args.split, space)
    rows = all_rows[: args.limit]
    dataset = load_dataset(rows, load_processor(cfg), cfg, supervised=False)
    limit = free_limit(cfg, dataset.processor.tokenizer, adapter)

    with memory_errors_explained("lower predict.batch_size or image.max_pixels"):
        model, _ = load_model(cfg, adapter)
        predictions, counts = predict(model, dataset, cfg, limit)
    out = output_path(cfg, args.split, adapter, args.out)
    sidecar = out.with_suffix(".meta.json")
    sidecar.unlink(missing_ok=True)  # never the old run's beside new predictions
    write_jsonl(out, predictions)
    facts = {"split": args.split, "source": str(source), "source_sha256": sha256(source), "limit": args.limit}
    facts |= {"rows_in_split": len(all_rows), "ids": [row["id"] for row in rows], "adapter": str(adapter or "none")}
    facts |= {"decoding": cfg.predict.decoding, "max_new_tokens": limit, "command": sys.argv}
    facts |= {"spellings": answer_space.spellings(space)}
    save_run_info(sidecar, cfg, model.device, **facts)
    print(describe(counts, limit))
    print(f"wrote {len(predictions)} predictions to {out}")
    print(f"next: {cfg.command('eval_exp1.py')} --predictions {shlex.quote(os.path.relpath(out))}")


if __name__ == "__main__":
    run_script(main)
