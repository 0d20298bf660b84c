"""Evaluate predictions: accuracy per question type, beside what a model scores that never looks at the image.

    python eval_exp1.py                                      output_dir/predictions.jsonl -> metrics.json, report.html
    python eval_exp1.py --predictions PATH --show 20         any predictions file, and its first 20 mistakes
    python eval_exp1.py --predictions PATH --against DATA    ids, questions and answers checked against the data file
    python eval_exp1.py --predictions A B C                  one configuration, several seeds: mean and deviation
    python eval_exp1.py --compare A B                        B against A, row by row, and what can be concluded
    python eval_exp1.py --compare A1 A2 A3 -- B1 B2 B3       the same over several seeds on both sides
    python eval_exp1.py --by stage hospital                  the scores by these columns of the data file, too
    python eval_exp1.py --recipe medico surgvu25             by the metrics of leaderboards: surgvu25, surgvu26, medico, vqla
    python eval_exp1.py --calibrate                          fit a temperature and answer sets -> calibration.json, for prediction
    python eval_exp1.py --compare A B --pair wording         the same, where B asks the questions in other words
    python eval_exp1.py --robustness                         beside what predict_exp1.py --perturb made of the same rows
    python eval_exp1.py --types rules                        grouped by data/schema.py's rules, as the user's table is
    python eval_exp1.py --summary outputs/metrics*.json      several evaluations in one table, also as CSV or LaTeX (--format)

Reads a predictions file (rows of id, pred, gt, qtype; with a data file also those of LLaMA-Factory and ms-swift), its sidecar
if it has one, and the training rows for types, spellings and the blind prior. With a data file (--against; without
--predictions it is data.val_jsonl) all but the answers comes from there. Writes the metrics and an HTML report to output_dir.
Prints the experiment's table and one table beside it; -v adds the rest, which stands in metrics and report in any case.
How answers match: data/matching.py; scores: evaluation/metrics.py; intervals and tests: evaluation/intervals.py.
"""

import gc
import re
import sys
from pathlib import Path

from config import argument_parser, load_config, resolve_path
from files import UserError, run_script

SIDES = "\0"  # stands for `--` between two sides of --compare, which argparse would swallow
OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_]+)*=")


def parse_arguments():
    parser = argument_parser(__doc__)
    files = parser.add_mutually_exclusive_group()
    default = "(default: output_dir/predictions.jsonl)"
    files.add_argument("--predictions", metavar="PATH", nargs="+", help=f"evaluate this, or several seeds {default}")
    files.add_argument("--compare", metavar="FILE", nargs="+", help="A B: evaluate B, and compare it with A row by row; seeds: A… -- B…")
    files.add_argument("--summary", metavar="METRICS", nargs="+", help="compare metrics files instead")
    parser.add_argument("--pair", choices=["wording"], help="--compare: rows of one id are pairs though their questions differ")
    perturbed = "add what other pictures and other words change: predictions of --perturb, which lie beside"
    parser.add_argument("--robustness", action="store_true", help=perturbed)
    parser.add_argument("--format", choices=["text", "csv", "latex"], default="text", help="how --summary is printed")
    parser.add_argument("--against", metavar="DATA", help="the data file that the predictions answer: what it says is believed")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every score, not the accuracies only")
    parser.add_argument("--show", metavar="N", type=int, default=0, help="print the first N mismatches")
    types = "group by the file's types (predicted, the default) or by the literal rules of data/schema.py"
    parser.add_argument("--types", choices=["predicted", "rules"], default="predicted", help=types)
    calibrate = "fit a temperature to these predictions (default: the validation split's), and answer sets to others of their images"
    parser.add_argument("--calibrate", action="store_true", help=calibrate)
    parser.add_argument("--sets", metavar="PATH", help="with --calibrate: predictions about the images that answer sets are fitted to")
    parser.add_argument("--by", metavar="FIELD", nargs="+", default=[], help="the scores by a column of the data file, or several")
    parser.add_argument("--recipe", metavar="NAME", nargs="+", default=[], help="add a leaderboard's metrics, with its own settings")
    parser.add_argument("--text-metrics", action="store_true", help="add BLEU and ROUGE-L")
    parser.add_argument("--report", metavar="PATH", help="where the HTML report goes, or none (default: output_dir/report.html)")
    parser.add_argument(
        "--no-images", action="store_true", help="a report without pictures, their names and ids; groups, questions and answers stay"
    )
    sides = SIDES if any(text.startswith("--co") for text in sys.argv) else "--"
    args = parser.parse_intermixed_args([sides if text == "--" else text for text in sys.argv[1:]])
    for files in (args.predictions, args.compare, args.summary, args.by, args.recipe):  # which swallow an override that follows them
        for text in [text for text in files or [] if OVERRIDE.match(text) and not Path(text).exists()]:
            files.remove(text)
            args.overrides.append(text)
    if args.pair and not args.compare:
        parser.error("--pair wording belongs to --compare A B")
    if args.robustness and (args.compare or args.summary or len(args.predictions or ()) > 1):
        parser.error("--robustness is about one predictions file, and what lies beside it")
    if args.compare:
        args.compare = two_sides(parser, args.compare)
    if args.sets and not args.calibrate:
        parser.error("--sets needs --calibrate")
    if args.calibrate and (args.compare or args.summary or len(args.predictions or []) > 1):
        parser.error("--calibrate takes one file of predictions, and --sets PATH")
    return args


def two_sides(parser, files):
    """([A…], [B…]) of --compare's files: `A B`, or several seeds as `A1 A2 -- B1 B2`."""
    if SIDES not in files and len(files) == 2:
        return [files[:1], files[1:]]
    place = files.index(SIDES) if SIDES in files else 0
    sides = [files[:place], files[place + 1 :]]
    if not all(sides) or SIDES in sides[1]:
        parser.error("--compare takes two files, A B, or the seeds of both sides with -- between them: A1 A2 A3 -- B1 B2 B3")
    return sides


def files_to_read(cfg, args):
    """Paths of the predictions to evaluate. Raises UserError for one that does not exist; `args.against` becomes a path, too."""
    folder = cfg.config_path.parent
    chosen = sum(args.compare, []) if args.compare else args.predictions
    paths = [resolve_path(path, folder) for path in chosen] if chosen else [cfg.output_dir / "predictions.jsonl"]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; predict first: {cfg.command('predict_exp1.py')}")
    for side in args.compare or [chosen or []]:
        if twice := [path for path in dict.fromkeys(side) if side.count(path) > 1]:
            raise UserError(f"{twice[0]} is given twice; seeds are different runs")
    if args.against:
        args.against = resolve_path(args.against, folder)
        if not args.against.is_file():
            raise UserError(f"--against {args.against}: there is no such file")
    return paths


def report_path(cfg, run, args):
    """Where the report goes: --report, or output_dir/report.html, named as the metrics, seeds or comparison are. None: nowhere."""
    if args.report == "none":
        return None
    if args.report:
        return resolve_path(args.report, cfg.config_path.parent, writing=True)
    about = run.get("about_file")
    name = f"report_{about.stem}" if about else run["metrics"].stem.replace("metrics", "report", 1)
    return cfg.output_dir / f"{name}.html"


def main():
    gc.disable()  # rows are many and in no circles: the collector would walk through all of them again and again
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    if not args.summary:
        paths = files_to_read(cfg, args)

    # numpy and scipy take a second: what the user mistyped is said before
    from evaluation.calibrate import calibrate
    from evaluation.runs import evaluate, evaluate_pair, evaluate_seeds, load_all, load_sets, shown
    from evaluation.summary import summary_table

    if args.summary:
        return print(summary_table([resolve_path(path, cfg.config_path.parent) for path in args.summary], args.format))
    runs = load_all(cfg, paths, args)
    if args.calibrate:
        return calibrate(cfg, runs[0], load_sets(cfg, args) if args.sets else None)
    if args.compare:
        count = len(args.compare[0])
        run = evaluate_pair(cfg, (runs[:count], runs[count:]), args)
    else:
        run = evaluate_seeds(cfg, runs, args) if len(runs) > 1 else evaluate(cfg, runs[0], args)
    if out := report_path(cfg, run, args):
        from evaluation.report import write_report  # matplotlib takes its time

        write_report(out, cfg, run, images=not args.no_images)
        print(f"report: {shown(out)}")
    if not args.verbose:
        print("more scores: -v; mistakes: --show 20")


if __name__ == "__main__":
    run_script(main)
