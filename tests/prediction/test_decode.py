"""Probabilities against brute force, decoding against HF generate.    python -m pytest tests/prediction/test_decode.py -v"""

import copy
import os
from collections import Counter
from itertools import chain
from math import exp, inf, log
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, as_clips, make_experiment, random_model
from PIL import Image
from test_answer_trees import CANDIDATES, LABELS, decode, score_separately, scores, search

from config import load_config
from constraints import CandidateTrie, NumberGrammar, allowed_token_ids
from data import answer_space
from data.answer_space import EXCLUSIVE
from data.images import load_image
from data.preprocess import ensure_enriched
from data.rows import group_by_image
from dataset import VQADataset, encode_answer, encode_candidates, label_set_grammar, load_dataset
from files import read_jsonl
from model.load import load_model, load_model_config, load_processor
from prediction.answer_trees import Question
from prediction.decode import (
    GREEDY,
    LOOKAHEAD,
    Answer,
    Plan,
    Search,
    answer_allowed_set,
    answer_by_generate,
    answer_questions,
    answer_text,
    candidate_trie,
    finish,
    image_batches,
    left_padded,
    log_sum,
    make_plan,
    number_grammar,
    split_long_trees,
)
from templates import IMAGE_PLACEHOLDER, prompt_parts


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """Rows of which a third are yes/no with candidates."""
    return make_experiment(tmp_path_factory.mktemp("closed"), questions=(3, 4))


def generate(model, data, indices, processor, max_new_tokens, grammar=None):
    """Answers of HF generate, one left-padded row per question; with a trie or grammar, through prefix_allowed_tokens_fn."""
    items = [data[index] for index in indices]
    batch = data.collate(items)
    inputs = left_padded(
        [(item, row, leaf) for row, item in enumerate(items) for leaf in item["leaves"]], batch, processor.tokenizer.pad_token_id
    )
    start, eos, pad = inputs["input_ids"].shape[1], processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id

    def allowed(row, ids):
        ids = ids[start:].tolist()
        return [pad] if eos in ids else grammar.after(ids).allowed()

    output = model.generate(
        **inputs,
        **GREEDY,
        max_new_tokens=max_new_tokens,
        prefix_allowed_tokens_fn=allowed if grammar else None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    answers = output[:, start:].tolist()
    return [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in answers]


# --- probabilities


@pytest.mark.parametrize("lists", [False, True])
def test_confidence_and_valid_mass_are_those_of_brute_force(closed, processor, lists):
    """Of single answers, and of all lists that three labels and `none` allow, as texts."""
    cfg, rows = closed
    if lists:
        rows = [{**row, "answer_candidates": ["pink", "polyp", "red", "none"], "multi_label": True} for row in rows]
        texts = ["pink", "polyp", "red", "pink; polyp", "pink; red", "polyp; red", "pink; polyp; red", "none"]
    data = load_dataset(rows, processor, cfg, supervised=False)
    model = random_model(processor)
    answers = list(chain.from_iterable(answer_questions(model, data, cfg, "exact", 3)))
    items = [data[index] for index in range(len(data))]
    leaves = [(item, leaf) for item in items for leaf in item["leaves"]]
    exact = [(row, answer, *leaf) for (row, answer), leaf in zip(answers, leaves) if answer.decoding == "exact"]
    assert len(exact) >= 3
    for row, answer, item, leaf in exact:
        valid = texts if lists else row["answer_candidates"]
        naive = dict(zip(valid, score_separately(model, data, item, leaf, encode_candidates(processor.tokenizer, valid))))
        best = max(naive, key=naive.get)
        mass = sum(map(exp, naive.values()))
        assert answer.text == best and answer.logprob == pytest.approx(naive[best], abs=1e-4)
        assert dict(answer.probabilities()) == pytest.approx({text: exp(value) / mass for text, value in naive.items()}, abs=1e-4)
        assert answer.valid_mass == pytest.approx(mass, rel=1e-4)
        assert sum(value for _, value in answer.probabilities()) == pytest.approx(1)


def test_probabilities_of_very_unlikely_candidates_are_still_probabilities():
    """e to the -1,000 is 0 in a float, and 0 has no logarithm: so unlikely are long answers, and what a model never says."""
    answer = Answer("no", "exact", -1000.0, scored=(("no", -1000.0), ("yes", -1000.0 - log(3))))
    assert dict(answer.probabilities()) == pytest.approx({"no": 0.75, "yes": 0.25}) and answer.valid_mass == 0.0


def test_what_the_model_cannot_say_at_all_has_no_mass():
    assert log_sum([]) == log_sum([-inf, -inf]) == -inf and log_sum([-inf, log(0.25), log(0.5)]) == pytest.approx(log(0.75))
    assert Answer("a", "exact", -inf, scored=(("a", -inf), ("b", -inf))).valid_mass == 0


def test_rounding_makes_no_mass_greater_than_one():
    scored = (("no", log(0.5) + 1e-12), ("yes", log(0.5)))
    assert sum(exp(logprob) for _, logprob in scored) > 1
    assert Answer("no", "exact", scored[0][1], scored=scored).valid_mass == 1.0


def test_exact_and_greedy_may_differ_and_exact_is_never_less_likely(closed, processor):
    cfg, rows = closed
    rows = [{**row, "answer_candidates": list(CANDIDATES), "multi_label": False} for row in rows]
    data = load_dataset(rows, processor, cfg, supervised=False)
    differ = 0
    for seed in range(6):
        model = random_model(processor, seed)
        exact, greedy = (list(chain.from_iterable(answer_questions(model, data, cfg, decoding, 3))) for decoding in ("exact", "greedy"))
        for (_, first), (_, second) in zip(exact, greedy, strict=True):
            assert first.greedy == second.text and dict(first.scored)[second.text] == pytest.approx(second.logprob, abs=1e-4)
            assert first.logprob >= second.logprob - 1e-4
            differ += first.text != second.text
    assert 0 < differ < 6 * len(rows)


def test_questions_over_the_budget_are_split_in_order_and_each_group_is_filled():
    """A prefix of 10 tokens and 20 a row: two questions of 5 fill it, and one that doesn't fit at all is asked alone."""
    lengths = {"a": 5, "b": 5, "c": 5, "d": 4, "e": 1, "f": 30, "g": 5, "h": 5, "i": 1}
    rows = [{"id": name} for name in lengths]
    data = SimpleNamespace(groups=[rows[:4], rows[4:]], shared=True, prefix_length=lambda row: 10)
    data.encoded = {name: ([0] * length, []) for name, length in lengths.items()}
    split_long_trees(data, 20)
    assert ["".join(row["id"] for row in group) for group in data.groups] == ["ab", "cd", "e", "f", "gh", "i"]
    data.shared = False  # rows stay plain
    split_long_trees(data, 20)
    assert ["".join(row["id"] for row in group) for group in data.groups] == list("abcdefghi")


# --- what is searched


def test_each_question_is_planned_as_its_type_and_the_configuration_say(experiment, processor):
    """`exact_sets` is the last number of lists that are all scored; eight labels, one of them `none`, make 128."""
    tokenizer, prefix = processor.tokenizer, " "
    changes = {"beams": 3, "exact_sets": 128}
    kinds = {
        "closed": {"answer_candidates": ["yes", "no"], "multi_label": False, "question_type": "yes_no"},
        "list": {"answer_candidates": list(LABELS), "multi_label": True, "question_type": "mcq"},
        "size": {"answer_candidates": None, "multi_label": False, "question_type": "size_numeric"},
        "open": {"answer_candidates": None, "multi_label": True, "question_type": "open_ended"},
    }
    trie, lists = candidate_trie(tokenizer, ("yes", "no"), prefix), label_set_grammar(tokenizer, LABELS, prefix)
    sizes, free = number_grammar(tokenizer, "size_numeric", prefix), Plan("free", None, 1, 0)

    def plans(decoding, **more):
        predict = experiment[0].predict.model_copy(update={**changes, **more})
        cfg = experiment[0].model_copy(update={"predict": predict, "answer_prefix": prefix})
        return [make_plan(tokenizer, row, cfg, decoding) for row in kinds.values()]

    assert plans("exact") == [Plan("exact", trie, 1, 0), Plan("exact", lists, 1, 0), free, free]
    assert plans("exact", exact_sets=127) == [Plan("exact", trie, 1, 0), Plan("beam", lists, 3, 16), free, free]
    assert plans("exact", numeric_grammar=True)[2:] == [Plan("beam", sizes, 3, 16), free]
    assert plans("greedy", numeric_grammar=True) == [*(Plan("greedy", grammar, 1, 0) for grammar in (trie, lists, sizes)), free]
    assert plans("free", numeric_grammar=True) == [free] * 4
    assert Plan("greedy", trie) == Plan("greedy", trie, 1, 0) and Answer("a", "free") == Answer("a", "free", None, False, (), None)


@pytest.mark.parametrize(
    "lookahead, read",
    [(0, [[]]), (1, [[]]), (2, [[], [1], [4], [4, 5]]), (4, [[], [1], [4], [4, 5]]), (5, [[], [1], [4], [1, 2], [1, 3], [4, 5]])],
)
def test_a_beam_reads_ahead_so_many_places_and_those_that_leave_no_choice(lookahead, read):
    trie = CandidateTrie([[1, 2, 0], [1, 3, 0], [1, 0], [4, 5, 0]])
    unfold = lambda state, plan: [place.ids for place in Search(None, plan, 0, 9).unfold(Question(0, 0, state))]
    assert unfold(trie, Plan("beam", trie, 2, lookahead)) == read
    assert unfold(trie, Plan("exact", trie)) == [[], [1], [4], [1, 2], [1, 3], [4, 5]] and unfold(None, Plan("free")) == [[]]
    only = CandidateTrie([[6, 7, 0]])
    assert unfold(only, Plan("greedy", only)) == [[], [6], [6, 7]]


def test_of_answers_that_are_equally_likely_the_first_is_taken(processor):
    """By hand: three lists, two of them as likely; the greedy walk takes another one's first token."""
    tokenizer = processor.tokenizer
    texts = ["no", "yes", "polyp"]
    encoded = encode_candidates(tokenizer, texts)
    trie = CandidateTrie(encoded)
    search = Search(Question(0, 0, trie), Plan("exact", trie), tokenizer.eos_token_id, 9)
    (no, *rest_of_no), (yes, *rest_of_yes), (polyp, *rest_of_polyp) = encoded
    search.question.scores = {no: log(0.25), yes: log(0.125), polyp: log(0.5)}
    for first, rest, end in ((no, rest_of_no, 1.0), (yes, rest_of_yes, 1.0), (polyp, rest_of_polyp, 0.5)):
        place = search.question.child(first)
        for token in rest:
            place.scores = {token: log(end) if token == rest[-1] else 0.0}
            place = place.child(token)
    assert [place.ids for place in search.all_answers()] == encoded
    for row in ({"multi_label": True}, {"multi_label": False, "answer_candidates": texts}):
        answer = finish(search, row, tokenizer, "")
        assert (answer.text, answer.decoding, answer.greedy, answer.cut) == ("no", "exact", "polyp", False)
        assert [text for text, _ in answer.scored] == ["no", "polyp", "yes"] and answer.logprob == answer.scored[0][1] == log(0.25)
        assert [exp(logprob) for _, logprob in answer.scored] == pytest.approx([0.25, 0.25, 0.125])


def test_an_answers_text_is_without_its_prefix_end_and_spaces(processor):
    ids = processor.tokenizer(" so:  yes it is <|im_end|>")["input_ids"]
    assert answer_text(processor.tokenizer, ids, " so:") == "yes it is" and answer_text(processor.tokenizer, ids) == "so:  yes it is"


# --- step by step


def test_free_equals_generate(any_model, prompts, processor):
    expected = generate(any_model, prompts, range(4), processor, 6)
    assert decode(any_model, prompts, range(4), Plan("free")) == expected
    assert len({tuple(ids) for ids in expected}) > 3, "a model that always says the same would prove little"


@pytest.mark.parametrize("lookahead", [0, 5])
def test_greedy_equals_generate_with_prefix_allowed_tokens(any_model, prompts, processor, lookahead):
    trie = candidate_trie(processor.tokenizer, CANDIDATES)
    candidates = encode_candidates(processor.tokenizer, CANDIDATES)
    expected = generate(any_model, prompts, range(4), processor, max(map(len, candidates)), trie)
    assert decode(any_model, prompts, range(4), Plan("greedy", trie, lookahead=lookahead), 1) == expected
    assert all(ids in candidates for ids in expected) and len({tuple(ids) for ids in expected}) > 2


@pytest.mark.parametrize("lookahead", [0, LOOKAHEAD])
def test_one_beam_over_label_lists_equals_generate_with_prefix_allowed_tokens(any_model, prompts, processor, lookahead):
    grammar = label_set_grammar(processor.tokenizer, LABELS)
    expected = generate(any_model, prompts, range(4), processor, len(grammar.longest), grammar)
    assert decode(any_model, prompts, range(4), Plan("beam", grammar, 1, lookahead), 1) == expected
    texts = [processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert len(set(texts)) > 2 and any(";" in text for text in texts)


def beam_by_definition(scored, beams):
    """Beam search over a table {ids: logprob of the finished answer}: prefixes' probabilities come from `prefix` of the same search."""
    beam = [()]
    while beam[0] not in scored["answers"]:
        longer = [ids + (token,) for ids in beam if ids not in scored["answers"] for token in scored["next"][ids]]
        beam = sorted([ids for ids in beam if ids in scored["answers"]] + longer, key=lambda ids: -scored["prefix"][ids])[:beams]
    return list(beam[0])


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beams_follow_their_definition_and_more_of_them_find_the_exact_answer(any_model, prompts, processor, beams):
    grammar = label_set_grammar(processor.tokenizer, LABELS)
    exact = search(any_model, prompts, range(4), Plan("exact", grammar))
    found = search(any_model, prompts, range(4), Plan("beam", grammar, beams, LOOKAHEAD))
    for reference, result in zip(exact, found, strict=True):
        answers, prefix, following = scores(reference), {(): 0.0}, {}
        waiting = [reference.question]
        while waiting:
            place = waiting.pop()
            following[tuple(place.ids)] = list(place.scores or ())
            prefix |= {(*place.ids, token): place.child(token).logprob for token in place.scores or ()}
            waiting += [place.child(token) for token in place.scores or ()]
        best = result.beam[0]
        assert best.ids == beam_by_definition({"answers": answers, "prefix": prefix, "next": following}, beams)
        assert best.logprob == pytest.approx(answers[tuple(best.ids)], abs=2e-5)
    everything = search(any_model, prompts, range(4), Plan("beam", grammar, grammar.size(), LOOKAHEAD))
    assert [result.beam[0].ids for result in everything] == [list(max(scores(reference), key=scores(reference).get)) for reference in exact]


def test_mixed_constraints_in_one_image(any_model, prompts, processor):
    """Each question of an image has its own way to be answered."""
    tokenizer = processor.tokenizer
    kinds = [
        Plan("free"),
        Plan("exact", candidate_trie(tokenizer, CANDIDATES)),
        Plan("beam", label_set_grammar(tokenizer, LABELS), 3, LOOKAHEAD),
    ]
    mixed = kinds * 3
    together = search(any_model, prompts, [3], mixed, 5)
    for index, plan in enumerate(mixed):
        same = search(any_model, prompts, [3], plan, 5)[index]
        if plan.decoding == "exact":
            assert scores(together[index]) == pytest.approx(scores(same), abs=2e-5)
        else:
            assert together[index].beam[0].ids == same.beam[0].ids


def test_a_single_candidate_needs_no_choice(any_model, prompts, processor):
    only = encode_candidates(processor.tokenizer, ["not relevant"])
    assert decode(any_model, prompts, [0], Plan("greedy", CandidateTrie(only)), 1) == only


# --- whole rows


@pytest.mark.parametrize("decoding", ["exact", "greedy", "allowed_set", "free"])
def test_answer_questions_respects_the_decoding(closed, processor, decoding):
    cfg, rows = closed
    data = load_dataset(rows, processor, cfg, supervised=False)
    answers = list(chain.from_iterable(answer_questions(random_model(processor), data, cfg, decoding, 3)))
    assert [row["id"] for row, _ in answers] == [row["id"] for row in rows]
    allowed = allowed_token_ids(encode_candidates(processor.tokenizer, ["yes", "no"]))
    letters = set(processor.tokenizer.decode(allowed, skip_special_tokens=True))
    for row, answer in answers:
        assert answer.decoding == (decoding if row["answer_candidates"] else "free")
        assert answer.constrained == (decoding != "free" and row["answer_candidates"] is not None)
        assert not (answer.cut and answer.constrained)
        if answer.constrained and decoding in ("exact", "greedy"):
            assert answer.text in row["answer_candidates"]
        if answer.constrained and decoding == "allowed_set":
            assert set(answer.text) <= letters
        if not answer.constrained:
            assert len(processor.tokenizer(answer.text)["input_ids"]) <= 3 or answer.cut


@pytest.mark.parametrize("decoding", ["exact", "greedy"])
def test_answer_prefix_is_taken_off_again(closed, processor, decoding):
    cfg, rows = closed
    cfg = cfg.model_copy(update={"answer_prefix": " so: "})
    data = load_dataset(rows, processor, cfg, supervised=False)
    for row, answer in chain.from_iterable(answer_questions(random_model(processor), data, cfg, decoding, 3)):
        assert not answer.constrained or (answer.text in row["answer_candidates"] and (answer.greedy or "yes") in row["answer_candidates"])


@pytest.mark.parametrize("answer, decoding", [(answer_by_generate, "free"), (answer_allowed_set, "allowed_set")])
def test_what_generate_says_is_told_without_the_answer_prefix(closed, processor, answer, decoding):
    """A model that says ` so: yes`, token by token, as it was trained to."""
    cfg, rows = closed[0].model_copy(update={"answer_prefix": " so: "}), [closed[1][0]]
    data, model = load_dataset(rows, processor, cfg, supervised=False), random_model(processor)
    said = iter(processor.tokenizer(" so: yes<|im_end|>")["input_ids"])
    model.lm_head.register_forward_hook(lambda module, args, logits: logits.index_fill(-1, torch.tensor(next(said)), 1e4))
    assert rows[0]["answer_candidates"] == ["yes", "no"]
    assert answer(model, data, [data[0]], cfg, decoding, 9) == [Answer("yes", decoding)]


def test_cut_answers_are_told(closed, processor):
    """A model that never ends is cut every time; one that ends at once never."""
    cfg, rows = closed
    data = load_dataset(rows, processor, cfg, supervised=False)
    model = random_model(processor)
    eos = processor.tokenizer.eos_token_id
    for bias, expected in ((-1e4, {True}), (1e4, {False})):
        model.lm_head.register_forward_hook(
            lambda *args, bias=bias: args[2].index_add(-1, torch.tensor([eos]), torch.full((*args[2].shape[:-1], 1), bias))
        )
        assert {answer.cut for _, answer in chain.from_iterable(answer_questions(model, data, cfg, "free", 3))} == expected
        model.lm_head._forward_hooks.clear()


@pytest.mark.parametrize("decoding, exact_sets", [("exact", 64), ("exact", 200), ("greedy", 64), ("allowed_set", 64), ("free", 64)])
def test_a_label_list_question_is_answered_with_one_valid_list(closed, processor, decoding, exact_sets):
    cfg, rows = closed
    cfg = cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"exact_sets": exact_sets})})
    rows = [{**row, "multi_label": True, "answer_candidates": list(LABELS)} for row in rows]
    data = load_dataset(rows, processor, cfg, supervised=False)
    tokens = allowed_token_ids(label_set_grammar(processor.tokenizer, LABELS).token_lists())
    letters = set(processor.tokenizer.decode(tokens, skip_special_tokens=True))
    lengths, kind = set(), {"exact": "beam" if exact_sets < 128 else "exact"}.get(decoding, decoding)
    models = [random_model(processor, seed) for seed in range(6)]
    answers = (answer for model in models for answer in chain.from_iterable(answer_questions(model, data, cfg, decoding, 3)))
    for _, answer in answers:
        assert answer.decoding == kind and answer.constrained == (decoding != "free") and not (answer.cut and answer.constrained)
        assert len(answer.scored) == (128 if kind == "exact" else 0)
        found = answer.text.split("; ")
        lengths.add(len(found))
        if decoding in ("exact", "greedy"):
            assert found == [label for label in LABELS if label in found] and (found == ["none"] or "none" not in found)
        if decoding == "allowed_set":
            assert set(answer.text) <= letters
    assert kind not in ("beam", "greedy") or lengths & set(range(2, len(LABELS) - 1)), "neither single labels nor all together"


@pytest.mark.parametrize("decoding", ["exact", "greedy"])
def test_open_numbers_follow_the_grammar_where_it_is_wanted(closed, processor, decoding):
    cfg, rows = closed
    rows = [{**row, "question_type": "size_numeric", "answer_candidates": None} for row in rows]
    data = load_dataset(rows, processor, cfg, supervised=False)
    assert all(
        answer.decoding == "free" for _, answer in chain.from_iterable(answer_questions(random_model(processor), data, cfg, decoding, 3))
    )
    cfg = cfg.model_copy(update={"predict": cfg.predict.model_copy(update={"numeric_grammar": True})})
    grammar = number_grammar(processor.tokenizer, "size_numeric")
    texts = set()
    for seed in range(4):
        for _, answer in chain.from_iterable(answer_questions(random_model(processor, seed), data, cfg, decoding, 3)):
            assert answer.decoding == ("beam" if decoding == "exact" else "greedy")
            grammar.after(encode_answer(processor.tokenizer, answer.text))
            texts.add(answer.text)
    assert len(texts) > 2 and isinstance(grammar, NumberGrammar)


def test_batches_depend_on_the_rows_alone(prompts, experiment):
    cfg = experiment[0].model_copy(update={"predict": experiment[0].predict.model_copy(update={"batch_size": 3})})
    assert image_batches(prompts, cfg) == [[0, 1, 2], [3]]


# --- through generate


@pytest.mark.parametrize("decoding", ["greedy", "free"])
def test_generate_and_trees_give_the_same_answers_for_mixed_rows(closed, processor, decoding):
    cfg, rows = closed
    kinds = [{"answer_candidates": None}, {"answer_candidates": list(LABELS), "multi_label": True}, {"answer_candidates": list(CANDIDATES)}]
    rows = [{**row, "multi_label": False, **kinds[index % 3]} for index, row in enumerate(rows)]
    data = load_dataset(rows, processor, cfg, supervised=False)
    model, items = random_model(processor), [data[index] for index in range(len(data))]
    slow = answer_by_generate(model, data, items, cfg, decoding, 3)
    fast = [answer for _, answer in chain.from_iterable(answer_questions(model, data, cfg, decoding, 3))]
    assert [(answer.text, answer.decoding, answer.cut) for answer in slow] == [
        (answer.text, answer.decoding, answer.cut) for answer in fast
    ]
    assert any(answer.cut for answer in slow)


def test_a_model_without_flattened_trees_answers_validly_and_as_one_question_at_a_time(closed, processor):
    cfg, rows = closed
    data = load_dataset(rows, processor, cfg, supervised=False)
    model = random_model(processor, family="qwen3_5", layer_types=["linear_attention", "full_attention"])
    answers = list(chain.from_iterable(answer_questions(model, data, cfg, "exact", 3)))
    assert {answer.decoding for _, answer in answers} == {"greedy", "free"}
    assert all(answer.text in row["answer_candidates"] for row, answer in answers if answer.constrained)
    alone = [load_dataset([row], processor, cfg, supervised=False) for row in rows]
    singles = [next(iter(answer_questions(model, one, cfg, "exact", 3)))[0][1].text for one in alone]
    assert singles == [answer.text for _, answer in answers]


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_5"])
def test_an_allowed_set_is_answered_as_each_question_is_alone(closed, processor, family):
    """By transformers' `generate` and its own constraint, as far as the longest candidate; free questions among them stay free. That the
    model comes with settings that sample and forbid repetition, as Instruct checkpoints do, changes nothing."""
    cfg, rows = closed
    tokenizer = processor.tokenizer
    kinds = [{"answer_candidates": None}, {"answer_candidates": list(LABELS), "multi_label": True}, {"answer_candidates": list(CANDIDATES)}]
    rows = [{**row, "multi_label": False, **kinds[index % 3]} for index, row in enumerate(rows)]
    plain = family == "qwen3_5"  # whose tokens take longer
    rows, types = ([rows[0], rows[2]], {"layer_types": ["linear_attention", "full_attention"]}) if plain else (rows, {})
    model = random_model(processor, seed=2, family=family, **types)
    data = load_dataset(rows, processor, cfg, model.config, supervised=False)
    usual, model.generation_config = model.generation_config, copy.deepcopy(model.generation_config)
    model.generation_config.update(do_sample=True, temperature=5.0, top_k=50, top_p=0.9, repetition_penalty=3.0)
    found = list(chain.from_iterable(answer_questions(model, data, cfg, "allowed_set", 3)))
    model.generation_config = usual
    for row, answer in found:
        candidates = row["answer_candidates"]
        texts = ["; ".join(LABELS[:-1]), "none", *LABELS[:-1]] if row["multi_label"] else candidates
        answers = encode_candidates(tokenizer, texts) if candidates else None
        allowed = sorted({token for ids in answers for token in ids}) if candidates else list(range(len(tokenizer)))
        prompt = "".join(prompt_parts(row["question_type"], row["question"], candidates))
        inputs = dict(processor(text=[prompt], images=[load_image(data.image_root / row["image"], cfg.image)], return_tensors="pt"))
        limits = {"max_new_tokens": max(map(len, answers)) if candidates else 3, "eos_token_id": tokenizer.eos_token_id}
        only = lambda *_, allowed=allowed: allowed
        own = model.generate(**inputs, **limits, prefix_allowed_tokens_fn=only)[0, inputs["input_ids"].shape[1] :].tolist()
        cut = not candidates and tokenizer.eos_token_id not in own
        decoding = "allowed_set" if candidates else "free"
        assert (answer.text, answer.decoding, answer.cut) == (tokenizer.decode(own, skip_special_tokens=True).strip(), decoding, cut)
    assert len({answer.text for _, answer in found}) > (1 if plain else 3)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_answers_about_several_images_are_plain_transformers_own(experiment, processor, family):
    """Each question with the images of its row through the processor: scores of candidates, free answers, and `generate`'s rows."""
    cfg, rows = experiment[0], as_clips(experiment[1])
    data, model = load_dataset(rows, processor, cfg, supervised=False), random_model(processor, family=family)
    ids, items = encode_candidates(processor.tokenizer, CANDIDATES), [data[index] for index in range(len(data))]
    exact = search(model, data, range(4), Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)))
    free, slow = decode(model, data, range(4), Plan("free"), 4), answer_by_generate(model, data, items, cfg, "free", 4)
    for row, found, said, generated in zip((row for item in items for row in item["rows"]), exact, free, slow, strict=True):
        names = row["images"] or [row["image"]]
        images = [load_image(data.image_root / name, cfg.image) for name in names]
        prompt = "".join(prompt_parts(row["question_type"], row["question"], row["answer_candidates"]))
        prompt = prompt.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * len(names))
        inputs = dict(processor(text=[prompt], images=images, return_tensors="pt"))
        own = model.generate(**inputs, **GREEDY, max_new_tokens=4, eos_token_id=processor.tokenizer.eos_token_id)[0]
        assert own[inputs["input_ids"].shape[1] :].tolist() == said
        assert generated.text == processor.tokenizer.decode(said, skip_special_tokens=True).strip()
        for answer in ids[:5]:
            inputs["input_ids"] = torch.cat([inputs["input_ids"][:, : len(own) - len(said)], torch.tensor([answer])], 1)
            changed = {"mm_token_type_ids": (inputs["input_ids"] == processor.image_token_id).int(), "attention_mask": None}
            logprobs = model(**{**inputs, **changed}).logits[0, -len(answer) - 1 : -1].double().log_softmax(-1)
            assert scores(found)[tuple(answer)] == pytest.approx(logprobs[range(len(answer)), answer].sum().item(), abs=1e-5)


# --- questions of the demo and real ones


def check_valid(row, answer):
    """Assert that an answer is one of the row's candidates, or one of its lists in canonical order."""
    candidates = row["answer_candidates"]
    if not candidates:
        assert answer.decoding == "free"
    elif row["multi_label"]:
        labels = answer.text.split("; ")
        assert labels == [label for label in candidates if label in labels] and (len(labels) == 1 or set(EXCLUSIVE).isdisjoint(labels))
    else:
        assert answer.text in candidates


@pytest.mark.slow("answers hundreds of questions")
@pytest.mark.parametrize("decoding", ["exact", "greedy"])
def test_every_prediction_of_the_tiny_model_is_a_valid_answer(decoding, tmp_path):
    cfg = load_config(ROOT / "config_demo.yaml", [f"output_dir={tmp_path}", "train.num_workers=0", "predict.batch_size=8"])
    rows = [row for image in group_by_image(ensure_enriched(cfg, "val"))[::4] for row in image]
    model, processor = load_model(cfg)
    data = load_dataset(rows, processor, cfg, supervised=False)
    answers = list(chain.from_iterable(answer_questions(model, data, cfg, decoding, 4)))
    for row, answer in answers:
        check_valid(row, answer)
    assert len(answers) == len(rows) and sum(row["multi_label"] for row, _ in answers) > 40
    assert len({answer.text for row, answer in answers if row["multi_label"]}) > 5


@pytest.mark.slow("answers hundreds of questions")
def test_every_prediction_of_a_real_question_is_a_valid_answer(shared, tmp_path):
    """The real tokenizer, all 20 questions of Kvasir-VQA with their mined spaces, random weights. SURGVQA_ROWS rows (45)."""
    cfg = load_config(
        None, [f"model_name={shared / 'qwen2-vl-processor'}", "image.max_pixels=3136", "train.num_workers=0", "predict.batch_size=8"]
    )
    processor = load_processor(cfg)
    rows = [
        {**row, "id": str(line), "image": row["image_filename"]}
        for line, row in read_jsonl(shared / "real-data" / "kvasir_vqa" / "val.jsonl")
    ]
    space, asked = answer_space.mine(rows), {}
    for row in rows:
        asked.setdefault(row["question"], []).append(row)
    number, chosen = int(os.environ.get("SURGVQA_ROWS", 45)), []
    while len(chosen) < number:
        chosen += [questions.pop() for questions in asked.values() if questions]
    chosen = [{**answer_space.apply(space, row), "image": f"{index // 9}.png"} for index, row in enumerate(chosen[:number])]
    for name in dict.fromkeys(row["image"] for row in chosen):
        Image.effect_noise((56, 56), 80).convert("RGB").save(tmp_path / name)
    cfg = cfg.model_copy(update={"data": cfg.data.model_copy(update={"image_root": tmp_path})})
    data = VQADataset(
        chosen, processor, cfg, dict.fromkeys((row["image"] for row in chosen), (56, 56)), load_model_config(cfg), supervised=False
    )
    kinds, answers = Counter(), list(chain.from_iterable(answer_questions(random_model(processor), data, cfg, "exact", 4)))
    for row, answer in answers:
        kinds[answer.decoding] += 1
        check_valid(row, answer)
    assert len(answers) == number and len({row["question"] for row in chosen}) == 20
    assert kinds["exact"] > number / 2 and kinds["beam"] > number / 10, kinds
