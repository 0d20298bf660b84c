"""Attention over flattened trees that skips the pairs of tokens that can't see each other.   On a GPU: `chain_mask`.

A dense mask over a row computes every pair, and most pairs are of different questions. Here a prefix attends to itself,
and a branch to its prefix and itself: the same sums over the same keys, so the same gradients. Registered with transformers'
`AttentionInterface` as "tree"; without a layout it is sdpa itself. A layout describes trees whose branches are chains, as
in training; prediction, whose branches fork, has dense masks.

The split is that of PrefixGrouper (2025), for any number of trees in a row.

Shapes: B rows, T tokens of a row, N trees, P tokens of the longest prefix, S branches, L tokens of the longest branch.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LAYOUT = ("prefix_index", "prefix_lengths", "branch_index", "branch_tree", "place")


def tree_layout(rows, length):
    """Where prefixes and branches stand in B rows (lists of trees) of `length` = T tokens. Tokens count through: row x T + column.

    prefix_index: (N, P) int64, the tokens of each prefix, and prefix_lengths: (N,) int64. branch_index: (S, L) int64, the
    tokens of each branch, and branch_tree: (S,) int64. Both are padded on the right with their own first token, and no real
    token sees the padding. place: (B x T,) int64, where each token stands in [prefixes, branches] laid end to end; -1 for padding.
    """
    prefixes, branches, branch_tree = [], [], []
    for number, row in enumerate(rows):
        start = number * length
        for tree in row:
            for first, end in tree.branches():
                branches.append(range(start + first, start + end))
                branch_tree.append(len(prefixes))
            prefixes.append(range(start, start + tree.root + 1))
            start += len(tree)
    place, at = torch.full((len(rows) * length,), -1), 0
    for chains in (prefixes, branches):
        longest = max(map(len, chains))
        for chain in chains:
            place[chain.start : chain.stop] = torch.arange(at, at + len(chain))
            at += longest
    pad = lambda chains: torch.tensor([[*chain, *[chain.start] * (max(map(len, chains)) - len(chain))] for chain in chains])
    lengths = torch.tensor([len(chain) for chain in prefixes])
    values = (pad(prefixes), lengths, pad(branches), torch.tensor(branch_tree), place)
    return dict(zip(LAYOUT, values))


def branch_mask(layout):
    """(S, 1, L, P + L) bool: what a branch's tokens see of [their prefix, their branch]."""
    (_, longest_prefix), (count, longest) = layout["prefix_index"].shape, layout["branch_index"].shape
    device = layout["place"].device
    prefix = torch.arange(longest_prefix, device=device) < layout["prefix_lengths"][layout["branch_tree"], None]  # (S, P)
    own = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    return torch.cat([prefix[:, None].expand(-1, longest, -1), own.expand(count, -1, -1)], -1)[:, None]


def chain_mask(depths, tree_index, dtype):
    """(B, 1, T, T) of a float dtype, 0 where a token sees another and -inf elsewhere: what `tree_layout` says, for sdpa.

    depths, tree_index: (B, T) of `token_tree.batch_trees`, of trees whose branches are chains. A token of padding sees others, for
    nobody reads it and a softmax over nothing is NaN.
    """
    rows, length = depths.shape
    branch, place = (depths == 1).cumsum(1), torch.arange(length, device=depths.device)
    same_tree, same_branch = (of[:, :, None] == of[:, None] for of in (tree_index, branch))
    seen = same_tree & (same_branch | (depths == 0)[:, None]) & (place[:, None] >= place)
    in_sixteens = torch.full((rows, 1, length, -(-length // 16) * 16), -torch.inf, dtype=dtype, device=depths.device)
    return in_sixteens[..., :length].masked_fill_(seen[:, None], 0)  # else its kernels copy the mask in every layer


def dense_mask(layout, rows):
    """(B, T, T) bool: the mask that `tree_attention` computes under, for checks. A token of padding sees nothing."""
    keys = torch.cat([layout["prefix_index"][layout["branch_tree"]], layout["branch_index"]], 1)  # (S, P + L)
    seen = torch.zeros(len(layout["place"]), len(layout["place"]), dtype=torch.bool)
    for branch, mask, key in zip(layout["branch_index"], branch_mask(layout)[:, 0], keys):
        for token, visible in reversed(list(zip(branch.tolist(), mask))):  # padding repeats the first token, which has the last word
            seen[token] = False
            seen[token, key[visible]] = True
    for prefix, length in zip(layout["prefix_index"], layout["prefix_lengths"]):
        for end, token in enumerate(prefix[:length].tolist(), start=1):
            seen[token] = False
            seen[token, prefix[:end]] = True
    return torch.stack([block.chunk(rows, 1)[row] for row, block in enumerate(seen.chunk(rows))])


def tree_attention(module, query, key, value, attention_mask, layout=None, **kwargs):
    """An attention function in transformers' form. query: (B, heads, T, d); key, value: (B, key heads, T, d); the dtype is theirs.

    layout: `tree_layout` and "mask", its `branch_mask`; None leaves all to sdpa. Returns ((B, T, heads, d), None).
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    tokens = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]  # (B x T, heads, d)
    query, key, value = (_take(tensor, layout["prefix_index"]) for tensor in tokens)
    # A causal mask hides a prefix's padding, which stands behind it.
    of_prefixes = sdpa_attention_forward(module, query, key, value, None, is_causal=True, **kwargs)
    query, *own = (_take(tensor, layout["branch_index"]) for tensor in tokens)
    ones = torch.nn.functional.one_hot(layout["branch_tree"], len(key)).to(key.dtype)
    key, value = (torch.cat([_of_each_branch(ones, one), other], 2) for one, other in zip((key, value), own))
    of_branches = sdpa_attention_forward(module, query, key, value, layout["mask"], is_causal=False, **kwargs)
    outputs = torch.cat([of_prefixes[0].flatten(0, 1), of_branches[0].flatten(0, 1)])
    rows = layout["rows"]
    return outputs.index_select(0, layout["place"].clamp(min=0)).unflatten(0, (rows, -1)), None


def _take(tokens, index):
    """(tokens, heads, d) at index (chains, length) -> (chains, heads, length, d)."""
    return tokens.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def _of_each_branch(ones, prefixes):
    """(N, heads, P, d) of prefixes -> (S, heads, P, d), each branch's prefix. ones: (S, N), 1 at each branch's own, else 0.

    The product is exact, and so its gradient is one too: a sum over branches in float32 and in a fixed order. That of `index_select`
    adds them on a GPU in their own precision, in the order in which they come.
    """
    return (ones @ prefixes.flatten(1)).view(-1, *prefixes.shape[1:])


AttentionInterface.register("tree", tree_attention)
AttentionMaskInterface.register("tree", sdpa_mask)
