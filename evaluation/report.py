"""The HTML report of an evaluation: one self-contained file, for reading on a screen, a phone or paper. No torch.

`write_report` puts what eval_exp1.py found into report.html.j2: tables, matplotlib figures as SVG, and a gallery of
examples with small copies of their images. Its size does not depend on the number of rows.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH")

import base64
import io
import os
import textwrap
import warnings
from collections import defaultdict
from pathlib import Path

import jinja2
import matplotlib
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from config import environment_facts
from data.rules import ordered_types
from evaluation.compare import changed_rows, short_p, unit_of
from evaluation.metrics import compare_rows, template_of
from files import UserError, atomic_open, read_json, sha256

EXAMPLES = 240  # cards in the gallery, two thirds of them mistakes
CHANGED = 80  # cards of questions that changed
CLIPPED = 400  # letters of a text on a card
THUMBNAIL = 320  # pixels on the longer side
IMAGE_BYTES = 16_000_000  # of base64 in all; cards beyond it name their image instead
MAX_BARS = 30  # questions in the figure; the table has more
MATRICES = 8  # confusion matrices, of types and of single questions
STYLE = {"text.parse_math": False, "svg.hashsalt": "report", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
BLUE, GREY, RED, GREEN = "#2b6cb0", "#8a94a0", "#c0392b", "#2f855a"


def write_report(out, cfg, run):
    """Write the report of an evaluated run (what `eval_exp1.evaluate` returns, perhaps with a comparison) to `out`."""
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clip": clip, "percent": percent, "points": lambda share: f"{100 * share:+.2f}", "short_p": short_p}
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for letters that the font lacks
        figures = draw_figures(cfg, run)
    thumbnails = Thumbnails(image_root(cfg, run["sidecar"]))
    html = environment.get_template("report.html.j2").render(
        run=run,
        figures=figures,
        rows=headline_rows(run),
        unit=unit_of(run["judged"]),
        examples=example_cards(run, thumbnails),
        changed=changed_cards(run, thumbnails),
        facts=run_facts(cfg, run),
        settings=yaml.safe_dump(run["sidecar"].get("config") or cfg.model_dump(mode="json"), sort_keys=False),
    )
    with atomic_open(out) as file:
        file.write(html)


def percent(share, digits=2):
    """A share of 1 as text, or a dash for None."""
    return "–" if share is None else f"{share:.{digits}%}"


def headline_rows(run):
    """(name, scores, blind accuracy, reachable accuracy) of each type and of all rows; None where not known."""
    details, blind, reachable = run["details"], run["blind_prior"], run["reachable"]
    rows = []
    for name, scores in details["per_type"].items():
        beside = (other and other["per_type"][name]["accuracy"] for other in (blind, reachable))
        rows.append((name, scores, *beside))
    overall = {**details["overall"], "balanced_accuracy": None, "macro_f1": None}  # over labels of unlike questions: no meaning
    rows.append(("Overall (micro)", overall, *(other and other["micro"] for other in (blind, reachable))))
    macro = {**details["macro"], "count": None, "correct": None}
    return [*rows, ("Overall (macro)", macro, *(other and other["macro"] for other in (blind, reachable)))]


# ---------------------------------------------------------------------------------------------------------------------
# Figures


def draw_figures(cfg, run):
    """The figures as {name: data URI or list of (title, data URI)}; None where the run has nothing to draw."""
    details, blind, reachable = run["details"], run["blind_prior"], run["reachable"]
    types = [
        (
            name,
            item["accuracy"],
            item["interval"],
            item["count"],
            *(other and other["per_type"][name]["accuracy"] for other in (blind, reachable)),
        )
        for name, item in list(details["per_type"].items())[:MAX_BARS]
    ]
    questions = [
        (item["question"], item["accuracy"], item["interval"], item["count"], item["blind"], item["reachable"])
        for item in details["per_question"][:MAX_BARS]
    ]
    matrices = [(name, item["confusion"]) for name, item in details["per_type"].items() if len(item["confusion"]["rows"]) > 1]
    asked = [(item["question"], item["confusion"]) for item in details["per_question"] if "confusion" in item]
    fit = details["overall"].get("calibration")
    state = training_state(cfg, run["sidecar"])
    return {
        "types": accuracy_bars(types),
        "questions": accuracy_bars(questions) if questions else None,
        "matrices": [(title, confusion_matrix(matrix)) for title, matrix in matrices[:MATRICES]],
        "question_matrices": [(title, confusion_matrix(matrix)) for title, matrix in asked[:MATRICES]],
        "calibration": reliability(fit) if fit else None,
        "coverage": risk_coverage_curve(fit) if fit else None,
        "loss": loss_curve(state) if state else None,
    }


def accuracy_bars(bars):
    """Horizontal bars with whiskers. bars: (label, accuracy, interval, count, blind or None, reachable or None)."""
    labels = [f"{_label(text, 34)}\n{count:,} rows" for text, _, _, count, *_ in bars]
    heights = [0.16 * (label.count("\n") + 1) + 0.14 for label in labels]
    figure, axes = _axes(4.8, sum(heights) + 0.9)
    centers = [sum(heights[:place]) + height / 2 for place, height in enumerate(heights)]
    accuracies = [bar[1] for bar in bars]
    whiskers = [[max(0, bar[1] - bar[2][0]) for bar in bars], [max(0, bar[2][1] - bar[1]) for bar in bars]]
    axes.barh(centers, accuracies, height=0.24, color=BLUE, alpha=0.75, xerr=whiskers, error_kw={"capsize": 3, "elinewidth": 1.2}, zorder=2)
    for place, name, color in ((4, "blind prior", RED), (5, "reachable", GREEN)):
        known = [(bar[place], center) for bar, center in zip(bars, centers) if bar[place] is not None]
        if known:
            axes.plot(*zip(*known), "|", color=color, markersize=15, markeredgewidth=2, label=name, zorder=3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    axes.set(yticks=centers, yticklabels=labels, xlim=(0, 1.02), ylim=(sum(heights), 0))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x", color="#e3e7eb")
    return _svg(figure)


def confusion_matrix(matrix):
    """Counts as a picture: rows are the truth, columns the predictions, the shade is the share of the row."""
    rows, columns, counts = matrix["rows"], matrix["columns"], matrix["counts"]
    cell = 0.42
    figure, axes = _axes(1.8 + cell * len(columns), 1.6 + cell * len(rows))
    shares = [[count / max(1, sum(line)) for count in line] for line in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for y, line in enumerate(counts):
        for x, count in enumerate(line):
            if count:
                axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=7.5, color="white" if shares[y][x] > 0.55 else "#1a202c")
    axes.set_xticks(range(len(columns)), [_label(text, 20, lines=1) for text in columns], rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [_label(text, 20, lines=1) for text in rows])
    axes.set(xlabel="predicted", ylabel="truth")
    axes.axvline(len(columns) - 1.5, color="#1a202c", linewidth=1)  # what follows is no label
    axes.spines[:].set_visible(True)
    return _svg(figure)


def reliability(fit):
    """Accuracy against confidence in 15 bins; the line's distance from the diagonal is the calibration error."""
    figure, axes = _axes(4.4, 3.4)
    bins = [item for item in fit["bins"] if item["count"]]
    most = max(item["count"] for item in bins)
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    for place, item in enumerate(fit["bins"]):
        axes.bar((place + 0.5) / len(fit["bins"]), 0.25 * item["count"] / most, width=0.9 / len(fit["bins"]), color="#dde3ea")
    axes.plot([item["confidence"] for item in bins], [item["accuracy"] for item in bins], "o-", color=BLUE, markersize=4)
    axes.set(xlabel="confidence (grey: share of rows)", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    return _svg(figure)


def risk_coverage_curve(fit):
    """Accuracy of the most confident rows against the share of rows answered."""
    figure, axes = _axes(4.4, 3.0)
    coverage, accuracy = zip(*fit["curve"])
    axes.step([0, *coverage], [accuracy[0], *accuracy], where="pre", color=BLUE)
    axes.set(xlabel="coverage: share of rows answered", ylabel="accuracy of these", xlim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="#e3e7eb")
    return _svg(figure)


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
    return _svg(figure)


def training_state(cfg, sidecar):
    """The log of the training that made the adapter (a list of dicts), or None where there was none or it can't be found."""
    adapter = sidecar.get("adapter")
    if adapter == "none":
        return None
    path = (Path(adapter).parent if adapter else cfg.output_dir) / "trainer_state.json"
    try:
        return [item for item in read_json(path)["log_history"] if "step" in item] or None
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
    text = "".join(letter if letter.isprintable() else "·" for letter in text) or "(empty)"
    wrapped = textwrap.wrap(text, width) or [text]
    return "\n".join(wrapped[:lines]) + "…" * (len(wrapped) > lines)


# ---------------------------------------------------------------------------------------------------------------------
# Examples


class Thumbnails:
    """Small JPEG copies of images as data URIs, each made once, until the budget is spent."""

    def __init__(self, root, budget=IMAGE_BYTES):
        self.root, self.budget, self.made = root, budget, {}

    def get(self, name):
        """Data URI of an image, or None where there is none, it can't be read, lies outside the root, or is too much."""
        if name not in self.made:
            self.made[name] = self._make(name) if name and self.root else None
        uri = self.made[name]
        if uri is None or len(uri) > self.budget:
            return None
        self.budget -= len(uri)
        return uri

    def _make(self, name):
        path = Path(os.path.normpath(os.path.join(self.root, name)))
        if not path.is_relative_to(os.path.normpath(self.root)):
            return None
        try:
            with Image.open(path) as image:
                image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
                image = image.convert("RGB")
                image.thumbnail((THUMBNAIL, THUMBNAIL))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def image_root(cfg, sidecar):
    """The folder of the images: the configuration's, else the one that prediction used; None where neither is there."""
    try:
        if cfg.data.image_root:
            return cfg.image_folder()
    except UserError:
        pass
    used = ((sidecar.get("config") or {}).get("data") or {}).get("image_root")
    return Path(used) if used and Path(used).is_dir() else cfg.config_path.parent


def example_cards(run, thumbnails):
    """Cards of the gallery: mistakes, the worst first, then right answers; every type has its share."""
    judged = run["judged"]
    items = compare_rows(judged, run["spellings"])
    badness = [_badness(row, item) for row, item in zip(judged, items)]
    by_type = defaultdict(lambda: ([], []))
    for place, row in enumerate(judged):
        by_type[row["qtype"]][row["correct"]].append(place)
    wrong, right = ([by_type[name][verdict] for name in ordered_types(by_type)] for verdict in (False, True))
    wrong = _share_out([sorted(places, key=badness.__getitem__) for places in wrong], EXAMPLES * 2 // 3)
    right = _share_out([_spread(places, EXAMPLES) for places in right], EXAMPLES - len(wrong))
    chosen = sorted(wrong, key=badness.__getitem__) + sorted(right)
    return [_card(judged[place], thumbnails) for place in chosen]


def _badness(row, item):
    """Sorts mistakes: confident ones first; where confidence is the same or unknown, those that share least with the truth."""
    confidence = row.get("confidence")
    overlap = len(item.gt & item.pred) / max(1, len(item.gt | item.pred))
    gap = abs(item.number[0] - item.number[1]) if item.number and item.number[1] is not None else 0
    return 0.5 - (0.5 if confidence is None else confidence), overlap, -gap, row["id"]


def _share_out(queues, total):
    """Take from the queues in turn until `total` are taken or all are empty."""
    taken = []
    for depth in range(max(map(len, queues), default=0)):
        taken += [queue[depth] for queue in queues if depth < len(queue)]
        if len(taken) >= total:
            break
    return taken[:total]


def _spread(places, limit):
    """At most `limit` of the places, evenly spaced."""
    return places if len(places) <= limit else [places[len(places) * step // limit] for step in range(limit)]


def _card(row, thumbnails, before=None):
    """What the template shows of a row. before: the other file's row, when comparing."""
    top = row.get("candidates_top") or []
    return {
        **{key: row.get(key) for key in ("correct", "confidence", "abstained")},
        **{key: clip(row.get(key)) for key in ("id", "qtype", "question", "image", "pred", "gt")},
        "question_key": clip(template_of(row) or ""),
        "thumbnail": thumbnails.get(row.get("image")),
        "top": [(clip(text), min(1.0, share)) for text, share in top[:5]],
        "before": before and clip(before["pred"] or ""),
    }


def clip(text):
    """A text (or None) cut to what a card can hold, so that an essay in every row doesn't make the report grow."""
    return text if text is None or len(text) <= CLIPPED else text[:CLIPPED] + "…"


def changed_cards(run, thumbnails):
    """When comparing: {"lost": cards, "gained": cards, "lost_total", "gained_total"}, else None."""
    if "comparison" not in run:
        return None
    pairs = changed_rows(run["other"]["judged"], run["judged"])
    lost = [pair for pair in pairs if not pair[1]["correct"]]
    gained = [pair for pair in pairs if pair[1]["correct"]]
    show = lambda chosen: [_card(row, thumbnails, before) for before, row in _spread(chosen, CHANGED // 2)]
    return {"lost": show(lost), "gained": show(gained), "lost_total": len(lost), "gained_total": len(gained)}


# ---------------------------------------------------------------------------------------------------------------------
# Facts


def run_facts(cfg, run):
    """(name, value) pairs on where the numbers come from: model, adapter, files with their hashes, commits, versions."""
    sidecar, here = run["sidecar"], environment_facts()
    near = lambda path: os.path.relpath(path, cfg.config_path.parent) if path else None
    weights = Path(sidecar.get("adapter") or "none") / "adapter_model.safetensors"
    versions = sidecar.get("versions") or {}
    facts = {
        "model": (sidecar.get("config") or {}).get("model_name") or cfg.model_name,
        "adapter": sidecar.get("adapter") if sidecar.get("adapter") in (None, "none") else near(sidecar["adapter"]),
        "adapter SHA-256 (as it is now)": sha256(weights) if weights.is_file() else None,
        "decoding": sidecar.get("decoding"),
        "split": sidecar.get("split"),
        "data": near(sidecar.get("source")),
        "data SHA-256 (as predicted)": sidecar.get("source_sha256"),
        "checked against": near(run["source"]),
        "predictions": near(run["path"]),
        "predictions SHA-256": sha256(run["path"]),
        "training data SHA-256": _hash_if_there(cfg.data.train_jsonl),
        "configuration": cfg.config_path.name,
        "commit of prediction": sidecar.get("commit"),
        "commit of evaluation": here["commit"],
        "device of prediction": sidecar.get("device"),
        "versions at prediction": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "tolerances": ", ".join(f"{key} {value}" for key, value in cfg.eval.model_dump().items()),
    }
    return [(name, value) for name, value in facts.items() if value]


def _hash_if_there(path):
    return sha256(path) if path and path.is_file() else None
