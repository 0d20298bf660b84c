"""The script: a split predicted whole, killed, asked again, and questions from the terminal.

python -m pytest tests/test_predict_exp1.py -v
"""

import gc
import shlex
import shutil
import sys

import pytest
from conftest import Killed, left_over, make_experiment

import predict_exp1
from config import near
from data.asked import rules_verdict
from files import Interrupted, UserError, read_json, read_jsonl, write_json, write_jsonl
from model import load
from prediction import run
from prediction.ask import HELP
from prediction.streaming import PredictionStream


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("closed"), questions=(3, 4, 2), **{"predict.batch_size": 2})


def main(cfg, monkeypatch, *arguments):
    settings = [f"model_name={cfg.model_name}", f"data.train_jsonl={cfg.data.train_jsonl}", f"data.val_jsonl={cfg.data.val_jsonl}"]
    settings += [f"data.image_root={cfg.data.image_root}", f"output_dir={cfg.output_dir}", "image.max_pixels=12544", "train.num_workers=0"]
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", *settings, "predict.batch_size=2", "--adapter", "none", *arguments])
    predict_exp1.main()


def test_the_script_killed_between_batches_goes_on_and_refuses_other_settings(closed, monkeypatch, capsys):
    cfg, rows = closed
    out = cfg.output_dir / "predictions_val_none.jsonl"
    main(cfg, monkeypatch)
    expected = out.read_bytes()
    assert [row["id"] for _, row in read_jsonl(out)] == [row["id"] for row in rows]
    out.unlink()
    append = PredictionStream.append

    def dies(self, batch):
        append(self, batch)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PredictionStream, "append", dies)
        with pytest.raises(Killed):
            main(cfg, monkeypatch)
    assert not out.exists()
    with pytest.raises(UserError, match="made with other config predict.beams; "):
        main(cfg, monkeypatch, "predict.beams=2")
    with pytest.raises(UserError, match="made with other arguments --limit; "):
        main(cfg, monkeypatch, "--limit", "3")
    capsys.readouterr()
    main(cfg, monkeypatch)
    assert "continuing: 1 of 2 batches are there already" in capsys.readouterr().out
    assert out.read_bytes() == expected and left_over(cfg.output_dir) == []
    assert read_json(out.with_suffix(".meta.json"))["rows_in_split"] == len(rows)


def test_the_script_finds_finished_predictions_and_refuses_to_replace_them(closed, monkeypatch, capsys):
    """Another decoding replaced the file without a word. An adapter is another model; a smaller --limit other rows."""
    cfg, rows = closed
    out = cfg.output_dir / "predictions_val_none.jsonl"
    main(cfg, monkeypatch, "--overwrite")
    before = out.read_bytes()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(run, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
        main(cfg, monkeypatch)
        said = capsys.readouterr().out.splitlines()
        assert said[0].endswith("predictions_val_none.jsonl is there already, made from just this; --overwrite makes it anew")
        assert said[1].startswith("next: ") and "eval_exp1.py" in said[1]
        words = shlex.split(said[1])
        assert words[words.index("--predictions") :][:4] == ["--predictions", near(out), "--against", near(cfg.data.val_jsonl)]
        assert "--robustness" not in words
        with pytest.raises(UserError, match="made with other config predict.decoding; give --out NAME.jsonl to keep it, or --overwrite"):
            main(cfg, monkeypatch, "predict.decoding=free")
        with pytest.raises(UserError, match="made with other arguments --limit; "):
            main(cfg, monkeypatch, "--limit", "3")
    assert out.read_bytes() == before
    main(cfg, monkeypatch, "predict.decoding=free", "--out", str(cfg.output_dir / "free.jsonl"))
    assert out.read_bytes() == before
    main(cfg, monkeypatch, "predict.decoding=free", "--overwrite")
    assert out.read_bytes() == (cfg.output_dir / "free.jsonl").read_bytes() != before
    assert read_json(out.with_suffix(".meta.json"))["made_from"]["config"]["predict.decoding"] == "free"


def test_finished_predictions_that_were_cut_or_changed_are_not_there(closed, monkeypatch):
    """Evaluation said to predict again, and prediction that all was there."""
    cfg, rows = closed
    out = cfg.output_dir / "predictions_val_none.jsonl"
    main(cfg, monkeypatch, "--overwrite")
    whole, sidecar = out.read_bytes(), out.with_suffix(".meta.json")
    by_ids = {key: value for key, value in read_json(sidecar).items() if key != "predictions_sha256"}
    remedy = "; give --overwrite to make it anew, or --out NAME.jsonl to keep it"
    cut, torn, edited = b"".join(whole.splitlines(True)[:4]), whole[:-9], whole.replace(b'"pred": "', b'"pred": "not ', 1)
    for damaged in (cut, torn, edited):
        out.write_bytes(damaged)
        with pytest.raises(UserError, match=f"predictions_val_none.jsonl: was changed or cut after it was written{remedy}"):
            main(cfg, monkeypatch)
    write_json(sidecar, by_ids)
    for damaged, said in ((cut, f"holds 4 rows that are not the {len(rows)} which its sidecar names"), (torn, "was cut or damaged")):
        out.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{said}.*{remedy}"):
            main(cfg, monkeypatch)
    out.write_bytes(whole)
    main(cfg, monkeypatch)
    assert out.read_bytes() == whole and read_json(sidecar) == by_ids, "older code's, found as before"


def test_a_run_without_memory_goes_on_with_less_at_once(closed, monkeypatch, capsys):
    """What the line about memory names is not what makes other predictions."""
    cfg, rows = closed
    out = cfg.output_dir / "less.jsonl"
    append = PredictionStream.append

    def runs_out(self, batch):
        append(self, batch)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(PredictionStream, "append", runs_out)
        with pytest.raises(UserError, match="^out of memory; lower predict.batch_size or predict.tokens_per_row and start again"):
            main(cfg, monkeypatch, "--out", str(out))
    gc.collect()
    capsys.readouterr()
    main(cfg, monkeypatch, "--out", str(out), "predict.batch_size=1", "predict.tokens_per_row=90")
    assert "continuing: 4 of 5 batches are there already" in capsys.readouterr().out
    assert [row["id"] for _, row in read_jsonl(out)] == [row["id"] for row in rows]


def test_ctrl_c_tells_the_rows_that_are_kept_and_the_command_that_goes_on(closed, monkeypatch, capsys):
    cfg, rows = closed
    out = cfg.output_dir / "stopped.jsonl"
    append = PredictionStream.append

    def interrupted(self, batch):
        append(self, batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PredictionStream, "append", interrupted)
        try:
            main(cfg, monkeypatch, "--out", str(out))
        except Interrupted as stop:
            kept, command = str(stop).split("; go on with: ")
    gc.collect()  # the lock goes with the process; here with the run
    assert kept == f"7 of {len(rows)} rows are kept", "two images, of 3 and 4 questions"
    words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", words[words.index("predict_exp1.py") :])
    capsys.readouterr()
    predict_exp1.main()
    assert "continuing: 1 of 2 batches are there already" in capsys.readouterr().out and out.exists()


def test_questions_over_the_token_budget_are_split_with_the_same_answers(closed, monkeypatch):
    (cfg, _), predict, groups, found = closed, run.predict, [], []

    def noting_groups(model, dataset, *rest):
        groups.append([(len(rows), dataset.count_tokens(rows)) for rows in dataset.groups])
        predict(model, dataset, *rest)

    monkeypatch.setattr(run, "predict", noting_groups)
    for budget in (4096, 90):
        main(cfg, monkeypatch, f"predict.tokens_per_row={budget}", "--overwrite")
        found.append([row for _, row in read_jsonl(cfg.output_dir / "predictions_val_none.jsonl")])
    assert [[questions for questions, _ in some] for some in groups] == [[3, 4, 2], [2, 1, 3, 1, 2]]
    assert all(tokens <= 90 for _, tokens in groups[1])
    for whole, split in zip(*found, strict=True):
        assert whole["pred"] == split["pred"] and whole["logprob"] == pytest.approx(split["logprob"], abs=1e-4)


def test_one_question_gives_what_the_split_gave(closed, processor, monkeypatch, capsys):
    cfg, rows = closed
    main(cfg, monkeypatch, "--overwrite")
    row = next(row for _, row in read_jsonl(cfg.output_dir / "predictions_val_none.jsonl") if row["decoding"] == "exact")
    capsys.readouterr()
    main(cfg, monkeypatch, "--image", str(cfg.data.image_root / row["image"]), "--question", row["question"])
    first = capsys.readouterr().out.splitlines()[0].split()
    assert first[:3] == [row["pred"], *f"{row['confidence']:.1%}".split()] or first[:2] == [row["pred"], f"{row['confidence']:.1%}"]


def test_questions_about_clips_in_a_split_and_from_the_terminal(closed, processor, tmp_path, monkeypatch, capsys):
    """One of them asked alone, its files behind `--image`, by `/image`, and thinned; predictions tell the whole list."""
    cfg, rows = closed
    lists = [["0.png", "1.png"], ["1.png", "0.png", "1.png"], ["0.png"]]
    rows = [{"question": rows[0]["question"], "answer": "yes", "images": images} for images in lists]
    write_jsonl(tmp_path / "clips.jsonl", rows)
    out = tmp_path / "p.jsonl"
    main(cfg, monkeypatch, f"data.val_jsonl={tmp_path / 'clips.jsonl'}", "--out", str(out), "data.max_frames=2")
    printed = capsys.readouterr().out
    assert "note: 1 of 3 rows have more images than data.max_frames=2 (up to 3)" in printed
    words = shlex.split(printed)
    assert words[words.index("--against") + 1] == near(tmp_path / "clips.jsonl")
    found = [row for _, row in read_jsonl(out)]
    assert [(row["image"], row.get("images")) for row in found] == [
        ("0.png", lists[0]), ("1.png", lists[1]), ("0.png", None)
    ]  # fmt: skip
    assert list(found[0])[:7] == ["id", "pred", "gt", "qtype", "question", "image", "confidence"]
    assert len({row["confidence"] for row in found}) == 3
    files = [[str(cfg.data.image_root / name) for name in images] for images in lists]
    for row, (first, *more) in zip(found, files):
        main(cfg, monkeypatch, "--question", row["question"], "--image", first, *more, "data.max_frames=2")
        lines = capsys.readouterr().out.splitlines()
        assert (lines[0].startswith("note: 1 of 1 rows")) == (len(more) == 2)
        assert f"{row['confidence']:.1%}" in lines[len(more) == 2]
    asked = iter([f"/image {files[0][0]} {files[0][1]}", row["question"], f"/image {files[2][0]}", row["question"], ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(asked))
    main(cfg, monkeypatch, "--interactive")
    bars = [line for line in capsys.readouterr().out.splitlines() if "█" in line and line.startswith(("yes", "no"))]
    assert [f"{row['confidence']:.1%}" in bars[place] for row, place in ((found[0], 0), (found[2], 2))] == [True, True]


def test_candidates_and_more_questions_from_the_terminal(closed, monkeypatch, capsys):
    cfg, _ = closed
    image = str(cfg.data.image_root / "0.png")
    lines = iter(
        [
            "Which tool?",
            "/candidates snare, forceps, Snare",
            "Which tool?",
            "/image /no/such.png",
            "/what",
            f"/image {image}",
            "Is there text?",
            "/candidates",
            "Is there text?",
            "",
        ]
    )
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    with monkeypatch.context() as patch:  # a broken image is told before a model is loaded
        patch.setattr(load, "load_processor", None)
        with pytest.raises(UserError, match="--image .*gone.png: there is no such file"):
            main(cfg, monkeypatch, "--image", image.replace("0.png", "gone.png"), "--question", "Is it?")
    main(cfg, monkeypatch, "--image", image, "--interactive")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == HELP and lines[2] == "answered freely: open_ended, no valid answers are known; --candidates gives some"
    for place, candidates in ((3, {"snare", "forceps"}), (8, {"snare", "forceps"}), (11, {"yes", "no"})):
        words = [line.split() for line in lines[place : place + 2]]
        shares = [float(share.removesuffix("%")) for _, share, *_ in words]
        assert {text for text, *_ in words} == candidates and shares[0] >= shares[1] and sum(shares) == pytest.approx(100, abs=0.11)
        assert lines[place + 2].startswith("unconstrained, the model says one of them with probability ")
    assert lines[6].startswith("error: /image /no/such.png: there is no such file") and lines[7] == f"error: /what: no such command; {HELP}"
    assert lines[14:] == ["valid answers: those of yes_no in data/schema.py; training answers to this question add nothing"]


@pytest.mark.parametrize("arguments", [["--question", "Is it?"], ["--image", "x.png"], ["--candidates", "a, b"], ["--limit", "0"]])
def test_arguments_that_need_another_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", *arguments])
    with pytest.raises(SystemExit):
        predict_exp1.main()
    assert "error: --" in capsys.readouterr().err


def test_a_picture_may_be_called_like_a_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frame=3.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["predict_exp1.py", "--question", "Is it?", "--image", "frame=3.png", "predict.beams=2"])
    args = predict_exp1.parse_arguments()
    assert (args.image, args.overrides) == (["frame=3.png"], ["predict.beams=2"])


def test_an_adapter_answers_on_its_base_and_as_it_was_trained(trained_adapter, tmp_path, monkeypatch, capsys):
    """Other weights and other stages in the prompts are refused; another comment in data/schema.py is not, for the rules say the same."""
    cfg, _, source = trained_adapter
    adapter, asked, found = shutil.copytree(source, tmp_path / "adapter"), [["Is there text?", False]], []
    facts = read_json(adapter / "experiment.json") | {"longest_answer": 27}
    rules = {**facts["answer_rules"], "rules": rules_verdict(asked), "schema": "0" * 64}
    monkeypatch.setattr(run, "answer_split", lambda cfg, args, adapter, space, limit, *rest: found.append((adapter, limit)))

    def predict(*overrides, **told):
        write_json(adapter / "experiment.json", {**facts, **told})
        main(cfg, monkeypatch, "--adapter", str(adapter), "predict.max_new_tokens=auto", *overrides)

    with pytest.raises(
        UserError, match=r"was trained on other weights \(base\) than those of .*base; give the model that it was trained on"
    ):
        predict(base_weights="0" * 64)
    with pytest.raises(UserError, match='was trained with stage_prefix="keep", this run has "strip"; '):
        predict("data.stage_prefix=strip")
    with pytest.raises(UserError, match="was trained with another data/schema.py: "):
        predict(answer_rules=rules)
    write_json(adapter / "questions.json", asked)
    capsys.readouterr()
    predict(answer_rules=rules)
    assert found == [(adapter, 27)], "and free answers are as long as the longest of its training"
    assert f"note: adapter {adapter} and model are compared by name (base), not by weights: " in capsys.readouterr().out

    def loads(cfg, adapter=None):
        found.append(adapter)
        raise Killed

    monkeypatch.setattr(load, "load_model", loads)
    with pytest.raises(Killed):
        predict("--image", str(cfg.image_folder() / "0.png"), "--question", "Is it?", answer_rules=rules)
    assert found[1:] == [adapter], "one question from the terminal, too"


def test_a_model_whose_answers_will_have_no_confidence_is_told_before(closed, tmp_path, monkeypatch, capsys):
    base = shutil.copytree(closed[0].model_name, tmp_path / "base")
    config = read_json(base / "config.json")
    config["text_config"] |= {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1, "layer_types": None}
    write_json(base / "config.json", config)
    monkeypatch.setattr(run, "answer_split", lambda *_: False)
    note = f"note: {base} has sliding_attention layers, which take no tree mask; its questions are answered one by one, greedily, and have "
    for decoding, said in (("exact", [f"{note}no confidence"]), ("greedy", [])):
        capsys.readouterr()
        main(closed[0], monkeypatch, f"model_name={base}", f"predict.decoding={decoding}")
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")] == said
