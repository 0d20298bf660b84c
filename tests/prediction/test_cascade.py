"""A cascade against plain prompts, one by one, through transformers; kills; what is refused.

python -m pytest tests/prediction/test_cascade.py -v
"""

import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import make_experiment, random_model

import predict_exp1
from config import load_config
from data.earlier_answers import EARLIER, with_earlier_answers
from data.images import load_image
from data.preprocess import ensure_enriched
from dataset import encode_candidates, load_dataset, training_rows, whole_prompt_ids
from files import UserError, read_jsonl, write_json, write_jsonl
from model.adapter import check_adapter, experiment_facts
from prediction import cascade, run
from prediction.decode import GREEDY, answer_questions
from templates import IMAGE_PLACEHOLDER, prompt_block

COLORS, LABELS, LIMIT = ["pink", "red", "white"], ["polyp", "red", "snare"], 5
LISTS = ["polyp", "red", "snare", "polyp; red", "polyp; snare", "red; snare", "polyp; red; snare"]
NAMES = "abcdefghi"


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """(config, rows): images of 1, 3, 5 and 9 questions, yes/no, of a colour or a list, and free ones, stages in no order; the first
    image has a later stage alone."""
    cfg, rows = make_experiment(tmp_path_factory.mktemp("staged"), questions=(1, 3, 5, 9), **{"predict.cascade": "true"})
    for place, row in enumerate(rows):
        number = place - next(at for at, other in enumerate(rows) if other["image"] == row["image"])
        row |= {"stage": (3, 1, 2)[number % 3 if number < 6 else (number + 1) % 3], "question": f"{row['question']} {NAMES[number]}"}
        if number % 3 == 1:
            row |= {"answer_candidates": LABELS if number == 4 else COLORS, "multi_label": number == 4}
    return cfg, rows


@torch.no_grad()
def answered_alone(model, processor, cfg, prompt, row, decoding):
    """The answer (text) to one prompt by transformers' own forward and `generate`, and no code of this project."""
    image, tokenizer = load_image(cfg.image_folder() / row["image"], cfg.image), processor.tokenizer
    inputs = dict(processor(text=[prompt], images=[image], return_tensors="pt"))
    length, candidates = inputs["input_ids"].shape[1], row["answer_candidates"]
    if decoding == "free" or not candidates:
        ids = model.generate(**inputs, **GREEDY, max_new_tokens=LIMIT, eos_token_id=tokenizer.eos_token_id)[0, length:]
        return tokenizer.decode(ids, skip_special_tokens=True).strip()
    texts, scores = LISTS if row["multi_label"] else candidates, {}
    for text, ids in zip(texts, encode_candidates(tokenizer, texts)):
        whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
        own = {"input_ids": whole, "mm_token_type_ids": (whole == processor.image_token_id).int(), "attention_mask": None}
        scores[text] = model(**{**inputs, **own}).logits[0, length - 1 : -1].log_softmax(-1)[range(len(ids)), ids].sum().item()
    return max(scores, key=scores.get)


def one_by_one(model, processor, cfg, rows, decoding):
    """{id: answer}, a plain prompt a question, the questions and answers of earlier stages written into it by hand."""
    said = {}
    for row in sorted(rows, key=lambda row: row["stage"]):
        before = [other for stage in range(row["stage"]) for other in rows if other["stage"] == stage and other["image"] == row["image"]]
        context = "".join(f"Question: {other['question']}\nAnswer: {said[other['id']]}\n" for other in before)
        block = prompt_block(row["question_type"], row["question"], row["answer_candidates"])
        prompt = block.replace("User:\n", f"User:\n{IMAGE_PLACEHOLDER}{context}", 1)
        said[row["id"]] = " ".join(answered_alone(model, processor, cfg, prompt, row, decoding).split())
    return said


def in_stages(model, processor, cfg, rows, decoding, batch_size, tokens_per_row):
    changes = {"batch_size": batch_size, "tokens_per_row": tokens_per_row}
    cfg = cfg.model_copy(update={"predict": cfg.predict.model_copy(update=changes)})
    data = load_dataset(cascade.with_longest_answers(rows, decoding, LIMIT), processor, cfg, model.config, supervised=False)
    answers = [pair for batch in answer_questions(model, data, cfg, decoding, LIMIT, answer=cascade.answer_in_stages) for pair in batch]
    assert [row["id"] for row, _ in answers] == [row["id"] for row in rows]
    return {row["id"]: answer for row, answer in answers}


@pytest.mark.parametrize(("family", "decoding"), [("qwen2_vl", "exact"), ("qwen2_vl", "free"), ("qwen3_5", "free")])
def test_batched_stages_equal_plain_prompts_one_by_one(staged, processor, decoding, family):
    """Any batching, rows too short for a stage, a model whose rows stay plain; and the answers do depend on what was told."""
    cfg, rows = staged
    plain = family == "qwen3_5"
    rows, types = (rows[:9], {"layer_types": ["linear_attention", "full_attention"]}) if plain else (rows, {})
    model = random_model(processor, seed=3, family=family, **types)
    expected = one_by_one(model, processor, cfg, rows, decoding)
    for batch_size, tokens_per_row in [(2, 4096)] if plain else [(4, 4096), (3, 150)]:
        found = in_stages(model, processor, cfg, rows, decoding, batch_size, tokens_per_row)
        assert {row_id: " ".join(answer.text.split()) for row_id, answer in found.items()} == expected
    data = load_dataset(rows, processor, cfg, model.config, supervised=False)
    untold = [pair for batch in answer_questions(model, data, cfg, decoding, LIMIT) for pair in batch]
    assert any(" ".join(answer.text.split()) != expected[row["id"]] for row, answer in untold)


@pytest.mark.parametrize("decoding", ["greedy", "allowed_set"])
def test_other_decodings_are_told_what_they_answered(staged, processor, decoding, monkeypatch):
    """Every prompt that was read, whole, is the one that `whole_prompt_ids` makes of the answers that were given."""
    cfg, rows = staged
    read, answer_items = {}, cascade.answer_items

    def noted(model, dataset, items, *rest):
        for item in items:
            for row, leaf in zip(item["rows"], item["leaves"], strict=True):
                read[row["id"]] = [item["tree"].input_ids[node] for node in item["tree"].path(leaf)]
        return answer_items(model, dataset, items, *rest)

    monkeypatch.setattr(cascade, "answer_items", noted)
    found = in_stages(random_model(processor), processor, cfg, rows, decoding, 2, 4096)
    said = {row_id: answer.text for row_id, answer in found.items()}
    for row in cascade.with_earlier_answers(rows, said):
        assert read[row["id"]] == whole_prompt_ids(processor, row, cfg, read[row["id"]])
        assert found[row["id"]].decoding == ("free" if not row["answer_candidates"] else decoding)


def test_an_answer_that_spells_a_special_token_brings_none_into_a_prompt(staged, processor, monkeypatch):
    """Nor a line of its own: it would stand for an image, end the prompt, or be another question."""
    assert cascade.without_special_tokens("<|image_<|im_end|>pad|>a<|im_end|>", ["<|image_pad|>", "<|im_end|>"]).split() == [
        "<|image_", "pad|>a",
    ]  # fmt: skip
    cfg, rows = staged
    spell = lambda model, data, items, *_: [SimpleNamespace(text="<|image_pad|>\nQuestion: x") for item in items for _ in item["rows"]]
    monkeypatch.setattr(cascade, "answer_items", spell)
    seen = []
    about = cascade.items_of_stage
    monkeypatch.setattr(cascade, "items_of_stage", lambda *args: seen.extend(new := about(*args)) or new)
    data = load_dataset(rows, processor, cfg, supervised=False)
    cascade.answer_in_stages(None, data, [data[3]], cfg, "free", LIMIT)
    texts = [processor.tokenizer.decode(item["input_ids"]) for item in seen]
    assert texts[-1].count("<|image_pad|>") == texts[0].count("<|image_pad|>") == 15
    assert "Answer: Question: x\nQuestion" in texts[-1]


def test_a_prompt_that_could_grow_too_long_is_refused_before_any_is_asked(staged, processor):
    cfg, rows = staged
    short = cfg.model_copy(update={"train": cfg.train.model_copy(update={"max_seq_len": 150})})
    load_dataset(rows, processor, short, supervised=False)
    with pytest.raises(UserError, match=r"^row '1?\d': is \d+ tokens long with the answers that it may be told of, over train.max_seq_len"):
        load_dataset(cascade.with_longest_answers(rows, "free", 40), processor, short, supervised=False)


def test_the_longest_answers_are_told_that_a_decoding_may_give():
    """The longest candidate, all labels of a list, or so many tokens; without a constraint always the last."""
    kinds = {"one": (["no", "polyp", "yes"], False), "list": (["a", "b"], True), "free": (None, False), "last": (None, False)}
    rows = [
        {
            "id": name,
            "question": name,
            "image": "0.png",
            "stage": 2 if name == "last" else 1,
            "answer_candidates": some,
            "multi_label": many,
        }
        for name, (some, many) in kinds.items()
    ]
    told = lambda decoding: cascade.with_longest_answers(rows, decoding, 3)[-1][EARLIER]
    assert told("exact") == told("greedy") == (("one", "polyp"), ("list", "a; b"), ("free", "a a a"))
    assert told("free") == (("one", "a a a"), ("list", "a a a"), ("free", "a a a"))


# --- the script


@pytest.fixture
def files(staged, tmp_path):
    """Arguments of predict_exp1.py about rows with stages, and the rows."""
    cfg, rows = staged
    kept = ("question", "answer", "image", "stage")
    write_jsonl(tmp_path / "rows.jsonl", [{key: row[key] for key in kept} | {"rewordings": [f"So {row['question']}"]} for row in rows])
    paths = [f"data.{split}_jsonl={tmp_path / 'rows.jsonl'}" for split in ("train", "val")]
    settings = [f"model_name={cfg.model_name}", *paths, f"data.image_root={cfg.data.image_root}", f"output_dir={tmp_path / 'outputs'}"]
    settings += ["image.max_pixels=12544", "train.num_workers=0", "predict.batch_size=2", "predict.cascade=true"]
    return settings, tmp_path / "outputs" / "predictions_val_none.jsonl"


def main(monkeypatch, settings, *more):
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", *settings, "--adapter", "none", *more])
    predict_exp1.main()


def test_a_kill_between_stages_goes_on_to_the_same_bytes(files, monkeypatch, capsys):
    """The batch that was killed is asked again from its first stage, another is not; and other wordings are a cascade of their own."""
    settings, out = files
    main(monkeypatch, settings, "--perturb", "reworded")
    assert " --robustness" in capsys.readouterr().out.splitlines()[-1], "what is to be done next"
    expected = {path.name: path.read_bytes() for path in out.parent.glob("predictions*.jsonl")}
    assert len(expected) > 1
    main(monkeypatch, settings, "predict.tokens_per_row=120", "--out", str(narrow := out.with_name("narrow.jsonl")))
    answers = lambda path: [(row["id"], row["pred"]) for _, row in read_jsonl(path)]
    assert answers(narrow) == answers(out), "images whose rows are split stay whole over their stages"
    out.unlink()
    passes, answer_items = [], cascade.answer_items

    def counted(model, dataset, items, *rest, last=None):
        passes.append([row["id"] for item in items for row in item["rows"]])
        if last and len(passes) == last:
            raise KeyboardInterrupt
        return answer_items(model, dataset, items, *rest)

    monkeypatch.setattr(cascade, "answer_items", lambda *args: counted(*args, last=5))
    with pytest.raises(KeyboardInterrupt):
        main(monkeypatch, settings)
    stage = list(map(set, passes))
    assert not out.exists() and len(stage) == 5
    passes.clear()
    monkeypatch.setattr(cascade, "answer_items", counted)
    main(monkeypatch, settings)
    assert "continuing: 1 of 2 batches are there already" in capsys.readouterr().out
    assert len(passes) == 3 and not stage[0] & set().union(*passes) and stage[4] == set(passes[1])
    assert out.read_bytes() == expected[out.name]
    with pytest.raises(UserError, match="made with other config predict.cascade; "):
        main(monkeypatch, [*settings, "predict.cascade=false"])


def test_training_is_told_true_answers_and_prediction_refuses_another_cascade(files, tmp_path):
    """Also of a row whose image's other rows are cut off after it; an adapter that says nothing was trained without."""
    settings, _ = files
    with pytest.raises(UserError, match="train.cascade=gold needs predict.cascade=true, .*; set both, or train.cascade=none"):
        load_config(None, [*settings, "train.cascade=gold", "predict.cascade=false"])
    none, gold = load_config(None, settings), load_config(None, [*settings, "train.cascade=gold"])
    rows = training_rows(gold, "train")
    assert training_rows(none, "train") == ensure_enriched(none, "train")
    true = {row["id"]: row["answer"] for row in rows}
    assert rows == with_earlier_answers(rows, true) and [row[EARLIER] for row in rows[:5]].count(()) == 2
    assert [question[-1] for question, _ in rows[4][EARLIER]] == ["b", "e", "c"] and rows[4]["image"] == "2.png"
    for trained, asked in ((none, gold), (gold, none)):
        folder = tmp_path / trained.train.cascade
        write_json(folder / "experiment.json", experiment_facts(trained, {}))
        check_adapter(folder, experiment_facts(trained, {}))
        with pytest.raises(UserError, match=f'was trained with cascade="{trained.train.cascade}", this run has "{asked.train.cascade}"; '):
            check_adapter(folder, experiment_facts(asked, {}))
    older = {key: value for key, value in experiment_facts(none, {}).items() if key != "cascade"}
    write_json(folder / "experiment.json", older)
    check_adapter(folder, experiment_facts(none, {}))


def test_rows_without_a_stage_are_refused_before_the_model_is_loaded(files, monkeypatch):
    settings, out = files
    rows = [row for _, row in read_jsonl(out.parents[1] / "rows.jsonl")]
    write_jsonl(out.parents[1] / "rows.jsonl", [{key: value for key, value in row.items() if key != "stage"} for row in rows])
    monkeypatch.setattr(run, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="^row '0': its question has no stage "):
        main(monkeypatch, settings)
    assert not out.exists()
