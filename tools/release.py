"""What of a run may go out: its adapter and its numbers, without rows, pictures, patients or the folders of this machine.

    python tools/release.py outputs_mine release/

copies the adapter with what prediction needs beside it, the record and the course of the training, and the metrics without
the texts of answers; and lists what it left and why. Names of files and folders stay, but for the base model's, since people give them
names of people; and so do questions that the adapter doesn't name, which are those of few groups (data.min_groups). Of the texts that
are left each is looked at: what looks like a name, a date or an identifier (data/personal.yaml) keeps its file in, and the list says what
and where; an adapter goes out whole or not at all (exit code 1). It knows the usual forms only: look at what it copied before it goes.
"""

import argparse
import fnmatch
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import PATH_FACTS, WHOLE_PATH, PublicNames, near
from data.aliases import question_template
from data.answer_space import SPACE_FILE
from data.asked import QUESTIONS_FILE
from data.personal import found_in
from files import UserError, json_text, printable, read_json, run_script, short, write_text
from model.folders import whole_folder
from model.on_disk import CONFIG_FILE, EXPERIMENT_FILE, WEIGHTS_FILE, check_adapter_folder
from training.resume import RECORD

ADAPTER = tuple(f"adapter/{name}" for name in (CONFIG_FILE, WEIGHTS_FILE, EXPERIMENT_FILE, SPACE_FILE, QUESTIONS_FILE))
QUESTIONS = f"adapter/{QUESTIONS_FILE}"
COPIED = {f"adapter/{WEIGHTS_FILE}", "loss_curve.png"}  # as they are; all others are JSON and read
OURS = "train|val|test|adapter|none|rules|tuned|untuned|constrained|free"  # words of metrics' names, predict_exp1.py's and run_exp1.sh's
METRICS = rf"metrics(_({OURS}|checkpoint-\d+))*\.json"  # other words in a name are the user's
GOES = re.compile("|".join([*map(re.escape, (*ADAPTER, "trainer_state.json", "loss_curve.png", RECORD)), METRICS]))
LEFT = {  # the first pattern that fits says why
    "adapter/README.md": "peft's empty form",
    "adapter/SHA256SUMS": "hashes of the files as they lay here; some are written anew without paths",
    "predictions*": "rows of the data: ids, images, patients, answers",
    "metrics*.json": "its name has words of yours, and may name people; call it metrics_test.json or the like",
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
PART_OF = "part of an adapter whose"
TEXTS_OF_ANSWERS = {"recall", "confusion"}  # of the metrics
GROUPS = "by"  # scores by the values of a column of the user's, which may be patients
# Facts whose values name files and folders; the base model's name is needed to load an adapter.
NAMES, HASH = PATH_FACTS - {"model_name", "base_model_name_or_path"}, re.compile("[0-9a-f]{64}")
# Which look like dates and numbers.
NO_CONTENT = {"date", "versions", "packages", "commit", "made_from", "trained_on", "device", "hardware", "base_revision", "base_weights"}


def release(run, dst, add=None):
    """Copy what may go out of a run's folder to `dst` (both Paths). Returns (names copied, {name: why it was left}).

    add: called with the folder that is to be `dst` and what was left, to write more into it.

    Raises UserError where `run` holds no whole adapter, or `dst` is there already.
    """
    check_adapter_folder(run / "adapter")
    if dst.exists():
        raise UserError(f"{dst}: is there already; give a new folder")
    if dst.resolve().is_relative_to(run.resolve()):
        raise UserError(f"{dst}: lies in the run's own folder; give another")
    names = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    left = {name: why_left(name) for name in names if not GOES.fullmatch(name)}
    going = [name for name in names if name not in left]
    facts_of = {name: read_json(run / name) for name in going if name not in COPIED}
    of_few = asked_of_few(facts_of)
    if "min_groups" not in facts_of.get(f"adapter/{EXPERIMENT_FILE}", {}) and QUESTIONS in facts_of:
        facts_of[QUESTIONS] = []  # of older code, which kept every question; prediction then asks whether data/schema.py is the same
    public, asked = public_names(run), {entry[0]: question_template(entry[0]) for entry in facts_of.get(QUESTIONS, ())}
    texts = {name: public.facts(facts) for name, facts in facts_of.items()}  # an adapter's files are what hashes were made of
    texts |= {name: without_people(facts, asked) for name, facts in texts.items() if name not in ADAPTER}
    for name, facts in texts.items():
        if why := of_few.get(name) or why_not(facts):
            left[name] = why
    if unfit := next((name for name in ADAPTER if name in left), None):
        left |= {name: f"{PART_OF} {unfit} stays" for name in ADAPTER if name in going and name not in left}
    going = [name for name in going if name not in left]
    with whole_folder(dst) as staged:
        for name in going:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            if name in COPIED:
                shutil.copyfile(run / name, staged / name)
            else:
                write_text(staged / name, json_text(texts[name]))
        if add:
            add(staged, left)
    return going, left


def why_left(name):
    return next(why for pattern, why in LEFT.items() if fnmatch.fnmatchcase(name, pattern))


def public_names(run):
    """PublicNames of a run, which older code wrote with whole paths."""
    record = read_json(run / RECORD) if (run / RECORD).is_file() else {}
    return PublicNames(SimpleNamespace(config_path=run.resolve()), record)


def without_people(facts, asked, key=""):
    """Nested facts without names of files and folders, the tables whose labels are answers, and what is said of questions that the
    adapter doesn't name. asked: {question: its template} of those that it names."""
    if isinstance(facts, dict):
        kept = {name: value for name, value in facts.items() if name not in (*TEXTS_OF_ANSWERS, "command")}
        if isinstance(kept.get(GROUPS), dict):
            kept[GROUPS] = {}
        if key == "conventions":
            kept = {name: value for name, value in kept.items() if name in {"", *asked.values()}}
        if "template" in kept and kept.get("question") not in asked:
            kept["question"] = kept["template"]
        return {name: without_people(value, asked, str(name).rpartition(".")[2]) for name, value in kept.items()}
    if isinstance(facts, list):
        templates = {None, *asked.values()}
        named = lambda item: not isinstance(item, dict) or item.get("template") in templates
        return [without_people(item, asked, key) for item in facts if named(item)]
    if isinstance(facts, str) and (key in NAMES or WHOLE_PATH.fullmatch(facts)) and not HASH.fullmatch(facts) and facts != "none":
        return "…"
    return facts


def asked_of_few(facts_of):
    """{file: why it stays} where the answer space names questions of few groups, or holds their answers, as older code's does."""
    name = f"adapter/{SPACE_FILE}"
    space, known = facts_of.get(name, {}), facts_of.get(f"adapter/{EXPERIMENT_FILE}", {})
    entries = {**space.get("questions", {}), **space.get("given", {})}
    holds = lambda entry: entry.get("candidates") is None and (entry.get("counts") or entry.get("example_outside"))
    if held := [key for key, entry in entries.items() if holds(entry)]:
        return {name: f"holds answers to open questions, to '{short(held[0])}' for one: made by older code; train anew"}
    least = known.get("min_groups", 2)
    few = [key for key, entry in entries.items() if entry.get("groups", least) < least]
    if "min_groups" not in known and (few := [*few, *space.get("unconstrained", ()), *space.get("multi_label", ())]):
        text = f"names {len(few)} question{'s' * (len(few) > 1)} that perhaps one patient alone was asked, '{short(few[0])}' for one"
        return {name: f"{text}: made by older code; train anew"}
    return {}


def why_not(facts):
    """Why a file's facts may not go out, or None."""
    for place, text in texts_of(facts):
        if found := found_in(text):
            where = f" ({place})" * bool(place)
            return f"'{found[0].text}' looks like a {found[0].kind}{where}; if it is none, change data/personal.yaml"
    return None


def texts_of(value, place=""):
    """(where it stands, text) of the texts in nested facts, keys too, but for those whose content is the machine's."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in NO_CONTENT:
                yield place, key
                yield from texts_of(item, f"{place}.{short(key)}".removeprefix("."))
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item, place)
    elif isinstance(value, str):
        yield place, value


def named_by(adapter):
    """A line on the questions and answers that a released adapter's files name."""
    questions = read_json(adapter / QUESTIONS_FILE)
    least, space = read_json(adapter / EXPERIMENT_FILE).get("min_groups", 2), read_json(adapter / SPACE_FILE)
    answers = {label for entry in space.get("questions", {}).values() for label in entry["candidates"] or ()}
    of = (
        f"each of {least} patients (images, where rows name no group) or more"
        if least > 1
        else "of any number of patients (data.min_groups)"
    )
    return f"its files name {len(questions)} questions ({QUESTIONS_FILE}) and {len(answers)} answers ({SPACE_FILE}), {of}"


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
    if read := [name for name in going if name not in (*ADAPTER, *COPIED)]:
        print(
            f"left of {', '.join(read)}: names of files and folders, commands, tables of answers, questions that the adapter doesn't name, "
            "scores by a column (--by)"
        )
    for name, why in folded(left):
        print(printable(f"left {name}: {why}"))
    whole = all(name in going for name in ADAPTER)
    if whole:
        print(named_by(dst / "adapter"))
    print("look through it before it goes out" if whole else "the adapter stays; see above")
    return 0 if whole else 1


if __name__ == "__main__":
    run_script(main)
