"""What the passes over answer trees score, against plain forward passes: batched, in pieces, in chunks, in other precisions.

python -m pytest tests/prediction/test_answer_trees.py -v
"""

from math import exp

import pytest
import torch
from conftest import random_model

from dataset import encode_candidates, label_set_grammar, load_dataset
from model.forward import base_model
from prediction import answer_trees
from prediction.decode import LOOKAHEAD, Plan, candidate_trie, run_searches

CANDIDATES = ("yes", "no", "none", "not relevant", "polyp", "polyp snare", "center", "center-left", "11-20mm", "5-10mm", "<5mm")
LABELS = ("center", "center-left", "center-right", "lower-left", "pink", "polyp", "polyp snare", "none")
BUDGET = 4096


def search(model, data, indices, plan, max_new_tokens=6, budget=BUDGET):
    """Finished searches; plan: one Plan for all questions, or a list."""
    items = [data[index] for index in indices]
    plans = plan if isinstance(plan, list) else [plan] * sum(len(item["leaves"]) for item in items)
    return run_searches(model, data, items, plans, max_new_tokens, budget)


def decode(model, data, indices, plan, max_new_tokens=6, budget=BUDGET):
    return [found.beam[0].ids for found in search(model, data, indices, plan, max_new_tokens, budget)]


def scores(found):
    """{token ids of a candidate: logprob} of a finished exact search."""
    return {tuple(place.ids): place.logprob for place in found.all_answers()}


@torch.no_grad()
def score_separately(model, data, item, leaf, answers):
    """Log-probabilities of whole answers (lists of ids) under a question: one plain row each, mask and positions the model's own."""
    batch, tree = data.collate([item]), item["tree"]
    prompt, sums = [tree.input_ids[node] for node in tree.path(leaf)], []
    for ids in answers:
        input_ids = torch.tensor([prompt + ids])
        kinds = (input_ids == data.processor.image_token_id).int()
        logits = model(
            input_ids=input_ids, mm_token_type_ids=kinds, pixel_values=batch["pixel_values"], image_grid_thw=batch["image_grid_thw"]
        ).logits
        logprobs = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        sums.append(logprobs[range(len(ids)), ids].sum().item())
    return sums


def test_exact_equals_naive_scoring_of_each_candidate(any_model, prompts, processor):
    """Several images in a batch, different candidates for the questions of one image."""
    tokenizer = processor.tokenizer
    spaces = [CANDIDATES, ("yes", "no"), ("polyp", "polyp snare", "none"), ("not relevant",)]
    plans = [Plan("exact", candidate_trie(tokenizer, spaces[number % len(spaces)])) for number in range(18)]
    found = search(any_model, prompts, range(4), plans)
    questions = [(prompts[index], leaf) for index in range(4) for leaf in prompts[index]["leaves"]]
    for number, ((item, leaf), result) in enumerate(zip(questions, found, strict=True)):
        ids = encode_candidates(tokenizer, spaces[number % len(spaces)])
        naive = score_separately(any_model, prompts, item, leaf, ids)
        assert [scores(result)[tuple(answer)] for answer in ids] == pytest.approx(naive, abs=2e-5)
        assert len(scores(result)) == len(ids)


def test_exact_scoring_of_label_sets_equals_naive_scoring(any_model, prompts, processor):
    grammar = label_set_grammar(processor.tokenizer, LABELS[:5] + LABELS[-1:])
    (found,) = search(any_model, prompts, [0], Plan("exact", grammar))
    assert len(scores(found)) == grammar.size() == 2**5 - 1 + 1
    naive = score_separately(any_model, prompts, prompts[0], prompts[0]["leaves"][0], [list(ids) for ids in scores(found)])
    assert list(scores(found).values()) == pytest.approx(naive, abs=2e-5)


@pytest.mark.parametrize("budget", [7, 60, 400])
def test_a_tree_over_the_budget_is_read_in_pieces_with_the_same_scores(any_model, prompts, processor, budget):
    """No pass is wider than the budget; but the questions themselves are read by the first in any case."""
    plans = [
        Plan("exact", label_set_grammar(processor.tokenizer, LABELS)),
        Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)),
    ] * 9
    widths, note = [], lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1])
    base_model(any_model).model.register_forward_pre_hook(note, with_kwargs=True)
    whole, pieces = search(any_model, prompts, range(4), plans), search(any_model, prompts, range(4), plans, budget=budget)
    everything, first_piece, *others, last = widths
    questions = max(len(prompts[index]["tree"]) for index in range(4))
    assert first_piece == max(budget, questions) < everything and set(others) == {budget} and last <= budget
    for first, second in zip(whole, pieces):
        assert scores(second) == pytest.approx(scores(first), abs=2e-5)
    free = decode(any_model, prompts, range(4), Plan("free"))
    assert decode(any_model, prompts, range(4), Plan("free"), budget=budget) == free


def test_batched_and_together_equal_single_and_one_question_at_a_time(any_model, experiment, prompts, processor):
    cfg, rows = experiment
    exact, free = Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)), Plan("free")
    together = search(any_model, prompts, range(4), exact)
    single = [found for index in range(4) for found in search(any_model, prompts, [index], exact)]
    alone = [load_dataset([row], processor, cfg, supervised=False) for row in rows]
    for first, *others in zip(together, single, (search(any_model, data, [0], exact)[0] for data in alone), strict=True):
        assert all(scores(other) == pytest.approx(scores(first), abs=2e-5) for other in others)
    grammar = label_set_grammar(processor.tokenizer, LABELS)
    for plan in (free, Plan("greedy", exact.grammar), Plan("beam", grammar, 1), Plan("beam", grammar, 3, LOOKAHEAD)):
        answers = decode(any_model, prompts, range(4), plan)
        assert [ids for index in range(4) for ids in decode(any_model, prompts, [index], plan)] == answers
        assert [decode(any_model, data, [0], plan)[0] for data in alone] == answers


def test_candidates_and_the_remainder_sum_to_one(prompts, processor):
    """The remainder by plain forward passes: leaving the trie, at each place, by any token that continues no candidate."""
    model, item = random_model(processor), prompts[0]
    trie = candidate_trie(processor.tokenizer, ("polyp", "polyp snare", "no", "not relevant"))
    (found,) = search(model, prompts, [0], Plan("exact", trie))
    remainder, waiting = 0.0, [(trie, [])]
    while waiting:
        node, ids = waiting.pop()
        remainder += remainder_at(model, prompts, item, ids, sorted(set(range(len(processor.tokenizer))) - set(node.children)))
        waiting += [(below, [*ids, token]) for token, below in node.children.items() if below.children]
    assert remainder > 0.5 and remainder + sum(map(exp, scores(found).values())) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def remainder_at(model, data, item, ids, tokens):
    """Probability that an answer begins with `ids` and goes on with one of `tokens`."""
    batch, tree = data.collate([item]), item["tree"]
    prompt = [tree.input_ids[node] for node in tree.path(item["leaves"][0])]
    input_ids = torch.tensor([prompt + ids])
    kinds = (input_ids == data.processor.image_token_id).int()
    logits = model(
        input_ids=input_ids, mm_token_type_ids=kinds, pixel_values=batch["pixel_values"], image_grid_thw=batch["image_grid_thw"]
    ).logits
    logprobs = logits[0, len(prompt) - 1 :].double().log_softmax(-1)
    return (logprobs[range(len(ids)), ids].sum() + logprobs[-1, tokens].logsumexp(0)).exp().item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes_agree_up_to_ties(prompts, processor, dtype):
    plan = Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES))
    reference = search(random_model(processor), prompts, range(4), plan)
    other = search(random_model(processor).to(dtype), prompts, range(4), plan)
    tie = 0.5 if dtype == torch.bfloat16 else 1e-4  # bfloat16 has three digits, and a candidate up to six tokens
    for first, second in zip(map(scores, reference), map(scores, other), strict=True):
        assert first == pytest.approx(second, abs=tie)
        assert first[max(second, key=second.get)] > max(first.values()) - 2 * tie


def test_logits_in_chunks_give_the_same_scores(prompts, processor, monkeypatch):
    plan, model = Plan("exact", candidate_trie(processor.tokenizer, CANDIDATES)), random_model(processor)
    whole = search(model, prompts, range(4), plan)
    monkeypatch.setattr(answer_trees, "LOGITS_AT_ONCE", 7 * model.lm_head.weight.shape[0])
    for first, second in zip(whole, search(model, prompts, range(4), plan)):
        assert scores(second) == pytest.approx(scores(first), abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_logits_of_a_bfloat16_model_are_float32(bias, monkeypatch):
    """The grid of bfloat16 between 16 and 32 is 0.125; the products of its numbers and their sums are exact in float32."""
    monkeypatch.setattr(answer_trees, "WEIGHTS_AT_ONCE", 1000)
    torch.manual_seed(0)
    lm_head, hidden = torch.nn.Linear(64, 100, bias=bias, dtype=torch.bfloat16), 8 * torch.randn(5, 64, dtype=torch.bfloat16)
    exact = hidden.double() @ lm_head.weight.double().T + (lm_head.bias.double() if bias else 0)
    assert torch.allclose(answer_trees.float32_logits(lm_head, hidden).double(), exact, atol=1e-5)
    assert (lm_head(hidden).double() - exact).abs().max() > 0.005


def test_scores_of_a_bfloat16_model_are_those_of_its_hidden_states_in_float32(prompts, processor):
    model, hidden = random_model(processor).bfloat16(), []
    model.model.register_forward_hook(lambda module, args, output: hidden.append(output.last_hidden_state))
    items = [prompts[index] for index in range(4)]
    found = search(model, prompts, range(4), Plan("exact", candidate_trie(processor.tokenizer, ("yes", "no"))))
    at = [hidden[0][row, leaf].double() for row, item in enumerate(items) for leaf in item["leaves"]]
    for state, result in zip(at, found, strict=True):
        expected = (state @ model.lm_head.weight.double().T).log_softmax(-1)
        assert all(value == pytest.approx(expected[token].item(), abs=1e-4) for token, value in result.question.scores.items())


def test_an_answer_may_be_longer_than_the_stack_is_deep():
    place = answer_trees.Question(0, 0, None)
    for token in range(5000):
        place.scores = {token: -0.5}
        place = place.child(token)
    assert place.ids == list(range(5000)) and place.logprob == -2500
