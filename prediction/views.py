"""The ways in which a split is put to the model: as it is, and perturbed (data/perturb.py). Each fills its files in one pass. No torch.

Only pictures and wordings change: a reworded question keeps its type and its valid answers, all wordings of an image's questions hang
under one image prefix, and what is said of a mirrored picture is written as said of the picture itself. So every file is about the
split's own rows, and compares row by row with the plain one.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python predict_exp1.py --perturb black")

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

from data.contents import CACHE, picture_hashes
from data.earlier_answers import WORDING
from data.perturb import NotPossible, Shown, other_pictures, perturbations
from data.reword import wordings_of
from data.sides import MOVES, SIDES_FILE, moved_back, moved_row
from files import hash_of, sha256


@dataclass(frozen=True)
class View:
    """A split as it is put to the model.

    names: of the files (`black`; None for the plain one). rows: what is asked, ids unique over the files. places: {id asked: (number of
    its file, the split's own row)}. facts: {fact: value} on the perturbation, for the files' sidecars. left_out: what is said of rows
    that can't be asked so, or None.
    """

    names: list
    rows: list
    places: dict
    shown: Shown | None = None
    facts: dict | None = None
    left_out: str | None = None
    languages: tuple = ()

    def ids(self, file):
        """The split's ids of one file, in order."""
        return [row["id"] for place, row in self.places.values() if place == file]

    def own(self, row, answer):
        """(the split's row under the id asked, the `decode.Answer` about it, what else its prediction says) of a row asked."""
        own = self.places[row["id"]][1]
        if self.shown and self.shown.name in MOVES:
            back = lambda text: None if text is None else moved_back(self.shown.name, text, own, self.languages)
            scored = tuple((back(text), logprob) for text, logprob in answer.scored)
            answer = replace(answer, text=back(answer.text), scored=scored, greedy=back(answer.greedy))
        more = {"wording": row["question"]} if row["question"] != own["question"] and self.facts["name"] == "reworded" else {}
        return {**own, "id": row["id"]}, answer, more


def plain(rows):
    """The split as it is."""
    return View([None], rows, {row["id"]: (0, row) for row in rows})


def perturbed(name, cfg, all_rows, limit=None):
    """The View of a perturbation. all_rows: of the split, enriched; limit: so many are asked. Raises NotPossible where none can be."""
    rows, seed = all_rows[:limit], cfg.train.seed
    facts = {"name": name, "strength": perturbations()[name], "seed": seed}
    facts |= {"sides": sha256(SIDES_FILE)} if name in MOVES else {}
    if name == "reworded":
        return _reworded(rows, facts)
    donors = other_pictures(all_rows, seed, _copies(cfg, all_rows)) if name == "other_image" else {}
    shown, languages = Shown(name, seed, donors), tuple(cfg.data.languages)
    asked = [(moved_row(name, row, languages) if name in MOVES else row, row) for row in rows]
    asked = [(row, own) for row, own in asked if row is not None]
    if not asked:
        raise NotPossible(f"{name}: every row asks for a side or a place that data/sides.yaml can't move; there is nothing to predict")
    note = left_out(len(rows) - len(asked), rows, "their sides or places can't be moved with the picture (data/sides.yaml)")
    places = {row["id"]: (0, own) for row, own in asked}
    return View([name], [row for row, _ in asked], places, shown, facts, note, languages)


def _reworded(rows, facts):
    """All other wordings of the rows, one file for each first, second, … wording. Rows without any are left out."""
    most = max((len(wordings_of(row)) for row in rows), default=0)
    if not most:
        raise NotPossible("reworded: no question of this split has other wordings; add them to data/rewordings.yaml, or to the rows")
    asked, places = [], {}
    for row in rows:
        for number, wording in enumerate(wordings_of(row)):
            asked.append({**row, "id": f"{row['id']} (wording {number + 1})", "question": wording, WORDING: number})
            places[asked[-1]["id"]] = number, row
    without = sum(not wordings_of(row) for row in rows)
    note = left_out(without, rows, "their questions have no other wording (data/rewordings.yaml)")
    facts["wordings"] = hash_of([[row["id"], wordings_of(row)] for row in rows])
    return View([f"reworded_{number + 1}" for number in range(most)], asked, places, None, facts, note)


def left_out(number, rows, why):
    return f"{number:,} of {len(rows):,} rows are left out: {why}" if number else None


def _copies(cfg, rows):
    """Pairs of names of pictures that are the same file."""
    same = defaultdict(list)
    for name, content in picture_hashes(rows, cfg.image_folder(), cfg.output_dir / "data" / CACHE):
        if content:
            same[content].append(name)
    return [pair for names in same.values() for pair in pairwise(names)]


class Streams:
    """The PredictionStreams of a view's files, filled together; of files that are whole nothing is written. Used as one stream is."""

    def __init__(self, streams, view, overwrite):
        self.streams, self.places = streams, view.places
        self.open = [number for number, stream in enumerate(streams) if not stream.is_finished(overwrite)]
        self.whole = {row_id for row_id, (place, _) in self.places.items() if place not in self.open}

    def start(self, overwrite=False):
        for number in self.open:
            self.streams[number].start(overwrite)

    def finished(self):
        """Ids asked that are answered in their file."""
        answered = {number: self.streams[number].finished() for number in self.open}
        return self.whole | {row_id for row_id, (place, row) in self.places.items() if row["id"] in answered.get(place, ())}

    def append(self, rows):
        """Write each row to its file, under the split's id."""
        files = defaultdict(list)
        for row in rows:
            place, own = self.places[row["id"]]
            files[place].append({**row, "id": own["id"]})
        for number in self.open:
            self.streams[number].append(files[number])

    def interruption_explained(self, rows, command):
        first, *others = (self.streams[number] for number in self.open)
        return first.interruption_explained(rows, command, lambda: len(self.whole) + sum(stream.kept() for stream in others))
