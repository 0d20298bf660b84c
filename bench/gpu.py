"""What only a GPU can tell, of a random Qwen2-VL-7B with the demo's images and questions: under 8 minutes on one 80 GB card.

    pip install -r bench/requirements.txt
    python bench/gpu.py --processor QWEN2_VL_FOLDER
    python bench/gpu.py --processor … --parts shapes train          some of it
    python bench/gpu.py --size tiny --device cpu --processor data/demo/tiny-qwen2-vl        does it run?

    shapes     seconds of a micro-batch whose attention shapes are new, and again, with cuDNN's attention off and on
    train      questions and tokens a second, MFU, peak memory beside its estimate: images a micro-batch, checkpointing, LoRA's forward
    peers      plain rows, transformers' Trainer and TRL, and this project, at 1 and 9 questions an image
    attention  a layer's attention forward and backward: the tree's, by backend, a dense mask, flex attention
    cap        the heaviest step of config_exp1.yaml and a few others in 24, 40 and 80 GB
    predict    exact, greedy and transformers' generate: seconds a question
    grads      LoRA's gradients in bfloat16, packed, packed again and one question a row, against float32
    profile    where the time of a training step goes, by kernel
    nf4        the language layers in four bits (bitsandbytes): training, its memory beside its estimate, prediction

Every part prints its lines as it goes; --out keeps them all as JSON. Exit code 1 where a part failed.
"""

import gc
import itertools
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler
from transformers import AutoModelForImageTextToText

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.train import TRL, Packed, Plain, model_config
from config import argument_parser, load_config
from data.preprocess import ensure_enriched
from dataset import group_by_image, load_dataset
from files import run_script, write_json
from model import forward
from model.adapter import add_in_one_product, attach_lora
from model.forward import answer_loss, base_model, training_inputs, use_tree_attention
from model.load import load_processor
from model.nf4 import keep_one_arithmetic
from prediction.decode import answer_by_generate, answer_questions
from training import cost
from training.gpus import device_peak_flops

SIZES = {  # text, vision, rope sections
    "7b": (
        dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4),
        dict(depth=32, embed_dim=1280, num_heads=16),
        [16, 24, 24],
    ),
    "tiny": (
        dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
        dict(depth=2, embed_dim=32, num_heads=2),
        [2, 3, 3],
    ),
}
PARTS = ("train", "peers", "shapes", "predict", "cap", "attention", "profile", "grads", "nf4")  # the last two change the model
CHECKPOINTING = {"use_reentrant": False}


# ---------------------------------------------------------------------------------------------------------------------
# The model and its work


def random_model(size, processor, lora, device, nf4=False):
    """A Qwen2-VL of a size, random weights drawn on the device in its precision, LoRA with random B (it starts at zero)."""
    vocabulary = max(152_064 if size == "7b" else 0, len(processor.tokenizer))
    config = model_config(*SIZES[size], processor, vocabulary, tied=False)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa").requires_grad_(False)
        model = attach_lora(in_four_bits(model, dtype) if nf4 else model, lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return use_tree_attention(model.to(device)).train()


def in_four_bits(model, dtype):
    """As `nf4_settings` asks `from_pretrained` to load it."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    layers = model.model.language_model.layers
    for parent in layers.modules():
        for name, old in [(name, child) for name, child in parent.named_children() if isinstance(child, torch.nn.Linear)]:
            new = Linear4bit(old.in_features, old.out_features, old.bias is not None, dtype, True, "nf4", device="meta")
            new.weight = Params4bit(old.weight.data, requires_grad=False, quant_type="nf4").to(old.weight.device)
            new.bias = old.bias
            setattr(parent, name, new)
    model.is_loaded_in_4bit = True  # which peft looks at
    keep_one_arithmetic(model)
    return model


def configure(args, folder):
    """config_exp1.yaml's sizes on the demo's rows: 448 x 448 pixels, chat-free prompts, the LoRA and the limits of the 7B."""
    settings = {"model_name": args.processor, "output_dir": folder / "out", "data.val_jsonl": "null", "lora.dropout": 0.05}
    pixels = 448 * 448 if args.size == "7b" else 56 * 56
    settings |= {"image.min_pixels": pixels, "image.max_pixels": pixels, "lora.r": 16, "lora.alpha": 32, "train.num_workers": 0}
    settings |= {"train.tokens_per_row": 4096, "train.questions_per_image": "all", "train.bf16": args.device.type == "cuda"}
    return load_config(ROOT / "config_demo.yaml", [f"{key}={value}" for key, value in settings.items()])


@contextmanager
def replaced(module, name, value):
    """Another value for a module's name within."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class Rows:
    """Images with as many questions as asked for: of one demo scene, and of the next ones where it has too few."""

    def __init__(self, rows):
        self.questions = itertools.cycle(rows)
        self.images, self.numbers = itertools.cycle(group_by_image(rows)), itertools.count()

    def take(self, *counts):
        """Enriched rows of len(counts) images, counts[i] of the i-th."""
        result = []
        for count in counts:
            image = next(self.images)[0]["image"]
            result += [{**next(self.questions), "image": image, "id": str(next(self.numbers))} for _ in range(count)]
        return result


class Bench:
    def __init__(self, args, cfg, processor, rows, nf4=False):
        self.args, self.cfg, self.processor, self.rows, self.found = args, cfg, processor, Rows(rows), {}
        self.device, self.cuda = args.device, args.device.type == "cuda"
        self.model = random_model(args.size, processor, cfg.lora, args.device, nf4)
        self.shape = cost.model_shape(self.model)
        self.config = base_model(self.model).config
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=self.cuda)
        self.trainer = self.packed(self.rows.take(1)).trainer
        self.prepared = self.trainer.accelerator.prepare_model(self.model)
        torch.backends.cuda.enable_cudnn_sdp(False)  # as `load_model` does

    def say(self, part, /, **facts):
        facts = {name: round(value, 4) if isinstance(value, float) else value for name, value in facts.items()}
        self.found.setdefault(part, []).append(facts)
        print(f"{part:9} " + "  ".join(f"{name}={value}" for name, value in facts.items()), flush=True)

    def packed(self, rows, cap="all"):
        """bench.train's method for some rows, whose trainer is the real one."""
        return Packed(self.model, rows, self.processor, self.cfg, cap)

    def trl(self, rows):
        return TRL(self.model, rows, self.processor, self.cfg, 99)

    def batch(self, *counts, cap="all"):
        """A collated micro-batch of len(counts) images with so many questions."""
        method = self.packed(self.rows.take(*counts), cap)
        return method.data.collate([method.data[index] for index in range(len(method.data))])

    def step(self, batch, trainer=None):
        """A whole optimizer step of one micro-batch, by a Trainer's own `training_step`."""
        trainer = trainer or self.trainer
        trainer.current_gradient_accumulation_steps = 1
        answers = (batch["labels"] != -100).sum().to(self.device)
        trainer.training_step(self.prepared, dict(batch), answers)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self, run):
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def measured(self, run, times=5):
        """(median seconds after a warm-up, peak GB allocated, peak GB reserved); without a card once: does it run?"""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run()
        seconds = statistics.median(self.seconds(run) for _ in range(times if self.cuda else 1))
        peaks = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if self.cuda else (0, 0)
        return seconds, *(peak / 1e9 for peak in peaks)

    def checkpointing(self, on):
        inner = base_model(self.model)
        inner.activation_checkpointing_enable(CHECKPOINTING) if on else inner.activation_checkpointing_disable()

    @contextmanager
    def as_peers_have_it(self):
        """transformers' attention and norms, peft's forward, torch's own choice of kernels."""
        inner = base_model(self.model)
        inner.set_attn_implementation({"text_config": "sdpa"})
        torch.backends.cuda.enable_cudnn_sdp(True)
        try:
            with self.forward_of_peft(), self.norms_of_transformers():
                yield
        finally:
            torch.backends.cuda.enable_cudnn_sdp(False)
            inner.set_attn_implementation({"text_config": "tree"})

    @contextmanager
    def forward_of_peft(self):
        for module in self.model.modules():
            if isinstance(module, LoraLinear):
                del module.forward
        try:
            yield
        finally:
            add_in_one_product(self.model)

    def norms_of_transformers(self):
        return replaced(forward, "on_gpu", lambda tensor: False)

    def tree_attention(self):
        """Pairs skipped, as on a CPU."""
        return replaced(forward, "computes_all_pairs", lambda device: False)

    @contextmanager
    def compiled(self):
        """torch.compile of each layer's parts, with checkpointing left outside: inside, torch 2.11 fails. CPUs go without.

        Training does not do this: 7 % less busy on an H100, for half a minute at the start and ten seconds at new kinds of shapes.
        """
        if not self.cuda:
            yield
            return
        layers = base_model(self.model).model.language_model.layers
        parts = [part for layer in layers for part in layer.children()]
        for part in parts:
            part.compile(dynamic=True)
        try:
            yield
        finally:
            for part in parts:
                part._compiled_call_impl = None

    def busy(self, run):
        """(seconds in which the device computed, its events) of one run, by torch's profiler."""
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
        with profiler(activities=activities) as found:
            self.seconds(run)
        events = [event for event in found.key_averages() if not self.cuda or str(event.device_type).endswith("CUDA")]
        time_of = lambda event: event.self_device_time_total if self.cuda else event.self_cpu_time_total
        return sum(map(time_of, events)) / 1e6, [(time_of(event) / 1e6, event.count, event.key) for event in events]


# ---------------------------------------------------------------------------------------------------------------------
# The parts


def shapes(bench):
    lengths = [[5, 9, 7, 11], [6, 8, 12, 4], [9, 10, 5, 13], [7, 7, 14, 6], [11, 4, 9, 8], [12, 6, 10, 5], [8, 13, 5, 9], [4, 11, 6, 12]]
    batches = [bench.batch(*counts) for counts in lengths]
    bench.checkpointing(True)
    for cudnn in (False, True):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        bench.step(batches[0])
        new, known = ([bench.seconds(partial(bench.step, batch)) for batch in batches[1:]] for _ in range(2))
        facts = dict(new_s=statistics.median(new), known_s=statistics.median(known), slowest_new_s=max(new))
        bench.say("shapes", cudnn=cudnn, **facts)
    torch.backends.cuda.enable_cudnn_sdp(False)


def train(bench):
    """The first beside peft's own forward (which casts to float32), transformers' norms, attention that skips pairs, torch.compile."""
    for images, checkpointing in ((4, True), (4, False), (16, True), (1, True)):
        train_case(bench, images, checkpointing)
    train_case(bench, 4, True, attention="tree")
    with bench.norms_of_transformers():
        train_case(bench, 4, True, norms="transformers'")
        train_case(bench, 4, True, norms="transformers'", lora="peft's")
    train_case(bench, 4, True, compiled=True)


def train_case(bench, images, checkpointing, lora="ours", attention="masked", norms="ours", compiled=False, part="train"):
    peak = (device_peak_flops(torch.cuda.get_device_name()) if bench.cuda else None) or 1e12
    bench.checkpointing(checkpointing)
    batch = bench.batch(*[9] * images)
    micro = cost.MicroBatch.of(batch, all_pairs=attention == "masked" and bench.cuda)
    precision = cost.Precision("bf16" if bench.cuda else "fp32", dropout=bench.cfg.lora.dropout, nf4=part == "nf4")
    wanted = {bench.forward_of_peft: lora != "ours", bench.tree_attention: attention == "tree", bench.compiled: compiled}
    with ExitStack() as changes:
        for change in (change for change, yes in wanted.items() if yes):
            changes.enter_context(change())
        try:
            seconds, allocated, reserved = bench.measured(partial(bench.step, batch))
            busy, events = bench.busy(partial(bench.step, batch))
        except torch.OutOfMemoryError:
            bench.optimizer.zero_grad()
            bench.say(part, images=images, checkpointing=checkpointing, compiled=compiled, out_of_memory=True)
            return
    flops = cost.model_flops(bench.shape, micro)
    facts = dict(images=images, checkpointing=checkpointing, lora=lora, attention=attention, norms=norms)
    facts |= dict(compiled=compiled, tokens=micro.tokens, seconds=seconds, questions_per_s=9 * images / seconds, mfu=flops / seconds / peak)
    facts |= dict(busy_s=busy, mfu_busy=flops / busy / peak, kernels=sum(count for _, count, _ in events))
    estimate = cost.step_memory(bench.shape, micro, precision, checkpointing)["peak"] / 1e9
    bench.say(part, **facts, peak_gb=allocated, reserved_gb=reserved, estimate_gb=estimate)


def peers(bench):
    bench.checkpointing(True)
    for questions in (1, 9):
        rows = bench.rows.take(*[questions] * 4)
        ours = bench.packed(rows)
        step = partial(bench.step, ours.data.collate([ours.data[index] for index in range(4)]))
        seconds, allocated, _ = bench.measured(step)
        bench.say("peers", questions=questions, method="packed", questions_per_s=4 * questions / seconds, peak_gb=allocated)
        for name in ("plain", "trl"):
            try:
                peer = Plain(bench.model, bench.processor, bench.cfg, 99) if name == "plain" else bench.trl(rows)
            except ImportError as error:
                bench.say("peers", questions=questions, method=name, not_run=str(error))
                continue
            some = rows[:9]
            batch = {key: value.to(bench.device) for key, value in peer.collate(some).items() if torch.is_tensor(value)}
            with bench.as_peers_have_it():
                seconds, allocated, _ = bench.measured(partial(bench.step, batch, peer.trainer))
            bench.say("peers", questions=questions, method=name, rows=len(some), questions_per_s=len(some) / seconds, peak_gb=allocated)


def attention(bench):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from model.tree_attention import LAYOUT, branch_mask, tree_attention

    batch = bench.batch(9, 9, 9, 9)
    (rows, length), text = batch["input_ids"].shape, bench.config.get_text_config()
    heads, keys, width = text.num_attention_heads, text.num_key_value_heads, text.hidden_size // text.num_attention_heads
    dense = forward.chain_mask(batch["depths"].to(bench.device), batch["tree_index"].to(bench.device), bench.model.dtype)
    draw = lambda count: torch.randn(rows, count, length, width, device=bench.device, dtype=bench.model.dtype, requires_grad=True)
    query, key, value = draw(heads), draw(keys), draw(keys)
    layout = {name: batch[name].to(bench.device) for name in LAYOUT}
    layout |= {"mask": branch_mask(layout), "rows": rows}
    module = base_model(bench.model).model.language_model.layers[0].self_attn
    tree = lambda: tree_attention(module, query, key, value, None, layout=layout, scaling=width**-0.5)[0]
    whole = lambda: tree_attention(module, query, key, value, dense, scaling=width**-0.5)[0]
    cases = {"tree": (tree, None), "dense mask": (whole, None)}
    if bench.cuda:
        backends = {"efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION], "cudnn": [SDPBackend.CUDNN_ATTENTION]}
        cases |= {f"tree, {name}": (tree, chosen) for name, chosen in backends.items()}
        flex, seen = torch.compile(flex_attention), lambda row, head, i, j: dense[row, 0, i, j] == 0
        blocks = create_block_mask(seen, rows, None, length, length, device=bench.device)
        cases["flex"] = (lambda: flex(query, key, value, block_mask=blocks, scale=width**-0.5, enable_gqa=True), None)
    for name, (method, chosen) in cases.items():
        with sdpa_kernel(chosen) if chosen else nullcontext():
            run = lambda method=method: method().float().square().sum().backward()
            first = bench.seconds(run)
            seconds = bench.measured(run, 10)[0]
            bench.say("attention", method=name, first_ms=1e3 * first, ms=1e3 * seconds, busy_ms=1e3 * bench.busy(run)[0])


def cap(bench):
    if not bench.cuda:
        return
    bench.checkpointing(True)
    heavy, others = bench.batch(18, 18, 18, 18), [bench.batch(*counts) for counts in ((3, 17, 9, 6), (1, 12, 8, 15), (18, 2, 7, 10))]
    precision = cost.Precision(dropout=bench.cfg.lora.dropout)
    estimate = cost.step_memory(bench.shape, cost.MicroBatch.of(heavy, all_pairs=True), precision, True)["peak"] / 1e9
    total = torch.cuda.get_device_properties(0).total_memory
    for gigabytes in (24, 40, 80):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_per_process_memory_fraction(min(1.0, (gigabytes - 0.7) * 2**30 / total))  # a context takes 0.5 to 0.7 GiB
        try:
            bench.seconds(lambda: [bench.step(batch) for batch in (heavy, *others, heavy)])
            peaks = torch.cuda.max_memory_allocated() / 1e9, torch.cuda.max_memory_reserved() / 1e9
            bench.say("cap", gb=gigabytes, fits=True, peak_gb=peaks[0], reserved_gb=peaks[1], estimate_gb=estimate)
        except torch.OutOfMemoryError:
            bench.optimizer.zero_grad()
            bench.say("cap", gb=gigabytes, fits=False)
    torch.cuda.set_per_process_memory_fraction(1.0)


def predict(bench, part="predict", decodings=("exact", "greedy", "generate")):
    bench.model.eval()
    model, rows = bench.model, bench.rows.take(*[9] * 12)
    dataset = load_dataset(rows, bench.processor, bench.cfg, bench.config, supervised=False)
    batches = [[at, at + 1, at + 2, at + 3] for at in range(0, 12, 4)]

    def ours(decoding, batch):
        return list(answer_questions(model, dataset, bench.cfg, decoding, 6, [batch]))

    def generate(_, batch):
        inner = base_model(model)
        inner.set_attn_implementation({"text_config": "sdpa"})
        answer_by_generate(model, dataset, [dataset[index] for index in batch], bench.cfg, "greedy", 6)
        inner.set_attn_implementation({"text_config": "tree"})

    for name in decodings:
        run = generate if name == "generate" else ours
        first, *others = (bench.seconds(partial(run, name, batch)) for batch in (*batches, *batches))
        bench.say(part, decoding=name, first_s=first, ms_per_question=1e3 * statistics.median(others) / 36)
    bench.model.train()


def profile(bench):
    bench.checkpointing(True)
    batch = bench.batch(9, 9, 9, 9)
    bench.step(batch)
    total, events = bench.busy(partial(bench.step, batch))
    for seconds, count, name in sorted(events, reverse=True)[:40]:
        bench.say("profile", share=seconds / total, calls=count, kernel=name[:110])


def grads(bench):
    """Needs 70 GB: the same weights in float32 at the end."""
    bench.checkpointing(True)
    model = bench.trainer.accelerator.unwrap_model(bench.model, keep_fp32_wrapper=False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rows = bench.rows.take(9, 16)
    batches = {}
    for name, cap in (("packed", "all"), ("separate", 1)):
        data = bench.packed(rows, cap).data
        batches[name] = [data.collate([data[i] for i in range(at, min(at + 9, len(data)))]) for at in range(0, len(data), 9)]

    def gradients(which, half):
        total = sum(int((batch["labels"] != -100).sum()) for batch in batches[which])
        for batch in batches[which]:
            with torch.autocast(bench.device.type, torch.bfloat16) if half else nullcontext():
                loss = answer_loss(model(**training_inputs(model, batch)), batch["labels"].to(bench.device), total)
            loss.backward()
        found = {name: weight.grad.float().cpu() for name, weight in model.named_parameters() if weight.requires_grad}
        model.zero_grad()
        return found

    half = bench.cuda
    bf16 = {name: gradients(which, half) for name, which in (("packed", "packed"), ("again", "packed"), ("separate", "separate"))}
    model.float()
    exact = gradients("packed", False)
    for part in ("", "k_proj", "v_proj", "up_proj"):
        names = [name for name in exact if part in name]
        size = distance(exact, {name: 0 * exact[name] for name in names}, names)
        errors = {name: distance(exact, found, names) / size for name, found in bf16.items() if name != "again"}
        bench.say("grads", part=part or "all", **errors, packed_twice=distance(bf16["packed"], bf16["again"], names) / size)


def nf4(bench):
    """A model of its own, for which the other makes room."""
    if find_spec("bitsandbytes") is None:
        bench.say("nf4", not_run="no bitsandbytes")
        return
    bench.model.to("meta")
    rows = list(itertools.islice(bench.rows.questions, 999))
    small = Bench(bench.args, bench.cfg, bench.processor, rows, nf4=True)
    small.found = bench.found
    for images, checkpointing in ((4, True), (4, False), (1, True)):
        train_case(small, images, checkpointing, part="nf4")
    predict(small, part="nf4", decodings=("exact",))


def distance(one, other, names):
    return sum(float((one[name] - other[name]).square().sum()) for name in names) ** 0.5


# ---------------------------------------------------------------------------------------------------------------------


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def facts_of(device):
    facts = {name: installed(name) for name in ("torch", "transformers", "peft", "accelerate", "trl", "bitsandbytes")}
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        facts |= {"card": torch.cuda.get_device_name(), "gb": round(memory / 1e9, 1), "cudnn": torch.backends.cudnn.version()}
        facts |= {"driver": torch.cuda.driver_version() if hasattr(torch.cuda, "driver_version") else None, "cuda": torch.version.cuda}
    return facts


def main():
    parser = argument_parser("What only a GPU can tell.", epilog=__doc__)
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--processor", default="Qwen/Qwen2-VL-7B-Instruct", help="folder or hub id of the processor")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", default=str(ROOT / "bench" / "results" / "gpu.json"), metavar="FILE")
    args = parser.parse_intermixed_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(args, Path(folder))
        processor, rows = load_processor(cfg), ensure_enriched(cfg, "train")
        bench = Bench(args, cfg, processor, rows)
        facts = facts_of(args.device)
        print("  ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
        for part in [part for part in PARTS if part in args.parts]:
            start = time.perf_counter()
            try:
                globals()[part](bench)
            except Exception:  # the card is lent for minutes: the other parts still count
                traceback.print_exc()
                failed = True
            print(f"-- {part}: {time.perf_counter() - start:.0f} s", flush=True)
            write_json(Path(args.out), {**facts, **bench.found})
    return int(failed)


if __name__ == "__main__":
    run_script(main)
