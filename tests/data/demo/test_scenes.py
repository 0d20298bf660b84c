"""The embedded demo: rendered scenes, whose every answer can be read off the picture, in Kvasir-VQA's form.

python -m pytest tests/data/demo/test_scenes.py -v
"""

import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.demo import scenes
from data.demo.scenes import SEEDS, SIZE, SPLIT_SCENES, questions, render, short_answers

DEMO = Path(scenes.__file__).parent
sample_scene = functools.cache(scenes.sample_scene)
CHECKED = [SEEDS["pretrain"][-1] - 37 * k for k in range(60)]  # scenes that are looked at pixel by pixel


@pytest.fixture(scope="module")
def rendered():
    return [render(seed) for seed in CHECKED]


def rows_of(split):
    return [json.loads(line) for line in (DEMO / "scenes" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def components(mask):
    """Connected regions (4 neighbours) of a bool mask, as bool masks."""
    left, found = mask.copy(), []
    while left.any():
        region = np.zeros_like(left)
        region[tuple(np.argwhere(left)[0])] = True
        while True:
            grown = region.copy()
            grown[1:] |= region[:-1]
            grown[:-1] |= region[1:]
            grown[:, 1:] |= region[:, :-1]
            grown[:, :-1] |= region[:, 1:]
            grown &= left
            if (grown == region).all():
                break
            region = grown
        found.append(region)
        left &= ~region
    return found


# --------------------------------------------------------------------------------------
# Scenes: reproducible, and every answer can be read off the picture


def test_same_seed_same_pixels_another_seed_others():
    (scene, image, masks), (again, image2, masks2), (_, other, _) = render(7), render(7), render(8)
    assert scene == again and questions(scene) == questions(again)
    assert np.array_equal(image, image2) and all(np.array_equal(masks[k], masks2[k]) for k in masks)
    assert image.size == (SIZE, SIZE) and not np.array_equal(image, other)


@pytest.mark.parametrize("split", SPLIT_SCENES)
def test_committed_rows_are_the_seeds_questions(split):
    expected = []
    for k, seed in enumerate(SEEDS[split][: SPLIT_SCENES[split]]):
        expected += [{"image": f"{split}/{k:04d}.jpg", **row} for row in questions(sample_scene(seed))]
    assert rows_of(split) == expected


def test_committed_pictures_are_what_the_seeds_render():
    """Every tool, box, colour and procedure among them; to 3 of 255 levels, as another version of a JPEG library may have them."""
    shown = [(split, k) for split, count in SPLIT_SCENES.items() for k in (*range(20), count - 1)]
    seen = set()
    for split, k in shown:
        scene, image, _ = render(SEEDS[split][k])
        again = Image.open(io.BytesIO(scenes.encode_jpeg(image)))
        stored = Image.open(DEMO / "scenes" / split / f"{k:04d}.jpg")
        assert np.abs(np.asarray(stored, int) - np.asarray(again, int)).max() <= 3, (split, k)
        seen |= {scene.box, scene.procedure, *(tool.name for tool in scene.instruments)}
    assert seen == {None, "green", "black", *scenes.PROCEDURES, *scenes.INSTRUMENTS}


def test_the_command_writes_the_committed_files_again(tmp_path, monkeypatch, capsys):
    out = tmp_path / "some" / "scenes"
    monkeypatch.setattr("sys.argv", ["scenes", "--out", str(out), "--train", "2", "--val", "1", "--test", "1"])
    scenes.main()
    pictures = {"train/0000.jpg", "train/0001.jpg", "val/0000.jpg", "test/0000.jpg"}
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == pictures | {f"{split}.jsonl" for split in SPLIT_SCENES}
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        lines = (DEMO / "scenes" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        assert (out / f"{split}.jsonl").read_text(encoding="utf-8") == "".join(lines[: count * scenes.QUESTIONS_PER_SCENE])
    assert capsys.readouterr().out == "".join(
        f"{out / split}.jsonl: {count} scenes\n" for split, count in (("train", 2), ("val", 1), ("test", 1))
    )
    before = (out / "val.jsonl").read_bytes()
    scenes.write_split(out, "val", 1)  # into the folder that is there
    assert (out / "val.jsonl").read_bytes() == before and (out / "val" / "0000.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_polyps_counted_placed_and_measured_on_the_mask(rendered):
    for scene, _, masks in rendered:
        answers = short_answers(scene)
        parts = components(masks["polyp"] > 0)
        assert answers["How many polyps are in the image?"] == str(len(parts))
        cells, sizes = set(), set()
        for part in parts:
            y, x = np.argwhere(part).mean(0)
            row, column = (
                ("upper", "center", "lower")[int(3 * y / SIZE)],
                ("left", "center", "right")[int(3 * x / SIZE)],
            )
            cells.add("center" if (row, column) == ("center", "center") else f"{row}-{column}")
            diameter = 2 * np.sqrt(part.sum() / np.pi)
            sizes.add(("<5mm", "5-10mm", "11-20mm", ">20mm")[int(np.digitize(diameter, [24, 38, 55]))])
        assert answers["Where in the image is the abnormality?"] == ("; ".join(sorted(cells)) or "none")
        assert {answers["What is the size of the polyp?"]} == (sizes or {"none"})
        assert (masks["polyp"] <= masks["visible"] * 9).all(), "a polyp reaches out of the scope's field"


def test_colors_read_from_the_pixels(rendered):
    palette = {name: np.array(rgb) / sum(rgb) for name, rgb in scenes.POLYP_COLORS.items()}
    for scene, image, masks in rendered:
        seen = set()
        for k in range(1, masks["polyp"].max() + 1):
            pixels = np.asarray(image, float)[masks["polyp"] == k]
            hue = np.median(pixels / (pixels.sum(1, keepdims=True) + 1), axis=0)
            seen.add(min(palette, key=lambda name: np.abs(hue - palette[name]).sum()))
        assert short_answers(scene)["What color is the abnormality? If more than one separate with ;"] == (
            "; ".join(sorted(seen)) or "none"
        )


def test_instruments_box_and_text_read_from_masks_and_pixels(rendered):
    for scene, image, masks in rendered:
        answers, pixels = short_answers(scene), np.asarray(image, int)
        labels, sizes = np.unique(masks["instrument"], return_counts=True)
        seen = sorted(scenes.INSTRUMENTS[n - 1] for n, size in zip(labels, sizes) if n and size > 150)
        assert answers["Are there any instruments in the image? Check all that are present."] == ("; ".join(seen) or "none")
        assert answers["How many instrumnets are in the image?"] == str(len(seen))
        corner = pixels[SIZE - 40 : SIZE - 30, 6:12].reshape(-1, 3).mean(0)
        frame = pixels[SIZE - 40 : SIZE - 20, 3].min()  # the box's light outline, where else is nothing so bright
        assert answers["Is there a green/black box artefact?"] == ("yes" if frame > 120 else "no")
        if scene.box:
            assert (corner[1] > 80) == (scene.box == "green")
        ink = pixels[masks["text"] > 0]
        assert answers["Is there text?"] == ("yes" if len(ink) > 100 and ink.min(1).mean() > 150 else "no")


def test_masks_lie_where_things_are_drawn(rendered):
    """Each polyp's own label under its middle, and under the end of its stalk; each tool's at its tip; the box from outline to outline."""
    fields = {}
    for scene, image, masks in rendered:
        pixels = np.asarray(image, int)
        label_at = lambda layer, x, y: masks[layer][int(y), int(x)]  # noqa: B023  used at once
        for number, polyp in enumerate(scene.polyps):
            assert label_at("polyp", polyp.x, polyp.y) == 1 + number
            if scene.paris == "paris ip":
                reach = 1.45 * 0.88 * scenes.POLYP_RADII[scene.size]
                assert label_at("polyp", polyp.x + reach * np.cos(polyp.angle), polyp.y + reach * np.sin(polyp.angle)) == 1 + number
        for tool in scene.instruments:
            place = tool.tip[0] + 2 * np.cos(tool.angle), tool.tip[1] + 2 * np.sin(tool.angle)
            assert label_at("instrument", *place) == 1 + scenes.INSTRUMENTS.index(tool.name)
        box = np.zeros((SIZE, SIZE), bool)
        if scene.box:
            box[168:221, 3:59] = True
            assert (pixels[[168, 169, 219, 220], 3:59] == (150, 156, 150)).all() and (pixels[168:221, [3, 58]] == (150, 156, 150)).all()
        assert np.array_equal(masks["box"], box)
        assert not (masks["instrument"] > 0)[masks["visible"] == 0].any() and masks["text"].any() == bool(scene.text)
        if not scene.box and not scene.text:
            assert pixels[masks["visible"] == 0].max() == 0, "nothing is seen outside of the scope's field"
        fields[scene.procedure] = masks["visible"].mean()
    corners_cut, circle = 1 - (2 - 1.42) ** 2 / 2, np.pi * 0.99**2 / 4  # of the square
    assert fields == pytest.approx({"colonoscopy": corners_cut, "gastroscopy": corners_cut, "capsule endoscopy": circle}, abs=0.003)


# --------------------------------------------------------------------------------------
# Questions and answers: Kvasir-VQA's form


def test_short_answers_are_in_kvasir_form():
    single = {
        "Is there text?": {"yes", "no"},
        "Is there a green/black box artefact?": {"yes", "no"},
        "Is this finding easy to detect?": {"yes", "no", "not relevant"},
        "How many polyps are in the image?": set("0123"),
        "How many instrumnets are in the image?": set("012"),
        "What is the size of the polyp?": {"none", "<5mm", "5-10mm", "11-20mm", ">20mm"},
        "What type of polyp is present?": {"none", "paris ip", "paris is", "paris iia"},
    }
    cells = {"center"} | {f"{r}-{c}" for r in ("upper", "center", "lower") for c in ("left", "center", "right")} - {"center-center"}
    lists = {
        "What color is the abnormality? If more than one separate with ;": {"pink", "red", "white", "yellow", "brown"},
        "Where in the image is the abnormality?": cells,
        "Are there any instruments in the image? Check all that are present.": {
            "biopsy forceps",
            "metal clip",
            "polyp snare",
            "tube",
        },
    }
    seen = {question: set() for question in [*single, *lists]}
    for seed in SEEDS["pretrain"][:600]:
        for question, answer in short_answers(sample_scene(seed)).items():
            labels = [answer] if question in single else [] if answer == "none" else answer.split("; ")
            assert labels == sorted(set(labels))
            seen[question] |= set(labels)
    assert seen == {**single, **lists}  # nothing else, and nothing is missing


@pytest.mark.parametrize("split", SPLIT_SCENES)
def test_procedure_question_has_options_answered_by_letter_and_by_text(split):
    rows = [row for row in rows_of(split) if "options" in row]
    assert {row["question"] for row in rows} == {scenes.PROCEDURE_QUESTION}
    letters = [row for row in rows if row["answer"] in "ABC"]
    texts = [row for row in rows if row["answer"] in row["options"]]
    assert len(letters) + len(texts) == len(rows) and min(len(letters), len(texts)) > len(rows) / 4
    assert all(sorted(row["options"]) == sorted(scenes.PROCEDURES) for row in rows)
    assert len({tuple(row["options"]) for row in rows}) == 6
    by_image = {f"{split}/{k:04d}.jpg": sample_scene(seed) for k, seed in enumerate(SEEDS[split][: SPLIT_SCENES[split]])}
    for row in rows:
        chosen = row["options"]["ABC".index(row["answer"])] if row in letters else row["answer"]
        assert chosen == by_image[row["image"]].procedure


def test_guessing_the_commonest_answer_stays_below_one_half():
    counts = {}
    for row in rows_of("train"):
        counts.setdefault(row["question"], []).append(row["answer"])
    guess = {question: max(set(answers), key=answers.count) for question, answers in counts.items()}
    rows = rows_of("test")
    assert len(rows) >= 1300 and len({row["image"] for row in rows}) >= 150
    assert sum(guess[row["question"]] == row["answer"] for row in rows) / len(rows) < 0.5


# --------------------------------------------------------------------------------------
# Seeds: of the splits and of pretraining


def test_seed_ranges_are_disjoint_and_long_enough():
    ranges = sorted(SEEDS.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in zip(ranges, ranges[1:]))
    assert all(len(SEEDS[split]) >= count for split, count in SPLIT_SCENES.items())
