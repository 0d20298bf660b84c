"""What a prediction starts from: adapter, answer space, an image to ask about, and where its answers go. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from pathlib import Path

from config import PublicNames, code_facts, flat, near, resolve_path
from data import answer_space, corrections
from data.contents import CACHE, picture_hashes
from data.image_names import spelled, twin, why_no_file
from data.preprocess import training_space
from data.rows import read_rows
from files import UserError, hash_of, quoted, sha256, short

DECIDING = dict.fromkeys(("model_name", "quantization", "prompt_style", "prompt", "answer_prefix", "image", "predict"), True)
DECIDING["data"] = {"max_listed", "max_frames", "stages", "stage_prefix"}  # configuration beside the rows and the adapter
# Of it: how much is computed at once, which changes last digits alone, and where the model lies, whose files are compared.
FREE = {"predict.batch_size", "predict.tokens_per_row", "model_name"}


def adapter_folder(cfg, argument):
    """The adapter to use: output_dir/adapter by default, None for `none`."""
    if argument == "none":
        return None
    folder = resolve_path(argument, cfg.config_path.parent) if argument else cfg.output_dir / "adapter"
    if not folder.is_dir():
        train = cfg.command("train_exp1.py")
        raise UserError(f"adapter {folder} does not exist; train first: {train}, or give --adapter PATH or --adapter none")
    return folder


def output_path(cfg, split, adapter, argument):
    """Where predictions go: `--out`, or predictions.jsonl for the default split and adapter, or a name that tells them."""
    if argument:
        if not argument.endswith(".jsonl"):
            raise UserError(f"--out {argument}: predictions are JSONL; let the name end in .jsonl")
        return resolve_path(argument, cfg.config_path.parent, writing=True)
    if split == "val" and adapter == cfg.output_dir / "adapter":
        return cfg.output_dir / "predictions.jsonl"
    name = "none" if adapter is None else adapter.name
    if adapter is not None and adapter.parent != cfg.output_dir:  # another run's: its folder tells it from this one's
        name = f"{adapter.parent.name}_{name}"
    return cfg.output_dir / f"predictions_{split}_{name}.jsonl"


def space_of(cfg, adapter):
    """The answer space that the adapter's training saw; without an adapter, that of the training file.

    Prediction with an adapter reads no training file: rows that were enriched with another space are enriched anew.
    """
    if adapter is None:
        return training_space(cfg)
    if not (adapter / answer_space.SPACE_FILE).is_file():
        raise UserError(f"adapter {adapter} has no {answer_space.SPACE_FILE}; train it with train_exp1.py")
    return answer_space.load(adapter / answer_space.SPACE_FILE)


def facts_of_files(cfg, split, adapter):
    """Of what decides predictions (`prediction.run.run_facts`) that which files say: {name: value or {name: value}}."""
    source = cfg.split_path(split)
    images = picture_hashes(read_rows(source, need_answer=False), cfg.image_folder(), cfg.output_dir / "data" / CACHE)
    settings = flat(cfg.model_dump(mode="json", include=DECIDING))
    settings |= {"train.bf16": cfg.train.bf16, "train.seed": cfg.train.seed}
    return {
        "adapter": sha256(*sorted(path for path in adapter.iterdir() if path.is_file())) if adapter else "none",
        "config": PublicNames(cfg).facts({key: value for key, value in settings.items() if key not in FREE}),
        "data file": sha256(source),
        **corrections.fingerprint(corrections.corrections_for(cfg.data, source)),
        "image files": hash_of(images),
        "code": code_facts("enrich") | code_facts("predict"),
    }


def image_file(cfg, name, said_by="--image"):
    """Path of an image that the user names: in the working directory, the config's folder or data.image_root, where rows find theirs."""
    if why := why_no_file(name):
        raise UserError(f"{said_by} {quoted(name)}: {why}")
    folders = (cfg.config_path.parent, *([cfg.data.image_root] if cfg.data.image_root else []))
    path = next((path for folder in folders if (path := resolve_path(name, folder)).is_file()), None)
    if path is None:
        paths = [str(Path(folder).absolute() / name) for folder in (Path(), *folders)]
        meant = next((f"; is {spelled(path, there)} meant?" for path in paths if (there := twin(path))), "")
        raise UserError(f"{said_by} {short(name)}: there is no such file, neither here nor in {' or '.join(map(near, folders))}{meant}")
    return path
