"""Conversations of LLaVA, ShareGPT, ms-swift and others as rows, and SurgCheck.

python -m pytest tests/data/formats/test_conversations.py -v
"""

from collections import Counter

import pytest
from data_sets import CHAT, converted, lay, only, say

from data import readers
from data.formats.conversations import without_prefix
from data.image_names import images_of
from data.rows import read_rows
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


UNTYPED = [{"image": "a.png"}, {"text": "r"}]  # a part that shows a picture without saying its type


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
        ({"messages": HELLO + say(UNTYPED, "b", CHAT) + say("s", "c", CHAT)}, ["r", "s"], EARLIER),
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


@pytest.mark.parametrize(("question", "left"), [("Isolated?", "Isolated?"), ("Is it?", "it?")])
def test_a_prefix_ends_at_a_words_edge(question, left):
    assert without_prefix(question, "Is")[0] == left


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
        ({"image": "a.png", "messages": [{"role": 3, "content": "q"}]}, ": is of 3, neither user (human), assistant (gpt) nor system"),
        ({"image": "a.png", "messages": [{"content": "q"}]}, ": is of None, neither user (human), assistant (gpt) nor system"),
        ({"image": "a.png", "messages": [{"role": ["user"], "content": "q"}]}, ": is of ['user'], neither user (human)"),
        ({"image": "a.png", "conversations": say("q", 3)}, "what is said is 3, not text"),
        ({"messages": say([{"image": "a.png"}, "b.png"], "a", CHAT)}, "what is said is [{'image': 'a.png'}, 'b.png'], not text"),
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


TURNS = say("q", "a", CHAT) + say("r", "b", CHAT)
PLACES = {
    "who speaks": ({"messages": [*TURNS, {"role": "tool", "content": "x"}]},
                   "2, turn 5: is of 'tool', neither user (human), assistant (gpt) nor system; correct or delete it"),
    "no turn": ({"messages": [*TURNS, "x"]}, "2, turn 5: is 'x', not an object of who speaks and what; correct or delete it"),
    "what is said": ({"messages": [*TURNS[:3], {"role": "assistant", "content": 3}]},
                     "2, turn 4: what is said is 3, not text; correct or delete it"),
    "what is asked": ({"messages": [*TURNS[:2], {"role": "user", "content": 3}, TURNS[3]]},
                      "2, turn 3: what is said is 3, not text; correct or delete it"),
    "order": ({"messages": [*TURNS[:2], *TURNS[:1], *TURNS[:1]]},
              "2, turn 4: is no conversation of questions and answers in turn; correct or delete it"),
    "system alone": ({"messages": [SYSTEM_TURN]}, "2: has no question; correct or delete it"),
    "nothing": ({"messages": []}, "2: has no list of turns in messages or conversations; correct or delete it"),
    "picture": ({"image": "/", "messages": TURNS}, "2, turn 1: names no image; correct or delete it"),
    "picture's name": ({"image": 3, "messages": TURNS}, "2: image is 3, not the name of a file"),
    "split": ({"split": "dev", "messages": TURNS}, "2, turn 1: split is 'dev', not train, val or test; correct it"),
    "split of a turn": ({"split": 3, "messages": [SYSTEM_TURN, *TURNS]}, "2, turn 2: split is 3, not train, val or test; correct it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_broken_is_named_by_line_and_turn(tmp_path, kind):
    record, said = PLACES[kind]
    src = lay(tmp_path, of={"r.jsonl": [{"image": "a.png", "conversations": say("q", "a")}, {"image": "a.png", **record}]}) / "r.jsonl"
    with pytest.raises(UserError) as error:
        readers.convert("conversations", src, tmp_path / "dst")
    assert str(error.value) == f"{src}:{said}"


def test_the_whole_of_what_is_said_of_conversations(tmp_path):
    messages = [SYSTEM_TURN, *say(f"{INSTRUCTION} Is it red?", "yes", CHAT), *say("And why?", "blood", CHAT)]
    src, said = lay(tmp_path, of={"r.json": [{"image": "a.png", "messages": messages}]}) / "r.json", []
    readers.convert("conversations", src, tmp_path / "dst", say=said.append, strip_prefix=INSTRUCTION)
    assert said == [
        f"{src}: --strip-prefix taken from 1 of 2 questions",
        "converted: 1 questions of later turns that now stand alone, 1 system turns left out",
    ]
    with pytest.raises(UserError) as error:
        readers.convert("conversations", lay(tmp_path / "empty", of={"a.txt": []}), tmp_path / "dst")
    assert str(error.value) == f"{tmp_path / 'empty'}: has no .json or .jsonl; give the file with the conversations"


def test_a_row_of_a_conversation_keeps_the_records_further_keys(tmp_path):
    further = {"group": "v1", "options": ["yes", "no"], "source": "X", "box": [1, 2, 3, 4], "task": {"name": "Count"}}
    record = {"id": 0, "images": ["a.png"], "system": "S", "query": "<image>Is it?", "response": "yes", "history": [], **further}
    rows, _ = converted("conversations", lay(tmp_path, of={"r.json": [record]}) / "r.json", tmp_path / "dst")
    assert rows == [{"id": "0", "image": "a.png", "question": "Is it?", "answer": "yes", **further, "source_id": 0}]


# ---- SurgCheck


def test_surgcheck_has_both_wordings_with_task_cue_and_video(tmp_path):
    def row(question):
        prefix = "<image>\nYou are an assistant with surgical expertise. Given a surgical scene, answer the question in 1-5 words."
        tags = {"ori_img_tag": "164_1.jpg", "main_tag": "Visual_QA", "sub_sub_tag": "Count", "sub_tag": "No_Cue"}
        return {"image": "164_1.jpg", "conversations": say(f"{prefix} {question}", "two"), **tags}

    lost = {key: value for key, value in row("Where?").items() if key != "image"}
    original, less_biased = [row("How many tools?"), row("Which?"), lost], [row("Count them."), row("What?"), lost]
    of = {"test_original.jsonl": original, "test_less_biased.jsonl": less_biased}
    rows, dropped = converted("surgcheck", lay(tmp_path / "src", of=of), tmp_path / "dst")
    assert dropped == {"without a picture": 2}
    assert rows[0] == {
        "id": "0", "image": "164_1.jpg", "question": "Count them.", "answer": "two", "task": "Count", "cue": "No_Cue",
        "main_tag": "Visual_QA", "group": "164", "split": "test", "wording": "less_biased", "pair": "test-0",
    }  # fmt: skip
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
