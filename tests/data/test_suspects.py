"""Labels that are probably wrong: which rows are suspected, in what order, from which predictions, and what is written.

python -m pytest tests/data/test_suspects.py -v
"""

import csv
import json
import sys

import pytest
import yaml
from data_sets import ASKED
from PIL import Image

from config import EvalConfig, load_config
from data import check
from data.corrections import corrections_for
from data.suspects import find_suspects, pair_of, read_predictions, suspects_of, write_suspects
from files import UserError, sha256, write_jsonl

QUESTION = "Is there a polyp?"
TRAIN = [{"id": f"t{number}", "question": QUESTION, "answer": ("yes", "no")[number % 2], "image": f"t{number}.png"} for number in range(4)]


def answered(row_id, gt, pred, confidence, **more):
    """A row of two candidates, as prediction writes it."""
    other = {"yes": "no", "no": "yes"}[pred]
    row = {"id": row_id, "pred": pred, "gt": gt, "qtype": "yes_no", "question": QUESTION, "image": f"{row_id}.png"}
    return row | {"confidence": confidence, "candidates_top": [[pred, confidence], [other, round(1 - confidence, 6)]], **more}


ANSWERED = [
    answered("a", "yes", "no", 0.75),
    answered("b", "yes", "yes", 0.9),
    answered("c", "no", "yes", 0.95),
    answered("d", "no", "no", 0.8),
    answered("e", "no", "yes", 0.55),
    answered("f", "no", "no", 0.7),
]


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", TRAIN)
    write_jsonl(tmp_path / "val.jsonl", [{**row, "answer": row["gt"]} for row in ANSWERED])
    data = {"train_jsonl": "train.jsonl", "val_jsonl": "val.jsonl", "image_root": "."}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"output_dir": "out", "data": data}))
    Image.new("RGB", (64, 48), "red").save(tmp_path / "c.png")
    write_jsonl(tmp_path / "out" / "predictions.jsonl", ANSWERED)
    sidecar(tmp_path, split="val", adapter="out/adapter", trained_on=[sha256(tmp_path / "train.jsonl")])
    return tmp_path


def sidecar(folder, **facts):
    (folder / "out" / "predictions.meta.json").write_text(json.dumps({"ids": [], **facts}))


def suspected(folder, *overrides):
    cfg = load_config(folder / "my.yaml", overrides)
    found, lines = suspects_of(folder / "out" / "predictions.jsonl", cfg, {"train": cfg.data.train_jsonl, "val": cfg.data.val_jsonl})
    return [row["id"] for row in found], "\n".join(lines)


def test_sure_answers_that_contradict_the_annotation_worst_first():
    """By hand: `no` has 0.25 and 0.1 where `yes` is annotated, so yes: (0.25 + 0.9) / 2 = 0.575, and
    no: (0.05 + 0.8 + 0.45 + 0.7) / 4 = 0.5. `e` says yes with 0.55, less than is usual for yes."""
    found = find_suspects(ANSWERED, EvalConfig(), {})
    assert [(row["id"], row["annotation_probability"]) for row in found] == [("c", 0.05), ("a", 0.25)]


def test_of_equal_suspects_the_surest_comes_first():
    rows = [answered("a", "yes", "no", 0.75), answered("b", "yes", "no", 1.0, candidates_top=[["no", 1.0], ["yes", 0.5]])]
    assert [row["id"] for row in find_suspects(rows, EvalConfig(), {})] == ["b", "a"], "0.5 lies between both their answers"


def test_an_answer_that_annotates_no_row_has_to_be_as_sure_as_the_strictest():
    rows = [{**answered("a", "yes", "yes", 0.9), "candidates_top": None}, answered("b", "yes", "no", 0.5), answered("c", "yes", "no", 0.7)]
    assert [row["id"] for row in find_suspects(rows, EvalConfig(), {})] == ["c"], "yes: (0.9 + 0.5 + 0.3) / 3 = 0.567"


def test_the_strictest_is_of_all_answers_and_options_are_a_question_of_their_own():
    """By hand: clip has 0.9 where it is annotated, and hook (0.4 + 0 + 0) / 3; of options x and z nothing is known of x."""
    said = lambda row_id, gt, pred, confidence, **more: {
        "id": row_id, "gt": gt, "pred": pred, "confidence": confidence, "question": "Which?", "qtype": "mcq", **more
    }  # fmt: skip
    rows = [
        said("a", "clip", "clip", 0.9),
        said("b", "hook", "hook", 0.4),
        said("c", "hook", "snare", 0.6),
        said("d", "hook", "snare", 0.95),
    ]
    assert [row["id"] for row in find_suspects(rows, EvalConfig(), {})] == ["d"]
    rows = [said("a", "x", "x", 0.9, options=["x", "y"]), said("b", "z", "x", 0.6, options=["x", "z"])]
    assert [row["id"] for row in find_suspects(rows, EvalConfig(), {})] == ["b"]


def test_an_answer_has_to_be_as_sure_as_it_is_where_it_is_the_annotation():
    """By hand: yes has (0.95 + 0.95 + 0.4) / 3 = 0.767 where it is annotated, and no 0.5, which 0.6 is more than."""
    rows = [answered("a", "yes", "yes", 0.95), answered("b", "yes", "yes", 0.95), answered("c", "no", "no", 0.5)]
    assert [row["id"] for row in find_suspects([*rows, answered("d", "yes", "no", 0.6)], EvalConfig(), {})] == ["d"]


def test_a_list_in_another_order_and_another_reference_contradict_nothing():
    row = {"qtype": "mcq", "question": "Colors?", "pred": "pink; red", "confidence": 0.99, "candidates_top": [["pink; red", 0.99]]}
    rows = [
        {**row, "id": "a", "pred": "pink; red", "gt": "red;pink"},
        {**row, "id": "b", "pred": "pink; red", "gt": "x", "answers": ["pink; red"]},
    ]
    assert find_suspects(rows, EvalConfig(), {}) == []


def test_a_number_contradicts_beyond_the_tolerance_and_an_annotation_that_no_candidate_is_has_no_probability():
    row = {"id": "a", "gt": "10 mm", "pred": "10.4 mm", "question": "What size?", "qtype": "size_numeric", "confidence": 0.9}
    row["candidates_top"] = [["10.4 mm", 0.9], ["12 mm", 0.1]]
    assert find_suspects([row], EvalConfig(numeric_rel_tol=0.05), {}) == []
    (found,) = find_suspects([row], EvalConfig(numeric_rel_tol=0.01), {})
    assert found["annotation_probability"] == 0.0


def test_lists_by_a_questions_own_separator_are_the_same_in_any_order():
    """By hand: pink and red have (0.9 + 0.5 + 0.25 + 0.9) / 4 = 0.6375 where both are annotated, white has 0.2, and blue 0.95."""
    said = lambda row_id, gt, pred, *ranking: {
        "id": row_id, "gt": gt, "pred": pred, "question": "Which ones?", "qtype": "mcq",
        "confidence": ranking[0][1], "candidates_top": list(map(list, ranking)),
    }  # fmt: skip
    rows = [
        said("a", "red, pink", "red, pink", ("red, pink", 0.9)),
        said("b", "pink, red", "pink, red", ("pink, red", 0.5)),
        said("c", "white", "pink, red", ("pink, red", 0.75), ("white", 0.2)),
        said("d", "blue", "blue", ("blue", 0.95)),
        said("e", "red, pink", "white", ("white", 0.3), ("pink, red", 0.25)),
        said("f", "red, pink", "pink, red", ("pink, red", 0.9)),
    ]
    found = find_suspects(rows, EvalConfig(), {"which ones": {"separators": [","]}})
    assert [(row["id"], row["annotation_probability"]) for row in found] == [("c", 0.2), ("e", 0.25)]


def test_of_a_run_on_other_rows(folder):
    ids, said = suspected(folder)
    assert (
        ids == ["c", "a"]
        and said.startswith("suspects: 2 of 6 rows")
        and said.endswith(f"the model was trained on {check.near(folder / 'train.jsonl')}")
    )


def test_the_configured_tolerance_and_what_training_rows_say_of_lists_decide(folder):
    said = ("clip, sponge", "sponge", "clip", "sponge, clip")
    tools = [{"question": "Which tools?", "answer": said[n % 4], "image": f"{n}.png", "group": n % 9} for n in range(40)]
    write_jsonl(folder / "train.jsonl", tools)
    size = {
        "id": "s",
        "question": "What size?",
        "qtype": "size_numeric",
        "gt": "10 mm",
        "pred": "10.8 mm",
        "image": "s.png",
        "confidence": 0.9,
    }
    tool = {**size, "id": "l", "question": "Which tools?", "qtype": "mcq", "gt": "clip, sponge", "pred": "sponge, clip"}
    write_jsonl(folder / "out" / "predictions.jsonl", [size, tool])
    assert suspected(folder)[0] == ["s"] and suspected(folder, "eval.numeric_rel_tol=0.1")[0] == []


@pytest.mark.parametrize("facts", [{"trained_on": None}, {"adapter": "none"}, {"split": "folds", "adapter": "5, one a fold"}])
def test_what_is_known_of_the_training_is_said(folder, facts):
    sidecar(folder, **{"split": "val", "adapter": "out/adapter", **facts})
    ids, said = suspected(folder)
    assert ids == ["c", "a"]
    if facts == {"trained_on": None}:
        assert "WARNING: nothing says what the model was trained on" in said
    else:
        assert "WARNING" not in said and ("untuned" in said or "the other folds" in said)


@pytest.mark.parametrize("facts", [{"split": "train"}, {"split": "val", "source_sha256": "1", "trained_on": ["0", "1"]}])
def test_predictions_of_training_rows_are_refused(folder, facts):
    sidecar(folder, adapter="out/adapter", **facts)
    with pytest.raises(UserError, match="its rows are those that the model was trained on.*tools/sweep.py CONFIG --folds DIR"):
        suspected(folder)


@pytest.mark.parametrize("without_sidecar", [True, False])
def test_rows_that_were_trained_on_are_left_out_whatever_their_id(folder, without_sidecar):
    trained = {"question": "is there  a polyp?", "answer": "no", "image": "./c.png"}
    other = {**trained, "image": "a.png", "options": ["no", "unclear"]}  # with options it asks another thing
    write_jsonl(folder / "train.jsonl", [*TRAIN, trained, other])
    sidecar(folder, split="val", adapter="x", trained_on=[sha256(folder / "train.jsonl")])
    if without_sidecar:
        (folder / "out" / "predictions.meta.json").unlink()
    ids, said = suspected(folder)
    assert ids == ["a"] and "left out: 1 row that the model was trained on" in said
    write_jsonl(folder / "out" / "predictions.jsonl", [ANSWERED[2]])
    with pytest.raises(UserError, match="its rows are those"):
        suspected(folder)


def test_rows_that_tell_nothing_are_left_out_and_counted(folder):
    rows = [*ANSWERED, answered("g", "nan", "yes", 0.9), {**answered("h", "yes", "no", 0.9), "confidence": None}]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    (folder / "c.csv").write_text("id,answer,who,why\nc,yes,me,\n")
    ids, said = suspected(folder, f"data.corrections={folder / 'c.csv'}")
    left_out = "1 row without a confidence (predict.decoding=exact gives one), 1 row whose annotation stands for a missing value"
    assert ids == ["a"] and said.splitlines() == [
        "suspects: 1 of 5 rows, where the model is sure of another answer than the annotation; "
        f"the model was trained on {check.near(folder / 'train.jsonl')}",
        f"left out: {left_out}, 1 row that data.corrections has already",
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "confidence": None} for row in ANSWERED])
    with pytest.raises(UserError, match="no row is left: 6 rows without a confidence \\(predict.decoding=exact gives one\\)"):
        suspected(folder)


def test_a_sum_just_over_one_is_a_probability_and_an_answer_may_be_missing(folder):
    row = {key: value for key, value in ANSWERED[0].items() if key != "pred"}
    write_jsonl(folder / "rows.jsonl", [{**row, "id": 1, "confidence": 1}, {**row, "id": 2, "confidence": 1.0000005}])
    found = read_predictions(folder / "rows.jsonl")
    assert [(row["id"], row["confidence"], row["pred"]) for row in found] == [("1", 1, None), ("2", 1.0000005, None)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"pred": "yes", "gt": "yes", "question": "?"}, "predictions.jsonl:1: has no id"),
        ({"id": 1, "pred": "yes", "question": "?"}, "predictions.jsonl:1: has no gt"),
        ({**ANSWERED[0], "confidence": 2}, "predictions.jsonl:1: confidence is 2"),
    ],
)
def test_what_is_no_predictions_file_is_said(folder, row, said):
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    with pytest.raises(UserError, match=said):
        suspected(folder)


def test_the_table_is_filled_in_and_corrects_and_is_never_replaced(folder, monkeypatch, capsys):
    """The command, as it is run: table and page; the table with an answer in it is a corrections file."""
    arguments = ["check.py", "--config", str(folder / "my.yaml"), "--suspects", str(folder / "out" / "predictions.jsonl")]
    monkeypatch.setattr(sys, "argv", arguments)
    check.main()
    table, page = folder / "out" / "data" / "suspects.csv", (folder / "out" / "data" / "suspects.html").read_text()
    assert "suspects: 2 of 6 rows" in capsys.readouterr().out
    assert page.count("data:image/jpeg;base64,") == 1 and page.index("id c<") < page.index("id a<")
    with open(table, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["annotation"], row["predicted"], row["confidence"], row["answer"]) for row in rows] == [
        ("c", "no", "yes", "0.95", ""), ("a", "yes", "no", "0.75", ""),
    ]  # fmt: skip
    check.main()  # nothing is filled in yet
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join([lines[0], lines[1].removesuffix(",,,\n") + ",yes,dr a,a polyp\n", *lines[2:]]), encoding="utf-8")
    with pytest.raises(UserError, match="suspects.csv: holds corrections, which would be lost; move it"):
        check.main()
    ids, said = suspected(folder, f"data.corrections={table}")
    assert ids == ["a"]


def test_a_table_whose_corrections_are_not_finished_is_never_replaced(tmp_path):
    """An answer beside an id that somebody lost can't be read as a correction, and is work all the same."""
    table = tmp_path / "suspects.csv"
    table.write_text("id,answer,who,why\n,yes,dr a,\n")
    with pytest.raises(UserError) as error:
        write_suspects([{**ANSWERED[0], "annotation_probability": 0.25}], tmp_path)
    assert str(error.value) == f"{table}: holds corrections, which would be lost; move it, and set data.corrections to where it is"
    assert table.read_text() == "id,answer,who,why\n,yes,dr a,\n" and not (tmp_path / "suspects.html").exists()


def test_the_table_of_rows_without_ids_corrects_them(folder, monkeypatch, capsys):
    """Training has a row 1 as well."""
    bare = [{key: value for key, value in row.items() if key != "id"} for row in TRAIN]
    write_jsonl(folder / "train.jsonl", bare)
    rows = [{**row, "id": str(number)} for number, row in enumerate(ANSWERED)]
    rows[2]["images"] = ["c.png", "d.png"]
    write_jsonl(folder / "val.jsonl", [{"answer": row["gt"], **{key: row[key] for key in ("question", "image")}} for row in ANSWERED])
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    facts = {"trained_on": [sha256(folder / "train.jsonl")], "source_sha256": sha256(folder / "val.jsonl")}
    sidecar(folder, split="mine", adapter="x", **facts)  # which split it is, its file tells
    arguments = ["check.py", "--config", str(folder / "my.yaml"), "--suspects", str(folder / "out" / "predictions.jsonl")]
    monkeypatch.setattr(sys, "argv", arguments)
    check.main()
    assert "WARNING" not in capsys.readouterr().out
    with open(folder / "out" / "data" / "suspects.csv", encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["id"], row["split"], row["image"], row["images"]) for row in found] == [
        ("2", "val", "c.png", "c.png; d.png"), ("0", "val", "a.png", ""),
    ]  # fmt: skip
    with open(folder / "filled.csv", "w", encoding="cp1252", newline="") as file:  # as Excel saves it in Germany
        writer = csv.DictWriter(file, found[0], delimiter=";")
        writer.writeheader()
        writer.writerows([{**found[0], "answer": "yes", "who": "Dr. Müller"}, found[1]])
    cfg = load_config(folder / "my.yaml", [f"data.corrections={folder / 'filled.csv'}"])
    assert [corrections_for(cfg.data, folder / f"{split}.jsonl") for split in ("train", "val")] == [{}, {"2": "yes"}]
    assert suspected(folder, f"data.corrections={folder / 'filled.csv'}")[0] == ["0"]


def test_ids_of_which_nobody_knows_the_split_are_said_before_anybody_corrects(folder):
    write_jsonl(folder / "train.jsonl", [{**row, "id": "a"} for row in TRAIN[:1]])
    sidecar(folder, split="other", adapter="x", trained_on=[sha256(folder / "train.jsonl")])
    said = suspected(folder)[1]
    assert "WARNING: 1 suspect has an id of rows in several splits, such as 'a', and can't be corrected by the table; give every" in said


def test_hostile_text_is_text_and_no_images_means_none(folder):
    row = {**answered("<b>", "yes", "no", 0.98765), "question": "<script>1</script>\u202e?", "annotation_probability": 0.01234}
    table, page = write_suspects([{**row, "image": "c.png"}], folder / "new", None)
    assert ",0.9877,0.0123," in table.read_text(encoding="utf-8")
    text = page.read_text()
    assert "<script>" not in text and "<b>&lt;" not in text and "data:image" not in text and "\u202e" not in text


def test_what_a_model_was_trained_on_is_known_by_the_whole_list():
    row = {**ASKED, "image": "a.png", "images": ["a.png", "./b.png"]}
    assert pair_of(row) == pair_of({**ASKED, "images": ["a.png", "b.png"]}) != pair_of({**ASKED, "image": "a.png"})
