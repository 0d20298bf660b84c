"""BLEU and ROUGE-L of free text in any script. They reward shared words, not truth: see docs/evaluation.md."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --text-metrics")

import math
import re
import unicodedata
from functools import cache

ORDERS = (1, 2, 3, 4)
# Scripts without spaces whose characters stand for words or syllables, as BLEU takes Chinese (sacrebleu's `zh`).
SINGLE = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC")
# The tokens of a text of which every character is written as its kind: w letter, d digit, m mark, c of SINGLE, s space, o other.
# A mark belongs to its letter (Thai and Hindi vowels are marks), a point or comma (p) between digits to the number.
TOKEN = re.compile(r"c|[wd][wdm]*(?:(?<=d)p(?=d)[wd][wdm]*)*|[^s]")


@cache
def kind(char):
    """The letter that stands for a character in TOKEN."""
    category = unicodedata.category(char)
    if char.isspace():
        return "s"
    if category[0] == "L" and unicodedata.name(char, "").startswith(SINGLE):
        return "c"
    return {"L": "w", "N": "d", "M": "m"}.get(category[0]) or ("p" if char in ".," else "o")


def tokens(text):
    """The words of a text, in lower case and one width, each CJK character by itself, and its other characters one by one."""
    text = unicodedata.normalize("NFKC", text).lower()
    return [text[found.start() : found.end()] for found in TOKEN.finditer("".join(map(kind, text)))]


class Words:
    """`tokens` without punctuation, which ROUGE leaves out, unless there is nothing else; for rouge-score."""

    def tokenize(self, text):
        found = tokens(text)
        return [token for token in found if kind(token[0]) in "wdc"] or found


def text_scores(hypotheses, references):
    """BLEU-1 to BLEU-4 and ROUGE-L of texts against one or several references each, as shares of 1.

    hypotheses: list of str. references: list of non-empty lists of str. BLEU (Papineni et al. 2002) by sacrebleu: of the
    corpus, weights 1/n over 1- to n-grams, exponential smoothing, `tokens`; None where no reference has n words, those of
    rows whose answer is one of its references not counted beyond the answer. ROUGE-L (Lin 2004) by rouge-score: the
    F-measure of `Words`, without stemming, against the best reference, mean over rows.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    rouge = [scorer.score_multi(texts, said)["rougeL"].fmeasure for texts, said in zip(references, hypotheses)]
    said = [tokens(text) for text in hypotheses]
    known = [[tokens(text) for text in texts] for texts in references]
    longest = max(len(answer) if answer in texts else max(map(len, texts)) for answer, texts in zip(said, known))
    width = max(map(len, known))
    streams = [[" ".join(texts[place]) if place < len(texts) else None for texts in known] for place in range(width)]
    lines = [" ".join(answer) for answer in said]
    scores = {"count": len(rouge)}
    for order in ORDERS:
        bleu = BLEU(max_ngram_order=order, smooth_method="exp", tokenize="none", force=True)
        scores[f"bleu_{order}"] = bleu.corpus_score(lines, streams).score / 100 if order <= longest else None
    return {**scores, "rouge_l": math.fsum(rouge) / len(rouge)}
