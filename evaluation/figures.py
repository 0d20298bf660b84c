"""The report's figures, drawn by matplotlib. Each function returns a Figure; `draw_figures` makes data URIs of them. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH")

import base64
import io
import textwrap
import warnings

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from evaluation.tables import headline
from files import UserError, printable, read_json

MAX_BARS = 30  # questions in the figure; the table has more
MATRICES = 8  # confusion matrices, of types and of single questions
STYLE = {"text.parse_math": False, "svg.hashsalt": "report", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
BLUE, GREY, RED, GREEN = "#2b6cb0", "#8a94a0", "#c0392b", "#2f855a"


def draw_figures(cfg, run):
    """The figures as {name: data URI or list of (title, data URI)}; None where the run has nothing to draw."""
    details = run["details"]
    types = [*headline(details, run["lenient"], run["gains"], run["blind_prior"], run["reachable"])][:-2]  # without the means
    questions = [(item["question"], item, item) for item in details["per_question"]]
    matrices = [(name, item["confusion"]) for name, item in details["per_type"].items() if len(item["confusion"]["rows"]) > 1]
    asked = [(item["question"], item["confusion"]) for item in details["per_question"] if "confusion" in item]
    fit = details["overall"].get("calibration")
    state = training_log(cfg, run["sidecar"])
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for letters that the font lacks
        return {
            "types": _svg(accuracy_bars(types[:MAX_BARS])),
            "questions": _svg(accuracy_bars(questions[:MAX_BARS])) if questions else None,
            "matrices": [(title, _svg(confusion_matrix(matrix))) for title, matrix in matrices[:MATRICES]],
            "question_matrices": [(title, _svg(confusion_matrix(matrix))) for title, matrix in asked[:MATRICES]],
            "calibration": _svg(reliability(fit)) if fit else None,
            "coverage": _svg(risk_coverage_curve(fit)) if fit else None,
            "loss": _svg(loss_curve(state)) if state else None,
            "robustness": _svg(drops(run["robustness"], run["blind_prior"])) if run["robustness"] else None,
        }


def accuracy_bars(bars):
    """Horizontal bars with whiskers. bars: (label, scores with accuracy, interval, count, {"blind", "reachable"} perhaps None)."""
    labels = [f"{_label(text, 34)}\n{item['count']:,} rows" for text, item, _ in bars]
    heights = [0.16 * (label.count("\n") + 1) + 0.14 for label in labels]
    figure, axes = _axes(4.8, sum(heights) + 0.9)
    centers = [sum(heights[:place]) + height / 2 for place, height in enumerate(heights)]
    accuracies, intervals = zip(*((item["accuracy"], item["interval"]) for _, item, _ in bars))
    whiskers = [[max(0, side * (end[place] - at)) for at, end in zip(accuracies, intervals)] for place, side in ((0, -1), (1, 1))]
    axes.barh(centers, accuracies, height=0.24, color=BLUE, alpha=0.75, xerr=whiskers, error_kw={"capsize": 3, "elinewidth": 1.2}, zorder=2)
    for key, name, color in (("blind", "blind prior", RED), ("reachable", "reachable", GREEN)):
        known = [(others[key], center) for (_, _, others), center in zip(bars, centers) if others[key] is not None]
        if known:
            axes.plot(*zip(*known), "|", color=color, markersize=15, markeredgewidth=2, label=name, zorder=3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    axes.set(yticks=centers, yticklabels=labels, xlim=(0, 1.02), ylim=(sum(heights), 0))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x", color="#e3e7eb")
    return figure


def drops(found, blind):
    """Accuracy of the same rows as they are and perturbed, joined by a line; whiskers: the drop's interval around the perturbed one."""
    items = [(name, item["overall"]) for name, item in found["perturbations"].items()]
    figure, axes = _axes(5.6, 0.34 * len(items) + 1.3)
    places = range(len(items))
    for place, (_, item) in zip(places, items):
        ends = sorted(item["plain"] - end for end in item["interval"][:2])
        axes.plot([item["plain"], item["perturbed"]], [place, place], color=GREY, linewidth=1, zorder=1)
        axes.plot(ends, [place, place], color=BLUE, linewidth=3, alpha=0.4, solid_capstyle="butt", zorder=2)
    axes.scatter([item["plain"] for _, item in items], places, marker="|", s=120, color="#1a202c", label="as it is", zorder=3)
    axes.scatter([item["perturbed"] for _, item in items], places, s=28, color=BLUE, label="perturbed", zorder=4)
    if blind:
        axes.axvline(blind["micro"], color=RED, linewidth=1.2, linestyle="--", label="blind prior")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    axes.set(yticks=places, yticklabels=[name.replace("_", " ") for name, _ in items], xlim=(0, 1.02), ylim=(len(items) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x", color="#e3e7eb")
    return figure


def confusion_matrix(matrix):
    """Counts as a picture: rows are the truth, columns the predictions, the shade is the share of the row."""
    rows, columns, counts = matrix["rows"], matrix["columns"], matrix["counts"]
    cell = 0.42
    figure, axes = _axes(1.8 + cell * len(columns), 1.6 + cell * len(rows))
    shares = [[count / max(1, sum(line)) for count in line] for line in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, line in enumerate(counts):
        for x, count in enumerate(line):
            if count:
                axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=7.5, color="white" if shares[y][x] > 0.55 else "#1a202c")
    axes.set_xticks(range(len(columns)), [_label(text, 20, lines=1) for text in columns], rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [_label(text, 20, lines=1) for text in rows])
    axes.set(xlabel="predicted", ylabel="truth")
    axes.axvline(len(columns) - 1.5, color="#1a202c", linewidth=1)  # what follows is no label
    axes.spines[:].set_visible(True)
    return figure


def reliability(fit):
    """Accuracy against confidence in bins, and below it the share of rows that each bin holds (they add to 1)."""
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    bins, width = fit["bins"], 1 / len(fit["bins"])
    held = [item for item in bins if item["count"]]
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    axes.plot([item["confidence"] for item in held], [item["accuracy"] for item in held], "o-", color=BLUE, markersize=4)
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    shares = [item["count"] / fit["count"] for item in bins]
    below.bar([(place + 0.5) * width for place in range(len(bins))], shares, width=0.9 * width, color=GREY)
    below.set(xlabel="confidence", ylabel="share of rows")
    for part in (axes, below):
        part.yaxis.set_major_formatter(PercentFormatter(1))
        part.grid(axis="y", color="#e3e7eb")
        part.set_axisbelow(True)
    return figure


def risk_coverage_curve(fit):
    """Accuracy of the most confident rows against the share of rows answered."""
    figure, axes = _axes(4.4, 3.0)
    coverage, accuracy = zip(*fit["curve"])
    axes.step([0, *coverage], [accuracy[0], *accuracy], color=BLUE)
    axes.set(xlabel="coverage: share of rows answered", ylabel="accuracy of these", xlim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="#e3e7eb")
    return figure


def loss_curve(history):
    """Training and validation loss over steps, and the validation's exact match where it was measured."""
    figure, axes = _axes(4.4, 3.0)
    other = axes.twinx()
    for target, key, color, name in (
        (axes, "loss", GREY, "training loss"),
        (axes, "eval_loss", BLUE, "validation loss"),
        (other, "eval_exact_match", GREEN, "exact match"),
    ):
        points = [(item["step"], item[key]) for item in history if isinstance(item.get(key), (int, float))]
        if points:
            target.plot(*zip(*points), ".-" if key.startswith("eval") else "-", color=color, label=name)
    axes.set(xlabel="step", ylabel="loss per answer token")
    other.set(ylim=(0, 1.02))
    other.yaxis.set_major_formatter(PercentFormatter(1))
    other.spines["right"].set_visible(True)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def training_log(cfg, sidecar):
    """The log of the training that made the sidecar's adapter (a list of dicts), or None where it names none or there is no log."""
    adapter = sidecar.get("adapter")
    if adapter in (None, "none"):
        return None  # what lies in output_dir may be another model's
    try:
        log = read_json((cfg.config_path.parent / adapter).parent / "trainer_state.json")["log_history"]
        return [item for item in log if "step" in item] or None
    except (UserError, KeyError, TypeError, OSError):
        return None


def _axes(width, height):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure):
    """The figure as a data URI. As an <img> it can run nothing, whatever its labels say."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _label(text, width, lines=3):
    """Text for an axis: printable, wrapped to `width` characters, cut after `lines`."""
    wrapped = textwrap.wrap(printable(text), width) or ["(empty)"]
    return "\n".join(wrapped[:lines]) + "…" * (len(wrapped) > lines)
