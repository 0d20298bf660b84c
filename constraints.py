"""Which tokens may come next.

`AllowedTokensLogitsProcessor` is the reference: any order of the allowed tokens, so it can still say `yesno`.
`CandidateTrie` emits exactly one of the candidates, `LabelSetGrammar` exactly one set of labels.
"""

from functools import cached_property

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


class TokenNode:
    """A place in a tree of answers. `children` maps a token to the node below it; EOS leads to one without children."""

    def after(self, ids):
        """The node reached from here by `ids`. Raises KeyError where no answer continues so."""
        node = self
        for token in ids:
            node = node.children[token]
        return node

    def allowed(self):
        """Token ids that may come next; empty after EOS."""
        return list(self.children)


class CandidateTrie(TokenNode):
    """Prefix tree of candidate answers.

    candidates_ids: lists of token ids, each ended by EOS, so that `polyp` can end where `polyp snare` goes on.
    """

    def __init__(self, candidates_ids=()):
        self.children = {}
        for ids in candidates_ids:
            node = self
            for token in ids:
                node = node.children.setdefault(token, CandidateTrie())


class LabelSetNode(TokenNode):
    """A place in a LabelSetGrammar, whose children are made when they are asked for.

    paths: (token ids still to come, label after whose separator the list goes on, or None where they end in EOS). Each
    leads to a valid list, so that no walk gets stuck: after `center`, `; center` goes on to `-left` or `-right` alone.
    """

    def __init__(self, grammar, paths):
        self.grammar, self.paths = grammar, paths

    @cached_property
    def children(self):
        below = {}
        for ids, label in self.paths:
            below.setdefault(ids[0], []).append((ids[1:], label))
        return {token: self._node(paths) for token, paths in below.items()}

    def _node(self, paths):
        going_on = [path for path in paths if path[0]]
        done = [self.grammar.after_label(label) for ids, label in paths if not ids and label is not None]
        if len(done) == 1 and not going_on:
            return done[0]
        return LabelSetNode(self.grammar, going_on + [path for node in done for path in node.paths])


class LabelSetGrammar(LabelSetNode):
    """Every list of labels in canonical order: no repeats, exclusive labels alone, EOS only after a label.

    Lists that end in the same label go on in the same node: the 8,191 lists of 13 labels cost a few dozen nodes.

    single, first, middle, last: for each label in canonical order its token ids where it is all of a list (EOS
    included), where it begins one, stands inside (both with the separator after it) and ends one (EOS included).
    exclusive: indices of the labels that stand alone.
    """

    def __init__(self, single, first, middle, last, exclusive=()):
        self.middle, self.last, self.nodes = middle, last, {}
        self.joined = [index for index in range(len(single)) if index not in set(exclusive)]
        begun = [(first[index], index) for index in self.joined[:-1]]
        super().__init__(self, [(ids, None) for ids in single] + begun)
        inside = [token for index in self.joined[1:-1] for token in middle[index]]
        self.longest = first[self.joined[0]] + inside + last[self.joined[-1]] if begun else max(single, key=len)
        self.single = single

    def after_label(self, label):
        """The node where a list goes on after a label (its index) and the separator."""
        if label not in self.nodes:
            later = [index for index in self.joined if index > label]
            ending, going_on = [(self.last[i], None) for i in later], [(self.middle[i], i) for i in later[:-1]]
            self.nodes[label] = LabelSetNode(self, ending + going_on)
        return self.nodes[label]

    def token_lists(self):
        """Answers that between them hold every token and the greatest length: what the allowed set is made of."""
        return [*self.single, self.longest]
