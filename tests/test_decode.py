"""Tree decoding against HF generate.    python -m pytest tests/test_decode.py -v"""

import pytest
import torch
from conftest import make_experiment, random_model, with_random_lora

from constraints import CandidateTrie, allowed_token_ids
from dataset import encode_candidates, label_set_grammar, load_dataset
from decode import GREEDY, answer_questions, decode_trees, left_padded

CANDIDATES = ["yes", "no", "none", "not relevant", "polyp", "polyp snare", "center", "center-left", "11-20mm", "5-10mm", "<5mm"]


@pytest.fixture(params=["untuned", "lora"])
def any_model(request, processor, experiment):
    model = random_model(processor)
    return with_random_lora(model, experiment[0].lora).eval() if request.param == "lora" else model


@pytest.fixture
def prompts(experiment, processor):
    return load_dataset(experiment[1], processor, experiment[0], supervised=False)


def generate(model, data, indices, processor, max_new_tokens, candidates=None):
    """Answers of HF generate, one left-padded row per question; with candidates, through prefix_allowed_tokens_fn."""
    items = [data[index] for index in indices]
    batch = data.collate(items)
    inputs = left_padded([(item, row, leaf) for row, item in enumerate(items) for leaf in item["leaves"]], batch, processor.tokenizer.pad_token_id)
    start, eos, pad = inputs["input_ids"].shape[1], processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id

    def allowed(row, ids):
        ids = ids[start:].tolist()
        tree = CandidateTrie(candidates) if isinstance(candidates, list) else candidates
        return [pad] if eos in ids else tree.after(ids).allowed()

    output = model.generate(
        **inputs,
        **GREEDY,
        max_new_tokens=max_new_tokens,
        prefix_allowed_tokens_fn=allowed if candidates else None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    answers = output[:, start:].tolist()
    return [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in answers]


def decode(model, data, indices, processor, max_new_tokens, candidates=None):
    items = [data[index] for index in indices]
    questions = sum(len(item["leaves"]) for item in items)
    return decode_trees(model, data.collate(items), items, [candidates] * questions, processor.tokenizer, max_new_tokens)


def test_free_equals_generate(any_model, prompts, processor):
    expected = generate(any_model, prompts, range(4), processor, 6)
    assert decode(any_model, prompts, range(4), processor, 6) == expected
    assert len({tuple(ids) for ids in expected}) > 3, "a model that always says the same would prove little"


def test_greedy_equals_generate_with_prefix_allowed_tokens(any_model, prompts, processor):
    candidates = encode_candidates(processor.tokenizer, CANDIDATES)
    expected = generate(any_model, prompts, range(4), processor, max(map(len, candidates)), candidates)
    assert decode(any_model, prompts, range(4), processor, 1, candidates) == expected
    assert all(ids in candidates for ids in expected) and len({tuple(ids) for ids in expected}) > 2


def test_batched_equals_single(any_model, prompts, processor):
    candidates = encode_candidates(processor.tokenizer, CANDIDATES)
    for choice in (None, candidates):
        singles = [ids for index in range(4) for ids in decode(any_model, prompts, [index], processor, 6, choice)]
        assert decode(any_model, prompts, range(4), processor, 6, choice) == singles


def test_together_equals_one_question_at_a_time(any_model, experiment, prompts, processor):
    cfg, rows = experiment
    alone = [load_dataset([row], processor, cfg, supervised=False) for row in rows]
    expected = [decode(any_model, data, [0], processor, 6)[0] for data in alone]
    assert decode(any_model, prompts, range(4), processor, 6) == expected


def test_mixed_constraints_in_one_image(any_model, prompts, processor):
    """Each question of an image has its own candidates or none."""
    items = [prompts[3]]
    candidates = encode_candidates(processor.tokenizer, CANDIDATES)
    mixed = [None, candidates, encode_candidates(processor.tokenizer, ["yes", "no"])] * 3
    together = decode_trees(any_model, prompts.collate(items), items, mixed, processor.tokenizer, 5)
    for index, choice in enumerate(mixed):
        same = decode_trees(any_model, prompts.collate(items), items, [choice] * 9, processor.tokenizer, 5)
        assert together[index] == same[index]


def test_a_single_candidate_needs_no_choice(any_model, prompts, processor):
    only = encode_candidates(processor.tokenizer, ["not relevant"])
    assert decode(any_model, prompts, [0], processor, 1, only) == only


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """Rows of which a third are yes/no with candidates."""
    return make_experiment(tmp_path_factory.mktemp("closed"), questions=(3, 4))


@pytest.mark.parametrize("decoding", ["greedy", "allowed_set", "free"])
def test_answer_questions_respects_the_decoding(closed, processor, decoding):
    cfg, rows = closed
    data = load_dataset(rows, processor, cfg, supervised=False)
    answers = list(answer_questions(random_model(processor), data, cfg, decoding, 3))
    assert [row["id"] for row, *_ in answers] == [row["id"] for row in rows]
    allowed = allowed_token_ids(encode_candidates(processor.tokenizer, ["yes", "no"]))
    letters = set(processor.tokenizer.decode(allowed, skip_special_tokens=True))
    for row, text, constrained, cut in answers:
        assert constrained == (decoding != "free" and row["answer_candidates"] is not None)
        assert not (cut and constrained)
        if constrained and decoding == "greedy":
            assert text in row["answer_candidates"]
        if constrained and decoding == "allowed_set":
            assert set(text) <= letters
        if not constrained:
            assert len(processor.tokenizer(text)["input_ids"]) <= 3 or cut


def test_answer_prefix_is_taken_off_again(closed, processor):
    cfg, rows = closed
    cfg = cfg.model_copy(update={"answer_prefix": " "})
    data = load_dataset(rows, processor, cfg, supervised=False)
    for row, text, constrained, _ in answer_questions(random_model(processor), data, cfg, "greedy", 3):
        assert not constrained or text in row["answer_candidates"]


def test_cut_answers_are_told(closed, processor):
    """A model that never ends is cut every time; one that ends at once never."""
    cfg, rows = closed
    data = load_dataset(rows, processor, cfg, supervised=False)
    model = random_model(processor)
    eos = processor.tokenizer.eos_token_id
    for bias, expected in ((-1e4, {True}), (1e4, {False})):
        model.lm_head.register_forward_hook(lambda *args, bias=bias: args[2].index_add(-1, torch.tensor([eos]), torch.full((*args[2].shape[:-1], 1), bias)))
        assert {cut for *_, cut in answer_questions(model, data, cfg, "free", 3)} == expected
        model.lm_head._forward_hooks.clear()


# --- label lists ---

LABELS = ("center", "center-left", "center-right", "lower-left", "pink", "polyp", "polyp snare", "none")


def test_greedy_label_lists_equal_generate_with_prefix_allowed_tokens(any_model, prompts, processor):
    grammar = label_set_grammar(processor.tokenizer, LABELS)
    expected = generate(any_model, prompts, range(4), processor, len(grammar.longest), grammar)
    assert decode(any_model, prompts, range(4), processor, 1, grammar) == expected
    texts = [processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert len(set(texts)) > 2 and any(";" in text for text in texts)


@pytest.mark.parametrize("decoding", ["greedy", "allowed_set", "free"])
def test_a_label_list_question_is_answered_with_one_valid_list(closed, processor, decoding):
    cfg, rows = closed
    rows = [{**row, "multi_label": True, "answer_candidates": list(LABELS)} for row in rows]
    data = load_dataset(rows, processor, cfg, supervised=False)
    tokens = allowed_token_ids(label_set_grammar(processor.tokenizer, LABELS).token_lists())
    letters = set(processor.tokenizer.decode(tokens, skip_special_tokens=True))
    lengths = set()
    models = [random_model(processor, seed) for seed in range(6)]
    answers = (answer for model in models for answer in answer_questions(model, data, cfg, decoding, 3))
    for _, text, constrained, cut in answers:
        assert constrained == (decoding != "free") and not (cut and constrained)
        found = text.split("; ")
        lengths.add(len(found))
        if decoding == "greedy":
            assert found == [label for label in LABELS if label in found] and (found == ["none"] or "none" not in found)
        if decoding == "allowed_set":
            assert set(text) <= letters
    assert decoding != "greedy" or lengths & set(range(2, len(LABELS) - 1)), "neither single labels nor all together"
