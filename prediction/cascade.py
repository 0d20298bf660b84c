"""Answers stage by stage: what was answered stands in the prompts of the later stages (data/earlier_answers.py), `predict.cascade`.

The earlier answers are part of each question's own branch, so a stage is a batch like any other: of the same images, which are read
from disk once, under any decoding. An image's stages are in one batch, and so in a stream of predictions together or not at all.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py predict.cascade=true")

from data.earlier_answers import with_earlier_answers
from data.stages import needed_stage
from prediction.decode import answer_items, split_rows


def answer_in_stages(model, dataset, items, cfg, decoding, max_new_tokens):
    """Answers (`decode.Answer`) to all questions of some items that are whole images, in their order. Arguments: as of
    `decode.answer_items`; predict.batch_size trees are read at once."""
    rows, found, said = [row for item in items for row in item["rows"]], {}, {}
    for stage in sorted(set(map(needed_stage, rows))):
        asked = [tree for item in items for tree in items_of_stage(dataset, item, stage, said, cfg.predict.tokens_per_row)]
        for at in range(0, len(asked), cfg.predict.batch_size):
            some = asked[at : at + cfg.predict.batch_size]
            answers = answer_items(model, dataset, some, cfg, decoding, max_new_tokens)
            found |= zip((row["id"] for item in some for row in item["rows"]), answers)
        said = {row_id: without_special_tokens(answer.text, dataset.special_tokens) for row_id, answer in found.items()}
    return [found[row["id"]] for row in rows]


def items_of_stage(dataset, item, stage, said, tokens_per_row):
    """An image's item with its questions of one stage alone, in several where they don't fit into a row. said: {row id: answer}."""
    rows = [row for row in with_earlier_answers(item["rows"], said) if needed_stage(row) == stage]
    dataset.encode(rows)
    return [dataset.about_same_images(item, part) for part in split_rows(dataset, rows, tokens_per_row)] if rows else []


def without_special_tokens(text, special_tokens):
    """A free answer may spell `<|image_pad|>` letter by letter; in a prompt it would become that token."""
    while found := [token for token in special_tokens if token in text]:
        for token in found:
            text = text.replace(token, " ")
    return text


def with_longest_answers(rows, decoding, max_new_tokens):
    """The rows, told of the longest answers that they may get: a prompt that could grow too long is refused before any is asked."""

    def longest(row):
        candidates = row["answer_candidates"] if decoding != "free" else None
        if not candidates:
            return " a" * max_new_tokens
        return "; ".join(candidates) if row["multi_label"] else max(candidates, key=len)

    return with_earlier_answers(rows, {row["id"]: longest(row) for row in rows})
