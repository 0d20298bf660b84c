"""Splits: the same on any machine and in any order, no group in two of them, no row lost.

python -m pytest tests/data/test_split.py -v
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from data_sets import chain, eight_pictures, file_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from quick_python import quick_python

from data.readers import convert
from data.rows import read_rows
from data.split import (
    assign,
    assign_fold,
    config_lines,
    describe,
    describe_folds,
    folds_jsonl,
    parse_arguments,
    split_jsonl,
    stratified,
    stratified_folds,
)
from data.text import nearly_same_groups
from files import UserError, read_jsonl, sha256, write_jsonl

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("train", "val", "test")


def make_rows(images=60, per_image=3, **extra):
    return [
        {"question": f"Question {q}?", "answer": "yes", "image": f"{i:04}.jpg", **extra} for q in range(per_image) for i in range(images)
    ]


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def split(folder, rows, **options):
    """Write rows to a new file, split it, and return {split: rows}."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "all.jsonl", rows)
    result = split_jsonl(folder / "all.jsonl", folder, **options)
    return {name: read(folder / f"{name}.jsonl") for name in result["splits"]}


# --- which group goes where ---


def test_assignment_without_stratification_never_changes():
    """Typed in by hand: a change here would move users' test rows into training."""
    groups = [
        "images/0000.jpg",
        "images/0008.jpg",
        "images/0012.jpg",
        "images/0020.jpg",
        "patient 12",
        "VID22",
        "é/ü.png",
    ]
    assert [assign(group) for group in groups] == ["train", "test", "val", "train", "val", "test", "train"]
    found = [assign(group, seed=1, val=0.25, test=0.25) for group in groups]
    assert found == ["test", "train", "train", "train", "test", "val", "train"]


def test_assignment_is_the_documented_hash():
    for group in map(str, range(300)):
        point = int(hashlib.sha256(f"7:{group}".encode()).hexdigest()[:12], 16) / 16**12
        assert assign(group, seed=7, val=0.2, test=0.3) == ("test" if point < 0.3 else "val" if point < 0.5 else "train")


def test_shares_hold_about_for_2000_groups():
    for seed in range(5):
        found = [assign(f"image_{number}.jpg", seed, val=0.1, test=0.2) for number in range(2000)]
        # four standard deviations of a binomial of 2,000
        assert abs(found.count("val") - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5
        assert abs(found.count("test") - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5


def test_seeds_draw_independently():
    tests = [{g for g in range(2000) if assign(g, seed) == "test"} for seed in (0, 1)]
    assert 5 < len(tests[0] & tests[1]) < 45  # 20 expected by chance of ~200 each


def test_a_larger_val_share_leaves_the_test_set_alone():
    small, large = ([g for g in range(2000) if assign(g, val=val) == "test"] for val in (0.1, 0.4))
    assert small == large


# --- stratified by question ---


def shares_of(groups, splits):
    """`{question: {split: share of its rows}}`."""
    totals = {}
    for name, counts in groups.items():
        for question, rows in counts.items():
            totals.setdefault(question, Counter())[splits[name]] += rows
    return {question: {name: counts[name] / counts.total() for name in NAMES} for question, counts in totals.items()}


def some_groups(number):
    """Groups that ask `a`, every third also `b` (twice), every seventh `c`; names without any order."""
    return {f"VID{number * 7919 % 10007}": Counter(a=1, b=2 * (number % 3 == 0), c=number % 7 == 0) for number in range(number)}


def test_stratified_assignment_never_changes():
    """As it came out when it was written: a change here would move users' test rows into training."""
    groups = {f"VID{n:02}": Counter(a=1 + n % 4, b=n % 3) for n in range(1, 41)}
    splits = stratified(groups)
    assert [name for name in groups if splits[name] == "test"] == ["VID05", "VID16", "VID24", "VID31", "VID33"]
    assert [name for name in groups if splits[name] == "val"] == ["VID01", "VID15", "VID28", "VID38"]
    test = sorted(name for name, split in stratified(groups, seed=1).items() if split == "test")
    assert test == ["VID03", "VID06", "VID17", "VID29"]
    halves = stratified({f"VID{n:02}": Counter(a=1) for n in range(1, 7)}, val=0, test=0.5)  # every other one is as near on either side
    assert [name for name, split in halves.items() if split == "test"] == ["VID02", "VID04", "VID06"]


@pytest.mark.parametrize("seed", range(5))
def test_every_question_has_its_share(seed):
    groups = some_groups(700)
    splits = stratified(groups, seed, val=0.15, test=0.1)
    for question, shares in shares_of(groups, splits).items():
        # within two groups of the share; a draw by chance alone misses by more for one seed in three
        slack = 2 * (2 if question == "b" else 1) / sum(counts[question] for counts in groups.values())
        assert abs(shares["test"] - 0.1) <= slack and abs(shares["val"] - 0.15) <= slack, (question, shares)


def test_seeds_give_other_splits():
    groups = some_groups(700)
    tests = [{name for name, split in stratified(groups, seed).items() if split == "test"} for seed in (0, 1)]
    assert len(tests[0] & tests[1]) < 20  # 7 expected by chance of 70 each


def test_a_larger_val_share_leaves_the_stratified_test_set_alone():
    groups = some_groups(300)
    small, large = ([name for name, split in stratified(groups, val=val).items() if split == "test"] for val in (0.1, 0.4))
    assert small == large


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), min_size=3, max_size=12),
    val=st.sampled_from([0.1, 0.2, 0.33]),
    test=st.sampled_from([0.1, 0.25, 0.5]),
    shuffle=st.randoms(use_true_random=False),
)
def test_few_groups_fill_every_split_in_any_order(sizes, val, test, shuffle):
    groups = {f"video {number}": Counter(a=a, b=b) for number, (a, b) in enumerate(sizes)}
    splits = stratified(groups, 0, val, test)
    assert set(splits.values()) == set(NAMES) and splits.keys() == groups.keys()
    shuffled = list(groups)
    shuffle.shuffle(shuffled)
    assert stratified({name: groups[name] for name in shuffled}, 0, val, test) == splits


def test_six_videos_give_one_each_of_about_the_right_size():
    groups = {f"video {number}": Counter(a=rows) for number, rows in enumerate((2000, 1000, 800, 600, 500, 300))}
    splits = stratified(groups)
    held = {name: sum(counts["a"] for video, counts in groups.items() if splits[video] == name) for name in NAMES}
    assert 300 <= held["val"] <= 800 and 300 <= held["test"] <= 800 and held["train"] >= 3600


def test_questions_asked_once_each_do_not_disturb_the_shares():
    groups = {f"image {number}": Counter({f"question {number}": 1, "all": 1}) for number in range(400)}
    counts = Counter(stratified(groups).values())
    assert counts == {"train": 320, "val": 40, "test": 40}


# --- near-duplicates ---


def noise_image(seed, size=(120, 90)):
    """A smooth picture like no other: 9 x 8 random greys, enlarged."""
    greys = bytes(random.Random(seed).choices(range(60, 200), k=72))
    return Image.frombytes("L", (9, 8), greys).resize(size, Image.Resampling.BICUBIC)


def write_pictures(folder, names, copies):
    """A picture of its own for every name, but the first of `copies` saved again smaller and coarser as the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        noise_image(number).save(folder / name, quality=90)
    for other in copies[1:]:
        Image.open(folder / copies[0]).resize((80, 60)).save(folder / other, quality=50)


def test_near_duplicates_stay_together(tmp_path):
    rows = make_rows(images=30, per_image=1)
    names = [row["image"] for row in rows]
    alone = split(tmp_path, rows)
    copies = [alone[name][0]["image"] for name in NAMES]  # one of each split, so that they have to be moved
    write_pictures(tmp_path, names, copies)
    splits = split(tmp_path, rows, near="on")
    assert [sum(row["image"] in copies for row in splits[name]) for name in NAMES].count(0) == 2
    facts = json.loads((tmp_path / "split.json").read_text())
    assert facts["near_duplicates"] == {
        "max_distance": 8, "images_read": 30, "images": 30, "near_duplicates": 3, "groups_joined": 2
    }  # fmt: skip
    assert sum(facts["splits"][name]["groups"] for name in NAMES) == 28
    for name in NAMES:
        assert [row["image"] for row in split(tmp_path, rows, near="off")[name]] == [r["image"] for r in alone[name]]


def test_near_duplicates_join_whole_videos(tmp_path):
    rows = [{**row, "group": f"video {number // 5}"} for number, row in enumerate(make_rows(images=30, per_image=1))]
    write_pictures(tmp_path / "images", [row["image"] for row in rows], ["0000.jpg", "0029.jpg"])
    splits = split(tmp_path, rows, image_root=tmp_path / "images")
    owner = {row["group"]: name for name in NAMES for row in splits[name]}
    assert owner["video 0"] == owner["video 5"] and set(owner.values()) == set(NAMES)
    assert json.loads((tmp_path / "split.json").read_text())["near_duplicates"]["groups_joined"] == 1


def test_unreadable_images_are_an_error_only_when_asked_for(tmp_path):
    rows = make_rows(images=30, per_image=1)
    write_pictures(tmp_path, [row["image"] for row in rows[:20]], ["0000.jpg", "0001.jpg"])
    split(tmp_path, rows)
    facts = json.loads((tmp_path / "split.json").read_text())["near_duplicates"]
    assert (facts["images_read"], facts["near_duplicates"]) == (20, 2)
    with pytest.raises(UserError, match=r"image 0020.jpg is missing in .*; correct --image_root or the row"):
        split(tmp_path, rows, near="on")


def test_the_splits_hash_is_of_its_files(tmp_path):
    hashes = []
    for seed in (0, 0, 1):
        split(tmp_path, make_rows(), seed=seed)
        facts = json.loads((tmp_path / "split.json").read_text())
        lines = "".join(f"{name} {sha256(tmp_path / f'{name}.jsonl')}\n" for name in NAMES)
        assert facts["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
        hashes.append(facts["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_real_questions_keep_their_shares(tmp_path, shared):
    source = shared / "real-data" / "kvasir_vqa" / "val.jsonl"
    facts = split_jsonl(source, tmp_path, near="off")
    assert abs(facts["splits"]["test"]["rows"] - 878.6) < 9 and abs(facts["splits"]["val"]["rows"] - 878.6) < 9
    asked = {name: Counter(row["question"] for row in read(tmp_path / f"{name}.jsonl")) for name in NAMES}
    for question in asked["train"]:
        total = sum(asked[name][question] for name in NAMES)
        if total >= 100:
            assert all(abs(asked[name][question] / total - 0.1) < 0.02 for name in ("val", "test")), question


def test_real_videos_are_split_whole(tmp_path, shared):
    """REAL-Colon-VQA: six videos."""
    convert("real-colon-vqa", shared / "real-data" / "real_colon_vqa" / "in_template.jsonl", tmp_path)
    (tmp_path / "all.jsonl").rename(tmp_path / "rows.jsonl")
    facts = split_jsonl(tmp_path / "rows.jsonl", tmp_path, near="off")
    assert [facts["splits"][name]["groups"] for name in NAMES] == [4, 1, 1]


# --- files ---

names = st.text("ab1", min_size=1, max_size=3)
some_rows = st.lists(st.tuples(names, st.none() | names), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(pairs=some_rows, seed=st.integers(0, 9))
def test_no_group_or_image_in_two_splits_and_no_row_lost(tmp_path_factory, pairs, seed):
    owner = {}  # an image belongs to the group it is first seen with
    rows = [{"question": "q", "answer": "a", "image": image, "group": owner.setdefault(image, group), "n": number}
            for number, (image, group) in enumerate(pairs)]  # fmt: skip
    # groups that are there for sure, so that none is empty and every example is a split
    rows += [{"question": "q", "answer": "a", "image": f"filler {number}", "n": -number} for number in range(1, 60)]
    splits = split(tmp_path_factory.mktemp("split"), rows, seed=seed, val=0.3, test=0.3)
    for key in ("group", "image"):
        seen = [{row.get(key) for row in splits[name]} - {None} for name in NAMES]
        assert sum(map(len, seen)) == len(set.union(*seen))
    assert sorted(row["n"] for name in NAMES for row in splits[name]) == sorted(row["n"] for row in rows)


@settings(max_examples=20, deadline=None)
@given(shuffle=st.randoms(use_true_random=False), extra=st.integers(0, 30))
def test_without_stratification_order_and_new_rows_move_nothing(tmp_path_factory, shuffle, extra):
    rows = [{**row, "id": str(number)} for number, row in enumerate(make_rows())]
    before = split(tmp_path_factory.mktemp("before"), rows, stratify="none")
    shuffled = rows + [{"id": f"new {n}", "question": "q", "answer": "a", "image": f"new {n}.jpg"} for n in range(extra)]
    shuffle.shuffle(shuffled)
    after = split(tmp_path_factory.mktemp("after"), shuffled, stratify="none")
    for name in NAMES:
        old = {row["id"] for row in before[name]}
        assert {row["id"] for row in after[name] if not row["id"].startswith("new")} == old
        positions = [shuffled.index(row) for row in after[name]]
        assert positions == sorted(positions), "rows keep their order"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rows = make_rows()
    for folder in ("one", "two"):
        split(tmp_path / folder, rows)
    split(tmp_path / "two", rows)  # again, over the earlier files
    for name in ("train.jsonl", "val.jsonl", "test.jsonl", "split.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rows_are_unchanged_and_ids_stay_unique(tmp_path):
    rows = make_rows(group="video é", box=[1, 2.5, None], options=["a; b", "c"])
    for number, row in enumerate(rows):
        row["group"] = f"video {number % 30}"
        row["image_filename"] = f"{row['group']}/{row.pop('image')}"
        if number % 2:
            row["id"] = number + 1000
    splits = split(tmp_path, rows)
    found = [row for name in NAMES for row in splits[name]]
    expected = [row if number % 2 else {**row, "id": str(number)} for number, row in enumerate(rows)]
    assert sorted(found, key=str) == sorted(expected, key=str)
    ids = [row["id"] for name in NAMES for row in read_rows(tmp_path / f"{name}.jsonl")]
    assert len(ids) == len(set(ids)) == len(rows)


def test_by_image_ignores_groups(tmp_path):
    rows = make_rows(group="one patient")
    with pytest.raises(UserError, match="val would be empty"):
        split(tmp_path, rows)
    splits = split(tmp_path, rows, by="image", stratify="none")
    assert all(splits.values()) and all(assign(row["image"]) == name for name in NAMES for row in splits[name])
    without = split(tmp_path / "same", [{**row, "group": None} for row in rows])
    with_groups = split(tmp_path / "same", rows, by="image")
    for name in NAMES:
        assert [row["image"] for row in without[name]] == [row["image"] for row in with_groups[name]]


def test_numbers_name_groups_as_their_text_does(tmp_path):
    rows = [{**row, "group": number % 40} for number, row in enumerate(make_rows(40))]
    for name, found in split(tmp_path, rows, stratify="none").items():
        assert all(assign(str(row["group"])) == name for row in found)


@pytest.mark.parametrize("stratify", ["question", "none"])
def test_a_group_in_two_spellings_is_one_and_rows_keep_theirs(tmp_path, stratify):
    spelled = ["P{}", "p{}", "P{} ", "P{}\u200b", "Ｐ{}"]
    rows = [{**row, "image": f"{n}.jpg", "group": spelled[n % 5].format(n // 5)} for n, row in enumerate(make_rows(100, 1))]
    rows.append({**rows[0], "group": "p0"})  # one image, its group in two spellings
    splits = split(tmp_path, rows, stratify=stratify, near="off")
    numbers = [{row["group"].strip(" \u200b")[1:] for row in found} for found in splits.values()]
    assert sum(map(len, numbers)) == 20 and len(set.union(*numbers)) == 20
    assert {row["group"] for found in splits.values() for row in found} == {row["group"] for row in rows}


def test_groups_that_differ_in_leading_zeros_are_a_warning(tmp_path):
    rows = [{**row, "image": f"{n}.jpg", "group": n % 20} for n, row in enumerate(make_rows(100, 1))]
    write_jsonl(tmp_path / "all.jsonl", [*rows, {**rows[0], "image": "x.jpg", "group": "007"}])
    says = "WARNING: groups 007 and 7 count as two; if they are one patient or video, write them alike and split anew"
    assert says in describe(split_jsonl(tmp_path / "all.jsonl", tmp_path))
    assert says in describe_folds(folds_jsonl(tmp_path / "all.jsonl", tmp_path / "folds", 2))
    assert nearly_same_groups(["1.5", "1.05", "10", "1", "a"]) is None and nearly_same_groups(["P01", "p1"]) == ["P01", "p1"]


def test_split_json_says_how_it_was_made(tmp_path):
    rows = make_rows(images=100, per_image=4)
    splits = split(tmp_path, rows, seed=3, val=0.2, test=0.1)
    facts = json.loads((tmp_path / "split.json").read_text())
    assert facts["source"] == {"name": "all.jsonl", "sha256": sha256(tmp_path / "all.jsonl")}
    assert (facts["seed"], facts["by"], facts["shares"]) == (3, "group", {"train": 0.7, "val": 0.2, "test": 0.1})
    for name in NAMES:
        images = len({row["image"] for row in splits[name]})
        counts = {"rows": len(splits[name]), "groups": images, "images": images, "questions": 4}
        assert facts["splits"][name] == {**counts, "sha256": sha256(tmp_path / f"{name}.jsonl")}
    assert sum(facts["splits"][name]["rows"] for name in NAMES) == 400


def test_a_share_of_zero_leaves_its_file_out(tmp_path):
    rows = make_rows()
    splits = split(tmp_path / "new", rows, test=0)
    assert set(splits) == {"train", "val"} and sum(map(len, splits.values())) == len(rows)
    assert not (tmp_path / "new" / "test.jsonl").exists()
    split(tmp_path / "old", rows)
    with pytest.raises(UserError, match=r"test.jsonl: is left from an earlier split, where --test 0 writes none"):
        split(tmp_path / "old", rows, test=0)


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "all.jsonl:5: has no image"),
        ({"answer": {"text": "yes"}}, "all.jsonl:5: answer is an object with fields text, not text; write it as text"),
        ({"id": "0"}, "all.jsonl:5: id '0' is already that of line 1"),
        ({"group": ["p1"]}, "all.jsonl:5: group is ['p1']; write one name, the patient's or the video's"),
        ({"group": True}, "all.jsonl:5: group is True; "),
        ({"group": 1.5}, "all.jsonl:5: group is 1.5; write one name, the patient's or the video's"),
        ({"group": " "}, "all.jsonl:5: group is ' '; "),
        ({"image": "0000.jpg", "group": "p2"}, "all.jsonl:5: image 0000.jpg is of group p2, on line 1 of 0000.jpg; "),
        ({"group": "p2"}, "all.jsonl:65: image 0004.jpg is of group 0004.jpg, on line 5 of p2; "),
    ],
)
def test_a_bad_row_is_named_and_earlier_files_stay(tmp_path, change, message):
    split(tmp_path, make_rows())
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*") if path.name != "all.jsonl"}
    rows = make_rows()
    rows[4] |= change
    with pytest.raises(UserError) as error:
        split(tmp_path, rows)
    assert str(error.value).startswith(str(tmp_path / message)) and "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*") if path.name != "all.jsonl"} == before


def test_what_the_readers_drop_is_dropped_and_counted_and_numbers_are_answers(tmp_path):
    """An export of pandas: null and NaN for a missing answer, 3.0 for a count, true for yes. A row to be predicted stays."""
    rows = make_rows(group=None)
    answers = {0: 3, 1: 3.0, 2: True, 3: ["pink", "red"], 4: "", 5: None, 6: " nan ", 7: "none"}
    for number, answer in answers.items():
        rows[number]["answer"] = answer
    rows[8] |= {"question": None}
    del rows[9]["answer"]
    done = split(tmp_path, rows)
    found = {row["id"]: row for part in done.values() for row in part}
    assert [found[str(number)].get("answer") for number in (0, 1, 2, 3, 7, 9)] == ["3", "3", "yes", "pink; red", "none", None]
    assert set(map(str, range(len(rows)))) - set(found) == {"4", "5", "6", "8"}
    facts = json.loads((tmp_path / "split.json").read_text())
    changes = {"without an answer": 3, "without a question": 1, "true and false to yes and no": 1, "lists to label lists": 1}
    assert facts["changes"] == changes
    said = "left out or changed: 1 lists to label lists, 1 true and false to yes and no, 1 without a question, 3 without an answer"
    assert said in describe(facts)
    assert config_lines(tmp_path / "all.jsonl", {}) and all(read_rows(tmp_path / f"{name}.jsonl", need_answer=False) for name in NAMES)


def test_rows_that_are_all_junk_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"all.jsonl: has no usable rows; left out or changed: 180 without an answer"):
        split(tmp_path, [{**row, "answer": ""} for row in make_rows()])


def test_a_part_of_one_group_or_far_from_its_share_is_a_warning(tmp_path):
    """Nine videos make a test of one; a large one makes it twice as large as was asked for."""
    rows = [row for video in range(9) for row in make_rows(images=10 + 40 * (video == 0), group=f"v{video}")]
    rows = [{**row, "image": f"{row['group']}/{row['image']}"} for row in rows]
    write_jsonl(tmp_path / "all.jsonl", rows)
    warnings = [line for line in describe(split_jsonl(tmp_path / "all.jsonl", tmp_path)) if line.startswith("WARNING: ")]
    assert [line.split(",")[0] for line in warnings] == [
        "WARNING: val has 1 group", "WARNING: test has 1 group"
    ] and all("--val 0.25 --test 0.25" in line for line in warnings)  # fmt: skip
    folds = [line for line in describe_folds(folds_jsonl(tmp_path / "all.jsonl", tmp_path / "folds", 5)) if "of the rows, not" in line]
    assert any("has 38.5% of the rows, not 20%: groups are few or large" in line for line in folds)


def test_the_lines_to_paste_name_the_language_of_the_rows(tmp_path):
    write_jsonl(tmp_path / "all.jsonl", make_rows(language="de"))
    assert yaml.safe_load(config_lines(tmp_path / "all.jsonl", {}))["data"]["language"] == "de"
    write_jsonl(tmp_path / "all.jsonl", [*make_rows(language="zh"), *make_rows(language="en"), *make_rows()])
    assert yaml.safe_load(config_lines(tmp_path / "all.jsonl", {}))["data"]["language"] == ["en", "zh"]


def test_an_empty_split_says_so_and_why(tmp_path):
    for images, groups, empty in ((2, "2 groups", "test"), (1, "1 group", "val")):
        with pytest.raises(UserError) as error:
            split(tmp_path, make_rows(images=images))
        assert str(error.value) == (
            f"{tmp_path / 'all.jsonl'}: {empty} would be empty: {groups} can't fill 3 files; give a share of 0, more groups or --by image"
        )
    with pytest.raises(UserError) as error:
        split(tmp_path, make_rows(images=2), stratify="none")
    assert str(error.value) == (
        f"{tmp_path / 'all.jsonl'}: val would be empty: none of the 2 groups fell into its share of 0.1; "
        "take more groups, other shares or another --seed"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.2), (-0.1, 0.1), (0.1, -0.1), (1, 0), (float("nan"), 0.1)])
def test_impossible_shares(tmp_path, val, test):
    with pytest.raises(UserError, match=r"^--val .* --test .*: give shares from 0 to 1 that leave some rows for train"):
        split(tmp_path, make_rows(), val=val, test=test)


def test_the_source_is_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "train.jsonl", make_rows())
    before = (tmp_path / "train.jsonl").read_bytes()
    for src in (tmp_path / "train.jsonl", "train.jsonl"):
        with pytest.raises(UserError, match="train.jsonl: is the input itself; choose another DST"):
            split_jsonl(src, tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == before


# --- the command ---


def run(*arguments, **options):
    return subprocess.run([quick_python(), *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def test_command_prints_counts_and_lines_to_paste(tmp_path):
    rows = make_rows()
    random.Random(0).shuffle(rows)
    write_jsonl(tmp_path / "my data" / "all.jsonl", rows)
    (tmp_path / "my data" / rows[0]["image"]).write_bytes(b"")
    for command in (["-m", "data.split"], [ROOT / "data" / "split.py"]):
        done = run(*command, "my data/all.jsonl", "my data", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stderr) == (0, "")
        counts, pasted = done.stdout.split("\n\n")
        facts = json.loads((tmp_path / "my data" / "split.json").read_text())
        whole, facts = facts["sha256"], facts["splits"]
        assert counts.splitlines() == [
            *(f"{name}: {facts[name]['rows']} rows, {facts[name]['groups']} groups, {facts[name]['images']} images, "
              "3 questions" for name in NAMES),
            "near-duplicates: not looked for, as no image could be read; give --image_root",
            f"split {whole[:12]}, seed 0, by group, stratified by question",
            "next: a configuration of your own, such as my.yaml, with these lines",
        ]  # fmt: skip
        folder = tmp_path / "my data"
        assert yaml.safe_load(pasted) == {
            "extends": str(ROOT / "config_exp1.yaml"),
            "output_dir": "outputs_mine",
            "data": {**{f"{name}_jsonl": str(folder / f"{name}.jsonl") for name in NAMES}, "image_root": str(folder)},
        }


def test_command_options_reach_the_split(tmp_path):
    write_jsonl(tmp_path / "all.jsonl", make_rows(group="one"))
    write_pictures(tmp_path / "images", ["0000.jpg"], [])
    done = run(ROOT / "data" / "split.py", tmp_path / "all.jsonl", tmp_path / "out", "--val", "0.3", "--test", "0.2", "--seed", "5",
               "--by", "image", "--stratify", "none", "--near-duplicates", "off", "--image_root", tmp_path / "images")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout.split("\n\n")[1])["data"]["image_root"] == str(tmp_path / "images")
    facts = json.loads((tmp_path / "out" / "split.json").read_text())
    assert (facts["seed"], facts["by"], facts["shares"]) == (5, "image", {"train": 0.5, "val": 0.3, "test": 0.2})
    assert (facts["stratified_by"], facts["near_duplicates"]) == ("none", None)
    rows = read(tmp_path / "out" / "val.jsonl")
    assert rows and all(assign(row["image"], 5, 0.3, 0.2) == "val" for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "all.jsonl: no such file"),
        ("", "all.jsonl: has no rows; write one JSON object a line"),
        ('{"question": "q", "image": "a.jpg"}\n{"question"', "all.jsonl:2: not valid JSON ("),
        ('[\n{"question": "q"}]', "all.jsonl:1: not valid JSON ("),
    ],
)
def test_command_error_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "all.jsonl").write_text(content)
    done = run(ROOT / "data" / "split.py", tmp_path / "all.jsonl", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / message}") and done.stderr.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


# --- folds ---


def fold(folder, rows, folds, **options):
    """Write rows to a new file, fold it, and return [{"train": rows, "val": rows}], a pair for each fold."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "all.jsonl", rows)
    folds_jsonl(folder / "all.jsonl", folder, folds, **options)
    return [{name: read(folder / f"fold_{number}" / f"{name}.jsonl") for name in ("train", "val")} for number in range(folds)]


def test_folds_never_change():
    """As they came out when they were written: a change here would mix earlier out-of-fold predictions with their training rows."""
    groups = {f"VID{n:02}": Counter(a=1 + n % 4, b=n % 3) for n in range(1, 16)}
    found = stratified_folds(groups, 4)
    assert [[name for name in groups if found[name] == number] for number in range(4)] == [
        ["VID01", "VID02", "VID12", "VID15"],
        ["VID04", "VID07", "VID11"],
        ["VID05", "VID06", "VID08", "VID10"],
        ["VID03", "VID09", "VID13", "VID14"],
    ]
    names = ["patient 12", "VID22", "images/0008.jpg", "é/ü.png"]
    points = [int(hashlib.sha256(f"3:{name}".encode()).hexdigest()[:12], 16) / 16**12 for name in names]
    assert [assign_fold(name, 5, seed=3) for name in names] == [int(5 * point) for point in points]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), min_size=5, max_size=14),
    folds=st.integers(2, 5),
    shuffle=st.randoms(use_true_random=False),
)
def test_folds_are_filled_in_any_order(sizes, folds, shuffle):
    groups = {f"video {number}": Counter(a=a, b=b) for number, (a, b) in enumerate(sizes)}
    found = stratified_folds(groups, folds)
    assert set(found.values()) == set(range(folds)) and found.keys() == groups.keys()
    shuffled = list(groups)
    shuffle.shuffle(shuffled)
    assert stratified_folds({name: groups[name] for name in shuffled}, folds) == found


@pytest.mark.parametrize("seed", range(3))
def test_every_question_is_shared_out_over_the_folds(seed):
    groups = some_groups(700)
    found = stratified_folds(groups, 5, seed)
    for question, most in (("a", 1), ("b", 2), ("c", 1)):
        rows = Counter()
        for name, counts in groups.items():
            rows[found[name]] += counts[question]
        # two groups more or less than a fifth; by chance alone it would be about ten for `a`
        assert all(abs(rows[number] - rows.total() / 5) <= 2 * most for number in range(5)), (question, rows)


@settings(max_examples=40, deadline=None)
@given(pairs=some_rows, folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_every_row_is_held_out_once_and_no_group_with_its_own(tmp_path_factory, pairs, folds, seed):
    owner = {}  # an image belongs to the group it is first seen with
    rows = [{"question": "q", "answer": "a", "image": image, "group": owner.setdefault(image, group), "n": number}
            for number, (image, group) in enumerate(pairs)]  # fmt: skip
    rows += [{"question": "q", "answer": "a", "image": f"filler {number}", "n": -number} for number in range(1, 10)]
    found = fold(tmp_path_factory.mktemp("folds"), rows, folds, seed=seed)
    held_out = [row for pair in found for row in pair["val"]]
    assert sorted(row["n"] for row in held_out) == sorted(row["n"] for row in rows)
    assert len({row["id"] for row in held_out}) == len(rows), "ids are unique across the folds"
    for pair in found:
        assert sorted(row["n"] for row in pair["train"] + pair["val"]) == sorted(row["n"] for row in rows)
        for key in ("group", "image"):
            assert not {row.get(key) for row in pair["train"]} & {row.get(key) for row in pair["val"]} - {None}


def test_near_duplicates_are_in_one_fold(tmp_path):
    rows = make_rows(images=20, per_image=1)
    names = [row["image"] for row in rows]
    alone = fold(tmp_path, rows, 4)
    copies = [pair["val"][0]["image"] for pair in alone]  # one of each fold, so that they have to be moved
    write_pictures(tmp_path / "images", names, copies)
    found = fold(tmp_path, rows, 4, image_root=tmp_path / "images")
    assert sorted(sum(row["image"] in copies for row in pair["val"]) for pair in found) == [0, 0, 0, 4]
    facts = json.loads((tmp_path / "fold_2" / "split.json").read_text())
    assert (facts["near_duplicates"]["near_duplicates"], facts["near_duplicates"]["groups_joined"]) == (4, 3)
    apart = fold(tmp_path, rows, 4, near="off")
    assert [[row["image"] for row in pair["val"]] for pair in apart] == [[row["image"] for row in pair["val"]] for pair in alone]


def test_a_fold_says_how_it_was_made(tmp_path):
    rows = [{**row, "group": f"patient {number % 12}"} for number, row in enumerate(make_rows(images=24, per_image=2))]
    found = fold(tmp_path, rows, 3, seed=4)
    for number, pair in enumerate(found):
        facts = json.loads((tmp_path / f"fold_{number}" / "split.json").read_text())
        assert (facts["fold"], facts["folds"], facts["seed"], facts["by"]) == (number, 3, 4, "group")
        assert facts["source"] == {"name": "all.jsonl", "sha256": sha256(tmp_path / "all.jsonl")}
        for name in ("train", "val"):
            images, groups = ({row[key] for row in pair[name]} for key in ("image", "group"))
            counts = {"rows": len(pair[name]), "groups": len(groups), "images": len(images), "questions": 2}
            assert facts["splits"][name] == {**counts, "sha256": sha256(tmp_path / f"fold_{number}" / f"{name}.jsonl")}
    assert not (tmp_path / "split.json").exists()


@pytest.mark.parametrize(
    ("folds", "options", "said"),
    [
        (1, {}, "--folds 1: give two or more"),
        (9, {}, "all.jsonl: 8 groups can't fill 9 folds; give fewer folds, more groups or --by image"),
        (
            8,
            {"stratify": "none"},
            "all.jsonl: fold 0 would be empty: none of the 8 groups fell into it; take fewer folds or another --seed",
        ),
    ],
)
def test_folds_that_cannot_be(tmp_path, folds, options, said):
    with pytest.raises(UserError) as error:
        fold(tmp_path, make_rows(images=8), folds, **options)
    assert str(error.value).endswith(said) and [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


def test_folds_leave_nothing_of_an_earlier_split_and_never_replace_their_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fold(tmp_path, make_rows(images=8), 4)
    with pytest.raises(UserError, match=r"fold_3: is left from an earlier split into more folds; delete it"):
        fold(tmp_path, make_rows(images=8), 3)
    for folder in (tmp_path, Path()):
        with pytest.raises(UserError, match=r"fold_0/val.jsonl: is a file of a fold that would be written anew; choose another DST"):
            folds_jsonl(folder / "fold_0" / "val.jsonl", tmp_path, 4)


def test_real_videos_and_questions_are_folded(tmp_path, shared):
    convert("real-colon-vqa", shared / "real-data" / "real_colon_vqa" / "in_template.jsonl", tmp_path)
    facts = folds_jsonl(tmp_path / "all.jsonl", tmp_path, 3, near="off")
    assert [fact["splits"]["val"]["groups"] for fact in facts] == [2, 2, 2]
    facts = folds_jsonl(shared / "real-data" / "kvasir_vqa" / "val.jsonl", tmp_path / "kvasir", 5, near="off")
    assert all(abs(fact["splits"]["val"]["rows"] - 8786 / 5) < 10 for fact in facts)


def test_the_command_prints_the_share_of_each_fold(tmp_path):
    write_jsonl(tmp_path / "all.jsonl", make_rows(images=20))
    done = run(ROOT / "data" / "split.py", tmp_path / "all.jsonl", tmp_path / "my folds", "--folds", "5")
    assert (done.returncode, done.stderr) == (0, "")
    counts, pasted, then = done.stdout.split("\n\n")
    assert counts.splitlines()[:2] == [
        "fold_0: val 12 rows, 4 groups, 4 images, 3 questions, 20.0% of the rows; train 48 rows, 16 groups",
        "fold_1: val 12 rows, 4 groups, 4 images, 3 questions, 20.0% of the rows; train 48 rows, 16 groups",
    ]
    assert yaml.safe_load(pasted)["data"]["train_jsonl"] == str(tmp_path / "all.jsonl")
    assert then == f"and then: python tools/sweep.py my.yaml --folds '{tmp_path / 'my folds'}'\n"
    refused = run(ROOT / "data" / "split.py", tmp_path / "all.jsonl", tmp_path / "folds", "--folds", "5", "--test", "0.2")
    assert refused.returncode == 2 and "--folds has no --val and --test" in refused.stderr


@pytest.mark.parametrize("near", ["on", "off"])
@pytest.mark.parametrize("by", ["group", "image"])
def test_rows_that_share_an_image_stay_together(tmp_path, near, by):
    folder = eight_pictures(tmp_path)
    path = file_of(folder, *chain("ab", "c", "de", "cb", "f", "g", "h", "ed", "d"))
    for seed in range(8):
        result = split_jsonl(path, folder / "split", seed=seed, val=0.3, test=0.3, by=by, near=near)
        part_of = {}
        for part in result["splits"]:
            for _, row in read_jsonl(folder / "split" / f"{part}.jsonl"):
                for name in row.get("images") or [row["image"]]:
                    assert part_of.setdefault(name, part) == part
        assert len({part_of[f"{name}.png"] for name in "abc"}) == len({part_of[f"{name}.png"] for name in "de"}) == 1
        assert sum(facts["groups"] for facts in result["splits"].values()) == 5
        assert sum(facts["images"] for facts in result["splits"].values()) == 8
        assert near == "off" or result["near_duplicates"]["groups_joined"] == 0
        assert list(describe(result))
    assert "image_root: " in config_lines(path, {"train": path})


def test_folds_keep_them_together_too(tmp_path):
    folder = eight_pictures(tmp_path)
    path = file_of(folder, *chain("ab", "c", "bc", "d", "e", "f"))
    folds_jsonl(path, folder / "folds", 3)
    held_out = [{row["id"] for _, row in read_jsonl(folder / "folds" / f"fold_{fold}" / "val.jsonl")} for fold in range(3)]
    assert any({"0", "1", "2"} <= ids for ids in held_out) and sum(map(len, held_out)) == 6


def test_near_duplicates_of_any_image_join_rows(tmp_path):
    folder = eight_pictures(tmp_path)
    Image.open(folder / "b.png").save(folder / "copy.png")
    result = split_jsonl(file_of(folder, *chain("ab", "c", "d"), {"images": ["e.png", "copy.png"]}), folder / "split")
    assert sum(facts["groups"] for facts in result["splits"].values()) == 3 and result["near_duplicates"]["groups_joined"] == 1


def test_an_image_of_two_patients_is_refused(tmp_path):
    folder = eight_pictures(tmp_path)
    path = file_of(folder, {"images": ["a.png", "b.png"], "group": "p"}, {"images": ["c.png", "b.png"], "group": "q"})
    with pytest.raises(UserError, match="rows.jsonl:2: image b.png is of group q, on line 1 of p; give it one group"):
        split_jsonl(path, folder / "split")
    assert split_jsonl(path, folder / "split", by="image", val=0, test=0)["splits"]["train"]["groups"] == 1


# --- all lines that people read ---


def few_groups(folder, **options):
    """Of 20 images 14 are one patient's; one row is junk, one answer a number."""
    rows = [
        {"question": f"Q{q}?", "answer": True, "image": f"{i:02}.jpg", "group": "A" if i < 14 else f"P{i}", **options}
        for i in range(20) for q in range(2)
    ]  # fmt: skip
    write_jsonl(folder / "all.jsonl", [*rows, {"question": "none", "answer": "a", "image": "x.jpg"}])
    return folder / "all.jsonl"


LEFT_OUT = "left out or changed: 40 true and false to yes and no, 1 without a question"
UNREAD = "near-duplicates: not looked for, as no image could be read; give --image_root"
FAR = "groups are few or large, or were joined by near-duplicates; other shares or --by image may help"
ALONE = "has 1 group, so a score on it says nothing of other patients or videos; take larger shares (--val 0.25 --test 0.25), or --folds 5"


def test_all_that_is_said_of_a_split(tmp_path):
    result = split_jsonl(few_groups(tmp_path), tmp_path / "out", seed=3, by="image", stratify="none", near="off")
    assert list(describe(result)) == [
        "train: 36 rows, 18 groups, 18 images, 2 questions",
        "val: 2 rows, 1 groups, 1 images, 2 questions",
        "test: 2 rows, 1 groups, 1 images, 2 questions",
        LEFT_OUT,
        "near-duplicates: not looked for",
        f"split {result['sha256'][:12]}, seed 3, by image, stratified by none",
        f"WARNING: val {ALONE}",
        f"WARNING: test {ALONE}",
        f"WARNING: val has 5.0% of the rows, not 10%: {FAR}",
        f"WARNING: test has 5.0% of the rows, not 10%: {FAR}",
    ]


def test_all_that_is_said_of_folds(tmp_path):
    assert list(describe_folds(folds_jsonl(few_groups(tmp_path), tmp_path / "folds", 3))) == [
        "fold_0: val 10 rows, 5 groups, 5 images, 2 questions, 25.0% of the rows; train 30 rows, 2 groups",
        "fold_1: val 28 rows, 1 groups, 14 images, 2 questions, 70.0% of the rows; train 12 rows, 6 groups",
        "fold_2: val 2 rows, 1 groups, 1 images, 2 questions, 5.0% of the rows; train 38 rows, 6 groups",
        LEFT_OUT,
        UNREAD,
        "3 folds, seed 0, by group, stratified by question",
        f"WARNING: fold_1 has 70.0% of the rows, not 33%: {FAR}",
        f"WARNING: fold_2 has 5.0% of the rows, not 33%: {FAR}",
    ]


def test_what_is_said_of_near_duplicates(tmp_path):
    folder = eight_pictures(tmp_path)
    Image.open(folder / "b.png").save(folder / "copy.png")
    rows = chain("a", "b", "c", "d", "e", "f", "g", "h") + [{"image": "copy.png"}, {"image": "gone.png"}]
    result = split_jsonl(file_of(folder, *rows), folder / "split", val=0.2, test=0.2)
    said = "near-duplicates: 2 images, which join 1 groups to others (9 of 10 images read; dHash, at most 8 of 128 bits differ)"
    assert said in list(describe(result))


def test_the_whole_of_a_split_json(tmp_path):
    src = few_groups(tmp_path)
    result = split_jsonl(src, tmp_path / "out")
    files = {name: tmp_path / "out" / f"{name}.jsonl" for name in NAMES}
    hashes = {name: sha256(path) for name, path in files.items()}
    counts = {name: {key: result["splits"][name][key] for key in ("rows", "groups", "images", "questions")} for name in NAMES}
    whole = {
        "sha256": hashlib.sha256("".join(f"{name} {hashes[name]}\n" for name in NAMES).encode()).hexdigest(),
        "source": {"name": "all.jsonl", "sha256": sha256(src)},
        "seed": 0,
        "by": "group",
        "shares": {"train": 0.8, "val": 0.1, "test": 0.1},
        "stratified_by": "question",
        "near_duplicates": {"max_distance": 8, "images_read": 0, "images": 20, "near_duplicates": 0, "groups_joined": 0},
        "changes": {"without a question": 1, "true and false to yes and no": 40},
        "splits": {name: {**counts[name], "sha256": hashes[name]} for name in NAMES},
    }
    assert result == whole == json.loads((tmp_path / "out" / "split.json").read_text())
    assert counts == {
        "train": {"rows": 32, "groups": 3, "images": 16, "questions": 2},
        "val": {"rows": 4, "groups": 2, "images": 2, "questions": 2},
        "test": {"rows": 4, "groups": 2, "images": 2, "questions": 2},
    }


def test_the_lines_to_paste_whole(tmp_path):
    src = few_groups(tmp_path, language="de")
    lines = config_lines(src, {"train": src}).splitlines()
    own = [f"extends: {ROOT / 'config_exp1.yaml'}", "output_dir: outputs_mine", "data:", f"  train_jsonl: {src}"]
    assert lines == [*own, "  image_root: the folder that image names start from", "  language: de"]
    (tmp_path / "00.jpg").write_bytes(b"")
    assert config_lines(src, {"train": src}).splitlines() == [*own, f"  image_root: {tmp_path}", "  language: de"]


def test_the_commands_options_without_any_and_with_others(monkeypatch, capsys):
    """What isn't given is left to split_jsonl and folds_jsonl, whose own defaults the lines of the command show."""

    def parsed(*words):
        monkeypatch.setattr(sys, "argv", ["split.py", "all.jsonl", "out", *words])
        return vars(parse_arguments())

    own = {"src": "all.jsonl", "dst": "out", "val": None, "test": None, "folds": None, "seed": 0, "by": "group", "stratify": "question"}
    own |= {"image_root": None, "near": "auto"}
    assert parsed() == own
    given = ["--val", "0.2", "--test", "0", "--seed", "4", "--by", "image", "--stratify", "none", "--image_root", "i"]
    others = {"val": 0.2, "test": 0.0, "seed": 4, "by": "image", "stratify": "none", "image_root": "i", "near": "on"}
    assert parsed(*given, "--near-duplicates", "on") == own | others
    assert parsed("--folds", "5") == own | {"folds": 5}
    for words in (
        ["--near-duplicates", "x"],
        ["--by", "x"],
        ["--stratify", "x"],
        ["--folds", "1.5"],
        ["--se", "1"],
        ["--folds", "2", "--val", "0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            parsed(*words)
        assert stopped.value.code == 2 and words[0] in capsys.readouterr().err
