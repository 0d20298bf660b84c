"""How a run was made, in sentences: what its files say, and for the authors what they don't.

python -m pytest tests/evaluation/test_methods.py -v
"""

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
    assert checked_data(run, "e" * 64) == {} == checked_data(run / "nowhere", TRAIN)


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
