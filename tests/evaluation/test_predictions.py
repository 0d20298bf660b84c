"""Predictions files: rows that are read or refused by line and field, their sidecars, and seeds that are of one configuration.

python -m pytest tests/evaluation/test_predictions.py -v
"""

import json

import pytest
from evaluating import PREDICTIONS, TABLE, changed, loaded, metrics_of, run_process, seed_file, write_data, write_sidecar

from evaluation.predictions import check_asked, check_same_configuration, load_predictions, load_sidecar
from files import UserError, write_jsonl

# ---------------------------------------------------------------------------------------------------------------------
# Rows


def test_rows_get_this_projects_names_and_lose_what_nothing_reads(tmp_path):
    turns = [{"role": "user", "content": [{"type": "text", "text": "Is it?"}, {"type": "image"}]}, {"role": "assistant", "content": "no"}]
    rows = [
        {"id": 7, "pred": "yes", "gt": "no", "qtype": "yes_no", "mean_logprob": -0.1, "question": None},
        {"predict": "2", "label": "3", "prompt": "How many?"},
        {"response": "no", "labels": "yes", "messages": turns, "images": [{"path": "a/b.png", "bytes": None}]},
        {"response": None, "messages": "?", "images": ["a.png", "b.png"]},
    ]
    assert loaded(tmp_path, rows) == [
        {"id": "7", "pred": "yes", "gt": "no", "qtype": "yes_no"},
        {"pred": "2", "gt": "3", "prompt": "How many?"},
        {"pred": "no", "gt": "yes", "prompt": "Is it?", "shown": "a/b.png"},
        {"pred": None},
    ]


def test_a_row_that_has_this_projects_names_keeps_what_it_has_beside_them(tmp_path):
    turns = [{"role": "user", "content": "Is it?"}]
    rows = [
        {"pred": "yes", "gt": "no", "images": ["a.png"], "messages": turns, "predict": "2", "label": "3"},
        {
            "pred": "yes",
            "predict": "2",
            "label": "no",
            "labels": "3",
            "image": "a.png",
            "images": ["a.png"],
            "prompt": "Or not?",
            "messages": turns,
        },
        {
            "gt": "no",
            "predict": "yes",
            "response": "2",
            "messages": ["?", {"content": ["?", {"text": 3}, {"text": "Is"}, {"text": "it?"}]}],
        },
        {"pred": "yes", "messages": [{"role": "system", "content": 3}, *turns, {"role": "user", "content": "Or not?"}]},
    ]
    assert loaded(tmp_path, rows) == [
        {"pred": "yes", "gt": "no", "images": ["a.png"]},
        {"pred": "yes", "gt": "no", "image": "a.png", "images": ["a.png"], "prompt": "Or not?"},
        {"pred": "yes", "gt": "no", "prompt": "Is it?"},
        {"pred": "yes", "prompt": "\nIs it?\nOr not?"},
    ]


def test_texts_that_come_again_and_again_are_kept_once(tmp_path):
    first, second, *_ = loaded(tmp_path, PREDICTIONS)
    assert first["question"] is second["question"] and first["qtype"] is second["qtype"]


def test_a_row_without_an_answer_of_any_name_is_named(tmp_path):
    with pytest.raises(UserError, match=r"predictions.jsonl:2: has no pred; .*LLaMA-Factory.*ms-swift"):
        loaded(tmp_path, [{"pred": None, "id": 0}, {"output": "yes", "id": 1}])


def test_a_row_without_a_prediction_is_named(folder, evaluate):
    broken = {name: value for name, value in PREDICTIONS[1].items() if name != "pred"}
    write_jsonl(folder / "out" / "predictions.jsonl", [PREDICTIONS[0], broken])
    code, out, err = evaluate()
    assert (code, out) == (1, "")
    assert "predictions.jsonl:2: has no pred;" in err


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("pred", 2, "predictions.jsonl:1: pred is 2"),
        ("gt", ["a"], "predictions.jsonl:1: gt is ['a']"),
        ("gt", None, "predictions.jsonl: row '0' has no gt"),
        ("qtype", 3, "predictions.jsonl:1: qtype is 3"),
        ("id", 1.5, "predictions.jsonl:1: id is 1.5"),
        ("group", 1.5, "predictions.jsonl:1: group is 1.5"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(folder, evaluate, key, value, said):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**PREDICTIONS[0], key: value}])
    code, out, err = evaluate()
    assert (code, out) == (1, "") and said in err


def write_nan(folder, rows):
    """Predictions as another tool may write them: this project writes no NaN."""
    (folder / "out" / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), -0.1, 1.1, True, "high"])
def test_confidences_that_are_no_probabilities_are_counted_and_listed(folder, evaluate, confidence):
    rows = [{**row, "confidence": confidence if row["id"] in "02" else 0.5} for row in PREDICTIONS]
    write_nan(folder, rows)
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "confidence is no number from 0 to 1 in 2 ids (0, 2);" in err


@pytest.mark.parametrize(
    "key, value",
    [
        *(("question", 3), ("image", ["a"]), ("abstained", "no"), ("answers", "yes"), ("greedy", 1), ("options", [1]), ("reachable", 1)),
        *(("candidates_top", [["yes"]]), ("candidates_top", [["yes", float("nan")]])),
    ],
)
def test_other_fields_of_the_wrong_kind_are_named(folder, evaluate, key, value):
    write_nan(folder, [PREDICTIONS[0], {**PREDICTIONS[1], key: value}])
    code, out, err = evaluate()
    assert (code, out) == (1, "") and f"predictions.jsonl:2: {key} is " in err


@pytest.mark.parametrize(
    "keys, wanted, right, wrong",
    [
        (("pred", "gt", "qtype", "question", "image", "greedy", "prompt", "shown"), "write it as text", ["a", ""], [2, True, ["a"], {}]),
        (("id",), "write text or a whole number", ["a", 2], [1.5, True, ["a"]]),
        (("group",), "write the patient's or video's name", ["a", 2], [1.5, True, ["a"]]),
        (("abstained", "reachable", "answer_set_filled"), "write true or false", [True, False], [1, "true", []]),
        (
            ("confidence_calibrated",),
            "write a number from 0 to 1, or null",
            [0, 1, 0.5, 1.0000005],
            [2, "1", True, [1], 1.5, -0.1],
        ),
        (
            ("options", "answers", "images", "answer_set"),
            "write a list of texts, or leave it out",
            [["a"], ["a", ""]],
            [[], "a", ["a", 1], {"a": 1}],
        ),
        (("answers_by",), "write {rater: answer}, the answers as text", [{"x": "a", "y": None}], [["a"], {"x": 1}]),
        (
            ("box", "pred_box"),
            "write left, top, right, bottom, as numbers",
            [[1, 2, 3, 4.5], [1, 2, 1, 2]],
            [[1, 2, 3], [1, 2, 3, 4, 5], [3, 2, 1, 4], [1, 4, 3, 2], [0, 0, True, 1], [0, 0, "1", 1], [0, 0, None, 1], "0011", {"a": 1}],
        ),
        (
            ("candidates_top",),
            "write a list of [candidate, probability]",
            [[], [["yes", 1], ["no", 0.0]]],
            ["yes", {"yes": 1}, ["ab"], [["yes"]], [["yes", 0.5, 0.5]], [[1, 0.5]], [["yes", None]], [["yes", 1.5]], [["a", 1], "ab"]],
        ),
    ],
)
def test_each_field_has_its_kind(tmp_path, keys, wanted, right, wrong):
    row = {"pred": "yes", "gt": "no"}
    for key in keys:
        for value in right:
            assert loaded(tmp_path, [{**row, key: value}]) == [{**row, key: str(value) if key == "id" else value}]
        assert loaded(tmp_path, [{**row, key: None}]) == [
            {name: text for name, text in {**row, key: None}.items() if text or name == "pred"}
        ]
        for value in wrong:
            with pytest.raises(UserError) as error:
                loaded(tmp_path, [row, {**row, key: value}])
            assert str(error.value) == f"{tmp_path / 'predictions.jsonl'}:2: {key} is {value!r}; {wanted}"


def test_a_confidence_is_null_or_a_probability_and_rows_without_an_id_are_told_by_their_number(tmp_path):
    row = {"pred": "yes"}
    rows = [{**row, "confidence": share} for share in (0, 1, 0.5, 1.0000005)]
    assert loaded(tmp_path, [*rows, {**row, "confidence": None}]) == [*rows, row]
    broken = [{**row, "confidence": share} for share in (-1e-9, 1.00001, True, "1", [1])]
    with pytest.raises(UserError) as error:
        loaded(tmp_path, [row, {**broken[0], "id": "a"}, *broken[1:]])
    said = "confidence is no number from 0 to 1 in 5 ids (a, 2, 3, 4, 5); write null, or predict again"
    assert str(error.value) == f"{tmp_path / 'predictions.jsonl'}: {said}"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError) as error:
        load_predictions(tmp_path / "p.jsonl")
    assert str(error.value) == f"{tmp_path / 'p.jsonl'} does not exist; run predict_exp1.py first"


def test_only_the_four_keys_are_needed(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{"id": 5, "pred": None, "gt": "none", "qtype": "open_ended"}])
    code, out, _ = evaluate()
    assert code == 0 and "open_ended           1          0          0.00%" in out


def test_repeated_ids_are_counted_and_listed(folder, evaluate):
    ids = ["a", "b", "a", 7, "7", "c", "b", "a"]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**PREDICTIONS[0], "id": row_id} for row_id in ids])
    code, out, err = evaluate()
    assert (code, out) == (1, "")
    assert "repeats 3 ids (a, b, 7);" in err


def test_predictions_of_llama_factory_and_ms_swift_beside_a_data_file(folder, evaluate):
    data = write_data(folder)
    for rows in (
        [{"prompt": f"user\n{row['question']}\nassistant\n", "predict": row["pred"], "label": row["gt"]} for row in PREDICTIONS],
        [{"response": row["pred"], "labels": row["gt"], "messages": [{"role": "user", "content": row["question"]}]} for row in PREDICTIONS],
    ):
        write_jsonl(folder / "out" / "predictions.jsonl", rows)
        code, out, err = evaluate("--against", data)
        assert code == 0 and out.startswith(TABLE), err
        code, out, err = evaluate()
        assert (code, out) == (1, "") and "--against DATA.jsonl" in err


# ---------------------------------------------------------------------------------------------------------------------
# Sidecars


@pytest.mark.parametrize(
    "facts, said",
    [
        ({"rows_in_split": "many"}, "rows_in_split is 'many'"),
        ({"rows_in_split": -1}, "rows_in_split is -1"),
        ({"rows_in_split": True}, "rows_in_split is True"),
        ({"limit": "4"}, "limit is '4'"),
        ({"config": "x"}, "config is 'x'"),
        ({"config": {"data": "x"}}, "config.data is 'x'"),
        ({"config": {"data": {"image_root": 3}}}, "config.data.image_root is 3"),
        ({"config": {"model_name": 7}}, "config.model_name is 7"),
        ({"adapter": 5}, "adapter is 5"),
        ({"decoding": ["exact"]}, "decoding is ['exact']"),
        ({"decoding": "magic"}, "decoding is 'magic'"),
        ({"split": 1}, "split is 1"),
        ({"source": {}}, "source is {}"),
        ({"versions": ["torch"]}, "versions is ['torch']"),
        ({"versions": {"torch": 2}}, "versions is 2"),
        ({"device": 0}, "device is 0"),
        ({"ids": [None]}, "ids is None"),
        ({"ids": "01"}, "ids is '01'"),
        ({"ids": None}, "ids is None"),
    ],
)
def test_each_value_of_a_sidecar_is_checked(tmp_path, facts, said):
    (tmp_path / "p.meta.json").write_text(json.dumps({"ids": ["0"], **facts}))
    with pytest.raises(UserError) as error:
        load_sidecar(tmp_path / "p.jsonl")
    assert (
        f"p.meta.json: {said}" in str(error.value) and "\n" not in str(error.value) and "delete it to evaluate p.jsonl" in str(error.value)
    )


@pytest.mark.parametrize("text, said", [("[]", "is no JSON object"), ("{}", "has no ids"), ("{", "not valid JSON")])
def test_a_sidecar_that_is_none(tmp_path, text, said):
    (tmp_path / "p.meta.json").write_text(text)
    with pytest.raises(UserError, match=f"p.meta.json: {said}"):
        load_sidecar(tmp_path / "p.jsonl")


@pytest.mark.parametrize("content", ["[]", "{}", '{"ids": null}', "{"])
def test_a_broken_sidecar_is_an_error(folder, evaluate, content):
    (folder / "out" / "predictions.meta.json").write_text(content)
    code, out, err = evaluate()
    assert (code, out) == (1, "") and "predictions.meta.json: " in err


def test_the_ids_asked_for(tmp_path):
    rows = [{"id": "0"}, {"id": "1"}]
    assert check_asked(tmp_path / "p.jsonl", rows, {}) is None
    assert check_asked(tmp_path / "p.jsonl", rows, {"ids": [0, "1"]}) is None
    assert check_asked(tmp_path / "p.jsonl", rows, {"ids": [0, "1"], "rows_in_split": 9}) == [2, 9]
    assert check_asked(tmp_path / "p.jsonl", rows, {"ids": [0, "1"], "rows_in_split": 2}) is None
    with pytest.raises(UserError) as error:
        check_asked(tmp_path / "p.jsonl", rows, {"ids": ["0", "7"]})
    said = "misses 1 id (7) and has unasked-for 1 id (1) by the list in p.meta.json; run predict_exp1.py again"
    assert str(error.value) == f"{tmp_path / 'p.jsonl'}: {said}"


@pytest.mark.parametrize(
    "ids, said",
    [
        (["0", "1", "2", "3", "4"], "misses 1 id (4) by"),
        (["0", "1", "2"], "has unasked-for 1 id (3) by"),
        (["0", "1", "2", "8", "9"], "misses 2 ids (8, 9) and has unasked-for 1 id (3) by"),
        ([str(number) for number in range(20)], "misses 16 ids (4, 5, 6, 7, 8, …) by"),
    ],
)
def test_ids_other_than_those_asked_for_stop_the_evaluation(folder, ids, said):
    write_sidecar(folder, ids=ids)
    result = run_process("--config", folder / "config.yaml")
    assert (result.returncode, result.stdout) == (1, "")
    assert said in result.stderr and "run predict_exp1.py again" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list((folder / "out").glob("metrics*"))


def test_a_limited_run_is_called_partial(folder, evaluate):
    write_sidecar(folder, limit=4, rows_in_split=9)
    code, out, _ = evaluate()
    assert code == 0 and out.startswith(TABLE)
    assert "partial: 4 of 9 rows\n" in out
    assert metrics_of(folder)["partial"] == [4, 9]


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def test_seeds_must_be_of_one_configuration_and_about_the_same_rows(folder, evaluate):
    first = seed_file(folder, 0, PREDICTIONS)
    other = seed_file(folder, 1, PREDICTIONS, train={"seed": 1, "lr": 2e-4})
    code, out, err = evaluate("--predictions", first, other)
    assert (code, out) == (1, "") and "these files differ in train.lr; use --compare" in err
    write_sidecar(folder, "predictions_seed1", config={"output_dir": "out1", "train": {"seed": 1, "lr": 1e-4}}, adapter="outputs/adapter")
    code, out, err = evaluate("--predictions", first, other)
    assert (code, out) == (1, "") and "these files differ in adapter (none or some); use --compare" in err
    fewer = seed_file(folder, 2, changed(PREDICTIONS[:3], 0, gt="no"))
    write_sidecar(folder, "predictions_seed2", ids=["0", "1", "2"], config=None)
    code, out, err = evaluate("--predictions", first, fewer)
    assert (code, out) == (1, "") and "missing: 1 id (3); another ground truth: 1 id (0);" in err


@pytest.mark.parametrize(
    ("first", "second", "differing"),
    [
        ({"train": {"seed": 1}, "output_dir": "a"}, {"train": {"seed": 2}, "output_dir": "b"}, None),
        ({"eval": {"count_abs_tol": 0}}, {"eval": {"count_abs_tol": 1}}, None),  # how answers are judged, not what was answered
        ({"predict": {"decoding": "exact"}}, {"predict": {"decoding": "free"}}, "predict.decoding"),
        ({"data": {"train_jsonl": "rows/t.jsonl"}}, {"data": {"train_jsonl": "/home/alice/exp1/rows/t.jsonl"}}, None),  # older sidecars
        ({"data": {"train_jsonl": "rows/t.jsonl"}}, {"data": {"train_jsonl": "/home/alice/exp1/other/t.jsonl"}}, "data.train_jsonl"),
        ({"data": {"train_jsonl": "rows/t.jsonl"}}, {"data": {"train_jsonl": "t.jsonl"}}, "data.train_jsonl"),
        ({"data": {"train_jsonl": "/home/alice/rows/t.jsonl"}}, {"data": {"train_jsonl": "rows/t.jsonl"}}, None),
        ({"data": {"train_jsonl": "/a/rows/t.jsonl"}}, {"data": {"train_jsonl": "/b/rows/t.jsonl"}}, "data.train_jsonl"),
        ({"data": {"train_jsonl": None}}, {"data": {"train_jsonl": "/a/t.jsonl"}}, "data.train_jsonl"),
        ({"model_name": "models/7B"}, {"model_name": "/home/alice/models/7B"}, None),
        ({"lora": {"target": "7B"}}, {"lora": {"target": "/models/7B"}}, "lora.target"),  # which is no path
        ({"model_name": "/models/7B", "train": {"lr": 1}}, {"model_name": "/models/2B", "train": {"lr": 2}}, "model_name, train.lr"),
        ({"lora": {"r": 8}}, {"lora": {"r": 8, "alpha": 8}}, "lora.alpha"),
    ],
)
def test_seeds_may_differ_in_seed_and_folder_and_how_they_are_judged(first, second, differing):
    runs = [{"sidecar": {"config": config, "split": "val", "adapter": "a"}} for config in (first, second)]
    check_same_configuration([*runs, {"sidecar": {}}])  # what has no sidecar says nothing
    if differing is None:
        check_same_configuration(runs)
    else:
        with pytest.raises(UserError, match=f"these files differ in {differing}; use --compare"):
            check_same_configuration(runs)


@pytest.mark.parametrize(("fact", "value"), [("split", "test"), ("perturbation", {"name": "black", "seed": 0})])
def test_predictions_of_two_splits_or_of_other_pictures_are_no_seeds_of_one_configuration(fact, value):
    """`--predictions outputs/predictions*.jsonl` takes the files of --perturb along, whose mean says nothing."""
    facts = {"config": {"lora": {"r": 8}}, "split": "val", "adapter": "a"}
    with pytest.raises(UserError) as error:
        check_same_configuration([{"sidecar": facts}, {"sidecar": facts | {fact: value}}])
    assert str(error.value) == f"seeds of one configuration are wanted, and these files differ in {fact}; use --compare"
