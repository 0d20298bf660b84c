"""Confidence one may act on: does it tell wrong answers from right ones, and do answer sets hold the truth? No torch, no files."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from data.matching import judge
from data.rules import ordered_types
from evaluation.intervals import UPPER, Interval, Z, accuracy_interval, cluster_sums, wilson
from files import printable


def auroc(confidence, right, clusters):
    """{"value", "interval", "wrong", "right"}: the probability that a right answer is surer than a wrong one, ties counting half.

    confidence: floats (n,); right: bools (n,); clusters: keys (n,). 0.5 tells nothing. The interval allows for clusters by Obuchowski's
    (1997) variance, with Wilson's ends for as many independent rows as would be as sure. None where all are right, or none.
    """
    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=bool)
    n, m = int(right.sum()), int((~right).sum())
    if not n or not m:
        return None
    ranks = rankdata(confidence)
    own = np.empty(len(ranks))  # of each row, its rank among its own kind
    own[right], own[~right] = rankdata(confidence[right]), rankdata(confidence[~right])
    part = np.where(right, (ranks - own) / m, 1 - (ranks - own) / n)  # the share of the other kind that it is ordered rightly with
    value = float(part[right].mean())
    sums = cluster_sums(clusters, right, ~right, right * part, ~right * part)
    gap, other = sums[:, 2] - value * sums[:, 0], sums[:, 3] - value * sums[:, 1]
    of_right, of_wrong = (sums[:, column] > 0 for column in (0, 1))
    few = min(of_right.sum(), of_wrong.sum())
    variance = _variance(gap[of_right], n) + _variance(other[of_wrong], m)
    variance += 2 * len(sums) / max(1, len(sums) - 1) * float((gap * other).sum()) / (n * m)
    return {"value": value, "interval": _interval(value, variance, int(few)), "wrong": m, "right": n}


def _variance(gaps, count):
    return len(gaps) / max(1, len(gaps) - 1) * float((gaps**2).sum()) / count**2


def _interval(value, variance, few):
    """Wilson's ends with the rows whose independence would give this variance, t instead of z; of a value of 0 or 1, or one that a
    single cluster gave, one vote a cluster."""
    if variance <= 1e-12 or few < 2:
        n = float(few)
    else:
        n = value * (1 - value) / variance * (Z / float(stdtrit(few - 1, UPPER))) ** 2
    return Interval(*wilson(value * n, n)[:2], "Obuchowski, Wilson's ends")


def auroc_of(items, clusters, chosen):
    """`auroc` of those Compared rows that have a confidence, or None."""
    known = [place for place in chosen if items[place].confidence is not None]
    if not known:
        return None
    return auroc([items[place].confidence for place in known], [items[place].correct for place in known], clusters[known])


# ---------------------------------------------------------------------------------------------------------------------
# Answer sets


def answer_sets(judged, tolerances, conventions, target, calibrated_on=0):
    """How often answer sets (`answer_set` of rows) hold the truth, or None where no row has one.

    target: the coverage that they were made for, if it is known. calibrated_on: rows about images that the sets were calibrated on.
    Returns {"target", "calibrated_on", "without", "overall", "per_type"}: each part has
    count, coverage and interval by cluster, over_images (the mean of the images' coverages, which is what was promised), unfilled
    (coverage were empty sets left empty), filled (their number), sizes (mean, median and largest number of answers) and single (the
    share of sets of one answer). without: rows without a set, of which nothing was promised.
    """
    rows = [row for row in judged if row.get("answer_set")]
    if not rows:
        return None
    asked = [{**row, "pred": text} for row in rows for text in row["answer_set"]]
    right = np.array([row["correct"] for row in judge(asked, tolerances, conventions)])
    starts = np.cumsum([0, *(len(row["answer_set"]) for row in rows[:-1])])
    covered = np.add.reduceat(right, starts) > 0
    kinds = np.array([row["qtype"] for row in rows])
    part = lambda name: _covered([row for row in rows if row["qtype"] == name], covered[kinds == name])
    parts = {name: part(name) for name in ordered_types(set(kinds.tolist()))}
    facts = {"target": target, "calibrated_on": calibrated_on, "without": len(judged) - len(rows)}
    return {**facts, "overall": _covered(rows, covered), "per_type": parts}


def _covered(rows, covered):
    sums = cluster_sums([row["cluster"] for row in rows], np.ones(len(rows)), covered)
    empty = np.array([bool(row.get("answer_set_filled")) for row in rows])
    sizes = np.array([len(row["answer_set"]) for row in rows])
    return {
        "count": len(rows),
        "coverage": float(covered.mean()),
        "interval": accuracy_interval(sums),
        "over_images": float((sums[:, 1] / sums[:, 0]).mean()),
        "unfilled": float((covered & ~empty).mean()),
        "filled": int(empty.sum()),
        "sizes": {"mean": float(sizes.mean()), "median": float(np.median(sizes)), "largest": int(sizes.max())},
        "single": float((sizes == 1).mean()),
    }


def answer_set_table(found, unit):
    """`answer_sets` as lines of text."""
    line = "{:<20} {:>7} {:>9} {:>17} {:>9} {:>10} {:>8}".format
    target = "" if found["target"] is None else f", made for {found['target']:.0%}"
    lines = [f"Answer sets: how often they hold the truth{target}", ""]
    lines += [line("Question Type", "Sets", "Coverage", "95 % interval", "Unfilled", "Mean size", "Single"), "-" * 86]
    for name, item in [*found["per_type"].items(), ("OVERALL (micro)", found["overall"])]:
        ends, mean, single = "{:.2%} - {:.2%}".format(*item["interval"][:2]), f"{item['sizes']['mean']:.2f}", f"{item['single']:.1%}"
        cells = [item["count"], f"{item['coverage']:.2%}", ends, f"{item['unfilled']:.2%}", mean, single]
        lines.append(line(printable(name), *cells))
    return "\n".join([*lines, *answer_set_notes(found, unit)])


def answer_set_notes(found, unit):
    """What was promised, and where it doesn't reach."""
    overall = found["overall"]
    yield f"Mean coverage over {unit}: {overall['over_images']:.2%}. Empty sets filled with the likeliest answer: {overall['filled']:,}."
    yield "Promised is the average over images like those of the calibration: not each type, not another hospital or camera."
    if found["calibrated_on"]:
        yield f"WARNING: {found['calibrated_on']:,} rows are about images that calibrated these sets: their coverage proves nothing."
    if found["without"]:
        yield f"Without a set, and without a promise: {found['without']:,} rows (free answers, lists by beams)."
