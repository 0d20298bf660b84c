"""A trained adapter as others may use it, check it and cite it: what may go out, with a model card and the answers to reporting guidelines.

    python tools/publish.py outputs_mine published/                        README.md (the card), REPORTING.md, what tools/release.py copies
    python tools/publish.py outputs_mine published/ --push owner/name      and upload it: to a private repository, unless one is there

Both texts say what the run's own files say, and nothing else; what these don't know is marked "For the authors". So: publish, look through
the folder, fill in what is marked, and push; a folder that is there already is pushed as it is, with your words. Before publishing,
evaluate with eval_exp1.py --robustness, and count what splits share with python -m data.check: the card then has both.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData, get_token
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config import near, yaml_file
from data.aliases import question_template
from data.answer_space import SPACE_FILE
from data.asked import QUESTIONS_FILE
from evaluation.confidence import answer_set_table
from evaluation.methods import ASKED, base_of, methods_paragraph, prompt_text, sentences, study_of
from evaluation.robustness import robustness_tables
from evaluation.tables import main_table
from files import UserError, printable, read_json, run_script, sha256, short, write_text
from model.on_disk import EXPERIMENT_FILE, WEIGHTS_FILE
from tools.release import ADAPTER, PART_OF, folded, named_by, release

CARD, REPORTING = "README.md", "REPORTING.md"
TEMPLATE, ITEMS = "model_card.md.j2", Path(__file__).with_name("reporting.yaml")
MARK = "**For the authors:**"
GUIDELINES = {
    "tripod": "[TRIPOD-LLM](https://doi.org/10.1038/s41591-024-03425-5)",
    "claim": "[CLAIM 2024](https://doi.org/10.1148/ryai.240300)",
}


def ask(what):
    return f"{MARK} {what}."


def publish(run, dst):
    """Write what may go out of a run's folder to `dst` (both Paths), card and REPORTING.md beside it. Returns the names that went.

    Raises UserError, and writes nothing, where the adapter may not go out, and as `release` does.
    """
    left_out = {}

    def add(staged, left):
        left_out.update(left)
        if unfit := sorted((left[name].startswith(PART_OF), name) for name in ADAPTER if name in left):
            _, name = unfit[0]
            raise UserError(f"{run}: the adapter stays, so there is nothing to publish; {name}: {left[name]}")
        facts = facts_of(run, staged)
        write_text(staged / CARD, str(card(facts)) + "\n")
        write_text(staged / REPORTING, reporting(facts["said"]))

    going, _ = release(run, dst, add)
    for name, why in folded(left_out):
        print(printable(f"left {name}: {why}"))
    return [*going, CARD, REPORTING]


# ---------------------------------------------------------------------------------------------------------------------
# What the texts tell


def facts_of(run, staged):
    """What the card's template tells. staged: the folder that goes out, from whose files all texts come; of `run` only what has no texts:
    hashes, and the numbers that the doctor counted."""
    adapter = staged / "adapter"
    own = sha256(*sorted(path for path in (run / "adapter").iterdir() if path.is_file()))
    found = {path.name: metrics for path in sorted(staged.glob("metrics*.json")) if whole(metrics := read_json(path))}
    of_own = [name for name, metrics in found.items() if used(metrics) == own]
    main = min(of_own, key=lambda name: (rank(found[name]), name), default=None)
    metrics = found[main] if main else {}
    study = study_of(adapter, metrics, run)
    said = sentences(study)
    record, sidecar = study["record"], study["sidecar"]
    config = record.get("config") or study["config"]
    space, questions = read_json(adapter / SPACE_FILE), read_json(adapter / QUESTIONS_FILE)
    experiment, splits = study["experiment"], {"train": (study["experiment"].get("trained_on") or [None])[-1]}
    splits[sidecar.get("split") or "scored rows"] = sidecar.get("source_sha256")
    base = config.get("model_name") or read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    known = base_of(study)
    splits |= {split: facts["sha256"] for split, facts in study["checked"].get("splits", {}).items()}
    versions = record.get("versions") or sidecar.get("versions") or {}
    return {
        "said": said,
        "asked": ASKED,
        "ask": ask,
        "name": base.rsplit("/", 1)[-1],
        "base": base,
        "is_hub_id": known.get("base_source") == "hub",
        "revision": known.get("base_revision"),
        "weights": known.get("base_weights"),
        "languages": ", ".join(space.get("languages") or ()) or "a language that was not recorded",
        "questions": len(questions),
        "cautions": cautions(study, main, found),
        "commit": record.get("commit") or sidecar.get("commit"),
        "python": "Python 3.11 or newer.",
        "packages": " ".join(f"{name}=={number}" for name, number in versions.items() if number),
        "hashes": [(name, value) for name, value in splits.items() if value],
        "on_cpu": (record.get("hardware") or "").startswith("cpu"),
        "processes": record.get("world_size", 1),
        "split": sidecar.get("split"),
        "changes": "".join(f" {change}" for change in changes(config, study["config"])),
        "adapter_sha256": sha256(adapter / WEIGHTS_FILE),
        "prompt": prompt_text(experiment, config),
        "style": experiment.get("prompt_style"),
        "answer_prefix": experiment.get("answer_prefix"),
        "example": example(questions, space, experiment),
        "main": main,
        "results": [result_row(name, metrics, own) for name, metrics in found.items()],
        "table": main and table_of(metrics),
        "answer_sets": answer_set_table(metrics["answer_sets"], metrics["unit"]) if metrics.get("answer_sets") else None,
        "robustness": robustness_tables(metrics["robustness"]) if metrics.get("robustness") else None,
        "paragraph": methods_paragraph(said),
        "configuration": yaml.safe_dump(record["config"], sort_keys=False, allow_unicode=True).rstrip() if record.get("config") else None,
        "card_languages": list(space.get("languages") or ()),
    }


def whole(metrics):
    """Is it a metrics file of this version, with the scores that are told?"""
    return {"n", "micro", "details", "sidecar"} <= metrics.keys() and {"overall", "macro", "per_type"} <= metrics["details"].keys()


def used(metrics):
    """The hash of the adapter that a metrics file's predictions were made with, `none` without one, or None where it isn't known."""
    sidecar = metrics["sidecar"]
    return (sidecar.get("made_from") or {}).get("adapter") or ("none" if sidecar.get("adapter") == "none" else None)


def rank(metrics):
    """Sorts the metrics of one adapter: the whole test split first, exactly decoded, by the predicted types, with robustness."""
    sidecar = metrics["sidecar"]
    split = {"test": 0, "val": 1}.get(sidecar.get("split"), 2)
    return bool(metrics.get("partial")), split, sidecar.get("decoding") != "exact", not metrics.get("robustness")


def cautions(study, main, found):
    """What a reader must not overlook, as lines."""
    if study["untuned"] or not main:
        yield ask("which scores this adapter has")
    if main and study["sidecar"].get("split") == "val":
        yield "The scores are on the validation split, which chose the weights: they flatter."
    if main and (found[main].get("blind_prior") or {}).get("micro", 0) > found[main]["micro"]:
        yield "It scores below its blind prior: each question's commonest answer, without looking, is better."


def changes(trained, predicted):
    """Keys (`predict.decoding=free`) in which the settings of prediction differ from the training's, sorted."""
    one, other = trained.get("predict") or {}, predicted.get("predict") or {}
    return [f"predict.{key}={other[key]}" for key in sorted(other) if other[key] != one.get(key)]


def example(questions, space, experiment):
    """The prompt of a question that the adapter names, with its valid answers; None where there is none."""
    entries = space.get("questions") or {}
    for question, _ in questions:
        entry = entries.get(question_template(question)) or {}
        if entry.get("candidates") and len(entry["candidates"]) <= (experiment.get("valid_answers") or {}).get("max_listed", 20):
            return prompt_text(experiment, {}, (entry["type"], question, entry["candidates"]))
    return None


def result_row(name, metrics, own):
    """A line of the table of all scores: strings."""
    sidecar, overall = metrics["sidecar"], metrics["details"]["overall"]
    whose = {own: "this adapter", "none": "base model alone"}.get(used(metrics), "another adapter, or not known")
    rows = f"{metrics['n']:,}" + (" (partial)" if metrics.get("partial") else "")
    ends = "{:.2%} to {:.2%}".format(*overall["interval"][:2]) if overall.get("interval") else "–"
    blind = f"{metrics['blind_prior']['micro']:.2%}" if metrics.get("blind_prior") else "–"
    return [f"`{name}`", sidecar.get("split") or "–", whose, sidecar.get("decoding") or "–", rows, f"{metrics['micro']:.2%}", ends, blind]


def table_of(metrics):
    return main_table(*(metrics.get(key) for key in ("details", "lenient", "gains", "blind_prior", "reachable")))


# ---------------------------------------------------------------------------------------------------------------------
# The texts


def card(facts):
    """The ModelCard."""
    facts = dict(facts)
    data = ModelCardData(
        base_model=facts["base"] if facts["is_hub_id"] else None,
        language=facts.pop("card_languages") or None,
        library_name="peft",
        pipeline_tag="visual-question-answering",
        tags=["lora", "medical", "endoscopy", "surgery", "visual-question-answering"],
        metrics=["accuracy"],
    )
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return ModelCard(environment.get_template(TEMPLATE).render(card_data=data.to_yaml(), **facts), ignore_metadata_errors=False)


def reporting(said):
    """REPORTING.md: each item with its answer. said: of `sentences`."""
    table = yaml_file(ITEMS)
    left_out = table.pop("left_out")
    lines = ["# Reporting", "", f"What {' and '.join(GUIDELINES.values())} ask, in other words, and what the run's files answer."]
    lines += [f"What these don't say is marked {MARK} The prompt, all scores and the configuration are in [{CARD}]({CARD})."]
    for section, items in table.items():
        lines += ["", f"## {section.replace('_', ' ').capitalize()}", "", "| TRIPOD-LLM | CLAIM | asked | answer |", "|---|---|---|---|"]
        lines += [reporting_row(item, said) for item in items]
    lines += ["", "## Left out", "", *(f"- TRIPOD-LLM {number}: {why}." for number, why in left_out.items())]
    return "\n".join(lines) + "\n"


def reporting_row(item, said):
    keys = item.get("from", ())
    told = [said[key] for key in keys if said[key]]
    told += [ask(ASKED[key]) for key in keys if said[key] is None]
    told += [ask(item["authors"])] if "authors" in item else []
    cells = [", ".join(item["tripod"]) or "–", ", ".join(item["claim"]) or "–", item["asked"], " ".join(told)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# ---------------------------------------------------------------------------------------------------------------------
# The hub


def check_push(repo):
    """Raise UserError where there is no token for the hub."""
    if not get_token():
        raise UserError(f"--push {repo}: there is no token for the hub; make one with write access, and run: hf auth login")


def push(folder, repo):
    """Upload a folder as it is to a model repository of the hub, which is made, private, where there is none; return its address.

    Raises UserError where that fails.
    """
    try:
        api = HfApi()
        address = api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Adapter, model card and reporting items")
    except Exception as error:  # of many kinds: network, rights, names
        why = short(" ".join(str(error).split()) or type(error).__name__, 200)
        raise UserError(f"--push {repo}: {why}; {near(folder)} is whole: push it again with the same command") from None
    return address


def check_same(run, dst):
    """Raise UserError unless a folder that is there already was published from this run's adapter."""
    ours = dst / "adapter" / WEIGHTS_FILE
    if not all((dst / name).is_file() for name in (CARD, REPORTING, f"adapter/{EXPERIMENT_FILE}")) or not ours.is_file():
        raise UserError(f"{dst}: is there already, and not a published folder; give a new one")
    theirs = run / "adapter" / WEIGHTS_FILE
    if not theirs.is_file() or sha256(ours) != sha256(theirs):
        raise UserError(f"{dst}: holds another adapter than {run}; give a new folder")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="output_dir of a finished run")
    parser.add_argument("dst", metavar="DST", help="a new folder; with --push also one that was published before")
    parser.add_argument("--push", metavar="REPO", help="upload DST to this model repository of the hub, owner/name")
    args = parser.parse_args()
    run, dst = Path(args.run), Path(args.dst)
    if not run.is_dir():
        raise UserError(f"{run}: is no folder; give the output_dir of a run")
    if args.push:
        check_push(args.push)
    if args.push and dst.exists():
        check_same(run, dst)
    else:
        print(f"wrote to {near(dst)}: {', '.join(publish(run, dst))}")
        print(named_by(dst / "adapter"))
    left = sum((dst / name).read_text(encoding="utf-8").count(MARK) for name in (CARD, REPORTING))
    print(f"{left} places of {CARD} and {REPORTING} are marked {MARK}" if left else "nothing is left for the authors to fill in")
    print(f"pushed to {push(dst, args.push)}" if args.push else "look through it, and fill in what is marked, before it goes out")


if __name__ == "__main__":
    run_script(main)
