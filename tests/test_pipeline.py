"""The user's document, run in its order: the real scripts, from a parent folder with spaces in its name, on the tiny model.

python -m pytest tests/test_pipeline.py -v
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from quick_python import quick_python
from safetensors.torch import load_file
from user_copy import launch, make_parent, run

from files import sha256
from model.folders import write_sums
from training.checkpoints import newest_whole, processes_of

pytestmark = pytest.mark.slow("runs the real scripts, one after the other in one folder")

SMALL = [
    "train.max_steps=4",
    "train.save_steps=2",
    "train.eval_steps=2",
    "train.logging_steps=1",
    "train.eval_images=4",
    "train.num_workers=0",
]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("user"))


def tensors(adapter):
    return load_file(adapter / "adapter_model.safetensors")


def test_train(parent):
    output = run(parent, "exp1/train_exp1.py", *SMALL).stdout
    outputs = parent / "exp1" / "outputs"
    assert (
        "enriched train: 108 rows" in output and "one optimizer step: 8 images (8 x 1 accumulated x 1 processes), ~72 questions" in output
    )
    assert {path.name for path in outputs.iterdir()} >= {
        "checkpoint-2",
        "checkpoint-4",
        "adapter",
        "trainer_state.json",
        "loss_curve.png",
        "train_run.json",
    }
    for folder in (outputs / "adapter", outputs / "checkpoint-4"):
        assert not (folder / "README.md").exists(), "peft's is an empty form"
    history = json.loads((outputs / "trainer_state.json").read_text())["log_history"]
    assert [entry["loss"] > 0 for entry in history if "loss" in entry] == [True] * 4 and "learning_rate" in history[0]
    assert "eval_exact_match_yes_no" in next(entry for entry in history if "eval_loss" in entry)
    record = json.loads((outputs / "train_run.json").read_text())
    assert record["config"]["train"]["max_steps"] == 4 and record["versions"]["transformers"] and record["device"] == "cpu"
    base = json.loads((outputs / "adapter" / "experiment.json").read_text())["base_weights"]
    assert record["base_weights"] == base and record["precision"] == "float32" and record["date"][:2] == "20"
    assert [path.name for path in (parent / "exp1").iterdir() if path.name.startswith("outputs")] == ["outputs"]
    assert sorted(path.name for path in parent.iterdir()) == ["exp1"], "nothing may be written outside output_dir"


def test_training_over_a_finished_run_is_refused(parent):
    error = run(parent, "exp1/train_exp1.py", *SMALL, expect=1).stderr
    assert "already holds a training run; continue it with --resume_from_checkpoint, replace it with --overwrite" in error
    assert "Traceback" not in error


def test_resumed_equals_uninterrupted(parent):
    outputs = parent / "exp1" / "outputs"
    uninterrupted = tensors(outputs / "checkpoint-4")
    (outputs / "checkpoint-4").rename(outputs / "checkpoint-3")  # of another course, and not whole
    run(parent, "exp1/train_exp1.py", "--resume_from_checkpoint", "outputs/checkpoint-2", *SMALL)
    assert not (outputs / "checkpoint-3").exists() and (outputs / "abandoned" / "checkpoint-3").is_dir()
    shutil.rmtree(outputs / "abandoned")
    resumed = tensors(outputs / "checkpoint-4")
    assert uninterrupted.keys() == resumed.keys() and all((uninterrupted[name] == resumed[name]).all() for name in resumed)
    assert any((resumed[name] != tensors(outputs / "checkpoint-2")[name]).any() for name in resumed)


def test_a_finished_run_is_found_and_left_alone(parent):
    """Each resumption trained one more step, and removed an old checkpoint for it."""
    outputs = parent / "exp1" / "outputs"
    kept = [path for path in outputs.rglob("*") if path.is_file() and "data" not in path.parts]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in kept}
    output = run(parent, "exp1/train_exp1.py", "--resume_from_checkpoint", *SMALL).stdout
    assert "finished: all 4 steps are trained; nothing to do" in output and "training " not in output.replace("training rows", "")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in kept} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume_from_checkpoint", *SMALL, "lora.r=4"], "lora.r=16, not 4"),
        (["--resume_from_checkpoint", "train.lr=1e-5", *SMALL], "train.lr=0.001, not 1e-05"),  # an override, and not a path
        (["--resume_from_checkpoint", "outputs/checkpoint-3", *SMALL], "outputs/checkpoint-3 is not a checkpoint"),
        (["--resume_from_checkpoint", "--overwrite", *SMALL], "give one of them"),
        ([*SMALL, "train.init_adapter=outputs/adapter", "--overwrite"], "lies in output_dir, whose run would be replaced"),
        ([*SMALL, "train.select_by=macro", "data.val_jsonl=null", "output_dir=x"], "train.select_by needs validation rows"),
    ],
)
def test_what_does_not_go_on_is_one_line(parent, arguments, said):
    record = parent / "exp1" / "outputs" / "train_run.json"
    before = record.read_bytes()
    error = run(parent, "exp1/train_exp1.py", *arguments, expect=2 if "give one" in said else 1).stderr
    assert said in error.splitlines()[-1] and "Traceback" not in error and record.read_bytes() == before


def test_predict(parent):
    output = run(parent, "exp1/predict_exp1.py").stdout
    outputs = parent / "exp1" / "outputs"
    rows = [json.loads(line) for line in (outputs / "predictions.jsonl").read_text().splitlines()]
    assert list(rows[0])[:4] == ["id", "pred", "gt", "qtype"] and [row["id"] for row in rows] == [str(number) for number in range(54)]
    enriched = [json.loads(line) for line in (outputs / "data" / "val.jsonl").read_text().splitlines()]
    constrained = [(row, full) for row, full in zip(rows, enriched) if full["answer_candidates"]]
    assert len(constrained) > 10 and all(row["pred"] in full["answer_candidates"] for row, full in constrained)
    free = Counter(full["question_type"] for full in enriched if not full["answer_candidates"])
    assert f"{len(constrained)} of 54 rows constrained; free: " in output and f"mcq {free['mcq']}" in output
    assert sum("options" in full for full in enriched) == sum(full["question_type"] == "mcq" for _, full in constrained)
    sidecar = json.loads((outputs / "predictions.meta.json").read_text())
    assert sidecar["ids"] == [row["id"] for row in rows] and sidecar["rows_in_split"] == 54 and sidecar["limit"] is None


def test_eval(parent):
    output = run(parent, "exp1/eval_exp1.py", "--show", "2").stdout
    assert output.splitlines()[:3] == ["=" * 80, "EVALUATION RESULTS - EXP1", "=" * 80] and "OVERALL (micro)      54" in output
    assert "Predicted: '" in output and "The blind prior answers every question" in output
    assert json.loads((parent / "exp1" / "outputs" / "metrics.json").read_text())["n"] == 54


def test_what_people_publish_names_no_folder_of_this_machine(parent):
    """And what tools/release.py copies of it predicts."""
    outputs = parent / "exp1" / "outputs"
    private = ("hashes.json", "images.json")  # which file lies where, for this machine alone
    files = [path for path in outputs.rglob("*") if path.is_file() and path.name not in private]
    assert not [path for path in files if str(parent).encode() in path.read_bytes()]
    out = run(parent, "exp1/tools/release.py", "exp1/outputs", "released").stdout
    assert "left predictions.jsonl: rows of the data" in out and "look through it before it goes out" in out
    run(parent, "exp1/predict_exp1.py", "--adapter", str(parent / "released" / "adapter"), "--limit", "2", "--out", "released/p.jsonl")
    answers = [
        [json.loads(line)["pred"] for line in (folder).read_text().splitlines()[:2]]
        for folder in (outputs / "predictions.jsonl", parent / "released" / "p.jsonl")
    ]
    assert answers[0] == answers[1] and len(answers[1]) == 2
    shutil.rmtree(parent / "released")


def test_a_limited_run_is_partial(parent):
    run(parent, "exp1/predict_exp1.py", "--adapter", "none", "--limit", "7", "predict.decoding=allowed_set")
    output = run(parent, "exp1/eval_exp1.py", "--predictions", "outputs/predictions_val_none.jsonl").stdout
    assert "partial: 7 of 54 rows" in output


def test_another_prompt_than_trained_is_refused(parent):
    error = run(parent, "exp1/predict_exp1.py", "prompt_style=chat", expect=1).stderr
    assert 'was trained with prompt_style="plain", this run has "chat"' in error and "Traceback" not in error


def test_two_processes_train_like_one(parent):
    """torchrun on gloo: 2 ranks x 2 images = 2 accumulated x 2 images, the same loss and gradient norm at every step; and 5 images of
    validation, of which two ranks repeat one, have the loss and the exact match of 5 at once."""
    exp1 = parent / "exp1"
    steps = [*SMALL, "train.max_steps=3", "train.save_steps=3", "train.eval_steps=3", "train.eval_images=5"]
    steps += ["lora.dropout=0.0", "train.train_bs=2", "vision_frozen=false", "lora.vision=tower"]  # whose LoRA is outside of DDP's forward
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517")
    two, one = ["train.grad_accum=1", "train.eval_bs=2", f"output_dir={exp1 / 'outputs_two'}"], ["train.grad_accum=2", "train.eval_bs=5"]
    launch(parent, "exp1/train_exp1.py", *steps, *two, launcher=torchrun)
    run(parent, "exp1/train_exp1.py", *steps, *one, f"output_dir={exp1 / 'outputs_one'}")
    two, one = (json.loads((exp1 / name / "trainer_state.json").read_text())["log_history"] for name in ("outputs_two", "outputs_one"))
    for key in ("loss", "grad_norm", "eval_loss", "eval_exact_match"):
        values = [[entry[key] for entry in history if key in entry] for history in (two, one)]
        assert values[0] == pytest.approx(values[1], rel=2e-3), key


def test_a_checkpoint_answers_as_an_adapter_does(parent):
    run(parent, "exp1/predict_exp1.py", "--adapter", "outputs/checkpoint-2", "--limit", "3")
    assert len((parent / "exp1" / "outputs" / "predictions_val_checkpoint-2.jsonl").read_text().splitlines()) == 3


def test_a_run_that_diverges_ends_in_one_line_and_keeps_no_adapter(parent):
    arguments = [*SMALL, "train.lr=1e30", "train.warmup_ratio=0", f"output_dir={parent / 'exp1' / 'outputs_nan'}"]
    error = run(parent, "exp1/train_exp1.py", *arguments, expect=1).stderr.splitlines()[-1]
    assert error.startswith("error: training stopped: the ") and error.endswith("start again with --overwrite (train.lr is 1e+30)")
    assert not list((parent / "exp1" / "outputs_nan").rglob("*.safetensors"))


def test_a_new_run_starts_from_a_trained_adapter(parent):
    """At a rate of nothing its adapter is the one it started from, to the bit; and the record and a longer run know. It replaces what
    lies there."""
    outputs, more = parent / "exp1" / "outputs", parent / "exp1" / "outputs_more"
    arguments = ["train.max_steps=1", "train.lr=1e-30", "train.init_adapter=outputs/adapter", f"output_dir={more}"]
    for name in ("checkpoint-9", ".checkpoint-8.new", ".adapter.new"):  # of a run that was killed
        shutil.copytree(outputs / "checkpoint-4", more / name)
    output = run(parent, "exp1/train_exp1.py", "--overwrite", *SMALL, *arguments).stdout
    assert "starting from the weights of " in output
    assert sorted(path.name for path in more.iterdir() if "checkpoint" in path.name or "new" in path.name) == ["checkpoint-1"]
    started, trained = tensors(outputs / "adapter"), tensors(more / "adapter")
    assert started.keys() == trained.keys() and all((started[name] == trained[name]).all() for name in trained)
    arguments[0] = "train.max_steps=3"
    best, begun = json.loads((more / "adapter" / "experiment.json").read_text()), json.loads((more / "train_run.json").read_text())
    (more / "adapter" / "experiment.json").write_text(json.dumps(best | {"best": {"step": 2}}))  # as where the first was killed later
    write_sums(more / "adapter")
    output = run(parent, "exp1/train_exp1.py", "--resume_from_checkpoint", *SMALL, *arguments).stdout
    assert "(it is of step 2)" in output, "whose rate was another"
    assert "note: 3 steps now, 1 before; from here on the learning rate falls as in a run of 3" in output
    assert "starting from the weights" not in output and (more / "checkpoint-3").is_dir()
    record = json.loads((more / "train_run.json").read_text())
    assert record["finished"]["step"] == 3 and [entry["step"] for entry in record["resumed"]] == [1]
    assert begun["date"] == record["date"] < record["resumed"][0]["date"] <= record["finished"]["date"]
    assert begun["command"] == record["command"] and "--resume_from_checkpoint" in record["resumed"][0]["command"]
    assert (record["first_draw"], record["drawn_bs"]) == (begun["first_draw"], 8)
    assert record["made_from"]["train.init_adapter"] == sha256(outputs / "adapter" / "adapter_model.safetensors")


def test_two_processes_without_validation_rows_end_with_their_adapter(parent):
    """Rank 1 read the adapter before rank 0 had written it, and took rank 0 along."""
    outputs = parent / "exp1" / "outputs_last"
    arguments = [*SMALL, "train.max_steps=2", "data.val_jsonl=null", f"output_dir={outputs}"]
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29519")
    output = launch(parent, "exp1/train_exp1.py", *arguments, launcher=torchrun).stdout
    assert output.count("the adapter of step 2 is in ") == 1
    assert json.loads((outputs / "adapter" / "experiment.json").read_text())["best"] == {"step": 2}
    assert newest_whole(outputs)[0].name == "checkpoint-2" and processes_of(outputs / "checkpoint-2") == 2
    error = run(parent, "exp1/train_exp1.py", "--resume_from_checkpoint", *arguments, expect=1).stderr
    assert "processes=2, not 1 (with 1 processes train.grad_accum=2 keeps its steps)" in error


def signal_all(session, sign):
    """Send a signal to all processes of a session: run_exp1.sh has its stages in process groups of their own."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(path.parent.name), sign)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            pass


def ended_after(line, sign, command, folder):
    """Run a command and send its processes a signal when it prints a line; return what they printed, and the exit code."""
    shell = {**os.environ, "PATH": f"{Path(quick_python()).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    process, seen = subprocess.Popen(list(map(str, command)), env=shell, cwd=folder, **pipes), []
    for text in process.stdout:
        seen.append(text)
        if line in text:
            signal_all(process.pid, sign)
            line = "nothing more"
    return "".join(seen), process.wait()


def test_ctrl_c_saves_and_ends_in_one_line_whose_command_goes_on(parent):
    arguments = [*SMALL, "train.max_steps=40", f"output_dir={parent / 'exp1' / 'outputs_interrupted'}"]
    command = [quick_python(), "exp1/train_exp1.py", *arguments]
    seen, code = ended_after("step  4/40  validation loss", signal.SIGINT, command, parent)
    last = seen.splitlines()[-1]
    assert code == 75 and "Traceback" not in seen and "SIGINT: ends when this step is done and saved; Ctrl-C again leaves at once" in seen
    assert re.match(r"interrupted: exp1/outputs_interrupted/checkpoint-[45] is kept; go on with: ", last)
    words = shlex.split(last.split("go on with: ")[1])
    assert words[1:3] == ["exp1/train_exp1.py", "--resume_from_checkpoint"] and set(arguments) <= set(words)


def test_the_one_command_knows_its_own_run_before_its_first_checkpoint(parent):
    """Killed after the first validation, whose adapter is there, and before any checkpoint; twice, and then with other settings."""
    outputs = parent / "exp1" / "outputs_one_command"
    settings = ["train.max_steps=40", "train.eval_steps=1", "train.save_steps=40", *SMALL[3:], f"output_dir={outputs}"]
    command = ["bash", parent / "exp1" / "run_exp1.sh", parent / "exp1" / "config_exp1.yaml", *settings]
    killed_after = lambda line, *overrides: ended_after(line, signal.SIGKILL, [*command, *overrides], parent)
    killed_after("validation loss")
    assert (outputs / "train_run.json").exists() and not list(outputs.glob("checkpoint-*"))
    seen, _ = killed_after("validation loss")
    assert "yet: the run starts from its beginning" in seen and "made from other inputs" not in seen
    (outputs / "adapter").mkdir(exist_ok=True)
    seen, code = killed_after("never said", "train.lr=1e-5")
    assert code == 1 and "already holds a training run, made from other inputs; add --overwrite" in seen.splitlines()[-1]
