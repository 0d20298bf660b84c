"""Conversations of LLaVA, ShareGPT, ms-swift and others as rows; SurgCheck, PMC-VQA and PathVQA; which reader fits a file.

python -m pytest tests/data/test_conversations.py -v
"""

import json
import time
from collections import Counter

import openpyxl
import pyarrow
import pytest
from data_sets import CHAT, JPEG, PNG, converted, lay, only, run, say
from pyarrow import parquet

from data import check, readers
from data.foreign import fitting_reader
from data.formats.conversations import without_prefix
from data.formats.source_files import json_records, json_value
from data.image_names import images_of
from data.rows import read_rows
from data.split import split_jsonl
from data.text import strip_placeholders
from files import UserError

PARTS = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Is there a polyp?"}]
ONE = [("a.png", "Is there a polyp?", "yes")]
TWO = [*ONE, ("a.png", "What color is it?", "pink")]
SYSTEM_TURN = {"role": "system", "content": "You are an expert."}
FORMS = {
    "LLaVA": ({"image": "a.png", "conversations": say("<image>\nIs there a polyp?", "yes")}, ONE),
    "LLaVA, picture behind": ({"image": "a.png", "conversations": say("Is there a polyp?\n<image>", "yes")}, ONE),
    "picture between lines": ({"image": "a.png", "conversations": say("Is there\n<image>\na polyp?", "yes")}, ONE),
    "colon behind the picture": ({"image": "a.png", "conversations": say("<image>: Is there a polyp?", "yes")}, ONE),
    "in braces": ({"image": "a.png", "conversations": say("{image} Is there a polyp?", "yes")}, ONE),
    "Markdown": ({"image": "a.png", "conversations": say("![](a.png)\nIs there a polyp?", "yes")}, ONE),
    "thoughts": ({"image": "a.png", "conversations": say("Is there a polyp?", "<think>It is\nround.</think>\n\nyes")}, ONE),
    "a marked answer": ({"image": "a.png", "conversations": say("Is there a polyp?", "<think>a</think><answer>yes</answer>")}, ONE),
    "who speaks": ({"image": "a.png", "conversations": say("USER: <image>\nIs there a polyp?", "yes")}, ONE),
    "a label": ({"image": "a.png", "conversations": say("Image: <image> Is there a polyp?", "yes")}, ONE),
    "with spaces": ({"image": "a.png", "conversations": say("< image >\nIs there a polyp?", "yes")}, ONE),
    "escaped": ({"image": "a.png", "conversations": say("&lt;image&gt;\nIs there a polyp?", "yes")}, ONE),
    "named twice": ({"image": "a.png", "messages": say(PARTS, "yes", CHAT)}, ONE),
    "two turns": ({"image": "a.png", "conversations": say("<image>\nIs there a polyp?", "yes") + say("What color is it?", "pink")}, TWO),
    "ShareGPT of LLaMA-Factory": ({"images": ["a.png"], "conversations": say("<image>Is there a polyp?", "yes"), "system": "S"}, ONE),
    "messages": ({"images": ["a.png"], "messages": say("<image>Is there a polyp?", "yes", CHAT)}, ONE),
    "messages with a system turn": ({"images": ["a.png"], "messages": [SYSTEM_TURN, *say("Is there a polyp?", "yes", CHAT)]}, ONE),
    "ms-swift, pictures as objects": ({"images": [{"path": "a.png"}], "messages": say("<image>Is there a polyp?", "yes", CHAT)}, ONE),
    "ms-swift, query": ({"images": ["a.png"], "query": "<image>Is there a polyp?", "response": "yes"}, ONE),
    "ms-swift, history": (
        {"images": ["a.png"], "history": [["<image>Is there a polyp?", "yes"]], "query": "What color is it?", "response": "pink"},
        TWO,
    ),
    "ms-swift, pairs": ({"images": ["a.png"], "conversation": [{"human": "<image>Is there a polyp?", "assistant": "yes"}]}, ONE),
    "content parts": ({"messages": say(PARTS, [{"type": "text", "text": "yes"}], CHAT)}, ONE),
    "image_url": ({"messages": say([{"type": "image_url", "image_url": {"url": "a.png"}}, *PARTS[1:]], "yes", CHAT)}, ONE),
    "trainer's parts without a name": ({"images": ["a.png"], "messages": say([{"type": "image"}, *PARTS[1:]], "yes", CHAT)}, ONE),
    "path of another machine": ({"image": "D:\\sets\\a.png", "conversations": say("Is there a polyp?", "yes")}, ONE),
    "Qwen's placeholder": (
        {"image": "a.png", "conversations": say("<|vision_start|><|image_pad|><|vision_end|>Is there a polyp?", "yes")}, ONE
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_becomes_the_same_rows(tmp_path, kind):
    record, expected = FORMS[kind]
    for name in ("r.json", "r.jsonl"):
        src = lay(tmp_path, of={name: [record]}, images=["a.png"]) / name
        rows, dropped = converted("conversations", src, tmp_path / "dst")
        assert only(rows, "image", "question", "answer") == expected and not dropped


def test_tags_splits_and_ids_are_kept(tmp_path):
    record = {"id": "x7", "image": "v/a.png", "conversations": say("q", "a") + say("r", "b"), "task": "Count", "group": "v", "note": None}
    lay(tmp_path / "src", of={"train.json": [record], "test.jsonl": [{**record, "split": "validation"}]})
    rows, _ = converted("conversations", tmp_path / "src", tmp_path / "dst")
    assert only(rows, "id", "source_id", "split", "group", "task", "question")[1:3] == [
        ("1", "x7", "val", "v", "Count", "r"), ("2", "x7", "train", "v", "Count", "q")
    ]  # fmt: skip
    assert set(rows[0]) == {"id", "image", "question", "answer", "task", "group", "split", "source_id"}


WITH_A_VIDEO = "with a video: take frames from it (python -m data.frames), and name these in images"


def test_what_is_left_out_is_counted(tmp_path):
    records = [{"image": "a.png", "conversations": say("q", "a")}, {"conversations": say("q", "a")}]
    later = say("<image>q", "a", CHAT) + say("<image>r", "b", CHAT)
    records += [{"images": ["a.png", "b.png"], "messages": later}, {"image": "a.png", "conversations": say("q", "a")[:1]}]
    records += [{"videos": ["a.mp4"], "messages": say("<video>q", "a", CHAT)}, {"video": "a.mp4", "conversations": say("q", "a")}]
    records += [{"messages": say([{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "q"}], "a", CHAT)}]
    rows, dropped = converted("conversations", lay(tmp_path, of={"r.json": records}) / "r.json", tmp_path / "dst")
    assert len(rows) == 1 and dropped.pop(WITH_A_VIDEO) == 3
    assert dropped == {"without a picture": 1, "with pictures in several turns": 2, "without an answer": 1}


@pytest.mark.parametrize("names", [["v/a.png", "v/b.png"], [{"path": "v/a.png"}, {"path": "v/b.png"}]])
def test_several_pictures_are_one_rows_in_their_order(tmp_path, names):
    record = {"images": names, "messages": say("<image><image>Which is redder?", "the second", CHAT) + say("And why?", "blood", CHAT)}
    rows, dropped = converted("conversations", lay(tmp_path, of={"r.json": [record]}) / "r.json", tmp_path / "dst")
    both = ["v/a.png", "v/b.png"]
    assert only(rows, "image", "images", "question") == [(both[0], both, "Which is redder?"), (both[0], both, "And why?")]
    assert not dropped and [images_of(row) for row in read_rows(tmp_path / "dst" / "all.jsonl")] == [both, both]


def shows(name, text="r"):
    return [{"type": "image", "image": name}, {"text": text}]


INSIDE = "with a place for a picture inside the question"
EARLIER = "before the turn that shows the picture"
HELLO = say("Hello, who are you?", "A model", CHAT)


@pytest.mark.parametrize(
    ("record", "questions", "why"),
    [
        ({"image": "a.png", "messages": say("q", "a", CHAT) + say(shows("b.png"), "b", CHAT)}, [], "with pictures in several turns"),
        ({"messages": say(shows("a.png"), "a", CHAT) + say(shows("b.png"), "b", CHAT)}, [], "with pictures in several turns"),
        ({"messages": HELLO + say(shows("a.png"), "b", CHAT) + say("s", "c", CHAT)}, ["r", "s"], EARLIER),
        ({"image": "a.png", "messages": HELLO + say("<image>\nr", "b", CHAT)}, ["r"], EARLIER),
        ({"image": "a.png", "messages": say(shows("b.png"), "a", CHAT)}, [], "whose turns show another picture than the record names"),
        ({"image": "a.png", "messages": say("In <image>, what is seen?", "a", CHAT) + say("r", "b", CHAT)}, ["r"], INSIDE),
        ({"image": "a.png", "messages": say("Is it in &lt;image&gt;?", "a", CHAT) + say("r", "b", CHAT)}, ["r"], INSIDE),
    ],
)
def test_no_question_is_about_a_picture_of_another_turn(tmp_path, record, questions, why):
    records = [{"image": "z.png", "conversations": say("z", "z")}, record]
    rows, dropped = converted("conversations", lay(tmp_path, of={"r.json": records}) / "r.json", tmp_path / "dst")
    assert sorted(row["question"] for row in rows) == [*questions, "z"]
    assert list(dropped) == [why] and {row["image"] for row in rows} <= {"a.png", "z.png"}


@pytest.mark.parametrize("space", [" ", "\n", "\\n", "\u200b", "user: "])
def test_a_long_run_of_spaces_takes_no_minutes(space):
    question, began = "<q" + space * 20_000 + "<", time.monotonic()
    assert strip_placeholders(question, everywhere=True) == question and time.monotonic() - began < 5


@pytest.mark.parametrize(("question", "left"), [("Isolated?", "Isolated?"), ("Is it?", "it?")])
def test_a_prefix_ends_at_a_words_edge(question, left):
    assert without_prefix(question, "Is")[0] == left


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path):
    src = lay(tmp_path, of={"r.json": '[{"a": 1},\n{"a": ' + "9" * 5000 + "}]"}) / "r.json"
    with pytest.raises(UserError, match=r"r.json:2: has a number of too many digits to be read; correct or delete it"):
        list(json_records(src))
    with pytest.raises(UserError, match=r"r.json: has a number of too many digits to be read; correct the file"):
        json_value(src)


INSTRUCTION = "You are an expert. Answer in 1-5 words."


def test_a_fixed_instruction_goes_when_told_and_is_named_otherwise(tmp_path):
    records = [
        {"image": "a.png", "conversations": say(f"<image>\n{INSTRUCTION} {question}", "yes")} for question in ("Is it red?", "Is it?")
    ]
    src, said = lay(tmp_path, of={"r.json": records}) / "r.json", []
    readers.convert("conversations", src, tmp_path / "dst", say=said.append)
    assert said == [f"{src}: all 2 questions begin with the same words; to leave them out: --strip-prefix {INSTRUCTION!r}"]
    rows, _ = converted("conversations", src, tmp_path / "dst", strip_prefix=INSTRUCTION)
    assert [row["question"] for row in rows] == ["Is it red?", "Is it?"]
    with pytest.raises(UserError, match=r"none of its 2 questions begins with --strip-prefix 'You were'; correct it"):
        readers.convert("conversations", src, tmp_path / "dst", strip_prefix="You were")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"image": "a.png", "conversations": say("q", "a")[::-1]}, "is no conversation of questions and answers in turn"),
        ({"image": "a.png", "messages": say("q", "a", CHAT) + [{"role": "tool", "content": "x"}]}, ", turn 3: is of 'tool', neither user"),
        ({"image": "a.png", "conversations": say("q", 3)}, "what is said is 3, not text"),
        ({"image": "a.png", "conversations": ["q", "a"]}, "is 'q', not an object of who speaks and what"),
        ({"image": "a.png", "conversations": [SYSTEM_TURN]}, "has no question"),
        ({"image": "a.png", "conversations": []}, "has no list of turns in messages or conversations"),
        ({"image": "a.png", "question": "q"}, "has no list of turns in messages or conversations"),
        ({"image": "data:image/png;base64," + "A" * 9999, "conversations": say("q", "a")}, "a picture as text; images must be files"),
        ({"image": {"bytes": "x"}, "conversations": say("q", "a")}, "image is {'bytes': 'x'}, not the name of a file"),
    ],
)
def test_a_broken_conversation_is_named_in_one_short_line(tmp_path, record, said):
    src = lay(tmp_path, of={"r.jsonl": [{"image": "a.png", "conversations": say("q", "a")}, record]}) / "r.jsonl"
    with pytest.raises(UserError) as error:
        readers.convert("conversations", src, tmp_path / "dst")
    assert str(error.value).startswith(f"{src}:2") and said in str(error.value) and len(str(error.value)) < len(str(src)) + 250


@pytest.mark.parametrize("branch", ["conversations", "kvasir-vqa-json"])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("group", ["P1"], "group is ['P1']; write one name, the patient's or the video's"),
        ("group", {"id": 1}, "group is {'id': 1}; write one name"),
        ("group", 1.5, "group is 1.5; write one name"),
        ("answers", "a", "answers is 'a'; write a list of texts"),
        ("answers", ["a", 2], "answers is ['a', 2]; write a list of texts"),
        ("options", "A: yes", "options is 'A: yes'; write a list of texts"),
        ("options", ["yes", "Yes"], "options repeats an item: ['yes', 'Yes']; give each option once"),
    ],
)
def test_what_no_row_can_have_is_refused_by_every_reader(tmp_path, branch, key, value, said):
    good = {"conversations": say("q", "a")} if branch == "conversations" else {"question": "q", "answer": "a"}
    records = [{"image": "a.png", "image_filename": "a.png", **good, **more} for more in ({}, {key: value})]
    src = lay(tmp_path, of={"r.jsonl": records}) / "r.jsonl"
    with pytest.raises(UserError) as error:
        readers.convert(branch, src, tmp_path / "dst")
    assert str(error.value).startswith(f"{src}:2: {said}") and not (tmp_path / "dst" / "all.jsonl").exists()


# ---- data sets by name


def test_surgcheck_has_both_wordings_with_task_cue_and_video(tmp_path):
    def row(question):
        prefix = "<image>\nYou are an assistant with surgical expertise. Given a surgical scene, answer the question in 1-5 words."
        tags = {"ori_img_tag": "164_1.jpg", "main_tag": "Visual_QA", "sub_sub_tag": "Count", "sub_tag": "No_Cue"}
        return {"image": "164_1.jpg", "conversations": say(f"{prefix} {question}", "two"), **tags}

    of = {"test_original.jsonl": [row("How many tools?"), row("Which?")], "test_less_biased.jsonl": [row("Count them."), row("What?")]}
    rows, _ = converted("surgcheck", lay(tmp_path / "src", of=of), tmp_path / "dst")
    assert only(rows, "question", "wording", "pair", "task", "cue", "group", "split")[1:3] == [
        ("What?", "less_biased", "test-1", "Count", "No_Cue", "164", "test"),
        ("How many tools?", "original", "test-0", "Count", "No_Cue", "164", "test"),
    ]


def test_real_surgcheck(shared, tmp_path):
    folder = shared / "real-data" / "surgcheck"
    rows, dropped = converted("surgcheck", folder / "data" / "full", tmp_path / "dst", images=folder / "frames")
    assert Counter(row["wording"] for row in rows) == {"original": 3860, "less_biased": 3860} and not dropped
    pairs = {}
    for row in rows:
        pairs.setdefault(row["pair"], []).append(row)
    assert len(pairs) == 3860 and all(one["answer"] == other["answer"] and one["image"] == other["image"] for one, other in pairs.values())
    assert sum(one["question"] != other["question"] for one, other in pairs.values()) == 1311
    assert {row["group"] for row in rows} <= {str(video) for video in range(162, 202)} and not any(
        "1-5 words" in row["question"] for row in rows
    )
    assert len({row["image"] for row in rows if (folder / "frames" / row["image"]).is_file()}) == 28


PMC = "Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label"


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (PMC, "a.png,Which tool?,Snare,A:Forceps,B:Snare,C:Clip,D:Needle,B"),
        (PMC, "a.png,Which tool?, B:Snare, A: Forceps, B: Snare, C: Clip, D: Needle,B"),
        ("index," + PMC.removesuffix(",Answer_label"), "0,a.png,Which tool?,B,Forceps,Snare,Clip,Needle"),
    ],
)
def test_pmc_vqa_is_four_options_without_letters(tmp_path, header, line):
    repeated = line.replace("Clip", "Snare")
    src = lay(tmp_path / "src", of={"test.csv": "\n".join([header, line, repeated])}, images=["images/a.png"])
    rows, dropped = converted("pmc-vqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": "images/a.png", "question": "Which tool?", "answer": "Snare", "split": "test",
         "options": ["Forceps", "Snare", "Clip", "Needle"]}
    ]  # fmt: skip
    assert dropped == {"whose choices repeat or are empty": 1}


def test_path_vqa_has_official_splits(tmp_path):
    for name, data in (("train", PNG), ("validation", JPEG), ("test", PNG)):
        row = {"image": {"bytes": data, "path": None}, "question": "is it liver?", "answer": "yes"}
        (tmp_path / "src" / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "src" / "data" / f"{name}-00000-of-00001.parquet")
    rows, _ = converted("path-vqa", tmp_path / "src", tmp_path / "dst")
    assert only(rows, "split", "answer") == [("test", "yes"), ("train", "yes"), ("val", "yes")] and len({row["image"] for row in rows}) == 2


# ---- which reader fits


def write_foreign(folder, name):
    """A file of each kind that isn't rows."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    if name.endswith(".xlsx"):
        workbook = openpyxl.Workbook()
        workbook.active.append(["file", "polyp"])
        workbook.save(path)
    elif name.endswith(".parquet"):
        parquet.write_table(pyarrow.table({"question": ["q"]}), path)
    else:
        lay(folder, of={name: FOREIGN[name][0]})
    return path


LONG = {"id": "1", "conversations": say("q" * 100_000, "a"), "image": "a.png"}
FOREIGN = {
    "llava.json": ([{"image": "a.png", "conversations": say("q", "a")}], "conversations: python -m data.readers conversations {} DST"),
    "long.jsonl": ([LONG], "conversations: python -m data.readers conversations {} DST"),
    "chat.jsonl": ([{"messages": say("q", "a", CHAT)}], "conversations: python -m data.readers conversations {} DST"),
    "german.csv": ("Datei;Polyp\na;1\n", "a table: python -m data.readers table {} DST --suggest"),
    "findings.xlsx": (None, "a table: python -m data.readers table {} DST --suggest"),
    "pmc.csv": (f"{PMC}\n", "PMC-VQA: python -m data.readers pmc-vqa {} DST"),
    "kvasir.json": ([{"image_id": "a", "question": "q"}], "rows in one JSON array: python -m data.readers kvasir-vqa-json {} DST"),
    "x.parquet": (None, "Parquet: python -m data.readers --help names the data sets that are read from it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_errors_name_the_reader_that_fits(tmp_path, name):
    path = write_foreign(tmp_path / "src", name)
    said = "this looks like " + FOREIGN[name][1].format(path)
    wrong = [lambda: list(read_rows(path)), lambda: split_jsonl(path, tmp_path / "dst"), lambda: check.read_raw(path)]
    wrong += [lambda: readers.convert("surgvu", path, tmp_path / "dst"), lambda: readers.convert("kvasir-vqa-x1", path, tmp_path / "dst")]
    for action in wrong[:4] if "conversations" in said or ".parquet" in name else wrong:
        with pytest.raises(UserError) as error:
            action()
        assert said in str(error.value) and "\n" not in str(error.value) and "correct it" not in str(error.value)


@pytest.mark.parametrize("line", ['{"question": "q", "answer": "a", "image": "a.png"}', "no JSON", "[]", '{"messages": "q"}'])
def test_rows_and_what_nobody_knows_fit_no_reader(tmp_path, line):
    assert fitting_reader(lay(tmp_path, of={"r.jsonl": [line]}) / "r.jsonl") is None and fitting_reader(tmp_path / "none") is None


def test_the_command_says_it_in_one_line(tmp_path):
    path = lay(tmp_path, of={"my chats.jsonl": [json.dumps(FOREIGN["llava.json"][0][0])]}) / "my chats.jsonl"
    done = run("-m", "data.check", "--train", path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"this looks like conversations: python -m data.readers conversations '{path}' DST\n")
