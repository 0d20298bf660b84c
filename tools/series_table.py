"""What the experiments of the series scored: each against Experiment 1, paired, by stage and overall. And a model per stage's joined
file."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python tools/series.py CONFIG")

import json
from argparse import Namespace

from config import PublicNames, near, save_run_info
from data.rows import read_rows
from data.stages import needed_stage, stage_name
from evaluation.compare import ALPHA, compare, short_p
from evaluation.intervals import holm
from evaluation.runs import load_all
from evaluation.truth import check_same_rows
from files import UserError, atomic_open, quoted, read_json, sha256, write_json, write_text

FIRST = "exp1"
COPIED = ("split", "limit", "source", "source_sha256", "decoding", "max_new_tokens", "conventions")  # of one model's sidecar


def write_joined(experiment):
    """Write the predictions of a model per stage as one file, in the data's order, its sidecar beside it. Each line is a model's own.

    Raises UserError, naming a row, for one that two models answered, or that is none of the data's.
    """
    out, runs = experiment.predictions, experiment.runs
    cfg, split = runs[0].predicted, runs[0].split
    answered = [(json.loads(line)["id"], line) for run in runs for line in run.predictions.read_bytes().splitlines(keepends=True)]
    lines, source = dict(answered), cfg.split_path(split)
    ids = [row["id"] for row in read_rows(source, need_answer=False) if row["id"] in lines]
    if len(ids) < len(answered):
        odd = next(row_id for number, (row_id, _) in enumerate(answered) if row_id not in ids or row_id in dict(answered[:number]))
        raise UserError(f"{near(out.parent)}: row {quoted(odd)} of {near(source)} is not answered by one model; add --overwrite")
    sidecar = out.with_suffix(".meta.json")
    sidecar.unlink(missing_ok=True)  # never the old one beside new predictions
    with atomic_open(out, "wb") as file:
        file.writelines(lines[row_id] for row_id in ids)
    first = read_json(runs[0].predictions.with_suffix(".meta.json"))
    facts = {key: first[key] for key in COPIED} | {"ids": ids, "rows_in_split": len(ids), "adapter": f"{len(runs)}, one a stage"}
    facts |= {"joined": [near(run.predictions) for run in runs], "predictions_sha256": sha256(out)}
    save_run_info(sidecar, cfg, **facts)


def conclude(base, folder, experiments, split, titles):
    """Print the table and the sentence on the finished experiments (tools.series.Experiment), and write both to `folder`. titles: {name:
    what it is called}."""
    source = base.split_path(split)
    sides = load_sides(base, experiments, source)
    answered = {row["id"] for row in sides[FIRST][0]}
    stages = {row["id"]: needed_stage(row) for row in read_rows(source, need_answer=False) if row["id"] in answered}
    found = against_first(sides, stages)
    names = {name: f"{name} {titles[name]}" for name in found}
    text = f"{table(found, names)}\n\n{sentence(found, {name: f'{titles[name]} ({name})' for name in found}, split)}\n"
    print(f"\n{text}")
    out = folder / f"series_{split}.json"
    files = {name: [PublicNames(base).path(one.predictions) for one in experiments if one.name == name] for name in found}
    write_text(out.with_suffix(".txt"), text)
    write_json(out, {"split": split, "predictions": files, "experiments": found})
    print(f"wrote {near(out)} and {out.with_suffix('.txt').name}")


def load_sides(base, experiments, source):
    """{experiment: [judged rows of each seed]}, checked against the data and to be about the same rows."""
    args = Namespace(against=source, predictions=True, compare=None, pair=None, types="predicted", by=[], recipe=[])
    loaded = load_all(base, [experiment.predictions for experiment in experiments], args)
    check_same_rows(loaded)
    sides = {}
    for experiment, run in zip(experiments, loaded):
        sides.setdefault(experiment.name, []).append(run["judged"])
    return sides


def against_first(sides, stages):
    """{experiment: `compare` of Experiment 1 with it, by stage instead of by type}; Experiment 1's own has no difference.

    sides: of `load_sides`. stages: {row id: stage}. `p_holm` is adjusted over the experiments, overall, and over experiments and stages
    for those of stages.
    """
    staged = {name: [[{**row, "qtype": stage_name(stages[row["id"]])} for row in rows] for rows in seeds] for name, seeds in sides.items()}
    found = {name: compare(staged[FIRST], seeds) for name, seeds in staged.items()}
    others = [comparison for name, comparison in found.items() if name != FIRST]
    for items in ([one["overall"] for one in others], [item for one in others for item in one["per_type"].values()]):
        for item, adjusted in zip(items, holm([item["p"] for item in items])):
            item["p_holm"] = adjusted
    return found


def table(found, names):
    """A line for each experiment and stage: accuracy (mean over seeds), and what it is above Experiment 1, in percentage points."""
    line = "{:<24} {:<32} {:>6} {:>9} {:>7}  {:<16} {}".format
    lines = [line("Experiment", "Stage", "Count", "Accuracy", "- exp1", "95 % interval", "p (Holm)"), "-" * 110]
    for name, comparison in found.items():
        for stage, item in [*comparison["per_type"].items(), ("OVERALL", comparison["overall"])]:
            difference = [f"{100 * item['difference']:+.2f}", "{:+.2f} to {:+.2f}".format(*(100 * end for end in item["interval"][:2]))]
            cells = ["", "", ""] if name == FIRST else [*difference, short_p(item["p_holm"])]
            lines.append(line(names[name], stage, item["count"], f"{item['b']:.2%}", *cells).rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def sentence(found, names, split):
    """What can be concluded, as sentences that a paper could print."""
    own = found[FIRST]
    overall, unit, seeds = own["overall"], own["unit"], own["seeds"][0]
    about = f" about {overall['clusters']:,} {unit}" if unit != "rows" else ""
    mean = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    others = {name: one["overall"] for name, one in found.items() if name != FIRST}
    where = {"val": "validation"}.get(split, split)
    first = f"On {overall['count']:,} questions of the {where} split{about}, {names[FIRST]} answered {overall['b']:.2%} correctly{mean}."
    if not others:
        return first
    parts = []
    for name, item in others.items():
        low, high = (100 * end for end in item["interval"][:2])
        p = "p < 0.001" if item["p_holm"] < 0.001 else f"p = {item['p_holm']:.3f}"
        parts.append(f"{100 * item['difference']:+.2f} percentage points with {names[name]} ({low:+.2f} to {high:+.2f}; {p})")
    over, several = " over questions and seeds" if seeds > 1 else "", len(others) > 1
    how = f"95% confidence intervals{over}; p Holm-adjusted over {len(others)} comparisons" if several else f"95% confidence interval{over}"
    differences = f"The paired difference{'s' * several} from it {'were' if several else 'was'} {_listed(parts)} ({how})."
    return f"{first} {differences} {_told(others, names)} at alpha = {ALPHA:.2f}."


def _told(others, names):
    """Which experiments can be told from the first."""
    sure = [names[name] for name, item in others.items() if item["p_holm"] <= ALPHA]
    if not sure:
        return f"None of the {len(others)} can be told from it" if len(others) > 1 else "These rows cannot tell the two apart"
    if len(sure) < len(others):
        return f"Only {_listed(sure)} can be told from it"
    return "Each can be told from it" if len(others) > 1 else "It can be told from it"


def _listed(names):
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
