"""The metrics of the field's leaderboards, with their own settings (recipes.yaml), beside answers that know nothing. No torch but for
BERTScore."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --recipe surgvu25")

import io
import math
import os
import string
import warnings
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from config import EvalConfig, yaml_file
from data.matching import judge, references
from evaluation.metrics import classification, compare_rows, matched_labels
from evaluation.tables import number
from files import UserError, printable, quoted, short

RECIPES = yaml_file(Path(__file__).with_suffix(".yaml"))
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORDNET = ("/usr/share/wordnet", "/usr/share/wordnet/dict", "/usr/local/WordNet-3.0/dict")  # Debian's wordnet-base; Princeton's
FRAME = np.array([1280, 1024, 1280, 1024])  # of EndoVis, by which VQLA divides its corners
NO_WORDNET = "no METEOR: it needs WordNet; install Debian's wordnet-base, or run python -m nltk.downloader wordnet omw-1.4"


# ---------------------------------------------------------------------------------------------------------------------
# A recipe


def recipe_scores(name, judged, blind=None, tolerances=EvalConfig(), conventions=None):
    """What a leaderboard's metric gives judged rows, and answers that know nothing.

    name: key of RECIPES. blind: the blind prior's rows in the same order, if there is one. tolerances, conventions: as for
    `matching.judge`. Returns {"whose", "how", "gamed",
    "count", "scores": {who: {score: share or None}}, "notes"}: who is `these answers`, `always yes`, `the question`, `nothing` and
    `the commonest answer` (of the question in training; without training rows, of these very rows). Raises UserError, which says what
    to install, where a library or model is missing.
    """
    commonest = Counter(row["gt"] for row in judged).most_common(1)[0][0]
    answers = {
        "these answers": [row["pred"] or "" for row in judged],
        "always yes": ["Yes"] * len(judged),
        "the question": [row.get("question") or "" for row in judged],
        "nothing": [""] * len(judged),
        "the commonest answer": [row["pred"] or "" for row in blind] if blind else [commonest] * len(judged),
    }
    table, scored, notes = RECIPES[name], {}, []
    for who, texts in answers.items():
        said = [{**row, "pred": text, "pred_box": None} for row, text in zip(judged, texts)]
        rows = judged if who == "these answers" else judge(said, tolerances, conventions)
        found = SCORERS[name](texts, rows, table)
        scored[who] = {key: found.get(key) for key in table["scores"]}
    if "meteor" in table["scores"] and scored["these answers"]["meteor"] is None:
        notes.append(NO_WORDNET)
    elif "meteor" in table["scores"] and not has_punkt():
        notes.append("METEOR takes each answer as one sentence: NLTK's punkt_tab isn't there (python -m nltk.downloader punkt_tab)")
    if name == "vqla":
        notes.extend(about_boxes(judged))
    if not blind:
        notes.append("the commonest answer is that of these rows: there is no blind prior")
    return {"whose": table["whose"], "how": table["how"], "gamed": table["gamed"], "count": len(judged), "scores": scored, "notes": notes}


def recipe_table(name, found):
    """`recipe_scores` as lines of text; shares with four decimals, as the leaderboards print them."""
    scores = list(found["scores"]["these answers"])
    width = max(map(len, found["scores"]))
    lines = [f"Recipe {name}: {found['whose']}", "", " ".join([" " * width, *(f"{key:>{max(10, len(key))}}" for key in scores)])]
    lines.append("-" * len(lines[-1]))
    for who, values in found["scores"].items():
        cells = ("-" if values[key] is None else f"{values[key]:.4f}" for key in scores)
        lines.append(" ".join([who.ljust(width), *(f"{cell:>{max(10, len(key))}}" for cell, key in zip(cells, scores))]))
    return "\n".join(map(printable, [*lines, *recipe_notes(found)]))


def recipe_notes(found):
    """How the scores of a recipe are computed and gamed, and what is missing."""
    return [f"How: {found['how']}.", f"How it is gamed: {found['gamed']}", *found["notes"]]


def check_recipe(name):
    """Raise UserError before anything is computed where a recipe's library isn't there."""
    if name not in RECIPES:
        raise UserError(f"--recipe {quoted(name)}: there is no such recipe; give {', '.join(RECIPES)}")
    packages = {"surgvu25": ("nltk",), "surgvu26": ("nltk", "rouge-score", "bert-score"), "medico": ("nltk", "rouge-score", "sacrebleu")}
    for package in packages.get(name, ()):
        if find_spec(package.replace("-", "_")) is None:
            raise UserError(f"--recipe {name} needs {package}; run: pip install {package}")
    if name == "surgvu26":
        check_model(RECIPES[name]["model"])


# ---------------------------------------------------------------------------------------------------------------------
# Overlap of words


def bare(text):
    """A text as SurgVU compares it: in lower case, without ASCII punctuation."""
    return text.translate(PUNCTUATION).lower().strip()


def sentence_bleu_4(said, known):
    """The best sentence BLEU-4 (Papineni et al. 2002; NLTK, smoothing method 1 of Chen & Cherry 2014) against any of several references."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing, weights, tokens = SmoothingFunction().method1, (0.25,) * 4, bare(said).split()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that of texts without 4-grams, whose smoothing is what the metric is about
        return max(float(sentence_bleu([bare(text).split()], tokens, weights, smoothing)) for text in known)


def mean_rouge(texts, known, stemmer, clean=str):
    """{rouge_1, rouge_2, rouge_l}: mean over rows of the F-measure (Lin 2004; rouge-score) against the best reference, each by itself."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer, kinds = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stemmer), ("rouge1", "rouge2", "rougeL")
    rows = []
    for said, own in zip(texts, known):
        found = [scorer.score(clean(text), clean(said)) for text in own]
        rows.append([max(scores[kind].fmeasure for scores in found) for kind in kinds])
    return dict(zip(("rouge_1", "rouge_2", "rouge_l"), np.mean(rows, axis=0).tolist()))


def surgvu25(texts, judged, table):
    return {"bleu_4": math.fsum(sentence_bleu_4(said, references(row)) for said, row in zip(texts, judged)) / len(judged)}


def surgvu26(texts, judged, table):
    known = [references(row) for row in judged]
    rouge = mean_rouge(texts, known, stemmer=True, clean=bare)
    return {"bertscore_f1": mean_bertscore(texts, known, table), **surgvu25(texts, judged, table), **rouge}


def medico(texts, judged, table):
    """Corpus BLEU (sacrebleu, whose 13a tokens evaluate's are a copy of), ROUGE and METEOR against `gt` alone."""
    from sacrebleu.metrics import BLEU

    truths = [row["gt"] for row in judged]
    bleu = BLEU(smooth_method="none", tokenize="13a", force=True).corpus_score(texts, [truths]).score / 100
    return {"bleu": bleu, **mean_rouge(texts, [[text] for text in truths], stemmer=False), "meteor": mean_meteor(texts, truths)}


# ---------------------------------------------------------------------------------------------------------------------
# METEOR


def mean_meteor(texts, truths):
    """Mean METEOR (Banerjee & Lavie 2005; NLTK's defaults) over rows, or None without WordNet."""
    from nltk import word_tokenize
    from nltk.translate.meteor_score import meteor_score

    if (wordnet := open_wordnet()) is None:
        return None
    whole = not has_punkt()
    tokens = lambda text: word_tokenize(text, preserve_line=whole)
    return math.fsum(meteor_score([tokens(true)], tokens(said), wordnet=wordnet) for said, true in zip(texts, truths)) / len(texts)


def has_punkt():
    """Are NLTK's sentence boundaries there, with which evaluate cuts a text before it cuts words?"""
    from nltk import word_tokenize

    try:
        return bool(word_tokenize("A word."))
    except LookupError:
        return False


@cache
def open_wordnet():
    """NLTK's reader of WordNet: of NLTK's own data, $WNSEARCHDIR or Debian's files; None where there are none."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """Debian's wordnet-base has all but the names of the lexicographers' files, which METEOR doesn't read."""

        def open(self, file):
            there = file != "lexnames" or (Path(self.root) / file).is_file()
            return super().open(file) if there else io.StringIO("".join(f"{n:02} file{n} 1\n" for n in range(45)))

        def map_wn(self, version="wordnet"):
            """None: no other languages, whose words go by the numbers of NLTK's own WordNet."""

    try:
        found = nltk.corpus.wordnet
        found.ensure_loaded()
        return found
    except LookupError:
        pass
    for folder in filter(None, (os.environ.get("WNSEARCHDIR"), *WORDNET)):
        if (Path(folder) / "data.noun").is_file():
            if folder not in nltk.data.path:
                nltk.data.path.append(folder)  # NLTK opens nothing outside
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that other languages' words are missing
                return Reader(nltk.data.FileSystemPathPointer(folder), None)
    return None


# ---------------------------------------------------------------------------------------------------------------------
# BERTScore


def mean_bertscore(texts, known, table):
    """Mean over rows of the best BERTScore-F1 (Zhang et al. 2020; bert-score) of a text and its references.

    table: `model` (hub id or folder), `layers` (None: bert-score's own), and `baseline` (a file, or absent: bert-score's own; False:
    not rescaled).
    """
    scorer = bert_scorer(table["model"], table.get("layers"), table.get("baseline"))
    pairs = [(said, text) for said, own in zip(texts, known) for text in own]
    f1 = iter(scorer.score(*map(list, zip(*full)))[2].tolist() if (full := [pair for pair in pairs if all(map(str.strip, pair))]) else [])
    base = float(scorer.baseline_vals[2]) if scorer.rescale_with_baseline else 0.0
    nothing = -base / (1 - base)  # bert-score calls an empty text 0 before it rescales, and fails to encode one with transformers 5
    scores = iter([next(f1) if all(map(str.strip, pair)) else nothing for pair in pairs])
    return math.fsum(max(next(scores) for _ in own) for own in known) / len(known)


def check_model(model):
    """Raise UserError, which says how to get it, where a model is no folder and not in the hub's cache: 1.4 GB come only when asked for."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the package reads it: minutes of retries where there is no network
    from huggingface_hub import try_to_load_from_cache

    if not Path(model).is_dir() and not isinstance(try_to_load_from_cache(model, "config.json"), str):
        get = f'hf download {model} --include "*.json" "*.txt" "*.safetensors"'
        raise UserError(f"--recipe surgvu26 needs the model {model}, which isn't in the hub's cache; where there is a network, run: {get}")


@cache
def bert_scorer(model, layers, baseline):
    """bert-score's BERTScorer, loaded once. Raises UserError, which says how to get package or model, where one is missing."""
    check_model(model)
    from bert_score import BERTScorer

    try:
        return BERTScorer(model, num_layers=layers, baseline_path=baseline or None, rescale_with_baseline=baseline is not False, lang="en")
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"--recipe surgvu26: the model {model} can't be loaded ({short(' '.join(str(error).split()))})") from None


# ---------------------------------------------------------------------------------------------------------------------
# EndoVis-VQLA


def vqla(texts, judged, table):
    """Accuracy, F1 and IoU, published and defined."""
    gold, said = matched_labels(compare_rows(judged))
    found = {"accuracy": sum(row["correct"] for row in judged) / len(judged)}
    found |= {"f1_published": published_f1(gold, said), "f1_defined": classification(gold, said)["macro_f1"]}
    boxes, missing = predicted_boxes(judged)
    if boxes:
        true, guess = (np.array(side, dtype=float) for side in zip(*boxes))
        mean = lambda ious: float(ious.sum() / (len(boxes) + missing))
        found |= {"miou_defined": mean(iou(true, guess)), "miou_published": mean(published_iou(true, guess))}
    return found


def predicted_boxes(judged):
    """([(true box, predicted box)] of the rows that have both, how many have a true one alone: their IoU is 0)."""
    known = [(row["box"], row.get("pred_box")) for row in judged if row.get("box")]
    boxes = [pair for pair in known if pair[1]]
    return boxes, len(known) - len(boxes)


def about_boxes(judged):
    """Of which rows a mean IoU is, as a note; none where no box was predicted, for then there is no IoU."""
    boxes, missing = predicted_boxes(judged)
    if boxes:
        without = f"; {missing:,} of them have no pred_box, which is IoU 0" if missing else ""
        yield f"mean IoU is over the {number(len(boxes) + missing, 'row')} with a box{without}"


def published_f1(gold, said):
    """macro-F1 of `precision_recall_fscore_support(average="macro", zero_division=1)` as scikit-learn 1.3 computed it.

    gold: label texts; said: label texts or None. Over all labels of either side; a label that nobody predicted has precision 1, one
    that isn't in the truth recall 1, and one whose precision and recall are 0 has F1 1.
    """
    golds, preds = Counter(gold), Counter(said)
    hits = Counter(true for true, text in zip(gold, said) if true == text)
    scores = []
    for label in golds | preds:
        precision = hits[label] / preds[label] if preds[label] else 1.0
        recall = hits[label] / golds[label] if golds[label] else 1.0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 1.0)
    return math.fsum(scores) / len(scores)


def iou(true, guess):
    """Intersection over union of boxes (n, 4): left, top, right, bottom."""
    sides = np.minimum(true[:, 2:], guess[:, 2:]) - np.maximum(true[:, :2], guess[:, :2])
    both = np.clip(sides, 0, None).prod(axis=1)
    union = sum((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (true, guess)) - both
    return np.divide(both, union, out=np.zeros(len(true)), where=union > 0)


def published_iou(true, guess):
    """IoU of boxes (n, 4) as VQLA's own code has it: corners from 1 in pixels become shares of the frame, and 1 is added to every side."""
    true, guess = ((box - 1) / FRAME for box in (true, guess))
    sides = np.minimum(true[:, 2:], guess[:, 2:]) - np.maximum(true[:, :2], guess[:, :2]) + 1
    both = sides.prod(axis=1)
    areas = sum((box[:, 2:] - box[:, :2] + 1).prod(axis=1) for box in (true, guess))
    return both / np.maximum(areas - both, 1)


SCORERS = {"surgvu25": surgvu25, "surgvu26": surgvu26, "medico": medico, "vqla": vqla}
