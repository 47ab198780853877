"""Sessions and cron runs: what is under them is theirs, and how they went is told."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fakes.program import Init
from fakes.receiver import Receiver
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import agentpulse


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == kind]


def test_a_session_tells_its_start_and_its_end(started: Init) -> None:
    events = started()
    before = time.time()
    with agentpulse.session("daily-email", user="ada", metadata={"team": "mail"}) as session:
        session.log("Processed 5 emails", count=5, senders=["bob"])
        session.log("done")
        session.set_result("success")
        session.set_metadata(batch=7)
    start, end = of_kind(events(), "session")
    assert start["session"] == end["session"] == session.id
    assert session.id.startswith("daily-email:")
    assert start["data"] == {
        "action": "start",
        "label": "daily-email",
        "type": "session",
        "user": "ada",
        "metadata": {"team": "mail"},
        "started_at": start["ts"],
    }
    data = end["data"]
    assert before <= data["started_at"] <= end["ts"] <= time.time()
    assert data.pop("duration_ms") == pytest.approx((end["ts"] - start["ts"]) * 1000, abs=0.01)
    lines = data.pop("logs")
    assert all(before <= line.pop("ts") <= time.time() for line in lines)
    assert lines == [
        {"message": "Processed 5 emails", "data": {"count": 5, "senders": ["bob"]}},
        {"message": "done"},
    ]
    assert data == {
        "action": "end",
        "label": "daily-email",
        "type": "session",
        "user": "ada",
        "metadata": {"team": "mail", "batch": 7},
        "started_at": start["ts"],
        "status": "success",
        "error_type": None,
        "result": "success",
        "cost_usd": None,
        "tokens": None,
        "input_tokens": None,
        "output_tokens": None,
        "calls": 0,
    }


def test_an_id_of_the_users_own_is_the_sessions_key(started: Init) -> None:
    events = started()
    with agentpulse.session("chat", id="customer-17") as session, agentpulse.task("step"):
        assert session.id == "customer-17"
    assert {event["session"] for event in events()} == {"customer-17"}


def test_nested_sessions_inherit_and_say_who_is_around_them(started: Init) -> None:
    events = started()
    with (
        agentpulse.session("outer", user="ada", metadata={"a": 1}) as outer,
        agentpulse.session("inner", metadata={"b": 2}) as inner,
        agentpulse.task("step"),
    ):
        agentpulse.set_user("bob")
    (step,) = of_kind(events(), "span_end")
    assert step["session"] == inner.id
    assert (step["data"]["user"], step["data"]["metadata"]) == ("ada", {"a": 1, "b": 2})
    ends = {
        event["session"]: event["data"]
        for event in of_kind(events(), "session")
        if event["data"]["action"] == "end"
    }
    assert ends[inner.id]["parent_session"] == outer.id
    assert "parent_session" not in ends[outer.id]
    assert ends[outer.id]["user"] == "ada"


def test_metadata_and_user_outside_any_session_are_everybodys(started: Init) -> None:
    events = started()
    agentpulse.set_metadata(version="2.1", tags=["a"])
    agentpulse.set_user("ada")
    with agentpulse.task("alone"):
        pass
    with agentpulse.session("inside"):
        agentpulse.set_metadata(only="here")
        with agentpulse.task("step"):
            pass
    with agentpulse.task("after"):
        pass
    told = {event["data"]["name"]: event["data"] for event in of_kind(events(), "span_end")}
    everybodys = {"version": "2.1", "tags": '["a"]'}
    assert told["alone"]["metadata"] == told["after"]["metadata"] == everybodys
    assert told["step"]["metadata"] == {**everybodys, "only": "here"}
    assert {data["user"] for data in told.values()} == {"ada"}


def test_spans_of_other_libraries_carry_the_session_too(
    started: Init, provider: TracerProvider
) -> None:
    events = started(export_all_spans=True)
    tracer = provider.get_tracer("somebody")
    with agentpulse.session("s") as session, agentpulse.agent("helper"):
        parent = tracer.start_span("kept")
    # As a callback does that keeps only the parent's span.
    alone = trace.set_span_in_context(parent, Context())
    tracer.start_span("child of the kept one", context=alone).end()
    parent.end()
    tracer.start_span("with a session of its own", attributes={"session.id": "own"}).end()
    tracer.start_span("outside").end()
    told = {event["data"]["name"]: event for event in of_kind(events(), "span_end")}
    assert told["kept"]["session"] == told["child of the kept one"]["session"] == session.id
    assert told["kept"]["data"]["agent"] == "helper"
    assert told["with a session of its own"]["session"] == "own"
    assert "session" not in told["outside"]


def test_500_sessions_at_once_in_tasks_and_threads_do_not_mix(  # noqa: C901  # a program in itself
    started: Init, strict_receiver: Receiver
) -> None:
    events = started(auto_patch=True, instrument=())

    @agentpulse.tool
    def look_up(number: int) -> None:
        agentpulse.event("looked up", {"number": number})

    @agentpulse.task
    async def step(number: int) -> None:
        await asyncio.sleep(0)
        await asyncio.to_thread(look_up, number)

    async def in_a_task(number: int) -> None:
        async with agentpulse.session(f"s{number}", metadata={"number": number}):
            await asyncio.gather(step(number), step(number))

    def in_a_thread(number: int) -> None:
        with agentpulse.session(f"s{number}", metadata={"number": number}), agentpulse.task("t"):
            thread = threading.Thread(target=look_up, args=(number,))
            thread.start()
            with ThreadPoolExecutor(1) as executor:
                executor.submit(look_up, number).result()
            thread.join()

    async def all_tasks() -> None:
        await asyncio.gather(*map(in_a_task, range(250)))

    with ThreadPoolExecutor(32) as executor:
        runs = [executor.submit(in_a_thread, number) for number in range(250, 500)]
        asyncio.run(all_tasks())
        for run in runs:
            run.result()

    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events():
        sessions[event["session"]].append(event)
    assert len(sessions) == 500
    for key, told in sessions.items():
        is_all_of_one_session(told, int(key.partition(":")[0].removeprefix("s")))
    assert agentpulse.stats().dropped == {}


def is_all_of_one_session(told: list[dict[str, Any]], number: int) -> None:
    assert {event["trace_id"] for event in told} == {told[0]["trace_id"]}
    spans = {event["span_id"] for event in told}
    roots = [event for event in told if event.get("parent_span_id") not in spans]
    assert {event["kind"] for event in roots} == {"span_start", "session"}
    happened = [event["data"] for event in told if event["kind"] == "event"]
    assert happened == [{"name": "looked up", "number": number}] * 2
    ended = [event["data"] for event in told if event["kind"] == "span_end"]
    assert {data["metadata"]["number"] for data in ended} == {number}


def test_every_sort_of_thread_is_in_the_session_that_started_it(started: Init) -> None:
    events = started(auto_patch=True, instrument=())
    done = threading.Event()

    class Worker(threading.Thread):
        def run(self) -> None:
            agentpulse.event("class")

    def tick() -> None:
        agentpulse.event("timer")
        done.set()

    with agentpulse.session("s") as session:
        threads = [
            Worker(),
            threading.Thread(target=agentpulse.event, args=("target",)),
            threading.Timer(0, tick),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with ThreadPoolExecutor() as executor:
            list(executor.map(agentpulse.event, ["executor"]))
    assert done.is_set()
    told = {event["data"]["name"]: event for event in events() if event["kind"] == "event"}
    assert set(told) == {"class", "target", "timer", "executor"}
    assert {event["session"] for event in told.values()} == {session.id}


def run_that_ends_with(error: BaseException) -> agentpulse.Cron:
    with pytest.raises(type(error)) as caught, agentpulse.cron("job") as run:
        raise error
    assert caught.value is error
    return run


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (ValueError("a secret"), {}),
        (KeyboardInterrupt(), {}),
        (SystemExit(3), {"exit_code": 3}),
        (SystemExit("a secret"), {"exit_code": 1}),
        (asyncio.CancelledError(), {}),
    ],
)
def test_a_cron_run_that_raises_failed_and_says_by_what(
    started: Init, error: BaseException, more: dict[str, int]
) -> None:
    events = started()
    run = run_that_ends_with(error)
    assert run.status == "error"
    (cron,) = of_kind(events(), "cron")
    assert (cron["data"]["status"], cron["data"]["error_type"]) == ("fail", type(error).__name__)
    assert {name: cron["data"][name] for name in more} == more
    (end,) = [e for e in of_kind(events(), "session") if e["data"]["action"] == "end"]
    assert (end["data"]["status"], end["data"]["error_type"]) == ("error", type(error).__name__)
    assert "secret" not in str(events())


def test_with_capture_the_error_of_a_run_is_told(started: Init) -> None:
    events = started(capture_messages=True)
    run_that_ends_with(ValueError("what went wrong"))
    (cron,) = of_kind(events(), "cron")
    assert cron["data"]["error"] == "what went wrong"


def test_a_run_tells_its_job_and_its_plan(started: Init) -> None:
    events = started()

    @agentpulse.cron(
        "nightly",
        schedule="0  3 * * *",
        timezone=ZoneInfo("Europe/Berlin"),
        max_runtime=dt.timedelta(minutes=5),
        metadata={"host": "a"},
    )
    def job() -> None: ...

    job()
    job()
    first, second = of_kind(events(), "cron")
    assert first["data"]["run_id"] != second["data"]["run_id"]
    assert first["data"]["run_id"] == first["session"]
    plan = {
        "job": "nightly",
        "schedule": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "max_runtime_s": 300.0,
    }
    start = of_kind(events(), "span_start")[0]
    for data in (first["data"], start["data"]):
        assert {name: data[name] for name in plan} == plan
    assert first["data"]["metadata"] == {"host": "a"}
    assert first["data"]["status"] == "ok"
    labels = [event["data"]["job_name"] for event in of_kind(events(), "session")]
    assert labels == ["nightly"] * 4


def test_a_schedule_that_is_none_is_said_once(
    started: Init, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        agentpulse.cron("job", schedule="every night")
    (record,) = caplog.records
    assert "'every night' has 2 fields; expected five" in record.getMessage()


def test_overlapping_runs_of_one_job_do_not_mix(started: Init) -> None:
    events = started()
    job = agentpulse.cron("job")

    async def run(number: int) -> None:
        async with job as this:
            await asyncio.sleep(0.01 * (2 - number))
            this.set_summary(f"run {number}")
            with agentpulse.task(f"step {number}"):
                pass

    async def program() -> None:
        await asyncio.gather(run(0), run(1))

    asyncio.run(program())
    runs = {e["data"]["summary"]: e["session"] for e in of_kind(events(), "cron")}
    assert len(set(runs.values())) == 2
    steps = {e["data"]["name"]: e["session"] for e in of_kind(events(), "span_end")}
    assert steps == {"step 0": runs["run 0"], "step 1": runs["run 1"]}


def test_the_context_is_afterwards_what_it_was(started: Init) -> None:
    started()
    before = context_api.get_current()
    with agentpulse.session("s"):
        # Somebody who forgets to detach is no reason to stay in the session.
        context_api.attach(context_api.set_value("theirs", 1))
    assert context_api.get_current() is before


def test_what_a_sampler_drops_is_no_session_but_events_are_told(
    strict_receiver: Receiver,
) -> None:
    agentpulse.init(
        endpoint=strict_receiver.url,
        tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False),
        auto_patch=False,
    )
    with agentpulse.session("s") as session:
        agentpulse.alert("disk full")
    assert agentpulse.flush()
    (alert,) = strict_receiver.of_kind("alert")
    assert alert["session"] == session.id
    assert strict_receiver.of_kind("session") == []
