"""The rules: types and candidates from the question, and what training answers may say against them.

python -m pytest tests/data/test_rules.py -v
"""

from collections import Counter, defaultdict

import pytest
from data_sets import ABNORMALITIES, RULES, ask, enrich, enriched, patients, read, row, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from config import DataConfig
from data import schema
from data.aliases import question_template
from data.answer_space import mine
from data.language import ENGLISH
from data.matching import normalize_answer
from data.preprocess import enrich_jsonl
from data.rules import (
    Reading,
    as_the_rules_say,
    classify,
    enrich_row,
    free_types,
    given_candidates,
    has_rule,
    is_choice,
    may_name_one_thing,
    mine_verdict,
    offers_others,
    ordered_types,
    read_question,
    rule_candidates,
    rule_type,
)


@pytest.mark.parametrize(
    "question",
    [
        "Is it there (yes/no)?", "Is it there or not?", "Is it there, yes or no?", "Is it there: yes, no?", "Is it 1/2?",
        "Is there bleeding and/or pus?",
    ],
)  # fmt: skip
def test_a_yes_no_question_may_say_so(question):
    assert rule_type({"question": question}) == "yes_no"


@pytest.mark.parametrize(
    ("question", "question_type"),
    [
        ("What did they encounter?", "open_ended"), ("What counts as abnormal?", "count_numeric"), ("Count the polyps.", "count_numeric"),
        ("Which country?", "open_ended"), ("Which colorectal finding?", "open_ended"), ("What coloured fluid?", "color"),
        ("Which wavelength?", "open_ended"), ("What oversized organ?", "open_ended"), ("What is the number of polyps?", "count_numeric"),
        ("How large is it?", "size_numeric"), ("How many?", "count_numeric"), ("[Stage-1] What size?", "size_numeric"),
    ],
)  # fmt: skip
def test_types_are_read_by_whole_words(question, question_type):
    assert rule_type({"question": question}) == question_type == read_question(question).type


def test_types_are_listed_in_table_order():
    types = Counter({"zebra": 1, "mcq": 1, "yes_no": 2, "apple": 1, "open_ended": 1})
    assert ordered_types(types) == ["yes_no", "mcq", "open_ended", "apple", "zebra"]


def test_a_letter_beyond_the_options_drops_the_constraint_by_the_rules(tmp_path):
    rows = [row("Which organ?", "d", image, options=["stomach", "colon"]) for image in ("a.jpg", "b.jpg")]
    found, counts = enrich(tmp_path, rows, settings=RULES)
    assert (found[0]["answer"], found[0]["answer_candidates"], counts["dropped"]) == ("d", None, 2)


def test_a_training_answer_outside_the_candidates_drops_the_constraint_everywhere(tmp_path):
    train = [
        row(),
        row(ABNORMALITIES, "no"),
        row(ABNORMALITIES.upper() + "  ", "Polyp", "b.jpg"),
        *[row("Is it easy?", "not relevant", image) for image in ("a.jpg", "b.jpg")],
    ]
    val = [row(answer="no"), row(ABNORMALITIES, "no"), row(ABNORMALITIES.lower(), "yes"), row("Is it easy?", "yes"), row("Is it easy?")]
    for rows, dropped in ((train, 4), (val, 4)):
        mined_types = ["yes_no", "open_ended", "open_ended", "yes_no", "yes_no"]
        for mode, types in ((RULES, ["yes_no"] * 5), (DataConfig(), mined_types)):
            found, counts = enrich(tmp_path, rows, train, mode)
            assert [item["question_type"] for item in found] == types
            assert [item["answer_candidates"] for item in found] == [["yes", "no"], None, None, None, None]
            assert (counts["dropped"], sum(counts["questions_dropped"].values())) == (dropped, dropped)


def test_a_question_not_seen_in_training_keeps_its_rule(tmp_path):
    rows = [row("Is there blood?", "maybe"), row(ABNORMALITIES, "x; y")]
    found, counts = enrich(tmp_path, rows, train=[row()])
    assert [item["answer_candidates"] for item in found] == [["yes", "no"], None], "its wording asks for a list"
    assert (counts["dropped"], [item["question_type"] for item in found]) == (1, ["yes_no"] * 2)
    found, counts = enrich(tmp_path, rows, [row()], RULES)
    assert [item["answer_candidates"] for item in found] == [["yes", "no"]] * 2
    assert not any(item["multi_label"] for item in found)
    assert counts["dropped"] == 0


QUESTIONS = ["Is there a polyp?", ABNORMALITIES, "What color is it?", "How many polyps?", "Where is it?"]
ANSWERS = ["yes", "no", "not relevant", "Pink", "pink; red", "3", "polyp; ulcer", "none", "yellow."]
labelled = st.lists(st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(ANSWERS)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(train=labelled, val=labelled, other=st.lists(st.none() | st.sampled_from(ANSWERS), min_size=12, max_size=12))
def test_validation_answers_never_change_a_constraint(tmp_path_factory, train, val, other):
    folder = tmp_path_factory.mktemp("val")
    train_rows = [row(*pair) for pair in train]
    val_rows = [row(*pair) for pair in val]
    changed_rows = [row(question, answer) for (question, _), answer in zip(val, other)]
    keys = ("id", "question_type", "answer_candidates", "multi_label")
    for mode in (RULES, DataConfig()):
        before, after = (
            [{key: item[key] for key in keys} for item in enrich(folder, rows, train_rows, mode)[0]] for rows in (val_rows, changed_rows)
        )
        assert before == after


@given(labelled)
def test_no_constraint_forbids_a_training_answer(pairs):
    rows = [row(*pair, id=str(number)) for number, pair in enumerate(pairs)]
    verdict = mine_verdict(rows, min_groups=1)
    for item in rows:
        enriched = enrich_row(item, verdict)
        candidates = enriched["answer_candidates"]
        assert candidates is None or enriched["answer"] in candidates
        rule = {"yes_no": ["yes", "no"], "color": schema.COLOR_VOCAB}.get(enriched["question_type"])
        same = [normalize_answer(other["answer"]) for other in rows if other["question"] == item["question"]]
        assert candidates == (rule if rule and set(same) <= set(rule) else None)


def test_real_rows_are_typed_and_constrained_as_their_answers_allow(shared, tmp_path):
    source = shared / "real-data" / "kvasir_vqa" / "val.jsonl"
    counts = enrich_jsonl(source, tmp_path / "enriched.jsonl", settings=RULES)
    expected = {"yes_no": 3012, "color": 475, "count_numeric": 1512, "size_numeric": 476, "open_ended": 3302}
    assert (counts["rows"], counts["types"]) == (8777, expected)
    assert {reason: len(ids) for reason, ids in counts["left_out"].items()} == {"without a question": 9}
    answers, rows = defaultdict(set), read(tmp_path / "enriched.jsonl")
    for item in read(source):
        answers[item["question"]].add(item["answer"].strip().lower())
    for item in rows:
        allowed = {"yes_no": {"yes", "no"}, "color": set(schema.COLOR_VOCAB)}.get(item["question_type"])
        possible = bool(allowed) and answers[item["question"]] <= allowed
        assert bool(item["answer_candidates"]) == possible
        assert item["multi_label"] == any(";" in answer for answer in answers[item["question"]])
    constrained = {item["question"] for item in rows if item["answer_candidates"]}
    assert constrained == {"Is there text?", "Is there a green/black box artefact?"}
    dropped = sum(item["question_type"] in ("yes_no", "color") and not item["answer_candidates"] for item in rows)
    assert counts["dropped"] == dropped > 0


def test_few_rows_constrain_only_by_a_rule_that_they_bear_out():
    assert enriched("Is it there?", ["yes"])["answer_candidates"] == ["yes", "no"]
    assert enriched("Is it there?", ["yes", "not relevant"])["answer_candidates"] is None
    assert enriched("Are any there? Check all that are present.", ["no"])["answer_candidates"] is None
    assert enriched("What color is it?", ["red", "red"])["answer_candidates"] is None  # 11 colours of the rule were never seen
    assert enriched("Is it there?", ["polyp", "polyp"])["question_type"] == "open_ended"


def test_the_rules_hold_for_rare_questions_unless_their_answers_say_otherwise():
    """More than one in twenty of them outside the rule's candidates, and no question of the type is constrained by it."""
    within = [row for n in range(39) for row in rows_of(f"Is it number {n}?", ["yes"])]
    for answers, candidates in ((["maybe"], ["yes", "no"]), (["maybe"] * 3, None)):
        space = mine(within + [row for n, answer in enumerate(answers) for row in rows_of(f"Is number {n} there?", [answer])])
        assert (ask(space, "Is it new?")["answer_candidates"], space["questions"]) == (candidates, {})
        assert space.get("free_types", []) == ([] if candidates else ["yes_no"])
    assert ask(space, "What color is it?")["answer_candidates"] == schema.COLOR_VOCAB, "of this type nothing was asked"


@pytest.mark.parametrize(
    ("question", "candidates"),
    [
        ("Is there blood?", ["yes", "no"]), ("Was it removed, yes or no?", ["yes", "no"]),
        ("Is it there or not?", ["yes", "no"]),
        ("What color is it?", schema.COLOR_VOCAB), ("How many polyps?", None), ("Where is it?", None),
        ("Are there any folds? Check all that are present.", None), ("Are there any? Select all that apply", None),
        ("What color is it? If more than one separate with ;", None), ("Is it flat or raised?", None),
    ],
)  # fmt: skip
def test_a_question_not_seen_in_training_falls_back_to_the_rules_unless_its_wording_contradicts(question, candidates):
    found = ask(mine(rows_of("Is there text?", ["yes"])), question)
    question_type = "open_ended" if question == "Is it flat or raised?" else schema.infer_question_type(question)
    assert (found["question_type"], found["answer_candidates"]) == (question_type, candidates)
    assert not found["multi_label"]


def test_a_prefix_does_not_hide_a_question_from_the_rules():
    found = ask(mine(rows_of("Where?", ["here"])), "[Stage-2] Is there blood?")
    assert (found["question_type"], found["answer_candidates"]) == ("yes_no", ["yes", "no"])


def test_rules_mode_is_the_rules_verdict(tmp_path):
    train = rows_of("Is it easy?", {"yes": 20, "not relevant": 20}) + rows_of("Is there text?", {"yes": 20})
    space = mine(train, DataConfig(answer_space="rules"))
    assert ask(space, "Is it easy?")["answer_candidates"] is None and ask(space, "Is it easy?")["question_type"] == "yes_no"
    assert ask(space, "Is there text?")["answer_candidates"] == ["yes", "no"]
    assert ask(space, "Where?", "lower-rigth")["answer"] == "lower-rigth"


# --- by hand ---

DE = ("de",)


@pytest.mark.parametrize(
    ("question", "languages", "expected"),
    [
        ("[Stage-2] Is there Blood?", ENGLISH, ("is there blood", "yes_no", None)),
        ("Does it bleed?", ENGLISH, ("does it bleed", "open_ended", "does")),
        ("Does it ooze or bleed?", ENGLISH, ("does it ooze or bleed", "open_ended", None)),
        ("Is it left or right?", ENGLISH, ("is it left or right", "open_ended", None)),
        ("Does it differ in colour?", ENGLISH, ("does it differ in color", "color", "does")),
        ("Choose: what did they encounter?", ENGLISH, ("choose what did they encounter", "mcq", None)),
        ("What did they encounter?", ENGLISH, ("what did they encounter", "open_ended", None)),
        ("What did they encounter?", (), ("what did they encounter", "count_numeric", None)),
        ("Is it left or right?", (), ("is it left or right", "yes_no", None)),
        ("# polyps", ENGLISH, ("polyps", "count_numeric", None)),
        ("Wie viele Polypen?", DE, ("wie viele polypen", "count_numeric", None)),
    ],
)  # fmt: skip
def test_a_question_reads_as_template_type_and_form(question, languages, expected):
    assert read_question(question, languages) == expected


@pytest.mark.parametrize(
    ("question_type", "key", "reading", "candidates"),
    [
        ("yes_no", "is it red", {}, ["yes", "no"]), ("color", "what color is it", {}, schema.COLOR_VOCAB), ("mcq", "choose", {}, None),
        ("yes_no", "are there any check all", {}, None), ("yes_no", "is it red", {"free_types": ("yes_no",)}, None),
        ("instrument", "is it red", {}, None),
        ("yes_no", "does it bleed", {"yes_no_forms": {"does": ("ja", "nein")}}, ["ja", "nein"]),
        ("yes_no", "is it red", {"yes_no_forms": {"is": ("ja", "nein")}}, ["yes", "no"]),
        ("color", "what color is it", {"languages": DE}, None), ("color", "does the color fade", {}, None),
        ("color", "does the color fade", {"languages": ()}, schema.COLOR_VOCAB),
    ],
)  # fmt: skip
def test_rules_give_candidates_unless_wording_or_training_rows_speak_against_it(question_type, key, reading, candidates):
    reading = Reading(**reading)
    assert rule_candidates(question_type, key, reading) == candidates
    entry = as_the_rules_say(question_type, key, reading)
    assert (entry["type"], entry["candidates"], entry["multi_label"]) == (question_type, candidates, False)
    assert entry["spellings"] == ({"yes": "ja", "no": "nein"} if candidates == ["ja", "nein"] else {})


def test_a_form_is_a_yes_no_question_where_training_rows_answer_so():
    reading = Reading(yes_no_forms={"does": ("yes", "no")})
    assert [rule_type({"question": "Does it bleed?"}, found) for found in (Reading(), reading)] == ["open_ended", "yes_no"]
    assert rule_type({"question": "Does it ooze or bleed?"}, reading) == "open_ended"
    assert rule_type({"question": "Does it bleed?", "options": ["a", "b"]}, reading) == "mcq"


def test_a_yes_no_question_may_seem_to_name_answers_and_one_of_a_list_asks_for_labels():
    keys = ("is there a green black box", "are there any polyps check all that are present", "where is it")
    assert [may_name_one_thing(key, ()) for key in keys] == [True, False, False]
    questions = ("Is it left/right?", "Are there any? Check all.", "Is it red?")
    assert [offers_others(question, question_template(question), ENGLISH) for question in questions] == [True, True, False]


def test_given_candidates_are_options_without_letters_and_those_of_a_users_type(monkeypatch):
    options = {"question": "Which?", "options": ["A: Forceps", "B: Snare."]}
    assert given_candidates("mcq", options) == ["forceps", "snare"] and given_candidates("yes_no", {"question": "Is it?"}) is None
    assert given_candidates("tool", {"question": "Which?"}) is None
    monkeypatch.setattr(schema, "build_candidates", lambda question_type, row: ["Hook", "hook.", "Clip"])
    assert given_candidates("tool", {"question": "Which?"}) == ["hook", "clip"] and rule_candidates("tool", "which") is None
    assert [is_choice(found) for found in (None, [], ["a"], ["a", "b"])] == [False, False, False, True]
    assert has_rule({"question": "Which?"})
    monkeypatch.undo()
    assert not has_rule({"question": "Which?"}) and has_rule({"question": "Is it?"}) and has_rule(options)


def test_a_type_is_free_where_more_than_one_answer_in_twenty_is_another():
    assert free_types([("yes_no", 30, 1), ("yes_no", 10, 1), ("color", 19, 1), ("mcq", 0, 0), ("a", 1, 1)]) == ["a", "color"]


def test_the_verdict_is_of_questions_that_enough_groups_were_asked():
    rows = patients("Is it flat?", ["yes", "Maybe"]) + patients("Which ones?", ["b; a", "c"]) + patients("Is it red?", ["yes", "no"])
    rows += patients("Is it blue?", ["perhaps"]) + patients("Is it new?", ["nan", "nan"])
    rows += [{**row, "options": ["a; b", "c"]} for row in patients("Which?", ["a; b", "d"])]
    verdict = mine_verdict(rows, min_groups=2)
    assert verdict == {"unconstrained": ["is it flat?", "which?"], "multi_label": ["which ones?"], "free_types": ["yes_no"]}
    found = [enrich_row({**rows[0], "question": question, "answer": answer}, verdict) for question, answer in
             (("Is it flat?", "Yes."), ("WHICH  ones?", "b;a; b"), ("Is it green?", None))]  # fmt: skip
    keys = ("question_type", "answer_candidates", "multi_label", "answer", "answer_raw")
    assert [tuple(row.get(key) for key in keys) for row in found] == [
        ("yes_no", None, False, "yes", "Yes."), ("open_ended", None, True, "a; b", "b;a; b"), ("yes_no", None, False, None, None)
    ]  # fmt: skip
    kept = {"unconstrained": ["is it flat?"], "multi_label": []}
    with_options = {"question": "Is it?", "answer": "B", "options": ["A: yes", "B: no"]}
    assert enrich_row(with_options, {**kept, "free_types": ["mcq"]})["answer_candidates"] == ["yes", "no"], "they are given"
    assert classify(with_options) == ("mcq", ["yes", "no"], "no")
    rows = [{"question": question, "answer": "no"} for question in ("Is it?", "Is it FLAT? ")]
    assert [enrich_row(row, kept)["answer_candidates"] for row in rows] == [["yes", "no"], None]
    unsorted = {"question": "Where is it?", "answer": "b;a"}  # training answered it with no list
    assert (
        enrich_row(unsorted, kept)["answer"] == "b; a"
        and enrich_row(unsorted, {**kept, "multi_label": ["where is it?"]})["answer"] == "a; b"
    )
