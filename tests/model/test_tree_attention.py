"""Tree attention: the pairs it computes, and the same numbers as a dense mask.    python -m pytest tests/model/test_tree_attention.py -v"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.token_tree import TokenTree, ancestor_mask, batch_trees
from model.tree_attention import branch_mask, chain_mask, dense_mask, tree_attention, tree_layout


def tree(prefix, branches):
    grown = TokenTree(range(prefix))
    for length in branches:
        grown.grow(grown.root, range(length))
    return grown


def row_length(rows):
    return max(sum(map(len, row)) for row in rows)


def test_layout_of_two_rows():
    rows = [[tree(2, [1, 2]), tree(1, [1])], [tree(3, [2])]]  # 5 + 2 tokens; 5 tokens and 2 of padding
    layout = tree_layout(rows, 7)
    assert layout["prefix_index"].tolist() == [[0, 1, 0], [5, 5, 5], [7, 8, 9]] and layout["prefix_lengths"].tolist() == [2, 1, 3]
    assert layout["branch_index"].tolist() == [[2, 2], [3, 4], [6, 6], [10, 11]] and layout["branch_tree"].tolist() == [0, 0, 1, 2]
    # prefixes take places 0-2, 3-5, 6-8; branches 9-10, 11-12, 13-14, 15-16
    assert layout["place"].tolist() == [0, 1, 9, 11, 12, 3, 13] + [6, 7, 8, 15, 16, -1, -1]
    assert branch_mask(layout)[2, 0].int().tolist() == [[1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]


trees = st.builds(tree, st.integers(1, 6), st.lists(st.integers(1, 5), min_size=1, max_size=4))
all_rows = st.lists(st.lists(trees, min_size=1, max_size=3), min_size=1, max_size=3)


@given(all_rows)
def test_a_token_sees_its_ancestors_and_padding_nothing(rows):
    length = row_length(rows)
    expected = ancestor_mask(rows)[:, 0]
    for number, row in enumerate(rows):
        expected[number, sum(map(len, row)) :] = False
    assert torch.equal(dense_mask(tree_layout(rows, length), len(rows)), expected)


@given(all_rows)
def test_the_mask_of_a_gpu_says_the_same_of_every_token_and_hides_all_of_none(rows):
    batch = batch_trees(rows, 0)
    mask = chain_mask(batch["depths"], batch["tree_index"], torch.bfloat16)
    assert mask.dtype == torch.bfloat16 and mask.stride(-2) % 16 == 0 and set(mask.unique().tolist()) <= {0.0, -torch.inf}
    real = torch.tensor([[column < sum(map(len, row)) for column in range(row_length(rows))] for row in rows])
    assert torch.equal((mask[:, 0] == 0)[real], ancestor_mask(rows)[:, 0][real])
    assert (mask == 0).any(-1).all()


def test_gradients_of_a_prefix_are_summed_in_float32():
    """1 + 256 times 1/256 is 2; added one by one in bfloat16 it stays 1."""
    values = torch.zeros(1, 1, 258, 8, dtype=torch.bfloat16, requires_grad=True)  # keys and queries alike: a branch sees its prefix by half
    layout = tree_layout([[tree(1, [1] * 257)]], 258)
    layout |= {"mask": branch_mask(layout), "rows": 1}
    weights = torch.full((1, 258, 1, 1), 2 / 256, dtype=torch.bfloat16)
    weights[0, :2] = torch.tensor([0, 2])[:, None, None]
    alike = torch.zeros(1, 1, 258, 8, dtype=torch.bfloat16)
    layer = Layer()
    layer.num_key_value_groups = 1
    (tree_attention(layer, alike, alike, values, None, layout=layout)[0] * weights).sum().backward()
    assert values.grad[0, 0, 0].tolist() == [2.0] * 8


class Layer(torch.nn.Module):
    num_key_value_groups = 2
    is_causal = True


@settings(max_examples=30, deadline=None)
@given(all_rows, st.integers(0, 9))
def test_outputs_and_gradients_are_those_of_a_dense_mask(rows, seed):
    """Grouped heads (4 for queries, 2 for keys), float64, at every real token."""
    length = row_length(rows)
    layout = tree_layout(rows, length)
    layout |= {"mask": branch_mask(layout), "rows": len(rows)}
    generator = torch.Generator().manual_seed(seed)
    draw = lambda heads: torch.randn(len(rows), heads, length, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    inputs = draw(4), draw(2), draw(2)
    real = (layout["place"] >= 0).view(len(rows), length)
    dense = tree_attention(Layer(), *inputs, ancestor_mask(rows), scaling=0.3)[0]
    packed = tree_attention(Layer(), *inputs, None, layout=layout, scaling=0.3)[0]
    assert packed.shape == dense.shape == (len(rows), length, 4, 8)
    assert torch.allclose(packed[real], dense[real], atol=1e-12)
    weight = torch.randn(dense.shape, generator=generator, dtype=torch.float64) * real[..., None, None]
    for one, other in zip(torch.autograd.grad((packed * weight).sum(), inputs), torch.autograd.grad((dense * weight).sum(), inputs)):
        assert torch.allclose(one, other, atol=1e-12)


def test_without_a_layout_it_is_sdpa():
    query, key, value = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), mask)
    assert torch.allclose(tree_attention(Layer(), query, key, value, mask)[0], expected.transpose(1, 2), atol=1e-6)
