"""Stage 3: answer the questions of a split.

    python predict_exp1.py --config config_demo.yaml                 validation split, the trained adapter
    python predict_exp1.py --split test --adapter none predict.decoding=free        the untuned model, unconstrained
    torchrun --nproc_per_node=4 predict_exp1.py                      four processes share the images
    python predict_exp1.py --image FILE --question "Is there a polyp?"              one question; --interactive for more

Reads the rows of data.<split>_jsonl and output_dir/adapter; writes output_dir/predictions.jsonl (another split or adapter:
predictions_<split>_<adapter>.jsonl) and, beside it, a .meta.json with the ids it was asked for and how it answered. A run that
was killed goes on where it was when it is started again.
"""

import os
import shlex
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm
from transformers import set_seed

from prediction.ask import ask, split_candidates
from config import ROOT, SPLITS, argument_parser, check_transformers, environment_facts, flat, load_config, resolve_path, save_run_info
from data import answer_space
from data.preprocess import answer_rules, ensure_enriched, ordered_types, training_space
from dataset import encode_answer, load_dataset
from prediction.decode import answer_questions, image_batches, split_long_trees
from files import UserError, read_json, read_jsonl, run_script, sha256
from tools.fingerprint import hash_of, rows_facts
from data.images import check_image
from model.load import (
    EXPERIMENT_FILE,
    check_adapter,
    device,
    experiment_facts,
    load_model,
    load_model_config,
    load_processor,
    memory_errors_explained,
    why_rows_stay_plain,
)
from prediction.streaming import PredictionStream

TOP = 5  # candidates whose probability a row carries
DECIMALS = 6
DECIDING = {"model_name", "prompt_style", "answer_prefix", "image", "predict"}  # configuration beside the rows and the adapter


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


def prediction_row(row, answer, min_confidence=None):
    """One line of the predictions file. `gt` is the original answer; of a multiple-choice letter, the option it stands for.

    confidence and runner_up_confidence are probabilities among the row's candidates, logprob and valid_mass those of the
    unconstrained model (`decode.Answer`); null where they aren't known.
    """
    gt = row.get("answer") if row.get("options") else row.get("answer_raw")
    found = [[text, round(value, DECIMALS)] for text, value in answer.probabilities()]
    (_, confidence), (runner_up, runner_up_confidence) = [*found, [None, None], [None, None]][:2]
    mass = answer.valid_mass
    values = {"id": row["id"], "pred": answer.text, "gt": gt, "qtype": row["question_type"]}
    values |= {"question": row["question"], "image": row["image"], "confidence": confidence}
    values |= {"logprob": answer.logprob if answer.logprob is None else round(answer.logprob, DECIMALS)}
    values |= {"runner_up": runner_up, "runner_up_confidence": runner_up_confidence}
    values |= {"valid_mass": mass if mass is None else round(mass, DECIMALS), "decoding": answer.decoding}
    if found:
        values |= {"candidates_top": found[:TOP], "greedy": answer.greedy}
    if answer.decoding == "free":
        values["cut"] = answer.cut  # by max_new_tokens
    if min_confidence is not None:
        values["abstained"] = confidence is not None and confidence < min_confidence
    values["reachable"] = answer_space.reachable(row) if gt is not None else None  # what the row's constraint allows, used or not
    if row.get("options"):
        values["options"] = row["options"]  # evaluation by the rules' types asks for them
    return values


def predict(model, dataset, cfg, max_new_tokens, stream, state):
    """Answer all batches that `stream` lacks, shared by the processes of `state`, each appended to the stream as it finishes."""
    batches, finished = image_batches(dataset, cfg), stream.finished()
    ids_of = lambda batch: [row["id"] for index in batch for row in dataset.groups[index]]  # noqa: E731
    missing = [batch for batch in batches if not finished.keys() >= set(ids_of(batch))]
    state.wait_for_everyone()  # nobody may write before all have seen what is there
    if len(missing) < len(batches) and state.is_main_process:
        print(f"continuing: {len(batches) - len(missing)} of {len(batches)} batches are there already")
    mine = missing[state.process_index :: state.num_processes]
    total = sum(len(ids_of(batch)) for batch in mine)
    with tqdm(total=total, desc="predicting", unit="row", disable=None if state.is_main_process else True) as progress:
        for answers in answer_questions(model, dataset, cfg, cfg.predict.decoding, max_new_tokens, mine):
            stream.append([prediction_row(row, answer, cfg.predict.min_confidence) for row, answer in answers])
            progress.update(len(answers))
    state.wait_for_everyone()


def run_facts(cfg, args, adapter, space, max_new_tokens, model_config):
    """All that decides predictions, for PredictionStream: only runs with the same are continued.

    That includes the GPU, or the number of CPU threads: they change the order of sums, and so last digits.
    """
    code = sorted({Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)})
    code = [path for path in code if path.parent in (ROOT, ROOT / "data")] + sorted((ROOT / "data").glob("*.yaml"))
    rows, *images = rows_facts(cfg, args.split)
    train = {"train.bf16": cfg.train.bf16, "train.seed": cfg.train.seed}
    model = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(Path(cfg.model_name).glob("*"))]
    return {
        "adapter": sha256(*sorted(path for path in adapter.iterdir() if path.is_file())) if adapter else "none",
        "model files": getattr(model_config, "_commit_hash", None) or hash_of(model),  # of the hub, or a folder's
        "config": flat({**cfg.model_dump(mode="json", include=DECIDING), "data.max_listed": cfg.data.max_listed, **train}),
        "answer space": answer_space.fingerprint(space),
        "data file": rows,
        "image files": hash_of(images),
        "code": {str(path.relative_to(ROOT)): sha256(path) for path in code},
        "arguments": {"--split": args.split, "--limit": args.limit, "max_new_tokens": max_new_tokens},
        "packages": environment_facts()["versions"],
        "device": torch.cuda.get_device_name() if device().type == "cuda" else f"{device().type}, {torch.get_num_threads()} threads",
    }


def describe(rows, limit):
    """Closing line: rows constrained and unconstrained per type, and answers cut by the limit."""
    counts = Counter((row["qtype"], row["decoding"] != "free") for row in rows)
    types = ordered_types({name for name, _ in counts})
    parts = [f"{name} {counts[name, True]} + {counts[name, False]}" for name in types]
    cut = sum(row.get("cut", False) for row in rows)
    return f"rows constrained + free: {', '.join(parts)}; {cut} answers cut at max_new_tokens={limit}"


def parse_arguments():
    parser = argument_parser("Answer the questions of a split.", epilog=__doc__)
    parser.add_argument("--split", default="val", choices=SPLITS)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder, or `none` for the untuned model (default: output_dir/adapter)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows; evaluation will call it partial")
    parser.add_argument("--out", metavar="PATH", help="where the predictions go")
    parser.add_argument("--overwrite", action="store_true", help="drop an unfinished run that was made from something else")
    parser.add_argument("--image", metavar="FILE", help="ask about this image instead of a split")
    parser.add_argument("--question", metavar="TEXT", help="the question about it")
    parser.add_argument("--candidates", metavar="A,B,C", help="its valid answers, by commas (default: what the answer space knows)")
    parser.add_argument("--interactive", action="store_true", help="read more questions from the terminal")
    args = parser.parse_intermixed_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if args.question and not args.image:
        parser.error("--question needs --image FILE")
    if args.image and not (args.question or args.interactive):
        parser.error("--image needs --question TEXT or --interactive")
    if args.candidates and not (args.question or args.interactive):
        parser.error("--candidates needs --question TEXT or --interactive")
    return args


def main():
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    check_transformers()
    asking = args.question or args.interactive
    if args.image:  # checked before a model is loaded
        args.image = resolve_path(args.image, cfg.config_path.parent)
        if not args.image.is_file():
            raise UserError(f"--image {args.image}: there is no such file")
        check_image(args.image)
    args.candidates = split_candidates(args.candidates)
    source = None if asking else cfg.split_path(args.split)
    adapter = adapter_folder(cfg, args.adapter)
    space = space_of(cfg, adapter)
    if adapter:
        check_adapter(adapter, experiment_facts(cfg, answer_rules(space)))
    model_config = load_model_config(cfg)
    plain = why_rows_stay_plain(model_config)
    if plain and cfg.predict.decoding == "exact":
        print(f"note: {cfg.model_name} {plain}; its questions are answered one by one, greedily, and have no confidence")
    set_seed(cfg.train.seed)
    processor = load_processor(cfg)
    limit = free_limit(cfg, processor.tokenizer, adapter)
    if asking:
        with memory_errors_explained("lower image.max_pixels"):
            return ask(load_model(cfg, adapter)[0], processor, cfg, space, args, limit)

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    out = output_path(cfg, args.split, adapter, args.out)
    stream = PredictionStream(out, run_facts(cfg, args, adapter, space, limit, model_config), state.process_index)
    with state.main_process_first():  # one process enriches, checks images and repairs the stream, the others read
        all_rows = ensure_enriched(cfg, args.split, space)
        rows = all_rows[: args.limit]
        dataset = load_dataset(rows, processor, cfg, model_config, supervised=False)
        split_long_trees(dataset, cfg.predict.tokens_per_row)
        if state.is_main_process:
            stream.start(args.overwrite)
    with memory_errors_explained("lower predict.batch_size, predict.tokens_per_row or image.max_pixels"):
        model, _ = load_model(cfg, adapter)
        predict(model, dataset, cfg, limit, stream, state)
    if not state.is_main_process:
        return

    facts = {"split": args.split, "source": str(source), "source_sha256": sha256(source), "limit": args.limit}
    facts |= {"rows_in_split": len(all_rows), "ids": [row["id"] for row in rows], "adapter": str(adapter or "none")}
    facts |= {"decoding": cfg.predict.decoding, "max_new_tokens": limit, "command": sys.argv}
    facts |= {"spellings": answer_space.spellings(space)}
    stream.finish(facts["ids"], lambda: save_run_info(out.with_suffix(".meta.json"), cfg, model.device, **facts))
    print(describe([row for _, row in read_jsonl(out)], limit))
    print(f"wrote {len(rows)} predictions to {out}")
    print(f"next: {cfg.command('eval_exp1.py')} --predictions {shlex.quote(os.path.relpath(out))}")


if __name__ == "__main__":
    run_script(main)
