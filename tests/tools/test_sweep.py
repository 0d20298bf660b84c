"""Sweeps: which runs there are, that a killed one goes on, and that held-out rows and the test split teach nothing.

python -m pytest tests/tools/test_sweep.py -v
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, TINY_MODEL
from planning import ANSWERS, arguments, hand_made_folds, write_experiment
from quick_python import quick_python
from user_copy import SCENES, write_rows

from config import load_config, near
from data.corrections import read_corrections
from files import UserError, read_json, write_json
from tools import sweep

# Says which rows a Python opens, to a file; of every Python that the sweep starts, too.
WITNESS = """
import os, sys
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith(("rows/test.jsonl", "rows/val.jsonl")):
        os.write(seen, (str(arguments[0]) + "\\n").encode())
seen = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(hook)
"""


@pytest.fixture
def experiment(tmp_path):
    return write_experiment(tmp_path)


# --- which runs there are ---


def test_values_are_split_at_commas_and_kept_as_they_are_spelt():
    found = sweep.values_of(["train.lr=1e-4,2e-4", "lora.r=8,16,8", "lora.target_modules=[q_proj,v_proj],[q_proj]", "image.max_pixels=784"])
    assert found == {
        "train.lr": ["1e-4", "2e-4"],
        "lora.r": ["8", "16"],
        "lora.target_modules": ['["q_proj", "v_proj"]', '["q_proj"]'],
        "image.max_pixels": ["784"],
    }
    assert sweep.values_of(["train.bf16=true,false", "train.max_steps=null,5"]) == {
        "train.bf16": ["true", "false"],
        "train.max_steps": ["null", "5"],
    }


def test_paths_and_texts_are_swept_as_they_stand():
    found = sweep.values_of(["data.train_jsonl=a [1] #2/b.jsonl,0010", "output_dir=Über #1", "answer_prefix='a, b',off"])
    assert found["data.train_jsonl"] == ["a [1] #2/b.jsonl", "0010"] and found["output_dir"] == ["Über #1"]
    assert sweep.values_of(["data.language=[de, en],zh"]) == {"data.language": ['["de", "en"]', "zh"]}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (["train.lr"], "'train.lr': write section.key=VALUE,VALUE"),
        (["train.lr="], "'train.lr=': write section.key=VALUE,VALUE"),
        (["train.lr=[1,2"], "write section.key=VALUE,VALUE"),
        (["lora.r=8", "lora.r=16"], "'lora.r=16': lora.r is given twice"),
        (["train.seed=1,2"], "'train.seed=1,2': give --seeds N"),
        (["output_dir=a,b"], "every run has its own"),
        (["data.val_jsonl=a,b"], "all settings answer the same rows"),
        (["data.stages=[1],[2]"], "all settings answer the same rows"),
        (["data.test_jsonl=a,b"], "a sweep doesn't read the test split"),
        (["eval.count_abs_tol=0,1"], "eval.* is how answers are judged"),
        (["train.lrr=1,2"], "unknown key train.lrr (did you mean train.lr?)"),
        (["lora.r=8,0"], "lora.r: Input should be greater than or equal to 1"),
        (["model_name=a/b,a-b"], "two settings would share the folder model_name=a-b/seed_42"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_runs(experiment, grid, said):
    with pytest.raises(UserError) as error:
        sweep.plan(arguments(experiment, *grid))
    assert said in str(error.value) and "\n" not in str(error.value) and not (experiment / "outputs").exists()


def test_the_grid_times_the_seeds(experiment):
    base, folder, runs = sweep.plan(arguments(experiment, "train.lr=1e-4,2e-4", "lora.r=8,16", "train.max_steps=7", seeds=3))
    assert folder == experiment / "outputs" / "sweep" and len({run.folder for run in runs}) == 12
    assert [run.name for run in runs[2:4]] == ["train.lr=1e-4_lora.r=8/seed_44", "train.lr=1e-4_lora.r=16/seed_42"]
    assert Counter((run.trained.train.lr, run.trained.lora.r) for run in runs) == {
        (lr, r): 3 for lr in (1e-4, 2e-4) for r in (8, 16)
    }  # fmt: skip
    assert {run.trained.train.seed for run in runs} == {42, 43, 44} and base.train.max_steps == 7
    for run in runs:
        assert run.trained == run.predicted and run.trained.data.test_jsonl is None and run.trained.train.max_steps == 7
        assert run.folder == folder / run.name and run.trained.data.val_jsonl == experiment / "rows" / "val.jsonl"


def test_held_out_rows_choose_no_checkpoint(experiment):
    folds = hand_made_folds(experiment / "my folds")
    _, folder, runs = sweep.plan(arguments(experiment, "train.early_stopping_patience=2", folds=folds))
    assert folder.name == "sweep_folds" and [run.name for run in runs] == [f"as_configured/seed_42/fold_{fold}" for fold in (0, 1)]
    for run in runs:
        rows = folds / f"fold_{run.fold}"
        assert run.trained.data.val_jsonl is None and run.trained.train.early_stopping_patience is None
        assert run.trained.data.train_jsonl == run.predicted.data.train_jsonl == rows / "train.jsonl"
        assert run.predicted.data.val_jsonl == rows / "val.jsonl" and run.predicted.image_folder() == SCENES


def test_a_run_has_the_corrections_of_its_own_rows(experiment):
    """Those of the test split are not read, and one that names a row by its number is none of a fold's, which numbers its own."""
    folds = hand_made_folds(experiment / "folds")
    for split, ids in (("train", ["t 1", "patient 0 3", None]), ("val", ["v 1", "patient 1 2"]), ("test", ["x 1"])):
        rows = [{"question": "Is there text?", "answer": "yes", "image": "train/0000.jpg"} | ({"id": own} if own else {}) for own in ids]
        write_rows(experiment / "rows" / f"{split}.jsonl", rows)
    lines = [
        "t 1,no,a,,train",
        "2,no,a,,train",
        "v 1,no,a,,val",
        "x 1,no,a,,test",
        "patient 0 3,no,a,,train",
        "patient 1 2,no,a,,",
        "y,no,a,,",
    ]
    (experiment / "c.csv").write_text("\n".join(["id,answer,who,why,split", *lines, "0,no,a,,train", ""]))
    corrected = lambda run: [(row["id"], row["split"]) for row in read_corrections(run.data.corrections)]
    grid = f"data.corrections={experiment / 'c.csv'}"
    _, folder, (run,) = sweep.plan(arguments(experiment, grid))
    of_splits = [("t 1", "train"), ("2", "train"), ("v 1", "val"), ("patient 0 3", "train"), ("patient 1 2", "")]
    assert (
        run.trained == run.predicted and run.trained.data.corrections == folder / "corrections.csv" and corrected(run.trained) == of_splits
    )
    _, folder, runs = sweep.plan(arguments(experiment, grid, folds=folds))
    assert [run.trained.data.corrections.name for run in runs] == ["corrections_fold_0.csv", "corrections_fold_1.csv"]
    assert [corrected(run.trained) for run in runs] == [[("patient 1 2", "")], [("patient 0 3", "")]], "of what it is trained on"
    both = [("patient 0 3", ""), ("patient 1 2", "")]
    assert [run.predicted.data.corrections for run in runs] == [folder / "corrections.csv"] * 2
    assert corrected(runs[0].predicted) == corrected(runs[1].predicted) == both


def test_why_a_script_failed_is_the_last_line_of_its_log(tmp_path):
    log = tmp_path / "sweep.log"
    for text, last in (("first\nerror: no \x1b[1mroom\n\n  \n", "no \\x1b[1mroom"), ("", "")):
        log.write_text(text)
        assert sweep.failure("train_exp1.py", 3, log) == f"train_exp1.py ended with exit code 3: {last} (all of it: {near(log)})"


def test_what_is_there_of_a_run_is_described():
    assert sweep.described(sweep.State()) == "to do" and sweep.described(sweep.State(done=True)) == "done"
    assert sweep.described(sweep.State(training=["train.lr"], prediction=["predict.beams"])) == "made with other train.lr, predict.beams"


def test_no_seed_is_no_number_of_seeds(experiment, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sweep.py", "my.yaml", "--seeds", "0"])
    with pytest.raises(SystemExit) as ended:
        sweep.parse_arguments()
    assert ended.value.code == 2 and capsys.readouterr().err.endswith("error: --seeds must be at least 1\n")
    monkeypatch.setattr("sys.argv", ["sweep.py", "my.yaml"])
    assert vars(sweep.parse_arguments()) == {
        "config": "my.yaml", "grid": [], "seeds": 1, "folds": None, "dry_run": False, "overwrite": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("split", "made"),
    [
        ("val", [["train_exp1.py", "--resume_from_checkpoint"], ["predict_exp1.py"]]),
        ("test", [["train_exp1.py", "--resume_from_checkpoint"], ["predict_exp1.py", "--split", "test"]]),
        (None, [["train_exp1.py", "--resume_from_checkpoint"]]),
    ],
)
def test_a_run_answers_the_split_that_it_is_asked_for(experiment, monkeypatch, split, made):
    """The validation rows, those of the test, or, as a curriculum's earlier stages, none."""
    (run,), commands = sweep.plan(arguments(experiment, "lora.r=8"))[2], []
    monkeypatch.setattr(sweep, "run_child", lambda command, **_: commands.append(command) and 0)
    with open(experiment / "lock", "w") as lock:
        assert sweep.make(run._replace(split=split), sweep.State(), lock) is None
    own = ["--config", str(experiment / "my.yaml"), *run.trained.overrides]
    assert [[Path(command[1]).name, *command[2:]] for command in commands] == [[script, *own, *flags] for script, *flags in made]


def test_a_setting_whose_seed_failed_is_not_compared_with_whole_ones(experiment, monkeypatch):
    monkeypatch.setattr("sys.argv", ["sweep.py", str(experiment / "my.yaml"), "lora.r=4,8", "--seeds", "2"])
    monkeypatch.setattr(sweep, "heed_signals", lambda *_: None)
    monkeypatch.setattr(sweep, "make_all", lambda *_: {"lora.r=8/seed_43": "why"})
    concluded = []
    monkeypatch.setattr(sweep, "conclude", lambda base, folder, runs: concluded.extend(run.name for run in runs))
    with pytest.raises(UserError, match="^1 of 4 runs failed, so 1 settings have no score; lora.r=8/seed_43: why$"):
        sweep.main()
    assert concluded == ["lora.r=4/seed_42", "lora.r=4/seed_43"]


def test_a_missing_fold_is_named(experiment):
    for lost in ("fold_1/val.jsonl", "fold_0/train.jsonl"):
        folds = hand_made_folds(experiment / "folds")
        (folds / lost).unlink()
        with pytest.raises(UserError, match=rf"--folds: .*{lost} does not exist; make folds: python -m data.split ROWS"):
            sweep.plan(arguments(experiment, folds=folds))
    write_json(hand_made_folds(experiment / "folds") / "fold_0" / "split.json", {"folds": 3})
    with pytest.raises(UserError, match="folds/fold_2/train.jsonl does not exist"):  # the last, of which nothing is left
        sweep.plan(arguments(experiment, folds=folds))
    with pytest.raises(UserError, match="nowhere/fold_0/train.jsonl does not exist"):
        sweep.plan(arguments(experiment, folds=experiment / "nowhere"))


# --- the command ---


def start(folder, *grid, **environment):
    command = [quick_python(), "-u", str(ROOT / "tools" / "sweep.py"), "my.yaml", *map(str, grid)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process, expect=0):
    output, errors = process.communicate(timeout=600)
    assert process.returncode == expect, output + errors
    return output, errors


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """(folder, what a sweep printed that goes on where another was killed in its second run, the rows that both opened)."""
    folder = write_experiment(tmp_path_factory.mktemp("my sweep"))
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WITNESS)
    witness = {"PYTHONPATH": str(folder / "site"), "WITNESS": str(folder / "opened.txt")}
    first, second = folder / "outputs" / "sweep" / "lora.r=4" / "seed_42", folder / "outputs" / "sweep" / "lora.r=8" / "seed_42"
    process = start(folder, "lora.r=4,8", **witness)
    while process.poll() is None and not (second / "train_run.json").exists():
        time.sleep(0.05)
    process.kill()  # not the script that it started, which goes on
    process.wait()
    before = (first / "predictions.jsonl").stat()
    output, _ = finish(start(folder, "lora.r=4,8", **witness))
    assert (first / "predictions.jsonl").stat() == before, "what is done is not done again"
    return folder, output, (folder / "opened.txt").read_text().splitlines()


def test_a_killed_sweep_goes_on(killed):
    folder, output, _ = killed
    lines = output.splitlines()
    assert lines[0].startswith("waiting for another sweep here") and lines[1] == "run 1/2 lora.r=4/seed_42: done before"
    assert lines[2].startswith("run 2/2 lora.r=8/seed_42: ") and lines[2].endswith(" s")
    record = read_json(folder / "outputs" / "sweep" / "lora.r=8" / "seed_42" / "train_run.json")
    assert record["finished"]["step"] == 2 and record.get("resumed", []) == [], "one script after the other, never two at once"


def test_the_test_split_is_never_opened(killed):
    _, _, opened = killed
    assert {os.path.basename(path) for path in opened} == {"val.jsonl"}


def test_the_table_is_that_of_the_predictions(killed):
    folder, output, _ = killed
    report = read_json(folder / "outputs" / "sweep" / "sweep.json")
    assert [item["setting"] for item in report["settings"]] == [["lora.r=4"], ["lora.r=8"]] and report["seeds"] == [42]
    for item in report["settings"]:
        arguments_ = ["--predictions", f"outputs/sweep/{item['setting'][0]}/seed_42/predictions.jsonl", "--against", "rows/val.jsonl"]
        command = [quick_python(), str(ROOT / "eval_exp1.py"), "--config", "my.yaml", *arguments_, "--report", "none"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        metrics = read_json(folder / "outputs" / "metrics_seed_42.json")
        assert item["overall"]["mean"] == metrics["micro"] and item["overall"]["count"] == 18
        assert report["blind_prior"] == metrics["blind_prior"]["micro"]
    chosen = max(report["settings"], key=lambda item: item["overall"]["mean"])["setting"]
    assert report["chosen"] == chosen and f"\nchosen: {chosen[0]}\n" in output
    says, script, *others = shlex.split(output.splitlines()[-1].removeprefix("next: "))
    assert Path(says).name.startswith("python") and Path(script).name == "predict_exp1.py" and others[-2:] == ["--split", "test"]
    assert load_config(folder / "outputs" / "sweep" / "chosen.yaml").lora.r == int(chosen[0].removeprefix("lora.r="))


def test_done_is_what_the_runs_own_files_say(killed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(killed[0], folder)
    for path in folder.glob("outputs/sweep/*/*/*.json"):
        path.write_text(path.read_text().replace(str(killed[0]), str(folder)))
    done = lambda *grid: [state.done for state in states(folder, *grid)]
    assert done("lora.r=4,8") == [True, True] == done("lora.r=4,8", "eval.count_abs_tol=1")
    assert done("lora.r=4,8,16") == [True, True, False] and done("lora.r=4,8", "train.lr=1e-5") == [False, False]
    first = folder / "outputs" / "sweep" / "lora.r=4" / "seed_42"
    record = read_json(first / "train_run.json")
    (first / "train_run.json").write_text(json.dumps({key: value for key, value in record.items() if key != "finished"}))
    assert done("lora.r=4,8") == [False, True]
    (first / "train_run.json").write_text(json.dumps(record))
    (first / "predictions.jsonl").rename(first / "moved")
    assert done("lora.r=4,8") == [False, True]
    (first / "moved").rename(first / "predictions.jsonl")
    for split in ("train", "val"):
        path = folder / "rows" / f"{split}.jsonl"
        before = path.read_text()
        path.write_text(before + before.splitlines()[0].replace("{", '{"id": "new", ', 1) + "\n")
        assert done("lora.r=4,8") == [False, False]
        path.write_text(before)
    assert done("lora.r=4,8") == [True, True]


@pytest.fixture
def copied(killed, tmp_path):
    """(folder, its grid): a finished sweep with a model and pictures of its own, elsewhere than where it was made."""
    folder = shutil.copytree(killed[0], tmp_path / "copy")
    for path in folder.glob("outputs/sweep/*/*/*.json"):
        path.write_text(path.read_text().replace(str(killed[0]), str(folder)))
    shutil.copytree(TINY_MODEL, folder / "moved")
    for path in sorted(SCENES.glob("train/000[0-3].jpg")) + sorted(SCENES.glob("val/000[0-1].jpg")):
        (folder / "pictures" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "pictures" / path.parent.name)
    return folder, ["lora.r=4,8", f"model_name={folder / 'moved'}", f"data.image_root={folder / 'pictures'}"]


def states(folder, *grid):
    return [sweep.state_of(run) for run in sweep.plan(arguments(folder, *grid))[2]]


def touch_up(path):
    """Change the last byte of a file."""
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


@pytest.mark.parametrize(
    ("setting", "training", "prediction"),
    [
        ("train.logging_steps=3", [], []),  # which tell and keep, or compute less at once
        ("train.eval_bs=1", [], []),
        ("predict.batch_size=1", [], []),
        ("train.weight_decay=0.1", ["train.weight_decay"], []),
        ("train.max_steps=3", ["train.max_steps"], []),
        ("predict.beams=9", [], ["predict.beams"]),
    ],
)
def test_a_run_of_other_settings_is_told_by_their_names(copied, setting, training, prediction):
    folder, grid = copied
    for state in states(folder, *grid, setting):
        assert (state.done, state.training, state.prediction) == (not training + prediction, training, prediction)


@pytest.mark.parametrize(
    ("changed", "training", "prediction"),
    [
        ("moved/model.safetensors", ["model_name"], []),
        ("pictures/train/0001.jpg", ["data.image_root"], []),
        ("pictures/val/0001.jpg", ["data.image_root"], []),
        ("outputs/sweep/lora.r=4/seed_42/adapter/adapter_model.safetensors", [], ["adapter"]),
        ("outputs/sweep/lora.r=4/seed_42/predictions.jsonl", [], ["contents of predictions.jsonl"]),
    ],
)
def test_a_run_of_other_files_is_told_by_their_names(copied, changed, training, prediction):
    """A new model under the old name was compared with the old one's runs, in one table."""
    folder, grid = copied
    before = states(folder, *grid)
    assert [state.done for state in before] == [True, True], "where files lie is not what they are"
    touch_up(folder / changed)
    first, second = states(folder, *grid)
    assert (first.done, first.training, first.prediction) == (False, training, prediction)
    assert second.training == training and second.prediction == []


def test_answers_to_the_first_rows_alone_are_not_taken_for_those_to_all(copied):
    """`predict_exp1.py --limit 5` in a run's folder."""
    folder, grid = copied
    sidecar = folder / "outputs" / "sweep" / "lora.r=4" / "seed_42" / "predictions.meta.json"
    write_json(sidecar, {**read_json(sidecar), "limit": 5})
    assert [(state.done, state.prediction) for state in states(folder, *grid)] == [(False, ["arguments --limit"]), (True, [])]


def test_a_sweep_does_not_mix_what_was_made_by_other_code(copied, monkeypatch):
    folder, grid = copied
    code = {**sweep.code_facts("train"), "templates.py": "edited"}
    monkeypatch.setattr(sweep, "code_facts", lambda stage: code)
    runs = sweep.plan(arguments(folder, *grid, "lora.alpha=32"))[2]
    with pytest.raises(UserError) as error:
        sweep.make_all(runs, folder / "outputs" / "sweep")
    assert str(error.value).endswith(
        "were made with other code templates.py (lora.r=4/seed_42, …); put that back, set another output_dir, or add --overwrite to "
        "make them anew"
    ) and str(error.value).startswith("2 of 2 runs in ")
    assert (folder / "outputs" / "sweep" / "chosen.yaml").is_file()


@pytest.mark.parametrize(
    ("setting", "flags"),
    [
        ("train.weight_decay=0.1", ["--overwrite", "--overwrite"]),
        ("predict.beams=9", ["--resume_from_checkpoint", "--overwrite"]),
        ("train.logging_steps=3", []),
    ],
)
def test_what_is_another_is_made_anew_when_told(copied, monkeypatch, setting, flags):
    folder, grid = copied
    runs, commands = sweep.plan(arguments(folder, *grid, setting))[2], []

    def run(command, **_):
        commands.append(command)
        if command[1].endswith("train_exp1.py") and "--overwrite" in command:
            folder = next(text for text in command if text.startswith("output_dir=")).removeprefix("output_dir=")
            touch_up(Path(folder) / "adapter" / "adapter_model.safetensors")
        return 0

    monkeypatch.setattr(sweep, "run_child", run)
    assert sweep.make_all(runs, folder / "outputs" / "sweep", overwrite=True) == {}
    assert [command[-1] for command in commands] == flags * 2


def test_a_dry_run_lists_the_runs(killed):
    output, _ = finish(start(killed[0], "lora.r=4,16", "--dry-run"))
    assert output.splitlines() == [
        "lora.r=4/seed_42: done",
        "lora.r=16/seed_42: to do",
        "2 runs, 1 of them done, in outputs/sweep",
    ]


@pytest.mark.slow("starts a training that a sweep starts")
def test_a_run_that_fails_is_one_line_with_its_reason(experiment):
    (experiment / "outputs" / "sweep").mkdir(parents=True)
    (experiment / "outputs" / "sweep" / "chosen.yaml").write_text("")
    _, errors = finish(start(experiment, "train.max_seq_len=20"), expect=1)
    assert len(errors.splitlines()) == 1 and "Traceback" not in errors
    assert errors.startswith("error: 1 of 1 runs failed, so 1 settings have no score; as_configured/seed_42: train_exp1.py ended with exit")
    assert "over train.max_seq_len=20" in errors
    assert errors.endswith("sweep.log); table and chosen.yaml there are an earlier sweep's\n")


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """(folder, what a sweep over two folds printed)."""
    folder = write_experiment(tmp_path_factory.mktemp("folded"))
    hand_made_folds(folder / "folds")
    return folder, finish(start(folder, "--folds", "folds"))[0]


def test_every_row_is_answered_by_a_model_that_has_not_seen_its_patient(folded):
    folder = folded[0] / "outputs" / "sweep_folds" / "as_configured" / "seed_42"
    read = lambda path: [json.loads(line) for line in path.read_text().splitlines()]
    for fold in (0, 1):
        learnt, answered = (read(folder / f"fold_{fold}" / name) for name in ("data/train.jsonl", "predictions.jsonl"))
        assert {row["group"] for row in answered} == {f"patient {fold}"} and not {row["group"] for row in learnt} & {f"patient {fold}"}
        assert read_json(folder / f"fold_{fold}" / "adapter" / "experiment.json")["best"] == {"step": 2}, "the last, chosen by no score"
    pooled = read(folder / "predictions.jsonl")
    assert [row["id"] for row in pooled] == [f"{patient} {number}" for patient in ANSWERS for number in range(12)]
    runs = sweep.plan(arguments(folded[0], folds=folded[0] / "folds"))[2]
    assert all(sweep.state_of(run).done for run in runs), "trained without the held-out rows, answered with them"
    data = read(folder.parents[1] / "out_of_fold.jsonl")
    assert data == [row for fold in (0, 1) for row in read(folded[0] / "folds" / f"fold_{fold}" / "val.jsonl")]


def test_the_blind_prior_is_each_folds_own(folded):
    """The other patient's commonest answer is right in 4 + 3 of 24; the commonest of all rows would be in 11 or 13."""
    report = read_json(folded[0] / "outputs" / "sweep_folds" / "sweep.json")
    assert report["blind_prior"] == 7 / 24
    assert "24 held-out rows of all folds, 1 seed; intervals by groups (2); blind prior 29.17%" in folded[1]


def test_pooled_predictions_are_evaluated_by_group(folded):
    folder, out = folded[0], "outputs/sweep_folds"
    files = ["--predictions", f"{out}/as_configured/seed_42/predictions.jsonl", "--against", f"{out}/out_of_fold.jsonl"]
    command = [quick_python(), str(ROOT / "eval_exp1.py"), "--config", "my.yaml", *files, "--report", "none"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    metrics = read_json(folder / "outputs" / "metrics_seed_42.json")
    report = read_json(folder / out / "sweep.json")
    assert metrics["n"] == 24 and metrics["unit"] == "groups" and metrics["details"]["overall"]["clusters"] == 2
    assert metrics["micro"] == report["settings"][0]["overall"]["mean"] and metrics["partial"] is None
    without = subprocess.run([*command[:6], *command[8:]], cwd=folder, capture_output=True, text=True)
    assert without.returncode == 0, without.stderr
    chosen = load_config(folder / out / "chosen.yaml")
    assert chosen.output_dir == folder / "outputs" / "chosen" and chosen.data.train_jsonl == folder / "rows" / "train.jsonl"
