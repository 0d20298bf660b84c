"""How long enrichment takes where every question is asked once, by language setting: reading, mining, applying, writing.

python bench/enrich.py                       300,000 questions in each setting; minutes
python bench/enrich.py --questions 20000     fewer
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config import LANGUAGES, DataConfig
from data.preprocess import enrich_jsonl
from files import run_script, write_jsonl

ASKED = {
    "en": ["Is there a polyp of kind {}?", "What color is lesion {}?", "How many of type {} are seen?", "Where is finding {}?"],
    "de": ["Ist Polyp {} zu sehen?", "Welche Farbe hat Läsion {}?", "Wie viele Zangen vom Typ {} sind da?", "Wo liegt Befund {}?"],
    "fr": ["Y a-t-il un polype {} ?", "De quelle couleur est {} ?", "Combien de pinces {} y a-t-il ?", "Où se trouve la lésion {} ?"],
    "es": ["¿Hay un pólipo {}?", "¿De qué color es la lesión {}?", "¿Cuántas pinzas {} hay?", "¿Dónde está la lesión {}?"],
    "zh": ["图中是否有息肉{}？", "病变{}是什么颜色？", "有多少个{}号夹子？", "病灶{}在哪里？"],
}
LONG = (
    "In the course of this procedure, which of the instruments that were introduced by the assistant through the lateral trocar of case {} "
    "is the one that lies nearest to the gallbladder at the end of the sequence, and for what is it used?"
)
ANSWERS = ["yes", "red", "2", "lower-left; center", "a long answer {}"]
EVERY = ",".join(LANGUAGES)
CASES = [*((name, name) for name in ASKED), ("de", "de,en"), ("all", EVERY), ("long", "en"), ("long", EVERY)]


def rows(wording, count):
    """Rows that each ask another question, nine an image."""
    asked = {**ASKED, "all": sum(ASKED.values(), []), "long": [LONG]}[wording]
    for n in range(count):
        yield {"question": asked[n % len(asked)].format(n), "answer": ANSWERS[n % len(ANSWERS)].format(n), "image": f"{n // 9}.jpg"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=300_000)
    count = parser.parse_args().questions
    print(f"{'questions':<10} {'data.language':<16} {'CPU s':>7} {'µs a question':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for wording, languages in CASES:
            src = Path(folder) / "rows.jsonl"
            write_jsonl(src, rows(wording, count))
            settings, start = DataConfig(language=languages.split(",")), time.process_time()
            enrich_jsonl(src, src.with_name("enriched.jsonl"), settings=settings)
            seconds = time.process_time() - start
            print(f"{wording:<10} {languages:<16} {seconds:>7.1f} {seconds / count * 1e6:>14.0f}", flush=True)


if __name__ == "__main__":
    run_script(main)
