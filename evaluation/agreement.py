"""How far the raters of the same rows (`answers_by`: {rater: answer}) agree: what no score against one of them can mean more than.

Kappa is agreement beyond chance: Cohen 1960 ("A coefficient of agreement for nominal scales") for two raters, each with the shares of
their own answers; Fleiss 1971 ("Measuring nominal scale agreement among many raters") for more, with rows of unequal numbers of
raters each weighted alike. Labels are compared as sets, counts by their number. No torch.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from collections import Counter
from itertools import combinations

from data.matching import conventions_of, is_junk, judge, labels_of, languages_of
from data.quantities import parse_count
from data.rules import ordered_types


def agreement(judged, tolerances, conventions):
    """{"raters", "kappa_of", "per_type", "overall"} of judged rows of which some have two raters' answers; None where none has.

    An item: count (rows of two raters or more), agreement (share of a row's pairs of raters whose answers are the same as a
    prediction and its truth are, mean over rows), exact (the same by equality of labels alone), kappa (of the labels, None where
    chance alone makes all agree), accuracy (of the predictions, on the same rows). tolerances, conventions: as for `matching.judge`.
    """
    rows = [row for row in judged if len(_answers(row)) > 1]
    if not rows:
        return None
    raters = sorted({rater for row in rows for rater in _answers(row)})
    kappa = cohen if len(raters) == 2 else fleiss
    labels = [{rater: _labels(row, text, conventions) for rater, text in _answers(row).items()} for row in rows]
    matched = [_matched(row, tolerances, conventions) for row in rows]
    places = {name: [place for place, row in enumerate(rows) if row["qtype"] == name] for name in {row["qtype"] for row in rows}}

    def item(chosen):
        mean = lambda values: sum(values) / len(chosen)
        return {
            "count": len(chosen),
            "agreement": mean(matched[place] for place in chosen),
            "exact": mean(_share_of_pairs(labels[place].values()) for place in chosen),
            "kappa": kappa([labels[place] for place in chosen]),
            "accuracy": mean(rows[place]["correct"] for place in chosen),
        }

    per_type = {name: item(places[name]) for name in ordered_types(places)}
    facts = {"raters": len(raters), "kappa_of": "Cohen" if kappa is cohen else "Fleiss"}
    return {**facts, "per_type": per_type, "overall": item(range(len(rows)))}


def _answers(row):
    """{rater: answer} of a row, without those that are missing."""
    return {rater: text for rater, text in (row.get("answers_by") or {}).items() if not is_junk(text)}


def _labels(row, text, conventions):
    convention = conventions_of(row, conventions)
    count = parse_count(text, row.get("question"), languages_of(convention)) if row["qtype"] == "count_numeric" else None
    return frozenset(labels_of(text, convention, row.get("options")) if count is None else [str(count)])


def _matched(row, tolerances, conventions):
    """Share of the pairs of a row's raters whose answers match, either one being the truth."""
    kept = {key: row[key] for key in ("qtype", "question", "options") if key in row}
    pairs = combinations(_answers(row).values(), 2)
    both = [{**kept, "gt": gt, "pred": pred} for one, other in pairs for gt, pred in ((one, other), (other, one))]
    verdicts = [judged["correct"] for judged in judge(both, tolerances, conventions)]
    return sum(verdicts) / len(verdicts)


def _share_of_pairs(labels):
    pairs = [one == other for one, other in combinations(labels, 2)]
    return sum(pairs) / len(pairs)


def cohen(rows):
    """Cohen's kappa of rows ({rater: label}, the same two raters in all); None where chance alone makes them agree always."""
    first, second = sorted(rows[0])
    shares = [Counter(row[rater] for row in rows) for rater in (first, second)]
    chance = sum(count * shares[1][label] for label, count in shares[0].items()) / len(rows) ** 2
    return _beyond(chance, sum(row[first] == row[second] for row in rows) / len(rows))


def fleiss(rows):
    """Fleiss' kappa of rows ({rater: label}, two or more in each, perhaps others in each); None as `cohen`.

    The shares of labels are those of all answers; rows of unequal numbers of raters weigh alike, as Fleiss' do.
    """
    answers = Counter(label for row in rows for label in row.values())
    chance = sum((count / answers.total()) ** 2 for count in answers.values())
    return _beyond(chance, sum(_share_of_pairs(row.values()) for row in rows) / len(rows))


def _beyond(chance, agreed):
    return None if chance == 1 else (agreed - chance) / (1 - chance)
