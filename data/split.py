"""Train, val and test rows that share no patient, video or image, with every question in the same shares. Or folds.

    python -m data.split SRC DST [--val 0.1] [--test 0.1] [--seed 0] [--by group|image] [--image_root DIR]
    python -m data.split SRC DST --folds 5
    python data/split.py kvasir/all.jsonl kvasir/

writes DST/train.jsonl, val.jsonl and test.jsonl, SRC's rows in SRC's order, and DST/split.json, which says how they
were made. With few patients, `--folds 5` makes five such splits instead, DST/fold_0 to DST/fold_4, of train.jsonl and
val.jsonl: every row is in the val.jsonl of one fold and in the train.jsonl of the others (tools/sweep.py --folds DST).

A row's group is its `group` (patient or video; `P1`, `p1` and `P1 ` are one), or its image where it has none or with `--by image`.
Rows that share one of their `images` are one group. Groups with copies or near-duplicates of one image (data/image_copies.py)
count as one; that needs the image files.
The test groups are drawn first, then val from the rest, and folds one after another: larger groups first, otherwise in
the order of a hash of the seed and the group's name, each to the side where its questions are scarcer. All of it is
integer arithmetic, so the same rows, in any order, give the same split on any machine. New rows may move groups; with
`--stratify none` the hash alone decides, and they never do. Rows are written unchanged, but for an `id` where there is
none: the row's number in SRC from 0, which stays unique across the files; and for answers that are numbers, true or false or
lists, which become text. Rows whose question or answer is empty or `nan` are left out and counted. A share of 0 leaves its file out.
"""

import argparse
import hashlib
import json
import shlex
import sys
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from itertools import tee
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/split.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DEFAULT_CONFIG, SPLITS
from data.aliases import question_template
from data.image_copies import BITS, MAX_DISTANCE, join, look_at_images, same_pictures
from data.image_names import images_of
from data.matching import question_key
from data.rows import junk_reason, numbered_rows, read_rows
from data.text import group_key, nearly_same_groups
from data.values import as_text
from files import UserError, atomic_open, quoted, run_script, sha256, short, write_json

# isort: split
import yaml

COUNTED = ("groups", "images", "questions")
SPLIT_FILE = "split.json"
ROWS, RARE = ("rows",), ("rare questions",)  # strata beside the questions; tuples, so that no question is called so
OFF = 1.5  # a part that is larger or smaller than asked for by this factor is worth a warning
SCALE = 10**18  # weights are whole numbers of 1 / SCALE


def assign(group, seed=0, val=0.1, test=0.1):
    """The split of a group without stratification. The seed and the group's name decide, nothing else."""
    point = _point(seed, group)
    if point < test:
        return "test"
    return "val" if point < test + val else "train"


def assign_fold(group, folds, seed=0):
    """The fold of a group without stratification."""
    return int(_point(seed, group) * folds)


def _point(seed, group):
    return int.from_bytes(_digest(seed, group)[:6], "big") / 2**48  # in [0, 1), exact in a float


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


def stratified_folds(groups, folds, seed=0):
    """Return `{group: fold}`, folds from 0: each is drawn from what those before it left. With enough groups, none is empty."""
    parts, rest = {}, groups
    for fold in range(folds - 1):
        drawn = draw(rest, Fraction(1, folds - fold), seed, spare=folds - fold - 1)
        parts |= dict.fromkeys(drawn, fold)
        rest = {name: counts for name, counts in rest.items() if name not in drawn}
    return parts | dict.fromkeys(rest, folds - 1)


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
    groups, joined, reading = _read_groups(src, by, near, image_root)
    if stratify == "none":
        splits = {group: assign(group, seed, val, test) for group in groups}
    else:
        splits = stratified(groups, seed, val, test)
    for split in paths:
        if split not in splits.values():
            raise UserError(_empty_split(src, split, len(groups), shares, stratify))
    facts = _write_files(src, by, splits, joined, {path: {split} for split, path in paths.items()})
    how = {"seed": seed, "by": by, "shares": shares, "stratified_by": stratify, **reading}
    return _write_record(dst, src, {split: facts[path] for split, path in paths.items()}, how)


def folds_jsonl(src, dst, folds, seed=0, by="group", stratify="question", near="auto", image_root=None):
    """Split SRC into `folds` pairs of files, DST/fold_N/train.jsonl and val.jsonl; return the list of what their split.json hold.

    near and errors: as `split_jsonl`.
    """
    src, dst = Path(src), Path(dst)
    _check_folds(src, dst, folds)
    groups, joined, reading = _read_groups(src, by, near, image_root)
    parts = {name: assign_fold(name, folds, seed) for name in groups} if stratify == "none" else stratified_folds(groups, folds, seed)
    if empty := set(range(folds)) - (set(parts.values()) if len(groups) >= folds else set()):
        raise UserError(_empty_fold(src, min(empty), len(groups), folds))
    paths = [{split: _split_path(dst / f"fold_{fold}", split) for split in ("train", "val")} for fold in range(folds)]
    wanted = {files["val"]: {fold} for fold, files in enumerate(paths)}
    wanted |= {files["train"]: set(range(folds)) - {fold} for fold, files in enumerate(paths)}
    facts = _write_files(src, by, parts, joined, wanted)
    how = {"folds": folds, "seed": seed, "by": by, "stratified_by": stratify, **reading}
    return [
        _write_record(files["val"].parent, src, {split: facts[path] for split, path in files.items()}, {"fold": fold, **how})
        for fold, files in enumerate(paths)
    ]


def _write_files(src, by, parts, joined, wanted):
    """Write SRC's rows to files, all or none. parts: {group: part}. wanted: {path: its parts}. Return {path: counts and hash}."""
    rows, seen = Counter(), {path: {key: set() for key in COUNTED} for path in wanted}
    with ExitStack() as stack:
        files = {path: stack.enter_context(atomic_open(path)) for path in wanted}
        for group, images, row in grouped_rows(src, by):
            group = joined.get(group, group)
            line, found = json.dumps(row, ensure_ascii=False) + "\n", ([group], images, [question_key(row["question"])])
            for path in [path for path, of in wanted.items() if parts[group] in of]:
                files[path].write(line)
                rows[path] += 1
                for key, values in zip(COUNTED, found):
                    seen[path][key].update(values)
    return {path: {"rows": rows[path], **{key: len(seen[path][key]) for key in COUNTED}, "sha256": sha256(path)} for path in wanted}


def _write_record(folder, src, facts, how):
    """Write folder/split.json and return what it holds. facts: {split: counts and hash of its file}."""
    source = {"name": src.name, "sha256": sha256(src)}  # no folder: the same split is the same file on any machine
    result = {"sha256": split_hash(facts), "source": source, **how, "splits": facts}
    write_json(folder / SPLIT_FILE, result)
    return result


def split_hash(splits):
    """One hash for the files of a split. splits: `{split: facts with its file's sha256}`."""
    return hashlib.sha256("".join(f"{split} {splits[split]['sha256']}\n" for split in splits).encode()).hexdigest()


def _read_groups(src, by, near, image_root):
    """Return `({group: Counter of its rows per question template}, {group: the group it counts as}, how it was read)`.

    The last is part of split.json: facts on near-duplicates, and what was left out or changed, where anything was.
    """
    groups, group_of, shared, changes, named = {}, {}, [], Counter(), {}
    for group, images, row in grouped_rows(src, by, changes):
        groups.setdefault(group, Counter())[question_template(row["question"])] += 1
        shared += [(group, known) for image in images if (known := group_of.setdefault(image, group)) != group]
        if by != "image" and row.get("group") is not None and (known := named.setdefault(group_key(group), group)) != group:
            shared.append((group, known))
    if not groups:
        raise UserError(f"{src}: has no usable rows; {_changed(changes)}")
    joined, near_facts = _join_groups(group_of, shared, near, image_root or src.parent)
    merged = {}
    for group, counts in groups.items():
        merged.setdefault(joined.get(group, group), Counter()).update(counts)
    reading = {"near_duplicates": near_facts, "changes": dict(+changes), "nearly_same_groups": nearly_same_groups(named.values())}
    return merged, joined, {key: value for key, value in reading.items() if value or key == "near_duplicates"}


def _join_groups(images, shared, near, root):
    """Return `({group: the group it counts as}, facts on near-duplicates)`.

    images: `{image: its group}`. shared: pairs of groups with rows about the same image.
    """
    if near == "off":
        return _joined(shared), None
    pictures = look_at_images(root, images)
    unread = [name for name, picture in pictures.items() if picture.problem]
    if unread and near == "on":
        raise UserError(f"image {short(unread[0])} is {pictures[unread[0]].problem} in {root}; correct --image_root or the row")
    pairs = list(same_pictures({name: picture for name, picture in pictures.items() if not picture.problem}))
    joined = _joined([*shared, *((images[one], images[other]) for one, other in pairs)])
    facts = {"max_distance": MAX_DISTANCE, "images_read": len(images) - len(unread), "images": len(images)}
    return joined, {
        **facts,
        "near_duplicates": len({name for pair in pairs for name in pair}),
        "groups_joined": len(joined) - len(_joined(shared)),
    }


def _joined(pairs):
    return {group: other for group, other in join(pairs).items() if group != other}


def usable_lines(src, changes=None):
    """Yield `(number, line, row)` of SRC's rows as they are, but for values that are no text, which become text (data/values.py).

    Rows without a question or with an empty answer are left out, as the readers do. A row to be predicted has no `answer` at all.
    changes: Counter of reasons of leaving rows out, and of what was changed.
    """
    changes = Counter() if changes is None else changes
    for number, line, row in numbered_rows(src):
        texts = {key: as_text(row[key], f"{src}:{line}", key, changes) for key in ("question", "answer") if key in row}
        junk = junk_reason(texts.get("question", "absent"), texts.get("answer", "absent"))
        if junk:
            changes[junk] += 1
        else:
            yield number, line, {**row, **texts}


def grouped_rows(src, by="group", changes=None):
    """Yield `(group, images, row)` for every usable row of SRC, the row as `usable_lines` has it but for an absent `id`.

    Raises UserError naming file:line for a row that data.preprocess would refuse, a group that isn't a name, and an
    image that has another group than on an earlier line: wherever the image went, one of the two would leak. (Groups that are but
    images, of rows that share one, are for the caller to join.)
    """
    first = {}  # image -> (its group, is that a given one, the line that says so)
    lines, again = tee(usable_lines(src, changes))
    for (_, line, raw), row in zip(lines, read_rows(src, need_answer=False, lines=again)):
        images, given = images_of(row), by != "image" and row.get("group") is not None
        group = row["group"] if given else images[0]
        if not group_key(group):  # a name of spaces alone
            raise UserError(f"{src}:{line}: group is {quoted(group)}; write the patient's or video's name")
        for image in images:
            known, known_given, known_line = first.setdefault(image, (str(group), given, line))
            same = group_key(known) == group_key(group) if given and known_given else known == str(group)
            if not same and (given or known_given):
                raise UserError(
                    f"{src}:{line}: image {short(image)} is of group {short(group)}, on line {known_line} of {short(known)}; "
                    "give it one group, or split with --by image"
                )
        yield str(group), images, raw if raw.get("id") is not None else {**raw, "id": row["id"]}


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


def _check_folds(src, dst, folds):
    if folds < 2:
        raise UserError(f"--folds {folds}: give two or more")
    left = [path for path in sorted(dst.glob("fold_*")) if path.name not in {f"fold_{fold}" for fold in range(folds)}]
    if left:
        raise UserError(f"{left[0]}: is left from an earlier split into more folds; delete it")
    if src.resolve() in [path.resolve() for path in dst.glob("fold_*/*.jsonl")]:
        raise UserError(f"{src}: is a file of a fold that would be written anew; choose another DST")


def _empty_fold(src, fold, groups, folds):
    if groups < folds:
        return f"{src}: {groups} group{'s' * (groups != 1)} can't fill {folds} folds; give fewer folds, more groups or --by image"
    return f"{src}: fold {fold} would be empty: none of the {groups} groups fell into it; take fewer folds or another --seed"


def _empty_split(src, split, groups, shares, stratify):
    if stratify == "none":
        reason = f"none of the {groups} groups fell into its share of {shares[split]:g}"
        return f"{src}: {split} would be empty: {reason}; take more groups, other shares or another --seed"
    number, wanted = f"{groups} group{'s' * (groups != 1)}", sum(map(bool, shares.values()))
    remedy = "give a share of 0, more groups or --by image"
    return f"{src}: {split} would be empty: {number} can't fill {wanted} files; {remedy}"


def describe(result):
    """Lines for people: one on each split, what was left out, what near-duplicates joined, the split's hash, and warnings."""
    for split, facts in result["splits"].items():
        yield f"{split}: {_counted(facts)}"
    yield from _describe_reading(result)
    yield f"split {result['sha256'][:12]}, {_made(result)}"
    for name, facts in result["splits"].items():
        if facts["groups"] == 1:
            says = f"{name} has 1 group, so a score on it says nothing of other patients or videos"
            yield f"WARNING: {says}; take larger shares (--val 0.25 --test 0.25), or --folds 5"
    yield from _far_from_their_share(result["splits"], result["shares"])


def describe_folds(results):
    """Lines for people: what each fold holds out, what was left out, what near-duplicates joined, and warnings."""
    held_out = {f"fold_{result['fold']}": result["splits"]["val"] for result in results}
    total = sum(facts["rows"] for facts in held_out.values())
    for result, val in zip(results, held_out.values()):
        train = result["splits"]["train"]
        share = f"{val['rows'] / total:.1%} of the rows"
        yield f"fold_{result['fold']}: val {_counted(val)}, {share}; train {train['rows']} rows, {train['groups']} groups"
    yield from _describe_reading(results[0])
    yield f"{len(results)} folds, {_made(results[0])}"
    yield from _far_from_their_share(held_out, dict.fromkeys(held_out, 1 / len(results)))


def _describe_reading(result):
    if changes := result.get("changes"):
        yield _changed(changes)
    yield describe_near_duplicates(result["near_duplicates"])
    if pair := result.get("nearly_same_groups"):
        says = f"groups {short(pair[0])} and {short(pair[1])} count as two"
        yield f"WARNING: {says}; if they are one patient or video, write them alike and split anew"


def _changed(changes):
    return "left out or changed: " + ", ".join(f"{count} {what}" for what, count in sorted(changes.items()))


def _far_from_their_share(parts, wanted):
    """Warnings of parts ({name: counts}) that hold far more or fewer of the rows than their share ({name: share})."""
    total = sum(facts["rows"] for facts in parts.values())
    for name, facts in parts.items():
        share = facts["rows"] / total
        if not wanted[name] / OFF <= share <= wanted[name] * OFF:
            says = f"{name} has {share:.1%} of the rows, not {wanted[name]:.0%}: groups are few or large, or were joined by near-duplicates"
            yield f"WARNING: {says}; other shares or --by image may help"


def _counted(facts):
    return ", ".join(f"{facts[key]} {key}" for key in ("rows", *COUNTED))


def _made(result):
    return f"seed {result['seed']}, by {result['by']}, stratified by {result['stratified_by']}"


def describe_near_duplicates(facts):
    if facts is None:
        return "near-duplicates: not looked for"
    if not facts["images_read"]:
        return "near-duplicates: not looked for, as no image could be read; give --image_root"
    read = f"{facts['images_read']} of {facts['images']} images read"
    found = f"{facts['near_duplicates']} images, which join {facts['groups_joined']} groups to others"
    return f"near-duplicates: {found} ({read}; dHash, at most {facts['max_distance']} of {BITS} bits differ)"


def config_lines(src, files, image_root=None):
    """The YAML lines of a configuration that uses files ({split: path}) of SRC; absolute paths hold wherever that file lies."""
    image, languages = None, set()
    for _, images, row in grouped_rows(src, "image"):
        image = image or images[0]
        languages.add(row.get("language"))
    root = Path(image_root or Path(src).parent).resolve()
    data = {f"{split}_jsonl": str(Path(path).resolve()) for split, path in files.items()}
    data["image_root"] = str(root) if (root / image).is_file() else "the folder that image names start from"
    if spoken := sorted(map(str, languages - {None})):
        data["language"] = spoken[0] if len(spoken) == 1 else spoken
    own = {"extends": str(DEFAULT_CONFIG), "output_dir": "outputs_mine", "data": data}
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=10_000).rstrip()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("src", metavar="SRC", help="JSONL with all rows, such as data.readers writes")
    parser.add_argument("dst", metavar="DST", help="folder that the files go to")
    parser.add_argument("--val", type=float, help="share of the groups for validation (default 0.1)")
    parser.add_argument("--test", type=float, help="share of the groups for the test (default 0.1)")
    parser.add_argument("--folds", type=int, metavar="K", help="K folds instead, each of train.jsonl and val.jsonl")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split (default 0)")
    by = "what stays whole: the row's field `group`, its patient or video (default), or the image"
    parser.add_argument("--by", choices=("group", "image"), default="group", help=by)
    parser.add_argument("--stratify", choices=("question", "none"), default="question", help="default question")
    parser.add_argument("--image_root", metavar="DIR", help="folder that image names start from (default: SRC's)")
    parser.add_argument(
        "--near-duplicates", choices=("auto", "on", "off"), default="auto", dest="near",
        help="join groups with near-duplicate images: auto = those that can be read (default), on = all",
    )  # fmt: skip
    args = parser.parse_args()
    if args.folds is not None and (args.val, args.test) != (None, None):
        parser.error("--folds has no --val and --test: each row is held out once")
    return args


def main():
    args = {name: value for name, value in vars(parse_arguments()).items() if value is not None}
    src, dst, image_root = Path(args["src"]), Path(args["dst"]), args.get("image_root")
    if "folds" in args:
        print("\n".join(describe_folds(folds_jsonl(**args))))
        files, then = {"train": src}, f"\n\nand then: python tools/sweep.py my.yaml --folds {shlex.quote(args['dst'])}"
    else:
        result = split_jsonl(**args)
        print("\n".join(describe(result)))
        files, then = {split: _split_path(dst, split) for split in result["splits"]}, ""
    print("next: a configuration of your own, such as my.yaml, with these lines\n")
    print(config_lines(src, files, image_root) + then)


if __name__ == "__main__":
    run_script(main)
