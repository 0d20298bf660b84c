"""What several processes compute of a step: even shares, every question once, the gradient of one process.

python -m pytest tests/training/test_shares.py -v
"""

import random
from collections import Counter
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from conftest import make_experiment, random_model, with_random_lora

from dataset import Part, load_dataset
from model.forward import answer_loss, training_inputs
from model.token_tree import IGNORE_INDEX
from training.shares import Shares, _cuts, shared_loader, unevenness


class Lengths(SimpleNamespace):
    """As much of a VQADataset as shares look at: lengths like Kvasir-VQA's, 1 to 20 questions about images of several sizes."""

    def __init__(self, steps, processes, images, rest=0, seed=0):
        rng, per_step = random.Random(seed), processes * images
        self.groups = [[{"id": f"{n}.{q}", "image": n} for q in range(rng.randint(1, 20))] for n in range(steps * per_step + rest)]
        self.encoded = {row["id"]: ([0] * rng.randint(25, 60), [0] * rng.randint(2, 12)) for rows in self.groups for row in rows}
        self.prefixes = [rng.choice([104, 174, 280, 280]) for _ in self.groups]
        self.images_per_step, self.epoch, self.cfg = per_step, 1, SimpleNamespace(train=SimpleNamespace(train_bs=images))

    def __len__(self):
        return len(self.groups)

    def prefix_length(self, row):
        return self.prefixes[row["image"]]

    def count_tokens(self, rows):
        return self.prefix_length(rows[0]) + sum(len(ids) for row in rows for ids in self.encoded[row["id"]])


def totals(data, step):
    """Tokens by process."""
    return [sum(data.count_tokens(part.rows) for part in chain(*share) if part.counts) for share in step]


def rows_of(step):
    return Counter(row["id"] for share in step for batch in share for part in batch if part.counts for row in part.rows)


@pytest.mark.parametrize(("images", "processes"), [(4, 2), (4, 4), (4, 8), (8, 2)])
def test_from_four_images_a_process_shares_differ_by_a_tenth_at_most(images, processes):
    """As many images to each, so none is computed twice."""
    data = Lengths(30, processes, images)
    steps = [Shares(data, processes).of_step(number) for number in range(30)]
    assert max(unevenness(totals(data, step)) for step in steps) <= 0.1
    assert {len(batch) for step in steps for share in step for batch in share} == {images}


@pytest.mark.parametrize(("images", "processes"), [(1, 2), (1, 4), (2, 4), (2, 8)])
def test_fewer_images_are_evened_out_by_moving_questions(monkeypatch, images, processes):
    """The busiest never has more than with whole images, although a moved question costs its image once more."""
    data = Lengths(30, processes, images)
    moved = [totals(data, Shares(data, processes).of_step(number)) for number in range(30)]
    monkeypatch.setattr("training.shares.UNEVEN", 1.0)
    whole = [totals(data, Shares(data, processes).of_step(number)) for number in range(30)]
    assert all(max(some) <= max(others) for some, others in zip(moved, whole))
    assert sum(map(unevenness, moved)) < 0.8 * sum(map(unevenness, whole)) and sum(map(max, moved)) < 0.99 * sum(map(max, whole))


@pytest.mark.parametrize(("images", "processes", "accum", "rest"), [(1, 4, 1, 3), (2, 2, 1, 1), (2, 4, 2, 5), (3, 2, 1, 5), (4, 8, 1, 2)])
def test_an_epoch_has_every_question_once_and_every_process_as_many_micro_batches(images, processes, accum, rest):
    data = Lengths(3, processes, images * accum, rest)
    data.cfg.train.train_bs = images
    shares = [Shares(data, processes, process) for process in range(processes)]
    epoch = [list(share) for share in shares]
    assert {len(share) for share in shares} == {len(batches) for batches in epoch} == {3 * accum + -(-rest // (images * processes))}
    assert rows_of([epoch[process] for process in range(processes)]) == Counter(list(data.encoded)), "none twice, none left out"
    assert all(batch for batches in epoch for batch in batches), "a process without work computes along, uncounted"
    for number in range(4):  # a step's images are those that one process takes
        expected = Counter(row["id"] for rows in data.groups[number * data.images_per_step :][: data.images_per_step] for row in rows)
        assert rows_of(shares[0].of_step(number)) == expected
    assert epoch == [list(Shares(data, processes, process)) for process in range(processes)], "the same again"


@pytest.mark.parametrize(
    ("wanted", "cuts"),
    [
        (1, [(4, 5)]),  # the last question alone is more
        (5, [(4, 5)]),
        (6, [(4, 5), (3, 9)]),
        (10, [(3, 9), (2, 12)]),
        (12, [(3, 9), (2, 12)]),
        (13, [(2, 12), (1, 14)]),
        (99, [(2, 12), (1, 14)]),  # the first question stays
    ],
)
def test_an_image_is_cut_on_both_sides_of_what_is_to_be_given_away(wanted, cuts):
    lengths = [1, 2, 3, 4, 5]
    data = SimpleNamespace(encoded={number: ([0] * (length - 1), [0]) for number, length in enumerate(lengths)})
    assert _cuts([{"id": number} for number in range(5)], data, wanted) == cuts
    assert _cuts([{"id": 0}], data, wanted) == [], "one question is not parted"


def test_the_first_step_of_a_training_has_its_longest_images_together():
    data = Lengths(2, 4, 4)
    data.groups = [*sorted(data.groups[:16], key=data.count_tokens), *data.groups[16:]]
    data.epoch = 0
    heaviest = sum(map(data.count_tokens, data.groups[12:16]))
    assert max(totals(data, Shares(data, 4).of_step(0))) == heaviest and unevenness(totals(data, Shares(data, 4).of_step(1))) <= 0.1
    assert "(of 1 whole steps after the first" in Shares(data, 4).describe()
    data.epoch = 1
    assert max(totals(data, Shares(data, 4).of_step(0))) < 0.8 * heaviest


def gradients(model, data, batches):
    """(sum of losses over answer tokens, LoRA gradients) of micro-batches, and what each counted; as the Trainer sums them."""
    model.zero_grad()
    loss, counts = 0.0, torch.zeros(4, dtype=torch.long)
    for parts in batches:
        batch = data.collate([data[part] for part in parts])
        part = answer_loss(model(**training_inputs(model, batch)), batch["labels"], num_items_in_batch=100)
        part.backward()
        loss, counts = loss + float(part.detach()), counts + batch["counts"]
        idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
        assert not idle, "every process has every gradient, be it zero: they are summed"
    return loss, torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.requires_grad]), counts


@pytest.mark.parametrize(("processes", "epoch"), [(2, 1), (4, 1), (3, 0)])
def test_the_processes_of_a_last_step_have_the_gradient_of_one(tmp_path, processes, epoch):
    """Four images of 1, 3, 5 and 9 questions, questions moved, and in the last case processes that have nothing left to do."""
    from model.load import load_processor

    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9), **{"train.train_bs": 2, "train.grad_accum": 1})
    data = load_dataset(rows, load_processor(cfg), cfg, training=True, world_size=processes)
    data.set_epoch(epoch)
    if processes == 3:  # one image of one question is left for three
        data.groups = [[row] for rows in data.groups for row in rows][:7]
    model = with_random_lora(random_model(data.processor), cfg.lora)
    per_step = data.images_per_step
    for number in range(-(-len(data.groups) // per_step)):
        groups = data.groups[number * per_step :][:per_step]
        expected = gradients(model, data, [[Part(rows)] for rows in groups])
        found = [gradients(model, data, share) for share in Shares(data, processes).of_step(number)]
        loss, grad, counts = (sum(values) for values in zip(*found))
        assert loss == pytest.approx(expected[0], rel=1e-5) and torch.allclose(
            grad, expected[1], atol=1e-5 * float(expected[1].abs().max())
        )
        assert counts[0] == expected[2][0] == sum(map(len, groups)), "questions are counted once"
    nothing = data[Part(groups[0][:1], counts=False)]
    assert set(nothing["labels"]) == set(nothing["tree"].labels) == {IGNORE_INDEX} and nothing["rows"] == []


def test_how_evenly_steps_are_shared_is_told_of_whole_ones_after_the_first(monkeypatch):
    """Of an epoch of five whole steps and a rest: four of the first epoch, five of a later one, and three where no more are looked at."""
    data, told = Lengths(5, 4, 4, rest=3), Shares(Lengths(5, 4, 4, rest=3), 4)

    def expected(steps):
        found = [unevenness(totals(data, told.of_step(step))) for step in steps]
        return (
            f"the 4 processes share a step by tokens: the idlest has {sum(found) / len(found):.1%} fewer than the busiest on average, "
            f"{max(found):.1%} at most (of {len(found)} whole steps after the first, which tries the memory)"
        )

    assert told.describe() == expected(range(5))
    told.dataset.epoch = 0
    assert told.describe() == expected(range(1, 5))
    monkeypatch.setattr("training.shares.LOOKED_AT", 3)
    assert told.describe() == expected(range(1, 3))
    assert Shares(Lengths(2, 4, 4), 4).describe().count("(of 2 whole") == 1, "no rest"
    first = Lengths(1, 4, 4, rest=3)
    first.epoch = 0
    assert Shares(first, 4).describe() == "", "there is none after the first"


def test_each_process_loads_its_own_share():
    class Loaded(Lengths):
        def __getitem__(self, part):
            return part

        def collate(self, items):
            return items

    data = Loaded(3, 2, 2, rest=1)
    for process in (0, 1):
        args = SimpleNamespace(world_size=2, process_index=process, dataloader_num_workers=0, dataloader_pin_memory=False)
        assert list(shared_loader(data, args)) == list(Shares(data, 2, process))
