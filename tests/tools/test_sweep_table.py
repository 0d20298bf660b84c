"""What a sweep's runs scored: the table, the choice and how sure it is, the chosen configuration, and the folds' rows in one file.

python -m pytest tests/tools/test_sweep_table.py -v
"""

import pytest
from planning import arguments, hand_made_folds, write_experiment

from config import load_config
from evaluation.compare import compare
from files import UserError
from tools import sweep
from tools.sweep_table import about, as_csv, choice, chosen_yaml, setting_scores, table, what_is_next, write_pooled_rows


@pytest.fixture
def experiment(tmp_path):
    return write_experiment(tmp_path)


def judged(*right):
    """A run's judged rows: two of each cluster, right as given."""
    return [{"id": str(n), "correct": bool(one), "cluster": f"image {n // 2}", "qtype": "yes_no"} for n, one in enumerate(right)]


def test_mean_deviation_and_interval_are_over_seeds():
    found = setting_scores([judged(1, 1, 0, 0), judged(1, 1, 1, 0)])["overall"]
    assert (found["count"], found["mean"]) == (4, 0.625) and found["sd"] == pytest.approx(0.125 * 2**0.5)
    single = setting_scores([judged(1, 1, 0, 0)])
    assert single["overall"]["mean"] == 0.5 and single["overall"]["sd"] is None and single["per_type"]["yes_no"]["sd"] is None
    lines = table({("lora.r=8",): setting_scores([judged(1, 1, 0, 0), judged(1, 1, 1, 0)]), ("lora.r=16",): single}).splitlines()
    assert lines[0].split() == ["Setting", "Mean", "SD", "95", "%", "interval"]
    assert lines[2].split()[:3] == ["lora.r=8", "62.50%", "17.68%"] and lines[3].split()[:3] == ["lora.r=16", "50.00%", "-"]


def test_the_whole_table():
    scores = {("lora.r=8",): setting_scores([judged(1, 1, 0, 0), judged(1, 1, 1, 0)])}
    scores |= {("lora.r=16", "train.lr=0.0001"): setting_scores([judged(1, 1, 0, 0)]), (): setting_scores([judged(1, 0)])}
    assert table(scores).splitlines() == [
        "Setting                       Mean       SD  95 % interval",
        "-------------------------------------------------------------",
        "lora.r=8                    62.50%   17.68%  14.17% to 94.39%",
        "lora.r=16 train.lr=0.0001   50.00%        -  9.45% to 90.55%",
        "as configured               50.00%        -  5.46% to 94.54%",
    ]


def test_the_csv_has_every_type():
    lines = as_csv({("lora.r=8", "train.lr=1e-4"): setting_scores([judged(1, 1, 0, 0)])}).splitlines()
    assert lines[0] == "setting,question_type,count,mean,sd,low,high"
    assert [line.split(",")[:5] for line in lines[1:]] == [
        ["lora.r=8 train.lr=1e-4", name, "4", "0.5", ""] for name in ("yes_no", "OVERALL (micro)")
    ]


def test_the_choice_says_whether_the_next_can_be_told_from_it():
    ranking = [("lora.r=8",), ("lora.r=16",)]
    close = choice(ranking, compare([judged(1, 0, 1, 0, 1, 0)], [judged(0, 1, 1, 0, 1, 1)]))
    assert close.startswith("chosen: lora.r=8\nthe next best, lora.r=16, can't be told from it (+16.67 percentage points, 95 % interval -")
    apart = choice(ranking, compare([judged(*[0] * 80)], [judged(*[1] * 80)]))
    assert "lora.r=16, is below it (+100.00 percentage points, 95 % interval +" in apart
    assert choice(ranking[:1], None) == "one setting: lora.r=8"


def test_what_the_table_is_about_stands_below_it():
    rows = judged(1, 0, 1)
    assert about(rows, 2, 0.375, folds=False) == "3 validation rows, 2 seeds; intervals by images (2); blind prior 37.50%"
    assert about(rows[:1], 1, None, folds=True) == "1 held-out rows of all folds, 1 seed; intervals by images (1)"


def test_the_chosen_yaml_is_the_setting(experiment):
    grid = ["lora.target_modules=[q_proj],[q_proj,v_proj]", "train.lr=1e-4,2e-4", "train.max_steps=7", "prompt_style=chat"]
    base, folder, runs = sweep.plan(arguments(experiment, *grid))
    for run in runs:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chosen.yaml").write_text(chosen_yaml(base, run, folds=False))
        chosen = load_config(folder / "chosen.yaml")
        assert chosen.output_dir == run.folder and chosen.data.test_jsonl == experiment / "rows" / "test.jsonl"
        same = chosen.model_dump() | {"data": run.trained.model_dump()["data"]}
        assert same == run.trained.model_dump() and chosen.image_folder() == run.trained.image_folder()


def test_without_a_test_split_the_next_step_is_to_set_one(experiment):
    base = load_config(experiment / "my.yaml", ["data.test_jsonl=null"])
    said = what_is_next(base, base, folds=False)
    assert (
        said.startswith("set data.test_jsonl in ")
        and ", rows that no choice has seen; then: " in said
        and said.endswith("data.test_jsonl=null")
    )


def test_one_id_in_two_folds_is_refused(experiment):
    folds = hand_made_folds(experiment / "folds")
    first, second = (folds / f"fold_{fold}" / "val.jsonl" for fold in (0, 1))
    second.write_text(second.read_text().replace("patient 1 3", "patient 0 2"))
    with pytest.raises(UserError, match=rf"{second}:4: id 'patient 0 2' is also that of {first}:3; make the folds with data.split"):
        write_pooled_rows(experiment / "pooled.jsonl", [first, second])
    first.write_text('{"question": "q", "image": "a.jpg"}\n')
    with pytest.raises(UserError, match=rf"{first}:1: id None is missing; "):
        write_pooled_rows(experiment / "pooled.jsonl", [first, second])
    assert not (experiment / "pooled.jsonl").exists()
