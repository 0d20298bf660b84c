"""What a training starts from: enriched rows as data sets, and what is saved beside its adapter."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python train_exp1.py")

from typing import NamedTuple

from data.answer_space import SPACE_FILE
from data.asked import QUESTIONS_FILE, asked_questions
from data.check import warnings_before_training
from data.preprocess import answer_rules, training_space
from data.stages import prompts_say
from dataset import VQADataset, first_images, load_dataset, say_what_is_thinned, training_rows
from files import json_text, sha256
from model.adapter import experiment_facts
from model.forward import why_rows_stay_plain
from model.load import load_model_config, load_processor
from model.on_disk import adapter_facts


class Prepared(NamedTuple):
    """rows: {split: enriched rows}. facts, beside: see `model.adapter.save_adapter`."""

    rows: dict
    train_set: VQADataset
    val_set: VQADataset | None
    facts: dict
    beside: dict


def prepare(cfg, splits, args, start, say):
    """Enrich, check and encode the rows of `splits`. args: TrainingArguments; start: `training.resume.Start`; say: print, once.

    One process enriches and checks images, the others read what it wrote.
    """
    with args.main_process_first(local=False):
        model_config, processor = load_model_config(cfg), load_processor(cfg)
        space = training_space(cfg)
        for line in warnings_before_training(cfg, splits, space) if args.process_index == 0 else ():
            say(line)
        rows = {split: training_rows(cfg, split, space) for split in splits}
        say_what_is_thinned([row for split in rows.values() for row in split], cfg, say)
        if plain := why_rows_stay_plain(model_config):
            say(f"note: {cfg.model_name} {plain}; every question is trained in a row of its own")
        settings = {"training": True, "world_size": args.world_size, **drawn_before(start)}
        train_set = load_dataset(rows["train"], processor, cfg, model_config, **settings)
        val_rows = first_images(rows["val"], cfg.train.eval_images) if "val" in rows else None
        val_set = load_dataset(val_rows, processor, cfg, model_config) if val_rows else None
    asked = asked_questions(rows["train"], cfg.data.min_groups)
    facts = {**experiment_facts(cfg, answer_rules(space, asked), prompts_say(cfg.data))}
    facts |= {"longest_answer": longest_answer(train_set, cfg.train.init_adapter)}
    facts |= {"trained_on": trained_on(cfg), "min_groups": cfg.data.min_groups}  # the latter of what lies beside it
    return Prepared(rows, train_set, val_set, facts, {SPACE_FILE: json_text(space), QUESTIONS_FILE: json_text(asked)})


def drawn_before(start):
    """What decided the order of a run's pictures, for one that goes on: another split of its steps keeps it."""
    if not start.checkpoint:
        return {}
    drawn = {"first_draw": 0, "drawn_bs": start.record["config"]["train"].get("train_bs")}  # of older code
    return {key: start.record.get(key, value) for key, value in drawn.items()}


def trained_on(cfg):
    """SHA-256 of the files whose rows the weights saw: this run's, and those of the adapter that it starts from."""
    before = adapter_facts(cfg.train.init_adapter).get("trained_on", []) if cfg.train.init_adapter else []
    return [*before, sha256(cfg.split_path("train"))]


def longest_answer(dataset, init_adapter=None):
    """Tokens of the longest training answer with its EOS, for `predict.max_new_tokens: auto`; those of the adapter that a run starts from
    are its model's answers, too."""
    before = adapter_facts(init_adapter).get("longest_answer") or 0 if init_adapter else 0
    return max(before, *(len(answer_ids) for _, answer_ids in dataset.encoded.values()))
