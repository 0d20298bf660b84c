"""What looks like a person: found in texts, file names and metadata, with no false alarm on real data; and what the doctor says.

python -m pytest tests/data/test_personal.py -v
"""

import io
import json
import random
from collections import Counter

import pytest
from PIL import Image, PngImagePlugin

from config import Config
from data.check import check, describe, finding_lines
from data.personal import count, found_in, in_picture
from files import write_jsonl

SUFFIXES = (".jpg", ".jpeg", ".png")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("pat. meier, born 1900", "name date"),
        ("Dr. Smith", "name"),
        ("seen by prof. dr. huber", "name"),
        ("Herr Müller", "name"),
        ("Patient Meier", "name"),
        ("Nachname: Meier", "name"),
        ("MEIER^HANS", "name"),
        ("polyp of hans", "name"),
        ("12.03.1950", "date"),
        ("03/12/1950", "date"),
        ("1950-03-12", "date"),
        ("12.03.50", "date"),
        ("on March 12, 2019", "date"),
        ("3. März 2021", "date"),
        ("geb. 1950", "date"),
        ("née le 3.4.50", "date"),
        ("MRN 123456", "identifier"),
        ("patient id: A12345", "identifier"),
        ("a.smith@clinic.org", "identifier"),
        ("+41 44 123 45 67", "identifier"),
        ("756.1234.5678.97", "identifier"),
        ("123-45-6789", "identifier"),
        ("1.2.840.113619.2.55.3", "identifier"),
        ("48151623", "identifier"),
        ("herr meier", "name"),
        ("ist der polyp von frau meier sichtbar?", "name"),
        ("Pat.: Weber", "name"),
        ("Weber, K", "name"),
        ("dr huber", "name"),
        ("untersucher huber", "name"),
        ("pat meier", "name"),
        ("患者王小明", "name"),
        ("M. Dupont", "name"),
        ("née Dubois", "name"),
        ("Praticien: Dupont", "name"),
        ("检查医师: 王小明", "name"),
        ("12/3/50", "date"),
        ("12-03-50", "date"),
        ("12. märz", "date"),
        ("12.III.1950", "date"),
        ("出生于1950年", "date"),
        ("birth_year: 1950", "date"),
        ("110101195003071234", "identifier"),
        ("12345678Z", "identifier"),
        ("X1234567L", "identifier"),
        ("2 85 05 78 006 084 36", "identifier"),
        ("285057800608436", "identifier"),
        ("0123456", "identifier"),
        ("S21/12345", "identifier"),
        ("H-21-4567", "identifier"),
        ("AB123456", "identifier"),
        ("病历号: 4711", "identifier"),
        *[
            (text, "")
            for text in ("patient male", "Die Frau liegt", "M. Crohn", "M. rectus", "1/2/3", "患者周围有血吗", "患者有息肉", "Hepatitis, B")
        ],
        *[(text, "") for text in ("2-3-12", "1. Mark the polyp", "00012345", "doctor performing surgery", "Assistant: Answer", "25/12 mm")],
        ("Mr X", "name"),
        ("Mrs O'Brien", "name"),
        ("Señora García", "name"),
        ("Kowalczyk, Jan", "name"),
        ("Müller-Lüdenscheidt, Eva", "name"),
        ("O'Neil, Sean", "name"),
        ("Meier, H.", "name"),
        ("kowalczyk jan", "name"),
        ("Jan Kowalczyk", "name"),
        ("mr x", "name"),
        ("Pat.-Nr. 12345", "identifier"),
        ("patient12345", "identifier"),
        ("ID: 123456", "identifier"),
        ("tel. 044 123 45 67", "identifier"),
        ("12. 3. 1950", "date"),
        ("MAR-12-1950", "date"),
        ("12MAR50", "date"),
        ("patient: meier", "name"),
        ("Patient’s name: meier", "name"),
        ('{"PatientName": "kowalczyk"}', "name"),
        ("PatientName: Kowalczyk", "name"),
        ("Surgeon: nowak", "name"),
        ("supine patient: none, patient: nowak", "name"),
        ("患者：王芳", "name"),
        ("MRN12345", "identifier"),
        ("PatientID=12345", "identifier"),
        ("P12345678", "identifier"),
        ("p12345678", "identifier"),
        ("12-MAR-1950", "date"),
        ("12MAR1950", "date"),
        ("12-MAR-50", "date"),
        ("1950-Mar-12", "date"),
        ("1er février 2020", "date"),
        ("12 de enero de 2020", "date"),
        ("3-Dez-2021", "date"),
        ("1950年3月12日", "date"),
        ("PatientBirthDate: 19500312", "date"),
        *[
            (text, "")
            for text in (
                "MR X",
                "10 ms After",
                "Polyp, Forceps",
                "Red, White",
                "patient: female",
                "C20",
                "Snare, Jaw",
                "Mark Lesion",
                "in jan 2020 ml",
            )
        ],
        *[(text, "") for text in ("margin 12 mm", "may 3", "PMC1234567", "green/black box", "name the finding", "nombre", "Jan 12")],
        *[(text, "") for text in ("yes", "0-IIa", "Paris IIa", "11-20mm", "1.5; 2.5; 3.5", "10/12/15 mm", "patient is prone")],
        *[
            (text, "")
            for text in ("Patient Is Supine", "MR angiography", "Barrett's esophagus", "2010 - 2020 ml", "case 12", "born", "20/20")
        ],
        *[(text, "") for text in ("Forrest Ib", "Kelly forceps", "center; center-left", "3,000,000", "0.1234567", "version 5.23.0", "")],
    ],
)
def test_texts(text, kinds):
    assert {item.kind for item in found_in(text)} == set(kinds.split())


def test_of_a_kind_the_first_patterns_find_is_shown():
    """Not the last one's: the likelier patterns come first."""
    assert found_in("born 1950-03-12, seen 12. März 2021") == (("date", "1950-03-12"),)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("meier_hans_19500312.jpg", "name date"),
        ("pat_meier/0001.png", "name"),
        ("20240131_081500.jpg", "date"),
        ("2021-03-04/001.jpg", "date"),
        ("4815162/001.png", "identifier"),
        ("Kowalczyk_Jan/0001.png", "name"),
        ("data\\pat_meier\\1.png", "name"),
        ("pat_meier", "name"),
        ("MRN12345_12-MAR-1950.bmp", "identifier date"),
        *[(name, "") for name in ("frames/frame_000123.png", "VID01/000123.jpg", "cju0qkwl35piu0993l0azdei2.jpg", "001-001_18185.jpg")],
        *[(name, "") for name in ("000000123456.jpg", "PMC1234567_fig1.jpg", "synpic54610.jpg", "pat_frames/a.png", "patient_7/a.png")],
        *[(name, "") for name in ("frames/0123456.png", "P12/00123.png", "V01-12-03-50.png", "1/2/10.png")],
    ],
)
def test_file_names(name, kinds):
    assert {item.kind for item in found_in(name)} == set(kinds.split())


def picture(form, **options):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, form, **options)
    return file.getvalue()


def test_what_is_written_beside_the_pixels():
    exif = Image.Exif()
    exif[0x013B], exif[0x010E] = "A. Huber", "Pat. Meier, colon"  # Artist, ImageDescription
    exif.get_ifd(0x8769).update({0x9003: "2021:03:04 10:11:12", 0x9286: b"ASCII\0\0\0MRN 123456"})  # DateTimeOriginal, UserComment
    exif.get_ifd(0x8825).update({2: (47.0, 22.0, 3.0), 4: (8.0, 33.0, 0.0)})  # GPS latitude, longitude
    for form in ("JPEG", "PNG"):
        found = {item.kind: item.text for item in in_picture(picture(form, exif=exif))}
        assert found.keys() == {"name", "date", "identifier", "place"}
        assert found["date"] == "DateTimeOriginal: 2021:03:04 10:11:12" and found["identifier"] == "UserComment: MRN 123456"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "Huber")
    texts.add_text("Software", "Hans 3.0")
    assert [item.text for item in in_picture(picture("PNG", pnginfo=texts))] == ["Author: Huber"]
    assert [item.kind for item in in_picture(picture("JPEG", comment=b"Frau Meier"))] == ["name"]
    texts = PngImagePlugin.PngInfo()
    texts.add_text("PatientID", "Kowalczyk")
    assert [item.text for item in in_picture(picture("PNG", pnginfo=texts))] == ["PatientID: Kowalczyk"]
    found = in_picture(picture("JPEG", comment=b"PatientName: Kowalczyk"))
    assert [item.text for item in found] == ["comment: PatientName: Kowalczyk"]


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("DICOM", "MEIER^HANS", "name"),
        ("Name", "Meier, Hans", "name"),
        ("Operator", "nowak", "name"),
        ("MRN", "123456", "identifier"),
        ("Source", "Dr. Huber", "name"),
        ("Keywords", "pat meier", "name"),
        ("Creation Time", "12 Mar 2021 10:11:12", "date"),
        ("Software", "Hans 3.0", None),
        ("Colour", "yes", None),
    ],
)
def test_every_text_of_a_picture_is_looked_at_with_its_name(key, text, kind):
    texts = PngImagePlugin.PngInfo()
    texts.add_text(key, text)
    assert [item.kind for item in in_picture(picture("PNG", pnginfo=texts))] == [kind] * (kind is not None)


@pytest.mark.parametrize("captions", [[b"Pat. Meier, col."], [b"colon", b"Pat. Meier, col."]])
def test_a_caption_of_iptc_and_the_date_of_exif_are_read(captions):
    entries = b"".join(b"\x1c\x02\x78" + len(text).to_bytes(2, "big") + text for text in captions)
    block = b"8BIM\x04\x04\0\0" + len(entries).to_bytes(4, "big") + entries
    content = picture("JPEG")
    segment = b"Photoshop 3.0\0" + block
    content = content[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:]
    assert [item.text for item in in_picture(content)] == ["Caption: Pat. Meier"]
    exif = Image.Exif()
    exif[0x0132] = "2021:03:04 10:11:12"  # DateTime
    assert [item.text for item in in_picture(picture("JPEG", exif=exif))] == ["DateTime: 2021:03:04 10:11:12"]
    exif = Image.Exif()
    exif[0x9C9C] = "Frau Müller".encode("utf-16-le")  # XPComment, as Windows writes it
    exif.get_ifd(0x8825)[29] = "2021:03:04"  # GPSDateStamp, without a place
    assert {item.text for item in in_picture(picture("JPEG", exif=exif))} == {"XPComment: Frau Müller", "GPSDateStamp: 2021:03:04"}


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:my="urn:my" photoshop:DateCreated="2021-03-04" my:Zoom="2">
<dc:creator><rdf:Seq><rdf:li>nowak</rdf:li></rdf:Seq></dc:creator>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">MRN12345</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_xmp_packet_is_read(form):
    """Where each format keeps it; a broken one as plain text."""

    def written(packet):
        if form == "PNG":
            texts = PngImagePlugin.PngInfo()
            texts.add_itxt("XML:com.adobe.xmp", packet)
            return picture("PNG", pnginfo=texts)
        exif = Image.Exif()
        exif[0x02BC] = packet.encode()
        return picture("TIFF", exif=exif) if form == "TIFF" else picture(form, xmp=packet.encode())

    assert set(in_picture(written(XMP))) == {
        ("name", "creator: nowak"), ("date", "DateCreated: 2021-03-04"), ("identifier", "description: MRN12345")
    }  # fmt: skip
    assert [item.kind for item in in_picture(written(XMP[:-20]))] == ["date", "identifier"]


@pytest.mark.parametrize("content", [b"", b"no image", picture("PNG"), picture("JPEG"), picture("JPEG", exif=b"Exif\0\0broken")])
def test_nothing_is_found_where_nothing_is_written(content):
    assert in_picture(content) == ()


def test_rows_are_counted_by_place_and_kind():
    rows = [
        {"id": "0", "question": "What is it?", "answer": "pat. meier, born 1900", "answers": ["Dr. Huber"], "image": "a.png", "group": 7},
        {"id": "1", "question": "Is Dr. Huber there?", "answer": None, "images": ["hans/a.png", "a.png"], "group": "Meier, Anna"},
        {"id": "2", "question": "What?", "answer": "a polyp", "image": "a2.png", "group": 12345678, "patient_name": "kowalczyk"},
        {
            "id": "3",
            "question": "What?",
            "answer": "a",
            "image": "a3.png",
            "options": ["a", "Mr X"],
            "answers_by": {"Dr. Huber": "Mrs Y", "b": None},
            "seen": {"Dr. Huber": True},
        },
        {"id": "Meier_19500312", "question": "What?", "answer": "a", "image": "a4.png", "patient_id": 4711, "Praticien": "Dupont", "n": 3},
    ]
    found = count(rows, {"a.png": in_picture(picture("JPEG", comment=b"Frau Meier"))})
    assert {where: facts["rows"] for where, facts in found.items()} == {
        "answers": {"name": 2, "date": 1},
        "options": {"name": 1},
        "raters": {"name": 1},
        "pictures": {"name": 2},
        "questions": {"name": 1},
        "file names": {"name": 1},
        "groups": {"name": 1, "identifier": 1},
        "column patient_name": {"name": 1},
        "column patient_id": {"identifier": 1},
        "column seen": {"name": 1},
        "column Praticien": {"name": 1},
        "ids": {"date": 1},
    }
    assert found["answers"]["first"] == [["0", "name", "Dr. Huber"], ["0", "date", "born 1900"], ["3", "name", "Mrs Y"]]
    assert found["column patient_name"]["first"] == [["2", "name", "patient_name: kowalczyk"]]


def test_the_doctor_warns_and_names_the_row_but_not_the_person(tmp_path):
    """What is found stands in the doctor's own report; its warnings are also printed where a training starts."""
    rows = [
        {"id": f"r{n}", "question": "What?", "answer": answer, "image": "a.png"}
        for n, answer in enumerate(("clip", "pat. meier, born 1900"))
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    (tmp_path / "a.png").write_bytes(picture("JPEG", comment=b"Frau Meier"))
    report = check({"train": tmp_path / "train.jsonl"}, Config(), tmp_path, tokens=False)
    beside, answers = (line for line in finding_lines(report) if "personal data" in line)
    assert beside.startswith("WARNING: train: pictures hold what looks like personal data (name in 2 rows; first id 'r0')")
    assert answers.startswith("WARNING: train: answers hold what looks like personal data (name in 1 row, date in 1 row; first id 'r1')")
    assert "meier" not in (beside + answers).lower()
    assert "  like personal data, answers: name 'pat. meier' (id r1), date 'born 1900' (id r1)" in list(describe(report))


def test_no_false_alarm_on_real_data(shared):
    """46,000 different texts and names of seven published datasets, and the metadata of their pictures."""
    seen, alarms = set(), Counter()
    for path in (shared / "real-data").rglob("*.json*"):
        text = path.read_text(encoding="utf-8")
        values = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else json.loads(text)
        seen.update(texts_in(values))
    for text in random.Random(0).sample(sorted(seen), 5_000):  # all of them have none, either, in nine times the time
        alarms.update((item.kind, item.text) for item in found_in(text))
    pictures = [path for path in (shared / "real-data").rglob("*") if path.suffix in SUFFIXES][::9]
    for path in pictures:
        alarms.update((item.kind, item.text) for item in in_picture(path.read_bytes()))
    assert len(seen) > 45_000 and len(pictures) > 5 and not alarms


def texts_in(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)
