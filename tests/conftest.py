"""Shared fixtures: a tiny random Qwen2-VL with the shipped processor, and a handful of images with questions."""

import gc
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import quick_python
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
gc.disable()  # till all test files have imported what they do, of which a seventh would be looking for garbage
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a suite in the background ignores Ctrl-C, and so would what it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a missing model is told at once, not after a minute of retries

TINY_MODEL = ROOT / "data" / "demo" / "tiny-qwen2-vl"
ANSWERS = ["yes", "no", "none", "pink; red", "11-20mm", "not relevant", "3", "center; center-left", "paris iia", "biopsy forceps"]


@pytest.fixture(scope="session")
def shared():
    """The folder of real data that may not be committed; tests that need it skip without."""
    folder = os.environ.get("SURGVQA_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data needs SURGVQA_SHARED, the folder that holds real-data/")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """(config, enriched rows): four images of different sizes with 1, 3, 5 and 9 questions."""
    return make_experiment(tmp_path_factory.mktemp("experiment"), questions=(1, 3, 5, 9))


def make_experiment(folder, questions, sizes=((112, 112), (60, 90), (200, 57), (84, 140)), **changes):
    """Write noise images, rows about them and a config into `folder`; return (config, enriched rows)."""
    from config import load_config
    from data.preprocess import ensure_enriched

    rng = np.random.default_rng(0)
    rows = []
    for index, (count, (width, height)) in enumerate(zip(questions, sizes)):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        for number in range(count):
            question = ("Is there text?", "What color is spot {}?", "How many polyps {}?")[number % 3].format(number)
            answer = ("yes", "no")[index % 2] if number % 3 == 0 else ANSWERS[(index + number) % len(ANSWERS)]
            rows.append({"question": question, "answer": answer, "image": f"{index}.png"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model_name": str(TINY_MODEL), "data.train_jsonl": folder / "rows.jsonl", "data.val_jsonl": folder / "rows.jsonl"}
    settings |= {"data.image_root": folder, "output_dir": folder / "outputs", "image.max_pixels": 12544, "train.num_workers": 0}
    settings |= {"lora.dropout": 0.0, "train.gradient_checkpointing": "false", **changes}
    cfg = load_config(ROOT / "config_exp1.yaml", [f"{key}={value}" for key, value in settings.items()])
    return cfg, ensure_enriched(cfg, "train")


CLIPS = (["0.png", "1.png", "2.png"], ["1.png"], ["3.png", "0.png"], ["2.png", "1.png", "1.png", "0.png"])


def as_clips(rows):
    """The rows of `make_experiment` about several images each, some of them in several lists."""
    lists = {f"{index}.png": images for index, images in enumerate(CLIPS)}
    rows = [{**row, "images": lists[row["image"]]} for row in rows]
    return [{**row, "image": row["images"][0], "images": row["images"] if len(row["images"]) > 1 else None} for row in rows]


@pytest.fixture(scope="session")
def processor(experiment):
    from model.load import load_processor

    return load_processor(experiment[0])


@pytest.fixture
def model(processor):
    return random_model(processor)


# Each family's config class and vision settings, all at the shipped processor's patch size of 14.
FAMILIES = {
    "qwen2_vl": ("Qwen2VLConfig", dict(depth=2, embed_dim=32, hidden_size=64, num_heads=2, mlp_ratio=2)),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, fullatt_block_indexes=[1], window_size=56),
    ),
    "qwen3_vl": (
        "Qwen3VLConfig",
        dict(
            depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=14, deepstack_visual_indexes=[0, 1]
        ),
    ),
    "qwen3_5": ("Qwen3_5Config", dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=14)),
}


# What makes a random model one whose rows stay plain: a layer that sees so many tokens before each.
SLIDING = {"family": "qwen2_5_vl", "layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 8}


def random_model(processor, seed=0, family="qwen2_vl", **text_changes):
    """A two-layer model of a Qwen vision-language family with random weights, float32, that speaks the shipped tokenizer."""
    import torch
    import transformers

    from model.forward import use_tree_attention

    tokenizer = processor.tokenizer
    special = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    special |= {f"vision_{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|vision_{name}|>") for name in ("start", "end")}
    torch.manual_seed(seed)
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    text = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    text |= dict(vocab_size=len(tokenizer), rope_parameters=rope, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    if family.startswith("qwen3"):
        text["head_dim"] = 16
    class_name, vision = FAMILIES[family]
    config = getattr(transformers, class_name)(
        text_config={**text, "pad_token_id": tokenizer.pad_token_id, **text_changes},
        vision_config=vision,
        tie_word_embeddings=True,
        **special,
    )
    model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():  # sharper than the default 0.02, so that greedy choices are no ties
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.15)
    return use_tree_attention(model.requires_grad_(False))


def with_random_lora(model, lora_cfg, seed=1):
    """Attach LoRA and draw its B matrices at random: with B = 0, as LoRA starts, half of the gradients are zero."""
    import torch

    from model.adapter import attach_lora

    model = attach_lora(model, lora_cfg)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


# The longest first, so that two workers (pytest -n 2) end together.
LONGEST = ("test_tutorial.py", "test_pipeline.py", "test_trainer.py", "test_families.py", "test_decode.py", "test_cost.py", "test_gpu.py")

# What takes over five seconds before the tests that ask for it begin, and why. A test that takes them by itself says so:
# @pytest.mark.slow(reason).
SLOW_FIXTURES = {
    "followed": "runs every command of docs/your-data.md, three trainings among them",
    "killed": "trains and predicts twice, in scripts that a sweep starts",
    "folded": "trains and predicts twice, in scripts that a sweep starts",
    "repository": "runs the mutation bench over a small repository",
}


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None):  # one server of quick Pythons for all workers, which loads while they do
        os.environ["QUICK_PYTHON"] = quick_python.start()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        for fixture in SLOW_FIXTURES.keys() & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow(SLOW_FIXTURES[fixture]))
        for mark in item.iter_markers("slow"):
            assert mark.args and isinstance(mark.args[0], str), f"{item.nodeid}: say why it is slow"


def pytest_collection_finish():
    gc.freeze()  # what all test files have imported is never garbage: to look through it takes half of a small training's time
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    """Name the tests that took over five seconds and aren't marked: a note, since another machine or a busy one is slower."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports if getattr(report, "when", "") == "call"]
    unmarked = [f"{report.nodeid} {report.duration:.0f} s" for report in reports if report.duration > 5 and "slow" not in report.keywords]
    if unmarked:
        terminalreporter.write_line(f"took over 5 s and are not marked slow: {', '.join(unmarked)}")


class Killed(BaseException):
    """What a test kills the program with: no handler of the program may catch it."""


def left_over(folder):
    """Names of the files that a run hides while it is under way."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture(params=["untuned", "lora"])
def any_model(request, processor, experiment):
    model = random_model(processor)
    return with_random_lora(model, experiment[0].lora).eval() if request.param == "lora" else model


@pytest.fixture
def prompts(experiment, processor):
    """The experiment's rows as prediction reads them."""
    from dataset import load_dataset

    return load_dataset(experiment[1], processor, experiment[0], supervised=False)


@pytest.fixture(scope="session")
def batch(experiment, processor):
    """All four images of the experiment with their questions, as training collates them."""
    from dataset import load_dataset

    data = load_dataset(experiment[1], processor, experiment[0], training=True)
    return data.collate([data[index] for index in range(4)])


def plain_base(folder=TINY_MODEL):
    """The shipped model, or that of a folder, as plain transformers loads it."""
    import torch
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="session")
def trained_adapter(tmp_path_factory):
    """(config, rows, adapter folder) with an adapter as train_exp1.py saves it, of random weights on the shipped model.

    The model bears the kind of generation settings that Qwen2-VL comes with.
    """
    from data.preprocess import answer_rules, training_space
    from files import json_text
    from model.adapter import experiment_facts, save_adapter

    folder = tmp_path_factory.mktemp("merge")
    shutil.copytree(TINY_MODEL, folder / "base")
    settings = {"do_sample": True, "temperature": 5.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 3.0}
    (folder / "base" / "generation_config.json").write_text(json.dumps(settings))
    cfg, rows = make_experiment(folder, questions=(2, 3), model_name=folder / "base")
    space = training_space(cfg, say=lambda line: None)
    adapter = cfg.output_dir / "adapter"
    save_adapter(
        with_random_lora(plain_base(cfg.model_name), cfg.lora),
        adapter,
        experiment_facts(cfg, answer_rules(space)),
        {"answer_space.json": json_text(space)},
    )
    return cfg, rows, adapter


@pytest.fixture(scope="session")
def merged_model(trained_adapter):
    """The folder of that adapter merged in float32."""
    from model.merge import merge

    cfg, _, adapter = trained_adapter
    out = cfg.output_dir / "merged"
    merge(cfg, adapter, out, "float32")
    return out


def token_counts(cfg, rows, processor):
    """[(tokens of the image, of the text before the questions, of the question and its answer)] of rows, by the processor alone."""
    from data.images import load_image
    from dataset import prompt_fields
    from templates import prompt_parts

    length = lambda text: len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    counts = []
    for row in rows:
        before, question = prompt_parts(*prompt_fields(row, cfg.data.max_listed))
        picture = load_image(cfg.data.image_root / row["image"], cfg.image)
        patches = int(processor.image_processor(images=[picture], return_tensors="pt")["image_grid_thw"].prod())
        counts.append((patches // 4, length(before) - 1, length(question) + length(row["answer"]) + 1))
    return counts


# What eval_exp1.py evaluates; evaluating.py has the rows, and is imported late because it imports this file.


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration, training rows and an output folder with predictions."""
    from evaluating import PREDICTIONS, TRAIN

    from files import write_jsonl

    (tmp_path / "config.yaml").write_text("output_dir: out\ndata:\n  train_jsonl: train.jsonl\n")
    write_jsonl(tmp_path / "train.jsonl", TRAIN)
    write_jsonl(tmp_path / "out" / "predictions.jsonl", PREDICTIONS)
    return tmp_path


@pytest.fixture
def evaluate(folder, monkeypatch, capsys):
    """Run eval_exp1.py in this process; return (exit code, stdout, stderr), as a shell would see them."""
    from evaluating import REPORT_NONE, stripped

    import eval_exp1
    from files import run_script

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["eval_exp1.py", "--config", str(folder / "config.yaml"), *REPORT_NONE, *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_script(eval_exp1.main)
        code, printed = stopped.value.code, capsys.readouterr()
        if isinstance(code, str):
            return 1, stripped(printed.out), printed.err + code
        return code or 0, stripped(printed.out), printed.err

    return run
