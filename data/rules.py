"""What the literal rules of data/schema.py say of a row: its type, its candidates, and with `data.answer_space: rules` all of it.

Rules that read the question alone mislabel real data; data/answer_space.py corrects them by what the training rows say.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re

from data import schema
from data.aliases import strip_prefix
from data.matching import is_junk, normalize_answer, option_text, question_key, without_letters

# Wordings that ask for several labels, or for one of two named things: what the rules' single answers can't be.
ASKS_FOR_LIST = re.compile(
    r"\b(?:(?:check|select|mark|choose|list|name) all|all that (?:are|apply)|more than one|separated? (?:with|by))\b"
)
NAMES_ALTERNATIVES = re.compile(r"(?<!\byes) or (?!not?\b)")
CLOSED_TYPES = ("color", "count_numeric", "size_numeric")  # which the rules may give a closed question; others are mcq
BUILT_IN = ("yes_no", *CLOSED_TYPES, "mcq", "open_ended")


def ordered_types(types):
    """Question types in table order: the built-in ones, then custom ones alphabetically."""
    known = [name for name in schema.QUESTION_TYPES if name in types]
    return known + sorted(set(types) - set(known))


def rule_type(row):
    """The type by the rules. Users' types see the question as it is, built-in ones without its `[Stage-…]` prefix."""
    question_type = schema.infer_question_type(row["question"], row.get("options"))
    if question_type in BUILT_IN and not row.get("options"):
        question_type = schema.infer_question_type(strip_prefix(row["question"]))
    return question_type


def given_candidates(question_type, row):
    """Candidates that are given and not mined, normalised: a row's options, or those of a type that users added."""
    if question_type in BUILT_IN and not row.get("options"):
        return None
    return _candidates(question_type, row)


def _candidates(question_type, row):
    """The candidates of data/schema.py, normalised, or None. It sees a row's options without their letters."""
    if row.get("options"):
        row = {**row, "options": without_letters(row["options"])}
    candidates = schema.build_candidates(question_type, row)
    return list(dict.fromkeys(map(normalize_answer, candidates))) if candidates else None


def as_the_rules_say(question_type, key):
    """The answer space's entry of a question template that training rows never asked."""
    candidates = rule_candidates(question_type, key)
    return {"type": question_type, "candidates": candidates, "multi_label": False, "spellings": {}}


def rule_candidates(question_type, key):
    """The rules' candidates, unless the question's wording asks for something else."""
    candidates = schema.build_candidates(question_type, {"question": key}) if question_type in BUILT_IN else None
    unfit = ASKS_FOR_LIST.search(key) or (question_type == "yes_no" and NAMES_ALTERNATIVES.search(key))
    return None if unfit or not candidates else list(map(normalize_answer, candidates))


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
    enriched["answer_candidates"] = None if multi_label or key in verdict["unconstrained"] else candidates
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


def mine_verdict(train_rows):
    """What the training answers say about each question's rule; all that `data.answer_space: rules` uses.

    unconstrained: questions with a training answer outside their rule's candidates, with one such answer each.
    multi_label: questions that some training row answers with a list.
    """
    unconstrained, multi_label = {}, set()
    for row in train_rows:
        question_type, candidates, answer = classify(row)
        key = question_key(row["question"])
        if is_junk(answer):
            continue
        if candidates and answer not in candidates:
            unconstrained.setdefault(key, answer)
        if "; " in answer and not row.get("options"):
            multi_label.add(key)
    return {"unconstrained": unconstrained, "multi_label": sorted(multi_label)}
