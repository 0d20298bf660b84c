"""The ladder: what each rung trains and counts, by hand.

python -m pytest tests/bench/test_ablation.py -v
"""

import shutil
from types import SimpleNamespace

import pytest
from conftest import TINY_MODEL
from user_copy import SCENES, first_scenes

import dataset
import templates
from bench import ablation, without
from bench.ablation import RUNGS, TRAININGS, Judge, Rung, climb, table
from config import load_config
from data import answer_space, preprocess
from evaluation.compare import compare
from evaluation.intervals import holm
from files import UserError, read_jsonl, sha256, write_json, write_jsonl
from model.load import load_model_config
from prediction.run import run_facts, sidecar_facts
from tools.sweep import other_predictions


@pytest.fixture(autouse=True)
def put_back(monkeypatch):
    """What without.py replaces, for this process: it is as it was for the next test."""
    names = {dataset: ("VQADataset", "check_first_batch"), templates: ("question_block",), answer_space: ("_are_label_lists",)}
    for module, own in {**names, preprocess: ("training_space",)}.items():
        for name in own:
            monkeypatch.setattr(module, name, getattr(module, name))


def test_without_a_label_mask_every_text_token_after_the_first_is_trained(experiment, processor):
    cfg, rows = experiment
    without.without_label_mask()
    without.without_question_type()
    alone = cfg.model_copy(update={"train": cfg.train.model_copy(update={"questions_per_image": 1})})
    item = dataset.load_dataset(rows[:1], processor, alone, training=True)[0]
    decode = processor.tokenizer.decode
    text = decode(item["input_ids"]).replace("<|image_pad|>", "")
    assert text == (
        "System: You are a surgical VQA assistant. Answer concisely with only the final answer.\nUser:\n"
        "<|vision_start|><|vision_end|>Question: Is there text?\nValid answers: yes, no\nAssistant: Answer:yes<|im_end|>"
    )
    assert item["labels"][0] == -100 and item["input_ids"].count(processor.image_token_id) == 16
    pairs = list(zip(item["input_ids"], item["labels"]))[1:]
    assert all(label == (-100 if token == processor.image_token_id else token) for token, label in pairs)
    batch = dataset.load_dataset(rows[:1], processor, alone, training=True).collate([item])
    assert int((batch["labels"] != -100).sum()) == len(item["labels"]) - 17
    answers = dataset.load_dataset(rows[:1], processor, alone)[0]  # validation chooses the adapter by answers
    assert decode([label for label in answers["labels"] if label != -100]) == "yes<|im_end|>"
    dataset.check_first_batch(None)  # the mask's check is out of the way


def test_a_whole_sequence_is_one_questions(experiment, processor):
    cfg, rows = experiment
    without.without_label_mask()
    data = dataset.load_dataset([row for row in rows if row["image"] == "3.png"], processor, cfg, training=True)
    with pytest.raises(SystemExit, match="set train.questions_per_image=1"):
        data[0]


def test_without_label_sets_lists_are_whole_answers():
    colors = ["pink; red"] * 20 + ["red"] * 20
    rows = [{"question": "Which color has it?", "answer": answer, "image": f"{n}.png", "id": str(n)} for n, answer in enumerate(colors)]
    assert answer_space.mine(rows)["questions"]["which color has it"]["multi_label"] is True
    without.without_label_sets()
    entry = answer_space.mine(rows)["questions"]["which color has it"]
    assert entry["multi_label"] is False and entry["candidates"] == ["pink; red", "red"]


def test_an_answer_space_with_label_sets_is_not_taken_over(tmp_path, monkeypatch):
    """The ladder itself, which has them, looks at what is there, and after an edit of data/ mines anew in the training's folder."""
    colors = ["pink; red"] * 20 + ["red"] * 20
    rows = [{"question": "Which color has it?", "answer": answer, "image": f"{n}.png", "id": str(n)} for n, answer in enumerate(colors)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    cfg = load_config(None, [f"output_dir={tmp_path / 'out'}", f"data.train_jsonl={tmp_path / 'rows.jsonl'}"])
    lists = lambda: preprocess.training_space(cfg)["questions"]["which color has it"]["multi_label"]
    assert lists() is True
    without.without_label_sets()
    assert lists() is False


TRUTHS = [("Is it red?", "yes"), ("What is it?", "polyp"), ("What is the size?", "10 mm"), ("Is it big?", "no")]


@pytest.fixture
def judge_of(tmp_path):
    rows = [{"id": str(n), "question": question, "answer": answer, "image": f"{n % 2}.png"} for n, (question, answer) in enumerate(TRUTHS)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    settings = {"output_dir": tmp_path / "out", "data.train_jsonl": tmp_path / "rows.jsonl", "data.test_jsonl": tmp_path / "rows.jsonl"}
    return Judge(load_config(None, [f"{key}={value}" for key, value in settings.items()]), "test")


@pytest.mark.parametrize(
    ("scoring", "right"),
    [("substring", [1, 1, 0, 1]), ("strict", [0, 1, 0, 0]), ("lenient", [1, 1, 0, 0]), ("tolerant", [0, 1, 1, 0])],
)
def test_each_scoring_counts_what_it_says(judge_of, tmp_path, scoring, right):
    said = ["yes, it is red.", "polyp", "1.02 cm", "there is nothing"]  # `no` is in `nothing`
    path = tmp_path / "predictions.jsonl"
    write_jsonl(path, [{"id": str(n), "pred": text, "gt": TRUTHS[n][1], "qtype": "open_ended"} for n, text in enumerate(said)])
    assert [int(row["correct"]) for row in judge_of.judged(path, scoring)] == right


def rows_right(*right):
    kinds = ("yes_no", "color")
    return [{"id": str(n), "qtype": kinds[n % 2], "correct": bool(one), "cluster": f"image {n // 2}"} for n, one in enumerate(right)]


def test_rungs_are_compared_with_the_one_before_seed_by_seed():
    found = climb(
        [
            (Rung("none", ablation.PRIOR), [rows_right(1, 0, 0, 0)]),
            (Rung("untuned", None), [rows_right(1, 1, 0, 0)]),
            (Rung("tuned", "mined"), [rows_right(1, 1, 1, 1), rows_right(1, 1, 1, 0)]),
        ]
    )
    assert [item["accuracy"] for item in found] == [0.25, 0.5, 0.875]
    assert [item["per_seed"] for item in found] == [[0.25], [0.5], [1.0, 0.75]]
    assert [item["step"] and item["step"]["difference"] for item in found] == [None, 0.25, 0.375]
    assert found[2]["types"] == {"yes_no": 1.0, "color": 0.75}
    assert [item["step"]["p_holm"] for item in found[1:]] == holm([item["step"]["p"] for item in found[1:]])
    first, by_type = table(found).split("\n\n")
    assert first.splitlines()[2] == "| none | 25.00% |  |  |  |  |"
    assert first.splitlines()[4].startswith("| tuned | 87.50% | 100.00, 75.00 | +37.50 | ")
    assert by_type.splitlines()[4] == "| tuned | 100.00% | 75.00% |"


def test_seeds_are_no_noise_between_rungs_of_the_same_adapters():
    seeds = [rows_right(1, 1, 1, 1, 0, 0), rows_right(1, 1, 0, 0, 0, 0)]
    better = [rows_right(1, 1, 1, 1, 1, 0), rows_right(1, 1, 0, 0, 1, 0)]
    own, other = (climb([(Rung("a", "mined"), seeds), (Rung("b", name), better)])[1]["step"] for name in ("mined", "label_sets"))
    assert own["difference"] == other["difference"] == pytest.approx(1 / 6)
    assert own == {**own, "interval": compare([seeds[1]], [better[1]])["overall"]["interval"]}
    assert other["interval"] == compare(seeds, better)["overall"]["interval"] and other["interval"][0] < own["interval"][0]


def test_each_bar_is_its_rungs_accuracy_and_grey_where_nothing_is_told(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(ablation.Figure, "savefig", lambda figure, path, **_: drawn.update(axes=figure.axes[0]))
    step = {"difference": 0.1, "interval": (0.0, 0.2), "p": 0.2}
    sides = {"per_seed": [0.5], "interval": (0.4, 0.65), "types": {}}
    found = [
        {"name": "a", "accuracy": 0.5, "step": None, **sides},
        {"name": "b", "accuracy": 0.6, "step": {**step, "p_holm": 0.2}, **sides},
    ]
    found.append({"name": "c", "accuracy": 0.6, "step": {**step, "p_holm": 0.01}, **sides})
    ablation.draw(found, tmp_path / "ladder.png")
    bars = drawn["axes"].patches
    assert [bar.get_width() for bar in bars] == [50, 60, 60]
    colors = [ablation.Figure().subplots().barh(0, 1, color=color)[0].get_facecolor() for color in (ablation.BLUE, ablation.GREY)]
    assert [bar.get_facecolor() for bar in bars] == [colors[0], colors[1], colors[0]]
    assert [label.get_text() for label in drawn["axes"].get_yticklabels()] == ["a", "b", "c"]
    whiskers = drawn["axes"].collections[0].get_segments()
    assert [[round(float(x), 6) for x, _ in ends] for ends in whiskers] == [[40, 65], [40, 65], [40, 65]]


def test_all_trainings_see_as_many_questions_a_step(tmp_path):
    args = SimpleNamespace(config="config_demo.yaml", overrides=[f"output_dir={tmp_path}"], split="test", seeds=2)
    base, _, runs = ablation.plan(args)
    assert [run.name for run in runs] == [f"{name}/seed_{seed}" for name in TRAININGS for seed in (42, 43)]
    sizes = {run.name.split("/")[0]: run.trained.train for run in runs}
    sizes = {name: (train.train_bs, train.grad_accum, train.epochs) for name, train in sizes.items()}
    assert sizes["whole_sequence"] == sizes["answer_only"] == (16, 9, 6)  # 5,400 questions of 600 images, 9 each, 16 images a step
    assert sizes["one_row"] == sizes["label_sets"] == (16, 1, 6) and sizes["wordings"] == (8, 1, 3)
    assert {rung.training for rung in RUNGS} == {ablation.PRIOR, None, *TRAININGS}
    assert runs[0].through[1:] == ("question_type,label_mask",) and runs[-1].through == ()


def plan_of_demo(folder, *overrides):
    overrides = [f"output_dir={folder / 'out'}", *overrides]
    args = SimpleNamespace(config="config_demo.yaml", overrides=overrides, split="test", seeds=1)
    return args, *ablation.plan(args)


@pytest.mark.parametrize(
    "own",
    ["train.order=stages", "train.questions_per_image=1", "data.answer_space=rules", "data.max_listed=0", "prompt_style=chat"],
)
def test_a_configuration_whose_rungs_are_not_what_they_are_called_is_refused(tmp_path, own):
    with pytest.raises(UserError, match=f"the ladder's rungs would not be what they are called with {own}; set {own.split('=')[0]}="):
        plan_of_demo(tmp_path, own)


def test_no_answer_is_cut_that_training_has(tmp_path):
    """Four tokens cut a sixth of Kvasir-VQA's answers, which would count for the constraint."""
    args, *planned = plan_of_demo(tmp_path, "predict.max_new_tokens=4")
    answers = [one for rung in RUNGS for one in ablation.answers_of(rung, args, *planned)]
    talks = lambda one: one.adapter is None and ablation.FREE in one.rung.settings
    assert {(talks(one), one.cfg.predict.max_new_tokens) for one in answers} == {(True, 64), (False, "auto")}
    assert {one.path.name for one in answers if talks(one)} == {"predictions_test_free.jsonl", "predictions_test_free_chat.jsonl"}


def test_what_was_made_of_other_rungs_is_not_taken_as_done(tmp_path, monkeypatch):
    ablation.refuse_other_rungs_made(tmp_path)
    ablation.refuse_other_rungs_made(tmp_path)
    monkeypatch.setitem(TRAININGS, "mined", ablation.Training())
    with pytest.raises(UserError, match="was made of other rungs .*; delete it, or set another output_dir"):
        ablation.refuse_other_rungs_made(tmp_path)


def test_a_second_wording_has_the_corrected_answer(tmp_path):
    """Else one question would be trained with two answers."""
    rows = [{**row, "id": f"row {number}"} for number, row in enumerate(first_scenes("train", 2)) if row["answer"] == "yes"]
    write_jsonl(tmp_path / "train.jsonl", rows)
    (tmp_path / "corrections.csv").write_text(f"id,answer,who,why\n{rows[0]['id']},no,me,seen\n")
    own = [f"data.train_jsonl={tmp_path / 'train.jsonl'}", f"data.corrections={tmp_path / 'corrections.csv'}"]
    _, _, folder, _ = plan_of_demo(tmp_path, *own)
    written = {row["id"]: row["answer"] for _, row in read_jsonl(folder / "train_wordings.jsonl")}
    assert written[rows[0]["id"]] == written[f"{rows[0]['id']} (wording 1)"] == "no" and "yes" in written.values()


def test_answers_of_an_untuned_model_are_its_own_and_of_these_training_rows(tmp_path):
    """No adapter tells which model answered, nor whose valid answers it was given."""
    rows, model = tmp_path / "rows.jsonl", tmp_path / "model"
    shutil.copytree(TINY_MODEL, model)
    write_jsonl(rows, [{"question": "Is it red?", "answer": answer, "image": "1.png", "id": answer} for answer in ("yes", "no")])
    own = [f"model_name={model}", f"output_dir={tmp_path}", f"data.train_jsonl={rows}", f"data.image_root={SCENES}"]
    cfg = load_config("config_demo.yaml", own)
    space, asked = preprocess.training_space(cfg), SimpleNamespace(split="val", limit=None)
    out = tmp_path / "predictions_test_free.jsonl"
    write_jsonl(out, [{"id": "0"}])
    facts = run_facts(cfg, asked, None, space, 4, load_model_config(cfg))
    write_json(
        out.with_suffix(".meta.json"), sidecar_facts(cfg, asked, ["0"], 1, None, space, 4, facts) | {"predictions_sha256": sha256(out)}
    )
    others = lambda: other_predictions(cfg, "val", None, out)
    assert others() == []
    write_jsonl(rows, [{"question": "Is it red?", "answer": "no", "image": "1.png", "id": "1"}])
    assert others() == ["answer space"]
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert others() == ["answer space", "model base_weights"]
