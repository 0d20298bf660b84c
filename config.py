"""The typed configuration of every stage: one YAML file plus `section.key=value` overrides.

    cfg = load_config("config_exp1.yaml", ["train.lr=2e-4"])

Unknown keys and wrong types are errors that name the key. `extends: other.yaml` takes all of another file, and the keys beside it
come on top. Paths in a file are relative to the file in which they stand, paths on the command line to the working directory or,
if absent there, to the file's folder. `model_name` is such a path where a folder lies there, and else a hub id.
"""

from files import UserError, not_utf8, quoted, sha256, short, write_json  # first: from here on Ctrl-C and a missing package are one line

# isort: split
import argparse
import difflib
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import yaml
from packaging.version import Version
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

ROOT = Path(__file__).resolve().parent
DEFAULT_CONFIG = ROOT / "config_exp1.yaml"
SPLITS = ("train", "val", "test")
LANGUAGES = tuple(sorted(path.stem for path in (ROOT / "data" / "languages").glob("*.yaml")))
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
REPORTED_PACKAGES = ("torch", "transformers", "peft", "accelerate", "qwen-vl-utils", "tokenizers", "numpy", "pillow")
# The code that decides what a stage writes, for hashes that tell whether it is to be done again. Stages meet at files: enrichment
# counts in the later ones by the rows that it wrote, so an edit of data/ that changes no row makes nobody train again.
_SHARED = ("config.py", "files.py", "templates.py", "dataset.py", "constraints.py", "data/images.py", "data/image_names.py", "model/*.py")
_SHARED += ("data/earlier_answers.py", "data/stages.*")  # what a cascade tells is no part of the rows
CODE = {
    "enrich": ("files.py", "data/*.py", "data/*.yaml", "data/languages/*.yaml"),
    "train": (*_SHARED, "training/*.py", "train_exp1.py"),
    "predict": (*_SHARED, "data/*.py", "prediction/*.py", "predict_exp1.py"),
    "evaluate": ("data/*.py", "data/*.yaml", "data/languages/*.yaml", "evaluation/*.*", "eval_exp1.py"),
}
# What decides nothing that a stage writes.
_TABLES = ("perturbations", "rewordings", "sides")  # what they decide stands in the record of the predictions that they perturb
TELLS = (
    "model/merge.py",
    "model/on_disk.py",
    *(f"data/{name}.yaml" for name in _TABLES),
    *(f"training/{name}.py" for name in ("cost", "dry_run", "fits", "report_to", "sanity", "tower")),
)


def _not_bool(value):
    if isinstance(value, bool):  # `train_bs: yes` would read as 1
        raise ValueError("a number is wanted")
    return value


Integer = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool)]
Count = Annotated[Integer, Field(ge=1)]
NonNegative = Annotated[Float, Field(ge=0)]


def _language(value):
    if value not in LANGUAGES:  # a file that a user adds is one, too
        raise ValueError(f"one of {', '.join(LANGUAGES)} is wanted, or a list of them, as data/languages/ has them")
    return value


def _prompt_text(value):
    if isinstance(value, str) and (not value.strip() or "<|" in value):
        raise ValueError("a text without special tokens is wanted")
    return value


def _field_name(value):
    if isinstance(value, str) and "\n" in value:
        raise ValueError("a name on one line is wanted")
    return _prompt_text(value)


def _reporters(value):
    value = value[0] if isinstance(value, list) and value in (["none"], ["all"], [None]) else value
    return "none" if value in (None, "null") else value


Language = Annotated[str, AfterValidator(_language)]
PromptText = Annotated[str, AfterValidator(_prompt_text)]
FieldName = Annotated[str, AfterValidator(_field_name)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PromptConfig(Section):
    system: PromptText = "You are a surgical VQA assistant. Answer concisely with only the final answer."
    question_type: FieldName = "Question type"
    question: FieldName = "Question"
    valid_answers: FieldName = "Valid answers"
    answer: FieldName = "Answer"


class ImageConfig(Section):
    min_pixels: Annotated[Integer, Field(ge=784)] = 3136  # 28 x 28: one image token
    max_pixels: Annotated[Integer, Field(ge=784)] = 200704

    @model_validator(mode="after")
    def _in_order(self):
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels={self.min_pixels} is more than max_pixels={self.max_pixels}")
        return self


class LoraConfig(Section):
    r: Count = 16
    alpha: Count = 32
    dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    target_modules: Annotated[list[str], Field(min_length=1)] = PROJECTIONS
    vision: Literal["merger", "tower"] | None = None


class TrainConfig(Section):
    train_bs: Count = 4
    eval_bs: Count = 4
    questions_per_image: Count | Literal["all"] = "all"
    tokens_per_row: Count = 4096
    grad_accum: Count = 2
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] = 42
    lr: Annotated[Float, Field(gt=0)] = 1e-4
    weight_decay: NonNegative = 0.0
    epochs: Annotated[Float, Field(gt=0)] = 1
    max_steps: Count | None = None
    warmup_ratio: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    bf16: bool = True
    gradient_checkpointing: bool = True
    max_seq_len: Count = 2048
    logging_steps: Count = 10
    eval_steps: Count = 100
    eval_images: Count = 64
    save_steps: Count = 100
    save_total_limit: Count | None = 3
    early_stopping_patience: Count | None = None
    select_by: Literal["micro", "macro"] = "micro"
    order: Literal["random", "stages"] = "random"
    init_adapter: Path | None = None
    cascade: Literal["gold", "none"] = "none"
    num_workers: Annotated[Integer, Field(ge=0)] = 2
    report_to: Annotated[str | list[str], BeforeValidator(_reporters)] = "none"

    def steps(self, images, images_per_step):
        """Optimizer steps of a training whose epochs have so many images (groups of questions)."""
        return self.max_steps or math.ceil(self.epochs * math.ceil(images / images_per_step))


class DataConfig(Section):
    train_jsonl: Path | None = None
    val_jsonl: Path | None = None
    test_jsonl: Path | None = None
    image_root: Path | None = None
    corrections: Path | None = None
    answer_space: Literal["mined", "rules"] = "mined"
    max_unseen: Annotated[Float, Field(gt=0, le=1)] = 0.01
    count_margin: Annotated[Integer, Field(ge=0)] = 5
    min_groups: Count = 2
    language: Language | Annotated[list[Language], Field(min_length=1)] = "en"
    max_listed: Annotated[Integer, Field(ge=0)] = 20
    max_frames: Count | None = None
    stages: Annotated[list[Count], Field(min_length=1)] | None = None
    stage_prefix: Literal["keep", "add", "strip"] = "keep"

    @property
    def languages(self):
        """The data's languages (tuple of str), the first being the one that decides where two disagree."""
        return (self.language,) if isinstance(self.language, str) else tuple(dict.fromkeys(self.language))


class PredictConfig(Section):
    decoding: Literal["exact", "greedy", "allowed_set", "free"] = "exact"
    cascade: bool = False
    exact_sets: Annotated[Integer, Field(ge=0)] = 64
    beams: Count = 4
    numeric_grammar: bool = False
    min_confidence: Annotated[Float, Field(gt=0, le=1)] | None = None
    candidates_kept: Count | Literal["all"] = 5
    calibrated: bool = False
    coverage: Annotated[Float, Field(gt=0, lt=1)] | None = None
    max_new_tokens: Count | Literal["auto"] = 4
    batch_size: Count = 4
    tokens_per_row: Count = 4096


class EvalConfig(Section):
    numeric_rel_tol: Annotated[Float, Field(ge=0, le=1)] = 0.05
    numeric_abs_tol: NonNegative = 0.0
    count_abs_tol: Annotated[Integer, Field(ge=0)] = 0


class Config(Section):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_name: Annotated[str, Field(min_length=1)] = "Qwen/Qwen2-VL-7B-Instruct"
    quantization: Literal["none", "nf4"] = "none"
    vision_frozen: bool = True
    output_dir: Path = Path("outputs")
    prompt_style: Literal["plain", "chat"] = "plain"
    answer_prefix: str = ""
    prompt: PromptConfig = PromptConfig()
    image: ImageConfig = ImageConfig()
    lora: LoraConfig = LoraConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    predict: PredictConfig = PredictConfig()
    eval: EvalConfig = EvalConfig()
    config_path: Annotated[Path, Field(exclude=True)] = DEFAULT_CONFIG  # where it was read; not a key of the file
    overrides: Annotated[tuple[str, ...], Field(exclude=True)] = ()  # as they were given

    @model_validator(mode="after")
    def _vision_as_said(self):
        if self.vision_frozen and self.lora.vision:
            raise ValueError(f"lora.vision={self.lora.vision} trains what vision_frozen=true keeps as it is; set vision_frozen=false, too")
        if not self.vision_frozen and self.lora.vision is None:
            raise ValueError("vision_frozen=false does not say what is trained; set lora.vision to merger or tower")
        return self

    def command(self, script, *arguments, start=()):
        """How to run a script with this configuration from this shell, for the hints that scripts print. start: see `launcher`."""
        config = [] if self.config_path == DEFAULT_CONFIG else ["--config", near(self.config_path)]
        return shlex.join([*(start or [this_python()]), near(ROOT / script), *config, *map(str, arguments), *self.overrides])

    def split_path(self, split):
        """Path of a split's rows. Raises UserError that names the key when it isn't set or the file is missing."""
        key, path = f"data.{split}_jsonl", getattr(self.data, f"{split}_jsonl")
        if path is None:
            demo = ", or try --config config_demo.yaml" if split == "train" else ""
            raise UserError(f"set {key} in {self.config_path.name}{demo}")
        if not path.is_file():
            raise UserError(f"{key}: {path} does not exist; correct it in {self.config_path}")
        return path

    def given_splits(self):
        """The splits that the file names; train always is one of them."""
        return [split for split in SPLITS if split == "train" or getattr(self.data, f"{split}_jsonl")]

    def find(self, name, *folders):
        """The file or folder that a run's file names (see PublicNames): an absolute path as it is, or the first that is there of the
        configuration's folder, the repository's and `folders`; None where none is, or `name` is None."""
        paths = [folder / name for folder in (self.config_path.parent, ROOT, *folders)] if name else []
        return next((path for path in paths if path.exists()), None)

    def image_folder(self):
        """The folder that image names are relative to: `data.image_root`, or that of the config file."""
        folder = self.data.image_root or self.config_path.parent
        if not folder.is_dir():
            raise UserError(f"data.image_root: {folder} is not a folder; correct it in {self.config_path}")
        return folder


PATH_KEYS = ("output_dir", "train.init_adapter")
PATH_KEYS += tuple(f"data.{name}" for name in ("train_jsonl", "val_jsonl", "test_jsonl", "image_root", "corrections"))
HOMES = ("home", "Users")  # what lies in them are people
START = r"file:/{2,3}|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\|(?:\.\.[/\\])+|/"  # of a path that says where somebody's files lie
WHOLE_PATH = re.compile(rf"(?:{START}).+", re.DOTALL)
PATH_IN_TEXT = re.compile(rf"(?<![\w./\\<-])(?<!https:)(?<!http:)(?:{START})[^\s:;,'\"()<>]+")
HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
# Facts of a run's files that name a file or a command.
PATH_FACTS = {
    "model_name",
    "base_model_name_or_path",
    "source",
    "adapter",
    "command",
    "folds",
    "predictions",
    "against",
    "no_prior",
    "file",
}
PATH_FACTS |= {key.rpartition(".")[2] for key in PATH_KEYS}


class PublicNames:
    """Names of a run's files without the folders that they lie in.

    A path inside the configuration's folder or the repository is relative to it, another its last part; a cached model its hub id.
    cfg: of the run at hand. sidecar: facts of predictions, whose paths may be another machine's.
    """

    def __init__(self, cfg, sidecar=None):
        used = Path(((sidecar or {}).get("config") or {}).get("output_dir") or "").parent
        folders = ((cfg.config_path.parent, 1), (ROOT, 1), (used, 2))  # `/scratch`, say, holds other people's, too
        self.folders = [folder for folder, least in folders if len(folder.parts) > least and folder.name not in HOMES]

    def path(self, value):
        """A text that is a path or not (str or Path, or None): relative to a folder of the run, else the last part of an absolute one."""
        text = str(value or "")
        if found := HUB_CACHE.search(text):
            return "/".join(found.groups())
        for folder in self.folders:
            if Path(text).is_relative_to(folder):
                return os.path.relpath(text, folder)
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if WHOLE_PATH.fullmatch(text) else text

    def text(self, line, *known):
        """A line in which paths may stand, those of `known` even if they hold spaces."""
        for path in sorted(map(str, filter(None, known)), key=len, reverse=True):
            for form in (path, os.path.relpath(path)):
                if WHOLE_PATH.fullmatch(form):
                    line = line.replace(form, self.path(path))
        return PATH_IN_TEXT.sub(lambda found: self.path(found[0]), line)

    def values(self, value):
        """Nested settings with every path made public."""
        if isinstance(value, dict):
            return {key: self.values(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.values(item) for item in value]
        if not isinstance(value, str):
            return value
        key, sign, rest = value.partition("=")  # an override, `data.train_jsonl=/home/…`
        return f"{key}={self.values(rest)}" if sign and "/" not in key else self.text(self.path(value))

    def facts(self, value, key=None):
        """Nested facts with the paths of those that name files made public; other texts, which may be anybody's answers, stay."""
        if isinstance(value, dict):
            return {name: self.facts(item, str(name).rpartition(".")[2]) for name, item in value.items()}
        if isinstance(value, list):
            return [self.facts(item, key) for item in value]
        return self.values(value) if isinstance(value, str) and key in PATH_FACTS else value


def load_config(path=None, overrides=()):
    """Read a YAML file, apply `section.key=value` overrides, and return a validated, immutable Config.

    Raises UserError for a missing file, broken YAML, an unknown key (with the nearest known one) or a wrong type.
    """
    path = resolve_path(path, DEFAULT_CONFIG.parent) if path else DEFAULT_CONFIG
    chain, folder, values = _read_chain(path), path.resolve().parent, {}
    for _, own in chain:
        values = _merged(values, own)
    values.setdefault("output_dir", str(folder / "outputs"))
    _keep_image_root(values, chain)
    for override in overrides:
        _apply_override(values, override, folder)
    try:
        cfg = Config(**values, config_path=path.resolve(), overrides=tuple(overrides))
    except ValidationError as error:
        raise UserError("; ".join(f"{_where(item, chain)}: {_explain(item)}" for item in error.errors())) from None
    except TypeError as error:  # `config_path` itself
        raise UserError(f"{path}: {error}") from None
    if cfg.train.cascade == "gold" and not cfg.predict.cascade:
        why = "what was trained with earlier answers in its prompts is asked with them"
        raise UserError(f"{path}: train.cascade=gold needs predict.cascade=true, because {why}; set both, or train.cascade=none")
    if cfg.train.order == "stages" and not float(cfg.train.epochs).is_integer():
        why = "a part of an epoch holds its first stages alone"
        raise UserError(f"{path}: train.order=stages needs whole epochs, because {why}; train.epochs is {cfg.train.epochs:g}")
    if os.path.isabs(cfg.model_name) and not (Path(cfg.model_name) / "config.json").is_file():
        raise UserError(f"model_name: {cfg.model_name} is no model folder, with a config.json; give a model folder or a hub id")
    if cfg.output_dir.exists() and not cfg.output_dir.is_dir():
        raise UserError(f"output_dir: {cfg.output_dir} is a file; give a folder")
    return cfg


def _read_chain(path, below=()):
    """[(path, its own values)] of a file and all that it extends, the file itself last; paths made absolute."""
    if path.resolve() in below:
        raise UserError(f"{below[-1]}: extends {path}, which extends it in turn; take one of the two lines out")
    values = _read_yaml(path)
    for key in [key for key, value in values.items() if value is None]:
        del values[key]  # an empty section (`data:` with nothing below) changes nothing
    folder, base = path.resolve().parent, values.pop("extends", None)
    for key in PATH_KEYS:
        _change(values, key, lambda value: str(_from(folder, value)) if isinstance(value, str) else value)
    _change(values, "model_name", lambda value: _model_folder(value, folder))
    if base is None:
        return [(path, values)]
    if not isinstance(base, str):
        raise UserError(f"{path}: extends is {quoted(base)}; give one file, such as extends: config_exp1.yaml")
    base = _from(folder, base)
    if not base.is_file():
        raise UserError(f"{path}: extends {short(base, 500)}, which does not exist; paths in a file are relative to that file")
    return [*_read_chain(base, (*below, path.resolve())), (path, values)]


def _keep_image_root(values, chain):
    """Without data.image_root, images lie beside the file that names the training rows, also where another extends it."""
    data = lambda own: own["data"] if isinstance(own.get("data"), dict) else {}
    owner = next((path for path, own in reversed(chain) if data(own).get("train_jsonl")), chain[-1][0])
    if owner != chain[-1][0] and isinstance(values["data"], dict) and values["data"].get("image_root") is None:
        values["data"]["image_root"] = str(owner.resolve().parent)


def _from(folder, path):
    """A path of a file in `folder` (resolved), without the `..` that it begins with."""
    path = Path(path).expanduser()
    while path.parts[:1] == ("..",):
        folder, path = folder.parent, Path(*path.parts[1:])
    return folder / path


def _merged(values, own):
    """`values` with `own` on top, key by key; sections are merged, lists replaced."""
    both = lambda key: isinstance(values.get(key), dict) and isinstance(own[key], dict)
    return {**values, **{key: _merged(values[key], own[key]) if both(key) else own[key] for key in own}}


def _where(error, chain):
    """The file of the chain whose line a pydantic error is about: the last that has the key, or the file itself."""
    for path, values in reversed(chain):
        found = values
        for part in error["loc"]:
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            return path
    return chain[-1][0]


def near(path):
    """A path as one would type it: from the working directory, unless that is longer."""
    return min(os.path.relpath(path), str(path), key=len)


def this_python():
    """How to start the running Python from this shell: `python` where that is the one, else its path."""
    here = Path(sys.executable).parent
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).parent == here and os.path.samefile(found, sys.executable):
            return name
    return near(sys.executable)


def launcher():
    """How the running script is started again as it was: by Python, or by torchrun with as many processes on this machine.

    Several machines are named with their number; where they meet is for their user to say. What Slurm's srun has started, it starts.
    """
    processes, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if processes == 1:
        return [this_python()]
    if "SLURM_PROCID" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["srun", "bash", near(ROOT / "tools" / "slurm" / "process.sh"), this_python()]
    machines = [f"--nnodes={processes // here}"] if processes > here else []
    return [this_python(), "-m", "torch.distributed.run", *machines, f"--nproc_per_node={here}"]


def command_line():
    """How the running script was started, for a shell."""
    return shlex.join([*launcher(), *sys.argv])


def resolve_path(path, folder, writing=False):
    """Resolve a path from the command line: in the working directory, or else, if absent there, in `folder`.

    With `writing`, it is the path's parent that has to exist in the working directory.
    """
    path = Path(path).expanduser()
    wanted = path.parent if writing else path
    return path.absolute() if path.is_absolute() or path.exists() or wanted.exists() else Path(folder) / path


class _OneOfEachKey(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML whose keys are given once: PyYAML lets the last of two win in silence. (A key of `<<` may be given anew.)"""

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if (key_node.tag, key) in seen:
                    raise UserError(f"line {line}: {short(key)} is given twice, first in line {seen[key_node.tag, key]}; keep one")
                seen[key_node.tag, key] = line
        return super().construct_mapping(node, deep)


def yaml_file(path):
    """What a YAML file holds. Raises UserError naming file and line for what is no YAML, isn't UTF-8 or gives a key twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_OneOfEachKey)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        line, wrong = not_utf8(path)
        raise UserError(f"{path}: not a YAML file (line {line}: {wrong})") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply; write it flat") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None


def _read_yaml(path):
    try:
        values = yaml_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file; give another with --config") from None
    except OSError as error:
        raise UserError(f"{path}: not a YAML file ({error})") from None
    if not isinstance(values or {}, dict):
        raise UserError(f"{path}: holds a {type(values).__name__}, not `key: value` lines")
    for key in _keys(values or {}):
        if not isinstance(key, str):  # `no:` and `1:` are none to YAML
            raise UserError(f"{path}: the key {quoted(key)} is no text; correct it, or put it in quotes if it is meant")
    return values or {}


def _keys(values):
    """Every key of nested sections. One that YAML's aliases name again and again, or inside itself, is looked at once."""
    found, waiting = {}, [values]
    while waiting:
        section = waiting.pop(0)
        if isinstance(section, dict) and id(section) not in found:
            found[id(section)] = section
            waiting += section.values()
    return [key for section in found.values() for key in section]


def _change(values, dotted_key, change):
    """Replace the value at `section.key` by `change(value)` where it is set."""
    *sections, key = dotted_key.split(".")
    for section in sections:
        values = values.get(section)
        if not isinstance(values, dict):
            return
    if key in values:
        values[key] = change(values[key])


def _apply_override(values, override, folder):
    dotted_key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"override {quoted(override)}: write section.key=value, for example train.lr=2e-4")
    value = _override_value(override, dotted_key, text)
    if isinstance(value, dict):
        raise UserError(f"override {quoted(override)}: give one key at a time, such as {dotted_key}.{next(iter(value), 'key')}=…")
    if dotted_key in PATH_KEYS and value is not None:
        if not value:
            raise UserError(f"override {quoted(override)}: give a path")
        value = str(resolve_path(value, folder, writing=dotted_key == "output_dir"))
    if dotted_key == "model_name":
        value = _model_folder(value, Path.cwd(), folder)
    *sections, key = dotted_key.split(".")
    for section in sections:
        if not isinstance(values.setdefault(section, {}), dict):
            raise UserError(f"override {quoted(override)}: {section} is not a section")
        values = values[section]
    values[key] = value


def _override_value(override, dotted_key, text):
    """What an override gives its key: YAML, but a path or a text as it stands; a shell has taken its quotes off already.

    A text that is in quotes all the same is what YAML makes of it, as it is in a file.
    """
    kinds, stripped = kinds_of(dotted_key), text.strip()
    in_quotes = len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "'\""
    as_it_stands = kinds & {str, Path} and not (in_quotes or (list in kinds and stripped.startswith("[")))
    if as_it_stands:
        nothing = NoneType in kinds and text in ("", "~", "null", "Null", "NULL")
        return None if nothing else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        if kinds & {str, Path}:
            return text
        raise UserError(f"override {quoted(override)}: {quoted(text)} is not a YAML value") from None


def kinds_of(dotted_key):
    """The types that a key takes ({str, Path, NoneType, list, int, …}), empty for an unknown one. A key that takes numbers or truth
    beside texts (`questions_per_image: all`) is none of texts: those kinds alone are left."""
    model, *parts = Config, *dotted_key.split(".")
    for part in parts:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return set()
        model = field.annotation
    kinds = _kinds(model)
    return kinds if kinds <= {str, Path, NoneType, list} else kinds - {str, Path}


def _kinds(annotation):
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(args[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, args))
    if origin is Literal:
        return set(map(type, args))
    return {origin or annotation}


def _model_folder(value, *folders):
    """A model's folder as an absolute path, from the first of `folders` that has it; anything else is a hub id (owner/name)."""
    if not isinstance(value, str):
        return value
    found = [path for path in (_from(folder, value) for folder in folders) if value.strip() and path.is_dir()]
    looks_like_a_path = value.startswith((".", "/", "~")) or value.count("/") > 1
    return str(found[0] if found else _from(folders[0], value)) if found or looks_like_a_path else value


def _known_keys(model=Config, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _known_keys(field.annotation, f"{prefix}{name}.")
        if not field.exclude:
            yield prefix + name


def _explain(error):
    """One clause for one pydantic error: the key, what is wrong, and the nearest known key."""
    known, parts = set(_known_keys()), [str(part) for part in error["loc"]]
    if not parts:  # of keys that don't go together
        return error["msg"].removeprefix("Value error, ")
    if error["type"] != "extra_forbidden":
        prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        key = next((prefix for prefix in prefixes if prefix in known), parts[0])  # what follows tells a union's member
        return f"{key}: {error['msg']}, not {quoted(error['input'])}"
    key = ".".join(parts)
    near = [name for name in known if name.rsplit(".")[-1] == key.rsplit(".")[-1]]
    near = near or difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f"unknown key {short(key)}" + (f" (did you mean {near[0]}?)" if near else "")


def argument_parser(description, **kwargs):
    """The arguments of every script: --config and overrides. A script adds its own few."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
    )
    parser.add_argument("--config", metavar="PATH", help="YAML file (default: the config_exp1.yaml beside the script)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="change keys of the file, e.g. train.lr=2e-4")
    return parser


def check_transformers(minimum="5.23"):
    """Raise UserError unless transformers is at least `minimum` (the first version this code was run on)."""
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "not installed"
    if found == "not installed" or Version(found) < Version(minimum):
        raise UserError(f"transformers {minimum} or newer is needed, found {found}; run: pip install -r requirements.txt")


# What accelerate's launcher says that it was asked for, which splits a model over processes.
SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def check_environment(cfg, weights=True, environ=os.environ):
    """Raise UserError where a package is missing that the configuration needs, or a launcher asks for what a model isn't trained under.

    weights: are they to be loaded? environ: the launcher's words.
    """
    check_transformers()
    asked = [name for key, name in SHARDING.items() if environ.get(key, "false").lower() in ("true", "1", "yes")]
    if asked:
        raise UserError(
            f"{' and '.join(asked)}: the vision tower runs apart from what they split, so they fail in the first step; start with torchrun "
            "or `accelerate launch --multi_gpu`, which train by DDP, and set quantization=nf4 for a model that is too large for a card "
            "(72B fits one of 80 GB)"
        )
    if weights and cfg.quantization == "nf4" and find_spec("bitsandbytes") is None:
        raise UserError("quantization: nf4 needs bitsandbytes; run: pip install bitsandbytes")


def save_run_info(path, cfg, device="cpu", **facts):
    """Write date, resolved configuration, library versions, git commit and device of a run beside its output, without absolute paths."""
    facts = {"date": now(), **facts, "config": cfg.model_dump(mode="json"), **environment_facts(cfg), "device": str(device)}
    write_json(path, PublicNames(cfg).facts(facts))


def now():
    """The time as files have it, to the second, with its zone: `2026-11-05T10:00:00+01:00`."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def code_facts(stage):
    """{path: SHA-256} of the repository's files that decide what a stage (a key of CODE) writes."""
    paths = sorted({path for pattern in CODE[stage] for path in ROOT.glob(pattern)})
    names = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {name: sha256(path) for name, path in names.items() if name not in TELLS}


def flat(values, prefix=""):
    """Nested dicts as one: {"image.max_pixels": …}."""
    result = {}
    for name, value in values.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def environment_facts(cfg=None):
    """Versions of the packages that decide results, those of a configuration if one is given, and this repository's commit (None
    outside a git checkout)."""
    versions = {}
    for package in (*REPORTED_PACKAGES, *(["bitsandbytes"] if cfg and cfg.quantization == "nf4" else [])):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        commit = None
    return {"versions": versions, "commit": commit or None}


if __name__ == "__main__":
    raise SystemExit("not a command, but the configuration; see docs/running.md")
