"""The series: what each experiment changes, which runs there are, and in which order they are made.

python -m pytest tests/tools/test_series.py -v
"""

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from planning import ask, by_name, plan_series
from user_copy import first_scenes, write_rows

from config import flat, load_config, near
from data.stages import stage_of
from files import UserError, read_jsonl, write_json
from tools import series, sweep

FILES = [path for path in sorted((ROOT / "configs").glob("exp*.yaml")) if path.stem in series.EXPERIMENTS]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """`plan_series` in a folder of the test's own."""
    return partial(plan_series, tmp_path, monkeypatch)


def test_an_experiment_changes_what_its_file_says_in_proportion_to_the_base():
    """The 7B file makes three times its base's accumulation, and so does the demo, whose own is half of it."""
    demo = load_config(ROOT / "config_demo.yaml")
    assert series.keys_of(ROOT / "configs" / "exp2.yaml", demo) == ["data.stage_prefix=add", "train.order=stages", "train.grad_accum=3"]
    thirds = ["data.stages=[1]", "train.grad_accum=3", "train.eval_steps=13", "train.save_steps=13"]  # of 38
    assert series.keys_of(ROOT / "configs" / "exp3.yaml", demo) == series.keys_of(ROOT / "configs" / "exp4.yaml", demo) == thirds
    real = load_config(ROOT / "config_exp1.yaml")
    for path in FILES:
        own = {key: value for key, value in flat(yaml.safe_load(path.read_text())).items() if key not in series.OWN}
        assert {key: flat(load_config(path).model_dump(mode="json"))[key] for key in own} == own
        assert [key.partition("=")[2] for key in series.keys_of(path, real)] == [
            value if isinstance(value, str) else json.dumps(value) for value in own.values()
        ]


def test_an_image_that_is_asked_in_fewer_stages_is_fewer_trees_and_a_step_keeps_its_questions(planned):
    real = load_config(ROOT / "config_exp1.yaml")
    path = ROOT / "configs" / "exp2.yaml"
    accumulated = [series.keys_of(path, real, trees)[-1] for trees in (1, 2.22, 2.98)]
    assert accumulated == ["train.grad_accum=2", "train.grad_accum=4", "train.grad_accum=6"]
    _, _, experiments = planned(train=(1, 2), val=(1, 2))
    accumulated = {one.name: {run.trained.train.grad_accum for run in one.runs} for one in experiments}
    assert accumulated == {"exp1": {1}, "exp2": {2}, "exp3": {2}, "exp4": {2}, "exp5": {1}}


def test_a_base_whose_own_prompts_say_the_stage_is_no_experiment_1(planned, tmp_path):
    with pytest.raises(UserError, match="would say a question's stage.*; set data.stage_prefix=strip"):
        planned("data.stage_prefix=add")
    rows = [{**row, "question": f"[Stage-1: A] {row['question']}"} for row in first_scenes("train", 4) if stage_of(row) == 1]
    write_rows(tmp_path / "prefixed.jsonl", rows)
    with pytest.raises(UserError, match="set data.stage_prefix=strip"):
        planned(f"data.train_jsonl={tmp_path / 'prefixed.jsonl'}", val=(1,))
    planned(f"data.train_jsonl={tmp_path / 'prefixed.jsonl'}", "data.stage_prefix=strip", val=(1,))


@pytest.mark.parametrize(
    ("own", "keys"),
    [
        ("{lr: 2.0e-4}", ["train.lr=0.004"]),  # the demo's 2e-3, doubled as 1e-4 is
        ("{lr: 2e-4}", ["train.lr=0.004"]),  # a text to YAML
        ("{weight_decay: 0.01}", ["train.weight_decay=0.01"]),  # nothing is a multiple of 0
        ("{num_workers: 0}", ["train.num_workers=0"]),
        ("{init_adapter: ../other}", [f"train.init_adapter={ROOT / 'other'}"]),  # from the file's folder, as in every file
    ],
)
def test_numbers_of_an_experiment_are_in_proportion_however_they_are_written(tmp_path, own, keys):
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "exp2.yaml"
    path.write_text(f"extends: {ROOT / 'config_exp1.yaml'}\ndata:\ntrain: {own}\n")
    wanted = [key.replace(str(ROOT), str(tmp_path)) for key in keys]
    assert series.keys_of(path, load_config(ROOT / "config_demo.yaml")) == wanted


@pytest.mark.parametrize("text", ["", "train: {grad_accum: 6}"])
def test_an_experiment_that_extends_nothing_is_one_line(tmp_path, text):
    (tmp_path / "exp2.yaml").write_text(text)
    with pytest.raises(UserError, match=r"exp2.yaml: extends no file, of which it would be a change"):
        series.keys_of(tmp_path / "exp2.yaml", load_config(ROOT / "config_demo.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_of_an_experiment_has_its_reason(path):
    lines = path.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#") and not line.endswith(":")]
    assert len(keys) < 10 and all(lines[number - 1].lstrip().startswith("#") for number in keys)


def test_no_two_runs_share_a_folder_and_each_reads_its_own_rows(planned):
    base, folder, experiments = planned("--seeds", "2", "train.epochs=2")
    runs = [run for experiment in experiments for run in experiment.runs]
    assert len({run.folder for run in runs}) == len(runs) and all(run.folder.is_relative_to(folder) for run in runs)
    assert folder == base.output_dir / "series" and {run.trained.train.epochs for run in runs} == {2}
    assert Counter(run.seed for run in runs) == {42: len(runs) // 2, 43: len(runs) // 2}
    first = by_name(experiments[::2])  # of the first seed
    assert first["exp1"].runs[0].trained.data == base.data and first["exp1"].runs[0].split == "val"
    assert (
        [run.trained.data.stages for run in first["exp3"].runs]
        == [run.predicted.data.stages for run in first["exp3"].runs]
        == [[1], [2], [3]]
    )
    assert {run.split for run in first["exp3"].runs} == {"val"} and not any(run.trained.train.init_adapter for run in first["exp3"].runs)


def test_a_curriculum_starts_from_the_stage_before_and_its_last_adapter_answers_all(planned):
    runs = by_name(planned()[2])["exp4"].runs
    assert [run.trained.data.stages for run in runs] == [[1], [2], [3]]
    assert [run.trained.train.init_adapter for run in runs] == [None, runs[0].folder / "adapter", runs[1].folder / "adapter"]
    assert [run.split for run in runs] == [None, None, "val"] and runs[2].predicted.data.stages is None
    assert by_name(planned()[2])["exp4"].predictions == runs[2].folder / "predictions.jsonl"
    staged = [f"exp3/seed_42/stage_{stage}" for stage in (1, 2, 3)]
    assert [[run.name for run in runs] for runs in series.waves(planned()[2])] == [
        ["exp1/seed_42", "exp2/seed_42", *staged, "exp4/seed_42/stage_1", "exp5/seed_42"],
        ["exp4/seed_42/stage_2"], ["exp4/seed_42/stage_3"],
    ]  # fmt: skip
    waves = series.waves(planned("--seeds", "2")[2])
    assert [[run.name for run in runs if "exp4" in run.name] for runs in waves] == [
        [f"exp4/seed_{seed}/stage_{stage}" for seed in (42, 43)] for stage in (1, 2, 3)
    ]


def test_stages_without_rows_are_skipped(planned, tmp_path):
    found = by_name(planned(train=(1, 3), val=(1, 3))[2])
    assert [run.trained.data.stages for run in found["exp3"].runs] == [run.trained.data.stages for run in found["exp4"].runs] == [[1], [3]]
    found = by_name(planned(val=(1, 2))[2])
    assert [run.trained.data.stages for run in found["exp3"].runs] == [[1], [2]], "nobody asks a model of stage 3"
    found = by_name(planned("train.early_stopping_patience=2", val=(1, 2))[2])
    assert [run.trained.train.early_stopping_patience for run in found["exp4"].runs] == [2, 2, None]
    assert [run.trained.data.val_jsonl for run in found["exp3"].runs] == [tmp_path / "val.jsonl"] * 2
    last = found["exp4"].runs[-1]
    assert last.trained.data.stages == [3] and last.trained.data.val_jsonl is None and last.predicted.data.val_jsonl


def test_rows_without_a_model_are_refused_by_name(planned, tmp_path):
    with pytest.raises(UserError) as error:
        planned(train=(1, 3))
    count = sum(stage_of(row) == 2 for _, row in read_jsonl(tmp_path / "val.jsonl"))
    val, train = (near(tmp_path / f"{split}.jsonl") for split in ("val", "train"))
    assert count > 1 and str(error.value) == (
        f"{val}: {count} rows of stage 2 would have no model, since {train} has none of that stage; "
        "add such rows there, or leave these out: data.stages=[1, 3]"
    )
    runs = by_name(planned("data.stages=[1,3]", train=(1, 3))[2])["exp4"].runs  # the remedy
    assert runs[-1].predicted.data.stages == [1, 3], "and nobody answers what is left out"


@pytest.mark.parametrize(
    ("own", "remedy"),
    [
        ("train.order=stages", "train.order=random"),
        ("predict.cascade=true", "predict.cascade=false"),
        ("train.cascade=gold predict.cascade=true", "train.cascade=none"),
        ("train.max_steps=50", "train.max_steps=null"),
    ],
)
def test_a_base_that_is_no_experiment_1_is_refused(planned, tmp_path, own, remedy):
    with pytest.raises(UserError) as error:
        planned(*own.split())
    assert str(error.value) == (
        f"{near(tmp_path / 'my.yaml')}: has {own.split()[0]}, but Experiment 1 asks all questions at once, in random order, and its epochs "
        f"are what the others' stages share; set {remedy}"
    )


def test_a_row_without_a_stage_is_named_before_anything_runs(planned, tmp_path, monkeypatch):
    planned()
    rows = [{"question": "Is it?", "answer": "yes", "image": "a.png", "id": "odd"}]
    write_rows(tmp_path / "val.jsonl", rows)
    with pytest.raises(UserError, match=r"val.jsonl: row .odd.: its question has no stage \(Is it\?\)"):
        ask(tmp_path / "my.yaml", monkeypatch=monkeypatch)


def test_the_test_split_is_asked_for_by_its_name(planned, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="set data.test_jsonl in config_exp1.yaml|test"):
        planned("--test", "data.test_jsonl=null")
    write_rows(tmp_path / "test.jsonl", first_scenes("test", 2))
    experiments = by_name(planned("--test", f"data.test_jsonl={tmp_path / 'test.jsonl'}")[2])
    assert experiments["exp1"].predictions == experiments["exp1"].runs[0].folder / "predictions_test_adapter.jsonl"
    assert experiments["exp3"].predictions == experiments["exp3"].runs[0].folder.parent / "predictions_test_adapter.jsonl"


def test_experiments_can_be_chosen_and_a_missing_file_is_said(planned, capsys, monkeypatch):
    assert list(by_name(planned("configs/exp3.yaml")[2])) == ["exp1", "exp3"]
    monkeypatch.setitem(series.EXPERIMENTS, "exp2", ("exp9.yaml", series.ONCE, "another"))
    assert "exp2" not in by_name(planned()[2]) and "note: exp2 is left out: there is no configs/exp9.yaml" in capsys.readouterr().out


def test_what_only_trains_is_done_without_predictions(planned, monkeypatch):
    run = by_name(planned()[2])["exp4"].runs[0]
    assert sweep.state_of(run) == sweep.State()
    write_json(run.folder / "train_run.json", {"config": run.trained.model_dump(mode="json"), "world_size": 1, "finished": {"step": 1}})
    monkeypatch.setattr(sweep, "other_training", lambda run, record: [])
    assert not sweep.state_of(run).done
    (run.folder / "adapter").mkdir()
    assert sweep.state_of(run).done


def test_what_starts_from_a_failed_stage_is_not_started(planned, monkeypatch):
    experiments = planned()[2]
    made = []
    monkeypatch.setattr(series, "make_all", lambda runs, *_: made.extend(runs) or {run.name: "why" for run in runs if "exp4" in run.name})
    failed = series.make_series(experiments, Path("x"), False)
    assert failed == {
        "exp4/seed_42/stage_1": "why",
        "exp4/seed_42/stage_2": "exp4/seed_42/stage_1 failed",
        "exp4/seed_42/stage_3": "exp4/seed_42/stage_2 failed",
    }
    assert [run.name for run in made if "exp4" in run.name] == ["exp4/seed_42/stage_1"]


def test_an_experiment_with_a_failed_seed_has_no_score(planned, tmp_path, monkeypatch):
    """Fewer seeds than the others would be no mean of the same, and those that fail are not any."""
    planned()
    monkeypatch.setattr("sys.argv", ["series.py", str(tmp_path / "my.yaml"), "configs/exp2.yaml", "--seeds", "2"])
    monkeypatch.setattr(series, "make_all", lambda *_: {"exp2/seed_43": "why"})
    monkeypatch.setattr(series, "heed_signals", lambda *_: None)
    concluded, splits, named = [], [], {}
    conclude = lambda base, folder, experiments, split, titles: (concluded.extend(experiments), splits.append(split), named.update(titles))
    monkeypatch.setattr(series, "conclude", conclude)
    with pytest.raises(UserError, match="^1 of 4 runs failed, and their experiments have no score; 'exp2/seed_43': why$"):
        series.main()
    assert [(one.name, one.seed) for one in concluded] == [("exp1", 42), ("exp1", 43)] and splits == ["val"]
    assert named == {
        "exp1": "random order", "exp2": "order of stages", "exp3": "a model per stage", "exp4": "curriculum", "exp5": "cascade",
    }  # fmt: skip
    monkeypatch.setattr(series, "make_all", lambda *_: {"exp1/seed_42": "no room", "exp2/seed_42": "why"})
    with pytest.raises(UserError, match="^2 of 4 runs failed, and their experiments have no score; 'exp1/seed_42': no room$"):
        series.main()
    assert len(concluded) == 2, "nothing stands against an Experiment 1 that failed"
    monkeypatch.setattr(series, "make_all", lambda *_: {})
    assert series.main() is None and [(one.name, one.seed) for one in concluded[2:]] == [
        (name, seed) for name in ("exp1", "exp2") for seed in (42, 43)
    ]


def test_a_command_line_is_one_base_and_experiments_of_the_series(tmp_path, monkeypatch, capsys):
    for name in ("my.yaml", "a=b.yaml"):
        (tmp_path / name).write_text("")
    given = [
        str(tmp_path / "my.yaml"),
        "configs/exp3.yaml",
        "train.epochs=2",
        "--seeds",
        "3",
        "--test",
        str(ROOT / "configs" / "exp2.yaml"),
    ]
    monkeypatch.setattr("sys.argv", ["series.py", *given])
    args = series.parse_arguments()
    assert (args.config, args.names, args.overrides) == (tmp_path / "my.yaml", ["exp1", "exp3", "exp2"], ["train.epochs=2"])
    assert (args.seeds, args.test, args.dry_run, args.overwrite) == (3, True, False, False)
    monkeypatch.setattr("sys.argv", ["series.py", str(tmp_path / "a=b.yaml")])  # a file, whatever its name
    args = series.parse_arguments()
    assert (args.config, args.names, args.overrides, args.seeds, args.test) == (tmp_path / "a=b.yaml", ["exp1"], [], 1, False)
    for given in (["configs/exp2.yaml"], [str(tmp_path / "my.yaml"), str(tmp_path / "a=b.yaml")]):
        monkeypatch.setattr("sys.argv", ["series.py", *given])
        with pytest.raises(SystemExit) as ended:
            series.parse_arguments()
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(
            "give one configuration of your own, such as my.yaml, and experiments as configs/exp2.yaml\n"
        )


def test_no_seed_is_no_number_of_seeds(tmp_path, monkeypatch, capsys):
    (tmp_path / "my.yaml").write_text("output_dir: out\n")
    monkeypatch.setattr("sys.argv", ["series.py", str(tmp_path / "my.yaml"), "--seeds", "0"])
    with pytest.raises(SystemExit) as ended:
        series.parse_arguments()
    assert ended.value.code == 2 and capsys.readouterr().err.endswith("error: --seeds must be at least 1\n")


def test_the_script_lists_the_demo_and_passes_arguments_on(tmp_path):
    command = ["bash", str(ROOT / "run_series.sh"), f"output_dir={tmp_path}", "--dry-run", "configs/exp4.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    names = ["exp1/seed_42", *(f"exp4/seed_42/stage_{stage}" for stage in (1, 2, 3))]
    assert done.stdout.splitlines() == [f"{name}: to do" for name in names], done.stderr
