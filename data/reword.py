"""Other wordings of a question: those of the row (`rewordings`, a list of texts), else of the table `rewordings.yaml`.

    python -m data.reword train.jsonl train_reworded.jsonl --add 1         each row as it is, and in its first other wording
    python -m data.reword test.jsonl test_unseen.jsonl --only 2            each row in its second other wording alone, ids as they were

A training file with several wordings makes their answer spaces, too. A test file with `--only` asks questions that training may
never have asked, so with no more constraint than the rules give: the truly unseen case. `predict_exp1.py --perturb reworded` needs
neither: it changes the wording alone and keeps type and valid answers. Rows whose question has no other wording stay, and are counted.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

if __package__ in (None, ""):  # run as `python data/reword.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import near, yaml_file
from data.aliases import question_template, strip_prefix
from data.rows import read_rows
from files import UserError, quoted, run_script, write_jsonl

REWORDINGS_FILE = Path(__file__).with_name("rewordings.yaml")


@cache
def rewordings():
    """{question template: its other wordings} of the table; empty without the file."""
    table = (yaml_file(REWORDINGS_FILE) if REWORDINGS_FILE.is_file() else None) or {}
    for question, wordings in table.items() if isinstance(table, dict) else [("", None)]:
        if not _are_texts(wordings) or not isinstance(question, str):
            raise UserError(f"{REWORDINGS_FILE}: {quoted(question)} has {quoted(wordings)}; write `question: [other wording, …]`")
    return {question_template(question): wordings for question, wordings in table.items()}


def _are_texts(value):
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)


def wordings_of(row):
    """The other wordings (list of str) of a row's question, behind its `[Stage-2]` prefix if it has one; empty where there are none.

    Raises UserError for `rewordings` that are no list of texts.
    """
    own = row.get("rewordings")
    if own is not None and not _are_texts(own):
        raise UserError(f"row {quoted(row['id'])}: rewordings is {quoted(own)}; write a list of texts, or leave it out")
    question = row["question"]
    prefix = question.removesuffix(strip_prefix(question))
    return own or [prefix + wording for wording in rewordings().get(question_template(question), ())]


def added(rows, most=None):
    """Yield each row, and behind it itself in at most `most` other wordings, whose ids are `7 (wording 1)`."""
    for row in rows:
        yield row
        for number, wording in enumerate(wordings_of(row)[:most], 1):
            yield {**row, "id": f"{row['id']} (wording {number})", "question": wording}


def replaced(rows, number):
    """Yield each row in its other wording of this number (from 1), or as it is where it has not so many."""
    for row in rows:
        yield {**row, "question": [row["question"], *wordings_of(row)][number]} if len(wordings_of(row)) >= number else row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", metavar="IN", help="rows (JSONL)")
    parser.add_argument("dst", metavar="OUT", help="where the rows go")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--add", type=int, metavar="N", help="beside each row, N other wordings of it (default: all that there are)")
    how.add_argument("--only", type=int, metavar="K", help="instead of each row, its other wording number K")
    args = parser.parse_args()
    if min(number for number in (args.add, args.only, 1) if number is not None) < 1:
        parser.error("--add and --only take a number from 1")
    if Path(args.src).resolve() == Path(args.dst).resolve():
        raise UserError(f"{args.dst}: is the input itself; choose another output")
    rows = list(read_rows(args.src, need_answer=False))
    without = sum(len(wordings_of(row)) < (args.only or 1) for row in rows)
    if without == len(rows):
        many = "so many" if args.only else "any"
        raise UserError(f"{args.src}: no question has {many} other wordings; add them to {near(REWORDINGS_FILE)}")
    written = list(replaced(rows, args.only) if args.only else added(rows, args.add))
    if len({row["id"] for row in written}) < len(written):
        raise UserError(f"{args.src}: holds other wordings already, by its ids; give the rows without them")
    write_jsonl(args.dst, written)
    note = f"; {without:,} rows have no such wording and stay as they are" if without else ""
    print(f"wrote {len(written):,} rows to {near(args.dst)}, made from {len(rows):,}{note}")


if __name__ == "__main__":
    run_script(main)
