"""One image, many questions, one row of tokens.

A token tree is an image prefix with branches under it. In training a branch is a question and its answer; in
prediction answers grow under the questions, one token a step. Flattened to a row, a token attends to its ancestors
and itself, and its M-RoPE position is that of its depth, so every branch computes what it would in a row of its own.
A plain one-question row is the tree with one branch.

The same idea elsewhere: message trees in Molmo (Deitke et al. 2024), shared prefixes in PrefixGrouper (2025), tree
attention in SpecInfer (Miao et al. 2023) and Medusa (Cai et al. 2024).

Shapes: B rows (images), T tokens of a row.
"""

import numpy as np
import torch

IGNORE_INDEX = -100  # the label of a token without loss, as everywhere in transformers


class TokenTree:
    """A growing tree of tokens, kept as flat lists of equal length T.

    input_ids: token of each node. parents: index of each node's parent, -1 at the root; a parent always stands before
    its children. depths: 0 in the prefix, else the number of steps below it. labels: the token where it is
    supervised, IGNORE_INDEX elsewhere.
    """

    def __init__(self, prefix_ids):
        self.input_ids = list(prefix_ids)
        self.parents = list(range(-1, len(self.input_ids) - 1))
        self.depths = [0] * len(self.input_ids)
        self.labels = [IGNORE_INDEX] * len(self.input_ids)
        self.root = len(self.input_ids) - 1  # branches hang under the prefix's last token

    def __len__(self):
        return len(self.input_ids)

    def grow(self, parent, ids, supervised=False):
        """Append `ids` as a chain under node `parent`; return the index of the chain's last node."""
        for token in ids:
            self.input_ids.append(token)
            self.labels.append(token if supervised else IGNORE_INDEX)
            self.depths.append(self.depths[parent] + 1)
            self.parents.append(parent)
            parent = len(self.input_ids) - 1
        return parent

    def path(self, node):
        """Indices of the nodes from the root to `node`."""
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def ancestors(self):
        """(T, T) bool: row t is true at t and at every ancestor of t."""
        seen = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents[1:], start=1):
            seen[node] |= seen[parent]
        return torch.from_numpy(seen)


def batch_trees(trees, pad_token_id):
    """Pad trees on the right to a batch of B rows of T tokens.

    Returns a dict of `input_ids` (B, T) int64, `labels` (B, T) int64 with IGNORE_INDEX on everything unsupervised,
    `depths` (B, T) int64, `attention_mask` (B, 1, T, T) bool, true where row attends to column. Padding attends to
    itself alone, because a softmax over nothing is NaN.
    """
    length = max(map(len, trees))
    pad = lambda rows, value: torch.tensor([row + [value] * (length - len(row)) for row in rows])  # noqa: E731
    attention_mask = torch.eye(length, dtype=torch.bool).repeat(len(trees), 1, 1, 1)
    for row, tree in enumerate(trees):
        attention_mask[row, 0, : len(tree), : len(tree)] = tree.ancestors()
    return {
        "input_ids": pad([tree.input_ids for tree in trees], pad_token_id),
        "labels": pad([tree.labels for tree in trees], IGNORE_INDEX),
        "depths": pad([tree.depths for tree in trees], 0),
        "attention_mask": attention_mask,
    }


def tree_position_ids(rope_positions, depths):
    """M-RoPE positions of flattened trees.

    rope_positions: (3, B, T) int64 from the model's own `get_rope_index` over the flattened rows, right for the prefix,
    which ends in a text token. depths: (B, T) int64. A branch token's position is the prefix's last one plus its depth.
    """
    below = depths > 0
    last = (below.int().cumsum(1) == 0).sum(1) - 1  # index of the last prefix token of each row, padding aside
    start = rope_positions.gather(2, last.expand(3, -1)[..., None])  # (3, B, 1)
    return torch.where(below, start + depths, rope_positions)


def supervised_parents(labels):
    """(B, T) bool: true at the token before each supervised one, whose logits predict it. For `logits_to_keep`."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = labels[:, 1:] != IGNORE_INDEX
    return keep
