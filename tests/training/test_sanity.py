"""The mask is checked through the model, and a training ends when there is nothing more to learn.

python -m pytest tests/training/test_sanity.py -v
"""

from types import SimpleNamespace

import pytest
import torch
from conftest import make_experiment, random_model, with_random_lora

import dataset as dataset_module
from dataset import check_first_batch, load_dataset
from files import UserError
from model import forward
from training.sanity import UntilKnown, check_forward, check_labels, share_teacher_forced

# --- the mask


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


# --- when there is nothing more to learn


def follow(losses, shares=()):
    """(step at which a training with these losses at steps 10, 20, … is stopped, or None; the callback)."""
    shares = iter(shares)
    watch, control = UntilKnown(lambda: next(shares), 0.95), SimpleNamespace(should_training_stop=False)
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


def test_training_stops_early_when_enough_answers_are_right():
    stopped, _ = follow([2.0] * 5 + [0.4] * 20, shares=[0.949, 0.95])
    assert stopped == 150


def test_nothing_is_generated_while_the_loss_is_high():
    assert follow([1.0 - number / 1000 for number in range(15)], shares=())[0] is None
