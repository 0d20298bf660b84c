"""What the sanity test looks at beside the loss: the mask, through the model itself; and when there is nothing more to learn.

`dataset.check_supervision` looks at what goes into the model, `check_forward` at what comes out: positions, attention, the
image's way in and the tokens that logits are read from all show in an answer's loss beside that of transformers' own forward.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python sanity_overfit.py")

from contextlib import contextmanager

import torch
from transformers import TrainerCallback

from dataset import check_supervision, whole_prompt_ids
from files import UserError, quoted
from model.forward import base_model, training_inputs, why_rows_stay_plain
from model.token_tree import IGNORE_INDEX

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # of 1 + loss; the order of sums alone makes about 1e-5 and 2e-2
FILES = "check dataset.py, model/token_tree.py, model/tree_attention.py and model/forward.py"


EVERY, LEAST, PATIENCE = 50, 200, 100  # steps: between two looks, trained in any case, without a loss that falls
FALLS = 0.98  # of the lowest loss so far, or less
WORTH_ASKING = 0.5  # nats a token; above it some answer is wrong, and none need be generated


class UntilKnown(TrainerCallback):
    """Ends a training once enough answers are right, or the loss has stopped falling.

    share_right: called without arguments, the share of answers that are generated right; enough: the share asked for.
    losses: as logged. falling: whether the mean loss of EVERY steps was last lowered less than PATIENCE steps ago.
    """

    def __init__(self, share_right, enough):
        self.share_right, self.enough, self.losses, self.falling = share_right, enough, [], True
        self.seen, self.looked, self.lowest, self.lowest_step = 0, 0, float("inf"), 0

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" not in logs:
            return
        self.losses.append(logs["loss"])
        step = state.global_step
        if step - self.looked < EVERY:
            return
        recent = sum(self.losses[self.seen :]) / len(self.losses[self.seen :])
        self.seen, self.looked = len(self.losses), step
        if recent <= FALLS * self.lowest:
            self.lowest, self.lowest_step = recent, step
        self.falling = step - self.lowest_step < PATIENCE
        known = self.losses[-1] < WORTH_ASKING and self._ask(step) >= self.enough
        control.should_training_stop |= known or (step >= LEAST and not self.falling)

    def _ask(self, step):
        share = self.share_right()
        print(f"step {step}: {share:.1%} of the answers are right when generated", flush=True)
        return share


def check_labels(dataset, images=8):
    """`dataset.check_supervision` of every image of a training set, so many at a time."""
    for at in range(0, len(dataset), images):
        items = [dataset[index] for index in range(at, min(at + images, len(dataset)))]
        groups = [[row for item in packed for row in item["rows"]] for packed in dataset.pack(items)]
        check_supervision(dataset.collate(items), groups, dataset.processor, dataset.cfg)


def check_forward(model, dataset, images):
    """(number of answers, largest difference in nats) of the losses of the first images' answer tokens, as trees and one by one.

    Raises UserError that names a row whose answer does not see its question or its image, or has another loss than alone.
    """
    items = [dataset[index] for index in range(min(images, len(dataset)))]
    if all(torch.equal(*item["pixel_values"].aminmax(dim=0)) for item in items):
        first = quoted(items[0]["rows"][0]["id"])
        raise UserError(f"no image reaches row {first}: all patches are alike; check data/images.py and dataset.py")
    answers = [(item, row) for packed in dataset.pack(items) for item in packed for row in item["rows"]]
    batch = dataset.collate(items)
    eos, answer = dataset.processor.tokenizer.eos_token_id, batch["labels"] != IGNORE_INDEX
    before_answer = answer.roll(-1, 1)  # the last token of the prompt, which stays, for its own sake the loss would change
    other_question = torch.where((batch["depths"] == 0) | answer | before_answer, batch["input_ids"], eos)
    with evaluating(model):
        alone = [losses_alone(model, dataset, item, row) for item, row in answers]
        as_trees = lambda **changes: losses_as_trees(model, {**batch, **changes}).split([len(losses) for losses in alone])
        losses, without_question = as_trees(), as_trees(input_ids=other_question)
        without_image = as_trees(pixel_values=batch["pixel_values"] + 1)
    for (_, row), own, other in zip(answers, losses, without_question):
        if torch.equal(own, other):
            raise UserError(f"label mask broken at row {quoted(row['id'])}: its answer does not see its question; {FILES}")
    for (_, row), own, other in zip(answers, losses, without_image):
        if torch.equal(own, other):
            raise UserError(f"no image reaches row {quoted(row['id'])}: its answer's loss is that beside another picture; {FILES}")
    for (_, row), own, right in zip(answers, losses, alone):
        if not (own - right).abs().max() <= TOLERANCE.get(model.dtype, 0.1) * (1 + right.max()):
            both = f"{own.mean():.3f} as it is trained and {right.mean():.3f} in a row of its own"
            raise UserError(f"label mask broken at row {quoted(row['id'])}: its answer's loss is {both}; {FILES}")
    return len(answers), max(float((own - right).abs().max()) for own, right in zip(losses, alone))


@contextmanager
def evaluating(model):
    """No dropout and no gradients within."""
    training = model.training
    with torch.no_grad():
        yield model.eval()
    model.train(training)


def losses_as_trees(model, batch):
    """(N,) float32: the losses of a batch's N answer tokens, as training computes them."""
    return model(**training_inputs(model, batch)).losses


def losses_alone(model, dataset, item, row):
    """(n,) float32: the losses of the n tokens of one answer, by transformers' own forward of its prompt and it: no tree, no label."""
    tokenizer = dataset.processor.tokenizer
    answer = dataset.cfg.answer_prefix + row["answer"] + tokenizer.eos_token
    answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    prompt_ids = whole_prompt_ids(dataset.processor, row, dataset.cfg, item["input_ids"])
    ids = torch.tensor([prompt_ids + answer_ids], device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "logits_to_keep": len(answer_ids) + 1, "use_cache": False}
    inputs |= {"mm_token_type_ids": (ids == dataset.processor.image_token_id).int()}
    inputs |= {name: item[name].to(model.device) for name in ("pixel_values", "image_grid_thw")}
    with plain_attention(model):
        logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, -len(answer_ids) :], reduction="none")


@contextmanager
def plain_attention(model):
    """sdpa instead of tree attention within."""
    trees = why_rows_stay_plain(base_model(model).config) is None
    if trees:
        base_model(model).set_attn_implementation({"text_config": "sdpa"})
    yield
    if trees:
        base_model(model).set_attn_implementation({"text_config": "tree"})


def share_teacher_forced(model, dataset, images):
    """The share of a training set's answers whose every token is the likeliest after the true ones before; so many images at a time.

    Greedy generation gives exactly these answers, if it sees the prompts that training saw.
    """
    right = []
    with evaluating(model):
        for at in range(0, len(dataset), images):
            items = [dataset[index] for index in range(at, min(at + images, len(dataset)))]
            batch = dataset.collate(items)
            predicted = model(**training_inputs(model, batch)).predicted.cpu()
            equal = predicted == batch["labels"][batch["labels"] != IGNORE_INDEX]
            rows = [row for packed in dataset.pack(items) for item in packed for row in item["rows"]]
            right += [bool(tokens.all()) for tokens in equal.split([len(dataset.encoded[row["id"]][1]) for row in rows])]
    return sum(right) / len(right)
