"""Train, val and test rows that share no patient, video or image, with every question in the same shares.

    python -m data.split SRC DST [--val 0.1] [--test 0.1] [--seed 0] [--by group|image] [--image_root DIR]
    python data/split.py kvasir/all.jsonl kvasir/

writes DST/train.jsonl, val.jsonl and test.jsonl, SRC's rows in SRC's order, and DST/split.json, which says how they
were made. A row's group is its `group` (patient or video), or its image where it has none or with `--by image`. Groups
with copies or near-duplicates of one image (data/image_copies.py) count as one; that needs the image files.
The test groups are drawn first, then val from the rest: larger groups first, otherwise in the order of a hash of the
seed and the group's name, each to the side where its questions are scarcer. All of it is integer arithmetic, so the
same rows, in any order, give the same split on any machine. New rows may move groups; with `--stratify none` the hash
alone decides, and they never do. Rows are written unchanged, but for an `id` where there is none: the row's number in
SRC from 0, which stays unique across the three files. A share of 0 leaves its file out.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/split.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DEFAULT_CONFIG, SPLITS
from data.aliases import question_template
from data.image_copies import BITS, MAX_DISTANCE, join, look_at_images, same_pictures
from data.matching import question_key
from data.rows import read_rows
from files import UserError, atomic_open, read_jsonl, run_script, sha256, write_json

# isort: split
import yaml

COUNTED = ("groups", "images", "questions")
SPLIT_FILE = "split.json"
ROWS, RARE = ("rows",), ("rare questions",)  # strata beside the questions; tuples, so that no question is called so
SCALE = 10**18  # weights are whole numbers of 1 / SCALE


def assign(group, seed=0, val=0.1, test=0.1):
    """The split of a group without stratification. The seed and the group's name decide, nothing else."""
    point = int.from_bytes(_digest(seed, group)[:6], "big") / 2**48  # in [0, 1), exact in a float
    if point < test:
        return "test"
    return "val" if point < test + val else "train"


def _digest(seed, group):
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()


def stratified(groups, seed=0, val=0.1, test=0.1):
    """Return `{group: split}`. groups: `{group: Counter of its rows per question template}`.

    Test is drawn first, so that another share for val leaves it as it is. Every split with a share gets a group.
    """
    val, test = Fraction(str(val)), Fraction(str(test))
    splits = dict.fromkeys(groups, "train")
    drawn = draw(groups, test, seed, spare=1 + bool(val))
    rest = {name: counts for name, counts in groups.items() if name not in drawn}
    splits.update(dict.fromkeys(drawn, "test"))
    splits.update(dict.fromkeys(draw(rest, val / (1 - test), seed, spare=1), "val"))
    return splits


def draw(groups, share, seed, spare):
    """Names (set) of groups that hold about `share` (Fraction) of the rows and of every question; `spare` groups stay.

    A greedy form of Sechidis, Tsoumakas, Vlahavas 2011, "On the stratification of multi-label data": each group goes to
    the side where it adds less to the sum over questions of (rows there)^2 / (rows wanted there).
    """
    if not share:
        return set()
    strata = _strata(groups, share)
    totals = sum(strata.values(), Counter())
    weight = {key: SCALE // total for key, total in totals.items()}
    inside, outside, drawn = Counter(), Counter(), set()
    for name in sorted(groups, key=lambda name: _large_first(groups[name], seed, name)):
        counts = strata[name]
        into, out = (sum(weight[key] * n * (2 * side[key] + n) for key, n in counts.items()) for side in (inside, outside))
        fits = into * (share.denominator - share.numerator) <= out * share.numerator
        if fits and len(drawn) < len(groups) - spare:
            drawn.add(name)
        (inside if name in drawn else outside).update(counts)
    if not drawn and len(groups) > spare:  # few groups: the one whose rows are nearest to the share
        wanted, scale = share.numerator * totals[ROWS], share.denominator
        drawn.add(min(groups, key=lambda name: (abs(strata[name][ROWS] * scale - wanted), _digest(seed, name))))
    return drawn


def _large_first(counts, seed, name):
    """Sort key. Large groups would spoil the balance if they came last; within a factor of two the hash decides."""
    return -counts.total().bit_length(), _digest(seed, name), name


def _strata(groups, share):
    """What is balanced: rows, and rows of each question. Questions of too few groups to be divided count together."""
    groups = {name: +counts for name, counts in groups.items()}  # a question asked 0 times is not asked
    asked = Counter(question for counts in groups.values() for question in counts)
    strata = {}
    for name, counts in groups.items():
        strata[name] = Counter({ROWS: counts.total()})
        for question, rows in counts.items():
            strata[name][question if asked[question] * share >= 2 else RARE] += rows
    return strata


def split_jsonl(src, dst, seed=0, val=0.1, test=0.1, by="group", stratify="question", near="auto", image_root=None):
    """Split SRC into files of DST, write DST/split.json, and return what that holds.

    near: "on" joins groups with near-duplicate images, "auto" those of the images it can read, "off" none.
    Raises UserError, and leaves earlier files as they were, for bad rows, an image in two groups, an empty split, and
    files that would be overwritten or left over.
    """
    src, dst = Path(src), Path(dst)
    shares = {"train": round(1 - val - test, 9), "val": val, "test": test}
    _check_outputs(src, dst, shares)
    paths = {split: _split_path(dst, split) for split in SPLITS if shares[split]}
    splits, joined, near_facts = _plan(src, seed, val, test, by, stratify, near, image_root)
    seen = {split: {key: set() for key in COUNTED} for split in paths}
    for group, split in splits.items():
        seen[split]["groups"].add(group)
    for split in paths:
        if not seen[split]["groups"]:
            raise UserError(_empty_split(src, split, len(splits), shares, stratify))
    rows = Counter()
    with ExitStack() as stack:
        files = {split: stack.enter_context(atomic_open(path)) for split, path in paths.items()}
        for group, image, row in grouped_rows(src, by):
            split = splits[joined.get(group, group)]
            files[split].write(json.dumps(row, ensure_ascii=False) + "\n")
            rows[split] += 1
            seen[split]["images"].add(image)
            seen[split]["questions"].add(question_key(row["question"]))
    facts = {
        split: {"rows": rows[split], **{key: len(seen[split][key]) for key in COUNTED}, "sha256": sha256(path)}
        for split, path in paths.items()
    }
    source = {"name": src.name, "sha256": sha256(src)}  # no folder: the same split is the same file on any machine
    result = {"sha256": split_hash(facts), "source": source, "seed": seed, "by": by, "shares": shares}
    result |= {"stratified_by": stratify, "near_duplicates": near_facts, "splits": facts}
    write_json(dst / SPLIT_FILE, result)
    return result


def split_hash(splits):
    """One hash for the three files. splits: `{split: facts with its file's sha256}`."""
    return hashlib.sha256("".join(f"{split} {splits[split]['sha256']}\n" for split in splits).encode()).hexdigest()


def _plan(src, seed, val, test, by, stratify, near, image_root):
    """Return `({group: split}, {group: the group it counts as}, facts on near-duplicates)`."""
    groups, images = {}, {}
    for group, image, row in grouped_rows(src, by):
        groups.setdefault(group, Counter())[question_template(row["question"])] += 1
        images[image] = group
    joined, near_facts = _join_near_duplicates(images, near, image_root or src.parent)
    merged = {}
    for group, counts in groups.items():
        merged.setdefault(joined.get(group, group), Counter()).update(counts)
    if stratify == "none":
        return {group: assign(group, seed, val, test) for group in merged}, joined, near_facts
    return stratified(merged, seed, val, test), joined, near_facts


def _join_near_duplicates(images, near, root):
    """Return `({group: the group it counts as}, facts)`. images: `{image: its group}`."""
    if near == "off":
        return {}, None
    pictures = look_at_images(root, images)
    unread = [name for name, picture in pictures.items() if picture.problem]
    if unread and near == "on":
        raise UserError(f"image {unread[0]} is {pictures[unread[0]].problem} in {root}; correct --image_root or the row")
    pairs = list(same_pictures({name: picture for name, picture in pictures.items() if not picture.problem}))
    joined = join((images[one], images[other]) for one, other in pairs)
    joined = {group: other for group, other in joined.items() if group != other}
    facts = {"max_distance": MAX_DISTANCE, "images_read": len(images) - len(unread), "images": len(images)}
    return joined, {
        **facts,
        "near_duplicates": len({name for pair in pairs for name in pair}),
        "groups_joined": len(joined),
    }


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


def _empty_split(src, split, groups, shares, stratify):
    if stratify == "none":
        reason = f"none of the {groups} groups fell into its share of {shares[split]:g}"
        return f"{src}: {split} would be empty: {reason}; take more groups, other shares or another --seed"
    number, wanted = f"{groups} group{'s' * (groups != 1)}", sum(map(bool, shares.values()))
    remedy = "give a share of 0, more groups or --by image"
    return f"{src}: {split} would be empty: {number} can't fill {wanted} files; {remedy}"


def describe(result):
    """Lines for people: one on each split, what near-duplicates joined, and the split's hash."""
    for split, facts in result["splits"].items():
        counts = ", ".join(f"{facts[key]} {key}" for key in ("rows", *COUNTED))
        yield f"{split}: {counts}"
    yield describe_near_duplicates(result["near_duplicates"])
    made = f"seed {result['seed']}, by {result['by']}, stratified by {result['stratified_by']}"
    yield f"split {result['sha256'][:12]}, {made}"


def describe_near_duplicates(facts):
    if facts is None:
        return "near-duplicates: not looked for"
    if not facts["images_read"]:
        return "near-duplicates: not looked for, as no image could be read; give --image_root"
    read = f"{facts['images_read']} of {facts['images']} images read"
    found = f"{facts['near_duplicates']} images, which join {facts['groups_joined']} groups to others"
    return f"near-duplicates: {found} ({read}; dHash, at most {facts['max_distance']} of {BITS} bits differ)"


def config_lines(src, dst, result, image_root=None):
    """The YAML lines of a configuration that uses the split; absolute paths hold wherever that file lies."""
    image = next(read_rows(src, need_answer=False))["image"]
    root = Path(image_root or Path(src).parent).resolve()
    data = {f"{split}_jsonl": str(_split_path(Path(dst).resolve(), split)) for split in result["splits"]}
    data["image_root"] = str(root) if (root / image).is_file() else "the folder that image names start from"
    own = {"extends": str(DEFAULT_CONFIG), "output_dir": "outputs_mine", "data": data}
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=10_000).rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("src", metavar="SRC", help="JSONL with all rows, such as data.readers writes")
    parser.add_argument("dst", metavar="DST", help="folder that the three files and split.json go to")
    parser.add_argument("--val", type=float, default=0.1, help="share of the groups for validation (default 0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="share of the groups for the test (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split (default 0)")
    parser.add_argument("--by", choices=("group", "image"), default="group", help="what stays whole (default group)")
    parser.add_argument("--stratify", choices=("question", "none"), default="question", help="default question")
    parser.add_argument("--image_root", metavar="DIR", help="folder that image names start from (default: SRC's)")
    parser.add_argument(
        "--near-duplicates", choices=("auto", "on", "off"), default="auto", dest="near",
        help="join groups with near-duplicate images: auto = those that can be read (default), on = all",
    )  # fmt: skip
    args = vars(parser.parse_args())
    result = split_jsonl(**args)
    print("\n".join(describe(result)))
    print("next: a configuration of your own, such as my.yaml, with these lines\n")
    print(config_lines(args["src"], args["dst"], result, args["image_root"]))


if __name__ == "__main__":
    run_script(main)
