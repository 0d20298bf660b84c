"""How far a merged model is from the base and adapter that it was made of, where that base was quantised."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python merge_adapter.py --out FOLDER")

from importlib.util import find_spec

import torch

from dataset import load_dataset, training_rows
from files import UserError
from model.forward import autocast_of_training, training_inputs, use_tree_attention
from model.load import load_model, load_processor
from model.token_tree import IGNORE_INDEX
from prediction.setup import space_of

ROWS = 8  # of which logits are compared


def rows_to_compare(cfg, adapter):
    """(VQADataset of the first rows of validation, or of training, as prediction reads them; or None, why there is none)."""
    split = next((name for name in ("val", "train") if getattr(cfg.data, f"{name}_jsonl")), None)
    if split is None:
        return None, "--config FILE with data.val_jsonl measures how much"
    if find_spec("bitsandbytes") is None:
        return None, "pip install bitsandbytes, and how much is measured"
    try:
        rows = training_rows(cfg, split, space_of(cfg, adapter))[:ROWS]
        return load_dataset(rows, load_processor(cfg), cfg), None
    except UserError as error:  # merging needs no rows
        return None, f"how much can't be measured: {error}"


def logits_before_merging(cfg, adapter, dataset):
    """(N, V) float32 on the CPU, of the rows' N answer tokens, by the quantised base with its adapter."""
    return answer_logits(load_model(cfg.model_copy(update={"quantization": "nf4"}), adapter)[0], dataset)


@torch.inference_mode()
def answer_logits(model, dataset):
    """(N, V) float32 on the CPU: what a model says at each of the N tokens of the rows' answers, after the true ones before."""
    found = []
    for index in range(len(dataset)):
        batch = dataset.collate([dataset[index]])
        with autocast_of_training(model):
            inputs = training_inputs(model, batch)
            del inputs["targets"]  # with which the forward returns their losses in the logits' place
            logits = model(**inputs).logits
        found.append(logits.reshape(int((batch["labels"] != IGNORE_INDEX).sum()), -1).float().cpu())
    return torch.cat(found)


def difference_of(before, merged, dataset):
    """One line: how far a merged model's logits are from those `before`. merged: the model, which takes tree attention by this."""
    after = answer_logits(use_tree_attention(merged.eval()), dataset)
    apart, same = (before - after).abs(), int((before.argmax(1) == after.argmax(1)).sum())
    precision = str(merged.dtype).removeprefix("torch.")
    return (
        f"the adapter was trained on the base in nf4, and is merged into it in {precision}: at the {len(before)} answer tokens of "
        f"{len(dataset.encoded)} rows logits differ by {apart.mean():.3f} on average and {apart.max():.3f} at most, and the likeliest "
        f"token is the same at {same}"
    )
