"""What `eval_exp1.py --calibrate` found and prediction applies: a temperature, and the scores that answer sets are cut by. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --calibrate")

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config import near
from files import UserError, hash_of, read_json

FILE = "calibration.json"
TIES = ("adapter", "answer space", "model files")  # facts of predictions (`prediction.run.run_facts`) that a calibration holds for
FREE = ("predict.min_confidence", "predict.candidates_kept", "predict.calibrated", "predict.coverage", "predict.max_new_tokens")
AGAIN = "predict the calibration rows with predict.candidates_kept=all, and run eval_exp1.py --calibrate again"

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Sets(Section):
    """Of the images that answer sets are calibrated on: `truths` is [probability of the truth, weight], the likeliest first; the
    weights of an image's rows add to 1. uncoverable: rows whose truth is no candidate. images: what `mark` makes of their names."""

    clusters: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]
    uncoverable: Annotated[int, Field(ge=0)]
    images: list[str]
    truths: list[Annotated[list[float], Field(min_length=2, max_length=2)]]


class Calibration(Section):
    """temperature: probabilities among the candidates are taken to the power 1 / temperature. folds: those of cross-fitting. before,
    after: scores without it and, each row by a temperature that its image had no part in, with it. made_from: what it holds for."""

    temperature: Annotated[float, Field(gt=0)]
    rows: Annotated[int, Field(ge=1)]
    clusters: Annotated[int, Field(ge=2)]
    unit: str
    folds: list[Annotated[float, Field(gt=0)]]
    before: dict[str, float]
    after: dict[str, float]
    sets: Sets | None
    predictions: str
    predictions_of_sets: str | None
    made_from: dict[str, Any]


def tied(facts):
    """Of all facts of predictions (their sidecar's `made_from`) those that a calibration holds for."""
    config = {key: value for key, value in facts["config"].items() if key not in FREE}
    return {**{name: facts.get(name) for name in TIES}, "config": config}


def load(path, facts):
    """The Calibration in a file. facts: of the predictions that it is to be applied to.

    Raises UserError where there is none, it is damaged, or it was fitted to another adapter, answer space or configuration.
    """
    if not path.is_file():
        raise UserError(f"{near(path)}: there is none; {AGAIN.removesuffix(' again')}")
    try:
        found = Calibration(**read_json(path))
    except (ValidationError, TypeError) as error:
        first = error.errors()[0]["loc"][:1] if isinstance(error, ValidationError) else ()
        raise UserError(f"{near(path)}: {'.'.join(map(str, first)) or 'it'} is not as it was written; {AGAIN}") from None
    if changed := other(found.made_from, tied(facts)):
        raise UserError(f"{near(path)}: was fitted with other {', '.join(changed)}; {AGAIN}")
    return found


def other(one, another):
    """Names of the tied facts that differ, configuration keys by their own."""
    names = [name for name in TIES if one.get(name) != another.get(name)]
    first, second = one.get("config") or {}, another.get("config") or {}
    return names + sorted(key for key in {*first, *second} if first.get(key) != second.get(key))


def mark(row):
    """What tells a row's image from others without naming it, which may name a patient."""
    return hash_of(row.get("image") or row["id"])[:16]


def rounded(probability):
    """A probability with six significant digits, as calibration reads it from a file and prediction has to."""
    return float(f"{probability:.6g}")


def tempered(probabilities, temperature):
    """Probabilities (…, n) to the power 1 / temperature, adding to 1 again (Guo et al. 2017, of the logits' softmax): floats (…, n)."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=float)) / temperature
    shares = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def cut(sets, coverage):
    """The least probability that a candidate of an answer set has, so that sets hold the truth with probability `coverage`.

    Split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2023) with one minus the truth's probability as the score.
    Rows of an image aren't exchangeable, images are: each counts once, its rows sharing its weight, and the image to come counts
    with an infinite score (Lee, Barber & Willett 2023). Then a row drawn from a new image of the same kind is covered at least so
    often, on average over images. 0, so that sets hold all candidates, where the images are too few for that.
    """
    weight = 0.0
    for probability, own in sets.truths:
        weight += own
        if weight >= coverage * (sets.clusters + 1) - 1e-9:
            return probability
    return 0.0


def answer_set(ranking, temperature, least):
    """(texts of the candidates at least so probable, likeliest first; whether it would be empty). ranking: [text, probability].

    An empty set, which split conformal prediction allows, is filled with the likeliest candidate: it can only cover more.
    """
    shares = tempered([rounded(value) for _, value in ranking], temperature)
    texts = [text for (text, _), share in zip(ranking, shares) if share >= least - 1e-12]
    return texts or [ranking[0][0]], not texts
