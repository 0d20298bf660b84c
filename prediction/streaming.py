"""Predictions that are never lost: rows go to disk as batches finish, and a run that was killed goes on where it was.

Beside the file to be, `out`, an unfinished run has a header `.NAME.part.json`, which says what the run is made from, and for
each process `.NAME.part-RANK`, to which it appends its batches. A batch counts when all of its rows are whole lines; a torn
line is cut off. At the end `out` is written from them in order and put in place by one rename. `.NAME.lock` keeps a second
run away; it is let go when the process ends, however it ends. What a finished file was made from stands in its sidecar: it is
not made twice, nor replaced by another unasked.
"""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import glob
import json
import os
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from config import near
from files import (
    Interrupted,
    UserError,
    atomic_open,
    is_full,
    json_line,
    quoted,
    read_json,
    read_jsonl,
    remove_temporaries,
    sha256,
    write_json,
)

KEEP = "give --out NAME.jsonl to keep it, or --overwrite to replace it"


class PredictionStream:
    """The predictions of one run on their way to `out`.

    facts: {name: value or {name: value}}, all that decides the predictions; only runs with the same facts are continued.
    """

    def __init__(self, out, facts, rank=0):
        self.out, self.facts, self.file, self.rank = Path(out), json.loads(json.dumps(facts)), None, rank
        self.header = self.out.with_name(f".{self.out.name}.part.json")
        self.part = self.out.with_name(f".{self.out.name}.part-{rank}")
        self.sidecar = self.out.with_suffix(".meta.json")
        self.lock = FileLock(self.out.with_name(f".{self.out.name}.lock"), timeout=0, fallback_to_soft=False)

    def parts(self):
        return sorted(self.out.parent.glob(f".{glob.escape(self.out.name)}.part-*"))

    def is_finished(self, overwrite=False):
        """Is `out` there, made from just these facts? False with `overwrite`, and for a run that is to go on. For every process.

        Raises UserError, naming what differs, where `out` was made from something else, or isn't what was written any more.
        """
        if overwrite or not self.out.exists() or self._differs_from(self.header) == []:
            return False
        changed = self._differs_from(self.sidecar, "made_from")
        if changed is None:
            raise UserError(f"{near(self.out)}: is there and does not say what it was made from; {KEEP}")
        if changed:
            raise UserError(f"{near(self.out)}: is there, made with other {listed(changed)}; {KEEP}")
        if damage := damage_since(self.out):
            raise UserError(f"{near(self.out)}: {damage}; give --overwrite to make it anew, or --out NAME.jsonl to keep it")
        return True

    def _differs_from(self, path, key=None):
        """Names of what differs between the facts and those in a JSON file, there under `key`; None where there are none."""
        saved = read_json(path) if path.is_file() else None
        saved = saved.get(key) if saved and key else saved
        return None if saved is None else sorted(differences(saved, self.facts))

    def start(self, overwrite=False):
        """Begin, or repair what an earlier run left. For one process, before the others go on.

        Raises UserError if another run is writing the same file, or, naming what changed, if an unfinished one was made from
        something else, unless `overwrite`. One that was made from the same goes on in any case.
        """
        with disk_errors(self.header):
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._keep_others_away()
            self._continue(overwrite)

    def _keep_others_away(self):
        try:
            self.lock.acquire()
        except Timeout:
            raise UserError(f"{self.out}: another run is writing it; wait for its end or stop it") from None
        except (OSError, NotImplementedError) as error:  # network file systems without locks
            print(f"note: {self.lock.lock_file} can't be locked ({error}); don't start a second run on {self.out.name}")

    def _continue(self, overwrite):
        for path in (self.out, self.sidecar, self.header):
            remove_temporaries(path)
        changed = self._differs_from(self.header)
        if changed is None or (changed and overwrite):  # parts without a header belong to a finished or a dropped run
            self.discard()
            write_json(self.header, self.facts)
        elif changed:
            raise UserError(
                f"{near(self.out)}: an unfinished run is there that was made with other {listed(changed)}; start it as it was to "
                "continue it, or add --overwrite to start anew"
            )
        for part in self.parts():
            os.truncate(part, whole_length(part))

    def discard(self):
        for path in [self.header, *self.parts()]:
            path.unlink(missing_ok=True)

    def finished(self):
        """{row id: its line in bytes} of all processes' parts."""
        lines = chain.from_iterable(part.read_bytes().splitlines(keepends=True) for part in self.parts())
        return {json.loads(line)["id"]: line for line in lines}

    def append(self, rows):
        """Write a batch's rows (dicts) and wait until they are on disk. Raises UserError rather than write a NaN."""
        data = b"".join(json_line(row, f"row {quoted(row['id'])}: the model's arithmetic overflows").encode() for row in rows)
        with disk_errors(self.part):
            if self.file is None:
                self.file = open(self.part, "ab", buffering=0)
            while data:  # a nearly full disk takes a part
                data = data[self.file.write(data) :]
            os.fsync(self.file.fileno())

    def finish(self, ids, save_sidecar):
        """Write `out` with the rows of `ids` in order, have its sidecar saved, and remove the parts. For one process."""
        with disk_errors(self.out):
            lines = self.finished()
            self.sidecar.unlink(missing_ok=True)  # never the old run's beside new predictions
            with atomic_open(self.out, "wb") as file:
                file.writelines(lines[row_id] for row_id in ids)
            save_sidecar()
            self.discard()
            Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()

    def kept(self):
        """Number of whole rows in all processes' parts, which an interrupted run may have left in the middle of another."""
        return sum(part.read_bytes()[: whole_length(part)].count(b"\n") for part in self.parts())

    @contextmanager
    def interruption_explained(self, rows, command, elsewhere=lambda: 0):
        """Turn Ctrl-C, or another signal, into how many of `rows` are kept and the command that goes on, said by one process.

        elsewhere: tells how many are kept in other files.
        """
        try:
            yield
        except KeyboardInterrupt as stop:
            if self.rank:
                raise SystemExit(Interrupted.because(stop, "").code) from None
            raise Interrupted.because(stop, f"{self.kept() + elsewhere():,} of {rows:,} rows are kept; go on with: {command}") from None


def damage_since(out):
    """Why finished predictions are not those that their sidecar was written for (str), or None: by hash, or by ids where older code
    wrote none."""
    facts = read_json(out.with_suffix(".meta.json"))
    if "predictions_sha256" in facts:
        return None if sha256(out) == facts["predictions_sha256"] else "was changed or cut after it was written"
    try:
        ids = [row.get("id") for _, row in read_jsonl(out)]
    except UserError:
        return "was cut or damaged after it was written"
    asked = facts.get("ids", ids)
    return None if ids == asked else f"holds {len(ids):,} rows that are not the {len(asked):,} which its sidecar names"


@contextmanager
def disk_errors(path):
    """Turn what goes wrong on a disk into one line."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if is_full(error) else "mend that"
        raise UserError(f"{path}: {error.strerror}; {remedy} and start again, finished batches are kept") from None


def whole_length(path):
    """Bytes of a part up to its last whole line."""
    length = 0
    with open(path, "rb") as file:
        for line in file:
            if not (line.endswith(b"\n") and is_json(line)):
                break
            length += len(line)
    return length


def is_json(line):
    try:
        json.loads(line)
    except ValueError:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        return False
    return True


def listed(names, most=4):
    """The first of the names, and how many more there are: after an update of the code these are dozens."""
    return ", ".join([*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])])


def differences(old, new):
    """Names of what differs between two headers: `adapter`, or `code decode.py` where both have parts."""
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from (f"{name} {part}" for part in differences(before, after))
        elif before != after:
            yield name
