"""A base model whose language layers are held in four bits a weight: NF4 with double quantisation, by bitsandbytes.

As in QLoRA (Dettmers et al. 2023): the frozen matrices that LoRA stands beside are kept as 4-bit numbers, a block of 64 under one
scale, and are computed with in the usual precision, one matrix at a time. Vision tower, embeddings, norms and the output layer stay
as they are; so do the norms' precision and the gradients' way, which peft's `prepare_model_for_kbit_training` would change.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; set quantization=nf4")

from contextlib import contextmanager

from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize

KEPT = ["model.visual", "lm_head"]  # of what has matrices, in their own precision
BLOCK, BLOCKS = 64, 256  # weights under one scale, and scales under one of their own


def nf4_settings(dtype):
    """What `from_pretrained` takes to quantise weights as they are read, one by one. dtype: of torch, in which products are taken."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=KEPT,
    )


def nf4_bytes(sizes):
    """Bytes of a matrix of `sizes` (rows, columns) in NF4: half a byte a weight, its scales in a byte each, and what decodes both."""
    weights = sizes[0] * sizes[1]
    blocks = -(-weights // BLOCK)
    tables = 4 * (16 + 256 + 1)  # float32: the sixteen numbers, the scales' 256, their mean
    return -(-weights // 2) + blocks + 4 * -(-blocks // BLOCKS) + tables


def count(weight):
    """Numbers that a parameter holds; two of them are packed into a byte in NF4."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else state.shape.numel()


@contextmanager
def looked_at_before(look):
    """Call look({name: tensor}) with every weight that is quantised within, before it is: a NaN would be a number afterwards."""
    quantise = Bnb4bitQuantize.convert

    def convert(self, input_dict, *args, **kwargs):
        look({name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()})
        return quantise(self, input_dict, *args, **kwargs)

    Bnb4bitQuantize.convert = convert
    try:
        yield
    finally:
        Bnb4bitQuantize.convert = quantise


def keep_one_arithmetic(model):
    """Take bitsandbytes' shortcut for CPUs out, which computes in bfloat16 where there is no gradient, and leaves weights in a form
    through which none flows: validation would end the training."""
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
