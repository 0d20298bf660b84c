"""The prompt: its text, and where the image goes.

Everything up to the image's end is the same for every question about an image (the shared prefix);
everything after it belongs to one question (its branch). Its words are the `prompt` section of the configuration, by default as here.
"""

from config import PromptConfig

IMAGE_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"


def question_block(question_type, question, answer_candidates=None, words=PromptConfig(), earlier=()):
    """The lines that tell one question from another, without a final newline. words: the prompt section of a configuration.

    earlier: (question, answer) of the image's earlier stages in a cascade, which stand first, as `Question: …` and `Answer: …`.
    """
    lines = [line for asked, answer in earlier for line in (f"{words.question}: {asked}", f"{words.answer}: {answer}")]
    lines += [f"{words.question_type}: {question_type}", f"{words.question}: {question}"]
    if answer_candidates:
        lines.append(f"{words.valid_answers}: " + ", ".join(answer_candidates))
    return "\n".join(lines)


def prompt_block(question_type, question, answer_candidates=None, words=PromptConfig(), earlier=()):
    """The plain prompt without its image, for example

    System: You are a surgical VQA assistant. Answer concisely with only the final answer.
    User:
    Question type: yes_no
    Question: Is there a polyp?
    Valid answers: yes, no
    Assistant: Answer:
    """
    block = question_block(question_type, question, answer_candidates, words, earlier)
    return _plain_head(words) + block + f"\nAssistant: {words.answer}:"


def _plain_head(words):
    return f"System: {words.system}\nUser:\n"


def prompt_parts(
    question_type, question, answer_candidates=None, style="plain", processor=None, words=PromptConfig(), images=1, earlier=()
):
    """Return `(prefix, branch)`: the prompt up to the image placeholder's end, and the rest.

    images: placeholders, one behind another. earlier: see `question_block`.

    `prefix + branch` with the placeholders taken out is `prompt_block(...)` in the plain style. The chat style
    puts the same fields through `processor.apply_chat_template` and needs a processor.
    """
    if style == "plain":
        head = _plain_head(words)
        plain = prompt_block(question_type, question, answer_candidates, words, earlier)
        prompt = head + IMAGE_PLACEHOLDER * images + plain.removeprefix(head)
    else:
        block = question_block(question_type, question, answer_candidates, words, earlier)
        user = [*[{"type": "image"}] * images, {"type": "text", "text": block}]
        messages = [{"role": "system", "content": [{"type": "text", "text": words.system}]}, {"role": "user", "content": user}]
        prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    branch = prompt.split(IMAGE_PLACEHOLDER, images)[images]  # the images come first, so a question can't split the prompt
    return prompt.removesuffix(branch), branch


if __name__ == "__main__":
    raise SystemExit("not a command, but the prompt; see python dataset.py --show 3")
