"""Scores by a column of the data file: by hand, odd columns, the script's words and files.

python -m pytest tests/evaluation/test_subgroups.py -v
"""

import json
import sys

import pytest

import eval_exp1
from data.readers import convert
from evaluation.metrics import compare_rows
from evaluation.subgroups import NOT_GIVEN, OTHERS, subgroup_table, subgroups, with_fields
from files import UserError, run_script, write_jsonl


def judged(values, right=None, **more):
    """Rows with one field, one image each, right by turns."""
    return [
        {"id": str(n), "qtype": "yes_no", "question": "Is it?", "gt": "yes", "pred": "yes" if ok else "no", "correct": ok}
        | {"cluster": f"image {n}", "fields": {"x": value}}
        | more
        for n, (value, ok) in enumerate(zip(values, right or [n % 2 == 0 for n in range(len(values))]))
    ]


def groups_of(values, right=None):
    rows = judged(values, right)
    return subgroups(rows, compare_rows(rows), "x")


def shares(found):
    return {item["value"]: (item["correct"], item["count"]) for item in found["groups"]}


@pytest.mark.parametrize(
    ("values", "right", "expected"),
    [
        (["b", "a", "a", None, ""], [1, 1, 0, 1, 0], {"a": (1, 2), "b": (1, 1), NOT_GIVEN: (1, 2)}),
        ([["p", "q"], ["q"], [], "p"], [1, 0, 1, 1], {"p": (2, 2), "q": (1, 2), NOT_GIVEN: (1, 1)}),
        ([10, 9, 9, 2.0], [1, 1, 0, 0], {"2": (0, 1), "9": (1, 2), "10": (1, 1)}),  # numbers stand in their order
        ([True, False, True], [1, 0, 0], {"true": (1, 2), "false": (0, 1)}),
        ([10**400, 9], [1, 0], {str(10**400): (1, 1), "9": (0, 1)}),  # no float holds it: a text
        (["10", "9", "2"], [1, 1, 0], {"2": (0, 1), "9": (1, 1), "10": (1, 1)}),
    ],
)
def test_groups_by_hand(values, right, expected):
    found = shares(groups_of(values, list(map(bool, right))))
    assert found == expected and list(found) == list(expected)


def test_many_numbers_are_quarters_and_many_texts_the_commonest():
    found = groups_of([n / 40 for n in range(40)] + [None])
    assert shares(found) == {
        "0 to 0.225": (5, 10), "0.25 to 0.475": (5, 10), "0.5 to 0.725": (5, 10), "0.75 to 0.975": (5, 10), NOT_GIVEN: (1, 1),
    }  # fmt: skip
    assert found["quarters"] and found["values"] == 40
    for start, step, first, last in (
        (1690000000, 1, "1690000000 to 1690000009", "1690000030 to 1690000039"),
        (0.5, 1e-9, "0.5 to 0.500000009", "0.50000003 to 0.500000039"),
    ):
        close = shares(groups_of([start + step * n for n in range(40)]))
        assert list(close.values()) == [(5, 10)] * 4 and (list(close)[0], list(close)[3]) == (first, last)
    found = groups_of([f"p{n}" for n in range(50)] + ["p7"] * 5)
    assert len(found["groups"]) == 31 and found["groups"][0]["value"] == "p7" and shares(found)[OTHERS][1] == 20
    rows = [{**row, "fields": {"group": n}} for n, row in enumerate(judged(["v"] * 15))]
    assert len(subgroups(rows, compare_rows(rows), "group")["groups"]) == 15, "numbers of patients are names"


def test_a_group_of_few_images_is_marked_and_intervals_are_by_image():
    rows = judged(["a"] * 40 + ["b"] * 38)
    for row in rows[:40]:
        row["cluster"] = f"image {row['id'][-1]}"  # ten images
    found = subgroups(rows, compare_rows(rows), "x", rows)
    a, b = found["groups"]
    assert (a["clusters"], a["few"]) == (10, True) and (b["clusters"], b["few"]) == (38, False)
    assert a["blind"] == a["accuracy"] == 0.5 and a["balanced_accuracy"] == 0.5
    table = subgroup_table("x", found, "images").splitlines()
    interval = "{:.2%} - {:.2%}".format(*a["interval"][:2]).split()
    assert table[4].split() == ["a", "40", "10", "50.00%", *interval, "50.00%", "50.00%", "few"]
    assert not table[5].endswith("few") and table[6].startswith("few: 1 group weighs as fewer than 20 images")


@pytest.mark.parametrize("length, shown", [(22, 23), (30, 31), (60, 61), (None, 24)])
def test_labels_that_are_cut_are_told_apart(length, shown):
    """Labels alike in their first letters, and one that is cut without harm."""
    values = ["v" * length + end for end in "ab"] if length else ["v" * 90, "w"]
    lines = subgroup_table("x", groups_of(values, [True, False]), "images").splitlines()
    labels = [line.split()[0] for line in lines[4:6]]
    assert len(set(labels)) == 2 and len(labels[0]) == shown and len(lines[3]) == max(24, shown) + 65
    assert labels[0] == ("v" * 23 + "…" if length is None else values[0])


def test_columns_of_the_data_are_joined_by_id(tmp_path):
    rows = [{"id": n, "question": "Is it?", "answer": "yes", "image": f"{n}.png", "hospital": "ab"[n], "where": {"x": 1}} for n in range(2)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    known = [{"id": str(n), "qtype": "yes_no", "candidates": ["yes", "no"] if n else None} for n in (1, 0)]
    found = with_fields(known, tmp_path / "data.jsonl", ["hospital", "answer_type", "question_type"])
    assert [row["fields"] for row in found] == [
        {"hospital": "b", "answer_type": "closed", "question_type": "yes_no"},
        {"hospital": "a", "answer_type": "open", "question_type": "yes_no"},
    ]
    with pytest.raises(UserError, match=r"no such field \(did you mean 'hospital'\?\); its fields are question, image, hospital"):
        with_fields(known, tmp_path / "data.jsonl", ["hospitals"])
    with pytest.raises(UserError, match="groups are made of texts and numbers"):
        with_fields(known, tmp_path / "data.jsonl", ["where"])


def test_a_stage_is_known_of_rows_whose_file_has_no_such_column(tmp_path):
    asked = ["Is there text?", "[Stage-3] Is it?", "Is it?"]
    write_jsonl(tmp_path / "data.jsonl", [{"id": n, "question": text, "answer": "yes", "image": "a.png"} for n, text in enumerate(asked)])
    known = [{"id": str(n), "qtype": "yes_no", "question": text} for n, text in enumerate(asked)]
    assert [row["fields"]["stage"] for row in with_fields(known, tmp_path / "data.jsonl", ["stage"])] == [1, 3, None]


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """The script on six rows of three images, in this process: (exit code or error, stdout)."""
    truths = [("a", 1), ("a", 1), ("b", 2), ("b", 2), ("b", 3), ("a", 3)]
    rows = [{"question": "Is it?", "answer": "yes", "image": f"{n // 2}.png", "hospital": h, "stage": s} for n, (h, s) in enumerate(truths)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    write_jsonl(tmp_path / "out" / "predictions.jsonl", [{"id": str(n), "pred": "yes" if n != 2 else "no"} for n in range(6)])
    (tmp_path / "config.yaml").write_text("output_dir: out\ndata:\n  train_jsonl: data.jsonl\n")

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        command = ["eval_exp1.py", "--config", "config.yaml", "--predictions", "out/predictions.jsonl", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            run_script(eval_exp1.main)
        return stopped.value.code, capsys.readouterr().out

    return run


def test_the_script_prints_writes_and_reports_them(evaluate, tmp_path):
    code, out = evaluate("--against", "data.jsonl", "--by", "hospital", "stage", "eval.count_abs_tol=1")
    assert code is None
    assert out.index("By hospital") < out.index("By stage")
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())["by"]
    assert [(item["value"], item["correct"], item["count"], item["few"]) for item in saved["hospital"]["groups"]] == [
        ("a", 3, 3, True),
        ("b", 2, 3, True),
    ]
    assert [item["value"] for item in saved["stage"]["groups"]] == ["1", "2", "3"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'href="#by-2">By stage</a>' in page and '<h2 id="by-1">By hospital</h2>' in page and "few images" in page
    code, _ = evaluate("--by", "hospital")
    assert code.startswith("error: --by hospital: fields are those of the data file; give the data file")


def test_readers_keep_the_columns_that_scores_are_grouped_by(tmp_path):
    row = {"image_id": "1", "question": "Is it?", "answer": "yes", "complexity": 2, "source": "s", "hospital": "h", "procedure": "p"}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    convert("kvasir-vqa-json", tmp_path / "rows.json", tmp_path / "out", say=lambda line: None)
    saved = json.loads((tmp_path / "out" / "all.jsonl").read_text())
    assert [saved[key] for key in ("complexity", "source", "hospital", "procedure")] == [2, "s", "h", "p"]
