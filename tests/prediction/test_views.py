"""How a split is put to the model once more, and the files that one pass fills: ids, pictures, answers that come back, kills.

python -m pytest tests/prediction/test_views.py -v
"""

import json
import shutil
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from conftest import Killed, make_experiment, random_model

import predict_exp1
from config import near
from data.perturb import Shown, other_pictures, perturbations
from data.preprocess import ensure_enriched
from data.reword import wordings_of
from data.sides import SIDES_FILE
from dataset import load_dataset
from files import Interrupted, UserError, hash_of, read_json, read_jsonl, sha256, write_json
from model.load import load_model_config, load_processor
from prediction import run
from prediction.decode import Answer, answer_questions
from prediction.streaming import PredictionStream
from prediction.views import Streams, View, perturbed, plain

LEFT_OR_RIGHT = {"question": "Where is the clip?", "options": ["left", "right", "center"], "answer": "left", "image": "0.png"}
TEXT = {"question": "Is there text?", "answer": "yes", "image": "1.png", "group": "P1"}


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    """The experiment of conftest, whose rows ask for text, colours and counts, with a row about sides."""
    folder = tmp_path_factory.mktemp("views")
    cfg, rows = make_experiment(folder, questions=(1, 3, 5, 2))
    with open(folder / "rows.jsonl", "a") as file:
        file.write(json.dumps(LEFT_OR_RIGHT) + "\n")
    return cfg


@pytest.fixture(scope="module")
def rows(cfg):
    return ensure_enriched(cfg, "train")


@pytest.fixture(scope="module")
def setup(cfg):
    processor = load_processor(cfg)
    return processor, random_model(processor), load_model_config(cfg)


def dataset_of(view, cfg, setup):
    return load_dataset(view.rows, setup[0], cfg, setup[2], supervised=False, shown=view.shown)


def answers_of(view, cfg, setup):
    """{id asked: Answer} of the real model about a view."""
    batches = answer_questions(setup[1], dataset_of(view, cfg, setup), cfg, "exact", 4)
    return {row["id"]: answer for batch in batches for row, answer in batch}


def test_all_wordings_hang_under_one_image_prefix(cfg, rows, setup):
    """And are answered as each would be alone, under the type and the valid answers that the question has."""
    view = perturbed("reworded", cfg, rows)
    asked = [row for row in rows if wordings_of(row)]
    assert view.names == ["reworded_1", "reworded_2"] and len(view.rows) == 2 * len(asked) and 0 < len(asked) < len(rows)
    assert view.ids(0) == view.ids(1) == [row["id"] for row in asked]
    assert (
        view.left_out
        == f"{len(rows) - len(asked)} of {len(rows)} rows are left out: their questions have no other wording (data/rewordings.yaml)"
    )
    dataset = dataset_of(view, cfg, setup)
    assert len(dataset) == len({row["image"] for row in asked}), "one tree a picture"
    kinds = {(row["question_type"], tuple(row["answer_candidates"] or ()), row["multi_label"]) for row in view.rows}
    assert kinds == {("yes_no", ("yes", "no"), False)}
    together = answers_of(view, cfg, setup)
    for row in view.rows[:2]:
        alone = answers_of(plain([row]), cfg, setup)[row["id"]]
        assert together[row["id"]].text == alone.text and together[row["id"]].logprob == pytest.approx(alone.logprob, abs=1e-5)
    own, _, more = view.own(view.rows[1], Answer("yes", "exact"))
    assert (own["question"], more) == ("Is there text?", {"wording": "Can any text be seen in the image?"})


def test_a_black_or_turned_picture_reaches_the_model(cfg, rows, setup):
    items = {name: dataset_of(perturbed(name, cfg, rows), cfg, setup)[0] for name in ("black", "rotation", "flip", "other_image")}
    whole = dataset_of(plain(rows), cfg, setup)[0]
    black = items["black"]["pixel_values"]
    assert black.shape == whole["pixel_values"].shape and all((column == column[0]).all() for column in (black[:, 0], black[:, -1]))
    assert not torch.equal(items["flip"]["pixel_values"], whole["pixel_values"])
    shapes = {tuple(dataset_of(plain(rows), cfg, setup)[place]["image_grid_thw"][0].tolist()) for place in range(4)}
    turned = {tuple(dataset_of(perturbed("rotation", cfg, rows), cfg, setup)[place]["image_grid_thw"][0].tolist()) for place in range(4)}
    assert {(t, w, h) for t, h, w in shapes} == turned and shapes != turned
    names = items["other_image"]["images"]
    assert names != ["0.png"] and items["other_image"]["rows"][0]["image"] == "0.png", "rows keep their own picture's name"


def test_what_is_said_of_a_mirrored_picture_comes_back(cfg, rows):
    view = perturbed("flip", cfg, rows)
    asked = view.rows[-1]
    assert (asked["options"], asked["answer_candidates"]) == (["right", "left", "center"], ["right", "left", "center"])
    scored = (("right", -0.1), ("left", -2.5), ("center", -5.0))
    own, answer, more = view.own(asked, Answer("right", "exact", -0.1, scored=scored, greedy="center"))
    assert own == rows[-1] and more == {}
    assert (answer.text, answer.greedy, [text for text, _ in answer.scored]) == ("left", "center", ["left", "right", "center"])
    written = run.prediction_row(own, answer)
    assert (written["pred"], written["gt"], written["runner_up"]) == ("left", "left", "right")
    seen = {**rows[-1], "id": "seen", "question": "Is it on the left?", "options": None, "answer_candidates": ["yes", "no"]}
    asked = (moved := perturbed("flip", cfg, [seen])).rows[0]
    assert asked["question"] == "Is it on the right?" and moved.own(asked, Answer("yes", "exact"))[2] == {}, "that is no wording"
    turned = perturbed("rotation", cfg, rows)
    assert turned.rows[-1]["answer_candidates"] == ["bottom", "top", "center"], "options move in place"
    assert turned.own(turned.rows[-1], Answer("bottom", "exact"))[1].text == "left"


def test_sides_are_moved_in_the_languages_of_the_data(cfg, rows):
    german = cfg.model_copy(update={"data": cfg.data.model_copy(update={"language": "de"})})
    row = {**rows[-1], "question": "Ist der Clip links?", "options": ["links", "rechts"], "answer_candidates": ["links", "rechts"]}
    view = perturbed("flip", german, [row])
    assert (view.rows[0]["question"], view.rows[0]["answer_candidates"]) == ("Ist der Clip rechts?", ["rechts", "links"])
    assert view.own(view.rows[0], Answer("rechts", "exact"))[1].text == "links"


def test_rows_whose_side_nobody_can_move_are_left_out_and_counted(cfg, rows):
    """A left lobe stays one in the mirror, and looks like a right one."""
    assert perturbed("flip", cfg, rows).left_out is None
    fixed = {
        **rows[-1],
        "id": "x",
        "question": "Is it in the left lobe?",
        "options": None,
        "answer_candidates": ["yes", "no"],
    }
    view = perturbed("flip", cfg, [*rows, fixed])
    said = f"1 of {len(rows) + 1} rows are left out: their sides or places can't be moved with the picture (data/sides.yaml)"
    assert (view.left_out, view.ids(0)) == (said, [row["id"] for row in rows])


def test_a_limit_asks_the_first_rows_but_other_pictures_come_from_all(cfg, rows):
    assert perturbed("other_image", cfg, rows, limit=1).rows == rows[:1]
    donors = perturbed("other_image", cfg, rows, limit=1).shown.donors
    assert donors == perturbed("other_image", cfg, rows).shown.donors == other_pictures(rows, 42) and len(donors) == 4
    assert perturbed("jpeg", cfg, rows).shown == Shown("jpeg", 42, {}) and perturbed("jpeg", cfg, rows, limit=2).ids(0) == ["0", "1"]


def test_a_copy_of_a_picture_is_not_another(cfg, rows, tmp_path):
    for name, source in (("a", 0), ("b", 0), ("c", 1)):
        shutil.copy(cfg.image_folder() / f"{source}.png", tmp_path / f"{name}.png")
    pictures = [{**rows[0], "id": name, "image": f"{name}.png"} for name in "abc"]
    for seed in range(6):
        sections = {"data": {"image_root": tmp_path}, "train": {"seed": seed}}
        own = cfg.model_copy(update={name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()})
        donors = perturbed("other_image", own, pictures).shown.donors
        assert donors["a.png",] == donors["b.png",] == ("c.png",) and donors["c.png",] in (("a.png",), ("b.png",))


def test_a_perturbations_facts_are_all_that_decides_it(cfg, rows):
    """Of a mirrored picture, the words for its sides too."""
    assert perturbed("black", cfg, rows).facts == {"name": "black", "strength": {}, "seed": 42}
    assert perturbed("flip", cfg, rows).facts == {"name": "flip", "strength": {}, "seed": 42, "sides": sha256(SIDES_FILE)}
    seven = cfg.model_copy(update={"train": cfg.train.model_copy(update={"seed": 7})})
    other = perturbed("other_image", seven, rows)
    assert (other.facts["seed"], other.shown) == (7, Shown("other_image", 7, other_pictures(rows, 7)))
    wordings = hash_of([[row["id"], wordings_of(row)] for row in rows])
    assert perturbed("reworded", cfg, rows).facts == {"name": "reworded", "strength": {}, "seed": 42, "wordings": wordings}
    own = View([None], rows, {row["id"]: (0, row) for row in rows})
    assert plain(rows) == own and own.own(rows[0], answer := Answer("a", "free")) == (rows[0], answer, {})


def test_what_cant_be_asked_is_an_error(cfg, rows):
    body = [{**TEXT, "id": "0", "question": "Is the left lobe seen?", "answer_candidates": ["yes", "no"], "multi_label": False}]
    for name, some, message in (
        ("flip", body, "flip: every row asks for a side or a place that data/sides.yaml can't move"),
        ("reworded", [], "reworded: no question of this split has other wordings"),
        ("reworded", body, "reworded: no question of this split has other wordings; add them to data/rewordings.yaml"),
        ("other_image", [{**row, "group": "P1"} for row in rows], "other_image: the 4 pictures of this split are of one patient"),
    ):
        with pytest.raises(UserError, match=message):
            perturbed(name, cfg, some)


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--perturb", "flip", "black", "predict.batch_size=2"], ["black", "flip"]),
        (["--perturb", "jpeg", "all"], list(perturbations())),
        ([], []),
    ],
)
def test_perturbations_are_named_and_overrides_may_follow(arguments, names, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", *arguments])
    args = predict_exp1.parse_arguments()
    assert (args.perturb, args.perturb_all) == (names, "all" in arguments)
    assert args.overrides == [text for text in arguments if "=" in text]


@pytest.mark.parametrize("arguments", [["--perturb", "blurr"], ["--perturb", "black", "--image", "a.jpg", "--question", "Why?"]])
def test_what_cant_be_perturbed_is_refused_at_once(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", *arguments])
    with pytest.raises(SystemExit):
        predict_exp1.parse_arguments()
    assert "--perturb" in capsys.readouterr().err.splitlines()[-1]


# --- one pass, several files


ONE = SimpleNamespace(process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None)
ONE.main_process_first = nullcontext


class Pass:
    """answer_view of a view with a table for a model; stops like a kill after `most` batches. Everything else is the real thing."""

    def __init__(self, cfg, rows, folder, setup, monkeypatch):
        self.cfg, self.rows, self.out, self.computed, self.most = cfg, rows, folder / "p.jsonl", [], None
        self.setup = setup
        monkeypatch.setattr(run, "answer_questions", self.answers)
        monkeypatch.setattr(run, "load_model", lambda cfg, adapter: (setup[1], None))
        monkeypatch.setattr(run, "sidecar_facts", lambda *args: {"ids": args[2], "made_from": args[7]})

    def answers(self, model, dataset, cfg, decoding, limit, batches):
        self.dataset = dataset
        for batch in batches:
            if len(self.computed) == self.most:
                raise Killed
            self.computed.append(batch)
            yield [(row, Answer(f"about {row['question']}", "free", -1.0)) for index in batch for row in dataset.groups[index]]

    def __call__(self, name, most=None, overwrite=False):
        self.computed, self.most = [], most
        args = SimpleNamespace(split="train", limit=None, overwrite=overwrite)
        cfg = self.cfg.model_copy(update={"predict": self.cfg.predict.model_copy(update={"batch_size": 1})})
        job = run.Job(cfg, args, None, {}, 4, self.setup[2], self.setup[0], ONE, {"adapter": "a"})
        job.__dict__["all_rows"] = self.rows
        run.answer_view(job, perturbed(name, self.cfg, self.rows), self.out)
        return {path.name: path.read_bytes() for path in sorted(self.out.parent.glob("p_*.jsonl"))}


def test_one_pass_fills_a_file_for_each_wording_and_goes_on_after_a_kill(cfg, rows, setup, tmp_path, monkeypatch, capsys):
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    asked = sum(bool(wordings_of(row)) for row in rows)
    expected = Pass(cfg, rows, tmp_path / "whole", setup, monkeypatch)("reworded")
    said, bar = capsys.readouterr()
    left_out = f"reworded: {len(rows) - asked} of {len(rows)} rows are left out: their questions have no other wording "
    wrote = [
        (f"0 of {asked} rows constrained; free: yes_no {asked}", f"wrote {asked} predictions to {near(path)}")
        for path in (tmp_path / "whole" / name for name in expected)
    ]
    assert said.splitlines() == [f"{left_out}(data/rewordings.yaml)", *wrote[0], *wrote[1]]
    assert bar.split("\r")[-1].startswith("predicting reworded_1 reworded_2: 100%|") and f"| {2 * asked}/{2 * asked} [" in bar
    monkeypatch.undo()
    assert list(expected) == ["p_reworded_1.jsonl", "p_reworded_2.jsonl"]
    first, second = ([row for _, row in read_jsonl(tmp_path / "whole" / name)] for name in expected)
    assert [row["id"] for row in first] == [row["id"] for row in second] == [row["id"] for row in rows if wordings_of(row)]
    assert first[0]["question"] == second[0]["question"] == "Is there text?", "the data's own, by which it is judged"
    assert (first[0]["pred"], first[0]["wording"]) == ("about Does the image contain text?", "Does the image contain text?")
    sidecar = read_json(tmp_path / "whole" / "p_reworded_2.meta.json")
    assert sidecar["perturbation"]["name"] == "reworded" and sidecar["ids"] == [row["id"] for row in second]
    again = Pass(cfg, rows, tmp_path, setup, monkeypatch)
    with pytest.raises(Killed):
        again("reworded", most=2)
    assert not list(tmp_path.glob("p_*.jsonl"))
    assert again("reworded") == expected and len(again.computed) == 2
    assert again("reworded") == expected and again.computed == [], "what is there is not made twice"
    (tmp_path / "p_reworded_2.jsonl").unlink()
    capsys.readouterr()
    assert again("reworded") == expected and len(again.computed) == 4
    there = f"{near(tmp_path / 'p_reworded_1.jsonl')} is there already, made from just this; --overwrite makes it anew"
    assert capsys.readouterr().out.splitlines()[0] == there
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_of_all_perturbations_one_that_the_rows_dont_allow_is_a_note(cfg, rows, setup, tmp_path, monkeypatch, capsys):
    """Asked for by its name, it is an error; what came before it is there, about the rows that were asked and the pictures spoilt."""
    answer = Pass(cfg, [{**row, "group": "P1"} for row in rows], tmp_path, setup, monkeypatch)
    monkeypatch.setattr(run, "run_facts", lambda *args: {"adapter": "a"})
    monkeypatch.setattr(run, "ensure_enriched", lambda *args: answer.rows)
    monkeypatch.setattr(run, "processes", lambda: ONE)
    args = SimpleNamespace(split="train", limit=4, overwrite=False, perturb=["other_image", "black"], perturb_all=True)
    assert run.answer_split(cfg, args, None, {}, 4, setup[2], setup[0], answer.out)
    assert "note: other_image: the 4 pictures of this split are of one patient" in capsys.readouterr().out
    ids = {path.name: [row["id"] for _, row in read_jsonl(path)] for path in tmp_path.glob("*.jsonl")}
    assert ids == dict.fromkeys(("p.jsonl", "p_black.jsonl"), [row["id"] for row in rows[:4]])
    assert answer.dataset[0]["pixel_values"].unique().numel() == 3, "one value a colour"
    args.perturb, args.perturb_all = ["other_image"], False
    with pytest.raises(UserError, match="^other_image: the 4 pictures"):
        run.answer_split(cfg, args, None, {}, 4, setup[2], setup[0], answer.out)


def test_another_strength_is_another_prediction(cfg, rows, setup, tmp_path, monkeypatch, capsys):
    answer = Pass(cfg, rows, tmp_path, setup, monkeypatch)
    answer("jpeg")
    monkeypatch.setitem(perturbations(), "jpeg", {"quality": 50})
    with pytest.raises(UserError, match="p_jpeg.jsonl: is there, made with other perturbation strength quality; give"):
        answer("jpeg")
    answer("jpeg", overwrite=True)
    assert read_json(tmp_path / "p_jpeg.meta.json")["perturbation"] == {"name": "jpeg", "strength": {"quality": 50}, "seed": 42}


def test_another_wording_is_another_prediction(cfg, rows):
    """The sidecar's facts know which wordings were asked, and of which rows."""
    facts = lambda rows: perturbed("reworded", cfg, rows).facts
    other = [{**rows[0], "rewordings": ["Is it seen?"]}, *rows[1:]]
    assert facts(rows) == facts(rows) and facts(rows)["wordings"] != facts(other)["wordings"]


def test_of_two_files_the_one_that_is_whole_is_left_alone(rows, cfg, tmp_path):
    """Killed between the two renames at the end."""
    view = perturbed("reworded", cfg, rows)

    class Whole:
        def __init__(self, whole):
            self.whole, self.rows = whole, []

        def is_finished(self, overwrite):
            return self.whole

        def finished(self):
            return {row["id"]: row for row in self.rows}

        def append(self, rows):
            assert not self.whole
            self.rows += rows

    files = [Whole(True), Whole(False)]
    streams = Streams(files, view, False)
    assert streams.open == [1] and streams.finished() == {row["id"] for row in view.rows if row["id"].endswith("(wording 1)")}
    streams.append([{"id": row["id"], "pred": "x"} for row in view.rows])
    assert [row["id"] for row in files[1].rows] == view.ids(1) and len(streams.finished()) == len(view.rows)


def test_an_interruption_counts_the_rows_of_all_files(cfg, rows, tmp_path):
    """Also of one that is whole; each wording has its own file, and all are rows of the same pass."""
    view = perturbed("reworded", cfg, rows)

    def interrupted(kept):
        streams = Streams([PredictionStream(tmp_path / f"{name}.jsonl", {"adapter": "a"}) for name in view.names], view, False)
        streams.start()
        streams.append([{"id": row["id"]} for row in view.rows[:3] if view.places[row["id"]][0] in streams.open])
        with pytest.raises(Interrupted, match=f"^{kept} of {len(view.rows)} rows are kept; go on with: the same$"):
            with streams.interruption_explained(len(view.rows), "the same"):
                raise KeyboardInterrupt
        return [streams.streams[number] for number in streams.open]

    first, second = interrupted(kept=3)
    first.append([{"id": name} for name in view.ids(0)[2:]])
    first.finish(view.ids(0), lambda: write_json(first.sidecar, {"made_from": first.facts}))
    second.lock.release()
    second.discard()
    assert len(interrupted(kept=len(view.ids(0)) + 1)) == 1
