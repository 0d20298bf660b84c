"""Loading that says in one line what it can't, before the weights are read where it can be known; what a machine lacks likewise.

python -m pytest tests/model/test_load.py -v
"""

import errno
import json
import math
import os
import shutil

import pytest
import torch
from conftest import TINY_MODEL, make_experiment, with_random_lora
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from dataset import load_dataset
from files import UserError
from model import load
from model.adapter import experiment_facts, not_finite, save_adapter
from model.forward import answer_loss, base_model, training_inputs
from model.load import (
    Card,
    check_base,
    check_special_tokens,
    compute_dtype,
    errors_explained,
    half_precision,
    load_model,
    load_model_config,
    load_processor,
    precision_note,
)
from prediction.decode import answer_questions

KERNELS = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")  # of torch 2.14 for CUDA 13
QUANTISED = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}


@pytest.fixture
def base(experiment, tmp_path):
    """(config, folder): an experiment whose model is a copy of the shipped one."""
    folder = shutil.copytree(TINY_MODEL, tmp_path / "base")
    return experiment[0].model_copy(update={"model_name": str(folder)}), folder


@pytest.fixture
def adapter(base, tmp_path):
    cfg, folder = base
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    save_adapter(with_random_lora(model, cfg.lora), tmp_path / "adapter", experiment_facts(cfg, {}))
    return tmp_path / "adapter"


@pytest.fixture
def weights_unread(monkeypatch):
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", lambda *_, **__: pytest.fail("the weights were read"))


def said(call, *arguments, **options):
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def change_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_tensor(path, value, name=None):
    """Put `value` into one place of a tensor of a safetensors file (the last, by name); return its name."""
    tensors = load_file(path)
    name = name or sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return name


# --- the base model


def test_a_pointer_in_the_place_of_the_weights_is_known_before_all_else(base, weights_unread):
    (base[1] / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n")
    for call in (check_base, load_model):
        assert said(call, base[0]).startswith(f"{base[1] / 'model.safetensors'}: is a Git LFS pointer")


@pytest.mark.parametrize("loads", [load_model, load_model_config, check_base])
def test_a_quantised_base_is_refused_by_its_config(base, weights_unread, loads):
    config = (base[1] / "config.json").read_text()
    change_json(base[1] / "config.json", quantization_config=QUANTISED)
    assert "is quantised (gptq), " in said(loads, base[0]) and "give the model that it was made from" in said(loads, base[0])
    (base[1] / "config.json").write_text(config)
    change_json(base[1] / "config.json", text_config={**json.loads(config)["text_config"], "quantization_config": QUANTISED})
    assert "is quantised (gptq), " in said(loads, base[0])
    (base[1] / "config.json").write_text(config)
    change_json(base[1] / "config.json", compression_config={"format": "pack-quantized"})
    assert "is quantised (compression_config), " in said(loads, base[0])


def test_a_missing_tokenizer_is_named(base, weights_unread):
    """transformers makes a tokenizer of 14 tokens instead, and the image token was blamed."""
    (base[1] / "tokenizer.json").unlink()
    for call in (load_processor, load_model):
        assert f"model_name: {base[1]} has no tokenizer.json; download the whole model" in said(call, base[0])


def test_another_models_tokenizer_is_told_before_the_weights(base, weights_unread):
    change_json(base[1] / "config.json", image_token_id=5)
    assert "the model's image token is 5, the tokenizer's 860: its tokenizer files are another model's" in said(load_model, base[0])


def test_a_tokenizer_of_more_tokens_than_the_model_knows_is_told_before_the_weights(base, weights_unread):
    """Its last tokens would have no embedding; padding of the embeddings, the other way round, is usual."""
    config, processor = load_model_config(base[0]), load_processor(base[0])
    known = len(processor.tokenizer)
    for more in (0, 100):
        config.get_text_config().vocab_size = known + more
        check_special_tokens(config, processor)
    text = json.loads((base[1] / "config.json").read_text())["text_config"]
    change_json(base[1] / "config.json", text_config={**text, "vocab_size": known - 1})
    assert said(load_model, base[0]) == f"the tokenizer has {known} tokens, the model {known - 1}: they don't belong together"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("patch_size", 0, "patch_size is 0, the model's 14"), ("patch_size", 16, "patch_size is 16, the model's 14"),
        ("merge_size", 1, "merge_size is 1, the model's 2"), ("temporal_patch_size", 3, "temporal_patch_size is 3, the model's 2"),
        ("image_std", [0, 0, 0], "image_std is (0, 0, 0), by which no picture can be scaled"),
        ("image_std", [0.5, math.inf, 0.5], "by which no picture can be scaled"),
        ("image_mean", [0.5, math.nan, 0.5], "by which no picture can be scaled"),
        ("image_mean", [0.5, "a", 0.5], "by which no picture can be scaled"), ("rescale_factor", 0, "rescale_factor is 0, by which"),
    ],
)  # fmt: skip
def test_another_models_picture_settings_are_told_before_any_picture(base, name, value, says):
    path = next(path for path in base[1].glob("*processor*.json") if '"patch_size"' in path.read_text())
    settings = json.loads(path.read_text())
    settings.get("image_processor", settings)[name] = value
    path.write_text(json.dumps(settings))
    assert says in said(load_processor, base[0])


def test_weights_that_lack_a_tensor_are_refused_where_transformers_draws_one(base):
    tensors = load_file(base[1] / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, base[1] / "model.safetensors", metadata={"format": "pt"})
    own_name = name.replace("model.layers", "model.language_model.layers")  # transformers reads the files' older names, too
    assert f"lack 1 tensors that its config.json asks for, first {own_name}; download the whole model" in said(load_model, base[0])


def test_weights_of_another_shape_are_one_line(base):
    config = json.loads((base[1] / "config.json").read_text())
    change_json(base[1] / "config.json", text_config={**config["text_config"], "intermediate_size": 456})
    assert said(load_model, base[0]).startswith(f"model_name: {base[1]} can't be loaded (")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_base_that_is_not_finite_is_refused(base, value):
    change_tensor(base[1] / "model.safetensors", value)
    message = said(load_model, base[0])
    assert message.startswith(f"model_name: {base[1]}: 1 of ") and message.endswith("; download the model again")


@pytest.mark.parametrize(
    "raised", [ImportError("Loading a GPTQ quantized model requires optimum"), RuntimeError("Reader failed\nat 1"), KeyError("qwen9")]
)
def test_whatever_a_library_raises_while_it_loads_is_one_line(base, monkeypatch, raised):
    def fails(*_, **__):
        raise raised

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", fails)
    assert said(load_model, base[0]).startswith(f"model_name: {base[1]} can't be loaded ({str(raised).splitlines()[0]}); give")


def test_a_disk_that_fills_while_a_model_is_fetched_is_not_its_fault(base, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", fails)
    assert said(load_model, base[0]).startswith("no space left on the disk of ")


def test_memory_is_told_by_whoever_knows_what_to_lower(base, monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", fails)
    with pytest.raises(UserError, match="^out of memory; lower it$"), errors_explained("lower it"):
        load_model(base[0])


@given(st.lists(st.floats(width=16), max_size=4), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_not_finite_is_what_python_says(values, dtype):
    tensors = {"a": torch.tensor(values, dtype=dtype), "b": torch.ones(2, 3)}
    assert not_finite(tensors) == (["a"] if any(not math.isfinite(float(number)) for number in tensors["a"]) else [])


# --- the device


@pytest.mark.parametrize(
    "kind, bf16, has, expected",
    [
        ("cpu", True, False, torch.float32),
        ("cuda", False, False, torch.float32),
        ("cuda", True, True, torch.bfloat16),
        ("cuda", True, False, torch.float16),
        ("mps", True, False, torch.bfloat16),
    ],
)
def test_precision_is_what_device_and_configuration_have(experiment, monkeypatch, kind, bf16, has, expected):
    monkeypatch.setattr(load, "device", lambda: torch.device(kind))
    monkeypatch.setattr(load, "cuda_card", lambda: Card("Some card", (8, 6), has, KERNELS))
    cfg = experiment[0]
    assert compute_dtype(cfg.model_copy(update={"train": cfg.train.model_copy(update={"bf16": bf16})})) == expected


OLDER = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")


@pytest.mark.parametrize(
    "name, capability, bf16, kernels, expected",
    [
        ("Tesla T4", (7, 5), False, KERNELS, torch.float16),
        ("Tesla V100", (7, 0), False, OLDER, torch.float16),
        ("Tesla V100", (7, 0), False, KERNELS, "7.0, and torch .* has kernels from 7.5 on; install a torch for an older CUDA"),
        ("Tesla P100", (6, 0), False, OLDER[2:], "Tesla P100 is of compute capability 6.0, and torch .* has kernels from 7.0 on"),
        ("RTX 3090", (8, 6), True, KERNELS, torch.bfloat16),
        ("H100", (9, 0), True, KERNELS, torch.bfloat16),
        ("RTX 5090", (12, 0), True, KERNELS, torch.bfloat16),
        ("MI250X", (9, 0), True, ("gfx90a", "gfx942"), torch.bfloat16),
    ],
)
def test_half_precision_is_what_the_card_computes_in(name, capability, bf16, kernels, expected):
    card = Card(name, capability, bf16, kernels)
    if isinstance(expected, torch.dtype):
        assert half_precision(card) == expected
    else:
        with pytest.raises(UserError, match=expected):
            half_precision(card)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_card_without_kernels_is_told_before_the_weights(base, weights_unread, monkeypatch, bf16):
    monkeypatch.setattr(load, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(load, "cuda_card", lambda: Card("GeForce GTX 1080", (6, 1), False, KERNELS))
    cfg = base[0].model_copy(update={"train": base[0].train.model_copy(update={"bf16": bf16})})
    for call in (check_base, load_model):
        assert said(call, cfg).startswith("GeForce GTX 1080 is of compute capability 6.1, and torch ")


def test_a_card_without_bfloat16_is_said_and_asked_once(base, monkeypatch):
    """Processes that load images ask for its precision, too, and a forked one that starts CUDA ends."""
    load.cuda_card.cache_clear()
    asked = []
    monkeypatch.setattr(load, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: asked.append("name") or "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(KERNELS))
    assert precision_note(base[0]) == (
        "note: Tesla T4 has no bfloat16; it computes in float16, and training scales the loss so that gradients don't vanish"
    )
    assert compute_dtype(base[0]) == torch.float16 and asked == ["name"]
    load.cuda_card.cache_clear()


# --- an adapter


def test_an_adapter_that_fits_loads(base, adapter):
    model, _ = load_model(base[0], adapter)
    saved = load_file(adapter / "adapter_model.safetensors")
    loaded = model.state_dict()
    for name, tensor in saved.items():
        assert torch.equal(loaded[name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")], tensor)


@pytest.mark.parametrize("change", [{"r": 8}, {"target_modules": ["q_proj"]}, {"target_modules": "no_such_layer"}, {"peft_type": "NONE"}])
def test_an_adapter_of_another_shape_is_told_before_the_weights(base, adapter, weights_unread, change):
    change_json(adapter / "adapter_config.json", **change)
    message = said(load_model, base[0], adapter)
    assert message.startswith(f"adapter {adapter} ") and ("does not fit the model" in message or "can't be loaded (" in message)


def test_an_adapter_of_a_larger_model_is_told_before_the_weights(base, adapter, weights_unread):
    tensors = load_file(adapter / "adapter_model.safetensors")
    wide = {name: torch.zeros(tensor.shape[0], 2 * tensor.shape[1]) if "lora_A" in name else tensor for name, tensor in tensors.items()}
    save_file(wide, adapter / "adapter_model.safetensors")
    assert f"adapter {adapter} does not fit the model: {len(tensors) // 2} tensors missing or alien" in said(load_model, base[0], adapter)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite_is_told_before_the_weights(base, adapter, weights_unread, value):
    name = change_tensor(adapter / "adapter_model.safetensors", value)
    message = said(load_model, base[0], adapter)
    assert message.startswith(str(adapter / "adapter_model.safetensors")) and f"NaN or infinity, first {name}" in message


# --- what a machine lacks, by the words of torch and the system


@pytest.mark.parametrize(
    "raised, expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory; lower it"),
        (MemoryError(), "out of memory; lower it"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory; lower it"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory; lower it"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "out of memory; lower it"),
        (
            RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 985728 vs 985620"),
            "no space left on the disk of here: ",
        ),
        (RuntimeError("PytorchStreamWriter failed writing file data/7: file write failed"), "no space left on the disk of here: "),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk of here: "),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "no space left on the disk of here: ",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x/optimizer.pt"), "no space left on the disk of /x/optimizer.pt: "),
        (OSError(errno.ENOSPC, "No space left on device", "/dev/shm/torch_1"), "shared memory is too small (/dev/shm has "),
        (
            RuntimeError("unable to write to file </torch_12_3_0>: No space left on device (28)"),
            "shared memory is too small (/dev/shm has ",
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that its workers are out of shared memory."
            ),
            "shared memory is too small (/dev/shm has ",
        ),
        (
            RuntimeError("\"addmm_impl_cpu_\" not implemented for 'BFloat16'"),
            "train.bf16: this device has no bfloat16; set train.bf16=false",
        ),
        (TypeError("BFloat16 is not supported on MPS"), "train.bf16: this device has no bfloat16; set train.bf16=false"),
    ],
)
def test_what_a_machine_lacks_is_one_line(raised, expected):
    def fails():
        with errors_explained("lower it", "here"):
            raise raised

    assert said(fails).startswith(expected)
    if expected.startswith("shared memory") and os.path.isdir("/dev/shm"):
        held = os.statvfs("/dev/shm")
        assert f"(/dev/shm has {held.f_blocks * held.f_frsize / 1024 / 1024:,.0f} MiB): set train.num_workers=0, or " in said(fails)


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("a shape does not fit"),
        ValueError("no"),
        FileNotFoundError(2, "No such file", "/dev/shm/x"),
        KeyError("memory"),
        UserError("mine"),
    ],
)
def test_other_errors_stay_what_they_are(raised):
    with pytest.raises(type(raised)) as error, errors_explained("lower it"):
        raise raised
    assert error.value is raised


def test_a_loading_process_that_the_kernel_ended_is_out_of_memory():
    """torch raises the second error where it was waiting for the process, with the first as its cause."""
    with pytest.raises(UserError, match="out of memory; lower it"), errors_explained("lower it"):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(UserError, match="out of memory"), errors_explained("lower it"):
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly") from RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Killed. "
        )
    with pytest.raises(RuntimeError, match="shape"), errors_explained("lower it"):
        raise RuntimeError("a shape does not fit")


def test_out_of_memory_is_one_line_with_the_keys():
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried…"), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        with pytest.raises(UserError, match="out of memory; lower train.train_bs"):
            with errors_explained("lower train.train_bs"):
                raise error
    with pytest.raises(RuntimeError, match="shapes"):
        with errors_explained("lower train.train_bs"):
            raise RuntimeError("shapes do not match")


def test_attention_that_plans_anew_for_every_shape_is_off(experiment):
    torch.backends.cuda.enable_cudnn_sdp(True)
    load.load_model(experiment[0])
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_weights_go_straight_to_their_device(experiment, monkeypatch):
    """Not through a copy in memory: each process of a node would have one."""
    asked = []
    loaded = load.from_pretrained
    monkeypatch.setattr(load, "from_pretrained", lambda *args, **kwargs: asked.append(kwargs.get("device_map")) or loaded(*args, **kwargs))
    load.load_model(experiment[0])
    assert asked[-1] == {"": torch.device("cpu")}


def test_memory_of_changing_sizes_stays_in_one_piece():
    """The user's own setting stays, under either name."""
    empty, users, older = {}, {"PYTORCH_ALLOC_CONF": "backend:native"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}
    for environ in (empty, users, older):
        load.keep_memory_in_one_piece(environ)
    assert empty == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert users == {"PYTORCH_ALLOC_CONF": "backend:native"} and older == {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}
    assert os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"), "done as model.load is imported"


# --- as training and prediction load them


def test_dropout_is_drawn_in_training_and_never_in_prediction(experiment, tmp_path):
    """The shipped model as the two scripts load it: a training step's loss is another each time, an answer's probability the same."""
    cfg, rows = experiment
    cfg = cfg.model_copy(update={"lora": cfg.lora.model_copy(update={"dropout": 0.5})})
    model, processor = load_model(cfg, phase="train")
    weights = next(base_model(model).model.visual.parameters())
    assert base_model(model).config._attn_implementation == "sdpa" and weights.dtype == compute_dtype(cfg)
    assert processor.image_processor.size["longest_edge"] == 12544
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
        data = load_dataset(rows, processor, cfg, training=True)
        inputs = training_inputs(model, data.collate([data[0]]))
        first, second = (answer_loss(model(**inputs), None) for _ in range(2))
    assert first != second
    save_adapter(model, tmp_path / "adapter", experiment_facts(cfg, {}))
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert told == "data/demo/tiny-qwen2-vl", "no folder of this machine, which whoever gets the adapter would read"
    loaded, asked = load_model(cfg, tmp_path / "adapter")[0], load_dataset(rows[:1], processor, cfg, supervised=False)
    first, second = (next(iter(answer_questions(loaded, asked, cfg, "exact", 4)))[0][1] for _ in range(2))
    assert first.logprob == second.logprob


def test_a_model_that_is_not_there_is_one_line(experiment):
    with pytest.raises(UserError, match="model_name: nobody/nothing can't be loaded") as error:
        load_processor(experiment[0].model_copy(update={"model_name": "nobody/nothing"}))
    assert "\n" not in str(error.value)


def test_pixel_limits_reach_the_processor(tmp_path):
    cfg, rows = make_experiment(tmp_path, questions=(1,), sizes=[(300, 200)], **{"image.max_pixels": 50176, "image.min_pixels": 12544})
    processor = load_processor(cfg)
    assert dict(processor.image_processor.size) == {"shortest_edge": 12544, "longest_edge": 50176}, "which a merged model's folder says"
    data = load_dataset(rows, processor, cfg)
    assert data[0]["image_grid_thw"].tolist() == [[1, 12, 18]]  # 300 x 200 -> 252 x 168 pixels
