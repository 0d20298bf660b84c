"""Stage 3: answer the questions of a split.

    python predict_exp1.py --config config_demo.yaml                 validation split, the trained adapter
    python predict_exp1.py --split test --adapter none predict.decoding=free        the untuned model, unconstrained
    torchrun --nproc_per_node=4 predict_exp1.py                      four processes share the images
    python predict_exp1.py --image FILE --question "Is there a polyp?"              one question; --interactive for more

Reads the rows of data.<split>_jsonl and output_dir/adapter; writes output_dir/predictions.jsonl (another split or adapter:
predictions_<split>_<adapter>.jsonl) and, beside it, a .meta.json with the ids it was asked for and how it answered. A run that
was killed goes on where it was when it is started again.
"""

from config import SPLITS, argument_parser, check_transformers, load_config, near, resolve_path, save_run_info
from files import UserError, read_jsonl, run_script
from prediction.setup import adapter_folder, output_path, space_of


def parse_arguments():
    parser = argument_parser("Answer the questions of a split.", epilog=__doc__)
    parser.add_argument("--split", default="val", choices=SPLITS)
    parser.add_argument("--adapter", metavar="PATH", help="adapter folder, or `none` for the untuned model (default: output_dir/adapter)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N rows; evaluation will call it partial")
    parser.add_argument("--out", metavar="PATH", help="where the predictions go")
    parser.add_argument("--overwrite", action="store_true", help="drop an unfinished run that was made from something else")
    parser.add_argument("--image", metavar="FILE", help="ask about this image instead of a split")
    parser.add_argument("--question", metavar="TEXT", help="the question about it")
    parser.add_argument("--candidates", metavar="A,B,C", help="its valid answers, by commas (default: what the answer space knows)")
    parser.add_argument("--interactive", action="store_true", help="read more questions from the terminal")
    args = parser.parse_intermixed_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    if args.question and not args.image:
        parser.error("--question needs --image FILE")
    if args.image and not (args.question or args.interactive):
        parser.error("--image needs --question TEXT or --interactive")
    if args.candidates and not (args.question or args.interactive):
        parser.error("--candidates needs --question TEXT or --interactive")
    return args


def image_to_ask_about(cfg, name):
    """Path of --image: in the working directory, the config's folder or data.image_root."""
    folders = (cfg.config_path.parent, *([cfg.data.image_root] if cfg.data.image_root else []))
    path = next((path for folder in folders if (path := resolve_path(name, folder)).is_file()), None)
    if path is None:
        raise UserError(f"--image {name}: there is no such file, neither here nor in {' or '.join(map(str, folders))}")
    return path


def check_inputs(cfg, args, asking):
    """Raise UserError for a file or folder that is not there; `args.image` becomes a path."""
    if args.image:
        args.image = image_to_ask_about(cfg, args.image)
    if not asking:
        cfg.split_path(args.split)
        cfg.image_folder()


def main():
    args = parse_arguments()
    cfg = load_config(args.config, args.overrides)
    check_transformers()
    asking = args.question or args.interactive
    check_inputs(cfg, args, asking)
    adapter = adapter_folder(cfg, args.adapter)
    space = space_of(cfg, adapter)
    out = None if asking else output_path(cfg, args.split, adapter, args.out)

    # torch and transformers take seconds: what the user mistyped is said before
    from transformers import set_seed

    from data.images import check_image
    from data.preprocess import answer_rules, ensure_enriched
    from dataset import load_dataset
    from model.adapter import check_adapter, experiment_facts
    from model.forward import why_rows_stay_plain
    from model.load import load_model, load_model_config, load_processor, memory_errors_explained
    from prediction.ask import ask, split_candidates
    from prediction.decode import split_long_trees
    from prediction.run import describe, free_limit, predict, processes, run_facts, sidecar_facts
    from prediction.streaming import PredictionStream

    if args.image:
        check_image(args.image)
    args.candidates = split_candidates(args.candidates)
    if adapter:
        check_adapter(adapter, experiment_facts(cfg, answer_rules(space)))
    model_config = load_model_config(cfg)
    plain = why_rows_stay_plain(model_config)
    if plain and cfg.predict.decoding == "exact":
        print(f"note: {cfg.model_name} {plain}; its questions are answered one by one, greedily, and have no confidence")
    set_seed(cfg.train.seed)
    processor = load_processor(cfg)
    limit = free_limit(cfg, processor.tokenizer, adapter)
    if asking:
        with memory_errors_explained("lower image.max_pixels"):
            return ask(load_model(cfg, adapter)[0], processor, cfg, space, args, limit)

    state = processes()
    stream = PredictionStream(out, run_facts(cfg, args, adapter, space, limit, model_config), state.process_index)
    with state.main_process_first():  # one process enriches, checks images and repairs the stream, the others read
        all_rows = ensure_enriched(cfg, args.split, space)
        rows = all_rows[: args.limit]
        dataset = load_dataset(rows, processor, cfg, model_config, supervised=False)
        split_long_trees(dataset, cfg.predict.tokens_per_row)
        if state.is_main_process:
            stream.start(args.overwrite)
    with memory_errors_explained("lower predict.batch_size, predict.tokens_per_row or image.max_pixels"):
        model, _ = load_model(cfg, adapter)
        predict(model, dataset, cfg, limit, stream, state)
    if not state.is_main_process:
        return

    facts = sidecar_facts(cfg, args, rows, len(all_rows), adapter, space, limit)
    stream.finish(facts["ids"], lambda: save_run_info(out.with_suffix(".meta.json"), cfg, model.device, **facts))
    print(describe([row for _, row in read_jsonl(out)], limit))
    print(f"wrote {len(rows):,} predictions to {near(out)}")
    print(f"next: {cfg.command('eval_exp1.py', '--predictions', near(out), '--against', near(cfg.split_path(args.split)))}")


if __name__ == "__main__":
    run_script(main)
