"""What a training starts from, and what is saved beside its adapter.

python -m pytest tests/training/test_prepare.py -v
"""

import json
import shutil
from types import SimpleNamespace

from conftest import SLIDING, TINY_MODEL, as_clips, make_experiment, random_model

from config import load_config
from data.asked import asked_questions
from data.preprocess import answer_rules, training_space
from data.stages import prompts_say
from files import json_text, sha256, write_json, write_jsonl
from model.adapter import experiment_facts
from training.prepare import drawn_before, longest_answer, prepare, trained_on
from training.resume import Start
from training.trainer import training_arguments


def test_a_training_starts_from_its_rows_and_says_beside_its_adapter_what_they_were(experiment, processor, tmp_path):
    """Of validation the first images are looked at while it trains, here two with 1 and 3 questions."""
    cfg = experiment[0].model_copy(update={"train": experiment[0].train.model_copy(update={"eval_images": 2})})
    args = training_arguments(cfg, tmp_path, eval_strategy="no")
    ready = prepare(cfg, ["train", "val"], args, Start(), lambda line: None)
    assert {split: len(rows) for split, rows in ready.rows.items()} == {"train": 18, "val": 18}
    assert (len(ready.train_set), len(ready.val_set), len(ready.val_set.encoded)) == (4, 2, 4)
    assert ready.train_set.training and not ready.val_set.training
    longest = max(len(processor.tokenizer(row["answer"])["input_ids"]) + 1 for row in ready.rows["train"])
    assert ready.facts["longest_answer"] == longest and ready.facts["trained_on"] == [sha256(cfg.data.train_jsonl)]
    assert json.loads(ready.beside["answer_space.json"]) == training_space(cfg, say=lambda line: None)
    asked = asked_questions(ready.rows["train"], cfg.data.min_groups)
    assert ready.beside == {"answer_space.json": json_text(training_space(cfg)), "questions.json": json_text(asked)}
    assert ready.facts == {
        **experiment_facts(cfg, answer_rules(training_space(cfg), asked), prompts_say(cfg.data)),
        **{"longest_answer": longest, "trained_on": [sha256(cfg.data.train_jsonl)], "min_groups": cfg.data.min_groups},
    }
    later = prepare(cfg, ["train"], args, Start(tmp_path, {"config": {"train": {}}, "first_draw": 5, "drawn_bs": 3}), lambda line: None)
    assert later.val_set is None and (later.train_set.first_draw, later.train_set.drawn_bs) == (5, 3)


def test_what_of_rows_and_model_costs_more_or_is_left_out_is_said(tmp_path, processor):
    """Frames beyond data.max_frames, of training and validation together; and a model whose layers take no tree mask."""
    random_model(processor, **SLIDING).config.save_pretrained(tmp_path / "plain")
    for path in TINY_MODEL.glob("*.json"):
        if path.name != "config.json":
            shutil.copy(path, tmp_path / "plain")
    cfg, rows = make_experiment(tmp_path, (1, 3, 5, 9))
    write_jsonl(tmp_path / "rows.jsonl", [{key: value for key, value in row.items() if value is not None} for row in as_clips(rows)])
    cfg = load_config(cfg.config_path, [*cfg.overrides, "data.max_frames=2", f"model_name={tmp_path / 'plain'}"])
    said = []
    ready = prepare(cfg, ["train", "val"], training_arguments(cfg, tmp_path, eval_strategy="no"), Start(), said.append)
    assert "note: 20 of 36 rows have more images than data.max_frames=2 (up to 4); so many are read, evenly spaced, the " in "\n".join(said)
    assert said[-1].startswith(f"note: {cfg.model_name} has sliding_attention layers") and said[-1].endswith("trained in a row of its own")
    assert not ready.train_set.shared and not ready.val_set.shared


def test_a_run_that_goes_on_draws_its_pictures_as_it_began(tmp_path):
    assert drawn_before(Start(record={"first_draw": 3, "drawn_bs": 8})) == {}, "a new one draws its own"
    record = {"config": {"train": {"train_bs": 2}}}
    assert drawn_before(Start(tmp_path, record)) == {"first_draw": 0, "drawn_bs": 2}, "as older code did"
    assert drawn_before(Start(tmp_path, {**record, "first_draw": 3, "drawn_bs": 8})) == {"first_draw": 3, "drawn_bs": 8}


def test_the_files_that_the_weights_saw_are_those_of_the_adapter_before_too(experiment, tmp_path):
    cfg = experiment[0]
    own = sha256(cfg.data.train_jsonl)
    later = cfg.model_copy(update={"train": cfg.train.model_copy(update={"init_adapter": tmp_path})})
    write_json(tmp_path / "experiment.json", {"model_name": "tiny", "trained_on": ["first", "second"]})
    assert trained_on(cfg) == [own] and trained_on(later) == ["first", "second", own]
    write_json(tmp_path / "experiment.json", {"model_name": "tiny"})
    assert trained_on(later) == [own], "older adapters don't say"


def test_a_stage_of_short_answers_remembers_the_long_ones_that_its_adapter_learnt(tmp_path):
    """A curriculum's last stage answers the questions of all: `predict.max_new_tokens: auto` must not cut the first stage's."""
    dataset = SimpleNamespace(encoded={"0": ([1, 2], [3, 4])})
    write_json(tmp_path / "experiment.json", {"model_name": "tiny"})
    assert longest_answer(dataset) == longest_answer(dataset, tmp_path) == 2, "older adapters don't say"
    for longest in (9, 1):
        write_json(tmp_path / "experiment.json", {"model_name": "tiny", "longest_answer": longest})
        assert longest_answer(dataset, tmp_path) == max(2, longest)
