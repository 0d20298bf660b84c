"""Where the report says its numbers come from: title, date, files with their hashes, settings.

python -m pytest tests/evaluation/test_provenance.py -v
"""

import os

import pytest
from evaluating import ALICE, CFG

from config import PublicNames
from evaluation.provenance import date_of, title_of


@pytest.mark.parametrize(
    ("sidecar", "title"),
    [
        ({}, "predictions_x.jsonl, 28 May 2026"),  # nobody knows the model
        ({"config": {"model_name": "Qwen/Qwen2-VL-2B"}, "adapter": "none"}, "Qwen2-VL-2B, no adapter, 28 May 2026"),
        ({"split": "test", "date": "soon", "adapter": f"{ALICE}/exp1"}, "predictions_x.jsonl, adapter exp1, test split, 28 May 2026"),
        ({"config": {"model_name": "/m/Own\n7B"}, "split": "centre 2"}, "Own\\n7B, no adapter, centre 2 split, 28 May 2026"),
    ],
)
def test_titles_of_other_files(tmp_path, sidecar, title):
    path = tmp_path / "predictions_x.jsonl"
    path.touch()
    os.utime(path, (1_779_966_000, 1_779_966_000))  # 11 o'clock UTC on that day
    run = {"sidecar": sidecar, "path": path}
    assert title_of(run, PublicNames(CFG, sidecar)) == title and date_of(run)[1] == "that of the predictions file's last change"
