"""What answers rest on: predictions beside the same model's about perturbed pictures and reworded questions, row by row.

The files lie beside the plain one, `<its name>_black.jsonl` and so on (`predict_exp1.py --perturb`). Two questions are asked of a row's
answer, as by "Consistent but Dangerous" (arXiv 2603.20985): is it the same in every wording, and does it change when there is nothing
to see? A consistent answer that needs no picture is the dangerous one, for consistency is taken for reliability.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --robustness")

import glob
import re
from collections import Counter, defaultdict

import numpy as np

from config import near
from data.matching import conventions_of, judge, labels_of
from data.perturb import perturbations
from data.rows import junk_reason
from evaluation.compare import compare, short_p
from evaluation.intervals import accuracy_interval, cluster_sums, holm
from evaluation.metrics import template_of
from evaluation.predictions import check_asked, listed, load_predictions, load_sidecar
from evaluation.tables import number
from files import UserError, printable

WITHOUT_PICTURE = ("black", "other_image")  # the first that is there tells whether an answer rests on the picture
KINDS = {  # (same in every wording, another without the picture)
    (True, True): "ideal",
    (False, True): "fragile",
    (True, False): "dangerous",
    (False, False): "worst",
}
MADE_FOR_ITSELF = ("perturbation", "device", "packages")  # of what predictions were made from: where two files may differ
OF_AN_ANSWER = ("pred", "greedy", "confidence", "candidates_top", "abstained", "correct", "lenient")
SHOWN_QUESTIONS = 20  # on the terminal; the metrics file has all


# ---------------------------------------------------------------------------------------------------------------------
# The files


def perturbed_files(path):
    """{name: path} of the perturbed predictions beside the plain file, and [names of the table of which there are none]."""
    found, missing = {}, []
    beside = sorted(path.parent.glob(f"{glob.escape(path.stem)}_*.jsonl"))
    for name in perturbations():
        pattern = r"reworded_[0-9]+" if name == "reworded" else re.escape(name)
        paths = [other for other in beside if re.fullmatch(pattern, other.stem.removeprefix(f"{path.stem}_"))]
        found |= {other.stem.removeprefix(f"{path.stem}_"): other for other in paths}
        missing += [] if paths else [name]
    return found, missing


def load_perturbed(path, name, run, tolerances):
    """{id: judged row} of a perturbed file: the plain run's rows, of which only the answers are believed to be this file's.

    Raises UserError where it can't be of the same model, rows, questions and pictures.
    """
    rows, sidecar, plain = load_predictions(path), load_sidecar(path), run["path"].name
    if any("id" not in row for row in rows):
        raise UserError(f"{path}: has rows without an id, by which they would be paired with those of {plain}; add the ids")
    check_asked(path, rows, sidecar)
    if other := made_otherwise(sidecar, run["sidecar"]):
        raise UserError(f"{path}: was made with other {', '.join(other)} than {plain}; predict it again: --perturb {option_of(name)}")
    known = {row["id"]: row for row in run["judged"]}
    rows = [row for row in rows if row["id"] in known or not junk_reason(row.get("question", "not known"), row.get("gt", "not known"))]
    faults = {"rows that it lacks": [row["id"] for row in rows if row["id"] not in known]}
    for key in ("image",) if name.startswith("reworded") else ("image", "question"):
        pairs = [(row, known[row["id"]]) for row in rows if row["id"] in known and key in row]
        faults[f"another {key} in"] = [row["id"] for row, own in pairs if key in own and row[key] != own[key]]
    pairs = [(row, known[row["id"]]) for row in rows if row["id"] in known and "gt" in row]
    faults["another truth in"] = [row["id"] for row, own in pairs if not same_truth(row["gt"], own, run)]
    if said := "; ".join(f"{fault}: {listed(ids)}" for fault, ids in faults.items() if ids):
        raise UserError(f"{path}: is not about the rows of {plain}: {said}; predict the same rows with both")
    answered = [{key: value for key, value in known[row["id"]].items() if key not in OF_AN_ANSWER} | {"pred": row["pred"]} for row in rows]
    if not answered:
        raise UserError(f"{path}: answers none of the rows of {plain}; predict it again: --perturb {option_of(name)}")
    return {row["id"]: row for row in judge(answered, tolerances, run["conventions"])}


def same_truth(text, row, run):
    """Is a text the truth of a row of the plain run, perhaps in another spelling?"""
    return text == row["gt"] or labels_in(text, row, run["conventions"]) == labels_in(row["gt"], row, run["conventions"])


def made_otherwise(sidecar, plain):
    """Names of what two files were made from that differs, but for what may; none where one of them doesn't say."""
    one, other = sidecar.get("made_from") or {}, plain.get("made_from") or {}
    return sorted(key for key in one.keys() & other.keys() if key not in MADE_FOR_ITSELF and one[key] != other[key])


def option_of(name):
    """What --perturb calls a file: `reworded` for reworded_2."""
    return "reworded" if name.startswith("reworded_") else name


# ---------------------------------------------------------------------------------------------------------------------
# The scores


def robustness(cfg, run, blind_rows):
    """The scores of a loaded run beside its perturbed files, as they stand in the metrics file.

    blind_rows: the blind prior's judged rows, or None. Returns {"files", "missing", "perturbations": {name: {"overall", "macro",
    "per_type", "changed"}}, "beside_blind": {name: {…}}, "samples"}. Accuracies are paired, intervals by image or group; `drop` is
    plain - perturbed. Raises UserError where there is no perturbed file.
    """
    files, missing = perturbed_files(run["path"])
    if not files:
        remedy = f"make them first: predict_exp1.py --perturb all, as {run['path'].name} was made"
        raise UserError(f"--robustness: no perturbed predictions lie beside {near(run['path'])}; {remedy}")
    answers = {name: load_perturbed(path, name, run, cfg.eval) for name, path in files.items()}
    scores = {name: paired(run["judged"], rows, run["conventions"]) for name, rows in answers.items()}
    for item, p in zip(scores.values(), holm([item["overall"]["p"] for item in scores.values()])):
        item["overall"]["p_holm"] = p
    prior = {row["id"]: row for row in blind_rows or ()}
    return {
        "files": {name: path.name for name, path in files.items()},
        "missing": missing,
        "perturbations": scores,
        "beside_blind": {name: beside_blind(prior, answers[name]) for name in WITHOUT_PICTURE if name in answers and prior},
        "samples": samples(run["judged"], answers, run["conventions"]),
    }


def paired(judged, rows, conventions):
    """What a perturbation does: accuracies of the rows that it has, their differences, and the share of other answers."""
    plain = [row for row in judged if row["id"] in rows]
    found = compare([plain], [list(rows.values())])
    changed = [not same_answer(row, rows[row["id"]], conventions) for row in plain]
    turned = lambda item: (
        {name: value for name, value in item.items() if name not in ("a", "b", "difference", "interval", "only_a", "only_b")}
        | {
            "plain": item["a"],
            "perturbed": item["b"],
            "drop": 0.0 - item["difference"],
            "interval": [0.0 - item["interval"][1], 0.0 - item["interval"][0], item["interval"][2]],
        }
    )
    return {
        "overall": turned(found["overall"]) | {"rows_left_out": len(judged) - len(plain)},
        "macro": turned(found["macro"]),
        "per_type": {name: turned(item) for name, item in found["per_type"].items()},
        "changed": share_of(plain, changed),
        "empty": sum(not labels_in(row["pred"], row, conventions) for row in rows.values()),
    }


def beside_blind(prior, rows):
    """Accuracies without the picture (b) beside the blind prior's (a), overall and per type; difference: what is left above it."""
    found = compare([[prior[row_id] for row_id in rows]], [list(rows.values())])
    named = lambda item: (
        {"count": item["count"], "blind": item["a"], "accuracy": item["b"]}
        | {key: item[key] for key in ("difference", "interval", "p") if key in item}
    )
    return {"overall": named(found["overall"]), "per_type": {name: named(item) for name, item in found["per_type"].items()}}


def labels_in(text, row, conventions):
    """The labels that a text says as an answer to a row's question; none where it says nothing."""
    return labels_of(text, conventions_of(row, conventions), row.get("options")).keys()


def same_answer(one, other, conventions):
    """Do two rows about the same question say the same labels? Two empty answers do."""
    return labels_in(one["pred"], one, conventions) == labels_in(other["pred"], one, conventions)


def share_of(rows, flags):
    """{"count", "share", "interval"} of the rows that are flagged; the interval by image or group."""
    sums = cluster_sums([row["cluster"] for row in rows], np.ones(len(rows)), flags)
    return {"count": int(np.sum(flags)), "share": float(np.mean(flags)), "interval": accuracy_interval(sums)}


def samples(judged, answers, conventions):
    """Whether single answers are the same in every wording, and whether they rest on the picture; None where neither can be told.

    A row takes part that has an answer in another wording and one without the picture (`by`: of which file). {"rows", "by", "wordings",
    "consistent", "reliant", "empty", "kinds": {kind: share_of and accuracy}, "per_question": [{question, qtype, count, kinds,
    accuracy}]}. An empty answer, plain or perturbed, is no answer that is the same in other words, nor one that changed; empty: such rows.
    """
    wordings = {name: rows for name, rows in answers.items() if name.startswith("reworded_")}
    by = next((name for name in WITHOUT_PICTURE if name in answers), None)
    if not wordings and not by:
        return None
    rows, same, reliant, empty = [], [], [], 0
    for row in judged:
        others = [found[row["id"]] for found in wordings.values() if row["id"] in found]
        unseen = answers[by].get(row["id"]) if by else None
        if (others or not wordings) and (unseen or not by):
            said, *reworded = (labels_in(other["pred"], row, conventions) for other in (row, *others))
            blindly = labels_in(unseen["pred"], row, conventions) if unseen else None
            rows.append(row)
            same.append(bool(said) and all(other == said for other in reworded))
            reliant.append(bool(said and blindly) and blindly != said)
            empty += not all([said, *reworded, *([blindly] if unseen else [])])
    if not rows:
        return None
    found = {"rows": len(rows), "by": by, "wordings": sorted(wordings), "empty": empty}
    found["consistent"] = share_of(rows, same) if wordings else None
    found["reliant"] = share_of(rows, reliant) if by else None
    if wordings and by:
        kinds = [KINDS[pair] for pair in zip(same, reliant)]
        found["kinds"] = {
            kind: share_of(rows, [own == kind for own in kinds]) | {"accuracy": _right(rows, kinds, kind)} for kind in KINDS.values()
        }
        found["per_question"] = _per_question(rows, kinds)
    return found


def _right(rows, kinds, kind):
    right = [row["correct"] for row, own in zip(rows, kinds) if own == kind]
    return sum(right) / len(right) if right else None


def _per_question(rows, kinds):
    """The kinds of the rows of each question, the commonest question first."""
    asked = defaultdict(list)
    for row, kind in zip(rows, kinds):
        asked[row["qtype"], template_of(row)].append((row, kind))
    found = []
    for (qtype, template), pairs in sorted(asked.items(), key=lambda item: -len(item[1])):
        count = Counter(kind for _, kind in pairs)
        item = {"question": pairs[0][0].get("question"), "template": template, "qtype": qtype, "count": len(pairs)}
        found.append(item | {"kinds": {kind: count[kind] / len(pairs) for kind in KINDS.values()}})
        found[-1]["accuracy"] = sum(row["correct"] for row, _ in pairs) / len(pairs)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# In words


def robustness_tables(found, verbose=False):
    """The scores as lines of text; differences in percentage points. verbose: the drops of each type with their intervals, too."""
    parts = [_drops(found), _by_type(found), *([_by_type_in_full(found)] if verbose else [])]
    parts += [_beside_blind_table(found["beside_blind"])] if found["beside_blind"] else []
    parts += [_samples_table(found["samples"])] if found["samples"] else []
    if found["missing"]:
        parts.append(f"not there, so not told: {', '.join(found['missing'])} (predict_exp1.py --perturb {' '.join(found['missing'])})")
    return "\n\n".join(parts)


def _percent(share):
    return "-" if share is None else f"{share:.2%}"


def _points(ends):
    return "{:+.2f} to {:+.2f}".format(*(100 * end for end in ends[:2]))


def _drops(found):
    line = "{:<16} {:>6} {:>8} {:>9} {:>7}  {:<18} {:<8} {:>13}".format
    lines = ["Robustness: the same rows, perturbed. Drop: percentage points of accuracy that this costs", ""]
    lines += [line("Perturbation", "Rows", "Plain", "Perturbed", "Drop", "95 % interval", "p (Holm)", "Other answers"), "-" * 94]
    for name, item in found["perturbations"].items():
        overall = item["overall"]
        shares = _percent(overall["plain"]), _percent(overall["perturbed"]), f"{100 * overall['drop']:+.2f}"
        interval, p = _points(overall["interval"]), short_p(overall["p_holm"])
        lines.append(line(name, overall["count"], *shares, interval, p, _percent(item["changed"]["share"])))
    for name, item in found["perturbations"].items():
        if left := item["overall"]["rows_left_out"]:
            lines.append(f"{name}: {number(left, 'row')} could not be perturbed, or asked so")
        if item["empty"]:
            lines.append(f"{name}: {number(item['empty'], 'row')} got an empty answer, which is wrong")
    return "\n".join(lines)


def _by_type(found):
    types = list(dict.fromkeys(name for item in found["perturbations"].values() for name in item["per_type"]))
    width = max(14, *(len(printable(name)) + 1 for name in types))
    lines = ["Drop by question type (*: p < 0.05 after Holm's correction over the types)", ""]
    lines += [f"{'Perturbation':<16}" + "".join(f"{printable(name):>{width}}" for name in types), "-" * (16 + width * len(types))]
    for name, item in found["perturbations"].items():
        cells = [item["per_type"].get(kind) for kind in types]
        said = (f"{100 * cell['drop']:+.2f}{'*' if cell['p_holm'] < 0.05 else ' '}" if cell else "- " for cell in cells)
        lines.append(f"{name:<16}" + "".join(f"{text:>{width}}" for text in said))
    return "\n".join(lines)


def _by_type_in_full(found):
    line = "{:<16} {:<20} {:>6} {:>8} {:>9} {:>7}  {:<18} {:<8}".format
    lines = [line("Perturbation", "Question Type", "Rows", "Plain", "Perturbed", "Drop", "95 % interval", "p (Holm)"), "-" * 100]
    for name, item in found["perturbations"].items():
        for kind, cell in item["per_type"].items():
            shares = _percent(cell["plain"]), _percent(cell["perturbed"]), f"{100 * cell['drop']:+.2f}"
            lines.append(line(name, printable(kind), cell["count"], *shares, _points(cell["interval"]), short_p(cell["p_holm"])))
    return "\n".join(lines)


def _beside_blind_table(beside):
    line = "{:<16} {:<20} {:>6} {:>8} {:>8} {:>7}  {:<18}".format
    lines = ["Right without the picture, beside the blind prior: what is left above it is a shortcut in the data", ""]
    lines += [line("Picture", "Question Type", "Rows", "Right", "Blind", "Above", "95 % interval").rstrip(), "-" * 90]
    for name, item in beside.items():
        for kind, cell in [*item["per_type"].items(), ("OVERALL (micro)", item["overall"])]:
            shares = _percent(cell["accuracy"]), _percent(cell["blind"]), f"{100 * cell['difference']:+.2f}"
            lines.append(line(name, printable(kind), cell["count"], *shares, _points(cell["interval"])).rstrip())
    return "\n".join(lines)


def about_samples(found):
    """How many rows keep their answer in other words, and how many rest on the picture, as a sentence."""
    said = []
    if found["consistent"]:
        said.append(f"{found['consistent']['share']:.2%} are the same in every wording ({len(found['wordings'])} others)")
    if found["reliant"]:
        unseen = "a black picture" if found["by"] == "black" else "another picture"
        said.append(f"{found['reliant']['share']:.2%} change with {unseen}, so rest on what is seen")
    text = f"Of {number(found['rows'], 'answer')}, {'; '.join(said)}."
    if found["empty"]:
        text += f" In {number(found['empty'], 'row')} an answer is empty: such counts neither as the same nor as another one."
    return text


def _samples_table(found):
    lines = [about_samples(found)]
    if "kinds" not in found:
        return lines[0]
    line = "{:<46} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}".format
    lines += ["ideal: both; fragile: seen, but not the same in every wording; dangerous: the same, but not seen; worst: neither", ""]
    lines += [line("Question", "Rows", *KINDS.values(), "Accuracy"), "-" * 103]
    for item in found["per_question"][:SHOWN_QUESTIONS]:
        question = printable(item["question"] or f"({item['qtype']})")
        shown = question if len(question) <= 46 else question[:45] + "…"
        lines.append(line(shown, item["count"], *map(_percent, item["kinds"].values()), _percent(item["accuracy"])))
    if more := len(found["per_question"]) - SHOWN_QUESTIONS:
        lines += [f"{number(more, 'more questions')} in the metrics file"] if more > 0 else []
    kinds = found["kinds"]
    lines.append(line("all", found["rows"], *(_percent(item["share"]) for item in kinds.values()), ""))
    ends = [" - ".join(f"{100 * end:.1f}" for end in item["interval"][:2]) for item in kinds.values()]
    lines.append(line("95 % interval", "", *ends, "").rstrip())
    lines.append(line("right among them", "", *(_percent(item["accuracy"]) for item in kinds.values()), "").rstrip())
    return "\n".join(lines)
