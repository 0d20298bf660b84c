"""Every score of judged predictions: the headline accuracy, and what stands beside it per type, per question, overall.

    scores, details = aggregate(judged), measure(judged, conventions)      judged = judge(rows, tolerances, conventions)

The formulas are written out here, because the usual ones mislead: macro-F1 helpers that average over predicted labels
reward a model for answers nobody gave (or return 1.0 at 0.33), and libraries call an empty prediction for an empty truth a
match. Labels are always those of the truth; whatever else was predicted is `invalid` and costs recall. scikit-learn is the
oracle in the tests.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import math
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np

from data.aliases import question_template
from data.matching import conventions_of, is_empty, judge, labels_of, languages_of, normalize_answer
from data.quantities import parse_count, parse_quantity
from data.rules import ordered_types
from evaluation.confidence import auroc_of
from evaluation.intervals import accuracy_interval, cluster_sums, effective_clusters, macro_interval
from evaluation.presence import presence, rows_that_ask

BINS = 15  # of the calibration error (Guo et al. 2017)
CURVE_POINTS = 101  # at most, of a risk-coverage curve
CONFUSION_LABELS = 12  # the commonest are shown; rarer ones become one row
MIN_CONFUSION = 20  # rows of a question for a matrix of its own
MAX_LABELS = 100  # whose recall is listed, of each type
MAX_QUESTIONS = 200  # the commonest question templates are listed; a data set may ask each question once
OTHER, INVALID = "other labels", "invalid"


class Compared(NamedTuple):
    """What the scores read off one judged row.

    gt, pred: frozensets of normalised labels in the spelling that is kept. number: (true, predicted or None) of a whole
    count. bins: (true place, predicted place or None) among the sizes of the question's truths. mm: absolute error, where
    both are single measurements.
    """

    correct: bool
    strict: bool
    empty: bool
    gt: frozenset
    pred: frozenset
    listed: bool  # some truth of this question is a list of labels
    number: tuple | None = None
    bins: tuple | None = None
    mm: float | None = None
    confidence: float | None = None
    abstained: bool | None = None


def strict_match(gt, pred):
    """Are two texts (pred: str or None) the same string, but for the amount of white space? Never, where pred is empty."""
    return not is_empty(pred) and " ".join(gt.split()) == " ".join(pred.split())


def template_of(row):
    """The question template of a prediction row, or None where it has no question."""
    return question_template(row["question"]) if row.get("question") else None


# ---------------------------------------------------------------------------------------------------------------------
# The headline


def aggregate(judged, verdict="correct"):
    """Return the scores of judged rows (at least one), every accuracy a share of 1 beside its count.

    per_type: question type -> count, correct, accuracy, in table order. micro: accuracy over rows. macro: mean of the
    types' accuracies. empty: number of empty predictions, all of them counted as wrong. verdict: the rows' key to count.
    """
    counts, said = Counter([row["qtype"] for row in judged]), Counter([row["pred"] for row in judged])
    correct = Counter([row["qtype"] for row in judged if row[verdict]])
    per_type = {
        name: {"count": counts[name], "correct": correct[name], "accuracy": correct[name] / counts[name]} for name in ordered_types(counts)
    }
    return {
        "n": len(judged),
        "correct": correct.total(),
        "micro": correct.total() / len(judged),
        "macro": math.fsum(item["accuracy"] for item in per_type.values()) / len(per_type),
        "per_type": per_type,
        "empty": sum(count for pred, count in said.items() if is_empty(pred)),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Comparing rows


def compare_rows(judged, conventions=None):
    """Return a Compared for each judged row, in order. conventions: as for `matching.judge`."""
    labels = _Labels(conventions)
    cases = [(row["qtype"], row.get("question"), row["gt"], row["pred"], row["correct"], *row.get("options", ())) for row in judged]
    kinds = dict(zip(cases, judged))  # the same few answers come again and again
    listed, sizes = set(), defaultdict(set)
    for row in kinds.values():
        if len(labels.of(row, row["gt"])) > 1 and not row.get("options"):
            listed.add((row["qtype"], template_of(row)))
        if row["qtype"] == "size_numeric" and (size := _size_bin(row["gt"], labels.languages(row))):
            sizes[template_of(row)].add(size)
    places = {key: {size: place for place, size in enumerate(sorted(found, key=_size_order))} for key, found in sizes.items()}
    known = {case: _compared(row, labels, (row["qtype"], template_of(row)) in listed, places) for case, row in kinds.items()}
    return [Compared(*known[case], row.get("confidence"), row.get("abstained")) for case, row in zip(cases, judged)]


class _Labels:
    """The labels of texts, read once each."""

    def __init__(self, conventions):
        self.conventions, self.known = conventions, {}

    def languages(self, row):
        return languages_of(conventions_of(row, self.conventions))

    def of(self, row, text):
        key = text, row.get("question"), *row.get("options", ())
        if key not in self.known:
            self.known[key] = frozenset(labels_of(text, conventions_of(row, self.conventions), row.get("options")))
        return self.known[key]


def _compared(row, labels, listed, places):
    """The fields of a row's Compared but confidence and abstained."""
    number = bins = mm = None
    gt, pred, asked = row["gt"], row["pred"] or "", (row.get("question"), labels.languages(row))
    if row["qtype"] == "count_numeric" and (true := parse_count(gt, *asked)) is not None:
        number = true, parse_count(pred, *asked)
    elif row["qtype"] == "size_numeric":
        true, said, own = parse_quantity(gt, *asked), parse_quantity(pred, *asked), places.get(template_of(row), {})
        if true in own:
            bins = own[true], own.get(said)
        if true and said and true.single and said.single and true.unit == said.unit == "mm":
            mm = abs(true.lo - said.lo)
    verdicts = row["correct"], strict_match(gt, pred), is_empty(pred)
    return *verdicts, labels.of(row, gt), labels.of(row, pred), listed, number, bins, mm


def _size_bin(text, languages):
    """The range or bound (`5-10mm`, `<5mm`) that a text speaks of, or None: single measurements are no bins."""
    quantity = parse_quantity(text, None, languages)
    return quantity if quantity and not quantity.single else None


def _size_order(size):
    return size.lo, size.hi, size.lo_open, not size.hi_open, size.unit or ""


# ---------------------------------------------------------------------------------------------------------------------
# Scores of one group of rows


def group_scores(items):
    """The scores of some Compared rows (at least one), each share of 1 beside the count that it is of."""
    right = [item.correct for item in items]
    scores = {"count": len(items), "correct": sum(right), "accuracy": sum(right) / len(items)}
    scores |= {"strict": sum(item.strict for item in items) / len(items), "empty": sum(item.empty for item in items)}
    scores |= classification(*matched_labels(items))
    parts = {
        "label_lists": label_lists([item for item in items if item.listed]),
        "counts": within_one([item.number for item in items if item.number]),
        "size_bins": within_one([item.bins for item in items if item.bins]),
        "millimetres": _errors([item.mm for item in items if item.mm is not None]),
        "calibration": calibration([item for item in items if item.confidence is not None]),
        "abstention": abstention(items),
    }
    return scores | {name: part for name, part in parts.items() if part}


def matched_labels(items):
    """(truths, predictions) as label texts; a prediction that counts as right is its truth's label, None is `invalid`."""
    gold = ["; ".join(sorted(item.gt)) for item in items]
    known = set(gold) - {""}
    said = ["; ".join(sorted(item.pred)) for item in items]
    return gold, [true if item.correct else text if text in known else None for item, true, text in zip(items, gold, said)]


def classification(gold, pred):
    """Balanced accuracy (mean recall) and macro-F1 over the labels of the truth; a label never predicted has F1 0.

    gold: label texts. pred: label texts, None for predictions that are no label of the truth.
    """
    golds, preds = Counter(gold), Counter(pred)
    hits = Counter(true for true, said in zip(gold, pred) if true == said)
    recalls = [hits[label] / count for label, count in golds.items()]
    f1 = [2 * hits[label] / (count + preds[label]) for label, count in golds.items()]
    return {
        "labels": len(golds),
        "invalid": preds[None],
        "balanced_accuracy": math.fsum(recalls) / len(golds),
        "macro_f1": math.fsum(f1) / len(golds),
    }


def confusion(items, limit=CONFUSION_LABELS):
    """Confusion matrix: {"rows": labels of the truth, "columns": labels of the predictions, "counts": rows of ints}.

    The `limit` commonest labels, numbers in their order and the rest by count; rarer ones share a row and a column. The
    last column is `invalid`: empty predictions and those that are no label of the truth.
    """
    gold, pred = matched_labels(items)
    counts = Counter(gold)
    shown = sorted(sorted(counts, key=lambda label: (-counts[label], label))[:limit], key=_number_order)
    rows = [*shown, *[OTHER] * (len(counts) > limit)]
    columns = [*rows, INVALID]
    place = {label: index for index, label in enumerate(shown)}
    matrix = np.zeros((len(rows), len(columns)), dtype=int)
    for true, said in zip(gold, pred):
        matrix[place.get(true, limit), -1 if said is None else place.get(said, limit)] += 1
    return {"rows": rows, "columns": columns, "counts": matrix.tolist()}


def _number_order(label):
    quantity = parse_quantity(label)
    return (0, quantity.lo, quantity.hi) if quantity else (1, 0.0, 0.0)


def label_lists(items):
    """Scores of rows whose question is answered with lists of labels, as sets; None without any.

    exact_set: the same labels. jaccard, example_f1: means over rows. micro_f1: over all labels given; macro_f1: mean over
    the labels of the truth. An empty prediction has 0 everywhere.
    """
    if not items:
        return None
    both, true, said = Counter(), Counter(), Counter()
    for item in items:
        both.update(item.gt & item.pred)
        true.update(item.gt)
        said.update(item.pred)
    f1 = [2 * both[label] / (true[label] + said[label]) for label in true]
    return {
        "count": len(items),
        "exact_set": sum(item.gt == item.pred and bool(item.pred) for item in items) / len(items),
        "jaccard": math.fsum(len(item.gt & item.pred) / max(1, len(item.gt | item.pred)) for item in items) / len(items),
        "example_f1": math.fsum(2 * len(item.gt & item.pred) / max(1, len(item.gt) + len(item.pred)) for item in items) / len(items),
        "micro_f1": 2 * both.total() / max(1, true.total() + said.total()),
        "macro_f1": math.fsum(f1) / max(1, len(f1)),
    }


def within_one(pairs):
    """Shares of (true, predicted or None) whole numbers that are equal, and at most one apart; None without any."""
    if not pairs:
        return None
    apart = [abs(true - said) if said is not None else math.inf for true, said in pairs]
    return {"count": len(pairs), "exact": apart.count(0) / len(pairs), "within_one": sum(gap <= 1 for gap in apart) / len(pairs)}


def _errors(gaps):
    """Absolute errors in mm; only of rows where truth and prediction are both single measurements, so see the count."""
    return {"count": len(gaps), "mean_abs_error": math.fsum(gaps) / len(gaps), "median_abs_error": float(np.median(gaps))} if gaps else None


def calibration(items):
    """How far confidences can be trusted; None where no row has one.

    ece: expected calibration error over 15 bins of equal width, closed above (Guo et al. 2017). brier: mean squared
    distance of confidence from right (1) or wrong (0). curve: (coverage, accuracy) when only the most confident rows are
    answered, ties entering together; aurc: mean error rate along it (Geifman & El-Yaniv 2017).
    """
    if not items:
        return None
    confidence = np.array([item.confidence for item in items], dtype=float)
    right = np.array([item.correct for item in items], dtype=float)
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count, mean = np.bincount(index, minlength=BINS), np.bincount(index, confidence, BINS)
    hits = np.bincount(index, right, BINS)
    bins = [
        {"count": int(n), "confidence": float(c / n), "accuracy": float(h / n)} if n else {"count": 0, "confidence": None, "accuracy": None}
        for n, c, h in zip(count, mean, hits)
    ]
    curve, aurc = risk_coverage(confidence, right)
    return {
        "count": len(items),
        "ece": float(np.abs(hits - mean).sum() / len(items)),
        "brier": float(np.mean((confidence - right) ** 2)),
        "aurc": aurc,
        "bins": bins,
        "curve": curve,
    }


def risk_coverage(confidence, right):
    """([[coverage, accuracy], …] by falling confidence, area under the risk-coverage curve) of two float arrays (n,)."""
    levels, index, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    answered = np.cumsum(counts)
    accuracy = np.cumsum(np.bincount(index, right, len(levels))) / answered
    aurc = float(((1 - accuracy) * counts).sum() / len(right))
    kept = np.unique(np.linspace(0, len(levels) - 1, min(CURVE_POINTS, len(levels))).round().astype(int))
    return [[float(answered[place] / len(right)), float(accuracy[place])] for place in kept], aurc


def abstention(items):
    """Coverage and the accuracy of the rest where prediction could abstain (predict.min_confidence), else None."""
    if all(item.abstained is None for item in items):
        return None
    kept = [item.correct for item in items if not item.abstained]
    accuracy = sum(kept) / len(kept) if kept else None
    return {"abstained": len(items) - len(kept), "coverage": len(kept) / len(items), "accuracy_of_the_rest": accuracy}


# ---------------------------------------------------------------------------------------------------------------------
# All groups


def measure(judged, items):
    """Return {"overall", "macro", "per_type", "per_question", "questions_left_out", "presence"} of judged rows with `cluster`.

    items: their `compare_rows`. overall: `group_scores` of all rows. macro: the means of the types' scores. per_question: the
    commonest templates, with their first wording. Each accuracy has its clustered 95 % interval: see intervals.py.
    """
    clusters = np.unique([row["cluster"] for row in judged], return_inverse=True)[1]
    templates = [template_of(row) for row in judged]
    by_type, by_question = defaultdict(list), defaultdict(list)
    for index, row in enumerate(judged):
        by_type[row["qtype"]].append(index)
        if templates[index] is not None:
            by_question[row["qtype"], templates[index]].append(index)
    per_type = {name: _with_interval(items, clusters, by_type[name]) for name in ordered_types(by_type)}
    for name, scores in per_type.items():
        scores["confusion"] = confusion([items[index] for index in by_type[name]])
        scores["recall"] = recall_by_label(items, clusters, by_type[name]) if name != "open_ended" else None
    asked = sorted(by_question, key=lambda key: (-len(by_question[key]), key))
    return {
        "overall": _with_interval(items, clusters, range(len(items))),
        "macro": _macro(per_type, judged, clusters),
        "per_type": per_type,
        "per_question": [_question(judged, items, clusters, key, by_question[key]) for key in asked[:MAX_QUESTIONS]],
        "questions_left_out": len(asked[MAX_QUESTIONS:]),
        "presence": presence(rows_that_ask(judged, items, templates)),
    }


def _with_interval(items, clusters, chosen):
    chosen = list(chosen)
    right = [items[index].correct for index in chosen]
    sums = cluster_sums(clusters[chosen], np.ones(len(chosen)), right)
    scores = group_scores([items[index] for index in chosen])
    scores |= {"auroc": found} if (found := auroc_of(items, clusters, chosen)) else {}
    return scores | {"interval": accuracy_interval(sums), "clusters": len(sums), "effective_clusters": effective_clusters(sums)}


def recall_by_label(items, clusters, chosen):
    """[{label, count, found, recall, interval}] of the labels of the truth, the commonest first; of a list, each label by itself."""
    places, found = defaultdict(list), defaultdict(list)
    for index in chosen:
        for label in items[index].gt:
            places[label].append(index)
            found[label].append(items[index].correct or label in items[index].pred)
    scores = []
    for label in sorted(places, key=lambda label: (-len(places[label]), label))[:MAX_LABELS]:
        count, hits = len(places[label]), sum(found[label])
        interval = accuracy_interval(cluster_sums(clusters[places[label]], np.ones(count), found[label]))
        scores.append({"label": label, "count": count, "found": hits, "recall": hits / count, "interval": interval})
    return scores


def _question(judged, items, clusters, key, chosen):
    wording = min(judged[index]["question"] for index in chosen)
    scores = {"question": wording, "template": key[1], "qtype": key[0], **_with_interval(items, clusters, chosen)}
    if len(chosen) >= MIN_CONFUSION and 2 <= scores["labels"] <= CONFUSION_LABELS:
        scores["confusion"] = confusion([items[index] for index in chosen])
    return scores


def _macro(per_type, judged, clusters):
    """Means over types, and the interval of their accuracy."""
    keys = ("accuracy", "strict", "balanced_accuracy", "macro_f1")
    means = {key: math.fsum(scores[key] for scores in per_type.values()) / len(per_type) for key in keys}
    types = np.array([row["qtype"] for row in judged])
    right = np.array([row["correct"] for row in judged])
    columns = [column for name in per_type for column in (types == name, (types == name) & right)]
    sums = cluster_sums(clusters, *columns).reshape(-1, len(per_type), 2).swapaxes(0, 1)
    return {"count": len(per_type), **means, "interval": macro_interval(sums)}


def greedy_comparison(judged, tolerances, conventions=None):
    """How exact and greedy answers differ, on rows that have both (`greedy` beside `pred`); None without any."""
    both = [row for row in judged if isinstance(row.get("greedy"), str)]
    if not both:
        return None
    differ = [row for row in both if normalize_answer(row["pred"] or "") != normalize_answer(row["greedy"])]
    greedy = judge([{**row, "pred": row["greedy"]} for row in differ], tolerances, conventions)
    pairs = Counter((row["correct"], other["correct"]) for row, other in zip(differ, greedy))
    return {"count": len(both), "disagree": pairs.total(), "only_exact_right": pairs[True, False], "only_greedy_right": pairs[False, True]}
