"""A predictions file on its way to scores: read, check, judge, measure, print, write. Or several seeds, or a pair."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py")

from collections import Counter

from config import near, save_run_info
from data import answer_space
from data.blind_prior import answer_blindly, blind_prior
from data.matching import judge
from data.preprocess import enrich_split, training_space
from data.rules import ordered_types
from data.schema import infer_question_type
from evaluation import tables
from evaluation.compare import compare, comparison_table, conclusion, over_seeds, seeds_table, unit_of
from evaluation.metrics import aggregate, greedy_comparison, measure, template_of, text_scores
from evaluation.predictions import check_same_configuration, check_same_rows, load_predictions, load_sidecar, with_data
from files import UserError, read_jsonl, write_json


def data_file(cfg, args, sidecar, path):
    """The data file that predictions are checked against, or None: --against, or that of the default predictions."""
    if args.against:
        return args.against
    if args.predictions or args.compare:
        return None
    if sidecar.get("split", "val") != "val":
        raise UserError(f"{path} holds predictions for the {sidecar['split']} split, not val; evaluate them with --predictions {path}")
    return cfg.data.val_jsonl if cfg.data.val_jsonl and cfg.data.val_jsonl.is_file() else None


def by_rules(rows, key):
    """The rows with the literal rules' type of their question (and options) at `key`."""
    if any(not isinstance(row.get("question"), str) for row in rows):
        raise UserError("--types rules: a prediction row has no question to infer its type from; predict again")
    return [{**row, key: infer_question_type(row["question"], row.get("options"))} for row in rows]


def spellings_for(cfg, sidecar):
    """The spellings that mean the same for one question only: from the sidecar, or else from the training rows."""
    if "spellings" in sidecar:
        return sidecar["spellings"]
    try:
        return answer_space.spellings(training_space(cfg, say=lambda line: None))
    except UserError:
        return {}


def load(cfg, path, args):
    """A predictions file, checked and judged: {path, rows, judged, scores, sidecar, partial, source, spellings}."""
    rows = load_predictions(path)
    sidecar, partial = load_sidecar(path, rows)
    source = data_file(cfg, args, sidecar, path)
    rows = with_data(rows, path, source, partial) if source else rows
    if args.types == "rules":
        rows = by_rules(rows, "qtype")
    spellings = spellings_for(cfg, sidecar)
    judged = judge(rows, cfg.eval, spellings)
    facts = {"path": path, "sidecar": sidecar, "partial": partial, "source": source, "spellings": spellings}
    return {**facts, "judged": judged, "scores": aggregate(judged)}


def score_reachable(rows):
    """Scores of a model that is right wherever a row's constraint allows it, or None where the rows don't tell."""
    if not all(isinstance(row.get("reachable"), bool) for row in rows):
        return None
    return aggregate([{**row, "correct": row["reachable"]} for row in rows])


def score_blind_prior(cfg, rows, types, spellings):
    """Return the blind prior's judged rows, or None, saying why, where the training rows can't be had."""
    try:
        train = (row for _, row in read_jsonl(enrich_split(cfg, "train")))
        prior = blind_prior(by_rules(list(train), "question_type") if types == "rules" else train)
    except UserError as error:
        print(f"no blind prior: {error}")
        return None
    bare = [{key: row.get(key) for key in ("id", "qtype", "gt", "question")} for row in rows]
    return judge(answer_blindly(bare, prior), cfg.eval, spellings)


def score_texts(judged):
    """`text_scores` per type and overall; references: a row's `answers`, else its ground truth."""
    groups = {name: [row for row in judged if row["qtype"] == name] for name in ordered_types({row["qtype"] for row in judged})}
    return {
        name: text_scores([row["pred"] or "" for row in rows], [row.get("answers") or [row["gt"]] for row in rows])
        for name, rows in [*groups.items(), ("OVERALL (micro)", judged)]
    }


def evaluate(cfg, run, args):
    """Print and write the scores of a loaded run, and return it with all of them."""
    judged, scores = run["judged"], run["scores"]
    texts = score_texts(judged) if args.text_metrics else None
    print(tables.results_table(scores) + "\n")  # first on stdout, whatever follows
    blind_rows = score_blind_prior(cfg, judged, args.types, run["spellings"])
    blind = aggregate(blind_rows) if blind_rows else None
    details, reachable = measure(judged, run["spellings"]), score_reachable(judged)
    beside_questions(details, judged, blind_rows)
    greedy = greedy_comparison(judged, cfg.eval, run["spellings"])
    print(tables.main_table(details, blind, reachable, unit_of(judged)))
    if texts:
        print("\n" + tables.text_table(texts))
    shown = [*tables.warnings(scores, run["partial"]), checked_note(run)]
    more = [*tables.notes(scores, reachable), *tables.more_scores(details, greedy)]
    print("\n".join(shown))
    if args.verbose:
        print("\n" + "\n".join([tables.details_table(details), "", *more]))
    if args.show > 0:
        tables.show_mismatches(judged, args.show)
    out = metrics_path(cfg.output_dir, run["path"], args.types)
    found = {"partial": run["partial"], "blind_prior": blind, "reachable": reachable}
    found |= {"details": details, "greedy": greedy, "text": texts, "against": run["source"] and str(run["source"])}
    facts = {"predictions": str(run["path"]), **scores, **found}
    save_run_info(out, cfg, **facts, tolerances=cfg.eval.model_dump(), sidecar=run["sidecar"])
    print(f"metrics: {near(out)}")
    return {**run, **found, "notes": [*more, *shown], "metrics": out}


def beside_questions(details, judged, blind_rows):
    """Add each question's floor (`blind`) and ceiling (`reachable`) to its scores, where they are known."""
    floors, ceilings, counts = Counter(), Counter(), Counter()
    for index, row in enumerate(judged):
        key = row["qtype"], template_of(row)
        counts[key] += 1
        floors[key] += blind_rows[index]["correct"] if blind_rows else 0
        ceilings[key] += bool(row.get("reachable"))
    has_ceiling = all(isinstance(row.get("reachable"), bool) for row in judged)
    for item in details["per_question"]:
        key = item["qtype"], item["template"]
        item["blind"] = floors[key] / counts[key] if blind_rows else None
        item["reachable"] = ceilings[key] / counts[key] if has_ceiling else None


def checked_note(run):
    """What the ids and the ground truth were checked against."""
    if run["source"]:
        return f"ids, questions and ground truth checked against {near(run['source'])}"
    return "only the file itself was checked; --against DATA.jsonl checks ids and ground truth"


def evaluate_seeds(cfg, runs, args):
    """Evaluate each file; then print and write what several seeds of one configuration have in common."""
    check_same_rows(runs)
    check_same_configuration(runs)
    evaluated = []
    for run in runs:
        evaluated.append(evaluate(cfg, run, args))
        print()
    order = {row["id"]: place for place, row in enumerate(runs[0]["judged"])}
    seeds = over_seeds([sorted(run["judged"], key=lambda row: order[row["id"]]) for run in runs])
    print(f"{len(runs)} seeds: mean and standard deviation over them; the interval of the mean resamples images\n\n{seeds_table(seeds)}")
    out = cfg.output_dir / f"seeds_{_short_name(runs[0]['path'])}_and_{len(runs) - 1}_more.json"
    write_json(out, {"predictions": [str(run["path"]) for run in runs], **seeds})
    print(f"seeds: {near(out)}")
    return {**evaluated[0], "seeds": seeds}


def evaluate_pair(cfg, runs, args):
    """Print the first file's table, evaluate the second, and print and write how they compare row by row."""
    check_same_rows(runs)
    first, second = runs
    print(tables.results_table(first["scores"]))
    print(f"above: {first['path']} (A); below: {second['path']} (B)\n")
    evaluated = evaluate(cfg, second, args)
    comparison = compare(first["judged"], second["judged"])
    names = names_in_words(runs)
    sentence = conclusion(comparison, *names)
    print(f"\nA: {names[0]} ({first['path'].name}); B: {names[1]} ({second['path'].name})\n\n{comparison_table(comparison)}\n\n{sentence}")
    out = cfg.output_dir / f"comparison_{_short_name(first['path'])}_{_short_name(second['path'])}.json"
    write_json(out, {"a": str(first["path"]), "b": str(second["path"]), **comparison, "conclusion": sentence})
    print(f"comparison: {near(out)}")
    return {**evaluated, "comparison": comparison, "names": names, "conclusion": sentence, "other": first}


def names_in_words(runs):
    """How a sentence calls each run: `the tuned model with constrained decoding`, or the file's name where that tells none apart."""
    names = []
    for run in runs:
        facts = run["sidecar"]
        tuned = "untuned" if facts.get("adapter") in (None, "none") else "tuned"
        decoding = facts.get("decoding")
        decoding = {"greedy": "greedy constrained", "exact": "exact constrained"}.get(decoding, decoding)
        names.append(f"the {tuned} model with {decoding} decoding" if "adapter" in facts and decoding else _short_name(run["path"]))
    return names if len(set(names)) == len(names) else [_short_name(run["path"]) for run in runs]


def _short_name(path):
    return path.stem.removeprefix("predictions").removeprefix("_") or "predictions"


def metrics_path(output_dir, predictions, types="predicted"):
    """predictions.jsonl -> metrics.json, predictions_<rest>.jsonl -> metrics_<rest>.json, else metrics_<stem>.json.

    By the rules' types: metrics_rules.json and metrics_<rest>_rules.json.
    """
    rest = predictions.stem.removeprefix("predictions").removeprefix("_")
    rest = "_".join(filter(None, [rest, "rules" if types == "rules" else ""]))
    return output_dir / (f"metrics_{rest}.json" if rest else "metrics.json")
