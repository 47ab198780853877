"""Patches of threads and executors: out of the way of the user's calls, and of others' patches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.program import Init
from opentelemetry import context as context_api
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

import agentpulse

KEY = context_api.create_key("test")


def seen_by(run: Callable[[Callable[[], None]], object]) -> object:
    """What `run` has a function find in its context, of what is in the one around `run`."""
    found: list[object] = []
    token = context_api.attach(context_api.set_value(KEY, "here"))
    try:
        run(lambda: found.append(context_api.get_value(KEY)))
    finally:
        context_api.detach(token)
    (value,) = found
    return value


def by_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def by_timer(function: Callable[[], None]) -> None:
    timer = threading.Timer(0, function)
    timer.start()
    timer.join()


def by_executor(function: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(function).result()


WAYS = pytest.mark.parametrize("way", [by_thread, by_timer, by_executor])


@WAYS
def test_the_context_is_carried_until_shutdown(
    way: Callable[[Callable[[], None]], None], started: Init
) -> None:
    assert seen_by(way) is None
    started()
    assert seen_by(way) == "here"
    agentpulse.shutdown()
    assert seen_by(way) is None


def test_wrong_calls_fail_as_ever(started: Init) -> None:
    def failures() -> list[str]:
        said = []
        with ThreadPoolExecutor(1) as executor:
            calls: list[Callable[[], Any]] = [
                executor.submit,  # type: ignore[list-item]  # wrong on purpose
                executor.submit(None).result,  # type: ignore[arg-type]  # the same
                lambda: threading.Thread.start(None),  # type: ignore[arg-type]  # the same
                threading.Thread().run,
            ]
            for call in calls:
                try:
                    said.append(repr(call()))
                except Exception as error:  # noqa: BLE001  # whatever it says
                    said.append(repr(error))
        return said

    bare = failures()
    started()
    assert failures() == bare
    assert "TypeError" in bare[0]


def test_a_thread_that_guards_its_attributes_starts(started: Init) -> None:
    class Guarded(threading.Thread):
        def __setattr__(self, name: str, value: object) -> None:
            if name.startswith("_agentpulse"):
                raise AttributeError(name)
            super().__setattr__(name, value)

    started()
    before = set(vars(Guarded()))

    def run(function: Callable[[], None]) -> None:
        thread = Guarded(target=function)
        thread.start()
        thread.join()
        assert set(vars(thread)) <= before

    assert seen_by(run) == "here"


def test_what_is_patched_over_ours_stays_and_ours_ends(
    started: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", vars(threading.Thread)["start"])
    bare = vars(threading.Thread)["start"]
    started()
    ours = vars(threading.Thread)["start"]
    assert ours is not bare

    def theirs(thread: threading.Thread) -> None:
        ours(thread)

    threading.Thread.start = theirs  # type: ignore[method-assign]  # as another library does
    agentpulse.shutdown()
    assert vars(threading.Thread)["start"] is theirs
    assert seen_by(by_thread) is None


class ThreadingInstrumentor(BaseInstrumentor):
    """Stands in for OpenTelemetry's, which pins other packages: it can be on, and does nothing."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **_kwargs: Any) -> None:
        pass

    def _uninstrument(self, **_kwargs: Any) -> None:
        pass


@pytest.mark.parametrize("is_on", [True, False])
def test_opentelemetrys_own_instrumentation_does_it_where_it_is_on(
    is_on: bool, started: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(ThreadingInstrumentor=ThreadingInstrumentor)
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.threading", module)
    bare = vars(threading.Thread)["start"]
    if is_on:
        ThreadingInstrumentor().instrument()
    try:
        started()
        assert (vars(threading.Thread)["start"] is bare) == is_on
    finally:
        ThreadingInstrumentor().uninstrument()
