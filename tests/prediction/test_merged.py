"""How far a merged model is from its base in four bits: which rows are compared, at which tokens, and what is said of them.

python -m pytest tests/prediction/test_merged.py -v
"""

import torch
from conftest import plain_base

from data.images import load_image
from dataset import encode_answer, load_dataset
from model.forward import use_tree_attention
from prediction import merged
from prediction.merged import answer_logits, difference_of, rows_to_compare
from templates import prompt_parts


def test_the_first_rows_of_validation_are_compared_or_else_of_training(trained_adapter, monkeypatch):
    cfg, rows, adapter = trained_adapter
    compared = lambda **files: rows_to_compare(cfg.model_copy(update={"data": cfg.data.model_copy(update=files)}), adapter)
    monkeypatch.setattr(merged, "ROWS", 3)
    dataset, why = compared(train_jsonl=cfg.data.train_jsonl.with_name("gone.jsonl"))
    assert list(dataset.encoded) == [row["id"] for row in rows[:3]] and why is None
    assert list(compared(val_jsonl=None)[0].encoded) == list(dataset.encoded)
    assert compared(train_jsonl=None, val_jsonl=None) == (None, "--config FILE with data.val_jsonl measures how much")


def test_without_what_reads_four_bits_nothing_is_compared_and_it_is_said_what_is_missing(trained_adapter, monkeypatch):
    monkeypatch.setattr(merged, "find_spec", lambda name: None)
    assert rows_to_compare(trained_adapter[0], trained_adapter[2]) == (None, "pip install bitsandbytes, and how much is measured")


@torch.no_grad()
def test_logits_are_those_before_each_token_of_an_answer(experiment, processor, model):
    """Of an image with one question and one with three, against a plain row for each question."""
    cfg, rows = experiment[0], experiment[1][:4]
    expected = []
    for row in rows:
        prompt = "".join(prompt_parts(row["question_type"], row["question"], row["answer_candidates"]))
        inputs = processor(text=[prompt], images=[load_image(cfg.data.image_root / row["image"], cfg.image)], return_tensors="pt")
        answer = encode_answer(processor.tokenizer, row["answer"])
        ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
        pixels = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
        logits = model(input_ids=ids, mm_token_type_ids=(ids == processor.image_token_id).int(), **pixels).logits
        expected.append(logits[0, -len(answer) - 1 : -1])
    found = answer_logits(model, load_dataset(rows, processor, cfg))
    assert found.dtype == torch.float32 and torch.allclose(found, torch.cat(expected), atol=1e-4)


def test_the_difference_is_told_on_average_and_at_most(experiment, processor):
    """All logits were a quarter lower, but for one so much higher that another token was the likeliest."""
    dataset = load_dataset(experiment[1][:4], processor, experiment[0])
    after = answer_logits(use_tree_attention(plain_base().eval()), dataset)
    (best, second), token = after[1].topk(2).values.tolist(), int(after[1].argsort()[-2])
    before, more = after - 0.25, best - second + 1
    before[1, token] = after[1, token] + more
    average = 0.25 + (more - 0.25) / after.numel()
    assert difference_of(before, plain_base().train(), dataset) == (
        f"the adapter was trained on the base in nf4, and is merged into it in float32: at the {len(after)} answer tokens of 4 rows logits "
        f"differ by {average:.3f} on average and {more:.3f} at most, and the likeliest token is the same at {len(after) - 1}"
    )
