"""Scores by any field of the data file: stage, source, hospital, complexity, patient. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --against DATA --by FIELD")

import difflib
import json
from collections import defaultdict

import numpy as np

from data.rows import read_rows
from data.stages import stage_of
from evaluation.intervals import accuracy_interval, cluster_sums, effective_clusters
from evaluation.metrics import group_scores
from evaluation.tables import FEW_CLUSTERS, number
from files import UserError, printable, quoted

MANY = 30  # groups are listed, the largest; more than that of numbers become quarters
QUARTERS = 12  # so many different numbers are each a group, more of them are cut into four
NAMES = ("group", "patient", "video", "case")  # their numbers are names, as those of columns that end in `id` are
NOT_GIVEN, OTHERS = "(not given)", "(all others)"
OWN = ("question_type", "answer_type", "stage")  # known of every row, where the file doesn't say it
NOT_FIELDS = ("id", "answer", "answer_raw", "answers", "answers_by", "options", "images", "answer_candidates", "box")


def with_fields(rows, source, names, corrections=None):
    """The rows with `fields`: {name: value}, the columns `names` of the data file's row of the same id.

    Every row also has `question_type` (its type), `answer_type`, `closed` where its question has valid answers to choose from and
    else `open`, and `stage` (data/stages.py); a column of the file that is called so goes before. Raises UserError, which names the
    columns that there are, for an unknown one, and for one that no groups can be made of.
    """
    data = {row["id"]: row for row in read_rows(source, need_answer=False, corrections=corrections)}
    columns = dict.fromkeys(key for row in data.values() for key in row)
    known = [*(key for key in columns if key not in NOT_FIELDS), *(key for key in OWN if key not in columns)]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {quoted(close[0])}?)" if close else ""
            raise UserError(f"--by {quoted(name)}: {source} has no such field{hint}; its fields are {', '.join(map(printable, known))}")
        _check_values(source, name, (row.get(name) for row in data.values()))
    own = lambda row: {"question_type": row["qtype"], "answer_type": "closed" if row.get("candidates") else "open"}
    value = lambda row, name: stage_of(row) if name == "stage" and name not in columns else own(row).get(name)
    return [{**row, "fields": {name: data[row["id"]].get(name, value(row, name)) for name in names}} for row in rows]


def _check_values(source, name, values):
    for value in values:
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            raise UserError(
                f"--by {quoted(name)}: {source} has {quoted(value)} there; groups are made of texts and numbers, or lists of them"
            )


def subgroups(judged, items, name, blind=None):
    """Scores by the groups of one field of judged rows (of `with_fields`).

    items: the rows' `metrics.compare_rows`; blind: the blind prior's judged rows in the same order, or None. Returns {"groups": [{
    "value", "count", "correct", "accuracy", "interval", "clusters", "effective_clusters", "few", "balanced_accuracy", "macro_f1",
    "blind"}], "values", "lists", "quarters"}: values is how many different ones there are, lists how many rows are in several
    groups, quarters whether numbers were cut into four groups of about one size. Numbers stand in their order, other texts by
    their number of rows; of more than MANY the rarest are one group. few: fewer than FEW_CLUSTERS effective clusters.
    """
    values = [row["fields"][name] for row in judged]
    labels, numbers = [_labels(value) for value in values], _numbers(values)
    different = {label for own in labels for label in own} - {NOT_GIVEN}
    measured = not any(isinstance(value, str) for value in values) and name not in NAMES and not name.endswith("id")
    quarters = numbers is not None and measured and len(different) > QUARTERS
    if quarters:
        labels = _in_quarters(labels, numbers)
    places = defaultdict(list)
    for place, own in enumerate(labels):
        for label in own:
            places[label].append(place)
    clusters = np.unique([row["cluster"] for row in judged], return_inverse=True)[1]
    groups = [_scored(value, chosen, items, clusters, blind) for value, chosen in _in_order(places, numbers is not None)]
    lists = sum(len(own) > 1 for own in labels)
    return {"groups": groups, "values": len(different), "lists": lists, "quarters": quarters}


def _labels(value):
    """The groups of a value: one, or of a list each of its items."""
    items = value if isinstance(value, list) else [value]
    found = dict.fromkeys(_text(item) for item in items if item is not None and str(item).strip())
    return list(found) or [NOT_GIVEN]


def _text(value):
    """A value as a group is called: true, 3, 0.25, a text in one line."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split())


def _numbers(values):
    """{label: number} where all values but the missing are single numbers, also where they are written as text, else None."""
    found = {}
    for value in values:
        if value is None or value == "":
            continue
        try:
            if isinstance(value, bool | list):
                return None
            found[_text(value)] = float(value)
        except (ValueError, OverflowError):  # an integer of 400 digits
            return None
    return found if all(map(np.isfinite, found.values())) else None


def _in_quarters(labels, numbers):
    """The labels with each number replaced by the quarter of the rows that it falls into, `0.1 to 0.5`; `numbers` learns these."""
    order = np.array([numbers[own[0]] for own in labels if own[0] in numbers])
    cuts = np.unique(np.quantile(order, [0.25, 0.5, 0.75], method="inverted_cdf"))
    place = lambda value: int(np.searchsorted(cuts, value))  # a quarter ends with its cut
    parts = defaultdict(list)
    for value in order:
        parts[place(value)].append(value)
    ends = {end for own in parts.values() for end in (min(own), max(own))}
    digits = next(n for n in range(6, 18) if len({f"{end:.{n}g}" for end in ends}) == len(ends))  # 17 tell all floats apart
    names = {key: f"{min(own):.{digits}g} to {max(own):.{digits}g}" for key, own in parts.items()}
    numbers_of = {names[key]: min(own) for key, own in parts.items()}
    replaced = [[names[place(numbers[own[0]])]] if own[0] in numbers else own for own in labels]
    numbers.clear()
    numbers.update(numbers_of)
    return replaced


def _in_order(places, numeric):
    """(label, places) in the order of the table; the rarest beyond MANY together, and rows without a value, last."""
    named = {label: own for label, own in places.items() if label != NOT_GIVEN}
    order = sorted(named, key=lambda label: (-len(named[label]), label))
    kept, rest = order[:MANY], order[MANY:]
    if numeric:
        kept.sort(key=lambda label: float(label.split(" to ")[0]))
    yield from ((label, named[label]) for label in kept)
    if rest:
        yield OTHERS, sorted({place for label in rest for place in named[label]})
    if NOT_GIVEN in places:
        yield NOT_GIVEN, places[NOT_GIVEN]


def _scored(value, chosen, items, clusters, blind):
    scores = group_scores([items[place] for place in chosen])
    sums = cluster_sums(clusters[chosen], np.ones(len(chosen)), [items[place].correct for place in chosen])
    weight = effective_clusters(sums)
    kept = {key: scores[key] for key in ("count", "correct", "accuracy", "balanced_accuracy", "macro_f1")}
    kept |= {"interval": accuracy_interval(sums), "clusters": len(sums), "effective_clusters": weight, "few": weight < FEW_CLUSTERS}
    floor = sum(blind[place]["correct"] for place in chosen) / len(chosen) if blind else None
    return {"value": value, **kept, "blind": floor}


def subgroup_table(name, found, unit):
    """The groups of a field as lines of text, and below what its columns don't say."""
    shown = _distinct([printable(item["value"]) for item in found["groups"]])
    width = max(24, *map(len, shown))
    line = f"{{:<{width}}} {{:>7}} {{:>8}} {{:>9}} {{:>17}} {{:>9}} {{:>9}}  {{}}".format
    lines = [f"By {printable(name)}", ""]
    lines += [line("Group", "Rows", _column(unit), "Accuracy", "95 % interval", "Balanced", "Blind", "").rstrip(), "-" * (width + 65)]
    for text, item in zip(shown, found["groups"]):
        low, high = item["interval"][:2]
        cells = [item["count"], item["clusters"], f"{item['accuracy']:.2%}", f"{low:.2%} - {high:.2%}", f"{item['balanced_accuracy']:.2%}"]
        cells.append("-" if item["blind"] is None else f"{item['blind']:.2%}")
        lines.append(line(text, *cells, "few" * item["few"]).rstrip())
    return "\n".join([*lines, *subgroup_notes(name, found, unit)])


def _distinct(labels):
    """Labels cut for a table, at 24 letters unless two would then print alike."""
    for width in (24, 48):
        cut = [label if len(label) <= width else f"{label[: width - 1]}…" for label in labels]
        if len(set(cut)) == len(set(labels)):
            return cut
    return labels


def _column(unit):
    """The heading of a column of clusters: `Images`, `Groups`."""
    return "Clusters" if " " in unit else unit.capitalize()


def subgroup_notes(name, found, unit):
    """What the table of a field doesn't say by itself."""
    if few := sum(item["few"] for item in found["groups"]):
        weigh = "weighs" if few == 1 else "weigh"
        yield f"few: {number(few, 'group')} {weigh} as fewer than {FEW_CLUSTERS} {unit}: little can be said of such an accuracy."
    if found["lists"]:
        yield f"{number(found['lists'], 'row')} with several values of {printable(name)} count in each of them."
    if found["quarters"]:
        yield f"{printable(name)} has {found['values']:,} different numbers: its groups are quarters of the rows."
    elif found["values"] > MANY:
        yield f"{printable(name)} has {found['values']:,} different values: the {MANY} commonest are listed."
