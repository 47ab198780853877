"""Exceptions that nobody handled, and processes that end in the middle of their work."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import processes
from fakes.program import Init
from fakes.receiver import Receiver

import agentpulse

BEGIN = """
import sys, threading, asyncio, agentpulse
agentpulse.init(endpoint=sys.argv[1], heartbeat_interval=0, auto_patch=False)
"""


def program(code: str, receiver: Receiver) -> subprocess.CompletedProcess[str]:
    return processes.run([sys.executable, "-W", "error", "-c", BEGIN + code, receiver.url])


def errors(receiver: Receiver) -> list[dict[str, Any]]:
    return [event["data"] for event in receiver.of_kind("error")]


def test_an_exception_that_ends_the_program_is_told_before_it_ends(
    strict_receiver: Receiver,
) -> None:
    ended = program("raise ValueError('a secret')", strict_receiver)
    assert ended.returncode == 1
    assert "ValueError: a secret" in ended.stderr
    assert errors(strict_receiver) == [{"error_type": "ValueError", "where": "main"}]


def test_the_hook_of_before_is_still_called(strict_receiver: Receiver) -> None:
    code = """
agentpulse.shutdown()
sys.excepthook = lambda kind, error, traceback: print("theirs", kind.__name__)
agentpulse.init(endpoint=sys.argv[1], heartbeat_interval=0, auto_patch=False)
raise LookupError
"""
    ended = program(code, strict_receiver)
    assert (ended.stdout, ended.stderr) == ("theirs LookupError\n", "")
    assert errors(strict_receiver) == [{"error_type": "LookupError", "where": "main"}]


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "sys.exit(3)"])
def test_ctrl_c_and_exits_are_no_errors(strict_receiver: Receiver, code: str) -> None:
    assert program(code, strict_receiver).returncode != 0
    assert errors(strict_receiver) == []
    assert strict_receiver.of_kind("sdk_init")


def test_exceptions_of_threads_and_of_asyncio_are_told(strict_receiver: Receiver) -> None:
    code = """
def fail():
    raise LookupError("a secret")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
async def program():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
asyncio.run(program())
"""
    ended = program(code, strict_receiver)
    assert ended.returncode == 0
    assert ended.stderr.count("LookupError: a secret") == 2
    assert errors(strict_receiver) == [
        {"error_type": "LookupError", "where": "thread"},
        {"error_type": "LookupError", "where": "asyncio"},
    ]


def test_a_run_that_is_killed_started_and_never_ended(strict_receiver: Receiver) -> None:
    code = """
import time
with agentpulse.cron("nightly", schedule="0 3 * * *"):
    agentpulse.flush()
    print("running", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", BEGIN + code, strict_receiver.url]
    with processes.running(command) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "running\n"
        running.send_signal(signal.SIGKILL)
    (start,) = strict_receiver.of_kind("span_start")
    (session,) = strict_receiver.of_kind("session")
    assert start["data"]["job"] == "nightly"
    assert session["data"]["action"] == "start"
    assert strict_receiver.of_kind("cron") == []


def test_everything_is_put_back(started: Init) -> None:
    def hooks() -> list[object]:
        return [
            sys.excepthook,
            threading.excepthook,
            vars(asyncio.BaseEventLoop)["call_exception_handler"],
            vars(threading.Thread)["start"],
            vars(threading.Thread)["_bootstrap_inner"],
            vars(ThreadPoolExecutor)["submit"],
        ]

    def timers() -> list[object]:
        return [vars(threading.Timer).get(name) for name in ("start", "run")]

    before, timers_before = hooks(), timers()
    for _ in range(2):
        started(auto_patch=True, instrument=())
        assert all(now is not then for now, then in zip(hooks(), before, strict=True))
        agentpulse.shutdown()
        assert all(now is then for now, then in zip(hooks(), before, strict=True))
        assert timers() == timers_before


def test_a_hook_that_came_after_ours_stays(started: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.excepthook
    monkeypatch.setattr(sys, "excepthook", before)
    started()
    ours = sys.excepthook
    seen: list[object] = []

    def theirs(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        seen.append(error)
        ours(kind, error, traceback)

    sys.excepthook = theirs
    agentpulse.shutdown()
    assert sys.excepthook is theirs
    monkeypatch.setattr(sys, "stderr", None)
    error = ValueError()
    sys.excepthook(ValueError, error, None)
    assert seen == [error]
