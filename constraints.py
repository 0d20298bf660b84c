"""Which tokens may come next.

`AllowedTokensLogitsProcessor` is the reference: any order of the allowed tokens, so it can still say `yesno`.
`CandidateTrie` emits exactly one of the candidates, `LabelSetGrammar` exactly one set of labels, `NumberGrammar` a number,
for sizes with its unit.
"""

if __name__ == "__main__":
    raise SystemExit("not a command, but which tokens may come next; see docs/method.md")

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

    def height(self):
        """Tokens of the longest answer from here, EOS included."""
        known, waiting = {}, [self]  # by node: a grammar's lists share theirs
        while waiting:
            node = waiting[-1]
            below = list(node.children.values())
            unknown = [child for child in below if id(child) not in known]
            if unknown:
                waiting += unknown
            else:
                known[id(node)] = 1 + max((known[id(child)] for child in below), default=-1)
                waiting.pop()
        return known[id(self)]


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

    def size(self):
        """Number of valid lists."""
        return len(self.single) + 2 ** len(self.joined) - 1 - len(self.joined)

    def token_lists(self):
        """Answers that between them hold every token and the greatest length: what the allowed set is made of."""
        return [*self.single, self.longest]


class NumberGrammar(LabelSetNode):
    """Every count, or every size with or without a unit, in the tokens that its text is encoded to.

    Counts are whole numbers of at most three digits; sizes numbers with at most two decimals, ranges and bounds: `7`, `0.5cm`,
    `11-20 mm`, `>20mm`. encode: text -> token ids. question_type: a key of UNITS. eos: the text of the end token.
    """

    UNITS = {"count_numeric": (), "size_numeric": ("mm", " mm", "cm", " cm")}
    WHOLE, DECIMALS = 3, 2  # digits

    def __init__(self, encode, question_type, eos, answer_prefix=""):
        self.encode, self.units, self.nodes = encode, self.UNITS[question_type], {}
        self.end = [encode(unit + eos) for unit in ("", *self.units)]
        ranges = bool(self.units)
        begun = [(encode(answer_prefix + digit), (ranges, "whole", self.WHOLE - 1 if digit != "0" else 0)) for digit in "0123456789"]
        bounds = [(encode(answer_prefix + sign), (False, "begin", 0)) for sign in "<>≤≥"] if self.units else []
        super().__init__(self, begun + bounds)

    def after_label(self, state):
        """The node at a state: (may this become a range, the part of the number, how many more digits that may have)."""
        if state not in self.nodes:
            may_be_range, part, digits = state
            paths = [(ids, None) for ids in self.end] if part in ("whole", "decimals") else []
            if part == "begin":
                paths += [(self.encode(digit), (may_be_range, "whole", self.WHOLE - 1 if digit != "0" else 0)) for digit in "0123456789"]
            elif digits:
                following = "whole" if part == "whole" else "decimals"
                paths += [(self.encode(digit), (may_be_range, following, digits - 1)) for digit in "0123456789"]
            if part == "whole" and self.units:
                paths.append((self.encode("."), (may_be_range, "point", self.DECIMALS)))
            if part in ("whole", "decimals") and may_be_range:
                paths.append((self.encode("-"), (False, "begin", 0)))
            self.nodes[state] = LabelSetNode(self, paths)
        return self.nodes[state]
