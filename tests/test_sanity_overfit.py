"""The sanity test finds a broken mask before it trains, and tells steps and model apart after. That it passes is in test_tutorial.py.

python -m pytest tests/test_sanity_overfit.py -v
"""

import json
import shlex
from types import SimpleNamespace

import pytest
from conftest import TINY_MODEL
from user_copy import make_parent, run

import sanity_overfit
from config import load_config
from sanity_overfit import (
    BYTES_PER_TOKEN,
    at_fault,
    bytes_per_token,
    choose_rows,
    command_of_training,
    judge,
    loss_verdict,
    right_share,
)

# --- the whole script ---


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return make_parent(tmp_path_factory.mktemp("user"))


def run_broken(parent, path, old, new):
    """The script in a copy whose code is really broken: its standard output and error."""
    code = parent / "exp1" / path
    source = code.read_text()
    assert old in source
    code.write_text(source.replace(old, new))
    result = run(parent, "exp1/sanity_overfit.py", expect=1)
    code.write_text(source)
    assert "Traceback" not in result.stderr and "a line every" not in result.stdout, "it is said before the training"
    return result


@pytest.mark.slow("runs the real script")
def test_sanity_fails_with_a_broken_mask_before_it_trains(parent):
    result = run_broken(parent, "model/token_tree.py", "self.labels.append(token if supervised", "self.labels.append(token if True")
    assert "label mask broken at row" in result.stderr and "supervised ids: [" in result.stdout


@pytest.mark.slow("runs the real script")
def test_sanity_fails_where_images_are_lost_before_it_trains(parent):
    zeros = "features.pooler_output = [0 * image for image in per_tree(features.pooler_output)]"
    result = run_broken(parent, "model/forward.py", "features.pooler_output = per_tree(features.pooler_output)", zeros)
    assert result.stderr.startswith("error: no image reaches row ") and len(result.stderr.splitlines()) == 1


@pytest.mark.slow("runs the real script, which trains two steps")
def test_sanity_fails_when_nothing_is_learnt_and_says_that_it_was_the_steps(parent):
    output = run(parent, "exp1/sanity_overfit.py", "train.max_steps=2", expect=1).stdout
    assert "SANITY TEST FAILED" in output and "mask: 64 answers see their question and image" in output
    assert "at fault: steps: the loss still falls (" in output and "at step 2); try train.max_steps=200" in output
    assert "not at fault: the mask" in output and "too small" not in output
    report = json.loads((parent / "exp1" / "outputs" / "sanity" / "sanity.json").read_text())
    assert not report["passed"] and report["steps"] == 2 and report["at_fault"][0].startswith("at fault: steps")


# --- which rows, and what comes next ---


def test_the_rows_are_the_first_images_without_those_that_contradict_each_other():
    """No model could learn two answers to one question about one image; to another image, or another list of them, it can."""
    row = lambda question, answer, *images: {"question": question, "answer": answer, "image": images[0], "images": [*images]}
    rows = [
        row("Is it?", "yes", "a"),
        row("What?", "red", "b"),
        row("IS  it?", "no", "a"),
        row("What?", "blue", "a"),
        row("How?", "1", "b"),
    ]
    rows += [row("What?", "green", "a", "b"), row("What?", "red", "b"), row("How?", "2", "a")]
    kept = [rows[index] for index in (1, 4, 6, 3, 7, 5)]
    assert choose_rows(rows, 64) == kept and choose_rows(rows, 4) == kept[:4]


def test_the_training_that_follows_has_its_own_number_of_steps(tmp_path):
    given = SimpleNamespace(config=None, overrides=["train.max_steps=400", "lora.r=8", f"output_dir={tmp_path}"])
    assert shlex.split(command_of_training(given))[2:] == ["lora.r=8", f"output_dir={tmp_path}"]


# --- what is at fault ---


def found(**changes):
    shares = {"exact_match": {"free": 0.5, "constrained": 0.6}, "teacher_forced": 0.51}
    return {"losses": [9.0, 1.0], "rows": 64, "steps": 400, "falling": False, "bytes_per_token": 4.0, **shares, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"falling": True}, ["at fault: steps: the loss still falls (1.00 at step 400); try train.max_steps=800"]),
        ({}, ["at fault: model: the loss stands at 1.00 with train.lr=0.0001, lora.r=16 and image.max_pixels=200704; change these"]),
        ({"bytes_per_token": 2.1}, ["at fault: model: Qwen/Qwen2-VL-7B-Instruct is too small for these words"]),
        ({"falling": True, "bytes_per_token": 2.1}, ["at fault: steps", "at fault: model: Qwen/Qwen2-VL-7B-Instruct is too small"]),
        (
            {"teacher_forced": 0.99},
            ["at fault: the mask or the prompt: 99.0% of the answers are right token by token, 50.0% when generated"],
        ),
    ],
)
def test_mask_steps_and_model_are_told_apart(changes, said):
    lines = at_fault(found(**changes), load_config())
    blamed = [line for line in lines if line.startswith("at fault")]
    assert len(blamed) == len(said) and all(line.startswith(start) for line, start in zip(blamed, said))
    assert (lines[-1] == "not at fault: the mask, which was checked before the training") == ("teacher_forced" not in changes)


@pytest.mark.parametrize(("loss", "free", "passes"), [(1.99, 0.95, True), (2.0, 1.0, False), (0.1, 0.94, False)])
def test_passed_is_a_low_loss_and_right_answers(tmp_path, capsys, loss, free, passes):
    facts = found(losses=[9.0, loss], exact_match={"free": free, "constrained": 1.0}, teacher_forced=free)
    assert judge(facts, load_config(), tmp_path / "sanity.json") == passes
    printed, report = capsys.readouterr().out, json.loads((tmp_path / "sanity.json").read_text())
    assert ("SANITY TEST PASSED" in printed) == passes == (report["at_fault"] == []) and report["passed"] == passes
    assert ("at fault: " in printed) != passes and f"9.000 -> {loss:.3f} in 400 steps on 64 rows" in printed


def test_the_help_says_what_it_is_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sanity_overfit.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        sanity_overfit.main()
    shown = capsys.readouterr().out
    assert not ended.value.code and shown.split("\n\n")[1] == "Can the model memorise 64 training answers?"
    assert sanity_overfit.__doc__.split("\n")[0] in shown


def test_the_first_five_misses_are_shown_under_their_decoding(capsys):
    answers = [({"answer": "yes", "question": f"{number}?"}, SimpleNamespace(text="Yes." if number == 3 else "no")) for number in range(8)]
    assert right_share(answers) == 1 / 8 and capsys.readouterr().out == ""
    assert right_share(answers, "free") == 1 / 8
    assert capsys.readouterr().out.splitlines() == [f"  free: Predicted: 'no' vs GT: 'yes'  ({number}?)" for number in (0, 1, 2, 4, 5)]


def test_what_memorising_needs_is_set_unless_the_command_says_otherwise(monkeypatch):
    """1,000 steps at ten times the usual rate, which is reached at once; nothing is reported elsewhere."""
    cfg = load_config(None, sanity_overfit.SETTINGS)
    assert (cfg.train.max_steps, cfg.train.lr, cfg.train.warmup_ratio, cfg.train.logging_steps) == (1000, 1e-3, 0.01, 10)
    assert cfg.train.num_workers == 0 and cfg.train.report_to == "none"


def test_the_users_verdicts():
    said = {1.99: "loss < 2.0: label masking works", 2.0: "loss 2-5: partial learning", 5.0: "loss 5-7", 7.2: "loss > 7: label masking bug"}
    assert all(loss_verdict(loss).startswith(verdict) for loss, verdict in said.items())


def test_bytes_of_a_token_are_counted_in_utf8(processor):
    row = {"question": "é", "answer": "yes"}
    ids = processor.tokenizer(["é", "yes"], add_special_tokens=False)["input_ids"]
    assert bytes_per_token([row], processor.tokenizer) == 5 / sum(map(len, ids))


def test_the_tiny_model_is_too_small_for_real_words_and_the_real_tokenizer_is_not(shared):
    from transformers import AutoTokenizer

    real = shared / "real-data"
    read = lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = {"vqa_rad": read(real / "vqa_rad" / "rows.jsonl"), "kvasir": read(real / "kvasir_vqa" / "val.jsonl")[:2000]}
    turns = [row["conversations"] for row in read(real / "surgcheck" / "data" / "full" / "test_original.jsonl")[:1000]]
    rows["surgcheck"] = [{"question": turn[0]["value"], "answer": turn[1]["value"]} for turn in turns]
    german = "Welche Farbe hat die Schleimhaut im Bereich des Gallenblasenhalses?"
    rows["german"] = [{"question": german, "answer": "rosa mit Rötung"}]
    tiny, large = (AutoTokenizer.from_pretrained(folder) for folder in (TINY_MODEL, shared / "qwen2-vl-processor"))
    assert all(bytes_per_token(found, large) > BYTES_PER_TOKEN + 0.5 for found in rows.values())
    assert all(bytes_per_token(rows[name], tiny) < BYTES_PER_TOKEN - 0.2 for name in ("vqa_rad", "surgcheck", "german"))
    assert bytes_per_token(rows["kvasir"], tiny) > BYTES_PER_TOKEN, "whose words the demo has"
