"""One question about one image, answered on the terminal: `predict_exp1.py --image FILE --question "…"` or `--interactive`."""

from math import exp
from pathlib import Path

from data import answer_space
from data.preprocess import normalize_answer
from dataset import VQADataset
from decode import answer_questions
from files import UserError
from images import check_image

BAR, SHOWN = 30, 10
HELP = "type a question; /image FILE changes the image, /candidates a, b, c the valid answers (none: the mined ones), an empty line ends"


def question_row(space, image, question, candidates=None):
    """An enriched row. Candidates given by the user replace those of the answer space."""
    row = answer_space.apply(space, {"id": "question", "question": question, "image": image})
    if candidates:
        row |= {"answer_candidates": list(dict.fromkeys(map(normalize_answer, candidates))), "multi_label": False}
    return row


def answer_one(model, processor, cfg, space, image, question, candidates, max_new_tokens):
    """The Answer to a question about an image file, and its row. Raises UserError where it can't be asked."""
    if not image:
        raise UserError("there is no image to ask about; give one with --image FILE, or /image FILE")
    path = Path(image).expanduser().absolute()
    row = question_row(space, path.name, question, candidates)
    cfg = cfg.model_copy(update={"data": cfg.data.model_copy(update={"image_root": path.parent})})
    dataset = VQADataset([row], processor, cfg, {path.name: check_image(path)}, model.config, supervised=False)
    ((_, answer),) = next(iter(answer_questions(model, dataset, cfg, cfg.predict.decoding, max_new_tokens)))
    return answer, row


def describe(answer, row, min_confidence=None):
    """The answer, its probability and the runners-up as bars."""
    if not answer.scored:
        sure = f"  (probability {exp(answer.logprob):.1%})" if answer.logprob is not None else ""
        note = "" if answer.constrained else f"\nanswered freely: {row['question_type']}, no valid answers are known; --candidates gives some"
        return f"{answer.text}{sure}{' …' * answer.cut}{note}"
    found = answer.probabilities()
    width = max(len(text) for text, _ in found[:SHOWN])
    lines = [f"{text:<{width}}  {value:6.1%}  {'█' * round(BAR * value)}".rstrip() for text, value in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"{len(found) - SHOWN} more: {sum(value for _, value in found[SHOWN:]):.1%}")
    if min_confidence is not None and found[0][1] < min_confidence:
        lines.append(f"abstained: less sure than predict.min_confidence={min_confidence}")
    return "\n".join([*lines, f"unconstrained, the model says one of them with probability {answer.valid_mass:.1%}"])


def ask(model, processor, cfg, space, args, max_new_tokens):
    """Answer args.question; with args.interactive go on with questions from standard input until an empty line."""
    image, candidates = args.image, split_candidates(args.candidates)

    def say(question):
        answer, row = answer_one(model, processor, cfg, space, image, question, candidates, max_new_tokens)
        print(describe(answer, row, cfg.predict.min_confidence))

    if args.question:
        say(args.question)
    if args.interactive:
        print(HELP)
    while args.interactive and (line := read_line()):
        command, _, rest = line.partition(" ")
        try:
            if command == "/image":
                check_image(Path(rest.strip()).expanduser())
                image = rest.strip()
            elif command == "/candidates":
                candidates = split_candidates(rest)
            elif command.startswith("/"):
                raise UserError(f"{command}: no such command; {HELP}")
            else:
                say(line)
        except UserError as error:
            print(f"error: {error}")


def read_line():
    try:
        return input("> ").strip()
    except EOFError:
        print()
        return ""


def split_candidates(text):
    return [part.strip() for part in (text or "").split(",") if part.strip()]
