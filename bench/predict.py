"""Prediction of many questions per image: this project and its peers on the same model and rows, in one process.

    python bench/predict.py --processor QWEN2_VL_FOLDER --rows KVASIR_VQA.jsonl                  the 115 M shape
    python bench/predict.py --processor … --rows … --size 2b --rounds 1 --candidates 10      the shape of Qwen2-VL-2B, bf16

The model has random weights; the processor is Qwen2-VL's (a folder without weights will do), and so are questions, candidates
and label sets real: mined from the rows of Kvasir-VQA given by --rows (question, answer, image). Images are noise of 448 x 448
pixels, 256 image tokens. Every third image is asked all three location questions, as in Kvasir-VQA. The methods take turns.

    exact, beams=N   this project: closed answers exactly, label lists exactly up to 64 lists, larger ones by N beams
    greedy           this project: the same constraints step by step, against the shared prefix
    generate         transformers' generate, one left-padded row a question, greedy through prefix_allowed_tokens_fn
    allowed_set      the same with the unordered AllowedTokensLogitsProcessor, questions with the same candidates together
    separate         each candidate scored by a plain row of its own, against exact on the questions whose candidates are all
                     scored; --candidates N scores only N and extrapolates

Prints seconds per question, by the clock and of the processor (which others on the machine disturb less), tokens that entered
the language model and peak memory above the weights, and how answers agree. --end-bias changes the end token's logit: greedy
lists are as long as real ones at 0, the likeliest lists shorter (a random model's longer answers are less likely).
"""

import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from data import answer_space
from dataset import VQADataset, encode_candidates, group_by_image
from files import UserError, read_jsonl, run_script
from model.forward import compute_only_what_is_read
from model.load import load_processor
from prediction.decode import answer_by_generate, answer_questions, answer_text, image_batches, make_plan

SHAPES = {
    "115m": {
        "hidden": 512,
        "inner": 2048,
        "heads": 8,
        "layers": 8,
        "tower": 256,
        "tower_heads": 4,
        "tower_layers": 6,
        "dtype": torch.float32,
    },
    "2b": {
        "hidden": 1536,
        "inner": 8960,
        "heads": 12,
        "layers": 28,
        "tower": 1280,
        "tower_heads": 16,
        "tower_layers": 32,
        "dtype": torch.bfloat16,
    },
}
SIDE, TIE = 448, 1e-4
EXACT = "exact, beams=4"
EOS, PAD = 151645, 151643


# ---------------------------------------------------------------------------------------------------------------------
# Model and rows


def build_model(shape, end_bias=0.0):
    """A Qwen2-VL of this shape with random weights, drawn wider than usual so that its choices are no ties."""
    half = shape["hidden"] // shape["heads"] // 2
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8], "rope_theta": 1e6}
    text = {"hidden_size": shape["hidden"], "intermediate_size": shape["inner"], "num_attention_heads": shape["heads"]}
    text |= {"num_hidden_layers": shape["layers"], "num_key_value_heads": 2, "vocab_size": 151936, "rope_parameters": rope}
    text |= {"bos_token_id": None, "eos_token_id": EOS, "pad_token_id": PAD, "max_position_embeddings": 32768}
    vision = {
        "depth": shape["tower_layers"],
        "embed_dim": shape["tower"],
        "hidden_size": shape["hidden"],
        "num_heads": shape["tower_heads"],
    }
    ids = {"image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652, "vision_end_token_id": 151653}
    torch.manual_seed(0)
    torch.set_default_dtype(shape["dtype"])
    try:
        config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, initializer_range=0.04, **ids)
        model = Qwen2VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(151936))
        model.lm_head.bias.data[EOS] = end_bias
        return compute_only_what_is_read(model.eval().requires_grad_(False))
    finally:
        torch.set_default_dtype(torch.float32)


def choose_rows(path, images, questions):
    """Enriched rows with the spaces mined from all rows of a file: `questions` of each image, of each third image all locations."""
    rows = [{**row, "image": row.get("image") or row["image_filename"], "id": str(line)} for line, row in read_jsonl(path)]
    space, rng = answer_space.mine(rows), random.Random(0)
    places = lambda group: [row for row in group if row["question"].startswith("Where")]
    groups = [list({row["question"]: row for row in group}.values()) for group in group_by_image(rows)]
    rng.shuffle(groups)
    chosen = []
    for number in range(images):
        fitting = [group for group in groups if len(group) >= max(questions, 8) and (len(places(group)) == 3) == (number % 3 == 0)]
        if not fitting:
            raise UserError(f"--questions {questions}: too few images have as many different questions in {path}")
        group = fitting[0]
        groups.remove(group)
        located = places(group) if number % 3 == 0 else []
        others = [row for row in group if row not in located]
        some = (located + rng.sample(others, len(others)))[:questions]
        chosen += [{**answer_space.apply(space, row), "image": f"{number}.png"} for row in some]
    return chosen


def make_dataset(rows, processor, cfg, folder, model_config):
    rng = np.random.default_rng(0)
    names = dict.fromkeys(row["image"] for row in rows)
    Path(folder).mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(Path(folder) / name)
    cfg = cfg.model_copy(update={"data": cfg.data.model_copy(update={"image_root": Path(folder)})})
    return VQADataset(rows, processor, cfg, dict.fromkeys(names, (SIDE, SIDE)), model_config, supervised=False), cfg


# ---------------------------------------------------------------------------------------------------------------------
# Methods: (model, dataset, cfg) -> answers in the order of the rows


def ours(beams, decoding="exact"):
    def run(model, dataset, cfg):
        cfg = cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"beams": beams})})
        return [answer.text for _, answer in chain.from_iterable(answer_questions(model, dataset, cfg, decoding, 4))]

    return run


def hf_generate(model, dataset, cfg):
    """Batches of the same images, one row a question."""
    batches = [[dataset[index] for index in batch] for batch in image_batches(dataset, cfg)]
    return [answer.text for items in batches for answer in answer_by_generate(model, dataset, items, cfg, "greedy", 4)]


@torch.no_grad()
def score_separately(model, dataset, cfg, most=None):
    """[{candidate: logprob} or None where lists go by beams], seconds per candidate, and the number that exact scoring scores.

    A question's candidates are the rows of a batch, at most 8 of them; each row holds the whole prompt. most: how many to score
    in all, two of each question.
    """
    tokenizer, results, seconds, scored, total = dataset.processor.tokenizer, [], 0.0, 0, 0
    for item in (dataset[index] for index in range(len(dataset))):
        batch, tree = dataset.collate([item]), item["tree"]
        for row, leaf in zip(item["rows"], item["leaves"], strict=True):
            plan, prompt = make_plan(tokenizer, row, cfg, "exact"), [tree.input_ids[node] for node in tree.path(leaf)]
            exact = plan.decoding == "exact"
            total += exact and (plan.grammar.size() if row["multi_label"] else len(row["answer_candidates"]))
            if not exact or (most is not None and scored >= most):
                results.append(None)
                continue
            texts = [answer_text(tokenizer, ids) for ids in all_lists(plan.grammar)] if row["multi_label"] else row["answer_candidates"]
            texts = texts[: None if most is None else 2]
            start, values = time.perf_counter(), []
            for at in range(0, len(texts), 8):
                values += plain_scores(model, batch, prompt, encode_candidates(tokenizer, texts[at : at + 8]))
            seconds, scored = seconds + time.perf_counter() - start, scored + len(texts)
            results.append(dict(zip(texts, values)))
    return results, seconds / scored, total


def plain_scores(model, batch, prompt, answers):
    """Summed log-probabilities of answers (lists of ids) after a prompt, a right-padded row each."""
    longest = max(map(len, answers))
    input_ids = torch.tensor([prompt + ids + [PAD] * (longest - len(ids)) for ids in answers])
    mask = torch.tensor([[1] * (len(prompt) + len(ids)) + [0] * (longest - len(ids)) for ids in answers])
    many = len(answers)
    logits = model(
        input_ids=input_ids,
        attention_mask=mask,
        mm_token_type_ids=(input_ids == model.config.image_token_id).int(),
        pixel_values=batch["pixel_values"].repeat(many, 1),
        image_grid_thw=batch["image_grid_thw"].repeat(many, 1),
        logits_to_keep=longest + 1,
    ).logits[:, :-1]
    return [row.float().log_softmax(-1)[range(len(ids)), ids].sum().item() for row, ids in zip(logits, answers)]


def all_lists(node, said=()):
    if not node.allowed():
        yield list(said)
    for token in node.allowed():
        yield from all_lists(node.children[token], (*said, token))


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


class Probe:
    """Seconds by the clock and of the processor, tokens that enter the language model, and peak memory above what was there before."""

    def __init__(self, model):
        self.tokens = 0
        model.model.language_model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs):
        self.tokens += kwargs["inputs_embeds"].shape[:2].numel()

    def run(self, method, *arguments):
        gc.collect()
        before, self.tokens, done, peak = resident(), 0, threading.Event(), [0.0]

        def watch():
            while not done.wait(0.01):
                peak[0] = max(peak[0], resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        start, busy = time.perf_counter(), time.process_time()
        try:
            result = method(*arguments)
        finally:
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
            done.set()
            watcher.join()
        return result, {"seconds": seconds, "busy": busy, "tokens": self.tokens, "gigabytes": max(0.0, peak[0] - before)}


def resident():
    """Gigabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e9


def compare(model, dataset, cfg, methods, rounds, probe):
    """{method: {seconds, tokens, gigabytes, answers}}; the first round warms up where there are several."""
    found = {name: defaultdict(list) for name in methods}
    for number in range(rounds + (rounds > 1)):
        for name, method in methods.items():
            answers, facts = probe.run(method, model, dataset, cfg)
            if number or rounds == 1:
                for key, value in facts.items():
                    found[name][key].append(value)
            found[name]["answers"] = answers
    return found


def line(name, values, questions, reference):
    """A row of the table: the ratios are those of each round."""
    cells = [name, f"{median(values['seconds']) / questions:.3f}"]
    for kind in ("seconds", "busy"):
        ratios = sorted(other / own for other, own in zip(reference[kind], values[kind]))
        cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    cells += [f"{values['tokens'][-1] / questions:.0f}", f"{max(values['gigabytes']):.2f}"]
    return f"| {' | '.join(cells)} |"


def lengths(tokenizer, rows, answers):
    """Mean tokens of answers to label-list questions, and of the rows' real ones."""
    mean = lambda texts: sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts) / max(len(texts), 1)
    lists = [index for index, row in enumerate(rows) if row["multi_label"]]
    return mean([answers[index] for index in lists]), mean([rows[index]["answer"] for index in lists])


def agreement(model, dataset, cfg, rows, found, separate):
    """Facts on how the answers agree: exact with separate scoring, and beams with all lists scored at once."""
    facts, ties, same, compared = {}, [], 0, 0
    texts = found[EXACT]["answers"]
    for row, text, scores in zip(rows, texts, separate or [None] * len(rows), strict=True):
        if scores is not None:
            compared += 1
            gap = max(scores.values()) - scores[text]
            same += gap == 0
            if 0 < gap <= TIE:
                ties.append([row["id"], gap])
    facts["exact = separate scoring"] = f"{same} of {compared}, ties within {TIE}: {ties}" if separate else "not compared"
    lists = [index for index, row in enumerate(rows) if make_plan(dataset.processor.tokenizer, row, cfg, "exact").decoding == "beam"]
    every = ours(1)(model, dataset, cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"exact_sets": 100_000})}))
    for name in found:
        agree = sum(found[name]["answers"][index] == every[index] for index in lists)
        facts[f"large label sets, {name} = the likeliest of all"] = f"{agree} of {len(lists)}"
    closed = [index for index, row in enumerate(rows) if index not in lists]
    agree = sum(found["generate"]["answers"][index] == texts[index] for index in closed)
    facts["closed and small sets, greedy generate = exact"] = f"{agree} of {len(closed)}"
    return facts


def main():
    parser = argument_parser("Prediction of many questions per image against its peers.", epilog=__doc__)
    parser.add_argument("--processor", required=True, metavar="PATH", help="Qwen2-VL's folder or hub id")
    parser.add_argument("--rows", required=True, metavar="JSONL", help="Kvasir-VQA rows: question, answer, image")
    parser.add_argument("--size", default="115m", choices=SHAPES)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument(
        "--questions", type=int, nargs="*", default=[9], help="per image; the first is compared in full, the others for speed"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, metavar="N", help="score only N candidates separately, or none (0)")
    parser.add_argument("--methods", nargs="*", help="only these, exact and generate among them")
    parser.add_argument("--end-bias", type=float, default=0.0)
    args = parser.parse_intermixed_args()
    cfg = load_config(
        args.config, [f"model_name={args.processor}", "train.num_workers=0", f"predict.batch_size={args.images}", *args.overrides]
    )
    processor, model = load_processor(cfg), build_model(SHAPES[args.size], args.end_bias)
    probe = Probe(model)
    methods = {
        EXACT: ours(4),
        "exact, beams=1": ours(1),
        "greedy": ours(1, "greedy"),
        "generate": hf_generate,
        "allowed_set": ours(1, "allowed_set"),
    }
    methods = {name: method for name, method in methods.items() if not args.methods or name in args.methods}
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"{args.size}: {millions:.0f} M parameters, {args.images} images a batch, {torch.get_num_threads()} threads")
    for number, questions in enumerate(args.questions):
        rows = choose_rows(args.rows, args.images, questions)
        with tempfile.TemporaryDirectory() as folder:
            dataset, own = make_dataset(rows, processor, cfg, folder, model.config)
            some = methods if number == 0 else {name: methods[name] for name in methods if name != "allowed_set"}
            found = compare(model, dataset, own, some, args.rounds, probe)
            print(f"\n{len(rows) / args.images:.0f} questions an image\n")
            print("| | s/question | generate takes … times its time | the same in processor time | tokens/question | peak GB |")
            print("|---|---|---|---|---|---|")
            for name in some:
                print(line(name, found[name], len(rows), found["generate"]), flush=True)
            if number == 0:
                separate = None
                if args.candidates != 0:
                    (separate, each, total), facts = probe.run(score_separately, model, dataset, own, args.candidates)
                    closed = [row for row in rows if make_plan(processor.tokenizer, row, own, "exact").decoding == "exact"]
                    subset, subset_cfg = make_dataset(closed, processor, cfg, Path(folder) / "closed", model.config)
                    alone = compare(model, subset, subset_cfg, {EXACT: methods[EXACT]}, args.rounds, probe)[EXACT]
                    seconds = median(alone["seconds"])
                    exact, separately = seconds / len(closed), each * total / len(closed)
                    print(f"\n{len(closed)} of the questions have all candidates scored, {total} in all: exact {exact:.3f} s a question;")
                    print(f"separately {each:.2f} s a candidate, {separately:.2f} s a question, {each * total / seconds:.0f} times; peak")
                    print(f"{facts['gigabytes']:.2f} GB")
                said, real = lengths(processor.tokenizer, rows, found["generate"]["answers"])
                print(f"\ntokens of label lists with their end: {said:.1f}, the real ones {real:.1f}")
                print(
                    json.dumps(
                        agreement(model, dataset, own, rows, found, separate if args.candidates is None else None),
                        indent=1,
                        ensure_ascii=False,
                    )
                )


if __name__ == "__main__":
    run_script(main)
