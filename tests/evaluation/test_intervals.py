"""Intervals and tests against formulas, scipy, simulation and properties.

python -m pytest tests/evaluation/test_intervals.py -v
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.intervals import (
    accuracy_interval,
    cluster_sums,
    difference_interval,
    holm,
    macro_interval,
    mcnemar,
    paired_test,
    resampled_totals,
    sign_flip_test,
    wilson,
)

property_test = settings(max_examples=60, deadline=None, database=None)
CLUSTERS = st.lists(st.integers(1, 9).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(0, rows))), min_size=1, max_size=40).map(
    np.array
)
PAIRS = st.lists(st.integers(1, 9).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(-rows, rows))), min_size=1, max_size=40).map(
    np.array
)


def wilson_by_formula(right, n, z=1.959963984540054):
    share = right / n
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


@pytest.mark.parametrize("right, n", [(0, 1), (1, 1), (0, 300), (300, 300), (7, 10), (85, 1544), (1853, 3071)])
def test_wilson_is_its_formula(right, n):
    assert wilson(right, n)[:2] == pytest.approx(wilson_by_formula(right, n), abs=1e-12)


def test_sums_within_clusters_by_hand():
    sums = cluster_sums(["b", "a", "b", "c"], [1, 1, 1, 1], [True, False, True, True])
    assert sums.tolist() == [[1, 0], [2, 2], [1, 1]]


# ---------------------------------------------------------------------------------------------------------------------
# The bootstrap


def test_drawing_kinds_of_clusters_is_drawing_clusters():
    """All 4**4 resamples of four clusters, two of them equal: means and standard deviations of the ratio agree."""
    sums = np.array([[3, 1], [3, 1], [1, 1], [2, 0]])
    exact = [sums[list(draw)].sum(axis=0) for draw in itertools.product(range(4), repeat=4)]
    exact = np.array([right / rows for rows, right in exact])
    totals = resampled_totals(sums, resamples=200_000)
    ratios = totals[:, 1] / totals[:, 0]
    assert ratios.mean() == pytest.approx(exact.mean(), abs=0.002)
    assert ratios.std() == pytest.approx(exact.std(), abs=0.002)
    for share in np.unique(exact)[::7]:
        assert (ratios <= share + 1e-9).mean() == pytest.approx((exact <= share + 1e-9).mean(), abs=0.005)


def test_the_interval_is_near_that_of_resampling_images_one_by_one():
    rng = np.random.default_rng(3)
    rows = rng.integers(1, 10, 300)
    sums = np.stack([rows, rng.binomial(rows, rng.beta(3, 2, 300))], axis=1)
    draws = [sums[rng.integers(0, 300, 300)].sum(axis=0) for _ in range(4000)]
    low, high = np.quantile([right / rows for rows, right in draws], [0.025, 0.975])
    assert accuracy_interval(sums)[:2] == pytest.approx((low, high), abs=0.006)


def test_the_interval_covers_the_truth():
    """A small version of `bench/evaluate.py coverage`: 400 data sets of 150 images x 9 questions with image effects."""
    rng, hits, naive = np.random.default_rng(5), 0, 0
    for _ in range(400):
        right = rng.binomial(9, rng.beta(0.7 * 3, 0.3 * 3, 150))
        interval = accuracy_interval(np.stack([np.full(150, 9), right], axis=1))
        hits += interval.low <= 0.7 <= interval.high
        low, high = wilson_by_formula(right.sum(), 1350)
        naive += low <= 0.7 <= high
    assert binom(400, 0.93).ppf(0.001) <= hits <= binom(400, 0.97).ppf(0.999)
    assert naive / 400 < 0.85, "taking rows as independent must fail here, or the simulation has no image effects"


@property_test
@given(CLUSTERS, st.randoms(use_true_random=False))
def test_the_order_of_clusters_changes_nothing(sums, rng):
    shuffled = np.array(rng.sample(sums.tolist(), len(sums)))
    assert accuracy_interval(shuffled) == accuracy_interval(sums)


@property_test
@given(CLUSTERS, st.integers(2, 5))
def test_repeating_all_rows_of_every_image_changes_nothing(sums, times):
    interval, repeated = accuracy_interval(sums), accuracy_interval(times * sums)
    assert repeated.method == interval.method and repeated[:2] == pytest.approx(interval[:2], abs=1e-12)


@property_test
@given(CLUSTERS)
def test_repeating_the_rows_of_one_image_does_not_make_it_count_as_more_images(sums):
    """Ten copies of an image's rows never narrow the interval to what ten more images would."""
    sums = np.concatenate([sums, [[9, 4]], [[9, 8]]])
    copied, more = sums.copy(), np.concatenate([sums, np.repeat([[9, 4]], 9 * len(sums), axis=0)])
    copied[-2] *= 9 * len(sums) + 1
    width = [high - low for low, high, _ in map(accuracy_interval, (copied, more))]
    assert width[0] >= width[1]


@property_test
@given(CLUSTERS)
def test_intervals_hold_the_score_and_never_have_no_width(sums):
    low, high, method = accuracy_interval(sums)
    accuracy = sums[:, 1].sum() / sums[:, 0].sum()
    assert 0 <= low < high <= 1 and method in ("Wilson", "bootstrap")
    if method == "Wilson" and len(np.unique(sums[:, 0])) == 1 and set(sums[:, 1] / sums[:, 0]) <= {0, 1}:
        assert low <= accuracy <= high


@pytest.mark.parametrize(
    "sums, right, n",
    [
        ([[1, 1], [1, 0], [1, 1]], 2, 3),  # one row per image
        ([[2, 2], [2, 0], [2, 2]], 2, 3),  # the same rows twice
        ([[5, 0], [3, 0], [9, 0]], 0, 3),  # 0 %: n is the number of images, not 17
        ([[5, 5], [3, 3], [9, 9]], 3, 3),  # 100 %
        ([[2, 1], [4, 2]], 1, 2),  # every image at 50 %: every resample too
    ],
)
def test_where_wilson_stands_in(sums, right, n):
    assert accuracy_interval(np.array(sums)) == (*wilson(right, n)[:2], "Wilson")


def test_the_macro_interval_agrees_with_the_micro_one_where_all_types_are_alike():
    rng = np.random.default_rng(0)
    one = np.stack([np.full(200, 3), rng.binomial(3, rng.beta(2, 2, 200))], axis=1)
    assert macro_interval([one, one])[:2] == pytest.approx(accuracy_interval(one)[:2], abs=1e-12)
    assert macro_interval(np.array([[[1, 1], [1, 1]], [[2, 0], [2, 0]]])) is None


def test_a_macro_interval_stands_resamples_without_a_type():
    interval = macro_interval(np.array([[[1, 1], [0, 0], [0, 0]], [[2, 1], [2, 0], [1, 1]]]))
    assert 0 <= interval.low < interval.high <= 1


# ---------------------------------------------------------------------------------------------------------------------
# Paired differences


@pytest.mark.parametrize("only_a, only_b", [(0, 0), (0, 1), (5, 5), (19, 37), (3, 0), (120, 80)])
def test_mcnemar_is_the_two_sided_binomial(only_a, only_b):
    n, few = only_a + only_b, min(only_a, only_b)
    assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n), rel=1e-9)


def test_the_sign_flip_test_is_the_exact_permutation_test():
    gained = np.array([3, 1, -1, 2, 0, 2, 4, -2, 1, 1])
    flips = np.array(list(itertools.product([-1, 1], repeat=len(gained)))) @ gained
    exact = (np.abs(flips) >= abs(gained.sum())).mean()
    assert sign_flip_test(gained, flips=100_000) == pytest.approx(exact, abs=0.005)
    assert sign_flip_test(np.zeros(5, dtype=int)) == 1 and sign_flip_test(np.full(40, 2)) == 1 / 10_000


def test_rows_that_are_independent_take_the_exact_test():
    rows, gained = np.ones(10, dtype=int), np.array([1] * 6 + [-1] * 2 + [0] * 2)
    assert paired_test(np.stack([rows, gained], axis=1)) == (mcnemar(2, 6), "exact McNemar")
    assert paired_test(np.stack([rows + (gained == 0), gained], axis=1))[1] == "sign-flip test by cluster"


@property_test
@given(PAIRS)
def test_exchanging_the_files_mirrors_the_interval_and_keeps_the_p(sums):
    other = sums * [1, -1]
    low, high, _ = difference_interval(sums)
    mirrored = difference_interval(other)
    assert low < high and -1 <= low and high <= 1
    if sums[:, 1].sum():
        assert mirrored[:2] == (-high, -low)
    assert paired_test(sums)[0] == pytest.approx(paired_test(other)[0], abs=0.02)


@pytest.mark.parametrize("gained, low, high", [(0, -0.277533, 0.277533), (9, 1 - 2 * 0.277533, 1.0), (-9, -1.0, 2 * 0.277533 - 1)])
def test_where_all_images_differ_alike_the_interval_keeps_a_width(gained, low, high):
    sums = np.array([[9, gained]] * 10)  # Wilson's upper bound of 0 in 10 is 0.277533
    assert difference_interval(sums)[:2] == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(
    "p_values, adjusted",
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 0.005x4, 0.01x3, 0.03x2, then 0.04 is raised to 0.06
        ([0.5, 0.9, 0.8], [1, 1, 1]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)
