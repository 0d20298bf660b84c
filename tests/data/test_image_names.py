"""Names of images: how they are compared, what can't be one, and the file that a misspelled one means.

python -m pytest tests/data/test_image_names.py -v
"""

import re
import unicodedata

import pytest

from data.image_copies import look_at
from data.image_names import image_name, image_path, spelled, twin
from data.images import check_images
from data.rows import read_rows
from files import UserError, write_jsonl

NFC = "größe.jpg"
NFD = unicodedata.normalize("NFD", NFC)


@pytest.mark.parametrize("name", ["./a/b.jpg", "a//b.jpg", "a/./b.jpg", "a/c/../b.jpg", "a/b.jpg"])
def test_names_are_compared_as_paths(tmp_path, name):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "Is it?", "answer": "yes", "image": name}])
    assert image_name(name, "here") == next(read_rows(tmp_path / "rows.jsonl"))["image"] == "a/b.jpg"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("data:image/png;base64," + "iVBORw0KGgo" * 30_000, "a picture as text; images must be files"),
        ("DATA:image/jpeg;base64,/9j/4AAQ", "a picture as text; images must be files"),
        ("https://example.org/a.jpg", "an address; images must be files"),
        (" s3://bucket/a.jpg", "an address; images must be files"),
        ("file:///a.jpg", "an address; images must be files: write the file's name below data.image_root"),
        ("/9j/4AAQSkZJRg" * 20_000, "280,000 letters that can't be the name of a file; images must be files"),
        ("ä" * 128 + ".jpg", "132 letters that can't be the name of a file"),
        ("a\0.jpg", "6 letters that can't be the name of a file"),
    ],
)
def test_what_is_no_file_is_refused_in_a_short_line(tmp_path, name, why):
    write_jsonl(tmp_path / "rows.jsonl", [{"question": "Is it?", "answer": "yes", "image": name}])
    with pytest.raises(UserError, match=rf"rows.jsonl:1: image is '.*', {re.escape(why)}") as error:
        list(read_rows(tmp_path / "rows.jsonl"))
    assert len(str(error.value)) < len(str(tmp_path)) + 250 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a\\b.jpg", "a/b.jpg"),
        ("./A/B.JPG", "a/b.jpg"),
        ("a/b.jpg", "A/b.JPEG"),
        ("a/b", "a/b.png"),
        ("a/b.jpg", "a/b.png"),
        ("a/b.jpg ", "a/b.jpg"),
        ("case.1/f.2.jpg", "case.1/F.2.jpg"),
        ("C:\\Users\\me\\a\\b.jpg", "a/B.JPG"),
        ("D:/scans/b.jpg", "b.jpg"),
        ("\\\\pacs\\share\\a\\b.jpg", "a/b.jpg"),
        ("a%20b/c%C3%A4.jpg", "a b/cä.jpg"),
        ('"b.jpg"', "b.jpg"),
        ("..\\img\\b.jpg", "img/b.jpg"),
        ("..\\img\\b.jpg", "b.jpg"),
        ("b.jpg\n", "b.jpg"),
        (f"x/{NFC}", f"x/{NFD}"),
        (f"x/{NFD}", f"x/{NFC}"),
        (f"x\\{NFC.upper()}", f"x/{NFD}"),
    ],
)
def test_the_twin_of_a_misspelled_name_is_named(tmp_path, name, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")
    path = image_path(tmp_path, name)
    assert twin(path) == str(tmp_path / file)
    row = {"id": "r1", "image": name}
    with pytest.raises(
        UserError, match=f"row 'r1': image .* does not exist, but {re.escape(spelled(path, str(tmp_path / file)))} does; correct"
    ) as error:
        check_images([row], tmp_path, tmp_path / "cache.json")
    assert "\n" not in str(error.value)


def test_a_name_that_begins_with_the_folder_it_lies_in_has_a_twin(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "b.jpg").write_bytes(b"")
    assert twin(image_path(tmp_path / "img", "img/b.jpg")) == str(tmp_path / "img" / "b.jpg")


@pytest.mark.parametrize("name", ["C:\\pictures\\a.jpg", "c:/pictures/a.jpg", "\\\\pacs\\pictures\\a.jpg"])
def test_a_path_of_windows_is_called_one(tmp_path, name):
    with pytest.raises(UserError, match="does not exist; write the name below data.image_root, not a path of Windows$"):
        check_images([{"id": "r1", "image": name}], tmp_path, tmp_path / "cache.json")


@pytest.mark.parametrize("name", [".", "a", "a/", "a/.."])
def test_a_folder_is_called_one(tmp_path, name):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="row 'r1': image .* is a folder; name a picture in it$"):
        check_images([{"id": "r1", "image": name}], tmp_path, tmp_path / "cache.json")
    assert look_at(tmp_path, name).problem == "unreadable (a folder; name a picture in it)"


def test_names_that_look_the_same_say_what_tells_them_apart():
    assert spelled(f"x/{NFC}", f"x/{NFD}").endswith(" in Unicode's NFD") and spelled(f"x/{NFD}", f"x/{NFC}").endswith(" in Unicode's NFC")
    assert spelled("x/A.jpg", "x/a.jpg") == "x/a.jpg"


@pytest.mark.parametrize("name", ["c.jpg", "b.tif", "..\\x.jpg", "no/such/folder/b.jpg"])
def test_no_twin_is_made_up(tmp_path, name):
    """Of two that it might be none is named, and none outside the folder."""
    (tmp_path / "in").mkdir()
    for file in ("x.jpg", "in/b.jpg", "in/b.png", "in/c.txt"):
        (tmp_path / file).write_bytes(b"")
    assert twin(image_path(tmp_path / "in", name)) is None
