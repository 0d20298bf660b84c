"""What each of several processes computes of an optimizer step: an equal share of its tokens, and every question once.

A step's images are those that one process would take, and its loss is a sum over answer tokens, so it doesn't matter to the
gradient who computes which; but all wait for the busiest. Images go longest first to whoever has least (Graham 1969), as many to
each, and are swapped while that helps. Where too few images are left to be even, some of an image's questions go to another process,
which computes that image, too.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: torchrun --nproc_per_node=2 train_exp1.py")

from functools import partial
from itertools import chain
from statistics import mean

from accelerate.data_loader import DataLoaderShard
from transformers.trainer_utils import seed_worker

from dataset import Part

EVEN = 0.02  # enough: nothing is exchanged any more
UNEVEN = 0.1  # of the busiest process's tokens: from here on questions of an image go to another process
LOOKED_AT = 100  # steps, for the line at the start


def shared_loader(dataset, args):
    """The DataLoader of one process's micro-batches. args: TrainingArguments."""
    return DataLoaderShard(
        dataset,
        batch_sampler=Shares(dataset, args.world_size, args.process_index),
        collate_fn=dataset.collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
    )


class Shares:
    """The micro-batches (lists of dataset.Part) of one of several processes in an epoch, as a batch sampler; `dataset.set_epoch` first."""

    def __init__(self, dataset, processes, process=0):
        self.dataset, self.processes, self.process = dataset, processes, process
        self.batch_size = dataset.cfg.train.train_bs

    def __len__(self):
        return sum(map(self._micro_batches, self._steps()))

    def __iter__(self):
        for step in range(len(self._steps())):
            yield from self.of_step(step)[self.process]

    def _steps(self):
        groups, size = self.dataset.groups, self.dataset.images_per_step
        return [groups[at : at + size] for at in range(0, len(groups), size)]

    def _micro_batches(self, groups):
        """How many a process has in a step: all the same, for they meet after each step."""
        return -(-len(groups) // (self.batch_size * self.processes))

    def of_step(self, number):
        """[[micro-batch]] by process. The first step of a training is not evened out: one process has its longest images together, as
        no later one will, so that memory that doesn't suffice is known at once."""
        groups = self._steps()[number]
        count = self._micro_batches(groups)
        if number == 0 and self.dataset.epoch == 0:
            chunks = [groups[at : at + self.batch_size] for at in range(0, len(groups), self.batch_size)]
            shares = [chunks[process :: self.processes] for process in range(self.processes)]
        else:
            shares = [self._chunks(*share, count) for share in share_step(groups, self.dataset, self.processes)]
        shortest = min(chain.from_iterable(groups), key=lambda row: self.dataset.count_tokens([row]))
        filler = [Part([shortest], counts=False)]
        parts = lambda rows: [Part(rows) for rows in rows]
        return [[parts(chunk) or filler for chunk in [*chunks, *[[]] * (count - len(chunks))]] for chunks in shares]

    def _chunks(self, whole, pieces, count):
        """A process's images in micro-batches, those of a length together; pieces of others' images where there is most room."""
        whole = sorted(whole, key=self.dataset.count_tokens)
        chunks = [whole[len(whole) * at // count : len(whole) * (at + 1) // count] for at in range(count)]
        for rows in pieces:
            min(chunks, key=self._tokens).append(rows)
        return chunks

    def _tokens(self, groups):
        return sum(map(self.dataset.count_tokens, groups))

    def describe(self):
        """One line: how evenly the whole steps of this epoch are shared."""
        last = len(self._steps()) if len(self.dataset) % self.dataset.images_per_step == 0 else len(self._steps()) - 1
        steps = range(self.dataset.epoch == 0, min(last, LOOKED_AT))
        found = [
            unevenness([self._tokens(rows for rows, counts in chain(*share) if counts) for share in self.of_step(step)]) for step in steps
        ]
        if not found:
            return ""
        return (
            f"the {self.processes} processes share a step by tokens: the idlest has {mean(found):.1%} fewer than the busiest on average, "
            f"{max(found):.1%} at most (of {len(found)} whole steps after the first, which tries the memory)"
        )


def unevenness(totals):
    """By how much the least of totals falls short of the largest, as a share of that."""
    return 1 - min(totals) / max(totals)


def share_step(groups, dataset, processes):
    """[(whole images' rows, rows of pieces of others' images)] by process; each row of groups once."""
    lengths = list(map(dataset.count_tokens, groups))
    shares = [{index: groups[index] for index in share} for share in swapped(lengths, dealt(lengths, processes))]
    pieces = [{} for _ in shares]
    _move_questions(shares, pieces, dataset)
    return [(list(share.values()), list(piece.values())) for share, piece in zip(shares, pieces)]


def dealt(lengths, processes):
    """[[index]] by process: longest first to whoever has least, and to each as many, or one less."""
    shares, totals = [[] for _ in range(processes)], [0] * processes
    most = -(-len(lengths) // processes)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        at = min((at for at in range(processes) if len(shares[at]) < most), key=totals.__getitem__)
        shares[at].append(index)
        totals[at] += lengths[index]
    return shares


def swapped(lengths, shares):
    """The shares after images of the busiest process, and of the idlest, were exchanged with others' as long as that evens out two,
    and all are not EVEN yet."""
    totals = [sum(lengths[index] for index in share) for share in shares]
    while True:
        busiest, idlest = totals.index(max(totals)), totals.index(min(totals))
        pairs = {(busiest, at) for at in range(len(shares))} | {(at, idlest) for at in range(len(shares))}
        exchanges = [
            (less * (totals[more] - totals[other] - less), more, other, mine, theirs, less)  # half of what the squares' sum falls by
            for more, other in pairs
            for mine in shares[more]
            for theirs in (shares[other] if other != more else ())
            if 0 < (less := lengths[mine] - lengths[theirs]) < totals[more] - totals[other]
        ]
        if not exchanges or unevenness(totals) < EVEN:
            return shares
        _, more, other, mine, theirs, less = max(exchanges)
        shares[more][shares[more].index(mine)], shares[other][shares[other].index(theirs)] = theirs, mine
        totals[more], totals[other] = totals[more] - less, totals[other] + less


def _move_questions(shares, pieces, dataset):
    """Move questions from the busiest process to the idlest while they are UNEVEN and the busiest gets less to do than before.

    shares, pieces: {number of an image: rows} by process, of whole images and of questions that were moved.
    """
    held = lambda at: [*shares[at].values(), *pieces[at].values()]
    totals = [sum(map(dataset.count_tokens, held(at))) for at in range(len(shares))]
    while unevenness(totals) > UNEVEN:
        busiest, idlest = totals.index(max(totals)), totals.index(min(totals))
        moves = []
        for index, rows in shares[busiest].items():
            prefix = 0 if index in pieces[idlest] else dataset.prefix_length(rows[0])
            for kept, less in _cuts(rows, dataset, (totals[busiest] - totals[idlest] - prefix) / 2):
                moves.append((max(totals[busiest] - less, totals[idlest] + prefix + less), index, kept, less, prefix))
        most, index, kept, less, prefix = min(moves, default=(max(totals), *[None] * 4))
        if most >= max(totals):
            return
        rows = shares[busiest][index]
        shares[busiest][index], pieces[idlest][index] = rows[:kept], [*pieces[idlest].get(index, []), *rows[kept:]]
        totals[busiest], totals[idlest] = totals[busiest] - less, totals[idlest] + prefix + less


def _cuts(rows, dataset, wanted):
    """(rows that are kept, tokens of the questions after them) where an image's questions are cut to give away about so many tokens:
    the cuts on both sides of that. One question is kept and one given away, at least."""
    given, cuts = 0, []
    for kept in range(len(rows) - 1, 0, -1):
        given += sum(map(len, dataset.encoded[rows[kept]["id"]]))
        cuts.append((kept, given))
        if given >= wanted:
            break
    return cuts[-2:]
