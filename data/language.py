"""What questions and answers look like in a language: the tables languages/*.yaml, those of a data set's languages as one.

`data.language` names them, and an answer space remembers them, so that prediction and evaluation read as training did.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
from functools import lru_cache
from pathlib import Path

from config import LANGUAGES
from data.language_file import EAST_ASIAN, any_of, read_language
from data.text import clean
from files import short

FOLDER = Path(__file__).with_name("languages")
ENGLISH = ("en",)
TYPES = {"count_numeric": "asks_count", "color": "asks_color", "size_numeric": "asks_size"}
NUMBER_EDGES = re.compile(rf"(?<=[0-9])(?={EAST_ASIAN.pattern})|(?<={EAST_ASIAN.pattern})(?=[0-9<>≤≥])")


@lru_cache
def _read(language):
    own = read_language(FOLDER / f"{language}.yaml")
    return {**own, "numbers": _with_joined(own["numbers"], own["joined"])}


def _with_joined(numbers, forms):
    """Numbers ({value: words}) and those that two of them make (`einundzwanzig`), up to the next that has a word of its own."""
    joined = dict(numbers)
    for ten in [value for value in numbers if value in range(20, 100, 10)] if forms else ():
        for one in range(1, 20):
            if ten + one in numbers and one > 9:
                break
            words = [form.format(ten=tens, one=ones) for form in forms for tens in numbers[ten] for ones in numbers.get(one, ())]
            joined[ten + one] = [*numbers.get(ten + one, ()), *words]
    return joined


def _leaves(value, without=()):
    if isinstance(value, dict | list):
        for item in [item for key, item in value.items() if key not in without] if isinstance(value, dict) else value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value


@lru_cache
def table(languages=ENGLISH):
    """The tables of languages (tuple of their codes) as one dict: lists one behind the other, dicts key by key."""
    merged = {}
    for language in languages:
        for key, value in _read(language).items():
            merged[key] = _joined(merged[key], value) if key in merged else value
    return merged


def _joined(one, other):
    if isinstance(one, dict):
        return {key: _joined(one[key], other[key]) if key in one and key in other else {**one, **other}[key] for key in {**one, **other}}
    return one or other if isinstance(one, bool) else [*one, *(item for item in other if item not in one)]


# ---------------------------------------------------------------------------------------------------------------------
# Patterns


@lru_cache
def pattern(languages, *keys):
    """Compiled pattern of what stands in the lists `keys` of the tables, as whole words."""
    return re.compile(any_of(entry for key in keys for entry in table(languages)[key]))


@lru_cache
def _finder(languages, keys):
    """The same as functions that look for it in a text behind a space: a search for a sign, or for given letters, skips over words."""
    entries = [entry for key in keys for entry in table(languages)[key]]
    inside = [entry.removeprefix(r"\w*") + r"(?!\w)" for entry in entries if entry.startswith(r"\w*")]  # to look for `anzahl` is fast
    parted = "|".join(entry for entry in entries if not (EAST_ASIAN.search(entry) or entry.startswith(r"\w*")))
    others = "|".join(filter(EAST_ASIAN.search, entries))
    patterns = [parted and rf"\W(?:{parted})(?!\w)", *inside, others]
    return [re.compile(found).search for found in patterns if found]


def _finds(text, languages, *keys):
    return any(search(" " + text) for search in _finder(languages, keys))


@lru_cache(1 << 12)
def spaced(text, languages):
    """A clean text whose words stand apart, also in a language that doesn't part them (`有两个息肉`): there by the table's words."""
    if not table(languages)["unspaced"] or not EAST_ASIAN.search(text):
        return text
    return " ".join(_unspaced_words(languages).sub(r" \g<0> ", NUMBER_EDGES.sub(" ", text)).split())


@lru_cache
def _unspaced_words(languages):
    words = {word for language in languages if _read(language)["unspaced"] for word in _leaves(_read(language), _PATTERNS)}
    return re.compile("|".join(sorted(filter(EAST_ASIAN.search, words), key=len, reverse=True)))


_OF_QUESTIONS = ("alternatives", "asks_more", "question_words", "asks_form", "asks_list")
_PATTERNS = ("yes_no", "opens_yes_no", "within_yes_no", *TYPES.values(), *_OF_QUESTIONS, "joined")


# ---------------------------------------------------------------------------------------------------------------------
# Answers of their own

# Labels that never stand in one list with another, in any language: none, and not relevant.
NONE = tuple(word for language in ("en", *LANGUAGES) for word in _read(language)["none"])
EXCLUSIVE = tuple(dict.fromkeys([*NONE, *(word for language in ("en", *LANGUAGES) for word in _read(language)["not_relevant"])]))
YES = frozenset(yes for language in LANGUAGES for yes, _ in _read(language)["yes_no"])
NO = frozenset(no for language in LANGUAGES for _, no in _read(language)["yes_no"])


def yes_no_answers(kinds, languages=ENGLISH):
    """The yes and the no (list of two) that belong to a question's answers (Counter), in their commonest spelling; [] where they aren't
    yes/no.

    `{"ja": 9, "yes": 2}` gives ["ja", "nein"] in German and English. Beside such words only none and not relevant may have been said.
    """
    pairs = table(languages)["yes_no"]
    words = {word for pair in pairs for word in pair}
    if not kinds.keys() <= {*words, *EXCLUSIVE} or (words - {*EXCLUSIVE}).isdisjoint(kinds):
        return []
    return list(max(pairs, key=lambda pair: sum(kinds.get(word, 0) for word in pair)))


@lru_cache
def yes_no_spellings(yes_no, languages=ENGLISH):
    """{another yes or no of the languages: the one that is kept} of a yes and a no (tuple): rivals to a model, the same to people."""
    return {word: kept for pair in table(languages)["yes_no"] for word, kept in zip(pair, yes_no) if word != kept}


def same_yes_no(one, other, languages=ENGLISH):
    """Are two normalised answers both a yes of these languages, or both a no?"""
    return any(one in side and other in side for side in zip(*table(languages)["yes_no"]))


def unread_language(row, languages):
    """The language that a row says it is in (`language`; `de-AT` is de), or None where it is one of these or isn't said."""
    said = row.get("language")
    code = None if said is None else re.split("[-_]", str(said).strip().lower())[0]
    return None if code in languages else code


def unread_note(found, languages):
    """What to do about rows in other languages ({language: rows}) than these, for people."""
    names = ", ".join(f"{short(name)} {count}" for name, count in sorted(found.items(), key=lambda item: -item[1])[:3])
    text = f"{sum(found.values())} rows name a `language` ({names}) that isn't in data.language and are read as {', '.join(languages)}"
    known = [name for name in found if name in LANGUAGES]
    remedy = f"set data.language=[{', '.join([*languages, *known])}]" if known else "write its file in data/languages/ and name it there"
    return f"{text}; {remedy}"


def other_yes_no(languages):
    """{a yes or no of another language than these alone: that language}."""
    known = {word for pair in table(languages)["yes_no"] for word in pair}
    return {word: name for name in LANGUAGES for pair in _read(name)["yes_no"] for word in pair if word not in known}


# ---------------------------------------------------------------------------------------------------------------------
# Questions


@lru_cache
def _forms(languages):
    """What makes a question a yes/no question: the patterns of its beginning and of what it may hold, each with {group: entry}."""
    return [_grouped(table(languages)[key]) for key in ("opens_yes_no", "within_yes_no")]


def _grouped(entries):
    names, group, parts = {}, 1, [any_of([entry]) for entry in entries]
    for entry, part in zip(entries, parts):
        names[group], group = entry, group + 1 + re.compile(part).groups
    return re.compile("|".join(f"({part})" for part in parts) or "(?!)"), names


def yes_no_form(key, languages=ENGLISH):
    """What makes a question template (str) a yes/no question by its form: the table's entry, `does`; None where nothing does."""
    (opens, openings), (within, words) = _forms(languages)
    if match := opens.match(key):
        return openings[match.lastindex]
    match = within.search(key) if words and _finds(key, languages, "within_yes_no") else None
    return words[match.lastindex] if match else None


@lru_cache(1 << 19)  # mining and enrichment ask it of each question
def asks_for_list(key, languages=ENGLISH):
    """Does a question template (str) ask for several labels in so many words?"""
    return _finds(key, languages, "asks_list")


def asked_type(key, languages=ENGLISH):
    """The type that a question template (str) asks for by the tables: count_numeric, color, size_numeric or open_ended."""
    if not _finds(key, languages, *TYPES.values()):  # most have none
        return "open_ended"
    return next(name for name, words in TYPES.items() if _finds(key, languages, words))


OFFERING = re.compile(r"[/|\\:,;、)\]]|[.?].*\w| - ")  # a question without any of it offers nothing but by its words
_WORD, _ITEM = rf"(?:[^\W\d_][^\W_]+|{EAST_ASIAN.pattern}+)", r"(?:[^\W\d_]\w*|[0-9](?!\w))"
SLASH = r" ?[/|\\] ?"
SLASHED = re.compile(rf"{_WORD}(?:{SLASH}{_WORD})+|(?<![\w/]){_ITEM}(?:{SLASH}{_ITEM}){{2,}}(?!/)")  # `left/right`, `1/2/3`; not `1/2`
LISTED = re.compile(r":([^:]+)$")
IN_BRACKETS = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
LETTERED = re.compile(r"(?<![a-zà-ÿ0-9])[(\[]?([a-h]|[1-9])[)\].:] ?(?=[^\W\d_])")
SIGNS = re.compile(r"[,;|/、]")
SHORT = 2  # words of an item of a list that ends a question: `, visible in the image,` is none


def names_answers(question, key, languages=ENGLISH):
    """Does a question (str; key: its template) name answers other than yes and no, `forceps or snare`, `left/right`, `Is it: a, b?`,
    `Is it red, white, pink?`, `a) clip b) hook`, `(yes/no/unclear)`, or ask another thing, `If so, what?`, `Is there text? What text?`"""
    if _finds(key, languages, "alternatives", "asks_more"):
        return True
    text = clean(question)
    if not OFFERING.search(text):
        return False
    offered = [re.split(SLASH, found[0]) for found in SLASHED.finditer(text)]
    if listed := LISTED.search(text):
        offered.append(SIGNS.split(listed[1]))
    rest = text.partition("?")[2]
    offered += [items for items in map(SIGNS.split, [*IN_BRACKETS.findall(text), rest]) if not _bare(items).isdisjoint(YES | NO)]
    offered += [_lettered(text), _items_at_the_end(text, languages)]
    if _ends_in_another(text, languages):
        return True
    return any(len(items) > 1 and not _bare(items) <= {*YES, *NO, "and", "or"} for items in offered) or (
        not asks_for_list(key, languages) and _asks_on(rest, languages)  # `Check all that are present.` is known for what it is
    )


def _bare(items):
    return {item.strip(" ().?!") for item in items} - {""}


def _lettered(text):
    """The items (list of str) behind the letters or numbers of a text that has a first and a second one."""
    marks = list(LETTERED.finditer(text))
    if not any({first, second} <= {mark[1] for mark in marks} for first, second in ("ab", "12")):
        return []
    return [text[mark.end() : end] for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)])]


def _items_at_the_end(text, languages):
    """The items of a list that ends a text, `red, white, pink?`; none where an `and` joins them to one thing, `a, b and c visible?`."""
    items = [item.strip(" ().?!") for item in re.split("[,;、]", IN_BRACKETS.sub("", text).partition("?")[0])][1:]
    joined = [word for word in table(languages)["and"] if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", items[-1] if items else "")]
    return items if len(items) > 1 and not joined and all(_is_short(item) for item in items) else []


def _is_short(item):
    return bool(item) and len(item.split()) <= SHORT and not (EAST_ASIAN.search(item) and (len(item) > 6 or item.endswith("吗")))


QUESTION_WORD_AMONG = 3  # words: `, and from where?`


def _ends_in_another(text, languages):
    """Does a question end in another one behind a comma, `Is there blood, where?`, `…, how large?`; not `the tool, which cuts, visible?`"""
    *before, last = re.split(r"(?:[,;]| - )(?! ?\d)", IN_BRACKETS.sub("", text).partition("?")[0])
    if not before or not (last := " ".join(re.findall(r"\w+", last))) or yes_no_form(last, languages):
        return False
    first = " ".join(last.split()[:QUESTION_WORD_AMONG])
    return _finds(first, languages, "question_words") or _finds(last, languages, *TYPES.values())


def _asks_on(rest, languages):
    """Does what follows a question's first question mark ask for more than yes or no? Not how it is to be answered: `Answer in a word.`"""
    words = set(re.findall(r"[^\W\d_]+", rest))
    if not words or words & YES and words & NO:
        return False
    return pattern((*languages, "en"), "asks_form").match(rest.strip(" (")) is None


_LETTERS = _read("en")["rule_letters"]
_LONGER = re.compile(
    rf"(?<!\w)(?!(?:{'|'.join(word for words in _LETTERS.values() for word in words)})(?!\w))\w*(?:{'|'.join(_LETTERS)})\w*", re.IGNORECASE
)


def without_longer_words(question):
    """A question without the words in which the rules of data/schema.py would find letters that they mean as a word: `encounter`."""
    text = question.lower()
    return _LONGER.sub("…", question) if any(letters in text for letters in _LETTERS) else question
