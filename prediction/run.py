"""One run over a split: what decides its answers, the answers, and the rows that are written."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py")

import sys
from collections import Counter
from datetime import datetime, timedelta

import torch
from accelerate import PartialState
from tqdm import tqdm

from config import command_line, environment_facts, near, save_run_info
from data import answer_space
from data.contents import CACHE, model_hashes
from data.preprocess import ensure_enriched
from data.rules import ordered_types
from dataset import encode_answer, load_dataset, say_what_is_thinned
from files import hash_of, read_json, read_jsonl, sha256
from model.adapter import EXPERIMENT_FILE
from model.load import device, errors_explained, load_model
from prediction.decode import answer_questions, image_batches, split_long_trees
from prediction.setup import facts_of_files
from prediction.streaming import PredictionStream

LOWER = (
    "lower predict.batch_size or predict.tokens_per_row and start again, finished batches are kept; if neither is enough, lower "
    "image.max_pixels and train anew"
)
TOP = 5  # candidates whose probability a row carries
DECIMALS = 6


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
    values |= {"question": row["question"], "image": row["image"], "confidence": confidence}  # of several the first; then `images`, too
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
    # what evaluation asks of a row: its options, by whose letters an answer may name one, its patient, its references, its images
    return values | {key: row[key] for key in ("options", "group", "answers", "images") if row.get(key) is not None}


def answer_split(cfg, args, adapter, space, max_new_tokens, model_config, processor, out):
    """Write the predictions of a split and their sidecar, unless they are there; True in the process that has the last word.

    args: the script's arguments `split`, `limit` and `overwrite`. Raises UserError where `out` holds predictions that were made
    from something else.
    """
    state = processes()
    with state.main_process_first():  # one process hashes what is not in the cache
        facts = run_facts(cfg, args, adapter, space, max_new_tokens, model_config)
    stream = PredictionStream(out, facts, state.process_index)
    if stream.is_finished(args.overwrite):
        if state.is_main_process:
            print(f"{near(out)} is there already, made from just this; --overwrite makes it anew")
        return state.is_main_process
    with state.main_process_first():  # one process enriches, checks images and repairs the stream, the others read
        all_rows = ensure_enriched(cfg, args.split, space)
        rows = all_rows[: args.limit]
        dataset = load_dataset(rows, processor, cfg, model_config, supervised=False)
        split_long_trees(dataset, cfg.predict.tokens_per_row)
        if state.is_main_process:
            say_what_is_thinned(rows, cfg)
            stream.start(args.overwrite)
    with stream.interruption_explained(len(rows), command_line()), errors_explained(LOWER, out.parent):
        model, _ = load_model(cfg, adapter)
        predict(model, dataset, cfg, max_new_tokens, stream, state)
    if state.is_main_process:
        sidecar = sidecar_facts(cfg, args, rows, len(all_rows), adapter, space, max_new_tokens, facts)
        vouch = lambda: save_run_info(out.with_suffix(".meta.json"), cfg, model.device, **sidecar, predictions_sha256=sha256(out))
        stream.finish(sidecar["ids"], vouch)
        print(describe([row for _, row in read_jsonl(out)], max_new_tokens))
        print(f"wrote {len(rows):,} predictions to {near(out)}")
    return state.is_main_process


def predict(model, dataset, cfg, max_new_tokens, stream, state):
    """Answer all batches that `stream` lacks, shared by the processes of `state`, each appended to the stream as it finishes."""
    batches, finished = image_batches(dataset, cfg), stream.finished()
    ids_of = lambda batch: [row["id"] for index in batch for row in dataset.groups[index]]
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
    weights = hash_of(model_hashes(cfg.model_name, cfg.output_dir / "data" / CACHE))
    return {
        **facts_of_files(cfg, args.split, adapter),
        "model files": getattr(model_config, "_commit_hash", None) or weights,  # of the hub, or a folder's
        "answer space": answer_space.fingerprint(space),
        "arguments": {"--split": args.split, "--limit": args.limit, "max_new_tokens": max_new_tokens},
        "packages": environment_facts()["versions"],
        "device": torch.cuda.get_device_name() if device().type == "cuda" else f"{device().type}, {torch.get_num_threads()} threads",
    }


def processes():
    """The processes that share a prediction, as accelerate's PartialState: one, unless a launcher started more."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def sidecar_facts(cfg, args, rows, rows_in_split, adapter, space, max_new_tokens, made_from):
    """What the predictions' .meta.json says of them: the ids that were asked for, of what, how they were answered, and from what
    they were made (`run_facts`)."""
    source = cfg.split_path(args.split)
    facts = {"date": datetime.now().astimezone().isoformat(timespec="seconds"), "split": args.split, "limit": args.limit}
    facts |= {"source": str(source), "source_sha256": sha256(source)}
    facts |= {"rows_in_split": rows_in_split, "ids": [row["id"] for row in rows], "adapter": str(adapter or "none")}
    facts |= {"trained_on": read_json(adapter / EXPERIMENT_FILE).get("trained_on")} if adapter else {}
    facts |= {"decoding": cfg.predict.decoding, "max_new_tokens": max_new_tokens, "command": sys.argv}
    return facts | {"conventions": answer_space.conventions(space), "made_from": made_from}


def describe(rows, limit):
    """Closing line: how many rows were constrained, the types of the others, and the free answers that the limit cut."""
    free = Counter(row["qtype"] for row in rows if row["decoding"] == "free")
    line = f"{len(rows) - free.total():,} of {len(rows):,} rows constrained"
    if free:
        line += "; free: " + ", ".join(f"{name} {free[name]:,}" for name in ordered_types(free))
    cut = sum(row.get("cut", False) for row in rows)
    return line + f"; {cut:,} answers cut at predict.max_new_tokens={limit}" * bool(cut)
