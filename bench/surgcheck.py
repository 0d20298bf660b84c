"""SurgCheck's Table 2 (IPCAI 2026) from its public predictions, and what the paper's table leaves out.

    git clone https://github.com/yonding/SurgCheck SURGCHECK
    python bench/surgcheck.py SURGCHECK

FOLDER is that repository, its Evaluation/ or one of the folders in it. Every all_results_NAME/ is searched for a model's answers
to the original questions and to the less biased ones, whose file's name adds `less_bias` (-less-bias, _less_biased); where FOLDER
has no such folder, it is searched itself. A file is JSONL, or CSV where the JSONL of its name isn't there; a row has pred, gt,
image, and the task as sub_sub_tag. What was left out, and which halves are missing, is said below the tables.

Accuracy and macro-F1 are this project's (evaluation/metrics.py: over the labels of the truth of all tasks together). Intervals are
percentile bootstrap over videos (the image's name up to its first `_`), which are drawn whole (that of macro-F1 leans upwards, for a
label of few videos is missing in some draws; – where all draws are alike); the paired difference also has the interval and test of
eval_exp1.py --compare. A truth counts as met by the same text after normalising, as in the paper: an untuned model's sentences count
as wrong. The data are for non-commercial research and the predictions state no licence: figures may be quoted, files stay out of
this repository.
"""

import argparse
import csv
import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from data.matching import judge, normalize_answer
from data.text import strip_placeholders
from evaluation.compare import compare, short_p
from evaluation.metrics import classification, compare_rows, matched_labels
from files import UserError, printable, read_jsonl, run_script

WORDINGS = ("original", "less biased")
REWORDED = re.compile(r"[-_. ]*less[-_. ]*bias(ed)?(?![a-z])", re.IGNORECASE)
PLAIN = re.compile(r"[-_. ]+(general|original|bias(ed)?)(?![a-z])", re.IGNORECASE)
# Our name of a column, and how files call it.
COLUMNS = {
    "pred": ("pred", "prediction", "predict", "response"),
    "gt": ("gt", "ground_truth", "label", "truth", "answer"),
    "image": ("image", "image_path", "ori_img_tag"),
    "task": ("sub_sub_tag", "task"),
    "question": ("question", "prompt"),
    "cue": ("sub_tag", "cue"),
}
NEEDED = ("pred", "gt", "image", "task")
DRAWS, SEED = 10_000, 0


# ---------------------------------------------------------------------------------------------------------------------
# Files


def find_models(folder):
    """{model: {wording: path}} of the predictions below a folder, by name.

    A model is called as its file is, without what tells the wording, and with its folder where two have one name.
    """
    folders = sorted(path for path in [folder, *folder.rglob("*")] if path.is_dir() and path.name.startswith("all_results_"))
    paths = [path for own in folders or [folder] for path in sorted(own.iterdir()) if path.suffix in (".jsonl", ".csv")]
    found = defaultdict(dict)
    for path in sorted(paths, key=lambda path: path.suffix == ".csv"):  # the same rows twice: JSONL first
        wording = WORDINGS[bool(REWORDED.search(path.stem))]
        found[path.parent, PLAIN.sub("", REWORDED.sub("", path.stem))].setdefault(wording, path)
    if not found:
        raise UserError(f"{folder}: no .jsonl or .csv of predictions, neither itself nor in all_results_NAME/; give SurgCheck's repository")
    often = Counter(stem for _, stem in found)
    named = {(f"{own.name}/{stem}" if often[stem] > 1 else stem): files for (own, stem), files in found.items()}
    return dict(sorted(named.items()))


def read_predictions(path):
    """A file's rows, judged: `pred`, `gt`, `qtype` (the task), `question`, `image`, `cue`, `cluster` (the video), `correct`.

    Raises UserError naming file, line and column for what lacks.
    """
    rows = []
    for line, row in csv_rows(path) if path.suffix == ".csv" else read_jsonl(path):
        values = {name: next((row[key] for key in keys if key in row), None) for name, keys in COLUMNS.items()}
        if missing := [name for name in NEEDED if name != "pred" and not text_of(values[name])]:
            raise UserError(f"{path}:{line}: has no {missing[0]} ({' or '.join(COLUMNS[missing[0]])}); correct or delete it")
        if not any(key in row for key in COLUMNS["pred"]):
            raise UserError(f"{path}:{line}: has no {' or '.join(COLUMNS['pred'])}; give a file of predictions")
        kept = {name: text_of(value) for name, value in values.items()}
        image = PurePosixPath(kept.pop("image").replace("\\", "/")).name
        question = " ".join(strip_placeholders(kept["question"]).split())
        rows.append({**kept, "image": image, "question": question, "qtype": kept.pop("task"), "cluster": f"group {image.split('_')[0]}"})
    return judge(rows)


def csv_rows(path):
    """Yield (line, {column: text}) of a CSV file with a header. Raises UserError for one without rows, or not in UTF-8."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            line = None
            for row in reader:
                line = reader.line_num
                yield line, row
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV ({error}); correct it") from None
    if line is None:
        raise UserError(f"{path}: has no rows")


def text_of(value):
    """A value as text; nothing, and the NaN that pandas writes for it, is the empty text."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


# ---------------------------------------------------------------------------------------------------------------------
# Two wordings of the same questions


def pair(first, second):
    """The rows of both wordings, such that row i of both is one question: (first, second) with ids, or None where they differ.

    The same image, task, cue and truth make a pair. Where the files have these in one order, so have their questions. In another
    order, rows that share all four could be paired in several ways: `sure` is False of them. Sums by video don't depend on it.
    """
    key = lambda row: (row["image"], row["qtype"], row["cue"], normalize_answer(row["gt"]))
    in_order = list(map(key, first)) == list(map(key, second))
    if not in_order:
        first, second = (sorted(rows, key=key) for rows in (first, second))
    if list(map(key, first)) != list(map(key, second)):
        return None
    often = Counter(map(key, first))
    sure = [in_order or often[key(row)] == 1 for row in first]
    return tuple([{**row, "id": str(place), "sure": sure[place]} for place, row in enumerate(rows)] for rows in (first, second))


class Videos:
    """A file's rows as sums by video, for the bootstrap."""

    def __init__(self, rows, videos):
        """rows: judged. videos: names of all that are drawn from, in order."""
        gold, said = matched_labels(compare_rows(rows))
        places, labels = ({name: place for place, name in enumerate(names)} for names in (videos, sorted(set(gold))))
        video = [places[row["cluster"]] for row in rows]
        self.rows, self.right = np.bincount(video, minlength=len(videos)), np.zeros(len(videos))
        np.add.at(self.right, video, [row["correct"] for row in rows])
        self.gold, self.said, self.hits = (np.zeros((len(videos), len(labels))) for _ in range(3))
        for place, true, answer in zip(video, gold, said):
            self.gold[place, labels[true]] += 1
            if answer is not None:
                self.said[place, labels[answer]] += 1
                self.hits[place, labels[true]] += true == answer

    def accuracy(self, weights):
        """Of each draw; weights: (draws, videos), how often each video is in it."""
        return weights @ self.right / (weights @ self.rows)

    def macro_f1(self, weights):
        """Of each draw, over the labels of its truths."""
        gold, said, hits = (weights @ sums for sums in (self.gold, self.said, self.hits))
        f1 = np.divide(2 * hits, gold + said, out=np.zeros_like(hits), where=gold > 0)
        return f1.sum(axis=1) / (gold > 0).sum(axis=1)


def draws(count):
    """How often each of `count` videos is in each of DRAWS bootstrap samples: int (DRAWS, count)."""
    return np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)


def with_interval(value, drawn, form):
    """A score and its interval, as text. Where all draws score alike (one video, or videos that do) nothing tells how sure it is: "–"."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    between = f"{100 * low:{form}} to {100 * high:{form}}" if np.ptp(drawn) > 1e-9 else "–"
    return f"{100 * value:{form}} ({between})"


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def table_2(model, halves):
    """A model's row: accuracy and macro-F1 of each wording, with intervals. halves: {wording: judged rows}."""
    cells, counts = defaultdict(list), []
    for wording in WORDINGS:
        rows = halves.get(wording)
        if rows is None:
            for score in ("accuracy", "macro_f1"):
                cells[score].append("–")
            continue
        videos = sorted({row["cluster"] for row in rows})
        sums, weights, once = Videos(rows, videos), draws(len(videos)), np.ones((1, len(videos)))
        counts.append(f"{len(rows):,}, {len(videos)}")
        for score in ("accuracy", "macro_f1"):
            of = getattr(sums, score)
            cells[score].append(with_interval(of(once)[0], of(weights), ".2f"))
    return [model, "; ".join(dict.fromkeys(counts)), *cells["accuracy"], *cells["macro_f1"]]


def differences(model, first, second):
    """A model's row of what the wording does, of paired rows: differences with intervals, and the answers that changed."""
    videos = sorted({row["cluster"] for row in first})
    sums, weights, once = [Videos(rows, videos) for rows in (first, second)], draws(len(videos)), np.ones((1, len(videos)))
    cells = []
    for score in ("accuracy", "macro_f1"):
        of = lambda drawn, score=score: getattr(sums[1], score)(drawn) - getattr(sums[0], score)(drawn)
        cells.append(with_interval(of(once)[0], of(weights), "+.2f"))
    tested = compare([first], [second])["overall"]
    known = [(a, b) for a, b in zip(first, second) if a["sure"]]
    only = (sum(a["correct"] > b["correct"] for a, b in known), sum(a["correct"] < b["correct"] for a, b in known))
    reworded = [(a, b) for a, b in known if a["question"] != b["question"]]
    changed = sum(normalize_answer(a["pred"]) != normalize_answer(b["pred"]) for a, b in reworded)
    share = f"{changed / len(reworded):.1%} of {len(reworded):,}" if reworded else "–"
    score_test = "{:+.2f} to {:+.2f}, p {}".format(*(100 * end for end in tested["interval"][:2]), short_p(tested["p"]))
    return [model, *cells, score_test, share, "{}, {}".format(*only) if known else "–"]


def balanced_accuracies(model, halves):
    """A model's rows by task: balanced accuracy and accuracy of each wording, and what the task's commonest truth alone would score."""
    known = next(iter(halves.values()))
    for task in sorted({row["qtype"] for row in known}):
        own = {wording: [row for row in rows if row["qtype"] == task] for wording, rows in halves.items()}
        truths = Counter(normalize_answer(row["gt"]) for row in known if row["qtype"] == task)
        cells = []
        for wording in WORDINGS:
            rows = own.get(wording)
            balanced = classification(*matched_labels(compare_rows(rows)))["balanced_accuracy"] if rows else None
            cells.append(f"{balanced:.2%} ({sum(row['correct'] for row in rows) / len(rows):.2%})" if rows else "–")
        yield [model, task, f"{truths.total():,}", len(truths), *cells, f"{max(truths.values()) / truths.total():.2%}"]


def markdown(title, columns, rows):
    lines = [f"\n{title}\n", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(printable(str(cell)).replace("|", "\\|") for cell in row) + " |" for row in rows)])


def load_all(models):
    """({model: {wording: judged rows}}, lines on what is missing or was left out)."""
    loaded, notes = {}, []
    for model, paths in models.items():
        halves = {}
        for wording, path in paths.items():
            try:
                halves[wording] = read_predictions(path)
            except UserError as error:
                notes.append(f"left out: {error}")
        notes += [f"{model}: its answers to the {wording} questions are not there" for wording in WORDINGS if wording not in paths]
        if halves:
            loaded[model] = halves
    return loaded, notes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="SurgCheck's repository, or a folder of it")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; clone https://github.com/yonding/SurgCheck and give its folder")
    loaded, notes = load_all(find_models(folder))
    if not loaded:
        raise UserError(f"{folder}: no file could be read; {'; '.join(notes)}")
    shifts = []
    for model, halves in loaded.items():
        if len(halves) == 2 and (both := pair(*(halves[wording] for wording in WORDINGS))):
            shifts.append(differences(model, *both))
            if unsure := sum(not row["sure"] for row in both[0]):
                left = f"{unsure:,} of {len(both[0]):,} rows share image, task, cue and truth with others, and the files' order differs"
                notes.append(f"{model}: {left}: they are not in 'answers changed' and 'right only in'")
        elif len(halves) == 2:
            sizes = " and ".join(f"{len(halves[wording]):,}" for wording in WORDINGS)
            notes.append(f"{model}: its {sizes} rows are not about the same images, tasks and truths, so no differences")
    scores = [f"{score}, {wording}" for score in ("accuracy", "macro-F1") for wording in WORDINGS]
    print(markdown("Table 2: % (95 % by video)", ["model", "rows, videos", *scores], [table_2(*item) for item in loaded.items()]))
    if shifts:
        columns = ["model", "accuracy", "macro-F1", "accuracy by score test", "answers changed where the wording is another"]
        title = "Less biased minus original, the same questions in pairs: points (95 % by video)"
        print(markdown(title, [*columns, "right only in original, only in less biased"], shifts))
    columns = ["model", "task", "rows", "truths", *WORDINGS, "commonest truth"]
    by_task = [row for item in loaded.items() for row in balanced_accuracies(*item)]
    print(markdown("Balanced accuracy by task (accuracy in brackets)", columns, by_task))
    print("".join(f"\n{printable(note)}" for note in notes))


if __name__ == "__main__":
    run_script(main)
