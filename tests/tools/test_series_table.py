"""What the experiments of the series scored: a model per stage joined in one file, each against Experiment 1, and the sentence.

python -m pytest tests/tools/test_series_table.py -v
"""

import json
from collections import Counter
from functools import partial

import pytest
from planning import answer, by_name, plan_series

from config import near
from data.stages import stage_of
from evaluation.compare import compare
from evaluation.intervals import holm
from files import UserError, read_json, read_jsonl, sha256, write_json, write_jsonl
from tools.series_table import against_first, conclude, load_sides, sentence, table, write_joined


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """`plan_series` in a folder of the test's own."""
    return partial(plan_series, tmp_path, monkeypatch)


@pytest.fixture
def answered(planned):
    """(base, experiments, {experiment: what was answered}), the models per stage joined."""
    base, _, experiments = planned()
    said = {}
    for experiment in experiments:
        said[experiment.name] = [answer(run, 5 if experiment.name == "exp3" else 12) for run in experiment.runs if run.split]
    write_joined(by_name(experiments)["exp3"])
    return base, experiments, said


def test_the_joined_file_is_the_models_own_lines_in_the_datas_order(answered):
    base, experiments, said = answered
    three = by_name(experiments)["exp3"]
    lines = [line for run in three.runs for line in run.predictions.read_text().splitlines()]
    joined = three.predictions.read_text().splitlines()
    assert sorted(joined) == sorted(lines) and joined != lines
    assert [json.loads(line)["id"] for line in joined] == [row["id"] for _, row in read_jsonl(base.data.val_jsonl)]
    sidecar = read_json(three.predictions.with_suffix(".meta.json"))
    first = read_json(three.runs[0].predictions.with_suffix(".meta.json"))
    kept = ("split", "limit", "source", "source_sha256", "decoding", "max_new_tokens", "conventions")
    assert {key: sidecar[key] for key in kept} == {key: first[key] for key in kept} | {"source": "val.jsonl"}
    assert sidecar["ids"] == [json.loads(line)["id"] for line in joined] and sidecar["adapter"] == "3, one a stage"
    assert sidecar["rows_in_split"] == len(joined) == len(lines) and sidecar["predictions_sha256"] == sha256(three.predictions)
    assert sidecar["joined"] == [near(run.predictions) for run in three.runs] and sidecar["config"]["data"]["stages"] == [1]
    right = Counter(row["correct"] for row in load_sides(base, experiments, base.data.val_jsonl)["exp3"][0])
    assert right[True] == sum(row["pred"] == row["gt"] for rows in said["exp3"] for row in rows) == 15


def test_a_row_that_two_models_answer_is_refused(answered):
    three = by_name(answered[1])["exp3"]
    said = answered[2]["exp3"]
    write_jsonl(three.runs[1].predictions, [*said[1], said[0][-1]])
    text = (
        f"{near(three.predictions.parent)}: row '{{}}' of {near(answered[0].data.val_jsonl)} is not answered by one model; add --overwrite"
    )
    with pytest.raises(UserError) as error:
        write_joined(three)
    assert str(error.value) == text.format(said[0][-1]["id"])
    write_jsonl(three.runs[1].predictions, [*said[1], {**said[1][0], "id": "val 999"}])
    with pytest.raises(UserError) as error:
        write_joined(three)
    assert str(error.value) == text.format("val 999"), "which the data don't have"


def test_experiments_about_other_rows_are_not_compared(answered):
    """All but one, as `predict_exp1.py --limit` leaves them: each fits the data, and a mean over it is of other questions."""
    base, experiments, said = answered
    two, rows = by_name(experiments)["exp2"].predictions, said["exp2"][0][:-1]
    write_jsonl(two, rows)
    facts = {"ids": [row["id"] for row in rows], "limit": len(rows)}
    write_json(two.with_suffix(".meta.json"), {**read_json(two.with_suffix(".meta.json")), **facts})
    with pytest.raises(UserError, match=f"exp2.*missing.*{said['exp2'][0][-1]['id']}"):
        load_sides(base, experiments, base.data.val_jsonl)


def test_each_experiment_stands_against_the_first_by_stage_and_corrected(answered):
    base, experiments, _ = answered
    sides = load_sides(base, experiments, base.data.val_jsonl)
    stages = {row["id"]: stage_of(row) for _, row in read_jsonl(base.data.val_jsonl)}
    found = against_first(sides, stages)
    others = [name for name in found if name != "exp1"]
    assert {"exp2", "exp3", "exp4"} <= set(others)
    whole = {name: compare(sides["exp1"], sides[name])["overall"] for name in others}
    adjusted = holm([whole[name]["p"] for name in others])
    for name, p in zip(others, adjusted):
        own = found[name]["overall"]
        assert (own["b"], own["difference"], own["interval"], own["p_holm"]) == (
            whole[name]["b"], whole[name]["difference"], whole[name]["interval"], p,
        )  # fmt: skip
        assert [item["count"] for item in found[name]["per_type"].values()] == [Counter(stages.values())[stage] for stage in (1, 2, 3)]
    every = [item for name in others for item in found[name]["per_type"].values()]
    assert [item["p_holm"] for item in every] == holm([item["p"] for item in every])
    lines = table(found, {name: name for name in found}).splitlines()
    assert lines[2].split()[:5] == ["exp1", "Stage-1:", "Initial", "Assessment", str(Counter(stages.values())[1])]
    assert sum("OVERALL" in line for line in lines) == len(found)


def test_the_conclusion_is_printed_and_lies_beside_the_numbers(answered, tmp_path, capsys):
    base, experiments, _ = answered
    titles = {experiment.name: f"title {number}" for number, experiment in enumerate(experiments)}
    conclude(base, tmp_path / "series", experiments, "val", titles)
    text = (tmp_path / "series" / "series_val.txt").read_text()
    assert capsys.readouterr().out == f"\n{text}\nwrote {near(tmp_path / 'series' / 'series_val.json')} and series_val.txt\n"
    assert text.splitlines()[2].startswith("exp1 title 0 ") and "title 0 (exp1) answered " in text.splitlines()[-1]
    saved = read_json(tmp_path / "series" / "series_val.json")
    places = {"exp1": "seed_42", "exp2": "seed_42", "exp3": "seed_42", "exp4": "seed_42/stage_3", "exp5": "seed_42"}
    assert saved["split"] == "val"
    assert saved["predictions"] == {name: [f"out/series/{name}/{place}/predictions.jsonl"] for name, place in places.items()}
    assert [one.name for one in experiments] == list(places), "in their order"
    assert saved["experiments"]["exp3"]["overall"]["b"] == 15 / saved["experiments"]["exp3"]["overall"]["count"]


def test_a_later_seed_is_another_file_of_its_experiment(planned, tmp_path):
    """Of two seeds the mean is compared."""
    base, _, experiments = planned("configs/exp2.yaml", "--seeds", "2")
    rows = [answer(run, right) for one, right in zip(experiments, (12, 10, 20, 24)) for run in one.runs]
    conclude(base, tmp_path / "series", experiments, "val", {"exp1": "one", "exp2": "two"})
    saved = read_json(tmp_path / "series" / "series_val.json")
    files = {name: [f"out/series/{name}/seed_{seed}/predictions.jsonl" for seed in (42, 43)] for name in ("exp1", "exp2")}
    assert saved["predictions"] == files
    means = [saved["experiments"][name]["overall"]["b"] for name in files]
    assert means == pytest.approx([11 / len(rows[0]), 22 / len(rows[0])])


def test_the_whole_table():
    first = {"per_type": {"Stage-1: Quality": item(0, None) | {"count": 12345}}, "overall": item(0, None)}
    stages = {"Stage-1: Quality": item(-0.05, 0.0001), "Stage-2: Findings": item(0.025, 0.2)}
    found = {"exp1": first, "exp3": {"per_type": stages, "overall": item(-0.0125, 0.04)}}
    assert table(found, {"exp1": "exp1 One model", "exp3": "exp3 Curriculum"}).splitlines() == [
        "Experiment               Stage                             Count  Accuracy  - exp1  95 % interval    p (Holm)",
        "-" * 110,
        "exp1 One model           Stage-1: Quality                  12345    80.00%",
        "exp1 One model           OVERALL                             900    80.00%",
        "",
        "exp3 Curriculum          Stage-1: Quality                    900    75.00%   -5.00  -6.00 to -4.00   <0.001",
        "exp3 Curriculum          Stage-2: Findings                   900    82.50%   +2.50  +1.50 to +3.50   0.200",
        "exp3 Curriculum          OVERALL                             900    78.75%   -1.25  -2.25 to -0.25   0.040",
    ]


def item(difference, p):
    return {
        "count": 900,
        "clusters": 100,
        "a": 0.8,
        "b": 0.8 + difference,
        "difference": difference,
        "interval": [difference - 0.01, difference + 0.01],
        "p_holm": p,
    }


NAMES = {"exp1": "random order (exp1)", "exp2": "reordered (exp2)", "exp3": "sequential (exp3)", "exp4": "curriculum (exp4)"}


def found_of(seeds, unit="images", **others):
    return {name: {"overall": item(*values), "unit": unit, "seeds": [seeds, seeds]} for name, values in ({"exp1": (0, 1)} | others).items()}


def test_the_whole_sentence():
    found = found_of(1, "rows")
    found["exp1"]["overall"]["count"] = 12345
    assert sentence(found, NAMES, "val") == "On 12,345 questions of the validation split, random order (exp1) answered 80.00% correctly."
    first = "On 900 questions of the test split about 100 images, random order (exp1) answered 80.00% correctly"
    assert sentence(found_of(1, exp2=(0.004, 0.05)), NAMES, "test") == (
        f"{first}. The paired difference from it was +0.40 percentage points with reordered (exp2) (-0.60 to +1.40; p = 0.050) "
        "(95% confidence interval). It can be told from it at alpha = 0.05."
    )
    found = found_of(3, exp2=(0.04, 0.0009), exp3=(-0.004, 0.001), exp4=(0.0, 0.0501))
    found["exp1"]["overall"]["clusters"] = 1234
    assert sentence(found, NAMES, "test") == (
        f"{first.replace('100', '1,234')} (mean of 3 seeds). The paired differences from it were "
        "+4.00 percentage points with reordered (exp2) (+3.00 to +5.00; p < 0.001), "
        "-0.40 percentage points with sequential (exp3) (-1.40 to +0.60; p = 0.001) and "
        "+0.00 percentage points with curriculum (exp4) (-1.00 to +1.00; p = 0.050) "
        "(95% confidence intervals over questions and seeds; p Holm-adjusted over 3 comparisons). "
        "Only reordered (exp2) and sequential (exp3) can be told from it at alpha = 0.05."
    )


@pytest.mark.parametrize(
    ("others", "end"),
    [
        ({"exp2": (0.004, 0.7), "exp3": (-0.004, 0.7)}, "None of the 2 can be told from it at alpha = 0.05."),
        ({"exp2": (0.04, 0.0001), "exp3": (-0.004, 0.7)}, "Only reordered (exp2) can be told from it at alpha = 0.05."),
        ({"exp2": (0.04, 0.0001), "exp3": (-0.04, 0.01)}, "Each can be told from it at alpha = 0.05."),
        ({"exp2": (0.004, 0.7)}, "These rows cannot tell the two apart at alpha = 0.05."),
        ({"exp2": (0.04, 0.01)}, "It can be told from it at alpha = 0.05."),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_sentence_says_what_can_be_told(others, end, seeds):
    found = {
        name: {"overall": item(*values), "unit": "images", "seeds": [seeds, seeds]} for name, values in ({"exp1": (0, 1)} | others).items()
    }
    said = sentence(found, {"exp1": "random order (exp1)", "exp2": "reordered (exp2)", "exp3": "sequential (exp3)"}, "test")
    mean = " (mean of 3 seeds)" if seeds > 1 else ""
    assert said.startswith(
        f"On 900 questions of the test split about 100 images, random order (exp1) answered 80.00% correctly{mean}. The "
    )
    assert said.endswith(end) and ("p Holm-adjusted over 2 comparisons" in said) == (len(others) == 2)
    if others.get("exp3", [0])[0] == -0.004:
        assert " and -0.40 percentage points with sequential (exp3) (-1.40 to +0.60; p = 0.700) (95% confidence intervals" in said
