"""What the script says before it trains, and the arguments that it takes. That it trains is in test_pipeline.py.

python -m pytest tests/test_train_exp1.py -v
"""

import re
import sys

import pytest

import train_exp1
from dataset import load_dataset
from train_exp1 import parse_arguments


@pytest.mark.parametrize("argument, value", [("--gpu", "V100"), ("--utilisation", "40"), ("--utilisation", "0")])
def test_dry_run_refuses_what_it_cannot_know(capsys, monkeypatch, argument, value):
    monkeypatch.setattr(sys, "argv", ["train_exp1.py", argument, value])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert re.search(f"argument {argument}: invalid .*'{value}'", capsys.readouterr().err)


def test_question_types_shares_by_hand(experiment, processor):
    cfg, rows = experiment
    data = load_dataset(rows, processor, cfg, training=True)
    tokens = {row["id"]: len(processor.tokenizer(row["answer"])["input_ids"]) + 1 for row in rows}
    share = lambda kind, of: sum(of(row) for row in rows if row["question_type"] == kind) / sum(map(of, rows))
    both = lambda kind: f"{kind} {share(kind, lambda row: 1):.1%} / {share(kind, lambda row: tokens[row['id']]):.1%}"
    expected = ", ".join(map(both, ("yes_no", "color", "count_numeric")))
    assert train_exp1.describe_types(data) == "question types, share of rows / of the loss (answer tokens): " + expected
