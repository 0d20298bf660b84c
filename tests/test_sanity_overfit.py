"""The sanity test finds a broken mask before it trains, and tells steps and model apart after. That it passes is in test_tutorial.py.

python -m pytest tests/test_sanity_overfit.py -v
"""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_MODEL, make_experiment, random_model, with_random_lora
from user_copy import make_parent, run

import dataset as dataset_module
import model.forward as forward
from config import load_config
from dataset import check_first_batch, load_dataset
from files import UserError
from sanity_overfit import BYTES_PER_TOKEN, at_fault, bytes_per_token, judge, loss_verdict
from training.sanity import UntilKnown, check_forward, check_labels, share_teacher_forced

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


def test_sanity_fails_with_a_broken_mask_before_it_trains(parent):
    result = run_broken(parent, "model/token_tree.py", "self.labels.append(token if supervised", "self.labels.append(token if True")
    assert "label mask broken at row" in result.stderr and "supervised ids: [" in result.stdout


def test_sanity_fails_where_images_are_lost_before_it_trains(parent):
    zeros = "features.pooler_output = [0 * image for image in per_tree(features.pooler_output)]"
    result = run_broken(parent, "model/forward.py", "features.pooler_output = per_tree(features.pooler_output)", zeros)
    assert result.stderr.startswith("error: no image reaches row ") and len(result.stderr.splitlines()) == 1


def test_sanity_fails_when_nothing_is_learnt_and_says_that_it_was_the_steps(parent):
    output = run(parent, "exp1/sanity_overfit.py", "train.max_steps=2", expect=1).stdout
    assert "SANITY TEST FAILED" in output and "mask: 64 answers see their question and image" in output
    assert "at fault: steps: the loss still falls (" in output and "at step 2); try train.max_steps=200" in output
    assert "not at fault: the mask" in output and "too small" not in output
    report = json.loads((parent / "exp1" / "outputs" / "sanity" / "sanity.json").read_text())
    assert not report["passed"] and report["steps"] == 2 and report["at_fault"][0].startswith("at fault: steps")


# --- the mask ---


@pytest.fixture
def trained(experiment, processor):
    """(model with a random LoRA, training set of 18 questions about four images)."""
    cfg, rows = experiment
    model = with_random_lora(random_model(processor), cfg.lora).train()
    return model, load_dataset(rows, processor, cfg, model.get_base_model().config, training=True)


def test_a_right_mask_is_called_right_and_the_model_trains_on(trained):
    model, training_set = trained
    check_labels(training_set)
    answers, gap = check_forward(model, training_set, images=4)
    assert answers == 18 and gap < 1e-3 and model.training
    assert forward.base_model(model).model.language_model.config._attn_implementation == "tree"


def sees_itself_alone(layout):
    mask = SEEN(layout)
    own = torch.eye(mask.shape[-2], dtype=torch.bool).expand(len(mask), 1, -1, -1)
    return torch.cat([torch.zeros_like(mask[..., : mask.shape[-1] - mask.shape[-2]]), own], -1)


def sees_no_prefix(layout):
    mask = SEEN(layout).clone()
    mask[..., : mask.shape[-1] - mask.shape[-2]] = False
    return mask


def sees_what_comes(layout):
    mask = SEEN(layout).clone()
    mask[..., mask.shape[-1] - mask.shape[-2] :] = True
    return mask


def sees_half_the_prefix(layout):
    mask = SEEN(layout).clone()
    mask[..., ::2] &= torch.eye(mask.shape[-2], mask.shape[-1], dtype=torch.bool).roll(mask.shape[-1] - mask.shape[-2], 1)[:, ::2]
    return mask


def no_features(inner, batch):
    features = FEATURES(inner, batch)
    features.pooler_output = [torch.zeros_like(image) for image in features.pooler_output]
    return features


def features_of_the_first(inner, batch):
    """Every question beside the first image of the batch, as far as sizes allow."""
    features = FEATURES(inner, batch)
    features.pooler_output = [features.pooler_output[0][:1].expand_as(image) for image in features.pooler_output]
    return features


SEEN, FEATURES = forward.branch_mask, forward.image_features
PARENTS, POSITIONS = forward.supervised_parents, forward.tree_position_ids


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("branch_mask", sees_itself_alone, "label mask broken at row .*: its answer does not see its question"),
        ("branch_mask", sees_no_prefix, "no image reaches row"),
        (
            "branch_mask",
            sees_what_comes,
            "label mask broken at row .*: its answer's loss is .* as it is trained and .* in a row of its own",
        ),
        ("branch_mask", sees_half_the_prefix, "label mask broken at row .*: its answer's loss is"),
        ("image_features", no_features, "no image reaches row"),
        ("image_features", features_of_the_first, "no image reaches row|label mask broken at row"),
        ("supervised_parents", lambda labels: PARENTS(labels).roll(1, 1), "label mask broken at row .*: its answer's loss is"),
        ("supervised_parents", lambda labels: PARENTS(labels).roll(-1, 1), "label mask broken at row .*: its answer's loss is"),
        ("tree_position_ids", lambda prefix, batch: POSITIONS(prefix, batch) * 0, "label mask broken at row .*: its answer's loss is"),
    ],
)
def test_what_is_broken_in_the_forward_is_called_so(trained, monkeypatch, name, broken, said):
    """None of it is in the batch, so `check_first_batch`, all that there was, finds it right; training then just learns badly."""
    model, training_set = trained
    monkeypatch.setattr(forward, name, broken)
    check_first_batch(training_set)
    with pytest.raises(UserError, match=said) as error:
        check_forward(model, training_set, images=4)
    assert "\n" not in str(error.value) and model.training


def test_blank_pictures_are_called_so(trained, monkeypatch):
    """What is broken before the model: the reference sees the same blank pictures, so its loss is no other."""
    model, training_set = trained
    load = dataset_module.load_image
    monkeypatch.setattr(dataset_module, "load_image", lambda *arguments: load(*arguments).point(lambda value: 0))
    check_labels(training_set)
    with pytest.raises(UserError, match="no image reaches row .*: all patches are alike; check data/images.py and dataset.py"):
        check_forward(model, training_set, images=4)


def test_half_precision_is_no_broken_mask(trained):
    model, training_set = trained
    assert check_forward(model.to(torch.bfloat16), training_set, images=4)[1] > 1e-3, "another order of sums is seen, and let pass"


def test_labels_are_checked_beyond_the_first_images(tmp_path, processor, monkeypatch):
    cfg, rows = make_experiment(tmp_path, questions=(1,) * 9, sizes=((60, 60),) * 9)
    training_set = load_dataset(rows, processor, cfg, training=True)
    collate, last = training_set.collate, training_set.groups[8][0]["id"]

    def shifted(items):
        batch = collate(items)
        if any(row["id"] == last for item in items for row in item["rows"]):
            batch["labels"] = batch["labels"].roll(1, 1)
        return batch

    monkeypatch.setattr(training_set, "collate", shifted)
    check_first_batch(training_set)
    with pytest.raises(UserError, match="label mask broken at row"):
        check_labels(training_set)


def test_the_share_that_is_right_token_by_token(trained, monkeypatch):
    """Where the labels are the model's own choice all are right; one label changed in each of two answers makes two wrong."""
    model, training_set = trained
    assert 0 <= share_teacher_forced(model, training_set, images=2) < 1
    with torch.no_grad():
        batch = training_set.collate([training_set[index] for index in range(4)])
        chosen = model.eval()(**forward.training_inputs(model, batch)).predicted
    collate = training_set.collate

    def with_own_choice(items, wrong):
        batch = collate(items)
        choice = chosen.clone()
        choice[wrong] += 1
        batch["labels"][batch["labels"] != dataset_module.IGNORE_INDEX] = choice
        return batch

    ends = torch.tensor([len(training_set.encoded[row["id"]][1]) for row in in_batch_order(training_set)]).cumsum(0)
    monkeypatch.setattr(training_set, "collate", lambda items: with_own_choice(items, wrong=[]))
    assert share_teacher_forced(model, training_set, images=4) == 1
    monkeypatch.setattr(training_set, "collate", lambda items: with_own_choice(items, wrong=[int(ends[0]) - 1, int(ends[4]) - 1]))
    assert share_teacher_forced(model, training_set, images=4) == 16 / 18


def in_batch_order(training_set):
    packed = training_set.pack([training_set[index] for index in range(4)])
    return [row for items in packed for item in items for row in item["rows"]]


# --- when there is nothing more to learn ---


def follow(losses, shares=()):
    """(step at which a training with these losses at steps 10, 20, … is stopped, or None; the callback)."""
    shares = iter(shares)
    watch, control = UntilKnown(lambda: next(shares)), SimpleNamespace(should_training_stop=False)
    for number, loss in enumerate(losses, start=1):
        watch.on_log(None, SimpleNamespace(global_step=10 * number), control, {"loss": loss})
        if control.should_training_stop:
            return 10 * number, watch
    return None, watch


def test_training_goes_on_while_the_loss_falls():
    stopped, watch = follow([8 * 0.995**number for number in range(300)])
    assert stopped is None and watch.falling and len(watch.losses) == 300


def test_training_stops_once_the_loss_stands():
    """Means of 50 steps: 8, 7, 6, 5, 4, 3 and from then on 2.95, less than 2 % lower: 100 steps after step 300 it stands."""
    stopped, watch = follow([loss for loss in (8.0, 7.0, 6.0, 5.0, 4.0, 3.0) for _ in range(5)] + [2.95] * 40)
    assert stopped == 400 and not watch.falling


def test_the_first_200_steps_are_trained_though_the_loss_stands():
    assert follow([4.0] * 60)[0] == 200


def test_training_stops_early_when_all_answers_are_right():
    stopped, _ = follow([2.0] * 5 + [0.4] * 20, shares=[0.5, 1.0])
    assert stopped == 150


def test_nothing_is_generated_while_the_loss_is_high():
    assert follow([1.0 - number / 1000 for number in range(15)], shares=())[0] is None


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
