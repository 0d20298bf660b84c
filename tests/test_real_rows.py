"""Every real Kvasir-VQA row with the real Qwen2-VL processor, from JSONL to tokens and labels.

Nine rows without a question are junk, which enrichment leaves out.

SURGVQA_SHARED=… python -m pytest tests/test_real_rows.py -v
"""

import random
from collections import Counter
from functools import lru_cache

import pytest
from PIL import Image

from config import load_config
from data.images import load_image
from data.matching import normalize_answer
from data.preprocess import ensure_enriched
from data.schema import infer_question_type
from dataset import VQADataset, encode_answer, label_set_grammar, load_dataset
from model.load import load_model_config, load_processor
from model.token_tree import IGNORE_INDEX
from templates import prompt_parts


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared):
    """(config, rows, dataset): 8,777 of the 8,786 rows; their images, which can't be shipped, are stood in for by five real frames."""
    from files import read_jsonl

    folder = tmp_path_factory.mktemp("kvasir")
    source = shared / "real-data" / "kvasir_vqa" / "val.jsonl"
    frames = sorted((shared / "real-data" / "kvasir_seg" / "images").iterdir())
    for index, name in enumerate(dict.fromkeys(row["image_filename"] for _, row in read_jsonl(source))):
        (folder / name).symlink_to(frames[index % len(frames)])
    settings = {
        "model_name": shared / "qwen2-vl-processor",
        "data.train_jsonl": source,
        "data.image_root": folder,
        "output_dir": folder / "out",
    }
    cfg = load_config(None, [f"{key}={value}" for key, value in settings.items()])
    rows = ensure_enriched(cfg, "train")
    return cfg, rows, load_dataset(rows, load_processor(cfg), cfg)


def test_types_are_the_users_by_the_rules_and_corrected_when_mined(real):
    # without the two rows whose answer only one image has, `pylorus` and `capsule endoscopy`
    by_rules = {"yes_no": 3011, "open_ended": 3301, "count_numeric": 1512, "size_numeric": 476, "color": 475}
    assert Counter(infer_question_type(row["question"]) for row in real[1]) == by_rules
    mined = {"yes_no": 2749, "mcq": 3563, "count_numeric": 1512, "size_numeric": 476, "color": 475}
    assert Counter(row["question_type"] for row in real[1]) == mined


def test_a_constraint_never_forces_a_wrong_answer(real):
    constrained = [row for row in real[1] if row["answer_candidates"]]
    assert all(set(row["answer"].split("; ")) <= set(row["answer_candidates"]) for row in constrained)
    assert all(row["multi_label"] or row["answer"] in row["answer_candidates"] for row in constrained)
    unconstrained = Counter(row["question"] for row in real[1] if not row["answer_candidates"])
    assert unconstrained == {"What color is the anatomical landmark? If more than one separate with ;": 13}


def test_every_answer_of_every_real_vocabulary_can_be_walked_and_nothing_else(real):
    cfg, rows, dataset = real
    tokenizer, rng = dataset.processor.tokenizer, random.Random(0)
    answers, walked = {}, 0
    for row in rows:
        if row["multi_label"] and row["answer_candidates"]:
            answers.setdefault(tuple(row["answer_candidates"]), set()).add(row["answer"])
    for labels, seen in answers.items():
        grammar = label_set_grammar(tokenizer, labels)
        for answer in seen:
            assert grammar.after(encode_answer(tokenizer, answer)).allowed() == []
        for _ in range(300):
            node, ids = grammar, []
            while node.allowed():
                ids.append(rng.choice(node.allowed()))
                node = node.children[ids[-1]]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            found = text.split("; ")
            assert ids == encode_answer(tokenizer, text) and found == [label for label in labels if label in found]
            assert len(found) == 1 or set(found).isdisjoint(("none", "not relevant"))
            walked += len(found) > 1
    assert len(answers) == 6 and walked > 300


@pytest.mark.slow("the real processor reads every real row")
def test_every_row_is_encoded_as_the_processor_would_and_supervises_its_answer(real):
    cfg, _, dataset = real
    processor = dataset.processor
    seen = 0

    @lru_cache(None)  # the rows share their few hundred prompt-and-frame combinations
    def whole_prompt(prompt, frame):
        image = load_image(frame, cfg.image)
        encoded = processor(text=[prompt], images=[image], return_tensors="pt")
        assert (encoded["input_ids"] == processor.image_token_id).sum() == encoded["image_grid_thw"].prod() // 4
        return encoded["input_ids"][0].tolist()

    for rows in dataset.groups:
        tree, leaves = dataset.tree(rows)
        ends = [index for index, label in enumerate(tree.labels) if label == processor.tokenizer.eos_token_id]
        frame = (dataset.image_root / rows[0]["image"]).resolve()
        for row, leaf, end in zip(rows, leaves, ends, strict=True):
            prompt = "".join(prompt_parts(row["question_type"], row["question"], row["answer_candidates"]))
            path = tree.path(end)
            prompt_ids, answer = whole_prompt(prompt, frame), [tree.labels[node] for node in path if tree.labels[node] != IGNORE_INDEX]
            assert [tree.input_ids[node] for node in tree.path(leaf)] == prompt_ids
            assert [tree.input_ids[node] for node in path] == prompt_ids + answer
            assert processor.tokenizer.decode(answer) == row["answer"] + "<|im_end|>" and answer[-1] == 151645
            assert normalize_answer(row["answer_raw"]).split("; ") == row["answer"].split("; ") or row["multi_label"]
            seen += 1
    assert seen == 8775


def test_one_epoch_shares_most_image_tokens(real):
    """About nine questions an image: one row each would compute several times the tokens."""
    _, rows, dataset = real
    shared = sum(len(dataset.tree(group)[0]) for group in dataset.groups)
    separate = sum(len(tree.path(leaf)) for group in dataset.groups for tree, leaves in [dataset.tree(group)] for leaf in leaves)
    assert len(dataset.groups) == 966 and separate / shared > 3


@pytest.mark.parametrize("train_bs, grad_accum", [(4, 2), (16, 1), (8, 4)])
def test_padding_stays_below_five_percent_though_images_have_1_to_18_questions(real, train_bs, grad_accum):
    cfg, rows, dataset = real
    train = cfg.train.model_copy(update={"train_bs": train_bs, "grad_accum": grad_accum})
    data = VQADataset(
        rows, dataset.processor, cfg.model_copy(update={"train": train}), dataset.sizes, load_model_config(cfg), training=True
    )
    trees = [{"tree": data.tree(group)[0]} for group in data.groups]
    unique = computed = 0
    for at in range(0, len(trees), train_bs):
        lengths = [sum(len(item["tree"]) for item in row) for row in data.pack(trees[at : at + train_bs])]
        unique, computed = unique + sum(lengths), computed + len(lengths) * max(lengths)
    assert unique == sum(len(dataset.tree(group)[0]) for group in dataset.groups)
    assert computed <= 1.05 * unique


def test_frames_keep_their_size_limits(real):
    cfg, _, dataset = real
    assert set(dataset.image_tokens.values()) <= set(range(200, 257))
    assert Image.open(dataset.image_root / dataset.groups[0][0]["image"]).size >= (600, 500)
