"""Pools, timers, forks and foreign contexts: each thing stays in its session."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from fakes import processes
from fakes.pipe import becomes_true
from fakes.program import Init
from fakes.receiver import Receiver

import agentpulse


def sessions_of(events: list[dict[str, Any]], kind: str = "event") -> dict[str, str | None]:
    """The label of each event's session, by the event's name."""
    return {
        event["data"].get("name", kind): (event.get("session") or "none:").partition(":")[0]
        for event in events
        if event["kind"] == kind
    }


def outcomes(events: list[dict[str, Any]]) -> dict[str, str]:
    return {
        event["session"]: event["data"]["status"]
        for event in events
        if event["kind"] == "session" and event["data"]["action"] == "end"
    }


def test_a_worker_of_a_pool_is_in_no_session_but_its_jobs_are(started: Init) -> None:
    events = started()
    with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
        with agentpulse.session("first"):
            executor.submit(agentpulse.event, "submitted in the first").result()
            pool.apply(agentpulse.event, ("applied in the first",))
        gate = threading.Event()
        with agentpulse.session("second"):
            future = executor.submit(gate.wait)
            future.add_done_callback(lambda _: agentpulse.event("called back"))
            pool.map(agentpulse.event, ["mapped in the second"])
            list(pool.imap_unordered(agentpulse.event, ["imapped in the second"]))
            pool.apply_async(func=agentpulse.event, args=("applied in the second",)).get()
        gate.set()
        future.result()
        pool.apply(agentpulse.event, ("applied outside",))
        executor.submit(agentpulse.event, "submitted outside").result()

    assert sessions_of(events()) == {
        "submitted in the first": "first",
        "applied in the first": "first",
        "called back": "none",
        "mapped in the second": "second",
        "imapped in the second": "second",
        "applied in the second": "second",
        "applied outside": "none",
        "submitted outside": "none",
    }


def test_pools_are_afterwards_what_they_were(started: Init) -> None:
    before = dict(vars(ThreadPool))
    started()
    assert dict(vars(ThreadPool)) != before
    agentpulse.shutdown()
    assert dict(vars(ThreadPool)) == before


def test_a_job_that_sets_up_its_next_run_is_not_inside_its_earlier_ones(started: Init) -> None:
    events = started()
    runs = iter(range(3))

    @agentpulse.cron("tick")
    def tick() -> threading.Event:
        over = threading.Event()
        if next(runs, None) is not None:
            threading.Timer(0, follow, (over,)).start()
        return over

    def follow(previous: threading.Event) -> None:
        assert previous.wait(10)
        tick().set()

    tick().set()
    assert becomes_true(lambda: sum(event["kind"] == "cron" for event in events()) == 4)
    told = [event for event in events() if event["kind"] == "cron"]

    assert len({event["trace_id"] for event in told}) == 4
    assert not [event for event in events() if "parent_session" in event["data"]]
    assert not [event for event in told if "parent_span_id" in event]


def test_what_goes_on_after_its_session_still_belongs_to_it(started: Init) -> None:
    events = started()

    @agentpulse.task
    async def later() -> None:
        await asyncio.sleep(0)
        agentpulse.event("afterwards")

    async def run() -> None:
        with agentpulse.session("day"):
            going_on = asyncio.create_task(later())
        await going_on

    asyncio.run(run())
    assert sessions_of(events()) == {"afterwards": "day"}


def test_a_shared_recording_ends_the_block_that_ends_wherever_it_is_left(started: Init) -> None:
    events = started()
    recording = agentpulse.session("request")

    async def dependency() -> AsyncIterator[Any]:
        async with recording as session:
            yield session

    async def run() -> list[str]:
        first, second = dependency(), dependency()
        opened = [await asyncio.create_task(anext(each)) for each in (first, second)]
        with pytest.raises(ValueError, match="of the first"):
            await asyncio.create_task(first.athrow(ValueError("of the first")))
        await asyncio.create_task(second.aclose())
        return [session.id for session in opened]

    failed, left = asyncio.run(run())
    assert outcomes(events()) == {failed: "error", left: "success"}


def test_two_generators_of_one_thread_end_their_own_sessions(started: Init) -> None:
    events = started()
    recording = agentpulse.session("request")

    def dependency() -> Iterator[Any]:
        with recording as session:
            yield session

    first, second = dependency(), dependency()
    failed, left = next(first).id, next(second).id
    with pytest.raises(ValueError, match="of the first"):
        first.throw(ValueError("of the first"))
    second.close()
    assert outcomes(events()) == {failed: "error", left: "success"}


def test_a_failed_task_is_not_told_of_in_the_session_that_drops_it(
    started: Init, caplog: pytest.LogCaptureFixture
) -> None:
    events = started()

    async def fail() -> None:
        raise ValueError

    async def run() -> None:
        with agentpulse.session("of the task"):
            task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with agentpulse.session("of somebody else"):
            del task
            gc.collect()

    asyncio.run(run())
    assert "never retrieved" in caplog.text
    # Tasks tell their context since Python 3.12.
    expected = "of the task" if sys.version_info >= (3, 12) else "none"
    assert sessions_of(events(), "error") == {"error": expected}


def test_sessions_follow_threads_where_no_library_is_patched(started: Init) -> None:
    events = started(auto_patch=False)
    with agentpulse.session("day"):
        thread = threading.Thread(target=agentpulse.event, args=("in a thread",))
        thread.start()
        thread.join()
    assert sessions_of(events()) == {"in a thread": "day"}


def test_a_context_that_is_copied_leaves_its_block_alone(started: Init) -> None:
    events = started()
    with agentpulse.session("day"):
        context = contextvars.copy_context()
    context.run(agentpulse.event, "in the copy")
    agentpulse.event("outside")
    assert sessions_of(events()) == {"in the copy": "day", "outside": "none"}


def in_a_child() -> None:
    with agentpulse.session("of the child"):
        agentpulse.event("in the child")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no fork here")
# A child of a process with threads is what this is about.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_of_multiprocessing_sends_what_it_told(
    started: Init, strict_receiver: Receiver
) -> None:
    started()
    child = multiprocessing.get_context("fork").Process(target=in_a_child)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert sessions_of(strict_receiver.events) == {"in the child": "of the child"}
    assert list(outcomes(strict_receiver.events).values()) == ["success"]


KILLED = """
import sys, time, agentpulse
agentpulse.init(endpoint=sys.argv[1], heartbeat_interval=0, flush_interval=600)
with agentpulse.cron("nightly", schedule="0 3 * * *"):
    time.sleep(600)
"""


def test_a_run_is_sent_when_it_starts_and_not_with_the_next_flush(
    strict_receiver: Receiver,
) -> None:
    with processes.running([sys.executable, "-c", KILLED, strict_receiver.url]):
        assert becomes_true(lambda: bool(strict_receiver.of_kind("span_start")))
    assert strict_receiver.of_kind("cron") == []
