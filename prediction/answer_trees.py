"""The forward passes of prediction: under each question hangs a tree of answers, and the model reads it as it grows.

The first pass reads image prefixes, questions and all of the answer trees that is wanted by then; what is wanted later is
read against the KV cache, where a token sees its image's prefix, its own question and its own earlier tokens. So a trie of
candidates takes one pass, beams need no copies of the cache, and a trie over the token budget is read in pieces with the
same results. Tree attention for verifying guesses is that of SpecInfer (Miao et al. 2023).

Shapes: B images, T tokens of the first pass, W of a later one, N places, H hidden size, V vocabulary.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import linear

from model.forward import autocast_of_training, base_model, tree_inputs

LOGITS_AT_ONCE = 1 << 26  # 256 MiB in float32: 441 positions of a 152k vocabulary
WEIGHTS_AT_ONCE = 1 << 25  # of lm_head, converted to float32


class Place:
    """A place in the tree of answers under one question: what is said so far, and how likely each next token is.

    state: where the constraint stands (a TokenNode), None where any token may come. scores: {token: log-probability given
    all before} once the model has read the place; free places score their likeliest token only. columns: cache columns of
    the answer so far, below the question's own.
    """

    def __init__(self, state, token=None, parent=None):
        self.state, self.token, self.parent = state, token, parent
        self.root = parent.root if parent else self
        self.depth = parent.depth + 1 if parent else 0
        self.children, self.scores, self.columns = {}, None, None

    def child(self, token):
        """The place that `token` leads to. Raises KeyError where the constraint forbids it."""
        if token not in self.children:
            self.children[token] = Place(self.state and self.state.children[token], token, self)
        return self.children[token]

    def path(self):
        """The places of the answer so far, below the question: in a loop, for it may be longer than Python's stack is deep."""
        places, place = [], self
        while place.parent:
            places.append(place)
            place = place.parent
        return places[::-1]

    @cached_property
    def logprob(self):
        """Log-probability of the answer so far; its parent has to be read."""
        return sum(place.parent.scores[place.token] for place in self.path())

    @property
    def ids(self):
        """Tokens of the answer so far."""
        return [place.token for place in self.path()]


class Question(Place):
    """The root of an answer tree: a question's last token, which the first pass reads.

    row: its image in the batch. node: its index in the image's token tree.
    """

    def __init__(self, row, node, state):
        super().__init__(state)
        self.row, self.node, self.columns = row, node, []


class AnswerTrees:
    """The answer trees under all questions of a batch of images.

    items: the dataset's items, whose token trees the first pass grows. questions: their `Question`s. tokens_per_row: a pass
    reads at most so many tokens an image, and never more than it must beyond that.
    """

    def __init__(self, model, dataset, items, questions, tokens_per_row):
        self.model, self.dataset, self.items, self.questions = base_model(model), dataset, items, questions
        self.tokens_per_row, self.cache = tokens_per_row, None

    @torch.no_grad()
    def read(self, places):
        """Let the model read `places` (parents before their children) and fill in their scores."""
        waiting = [[] for _ in self.items]
        for place in places:
            waiting[place.root.row].append(place)
        while self.cache is None or any(waiting):
            first = self.cache is None
            room = [max(self.tokens_per_row - len(item["tree"]) * first, not first) for item in self.items]
            taken = [row[:number] for row, number in zip(waiting, room)]
            waiting = [row[number:] for row, number in zip(waiting, room)]
            (self._first_pass if first else self._next_pass)(taken)

    def _first_pass(self, taken):
        """Prefixes, questions and `taken` (lists of places by image) in one forward."""
        for item, places in zip(self.items, taken):
            for place in places:
                parent = place.parent.columns[-1] if place.parent.columns else place.root.node
                place.columns = [*place.parent.columns, item["tree"].grow(parent, [place.token])]
        batch = self.dataset.collate(self.items)
        places = [place for row in taken for place in row]
        rows, nodes = [question.row for question in self.questions], [question.node for question in self.questions]
        all_rows, all_nodes = rows + [place.root.row for place in places], nodes + [place.columns[-1] for place in places]
        inputs = tree_inputs(self.model, batch)
        read = torch.tensor(all_rows) * batch["input_ids"].shape[1] + torch.tensor(all_nodes)
        output = self._forward(**inputs, read=read.to(self.model.device))
        self.cache = output.past_key_values
        self.seen = batch["attention_mask"][rows, 0, nodes].numpy()  # (questions, T): the columns of each one's prompt
        for index, (question, position) in enumerate(zip(self.questions, inputs["position_ids"][0, rows, nodes].tolist())):
            question.index, question.position = index, position
        self._score(output.last_hidden_state[all_rows, all_nodes], self.questions + places)

    def _next_pass(self, taken):
        """`taken` against the cache, each image's places in W new columns of its row."""
        past, width = self.cache.get_seq_length(), max(map(len, taken))
        input_ids = np.full((len(taken), width), self.dataset.processor.tokenizer.pad_token_id)
        positions = np.zeros((len(taken), width), int)
        mask = np.zeros((len(taken), 1, width, past + width), bool)
        mask[:, 0, range(width), range(past, past + width)] = True  # padding attends to itself alone
        for row, places in enumerate(taken):
            for column, place in enumerate(places):
                place.columns = [*place.parent.columns, past + column]
                input_ids[row, column], positions[row, column] = place.token, place.root.position + place.depth
                mask[row, 0, column, : self.seen.shape[1]] = self.seen[place.root.index]
                mask[row, 0, column, place.columns] = True
        put = lambda array: torch.from_numpy(array).to(self.model.device)
        inputs = {"input_ids": put(input_ids), "position_ids": put(positions).expand(3, -1, -1), "attention_mask": put(mask)}
        output = self._forward(**inputs, past_key_values=self.cache)
        where = [(row, column) for row, places in enumerate(taken) for column in range(len(places))]
        rows, columns = zip(*where)
        self._score(output.last_hidden_state[list(rows), list(columns)], [place for places in taken for place in places])

    def _forward(self, **inputs):
        with autocast_of_training(self.model):
            return self.model.model(**inputs, use_cache=True)

    def _score(self, hidden, places):
        """Fill in the scores of `places` from their hidden states (N, H): log-softmax over the vocabulary in float32."""
        lm_head = self.model.get_output_embeddings()
        at_once = max(1, LOGITS_AT_ONCE // lm_head.weight.shape[0])
        for at in range(0, len(places), at_once):
            some = places[at : at + at_once]
            logits = float32_logits(lm_head, hidden[at : at + at_once])  # (n, V)
            likeliest = logits.argmax(-1).tolist() if any(place.state is None for place in some) else [None] * len(some)
            tokens = [sorted(place.state.children) if place.state else [best] for place, best in zip(some, likeliest)]
            width = max(map(len, tokens))
            index = torch.tensor([ids + ids[-1:] * (width - len(ids)) for ids in tokens], device=logits.device)
            scores = (logits.gather(1, index) - logits.logsumexp(-1, keepdim=True)).tolist()
            for place, ids, values in zip(some, tokens, scores):
                place.scores = dict(zip(ids, values))


def float32_logits(lm_head, hidden):
    """Logits (n, V), float32, of hidden states (n, H) in any dtype.

    In bfloat16 logits between 16 and 32 are multiples of 0.125: candidates would tie, and probabilities come in steps of 13 %.
    """
    if lm_head.weight.dtype == torch.float32:
        return lm_head(hidden)
    rows = max(1, WEIGHTS_AT_ONCE // hidden.shape[1])
    logits = torch.empty(len(hidden), len(lm_head.weight), device=hidden.device)
    for part, weights in zip(logits.split(rows, 1), lm_head.weight.split(rows)):
        part.copy_(linear(hidden.float(), weights.float()))
    return logits if lm_head.bias is None else logits.add_(lm_head.bias.float())
