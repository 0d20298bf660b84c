"""What an answer may say beside what it answers: words of tables and questions, without plural endings.

python -m pytest tests/data/test_answer_words.py -v
"""

import pytest

from data.answer_words import TABLE, accompanies, content_words, phrases, singular


@pytest.mark.parametrize(
    ("languages", "word", "expected"),
    [
        ("en", "polyps", "polyp"), ("en", "boxes", "box"), ("en", "biopsies", "biopsy"), ("en", "processes", "process"),
        ("en", "torches", "torch"), ("en", "glass", "glass"), ("en", "mucus", "mucus"), ("en", "pelvis", "pelvis"),
        ("en", "gas", "gas"), ("en", "red", "red"), ("de", "kindern", "kind"),
        ("de", "polypen", "polyp"), ("de", "bilder", "bild"), ("de", "instrumente", "instrument"), ("de", "bes", "bes"),
    ],
)  # fmt: skip
def test_a_word_loses_the_plural_endings_of_its_language(languages, word, expected):
    assert singular(word, (languages,)) == expected


@pytest.mark.parametrize(
    ("languages", "question", "words"),
    [
        ("en", "How many red Polyps, are in the upper-left of the image?", {"red", "polyp", "upper", "left"}),
        ("en", "Is it larger than 5 mm, or a dozen?", set()), ("en", "Are two CO cm boxes green/black?", {"box", "green", "black"}),
        ("en", None, set()), ("en", "", set()),
        ("de", "Wie viele rote Polypen sind im Bild?", {"rot", "polyp"}), ("zh", "图中有多少个息肉？", {"息肉"}),
    ],
)  # fmt: skip
def test_a_question_is_about_its_words_without_those_that_count_compare_or_carry_nothing(languages, question, words):
    assert content_words(question, (languages,)) == words


ARTICLES = phrases("articles")


@pytest.mark.parametrize(
    ("text", "words", "alone"),
    [
        ("", set(), True), (" the, ", set(), True), ("the polyps", {"polyp"}, True), ("the polyp", set(), False),
        ("a needle-driver", {"needle", "driver"}, True), ("the polyp's size", {"polyp", "size"}, True), ("the polyp; an", {"polyp"}, False),
        ("polyp 3", {"polyp"}, False), ("theory", set(), False), ("the polyp'size", {"polyp", "ize"}, False),
    ],
)  # fmt: skip
def test_nothing_but_the_tables_phrases_known_words_and_marks_may_stand_beside(text, words, alone):
    assert accompanies(text, ARTICLES, set(" ,"), words) is alone


def test_phrases_are_whole_words_of_all_the_lists():
    both = phrases("articles", "zero")
    assert [both.sub("_", text) for text in ("the none", "anthem", "nil-the", "none of the")] == ["_ _", "anthem", "_-_", "_"]
    assert phrases("articles", languages=("de",)).sub("_", "the der") == "the _"


def test_the_table_is_text():
    """YAML reads a bare `no` or `on` as false."""

    def entries(node):
        parts = node.values() if isinstance(node, dict) else node
        return [node] if isinstance(node, (str, bool, int)) else [entry for part in parts for entry in entries(part)]

    words = {key: value for key, value in TABLE.items() if not isinstance(value, bool)}
    assert len(entries(words)) > 200 and all(isinstance(entry, str) for entry in entries(words))
