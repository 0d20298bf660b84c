"""What a training starts from, and what is saved beside its adapter.

python -m pytest tests/training/test_prepare.py -v
"""

from types import SimpleNamespace

from files import write_json
from training.prepare import longest_answer


def test_a_stage_of_short_answers_remembers_the_long_ones_that_its_adapter_learnt(tmp_path):
    """A curriculum's last stage answers the questions of all: `predict.max_new_tokens: auto` must not cut the first stage's."""
    dataset = SimpleNamespace(encoded={"0": ([1, 2], [3, 4])})
    write_json(tmp_path / "experiment.json", {"model_name": "tiny"})
    assert longest_answer(dataset) == longest_answer(dataset, tmp_path) == 2, "older adapters don't say"
    for longest in (9, 1):
        write_json(tmp_path / "experiment.json", {"model_name": "tiny", "longest_answer": longest})
        assert longest_answer(dataset, tmp_path) == max(2, longest)
