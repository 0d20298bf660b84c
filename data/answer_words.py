"""What an answer may say beside what it answers: the lists of languages/*.yaml as patterns, and a question's own words."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache

from data.language import EAST_ASIAN, ENGLISH, pattern, spaced, table
from data.text import clean

TABLE = table()  # the lenient score reads English sentences only
WORD = re.compile(r"[^\W\d_]+")


def phrases(*lists, languages=ENGLISH):
    """Pattern of the entries in these lists (names), as whole words; the longest first."""
    return pattern(languages, *lists)


NOT_LENT = ("not_lent", "denials", "absences", "hedges", "on_either_side", "before", "after", "nearby")
SAY_NUMBERS = ("comparisons", "mm_per_unit", "numbers", "ones", "tens", "single")


@lru_cache
def _numbers_and_comparisons(languages):
    words = table(languages)
    lists = [words[key].values() if isinstance(words[key], dict) else [words[key]] for key in SAY_NUMBERS]
    return {word for entries in lists for items in entries for entry in items for word in WORD.findall(entry)}


@lru_cache(1 << 16)
def singular(word, languages=ENGLISH):
    """A word without its plural ending, roughly: the same for `polyps` and `polyp`, `boxes` and `box`, `Polypen` and `Polyp`."""
    while len(word) > 3:
        ending, other = next(((ending, other) for ending, other in table(languages)["endings"] if word.endswith(ending)), ("", ""))
        if ending == other:
            return word
        word = word.removesuffix(ending) + other
    return word


@lru_cache(1 << 12)
def content_words(question, languages=ENGLISH):
    """What a question (str or None) is about: its words (frozenset, singular) without those that carry no content or change a number."""
    words = {word for word in WORD.findall(spaced(clean(question or ""), languages)) if len(word) > 2 or EAST_ASIAN.search(word)}
    not_lent = pattern(languages, *NOT_LENT)
    return frozenset(singular(word, languages) for word in words - _numbers_and_comparisons(languages) if not not_lent.fullmatch(word))


def accompanies(text, table, marks, words, languages=ENGLISH):
    """Does a text hold nothing but phrases of the table (pattern), these words (set, singular) and marks (set of letters)?"""
    text = table.sub("", text) if text else text
    if set(text) <= marks:
        return True
    text = re.sub(r"(?<=[^\W\d])(?:-(?=[^\W\d])|'s(?!\w))", " ", text)  # `needle-driver`, `the polyp's size`
    return set(WORD.sub(lambda word: "" if singular(word[0], languages) in words else word[0], text)) <= marks
