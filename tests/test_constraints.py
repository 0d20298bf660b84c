"""Allowed sets and candidate tries.    python -m pytest tests/test_constraints.py -v"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from constraints import AllowedTokensLogitsProcessor, CandidateTrie, allowed_token_ids
from dataset import encode_candidates

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
