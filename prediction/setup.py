"""What a prediction starts from: adapter, answer space, an image to ask about, and where its answers go. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from config import near, resolve_path
from data import answer_space
from data.preprocess import training_space
from files import UserError


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


def image_file(cfg, name, said_by="--image"):
    """Path of an image that the user names: in the working directory, the config's folder or data.image_root, where rows find theirs."""
    folders = (cfg.config_path.parent, *([cfg.data.image_root] if cfg.data.image_root else []))
    path = next((path for folder in folders if (path := resolve_path(name, folder)).is_file()), None)
    if path is None:
        raise UserError(f"{said_by} {name}: there is no such file, neither here nor in {' or '.join(map(near, folders))}")
    return path
