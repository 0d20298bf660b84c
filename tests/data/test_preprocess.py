"""Enrichment: what a row gains, which rows teach nothing, and when it runs again.

python -m pytest tests/data/test_preprocess.py -v
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from data_sets import ABNORMALITIES, RULES, enrich, read, row, without
from quick_python import quick_python

import config
from config import DataConfig, load_config
from data import answer_space, preprocess, schema
from data.preprocess import enrich_jsonl, enriched_path, ensure_enriched, rules_hash, training_space
from files import UserError, read_json, sha256, write_json, write_jsonl

ROOT = Path(__file__).resolve().parents[2]


def test_rows_to_predict_need_no_answer_but_training_rows_do(tmp_path):
    found, _ = enrich(tmp_path, [without("answer"), row(answer=None)], train=[row()])
    assert [item["answer_candidates"] for item in found] == [["yes", "no"]] * 2
    assert not any("answer_raw" in item for item in found)
    with pytest.raises(UserError, match="train.jsonl:1: has no answer"):
        enrich(tmp_path, [row()], train=[without("answer")])
    with pytest.raises(UserError, match="rows.jsonl:1: answer is 3, not text"):
        enrich(tmp_path, [row(answer=3)], train=[row()])


# --- enriched rows ---


def test_an_enriched_row_holds_the_row_and_what_was_added(tmp_path):
    box = [1, 2, 3, 4]
    found, counts = enrich(tmp_path, [row(answer=" Yes.", group="p1", box=box, answers=["yes", "present"])])
    assert found == [
        {
            **row(group="p1", box=box, answers=["yes", "present"]), "id": "0", "answer": "yes", "answer_raw": " Yes.",
            "question_type": "yes_no", "answer_candidates": ["yes", "no"], "multi_label": False,
        }
    ]  # fmt: skip
    expected = {"rows": 1, "types": {"yes_no": 1}, "constrained": {"yes_no": 1}, "dropped": 0, "questions_dropped": {}}
    assert counts == {**expected, "folded": {}, "corrected": 0, "placeholders": {}, "left_out": {}, "languages": ["en"], "unread": {}}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Esophagus", "esophagus"),
        ("b", "small bowel"),
        ("B", "small bowel"),
        ("(C)", "colon"),
        ("c)", "colon"),
        ("A.", "stomach"),
    ],
)
def test_an_mcq_answer_may_be_text_or_letter(tmp_path, answer, expected):
    options = ["Stomach", "Small  bowel", "colon", "Esophagus"]
    found, _ = enrich(tmp_path, [row("Which organ is seen?", answer, options=options)])
    assert (found[0]["question_type"], found[0]["answer"], found[0]["answer_raw"]) == ("mcq", expected, answer)
    assert found[0]["answer_candidates"] == ["stomach", "small bowel", "colon", "esophagus"]


def test_an_option_that_is_a_letter_is_itself(tmp_path):
    found, _ = enrich(tmp_path, [row("Which grade?", "a", options=["B", "A"]), row("Which stage?", "b", options=["x", "y"])])
    assert [item["answer"] for item in found] == ["a", "y"]


OPTIONS = ["A: stomach", "B: colon"]
BAD_TRAINING_ROWS = [
    row("Which organ?", "d", options=OPTIONS), row("Which part?", "A: colon", options=OPTIONS), row("Which?", "A, B", options=OPTIONS),
    row(answer="nan"), row("none", "yes"), row(question="NaN", answer=" NAN. "),
]  # fmt: skip


def test_training_rows_that_teach_nothing_are_left_out_and_counted(tmp_path, capsys):
    """No model may learn what its constraint forbids it to say, or the word for a missing value."""
    good = [row(id="good"), row("Which organ?", "B", options=OPTIONS, id="b"), row("Which organ?", "Stomach.", options=OPTIONS, id="a")]
    rows = [{**bad, "id": f"bad {number}"} for number, bad in enumerate(BAD_TRAINING_ROWS)]
    found, counts = enrich(tmp_path, [good[0], *rows, *good[1:]])
    assert [(item["id"], item["answer"]) for item in found] == [("good", "yes"), ("b", "colon"), ("a", "stomach")]
    assert all(answer_space.trainable(item) for item in found)
    assert counts["left_out"] == {
        "whose answer is none of its options": ["bad 0", "bad 1", "bad 2"],
        "without an answer": ["bad 3"],
        "without a question": ["bad 4", "bad 5"],
    }
    assert (counts["rows"], counts["types"]) == (3, {"yes_no": 1, "mcq": 2})
    assert preprocess.describe("train", counts).splitlines()[1] == (
        "WARNING: not trained on: 3 rows whose answer is none of its options (ids 'bad 0', 'bad 1', 'bad 2'), "
        "1 row without an answer (id 'bad 3'), 2 rows without a question (ids 'bad 4', 'bad 5'); correct these rows, or remove them"
    )
    found, counts = enrich(tmp_path, rows, train=good)
    assert len(found) == len(rows) and counts["left_out"] == {} and found[0]["answer_candidates"] == ["stomach", "colon"]
    assert not any(answer_space.reachable(item) for item in found[:3]), "in other splits they stay, and count as out of reach"


def test_exclusive_labels_among_others_are_not_trained_on(tmp_path):
    answers = ["left", "right; left", "none"] * 10 + ["none; left"]
    rows = [row("Where is it?", answer, image=f"{number}.jpg") for number, answer in enumerate(answers)]
    found, counts = enrich(tmp_path, rows)
    assert counts["left_out"] == {"whose answer its question's constraint forbids": ["30"]} and len(found) == 30


def test_a_training_file_of_nothing_else_is_one_error(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", BAD_TRAINING_ROWS)
    message = r"rows.jsonl: nothing can be learned from its rows: 3 rows whose answer is none of its options \(ids '0', '1', '2'\), 1 row"
    with pytest.raises(UserError, match=message):
        enrich_jsonl(tmp_path / "rows.jsonl", tmp_path / "enriched.jsonl")
    assert not (tmp_path / "enriched.jsonl").exists()


def test_the_training_split_alone_leaves_rows_out(tmp_path, capsys):
    rows = [row(), row(answer="nan"), *[row("Which?", "z", options=["x", "y"])] * 4]
    for split in ("train", "val"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    (tmp_path / "c.yaml").write_text("data: {train_jsonl: train.jsonl, val_jsonl: val.jsonl}\n")
    cfg = load_config(tmp_path / "c.yaml")
    assert [len(ensure_enriched(cfg, split)) for split in ("train", "val")] == [1, 6]
    warning = (
        "WARNING: not trained on: 1 row without an answer (id '1'), 4 rows whose answer is none of its options (ids '2', '3', '4', …); "
    )
    assert capsys.readouterr().out.count(warning) == 1
    assert read_json(tmp_path / "outputs/data/train.meta.json")["left_out"]["without an answer"] == ["1"]


def test_label_lists_get_one_order_in_training_and_keep_the_original(tmp_path):
    question = "Where is it?"
    train = [row(question, "upper-left; center"), row(question, "center;upper-left", "b.jpg"), row(question, "center")]
    found, _ = enrich(tmp_path, train)
    assert [item["answer"] for item in found] == ["center; upper-left", "center; upper-left", "center"]
    assert [item["answer_raw"] for item in found] == [item["answer"] for item in train]
    assert all(item["multi_label"] and item["answer_candidates"] is None for item in found)


# --- ensure_enriched ---


@pytest.fixture
def cfg(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [row(), row("Is it easy?", "no")])
    write_jsonl(tmp_path / "val.jsonl", [row("Is it easy?", "yes")])
    (tmp_path / "c.yaml").write_text("data: {train_jsonl: train.jsonl, val_jsonl: val.jsonl}\n")
    return load_config(tmp_path / "c.yaml")


def mark(cfg, split):
    """Put other rows into the enriched file, and its record; a new enrichment wipes the mark out."""
    path = enriched_path(cfg, split)
    write_jsonl(path, [{"mark": True}])
    write_json(path.with_suffix(".meta.json"), {**read_json(path.with_suffix(".meta.json")), "sha256": sha256(path)})


def test_enrichment_is_written_under_output_dir_and_not_repeated(cfg, tmp_path, capsys):
    assert ensure_enriched(cfg, "val") == read(tmp_path / "outputs" / "data" / "val.jsonl")
    assert enriched_path(cfg, "val") == tmp_path / "outputs" / "data" / "val.jsonl"
    assert capsys.readouterr().out == (
        "answer space of 2 training rows: 0 questions closed (0 of them label lists), 0 open, "
        "2 as the rules say (2 of them asked in too few groups to be named: data.min_groups)\n"
        "note: 2 training rows name no patient or video (group): data.min_groups counts their pictures; see data.check\n"
        "enriched val: 1 rows (yes_no 1), 1 constrained\n"
    )
    mark(cfg, "val")
    assert ensure_enriched(cfg, "val") == [{"mark": True}] and capsys.readouterr().out == ""


def test_enrichment_runs_again_when_the_source_changes(cfg, tmp_path):
    ensure_enriched(cfg, "val")
    write_jsonl(tmp_path / "val.jsonl", [row("Is it easy?", "yes"), row()])
    assert [item["id"] for item in ensure_enriched(cfg, "val")] == ["0", "1"]


def test_enrichment_runs_again_when_the_training_rows_change(cfg, tmp_path):
    for split in ("train", "val"):
        assert ensure_enriched(cfg, split)[-1]["answer_candidates"] == ["yes", "no"]
    write_jsonl(tmp_path / "train.jsonl", [row(), row("Is it easy?", "not relevant")])
    for split in ("train", "val"):
        assert ensure_enriched(cfg, split)[-1]["answer_candidates"] is None


@pytest.mark.parametrize("edited", ["schema.py", "matching.py", "answer_space.py", "aliases.yaml", "added.py"])
def test_enrichment_runs_again_when_the_rules_change(cfg, tmp_path, monkeypatch, edited):
    ensure_enriched(cfg, "val")
    mark(cfg, "val")
    shutil.copytree(ROOT / "data", tmp_path / "moved" / "data", ignore=shutil.ignore_patterns("demo", "__pycache__"))
    shutil.copy(ROOT / "files.py", tmp_path / "moved")
    monkeypatch.setattr(config, "ROOT", tmp_path / "moved")
    assert ensure_enriched(cfg, "val") == [{"mark": True}], "a moved repository has the same rules"
    with open(tmp_path / "moved" / "data" / edited, "a") as file:
        file.write("# edited\n")
    assert "mark" not in ensure_enriched(cfg, "val")[0]


def test_an_edit_that_changes_no_answer_makes_no_other_space(cfg, tmp_path, monkeypatch):
    """Or it would count as another data set to everything that was made with the space: rows, adapters, predictions."""
    before = answer_space.fingerprint(training_space(cfg))
    monkeypatch.setattr(config, "ROOT", tmp_path)
    assert rules_hash() != read_json(cfg.output_dir / "data" / "answer_space.meta.json")["rules"]
    assert answer_space.fingerprint(training_space(cfg)) == before
    assert rules_hash() == read_json(cfg.output_dir / "data" / "answer_space.meta.json")["rules"]


def test_answer_rules_change_with_training_rows_and_rules_alone(cfg, tmp_path, monkeypatch):
    before = preprocess.answer_rules(training_space(cfg))
    write_jsonl(tmp_path / "val.jsonl", [row(answer="no")])
    assert preprocess.answer_rules(training_space(cfg)) == before
    write_jsonl(tmp_path / "train.jsonl", [row()])
    changed = preprocess.answer_rules(training_space(cfg))
    assert {key for key, value in changed.items() if value != before[key]} == {"space"}
    (tmp_path / "schema.py").write_text("# edited\n")
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "schema.py"))
    assert preprocess.answer_rules(training_space(cfg))["rules"] != before["rules"]


def test_all_settings_that_decide_a_space_are_kept_with_it(cfg):
    changes = [{}, {"answer_space": "rules"}, {"max_unseen": 0.3}, {"count_margin": 3}, {"min_groups": 3}, {"language": "de"}]
    made = [preprocess.space_inputs(cfg.split_path("train"), DataConfig(**change)) for change in changes]
    assert all(one != other for number, one in enumerate(made) for other in made[:number])


def test_enrichment_runs_again_when_its_record_is_gone(cfg):
    ensure_enriched(cfg, "val")
    mark(cfg, "val")
    enriched_path(cfg, "val").with_suffix(".meta.json").unlink()
    assert "mark" not in ensure_enriched(cfg, "val")[0]


@pytest.mark.parametrize("name", ["train.jsonl", "train.meta.json", "answer_space.json", "answer_space.meta.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data.splitlines(True)[0], lambda data: b"[]"])
def test_what_enrichment_wrote_is_written_anew_where_it_is_damaged(cfg, name, damage):
    """A file cut between two lines would teach from fewer rows, without a word."""
    rows, path = ensure_enriched(cfg, "train"), cfg.output_dir / "data" / name
    before = path.read_bytes() if "meta" not in name else None
    path.write_bytes(damage(path.read_bytes()))
    assert ensure_enriched(cfg, "train") == rows and before in (None, path.read_bytes())


def test_rows_that_were_written_without_their_record_are_written_anew(cfg, tmp_path, monkeypatch):
    """Killed in between, and then the source is what it was: the record of before holds, and not for the rows."""
    rows, source = ensure_enriched(cfg, "val"), (tmp_path / "val.jsonl").read_bytes()
    write_jsonl(tmp_path / "val.jsonl", [row(), row()])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preprocess, "save_run_info", interrupt)
        ensure_enriched(cfg, "val")
    (tmp_path / "val.jsonl").write_bytes(source)
    assert len(read(enriched_path(cfg, "val"))) == 2 and ensure_enriched(cfg, "val") == rows


def test_a_space_that_was_written_without_its_record_is_mined_anew(cfg, monkeypatch):
    """By edited rules, which are then what they were: the record of before would vouch for the edit's space."""
    training_space(cfg)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preprocess, "rules_hash", lambda: "edited")
        patch.setattr(preprocess, "write_json", interrupt)
        training_space(cfg)
    said = []
    training_space(cfg, said.append)
    assert said[0].startswith("answer space of 2 training rows"), "it is said where it is mined"


def interrupt(*arguments, **facts):
    raise KeyboardInterrupt


def test_a_failed_enrichment_leaves_the_earlier_one_and_is_tried_again(cfg, tmp_path):
    ensure_enriched(cfg, "val")
    before = sha256(enriched_path(cfg, "val"))
    write_jsonl(tmp_path / "val.jsonl", [row(), row(answer=3)])
    for _ in range(2):
        with pytest.raises(UserError, match="val.jsonl:2: answer is 3"):
            ensure_enriched(cfg, "val")
    assert sha256(enriched_path(cfg, "val")) == before


def test_missing_inputs_name_their_keys(cfg, tmp_path):
    (tmp_path / "val.jsonl").unlink()
    with pytest.raises(UserError, match=r"data.val_jsonl: .*val.jsonl does not exist; correct it in "):
        ensure_enriched(cfg, "val")
    with pytest.raises(UserError, match=r"set data.test_jsonl in c.yaml"):
        ensure_enriched(cfg, "test")


def test_the_user_s_file_is_never_overwritten(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [row()])
    before = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
    for target in ("rows.jsonl", "link.jsonl"):
        with pytest.raises(UserError, match="is the input itself; choose another output"):
            enrich_jsonl(tmp_path / "rows.jsonl", tmp_path / target)
    assert (tmp_path / "rows.jsonl").read_bytes() == before


# --- the command ---

COMMANDS = [["-m", "data.preprocess"], [str(ROOT / "data" / "preprocess.py")]]


def run(command, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} if command[0] == "-m" else None
    command = [quick_python(), *command, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_from_another_folder(command, tmp_path):
    text = run(command, "--help", cwd=tmp_path).stdout
    assert all(words in text for words in ("--config PATH", "section.key=value", "--src", "--dst", "--train"))
    folder = tmp_path / "exp 1"
    write_jsonl(folder / "train.jsonl", [row(), *[row(ABNORMALITIES, "polyp", image) for image in ("a.jpg", "b.jpg")]])
    write_jsonl(folder / "val.jsonl", [row(ABNORMALITIES, "no")])
    (folder / "c.yaml").write_text("data: {train_jsonl: train.jsonl, val_jsonl: val.jsonl}\n")
    done = run(command, "--config", "exp 1/c.yaml", "output_dir=out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [item["answer_candidates"] for item in read(tmp_path / "out" / "data" / "val.jsonl")] == [None]
    dropped = "1 constrained; 2 rows of 1 questions go unconstrained"
    assert f"enriched train: 3 rows (yes_no 1, open_ended 2), {dropped}" in done.stdout
    done = run(command, "--config", "exp 1/c.yaml", "output_dir=out", "data.answer_space=rules", cwd=tmp_path)
    assert f"enriched train: 3 rows (yes_no 3), {dropped}" in done.stdout
    assert not (tmp_path / "out" / "data" / "test.jsonl").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_on_one_file(command, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [row(ABNORMALITIES, "no")])
    write_jsonl(tmp_path / "train.jsonl", [row(ABNORMALITIES, "polyp")])
    for extra, expected in (((), ["yes", "no"]), (("--train", "train.jsonl"), None)):
        arguments = ["--src", "rows.jsonl", "--dst", "out/rows.jsonl", *extra]
        for mode, candidates in (([], None), (["data.answer_space=rules"], expected)):
            done = run(command, *arguments, *mode, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            assert read(tmp_path / "out" / "rows.jsonl")[0]["answer_candidates"] == candidates
    assert run(command, "--src", "rows.jsonl", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": no such file"),
        ("", ": has no rows; "),
        ("{", ":1: not valid JSON ("),
        ('{"image": "a"}', ":1: has no question; "),
    ],
)
def test_command_errors_are_one_line(content, message, tmp_path):
    if content is not None:
        (tmp_path / "rows.jsonl").write_text(content)
    done = run(COMMANDS[1], "--src", tmp_path / "rows.jsonl", "--dst", tmp_path / "out.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'rows.jsonl'}{message}") and done.stderr.count("\n") == 1


def test_command_on_a_fresh_clone_says_what_to_set(tmp_path):
    done = run(COMMANDS[1], cwd=tmp_path)
    message = "error: set data.train_jsonl in config_exp1.yaml, or try --config config_demo.yaml\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


@pytest.mark.parametrize(
    "question",
    [
        "{}", "<image>\n{}", "{}<image>", "<image>\\n{}", "<|vision_start|><|image_pad|><|vision_end|>{}", "<video> {} <image_1>",
        "[IMG] {}", "<img>a.jpg</img>\n{}", "<|image_1|>\n{}",
    ],
)  # fmt: skip
def test_a_foreign_place_for_a_picture_goes_and_is_counted(tmp_path, question):
    found, counts = enrich(tmp_path, [row(question.format("Is there a polyp?"))])
    assert (found[0]["question"], found[0]["question_type"]) == ("Is there a polyp?", "yes_no")
    assert found[0]["answer_candidates"] == ["yes", "no"]
    stripped = question != "{}"
    assert sum(counts["placeholders"].values()) == stripped
    assert ("; 1 places for pictures taken from questions (" in preprocess.describe("train", counts)) is stripped


@pytest.mark.parametrize(
    ("languages", "named", "remedy"),
    [
        ("en", "de", "(de 2) that isn't in data.language and are read as en; set data.language=[en, de]"),
        ("en", "it", "(it 2) that isn't in data.language and are read as en; write its file in data/languages/ and name it there"),
        (["zh", "en"], "DE-AT", "(de 2) that isn't in data.language and are read as zh, en; set data.language=[zh, en, de]"),
        ("de", "de", None), (["en", "de"], " De_CH", None), ("de", None, None),
    ],
)  # fmt: skip
def test_rows_of_a_language_that_is_not_read_are_a_warning_with_the_key(tmp_path, languages, named, remedy):
    rows = [{"question": "Ist da Text?", "answer": "ja", "image": f"{n}.jpg", "language": named} for n in range(2)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    counts = enrich_jsonl(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", settings=DataConfig(language=languages))
    warnings = preprocess.describe("train", counts).splitlines()[1:]
    assert warnings == ([f"WARNING: 2 rows name a `language` {remedy}"] if remedy else [])


def test_a_row_without_an_answer_has_none_as_it_was_given_either(tmp_path):
    """Its own column `answer_raw` would become the true answer of its prediction, and ended a training with a traceback."""
    asked = {key: value for key, value in row(answer_raw="no").items() if key != "answer"}
    write_jsonl(tmp_path / "rows.jsonl", [row(), asked])
    write_jsonl(tmp_path / "train.jsonl", [row()])
    space = preprocess.mine_space(tmp_path / "train.jsonl", RULES, say=lambda line: None)
    enrich_jsonl(tmp_path / "rows.jsonl", tmp_path / "enriched.jsonl", space=space, training=True)
    found = read(tmp_path / "enriched.jsonl")
    assert [item.get("answer_raw") for item in found] == ["yes", None] and "answer" not in found[1]
