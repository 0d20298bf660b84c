"""Allowed sets, candidate tries and label-set grammars.    python -m pytest tests/test_constraints.py -v"""

import re
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from constraints import AllowedTokensLogitsProcessor, CandidateTrie, LabelSetGrammar, allowed_token_ids
from dataset import encode_answer, encode_candidates, label_set_grammar
from files import UserError
from prediction.decode import number_grammar

EOS = 0
CANDIDATES = [[5, EOS], [5, 6, EOS], [7, 8, EOS]]  # as in polyp, polyp snare


def test_allowed_set_keeps_scores_of_allowed_tokens_and_forbids_the_rest():
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]])
    result = AllowedTokensLogitsProcessor({1, 3})(None, scores)
    assert result.tolist() == [[-torch.inf, scores[0, 1], -torch.inf, scores[0, 3]], [-torch.inf, 3.0, -torch.inf, 1.0]]
    assert scores[0, 0] == torch.tensor(0.1), "the input must stay as it was"


def test_allowed_token_ids_holds_eos():
    assert allowed_token_ids(CANDIDATES) == [EOS, 5, 6, 7, 8]


def test_trie_allows_what_continues_a_candidate():
    trie = CandidateTrie(CANDIDATES)
    assert trie.allowed() == [5, 7]
    assert trie.after([5]).allowed() == [EOS, 6]
    assert trie.after([5, 6]).allowed() == [EOS]
    assert trie.after([5, EOS]).allowed() == []
    with pytest.raises(KeyError):
        trie.after([7, 6])


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=8), st.randoms())
def test_any_walk_to_eos_is_a_candidate_and_every_candidate_can_be_walked(candidates, rng):
    candidates = [ids + [EOS] for ids in candidates]
    walk, node = [], CandidateTrie(candidates)
    while node.allowed():
        walk.append(rng.choice(node.allowed()))
        node = node.children[walk[-1]]
    assert walk in candidates
    for ids in candidates:
        assert CandidateTrie(candidates).after(ids).allowed() == []


def test_unordered_set_reaches_yesno_and_the_trie_does_not(processor):
    ids = encode_candidates(processor.tokenizer, ["yes", "no"])
    yesno = ids[0][:-1] + ids[1]
    assert set(yesno) <= set(allowed_token_ids(ids))
    with pytest.raises(KeyError):
        CandidateTrie(ids).after(yesno)


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=8))
def test_the_height_is_the_longest_candidates_length(candidates):
    assert CandidateTrie([ids + [EOS] for ids in candidates]).height() == max(map(len, candidates)) + 1


# --- label sets ---

SEPARATOR, SPACE = 8, 9
GRID = [
    "center",
    "center-left",
    "center-right",
    *(f"{row}-{column}" for row in ("lower", "upper") for column in ("center", "left", "right")),
]


def grammar_of(labels, exclusive=()):
    """A grammar over labels that are lists of ints; later ones start with one more token, as with a leading space."""
    later = [[SPACE, *ids] for ids in labels]
    middle, last = [[*ids, SEPARATOR] for ids in later], [[*ids, EOS] for ids in later]
    return LabelSetGrammar([[*ids, EOS] for ids in labels], [[*ids, SEPARATOR] for ids in labels], middle, last, exclusive)


def valid_lists(labels, exclusive=()):
    """Every valid list in tokens, written out."""
    joined = [ids for index, ids in enumerate(labels) if index not in exclusive]
    lists = [[labels[index]] for index in exclusive] + [list(some) for n in range(1, len(joined) + 1) for some in combinations(joined, n)]
    return {(*sum(([SPACE] * (i > 0) + ids + [SEPARATOR] for i, ids in enumerate(some)), [])[:-1], EOS) for some in lists}


def all_walks(node, begun=()):
    if not node.allowed():
        yield begun
    for token in node.allowed():
        yield from all_walks(node.children[token], (*begun, token))


label = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@given(st.lists(label, min_size=1, max_size=5, unique_by=tuple), st.sets(st.integers(0, 4), max_size=2))
def test_walks_of_the_grammar_are_exactly_the_valid_lists(labels, exclusive):
    exclusive = {index for index in exclusive if index < len(labels)}
    walks = list(all_walks(grammar_of(labels, exclusive)))
    assert set(walks) == valid_lists(labels, exclusive) and len(walks) == len(set(walks))
    assert all(walk[-1] == EOS and EOS not in walk[:-1] for walk in walks)
    lists = grammar_of(labels, exclusive).token_lists()
    assert {token for ids in lists for token in ids} == {token for walk in walks for token in walk}
    assert max(map(len, lists)) == max(map(len, walks)) == grammar_of(labels, exclusive).height()


def test_no_walk_gets_stuck_where_a_label_is_used_up():
    """center; center-left: after `center;` the tokens of ` center` may come, but only to begin ` center-left`."""
    center, center_left = [1], [1, 2]
    node = grammar_of([center, center_left]).after([1, SEPARATOR, SPACE, 1])
    assert node.allowed() == [2] and node.after([2]).allowed() == [EOS]
    assert grammar_of([center_left, center]).after([1, 2, SEPARATOR, SPACE, 1]).allowed() == [EOS]


def test_nodes_are_made_when_reached_and_shared():
    grammar = grammar_of([[number] for number in range(10, 60)])  # 2 ** 50 lists
    assert not grammar.nodes
    assert grammar.after([10, SEPARATOR, SPACE, 12, SEPARATOR]) is grammar.after([11, SEPARATOR, SPACE, 12, SEPARATOR])
    assert len(grammar.nodes) == 3


@pytest.mark.parametrize("prefix", ["", " "])
def test_every_label_list_of_the_grid_and_nothing_else_in_real_tokens(processor, prefix):
    tokenizer = processor.tokenizer
    grammar = label_set_grammar(tokenizer, (*GRID, "none"), prefix)
    lists = [some for n in range(1, 10) for some in combinations(GRID, n)] + [("none",)]
    assert set(all_walks(grammar)) == {tuple(encode_answer(tokenizer, "; ".join(some), prefix)) for some in lists}
    assert len(lists) == 512 and grammar.longest == encode_answer(tokenizer, "; ".join(GRID), prefix)
    for broken in (
        "center; center",
        "center-left; center",
        "center; none",
        "none; center",
        "center;",
        "center;center-left",
        "",
    ):
        with pytest.raises(KeyError):
            grammar.after(encode_answer(tokenizer, broken, prefix))


@pytest.mark.parametrize(("joined", "named"), [("; ", "a, b"), ("a; c", "a, c"), ("; b; ", "a, b, c")])
def test_labels_that_a_list_would_garble_are_refused(processor, joined, named):
    """Any two of them, or only all."""
    with pytest.raises(UserError, match=f"the labels {named} can't be told apart in a list"):
        label_set_grammar(Garbling(processor.tokenizer, joined), ("a", "b", "c"))


class Garbling:
    """A tokenizer that joins a separator and what follows it, in this text."""

    def __init__(self, tokenizer, joined):
        self.tokenizer, self.eos_token, self.joined = tokenizer, tokenizer.eos_token, joined

    def __call__(self, text, **kwargs):
        return self.tokenizer(text.replace(self.joined, self.joined.replace("; ", ";")), **kwargs)


def test_the_grammar_knows_its_size(processor):
    labels = (*GRID[:4], "none")
    grammar = label_set_grammar(processor.tokenizer, labels)
    assert grammar.size() == len(list(all_walks(grammar))) == 2**4 - 1 + 1


# --- numbers

NUMBER = r"(0|[1-9][0-9]{0,2})([.][0-9]{1,2})?"


@pytest.mark.parametrize("prefix", ["", " "])
@pytest.mark.parametrize("question_type", ["count_numeric", "size_numeric"])
@given(rng=st.randoms(use_true_random=False))
def test_every_walk_of_the_number_grammar_is_a_number_in_the_tokens_of_its_text(processor, question_type, prefix, rng):
    grammar, ids = number_grammar(processor.tokenizer, question_type, prefix), []
    node = grammar
    while node.allowed():
        ids.append(rng.choice(sorted(node.allowed())))
        node = node.children[ids[-1]]
    text = processor.tokenizer.decode(ids, skip_special_tokens=True).removeprefix(prefix)
    pattern = {"count_numeric": "0|[1-9][0-9]{0,2}", "size_numeric": f"([<>≤≥]{NUMBER}|{NUMBER}(-{NUMBER})?)( ?(mm|cm))?"}[question_type]
    assert re.fullmatch(pattern, text) and ids == encode_answer(processor.tokenizer, text, prefix)


@pytest.mark.parametrize("prefix", ["", " "])
def test_real_sizes_and_counts_can_be_walked_and_other_texts_not(processor, prefix):
    walk = lambda kind, text: number_grammar(processor.tokenizer, kind, prefix).after(encode_answer(processor.tokenizer, text, prefix))
    for text in ("7", "7mm", "7 mm", "0.5cm", "11-20mm", "11-20 mm", "5-10mm", ">20mm", "<5mm", "≥5", "0.25 cm", "100"):
        assert walk("size_numeric", text).allowed() == []
    for text in ("0", "7", "16", "120"):
        assert walk("count_numeric", text).allowed() == []
    for kind, text in (
        ("count_numeric", "7mm"),
        ("count_numeric", "1.5"),
        ("size_numeric", "5-"),
        ("size_numeric", "<5-10mm"),
        ("size_numeric", "mm"),
        ("count_numeric", "01"),
    ):
        with pytest.raises(KeyError):
            walk(kind, text)
