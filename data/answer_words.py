"""The table answer_words.yaml as patterns, and a question's own words: what an answer may say beside what it answers."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache
from pathlib import Path

import yaml

from data.text import clean

TABLE = yaml.safe_load(Path(__file__).with_name("answer_words.yaml").read_text(encoding="utf-8"))
WORD = re.compile(r"[^\W\d_]+")


def phrases(*lists):
    """Pattern of the table's entries in these lists (names), as whole words; the longest first."""
    entries = sorted((entry for name in lists for entry in TABLE[name]), key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(entries) + r")(?!\w)")


NOT_LENT = phrases("not_lent", "denials", "absences", "hedges", "on_either_side", "before", "after", "nearby")
NUMBERS_AND_COMPARISONS = {
    word
    for lists in (TABLE["comparisons"].values(), TABLE["mm_per_unit"].values(), [TABLE["ones"], TABLE["tens"], TABLE["single"]])
    for entries in lists
    for entry in entries
    for word in WORD.findall(entry)
}


def singular(word):
    """An English word without its plural ending, roughly: the same for `polyps` and `polyp`, `boxes` and `box`."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


@lru_cache(1 << 12)
def content_words(question):
    """What a question (str or None) is about: its words (frozenset, singular) without those that carry no content or change a number."""
    words = {word for word in WORD.findall(clean(question or "")) if len(word) > 2 and word not in NUMBERS_AND_COMPARISONS}
    return frozenset(singular(word) for word in words if not NOT_LENT.fullmatch(word))


def accompanies(text, table, marks, words):
    """Does a text hold nothing but phrases of the table (pattern), these words (set, singular) and marks (set of letters)?"""
    text = table.sub("", text) if text else text
    if set(text) <= marks:
        return True
    text = re.sub(r"(?<=[^\W\d])(?:-(?=[^\W\d])|'s(?!\w))", " ", text)  # `needle-driver`, `the polyp's size`
    return set(WORD.sub(lambda word: "" if singular(word[0]) in words else word[0], text)) <= marks
