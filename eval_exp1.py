"""Evaluate predictions: accuracy per question type, beside what a model scores that never looks at the image.

    python eval_exp1.py                                      output_dir/predictions.jsonl -> metrics.json, report.html
    python eval_exp1.py --predictions PATH --show 20         any predictions file, and its first 20 mistakes
    python eval_exp1.py --predictions PATH --against DATA    ids, questions and answers checked against the data file
    python eval_exp1.py --predictions A B C                  one configuration, several seeds: mean and deviation
    python eval_exp1.py --compare A B                        B against A, row by row, and what can be concluded
    python eval_exp1.py --types rules                        grouped by data/schema.py's rules, as the user's table is
    python eval_exp1.py --summary outputs/metrics*.json      several evaluations in one table

Reads a predictions file (rows of id, pred, gt, qtype), its sidecar if it has one, and the training rows for the blind
prior. Without --predictions, the file is checked against data.val_jsonl. Writes the metrics and an HTML report to output_dir.
How answers match: metrics.py; the other scores: scores.py; intervals and tests: intervals.py.
"""

import re
from collections import Counter
from pathlib import Path

from evaluation.compare import compare, comparison_table, conclusion, over_seeds, seeds_table
from config import argument_parser, load_config, resolve_path, save_run_info
from data import answer_space
from data.preprocess import enrich_split, ordered_types, training_space
from data.schema import infer_question_type
from files import UserError, read_json, read_jsonl, run_script, write_json
from data.matching import aggregate, answer_blindly, blind_prior, judge
from evaluation.predictions import check_same_configuration, check_same_rows, load_predictions, load_sidecar, with_data
from evaluation.metrics import greedy_comparison, measure, template_of, text_scores

WIDTH = 80
ROW = "{:<20} {:<10} {:<10} {:<10}"
EMPTY_WARNING = 0.05  # more empty predictions than this share point to a failure, not to a hard question
BLIND = "commonest training answer"
REACHABLE = "reachable answers"
OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_]+)*=")


# ---------------------------------------------------------------------------------------------------------------------
# Input
# ---------------------------------------------------------------------------------------------------------------------


def data_file(cfg, args, sidecar, path):
    """The data file that predictions are checked against, or None: --against, or that of the default predictions."""
    if args.against:
        return resolve_path(args.against, cfg.config_path.parent)
    if args.predictions or args.compare:
        return None
    if sidecar.get("split", "val") != "val":
        raise UserError(f"{path} holds predictions for the {sidecar['split']} split, not val; evaluate them with --predictions {path}")
    return cfg.data.val_jsonl if cfg.data.val_jsonl and cfg.data.val_jsonl.is_file() else None


def by_rules(rows, key):
    """The rows with the literal rules' type of their question (and options) at `key`."""
    if any(not isinstance(row.get("question"), str) for row in rows):
        raise UserError("--types rules: a prediction row has no question to infer its type from; predict again")
    return [{**row, key: infer_question_type(row["question"], row.get("options"))} for row in rows]


def spellings_for(cfg, sidecar):
    """The spellings that mean the same for one question only: from the sidecar, or else from the training rows."""
    if "spellings" in sidecar:
        return sidecar["spellings"]
    try:
        return answer_space.spellings(training_space(cfg, say=lambda line: None))
    except UserError:
        return {}


# ---------------------------------------------------------------------------------------------------------------------
# Output


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


def blind_table(scores, blind):
    """Accuracy beside the blind prior's, and the gain over it in percentage points."""
    lines = [f"Blind prior: every question answered with its {BLIND}, without looking", ""]
    lines += [ROW.format("Question Type", "Accuracy", "Blind", "Gain"), "-" * WIDTH]
    pairs = [(name, item["accuracy"], blind["per_type"][name]["accuracy"]) for name, item in scores["per_type"].items()]
    for name, accuracy, prior in [*pairs, ("OVERALL (micro)", scores["micro"], blind["micro"])]:
        mark = "  BELOW BLIND" if accuracy < prior else ""
        lines.append(ROW.format(name, f"{accuracy:.2%}", f"{prior:.2%}", f"{100 * (accuracy - prior):+.2f}") + mark)
    return "\n".join(lines)


def details_table(details, reachable):
    """Accuracy with its interval and what the constraint allows, beside the stricter and the class-balanced scores."""
    line = "{:<20} {:>9} {:>18} {:>10} {:>8} {:>9} {:>9}".format
    lines = ["95 % intervals resample images; balanced accuracy and macro-F1 are over the labels of the truth", ""]
    lines += [line("Question Type", "Accuracy", "95 % interval", "Reachable", "Strict", "Balanced", "Macro-F1"), "-" * 89]
    groups = [*details["per_type"].items(), ("OVERALL (micro)", details["overall"]), ("OVERALL (macro)", details["macro"])]
    for name, item in groups:
        allowed = {**(reachable or {}).get("per_type", {}), "OVERALL (micro)": {"accuracy": (reachable or {}).get("micro")}}
        ceiling = allowed.get(name, {}).get("accuracy")
        shares = (item["strict"], item["balanced_accuracy"], item["macro_f1"])
        balanced = [f"{share:.2%}" for share in shares] if name != "OVERALL (micro)" else [f"{item['strict']:.2%}", "-", "-"]
        ceiling = "-" if ceiling is None else f"{ceiling:.2%}"
        lines.append(line(name, f"{item['accuracy']:.2%}", _interval_text(item["interval"]), ceiling, *balanced))
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


def notes(scores, partial, reachable):
    """The lines under the tables: macro accuracy, reachable answers, empty predictions, and whether the run is partial."""
    empty, total = scores["empty"], scores["n"]
    yield f"macro accuracy: {scores['macro']:.2%} (mean of {len(scores['per_type'])} question types)"
    if reachable:
        yield f"reachable answers: {reachable['micro']:.2%} of the rows have an answer that their constraint allows"
    yield f"empty predictions: {empty} of {total}, counted as wrong"
    if empty > EMPTY_WARNING * total:
        yield f"WARNING: {empty / total:.2%} OF THE PREDICTIONS ARE EMPTY. Prediction probably failed; see the file."
    if partial:
        yield "partial: {} of {} rows".format(*partial)


def show_mismatches(judged, limit):
    """Print the first mismatches in the order of the file."""
    wrong = [row for row in judged if not row["correct"]]
    print(f"\n{min(limit, len(wrong))} of {len(wrong)} mismatches:")
    for row in wrong[:limit]:
        pred, gt = row["pred"] or "", row["gt"]
        where = f"[id {row['id']}, {row['qtype']}] {row.get('question') or ''}"
        print(f"Predicted: '{pred}' vs GT: '{gt}'  {where}".rstrip())


def metrics_path(output_dir, predictions, types="predicted"):
    """predictions.jsonl -> metrics.json, predictions_<rest>.jsonl -> metrics_<rest>.json, else metrics_<stem>.json.

    By the rules' types: metrics_rules.json and metrics_<rest>_rules.json.
    """
    rest = predictions.stem.removeprefix("predictions").removeprefix("_")
    rest = "_".join(filter(None, [rest, "rules" if types == "rules" else ""]))
    return output_dir / (f"metrics_{rest}.json" if rest else "metrics.json")


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
    lines = [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths))])
        for name, *cells in table
    ]
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


# ---------------------------------------------------------------------------------------------------------------------
# One file


def score_reachable(rows):
    """Scores of a model that is right wherever a row's constraint allows it, or None where the rows don't tell."""
    if not all(isinstance(row.get("reachable"), bool) for row in rows):
        return None
    return aggregate([{**row, "correct": row["reachable"]} for row in rows])


def score_blind_prior(cfg, rows, types, spellings):
    """Return the blind prior's judged rows, or None, saying why, where the training rows can't be had."""
    try:
        train = (row for _, row in read_jsonl(enrich_split(cfg, "train")))
        prior = blind_prior(by_rules(list(train), "question_type") if types == "rules" else train)
    except UserError as error:
        print(f"no blind prior: {error}")
        return None
    bare = [{key: row.get(key) for key in ("id", "qtype", "gt", "question")} for row in rows]
    return judge(answer_blindly(bare, prior), cfg.eval, spellings)


def score_texts(judged):
    """`text_scores` per type and overall; references: a row's `answers`, else its ground truth."""
    groups = {name: [row for row in judged if row["qtype"] == name] for name in ordered_types({row["qtype"] for row in judged})}
    return {
        name: text_scores([row["pred"] or "" for row in rows], [row.get("answers") or [row["gt"]] for row in rows])
        for name, rows in [*groups.items(), ("OVERALL (micro)", judged)]
    }


def load(cfg, path, args):
    """A predictions file, checked and judged: {path, rows, judged, scores, sidecar, partial, source, spellings}."""
    rows = load_predictions(path)
    sidecar, partial = load_sidecar(path, rows)
    source = data_file(cfg, args, sidecar, path)
    rows = with_data(rows, path, source, partial) if source else rows
    if args.types == "rules":
        rows = by_rules(rows, "qtype")
    spellings = spellings_for(cfg, sidecar)
    judged = judge(rows, cfg.eval, spellings)
    facts = {"path": path, "sidecar": sidecar, "partial": partial, "source": source, "spellings": spellings}
    return {**facts, "judged": judged, "scores": aggregate(judged)}


def evaluate(cfg, run, args):
    """Print and write the scores of a loaded run, and return it with all of them."""
    judged, scores = run["judged"], run["scores"]
    texts = score_texts(judged) if args.text_metrics else None
    print(results_table(scores) + "\n")  # first on stdout, whatever follows
    blind_rows = score_blind_prior(cfg, judged, args.types, run["spellings"])
    blind = aggregate(blind_rows) if blind_rows else None
    if blind:
        print(blind_table(scores, blind))
    details, reachable = measure(judged, run["spellings"]), score_reachable(judged)
    beside_questions(details, judged, blind_rows)
    greedy = greedy_comparison(judged, cfg.eval, run["spellings"])
    print("\n" + details_table(details, reachable))
    if texts:
        print("\n" + text_table(texts))
    lines = [*notes(scores, run["partial"], reachable), *more_scores(details, greedy), checked_note(run)]
    print("\n" + "\n".join(lines))
    if args.show > 0:
        show_mismatches(judged, args.show)
    out = metrics_path(cfg.output_dir, run["path"], args.types)
    found = {"partial": run["partial"], "blind_prior": blind, "reachable": reachable}
    found |= {"details": details, "greedy": greedy, "text": texts, "against": run["source"] and str(run["source"])}
    facts = {"predictions": str(run["path"]), **scores, **found}
    save_run_info(out, cfg, **facts, tolerances=cfg.eval.model_dump(), sidecar=run["sidecar"])
    print(f"metrics: {out}")
    return {**run, **found, "notes": lines, "metrics": out}


def beside_questions(details, judged, blind_rows):
    """Add each question's floor (`blind`) and ceiling (`reachable`) to its scores, where they are known."""
    floors, ceilings, counts = Counter(), Counter(), Counter()
    for index, row in enumerate(judged):
        key = row["qtype"], template_of(row)
        counts[key] += 1
        floors[key] += blind_rows[index]["correct"] if blind_rows else 0
        ceilings[key] += bool(row.get("reachable"))
    has_ceiling = all(isinstance(row.get("reachable"), bool) for row in judged)
    for item in details["per_question"]:
        key = item["qtype"], item["template"]
        item["blind"] = floors[key] / counts[key] if blind_rows else None
        item["reachable"] = ceilings[key] / counts[key] if has_ceiling else None


def checked_note(run):
    """What the ids and the ground truth were checked against."""
    if run["source"]:
        return f"ids, questions and ground truth checked against {run['source']}"
    return "only the file itself was checked; --against DATA.jsonl checks ids and ground truth"


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def evaluate_seeds(cfg, runs, args):
    """Evaluate each file; then print and write what several seeds of one configuration have in common."""
    check_same_rows(runs)
    check_same_configuration(runs)
    evaluated = []
    for run in runs:
        evaluated.append(evaluate(cfg, run, args))
        print()
    order = {row["id"]: place for place, row in enumerate(runs[0]["judged"])}
    seeds = over_seeds([sorted(run["judged"], key=lambda row: order[row["id"]]) for run in runs])
    print(f"{len(runs)} seeds: mean and standard deviation over them; the interval of the mean resamples images\n\n{seeds_table(seeds)}")
    out = cfg.output_dir / f"seeds_{_short_name(runs[0]['path'])}_and_{len(runs) - 1}_more.json"
    write_json(out, {"predictions": [str(run["path"]) for run in runs], **seeds})
    print(f"seeds: {out}")
    return {**evaluated[0], "seeds": seeds}


def evaluate_pair(cfg, runs, args):
    """Print the first file's table, evaluate the second, and print and write how they compare row by row."""
    check_same_rows(runs)
    first, second = runs
    print(results_table(first["scores"]))
    print(f"above: {first['path']} (A); below: {second['path']} (B)\n")
    evaluated = evaluate(cfg, second, args)
    comparison = compare(first["judged"], second["judged"])
    names = names_in_words(runs)
    sentence = conclusion(comparison, *names)
    print(f"\nA: {names[0]} ({first['path'].name}); B: {names[1]} ({second['path'].name})\n\n{comparison_table(comparison)}\n\n{sentence}")
    out = cfg.output_dir / f"comparison_{_short_name(first['path'])}_{_short_name(second['path'])}.json"
    write_json(out, {"a": str(first["path"]), "b": str(second["path"]), **comparison, "conclusion": sentence})
    print(f"comparison: {out}")
    return {**evaluated, "comparison": comparison, "names": names, "conclusion": sentence, "other": first}


def names_in_words(runs):
    """How a sentence calls each run: `the tuned model with constrained decoding`, or the file's name where that tells none apart."""
    names = []
    for run in runs:
        facts = run["sidecar"]
        tuned = "untuned" if facts.get("adapter") in (None, "none") else "tuned"
        decoding = facts.get("decoding")
        decoding = {"greedy": "greedy constrained", "exact": "exact constrained"}.get(decoding, decoding)
        names.append(f"the {tuned} model with {decoding} decoding" if "adapter" in facts and decoding else _short_name(run["path"]))
    return names if len(set(names)) == len(names) else [_short_name(run["path"]) for run in runs]


def _short_name(path):
    return path.stem.removeprefix("predictions").removeprefix("_") or "predictions"


def report_path(cfg, run, args):
    """Where the report goes: --report, or output_dir/report.html, named after the predictions as the metrics are. None: nowhere."""
    if args.report == "none":
        return None
    if args.report:
        return resolve_path(args.report, cfg.config_path.parent, writing=True)
    return run["metrics"].with_name(run["metrics"].name.replace("metrics", "report", 1)).with_suffix(".html")


def parse_arguments():
    parser = argument_parser(__doc__)
    files = parser.add_mutually_exclusive_group()
    default = "(default: output_dir/predictions.jsonl)"
    files.add_argument("--predictions", metavar="PATH", nargs="+", help=f"evaluate this, or several seeds {default}")
    files.add_argument("--compare", metavar=("A", "B"), nargs=2, help="evaluate B, and compare it with A row by row")
    files.add_argument("--summary", metavar="METRICS", nargs="+", help="compare metrics files instead")
    parser.add_argument("--against", metavar="DATA", help="check ids, questions and ground truth against this data file")
    parser.add_argument("--show", metavar="N", type=int, default=0, help="print the first N mismatches")
    types = "group by the file's types (predicted, the default) or by the literal rules of data/schema.py"
    parser.add_argument("--types", choices=["predicted", "rules"], default="predicted", help=types)
    parser.add_argument("--text-metrics", action="store_true", help="add BLEU and ROUGE-L")
    parser.add_argument("--report", metavar="PATH", help="where the HTML report goes, or none (default: output_dir/report.html)")
    args = parser.parse_intermixed_args()
    for files in (args.predictions, args.summary):  # which swallow an override that follows them
        for text in [text for text in files or [] if OVERRIDE.match(text) and not Path(text).exists()]:
            files.remove(text)
            args.overrides.append(text)
    return args


def main():
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    folder = cfg.config_path.parent
    if args.summary:
        return print(summary_table([resolve_path(path, folder) for path in args.summary]))
    chosen = args.compare or args.predictions
    paths = [resolve_path(path, folder) for path in chosen] if chosen else [cfg.output_dir / "predictions.jsonl"]
    runs = [load(cfg, path, args) for path in paths]
    if args.compare:
        run = evaluate_pair(cfg, runs, args)
    else:
        run = evaluate_seeds(cfg, runs, args) if len(runs) > 1 else evaluate(cfg, runs[0], args)
    if out := report_path(cfg, run, args):
        from evaluation.report import write_report  # matplotlib takes its time

        write_report(out, cfg, run)
        print(f"report: {out}")


if __name__ == "__main__":
    run_script(main)
