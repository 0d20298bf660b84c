"""What an evaluation prints: the experiment's table, one table beside it, and what `-v` adds. Text only, no files."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data.rules import ordered_types
from files import UserError, read_json

WIDTH = 80
ROW = "{:<20} {:<10} {:<10} {:<10}"
EMPTY_WARNING = 0.05  # more empty predictions than this share point to a failure, not to a hard question
BLIND = "commonest training answer"
REACHABLE = "reachable answers"


def results_table(scores):
    """The experiment's table, whose layout is fixed."""
    lines = ["=" * WIDTH, "EVALUATION RESULTS - EXP1", "=" * WIDTH, ""]
    lines += [ROW.format("Question Type", "Count", "Correct", "Accuracy"), "-" * WIDTH]
    for name, item in scores["per_type"].items():
        lines.append(ROW.format(name, item["count"], item["correct"], f"{item['accuracy']:.2%}"))
    lines += [
        "-" * WIDTH,
        ROW.format("OVERALL (micro)", scores["n"], scores["correct"], f"{scores['micro']:.2%}"),
        "=" * WIDTH,
    ]
    return "\n".join(lines)


def main_table(details, blind, reachable, unit):
    """Accuracy with its interval, the blind prior's and the gain over it in percentage points, and what the constraint allows.

    details: of `metrics.measure`. blind, reachable: of `metrics.aggregate`, or None. unit: what the clusters are, such as `images`.
    """
    line = "{:<20} {:>9} {:>18} {:>9} {:>8} {:>10}".format
    macro = {"accuracy": details["macro"]["accuracy"], "interval": details["macro"]["interval"]}
    groups = [*details["per_type"].items(), ("OVERALL (micro)", details["overall"]), ("OVERALL (macro)", macro)]
    head = line("Question Type", "Accuracy", "95 % interval", "Blind", "Gain", "Reachable")
    lines = [head, "-" * len(head)]
    for name, item in groups:
        floor, ceiling = (_accuracy_of(other, name) for other in (blind, reachable))
        gain = "-" if floor is None else f"{100 * (item['accuracy'] - floor):+.2f}"
        cells = (f"{item['accuracy']:.2%}", _interval_text(item["interval"]), _share(floor), gain, _share(ceiling))
        below = floor is not None and item["accuracy"] < floor
        lines.append(line(name, *cells) + "  BELOW BLIND" * below)
    lines.append(f"Intervals resample {details['overall']['clusters']:,} {unit}.")
    if blind:
        lines[-1] += f" The blind prior answers every question with its {BLIND}, without looking."
    return "\n".join(lines)


def _accuracy_of(scores, name):
    """A type's accuracy in `aggregate`'s scores, or the overall ones; None where they aren't known."""
    overall = {"OVERALL (micro)": "micro", "OVERALL (macro)": "macro"}
    return scores and (scores[overall[name]] if name in overall else scores["per_type"][name]["accuracy"])


def _share(value):
    return "-" if value is None else f"{value:.2%}"


def details_table(details):
    """The stricter and the class-balanced scores of each type."""
    line = "{:<20} {:>9} {:>9} {:>9}".format
    lines = ["Strict: the same text. Balanced accuracy and macro-F1 are over the labels of the truth", ""]
    lines += [line("Question Type", "Strict", "Balanced", "Macro-F1"), "-" * WIDTH]
    groups = [*details["per_type"].items(), ("OVERALL (micro)", details["overall"]), ("OVERALL (macro)", details["macro"])]
    for name, item in groups:
        one_kind = name != "OVERALL (micro)"  # over the labels of unlike questions the other two have no meaning
        lines.append(
            line(name, *(_share(item[key]) if one_kind or key == "strict" else "-" for key in ("strict", "balanced_accuracy", "macro_f1")))
        )
    return "\n".join(lines)


def _interval_text(interval):
    return "{:.2%} - {:.2%}".format(*interval[:2]) if interval else "-"


def more_scores(details, greedy):
    """One line for each kind of score that only some files have."""
    overall = details["overall"]
    if lists := overall.get("label_lists"):
        names = ("exact_set", "jaccard", "example_f1", "micro_f1", "macro_f1")
        yield _shares(f"label lists ({lists['count']} rows)", lists, names)
    if counts := overall.get("counts"):
        yield _shares(f"counts ({counts['count']} rows)", counts, ("exact", "within_one"))
    if bins := overall.get("size_bins"):
        yield _shares(f"size bins ({bins['count']} rows)", bins, ("exact", "within_one"))
    if errors := overall.get("millimetres"):
        mean, median = errors["mean_abs_error"], errors["median_abs_error"]
        yield f"measurements ({errors['count']} rows): mean absolute error {mean:.2f} mm, median {median:.2f} mm"
    if fit := overall.get("calibration"):
        values = f"ECE {fit['ece']:.4f} (15 bins), Brier {fit['brier']:.4f}, AURC {fit['aurc']:.4f}"
        yield f"calibration ({fit['count']} rows with a confidence): {values}"
    if held := overall.get("abstention"):
        rest = "nothing answered" if held["accuracy_of_the_rest"] is None else f"accuracy of the rest {held['accuracy_of_the_rest']:.2%}"
        yield f"abstained: {held['abstained']} of {overall['count']}, coverage {held['coverage']:.2%}, {rest}"
    if greedy:
        wins = f"exact alone is right in {greedy['only_exact_right']}, greedy alone in {greedy['only_greedy_right']}"
        yield f"exact and greedy differ in {greedy['disagree']} of {greedy['count']} exactly scored rows: {wins}"


def _shares(title, scores, names):
    return f"{title}: " + ", ".join(f"{name.replace('_', ' ')} {scores[name]:.2%}" for name in names)


def text_table(texts):
    """BLEU and ROUGE-L per type, and how they were computed."""
    line = "{:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}".format
    keys = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")
    lines = ["Text overlap: corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing, 13a, lower case), ROUGE-L F", ""]
    lines += [line("Question Type", "Count", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"), "-" * 80]
    lines += [line(name, item["count"], *(f"{item[key]:.2%}" for key in keys)) for name, item in texts.items()]
    return "\n".join(lines)


def warnings(scores, partial):
    """The lines that no reader of a score may miss: empty predictions, and whether the run is partial."""
    empty, total = scores["empty"], scores["n"]
    if empty:
        yield f"empty predictions: {empty} of {total}, counted as wrong"
    if empty > EMPTY_WARNING * total:
        yield f"WARNING: {empty / total:.2%} OF THE PREDICTIONS ARE EMPTY. Prediction probably failed; see the file."
    if partial:
        yield "partial: {} of {} rows".format(*partial)


def notes(scores, reachable):
    """Macro accuracy and reachable answers in words."""
    yield f"macro accuracy: {scores['macro']:.2%} (mean of {len(scores['per_type'])} question types)"
    if reachable:
        yield f"reachable answers: {reachable['micro']:.2%} of the rows have an answer that their constraint allows"


def show_mismatches(judged, limit):
    """Print the first mismatches in the order of the file."""
    wrong = [row for row in judged if not row["correct"]]
    print(f"\n{min(limit, len(wrong))} of {len(wrong)} mismatches:")
    for row in wrong[:limit]:
        pred, gt = row["pred"] or "", row["gt"]
        where = f"[id {row['id']}, {row['qtype']}] {row.get('question') or ''}"
        print(f"Predicted: '{pred}' vs GT: '{gt}'  {where}".rstrip())


# ---------------------------------------------------------------------------------------------------------------------
# Several evaluations in one table


def summary_table(paths):
    """One line per metrics file: rows, accuracy overall and per type; last what the blind prior scores on them."""
    runs = [_read_metrics(path) for path in paths]
    types = ordered_types({name for run in runs for name in run["per_type"]})
    names = [_run_name(run) for run in runs]
    if len(set(names)) < len(names):
        names = [path.stem.removeprefix("metrics_") for path in paths]
    lines = list(zip(names, runs))
    for name, key in ((BLIND, "blind_prior"), (REACHABLE, "reachable")):
        for run in runs:  # one line, unless the files are about different rows
            if run.get(key) and (name, _accuracies(run[key])) not in [(other, _accuracies(scores)) for other, scores in lines]:
                lines.append((name, run[key]))
    return _aligned([["", "rows", "overall", *types], *(_summary_cells(name, run, types) for name, run in lines)])


def _accuracies(scores):
    return scores["n"], scores["correct"], scores["per_type"]


def _summary_cells(name, scores, types):
    per_type = scores["per_type"]
    accuracies = (f"{per_type[name]['accuracy']:.2%}" if name in per_type else "-" for name in types)
    return [name, str(scores["n"]), f"{scores['micro']:.2%}", *accuracies]


def _aligned(table):
    """Lines of text cells under a header: the first column to the left, numbers to the right."""
    first, *widths = (max(map(len, column)) for column in zip(*table))
    lines = ["  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths))]) for name, *cells in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _read_metrics(path):
    run = read_json(path)
    if not isinstance(run, dict) or not {"n", "micro", "per_type", "blind_prior", "sidecar"} <= run.keys():
        raise UserError(f"{path}: not a metrics file; give files that eval_exp1.py wrote")
    return {**run, "path": path}


def _run_name(run):
    """`untuned, free`, `tuned, constrained`: from the sidecar's facts, else the file's name."""
    facts = run["sidecar"]
    if "adapter" not in facts or "decoding" not in facts:
        return run["path"].stem.removeprefix("metrics_")
    decoding = "constrained" if facts["decoding"] in ("greedy", "exact") else facts["decoding"]
    return f"{'untuned' if facts['adapter'] in (None, 'none') else 'tuned'}, {decoding}"
