"""Fit a temperature and the scores of answer sets to predictions: `eval_exp1.py --calibrate`. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --calibrate")

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from config import PublicNames, near
from data import calibration as kept
from data.calibration import AGAIN, Calibration, Sets, cut, mark, rounded, tempered, tied
from data.image_names import images_of
from data.matching import judge
from data.rows import read_rows
from evaluation.metrics import calibration as reliability
from evaluation.metrics import compare_rows
from evaluation.tables import FEW_CLUSTERS, number
from evaluation.truth import unit_of
from files import UserError, printable, write_json

FOLDS = 5
BOUNDS = (-3.0, 3.0)  # of the temperature's logarithm
LEAST = 1e-300  # of a probability, for its logarithm


# ---------------------------------------------------------------------------------------------------------------------
# Rows


class Scored(NamedTuple):
    """Judged rows of which all candidates were scored, and where among them the truth is.

    shares: the candidates' probabilities, float (n, most candidates), 0 behind the last; right: which count as right, bool of the same
    shape; clusters: ints (n,). left_out: number of rows without scored candidates.
    """

    rows: list
    shares: np.ndarray
    right: np.ndarray
    clusters: np.ndarray
    left_out: int = 0

    def take(self, places):
        return Scored([self.rows[place] for place in places], self.shares[places], self.right[places], self.clusters[places])


def scored_rows(run, tolerances):
    """The Scored of a loaded run. Raises UserError for a row whose candidates have no probability at all."""
    rows = [row for row in run["judged"] if row.get("candidates_top")]
    for row in rows:
        if not any(rounded(value) for _, value in row["candidates_top"]):
            raise UserError(f"{near(run['path'])}: row {row['id']}: the probabilities of its candidates are all 0; predict it again")
    rankings = [row["candidates_top"] for row in rows]
    asked = [{**row, "pred": text} for row, ranking in zip(rows, rankings) for text, _ in ranking]
    verdicts = iter([row["correct"] for row in judge(asked, tolerances, run["conventions"])])
    shares = np.zeros((len(rows), max(map(len, rankings))))
    right = np.zeros(shares.shape, dtype=bool)
    for place, ranking in enumerate(rankings):
        shares[place, : len(ranking)] = [rounded(value) for _, value in ranking]
        right[place, : len(ranking)] = [next(verdicts) for _ in ranking]
    clusters = np.unique([row["cluster"] for row in rows], return_inverse=True)[1]
    return Scored(rows, shares, right, clusters, len(run["judged"]) - len(rows))


def check_candidates(run):
    """Raise UserError unless all candidates of a run's predictions are in the file, and it says what it was made from."""
    sidecar, path = run["sidecar"], near(run["path"])
    if not isinstance(sidecar.get("made_from"), dict) or "config" not in sidecar["made_from"]:
        raise UserError(f"{path}: has no sidecar that says what it was made from; {AGAIN.removesuffix(' again')}")
    if ((sidecar.get("config") or {}).get("predict") or {}).get("candidates_kept") != "all":
        raise UserError(f"{path}: holds the likeliest candidates alone; {AGAIN.removesuffix(' again')}")
    if not any(row.get("candidates_top") for row in run["judged"]):
        raise UserError(f"{path}: no row has scored candidates, which predict.decoding=exact gives; there is nothing to calibrate")


# ---------------------------------------------------------------------------------------------------------------------
# Fits


def losses(scored, temperatures):
    """Minus the logarithm of the probability of a right answer, (n,); 0 where no candidate is right, for nothing is learnt there.

    temperatures: (n,), or one number.
    """
    shares = tempered(scored.shares, np.broadcast_to(temperatures, len(scored.rows))[:, None])
    known = np.where(scored.right, shares, 0).sum(axis=1)
    return np.where(scored.right.any(axis=1), -np.log(np.maximum(known, LEAST)), 0.0)


def fit_temperature(scored):
    """The temperature (Guo et al. 2017) that makes the truths likeliest: the minimum of the mean loss; 1 where there is none."""
    if not informative(scored).any():
        return 1.0
    found = minimize_scalar(lambda value: losses(scored, np.exp(value)).mean(), bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def informative(scored):
    """Which rows tell anything of a temperature, bool (n,): not one whose truth is no candidate, or just as likely at any temperature."""
    tried = np.array([losses(scored, value) for value in (*np.exp(BOUNDS), 1.0)])
    return np.ptp(tried, axis=0) > 1e-9


def check_informative(scored, path):
    """Raise UserError where no row tells anything of a temperature."""
    if not informative(scored).any():
        without, alone = (~scored.right.any(axis=1)).sum(), ((scored.shares > 0).sum(axis=1) == 1).sum()
        rows = number(len(scored.rows), "row")
        why = f"{without:,} of {rows} have a truth that is no candidate, and {alone:,} one possible candidate alone"
        raise UserError(f"{near(path)}: any temperature fits as well: {why}; give predictions that leave it open which candidate is right")


def at_an_end(scored, temperature):
    """Do the truths get likelier to an end of the temperatures that are searched? Then there is no best one, and it says nothing."""
    least = losses(scored, temperature).mean()
    return any(losses(scored, end).mean() <= least + 1e-9 for end in np.exp(BOUNDS))


def cross_fit(scored):
    """(temperature of each row, (n,), fitted without its image; those of the folds). Images are dealt to at most FOLDS folds by chance."""
    names = np.unique(scored.clusters)
    if len(names) < 2:
        raise UserError("a temperature needs predictions about two images or patients at least; give more")
    fold_of = dict(zip(np.random.default_rng(0).permutation(names).tolist(), np.arange(len(names)) % FOLDS))
    folds = np.array([fold_of[cluster] for cluster in scored.clusters.tolist()])
    values = [fit_temperature(scored.take(np.flatnonzero(folds != fold))) for fold in range(folds.max() + 1)]
    return np.array(values)[folds], values


def reliability_of(scored, temperatures):
    """{nll, ece, brier} with each row at its temperature, (n,)."""
    surest = tempered(scored.shares, temperatures[:, None]).max(axis=1).tolist()
    found = reliability([item._replace(confidence=share) for item, share in zip(compare_rows(scored.rows), surest)])
    return {"nll": float(losses(scored, temperatures).mean()), "ece": found["ece"], "brier": found["brier"]}


def fit_sets(scored, temperature):
    """The Sets of some rows: the probability of each truth, every image weighing 1."""
    sizes = np.bincount(scored.clusters)
    known = np.where(scored.right, tempered(scored.shares, temperature), -1).max(axis=1)
    truths = sorted(zip(known.tolist(), (1 / sizes[scored.clusters]).tolist()), reverse=True)
    truths = [list(pair) for pair in truths if pair[0] >= 0]
    facts = {"clusters": int((sizes > 0).sum()), "rows": len(known), "uncoverable": len(known) - len(truths)}
    return Sets(**facts, images=sorted(set(map(mark, scored.rows))), truths=truths)


# ---------------------------------------------------------------------------------------------------------------------
# The stage


def calibrate(cfg, run, sets_run=None):
    """Fit to a loaded run, print what came of it, and write output_dir/calibration.json.

    The images that chose the adapter, the first `train.eval_images` of the file, fit the temperature, and its others the answer
    sets; with `sets_run`, a run about images that chose neither, all of the first fit the temperature.
    """
    check_candidates(run)
    scored = scored_rows(run, cfg.eval)
    if sets_run:
        check_candidates(sets_run)
        check_apart(cfg, run, sets_run)
        others = scored_rows(sets_run, cfg.eval)
    else:
        scored, others = shared_out(scored, cfg.train.eval_images)
    check_informative(scored, run["path"])
    temperatures, folds = cross_fit(scored)
    temperature, ones = fit_temperature(scored), np.ones(len(scored.rows))
    public, unit = PublicNames(cfg), unit_of(scored.rows)
    facts = {
        "temperature": temperature,
        "folds": folds,
        "rows": len(scored.rows),
        "clusters": len(np.unique(scored.clusters)),
        "unit": unit,
    }
    facts |= {"before": reliability_of(scored, ones), "after": reliability_of(scored, temperatures)}
    facts |= {"sets": fit_sets(others, temperature) if others else None, "predictions": public.path(run["path"])}
    facts |= {"predictions_of_sets": public.path((sets_run or run)["path"]) if others else None}
    found = Calibration(**facts, made_from=tied(run["sidecar"]["made_from"]))
    print("\n".join(calibration_lines(cfg, found, scored, others)))
    write_json(out := cfg.output_dir / kept.FILE, found.model_dump(mode="json"))
    print(f"calibration: {near(out)}")
    helps = found.after["nll"] < found.before["nll"] and not at_an_end(scored, temperature)
    if told := [*(["predict.calibrated=true"] if helps else []), *(["predict.coverage=0.9"] if others else [])]:
        print(f"next: {cfg.command('predict_exp1.py', '--split', 'test', *told)}")


def shared_out(scored, count):
    """(rows of the clusters of the first `count` images, the others or None)."""
    images = list(dict.fromkeys(tuple(images_of(row)) if row.get("image") else (row["id"],) for row in scored.rows))
    first = set(images[:count])
    chose = {row["cluster"] for row in scored.rows if (tuple(images_of(row)) if row.get("image") else (row["id"],)) in first}
    own = [place for place, row in enumerate(scored.rows) if row["cluster"] in chose]
    rest = [place for place, row in enumerate(scored.rows) if row["cluster"] not in chose]
    return scored.take(own)._replace(left_out=scored.left_out), scored.take(rest) if rest else None


def check_apart(cfg, run, sets_run):
    """Raise UserError where images that are to calibrate the sets chose the adapter or the temperature, or trained, or where the two
    files come from other adapters."""
    name = f"--sets {near(sets_run['path'])}"
    if changed := kept.other(tied(run["sidecar"]["made_from"]), tied(sets_run["sidecar"]["made_from"])):
        raise UserError(f"{name}: was made with other {', '.join(changed)} than {near(run['path'])}; predict again")
    seen = dict.fromkeys(_places(run["judged"]), "the temperature")
    for split in ("val", "train"):
        path = getattr(cfg.data, f"{split}_jsonl")
        seen |= dict.fromkeys(_places(read_rows(path, need_answer=False)) if path and path.is_file() else (), "the adapter")
    if both := sorted(_places(sets_run["judged"]) & seen.keys()):
        what = f"{len(both):,} images or groups of it, such as {both[0]}, chose {seen[both[0]]}"
        raise UserError(f"{name}: {what}; give predictions about images that chose neither")


def _places(rows):
    """Names of the images and groups that rows are about."""
    rows = list(rows)
    images = {f"image {name}" for row in rows if row.get("image") for name in images_of(row)}
    return images | {f"group {row['group']}" for row in rows if row.get("group") not in (None, "")}


def calibration_lines(cfg, found, scored, others):
    """What was fitted, in words."""
    yield f"temperature {found.temperature:.4f}, of {number(found.rows, 'row')} of {number(found.clusters, found.unit)}"
    yield f"  without a part of the {found.unit} at a time: {', '.join(f'{value:.3f}' for value in found.folds)}"
    if at_an_end(scored, found.temperature):
        low, high = np.exp(BOUNDS)
        yield f"WARNING: no temperature from {low:.2f} to {high:.2f} is best: the truths get likelier to the end. All these rows are"
        yield "  right, or nearly all wrong: that is no calibration; leave predict.calibrated at false, and fit to more rows"
    elif found.temperature > 1.01:
        yield "  the model is too sure of itself: probabilities are drawn together"
    elif found.temperature < 0.99:
        yield "  the model is too unsure of itself: probabilities are drawn apart"
    yield ""
    yield f"{'':<24} {'NLL':>8} {'ECE':>8} {'Brier':>8}"
    for name, scores in (("as predicted", found.before), ("with it, cross-fitted", found.after)):
        yield f"{name:<24} {scores['nll']:>8.4f} {scores['ece']:>8.4f} {scores['brier']:>8.4f}"
    if found.after["nll"] >= found.before["nll"]:
        yield "On images that had no part in it the temperature doesn't help: leave predict.calibrated at false."
    if scored.left_out:
        yield f"left out: {number(scored.left_out, 'row')} whose candidates weren't all scored (free answers, lists by beams)"
    yield ""
    if others is None:
        chose = f"all {found.clusters:,} {found.unit} chose the adapter or fit the temperature"
        yield f"no answer sets: {chose}; give predictions about others with --sets PATH"
        return
    sets = found.sets
    about = f"{number(sets.rows, 'row')} of {number(sets.clusters, unit_of(others.rows))}"
    yield f"answer sets: {about} that chose neither adapter nor temperature"
    for coverage in (0.8, 0.9, 0.95):
        least = cut(sets, coverage)
        shares = tempered(others.shares, found.temperature)
        sizes = np.maximum(1, (shares >= least).sum(axis=1))
        what = f"candidates from {least:.4f} on, {np.mean(sizes):.2f} answers a set" if least else "all candidates: too few images"
        yield f"  coverage {coverage:.0%}: {what}"
    if sets.uncoverable:
        yield f"WARNING: the truth of {number(sets.uncoverable, 'row')} is no candidate, so no set can hold it"
    if sets.clusters < FEW_CLUSTERS:
        yield f"WARNING: {number(sets.clusters, found.unit)}: the coverage of sets holds on average over such calibrations, and varies much"
    yield printable("The guarantee is for other images of the same kind, on average: not for another hospital, nor for each question type.")
