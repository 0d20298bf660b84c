"""What the training rows say about each question: its type, its valid answers, and whether they are label lists.

Rules that read the question alone mislabel real data: "Is this finding easy to detect?" is also `not relevant`.
The space is mined from training rows only and applied unchanged to every split. It is saved beside the adapter, so that
prediction uses the one that training saw. With `data.answer_space: rules` it holds the rules' verdict instead.

A question's answers are closed when the next patient's are unlikely to be new. The probability of an unseen kind is about the
number of kinds seen once, N1, over that of all observations, N (Good 1953, "The population frequencies of species and the
estimation of population parameters", after Turing). Observations have to be independent, and a patient's frames aren't: what
counts is in how many groups a kind was seen, or in how many images where no group is given. For label lists the kinds are
labels, not whole lists. Leaving out one group after the other shows what that is worth: docs/method.md.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import gc
import re
from collections import Counter
from contextlib import contextmanager
from itertools import combinations

from config import DataConfig
from data.aliases import ALIASES, TIGHT_LIST, fold_label, question_template, spellings_where_seen
from data.image_copies import join_by_rows, unit
from data.language import EAST_ASIAN, EXCLUSIVE, NO, YES, same_yes_no, yes_no_answers, yes_no_spellings
from data.matching import (
    are_labels,
    chosen_options,
    is_junk,
    labels_of,
    looks_like_list,
    normalize_answer,
    separators_in,
    split_labels,
)
from data.personal import found_in, may_be_named
from data.quantities import parse_count
from data.rules import (
    BUILT_IN,
    CLOSED_TYPES,
    Reading,
    as_the_rules_say,
    enrich_row,
    free_types,
    given_candidates,
    is_choice,
    may_name_one_thing,
    mine_verdict,
    read_question,
    rule_type,
)
from data.text import clean, group_of
from files import UserError, hash_of, read_json, short, write_json

TIGHT = "; without a space"
SPACE_FILE = "answer_space.json"
MIN_ROWS = 30  # fewer training rows never close a question, nor fewer images where no group is given
MIN_GROUPS = 5  # nor fewer groups
MOST_UNSAID = 0.1  # of what was answered may be left out by name, or as rare, of a choice: an incision called Mercedes keeps it open
LARGEST_COUNT = 100  # answers to "how many" beyond this are no range to be filled


# ---------------------------------------------------------------------------------------------------------------------
# Mining


def mine(train_rows, settings=DataConfig()):
    """Return the answer space of training rows (an iterable of checked rows), a dict that JSON can hold.

    settings: the data section of a configuration. `questions` has an entry for every question template whose training rows say more
    than the rules do, `given` one for those with given candidates that are answered with lists. It holds no answers but the labels
    that may be said, each seen in `min_groups` groups, and no counts of them, and no question that fewer were asked: it lies beside an
    adapter that people publish. Such questions go by the rules, as those of the next patient do, but for `free_types`.
    `found` is for `describe` alone and is taken out before a space is kept.
    """
    seen = Counter()
    rows = _counted(train_rows, seen)
    if settings.answer_space == "rules":
        space = {"mode": "rules", **mine_verdict(rows, settings.min_groups), "found": {}}
    else:
        with _no_search_for_circles():
            space = _mined(rows, settings)
    space["found"]["without_group"] = seen[False] if settings.min_groups > 1 else 0
    return space


def _counted(rows, seen):
    """The rows; how many have a group is counted in seen ({bool: rows}) as they go by."""
    for row in rows:
        seen[group_of(row) is not None] += 1
        yield row


@contextmanager
def _no_search_for_circles():
    """Leave Python's search for unreachable circles out: millions of small objects are made here, none in a circle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _mined(train_rows, settings):
    asked, given = _gather(train_rows, settings.languages)
    reading = Reading(settings.languages, _yes_no_forms(asked, settings))
    rare = [key for key, question in asked.items() if not _may_be_kept(question, settings)]
    free, of_rare = _free_types(rare, asked, given, reading, settings), [asked.pop(key) for key in rare]
    reading = reading._replace(free_types=tuple(free))
    outside = {key: entry for key, entry in sorted(given.items()) if entry["outside"] and entry["type"] != "mcq"}
    others = Counter(questions=len(rare), rows=sum(map(_Asked.rows, of_rare)))
    questions, folded, known = {}, Counter(), {}
    for key in sorted(asked):
        question = asked.pop(key)
        asked_type = _type_by_wording(question, reading)
        rules = as_the_rules_say(asked_type, key, reading)
        if rules["candidates"] is None and asked_type != "yes_no" and _is_one_plain_answer(question.answers):
            others.update(questions=1, rows=1)
            continue
        by_rules = asked_type == "yes_no" and rules["candidates"] is not None
        is_yes_no = question.form is not None or by_rules or may_name_one_thing(key, reading.languages)
        case = asked_type, is_yes_no, question.grouped, question.tight, _small(question.answers), frozenset(question.people)
        entry, own_folded = known.get(case) or _describe_question(asked_type, is_yes_no, question, settings)
        if case[-2] is not None:  # a data set that asks each of its questions once has few such cases
            known[case] = entry, own_folded
        if not own_folded and not entry["closed"] and all(entry[name] == rules[name] for name in rules):  # nothing to keep
            others.update(questions=1, rows=entry["rows"])
        else:
            questions[key] = entry
            folded.update(own_folded)
    return {
        "mode": "mined",
        "languages": list(reading.languages),
        "yes_no_forms": reading.yes_no_forms,
        **({"free_types": free} if free else {}),
        "rows": sum(entry["rows"] for entry in [*questions.values(), *given.values()]) + others["rows"],
        "questions": questions,
        "given": {key: _kept_of_given(entry) for key, entry in sorted(given.items()) if _given_is_kept(entry, settings)},
        "as_the_rules_say": {"questions": others["questions"], "rows": others["rows"]},
        # of options, enrichment counts the rows that it leaves out
        "found": {
            "folded": dict(folded),
            "rare": len(rare),
            "outside": outside,
        },
    }


def _type_by_wording(question, reading):
    return "yes_no" if question.form in reading.yes_no_forms else question.type


def _may_be_kept(question, settings):
    """May an _Asked have an entry, which names it?"""
    return may_be_named(question.text, len(set().union(*question.answers.values())), settings.min_groups)


def _free_types(rare, asked, given, reading, settings):
    """The types whose rules' candidates the answers to rare questions (templates, of `asked`) contradict: `rules.free_types`."""
    said = []
    for key in rare:
        question, question_type = asked[key], _type_by_wording(asked[key], reading)
        candidates = as_the_rules_say(question_type, key, reading)["candidates"]
        if candidates is not None:
            outside = sum(len(rows) for answer, rows in question.answers.items() if fold_label(answer, {}) not in candidates)
            said.append((question_type, question.rows(), outside))
    lists = [(entry["type"], entry["rows"], entry["label_lists"]) for entry in given.values() if not _given_is_kept(entry, settings)]
    return free_types([*said, *lists])


def _given_is_kept(entry, settings):
    return entry["label_lists"] > 0 and may_be_named(entry["text"], len(entry["groups"]), settings.min_groups)


def _kept_of_given(entry):
    return {name: entry[name] for name in ("label_lists", "separators") if name in entry}


class _Asked:
    """What training rows answer to a question template: {normalised answer: [the group of each row, as a number]}.

    people: the labels, normalised, that look like a person as they were written: normalised ones have lost their capitals.
    """

    __slots__ = ("text", "type", "form", "answers", "tight", "grouped", "people")

    def __init__(self, text, question_type, form):
        self.text, self.type, self.form, self.answers, self.tight, self.grouped = text, question_type, form, {}, 0, False
        self.people = set()

    def rows(self):
        return sum(map(len, self.answers.values()))


def _is_one_plain_answer(answers):
    """Was a question answered once, with no yes or no, no list and nothing to fold? That says nothing beside the rules."""
    if len(answers) > 1:
        return False
    ((answer, groups),) = answers.items()
    odd = answer in YES or answer in NO or answer in ALIASES["labels"] or answer in ALIASES["labels_where_seen"].values()
    return len(groups) == 1 and not odd and not any(sign in answer for sign in _signs())


def _signs():
    return [";", *map(clean, ALIASES["separators"])]


def _small(answers, most=4):
    """The answers of a question that was asked a few times, as a key: whose groups are which is told, but not who they are."""
    if sum(map(len, answers.values())) > most:
        return None
    places = {}
    return tuple((answer, *(places.setdefault(group, len(places)) for group in groups)) for answer, groups in answers.items())


def _gather(train_rows, languages):
    """({template: _Asked}, {template: what is said of its given candidates}) of training rows."""
    asked, given, groups, clips = {}, {}, {}, []
    for row in train_rows:
        if is_junk(row["answer"]):
            continue
        key, question_type, form = read_question(row["question"], languages)
        if row.get("options"):
            question_type, form = rule_type(row), None
        grouped = group_of(row) is not None
        group = groups.setdefault(unit(row, {}), len(groups))
        if not grouped and row.get("images"):
            clips.append({"images": row["images"]})
        candidates = given_candidates(question_type, row)
        if candidates:
            _note_given(given, key, question_type, candidates, row, group)
            continue
        question = asked.get(key)
        if question is None:
            question = asked[key] = _Asked(row["question"], question_type, form)
        question.grouped |= grouped
        answer = normalize_answer(row["answer"])
        question.answers.setdefault(answer, []).append(group)
        question.tight += TIGHT_LIST.search(row["answer"]) is not None
        if row["answer"] != answer and found_in(row["answer"]):
            question.people |= _people_in(row["answer"])
        if row["question"] != question.text and found_in(row["question"]):  # a template is of several spellings
            question.text = row["question"]
    _join_groups(asked, given, groups, clips)
    return asked, given


def _people_in(answer):
    """The labels (set), normalised, of an answer in its own spelling that look like a person, and the whole of one that does."""
    labels = [label.strip() for label in re.split("|".join(map(re.escape, _signs())), answer)]
    people = [label for label in labels if found_in(label)] or labels
    return {normalize_answer(text) for text in (*people, answer)}


def _join_groups(asked, given, groups, clips):
    """Count as one the groups ({("image", name): number}) of rows that share an image with one another (clips: dicts with `images`)."""
    joined, first = join_by_rows(clips), {}
    number = {own: first.setdefault(joined.get(name, name), own) for (kind, name), own in groups.items() if kind == "image"}
    for question in asked.values() if joined else ():
        question.answers = {answer: [number.get(own, own) for own in found] for answer, found in question.answers.items()}
    for entry in given.values() if joined else ():
        entry["groups"] = {number.get(own, own) for own in entry["groups"]}


def _note_given(given, key, question_type, candidates, row, group):
    empty = {"text": row["question"], "type": question_type, "rows": 0, "groups": set(), "label_lists": 0, "outside": 0}
    entry, answer = given.setdefault(key, {**empty, "example_outside": None}), _given_answer(row, candidates)
    entry["rows"] += 1
    entry["groups"].add(group)
    if row["question"] != entry["text"] and found_in(row["question"]):
        entry["text"] = row["question"]
    if "; " in answer and not row.get("options"):
        entry["label_lists"] += 1
        if signs := separators_in(row["answer"]):
            entry["separators"] = sorted({*entry.get("separators", ()), *signs})
    if answer not in candidates:
        entry["outside"] += 1
        entry["example_outside"] = entry["example_outside"] or answer


def _yes_no_forms(asked, settings):
    """{form: its yes and no} of the forms of yes/no questions (`does`) that training rows answer so, unlikely to be answered otherwise."""
    answers = {}
    for question in asked.values():
        if question.form:
            said = answers.setdefault(question.form, Counter())
            for answer, groups in question.answers.items():
                said[answer] += len(groups)
    forms = {}
    for form, said in answers.items():
        words = Counter({answer: rows for answer, rows in said.items() if answer in YES or answer in NO})
        if said.total() - words.total() < settings.max_unseen * said.total():
            forms[form] = yes_no_answers(words, settings.languages)
    return {form: words for form, words in sorted(forms.items()) if words}


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
    """The separators beside `;` by which a question's answers ({normalised text: rows}) are lists of labels.

    Commas stand in prose and in names, too, so the answers have to bear it out. Of the labels that lists with a separator would
    have, most have to recur in another answer, and a third to be free: alone in some answer, or once first and once later.
    `Smith, John` and `Smith, Anna` have none that is free; `red, slightly swollen` beside `red` has one that recurs.
    """
    if len(answers) < 2 or not any(sign in answer for sign in _signs() for answer in answers):
        return []  # a label of one answer alone recurs nowhere
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
    borne_out = lambda sign: 2 * recur[sign] > found[sign] and 3 * move[sign] >= found[sign]
    chinese_list = any(";" in answer and EAST_ASIAN.search(answer) for answer in answers)  # where `、`, for nothing else, is the same sign
    return [sign for sign in ALIASES["separators"] if borne_out(sign) or sign == "、" and chinese_list]


def _describe_question(asked_type, is_yes_no, question, settings):
    """(entry, foldings counted) of a question template. asked_type: what it asks for by its wording; is_yes_no: for a yes or a no, by
    that. question: its _Asked."""
    rows_of = {answer: len(groups) for answer, groups in question.answers.items()}
    separators, folded = list_separators(rows_of), Counter({TIGHT: question.tight} if question.tight else ())
    spellings = spellings_where_seen({label for answer in rows_of for label in split_labels(answer, separators)})
    counts, seen = Counter(), {}
    for answer, rows in rows_of.items():
        found = _folded_labels(answer, spellings, separators, folded, rows)
        labels = tuple(dict.fromkeys(_as_digits(found, settings.languages, folded, rows) if asked_type == "count_numeric" else found))
        counts[labels] += rows
        seen.setdefault(labels, set()).update(question.answers[answer])
    groups = len(set().union(*seen.values()))
    yes_no = yes_no_answers(_labels_said(counts), settings.languages)
    multi_label = not yes_no and _are_label_lists(counts)
    kinds = _groups_of_kinds(seen, multi_label)
    numbers = _count_range(kinds, settings.count_margin) if asked_type == "count_numeric" and not multi_label else []
    others = yes_no_spellings(tuple(yes_no), settings.languages)
    unseen = unseen_mass(kinds, {*yes_no, *others} or numbers[: -settings.count_margin - 1])
    enough = counts.total() >= MIN_ROWS and groups >= (MIN_GROUPS if question.grouped else MIN_ROWS)
    may_be_said = lambda kind, found: kind not in question.people and may_be_named(kind, found, settings.min_groups)
    known = {*yes_no, *others, *numbers, *EXCLUSIVE}
    said = {kind for kind, found in kinds.items() if kind in known or may_be_said(kind, found)}
    unsaid = sum(found for kind, found in kinds.items() if kind not in said) / max(kinds.total(), 1)
    closed = enough and unseen < settings.max_unseen and unsaid < MOST_UNSAID
    if closed and not yes_no and said <= {*YES, *NO, *EXCLUSIVE}:  # the rest are slips
        yes_no = yes_no_answers(Counter({kind: kinds[kind] for kind in said}), settings.languages)
        others = yes_no_spellings(tuple(yes_no), settings.languages)
    entry = {"type": _corrected_type(asked_type, yes_no, kinds, closed or multi_label)}
    entry |= {"rows": counts.total(), "groups": groups, "multi_label": multi_label, "closed": closed, "unseen_mass": round(unseen, 5)}
    entry["candidates"] = None
    if closed:
        kept = {*said, *yes_no, *(numbers or _numbers_between(said))} - others.keys()
        candidates = [label for label in label_order(counts) if label in said] if multi_label else _in_order(kept)
        entry["candidates"] = candidates if is_choice(candidates) else None
    elif is_yes_no and kinds.keys() <= {*yes_no, *others}:
        entry["candidates"] = yes_no
    folded.update({f"{word} → {kept}": counts[word,] for word, kept in others.items()})
    entry["spellings"] = spellings | others
    return entry | ({"separators": separators} if separators else {}), +folded


def _labels_said(counts):
    """{label: rows} of answers (Counter of label tuples)."""
    said = Counter()
    for labels, rows in counts.items():
        said.update(dict.fromkeys(labels, rows))
    return said


def _groups_of_kinds(seen, multi_label):
    """In how many groups each kind was seen (Counter): each label of lists, or else each whole answer. seen: {labels: their groups}."""
    if not multi_label:
        return Counter({"; ".join(labels): len(found) for labels, found in seen.items()})
    groups = {}
    for labels, found in seen.items():
        for kind in labels:
            groups.setdefault(kind, set()).update(found)
    return Counter({kind: len(found) for kind, found in groups.items()})


def unseen_mass(kinds, known=()):
    """Good-Turing: the probability that the next answer is of a kind not seen yet, N1 / N.

    kinds: in how many groups each was seen (Counter). known: kinds that are valid whether seen or not, and whose being seen once
    tells nothing.
    """
    return sum(groups == 1 and kind not in known for kind, groups in kinds.items()) / max(kinds.total(), 1)


def _are_label_lists(counts):
    """Do the answers (Counter of label tuples) hold lists of labels, and not prose or numbers with semicolons?"""
    lists = {labels: rows for labels, rows in counts.items() if len(labels) > 1}
    proper = [rows for labels, rows in lists.items() if are_labels(labels)]
    return bool(proper) and 2 * sum(proper) > sum(lists.values())


def _count_range(kinds, margin):
    """Every integer from 0 to `margin` above the largest answer, as text; none where no answer is a small integer."""
    seen = [int(kind) for kind in kinds if re.fullmatch("[0-9]{1,9}", kind)]
    return list(map(str, range(max(seen) + margin + 1))) if seen and max(seen) <= LARGEST_COUNT else []


def _numbers_between(said):
    """The integers within a scale or count in words that no table has (`Polyps, total`: 0, 1, 2, 4): where that is what all answers are,
    and most are there. Not beyond them: a grade has a last one."""
    numbers = said - {*EXCLUSIVE}
    if not numbers or not all(re.fullmatch("[0-9]{1,2}", label) for label in numbers):
        return []
    within = range(min(map(int, numbers)), max(map(int, numbers)) + 1)
    return list(map(str, within)) if len(within) < 2 * len(numbers) else []


def _corrected_type(asked_type, yes_no, kinds, has_labels):
    if asked_type not in BUILT_IN:
        return asked_type
    if yes_no:
        return "yes_no"
    if has_labels:
        return asked_type if asked_type in CLOSED_TYPES else "mcq"
    contradicted = asked_type == "yes_no" and not set(kinds) <= {*YES, *NO, *EXCLUSIVE}
    return "open_ended" if contradicted else asked_type


def _in_order(labels):
    """Single answers for people to read: yes and no, then by number or alphabet, then none and not relevant."""
    labels = set(labels)
    yes, no = sorted(labels & YES - {*EXCLUSIVE}), sorted(labels & NO - {*EXCLUSIVE})
    ordered = sorted(labels - {*yes, *no, *EXCLUSIVE}, key=_natural)
    return [*yes, *no, *ordered, *filter(labels.__contains__, EXCLUSIVE)]


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
    reading = reading_of(space)
    key, question_type = read_question(row["question"], reading.languages).key, rule_type(row, reading)
    candidates = given_candidates(question_type, row)
    if candidates:
        multi_label = _has_given_lists(space, key, row)
        answer = None if row.get("answer") is None else _given_answer(row, candidates)
        multi_label |= not row.get("options") and question_type in reading.free_types
        order, candidates = [], candidates if is_choice(candidates) and not multi_label else None
    else:
        entry = space["questions"].get(key) or as_the_rules_say(question_type, key, reading)
        question_type, candidates, multi_label = entry["type"], entry["candidates"], entry["multi_label"]
        answer, order = _folded_answer(row, entry, folded, reading.languages), candidates or []
    enriched = {**row, "question_type": question_type, "multi_label": multi_label, "answer_candidates": candidates}
    if answer is not None:
        answer = _in_canonical_order(answer, order) if multi_label else answer
        enriched |= {"answer": answer, "answer_raw": row["answer"]}
    return enriched


def reading_of(space):
    """How the rules read a question for a space: its languages, and what its training rows say of yes/no questions."""
    return Reading(tuple(space.get("languages", ())), space.get("yes_no_forms", {}), tuple(space.get("free_types", ())))


def says_more_than_the_rules(space, question):
    """Has the space its own answers for this question? Not where training rows never asked it or only confirm the rules."""
    return space["mode"] != "rules" and question_template(question) in space["questions"]


def _has_given_lists(space, key, row):
    """Given candidates are single answers; a question that training rows answer with lists goes unconstrained."""
    return not row.get("options") and space["given"].get(key, {"label_lists": 0})["label_lists"] > 0


def _folded_answer(row, entry, folded, languages):
    if row.get("answer") is None:
        return None
    folded[TIGHT] += TIGHT_LIST.search(row["answer"]) is not None
    labels = _folded_labels(normalize_answer(row["answer"]), entry["spellings"], entry.get("separators", ()), folded, 1)
    return "; ".join(_as_digits(labels, languages, folded, 1) if entry["type"] == "count_numeric" else labels)


def _as_digits(labels, languages, folded, rows):
    """Counts among labels as digits, `zwei` as 2 and `keiner` as 0, or each would be an answer beside the other. not relevant stays,
    and so does the `none` of English data sets, which is a label of its own there.

    languages: empty for spaces of earlier code, which did not do this.
    """
    kept = []
    for label in labels:
        count = None if label.isdigit() or label == "none" or not languages else parse_count(label, None, languages)
        kept.append(label if count is None else str(count))
        if count is not None:
            folded[f"{label} → {count}"] += rows
    return kept


def _folded_labels(answer, spellings, separators, folded, rows):
    """The labels of a normalised answer in the spelling that is kept; counts each change in `folded` as `>20 → >20mm`."""
    if separators:
        folded.update({f"{sign} → ;": rows for sign in separators if sign in separators_in(answer)})
    single = not separators and ";" not in answer  # by far the commonest
    labels = [answer] if single and answer else [normalize_answer(label) for label in split_labels(answer, separators)]
    kept = [fold_label(label, spellings) for label in labels if label]
    for label, other in zip(labels, kept):
        if label != other:
            folded[f"{label} → {other}"] += rows
    return kept


def _in_canonical_order(answer, order):
    """A label list without repeats, in the vocabulary's order; labels that it lacks come last, by the alphabet."""
    place = {label: index for index, label in enumerate(order)}
    return "; ".join(sorted(set(answer.split("; ")), key=lambda label: (place.get(label, len(place)), label)))


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
        return isinstance(space.get("unconstrained"), dict | list) and isinstance(space.get("multi_label"), list)
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

    What holds for all is at "": `{"languages": ["de"]}`, where it isn't English. Only what data/aliases.yaml has, and the
    languages' yes and no: a space can't make other words the same.
    """
    languages = space.get("languages", ["en"])
    named = {"": {"languages": languages}} if languages != ["en"] else {}
    for key, entry in {**space.get("given", {}), **space.get("questions", {})}.items():
        same = lambda said, kept: ALIASES["labels_where_seen"].get(said) == kept or same_yes_no(said, kept, tuple(languages))
        spellings = {said: kept for said, kept in entry.get("spellings", {}).items() if same(said, kept)}
        separators = [sign for sign in entry.get("separators") or () if sign in ALIASES["separators"]]
        convention = {"spellings": spellings, "separators": separators}
        named[key] = {name: found for name, found in convention.items() if found}
    return {key: convention for key, convention in named.items() if convention}


def describe(space):
    """Lines for people: what `mine` found, spellings folded, and answers that lie outside given candidates."""
    found, lines = space["found"], []
    if count := found["without_group"]:
        lines = [f"note: {count} training rows name no patient or video (group): data.min_groups counts their pictures; see data.check"]
    if space["mode"] == "rules":
        return ["answer space: the rules of data/schema.py", *lines]
    entries = space["questions"].values()
    closed = [entry for entry in entries if entry["closed"]]
    lists = sum(entry["multi_label"] for entry in closed)
    line = f"answer space of {space['rows']} training rows: {len(closed)} questions closed"
    line += f" ({lists} of them label lists), {len(entries) - len(closed)} open"
    line += f", {space['as_the_rules_say']['questions']} as the rules say"
    line += f" ({found['rare']} of them asked in too few groups to be named: data.min_groups)" * bool(found["rare"])
    lines = [line + folding_note(found["folded"]), *lines]
    for key, entry in found["outside"].items():
        lines.append(
            f"WARNING: {entry['outside']} of {entry['rows']} training answers to '{short(key)}' lie outside the "
            f"candidates given for {entry['type']}, first '{short(entry['example_outside'])}'; "
            "correct them or data/schema.py"
        )
    return lines


def folding_note(folded):
    """`; 62 spellings folded (lower-rigth → lower-right 56, >20 → >20mm 6)`, or nothing."""
    folded = +Counter(folded)
    kinds = ", ".join(f"{name} {count}" for name, count in folded.most_common())
    return f"; {folded.total()} spellings folded ({kinds})" if folded else ""
