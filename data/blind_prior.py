"""The blind prior: what a model scores that never looks. Each question gets its commonest training answer."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from collections import Counter, defaultdict

from data.matching import normalize_answer, question_key


def blind_prior(train_rows):
    """Return the commonest training answer of each question text and of each type, as `(by_question, by_type)`.

    train_rows: enriched rows. Keys of by_question are `question_key(question)`. Of equally common answers the
    alphabetically first is taken, so that the order of the file decides nothing.
    """
    by_question, by_type = defaultdict(Counter), defaultdict(Counter)
    for row in train_rows:
        answer = "; ".join(sorted(set(normalize_answer(row["answer"]).split("; "))))
        by_question[question_key(row["question"])][answer] += 1
        by_type[row["question_type"]][answer] += 1
    return _commonest(by_question), _commonest(by_type)


def _commonest(counters):
    return {key: min(counter, key=lambda answer: (-counter[answer], answer)) for key, counter in counters.items()}


def answer_blindly(rows, prior):
    """Return the prediction rows with `pred` replaced by the blind prior's answer.

    A question that training never asked gets the commonest answer of its type; an unknown type gets none.
    """
    by_question, by_type = prior
    return [{**row, "pred": by_question.get(question_key(row.get("question") or ""), by_type.get(row["qtype"]))} for row in rows]
