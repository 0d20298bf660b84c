"""What lies on disk of a model or an adapter, looked at without loading it: is it there, whole, and the thing itself? No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from config import ImageConfig, PromptConfig
from files import UserError, quoted, read_json, refuse_pointer, short

FAMILIES = yaml.safe_load(Path(__file__).with_name("families.yaml").read_text(encoding="utf-8"))  # model_type: name, vision, sizes
DOWNLOAD, COPY = "download it again", "copy the adapter again, or train it anew"
CONFIG_FILE, WEIGHTS_FILE, EXPERIMENT_FILE = "adapter_config.json", "adapter_model.safetensors", "experiment.json"  # of an adapter
# What adapters were trained with that don't say.
EARLIER = {"prompt": PromptConfig().model_dump(), "max_frames": None, "quantization": "none", "cascade": "none"}
EARLIER["stage_prefix"] = "keep"
# The kinds of what is read of an adapter's EXPERIMENT_FILE, where it says it.
FACTS = {"model_name": str, "image": dict, "answer_rules": dict | None, "base_weights": str | None, "base_revision": str | None}
FACTS |= {"base_source": str, "longest_answer": int, "trained_on": list, "best": dict}
# What a model's folder needs: of each line, all files of one of the alternatives.
PROCESSOR_FILES = (
    (("config.json",),),
    (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",)),
    (("preprocessor_config.json",), ("processor_config.json",)),
)


def refuse_other_family(model_name, config):
    """Raise UserError unless a model's config.json (a dict) is that of one of FAMILIES."""
    family = config.get("model_type")
    if family not in FAMILIES:
        known = ", ".join(f"{entry['name']} ({name})" for name, entry in FAMILIES.items())
        raise UserError(f"model_name: {model_name} is of the family {short(family)}, supported are {known}; give a model of one of these")


def check_model_folder(model_name, weights=True):
    """Raise UserError where a model's folder lacks a file, or holds one that is cut off or a Git LFS pointer, or is of no known family.

    A hub id is taken as it is: the hub's client compares what it downloads. weights: whether they are wanted, too.
    """
    folder = Path(model_name)
    if not folder.is_dir():
        return
    for alternatives in PROCESSOR_FILES:
        if not any(all((folder / name).is_file() for name in names) for names in alternatives):
            raise UserError(f"model_name: {folder} has no {alternatives[0][0]}; download the whole model, or copy that file from its base")
    if weights:
        for name in _weight_files(folder):
            if not (folder / name).is_file():
                raise UserError(f"model_name: {folder} has no {name}; download the whole model")
    _refuse_damaged(folder, DOWNLOAD)
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except ValueError:  # transformers says what is wrong
        return
    if isinstance(config, dict):
        refuse_other_family(model_name, config)


def check_adapter_folder(folder):
    """Raise UserError where an adapter's folder lacks a file, or holds one that is cut off or a Git LFS pointer."""
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder} has no {name}; train one with train_exp1.py or give --adapter none")
    _refuse_damaged(folder, COPY)
    read_object(folder / CONFIG_FILE)


def read_object(path, remedy=COPY):
    """The dict that a JSON file holds. Raises UserError where it holds something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a {type(value).__name__}, not the object that was written; {remedy}")
    return value


def adapter_facts(folder):
    """What an adapter says of its training (a dict), and EARLIER of what older ones don't. Raises UserError where it says nothing."""
    path = Path(folder) / EXPERIMENT_FILE
    if not path.is_file():
        raise UserError(f"adapter {folder} has no {EXPERIMENT_FILE}; train it with train_exp1.py")
    facts = read_object(path)
    for key, kind in FACTS.items():
        if key in facts and not isinstance(facts[key], kind):
            raise UserError(f"{path}: {key} is {quoted(facts[key])}, which no training wrote; {COPY}")
    try:
        ImageConfig(**facts.get("image", {}))
    except (ValidationError, TypeError):
        raise UserError(f"{path}: image is {quoted(facts['image'])}, which no training wrote; {COPY}") from None
    return {**EARLIER, **facts}


def refuse_other_base(folder, model_name, weights):
    """Raise UserError where the adapter in a folder was trained on another model than `model_name`; return lines (a list) for people.

    Models are told by their weights (data.contents.weights_hash; None: not known), and by name where that of one is not known.
    """
    saved = adapter_facts(folder)
    name, was = saved.get("model_name"), saved.get("base_weights")
    if was and weights:
        if was != weights:
            raise UserError(
                f"adapter {folder} was trained on other weights ({name}) than those of {model_name}; give the model that it was trained "
                "on, model_name=PATH, or train anew"
            )
        return []
    if name != Path(model_name).name:
        raise UserError(
            f"adapter {folder} was trained with model_name={json.dumps(name)}, this run has {json.dumps(Path(model_name).name)}; "
            "use the model it was trained with, or train anew"
        )
    why = "the model's are not on this machine yet" if was else "the adapter does not say which, as older code wrote it"
    return [f"note: adapter {folder} and model are compared by name ({name}), not by weights: {why}"]


def _weight_files(folder):
    """Names of the files that hold a model's weights: the shards of an index, what is there, or what is wanted."""
    for index in sorted(folder.glob("*.index.json")):
        return shards(index)
    return [path.name for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)] or ["model.safetensors"]


def shards(index):
    """Names of the files that a model's `*.index.json` tells of, sorted. Raises UserError where it tells of none."""
    names = read_object(index, DOWNLOAD).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) and Path(name).name == name for name in names.values()):
        raise UserError(f"{index}: has no weight_map, which names the files of the weights; {DOWNLOAD}")
    return sorted(set(names.values()))


def _refuse_damaged(folder, remedy):
    for path in sorted(folder.iterdir()):
        if path.is_file():
            refuse_pointer(path, remedy)
            if path.suffix == ".safetensors":
                safetensors_header(path, remedy)


def safetensors_header(path, remedy=DOWNLOAD):
    """{tensor name: {"dtype", "shape", "data_offsets"}} of a safetensors file. Raises UserError where it is cut off, or none.

    The format: 8 bytes, the header's length; the header, JSON; the tensors (https://github.com/huggingface/safetensors).
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else {}
            header.pop("__metadata__", None)
            whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise UserError(f"{path}: is no safetensors file; {remedy}") from None
    if size != whole:
        raise UserError(f"{path}: is not whole, {size:,} bytes of {whole:,}; {remedy}")
    return header
