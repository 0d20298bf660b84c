"""Perturbed pictures: what each does to pixels, that the noise follows from seed and name alone, and whose picture is another's.

python -m pytest tests/data/test_perturb.py -v
"""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data import perturb
from data.images import load_image
from data.perturb import PIXELS, Shown, other_pictures, perturbations, random_of
from files import UserError


@pytest.fixture(scope="module")
def scene():
    """A picture of 60 x 40 with a slope of grey from left to right and a dark square in the upper left."""
    pixels = np.repeat(np.linspace(30, 200, 60)[None], 40, 0)
    pixels[4:12, 4:12] = 5
    return Image.fromarray(np.repeat(pixels[..., None], 3, 2).astype(np.uint8))


def shown(name, image, seed=0, file="a.jpg"):
    return np.asarray(Shown(name, seed).change(file, image), dtype=float)


def test_every_perturbation_of_the_table_does_what_it_says(scene):
    before = np.asarray(scene, dtype=float)
    assert list(perturbations()) == ["other_image", "black", "reworded", *list(PIXELS)[1:]]
    assert not shown("black", scene).any() and shown("black", scene).shape == before.shape
    for name in ("other_image", "reworded"):
        assert np.array_equal(shown(name, scene), before), "the pixels are not what changes"
    assert np.array_equal(shown("flip", scene), before[:, ::-1])
    turned = shown("rotation", scene)
    assert np.array_equal(turned, np.rot90(before)) and turned[-8, 8, 0] == 5, "counter-clockwise: upper left is lower left"
    assert Shown("rotation", 0).size((60, 40)) == (40, 60) and Shown("flip", 0).size((60, 40)) == (60, 40)
    edge = lambda pixels: np.abs(np.diff(pixels[8, :, 0])).max()
    assert edge(shown("blur", scene)) < 0.8 * edge(before)
    of_the_short_side = ImageFilter.GaussianBlur(40 * perturbations()["blur"]["sigma"])
    assert np.array_equal(shown("blur", scene), np.asarray(scene.filter(of_the_short_side)))
    assert 0 < np.abs(shown("jpeg", scene) - before).mean() < 8
    assert (shown("jpeg", scene) != np.asarray(perturb.jpeg(scene, None, 75))).any(), "of the table's quality"
    brighter = shown("overexposure", scene)
    assert brighter[20, 10, 0] == pytest.approx(255 * min(1, (before[20, 10, 0] / 255) ** 2.2 * 2**1.5) ** (1 / 2.2), abs=1)
    assert (brighter[:, -1] == 255).all(), "what is over white is white"
    spots = shown("glare", scene)
    share = (spots.min(axis=-1) > 240).mean()
    assert 0.005 < share < 0.5 and (spots >= before - 0.5).all(), "highlights, and nothing else"


def test_a_highlight_is_an_ellipse_turned_by_its_angle():
    black = Image.new("RGB", (40, 30))
    found = np.asarray(perturb.glare(black, np.random.default_rng(5), 1, 0.1, 0.4), dtype=float) / np.array(perturb.WARM_WHITE)
    x, y, turn, *axes = np.random.default_rng(5).random(5)
    a, b = (30 * (0.1 + 0.3 * axis) for axis in axes)
    assert max(a, b) > 1.3 * min(a, b), "a circle would tell no angle"
    for row, column in np.ndindex(30, 40):
        seen = complex(column - x * 40, row - y * 30) * np.exp(-1j * np.pi * turn)
        assert found[row, column].max() == pytest.approx(np.clip(2 - 1.5 * abs(complex(seen.real / a, seen.imag / b)), 0, 1), abs=0.005)


def test_noise_follows_from_seed_and_name(scene):
    first = shown("glare", scene, 1, "a.jpg")
    assert np.array_equal(first, shown("glare", scene, 1, "a.jpg"))
    assert not np.array_equal(first, shown("glare", scene, 2, "a.jpg")) and not np.array_equal(first, shown("glare", scene, 1, "b.jpg"))
    assert random_of(1, "glare", "é.jpg").integers(1 << 30) == 884285910, "the same on every machine"


def test_a_picture_changes_before_it_is_resized(scene, tmp_path):
    from config import ImageConfig

    scene.save(tmp_path / "a.png")
    limits = ImageConfig(min_pixels=3136, max_pixels=12544)
    plain = load_image(str(tmp_path / "a.png"), limits)
    turned = load_image(str(tmp_path / "a.png"), limits, change=lambda image: Shown("rotation", 0).change("a.png", image))
    assert turned.size == plain.size[::-1] and turned.size[0] < turned.size[1]


@pytest.mark.parametrize(
    "table, said",
    [
        ("blurr: {}", "blurr is {}; its names are"),
        ("jpeg: {quality: high}", "jpeg takes quality, each a number"),
        ("blur: {radius: 2}", "blur takes sigma"),
        ("black: {grey: 1}", "black takes nothing"),
        ("- black", "its names are"),
    ],
)
def test_a_table_that_nothing_reads_is_refused(table, said, tmp_path, monkeypatch):
    path = tmp_path / "perturbations.yaml"
    path.write_text(table + "\n")
    monkeypatch.setattr(perturb, "PERTURBATIONS_FILE", path)
    perturbations.cache_clear()
    with pytest.raises(UserError, match=r"perturbations.yaml: ") as error:
        perturbations()
    perturbations.cache_clear()
    assert said in str(error.value)


# --- another picture


def rows_of(groups):
    return [{"image": f"{place}.jpg", **({"group": group} if group is not None else {})} for place, group in enumerate(groups)]


def test_another_picture_is_never_of_the_same_group():
    """Spelt in two ways, or named in some rows only; and with one large group as well."""
    groups = ["P1", "p1 ", "P1", "P2", 3, None, *["big"] * 40]
    rows = [*rows_of(groups), {"image": "6.jpg"}]
    owner = {f"{place}.jpg": str(group).strip().lower() if group is not None else f"{place}.jpg" for place, group in enumerate(groups)}
    for seed in range(5):
        donors = other_pictures(rows, seed)
        assert donors.keys() == {(name,) for name in owner}
        assert all(owner[name] != owner[other] for (name,), (other,) in donors.items())
    assert donors == other_pictures(rows[::-1], 4), "the order of rows decides nothing"
    assert donors != other_pictures(rows, 3)


def test_every_picture_of_another_group_may_come():
    found = {other_pictures(rows_of(["a", "a", "b", "c", "c"]), seed)[("0.jpg",)] for seed in range(60)}
    assert found == {("2.jpg",), ("3.jpg",), ("4.jpg",)}


def test_copies_and_clips_that_share_a_frame_are_one():
    rows = [{"image": "a", "images": ["a", "b"]}, {"image": "b", "images": ["b", "c"]}, {"image": "c"}, {"image": "d"}, {"image": "e"}]
    donors = other_pictures(rows, 0, copies=[("d", "a")])
    assert {donors[key] for key in (("a", "b"), ("b", "c"), ("c",), ("d",))} == {("e",)}
    assert Shown("other_image", 0, donors).instead({**rows[0], "question": "?"}) == {"image": "e", "images": ["e"], "question": "?"}


def test_where_there_is_no_other_picture_it_is_said():
    with pytest.raises(UserError, match="other_image: the 3 pictures of this split are of one patient or video; there is no other"):
        other_pictures(rows_of(["P1", "P1", "p1"]), 0)
