"""The dangerous error: nothing said to be there where something is. Sensitivity, specificity and predictive values.

Accuracy hides it: where 95 of 100 frames have no polyp, `no` to every one is right 95 times and misses every polyp. Scored
are questions that ask whether something is there: yes/no questions that do, counts whose truth is 0 or more, and labels among
which `none` is an answer.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from data.language import EXCLUSIVE, NO, NONE, YES
from data.lenient import said_leniently
from evaluation.intervals import accuracy_interval, cluster_sums

# Question templates (lower case, no punctuation) that ask whether something is there; others are about what is.
ASKS = re.compile(
    r"(?:is|are|was|were) (?:there|any)\b|(?:does|do|did) .*\b(?:contain|show|include|have|depict)\b|(?:can|do) you (?:see|find)\b"
    r"|(?:is|are|was|were) .*\b(?:present|visible|seen|found|detected)$|(?:has|have) any .*\b(?:found|seen|detected)$"
)
SOMETHING_ELSE = re.compile(r"\b(?:no|absence|absent|enough|(?:more|less|fewer) than|only|without)\b")  # another thing, or the reverse
YES_NO = YES | NO | {*EXCLUSIVE}
ABSENT = NO | {*NONE}
SCORES = {"sensitivity": "said to be there, of those that are", "specificity": "said to be absent, of those that are"}
SCORES |= {"positive_predictive_value": "are there, of those said to be", "negative_predictive_value": "are absent, of those said to be"}


class Asked(NamedTuple):
    """A row whose question asks whether something is there. said: None where the answer says neither."""

    row: dict
    place: int
    there: bool
    said: bool | None

    @property
    def missed(self):
        return self.there and self.said is False


def rows_that_ask(judged, items, templates):
    """{(type, template): list of Asked} of the questions that ask, the commonest first.

    judged: rows; items: their `metrics.Compared`; templates: their question templates (None without a question). Rows whose
    truth says neither, such as `not relevant`, are left out.
    """
    by_question = defaultdict(list)
    for place, template in enumerate(templates):
        if template is not None:
            by_question[judged[place]["qtype"], template].append(place)
    asked = {}
    for (qtype, template), places in by_question.items():
        known = {label for place in places for label in items[place].gt}
        if _asks(qtype, template, known):
            case_of = lambda place: (items[place].correct, judged[place]["gt"], judged[place]["pred"], items[place].number)
            kinds = {case_of(place): place for place in places}  # the same few answers come again and again
            said = {case: _verdicts(judged[place], items[place], known) for case, place in kinds.items()}
            rows = ((place, *said[case_of(place)]) for place in places)
            asked[qtype, template] = [Asked(judged[place], place, *verdicts) for place, *verdicts in rows if verdicts[0] is not None]
    return dict(sorted(((key, rows) for key, rows in asked.items() if rows), key=lambda item: (-len(item[1]), item[0])))


def presence(asked):
    """Return {"overall": scores, "per_question": [scores with question, template and qtype]} of `rows_that_ask`, or None without any.

    scores: `there` and `absent` (rows by the truth), `missed` (there, said to be absent), `false_alarms`, and each of SCORES
    as {"value", "count", "interval"}, or None without a row to count. An answer that says neither is wrong for sensitivity
    and specificity alike.
    """
    if not asked:
        return None
    questions = [
        {"question": min(row.row["question"] for row in rows), "template": template, "qtype": qtype, **_scores(rows)}
        for (qtype, template), rows in asked.items()
    ]
    return {"overall": _scores([row for rows in asked.values() for row in rows]), "per_question": questions}


def _asks(qtype, template, known):
    """Does a question ask whether something is there? known: the labels of its truths."""
    if qtype == "yes_no" or known <= YES_NO:
        return ASKS.match(template) is not None and SOMETHING_ELSE.search(template) is None
    return qtype == "count_numeric" or (not known.isdisjoint(NONE) and len(known) > 1)


def _verdicts(row, item, known):
    """(is it there, is it said to be) of a row and its Compared. What is said in a sentence is read as the lenient score does."""
    true, number = item.number or (None, None)
    there = _is_there(row["qtype"], item.gt, true)
    if item.correct:
        return there, there
    said = _is_there(row["qtype"], item.pred & (known | YES_NO), number)
    if said is None and (
        labels := said_leniently(row["qtype"], row["pred"], row.get("candidates"), row.get("options"), row.get("question"))
    ):
        said = _is_there(row["qtype"], labels & (known | YES_NO), number)
    return there, said


def _is_there(qtype, labels, number):
    """Do labels (frozenset) or a count say that something is there? None where they say neither."""
    if qtype == "count_numeric":
        return None if number is None else number > 0
    absent = len(labels) == 1 and labels <= ABSENT
    if qtype == "yes_no" or labels <= YES | NO:
        return True if len(labels) == 1 and labels <= YES else False if absent else None
    return True if labels - NO - {*EXCLUSIVE} else False if absent else None


def _scores(rows):
    clusters = np.array([row.row["cluster"] for row in rows])
    there = np.array([row.there for row in rows])
    said = np.array([-1 if row.said is None else int(row.said) for row in rows])
    scores = {"there": int(there.sum()), "absent": int((~there).sum())}
    scores |= {"missed": sum(row.missed for row in rows), "false_alarms": int((~there & (said == 1)).sum())}
    of = (there, ~there, said == 1, said == 0)
    return scores | {name: _share(clusters[chosen], (there == said)[chosen]) for name, chosen in zip(SCORES, of)}


def _share(clusters, right):
    if not len(right):
        return None
    interval = accuracy_interval(cluster_sums(clusters, np.ones(len(right)), right))
    return {"value": float(right.mean()), "count": len(right), "interval": interval}
