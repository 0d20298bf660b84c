"""The leaderboards' metrics against the organisers' examples and against computations of their own, to 1e-6.

python -m pytest tests/evaluation/test_recipes.py -v
"""

import contextlib
import json
import math
import os
import random
import statistics
from collections import Counter

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import precision_recall_fscore_support

from config import EvalConfig
from data.matching import judge
from evaluation import recipes
from evaluation.recipes import RECIPES, check_recipe, recipe_scores, recipe_table
from files import UserError

WORDS = "a the polyp polyps snare forceps is are used seen not no being in image left of".split()
# The organisers' own example: the references of SurgVU's page, and answers to them.
DRIVER = ["No", "No, a large needle driver was not used.", "A large needle driver was not used.", "No large needle driver was utilized."]


def rows_of(pairs, **more):
    """Judged rows of (prediction, [references])."""
    rows = [{"id": str(n), "qtype": "open_ended", "question": "Is it used?", "pred": pred} for n, (pred, _) in enumerate(pairs)]
    return judge([{**row, "gt": known[0], "answers": known, **more} for row, (_, known) in zip(rows, pairs)])


@pytest.fixture(scope="module")
def pairs():
    """120 answers of one to nine words, each with one or several references that share most words with it."""
    rng = random.Random(0)
    text = lambda words: " ".join(rng.choice(WORDS) if rng.random() < 0.2 else word for word in words).capitalize() + rng.choice(["", "."])
    answers = [rng.choices(WORDS, k=rng.randint(1, 9)) for _ in range(120)]
    return [(text(words), [text(words) for _ in range(rng.randint(1, 3))]) for words in answers]


def scores(name, rows):
    return recipe_scores(name, rows)["scores"]["these answers"]


def test_surgvu25_gives_the_organisers_no_its_0178():
    assert scores("surgvu25", rows_of([("No", DRIVER)]))["bleu_4"] == pytest.approx(0.178, abs=5e-4)
    assert scores("surgvu25", rows_of([("no, a large needle driver was not used", DRIVER)]))["bleu_4"] == 1
    assert scores("surgvu25", rows_of([("kakaka force", DRIVER)]))["bleu_4"] == 0
    assert scores("surgvu25", rows_of([(None, DRIVER)]))["bleu_4"] == 0


def test_surgvu25_is_nltk_s_best_of_the_references(pairs):
    plain = lambda text: text.lower().replace(".", "").split()
    smooth = SmoothingFunction().method1
    best = [max(sentence_bleu([plain(known)], plain(said), smoothing_function=smooth) for known in own) for said, own in pairs]
    assert scores("surgvu25", rows_of(pairs))["bleu_4"] == pytest.approx(statistics.fmean(best), abs=1e-6)
    assert len(set(best)) > 50


def corpus_bleu_4(known, said):
    """Papineni et al. 2002, of one reference each. (NLTK's counts a 4-gram for texts that are shorter, evaluate's does not.)"""
    grams = lambda tokens, n: Counter(zip(*(tokens[start:] for start in range(n))))
    shares = []
    for n in (1, 2, 3, 4):
        hits = sum((grams(true, n) & grams(text, n)).total() for true, text in zip(known, said))
        shares.append(hits / sum(grams(text, n).total() for text in said))
    ratio = sum(map(len, said)) / sum(map(len, known))
    return math.prod(shares) ** (1 / 4) * min(1, math.exp(1 - 1 / ratio))


def test_medico_is_unsmoothed_cased_and_of_one_reference(pairs):
    tokens = lambda text: text.replace(".", " .").split()
    said, known = zip(*((said, own[0]) for said, own in pairs))
    found = scores("medico", rows_of(pairs))
    bleu = corpus_bleu_4(list(map(tokens, known)), list(map(tokens, said)))
    assert found["bleu"] == pytest.approx(bleu, abs=1e-6) and 0.1 < bleu < 0.9
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for key, kind in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        mean = statistics.fmean(scorer.score(true, text)[kind].fmeasure for text, true in zip(said, known))
        assert found[key] == pytest.approx(mean, abs=1e-6)
    assert scores("medico", rows_of([("a b c d", ["A b c d"])]))["bleu"] == 0, "no 4-gram of this case, and nothing is smoothed"


def test_meteor_of_evaluate_s_own_example(pairs):
    if recipes.open_wordnet() is None:
        assert scores("medico", rows_of(pairs[:3]))["meteor"] is None
        assert recipes.NO_WORDNET in recipe_scores("medico", rows_of(pairs[:3]))["notes"]
        pytest.skip("METEOR needs WordNet: Debian's wordnet-base, or $WNSEARCHDIR")
    from nltk.translate.meteor_score import single_meteor_score

    said = "It is a guide to action which ensures that the military always obeys the commands of the party"
    known = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert scores("medico", rows_of([(said, [known])]))["meteor"] == pytest.approx(0.6944, abs=5e-5)
    tokens, wordnet = lambda text: text.replace(".", " .").split(), recipes.open_wordnet()
    mean = statistics.fmean(single_meteor_score(tokens(own[0]), tokens(text), wordnet=wordnet) for text, own in pairs)
    assert scores("medico", rows_of(pairs))["meteor"] == pytest.approx(mean, abs=1e-6)


def wordnet_in(folder):
    """Files as those of Debian's wordnet-base, by which a growth is a polyp."""
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (folder / name).touch()
    (folder / "data.noun").write_text("00000000 04 n 02 growth 0 polyp 0 000 | a lump\n")
    (folder / "index.noun").write_text("growth n 1 0 1 0 00000000\npolyp n 1 0 1 0 00000000\n")
    return str(folder)


@pytest.fixture
def no_wordnet(monkeypatch):
    """No WordNet where one may be installed, so that a test says which there is."""
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(recipes, "WORDNET", ())
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    recipes.open_wordnet.cache_clear()
    with contextlib.suppress(LookupError):
        nltk.corpus.wordnet.ensure_loaded()
        pytest.skip("NLTK's own WordNet is loaded")
    yield
    recipes.open_wordnet.cache_clear()


@pytest.mark.parametrize("place", ["$WNSEARCHDIR", "Debian"])
def test_meteor_knows_the_synonyms_of_a_wordnet_that_lies_in_a_folder(no_wordnet, tmp_path, monkeypatch, place):
    """Of two words in one piece, both found, 1 - 0.5 * (1 / 2)³; of two with one found, F 1 / 2, less half for one piece a word."""
    if place == "Debian":
        (tmp_path / "empty").mkdir()
        monkeypatch.setattr(recipes, "WORDNET", (str(tmp_path / "empty"), wordnet_in(tmp_path)))
    else:
        monkeypatch.setenv("WNSEARCHDIR", wordnet_in(tmp_path))
    found = recipe_scores("medico", rows_of([("a growth", ["a polyp"]), ("a snare", ["a polyp"])]))
    assert found["scores"]["these answers"]["meteor"] == pytest.approx((0.9375 + 0.25) / 2)
    assert found["notes"] == [
        *["METEOR takes each answer as one sentence: NLTK's punkt_tab isn't there (python -m nltk.downloader punkt_tab)"],
        "the commonest answer is that of these rows: there is no blind prior",
    ]
    assert scores("medico", rows_of([("a polyp. a snare", ["a polyp a snare"])]))["meteor"] < 0.8, "`polyp.` is a word within a sentence"


def test_without_wordnet_meteor_is_no_score(no_wordnet):
    found = recipe_scores("medico", rows_of([("a growth", ["a polyp"])]))
    assert found["scores"]["these answers"]["meteor"] is None
    assert found["notes"] == [recipes.NO_WORDNET, "the commonest answer is that of these rows: there is no blind prior"]
    assert recipe_table("medico", found).splitlines()[4].split() == ["these", "answers", "0.0000", "0.5000", "0.0000", "0.5000", "-"]


def test_surgvu26_by_bert_score_on_a_tiny_random_model(pairs, tmp_path, monkeypatch):
    bert_score = pytest.importorskip("bert_score")
    folder = tiny_roberta(tmp_path)
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "model": folder, "layers": 2, "baseline": str(tmp_path / "base.tsv")})
    (tmp_path / "base.tsv").write_text("LAYER,P,R,F\n0,0.1,0.1,0.1\n1,0.2,0.2,0.2\n2,0.3,0.3,0.3\n")
    found = scores("surgvu26", rows_of(pairs))
    best, settings = [], {"model_type": folder, "num_layers": 2, "lang": "en"}
    raw = bert_score.score([said for said, own in pairs for _ in own], [text for _, own in pairs for text in own], **settings)[2].tolist()
    for _, own in pairs:
        best.append(max(raw[: len(own)]))
        del raw[: len(own)]
    assert found["bertscore_f1"] == pytest.approx((statistics.fmean(best) - 0.3) / 0.7, abs=1e-6)
    scorer, plain = RougeScorer(["rouge1"], use_stemmer=True), lambda text: text.lower().replace(".", "")
    rouge = [max(scorer.score(plain(true), plain(said))["rouge1"].fmeasure for true in own) for said, own in pairs]
    assert found["rouge_1"] == pytest.approx(statistics.fmean(rouge), abs=1e-6)
    assert scores("surgvu26", rows_of([("", ["no"])]))["bertscore_f1"] == pytest.approx(-0.3 / 0.7), "0 before it is rescaled"
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "baseline": False})
    assert scores("surgvu26", rows_of(pairs[:3]))["bertscore_f1"] == pytest.approx(statistics.fmean(best[:3]), abs=1e-6), "not rescaled"
    assert scores("surgvu26", rows_of([("", ["no"]), ("no", ["no"])]))["bertscore_f1"] == pytest.approx(1 / 2, abs=1e-6)
    check_recipe("surgvu26")


def tiny_roberta(folder):
    """A folder with a random RoBERTa of two layers whose tokens are bytes."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    vocab = {text: n for n, text in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=96)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=100)
    RobertaModel(RobertaConfig(vocab_size=len(vocab), pad_token_id=1, bos_token_id=0, eos_token_id=2, **sizes)).save_pretrained(folder)
    return str(folder)


def test_a_model_that_cannot_be_had_is_refused_with_the_way_to_it(pairs, tmp_path, monkeypatch):
    pytest.importorskip("bert_score")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "model": "nobody/roberta-none", "layers": 2})
    with pytest.raises(UserError, match="hf download nobody/roberta-none"):
        recipe_scores("surgvu26", rows_of(pairs[:2]))
    assert os.environ["HF_HUB_OFFLINE"] == "1", "no minutes of retries"
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "model": str(tmp_path)})
    with pytest.raises(UserError, match=rf"^--recipe surgvu26: the model {tmp_path} can't be loaded \(.+\)$") as error:
        recipe_scores("surgvu26", rows_of(pairs[:2]))
    assert "\n" not in str(error.value)


def test_a_model_in_the_hub_s_cache_is_there(tmp_path, monkeypatch):
    (tmp_path / "models--nobody--roberta" / "refs").mkdir(parents=True)
    (tmp_path / "models--nobody--roberta" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="isn't in the hub's cache"):
        recipes.check_model("nobody/roberta")
    (tmp_path / "models--nobody--roberta" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "models--nobody--roberta" / "snapshots" / "abc" / "config.json").touch()
    recipes.check_model("nobody/roberta")


PACKAGES = {
    "surgvu25": ["nltk"],
    "surgvu26": ["nltk", "rouge-score", "bert-score"],
    "medico": ["nltk", "rouge-score", "sacrebleu"],
    "vqla": [],
}


@pytest.mark.parametrize("name", PACKAGES)
def test_each_recipe_says_which_package_it_lacks(monkeypatch, name):
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "model": "."})
    for package in ["nltk", "rouge-score", "bert-score", "sacrebleu"]:
        monkeypatch.setattr(recipes, "find_spec", lambda module, package=package: None if module == package.replace("-", "_") else module)
        if package in PACKAGES[name]:
            with pytest.raises(UserError, match=f"^--recipe {name} needs {package}; run: pip install {package}$"):
                check_recipe(name)
        else:
            check_recipe(name)


def test_missing_packages_and_unknown_recipes_are_one_line(monkeypatch):
    monkeypatch.setattr(recipes, "find_spec", lambda name: None if name == "bert_score" else name)
    check_recipe("medico")
    monkeypatch.setitem(RECIPES, "surgvu26", {**RECIPES["surgvu26"], "model": "nobody/roberta-none"})
    with pytest.raises(UserError, match="--recipe surgvu26 needs bert-score; run: pip install bert-score"):
        check_recipe("surgvu26")
    with pytest.raises(UserError, match="no such recipe; give surgvu25, surgvu26, medico, vqla"):
        check_recipe("surgvu27")
    monkeypatch.setattr(recipes, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="which isn't in the hub's cache; where there is a network, run: hf download nobody/roberta-none"):
        check_recipe("surgvu26")


@pytest.mark.parametrize("gold, said, expected", [("aabbcc", "aaccbb", 1.0), ("aabb", "aaaa", 1 / 3), ("aab", "aax", 1 / 3)])
def test_the_published_f1_by_hand(gold, said, expected):
    """Labels that are always confused have precision and recall 0, which scikit-learn 1.3 called 1; one never predicted has F1 0."""
    assert recipes.published_f1(list(gold), list(said)) == pytest.approx(expected)


def test_vqla_is_scikit_learn_s_precision_and_recall_with_zero_division_1():
    rng = np.random.default_rng(0)
    often = [0.5, 0.2, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01], [0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0]
    gold, said = (rng.choice(list("abcdefgh"), 150, p=shares) for shares in often)
    gold, said = [*gold, "y", "z"], [*said, "z", "y"]  # two labels that are confused
    precision, recall, _, _ = precision_recall_fscore_support(gold, said, average=None, zero_division=1)
    mask = precision + recall == 0
    f1 = np.where(mask, 1, 2 * precision * recall / np.where(mask, 1, precision + recall))
    row = {"qtype": "mcq", "question": "Which?"}
    found = scores("vqla", judge([{**row, "id": str(n), "gt": true, "pred": text} for n, (true, text) in enumerate(zip(gold, said))]))
    assert found["f1_published"] == pytest.approx(f1.mean(), abs=1e-6)
    proper = precision_recall_fscore_support(gold, said, average="macro", zero_division=0, labels=sorted(set(gold)))[2]
    assert found["f1_defined"] == pytest.approx(proper, abs=1e-6) and found["f1_published"] > found["f1_defined"]
    assert found["miou_defined"] is None


def test_boxes_as_defined_and_as_published():
    from torchvision.ops import box_iou

    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    corner, size = rng.integers(1, 600, (2, 120, 2)), rng.integers(0, 400, (2, 120, 2))
    true, guess = (np.concatenate([corner[side], corner[side] + size[side]], axis=1) for side in (0, 1))
    rows = [
        {"id": str(n), "qtype": "mcq", "gt": "a", "pred": "a", "correct": True, "box": box.tolist(), "pred_box": other.tolist()}
        for n, (box, other) in enumerate(zip(true, guess))
    ]
    found = scores("vqla", rows)
    pairwise = box_iou(torch.tensor(true, dtype=torch.float64), torch.tensor(guess, dtype=torch.float64)).diagonal()
    assert found["miou_defined"] == pytest.approx(pairwise.nan_to_num(0).mean().item(), abs=1e-6)
    published = []
    for box, other in zip(true, guess):  # centre and size of a share of the frame, and back, as the training code has it
        left, top, right, bottom = ([(side[place] - 1) / frame for side in (box, other)] for place, frame in enumerate((1280, 1024) * 2))
        both = (min(right) - max(left) + 1) * (min(bottom) - max(top) + 1)
        areas = sum((right[i] - left[i] + 1) * (bottom[i] - top[i] + 1) for i in (0, 1))
        published.append(both / max(areas - both, 1))
    assert found["miou_published"] == pytest.approx(statistics.fmean(published), abs=1e-6)
    assert found["miou_published"] > found["miou_defined"] + 0.3, "boxes that don't touch score high"


def test_a_box_that_was_not_predicted_is_iou_0():
    """Else whoever predicts the easy boxes alone scores best."""
    rows = [{"id": str(n), "qtype": "mcq", "gt": "a", "pred": "a", "correct": True, "box": [0, 0, 9, 9]} for n in range(10)]
    rows.append({key: value for key, value in rows[0].items() if key != "box"})
    assert scores("vqla", rows)["miou_defined"] is None and "IoU is" not in recipe_table("vqla", recipe_scores("vqla", rows))
    rows[3] |= {"pred_box": [0, 0, 9, 9]}
    found = recipe_scores("vqla", rows)
    assert found["scores"]["these answers"]["miou_defined"] == found["scores"]["these answers"]["miou_published"] == 0.1
    assert "mean IoU is over the 10 rows with a box; 9 of them have no pred_box, which is IoU 0" in recipe_table("vqla", found)
    none = dict.fromkeys(("miou_published", "miou_defined"))
    assert {key: found["scores"]["always yes"][key] for key in none} == none, "an answer that knows nothing has no box"
    rows = [{**row, "pred_box": [0, 0, 9, 9]} for row in rows]
    assert list(recipes.about_boxes(rows)) == ["mean IoU is over the 10 rows with a box"], "a box that is only predicted is none of them"
    assert recipe_scores("surgvu25", rows)["notes"] == ["the commonest answer is that of these rows: there is no blind prior"]


def test_boxes_without_a_size_overlap_nothing():
    point = np.array([[1.0, 1, 1, 1], [0, 0, 2, 2]])
    assert recipes.iou(point, point).tolist() == [0, 1]


def test_answers_that_know_nothing_stand_beside_it(pairs):
    rows = rows_of([("Yes", ["yes"]), ("no", ["yes"]), ("No", ["no"])])
    blind = judge([{**row, "pred": "yes"} for row in rows])
    found = recipe_scores("vqla", rows, blind)
    assert {who: values["accuracy"] for who, values in found["scores"].items()} == {
        "these answers": pytest.approx(2 / 3), "always yes": pytest.approx(2 / 3), "the question": 0, "nothing": 0,
        "the commonest answer": pytest.approx(2 / 3),
    }  # fmt: skip
    whose, how, gamed = (RECIPES["vqla"][key] for key in ("whose", "how", "gamed"))
    assert recipe_table("vqla", found).splitlines() == [
        f"Recipe vqla: {whose}",
        "",
        "                       accuracy f1_published f1_defined miou_published miou_defined",
        "-" * 83,
        "these answers            0.6667       0.6667     0.6667              -            -",
        "always yes               0.6667       0.4000     0.4000              -            -",
        "the question             0.0000       0.0000     0.0000              -            -",
        "nothing                  0.0000       0.0000     0.0000              -            -",
        "the commonest answer     0.6667       0.4000     0.4000              -            -",
        f"How: {how}.",
        f"How it is gamed: {gamed}",
    ]
    found = recipe_scores("surgvu25", rows)
    assert (found["count"], found["whose"]) == (3, RECIPES["surgvu25"]["whose"])
    assert found["notes"] == ["the commonest answer is that of these rows: there is no blind prior"]


def test_the_commonest_answer_is_judged_as_the_others_are():
    truths = ["10mm", "10.4mm", "10.4 mm", "10.4mm", "9mm"]
    rows = judge([{"id": str(n), "qtype": "size_numeric", "gt": text, "pred": None} for n, text in enumerate(truths)])
    accuracy = lambda **settings: {who: found["accuracy"] for who, found in recipe_scores("vqla", rows, **settings)["scores"].items()}
    none = dict.fromkeys(["these answers", "always yes", "the question", "nothing"], 0)
    assert accuracy() == none | {"the commonest answer": 0.8}, "5 % of 10 mm are allowed"
    assert accuracy(tolerances=EvalConfig(numeric_rel_tol=0)) == none | {"the commonest answer": 0.6}
    spelled = {"tolerances": EvalConfig(numeric_rel_tol=0), "conventions": {"": {"spellings": {"10mm": "10.4mm"}}}}
    assert accuracy(**spelled)["the commonest answer"] == 0.8
    blind = [{**row, "pred": text} for row, text in zip(rows, ["10mm", "", None, "9mm", "9mm"])]
    assert accuracy(blind=blind)["the commonest answer"] == 0.4
