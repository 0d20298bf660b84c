"""Files of languages: a broken one is one line with its key, and few keys are needed.

python -m pytest tests/data/test_language_file.py -v
"""

import re

import pytest

from data import language
from data.language import table
from data.language_file import any_of, read_language
from files import UserError

YES_NO = 'yes_no: [[sí, "no"], [si, "no"]]'
TRUE = r'\[\["yes", "no"\]\]; yes, no, on and off without quotes are true and false to YAML: write "no"'


@pytest.mark.parametrize(
    ("was", "text", "message"),
    [
        (YES_NO, "yes_no: [sim, nao]", "yes_no.0: is 'sim'; wanted is a list of pairs, a yes and its no"),
        (YES_NO, "yes_no: [[yes, no]]", f"yes_no.0.0: is True; wanted is a list of pairs, a yes and its no: {TRUE}"),
        (YES_NO, "yes_no: {yes: [yes]}", f"yes_no: is {{True: .True.}}; wanted is a list of pairs, a yes and its no: {TRUE}"),
        (YES_NO, "yes_no: [[a, b, c]]", "yes_no.0: is "), (YES_NO, "yes_no:", "yes_no: is None; wanted"),
        (YES_NO, "yes_no: [[Sim, não]]", "yes_no.0.0: texts are compared in lower case"),
        (YES_NO, "", "has no yes_no; write what en.yaml has there"),
        ("asks_count", "ask_count", r"unknown key 'ask_count' \(did you mean asks_count\?\); its keys are those of en.yaml"),
        ("kinds: [pólipo", "kind: [pólipo", "unknown key 'things.0.kind'"),
        ("none: [ninguno", "none: [no, ninguno", r"none.0: is False; wanted is a list of texts: \[one, two\]; yes, no, on"),
        ("none: [ninguno, ninguna, nada]", "none: nada", "none: is 'nada'; wanted is a list of texts"),
        ("none: [ninguno", "none: [' ', ninguno", "none.0: an empty entry would be found everywhere"),
        ("asks_count: [", "asks_count: ['cu(anto', ", r"asks_count: 'cu\(anto' is no pattern \(missing \), unterminated .*put a"),
        ("asks_count: [", "asks_count: ['x?', ", r"asks_count: 'x\?' is no pattern \(it may be empty"),
        ("asks_count: [", "asks_count: ['(?P<a>x)', '(?P<a>y)', ", "asks_count: its patterns don't go together"),
        ("  2: [dos]", "  dos: [2]", "numbers.dos.*: is 'dos'; wanted is a whole number and its words"),
        ("  10: [cm, ", "  10: cm\n  100: [dm, ", "mm_per_unit.10.*: is 'cm'; wanted is millimetres"),
        ('  "<": [', '  "<<": [', "comparisons.<<.*wanted is one of"), ("endings: [[s", "endings: [s, [s", "endings.0: is 's'; wanted"),
        ("decimal_comma: true", "decimal_comma: 1,5", "decimal_comma: is '1,5'; wanted is true or false"),
        ("decimal_comma: true", "unspaced: maybe", "unspaced: is 'maybe'; wanted is true or false"),
        ("none:", "none: [a]\nnone:", "line [0-9]+: none is given twice, first in line"), ("none: [", "none: [[", "not a YAML file"),
        (None, "- a", "holds no table"), (None, "", "holds no table"),
    ],
)  # fmt: skip
def test_a_broken_table_is_one_line_with_file_and_key(tmp_path, was, text, message):
    good = (language.FOLDER / "es.yaml").read_text(encoding="utf-8")
    assert was is None or was in good
    (tmp_path / "pt.yaml").write_text(text if was is None else good.replace(was, text, 1), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'pt.yaml'}: ") + f"({message})") as error:
        read_language(tmp_path / "pt.yaml")
    assert "\n" not in str(error.value)


def test_a_language_of_ones_own_needs_few_keys(tmp_path):
    lines = ["yes_no: [[sim, não]]", "none: [nenhum]", "not_relevant: [não relevante]", "asks_count: [quantos?]", "asks_color: [cor]"]
    (tmp_path / "pt.yaml").write_text("\n".join([*lines, "asks_size: [tamanho]", "mm_per_unit: {1: [mm]}", "opens_yes_no: [há]"]))
    own = read_language(tmp_path / "pt.yaml")
    given = {"yes_no", "none", "not_relevant", "asks_count", "asks_color", "asks_size", "mm_per_unit", "opens_yes_no"}
    assert own.keys() == table().keys() and all(own[key] in ([], {}, False) and own[key] is not None for key in own.keys() - given)


def test_entries_are_found_as_whole_words_the_longest_first_and_anywhere_where_words_are_not_parted():
    found = lambda text, *entries: re.findall(any_of(entries), text)
    assert found("a lot, lots of lot-s, ballot", "lot", "a lot", "lots of") == ["a lot", "lots of", "lot"]
    assert found("可见息肉样polyp物xpolyp", "息肉", "息肉样", "polyp") == ["息肉样"], "Latin letters beside others are no word of their own"
    assert found("anything") == [] == found("", "a"), "of no entries nothing"


def test_an_entry_is_kept_in_one_unicode_form(tmp_path):
    good = (language.FOLDER / "es.yaml").read_text(encoding="utf-8")
    (tmp_path / "pt.yaml").write_text(good.replace("none: [", "none: [ne\u0301, ", 1), encoding="utf-8")
    assert read_language(tmp_path / "pt.yaml")["none"][0] == "n\u00e9"
