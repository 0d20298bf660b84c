"""The questions that training asked, and what the rules of data/schema.py say of them.

An adapter depends on what the rules do, not on how the file is spelt: another comment, or a new type that no training question
has, changes nothing for it. The questions lie beside it, and people publish it: so one that few patients were asked ("Is the lesion of
Mrs Meier flat?") isn't among them, nor one in which data/personal.py sees a person.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data import schema
from data.aliases import question_template, strip_prefix
from data.image_copies import join_by_rows, unit
from data.personal import may_be_named
from data.rules import rule_candidates, rule_type
from files import UserError, hash_of, read_json

QUESTIONS_FILE = "questions.json"  # beside an adapter
MOST = 10_000  # questions kept; a data set that asks more wordings than this has none that matters alone
OPTIONS = ["a", "b"]  # stand for a row's own


def asked_questions(rows, min_groups):
    """[[question, has it options]] of training rows (a list) that at least `min_groups` groups were asked (images, where no group is
    given), each once, sorted; of more than MOST evenly many."""
    units, joined = {}, join_by_rows(rows)
    for row in rows:
        units.setdefault((row["question"], bool(row.get("options"))), set()).add(unit(row, joined))
    asked = sorted(question for question, found in units.items() if may_be_named(question[0], len(found), min_groups))
    return [list(question) for question in asked[:: -(-len(asked) // MOST)]] if asked else []


def rules_verdict(asked):
    """Hash of the type and the candidates that data/schema.py gives to each question, as it is and without its `[Stage-…]` prefix."""
    return hash_of([[text, has_options, _say(text, has_options), _say(strip_prefix(text), has_options)] for text, has_options in asked])


def words_verdict(asked, reading):
    """Hash of the type and the candidates of each question without options, as the tables of the languages correct the rules."""
    verdicts = []
    for text, has_options in asked:
        if not has_options:
            question_type = rule_type({"question": text}, reading)
            verdicts.append([text, question_type, rule_candidates(question_type, question_template(text), reading)])
    return hash_of(verdicts)


def _say(text, has_options):
    options = {"options": OPTIONS} if has_options else {}
    question_type = schema.infer_question_type(text, options.get("options"))
    return [question_type, schema.build_candidates(question_type, {"question": text, **options})]


def load(adapter):
    """The questions that lie beside an adapter; none where it was made by older code."""
    path = adapter / QUESTIONS_FILE
    asked = read_json(path) if path.is_file() else []
    if not (isinstance(asked, list) and all(_is_question(question) for question in asked)):
        raise UserError(f"{path}: is not the list of questions that training wrote; copy the adapter again, or train it anew")
    return asked


def _is_question(value):
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], bool)
