"""The stage of a question in the reading of an image: first what was done, then what is there, then what it means.

A row says it (`stage`, a number from 1), or its question does (`[Stage-2: Findings Identification] How many polyps?`), else the table
`stages.yaml` knows it by the question. Types, valid answers and scores never depend on it: it chooses rows, and what prompts say.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import cache
from pathlib import Path

from config import yaml_file
from data.aliases import question_template, strip_prefix
from files import UserError, quoted, short

STAGES_FILE = Path(__file__).with_name("stages.yaml")
PREFIX = re.compile(r"\[\s*stage[\s_-]*([0-9]+)\b[^\[\]]*\]\s*", re.IGNORECASE)


@cache
def _table():
    """({question template: stage}, {stage: name}) of the table. Raises UserError for one that isn't `stage: {name, questions}`."""
    table = (yaml_file(STAGES_FILE) if STAGES_FILE.is_file() else None) or {}
    stages, names = {}, {}
    for stage, entry in table.items() if isinstance(table, dict) else [("", None)]:
        texts = [entry.get("name"), *(entry.get("questions") or ())] if isinstance(entry, dict) else [None]
        if type(stage) is not int or stage < 1 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UserError(f"{STAGES_FILE}: {quoted(stage)} has {short(str(entry))}; write `1: {{name: …, questions: […]}}`")
        names[stage] = entry["name"]
        for template in map(question_template, texts[1:]):
            if stages.setdefault(template, stage) != stage:
                raise UserError(f"{STAGES_FILE}: {quoted(template)} is in stages {stages[template]} and {stage}; keep one")
    return stages, names


def stage_of(row):
    """A row's stage (int from 1), or None where neither its field, its question's prefix nor the table says one.

    Raises UserError, naming the row, for a field that is no stage, or that contradicts the prefix.
    """
    own, said = _own_stage(row), _prefix(row["question"])
    if own and said and own != int(said[1]):
        raise UserError(f"row {quoted(row.get('id'))}: stage is {own}, and its question begins with {quoted(said[0].strip())}; correct one")
    return own or (int(said[1]) if said else _table()[0].get(question_template(row["question"])))


def needed_stage(row):
    """`stage_of` a row that has to have one. Raises UserError where none is known."""
    stage = stage_of(row)
    if not stage:
        question = short(row["question"])
        raise UserError(
            f"row {quoted(row.get('id'))}: its question has no stage ({question}); add it to data/stages.yaml, or give the row a stage, "
            "1, 2 or 3, or begin its question with [Stage-2]"
        )
    return stage


def _own_stage(row):
    value = row.get("stage")
    if value is None or str(value).strip() == "":
        return None
    number = re.fullmatch(r"\s*([1-9][0-9]?)(?:\.0+)?\s*", str(value))
    if isinstance(value, bool) or not number:
        raise UserError(f"row {quoted(row.get('id'))}: stage is {quoted(value)}; write 1, 2 or 3, or leave it out")
    return int(number[1])


def _prefix(question):
    """The match of a question's `[Stage-2: …]`, which may stand beside other brackets; None where it has none."""
    before = len(question) - len(strip_prefix(question))
    found = PREFIX.search(question, 0, before) if before else None
    return found if found and int(found[1]) else None


def shown_question(row, how="keep"):
    """A row's question as its prompt says it. how: `keep` it as it is, `strip` its stage's prefix, or `add`, for all rows in one form.

    Raises UserError where a stage is to be added that isn't known.
    """
    question = row["question"]
    if how == "keep":
        return question
    if found := _prefix(question):
        question = question[: found.start()] + question[found.end() :]
    return question if how == "strip" else f"[{stage_name(needed_stage(row))}] {question.lstrip()}"


def stage_name(stage):
    """`Stage-2: Findings Identification`; of a stage that the table doesn't name, `Stage-4`."""
    return ": ".join(filter(None, [f"Stage-{stage}", _table()[1].get(stage)]))


def prompts_say(settings):
    """How prompts tell stages, as an adapter remembers it (str): `keep`, `strip`, or all that `add` may put there. settings: the data
    section of a configuration."""
    return " ".join(f"[{stage_name(stage)}]" for stage in sorted(_table()[1])) if settings.stage_prefix == "add" else settings.stage_prefix


def use_stages(settings):
    """Does the data section of a configuration need the rows' stages?"""
    return settings.stages is not None or settings.stage_prefix == "add"


def with_stage(rows, settings, path):
    """Yield the rows of a file (path), with their `stage` and those of `data.stages` alone where settings `use_stages`.

    Raises UserError for a row whose stage isn't known, and at the end where no row is of these stages.
    """
    if not use_stages(settings):
        yield from rows
        return
    seen = set()
    for row in rows:
        try:
            row = {**row, "stage": needed_stage(row)}
            if settings.stage_prefix == "add":
                row["stage_name"] = stage_name(row["stage"])  # what the prompt says: who compares rows by their hash sees another name
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        seen.add(row["stage"])
        if settings.stages is None or row["stage"] in settings.stages:
            yield row
    if settings.stages is not None and seen.isdisjoint(settings.stages):
        there = ", ".join(map(str, sorted(seen))) or "none"
        raise UserError(f"{path}: has no row of data.stages={settings.stages}; its stages: {there}")
