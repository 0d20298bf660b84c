"""Rows to tokens and labels: the label mask, the collator, and a viewer that shows both.

    python dataset.py --config config_demo.yaml --show 3

One item is one image with its questions, as a token tree. Labels are IGNORE_INDEX on prompt, image and padding, and the
answer's tokens and EOS elsewhere.
"""

import random
import sys
from functools import lru_cache, partial
from itertools import chain, combinations, groupby
from typing import NamedTuple

from files import UserError, quoted, run_script, short, use_color  # first: from here on a missing package is one line

# isort: split
import torch
from torch.utils.data import Dataset

from config import SPLITS, PromptConfig, argument_parser, check_transformers, load_config
from constraints import LabelSetGrammar
from data.answer_space import EXCLUSIVE
from data.earlier_answers import EARLIER, with_earlier_answers
from data.image_names import image_path, images_of
from data.images import check_images, image_token_count, load_image
from data.preprocess import ensure_enriched
from data.rows import group_by_image
from data.stages import needed_stage, shown_question
from model.forward import attention_par, why_rows_stay_plain
from model.load import compute_dtype, load_model_config, load_processor
from model.token_tree import IGNORE_INDEX, TokenTree, ancestor_mask, batch_trees, pack_rows
from model.tree_attention import dense_mask, tree_layout
from templates import prompt_parts

# What a batch holds: questions, tokens without padding, tokens with it, and tokens that one row a question would have had.
COUNTS = ("questions", "tokens", "padded_tokens", "plain_tokens")
DIM, BLUE, GREEN, RESET = "\033[2m", "\033[34m", "\033[1;32m", "\033[0m"


def encode_answer(tokenizer, answer, answer_prefix=""):
    """Token ids of an answer and EOS: what is supervised in training and scored in prediction.

    Encoded apart from the prompt, because together `:` and `no` merge into one token.
    """
    return tokenizer(answer_prefix + answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]


def encode_candidates(tokenizer, candidates, answer_prefix=""):
    """Token ids of each candidate answer, EOS included."""
    return [encode_answer(tokenizer, candidate, answer_prefix) for candidate in candidates]


@lru_cache(256)  # a data set has few vocabularies
def label_set_grammar(tokenizer, labels, answer_prefix=""):
    """The grammar of label lists over a vocabulary (tuple, in canonical order) for this tokenizer.

    Raises UserError where the tokens of `a; b` are not those of `a;` and ` b`: training never saw such lists.
    """
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token
    exclusive = [index for index, label in enumerate(labels) if label in EXCLUSIVE]
    grammar = LabelSetGrammar(
        encode_candidates(tokenizer, labels, answer_prefix),
        first=[encode(f"{answer_prefix}{label};") for label in labels],
        middle=[encode(f" {label};") for label in labels],
        last=[encode(f" {label}{eos}") for label in labels],
        exclusive=exclusive,
    )
    joined = [label for label in labels if label not in EXCLUSIVE]
    for some in [*combinations(joined, 2), joined]:
        ids = encode_answer(tokenizer, "; ".join(some), answer_prefix)
        try:
            grammar.after(ids)
        except KeyError:
            names = short(", ".join(some))
            raise UserError(f"the labels {names} can't be told apart in a list; rename them in the data") from None
    return grammar


def encode_prompt(processor, row, style="plain", max_listed=None, words=PromptConfig(), images=1, stage_prefix="keep"):
    """Return `(prefix_ids, branch_ids)` of a row's prompt; the prefix holds one unexpanded image token for each of its `images`.

    Encoding the two apart gives the ids of the whole prompt, because the cut follows a special token. images: their number.
    """
    fields = prompt_fields(row, max_listed, stage_prefix)
    prefix, branch = prompt_parts(*fields, style, processor, words, images, row.get(EARLIER, ()))
    encode = lambda text: processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return encode(prefix), encode(branch)


def prompt_fields(row, max_listed=None, stage_prefix="keep"):
    """What a row's prompt says: type, question, and the valid answers unless they are more than `max_listed`. stage_prefix: see
    `stages.shown_question`."""
    candidates = row["answer_candidates"]
    listed = candidates and (max_listed is None or len(candidates) <= max_listed)
    return row["question_type"], shown_question(row, stage_prefix), candidates if listed else None


def expand_image_tokens(prefix_ids, image_token_id, counts):
    """Repeat each of the prefix's image tokens as often as `counts` (a number for each image, in order) says."""
    counts = iter(counts)
    return [token for token in prefix_ids for _ in range(next(counts, 1) if token == image_token_id else 1)]


def split_groups(groups, questions_per_image, rng):
    """Split each image's rows into ceil(q / n) random groups of at most n rows; `all` leaves them whole."""
    if questions_per_image == "all":
        return groups
    result = []
    for rows in groups:
        rows = rng.sample(rows, len(rows))
        parts = -(-len(rows) // questions_per_image)
        result += [rows[part::parts] for part in range(parts)]  # sizes differ by at most one
    return result


def order_by_step(lengths, images_per_step, rng, micro_batch=None):
    """A random order of images in which those of one optimizer step stand by length, so that its micro-batches pad little.

    Which images meet in a step stays random, and a step's gradient does not depend on how its images are split, so this
    changes no result. The step with the heaviest micro-batch (of so many images; default: the whole step) comes first: if memory
    doesn't suffice, that is known at once. Where that is the last, smaller step, it is filled up from the next heaviest, whose
    shortest images come last instead.
    """
    order = rng.sample(range(len(lengths)), len(lengths))
    steps = [order[at : at + images_per_step] for at in range(0, len(order), images_per_step)]
    steps = [sorted(step, key=lambda index: lengths[index]) for step in steps]
    weight = lambda step: heaviest_micro_batch([lengths[index] for index in step], micro_batch or images_per_step)
    first = max(steps, key=weight)
    steps.remove(first)
    if steps and len(first) < images_per_step:
        other = max(steps, key=weight)
        steps.remove(other)
        first = sorted(first + other[len(first) :], key=lambda index: lengths[index])
        steps.append(other[: len(order) % images_per_step])
    return [index for step in [first, *steps] for index in step]


def order_by_stage(stages, lengths, images_per_step, rng):
    """A random order of trees in which the stages (a number for each) rise; those of one optimizer step stand by length."""
    order = sorted(rng.sample(range(len(stages)), len(stages)), key=stages.__getitem__)
    steps = [order[at : at + images_per_step] for at in range(0, len(order), images_per_step)]
    return [index for step in steps for index in sorted(step, key=lengths.__getitem__)]


def heaviest_micro_batch(lengths, micro_batch):
    """Tokens of the heaviest micro-batch of images in this order."""
    return max(sum(lengths[at : at + micro_batch]) for at in range(0, len(lengths), micro_batch))


class Part(NamedTuple):
    """Rows about one image, an item of a dataset. counts=False: only computed along, where a process has nothing to do."""

    rows: list
    counts: bool = True


class VQADataset(Dataset):
    """Images with their questions as token trees. What is said of an image is true of a row's list of images, which is one item.

    rows: enriched rows (dicts). sizes: `{image name: (width, height)}` from `images.check_images`. supervised=False
    leaves the answers out (prediction). training=True groups and orders the images anew each epoch (`set_epoch`) and
    packs several into a row, as `train.*` says for `world_size` processes; else each image has its row and the order is
    that of the rows. With train.order=stages an item of training is an image's questions of one stage. A model whose rows
    have to stay plain (`model.why_rows_stay_plain` of model_config) gets one row a question. Every row is encoded here, so
    a row longer than max_seq_len is an error now and not in the middle of a run.

    first_draw: the draw that the first epoch takes; default: of all epochs' the one with the heaviest micro-batch, so that the
    first step of a training needs the most memory. drawn_bs: the train.train_bs by whose micro-batches that was chosen. A run that is
    resumed keeps its own of both. shown: a `perturb.Shown` that puts something else in the pictures' place.
    """

    def __init__(
        self,
        rows,
        processor,
        cfg,
        sizes,
        model_config,
        supervised=True,
        training=False,
        world_size=1,
        first_draw=None,
        drawn_bs=None,
        shown=None,
    ):
        self.processor, self.cfg, self.supervised, self.training, self.shown = processor, cfg, supervised, training, shown
        self.shared, self.attention_par = why_rows_stay_plain(model_config) is None, attention_par(model_config)
        self.images_per_step = cfg.train.train_bs * cfg.train.grad_accum * world_size
        self.image_root = cfg.image_folder()
        self.special_tokens = list(processor.tokenizer.get_added_vocab())
        self.in_stages = training and cfg.train.order == "stages"
        self.sizes, self.image_groups = sizes, group_by_image(rows, needed_stage if self.in_stages else None)
        self.image_tokens = {name: self._count_tokens(name, size) for name, size in sizes.items()}
        self.prefixes = {}  # of so many images -> prefix ids
        self.branches, self.answers = {}, {}  # what is encoded already
        self.encoded = {}  # row id -> (branch_ids, answer_ids)
        self.encode(rows)
        self.drawn_bs = drawn_bs or cfg.train.train_bs
        self.first_draw = self._heaviest_draw() if training and first_draw is None else first_draw or 0
        self.set_epoch(0)

    def encode(self, rows):
        """Take up the ids of rows as they are now. Raises UserError for one that can't be asked, or is too long."""
        self.encoded |= {row["id"]: self._encode_row(row) for row in rows}

    def set_epoch(self, epoch):
        """Redraw groups and order of an epoch, which covers every question once; a function of train.seed and epoch (and first_draw)."""
        self.epoch = epoch
        self.groups = self._draw({0: self.first_draw, self.first_draw: 0}.get(epoch, epoch))

    def _draw(self, number):
        rng = random.Random(f"{self.cfg.train.seed}:{number}")
        groups = split_groups(self.image_groups, self._cap(), rng)
        if not self.training:
            return groups
        lengths = list(map(self.count_tokens, groups))
        if self.in_stages:
            stages = [needed_stage(rows[0]) for rows in groups]
            return [groups[index] for index in order_by_stage(stages, lengths, self.images_per_step, rng)]
        return [groups[index] for index in order_by_step(lengths, self.images_per_step, rng, self.drawn_bs)]

    def _cap(self):
        """Most questions of a group."""
        if not self.supervised and self.cfg.predict.cascade:
            return "all"  # its stages are answered one after another
        return 1 if not self.shared else self.cfg.train.questions_per_image if self.training else "all"

    def _heaviest_draw(self):
        groups = len(split_groups(self.image_groups, self._cap(), random.Random(0)))
        epochs = -(-self.cfg.train.steps(groups, self.images_per_step) // -(-groups // self.images_per_step))
        first_step = lambda number: [self.count_tokens(rows) for rows in self._draw(number)[: self.images_per_step]]
        return max(range(epochs), key=lambda number: heaviest_micro_batch(first_step(number), self.drawn_bs))

    def count_tokens(self, rows):
        """Tokens of one image's tree."""
        return self.prefix_length(rows[0]) + sum(map(len, chain.from_iterable(self.encoded[row["id"]] for row in rows)))

    def images(self, row):
        """Names of the images that are read for a row."""
        return images_of(self.shown.instead(row) if self.shown else row, self.cfg.data.max_frames)

    def prefix_length(self, row):
        names = self.images(row)
        return len(self._prefix_ids(row, len(names))) + sum(self.image_tokens[name] - 1 for name in names)

    def _prefix_ids(self, row, images):
        """The ids before every question about so many images, one token an image; any row has the same."""
        if images not in self.prefixes:
            self.prefixes[images] = self._encode_prompt(row, images)[0]
        return self.prefixes[images]

    def _encode_prompt(self, row, images):
        cfg = self.cfg
        return encode_prompt(self.processor, row, cfg.prompt_style, cfg.data.max_listed, cfg.prompt, images, cfg.data.stage_prefix)

    def _count_tokens(self, name, size):
        try:
            size = self.shown.size(size) if self.shown else size
            return image_token_count(size, self.cfg.image, *patch_sizes(self.processor))
        except UserError as error:
            raise UserError(f"image {short(name)}: {error}") from None

    def _encode_row(self, row):
        """Return (branch_ids, answer_ids); answer_ids is empty without supervision."""
        if self.supervised and row.get("answer") is None:
            raise UserError(f"row {quoted(row['id'])}: has no answer; training and validation need one")
        images = len(self.images(row))
        branch_ids, answer_ids = self._branch_ids(row, images), self._answer_ids(row)
        length = self.prefix_length(row) + len(branch_ids) + len(answer_ids)
        if length > self.cfg.train.max_seq_len:
            others = f"image.max_pixels or data.max_frames (it has {images} images)" if images > 1 else "image.max_pixels"
            told = " with the answers that it may be told of" if row.get(EARLIER) else ""
            raise UserError(
                f"row {quoted(row['id'])}: is {length} tokens long{told}, over train.max_seq_len={self.cfg.train.max_seq_len}; "
                f"raise it, lower {others} or shorten the row (rows are never cut)"
            )
        return branch_ids, answer_ids

    def _branch_ids(self, row, images):
        """The ids of a row's question and valid answers, encoded once: thousands of rows ask the same."""
        shown = shown_question(row, self.cfg.data.stage_prefix)
        asked = row["question_type"], shown, tuple(row["answer_candidates"] or ()), images, row.get(EARLIER, ())
        if asked not in self.branches:
            self._refuse_special_tokens(row, "question", [row["question"]])
            self._refuse_special_tokens(row, "valid answers", row["answer_candidates"] or [])
            self._refuse_special_tokens(row, "context of earlier answers", list(chain.from_iterable(row.get(EARLIER, ()))))
            self.branches[asked] = self._encode_prompt(row, images)[1]
        return self.branches[asked]

    def _answer_ids(self, row):
        answer = row.get("answer") or ""
        if answer not in self.answers:
            self._refuse_special_tokens(row, "answer", [answer])
            tokenizer, prefix = self.processor.tokenizer, self.cfg.answer_prefix
            self.answers[answer] = encode_answer(tokenizer, answer, prefix) if self.supervised else []
        return self.answers[answer]

    def _refuse_special_tokens(self, row, field, values):
        """Text like `<|im_end|>` would become the token, and end an answer or stand for an image."""
        found = [token for token in self.special_tokens if any(token in value for value in values)]
        if found:
            raise UserError(f"row {quoted(row['id'])}: the {field} contains {quoted(found[0])}; remove it")

    def __len__(self):
        return len(self.groups)

    def tree(self, rows):
        """Token tree of one image's rows, and the index of each question's last token."""
        names = self.images(rows[0])
        counts = [self.image_tokens[name] for name in names]
        tree = TokenTree(expand_image_tokens(self._prefix_ids(rows[0], len(names)), self.processor.image_token_id, counts))
        leaves = []
        for row in rows:
            branch_ids, answer_ids = self.encoded[row["id"]]
            leaves.append(tree.grow(tree.root, branch_ids))
            tree.grow(leaves[-1], answer_ids, supervised=True)
        return tree, leaves

    def __getitem__(self, index):
        """One image, or list of k: its rows, tree, and the processor's `pixel_values` (patches, 1176) and `image_grid_thw` (k, 3).

        index: a number, or a Part.
        """
        rows, counts = index if isinstance(index, Part) else Part(self.groups[index])
        names, (patch_size, merge_size) = self.images(rows[0]), patch_sizes(self.processor)
        change = lambda name: self.shown and partial(self.shown.change, name)
        loaded = [load_image(image_path(self.image_root, name), self.cfg.image, patch_size, change(name)) for name in names]
        pixels = self.processor.image_processor(images=loaded, do_resize=False, return_tensors="pt")
        tree, leaves = self.tree(rows)
        if not counts:
            rows, tree.labels = [], [IGNORE_INDEX] * len(tree)
        input_ids, labels = tree.input_ids, tree.labels
        for name, patches in zip(names, pixels["image_grid_thw"].prod(1).tolist(), strict=True):
            if patches != self.image_tokens[name] * merge_size**2:
                raise UserError(f"image {short(name)}: changed on disk while it was used; start again")
        return {"rows": rows, "images": names, "tree": tree, "leaves": leaves, "input_ids": input_ids, "labels": labels, **pixels}

    def about_same_images(self, item, rows):
        """An item as `item`, whose images stay, with these rows."""
        tree, leaves = self.tree(rows)
        return {**item, "rows": rows, "tree": tree, "leaves": leaves, "input_ids": tree.input_ids, "labels": tree.labels}

    def pack(self, items):
        """Lists of the items that share a row of the batch: in training several images up to train.tokens_per_row tokens."""
        if not (self.training and self.shared):
            return [[item] for item in items]
        rows = pack_rows([len(item["tree"]) for item in items], self.cfg.train.tokens_per_row, self.attention_par)
        return [[items[index] for index in row] for row in rows]

    def collate(self, items):
        """Batch items for the model: see `token_tree.batch_trees`; plus what tokens see, image patches and token types.

        Supervised trees come with their `tree_attention.tree_layout`; others, whose branches will fork, with `attention_mask`.

        pixel_values: (patches of all images, 1176) in the model's dtype, each image once. image_grid_thw: (images, 3) int64.
        image_index: (N,) int64, the image of each tree; more than N where trees have several, tree by tree. mm_token_type_ids:
        (B, T), 1 at image tokens. counts: (4,) int64, see COUNTS.
        """
        rows = self.pack(items)
        items = [item for row in rows for item in row]
        trees = [[item["tree"] for item in row] for row in rows]
        batch = batch_trees(trees, self.processor.tokenizer.pad_token_id)
        batch |= tree_layout(trees, batch["input_ids"].shape[1]) if self.supervised else {"attention_mask": ancestor_mask(trees)}
        images, seen = _images_once(items)
        batch["mm_token_type_ids"] = (batch["input_ids"] == self.processor.image_token_id).int()
        # as the tower takes them: half of what float32 would take of shared memory
        batch["pixel_values"] = torch.cat([patches for patches, _ in images.values()]).to(compute_dtype(self.cfg))
        batch["image_grid_thw"] = torch.stack([grid for _, grid in images.values()])
        batch["image_index"] = torch.tensor([list(images).index(name) for name in seen])
        plain = sum(self.count_tokens([row]) for item in items for row in item["rows"])
        unique = sum(len(item["tree"]) for item in items if item["rows"])
        batch["counts"] = torch.tensor([sum(len(item["rows"]) for item in items), unique, batch["input_ids"].numel(), plain])
        return batch


def _images_once(items):
    """({image name: its patches and grid}, names of the items' images in order)."""
    found, seen = {}, []
    for item in items:
        grids = item["image_grid_thw"]
        found |= dict(zip(item["images"], zip(item["pixel_values"].split(grids.prod(1).tolist()), grids)))
        seen += item["images"]
    return found, seen


def load_dataset(rows, processor, cfg, model_config=None, **kwargs):
    """A VQADataset of enriched rows, after every image has been checked; by default for the configured model. kwargs go to VQADataset."""
    shown = kwargs.get("shown")
    seen = [shown.instead(row) for row in rows] if shown else rows
    sizes = check_images(seen, cfg.image_folder(), cfg.output_dir / "data" / "images.json", cfg.data.max_frames)
    return VQADataset(rows, processor, cfg, sizes, model_config or load_model_config(cfg), **kwargs)


def training_rows(cfg, split, space=None):
    """Enriched rows of a split as training puts them: with `train.cascade: gold` each is told the true answers of its image's earlier
    stages."""
    rows = ensure_enriched(cfg, split, space)
    return with_earlier_answers(rows, {row["id"]: row.get("answer") or "" for row in rows}) if cfg.train.cascade == "gold" else rows


def say_what_is_thinned(rows, cfg, say=print):
    """One line if rows have more images than `data.max_frames`."""
    most = cfg.data.max_frames
    longer = [len(images_of(row)) for row in rows if most and len(images_of(row)) > most]
    if longer:
        how = "so many are read, evenly spaced, the first and the last among them" if most > 1 else "the middle one is read"
        say(f"note: {len(longer):,} of {len(rows):,} rows have more images than data.max_frames={most} (up to {max(longer)}); {how}")


def first_images(rows, count):
    """The rows of the first `count` images."""
    return [row for group in group_by_image(rows)[:count] for row in group]


def patch_sizes(processor):
    """(patch_size, merge_size) of a processor: pixels of a patch's side, patches of an image token's side."""
    return processor.image_processor.patch_size, processor.image_processor.merge_size


def check_first_batch(dataset, images=8):
    """`check_supervision` of the first images of a training set: every training run begins with it."""
    items = [dataset[index] for index in range(min(images, len(dataset)))]
    groups = [[row for item in packed for row in item["rows"]] for packed in dataset.pack(items)]
    check_supervision(dataset.collate(items), groups, dataset.processor, dataset.cfg)


def check_supervision(batch, groups, processor, cfg):
    """Raise UserError unless a collated batch trains exactly the answers of `groups` (lists of rows, one per batch row).

    It starts from the rows' text and knows nothing of how the tree was built: each answer and EOS, encoded on its own,
    must be supervised once, at its own tokens, after the ids of its whole prompt, and nothing else may be.
    """
    masks = dense_mask(batch, len(groups))
    for ids, labels, mask, rows in zip(batch["input_ids"], batch["labels"], masks, groups, strict=True):
        supervised = (labels != IGNORE_INDEX).nonzero()[:, 0].tolist()
        for row in rows:
            answer = cfg.answer_prefix + row["answer"] + processor.tokenizer.eos_token
            answer_ids = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            at, supervised = supervised[: len(answer_ids)], supervised[len(answer_ids) :]
            _require(labels[at].tolist() == answer_ids, row, "its labels are not its answer's tokens and EOS")
            _require(ids[at].tolist() == answer_ids, row, "its labels stand beside other tokens than their own")
            seen = ids[mask[at[-1]]].tolist()
            _require(seen == whole_prompt_ids(processor, row, cfg, seen) + answer_ids, row, "its answer does not see its prompt")
        _require(not supervised, rows[-1], "tokens beyond the answers are supervised")


def whole_prompt_ids(processor, row, cfg, like_ids):
    """Ids of a row's prompt encoded in one piece, with as many tokens of each image as `like_ids` has."""
    images = len(images_of(row, cfg.data.max_frames))
    fields = prompt_fields(row, cfg.data.max_listed, cfg.data.stage_prefix)
    prompt = "".join(prompt_parts(*fields, cfg.prompt_style, processor, cfg.prompt, images, row.get(EARLIER, ())))
    prompt_ids = processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    counts = [len(list(run)) for token, run in groupby(like_ids) if token == processor.image_token_id]
    return expand_image_tokens(prompt_ids, processor.image_token_id, counts)


def _require(condition, row, problem):
    if not condition:
        raise UserError(f"label mask broken at row {quoted(row['id'])}: {problem}; check dataset.py and model/token_tree.py")


def show_item(item, processor, color=True):
    """Text of an item with prompt dim, image blue and supervised tokens green, and the supervised ids in full.

    Without `color` the supervised tokens stand in ⟦brackets⟧.
    """
    lines, tokenizer = [], processor.tokenizer
    tree = item["tree"]
    ends = [index for index, label in enumerate(tree.labels) if label == tokenizer.eos_token_id]
    for row, end in zip(item["rows"], ends):
        path = tree.path(end)
        spans = [("", "")]
        for node in path:
            token = tree.input_ids[node]
            kind = BLUE if token == processor.image_token_id else DIM if tree.labels[node] == IGNORE_INDEX else GREEN
            spans = spans if spans[-1][0] == kind else [*spans, (kind, [])]
            spans[-1][1].append(token)
        lines.append(f"row {row['id']}  image {', '.join(item['images'])}  {len(path)} tokens")
        lines.append("".join(_span_text(kind, ids, tokenizer, color) for kind, ids in spans[1:]))
        lines.append(f"supervised ids: {[tree.labels[node] for node in path if tree.labels[node] != IGNORE_INDEX]}\n")
    return "\n".join(lines)


def _span_text(kind, ids, tokenizer, color):
    text = f"<|image_pad|> x {len(ids)}" if kind == BLUE else tokenizer.decode(ids)
    if color:
        return f"{kind}{text}{RESET}"
    return f"⟦{text}⟧" if kind == GREEN else text


def main():
    parser = argument_parser("Show training samples: prompt dim, image blue, supervised tokens green.")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="how many samples (default 3)")
    parser.add_argument("--split", default="train", choices=SPLITS)
    args = parser.parse_intermixed_args()
    if args.show < 1:
        parser.error("--show must be at least 1")
    check_transformers()
    cfg = load_config(args.config, args.overrides)
    rows = training_rows(cfg, args.split)[: args.show]
    processor = load_processor(cfg)
    dataset = load_dataset(rows, processor, cfg)
    for index in range(len(dataset)):
        print(show_item(dataset[index], processor, use_color(sys.stdout)))


if __name__ == "__main__":
    run_script(main)
