"""What the vision tower costs, by torch's own counting of its forward and backward.

python -m pytest tests/training/test_tower.py -v
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import FAMILIES
from test_cost import allocated_peak, kept_bytes, ready

from config import LoraConfig
from model.forward import base_model, image_features
from training.cost import MicroBatch, Precision, model_shape
from training.tower import tower_bytes, tower_flops


@pytest.mark.parametrize("dtype, dropout", [(torch.float32, 0.0), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_every_byte_that_a_towers_block_keeps_is_predicted(processor, batch, family, dtype, dropout, monkeypatch):
    """A third block keeps exactly as much as is said; a tower of which the mergers alone are trained keeps nothing of any."""
    precision, kept = Precision({torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype], False, dropout, fused=False), {}
    for vision in ("merger", "tower"):
        for depth in (2, 3):
            monkeypatch.setitem(FAMILIES[family][1], "depth", depth)
            model = ready(processor, dtype=dtype, lora=LoraConfig(dropout=dropout, vision=vision), family=family)
            saved = kept_bytes(model, partial(image_features, base_model(model).model, batch))
            tower, patches = model_shape(model).tower, MicroBatch.of(batch).patches
            kept[vision, depth] = saved, tower_bytes(tower, patches, precision)[0]
    features = precision.size * sum(patches) / tower.merge * sum(width for *_, width in tower.mergers)
    for vision in ("merger", "tower"):
        measured, predicted = (kept[vision, 3][index] - kept[vision, 2][index] for index in (0, 1))
        assert measured == predicted and (measured == 0) == (vision == "merger")
        saved, told = kept[vision, 3]
        assert told - features == pytest.approx(saved, rel=0.05), "all but the features, which the model's inputs hold"


def test_a_blocks_transient_is_its_mlps_or_where_that_is_narrow_its_attentions(processor):
    """Of 8 patches of a width w in bfloat16: two hidden states, and four of the MLP's width, or qkv and six of w in float32."""
    tower = model_shape(ready(processor)).tower
    of = lambda dtype, mlp: tower_bytes(replace(tower, mlp=mlp), (8,), Precision(dtype))[1] / 8 / tower.width
    assert [of("bf16", 9 * tower.width), of("bf16", tower.width)] == [2 * 2 + 4 * 2 * 9, 2 * 2 + 3 * 2 + 6 * 4]
    assert [of("fp32", 9 * tower.width), of("fp32", tower.width)] == [2 * 4 + 4 * 4 * 9, 2 * 4 + 3 * 4 + 4 * 4]


@pytest.mark.parametrize(("family", "width"), [("qwen2_vl", "mlp_ratio"), ("qwen2_5_vl", "intermediate_size")])
def test_a_frozen_tower_with_a_wide_mlp_takes_no_more_than_is_said_and_not_much_less(processor, batch, monkeypatch, family, width):
    """Of Qwen2-VL-7B's tower the MLP is what takes the most; of the tiny ones here it would be attention."""
    monkeypatch.setitem(FAMILIES[family][1], width, {"mlp_ratio": 16, "intermediate_size": 512}[width])
    model = ready(processor, family=family)
    _, transient = tower_bytes(model_shape(model).tower, MicroBatch.of(batch).patches, Precision("fp32"))
    measured = allocated_peak(image_features, base_model(model).model, batch)
    assert measured <= transient <= 1.35 * measured


def test_towers_windows_are_counted_as_windows(processor):
    """Qwen2.5-VL: of two blocks the first sees 56 x 56 pixels, 16 patches, at a time."""
    tower = model_shape(ready(processor, family="qwen2_5_vl")).tower
    assert tower.windows == (16, None)
    attention = tower_flops(tower, (64,))[0] - 2 * 64 * (tower.patch_weights + tower.merged_weights / 4)
    assert attention == 4 * 64 * (16 + 64) * tower.width
