"""What the training rows say about each question: its type, its valid answers, and whether they are label lists.

Rules that read the question alone mislabel real data: "Is this finding easy to detect?" is also `not relevant`.
The space is mined from training rows only and applied unchanged to every split. It is saved beside the adapter, so that
prediction uses the one that training saw. With `data.answer_space: rules` it holds the rules' verdict instead.

A question's answers are closed when the next one is unlikely to be new. The probability of an unseen kind is about the
number of kinds seen once, N1, over that of all answers, N (Good 1953, "The population frequencies of species and the
estimation of population parameters", after Turing). For label lists the kinds are labels, not whole lists.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from collections import Counter
from itertools import combinations

from config import DataConfig
from data.aliases import ALIASES, TIGHT_LIST, fold_label, question_template, spellings_where_seen
from data.matching import (
    EXCLUSIVE,
    YES_NO,
    are_labels,
    chosen_options,
    is_junk,
    labels_of,
    looks_like_list,
    normalize_answer,
    separators_in,
    split_labels,
)
from data.rules import BUILT_IN, CLOSED_TYPES, as_the_rules_say, enrich_row, given_candidates, mine_verdict, rule_candidates, rule_type
from files import UserError, hash_of, read_json, write_json

TIGHT = "; without a space"
SPACE_FILE = "answer_space.json"
MIN_ROWS = 30  # fewer training rows never close a question
LARGEST_COUNT = 100  # answers to "how many" beyond this are no range to be filled
SHOWN = 100  # labels whose counts an open question's entry lists


# ---------------------------------------------------------------------------------------------------------------------
# Mining


def mine(train_rows, settings=DataConfig()):
    """Return the answer space of training rows (an iterable of checked rows), a dict that JSON can hold.

    settings: `answer_space`, `max_unseen`, `count_margin` of the configuration's data section. `questions` has an entry
    for every question template whose training rows say more than the rules do; the others are only counted. `given` has
    one for every template whose candidates come from the rows' options or from a type that users added to schema.py.
    """
    if settings.answer_space == "rules":
        return {"mode": "rules", **mine_verdict(train_rows)}
    asked, given, tight = {}, {}, Counter()
    for row in train_rows:
        if is_junk(row["answer"]):
            continue
        question_type = rule_type(row)
        candidates = given_candidates(question_type, row)
        if candidates:
            _note_given(given, question_type, candidates, row)
        else:
            key = question_template(row["question"])
            asked.setdefault(key, (question_type, Counter()))[1][normalize_answer(row["answer"])] += 1
            tight[key] += TIGHT_LIST.search(row["answer"]) is not None
    questions, others = {}, Counter()
    for key in sorted(asked):
        question_type, answers = asked.pop(key)
        entry = _describe_question(key, question_type, answers, Counter({TIGHT: tight[key]}), settings)
        if _says_what_the_rules_say(key, entry):  # nothing to keep; a data set may ask each of its questions once
            others.update(questions=1, rows=answers.total())
        else:
            questions[key] = entry
    mined, chosen = sum(entry["rows"] for entry in questions.values()), sum(entry["rows"] for entry in given.values())
    return {
        "mode": "mined",
        "rows": mined + chosen + others["rows"],
        "questions": questions,
        "given": dict(sorted(given.items())),
        "as_the_rules_say": {"questions": others["questions"], "rows": others["rows"]},
    }


def _note_given(given, question_type, candidates, row):
    empty = {"type": question_type, "rows": 0, "label_lists": 0, "outside": 0, "example_outside": None}
    entry = given.setdefault(question_template(row["question"]), empty)
    answer = _given_answer(row, candidates)
    entry["rows"] += 1
    if "; " in answer and not row.get("options"):
        entry["label_lists"] += 1
        if signs := separators_in(row["answer"]):
            entry["separators"] = sorted({*entry.get("separators", ()), *signs})
    if answer not in candidates:
        entry["outside"] += 1
        entry["example_outside"] = entry["example_outside"] or answer


def _given_answer(row, candidates):
    """The normalised answer of a row with given candidates: an option's letter as its text, folded only to meet one.

    Candidates with another separator between them are a list, too: that all of it is candidates bears it out.
    """
    if row.get("options"):
        return "; ".join(chosen_options(row["answer"], row["options"])) or normalize_answer(row["answer"])
    answer = normalize_answer(row["answer"])
    for text in (answer, fold_label(answer, {}), "; ".join(split_labels(answer, ALIASES["separators"]))):
        if set(text.split("; ")) <= set(candidates):
            return text
    return answer


def list_separators(answers):
    """The separators beside `;` by which a question's answers (Counter of normalised texts) are lists of labels.

    Commas stand in prose and in names, too, so the answers have to bear it out. Of the labels that lists with a separator would
    have, most have to recur in another answer, and a third to be free: alone in some answer, or once first and once later.
    `Smith, John` and `Smith, Anna` have none that is free; `red, slightly swollen` beside `red` has one that recurs.
    """
    items = {answer: list(filter(None, map(normalize_answer, split_labels(answer, ALIASES["separators"])))) for answer in answers}
    answers_with = Counter(label for labels in items.values() for label in set(labels))
    first = {labels[0] for labels in items.values() if len(labels) > 1}
    later = {label for labels in items.values() for label in labels[1:]}
    free = first & later | {labels[0] for labels in items.values() if len(labels) == 1}
    found, recur, move = Counter(), Counter(), Counter()
    for answer, rows in answers.items():
        for sign in separators_in(answer):
            found[sign] += rows * len(items[answer])
            if looks_like_list(answer):
                recur[sign] += rows * sum(answers_with[label] > 1 for label in items[answer])
                move[sign] += rows * sum(label in free for label in items[answer])
    return [sign for sign in ALIASES["separators"] if 2 * recur[sign] > found[sign] and 3 * move[sign] >= found[sign]]


def _describe_question(key, asked_type, answers, folded, settings):
    """The entry of one question template.

    answers: its normalised answers and how often each was given (Counter). folded: foldings counted so far (Counter).
    """
    separators = list_separators(answers)
    spellings = spellings_where_seen({label for answer in answers for label in split_labels(answer, separators)})
    counts = Counter()
    for answer, rows in answers.items():
        counts[tuple(dict.fromkeys(_folded_labels(answer, spellings, separators, folded, rows)))] += rows
    kinds = Counter()
    for labels, rows in counts.items():
        kinds.update(dict.fromkeys(labels, rows))
    is_yes_no = set(kinds) <= {*YES_NO, *EXCLUSIVE} and not kinds.keys().isdisjoint(YES_NO)
    multi_label = not is_yes_no and _are_label_lists(counts)
    if not multi_label:
        kinds = Counter({"; ".join(labels): rows for labels, rows in counts.items()})
    numbers = _count_range(kinds, settings.count_margin) if asked_type == "count_numeric" and not multi_label else []
    unseen = unseen_mass(kinds, YES_NO if is_yes_no else numbers[: -settings.count_margin - 1])
    closed = counts.total() >= MIN_ROWS and unseen < settings.max_unseen
    entry = {"type": _corrected_type(asked_type, is_yes_no, kinds, closed or multi_label), "rule_type": asked_type}
    entry |= {"rows": counts.total(), "multi_label": multi_label, "closed": closed, "unseen_mass": round(unseen, 5)}
    entry["label_lists"] = sum(rows for labels, rows in counts.items() if multi_label and len(labels) > 1)
    entry["candidates"] = None
    if closed:
        singles = {*kinds, *numbers, *(YES_NO * is_yes_no)}
        entry["candidates"] = label_order(counts) if multi_label else _in_order(singles)
    elif asked_type == "yes_no" and kinds and set(kinds) <= set(YES_NO):
        entry["candidates"] = rule_candidates(asked_type, key)
    entry |= {"counts": dict(kinds.most_common(None if closed else SHOWN)), "kinds": len(kinds), "spellings": spellings}
    entry |= {"separators": separators} if separators else {}
    return {**entry, "folded": dict(+folded)}


def unseen_mass(kinds, known=()):
    """Good-Turing: the probability that the next answer is of a kind not seen yet, N1 / N.

    kinds: Counter. known: kinds that are valid whether seen or not, and whose being seen once tells nothing.
    """
    return sum(rows == 1 and kind not in known for kind, rows in kinds.items()) / max(kinds.total(), 1)


def _are_label_lists(counts):
    """Do the answers (Counter of label tuples) hold lists of labels, and not prose or numbers with semicolons?"""
    lists = {labels: rows for labels, rows in counts.items() if len(labels) > 1}
    proper = [rows for labels, rows in lists.items() if are_labels(labels)]
    return bool(proper) and 2 * sum(proper) > sum(lists.values())


def _count_range(kinds, margin):
    """Every integer from 0 to `margin` above the largest answer, as text; none where no answer is a small integer."""
    seen = [int(kind) for kind in kinds if re.fullmatch("[0-9]{1,9}", kind)]
    return list(map(str, range(max(seen) + margin + 1))) if seen and max(seen) <= LARGEST_COUNT else []


def _corrected_type(asked_type, is_yes_no, kinds, has_labels):
    if asked_type not in BUILT_IN:
        return asked_type
    if is_yes_no:
        return "yes_no"
    if has_labels:
        return asked_type if asked_type in CLOSED_TYPES else "mcq"
    contradicted = asked_type == "yes_no" and not set(kinds) <= {*YES_NO, *EXCLUSIVE}
    return "open_ended" if contradicted else asked_type


def _in_order(labels):
    """Single answers for people to read: yes and no, then by number or alphabet, then none and not relevant."""
    ordered = sorted(set(labels) - {*YES_NO, *EXCLUSIVE}, key=_natural)
    return [*filter(labels.__contains__, YES_NO), *ordered, *filter(labels.__contains__, EXCLUSIVE)]


def _natural(label):
    """Sorts `<5mm`, `5-10mm`, `11-20mm`, `>20mm` and 2, 10 by their first number; words follow, by the alphabet."""
    number = re.match(r"([<>≤≥]?)=? ?([0-9]+(?:\.[0-9]+)?)", label)
    return (0, float(number[2]), "<≤ ≥>".index(number[1] or " "), label) if number else (1, 0.0, 0, label)


def label_order(counts):
    """The labels of a label-list question in canonical order, exclusive ones last.

    counts: Counter of label tuples as answered. Of two labels that one comes first which does in most answers with
    both (`pink; red; white`, as the annotators wrote); where that leaves a choice, number or alphabet decide. Next is
    always the label that the fewest answers put behind one still to come, so that circles do no harm.
    """
    before = Counter()
    for labels, rows in counts.items():
        for pair in combinations(labels, 2):
            before[pair] += rows
    usual = _in_order({label for labels in counts for label in labels})
    ordered = [label for label in usual if label not in EXCLUSIVE]
    behind = {label: {other: before[other, label] - before[label, other] for other in ordered} for label in ordered}
    waiting = {label: sum(max(rows, 0) for rows in others.values()) for label, others in behind.items()}
    order = []
    while waiting:
        order.append(min(waiting, key=waiting.get))  # of equals the first, by number or alphabet
        del waiting[order[-1]]
        for label in waiting:
            waiting[label] -= max(behind[label][order[-1]], 0)
    return order + [label for label in usual if label in EXCLUSIVE]


# ---------------------------------------------------------------------------------------------------------------------
# Applying


def apply(space, row, folded=None):
    """Return the enriched row: question_type, answer_candidates, multi_label, normalised answer, answer_raw.

    The constraint comes from the question (or its options) and the space, never from the row's answer. folded: a
    Counter of the spellings folded, to be added to.
    """
    if space["mode"] == "rules":
        return enrich_row(row, space)
    folded = Counter() if folded is None else folded
    key, question_type = question_template(row["question"]), rule_type(row)
    candidates = given_candidates(question_type, row)
    if candidates:
        multi_label = _has_given_lists(space, key, row)
        answer = None if row.get("answer") is None else _given_answer(row, candidates)
        order, candidates = [], None if multi_label else candidates
    else:
        entry = space["questions"].get(key) or as_the_rules_say(question_type, key)
        question_type, candidates, multi_label = entry["type"], entry["candidates"], entry["multi_label"]
        answer, order = _folded_answer(row, entry, folded), candidates or []
    enriched = {**row, "question_type": question_type, "multi_label": multi_label, "answer_candidates": candidates}
    if answer is not None:
        answer = _in_canonical_order(answer, order) if multi_label else answer
        enriched |= {"answer": answer, "answer_raw": row["answer"]}
    return enriched


def says_more_than_the_rules(space, question):
    """Has the space its own answers for this question? Not where training rows never asked it or only confirm the rules."""
    return space["mode"] != "rules" and question_template(question) in space["questions"]


def _has_given_lists(space, key, row):
    """Given candidates are single answers; a question that training rows answer with lists goes unconstrained."""
    return not row.get("options") and space["given"].get(key, {"label_lists": 0})["label_lists"] > 0


def _folded_answer(row, entry, folded):
    if row.get("answer") is None:
        return None
    folded[TIGHT] += TIGHT_LIST.search(row["answer"]) is not None
    return "; ".join(_folded_labels(normalize_answer(row["answer"]), entry["spellings"], entry.get("separators", ()), folded, 1))


def _folded_labels(answer, spellings, separators, folded, rows):
    """The labels of a normalised answer in the spelling that is kept; counts each change in `folded` as `>20 → >20mm`."""
    folded.update({f"{sign} → ;": rows for sign in separators if sign in separators_in(answer)})
    labels = [normalize_answer(label) for label in split_labels(answer, separators)]
    kept = [fold_label(label, spellings) for label in labels if label]
    for label, other in zip(labels, kept):
        if label != other:
            folded[f"{label} → {other}"] += rows
    return kept


def _in_canonical_order(answer, order):
    """A label list without repeats, in the vocabulary's order; labels that it lacks come last, by the alphabet."""
    place = {label: index for index, label in enumerate(order)}
    return "; ".join(sorted(set(answer.split("; ")), key=lambda label: (place.get(label, len(place)), label)))


def _says_what_the_rules_say(key, entry):
    rules = as_the_rules_say(entry["rule_type"], key)
    same = all(entry[name] == rules[name] for name in rules)
    return same and not entry["closed"] and not entry["folded"]


def reachable(enriched):
    """Can the row's constraint produce its answer, or another of its references? Always where there is none."""
    references = [enriched.get("answer"), *(enriched.get("answers") or ())]
    return enriched["answer_candidates"] is None or any(_can_say(enriched, text) for text in references)


def _can_say(enriched, text):
    candidates = set(enriched["answer_candidates"])
    if normalize_answer(text) in candidates:
        return True
    convention = {"spellings": spellings_where_seen(candidates), "separators": ALIASES["separators"]}
    labels = labels_of(text, convention, enriched.get("options")).keys()
    return labels <= candidates and (len(labels) == 1 or _is_list(labels, enriched))


def trainable(enriched):
    """Is the row's answer, letter by letter, one that its constraint can produce? Else a model would learn what it may never say."""
    candidates, answer = enriched["answer_candidates"], enriched["answer"]
    labels = answer.split("; ")
    return candidates is None or answer in candidates or set(labels) <= set(candidates) and _is_list(labels, enriched)


def _is_list(labels, enriched):
    return enriched["multi_label"] and len(labels) > 1 and set(labels).isdisjoint(EXCLUSIVE)


# ---------------------------------------------------------------------------------------------------------------------
# Keeping


def save(space, path):
    """Write a space where people and programs can read it."""
    write_json(path, space)


def load(path):
    """Read a space. Raises UserError where the file is missing or holds something else."""
    space = read_json(path)
    if not _is_space(space):
        raise UserError(f"{path}: not an answer space; train anew, or delete it to have it mined again")
    return space


def _is_space(space):
    """Does what a file holds have the parts that `apply` and `conventions` read?"""
    if not isinstance(space, dict):
        return False
    if space.get("mode") == "rules":
        return isinstance(space.get("unconstrained"), dict) and isinstance(space.get("multi_label"), list)
    questions, given = space.get("questions"), space.get("given")
    if space.get("mode") != "mined" or not isinstance(questions, dict) or not isinstance(given, dict):
        return False
    of_kind = lambda entry, kinds: isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())
    kinds = {"type": str, "candidates": list | None, "multi_label": bool, "spellings": dict, "separators": list | None}
    return all(of_kind(entry, kinds) for entry in questions.values()) and all(
        of_kind(entry, {"label_lists": int}) for entry in given.values()
    )


def fingerprint(space):
    """Hash of what a space says."""
    return hash_of(space)


def conventions(space):
    """What holds for one question template only: `{template: {"spellings": {">20": ">20mm"}, "separators": [","]}}`, or less.

    Only what data/aliases.yaml has: a space can't make other words the same.
    """
    named = {}
    for key, entry in {**space.get("given", {}), **space.get("questions", {})}.items():
        spellings = {said: kept for said, kept in entry.get("spellings", {}).items() if ALIASES["labels_where_seen"].get(said) == kept}
        separators = [sign for sign in entry.get("separators") or () if sign in ALIASES["separators"]]
        convention = {"spellings": spellings, "separators": separators}
        named[key] = {name: found for name, found in convention.items() if found}
    return {key: convention for key, convention in named.items() if convention}


def describe(space):
    """Lines for people: what was mined, spellings folded, and answers that lie outside given candidates."""
    if space["mode"] == "rules":
        return ["answer space: the rules of data/schema.py"]
    entries, folded = space["questions"].values(), Counter()
    for entry in entries:
        folded.update(entry["folded"])
    closed = [entry for entry in entries if entry["closed"]]
    lists = sum(entry["multi_label"] for entry in closed)
    line = f"answer space of {space['rows']} training rows: {len(closed)} questions closed"
    line += f" ({lists} of them label lists), {len(entries) - len(closed)} open"
    line += f", {space['as_the_rules_say']['questions']} as the rules say"
    lines = [line + folding_note(folded)]
    for key, entry in space["given"].items():
        if entry["outside"] and entry["type"] != "mcq":  # of options, enrichment counts the rows that it leaves out
            lines.append(
                f"WARNING: {entry['outside']} of {entry['rows']} training answers to '{key}' lie outside the "
                f"candidates given for {entry['type']}, first '{entry['example_outside']}'; "
                "correct them or data/schema.py"
            )
    return lines


def folding_note(folded):
    """`; 62 spellings folded (lower-rigth → lower-right 56, >20 → >20mm 6)`, or nothing."""
    folded = +Counter(folded)
    kinds = ", ".join(f"{name} {count}" for name, count in folded.most_common())
    return f"; {folded.total()} spellings folded ({kinds})" if folded else ""
