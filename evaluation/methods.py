"""How a run was made and scored, told in sentences as a paper tells it: for the report's methods paragraph and tools/publish.py. No torch.

A sentence says what the run's own files say; where they don't, it is None, and ASKED says what the authors have to add. Nothing is guessed.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH, or tools/publish.py")

from config import EvalConfig, PromptConfig
from evaluation.robustness import about_samples
from files import UserError, read_cache, read_json
from model.on_disk import EXPERIMENT_FILE
from templates import prompt_block

CHECKED = "check.json"  # the doctor's report, in output_dir/data
RECORD, LOG = "train_run.json", "trainer_state.json"  # of a training, beside its adapter
# What only the authors can say where a run's files don't; the keys are those of `sentences`.
ASKED = {
    "base": "which base model, in which revision",
    "tuning": "how the model was adapted",
    "optimisation": "optimiser, learning rate, batch, steps and seed of the training",
    "selection": "how the final weights were chosen",
    "sizes": "numbers of questions, images and patients in each split (python -m data.check counts them)",
    "leaks": "whether splits share images, near-duplicates or patients (python -m data.check counts them, then publish again)",
    "drawn": "by which rule and seed the splits were drawn",
    "hashes": "SHA-256 of the files of rows",
    "languages": "the language of questions and answers",
    "prepared": "what was done to the rows before training",
    "missing": "how missing, repeated and contradicting answers were handled (python -m data.check counts them)",
    "agreement": "how far annotators agree",
    "prompt": "the prompt, word for word",
    "pixels": "how images were resized",
    "decoding": "how answers were decoded",
    "output": "what comes out of the model",
    "judges": "who judged the answers",
    "scored": "on which rows the scores are",
    "scoring": "when an answer counts as right",
    "intervals": "how intervals were computed",
    "compared": "what the scores are compared with",
    "prior": "what guessing without the image scores on the same rows",
    "robustness": "what other, black and spoilt pictures and other words change (predict_exp1.py --perturb all, eval_exp1.py --robustness)",
    "calibration": "whether confidences may be acted on (exact decoding gives them)",
    "failures": "which answers are wrong, and what harm that could do",
    "hardware": "on which machine training and prediction ran, and for how long",
    "software": "versions of the software",
    "dates": "when training and prediction ran",
}
PARAGRAPH = ("base", "tuning", "optimisation", "selection", "sizes", "leaks", "prompt", "pixels", "decoding")
PARAGRAPH += ("scored", "scoring", "intervals", "compared", "hardware", "software")
DECODING = {
    "exact": "every valid answer of a question is scored by the probability of its tokens, end token included, and the likeliest is taken",
    "greedy": "the likeliest next token is taken among those that some valid answer allows",
    "allowed_set": "the likeliest next token is taken among all tokens of the valid answers, in any order",
    "free": "the likeliest next token is taken, without a constraint",
}


OUTPUT = (
    "The output is one of the valid answers of the question, or several where it asks for a list; questions whose answers are open get "
    "free text. Exactly scored answers have a probability among the valid ones."
)


# ---------------------------------------------------------------------------------------------------------------------
# What a run's files say


def checked_data(folder, trained_on):
    """What the doctor counted on a run's data, or {}: {"splits": {split: counts}, "between": {pair: counts}, "opened", "recorded"}.

    folder: output_dir. trained_on: SHA-256 of the training file, None for a model that wasn't trained. Only splits whose files are still
    those that the run enriched, only numbers and hashes, and nothing where the training file is another.
    """
    try:
        report = read_json(folder / "data" / CHECKED)
        files, now = report["made_from"]["files"], {}
        for split in report["splits"]:
            now[split] = (read_cache((folder / "data" / split).with_suffix(".meta.json")).get("inputs") or {}).get("source")
        same = [split for split in report["splits"] if files[split] == now[split]]
        if "train" not in same or trained_on not in (None, files["train"]):
            return {}
        counts = {split: {key: int(report["splits"][split][key]) for key in COUNTED} | {"sha256": files[split]} for split in same}
        pairs = {pair: facts for pair, facts in report["between"].items() if set(pair.split(" and ")) <= set(same)}
        shared = {pair: {key: int(facts[key]) for key in SHARED if key in facts} for pair, facts in pairs.items()}
        recorded = all((report["recorded_split"].get(split) or {}).get("intact") for split in same)
        return {"splits": counts, "between": shared, "opened": report["images"] is not None, "recorded": recorded}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):  # none yet, or another version's
        return {}


COUNTED = ("rows", "images", "groups", "junk_rows", "duplicates", "conflicting_pairs")
SHARED = {
    "names": "images",
    "groups": "groups (patients or videos)",
    "copies": "copies of an image under another name",
    "near_duplicates": "near-duplicate images",
}


def study_of(adapter, metrics, data=None, public=lambda facts: facts):
    """What `sentences` tells, from a run's files. adapter: its folder, None for an untuned model or where it isn't there.

    metrics: facts as a metrics file has them. data: output_dir of the run, by default the adapter's parent. public: takes folders out
    of nested facts, as older code wrote them (PublicNames.facts).
    """
    read = lambda path: public(read_cache(path)) if path.is_file() else {}
    experiment = read(adapter / EXPERIMENT_FILE) if adapter else {}
    sidecar = public(metrics.get("sidecar") or {})
    untuned, trained_on = sidecar.get("adapter") == "none", (experiment.get("trained_on") or [None])[-1]
    counted = (data or adapter) and (untuned or trained_on)
    return {
        "experiment": experiment,
        "record": read(adapter.parent / RECORD) if adapter else {},
        "log": read(adapter.parent / LOG).get("log_history") or [] if adapter else [],
        "metrics": metrics,
        "sidecar": sidecar,
        "untuned": untuned,
        "checked": checked_data(data or adapter.parent, trained_on) if counted else {},
        "config": sidecar.get("config") or {},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Sentences


def sentences(study):
    """{key of ASKED: a sentence, None where the run's files don't tell, "" where nothing is to be told}. study: of `study_of`."""
    parts = (_of_model, _of_training, _of_rows, _of_data, _of_prediction, _of_scores, _of_more_scores, _of_machine)
    found = {key: value for part in parts for key, value in part(study).items()}
    return {key: found.get(key) for key in ASKED}


def methods_paragraph(said):
    """The methods as one paragraph, ready to paste; what the authors have to add stands in it in brackets. said: of `sentences`."""
    parts = (f"[for the authors: {ASKED[key]}]" if said[key] is None else said[key] for key in PARAGRAPH)
    return " ".join(filter(None, parts))


def base_of(study):
    """What is known of the base model, a dict: base_source, base_revision, base_weights; what training recorded comes first."""
    experiment = study["experiment"]
    return experiment if experiment.get("base_weights") or experiment.get("base_revision") else study["sidecar"]


def _of_model(study):
    experiment, record = study["experiment"], study["record"]
    config = record.get("config") or study["config"]
    name = config.get("model_name") or experiment.get("model_name")
    known = base_of(study)
    told = {"hub commit": known.get("base_revision"), "SHA-256 over its weights": known.get("base_weights")}
    told = ", ".join(f"{what} {value}" for what, value in told.items() if value)
    base = f"The base model is {name} ({told or 'its revision was not recorded'})." if name else None
    if study["untuned"]:
        return {"base": base, "tuning": "It was not fine-tuned.", "optimisation": "", "selection": ""}
    lora = (record.get("config") or {}).get("lora")
    tuning = None
    if lora:
        where = f"the language model's {', '.join(lora['target_modules'])}"
        numbers = f"rank {lora['r']}, alpha {lora['alpha']}, dropout {lora['dropout']:g}"
        held = "4-bit base weights (NF4)" if config.get("quantization") == "nf4" else "base weights"
        tuning = f"It was fine-tuned by low-rank adaptation (LoRA; {numbers}) of {where}; vision tower and {held} stayed frozen."
    return {"base": base, "tuning": tuning}


def _of_training(study):
    config, best = study["record"].get("config") or {}, best_of(study)
    train, processes = config.get("train"), study["record"].get("world_size")
    if not train or not processes:
        return {}
    steps = (study["record"].get("finished") or {}).get("step")
    images, asked = train["train_bs"] * train["grad_accum"] * processes, train["questions_per_image"]
    length = f"{steps or '(unfinished)'} optimizer steps" + (f" ({train['epochs']:g} epochs)" if not train["max_steps"] else "")
    batch = f"of {images} images ({train['train_bs']} x {train['grad_accum']} accumulated x {processes} processes)"
    batch += " with all their questions" if asked == "all" else f" with up to {asked} questions of each"
    rate = f"AdamW (betas 0.9 and 0.999), learning rate {train['lr']:g} with {train['warmup_ratio']:.0%} warm-up and linear decay to 0"
    rate += f", weight decay {train['weight_decay']:g}, gradients clipped at norm 1"
    loss = "The loss is the mean cross-entropy over the answers' tokens, end token included."
    start = "from an earlier adapter's weights" if train.get("init_adapter") else "LoRA's usual initial values, B being 0"
    optimisation = f"Training took {length} {batch}: {rate}; {start}; seed {train['seed']}, one training. {loss}"
    selection = None
    if "exact_match" in best:
        macro = train["select_by"] == "macro"
        by, score = ("mean over question types", best["macro_exact_match"]) if macro else ("over all questions", best["exact_match"])
        of = f"the first {train['eval_images']} images of the validation split"
        why = f"the highest teacher-forced exact match ({by}, {score:.2%})"
        selection = f"The weights are those of step {best['step']}, with {why} on {of}."
    elif best:
        selection = f"The weights are those of the last step, {best['step']}: no validation split chose."
    return {"optimisation": optimisation, "selection": selection}


def _of_rows(study):
    """What the rows hold, and what was done to them, by the settings and hashes that a run records."""
    config, sidecar, checked = study["record"].get("config") or study["config"], study["sidecar"], study["checked"]
    data = config.get("data") or {}
    files = {"training rows": (study["experiment"].get("trained_on") or [None])[-1], "scored rows": sidecar.get("source_sha256")}
    files = ", ".join(f"{name} {value}" for name, value in files.items() if value)
    language = data.get("language")
    language = ", ".join(language) if isinstance(language, list) else language
    ways = {"mined": "mined from the training rows (data/answer_space.py)", "rules": "those of the rules in data/schema.py"}
    way, prepared = ways.get(data.get("answer_space")), None
    if way:
        prepared = f"Types of questions and valid answers are {way}; answers are normalised in case, spacing and spelling."
        prepared += " Answers that people corrected replace the rows' own." if data.get("corrections") else ""
    missing = None
    if checked:
        words = {
            "junk_rows": "rows unusable",
            "duplicates": "repeated",
            "conflicting_pairs": "questions about an image with several answers",
        }
        told = [f"{name}: {', '.join(f'{facts[key]} {word}' for key, word in words.items())}" for name, facts in checked["splits"].items()]
        missing = f"In {'; in '.join(told)}. Unusable rows are neither trained on nor scored; no class is weighted."
    return {
        "hashes": f"SHA-256: {files}." if files else None,
        "languages": f"Questions and answers are in: {language}." if language else None,
        "prepared": prepared,
        "missing": missing,
    }


def _of_data(study):
    checked = study["checked"]
    if not checked:
        return {}
    groups = lambda facts: f" of {facts['groups']:,} patients or videos" if facts["groups"] else ""
    said = lambda facts: f"{facts['rows']:,} questions about {facts['images']:,} images{groups(facts)}"
    counts = [f"{name} {said(facts)}" for name, facts in checked["splits"].items()]
    drawn = "The files are as data.split wrote them; split.json beside them says how they were drawn."
    left = {name: facts["junk_rows"] for name, facts in checked["splits"].items() if facts["junk_rows"]}
    junk = "; unusable, and not trained on or scored: " + ", ".join(f"{count} ({name})" for name, count in left.items()) if left else ""
    return {
        "sizes": f"Splits: {'; '.join(counts)}{junk}.",
        "leaks": _shared_between(checked),
        "drawn": drawn if checked["recorded"] else None,
    }


def _shared_between(checked):
    """What each two splits have in common; pairs of which the same is to be said are told together. None where there is one split."""
    told = {}
    for pair, facts in checked["between"].items():
        told.setdefault(_shared(pair, facts, checked), []).append(pair)
    return " ".join(f"Splits {', '.join(pairs)} share {what}." for what, pairs in told.items()) or None


def _shared(pair, facts, checked):
    """What two splits share, and what was not looked for."""
    one, other = pair.split(" and ")
    grouped = all(checked["splits"][name]["groups"] for name in (one, other))
    keys = [key for key in SHARED if key in facts and (key != "groups" or grouped)]
    shared = [f"{facts[key]} {SHARED[key]}" for key in keys if facts[key]]
    nothing = " and no ".join(SHARED[key] for key in keys)
    text = ", ".join(shared) or f"no {nothing}"
    unknown = [] if grouped else ["rows name no patients, so sharing a patient is not ruled out"]
    unknown += [] if checked["opened"] else ["near-duplicates were not looked for"]
    return f"{text} ({'; '.join(unknown)})" if unknown else text


def _of_prediction(study):
    experiment, config, sidecar = study["experiment"], study["config"], study["sidecar"]
    image = experiment.get("image") or config.get("image")
    style = experiment.get("prompt_style") or config.get("prompt_style")
    pixels = None
    if image:
        pixels = f"Images are resized, keeping their shape, to between {image['min_pixels']:,} and {image['max_pixels']:,} pixels."
        if frames := experiment.get("max_frames"):
            pixels += f" Of several frames at most {frames} are read, evenly spaced."
    prompt = None
    if style == "plain":
        lines = " / ".join(prompt_text(experiment, config).splitlines())
        prompt = f"The prompt, its lines parted by strokes, is: {lines} (without its line of valid answers where these aren't listed)."
    elif style:
        prompt = "The prompt puts system text, image, question type, question and valid answers through the model's chat template."
    how = sidecar.get("decoding")
    decoding = output = None
    if how in DECODING:
        free = "The output is free text."
        output = free if how == "free" else OUTPUT
        valid = "valid answers are those of the same question in training rows" if how != "free" else ""
        limit = f"at most {sidecar['max_new_tokens']} tokens" if sidecar.get("max_new_tokens") and how == "free" else ""
        decoding = f"Decoding is deterministic ({how}): {'; '.join(filter(None, [DECODING[how], valid, limit]))}."
        least = (config.get("predict") or {}).get("min_confidence")
        decoding += f" Answers less probable than {least:g} among the valid ones are marked as abstained." if least else ""
    return {"pixels": pixels, "prompt": prompt, "decoding": decoding, "output": output}


def prompt_text(experiment, config, row=("{type}", "{question}", ["{valid answers}"])):
    """The plain prompt of a row (type, question, valid answers), `{image}` where the image's tokens stand; by default for any row, names
    in braces where its own words stand."""
    words = experiment.get("prompt") or config.get("prompt") or {}
    text = prompt_block(*row, PromptConfig(**words))
    return text.replace("User:\n", "User:\n{image}\n", 1)


def best_of(study):
    return study["experiment"].get("best") or {}


def _of_scores(study):
    metrics, sidecar = study["metrics"], study["sidecar"]
    details, unit, total = metrics.get("details") or {}, metrics.get("unit"), metrics.get("n")
    overall = details.get("overall")
    if not overall:
        return {}
    split = f"the {sidecar['split']} split: " if sidecar.get("split") else "a file whose split was not recorded: "
    seen = sidecar.get("source_sha256") in (sidecar.get("trained_on") or study["experiment"].get("trained_on") or ())
    scored = f"Scores are on {split}{total:,} questions" + (f" about {overall['clusters']:,} {unit}" if unit != "rows" else "") + "."
    if partial := metrics.get("partial"):
        scored += f" That is a part: {partial[0]:,} of {partial[1]:,} rows."
    scored += " These rows were trained on." if seen else ""
    scored += " This split also chose the weights." if sidecar.get("split") == "val" and "exact_match" in best_of(study) else ""
    limits = metrics.get("tolerances") or EvalConfig().model_dump()
    scoring = "An answer is right if it is the true one after normalisation of case, spacing and spelling; lists of labels count as sets; "
    scoring += f"single measurements may differ by {limits['numeric_rel_tol']:.0%} or {limits['numeric_abs_tol']:g} mm, "
    scoring += f"counts by {limits['count_abs_tol']}; an empty answer is wrong."
    independent = "questions" if unit == "rows" else f"whole {unit}, not questions,"
    intervals = f"Intervals are 95 % ({overall['interval'][2]}); {independent} are taken as independent."
    intervals += " Differences are paired; p-values of several types are corrected by Holm's method."
    prior = compared = None
    if blind := metrics.get("blind_prior"):
        gain = ((metrics.get("gains") or {}).get("overall") or {}).get("interval")
        ends = f" (95 % interval {100 * gain[0]:+.2f} to {100 * gain[1]:+.2f})" if gain else ""
        prior_is = "the blind prior, each question's commonest training answer without the image,"
        compared = f"Every score stands beside what {prior_is} scores on the same rows."
        above = 100 * (metrics["micro"] - blind["micro"])
        low, high = overall["interval"][:2]
        prior = f"Accuracy is {metrics['micro']:.2%} (95 % interval {low:.2%} to {high:.2%}), {above:+.2f} points{ends} over {prior_is} "
        prior += f"which scores {blind['micro']:.2%}."
    judges = "Neither people nor models judge answers: they are compared by rule (data/matching.py)."
    found = {"scored": scored, "scoring": scoring, "intervals": intervals, "compared": compared, "prior": prior}
    return {**found, "judges": judges, "agreement": _agreement(metrics)}


def _agreement(metrics):
    found = metrics.get("agreement")
    if not found:
        return None
    kappa = found["overall"]["kappa"]
    beyond = "" if kappa is None else f", {found['kappa_of']}'s kappa {kappa:.3f}"
    return f"{found['raters']} raters agree on {found['overall']['agreement']:.2%}{beyond} ({found['overall']['count']:,} questions)."


def _of_more_scores(study):
    metrics = study["metrics"]
    overall = (metrics.get("details") or {}).get("overall") or {}
    found, robustness, calibration, failures = metrics.get("robustness"), None, None, None
    if found:
        drops = [f"{name.replace('_', ' ')} {100 * item['overall']['drop']:.2f}" for name, item in found["perturbations"].items()]
        robustness = f"Perturbed, the same rows lose so many points of accuracy: {', '.join(drops)}."
        robustness += f" {about_samples(found['samples'])}" if found["samples"] else ""
    if fit := overall.get("calibration"):
        calibration = f"Of {fit['count']:,} confidences the calibration error (ECE, 15 bins) is {fit['ece']:.4f}, "
        calibration += f"the Brier score {fit['brier']:.4f}."
        if told := overall.get("auroc"):
            low, high = told["interval"][:2]
            calibration += f" AUROC of confidence for wrong answers: {told['value']:.4f} ({low:.4f} to {high:.4f})."
        if fit := metrics.get("calibrated"):
            calibration += f" With a temperature fitted on other images: ECE {fit['ece']:.4f}, Brier score {fit['brier']:.4f}."
        if sets := metrics.get("answer_sets"):
            target = f", made for {sets['target']:.0%}," if sets["target"] else ""
            calibration += f" Answer sets{target} hold the truth of {sets['overall']['coverage']:.2%} of {sets['overall']['count']:,} rows."
    if presence := (metrics.get("details") or {}).get("presence"):
        item = presence["overall"]
        failures = f"Of {item['there']:,} findings that are there, {item['missed']:,} were said to be absent; "
        failures += f"of {item['absent']:,} that are not, {item['false_alarms']:,} were reported."
    return {"robustness": robustness, "calibration": calibration, "failures": failures}


def _of_machine(study):
    record, sidecar, log = study["record"], study["sidecar"], study["log"]
    seconds = max((entry["training_seconds"] for entry in log if "training_seconds" in entry), default=None)
    told = []
    if record.get("hardware"):
        long = seconds and seconds >= 5400
        took = f"{seconds / 3600:.1f} hours" if long else f"{(seconds or 0) / 60:.1f} minutes"
        took = f", {took} of steps" if seconds and not record.get("resumed") else ""
        count = f"{record['world_size']} x " if record.get("world_size", 1) > 1 else ""
        told.append(f"Training ran on {count}{record['hardware']} in {record['precision']}{took}.")
    where = sidecar.get("hardware") or (sidecar.get("made_from") or {}).get("device")
    told += [f"Prediction ran on {where}."] if where else []
    versions = record.get("versions") or sidecar.get("versions") or {}
    names = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    commit = record.get("commit") or sidecar.get("commit")
    code = f"; this project's code at commit {commit}" if commit else ""
    days = {"training": record.get("date"), "its end": (record.get("finished") or {}).get("date"), "prediction": sidecar.get("date")}
    days = ", ".join(f"{what} {day[:10]}" for what, day in days.items() if day)
    return {
        "hardware": " ".join(told) or None,
        "software": f"Software: {names}{code}." if names else None,
        "dates": f"Dates: {days}." if days else None,
    }
