"""The prompt: its exact text, where the image goes, and that prefix and branch encode apart as they do together.

python -m pytest tests/test_templates.py -v
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import PromptConfig
from data.schema import COLOR_VOCAB, QUESTION_TYPES, build_candidates
from templates import IMAGE_PLACEHOLDER, prompt_block, prompt_parts

PROMPT = """System: You are a surgical VQA assistant. Answer concisely with only the final answer.
User:
Question type: yes_no
Question: Is there a polyp?
Valid answers: yes, no
Assistant: Answer:"""
PREFIX = """System: You are a surgical VQA assistant. Answer concisely with only the final answer.
User:
<|vision_start|><|image_pad|><|vision_end|>"""
BRANCH = """Question type: yes_no
Question: Is there a polyp?
Valid answers: yes, no
Assistant: Answer:"""


class ChatTemplate:
    """A chat template like Qwen2-VL's, written out here."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize and add_generation_prompt
        text = ""
        for message in messages:
            parts = (IMAGE_PLACEHOLDER if part["type"] == "image" else part["text"] for part in message["content"])
            text += f"<|im_start|>{message['role']}\n{''.join(parts)}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"


def test_the_plain_prompt_is_the_user_s_text():
    assert prompt_block("yes_no", "Is there a polyp?", ["yes", "no"]) == PROMPT


GERMAN = PromptConfig(system="Antworte kurz.", question_type="Art", question="Frage", valid_answers="Antworten", answer="Antwort")


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_the_prompts_words_are_the_configurations(style):
    assert prompt_block("yes_no", "Ist da was?", ["ja", "nein"], GERMAN) == (
        "System: Antworte kurz.\nUser:\nArt: yes_no\nFrage: Ist da was?\nAntworten: ja, nein\nAssistant: Antwort:"
    )
    prefix, branch = prompt_parts("yes_no", "Ist da was?", None, style, ChatTemplate(), GERMAN)
    assert prefix.endswith(IMAGE_PLACEHOLDER) and "Antworte kurz." in prefix and "Art: yes_no\nFrage: Ist da was?" in branch
    assert not any(word in prefix + branch for word in ("surgical", "Question", "Valid"))


@pytest.mark.parametrize("candidates", [None, []])
def test_without_candidates_there_is_no_line_for_them(candidates):
    assert prompt_block("open_ended", "Where?", candidates) == (
        "System: You are a surgical VQA assistant. Answer concisely with only the final answer.\n"
        "User:\nQuestion type: open_ended\nQuestion: Where?\nAssistant: Answer:"
    )


def test_the_image_stands_after_user_and_its_newline():
    assert prompt_parts("yes_no", "Is there a polyp?", ["yes", "no"]) == (PREFIX, BRANCH)


fields = st.tuples(st.sampled_from([*QUESTION_TYPES, "instrument_type"]), st.text(), st.none() | st.lists(st.text(min_size=1)))


@given(fields)
def test_taking_the_placeholder_out_leaves_the_prompt(values):
    prefix, branch = prompt_parts(*values)
    assert prefix == PREFIX and prefix.endswith(IMAGE_PLACEHOLDER)
    assert (prefix + branch).replace(IMAGE_PLACEHOLDER, "", 1) == prompt_block(*values)


@given(fields)
def test_the_chat_style_holds_the_same_fields(values):
    question_type, question, candidates = values
    prefix, branch = prompt_parts(*values, style="chat", processor=ChatTemplate())
    system = "<|im_start|>system\nYou are a surgical VQA assistant. Answer concisely with only the final answer.<|im_end|>\n"
    assert prefix == f"{system}<|im_start|>user\n{IMAGE_PLACEHOLDER}"
    line = f"\nValid answers: {', '.join(candidates)}" if candidates else ""
    fields = f"Question type: {question_type}\nQuestion: {question}{line}"
    assert branch == f"{fields}<|im_end|>\n<|im_start|>assistant\n"


def test_a_question_can_t_move_the_image():
    question = f"What is {IMAGE_PLACEHOLDER}?"
    for style in ("plain", "chat"):
        prefix, branch = prompt_parts("open_ended", question, None, style, ChatTemplate())
        assert prefix.count(IMAGE_PLACEHOLDER) == 1 and question in branch


# --- with the real tokenizer and chat template ---


@pytest.fixture(scope="module")
def real_processor(shared):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(shared / "qwen2-vl-processor")


@pytest.fixture(scope="module")
def real_questions(shared):
    files = [shared / "real-data" / "kvasir_vqa" / "val.jsonl", shared / "real-data" / "vqa_rad" / "rows.jsonl"]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    questions = sorted({json.loads(line)["question"] for line in lines})
    assert len(questions) > 20 + 50
    return questions


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_prefix_and_branch_have_the_ids_of_the_whole_prompt(real_processor, real_questions, style):
    tokenize = lambda text: real_processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    prefixes = set()
    for question in real_questions:
        for question_type in QUESTION_TYPES:
            candidates = build_candidates(question_type, {"options": COLOR_VOCAB[:4]})
            prefix, branch = prompt_parts(question_type, question, candidates, style, real_processor)
            assert tokenize(prefix) + tokenize(branch) == tokenize(prefix + branch), (question_type, question)
            prefixes.add(prefix)
    assert len(prefixes) == 1, "one prefix for all questions"
    ids = tokenize(prefixes.pop())
    names = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    assert ids[-3:] == [real_processor.tokenizer.convert_tokens_to_ids(name) for name in names]


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_the_processor_agrees_with_an_image(real_processor, real_questions, style):
    from PIL import Image

    image = Image.new("RGB", (84, 56))  # 6 x 4 patches, merged 2 x 2: 6 image tokens
    for question in real_questions[::10]:
        prefix, branch = prompt_parts("yes_no", question, ["yes", "no"], style, real_processor)
        whole = real_processor(text=[prefix + branch], images=[image])["input_ids"][0]
        ids = real_processor(text=[prefix], images=[image])["input_ids"][0]
        assert list(ids) + real_processor.tokenizer(branch, add_special_tokens=False)["input_ids"] == list(whole)
        assert list(whole).count(real_processor.image_token_id) == 6


def test_the_real_chat_template_shows_the_fields_once(real_processor):
    prefix, branch = prompt_parts("yes_no", "Is there a polyp?", ["yes", "no"], "chat", real_processor)
    assert prefix == (
        "<|im_start|>system\nYou are a surgical VQA assistant. Answer concisely with only the final answer.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
    )
    assert branch == ("Question type: yes_no\nQuestion: Is there a polyp?\nValid answers: yes, no<|im_end|>\n<|im_start|>assistant\n")
