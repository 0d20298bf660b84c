"""Does the tuned model look? Ask it the test questions beside the wrong images.

    bash run_exp1.sh                                          first: the trained demo
    python bench/swapped_images.py --config config_demo.yaml

Every image's questions are shown the next image's pixels. A model that looks then scores about what answering without an
image scores; one that scores higher has found a shortcut in the data.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import argument_parser, load_config
from data.rows import read_rows
from files import read_json, run_script, write_jsonl


def swap_images(rows):
    """The rows with the questions of each image moved to the next one, the last one's to the first."""
    images = list(dict.fromkeys(row["image"] for row in rows))
    following = dict(zip(images, images[1:] + images[:1]))
    return [{**row, "image": following[row["image"]]} for row in rows]


def main():
    parser = argument_parser("Does the tuned model look? Ask it the test questions beside the wrong images.", epilog=__doc__)
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    split = "test" if cfg.data.test_jsonl else "val"
    swapped, predictions = cfg.output_dir / "swapped.jsonl", cfg.output_dir / "predictions_swapped.jsonl"
    write_jsonl(swapped, swap_images(list(read_rows(cfg.split_path(split)))))
    common = ["--config", str(cfg.config_path), *args.overrides, f"data.{split}_jsonl={swapped}"]
    for command in (["predict_exp1.py", "--split", split, "--out", str(predictions)], ["eval_exp1.py", "--predictions", str(predictions)]):
        subprocess.run([sys.executable, str(ROOT / command[0]), *command[1:], *common], check=True, stdout=subprocess.DEVNULL)
    metrics = read_json(cfg.output_dir / "metrics_swapped.json")
    blind = metrics["blind_prior"]["micro"]
    print(
        json.dumps(
            {"rows": metrics["n"], "swapped": metrics["micro"], "blind_prior": blind, "difference": metrics["micro"] - blind}, indent=2
        )
    )
    return 0 if metrics["micro"] <= blind + 0.03 else 1


if __name__ == "__main__":
    run_script(main)
