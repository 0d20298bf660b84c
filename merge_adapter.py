"""Merge an adapter into its base model: a folder that plain transformers, vLLM and others load without PEFT.

    python merge_adapter.py --adapter outputs/adapter --out merged/

The merged model answers what base and adapter answer; with --dtype float32 to the last digits, and else up to the rounding of
the base's own precision (bfloat16 for Qwen2-VL). An adapter can also be served unmerged: its tensors bear the names of
transformers' modules (`base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight`), which PEFT loads as they are
and vLLM maps to its `language_model.model.layers…` when it is given --enable-lora.
"""

import shutil
from pathlib import Path

from transformers import AutoModelForImageTextToText

from config import argument_parser, check_transformers, load_config, resolve_path
from data.preprocess import answer_rules
from files import UserError, run_script
from model.load import check_adapter, experiment_facts, from_pretrained, load_adapter, load_processor, memory_errors_explained
from predict_exp1 import adapter_folder, space_of

# Instead of the base's sampling and repetition penalty, which change answers. vLLM heeds no do_sample: one token to choose from is
# the likeliest everywhere.
LIKELIEST = {"do_sample": True, "top_k": 1, "top_p": 1.0, "temperature": 1.0, "repetition_penalty": 1.0}


def merge(cfg, adapter, out, dtype="auto"):
    """Write base model and adapter as one model to `out`, with its processor, set to say the likeliest token.

    dtype: name of a torch dtype, `auto` for that of the base's files. The folder appears when all is written. Raises UserError
    where it is there already, or the base can't be loaded.
    """
    if out.exists():
        raise UserError(f"--out {out} exists already; give a new folder")
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


def main():
    parser = argument_parser("Merge an adapter into its base model.", epilog=__doc__)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder (default: output_dir/adapter)")
    parser.add_argument("--out", metavar="PATH", required=True, help="the merged model's folder, which must not exist")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"], help="precision (default: the base's)")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    check_transformers()
    adapter = adapter_folder(cfg, args.adapter)
    if adapter is None:
        raise UserError("--adapter none: there is nothing to merge; give an adapter folder")
    check_adapter(adapter, experiment_facts(cfg, answer_rules(space_of(cfg, adapter))))
    out = Path(resolve_path(args.out, cfg.config_path.parent, writing=True))
    with memory_errors_explained("merge on a machine with memory for the whole model"):
        merge(cfg, adapter, out, args.dtype)
    print(f"merged {adapter} into {cfg.model_name}: {out}")


if __name__ == "__main__":
    run_script(main)
