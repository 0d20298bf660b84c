"""What an evaluation prints: alarms above the table, what its columns mean below it, more scores and mismatches when asked.

python -m pytest tests/evaluation/test_tables.py -v
"""

import inspect
import re

import pytest
from evaluating import PREDICTIONS, TABLE, VAL, accuracy, changed, metrics_of, write_data, write_sidecar

from config import EvalConfig
from evaluation import tables
from files import write_jsonl

# ---------------------------------------------------------------------------------------------------------------------
# Above and in the table


def test_tolerances_and_parts_stand_beside_the_headline(folder, evaluate):
    write_sidecar(folder, limit=4, rows_in_split=9)
    evaluate()
    _, out, _ = evaluate("eval.numeric_abs_tol=2", "eval.count_abs_tol=1")
    between = out.split(TABLE)[1].split("Question Type")[0]
    assert between.strip().splitlines() == [
        "partial: 4 of 9 rows",
        "tolerances other than the defaults: eval.numeric_abs_tol=2.0 (default 0.0), eval.count_abs_tol=1 (default 0)",
    ]
    code, out, err = evaluate("eval.numeric_rel_tol=1.5")
    assert (code, out) == (1, "") and "numeric_rel_tol" in err


@pytest.mark.parametrize("empty, warned", [(1, False), (2, True)])  # of 20: 5 % is tolerated, more is not
def test_many_empty_predictions_are_a_loud_warning(folder, evaluate, empty, warned):
    rows = [{"id": i, "pred": "" if i < empty else "none", "gt": "none", "qtype": "open_ended"} for i in range(20)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    code, out, _ = evaluate()
    assert code == 0
    assert f"open_ended           20         {20 - empty}         " in out
    assert f"empty predictions: {empty} of 20, counted as wrong\n" in out
    assert ("WARNING: 10.00% OF THE PREDICTIONS ARE EMPTY" in out) is warned
    assert metrics_of(folder)["empty"] == empty


def test_a_model_below_its_blind_prior_is_marked(folder, evaluate):
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "pred": "no"} for row in PREDICTIONS])
    _, out, _ = evaluate()
    lines = {line.split("  ")[0]: line for line in out.splitlines() if " - " in line}
    assert "-33.33" in lines["yes_no"].split() and lines["yes_no"].split()[-3:] == ["-", "BELOW", "BLIND"]
    assert "+0.00" in lines["count_numeric"].split() and lines["count_numeric"].split()[-1] == "-"
    assert "-25.00" in lines["OVERALL (micro)"].split() and lines["OVERALL (micro)"].split()[-3:] == ["-", "BELOW", "BLIND"]


# ---------------------------------------------------------------------------------------------------------------------
# Below it


def test_what_is_independent_is_said_with_its_number_and_few_are_warned_of(folder, evaluate):
    assert "Intervals take 3 images as independent, not rows.\nWARNING: 3 images: intervals from fewer than 20 are rough" in evaluate()[1]
    data = write_data(folder, [{**row, "group": "p1" if row["image"] in ("d.png", "e.png") else "p2"} for row in VAL])
    assert "Intervals take 2 groups as independent, not rows.\nWARNING: 2 groups" in evaluate("--against", data)[1]
    write_jsonl(folder / "out" / "predictions.jsonl", [{**row, "image": None} for row in PREDICTIONS])
    assert "Intervals take 4 rows as independent: the file names no images." in evaluate()[1]
    rows = [{**PREDICTIONS[0], "id": str(place), "image": f"{place}.png"} for place in range(20)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    assert "Intervals take 20 images as independent, not rows.\nThe blind" in evaluate()[1]


def test_overall_macro_f1_is_on_the_screen(evaluate):
    assert re.search(r"^macro-F1: \d+\.\d\d% \(mean over all different true answers, of which there are 3\)$", evaluate()[1], re.MULTILINE)


def test_the_best_of_several_references_counts_and_that_is_said(folder, evaluate):
    data = write_data(folder, [{**row, "answers": [row["answer"], "no"]} for row in VAL])
    _, out, _ = evaluate("--against", data)
    assert accuracy(out) == "100.00%" and "several references: 3 of 4 rows; an answer is right if it is any of them" in out


def test_text_metrics_state_what_they_are(folder, evaluate):
    row = {"id": "0", "pred": "a small polyp", "gt": "none", "qtype": "open_ended", "question": "What?", "image": "a"}
    write_jsonl(folder / "out" / "predictions.jsonl", [row])
    data = write_data(folder, [{"question": "What?", "answer": "none", "answers": ["none", "a small polyp"], "image": "a"}])
    _, out, _ = evaluate("--text-metrics", "--against", data)
    assert "corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing; words of any script, lower case), ROUGE-L F" in out
    assert "open_ended                  1  100.00%  100.00%  100.00%        -  100.00%\n" in out, "no reference has a 4-gram"
    assert "Text overlap" not in evaluate()[1] and metrics_of(folder)["text"] is None


def test_intervals_say_what_they_take_as_independent_and_when_it_is_too_little():
    def lines(clusters, effective, unit):
        overall = {"clusters": clusters, "effective_clusters": effective}
        return list(tables.below_main_table({"overall": overall}, unit, None, None, has_images=True))

    assert lines(1440, 1300.0, "images") == ["Intervals take 1,440 images as independent, not rows."]
    assert lines(20, 20, "rows") == ["Intervals take 20 rows as independent: no two of them share an image."]
    rough = "intervals from fewer than 20 are rough; give the score of each as well."
    assert lines(19, 19, "groups")[1] == f"WARNING: 19 groups: {rough}"
    assert lines(100, 4.25, "groups and images")[1] == f"WARNING: 100 groups and images, so unequal that they weigh as 4.2: {rough}"
    assert lines(1, 1, "groups")[0] == "Intervals take 1 group as independent, not rows."


@pytest.mark.parametrize(
    ("said", "true", "noted"),
    [
        (["it is pink", "it is red"], ["pink", "red"], "3.0 words, the truth 1.0"),
        (["two words", "two words"], ["pink", "red"], "2.0 words, the truth 1.0"),
        (["two words", "one"], ["pink", "red"], None),
        (["", "two words"], ["pink", "red"], "2.0 words, the truth 1.0"),  # of those that say anything
        (["a b c d e"], ["a b c"], None),
        ([""], ["pink"], None),
    ],
)
def test_answers_twice_as_long_as_the_truth_are_noted(said, true, noted):
    found = tables.form_note([{"pred": pred, "gt": gt} for pred, gt in zip(said, true)])
    assert found is None if noted is None else noted in found


def test_every_further_score_has_its_line():
    overall = {
        "count": 10,
        "label_lists": {"count": 4, "exact_set": 0.5, "jaccard": 0.6, "example_f1": 0.7, "micro_f1": 0.8, "macro_f1": 0.9},
        "counts": {"count": 3, "exact": 1 / 3, "within_one": 2 / 3},
        "size_bins": {"count": 2, "exact": 0.5, "within_one": 1},
        "millimetres": {"count": 5, "mean_abs_error": 1.25, "median_abs_error": 0.5},
        "calibration": {"count": 9, "ece": 0.1, "brier": 0.2, "aurc": 0.3},
        "auroc": {"value": 0.75, "interval": (0.5, 0.875, "x"), "wrong": 4, "right": 5},
        "abstention": {"abstained": 10, "coverage": 0, "accuracy_of_the_rest": None},
    }
    greedy = {"count": 8, "disagree": 3, "only_exact_right": 2, "only_greedy_right": 1}
    assert list(tables.more_scores({"overall": overall}, greedy, {"count": 9, "ece": 0.05, "brier": 0.15})) == [
        "label lists (4 rows): exact set 50.00%, jaccard 60.00%, example f1 70.00%, micro f1 80.00%, macro f1 90.00%",
        "counts (3 rows): exact 33.33%, within one 66.67%",
        "size bins (2 rows): exact 50.00%, within one 100.00%",
        "measurements (5 rows): mean absolute error 1.25 mm, median 0.50 mm",
        "calibration (9 rows with a confidence): ECE 0.1000 (15 bins), Brier 0.2000, AURC 0.3000",
        "calibrated by the temperature of calibration.json (9 rows): ECE 0.0500, Brier 0.1500",
        "AUROC of confidence for wrong answers: 0.7500 (0.5000 to 0.8750; 4 wrong, 5 right)",
        "abstained: 10 of 10, coverage 0.00%, nothing answered",
        "exact and greedy differ in 3 of 8 exactly scored rows: exact alone is right in 2, greedy alone in 1",
    ]
    assert list(tables.more_scores({"overall": {"count": 10}}, None)) == []


def test_the_labels_that_are_found_least_are_named_the_commoner_first():
    found = {"a": (1.0, 9, 9), "b": (0.5, 1, 2), "c": (0.5, 2, 4), "d": (0.0, 0, 1)}
    recall = [{"label": name, "recall": share, "found": seen, "count": count} for name, (share, seen, count) in found.items()]
    details = {"per_type": {"color": {"recall": recall}, "yes_no": {"recall": recall[:1]}, "open_ended": {"recall": None}}}
    assert list(tables.lowest_recalls(details)) == ["lowest recall, color: d 0.00% (0 of 1), c 50.00% (2 of 4), b 50.00% (1 of 2)"]


# ---------------------------------------------------------------------------------------------------------------------
# Whole tables, whose numbers are no run's


def about(accuracy, interval, **more):
    return {"accuracy": accuracy, "interval": interval, "strict": 0.25, "balanced_accuracy": None, "macro_f1": 0.125} | more


DETAILS = {
    "per_type": {"yes_no": about(0.5, (0.3, 0.7, "x")), "a\nb": about(1.0, None)},
    "overall": about(0.75, (0.4, 0.9, "x"), balanced_accuracy=0.625),
    "macro": about(0.75, None, macro_f1=0.5),
}


def aggregated(accuracy):
    return {"per_type": {"yes_no": {"accuracy": accuracy}, "a\nb": {"accuracy": 0.0}}, "micro": accuracy, "macro": 0.125}


MAIN = """\
Question Type        Accuracy     95 % interval  Lenient    Blind     Gain      95 % interval  Reachable
--------------------------------------------------------------------------------------------------------
yes_no                 50.00%   30.00% - 70.00%   60.00%   62.50%   -12.50    -25.00 to +0.00     90.00%  BELOW BLIND
a\\nb                  100.00%                 -    0.00%    0.00%  +100.00                  -      0.00%
OVERALL (micro)        75.00%   40.00% - 90.00%   60.00%   62.50%    +0.00   -10.00 to +10.00     90.00%
OVERALL (macro)        75.00%                 -   12.50%   12.50%    -0.10   -50.00 to +50.00     12.50%  BELOW BLIND"""
MAIN_ALONE = """\
Question Type        Accuracy     95 % interval  Lenient    Blind     Gain      95 % interval  Reachable
--------------------------------------------------------------------------------------------------------
yes_no                 50.00%   30.00% - 70.00%   60.00%        -        -                  -          -
a\\nb                  100.00%                 -    0.00%        -        -                  -          -
OVERALL (micro)        75.00%   40.00% - 90.00%   60.00%        -        -                  -          -
OVERALL (macro)        75.00%                 -   12.50%        -        -                  -          -"""


def test_the_main_table_is_told_to_the_letter():
    gain = lambda difference, interval: {"difference": difference, "interval": interval}
    gains = {"per_type": {"yes_no": gain(-0.125, (-0.25, 0.0)), "a\nb": gain(1.0, None)}}
    gains |= {"overall": gain(0.0, (-0.1, 0.1)), "macro": gain(-0.001, (-0.5, 0.5))}
    assert tables.main_table(DETAILS, aggregated(0.6), gains, aggregated(0.625), aggregated(0.9)) == MAIN
    assert tables.main_table(DETAILS, aggregated(0.6), None, None, None) == MAIN_ALONE


def test_the_stricter_scores_are_told_to_the_letter():
    assert tables.details_table(DETAILS).splitlines() == [
        "Strict: the same text. Balanced accuracy and macro-F1 are over the labels of the truth",
        "",
        "Question Type           Strict  Balanced  Macro-F1",
        "-" * 80,
        "yes_no                  25.00%         -    12.50%",
        "a\\nb                    25.00%         -    12.50%",
        "OVERALL (micro)         25.00%    62.50%    12.50%",
        "OVERALL (macro)         25.00%         -    50.00%",
    ]


def test_raters_agreement_is_told_to_the_letter():
    item = {"count": 7, "agreement": 0.75, "kappa": 0.5, "accuracy": 0.625}
    found = {"kappa_of": "Cohen", "raters": 2, "per_type": {"yes_no": item}, "overall": item | {"kappa": None, "accuracy": None}}
    assert tables.agreement_table(found).splitlines() == [
        "2 raters: how far they agree is the ceiling of the score on the same rows (Cohen's kappa: beyond chance)",
        "",
        "Question Type            Rows  Agreement    Kappa   Accuracy",
        "-" * 60,
        "yes_no                      7     75.00%    0.500     62.50%",
        "OVERALL (micro)             7     75.00%        -          -",
    ]
    assert "3 raters: " in tables.agreement_table(found | {"kappa_of": "Fleiss", "raters": 3})
    assert "(Fleiss' kappa: " in tables.agreement_table(found | {"kappa_of": "Fleiss", "raters": 3})


def test_text_overlap_is_told_to_the_letter():
    item = {"count": 1234, "bleu_1": 0.5, "bleu_2": 0.25, "bleu_3": 0.125, "bleu_4": None, "rouge_l": 1.0}
    assert tables.text_table({"color": item}).splitlines() == [
        "Text overlap: corpus BLEU-n (sacrebleu; weights 1/n, exponential smoothing; words of any script, lower case), ROUGE-L F",
        "",
        "Question Type           Count   BLEU-1   BLEU-2   BLEU-3   BLEU-4  ROUGE-L",
        "-" * 80,
        "color                    1234   50.00%   25.00%   12.50%        -  100.00%",
    ]


def test_missed_findings_are_told_with_the_scores_that_are_known():
    half, whole = {"value": 0.5, "interval": (0.25, 0.75, "x")}, {"value": 1.0, "interval": (0.5, 1.0, "x")}
    overall = {"there": 1000, "absent": 500, "missed": 1, "sensitivity": half, "specificity": whole}
    overall |= {"positive_predictive_value": None, "negative_predictive_value": whole}
    said = "1,500 rows) 1 of 1,000 were missed: said to be absent."
    assert list(tables.presence_lines({"per_question": [{}, {}], "overall": overall})) == [
        f"Is it there? (2 questions, {said}",
        "  sensitivity 50.00% (25.00% - 75.00%), specificity 100.00% (50.00% - 100.00%)",
        "  negative predictive value 100.00% (50.00% - 100.00%)",
    ]
    none = {"sensitivity": None, "specificity": None}
    assert list(tables.presence_lines({"per_question": [{}], "overall": overall | none})) == [
        f"Is it there? (1 question, {said}",
        "  negative predictive value 100.00% (50.00% - 100.00%)",
    ]
    assert list(tables.presence_lines(None)) == []


def test_what_no_reader_may_miss_is_told_to_the_letter():
    said = lambda empty=0, partial=None, junk=0, **limits: list(
        tables.warnings({"empty": empty, "n": 2000}, {"partial": partial, "junk": junk}, EvalConfig(**limits))
    )
    assert said() == []
    assert said(empty=101, partial=[1000, 2000], junk=1, numeric_rel_tol=0.5, count_abs_tol=1) == [
        "partial: 1,000 of 2,000 rows",
        "left out: 1 row whose question or true answer stands for a missing value",
        "tolerances other than the defaults: eval.numeric_rel_tol=0.5 (default 0.05), eval.count_abs_tol=1 (default 0)",
        "empty predictions: 101 of 2,000, counted as wrong",
        "WARNING: 5.05% OF THE PREDICTIONS ARE EMPTY: prediction failed, or the model has learnt to end its answer at once (a longer "
        "training mends that).",
    ]
    assert said(empty=100, junk=1200) == [
        "left out: 1,200 rows whose question or true answer stands for a missing value",
        "empty predictions: 100 of 2,000, counted as wrong",
    ]


def test_notes_are_told_to_the_letter():
    scores = {"macro": 0.5, "per_type": {"a": 1, "b": 2}}
    macro = "macro accuracy: 50.00% (mean of 2 question types)"
    reach = "reachable answers: 75.00% of the rows have an answer that their constraint allows"
    assert list(tables.notes(scores, None)) == [macro] and list(tables.notes(scores, {"micro": 0.75})) == [macro, reach]
    noted = "macro-F1: 12.50% (mean over all different true answers, of which there are 1,234)"
    assert tables.macro_f1_note({"overall": {"macro_f1": 0.125, "labels": 1234}}) == noted
    rows = [{"gt": "a", "answers": ["a", "b"]}, {"gt": "a"}, {"gt": "a", "answers": ["c"]}]
    told = "several references: 1 of 2 rows; an answer is right if it is any of them"
    assert tables.references_note(rows[:2]) == told and tables.references_note(rows[1:2]) is None
    blind = tables.below_main_table({"overall": {"clusters": 20, "effective_clusters": 20}}, "rows", {"n": 2000}, 1999, has_images=False)
    assert list(blind) == [
        "Intervals take 20 rows as independent: the file names no images.",
        "The blind prior answers every question with its commonest training answer, without looking; training asks the questions of 1,999 "
        "of these 2,000 rows.",
    ]
    lists = [{"gt": "red, pink", "question": "Which?"}, {"gt": "red, pink", "question": "Which?"}, {"gt": "red", "question": "Which?"}]
    assert tables.lists_note(lists, {}) == (
        "NOTE: 2 of 3 true answers look like lists (`a, b`) and compare as text: no training rows show that their questions ask for lists; "
        "join labels with `; `."
    )
    assert tables.lists_note(lists[2:], {}) is None and tables.lists_note([{**lists[0], "options": ["red, pink"]}], {}) is None


# ---------------------------------------------------------------------------------------------------------------------
# Mismatches


def test_show_prints_the_first_mismatches(folder, evaluate):
    rows = [*PREDICTIONS, {"id": "9", "pred": None, "gt": "red", "qtype": "color"}]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    first = "Predicted: 'no' vs GT: 'yes'  [id 1, yes_no] Is there a polyp?\n"
    second = "Predicted: '' vs GT: 'red'  [id 9, color]\n"
    assert "1 of 2 mismatches:\n" + first + "metrics:" in evaluate("--show", 1)[1]
    assert "2 of 2 mismatches:\n" + first + second + "metrics:" in evaluate("--show", 20)[1]


def test_the_documented_debug_line_works_where_mismatches_are_shown(capsys):
    anchor = 'pred, gt = row["pred"] or "", row["gt"]\n'
    source = inspect.getsource(tables)
    assert source.count(anchor) == 1
    debug = """        print(f"Predicted: '{pred}' vs GT: '{gt}' -> Match: {pred == gt}")\n"""
    pasted = {"__name__": "pasted"}
    exec(source.replace(anchor, anchor + debug), pasted)
    pasted["show_mismatches"]([{**PREDICTIONS[1], "correct": False}], 1)
    assert "Predicted: 'no' vs GT: 'yes' -> Match: False\n" in capsys.readouterr().out


@pytest.mark.parametrize("key, place", [("qtype", "table"), ("id", "mismatches")])
def test_what_a_file_says_steers_no_terminal(folder, evaluate, key, place):
    write_jsonl(folder / "out" / "predictions.jsonl", changed(PREDICTIONS, 1, **{key: "x\x1b[2Jy\nz"}))
    _, out, _ = evaluate("--show", 5, "-v")
    assert "x\\x1b[2Jy\\nz" in out and "\x1b" not in out and "\nz" not in out, place
