"""Which spellings mean the same: the table `aliases.yaml`, applied to labels and to question texts.

Without the file nothing is folded.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache
from pathlib import Path

from config import yaml_file
from data.text import clean

ALIASES_FILE = Path(__file__).with_name("aliases.yaml")
NOTHING = {"labels": {}, "labels_where_seen": {}, "separators": [], "question_words": {}, "junk": []}
ALIASES = yaml_file(ALIASES_FILE) if ALIASES_FILE.is_file() else NOTHING

PREFIX = re.compile(r"^(?:\s*\[[^\[\]]{1,40}\])+\s*(?=\S)")  # `[Stage-2] Is there text?`
# Punctuation, but for the point of 1.5 and the hyphen of 5-10; `<5mm` and `>5mm` differ.
PUNCTUATION = re.compile(r"[^\w\s<>=+≤≥±%](?:(?<!\d.)|(?!\d))")
NEVER = "(?!)"
WORDS = re.compile(r"\b(?:" + ("|".join(map(re.escape, ALIASES["question_words"])) or NEVER) + r")\b")
TIGHT_LIST = re.compile(r";(?! )(?=.*\w)")


def strip_prefix(question):
    """The question without a prefix such as `[Stage-2]`."""
    return PREFIX.sub("", question) if "[" in question else question


@lru_cache(1 << 16)
def question_template(question):
    """A question's template: what makes two rows ask the same.

    Case, spacing, punctuation, a `[Stage-…]` prefix and the table's misspelt words are folded.
    """
    text = clean(strip_prefix(question))
    if any(word in text for word in ALIASES["question_words"]):
        text = WORDS.sub(lambda word: ALIASES["question_words"][word[0]], text)
    return " ".join(PUNCTUATION.sub(" ", text).split()) or " ".join(text.split())


def spellings_where_seen(labels):
    """The conditional foldings that hold for a question with these labels (a set): `{">20": ">20mm"}`."""
    return {variant: kept for variant, kept in ALIASES["labels_where_seen"].items() if kept in labels}


def fold_label(label, spellings):
    """A normalised label in the spelling that is kept. spellings: the question's own foldings, beside the general."""
    return spellings.get(label) or ALIASES["labels"].get(label, label)
