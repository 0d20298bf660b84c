"""How sure a score is: 95 % intervals and tests that know that questions about one image are not independent.

Nine questions about an image share its blur, its lesion and its annotator. Taking rows as independent makes intervals
too narrow (by half on synthetic data with image effects), so the unit drawn is the cluster: the image, or the patient or
video where rows have a `group`. No torch, no files; seeded, and blind to the order of rows and clusters.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import binomtest

LEVEL = 0.95
RESAMPLES = 2000
FLIPS = 9999
SEED = 0
CHUNK = 4_000_000  # drawn numbers held at once: 32 MB


class Interval(NamedTuple):
    """low, high: shares of 1. method: `Wilson` or `bootstrap`."""

    low: float
    high: float
    method: str


def cluster_sums(clusters, *columns):
    """Totals of each column (n,) within each cluster: an int64 array (number of clusters, number of columns).

    clusters: n hashable keys that can be sorted, such as image names.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    totals = [np.bincount(index, weights=np.asarray(column, dtype=float), minlength=len(names)) for column in columns]
    return np.rint(np.stack(totals, axis=1)).astype(np.int64)


def resampled_totals(sums, resamples=RESAMPLES, seed=SEED):
    """Column totals when the rows of `sums` (clusters, k) are drawn with replacement: float (resamples, k).

    How often each cluster is drawn is multinomial, and clusters with equal sums are interchangeable, so only kinds of
    clusters are drawn: the same distribution (Efron 1979, resampling whole clusters) for a fraction of the work.
    """
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    rng, size = np.random.default_rng(seed), max(1, CHUNK // len(kinds))
    chunks = [min(size, resamples - start) for start in range(0, resamples, size)]
    return np.concatenate([rng.multinomial(len(sums), counts / len(sums), chunk) @ kinds.astype(float) for chunk in chunks])


def wilson(right, n):
    """Wilson's score interval (Wilson 1927, by scipy) of `right` successes in `n` independent trials, n >= 1."""
    bounds = binomtest(int(right), int(n)).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Interval(float(bounds.low), float(bounds.high), "Wilson")


def bootstrap_interval(values, estimate, influence):
    """BCa interval (Efron 1987: percentiles corrected for bias and skewness) of a resampled statistic.

    values: (resamples,). influence: (clusters,), each cluster's first-order effect on the statistic up to a factor, which
    gives the acceleration. Student's t stands for the normal quantile, as few clusters ask for. Plain percentiles cover
    93 % instead of 95 % at 95 % accuracy with 150 images of strong effects, this 94-96 %: bench/evaluate.py.
    """
    below = (np.count_nonzero(values < estimate) + np.count_nonzero(values <= estimate)) / (2 * len(values))
    bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    influence = np.sort(influence)  # so that the order of clusters doesn't change the last bits
    skew = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5) if influence.any() else 0.0
    width = stdtrit(max(len(influence) - 1, 1), (1 + LEVEL) / 2)
    ends = bias + np.array([-width, width])
    low, high = np.quantile(values, ndtr(bias + ends / np.maximum(1 - skew * ends, 1e-3)))
    return Interval(float(low), float(high), "bootstrap")


def _ratio_interval(sums):
    """Bootstrap interval of column 1 over column 0, both summed over clusters."""
    totals, (rows, top) = resampled_totals(sums), sums.T
    estimate = top.sum() / rows.sum()
    return bootstrap_interval(totals[:, 1] / totals[:, 0], estimate, top - estimate * rows)


def accuracy_interval(sums):
    """Interval of the share of right rows. sums: (clusters, 2), rows and right rows of each cluster, rows >= 1.

    Wilson, with n = the number of clusters, where clusters of one size are all right or all wrong (one row per image is
    the usual case; doubling all rows changes nothing), and where all clusters score alike, as at 0 and 100 %: there every
    resample is the same, and the bootstrap's interval would have no width.
    """
    rows, right = sums.T
    whole = np.all((right == 0) | (right == rows)) and np.all(rows == rows[0])
    alike = np.all(right * rows.sum() == rows * right.sum())
    return wilson(np.rint(len(sums) * right.sum() / rows.sum()), len(sums)) if whole or alike else _ratio_interval(sums)


def macro_interval(sums):
    """Interval of the mean accuracy of several types. sums: (types, clusters, 2), zeros where a cluster lacks the type.

    Resamples that miss a type altogether take the mean of the others. None where resampling moves nothing.
    """
    sums = np.asarray(sums, dtype=float)
    totals = resampled_totals(np.concatenate(list(sums), axis=1))
    with np.errstate(invalid="ignore"):
        means = np.nanmean(totals[:, 1::2] / totals[:, ::2], axis=1)
    rows, right = sums.sum(axis=1).T
    accuracy = right / rows
    influence = ((sums[:, :, 1] - accuracy[:, None] * sums[:, :, 0]) / rows[:, None]).mean(axis=0)
    return bootstrap_interval(means, accuracy.mean(), influence) if np.ptp(means) > 1e-12 else None


def difference_interval(sums):
    """Interval of a paired difference in accuracy. sums: (clusters, 2), rows and (right by B) - (right by A) of each.

    Where all clusters differ alike (not at all, say), resamples are all the same: then Wilson's bound for the share of
    clusters that would do otherwise, of which none was seen, stands for the width. Exchanging the files mirrors it.
    """
    rows, gained = sums.T
    if gained.sum() < 0:
        low, high, method = difference_interval(sums * [1, -1])
        return Interval(-high, -low, method)
    if np.all(gained * rows.sum() == rows * gained.sum()):
        difference, bound = gained.sum() / rows.sum(), wilson(0, len(sums)).high
        return Interval(max(-1.0, difference - bound * (1 + difference)), min(1.0, difference + bound * (1 - difference)), "Wilson")
    return _ratio_interval(sums)


def mcnemar(only_a, only_b):
    """Two-sided exact McNemar test (McNemar 1947): p of `only_a` and `only_b` discordant pairs, by the binomial."""
    return float(binomtest(int(only_a), int(only_a + only_b)).pvalue) if only_a + only_b else 1.0


def sign_flip_test(gained, flips=FLIPS, seed=SEED):
    """Two-sided p that cluster differences `gained` (clusters,) are symmetric about 0: their signs flipped at random.

    The p of a permutation test that counts the observed one among the flips (Phipson & Smyth 2010), so at least 1 / 10,000.
    """
    sizes, counts = np.unique(np.abs(gained[gained != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    heads = np.random.default_rng(seed).binomial(counts, 0.5, (flips, len(sizes)))
    flipped = np.abs((2 * heads - counts) @ sizes)
    return float((1 + np.count_nonzero(flipped >= abs(gained.sum()))) / (1 + flips))


def paired_test(sums):
    """(p, name of the test) of `difference_interval`'s sums: exact McNemar where each cluster is one row."""
    rows, gained = sums.T
    if np.all(rows == 1):
        return mcnemar(np.count_nonzero(gained < 0), np.count_nonzero(gained > 0)), "exact McNemar"
    return sign_flip_test(gained), "sign-flip test by cluster"


def holm(p_values):
    """Adjusted p values (Holm 1979), in the given order: reject where at most alpha, and the family's error is alpha."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    return [float(adjusted[place]) for place in np.argsort(order, kind="stable")]
