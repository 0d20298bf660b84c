"""Evaluate predictions: accuracy per question type, beside what a model scores that never looks at the image.

    python eval_exp1.py                                      output_dir/predictions.jsonl -> metrics.json
    python eval_exp1.py --predictions PATH --show 20         any predictions file, and its first 20 mistakes
    python eval_exp1.py --types rules                        grouped by data/schema.py's rules, as the user's table is
    python eval_exp1.py --summary outputs/metrics*.json      several evaluations in one table

Reads a predictions file (rows of id, pred, gt, qtype), its sidecar if it has one, and the training rows for the blind
prior. Writes the metrics to output_dir. How answers match: metrics.py.
"""

from collections import Counter

from config import argument_parser, load_config, resolve_path, save_run_info
from data import answer_space
from data.preprocess import ensure_enriched, ordered_types, training_space
from data.schema import infer_question_type
from files import UserError, read_json, read_jsonl, run_script
from metrics import aggregate, answer_blindly, blind_prior, judge

WIDTH = 80
ROW = "{:<20} {:<10} {:<10} {:<10}"
EMPTY_WARNING = 0.05  # more empty predictions than this share point to a failure, not to a hard question
BLIND = "commonest training answer"
REACHABLE = "reachable answers"


# ---------------------------------------------------------------------------------------------------------------------
# Input


def load_predictions(path):
    """Return the rows of a predictions file, `id` as text and `pred` as text or None.

    Raises UserError naming file:line for a row without id, pred, gt or qtype, and for ids that come twice.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; run predict_exp1.py first")
    rows = []
    for line, row in read_jsonl(path):
        for key in ("id", "pred", "gt", "qtype"):
            if key not in row:
                raise UserError(f"{path}:{line}: has no {key}; a prediction row needs id, pred, gt and qtype")
            _check_value(key, row[key], f"{path}:{line}")
        rows.append({**row, "id": str(row["id"])})
    repeated = [row_id for row_id, count in Counter(row["id"] for row in rows).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: repeats {_listed(repeated)}; give every row its own id, or predict again")
    return rows


def _check_value(key, value, where):
    if isinstance(value, str) or (key == "pred" and value is None) or (key == "id" and type(value) is int):
        return
    if key == "gt" and value is None:
        raise UserError(f"{where}: gt is null; only rows that have an answer can be evaluated")
    raise UserError(f"{where}: {key} is {value!r}, not text; write it as text")


def _listed(ids, first=5):
    return f"{len(ids)} id{'s' * (len(ids) > 1)} ({', '.join(ids[:first])}{', …' * (len(ids) > first)})"


def load_sidecar(path, rows):
    """Return `(facts, partial)` of the predictions' `.meta.json`, having checked its ids against the rows.

    facts: what it says besides the ids; {} without a sidecar. partial: None, or [number of rows, rows in the split]
    where not all of them were asked for.
    """
    sidecar = path.with_suffix(".meta.json")
    if not sidecar.is_file():
        return {}, None
    meta = read_json(sidecar)
    if not isinstance(meta, dict) or not isinstance(meta.get("ids"), list):
        raise UserError(f"{sidecar}: has no list of ids; predict again, or delete it to evaluate {path.name} alone")
    asked = dict.fromkeys(map(str, meta.pop("ids")))
    found = {row["id"] for row in rows}
    missing = [row_id for row_id in asked if row_id not in found]
    extra = [row["id"] for row in rows if row["id"] not in asked]
    if missing or extra:
        faults = [f"{name} {_listed(ids)}" for name, ids in (("misses", missing), ("has unasked-for", extra)) if ids]
        raise UserError(f"{path}: {' and '.join(faults)} by the list in {sidecar.name}; run predict_exp1.py again")
    total = meta.get("rows_in_split") or len(rows)
    return meta, [len(rows), total] if len(rows) < total else None


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
        lines.append(ROW.format(name, f"{accuracy:.2%}", f"{prior:.2%}", f"{100 * (accuracy - prior):+.2f}"))
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
    decoding = "constrained" if facts["decoding"] == "greedy" else facts["decoding"]
    return f"{'untuned' if facts['adapter'] in (None, 'none') else 'tuned'}, {decoding}"



# ---------------------------------------------------------------------------------------------------------------------


def score_reachable(rows):
    """Scores of a model that is right wherever a row's constraint allows it, or None where the rows don't tell."""
    if not all(isinstance(row.get("reachable"), bool) for row in rows):
        return None
    return aggregate([{**row, "correct": row["reachable"]} for row in rows])


def score_blind_prior(cfg, rows, types, spellings):
    """Return the blind prior's scores on the rows, or None, saying why, where the training rows can't be had."""
    try:
        train = ensure_enriched(cfg, "train")
        prior = blind_prior(by_rules(train, "question_type") if types == "rules" else train)
    except UserError as error:
        print(f"no blind prior: {error}")
        return None
    return aggregate(judge(answer_blindly(rows, prior), cfg.eval, spellings))


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--predictions", metavar="PATH", help="evaluate this (default: output_dir/predictions.jsonl)")
    parser.add_argument("--show", metavar="N", type=int, default=0, help="print the first N mismatches")
    types = "group by the file's types (predicted, the default) or by the literal rules of data/schema.py"
    parser.add_argument("--types", choices=["predicted", "rules"], default="predicted", help=types)
    parser.add_argument("--summary", metavar="METRICS", nargs="+", help="compare metrics files instead; goes last")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    folder = cfg.config_path.parent
    if args.summary:
        return print(summary_table([resolve_path(path, folder) for path in args.summary]))
    path = resolve_path(args.predictions, folder) if args.predictions else cfg.output_dir / "predictions.jsonl"
    rows = load_predictions(path)
    sidecar, partial = load_sidecar(path, rows)
    if args.types == "rules":
        rows = by_rules(rows, "qtype")
    spellings = spellings_for(cfg, sidecar)
    judged = judge(rows, cfg.eval, spellings)
    scores = aggregate(judged)
    print(results_table(scores) + "\n")  # first on stdout, whatever follows

    blind = score_blind_prior(cfg, rows, args.types, spellings)
    if blind:
        print(blind_table(scores, blind))
    reachable = score_reachable(rows)
    print("\n" + "\n".join(notes(scores, partial, reachable)))
    if args.show > 0:
        show_mismatches(judged, args.show)
    out = metrics_path(cfg.output_dir, path, args.types)
    facts = {"predictions": str(path), **scores, "partial": partial, "blind_prior": blind, "reachable": reachable}
    save_run_info(out, cfg, **facts, tolerances=cfg.eval.model_dump(), sidecar=sidecar)
    print(f"metrics: {out}")


if __name__ == "__main__":
    run_script(main)
