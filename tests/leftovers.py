"""A pytest plugin: no test leaves a process running, however it ends, and all may be interrupted.

Programs of a test that has ended are killed, and the test fails. So are, when the run ends, those
that a killed worker of pytest-xdist left. A run that is itself killed leaves nothing either: a
small process of its own waits for that. This works on Linux; elsewhere there is no `/proc`, and
what `fakes.processes` starts is ended by that alone.

A background shell lets its programs ignore SIGINT, and `nohup` lets them ignore SIGHUP. Programs
inherit that, so each would have to be tested as one that can't be interrupted. While tests run,
both signals have handlers here, with which a program starts with the default actions.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes.processes import RUN

PROCESSES = Path("/proc")
IS_WATCHED = sys.platform == "linux" and PROCESSES.is_dir()
SECONDS_TO_END = 20.0
"""What a process gets that is about to end when its test is over."""
_SET_CHILD_SUBREAPER = 36

WATCH = """
import os, signal, sys, time
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.5)
for name in os.listdir("/proc"):
    try:
        with open(f"/proc/{name}/environ", "rb") as environ:
            if sys.argv[2].encode() in environ.read().split(bytes(1)):
                os.kill(int(name), signal.SIGKILL)
    except (OSError, ValueError):
        pass  # not a process, not ours, or gone
"""


class Process(NamedTuple):
    pid: int
    parent: int
    state: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and at most waits to be waited for."""
        return self.state in "ZX"

    @property
    def command(self) -> str:
        try:
            words = (PROCESSES / str(self.pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return "?"
        return " ".join(repr(word.decode(errors="replace"))[1:-1] for word in words)[:200]


def process(pid: str) -> Process | None:
    """What there is of a process now."""
    try:
        stat = (PROCESSES / pid / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name of its program, in brackets, may hold anything.
    state, parent = stat.rpartition(")")[2].split()[:2]
    return Process(int(pid), int(parent), state)


def descendants() -> dict[int, Process]:
    """The processes that this one started, and those that they started, by their ids."""
    if not (IS_WATCHED and _has_children()):
        return {}
    pids = (name for name in os.listdir(PROCESSES) if name.isdigit())  # noqa: PTH208  # quicker
    everything = [each for each in map(process, pids) if each is not None]
    found: dict[int, Process] = {}
    parents = {os.getpid()}
    while parents:
        children = {each.pid: each for each in everything if each.parent in parents}
        parents = children.keys() - found.keys()
        found |= children
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_all(but: dict[int, Process], patience: float) -> list[str]:
    """Kills what has not ended by itself in the time; says which commands that were."""
    deadline = time.monotonic() + patience
    killed: dict[int, str] = {}
    while running := _running(but):
        if time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        for each in running:
            killed.setdefault(each.pid, each.command)
            try:
                os.kill(each.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    return [f"{pid}: {command}" for pid, command in killed.items()]


def _running(but: dict[int, Process]) -> list[Process]:
    running: list[Process] = []
    for each in descendants().values():
        if each.pid in but:
            continue
        if not each.is_over:
            running.append(each)
        elif each.parent == os.getpid():
            # Nobody else waits for it: its own parent ended before it.
            try:
                os.waitpid(each.pid, os.WNOHANG)
            except ChildProcessError:
                pass
    return running


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """The first fixture of each test to be set up, after those that several tests share."""
    shared = descendants()
    yield
    if left := end_all(shared, SECONDS_TO_END):
        pytest.fail("\n".join(["The test left processes running:", *left]), pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def programs_may_be_interrupted() -> Iterator[None]:
    handlers: dict[str, Any] = {
        "SIGINT": signal.default_int_handler,
        "SIGHUP": _go_on,
        "SIGQUIT": _go_on,
    }
    ignored = [
        number
        for number in (getattr(signal, name, None) for name in handlers)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, handlers[number.name])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def _go_on(_number: int, _frame: object) -> None:
    pass


class Leftovers:
    """For the process that reports: watches over all others, and ends what they left."""

    def __init__(self) -> None:
        self._left: list[str] = []
        self._watch: subprocess.Popen[bytes] | None = None

    def pytest_sessionstart(self) -> None:
        run = f"{os.getpid()}-{time.time_ns()}"
        os.environ[RUN] = run
        command = [sys.executable, "-I", "-S", "-c", WATCH, str(os.getpid()), f"{RUN}={run}"]
        without = {name: value for name, value in os.environ.items() if name != RUN}
        self._watch = subprocess.Popen(
            command,
            env=without,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # By now the workers of pytest-xdist have ended.
        if self._watch is not None:
            self._watch.kill()
            self._watch.wait()
        is_well = session.exitstatus == pytest.ExitCode.OK
        self._left = end_all({}, SECONDS_TO_END if is_well else 0)
        if is_well and self._left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("Processes that were left running", red=True)
            for line in self._left:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if not IS_WATCHED:
        return
    # Processes whose parent ended become children of this one, and so stay in sight.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leftovers())
