"""The blind prior: what a model scores that never looks. Each question gets its commonest training answer."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from collections import Counter, defaultdict

from data.aliases import question_template
from data.matching import normalize_answer


def blind_prior(train_rows):
    """Return the commonest training answer of each question text and of each type, as `(by_question, by_type)`.

    train_rows: enriched rows. Keys of by_question are `question_template(question)`. Of equally common answers the
    alphabetically first is taken, so that the order of the file decides nothing.
    """
    by_question, by_type = defaultdict(Counter), defaultdict(Counter)
    kinds = Counter((row["question"], row["question_type"], row["answer"]) for row in train_rows)
    for (question, question_type, answer), count in kinds.items():
        answer = "; ".join(sorted(set(normalize_answer(answer).split("; "))))
        by_question[question_template(question)][answer] += count
        by_type[question_type][answer] += count
    return _commonest(by_question), _commonest(by_type)


def _commonest(counters):
    return {key: min(counter, key=lambda answer: (-counter[answer], answer)) for key, counter in counters.items()}


def answer_blindly(rows, prior):
    """Return the prediction rows with `pred` replaced by the blind prior's answer.

    A question that training never asked gets the commonest answer of its type; an unknown type gets none.
    """
    by_question, by_type = prior
    keys = {question: question_template(question or "") for question in {row.get("question") for row in rows}}
    return [{**row, "pred": by_question.get(keys[row.get("question")], by_type.get(row["qtype"]))} for row in rows]
