"""A predictions file on its way to scores: read, check, judge, measure, print, write. Or several seeds, or two sides."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py")

from collections import Counter
from types import SimpleNamespace

from config import PublicNames, near, resolve_path, save_run_info
from data import answer_space
from data.aliases import question_template
from data.blind_prior import answer_blindly, blind_prior
from data.corrections import corrections_for
from data.lenient import lenient_match
from data.matching import judge, references
from data.preprocess import enrich_split
from data.rules import ordered_types
from evaluation import tables, truth
from evaluation.agreement import agreement
from evaluation.compare import compare, comparison_table, conclusion, over_seeds, seeds_table
from evaluation.confidence import answer_set_table, answer_sets
from evaluation.metrics import aggregate, calibration, compare_rows, greedy_comparison, measure, template_of
from evaluation.predictions import check_asked, check_same_configuration, load_predictions, load_sidecar
from evaluation.recipes import check_recipe, recipe_scores, recipe_table
from evaluation.robustness import robustness, robustness_tables
from evaluation.subgroups import subgroup_table, subgroups, with_fields
from evaluation.text_overlap import text_scores
from files import UserError, printable, read_jsonl, short, write_json

ASKED = 0.5  # of the rows, at least, must ask what training asks: else the training rows are of something else


# ---------------------------------------------------------------------------------------------------------------------
# One file


def data_file(cfg, args, sidecar, path):
    """The data file that knows what predictions are about, or None: --against, or that of the default predictions."""
    if args.against:
        return args.against
    if args.predictions or args.compare:
        return None
    if (sidecar.get("split") or "val") != "val":
        split = short(sidecar["split"])
        raise UserError(f"{path} holds predictions for the {split} split, not val; evaluate them with --predictions {path}")
    return cfg.data.val_jsonl if cfg.data.val_jsonl and cfg.data.val_jsonl.is_file() else None


def load_all(cfg, paths, args):
    """The predictions files, each as `load` gives it, by one answer space."""
    for name in args.recipe:
        check_recipe(name)
    sidecars = [load_sidecar(path) for path in paths]
    space = truth.space_for(cfg, sidecars, paths)
    return [load(cfg, path, args, sidecar, *space) for path, sidecar in zip(paths, sidecars)]


def load_sets(cfg, args):
    """The predictions of --sets, by the data file that their sidecar names where it is there, else by their own word."""
    path = resolve_path(args.sets, cfg.config_path.parent)
    sidecar = load_sidecar(path)
    source = cfg.find(sidecar.get("source"), path.parent)
    settings = SimpleNamespace(**{**vars(args), "against": source, "predictions": [path]})
    return load(cfg, path, settings, sidecar, *truth.space_for(cfg, [sidecar], [path]))


def load(cfg, path, args, sidecar, space, space_from):
    """A predictions file, checked and judged: {path, judged, scores, sidecar, partial, junk, source, space, …}."""
    rows = load_predictions(path)
    source, rules = data_file(cfg, args, sidecar, path), args.types == "rules"
    if source:
        training = bool(cfg.data.train_jsonl and cfg.data.train_jsonl.is_file() and source.samefile(cfg.data.train_jsonl))
        corrections = corrections_for(cfg.data, source)
        limit, any_wording = sidecar.get("limit"), args.pair == "wording"
        rows, in_data = truth.with_data(rows, path, source, space, limit, rules, any_wording, training, corrections, cfg.data)
        rows = with_fields(rows, source, args.by, corrections) if args.by else rows
    else:
        if args.by:
            raise UserError(f"--by {' '.join(args.by)}: fields are those of the data file; {truth.WAY_IN}")
        rows = truth.completed(rows, path, space)
    partial = check_asked(path, rows, sidecar)
    if source:
        partial = [len(rows), in_data] if len(rows) < in_data else None
    for place, row in enumerate(rows):
        row["place"] = place
    rows, junk = truth.without_junk(rows)
    if not rows:
        raise UserError(f"{path}: no row has a true answer; evaluate a file whose data have answers")
    rows = truth.with_clusters(truth.by_rules(rows, "qtype") if rules else rows, path)
    conventions = answer_space.conventions(space)
    judged = judge(rows, cfg.eval, conventions)
    facts = {"path": path, "sidecar": {key: value for key, value in sidecar.items() if key != "ids"}, "partial": partial, "junk": junk}
    facts |= {"source": source, "space": space, "space_from": space_from, "conventions": conventions}
    return {**facts, "judged": judged, "scores": aggregate(judged)}


def score_reachable(rows):
    """Scores of a model that is right wherever a row's constraint allows it, or None where the rows don't tell."""
    return aggregate(rows, "reachable") if all(isinstance(row.get("reachable"), bool) for row in rows) else None


def score_leniently(judged, space):
    """`aggregate` of the lenient score: right, too, if only the wording around the answer is wrong (data/lenient.py)."""
    known = {}
    for row in judged:
        if not row["correct"]:
            # the same few answers come again and again
            case = row["qtype"], row.get("question"), row["pred"], *references(row), tuple(row.get("options", ()))
            if case not in known:
                valid = truth.valid_answers(row, space)
                known[case] = lenient_match(row["qtype"], references(row), row["pred"], valid, row.get("options"), row.get("question"))
        row["lenient"] = row["correct"] or known[case]
    return aggregate(judged, "lenient")


def answer_as_the_prior(cfg, rows, types, conventions):
    """Return (the blind prior's judged rows, number of rows whose question training asks).

    Raises UserError where the training rows can't be had, or ask fewer than half of these questions: what they say most
    often is no prior then.
    """
    if cfg.data.train_jsonl is None:
        raise UserError("data.train_jsonl is not set")
    train = (row for _, row in read_jsonl(enrich_split(cfg, "train")))
    prior = blind_prior(truth.by_rules(list(train), "question_type") if types == "rules" else train)
    questions = Counter(row.get("question") or "" for row in rows)
    asked = sum(count for question, count in questions.items() if question_template(question) in prior[0])
    if asked < ASKED * len(rows):
        raise UserError(f"{near(cfg.data.train_jsonl)} asks the questions of {asked:,} of these {len(rows):,} rows, too few for a prior")
    case_of = lambda row: (row["qtype"], row.get("question"), *references(row), tuple(row.get("options", ())))
    cases = list(map(case_of, rows))
    kinds = dict(zip(cases, rows))  # the same few truths come again and again
    verdicts = dict(zip(kinds, judge(answer_blindly(list(kinds.values()), prior), cfg.eval, conventions)))
    blind = [{**verdicts[case], "id": row["id"], "cluster": row["cluster"]} for case, row in zip(cases, rows)]
    return blind, asked


def score_texts(judged):
    """`text_scores` per type and overall, against all of a row's references."""
    groups = {name: [row for row in judged if row["qtype"] == name] for name in ordered_types({row["qtype"] for row in judged})}
    return {
        name: text_scores([row["pred"] or "" for row in rows], list(map(references, rows)))
        for name, rows in [*groups.items(), ("OVERALL (micro)", judged)]
    }


def evaluate(cfg, run, args):
    """Print and write the scores of a loaded run, and return it with all of them."""
    judged, scores = run["judged"], run["scores"]
    texts = score_texts(judged) if args.text_metrics else None
    print(tables.results_table(scores) + "\n")  # first on stdout, whatever follows
    alarms = [*tables.warnings(scores, run, cfg.eval)]
    print("".join(f"{line}\n" for line in alarms), end="\n" if alarms else "")
    found = measured(cfg, run, args)
    details = found["details"]
    print(tables.main_table(details, found["lenient"], found["gains"], found["blind_prior"], found["reachable"]))
    about = [*tables.below_main_table(details, found["unit"], found["blind_prior"], found["asked"], any("image" in row for row in judged))]
    about += [f"no blind prior: {found['no_prior']}"] if found["no_prior"] else []
    about += filter(None, [tables.form_note(judged), tables.references_note(judged), tables.lists_note(judged, run["conventions"])])
    about += [tables.macro_f1_note(details), *tables.presence_lines(details["presence"]), *checked_notes(run)]
    print("\n".join(about))
    if found["agreement"]:
        print("\n" + tables.agreement_table(found["agreement"]))
    if found["answer_sets"]:
        print("\n" + answer_set_table(found["answer_sets"], found["unit"]))
    for name, recipe in found["recipes"].items():
        print("\n" + recipe_table(name, recipe))
    for name, groups in found["by"].items():
        print("\n" + subgroup_table(name, groups, found["unit"]))
    if texts:
        print("\n" + tables.text_table(texts))
    if found["robustness"]:
        print("\n" + robustness_tables(found["robustness"], args.verbose))
    more = [
        *tables.notes(scores, found["reachable"]),
        *tables.more_scores(details, found["greedy"], found["calibrated"]),
        *tables.lowest_recalls(details),
    ]
    if args.verbose:
        print("\n" + "\n".join([tables.details_table(details), "", *more]))
    if args.show > 0:
        tables.show_mismatches(judged, args.show)
    out = metrics_path(cfg.output_dir, run["path"], args.types)
    found |= {"text": texts, "partial": run["partial"], "junk": run["junk"], "against": run["source"] and str(run["source"])}
    facts = {"predictions": str(run["path"]), **scores, **found}
    save_run_info(out, cfg, **facts, tolerances=cfg.eval.model_dump(), sidecar=run["sidecar"])
    print(f"metrics: {shown(out)}")
    return {**run, **found, "alarms": alarms, "about": about, "more": more, "metrics": out}


def measured(cfg, run, args):
    """The scores of a loaded run beside its accuracies, as they stand in the metrics file."""
    judged, conventions = run["judged"], run["conventions"]
    blind_rows, asked, no_prior = None, None, None
    try:
        blind_rows, asked = answer_as_the_prior(cfg, judged, args.types, conventions)
    except UserError as error:
        no_prior = str(error)
    items = compare_rows(judged, conventions)
    details = measure(judged, items)
    beside_questions(details, judged, blind_rows)
    target = ((run["sidecar"].get("config") or {}).get("predict") or {}).get("coverage")
    return {
        "blind_prior": aggregate(blind_rows) if blind_rows else None,
        "gains": compare([blind_rows], [judged]) if blind_rows else None,
        "asked": asked,
        "no_prior": no_prior,
        "lenient": score_leniently(judged, run["space"]),
        "reachable": score_reachable(judged),
        "agreement": agreement(judged, cfg.eval, conventions),
        "answer_sets": answer_sets(judged, cfg.eval, conventions, target, run["sidecar"].get("calibrated_on") or 0),
        "calibrated": calibrated(judged, items),
        "recipes": {name: recipe_scores(name, judged, blind_rows, cfg.eval, conventions) for name in dict.fromkeys(args.recipe)},
        "by": {name: subgroups(judged, items, name, blind_rows) for name in dict.fromkeys(args.by)},
        "unit": truth.unit_of(judged),
        "details": details,
        "greedy": greedy_comparison(judged, cfg.eval, conventions),
        "robustness": robustness(cfg, run, blind_rows) if args.robustness else None,
    }


def calibrated(judged, items):
    """The `metrics.calibration` of calibrated confidences, or None where prediction applied no temperature."""
    pairs = [(item, row["confidence_calibrated"]) for item, row in zip(items, judged) if row.get("confidence_calibrated") is not None]
    return calibration([item._replace(confidence=value) for item, value in pairs])


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


def checked_notes(run):
    """What the rows were checked against, and what types and spellings go by."""
    if run["source"]:
        by = printable(run["space_from"])
        yield f"questions, images, answers and patients are those of {shown(run['source'])}; types and spellings go by {by}"
    else:
        yield f"only the file itself was checked: types, truths and images are its own word; {truth.WAY_IN}"


# ---------------------------------------------------------------------------------------------------------------------
# Several files


def over_side(runs):
    """`over_seeds` of loaded runs about the same rows, which may stand in another order in each."""
    order = {row["id"]: place for place, row in enumerate(runs[0]["judged"])}
    return over_seeds([sorted(run["judged"], key=lambda row: order[row["id"]]) for run in runs])


def evaluate_seeds(cfg, runs, args):
    """Evaluate each file; then print and write what several seeds of one configuration have in common."""
    truth.check_same_rows(runs)
    check_same_configuration(runs)
    evaluated = []
    for run in runs:
        evaluated.append(evaluate(cfg, run, args))
        print()
    seeds = over_side(runs)
    unit = evaluated[0]["unit"]
    print(f"{len(runs)} seeds: mean and standard deviation over them; the interval of the mean is by {unit}\n\n{seeds_table(seeds)}")
    out = cfg.output_dir / f"seeds_{_joined(runs)}.json"
    write_json(out, {"predictions": [PublicNames(cfg).path(run["path"]) for run in runs], **seeds})
    print(f"seeds: {shown(out)}")
    return {**evaluated[0], "seeds": seeds, "about_file": out}


def evaluate_pair(cfg, sides, args):
    """Print A's table, evaluate B, and print and write how they compare row by row. sides: (A, B), each one run or several seeds."""
    truth.check_same_rows([*sides[0], *sides[1]], any_wording=args.pair == "wording")
    for runs in sides:
        check_same_configuration(runs)
    first, second = sides[0][0], sides[1][0]
    print(tables.results_table(first["scores"]))
    print(f"above: {printable(str(first['path']))} (A); below: {printable(str(second['path']))} (B)\n")
    evaluated = evaluate(cfg, second, args)
    names = names_in_words(first, second)
    comparison = compare(*([run["judged"] for run in runs] for runs in sides))
    sentence = conclusion(comparison, *names)
    for letter, runs in zip("AB", sides):
        if len(runs) > 1:
            print(f"\n{letter}, {len(runs)} seeds\n\n{seeds_table(over_side(runs))}")
    files = [", ".join(printable(run["path"].name) for run in runs) for runs in sides]
    print(f"\nA: {names[0]} ({files[0]}); B: {names[1]} ({files[1]})\n\n{comparison_table(comparison)}\n\n{sentence}")
    out = cfg.output_dir / f"comparison_{_joined(sides[0])}_{_joined(sides[1])}.json"
    paths = [[PublicNames(cfg).path(run["path"]) for run in runs] for runs in sides]
    saved = PublicNames(cfg).text(sentence, first["path"], second["path"])
    write_json(out, {"a": paths[0], "b": paths[1], **comparison, "conclusion": saved})
    print(f"comparison: {shown(out)}")
    return {**evaluated, "comparison": comparison, "names": names, "conclusion": sentence, "other": first, "about_file": out}


def names_in_words(first, second):
    """How a sentence calls two runs: `the tuned model with constrained decoding`, or the files' names where that tells them not apart."""
    names = []
    for run in (first, second):
        facts = run["sidecar"]
        tuned = "untuned" if facts.get("adapter") in (None, "none") else "tuned"
        decoding = facts.get("decoding")
        decoding = {"greedy": "greedy constrained", "exact": "exact constrained"}.get(decoding, decoding)
        names.append(f"the {tuned} model with {decoding} decoding" if "adapter" in facts and decoding else _short_name(run["path"]))
    for name_of in (_short_name, lambda path: f"{path.parent.name}/{path.stem}", near):
        if names[0] != names[1]:
            break
        names = [name_of(run["path"]) for run in (first, second)]
    return [printable(name) for name in names]


def shown(path):
    """A path as one would type it, on one line."""
    return printable(near(path))


def _short_name(path):
    return path.stem.removeprefix("predictions").removeprefix("_") or "predictions"


def _joined(runs):
    """`seed1_and_2_more`: what a file about several runs is called."""
    return _short_name(runs[0]["path"]) + f"_and_{len(runs) - 1}_more" * (len(runs) > 1)


def metrics_path(output_dir, predictions, types="predicted"):
    """predictions.jsonl -> metrics.json, predictions_<rest>.jsonl -> metrics_<rest>.json, else metrics_<stem>.json.

    By the rules' types: metrics_rules.json and metrics_<rest>_rules.json. Of another run's folder: metrics_<folder>_<rest>.json,
    so that they don't replace this one's.
    """
    rest = predictions.stem.removeprefix("predictions").removeprefix("_")
    own = predictions.parent == output_dir or not predictions.stem.startswith("predictions")
    rest = "_".join(filter(None, ["" if own else predictions.parent.name, rest, "rules" if types == "rules" else ""]))
    return output_dir / (f"metrics_{rest}.json" if rest else "metrics.json")
