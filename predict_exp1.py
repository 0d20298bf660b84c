"""Stage 3: answer the questions of a split.

    python predict_exp1.py --config config_demo.yaml                 validation split, the trained adapter
    python predict_exp1.py --split test --adapter none predict.decoding=free        the untuned model, unconstrained
    torchrun --nproc_per_node=4 predict_exp1.py                      four processes share the images
    python predict_exp1.py --image FILE --question "Is there a polyp?"              one question; --interactive for more; a clip's
                                                                                    frames: --image FILE FILE …
    python predict_exp1.py --perturb all                             also with other, black and spoilt pictures and in other words

Reads the rows of data.<split>_jsonl and output_dir/adapter; writes output_dir/predictions.jsonl (another split or adapter:
predictions_<split>_<adapter>.jsonl) and, beside it, a .meta.json with the ids it was asked for, how it answered and from what. A run
that was killed goes on where it was when it is started again; predictions that are there are not made twice, and others made from
something else are replaced with --overwrite only. What --perturb NAME makes lies beside the plain predictions, as <their name>_NAME,
for eval_exp1.py --robustness; strengths are in data/perturbations.yaml.
"""

import re
from pathlib import Path

from config import SPLITS, argument_parser, check_environment, command_line, load_config, near
from data.contents import CACHE, weights_hash
from data.perturb import perturbations
from files import heed_signals, run_script
from model.on_disk import check_adapter_folder, check_model_folder, refuse_other_base
from prediction.setup import adapter_folder, image_file, output_path, space_of

OVERRIDE = re.compile(r"[A-Za-z_.]+=")


def parse_arguments():
    parser = argument_parser("Answer the questions of a split.", epilog=__doc__)
    parser.add_argument("--split", default="val", choices=SPLITS)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder, or `none` for the untuned model (default: output_dir/adapter)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows; evaluation will call it partial")
    parser.add_argument("--out", metavar="PATH", help="where the predictions go")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace predictions that were made from something else, or make them anew"
    )
    parser.add_argument("--perturb", nargs="+", default=[], metavar="NAME", help=f"also: {', '.join(perturbations())}; or all")
    parser.add_argument("--image", nargs="+", metavar="FILE", help="ask about this image, or these in order, instead of a split")
    parser.add_argument("--question", metavar="TEXT", help="the question about it")
    parser.add_argument("--candidates", metavar="A,B,C", help="its valid answers, by commas (default: what the answer space knows)")
    parser.add_argument("--interactive", action="store_true", help="read more questions from the terminal")
    args = parser.parse_intermixed_args()
    keys = [name for name in args.image or () if OVERRIDE.match(name) and not Path(name).is_file()]
    if keys:  # after a list of files overrides look like more of them
        args.image, args.overrides = [name for name in args.image if name not in keys], [*keys, *args.overrides]
    args.overrides += [text for text in args.perturb if OVERRIDE.match(text)]
    args.perturb = [name for name in args.perturb if not OVERRIDE.match(name)]
    if unknown := [name for name in args.perturb if name not in {*perturbations(), "all"}]:
        parser.error(f"--perturb {unknown[0]}: give some of {', '.join(perturbations())}, or all")
    args.perturb_all = "all" in args.perturb
    args.perturb = [name for name in perturbations() if args.perturb_all or name in args.perturb]
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if args.question and not args.image:
        parser.error("--question needs --image FILE")
    if args.image and not (args.question or args.interactive):
        parser.error("--image needs --question TEXT or --interactive")
    if args.candidates and not (args.question or args.interactive):
        parser.error("--candidates needs --question TEXT or --interactive")
    if args.perturb and args.image:
        parser.error("--perturb is about a split; leave --image out")
    return args


def check_inputs(cfg, args, adapter, asking):
    """Raise UserError for a file or folder that is not there, or not whole; `args.image` becomes a list of paths."""
    args.image = [image_file(cfg, name) for name in args.image or ()]
    if not asking:
        cfg.split_path(args.split)
        cfg.image_folder()
    check_model_folder(cfg.model_name)
    if adapter:
        check_adapter_folder(adapter)
        for note in refuse_other_base(adapter, cfg.model_name, weights_hash(cfg.model_name, cfg.output_dir / "data" / CACHE)):
            print(note)


def main():
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    check_environment(cfg)
    asking = args.question or args.interactive
    if not asking:
        heed_signals(lambda: f"go on with: {command_line()}")
    adapter = adapter_folder(cfg, args.adapter)
    check_inputs(cfg, args, adapter, asking)
    space = space_of(cfg, adapter)
    out = None if asking else output_path(cfg, args.split, adapter, args.out)

    # torch and transformers take seconds: what the user mistyped is said before
    from transformers import set_seed

    from data import asked
    from data.images import check_image
    from data.preprocess import answer_rules
    from data.stages import prompts_say
    from model.adapter import check_adapter, experiment_facts
    from model.forward import why_rows_stay_plain
    from model.load import check_base, errors_explained, load_model, load_processor
    from prediction.ask import ask, split_candidates
    from prediction.run import answer_split, free_limit

    for path in args.image:
        check_image(path)
    args.candidates = split_candidates(args.candidates)
    if adapter:
        check_adapter(adapter, experiment_facts(cfg, answer_rules(space, asked.load(adapter)), prompts_say(cfg.data)))
    model_config = check_base(cfg)
    plain = why_rows_stay_plain(model_config)
    if plain and cfg.predict.decoding == "exact":
        print(f"note: {cfg.model_name} {plain}; its questions are answered one by one, greedily, and have no confidence")
    set_seed(cfg.train.seed)
    processor = load_processor(cfg)
    limit = free_limit(cfg, processor.tokenizer, adapter)
    if asking:
        with errors_explained("lower image.max_pixels"):
            return ask(load_model(cfg, adapter)[0], processor, cfg, space, args, limit)
    if answer_split(cfg, args, adapter, space, limit, model_config, processor, out):  # in one process of several
        options = ["--predictions", near(out), "--against", near(cfg.split_path(args.split)), *["--robustness"] * bool(args.perturb)]
        print(f"next: {cfg.command('eval_exp1.py', *options)}")


if __name__ == "__main__":
    run_script(main)
