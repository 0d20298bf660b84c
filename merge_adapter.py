"""Merge an adapter into its base model: a folder that plain transformers, vLLM and others load without PEFT.

    python merge_adapter.py --adapter outputs/adapter --out merged/
    python merge_adapter.py --adapter outputs/adapter --out merged/ model_name=models/Qwen2-VL-7B-Instruct       a base that was moved

The adapter knows its base model and the pixel limits of its training, so no --config is needed; one is only asked where output_dir
is. The merged model answers what base and adapter answer; with --dtype float32 to the last digits, and else up to the rounding of
the base's own precision (bfloat16 for Qwen2-VL). An adapter can also be served unmerged: its tensors bear the names of
transformers' modules (`base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight`), which PEFT loads as they are
and vLLM maps to its `language_model.model.layers…` when it is given --enable-lora.
"""

from pathlib import Path

from config import (
    ImageConfig,
    PromptConfig,
    PublicNames,
    argument_parser,
    check_transformers,
    command_line,
    environment_facts,
    load_config,
    near,
    now,
    resolve_path,
)
from data.contents import base_facts, weights_hash
from files import UserError, heed_signals, run_script, sha256
from model.on_disk import (
    CONFIG_FILE,
    EXPERIMENT_FILE,
    WEIGHTS_FILE,
    adapter_facts,
    check_adapter_folder,
    check_model_folder,
    read_object,
    refuse_other_base,
)
from prediction.setup import adapter_folder


def as_trained(cfg, adapter):
    """The configuration with the base model, the prompt and the pixel limits of the adapter's training. `model_name=` in the command wins.

    Raises UserError where that is another model, or none lies there.
    """
    saved, base = adapter_facts(adapter), str(read_object(adapter / CONFIG_FILE).get("base_model_name_or_path") or "")
    if lacking := [key for key in ("model_name", "image") if key not in saved]:
        raise UserError(f"adapter {near(adapter)}: its {EXPERIMENT_FILE} does not say {lacking[0]}; copy the adapter again")
    base = base or saved["model_name"]  # of an adapter whose config was edited
    given = any(override.startswith("model_name=") for override in cfg.overrides)
    there = cfg.find(base, adapter.parent)
    a_path = Path(base).is_absolute() or Path(base).parts == (saved["model_name"],)  # not a hub id
    if given or not there and Path(cfg.model_name).name == saved["model_name"]:
        base = cfg.model_name
    elif there:
        base = str(there)
    elif a_path:
        raise UserError(f"adapter {near(adapter)} was trained on {base}, which is not there; say where it is now: model_name=PATH")
    check_model_folder(base)
    for note in refuse_other_base(adapter, base, weights_hash(base)):
        print(note)
    trained = {"model_name": base, "image": ImageConfig(**saved["image"]), "prompt": PromptConfig(**saved["prompt"])}
    return cfg.model_copy(update={**trained, "prompt_style": saved["prompt_style"], "answer_prefix": saved["answer_prefix"]})


def merged_from(cfg, adapter):
    """What a merged model says of its making: date, base model, adapter (by the hash of its weights), versions and commit."""
    facts = {"date": now(), "model_name": PublicNames(cfg).path(cfg.model_name), **base_facts(cfg.model_name, None)}
    return {**facts, "adapter_sha256": sha256(adapter / WEIGHTS_FILE), **environment_facts()}


def main():
    parser = argument_parser("Merge an adapter into its base model.", epilog=__doc__)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder (default: output_dir/adapter)")
    parser.add_argument("--out", metavar="PATH", required=True, help="the merged model's folder, which must not exist")
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"], help="precision (default: the base's)"
    )
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    check_transformers()
    heed_signals(lambda: f"nothing was written; start again with: {command_line()}")
    adapter = adapter_folder(cfg, args.adapter)
    if adapter is None:
        raise UserError("--adapter none: there is nothing to merge; give an adapter folder")
    out = resolve_path(args.out, cfg.config_path.parent, writing=True)
    if out.exists():
        raise UserError(f"--out {out} exists already; give a new folder")
    check_adapter_folder(adapter)
    cfg = as_trained(cfg, adapter)

    # torch and transformers take seconds: what the user mistyped is said before
    from model.load import errors_explained
    from model.merge import merge
    from prediction.merged import difference_of, logits_before_merging, rows_to_compare

    with errors_explained("merge on a machine with memory for the whole model", out.parent):
        rows, why = rows_to_compare(cfg, adapter) if adapter_facts(adapter)["quantization"] == "nf4" else (None, None)
        before = logits_before_merging(cfg, adapter, rows) if rows else None
        merged = merge(cfg, adapter, out, args.dtype, merged_from(cfg, adapter))
        print(f"wrote {near(adapter)} merged into {cfg.model_name} to {near(out)}")
        if rows:
            print(difference_of(before, merged, rows))
    if why:
        print(f"note: the adapter was trained on the base in nf4, so merged it answers a little differently; {why}")


if __name__ == "__main__":
    run_script(main)
