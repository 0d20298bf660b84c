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
    for row in rows[40:59]:
        row["cluster"] = "image 40"  # of b's 38 rows 19 are about one image, which weigh as (19 + 19)² / (19² + 19) = 3.8 images
    b = subgroups(rows, compare_rows(rows), "x")["groups"][1]
    assert (b["clusters"], b["effective_clusters"], b["few"]) == (20, pytest.approx(3.8), True)


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


@pytest.mark.parametrize(
    ("name", "values", "groups"),
    [
        ("x", range(12), 12),  # so many numbers are each a group
        ("x", range(13), 4),
        ("x", [*range(12), None, "", " "], 13),
        *((name, range(15), 15) for name in ("group", "patient", "video", "case", "x_id")),  # numbers that are names
        ("x", map(str, range(15)), 15),  # written as text
        ("x", [*range(12), True], 13),
        ("x", [*range(12), float("inf")], 13),
        ("x", [*range(12), [99]], 13),
        ("x", [f"v{n}" for n in range(30)], 30),
        ("x", [f"v{n}" for n in range(31)], 31),  # the last of them "all others"
    ],
)
def test_how_many_groups_a_field_has(name, values, groups):
    rows = [{**row, "fields": {name: row["fields"]["x"]}} for row in judged(list(values))]
    found = subgroups(rows, compare_rows(rows), name)
    assert len(found["groups"]) == groups and found["quarters"] is (groups == 4)
    assert (found["groups"][-1]["value"] == OTHERS) is (found["values"] == 31)


def test_values_of_any_form_are_told_in_one_line():
    values = [" a \n b", 0.25, 2.0, True, "2", ["p", "p", None, " "], [], None, " "]
    assert shares(groups_of(values, [True] * 9)) == {
        "2": (2, 2),
        "0.25": (1, 1),
        "a b": (1, 1),
        "p": (1, 1),
        "true": (1, 1),
        NOT_GIVEN: (3, 3),
    }
    found = groups_of([str(n) for n in range(32, 0, -1)] + ["1"])
    assert list(shares(found)) == [*map(str, [*range(1, 8), *range(10, 33)]), OTHERS] and shares(found)[OTHERS][1] == 2


def test_the_table_of_a_field_is_told_to_the_letter():
    item = {
        "count": 12,
        "clusters": 3,
        "accuracy": 0.5,
        "interval": (0.25, 0.75, "x"),
        "balanced_accuracy": 0.625,
        "blind": 0.125,
        "few": True,
    }
    groups = [{"value": "a\n", **item}, {"value": "b", **item, "blind": None}, {"value": "c", **item, "few": False}]
    found = {"groups": groups, "values": 31, "lists": 1200, "quarters": False}
    assert subgroup_table("x\n", found, "groups and images").splitlines() == [
        "By x\\n",
        "",
        "Group                       Rows Clusters  Accuracy     95 % interval  Balanced     Blind",
        "-" * 89,
        "a\\n                           12        3    50.00%   25.00% - 75.00%    62.50%    12.50%  few",
        "b                             12        3    50.00%   25.00% - 75.00%    62.50%         -  few",
        "c                             12        3    50.00%   25.00% - 75.00%    62.50%    12.50%",
        "few: 2 groups weigh as fewer than 20 groups and images: little can be said of such an accuracy.",
        "1,200 rows with several values of x\\n count in each of them.",
        "x\\n has 31 different values: the 30 commonest are listed.",
    ]
    quarters = {"groups": [{"value": "a", **item}], "values": 1200, "lists": 0, "quarters": True}
    assert (
        subgroup_table("x", quarters, "groups").splitlines()[2].split() == "Group Rows Groups Accuracy 95 % interval Balanced Blind".split()
    )
    assert subgroup_table("x", quarters, "groups").splitlines()[5:] == [
        "few: 1 group weighs as fewer than 20 groups: little can be said of such an accuracy.",
        "x has 1,200 different numbers: its groups are quarters of the rows.",
    ]
    silent = {"groups": groups[2:], "values": 30, "lists": 0, "quarters": False}
    assert len(subgroup_table("x", silent, "images").splitlines()) == 5


def test_a_column_of_the_file_goes_before_what_is_known_of_every_row(tmp_path):
    row = {"question": "[Stage-3] Is it?", "answer": "yes", "image": "a.png"}
    rows = [{**row, "id": "0", "stage": 1, "answer_type": "own", "tags": ["a", 1]}, {**row, "id": "1", "question_type": "mine"}]
    write_jsonl(tmp_path / "data.jsonl", rows)
    known = [{"id": str(n), "qtype": "yes_no", "question": row["question"]} for n in range(2)]
    found = with_fields(known, tmp_path / "data.jsonl", ["stage", "answer_type", "question_type", "tags"])
    assert [list(row["fields"].values()) for row in found] == [[1, "own", "yes_no", ["a", 1]], [None, "open", "mine", None]]
    with pytest.raises(UserError) as error:
        with_fields(known, tmp_path / "data.jsonl", ["xyz"])
    said = (
        f"--by 'xyz': {tmp_path / 'data.jsonl'} has no such field; its fields are question, image, stage, answer_type, tags, question_type"
    )
    assert str(error.value) == said
    write_jsonl(tmp_path / "data.jsonl", [{**row, "id": "0", "tags": ["a", {"b": 1}]}, {**row, "id": "1", "tags": [["a"]]}])
    with pytest.raises(UserError) as error:
        with_fields(known, tmp_path / "data.jsonl", ["tags"])
    said = "has ['a', {'b': 1}] there; groups are made of texts and numbers, or lists of them"
    assert str(error.value) == f"--by 'tags': {tmp_path / 'data.jsonl'} {said}"


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
