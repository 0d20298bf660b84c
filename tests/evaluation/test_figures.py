"""The report's figures, read off the drawings before they become SVG, in which there are only paths.

python -m pytest tests/evaluation/test_figures.py -v
"""

import base64
import json
from types import SimpleNamespace

import matplotlib
import pytest
from evaluating import ONE_FILE, TYPES, make_rows, make_study, opened

from evaluation import figures, runs
from evaluation.metrics import calibration
from files import write_jsonl


def points(line):
    return list(zip(*map(list, line.get_data())))


def test_bars_of_the_reliability_figure_are_shares_of_rows():
    items = [SimpleNamespace(confidence=share, correct=right) for share, right in [(0.1, False), (0.99, True), (0.98, True), (0.5, False)]]
    accuracy, shares = figures.reliability(calibration(items)).axes
    diagonal, bins = accuracy.lines
    assert [list(axis) for axis in diagonal.get_data()] == [[0, 1], [0, 1]]
    assert points(bins) == [(0.1, 0), (0.5, 0), (pytest.approx(0.985), 1)], "only of bins that hold a row"
    heights = [bar.get_height() for bar in shares.patches]
    assert len(heights) == 15 and [(place, height) for place, height in enumerate(heights) if height] == [(1, 0.25), (7, 0.25), (14, 0.5)]
    assert shares.get_ylabel() == "share of rows" and shares.yaxis.get_major_formatter()(0.5) == "50%"
    assert not accuracy.patches and accuracy.get_ylabel() == "accuracy"


def test_the_accuracy_bars_are_the_accuracies_and_their_whiskers_the_intervals():
    first = {"count": 5, "accuracy": 0.6, "interval": (0.2, 0.9, "Wilson")}
    second = {"count": 1200, "accuracy": 1, "interval": (0.7, 1, "Wilson")}
    beside = {"blind": 0.3, "reachable": None}, {"blind": 0.4, "reachable": 0.8}
    (axes,) = figures.accuracy_bars([("one", first, beside[0]), ("two", second, beside[1])]).axes
    assert [bar.get_width() for bar in axes.patches] == [0.6, 1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one\n5 rows", "two\n1,200 rows"]
    centers = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert list(axes.get_yticks()) == pytest.approx(centers) and centers[0] < centers[1] and axes.yaxis_inverted(), "the first on top"
    (whiskers,) = axes.collections
    ends = [[tuple(end) for end in segment] for segment in whiskers.get_segments()]
    assert ends == [[pytest.approx((end, center)) for end in item["interval"][:2]] for item, center in zip((first, second), centers)]
    marks = {line.get_label(): (points(line), line.get_color()) for line in axes.lines}
    assert marks["blind prior"] == ([(0.3, centers[0]), (0.4, centers[1])], figures.RED)
    assert marks["reachable"] == ([(0.8, centers[1])], figures.GREEN)


def test_what_is_not_known_has_no_mark_and_no_legend():
    item = {"count": 5, "accuracy": 0.6, "interval": (0.2, 0.9, "Wilson")}
    figure = figures.accuracy_bars([("one", item, {"blind": None, "reachable": None})])
    (axes,) = figure.axes
    assert [line for line in axes.lines if line.get_marker() == "|" and line.get_markersize() == 15] == [] and not figure.legends


def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row():
    matrix = {"rows": ["red", "pink"], "columns": ["red", "pink", "invalid"], "counts": [[1500, 500, 0], [0, 3, 1]]}
    (axes,) = figures.confusion_matrix(matrix).axes
    (shades,) = axes.images
    assert shades.get_array().tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25]] and shades.get_clim() == (0, 1)
    assert shades.get_cmap()(0.0)[0] > shades.get_cmap()(1.0)[0], "the more, the darker"
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    dark = "#1a202c"
    assert texts == {(0, 0): ("1,500", "white"), (1, 0): ("500", dark), (1, 1): ("3", "white"), (2, 1): ("1", dark)}
    assert [label.get_text() for label in axes.get_xticklabels()] == matrix["columns"]
    assert [label.get_text() for label in axes.get_yticklabels()] == matrix["rows"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "truth") and points(axes.lines[0])[0][0] == 1.5


def test_the_risk_coverage_curve_holds_an_accuracy_until_the_next():
    (axes,) = figures.risk_coverage_curve({"curve": [[0.25, 1.0], [1.0, 0.5]]}).axes
    (line,) = axes.lines
    assert points(line) == [(0, 1.0), (0.25, 1.0), (1.0, 0.5)] and line.get_drawstyle() == "steps-pre"
    assert axes.get_xlabel() == "coverage: share of rows answered"


def test_the_loss_curve_has_each_loss_on_its_axis():
    history = [{"step": 1, "loss": 7.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": "nan"}]
    history += [{"step": 2, "eval_loss": 1.0, "eval_exact_match": 0.5}]
    losses, shares = figures.loss_curve(history).axes
    drawn = {line.get_label(): points(line) for axes in (losses, shares) for line in axes.lines}
    assert drawn == {"training loss": [(1, 7.0), (2, 2.0)], "validation loss": [(2, 1.0)], "exact match": [(2, 0.5)]}
    assert [line.get_label() for line in shares.lines] == ["exact match"] and shares.get_ylim() == (0, 1.02)


def test_a_training_without_validation_has_its_loss_alone():
    losses, shares = (figure := figures.loss_curve([{"step": 1, "loss": 7.0}, {"step": 2, "loss": 2.0}])).axes
    assert [line.get_label() for axes in (losses, shares) for line in axes.lines] == ["training loss"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training loss"]


def test_drops_lead_from_the_plain_accuracy_to_the_perturbed_one():
    """The interval is that of the drop, so its ends are taken from the plain accuracy."""
    found = {"swapped_images": {"overall": {"plain": 0.75, "perturbed": 0.5, "interval": (0.125, 0.375)}}}
    (axes,) = figures.drops({"perturbations": found}, {"micro": 0.25}).axes
    assert [points(line) for line in axes.lines[:2]] == [[(0.75, 0), (0.5, 0)], [(0.375, 0), (0.625, 0)]]
    plain, perturbed = ((part.get_label(), part.get_offsets().tolist()) for part in axes.collections)
    assert plain == ("as it is", [[0.75, 0]]) and perturbed == ("perturbed", [[0.5, 0]])
    assert (axes.lines[2].get_label(), set(axes.lines[2].get_xdata())) == ("blind prior", {0.25})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["swapped images"]


ITEM = {"count": 1200, "accuracy": 0.6, "interval": (0.2, 0.9, "Wilson"), "plain": 0.75, "perturbed": 0.5}
SCORED = [SimpleNamespace(confidence=share, correct=share > 0.3) for share in (0.1, 0.5, 0.99)]
LONG = "a name of a question's type that somebody gave"
FIGURES = {  # (a figure, the axis of each of its parts that is one of shares)
    "bars": (lambda: figures.accuracy_bars([(LONG, ITEM, {"blind": 0.3, "reachable": 0.9})] * 3), ["x"]),
    "drops": (lambda: figures.drops({"perturbations": {LONG: {"overall": ITEM}}}, {"micro": 0.3}), ["x"]),
    "matrix": (lambda: figures.confusion_matrix({"rows": [LONG] * 2, "columns": [LONG] * 3, "counts": [[1, 2, 0], [0, 3, 1]]}), [""]),
    "reliability": (lambda: figures.reliability(calibration(SCORED)), ["y", "y"]),
    "coverage": (lambda: figures.risk_coverage_curve({"curve": [[0.25, 1.0], [1.0, 0.5]]}), ["y"]),
    "loss": (lambda: figures.loss_curve([{"step": 1, "loss": 1e-7, "eval_loss": 9.0, "eval_exact_match": 0.5}]), ["", "y"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_covers_another_and_shares_are_percents(name):
    make, shares = FIGURES[name]
    figure = make()
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.01 and drawn.x1 < width + 0.01 and drawn.y1 < height + 0.01
    for axes, axis in zip(figure.axes, shares, strict=True):
        assert [getattr(axes, f"{axis}axis").get_major_formatter()(0.5).replace(".0", "") for axis in axis] == ["50%"] * len(axis)
    legends = [legend.get_window_extent() for legend in figure.legends]
    parts = [axes.get_window_extent() for axes in figure.axes]
    assert not any(legend.overlaps(part) for legend in legends for part in parts) and all(
        not legend.get_frame_on() for legend in figure.legends
    )
    if name == "reliability":
        assert not parts[0].overlaps(parts[1]) and parts[0].height / parts[1].height == pytest.approx(3, abs=0.2)
        assert [axes.get_xlim() for axes in figure.axes] == [(0, 1), (0, 1)]
    if name == "drops":
        assert figure.axes[0].get_ylim() == (0.5, -0.5)


LIMITS = {  # figure: of each of its axes, the limits of x and y that its numbers are read against; None where these are the data's
    "bars": [((0, 1.02), (1.86, 0))],  # the first on top
    "drops": [((0, 1.02), (0.5, -0.5))],
    "matrix": [((-0.5, 2.5), (1.5, -0.5))],
    "reliability": [((0, 1), (0, 1.02)), ((0, 1), None)],
    "coverage": [((0, 1), None)],
    "loss": [(None, None), (None, (0, 1.02))],
}


@pytest.mark.parametrize("name", FIGURES)
def test_shares_are_drawn_from_none_to_all_and_rows_from_the_top(name):
    with matplotlib.rc_context(figures.STYLE):
        figure = FIGURES[name][0]()
    for axes, (x, y) in zip(figure.axes, LIMITS[name], strict=True):
        assert x is None or axes.get_xlim() == pytest.approx(x)
        assert y is None or axes.get_ylim() == pytest.approx(y)
    assert len(figure.legends) == (name in ("bars", "drops", "loss"))


def test_bars_and_names_lie_where_they_are_read():
    with matplotlib.rc_context(figures.STYLE):
        bars, matrix, reliability = (FIGURES[name][0]().axes for name in ("bars", "matrix", "reliability"))
    places = [(bar.get_y(), bar.get_height()) for bar in bars[0].patches]
    assert places == [pytest.approx((0.19 + 0.62 * place, 0.24)) for place in range(3)]
    below = matrix[0].get_xticklabels()
    assert {text.get_text() for text in (*below, *matrix[0].get_yticklabels())} == {"a name of a…"}, "twenty letters in one line"
    assert [(bar.get_x(), bar.get_width()) for bar in reliability[1].patches] == [
        pytest.approx(((place + 0.05) / 15, 0.06)) for place in range(15)
    ]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in reliability] == [("", "accuracy"), ("confidence", "share of rows")]


def test_whiskers_never_lead_back_into_the_bar():
    """An accuracy beyond its interval's end by a last bit, which matplotlib refuses as a negative length."""
    item = {"count": 5, "accuracy": 0.5, "interval": (0.5 + 1e-12, 0.5 - 1e-12, "Wilson")}
    (axes,) = figures.accuracy_bars([("one", item, {"blind": None, "reachable": None})]).axes
    (segment,) = axes.collections[0].get_segments()
    assert segment[:, 0].tolist() == [0.5, 0.5]


def test_a_figure_is_the_same_text_whenever_it_is_drawn_and_its_words_are_no_formulas():
    with matplotlib.rc_context(figures.STYLE):
        figure = figures.risk_coverage_curve({"curve": [[0.25, 1.0], [1.0, 0.5]]})
        figure.axes[0].set_title("Is there $x_{2}$?")
        kind, _, content = figures._svg(figure).partition(",")
        assert figures._svg(figure) == f"{kind},{content}"
    text = base64.b64decode(content).decode()
    assert kind == "data:image/svg+xml;base64" and text.startswith("<?xml") and text.endswith("</svg>\n") and "<dc:date>" not in text
    assert "<!-- Is there $x_{2}$? -->" in text


def test_each_figure_is_of_what_its_heading_says(tmp_path, monkeypatch):
    """Read before they become SVG, in which there are only paths."""
    cfg, load = opened(make_study(tmp_path))
    all_or_none = {"color": lambda row: row["gt"], "mcq": lambda row: "b"}
    rows = [{**row, "pred": all_or_none.get(row["qtype"], lambda row: row["pred"])(row)} for row in make_rows()]
    rows = [row | {"question": "Which color?"} if row["qtype"] == "color" else row for row in rows]  # often enough for a matrix
    write_jsonl(cfg.output_dir / "predictions.jsonl", rows)
    monkeypatch.setattr(figures, "_svg", lambda figure: figure)
    run = runs.evaluate(cfg, load("predictions.jsonl"), ONE_FILE)
    drawn, details, blind = figures.draw_figures(cfg, run), run["details"], run["blind_prior"]["per_type"]
    bars, marks = drawn["types"].axes[0].patches, drawn["types"].axes[0].lines
    assert [bar.get_width() for bar in bars] == [pytest.approx(2 / 3), 1, 0]
    assert [share for share, _ in points(next(line for line in marks if line.get_label() == "blind prior"))] == [
        blind[name]["accuracy"] for name in TYPES
    ]
    asked = details["per_question"][: figures.MAX_BARS]
    assert [bar.get_width() for bar in drawn["questions"].axes[0].patches] == [item["accuracy"] for item in asked]
    assert [title for title, _ in drawn["matrices"]] == list(TYPES)
    for name, figure in drawn["matrices"]:
        counts = details["per_type"][name]["confusion"]["counts"]
        assert [text.get_text() for text in figure.axes[0].texts] == [str(count) for line in counts for count in line if count]
    (asked,) = (item for item in details["per_question"] if item["question"] == "Which color?")
    ((title, figure),) = drawn["question_matrices"]
    assert title == "Which color?" and [text.get_text() for text in figure.axes[0].texts] == [
        str(count) for line in asked["confusion"]["counts"] for count in line if count
    ]
    fit = details["overall"]["calibration"]
    assert [bar.get_height() for bar in drawn["calibration"].axes[1].patches] == [item["count"] / fit["count"] for item in fit["bins"]]
    assert points(drawn["coverage"].axes[0].lines[0])[1:] == [tuple(point) for point in fit["curve"]]
    assert points(drawn["loss"].axes[0].lines[0]) == [(1, 7.0), (2, 2.0)] and drawn["robustness"] is None
    assert drawn["types"].axes[0].get_xticklabels()[0].get_fontsize() == 9, "the style of all"

    # no more than a page holds; what isn't there isn't drawn
    one = details["per_type"]["color"]
    alike = one | {"confusion": {"rows": ["a"], "columns": ["a", "invalid"], "counts": [[20, 0]]}}
    many = {"per_type": {"first": alike} | {f"type {n}": one for n in range(30)}, "per_question": [asked] * 31}
    many |= {"overall": {**details["overall"], "calibration": None}}
    unknown = dict.fromkeys(("lenient", "gains", "blind_prior", "reachable"))
    drop = {"black": {"overall": {"plain": 0.75, "perturbed": 0.5, "interval": (0.125, 0.375)}}}
    run |= unknown | {"details": details | many, "sidecar": {}, "robustness": {"perturbations": drop}}
    drawn = figures.draw_figures(cfg, run)
    assert [len(drawn[name].axes[0].patches) for name in ("types", "questions")] == [30, 30]
    assert [title for title, _ in drawn["matrices"]] == [f"type {n}" for n in range(8)] and len(drawn["question_matrices"]) == 8
    assert drawn["calibration"] is drawn["coverage"] is drawn["loss"] is None
    assert [line.get_label() for line in drawn["robustness"].axes[0].lines] == ["_child0", "_child1"]
    run["details"] |= {"per_type": {"first": alike}, "per_question": []}
    run["blind_prior"] = {"micro": 0.25, "macro": 0.25, "per_type": run["details"]["per_type"]}
    drawn = figures.draw_figures(cfg, run)
    assert drawn["robustness"].axes[0].lines[2].get_label() == "blind prior" and drawn["questions"] is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("short", "short"),
        ("in three lines of ten", "in three\nlines of\nten"),
        ("in three lines of ten, and more", "in three\nlines of\nten, and…"),
        ("", "(empty)"),
        ("a\x1bb", "a\\x1bb"),
    ],
)
def test_labels_are_wrapped_cut_and_harmless(text, label):
    assert figures._label(text, 10) == label


def test_the_training_log_is_that_of_the_adapter_that_answered(tmp_path):
    """Not of what lies in output_dir, which may be another model's."""
    cfg, _ = opened(make_study(tmp_path))
    log = [{"step": 1, "loss": 3.0}, {"epoch": 1.0}]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    assert figures.training_log(cfg, {"adapter": "other/adapter"}) == log[:1]
    assert len(figures.training_log(cfg, {"adapter": "out/adapter"})) == 3
    for adapter in (None, "none", "nowhere/adapter"):
        assert figures.training_log(cfg, {"adapter": adapter}) is None
    for broken in ("[]", "{", '{"log_history": []}', '{"log_history": [5]}'):
        (tmp_path / "other" / "trainer_state.json").write_text(broken)
        assert figures.training_log(cfg, {"adapter": "other/adapter"}) is None
