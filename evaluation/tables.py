"""What an evaluation prints: the experiment's table, one table beside it, and what `-v` adds. Text only, no files."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from collections import Counter

from config import EvalConfig
from data.matching import references, unsplit_lists
from evaluation.presence import SCORES as PRESENCE
from files import printable

WIDTH = 80
FEW_CLUSTERS = 20  # whose intervals hold, by bench/evaluate.py; fewer deserve a word
ROW = "{:<20} {:<10} {:<10} {:<10}"
LONG_ANSWERS = 2  # times the words of the truth: then the form is what an exact match measures
EMPTY_WARNING = 0.05  # more empty predictions than this share point to a failure, not to a hard question
BLIND = "commonest training answer"
REACHABLE = "reachable answers"


def results_table(scores):
    """The experiment's table, whose layout is fixed."""
    lines = ["=" * WIDTH, "EVALUATION RESULTS - EXP1", "=" * WIDTH, ""]
    lines += [ROW.format("Question Type", "Count", "Correct", "Accuracy"), "-" * WIDTH]
    for name, item in scores["per_type"].items():
        lines.append(ROW.format(printable(name), item["count"], item["correct"], f"{item['accuracy']:.2%}"))
    lines += [
        "-" * WIDTH,
        ROW.format("OVERALL (micro)", scores["n"], scores["correct"], f"{scores['micro']:.2%}"),
        "=" * WIDTH,
    ]
    return "\n".join(lines)


def main_table(details, lenient, gains, blind, reachable):
    """Accuracy with its interval, the lenient score, the blind prior's, the gain over it and its interval, and what the constraint allows.

    details: of `metrics.measure`. lenient, blind, reachable: of `metrics.aggregate`, the last two perhaps None. gains: of
    `compare.compare` with the blind prior as A, or None.
    """
    line = "{:<20} {:>8} {:>17} {:>8} {:>8} {:>8} {:>18} {:>10}".format
    head = line("Question Type", "Accuracy", "95 % interval", "Lenient", "Blind", "Gain", "95 % interval", "Reachable")
    lines = [head, "-" * len(head)]
    for name, item, others in headline(details, lenient, gains, blind, reachable):
        gain = others["gain"]
        low, high = item["interval"][:2] if item["interval"] else (None, None)
        cells = [_share(item["accuracy"]), f"{low:.2%} - {high:.2%}" if item["interval"] else "-", _share(others["lenient"])]
        cells += [_share(others["blind"]), *(_gain(gain) if gain else ("-", "-")), _share(others["reachable"])]
        lines.append(line(printable(name), *cells) + "  BELOW BLIND" * bool(gain and gain["difference"] < 0))
    return "\n".join(lines)


def _gain(gain):
    points = f"{100 * gain['difference']:+.2f}"
    return points, "{:+.2f} to {:+.2f}".format(*(100 * end for end in gain["interval"][:2])) if gain["interval"] else "-"


def headline(details, lenient, gains, blind, reachable):
    """(name, scores, {"lenient", "blind", "gain", "reachable"}) of each type, of all rows, and of the types' mean; None where not known."""
    share = lambda scores, name: scores and scores["per_type"][name]["accuracy"]
    for name, item in details["per_type"].items():
        beside = {"lenient": share(lenient, name), "blind": share(blind, name), "reachable": share(reachable, name)}
        yield name, item, beside | {"gain": gains and gains["per_type"][name]}
    overall = ("OVERALL (micro)", "overall", "micro"), ("OVERALL (macro)", "macro", "macro")
    for name, group, key in overall:
        beside = {"lenient": lenient and lenient[key], "blind": blind and blind[key], "reachable": reachable and reachable[key]}
        yield name, details[group], beside | {"gain": gains and gains[group]}


def below_main_table(details, unit, blind, asked, has_images):
    """What the columns of the main table mean, where their names don't say it."""
    count, few = details["overall"]["clusters"], details["overall"]["effective_clusters"]
    if unit == "rows":
        why = "no two of them share an image" if has_images else "the file names no images"
        yield f"Intervals take {number(count, 'row')} as independent: {why}."
    else:
        yield f"Intervals take {number(count, unit)} as independent, not rows."
    if few < FEW_CLUSTERS:
        unequal = f", so unequal that they weigh as {few:.1f}" if few < 0.8 * count else ""
        rough = f"intervals from fewer than {FEW_CLUSTERS} are rough; give the score of each as well"
        yield f"WARNING: {number(count, unit)}{unequal}: {rough}."
    if blind:
        known = f"training asks the questions of {asked:,} of these {blind['n']:,} rows"
        yield f"The blind prior answers every question with its {BLIND}, without looking; {known}."


def _share(value):
    return "-" if value is None else f"{value:.2%}"


def details_table(details):
    """The stricter and the class-balanced scores of each type."""
    line = "{:<20} {:>9} {:>9} {:>9}".format
    lines = ["Strict: the same text. Balanced accuracy and macro-F1 are over the labels of the truth", ""]
    lines += [line("Question Type", "Strict", "Balanced", "Macro-F1"), "-" * WIDTH]
    groups = [*details["per_type"].items(), ("OVERALL (micro)", details["overall"]), ("OVERALL (macro)", details["macro"])]
    for name, item in groups:
        lines.append(line(printable(name), *(_share(item[key]) for key in ("strict", "balanced_accuracy", "macro_f1"))))
    return "\n".join(lines)


def agreement_table(found):
    """How far the raters agree, by type, beside the model's accuracy on the same rows. found: of `agreement.agreement`."""
    line = "{:<20} {:>8} {:>10} {:>8} {:>10}".format
    kappa = f"{found['kappa_of']}'{'s' * (found['kappa_of'] == 'Cohen')} kappa"
    lines = [f"{found['raters']} raters: how far they agree is the ceiling of the score on the same rows ({kappa}: beyond chance)", ""]
    lines += [line("Question Type", "Rows", "Agreement", "Kappa", "Accuracy"), "-" * 60]
    for name, item in [*found["per_type"].items(), ("OVERALL (micro)", found["overall"])]:
        beyond = "-" if item["kappa"] is None else f"{item['kappa']:.3f}"
        lines.append(line(printable(name), item["count"], _share(item["agreement"]), beyond, _share(item["accuracy"])))
    return "\n".join(lines)


def more_scores(details, greedy, calibrated=None):
    """One line for each kind of score that only some files have."""
    overall = details["overall"]
    if lists := overall.get("label_lists"):
        names = ("exact_set", "jaccard", "example_f1", "micro_f1", "macro_f1")
        yield _shares(f"label lists ({lists['count']} rows)", lists, names)
    if counts := overall.get("counts"):
        yield _shares(f"counts ({counts['count']} rows)", counts, ("exact", "within_one"))
    if bins := overall.get("size_bins"):
        yield _shares(f"size bins ({bins['count']} rows)", bins, ("exact", "within_one"))
    if errors := overall.get("millimetres"):
        mean, median = errors["mean_abs_error"], errors["median_abs_error"]
        yield f"measurements ({errors['count']} rows): mean absolute error {mean:.2f} mm, median {median:.2f} mm"
    if fit := overall.get("calibration"):
        values = f"ECE {fit['ece']:.4f} (15 bins), Brier {fit['brier']:.4f}, AURC {fit['aurc']:.4f}"
        yield f"calibration ({fit['count']} rows with a confidence): {values}"
    if calibrated:
        values = f"ECE {calibrated['ece']:.4f}, Brier {calibrated['brier']:.4f}"
        yield f"calibrated by the temperature of calibration.json ({calibrated['count']} rows): {values}"
    if told := overall.get("auroc"):
        ends = "{:.4f} to {:.4f}".format(*told["interval"][:2])
        yield f"AUROC of confidence for wrong answers: {told['value']:.4f} ({ends}; {told['wrong']:,} wrong, {told['right']:,} right)"
    if held := overall.get("abstention"):
        rest = "nothing answered" if held["accuracy_of_the_rest"] is None else f"accuracy of the rest {held['accuracy_of_the_rest']:.2%}"
        yield f"abstained: {held['abstained']} of {overall['count']}, coverage {held['coverage']:.2%}, {rest}"
    if greedy:
        wins = f"exact alone is right in {greedy['only_exact_right']}, greedy alone in {greedy['only_greedy_right']}"
        yield f"exact and greedy differ in {greedy['disagree']} of {greedy['count']} exactly scored rows: {wins}"


def _shares(title, scores, names):
    return f"{title}: " + ", ".join(f"{name.replace('_', ' ')} {scores[name]:.2%}" for name in names)


def text_table(texts):
    """BLEU and ROUGE-L per type, and how they were computed."""
    line = "{:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}".format
    keys = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")
    lines = ["Text overlap: corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing; words of any script, lower case), ROUGE-L F", ""]
    lines += [line("Question Type", "Count", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"), "-" * 80]
    lines += [line(printable(name), item["count"], *(_share(item[key]) for key in keys)) for name, item in texts.items()]
    return "\n".join(lines)


def warnings(scores, run, tolerances):
    """The lines that no reader of a score may miss: what was left out, empty predictions, a part of the split, other tolerances."""
    empty, total = scores["empty"], scores["n"]
    if run["partial"]:
        yield "partial: {:,} of {:,} rows".format(*run["partial"])
    if run["junk"]:
        yield f"left out: {number(run['junk'], 'row')} whose question or true answer stands for a missing value"
    changed = {key: value for key, value in tolerances.model_dump().items() if value != getattr(EvalConfig(), key)}
    if changed:
        said = ", ".join(f"eval.{key}={value} (default {getattr(EvalConfig(), key)})" for key, value in changed.items())
        yield f"tolerances other than the defaults: {said}"
    if empty:
        yield f"empty predictions: {empty:,} of {total:,}, counted as wrong"
    if empty > EMPTY_WARNING * total:
        said = f"WARNING: {empty / total:.2%} OF THE PREDICTIONS ARE EMPTY"
        yield f"{said}: prediction failed, or the model has learnt to end its answer at once (a longer training mends that)."


def macro_f1_note(details):
    """The mean over all labels, as some papers report it."""
    overall = details["overall"]
    return f"macro-F1: {overall['macro_f1']:.2%} (mean over all different true answers, of which there are {overall['labels']:,})"


def notes(scores, reachable):
    """The mean over types, and reachable answers, in words."""
    yield f"macro accuracy: {scores['macro']:.2%} (mean of {len(scores['per_type'])} question types)"
    if reachable:
        yield f"reachable answers: {reachable['micro']:.2%} of the rows have an answer that their constraint allows"


def form_note(judged):
    """A line where exact match measures the answers' form: they are much longer than the truth. None otherwise."""
    said = [len(row["pred"].split()) for row in judged if row["pred"]]
    true = sum(len(row["gt"].split()) for row in judged) / len(judged)
    mean = sum(said) / max(1, len(said))
    if mean < max(LONG_ANSWERS * true, true + 1):
        return None
    return f"NOTE: these answers have {mean:.1f} words, the truth {true:.1f}: exact match measures form here; see the lenient score."


def references_note(judged):
    """How many rows have several references, of which the best counts; None without any."""
    several = sum(len(references(row)) > 1 for row in judged)
    return f"several references: {several:,} of {len(judged):,} rows; an answer is right if it is any of them" if several else None


def number(count, unit):
    """`1 image`, `1,440 images`. unit: in the singular or plural."""
    return f"{count:,} {unit.removesuffix('s')}{'s' * (count != 1)}" if "and" not in unit else f"{count:,} {unit}"


def lists_note(judged, conventions):
    """How many truths look like lists but compare as text, as their question isn't known to ask for one; None without any."""
    kinds = Counter((row.get("question"), row["gt"]) for row in judged if not row.get("options"))
    rows = [({"question": question, "gt": gt}, count) for (question, gt), count in kinds.items()]
    count = sum(count for row, count in rows if unsplit_lists([row], conventions))
    if not count:
        return None
    said = f"{count:,} of {len(judged):,} true answers look like lists (`a, b`) and compare as text"
    return f"NOTE: {said}: no training rows show that their questions ask for lists; join labels with `; `."


def presence_lines(found):
    """The error that counts most, in three lines; nothing where no question asks whether something is there."""
    if not found:
        return
    scores, questions = found["overall"], len(found["per_question"])
    missed = f"{scores['missed']:,} of {scores['there']:,} were missed: said to be absent"
    yield f"Is it there? ({questions} question{'s' * (questions > 1)}, {scores['there'] + scores['absent']:,} rows) {missed}."
    for names in (list(PRESENCE)[:2], list(PRESENCE)[2:]):
        if known := [f"{name.replace('_', ' ')} {_with_ends(scores[name])}" for name in names if scores[name]]:
            yield f"  {', '.join(known)}"


def _with_ends(score):
    return "{:.2%} ({:.2%} - {:.2%})".format(score["value"], *score["interval"][:2])


def lowest_recalls(details, shown=3):
    """For each type that has several labels, the labels that are found least."""
    for name, item in details["per_type"].items():
        if item["recall"] and len(item["recall"]) > 1:
            lowest = sorted(item["recall"], key=lambda label: (label["recall"], -label["count"]))[:shown]
            said = (f"{printable(label['label'])} {label['recall']:.2%} ({label['found']} of {label['count']})" for label in lowest)
            yield f"lowest recall, {printable(name)}: {', '.join(said)}"


def show_mismatches(judged, limit):
    """Print the first mismatches in the order of the file."""
    wrong = [row for row in judged if not row["correct"]]
    print(f"\n{min(limit, len(wrong))} of {len(wrong)} mismatches:")
    for row in wrong[:limit]:
        pred, gt = row["pred"] or "", row["gt"]
        where = f"[id {row['id']}, {row['qtype']}] {row.get('question') or ''}"
        print(printable(f"Predicted: '{pred}' vs GT: '{gt}'  {where}").rstrip())
