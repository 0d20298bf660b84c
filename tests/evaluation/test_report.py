"""The HTML report: whole, safe, small whatever the number of rows; its words, and its page in a browser where there is one.

python -m pytest tests/evaluation/test_report.py -v
"""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from evaluating import ALICE, CFG, ONE_FILE, SCRIPT, TYPES, make_rows, make_study, opened
from PIL import Image
from quick_python import quick_python

from config import PublicNames, load_config
from evaluation import report, runs
from files import write_jsonl

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images, predictions, another file to compare with, and a training log; evaluated, with its report."""
    folder = make_study(tmp_path_factory.mktemp("report"))
    evaluate(folder, "--compare", "out/predictions_a.jsonl", "out/predictions.jsonl", "--report", "out/compared.html")
    evaluate(folder)
    return folder


def evaluate(folder, *arguments):
    command = [quick_python(), str(ROOT / "eval_exp1.py"), "--config", "config.yaml", *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def report_of(folder, rows, *overrides, images=True):
    """The report of a file without a sidecar that lies in an empty folder."""
    path = folder / "out" / "predictions_x.jsonl"
    write_jsonl(path, rows)
    if not (folder / "config.yaml").exists():
        (folder / "config.yaml").write_text("output_dir: out\n")
    cfg = load_config(folder / "config.yaml", overrides)
    run = runs.evaluate(cfg, runs.load_all(cfg, [path], ONE_FILE)[0], ONE_FILE)
    report.write_report(folder / "out" / "report_x.html", cfg, run, images)
    return page(folder, "report_x.html")


def page(folder, name="report.html"):
    return (folder / "out" / name).read_text(encoding="utf-8")


def lines_of(text):
    """The page's tables as lists of their cells' texts."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
    plain = lambda cell: html.unescape(re.sub(r"<[^>]+>", "  ", cell)).strip()
    return [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def section(text, name):
    """The part of the page under a heading."""
    return re.split(r"<h2 ", text.split(f'<h2 id="{name}">')[1])[0]


def test_the_report_is_one_file_that_asks_for_nothing(folder):
    text = page(folder)
    assert "report: " in evaluate(folder, "--report", "out/again.html") and page(folder, "again.html") == text, (
        "the same input, the same bytes"
    )
    sources = re.findall(r"""(?:src|href)=["']([^"']{0,20})""", text) + re.findall(r"url\(([^)]{0,20})", text)
    allowed = ("data:image/jpeg;base64,"[:20], "data:image/svg+xml;base64,"[:20], "#")
    assert sources and all(source.startswith(allowed) for source in sources)
    assert text.count("<script") == 1 and "@import" not in text


def test_what_the_report_says(folder):
    text, metrics = page(folder), json.loads((folder / "out" / "metrics.json").read_text())
    share = lambda value: f"{value:.2%}"
    item, gain = metrics["per_type"]["color"], metrics["gains"]["per_type"]["color"]
    low, high = metrics["details"]["per_type"]["color"]["interval"][:2]
    ends = "{:+.2f} to {:+.2f}".format(*(100 * end for end in gain["interval"][:2]))
    expected = ["color", str(item["correct"]), str(item["count"]), share(item["accuracy"]), f"{share(low)} – {share(high)}"]
    expected += [share(metrics[name]["per_type"]["color"]["accuracy"]) for name in ("lenient", "blind_prior")]
    assert [*expected, f"{100 * gain['difference']:+.2f}", ends, "100.00%"] in lines_of(section(text, "headline"))
    overall = metrics["details"]["overall"]
    further = {line[0].split("  ")[0]: line[1:] for line in lines_of(section(text, "beside")) if len(line) == 3}
    assert further["macro-F1"] == [share(overall["macro_f1"]), f"{overall['labels']} labels"]
    assert further["effective number of images"] == [f"{overall['effective_clusters']:.1f}", "6 images"]
    assert '<p class="warning">WARNING: 6 images' in section(text, "headline")
    for title in ("Accuracy by type", "Accuracy of the commonest questions", "Training", "Reliability", "If only the surest answers"):
        assert title in text
    facts = dict(line for line in lines_of(section(text, "facts")))
    assert len(facts["predictions SHA-256"]) == 64 and "numeric_rel_tol" in section(text, "facts") and "below blind" not in text
    assert text.count("data:image/svg+xml") >= 6 and text.count("data:image/jpeg") == 50, (
        "a tenth of the rows has image 5, which is missing"
    )
    assert text.count("image 5.png is not shown") == 10


def test_the_title_names_model_adapter_split_and_date(folder):
    title = "Qwen2-VL-7B-Instruct, adapter out/adapter, validation split, 5 Nov 2026"
    text = page(folder)
    assert f"<title>Surgical VQA: {title}</title>" in text and f"<h1>{title}</h1>" in text and "The date is that of prediction." in text


def test_the_methods_paragraph_says_what_is_known_and_asks_for_the_rest(folder):
    text = html.unescape(re.sub("<[^>]+>", "", page(folder).partition('id="methods"')[2].partition("<details>")[0]))
    assert "The base model is Qwen2-VL-7B-Instruct (its revision was not recorded). [for the authors: how the model was adapted]" in text
    assert "Scores are on the val split: 60 questions about 6 images." in text and "Decoding is deterministic (exact)" in text
    assert "Every score stands beside what the blind prior, each question's commonest training answer" in text


def test_nobody_s_folder_is_named(folder):
    for name in ("report.html", "compared.html"):
        text = html.unescape(page(folder, name))
        assert "alice" not in text.casefold() and "/home" not in text and "/mnt" not in text
        assert str(folder) not in text and str(folder.parent) not in text
    facts = dict(line for line in lines_of(section(page(folder), "facts")))
    assert (
        facts["model"] == "Qwen2-VL-7B-Instruct" and facts["data"] == "data/val.jsonl" and facts["predictions"] == "out/predictions.jsonl"
    )
    assert facts["command of prediction"] == "predict_exp1.py --split val data.image_root=frames"
    settings = re.search(r"<pre>(.*?)</pre>", page(folder), re.DOTALL)[1]
    assert "train_jsonl: data/train.jsonl" in settings and "image_root: frames" in settings and "output_dir: out\n" in settings


def test_images_and_ids_that_are_paths_are_named_by_their_last_part(tmp_path):
    rows = [{"id": f"{ALICE}/{n}.png#1", "image": f"{ALICE}/{n}.png", "pred": "a", "gt": "b", "qtype": "color"} for n in range(3)]
    text = report_of(tmp_path, rows)
    assert "alice" not in text and "image 2.png is not shown" in text and "id 2.png#1" in text


def test_the_contents_lead_to_every_section_and_provenance_stands_before_the_examples(folder):
    for name in ("report.html", "compared.html"):
        text = page(folder, name)
        links = re.findall(r'href="#(\w+)"', text.split("<nav")[1].split("</nav>")[0])
        assert links == re.findall(r'<h2 id="(\w+)"', text) and links[0] == "headline" and links[-2:] == ["facts", "gallery"]
        assert ("comparison" in links) == (name == "compared.html")


def test_a_model_below_its_blind_prior_is_marked(folder):
    evaluate(folder, "--predictions", "out/predictions_a.jsonl", "--no-images")
    text = page(folder, "report_a.html")
    assert "data:image/jpeg" not in text and "data:image/jpeg" in page(folder)
    assert "This model scores below its blind prior" in text.split("<h2")[0]
    assert text.count(" below blind</td>") == 5, "three types, micro and macro"


def test_alarms_stand_above_the_numbers(folder, tmp_path):
    rows = [{**row, "pred": "" if int(row["id"]) < 6 else row["pred"]} for row in make_rows()]
    head = report_of(tmp_path, rows, "eval.numeric_rel_tol=0.5").split("<h2")[0]
    alarms = re.findall(r'<p class="warning">(.*?)</p>', head)
    assert any(line.startswith("empty predictions: 6 of 60") for line in alarms)
    assert any("eval.numeric_rel_tol=0.5 (default 0.05)" in line for line in alarms)


def test_hostile_text_is_text(folder):
    for name in ("report.html", "compared.html"):
        text = page(folder, name)
        assert "&lt;script&gt;document.title" in text and "<script>document" not in text
        assert "&lt;i&gt;c&lt;/i&gt;" in text and "<i>c</i>" not in text


def test_what_steers_a_terminal_or_hides_is_shown_escaped(tmp_path):
    row = {"id": "7\x1b[31m\n<b>", "pred": "a\u202eb", "gt": "b", "qtype": "own\x07type", "question": "Why?\x00", "image": "a\nb.png"}
    text = report_of(tmp_path, [row, {**row, "id": "8"}])
    for escaped in ("7\\x1b[31m\\n&lt;b&gt;", "a\\u202eb", "own\\x07type", "Why?\\x00", "a\\nb.png"):
        assert escaped in text
    assert not set("\x1b\u202e\x07\x00") & set(text)


def test_mistakes_come_first_the_most_confident_first(folder):
    cards = re.findall(r'data-correct="(\w+)" data-confidence="([\d.]*)"', section(page(folder), "gallery"))
    verdicts = [verdict for verdict, _ in cards]
    assert verdicts == ["wrong"] * 20 + ["right"] * 40
    shares = [float(share) if share else 0.5 for verdict, share in cards if verdict == "wrong"]
    assert shares == sorted(shares, reverse=True) and shares[0] == 0.95


def test_24_examples_at_first_and_the_rest_behind_one_more_click(folder):
    first, rest = section(page(folder), "gallery").split('<details class="rest"')
    assert first.count("<article") == 24 and rest.count("<article") == 36 and "Show 36 more" in rest
    assert '<form class="filters" hidden' in first, "without a script there are no filters to be clicked in vain"


def test_the_comparison_shows_the_questions_that_changed(folder):
    text = page(folder, "compared.html")
    assert "lost (1 of 1 shown)" in text and "gained (39 of 39 shown)" in text  # A has rows 0 and 1 right; B has 1 and 38 others
    said = "On 60 questions about 6 images, the tuned model with exact constrained decoding answered 66.67% correctly and a 3.33%"
    assert said in text.replace("predictions answered", "the tuned model with exact constrained decoding answered")
    assert "lost (" not in page(folder)


def written(out, cfg, run):
    report.write_report(out, cfg, run)
    return out.read_text(encoding="utf-8")


@pytest.fixture
def copy(folder, tmp_path):
    """(configuration, function that loads one of the folder's predictions) of a copy of the folder."""
    return opened(shutil.copytree(folder, tmp_path / "copy"))


def test_seeds_have_a_table(copy, tmp_path):
    cfg, load = copy
    run = runs.evaluate_seeds(cfg, [load("predictions.jsonl"), load("predictions_a.jsonl")], ONE_FILE)
    lines = lines_of(section(written(tmp_path / "seeds.html", cfg, run), "seeds"))
    assert lines[-1][:4] == ["OVERALL (micro)", "60", "35.00%", "44.78%"], "40 and 2 of 60 are right: the mean, and the deviation (n - 1)"
    assert [line[0] for line in lines[1:-1]] == list(TYPES)


def test_seeds_on_both_sides_are_compared_without_counts_of_single_rows(copy, tmp_path):
    cfg, load = copy
    sides = [[load("predictions_a.jsonl")] * 2, [load("predictions.jsonl")] * 2]
    part = section(written(tmp_path / "pair.html", cfg, runs.evaluate_pair(cfg, sides, ONE_FILE)), "comparison")
    assert lines_of(part)[-1][:5] == ["OVERALL (micro)", "60", "3.33%", "66.67%", "+63.33"] and lines_of(part)[-1][-2:] == ["–", "–"]
    assert "2 of A, 2 of B" in part


def test_a_type_called_like_a_mean_is_a_type(tmp_path):
    rows = [{**row, "qtype": "OVERALL (macro)"} for row in make_rows()]
    text = report_of(tmp_path, rows)
    assert [line[0] for line in lines_of(section(text, "headline"))][1:] == ["OVERALL (macro)", "OVERALL (micro)", "OVERALL (macro)"]
    assert section(text, "headline").count('<tr class="total') == 2


def test_no_report_where_none_is_wanted(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "out" / "report.html").unlink()
    assert "report:" not in evaluate(tmp_path / "copy", "--report", "none") and not (tmp_path / "copy" / "out" / "report.html").exists()


def test_a_foreign_file_of_four_fields_has_a_report_too(folder, tmp_path):
    shutil.copy(folder / "config.yaml", tmp_path)
    shutil.copy(folder / "train.jsonl", tmp_path)
    (tmp_path / "out").mkdir()
    shutil.copy(folder / "out" / "trainer_state.json", tmp_path / "out")
    rows = [{"id": 1, "pred": None, "gt": "<b>\x01五", "qtype": "<u>"}, {"id": 2, "pred": "a", "gt": "a", "qtype": "<u>"}]
    text = report_of(tmp_path, rows)
    assert "<h1>predictions_x.jsonl, " in text and dict(lines_of(section(text, "facts")))["model"].startswith("not known")
    assert "&lt;u&gt;" in text and "<u>" not in text and "have no confidences" in text and "no image named" in text
    assert "<figcaption>Training" not in text, "the log in output_dir is that of another model"


# ---------------------------------------------------------------------------------------------------------------------
# Missed findings, labels


def polyps(missed=15):
    """20 polyps, `missed` of them called absent, the later the surer; 5 frames without, one false alarm. And what isn't about presence."""
    facts = {"qtype": "yes_no", "question": "Is there a polyp?"}
    rows = [{"pred": "no" if n < missed else "yes", "gt": "yes", "confidence": 0.5 + n / 100} for n in range(20)]
    rows += [{"pred": "yes" if n == 0 else "no", "gt": "no", "confidence": 0.9} for n in range(5)]
    rows = [{**facts, **row, "id": f"P{n}", "image": f"{n}.png"} for n, row in enumerate(rows)]
    count = {"qtype": "count_numeric", "question": "How many polyps?", "confidence": 0.99, "image": "x.png"}
    rows += [{**count, "id": "c0", "pred": "0", "gt": "2"}, {**count, "id": "c1", "pred": "3", "gt": "2"}]
    return rows + [{**facts, "question": "Is the image sharp?", "id": "s", "pred": "no", "gt": "yes", "confidence": 1.0, "image": "x.png"}]


def test_missed_findings_stand_after_the_headline_with_the_surest_shown(tmp_path):
    text = report_of(tmp_path, polyps())
    assert re.findall(r'<h2 id="(\w+)"', text)[:2] == ["headline", "missed"]
    part = section(text, "missed")
    lines = {line[0]: line[1:] for line in lines_of(part)}
    cells = lambda name: [cell.split(" ")[0] for cell in lines[name]]
    # of 22 there 15 + 1 missed and 5 + 1 seen; of 5 absent 1 called there
    assert cells("all of them") == ["22", "16", f"{6 / 22:.2%}", "5", "1", "80.00%", f"{6 / 7:.2%}", "20.00%"]
    assert cells("Is there a polyp?") == ["20", "15", "25.00%", "5", "1", "80.00%", f"{5 / 6:.2%}", f"{4 / 19:.2%}"]
    assert cells("How many polyps?")[:3] == ["2", "1", "50.00%"]
    assert re.search(r"25\.00% +\d+\.\d\d% – \d+\.\d\d%", lines["Is there a polyp?"][2]), "with its interval"
    assert "16 of 22</b>findings missed" in text.split("<h2")[0] and "The 12 most confident of 16 missed findings" in part
    assert re.findall(r" id (\w+) ", part) == ["c0", *(f"P{n}" for n in range(14, 3, -1))]
    everything = section(report_of(tmp_path, polyps(missed=3)), "missed")
    assert "All 4 missed findings" in everything and everything.count("<article") == 4


def test_what_nobody_asks_is_no_section(folder):
    assert 'id="missed"' not in page(folder) and "findings missed" not in page(folder)


def test_many_questions_do_not_make_the_section_grow(tmp_path):
    rows = [{**row, "question": f"Is there a polyp in segment {n}?"} for n, row in enumerate(polyps() * 4)]
    rows = [{**row, "id": str(n)} for n, row in enumerate(rows)]
    part = section(report_of(tmp_path, rows), "missed")
    assert len(lines_of(part)) == 2 + report.LISTED and "rarer questions are not listed" in part


def test_each_label_has_its_recall_the_commonest_first(tmp_path):
    answers = [("pink", "pink")] * 3 + [("pink", "red"), ("red", "red"), ("red", "pink"), ("blue", "red")]
    rows = [{"id": n, "pred": pred, "gt": gt, "qtype": "color", "question": "Which?"} for n, (gt, pred) in enumerate(answers)]
    part = section(report_of(tmp_path, rows), "labels")
    assert "color: 3 labels, 1 never found" in part
    assert [line[:4] for line in lines_of(part)[1:]] == [
        ["pink", "4", "3", "75.00%"],
        ["red", "2", "1", "50.00%"],
        ["blue", "1", "0", "0.00%"],
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Pictures, examples


def test_without_images_nothing_shows_whose_they_are(tmp_path):
    rows = [{**row, "id": f"patient-{row['id']}", "image": f"meier_{row['image']}"} for row in make_rows()]
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"meier_{number}.png")
    (tmp_path / "config.yaml").write_text("output_dir: out\ndata: {image_root: .}\n")
    text = report_of(tmp_path, rows)
    assert text.count("data:image/jpeg") == 60 and "image meier_0.png" in text and "id patient-0" in text
    text = report_of(tmp_path, rows, images=False)
    assert "data:image/jpeg" not in text and "meier" not in text and "patient-" not in text and 'class="no-image"' not in text
    assert "Without pictures, image names and ids" in text and " row 0 " in text and " row 57 " in text
    assert text.count("<article") == 60 and text.count("data:image/svg+xml") >= 4
    text = report_of(tmp_path, [{**rows[0], "id": "junk", "gt": "nan"}, *rows], images=False)
    assert " row 0 " not in text and " row 58 " in text, "numbered as in the file, rows that were left out included"


def cards_of(rows, images=True):
    run = {"judged": rows, "conventions": None, "details": {"presence": None}}
    return report.Cards(run, PublicNames(CFG, {}), report.Thumbnails(None), images).examples()


def ids_of(cards):
    return " ".join(card["name"].removeprefix("id ") for card in cards)


def test_what_a_card_holds(tmp_path):
    top = [["red", 1.0000005], *([name, 0.1] for name in "abcde")]
    row = {"id": f"{ALICE}/7", "qtype": "own\n", "question": "[Stage-1] WHICH  one?", "pred": None, "gt": "g" * 401, "correct": False}
    row |= {"lenient": True, "confidence": 0.5, "abstained": True, "image": "a.png", "images": [f"{ALICE}/a.png", "b.png", "c.png"]}
    row |= {"candidates_top": top, "place": 9}
    (card,) = cards_of([row])
    assert card == {
        "correct": False, "lenient": True, "confidence": 0.5, "abstained": True, "qtype": "own\\n", "question": "[Stage-1] WHICH  one?",
        "pred": None, "gt": "g" * 400 + "…", "name": "id 7", "image": "a.png and 2 more", "question_key": "which one", "thumbnail": None,
        "top": [("red", 1.0), *((name, 0.1) for name in "abcd")], "before": None,
    }  # fmt: skip
    (card,) = cards_of([row], images=False)
    assert (card["name"], card["image"]) == ("row 9", None)
    (card,) = cards_of([{key: row[key] for key in ("id", "qtype", "pred", "correct")} | {"gt": "g" * 400}])
    known = {"name": "id 7", "qtype": "own\\n", "correct": False, "gt": "g" * 400, "question_key": "", "top": []}
    assert card == dict.fromkeys(card) | known


def test_mistakes_are_told_by_how_sure_and_how_far_they_are():
    row = {"qtype": "count_numeric", "question": "How many?", "gt": "2", "correct": False}
    said = {"a": "3", "b": "9", "c": "many", "d": ""}
    rows = [{**row, "id": name, "pred": pred} for name, pred in said.items()]
    rows += [{**row, "id": "sure", "pred": "3", "confidence": 0.9}, {**row, "id": "unsure", "pred": "9", "confidence": 0.2}]
    rows += [{**row, "id": "half", "pred": "3", "confidence": 0.5}]
    lists = {**row, "qtype": "color", "question": "Which?", "gt": "pink; red"}
    rows += [{**lists, "id": "x", "pred": "red"}, {**lists, "id": "y", "pred": "red; blue; pink"}, {**lists, "id": "w", "pred": "blue"}]
    assert ids_of(cards_of(rows)) == "sure b a half c d w x y unsure"


def test_every_type_has_its_share_of_the_gallery():
    """Mistakes of each type by turns, the worst of each; right answers evenly from the whole file, in its order."""
    make = lambda qtype, count, correct: [
        {"id": f"{qtype}{correct:d}{n}", "qtype": qtype, "pred": "a", "gt": "b", "correct": correct, "confidence": n / 1000}
        for n in range(count)
    ]
    rows = [*make("color", 200, False), *make("mcq", 5, False), *make("color", 300, True), *make("mcq", 10, True)]
    names = ids_of(cards_of(rows)).split()
    assert len(names) == 240
    assert names[:160] == [*(f"color0{n}" for n in range(199, 44, -1)), *(f"mcq0{n}" for n in range(4, -1, -1))]
    assert names[160:] == [*(f"color1{300 * n // 240}" for n in range(70)), *(f"mcq1{n}" for n in range(10))]
    few = [*make("color", 10, False), *make("color", 500, True)]
    assert ids_of(cards_of(few)).split()[10:] == [f"color1{500 * n // 240}" for n in range(230)]


def test_questions_that_changed_are_shown_evenly_with_what_was_said_before():
    rows = [{"id": str(n), "qtype": "color", "pred": "a", "gt": "a", "correct": True} for n in range(100)]
    other = [{**row, "pred": "b", "correct": False} for row in rows]
    other[0]["pred"] = None
    run = {"judged": rows, "conventions": None, "comparison": {}, "other": {"judged": other}}
    shown = lambda run: report.Cards(run, PublicNames(CFG, {}), report.Thumbnails(None)).changed()
    found = shown(run)
    gained = [(card["name"], card["before"]) for card in found.pop("gained")]
    assert gained == [(f"id {5 * n // 2}", "b" if n else "") for n in range(40)]
    assert found == {"lost": [], "lost_total": 0, "gained_total": 100}
    found = shown({**run, "judged": other[:3] + rows[3:5], "other": {"judged": rows[:5]}})
    assert [(card["name"], card["pred"], card["before"]) for card in found.pop("lost")] == [
        ("id 0", None, "a"),
        ("id 1", "b", "a"),
        ("id 2", "b", "a"),
    ]
    assert found == {"gained": [], "lost_total": 3, "gained_total": 0}


def test_pictures_are_where_the_configuration_says_else_where_they_were(tmp_path):
    (tmp_path / "config.yaml").write_text("output_dir: out\n")
    for name in ("now", "then"):
        (tmp_path / name).mkdir()
    sidecar = {"config": {"data": {"image_root": str(tmp_path / "then")}}}
    root = lambda sidecar, *overrides: report.image_root(load_config(tmp_path / "config.yaml", overrides), sidecar)
    assert root(sidecar, f"data.image_root={tmp_path / 'now'}") == tmp_path / "now"
    assert root(sidecar, f"data.image_root={tmp_path / 'gone'}") == root(sidecar) == tmp_path / "then"
    assert root({}) == root({"config": None}) == root({"config": {"data": None}}) == tmp_path


def test_the_adapter_of_predictions_is_looked_for_beside_them(tmp_path):
    (tmp_path / "config.yaml").write_text("output_dir: out\n")
    for name in ("far/adapter", "none"):
        (tmp_path / name).mkdir(parents=True)
    cfg, path = load_config(tmp_path / "config.yaml"), tmp_path / "far" / "predictions.jsonl"
    adapter = lambda **sidecar: report.adapter_of(cfg, {"sidecar": sidecar, "path": path})
    assert [adapter(adapter=name) for name in ("adapter", "none", "gone")] == [
        tmp_path / "far" / "adapter",
        None,
        None,
    ] and adapter() is None


def test_scores_without_a_column_are_told_to_the_letter():
    overall = {
        "labels": 1234,
        "macro_f1": 0.125,
        "count": 2000,
        "label_lists": {"count": 1400, "exact_set": 0.5, "jaccard": 0.6, "example_f1": 0.7, "micro_f1": 0.8, "macro_f1": 0.9},
        "counts": {"count": 1300, "exact": 1 / 3, "within_one": 2 / 3},
        "size_bins": {"count": 1200, "exact": 0.25, "within_one": 1},
        "millimetres": {"count": 1500, "mean_abs_error": 1.255, "median_abs_error": 0.5},
        "abstention": {"abstained": 1000, "coverage": 0.5, "accuracy_of_the_rest": None},
    }
    greedy = {"count": 1800, "disagree": 1300, "only_exact_right": 1200, "only_greedy_right": 1001}
    assert list(report.further_scores({"overall": overall}, greedy)) == [
        ("macro-F1", "12.50%", "1,234 labels", "mean F1 over the different true answers of all types; some papers report it"),
        ("label lists: exact set", "50.00%", "1,400 rows", "the same labels"),
        ("label lists: jaccard", "60.00%", "1,400 rows", "labels in both over labels in either, mean over rows"),
        ("label lists: example f1", "70.00%", "1,400 rows", "twice the labels in both over all labels of both, mean over rows"),
        ("label lists: micro f1", "80.00%", "1,400 rows", "F1 over all labels given: follows the frequent ones"),
        ("label lists: macro f1", "90.00%", "1,400 rows", "mean F1 over the true labels: follows the rare ones"),
        ("counts within one", "66.67%", "1,300 rows", "a count at most one from the truth; exactly right: 33.33%"),
        ("size bins within one", "100.00%", "1,200 rows", "the same bin or a neighbour; exactly right: 25.00%"),
        ("measurements", "1.25 mm, 0.50 mm", "1,500 rows", "mean and median distance from the truth, where both are one length"),
        ("abstention", "– of 50.00%", "2,000 rows", "accuracy of the rows answered; 1,000 were too unsure"),
        (
            "exact and greedy differ",
            "1,300 answers",
            "1,800 rows",
            "exact alone is right in 1,200, greedy decoding alone in 1,001",
        ),
    ]
    assert len(list(report.further_scores({"overall": {"labels": 1, "macro_f1": 1}}, None))) == 1
    assert [report.percent(share, 1) for share in (None, 0.125, 0)] == ["–", "12.5%", "0.0%"]


def test_two_sides_are_called_without_the_folders_that_they_lie_in():
    run = {"comparison": {}, "names": ["a", f"{ALICE}/b.jsonl"], "other": {"path": Path("x/p.jsonl")}, "path": Path("y/q.jsonl")}
    run["conclusion"] = f"{ALICE}/b.jsonl answered better than a"
    said = {"a": "a (p.jsonl)", "b": "b.jsonl (q.jsonl)", "conclusion": "b.jsonl answered better than a"}
    assert report.sides(run, PublicNames(CFG)) == said and report.sides({}, PublicNames(CFG)) is None


def test_the_gallery_does_not_grow_with_the_rows():
    cards = cards_of([{**row, "correct": row["pred"] == row["gt"]} for row in make_rows(5000)])
    assert len(cards) == report.EXAMPLES and sum(not card["correct"] for card in cards) == report.EXAMPLES * 2 // 3
    assert {card["qtype"] for card in cards if card["correct"]} == set(TYPES)


def test_essays_are_cut():
    cards = cards_of([{**row, "pred": "word " * 20_000, "question": "why " * 20_000, "correct": False} for row in make_rows(300)])
    assert max(len(card["pred"]) for card in cards) == report.CLIPPED + 1 and len(json.dumps(cards)) < 1_000_000


def test_thumbnails_keep_to_their_root_and_their_budget(folder):
    inside = report.Thumbnails(folder)
    uri = inside.get(["0.png"])
    assert uri.startswith("data:image/jpeg;base64,") and inside.get(["0.png"]) is uri
    assert [inside.get(names) for names in (["5.png"], ["../x.png"], [], ["config.yaml"])] == [None] * 4
    (folder.parent / "outside.png").write_bytes((folder / "0.png").read_bytes())
    assert inside.get(["../outside.png"]) is None
    small = report.Thumbnails(folder, budget=int(2.5 * len(uri)))
    assert [small.get(["0.png"]) is not None for _ in range(3)] == [True, True, False]


def test_a_thumbnail_holds_the_picture_and_nothing_that_was_written_beside_it(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "patient Meier"  # ImageDescription
    Image.new("RGB", (64, 48), "red").save(tmp_path / "0.jpg", comment="patient Meier", exif=exif)
    small = base64.b64decode(report.Thumbnails(tmp_path).get(["0.jpg"]).split(",")[1])
    assert b"Meier" not in small and Image.open(io.BytesIO(small)).size == (64, 48)


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
    assert browser.title.startswith("Surgical VQA: Qwen2-VL-7B-Instruct"), "the hostile question must not have run"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    broken = "return Promise.all([...document.images].map((image) => image.decode().then(() => 0, () => 1)))"
    assert sum(browser.execute_script(broken)) == 0
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert SCRIPT in browser.find_element("id", "examples").text


CUT_OFF = """return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.getAttribute('aria-label'))"""


def test_the_page_is_short_and_no_table_loses_a_column_at_1280(folder, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    for name in ("report.html", "compared.html"):
        browser.get((folder / "out" / name).as_uri())
        assert browser.execute_script(CUT_OFF) == []
        browser.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = false; })")
        assert browser.execute_script("return document.documentElement.scrollHeight") < 12_000


@pytest.mark.parametrize("width", [1280, 390])
def test_words_without_an_end_do_not_widen_the_page(tmp_path, browser, width):
    long = "donaudampfschiff" * 40
    rows = [{**row, "qtype": long, "question": f"{long}{row['id']}"} for row in polyps()]
    report_of(tmp_path, [*rows, {**rows[0], "id": long, "pred": long, "gt": f"{long}-b", "image": long}])
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    browser.get((tmp_path / "out" / "report_x.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert width < 600 or browser.execute_script(CUT_OFF) == []


def test_a_table_that_scrolls_on_a_phone_says_so_and_keeps_its_names(folder, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True})
    browser.get((folder / "out" / "report.html").as_uri())
    assert "table: accuracy by question type" in browser.execute_script(CUT_OFF)
    assert browser.find_element("css selector", "#headline ~ .hint").is_displayed()
    name = browser.find_element("css selector", "#headline ~ .scroll tbody th, #headline ~ .scroll tr:nth-child(2) th")
    before = name.rect["x"]
    browser.execute_script("document.querySelector('#headline ~ .scroll').scrollLeft = 200")
    assert name.rect["x"] == before, "the first column stays where it is"


def test_on_paper_the_folded_tables_are_open_and_columns_are_wide_enough(folder, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 720, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get((folder / "out" / "report.html").as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        heads = browser.find_elements("css selector", "tr > :first-child")
        assert min(head.rect["width"] for head in heads) >= 60
        assert browser.execute_script("return document.querySelector('#labels ~ details table').checkVisibility()")
        assert not browser.find_element("css selector", ".filters").is_displayed() and len(shown(browser)) == 24
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def shown(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#examples .card')].filter((card) => card.checkVisibility()).map((card) => card.innerText)"
    )


def choose(browser, name, text):
    for option in browser.find_element("id", name).find_elements("tag name", "option"):
        if option.text == text:
            option.click()


def test_the_filters_work_by_clicking(folder, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get((folder / "out" / "report.html").as_uri())
    rows = make_rows()
    assert len(shown(browser)) == 24
    browser.find_element("css selector", "#rest > summary").click()
    assert len(shown(browser)) == 60
    browser.find_element("css selector", "#rest > summary").click()
    choose(browser, "correct", "right")
    assert len(shown(browser)) == 40 and browser.find_element("id", "shown").text == "40 found", "of the cards that were folded, too"
    choose(browser, "correct", "wrong")
    assert len(shown(browser)) == 20 and browser.find_element("id", "shown").text == "20 found"
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
