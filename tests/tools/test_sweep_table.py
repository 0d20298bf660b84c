"""What a sweep's runs scored: the table, the choice and how sure it is, the chosen configuration, and the folds' rows in one file.

python -m pytest tests/tools/test_sweep_table.py -v
"""

import pytest
import yaml
from planning import answer, arguments, hand_made_folds, write_experiment

from config import PublicNames, load_config, near
from evaluation.compare import compare
from files import UserError, read_json, read_jsonl, sha256
from tools import sweep
from tools.sweep_table import about, as_csv, choice, chosen_yaml, conclude, setting_scores, table, what_is_next, write_pooled_rows


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
    scores = setting_scores([judged(1, 1, 0, 0)])
    ends = [",".join(map(str, item["interval"][:2])) for item in (scores["per_type"]["yes_no"], scores["overall"])]
    assert lines[1:] == [f"lora.r=8 train.lr=1e-4,{name},4,0.5,,{end}" for name, end in zip(("yes_no", "OVERALL (micro)"), ends)]


def test_the_choice_says_whether_the_next_can_be_told_from_it():
    ranking = [("lora.r=8",), ("lora.r=16",)]
    close = choice(ranking, compare([judged(1, 0, 1, 0, 1, 0)], [judged(0, 1, 1, 0, 1, 1)]))
    begin = "chosen: lora.r=8\nthe next best, lora.r=16, can't be told from it (+16.67 percentage points, 95 % interval -"
    end = "the highest of 2 means is too high by chance: report the chosen setting on rows that no choice has seen"
    assert close.startswith(begin) and close.endswith(f", paired)\n{end}")
    edge = {"overall": {"difference": 0.01, "interval": [0.0, 0.02, "x"]}}
    assert "lora.r=16, can't be told from it (+1.00 percentage points, 95 % interval +0.00 to +2.00, paired)" in choice(ranking, edge)
    edge["overall"]["interval"] = [-0.02, 0.0]
    assert "can't be told from it (+1.00 percentage points, 95 % interval -2.00 to +0.00, paired)" in choice(ranking, edge)
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


def test_the_chosen_yaml_names_what_was_given_and_varied(experiment):
    """Keys of sections below their names, others beside them; a new output folder where the runs were of folds."""
    fixed = ["train.max_steps=7", "prompt_style=chat", "output_dir=elsewhere"]
    base, folder, runs = sweep.plan(arguments(experiment, "lora.r=4,8", *fixed))
    own = {"prompt_style": "chat", "train": {"max_steps": 7}, "lora": {"r": 8}}
    for folds, place in ((False, runs[1].folder), (True, base.output_dir / "chosen")):
        text = chosen_yaml(base, runs[1], folds)
        wanted = {"extends": str(experiment / "my.yaml"), "output_dir": str(place), **own}
        assert yaml.safe_load(text) == wanted and text.splitlines()[:2] == [f"{key}: {wanted[key]}" for key in ("extends", "output_dir")]


def test_what_a_sweep_concludes_lies_beside_its_runs(experiment, capsys):
    """Two settings and two seeds: (5 + 7) / 36 and (9 + 12) / 36 are right."""
    base, folder, runs = sweep.plan(arguments(experiment, "lora.r=4,8", seeds=2))
    count = {len(answer(run, right)) for run, right in zip(runs, (5, 7, 9, 12))}
    conclude(base, folder, runs)
    report, out = read_json(folder / "sweep.json"), capsys.readouterr().out.splitlines()
    assert count == {18} and [item["setting"] for item in report["settings"]] == [["lora.r=4"], ["lora.r=8"]]
    assert [item["overall"]["mean"] for item in report["settings"]] == pytest.approx([12 / 36, 21 / 36])
    assert (report["config"], report["folds"], report["seeds"], report["chosen"]) == ("my.yaml", False, [42, 43], ["lora.r=8"])
    assert report["against_next"]["overall"]["difference"] == pytest.approx(9 / 36) and 0 < report["blind_prior"] < 1
    out = out[out.index("Setting                  Mean       SD  95 % interval") :]
    assert out[1] == "-" * 56
    assert out[2].startswith("lora.r=4               33.33%    7.86%  ") and out[3].startswith("lora.r=8               58.33%   11.79%  ")
    assert out[4] == f"18 validation rows, 2 seeds; intervals by images (2); blind prior {report['blind_prior']:.2%}"
    assert out[6] == "chosen: lora.r=8" and out[7].startswith("the next best, lora.r=4, ") and "(+25.00 percentage" in out[7]
    assert out[9] == f"wrote {near(folder / 'chosen.yaml')}, sweep.json and table.csv"
    chosen = load_config(folder / "chosen.yaml")
    assert out[10] == f"next: {chosen.command('predict_exp1.py', '--split', 'test')}" and chosen.output_dir == runs[2].folder
    assert (folder / "table.csv").read_text().startswith("setting,question_type,count,mean,sd,low,high\nlora.r=4,")


def test_the_folds_of_a_seed_are_one_file_of_predictions(experiment, capsys):
    """Without what their own answer spaces say. Right are (8 + 9 + 7 + 6) / 48; one patient's commonest answer is the other's in 4 + 3."""
    folds = hand_made_folds(experiment / "folds")
    base, folder, runs = sweep.plan(arguments(experiment, seeds=2, folds=folds))
    said = [answer(run, right, qtype="yes_no", reachable=True) for run, right in zip(runs, (8, 9, 7, 6))]
    conclude(base, folder, runs)
    out, report = capsys.readouterr().out.splitlines(), read_json(folder / "sweep.json")
    assert (
        "24 held-out rows of all folds, 2 seeds; intervals by groups (2); blind prior 29.17%" in out and "one setting: as configured" in out
    )
    assert out[-1] == f"next: {load_config(folder / 'chosen.yaml').command('train_exp1.py')}"
    assert report["folds"] is True and report["settings"][0]["overall"]["mean"] == 30 / 48 and report["against_next"] is None
    data = [row for fold in (0, 1) for _, row in read_jsonl(folds / f"fold_{fold}" / "val.jsonl")]
    assert [row for _, row in read_jsonl(folder / "out_of_fold.jsonl")] == data
    for seed, answers in ((42, said[:2]), (43, said[2:])):
        place = folder / "as_configured" / f"seed_{seed}"
        rows = [{key: row[key] for key in ("id", "pred", "gt")} for fold in answers for row in fold]
        assert [row for _, row in read_jsonl(place / "predictions.jsonl")] == rows
        facts = read_json(place / "predictions.meta.json")
        wanted = {
            "split": "folds",
            "source": "outputs/sweep_folds/out_of_fold.jsonl",
            "source_sha256": sha256(folder / "out_of_fold.jsonl"),
        }
        wanted |= {"ids": [row["id"] for row in data], "rows_in_split": 24, "limit": None, "adapter": "2, one a fold", "decoding": "exact"}
        wanted |= {"folds": [f"outputs/sweep_folds/as_configured/seed_{seed}/fold_{fold}" for fold in (0, 1)]}
        assert {key: facts[key] for key in wanted} == wanted
        settings = load_config(experiment / "my.yaml", [f"train.seed={seed}", f"output_dir={place}", "data.test_jsonl=null"])
        assert facts["config"] == PublicNames(settings).facts(settings.model_dump(mode="json"))


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
