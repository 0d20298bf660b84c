"""Conversations: what LLaVA, ShareGPT, ms-swift and LLaMA-Factory train on; SurgCheck and Kvasir-VQA-x1's export among them."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import os
import re
import shlex
from itertools import zip_longest

from data.formats import source_files as source
from data.formats.common import image_below, known_split
from data.image_names import why_no_file
from data.text import PLACEHOLDERS, strip_placeholders
from files import UserError, quoted

TURNS = ("conversations", "messages", "conversation")  # keys that hold a list of turns
IMAGES = ("images", "image")  # keys that hold the picture's name
VIDEOS = ("videos", "video", "video_url")
# What reasoning models write around an answer.
THOUGHTS, ANSWER = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL), re.compile(r".*<answer>(.*?)</answer>\s*", re.DOTALL)
PICTURE_KEYS = ("path", "image", "image_url", "url")  # in an entry of these, or in a part of a turn
ROLES = {"user": "question", "human": "question", "assistant": "answer", "gpt": "answer", "chatgpt": "answer", "model": "answer"}
ROLES |= {"bing": "answer", "bard": "answer", "system": "system"}
PAIRS = (("human", "assistant"), ("query", "response"))  # ms-swift's other two ways to write a question and its answer
TAKEN = {*TURNS, *IMAGES, *sum(PAIRS, ()), "history", "system", "id", "question", "answer"}  # not kept as tags
SYSTEM, FOLLOWING = "system turns left out", "questions of later turns that now stand alone"
EARLIER = {"drop": "before the turn that shows the picture"}
LEAST_PREFIX = 20  # letters before all questions that are worth a line


def read_conversations(request):
    """Conversations of LLaVA, ShareGPT, ms-swift or LLaMA-Factory: `messages`, `conversations`; licence as its source says

    SRC is a JSON array or JSONL, or a folder of such files, whose names may tell a split (train, val, test). A record has
      messages: [{role: user or assistant, content}], content being text or a list of text and image parts,
      conversations: [{from: human or gpt, value}], or ms-swift's query, response and history,
    and image or images, the picture's path. Each question with its answer becomes a row, also of later turns, which then
    stand alone. System turns go, and image placeholders such as <image> at the edge of a line; a question with one inside a
    sentence is left out and counted, as is one before the turn that shows the picture. `--strip-prefix "TEXT"` takes a
    fixed instruction from the beginning of every question. The record's further keys are kept, `id` as source_id; `group`,
    `split` and `options` mean what they mean in rows. Several pictures are one row's `images`, in
    their order. A record without a picture or with a video, or whose later turns bring pictures of their own, is left out and counted.
    (The forms: https://github.com/haotian-liu/LLaVA, https://github.com/modelscope/ms-swift.)
    """
    paths = conversation_files(request.src)
    root = request.images or paths[0].parent

    def rows():
        for path in paths:
            in_name = source.split_in_name(path) if request.src.is_dir() else None
            for where, row in conversation_rows(path, root, request):
                split = known_split(row["split"], where) if row.get("split") else in_name
                yield where, {**row, "split": split}

    return root, rows()


def conversation_files(src):
    """SRC itself, or the JSON and JSONL files in it, in name order."""
    if src.is_file():
        return [src]
    if paths := sorted(path for path in src.iterdir() if path.suffix in (".json", ".jsonl")):
        return paths
    raise UserError(f"{src}: has no .json or .jsonl; give the file with the conversations")


def conversation_rows(path, root, request):
    """Yield `(where, row)` for every question of a file of conversations; `where` names file, line and, from the second on, turn.

    What was left out on the way is said at the end (`request.converted`, `request.say`). Raises UserError for turns out of order,
    a picture that isn't a file's name, and a `--strip-prefix` that no question begins with.
    """
    stripped, questions, shared = 0, 0, None
    for where, record in source.json_records(path):
        turns = turns_of(record, where)
        request.converted[SYSTEM] += sum(who == "system" for _, who, _ in turns)
        image, first = _image(record, turns, root, where)
        tags = {key: value for key, value in record.items() if key not in TAKEN}
        tags |= {"source_id": record["id"]} if record.get("id") is not None else {}
        for number, (turn, question, answer) in enumerate(pairs_of(turns, where)):
            request.converted[FOLLOWING] += number > 0
            question, found = without_prefix(question, request.strip_prefix)
            stripped, questions = stripped + found, questions + 1
            shared = question if shared is None else os.path.commonprefix([shared, question])
            yield turn, {**(image if number >= first else EARLIER), "question": question, "answer": answer, **tags}
    if request.strip_prefix and questions and not stripped:
        raise UserError(f"{path}: none of its {questions} questions begins with --strip-prefix {quoted(request.strip_prefix)}; correct it")
    if request.strip_prefix:
        request.say(f"{path}: --strip-prefix taken from {stripped} of {questions} questions")
    elif questions > 1 and (prefix := whole_sentences(shared)):
        request.say(f"{path}: all {questions} questions begin with the same words; to leave them out: --strip-prefix {shlex.quote(prefix)}")


def turns_of(record, where):
    """`[(where, question, answer or system, text)]` of a record in any of the forms. Raises UserError for one in none of them."""
    key = next((key for key in TURNS if key in record), None)
    turns = record.get(key)
    if key is None and "query" in record:
        history = [dict(zip(PAIRS[1], pair)) for pair in record.get("history") or [] if isinstance(pair, list)]
        key, turns = "query", [*history, {name: record.get(name) for name in PAIRS[1]}]
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: has no list of turns in messages or conversations; correct or delete it")
    found = []
    for number, turn in enumerate(turns, 1):
        at = f"{where}, turn {number}" if len(turns) > 2 else where
        pair = next((pair for pair in PAIRS if isinstance(turn, dict) and pair[0] in turn), None)
        if pair:
            found += [(at, what, turn.get(name)) for what, name in zip(("question", "answer"), pair)]
        elif isinstance(turn, dict):
            who = turn.get("role", turn.get("from"))
            who = who.lower() if isinstance(who, str) else who
            if not isinstance(who, str) or who not in ROLES:
                raise UserError(f"{at}: is of {quoted(who)}, neither user (human), assistant (gpt) nor system; correct or delete it")
            found.append((at, ROLES[who], turn.get("content", turn.get("value"))))
        else:
            raise UserError(f"{at}: is {quoted(turn)}, not an object of who speaks and what; correct or delete it")
    return found


def pairs_of(turns, where):
    """Yield `(where, question, answer)`; the answer is None where the last question has none."""
    spoken = [(at, who, content) for at, who, content in turns if who != "system"]
    if not spoken:
        raise UserError(f"{where}: has no question; correct or delete it")
    for number, (at, who, _) in enumerate(spoken):
        if who != ("question", "answer")[number % 2]:
            raise UserError(f"{at}: is no conversation of questions and answers in turn; correct or delete it")
    for question, answer in zip_longest(spoken[::2], spoken[1::2]):
        asked = strip_placeholders(_text(question[2], question[0]), everywhere=True).strip()
        yield question[0], asked, None if answer is None or answer[2] is None else _bare(_text(answer[2], answer[0]))


def _bare(answer):
    """An answer without the thoughts before it and the marks around it."""
    answer = THOUGHTS.sub("", answer, count=1) if answer.lstrip().startswith("<think") else answer
    marked = ANSWER.fullmatch(answer)
    return (marked[1] if marked else answer).strip()


def _text(content, where):
    """The text of a turn: itself, or its text parts."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        content = "\n".join(str(part["text"]) for part in content if part.get("text") is not None)
    if not isinstance(content, str):
        raise UserError(f"{where}: what is said is {quoted(content)}, not text; correct or delete it")
    return content


def _image(record, turns, root, where):
    """`(facts, number of the first question about the picture)`.

    The facts are `{image: name below root}` and, of several, `images`; or `{drop: why}` where there is none, or it can't be told
    whose they are.
    """
    names = next((record[key] for key in IMAGES if record.get(key)), None)
    parts = [part for _, _, content in turns if isinstance(content, list) for part in content if isinstance(part, dict)]
    named = _image_files(names if isinstance(names, list) else [names], root, where)
    shown = [name for name in dict.fromkeys(_image_files(parts, root, where)) if name not in named]
    spoken = [(who, content) for _, who, content in turns if who != "system"]
    places = [number // 2 for number, (who, content) in enumerate(spoken) if _has_place(who, content)]
    images = named + shown
    if any(map(_shows_video, (record, *parts))):
        return {"drop": "with a video: take frames from it (python -m data.frames), and name these in images"}, 0
    if not images:
        return {"drop": "without a picture"}, 0
    if len(images) > 1 and any(places):
        return {"drop": "with pictures in several turns"}, 0
    if named and shown:
        return {"drop": "whose turns show another picture than the record names"}, 0
    return {"image": images[0], **({"images": images} if len(images) > 1 else {})}, min(places, default=0)


def _image_files(entries, root, where):
    """The names below root in entries of `images` or in content parts. Raises UserError for one that is no file's name."""
    found = [name for name in map(_image_name, entries) if name is not None]
    for name in found:
        if why := why_no_file(name) if isinstance(name, str) else "not the name of a file":
            raise UserError(f"{where}: image is {quoted(name)}, {why}")
    return [image_below(root, name) for name in found]


def _has_place(who, content):
    """Does a turn say where a picture of its own stands?"""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return any(isinstance(part, dict) and _shows(part) for part in content) or any(_has_place(who, text) for text in texts)
    return who == "question" and isinstance(content, str) and PLACEHOLDERS.search(content) is not None


def _shows(part):
    return part.get("type", "text") != "text" or any(part.get(key) is not None for key in PICTURE_KEYS)


def _shows_video(part):
    return part.get("type") in VIDEOS or any(part.get(key) for key in VIDEOS)


def _image_name(image):
    """The name in an entry of `images`, or in a content part: text, `{path}`, `{image}`, `{image_url: {url}}`; None where there is none."""
    for key in PICTURE_KEYS:
        image = image.get(key, image) if isinstance(image, dict) else image
    nameless = isinstance(image, dict) and (image.get("type") in ("text", "image", "image_url") or "text" in image or _shows_video(image))
    return None if nameless else image


def without_prefix(question, prefix):
    """`(question without an instruction before it, whether it stood there)`."""
    found = bool(prefix) and re.match(re.escape(prefix.strip()) + r"(?!(?<=\w)\w)", question) is not None  # at a word's edge
    return (question[len(prefix.strip()) :].strip() if found else question), found


def whole_sentences(prefix):
    """The sentences that a common beginning of questions holds, or "" where that is no instruction but a first word or two."""
    end = max(prefix.rfind(sign) for sign in (". ", ".\n", ": ", ":\n"))
    return prefix[: end + 1].strip() if end >= LEAST_PREFIX else ""


def read_surgcheck(request):
    """SurgCheck (2026): laparoscopy, one question in two wordings; licence: non-commercial research (to be checked)

    ailab-kyunghee/SurgCheck of IPCAI 2026, https://github.com/ailab-kyunghee/SurgCheck (to be checked). SRC is the folder
    data/full with *_original.jsonl and *_less_biased.jsonl, or one such file; images: Endoscapes' frames, by --images. The
    instruction before each question goes. `wording` is original or less_biased, `pair` is the same for the two wordings of a
    question; `task` is the source's sub_sub_tag, `cue` its sub_tag; group: the video, which the image's name begins with.
    Official split: as in the file's name.
    """
    paths = [request.src] if request.src.is_file() else sorted(request.src.glob("*_*.jsonl"))
    if not paths:
        raise UserError(f"{request.src}: has no *_original.jsonl or *_less_biased.jsonl; give the folder data/full")
    root = request.images or paths[0].parent
    request.strip_prefix = request.strip_prefix or SURGCHECK_INSTRUCTION
    return root, (found for path in paths for found in _surgcheck_rows(path, root, request))


SURGCHECK_INSTRUCTION = "You are an assistant with surgical expertise. Given a surgical scene, answer the question in 1-5 words."


def _surgcheck_rows(path, root, request):
    split = source.split_in_name(path)
    wording = "less_biased" if "less" in path.stem else "original"
    for number, (where, row) in enumerate(conversation_rows(path, root, request)):
        tags = {"task": row.pop("sub_sub_tag", None), "cue": row.pop("sub_tag", None), "main_tag": row.pop("main_tag", None)}
        row.pop("ori_img_tag", None)
        video = os.path.basename(row.get("image", "")).split("_")[0]
        yield where, {**row, **tags, "group": video, "split": split, "wording": wording, "pair": f"{split}-{number}"}
