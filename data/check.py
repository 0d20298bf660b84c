"""Data doctor: a counted report on the rows of an experiment, before they cost a run.

    python -m data.check --config config_exp1.yaml [--no-images] [--strict] [--fix DIR]
    python -m data.check --train train.jsonl [--val val.jsonl] [--test test.jsonl] [--image_root DIR]
    python -m data.check --config my.yaml --suspects PREDICTIONS          labels that are probably wrong: data/suspects.py

prints the report and writes output_dir/data/check.json. A WARNING is a finding that silently corrupts a result: splits
that share images or groups, more than 1 % junk, more than 5 % duplicates, answers that constraints can't reach (below
95 %), files that changed after they were split, what looks like a person (data/personal.yaml); also what training refuses:
repeated ids, images missing or broken.
--strict makes warnings exit code 1. --fix writes cleaned files to another folder: junk removed, conflicts resolved by
majority (of a tie, all rows are removed), the first of each duplicate kept. train_exp1.py makes the same report,
without opening images, when it starts.

What is counted. Junk: question empty, `none` or `nan`; answer empty or `nan`; no image; a line that isn't a row. Two
rows ask the same if image, question (case and spacing folded) and options agree; they are duplicates if the answers
agree after data.preprocess.normalize_answer, an option's letter as its text, label lists in any order and with any separator of
data/aliases.yaml, and in conflict otherwise. Near-duplicates: see data/image_copies.py. The answer space is mined from the
training rows that aren't junk, and so is the blind prior.
"""

import json
import statistics
import sys
from collections import Counter, defaultdict
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):  # run as `python data/check.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import SPLITS, Config, PublicNames, argument_parser, load_config, near, resolve_path
from data import answer_space, personal
from data.aliases import ALIASES, question_template
from data.blind_prior import answer_blindly, blind_prior
from data.contents import model_folder
from data.corrections import corrected, corrections_for, describe_unheard, unheard
from data.foreign import refuse_foreign
from data.image_copies import BITS, MAX_DISTANCE, join_by_rows, look_at_images, near_pairs, same_pictures
from data.image_names import images_of
from data.images import image_token_count
from data.language import ENGLISH, other_yes_no, unread_language, unread_note
from data.matching import (
    chosen_options,
    conventions_of,
    judge,
    looks_like_list,
    normalize_answer,
    question_key,
    separators_in,
    split_labels,
)
from data.preprocess import rules_hash
from data.rows import is_group, junk_reason, with_pictures
from data.rules import ordered_types, rule_type
from data.split import SPLIT_FILE, split_hash
from data.suspects import suspects_of, write_suspects
from data.text import group_of, nearly_same_groups, placeholder_inside, strip_placeholders
from files import DECODER, UserError, not_utf8, quoted, read_cache, read_json, run_script, sha256, short, use_color, write_json, write_jsonl

REPORT = "check.json"
PROBLEMS = 5  # pictures that training refuses, named one by one
FEW = f"fewer than {answer_space.MIN_ROWS} training rows or {answer_space.MIN_GROUPS} groups"
MAX_JUNK, MAX_DUPLICATES, MIN_REACHABLE = 0.01, 0.05, 0.95
YELLOW, RESET = "\033[1;33m", "\033[0m"
WARNING, NOTE = "WARNING", "note"


class Row(NamedTuple):
    """A line of a file. junk: why it can't be used (str), or None. pair: what makes two rows ask the same."""

    line: int
    row: dict
    junk: str | None
    images: tuple = ()
    pair: tuple | None = None
    answer: tuple | None = None


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_raw(path, corrections=None):
    """Every non-blank line of a file as a list of Rows, whatever is wrong with it. corrections: {id: answer}, which replace the rows' own.

    Raises UserError only where the file is missing, is of another format, isn't UTF-8 text, or has no lines.
    """
    refuse_foreign(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        number, wrong = not_utf8(path)
        raise UserError(f"{path}:{number}: {wrong}; save the file as UTF-8") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = [_raw_row(number, line, place, corrections or {}) for place, (number, line) in enumerate(lines)]
    if not rows:
        raise UserError(f"{path}: has no rows; write one JSON object a line")
    return rows


def _raw_row(number, line, place, corrections):
    try:
        row = DECODER.decode(line)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a character, which no file can hold, is a ValueError
    except UserError:
        return Row(number, {}, "with a key given twice")
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return Row(number, {}, "not a JSON object")
    if isinstance(row.get("question"), str):
        row["question"] = strip_placeholders(row["question"])
    row_id = str(place if row.get("id") is None else row["id"])
    row = corrected({**row, "id": row_id}, corrections) if row_id in corrections else row
    question, answer = row.get("question"), row.get("answer")
    junk = junk_reason(question, answer)
    try:
        images = tuple(images_of(with_pictures(row, "")))
    except UserError:
        images, junk = (), junk or _why_no_image(row)
    texts = [text if isinstance(text, str) else "" if text is None else json.dumps(text) for text in (question, answer)]
    if not junk and (texts != [question, answer] or not normalize_answer(answer)):
        junk = "without an answer" if isinstance(answer, str) else "with a value that isn't text"
    options = row.get("options")
    if not junk and options is not None and not _are_options(options):
        junk = "with options that aren't a list of different texts"
    if not junk and placeholder_inside(question):
        junk = "with a place for a picture inside the question"
    if not junk and not is_group(row.get("group")):
        junk = "with a group that isn't one name"
    pair = (images, question_key(texts[0]), json.dumps(options) if options else "")
    return Row(number, row, junk, images, pair, _labels(texts[1], tuple(options or ()) if not junk else ()))


def _why_no_image(row):
    if row.get("images") is not None:
        return "with images that aren't a list of files, or another image than the first of them"
    image = row.get("image_filename") if row.get("image") is None else row["image"]
    return "with an image that is no file" if isinstance(image, str) and image.strip() else "without an image"


def _are_options(options):
    if not isinstance(options, list) or not options or not all(isinstance(item, str) for item in options):
        return False
    texts = {normalize_answer(item) for item in options}
    return len(texts) == len(options) and "" not in texts


@lru_cache(1 << 16)  # answers repeat
def _labels(answer, options):
    labels = chosen_options(answer, options) if options else ()
    return tuple(sorted(set(labels or map(normalize_answer, split_labels(answer, ALIASES["separators"])))))


def usable(rows):
    """The rows (dicts with `id`, `image`) that aren't junk, as data.preprocess.read_rows would give them."""
    for index, item in enumerate(rows):
        if not item.junk:
            row_id = item.row.get("id")
            yield with_pictures({**item.row, "id": str(index if row_id is None else row_id)}, "")


# ---------------------------------------------------------------------------------------------------------------------
# One split


def count_rows(rows):
    """The counts of one split's Rows that need nothing but the rows."""
    good = [item for item in rows if not item.junk]
    triples = Counter((item.pair, item.answer) for item in rows if item.pair)
    conflicts = conflicting(good)
    distinct = {(item.pair, item.answer) for item in good}
    questions = Counter(item.pair[0] for item in {item.pair: item for item in good}.values())
    ids = Counter(str(index if item.row.get("id") is None else item.row["id"]) for index, item in enumerate(rows))
    return {
        "rows": len(rows),
        "images": len({name for item in rows for name in item.images}),
        "groups": len(_groups(rows)),
        "without_group": sum(group_of(item.row) is None for item in good),
        "questions_per_image": _spread(questions.values()),
        "distinct_triples": len(triples),
        "duplicates": triples.total() - len(triples),
        "conflicting_pairs": len(conflicts),
        "conflicting_rows": sum(map(sum, map(Counter.values, conflicts.values()))),
        "junk_rows": len(rows) - len(good),
        "junk": dict(Counter(item.junk for item in rows if item.junk).most_common()),
        "first_junk_line": next((item.line for item in rows if item.junk), None),
        "repeated_ids": ids.total() - len(ids),
        **_count_questions(good, distinct),
    }


def conflicting(good):
    """`{pair: Counter of its answers}` of the (image, question) pairs with more than one answer."""
    answers = defaultdict(Counter)
    for item in good:
        answers[item.pair][item.answer] += 1
    return {pair: counts for pair, counts in answers.items() if len(counts) > 1}


def _count_questions(good, distinct):
    answers = defaultdict(Counter)
    for (_, question, _), answer in distinct:
        answers[question_template(question)][answer] += 1
    constant = {key for key, counts in answers.items() if len(counts) == 1 and counts.total() > 1}
    rows = Counter(item.pair[1] for item in good)
    return {
        "questions": len(answers),
        "constant_questions": len(constant),
        "constant_rows": sum(count for question, count in rows.items() if question_template(question) in constant),
        "constant_example": min(constant, default=None),
        "questions_seen_once": sum(counts.total() == 1 for counts in answers.values()),
    }


def _spread(values):
    """`{min, median, max, mean}` of numbers, or None of none."""
    values = sorted(values)
    if not values:
        return None
    middle = {"min": values[0], "median": statistics.median(values), "max": values[-1]}
    return {**middle, "mean": round(sum(values) / len(values), 2)}


def recorded_split(path):
    """What the split.json beside a file says of it: its hash, and whether the files are still those; or None."""
    record = Path(path).parent / SPLIT_FILE
    try:
        facts = read_json(record)
        own = [name for name in facts["splits"] if f"{name}.jsonl" == Path(path).name]
        if not own or "sha256" not in facts:
            return None
    except (UserError, KeyError, TypeError):  # there is none, or it is of another program
        return None
    intact = facts["splits"][own[0]]["sha256"] == sha256(path) and facts["sha256"] == split_hash(facts["splits"])
    return {"sha256": facts["sha256"], "intact": intact}


# ---------------------------------------------------------------------------------------------------------------------
# What the answer space makes of it


def check_answers(rows, cfg, space=None):
    """Types, spellings folded, reachable answers, answer lengths and blind prior. rows: `{split: list of Rows}`.

    Only validation is judged: nothing here is fitted to it, and the test answers stay out of sight.
    """
    space = space or answer_space.mine(usable(rows["train"]), cfg.data)
    folded = {split: Counter() for split in rows}
    enriched = {split: [answer_space.apply(space, row, folded[split]) for row in usable(rows[split])] for split in rows}
    types = {split: Counter(row["question_type"] for row in enriched[split]) for split in rows}
    report = {
        "types": {split: {name: types[split][name] for name in ordered_types(types[split])} for split in rows},
        "constrained": {split: sum(row["answer_candidates"] is not None for row in enriched[split]) for split in rows},
        "spellings_folded": {split: dict(+folded[split]) for split in rows},
        "free": _why_free(enriched["train"]),
        "languages": ", ".join(cfg.data.languages),
        "min_groups": cfg.data.min_groups,
    }
    reading = answer_space.reading_of(space)
    report["understood"] = sum(rule_type(row, reading) != "open_ended" for row in enriched["train"])
    report["other_language"] = _other_language(enriched, reading.languages or ENGLISH)
    conventions = answer_space.conventions(space)
    report["lists"] = {split: _count_lists(enriched[split], conventions) for split in rows}
    forbidden = [row for row in enriched["train"] if not answer_space.trainable(row)]
    report["forbidden"] = {"rows": len(forbidden), "first": [[row["id"], row["answer_raw"]] for row in forbidden[:3]]}
    if enriched.get("val"):
        report["reachable"] = _reachability(enriched["val"])
        report["blind_prior"] = _blind_scores(enriched, cfg, conventions)
    return report, enriched


def _other_language(enriched, languages):
    """Rows that name a language which isn't read, and training rows that answer with another's yes or no, by language."""
    named = {split: Counter(filter(None, (unread_language(row, languages) for row in rows))) for split, rows in enriched.items()}
    words = other_yes_no(languages)
    answers = Counter(row["answer"] for row in enriched["train"] if row["answer"] in words)
    return {"named": {split: dict(found) for split, found in named.items()}, "yes_no": dict(answers)}


def _why_free(enriched):
    """How many training rows go without a constraint: `few` of questions asked too seldom to close one, `varied` of the others."""
    asked, joined = defaultdict(lambda: (Counter(), Counter())), join_by_rows(enriched)
    for row in enriched:
        for seen, name in zip(asked[question_template(row["question"])], (joined.get(row["image"], row["image"]), group_of(row))):
            seen[name] += 1
    free = [question_template(row["question"]) for row in enriched if row["answer_candidates"] is None]
    few = sum(_asked_seldom(*asked[question]) for question in free)
    return {"rows": len(free), "few": few, "varied": len(free) - few}


def _asked_seldom(images, groups):
    """Are there too few rows, groups or, where no group is given, images for answers to be closed? (Counters of the question's rows.)"""
    named = {group for group in groups if group is not None}
    independent = len(named) < answer_space.MIN_GROUPS if named else len(images) < answer_space.MIN_ROWS
    return images.total() < answer_space.MIN_ROWS or independent


def _count_lists(enriched, conventions):
    """`{separator: rows, as_lists, example}` of answers that look like lists of labels.

    as_lists: those whose question is taken as lists with this separator. example: one that isn't, and compares as text.
    """
    found = {}
    for row in enriched:
        text = row.get("answer_raw") or ""
        if row.get("options") or not looks_like_list(text):
            continue
        taken = {*conventions_of(row, conventions).get("separators", ()), *[";"] * row["multi_label"]}
        for sign in [*[";"] * (len(split_labels(text)) > 1), *separators_in(text)]:
            facts = found.setdefault(sign, {"rows": 0, "as_lists": 0, "example": None})
            facts["rows"] += 1
            facts["as_lists"] += sign in taken
            facts["example"] = facts["example"] or (None if sign in taken else text)
    return found


def _reachability(enriched):
    """`{type: rows, reachable, share}` and the question whose answers are out of reach most often."""
    verdicts = [(row["question_type"], answer_space.reachable(row)) for row in enriched]
    missed = Counter((row["question"], row["answer"]) for row, (_, reachable) in zip(enriched, verdicts) if not reachable)
    table = {name: {"rows": count, "reachable": found, "share": found / count} for name, count, found in _by_type(verdicts)}
    found = sum(reachable for _, reachable in verdicts)
    return {"per_type": table, "share": found / len(verdicts), "commonest_miss": missed.most_common(1)}


def _by_type(verdicts):
    """(type, rows, how many of them are true) of (type, bool) pairs, in table order."""
    rows, true = Counter(name for name, _ in verdicts), Counter(name for name, verdict in verdicts if verdict)
    return [(name, rows[name], true[name]) for name in ordered_types(rows)]


def _blind_scores(enriched, cfg, conventions):
    keys = ("question", "options", "answers")
    rows = [{"gt": row["answer_raw"], "qtype": row["question_type"], **{key: row.get(key) for key in keys}} for row in enriched["val"]]
    judged = judge(answer_blindly(rows, blind_prior(enriched["train"])), cfg.eval, conventions)
    verdicts = [(row["qtype"], row["correct"]) for row in judged]
    per_type = {name: {"count": count, "correct": right, "accuracy": right / count} for name, count, right in _by_type(verdicts)}
    return {"micro": sum(right for _, right in verdicts) / len(verdicts), "per_type": per_type}


def answer_lengths(enriched, cfg):
    """Answer lengths in tokens, the end token included, of each split; or why they aren't known (str)."""
    tokenizer = cheap_tokenizer(cfg.model_name)
    if tokenizer is None:
        return f"not counted: the tokenizer of {cfg.model_name} is not on this machine"
    answers = {cfg.answer_prefix + row["answer"] for rows in enriched.values() for row in rows}
    tokens = {text: len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in answers}
    length = lambda row: tokens[cfg.answer_prefix + row["answer"]]
    limit = cfg.predict.max_new_tokens
    if limit == "auto":
        limit = max(map(length, enriched["train"]), default=0)
    longer = {split: [row for row in rows if length(row) > limit] for split, rows in enriched.items()}
    return {
        "max_new_tokens": limit,
        "tokens": {split: _spread(map(length, rows)) for split, rows in enriched.items()},
        "longer": {split: len(rows) for split, rows in longer.items()},
        "longer_unconstrained": {split: sum(row["answer_candidates"] is None for row in longer[split]) for split in longer},
    }


def cheap_tokenizer(model_name):
    """The tokenizer of a model folder or of a model in the local cache, without torch or network; or None."""
    from tokenizers import Tokenizer

    folder = model_folder(model_name)
    path = folder and folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path and path.is_file() else None


def _patch_sizes(model_name):
    """(pixels of a patch's side, patches of an image token's side) of a model, which are Qwen2-VL's where it is not on this machine."""
    folder = model_folder(model_name)
    vision = folder and read_cache(folder / "config.json").get("vision_config") or {}
    return vision.get("patch_size", 14), vision.get("spatial_merge_size", 2)


# ---------------------------------------------------------------------------------------------------------------------
# Between splits, and images


def shared_between(rows, pictures=None):
    """`{"train and val": {names, groups, rows, …}}`: what two splits have in common.

    names, groups: images and groups of the same name. copies: images of the second split whose bytes another name has
    in the first; near_duplicates: those that look like one of the first, copies and same names left out. rows: rows of
    the second split on such images or groups.
    """
    found = {}
    for one, other in combinations(rows, 2):
        images, theirs = ({name for item in rows[split] for name in item.images} for split in (one, other))
        names = images & theirs
        groups = _groups(rows[one])
        shared_groups = groups.keys() & _groups(rows[other]).keys()
        copies, near = _lookalikes(images, theirs - names, pictures or {})
        leaked = names | copies | near
        touched = [item for item in rows[other] if leaked & set(item.images) or group_of(item.row) in shared_groups]
        facts = {"names": len(names), "groups": len(shared_groups)}
        if pictures is not None:
            facts |= {"copies": len(copies), "near_duplicates": len(near)}
        example = min(leaked or {groups[key] for key in shared_groups}, default=None)
        found[f"{one} and {other}"] = {**facts, "rows": len(touched), "example": example}
    return found


def _groups(rows):
    """`{key: a group as a row has it}` of Rows."""
    return {key: str(item.row["group"]) for item in rows if (key := group_of(item.row)) is not None}


def _lookalikes(images, others, pictures):
    """Names (two sets) of `others` that are copies and near-duplicates of some of `images`."""
    known = {pictures[name].sha256 for name in images if name in pictures} - {None}
    copies = {name for name in others if name in pictures and pictures[name].sha256 in known}
    hashes = list({pictures[name].dhash for name in images if name in pictures} - {None})
    left = sorted(name for name in others - copies if name in pictures and pictures[name].dhash is not None)
    return copies, {left[j] for _, j in near_pairs(hashes, [pictures[name].dhash for name in left])}


def check_pictures(pictures, cfg):
    """Counts over all image files. pictures: `{name: Picture}`."""
    problems, sizes, tokens, patches = {}, Counter(), Counter(), _patch_sizes(cfg.model_name)
    for name, picture in sorted(pictures.items()):
        try:
            if picture.size:
                sizes[picture.size] += 1
                tokens[image_token_count(picture.size, cfg.image, *patches)] += 1
            else:
                problems[name] = picture.problem
        except UserError as error:
            problems[name] = f"unusable ({error})"
    misspelled = {name: pictures[name].there for name in problems if pictures[name].there}
    flat = [name for name, picture in sorted(pictures.items()) if picture.size and picture.dhash is None]
    pairs = list(same_pictures({name: picture for name, picture in pictures.items() if not picture.problem}))
    return {
        "read": sizes.total(),
        "missing": sum(problem == "missing" for problem in problems.values()),
        "unreadable": sum(problem != "missing" for problem in problems.values()),
        "problems": dict(_one_of_a_kind_first(problems)[:20]),
        "misspelled": len(misspelled),
        "misspelled_first": [list(map(short, pair)) for pair in list(misspelled.items())[:1]],
        "turned": sum(picture.turned for picture in pictures.values()),
        "without_contrast": len(flat),
        "without_contrast_first": list(map(short, flat[:3])),
        "sizes": {f"{width}x{height}": count for (width, height), count in sizes.most_common(10)},
        "kinds_of_size": len(sizes),
        "megapixels": _spread(round(w * h / 1e6, 3) for (w, h), count in sizes.items() for _ in range(count)),
        "image_tokens": _spread(tokens.elements()),
        "near_duplicates": len({name for pair in pairs for name in pair}),
        "max_distance": MAX_DISTANCE,
    }


def _one_of_a_kind_first(problems):
    """(name, problem) of images: first one of each kind of problem, then the second of each."""
    seen, ranked = Counter(), []
    for name, problem in problems.items():
        kind = problem.partition(" (")[0]
        seen[kind] += 1
        ranked.append((seen[kind], short(name), problem))
    return [(name, problem) for _, name, problem in sorted(ranked)]


# ---------------------------------------------------------------------------------------------------------------------
# The report


def check(paths, cfg, image_root=None, space=None, tokens=True):
    """Return the report on files (`{split: path}`, train among them). Images are opened if `image_root` is given."""
    corrections = corrections_of(paths, cfg)
    rows = {split: read_raw(path, corrections[split]) for split, path in paths.items()}
    report = {"made_from": inputs(paths, cfg, image_root is not None)}
    report["splits"] = {split: {"file": str(paths[split]), **count_rows(rows[split])} for split in rows}
    report["corrected"] = {split: len(corrections[split]) for split in rows}
    others = {split: () if split == "train" else (paths["train"],) for split in rows}
    report["unheard"] = {split: unheard(corrections[split], paths[split], *others[split]) for split in rows}
    report["recorded_split"] = {split: recorded_split(path) for split, path in paths.items()}
    if not any(not item.junk for item in rows["train"]):
        junk = f"{len(rows['train'])} are junk ({_reasons(report['splits']['train'])})"
        raise UserError(f"{paths['train']}: has no usable rows; {junk}")
    report["answers"], enriched = check_answers(rows, cfg, space)
    report["answer_tokens"] = answer_lengths(enriched, cfg) if tokens else "not counted"
    pictures = None
    if image_root is not None:
        names = {name for items in rows.values() for item in items for name in item.images}
        pictures = look_at_images(image_root, names)
    report["images"] = pictures and check_pictures(pictures, cfg)
    report["between"] = shared_between(rows, pictures)
    report["nearly_same_groups"] = nearly_same_groups({name for items in rows.values() for name in _groups(items).values()})
    beside = {name: picture.personal for name, picture in (pictures or {}).items()}
    report["personal"] = {split: personal.count(personal_rows(rows[split]), beside) for split in rows}
    report["findings"] = [{"severity": severity, "text": text} for severity, text in findings(report)]
    return report


def corrections_of(paths, cfg):
    """{split: {id: corrected answer}} of files ({split: path})."""
    return {split: corrections_for(cfg.data, path, *paths.values()) for split, path in paths.items()}


def personal_rows(rows):
    """Rows as `personal.count` takes them, junk included."""
    for place, item in enumerate(rows):
        row_id = str(place if item.row.get("id") is None else item.row["id"])
        yield {**item.row, "id": row_id, "images": list(item.images), "image": ""}


def inputs(paths, cfg, images):
    """What decides a report, but for the images' contents: a report of the same files need not be made again."""
    settings = cfg.model_dump(mode="json", include={"model_name", "answer_prefix", "data", "image", "predict", "eval"})
    files = {split: sha256(path) for split, path in paths.items()}
    if cfg.data.corrections:
        files["corrections"] = sha256(cfg.data.corrections)
    return PublicNames(cfg).facts({"files": files, "rules": rules_hash(), "settings": settings, "images": images})


def findings(report):
    """Yield `(severity, line)` of what should be mended: warnings first."""
    found = [
        *_split_findings(report),
        *_leaks(report),
        *_group_findings(report),
        *_free_findings(report),
        *_language_findings(report),
        *_answer_findings(report),
        *_list_findings(report),
        *_picture_findings(report),
    ]
    found += _personal_findings(report)
    return sorted(found, key=lambda finding: finding[0] != WARNING)


def _split_findings(report):
    for split, facts in report["splits"].items():
        rows, junk, duplicates = facts["rows"], facts["junk_rows"], facts["duplicates"]
        if junk:
            why = f"{_reasons(facts)}; first on line {facts['first_junk_line']}"
            yield (
                WARNING if junk > MAX_JUNK * rows else NOTE,
                f"{_of_rows(split, junk, rows)} are junk ({why}); remove them with --fix",
            )
        if duplicates:
            text = f"{_of_rows(split, duplicates, rows)} are duplicates, which weight their questions; remove them with --fix"
            yield WARNING if duplicates > MAX_DUPLICATES * rows else NOTE, text
        if pairs := facts["conflicting_pairs"]:
            yield NOTE, f"{split}: {pairs} (image, question) pairs have several answers; --fix keeps the majority's"
        if facts["repeated_ids"]:
            text = f"{split}: {facts['repeated_ids']} rows repeat an id, which training refuses"
            yield WARNING, f"{text}; give every row its own"
        if facts["constant_questions"]:
            text = f"{_of_rows(split, facts['constant_rows'], rows)} ask questions that have one answer only"
            yield NOTE, f"{text}, so accuracy on them says nothing, such as '{short(facts['constant_example'])}'"
        if found := report["unheard"][split]:
            yield WARNING, f"{split}: {describe_unheard(found)}"
        record = report["recorded_split"][split]
        if record and not record["intact"]:
            yield WARNING, f"{split}: {facts['file']} has changed since data.split wrote it; split anew"


def _of_rows(split, count, rows):
    return f"{split}: {count} of {rows} rows ({count / rows:.1%})"


def _reasons(facts):
    return ", ".join(f"{count} {reason}" for reason, count in facts["junk"].items())


def _leaks(report):
    words = {
        "names": "images",
        "groups": "groups",
        "copies": "copies under another name",
        "near_duplicates": "near-duplicate images",
    }
    for pair, facts in report["between"].items():
        shared = ", ".join(f"{facts[key]} {word}" for key, word in words.items() if facts.get(key))
        if shared:
            text = f"{pair} share {shared} ({facts['rows']} rows of {pair.split(' and ')[1]})"
            yield WARNING, f"{text}, such as {short(facts['example'])}; split anew with data.split"
    if pair := report["nearly_same_groups"]:
        text = f"groups {short(pair[0])} and {short(pair[1])} count as two"
        yield WARNING, f"{text}; if they are one patient or video, write them alike and split anew"


def _group_findings(report):
    """Without patients, two frames of one pass for two people, whose answers and questions may stand in what goes out."""
    facts = report["splits"]["train"]
    if facts["without_group"] and report["answers"]["min_groups"] > 1:
        text = (
            f"{_of_rows('train', facts['without_group'], facts['rows'])} name no patient or video, so data.min_groups counts their pictures"
        )
        yield (
            WARNING,
            f"{text}, and what one patient alone has may pass; add it as group, or be sure that no two pictures are of one patient",
        )


def _list_findings(report):
    for split, lists in report["answers"]["lists"].items():
        for sign, facts in lists.items():
            if facts["example"]:
                text = f"{split}: {facts['rows'] - facts['as_lists']} answers look like lists with '{sign}' but compare as text"
                yield NOTE, f"{text}, such as '{short(facts['example'])}': training answers don't bear it out; write '; ' if they are lists"


def _free_findings(report):
    """Rows that may be answered with anything: how many, why, and what helps; and a data set too small for any claim."""
    free, types, rows = report["answers"]["free"], report["answers"]["types"]["train"], sum(report["answers"]["types"]["train"].values())
    if rows < answer_space.MIN_ROWS:
        yield WARNING, f"train: {rows} usable rows are too few to learn from, and no score will say anything; get more"
    unread = f"no question's type was understood, from words of {report['answers']['languages']}: see data.language"
    understood, nothing_told = report["answers"]["understood"] > 0, set(types) == {"open_ended"} and free["rows"] == rows
    if free["few"] or nothing_told:
        why = f"{free['few']} of them ask questions with {FEW}, {free['varied']} are answered freely"
        helps = "get more rows of these, or list their answers (question types of your own, in README)"
        text = f"{_of_rows('train', free['rows'], rows)} are unconstrained: {why}; {helps}"
        yield (NOTE, text) if understood else (WARNING if nothing_told else NOTE, f"{text}; {unread}")
    elif not understood:
        yield NOTE, f"train: types come from the answers alone; {unread}"


def _language_findings(report):
    """Rows in a language that nobody reads: by their own word, and by the yes or no that they answer."""
    found, languages = report["answers"]["other_language"], report["answers"]["languages"]
    for split, named in found["named"].items():
        if named:
            yield WARNING, f"{split}: {unread_note(named, languages.split(', '))}"
    rows, answers = sum(report["answers"]["types"]["train"].values()), Counter(found["yes_no"])
    if answers.total() > MAX_JUNK * rows and not found["named"]["train"]:
        words = ", ".join(f"'{word}'" for word, _ in answers.most_common(2))
        name = other_yes_no(tuple(languages.split(", ")))[answers.most_common(1)[0][0]]
        text = f"{_of_rows('train', answers.total(), rows)} answer {words}, a yes or no of {name}"
        yield WARNING, f"{text}, which isn't in data.language ({languages}); set data.language={name}, or [{languages}, {name}] for both"


def _answer_findings(report):
    if count := report["answers"]["forbidden"]["rows"]:
        row_id, answer = report["answers"]["forbidden"]["first"][0]
        rows = report["splits"]["train"]["rows"]
        text = f"{_of_rows('train', count, rows)} have an answer that their options or constraint forbid"
        yield (
            WARNING if count > MAX_JUNK * rows else NOTE,
            f"{text}, and aren't trained on, first '{short(answer)}' (id {quoted(row_id)}); correct them",
        )
    for name, facts in report["answers"].get("reachable", {"per_type": {}})["per_type"].items():
        if facts["share"] < MIN_REACHABLE:
            share = f"{facts['reachable']} of {facts['rows']} answers ({facts['share']:.1%})"
            yield WARNING, f"val: the constraints reach {share} of type {name}; no model can score more"
    lengths = report["answer_tokens"]
    for split in () if isinstance(lengths, str) else lengths["longer"]:
        if free := lengths["longer_unconstrained"][split]:
            limit, longest = lengths["max_new_tokens"], lengths["tokens"][split]["max"]
            text = f"{split}: {free} unconstrained answers need more than predict.max_new_tokens={limit} tokens and will be cut, so wrong"
            remedy = "auto (the longest training answer)" if longest <= lengths["tokens"]["train"]["max"] else longest
            yield WARNING, f"{text}; set predict.max_new_tokens={remedy}"


def _picture_findings(report):
    facts = report["images"]
    if facts and facts["missing"] + facts["unreadable"]:
        shown = "; ".join(f"{name}: {problem}" for name, problem in list(facts["problems"].items())[:PROBLEMS])
        text = f"{facts['missing']} images missing, {facts['unreadable']} unreadable or unusable, such as {shown}"
        yield WARNING, f"{text}; training refuses them"
    if facts and facts["misspelled"]:
        ((name, there),) = facts["misspelled_first"]
        text = f"{facts['misspelled']} of the missing images are there under another spelling, such as {name}, which is {there}"
        yield WARNING, f"{text}; correct the rows, or rename the files"
    if facts and facts["without_contrast"]:
        text = f"{facts['without_contrast']} images have no contrast (black, white or one colour), such as"
        yield NOTE, f"{text} {', '.join(facts['without_contrast_first'])}; nothing can be seen on them"


def _personal_findings(report):
    for split, places in report["personal"].items():
        for where, facts in places.items():
            kinds = ", ".join(f"{kind} in {count} row{'s' * (count > 1)}" for kind, count in facts["rows"].items())
            text = f"{split}: {where} hold what looks like personal data ({kinds}; first id {quoted(facts['first'][0][0])})"
            yield WARNING, f"{text}; look, and take it out before anything goes out (data/personal.yaml says what is looked for)"


def describe(report):
    """The report as lines for people."""
    answers, lengths = report["answers"], report["answer_tokens"]
    for split, facts in report["splits"].items():
        per_image = facts["questions_per_image"]
        yield f"{split}: {facts['file']}"
        if record := report["recorded_split"][split]:
            yield f"  split {record['sha256'][:12]}" + ("" if record["intact"] else ", CHANGED since")
        yield f"  rows {facts['rows']}, images {facts['images']}, groups {facts['groups']}"
        if per_image:
            yield f"  questions per image {per_image['mean']:.1f} ({per_image['min']}-{per_image['max']})"
        yield f"  distinct (image, question, answer) {facts['distinct_triples']}, duplicates {facts['duplicates']}"
        yield f"  conflicting (image, question) pairs {facts['conflicting_pairs']} ({facts['conflicting_rows']} rows)"
        yield f"  junk rows {facts['junk_rows']}" + (f" ({_reasons(facts)})" if facts["junk"] else "")
        constant = f"{facts['constant_questions']} ({facts['constant_rows']} rows)"
        once = facts["questions_seen_once"]
        yield f"  questions {facts['questions']}, seen once {once}, with one answer only {constant}"
        yield "  types " + ", ".join(f"{name} {count}" for name, count in answers["types"][split].items())
        yield f"  rows with a constraint {answers['constrained'][split]}"
        if split == "train" and (free := answers["free"])["rows"]:
            why = f"{free['few']} of questions with {FEW}, {free['varied']} of questions answered freely"
            yield f"  rows without one {free['rows']} ({why})"
        folded = answers["spellings_folded"][split]
        yield f"  spellings folded {sum(folded.values())}" + (f" ({_counts(folded)})" if folded else "")
        if report["corrected"][split]:
            yield f"  answers corrected {report['corrected'][split]}"
        for where, facts in report["personal"][split].items():
            yield f"  like personal data, {where}: " + ", ".join(f"{kind} '{text}' (id {row_id})" for row_id, kind, text in facts["first"])
        if lists := answers["lists"][split]:
            kinds = ", ".join(f"{kind['rows']} with '{sign}' ({kind['as_lists']} taken as lists)" for sign, kind in lists.items())
            yield f"  answers that look like lists: {kinds}"
        if not isinstance(lengths, str) and (spread := lengths["tokens"][split]):
            over = f"over max_new_tokens={lengths['max_new_tokens']}: {lengths['longer'][split]}"
            yield f"  answer tokens {spread['min']}-{spread['max']} (median {spread['median']:g}), {over}"
    if isinstance(lengths, str):
        yield f"answer tokens: {lengths}"
    yield f"types are read from words of {answers['languages']} (data.language), and corrected by what training rows answer"
    for pair, facts in report["between"].items():
        shared = ", ".join(f"{name.replace('_', '-')} {facts[name]}" for name in facts if name not in ("rows", "example"))
        yield f"shared by {pair}: {shared}"
    yield from _describe_pictures(report["images"])
    if "reachable" in answers:
        yield f"{'val, by type':<20} {'rows':>8} {'reachable':>10} {'blind prior':>12}"
        blind, table = answers["blind_prior"], answers["reachable"]
        for name, facts in table["per_type"].items():
            yield f"{name:<20} {facts['rows']:>8} {facts['share']:>10.2%} {blind['per_type'][name]['accuracy']:>12.2%}"
        total = sum(facts["rows"] for facts in table["per_type"].values())
        yield f"{'all':<20} {total:>8} {table['share']:>10.2%} {blind['micro']:>12.2%}"


def _counts(counts):
    return ", ".join(f"{name} {count}" for name, count in Counter(counts).most_common())


def _describe_pictures(facts):
    if facts is None:
        return (yield "images: not opened")
    yield f"images: {facts['read']} read, {facts['missing']} missing, {facts['unreadable']} unreadable"
    if facts["read"]:
        sizes = ", ".join(f"{size} ({count})" for size, count in list(facts["sizes"].items())[:3])
        yield f"  sizes of {facts['kinds_of_size']} kinds: {sizes}" + (", …" if facts["kinds_of_size"] > 3 else "")
        if spread := facts["image_tokens"]:
            yield f"  image tokens {spread['min']}-{spread['max']} (mean {spread['mean']:.1f})"
        at_most = f"at most {facts['max_distance']} of {BITS} bits differ"
        yield f"  near-duplicates {facts['near_duplicates']} (dHash, {at_most})"
        yield f"  turned by their EXIF orientation {facts['turned']}, without contrast {facts['without_contrast']}"


def finding_lines(report, color=False):
    """The findings as lines; warnings in colour on a terminal."""
    for finding in report["findings"]:
        line = f"{finding['severity']}: {finding['text']}"
        yield f"{YELLOW}{line}{RESET}" if color and finding["severity"] == WARNING else line


def warnings_before_training(cfg, splits, space):
    """The warnings (lines) on the configured files, images unopened. A saved report that still holds is reused."""
    paths, saved = {split: cfg.split_path(split) for split in splits}, cfg.output_dir / "data" / REPORT
    try:
        old = read_json(saved)
    except UserError:  # none yet, or a broken one, which is no reason not to train
        old = {}
    if old.get("made_from") not in (inputs(paths, cfg, False), inputs(paths, cfg, True)):
        old = check(paths, cfg, space=space)
        write_json(saved, PublicNames(cfg).facts(old))
    return [line for line in finding_lines(old) if line.startswith(WARNING)]


# ---------------------------------------------------------------------------------------------------------------------
# Cleaning


def clean(rows):
    """Return `(rows to keep, changes)` of a split's Rows.

    Junk goes; of a conflict the answer that most rows give stays, of a tie none; of duplicates the first stays.
    """
    kept, seen, changes = [], set(), Counter(junk=0, conflict_minority=0, conflict_tie=0, duplicates=0)
    majority = {pair: _majority(counts) for pair, counts in conflicting([item for item in rows if not item.junk]).items()}
    for index, item in enumerate(rows):
        if item.junk:
            changes["junk"] += 1
        elif majority.get(item.pair, item.answer) != item.answer:
            changes["conflict_tie" if majority[item.pair] is None else "conflict_minority"] += 1
        elif (item.pair, item.answer) in seen:
            changes["duplicates"] += 1
        else:
            seen.add((item.pair, item.answer))
            kept.append(item.row if item.row.get("id") is not None else {**item.row, "id": str(index)})
    return kept, {"rows_before": len(rows), "rows_after": len(kept), "removed": dict(changes)}


def _majority(counts):
    """The commonest key of a Counter, or None where two are equally common."""
    (first, most), (_, second) = counts.most_common(2)
    return first if most > second else None


def fix(paths, folder, corrections=None):
    """Write cleaned copies of the files to a folder, with fixed.json beside them; return what changed per split.

    corrections: {split: {id: answer}}, which the copies hold.
    """
    folder, changes = Path(folder), {}
    outputs = {split: folder / f"{split}.jsonl" for split in paths}
    for output in outputs.values():
        if any(output.resolve() == Path(path).resolve() for path in paths.values()):
            raise UserError(f"--fix {folder}: {output} is an input; choose another folder")
    for split, path in paths.items():
        kept, changes[split] = clean(read_raw(path, (corrections or {}).get(split)))
        if not kept:
            raise UserError(f"--fix: nothing of {path} would be left; see the report")
        changes[split]["source_sha256"] = sha256(path)
        write_jsonl(outputs[split], kept)
    write_json(folder / "fixed.json", changes)
    return changes


def describe_fix(folder, changes):
    """One line a file."""
    for split, facts in changes.items():
        removed = facts["removed"]
        answers = f"{removed['conflict_minority']} outvoted and {removed['conflict_tie']} tied answers"
        what = f"{removed['junk']} junk, {removed['duplicates']} duplicates, {answers}"
        yield f"{Path(folder) / split}.jsonl: {facts['rows_after']} of {facts['rows_before']} rows; removed {what}"


# ---------------------------------------------------------------------------------------------------------------------
# The command


def main():
    parser = argument_parser("Report what is wrong with the data.", epilog=__doc__)
    for split in SPLITS:
        parser.add_argument(f"--{split}", metavar="JSONL", help=f"the {split} rows, instead of a configuration's")
    parser.add_argument("--image_root", metavar="DIR", help="folder of the images, with --train")
    parser.add_argument("--no-images", action="store_true", help="don't open images: seconds instead of minutes")
    parser.add_argument("--no-tokens", action="store_true", help="don't count answer tokens")
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1")
    parser.add_argument("--fix", metavar="DIR", help="write cleaned copies of the files to this folder")
    text = "list the rows whose annotation out-of-fold predictions contradict, and stop"
    parser.add_argument("--suspects", metavar="PREDICTIONS", help=text)
    args = parser.parse_intermixed_args()
    paths, cfg, image_root = _what_to_check(args, parser)
    if args.suspects:
        return print("\n".join(list_suspects(args, paths, cfg, image_root)))
    report = check(paths, cfg, None if args.no_images else image_root, tokens=not args.no_tokens)
    print("\n".join(describe(report)))
    lines = list(finding_lines(report, use_color(sys.stdout)))
    print("\n".join(lines or ["no findings"]))
    if not args.train:
        write_json(cfg.output_dir / "data" / REPORT, PublicNames(cfg).facts(report))
        print(f"report: {cfg.output_dir / 'data' / REPORT}")
    if args.fix:
        print("\n".join(describe_fix(args.fix, fix(paths, args.fix, corrections_of(paths, cfg)))))
    return int(args.strict and any(finding["severity"] == WARNING for finding in report["findings"]))


def list_suspects(args, paths, cfg, image_root):
    """What --suspects prints, once the table and the page are written."""
    path = resolve_path(args.suspects, cfg.config_path.parent)
    if not path.is_file():
        raise UserError(f"--suspects {path}: there is no such file")
    found, lines = suspects_of(path, cfg, paths)
    table, page = write_suspects(found, cfg.output_dir / "data", None if args.no_images else image_root)
    return [*lines, f"wrote {near(table)} and {near(page)}; correct in the table, and name it in data.corrections"]


def _what_to_check(args, parser):
    """Return `(paths, configuration, image root or None)` from the command line."""
    given = {split: Path(getattr(args, split)) for split in SPLITS if getattr(args, split)}
    if given and args.suspects:
        parser.error("--suspects goes with a configuration, whose output_dir the list is written to")
    if given:
        if "train" not in given:
            parser.error("--val and --test go with --train, whose rows say what is valid")
        cfg = load_config(args.config, args.overrides) if args.config or args.overrides else Config()
        return given, cfg, args.image_root
    if args.image_root:
        parser.error("--image_root goes with --train; with a configuration set data.image_root")
    cfg = load_config(args.config, args.overrides)
    return {split: cfg.split_path(split) for split in cfg.given_splits()}, cfg, None if args.no_images else cfg.image_folder()


if __name__ == "__main__":
    run_script(main)
