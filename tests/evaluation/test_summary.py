"""Several evaluations in one table: names that tell them apart, CSV and LaTeX.

python -m pytest tests/evaluation/test_summary.py -v
"""

import csv
import io
import json

import pytest
from evaluating import PREDICTIONS, write_sidecar

from evaluation.summary import summary_table
from files import UserError, write_jsonl

SCORES = {
    "n": 1440,
    "correct": 1212,
    "micro": 0.84166,
    "macro": 0.85,
    "empty": 0,
    "per_type": {"yes_no": {"count": 1440, "correct": 1212, "accuracy": 0.84166}},
}
BLIND = {**SCORES, "correct": 484, "micro": 0.33611, "per_type": {"yes_no": {"count": 1440, "correct": 484, "accuracy": 0.33611}}}


def metrics(folder, name="metrics.json", blind=BLIND, partial=None, interval=(0.816, 0.8659, "t"), **sidecar):
    folder.mkdir(exist_ok=True)
    facts = {**SCORES, "blind_prior": blind, "reachable": None, "partial": partial, "details": {"overall": {"interval": interval}}}
    (folder / name).write_text(json.dumps({**facts, "sidecar": sidecar}))
    return folder / name


def names(table):
    return [line.split("  ")[0] for line in table.splitlines()[2:]]


TUNED = {"adapter": "out/adapter", "decoding": "exact"}


@pytest.mark.parametrize(
    "sidecars, expected",
    [
        ([{}, {"adapter": "none", "decoding": "free"}], ["a", "untuned, free"]),
        ([{**TUNED, "decoding": "greedy"}, {**TUNED, "decoding": "allowed_set"}], ["tuned, constrained", "tuned, allowed_set"]),
        ([{**TUNED, "split": "val"}, {**TUNED, "split": "test"}], ["tuned, constrained, val", "tuned, constrained, test"]),
        (
            [{**TUNED, "config": {"model_name": f"Qwen/{name}"}} for name in ("2B", "7B")],
            ["tuned, constrained, 2B", "tuned, constrained, 7B"],
        ),
        (
            [{**TUNED, "adapter": f"{name}/adapter"} for name in ("seed1", "seed2")],
            ["tuned, constrained, seed1", "tuned, constrained, seed2"],
        ),
        ([TUNED, TUNED], ["tuned, constrained, a", "tuned, constrained, b"]),
        ([{}, {}], ["a", "b"]),
        ([{"decoding": "exact"}, {"adapter": "none"}], ["a", "b"]),  # who doesn't know both says neither
    ],
)
def test_no_two_names_are_the_same(tmp_path, sidecars, expected):
    paths = [metrics(tmp_path / name, **sidecar) for name, sidecar in zip("ab", sidecars)]
    assert names(summary_table(paths)) == [*expected, "commonest training answer"]


def test_the_same_file_twice_and_files_of_one_name(tmp_path):
    first = metrics(tmp_path / "a", "metrics_x.json")
    second = metrics(tmp_path / "b", "metrics_x.json")
    assert len({*names(summary_table([first, second, first]))}) == 4


def test_a_part_of_a_split_is_called_one(tmp_path):
    assert names(summary_table([metrics(tmp_path / "a", partial=[1440, 9000], **TUNED)]))[0] == "tuned, constrained, partial"


def test_priors_of_different_rows_say_whose_they_are(tmp_path):
    paths = [metrics(tmp_path / "a"), metrics(tmp_path / "b", blind={**BLIND, "correct": 500}), metrics(tmp_path / "c", blind=None)]
    assert names(summary_table(paths))[3:] == ["commonest training answer (a)", "commonest training answer (b)"]
    as_many_right = {**BLIND, "per_type": {"color": {"accuracy": 0.33611}}}
    lines = names(summary_table([paths[0], metrics(tmp_path / "d", blind=as_many_right)]))
    assert lines[2:] == ["commonest training answer (a)", "commonest training answer (d)"], "of other types"


def test_csv_has_one_decimal_and_the_interval(tmp_path):
    table = summary_table([metrics(tmp_path / "a,b")], "csv")
    assert list(csv.reader(io.StringIO(table))) == [
        ["run", "rows", "overall", "overall_low", "overall_high", "yes_no"],
        ["a,b", "1440", "84.2", "81.6", "86.6", "84.2"],
        ["commonest training answer", "1440", "33.6", "", "", "33.6"],
    ]


def test_a_file_without_an_interval_has_none_in_csv_and_latex(tmp_path):
    path = metrics(tmp_path / "a", blind=None, interval=None)
    assert summary_table([path], "csv").splitlines()[1:] == ["a,1440,84.2,,,84.2"]
    assert r"a & 1{,}440 & 84.2 & -- & 84.2 \\" in summary_table([path], "latex").splitlines()


def test_latex_escapes_and_separates_the_prior(tmp_path):
    assert summary_table([metrics(tmp_path / "50%_a&b")], "latex").splitlines() == [
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r" & rows & overall & 95\,\% interval & yes\_no \\",
        r"\midrule",
        r"50\%\_a\&b & 1{,}440 & 84.2 & 81.6--86.6 & 84.2 \\",
        r"\midrule",
        r"commonest training answer & 1{,}440 & 33.6 & -- & 33.6 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_one_line_in_latex_parts_the_runs_from_all_priors(tmp_path):
    paths = [metrics(tmp_path / "a"), metrics(tmp_path / "b", blind={**BLIND, "correct": 500})]
    lines = [line.split(" & ")[0] for line in summary_table(paths, "latex").splitlines()]
    priors = [f"commonest training answer ({name})" for name in "ab"]
    assert lines[3:] == [r"\midrule", "a", "b", r"\midrule", *priors, r"\bottomrule", r"\end{tabular}"]


def test_a_name_stays_on_its_line(tmp_path):
    assert "a\\nb" in summary_table([metrics(tmp_path / "a\nb")])


WHOLE = {**SCORES, "blind_prior": BLIND, "reachable": None, "sidecar": {}, "details": {"overall": {"interval": [0.1, 0.2, "t"]}}}
BROKEN = [{"sidecar": None}, {"sidecar": 5}, {"per_type": {"a": {}}}, {"micro": None}, {"n": "x"}, {"blind_prior": 5}, {"details": 5}]
BROKEN += [{"sidecar": {"adapter": 5}}, {"sidecar": {"config": 5}}, {"details": {"overall": {"interval": "x"}}}]


@pytest.mark.parametrize("content", ["[1]", '{"n": 3}', "3", *(json.dumps(WHOLE | broken) for broken in BROKEN)])
def test_another_file_is_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match="x.json: not a metrics file"):
        summary_table([tmp_path / "x.json"])


def test_summary(folder, evaluate):
    tuned = [{**row, "pred": row["gt"]} for row in PREDICTIONS]
    color = {"id": "9", "pred": "red", "gt": "red", "qtype": "color"}
    for stem, rows, facts in [
        ("untuned_free", PREDICTIONS, {}),
        ("tuned_greedy", tuned, {"adapter": "out/adapter", "decoding": "greedy"}),
        ("foreign", [*PREDICTIONS[:2], color], None),
    ]:
        write_jsonl(folder / "out" / f"predictions_{stem}.jsonl", rows)
        if facts is not None:
            write_sidecar(folder, f"predictions_{stem}", **facts)
        assert evaluate("--predictions", f"out/predictions_{stem}.jsonl")[0] == 0
    files = [f"out/metrics_{stem}.json" for stem in ("untuned_free", "tuned_greedy", "foreign")]
    code, out, _ = evaluate("--summary", *files)
    assert code == 0
    assert out == (
        "                                                               rows  overall   yes_no    color  count_numeric\n"
        "-------------------------------------------------------------------------------------------------------------\n"
        "untuned, free                                                     4   75.00%   66.67%        -        100.00%\n"
        "tuned, constrained                                                4  100.00%  100.00%        -        100.00%\n"
        "foreign                                                           3   66.67%   50.00%  100.00%              -\n"
        "commonest training answer (untuned, free; tuned, constrained)     4   50.00%   66.67%        -          0.00%\n"
        "commonest training answer (foreign)                               3   66.67%  100.00%    0.00%              -\n"
    )
    assert evaluate("--summary", *files[:2])[1].count("commonest training answer") == 1


def test_runs_that_the_sidecars_cannot_tell_apart_go_by_their_file_names(folder, evaluate):
    for stem in ("predictions", "predictions_seed2"):
        write_jsonl(folder / "out" / f"{stem}.jsonl", PREDICTIONS)
        write_sidecar(folder, stem)
        evaluate("--predictions", f"out/{stem}.jsonl")
    _, out, _ = evaluate("--summary", "out/metrics.json", "out/metrics_seed2.json")
    assert [line.split("  ")[0] for line in out.splitlines()[2:]] == [
        "untuned, free, out",
        "untuned, free, seed2",
        "commonest training answer",
    ]


def test_a_summary_of_six_types_stays_within_110_characters(folder, evaluate):
    types = ["yes_no", "color", "count_numeric", "size_numeric", "mcq", "open_ended"]
    rows = [{"id": i, "pred": "7", "gt": "7", "qtype": name} for i, name in enumerate(types)]
    write_jsonl(folder / "out" / "predictions.jsonl", rows)
    evaluate()
    _, out, _ = evaluate("--summary", "out/metrics.json")
    assert "size_numeric" in out and max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize("content, said", [(None, "no such file"), ("[1]", "not a metrics file"), ('{"n": 3}', "not a metrics file")])
def test_a_summary_names_the_file_that_is_none(folder, evaluate, content, said):
    if content:
        (folder / "other.json").write_text(content)
    code, out, err = evaluate("--summary", "other.json")
    assert (code, out) == (1, "") and f"other.json: {said}" in err


def test_what_a_run_does_not_know_is_a_gap_in_its_line(tmp_path):
    (tmp_path / "a").mkdir()
    other = {"n": 1000, "correct": 500, "micro": 0.5, "per_type": {"color": {"accuracy": 0.25}}, "sidecar": {}, "blind_prior": None}
    (tmp_path / "a" / "metrics_~^\\.json").write_text(json.dumps(other | {"reachable": {**other, "micro": 0.75}}))
    paths = [metrics(tmp_path / "b"), tmp_path / "a" / "metrics_~^\\.json"]
    assert list(csv.reader(io.StringIO(summary_table(paths, "csv"))))[1:] == [
        ["b", "1440", "84.2", "81.6", "86.6", "84.2", ""],
        ["~^\\", "1000", "50.0", "", "", "", "25.0"],
        ["commonest training answer", "1440", "33.6", "", "", "33.6", ""],
        ["reachable answers", "1000", "75.0", "", "", "", "25.0"],
    ]
    assert summary_table(paths, "latex").splitlines()[4:-2] == [
        r"b & 1{,}440 & 84.2 & 81.6--86.6 & 84.2 & -- \\",
        r"\textasciitilde{}\^{}\textbackslash{} & 1{,}000 & 50.0 & -- & -- & 25.0 \\",
        r"\midrule",
        r"commonest training answer & 1{,}440 & 33.6 & -- & 33.6 & -- \\",
        r"reachable answers & 1{,}000 & 75.0 & -- & -- & 25.0 \\",
    ]
