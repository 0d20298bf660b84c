"""Does the tuned model look? Ask it the questions of a split beside the wrong images.

    bash run_exp1.sh                                                          first: the trained demo
    python bench/swapped_images.py --config config_demo.yaml --split test

Every image's questions are shown the pixels of the next image, of another patient or video where rows have a `group`. A model
that looks then scores about what answering without an image scores; one that scores higher has found a shortcut in the data.
Exit code 1: it is more than 3 points above the blind prior. All that it writes goes to output_dir/swapped/.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import SPLITS, argument_parser, load_config
from data.image_names import images_of
from data.rows import read_rows
from data.text import group_of
from files import read_json, run_script, write_jsonl


def swap_images(rows):
    """The rows with the questions of each image moved to the next one of another group, the last one's to the first."""
    groups = {tuple(images_of(row)): group_of(row) or row["image"] for row in rows}
    images = list(groups)

    def following(place):
        others = images[place + 1 :] + images[:place]
        return next((image for image in others if groups[image] != groups[images[place]]), (others or images)[0])

    moved = {image: following(place) for place, image in enumerate(images)}
    return [{**row, "image": moved[tuple(images_of(row))][0], "images": [*moved[tuple(images_of(row))]]} for row in rows]


def main():
    parser = argument_parser("Does the tuned model look? Ask it the questions of a split beside the wrong images.", epilog=__doc__)
    parser.add_argument("--split", default="val", choices=SPLITS, help="whose questions (default val)")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    folder = cfg.output_dir / "swapped"
    rows, predictions = folder / "swapped.jsonl", folder / "predictions_swapped.jsonl"
    write_jsonl(rows, swap_images(list(read_rows(cfg.split_path(args.split)))))
    common = ["--config", str(cfg.config_path), *args.overrides, f"data.{args.split}_jsonl={rows}", f"output_dir={folder}"]
    predict = ["predict_exp1.py", "--split", args.split, "--adapter", str(cfg.output_dir / "adapter"), "--out", str(predictions)]
    for command in (predict, ["eval_exp1.py", "--predictions", str(predictions), "--against", str(rows), "--report", "none"]):
        subprocess.run([sys.executable, str(ROOT / command[0]), *command[1:], *common], check=True, stdout=subprocess.DEVNULL)
    metrics = read_json(folder / "metrics_swapped.json")
    blind = metrics["blind_prior"]["micro"]
    found = {"rows": metrics["n"], "swapped": metrics["micro"], "blind_prior": blind, "difference": metrics["micro"] - blind}
    print(json.dumps(found, indent=2))
    return 0 if metrics["micro"] <= blind + 0.03 else 1


if __name__ == "__main__":
    run_script(main)
