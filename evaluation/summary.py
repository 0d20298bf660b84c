"""Several evaluations in one table: for a terminal, as CSV for a spreadsheet, or as LaTeX for a paper."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --summary METRICS")

import csv
import io
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ValidationError

from data.rules import ordered_types
from evaluation.tables import BLIND, REACHABLE
from files import UserError, printable, read_json

LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"} | {"^": r"\^{}"}
)


def summary_table(paths, form="text"):
    """One line per metrics file: rows, accuracy overall and per type; last what the blind prior scores on them.

    form: `text` has two decimals; `csv` and `latex` (booktabs) one, as a paper prints them, and the overall interval.
    Raises UserError for a file that isn't one of metrics.
    """
    runs = [_read_metrics(path) for path in paths]
    types = ordered_types({name for run in runs for name in run["per_type"]})
    lines = list(zip(_unique_names(runs), runs))
    for title, key in ((BLIND, "blind_prior"), (REACHABLE, "reachable")):
        lines += _floors(title, key, lines[: len(runs)])
    return {"text": _text, "csv": _csv, "latex": _latex}[form](lines, types)


class _Type(BaseModel):
    accuracy: float


class _Scores(BaseModel):
    """What is read of a metrics file, or of a part of it."""

    n: int
    correct: int
    micro: float
    per_type: dict[str, _Type]


class _Config(BaseModel):
    model_name: str | None = None


class _Facts(BaseModel):
    adapter: str | None = None
    decoding: str | None = None
    split: str | None = None
    config: _Config | None = None


class _Overall(BaseModel):
    interval: tuple[float, float, str] | None = None


class _Details(BaseModel):
    overall: _Overall | None = None


class _Metrics(_Scores):
    blind_prior: _Scores | None
    reachable: _Scores | None = None
    sidecar: _Facts
    details: _Details | None = None


def _read_metrics(path):
    run = read_json(path)
    try:
        _Metrics.model_validate(run, strict=False)
    except ValidationError:
        raise UserError(f"{path}: not a metrics file; give files that eval_exp1.py wrote") from None
    return {**run, "path": path}


def _unique_names(runs):
    """What tells the runs apart, in as few words as do: tuned or not and decoding, then split, model, adapter, file, path."""
    names = [_run_name(run) + ", partial" * bool(run.get("partial")) for run in runs]
    for tell in (_split, _model, _adapter, _stem, lambda run: str(run["path"])):
        often, told = Counter(names), [tell(run) for run in runs]
        for name in (name for name, count in often.items() if count > 1):
            places = [place for place, other in enumerate(names) if other == name]
            if len({told[place] for place in places}) > 1:
                for place in places:
                    names[place] += f", {told[place]}" if told[place] else ""
    seen = Counter()
    for place, name in enumerate(names):  # the same file twice
        seen[name] += 1
        names[place] += f" ({seen[name]})" if seen[name] > 1 else ""
    return names


def _run_name(run):
    """`untuned, free`, `tuned, constrained`: from the sidecar's facts, else the file's name."""
    facts = run["sidecar"]
    if "adapter" not in facts or "decoding" not in facts:
        return _stem(run)
    decoding = "constrained" if facts["decoding"] in ("greedy", "exact") else facts["decoding"]
    return f"{'untuned' if facts['adapter'] in (None, 'none') else 'tuned'}, {decoding}"


def _split(run):
    return run["sidecar"].get("split")


def _model(run):
    return Path((run["sidecar"].get("config") or {}).get("model_name") or "").name


def _adapter(run):
    adapter = run["sidecar"].get("adapter")
    return Path(adapter).parent.name if adapter and adapter != "none" else None


def _stem(run):
    """The file's own name: of metrics_NAME.json NAME, of metrics.json that of its folder."""
    return run["path"].stem.removeprefix("metrics").removeprefix("_") or run["path"].parent.name


def _floors(title, key, lines):
    """A line of the blind prior (or ceiling) for each kind of rows; where there are several, with the runs it belongs to."""
    kinds = {}
    for name, run in lines:
        if scores := run.get(key):
            told = scores["n"], scores["correct"], tuple(map(str, scores["per_type"].items()))
            kinds.setdefault(told, (scores, []))[1].append(name)
    if len(kinds) == 1:
        return [(title, scores) for scores, _ in kinds.values()]
    return [(f"{title} ({'; '.join(names)})", scores) for scores, names in kinds.values()]


def _text(lines, types):
    def cells(name, scores):
        accuracies = (f"{scores['per_type'][kind]['accuracy']:.2%}" if kind in scores["per_type"] else "-" for kind in types)
        return [printable(name), str(scores["n"]), f"{scores['micro']:.2%}", *accuracies]

    table = [["", "rows", "overall", *map(printable, types)], *(cells(*line) for line in lines)]
    first, *widths = (max(map(len, column)) for column in zip(*table))
    said = ["  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths))]) for name, *cells in table]
    return "\n".join([said[0], "-" * len(said[0]), *said[1:]])


def _rounded(lines, types):
    """(name, rows, overall, low, high, each type) as text: percent with one decimal, empty where not known."""
    percent = lambda share: "" if share is None else f"{100 * share:.1f}"
    for name, scores in lines:
        low, high = (((scores.get("details") or {}).get("overall") or {}).get("interval") or [None, None])[:2]
        accuracies = [percent(scores["per_type"][kind]["accuracy"] if kind in scores["per_type"] else None) for kind in types]
        yield [printable(name), str(scores["n"]), *map(percent, (scores["micro"], low, high)), *accuracies]


def _csv(lines, types):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "rows", "overall", "overall_low", "overall_high", *map(printable, types)])
    writer.writerows(_rounded(lines, types))
    return out.getvalue().rstrip("\n")


def _latex(lines, types):
    escaped = lambda text: text.translate(LATEX)
    head = ["", "rows", "overall", "95\\,\\% interval", *(escaped(printable(kind)) for kind in types)]
    table = [r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    before = ""
    for name, rows, overall, low, high, *accuracies in _rounded(lines, types):
        if name.startswith(BLIND) and not before.startswith(BLIND):
            table.append(r"\midrule")
        before = name
        cells = [escaped(name), f"{int(rows):,}".replace(",", "{,}"), overall, f"{low}--{high}" if low else "--"]
        table.append(" & ".join([*cells, *(accuracy or "--" for accuracy in accuracies)]) + r" \\")
    return "\n".join([*table, r"\bottomrule", r"\end{tabular}"])
