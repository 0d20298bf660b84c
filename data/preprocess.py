"""Enrichment: the user's rows plus question type, candidates and normalised answer.

    python -m data.preprocess --config config_exp1.yaml                      all splits, to output_dir/data/
    python data/preprocess.py --src rows.jsonl --dst enriched.jsonl --train train.jsonl

A constraint is decided by the question and the training rows, never by a row's own answer: data/answer_space.py. With
`data.answer_space: rules` it is the literal rules of data/schema.py, and where a rule's candidates can't express a
training answer to the same question, the question goes unconstrained everywhere.

Training rows that nothing can be learned from are left out and counted: junk (`nan` for an answer), and an answer that is
none of the row's options, or else out of its constraint's reach. Other splits keep every row.
"""

import sys
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/preprocess.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import DataConfig, argument_parser, code_facts, load_config, near, save_run_info
from data import answer_space, schema
from data.asked import rules_verdict, words_verdict
from data.corrections import corrections_for, describe_unheard, fingerprint, unheard
from data.language import unread_language, unread_note
from data.matching import normalize_answer  # noqa: F401  where the user's document imports it from
from data.rows import junk_reason, read_rows
from data.rules import has_rule, ordered_types
from data.stages import use_stages, with_stage
from files import UserError, hash_of, quoted, read_cache, read_jsonl, run_script, sha256, short, write_json, write_jsonl


def enrich_jsonl(src, dst, train_jsonl=None, space=None, settings=DataConfig(), training=False):
    """Write `src` enriched to `dst` (never the same file), row by row, and return counts.

    The answer space is mined from `train_jsonl` (default: `src` itself, being the training file) by `settings`, the
    data section of a configuration, or given ready-made; its corrections are applied. training: these are the training rows.
    Counts: rows, rows by type, corrected answers,
    rows with a constraint by type, rows whose rule has candidates that the space drops (`dropped`) and their questions,
    spellings folded, placeholders for pictures taken from questions, ids of the training rows left out by reason (`left_out`), the
    languages read and rows that name another (`unread`).
    """
    if Path(src).resolve() == Path(dst).resolve():
        raise UserError(f"{dst}: is the input itself; choose another output")
    if space is None:
        space, training = mine_space(train_jsonl or src, settings, others=(src,)), training or not train_jsonl
    types, constrained, dropped, folded, placeholders, unread, left_out = *(Counter() for _ in range(6)), {}
    languages = answer_space.reading_of(space).languages
    corrections = corrections_for(settings, src, train_jsonl)

    def enriched_rows():
        rows = read_rows(src, need_answer=False, corrections=corrections, placeholders=placeholders)
        for row in with_stage(rows, settings, src):
            enriched = answer_space.apply(space, row, folded)
            if languages and (language := unread_language(row, languages)):
                unread[language] += 1
            if training and "answer_raw" in enriched and (reason := why_untrainable(enriched)):
                left_out.setdefault(reason, []).append(row["id"])
                continue
            types[enriched["question_type"]] += 1
            if enriched["answer_candidates"]:
                constrained[enriched["question_type"]] += 1
            elif has_rule(row):
                dropped[row["question"]] += 1
            yield enriched
        if training and not types:
            raise UserError(f"{src}: nothing can be learned from its rows: {_left_out_note(left_out)}; correct them")

    write_jsonl(dst, enriched_rows())
    counts = {"rows": types.total(), "types": dict(types), "constrained": dict(constrained)}
    counts |= {"dropped": dropped.total(), "questions_dropped": dict(dropped), "folded": dict(+folded)}
    new = unheard(corrections, src, *training_files(settings, src, train_jsonl))
    counts |= {"corrected": len(corrections), **({"unheard": new} if new else {})}
    counts |= {"placeholders": dict(placeholders), "left_out": left_out, **({"stages": settings.stages} if settings.stages else {})}
    return counts | {"languages": list(languages), "unread": dict(unread)}


def training_files(settings, path, *others):
    """The training files there are, beside `path`: the configured one and `others`."""
    files = {Path(file).resolve() for file in (settings.train_jsonl, *others) if file and Path(file).is_file()}
    return sorted(files - {Path(path).resolve()})


def why_untrainable(enriched):
    """Why an enriched training row is left out (str), or None: it is junk, or its constraint forbids its answer."""
    if reason := junk_reason(enriched["question"], enriched["answer"]):
        return reason
    if not answer_space.trainable(enriched):
        return "whose answer is none of its options" if enriched.get("options") else "whose answer its question's constraint forbids"
    return None


def mine_space(train_jsonl, settings, say=print, others=()):
    """The answer space of a training file, with what it was made from. `say` gets the lines on what was found.

    others: files whose rows may be corrected, beside the configured ones.
    """
    corrections = corrections_for(settings, train_jsonl, *others)
    space = answer_space.mine(read_rows(train_jsonl, corrections=corrections), settings)  # first: it names what is wrong with the file
    space = {"made_from": space_inputs(train_jsonl, settings, others), **space}
    for line in answer_space.describe(space):
        say(line)
    del space["found"]
    return space


def space_inputs(train_jsonl, settings, others=()):
    """What decides an answer space beside the code and its tables: the training file (its hash), its corrections and the settings."""
    chosen = {key: getattr(settings, key) for key in ("answer_space", "max_unseen", "count_margin", "min_groups")}
    chosen["languages"] = list(settings.languages)
    corrections = corrections_for(settings, train_jsonl, *others)
    return {"train_sha256": sha256(train_jsonl), "settings": chosen, **fingerprint(corrections)}


def training_space(cfg, say=print):
    """The answer space of the configured training file, mined anew if it, the settings or the rules have changed."""
    path = cfg.output_dir / "data" / answer_space.SPACE_FILE
    sidecar = path.with_suffix(".meta.json")  # the code's hash lies beside it: an edit that changes no answer makes no other space
    train, code = cfg.split_path("train"), {"rules": rules_hash()}
    if read_cache(sidecar) == code and read_cache(path).get("made_from") == space_inputs(train, cfg.data):
        return answer_space.load(path)
    space = mine_space(train, cfg.data, say)
    sidecar.unlink(missing_ok=True)  # killed in between, the old one would vouch for the new space
    answer_space.save(space, path)
    write_json(sidecar, code)
    return space


def enriched_path(cfg, split):
    """Path of a split's enriched rows under `output_dir/data/`."""
    return cfg.output_dir / "data" / f"{split}.jsonl"


def enrich_split(cfg, split, space=None):
    """Enrich a split if its enriched file is missing or was made from other inputs, rules or space; return its path.

    space: an adapter's own, which needs no training file; default: that of the configured training file.
    """
    src, dst = cfg.split_path(split), enriched_path(cfg, split)
    sidecar = dst.with_suffix(".meta.json")
    space = space or training_space(cfg)
    inputs = {"source": sha256(src), "answer_space": answer_space.fingerprint(space), "rules": rules_hash()}
    inputs |= fingerprint(corrections_for(cfg.data, src))
    inputs |= {"stages": cfg.data.stages} if use_stages(cfg.data) else {}
    made = read_cache(sidecar)
    if not dst.is_file() or made.get("inputs") != inputs or made.get("sha256") != sha256(dst):  # of another make, or damaged since
        counts = enrich_jsonl(src, dst, space=space, settings=cfg.data, training=split == "train")
        save_run_info(sidecar, cfg, inputs=inputs, sha256=sha256(dst), **counts)
        print(describe(split, counts))
    return dst


def ensure_enriched(cfg, split, space=None):
    """The rows (list) of a split's enriched file, which is made or remade as needed: see `enrich_split`."""
    return [row for _, row in read_jsonl(enrich_split(cfg, split, space))]


def rules_hash():
    """Hash of the files that decide what enrichment writes."""
    return hash_of(code_facts("enrich"))


def answer_rules(space, asked=()):
    """Hashes of what decides types and candidates: the answer space, and the rules for questions it lacks.

    Prediction refuses an adapter that was trained with others. asked: the questions of its training (data/asked.py); with them
    `rules` is what the rules say of these, and without, as older adapters have it, the file, which is `schema` in any case. `words` is
    what the tables of data/languages/ make of it; older adapters lack it, and are read by the rules alone.
    """
    schema_hash = sha256(schema.__file__)
    facts = {"rules": rules_verdict(asked) if asked else schema_hash, "schema": schema_hash, "space": answer_space.fingerprint(space)}
    return facts | ({"words": words_verdict(asked, answer_space.reading_of(space))} if asked and space.get("languages") else {})


def describe(split, counts):
    """What enrichment found, for people: a line, and a warning of the rows that it left out."""
    types = ", ".join(f"{name} {counts['types'][name]}" for name in ordered_types(counts["types"]))
    stages = f" of stage {', '.join(map(str, counts['stages']))}" if counts.get("stages") else ""
    line = f"enriched {split}: {counts['rows']} rows{stages} ({types}), {sum(counts['constrained'].values())} constrained"
    if counts["dropped"]:
        line += (
            f"; {counts['dropped']} rows of {len(counts['questions_dropped'])} questions go unconstrained, "
            "because training answers or their wording rule out their rule's candidates"
        )
    if found := counts["placeholders"]:
        names = ", ".join(f"{short(name)} {count}" for name, count in sorted(found.items())[:3])
        line += f"; {sum(found.values())} places for pictures taken from questions ({names})"
    line += f"; {counts['corrected']} answer{'s' * (counts['corrected'] > 1)} corrected" * bool(counts["corrected"])
    line += answer_space.folding_note(counts["folded"])
    if counts.get("unheard"):
        line += f"\nWARNING: {describe_unheard(counts['unheard'])}"
    if counts["unread"]:
        line += f"\nWARNING: {unread_note(counts['unread'], counts['languages'])}"
    if counts["left_out"]:
        line += f"\nWARNING: not trained on: {_left_out_note(counts['left_out'])}; correct these rows, or remove them"
    return line


def _left_out_note(left_out, shown=3):
    """`2 rows whose answer is none of its options (ids 17, 40)` for each reason."""
    notes = []
    for reason, ids in left_out.items():
        some = ", ".join(map(quoted, ids[:shown])) + ", …" * (len(ids) > shown)
        notes.append(f"{len(ids)} row{'s' * (len(ids) > 1)} {reason} ({'ids' if len(ids) > 1 else 'id'} {some})")
    return ", ".join(notes)


def main():
    parser = argument_parser("Add question type, candidates and normalised answer to every row.", epilog=__doc__)
    parser.add_argument("--src", help="enrich this file instead of the configured splits (needs --dst)")
    parser.add_argument("--dst", help="where the enriched rows of --src go")
    parser.add_argument("--train", help="training rows that decide the constraints of --src (default: --src itself)")
    args = parser.parse_intermixed_args()
    if bool(args.src) != bool(args.dst):
        parser.error("--src and --dst go together")
    cfg = load_config(args.config, args.overrides)
    if args.src:
        return print(describe(args.src, enrich_jsonl(args.src, args.dst, args.train, settings=cfg.data)))
    for split in cfg.given_splits():
        print(f"{split}: {near(enrich_split(cfg, split))}")
    print(f"next: {cfg.command('train_exp1.py')}")


if __name__ == "__main__":
    run_script(main)
