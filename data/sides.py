"""Sides and places in texts, when a picture is mirrored or turned: the table `sides.yaml`.

A mirrored picture exchanges left and right in what is asked, in the valid answers and in what is answered, so the same row stays
right or wrong; a turned one moves whole labels (`upper-left` to `lower-left`). What the table can't move is said with None.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache
from pathlib import Path

from config import yaml_file
from data.language import EAST_ASIAN
from files import UserError, short

SIDES_FILE = Path(__file__).with_name("sides.yaml")
KEYS = {"pairs", "of_the_body", "circles", "places"}
MOVES = ("flip", "rotation")


@lru_cache
def _tables(languages):
    """The languages' tables, in their order. Raises UserError for a language that has none."""
    tables = yaml_file(SIDES_FILE)
    for language in languages:
        if not isinstance(tables, dict) or not isinstance(tables.get(language), dict) or set(tables[language]) != KEYS:
            raise UserError(f"{SIDES_FILE}: has no left and right for the language {short(language)}; add {', '.join(sorted(KEYS))} there")
    return [tables[language] for language in languages]


def _words(languages, key):
    return [word for table in _tables(languages) for word in table[key]]


@lru_cache
def _pattern(words):
    """Any of the words (tuple), the longest first, between what is no letter or digit; where a script parts no words, anywhere."""
    parts = [word if EAST_ASIAN.search(word) else rf"(?<![^\W_]){word}(?![^\W_])" for word in map(re.escape, sorted(words, key=len)[::-1])]
    return re.compile("|".join(parts) or "(?!)", re.IGNORECASE)


@lru_cache
def _exchange(languages):
    """({word: its other}, pattern of the words, pattern of sides of the body) for mirrored pictures."""
    other = {}
    for one, two in _words(languages, "pairs"):
        other.setdefault(one, two)
        other.setdefault(two, one)
    own = "|".join(_pattern((word,)).pattern for word in _words(languages, "of_the_body"))
    sides = _pattern(tuple(other)).pattern
    # `left lobe`, `lobe left`, `left-sided colon`; in scripts without spaces side by side
    body = rf"(?:{sides})(?:[- ]?(?:sided|side of the))?[ -]?(?:{own})|(?:{own})[ -]?(?:{sides})" if own else "(?!)"
    return other, _pattern(tuple(other)), re.compile(body, re.IGNORECASE)


@lru_cache(1 << 14)  # texts repeat
def mirrored(text, languages):
    """A text with left and right exchanged, letter case kept; None where they are sides of a body (`left lobe`)."""
    other, words, body = _exchange(languages)
    return None if body.search(text) else words.sub(lambda found: _in_case_of(found[0], other[found[0].lower()]), text)


def _in_case_of(like, word):
    return word.upper() if like.isupper() and len(like) > 1 else word[:1].upper() + word[1:] if like[:1].isupper() else word


@lru_cache
def _turns(languages):
    """({label: where it goes}, {label: where it came from}, pattern of places) of a turn by 90° counter-clockwise."""
    to = {}
    for circle in _words(languages, "circles"):
        to |= dict(zip(circle, [*circle[1:], circle[0]]))
    return to, {label: source for source, label in to.items()}, _pattern(tuple(_words(languages, "places")))


@lru_cache(1 << 14)
def turned(text, languages, back=False):
    """A label or a list of labels (`a; b`) after a turn by 90° counter-clockwise (back: before it); None where other text names a place."""
    to, source, places = _turns(languages)
    labels = [label.strip() for label in text.split(";")]
    if any(places.search(label) and label.lower() not in to for label in labels):
        return None
    moved = [(source if back else to).get(label.lower(), label) for label in labels]
    return text if moved == labels else "; ".join(moved)


def move(name, text, languages, back=False):
    """A text after a perturbation of MOVES (back: before it), or None where that can't be said."""
    return mirrored(text, languages) if name == "flip" else turned(text, languages, back)


def moved_row(name, row, languages):
    """An enriched row as it asks about a mirrored or turned picture: question, options and candidates moved; None where one can't be.

    Candidates keep their places where the moved ones are the same set, for a list's order is what training saw; options always move
    in place, because letters name them. The row's own answer decides no constraint, but a row whose truth can't be moved is left out.
    """
    texts = [row["question"], *(row.get("options") or ()), *(row["answer_candidates"] or ())]
    texts += [text for text in (row.get("answer"), *(row.get("answers") or ())) if text is not None]
    moved = {text: move(name, text, languages) for text in texts}
    if None in moved.values() or (name == "rotation" and moved[row["question"]] != row["question"]):
        return None
    asked = {**row, "question": moved[row["question"]]}
    if row.get("options"):
        asked["options"] = [moved[text] for text in row["options"]]
    if candidates := row["answer_candidates"]:
        in_place = [moved[text] for text in candidates]
        asked["answer_candidates"] = in_place if row.get("options") else _in_old_places(candidates, in_place)
    return asked


def _in_old_places(candidates, moved):
    """The moved candidates, each that was one before at its old place, new ones where others left."""
    new = iter([text for text in moved if text not in set(candidates)])
    return [text if text in set(moved) else next(new) for text in candidates]


def moved_back(name, text, row, languages):
    """What is said of a mirrored or turned picture, said of the picture as it was; a list of labels in the order of its candidates."""
    labels = text.split("; ") if row["multi_label"] else [text]
    labels = [label if (back := move(name, label, languages, back=True)) is None else back for label in labels]
    place = {label: index for index, label in enumerate(row["answer_candidates"] or ())}
    return "; ".join(sorted(labels, key=lambda label: place.get(label, len(place))) if row["multi_label"] else labels)
