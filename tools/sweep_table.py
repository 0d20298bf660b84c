"""What the runs of a sweep scored: the table, the chosen setting, and with folds one predictions file of all held-out rows."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python tools/sweep.py CONFIG")

import csv
from argparse import Namespace
from io import StringIO
from itertools import groupby

import yaml

from config import PublicNames, flat, load_config, near, save_run_info
from evaluation.compare import compare, over_seeds
from evaluation.runs import answer_as_the_prior, load_all
from evaluation.truth import unit_of
from files import UserError, printable, quoted, read_jsonl, sha256, write_json, write_jsonl, write_text

DEPENDS_ON_SPACE = ("qtype", "reachable")  # of a prediction's row: what its fold's answer space says, and another one may not


def conclude(base, folder, runs):
    """Print the table of a sweep's finished runs and the setting that it chooses, and write both to `folder`. base: the configuration."""
    folds = runs[0].fold is not None
    loaded = {run.name: load_run(run) for run in runs}
    if folds:
        pool(runs, folder / "out_of_fold.jsonl")
    by_setting = {}  # setting -> its seeds' judged rows, in one order
    for (setting, _), found in groupby(runs, key=lambda run: (run.setting, run.seed)):
        rows = [row for run in found for row in loaded[run.name]["judged"]]
        by_setting.setdefault(setting, []).append(sorted(rows, key=lambda row: row["id"]))
    scores = {setting: setting_scores(seeds) for setting, seeds in by_setting.items()}
    ranking = sorted(scores, key=lambda setting: -scores[setting]["overall"]["mean"])  # of equals, the first in the grid
    first = [run for run in runs if (run.setting, run.seed) == (runs[0].setting, runs[0].seed)]
    prior = prior_accuracy(first, loaded)
    rows = by_setting[ranking[0]][0]
    print(f"\n{table(scores)}\n{about(rows, len(by_setting[ranking[0]]), prior, folds)}\n")
    comparison = compare(by_setting[ranking[1]], by_setting[ranking[0]]) if len(ranking) > 1 else None
    print(choice(ranking, comparison))
    report = {
        "config": PublicNames(base).path(base.config_path),
        "folds": folds,
        "seeds": sorted({run.seed for run in runs}),
        "blind_prior": prior,
    }
    report |= {"settings": [{"setting": list(setting), **found} for setting, found in scores.items()]}
    write_json(folder / "sweep.json", {**report, "chosen": list(ranking[0]), "against_next": comparison})
    write_text(folder / "table.csv", as_csv(scores))
    chosen = next(run for run in runs if run.setting == ranking[0])
    write_text(folder / "chosen.yaml", chosen_yaml(base, chosen, folds))
    print(f"wrote {near(folder / 'chosen.yaml')}, sweep.json and table.csv")
    print(f"next: {what_is_next(load_config(folder / 'chosen.yaml'), base, folds)}")


def what_is_next(chosen, base, folds):
    """After folds a training of the chosen setting; else its answers to rows that no choice has seen, where they are given."""
    if folds:
        return chosen.command("train_exp1.py")
    lacking = "" if chosen.data.test_jsonl else f"set data.test_jsonl in {near(base.config_path)}, rows that no choice has seen; then: "
    return lacking + chosen.command("predict_exp1.py", "--split", "test")


def load_run(run):
    """The run's predictions, checked against its rows and judged: see `evaluation.runs.load_all`."""
    args = Namespace(
        against=run.predicted.split_path("val"), predictions=True, compare=None, pair=None, types="predicted", by=[], recipe=[]
    )
    return load_all(run.predicted, [run.folder / "predictions.jsonl"], args)[0]


def setting_scores(seeds):
    """`over_seeds` of a setting's seeds; of a single one the deviation is None."""
    found = over_seeds(seeds if len(seeds) > 1 else seeds * 2)
    if len(seeds) == 1:
        for item in (found["overall"], *found["per_type"].values()):
            item["sd"] = None
    return found


def prior_accuracy(runs, loaded):
    """Accuracy of always giving a question's commonest training answer, each fold by its own training rows; None where there is none."""
    right = []
    for run in runs:
        found = loaded[run.name]
        try:
            rows, _ = answer_as_the_prior(run.predicted, found["judged"], "predicted", found["conventions"])
        except UserError:  # the training rows ask other questions
            return None
        right += [row["correct"] for row in rows]
    return sum(right) / len(right)


def name_of(setting):
    return printable(" ".join(setting)) or "as configured"


def table(scores):
    """A line for each setting: mean over seeds, standard deviation, 95 % interval of the mean."""
    width = max(20, *(len(name_of(setting)) for setting in scores))
    line = f"{{:<{width}}} {{:>8}} {{:>8}}  {{}}".format
    lines = [line("Setting", "Mean", "SD", "95 % interval"), "-" * (width + 36)]
    for setting, found in scores.items():
        item = found["overall"]
        low, high = (f"{end:.2%}" for end in item["interval"][:2])
        lines.append(line(name_of(setting), f"{item['mean']:.2%}", "-" if item["sd"] is None else f"{item['sd']:.2%}", f"{low} to {high}"))
    return "\n".join(lines)


def about(rows, seeds, prior, folds):
    """What the table is about."""
    of = "held-out rows of all folds" if folds else "validation rows"
    clusters = len({row["cluster"] for row in rows})
    floor = "" if prior is None else f"; blind prior {prior:.2%}"
    return f"{len(rows):,} {of}, {seeds} seed{'s' * (seeds > 1)}; intervals by {unit_of(rows)} ({clusters:,}){floor}"


def choice(ranking, comparison):
    """Which setting it is, and whether the next best can be told from it. comparison: `compare` of the next best with it, or None."""
    if comparison is None:
        return f"one setting: {name_of(ranking[0])}"
    item = comparison["overall"]
    low, high = (100 * end for end in item["interval"][:2])
    told = "can't be told from it" if low <= 0 <= high else "is below it"
    lead = f"{100 * item['difference']:+.2f} percentage points, 95 % interval {low:+.2f} to {high:+.2f}, paired"
    return (
        f"chosen: {name_of(ranking[0])}\nthe next best, {name_of(ranking[1])}, {told} ({lead})\n"
        f"the highest of {len(ranking)} means is too high by chance: report the chosen setting on rows that no choice has seen"
    )


def as_csv(scores):
    """The table by question type."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["setting", "question_type", "count", "mean", "sd", "low", "high"])
    for setting, found in scores.items():
        for name, item in [*found["per_type"].items(), ("OVERALL (micro)", found["overall"])]:
            writer.writerow([name_of(setting), name, item["count"], item["mean"], item["sd"], *item["interval"][:2]])
    return file.getvalue()


def chosen_yaml(base, run, folds):
    """A configuration that extends the sweep's. Its output_dir is the run's own, which is trained; after folds a new one."""
    values = flat(run.trained.model_dump(mode="json"))
    own = {"extends": str(base.config_path), "output_dir": str(base.output_dir / "chosen" if folds else run.folder)}
    for key in [override.partition("=")[0] for override in (*base.overrides, *run.setting)]:
        section, _, name = key.rpartition(".")
        if key != "output_dir":
            (own.setdefault(section, {}) if section else own)[name] = values[key]
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=10_000)


# ---------------------------------------------------------------------------------------------------------------------
# Folds


def pool(runs, data):
    """Write `data`, the held-out rows of all folds, and for each setting and seed what its folds answered to them, with a sidecar.

    The rows of the predictions name no type and no ceiling: those are of the fold's own answer space, and whoever evaluates
    them takes one for all rows.
    """
    for number, (_, folds) in enumerate(groupby(runs, key=lambda run: (run.setting, run.seed))):
        folds = list(folds)
        if number == 0:
            write_pooled_rows(data, [run.predicted.split_path("val") for run in folds])
        rows = [row for run in folds for _, row in read_jsonl(run.folder / "predictions.jsonl")]
        out = folds[0].folder.parent / "predictions.jsonl"
        write_jsonl(out, [{key: value for key, value in row.items() if key not in DEPENDS_ON_SPACE} for row in rows])
        facts = {"split": "folds", "source": str(data), "source_sha256": sha256(data), "ids": [row["id"] for row in rows]}
        facts |= {"rows_in_split": len(rows), "limit": None, "adapter": f"{len(folds)}, one a fold"}
        facts |= {"decoding": folds[0].predicted.predict.decoding, "folds": [str(run.folder) for run in folds]}
        own = [*folds[0].predicted.overrides[:-2], f"output_dir={out.parent}"]  # without the fold's rows
        save_run_info(out.with_suffix(".meta.json"), load_config(folds[0].predicted.config_path, own), **facts)


def write_pooled_rows(data, sources):
    """One file of the folds' held-out rows. Raises UserError for an id that two folds have, or a row that has none."""
    seen, rows = {}, []
    for source in sources:
        for line, row in read_jsonl(source):
            if row.get("id") is None or str(row["id"]) in seen:
                other = f" also that of {seen[str(row['id'])]}" if row.get("id") is not None else " missing"
                raise UserError(f"{source}:{line}: id {quoted(row.get('id'))} is{other}; make the folds with data.split --folds")
            seen[str(row["id"])] = f"{source}:{line}"
            rows.append(row)
    write_jsonl(data, rows)
