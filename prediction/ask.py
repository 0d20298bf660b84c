"""One question about one image, answered on the terminal: `predict_exp1.py --image FILE --question "…"` or `--interactive`."""

if __name__ == "__main__":
    raise SystemExit('not a command; run: python predict_exp1.py --image FILE --question "…"')

import os
import shlex
from math import exp
from pathlib import Path

from data import answer_space
from data.image_names import evenly
from data.images import check_image
from data.matching import normalize_answer
from dataset import VQADataset, say_what_is_thinned
from files import UserError, quoted, short
from prediction.decode import answer_questions
from prediction.run import DECIMALS
from prediction.setup import image_file

BAR, SHOWN = 30, 10
EXACT_SETS = 1024  # one question's label lists are scored all at once where a split takes beams: it shows the runners-up
HELP = "type a question; /image FILE changes the image (FILE FILE … are a clip's), /candidates a, b, c the valid answers (none: the mined "
HELP += "ones), an empty line ends"


def question_row(space, images, question, candidates=None):
    """An enriched row. images: names. Candidates given by the user (normalised) replace those of the answer space."""
    several = {"images": images} if len(images) > 1 else {}
    row = answer_space.apply(space, {"id": "question", "question": question, "image": images[0], **several})
    return row | {"answer_candidates": candidates, "multi_label": False} if candidates else row


def answer_one(model, processor, cfg, space, images, question, candidates, max_new_tokens):
    """The Answer to a question about an image file, or several in order, and its row. Raises UserError where it can't be asked."""
    if not images:
        raise UserError("there is no image to ask about; give one with --image FILE, or /image FILE")
    paths = [Path(image).expanduser().absolute() for image in images]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    row = question_row(space, [path.relative_to(root).as_posix() for path in paths], question, candidates)
    predict = {"exact_sets": max(cfg.predict.exact_sets, EXACT_SETS)}
    sections = {"data": {"image_root": root}, "predict": predict, "train": {"num_workers": 0}}
    cfg = cfg.model_copy(update={name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()})
    sizes = {path.relative_to(root).as_posix(): check_image(path) for path in evenly(paths, cfg.data.max_frames)}
    dataset = VQADataset([row], processor, cfg, sizes, model.config, supervised=False)
    ((_, answer),) = next(iter(answer_questions(model, dataset, cfg, cfg.predict.decoding, max_new_tokens)))
    return answer, row


def describe(answer, row, min_confidence=None):
    """The answer, its probability and the runners-up as bars."""
    if not answer.scored:
        sure = f"  (the model says just this with probability {exp(answer.logprob):.1%})" if answer.logprob is not None else ""
        note = (
            ""
            if answer.constrained or row["answer_candidates"]
            else f"\nanswered freely: {row['question_type']}, no valid answers are known; --candidates gives some"
        )
        return f"{answer.text}{sure}{' …' * answer.cut}{note}"
    found = answer.probabilities()
    width = max(len(text) for text, _ in found[:SHOWN])
    lines = [f"{text:<{width}}  {value:6.1%}  {'█' * round(BAR * value)}".rstrip() for text, value in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"{len(found) - SHOWN} more: {sum(value for _, value in found[SHOWN:]):.1%}")
    if min_confidence is not None and round(found[0][1], DECIMALS) < min_confidence:  # as in a file of predictions
        lines.append(f"abstained: less sure than predict.min_confidence={min_confidence}")
    return "\n".join([*lines, f"unconstrained, the model says one of them with probability {answer.valid_mass:.1%}"])


def ask(model, processor, cfg, space, args, max_new_tokens):
    """Answer args.question; with args.interactive go on with questions from standard input until an empty line."""
    images, candidates = args.image, args.candidates
    say_what_is_thinned([{"images": images}] if images else [], cfg)
    least = cfg.predict.min_confidence
    if cfg.predict.calibrated and least is not None:
        least = None
        print("note: predict.calibrated is about files of predictions; here probabilities are the model's own, and no answer abstains")

    def say(question):
        answer, row = answer_one(model, processor, cfg, space, images, question, candidates, max_new_tokens)
        print(describe(answer, row, least))
        if row["answer_candidates"] and not candidates and not answer_space.says_more_than_the_rules(space, question):
            print(f"valid answers: those of {row['question_type']} in data/schema.py; training answers to this question add nothing")

    if args.question:
        say(args.question)
    if args.interactive:
        print(HELP)
    while args.interactive and (line := read_line()):
        command, _, rest = line.partition(" ")
        try:
            if command == "/image":
                images = named_images(cfg, rest.strip(), command)
                say_what_is_thinned([{"images": images}], cfg)
            elif command == "/candidates":
                candidates = split_candidates(rest)
            elif command.startswith("/"):
                raise UserError(f"{short(command)}: no such command; {HELP}")
            else:
                say(line)
        except UserError as error:
            print(f"error: {error}")


def named_images(cfg, text, said_by):
    """Paths of the image, or by spaces of several in order, that a line names. Raises UserError where one is none."""
    try:
        paths = [image_file(cfg, text, said_by)]  # a name may hold spaces
    except UserError:
        try:
            names = shlex.split(text)
        except ValueError:  # an apostrophe
            names = [text]
        if names in ([], [text]):
            raise
        paths = [image_file(cfg, name, said_by) for name in names]
    for path in paths:
        check_image(path)
    return paths


def read_line():
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""


def split_candidates(text):
    """The valid answers of `a, b, c`, normalised, each once. Raises UserError where there is text but no answer in it."""
    candidates = list(dict.fromkeys(filter(None, map(normalize_answer, (text or "").split(",")))))
    if text and text.strip() and not candidates:
        raise UserError(f"candidates {quoted(text)}: there is no answer in it; write them as a, b, c")
    return candidates
