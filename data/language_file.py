"""What a file of data/languages/ may hold, as a typed table: a slip of the pen would be a language in which nothing is understood."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import difflib
import re
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config import yaml_file
from files import UserError, quoted

EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # letters of scripts that don't part words, or not as others do


def any_of(entries):
    """Pattern (text) of entries of a table, as whole words where their script parts words; the longest first."""
    entries = sorted(entries, key=len, reverse=True)
    parted = "|".join(entry for entry in entries if not EAST_ASIAN.search(entry))
    others = "|".join(entry for entry in entries if EAST_ASIAN.search(entry))
    return "|".join(filter(None, [parted and rf"(?<!\w)(?:{parted})(?!\w)", others])) or "(?!)"


def _word(text):
    letters = re.sub(r"\\.|\(\?P", "", text)  # without a pattern's own signs
    if letters != letters.lower():
        raise ValueError("texts are compared in lower case: write it so")
    if not text.strip():
        raise ValueError("an empty entry would be found everywhere")
    return unicodedata.normalize("NFC", text)


def _patterns(entries):
    for found in (entries, *([entry] for entry in entries)):
        try:
            anywhere = re.compile(any_of(found)).search("")
        except re.error as error:
            problem = str(error)
        else:
            problem = "it may be empty, and would be found everywhere" if anywhere else None
            if problem is None and found is entries:
                return entries
        if problem and (len(found) == 1 or found is not entries):
            raise ValueError(f"{quoted(found[0])} is no pattern ({problem}); put a \\ before a sign that is meant as it is")
    raise ValueError("its patterns don't go together; write them without numbers and names of groups")


Word = Annotated[str, AfterValidator(_word)]
Words = list[Word]
Patterns = Annotated[Words, AfterValidator(_patterns)]
Needed = Annotated[Patterns, Field(min_length=1)]
Pair = Annotated[Words, Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Things(_Part):
    names: Words
    kinds: Words


class LanguageTable(_Part):
    """The keys, which data/languages/en.yaml explains. Those without a default every language has."""

    yes_no: Annotated[list[Pair], Field(min_length=1)]
    none: Annotated[Words, Field(min_length=1)]
    not_relevant: Annotated[Words, Field(min_length=1)]
    asks_count: Needed
    asks_color: Needed
    asks_size: Needed
    mm_per_unit: Annotated[dict[Annotated[float, Field(gt=0)], Words], Field(min_length=1)]
    opens_yes_no: Patterns = []
    within_yes_no: Patterns = []
    alternatives: Patterns = []
    asks_more: Patterns = []
    question_words: Patterns = []
    asks_form: Patterns = []
    asks_list: Patterns = []
    rule_letters: dict[str, Words] = {}
    ones: Words = []
    numbers: dict[int, Words] = {}
    joined: Words = []
    single: Words = []
    tens: Words = []
    between: Words = []
    up_to: Words = []
    and_: Words = Field([], alias="and")
    decimal_comma: bool = False
    comparisons: dict[Literal["<", "<=", ">", ">="], Words] = {}
    on_either_side: Patterns = []
    before: Patterns = []
    after: Patterns = []
    nearby: Patterns = []
    with_a_length: Patterns = []
    things: list[Things] = []
    zero_of: Patterns = []
    zero: Patterns = []
    endings: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    unspaced: bool = False
    not_lent: Patterns = []
    articles: Patterns = []
    beside_a_label: Patterns = []
    beside_a_yes: Patterns = []
    answer_leads: Patterns = []
    answer_tails: Patterns = []
    denials: Patterns = []
    absences: Patterns = []
    turns: Patterns = []
    hedges: Patterns = []


def read_language(path):
    """The table (dict) of a language's file, with every key. Raises UserError, one line, with file and key, for what is none."""
    table = yaml_file(path)
    if not isinstance(table, dict):
        raise UserError(f"{path}: holds no table; write `key: [words]` lines, as in en.yaml")
    try:
        return LanguageTable.model_validate(table).model_dump(by_alias=True)
    except ValidationError as error:
        worst = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")  # a misspelt key is missing, too
        raise UserError(f"{path}: {_explain(worst)}") from None


def _explain(error):
    """One line on one pydantic error: the key, what is wrong, what is wanted."""
    key, where = str(error["loc"][0]), ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, [field.alias or name for name, field in LanguageTable.model_fields.items()], n=1, cutoff=0.5)
        return f"unknown key {quoted(where)}" + (f" (did you mean {near[0]}?)" if near else "") + "; its keys are those of en.yaml"
    if error["type"] == "missing":
        return f"has no {where}; write what en.yaml has there in this language"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    wanted = _WANTED.get(key, "a list of texts: [one, two]")
    if re.search("True|False", str(error["input"])) and "true or false" != wanted:
        wanted += '; yes, no, on and off without quotes are true and false to YAML: write "no"'
    return f"{where}: is {quoted(error['input'])}; wanted is {wanted}"


_WANTED = {
    "yes_no": 'a list of pairs, a yes and its no: [["yes", "no"]]',
    "numbers": "a whole number and its words: `2: [two]`",
    "mm_per_unit": "millimetres and the units that have so many: `10: [cm]`",
    "comparisons": 'one of "<", "<=", ">", ">=" and its words: `"<": [less than]`',
    "things": "a list of `names: [...]` with `kinds: [...]`",
    "endings": 'a list of pairs, an ending and what stands for it: [[s, ""]]',
    "rule_letters": "letters and the words that they mean: `count: [count, counts]`",
    "unspaced": "true or false",
    "decimal_comma": "true or false",
}
