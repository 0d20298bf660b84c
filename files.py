"""JSONL in and out, whole-or-nothing writes, hashes, and the errors that users see: one line, whatever went wrong.

Nothing here knows about questions or models. Every file the project writes goes through `atomic_open`,
so a killed process leaves the old file or the new one, never half of one.
"""

import sys

if sys.excepthook is sys.__excepthook__:  # before the slower imports: Ctrl-C is a line from here on; see `say_what_is_missing`
    sys.excepthook = lambda kind, *rest: (
        print("interrupted", file=sys.stderr) if issubclass(kind, KeyboardInterrupt) else sys.__excepthook__(kind, *rest)
    )

# isort: split
import errno
import fcntl
import glob
import hashlib
import json
import math
import multiprocessing
import os
import reprlib
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  who runs an older one is to read this
    sys.exit("error: Python 3.11 or newer is needed, this is {}.{}; bash run_exp1.sh finds one".format(*sys.version_info))

HERE = Path(__file__).resolve().parent
POINTER = b"version https://git-lfs.github.com/spec/"  # what Git leaves in a large file's place
REPEATED = 5  # seconds after which a launcher's other processes say why they end: by then they are ended where the first has said it
GOES_ON = 75  # exit code of what a signal has ended and the same command goes on with: EX_TEMPFAIL, "try again", of BSD's sysexits.h
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# What gloo, NCCL and torch's store say where a process at the other end has ended.
GONE = ("closed by peer", "reset by peer", "Broken pipe", "Connection was likely closed", "remote process exit", "Connection refused")
_LOCKED = []  # (path, file) of what this process has locked: closed, it would be free


class UserError(Exception):
    """A mistake the user can mend. The message is one line: which file, line or key, what is wrong, what to do."""


def _one_of_each_key(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise UserError(f"key {quoted(twice)} is given twice; keep one of them")
    return values


ON_ONE_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
DECODER = json.JSONDecoder(object_pairs_hook=_one_of_each_key)  # Python's own lets the last of two win in silence


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or another of SIGNALS: the message is what was kept, and how it goes on. code: the exit code."""

    def __init__(self, message="", code=130):
        super().__init__(message)
        self.code = code

    @classmethod
    def because(cls, stop, message):
        """The message for a KeyboardInterrupt that has none, with its exit code."""
        return cls(message, getattr(stop, "code", 130))


class _Heed:
    """How this process takes SIGNALS. last_words: () -> the line's end where the interruption itself has none."""

    last_words = staticmethod(lambda: "")
    later = False  # noted, and obeyed at the end of a step?
    seen = None  # the signal that was noted


def heed_signals(last_words):
    """From here on SIGTERM and SIGUSR1 end this script as Ctrl-C does: with a line that ends with `last_words()`, and code GOES_ON."""
    _Heed.last_words = staticmethod(last_words)
    for number in SIGNALS:
        signal.signal(number, _take_signal)


def _take_signal(number, frame):
    again = number == signal.SIGINT and _Heed.seen is not None
    if _Heed.later and not again:
        if _Heed.seen is None and os.environ.get("RANK", "0") == "0":
            name = signal.Signals(number).name  # not by print, which the signal may have come in the middle of
            os.write(2, f"{name}: ends when this step is done and saved; Ctrl-C {'again ' * (number == 2)}leaves at once\n".encode())
        _Heed.seen = number
        return
    raise Interrupted(code=130 if again else GOES_ON)


@contextmanager
def signals_later():
    """In this block `signal_seen` tells of a signal, which is obeyed where the block looks for it; a second Ctrl-C leaves at once."""
    _Heed.later, _Heed.seen = True, None
    try:
        yield
    finally:
        _Heed.later, _Heed.seen = False, None


def signal_seen():
    """Has a signal come since `signals_later` began?"""
    return _Heed.seen is not None


def leave_signals_to_parent(*_):
    """For a process that loads data: its parent ends it, after a last step that may need it. (A terminal, or a queue, signals all.)"""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run_child(command, **options):
    """Run a command, hand it every one of SIGNALS that comes meanwhile, once, and return its exit code. options: of `subprocess.Popen`.

    Raises Interrupted where a signal has come, or it says itself that one has ended it. Its session is its own: a terminal's Ctrl-C
    would reach it a second time.
    """
    came, child = [], None

    def hand_on(number, _):
        came.append(number)
        if child is not None:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        child = subprocess.Popen(command, start_new_session=True, **options)
        for number in came:  # while it was being started
            child.send_signal(number)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came or code == GOES_ON:
        raise Interrupted(code=130 if code in (130, -signal.SIGINT) else GOES_ON)
    return code


def is_full(error):
    """Is this OSError a disk without space, or a user's share of it?"""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def say_what_is_missing(kind, error, traceback):
    """An excepthook: a package that isn't installed, a broken table, and Ctrl-C, are one line even before a script's `main` has begun."""
    if issubclass(kind, KeyboardInterrupt):
        return print("interrupted", file=sys.stderr)
    if issubclass(kind, UserError):  # a table of the repository that was edited
        return print(f"error: {printable(str(error))}", file=sys.stderr)
    package = (getattr(error, "name", None) or "").split(".")[0]
    if kind is not ModuleNotFoundError or not package or (HERE / package).exists() or (HERE / f"{package}.py").exists():
        return sys.__excepthook__(kind, error, traceback)
    make, activate, install = "python3 -m venv .venv", "source .venv/bin/activate", "pip install -r requirements.txt"
    there, active = (HERE / ".venv").exists(), Path(sys.prefix) == HERE / ".venv"
    where = f"in {HERE}: {install if active else activate if there else f'{make} && {activate} && {install}'}"
    print(f"error: the package {package} is missing in this Python ({sys.executable}); {where}", file=sys.stderr)


sys.excepthook = say_what_is_missing


def run_script(main):
    """Run a script's `main()`; a UserError becomes one line on stderr and exit code 1, Ctrl-C one line and 130, as shells have it.

    Where a script heeds signals, those are one line and GOES_ON.
    """
    try:
        sys.exit(main())
    except UserError as error:
        text = str(error)
        if text.startswith("Caught UserError in DataLoader worker"):  # it comes with that process's traceback
            text = text.rpartition("files.UserError: ")[2].rstrip("\n")
        _end(text, at_once=getattr(error, "alone", False))
    except KeyboardInterrupt as stop:
        _no_more_signals()
        if os.environ.get("RANK", "0") == "0":  # of a launcher's processes one speaks
            text = str(stop) or _Heed.last_words()
            print("interrupted" + f": {printable(text)}" * bool(text), file=sys.stderr)
        _leave(getattr(stop, "code", 130))
    except SystemExit as end:
        if end.code in (130, GOES_ON):  # the others of a launcher's processes, of which one speaks
            _leave(end.code)
        raise
    except RuntimeError as error:
        if not _says_that_another_is_gone(error):
            raise
        _end("another process of this job has ended, so this one does, too: see its line, or the launcher's; the same command goes on")
    except BrokenPipeError:  # `… | head`: the reader has gone, which is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a folder where a file is wanted, no permission, a full disk
        if error.filename is None:
            raise
        remedy = "; free some space and start again" * is_full(error)
        _end(f"{error.filename}: {error.strerror}{remedy}")
    finally:
        _clean_up()


def _clean_up():
    """Let go what this process has locked, and end those that load data for it, which take no notice of a mere SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises where one of them ends
    for child in multiprocessing.active_children():
        child.kill()
    while _LOCKED:
        path, file = _LOCKED.pop()
        path.unlink(missing_ok=True)
        file.close()


def _no_more_signals():
    """A second Ctrl-C ends this process at once; a launcher that now signals what it has seen ending doesn't change the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if signal.getsignal(signal.SIGUSR1) is _take_signal:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _says_that_another_is_gone(error):
    """Is this what the processes of a launcher get from torch where one of them has ended?"""
    return os.environ.get("WORLD_SIZE", "1") != "1" and any(text in str(error) for text in GONE)


def _leave(code):
    """End; of several processes without their last words to each other, for which a launcher waits half a minute. The first, which
    speaks, ends first: at the first end a launcher ends the others."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    if os.environ.get("RANK", "0") != "0":
        time.sleep(1)
    _clean_up()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end(text, at_once=False):
    """End with an error, said once by several processes of a launcher (torchrun), which all find the same before they train.

    at_once: this one alone has found it.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    if os.environ.get("RANK", "0") != "0" and not at_once:
        time.sleep(REPEATED)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(f"error: {printable(text)}")
    print(f"error: {printable(text)}", file=sys.stderr)
    _leave(1)


def printable(text):
    """A text on one line, with what would break it or steer a terminal (line ends, escape codes, reversed writing) as `\\n`, `\\x1b`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def short(text, most=80):
    """A text of at most `most` letters, its middle left out: what a message says of a value, which may hold a whole picture."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - (most - most * 2 // 3 - 1) :]}"


def quoted(value, most=80):
    """A value as Python writes it, of at most `most` letters, however much it holds: `{value!r}` of a message."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = most
    writer.maxlist = writer.maxtuple = writer.maxset = writer.maxdict = most // 3  # letters of an item, a comma and a space
    writer.fillvalue = "…"
    return short(writer.repr(value), most)


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


def keep_others_away(path, what):
    """Lock the file `path` till this process ends; `run_script` removes it then. what: is done under it, "training".

    The lock is the process's own (POSIX), so it is free when that ends, however it does and whoever it has forked. Raises UserError
    where another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        since = file.read().strip() or "just now"
        file.close()
        raise UserError(f"{path.parent}: another {what} is writing here (since {since}); wait for its end, or stop it") from None
    except OSError as error:  # network file systems without locks
        print(f"note: {path} can't be locked ({error.strerror}); don't start a second {what} in its folder")
    if not path.exists() or os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:  # its last owner ended meanwhile and took it away
        file.close()
        return keep_others_away(path, what)
    file.truncate(0)
    file.write(f"{datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')}, process {os.getpid()} of {os.uname().nodename}\n")
    file.flush()
    _LOCKED.append((path, file))


def refuse_pointer(path, remedy="download it again"):
    """Raise UserError where a file is Git LFS's note about it and not the file."""
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise UserError(f"{path}: {pointer_note(remedy)}")


def pointer_note(remedy="download it again"):
    return f"is a Git LFS pointer, not the file itself; run `git lfs pull` where it came from, or {remedy}"


def json_text(value, where="this JSON"):
    """`value` as indented JSON. Raises UserError, which begins with `where`, for a number that JSON can't hold: NaN or infinity."""
    return _encoded(value, where, indent=2) + "\n"


def json_line(row, where="this row"):
    """A row as a line of JSONL. Raises UserError as `json_text` does."""
    return _encoded(row, where) + "\n"


def _encoded(value, where, **options):
    try:
        return (json.JSONEncoder(ensure_ascii=False, allow_nan=False, **options) if options else ON_ONE_LINE).encode(value)
    except ValueError:
        name, number = next(_not_finite(value), ("a key", "not finite"))
        raise UserError(f"{where}: {short(name)} is {number}, which JSON can't hold; give a number or null") from None


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
    """Read a JSON file. Raises UserError naming the file if it is missing, not JSON, or has an object that gives a key twice."""
    try:
        return DECODER.decode(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        line, wrong = not_utf8(path)
        raise UserError(f"{path}: not valid JSON (line {line}: {wrong}); delete it or write it anew") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply for JSON of this project; delete it or write it anew") from None
    except ValueError as error:
        refuse_pointer(path)
        raise UserError(f"{path}: not valid JSON ({error}); delete it or write it anew") from None


def read_cache(path):
    """What a JSON file of this project's own making holds, {} where it is missing, damaged or no object: it is made anew then."""
    try:
        value = read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def not_utf8(path):
    """(line, what is wrong in it) of the first line of a file that isn't UTF-8 text."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, f"not UTF-8 text ({error.reason} at byte {error.start + 1} of the line)"
    return 1, "not UTF-8 text"  # it has changed since it was read


def write_jsonl(path, rows):
    """Write an iterable of dicts, one JSON object a line."""
    with atomic_open(path) as file:
        for number, row in enumerate(rows, start=1):
            file.write(json_line(row, f"{path}:{number}"))


def read_jsonl(path):
    """Yield `(line_number, row)` for every non-blank line of a JSONL file; line numbers start at 1.

    Raises UserError naming file and line when the file is missing, empty, not UTF-8, or a line is not a JSON object or gives
    a key twice.
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
    except UnicodeDecodeError:
        line, wrong = not_utf8(path)
        raise UserError(f"{path}:{line}: {wrong}; save the file as UTF-8") from None
    if not rows:
        raise UserError(f"{path}: has no rows; write one JSON object a line")


def _parse_row(path, number, line):
    try:
        text = line.strip()
        row, end = DECODER.raw_decode(text)
        if end < len(text):
            json.loads(line)  # which says what is wrong with the rest
    except UserError as error:
        raise UserError(f"{path}:{number}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}:{number}: is nested too deeply; write one flat JSON object a line") from None
    except ValueError as error:
        if number == 1:
            refuse_pointer(path)
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
