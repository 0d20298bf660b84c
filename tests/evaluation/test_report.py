"""The HTML report: whole, safe, small whatever the number of rows; and its filters, clicked in a browser where there is one.

python -m pytest tests/evaluation/test_report.py -v
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import report
from files import write_jsonl

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "<script>document.title = 'broken'</script> Is there $x_{2}$ & \"more\"?"
TYPES = ("yes_no", "color", "mcq")


def make_rows(count=60):
    """Predictions about six images: confident and unsure ones, right and wrong, an empty one, one with a hostile question."""
    rows = []
    for number in range(count):
        right, confidence = number % 3 > 0, round((number % 10) / 10 + 0.05, 2)
        question = SCRIPT if number == 0 else f"Question {number % 4} of type {TYPES[number % 3]}?"
        truth = "ac"[number % 2]
        row = {"id": str(number), "pred": truth if right else "b", "gt": truth, "qtype": TYPES[number // 3 % 3], "question": question}
        row |= {
            "image": f"{number % 6}.png",
            "confidence": confidence,
            "candidates_top": [[truth if right else "b", confidence], ["<i>c</i>", 0.01]],
        }
        rows.append(row | {"reachable": True})
    rows[3] |= {"pred": "", "confidence": None, "candidates_top": None}
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images, predictions, another file to compare with, and a training log; evaluated, with its report."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for number in range(5):  # the sixth is missing
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    rows = make_rows()
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    write_jsonl(folder / "out" / "predictions_a.jsonl", [{**row, "pred": row["gt"] if row["id"] in ("0", "1") else "b"} for row in rows])
    write_jsonl(folder / "train.jsonl", [{"question": row["question"], "answer": "a", "image": "0.png"} for row in rows[1:]])
    (folder / "config.yaml").write_text("output_dir: out\ndata: {train_jsonl: train.jsonl, image_root: .}\n")
    log = [{"step": 1, "loss": 7.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 1.0, "eval_exact_match": 0.5}]
    (folder / "out" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    evaluate(folder, "--compare", "out/predictions_a.jsonl", "out/predictions.jsonl", "--report", "out/compared.html")
    evaluate(folder)
    return folder


def evaluate(folder, *arguments):
    command = [sys.executable, str(ROOT / "eval_exp1.py"), "--config", "config.yaml", *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def page(folder, name="report.html"):
    return (folder / "out" / name).read_text(encoding="utf-8")


def test_the_report_is_one_file_that_asks_for_nothing(folder):
    html = page(folder)
    assert "report: " in evaluate(folder, "--report", "out/again.html") and page(folder, "again.html") == html, (
        "the same input, the same bytes"
    )
    sources = re.findall(r"""(?:src|href)=["']([^"']{0,20})""", html) + re.findall(r"url\(([^)]{0,20})", html)
    assert sources and all(source.startswith(("data:image/jpeg;base64,"[:20], "data:image/svg+xml;base64,"[:20])) for source in sources)
    assert html.count("<script") == 1 and "@import" not in html


def test_what_the_report_says(folder):
    html, metrics = page(folder), json.loads((folder / "out" / "metrics.json").read_text())
    assert f"{metrics['micro']:.2%}" in html and f"{metrics['blind_prior']['micro']:.2%}" in html
    low, high, _ = metrics["details"]["per_type"]["color"]["interval"]
    assert f"<td>color</td><td>{metrics['per_type']['color']['accuracy']:.2%}</td><td>{low:.2%} – {high:.2%}</td>" in html
    for title in (
        "Accuracy by type",
        "Accuracy of the commonest questions",
        "Training",
        "Confusion",
        "Reliability",
        "If only the surest answers are given",
    ):
        assert title in html
    assert "predictions SHA-256" in html and "below blind" not in html and "numeric_rel_tol" in html
    assert html.count("data:image/svg+xml") >= 6 and html.count("data:image/jpeg") == 50, (
        "a tenth of the rows has image 5, which is missing"
    )
    assert html.count("image 5.png is not shown") == 10


def test_a_model_below_its_blind_prior_is_marked(folder):
    evaluate(folder, "--predictions", "out/predictions_a.jsonl")
    html = page(folder, "report_a.html")
    assert "This model scores below its blind prior" in html and html.count(" below blind</td>") == 5, "three types, micro and macro"


def test_hostile_text_is_text(folder):
    for name in ("report.html", "compared.html"):
        html = page(folder, name)
        assert "&lt;script&gt;document.title" in html and "<script>document" not in html
        assert "&lt;i&gt;c&lt;/i&gt;" in html and "<i>c</i>" not in html


def test_mistakes_come_first_the_most_confident_first(folder):
    cards = re.findall(r'data-correct="(\w+)" data-confidence="([\d.]*)"', page(folder))
    verdicts = [verdict for verdict, _ in cards]
    assert verdicts == ["wrong"] * 20 + ["right"] * 40
    shares = [float(share) if share else 0.5 for verdict, share in cards if verdict == "wrong"]
    assert shares == sorted(shares, reverse=True) and shares[0] == 0.95


def test_the_comparison_shows_the_questions_that_changed(folder):
    html = page(folder, "compared.html")
    assert "lost (1 of 1 shown)" in html and "gained (39 of 39 shown)" in html  # A has rows 0 and 1 right; B has 1 and 38 others
    assert "On 60 questions about 6 images, predictions answered 66.67% correctly and a 3.33%" in html
    assert "lost (" not in page(folder)


def test_no_report_where_none_is_wanted(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "out" / "report.html").unlink()
    assert "report:" not in evaluate(tmp_path / "copy", "--report", "none") and not (tmp_path / "copy" / "out" / "report.html").exists()


def test_a_foreign_file_of_four_fields_has_a_report_too(folder, tmp_path):
    shutil.copy(folder / "config.yaml", tmp_path)
    write_jsonl(
        tmp_path / "out" / "predictions_x.jsonl",
        [{"id": 1, "pred": None, "gt": "<b>\x01五", "qtype": "<u>"}, {"id": 2, "pred": "a", "gt": "a", "qtype": "<u>"}],
    )
    evaluate(tmp_path, "--predictions", "out/predictions_x.jsonl")
    html = page(tmp_path, "report_x.html")
    assert "&lt;u&gt;" in html and "<u>" not in html and "have no confidences" in html and "no image named" in html


def test_the_gallery_does_not_grow_with_the_rows():
    rows = [{**row, "correct": row["pred"] == row["gt"]} for row in make_rows(5000)]
    cards = report.example_cards({"judged": rows, "spellings": {}}, report.Thumbnails(None))
    assert len(cards) == report.EXAMPLES and sum(not card["correct"] for card in cards) == report.EXAMPLES * 2 // 3
    assert {card["qtype"] for card in cards if card["correct"]} == set(TYPES)


def test_essays_are_cut():
    rows = [{**row, "pred": "word " * 20_000, "question": "why " * 20_000, "correct": False} for row in make_rows(300)]
    cards = report.example_cards({"judged": rows, "spellings": {}}, report.Thumbnails(None))
    assert max(len(card["pred"]) for card in cards) == report.CLIPPED + 1 and len(json.dumps(cards)) < 1_000_000


def test_thumbnails_keep_to_their_root_and_their_budget(folder):
    inside = report.Thumbnails(folder)
    uri = inside.get("0.png")
    assert uri.startswith("data:image/jpeg;base64,") and inside.get("0.png") is uri
    assert inside.get("5.png") is None and inside.get("../x.png") is None and inside.get(None) is None and inside.get("config.yaml") is None
    (folder.parent / "outside.png").write_bytes((folder / "0.png").read_bytes())
    assert inside.get("../outside.png") is None
    small = report.Thumbnails(folder, budget=int(2.5 * len(uri)))
    assert [small.get("0.png") is not None for _ in range(3)] == [True, True, False]


# ---------------------------------------------------------------------------------------------------------------------
# In a browser

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium without a network."""
    if not (BROWSER and DRIVER):
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for flag in [*flags.split(), f"user-data-dir={tmp_path_factory.mktemp('profile')}", "proxy-server=127.0.0.1:9"]:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["report.html", "compared.html"])
def test_the_page_fits_its_width_and_shows_its_pictures(folder, browser, width, name):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    browser.get((folder / "out" / name).as_uri())
    assert browser.title.startswith("Evaluation of predictions"), "the hostile question must not have run"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    broken = "return Promise.all([...document.images].map((image) => image.decode().then(() => 0, () => 1)))"
    assert sum(browser.execute_script(broken)) == 0
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert SCRIPT in browser.find_element("id", "cards").text


def shown(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#cards .card')].filter((card) => card.offsetParent).map((card) => card.innerText)"
    )


def choose(browser, name, text):
    for option in browser.find_element("id", name).find_elements("tag name", "option"):
        if option.text == text:
            option.click()


def test_the_filters_work_by_clicking(folder, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get((folder / "out" / "report.html").as_uri())
    rows = make_rows()
    assert len(shown(browser)) == 60
    choose(browser, "correct", "wrong")
    assert len(shown(browser)) == 20 and browser.find_element("id", "shown").text == "20 shown"
    choose(browser, "type", "color")
    assert len(shown(browser)) == sum(row["pred"] != row["gt"] and row["qtype"] == "color" for row in rows) > 0
    choose(browser, "correct", "all")
    choose(browser, "type", "all")
    choose(browser, "question", SCRIPT)
    assert len(shown(browser)) == 1 and SCRIPT in shown(browser)[0]
    choose(browser, "question", "all")
    slider = browser.find_element("id", "from")
    slider.click()  # in its middle: confidences from 50 %
    assert browser.find_element("id", "from-said").text == "50 %"
    assert len(shown(browser)) == sum((row["confidence"] or 0) >= 0.5 for row in rows) > 0
