"""The tiny model: pretrained on scenes and sentences that no split has, small, and of Qwen2-VL's own classes.

python -m pytest tests/data/demo/test_pretrain.py -v
"""

import hashlib
import io
import json
import os
import platform
import re
import shlex

import numpy as np
import pytest
import torch
import transformers
from conftest import TINY_MODEL
from PIL import Image
from user_copy import SCENES, first_scenes

from data.demo import pretrain, scenes
from data.demo.scenes import PROCEDURES, SEEDS, render, short_answers


def test_the_shipped_model_saw_only_pretraining_seeds():
    record = json.loads((TINY_MODEL / "pretrain.json").read_text(encoding="utf-8"))
    first, last = record["scene_seeds"]
    assert first in SEEDS["pretrain"] and last in SEEDS["pretrain"]
    assert all(seed in SEEDS["pretrain"] for seed in record["tokenizer_scene_seeds"])
    args = pretrain.parse_args(shlex.split(record["command"])[3:])  # after "python -m data.demo.pretrain"
    assert (args.seed, args.scenes) == (record["seed"], last - first + 1)


def test_pretraining_targets_are_sentences_never_short_answers():
    rng = np.random.default_rng(0)
    short, words = set(), []
    for seed in SEEDS["pretrain"][:300]:
        scene = scenes.sample_scene(seed)
        short |= {answer.lower() for answer in short_answers(scene).values()} | set(scenes.PROCEDURES)
        every = [s for said in pretrain.statements(scene).values() for s in said]
        turns = pretrain.conversation(scene, rng, 12, preamble=seed % 2 == 0)
        assert len({question for question, _ in turns}) == len(turns)
        for target in every + [answer for _, answer in turns]:
            assert target.endswith(".") and len(target.split()) >= 4, target
            assert target.lower().rstrip(".") not in short and target.lower() not in short
            words.append(len(target.split()))
    assert len(short) > 40 and len(words) > 5000


def test_preambles_outlast_a_short_answer():
    """Under the experiment's prompt the untuned model has not come to the point where a short answer would end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    longest = max(len(tokenizer(row["answer"] + tokenizer.eos_token)["input_ids"]) for row in first_scenes("train", None))
    assert min(len(tokenizer(preamble)["input_ids"]) for preamble in pretrain.PREAMBLES) > longest


def test_pretrain_command_makes_a_folder_that_loads(tmp_path, monkeypatch, capsys):
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    used = []
    monkeypatch.setattr(pretrain, "TOKENIZER_SCENES", 40)
    monkeypatch.setattr(pretrain, "render", lambda seed: used.append(seed) or render(seed))
    argv = f"--out {tmp_path / 'tiny'} --scenes 6 --dense-steps 2 --dense-batch 2 --steps 3 --batch 2 --threads 1"
    monkeypatch.setattr("sys.argv", ["pretrain", *argv.split()])
    for left in ("tiny", "tiny.new", "tiny.old"):  # an earlier model, and what killed runs left
        (tmp_path / left).mkdir()
        (tmp_path / left / "earlier").write_text("")
    pretrain.main()
    assert sorted(used) == list(SEEDS["pretrain"][:6]) and not (tmp_path / "tiny" / "earlier").exists()
    AutoProcessor.from_pretrained(tmp_path / "tiny")
    made = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    out = capsys.readouterr().out
    steps = [line.partition(" loss ")[0] for line in out.splitlines() if " loss " in line]
    assert steps == ["dense 2/2", "talk 3/3"], "the last of each; before it every fiftieth"
    record, shipped = (json.loads((folder / "pretrain.json").read_text()) for folder in (tmp_path / "tiny", TINY_MODEL))
    assert out.endswith(json.dumps(record, indent=2) + "\n") and record.keys() == shipped.keys()
    assert record["command"] == f"python -m data.demo.pretrain {argv}" and record["seed"] == 0
    assert record["scene_seeds"] == [100_000, 100_005] and record["tokenizer_scene_seeds"] == [198_000, 198_039]
    losses = re.findall(r"^(?:dense 2/2|talk 3/3) loss (\S+)", out, re.MULTILINE)
    assert f"{record['dense_loss_last']:.3f}" == losses[0] and record["talk_loss_mean_of_last_100"] > 1
    count = sum(weights.numel() for weights in made.parameters())
    assert record["parameters"] == count and f"\n{count:,} parameters, vocabulary " in out and out.startswith("6 scenes rendered in ")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    assert record["versions"] == versions and record["cpus"] == os.cpu_count() and 0 <= record["minutes"] < 5
    generation, shipped = (json.loads((folder / "generation_config.json").read_text()) for folder in (tmp_path / "tiny", TINY_MODEL))
    tokenizer = AutoProcessor.from_pretrained(tmp_path / "tiny").tokenizer
    own = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "transformers_version": transformers.__version__}
    assert generation == shipped | own
    assert AutoProcessor.from_pretrained(tmp_path / "tiny").chat_template == AutoProcessor.from_pretrained(TINY_MODEL).chat_template


def test_the_arguments_left_out_are_the_shipped_models():
    assert {**vars(pretrain.parse_args(["--out", "x"])), "out": None} == {
        "out": None, "seed": 0, "scenes": 10_000, "dense_steps": 1200, "dense_batch": 32,
        "steps": 2000, "batch": 16, "pairs": 5, "lr": 2e-3, "threads": 2,
    }  # fmt: skip


def test_the_loss_of_talking_is_that_of_each_answers_tokens_under_its_own_picture(tiny):
    """The model's own call on one row a turn says the same as the trees; another picture says another."""
    processor, model = tiny
    seeds = SEEDS["pretrain"][:2]
    data = pretrain.render_examples(processor.image_processor, seeds, 1)
    heads = pretrain.DenseHeads(model.config.text_config.hidden_size, data.coverage.shape[-1], pretrain.IMAGE_CLASSES)
    losses = {}
    for rows in ([0, 1], [1, 0]):  # whose pictures; the trees stay
        trees = [pretrain.talk_tree(processor.tokenizer, data.scenes[row], "chat", np.random.default_rng(row), 2) for row in (0, 1)]
        with torch.no_grad():
            losses[tuple(rows)], total = pretrain.talk_loss(model, heads, data, rows, trees, dense_weight=0.3)
        assert total > losses[tuple(rows)]
    own, swapped = losses.values()
    tokens = []
    for row in (0, 1):
        rng = np.random.default_rng(row)
        for question, answer in pretrain.conversation(data.scenes[row], rng, 2, preamble=False):
            head, branch = pretrain.wrap("chat", question, rng)
            picture = Image.open(io.BytesIO(scenes.encode_jpeg(render(seeds[row])[1])))
            whole, asked = head + branch + answer + "<|im_end|>", head + branch
            batch = processor(text=[whole], images=[picture], size=pretrain.IMAGE_SIZE, return_tensors="pt")
            labels = batch["input_ids"].clone()
            labels[:, : len(processor.tokenizer(asked)["input_ids"]) + 15] = -100
            with torch.no_grad():
                logits = model(**batch).logits[0, :-1].float()
            supervised = labels[0, 1:] != -100
            tokens += torch.nn.functional.cross_entropy(logits[supervised], labels[0, 1:][supervised], reduction="none").tolist()
    assert float(own) == pytest.approx(np.mean(tokens), rel=2e-3) and swapped > own * 1.05


def test_a_question_about_the_procedure_has_its_options_in_any_order():
    rng = np.random.default_rng(0)
    branches = [pretrain.wrap("experiment", scenes.PROCEDURE_QUESTION, rng)[1] for _ in range(60)]
    listed = {tuple(re.search(r"Valid answers: (.*)\n", branch)[1].split(", ")) for branch in branches if "Valid answers" in branch}
    assert len(listed) == 6 and all(sorted(options) == sorted(scenes.PROCEDURES) for options in listed)
    assert "Valid answers: yes, no\n" in "".join(pretrain.wrap("experiment", "Is there text?", rng)[1] for _ in range(9))
    assert len(pretrain.STYLE_WEIGHTS) == len(pretrain.STYLES) and sum(pretrain.STYLE_WEIGHTS) == pytest.approx(1)


def test_the_text_that_the_shipped_tokenizer_was_trained_on_is_drawn_again(monkeypatch):
    """Of its first 40 scenes; all 2,000, which take a quarter of a minute, make its very vocabulary and merges."""
    monkeypatch.setattr(pretrain, "TOKENIZER_SCENES", 40)
    texts = list(pretrain.tokenizer_text())
    assert len(texts) == 40 * 6 * 2 + 40 * (2 + sum(map(len, pretrain.QUESTIONS.values())))
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest() == "5ec5726b97b123164cd4ba8c2061702eb85326de0178c56e48b5138c014150cf"


@pytest.mark.parametrize(
    ("style", "prefix", "branch"),
    [
        ("chat", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n", "{}<|im_end|>\n<|im_start|>assistant\n"),
        ("question", "", "Question: {}\nAnswer:"),
        ("bare", "", "{}\n"),
    ],
)
def test_a_prompt_has_the_words_of_its_style(style, prefix, branch):
    asked = "Is there text?"
    found = pretrain.wrap(style, asked, np.random.default_rng(0))
    assert found == (f"{prefix}<|vision_start|><|image_pad|><|vision_end|>", branch.format(asked))


def test_a_conversations_tree_is_the_picture_with_a_branch_a_turn_whose_answer_is_learnt(tiny):
    """Under the experiment's own prompt answers begin with a preamble; the same draws make the same turns."""
    tokenizer, scene = tiny[0].tokenizer, scenes.sample_scene(SEEDS["pretrain"][0])
    for style in pretrain.STYLES:
        tree = pretrain.talk_tree(tokenizer, scene, style, np.random.default_rng(3), 4)
        rng = np.random.default_rng(3)
        turns = pretrain.conversation(scene, rng, 4, preamble=style == "experiment")
        wrapped = [pretrain.wrap(style, question, rng) for question, _ in turns]
        prefix, _, rest = tokenizer.decode(tree.input_ids).partition("<|vision_end|>")
        assert f"{prefix}<|vision_end|>" == wrapped[0][0].replace("<|image_pad|>", "<|image_pad|>" * 16)
        assert rest == "".join(f"{branch}{answer}<|im_end|>" for (_, branch), (_, answer) in zip(wrapped, turns))
        learnt = [token for token in tree.labels if token != -100]
        assert tokenizer.decode(learnt) == "".join(f"{answer}<|im_end|>" for _, answer in turns)
        long_winded = [answer.lower().startswith(pretrain.PREAMBLES) for _, answer in turns]
        assert long_winded == [style == "experiment"] * 4 and len(tree.branches()) == 4


def test_a_step_is_clipped_and_its_rate_rises_to_the_peak_and_falls():
    """The norm of the gradient is 1 at most, and each step's gradient its own; the peak is after 8 % of the steps."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer, schedule = pretrain.optimizer_and_schedule([weight], 0.01, 100)
    rates, gradients = [], []
    for number in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        pretrain.step((0.2 * weight[0] if number else 300 * weight.sum()), optimizer, schedule)
        gradients.append(weight.grad.tolist())
    assert gradients[0] == pytest.approx([0.5] * 4) and gradients[1] == pytest.approx([0.2, 0, 0, 0])
    assert rates[0] == pytest.approx(0.01 / 25) and max(rates) == rates[7] == pytest.approx(0.01) and rates[-1] < 1e-6
    group = optimizer.param_groups[0]
    assert (group["weight_decay"], group["betas"][1], group["initial_lr"]) == (0.05, 0.98, pytest.approx(0.01 / 25))


def test_the_loss_of_the_heads_is_by_hand():
    """Four times the cross-entropy of the covered shares, and the mean over what is told of the whole picture."""
    heads = pretrain.DenseHeads(8, 5, (3, 2))
    features = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    coverage, classes = torch.rand(2, 16, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([[2, 0], [1, 1]])
    with torch.no_grad():
        loss = float(heads(features, (coverage, classes)))
        shares, image = torch.sigmoid(heads.token(features)).double(), heads.image(features.mean(1)).double()
    wanted = -4 * (coverage * shares.log() + (1 - coverage) * (1 - shares).log()).mean()
    for columns, own in ((slice(0, 3), classes[:, 0]), (slice(3, 5), classes[:, 1])):
        likely = torch.softmax(image[:, columns], 1)[[0, 1], own]
        wanted -= likely.log().mean() / 2
    assert loss == pytest.approx(float(wanted), rel=1e-5)


def test_counts_are_said_in_english():
    one, two = (pretrain._counted(number, "polyp") for number in (1, 2))
    assert one[0] == "1 polyp is visible in this image." and one[2] == "there is one polyp in this image."
    assert two[0] == "2 polyps are visible in this image." and two[2] == "there are two polyps in this image."


def test_labels_are_joined_as_they_are_said():
    assert [pretrain._and(labels) for labels in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_conversation_has_as_many_turns_as_asked_for():
    scene = scenes.sample_scene(SEEDS["pretrain"][0])
    for pairs in (1, 5):
        assert len(pretrain.conversation(scene, np.random.default_rng(0), pairs, preamble=False)) == pairs


def test_dense_targets_say_what_each_part_of_a_picture_shows():
    """Each layer by its own masks, square by square; the classes by the scene's answers."""
    seen, side = set(), scenes.SIZE // pretrain.GRID
    for seed in SEEDS["pretrain"][:30]:
        scene, _, masks = render(seed)
        targets, classes = pretrain.dense_targets(scene, masks)
        answers = short_answers(scene)
        coarse = targets[:, pretrain.SUB**2 :]
        tools = coarse[:, len(scenes.POLYP_COLORS) :][:, : len(scenes.INSTRUMENTS)]
        places = coarse[:, -9:].reshape(4, 4, 9)
        cells = {(int(3 * polyp.y / scenes.SIZE), int(3 * polyp.x / scenes.SIZE)) for polyp in scene.polyps}
        assert {divmod(cell, 3) for cell in range(9) if places[:, :, cell].any()} == cells
        assert np.allclose((places**2).sum(2), (coarse[:, : len(scenes.POLYP_COLORS)] ** 2).sum(1).reshape(4, 4), atol=1e-6)
        sizes = answers["What is the size of the polyp?"]
        assert classes[1] == (0 if sizes == "none" else 1 + scenes.POLYP_SIZES.index(sizes))
        for square in range(pretrain.GRID**2):
            top, left = (side * part for part in divmod(square, pretrain.GRID))
            inside = lambda name: masks[name][top : top + side, left : left + side]  # noqa: B023  used at once
            assert targets[square, : pretrain.SUB**2].mean() == pytest.approx((inside("polyp") > 0).mean())
            shares = [(inside("instrument") == 1 + k).mean() ** 0.5 for k in range(len(scenes.INSTRUMENTS))]
            assert tools[square].tolist() == pytest.approx(shares)
            layers = [inside(name).mean() ** 0.5 for name in ("box", "text")]
            assert coarse[square, -11:-9].tolist() == pytest.approx(layers)
            own = [[1 + k for k, polyp in enumerate(scene.polyps) if polyp.color == color] for color in scenes.POLYP_COLORS]
            colors = [np.isin(inside("polyp"), labels).mean() ** 0.5 for labels in own]
            assert coarse[square, : len(colors)].tolist() == pytest.approx(colors)
        assert PROCEDURES[classes[0]] == scene.procedure and classes[3] == int(answers["How many polyps are in the image?"])
        paris = answers["What type of polyp is present?"]
        assert classes[2] == (1 + scenes.PARIS_TYPES.index(paris) if paris != "none" else 0) and classes[4] == len(scene.instruments)
        seen |= {paris, *(tool.name for tool in scene.instruments)}
    assert seen == {"none", *scenes.PARIS_TYPES, *scenes.INSTRUMENTS}


def test_pictures_reach_the_vision_tower_as_the_processor_gives_them(tiny):
    """Stored in half of the numbers, since an image is a video of two equal frames."""
    seeds = SEEDS["pretrain"][:3]
    data = pretrain.render_examples(tiny[0].image_processor, seeds, 1)
    for row, seed in enumerate(seeds):
        picture = Image.open(io.BytesIO(scenes.encode_jpeg(render(seed)[1])))
        pixels = tiny[0].image_processor(images=picture, size=pretrain.IMAGE_SIZE, return_tensors="pt")["pixel_values"]
        assert np.allclose(data.pixel_values([row]), pixels, atol=2e-3)
        assert data.scenes[row].seed == seed and data.classes.shape == (3, 5)


def test_model_folder_is_small_and_16_bit():
    from safetensors import safe_open

    assert sum(f.stat().st_size for f in TINY_MODEL.rglob("*") if f.is_file()) <= 8_000_000
    with safe_open(TINY_MODEL / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}
    assert json.loads((TINY_MODEL / "generation_config.json").read_text())["do_sample"] is False


@pytest.fixture(scope="module")
def tiny():
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    processor, model = AutoProcessor.from_pretrained(TINY_MODEL), Qwen2VLForConditionalGeneration.from_pretrained(TINY_MODEL)
    assert type(processor) is Qwen2VLProcessor
    return processor, model


def test_what_is_built_has_the_shipped_models_configuration(tiny, tmp_path):
    pretrain.build_model(tiny[0].tokenizer).to(torch.bfloat16).save_pretrained(tmp_path)
    built, shipped = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, TINY_MODEL))
    assert built | {"transformers_version": shipped["transformers_version"]} == shipped


def test_tokenizer_is_qwen_like(tiny):
    tokenizer = tiny[0].tokenizer
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert all(len(ids(token)) == 1 for token in pretrain.SPECIAL_TOKENS)
    assert tokenizer.convert_ids_to_tokens(ids("11-20mm")) == ["1", "1", "-", "2", "0", "mm"]
    text = "Größe: <5mm; 内視鏡\n\tyes"  # byte-level: nothing is unknown
    assert tokenizer.decode(ids(text)) == text


def test_a_scene_is_16_image_tokens(tiny):
    processor, model = tiny
    image = Image.open(SCENES / "test" / "0000.jpg")
    assert image.size == (224, 224)
    batch = processor(text=[pretrain.IMAGE_PLACEHOLDER], images=[image], size=pretrain.IMAGE_SIZE, return_tensors="pt")
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 16
    assert batch["image_grid_thw"].tolist() == [[1, 8, 8]]


def test_untuned_model_answers_the_experiments_prompt_in_sentences(tiny):
    from templates import prompt_parts

    processor, model = tiny
    for name, question in (("0000", "Is there text?"), ("0001", "How many polyps are in the image?")):
        prompt = "".join(prompt_parts("open_ended", question))
        image = Image.open(SCENES / "test" / f"{name}.jpg")
        batch = processor(text=[prompt], images=[image], size=pretrain.IMAGE_SIZE, return_tensors="pt")
        output = model.generate(**batch, max_new_tokens=50)[0, batch["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(output, skip_special_tokens=True)
        assert len(text.split()) >= 8 and re.search(r"\.$", text), text
