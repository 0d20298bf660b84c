"""Do answer sets hold the truth as often as they promise? Over many random splits of the images of a predictions file.

    bash run_exp1.sh                                                                            first: the trained demo
    python predict_exp1.py --config config_demo.yaml predict.candidates_kept=all
    python predict_exp1.py --config config_demo.yaml --split test predict.candidates_kept=all --out outputs_demo/predictions_sets.jsonl
    python bench/coverage.py --config config_demo.yaml --sets outputs_demo/predictions_sets.jsonl

The temperature is fitted to output_dir/predictions.jsonl, of which no image is in --sets. In each of --splits random splits, three
quarters of the images (or patients) of --sets calibrate, and the rest is covered or not: rows of all images together, and as the mean
over images, before empty sets are filled and after. Exit code 1: the mean before is more than a point from a target.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from data.calibration import cut, tempered
from evaluation.calibrate import check_apart, check_candidates, fit_sets, fit_temperature, scored_rows
from evaluation.runs import load_all, load_sets
from files import run_script

TARGETS = (0.8, 0.9, 0.95)


def covered(part, temperature, least):
    """(is the truth in each row's set, is it empty, its size once filled), arrays (n,)."""
    shares = tempered(part.shares, temperature)
    chosen = (shares >= least - 1e-12) & (part.shares > 0)
    empty = ~chosen.any(axis=1)
    chosen[empty, shares[empty].argmax(axis=1)] = True
    return (chosen & part.right).any(axis=1), empty, chosen.sum(axis=1)


def one_split(scored, temperature, rng, target):
    """(coverage before empty sets are filled, after, mean over images before, mean size) of a random split."""
    names = rng.permutation(np.unique(scored.clusters))
    known = np.isin(scored.clusters, names[: 3 * len(names) // 4])
    new = scored.take(np.flatnonzero(~known))
    right, empty, sizes = covered(new, temperature, cut(fit_sets(scored.take(np.flatnonzero(known)), temperature), target))
    before = right & ~empty
    images = [before[new.clusters == name].mean() for name in np.unique(new.clusters)]
    return before.mean(), right.mean(), np.mean(images), sizes.mean()


def main():
    parser = argument_parser("How often answer sets hold the truth.", epilog=__doc__)
    parser.add_argument("--sets", metavar="PATH", required=True, help="predictions about images that chose nothing")
    parser.add_argument("--splits", type=int, default=200)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    settings = SimpleNamespace(predictions=None, compare=None, against=None, types="predicted", by=[], recipe=[], sets=args.sets)
    (run,) = load_all(cfg, [cfg.output_dir / "predictions.jsonl"], settings)
    sets_run = load_sets(cfg, settings)
    check_candidates(run)
    check_candidates(sets_run)
    check_apart(cfg, run, sets_run)
    temperature, scored = fit_temperature(scored_rows(run, cfg.eval)), scored_rows(sets_run, cfg.eval)
    count = len(np.unique(scored.clusters))
    print(f"{len(scored.rows):,} rows of {count} images or patients, {args.splits} splits, temperature {temperature:.3f}\n")
    print("| promised | before empty sets are filled | after | before, mean over images | lowest and highest split | answers a set |")
    print("|---|---|---|---|---|---|")
    far = False
    for target in TARGETS:
        rng = np.random.default_rng(0)
        found = np.array([one_split(scored, temperature, rng, target) for _ in range(args.splits)])
        before, after, images, size = found.mean(axis=0)
        ends = f"{found[:, 0].min():.2%}, {found[:, 0].max():.2%}"
        print(f"| {target:.0%} | {before:.2%} | {after:.2%} | {images:.2%} | {ends} | {size:.2f} |")
        far = far or abs(before - target) > 0.01
    return int(far)


if __name__ == "__main__":
    run_script(main)
