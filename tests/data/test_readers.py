"""The readers: bytes, order and ids kept, junk counted, and one line for each kind of broken source.

python -m pytest tests/data/test_readers.py -v
"""

import hashlib
import json
import os
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from data_sets import (
    HEADER,
    JPEG,
    ORGAN,
    OTHER_JPEG,
    PNG,
    RECORDS,
    WHERE,
    contents,
    converted,
    endovis,
    lay,
    only,
    read,
    record,
    run,
    write_folder,
    write_parquet,
    write_table,
)

from config import near, this_python
from data import readers
from data.formats import source_files
from data.formats.cholec import CHOLEC80, SSG
from data.formats.endovis import ENDOVIS_18
from data.formats.pitvqa import PITVQA
from data.image_names import images_of
from data.rows import read_rows
from files import UserError, sha256

ROOT = Path(__file__).resolve().parents[2]


# --- Parquet ---


def test_parquet_rows_in_order_with_answers_as_they_are(tmp_path):
    source = write_parquet(tmp_path / "src" / "data" / "raw-00000-of-00001.parquet", RECORDS)
    image_root, images, dropped, _ = readers.convert("kvasir-vqa", tmp_path / "src", tmp_path / "dst")
    expected = [
        ("0", "images/b.jpg", "What color is the abnormality? If more than one separate with ;", "Pink; red"),
        ("1", "images/a.png", "Is there text?", "yes"),
        ("2", "images/b.jpg", "How many polyps are in the image?", "0"),
        ("4", "images/a.png", "What is the size of the polyp?", "<5mm"),
        ("5", "images/c.jpg", "What type of polyp is present?", "none"),
        ("8", "images/a.png", "Is there a green/black box artefact?", "no"),
    ]
    keys = ("id", "image", "question", "answer")
    assert read(tmp_path / "dst" / "all.jsonl") == [dict(zip(keys, values)) | {"source": "HyperKvasir"} for values in expected]
    assert image_root == tmp_path / "dst"
    assert images == {"images/b.jpg": 2, "images/a.png": 3, "images/c.jpg": 1}
    assert dropped == {"without a question": 2, "without an answer": 1}
    readers.convert("kvasir-vqa", source, tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


def test_parquet_images_keep_their_bytes_and_are_written_once(tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    written = Counter()
    atomic_open = source_files.atomic_open
    monkeypatch.setattr(source_files, "atomic_open", lambda path, mode: written.update([path.name]) or atomic_open(path, mode))
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written == {"b.jpg": 1, "a.png": 1, "c.jpg": 1}
    for name, data in {"b.jpg": JPEG, "a.png": PNG, "c.jpg": OTHER_JPEG}.items():
        assert sha256(tmp_path / "dst" / "images" / name) == hashlib.sha256(data).hexdigest()
    readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert written.total() == 3, "a second run found the images and wrote none"


@pytest.mark.parametrize("below", ["data", "."])
def test_parquet_files_of_a_folder_are_one_dataset_in_name_order(tmp_path, below):
    write_parquet(tmp_path / "parts" / below / "raw-00001-of-00002.parquet", RECORDS[4:])
    write_parquet(tmp_path / "parts" / below / "raw-00000-of-00002.parquet", RECORDS[:4])
    write_parquet(tmp_path / "whole" / "all.parquet", RECORDS)
    readers.convert("kvasir-vqa", tmp_path / "parts", tmp_path / "two")
    readers.convert("kvasir-vqa", tmp_path / "whole", tmp_path / "one")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_row_whose_image_contradicts_its_img_id_is_dropped_and_counted(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, record("b", OTHER_JPEG)])
    _, images, dropped, _ = readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert (images.total(), dropped["with another image than an earlier row of the same img_id"]) == (6, 1)
    assert (tmp_path / "dst" / "images" / "b.jpg").read_bytes() == JPEG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record("d", None), "row 9: has no image bytes"),
        (record("d", b""), "row 9: has no image bytes"),
        (record("d", JPEG, image=None), "row 9: has no image bytes"),
        (record("d", b"GIF? no"), "row 9: its image is unreadable (not in a format Pillow knows)"),
        (record("../d", JPEG), "row 9: img_id '../d' can't be a file name"),
        (record(None, JPEG), "row 9: img_id None can't be a file name"),
    ],
)
def test_a_broken_parquet_row_is_named(tmp_path, change, message):
    source = write_parquet(tmp_path / "rows.parquet", [*RECORDS, change])
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: {message}") and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_parquet_without_a_column_or_rows(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "img_id"} for row in RECORDS]
    source = write_parquet(tmp_path / "rows.parquet", rows, img_id=None)
    with pytest.raises(UserError, match="rows.parquet: has no column img_id; found image, source, question, answer"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    source = write_parquet(tmp_path / "rows.parquet", [RECORDS[3]])
    with pytest.raises(UserError, match=r"has no usable rows; dropped rows: 1 \(1 without a question\)"):
        readers.convert("kvasir-vqa", source, tmp_path / "dst")


def test_source_column_is_optional(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "source"} for row in RECORDS]
    readers.convert("kvasir-vqa", write_parquet(tmp_path / "rows.parquet", rows, source=None), tmp_path)
    assert set(read(tmp_path / "all.jsonl")[0]) == {"id", "image", "question", "answer"}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", source, tmp_path / "dst")
    assert str(error.value).startswith(f"{source}: unreadable from row 0 on (") and "\n" not in str(error.value)


def test_missing_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="rows.parquet: reading Parquet needs pyarrow; run: pip install pyarrow$"):
        readers.convert("kvasir-vqa", tmp_path, tmp_path / "dst")


KILLED = """
import os, signal, sys
from data import readers
from data.formats import source_files
write = source_files.write_image
def write_two(dst, img_id, data, where):
    if img_id == "c":  # the third image: die with its temporary file half written
        with source_files.atomic_open(dst / "images" / "c.jpg", "wb") as file:
            file.write(data[:50])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return write(dst, img_id, data, where)
source_files.write_image = write_two
readers.convert("kvasir-vqa", sys.argv[1], sys.argv[2])
"""


def test_a_killed_run_started_again_ends_in_the_same_files(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    killed = run("-c", KILLED, source, tmp_path / "killed", cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert {"images/a.png", "images/b.jpg"} < set(contents(tmp_path / "killed")), "it was stopped in the middle"
    assert not (tmp_path / "killed" / "all.jsonl").exists()
    for folder in ("killed", "whole"):
        readers.convert("kvasir-vqa", source, tmp_path / folder)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# --- metadata.csv ---


def test_csv_rows_reference_the_images_where_they_are(tmp_path):
    lines = [HEADER, "HyperKvasir,Is there text?,yes,a", 'x,"How many polyps, in all?","""3""",b', "x,none,nan,zzz",
             "x,Is there text?,,b", '"x","two', 'lines",no,top', "x,Is there text?,none,a"]  # fmt: skip
    folder = write_folder(tmp_path / "src", lines)
    before = contents(folder)
    image_root, images, dropped, _ = readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert [tuple(row.values()) for row in read(tmp_path / "dst" / "all.jsonl")] == [
        ("0", "images/a.png", "Is there text?", "yes", "HyperKvasir"),
        ("1", "images/b.jpg", "How many polyps, in all?", '"3"', "x"),
        ("4", "top.jpg", "two\r\nlines", "no", "x"),
        ("5", "images/a.png", "Is there text?", "none", "x"),
    ]
    assert dropped == {"without a question": 1, "without an answer": 1}
    assert image_root == folder and all((image_root / name).is_file() for name in images)
    assert list(contents(tmp_path / "dst")) == ["all.jsonl"] and contents(folder) == before, "no image was copied"
    readers.convert("kvasir-vqa", folder / "metadata.csv", tmp_path / "from_file")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "dst")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("file_name", "images/a.png"),
        ("file_name", "./images/a.png"),
        ("file_name", "a.png"),
        ("image", "images/a.png"),
        ("img_id", "a"),
        (",img_id", "7,a"),  # the number column that pandas writes unless told not to
    ],
)
def test_csv_columns_that_may_name_the_image(tmp_path, header, name):
    folder = write_folder(tmp_path, [f"question,answer,{header}", f"Is there text?,yes,{name}"])
    readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    expected = {"id": "0", "image": "images/a.png", "question": "Is there text?", "answer": "yes"}
    assert read(tmp_path / "dst" / "all.jsonl") == [expected]


def test_csv_with_byte_order_mark(tmp_path):
    folder = write_folder(tmp_path, ["\ufeffquestion,answer,img_id", "Is there text?,yes,a"])
    assert readers.convert("kvasir-vqa", folder, tmp_path / "dst")[1] == {"images/a.png": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "x,q,y,a", "x,q,y"], "metadata.csv:3: has 3 fields, not the header's 4"),
        ([HEADER, "x,q,y,a", "x,q,y,a,b"], "metadata.csv:3: has 5 fields, not the header's 4"),
        ([HEADER, 'x,"two', 'lines",y,a', 'x,"q"z,y,a'], "metadata.csv:4: not valid CSV ("),
        ([HEADER, 'x,"never closed,y,a'], "metadata.csv:2: not valid CSV ("),
        ([HEADER, "x,q,y,a", "x,q,y,missing"], "metadata.csv:3: no image missing in "),
        ([HEADER, "x,q,y,"], "metadata.csv:2: names no image; fill file_name or image or img_id"),
        ([HEADER, "x,q,y,../outside.jpg"], "metadata.csv:2: no image ../outside.jpg in "),
        (["source,question,img_id", "x,q,a"], "metadata.csv: has no column answer; found source, question, img_id"),
        (["source,question,answer", "x,q,y"], "metadata.csv: has no column file_name; found source, question, answer"),
        ([""], "metadata.csv: has no column question, answer, file_name; found none"),
        ([HEADER], "has no usable rows; dropped rows: 0"),
    ],
)
def test_a_broken_csv_is_named_by_file_and_line(tmp_path, lines, message):
    folder = write_folder(tmp_path / "src", lines)
    (tmp_path / "outside.jpg").write_bytes(JPEG)
    with pytest.raises(UserError) as error:
        readers.convert("kvasir-vqa", folder, tmp_path / "dst")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "dst" / "all.jsonl").exists()


def test_a_source_without_either_form(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=r"has no \*.parquet, data/\*.parquet or metadata.csv"):
            readers.convert("kvasir-vqa", source, tmp_path / "dst")


# --- the command ---


def test_command_from_another_folder_says_what_it_did_and_what_comes_next(tmp_path):
    write_folder(tmp_path / "my data", [HEADER, "x,q,yes,a", "x,q,no,b", "x,r,no,b", "x,none,nan,a"])
    for command in (["-m", "data.readers"], [ROOT / "data" / "readers.py"]):
        done = run(*command, "kvasir-vqa", "my data", "out put", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stderr) == (0, "")
        *lines, last = done.stdout.splitlines()
        assert lines == [
            "out put/all.jsonl: 3 rows, 2 images, 1.5 questions per image",
            "dropped rows: 1 (1 without a question)",
            f"data.image_root: {tmp_path / 'my data'}",
        ]
        words = shlex.split(last.removeprefix("next: "))
        assert words[2:] == ["out put/all.jsonl", "out put", "--image_root", "my data"]
        assert run(*words[1:], "--test", "0", cwd=tmp_path).returncode == 0, "two images make two splits"


def test_command_error_is_one_line(tmp_path):
    done = run(ROOT / "data" / "readers.py", "kvasir-vqa", tmp_path / "absent", tmp_path / "dst")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'absent'}: no such file or folder; give the dataset as downloaded\n"
    assert not (tmp_path / "dst").exists()


def test_help_lists_every_format_in_one_line_with_its_licence():
    done = run(ROOT / "data" / "readers.py", "--help")
    assert done.returncode == 0
    lines = done.stdout.split("formats:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(readers.FORMATS)
    for line in lines:
        assert "CC" in line.split(";")[-1] or "licence" in line.split(";")[-1], line


@pytest.mark.parametrize("name", readers.FORMATS)
def test_help_of_a_format_states_source_licence_and_layout(name):
    done = run(ROOT / "data" / "readers.py", name, "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "SRC" in text.split("positional arguments")[0]
    assert "https://" in text or name == "table"
    assert ("--language" in text.split("options:")[1]) == (name == "slake")
    assert ("--answers" in text.split("options:")[1]) == (name in ("endovis-18-vqa", "cholec80-vqa", "real-colon-vqa"))
    assert ("--frames" in text.split("options:")[1]) == (name in ("surgvu", "real-colon-vqa"))


# --- the other formats: hand-typed sources in the documented layouts ---


def test_endovis_18_vqa(tmp_path):
    rows, dropped = converted("endovis-18-vqa", endovis(tmp_path / "E" / "EndoVis-18-VQA"), tmp_path / "dst")
    facts = ("id", "image", "question", "answer", "group", "split")
    assert only(rows, *facts) == [
        ("0", "seq_1/left_frames/frame000.png", ORGAN, "kidney", "seq_1", "val"),
        ("1", "seq_2/left_fr/frame010.png", ORGAN, "kidney", "seq_2", "train"),
        ("2", "seq_2/left_fr/frame010.png", WHERE, "left-top", "seq_2", "train"),
        ("4", "seq_13/left_frames/frame002.png", ORGAN, "kidney", "seq_13", None),
    ]
    assert dropped == {"without an answer": 1}
    from_parent, _ = converted("endovis-18-vqa", tmp_path / "E", tmp_path / "from_parent")
    assert from_parent == rows, "the folder may lie in SRC"
    long, _ = converted("endovis-18-vqa", tmp_path / "E", tmp_path / "long", answers="long")
    assert only(long, "id", "answer", "split") == [("0", "organ being operated is kidney", "train")]


def test_images_elsewhere(tmp_path):
    src, elsewhere = endovis(tmp_path / "src"), lay(tmp_path / "pictures", images=["seq_1/left_fr/frame000.png"])
    root, images, _, _ = readers.convert("endovis-18-vqa", src, tmp_path / "dst", images=elsewhere)
    assert root == elsewhere and "seq_1/left_fr/frame000.png" in images
    assert readers.describe_missing(root, images) == ("images not found: 2 of 3, such as seq_13/left_frames/frame002.png")


def test_endovis_vqla_boxes(tmp_path):
    line = f"{WHERE}|left-top|1, 20, 640, 1024"
    src = lay(tmp_path / "18", of={"seq_16/vqla/label/frame005_QA.txt": [line, f"{ORGAN}|kidney|1,1,1280,1024"]})
    rows, _ = converted("endovis-vqla", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "seq_16/left_frames/frame005.png", "question": WHERE, "answer": "left-top",
        "group": "seq_16", "split": "val", "box": [1, 20, 640, 1024],
    }  # fmt: skip
    assert rows[1]["box"] == [1, 1, 1280, 1024]
    src = lay(tmp_path / "17", of={"vqla/label/seq9_frame015.txt": [line]}, images=["left_frames/seq9_frame015.jpg"])
    rows, _ = converted("endovis-vqla", src, tmp_path / "dst17")
    facts = ("left_frames/seq9_frame015.jpg", "endovis17_seq9", "test", [1, 20, 640, 1024])
    assert only(rows, "image", "group", "split", "box") == [facts]


def test_cholec80_vqa_keeps_every_hundredth_frame(tmp_path):
    phase, tools = "what is the phase of image?|preparation", "how many tools are operating?|1"
    of = {"5/1200_QA.txt": [phase, tools], "40/25_QA.txt": [phase], "40/100_QA.txt": [tools]}
    lay(tmp_path / "src" / "Classification", of=of)
    src = lay(tmp_path / "src", images=["cropped_image/5/1200.png"])
    rows, dropped = converted("cholec80-vqa", src, tmp_path / "dst")
    assert only(rows, "id", "image", "answer", "group", "split") == [
        ("0", "cropped_image/5/1200.png", "preparation", "5", "val"),
        ("1", "cropped_image/5/1200.png", "1", "5", "val"),
        ("3", "cropped_image/40/100.png", "1", "40", "train"),
    ]
    assert dropped == {"of frames between the multiples of 100": 1}
    rows, dropped = converted("cholec80-vqa", src, tmp_path / "all", keep_junk=True)
    assert only(rows, "id", "image")[2] == ("2", "cropped_image/40/25.png") and not dropped


SSG_LINES = [
    "Which anatomical structures are present?|liver, omentum",
    "Which tools are present?|hook",
    "Which target is being dissected in the scene?|cystic_duct",
    "What anatomy is at the top-mid of the frame ?|cystic_plate|[157.0, 60]",
    "Are there any top-mid things left of the top-mid hook instrument?|True|one_hop.json|exist|relate_spatial",
]


def test_ssg_vqa_skips_captions_and_keeps_points_and_query_types(tmp_path):
    names = ("VID01/10", "VID01/2", "VID02/7", "VID80/1")
    of = {f"qa_txt/{name}.txt": SSG_LINES for name in names}
    rows, dropped = converted("ssg-vqa", lay(tmp_path / "src", of=of), tmp_path / "dst")
    assert rows[:3] == [
        {"id": "0", "image": "VID01/000002.png", "question": "Which target is being dissected in the scene?",
         "answer": "cystic_duct", "group": "VID01", "split": "val"},
        {"id": "1", "image": "VID01/000002.png", "question": "What anatomy is at the top-mid of the frame ?",
         "answer": "cystic_plate", "point": [157.0, 60], "group": "VID01", "split": "val"},
        {"id": "2", "image": "VID01/000002.png", "answer": "True", "template": "one_hop.json", "query_type": "exist",
         "question": "Are there any top-mid things left of the top-mid hook instrument?", "relation": "relate_spatial",
         "group": "VID01", "split": "val"},
    ]  # fmt: skip
    expected = [(image, split) for image, split in (("VID01/000002.png", "val"), ("VID01/000010.png", "val"),
                ("VID02/000007.png", "test"), ("VID80/000001.png", "train")) for _ in range(3)]  # fmt: skip
    assert only(rows, "image", "split") == expected and not dropped


def test_pitvqa_leaves_out_what_the_official_loader_does(tmp_path):
    steps = ["What is the current surgical step?|durotomy", "What is the second instrument?|no_secondary_instrument"]
    of = {"qa-classification/video_02/00012.txt": steps, "qa-classification/video_25/00001.txt": steps[:1]}
    src = lay(tmp_path / "src", of=of, images=["images/video_02/00012.png"])
    rows, dropped = converted("pitvqa", src, tmp_path / "dst")
    assert only(rows, "id", "image", "answer", "group", "split") == [
        ("0", "images/video_02/00012.png", "durotomy", "video_02", "val"),
        ("2", "images/video_25/00001.png", "durotomy", "video_25", "train"),
    ]
    assert dropped == {"answered no_secondary_instrument": 1}
    again, _ = converted("pitvqa", src / "qa-classification", tmp_path / "from_part")
    assert again == rows
    lay(src, of={"qa-sentence/video_02/00012.txt": steps})
    with pytest.raises(UserError, match="has questions in .*qa-classification and .*qa-sentence; give one of these"):
        readers.convert("pitvqa", src, tmp_path / "dst")


def test_psi_ava_vqa_in_one_unicode_form(tmp_path):
    decomposed = "CASE018/00245.png|What is the current phase?|Vesi\u0301culas_Seminales"
    of = {
        "Train/C3_phase.txt": [decomposed],
        "Train/C2_action.txt": ["CASE018/00245.png|What is the action?|Cut"],
        "Val/C1_location.txt": ["k.png|Where is the tool?|top left"],
    }
    src = lay(tmp_path / "src", of=of, images=["keyframes/CASE018/00245.png"])
    rows, dropped = converted("psi-ava-vqa", src, tmp_path / "dst")
    assert rows == [
        {"id": "1", "image": "keyframes/CASE018/00245.png", "question": "What is the current phase?",
         "answer": "Vesículas_Seminales", "group": "CASE018", "split": "train", "category": "C3_phase"},
        {"id": "2", "image": "keyframes/k.png", "question": "Where is the tool?", "answer": "top left", "split": "val",
         "category": "C1_location"},
    ]  # fmt: skip
    assert dropped == {"of C2_action, which the official evaluation leaves out": 1}


REFERENCES = ["No", "No forceps are used.", "They are not used.", "None is in use.", "Not mentioned."]


def surgvu(folder, frames):
    of = {"case9/case9_question.json": "Are there forceps being used here?", "case9/case9.json": REFERENCES}
    of = {name: json.dumps(value) for name, value in of.items()}
    return lay(folder, of=of, images=[f"case9/{name}.jpg" for name in frames])


@pytest.mark.parametrize(
    ("frames", "middle"),
    [("a", "a"), ("abc", "b"), (("f2", "f10", "f9"), "f9"), (("f_0", "f_10", "f_20", "f_29"), "f_20")],
)
def test_surgvu_gives_the_middle_frame_and_all_references(tmp_path, frames, middle):
    rows, _ = converted("surgvu", surgvu(tmp_path / "src", frames), tmp_path / "dst")
    assert rows == [
        {"id": "0", "image": f"case9/{middle}.jpg", "question": "Are there forceps being used here?", "answer": "No",
         "answers": REFERENCES, "group": "case9"}
    ]  # fmt: skip


@pytest.mark.parametrize(("frames", "most", "images"), [("abcde", 3, "ace"), ("abcde", 9, "abcde"), ("a", 4, None), ("ab", 1, None)])
def test_surgvu_gives_so_many_frames_of_a_clip(tmp_path, frames, most, images):
    rows, _ = converted("surgvu", surgvu(tmp_path / "src", frames), tmp_path / "dst", frames=most)
    names = [f"case9/{name}.jpg" for name in images or ("b" if most == 1 else "a")]
    assert [(row["image"], row.get("images")) for row in rows] == [(names[0], names if images else None)]
    assert images_of(next(iter(read_rows(tmp_path / "dst" / "all.jsonl")))) == names


def test_surgvu_cases_have_their_own_folders(tmp_path):
    src = surgvu(tmp_path / "src", "abc") / "case9"
    rows, _ = converted("surgvu", src, tmp_path / "dst")
    assert only(rows, "image", "group") == [("b.jpg", "case9")]
    lay(src, of={"case8_question.json": '"q"', "case8.json": '["a"]'})
    with pytest.raises(UserError) as error:
        readers.convert("surgvu", src, tmp_path / "dst")
    assert str(error.value) == f"{src}: has 2 cases, whose frames mix; give each its own folder"


COLON = {
    "id": "qa_7", "video_id": "002-003", "frames": [f"002-003_{n}" for n in range(10, 42, 4)],
    "question_type": "nbi_status", "question": "Is the NBI light on?",
    "answer": "Yes, NBI light is on in these frames.", "short_answer": "yes",
}  # fmt: skip


def test_real_colon_vqa_short_and_long_answers(tmp_path):
    other = {**COLON, "video_id": "002-001", "question": "Is the scope moving?"}
    src = lay(tmp_path / "src", of={"annotations/in_template.jsonl": [COLON, other]},
              images=["videos/002-003_frames/002-003_26.jpg"])  # fmt: skip
    rows, _ = converted("real-colon-vqa", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "videos/002-003_frames/002-003_26.jpg", "question": "Is the NBI light on?", "answer": "yes",
        "answers": ["yes", "Yes, NBI light is on in these frames."], "group": "002-003", "question_class": "nbi_status",
        "source_id": "qa_7",
    }  # fmt: skip
    assert only(rows, "id", "group") == [("0", "002-003"), ("1", "002-001")]
    path = src / "annotations" / "in_template.jsonl"
    rows, _ = converted("real-colon-vqa", path, tmp_path / "long", answers="long")
    assert rows[0]["answer"] == COLON["answer"] and rows[0]["answers"] == [COLON["answer"], "yes"]
    assert rows[0]["image"] == "videos/002-003_frames/002-003_26.jpg"
    rows, _ = converted("real-colon-vqa", path, tmp_path / "several", frames=3)
    assert rows[0]["images"] == [f"videos/002-003_frames/002-003_{frame}.jpg" for frame in (10, 22, 38)] and rows[0]["group"] == "002-003"


def message(image, question="<image>Is there a polyp?", answer="A polyp is visible."):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": [image]}


def test_kvasir_vqa_x1_messages_find_images_by_name(tmp_path):
    train = ("/home/someone/Kvasir-VQA-x1/images/a.jpg", "D:\\x\\images\\b.jpg")
    test = ("/elsewhere/images_augmented/a.jpg", "/elsewhere/pictures/a.jpg")
    of = {
        "Kvasir-VQA-x1-train.jsonl": [message(path) for path in train],
        "Kvasir-VQA-x1-test.jsonl": [message(path) for path in test],
    }
    src = lay(tmp_path / "src", of=of, images=["images/a.jpg", "images_augmented/a.jpg"])
    rows, _ = converted("kvasir-vqa-x1", src, tmp_path / "dst")
    assert only(rows, "id", "image", "question", "answer", "split") == [
        ("0", "images/a.jpg", "Is there a polyp?", "A polyp is visible.", "train"),
        ("1", "images/b.jpg", "Is there a polyp?", "A polyp is visible.", "train"),
        ("2", "images_augmented/a.jpg", "Is there a polyp?", "A polyp is visible.", "test"),
        ("3", "images/a.jpg", "Is there a polyp?", "A polyp is visible.", "test"),
    ]
    rows, _ = converted("kvasir-vqa-x1", src / "Kvasir-VQA-x1-test.jsonl", tmp_path / "one")
    assert only(rows, "id", "split") == [("0", "test"), ("1", "test")]


def test_kvasir_vqa_x1_parquet_with_and_without_images(tmp_path):
    row = {"img_id": "a", "question": "Is it a polyp?", "answer": "Yes.", "complexity": 2, "question_class": ["polyp"]}
    write_table(tmp_path / "src" / "data" / "train-00000-of-00001.parquet", [row])
    write_table(tmp_path / "src" / "data" / "test-00000-of-00001.parquet", [row, {**row, "answer": None}])
    lay(tmp_path / "kvasir", images=["images/a.jpg"])
    rows, dropped = converted("kvasir-vqa-x1", tmp_path / "src", tmp_path / "dst", images=tmp_path / "kvasir")
    assert only(rows, "id", "image", "complexity", "question_class", "split") == [
        ("0", "images/a.jpg", 2, ["polyp"], "test"),
        ("2", "images/a.jpg", 2, ["polyp"], "train"),
    ]
    assert dropped == {"without an answer": 1}
    embedded = {**row, "image": {"bytes": PNG, "path": "a.jpg"}}
    other = {**embedded, "image": {"bytes": JPEG, "path": ""}}
    source = write_table(tmp_path / "embedded" / "test.parquet", [embedded, other])
    rows, dropped = converted("kvasir-vqa-x1", source, tmp_path / "with_images")
    assert only(rows, "image", "split") == [("images/a.png", "test")]
    assert (tmp_path / "with_images" / "images" / "a.png").read_bytes() == PNG
    assert dropped == {"with another image than an earlier row of the same img_id": 1}


def test_vqa_rad_parquet_names_images_by_content(tmp_path):
    def row(data, answer):
        return {"image": {"bytes": data, "path": None}, "question": "is there a mass?", "answer": answer}

    write_table(tmp_path / "src" / "data" / "train-00000-of-00001.parquet", [row(PNG, "yes"), row(JPEG, "no")])
    write_table(tmp_path / "src" / "data" / "test-00000-of-00001.parquet", [row(PNG, "no")])
    rows, _ = converted("vqa-rad", tmp_path / "src", tmp_path / "dst")
    png, jpeg = (hashlib.sha256(data).hexdigest()[:16] for data in (PNG, JPEG))
    assert only(rows, "image", "answer", "split") == [
        (f"images/{png}.png", "no", "test"),
        (f"images/{png}.png", "yes", "train"),
        (f"images/{jpeg}.jpg", "no", "train"),
    ]
    assert set(contents(tmp_path / "dst" / "images")) == {f"{png}.png", f"{jpeg}.jpg"}


def test_vqa_rad_public_json_tells_test_by_phrase_type(tmp_path):
    row = {"qid": 7, "image_name": "s.jpg", "question": "How many?", "answer": 3, "answer_type": "OPEN"}
    records = [{**row, "phrase_type": "freeform"}, {**row, "phrase_type": "test_para", "answer": "three"}]
    src = lay(tmp_path / "src", of={"VQA_RAD Dataset Public.json": records}, images=["VQA_RAD Image Folder/s.jpg"])
    rows, _ = converted("vqa-rad", src, tmp_path / "dst")
    assert rows[0] == {
        "id": "0", "image": "VQA_RAD Image Folder/s.jpg", "question": "How many?", "answer": "3", "split": "train",
        "answer_type": "OPEN", "source_id": 7,
    }  # fmt: skip
    assert only(rows, "answer", "split") == [("3", "train"), ("three", "test")]


@pytest.mark.parametrize(
    ("language", "kept", "left_out"),
    [("en", ["0", "2", "3"], {"in zh": 1}), ("zh", ["1"], {"in en": 3}), ("all", ["0", "1", "2", "3"], {})],
)
def test_slake_languages_and_official_splits(tmp_path, language, kept, left_out):
    en = {"qid": 0, "img_name": "xmlab1/source.jpg", "question": "Is this a CT?", "answer": "Yes", "q_lang": "en"}
    zh = {**en, "question": "这是CT吗？", "answer": "是", "q_lang": "zh"}
    src = lay(tmp_path / "src", of={"train.json": [en, zh], "validation.json": [en], "test.json": [en]},
              images=["imgs/xmlab1/source.jpg"])  # fmt: skip
    rows, dropped = converted("slake", src, tmp_path / "dst", language=language)
    splits = {"0": "train", "1": "train", "2": "val", "3": "test"}
    assert only(rows, "id", "split", "image") == [(row, splits[row], "imgs/xmlab1/source.jpg") for row in kept]
    assert {row["language"] for row in rows} == ({"en", "zh"} if language == "all" else {language})
    assert dropped == left_out
    assert ("这是CT吗？", "是") in only(rows, "question", "answer") or language == "en"
    kept_junk = readers.convert("slake", src, tmp_path / "dst", language=language, keep_junk=True)
    assert kept_junk[2] == left_out, "another language is no junk"


def conversation(image, question="Where is suction located? Answer the question with a single phrase."):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "left-top"}]
    return {"conversations": turns, "image": image}


def test_endovis_single_phrase_mends_paths_and_questions(tmp_path):
    records = [
        conversation("EndoVis-18-VQA_extended\\seq_5\\left_frames\\frame000.png"),
        conversation("EndoVis-18-VQA_extended\\seq_7\\left_frames\\frame000.png", "Where is it?"),
        conversation("EndoVis-17-VQA_extended_final\\left_frames\\seq1_frame015.jpg"),
    ]
    src = lay(tmp_path, of={"single_phrase.json": records})
    rows, _ = converted("endovis-single-phrase", src / "single_phrase.json", tmp_path / "dst")
    asked = "Where is suction located?"
    assert only(rows, "image", "question", "group", "split") == [
        ("EndoVis-18-VQA_extended/seq_5/left_frames/frame000.png", asked, "seq_5", "val"),
        ("EndoVis-18-VQA_extended/seq_7/left_frames/frame000.png", "Where is it?", "seq_7", "train"),
        ("EndoVis-17-VQA_extended_final/left_frames/seq1_frame015.jpg", asked, "endovis17_seq1", "test"),
    ]


def kvasir_json(question="Is there text?", answer="yes", **changes):
    return {"image_id": "a", "image_filename": "a.jpg", "question": question, "answer": answer, **changes}


def test_kvasir_vqa_json_keeps_junk_on_request(tmp_path):
    unanswered = kvasir_json(answer=None, image_id="b", image_filename=None)
    records = [kvasir_json(), kvasir_json("none", "nan"), kvasir_json(), unanswered, kvasir_json(answer=float("nan"))]
    for name, content in {"rows.json": records, "rows.jsonl": records}.items():
        src = lay(tmp_path, of={name: content}, images=["images/a.jpg"]) / name
        rows, dropped = converted("kvasir-vqa-json", src, tmp_path / "dst")
        expected = {"image": "images/a.jpg", "question": "Is there text?", "answer": "yes"}
        assert rows == [{"id": "0", **expected}, {"id": "2", **expected}]
        assert dropped == {"without a question": 1, "without an answer": 2}
        for format_name in ("kvasir-vqa-json", "kvasir-vqa"):
            readers.convert(format_name, src, tmp_path / "kept", keep_junk=True)
            assert only(read(tmp_path / "kept" / "all.jsonl"), "id", "image", "question", "answer") == [
                ("0", "images/a.jpg", "Is there text?", "yes"),
                ("1", "images/a.jpg", "none", "nan"),
                ("2", "images/a.jpg", "Is there text?", "yes"),
                ("3", "b.jpg", "Is there text?", None),
                ("4", "images/a.jpg", "Is there text?", None),
            ]


def test_kept_junk_of_parquet_and_csv_has_its_image(tmp_path):
    source = write_parquet(tmp_path / "rows.parquet", RECORDS)
    readers.convert("kvasir-vqa", source, tmp_path / "parquet", keep_junk=True)
    rows = read(tmp_path / "parquet" / "all.jsonl")
    assert [row["id"] for row in rows] == [str(index) for index in range(len(RECORDS))]
    assert only(rows, "image", "question", "answer")[3] == ("images/b.jpg", "none", "nan")
    folder = write_folder(tmp_path / "csv", [HEADER, "x,q,yes,a", "x,none,nan,b"])
    readers.convert("kvasir-vqa", folder, tmp_path / "dst", keep_junk=True)
    assert only(read(tmp_path / "dst" / "all.jsonl"), "image") == [("images/a.png",), ("images/b.jpg",)]


# --- official splits ---


@pytest.mark.parametrize(
    ("splits", "sizes", "absent"),
    [
        (ENDOVIS_18, {"train": 11, "val": 3}, {8, 13}),
        (CHOLEC80, {"train": 32, "val": 8}, {0, 41}),
        (PITVQA, {"train": 20, "val": 5}, {0, 26}),
        (SSG, {"train": 35, "val": 5, "test": 5}, {3, 81}),
    ],
)
def test_official_splits_are_disjoint_and_of_the_published_size(splits, sizes, absent):
    assert {split: len(videos) for split, videos in splits.items()} == sizes
    assert len(set().union(*splits.values())) == sum(sizes.values())
    assert not absent & set().union(*splits.values())


@pytest.mark.parametrize("name", ["test.jsonl", "split.json"])
def test_official_splits_are_not_mixed_with_others(tmp_path, name):
    src, other = endovis(tmp_path / "src"), lay(tmp_path / "dst", of={name: ["{}"]}) / name
    before = contents(tmp_path / "dst")
    with pytest.raises(UserError) as error:
        readers.convert("endovis-18-vqa", src, tmp_path / "dst")
    assert str(error.value) == f"{other}: is of another split than the official one; delete it or choose another DST"
    assert contents(tmp_path / "dst") == before


def test_command_tells_official_splits_and_missing_images(tmp_path, monkeypatch):
    endovis(tmp_path / "src")
    done = run(ROOT / "data" / "readers.py", "endovis-18-vqa", "src", "dst", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "dst/all.jsonl: 4 rows, 3 images, 1.3 questions per image",
        "official split: train 2 rows, val 1 rows, none 1 rows",
        "dropped rows: 1 (1 without an answer)",
        "images not found: 1 of 3, such as seq_13/left_frames/frame002.png",
        f"data.image_root: {tmp_path / 'src'}",
        f"next: a configuration of your own, with extends: {ROOT}/config_exp1.yaml and, below data:, "
        f"train_jsonl: {tmp_path}/dst/train.jsonl, val_jsonl: {tmp_path}/dst/val.jsonl",
    ]
    rows = [{"image": "a.jpg", "question": "q", "answer": "a", "split": split} for split in ("train", "test")]
    lay(tmp_path / "rad", of={"rows.jsonl": rows}, images=["images/a.jpg"])
    monkeypatch.chdir(tmp_path)
    done = run(ROOT / "data" / "readers.py", "vqa-rad", "rad", "out", cwd=tmp_path)
    said, command = done.stdout.splitlines()[-1].split(": ", 1)
    words = [this_python(), near(ROOT / "data" / "split.py"), "out/train.jsonl", "out/train_val", "--test", "0", "--image_root", "rad"]
    assert said == "next, as there is no official val" and shlex.split(command) == words


# --- malformed sources ---

C18, VQLA = "seq_2/vqa/Classification/frame010_QA.txt", "seq_2/vqla/label/frame010_QA.txt"
SSG_SHAPES = "question|answer or question|answer|[x, y] or question|answer|template|query_type|relation"
BROKEN = {
    "too few fields": ("endovis-18-vqa", {C18: [f"{ORGAN}|kidney", "", ORGAN]},
                       f"{C18}:3: has 1 field, not question|answer; correct or delete the line"),
    "too many fields": ("pitvqa", {"qa/video_01/1.txt": ["q|a|b"]},
                        "qa/video_01/1.txt:1: has 3 fields, not question|answer; correct or delete the line"),
    "box of three": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 2, 3"]},
                     f"{VQLA}:1: the box is '1, 2, 3', not 4 numbers; correct or delete the line"),
    "box inside out": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 2, 3, 4", f"{ORGAN}|kidney|9, 2, 3, 4"]},
                       f"{VQLA}:2: the box 9, 2, 3, 4 ends before it starts; correct or delete the line"),
    "box upside down": ("endovis-vqla", {VQLA: [f"{ORGAN}|kidney|1, 9, 3, 4"]},
                        f"{VQLA}:1: the box 1, 9, 3, 4 ends before it starts; correct or delete the line"),
    "four fields": ("ssg-vqa", {"qa_txt/VID01/1.txt": [*SSG_LINES, "q|a|zero_hop.json|count"]},
                    f"qa_txt/VID01/1.txt:6: has 4 fields, not {SSG_SHAPES}; correct or delete the line"),
    "no captions": ("ssg-vqa", {"qa_txt/VID01/1.txt": SSG_LINES[4:]},
                    "qa_txt/VID01/1.txt:1: is no scene caption, which a file's first two lines are; add the captions"),
    "no point": ("ssg-vqa", {"qa_txt/VID01/1.txt": [*SSG_LINES, "q|a|[1.0]"]},
                 "qa_txt/VID01/1.txt:6: the point is '[1.0]', not 2 numbers; correct or delete the line"),
    "no frame": ("psi-ava-vqa", {"Val/C4_step.txt": ["f.png|q|a", "What is the step?|Corte"]},
                 "Val/C4_step.txt:2: has 2 fields, not frame|question|answer; correct or delete the line"),
    "no frame number": ("cholec80-vqa", {"Classification/5/notes.txt": ["q|a"]},
                        "Classification/5/notes.txt: its name is no frame number; name it FRAME_QA.txt or remove it"),
    "references as one text": ("surgvu", {"case1/case1_question.json": '"q"', "case1/case1.json": '"No"'},
                               'case1/case1.json:1: the references are "No", not a list of texts; '
                               "correct or delete them"),
    "question without quotes": ("surgvu", {"case1/case1_question.json": "What organ?", "case1/case1.json": '["No"]'},
                                "case1/case1_question.json:1: not valid JSON (Expecting value); correct the file"),
    "no references": ("surgvu", {"case1/case1_question.json": '"q"'}, "case1/case1.json: no such file"),
    "no frames": ("surgvu", {"case1/case1_question.json": '"q"', "case1/case1.json": '["No"]'},
                  "case1: has no frames; take some from the video, as .jpg"),
    "frames missing": ("real-colon-vqa", {"in_template.jsonl": [COLON, {**COLON, "frames": []}]},
                       "in_template.jsonl:2: frames are [], not a list of texts; correct or delete them"),
    "one answer missing": ("real-colon-vqa", {"in_template.jsonl": [{**COLON, "answer": None}]},
                           'in_template.jsonl:1: short_answer and answer are ["yes", null], not a list of texts; '
                           "correct or delete them"),
    "three turns": ("kvasir-vqa-x1", {"x-train.jsonl": [{**message("a.jpg"), "messages": [{"role": "user"}] * 3}]},
                    "x-train.jsonl:1, turn 2: is no conversation of questions and answers in turn; correct or delete it"),
    "image without a name": ("kvasir-vqa-x1", {"x-test.jsonl": [message("/")]},
                             "x-test.jsonl:1: names no image; correct or delete it"),
    "endless name": ("vqa-rad", {"rows.jsonl": [{"image": "a" * 999, "question": "q", "answer": 1, "split": [1]}]},
                     "rows.jsonl:1: split is [1], not train, val or test; correct it"),
    "unknown split": ("vqa-rad", {"rows.jsonl": [{"image": "a.jpg", "question": "q", "answer": "a", "split": "dev"}]},
                      "rows.jsonl:1: split is 'dev', not train, val or test; correct it"),
    "image outside": ("vqa-rad", {"rows.jsonl": [{"image": "../a.jpg", "question": "q", "answer": "a"}]},
                      "rows.jsonl:1: image ../a.jpg lies outside the images' folder; name it relative to that"),
    "unknown language": ("slake", {"test.json": [{"img_name": "a", "q_lang": "fr", "question": "q", "answer": "a"}]},
                         "test.json:2: q_lang is 'fr', not en or zh; correct it"),
    "comma missing": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + "\n{}\n]"},
                      "r.json:3: not valid JSON (a comma or ] is missing); correct the file"),
    "cut array": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json()) + ',\n{"image_id": "b'},
                  "r.json:3: not valid JSON (Unterminated string starting at); correct the file"),
    "key twice": ("kvasir-vqa-json", {"r.json": '[\n{"image_id": "a", "answer": "a", "answer": "b"}]'},
                  "r.json:2: key 'answer' is given twice; keep one of them"),
    "nested": ("kvasir-vqa-json", {"r.json": "[\n" + "[" * 100_000}, "r.json:2: is nested too deeply; correct or delete it"),
    "no object": ("kvasir-vqa-json", {"r.json": "[\n\n" + json.dumps(kvasir_json()) + ",\n7]"},
                  "r.json:4: is 7, not an object; correct or delete it"),
    "answer as object": ("kvasir-vqa-json", {"r.json": "[\n" + json.dumps(kvasir_json(answer={"text": "yes"})) + "]"},
                         "r.json:2: answer is an object with fields text, not text; write it as text, a number, true or false, "
                         "or a list of these"),
    "no image": ("kvasir-vqa-json", {"r.jsonl": [kvasir_json(), {"question": "q", "answer": "a"}]},
                 "r.jsonl:2: names no image; add image_filename"),
    "half a character": ("kvasir-vqa-json", {"r.json": "[" + json.dumps(kvasir_json(answer="\ud800")) + "]"},
                         "r.json:1: holds half a character (an unpaired \\ud800-\\udfff); correct the text"),
    "neither dataset": ("endovis-single-phrase", {"r.json": json.dumps([conversation("frames\\f.png")])},
                        "r.json:1: image frames/f.png is neither of EndoVis-18, seq_N/, nor of EndoVis-17, which this format is for; "
                        "this looks like conversations: python -m data.readers conversations SRC/r.json DST"),
    "absolute image": ("vqa-rad", {"rows.jsonl": [{"image": "/a.jpg", "question": "q", "answer": "a"}]},
                       "rows.jsonl:1: image /a.jpg lies outside the images' folder; name it relative to that"),
    "empty file": ("real-colon-vqa", {"in_template.jsonl": []},
                   "in_template.jsonl: has no rows; write one JSON object a line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_source_is_named_by_file_and_line(tmp_path, kind):
    name, of, message = BROKEN[kind]
    src = lay(tmp_path / "src", of=of)
    if name in ("kvasir-vqa-json", "endovis-single-phrase"):
        src = src / next(iter(of))
    with pytest.raises(UserError) as error:
        readers.convert(name, src, tmp_path / "dst")
    assert str(error.value).replace(f"{tmp_path / 'src'}", "SRC") == f"SRC/{message}"
    assert not list(tmp_path.glob("dst/*"))


@pytest.mark.parametrize("name", sorted(set(readers.FORMATS) - {"kvasir-vqa"}))
def test_a_folder_without_the_dataset_is_named(tmp_path, name):
    with pytest.raises(UserError) as error:
        readers.convert(name, lay(tmp_path / "src", of={"notes.md": "hello"}), tmp_path / "dst")
    assert str(error.value).startswith(f"{tmp_path / 'src'}: ") and "; give the " in str(error.value)
    with pytest.raises(UserError):
        readers.convert(name, tmp_path / "src" / "notes.md", tmp_path / "dst")


def test_text_that_is_not_utf8_is_named_by_line(tmp_path):
    src = endovis(tmp_path / "src")
    (src / C18).write_bytes(b"q|a\nVes\xedculas|b\n")
    with pytest.raises(UserError, match=f"{C18}:2: not UTF-8 text \\(.* at byte 7\\); save it as UTF-8$"):
        readers.convert("endovis-18-vqa", src, tmp_path / "dst")


# --- real files ---


def distinct(rows):
    return len(set(only(rows, "image", "question", "answer")))


def test_real_kvasir_vqa_json(shared, tmp_path):
    folder = shared / "real-data" / "kvasir_vqa"
    rows, dropped = converted("kvasir-vqa-json", folder / "dirty_12082.json", tmp_path / "kept", keep_junk=True)
    answers = {}
    for row in rows:
        answers.setdefault((row["image"], row["question"]), set()).add(row["answer"])
    assert (len(rows), distinct(rows), sum(len(found) > 1 for found in answers.values())) == (12082, 6899, 33)
    assert only(rows, "question", "answer").count(("none", "nan")) == 10 and not dropped
    val, _ = converted("kvasir-vqa-json", folder / "val.jsonl", tmp_path / "val", keep_junk=True)
    assert (len(val), len(val) - distinct(val)) == (8786, 18)
    assert len({row["image"] for row in val} & {row["image"] for row in rows}) == 109
    clean, dropped = converted("kvasir-vqa-json", folder / "dirty_12082.json", tmp_path / "clean")
    assert len(clean) == 12072 and dropped == {"without a question": 10}


def test_real_endovis_single_phrase(shared, tmp_path):
    source = shared / "real-data" / "endovis" / "single_phrase.json"
    rows, dropped = converted("endovis-single-phrase", source, tmp_path / "dst")
    assert Counter(only(rows, "group", "split")) == {
        ("seq_1", "val"): 1136, ("seq_5", "val"): 1219, ("seq_16", "val"): 881, ("endovis17_seq1", "test"): 60,
        ("endovis17_seq2", "test"): 48, ("endovis17_seq6", "test"): 118, ("endovis17_seq8", "test"): 120,
        ("endovis17_seq9", "test"): 267,
    }  # fmt: skip
    assert not any("\\" in row["image"] or "single phrase" in row["question"] for row in rows) and not dropped
    assert all(row["question"].endswith("?") for row in rows)


def test_real_ssg_vqa(shared, tmp_path):
    folder = shared / "real-data" / "ssg_vqa"
    lines = (folder / "VID01_262.sample.txt").read_text(encoding="utf-8").splitlines()
    rows, _ = converted("ssg-vqa", lay(tmp_path / "src", of={"qa_txt/VID01/262.txt": lines}), tmp_path / "dst")
    assert Counter(only(rows, "image", "group", "split")) == {("VID01/000262.png", "VID01", "val"): 19}
    assert Counter(row.get("template") for row in rows) == {
        None: 4, "single_and.json": 4, "zero_hop.json": 1, "one_hop.json": 10
    }  # fmt: skip
    assert [row["point"] for row in rows if "point" in row] == [[157.0, 60.0], [203.5, 207.0]]
    for split, videos in SSG.items():
        assert set(json.loads((folder / f"{split}_videos.json").read_text())) == {f"VID{video:02}" for video in videos}


def test_real_colon_vqa(shared, tmp_path):
    rows, _ = converted("real-colon-vqa", shared / "real-data" / "real_colon_vqa", tmp_path / "dst")
    assert Counter(row["group"] for row in rows) == {
        "002-001": 700, "002-002": 1000, "002-003": 1000, "002-004": 1000, "002-005": 750, "002-006": 750
    }  # fmt: skip
    assert Counter(row["answer"] for row in rows)["no"] == 2004
    assert all(len(row["answers"]) == 2 and row["answers"][1].endswith(".") for row in rows)
    assert rows[0]["image"] == "videos/002-003_frames/002-003_3822.jpg", "the fifth of eight"


def test_real_surgvu(shared, tmp_path):
    rows, _ = converted("surgvu", shared / "real-data" / "surgvu25", tmp_path / "dst")
    cases = [f"case{number}" for number in range(122, 128)]
    assert only(rows, "group", "image") == [(case, f"{case}/frame_000020.jpg") for case in cases]
    assert all(len(row["answers"]) == 5 and row["answer"] == row["answers"][0] for row in rows)
    assert readers.describe_missing(shared / "real-data" / "surgvu25", {row["image"] for row in rows}) is None


def test_real_vqa_rad(shared, tmp_path):
    rows, _ = converted("vqa-rad", shared / "real-data" / "vqa_rad", tmp_path / "dst")
    assert Counter(row["split"] for row in rows) == {"train": 64, "test": 30}
    assert len({row["image"] for row in rows}) == 12
    assert readers.describe_missing(shared / "real-data" / "vqa_rad", {row["image"] for row in rows}) is None
