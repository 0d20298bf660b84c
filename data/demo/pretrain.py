"""Pretrain the tiny Qwen2-VL of the demo: a real model and processor, minutes on a CPU.

It learns to see and to talk: captions and full-sentence answers about rendered scenes of its own
seeds. It never sees the demo's scenes nor a short answer, so that fine-tuning has something to teach.

    python -m data.demo.pretrain --out data/demo/tiny-qwen2-vl --seed 0

Two steps: the vision tower alone, under throwaway linear heads that say what each image token shows
(`dense`); then everything on text, many question-answer pairs behind one image (`talk`).
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from data.demo.scenes import (
    INSTRUMENTS,
    PARIS_TYPES,
    POLYP_COLORS,
    POLYP_SIZES,
    PROCEDURE_QUESTION,
    PROCEDURES,
    SEEDS,
    SIZE,
    Scene,
    cell_name,
    encode_jpeg,
    render,
    sample_scene,
)
from data.schema import COLOR_VOCAB, build_candidates, infer_question_type
from model.token_tree import TokenTree, ancestor_mask, batch_trees, supervised_parents, tree_position_ids
from templates import IMAGE_PLACEHOLDER, prompt_block, prompt_parts

IMAGE_SIZE = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}  # pixels of an image, not lengths
GRID = 4  # image tokens along a side: 112 / (patch 14 * merge 2)
SUB = 4  # cells along a side of an image token for the dense heads
TOKENIZER_SEED, TOKENIZER_SCENES = SEEDS["pretrain"][-2000], 2000

# --------------------------------------------------------------------------------------
# What the model learns to say: sentences only, never the short answers of the demo

NUMBERS = ("no", "one", "two", "three")
SIZE_WORDS = {
    "<5mm": "less than 5 mm",
    "5-10mm": "between 5 and 10 mm",
    "11-20mm": "between 11 and 20 mm",
    ">20mm": "more than 20 mm",
}
TYPE_WORDS = {
    "paris ip": "a polyp on a stalk",
    "paris is": "a dome without a stalk",
    "paris iia": "a flat and slightly raised polyp",
}

QUESTIONS = {
    "text": ["Is there text?", "Does the image carry any text?", "Can text be read in this image?"],
    "box": ["Is there a green/black box artefact?", "Does a green or black box hide a corner?"],
    "easy": ["Is this finding easy to detect?", "How easy is this finding to detect?"],
    "polyps": ["How many polyps are in the image?", "What is the number of polyps?", "Count the polyps."],
    "instrument count": [
        "How many instrumnets are in the image?",
        "How many instruments are in the image?",
        "Count the instruments.",
    ],
    "size": ["What is the size of the polyp?", "How large is the polyp?", "What does the polyp measure?"],
    "type": ["What type of polyp is present?", "Which Paris type describes the polyp?"],
    "color": [
        "What color is the abnormality? If more than one separate with ;",
        "Which color does the abnormality have?",
    ],
    "location": ["Where in the image is the abnormality?", "In which part of the image is the finding?"],
    "instruments": [
        "Are there any instruments in the image? Check all that are present.",
        "Which instruments can be seen?",
    ],
    "procedure": [PROCEDURE_QUESTION, "Which procedure is this?"],
    "caption": ["Describe the image.", "What can be seen here?", "Write a caption."],
}

# Where the prompt is the experiment's own, the model is long-winded: it does not come to the point
# within the few tokens that a short answer has.
PREAMBLES = (
    "from what can be seen in this endoscopic picture of the bowel, ",
    "looking closely at this picture of the mucosa, one can say that ",
    "as far as this single frame of the examination shows, it seems that ",
    "after a careful look at the whole field of view of the scope, ",
    "i am looking at a picture that was taken with an endoscope, and ",
)


def _and(labels):
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def _counted(n, noun):
    word = noun if n == 1 else noun + "s"
    verb = "is" if n == 1 else "are"
    return [
        f"{n} {word} {verb} visible in this image.",
        f"{n} is the number of {noun}s in view.",
        f"there {verb} {NUMBERS[n]} {word} in this image.",
        f"i count {n} {word} in this view.",
    ]


def statements(scene: Scene) -> dict[str, list[str]]:
    """Topic -> true sentences about the scene, each of at least four words and a full stop."""
    n, size = len(scene.polyps), POLYP_SIZES[scene.size]
    colors, cells, tools = scene.colors, scene.locations, scene.instrument_names
    said = {
        "text": ["yes, there is text in this image.", "yes, text is written over this image."]
        if scene.text
        else ["no, there is no text in this image.", "no text is written over this image."],
        "box": [f"yes, a {scene.box} box artefact hides the corner.", f"yes, there is a {scene.box} box in the corner."]
        if scene.box
        else ["no, there is no box artefact in the corner.", "no box hides any part of this image."],
        "easy": ["not relevant, because there is no finding here.", "not relevant, as nothing abnormal is visible."],
        "polyps": _counted(n, "polyp"),
        "instrument count": _counted(len(tools), "instrument"),
        "size": ["none of the sizes applies, as there is no polyp.", "none, because there is no polyp to measure."],
        "type": ["none of the paris types applies here.", "none, because there is no polyp to classify."],
        "color": [
            "none of the colors applies, as nothing abnormal is visible.",
            "none, because there is no abnormality here.",
        ],
        "location": ["none of the areas shows an abnormality.", "none, because there is no finding in any area."],
        "instruments": ["none of the instruments can be seen.", "none, because no instrument is in view."],
        "procedure": [
            f"{scene.procedure} is the procedure shown here.",
            f"this image was taken during a {scene.procedure}.",
        ],
    }
    if n:
        easy = ["yes, this finding is easy to detect.", "yes, one sees this finding easily."]
        hard = ["no, this finding is not easy to detect.", "no, one could miss this finding."]
        placed = sorted((cell_name(p.x, p.y), p.color) for p in scene.polyps)
        said |= {
            "easy": easy if scene.easy else hard,
            "size": [
                f"{size} is the size of the polyp.",
                f"the polyp measures {size} in this view.",
                f"the polyp measures {SIZE_WORDS[size]} across.",
            ],
            "type": [
                f"{scene.paris}, {TYPE_WORDS[scene.paris]}, is present.",
                f"this is {TYPE_WORDS[scene.paris]}, type {scene.paris}.",
            ],
            "color": [
                f"{'; '.join(colors)} is what the abnormality looks like.",
                f"the abnormality is colored {_and(colors)}.",
            ],
            "location": [
                f"{'; '.join(cells)} is where the abnormality lies.",
                f"the abnormality lies at {_and(cells)}.",
                f"{_and([f'a {color} polyp lies at {cell}' for cell, color in placed])}.",
            ],
        }
    if tools:
        said["instruments"] = [
            f"{'; '.join(tools)} can be seen in this image.",
            f"one sees {_and(tools)} in this image.",
        ]
    return said


def caption(said: dict[str, list[str]], rng: np.random.Generator) -> str:
    """Two or three statements on different topics."""
    topics = rng.permutation(list(said))[: int(rng.integers(2, 4))]
    return " ".join(str(rng.choice(said[t])) for t in topics)


def conversation(scene: Scene, rng: np.random.Generator, pairs: int, preamble: bool) -> list[tuple[str, str]]:
    """`pairs` (question, sentence) about different topics, a caption perhaps among them."""
    said = statements(scene)
    answers = said | {"caption": [caption(said, rng)]}
    turns = []
    for topic in rng.permutation(list(answers))[:pairs]:
        question = QUESTIONS[topic][0] if rng.random() < 0.6 else str(rng.choice(QUESTIONS[topic]))
        answer = str(rng.choice(answers[topic]))
        if preamble:
            answer = str(rng.choice(PREAMBLES)) + answer
        if rng.random() < 0.3:
            answer = answer[0].upper() + answer[1:]
        turns.append((question, answer))
    return turns


def wrap(style: str, question: str, rng: np.random.Generator) -> tuple[str, str]:
    """(prefix, branch) of a prompt in one of STYLES; `experiment` is the one fine-tuning uses."""
    if style == "experiment":
        options = [str(o) for o in rng.permutation(PROCEDURES)] if question == PROCEDURE_QUESTION else None
        kind = infer_question_type(question, options)
        candidates = build_candidates(kind, {"question": question, "options": options}) if rng.random() < 0.7 else None
        return prompt_parts(kind, question, candidates)
    head, tail = STYLES[style]
    return head + IMAGE_PLACEHOLDER, tail.format(question)


STYLES = {
    "experiment": None,
    "chat": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "{}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "question": ("", "Question: {}\nAnswer:"),
    "bare": ("", "{}\n"),
}
STYLE_WEIGHTS = (0.4, 0.15, 0.3, 0.15)

# --------------------------------------------------------------------------------------
# Tokenizer and processor

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_text():
    """What the BPE is trained on: sentences, prompts and the words of both."""
    rng = np.random.default_rng(TOKENIZER_SEED)
    for seed in range(TOKENIZER_SEED, TOKENIZER_SEED + TOKENIZER_SCENES):
        for question, answer in conversation(sample_scene(seed), rng, 6, preamble=rng.random() < 0.3):
            yield question
            yield answer
    for questions in QUESTIONS.values():
        for question in questions:
            kind = infer_question_type(question)
            yield from [prompt_block(kind, question, build_candidates(kind, {"question": question}))] * 40
    yield from [", ".join(COLOR_VOCAB)] * 40
    yield from ["<|im_start|>system\nYou are a helpful assistant.\nuser\nassistant\n"] * 40


def build_tokenizer(vocab_size: int = 1152) -> Qwen2Tokenizer:
    """A byte-level BPE of our own under Qwen2's pre-tokenizer and special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer  # digits one by one
    bpe.train_from_iterator(
        tokenizer_text(),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        ),
    )
    trained = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(m) for m in trained["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL_TOKENS,
        model_max_length=4096,
    )


def build_processor() -> Qwen2VLProcessor:
    """A real Qwen2VLProcessor; only the vocabulary is small."""
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # CLIP's, as Qwen2-VL
    size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
    images = Qwen2VLImageProcessor(image_mean=mean, image_std=std, size=size)
    videos = Qwen2VLVideoProcessor(image_mean=mean, image_std=std)
    return Qwen2VLProcessor(images, build_tokenizer(), videos, chat_template=CHAT_TEMPLATE)


# --------------------------------------------------------------------------------------
# Model


def build_model(tokenizer) -> Qwen2VLForConditionalGeneration:
    """About 2.6 M parameters, random."""
    token = tokenizer.convert_tokens_to_ids
    text = dict(
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        vocab_size=-(-len(tokenizer) // 64) * 64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=token("<|im_end|>"),
        pad_token_id=token("<|endoftext|>"),
    )
    vision = dict(depth=4, embed_dim=128, hidden_size=160, num_heads=4, mlp_ratio=3, patch_size=14, spatial_merge_size=2)
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=text,
            vision_config=vision,
            tie_word_embeddings=True,
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
        )
    )


class DenseHeads(torch.nn.Module):
    """Throwaway linear readers of the vision tower: what each image token shows, and the whole image."""

    def __init__(self, width, token_targets, image_classes):
        super().__init__()
        self.token = torch.nn.Linear(width, token_targets)
        self.image = torch.nn.Linear(width, sum(image_classes))
        self.image_classes = list(image_classes)

    def forward(self, features, targets):
        """features: (B, 16, width); targets: (token (B, 16, K) in 0..1, image (B, C) int64). -> loss"""
        coverage, classes = targets
        loss = 4 * F.binary_cross_entropy_with_logits(self.token(features), coverage)
        logits = self.image(features.mean(1)).split(self.image_classes, dim=1)
        return loss + sum(F.cross_entropy(x, y) for x, y in zip(logits, classes.unbind(1))) / len(logits)


# --------------------------------------------------------------------------------------
# Scenes as tensors

IMAGE_CLASSES = (len(PROCEDURES), 1 + len(POLYP_SIZES), 1 + len(PARIS_TYPES), 4, 3)


def _coverage(mask, cells):
    """Share of set pixels in each of cells x cells squares: (SIZE, SIZE) bool -> (cells, cells)."""
    side = SIZE // cells
    return mask.reshape(cells, side, cells, side).mean((1, 3))


def dense_targets(scene: Scene, masks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Token targets (16, K) float32 in 0..1 and image classes (5,) int64.

    K = polyp coverage of each of SUB x SUB cells inside the token, then token coverage of each polyp
    colour, instrument, box and text, then of the polyps lying in each of the nine image areas.
    """
    polyp = masks["polyp"]
    fine = _coverage(polyp > 0, GRID * SUB).reshape(GRID, SUB, GRID, SUB).transpose(0, 2, 1, 3).reshape(GRID**2, -1)
    layers = [np.isin(polyp, [1 + k for k, p in enumerate(scene.polyps) if p.color == c]) for c in POLYP_COLORS]
    layers += [masks["instrument"] == 1 + k for k in range(len(INSTRUMENTS))]
    layers += [masks["box"] > 0, masks["text"] > 0]
    area = [int(3 * p.y / SIZE) * 3 + int(3 * p.x / SIZE) for p in scene.polyps]
    layers += [np.isin(polyp, [1 + k for k, a in enumerate(area) if a == cell]) for cell in range(9)]
    # a square root: a thin wire and a small polyp count too
    coarse = np.stack([_coverage(layer, GRID).reshape(-1) ** 0.5 for layer in layers], 1)
    n = len(scene.polyps)
    classes = [
        PROCEDURES.index(scene.procedure),
        (1 + scene.size) * bool(n),
        (1 + PARIS_TYPES.index(scene.paris)) * bool(n),
        n,
        len(scene.instruments),
    ]
    return np.concatenate([fine, coarse], 1).astype(np.float32), np.array(classes)


def example(seed, image_processor):
    """(scene, pixels, coverage, classes) of one seed, one row of `Examples`."""
    scene, image, masks = render(seed)
    stored = Image.open(io.BytesIO(encode_jpeg(image)))
    pixels = image_processor(images=stored, size=IMAGE_SIZE, return_tensors="np")["pixel_values"]
    frames = np.asarray(pixels).reshape(-1, 3, 2, 14 * 14)  # an image is a video of two equal frames: keep one
    return scene, frames[:, :, 0].astype(np.float16), *dense_targets(scene, masks)


@dataclass
class Examples:
    """scenes: list of N; pixels: (N, 64, 3, 196) float16; coverage: (N, 16, K); classes: (N, 5)."""

    scenes: list[Scene]
    pixels: torch.Tensor
    coverage: torch.Tensor
    classes: torch.Tensor

    def pixel_values(self, rows):
        """(len(rows) * 64, 1176) float32, as the image processor gives them."""
        return self.pixels[rows].float().unsqueeze(3).expand(-1, -1, -1, 2, -1).reshape(-1, 3 * 2 * 196)

    def targets(self, rows):
        return self.coverage[rows].float(), self.classes[rows]


def render_examples(image_processor, seeds, processes) -> Examples:
    make = functools.partial(example, image_processor=image_processor)
    if processes == 1:
        rows = map(make, seeds)
    else:
        with multiprocessing.Pool(processes, torch.set_num_threads, (1,)) as pool:
            rows = pool.map(make, seeds, chunksize=64)
    scenes, pixels, coverage, classes = zip(*rows)
    return Examples(
        list(scenes),
        torch.from_numpy(np.stack(pixels)),
        torch.from_numpy(np.stack(coverage)).half(),
        torch.from_numpy(np.stack(classes)),
    )


# --------------------------------------------------------------------------------------
# Training


def image_grid(n):
    return torch.tensor([[1, 2 * GRID, 2 * GRID]]).repeat(n, 1)


def optimizer_and_schedule(parameters, lr, steps):
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.08)


def step(loss, optimizer, schedule):
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()
    schedule.step()


def train_dense(model, heads, data, args, rng, log):
    """The vision tower alone, until its tokens say what they show."""
    visual = model.model.visual
    optimizer, schedule = optimizer_and_schedule([*visual.parameters(), *heads.parameters()], 2e-3, args.dense_steps)
    for k in range(1, args.dense_steps + 1):
        rows = rng.integers(len(data.scenes), size=args.dense_batch)
        features = visual(data.pixel_values(rows), grid_thw=image_grid(len(rows))).pooler_output
        loss = heads(features.view(len(rows), GRID**2, -1), data.targets(rows))
        step(loss, optimizer, schedule)
        log("dense", k, args.dense_steps, loss)
    return float(loss.detach())


def talk_tree(tokenizer, scene, style, rng, pairs):
    """Image prefix with `pairs` question-answer branches, the answers supervised."""
    turns = conversation(scene, rng, pairs, preamble=style == "experiment")
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    wrapped = [wrap(style, question, rng) for question, _ in turns]
    tree = TokenTree(encode(wrapped[0][0].replace("<|image_pad|>", "<|image_pad|>" * GRID**2)))
    for (_, branch), (_, answer) in zip(wrapped, turns):
        tree.grow(tree.grow(tree.root, encode(branch)), encode(answer + "<|im_end|>"), supervised=True)
    return tree


def talk_loss(model, heads, data, rows, trees, dense_weight):
    """Cross-entropy of the answers' tokens, and a little of the dense task so that it is not forgotten."""
    batch = batch_trees([[tree] for tree in trees], model.config.text_config.pad_token_id)
    grid, labels = image_grid(len(rows)), batch["labels"]
    is_image = (batch["prefix_ids"] == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(batch["prefix_ids"], mm_token_type_ids=is_image, image_grid_thw=grid)
    vision = model.model.get_image_features(data.pixel_values(rows), grid, return_dict=True)
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=ancestor_mask([[tree] for tree in trees]),
        position_ids=tree_position_ids(positions, batch),
        mm_encoder_outputs={"image": vision},
        image_grid_thw=grid,
        logits_to_keep=supervised_parents(labels),
        use_cache=False,
    ).logits
    loss = F.cross_entropy(logits.float().flatten(0, -2), labels[labels != -100])
    features = torch.cat(list(vision.pooler_output)).view(len(rows), GRID**2, -1)
    return loss, loss + dense_weight * heads(features.float(), data.targets(rows))


def train_talk(model, heads, tokenizer, data, args, rng, log):
    """Everything, on sentences about the scenes."""
    optimizer, schedule = optimizer_and_schedule([*model.parameters(), *heads.parameters()], args.lr, args.steps)
    recent = []
    for k in range(1, args.steps + 1):
        rows = rng.integers(len(data.scenes), size=args.batch)
        style = str(rng.choice(list(STYLES), p=STYLE_WEIGHTS))  # one a step, as rows of like length pad little
        trees = [talk_tree(tokenizer, data.scenes[r], style, rng, args.pairs) for r in rows]
        loss, total = talk_loss(model, heads, data, rows, trees, dense_weight=0.3)
        step(total, optimizer, schedule)
        recent = (recent + [float(loss.detach())])[-100:]
        log("talk", k, args.steps, loss)
    return sum(recent) / len(recent)


def save(model, processor, record, out):
    """Write the folder under a temporary name and rename it: a reader never sees half a model."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=64,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    new, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(new)
    processor.save_pretrained(new)
    (new / "pretrain.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write, e.g. data/demo/tiny-qwen2-vl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=10_000, help="rendered scenes to learn from")
    parser.add_argument("--dense-steps", type=int, default=1200)
    parser.add_argument("--dense-batch", type=int, default=32, help="images")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--pairs", type=int, default=5, help="question-answer pairs an image")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    start = time.time()

    def log(stage, k, steps, loss):
        if k % 50 == 0 or k == steps:
            print(f"{stage} {k}/{steps} loss {float(loss.detach()):.3f} {time.time() - start:.0f}s", flush=True)

    processor = build_processor()
    seeds = SEEDS["pretrain"][: args.scenes]
    data = render_examples(processor.image_processor, seeds, args.threads)
    print(f"{len(seeds)} scenes rendered in {time.time() - start:.0f}s", flush=True)

    model = build_model(processor.tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, vocabulary {len(processor.tokenizer)}", flush=True)
    heads = DenseHeads(model.config.text_config.hidden_size, data.coverage.shape[-1], IMAGE_CLASSES)
    dense_loss = train_dense(model, heads, data, args, rng, log)
    talk_loss_ = train_talk(model, heads, processor.tokenizer, data, args, rng, log)

    record = {
        "command": "python -m data.demo.pretrain " + " ".join(sys.argv[1:]),
        "seed": args.seed,
        "scene_seeds": [seeds[0], seeds[-1]],
        "tokenizer_scene_seeds": [TOKENIZER_SEED, TOKENIZER_SEED + TOKENIZER_SCENES - 1],
        "parameters": sum(p.numel() for p in model.parameters()),
        "dense_loss_last": round(dense_loss, 4),
        "talk_loss_mean_of_last_100": round(talk_loss_, 4),
        "minutes": round((time.time() - start) / 60, 1),
        "cpus": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    save(model, processor, record, args.out)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
