"""An adapter merged into its base model, for programs that know no PEFT."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python merge_adapter.py --out FOLDER")

import shutil

from transformers import AutoModelForImageTextToText

from model.adapter import load_adapter
from model.load import from_pretrained, load_processor

# Instead of the base's sampling and repetition penalty, which change answers. vLLM heeds no do_sample: one token to choose from is
# the likeliest everywhere.
LIKELIEST = {"do_sample": True, "top_k": 1, "top_p": 1.0, "temperature": 1.0, "repetition_penalty": 1.0}


def merge(cfg, adapter, out, dtype="auto"):
    """Write base model and adapter as one model to `out`, with its processor, set to say the likeliest token.

    dtype: name of a torch dtype, `auto` for that of the base's files. The folder appears when all is written. Raises UserError
    where the base can't be loaded.
    """
    processor = load_processor(cfg)  # says what is wrong with model_name
    model = from_pretrained(AutoModelForImageTextToText, cfg.model_name, dtype=dtype)
    merged = load_adapter(model, adapter).merge_and_unload()
    for name, value in LIKELIEST.items():
        setattr(merged.generation_config, name, value)
    temporary = out.with_name(f".{out.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    merged.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    temporary.rename(out)
