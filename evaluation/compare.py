"""Two predictions files row by row, or one configuration over several seeds: what can be concluded, in tables and a sentence.

Both files answer the same questions about the same images, so differences are paired and their intervals resample images.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --compare A B")

import statistics

import numpy as np

from data.rules import ordered_types
from evaluation.intervals import LEVEL, accuracy_interval, cluster_sums, difference_interval, holm, paired_test
from evaluation.metrics import cluster_of

ALPHA = round(1 - LEVEL, 6)


# ---------------------------------------------------------------------------------------------------------------------
# Two files


def compare(first, second):
    """Compare judged rows A (first) and B (second) of the same ids and types, in any order.

    Returns {"overall", "per_type": {type: …}, "unit"}. Each item has count, a, b (accuracies), difference
    (b - a), interval, only_a, only_b (rows that only one has right), test and p; types have p_holm, adjusted over the types.
    """
    other = {row["id"]: row for row in second}
    pairs = [(row, other[row["id"]]) for row in first]
    types = ordered_types({row["qtype"] for row in first})
    per_type = {name: _compared([pair for pair in pairs if pair[0]["qtype"] == name]) for name in types}
    for item, adjusted in zip(per_type.values(), holm([item["p"] for item in per_type.values()])):
        item["p_holm"] = adjusted
    return {"overall": _compared(pairs), "per_type": per_type, "unit": unit_of(first)}


def _compared(pairs):
    a, b = (np.array([pair[side]["correct"] for pair in pairs], dtype=int) for side in (0, 1))
    sums = cluster_sums([cluster_of(row) for row, _ in pairs], np.ones(len(pairs)), b - a)
    p, test = paired_test(sums)
    return {
        "count": len(pairs),
        "clusters": len(sums),
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": float(b.mean() - a.mean()),
        "interval": difference_interval(sums),
        "only_a": int((a > b).sum()),
        "only_b": int((b > a).sum()),
        "test": test,
        "p": p,
    }


def unit_of(rows):
    """What the rows' clusters are: `groups`, `images`, or `rows` where neither is known."""
    kinds = {cluster_of(row).split(" ", 1)[0] for row in rows}
    return "groups" if "group" in kinds else "images" if "image" in kinds else "rows"


def comparison_table(comparison):
    """The comparison as lines of text; differences in percentage points."""
    line = "{:<20} {:>6} {:>8} {:>8} {:>8}  {:<18} {:<8}".format
    lines = [line("Question Type", "Count", "A", "B", "B - A", "95 % interval", "p (Holm)").rstrip(), "-" * 80]
    for name, item in [*comparison["per_type"].items(), ("OVERALL (micro)", comparison["overall"])]:
        interval = "{:+.2f} to {:+.2f}".format(*(100 * end for end in item["interval"][:2]))
        p = short_p(item.get("p_holm", item["p"]))
        lines.append(
            line(name, item["count"], f"{item['a']:.2%}", f"{item['b']:.2%}", f"{100 * item['difference']:+.2f}", interval, p).rstrip()
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
    p = "p < 0.001" if overall["p"] < 0.001 else f"p = {overall['p']:.3f}"
    sure = "" if overall["p"] <= ALPHA else ", which these rows cannot tell from no difference"
    first = (
        f"On {overall['count']:,} questions{about}, {name_b} answered {overall['b']:.2%} correctly and {name_a} {overall['a']:.2%}: "
        f"a paired difference of {100 * overall['difference']:+.2f} percentage points "
        f"(95% confidence interval {low:+.2f} to {high:+.2f}; {test}, {p}){sure}."
    )
    return f"{first} {_by_type(comparison['per_type'])}".strip()


def _by_type(per_type):
    """Which types differ after Holm's correction; nothing where there is one type only."""
    if len(per_type) < 2:
        return ""
    better = [
        f"{name} ({100 * item['difference']:+.2f})" for name, item in per_type.items() if item["p_holm"] <= ALPHA and item["difference"] > 0
    ]
    worse = [
        f"{name} ({100 * item['difference']:+.2f})" for name, item in per_type.items() if item["p_holm"] <= ALPHA and item["difference"] < 0
    ]
    open_ = [name for name, item in per_type.items() if item["p_holm"] > ALPHA]
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
    """Mean and standard deviation (n - 1) of the accuracy over runs (at least two lists of judged rows, of the same ids).

    Returns {type or "overall": {count, mean, sd, interval}}, where the interval is that of the mean and resamples images:
    the standard deviation tells how much the seed matters, the interval how much the questions do.
    """
    rows = [row for run in runs for row in run]
    groups = {name: [row for row in rows if row["qtype"] == name] for name in ordered_types({row["qtype"] for row in rows})}
    return {name: _seed_scores(group, len(runs)) for name, group in [*groups.items(), ("overall", rows)]}


def _seed_scores(rows, runs):
    size = len(rows) // runs
    accuracies = [sum(row["correct"] for row in rows[start : start + size]) / size for start in range(0, len(rows), size)]
    pooled = cluster_sums([cluster_of(row) for row in rows], np.ones(len(rows)), [row["correct"] for row in rows])
    mean, sd = statistics.fmean(accuracies), statistics.stdev(accuracies)
    return {"count": size, "mean": mean, "sd": sd, "interval": accuracy_interval(pooled)}


def seeds_table(seeds):
    """`over_seeds` as lines of text."""
    line = "{:<20} {:<10} {:<10} {:<10} {:<20}".format
    lines = [line("Question Type", "Count", "Mean", "SD", "95 % interval").rstrip(), "-" * 80]
    for name, item in seeds.items():
        low, high = (f"{end:.2%}" for end in item["interval"][:2])
        label = "OVERALL (micro)" if name == "overall" else name
        lines.append(line(label, item["count"], f"{item['mean']:.2%}", f"{item['sd']:.2%}", f"{low} to {high}").rstrip())
    return "\n".join(lines)
