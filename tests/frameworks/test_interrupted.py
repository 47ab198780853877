"""Runs that begin in a signal handler or a forked child, whatever was under way there."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from fakes.stacks import QUESTION, open_runs
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

HAVE_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
IN_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def run_id(looked_up: Callable[[], object]) -> uuid.UUID:
    """An id that reports when it is looked up, which happens while its run is handled."""

    class Telling(uuid.UUID):
        def __hash__(self) -> int:
            looked_up()
            return super().__hash__()

    return Telling(int=uuid.uuid4().int)


def ask(**config: Any) -> None:
    FakeListChatModel(responses=["two mails"]).invoke(QUESTION, config=config)


def leave_child(work: Callable[[], int]) -> None:
    """Ends a forked child with what `work` counts, by an alarm if it hangs."""
    counted = 255
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        counted = work()
    finally:
        os._exit(counted)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no signals of this kind")
def test_a_signal_handler_may_ask_a_model_while_another_run_begins_and_ends(recorded: Any):
    handled: list[int] = []
    is_handling = threading.Event()

    def interrupt() -> None:
        # What the handler does looks the interrupted run up, too.
        if not is_handling.is_set():
            signal.raise_signal(signal.SIGUSR1)

    def handle(number: int, _frame: object) -> None:
        is_handling.set()
        handled.append(number)
        ask()
        is_handling.clear()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        RunnableLambda(str.upper).invoke(QUESTION, {"run_id": run_id(interrupt)})
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert len(handled) >= 2
    assert len(recorded.finished()) == len(handled) + 1
    assert open_runs() == 0


@HAVE_FORK
@IN_THREADS
def test_a_child_forked_while_a_run_begins_in_another_thread_records_its_own(recorded: Any):
    is_looked_up, may_go_on = threading.Event(), threading.Event()

    def wait() -> None:
        is_looked_up.set()
        may_go_on.wait(30)

    thread = threading.Thread(target=ask, kwargs={"run_id": run_id(wait)})
    thread.start()
    assert is_looked_up.wait(30)

    def in_child() -> int:
        ask()
        return len(recorded)

    child = os.fork()
    if child == 0:
        leave_child(in_child)
    try:
        assert ended(child) == 1
    finally:
        may_go_on.set()
        thread.join(30)
    assert len(recorded) == 1


@HAVE_FORK
@IN_THREADS
def test_a_forked_child_records_what_it_began_and_not_its_parents_runs(recorded: Any):
    children: list[int] = []

    class Forking(FakeListChatModel):
        def _call(self, *_given: Any, **_more: Any) -> str:
            children.append(os.fork())
            return "two mails"

    def body(asked: str) -> None:
        Forking(responses=[]).invoke(asked)
        if children[0] == 0:
            ask()

    def around() -> int:
        RunnableLambda(body).invoke(QUESTION)
        return len(recorded)

    # Both processes come back here, the child with runs that its parent has too.
    parent, counted = os.getpid(), 255
    try:
        counted = around()
    finally:
        if os.getpid() != parent:
            leave_child(lambda: counted)
    assert ended(children[0]) == 1
    assert counted == 2
    assert open_runs() == 0
