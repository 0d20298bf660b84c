"""The HTML report of an evaluation: one self-contained file, for reading on a screen, a phone or paper. No torch.

`write_report` puts what eval_exp1.py found into report.html.j2 and report.css: tables, figures as SVG (figures.py), where the
numbers come from (provenance.py), and a gallery of examples with small copies of their images. Its size does not depend on
the number of rows.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; run: python eval_exp1.py --report PATH")

from collections import defaultdict
from pathlib import Path

import jinja2

from config import PublicNames
from data.image_names import images_of
from data.rules import ordered_types
from data.thumbnails import Thumbnails
from evaluation.compare import changed_rows, short_p
from evaluation.confidence import answer_set_notes
from evaluation.figures import draw_figures
from evaluation.methods import methods_paragraph, sentences, study_of
from evaluation.metrics import compare_rows, template_of
from evaluation.presence import rows_that_ask
from evaluation.provenance import date_of, run_facts, settings_of, title_of
from evaluation.recipes import recipe_notes
from evaluation.robustness import about_samples
from evaluation.subgroups import subgroup_notes
from evaluation.tables import headline, presence_lines
from files import UserError, atomic_open, printable

EXAMPLES = 240  # cards in the gallery, two thirds of them mistakes
FIRST = 24  # of them are seen at once
MISSED = 12  # cards of missed findings
CHANGED = 80  # cards of questions that changed
LISTED = 30  # types whose labels, and questions about presence, are listed
CLIPPED = 400  # letters of a text on a card


def write_report(out, cfg, run, images=True):
    """Write the report of an evaluated run (of `evaluation.runs`, perhaps with seeds or a comparison) to `out`.

    images: False leaves out pictures, image names and ids, in which patients may be named.
    """
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": shown, "percent": percent, "points": lambda share: f"{100 * share:+.2f}", "short_p": short_p}
    names = PublicNames(cfg, run["sidecar"])
    cards = Cards(run, names, Thumbnails(image_root(cfg, run["sidecar"]) if images else None), images)
    said_elsewhere = [*presence_lines(run["details"]["presence"])]
    public = lambda line: printable(names.text(line, run["path"], run["source"], cfg.data.train_jsonl, cfg.output_dir / "adapter"))
    whose, settings = settings_of(cfg, run, names)
    html = environment.get_template("report.html.j2").render(
        run=run,
        title=title_of(run, names),
        whose_date=date_of(run)[1],
        images=images,
        alarms=[public(line) for line in run["alarms"]],
        about=[public(line) for line in run["about"] if line not in said_elsewhere],
        figures=draw_figures(cfg, run),
        recipe_notes=recipe_notes,
        set_notes=[*answer_set_notes(run["answer_sets"], run["unit"])] if run["answer_sets"] else [],
        by_notes={name: [*subgroup_notes(name, found, run["unit"])] for name, found in run["by"].items()},
        rows=[*headline(run["details"], run["lenient"], run["gains"], run["blind_prior"], run["reachable"])],
        more=[*further_scores(run["details"], run["greedy"])],
        missed=cards.missed(),
        examples=cards.examples(),
        changed=cards.changed(),
        sides=sides(run, names),
        about_samples=about_samples(run["robustness"]["samples"]) if run["robustness"] and run["robustness"]["samples"] else None,
        methods=public(methods_paragraph(sentences(methods_of(cfg, run, names)))),
        listed=LISTED,
        first=FIRST,
        facts=run_facts(cfg, run, names),
        whose=whose,
        settings=settings,
    )
    with atomic_open(out) as file:
        file.write(html)


def adapter_of(cfg, run):
    """The folder of the adapter that made a run's predictions, None where it isn't there, or none was used."""
    name = run["sidecar"].get("adapter")
    return None if name == "none" else cfg.find(name, run["path"].parent)


def methods_of(cfg, run, names):
    """What is known of a loaded run's making (`methods.study_of`)."""
    metrics = {**run, **run["scores"], "tolerances": cfg.eval.model_dump()}
    return study_of(adapter_of(cfg, run), metrics, cfg.output_dir, names.facts)


def percent(share, digits=2):
    """A share of 1 as text, or a dash for None."""
    return "–" if share is None else f"{share:.{digits}%}"


def shown(text):
    """A text (or None) as a card can hold it: on one line, nothing invisible, cut, so that an essay a row doesn't make the page grow."""
    if text is None:
        return None
    text = text if len(text) <= CLIPPED else text[:CLIPPED] + "…"
    return printable(text)


def sides(run, names):
    """When comparing: {"a", "b": what each is called, "conclusion"}, else None. A name may be its file's whole path."""
    if "comparison" not in run:
        return None
    files = [f"{name} ({other['path'].name})" for name, other in zip(map(names.path, run["names"]), (run["other"], run))]
    conclusion = run["conclusion"]
    for name in run["names"]:
        conclusion = conclusion.replace(name, names.path(name))
    return {"a": shown(files[0]), "b": shown(files[1]), "conclusion": conclusion}


def further_scores(details, greedy):
    """(score, value, number of rows or labels that it is of, what it means) of the scores that have no column."""
    overall = details["overall"]
    labels = f"{overall['labels']:,} labels"
    yield "macro-F1", percent(overall["macro_f1"]), labels, "mean F1 over the different true answers of all types; some papers report it"
    if lists := overall.get("label_lists"):
        for key, meaning in (
            ("exact_set", "the same labels"),
            ("jaccard", "labels in both over labels in either, mean over rows"),
            ("example_f1", "twice the labels in both over all labels of both, mean over rows"),
            ("micro_f1", "F1 over all labels given: follows the frequent ones"),
            ("macro_f1", "mean F1 over the true labels: follows the rare ones"),
        ):
            yield f"label lists: {key.replace('_', ' ')}", percent(lists[key]), f"{lists['count']:,} rows", meaning
    for key, name, meaning in (
        ("counts", "counts within one", "a count at most one from the truth"),
        ("size_bins", "size bins within one", "the same bin or a neighbour"),
    ):
        if found := overall.get(key):
            yield name, percent(found["within_one"]), f"{found['count']:,} rows", f"{meaning}; exactly right: {percent(found['exact'])}"
    if errors := overall.get("millimetres"):
        value = f"{errors['mean_abs_error']:.2f} mm, {errors['median_abs_error']:.2f} mm"
        yield "measurements", value, f"{errors['count']:,} rows", "mean and median distance from the truth, where both are one length"
    if held := overall.get("abstention"):
        value = f"{percent(held['accuracy_of_the_rest'])} of {percent(held['coverage'])}"
        yield "abstention", value, f"{overall['count']:,} rows", f"accuracy of the rows answered; {held['abstained']:,} were too unsure"
    if greedy:
        wins = f"exact alone is right in {greedy['only_exact_right']:,}, greedy decoding alone in {greedy['only_greedy_right']:,}"
        yield "exact and greedy differ", f"{greedy['disagree']:,} answers", f"{greedy['count']:,} rows", wins


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def image_root(cfg, sidecar):
    """The folder of the images: the configuration's, else the one that prediction used; None where neither is there."""
    try:
        if cfg.data.image_root:
            return cfg.image_folder()
    except UserError:
        pass
    used = ((sidecar.get("config") or {}).get("data") or {}).get("image_root")
    return cfg.find(used) or cfg.config_path.parent


# ---------------------------------------------------------------------------------------------------------------------
# Cards


class Cards:
    """The rows that the report shows one by one. names: PublicNames. images: may pictures, their names and ids be shown?"""

    def __init__(self, run, names, thumbnails, images=True):
        self.run, self.names, self.thumbnails, self.images = run, names, thumbnails, images
        self.judged = run["judged"]
        self.items = compare_rows(self.judged, run["conventions"])
        self.badness = [_badness(row, item) for row, item in zip(self.judged, self.items)]

    def examples(self):
        """Mistakes, the worst first, then right answers; every type has its share."""
        by_type = defaultdict(lambda: ([], []))
        for place, row in enumerate(self.judged):
            by_type[row["qtype"]][row["correct"]].append(place)
        wrong, right = ([by_type[name][verdict] for name in ordered_types(by_type)] for verdict in (False, True))
        wrong = _share_out([sorted(places, key=self.badness.__getitem__) for places in wrong], EXAMPLES * 2 // 3)
        right = _share_out([_spread(places, EXAMPLES) for places in right], EXAMPLES - len(wrong))
        return self._of(sorted(wrong, key=self.badness.__getitem__) + sorted(right))

    def missed(self):
        """Rows of which something is there that was said to be absent, the most confident first."""
        asked = rows_that_ask(self.judged, self.items, [template_of(row) for row in self.judged])
        places = [row.place for rows in asked.values() for row in rows if row.missed]
        return self._of(sorted(places, key=self.badness.__getitem__)[:MISSED])

    def changed(self):
        """When comparing: {"lost": cards, "gained": cards, "lost_total", "gained_total"}, else None."""
        if "comparison" not in self.run:
            return None
        pairs = changed_rows(self.run["other"]["judged"], self.judged)
        lost = [pair for pair in pairs if not pair[1]["correct"]]
        gained = [pair for pair in pairs if pair[1]["correct"]]
        show = lambda chosen: [self._card(row, before) for before, row in _spread(chosen, CHANGED // 2)]
        return {"lost": show(lost), "gained": show(gained), "lost_total": len(lost), "gained_total": len(gained)}

    def _of(self, places):
        return [self._card(self.judged[place]) for place in places]

    def _card(self, row, before=None):
        """What the template shows of a row. before: the other file's row, when comparing."""
        names = images_of(row) if row.get("image") else []
        return {
            **{key: row.get(key) for key in ("correct", "lenient", "confidence", "abstained")},
            **{key: shown(row.get(key)) for key in ("qtype", "question", "pred", "gt")},
            "name": f"id {shown(self.names.path(row['id']))}" if self.images else f"row {row['place']}",
            "image": shown(self._image_name(names)) if self.images and names else None,
            "question_key": shown(template_of(row) or ""),
            "thumbnail": self.thumbnails.get(names),
            "top": [(shown(text), min(1.0, share)) for text, share in (row.get("candidates_top") or [])[:5]],
            "before": before and shown(before["pred"] or ""),
        }

    def _image_name(self, names):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return self.names.path(names[0]) + more


def _badness(row, item):
    """Sorts mistakes: confident ones first; where confidence is the same or unknown, those that share least with the truth."""
    confidence = row.get("confidence")
    overlap = len(item.gt & item.pred) / max(1, len(item.gt | item.pred))
    gap = abs(item.number[0] - item.number[1]) if item.number and item.number[1] is not None else 0
    return 0.5 - (0.5 if confidence is None else confidence), overlap, -gap, row["id"]


def _share_out(queues, total):
    """Take from the queues in turn until `total` are taken or all are empty."""
    taken = []
    for depth in range(max(map(len, queues), default=0)):
        taken += [queue[depth] for queue in queues if depth < len(queue)]
        if len(taken) >= total:
            break
    return taken[:total]


def _spread(places, limit):
    """At most `limit` of the places, evenly spaced."""
    return places if len(places) <= limit else [places[len(places) * step // limit] for step in range(limit)]
