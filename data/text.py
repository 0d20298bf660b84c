"""The same text in one form, before anything is compared: Unicode, case, dashes, spacing, and what nobody sees."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
import unicodedata
from functools import lru_cache

CLOSING = ".,!?:…。、।۔؟،"  # full stops and the like of several scripts, which say nothing at the end of an answer
DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
# What NFKC would lose: 10⁵ is not 105, ½ not 1⁄2, and ② on a picture is a mark.
MEANINGFUL = ("<super>", "<sub>", "<fraction>", "<circle>")
INVISIBLE = ("Cf", "Cc")  # zero-width space, byte order mark, soft hyphen, NUL
# Where other programs' prompts put a picture: LLaVA, ms-swift, Qwen, Phi, Gemma, GLM, InternVL, MiniCPM-V, Llama, Idefics. Marks of a
# chat, `<|im_start|>`, are none of them. Around one, a line end may have come as two letters, `\n`.
MEDIA = "image|img|video|vid|vision|frame|picture|audio"
PLACEHOLDER = rf"""\(?(?:<img>[^<>]*</img>|<image>\./</image>|(?:<|&lt;)\s*/?(?:{MEDIA})(?:[ _-]?\d+)?\s*/?(?:>|&gt;)|\[(?:{MEDIA})\]
    |\{{(?:{MEDIA})\}}|!\[[^\[\]\n]*\]\([^()\n]*\)
    |<\|(?:{MEDIA})[a-z_]*(?:_?\d+)?\|>|<image_?here>|<img_context>|<image_(?:soft_token|placeholder)>|<im_(?:start|patch|end)>|<fake_token_around_image>
    |<\|?(?:begin|end|start)_of_(?:image|video)\|?>)\)?"""
SPACE = r"(?:[\s\u200b\u2060\ufeff]|\\n)"
# BEFORE begins where a run of spaces does, or long runs would take minutes.
BEFORE, AROUND = rf"(?:(?<![\s\u200b\u2060\ufeff])(?<!\\n){SPACE}+)?", f"{SPACE}*"
# Of a prompt goes with it who speaks or what comes, at the start of a line, and the colon behind: `USER: <image>`, `<image>: `.
LABEL = rf"(?<![^\n])[ \t\#]*(?:user|human|question|{MEDIA})[ _\#-]*\d*[ ]*:\s*"
PLACEHOLDERS = re.compile(rf"{BEFORE}(?:{LABEL})?(?:{PLACEHOLDER}){AROUND}(?:[:,;]{AROUND})?", re.IGNORECASE | re.VERBOSE)
SPECIAL_TOKENS = re.compile(r"(?:\s*(?:<\|[^<>]*\|>|</?s>|<eos>|<pad>|<end_of_turn>|<end_of_utterance>))+[\s.,!?'\"”’。]*$")


@lru_cache(1 << 16)  # answers and questions repeat
def clean(text):
    """Fold a text's case, width and compatibility forms, dashes and spacing; drop invisible letters and closing special tokens.

    `５－１０ｍｍ` is `5-10mm`, `ﬁnding` `finding`; superscripts, fractions and circled numbers stay (Unicode's NFKC without these).
    """
    if not text.isascii():
        text = "".join(map(_folded, unicodedata.normalize("NFC", text))).translate(DASHES)
    text = text.lower()
    if not text.isprintable():
        text = "".join(
            letter for letter in text if letter.isspace() or letter.isprintable() or unicodedata.category(letter) not in INVISIBLE
        )
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join((SPECIAL_TOKENS.sub("", text) if "<" in text else text).split())


def strip_placeholders(text, everywhere=False):
    """A question without foreign image placeholders (`<image>`, `<|image_pad|>`, `<img>a.jpg</img>`) before and behind it.

    everywhere: without those at the edge of a line inside it, too, which a reader of conversations takes out.
    """
    if not any(sign in text for sign in ("<", "[", "{", "&lt;")):
        return text
    found = list(PLACEHOLDERS.finditer(text))
    start, end = 0, len(text)
    while found and found[0].start() == start:
        start = found.pop(0).end()
    while found and found[-1].end() == end:
        end = found.pop().start()
    return PLACEHOLDERS.sub(_of_a_line, text[start:end]) if everywhere else text[start:end]


def _of_a_line(found):
    return " " if "\n" in found[0] or "\\n" in found[0] else found[0]


def placeholder_inside(question):
    """The first foreign image placeholder that `strip_placeholders` left inside a question, or None; `[image]` may be plain text."""
    found = PLACEHOLDERS.search(question) if "<" in question or "&lt;" in question else None
    return found and re.sub(r"(?<=[>\])};])[:,;]$", "", found[0].strip())  # not the end of `&gt;`


def group_key(group):
    """A group (patient or video; text or int) as groups are compared: `P1`, `p1`, `P1 ` and `P1\\u200b` are one."""
    text = "".join(letter for letter in unicodedata.normalize("NFKC", str(group)) if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).split())


def group_of(row):
    """The `group_key` of a row's patient or video, or None where it names none: an empty cell of a table is no patient."""
    return None if row.get("group") is None else group_key(row["group"]) or None


def nearly_same_groups(groups):
    """A sorted pair of groups that differ in but leading zeros (`7` and `007`, `P1` and `P01`), or None where no two do."""
    first = {}
    for group in sorted(map(str, groups)):
        key = group_key(group)
        other, other_key = first.setdefault(re.sub(r"(?<![\d.])0+(?=\d)", "", key), (group, key))
        if other_key != key:
            return [other, group]
    return None


@lru_cache(1 << 12)
def _folded(letter):
    """A letter's compatibility form, or itself where that would lose its meaning or make it a space with an accent."""
    if "\ufe00" <= letter <= "\ufe0f":  # variation selectors: how the letter before is drawn
        return ""
    kind, *codes = unicodedata.decomposition(letter).split() or [""]
    if not kind.startswith("<") or kind in MEANINGFUL or (codes[0] == "0020" and len(codes) > 1):
        return letter
    return "".join(_folded(chr(int(code, 16))) for code in codes)
