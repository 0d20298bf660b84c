"""Run a script as it would be without one of this project's ideas, for `bench/ablation.py`.

    python bench/without.py question_type,label_mask train_exp1.py --config config_demo.yaml train.questions_per_image=1

question_type: no `Question type:` line in the prompt. label_mask: the loss is over the whole sequence, all text tokens of prompt and
answer, as training did before; a row has one question then. label_sets: lists of labels are answers like others, each a whole.
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def without_question_type():
    import templates

    block = templates.question_block

    def without_type(question_type, question, answer_candidates=None, words=templates.PromptConfig(), earlier=()):
        lines = block(question_type, question, answer_candidates, words, earlier).split("\n")
        lines.remove(f"{words.question_type}: {question_type}")
        return "\n".join(lines)

    templates.question_block = without_type


def without_label_mask():
    import dataset

    class WholeSequence(dataset.VQADataset):
        """Of training: validation, which chooses the adapter, scores answers alone."""

        def tree(self, rows):
            tree, leaves = super().tree(rows)
            if self.training:
                if len(rows) > 1:
                    raise SystemExit("error: the whole sequence is a row's own; set train.questions_per_image=1")
                image = self.processor.image_token_id
                tree.labels = [dataset.IGNORE_INDEX if token == image else token for token in tree.input_ids]
                tree.labels[0] = dataset.IGNORE_INDEX  # nothing stands before it
            return tree, leaves

    dataset.VQADataset = WholeSequence
    dataset.check_first_batch = lambda *_: None  # which requires that answers alone are trained


def without_label_sets():
    from data import answer_space, preprocess

    training_space = preprocess.training_space

    def mined_anew(cfg, *args, **kwargs):
        """The ladder, which looks at what is there with all ideas, may have left a space with label sets."""
        (cfg.output_dir / "data" / answer_space.SPACE_FILE).unlink(missing_ok=True)
        return training_space(cfg, *args, **kwargs)

    answer_space._are_label_lists = lambda counts: False
    preprocess.training_space = mined_anew


IDEAS = {"question_type": without_question_type, "label_mask": without_label_mask, "label_sets": without_label_sets}

if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[1].split(",")) <= IDEAS.keys():
        raise SystemExit(f"usage: python bench/without.py {','.join(IDEAS)} SCRIPT ARGUMENTS…")
    for idea in sys.argv[1].split(","):
        IDEAS[idea]()
    sys.argv = [str(ROOT / sys.argv[2]), *sys.argv[3:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
