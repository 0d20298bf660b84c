"""What the doctor says of rows without a constraint, answers that would be cut, and questions that it doesn't understand.

python -m pytest tests/data/test_check_free.py -v
"""

import pytest
from conftest import ROOT
from test_check import plain_rows, raw, row

from config import load_config
from data.check import check, describe


def report_on(tmp_path, rows, *settings, val=None, tokens=False):
    paths = {"train": raw(tmp_path, rows, "t.jsonl")} | ({"val": raw(tmp_path, val, "v.jsonl")} if val else {})
    return check(paths, load_config(ROOT / "config_demo.yaml", list(settings)), tokens=tokens)


def texts(report):
    return [f"{finding['severity']}: {finding['text']}" for finding in report["findings"]]


def german(count, groups=True):
    return [
        row(f"{n}.jpg", question, answer, **({"group": f"P{n // 5}"} if groups else {}))
        for n in range(count)
        for question, answer in (("Welche Farbe hat der Polyp?", ("rosa", "rot")[n % 2]), ("Was ist zu sehen?", f"Befund {n}"))
    ]


def test_unconstrained_rows_are_counted_with_the_reason_and_what_helps(tmp_path):
    rows = [*plain_rows(40), *(row(f"{n}.jpg", "What is it?", ("hook", "clip")[n % 2]) for n in range(29))]
    rows += [row(f"{n}.jpg", "What is said?", f"text {n}") for n in range(35)]
    report = report_on(tmp_path, rows)
    assert report["answers"]["free"] == {"rows": 64, "few": 29, "varied": 35}
    (text,) = [text for text in texts(report) if "unconstrained" in text]
    assert text.startswith(
        "note: train: 64 of 144 rows (44.4%) are unconstrained: 29 of them ask questions with fewer than 30 training rows"
    )
    assert "get more rows of these, or list their answers (question types of your own, in README)" in text
    lines = list(describe(report))
    assert "  rows without one 64 (29 of questions with fewer than 30 training rows or 5 groups, 35 of questions answered freely)" in lines
    assert "types are read from words of en (data.language), and corrected by what training rows answer" in lines


def test_answers_of_four_patients_close_nothing_and_it_is_said(tmp_path):
    rows = [row(f"{n}.jpg", "What is it?", ("hook", "clip")[n % 2], group=f"P{n % 4}") for n in range(40)]
    assert report_on(tmp_path, rows)["answers"]["free"] == {"rows": 40, "few": 40, "varied": 0}


def test_questions_that_nobody_understood_are_a_warning_and_never_no_findings(tmp_path):
    (text,) = texts(report_on(tmp_path, german(20)))
    assert text.startswith(
        "WARNING: train: 40 of 40 rows (100.0%) are unconstrained: 40 of them ask questions with fewer than 30 training rows"
    )
    assert text.endswith("no question's type was understood, from words of en: see data.language")
    rows = [row(f"{n}.jpg", "Was ist zu sehen?", f"Befund {n}", group=n) for n in range(35)]
    (text,) = texts(report_on(tmp_path, rows))
    assert text.startswith("WARNING: train: 35 of 35 rows") and "0 of them ask questions with fewer" in text
    (text,) = texts(report_on(tmp_path, german(20), "data.language=de"))
    assert text.startswith("note: ") and "understood" not in text


def asked(question, answers, **extra):
    return [row(f"{n}.jpg", question, answer, **extra) for n, answer in enumerate(answers * 20)]


@pytest.mark.parametrize(
    ("rows", "settings", "severity", "said"),
    [
        (asked("Ist da Text?", ["ja", "nein"]), (), "WARNING", "train: 40 of 40 rows (100.0%) answer 'ja', 'nein', a yes or no of de"),
        (asked("Ist da Text?", ["ja", "nein"]), (), "WARNING", "(en); set data.language=de, or [en, de] for both"),
        (asked("Ist da Text?", ["ja", "nein"]), (), "note", "types come from the answers alone; no question's type was understood"),
        (asked("Ist da Text?", ["ja", "nein"], language="de"), (), "WARNING", "40 rows name a `language` (de 40)"),
        (asked("Ist da Text?", ["ja", "nein"], language="de"), ("data.language=de",), None, "language"),
        (asked("Ist da Text?", ["ja", "nein"]), ("data.language=de",), None, "data.language"),
        (asked("Where is it?", ["left", "right"]), (), "note", "no question's type was understood, from words of en: see data.language"),
        (asked("Where is it?", ["left", "right"]), (), None, "yes or no of"),
        ([*asked("Where is it?", ["left", "right"]), *asked("Is it?", ["yes", "no"])], (), None, "understood"),
        ([row(f"{n}.jpg", "Is it red, and why?", f"text {n}") for n in range(40)], (), "WARNING", "understood"),
        ([row(f"{n}.jpg", "What size?", f"text {n}") for n in range(40)], (), None, "understood"),
    ],
)  # fmt: skip
def test_a_language_that_is_not_read_is_told_by_what_is_asked_and_answered(tmp_path, rows, settings, severity, said):
    found = [text for text in texts(report_on(tmp_path, rows, *settings)) if said in text]
    assert [text.split(":")[0] for text in found] == ([severity] if severity else []), found


@pytest.mark.parametrize(("count", "warned"), [(14, True), (15, False)])
def test_a_handful_of_rows_is_a_warning(tmp_path, count, warned):
    found = texts(report_on(tmp_path, plain_rows(count)))
    assert any(text.startswith(f"WARNING: train: {2 * count} usable rows are too few to learn from") for text in found) == warned


@pytest.mark.parametrize(
    ("settings", "val", "said"),
    [
        (["predict.max_new_tokens=4"], None, ["train", "auto (the longest training answer)"]),
        (["predict.max_new_tokens=auto"], None, None),
        (["predict.max_new_tokens=auto"], "a much longer answer than any in the training rows, by far", ["val", "{longest}"]),
    ],
)
def test_answers_that_would_be_cut_are_a_warning_with_the_key(tmp_path, settings, val, said):
    rows = [*plain_rows(40), *(row(f"{n}.jpg", "What is it?", f"a text of some length {n}") for n in range(35))]
    report = report_on(tmp_path, rows, *settings, val=val and [row("v.jpg", "What is it?", val)], tokens=True)
    found = [text for text in texts(report) if "max_new_tokens" in text]
    if said is None:
        assert found == []
        return
    split, remedy = said
    longest = report["answer_tokens"]["tokens"][split]["max"]
    (text,) = found
    assert text.startswith(
        f"WARNING: {split}: {35 if split == 'train' else 1} unconstrained answers need more than predict.max_new_tokens="
    )
    assert text.endswith(f"tokens and will be cut, so wrong; set predict.max_new_tokens={remedy.format(longest=longest)}")
