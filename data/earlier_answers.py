"""A cascade: an image's questions of one stage are asked with the questions and answers of its stages before. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py predict.cascade=true")

from collections import defaultdict

from data.image_names import images_of
from data.rows import junk_reason
from data.stages import needed_stage, stage_of

EARLIER = "earlier answers"  # of a row: ((question, answer), …) that its prompt tells first; a key that no file's column has
WORDING = "wording number"  # of a reworded row: each wording of a split is a cascade of its own


def with_earlier_answers(rows, answers):
    """The rows (list of dicts), each with its EARLIER: the questions of its image's earlier stages and their `answers`.

    answers: {row id: text}, of true or predicted answers; what has none yet isn't told, nor is junk, which training leaves out. Told by
    stage and, within one, in the order of the rows. Rows of a first stage, and of images without an earlier one, have (). Raises
    UserError for a row without a stage.
    """
    told = defaultdict(list)  # of an image -> (stage, row), by stage
    key = lambda row: (*images_of(row), row.get(WORDING))
    for row in sorted(rows, key=needed_stage):  # stable
        if row["id"] in answers and not junk_reason(row["question"], answers[row["id"]]):
            told[key(row)].append((stage_of(row), (row["question"], " ".join(answers[row["id"]].split()))))
    return [{**row, EARLIER: tuple(said for stage, said in told[key(row)] if stage < stage_of(row))} for row in rows]
