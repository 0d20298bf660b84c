"""Reading and writing: whole files or none, errors with file and line, one line and exit code 1 for mistakes.

python -m pytest tests/test_files.py -v
"""

import ast
import errno
import hashlib
import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import files
from files import (
    UserError,
    atomic_open,
    json_line,
    json_text,
    printable,
    quoted,
    read_json,
    read_jsonl,
    sha256,
    short,
    use_color,
    write_json,
    write_jsonl,
)

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data", "model", "training", "prediction", "evaluation", "tools")


def run_code(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, **options)


@given(
    st.recursive(
        st.text(max_size=300) | st.integers() | st.floats() | st.none(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
    )
)
def test_what_a_message_quotes_of_a_value_is_short(value):
    assert len(quoted(value)) <= 80 and len(short(value)) <= 80
    if isinstance(value, str):
        assert quoted(value) == repr(value) or "…" in quoted(value)
        assert short(value) == value or short(value)[:50] == value[:50] and short(value)[-20:] == value[-20:]


def test_what_is_left_out_is_left_out_of_the_middle():
    """Two thirds from the start, an ellipsis, and the end: as many letters as there may be."""
    text = "a" * 100 + "b" * 100
    assert short(text) == "a" * 53 + "…" + "b" * 26 and short(text, 10) == "aaaaaa…bbb" and short("a" * 80) == "a" * 80
    assert quoted([1] * 26) == repr([1] * 26) and "…" in quoted([1] * 27)
    assert printable("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e" and printable("Größe 5") == "Größe 5"


def test_a_process_alone_ends_as_python_does(monkeypatch):
    """With whoever waits for it: open files are closed, what was registered at exit runs."""
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        files._leave(7)
    assert ended.value.code == 7


def test_no_message_quotes_a_value_whole():
    """`{value!r}` of a row once put a picture of 319,605 letters on the terminal: `quoted` it is."""
    found = []
    for path in [*ROOT.glob("*.py"), *(path for name in FOLDERS for path in ROOT.glob(f"{name}/**/*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


# --- writing ---


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    for exception in (ValueError, KeyboardInterrupt):
        with pytest.raises(exception), atomic_open(path) as file:
            file.write("new")
            file.flush()
            assert path.read_text() == "old", "the old content stays until the new one is whole"
            raise exception
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_good_end_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "results.bin"
    for content in (b"first, longer", b"second"):
        with atomic_open(path, "wb") as file:
            file.write(content)
        assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_new_files_have_the_usual_permissions(tmp_path):
    with atomic_open(tmp_path / "by_us") as file, open(tmp_path / "by_open", "w"):
        file.write("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("by_us", "by_open")]
    assert modes[0] == modes[1]


def test_the_bytes_are_on_the_disk_before_they_have_the_name(tmp_path, monkeypatch):
    """Or a power cut leaves an empty file where a whole one was."""
    path, fsync, synced = tmp_path / "results.json", os.fsync, []

    def watched(handle):
        synced.append((os.fstat(handle).st_size, path.read_text()))
        fsync(handle)

    path.write_text("old")
    monkeypatch.setattr(os, "fsync", watched)
    with atomic_open(path) as file:
        file.write("a new one")
    assert synced == [(len("a new one"), "old")] and path.read_text() == "a new one"


KILLED = """
import os, signal, sys
from files import write_jsonl
def rows():
    for number in range(100_000):
        if number == 50_000:
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"number": number}
write_jsonl(sys.argv[1], rows())
"""


def test_a_killed_process_leaves_the_old_content(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"old": true}\n')
    assert run_code(KILLED, path).returncode == -signal.SIGKILL
    assert path.read_text() == '{"old": true}\n'
    assert len(list(tmp_path.iterdir())) == 2, "it was killed while writing"
    write_jsonl(path, [{"new": True}])
    assert path.read_text() == '{"new": true}\n'


rows = st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())), min_size=1)


@given(rows)
def test_rows_come_back_as_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == list(enumerate(rows, start=1))


def test_text_is_written_readable_in_utf8_whatever_the_locale(tmp_path):
    code = r"import sys, files; files.write_jsonl(sys.argv[1], [{'a': '\xe9 \u22645mm'}])"
    code += r"; files.write_json(sys.argv[2], {'a': '\xe9'})"
    done = run_code(code, tmp_path / "a.jsonl", tmp_path / "a.json", env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.jsonl").read_bytes() == '{"a": "é ≤5mm"}\n'.encode()
    assert (tmp_path / "a.json").read_bytes() == '{\n  "a": "é"\n}\n'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "build, name",
    [
        (lambda number: {"a": 1, "loss": number}, "loss"),
        (lambda number: {"log": [{"step": 1}, {"step": 2, "loss": number}]}, "log.1.loss"),
        (lambda number: {"top": [["yes", 0.5], ("no", number)]}, "top.1.1"),
    ],
)
def test_no_number_that_json_has_not_is_written(tmp_path, number, build, name):
    """json.dumps writes NaN, which no other reader takes for JSON."""
    value, path = build(number), tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UserError) as error:
        write_json(path, value)
    assert str(error.value) == f"{path}: {name} is {number}, which JSON can't hold; give a number or null"
    with pytest.raises(UserError) as error:
        write_jsonl(path, [{"a": 1.5}, value])
    assert str(error.value).startswith(f"{path}:2: {name} is {number}, ")
    for encode in (json_text, json_line):
        with pytest.raises(UserError, match=f"^here: {name} is "):
            encode(value, "here")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=10,
)


@given(json_values)
def test_json_is_strict_and_comes_back(value):
    def refuse(constant):
        raise ValueError(constant)

    try:
        text = json_text(value)
    except UserError:
        assert not all(math.isfinite(number) for number in numbers(value))
    else:
        assert json.loads(text, parse_constant=refuse) == value and json.loads(json_line(value)) == value


def numbers(value):
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, float) else [number for part in parts for number in numbers(part)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file_that_did_not_fit(tmp_path, monkeypatch, code):
    def full(handle):
        raise OSError(code, "No space left on device")  # as write and fsync do, without a name

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error:
        write_json(tmp_path / "a.json", {})
    assert error.value.filename == str(tmp_path / "a.json") and list(tmp_path.iterdir()) == []


# --- reading ---


def test_blank_lines_are_skipped_and_line_numbers_are_the_file_s(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"a": 1}\r\n   \n\n{"a": "\xc3\xa9"}')
    assert list(read_jsonl(path)) == [(2, {"a": 1}), (5, {"a": "é"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": has no rows; write one JSON object a line"),
        (b"\n  \n", ": has no rows; write one JSON object a line"),
        (b'{"a": 1}\n\n{"a": \n', ":3: not valid JSON ("),
        (b"hello", ":1: not valid JSON ("),
        (b'{"a": 1}{"a": 2}', ":1: not valid JSON ("),
        (b'{"a": 1}\n[1]\n', ":2: is a list, not an object; write one JSON object a line"),
        (b"3", ":1: is a int, not an object; write one JSON object a line"),
        (b'{"a": 1}\n{"a": "\xe9"}', ":2: not UTF-8 text (invalid continuation byte at byte 8 of the line)"),
    ],
)
def test_a_bad_jsonl_names_file_and_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_jsonl(path))
    assert str(error.value).startswith(f"{path}{message}") and "\n" not in str(error.value)


def test_a_json_array_is_recognised(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"a": 1}], indent=2))
    with pytest.raises(UserError, match=r"rows.json:1: .*; the file looks like one JSON array; write one JSON object a line$"):
        list(read_jsonl(path))
    path.write_text('{"a": 1}\n[')
    with pytest.raises(UserError) as error:
        list(read_jsonl(path))
    assert "looks like" not in str(error.value), "only a file that starts as one"


def test_half_a_character_is_found_while_reading_not_while_writing(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": "polyp \\ud83d"}\n')  # valid JSON, but no text that UTF-8 could hold
    with pytest.raises(UserError, match=r"rows.jsonl:2: "):
        list(read_jsonl(path))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match=r"no.jsonl: no such file$"):
        list(read_jsonl(tmp_path / "no.jsonl"))
    with pytest.raises(UserError, match="is a folder, a JSONL file is wanted"):
        list(read_jsonl(tmp_path))
    with pytest.raises(UserError, match=r"no.json: no such file$"):
        read_json(tmp_path / "no.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "key 'a' is given twice; keep one of them"),
        ('{"x": [{"answer": "yes", "answer": "no"}]}', "key 'answer' is given twice; keep one of them"),
        (json.dumps({"k" * 999: 1})[:-1] + ", " + json.dumps({"k" * 999: 1})[1:], "key 'kkk"),
        ('{"a": ' + "[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_key_given_twice_and_deep_nesting_are_one_line(tmp_path, content, message):
    for name, read, place in (("a.json", read_json, ""), ("a.jsonl", lambda path: list(read_jsonl(path)), ":2")):
        (tmp_path / name).write_text('{"a": 0}\n' * bool(place) + content)
        with pytest.raises(UserError) as error:
            read(tmp_path / name)
        said = str(error.value)
        assert said.startswith(f"{tmp_path / name}{place}: {message}") and len(said) < 300 and "\n" not in said


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff"])
def test_json_that_is_none_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a.json: not valid JSON \(.*\); delete it or write it anew$"):
        read_json(tmp_path / "a.json")
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, None]}


def test_a_cache_that_is_no_object_is_none(tmp_path):
    assert files.read_cache(tmp_path / "a.json") == {}
    for content, kept in (('{"a": 1', {}), ("[1]", {}), ("null", {}), ('{"a": 1}', {"a": 1})):
        (tmp_path / "a.json").write_text(content)
        assert files.read_cache(tmp_path / "a.json") == kept


def test_the_hash_of_facts_is_that_of_their_json_in_whatever_order_they_were_found():
    one = hashlib.sha256(b'{"a": [1, {"c": null, "d": 2}], "b": "x"}').hexdigest()
    assert files.hash_of({"b": "x", "a": [1, {"d": 2, "c": None}]}) == files.hash_of({"a": [1, {"c": None, "d": 2}], "b": "x"}) == one


def test_sha256_is_that_of_the_bytes_in_order(tmp_path):
    contents = [os.urandom(3_000_000), b"b"]
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    assert sha256(*paths) == hashlib.sha256(b"".join(contents)).hexdigest()
    assert sha256(*paths) != sha256(*paths[::-1])


# --- scripts ---


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("raise UserError('rows.jsonl:3: broken')", 1, "error: rows.jsonl:3: broken\n"),
        ("return None", 0, ""),
        ("return 3", 3, ""),
    ],
)
def test_run_script_exit_codes(body, code, stderr):
    program = f"from files import UserError, run_script\ndef main():\n    print('begun')\n    {body}\nrun_script(main)"
    done = run_code(program)
    assert (done.returncode, done.stdout, done.stderr) == (code, "begun\n", stderr)


@pytest.mark.parametrize(
    "raised, line",
    [
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "interrupted"),
        (
            "raise files.Interrupted('12 of 40 rows are kept; go on with: python x.py')",
            "interrupted: 12 of 40 rows are kept; go on with: python x.py",
        ),
    ],
)
def test_ctrl_c_is_one_line_and_the_shells_exit_code(raised, line):
    done = run_code(f"import files, os, signal, time\ndef main():\n    print('begun')\n    {raised}\nfiles.run_script(main)")
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", f"{line}\n")


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit(130)"])
def test_of_a_launchers_processes_none_waits_for_the_others(raised):
    code = f"import atexit, files, time\natexit.register(time.sleep, 90)\ndef main():\n    print('begun')\n    raise {raised}\n"
    done = run_code(code + "files.run_script(main)", env={**os.environ, "WORLD_SIZE": "2"})
    assert (done.returncode, done.stdout) == (130, "begun\n") and done.stderr in ("", "interrupted\n")


def test_ctrl_c_is_one_line_while_a_script_is_still_being_imported():
    done = run_code("import files, os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)")
    assert done.returncode in (130, -signal.SIGINT) and done.stderr == "interrupted\n"


def test_a_second_ctrl_c_ends_a_script_that_is_slow_to_end():
    code = "import atexit, files, os, signal, time\natexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9)))\n"
    done = run_code(code + "def main():\n    raise KeyboardInterrupt\nfiles.run_script(main)")
    assert done.returncode == -signal.SIGINT and done.stderr == "interrupted\n"


@pytest.mark.parametrize("code, line", [("ENOSPC", "x.json: gone; free some space and start again"), ("EACCES", "x.json: gone")])
def test_run_script_says_which_file_and_what_to_do(code, line):
    done = run_code(f"import errno, files\ndef main():\n    raise OSError(errno.{code}, 'gone', 'x.json')\nfiles.run_script(main)")
    assert (done.returncode, done.stderr) == (1, f"error: {line}\n")


def test_a_launchers_processes_say_a_mistake_once():
    """The first speaks at once and is the end of the others; one that is alone with its error still says it."""
    program = "import files\nfiles.REPEATED = {}\ndef main():\n    raise files.UserError('x: broken')\nfiles.run_script(main)"
    environment = lambda rank: {**os.environ, "RANK": rank, "WORLD_SIZE": "2"}
    assert run_code(program.format(60), env=environment("0")).stderr == "error: x: broken\n"
    assert run_code(program.format(0.1), env=environment("1")).stderr == "error: x: broken\n"
    with pytest.raises(subprocess.TimeoutExpired) as late:
        subprocess.run([sys.executable, "-c", program.format(60)], capture_output=True, timeout=2, cwd=ROOT, env=environment("1"))
    assert not late.value.stderr


def test_another_process_is_kept_away_till_this_one_ends(tmp_path):
    """However it ends, and whatever it has forked: a killed training's workers live for seconds."""
    path = tmp_path / "out" / ".lock"
    lock = f"import files, os, pathlib, time\nlock = lambda: files.keep_others_away(pathlib.Path({str(path)!r}), 'training')\n"
    works = "lock()\nprint('mine', flush=True)\nos.fork() or (time.sleep(3), os._exit(0))\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", lock + works], stdout=subprocess.PIPE, text=True, cwd=ROOT) as first:
        assert first.stdout.readline() == "mine\n"
        second = run_code(f"{lock}files.run_script(lock)")
        assert second.returncode == 1 and second.stderr.startswith(f"error: {path.parent}: another training is writing here (since 20")
        assert f", process {first.pid} of " in second.stderr and second.stderr.endswith("); wait for its end, or stop it\n")
        first.kill()
        first.wait()
        assert run_code(f"{lock}files.run_script(lock)").returncode == 0 and not path.exists(), "taken, and gone with its owner"


def test_a_lock_whose_last_owner_took_the_file_away_is_taken_anew(tmp_path, monkeypatch):
    """Between the opening and the locking; a lock on a file that nobody finds any more keeps nobody away."""
    path, lockf, times = tmp_path / ".lock", files.fcntl.lockf, []

    def late(file, how):
        times.append(path.unlink() if not times else None)
        lockf(file, how)

    monkeypatch.setattr(files.fcntl, "lockf", late)
    files.keep_others_away(path, "training")
    (locked, file) = files._LOCKED.pop()
    assert locked == path and len(times) == 2 and os.fstat(file.fileno()).st_ino == path.stat().st_ino
    file.close()


def test_run_script_does_not_hide_bugs():
    done = run_code("from files import run_script\ndef main():\n    raise ValueError('a bug')\nrun_script(main)")
    assert done.returncode == 1 and "Traceback" in done.stderr and "a bug" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_reader_that_stops_early_is_no_error():
    program = "from files import run_script\ndef main():\n    for n in range(100_000): print(n)\nrun_script(main)"
    done = subprocess.run(
        f'"{sys.executable}" -c "{program}" | head -n 1',
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


FAILS_IN_A_WORKER = """
from torch.utils.data import DataLoader
from files import UserError, run_script

class Images:
    def __len__(self):
        return 1
    def __getitem__(self, index):
        raise UserError("image a.png: can't be read; replace it")

run_script(lambda: list(DataLoader(Images(), num_workers=1)))
"""


def test_a_mistake_found_by_a_loading_process_is_one_line_too():
    result = run_code(FAILS_IN_A_WORKER)
    assert (result.returncode, result.stderr) == (1, "error: image a.png: can't be read; replace it\n")


@pytest.mark.parametrize(
    ("terminal", "setting", "expected"), [(True, None, True), (True, "1", False), (True, "", True), (False, None, False)]
)
def test_colour_is_for_terminals_whose_users_want_it(monkeypatch, terminal, setting, expected):
    """https://no-color.org: present and not empty means no."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if setting is not None:
        monkeypatch.setenv("NO_COLOR", setting)
    assert use_color(SimpleNamespace(isatty=lambda: terminal)) is expected


def test_what_is_written_has_the_rights_that_the_user_gives_to_new_files(tmp_path):
    """And the next file too: looking at the mask means to set it."""
    before = os.umask(0o027)
    try:
        for name in ("a", "b"):
            with atomic_open(tmp_path / name) as file:
                file.write("x")
            (tmp_path / f"{name} by Python").write_text("x")
        rights = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert rights == {0o640}
