"""Two predictions files row by row, or one configuration over several seeds: what can be concluded, in tables and a sentence.

Both files answer the same questions about the same images, so differences are paired, and their intervals are by image.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --compare A B")

import numpy as np

from data.rules import ordered_types
from evaluation.intervals import LEVEL, ONE_RUN, accuracy_interval, cluster_sums, difference_interval, holm, macro_interval, paired_test
from evaluation.truth import unit_of
from files import printable

ALPHA = round(1 - LEVEL, 6)


# ---------------------------------------------------------------------------------------------------------------------
# Two files


def compare(first, second):
    """Compare A (first) with B (second), each a list of runs: lists of judged rows of the same ids and types, in any order.

    Returns {"overall", "macro", "per_type": {type: …}, "unit", "seeds": [runs of A, runs of B]}. Each item has count, clusters, a,
    b (accuracies, means over runs), difference (b - a), interval, p and test; those of types also p_holm, adjusted over the
    types. only_a and only_b are rows that only one has right, and are there where each side is one run.
    """
    rows = first[0]
    right_a, right_b = (_verdicts(runs, rows) for runs in (first, second))
    clusters = np.unique([row["cluster"] for row in rows], return_inverse=True)[1]
    kinds = np.array([row["qtype"] for row in rows])
    types = ordered_types(set(kinds.tolist()))
    per_type = {name: _compared(right_a[:, kinds == name], right_b[:, kinds == name], clusters[kinds == name]) for name in types}
    for item, adjusted in zip(per_type.values(), holm([item["p"] for item in per_type.values()])):
        item["p_holm"] = adjusted
    overall = _compared(right_a, right_b, clusters)
    macro = _macro(right_a, right_b, clusters, kinds, per_type)
    return {"overall": overall, "macro": macro, "per_type": per_type, "unit": unit_of(rows), "seeds": [len(first), len(second)]}


def _verdicts(runs, rows):
    """Which rows each run has right: bool (runs, rows), in the order of `rows`."""
    verdicts = [{row["id"]: row["correct"] for row in run} for run in runs]
    return np.array([[known[row["id"]] for row in rows] for known in verdicts])


def _compared(right_a, right_b, clusters):
    """right_a, right_b: bool (runs, rows). clusters: (rows,)."""
    a, b = right_a.mean(axis=0), right_b.mean(axis=0)
    sums, between_seeds = cluster_sums(clusters, np.ones(len(a)), b - a), seed_variance(right_a, right_b)
    p, test = paired_test(sums, between_seeds)
    item = {"count": len(a), "clusters": len(sums), "a": float(a.mean()), "b": float(b.mean()), "difference": float(b.mean() - a.mean())}
    item |= {"interval": difference_interval(sums, between_seeds), "test": test, "p": p}
    if len(right_a) == len(right_b) == 1:
        item |= {"only_a": int((a > b).sum()), "only_b": int((b > a).sum())}
    return item


def seed_variance(right_a, right_b):
    """(variance of the difference of two mean accuracies over seeds, its degrees of freedom): Welch's, ONE_RUN for one run each.

    A side of one run adds nothing: how another training would have done, it can't tell.
    """
    parts = [(right.mean(axis=1).var(ddof=1) / len(right), len(right) - 1) for right in (right_a, right_b) if len(right) > 1]
    total = sum(variance for variance, _ in parts)
    return (float(total), float(total**2 / sum(variance**2 / df for variance, df in parts))) if total else ONE_RUN


def _macro(right_a, right_b, clusters, kinds, per_type):
    """The difference of the means over types."""
    means = {key: float(np.mean([item[key] for item in per_type.values()])) for key in ("a", "b", "difference")}
    gained = right_b.mean(axis=0) - right_a.mean(axis=0)
    columns = [column for name in per_type for column in (kinds == name, (kinds == name) * gained)]
    sums = cluster_sums(clusters, *columns).reshape(-1, len(per_type), 2).swapaxes(0, 1)
    return {"count": len(per_type), **means, "interval": macro_interval(sums, [item["interval"] for item in per_type.values()])}


def comparison_table(comparison):
    """The comparison as lines of text; differences in percentage points."""
    line = "{:<20} {:>6} {:>8} {:>8} {:>8}  {:<18} {:<8}".format
    lines = [line("Question Type", "Count", "A", "B", "B - A", "95 % interval", "p (Holm)").rstrip(), "-" * 80]
    groups = [*comparison["per_type"].items(), ("OVERALL (micro)", comparison["overall"]), ("OVERALL (macro)", comparison["macro"])]
    for name, item in groups:
        interval = "{:+.2f} to {:+.2f}".format(*(100 * end for end in item["interval"][:2]))
        p = short_p(item.get("p_holm", item["p"])) if "p" in item else "-"
        points = f"{100 * item['difference']:+.2f}"
        lines.append(
            line(
                printable(name), item["count"] if "p" in item else "-", f"{item['a']:.2%}", f"{item['b']:.2%}", points, interval, p
            ).rstrip()
        )
    return "\n".join(lines)


def short_p(p):
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def conclusion(comparison, name_a, name_b):
    """What can be concluded, as sentences that a paper could print."""
    overall, unit = comparison["overall"], comparison["unit"]
    about = f" about {overall['clusters']:,} {unit}" if unit != "rows" else ""
    low, high = (100 * end for end in overall["interval"][:2])
    test = overall["test"].replace("cluster", unit.removesuffix("s"))
    name_a, name_b = (name + f" (mean of {runs} seeds)" * (runs > 1) for name, runs in zip((name_a, name_b), comparison["seeds"]))
    over = " over questions and seeds" if max(comparison["seeds"]) > 1 else ""
    p = "p < 0.001" if overall["p"] < 0.001 else f"p = {overall['p']:.3f}"
    sure = "" if overall["p"] <= ALPHA else ", which these rows cannot tell from no difference"
    first = (
        f"On {overall['count']:,} questions{about}, {name_b} answered {overall['b']:.2%} correctly and {name_a} {overall['a']:.2%}: "
        f"a paired difference of {100 * overall['difference']:+.2f} percentage points "
        f"(95% confidence interval{over} {low:+.2f} to {high:+.2f}; {test}, {p}){sure}."
    )
    return f"{first} {_by_type(comparison['per_type'])}".strip()


def _by_type(per_type):
    """Which types differ after Holm's correction; nothing where there is one type only."""
    if len(per_type) < 2:
        return ""
    sure = {name: item["difference"] for name, item in per_type.items() if item["p_holm"] <= ALPHA}
    better, worse = ([f"{printable(name)} ({100 * d:+.2f})" for name, d in sure.items() if sign * d > 0] for sign in (1, -1))
    open_ = [printable(name) for name in per_type if name not in sure]
    parts = [f"{verb} on {_listed(names)}" for verb, names in (("higher", better), ("lower", worse)) if names]
    parts += [f"not distinguishable on {_listed(open_)}"] if open_ else []
    return f"By question type (Holm-adjusted over {len(per_type)} types, alpha = {ALPHA:.2f}) the accuracy was {', and '.join(parts)}."


def _listed(names):
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def changed_rows(first, second):
    """Pairs (row of A, row of B) of which only one is right, in the order of B."""
    other = {row["id"]: row for row in first}
    return [(other[row["id"]], row) for row in second if other[row["id"]]["correct"] != row["correct"]]


# ---------------------------------------------------------------------------------------------------------------------
# Several seeds of one configuration


def over_seeds(runs):
    """Mean and standard deviation (n - 1) of the accuracy over runs (at least two lists of judged rows, of the same ids in one order).

    Returns {"overall": scores, "per_type": {type: scores}}, scores being count, mean, sd and interval: that of the mean, by
    image. The standard deviation tells how much the seed matters, the interval how much the questions do.
    """
    right, rows = np.array([[row["correct"] for row in run] for run in runs]), runs[0]
    clusters = np.unique([row["cluster"] for row in rows], return_inverse=True)[1]
    kinds = np.array([row["qtype"] for row in rows])
    per_type = {name: _seed_scores(right[:, kinds == name], clusters[kinds == name]) for name in ordered_types(set(kinds.tolist()))}
    return {"overall": _seed_scores(right, clusters), "per_type": per_type}


def _seed_scores(right, clusters):
    accuracies, share = right.mean(axis=1), right.mean(axis=0)
    interval = accuracy_interval(cluster_sums(clusters, np.ones(len(share)), share))
    return {"count": len(share), "mean": float(accuracies.mean()), "sd": float(accuracies.std(ddof=1)), "interval": interval}


def seeds_table(seeds):
    """`over_seeds` as lines of text."""
    line = "{:<20} {:<10} {:<10} {:<10} {:<20}".format
    lines = [line("Question Type", "Count", "Mean", "SD", "95 % interval").rstrip(), "-" * 80]
    for name, item in [*seeds["per_type"].items(), ("OVERALL (micro)", seeds["overall"])]:
        low, high = (f"{end:.2%}" for end in item["interval"][:2])
        lines.append(line(printable(name), item["count"], f"{item['mean']:.2%}", f"{item['sd']:.2%}", f"{low} to {high}").rstrip())
    return "\n".join(lines)
