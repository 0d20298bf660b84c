"""One image, many questions, one row of tokens.

A token tree is an image prefix with branches under it. In training a branch is a question and its answer; in
prediction answers grow under the questions, one token a step. Flattened to a row, a token attends to its ancestors
and itself, and its M-RoPE position is that of its depth, so every branch computes what it would in a row of its own.
A plain one-question row is the tree with one branch. Several trees may share a row; they don't see each other.

The same idea elsewhere: message trees in Molmo (Deitke et al. 2024), shared prefixes in PrefixGrouper (2025), tree
attention in SpecInfer (Miao et al. 2023) and Medusa (Cai et al. 2024).

Shapes: B rows, T tokens of a row, N trees (images) of a batch, P tokens of the longest prefix.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from itertools import count

import numpy as np
import torch

IGNORE_INDEX = -100  # the label of a token without loss, as everywhere in transformers


class TokenTree:
    """A growing tree of tokens, kept as flat lists of equal length T.

    input_ids: token of each node. parents: index of each node's parent, -1 at the root; a parent always stands before
    its children. depths: 0 in the prefix, else the number of steps below it. anchors: place in the prefix of the node
    itself or, below the prefix, of its last token. labels: the token where it is supervised, IGNORE_INDEX elsewhere.
    """

    def __init__(self, prefix_ids):
        self.input_ids = list(prefix_ids)
        self.parents = list(range(-1, len(self.input_ids) - 1))
        self.depths = [0] * len(self.input_ids)
        self.anchors = list(range(len(self.input_ids)))
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
            self.anchors.append(self.anchors[parent])
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

    def branches(self):
        """(first, end) index ranges of the branches of a tree in which every branch is a chain."""
        starts = [node for node, parent in enumerate(self.parents) if parent == self.root and node > self.root]
        return list(zip(starts, [*starts[1:], len(self)]))

    def ancestors(self):
        """(T, T) bool: row t is true at t and at every ancestor of t."""
        seen = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents[1:], start=1):
            seen[node] |= seen[parent]
        return torch.from_numpy(seen)


def pack_rows(lengths, tokens_per_row, attention_par):
    """Distribute trees over rows: lists of indices into `lengths`, each row's in order.

    Rows hold at most tokens_per_row tokens (a longer tree has one to itself). Among the numbers of rows that this allows,
    the one that costs least, padding and the longer rows' attention included; attention_par is the length of row at which
    attention costs as much as all the rest (`model.attention_par`). Trees go longest first onto the shortest
    row, whose balance is within 4/3 of the best (Graham 1969).
    """
    best, least = None, float("inf")
    for number in range(len(lengths), 0, -1):
        rows, used = [[] for _ in range(number)], [0] * number
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            row = used.index(min(used))
            rows[row].append(index)
            used[row] += lengths[index]
        if any(len(row) > 1 and total > tokens_per_row for row, total in zip(rows, used)):
            break  # fewer rows are fuller still
        cost = number * max(used) * (1 + max(used) / attention_par)
        if cost < least:
            best, least = rows, cost
    return sorted(sorted(row) for row in best)


def batch_trees(rows, pad_token_id):
    """Lay out B rows (lists of trees) of T tokens, padded on the right.

    Returns a dict of `input_ids` (B, T) int64; `labels` (B, T) int64 with IGNORE_INDEX on everything unsupervised;
    `depths`, `anchors` and `tree_index` (B, T) int64, the last counting the N trees row by row; and `prefix_ids` (N, P)
    int64. What a token sees is told by `ancestor_mask` or `tree_attention.tree_layout`.
    """
    trees, numbers = [tree for row in rows for tree in row], count()
    length = max(sum(map(len, row)) for row in rows)

    def padded(values_of, value):
        lists = [[item for tree in row for item in values_of(tree)] for row in rows]
        return torch.tensor([items + [value] * (length - len(items)) for items in lists])

    longest = max(tree.root for tree in trees) + 1
    return {
        "input_ids": padded(lambda tree: tree.input_ids, pad_token_id),
        "labels": padded(lambda tree: tree.labels, IGNORE_INDEX),
        "depths": padded(lambda tree: tree.depths, 0),
        "anchors": padded(lambda tree: tree.anchors, 0),
        "tree_index": padded(lambda tree: [next(numbers)] * len(tree), 0),
        "prefix_ids": torch.tensor([(tree.input_ids[: tree.root + 1] + [pad_token_id] * longest)[:longest] for tree in trees]),
    }


def ancestor_mask(rows):
    """(B, 1, T, T) bool, true where row attends to column. Padding attends to itself alone: a softmax over nothing is NaN."""
    length = max(sum(map(len, row)) for row in rows)
    mask = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1, 1)
    for number, row in enumerate(rows):
        start = 0
        for tree in row:
            end = start + len(tree)
            mask[number, 0, start:end, start:end] = tree.ancestors()
            start = end
    return mask


def tree_position_ids(prefix_positions, batch):
    """(3, B, T) int64 M-RoPE positions of a batch of trees: a branch token's is that of the prefix's last token plus its depth.

    prefix_positions: (3, N, P) int64 from the model's own `get_rope_index` over `prefix_ids`; a prefix ends in a text token.
    """
    return prefix_positions[:, batch["tree_index"], batch["anchors"]] + batch["depths"]


def supervised_parents(labels):
    """(B, T) bool: true at the token before each supervised one, whose logits predict it. For `logits_to_keep`."""
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = labels[:, 1:] != IGNORE_INDEX
    return keep
