"""The ladder: what is each idea of this project worth, one added after the other?

    python bench/ablation.py config_demo.yaml                     the demo: 24 trainings, two hours on two shared cores
    python bench/ablation.py my.yaml --split val --seeds 1        your rows; three seeds and the test split are the default
    python bench/ablation.py my.yaml train.epochs=2               overrides hold for all rungs
    python bench/ablation.py my.yaml --dry-run                    what would run, and what is there already

Each rung answers the same questions and is compared with the one before it, row by row, 95 % intervals by image (or patient), p adjusted
by Holm over the steps. Rungs of one training differ in decoding or in scoring alone; between trainings intervals are also over seeds.
Before tolerance, a number is right if it is equal. All trainings see the same questions and make the same steps with the same seeds. The
ideas that a rung lacks are taken out by bench/without.py. Killed and started again, it goes on where it was. Writes output_dir/ablation/:
ladder_test.json, .md and .png, a run for each training below.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from matplotlib.figure import Figure

from config import SPLITS, Config, EvalConfig, environment_facts, flat, load_config, near
from data import answer_space
from data.corrections import corrections_for
from data.matching import judge, normalize_answer, references
from data.preprocess import training_space
from data.reword import added
from data.rows import group_by_image, read_rows
from evaluation import truth
from evaluation.compare import ALPHA, compare, short_p
from evaluation.figures import BLUE, GREY
from evaluation.intervals import accuracy_interval, cluster_sums, holm
from evaluation.predictions import load_predictions
from evaluation.runs import answer_as_the_prior, score_leniently
from files import UserError, heed_signals, read_json, run_child, run_script, sha256, write_json, write_jsonl, write_text
from prediction.streaming import listed
from tools.sweep import Run, failure, list_runs, make_all, other_predictions

LIMIT = "predict.max_new_tokens="
TO_THE_END = f"{LIMIT}64"  # an untuned model talks, and is let finish
AS_TRAINED = f"{LIMIT}auto"  # others as long as the longest training answer: what a limit cuts would count for the constraint
PRIOR = "prior"
BY_RULES, UNLISTED, ALONE = "data.answer_space=rules", "data.max_listed=0", "train.questions_per_image=1"
WORDINGS = "data.train_jsonl=<rows in two wordings>"
NEEDED = {"predict.cascade": False, "train.order": "random", "train.questions_per_image": "all", "data.answer_space": "mined"}
NEEDED |= {"prompt_style": "plain"}
EXACT_NUMBERS = EvalConfig(numeric_rel_tol=0.0, numeric_abs_tol=0.0, count_abs_tol=0)


class Training(NamedTuple):
    """A model of the ladder. lacks: ideas that are taken out (bench/without.py). settings: overrides."""

    lacks: tuple = ()
    settings: tuple = ()


TRAININGS = {
    "whole_sequence": Training(("question_type", "label_mask"), (BY_RULES, UNLISTED, ALONE)),
    "answer_only": Training(("question_type",), (BY_RULES, UNLISTED, ALONE)),
    "one_row": Training(("question_type",), (BY_RULES, UNLISTED)),
    "question_type": Training((), (BY_RULES, UNLISTED)),
    "valid_answers": Training((), (BY_RULES,)),
    "mined": Training(("label_sets",)),
    "label_sets": Training(),
    "wordings": Training((), (WORDINGS,)),
}


class Rung(NamedTuple):
    """training: of TRAININGS; None for the untuned model, PRIOR for none at all. settings: of its prediction. scoring: see `judged`."""

    name: str
    training: str | None
    settings: tuple = ()
    scoring: str = "strict"


FREE, CHAT = "predict.decoding=free", "prompt_style=chat"
RUNGS = [
    Rung("blind prior, no model", PRIOR),
    Rung("untuned, free, truth found as a substring", None, (FREE, TO_THE_END), "substring"),
    Rung("untuned, free, exact", None, (FREE, TO_THE_END)),
    Rung("untuned, free, said in a sentence", None, (FREE, TO_THE_END), "lenient"),
    Rung("untuned, chat template, said in a sentence", None, (FREE, TO_THE_END, CHAT), "lenient"),
    Rung("untuned, one of the valid answers", None, ("predict.decoding=exact",)),
    Rung("LoRA, loss on the whole sequence", "whole_sequence", (FREE,)),
    Rung("+ loss on the answer only", "answer_only", (FREE,)),
    Rung("+ an image's questions in one row", "one_row", (FREE,)),
    Rung("+ question type in the prompt", "question_type", (FREE,)),
    Rung("+ valid answers in the prompt", "valid_answers", (FREE,)),
    Rung("+ allowed tokens", "valid_answers", ("predict.decoding=allowed_set",)),
    Rung("+ exact choice", "valid_answers", ("predict.decoding=exact",)),
    Rung("+ mined answer spaces", "mined", ("predict.decoding=exact",)),
    Rung("+ label sets", "label_sets", ("predict.decoding=exact",)),
    Rung("+ tolerance", "label_sets", ("predict.decoding=exact",), "tolerant"),
    Rung("+ a second wording of each question", "wordings", ("predict.decoding=exact",), "tolerant"),
]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="for all rungs")
    parser.add_argument("--split", default="test", choices=SPLITS[1:], help="whose questions (default test)")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings of each: train.seed and the N - 1 after it (default 3)"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and stop")
    parser.add_argument("--overwrite", action="store_true", help="make anew what was made with other settings, files or code")
    args = parser.parse_intermixed_args()
    return args if args.seeds > 0 else parser.error("--seeds must be at least 1")


def refuse_other_rungs(base):
    """Raise UserError for a configuration with which a rung would lack its idea, or have one that is no rung."""
    values = flat(base.model_dump(mode="json"))
    for key, wanted in NEEDED.items():
        if values[key] != wanted:
            own = f"{key}={str(values[key]).lower()}"
            raise UserError(f"the ladder's rungs would not be what they are called with {own}; set {key}={str(wanted).lower()}")
    if not base.data.max_listed:
        raise UserError("the ladder's rungs would not be what they are called with data.max_listed=0; set data.max_listed=20")


def plan(args):
    """(base configuration, the ladder's folder, [sweep.Run], training by training, seed by seed)."""
    base = load_config(args.config, args.overrides)
    for split in {"train", "val", args.split}:
        base.split_path(split)
    refuse_other_rungs(base)
    folder = base.output_dir / "ablation"
    train = base.split_path("train")
    rows = list(read_rows(train, corrections=corrections_for(base.data, train)))
    more = list(added(rows, 1))
    write_jsonl(folder / "train_wordings.jsonl", more)
    sizes = {ALONE: len(rows) / len(group_by_image(rows)), WORDINGS: len(rows) / len(more)}
    runs = []
    for name, training in TRAININGS.items():
        own = [text if text != WORDINGS else f"data.train_jsonl={folder / 'train_wordings.jsonl'}" for text in training.settings]
        for key in sizes.keys() & set(training.settings):  # as many questions a step and in all as the other trainings
            own += batches(base.train, sizes[key])
            own += [f"train.epochs={base.train.epochs * sizes[key]}"] if key == WORDINGS else []
        through = (str(ROOT / "bench" / "without.py"), ",".join(training.lacks)) if training.lacks else ()
        for seed in range(base.train.seed, base.train.seed + args.seeds):
            settings = [*args.overrides, *own, f"train.seed={seed}", f"output_dir={folder / name / f'seed_{seed}'}"]
            cfg = load_config(args.config, settings)
            runs.append(Run(f"{name}/seed_{seed}", (), seed, None, cfg, cfg, None, through))
    return base, folder, runs


def batches(train, factor):
    """Overrides for `factor` times as many groups of questions a step, in micro-batches no larger than the configuration's."""
    accumulated = round(train.grad_accum * factor)
    if accumulated >= 1:
        return [f"train.grad_accum={accumulated}"]
    return [f"train.train_bs={max(1, round(train.train_bs * train.grad_accum * factor))}", "train.grad_accum=1"]


def refuse_other_rungs_made(folder):
    """Raise UserError where what lies in the folder was made of other rungs; else write down what these are."""
    record, now = folder / "rungs.json", {"rungs": repr((TRAININGS, RUNGS)), "without": sha256(ROOT / "bench" / "without.py")}
    if record.is_file() and read_json(record) != now:
        raise UserError(
            f"{near(folder)} was made of other rungs (bench/ablation.py or without.py has changed); delete it, or set another output_dir"
        )
    write_json(record, now)


class Answers(NamedTuple):
    """Predictions of a rung with one seed. adapter: folder, None for the untuned model."""

    rung: Rung
    split: str
    cfg: Config
    adapter: Path | None
    through: tuple = ()

    @property
    def path(self):
        own = [text.split("=")[1] for text in self.rung.settings if not text.startswith(LIMIT)]
        return self.cfg.output_dir / f"{'_'.join(['predictions', self.split, *own])}.jsonl"


def answers_of(rung, args, base, folder, runs):
    """[Answers] of a rung: one for each seed, a single one of the untuned model, none where there is no model."""
    if rung.training == PRIOR:
        return []
    settings = [*args.overrides, AS_TRAINED, *rung.settings]
    if rung.training is None:
        return [Answers(rung, args.split, load_config(args.config, [*settings, f"output_dir={folder / 'untuned'}"]), None)]
    own = [run for run in runs if run.name.startswith(f"{rung.training}/")]
    configs = [load_config(args.config, [*run.trained.overrides, AS_TRAINED, *rung.settings]) for run in own]
    return [Answers(rung, args.split, cfg, cfg.output_dir / "adapter", run.through) for run, cfg in zip(own, configs)]


def answer(one, overwrite=False):
    """Make predictions that aren't there, or others with `overwrite`. Raises UserError where others are there, or the script fails."""
    others = other_predictions(one.cfg, one.split, one.adapter, one.path)
    if others == []:
        return
    if others and not overwrite:
        raise UserError(f"{near(one.path)} was made with other {listed(others)}; put that back, or add --overwrite to make it anew")
    print(f"answering: {near(one.path)}", flush=True)
    script, log = "predict_exp1.py", one.cfg.output_dir / "predict.log"
    flags = [
        "--split",
        one.split,
        "--out",
        str(one.path),
        *(["--adapter", "none"] if one.adapter is None else []),
        *["--overwrite"] * overwrite,
    ]
    command = [sys.executable, *one.through, str(ROOT / script), "--config", str(one.cfg.config_path), *one.cfg.overrides, *flags]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as output:
        code = run_child(command, stdout=output, stderr=output)
    if code:
        raise UserError(failure(script, code, log))


class Judge:
    """Verdicts on predictions by the data's truth, types and spellings, those of the configuration's own answer space for all rungs."""

    def __init__(self, base, split):
        self.base, self.source = base, base.split_path(split)
        self.space = training_space(base, say=lambda line: None)
        self.conventions = answer_space.conventions(self.space)

    def rows(self, path):
        """The answers of a predictions file, with all that the data know of their questions."""
        said = [{key: row[key] for key in ("id", "pred")} for row in load_predictions(path)]
        rows, _ = truth.with_data(
            said, path, self.source, self.space, corrections=corrections_for(self.base.data, self.source), settings=self.base.data
        )
        return truth.with_clusters(truth.without_junk(rows)[0], path)

    def judged(self, path, scoring):
        """Judged rows. scoring: strict, numbers equal; tolerant, as configured; lenient: or said in a sentence; substring: the truth is
        found in what was said, as scoring was before."""
        rows = self.rows(path)
        if scoring == "substring":
            within = lambda row: any(normalize_answer(text) in normalize_answer(row["pred"] or "") for text in references(row))
            return [{**row, "correct": within(row)} for row in rows]
        rows = judge(rows, self.base.eval if scoring == "tolerant" else EXACT_NUMBERS, self.conventions)
        if scoring == "lenient":
            score_leniently(rows, self.space)
            return [{**row, "correct": row["lenient"]} for row in rows]
        return rows

    def prior(self, path):
        """The blind prior's judged rows, for the questions of a predictions file."""
        cfg = self.base.model_copy(update={"eval": EXACT_NUMBERS})
        return answer_as_the_prior(cfg, self.rows(path), "predicted", self.conventions)[0]


def as_one(runs):
    """Judged rows of several seeds as those of one run, `correct` being the share of seeds that have a row right."""
    right = np.mean([[row["correct"] for row in run] for run in runs], axis=0)
    return [{**row, "correct": float(share)} for row, share in zip(runs[0], right)]


def climb(rungs):
    """[{name, accuracy, interval, seeds, types, step}] of (Rung, [judged rows of each seed]); step: `compare` with the rung before it."""
    found, before, trained = [], None, None
    for rung, runs in rungs:
        same = before and rung.training == trained  # the same adapters: how these differ by seed is no part of the step
        comparison = compare([as_one(before)], [as_one(runs)]) if same else compare(before or runs, runs)
        overall = comparison["overall"]
        share, clusters = [row["correct"] for row in as_one(runs)], [row["cluster"] for row in runs[0]]
        item = {"name": rung.name, "accuracy": overall["b"], "per_seed": [float(np.mean([row["correct"] for row in run])) for run in runs]}
        item["interval"] = accuracy_interval(cluster_sums(clusters, np.ones(len(share)), share))[:2]
        item["types"] = {name: one["b"] for name, one in comparison["per_type"].items()}
        item["step"] = {key: overall[key] for key in ("difference", "interval", "p", "count", "clusters")} if before else None
        found.append(item)
        before, trained = runs, rung.training
    steps = [item["step"] for item in found[1:]]
    for step, adjusted in zip(steps, holm([step["p"] for step in steps])):
        step["p_holm"] = adjusted
    return found


def table(found):
    """The ladder as Markdown: one table of steps, one of types."""
    lines = ["| rung | right | by seed | this step | 95 % interval | p (Holm) |", "|---|---|---|---|---|---|"]
    for item in found:
        seeds = ", ".join(f"{100 * value:.2f}" for value in item["per_seed"]) if len(item["per_seed"]) > 1 else ""
        step = item["step"]
        cells = ["", "", ""]
        if step:
            ends = "{:+.2f} to {:+.2f}".format(*(100 * end for end in step["interval"][:2]))
            cells = [f"{100 * step['difference']:+.2f}", ends, short_p(step["p_holm"])]
        lines.append(f"| {item['name']} | {item['accuracy']:.2%} | {seeds} | {' | '.join(cells)} |")
    types = list(found[0]["types"])
    lines += ["", f"| rung | {' | '.join(types)} |", "|---" * (len(types) + 1) + "|"]
    for item in found:
        shares = [f"{item['types'][name]:.2%}" for name in types]
        lines.append(f"| {item['name']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def draw(found, path):
    """The ladder as bars, with whiskers of 95 %; blue where a step can be told from none."""
    figure = Figure(figsize=(7.5, 0.32 * len(found) + 1), dpi=150, layout="constrained")
    axes = figure.subplots()
    places, shares = range(len(found)), [100 * item["accuracy"] for item in found]
    whiskers = [
        [max(0, side * (100 * item["interval"][end] - share)) for item, share in zip(found, shares)] for end, side in ((0, -1), (1, 1))
    ]
    sure = [not item["step"] or item["step"]["p_holm"] <= ALPHA for item in found]
    axes.barh(places, shares, xerr=whiskers, color=[BLUE if told else GREY for told in sure], error_kw={"capsize": 2, "elinewidth": 1})
    axes.set_yticks(places, [item["name"] for item in found], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("right answers in %, with 95 % interval\ngrey: can't be told from the rung above", fontsize=8)
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Software": None})


def main():
    args = parse_arguments()
    base, folder, runs = plan(args)
    if args.dry_run:
        return list_runs(runs, folder)
    heed_signals(lambda: "the same command goes on where it was")
    refuse_other_rungs_made(folder)
    if failed := make_all(runs, folder, args.overwrite):
        name, problem = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(runs)} trainings failed; {name}: {problem}")
    rungs = [(rung, answers_of(rung, args, base, folder, runs)) for rung in RUNGS]
    for one in {one.path: one for _, several in rungs for one in several}.values():
        answer(one, args.overwrite)
    judge_of = Judge(base, args.split)
    any_file = rungs[-1][1][0].path
    found = climb(
        [(rung, [judge_of.judged(one.path, rung.scoring) for one in several] or [judge_of.prior(any_file)]) for rung, several in rungs]
    )
    out = folder / f"ladder_{args.split}"
    write_json(
        out.with_suffix(".json"),
        {"split": args.split, "seeds": args.seeds, "overrides": args.overrides, "rungs": found, **environment_facts()},
    )
    write_text(out.with_suffix(".md"), table(found) + "\n")
    draw(found, out.with_suffix(".png"))
    print(f"\n{table(found)}\n\nwrote {near(out.with_suffix('.json'))}, {out.name}.md and {out.name}.png")


if __name__ == "__main__":
    run_script(main)
