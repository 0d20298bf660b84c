"""JSONL in and out, whole-or-nothing writes, hashes, and the errors that users see: one line, whatever went wrong.

Nothing here knows about questions or models. Every file the project writes goes through `atomic_open`,
so a killed process leaves the old file or the new one, never half of one.
"""

import errno
import glob
import hashlib
import json
import math
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  who runs an older one is to read this
    sys.exit("error: Python 3.11 or newer is needed, this is {}.{}; bash run_exp1.sh finds one".format(*sys.version_info))

DECODER = json.JSONDecoder()
HERE = Path(__file__).resolve().parent


class UserError(Exception):
    """A mistake the user can mend. The message is one line: which file, line or key, what is wrong, what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C where there is something to say of it: the message is what was kept, and how it goes on."""


def is_full(error):
    """Is this OSError a disk without space, or a user's share of it?"""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def say_what_is_missing(kind, error, traceback):
    """An excepthook: a package that isn't installed, and Ctrl-C, are one line even before a script's `main` has begun."""
    if issubclass(kind, KeyboardInterrupt):
        return print("interrupted", file=sys.stderr)
    package = (getattr(error, "name", None) or "").split(".")[0]
    if kind is not ModuleNotFoundError or not package or (HERE / package).exists() or (HERE / f"{package}.py").exists():
        return sys.__excepthook__(kind, error, traceback)
    make, activate, install = "python3 -m venv .venv", "source .venv/bin/activate", "pip install -r requirements.txt"
    there, active = (HERE / ".venv").exists(), Path(sys.prefix) == HERE / ".venv"
    where = f"in {HERE}: {install if active else activate if there else f'{make} && {activate} && {install}'}"
    print(f"error: the package {package} is missing in this Python ({sys.executable}); {where}", file=sys.stderr)


sys.excepthook = say_what_is_missing


def run_script(main):
    """Run a script's `main()`; a UserError becomes one line on stderr and exit code 1, Ctrl-C one line and 130, as shells have it."""
    try:
        sys.exit(main())
    except UserError as error:
        text = str(error)
        if text.startswith("Caught UserError in DataLoader worker"):  # it comes with that process's traceback
            text = text.rpartition("files.UserError: ")[2].rstrip("\n")
        sys.exit(f"error: {printable(text)}")
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it at once
        print("interrupted" + f": {printable(str(stop))}" * bool(str(stop)), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `… | head`: the reader has gone, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a folder where a file is wanted, no permission, a full disk
        if error.filename is None:
            raise
        remedy = "; free some space and start again" * is_full(error)
        sys.exit(f"error: {printable(str(error.filename))}: {error.strerror}{remedy}")


def printable(text):
    """A text on one line, with what would break it or steer a terminal (line ends, escape codes, reversed writing) as `\\n`, `\\x1b`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter):
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


@contextmanager
def atomic_open(path, mode="w"):
    """Open a temporary file beside `path`; rename it to `path` if the block ends well, remove it otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; results are meant to be shared
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and is_full(error):
            error.filename = str(path)  # a write does not say where
        raise


def remove_temporaries(path):
    """Remove what killed processes left of their `atomic_open(path)`. Nobody may be writing there."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.{'[a-z0-9_]' * 8}"):
        temporary.unlink(missing_ok=True)


def json_text(value, where="this JSON"):
    """`value` as indented JSON. Raises UserError, which begins with `where`, for a number that JSON can't hold: NaN or infinity."""
    return _encoded(value, where, indent=2) + "\n"


def json_line(row, where="this row"):
    """A row as a line of JSONL. Raises UserError as `json_text` does."""
    return _encoded(row, where) + "\n"


def _encoded(value, where, **options):
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, **options)
    except ValueError:
        name, number = next(_not_finite(value), ("a key", "not finite"))
        raise UserError(f"{where}: {name} is {number}, which JSON can't hold; give a number or null") from None


def _not_finite(value, name=""):
    """(dotted name, number) of each NaN or infinity in what is to be JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        yield name.lstrip(".") or "the value", value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, part in parts:
        yield from _not_finite(part, f"{name}.{key}")


def write_json(path, value):
    """Write `value` as indented UTF-8 JSON."""
    write_text(path, json_text(value, path))


def write_text(path, text):
    """Write a text file as UTF-8."""
    with atomic_open(path) as file:
        file.write(text)


def read_json(path):
    """Read a JSON file. Raises UserError naming the file if it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        raise UserError(f"{path}: not valid JSON ({error}); delete it or write it anew") from None


def write_jsonl(path, rows):
    """Write an iterable of dicts, one JSON object a line."""
    with atomic_open(path) as file:
        for number, row in enumerate(rows, start=1):
            file.write(json_line(row, f"{path}:{number}"))


def read_jsonl(path):
    """Yield `(line_number, row)` for every non-blank line of a JSONL file; line numbers start at 1.

    Raises UserError naming file and line when the file is missing, empty, not UTF-8, or a line is not a JSON object.
    """
    rows = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows += 1
                    yield number, _parse_row(path, number, line)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, a JSONL file is wanted") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    if not rows:
        raise UserError(f"{path}: has no rows; write one JSON object a line")


def _parse_row(path, number, line):
    try:
        text = line.strip()
        row, end = DECODER.raw_decode(text)
        if end < len(text):
            json.loads(line)  # which says what is wrong with the rest
    except RecursionError:
        raise UserError(f"{path}:{number}: is nested too deeply; write one flat JSON object a line") from None
    except ValueError as error:
        hint = "; the file looks like one JSON array" if number == 1 and line.lstrip().startswith("[") else ""
        raise UserError(f"{path}:{number}: not valid JSON ({error}){hint}; write one JSON object a line") from None
    if "\\u" in line and any("\ud800" <= letter <= "\udfff" for letter in json.dumps(row, ensure_ascii=False)):
        raise UserError(f"{path}:{number}: holds half a character (an unpaired \\ud800-\\udfff); correct the text")
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: is a {type(row).__name__}, not an object; write one JSON object a line")
    return row


def sha256(*paths):
    """Hex SHA-256 over the bytes of the given files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_of(facts):
    """Hex SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def use_color(stream):
    """Is `stream` a terminal whose user has not asked for plain text (https://no-color.org)?"""
    return stream.isatty() and not os.environ.get("NO_COLOR")


if __name__ == "__main__":
    raise SystemExit("not a command, but files and errors; run one of the scripts beside it")
