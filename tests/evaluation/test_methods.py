"""How a run was made, in sentences: what its files say, and for the authors what they don't.

python -m pytest tests/evaluation/test_methods.py -v
"""

import json

import pytest

from evaluation import methods
from evaluation.methods import ASKED, checked_data, methods_paragraph, sentences, study_of
from files import write_json

TRAIN, VAL = "a" * 64, "b" * 64
CONFIG = {
    "model_name": "Qwen/Qwen2-VL-7B-Instruct",
    "quantization": "nf4",
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"]},
    "train": {
        "train_bs": 4, "grad_accum": 2, "questions_per_image": "all", "epochs": 1.0, "max_steps": None, "lr": 1e-4, "weight_decay": 0.0,
        "warmup_ratio": 0.05, "seed": 7, "init_adapter": None, "select_by": "micro", "eval_images": 64,
    },
    "data": {"language": ["en", "de"], "answer_space": "mined"},
}  # fmt: skip
EXPERIMENT = {
    "prompt": {"system": "Answer."},
    "prompt_style": "plain",
    "image": {"min_pixels": 3136, "max_pixels": 200704},
    "trained_on": [TRAIN],
    "base_source": "hub",
    "base_revision": "c" * 40,
    "base_weights": None,
    "best": {"step": 30, "exact_match": 0.5},
}
RECORD = {"config": CONFIG, "world_size": 2, "hardware": "NVIDIA H100 PCIe", "precision": "bfloat16", "commit": "d" * 40}
RECORD |= {"versions": {"torch": "2.14.1", "bitsandbytes": None}, "date": "2026-11-05T10:00:00+00:00"}
RECORD |= {"finished": {"step": 40, "date": "2026-11-06T09:00:00+00:00"}}


def counts(**facts):
    return {"rows": 90, "images": 10, "groups": 0, "junk_rows": 0, "duplicates": 0, "conflicting_pairs": 0, **facts}


@pytest.fixture
def run(tmp_path):
    """A run's folder: adapter, record, log, and the doctor's report on the rows that it enriched."""
    write_json(tmp_path / "adapter" / "experiment.json", EXPERIMENT)
    write_json(tmp_path / "train_run.json", RECORD)
    write_json(tmp_path / "trainer_state.json", {"log_history": [{"step": 40, "training_seconds": 5400.0}]})
    check = {
        "made_from": {"files": {"train": TRAIN, "val": VAL}},
        "splits": {"train": counts(junk_rows=2), "val": counts(rows=9, images=1)},
    }
    check |= {"between": {"train and val": {"names": 0, "groups": 0, "copies": 0, "near_duplicates": 3, "rows": 9, "example": "meier.png"}}}
    check |= {"images": {"read": 11}, "recorded_split": {"train": None, "val": None}}
    write_json(tmp_path / "data" / "check.json", check)
    for split, source in (("train", TRAIN), ("val", VAL)):
        write_json(tmp_path / "data" / f"{split}.meta.json", {"inputs": {"source": source}})
    return tmp_path


def test_what_the_files_say_stands_in_sentences(run):
    said = sentences(study_of(run / "adapter", {}))
    assert said["base"] == f"The base model is Qwen/Qwen2-VL-7B-Instruct (hub commit {'c' * 40})."
    assert said["tuning"] == (
        "It was fine-tuned by low-rank adaptation (LoRA; rank 16, alpha 32, dropout 0.05) of the language model's q_proj, v_proj; vision "
        "tower and 4-bit base weights (NF4) stayed frozen."
    )
    assert said["optimisation"].startswith(
        "Training took 40 optimizer steps (1 epochs) of 16 images (4 x 2 accumulated x 2 processes) with all their questions: AdamW (betas "
        "0.9 and 0.999), learning rate 0.0001 with 5% warm-up and linear decay to 0, weight decay 0,"
    )
    assert said["selection"] == (
        "The weights are those of step 30, with the highest teacher-forced exact match (over all questions, 50.00%) on the first 64 images "
        "of the validation split."
    )
    assert said["sizes"] == (
        "Splits: train 90 questions about 10 images; val 9 questions about 1 images; unusable, and not trained on or scored: 2 (train)."
    )
    assert said["leaks"] == (
        "Splits train and val share 3 near-duplicate images (rows name no patients, so sharing a patient is not ruled out)."
    )
    assert "System: Answer. / User: / {image} / Question type: {type} / Question: {question}" in said["prompt"]
    assert said["hardware"] == "Training ran on 2 x NVIDIA H100 PCIe in bfloat16, 1.5 hours of steps."
    assert said["dates"] == "Dates: training 2026-11-05, its end 2026-11-06." and said["languages"].endswith("in: en, de.")
    assert said["software"] == f"Software: torch 2.14.1; this project's code at commit {'d' * 40}."
    assert not any("meier" in sentence for sentence in said.values() if sentence)


@pytest.mark.parametrize("changed", ["train", "val"])
def test_counts_of_other_rows_are_not_told(run, changed):
    """The doctor ran before a file was edited: its numbers are of other rows, and a leak may have come since."""
    write_json(run / "data" / f"{changed}.meta.json", {"inputs": {"source": "e" * 64}})
    said = sentences(study_of(run / "adapter", {}))
    assert said["leaks"] is None and (said["sizes"] is None) == (changed == "train")
    assert f"[for the authors: {ASKED['leaks']}]" in methods_paragraph(said)


def test_counts_are_only_those_of_the_rows_that_trained(run):
    assert checked_data(run, TRAIN)["between"] == {"train and val": {"names": 0, "groups": 0, "copies": 0, "near_duplicates": 3}}
    whole = {"splits": {"train": counts(junk_rows=2) | {"sha256": TRAIN}, "val": counts(rows=9, images=1) | {"sha256": VAL}}}
    whole |= {"between": {"train and val": {"names": 0, "groups": 0, "copies": 0, "near_duplicates": 3}}, "opened": True}
    assert checked_data(run, TRAIN) == checked_data(run, None) == whole | {"recorded": False}
    report = json.loads((run / "data" / "check.json").read_text())
    for intact, image_facts in ((True, None), (False, None)):
        report |= {"images": image_facts, "recorded_split": {"train": {"intact": True}, "val": {"intact": intact}}}
        write_json(run / "data" / "check.json", report)
        assert checked_data(run, TRAIN) == whole | {"recorded": intact, "opened": False}
    assert checked_data(run, "e" * 64) == {} == checked_data(run / "nowhere", TRAIN)


def test_a_split_whose_rows_are_not_known_is_left_out_of_the_counts(run):
    """Its cache is gone, or from older code: what the doctor counted of it may be of other rows."""
    (run / "data" / "val.meta.json").write_text("{}")
    train = {"train": counts(junk_rows=2) | {"sha256": TRAIN}}
    assert checked_data(run, TRAIN) == {"splits": train, "between": {}, "opened": True, "recorded": False}
    (run / "data" / "val.meta.json").unlink()
    assert checked_data(run, TRAIN)["splits"] == train


def test_what_the_doctor_did_not_look_for_is_not_counted(run):
    report = json.loads((run / "data" / "check.json").read_text())
    del report["between"]["train and val"]["near_duplicates"]
    write_json(run / "data" / "check.json", report)
    assert checked_data(run, TRAIN)["between"] == {"train and val": {"names": 0, "groups": 0, "copies": 0}}
    del report["splits"]["val"]["duplicates"]
    write_json(run / "data" / "check.json", report)
    assert checked_data(run, TRAIN) == {}, "of another version"


def test_a_study_is_what_lies_beside_the_adapter(run, tmp_path):
    """Counts are of the rows that trained last, and none where no file says which."""
    sidecar = {"decoding": "free", "config": {"prompt_style": "chat"}}
    study = study_of(run / "adapter", {"n": 3, "sidecar": sidecar})
    assert study == {
        "experiment": EXPERIMENT,
        "record": RECORD,
        "log": [{"step": 40, "training_seconds": 5400.0}],
        "metrics": {"n": 3, "sidecar": sidecar},
        "sidecar": sidecar,
        "untuned": False,
        "checked": checked_data(run, TRAIN),
        "config": {"prompt_style": "chat"},
    }
    marked = study_of(run / "adapter", {"sidecar": sidecar}, public=lambda facts: {**facts, "seen": True})
    assert all(marked[part]["seen"] for part in ("experiment", "record", "sidecar"))
    write_json(run / "adapter" / "experiment.json", EXPERIMENT | {"trained_on": ["e" * 64, TRAIN]})
    assert study_of(run / "adapter", {})["checked"] == study["checked"]
    assert study_of(run / "adapter", {}, run / "elsewhere")["checked"] == {}
    write_json(tmp_path / "moved" / "adapter" / "experiment.json", EXPERIMENT)
    moved = study_of(tmp_path / "moved" / "adapter", {}, run)
    assert moved["checked"] == study["checked"] and (moved["record"], moved["log"]) == ({}, [])
    write_json(run / "adapter" / "experiment.json", {key: value for key, value in EXPERIMENT.items() if key != "trained_on"})
    assert study_of(run / "adapter", {})["checked"] == {}
    nothing = {"experiment": {}, "record": {}, "log": [], "checked": {}, "config": {}}
    untuned = {"sidecar": {"adapter": "none"}}
    assert study_of(None, untuned) == {**nothing, "metrics": untuned, "sidecar": {"adapter": "none"}, "untuned": True}
    assert study_of(None, untuned, run)["checked"] == study["checked"]
    assert study_of(None, {}, run) == {**nothing, "metrics": {}, "sidecar": {}, "untuned": False}


@pytest.mark.parametrize(
    ("of_val", "groups", "said"),
    [
        (4, 2, "2 groups (patients or videos), 3 near-duplicate images"),
        (0, 2, "3 near-duplicate images (rows name no patients, so sharing a patient is not ruled out)"),
    ],
)
def test_shared_patients_are_told_only_where_both_splits_name_them(of_val, groups, said):
    facts = {"names": 0, "groups": groups, "copies": 0, "near_duplicates": 3}
    checked = {"splits": {"train": {"groups": 5}, "val": {"groups": of_val}}, "opened": True}
    assert methods._shared("train and val", facts, checked) == said


def test_what_no_file_says_is_asked_of_the_authors():
    said = sentences(study_of(None, {}))
    known = {key for key, sentence in said.items() if sentence is not None}
    assert not known and methods_paragraph(said).count("[for the authors: ") == 15


@pytest.mark.parametrize(
    ("sidecar", "caution"),
    [
        ({"split": "val"}, " This split also chose the weights."),
        (
            {"split": "train", "source_sha256": TRAIN},
            " These rows were trained on.",
        ),
        ({"split": "test"}, ""),
    ],
)
def test_scores_say_which_rows_they_are_of(run, sidecar, caution):
    overall = {"interval": [0.3, 0.7, "clustered Wilson"], "clusters": 2}
    metrics = {"n": 8, "micro": 0.5, "unit": "images", "details": {"overall": overall}, "blind_prior": {"micro": 0.25}, "sidecar": sidecar}
    said = sentences(study_of(run / "adapter", metrics))
    assert said["scored"] == f"Scores are on the {sidecar['split']} split: 8 questions about 2 images.{caution}"
    assert said["prior"] == (
        "Accuracy is 50.00% (95 % interval 30.00% to 70.00%), +25.00 points over the blind prior, each question's commonest training "
        "answer without the image, which scores 25.00%."
    )


def test_an_untuned_model_was_not_trained(run):
    said = sentences(study_of(None, {"sidecar": {"adapter": "none", "config": CONFIG, "decoding": "free", "max_new_tokens": 9}}, run))
    assert said["tuning"] == "It was not fine-tuned." and said["optimisation"] == said["selection"] == ""
    assert said["leaks"] and said["decoding"].endswith("without a constraint; at most 9 tokens.")


# ---------------------------------------------------------------------------------------------------------------------
# Every sentence, whole

TOLD = {
    "n": 1200,
    "micro": 0.5,
    "unit": "images",
    "partial": [1200, 2400],
    "blind_prior": {"micro": 0.25},
    "gains": {"overall": {"interval": [0.125, 0.375, "MOVER"]}},
    "tolerances": {"numeric_rel_tol": 0.1, "numeric_abs_tol": 2.0, "count_abs_tol": 3},
    "agreement": {"raters": 3, "kappa_of": "Fleiss", "overall": {"agreement": 0.75, "kappa": 0.625, "count": 1100}},
    "robustness": {
        "perturbations": {"black": {"overall": {"drop": 0.25}}, "other_image": {"overall": {"drop": -0.125}}},
        "samples": {
            "rows": 9,
            "by": "black",
            "wordings": ["reworded_1"],
            "consistent": {"share": 0.5},
            "reliant": {"share": 0.25},
            "empty": 0,
        },
    },
    "calibrated": {"ece": 0.05, "brier": 0.15},
    "answer_sets": {"target": 0.9, "overall": {"coverage": 0.875, "count": 1190}},
    "details": {
        "overall": {
            "interval": [0.3, 0.7, "clustered Wilson"],
            "clusters": 1001,
            "calibration": {"count": 1195, "ece": 0.1, "brier": 0.2},
            "auroc": {"value": 0.75, "interval": [0.5, 0.875]},
        },
        "presence": {"overall": {"there": 1002, "missed": 1001, "absent": 2000, "false_alarms": 1003}},
    },
    "sidecar": {
        "split": "val",
        "source_sha256": VAL,
        "decoding": "exact",
        "max_new_tokens": 9,
        "hardware": "NVIDIA L4",
        "date": "2026-11-07T08:00:00+00:00",
        "config": {"predict": {"min_confidence": 0.75}},
    },
}
CHECKED = {
    "splits": {
        "train": counts(rows=9000, images=1000, groups=1200, junk_rows=2, duplicates=3, conflicting_pairs=4) | {"sha256": TRAIN},
        "val": counts(groups=8) | {"sha256": VAL},
        "test": counts(rows=8) | {"sha256": VAL},
    },
    "between": {
        "train and val": {"names": 1, "groups": 2, "copies": 3},
        "train and test": {"names": 0, "groups": 0, "copies": 0},
        "val and test": {"names": 0, "groups": 0, "copies": 0},
    },
    "opened": False,
    "recorded": True,
}
EVERY_SENTENCE = {
    "base": f"The base model is Qwen/Qwen2-VL-7B-Instruct (hub commit {'c' * 40}, SHA-256 over its weights {'9' * 64}).",
    "tuning": (
        "It was fine-tuned by low-rank adaptation (LoRA; rank 16, alpha 32, dropout 0.05) of the language model's q_proj, v_proj; vision "
        "tower and 4-bit base weights (NF4) stayed frozen."
    ),
    "optimisation": (
        "Training took 40 optimizer steps (1 epochs) of 16 images (4 x 2 accumulated x 2 processes) with all their questions: AdamW (betas "
        "0.9 and 0.999), learning rate 0.0001 with 5% warm-up and linear decay to 0, weight decay 0, gradients clipped at norm 1; LoRA's "
        "usual initial values, B being 0; seed 7, one training. The loss is the mean cross-entropy over the answers' tokens, end token "
        "included."
    ),
    "selection": (
        "The weights are those of step 30, with the highest teacher-forced exact match (over all questions, 50.00%) on the first 64 images "
        "of the validation split."
    ),
    "sizes": (
        "Splits: train 9,000 questions about 1,000 images of 1,200 patients or videos; val 90 questions about 10 images of 8 patients or "
        "videos; test 8 questions about 10 images; unusable, and not trained on or scored: 2 (train)."
    ),
    "leaks": (
        "Splits train and val share 1 images, 2 groups (patients or videos), 3 copies of an image under another name (near-duplicates were "
        "not looked for). Splits train and test, val and test share no images and no copies of an image under another name (rows name no "
        "patients, so sharing a patient is not ruled out; near-duplicates were not looked for)."
    ),
    "drawn": "The files are as data.split wrote them; split.json beside them says how they were drawn.",
    "hashes": f"SHA-256: training rows {TRAIN}, scored rows {VAL}.",
    "languages": "Questions and answers are in: en, de.",
    "prepared": (
        "Types of questions and valid answers are mined from the training rows (data/answer_space.py); answers are normalised in case, "
        "spacing and spelling."
    ),
    "missing": (
        "In train: 2 rows unusable, 3 repeated, 4 questions about an image with several answers; in val: 0 rows unusable, 0 repeated, 0 "
        "questions about an image with several answers; in test: 0 rows unusable, 0 repeated, 0 questions about an image with several "
        "answers. Unusable rows are neither trained on nor scored; no class is weighted."
    ),
    "agreement": "3 raters agree on 75.00%, Fleiss's kappa 0.625 (1,100 questions).",
    "prompt": (
        "The prompt, its lines parted by strokes, is: System: Answer. / User: / {image} / Question type: {type} / Question: {question} / "
        "Valid answers: {valid answers} / Assistant: Answer: (without its line of valid answers where these aren't listed)."
    ),
    "pixels": "Images are resized, keeping their shape, to between 3,136 and 200,704 pixels.",
    "decoding": (
        "Decoding is deterministic (exact): every valid answer of a question is scored by the probability of its tokens, end token "
        "included, and the likeliest is taken; valid answers are those of the same question in training rows. "
        "Answers less probable than 0.75 among "
        "the valid ones are marked as abstained."
    ),
    "output": (
        "The output is one of the valid answers of the question, or several where it asks for a list; questions whose answers are open get "
        "free text. Exactly scored answers have a probability among the valid ones."
    ),
    "judges": "Neither people nor models judge answers: they are compared by rule (data/matching.py).",
    "scored": (
        "Scores are on the val split: 1,200 questions about 1,001 images. That is a part: 1,200 of 2,400 rows. This split also chose the "
        "weights."
    ),
    "scoring": (
        "An answer is right if it is the true one after normalisation of case, spacing and spelling; lists of labels count as sets; single "
        "measurements may differ by 10% or 2 mm, counts by 3; an empty answer is wrong."
    ),
    "intervals": (
        "Intervals are 95 % (clustered Wilson); whole images, not questions, are taken as independent. Differences are paired; p-values of "
        "several types are corrected by Holm's method."
    ),
    "compared": (
        "Every score stands beside what the blind prior, each question's commonest training answer without the image, scores on the same "
        "rows."
    ),
    "prior": (
        "Accuracy is 50.00% (95 % interval 30.00% to 70.00%), +25.00 points (95 % interval +12.50 to +37.50) over the blind prior, each "
        "question's commonest training answer without the image, which scores 25.00%."
    ),
    "robustness": (
        "Perturbed, the same rows lose so many points of accuracy: black 25.00, other image -12.50. Of 9 answers, 50.00% are the same in "
        "every wording (1 others); 25.00% change with a black picture, so rest on what is seen."
    ),
    "calibration": (
        "Of 1,195 confidences the calibration error (ECE, 15 bins) is 0.1000, the Brier score 0.2000. AUROC of confidence for wrong "
        "answers: 0.7500 (0.5000 to 0.8750). With a temperature fitted on other images: ECE 0.0500, Brier score 0.1500. "
        "Answer sets, made for 90%, "
        "hold the truth of 87.50% of 1,190 rows."
    ),
    "failures": ("Of 1,002 findings that are there, 1,001 were said to be absent; of 2,000 that are not, 1,003 were reported."),
    "hardware": "Training ran on 2 x NVIDIA H100 PCIe in bfloat16, 1.5 hours of steps. Prediction ran on NVIDIA L4.",
    "software": f"Software: torch 2.14.1; this project's code at commit {'d' * 40}.",
    "dates": "Dates: training 2026-11-05, its end 2026-11-06, prediction 2026-11-07.",
}


def a_study(**changes):
    """All that a run's files may tell, as `study_of` gives it, with keys (`record__hardware`) of its parts set to other values."""
    study = {
        "experiment": EXPERIMENT | {"base_weights": "9" * 64},
        "record": RECORD,
        "log": [{"step": 2, "training_seconds": 30.0}, {"step": 40, "training_seconds": 5400.0}, {"step": 40, "eval_loss": 1.0}],
        "metrics": TOLD,
        "sidecar": TOLD["sidecar"],
        "untuned": False,
        "checked": CHECKED,
        "config": TOLD["sidecar"]["config"],
    }
    study = json.loads(json.dumps(study))
    for place, value in changes.items():
        *folders, key = place.split("__")
        part = study
        for folder in folders:
            part = part[folder]
        part[key] = value
    return study


def test_every_sentence_is_told_to_the_letter():
    assert sentences(a_study()) == EVERY_SENTENCE
    assert list(sentences(a_study())) == list(ASKED)


def test_the_paragraph_has_the_methods_in_the_order_of_a_paper():
    order = ["base", "tuning", "optimisation", "selection", "sizes", "leaks", "prompt", "pixels", "decoding", "scored", "scoring"]
    order += ["intervals", "compared", "hardware", "software"]
    assert methods_paragraph(EVERY_SENTENCE) == " ".join(EVERY_SENTENCE[key] for key in order)


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        (  # what a run's own record says comes before the prediction's settings
            {"config": {"model_name": "another", "prompt_style": "chat", "data": {"language": "fr", "answer_space": "rules"}}},
            "prepared",
            EVERY_SENTENCE["prepared"],
        ),
        (
            {"experiment__base_revision": None},
            "base",
            f"The base model is Qwen/Qwen2-VL-7B-Instruct (SHA-256 over its weights {'9' * 64}).",
        ),
        ({"experiment__base_weights": None}, "base", f"The base model is Qwen/Qwen2-VL-7B-Instruct (hub commit {'c' * 40})."),
        (
            {"experiment__base_weights": None, "experiment__base_revision": None, "sidecar__base_revision": "8" * 40},
            "base",
            f"The base model is Qwen/Qwen2-VL-7B-Instruct (hub commit {'8' * 40}).",
        ),
        (
            {"experiment": {"model_name": "models/own"}, "record": {}},
            "base",
            "The base model is models/own (its revision was not recorded).",
        ),
        ({"experiment": {}, "record": {}}, "base", None),
        (
            {"record__config__quantization": None},
            "tuning",
            EVERY_SENTENCE["tuning"].replace("4-bit base weights (NF4)", "base weights"),
        ),
        ({"record": {}}, "tuning", None),
        ({"record": {}}, "optimisation", None),
        ({"record": {"config": CONFIG}}, "optimisation", None),
        ({"record__config__train": None}, "optimisation", None),
        ({"record": {}, "config": {"data": {"language": "fr"}}}, "languages", "Questions and answers are in: fr."),
        (
            {"untuned": True, "record": {}, "config": {"model_name": "models/own"}},
            "base",
            f"The base model is models/own (hub commit {'c' * 40}, SHA-256 over its weights {'9' * 64}).",
        ),
        ({"untuned": True}, "tuning", "It was not fine-tuned."),
        ({"untuned": True, "record": {}}, "selection", ""),
        (
            {"experiment": {}, "config": {"image": {"min_pixels": 1, "max_pixels": 2}}},
            "pixels",
            "Images are resized, keeping their shape, to between 1 and 2 pixels.",
        ),
        (
            {"experiment": {}, "config": {"prompt_style": "plain", "prompt": {"system": "Look."}}},
            "prompt",
            EVERY_SENTENCE["prompt"].replace("Answer. /", "Look. /", 1),
        ),
        ({"record__finished": None}, "optimisation", EVERY_SENTENCE["optimisation"].replace("took 40", "took (unfinished)")),
        (
            {"record__config__train__max_steps": 40},
            "optimisation",
            EVERY_SENTENCE["optimisation"].replace(" (1 epochs)", ""),
        ),
        (
            {"record__config__train__questions_per_image": 3},
            "optimisation",
            EVERY_SENTENCE["optimisation"].replace("with all their questions", "with up to 3 questions of each"),
        ),
        (
            {"record__config__train__init_adapter": "other/adapter"},
            "optimisation",
            EVERY_SENTENCE["optimisation"].replace("LoRA's usual initial values, B being 0", "from an earlier adapter's weights"),
        ),
        (
            {"record__config__train__select_by": "macro", "experiment__best": {"step": 30, "exact_match": 0.5, "macro_exact_match": 0.25}},
            "selection",
            EVERY_SENTENCE["selection"].replace("over all questions, 50.00%", "mean over question types, 25.00%"),
        ),
        (
            {"experiment__best": {"step": 40}},
            "selection",
            "The weights are those of the last step, 40: no validation split chose.",
        ),
        ({"experiment__best": {}}, "selection", None),
        ({"experiment__best": {}}, "scored", EVERY_SENTENCE["scored"].replace(" This split also chose the weights.", "")),
        ({"experiment__trained_on": ["e" * 64, VAL]}, "hashes", f"SHA-256: training rows {VAL}, scored rows {VAL}."),
        ({"experiment__trained_on": None, "sidecar__source_sha256": None}, "hashes", None),
        ({"record__config__data__language": "en"}, "languages", "Questions and answers are in: en."),
        ({"record__config__data__language": None}, "languages", None),
        (
            {"record__config__data__answer_space": "rules"},
            "prepared",
            "Types of questions and valid answers are those of the rules in data/schema.py; answers are normalised in case, spacing and "
            "spelling.",
        ),
        (
            {"record__config__data__corrections": "by_hand.csv"},
            "prepared",
            f"{EVERY_SENTENCE['prepared']} Answers that people corrected replace the rows' own.",
        ),
        ({"record__config__data": {}}, "prepared", None),
        ({"checked": {}}, "missing", None),
        ({"checked": {}}, "sizes", None),
        ({"checked__recorded": False}, "drawn", None),
        ({"checked__between": {}}, "leaks", None),
        ({"checked__splits": {"train": counts()}, "checked__between": {}}, "sizes", "Splits: train 90 questions about 10 images."),
        (
            {"experiment__prompt_style": "chat"},
            "prompt",
            "The prompt puts system text, image, question type, question and valid answers through the model's chat template.",
        ),
        ({"experiment__prompt_style": None}, "prompt", None),
        ({"experiment__image": None}, "pixels", None),
        (
            {"experiment__max_frames": 8},
            "pixels",
            f"{EVERY_SENTENCE['pixels']} Of several frames at most 8 are read, evenly spaced.",
        ),
        (
            {"sidecar__decoding": "free", "config__predict__min_confidence": None},
            "decoding",
            "Decoding is deterministic (free): the likeliest next token is taken, without a constraint; at most 9 tokens.",
        ),
        (
            {"sidecar__decoding": "free", "sidecar__max_new_tokens": None, "config__predict": None},
            "decoding",
            "Decoding is deterministic (free): the likeliest next token is taken, without a constraint.",
        ),
        (
            {"sidecar__decoding": "greedy", "config": {}},
            "decoding",
            "Decoding is deterministic (greedy): the likeliest next token is taken among those that some valid answer allows; valid "
            "answers are those of the same question in training rows.",
        ),
        (
            {"sidecar__decoding": "allowed_set", "config": {}},
            "decoding",
            "Decoding is deterministic (allowed_set): the likeliest next token is taken among all tokens of the valid answers, in any "
            "order; valid answers are those of the same question in training rows.",
        ),
        ({"sidecar__decoding": "free"}, "output", "The output is free text."),
        ({"sidecar__decoding": "other"}, "decoding", None),
        ({"sidecar__decoding": "other"}, "output", None),
        ({"metrics__agreement": None}, "agreement", None),
        ({"metrics__agreement__overall__kappa": None}, "agreement", "3 raters agree on 75.00% (1,100 questions)."),
        (
            {"sidecar__split": None, "metrics__partial": None},
            "scored",
            "Scores are on a file whose split was not recorded: 1,200 questions about 1,001 images.",
        ),
        (
            {"sidecar__split": "train", "sidecar__source_sha256": TRAIN, "metrics__partial": None},
            "scored",
            "Scores are on the train split: 1,200 questions about 1,001 images. These rows were trained on.",
        ),
        (
            {"sidecar__split": "test", "sidecar__trained_on": ["1" * 64, VAL], "metrics__partial": None},
            "scored",
            "Scores are on the test split: 1,200 questions about 1,001 images. These rows were trained on.",
        ),
        (
            {"sidecar__split": "test", "sidecar__trained_on": ["1" * 64], "experiment__trained_on": [VAL], "metrics__partial": None},
            "scored",
            "Scores are on the test split: 1,200 questions about 1,001 images.",
        ),
        (
            {"sidecar__split": "test", "metrics__unit": "rows", "metrics__partial": None},
            "scored",
            "Scores are on the test split: 1,200 questions.",
        ),
        (
            {"metrics__unit": "rows"},
            "intervals",
            "Intervals are 95 % (clustered Wilson); questions are taken as independent. Differences are paired; p-values of several types "
            "are corrected by Holm's method.",
        ),
        (
            {"metrics__tolerances": None},
            "scoring",
            EVERY_SENTENCE["scoring"].replace("10% or 2 mm, counts by 3", "5% or 0 mm, counts by 0"),
        ),
        ({"metrics__details": {}}, "scored", None),
        ({"metrics__details": {}}, "judges", None),
        ({"metrics__blind_prior": None}, "compared", None),
        ({"metrics__blind_prior": None}, "prior", None),
        ({"metrics__gains": None}, "prior", EVERY_SENTENCE["prior"].replace(" (95 % interval +12.50 to +37.50)", "")),
        ({"metrics__gains__overall__interval": None}, "prior", EVERY_SENTENCE["prior"].replace(" (95 % interval +12.50 to +37.50)", "")),
        ({"metrics__robustness": None}, "robustness", None),
        (
            {"metrics__robustness__samples": None},
            "robustness",
            "Perturbed, the same rows lose so many points of accuracy: black 25.00, other image -12.50.",
        ),
        ({"metrics__details__overall__calibration": None}, "calibration", None),
        (
            {"metrics__details__overall__auroc": None, "metrics__calibrated": None, "metrics__answer_sets": None},
            "calibration",
            "Of 1,195 confidences the calibration error (ECE, 15 bins) is 0.1000, the Brier score 0.2000.",
        ),
        (
            {"metrics__answer_sets__target": None},
            "calibration",
            EVERY_SENTENCE["calibration"].replace("Answer sets, made for 90%, hold", "Answer sets hold"),
        ),
        ({"metrics__details__presence": None}, "failures", None),
        (
            {"log": [{"step": 40, "training_seconds": 5399.0}], "record__world_size": 1, "sidecar__hardware": None},
            "hardware",
            "Training ran on NVIDIA H100 PCIe in bfloat16, 90.0 minutes of steps.",
        ),
        ({"log": [], "sidecar__hardware": None}, "hardware", "Training ran on 2 x NVIDIA H100 PCIe in bfloat16."),
        (  # whose clock began at the last resumption
            {"record__resumed": [{"step": 20}], "sidecar__hardware": None},
            "hardware",
            "Training ran on 2 x NVIDIA H100 PCIe in bfloat16.",
        ),
        (
            {"record": {}, "sidecar__hardware": None, "sidecar__made_from": {"device": "cpu"}},
            "hardware",
            "Prediction ran on cpu.",
        ),
        ({"record": {}, "sidecar": {}}, "hardware", None),
        (
            {"record__versions": None, "sidecar__versions": {"numpy": "2.4.6"}},
            "software",
            f"Software: numpy 2.4.6; this project's code at commit {'d' * 40}.",
        ),
        (
            {"record__versions": {"torch": "2.14.1", "numpy": "2.4.6"}, "record__commit": None},
            "software",
            "Software: torch 2.14.1, numpy 2.4.6.",
        ),
        (
            {"record__commit": None, "sidecar__commit": "7" * 40},
            "software",
            f"Software: torch 2.14.1; this project's code at commit {'7' * 40}.",
        ),
        ({"record": {}}, "software", None),
        ({"record__date": None, "record__finished": None}, "dates", "Dates: prediction 2026-11-07."),
        ({"record": {}, "sidecar": {}}, "dates", None),
    ],
)
def test_a_sentence_says_no_more_and_no_less_than_the_files(changes, key, said):
    assert sentences(a_study(**changes))[key] == said
