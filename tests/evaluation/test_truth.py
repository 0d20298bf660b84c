"""What predictions are about: the data file knows, and a predictions file that says otherwise is refused with counts.

python -m pytest tests/evaluation/test_truth.py -v
"""

import json

import pytest

from config import DataConfig, load_config
from data import answer_space
from data.preprocess import mine_space
from evaluation.predictions import check_asked, load_predictions, load_sidecar
from evaluation.truth import RULES_ALONE, completed, read_truths, space_for, unit_of, with_clusters, with_data, without_junk
from files import UserError, write_jsonl

DATA = [
    {"question": "Is there a polyp?", "answer": "Yes", "image": "a.png", "group": "p1"},
    {"question": "What color is it?", "answer": "pink; red", "image": "a.png", "group": "p1"},
    {"question": "Which tool?", "answer": "B", "image": "b.png", "group": 2, "options": ["clip", "snare"]},
    {"question": "What is shown?", "answer": "a needle driver", "answers": ["a needle driver", "driver"], "image": "b.png", "group": 2},
]
SAID = [{"pred": "yes"}, {"pred": "pink"}, {"pred": "snare"}, {"pred": "driver"}]


@pytest.fixture
def source(tmp_path):
    write_jsonl(tmp_path / "data.jsonl", DATA)
    return tmp_path / "data.jsonl"


def loaded(tmp_path, rows):
    write_jsonl(tmp_path / "predictions.jsonl", rows)
    return load_predictions(tmp_path / "predictions.jsonl")


def joined(tmp_path, source, rows, **options):
    return with_data(loaded(tmp_path, rows), tmp_path / "predictions.jsonl", source, RULES_ALONE, **options)[0]


# ---------------------------------------------------------------------------------------------------------------------
# With a data file


def test_predictions_of_one_stage_are_about_its_rows_alone(tmp_path):
    write_jsonl(tmp_path / "data.jsonl", [{**row, "stage": stage} for row, stage in zip(DATA, (1, 2, 2, 1))])
    rows = [{"id": str(place), **SAID[place]} for place in (1, 2)]
    with pytest.raises(UserError, match="missing: 2"):
        joined(tmp_path, tmp_path / "data.jsonl", rows)
    assert [row["id"] for row in joined(tmp_path, tmp_path / "data.jsonl", rows, settings=DataConfig(stages=[2]))] == ["1", "2"]


def test_what_a_row_lacks_is_filled_in(tmp_path, source):
    rows = joined(tmp_path, source, [{"id": str(place), **row} for place, row in enumerate(SAID)])
    assert rows == [
        {
            "id": "0",
            "pred": "yes",
            "question": "Is there a polyp?",
            "image": "a.png",
            "group": "p1",
            "qtype": "yes_no",
            "candidates": ["yes", "no"],
            "gt": "Yes",
            "reachable": True,
        },
        {
            "id": "1",
            "pred": "pink",
            "question": "What color is it?",
            "image": "a.png",
            "group": "p1",
            "qtype": "color",
            "candidates": rows[1]["candidates"],
            "gt": "pink; red",
            "reachable": False,
        },
        {
            "id": "2",
            "pred": "snare",
            "question": "Which tool?",
            "image": "b.png",
            "group": 2,
            "options": ["clip", "snare"],
            "qtype": "mcq",
            "candidates": ["clip", "snare"],
            "gt": "snare",
            "reachable": True,
        },
        {
            "id": "3",
            "pred": "driver",
            "question": "What is shown?",
            "image": "b.png",
            "group": 2,
            "answers": ["a needle driver", "driver"],
            "qtype": "open_ended",
            "candidates": None,
            "gt": "a needle driver",
            "reachable": True,
        },
    ]


OWN_WORD = {"question": "Is there a polyp?", "image": "./a.png", "group": "p1", "gt": "yes", "qtype": "yes_no", "reachable": True}


@pytest.mark.parametrize(
    "claim, said",
    [
        ({"gt": "no"}, "another answer: 1 id (0)"),
        ({"question": "Is there a snare?"}, "another question: 1 id (0)"),
        ({"image": "b.png"}, "another image: 1 id (0)"),
        ({"group": "row 0"}, "another group: 1 id (0)"),  # one a row would make intervals narrow
        ({"qtype": "open_ended"}, "another type: 1 id (0)"),  # where wrong rows harm nobody
        ({"answers": ["yes", "no"]}, "another answers: 1 id (0)"),
        ({"options": ["yes", "maybe"]}, "another options: 1 id (0)"),
        ({"reachable": False}, "another ceiling: 1 id (0)"),
    ],
)
def test_a_row_that_says_otherwise_is_refused_with_counts(tmp_path, source, claim, said):
    rows = [{"id": str(place), **row} for place, row in enumerate(SAID)]
    joined(tmp_path, source, [{**rows[0], **OWN_WORD}, *rows[1:]])  # what agrees is no claim
    with pytest.raises(UserError) as error:
        joined(tmp_path, source, [{**rows[0], **OWN_WORD, **claim}, *rows[1:]])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_by_the_rules_types_the_files_own_ones_are_not_compared(tmp_path, source):
    rows = [{"id": str(place), **row, "qtype": "mine"} for place, row in enumerate(SAID)]
    assert [row["qtype"] for row in joined(tmp_path, source, rows, by_rules=True)] == ["yes_no", "color", "mcq", "open_ended"]


@pytest.mark.parametrize(
    "extra", [{"conventions": {"is it": {}}}, {"cluster": "mine", "correct": True, "lenient": True, "candidates": ["x"]}]
)
def test_other_fields_of_a_row_are_not_believed(tmp_path, source, extra):
    plain = [{"id": str(place), **row} for place, row in enumerate(SAID)]
    assert joined(tmp_path, source, [{**row, **extra} for row in plain]) == joined(tmp_path, source, plain)


def test_rows_of_llama_factory_are_read_in_the_datas_order(tmp_path, source):
    rows = [
        {"prompt": f"<|im_start|>user\n{row['question']}<|im_end|>", "predict": said["pred"], "label": row["answer"] + "<|im_end|>\n"}
        for row, said in zip(DATA, SAID)
    ]
    assert [(row["id"], row["pred"], row["gt"]) for row in joined(tmp_path, source, rows)] == [
        ("0", "yes", "Yes"),
        ("1", "pink", "pink; red"),
        ("2", "snare", "snare"),
        ("3", "driver", "a needle driver"),
    ]
    with pytest.raises(UserError, match=r"another answer: 4 ids \(0, 1, 2, 3\); another question: 4 ids"):
        joined(tmp_path, source, rows[::-1])
    with pytest.raises(UserError, match=r"3 rows have no id, and .*data.jsonl has 4 rows"):
        joined(tmp_path, source, rows[:3])


def test_rows_of_ms_swift_are_read_by_order_or_id(tmp_path, source):
    messages = lambda row: [{"role": "user", "content": f"<image>{row['question']}"}, {"role": "assistant", "content": "no"}]
    rows = [{"response": said["pred"], "labels": row["answer"], "messages": messages(row)} for row, said in zip(DATA, SAID)]
    by_order = joined(tmp_path, source, rows)
    assert [row["pred"] for row in by_order] == ["yes", "pink", "snare", "driver"]
    assert joined(tmp_path, source, [{**row, "id": place} for place, row in enumerate(rows)][::-1])[::-1] == by_order
    with pytest.raises(UserError, match="another question: 2 ids"):
        joined(
            tmp_path, source, [*rows[:2], {**rows[2], **{"messages": rows[3]["messages"]}}, {**rows[3], "messages": rows[2]["messages"]}]
        )
    with pytest.raises(UserError, match="1 of 4 rows have no id, first row 2"):
        joined(tmp_path, source, [{**row, **({} if place == 2 else {"id": place})} for place, row in enumerate(rows)])


def test_an_enriched_file_and_its_source_say_the_same(tmp_path, source):
    space = mine_space(source, load_config(None, ["data.answer_space=mined"]).data, say=lambda line: None)
    enriched = [answer_space.apply(space, {"id": str(place), **row}) for place, row in enumerate(DATA)]
    write_jsonl(tmp_path / "enriched.jsonl", enriched)
    assert read_truths(tmp_path / "enriched.jsonl", space) == read_truths(source, space)


def test_types_go_by_training_rows_else_by_an_adapter_else_by_the_rules(tmp_path, source):
    config = tmp_path / "config.yaml"
    config.write_text("output_dir: out\n")
    facts = {"spellings": {"is there a polyp": {"no": "yes"}}, "conventions": {"is there a polyp": {"spellings": {"no": "yes"}}}}
    assert space_for(load_config(config, []), [facts]) == ({**RULES_ALONE, "languages": ["en"]}, "the rules of data/schema.py")
    for name, place in (("other", tmp_path / "other" / "adapter"), ("own", tmp_path / "out" / "adapter")):
        place.mkdir(parents=True)
        answer_space.save({**RULES_ALONE, "rows": len(name)}, place / "answer_space.json")
        space, said = space_for(load_config(config, []), [{**facts, "adapter": str(tmp_path / "other" / "adapter")}])
        assert space["rows"] == len(name) and said.startswith("the answer space of ")
    config.write_text("output_dir: out\ndata: {train_jsonl: data.jsonl}\n")
    space, said = space_for(load_config(config, []), [facts])
    assert space["rows"] == 4 and said.startswith("the training rows ")


@pytest.mark.parametrize(
    "places, limit, fits",
    [
        ([0, 1, 2, 3], None, True),
        ([0, 1], 2, True),
        ([1, 0], 5, True),
        ([0, 1], None, False),
        ([0, 2], 2, False),  # those that were right, say
        ([0, 1, 2], 2, False),
    ],
)
def test_only_the_first_rows_may_be_a_part(tmp_path, source, places, limit, fits):
    rows = loaded(tmp_path, [{"id": place, **SAID[place]} for place in places])
    if fits:
        assert with_data(rows, tmp_path / "p.jsonl", source, RULES_ALONE, limit)[1] == 4
    else:
        with pytest.raises(UserError, match="missing: "):
            with_data(rows, tmp_path / "p.jsonl", source, RULES_ALONE, limit)


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "Is there a polypoid fold?", "response": "yes"}, "question"),  # holds the question as a part of a word
        ({"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Is there a polyp?"}]}, "question"),
        ({"images": [{"path": "/data/b.png"}]}, "image"),
        ({"images": ["c/a.png/b.png"]}, "image"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 'It\'s "this":\nIs there a polyp?'}]}]}, None),
        ({"images": [{"path": "/data/a.png"}]}, None),
    ],
)
def test_what_other_tools_files_show_is_compared(tmp_path, source, row, said):
    rows = [{"id": 0, "response": "yes", "labels": None, **row}, *({"id": place, **SAID[place]} for place in (1, 2, 3))]
    if said:
        with pytest.raises(UserError, match=rf"another {said}: 1 id \(0\)"):
            joined(tmp_path, source, rows)
    else:
        joined(tmp_path, source, rows)


@pytest.mark.parametrize(
    "space",
    [
        {"mode": "mined"},
        {"mode": "mined", "questions": [], "given": {}},
        {"mode": "mined", "questions": {"is there a polyp": 5}, "given": {}},
        {"mode": "mined", "questions": {"q": {"type": "mcq", "candidates": None, "multi_label": False, "spellings": []}}, "given": {}},
        {"mode": "rules"},
        [],
    ],
)
def test_a_broken_answer_space_is_one_line(tmp_path, space):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "answer_space.json").write_text(json.dumps(space))
    config = tmp_path / "config.yaml"
    config.write_text("output_dir: out\n")
    with pytest.raises(UserError, match="answer_space.json: not an answer space"):
        space_for(load_config(config, []), [{"adapter": str(tmp_path / "adapter")}])


def test_a_space_makes_no_words_the_same_that_the_table_does_not():
    entry = {
        "type": "yes_no",
        "candidates": None,
        "multi_label": False,
        "spellings": {"zzz": "yes", ">20": ">20mm"},
        "separators": ["a", ","],
    }
    space = {**RULES_ALONE, "questions": {"q": entry}}
    assert answer_space.conventions(space) == {"q": {"spellings": {">20": ">20mm"}, "separators": [","]}}


# ---------------------------------------------------------------------------------------------------------------------
# Without one


def test_an_id_defaults_to_the_rows_number_and_a_type_to_that_of_its_question(tmp_path):
    rows = loaded(tmp_path, [{"pred": "yes", "gt": "no", "question": "Is there a polyp?"}, {"pred": "2", "gt": "2", "qtype": "mine"}])
    done = completed(rows, tmp_path / "predictions.jsonl", RULES_ALONE)
    assert [(row["id"], row["qtype"]) for row in done] == [("0", "yes_no"), ("1", "mine")]


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "Is it?", "predict": "yes", "label": "no"}, "row 0 has no qtype, and no question"),
        (
            {"response": "yes"},
            "row 0 has no gt; add the true answer as text, or give the data file that it answers with --against DATA.jsonl",
        ),
        ({"id": "7", "pred": "yes", "gt": "no"}, "row '7' has no qtype"),
        ({"id": "7", "pred": "yes", "gt": None, "qtype": "yes_no"}, "row '7' has no gt"),
    ],
)
def test_a_row_that_says_too_little_is_refused_with_the_way_in(tmp_path, row, said):
    with pytest.raises(UserError) as error:
        completed(loaded(tmp_path, [row]), tmp_path / "predictions.jsonl", RULES_ALONE)
    assert said in str(error.value) and "--against DATA.jsonl" in str(error.value)


def test_a_row_without_an_answer_of_any_name_is_named(tmp_path):
    with pytest.raises(UserError, match=r"predictions.jsonl:2: has no pred; .*LLaMA-Factory.*ms-swift"):
        loaded(tmp_path, [{"pred": None, "id": 0}, {"output": "yes", "id": 1}])


# ---------------------------------------------------------------------------------------------------------------------
# Clusters, junk


def test_all_questions_about_an_image_are_of_one_patient():
    row = {"qtype": "yes_no"}
    rows = [
        {**row, "id": "0", "image": "a", "group": "p"},
        {**row, "id": "1", "image": "a"},
        {**row, "id": "2", "image": "b"},
        {**row, "id": "3"},
    ]
    clustered = with_clusters(rows, "file")
    assert [row["cluster"] for row in clustered] == ["group p", "group p", "image b", "id 3"]
    assert unit_of(clustered) == "groups and images and rows" and unit_of(clustered[:2]) == "groups" and unit_of(clustered[3:]) == "rows"
    assert with_clusters([{**row, "id": "5", "image": "c", "group": " "}], "file")[0]["cluster"] == "image c", "an empty cell"
    with pytest.raises(UserError, match="file: image a has two groups, 'p' and 'q'"):
        with_clusters([*rows, {**row, "id": "4", "image": "a", "group": "q"}], "file")


def test_a_patient_spelt_twice_is_one_cluster_and_no_contradiction(tmp_path):
    """As everywhere else: `data.text.group_key`."""
    row = {"qtype": "yes_no", "image": "a"}
    spellings = ("P1", "p1 ", "P1\u200b", "Ｐ1")
    clustered = with_clusters([{**row, "id": str(n), "group": group} for n, group in enumerate(spellings)], "file")
    assert {row["cluster"] for row in clustered} == {"group p1"}
    data = [{"id": "0", "question": "Is there text?", "answer": "yes", "image": "a.png", "group": "P1"}]
    write_jsonl(tmp_path / "val.jsonl", data)
    predicted = [{"id": "0", "pred": "no", "group": "p1 "}]
    assert with_data(predicted, "p.jsonl", tmp_path / "val.jsonl", RULES_ALONE)[0][0]["group"] == "P1"
    with pytest.raises(UserError, match="another group: 1 id"):
        with_data([{**predicted[0], "group": "P2"}], "p.jsonl", tmp_path / "val.jsonl", RULES_ALONE)


def test_questions_about_clips_that_share_an_image_are_one_cluster():
    lists = (["b", "a"], ["c"], ["c", "d", "b"], ["e"], ["f", "g"])
    rows = [{"qtype": "yes_no", "id": str(n), "image": names[0], "images": names} for n, names in enumerate(lists)]
    clustered = with_clusters([dict(row) for row in rows], "file")
    assert [row["cluster"] for row in clustered] == [*["image a"] * 3, "image e", "image f"] and unit_of(clustered) == "images"
    rows[1]["group"] = "p"
    assert [row["cluster"] for row in with_clusters([dict(row) for row in rows], "file")] == [*["group p"] * 3, "image e", "image f"]
    with pytest.raises(UserError, match="file: image b has two groups, 'p' and 'q'"):
        with_clusters([*rows[1:], {**rows[0], "group": "q"}], "file")


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ({}, True),
        ({"image": "a.png"}, True),
        ({"image": "a.png", "images": ["a.png", "./b.png"]}, True),
        ({"images": ["a.png", "b.png"]}, True),
        ({"image": "b.png"}, False),
        ({"image": "a.png", "images": ["a.png"]}, False),
        ({"image": "a.png", "images": ["a.png", "b.png", "c.png"]}, False),
        ({"images": ["b.png", "a.png"]}, False),
    ],
)
def test_a_prediction_is_about_the_images_of_its_row(tmp_path, said, fits):
    source = tmp_path / "clips.jsonl"
    write_jsonl(source, [{"question": "Is there a polyp?", "answer": "yes", "images": ["a.png", "b.png"]}])
    if fits:
        (row,) = joined(tmp_path, source, [{"id": "0", "pred": "yes", "gt": "yes", **said}])
        assert (row["image"], row["images"]) == ("a.png", ["a.png", "b.png"])
        (row,) = completed(loaded(tmp_path, [{"pred": "yes", "gt": "yes", "qtype": "yes_no", "images": ["./a.png", "b.png"]}]), "p", {})
        assert (row["image"], row["images"]) == ("a.png", ["a.png", "b.png"])
    else:
        with pytest.raises(UserError, match=r"another image: 1 id \(0\)"):
            joined(tmp_path, source, [{"id": "0", "pred": "yes", "gt": "yes", **said}])


def test_truths_that_stand_for_a_missing_value_are_left_out_and_counted():
    kept, junk = without_junk([{"gt": "nan"}, {"gt": "yes"}, {"gt": "NaN."}, {"gt": "none"}])
    assert ([row["gt"] for row in kept], junk) == (["yes", "none"], 2)


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


def test_the_ids_asked_for(tmp_path):
    rows = [{"id": "0"}, {"id": "1"}]
    assert check_asked(tmp_path / "p.jsonl", rows, {}) is None
    assert check_asked(tmp_path / "p.jsonl", rows, {"ids": [0, "1"]}) is None
    assert check_asked(tmp_path / "p.jsonl", rows, {"ids": [0, "1"], "rows_in_split": 9}) == [2, 9]
    with pytest.raises(UserError, match=r"misses 1 id \(7\) and has unasked-for 1 id \(1\)"):
        check_asked(tmp_path / "p.jsonl", rows, {"ids": ["0", "7"]})
