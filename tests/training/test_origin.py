"""The adapter that a run starts from has to fit it, and is not replaced by it.

python -m pytest tests/training/test_origin.py -v
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from test_resume import configured, with_changes

from data.contents import weights_hash
from files import UserError, read_json
from model.adapter import LANGUAGE_LAYERS, VISION
from training.origin import check_init_adapter


@pytest.fixture
def cfg(tmp_path):
    return configured(tmp_path)


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    facts = {"model_name": "tiny", "prompt_style": "plain", "answer_prefix": "", "image": {"min_pixels": 3136, "max_pixels": 200704}}
    (folder / "experiment.json").write_text(json.dumps(facts))
    targets = r"model\.language_model\.layers\.\d+\.\w+\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    save_file({"weights": torch.zeros(3)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 32, "target_modules": targets}))
    return folder


def test_an_adapter_to_start_from_has_to_fit(cfg, trained):
    start = lambda *overrides: check_init_adapter(with_changes(cfg, f"train.init_adapter={trained}", *overrides))
    assert check_init_adapter(cfg) == []
    (note,) = start()
    assert note.endswith("are compared by name (tiny), not by weights: the adapter does not say which, as older code wrote it")
    assert start("lora.dropout=0.5", "data.max_listed=3", "lora.target_modules=[down_proj,up_proj,gate_proj,o_proj,v_proj,k_proj,q_proj]")
    for override, said in (
        ("lora.r=8", "lora.r=16, this run has 8; use the same lora.r"),
        ("lora.alpha=8", "lora.alpha=32, this run has 8"),
        ("lora.target_modules=[q_proj]", r'this run has \["q_proj"\]; use the same lora.target_modules'),
        ("prompt_style=chat", 'prompt_style="plain", this run has "chat"'),
        ('answer_prefix=" "', 'answer_prefix="", this run has " "'),
        ("image.max_pixels=10000", "image.max_pixels=200704, this run has 10000"),
        ("data.stage_prefix=add", r'stage_prefix="keep", this run has "\[Stage-1: Initial Assessment\] '),
        ("model_name=other/model", 'model_name="tiny", this run has "model"'),
        ("quantization=nf4", 'quantization="none", this run has "nf4"'),
    ):
        with pytest.raises(UserError, match=f"{trained} was trained with .*{said}"):
            start(override)


def test_the_model_of_an_adapter_is_told_by_its_weights(cfg, trained, tmp_path):
    """Any other model in a folder of the same name was taken, and the same one in another was not."""
    save_file({"a": torch.zeros(3)}, tmp_path / "tiny" / "model.safetensors")
    facts = {**read_json(trained / "experiment.json"), "base_weights": weights_hash(tmp_path / "tiny")}
    (trained / "experiment.json").write_text(json.dumps(facts))
    start = lambda model: check_init_adapter(with_changes(cfg, f"train.init_adapter={trained}", f"model_name={model}"))
    renamed, other = (shutil.copytree(tmp_path / "tiny", tmp_path / name) for name in ("renamed", "other/tiny"))
    (renamed / "README.md").write_text("another file beside the weights")
    assert start(tmp_path / "tiny") == start(renamed) == []
    save_file({"a": torch.ones(3)}, other / "model.safetensors")
    with pytest.raises(UserError, match=f"was trained on other weights \\(tiny\\) than those of {other}; give the model that it was"):
        start(other)
    assert "the model's are not on this machine yet" in start("hub/tiny")[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "adapter_config.json: has no lora_alpha; copy the adapter again"),
        ([], "adapter_config.json: holds a list, not the object that was written"),
        ({"r": 16, "lora_alpha": 32, "target_modules": 5}, "adapter_config.json: has target_modules=5, which is not trained here"),
        ({"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], "use_rslora": True}, "has use_rslora=true, which is not trained here"),
        ({"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], "bias": "all"}, 'has bias="all", which is not trained here'),
    ],
)
def test_a_kind_of_adapter_that_is_not_trained_here_is_one_line(cfg, trained, settings, said):
    (trained / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=said):
        check_init_adapter(with_changes(cfg, f"train.init_adapter={trained}"))


def test_an_adapter_to_start_from_is_one_and_is_not_replaced(cfg, trained):
    with pytest.raises(UserError, match="is no folder; give that of a trained adapter"):
        check_init_adapter(with_changes(cfg, "train.init_adapter=/nowhere"))
    inside, link = shutil.copytree(trained, cfg.output_dir / "adapter"), cfg.output_dir.parent / "link"
    link.symlink_to(cfg.output_dir)
    for changes in ([f"train.init_adapter={inside}"], [f"train.init_adapter={link / 'adapter'}"]):
        with pytest.raises(UserError, match="lies in output_dir, whose run would be replaced; set another output_dir"):
            check_init_adapter(with_changes(cfg, *changes))
    with pytest.raises(UserError, match="lies in output_dir"):
        check_init_adapter(with_changes(cfg, f"train.init_adapter={inside}", f"output_dir={link}"))
    (trained / "experiment.json").unlink()
    with pytest.raises(UserError, match="has no experiment.json; train it with train_exp1.py"):
        check_init_adapter(with_changes(cfg, f"train.init_adapter={trained}"))


def test_what_of_the_tower_an_adapter_trained_is_read_of_its_pattern(cfg, trained):
    """As `attach_lora` writes it: the mergers alone, the mergers with the blocks' attention, or neither."""
    path, kinds = trained / "adapter_config.json", {None: "", **{kind: f"{pattern}|" for kind, pattern in VISION.items()}}
    for was, tower in kinds.items():
        targets = rf"{tower}{LANGUAGE_LAYERS}\.(q_proj|v_proj)"
        path.write_text(json.dumps({"r": 16, "lora_alpha": 32, "target_modules": targets}))
        for now in kinds:
            same = [
                f"train.init_adapter={trained}",
                "lora.target_modules=[v_proj,q_proj]",
                f"lora.vision={now or 'null'}",
                f"vision_frozen={str(now is None).lower()}",
            ]
            if now == was:
                assert len(check_init_adapter(with_changes(cfg, *same))) == 1
                continue
            with pytest.raises(UserError) as error:
                check_init_adapter(with_changes(cfg, *same))
            both = f"lora.vision={json.dumps(was)}, this run has {json.dumps(now)}; use the same lora.vision"
            assert str(error.value) == f"train.init_adapter: {trained} was trained with {both}"


HARMLESS = ("lora_dropout", "base_model_name_or_path", "revision", "task_type", "peft_version", "inference_mode", "auto_mapping")
HARMLESS += ("init_lora_weights", "megatron_core", "qalora_group_size", "loftq_config")


def test_settings_that_decide_nothing_here_are_let_pass(cfg, trained):
    """What peft writes of them in some version or other; and a list of targets in the place of our pattern."""
    path = trained / "adapter_config.json"
    targets = ["v_proj", "q_proj"]
    settings = {"r": 16, "lora_alpha": 32, "target_modules": targets, "bias": "none", "peft_type": "LORA", "use_dora": False}
    same = with_changes(cfg, f"train.init_adapter={trained}", "lora.target_modules=[q_proj,v_proj]")
    path.write_text(json.dumps({**settings, **dict.fromkeys(HARMLESS, "some")}))
    assert len(check_init_adapter(same)) == 1
    for odd in ({"peft_type": "LOHA"}, {"bias": "lora_only"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}):
        path.write_text(json.dumps({**settings, **odd}))
        ((key, value),) = odd.items()
        with pytest.raises(UserError) as error:
            check_init_adapter(same)
        assert str(error.value) == f"{path}: has {key}={json.dumps(value)}, which is not trained here; give an adapter of train_exp1.py"
