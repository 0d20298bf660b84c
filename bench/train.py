"""Seconds, tokens and memory per question: this project and its peers on the same model, images, questions and LoRA.

    pip install -r bench/requirements.txt
    python bench/train.py --size 115m --processor Qwen/Qwen2-VL-7B-Instruct
    python bench/train.py --size 115m --questions 1 2 4 9 16 --methods packed plain        the scaling curve
    python bench/train.py --size 2b --peer-rows 3                                          bfloat16, 12 GB
    python bench/train.py --size 2b-wide --peer-rows 3                                     1,600 image tokens

One process and one model with random weights; each method is its own real trainer on it and its own collator. The
methods take turns, one optimizer step of the questions of one image at a time: collating, forward and backward are timed,
the optimizer, the same for all, is not. With --peer-rows n, methods that take a question a micro-batch run n of them,
and the time counts for all. Writes <out>/train_<size>.json and
<out>/train.png, the chart of all that was measured.
"""

import ctypes
import gc
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, Qwen2VLConfig, Trainer, TrainingArguments, set_seed

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, environment_facts, load_config
from data.images import load_image
from data.preprocess import ensure_enriched
from dataset import encode_answer, group_by_image, load_dataset, prompt_fields
from files import atomic_open, read_json, run_script, write_json
from model.adapter import attach_lora
from model.forward import base_model, use_tree_attention
from model.load import load_processor
from templates import prompt_parts
from training.trainer import build_trainer, training_arguments

TEXT_2B = dict(hidden_size=1536, intermediate_size=8960, num_attention_heads=12, num_key_value_heads=2)
SIZES = {  # text, vision, rope sections, dtype, pixels of an image
    "115m": (
        dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2),
        dict(depth=6, embed_dim=256, num_heads=4),
        [8, 12, 12],
        torch.float32,
        448 * 448,
    ),
    "2b": (dict(num_hidden_layers=28, **TEXT_2B), dict(depth=32, embed_dim=1280, num_heads=16), [16, 24, 24], torch.bfloat16, 448 * 448),
    "2b-wide": (
        dict(num_hidden_layers=7, **TEXT_2B),
        dict(depth=8, embed_dim=1280, num_heads=16),
        [16, 24, 24],
        torch.bfloat16,
        1120 * 1120,
    ),
}


# ---------------------------------------------------------------------------------------------------------------------
# The work: a random model with LoRA, and images with questions


def model_config(text, vision, sections, processor, vocabulary, tied):
    """The Qwen2VLConfig of a size, with the special tokens of a processor."""
    token = processor.tokenizer.convert_tokens_to_ids
    special = {f"{kind}_token_id": token(f"<|{kind}_pad|>") for kind in ("image", "video")}
    special |= {f"vision_{side}_token_id": token(f"<|vision_{side}|>") for side in ("start", "end")}
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": sections, "rope_theta": 1e6}
    ends = {"bos_token_id": None, "eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": token("<|endoftext|>")}
    return Qwen2VLConfig(
        text_config={**text, "vocab_size": vocabulary, "rope_parameters": rope, **ends},
        vision_config={**vision, "hidden_size": text["hidden_size"], "mlp_ratio": 4},
        tie_word_embeddings=tied,
        **special,
    )


def random_model(size, processor, lora):
    """A Qwen2-VL of a size with random weights, LoRA on the language model with random B (it starts at zero)."""
    text, vision, sections, dtype, _ = SIZES[size]
    config = model_config(text, vision, sections, processor, vocabulary=151_936, tied=True)
    set_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa").requires_grad_(False)
    model = attach_lora(model, lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return use_tree_attention(model).train()


def configure(args, folder):
    pixels = SIZES[args.size][4]
    settings = {"model_name": args.processor, "output_dir": folder / "out", "lora.dropout": 0.0, "data.val_jsonl": "null"}
    settings |= {"image.min_pixels": pixels, "image.max_pixels": pixels, "train.gradient_checkpointing": args.checkpointing}
    return load_config(ROOT / "config_demo.yaml", [f"{key}={value}" for key, value in settings.items()])


def images_with(questions, count, demo_rows):
    """`count` images' lists of `questions` enriched rows: a demo scene's and, where they don't suffice, the next one's."""
    scenes = group_by_image(demo_rows)
    pairs = [scenes[index] + scenes[index + 1] for index in range(0, 2 * count, 2)]
    return [[{**row, "image": rows[0]["image"]} for row in rows[:questions]] for rows in pairs]


# ---------------------------------------------------------------------------------------------------------------------
# The methods: each a list of micro-batches for the rows of an image, and a trainer


class Packed:
    """This project: an image's questions in one tree, or one question a row."""

    def __init__(self, model, rows, processor, cfg, cap):
        train = cfg.train.model_copy(update={"questions_per_image": cap, "train_bs": 1 if cap == "all" else 9})
        cfg = cfg.model_copy(update={"train": train})
        self.data = load_dataset(rows, processor, cfg, model_config=base_model(model).config, training=True)
        self.trainer = build_trainer(
            model, self.data, None, training_arguments(cfg, cfg.output_dir, eval_strategy="no", save_strategy="no")
        )

    def micro_batches(self, image_rows):
        wanted = {row["id"] for row in image_rows}
        indices = [index for index, group in enumerate(self.data.groups) if group[0]["id"] in wanted]
        yield self.data.collate([self.data[index] for index in indices])


class Plain:
    """transformers' Trainer with a textbook collator: a question a row, its image with it, labels on the answer."""

    def __init__(self, model, processor, cfg, micro_batch):
        self.processor, self.cfg, self.micro_batch = processor, cfg, micro_batch
        arguments = TrainingArguments(**quiet_arguments(cfg))
        self.trainer = Trainer(model=model, args=arguments)

    def collate(self, rows):
        prompts = ["".join(prompt_parts(*prompt_fields(row, self.cfg.data.max_listed))) for row in rows]
        images = [load_image(self.cfg.data.image_root / row["image"], self.cfg.image) for row in rows]
        encoded = [self.processor(text=[prompt], images=[image], return_tensors="pt") for prompt, image in zip(prompts, images)]
        answers = [torch.tensor(encode_answer(self.processor.tokenizer, row["answer"])) for row in rows]
        prompts = [one["input_ids"][0] for one in encoded]
        input_ids = pad_sequence([torch.cat(pair) for pair in zip(prompts, answers)], True, self.processor.tokenizer.pad_token_id)
        labels = pad_sequence([torch.cat([torch.full_like(prompt, -100), answer]) for prompt, answer in zip(prompts, answers)], True, -100)
        return {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": (pad_sequence([torch.ones(len(a) + len(b)) for a, b in zip(prompts, answers)], True)).long(),
            "mm_token_type_ids": (input_ids == self.processor.image_token_id).int(),
            "pixel_values": torch.cat([one["pixel_values"] for one in encoded]),
            "image_grid_thw": torch.cat([one["image_grid_thw"] for one in encoded]),
        }

    def micro_batches(self, image_rows):
        for at in range(0, len(image_rows), self.micro_batch):
            yield self.collate(image_rows[at : at + self.micro_batch])


class TRL(Plain):
    """TRL's SFTTrainer on prompt and completion texts: its own collator, and a loss that runs lm_head on the answers only."""

    trainer = None

    def __init__(self, model, rows, processor, cfg, micro_batch):
        import trl.trainer.utils
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        trl.trainer.utils._use_triton = lambda device: True  # as on a GPU: the head runs on the answers' positions only
        self.processor, self.cfg, self.micro_batch = processor, cfg, micro_batch
        if TRL.trainer is None:  # one for all micro-batches: it wraps the model's forward, and should do so once
            arguments = SFTConfig(**quiet_arguments(cfg), max_length=None)
            dataset = Dataset.from_list([self.example(row) for row in rows[:2]])
            TRL.trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=processor)

    def example(self, row):
        prompt = "".join(prompt_parts(*prompt_fields(row, self.cfg.data.max_listed)))
        image = load_image(self.cfg.data.image_root / row["image"], self.cfg.image)
        return {"images": [image], "prompt": prompt, "completion": row["answer"] + self.processor.tokenizer.eos_token}

    def collate(self, rows):
        return dict(self.trainer.data_collator([self.example(row) for row in rows]))


def quiet_arguments(cfg):
    return dict(
        output_dir=str(cfg.output_dir),
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        save_strategy="no",
        bf16=torch.cuda.is_available(),
        remove_unused_columns=False,
        gradient_checkpointing=cfg.train.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def build_method(name, model, rows, processor, cfg):
    micro_batch = 1 if name.endswith("-1x") else 99
    name = name.removesuffix("-1x")
    if name in ("packed", "one-a-row"):
        return Packed(model, rows, processor, cfg, "all" if name == "packed" else 1)
    if name == "plain":
        return Plain(model, processor, cfg, micro_batch)
    return TRL(model, rows, processor, cfg, micro_batch)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


class Memory:
    """Peak of the process's resident memory above where it stood (Linux: VmHWM, reset through clear_refs), or CUDA's."""

    def __enter__(self):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._read("VmRSS")
        return self

    def __exit__(self, *_):
        self.gigabytes = (self._read("VmHWM") - self.before) / 2**20

    @staticmethod
    def _read(key):
        return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)).split()[1])


def one_step(method, name, model, image_rows, limit=None):
    """One optimizer step's micro-batches, forward and backward. Returns seconds, loss per answer token, questions done."""
    base_model(model).set_attn_implementation({"text_config": "tree" if isinstance(method, Packed) else "sdpa"})
    start, loss, tokens, done = time.perf_counter(), 0.0, 0, 0
    for number, batch in enumerate(method.micro_batches(image_rows)):
        if number == limit:
            break
        supervised = int((batch["labels"] != -100).sum())
        done += int(batch["counts"][0]) if "counts" in batch else len(batch["labels"])
        method.trainer.current_gradient_accumulation_steps = 1
        loss += supervised * float(method.trainer.training_step(model, batch, torch.tensor(supervised)))
        tokens += supervised
    model.zero_grad()
    return time.perf_counter() - start, loss / tokens, done


def measure(args, questions, cfg, demo_rows, processor, lora_model):
    """{method: medians} for images with so many questions."""
    computed = []
    hook = base_model(lora_model).model.language_model.register_forward_pre_hook(
        lambda module, _, kwargs: computed.append(kwargs["inputs_embeds"][..., 0].numel()), with_kwargs=True
    )
    images = images_with(questions, args.rounds + 2, demo_rows)
    rows = [row for image_rows in images for row in image_rows]
    methods = {name: build_method(name, lora_model, rows, processor, cfg) for name in args.methods}
    results = defaultdict(lambda: defaultdict(list))
    for number, image_rows in enumerate(tqdm(images, desc=f"{questions} questions, rounds")):
        for name, method in methods.items():
            computed.clear()
            limit = args.peer_rows if number and name.endswith("-1x") else None  # the first round, of all rows, tells the loss
            # Memory is measured in a round of its own: it begins by giving all freed memory back, which costs the step time.
            with Memory() if number == 1 else nullcontext() as memory:
                seconds, loss, done = one_step(method, name, lora_model, image_rows, limit)
            results[name]["loss"].append(loss)
            if number == 1:
                results[name]["gigabytes"].append(memory.gigabytes)
            elif number:
                results[name]["seconds"].append(seconds / done)
                results[name]["tokens"].append(sum(computed) / done)
    hook.remove()
    reference = results[args.methods[0]]["seconds"]
    return {
        name: {
            "seconds_per_question": statistics.median(values["seconds"]),
            "times_packed": statistics.median(one / other for one, other in zip(values["seconds"], reference)),
            "tokens_per_question": statistics.mean(values["tokens"]),
            "peak_gb_above_weights": values["gigabytes"][0],
            "first_loss": values["loss"][0],
            "all_seconds": [round(value, 4) for value in values["seconds"]],
        }
        for name, values in results.items()
    }


def tower_share(cfg, demo_rows, processor, model):
    """Share of the frozen tower in a packed step of 9 questions: all that a cache of its features could save."""
    inner = base_model(model).model
    tower, in_tower, shares = inner.get_image_features, [], []

    def timed(*arguments, **kwargs):
        start = time.perf_counter()
        result = tower(*arguments, **kwargs)
        in_tower.append(time.perf_counter() - start)
        return result

    images = images_with(9, 4, demo_rows)
    method = Packed(model, [row for image_rows in images for row in image_rows], processor, cfg, "all")
    inner.get_image_features = timed
    for image_rows in images:
        seconds = one_step(method, "packed", model, image_rows)[0]
        shares.append(in_tower[-1] / seconds)
    del inner.get_image_features
    return statistics.median(shares[1:])


def markdown(results):
    lines = [
        "| questions per image | method | s / question | times packed | tokens / question | peak GB above weights | first loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for questions, methods in results.items():
        for name, row in methods.items():
            lines.append(
                f"| {questions} | {name} | {row['seconds_per_question']:.3f} | {row['times_packed']:.2f} | "
                f"{row['tokens_per_question']:.0f} | {row['peak_gb_above_weights']:.2f} | {row['first_loss']:.5f} |"
            )
    return "\n".join(lines)


def draw_chart(folder):
    """Bars of seconds per question for every size measured, and the curve over questions per image, from the JSON files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = {
        size: read_json(folder / f"train_{size}.json")["results"]["9"] for size in SIZES if (folder / f"train_{size}.json").is_file()
    }
    curves = [path for path in [folder / "train_115m_scaling.json"] if path.is_file()]
    figure, axes = plt.subplots(
        1, len(measured) + len(curves), figsize=(4.2 * (len(measured) + len(curves)), 4), layout="constrained", squeeze=False
    )
    for axis, (size, methods) in zip(axes[0], measured.items()):
        values = [row["seconds_per_question"] for row in methods.values()]
        bars = axis.barh(list(methods), values, color=["tab:green" if name in ("packed", "one-a-row") else "tab:gray" for name in methods])
        axis.bar_label(
            bars, [f"{value:.2f} s, {row['times_packed']:.1f}x" for value, row in zip(values, methods.values())], padding=3, fontsize=8
        )
        axis.set(title=f"{size}, {SIZES[size][4] // 784} image tokens", xlabel="seconds per question", xlim=(0, 1.45 * max(values)))
        axis.invert_yaxis()
    for axis, path in zip(axes[0][len(measured) :], curves):
        results = read_json(path)["results"]
        for name in next(iter(results.values())):
            points = [(int(questions), methods[name]["seconds_per_question"]) for questions, methods in results.items()]
            axis.plot(*zip(*points), "o-", label=name, color="tab:green" if name == "packed" else "tab:gray")
        axis.set(
            title="115m, by questions per image",
            xlabel="questions per image",
            ylabel="seconds per question",
            ylim=(0, None),
            xticks=list(map(int, results)),
        )
        axis.legend()
    with atomic_open(folder / "train.png", "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def main():
    parser = argument_parser("Seconds, tokens and memory per question against the peers.", epilog=__doc__)
    parser.add_argument("--size", choices=SIZES, default="115m")
    parser.add_argument("--processor", default="Qwen/Qwen2-VL-7B-Instruct", help="folder or hub id of the real processor")
    parser.add_argument("--questions", type=int, nargs="+", default=[9], help="questions per image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["packed", "one-a-row", "plain", "plain-1x", "trl", "trl-1x"])
    parser.add_argument("--peer-rows", type=int, metavar="N", help="of the -1x methods, run N micro-batches")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), metavar="FOLDER")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(args, Path(folder))
        processor = load_processor(cfg)
        demo_rows = ensure_enriched(cfg, "train")
        model = random_model(args.size, processor, cfg.lora)
        parameters = sum(weight.numel() for weight in model.parameters())
        print(f"{args.size}: {parameters / 1e6:.0f} M parameters, {model.dtype}, {SIZES[args.size][4] // 784} image tokens")
        results = {str(questions): measure(args, questions, cfg, demo_rows, processor, model) for questions in args.questions}
        share = tower_share(cfg, demo_rows, processor, model)
    print(markdown(results))
    print(f"the frozen tower takes {share:.1%} of a packed step of 9 questions")
    versions = {
        name: version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate") if name in args.methods or name != "trl"
    }
    facts = {
        "parameters": parameters,
        "tower_share": share,
        "versions": versions,
        "command": sys.argv[1:],
        "commit": environment_facts()["commit"],
    }
    name = f"train_{args.size}" + ("" if args.questions == [9] else "_scaling")
    write_json(Path(args.out) / f"{name}.json", {"results": results, **facts})
    draw_chart(Path(args.out))


if __name__ == "__main__":
    run_script(main)
