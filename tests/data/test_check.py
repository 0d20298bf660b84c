"""The data doctor: what it counts, what it warns of, and what --fix leaves.

python -m pytest tests/data/test_check.py -v
"""

import json
import os
import random
import subprocess
from collections import Counter

import pytest
from conftest import ROOT, TINY_MODEL
from data_sets import chain, eight_pictures, file_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from quick_python import quick_python
from user_copy import SCENES, first_scenes

from config import Config, load_config
from data import check as check_module
from data import personal
from data.check import (
    answer_lengths,
    cheap_tokenizer,
    check,
    clean,
    count_rows,
    describe,
    finding_lines,
    fix,
    personal_rows,
    read_raw,
    shared_between,
    warnings_before_training,
)  # fmt: skip
from data.image_copies import Picture, look_at, look_at_images, near_pairs, same_pictures
from data.readers import convert
from data.rows import read_rows
from data.split import split_jsonl
from files import UserError, sha256, write_jsonl


def row(image="a.jpg", question="Is there text?", answer="yes", **extra):
    return {"image": image, "question": question, "answer": answer, **extra}


def raw(tmp_path, rows, name="rows.jsonl"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in rows))
    return path


def counts(tmp_path, rows):
    return count_rows(read_raw(raw(tmp_path, rows)))


def plain_rows(images=40, prefix="", patients=False):
    """Two questions an image: one of two answers, and one of three colours. patients: of one each."""
    return [
        item | ({"group": f"P{prefix}{number}"} if patients else {})
        for number in range(images)
        for item in (
            row(f"{prefix}{number}.jpg", "Is there text?", ("yes", "no")[number % 2]),
            row(f"{prefix}{number}.jpg", "What color is it?", ("pink", "red", "white")[number % 3]),
        )
    ]


# --- rows ---


def test_duplicates_and_conflicts(tmp_path):
    found = counts(tmp_path, [
        row(),
        row(question="is  there TEXT?", answer="Yes."),  # a duplicate in other case and spacing
        row(answer="no"),  # a conflict
        row(image="b.jpg", question="Colors?", answer="pink; red"),
        row(image="b.jpg", question="Colors?", answer="red;pink"),  # a duplicate in another order
        row(image="c.jpg", question="Which?", answer="A", options=["x", "y"]),
        row(image="c.jpg", question="Which?", answer="B", options=["x", "z"]),  # other options: another question
        row(image="c.jpg", question="Which?", answer="A", options=["y", "x"]),  # and so is another order
    ])  # fmt: skip
    assert (found["rows"], found["images"], found["distinct_triples"], found["duplicates"]) == (8, 3, 6, 2)
    assert (found["conflicting_pairs"], found["conflicting_rows"], found["junk_rows"]) == (1, 3, 0)
    assert found["questions_per_image"] == {"min": 1, "median": 1, "max": 3, "mean": 1.67}


def test_letters_and_separators_make_no_conflict(tmp_path):
    said, colors = ["B", "Snare", "B: snare", "A", "A: snare"], ["red, pink", "pink;Red"]
    which = {"question": "Which?", "options": ["A: Forceps", "B: Snare"]}
    rows = [row(answer=answer, **which) for answer in said] + [row(question="Colors?", answer=answer) for answer in colors]
    found = counts(tmp_path, rows)
    assert (found["distinct_triples"], found["duplicates"], found["conflicting_pairs"], found["conflicting_rows"]) == (4, 3, 1, 5)


def test_answers_that_look_like_lists_are_counted_with_their_separator(tmp_path):
    train = [row(f"{n}.jpg", "Which tools?", ("clip, sponge", "Sponge, clip", "clip", "none")[n % 4]) for n in range(40)]
    train += [row(f"{n}.jpg", "Which organs?", ("stomach; colon", "stomach, ileum", "yes, stomach", "1,5 cm")[n % 4]) for n in range(8)]
    val = [row("v.jpg", "Who?", "Smith, John"), row("v.jpg", "Which tools?", "sponge, clip")]
    paths = {"train": raw(tmp_path, train, "t.jsonl"), "val": raw(tmp_path, val, "v.jsonl")}
    report = check(paths, Config(), tokens=False)
    assert report["answers"]["lists"] == {
        "train": {
            ",": {"rows": 22, "as_lists": 20, "example": "stomach, ileum"}, ";": {"rows": 2, "as_lists": 2, "example": None},
        },
        "val": {",": {"rows": 2, "as_lists": 1, "example": "Smith, John"}},
    }  # fmt: skip
    lines = list(describe(report))
    assert "  answers that look like lists: 22 with ',' (20 taken as lists), 2 with ';' (2 taken as lists)" in lines
    assert [f["text"] for f in report["findings"] if "lists" in f["text"]] == [
        f"{split}: {count} answers look like lists with ',' but compare as text, such as '{example}': "
        "training answers don't bear it out; write '; ' if they are lists"
        for split, count, example in (("train", 2, "stomach, ileum"), ("val", 1, "Smith, John"))
    ]


@pytest.mark.parametrize(("bad", "severity"), [(1, "note"), (2, "WARNING")])
def test_answers_that_training_leaves_out_are_counted(tmp_path, bad, severity):
    rows = [row(f"{n}.jpg", "Which?", "A", options=["x", "y"], id=f"r{n}") for n in range(100)]
    rows[-bad:] = [{**item, "answer": "C"} for item in rows[-bad:]]
    report = check({"train": raw(tmp_path, rows)}, Config(), tokens=False)
    assert report["answers"]["forbidden"] == {"rows": bad, "first": [[f"r{n}", "C"] for n in range(100 - bad, 100)]}
    assert {"severity": severity, "text": (
        f"train: {bad} of 100 rows ({bad}.0%) have an answer that their options or constraint forbid, "
        f"and aren't trained on, first 'C' (id 'r{100 - bad}'); correct them"
    )} in report["findings"]  # fmt: skip


def test_junk_is_counted_and_never_fatal(tmp_path):
    lines = [
        row(question="none", answer="nan"),
        row(question=None),
        row(answer=" "),
        row(answer=None),
        row(answer="."),
        row(answer=3),
        row(image=None),
        '{"question": "q"',
        "[1, 2]",
        '{"image": "a.jpg", "question": "q \\ud800", "answer": "yes"}',
        row(options="A"),
        row(options=["x", "X"]),
        row(question="Is <image> a polyp?"),
        row(answer="none"),  # an answer: there is no polyp
    ]
    found = counts(tmp_path, lines)
    assert found["junk"] == {
        "without an answer": 3, "without a question": 2, "not a JSON object": 3,
        "with options that aren't a list of different texts": 2, "with a value that isn't text": 1, "without an image": 1,
        "with a place for a picture inside the question": 1,
    }  # fmt: skip
    assert (found["rows"], found["junk_rows"], found["first_junk_line"]) == (14, 13, 1)


def test_rows_are_read_as_training_reads_them(tmp_path):
    """Behind a byte order mark, with Unicode's own line end in a text, and without another program's place for a picture."""
    rows = [row(question="Is it\u2028text?"), row("b.jpg", "<image>\nIs there text?"), row("b.jpg"), row(group=1.5)]
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows)
    (tmp_path / "rows.jsonl").write_text("\ufeff" + text, encoding="utf-8")
    found = count_rows(read_raw(tmp_path / "rows.jsonl"))
    assert (found["rows"], found["duplicates"], found["junk"]) == (4, 1, {"with a group that isn't one name": 1})


def test_constant_and_single_questions(tmp_path):
    rows = [row(f"{n}.jpg", "Any finding?", "no") for n in range(4)] + [row("0.jpg", "Any finding?", "no")]
    rows += [row("0.jpg", "Seen once?"), row("0.jpg", "Two?", "1"), row("1.jpg", "two", "2")]
    found = counts(tmp_path, rows)
    rows += [row("2.jpg", "twice?"), row("3.jpg", "twice?", "no")]
    assert (found["questions"], found["questions_seen_once"]) == (3, 1) == (counts(tmp_path, rows)["questions"] - 1, 1)
    assert (found["constant_questions"], found["constant_rows"]) == (1, 5)
    assert found["constant_example"] == "any finding"


def test_repeated_ids_and_groups(tmp_path):
    found = counts(tmp_path, [row(id="1", group="p1"), row("b", group=2), row("c", id=1), row("d", id="x", group="2")])
    assert (found["repeated_ids"], found["groups"]) == (2, 2)  # the second row has no id and is number 1


WHOLE_REPORT = """\
train: train.jsonl
  rows 112, images 13, groups 0
  questions per image 8.4 (1-9)
  distinct (image, question, answer) 111, duplicates 1
  conflicting (image, question) pairs 1 (2 rows)
  junk rows 1 (1 without an answer)
  questions 11, seen once 0, with one answer only 0 (0 rows)
  types yes_no 23, color 7, count_numeric 21, size_numeric 10, mcq 42, open_ended 8
  rows with a constraint 23
  rows without one 88 (88 of questions with fewer than 30 training rows or 5 groups, 0 of questions answered freely)
  spellings folded 0
  like personal data, answers: name 'Dr. Huber' (id 108)
  answers that look like lists: 6 with ';' (6 taken as lists)
  answer tokens 2-8 (median 2), over max_new_tokens=4: 15
val: val.jsonl
  rows 54, images 6, groups 0
  questions per image 9.0 (9-9)
  distinct (image, question, answer) 54, duplicates 0
  conflicting (image, question) pairs 0 (0 rows)
  junk rows 0
  questions 11, seen once 0, with one answer only 0 (0 rows)
  types yes_no 10, color 4, count_numeric 11, size_numeric 5, mcq 19, open_ended 5
  rows with a constraint 9
  spellings folded 0
  answers that look like lists: 6 with ';' (6 taken as lists)
  answer tokens 2-8 (median 2), over max_new_tokens=4: 7
types are read from words of en (data.language), and corrected by what training rows answer
shared by train and val: names 1, groups 0, copies 0, near-duplicates 0
images: 18 read, 0 missing, 0 unreadable
  sizes of 1 kinds: 224x224 (18)
  image tokens 16-16 (mean 16.0)
  near-duplicates 0 (dHash, at most 8 of 128 bits differ)
  turned by their EXIF orientation 0, without contrast 0
val, by type             rows  reachable  blind prior
yes_no                     10    100.00%       50.00%
color                       4    100.00%        0.00%
count_numeric              11    100.00%       45.45%
size_numeric                5    100.00%        0.00%
mcq                        19    100.00%       31.58%
open_ended                  5    100.00%        0.00%
all                        54    100.00%       29.63%
WARNING: train and val share 1 images (9 rows of val), such as val/0000.jpg; split anew with data.split
WARNING: train: 111 of 112 rows (99.1%) name no patient or video, so data.min_groups counts their pictures, and what one patient \
alone has may pass; add it as group, or be sure that no two pictures are of one patient
WARNING: train: 15 unconstrained answers need more than predict.max_new_tokens=4 tokens and will be cut, so wrong; set \
predict.max_new_tokens=auto (the longest training answer)
WARNING: val: 7 unconstrained answers need more than predict.max_new_tokens=4 tokens and will be cut, so wrong; set \
predict.max_new_tokens=auto (the longest training answer)
WARNING: train: answers hold what looks like personal data (name in 1 row; first id '108'); look, and take it out before anything \
goes out (data/personal.yaml says what is looked for)
note: train: 1 of 112 rows (0.9%) are junk (1 without an answer; first on line 111); remove them with --fix
note: train: 1 of 112 rows (0.9%) are duplicates, which weight their questions; remove them with --fix
note: train: 1 (image, question) pairs have several answers; --fix keeps the majority's
note: train: 88 of 111 rows (79.3%) are unconstrained: 88 of them ask questions with fewer than 30 training rows or 5 groups, 0 are \
answered freely; get more rows of these, or list their answers (question types of your own, in README)
"""


def test_the_whole_report_on_scenes_of_the_demo(tmp_path):
    """Twelve scenes and six and four rows that somebody spoilt: a name for an answer, one twice, one lost, and one of val's."""
    train, val = first_scenes("train", 12), first_scenes("val", 6)
    train += [{**train[0], "answer": "Dr. Huber"}, dict(train[1]), {**train[2], "answer": None}, {**val[0], "answer": "no, well; yes"}]
    paths = {"train": raw(tmp_path, train, "train.jsonl"), "val": raw(tmp_path, val, "val.jsonl")}
    settings = [f"data.image_root={SCENES}", f"output_dir={tmp_path}", "predict.max_new_tokens=4"]
    report = check(paths, load_config(ROOT / "config_demo.yaml", settings), SCENES)
    lines = [line.replace(f"{tmp_path}/", "") for line in (*describe(report), *finding_lines(report))]
    assert lines == WHOLE_REPORT.splitlines()


# --- between splits ---


def test_images_and_groups_shared_by_name(tmp_path):
    train = [row("a.jpg", group="p1"), row("b.jpg", group="p2")]
    val = [row("a.jpg", "q"), row("a.jpg", "r"), row("c.jpg", group="p2"), row("d.jpg")]
    paths = {"train": raw(tmp_path, train, "train.jsonl"), "val": raw(tmp_path, val, "val.jsonl")}
    report = check(paths, Config(), tokens=False)
    assert report["between"] == {"train and val": {"names": 1, "groups": 1, "rows": 3, "example": "a.jpg"}}
    assert report["findings"][0] == {
        "severity": "WARNING",
        "text": "train and val share 1 images, 1 groups (3 rows of val), such as a.jpg; split anew with data.split",
    }


def test_a_patient_in_two_spellings_is_shared_and_leading_zeros_are_a_warning(tmp_path):
    train = [row("a.jpg", group="P1"), row("b.jpg", group="p1 "), row("e.jpg", group=7)]
    val = [row("c.jpg", group="p1\u200b"), row("d.jpg", group="007")]
    paths = {"train": raw(tmp_path, train, "train.jsonl"), "val": raw(tmp_path, val, "val.jsonl")}
    report = check(paths, Config(), tokens=False)
    assert report["between"]["train and val"] | {"example": ""} == {"names": 0, "groups": 1, "rows": 1, "example": ""}
    assert [report["splits"][split]["groups"] for split in paths] == [2, 2]
    warnings = [finding["text"] for finding in report["findings"] if finding["severity"] == "WARNING"]
    assert "groups 007 and 7 count as two; if they are one patient or video, write them alike and split anew" in warnings


def picture(seed, size=(200, 160)):
    greys = bytes(random.Random(seed).choices(range(60, 200), k=72))
    return Image.frombytes("L", (9, 8), greys).resize(size, Image.Resampling.BICUBIC)


def test_copies_and_near_duplicates_between_splits(tmp_path):
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    picture(1).resize((120, 96)).save(tmp_path / "near.jpg", quality=60)
    for name, grey in (("black.png", 0), ("dark.png", 3)):
        Image.new("L", (50, 50), grey).save(tmp_path / name)  # without contrast: compared by their bytes alone
    rows = {
        "train": read_raw(raw(tmp_path, [row(f"{n}.png") for n in range(3)] + [row("black.png")])),
        "val": read_raw(raw(tmp_path, [row(n) for n in ("3.png", "copy.png", "near.jpg", "0.png", "dark.png")])),
    }
    pictures = look_at_images(tmp_path, {name for items in rows.values() for item in items for name in item.images})
    found = shared_between(rows, pictures)["train and val"]
    assert found == {"names": 1, "groups": 0, "copies": 1, "near_duplicates": 1, "rows": 3, "example": "0.png"}
    assert set(map(frozenset, same_pictures(pictures))) == {frozenset(pair) for pair in (("0.png", "copy.png"), ("1.png", "near.jpg"))}


@settings(max_examples=50, deadline=None)
@given(
    hashes=st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=12),
    flips=st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 127), max_size=12)), max_size=8),
)
def test_near_pairs_are_those_within_eight_bits(hashes, flips):
    others = [hashes[at % len(hashes)] ^ sum(1 << bit for bit in bits) for at, bits in flips]
    expected = [(i, j) for i, a in enumerate(hashes) for j, b in enumerate(others) if (a ^ b).bit_count() <= 8]
    assert list(near_pairs(hashes, others)) == expected


def test_near_pairs_of_more_pictures_than_are_compared_at_a_time():
    hashes = [random.Random(number).getrandbits(128) for number in range(600)]
    assert list(near_pairs(hashes, [hashes[599] ^ 1, hashes[0], hashes[300]])) == [(0, 1), (300, 2), (599, 0)]


def test_real_frames_saved_anew_are_near_duplicates_and_other_clips_are_not(tmp_path, shared):
    frames = sorted((shared / "real-data" / "surgvu25").glob("*/*.jpg"))
    firsts = {path.parent.name: path for path in frames}
    for clip, path in firsts.items():
        (tmp_path / f"{clip}.jpg").write_bytes(path.read_bytes())
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(tmp_path / f"{clip}_small.jpg", quality=40)
    pictures = look_at_images(tmp_path, [path.name for path in tmp_path.iterdir()])
    assert len(firsts) == 6
    pairs = sorted(sorted(pair) for pair in same_pictures(pictures))
    assert pairs == [[f"{clip}.jpg", f"{clip}_small.jpg"] for clip in sorted(firsts)]


def test_images_missing_or_broken_are_counted_by_reason(tmp_path):
    picture(0).save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("no image")
    assert look_at(tmp_path, "good.jpg").size == (200, 160)
    assert look_at(tmp_path, "gone.jpg").problem == "missing"
    assert look_at(tmp_path, "../x.jpg").problem == "outside the images' folder"
    cut = look_at(tmp_path, "cut.jpg").problem
    assert cut.startswith("unreadable (") and "truncated" in cut
    assert look_at(tmp_path, "text.jpg").problem == "unreadable (not an image)"
    path = raw(tmp_path, [row(name) for name in ("good.jpg", "cut.jpg", "text.jpg", "gone.jpg")])
    facts = check({"train": path}, Config(), tmp_path, tokens=False)["images"]
    assert (facts["read"], facts["missing"], facts["unreadable"]) == (1, 1, 2)
    assert facts["megapixels"] == {"min": 0.032, "median": 0.032, "max": 0.032, "mean": 0.03}
    assert facts["sizes"] == {"200x160": 1} and facts["image_tokens"]["max"] == 7 * 6  # 196 x 168 pixels


def test_the_recorded_split_is_shown_and_a_change_found(tmp_path):
    write_jsonl(tmp_path / "all.jsonl", plain_rows(60))
    split = split_jsonl(tmp_path / "all.jsonl", tmp_path)
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("train", "val")}
    report = check(paths, Config(), tokens=False)
    assert report["recorded_split"] == {name: {"sha256": split["sha256"], "intact": True} for name in paths}
    with open(paths["val"], "a") as file:
        file.write(json.dumps(row("new.jpg")) + "\n")
    report = check(paths, Config(), tokens=False)
    assert report["recorded_split"]["train"]["intact"] and not report["recorded_split"]["val"]["intact"]
    assert "val.jsonl has changed since data.split wrote it" in report["findings"][0]["text"]
    (tmp_path / "split.json").write_text(json.dumps({**split, "sha256": "0" * 64}))
    assert not check(paths, Config(), tokens=False)["recorded_split"]["train"]["intact"], "a record that contradicts itself"


# --- answers ---


def test_reachability_and_blind_prior_per_type(tmp_path):
    val = [row(f"v{n}.jpg", "What color is it?", ("pink", "green")[n % 2]) for n in range(4)]
    val += [row(f"v{n}.jpg", "Is there text?", "yes") for n in range(3)]
    paths = {"train": raw(tmp_path, plain_rows(99), "t.jsonl"), "val": raw(tmp_path, val, "v.jsonl")}
    report = check(paths, Config(), tokens=False)
    answers = report["answers"]
    assert answers["types"]["val"] == {"yes_no": 3, "color": 4}
    assert answers["reachable"]["per_type"]["color"] == {"rows": 4, "reachable": 2, "share": 0.5}
    assert answers["reachable"]["share"] == 5 / 7
    assert answers["reachable"]["commonest_miss"] == [(("What color is it?", "green"), 2)]
    blind = answers["blind_prior"]["per_type"]  # yes 50 of 99; pink, red, white 33 each, the alphabetically first
    assert blind == {"yes_no": {"count": 3, "correct": 3, "accuracy": 1.0}, "color": {"count": 4, "correct": 2, "accuracy": 0.5}}
    assert [f["text"] for f in report["findings"] if "reach" in f["text"]] == [
        "val: the constraints reach 2 of 4 answers (50.0%) of type color; no model can score more"
    ]


def test_the_blind_prior_is_judged_as_predictions_are(tmp_path):
    """By another reference, an option's letter, a question's own separator, and the configured tolerance: right each time."""
    train = [row(f"{n}.jpg", "Which?", "A", options=["hook", "clip"]) for n in range(3)]
    train += [row(f"{n}.jpg", "Is there text?", "yes") for n in range(3)] + [row(f"{n}.jpg", "What size is it?", "10mm") for n in range(3)]
    train += [row(f"{n}.jpg", "Which tools?", ("clip, sponge", "sponge", "clip", "clip, sponge")[n % 4]) for n in range(40)]
    val = [row("a.jpg", "Which?", "A", options=["hook", "clip"]), row("b.jpg", "Is there text?", "some", answers=["some", "yes"])]
    val += [row("a.jpg", "What size is it?", "11mm"), row("a.jpg", "Which tools?", "sponge, clip")]
    report = report_on(tmp_path, train, "eval.numeric_rel_tol=0.1", val=val)
    blind = report["answers"]["blind_prior"]
    assert blind["micro"] == 1.0 and sum(facts["correct"] for facts in blind["per_type"].values()) == 4


def test_spellings_folded_are_counted_per_split(tmp_path):
    train = [row(f"{n}.jpg", "Where?", "lower-right") for n in range(40)] + [row("x.jpg", "Where?", "lower-rigth")]
    report = check({"train": raw(tmp_path, train)}, Config(), tokens=False)
    assert report["answers"]["spellings_folded"] == {"train": {"lower-rigth → lower-right": 1}}


def test_answer_lengths_are_those_that_training_supervises():
    from transformers import AutoTokenizer

    from dataset import encode_answer

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    answers = ["yes", "pink; red", "11-20mm", "biopsy forceps", "center; center-left; lower-right", "é ü"]
    cfg = load_config(ROOT / "config_demo.yaml", ["predict.max_new_tokens=3"])
    enriched = [{"answer": answer, "answer_candidates": [answer] * (answer == "11-20mm") or None} for answer in answers]
    lengths = [len(encode_answer(tokenizer, answer)) for answer in answers]
    found = answer_lengths({"train": enriched}, cfg)
    assert (found["tokens"]["train"]["min"], found["tokens"]["train"]["max"]) == (min(lengths), max(lengths))
    assert found["tokens"]["train"]["mean"] == round(sum(lengths) / len(lengths), 2)
    longer = sum(length > 3 for length in lengths)
    assert found["longer"]["train"] == longer > 2 and found["longer_unconstrained"]["train"] == longer - 1
    assert cheap_tokenizer("no/such-model") is None
    prefixed = cfg.model_copy(update={"answer_prefix": "Answer: "})
    longest = max(len(encode_answer(tokenizer, answer, "Answer: ")) for answer in answers)
    assert answer_lengths({"train": enriched}, prefixed)["tokens"]["train"]["max"] == longest > max(lengths)


# --- what is a warning ---


@pytest.mark.parametrize(("bad", "severity"), [(1, "note"), (2, "WARNING")])
def test_over_one_percent_of_junk_is_a_warning(tmp_path, bad, severity):
    rows = plain_rows(50)[bad:] + [row(question="none", answer="nan")] * bad
    rows = [{**item, "image": f"{n} {item['image']}"} for n, item in enumerate(rows)]  # no duplicates
    found = check({"train": raw(tmp_path, rows)}, Config(), tokens=False)["findings"]
    assert [f["severity"] for f in found if "junk" in f["text"]] == [severity]


@pytest.mark.parametrize(("copies", "severity"), [(5, "note"), (6, "WARNING")])
def test_over_five_percent_of_duplicates_is_a_warning(tmp_path, copies, severity):
    rows = plain_rows(50, patients=True)
    rows = [*rows[copies:], *[rows[copies]] * copies]
    found = check({"train": raw(tmp_path, rows)}, Config(), tokens=False)["findings"]
    text = f"train: {copies} of 100 rows ({copies}.0%) are duplicates, which weight their questions; remove them with --fix"
    assert found == [{"severity": severity, "text": text}]


def test_repeated_ids_and_questions_with_one_answer_are_said(tmp_path):
    rows = [row(f"{n}.jpg", ("Any finding?", "Is it?")[n % 2], ("no", "yes")[n % 4 == 1], group=n, id=str(n)) for n in range(60)]
    rows += [row("a.jpg", group="a", id="3"), row("b.jpg", group="b", id="4")]
    assert texts(report_on(tmp_path, rows)) == [
        "WARNING: train: 2 rows repeat an id, which training refuses; give every row its own",
        "note: train: 32 of 62 rows (51.6%) ask questions that have one answer only, so accuracy on them says nothing, "
        "such as 'any finding'",
    ]


def test_pictures_are_counted_by_what_is_seen_on_them():
    """By hand; two hashes differ in one bit, the others in 64 or more."""
    left = (1 << 64) - 1
    pictures = {
        "a": Picture((100, 50), "1", 0, turned=True), "b": Picture((100, 50), "2", None), "c": Picture((60, 60), "3", left),
        "d": Picture((140, 140), "4", left ^ 1), "e": Picture((300, 200), "5", (1 << 128) - 1),
        "x": Picture(problem="unreadable (not an image)"), "gone": Picture(problem="missing", there="Gone"),
        "b2": Picture(problem="unreadable (cut)"),
    }  # fmt: skip
    facts = check_module.check_pictures(pictures, Config())
    assert facts == {
        "read": 5, "missing": 1, "unreadable": 2,
        "problems": {"b2": "unreadable (cut)", "gone": "missing", "x": "unreadable (not an image)"},
        "misspelled": 1, "misspelled_first": [["gone", "Gone"]], "turned": 1, "without_contrast": 1, "without_contrast_first": ["b"],
        "sizes": {"100x50": 2, "60x60": 1, "140x140": 1, "300x200": 1}, "kinds_of_size": 4,
        "megapixels": {"min": 0.004, "median": 0.005, "max": 0.06, "mean": 0.02},
        "image_tokens": {"min": 4, "median": 8, "max": 77, "mean": 24.4}, "near_duplicates": 2, "max_distance": 8,
    }  # fmt: skip
    assert list(facts["problems"]) == ["b2", "gone", "x"], "one of each kind first"
    assert list(check_module._describe_pictures(facts)) == [
        "images: 5 read, 1 missing, 2 unreadable",
        "  sizes of 4 kinds: 100x50 (2), 60x60 (1), 140x140 (1), …",
        "  image tokens 4-77 (mean 24.4)",
        "  near-duplicates 2 (dHash, at most 8 of 128 bits differ)",
        "  turned by their EXIF orientation 1, without contrast 1",
    ]
    assert list(check_module._picture_findings({"images": facts})) == [
        (
            "WARNING",
            "1 images missing, 2 unreadable or unusable, such as b2: unreadable (cut); gone: missing; x: unreadable (not an image); "
            "training refuses them",
        ),
        (
            "WARNING",
            "1 of the missing images are there under another spelling, such as gone, which is Gone; correct the rows, or rename the files",
        ),
        ("note", "1 images have no contrast (black, white or one colour), such as b; nothing can be seen on them"),
    ]


def test_image_tokens_are_of_the_models_own_patches(tmp_path):
    """Qwen3-VL's are of 32 pixels a side: 300 x 200 is 9 x 6 of them, and 11 x 7 of Qwen2-VL's 28."""
    vision = {"patch_size": 16, "spatial_merge_size": 2}
    for name, config in (("qwen3", {"vision_config": vision}), ("odd", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    for model, tokens in ((tmp_path / "qwen3", 54), (tmp_path / "odd", 77), (TINY_MODEL, 77), ("no/such-model", 77)):
        facts = check_module.check_pictures({"a": Picture((300, 200), "1", 0)}, Config(model_name=str(model)))
        assert facts["image_tokens"] == {"min": tokens, "median": tokens, "max": tokens, "mean": tokens}


def test_clean_data_has_no_findings(tmp_path):
    rows = plain_rows(patients=True)
    paths = {"train": raw(tmp_path, rows, "t.jsonl"), "val": raw(tmp_path, plain_rows(20, "v"), "v.jsonl")}
    assert check(paths, Config(), tokens=False)["findings"] == []


def test_without_patients_the_doctor_warns_that_pictures_are_counted(tmp_path):
    """Two frames of one patient would let a name into what goes out."""
    rows = [{**item, "group": (" ", None)[number % 2]} for number, item in enumerate(plain_rows(39))]
    paths = {"train": raw(tmp_path, rows, "t.jsonl")}
    (found,) = check(paths, Config(), tokens=False)["findings"]
    text = "train: 78 of 78 rows (100.0%) name no patient or video, so data.min_groups counts their pictures"
    assert found["severity"] == "WARNING" and found["text"].startswith(text) and "add it as group" in found["text"]
    assert check(paths, Config(data={"min_groups": 1}), tokens=False)["findings"] == [], "whoever keeps everything need not count"


def test_only_junk_is_one_clear_error(tmp_path):
    path = raw(tmp_path, [row(question="none", answer="nan")])
    with pytest.raises(UserError, match=r"rows.jsonl: has no usable rows; 1 are junk \(1 without a question\)$"):
        check({"train": path}, Config(), tokens=False)


# --- cleaning ---


def test_fix_removes_what_it_says(tmp_path):
    rows = [
        row(note="kept"), row(), row(answer="no"),  # two against one
        row("b.jpg"), row("b.jpg", answer="no", id="tie"),
        row(question="none", answer="nan"), "{",
        row("c.jpg", id="c", box=[1, 2.5]), row("c.jpg", answer="Yes"),
    ]  # fmt: skip
    path = raw(tmp_path, rows, "train.jsonl")
    before = sha256(path)
    changes = fix({"train": path}, tmp_path / "clean")
    assert changes["train"] == {
        "rows_before": 9, "rows_after": 2, "source_sha256": before,
        "removed": {"junk": 2, "conflict_minority": 1, "conflict_tie": 2, "duplicates": 2},
    }  # fmt: skip
    assert json.loads((tmp_path / "clean" / "fixed.json").read_text()) == changes
    kept = [json.loads(line) for line in (tmp_path / "clean" / "train.jsonl").read_text().splitlines()]
    assert kept == [{**row(note="kept"), "id": "0"}, row("c.jpg", id="c", box=[1, 2.5])]
    assert sha256(path) == before
    said = "2 of 9 rows; removed 2 junk, 2 duplicates, 1 outvoted and 2 tied answers"
    assert list(check_module.describe_fix(tmp_path / "clean", changes)) == [f"{tmp_path / 'clean' / 'train'}.jsonl: {said}"]


def test_fix_never_writes_in_place(tmp_path):
    path = raw(tmp_path, [row()], "val.jsonl")
    other = raw(tmp_path / "else", [row()], "t.jsonl")
    with pytest.raises(UserError, match="val.jsonl is an input; choose another folder"):
        fix({"train": other, "val": path}, tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["else", "val.jsonl"]


values = st.none() | st.sampled_from(["", "nan", "none", "yes", "No.", "a; b", "b;a", 3])


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(["a", "b", None]), values, values), max_size=25))
def test_cleaned_rows_are_clean_and_training_reads_them(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("clean")
    rows = [row("sure.jpg")] + [row(*item) for item in rows]
    kept, changes = clean(read_raw(raw(folder, rows)))
    assert changes["rows_before"] == len(rows) == len(kept) + sum(changes["removed"].values())
    write_jsonl(folder / "clean.jsonl", kept)
    assert len(list(read_rows(folder / "clean.jsonl"))) == len(kept)  # refuses what training refuses
    found = counts(folder, kept)
    assert (found["duplicates"], found["conflicting_pairs"], found["junk_rows"]) == (0, 0, 0)
    again, _ = clean(read_raw(raw(folder, kept)))
    assert again == kept


# --- the command, and before training ---


def run(*arguments, **options):
    command = [quick_python(), "-m", "data.check", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, **options)


def test_command_with_a_config_saves_its_report_and_strict_fails(tmp_path):
    raw(tmp_path, plain_rows(), "train.jsonl"), raw(tmp_path, plain_rows(20), "val.jsonl")
    (tmp_path / "c.yaml").write_text("data:\n  train_jsonl: train.jsonl\n  val_jsonl: val.jsonl\n  image_root: .\n  corrections: c.csv\n")
    (tmp_path / "c.csv").write_text("id,answer,who,why,split\n0,no,me,,val\n")
    done = run("--config", tmp_path / "c.yaml", "--no-images", "--fix", tmp_path / "clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert "shared by train and val: names 20, groups 0\nimages: not opened\n" in done.stdout
    warning = "WARNING: train and val share 20 images (40 rows of val), such as 0.jpg; split anew with data.split\n"
    assert warning in done.stdout and "\033" not in done.stdout
    assert f"{tmp_path / 'clean' / 'val.jsonl'}: 40 of 40 rows; removed 0 junk, 0 duplicates" in done.stdout
    assert [json.loads(line)["answer"] for line in open(tmp_path / "clean" / "val.jsonl")][:3] == ["no", "pink", "no"], "corrected"
    report = json.loads((tmp_path / "outputs" / "data" / "check.json").read_text())
    assert report["between"]["train and val"]["names"] == 20 and report["images"] is None
    assert report["splits"]["val"]["file"] == "val.jsonl", "no folder of this machine"
    assert run("--config", tmp_path / "c.yaml", "--no-images", "--strict").returncode == 1


def test_command_without_a_config_writes_nothing(tmp_path):
    raw(tmp_path, plain_rows(patients=True), "t.jsonl"), raw(tmp_path, plain_rows(20, "v"), "v.jsonl")
    done = run("--train", "t.jsonl", "--val", "v.jsonl", "--strict", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("no findings\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.jsonl", "v.jsonl"]
    german = run("--train", "t.jsonl", "data.language=de", cwd=tmp_path)
    assert "types are read from words of de (data.language)" in german.stdout, "its settings count without a configuration, too"
    missing = run("--train", "gone.jsonl", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (1, "error: gone.jsonl: no such file\n")


def test_warnings_before_training_reuse_a_report_that_still_holds(tmp_path):
    raw(tmp_path, plain_rows(), "train.jsonl"), raw(tmp_path, plain_rows(2), "val.jsonl")
    settings = ["data.train_jsonl=train.jsonl", "data.val_jsonl=val.jsonl"]
    (tmp_path / "c.yaml").write_text(f"model_name: {TINY_MODEL}\n")
    cfg = load_config(tmp_path / "c.yaml", [*(s.replace("=", f"={tmp_path}/") for s in settings), "data.min_groups=1"])
    line = "WARNING: train and val share 2 images (4 rows of val), such as 0.jpg; split anew with data.split"
    assert warnings_before_training(cfg, ["train", "val"], None) == [line]
    saved = cfg.output_dir / "data" / "check.json"
    report = json.loads(saved.read_text())
    assert report["splits"]["val"]["file"] == "val.jsonl", "no folder of this machine"
    report["findings"] = [{"severity": "WARNING", "text": "as saved"}]
    saved.write_text(json.dumps(report))
    assert warnings_before_training(cfg, ["train", "val"], None) == ["WARNING: as saved"]
    saved.write_text("{")
    (tmp_path / "split.json").write_text("[]")  # another program's
    raw(tmp_path, plain_rows(3), "val.jsonl")
    assert warnings_before_training(cfg, ["train", "val"], None) == [line.replace("2 im", "3 im").replace("4 r", "6 r")]


def test_a_report_is_made_anew_where_what_decides_it_has_changed(tmp_path, monkeypatch):
    paths, table = {"train": raw(tmp_path, plain_rows(2))}, tmp_path / "c.csv"
    changes = ["model_name=other", "answer_prefix=' '", "data.max_unseen=0.3", "data.min_groups=1", "image.max_pixels=12544"]
    changes += ["predict.max_new_tokens=9", "eval.numeric_rel_tol=0.1", f"data.corrections={table}"]
    table.write_text("id,answer,who,why\n")
    made = [check_module.inputs(paths, load_config(None, settings), False) for settings in ([], *([text] for text in changes))]
    table.write_text("id,answer,who,why\n0,no,me,\n")
    made += [check_module.inputs(paths, load_config(None, changes[-1:]), images) for images in (False, True)]
    assert all(one != other for number, one in enumerate(made) for other in made[:number])
    monkeypatch.setattr("config.ROOT", tmp_path)  # where the code that enriches is another
    assert check_module.inputs(paths, load_config(), False)["rules"] != made[0]["rules"]


def test_training_prints_the_warnings_first(tmp_path, monkeypatch, capsys):
    """The images aren't there, so that the run ends right after."""
    import train_exp1

    paths = [raw(tmp_path, plain_rows(count), f"{count}.jsonl") for count in (40, 2)]
    config = tmp_path / "c.yaml"
    config.write_text(f"model_name: {TINY_MODEL}\ndata: {{train_jsonl: {paths[0].name}, val_jsonl: {paths[1].name}, image_root: .}}\n")
    monkeypatch.setattr("sys.argv", ["train_exp1.py", "--dry-run", "--config", str(config)])
    with pytest.raises(UserError, match="does not exist; correct the row or data.image_root"):
        train_exp1.main()
    assert "WARNING: train and val share 2 images (4 rows of val), such as 0.jpg; " in capsys.readouterr().out


# --- real data ---


@pytest.mark.slow("the doctor over 12,082 real rows")
def test_real_dirty_file_is_counted_as_it_is_known(tmp_path, shared):
    source = shared / "real-data" / "kvasir_vqa"
    convert("kvasir-vqa-json", source / "dirty_12082.json", tmp_path, keep_junk=True)
    paths = {"train": tmp_path / "all.jsonl", "val": source / "val.jsonl"}
    report = check(paths, load_config(ROOT / "config_demo.yaml"))
    keys = ("rows", "distinct_triples", "duplicates", "conflicting_pairs", "junk_rows", "images")
    assert [report["splits"]["train"][key] for key in keys] == [12082, 6899, 5183, 33, 10, 756]
    assert [report["splits"]["val"][key] for key in keys] == [8786, 8768, 18, 28, 9, 975]
    assert report["between"]["train and val"]["names"] == 109
    assert report["answers"]["reachable"]["share"] > 0.995
    assert Counter(finding["severity"] for finding in report["findings"])["WARNING"] == 3  # duplicates, leakage, no patients
    changes = fix(paths, tmp_path / "clean")
    assert changes["train"]["removed"] == {"junk": 10, "conflict_minority": 0, "conflict_tie": 132, "duplicates": 5112}
    assert len(list(read_rows(tmp_path / "clean" / "train.jsonl"))) == 6828


def test_the_doctor_looks_at_every_image(tmp_path):
    folder = eight_pictures(tmp_path)
    (folder / "broken.png").write_bytes(b"no picture")
    train = file_of(folder, *chain("ab", "ab", "ba", "c"), {"images": ["c.png", "broken.png"], "answer": "no"}).rename(folder / "t.jsonl")
    val = file_of(folder, *chain("db", "ef"))
    report = check({"train": train, "val": val}, Config(), folder, tokens=False)
    facts = report["splits"]["train"]
    assert (facts["rows"], facts["images"], facts["duplicates"], facts["conflicting_pairs"]) == (5, 4, 1, 0)
    assert facts["questions_per_image"]["max"] == 1, "questions about one list, in its order"
    assert report["between"]["train and val"] == {
        "names": 1, "groups": 0, "copies": 0, "near_duplicates": 0, "rows": 1, "example": "b.png"
    }  # fmt: skip
    assert report["images"]["unreadable"] == 1 and report["images"]["read"] == 6
    kept, changes = clean(read_raw(train))
    assert changes["removed"]["duplicates"] == 1 and [row["images"] for row in kept[:2]] == [["a.png", "b.png"], ["b.png", "a.png"]]


def test_file_names_of_every_image_are_searched_for_people(tmp_path):
    rows = read_raw(file_of(tmp_path, {"images": ["a.png", "Herr_Mueller/b.png"]}, {"image": "a.png"}))
    found = personal.count(personal_rows(rows))
    assert found["file names"]["rows"] == {"name": 1} and found["file names"]["first"][0][0] == "0"


# --- rows without a constraint, answers that would be cut, questions that nobody understands ---


def report_on(tmp_path, rows, *settings, val=None, tokens=False):
    paths = {"train": raw(tmp_path, rows, "t.jsonl")} | ({"val": raw(tmp_path, val, "v.jsonl")} if val else {})
    return check(paths, load_config(ROOT / "config_demo.yaml", list(settings)), tokens=tokens)


def texts(report):
    return [f"{finding['severity']}: {finding['text']}" for finding in report["findings"]]


def german(count, groups=True):
    return [
        row(f"{n}.jpg", question, answer, **({"group": f"P{n // 5}"} if groups else {}))
        for n in range(count)
        for question, answer in (("Welche Farbe hat der Polyp?", ("rosa", "rot")[n % 2]), ("Was ist zu sehen?", f"Befund {n}"))
    ]


def test_unconstrained_rows_are_counted_with_the_reason_and_what_helps(tmp_path):
    rows = [*plain_rows(40), *(row(f"{n}.jpg", "What is it?", ("hook", "clip")[n % 2]) for n in range(29))]
    rows += [row(f"{n}.jpg", "What is said?", f"text {n}") for n in range(35)]
    report = report_on(tmp_path, rows)
    assert report["answers"]["free"] == {"rows": 64, "few": 29, "varied": 35}
    (text,) = [text for text in texts(report) if "unconstrained" in text]
    assert text.startswith(
        "note: train: 64 of 144 rows (44.4%) are unconstrained: 29 of them ask questions with fewer than 30 training rows"
    )
    assert "get more rows of these, or list their answers (question types of your own, in README)" in text
    lines = list(describe(report))
    assert "  rows without one 64 (29 of questions with fewer than 30 training rows or 5 groups, 35 of questions answered freely)" in lines
    assert "types are read from words of en (data.language), and corrected by what training rows answer" in lines


def test_answers_of_four_patients_close_nothing_and_it_is_said(tmp_path):
    rows = [row(f"{n}.jpg", "What is it?", ("hook", "clip")[n % 2], group=f"P{n % 4}") for n in range(40)]
    assert report_on(tmp_path, rows)["answers"]["free"] == {"rows": 40, "few": 40, "varied": 0}
    rows = [row(f"{n}.jpg", "What is it?", ("hook", "clip")[n % 2], group=f"P{n % 9}") for n in range(29)]
    assert report_on(tmp_path, rows)["answers"]["free"] == {"rows": 29, "few": 29, "varied": 0}, "nor 29 rows of nine"


def test_questions_that_nobody_understood_are_a_warning_and_never_no_findings(tmp_path):
    (text,) = texts(report_on(tmp_path, german(20)))
    assert text.startswith(
        "WARNING: train: 40 of 40 rows (100.0%) are unconstrained: 40 of them ask questions with fewer than 30 training rows"
    )
    assert text.endswith("no question's type was understood, from words of en: see data.language")
    rows = [row(f"{n}.jpg", "Was ist zu sehen?", f"Befund {n}", group=n) for n in range(35)]
    (text,) = texts(report_on(tmp_path, rows))
    assert text.startswith("WARNING: train: 35 of 35 rows") and "0 of them ask questions with fewer" in text
    (text,) = texts(report_on(tmp_path, german(20), "data.language=de"))
    assert text.startswith("note: ") and "understood" not in text


def asked(question, answers, **extra):
    return [row(f"{n}.jpg", question, answer, **extra) for n, answer in enumerate(answers * 20)]


@pytest.mark.parametrize(
    ("rows", "settings", "severity", "said"),
    [
        (asked("Ist da Text?", ["ja", "nein"]), (), "WARNING", "train: 40 of 40 rows (100.0%) answer 'ja', 'nein', a yes or no of de"),
        (asked("Ist da Text?", ["ja", "nein"]), (), "WARNING", "(en); set data.language=de, or [en, de] for both"),
        (asked("Ist da Text?", ["ja", "nein"]), (), "note", "types come from the answers alone; no question's type was understood"),
        (asked("Ist da Text?", ["ja", "nein"], language="de"), (), "WARNING", "40 rows name a `language` (de 40)"),
        (asked("Ist da Text?", ["ja", "nein"], language="de"), ("data.language=de",), None, "language"),
        (asked("Ist da Text?", ["ja", "nein"]), ("data.language=de",), None, "data.language"),
        (asked("Where is it?", ["left", "right"]), (), "note", "no question's type was understood, from words of en: see data.language"),
        (asked("Where is it?", ["left", "right"]), (), None, "yes or no of"),
        ([*asked("Where is it?", ["left", "right"]), *asked("Is it?", ["yes", "no"])], (), None, "understood"),
        ([row("0.jpg", "Where is it?", "ja"), *asked("Where is it?", [*"abcde"])[1:]], (), None, "yes or no of"),  # one of 100 is a slip
        ([row(f"{n}.jpg", "Is it red, and why?", f"text {n}") for n in range(40)], (), "WARNING", "understood"),
        ([row(f"{n}.jpg", "What size?", f"text {n}") for n in range(40)], (), None, "understood"),
    ],
)  # fmt: skip
def test_a_language_that_is_not_read_is_told_by_what_is_asked_and_answered(tmp_path, rows, settings, severity, said):
    found = [text for text in texts(report_on(tmp_path, rows, *settings)) if said in text]
    assert [text.split(":")[0] for text in found] == ([severity] if severity else []), found


@pytest.mark.parametrize(("count", "warned"), [(14, True), (15, False)])
def test_a_handful_of_rows_is_a_warning(tmp_path, count, warned):
    found = texts(report_on(tmp_path, plain_rows(count)))
    assert any(text.startswith(f"WARNING: train: {2 * count} usable rows are too few to learn from") for text in found) == warned


@pytest.mark.parametrize(
    ("settings", "val", "said"),
    [
        (["predict.max_new_tokens=4"], None, ["train", "auto (the longest training answer)"]),
        (["predict.max_new_tokens=auto"], None, None),
        (["predict.max_new_tokens=auto"], "a much longer answer than any in the training rows, by far", ["val", "{longest}"]),
    ],
)
def test_answers_that_would_be_cut_are_a_warning_with_the_key(tmp_path, settings, val, said):
    rows = [*plain_rows(40), *(row(f"{n}.jpg", "What is it?", f"a text of some length {n}") for n in range(35))]
    report = report_on(tmp_path, rows, *settings, val=val and [row("v.jpg", "What is it?", val)], tokens=True)
    found = [text for text in texts(report) if "max_new_tokens" in text]
    if said is None:
        assert found == []
        return
    split, remedy = said
    longest = report["answer_tokens"]["tokens"][split]["max"]
    (text,) = found
    assert text.startswith(
        f"WARNING: {split}: {35 if split == 'train' else 1} unconstrained answers need more than predict.max_new_tokens="
    )
    assert text.endswith(f"tokens and will be cut, so wrong; set predict.max_new_tokens={remedy.format(longest=longest)}")
