"""The user's rows: read, checked, completed with `id` and `image`. Nothing here knows what an answer means."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

from data.corrections import corrected
from data.foreign import refuse_foreign
from data.image_names import image_name, images_of
from data.matching import is_junk, normalize_answer
from data.text import placeholder_inside, strip_placeholders
from files import UserError, quoted, read_jsonl, short

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


def read_rows(path, need_answer=True, corrections=None, lines=None, placeholders=None):
    """Yield the user's rows, checked and completed with `id` and `image`, in file order.

    A row about several pictures has `images` (list) and, as `image`, the first of them; a list of one is an image.

    corrections: {id: answer} of `corrections.corrections_for`, which replace the rows' own. lines: (number of the row in the file,
    line, row) of the rows that are wanted, where it isn't all of them. placeholders: a Counter of the foreign places for pictures
    (`<image>`) taken from questions, to be added to.
    Raises UserError naming file:line for a row without question, image or (if needed) answer, for values that aren't
    text, for options or answers that aren't a list of text, for a group that is no name, and for an id given twice.
    """
    seen = {}
    for index, line, row in lines or numbered_rows(path):
        where = f"{path}:{line}"
        row_id = row.get("id")
        row = corrected({**row, "id": str(index if row_id is None else row_id)}, corrections or {})
        _check_text(row, "question", where, "add the question as text")
        row["question"] = _without_placeholders(row["question"], where, placeholders)
        row = with_pictures(row, where)
        if need_answer or row.get("answer") is not None:
            _check_text(row, "answer", where, "write the answer as text")
        else:
            row.pop("answer_raw", None)  # what enrichment calls an answer as it was given: a row without one has none
        check_further(row, where)
        if row["id"] in seen:
            raise UserError(f"{where}: id {quoted(row['id'])} is already that of line {seen[row['id']]}; give every row its own id")
        seen[row["id"]] = line
        yield row


def numbered_rows(path):
    """Yield `(number from 0, line, row)` of a JSONL file as it is. Raises UserError, which names the reader that fits, for another file."""
    refuse_foreign(path)
    for index, (line, row) in enumerate(read_jsonl(path)):
        yield index, line, row


def with_pictures(row, where):
    """The row with the names of its pictures as they are compared: `image` and, where there are several, `images`.

    Raises UserError, which begins with `where`, for a row without one, names that are none, and an `image` that is another than the
    first of `images`.
    """
    image, images = row.get("image_filename") if row.get("image") is None else row["image"], row.get("images")
    row = {**row}
    row.pop("images", None)
    if images is not None:
        if not (isinstance(images, list) and images and all(isinstance(name, str) and name.strip() for name in images)):
            remedy = "write a list of names, relative to data.image_root and in their order, or leave it out"
            raise UserError(f"{where}: images is {quoted(images)}; {remedy}")
        images = [image_name(name, where) for name in images]
        image = images[0] if image is None else image
    _check_text({"image": image}, "image", where, "add the image's name, relative to data.image_root")
    row["image"] = image_name(image, where)
    if images is not None and row["image"] != images[0]:
        both = f"image is {quoted(row['image'])} and the first of images {quoted(images[0])}"
        raise UserError(f"{where}: {both}; a row has image or images, or image is the first of them")
    return row | ({"images": images} if images is not None and len(images) > 1 else {})


def _check_text(row, key, where, remedy):
    value = row.get(key)
    if value is None:
        raise UserError(f"{where}: has no {key}; {remedy}")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is {quoted(value)}, not text; {remedy}")
    if not value.strip() or (key == "answer" and not normalize_answer(value)):
        raise UserError(f"{where}: {key} is empty; {remedy}")


def check_further(row, where):
    """Raise UserError, which begins with `where`, for options, references, raters or a group of a row that are of the wrong kind."""
    if row.get("options") is not None:
        _check_options(row["options"], where)
    if row.get("answers") is not None:
        _check_references(row["answers"], where)
    if row.get("answers_by") is not None and not is_by_rater(row["answers_by"]):
        raise UserError(f"{where}: answers_by is {quoted(row['answers_by'])}; write {{rater: answer}}, each answer as text")
    if not is_group(row.get("group")):
        raise UserError(f"{where}: group is {quoted(row['group'])}; write one name, the patient's or the video's")


def is_group(value):
    """Is a value a group: a name or a number, or None for none?"""
    return value is None or isinstance(value, str | int) and not isinstance(value, bool)


def _without_placeholders(question, where, placeholders):
    text = strip_placeholders(question)
    if text != question:
        _check_text({"question": text}, "question", where, "it has but a place for a picture; add the question as text")
        if placeholders is not None:
            placeholders.update([question.replace(text, "").strip()])
    if found := placeholder_inside(text):
        raise UserError(f"{where}: question has {short(found)} inside it, where no picture can stand; write what it stands for")
    return text


def _check_options(options, where):
    if not isinstance(options, list) or not options or not all(isinstance(item, str) and normalize_answer(item) for item in options):
        raise UserError(f"{where}: options is {quoted(options)}; write a list of texts")
    if len({normalize_answer(item) for item in options}) < len(options):
        raise UserError(f"{where}: options repeats an item: {quoted(options)}; give each option once")


def is_by_rater(value):
    """Is it {rater: answer}, answers as text, or null where a rater gave none?"""
    return isinstance(value, dict) and all(isinstance(answer, str | None) for answer in value.values())


def _check_references(answers, where):
    if not (isinstance(answers, list) and answers and all(isinstance(text, str) for text in answers)):
        raise UserError(f"{where}: answers is {quoted(answers)}; write a list of texts, or leave it out")


def group_by_image(rows, key=None):
    """Lists of rows that share an image, or the same images in the same order; in order of first appearance. key: a function of a row,
    of which all rows of a list have the same value."""
    groups = {}
    for row in rows:
        groups.setdefault((*images_of(row), key and key(row)), []).append(row)
    return list(groups.values())
