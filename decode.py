"""Answers from the model: all questions of an image step by step together, against one image prefix in the KV cache.

    greedy       a question with candidates gets exactly one of them, chosen token by token in their trie; one that is
                 answered with lists of labels gets exactly one valid list, in canonical order
    allowed_set  the reference: any order of the candidates' tokens, through transformers' `generate`
    free         no constraint

Questions without candidates are answered freely in every mode.

Shapes: B images, T tokens of a row, Q questions of the batch, W questions of the image that has most, V vocabulary.
"""

from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader

from constraints import AllowedTokensLogitsProcessor, CandidateTrie, TokenNode, allowed_token_ids
from dataset import encode_candidates, label_set_grammar
from model import tree_inputs

# Instruct checkpoints come with sampling settings and a repetition penalty that re-ranks answers; none of it belongs here.
GREEDY = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "temperature": None, "top_p": None, "top_k": None}


@dataclass
class Answer:
    """The answer to one question while it grows.

    row: its image in the batch. trie: None where any token may come. position: M-RoPE position of the question's last
    token. cached: how many of `ids` have been through the model.
    """

    row: int
    trie: TokenNode | None
    position: int
    ids: list = field(default_factory=list)
    cached: int = 0
    ended: bool = False

    def take(self, token, eos_token_id):
        """Append a token, and after it all that the trie leaves no choice about."""
        self.ids.append(token)
        self.ended = token == eos_token_id
        if self.trie is not None:
            self.trie = self.trie.children[token]
            if len(self.trie.children) == 1:
                self.take(self.trie.allowed()[0], eos_token_id)


def answer_questions(model, dataset, cfg, decoding, max_new_tokens):
    """Yield `(row, text, constrained, cut)` for every row of an unsupervised dataset, image by image.

    constrained: the row's candidates decided. cut: a free answer reached max_new_tokens before EOS.
    """
    loader = DataLoader(dataset, cfg.predict.batch_size, collate_fn=list, num_workers=cfg.train.num_workers)
    tokenizer = dataset.processor.tokenizer
    for items in loader:
        batch = {name: tensor.to(model.device) for name, tensor in dataset.collate(items).items()}
        rows = [row for item in items for row in item["rows"]]
        candidates = [candidate_ids(tokenizer, row, cfg, decoding) for row in rows]
        if decoding == "allowed_set":
            answers = generate_allowed_set(model, batch, items, candidates, tokenizer, max_new_tokens)
        else:
            answers = decode_trees(model, batch, items, candidates, tokenizer, max_new_tokens)
        for row, ids, row_candidates in zip(rows, answers, candidates):
            cut = tokenizer.eos_token_id not in ids
            text = tokenizer.decode(ids, skip_special_tokens=True).removeprefix(cfg.answer_prefix).strip()
            yield row, text, row_candidates is not None, cut and row_candidates is None


def candidate_ids(tokenizer, row, cfg, decoding):
    """Token ids of a row's candidates, the grammar of its label lists, or None where the answer is free."""
    if decoding == "free" or not row["answer_candidates"]:
        return None
    if row["multi_label"]:
        grammar = label_set_grammar(tokenizer, tuple(row["answer_candidates"]), cfg.answer_prefix)
        return grammar.token_lists() if decoding == "allowed_set" else grammar
    return encode_candidates(tokenizer, row["answer_candidates"], cfg.answer_prefix)


@torch.no_grad()
def decode_trees(model, batch, items, candidates, tokenizer, max_new_tokens):
    """Greedy answers (Q lists of token ids, EOS last where it was reached) under each question of a batch of trees.

    batch: collated trees without answers, on the model's device. candidates: for each question the ids of its candidates,
    a grammar, or None. Every step runs one token of every unfinished question; a token sees its image's prefix, its own
    question and its own earlier tokens in the cache.
    """
    inputs = tree_inputs(model, batch)
    leaf_rows = [row for row, item in enumerate(items) for _ in item["leaves"]]
    leaf_columns = [leaf for item in items for leaf in item["leaves"]]
    keep = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    keep[leaf_rows, leaf_columns] = True
    output = model(**inputs, logits_to_keep=keep, use_cache=True)
    positions = inputs["position_ids"][0, leaf_rows, leaf_columns].tolist()
    answers = [
        Answer(row, CandidateTrie(ids) if isinstance(ids, list) else ids, position)
        for row, ids, position in zip(leaf_rows, candidates, positions)
    ]
    seen = batch["attention_mask"][leaf_rows, 0, leaf_columns].cpu()  # (Q, T) bool: the cache columns of each question
    active = answers
    while active:
        for answer, token in zip(active, choose_tokens(output.logits, active)):
            answer.take(token, tokenizer.eos_token_id)
        active = [answer for answer in active if not _finished(answer, max_new_tokens)]
        if active:
            step, seen = _next_step(answers, active, seen, len(items), tokenizer.pad_token_id)
            step = {name: tensor.to(model.device) for name, tensor in step.items()}
            output = model(**step, past_key_values=output.past_key_values, use_cache=True)
    return [answer.ids for answer in answers]


def _finished(answer, max_new_tokens):
    return answer.ended or (answer.trie is None and len(answer.ids) >= max_new_tokens)


def choose_tokens(logits, answers):
    """The likeliest next token of each answer, among its trie's where it has one. logits: (len(answers), V)."""
    logits = logits.reshape(len(answers), -1).float()
    best = logits.argmax(-1)
    constrained = [index for index, answer in enumerate(answers) if answer.trie is not None]
    if constrained:
        allowed = [sorted(answers[index].trie.allowed()) for index in constrained]
        width = max(map(len, allowed))
        allowed = torch.tensor([ids + ids[-1:] * (width - len(ids)) for ids in allowed], device=logits.device)
        choice = logits[constrained].gather(1, allowed).argmax(1, keepdim=True)
        best[constrained] = allowed.gather(1, choice)[:, 0]
    return best.tolist()


def _next_step(answers, active, seen, rows, pad_token_id):
    """Inputs that put the new tokens of the active answers into W new cache columns of their rows; and the new `seen`.

    Usually one token an answer; more where the trie forced some. Logits are kept after each answer's last token.
    """
    cells, used = [], [0] * rows  # cells: (answer, column, token, position)
    for answer in active:
        for offset in range(answer.cached, len(answer.ids)):
            cells.append((answer, used[answer.row], answer.ids[offset], answer.position + 1 + offset))
            used[answer.row] += 1
        answer.cached = len(answer.ids)
    width, past = max(used), seen.shape[1]
    index_of = {id(answer): index for index, answer in enumerate(answers)}
    seen = torch.cat([seen, torch.zeros(len(seen), width, dtype=torch.bool)], 1)
    input_ids = torch.full((rows, width), pad_token_id)
    position_ids = torch.zeros((rows, width), dtype=torch.long)
    attention_mask = torch.zeros((rows, 1, width, past + width), dtype=torch.bool)
    attention_mask[:, 0, range(width), range(past, past + width)] = True  # padding attends to itself alone
    keep = torch.zeros((rows, width), dtype=torch.bool)
    for answer, column, token, position in cells:
        own = seen[index_of[id(answer)]]
        own[past + column] = True
        input_ids[answer.row, column], position_ids[answer.row, column] = token, position
        attention_mask[answer.row, 0, column] = own
        keep[answer.row, column] = position == answer.position + len(answer.ids)
    step = {"input_ids": input_ids, "position_ids": position_ids.expand(3, -1, -1), "attention_mask": attention_mask}
    return {**step, "logits_to_keep": keep}, seen


@torch.no_grad()
def generate_allowed_set(model, batch, items, candidates, tokenizer, max_new_tokens):
    """The reference decoder: `generate` with AllowedTokensLogitsProcessor, one question a row.

    A logits processor allows the same tokens in a whole batch, so questions with the same candidates run together; the
    longest candidate limits them. Questions without candidates go through `decode_trees`.
    """
    answers = decode_trees(model, batch, items, candidates, tokenizer, max_new_tokens) if None in candidates else [[]] * len(candidates)
    leaves = [(item, index, leaf) for index, item in enumerate(items) for leaf in item["leaves"]]
    same = {}
    for index, ids in enumerate(candidates):
        if ids is not None:
            same.setdefault(tuple(map(tuple, ids)), []).append(index)
    for ids, members in same.items():
        inputs = left_padded([leaves[index] for index in members], batch, tokenizer.pad_token_id)
        generated = model.generate(
            **inputs,
            logits_processor=[AllowedTokensLogitsProcessor(allowed_token_ids(ids))],
            max_new_tokens=max(map(len, ids)),
            **GREEDY,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        for index, tokens in zip(members, generated[:, inputs["input_ids"].shape[1] :].tolist()):
            end = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
            answers[index] = tokens[:end]
    return answers


def left_padded(leaves, batch, pad_token_id):
    """Whole prompts as plain left-padded rows for `generate`. leaves: (item, its row in the batch, question's last token)."""
    prompts = [[item["tree"].input_ids[node] for node in item["tree"].path(leaf)] for item, _, leaf in leaves]
    length = max(map(len, prompts))
    rows = [row for _, row, _ in leaves]
    patches = batch["pixel_values"].split(batch["image_grid_thw"].prod(1).tolist())
    device = batch["input_ids"].device
    input_ids = torch.tensor([[pad_token_id] * (length - len(ids)) + ids for ids in prompts], device=device)
    padding = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    image_token_id = batch["input_ids"][batch["mm_token_type_ids"] == 1][0]
    return {
        "input_ids": input_ids,
        "attention_mask": padding,
        "mm_token_type_ids": (input_ids == image_token_id).int(),
        "pixel_values": torch.cat([patches[row] for row in rows]),
        "image_grid_thw": batch["image_grid_thw"][rows],
    }
