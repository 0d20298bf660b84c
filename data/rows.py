"""The user's rows: read, checked, completed with `id` and `image`. Nothing here knows what an answer means."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import posixpath

from data.matching import is_junk, normalize_answer
from files import UserError, read_jsonl

JUNK_QUESTIONS = ("", "none", "nan")


def junk_reason(question, answer):
    """Why a row is junk (str), or None if it isn't: it has no question or no answer, but a word for a missing value.

    Whatever counts junk, or leaves it out of training or evaluation, asks this. A missing value may be None.
    """
    if str(question or "").strip().lower() in JUNK_QUESTIONS:
        return "without a question"
    if is_junk(None if answer is None else str(answer)):
        return "without an answer"
    return None


def read_rows(path, need_answer=True):
    """Yield the user's rows, checked and completed with `id` and `image`, in file order.

    Raises UserError naming file:line for a row without question, image or (if needed) answer, for values that aren't
    text, for options or answers that aren't a list of text, and for an id given twice.
    """
    seen = {}
    for index, (line, row) in enumerate(read_jsonl(path)):
        where = f"{path}:{line}"
        row_id, image = row.get("id"), row.get("image")
        row = {**row, "id": str(index if row_id is None else row_id), "image": row.get("image_filename") if image is None else image}
        _check_text(row, "question", where, "add the question as text")
        _check_text(row, "image", where, "add the image's name, relative to data.image_root")
        row["image"] = posixpath.normpath(row["image"])  # `./a.jpg` is `a.jpg`, here and in the splits
        if need_answer or row.get("answer") is not None:
            _check_text(row, "answer", where, "write the answer as text")
        if row.get("options") is not None:
            _check_options(row["options"], where)
        if row.get("answers") is not None:
            _check_references(row["answers"], where)
        if row["id"] in seen:
            raise UserError(f"{where}: id {row['id']!r} is already that of line {seen[row['id']]}; give every row its own id")
        seen[row["id"]] = line
        yield row


def _check_text(row, key, where, remedy):
    value = row.get(key)
    if value is None:
        raise UserError(f"{where}: has no {key}; {remedy}")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is {value!r}, not text; {remedy}")
    if not value.strip() or (key == "answer" and not normalize_answer(value)):
        raise UserError(f"{where}: {key} is empty; {remedy}")


def _check_options(options, where):
    if not isinstance(options, list) or not options or not all(isinstance(item, str) and normalize_answer(item) for item in options):
        raise UserError(f"{where}: options is {options!r}; write a list of texts")
    if len({normalize_answer(item) for item in options}) < len(options):
        raise UserError(f"{where}: options repeats an item: {options!r}; give each option once")


def _check_references(answers, where):
    if not (isinstance(answers, list) and answers and all(isinstance(text, str) for text in answers)):
        raise UserError(f"{where}: answers is {answers!r}; write a list of texts, or leave it out")


def group_by_image(rows):
    """Lists of rows that share an image, in order of first appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(row["image"], []).append(row)
    return list(groups.values())
