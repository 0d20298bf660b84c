"""A Python for tests that start scripts: what it runs is a fork of a process that has torch and transformers loaded, which takes seconds.

`quick_python()` is an executable: `[-u] SCRIPT ARGUMENT…` and `[-u] -m MODULE ARGUMENT…` run in the folder and with the environment,
the files and the signals of whoever starts it, and what they start by sys.executable is as quick. Anything else is left to Python itself.

    test ─ starts ─> client (this file, `connect`) ─ socket ─> server ─ forks ─> watcher ─ forks ─> the script
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

LOADED = ("torch", "accelerate", "transformers.trainer", "peft", "qwen_vl_utils.vision_process", "matplotlib.pyplot", "scipy.stats")
LOADED += (*(f"transformers.models.qwen2_vl.{kind}_qwen2_vl" for kind in ("modeling", "processing")), "pydantic", "jinja2", "yaml")
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@cache
def quick_python():
    """Path of the executable. Its server is that of the process that started this one, where that has one, or this process's own."""
    return os.environ.get("QUICK_PYTHON") or start()


def start():
    """Start a server that ends with this process, and return the executable's path at once; what it runs waits for the server."""
    folder = Path(tempfile.mkdtemp(prefix="python-"))
    python, address = folder / "python", folder / "server"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "{address}" "{sys.executable}" "$0" "$@"\n')
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # only scripts are measured
    start.server = subprocess.Popen([sys.executable, __file__, address], cwd=folder, env=environment, stdin=subprocess.PIPE)  # stays open
    return str(python)


def connect(address, real, quick, *arguments):
    """The client: has the server run `arguments`, hands signals on to that, and ends as it does."""
    asked = arguments[1:] if arguments[:1] == ("-u",) else arguments  # every line is written at once anyway
    if not asked or asked[0].startswith("-") and asked[0] != "-m":
        os.execv(real, [real, *arguments])
    server = socket.socket(socket.AF_UNIX)
    began = time.monotonic()
    while server.connect_ex(address):  # it is still loading
        assert time.monotonic() - began < 300, "there is no server"
        time.sleep(0.05)
    socket.send_fds(server, [b" "], [0, 1, 2])
    lines = server.makefile("rw")
    print(json.dumps([quick, asked, os.getcwd(), dict(os.environ)]), file=lines, flush=True)
    script = int(lines.readline())
    for number in HANDED_ON:
        signal.signal(number, lambda number, _: os.kill(script, number))
    code = int(lines.readline())
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(address):
    """The server: returns, in a fork, what a client asks for."""
    gc.disable()
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("qwen2_vl")  # half a second, once
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a watcher
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                break
            client.close()
        else:
            shutil.rmtree(Path(address).parent)
            sys.exit()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return watch(client)


def watch(client):
    """The watcher: returns, in a fork, what its client asks for, and tells it how that ended; a client that is killed takes it along."""
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    lines = client.makefile("rw")
    request = json.loads(lines.readline())
    script = os.fork()
    if script == 0:
        os.setsid()
        return files, *request
    for number in files:
        os.close(number)
    print(script, file=lines, flush=True)
    ended = os.pidfd_open(script)
    if ended not in select.select([ended, client], [], [])[0]:
        os.kill(script, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(script, 0)[1])
    try:
        print(code, file=lines, flush=True)
    finally:
        os._exit(0)


def become(files, quick, arguments, folder, environment):
    """Make this process what a Python that starts is; return `arguments`, the script's."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (open(number, "w" if number else "r", buffering=1, closefd=False) for number in range(3))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable, sys.path[0] = quick, folder
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(":"))
    if find_spec("sitecustomize"):
        importlib.import_module("sitecustomize")
    if "COVERAGE_PROCESS_START" in environment:
        importlib.import_module("coverage").process_startup(force=True)
    sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS") or os.cpu_count()))
    return arguments


def run_script(arguments):
    """Run it and end as Python does, but for the end of everything loaded, which takes longer than most scripts."""
    code = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).absolute().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code & 255)


if __name__ == "__main__":
    connect(*sys.argv[1:]) if len(sys.argv) > 2 else run_script(become(*serve(sys.argv[1])))
