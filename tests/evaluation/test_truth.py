"""What predictions are about: the data file knows, and a predictions file that says otherwise is refused with counts.

python -m pytest tests/evaluation/test_truth.py -v
"""

import json
import sys

import pytest
from data_sets import rows_of
from evaluating import PREDICTIONS, TABLE, VAL, accuracy, changed, loaded, metrics_of, write_data, write_sidecar

from config import DataConfig, load_config, near
from data import answer_space
from data.preprocess import mine_space
from evaluation.truth import (
    RULES_ALONE,
    check_same_rows,
    completed,
    read_truths,
    space_for,
    unit_of,
    with_clusters,
    with_data,
    without_junk,
)
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


def test_rows_without_an_answer_in_the_data_have_no_score(tmp_path):
    """Such as a test split whose answers are kept by others: what a predictions file says of them is not believed instead."""
    write_jsonl(tmp_path / "data.jsonl", [*DATA[:2], {key: value for key, value in DATA[3].items() if key not in ("answer", "answers")}])
    rows = [{"id": str(place), "pred": "yes"} for place in range(3)]
    with pytest.raises(UserError, match=r"does not fit .*data.jsonl: no answer in the data: 1 id \(2\); "):
        joined(tmp_path, tmp_path / "data.jsonl", [*rows[:2], {**rows[2], "gt": "a needle driver"}])


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


def test_runs_about_other_rows_are_told_what_differs():
    row = {"gt": "a; b", "question": "Which?", "image": "a.png", "qtype": "mcq", "cluster": "image a.png", "options": ["a; b", "c"]}
    rows = [{**row, "id": str(n)} for n in range(3)]
    run = lambda rows, name="q": {"judged": rows, "conventions": None, "path": name}
    check_same_rows([run(rows), run([{**rows[0], "options": ["a; b", "c"], "pred": "c"}, *rows[:0:-1]])])

    def said(*rows_of_other, **options):
        with pytest.raises(UserError) as error:
            check_same_rows([run(rows, "p"), run(rows), run(rows_of_other)], **options)
        return str(error.value).removeprefix("q is not about the rows of p: ")

    same = "; predict the same rows with both"
    assert said(*rows[:2], {**rows[2], "id": "9"}) == "missing: 1 id (2); extra: 1 id (9)" + same
    other = {"gt": "c", "qtype": "color", "question": "What?", "cluster": "image b", "options": ["c"], "answers": ["c"]}
    assert said(*rows[:2], {**rows[2], **other}) == (
        "another ground truth: 1 id (2); another type: 1 id (2); another question or image: 1 id (2); another group: 1 id (2); "
        f"other options: 1 id (2); other answers: 1 id (2){same}, or pair two wordings of the questions with --pair wording"
    )
    worded = [{**row, "question": "What?", "qtype": "color"} for row in rows]
    check_same_rows([run(rows), run(worded)], any_wording=True)
    assert said(*worded[:2], {**worded[2], "image": "b"}, any_wording=True) == "another image: 1 id (2)" + same
    assert said(*rows[:2], {**rows[2], "images": ["b"]}, any_wording=True) == "another image: 1 id (2)" + same
    assert said(*rows[:2], {**rows[2], "image": "b"}) == "another question or image: 1 id (2)" + same


def test_what_does_not_fit_is_told_with_what_to_do_and_what_is_said_is_kept(tmp_path, source):
    said = {"greedy": "no", "confidence": 0.5, "candidates_top": [["yes", 0.5]], "abstained": True, "pred_box": [0, 0, 1, 1]}
    said |= {"answer_set": ["yes"], "answer_set_filled": True, "confidence_calibrated": 0.25}
    rows = [{"id": str(place), **row} for place, row in enumerate(SAID)]
    assert joined(tmp_path, source, [{**rows[0], **said}, *rows[1:]])[0].items() >= said.items()

    def refused(*rows):
        with pytest.raises(UserError) as error:
            joined(tmp_path, source, rows)
        return str(error.value).removeprefix(f"{tmp_path / 'predictions.jsonl'} does not fit {source}: ")

    types = "its types are not those of the training rows; predict again, or leave qtype and reachable out of the file"
    assert (
        refused({**rows[0], "qtype": "mcq", "reachable": False}, *rows[1:]) == f"another type: 1 id (0); another ceiling: 1 id (0); {types}"
    )
    again = "predict this split again, or give its own data file with --against"
    assert refused({**rows[0], "qtype": "mcq", "gt": "no"}, *rows[1:]) == f"another answer: 1 id (0); another type: 1 id (0); {again}"
    assert refused(*rows[:3]) == f"missing: 1 id (3); {again}"


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
    source.unlink()
    space, said = space_for(load_config(config, []), [facts])
    assert (
        space["rows"] == 3
        and said == f"the answer space of {near(tmp_path / 'out' / 'adapter')} (data.train_jsonl {near(source)} is not there)"
    )
    (tmp_path / "out").rename(tmp_path / "far")
    config.write_text("output_dir: out\n")
    for paths, rows in (([], 0), ([tmp_path / "far" / "p.jsonl"], 3)):
        assert space_for(load_config(config, []), [{}, {"adapter": "adapter"}], paths)[0]["rows"] == rows, "beside the predictions"


def test_rows_that_training_leaves_out_are_no_truths_of_training(tmp_path):
    """An answer that the row's own options lack."""
    rows = [{**DATA[2], "answer": answer, "image": f"{answer}.png"} for answer in ("A", "C", "snare")]
    write_jsonl(tmp_path / "data.jsonl", rows)
    space = answer_space.mine([{**row, "id": str(place)} for place, row in enumerate(rows)])
    found = {training: read_truths(tmp_path / "data.jsonl", space, training) for training in (True, False)}
    assert (list(found[True]), list(found[False])) == (["0", "2"], ["0", "1", "2"])


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
# Through eval_exp1.py


@pytest.mark.parametrize("key", ["id", "qtype"])
def test_what_a_row_lacks_is_told_by_the_rest_of_it(evaluate, folder, key):
    """An id is the row's number, a type that of its question."""
    evaluate()  # which enriches, and says so
    _, expected, _ = evaluate()
    write_jsonl(folder / "out" / "predictions.jsonl", [{name: value for name, value in row.items() if name != key} for row in PREDICTIONS])
    assert evaluate() == (0, expected, "")


@pytest.mark.parametrize(
    "rows, said",
    [
        (VAL[:3], "unknown: 1 id (3);"),
        ([*VAL, {**VAL[0], "id": "17"}, {**VAL[0], "id": "18"}], "missing: 2 ids (17, 18);"),
        (changed(VAL, 1, answer="no"), "another answer: 1 id (1);"),
        (changed(VAL, 2, question="How many snares?"), "another question: 1 id (2);"),
        (changed(VAL, 2, image="z.png"), "another image: 1 id (2);"),
        ([{**row, "answer": "purple"} for row in VAL], "another answer: 4 ids (0, 1, 2, 3);"),
        ([{**row, "id": f"t{row['id']}"} for row in VAL], "unknown: 4 ids (0, 1, 2, 3); missing: 4 ids (t0, t1, t2, t3);"),
    ],
)
def test_predictions_that_do_not_fit_the_data_file_are_refused(folder, evaluate, rows, said):
    data = write_data(folder, rows)
    for arguments in (("--against", data), (f"data.val_jsonl={data}",)):
        code, out, err = evaluate(*arguments)
        assert (code, out) == (1, "") and said in err and f"does not fit {data}" in err and len(err.splitlines()) == 1


def test_the_data_files_own_forms_of_an_answer_are_the_same(folder, evaluate):
    """Case, label order, spellings and an option's letter differ between data and predictions, and mean the same."""
    rows = [
        {"id": "0", "pred": "a", "gt": "red; pink", "qtype": "color", "question": "What  color?", "image": "./a.png"},
        {"id": "1", "pred": "a", "gt": "lower-right", "qtype": "mcq", "question": "Where?", "image": "a.png"},
        {"id": "2", "pred": "a", "gt": "snare", "qtype": "mcq", "question": "Which?", "image": "a.png", "options": ["Forceps", "Snare"]},
        {"id": "3", "pred": "a", "gt": "Pink;red", "qtype": "color", "question": "What color?", "image": "a.png"},
    ]
    data = [
        {"question": "What color?", "answer": "Pink;Red", "image": "a.png"},
        {"question": "Where?", "answer": "lower-rigth", "image": "a.png"},
        {"question": "Which?", "answer": "B", "image": "a.png", "options": ["Forceps", "Snare"]},
        {"question": "What color?", "answer": "pink; red", "answer_raw": "Pink;red", "image": "a.png"},
    ]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    types = ["color", "mcq", "mcq", "color"]  # the second one's question alone doesn't tell
    rows = [{**row, "qtype": "open_ended" if name == "mcq" and "options" not in row else name} for row, name in zip(rows, types)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, _, err = evaluate("--against", write_data(folder, data))
    assert code == 0, err


def test_a_declared_limit_may_lack_rows_and_an_undeclared_one_may_not(folder, evaluate):
    data = write_data(folder)
    write_jsonl(folder / "out" / "predictions.jsonl", PREDICTIONS[:2])
    assert "missing: 2 ids (2, 3);" in evaluate("--against", data)[2]
    write_sidecar(folder, ids=["0", "1"], limit=2)
    code, out, _ = evaluate("--against", data)
    assert code == 0 and "partial: 2 of 4 rows\n" in out


def test_groups_come_from_the_data_file(folder, evaluate):
    """Two images of one patient are one cluster."""
    evaluate("--against", write_data(folder, [{**row, "group": "p1" if row["image"] in ("d.png", "e.png") else "p2"} for row in VAL]))
    assert metrics_of(folder)["details"]["overall"]["clusters"] == 2
    evaluate()
    assert metrics_of(folder)["details"]["overall"]["clusters"] == 3


def test_spellings_of_a_sidecar_change_nothing(folder, evaluate):
    write_sidecar(folder)
    evaluate("--against", write_data(folder))
    _, expected, _ = evaluate("--against", folder / "val.jsonl")
    spellings = {"is there a polyp": {"no": "yes"}, "how many polyps": {"1": "2"}}
    for facts in ({"spellings": spellings}, {"conventions": {key: {"spellings": value} for key, value in spellings.items()}}):
        write_sidecar(folder, **facts)
        assert evaluate("--against", folder / "val.jsonl")[1] == expected
        assert accuracy(evaluate("--predictions", "out/predictions.jsonl")[1]) == "75.00%", "nor without a data file"


def test_references_and_groups_come_from_the_data_alone(folder, evaluate):
    for claim, said in (({"answers": ["no", "yes"]}, "another answers: 4 ids"), ({"group": "g"}, "another group: 4 ids")):
        write_jsonl(folder / "out" / "predictions.jsonl", [{**row, **claim} for row in PREDICTIONS])
        code, out, err = evaluate("--against", write_data(folder))
        assert (code, out) == (1, "") and said in err


def test_junk_truths_are_left_out_and_counted(folder, evaluate):
    junk = {"id": "9", "pred": "nan", "gt": "nan", "qtype": "mcq", "question": "Where is it?", "image": "d.png"}
    write_jsonl(folder / "out" / "predictions.jsonl", [*PREDICTIONS, junk])
    _, out, _ = evaluate()
    assert out.startswith(TABLE) and "left out: 1 row whose question or true answer stands for a missing value" in out
    assert metrics_of(folder)["junk"] == 1


def test_references_that_are_junk_are_none(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": "nan", "answers": [row["gt"], "nan"]} for row in PREDICTIONS])
    assert accuracy(evaluate()[1]) == "0.00%"


# ---------------------------------------------------------------------------------------------------------------------
# Types and conventions


def printed(folder, monkeypatch, capsys, *args):
    """What eval_exp1.py prints."""
    import eval_exp1

    monkeypatch.setattr(sys, "argv", ["eval_exp1.py", "--config", str(folder / "c.yaml"), "--report", "none", *args])
    eval_exp1.main()
    return capsys.readouterr().out


@pytest.fixture
def predictions(tmp_path):
    """Predictions with mined types of questions that the rules type otherwise."""
    questions = [("Have all polyps been removed?", "yes_no", "no", "no"), ("Is it a color?", "mcq", "x", "x")]
    questions += [
        ("What size?", "size_numeric", ">20mm", ">20"),
        ("Where?", "mcq", "lower-right; center", "center;lower-rigth"),
    ]
    rows = [{"id": str(i), "pred": p, "gt": g, "qtype": t, "question": q, "image": "a"} for i, (q, t, p, g) in enumerate(questions)]
    rows.append({"id": "9", "pred": "a", "gt": "a", "qtype": "mcq", "question": "Is it a?", "image": "a", "options": ["a", "b"]})
    write_jsonl(tmp_path / "outputs" / "predictions.jsonl", rows)
    train = rows_of("What size?", {">20mm": 30, "none": 9}) + rows_of("Have all polyps been removed?", {"no": 20, "yes": 20})
    write_jsonl(tmp_path / "train.jsonl", [{**row, "id": str(i)} for i, row in enumerate(train)])
    (tmp_path / "c.yaml").write_text("data: {train_jsonl: train.jsonl}\n")
    return tmp_path


def counts_in(out):
    lines = out.split("-" * 80)[1].splitlines()
    return {line.split()[0]: tuple(map(int, line.split()[1:3])) for line in lines if line}


def test_types_rules_groups_by_the_literal_rules(predictions, monkeypatch, capsys):
    out = printed(predictions, monkeypatch, capsys)
    assert out.startswith("=" * 80) and counts_in(out) == {"yes_no": (1, 1), "size_numeric": (1, 1), "mcq": (3, 3)}
    out = printed(predictions, monkeypatch, capsys, "--types", "rules")
    assert counts_in(out) == {"yes_no": (1, 1), "size_numeric": (1, 1), "mcq": (1, 1), "open_ended": (2, 2)}
    assert "Gain" in out
    assert sorted(path.name for path in (predictions / "outputs").glob("metrics*")) == [
        "metrics.json",
        "metrics_rules.json",
    ]


def test_types_rules_gives_the_blind_prior_the_same_types(predictions, monkeypatch, capsys):
    """A question that training never asked gets the commonest answer of its type by the rules, here that of `Have all …`."""
    questions = (("Have all polyps been removed?", "yes_no"), ("Where?", "mcq"))
    rows = [{"id": str(n), "pred": "x", "gt": "no", "qtype": t, "question": q, "image": "a"} for n, (q, t) in enumerate(questions)]
    write_jsonl(predictions / "outputs" / "predictions.jsonl", rows)
    printed(predictions, monkeypatch, capsys, "--types", "rules")
    prior = json.loads((predictions / "outputs" / "metrics_rules.json").read_text())["blind_prior"]
    assert prior["per_type"] == {"open_ended": {"count": 2, "correct": 2, "accuracy": 1.0}}


def test_types_rules_needs_the_questions(predictions, monkeypatch, capsys):
    write_jsonl(predictions / "outputs" / "predictions.jsonl", [{"id": "0", "pred": "a", "gt": "a", "qtype": "mcq"}])
    with pytest.raises(UserError, match="no question to infer its type from"):
        printed(predictions, monkeypatch, capsys, "--types", "rules")


def test_conventions_come_from_the_training_rows_and_never_from_the_sidecar(predictions, monkeypatch, capsys):
    told = {"what size": {">20": ">20mm"}}
    claims = {"ids": ["0", "1", "2", "3", "9"], "spellings": told, "conventions": {"what size": {"spellings": told["what size"]}}}
    for sidecar in ({"ids": claims["ids"], "spellings": {}}, claims):
        (predictions / "outputs" / "predictions.meta.json").write_text(json.dumps(sidecar))
        assert counts_in(printed(predictions, monkeypatch, capsys))["size_numeric"] == (1, 1)
    (predictions / "c.yaml").write_text("{}")
    found = counts_in(printed(predictions, monkeypatch, capsys))
    assert (found["size_numeric"], found["mcq"]) == ((1, 0), (3, 3)), "without training rows a size's unit isn't guessed"
