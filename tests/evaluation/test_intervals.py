"""Intervals and tests against formulas, scipy, exact enumeration, simulation and properties.

python -m pytest tests/evaluation/test_intervals.py -v
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, binomtest, multinomial
from scipy.stats import t as student

from evaluation.intervals import (
    accuracy_interval,
    cluster_sums,
    difference_interval,
    effective_clusters,
    holm,
    leverage_free_variance,
    macro_interval,
    paired_test,
    spread,
    wilson,
)

property_test = settings(max_examples=60, deadline=None, database=None)


def clusters(least):
    cluster = st.integers(1, 9).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(least * rows, rows)))
    return st.lists(cluster, min_size=1, max_size=40).map(np.array)


CLUSTERS, PAIRS = clusters(0), clusters(-1)


def wilson_by_formula(right, n, z=1.959963984540054):
    share = right / n
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def drawn(seed, count, accuracy, correlation, rows):
    """Rows and right rows (count, 2) of clusters that differ in difficulty, and their accuracies (count,)."""
    rng, strength = np.random.default_rng(seed), 1 / correlation - 1
    own = rng.beta(accuracy * strength, (1 - accuracy) * strength, count)
    rows = rows(rng, count)
    return rng, own, np.stack([rows, rng.binomial(rows, own)], axis=1)


def nine(rng, count):
    return np.full(count, 9)


def lognormal(rng, count):
    return np.maximum(1, np.rint(rng.lognormal(np.log(6), 1, count))).astype(int)


def between(hits, data_sets, low=0.93, high=0.97):
    """Is a share of hits in the gate, as far as chance allows to say?"""
    return binom(data_sets, low).ppf(0.001) <= hits <= binom(data_sets, high).ppf(0.999)


@pytest.mark.parametrize("right, n", [(0, 1), (1, 1), (0, 300), (300, 300), (7, 10), (85, 1544), (1853, 3071), (2.5, 7.25)])
def test_wilson_is_its_formula(right, n):
    assert wilson(right, n)[:2] == pytest.approx(wilson_by_formula(right, n), abs=1e-12)


def test_sums_within_clusters_by_hand():
    sums = cluster_sums(["b", "a", "b", "c"], [1, 1, 1, 1], [True, False, True, True])
    assert sums.tolist() == [[1, 0], [2, 2], [1, 1]]
    assert cluster_sums(["a", "a"], [1, 1], [1 / 3, 2 / 3]).tolist() == [[2, 1]], "means over seeds are no whole numbers"


def test_effective_clusters_by_hand():
    assert effective_clusters([[9, 1]] * 20) == pytest.approx(20)
    assert effective_clusters([[6, 0], [2, 1], [2, 2]]) == pytest.approx(100 / 44)
    assert effective_clusters([[5, 3]]) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Accuracies


@pytest.mark.parametrize("rows", [[1, 1, 1, 1], [5, 1, 1, 2, 3], [20, 1, 1, 1, 1, 1]])
def test_the_variance_is_unbiased_whatever_the_sizes_where_clusters_go_one_way(rows):
    """Over all outcomes of clusters that are right with probability 0.3, its mean is p (1 - p) times the sum of shares²."""
    shares, mean = np.array(rows) / sum(rows), 0.0
    for right in itertools.product([0, 1], repeat=len(rows)):
        ratio = shares @ right
        mean += math.prod(0.3 if one else 0.7 for one in right) * leverage_free_variance(shares, shares * (np.array(right) - ratio))
    assert mean == pytest.approx(0.21 * (shares**2).sum(), rel=1e-12)


def test_the_accuracy_interval_by_hand():
    """Four images of three questions: residuals -0.5, 1.5, 0.5, -1.5 of 12 rows, each square over 1 - 2/4 + 1/4."""
    sums = np.array([[3, 1], [3, 3], [3, 2], [3, 0]])
    variance = (0.25 + 2.25 + 0.25 + 2.25) / 144 / 0.75
    effect = variance / (0.25 + variance)  # over p (1 - p) without bias: of one row a cluster it is 1 / 4
    rows = 1.959963984540054**2 / (student.ppf(0.975, 3) ** 2 * effect)
    assert spread(sums).effect == pytest.approx(4 * effect) and spread(sums).df == pytest.approx(3)
    assert rows < 4, "so sure as one vote an image is sure enough"
    assert accuracy_interval(sums)[:2] == pytest.approx(wilson_by_formula(2, 4)) and accuracy_interval(sums).method == "Wilson"
    many = np.concatenate([sums] * 5)  # 20 images: the same residuals over 60 rows
    variance = 5 * 5 / 3600 / 0.95
    effect = variance / (0.25 + variance)
    rows = 1.959963984540054**2 / (student.ppf(0.975, 19) ** 2 * effect)
    assert accuracy_interval(many)[:2] == pytest.approx(wilson_by_formula(rows / 2, rows))
    assert accuracy_interval(many).method == "clustered Wilson"


@pytest.mark.parametrize(
    "sums",
    [
        [[9, 9]] * 16 + [[9, 4], [9, 8], [9, 6], [9, 8]],  # few errors: the degrees of freedom fall
        [[9, 0]] * 17 + [[9, 4], [9, 1], [9, 2]],
        [[9, 9]] * 60 + [[9, 8]],  # to a tenth at least
        [[9, 7], [9, 8], [9, 6], [9, 8], [9, 7], [3, 2], [3, 2], [1, 1]],
        [[30, 0], [1, 1], [1, 1], [1, 1], [1, 0], [1, 1], [1, 1]],  # the large one goes its own way
    ],
)
def test_few_errors_tell_little_of_how_they_cluster_by_hand(sums):
    found, share = spread(sums), sum(right for _, right in sums) / sum(rows for rows, _ in sums)
    t = student.ppf(0.975, max(0.1, found.df * min(1, 8 * share * (1 - share))))
    votes = effective_clusters(sums) / max(1, found.effect)
    rows = max(votes, effective_clusters(sums) * 1.959963984540054**2 / t**2 / found.effect)
    assert accuracy_interval(np.array(sums))[:2] == pytest.approx(wilson_by_formula(share * rows, rows), abs=1e-12)
    assert accuracy_interval(np.array(sums)).method == ("Wilson" if rows == votes else "clustered Wilson")


def test_degrees_of_freedom_by_hand():
    """Shares 1/2, 1/4, 1/4: from those of rows, where rows are independent, to those of rows², where clusters go one way."""
    squares = np.array([1 / 4, 1 / 16, 1 / 16]) / (3 / 8)
    for sums in ([[2, 2], [1, 0], [1, 1]], [[20, 11], [10, 5], [10, 4]]):
        found = spread(sums)
        parts = (1 - found.effect) * np.array([1 / 2, 1 / 4, 1 / 4]) + found.effect * squares
        assert 0 < found.effect < 1 and found.df == pytest.approx(1 / (parts**2).sum() - 1)
    alike = spread([[2, 2], [1, 1], [1, 1]])
    assert alike.effect == 1 and alike.df == pytest.approx(1 / (squares**2).sum() - 1)


@pytest.mark.parametrize(
    "sums, right, n",
    [
        ([[1, 1], [1, 0], [1, 1]], 2, 3),  # one row per image
        ([[2, 2], [2, 0], [2, 2]], 2, 3),  # the same rows twice
        ([[5, 0], [5, 0], [5, 0]], 0, 3),  # 0 %: n is the number of images, not 15
        ([[5, 0], [3, 0], [9, 0]], 0, 289 / 115),  # … and the effective one of 17 rows in 5, 3 and 9
        ([[5, 5], [3, 3], [9, 9]], 289 / 115, 289 / 115),
        ([[2, 1], [2, 1]], 1, 2),  # every image at 50 %: nothing tells how unlike another would be
        ([[7, 7]], 1, 1),
    ],
)
def test_each_cluster_is_one_vote_at_most(sums, right, n):
    interval = accuracy_interval(np.array(sums))
    assert interval[:2] == pytest.approx(wilson_by_formula(right, n), abs=1e-9) and interval.method == "Wilson"


@property_test
@given(CLUSTERS, st.randoms(use_true_random=False))
def test_the_order_of_clusters_changes_nothing(sums, rng):
    shuffled = np.array(rng.sample(sums.tolist(), len(sums)))
    assert accuracy_interval(shuffled) == accuracy_interval(sums) and effective_clusters(shuffled) == effective_clusters(sums)


@property_test
@given(CLUSTERS, st.integers(2, 5))
def test_repeating_all_rows_of_every_image_changes_nothing(sums, times):
    interval, repeated = accuracy_interval(sums), accuracy_interval(times * sums)
    assert repeated[:2] == pytest.approx(interval[:2], abs=1e-9)
    assert effective_clusters(times * sums) == pytest.approx(effective_clusters(sums))


@property_test
@given(CLUSTERS)
def test_right_and_wrong_are_alike(sums):
    low, high, _ = accuracy_interval(sums)
    other = accuracy_interval(np.stack([sums[:, 0], sums[:, 0] - sums[:, 1]], axis=1))
    assert other[:2] == pytest.approx((1 - high, 1 - low), abs=1e-9)


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
    assert 0 <= low <= accuracy + 1e-12 and accuracy - 1e-12 <= high <= 1 and low < high
    assert method in ("Wilson", "clustered Wilson")


@pytest.mark.parametrize("count, sizes, low, high", [(150, nine, 0.93, 0.97), (20, lognormal, 0.93, 0.98), (3, nine, 0.93, 1)])
def test_the_interval_covers_the_truth(count, sizes, low, high):
    """A small version of `bench/evaluate.py --coverage`: 600 data sets of images that differ in difficulty."""
    hits = naive = 0
    for seed in range(600):
        _, _, sums = drawn(seed, count, 0.7, 0.3, sizes)
        interval = accuracy_interval(sums)
        hits += interval.low <= 0.7 <= interval.high
        ends = wilson_by_formula(sums[:, 1].sum(), sums[:, 0].sum())
        naive += ends[0] <= 0.7 <= ends[1]
    assert between(hits, 600, low, high)
    assert naive / 600 < 0.85, "taking rows as independent must fail here, or the simulation has no image effects"


# ---------------------------------------------------------------------------------------------------------------------
# Macro accuracies


@property_test
@given(CLUSTERS)
def test_the_macro_interval_of_one_type_is_the_micro_one(sums):
    assert macro_interval([sums]) == accuracy_interval(sums)
    assert macro_interval([sums, sums])[:2] == pytest.approx(accuracy_interval(sums)[:2], abs=1e-9)


def test_the_macro_interval_by_hand():
    """Two types without common images: distances to the ends, which correlate by a fifth, for that is all that six images tell."""
    first, second = np.array([[1, 1], [1, 0], [1, 1]]), np.array([[1, 0], [1, 0], [1, 1]])
    none = np.zeros_like(first)
    found = macro_interval(np.array([np.concatenate([first, none]), np.concatenate([none, second])]))
    (a, b), (c, d) = wilson_by_formula(2, 3), wilson_by_formula(1, 3)
    low, high = (math.hypot(x, y) ** 2 + 2 * x * y / 5 for x, y in ((2 / 3 - a, 1 / 3 - c), (b - 2 / 3, d - 1 / 3)))
    assert found == (pytest.approx(0.5 - math.sqrt(low) / 2), pytest.approx(0.5 + math.sqrt(high) / 2), "MOVER")


@property_test
@given(CLUSTERS, st.integers(0, 1), st.randoms(use_true_random=False))
def test_a_type_of_one_row_still_adds_what_one_row_leaves_open(sums, right, rng):
    rare = np.zeros_like(sums)
    rare[0] = 1, right
    low, high, _ = interval = macro_interval(np.stack([sums, rare]))
    mean = (sums[:, 1].sum() / sums[:, 0].sum() + right) / 2
    assert 0 <= low <= mean + 1e-12 and mean - 1e-12 <= high <= 1
    assert (mean - low if right else high - mean) >= (1 - wilson_by_formula(1, 1)[0]) / 2 - 1e-9
    order = rng.sample(range(len(sums)), len(sums))
    assert macro_interval(np.stack([sums, rare])[:, order]) == interval


def test_the_macro_interval_covers_the_truth_with_a_rare_type():
    """Four common types and one of eight rows, all of which score alike in most data sets; 20 images."""
    hits = 0
    for seed in range(400):
        rng, own, _ = drawn(seed, 20, 0.9, 0.2, nine)
        typed = np.stack([np.full(20, 2)] * 4 + [np.arange(20) < 8])
        types = np.stack([typed, rng.binomial(typed, own)], axis=2)
        low, high, _ = macro_interval(types)
        hits += low <= 0.9 <= high
    assert between(hits, 400)


# ---------------------------------------------------------------------------------------------------------------------
# Paired differences


@property_test
@given(PAIRS)
def test_interval_and_test_agree_about_zero(sums):
    low, high, method = difference_interval(sums)
    assert (low > 0 or high < 0) == (paired_test(sums)[0] < 0.05) and method == "score"


@property_test
@given(PAIRS, st.randoms(use_true_random=False), st.integers(2, 5))
def test_exchanging_the_files_mirrors_the_interval_and_keeps_the_p(sums, rng, times):
    low, high, _ = difference_interval(sums)
    difference, p = sums[:, 1].sum() / sums[:, 0].sum(), paired_test(sums)[0]
    assert -1 <= low <= difference + 1e-12 and difference - 1e-12 <= high <= 1 and low < high and 0 <= p <= 1
    assert difference_interval(sums * [1, -1])[:2] == pytest.approx((-high, -low), abs=1e-9)
    assert paired_test(sums * [1, -1])[0] == pytest.approx(p, abs=1e-9)
    shuffled = np.array(rng.sample(sums.tolist(), len(sums)))
    assert difference_interval(shuffled) == difference_interval(sums) and paired_test(shuffled) == paired_test(sums)
    assert difference_interval(times * sums)[:2] == pytest.approx((low, high), abs=1e-9)


def test_the_score_test_by_hand():
    """Three wins and a loss of one row, in ten images: (3 - 1)² / 4 = 1 as in McNemar's test, with Student's t of 1.5 · 4."""
    p, name = paired_test(np.array([[1, 1]] * 3 + [[1, -1]] + [[1, 0]] * 6))
    assert name == "score test by cluster" and p == pytest.approx(2 * student.sf(1, 6))
    five = paired_test(np.array([[1, 1]] * 5 + [[1, 0]] * 95))[0]
    assert five == pytest.approx(2 * student.sf(math.sqrt(5), 7.5))


def test_the_score_test_of_a_skewed_difference_by_hand():
    """18 images gain one of nine rows and two lose three: residuals 0.4 and -3.6 of 180 rows, each square over 0.95."""
    sums, ratio, size = np.array([[9, 1]] * 18 + [[9, -3]] * 2), 12 / 180, 24 / 180
    squares, cubes = 18 * 0.4**2 + 2 * 3.6**2, 18 * 0.4**3 - 2 * 3.6**3
    variance, skew = squares / 180**2 / 0.95, cubes / squares**1.5
    t = ratio / math.sqrt(size * variance / (size - ratio**2 + variance))
    cubic = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    assert paired_test(sums)[0] == pytest.approx(2 * student.sf(cubic, 19)) and cubic < t
    assert paired_test(sums * [1, -1])[0] == pytest.approx(paired_test(sums)[0])
    low, high, _ = difference_interval(sums)
    assert ratio - low > high - ratio, "a loss that is rare may just be missing"


@pytest.mark.parametrize("lost, gained", [(0, 4), (0, 5), (0, 6), (0, 9), (1, 7), (1, 8), (2, 9), (2, 10), (5, 5), (19, 37)])
def test_with_one_row_an_image_the_test_rejects_what_mcnemars_exact_one_does(lost, gained):
    sums = np.array([[1, -1]] * lost + [[1, 1]] * gained + [[1, 0]] * (300 - lost - gained))
    exact = binomtest(lost, lost + gained).pvalue
    assert (paired_test(sums)[0] < 0.05) == (exact < 0.05)


@pytest.mark.parametrize("rows, votes", [([1], 1), ([1] * 60, 60), ([9] * 10, 10), ([9] * 6000, 6000), ([5, 3, 9], 289 / 115)])
@pytest.mark.parametrize("change", [0, 0.0, 1e-17])
def test_where_nothing_differs_both_ends_are_wilsons_for_none_of_as_many_clusters(rows, votes, change):
    """Two equal files had the interval -100 to +100, 6,000 images or not."""
    sums = np.array([[asked, change] for asked in rows])
    low, high, _ = difference_interval(sums)
    assert (-low, high) == pytest.approx([wilson_by_formula(0, votes)[1]] * 2, rel=1e-6)
    assert paired_test(sums)[0] == pytest.approx(1)
    assert macro_interval([sums, sums], [difference_interval(sums)] * 2)[:2] == pytest.approx((low, high))


def changed(gained, lost, images):
    return np.array([[1, 1]] * gained + [[1, -1]] * lost + [[1, 0]] * (images - gained - lost))


@pytest.mark.parametrize("images", [60, 300, 6000])
@pytest.mark.parametrize("balanced", [False, True])
def test_fewer_changes_are_no_wider(images, balanced):
    """Of 60 images, no change gave 200 points, one 75 and two 27."""
    gained = [(count + 1) // 2 if balanced else count for count in range(13)]
    lows, highs, _ = zip(*(difference_interval(changed(some, count - some, images)) for count, some in enumerate(gained)))
    widths = [high - low for low, high in zip(lows, highs)]
    assert widths == sorted(widths)
    assert balanced or (list(lows), list(highs)) == (sorted(lows), sorted(highs))


def tango_by_likelihood(gained, lost, images, d):
    """Tango's (1998) score statistic of the difference d: the share lost, which it takes from the likelihood, is searched for."""
    counts = np.array([gained, lost, images - gained - lost])

    def shares(q):
        return np.array([q + d, q, 1 - 2 * q - d])

    def unlikely(q):
        return -(counts * np.log(np.maximum(shares(q), 1e-300)))[counts > 0].sum()

    q = minimize_scalar(unlikely, bounds=(max(0, -d), (1 - d) / 2), method="bounded", options={"xatol": 1e-12}).x
    return ((gained - lost) / images - d) / math.sqrt((2 * q + d - d**2) / images)


@pytest.mark.parametrize("gained, lost, images", [(0, 0, 60), (1, 0, 60), (3, 1, 60), (6, 6, 60), (5, 2, 30), (40, 3, 60), (55, 2, 60)])
def test_with_one_row_an_image_the_ends_are_tangos_but_where_few_changed_and_the_test_of_0_is_more_cautious(gained, lost, images):
    low, high, _ = difference_interval(changed(gained, lost, images))
    assert tango_by_likelihood(gained, lost, images, high) == pytest.approx(-1.959964, abs=1e-4)
    at_low = tango_by_likelihood(gained, lost, images, low)
    assert at_low == pytest.approx(1.959964, abs=1e-4) if low < 0 else 1.959964 <= at_low < 2.1


@pytest.mark.parametrize("odds", [(0.05, 0.02), (0.1, 0.1), (0.2, 0.1), (0.3, 0.05), (0.5, 0.1), (0.8, 0.05)])
def test_the_difference_of_single_rows_covers_the_truth_exactly(odds):
    """Over all outcomes of 20 images that B gains and loses with these probabilities."""
    held = 0.0
    for gained, lost in itertools.product(range(21), repeat=2):
        chance = multinomial(20, [*odds, 1 - sum(odds)]).pmf([gained, lost, 20 - gained - lost]) if gained + lost <= 20 else 0
        if chance > 1e-9:
            low, high, _ = difference_interval(changed(gained, lost, 20))
            held += chance * (low <= odds[0] - odds[1] <= high)
    assert held >= 0.94


def test_a_few_changes_too_few_for_the_test_reach_to_0_and_no_further():
    """Five of 60: p = 0.058 by McNemar's statistic and 7.5 degrees of freedom, though Tango's interval is above 0."""
    sums = changed(5, 0, 60)
    low, high, _ = difference_interval(sums)
    assert low == 0 and math.copysign(1, low) == 1 and paired_test(sums)[0] > 0.05, "-0.00 is no end"
    assert difference_interval(sums * [1, -1])[:2] == (-high, 0)


@pytest.mark.parametrize("images, small", [(20, 1), (28, 1), (14, 2)])
def test_images_that_all_gain_alike_prove_no_more_than_how_often_a_loss_is_in_none_of_them(images, small):
    """If one image in n loses all of its nine rows, the mean difference is 0, and `unseen` of such samples gain alike."""
    unseen = (9 / (9 + small)) ** images
    assert unseen > 0.05 and paired_test(np.array([[9, small]] * images))[0] > 0.05
    assert paired_test(np.array([[9, small]] * (3 * images)))[0] < 0.05, "three times as many do"


def test_two_images_prove_nothing_whatever_they_say():
    """A user's +29.41 points: +20.00 to +42.86 was printed beside p = 0.491."""
    sums = np.array([[10, 2], [7, 3]])
    low, high, _ = difference_interval(sums)
    assert low < 0 < 0.42 < high and paired_test(sums)[0] > 0.05


@pytest.mark.parametrize("small, large, odds", [(1, -3, 0.25), (1, -4, 0.2), (1, -7, 0.125)])
def test_false_positives_where_few_images_lose_much_and_many_gain_little(small, large, odds):
    """Exactly: 20 images of nine questions, each loses much with probability `odds`, so that the mean difference is 0."""
    p = [paired_test(np.array([[9, large]] * losers + [[9, small]] * (20 - losers)))[0] for losers in range(21)]
    false = sum(binom(20, odds).pmf(losers) for losers in range(21) if p[losers] <= 0.05)
    assert false <= 0.06


@pytest.mark.parametrize("count, sizes", [(20, nine), (20, lognormal), (50, nine)])
def test_the_difference_covers_the_truth(count, sizes):
    hits = 0
    for seed in range(400):
        rng, own, sums = drawn(seed, count, 0.7, 0.3, sizes)
        sums[:, 1] -= rng.binomial(sums[:, 0], own * 0.8)
        low, high, _ = difference_interval(sums)
        hits += low <= 0.14 <= high
    assert between(hits, 400)


@property_test
@given(PAIRS, st.floats(1e-8, 0.01), st.integers(1, 8))
def test_with_seeds_too_interval_and_test_agree_about_zero(sums, variance, df):
    low, high, _ = difference_interval(sums, (variance, df))
    assert (low > 0 or high < 0) == (paired_test(sums, (variance, df))[0] < 0.05)
    assert difference_interval(sums * [1, -1], (variance, df))[:2] == pytest.approx((-high, -low), abs=1e-9)


def test_where_no_row_differs_but_seeds_do_by_hand():
    """d² = k (d - d²) + t² v: with A1 A2 against themselves it was -100 to +100 too."""
    t, variance = student.ppf(0.975, 2), 0.0004
    k = t**2 / 60
    high = (k + math.sqrt(k**2 + 4 * (1 + k) * t**2 * variance)) / (2 * (1 + k))
    assert difference_interval(np.array([[9, 0.0]] * 60), (variance, 2))[:2] == pytest.approx((-high, high))


def test_a_difference_of_means_over_seeds():
    """Halves are like whole rows of twice as many: nothing is rounded."""
    sums = np.array([[9, 2.5], [9, -1], [9, 4.5], [9, 0], [9, 3]])
    assert difference_interval(sums)[:2] == pytest.approx(difference_interval((2 * sums).astype(int))[:2])
    assert difference_interval(sums) != difference_interval(np.rint(sums))


def score_by_hand(sums, seeds=(0.0, math.inf)):
    """(low, high, p) of a paired difference: every formula written out, and the ends searched for as roots."""
    rows, gained = (list(map(float, column)) for column in zip(*sums))
    total, count = sum(rows), len(rows)
    shares, ratio, size = [one / total for one in rows], sum(gained) / total, sum(map(abs, gained)) / total
    residuals = [(one - ratio * asked) / total for one, asked in zip(gained, rows)]
    evenness = sum(share**2 for share in shares)
    votes, changed = 1 / evenness, sum(map(abs, gained)) ** 2 / sum(one**2 for one in gained)
    variance = sum(one**2 / (1 - 2 * share + evenness) for one, share in zip(residuals, shares)) if count > 1 else 0.0
    effect, skew = 1.0, 0.0
    if variance > 1e-20:
        effect = variance * votes / (size - ratio**2 + variance)
        skew = sum(one**3 for one in residuals) / sum(one**2 for one in residuals) ** 1.5
    agree = min(effect, 1)
    df = 1 / sum(((1 - agree) * share + agree * share**2 * votes) ** 2 for share in shares) - 1
    between, df_between = seeds
    if between:
        own = effect * (size - ratio**2) / votes
        df = (own + between) ** 2 / (own**2 / max(df, 0.1) + between**2 / df_between)
    limited = lambda own: max(min(own, 1.5 * changed), 0.1)

    def end(ratio, skew, df, t_votes):
        t = student.ppf(0.975, df)
        beyond = 3 / -skew * (math.copysign(abs(1 - skew * (t + skew / 6)) ** (1 / 3), 1 - skew * (t + skew / 6)) - 1) if skew else t
        k = max(t, beyond) ** 2 * effect / votes
        k = k if between else min(k, t_votes**2 * max(effect, 1) / votes)
        lost = (size - ratio) / 2

        def size_at(d):
            b = (2 - ratio) * d - size
            return (math.sqrt(max(0, b**2 + 8 * lost * d * (1 - d))) - b) / 2 + d

        missed = lambda d: (d - ratio) ** 2 - k * (size_at(d) - d**2) - max(t, beyond) ** 2 * between
        return brentq(missed, ratio + 1e-12, 1, xtol=1e-14) if missed(1) > 0 else 1.0

    def upper(ratio, skew):
        free = end(ratio, skew, max(df, 0.1), 1.959963984540054)
        return min(end(ratio, skew, limited(df), student.ppf(0.975, limited(votes))), max(0, free))

    t = abs(ratio) / math.sqrt(size * effect / votes + between)
    own = math.copysign(skew, skew * ratio)
    hall = ((1 + own * t / 3) ** 3 - 1) / own + own / 6 if own else t
    p = 2 * student.sf(min(t, hall), limited(df))
    p = p if between else min(p, 2 * student.sf(t * math.sqrt(agree), limited(votes)))
    return -upper(-ratio, -skew), upper(ratio, skew), min(1, p)


@pytest.mark.parametrize("seeds", [(0.0, math.inf), (0.0004, 3.5), (0.01, 1.0)])
@pytest.mark.parametrize(
    "sums",
    [
        [[9, 1]] * 18 + [[9, -3]] * 2,
        [[9, 1]] * 20,
        [[9, 4], [9, -1], [9, 4], [9, 2], [9, 3], [9, 5]],
        [[1, 1]] * 5 + [[1, -1]] * 2 + [[1, 0]] * 13,
        [[5, 2], [1, 1], [1, 0], [2, -1], [3, 2], [8, 3]],
        [[20, 9], [1, 0], [1, 1], [1, 0], [1, -1]],
        [[3, 2], [3, -1]],
        [[3, 2]],
        [[2, 2], [2, 2], [2, 1], [2, 2]],
        [[2, -2], [2, 2], [2, 2], [2, -2], [2, 2]],
        [[9, 2.5], [9, -1], [9, 4.5], [9, 0], [9, 3]],
        [[9, 1 / 3]] * 2 + [[9, 0]] * 30,
    ],
)
def test_ends_and_p_are_those_of_the_formulas_written_out(sums, seeds):
    low, high, p = score_by_hand(sums, seeds)
    assert difference_interval(np.array(sums), seeds)[:2] == pytest.approx((low, high), abs=1e-9)
    assert paired_test(np.array(sums), seeds) == (pytest.approx(p, rel=1e-9), "score test by cluster")


def test_the_macro_interval_of_types_that_share_images_by_hand():
    """Residuals of both types in each of five images: their cosine, drawn to 1 by what five images of unequal size can't tell."""
    types = np.array([[[2, 2], [2, 1], [1, 0], [3, 3], [0, 0]], [[1, 1], [2, 0], [1, 0], [0, 0], [4, 3]]])
    shares = [6 / 8, 4 / 8]
    first, second = ([right - share * rows for rows, right in one] for one, share in zip(types.tolist(), shares))
    dot = lambda one, other: sum(a * b for a, b in zip(one, other))
    cosine = dot(first, second) / math.sqrt(dot(first, first) * dot(second, second))
    doubt = 1 / (16**2 / (9 + 16 + 4 + 9 + 16) - 1)
    together = doubt + (1 - doubt) * cosine
    ends = [accuracy_interval(one[one[:, 0] > 0]) for one in types]
    gaps = [[abs(share - end[side]) for share, end in zip(shares, ends)] for side in (0, 1)]
    low, high = (math.sqrt(a**2 + b**2 + 2 * together * a * b) / 2 for a, b in gaps)
    low, high = max(min(end.low for end in ends), 0.625 - low), min(max(end.high for end in ends), 0.625 + high)
    assert macro_interval(types) == (pytest.approx(low), pytest.approx(high), "MOVER")


# ---------------------------------------------------------------------------------------------------------------------
# Several tests


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
