"""Small faults put into the code one at a time: which of them does a test find?

    python bench/mutate.py --count 300                              a sample over all modules but tests/ and bench/
    python bench/mutate.py --only 'data/*.py' --count 50            again: goes on, or prints the same tables

First every test file is run once under coverage, scripts and other processes that tests start included, which tells what each test
runs. Then each mutant of a seeded sample is written into a copy of the repository, and the tests that run its lines are run in a fork
of a process that has torch loaded and nothing of the repository. Everything is of the last commit, and is kept in --work as it comes,
so that a stopped run goes on, and where only tests have changed since then, those are run anew. The same seed draws the same sample,
and a larger --count adds to it.

- **Mutants**: operators (and string methods), comparisons, constants (numbers, True, and text where it is a key or is compared),
  conditions (always true, never true, one side of and/or), arguments (left out, or None where it has no name) and calls (removed).
  The first three are mutmut's. Annotations, decorators, what is raised or printed, warnings, help texts and `if __name__` stay.
- **Tests of a mutant**: those that run its lines, or for a line outside functions those that run a line with a name that it defines,
  and the tests of the module's own file. What a fixture of several tests runs, or the reading of a test file, counts for all of these.
  First come the module's own file and the quickest others, BUDGET of them; where these pass, all the rest, after the other mutants.
  Those of tests/bench/ stay out.
- **Caught**: a test fails that passes alone on the unchanged copy; or the tests take longer than GRACE and three times their seconds
  under coverage, and on the unchanged copy they don't. A line that no test runs counts as survived. Coverage doesn't see what a
  killed process ran, nor that a later caller of a cached function depends on it.
"""

import argparse
import ast
import ctypes
import difflib
import fnmatch
import gc
import hashlib
import json
import multiprocessing
import os
import pkgutil
import random
import re
import signal
import subprocess
import sys
import time
import types
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]  # coverage is a package here, not bench/coverage.py

import coverage
import libcst as cst
import psutil
import pytest
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators
from scipy.stats import binomtest
from tqdm import tqdm

# Nothing of the repository is imported: a fork of this process has to import the mutated module.
ROOT = HERE.parent
BUDGET = 20  # seconds of tests, under coverage, that a mutant is run against at first
GRACE = 30  # seconds that a mutant may take beyond three times its tests' own
PATIENCE = 3600  # seconds for a test file under coverage
LOADED = ("hypothesis", "torch", "accelerate", "transformers.trainer", "peft", "qwen_vl_utils.vision_process")
SETTINGS = """[run]
data_file = FOLDER/data
parallel = true
context = ${MUTATE_CONTEXT-}
patch = _exit
disable_warnings = no-data-collected, module-not-measured, module-not-imported
omit =
    */tests/*
    */bench/*
"""


# ---------------------------------------------------------------------------------------------------------------------
# Mutants


def ignored_arguments(call):
    if get_full_name_for_node(call.func) in ("len", "isinstance"):  # can't do without
        return
    for index, argument in enumerate(call.args):
        before, after = call.args[:index], call.args[index + 1 :]
        if left_alone(argument):
            continue
        if argument.keyword or argument.star:
            yield call.with_changes(args=[*before, *after])
        elif getattr(argument.value, "value", "") != "None":
            yield call.with_changes(args=[*before, argument.with_changes(value=cst.Name("None")), *after])


def one_side(node):
    yield from (node.left, node.right)


def removed_call(node):
    if isinstance(node.value, cst.Call) and not is_warning(node.value):
        yield cst.Pass()


def changed_key(node):
    yield from list(mutators.operator_string(node))[:1]


IDENTITY = (cst.Is, cst.IsNot, cst.In, cst.NotIn)
OPERATORS = (
    ((cst.BinaryOperation, cst.BooleanOperation, cst.UnaryOperation, cst.AugAssign), mutators.operator_swap_op, "operator"),
    (cst.UnaryOperation, mutators.operator_remove_unary_ops, "operator"),
    (cst.AugAssign, mutators.operator_augmented_assignment, "operator"),
    ((cst.Break, cst.Continue), mutators.operator_keywords, "operator"),
    (cst.Call, mutators.operator_symmetric_string_methods_swap, "operator"),
    (cst.Call, mutators.operator_unsymmetrical_string_methods_swap, "operator"),
    (cst.ComparisonTarget, mutators.operator_swap_op, "comparison"),
    (IDENTITY, mutators.operator_keywords, "comparison"),
    (cst.BaseNumber, mutators.operator_number, "constant"),
    (cst.Name, mutators.operator_name, "constant"),
    (cst.SimpleString, changed_key, "constant"),
    ((cst.If, cst.IfExp, cst.CompIf), mutators.operator_if_exp, "condition"),
    (cst.BooleanOperation, one_side, "condition"),
    (cst.Call, ignored_arguments, "argument"),
    (cst.Expr, removed_call, "call"),
)


def is_warning(call):
    return (get_full_name_for_node(call.func) or "").split(".")[0] in ("warnings", "logging")


def left_alone(node):
    """Is this no feature: a type, a message, a help text, or what makes a module a command?"""
    if isinstance(node, cst.Call):
        return get_full_name_for_node(node.func) == "print" or is_warning(node)
    if isinstance(node, cst.Arg):
        return node.keyword is not None and node.keyword.value in ("help", "metavar", "description", "epilog")
    if isinstance(node, cst.If):
        return isinstance(node.test, cst.Comparison) and get_full_name_for_node(node.test.left) == "__name__"
    if isinstance(node, cst.Assign):
        return get_full_name_for_node(node.targets[0].target) == "__all__"
    return isinstance(node, (cst.Annotation, cst.Decorator, cst.Raise))


def keys(node):
    """The parts of a node that are text only where it is a key, or is compared."""
    if isinstance(node, cst.Index):
        yield node.value
    elif isinstance(node, cst.DictElement):
        yield node.key
    elif isinstance(node, cst.Comparison):
        yield node.left
    elif isinstance(node, cst.ComparisonTarget):
        yield node.comparator
        yield from (element.value for element in getattr(node.comparator, "elements", ()))


class Finder(cst.CSTVisitor):
    """found: [(node, what it becomes, kind, its first and last line, the line of its statement)] in order."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self):
        super().__init__()
        self.found, self.keys, self.statements = [], set(), []

    def on_visit(self, node):
        if isinstance(node, cst.BaseStatement):
            self.statements.append(self.get_metadata(PositionProvider, node).start.line)
        if left_alone(node):
            return False
        self.keys.update(map(id, keys(node)))
        if not isinstance(node, cst.SimpleString) or id(node) in self.keys:
            for kinds, operator, kind in OPERATORS:
                if isinstance(node, kinds):
                    self.found += [(node, changed, kind, self.lines(node), self.statements[-1]) for changed in operator(node)]
        return True

    def lines(self, node):
        """First and last line of what is changed: an `if` without what it guards."""
        place = self.get_metadata(PositionProvider, getattr(node, "test", node), None)
        return (place.start.line, place.end.line) if place else (self.statements[-1], self.statements[-1])

    def on_leave(self, node):
        if isinstance(node, cst.BaseStatement):
            self.statements.pop()


@dataclass(frozen=True)
class Mutant:
    file: str
    kind: str
    span: tuple  # first and last line
    statement: int
    text: str
    line: int
    before: str
    after: str
    id: str


def candidates(files):
    """{file: (syntax tree, what can be changed in it)} of {file: text}."""
    found = {}
    for file, text in files.items():
        wrapper, finder = MetadataWrapper(cst.parse_module(text)), Finder()
        wrapper.visit(finder)
        found[file] = (wrapper.module, finder.found)
    return found


def draw(files, count, seed):
    """The first `count` mutants, drawn at random from all of {file: text}: of those, the ones that Python can read."""
    found = candidates(files)
    places = [(file, number) for file, (_, changes) in sorted(found.items()) for number in range(len(changes))]
    random.Random(seed).shuffle(places)
    mutants = []
    for file, number in places:
        if len(mutants) == count:
            break
        module, changes = found[file]
        node, changed, kind, span, statement = changes[number]
        text = module.deep_replace(node, changed).code
        if text == files[file] or not readable(text):
            continue
        line, before, after = difference(files[file], text)
        mutants.append(Mutant(file, kind, span, statement, text, line, before, after, f"{file}:{number}"))
    return mutants


def readable(text):
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def difference(before, after):
    """(line, text before, text after) of where two files differ, on one line each."""
    before, after = before.splitlines(), after.splitlines()
    codes = [code for code in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if code[0] != "equal"]
    one_line = lambda lines, first, last: " ".join(line.strip() for line in lines[first:last])
    first, last = codes[0], codes[-1]
    return first[1] + 1, one_line(before, first[1], last[2]), one_line(after, first[3], last[4])


# ---------------------------------------------------------------------------------------------------------------------
# What a test runs


def body_lines(text):
    """Lines inside functions: they are run by who calls, the others by who imports first."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {line for node in functions for line in range(node.body[0].lineno, node.end_lineno + 1)}


def definitions(tree):
    """(names, first line, last line) of each statement of a module or a class: what uses these names needs that statement."""
    for holder in ast.walk(tree):
        for node in holder.body if isinstance(holder, (ast.Module, ast.ClassDef)) else ():
            if not isinstance(node, ast.ClassDef):
                names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
                names = {node.name} if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else names
                first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
                yield names, first, node.end_lineno


class Recorder:
    """Plugin of pytest that tells coverage, the clock and new processes whose lines are run.

    A context is a test's name, or stands for several tests (users): a fixture that they share, or the reading of their file.
    """

    def __init__(self, cov, file):
        self.cov, self.file, self.context, self.since = cov, file, file, time.perf_counter()
        self.seconds, self.users, self.tests, self.failed = Counter(), defaultdict(list), [], set()
        self.switch(file)

    def switch(self, context):
        before, now = self.context, time.perf_counter()
        self.seconds[before] += now - self.since
        self.context, self.since = context, now
        self.cov.switch_context(context)
        os.environ["MUTATE_CONTEXT"] = context  # for processes that it starts
        return before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.tests.append(item.nodeid)
        for context in (self.file, *(f"{self.file} fixture {name}" for name in item.fixturenames)):
            self.users[context].append(item.nodeid)
        self.switch(item.nodeid)
        yield
        self.switch(self.file)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope == "function":
            return (yield)
        before = self.switch(f"{self.file} fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self.switch(before)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)

    def record(self):
        users = {context: users for context, users in self.users.items() if context in self.seconds}
        return {"file": self.file, "tests": self.tests, "failed": sorted(self.failed), "users": users, "seconds": self.seconds}


def record(file, bodies):
    """What the tests of a file run: for a process of its own. bodies: {file of the repository: lines of functions}."""
    with TemporaryDirectory() as folder:
        settings = Path(folder, "settings")
        settings.write_text(SETTINGS.replace("FOLDER", folder))
        os.environ["COVERAGE_PROCESS_START"] = str(settings)
        cov = coverage.Coverage(config_file=str(settings))
        cov.start()
        recorder = Recorder(cov, file)
        run_pytest([file], recorder)
        recorder.switch(file)
        cov.stop()
        cov.save()
        lines = defaultdict(lambda: defaultdict(set))
        for path in Path(folder).glob("data.*"):
            data = coverage.CoverageData(str(path))
            try:
                data.read()
            except coverage.exceptions.DataError:  # its process was killed while it wrote
                continue
            for measured in data.measured_files():
                name = own_name(measured, bodies)
                for line, contexts in data.contexts_by_lineno(measured).items() if name else ():
                    for context in contexts if line in bodies[name] else ():
                        lines[name][context].add(line)
    return {**recorder.record(), "lines": {name: {key: sorted(value) for key, value in part.items()} for name, part in lines.items()}}


def own_name(path, names):
    """The file of the repository that this is, or is a copy of; else None."""
    parts = Path(path).parts
    return next((name for start in range(len(parts)) if (name := "/".join(parts[start:])) in names), None)


class Suite:
    """What is known of the tests. Those that failed under coverage find nothing."""

    def __init__(self, files, records):
        self.files = files  # {file of the repository: text}
        self.tests = {}  # {test file: all its tests}
        self.seconds = {}  # {context: seconds}
        self.needs = {}  # {test: contexts}
        self.users = {}  # {context: tests}
        self.running = defaultdict(lambda: defaultdict(list))  # {file of the repository: {line: contexts}}
        for known in records:
            self.tests[known["file"]] = known["tests"]
            self.seconds |= known["seconds"]
            good = set(known["tests"]) - set(known["failed"])
            users = known["users"] | {test: [test] for test in good}
            self.users |= {context: good.intersection(tests) for context, tests in users.items()}
            self.needs |= {test: {context for context, tests in users.items() if test in tests} for test in good}
            for file, contexts in known["lines"].items():
                for context, lines in contexts.items():
                    for line in lines:
                        self.running[file][line].append(context)

    def of_lines(self, file, lines):
        contexts = set().union(*(self.running[file][line] for line in lines if line in self.running[file]))
        return set().union(*(self.users.get(context, ()) for context in contexts))

    def own_file(self, file):
        name = Path("tests", Path(file).parent, f"test_{Path(file).name}").as_posix()
        return name if name in self.tests else None

    def of_mutant(self, mutant):
        """The tests that run a mutant's lines."""
        first, last = mutant.span
        if mutant.statement in body_lines(self.files[mutant.file]):
            return self.of_lines(mutant.file, range(first, last + 1)) or self.of_lines(mutant.file, [mutant.statement])
        names = self.names(mutant)
        users = self.of_names(names) if names else self.of_lines(mutant.file, self.running[mutant.file])
        return users | self.users.get(self.own_file(mutant.file), set())

    def names(self, mutant):
        """What the mutant's statement defines, and what other statements of its module define from that."""
        text = self.files[mutant.file]
        lines, parts = text.splitlines(), [*definitions(ast.parse(text))]
        known = set().union(*(names for names, first, last in parts if first <= mutant.statement <= last))
        mention = lambda first, last: mentions("\n".join(lines[first - 1 : last]), known)
        while new := set().union(*(names for names, first, last in parts if mention(first, last))) - known:
            known |= new
        return known

    def of_names(self, names):
        found = set()
        for name, text in self.files.items():
            if mentions(text, names):
                found |= self.of_lines(name, [number for number, line in enumerate(text.splitlines(), 1) if mentions(line, names)])
        return found

    def cost(self, tests):
        """Seconds of tests, with what they share."""
        return sum(self.seconds[context] for context in set().union(*(self.needs[test] for test in tests)))

    def first(self, mutant, tests):
        """The module's own and then the quickest tests, as many as take BUDGET together; at least one."""
        own, chosen, needed, seconds = self.own_file(mutant.file), [], set(), 0
        for test in sorted(tests, key=lambda test: (file_of(test) != own, self.cost([test]), test)):
            seconds += sum(self.seconds[context] for context in self.needs[test] - needed)
            if chosen and seconds > BUDGET:
                break
            chosen.append(test)
            needed |= self.needs[test]
        return chosen

    def in_order(self, mutant, tests):
        """The tests by file, the module's own and then the quickest file first; in a file the quickest first."""
        by_file = defaultdict(list)
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            by_file[file_of(test)].append(test)
        own = self.own_file(mutant.file)
        return [test for file in sorted(by_file, key=lambda file: (file != own, self.cost(by_file[file]))) for test in by_file[file]]


def mentions(text, names):
    return bool(names) and re.search(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b", text) is not None


def file_of(test):
    return test.split("::")[0]


# ---------------------------------------------------------------------------------------------------------------------
# Forks that run tests


class Chosen:
    """Plugin of pytest that runs some tests in an order. known: all tests there were, so that one with a new name is run too."""

    def __init__(self, tests, known):
        self.rank, self.known = {test: number for number, test in enumerate(tests)}, known
        self.failed = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        chosen = [item for item in items if item.nodeid in self.rank or item.nodeid not in self.known]
        items[:] = sorted(chosen, key=lambda item: self.rank.get(item.nodeid, -1))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed = self.failed or report.nodeid

    pytest_collectreport = pytest_runtest_logreport


def check(tests, known):
    plugin = Chosen(tests, known)
    code = run_pytest(list(dict.fromkeys(map(file_of, tests))), plugin)
    return plugin.failed or (None if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else "the start of pytest")


def run_pytest(files, plugin):
    options = ["-q", "-x", "--tb=no"] if isinstance(plugin, Chosen) else ["-q"]
    return pytest.main([*options, "-p", "no:cacheprovider", "--rootdir=.", "--basetemp=../tmp", *files], plugins=[plugin])


class Copy:
    """A copy of the last commit, and tests in forks in it. One for each worker."""

    def __init__(self, place):
        self.folder = Path(place, str(os.getpid()), "repository")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(self.folder)], check=True)
        files = self.git("ls-files", "-z", "*.py")  # a mutant is no changed checkout to who asks git
        self.git("update-index", "--assume-unchanged", "-z", "--stdin", given=files)
        self.sound, self.unsound = set(), set()

    def git(self, *command, given=None):
        return subprocess.run(["git", *command], cwd=self.folder, input=given, stdout=subprocess.PIPE, check=True).stdout

    def fork(self, limit, function, *arguments):
        """(how it ended, what the function returned) of a process of its own in this folder; what it started is ended with it."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=self.inside, args=(sender, function, arguments))
        process.start()
        sender.close()
        try:
            return ("done", receiver.recv()) if receiver.poll(limit) else ("time", None)
        except EOFError:
            return "died", None
        finally:
            started = psutil.Process().children(recursive=True)
            for each in started:
                end(each)
            process.join()
            psutil.wait_procs(started, timeout=5)
            self.git("clean", "-fdxq")

    def inside(self, sender, function, arguments):
        end_with_parent()
        os.chdir(self.folder)
        for descriptor, path in ((0, os.devnull), (1, "../output"), (2, "../output")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdin, sys.stdout, sys.stderr = (open(number, "r" if number == 0 else "w", closefd=False) for number in range(3))
        sys.path.insert(0, str(self.folder))
        sys.argv, sys.modules["__main__"] = ["pytest"], types.ModuleType("__main__")  # processes that it starts look there
        sender.send(function(*arguments))

    def judge(self, mutant, tests, known, limit):
        """(who caught it or None, seconds, tests that fail on the unchanged code too)."""
        path, begin = self.folder / mutant.file, time.perf_counter()
        original, caught, given = path.read_text(encoding="utf-8"), None, tests
        while tests := [test for test in given if test not in self.unsound]:
            path.write_text(mutant.text, encoding="utf-8")
            try:
                how, caught = self.fork(limit, check, tests, known)
            finally:
                path.write_text(original, encoding="utf-8")
            if how == "died":
                caught = "the end of the process"
            elif how == "time" and limit < PATIENCE and self.fork(limit, check, tests, known)[0] == "time":  # the machine is busy
                limit *= 4
                continue
            elif how == "time":
                caught = "time-out"
            if caught not in tests or self.passes(caught, known):
                break
        return caught, time.perf_counter() - begin, sorted(self.unsound.intersection(given))

    def passes(self, test, known):
        """Does a test pass on the unchanged code, alone?"""
        if test not in self.sound:
            passed = self.fork(PATIENCE, check, [test], known) == ("done", None)
            (self.sound if passed else self.unsound).add(test)
        return test in self.sound


def end(process):
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def end_with_parent():
    """Let the kernel kill this process where its parent is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def adopt_orphans():
    """Let what is started below this process stay below it where its own parent ends."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


COPY = None  # this worker's


def start_worker(place):
    global COPY
    end_with_parent()
    adopt_orphans()
    COPY = Copy(place)


def record_in_copy(file, bodies):
    how, known = COPY.fork(PATIENCE, record, file, bodies)
    if how != "done":
        raise RuntimeError(f"{file}: no result under coverage ({how}):\n{(COPY.folder.parent / 'output').read_text()[-3000:]}")
    return known


def judge_in_copy(mutant, *arguments):
    return COPY.judge(mutant, *arguments)


# ---------------------------------------------------------------------------------------------------------------------
# The run


class Journal:
    """JSON lines on disk, each written as it comes; a line that a kill cut is dropped."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b")
        self.file.seek(0)
        whole = self.file.read().rpartition(b"\n")[0]
        self.file.truncate(len(whole) + 1 if whole else 0)
        self.lines = [json.loads(line) for line in whole.splitlines()]

    def add(self, line):
        self.lines.append(line)
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def git(*command):
    return subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True).stdout


def digest(parts):
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()[:12]


def source_files():
    """({file: text} of the code at the last commit, a digest of everything but tests, {test file: digest of it and of helpers})."""
    blobs = {name: text.split()[2] for text, name in (line.split("\t") for line in git("ls-tree", "-r", "HEAD").splitlines())}
    tests = {name for name in blobs if re.fullmatch(r"tests/(?!bench/)(.*/)?test_\w+\.py", name)}
    helpers = {name for name in blobs if name.startswith("tests/")} - tests
    others = {*blobs} - tests - helpers - {"bench/README.md"}  # which has this bench's own tables
    code = {name: git("show", f"HEAD:{name}") for name in others if name.endswith(".py") and not name.startswith("bench/")}
    of = lambda names: digest([name, blobs[name]] for name in names)
    return code, of(others), {test: of({test} | helpers) for test in tests}


def load_slow_packages(files):
    """What a fork then need not: pytest's plugins, and of LOADED what the code imports."""
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(files.values()), re.MULTILINE))
    for name in LOADED:
        if name.split(".")[0] in {*imported, "hypothesis"}:
            pkgutil.resolve_name(name)
    gc.freeze()  # forks share it, and need not search it


def in_parallel(pool, what, jobs):
    """Yield (key, result) of {key: (function, *arguments)} as they end, under a progress bar."""
    waiting = {pool.submit(*job): key for key, job in jobs.items()}
    try:
        for future in tqdm(as_completed(waiting), what, total=len(jobs), disable=not jobs):
            yield waiting[future], future.result()
    finally:
        for future in waiting:
            future.cancel()


def know_suite(pool, work, files, digests):
    """What every test runs, from the journal or by running it. digests: {test file: its digest}."""
    journal = Journal(work / "tests.jsonl")
    found = {known["file"]: known for known in journal.lines if digests.get(known["file"]) == known["digest"]}
    bodies = {name: body_lines(text) for name, text in files.items()}
    size = lambda file: -(ROOT / file).stat().st_size  # the longest first, so that all workers end together
    missing = sorted({*digests} - {*found}, key=size)
    for file, known in in_parallel(pool, "tests under coverage", {file: (record_in_copy, file, bodies) for file in missing}):
        found[file] = known | {"digest": digests[file]}
        journal.add(found[file])
    if failed := [test for known in found.values() for test in known["failed"]]:
        print(f"Fail under coverage, and find nothing: {', '.join(failed)}\n")
    return Suite(files, found.values())


def judge_all(pool, work, suite, mutants, digests):
    """[each mutant's result], from the journal or by running tests: the first ones of each mutant, then the rest."""
    journal = Journal(work / "mutants.jsonl")
    covering = {mutant: suite.of_mutant(mutant) for mutant in mutants}
    first = {mutant: suite.first(mutant, covering[mutant]) for mutant in mutants}
    files = lambda mutant, by: {file_of(by)} if by and "::" in by else {*map(file_of, covering[mutant])}  # that an outcome depends on
    state = lambda mutant, by: {file: digests[file] for file in files(mutant, by) if file in digests}
    by_id = {mutant.id: mutant for mutant in mutants}
    holds = lambda result: result["id"] in by_id and result["tests"] == state(by_id[result["id"]], result["by"])
    results = {result["id"]: result for result in journal.lines if holds(result)}

    def run(what, chosen):
        jobs = {}
        for mutant, tests in sorted(chosen.items(), key=lambda item: suite.cost(item[1])):
            known = {test for file in {*map(file_of, tests)} for test in suite.tests[file]}
            jobs[mutant] = (judge_in_copy, mutant, suite.in_order(mutant, tests), known, GRACE + 3 * suite.cost(tests))
        for mutant, (by, seconds, unsound) in in_parallel(pool, what, jobs):
            said = {name: getattr(mutant, name) for name in ("id", "file", "line", "kind", "before", "after")}
            before = results.get(mutant.id, {"seconds": 0, "ran": 0, "unsound": []})
            ran, seconds = before["ran"] + len(chosen[mutant]), round(before["seconds"] + seconds, 1)
            said |= {"by": by, "seconds": seconds, "ran": ran, "of": len(covering[mutant]), "unsound": before["unsound"] + unsound}
            said["tests"] = state(mutant, by)
            results[mutant.id] = {**said, "outcome": "caught" if by else "survived" if ran else "not covered"}
            journal.add(results[mutant.id])

    run("mutants", {mutant: first[mutant] for mutant in mutants if mutant.id not in results})
    survivors = [mutant for mutant in mutants if is_open(results[mutant.id])]
    run("survivors", {mutant: covering[mutant] - set(first[mutant]) for mutant in survivors})
    return [results[mutant.id] for mutant in mutants]


def is_open(result):
    return result["outcome"] == "survived" and result["ran"] < result["of"]


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def table(results, column):
    """Markdown: mutants, those caught, their share and its 95 % interval (Wilson), by a column and in all."""
    groups = {name: [result for result in results if result[column] == name] for name in sorted({result[column] for result in results})}
    lines = [f"| {column} | mutants | caught | share | 95 % interval | not covered |", "|---|---|---|---|---|---|"]
    for name, group in {**groups, "**all**": results}.items():
        count = Counter(result["outcome"] for result in group)
        ends = binomtest(count["caught"], len(group)).proportion_ci(method="wilson")
        share = f"{count['caught'] / len(group):.1%} | {ends.low:.1%} to {ends.high:.1%}"
        lines.append(f"| {name} | {len(group)} | {count['caught']} | {share} | {count['not covered']} |")
    return "\n".join(lines)


def survivor(result):
    tests = f"{result['ran']} of {result['of']} tests" if is_open(result) else f"{result['of']} tests"
    return f"{result['file']}:{result['line']} {result['kind']} ({tests})\n  - {result['before']}\n  + {result['after']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="GLOB", nargs="+", default=["*"], help="files to change, as 'data/*.py'")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs_mutate", help="where results are kept (default: outputs_mutate)")
    args = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "COVERAGE_"))]:
        del os.environ[name]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if shared := os.environ.get("SURGVQA_SHARED"):
        os.environ["SURGVQA_SHARED"] = str(Path(shared).resolve())
    sys.dont_write_bytecode = True
    commit, (files, code, digests) = git("rev-parse", "--short=12", "HEAD").strip(), source_files()
    work = args.work.resolve() / code
    chosen = {name: text for name, text in files.items() if any(fnmatch.fnmatch(name, pattern) for pattern in args.only)}
    mutants = draw(chosen, args.count, args.seed)
    load_slow_packages(files)
    with TemporaryDirectory() as place:
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(args.jobs, fork, start_worker, (place,)) as pool:
            suite = know_suite(pool, work, files, digests)
            results = judge_all(pool, work, suite, mutants, digests)
    if not results:
        parser.error(f"--only {' '.join(args.only)}: no mutant of a file at commit {commit}")
    print(f"commit {commit}, seed {args.seed}, {sum(result['seconds'] for result in results):,.0f} s of tests\n")
    print(table(results, "file"), table(results, "kind"), sep="\n\n")
    if unsound := sorted({test for result in results for test in result["unsound"]}):
        print(f"\nFail alone on the unchanged code, and found nothing: {', '.join(unsound)}")
    print("\nSurvivors:", *(survivor(result) for result in results if result["outcome"] != "caught"), sep="\n")


if __name__ == "__main__":
    main()
