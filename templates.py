"""The prompt: its text, and where the image goes.

Everything up to the image's end is the same for every question about an image (the shared prefix);
everything after it belongs to one question (its branch).
"""

SYSTEM_TEXT = "You are a surgical VQA assistant. Answer concisely with only the final answer."
IMAGE_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"

PLAIN_HEAD = f"System: {SYSTEM_TEXT}\nUser:\n"
PLAIN_TAIL = "\nAssistant: Answer:"


def question_block(question_type, question, answer_candidates=None):
    """The lines that tell one question from another, without a final newline."""
    lines = [f"Question type: {question_type}", f"Question: {question}"]
    if answer_candidates:
        lines.append("Valid answers: " + ", ".join(answer_candidates))
    return "\n".join(lines)


def prompt_block(question_type, question, answer_candidates=None):
    """The plain prompt without its image, for example

    System: You are a surgical VQA assistant. Answer concisely with only the final answer.
    User:
    Question type: yes_no
    Question: Is there a polyp?
    Valid answers: yes, no
    Assistant: Answer:
    """
    return PLAIN_HEAD + question_block(question_type, question, answer_candidates) + PLAIN_TAIL


def prompt_parts(question_type, question, answer_candidates=None, style="plain", processor=None):
    """Return `(prefix, branch)`: the prompt up to the image placeholder's end, and the rest.

    `prefix + branch` with the placeholder taken out is `prompt_block(...)` in the plain style. The chat style
    puts the same fields through `processor.apply_chat_template` and needs a processor.
    """
    if style == "plain":
        prompt = PLAIN_HEAD + IMAGE_PLACEHOLDER + prompt_block(question_type, question, answer_candidates).removeprefix(PLAIN_HEAD)
    else:
        user = [{"type": "image"}, {"type": "text", "text": question_block(question_type, question, answer_candidates)}]
        messages = [{"role": "system", "content": [{"type": "text", "text": SYSTEM_TEXT}]}, {"role": "user", "content": user}]
        prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    head, branch = prompt.split(IMAGE_PLACEHOLDER, 1)  # the image comes first, so a question can't split the prompt
    return head + IMAGE_PLACEHOLDER, branch


if __name__ == "__main__":
    raise SystemExit("not a command, but the prompt; see python dataset.py --show 3")
