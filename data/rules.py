"""What the literal rules of data/schema.py say of a row: its type, its candidates, and with `data.answer_space: rules` all of it.

Rules that read the question alone mislabel real data; data/answer_space.py corrects them by what the training rows say.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from data import schema
from data.aliases import question_template, strip_prefix
from data.image_copies import join_by_rows, unit
from data.language import ENGLISH, asked_type, asks_for_list, names_answers, without_longer_words, yes_no_form, yes_no_spellings
from data.matching import is_junk, normalize_answer, option_text, question_key, without_letters
from data.personal import found_in, may_be_named
from data.text import clean

CLOSED_TYPES = ("color", "count_numeric", "size_numeric")  # which the rules may give a closed question; others are mcq
BUILT_IN = ("yes_no", *CLOSED_TYPES, "mcq", "open_ended")
MOST_OUTSIDE = 0.05  # of the answers to rarely asked questions of a type, outside its rule's candidates: more, and it has none


def ordered_types(types):
    """Question types in table order: the built-in ones, then custom ones alphabetically."""
    known = [name for name in schema.QUESTION_TYPES if name in types]
    return known + sorted(set(types) - set(known))


class Reading(NamedTuple):
    """How questions are read: the data's languages, by which yes and no training rows answer the forms of yes/no questions, and
    the types whose rules' candidates they contradict (`free_types`).

    languages is empty for an answer space of earlier code, which read by the rules of data/schema.py alone.
    """

    languages: tuple = ENGLISH
    yes_no_forms: dict = {}
    free_types: tuple = ()


class Question(NamedTuple):
    """A question as it reads: its template, its type by the rules, and its form if it might be a yes/no question by that."""

    key: str
    type: str
    form: str | None


def read_question(question, languages=ENGLISH):
    """The Question of a text. Users' types see it as it is, built-in ones without its `[Stage-…]` prefix and its longer words, such as
    `encounter`. What the rules take for open_ended is read by the tables of the languages; without languages, not at all."""
    return _read_question(question, languages, schema.infer_question_type)


@lru_cache(1 << 19)  # mining and enrichment read each question, and a data set may ask each of its questions once
def _read_question(question, languages, infer):
    key, question_type = question_template(question), infer(question, None)
    if question_type not in BUILT_IN:
        return Question(key, question_type, None)
    text = strip_prefix(question)
    meant = without_longer_words(text) if languages else text
    if meant != question:
        question_type = infer(meant, None)
    if not languages or question_type == "mcq":
        return Question(key, question_type, None)
    if question_type == "yes_no":
        return Question(key, "open_ended" if names_answers(text, key, languages) else "yes_no", None)
    form = yes_no_form(key, languages)
    if question_type == "open_ended":
        question_type = asked_type(clean(text) if "#" in text else key, languages)
    return Question(key, question_type, None if form and offers_others(text, key, languages) else form)


def may_name_one_thing(key, languages):
    """Is a question template a yes/no question but for the answers that it seems to name? `is there a green/black box` names none:
    training answers are to say. A list of labels is asked for in so many words."""
    return schema.infer_question_type(key) == "yes_no" and not asks_for_list(key, languages or ENGLISH)


def rule_type(row, reading=Reading()):
    """The type of a row by the rules, the languages' tables and, for the form of a yes/no question, by what training rows answer."""
    if row.get("options"):
        return schema.infer_question_type(row["question"], row["options"])
    _, question_type, form = read_question(row["question"], reading.languages)
    return "yes_no" if form in reading.yes_no_forms else question_type


def offers_others(question, key, languages):
    """Does a question (str; key: its template) have another answer than yes and no by its wording: named ones, or a list of labels?"""
    return names_answers(question, key, languages) or asks_for_list(key, languages or ENGLISH)


def given_candidates(question_type, row):
    """Candidates that are given and not mined, normalised: a row's options, or those of a type that users added."""
    if question_type in BUILT_IN and not row.get("options"):
        return None
    return _candidates(question_type, row)


def is_choice(candidates):
    """Do candidates (list or None) constrain an answer? A single one leaves nothing to choose, and would be certain whatever is asked."""
    return len(candidates or ()) > 1


def _candidates(question_type, row):
    """The candidates of data/schema.py, normalised, or None. It sees a row's options without their letters."""
    if row.get("options"):
        row = {**row, "options": without_letters(row["options"])}
    candidates = schema.build_candidates(question_type, row)
    return list(dict.fromkeys(map(normalize_answer, candidates))) if candidates else None


def as_the_rules_say(question_type, key, reading=Reading()):
    """The answer space's entry of a question template that training rows never asked."""
    candidates = rule_candidates(question_type, key, reading)
    yes_no = tuple(candidates) if question_type == "yes_no" and candidates else ()
    spellings = yes_no_spellings(yes_no, reading.languages or ENGLISH)
    return {"type": question_type, "candidates": candidates, "multi_label": False, "spellings": spellings}


def rule_candidates(question_type, key, reading=Reading()):
    """The rules' candidates, unless the question's wording asks for something else.

    Those of a yes/no question by its form are what training rows answer to that form. The rules' own are English.
    """
    if question_type not in BUILT_IN or question_type in reading.free_types or asks_for_list(key, reading.languages or ENGLISH):
        return None
    if question_type == "yes_no" and reading.yes_no_forms:
        words = reading.yes_no_forms.get(yes_no_form(key, reading.languages))
        if words and schema.infer_question_type(key) != "yes_no":
            return list(words)
    if reading.languages and ("en" not in reading.languages or question_type in CLOSED_TYPES and yes_no_form(key, reading.languages)):
        return None  # `Does the colour fade?` isn't answered with a colour
    candidates = schema.build_candidates(question_type, {"question": key})
    return list(map(normalize_answer, candidates)) if candidates else None


def free_types(said):
    """Types (sorted) whose rules' candidates don't hold. said: (type, rows, those with another answer) of questions that too few
    groups were asked to be kept one by one."""
    rows, outside = Counter(), Counter()
    for question_type, own, wrong in said:
        rows[question_type] += own
        outside[question_type] += wrong
    return sorted(name for name in rows if outside[name] > MOST_OUTSIDE * rows[name])


def has_rule(row):
    """Do the rules have candidates for the row?"""
    return bool(schema.build_candidates(schema.infer_question_type(row["question"], row.get("options")), row))


# ---------------------------------------------------------------------------------------------------------------------
# data.answer_space: rules


def enrich_row(row, verdict):
    """Return the row enriched by the literal rules. `verdict`: what `mine_verdict` says about the training file."""
    question_type, candidates, answer = classify(row)
    key = question_key(row["question"])
    multi_label = key in verdict["multi_label"]
    if answer is not None and multi_label:
        answer = "; ".join(sorted(set(answer.split("; "))))  # one order in training, or order is what it learns
    enriched = {**row, "question_type": question_type, "multi_label": multi_label}
    free = multi_label or key in verdict["unconstrained"] or not is_choice(candidates)
    free = free or not row.get("options") and question_type in verdict.get("free_types", ())
    enriched["answer_candidates"] = None if free else candidates
    if answer is not None:
        enriched |= {"answer": answer, "answer_raw": row["answer"]}
    return enriched


def classify(row):
    """Return `(question_type, candidates, answer)` of a row by the rules; candidates and answer normalised."""
    question_type = schema.infer_question_type(row["question"], row.get("options"))
    answer = row.get("answer")
    if answer is not None:
        answer = option_text(answer, row["options"]) if row.get("options") else normalize_answer(answer)
    return question_type, _candidates(question_type, row), answer


def mine_verdict(train_rows, min_groups):
    """What the training answers say about each question's rule; all that `data.answer_space: rules` uses.

    unconstrained: questions with a training answer outside their rule's candidates.
    multi_label: questions that some training row answers with a list.
    Of both those that `min_groups` groups were asked; what the others say of their types is in `free_types`, if anything.
    """
    rows, questions = list(train_rows), {}
    joined = join_by_rows(rows)
    for row in rows:
        question_type, candidates, answer = classify(row)
        if is_junk(answer):
            continue
        facts = {"text": row["question"], "type": question_type, "units": set(), "rows": 0, "outside": 0, "lists": 0}
        facts = questions.setdefault(question_key(row["question"]), facts)
        if row["question"] != facts["text"] and found_in(row["question"]):  # a key is of several spellings
            facts["text"] = row["question"]
        facts["units"].add(unit(row, joined))
        facts["rows"] += 1
        facts["outside"] += bool(candidates) and answer not in candidates
        facts["lists"] += "; " in answer and not row.get("options")
    named = {key for key, facts in questions.items() if may_be_named(facts["text"], len(facts["units"]), min_groups)}
    rare = [(facts["type"], facts["rows"], facts["outside"]) for key, facts in questions.items() if key not in named]
    kept = {"unconstrained": "outside", "multi_label": "lists"}
    verdict = {name: sorted(key for key in named if questions[key][count]) for name, count in kept.items()}
    return verdict | ({"free_types": free} if (free := free_types(rare)) else {})
