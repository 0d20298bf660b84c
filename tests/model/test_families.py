"""Each supported family through every stage, with tiny random models and its own processor; and each of its sizes by configuration.

Needs bitsandbytes (requirements-dev.txt).    python -m pytest tests/model/test_families.py -v
"""

import json
import sys

import pytest
import torch
import transformers
from conftest import FAMILIES as TINY
from conftest import ROOT, TINY_MODEL, as_clips, make_experiment, random_model, with_random_lora
from test_forward import gradients, plain_rows, relative_difference
from transformers import AutoProcessor

import merge_adapter
import predict_exp1
import train_exp1
from config import LoraConfig, load_config
from dataset import load_dataset
from files import UserError, read_jsonl
from model.adapter import experiment_facts, load_adapter, save_adapter
from model.forward import answer_loss, base_model, image_features, training_inputs, why_rows_stay_plain
from model.load import load_model, load_model_config
from model.on_disk import FAMILIES
from prediction.decode import answer_questions
from training import fits
from training.cost import MicroBatch, Precision, model_on_meta, model_shape, step_flops, step_memory
from training.origin import check_init_adapter
from training.resume import refuse_other_settings

OWN = {  # processor, video processor, patch size
    "qwen2_vl": ("Qwen2VLProcessor", "Qwen2VLVideoProcessor", 14),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor", 14),
    "qwen3_vl": ("Qwen3VLProcessor", "Qwen3VLVideoProcessor", 16),
}
PUBLISHED = {  # parameters in billions, as the hub counts them
    ("qwen2_vl", "2B"): 2.21, ("qwen2_vl", "7B"): 8.29, ("qwen2_vl", "72B"): 73.41, ("qwen2_5_vl", "3B"): 3.75,
    ("qwen2_5_vl", "7B"): 8.29, ("qwen2_5_vl", "32B"): 33.45, ("qwen2_5_vl", "72B"): 73.41, ("qwen3_vl", "2B"): 2.13,
    ("qwen3_vl", "4B"): 4.44, ("qwen3_vl", "8B"): 8.77, ("qwen3_vl", "32B"): 33.36,
}  # fmt: skip
SPLIT = ("--split", "train")
DECODINGS = ("exact", "greedy", "allowed_set", "free")


def model_folder(folder, family, monkeypatch):
    """A folder as the hub has it: random weights of three layers, and the family's own processor around the shipped tokenizer."""
    name, video, patch_size = OWN[family]
    shipped = AutoProcessor.from_pretrained(TINY_MODEL)
    images = type(shipped.image_processor)(**{**shipped.image_processor.to_dict(), "patch_size": patch_size})
    parts = {"image_processor": images, "tokenizer": shipped.tokenizer, "chat_template": shipped.chat_template}
    video = getattr(transformers, video)(patch_size=patch_size)
    getattr(transformers, name)(**parts, video_processor=video).save_pretrained(folder)
    monkeypatch.setitem(TINY[family][1], "patch_size", patch_size)
    random_model(shipped, family=family, num_hidden_layers=3).save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(script, *arguments): what a script's main prints, on rows about one and several images."""
    make_experiment(tmp_path, questions=(1, 2, 3, 2))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if value} for row in as_clips(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"data.train_jsonl": "rows.jsonl", "data.image_root": ".", "output_dir": "outputs", "image.max_pixels": 12544}
    settings |= {"train.num_workers": 0, "train.save_steps": 1, "train.logging_steps": 1, "lora.dropout": 0.0, "train.lr": 0.01}
    settings |= {"data.min_groups": 1, "predict.max_new_tokens": 3}
    monkeypatch.chdir(tmp_path)
    for script in (train_exp1, predict_exp1):  # of processes that are their own
        monkeypatch.setattr(script, "heed_signals", lambda *_: None)
    monkeypatch.setattr(train_exp1, "keep_others_away", lambda *_: None)

    def call(script, *arguments):
        overrides = [f"{key}={value}" for key, value in settings.items()]
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *overrides, *arguments])
        script.main()
        return capsys.readouterr().out

    return call


def predictions(path):
    return [(row["pred"], row["confidence"]) for _, row in read_jsonl(path)]


@pytest.mark.slow("trains, predicts and evaluates a model of each family")
@pytest.mark.parametrize("family, vision", [("qwen2_vl", "merger"), ("qwen2_5_vl", "tower"), ("qwen3_vl", "tower")])
def test_a_family_goes_through_every_stage(run, tmp_path, family, vision, monkeypatch):
    """Train, resume, answer in every decoding, merge: the merged model answers as base and adapter do. With LoRA in the tower, too."""
    model = [f"model_name={model_folder(tmp_path / 'base', family, monkeypatch)}", "vision_frozen=false", f"lora.vision={vision}"]
    assert "question types, share of rows / of the loss (answer tokens): yes_no 50.0% / " in run(train_exp1, *model, "train.max_steps=1")
    longer = run(train_exp1, *model, "train.max_steps=2", "--resume_from_checkpoint")
    assert "step 2/2" in longer and "step 1/2" not in longer, "it goes on"
    for decoding in DECODINGS:
        run(predict_exp1, *model, f"predict.decoding={decoding}", *SPLIT, "--out", f"{decoding}.jsonl")
    run(merge_adapter, *model, "--adapter", "outputs/adapter", "--out", "merged", "--dtype", "float32")
    run(predict_exp1, "model_name=merged", *SPLIT, "--adapter", "none", "--out", "merged.jsonl")
    for (answer, confidence), (merged, its) in zip(predictions("exact.jsonl"), predictions("merged.jsonl"), strict=True):
        assert answer == merged and confidence == (its and pytest.approx(its, abs=1e-3))
    texts = {name: [answer for answer, _ in predictions(f"{name}.jsonl")] for name in DECODINGS}
    assert all(map(len, texts.values())) and texts["free"] != texts["exact"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_in_four_bits(tmp_path, family, monkeypatch):
    """In the settings of configs/qwen3vl_8b.yaml: one packed backward is that of plain rows, and every decoding answers."""
    changes = {"model_name": model_folder(tmp_path / "base", family, monkeypatch), "quantization": "nf4", "lora.r": 4}
    cfg, rows = make_experiment(tmp_path, (1, 2, 3, 2), **changes, **{"lora.target_modules": "[q_proj, k_proj, v_proj, o_proj]"})
    model, processor = load_model(cfg, phase="train")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    data = load_dataset(as_clips(rows), processor, cfg, training=True)
    batch = data.collate([data[index] for index in range(len(data))])
    packed = gradients(model, answer_loss(model(**training_inputs(model, batch)), None))
    plain = gradients(model, model(**plain_rows(as_clips(rows), processor, cfg, data.image_root)).loss)
    assert len(plain) == 3 * 4 * 2 and relative_difference(plain, packed) < 1e-5
    asked = load_dataset(as_clips(rows), processor, cfg, supervised=False)
    for decoding in DECODINGS:
        answers = [answer for batch in answer_questions(model.eval(), asked, cfg, decoding, 3) for _, answer in batch]
        assert {answer.decoding for answer in answers} == {decoding, "free"}


@pytest.mark.parametrize("vision, checkpointing", [("merger", False), ("tower", False), ("tower", True)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_tower_has_the_gradients_of_plain_rows(tmp_path, processor, family, checkpointing, vision, monkeypatch):
    """And runs once an image, for images of several rows and lists of images; Qwen3-VL's features for deeper layers included."""
    cfg, rows = make_experiment(tmp_path, questions=(4, 1, 2, 3))
    model = with_random_lora(random_model(processor, family=family, num_hidden_layers=3), cfg.lora.model_copy(update={"vision": vision}))
    base = base_model(model.train())
    if checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    inner, seen = base.model, []
    tower = inner.get_image_features
    monkeypatch.setattr(inner, "get_image_features", lambda pixels, grid, **kwargs: seen.append(len(grid)) or tower(pixels, grid, **kwargs))
    for of_rows in (rows, as_clips(rows)):
        data = load_dataset(of_rows, processor, cfg, training=True)
        batch = data.collate([data[index] for index in range(len(data))])
        packed = gradients(model, answer_loss(model(**training_inputs(model, batch)), None))
        plain = gradients(model, model(**plain_rows(of_rows, processor, cfg, data.image_root)).loss)
        of_tower = {name: grad for name, grad in plain.items() if ".visual." in name}
        linears = 2 * (3 if family == "qwen3_vl" else 1) + (2 * 2 if vision == "tower" else 0)
        assert len(of_tower) == 2 * linears and all(grad.abs().max() > 0 for grad in plain.values())
        assert relative_difference(plain, packed) < 1e-5 and relative_difference(of_tower, packed) < 1e-5
    assert seen[0] == seen[2] == 4, "images, in one call; the plain rows encode one for each of a question's"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_projector_that_is_trained_alone_leaves_the_tower_without_a_graph(experiment, processor, family):
    """Also under gradient checkpointing, as the Trainer sets it, which lets the patches' embedding require a gradient."""
    model = with_random_lora(random_model(processor, family=family), experiment[0].lora.model_copy(update={"vision": "merger"})).train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    inner, seen = base_model(model).model, []
    for block in inner.visual.blocks:
        block.register_forward_hook(lambda block, args, output: seen.append(output.requires_grad))
    data = load_dataset(experiment[1], processor, experiment[0], training=True)
    features = image_features(inner, data.collate([data[0]]))
    assert seen == [False, False] and all(feature.requires_grad for feature in features.pooler_output)


@pytest.mark.parametrize("was, now", [(None, "merger"), ("merger", "tower"), ("tower", None)])
def test_an_adapter_of_another_part_of_the_tower_is_refused_by_name(experiment, processor, tmp_path, was, now):
    """By a run that starts from it and by one that goes on; prediction and merging take what the adapter has."""
    of = lambda vision: with_changes(experiment[0], [f"vision_frozen={vision is None}", f"lora.vision={vision or 'null'}"])
    trained, folder = with_random_lora(random_model(processor), of(was).lora), tmp_path / "adapter"
    save_adapter(trained, folder, experiment_facts(of(was), {}))
    loaded = dict(load_adapter(random_model(processor), folder).named_parameters())
    assert all(torch.equal(weight, loaded[name]) for name, weight in trained.named_parameters() if weight.requires_grad)
    start = lambda cfg: check_init_adapter(cfg.model_copy(update={"train": cfg.train.model_copy(update={"init_adapter": folder})}))
    told = [json.dumps(vision) for vision in (was, now)]
    start(of(was))
    with pytest.raises(UserError, match=f"was trained with lora.vision={told[0]}, this run has {told[1]}; use the same lora.vision"):
        start(of(now))
    record = {"config": of(was).model_dump(mode="json"), "world_size": 1}
    refuse_other_settings(record, of(was), 1)
    with pytest.raises(UserError, match=f"was started with lora.vision={told[0]}, not {told[1]}; go on with what it was started with"):
        refuse_other_settings(record, of(now), 1)
    with pytest.raises(UserError, match="does not fit the model: .* tensors missing or alien, first "):
        load_adapter(random_model(processor, num_hidden_layers=3), folder)


def with_changes(cfg, overrides):
    return load_config(cfg.config_path, [*cfg.overrides, *overrides])


@pytest.mark.parametrize("family, size", [(family, size) for family in FAMILIES for size in FAMILIES[family]["sizes"]])
def test_every_size_by_its_configuration(family, size):
    """On the meta device: all targets are found in all layers, rows share images, and a step has a cost; parameters as published."""
    config = fits.size_config(family, size)
    model = model_on_meta(config, LoraConfig(r=4, vision="tower"))
    layers, mergers = config.get_text_config().num_hidden_layers, 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
    found = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(found) == 2 * (7 * layers + 2 * config.vision_config.depth + 2 * mergers)
    assert why_rows_stay_plain(config) is None and base_model(model).config.get_text_config()._attn_implementation == "tree"
    shape, batch = model_shape(model), MicroBatch(1, 700, 40, (1024,), (1, 280), (9, 45))
    assert shape.parameters / 1e9 == pytest.approx(PUBLISHED[family, size], abs=0.01)
    flops = step_flops(shape, batch, checkpointing=True)
    parts = model.get_base_model().model.language_model.layers.named_parameters()
    weights = sum(weight.numel() for name, weight in parts if name.endswith("_proj.base_layer.weight"))
    assert flops["language"] == pytest.approx(4 * 700 * weights, rel=0.04), "forward and inputs' gradients; the last MLP reads few tokens"
    by_kind = [step_memory(shape, batch, Precision(nf4=nf4), True)["peak"] / shape.parameters for nf4 in (False, True)]
    assert 2 < by_kind[0] < 3.2 and by_kind[1] < 0.8 * by_kind[0]


def test_another_family_is_refused_with_the_list(tmp_path):
    config = json.loads((TINY_MODEL / "config.json").read_text())
    listed = r"Qwen2-VL \(qwen2_vl\), Qwen2.5-VL \(qwen2_5_vl\), Qwen3-VL \(qwen3_vl\)"
    for family in ("llava", "qwen3_5", None):
        (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": family}))
        with pytest.raises(UserError, match=f"is of the family {family}, supported are {listed}; give a model of one of these") as error:
            load_model_config(load_config(ROOT / "config_demo.yaml", [f"model_name={tmp_path}"]))
        assert "\n" not in str(error.value)


def test_the_later_runs_settings():
    cfg = load_config(ROOT / "configs" / "qwen3vl_8b.yaml")
    assert (cfg.quantization, cfg.lora.r, cfg.lora.alpha, cfg.train.lr, cfg.train.epochs) == ("nf4", 4, 8, 5e-5, 5)
    assert cfg.lora.target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"] and cfg.vision_frozen
    assert cfg.image.max_pixels == 256 * (16 * 2) ** 2, "as many image tokens as 448 x 448 pixels are to Qwen2-VL"
