"""Question types and their candidate answers: the rules that users edit.

A new question type needs both functions below and nothing else; the prompt, the constraint, the predictions and the
evaluation table follow.
"""

COLOR_VOCAB = ["pink", "red", "white", "yellow", "flesh", "orange", "brown", "black", "blue", "green", "grey", "purple"]

# The order of the evaluation table. Types that users add come after these, in alphabetical order.
QUESTION_TYPES = ["yes_no", "color", "count_numeric", "size_numeric", "mcq", "open_ended"]


def infer_question_type(question, options=None):
    """Return the type of a question (str) from its wording; a question with `options` is multiple choice."""
    text = question.lower().strip()
    if options:
        return "mcq"
    if "yes or no" in text or text.startswith(("is ", "are ")):
        return "yes_no"
    if "color" in text or "colour" in text:
        return "color"
    if any(word in text for word in ("size", "length", "diameter")):
        return "size_numeric"
    if "how many" in text or "count" in text:
        return "count_numeric"
    if any(word in text for word in ("choose", "options", "mcq")):
        return "mcq"
    return "open_ended"


def build_candidates(question_type, sample):
    """Return the list of valid answers of a row (dict), or None where any answer may be given.

    Looks at the question and its options only. The row's own answer must never decide: that would leak it.
    """
    if question_type == "yes_no":
        return ["yes", "no"]
    if question_type == "color":
        return COLOR_VOCAB
    if question_type == "mcq":
        return sample.get("options") or None
    return None
