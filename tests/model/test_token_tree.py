"""Flattening trees: exact lists, masks and positions.    python -m pytest tests/model/test_token_tree.py -v"""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.token_tree import IGNORE_INDEX, TokenTree, ancestor_mask, batch_trees, pack_rows, supervised_parents, tree_position_ids


def two_questions():
    tree = TokenTree([10, 11, 12])
    first = tree.grow(tree.root, [20, 21])
    tree.grow(first, [30, 99], supervised=True)
    second = tree.grow(tree.root, [40])
    tree.grow(second, [99], supervised=True)
    return tree


def test_flat_lists():
    tree = two_questions()
    assert tree.input_ids == [10, 11, 12, 20, 21, 30, 99, 40, 99]
    assert tree.parents == [-1, 0, 1, 2, 3, 4, 5, 2, 7]
    assert tree.depths == [0, 0, 0, 1, 2, 3, 4, 1, 2]
    assert tree.labels == [-100, -100, -100, -100, -100, 30, 99, -100, 99]
    assert tree.path(6) == [0, 1, 2, 3, 4, 5, 6] and tree.path(8) == [0, 1, 2, 7, 8]


def test_a_branch_sees_the_prefix_and_itself_only():
    expected = [
        "100000000",
        "110000000",
        "111000000",
        "111100000",
        "111110000",
        "111111000",
        "111111100",
        "111000010",
        "111000011",
    ]
    assert two_questions().ancestors().int().tolist() == [[int(cell) for cell in row] for row in expected]


def test_batch_pads_on_the_right_and_padding_sees_only_itself():
    short = TokenTree([10, 11])
    short.grow(short.root, [99], supervised=True)
    rows = [[two_questions()], [short]]
    batch = batch_trees(rows, pad_token_id=7)
    assert batch["input_ids"][1].tolist() == [10, 11, 99, 7, 7, 7, 7, 7, 7]
    assert batch["labels"][1].tolist() == [IGNORE_INDEX, IGNORE_INDEX, 99] + [IGNORE_INDEX] * 6
    assert batch["depths"][1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    mask = ancestor_mask(rows)[1, 0].int()
    assert mask[2].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert torch.equal(mask[3:], torch.eye(9, dtype=torch.int)[3:])


def small_tree(prefix, branches):
    tree = TokenTree(prefix)
    for ids in branches:
        tree.grow(tree.root, ids)
    return tree


def test_several_trees_in_a_row_do_not_see_each_other():
    rows = [[small_tree([1, 2], [[3]]), small_tree([4], [[5], [6]])], [small_tree([7, 8, 9], [[1]])]]
    batch = batch_trees(rows, pad_token_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 0, 0]]
    assert batch["depths"].tolist() == [[0, 0, 1, 0, 1, 1], [0, 0, 0, 1, 0, 0]]
    assert batch["anchors"].tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 2, 2, 0, 0]]
    assert batch["tree_index"].tolist() == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 0, 0]]
    assert batch["prefix_ids"].tolist() == [[1, 2, 0], [4, 0, 0], [7, 8, 9]]
    expected = ["100000", "110000", "111000", "000100", "000110", "000101"]
    assert ancestor_mask(rows)[0, 0].int().tolist() == [[int(cell) for cell in row] for row in expected]


def test_positions_start_anew_in_every_branch_and_tree():
    batch = batch_trees([[two_questions(), small_tree([4], [[5], [6, 7]])]], pad_token_id=0)
    prefix_positions = torch.tensor([[[0, 1, 5], [0, 9, 9]], [[0, 3, 5], [8, 9, 9]], [[0, 2, 5], [0, 9, 9]]])
    positions = tree_position_ids(prefix_positions, batch)
    assert positions[0, 0].tolist() == [0, 1, 5, 6, 7, 8, 9, 6, 7] + [0, 1, 1, 2]
    assert positions[1, 0].tolist() == [0, 3, 5, 6, 7, 8, 9, 6, 7] + [8, 9, 9, 10]


def test_packing_of_hand_computed_cases():
    assert pack_rows([5, 5, 5, 5], 100, 1000) == [[0], [1], [2], [3]]  # nothing to gain: the shortest attention
    assert pack_rows([9, 3, 5], 9, 1000) == [[0], [1, 2]]
    assert pack_rows([4, 5], 9, 1000) == [[0, 1]]  # which fill it
    assert pack_rows([9, 3, 5], 7, 1000) == [[0], [1], [2]]  # 9 is longer than a row and has one to itself; 3 + 5 don't fit
    assert pack_rows([6, 1, 1, 1, 1, 1, 1], 100, 1000) == [[0], [1, 2, 3, 4, 5, 6]]
    assert pack_rows([10, 9, 9], 100, 1000) == [[0, 1, 2]]  # saves 2 tokens of 30 …
    assert pack_rows([10, 9, 9], 100, 100) == [[0], [1], [2]]  # … at more attention than that in a narrow model


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=12), st.integers(1, 4096))
def test_packing_keeps_every_tree_within_the_limit_and_never_costs_more(lengths, limit):
    rows = pack_rows(lengths, limit, 32_000)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    totals = [sum(lengths[index] for index in row) for row in rows]
    assert all(len(row) == 1 or total <= limit for row, total in zip(rows, totals))
    cost = lambda count, longest: count * longest * (1 + longest / 32_000)
    assert cost(len(rows), max(totals)) <= cost(len(lengths), max(lengths))


def test_logits_are_kept_before_every_supervised_token():
    labels = torch.tensor([two_questions().labels])
    assert supervised_parents(labels)[0].nonzero()[:, 0].tolist() == [4, 5, 7]
    assert [two_questions().parents[node] for node in (5, 6, 8)] == [4, 5, 7]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 4)), max_size=12))
def test_every_token_sees_exactly_its_path(chains):
    tree = TokenTree([1, 2])
    for parent, length in chains:
        tree.grow(max(tree.root, parent % len(tree)), [3] * length)
    mask = tree.ancestors()
    for node in range(len(tree)):
        assert mask[node].nonzero()[:, 0].tolist() == tree.path(node)
        assert tree.depths[node] == max(0, len(tree.path(node)) - 2)
