"""One run over a split: what decides its answers, the answers, and the rows that are written."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py")

import sys
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import torch
from accelerate import PartialState
from tqdm import tqdm

from config import PredictConfig, command_line, environment_facts, near, save_run_info
from data import answer_space, calibration
from data.contents import CACHE, base_facts, model_hashes
from data.perturb import NotPossible
from data.preprocess import ensure_enriched
from data.rules import ordered_types
from dataset import encode_answer, load_dataset, say_what_is_thinned
from files import UserError, hash_of, read_jsonl, sha256
from model.load import device_name, errors_explained, load_model, machine_facts
from model.on_disk import adapter_facts
from prediction.cascade import answer_in_stages, with_longest_answers
from prediction.decode import answer_questions, image_batches, split_long_trees
from prediction.setup import facts_of_files
from prediction.streaming import PredictionStream
from prediction.views import Streams, perturbed, plain

LOWER = (
    "lower predict.batch_size or predict.tokens_per_row and start again, finished batches are kept; if neither is enough, lower "
    "image.max_pixels and train anew"
)
DECIMALS = 6


def free_limit(cfg, tokenizer, adapter=None):
    """predict.max_new_tokens in tokens; `auto` is the longest training answer with its EOS, which adapters remember."""
    if cfg.predict.max_new_tokens != "auto":
        return cfg.predict.max_new_tokens
    if adapter is not None:
        if (longest := adapter_facts(adapter).get("longest_answer")) is None:
            raise UserError(f"adapter {near(adapter)} does not say what its longest training answer is; set predict.max_new_tokens=N")
        return longest
    return max(len(encode_answer(tokenizer, row["answer"], cfg.answer_prefix)) for row in ensure_enriched(cfg, "train"))


def prediction_row(row, answer, min_confidence=None, predict=PredictConfig(), fitted=None):
    """One line of the predictions file. `gt` is the original answer; of a multiple-choice letter, the option it stands for.

    predict: the configuration's section, of candidates_kept, calibrated and coverage. fitted: the Calibration that these ask for.

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
        everything = [[text, calibration.rounded(value)] for text, value in answer.probabilities()]
        top = everything if predict.candidates_kept == "all" else found[: predict.candidates_kept]
        values |= {"candidates_top": top, "greedy": answer.greedy}
    if fitted:
        values |= calibrated_values(answer.probabilities(), predict, fitted)
    if answer.decoding == "free":
        values["cut"] = answer.cut  # by max_new_tokens
    if min_confidence is not None:
        sure = values["confidence_calibrated"] if fitted and predict.calibrated else confidence
        values["abstained"] = sure is not None and sure < min_confidence
    values["reachable"] = answer_space.reachable(row) if gt is not None else None  # what the row's constraint allows, used or not
    # what evaluation asks of a row: its options, by whose letters an answer may name one, its patient, its references, its images
    return values | {key: row[key] for key in ("options", "group", "answers", "images") if row.get(key) is not None}


def calibrated_values(ranking, predict, fitted):
    """What calibration adds to a row: null where its candidates weren't all scored. ranking: [text, probability], likeliest first."""
    values = {}
    if predict.calibrated:
        shares = calibration.tempered([calibration.rounded(value) for _, value in ranking], fitted.temperature) if ranking else []
        values["confidence_calibrated"] = round(float(shares[0]), DECIMALS) if ranking else None
    if predict.coverage is not None:
        least = calibration.cut(fitted.sets, predict.coverage)
        texts, filled = calibration.answer_set(ranking, fitted.temperature, least) if ranking else (None, False)
        values |= {"answer_set": texts, "answer_set_filled": filled}
    return values


def calibration_for(cfg, facts):
    """The Calibration that predict.calibrated and predict.coverage ask for, None where they don't. facts: of `run_facts`."""
    if not cfg.predict.calibrated and cfg.predict.coverage is None:
        return None
    path = cfg.output_dir / calibration.FILE
    found = calibration.load(path, facts)
    if cfg.predict.coverage is not None and found.sets is None:
        raise UserError(f"predict.coverage: {near(path)} has no answer sets; run eval_exp1.py --calibrate with --sets PATH")
    return found


def calibrated_on(rows, cfg, fitted):
    """How many rows are about images that calibrated the answer sets which they are to get."""
    known = set(fitted.sets.images) if cfg.predict.coverage is not None else ()
    return sum(calibration.mark(row) in known for row in rows)


def answer_split(cfg, args, adapter, space, max_new_tokens, model_config, processor, out):
    """Write the predictions of a split, and those of `args.perturb` beside them, with their sidecars, unless they are there; True in
    the process that has the last word.

    args: the script's arguments `split`, `limit`, `overwrite`, `perturb`, and `perturb_all`, with which a perturbation that these rows
    don't allow is a note. Raises UserError where `out` holds predictions that were made from something else.
    """
    state = processes()
    with state.main_process_first():  # one process hashes what is not in the cache
        facts = run_facts(cfg, args, adapter, space, max_new_tokens, model_config)
        fitted = calibration_for(cfg, facts)
        facts |= {"calibration": sha256(cfg.output_dir / calibration.FILE)} if fitted else {}
    job = Job(cfg, args, adapter, space, max_new_tokens, model_config, processor, state, facts, fitted)
    if not PredictionStream(out, facts).is_finished(args.overwrite):
        with state.main_process_first():  # one process enriches, the others read
            view = plain(job.all_rows[: args.limit])
        answer_view(job, view, out)
    elif state.is_main_process:
        print(f"{near(out)} is there already, made from just this; --overwrite makes it anew")
    for name in args.perturb or ():
        try:
            with state.main_process_first():
                view = perturbed(name, cfg, job.all_rows, args.limit)
        except NotPossible as error:
            if not args.perturb_all:  # asked for by its name
                raise
            if state.is_main_process:
                print(f"note: {error}")
        else:
            answer_view(job, view, out)
    return state.is_main_process


@dataclass(frozen=True)
class Job:
    """What the passes over a split have in common. facts: `run_facts`, all that decides the plain predictions. fitted: Calibration."""

    cfg: object
    args: object
    adapter: object
    space: dict
    max_new_tokens: int
    model_config: object
    processor: object
    state: PartialState
    facts: dict
    fitted: object = None

    @cached_property
    def all_rows(self):
        return ensure_enriched(self.cfg, self.args.split, self.space)

    @cached_property
    def model(self):
        return load_model(self.cfg, self.adapter)[0]


def answer_view(job, view, out):
    """Answer what a view asks and write its files, the plain one to `out` and `<out>_NAME.jsonl` for another, and their sidecars."""
    cfg, args, state = job.cfg, job.args, job.state
    facts = job.facts | ({"perturbation": view.facts} if view.facts else {})
    outs = [out if name is None else out.with_stem(f"{out.stem}_{name}") for name in view.names]
    streams = Streams([PredictionStream(path, facts, state.process_index) for path in outs], view, args.overwrite)
    if state.is_main_process:
        for number, path in enumerate(outs):
            if number not in streams.open:
                print(f"{near(path)} is there already, made from just this; --overwrite makes it anew")
        if view.left_out:
            print(f"{view.facts['name']}: {view.left_out}")
    if not streams.open:
        return
    with state.main_process_first():  # one process checks images and repairs the stream, the others read
        cascade, rows = cfg.predict.cascade, view.rows
        rows = with_longest_answers(rows, cfg.predict.decoding, job.max_new_tokens) if cascade else rows
        dataset = load_dataset(rows, job.processor, cfg, job.model_config, supervised=False, shown=view.shown)
        if not cascade:  # which splits each stage
            split_long_trees(dataset, cfg.predict.tokens_per_row)
        if state.is_main_process:
            say_what_is_thinned(view.rows, cfg)
            streams.start(args.overwrite)
            if known := calibrated_on(view.rows, cfg, job.fitted):
                of_all = f"{known:,} of these {len(view.rows):,} rows"
                print(f"note: {of_all} are about images that calibrated the answer sets, which proves nothing")
    with streams.interruption_explained(len(view.rows), command_line()), errors_explained(LOWER, out.parent):
        predict(job.model, dataset, cfg, job.max_new_tokens, streams, state, job.fitted, view)
    if state.is_main_process:
        for number in streams.open:
            save(job, view, number, streams.streams[number], facts)


def save(job, view, number, stream, facts):
    """Put one file of a view in its place, its sidecar beside it, and say so."""
    ids, out = view.ids(number), stream.out
    sidecar = sidecar_facts(job.cfg, job.args, ids, len(job.all_rows), job.adapter, job.space, job.max_new_tokens, facts)
    sidecar |= {"perturbation": view.facts} if view.facts else {}
    sidecar |= {"calibrated_on": calibrated_on(view.rows, job.cfg, job.fitted)} if job.cfg.predict.coverage else {}
    vouch = lambda: save_run_info(out.with_suffix(".meta.json"), job.cfg, job.model.device, **sidecar, predictions_sha256=sha256(out))
    stream.finish(ids, vouch)
    print(describe([row for _, row in read_jsonl(out)], job.max_new_tokens))
    print(f"wrote {len(ids):,} predictions to {near(out)}")


def predict(model, dataset, cfg, max_new_tokens, stream, state, fitted=None, view=None):
    """Answer all batches that `stream` lacks, shared by the processes of `state`, each appended to the stream as it finishes.

    view: what the rows of the dataset stand for, where they aren't the split's own.
    """
    batches, finished = image_batches(dataset, cfg), set(stream.finished())
    ids_of = lambda batch: [row["id"] for index in batch for row in dataset.groups[index]]
    missing = [batch for batch in batches if not finished >= set(ids_of(batch))]
    state.wait_for_everyone()  # nobody may write before all have seen what is there
    if len(missing) < len(batches) and state.is_main_process:
        print(f"continuing: {len(batches) - len(missing)} of {len(batches)} batches are there already")
    mine = missing[state.process_index :: state.num_processes]
    total = sum(len(ids_of(batch)) for batch in mine)
    own = view.own if view else lambda row, answer: (row, answer, {})
    names = " ".join(filter(None, view.names)) if view else ""
    with tqdm(total=total, desc=f"predicting {names}".strip(), unit="row", disable=None if state.is_main_process else True) as progress:
        how = {"answer": answer_in_stages} if cfg.predict.cascade else {}
        for answers in answer_questions(model, dataset, cfg, cfg.predict.decoding, max_new_tokens, mine, **how):
            asked = [own(row, answer) for row, answer in answers]
            values = lambda row, answer: prediction_row(row, answer, cfg.predict.min_confidence, cfg.predict, fitted)
            stream.append([values(row, answer) | more for row, answer, more in asked])
            progress.update(len(answers))
    state.wait_for_everyone()


def run_facts(cfg, args, adapter, space, max_new_tokens, model_config):
    """All that decides predictions, for PredictionStream: only runs with the same are continued.

    That includes the device: see `device_name`.
    """
    weights = hash_of(model_hashes(cfg.model_name, cfg.output_dir / "data" / CACHE))
    return {
        **facts_of_files(cfg, args.split, adapter),
        "model files": getattr(model_config, "_commit_hash", None) or weights,  # of the hub, or a folder's
        "answer space": answer_space.fingerprint(space),
        "arguments": {"--split": args.split, "--limit": args.limit, "max_new_tokens": max_new_tokens},
        "packages": environment_facts(cfg)["versions"],
        "device": device_name(),
    }


def processes():
    """The processes that share a prediction, as accelerate's PartialState: one, unless a launcher started more."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def sidecar_facts(cfg, args, ids, rows_in_split, adapter, space, max_new_tokens, made_from):
    """What the predictions' .meta.json says of them: the ids that were asked for, of what, how they were answered, and from what
    they were made (`run_facts`)."""
    source = cfg.split_path(args.split)
    facts = {"split": args.split, "limit": args.limit}
    facts |= {"source": str(source), "source_sha256": sha256(source)}
    facts |= {"rows_in_split": rows_in_split, "ids": ids, "adapter": str(adapter or "none")}
    facts |= {"trained_on": adapter_facts(adapter).get("trained_on")} if adapter else {}
    facts |= {"decoding": cfg.predict.decoding, "max_new_tokens": max_new_tokens, "command": sys.argv}
    facts |= {**machine_facts(cfg), **base_facts(cfg.model_name, cfg.output_dir / "data" / CACHE)}
    return facts | {"conventions": answer_space.conventions(space), "made_from": made_from}


def describe(rows, limit):
    """Closing line: how many rows were constrained, the types of the others, and the free answers that the limit cut."""
    free = Counter(row["qtype"] for row in rows if row["decoding"] == "free")
    line = f"{len(rows) - free.total():,} of {len(rows):,} rows constrained"
    if free:
        line += "; free: " + ", ".join(f"{name} {free[name]:,}" for name in ordered_types(free))
    cut = sum(row.get("cut", False) for row in rows)
    return line + f"; {cut:,} answers cut at predict.max_new_tokens={limit}" * bool(cut)
