"""What readers of several families share: official splits, names below a folder, what isn't what it should be.

python -m pytest tests/data/formats/test_common.py -v
"""

import pytest

from data.formats.cholec import CHOLEC80, SSG
from data.formats.endovis import ENDOVIS_18
from data.formats.pitvqa import PITVQA


@pytest.mark.parametrize(
    ("splits", "sizes", "absent"),
    [
        (ENDOVIS_18, {"train": 11, "val": 3}, {8, 13}),
        (CHOLEC80, {"train": 32, "val": 8}, {0, 41}),
        (PITVQA, {"train": 20, "val": 5}, {0, 26}),
        (SSG, {"train": 35, "val": 5, "test": 5}, {3, 81}),
    ],
)
def test_official_splits_are_disjoint_and_of_the_published_size(splits, sizes, absent):
    assert {split: len(videos) for split, videos in splits.items()} == sizes
    assert len(set().union(*splits.values())) == sum(sizes.values())
    assert not absent & set().union(*splits.values())
