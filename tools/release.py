"""What of a run may go out: its adapter and its numbers, without rows, pictures, patients or the folders of this machine.

    python tools/release.py outputs_mine release/

copies the adapter with what prediction needs beside it, the record and the course of the training, and the metrics without
the texts of answers; and lists what it left and why. What looks like a name, a date or an identifier (data/personal.yaml) keeps a
file in; an adapter goes out whole or not at all (exit code 1). It knows the usual forms only: look at what it copied before it goes.
"""

import argparse
import fnmatch
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import PublicNames, near
from data.answer_space import SPACE_FILE
from data.asked import QUESTIONS_FILE
from data.personal import in_file_name, in_text
from files import UserError, json_text, printable, read_json, run_script, write_text
from model.folders import whole_folder
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, WEIGHTS_FILE, check_adapter_folder
from training.resume import RECORD

ADAPTER = tuple(f"adapter/{name}" for name in (CONFIG_FILE, WEIGHTS_FILE, EXPERIMENT_FILE, SPACE_FILE, QUESTIONS_FILE))
COPIED = {f"adapter/{WEIGHTS_FILE}", "loss_curve.png"}  # as they are; all others are JSON and read
FORMAL = {f"adapter/{CONFIG_FILE}", "trainer_state.json"}  # other programs' keys and numbers, which no patient gets into
GOES = (*ADAPTER, "trainer_state.json", "loss_curve.png", RECORD, "metrics*.json")
LEFT = {  # the first pattern that fits says why
    "adapter/README.md": "peft's empty form",
    "adapter/SHA256SUMS": "hashes of the files as they lay here; some are written anew without paths",
    "predictions*": "rows of the data: ids, images, patients, answers",
    "report*.html": "single rows, and perhaps pictures; eval_exp1.py --no-images makes one that you can look through",
    "comparison*": "made for you; the metrics have the numbers",
    "seeds*": "made for you; the metrics have the numbers",
    "checkpoint-*": "states of the training; the adapter is its result",
    "abandoned/*": "of another course of the training",
    "data/*": "rows of the data, and paths of this machine",
    "sanity/*": "training rows",
    "sweep*": "runs of their own, each with its rows",
    ".*": "working files",
    "*": "nothing that this script knows to be free of patients",
}
TEXTS_OF_ANSWERS = {"recall", "confusion"}  # of the metrics
# Which look like dates and numbers.
NO_CONTENT = {"date", "versions", "packages", "commit", "made_from", "trained_on", "device"}


def release(run, dst):
    """Copy what may go out of a run's folder to `dst` (both Paths). Returns (names copied, {name: why it was left}).

    Raises UserError where `run` holds no whole adapter, or `dst` is there already.
    """
    check_adapter_folder(run / "adapter")
    if dst.exists():
        raise UserError(f"{dst}: is there already; give a new folder")
    if dst.resolve().is_relative_to(run.resolve()):
        raise UserError(f"{dst}: lies in the run's own folder; give another")
    names = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    left = {name: why_left(name) for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in GOES)}
    going, public = [name for name in names if name not in left], public_names(run)
    texts = {name: public.facts(without_answers(read_json(run / name))) for name in going if name not in COPIED}
    for name, facts in texts.items():
        if why := why_not(name, facts):
            left[name] = why
    if unfit := next((name for name in ADAPTER if name in left), None):
        left |= {name: f"part of an adapter whose {unfit} stays" for name in ADAPTER if name in going and name not in left}
    going = [name for name in going if name not in left]
    with whole_folder(dst) as staged:
        for name in going:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            if name in COPIED:
                shutil.copyfile(run / name, staged / name)
            else:
                write_text(staged / name, json_text(texts[name]))
    return going, left


def why_left(name):
    return next(why for pattern, why in LEFT.items() if fnmatch.fnmatchcase(name, pattern))


def public_names(run):
    """PublicNames of a run, which older code wrote with whole paths."""
    record = read_json(run / RECORD) if (run / RECORD).is_file() else {}
    return PublicNames(SimpleNamespace(config_path=run.resolve()), record)


def without_answers(facts):
    """Nested facts without the tables whose labels are answers."""
    if isinstance(facts, dict):
        return {key: without_answers(value) for key, value in facts.items() if key not in TEXTS_OF_ANSWERS}
    return list(map(without_answers, facts)) if isinstance(facts, list) else facts


def why_not(name, facts):
    """Why a file's facts may not go out, or None."""
    if name == f"adapter/{SPACE_FILE}":
        entries = {**facts.get("questions", {}), **facts.get("given", {})}
        holds = lambda entry: entry.get("candidates") is None and (entry.get("counts") or entry.get("example_outside"))
        held = [key for key, entry in entries.items() if holds(entry)]
        if held:
            return f"holds answers to open questions, to '{held[0]}' for one: made by older code; train anew"
    for text in texts_of(facts) if name not in FORMAL else ():
        if found := in_text(text) or in_file_name(text):
            return f"'{found[0].text}' looks like a {found[0].kind}; if it is none, change data/personal.yaml"
    return None


def texts_of(value):
    """The texts in nested facts, keys too, but for those whose content is the machine's."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in NO_CONTENT:
                yield from (key, *texts_of(item))
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value


def folded(left):
    """(name, why) lines, files of a folder that stay for one reason as one."""
    shown = {}
    for name, why in left.items():
        folder = name.partition("/")[0]
        whole = "/" in name and all(left.get(other) == why for other in left if other.startswith(f"{folder}/")) and folder != "adapter"
        shown[f"{folder}/" if whole else name] = why
    return shown.items()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="output_dir of a finished run")
    parser.add_argument("dst", metavar="DST", help="a new folder")
    args = parser.parse_args()
    run, dst = Path(args.run), Path(args.dst)
    if not run.is_dir():
        raise UserError(f"{run}: is no folder; give the output_dir of a run")
    going, left = release(run, dst)
    print(f"copied to {near(dst)}: {', '.join(going)}")
    for name, why in folded(left):
        print(printable(f"left {name}: {why}"))
    whole = all(name in going for name in ADAPTER)
    print("look through it before it goes out" if whole else "the adapter stays; see above")
    return 0 if whole else 1


if __name__ == "__main__":
    run_script(main)
