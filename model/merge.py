"""An adapter merged into its base model, for programs that know no PEFT."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python merge_adapter.py --out FOLDER")

from files import write_json
from model.adapter import load_adapter, refuse_not_finite
from model.folders import whole_folder
from model.load import load_base

MERGED_FROM = "merged_from.json"
# Instead of the base's sampling and repetition penalty, which change answers. vLLM heeds no do_sample: one token to choose from is
# the likeliest everywhere.
LIKELIEST = {"do_sample": True, "top_k": 1, "top_p": 1.0, "temperature": 1.0, "repetition_penalty": 1.0}


def merge(cfg, adapter, out, dtype="auto", facts=None):
    """Write base model and adapter as one model to `out`, with its processor, set to say the likeliest token; return the model.

    dtype: name of a torch dtype, `auto` for that of the base's files, which are read whole, whatever `quantization` the adapter was
    trained with. facts: of what is merged, written beside it as MERGED_FROM. The folder appears when all is written.

    Raises UserError where the base can't be loaded, the adapter doesn't fit,
    or a weight of either or of their sum isn't finite.
    """
    model, processor = load_base(cfg, dtype, adapter)
    merged = load_adapter(model, adapter).merge_and_unload()
    refuse_not_finite(dict(merged.named_parameters()), f"{adapter} merged in {merged.dtype}", "give --dtype float32")
    for name, value in LIKELIEST.items():
        setattr(merged.generation_config, name, value)
    with whole_folder(out) as staged:
        merged.save_pretrained(staged)
        processor.save_pretrained(staged)
        if facts:
            write_json(staged / MERGED_FROM, facts)
    return merged
