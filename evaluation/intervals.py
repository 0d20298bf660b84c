"""How sure a score is: 95 % intervals and tests that know that questions about one image are not independent.

Nine questions about an image share its blur, its lesion and its annotator. Taking rows as independent makes intervals
too narrow (by half on synthetic data with image effects), so what counts is the cluster: the image, or the patient or
video where rows have a `group`. Nothing is drawn: no torch, no files, and blind to the order of clusters
and to rows that all clusters repeat. How often they hold the truth: `python bench/evaluate.py --coverage`.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

LEVEL = 0.95
UPPER = (1 + LEVEL) / 2  # the probability below the upper end
Z = float(ndtri(UPPER))
ONE_RUN = (0.0, np.inf)  # variance between seeds and its degrees of freedom, where there is but one
LEAST_DF = 0.1  # Student's t at fewer degrees of freedom is as good as infinite


class Interval(NamedTuple):
    """low, high: shares of 1. method: `Wilson`, `clustered Wilson`, `MOVER` or `score`."""

    low: float
    high: float
    method: str


class Spread(NamedTuple):
    """What a ratio's interval needs to know of its clusters: see `spread`."""

    ratio: float
    size: float
    votes: float
    effect: float
    df: float
    skew: float
    changed: float
    seeds: float = 0.0


def cluster_sums(clusters, *columns):
    """Totals of each column (n,) within each cluster: (number of clusters, number of columns), float64.

    clusters: n hashable keys that can be sorted, such as image names.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    totals = [np.bincount(index, weights=np.asarray(column, dtype=float), minlength=len(names)) for column in columns]
    return np.stack(totals, axis=1)


def effective_clusters(sums):
    """How many clusters of one size weigh as much: (sum of rows)² / sum of rows² (Kish 1965), between 1 and their number.

    sums: (clusters, k), rows first. Below about 20, intervals and tests rest on little (Carter, Schnepel & Steigerwald 2017).
    """
    rows = np.sort(np.asarray(sums, dtype=float)[:, 0])
    return float(rows.sum() ** 2 / (rows**2).sum())


def leverage_free_variance(shares, residuals):
    """Variance of a ratio from its clusters' shares of rows and residuals, both (clusters,) and divided by all rows.

    A large cluster pulls the ratio towards itself, so that its residual is too small. Each square is divided by what is left
    of it where rows of a cluster agree (the bias-reduced estimate of Bell & McCaffrey 2002 with that working model).
    """
    left = 1 - 2 * shares + (shares**2).sum()
    return float((residuals**2 / left).sum()) if len(shares) > 1 else 0.0


def spread(sums):
    """Spread of the ratio of column 1 to column 0 of `sums` (clusters, 2), each entry of column 1 at most its rows in size.

    ratio; size: mean of |column 1| a row; votes: effective clusters. effect: the variance over that of `votes` independent
    clusters which go one way as a whole: 1 where they do, and where all clusters score alike, for then nothing tells how
    unlike another would be; about 1 / rows where rows are independent. df: the degrees of freedom that the variance rests
    on, the effective number of clusters by their part in it, less one. skew: of the ratio, by its clusters' third moments. changed:
    the effective number of clusters where column 1 is not 0. seeds: the variance between seeds, which `_with_seeds` adds.
    """
    sums = np.asarray(sums, dtype=float)
    rows, top = sums[np.lexsort(sums.T)].T  # sorted, so that the order of clusters doesn't change the last bits
    total = rows.sum()
    ratio, size, shares = float(top.sum() / total), float(np.abs(top).sum() / total), rows / total
    residuals = (top - ratio * rows) / total
    evenness = float((shares**2).sum())
    variance = leverage_free_variance(shares, residuals)
    alike = variance <= 1e-20 or len(rows) < 2
    effect = 1.0 if alike else variance / (size - ratio**2 + variance) / evenness
    agree = min(effect, 1.0)  # 0: rows are independent, 1: clusters go one way
    parts = (1 - agree) * shares + agree * shares**2 / evenness
    skew = 0.0 if alike else float((residuals**3).sum() / (residuals**2).sum() ** 1.5)
    changed = float(np.abs(top).sum() ** 2 / max((top**2).sum(), 1e-300))
    return Spread(ratio, size, 1 / evenness, effect, float(1 / (parts**2).sum()) - 1, skew, changed)


# ---------------------------------------------------------------------------------------------------------------------
# Accuracies


def wilson(right, n):
    """Wilson's score interval (Wilson 1927) of `right` successes in `n` independent trials, n > 0; neither need be whole."""
    share, pull = right / n, Z**2 / n
    half = np.sqrt(pull * share * (1 - share) + pull**2 / 4)
    low, high = (share + pull / 2 - half) / (1 + pull), (share + pull / 2 + half) / (1 + pull)
    return Interval(float(max(0, min(low, share))), float(min(1, max(high, share))), "Wilson")


def accuracy_interval(sums):
    """Interval of the share of right rows. sums: (clusters, 2), rows and right rows of each cluster, rows >= 1.

    Wilson's interval with the number of independent rows that would be as sure, t instead of z included (survey statistics'
    effective sample size: Korn & Graubard 1998; Dean & Pagano 2015 compare such intervals). Few errors tell little about how
    they cluster: below 15 % the degrees of freedom fall in proportion. No interval is wider than that of one vote a cluster,
    which is Wilson's own where each cluster is one row.
    """
    found = spread(sums)
    seen = min(1.0, 8 * found.ratio * (1 - found.ratio))
    t = stdtrit(max(found.df * seen, LEAST_DF), UPPER)
    votes = found.votes / max(found.effect, 1.0)
    rows = Z**2 * found.votes / (t**2 * found.effect)
    n = max(rows, votes)
    return wilson(found.ratio * n, n)._replace(method="Wilson" if n == votes else "clustered Wilson")


def macro_interval(sums, intervals=None):
    """Interval of the mean accuracy of several types. sums: (types, clusters, 2), zeros where a cluster lacks the type.

    intervals: the types' own, `accuracy_interval` by default; with those of differences it is that of their mean.
    MOVER (Zou & Donner 2008): the ends of the types' own intervals are as far from the mean as their errors together, which
    correlate as the clusters' residuals do (a few clusters tell little of that, so the fewer, the nearer to 1). So a type of
    one row, whose residual is 0, still adds what one row leaves open, and one type has its own interval.
    """
    sums = np.asarray(sums, dtype=float)
    sums = sums[:, np.lexsort(np.concatenate(list(sums), axis=1).T)]
    intervals = intervals or [accuracy_interval(one[one[:, 0] > 0]) for one in sums]
    if len(sums) == 1:
        return intervals[0]
    accuracies = sums[:, :, 1].sum(axis=1) / sums[:, :, 0].sum(axis=1)
    doubt = 1 / max(1.0, effective_clusters(sums.sum(axis=0)) - 1)
    correlation = doubt + (1 - doubt) * _correlation(sums[:, :, 1] - accuracies[:, None] * sums[:, :, 0])
    below, above = (np.abs(accuracies - [interval[end] for interval in intervals]) for end in (0, 1))
    low, high = (np.sqrt(max(0.0, gaps @ correlation @ gaps)) / len(sums) for gaps in (below, above))
    lowest, highest = min(interval.low for interval in intervals), max(interval.high for interval in intervals)
    return Interval(float(max(lowest, accuracies.mean() - low)), float(min(highest, accuracies.mean() + high)), "MOVER")


def _correlation(residuals):
    """Cosines between the rows of `residuals` (types, clusters): (types, types); rows of zeros, which tell nothing, count as
    alike among themselves and unlike all others."""
    lengths = np.sqrt((residuals**2).sum(axis=1, keepdims=True))
    silent = lengths <= 1e-12
    directions = np.divide(residuals, lengths, out=np.zeros_like(residuals), where=~silent)
    cosines = directions @ directions.T + silent * silent.T
    np.fill_diagonal(cosines, 1)
    return cosines


# ---------------------------------------------------------------------------------------------------------------------
# Paired differences


def _beyond(t, skew):
    """What a skewed ratio's distance in standard errors has to reach for a t without skew: at least t itself.

    Hall's (1992) cubic, turned round: where few clusters lost much and many gained little, the few may just be missing.
    """
    return max(t, 3 / skew * (np.cbrt(1 + skew * (t - skew / 6)) - 1)) if abs(skew) > 1e-6 else t


def _limited(found, df):
    """`df`, but for what the clusters that changed allow the test of 0: with one and a half for each, where clusters are single
    rows, it nearly always rejects what McNemar's exact one does."""
    return max(min(df, 1.5 * found.changed), LEAST_DF)


def _size_at(found, d):
    """The share of rows that change if the difference is d: 2 q + d, where q, the share that B loses, is the likeliest given d
    and the shares gained and lost (Tango 1998). At 0 and at the difference found it is `size`."""
    lost = (found.size - found.ratio) / 2
    b = (2 - found.ratio) * d - found.size
    return (sqrt(max(0.0, b**2 + 8 * lost * d * (1 - d))) - b) / 2 + d


def _furthest(found, t, t_votes):
    """The largest d that a score test does not reject, by bisection: (d - ratio)² = k · (size at d - d²) + t² · seeds.

    t: its critical value; t_votes: that of one vote a cluster, which bounds k. Both normal and each cluster one row, it is the
    end of Tango's interval; with no row changed, of Wilson's for 0.
    """
    t = float(_beyond(t, -found.skew))
    k, beside = t**2 * found.effect / found.votes, t**2 * found.seeds
    if not found.seeds:
        k = min(k, float(t_votes) ** 2 * max(found.effect, 1.0) / found.votes)
    low, high = found.ratio, 1.0
    for _ in range(50):
        d = (low + high) / 2
        low, high = (d, high) if (d - found.ratio) ** 2 <= k * (_size_at(found, d) - d**2) + beside else (low, d)
    return high


def _upper(found):
    """Upper end of a difference. Few changed clusters make `paired_test` more cautious about 0, and about nothing else: the end
    is below 0 only where the test says so, but a gain isn't larger because fewer clusters show it."""
    tested = _furthest(found, *(stdtrit(_limited(found, df), UPPER) for df in (found.df, found.votes)))
    return min(tested, max(0.0, _furthest(found, stdtrit(max(found.df, LEAST_DF), UPPER), Z)))


def _with_seeds(found, variance, df):
    """A Spread with the variance between seeds beside its own, and Satterthwaite's (1946) degrees of freedom for both."""
    if not variance:
        return found
    own = found.effect * max(found.size - found.ratio**2, 0.0) / found.votes
    both = (own + variance) ** 2 / (own**2 / max(found.df, LEAST_DF) + variance**2 / df)
    return found._replace(df=both, seeds=variance)


def difference_interval(sums, seeds=ONE_RUN):
    """Interval of a paired difference in accuracy. sums: (clusters, 2), rows and (right by B) - (right by A) of each.

    The second column may be means over seeds; seeds: the variance of the difference between seeds, and its degrees of freedom.
    It excludes 0 exactly where `paired_test` says p < 0.05, and exchanging the files mirrors it.
    """
    found = _with_seeds(spread(sums), *seeds)
    return Interval(0.0 - _upper(found._replace(ratio=-found.ratio, skew=-found.skew)), _upper(found), "score")


def paired_test(sums, seeds=ONE_RUN):
    """(two-sided p, name of the test) that the paired difference of `difference_interval`'s sums is 0.

    A score test: McNemar's (1947), where each cluster is one row, with the variance between clusters and Student's t, and
    with Hall's correction for skewness where that is more cautious. No test sees a loss that none of its clusters shows. Where
    all gain alike, nothing tells how unlike another would be, and a cluster is one vote: 20 images that gain one row of nine
    each reach p = 0.15, for a loss of all nine in one image of ten would undo it, and is in none of 20 once in eight times.
    """
    found = _with_seeds(spread(sums), *seeds)
    if not found.ratio:
        return 1.0, "score test by cluster"
    t = abs(found.ratio) / np.sqrt(found.size * found.effect / found.votes + found.seeds)
    skew = found.skew * np.sign(found.ratio)
    hall = ((1 + skew * t / 3) ** 3 - 1) / skew + skew / 6 if abs(skew) > 1e-6 else t
    p = 2 * stdtr(_limited(found, found.df), -min(t, hall))
    if not found.seeds:
        p = min(p, 2 * stdtr(_limited(found, found.votes), -t * np.sqrt(min(found.effect, 1.0))))
    return float(min(1.0, p)), "score test by cluster"


def holm(p_values):
    """Adjusted p values (Holm 1979), in the given order: reject where at most alpha, and the family's error is alpha."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    return [float(adjusted[place]) for place in np.argsort(order)]
