"""Agreement of raters: by hand, against scikit-learn and Fleiss' own example, and beside the score.

python -m pytest tests/evaluation/test_agreement.py -v
"""

import json
import sys

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

import eval_exp1
from config import EvalConfig
from data.rows import read_rows
from evaluation.agreement import agreement, cohen, fleiss
from files import UserError, write_jsonl

# Fleiss 1971, table 1: 30 subjects, 6 raters, 5 diagnoses. The shape of its better known excerpt, 10 subjects of 14 raters (kappa 0.210).
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def judged(truth, pred, by, qtype="yes_no", question="Is there a polyp?", **more):
    return {"qtype": qtype, "question": question, "gt": truth, "pred": pred, "correct": pred == truth, "answers_by": by, **more}


def test_cohen_by_hand_and_as_scikit_learn_has_it():
    """4 of 5 agree; chance: (3 yes x 2 yes + 2 no x 3 no) / 25 = 0.48, so (0.8 - 0.48) / 0.52."""
    rows = [{"a": one, "b": other} for one, other in ("yy", "yy", "yn", "nn", "nn")]
    assert cohen(rows) == pytest.approx(0.32 / 0.52)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 300))
    second[::2] = first[::2]
    rows = [{"z": int(one), "b": int(other)} for one, other in zip(first, second)]
    assert cohen(rows) == pytest.approx(cohen_kappa_score(first, second))
    assert cohen([{"a": "y", "b": "y"}]) is None, "chance alone makes them agree"


def test_fleiss_known_example_and_unequal_numbers_of_raters():
    rows = [{f"{label} {n}": label for label, count in enumerate(row) for n in range(count)} for row in FLEISS]
    assert fleiss(rows) == pytest.approx(0.210, abs=5e-4)
    rows = [{"a": "y", "b": "y", "c": "n"}, {"a": "n", "b": "n"}]  # pairs: (1/3 + 1) / 2; chance: (2/5)^2 + (3/5)^2 = 0.52
    assert fleiss(rows) == pytest.approx((2 / 3 - 0.52) / 0.48)


def test_rows_of_two_raters_and_the_model_on_the_same_rows():
    rows = [
        judged("yes", "yes", {"a": "Yes.", "b": "yes"}),
        judged("yes", "no", {"a": "yes", "b": "no"}),
        judged("no", "no", {"a": "no", "b": None}),  # one rater only
        judged("no", "yes", None),
        judged("pink; red", "red; pink", {"a": "pink; red", "b": "red;pink"}, "color", "Colors?"),
        judged("10mm", "12mm", {"a": "10 mm", "b": "1.03 cm"}, "size_numeric", "Size?"),
    ]
    one = {"count": 1, "agreement": 1.0, "accuracy": 0.0}
    assert agreement(rows, EvalConfig(), {}) == {
        "raters": 2,
        "kappa_of": "Cohen",
        "per_type": {
            "yes_no": {"count": 2, "agreement": 0.5, "exact": 0.5, "kappa": 0.0, "accuracy": 0.5},
            "color": {**one, "exact": 1.0, "kappa": None},
            "size_numeric": {**one, "exact": 0.0, "kappa": 0.0},  # within the tolerance, as an answer would be
        },
        # chance: (2 yes x 1 yes + 1 pink; red x 1) / 16
        "overall": {"count": 4, "agreement": 0.75, "exact": 0.5, "kappa": pytest.approx((1 / 2 - 3 / 16) / (13 / 16)), "accuracy": 0.25},
    }
    assert list(agreement(rows, EvalConfig(), {})["per_type"]) == ["yes_no", "color", "size_numeric"]
    assert agreement([judged("yes", "yes", {"a": "yes", "b": "nan"}), judged("no", "no", None)], EvalConfig(), {}) is None


def test_pairs_of_two_out_of_three_raters_are_three_raters():
    """Cohen's kappa is of the same two in all rows."""
    found = agreement([judged("yes", "yes", {"a": "yes", other: said}) for other, said in (("b", "yes"), ("c", "no"))], EvalConfig(), {})
    assert (found["raters"], found["kappa_of"]) == (3, "Fleiss")
    assert found["overall"]["kappa"] == pytest.approx((1 / 2 - 10 / 16) / (6 / 16))  # chance: (3/4)^2 + (1/4)^2


def test_a_number_in_words_is_the_same_label_as_in_digits():
    """Agreement 1 beside a kappa of 0 would say that chance alone made them agree."""
    counts = [("2", "two"), ("one", "1"), ("3", "three polyps"), ("none", "0")]
    rows = [judged(one, one, {"a": one, "b": other}, "count_numeric", "How many polyps are there?") for one, other in counts]
    found = agreement(rows, EvalConfig(), None)["overall"]
    assert (found["agreement"], found["exact"], found["kappa"]) == (1, 1, 1)


def test_each_rater_is_once_the_truth_of_a_pair():
    """10.51 mm is within 5 % of 10.51 of 10 mm, and not within 5 % of 10."""
    rows = [judged("10 mm", "12 mm", {"a": "10 mm", "b": "10.51 mm"}, "size_numeric", "Size?")]
    assert agreement(rows, EvalConfig(), {})["overall"]["agreement"] == 0.5
    assert agreement(rows, EvalConfig(numeric_rel_tol=0.06), {})["overall"]["agreement"] == 1


def test_answers_are_read_as_their_question_s_are():
    """In its language, with its list's separators, its own words and its options' letters."""
    conventions = {"": {"languages": ["de"]}, "which instruments are there": {"separators": [","]}}
    rows = [
        judged("2", "2", {"a": "2", "b": "zwei"}, "count_numeric", "Wie viele?"),
        judged("3", "3", {"a": "3", "b": "3 Nadelhalter"}, "count_numeric", "Wie viele Nadelhalter sind zu sehen?"),
        judged("clip; snare", "clip", {"a": "snare, clip", "b": "clip; snare"}, "open_ended", "Which instruments are there?"),
        judged("clip", "clip", {"a": "B", "b": "clip"}, "mcq", "Which one?", options=["A: snare", "B: clip"]),
    ]
    for row in rows:
        found = agreement([row], EvalConfig(), conventions)["overall"]
        assert (found["agreement"], found["exact"]) == (1, 1), row
    assert agreement(rows[:1], EvalConfig(), {})["overall"]["exact"] == 0 == agreement(rows[2:3], EvalConfig(), {})["overall"]["agreement"]


def test_three_raters_have_fleiss_kappa():
    rows = [judged("yes", "yes", {"a": "yes", "b": "yes", "c": "no"}), judged("no", "no", {"a": "no", "b": "no"})]
    found = agreement(rows, EvalConfig(), {})
    assert (found["raters"], found["kappa_of"]) == (3, "Fleiss")
    assert found["overall"]["agreement"] == pytest.approx(2 / 3) and found["overall"]["kappa"] == pytest.approx((2 / 3 - 0.52) / 0.48)


@pytest.mark.parametrize("value", [["yes", "no"], {"a": 1}, "yes"])
def test_answers_by_is_a_table_of_texts(tmp_path, value):
    row = {"question": "Is there a polyp?", "answer": "yes", "image": "a.png", "answers_by": value}
    write_jsonl(tmp_path / "rows.jsonl", [row])
    with pytest.raises(UserError, match=r"rows.jsonl:1: answers_by is .*; write \{rater: answer\}"):
        list(read_rows(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("against", [True, False])
def test_the_ceiling_stands_beside_the_score(tmp_path, monkeypatch, capsys, against):
    """With the data file, whose raters are believed, and without, where the predictions name them; in table, metrics and report."""
    question = "Is there a polyp?"
    data = [
        {"id": "0", "question": question, "answer": "yes", "image": "a.png", "answers_by": {"Dr. A": "yes", "Dr. B": "yes"}},
        {"id": "1", "question": question, "answer": "no", "image": "b.png", "answers_by": {"Dr. A": "no", "Dr. B": "yes"}},
        {"id": "2", "question": question, "answer": "no", "image": "c.png"},
    ]
    rows = [{"id": row["id"], "pred": "yes", "gt": row["answer"], "question": question, "image": row["image"]} for row in data]
    rows = rows if against else [{**row, "answers_by": full.get("answers_by")} for row, full in zip(rows, data)]
    write_jsonl(tmp_path / "val.jsonl", data)
    write_jsonl(tmp_path / "p.jsonl", rows)
    (tmp_path / "c.yaml").write_text("output_dir: out\n")
    arguments = ["eval_exp1.py", "--config", str(tmp_path / "c.yaml"), "--predictions", str(tmp_path / "p.jsonl")]
    monkeypatch.setattr(sys, "argv", arguments + ["--against", str(tmp_path / "val.jsonl")] * against)
    eval_exp1.main()
    out = capsys.readouterr().out
    assert "2 raters: how far they agree is the ceiling of the score on the same rows (Cohen's kappa: beyond chance)" in out
    assert "yes_no                      2     50.00%    0.000     50.00%" in out
    saved = json.loads((tmp_path / "out" / "metrics_p.json").read_text())["agreement"]
    assert saved["overall"] == {"count": 2, "agreement": 0.5, "exact": 0.5, "kappa": 0.0, "accuracy": 0.5}
    report = (tmp_path / "out" / "report_p.html").read_text()
    assert "<h3>Raters</h3>" in report and "Dr. A" not in out + report, "who the raters are is nobody's business"
