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
Prints the experiment's table and one table beside it; -v adds the rest, which stands in metrics and report in any case.
How answers match: data/matching.py; scores: evaluation/metrics.py; intervals and tests: evaluation/intervals.py.
"""

import re
from pathlib import Path

from config import argument_parser, load_config, near, resolve_path
from files import UserError, run_script

OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_]+)*=")


def parse_arguments():
    parser = argument_parser(__doc__)
    files = parser.add_mutually_exclusive_group()
    default = "(default: output_dir/predictions.jsonl)"
    files.add_argument("--predictions", metavar="PATH", nargs="+", help=f"evaluate this, or several seeds {default}")
    files.add_argument("--compare", metavar=("A", "B"), nargs=2, help="evaluate B, and compare it with A row by row")
    files.add_argument("--summary", metavar="METRICS", nargs="+", help="compare metrics files instead")
    parser.add_argument("--against", metavar="DATA", help="check ids, questions and ground truth against this data file")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every score, not the accuracies only")
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


def files_to_read(cfg, args):
    """Paths of the predictions to evaluate. Raises UserError for one that does not exist; `args.against` becomes a path, too."""
    folder = cfg.config_path.parent
    chosen = args.compare or args.predictions
    paths = [resolve_path(path, folder) for path in chosen] if chosen else [cfg.output_dir / "predictions.jsonl"]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; predict first: {cfg.command('predict_exp1.py')}")
    if args.against:
        args.against = resolve_path(args.against, folder)
        if not args.against.is_file():
            raise UserError(f"--against {args.against}: there is no such file")
    return paths


def report_path(cfg, run, args):
    """Where the report goes: --report, or output_dir/report.html, named after the predictions as the metrics are. None: nowhere."""
    if args.report == "none":
        return None
    if args.report:
        return resolve_path(args.report, cfg.config_path.parent, writing=True)
    return run["metrics"].with_name(run["metrics"].name.replace("metrics", "report", 1)).with_suffix(".html")


def main():
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    if not args.summary:
        paths = files_to_read(cfg, args)

    # numpy and scipy take a second: what the user mistyped is said before
    from evaluation.runs import evaluate, evaluate_pair, evaluate_seeds, load
    from evaluation.tables import summary_table

    if args.summary:
        return print(summary_table([resolve_path(path, cfg.config_path.parent) for path in args.summary]))
    runs = [load(cfg, path, args) for path in paths]
    if args.compare:
        run = evaluate_pair(cfg, runs, args)
    else:
        run = evaluate_seeds(cfg, runs, args) if len(runs) > 1 else evaluate(cfg, runs[0], args)
    if out := report_path(cfg, run, args):
        from evaluation.report import write_report  # matplotlib takes its time

        write_report(out, cfg, run)
        print(f"report: {near(out)}")
    if not args.verbose:
        print("more scores: -v; mistakes: --show 20")


if __name__ == "__main__":
    run_script(main)
