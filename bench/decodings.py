"""The decodings on a trained model: right answers, how often they say what exact scoring of everything says, and seconds.

    python bench/decodings.py --config config_demo.yaml --split test            after train_exp1.py; a few minutes

"all sets" scores every label list, also of large vocabularies: the reference for beams. "greedy by generate" is transformers' generate with
prefix_allowed_tokens_fn, one left-padded row a question. The decodings take turns.
"""

import sys
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import SPLITS, argument_parser, load_config
from data.matching import judge
from data.preprocess import ensure_enriched
from dataset import load_dataset
from files import run_script
from model.load import load_model
from prediction.decode import answer_by_generate, answer_questions, image_batches
from prediction.run import prediction_row
from prediction.setup import adapter_folder, space_of

DECODINGS = {
    "all sets": ("exact", {"exact_sets": 1_000_000}),
    "exact, beams=4": ("exact", {"beams": 4}),
    "exact, beams=2": ("exact", {"beams": 2}),
    "exact, beams=1": ("exact", {"beams": 1}),
    "greedy": ("greedy", {}),
    "greedy by generate": ("generate", {}),
}


def answer(model, dataset, cfg, decoding):
    """[row, Answer] of all questions."""
    if decoding != "generate":
        return list(chain.from_iterable(answer_questions(model, dataset, cfg, decoding, 4)))
    batches = [[dataset[index] for index in batch] for batch in image_batches(dataset, cfg)]
    answers = [answer for items in batches for answer in answer_by_generate(model, dataset, items, cfg, "greedy", 4)]
    return list(zip(chain.from_iterable(dataset.groups), answers))


def main():
    parser = argument_parser("The decodings on a trained model.", epilog=__doc__)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--adapter", default=None, help="as for predict_exp1.py")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    adapter = adapter_folder(cfg, args.adapter)
    model, processor = load_model(cfg, adapter)
    rows = ensure_enriched(cfg, args.split, space_of(cfg, adapter))
    dataset = load_dataset(rows, processor, cfg, model.config, supervised=False)
    seconds, found = defaultdict(list), {}
    for _ in range(args.rounds):
        for name, (decoding, changes) in DECODINGS.items():
            changed = cfg.model_copy(update={"predict": cfg.predict.model_copy(update=changes)})
            start = time.perf_counter()
            found[name] = answer(model, dataset, changed, decoding)
            seconds[name].append(time.perf_counter() - start)
    reference = [answer.text for _, answer in found["all sets"]]
    print(f"{len(rows)} questions, {sum(row['multi_label'] for row in rows)} of them answered with lists\n")
    print("| decoding | right | lists right | as all sets | ms / question | times exact, beams=4 |\n|---|---|---|---|---|---|")
    for name, answers in found.items():
        judged = judge([prediction_row(row, answer) for row, answer in answers])
        right = [row["correct"] for row in judged]
        lists = [correct for correct, row in zip(right, rows) if row["multi_label"]]
        same = sum(answer.text == text for (_, answer), text in zip(answers, reference))
        ratio = median(own / other for own, other in zip(seconds[name], seconds["exact, beams=4"]))
        print(f"| {name} | {sum(right)} | {sum(lists)} | {same} | {1000 * median(seconds[name]) / len(rows):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    run_script(main)
