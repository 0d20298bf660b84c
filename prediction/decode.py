"""Answers from the model, all questions of an image against one image prefix.

    exact        a question with candidates: all of them are scored, in one forward pass, and the likeliest is the answer. One
                 that is answered with lists of labels: so are all lists where they are few, else beams through their grammar
    greedy       the same constraints, step by step: the likeliest token that still leads to a valid answer
    allowed_set  the reference: any order of the candidates' tokens, through transformers' `generate`
    free         no constraint

Questions without candidates are answered freely in every mode.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py predict.decoding=exact")

from dataclasses import dataclass
from functools import lru_cache, partial
from heapq import nlargest
from math import exp, inf, log

import torch
from torch.utils.data import DataLoader

from constraints import AllowedTokensLogitsProcessor, CandidateTrie, NumberGrammar, TokenNode, allowed_token_ids
from dataset import encode_candidates, label_set_grammar
from files import leave_signals_to_parent
from model.forward import autocast_of_training, base_model, why_rows_stay_plain
from prediction.answer_trees import AnswerTrees, Question

# Instruct checkpoints come with sampling settings and a repetition penalty that re-ranks answers; none of it belongs here.
GREEDY = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "temperature": None, "top_p": None, "top_k": None}
LOOKAHEAD = 16  # places read ahead of a beam: all beginnings of a next label, which cost one small pass together


@dataclass(frozen=True)
class Plan:
    """How one question is answered. grammar: None where any token may come. lookahead: places read ahead of each beam."""

    decoding: str
    grammar: TokenNode | None = None
    beams: int = 1
    lookahead: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer and how sure the model is of it.

    decoding: how it was found ("exact", "beam", "greedy", "allowed_set" or "free"). logprob: natural logarithm of the
    probability that the unconstrained model says just this; None for allowed_set. cut: a free answer reached the limit before
    EOS. scored: every candidate with its logprob, likeliest first, where all were scored. greedy: what greedy decoding would
    have said, known on the same rows.
    """

    text: str
    decoding: str
    logprob: float | None = None
    cut: bool = False
    scored: tuple = ()
    greedy: str | None = None

    @property
    def constrained(self):
        return self.decoding != "free"

    def probabilities(self):
        """[candidate, its probability among the candidates], likeliest first; empty where not all were scored."""
        total = log_sum(logprob for _, logprob in self.scored)
        return [[text, exp(logprob - total)] for text, logprob in self.scored]

    @property
    def valid_mass(self):
        """Probability that the unconstrained model says any of the candidates."""
        return min(1.0, exp(log_sum(logprob for _, logprob in self.scored))) if self.scored else None


def log_sum(values):
    """log(sum(exp(value))) of any number of floats."""
    values = list(values)
    highest = max(values, default=-inf)
    return highest + log(sum(exp(value - highest) for value in values)) if highest > -inf else -inf


def answer_questions(model, dataset, cfg, decoding, max_new_tokens, batches=None, answer=None):
    """Yield lists of `(row, Answer)` for batches of images of an unsupervised dataset.

    batches: lists of indices into the dataset; by default every predict.batch_size images, in order. answer: `answer_items`, or what
    else answers a batch.
    """
    batches = image_batches(dataset, cfg) if batches is None else batches
    workers = {"num_workers": cfg.train.num_workers, "worker_init_fn": leave_signals_to_parent}
    for items in DataLoader(dataset, batch_sampler=batches, collate_fn=list, **workers):
        rows = [row for item in items for row in item["rows"]]
        yield list(zip(rows, (answer or answer_items)(model, dataset, items, cfg, decoding, max_new_tokens)))


def answer_items(model, dataset, items, cfg, decoding, max_new_tokens):
    """Answers to all questions of some items, in their order. Models whose trees can't be flattened answer through `generate`, greedily
    where an exact answer is wanted."""
    by_trees = answer_by_generate if why_rows_stay_plain(base_model(model).config) else answer_batch
    answer = answer_allowed_set if decoding == "allowed_set" else by_trees
    return answer(model, dataset, items, cfg, decoding, max_new_tokens)


def image_batches(dataset, cfg):
    """Lists of dataset indices, a function of the rows and the configuration alone: another batching changes last bits."""
    return [list(range(at, min(at + cfg.predict.batch_size, len(dataset)))) for at in range(0, len(dataset), cfg.predict.batch_size)]


def split_long_trees(dataset, tokens_per_row):
    """Split images whose questions don't fit into a row into several of the dataset's groups, in order."""
    dataset.groups = [part for rows in dataset.groups for part in split_rows(dataset, rows, tokens_per_row)]


def split_rows(dataset, rows, tokens_per_row):
    """Lists of an image's rows, in order, each of which fits into a row of so many tokens; of one row each where rows stay plain."""
    groups, used = [[]], dataset.prefix_length(rows[0])
    for row in rows:
        length = len(dataset.encoded[row["id"]][0])
        if groups[-1] and (used + length > tokens_per_row or not dataset.shared):
            groups.append([])
            used = dataset.prefix_length(row)
        groups[-1].append(row)
        used += length
    return groups


def answer_batch(model, dataset, items, cfg, decoding, max_new_tokens):
    """Answers to all questions of some items, in their order."""
    rows = [row for item in items for row in item["rows"]]
    plans = [make_plan(dataset.processor.tokenizer, row, cfg, decoding) for row in rows]
    searches = run_searches(model, dataset, items, plans, max_new_tokens, cfg.predict.tokens_per_row)
    return [finish(search, row, dataset.processor.tokenizer, cfg.answer_prefix) for search, row in zip(searches, rows)]


def make_plan(tokenizer, row, cfg, decoding):
    """The Plan of a row."""
    step_by_step = partial(Plan, "greedy") if decoding == "greedy" else partial(Plan, "beam", beams=cfg.predict.beams, lookahead=LOOKAHEAD)
    if decoding == "free":
        return Plan("free")
    if row["answer_candidates"] and row["multi_label"]:
        grammar = label_set_grammar(tokenizer, tuple(row["answer_candidates"]), cfg.answer_prefix)
        few = decoding != "greedy" and grammar.size() <= cfg.predict.exact_sets
        return Plan("exact", grammar) if few else step_by_step(grammar=grammar)
    if row["answer_candidates"]:
        trie = candidate_trie(tokenizer, tuple(row["answer_candidates"]), cfg.answer_prefix)
        return Plan(decoding, trie)
    if cfg.predict.numeric_grammar and row["question_type"] in NumberGrammar.UNITS:
        return step_by_step(grammar=number_grammar(tokenizer, row["question_type"], cfg.answer_prefix))
    return Plan("free")


@lru_cache(1024)
def candidate_trie(tokenizer, candidates, answer_prefix=""):
    return CandidateTrie(encode_candidates(tokenizer, candidates, answer_prefix))


@lru_cache(8)
def number_grammar(tokenizer, question_type, answer_prefix=""):
    return NumberGrammar(
        lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], question_type, tokenizer.eos_token, answer_prefix
    )


def run_searches(model, dataset, items, plans, max_new_tokens, tokens_per_row):
    """A finished Search for each question of the items. plans: their Plans, in order."""
    eos_token_id = dataset.processor.tokenizer.eos_token_id
    leaves = [(row, leaf) for row, item in enumerate(items) for leaf in item["leaves"]]
    questions = [Question(row, leaf, plan.grammar) for (row, leaf), plan in zip(leaves, plans, strict=True)]
    searches = [Search(question, plan, eos_token_id, max_new_tokens) for question, plan in zip(questions, plans)]
    trees = AnswerTrees(model, dataset, items, questions, tokens_per_row)
    trees.read([place for search in searches for place in search.unfold(search.question)[1:]])
    while places := [place for search in searches for place in search.advance()]:
        trees.read(places)
    return searches


class Search:
    """The search for one question's answer among what its plan allows.

    The beam holds the likeliest answers, finished or not, until the likeliest is finished: no other can overtake it, because
    probabilities only fall as an answer grows. One beam is greedy decoding.
    """

    def __init__(self, question, plan, eos_token_id, max_new_tokens):
        self.question, self.plan, self.eos_token_id, self.max_new_tokens = question, plan, eos_token_id, max_new_tokens
        self.lookahead = inf if plan.decoding == "exact" else plan.lookahead
        self.beam = [question]

    def ended(self, place):
        return place.token == self.eos_token_id or (place.state is None and place.depth >= self.max_new_tokens)

    def unfold(self, start):
        """`start` and places below it, breadth first: `lookahead` of them, and those that leave no choice."""
        found = [start]
        for place in found:
            tokens = place.state.children if place.state else ()
            if len(tokens) == 1 or len(found) + len(tokens) <= 1 + self.lookahead:
                found += [place.child(token) for token in tokens if token != self.eos_token_id]
        return found

    def advance(self):
        """Go on as far as the model has read; return the places to read next, none when the answer is found."""
        while self.plan.decoding != "exact" and not self.ended(self.beam[0]):
            unread = [place for place in self.beam if not self.ended(place) and place.scores is None]
            if unread:
                return [below for place in unread for below in self.unfold(place)]
            longer = [place.child(token) for place in self.beam if not self.ended(place) for token in place.scores]
            done = [place for place in self.beam if self.ended(place)]
            self.beam = nlargest(self.plan.beams, done + longer, key=lambda place: place.logprob)
        return []

    def all_answers(self):
        """Every finished answer of an exact search, as places."""
        waiting, found = [self.question], []
        while waiting:
            place = waiting.pop()
            if place.token == self.eos_token_id:
                found.append(place)
            waiting += [place.child(token) for token in reversed(place.scores or ())]
        return found

    def greedy_answer(self):
        """The finished answer of an exact search that takes the likeliest token at each step."""
        place = self.question
        while not self.ended(place):
            place = place.child(max(place.scores, key=place.scores.get))
        return place


def finish(search, row, tokenizer, answer_prefix):
    """The Answer of a finished search."""
    text_of = lambda place: answer_text(tokenizer, place.ids, answer_prefix)
    decoding = search.plan.decoding
    if decoding != "exact":
        best = search.beam[0]
        cut = decoding == "free" and best.token != tokenizer.eos_token_id
        return Answer(text_of(best), decoding, best.logprob, cut)
    if row["multi_label"]:
        scored = [(text_of(place), place.logprob) for place in search.all_answers()]
    else:
        logprobs = {tuple(place.ids): place.logprob for place in search.all_answers()}
        candidates = dict.fromkeys(row["answer_candidates"])
        scored = [(text, logprobs[tuple(encode_candidates(tokenizer, [text], answer_prefix)[0])]) for text in candidates]
    scored.sort(key=lambda pair: -pair[1])  # stable: of equals the first candidate
    return Answer(scored[0][0], decoding, scored[0][1], scored=tuple(scored), greedy=text_of(search.greedy_answer()))


def answer_text(tokenizer, ids, answer_prefix=""):
    return tokenizer.decode(ids, skip_special_tokens=True).removeprefix(answer_prefix).strip()


# ---------------------------------------------------------------------------------------------------------------------
# The reference: transformers' generate


def generate(model, tokenizer, inputs, **settings):
    """transformers' `generate`, greedily and in the precision of training. inputs: see `left_padded`."""
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with autocast_of_training(model):
        return model.generate(**inputs, **GREEDY, **ends, **settings)


@torch.no_grad()
def answer_by_generate(model, dataset, items, cfg, decoding, max_new_tokens):
    """Greedy answers through `generate`, one question a row, each kept to its own constraint by prefix_allowed_tokens_fn."""
    tokenizer = dataset.processor.tokenizer
    plans = [make_plan(tokenizer, row, cfg, "free" if decoding == "free" else "greedy") for item in items for row in item["rows"]]
    leaves = [(item, row, leaf) for row, item in enumerate(items) for leaf in item["leaves"]]
    batch = {name: tensor.to(model.device) for name, tensor in dataset.collate(items).items()}
    inputs = left_padded(leaves, batch, tokenizer.pad_token_id)
    start, anything = inputs["input_ids"].shape[1], list(range(len(tokenizer)))

    def allowed(row, ids):
        said, grammar = ids[start:].tolist(), plans[row].grammar
        if tokenizer.eos_token_id in said or (grammar is None and len(said) >= max_new_tokens):
            return [tokenizer.pad_token_id]
        return grammar.after(said).allowed() if grammar else anything

    longest = max(max_new_tokens * (plan.grammar is None) or plan.grammar.height() for plan in plans)
    generated = generate(model, tokenizer, inputs, max_new_tokens=longest, prefix_allowed_tokens_fn=allowed)
    answers = []
    for plan, ids in zip(plans, generated[:, start:].tolist()):
        cut = plan.decoding == "free" and tokenizer.eos_token_id not in ids
        answers.append(Answer(answer_text(tokenizer, ids, cfg.answer_prefix), plan.decoding, cut=cut))
    return answers


@torch.no_grad()
def answer_allowed_set(model, dataset, items, cfg, decoding, max_new_tokens):
    """The reference decoder: `generate` with AllowedTokensLogitsProcessor, one question a row.

    A logits processor allows the same tokens in a whole batch, so questions with the same candidates run together; the
    longest candidate limits them. Questions without candidates are answered as ever.
    """
    tokenizer = dataset.processor.tokenizer
    rows = [row for item in items for row in item["rows"]]
    answers, same = [None] * len(rows), {}
    for index, row in enumerate(rows):
        same.setdefault(allowed_lists(tokenizer, row, cfg.answer_prefix), []).append(index)
    if same.pop(None, []):
        by_trees = answer_by_generate if why_rows_stay_plain(base_model(model).config) else answer_batch
        answers = by_trees(model, dataset, items, cfg, "free", max_new_tokens)
    leaves = [(item, index, leaf) for index, item in enumerate(items) for leaf in item["leaves"]]
    batch = {name: tensor.to(model.device) for name, tensor in dataset.collate(items).items()} if same else {}
    for ids, members in same.items():
        inputs = left_padded([leaves[index] for index in members], batch, tokenizer.pad_token_id)
        only_these = [AllowedTokensLogitsProcessor(allowed_token_ids(ids))]
        generated = generate(model, tokenizer, inputs, max_new_tokens=max(map(len, ids)), logits_processor=only_these)
        for index, tokens in zip(members, generated[:, inputs["input_ids"].shape[1] :].tolist()):
            end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
            answers[index] = Answer(answer_text(tokenizer, tokens[:end], cfg.answer_prefix), "allowed_set")
    return answers


def allowed_lists(tokenizer, row, answer_prefix):
    """Tuples of token ids that hold every token a row's answer may have, or None where it is free."""
    if not row["answer_candidates"]:
        return None
    if row["multi_label"]:
        lists = label_set_grammar(tokenizer, tuple(row["answer_candidates"]), answer_prefix).token_lists()
    else:
        lists = encode_candidates(tokenizer, row["answer_candidates"], answer_prefix)
    return tuple(map(tuple, lists))


def left_padded(leaves, batch, pad_token_id):
    """Whole prompts as plain left-padded rows for `generate`, each with its own images. leaves: (item, its row in the batch, question's
    last token)."""
    prompts = [[item["tree"].input_ids[node] for node in item["tree"].path(leaf)] for item, _, leaf in leaves]
    length = max(map(len, prompts))
    device = batch["input_ids"].device
    input_ids = torch.tensor([[pad_token_id] * (length - len(ids)) + ids for ids in prompts], device=device)
    padding = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    image_token_id = batch["input_ids"][batch["mm_token_type_ids"] == 1][0]
    return {
        "input_ids": input_ids,
        "attention_mask": padding,
        "mm_token_type_ids": (input_ids == image_token_id).int(),
        **{name: torch.cat([item[name] for item, _, _ in leaves]).to(device) for name in ("pixel_values", "image_grid_thw")},
    }
