"""Train, val and test rows that share no patient, video or image.

    python -m data.split SRC DST [--val 0.1] [--test 0.1] [--seed 0] [--by group|image]
    python data/split.py kvasir/all.jsonl kvasir/

writes DST/train.jsonl, val.jsonl and test.jsonl, SRC's rows in SRC's order, and DST/split.json, which says how they
were made. A row's group is its `group` (patient or video), or its image where it has none or with `--by image`.
A hash of the seed and the group alone decides the split: it is the same on any machine and in any order of rows, and
adding rows never moves a group. So the shares hold for groups, about, and are no quota. Rows are written unchanged, but
for an `id` where there is none: the row's number in SRC from 0, which stays unique across the three files.
A share of 0 leaves its file out.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import yaml

if __package__ in (None, ""):  # run as `python data/split.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import SPLITS  # noqa: E402
from data.preprocess import question_key, read_rows  # noqa: E402
from files import UserError, atomic_open, read_jsonl, run_script, sha256, write_json  # noqa: E402

COUNTED = ("groups", "images", "questions")


def assign(group, seed=0, val=0.1, test=0.1):
    """Return the split of a group: "train", "val" or "test". The seed and the group's name decide, nothing else."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    point = int.from_bytes(digest[:6], "big") / 2**48  # in [0, 1), exact in a float
    if point < test:
        return "test"
    return "val" if point < test + val else "train"


def split_jsonl(src, dst, seed=0, val=0.1, test=0.1, by="group"):
    """Split SRC into files of DST, write DST/split.json, and return what that holds.

    Raises UserError, and leaves earlier files as they were, for bad rows, an image in two groups, an empty split, and
    files that would be overwritten or left over.
    """
    src, dst = Path(src), Path(dst)
    shares = {"train": round(1 - val - test, 9), "val": val, "test": test}
    _check_outputs(src, dst, shares)
    paths = {split: _split_path(dst, split) for split in SPLITS if shares[split]}
    rows, seen = Counter(), {split: {key: set() for key in COUNTED} for split in paths}
    with ExitStack() as stack:
        files = {split: stack.enter_context(atomic_open(path)) for split, path in paths.items()}
        for group, image, row in grouped_rows(src, by):
            split = assign(group, seed, val, test)
            files[split].write(json.dumps(row, ensure_ascii=False) + "\n")
            rows[split] += 1
            for key, value in zip(COUNTED, (group, image, question_key(row["question"]))):
                seen[split][key].add(value)
        for split in paths:
            if not rows[split]:
                groups = sum(len(found["groups"]) for found in seen.values())
                raise UserError(_empty_split(src, split, groups, shares[split]))
    splits = {
        split: {"rows": rows[split], **{key: len(seen[split][key]) for key in COUNTED}, "sha256": sha256(path)}
        for split, path in paths.items()
    }
    source = {"name": src.name, "sha256": sha256(src)}  # no folder: the same split is the same file on any machine
    result = {"source": source, "seed": seed, "by": by, "shares": shares, "splits": splits}
    write_json(dst / "split.json", result)
    return result


def grouped_rows(src, by="group"):
    """Yield `(group, image, row)` for every row of SRC, the row as it is but for an absent `id`.

    Raises UserError naming file:line for a row that data.preprocess would refuse, a group that isn't a name, and an
    image that has another group than on an earlier line: wherever the image went, one of the two would leak.
    """
    first = {}  # image -> (its group, the line that says so)
    for (line, raw), row in zip(read_jsonl(src), read_rows(src, need_answer=False)):
        image = row["image"]
        group = image if by == "image" or row.get("group") is None else row["group"]
        if isinstance(group, bool) or not isinstance(group, (str, int)) or not str(group).strip():
            raise UserError(f"{src}:{line}: group is {group!r}; write the patient's or video's name")
        known, known_line = first.setdefault(image, (str(group), line))
        if known != str(group):
            raise UserError(
                f"{src}:{line}: image {image} is of group {group}, on line {known_line} of {known}; "
                "give it one group, or split with --by image"
            )
        yield str(group), image, raw if raw.get("id") is not None else {**raw, "id": row["id"]}


def _split_path(dst, split):
    return dst / f"{split}.jsonl"


def _check_outputs(src, dst, shares):
    """Never write over the source, and leave no file of an earlier split beside the new ones."""
    if not all(0 <= share < 1 for share in (shares["val"], shares["test"])) or not shares["train"] > 0:
        given = f"--val {shares['val']} --test {shares['test']}"
        raise UserError(f"{given}: give shares from 0 to 1 that leave some rows for train")
    for split, share in shares.items():
        path = _split_path(dst, split)
        if path.resolve() == src.resolve():
            raise UserError(f"{path}: is the input itself; choose another DST")
        if not share and path.exists():
            raise UserError(f"{path}: is left from an earlier split, where --{split} 0 writes none; delete it")


def _empty_split(src, split, groups, share):
    return (
        f"{src}: {split} would be empty: none of the {groups} groups fell into its share of {share:g}; "
        "take more groups, other shares or another --seed"
    )


def describe(result):
    """One line on each split, for people."""
    for split, facts in result["splits"].items():
        counts = ", ".join(f"{facts[key]} {key}" for key in ("rows", "groups", "images", "questions"))
        yield f"{split}: {counts}"


def config_lines(src, dst, result):
    """The YAML lines that make a configuration use the split; absolute paths hold wherever that file lies."""
    image = next(read_rows(src, need_answer=False))["image"]
    root = Path(src).resolve().parent
    data = {f"{split}_jsonl": str(_split_path(Path(dst).resolve(), split)) for split in result["splits"]}
    data["image_root"] = str(root) if (root / image).is_file() else "the folder that image names start from"
    return yaml.safe_dump({"data": data}, sort_keys=False, allow_unicode=True, width=10_000).rstrip()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("src", metavar="SRC", help="JSONL with all rows, such as data.readers writes")
    parser.add_argument("dst", metavar="DST", help="folder that the three files and split.json go to")
    parser.add_argument("--val", type=float, default=0.1, help="share of the groups for validation (default 0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="share of the groups for the test (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split (default 0)")
    parser.add_argument("--by", choices=("group", "image"), default="group", help="what stays whole (default group)")
    args = parser.parse_args()
    result = split_jsonl(args.src, args.dst, args.seed, args.val, args.test, args.by)
    print("\n".join(describe(result)))
    print(f"next: set in config_exp1.yaml\n\n{config_lines(args.src, args.dst, result)}")


if __name__ == "__main__":
    run_script(main)
