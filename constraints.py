"""Which tokens may come next.

`AllowedTokensLogitsProcessor` is the reference: any order of the allowed tokens, so it can still say `yesno`.
`CandidateTrie` emits exactly one of the candidates.
"""

import torch
from transformers import LogitsProcessor


class AllowedTokensLogitsProcessor(LogitsProcessor):
    """Forbid every token outside `allowed_ids` (ints; give EOS among them, or generation can't stop)."""

    def __init__(self, allowed_ids):
        self.allowed = sorted(set(allowed_ids))

    def __call__(self, input_ids, scores):
        """input_ids: (B, T) int64, unused. scores: (B, V) float. Returns (B, V) with -inf outside the allowed tokens."""
        mask = torch.full_like(scores, float("-inf"))
        mask[..., self.allowed] = scores[..., self.allowed]
        return mask


def allowed_token_ids(candidates_ids):
    """The tokens that occur in any candidate (lists of ids, EOS included), sorted."""
    return sorted({token for ids in candidates_ids for token in ids})


class CandidateTrie:
    """Prefix tree of candidate answers.

    candidates_ids: lists of token ids, each ended by EOS, so that `polyp` can end where `polyp snare` goes on.
    `children` maps a token to the node below it; EOS leads to a node without children.
    """

    def __init__(self, candidates_ids=()):
        self.children = {}
        for ids in candidates_ids:
            node = self
            for token in ids:
                node = node.children.setdefault(token, CandidateTrie())

    def after(self, ids):
        """The node reached from here by `ids`. Raises KeyError where no candidate continues so."""
        node = self
        for token in ids:
            node = node.children[token]
        return node

    def allowed(self):
        """Token ids that may come next; empty after EOS."""
        return list(self.children)
