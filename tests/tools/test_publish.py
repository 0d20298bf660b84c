"""A published adapter: its card says what the run's files say, asks the authors for the rest, and names no patient, place or folder.

python -m pytest tests/tools/test_publish.py -v
"""

import re
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import OfflineModeIsEnabled
from test_release import HOME, PATIENT, run  # noqa: F401  a finished run, with a patient in it and a machine of Meier's

from config import near
from evaluation.methods import ASKED
from files import UserError, read_json, sha256, write_json
from tools import publish

CLAIM = {str(number) for number in range(1, 45)}
TRIPOD = {"1", "2", "4", "10", "11", "12", "13", "15", "17", "18", "3a", "3b", "9a", "9b"}
TRIPOD |= {f"{number}{letter}" for number, letters in ((5, "abcde"), (6, "abcde"), (7, "abcde"), (8, "abc")) for letter in letters}
TRIPOD |= {f"{number}{letter}" for number, letters in ((14, "abcdef"), (16, "abcd"), (19, "abcdefg")) for letter in letters}


@pytest.fixture
def told(run):  # noqa: F811
    """The run with metrics that say more: of its adapter, of the base model alone, and by a column that holds patients."""
    own = sha256(*sorted(path for path in (run / "adapter").iterdir() if path.is_file()))
    item = {"count": 8, "accuracy": 0.5, "interval": [0.3, 0.7, "clustered Wilson"], "clusters": 2}
    details = {"overall": item, "macro": {"accuracy": 0.5, "interval": [0.3, 0.7, "MOVER"]}, "per_type": {"yes_no": item}}
    scores = {"micro": 0.5, "macro": 0.5, "per_type": {"yes_no": {"accuracy": 0.5}}}
    sidecar = {"split": "test", "decoding": "exact", "source": f"{HOME}/test.jsonl", "made_from": {"adapter": own}, "config": {}}
    metrics = {**scores, "n": 8, "unit": "images", "details": details, "lenient": scores, "sidecar": sidecar}
    metrics |= {"by": {"patient": {"groups": [{"value": "P. Meier", "count": 8}]}}, "blind_prior": scores | {"micro": 0.25}}
    write_json(run / "metrics_tuned_constrained.json", metrics)
    untuned = {"adapter": "none", "split": "test", "made_from": {"adapter": "none"}}
    write_json(run / "metrics_untuned_free.json", {**metrics, "micro": 0.125, "sidecar": untuned})
    write_json(run / "metrics_val.json", {**metrics, "micro": 0.75, "sidecar": {"split": "val", "made_from": {"adapter": "f" * 64}}})
    return run


def text_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8"), (folder / "REPORTING.md").read_text(encoding="utf-8")


def test_a_card_says_what_the_files_say_and_names_nobody(told, tmp_path):
    out = tmp_path / "published"
    names = publish.publish(told, out)
    card, reporting = text_of(out)
    assert {"README.md", "REPORTING.md", "adapter/adapter_model.safetensors", "metrics_untuned_free.json"} <= set(names)
    found = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not any(secret in text.lower() for text in found.values() for secret in (b"meier", b"/home", b"1900", PATIENT.encode()))
    assert "Accuracy is 50.00% (95 % interval 30.00% to 70.00%), +25.00 points over the blind prior" in card
    assert "| `metrics_untuned_free.json` | test | base model alone | – | 8 | 12.50% |" in card
    assert "| `metrics_val.json` | val | another adapter, or not known |" in card and "`metrics_tuned_constrained.json`, by type" in card
    assert "System: You are a surgical VQA assistant. Answer concisely with only the final answer.\nUser:\n{image}\nQuestion type:" in card
    assert "Question: Is there a polyp?\nValid answers: yes, no\nAssistant: Answer:\n```" in card
    assert sha256(out / "adapter" / "adapter_model.safetensors") in card and "None" not in card + reporting
    assert "| 13 | – | Ethics approval and consent | **For the authors:** committee and number or why none was needed. |" in reporting
    assert re.search(
        r"^\| 6a \| 22 \| .* \| The base model is models/Qwen2-VL \(its revision was not recorded\)\. ", reporting, re.MULTILINE
    )
    assert yaml.safe_load(card.split("---\n")[1]) == {
        "language": ["en"],
        "library_name": "peft",
        "metrics": ["accuracy"],
        "pipeline_tag": "visual-question-answering",
        "tags": ["lora", "medical", "endoscopy", "surgery", "visual-question-answering"],
    }
    head, *sections = reporting.split("\n## ")
    assert head == (
        "# Reporting\n\nWhat [TRIPOD-LLM](https://doi.org/10.1038/s41591-024-03425-5) and "
        "[CLAIM 2024](https://doi.org/10.1148/ryai.240300) ask, in other words, and what the run's files answer.\n"
        "What these don't say is marked **For the authors:** The prompt, all scores "
        "and the configuration are in [README.md](README.md).\n"
    )
    left_out = yaml.safe_load(publish.ITEMS.read_text(encoding="utf-8"))["left_out"]
    assert sections[-1] == "\n".join(["Left out", "", *(f"- TRIPOD-LLM {number}: {why}." for number, why in left_out.items()), ""])
    assert all(section.split("\n")[1:4:2] == ["", "|---|---|---|---|"] for section in sections[:-1])


REPEAT = """
1. Code: **For the authors:** address of the code. Commit `c0ffee-dirty`, with changes that were not committed.
2. Environment: Python 3.11 or newer. `pip install torch==2.14.1 peft==0.19.1`, then `pip install -r requirements.txt`.
3. Base model: `Qwen/Qwen2-VL-2B-Instruct`, of the hub's commit `{revision}`.
   `hf download Qwen/Qwen2-VL-2B-Instruct --revision {revision} --local-dir models/base`, and then `model_name: models/base`.
   It is the right one if this line, in the code's folder, prints `{weights}`:
   `python -c "from data.contents import weights_hash; print(weights_hash('FOLDER'))"`
4. Data: **For the authors:** where the rows and images can be had, and under which licence. Rows are JSONL with `question`, `answer` and \
`image` (docs/datasets.md of the code). They are the same if `sha256sum` of the files prints:
   - train: `1234567`
   - test: `{test}`

5. Configuration: `my.yaml`, as it stands [below](#configuration), with your paths instead of each `…`. In the code's folder:

```bash
python -m data.check --config my.yaml
torchrun --nproc_per_node=2 train_exp1.py --config my.yaml
python predict_exp1.py --config my.yaml --split test --out predictions.jsonl predict.beams=2
python eval_exp1.py --config my.yaml --predictions predictions.jsonl --against YOUR_TEST_ROWS.jsonl
```

A training on a CPU repeats to the digit with the same versions and as many threads (`OMP_NUM_THREADS`) and processes; elsewhere last \
digits change, and scores by what another seed would change. The adapter below is a CPU's: a repeat has its SHA-256.
"""
SETS = """**For the authors:** whether confidences may be acted on (exact decoding gives them).

```text
Answer sets: how often they hold the truth, made for 90%

Question Type           Sets  Coverage     95 % interval  Unfilled  Mean size   Single
--------------------------------------------------------------------------------------
yes_no                     8    87.50%   50.00% - 97.50%    87.50%       2.50    25.0%
OVERALL (micro)            8    87.50%   50.00% - 97.50%    87.50%       2.50    25.0%
Mean coverage over images: 90.00%. Empty sets filled with the likeliest answer: 0.
Promised is the average over images like those of the calibration: not each type, not another hospital or camera.
```
"""


@pytest.fixture
def recorded(told):
    """That run with what later code records: a base of the hub, versions, commit, machine, settings of prediction, answer sets."""
    experiment = read_json(told / "adapter" / "experiment.json")
    facts = {
        "base_source": "hub",
        "base_revision": "0123456789" * 4,
        "base_weights": "e" * 64,
        "prompt_style": "chat",
        "answer_prefix": "A:",
    }
    write_json(told / "adapter" / "experiment.json", experiment | facts)
    record = read_json(told / "train_run.json")
    config = {**record["config"], "model_name": "Qwen/Qwen2-VL-2B-Instruct", "predict": {"decoding": "exact", "beams": 4, "batch_size": 8}}
    record |= {"config": config, "versions": {"torch": "2.14.1", "peft": "0.19.1", "bitsandbytes": None}, "commit": "c0ffee-dirty"}
    write_json(told / "train_run.json", record | {"hardware": "cpu", "world_size": 2, "precision": "float32"})
    own = sha256(*sorted(path for path in (told / "adapter").iterdir() if path.is_file()))
    metrics = read_json(told / "metrics_tuned_constrained.json")
    config = {"predict": {"decoding": "exact", "beams": 2, "batch_size": 8}}
    metrics["sidecar"] |= {"config": config, "source_sha256": "d" * 64, "made_from": {"adapter": own}}
    part = {"count": 8, "coverage": 0.875, "interval": [0.5, 0.975], "over_images": 0.9, "unfilled": 0.875, "filled": 0, "single": 0.25}
    part |= {"sizes": {"mean": 2.5, "median": 2.0, "largest": 4}}
    metrics["answer_sets"] = {"target": 0.9, "calibrated_on": 0, "without": 0, "overall": part, "per_type": {"yes_no": part}}
    write_json(told / "metrics_tuned_constrained.json", metrics)
    return told


def section(card, name):
    return re.split(r"\n##+ ", card.partition(f"# {name}\n")[2])[0]


def test_how_a_run_is_repeated_is_told_to_the_letter(recorded, tmp_path):
    publish.publish(recorded, tmp_path / "out")
    card, reporting = text_of(tmp_path / "out")
    values = {"revision": "0123456789" * 4, "weights": "e" * 64, "test": "d" * 64}
    assert section(card, "Repeat the run").startswith(REPEAT.format(**values)[:-1])
    assert "chat template: the first as system text, image and the next lines as the user's:" in section(card, "Prompt")
    assert section(card, "Confidence").strip() == SETS.strip() and "Answers begin with `A:`." in section(card, "Decoding")
    assert "which scores this adapter has" not in card
    paragraph = section(card, "Methods, ready to paste")
    assert paragraph.strip().startswith(f"The base model is Qwen/Qwen2-VL-2B-Instruct (hub commit {'0123456789' * 4}, SHA-256 over its")
    assert yaml.safe_load(section(card, "Configuration").split("```yaml")[1].split("```")[0])["predict"]["beams"] == 4
    headings = re.findall(r"^## (.*)$", reporting, re.MULTILINE)
    assert headings == [*(name.replace("_", " ").capitalize() for name in yaml.safe_load(publish.ITEMS.read_text()))]
    assert reporting.count("| TRIPOD-LLM | CLAIM | asked | answer |") == len(headings) - 1


def test_an_item_says_what_is_known_and_asks_for_the_rest():
    item = {"tripod": ["6a"], "claim": ["22", "23"], "asked": "The model", "from": ["base", "tuning", "leaks"], "authors": "its | licence"}
    said = {"base": "It is A.", "tuning": None, "leaks": ""}
    assert publish.reporting_row(item, said) == (
        f"| 6a | 22, 23 | The model | It is A. **For the authors:** {ASKED['tuning']}. **For the authors:** its \\| licence. |"
    )


def test_a_run_without_a_record_names_its_base_by_its_adapter(told, tmp_path):
    (told / "train_run.json").unlink()
    publish.publish(told, tmp_path / "out")
    card, _ = text_of(tmp_path / "out")
    assert "\n# Qwen2-VL: LoRA adapter for visual question answering\n" in card and "**For the authors:** the configuration of" in card


def test_without_metrics_of_the_adapter_no_other_is_taken_for_its(told, tmp_path):
    """The newest may have been moved away; those of the base model alone and of another adapter stay in the table of no score."""
    (told / "metrics_tuned_constrained.json").unlink()
    publish.publish(told, tmp_path / "out")
    card, _ = text_of(tmp_path / "out")
    assert "scores: predict and evaluate with this adapter" in card and "12.50%" not in card and "75.00%" not in card


def test_a_card_without_scores_asks_for_them(run, tmp_path):  # noqa: F811
    publish.publish(run, tmp_path / "out")
    card, _ = text_of(tmp_path / "out")
    assert "**For the authors:** scores: predict and evaluate with this adapter, then publish again." in card
    assert "50.00%" not in card.partition("## Scores")[0] and "[for the authors: on which rows the scores are]" in card


def test_the_revision_of_a_hub_model_is_what_repeats_a_run(told, tmp_path):
    facts = read_json(told / "adapter" / "experiment.json") | {"base_source": "hub", "base_revision": "0123456789" * 4}
    write_json(told / "adapter" / "experiment.json", facts)
    record = read_json(told / "train_run.json")
    write_json(told / "train_run.json", {**record, "config": {**record["config"], "model_name": "Qwen/Qwen2-VL-2B-Instruct"}})
    publish.publish(told, tmp_path / "out")
    card, _ = text_of(tmp_path / "out")
    assert f"`hf download Qwen/Qwen2-VL-2B-Instruct --revision {'0123456789' * 4} --local-dir models/base`" in card
    assert ModelCard(card).data.base_model == "Qwen/Qwen2-VL-2B-Instruct"


def test_where_an_adapter_stays_nothing_is_published(told, tmp_path):
    write_json(told / "adapter" / "questions.json", [["Is this Dr. Huber?", False]])
    with pytest.raises(
        UserError, match=r"the adapter stays, so there is nothing to publish; adapter/questions.json: 'Dr. Huber' looks like"
    ):
        publish.publish(told, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_every_item_of_both_guidelines_is_there_once():
    table = yaml.safe_load(publish.ITEMS.read_text(encoding="utf-8"))
    left_out = table.pop("left_out")
    items = [item for section in table.values() for item in section]
    assert sorted(number for item in items for number in item["claim"]) == sorted(CLAIM)
    assert sorted([*(number for item in items for number in item["tripod"]), *left_out]) == sorted(TRIPOD)
    assert all(item.keys() <= {"tripod", "claim", "asked", "from", "authors"} and {"from", "authors"} & item.keys() for item in items)
    assert {key for item in items for key in item.get("from", ())} <= ASKED.keys()


# ---------------------------------------------------------------------------------------------------------------------
# The parts of a card


def scored(**facts):
    """A metrics file's facts; `decoding` and `split` of its sidecar."""
    sidecar = {key: facts.pop(key) for key in ("split", "decoding", "made_from", "adapter") if key in facts}
    return {"n": 1200, "micro": 0.5, "details": {"overall": {}}, "sidecar": sidecar, **facts}


def test_the_scores_that_head_a_card_are_the_whole_tests_exactly_decoded_with_robustness():
    """Each of the next is worse by one thing, however good by all after it."""
    best = {"split": "test", "decoding": "exact", "robustness": {"files": {}}}
    falling = [scored(**best), scored(**{**best, "robustness": None}), scored(**{**best, "decoding": "greedy"})]
    falling += [scored(**{**best, "split": split}) for split in ("val", "train")]
    falling += [scored(**best, partial=[4, 8])]
    ranks = list(map(publish.rank, falling))
    assert ranks == sorted(ranks) and len(set(ranks)) == len(ranks)
    assert publish.rank(scored()) == (False, 2, True, True), "what a file doesn't say doesn't count for it"
    assert publish.rank(scored(split=None, decoding="free", partial=None, robustness={})) == (False, 2, True, True)


def test_metrics_of_another_version_are_not_told():
    whole = {**scored(), "details": {"overall": {}, "macro": {}, "per_type": {}}}
    assert publish.whole(whole)
    for lost in ("n", "micro", "sidecar"):
        assert not publish.whole({key: value for key, value in whole.items() if key != lost})
    for lost in whole["details"]:
        assert not publish.whole({**whole, "details": {key: {} for key in whole["details"] if key != lost}})


def test_the_main_metrics_are_the_best_of_the_adapters_own(told, tmp_path):
    metrics = read_json(told / "metrics_tuned_constrained.json")
    changes = {"metrics.json": ("exact", "val"), "metrics_test.json": ("exact", "test"), "metrics_free.json": ("free", "test")}
    for name, (decoding, split) in changes.items():
        write_json(told / name, metrics | {"sidecar": metrics["sidecar"] | {"decoding": decoding, "split": split}})
    for better in ("metrics_test.json", "metrics_tuned_constrained.json", "metrics_free.json", "metrics.json"):
        publish.publish(told, tmp_path / better)
        assert f"`{better}`, by type" in text_of(tmp_path / better)[0]
        (told / better).unlink()  # the next best is taken, and of two alike the first by name


@pytest.mark.parametrize(
    ("facts", "row"),
    [
        ({}, ["`m.json`", "–", "another adapter, or not known", "–", "1,200", "50.00%", "–", "–"]),
        (
            {
                "split": "test", "decoding": "exact", "made_from": {"adapter": "e" * 64}, "partial": [1200, 2400],
                "blind_prior": {"micro": 0.25}, "details": {"overall": {"interval": [0.3, 0.7, "Wilson"]}},
            },
            ["`m.json`", "test", "this adapter", "exact", "1,200 (partial)", "50.00%", "30.00% to 70.00%", "25.00%"],
        ),
        ({"adapter": "none"}, ["`m.json`", "–", "base model alone", "–", "1,200", "50.00%", "–", "–"]),
        ({"made_from": {"adapter": "none"}}, ["`m.json`", "–", "base model alone", "–", "1,200", "50.00%", "–", "–"]),
        ({"made_from": {"adapter": "f" * 64}}, ["`m.json`", "–", "another adapter, or not known", "–", "1,200", "50.00%", "–", "–"]),
    ],
)  # fmt: skip
def test_a_row_of_all_scores_says_whose_they_are_and_leaves_open_what_is_not_known(facts, row):
    assert publish.result_row("m.json", scored(**facts), "e" * 64) == row


def test_what_a_reader_must_not_overlook_is_said_and_nothing_else():
    asked = "**For the authors:** which scores this adapter has."
    flatter = "The scores are on the validation split, which chose the weights: they flatter."
    below = "It scores below its blind prior: each question's commonest answer, without looking, is better."
    said = lambda metrics, untuned=False: list(
        publish.cautions({"untuned": untuned, "sidecar": metrics["sidecar"] if metrics else {}}, "m" if metrics else None, {"m": metrics})
    )
    assert said(None) == [asked] and said(scored(split="test"), untuned=True) == [asked]
    assert said(scored(split="test")) == said(scored(split="test", blind_prior={"micro": 0.5})) == []
    assert said(scored(split="val")) == [flatter]
    assert said(scored(split="test", blind_prior={"micro": 0.501})) == [below]
    assert said(scored(split="val", blind_prior={"micro": 0.9})) == [flatter, below]


def test_settings_of_prediction_that_differ_are_repeated_in_the_command():
    one, other = (
        {"predict": {"decoding": "exact", "beams": 4, "batch_size": 8}},
        {"predict": {"decoding": "free", "batch_size": 2, "beams": 4}},
    )
    assert publish.changes(one, other) == ["predict.batch_size=2", "predict.decoding=free"]
    assert publish.changes({}, other) == ["predict.batch_size=2", "predict.beams=4", "predict.decoding=free"]
    assert publish.changes(one, one) == publish.changes(one, {}) == publish.changes({}, {}) == []


@pytest.mark.parametrize(("limit", "shown"), [(None, "20"), ({"max_listed": 3}, "3"), ({"max_listed": 2}, "2"), ({}, "20")])
def test_an_example_is_the_first_question_whose_answers_its_prompt_lists(limit, shown):
    """Answers that are more than the prompt lists would not stand in it."""
    entry = lambda count: {"type": "color", "candidates": [f"c{number}" for number in range(count)] or None}
    space = {"questions": {"open": entry(0), "many": entry(21), "some": entry(20), "three": entry(3), "two": entry(2)}}
    asked = [["Not there?", False], ["Open?", False], ["Many?", False], ["Some?", False], ["Three?", False], ["Two?", False]]
    said = publish.example(asked, space, {"valid_answers": limit} if limit is not None else {})
    question = {"20": "Some?", "3": "Three?", "2": "Two?"}[shown]
    answers = ", ".join(f"c{number}" for number in range(int(shown)))
    assert f"Question: {question}\n" in said and f": {answers}\n" in said
    assert publish.example(asked[:3], space, {}) is publish.example(asked, {}, {}) is None


def test_languages_are_told_where_they_were_recorded(told, tmp_path):
    for languages, said in ((["en", "de"], "en, de"), (None, "a language that was not recorded")):
        space = read_json(told / "adapter" / "answer_space.json")
        write_json(told / "adapter" / "answer_space.json", space | {"languages": languages})
        publish.publish(told, tmp_path / said)
        card, _ = text_of(tmp_path / said)
        assert f"- It answers what its training asked: 2 different questions (adapter/questions.json), in {said}." in card
        assert ModelCard(card).data.language == languages


# ---------------------------------------------------------------------------------------------------------------------
# The hub: what is asked of its client; nothing is sent


@pytest.fixture
def hub(monkeypatch):
    """What the client was asked for. The upload itself is huggingface_hub's."""
    asked = []
    monkeypatch.setattr(publish, "get_token", lambda: "hf_x")
    monkeypatch.setattr(publish.HfApi, "create_repo", lambda self, repo, **kwargs: asked.append((repo, kwargs)) or f"https://hub/{repo}")
    monkeypatch.setattr(publish.HfApi, "upload_folder", lambda self, **kwargs: asked.append(kwargs))
    return asked


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["publish.py", *map(str, arguments)])
    publish.main()


def test_nothing_is_sent_unless_told(told, tmp_path, hub, monkeypatch, capsys):
    main(monkeypatch, told, tmp_path / "out")
    places = sum(text.count("**For the authors:**") for text in text_of(tmp_path / "out"))
    *left, wrote, named, marked, last = capsys.readouterr().out.splitlines()
    assert not hub and marked == f"{places} places of README.md and REPORTING.md are marked **For the authors:**"
    assert all(line.startswith("left ") for line in left) and "left data/: rows of the data, and paths of this machine" in left
    begin = f"wrote to {near(tmp_path / 'out')}: adapter/adapter_config.json, "
    assert wrote.startswith(begin) and wrote.endswith(", trainer_state.json, README.md, REPORTING.md")
    assert named.startswith("its files name 2 questions (questions.json) and 2 answers (answer_space.json), each of 2 patients")
    assert last == "look through it, and fill in what is marked, before it goes out"
    with pytest.raises(UserError, match="gone: is no folder; give the output_dir of a run$"):
        main(monkeypatch, tmp_path / "gone", tmp_path / "other")


def test_a_folder_is_pushed_with_the_authors_words(told, tmp_path, hub, monkeypatch, capsys):
    out = tmp_path / "out"
    main(monkeypatch, told, out)
    (out / "README.md").write_text("the authors' words")
    (out / "REPORTING.md").write_text("theirs, too")
    capsys.readouterr()
    main(monkeypatch, told, out, "--push", "clinic/adapter")
    assert hub[0] == ("clinic/adapter", {"private": True, "exist_ok": True})
    assert hub[1] == {"repo_id": "clinic/adapter", "folder_path": str(out), "commit_message": "Adapter, model card and reporting items"}
    assert capsys.readouterr().out == "nothing is left for the authors to fill in\npushed to https://hub/clinic/adapter\n"
    assert (out / "README.md").read_text() == "the authors' words"
    (told / "adapter" / "adapter_model.safetensors").write_bytes(b"another")
    with pytest.raises(UserError, match="holds another adapter than"):
        main(monkeypatch, told, out, "--push", "clinic/adapter")
    with pytest.raises(UserError, match="is there already, and not a published folder"):
        main(monkeypatch, told, told / "data", "--push", "clinic/adapter")
    for name in ("README.md", "REPORTING.md", "adapter/experiment.json", "adapter/adapter_model.safetensors"):
        (out / name).rename(tmp_path / "moved")
        with pytest.raises(UserError, match="out: is there already, and not a published folder; give a new one$"):
            publish.check_same(told, out)
        (tmp_path / "moved").rename(out / name)
    (told / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"out: holds another adapter than .*outputs; give a new folder$"):
        publish.check_same(told, out)
    assert len(hub) == 2


def test_a_failure_that_says_nothing_is_told_by_its_kind_and_a_long_one_short(tmp_path, hub, monkeypatch):
    for error, said in ((ValueError(), "ValueError"), (ValueError("a " * 300), "…")):

        def fail(self, repo, error=error, **kwargs):
            raise error

        monkeypatch.setattr(publish.HfApi, "create_repo", fail)
        with pytest.raises(UserError) as told:
            publish.push(tmp_path / "out", "clinic/x")
        begin, end = "--push clinic/x: ", f"; {near(tmp_path / 'out')} is whole: push it again with the same command"
        assert str(told.value).startswith(begin) and str(told.value).endswith(end)
        found = str(told.value).removeprefix(begin).removesuffix(end)
        assert found == said if said == "ValueError" else len(found) == 200 and "…" in found


def test_without_token_or_network_it_is_one_line(told, tmp_path, hub, monkeypatch):
    def offline(self, repo, **kwargs):
        raise OfflineModeIsEnabled("Cannot reach https://huggingface.co:\noffline mode is enabled.")

    monkeypatch.setattr(publish.HfApi, "create_repo", offline)
    said = "--push clinic/x: Cannot reach https://huggingface.co: offline mode is enabled.; .*out is whole: push it again with the same"
    with pytest.raises(UserError, match=said):
        main(monkeypatch, told, tmp_path / "out", "--push", "clinic/x")
    assert (tmp_path / "out" / "README.md").is_file()
    monkeypatch.setattr(publish, "get_token", lambda: None)
    with pytest.raises(UserError, match="there is no token for the hub; make one with write access, and run: hf auth login"):
        main(monkeypatch, told, tmp_path / "other", "--push", "clinic/x")
    assert not (tmp_path / "other").exists()
