"""Draw docs/token_tree.png: an image with three questions as a token tree, and what each token of the flattened row sees.

    python docs/draw_token_tree.py

Tree, mask and supervised tokens are those of `model.token_tree.TokenTree`. Words stand for tokens, four "image" for 256.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from model.token_tree import IGNORE_INDEX, TokenTree  # noqa: E402

PREFIX = ["System: …", "image", "image", "image", "image", "image end"]
BRANCHES = [("Is there a polyp?", "yes EOS"), ("How many polyps?", "1 EOS"), ("What colour?", "pink; red EOS")]
KINDS = ["image prefix", "question", "answer, supervised"]
COLORS = ["#bbbbbb", "#88ccee", "#ee7733"]  # Tol's: told apart by all colour vision and, by brightness, in print
INK, SIZE = "#222222", 8


def kind(tree, node):
    return 0 if node <= tree.root else 1 if tree.labels[node] == IGNORE_INDEX else 2


def draw_tree(axes, tree, columns):
    height = lambda node: tree.anchors[node] + tree.depths[node] + 1.3 * (tree.depths[node] > 0)
    for node, column in enumerate(columns):
        y, line = height(node), (0.6, 0.6, 1.6)[kind(tree, node)]
        if node:
            parent = tree.parents[node]
            axes.plot([columns[parent], column], [height(parent) + 0.34, y - 0.34], color=INK, linewidth=0.8)
        style = dict(boxstyle="round,pad=0,rounding_size=0.1", mutation_aspect=3, edgecolor=INK, linewidth=line)
        axes.add_patch(FancyBboxPatch((column - 0.4, y - 0.34), 0.8, 0.68, facecolor=COLORS[kind(tree, node)], **style))
        axes.text(column - 0.37, y, node, size=SIZE - 2, va="center")
        axes.text(column + 0.05, y, tree.input_ids[node], size=SIZE, va="center", ha="center")
    for depth in range(max(tree.depths) + 1):
        text, y = f"p + {depth}" if depth else "position p", tree.root + depth + 1.3 * (depth > 0)
        axes.text(-0.5, y, text, size=SIZE, va="center", ha="right")
    axes.plot([-0.45, 0.55], [tree.root] * 2, color=INK, linewidth=0.6, linestyle=":")
    axes.set(xlim=(-0.95, 2.45), ylim=(max(map(height, range(len(tree)))) + 0.6, -0.6), title="Token tree")
    axes.legend(handles=[Patch(color=color, label=label) for color, label in zip(COLORS, KINDS)], loc="upper left", frameon=False)
    axes.axis("off")


def draw_mask(axes, tree):
    nodes, middle = range(len(tree)), [node + 0.5 for node in range(len(tree))]
    for row, column in tree.ancestors().nonzero().tolist():
        axes.fill_between([column, column + 1], row, row + 1, facecolor=COLORS[kind(tree, column)], edgecolor="white", linewidth=0.5)
    for first, _ in tree.branches():
        axes.axhline(first, color=INK, linewidth=0.5)
        axes.axvline(first, color=INK, linewidth=0.5)
    axes.set(xlim=(0, len(tree)), ylim=(len(tree), 0), aspect="equal", anchor="N", title="Attention mask of the flattened row")
    axes.set_yticks(middle, [f"{tree.input_ids[node]}  {node}" for node in nodes])
    axes.set_xticks(middle, nodes)
    axes.tick_params(length=0, labelsize=SIZE - 1.5)
    for node in filter(lambda node: kind(tree, node) == 2, nodes):
        axes.get_yticklabels()[node].set_bbox(dict(facecolor=COLORS[2], edgecolor="none", pad=1.2))
    axes.set_xlabel("a row is a token; coloured are the tokens that it attends to", size=SIZE)


tree, columns = TokenTree(PREFIX), [1] * len(PREFIX)  # the prefix stands above the middle branch
for column, (question, answer) in enumerate(BRANCHES):
    tree.grow(tree.grow(tree.root, question.split()), answer.split(), supervised=True)
    columns += [column] * (len(tree) - len(columns))
plt.rcParams.update({"axes.titlesize": SIZE + 2, "legend.fontsize": SIZE, "text.color": INK})
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
draw_tree(left, tree, columns)
draw_mask(right, tree)
figure.savefig(Path(__file__).with_name("token_tree.png"), dpi=160, metadata={"Software": None})
