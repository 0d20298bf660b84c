"""Merge an adapter into its base model: a folder that plain transformers, vLLM and others load without PEFT.

    python merge_adapter.py --adapter outputs/adapter --out merged/

The merged model answers what base and adapter answer; with --dtype float32 to the last digits, and else up to the rounding of
the base's own precision (bfloat16 for Qwen2-VL). An adapter can also be served unmerged: its tensors bear the names of
transformers' modules (`base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight`), which PEFT loads as they are
and vLLM maps to its `language_model.model.layers…` when it is given --enable-lora.
"""

from config import argument_parser, check_transformers, load_config, near, resolve_path
from files import UserError, run_script
from prediction.setup import adapter_folder, space_of


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
    adapter = adapter_folder(cfg, args.adapter)
    if adapter is None:
        raise UserError("--adapter none: there is nothing to merge; give an adapter folder")
    out = resolve_path(args.out, cfg.config_path.parent, writing=True)
    if out.exists():
        raise UserError(f"--out {out} exists already; give a new folder")

    # torch and transformers take seconds: what the user mistyped is said before
    from data.preprocess import answer_rules
    from model.adapter import check_adapter, experiment_facts
    from model.load import memory_errors_explained
    from model.merge import merge

    check_adapter(adapter, experiment_facts(cfg, answer_rules(space_of(cfg, adapter))))
    with memory_errors_explained("merge on a machine with memory for the whole model"):
        merge(cfg, adapter, out, args.dtype)
    print(f"wrote {near(adapter)} merged into {cfg.model_name} to {near(out)}")


if __name__ == "__main__":
    run_script(main)
