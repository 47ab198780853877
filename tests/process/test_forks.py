"""What was begun before a fork is ended by the process that began it; the child forgets it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from agentpulse_exporter._ledger.ledger import Origins, origins
from fakes.collector import Collector
from fakes.sdk import KEY, Receiver, Run
from opentelemetry.sdk.trace import TracerProvider

from agentpulse.demo.provider import FakeProvider

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

BEGINNING = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside a thread
import openai, agentpulse
from opentelemetry import trace

def forked():
    "A child, which prints its counts when it ends; the parent waits for it."
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return pid
    with agentpulse.tool("of the child"):
        agentpulse.event("child")
    return 0

client = openai.OpenAI(api_key="x", base_url=os.environ.get("PROVIDER", "http://127.0.0.1:9"))
"""
NESTED = (
    BEGINNING
    + """
agentpulse.init(heartbeat_interval=0)
theirs = trace.get_tracer("theirs")
agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "theirs"}
messages = [{"role": "user", "content": "What is new?"}]
with agentpulse.cron("nightly"), agentpulse.session("mail"), agentpulse.agent("clerk"):
    with agentpulse.task("task"), agentpulse.trace("trace"), agentpulse.tool("tool"):
        with theirs.start_as_current_span("theirs", attributes=agent):
            with client.chat.completions.create(
                model="gpt-4o", messages=messages, stream=True
            ) as stream:
                next(stream)
                is_child = not forked()
                if is_child:
                    CHILD
                for chunk in () if is_child else stream:
                    pass
if is_child:
    assert agentpulse.flush()
    stats = agentpulse.stats()
    print(json.dumps([stats.ended, stats.accepted, dict(stats.dropped)]))
"""
)
LEAVING = {
    "as the parent": "pass",
    "sys.exit": "sys.exit(0)",
    "an exception": "sys.excepthook = lambda *given: None; raise ValueError",
    "os._exit": "agentpulse.flush(); os._exit(0)",
}
BEGUN_BEFORE = ["clerk", "task", "theirs", "tool", "trace"]
OF_THE_CHILD = "execute_tool of the child"


def short(event: dict[str, Any]) -> tuple[str, str]:
    name = str(event["data"].get("name", event["data"].get("label", event["data"].get("job", ""))))
    return event["kind"], name.removeprefix("invoke_agent ").removeprefix("execute_tool ")


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
def test_what_was_open_at_the_fork_is_ended_once(
    leave: str, receiver: Receiver, run_program: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeProvider() as provider:
        variables = {"AGENTPULSE_ENDPOINT": receiver.endpoint, "PROVIDER": provider.openai_url}
        done = run_program(NESTED.replace("CHILD", leave), **variables)

    assert (done.returncode, done.stderr) == (0, "")
    ids = [event["id"] for event in receiver.events]
    assert len(set(ids)) == len(ids)
    received = Counter(map(short, receiver.events))
    ends = sorted(name for kind, name in received.elements() if kind == "span_end")
    assert ends == sorted([*BEGUN_BEFORE, "of the child"])
    once = [("cron", "nightly"), ("llm_call", "chat gpt-4o"), ("event", "child")]
    assert [received[each] for each in once] == [1, 1, 1]
    assert [received["session", name] for name in ("mail", "nightly")] == [2, 2]  # start and end
    sessions = {e["data"]["label"]: e["session"] for e in receiver.of_kind("session")}
    by_child = [e for e in receiver.events if short(e)[1] in ("of the child", "child")]
    assert {event["session"] for event in by_child} == {sessions["mail"]}
    (call,) = receiver.of_kind("llm_call")
    assert (call["data"]["status"], call["data"]["error_type"]) == ("success", None)
    if leave == "pass":  # the child printed its counts
        assert json.loads(done.stdout) == [2, 2, {}]


DECORATED = (
    BEGINNING
    + """
import asyncio
agentpulse.init(heartbeat_interval=0)

@agentpulse.agent("plain")
def plain():
    return forked()

@agentpulse.task("generator")
def generator():
    yield forked()
    yield 1

@agentpulse.cron("coroutine")
async def coroutine():
    await asyncio.sleep(0)
    return forked()

@agentpulse.session("async generator")
async def agenerator():
    yield forked()
    yield 1

async def all_of_it():
    return [each async for each in agenerator()][0]

kind = KIND
if kind == "plain":
    plain()
elif kind == "generator":
    list(generator())
elif kind == "coroutine":
    asyncio.run(coroutine())
else:
    asyncio.run(all_of_it())
"""
)


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("plain", [("span_end", "plain")]),
        ("generator", [("span_end", "generator")]),
        ("coroutine", [("cron", "coroutine"), ("session", "coroutine")]),
        ("async generator", [("session", "async generator")]),
    ],
)
def test_a_function_that_forks_is_ended_once(
    kind: str, ends: list[tuple[str, str]], receiver: Receiver, run_program: Run
) -> None:
    code = DECORATED.replace("KIND", repr(kind))
    done = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (done.returncode, done.stderr) == (0, "")
    received = Counter(
        short(event) for event in receiver.events if event["data"].get("action") != "start"
    )
    assert [received[each] for each in ends] == [1] * len(ends)
    assert received["span_end", "of the child"] == 1


def test_by_otlp_it_is_sent_once_too(receiver: Receiver, run_program: Run) -> None:
    with FakeProvider() as provider, Collector() as collector:
        done = run_program(
            NESTED.replace("CHILD", "pass"),
            PROVIDER=provider.openai_url,
            AGENTPULSE_ENDPOINT=receiver.endpoint,
            AGENTPULSE_OTLP_ENDPOINT=collector.url,
        )

    assert (done.returncode, done.stderr) == (0, "")
    names = Counter(span["name"].rpartition(" ")[2] for span in collector.spans)
    assert names["theirs"] == names["clerk"] == names["mail"] == names["nightly"] == 1
    assert names["gpt-4o"] == names["child"] - 1 == 1


STOCK = (
    BEGINNING
    + """
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_instrumentation import instrument
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(AgentPulseSpanExporter()))
instrument(tracer_provider=provider)
messages = [{"role": "user", "content": "What is new?"}]
stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
next(stream)
if forked():
    list(stream)
stream.close()
"""
)


def test_an_open_stream_is_sent_once_behind_the_stock_processor_too(
    receiver: Receiver, run_program: Run
) -> None:
    with FakeProvider() as provider:
        variables = {"AGENTPULSE_ENDPOINT": receiver.endpoint, "PROVIDER": provider.openai_url}
        done = run_program(STOCK, **variables)

    assert (done.returncode, done.stderr) == (0, "")
    (call,) = receiver.of_kind("llm_call")
    assert call["data"]["output_tokens"] > 0


SIGNS = (
    BEGINNING
    + """
agentpulse.init(heartbeat_interval=0.02, flush_interval=0.01)
session = agentpulse.session("open")
session.__enter__()
parent = os.getpid()
is_child = os.fork() == 0
agentpulse.event("child" if is_child else "parent")
if is_child:
    PARENT
    agentpulse.heartbeat({"by": "child"})
    agentpulse.flush()
    time.sleep(0.2)
    agentpulse.flush()
    os._exit(0)
os.wait() if WAITS else os._exit(0)
"""
)


def test_a_child_counts_its_own_sessions_and_leaves_the_heartbeat_to_its_parent(
    receiver: Receiver, run_program: Run
) -> None:
    code = SIGNS.replace("PARENT", "").replace("WAITS", "True")
    done = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (done.returncode, done.stderr) == (0, "")
    beats = receiver.of_kind("heartbeat")
    (by_hand,) = [each["data"] for each in beats if "by" in each["data"]]
    assert by_hand["active_sessions"] == 0
    (started,) = (each["ts"] for each in receiver.of_kind("sdk_init"))
    assert 0 <= by_hand["uptime_s"] <= time.time() - started
    # On a busy machine one may come before the session.
    begun = receiver.of_kind("session")[0]["ts"]
    by_themselves = [each for each in beats if "by" not in each["data"] and each["ts"] > begun]
    assert {each["data"]["active_sessions"] for each in by_themselves} == {1}


def test_a_daemon_whose_parent_is_gone_sends_the_heartbeat(
    receiver: Receiver, run_program: Run
) -> None:
    orphaned = "while os.getppid() == parent: time.sleep(0.01)"
    code = SIGNS.replace("PARENT", orphaned).replace("WAITS", "False")
    # The pipes of the program stay open for as long as the daemon has them.
    done = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (done.returncode, done.stderr) == (0, "")
    beats = [each["data"] for each in receiver.of_kind("heartbeat") if "by" not in each["data"]]
    assert 0 in {each["active_sessions"] for each in beats}


def test_a_span_whose_start_is_long_past_is_the_childs_own() -> None:
    known = Origins()
    tracer = TracerProvider().get_tracer("tests")
    before = tracer.start_span("before")
    known.begun(before)  # pyright: ignore[reportArgumentType]  # the SDK's spans are readable
    known.in_child()
    after = tracer.start_span("after", start_time=1)
    known.begun(after)  # pyright: ignore[reportArgumentType]  # the same

    assert [known.is_inherited(each) for each in (before, after)] == [True, False]  # pyright: ignore[reportArgumentType]  # the same
    known.in_child()
    assert [known.is_inherited(each) for each in (before, after)] == [True, True]  # pyright: ignore[reportArgumentType]  # the same


def test_spans_that_never_end_are_held_by_nobody() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentPulseSpanProcessor(AgentPulseSpanExporter(KEY)))
    before = len(origins._begun)
    for _ in range(100):
        provider.get_tracer("tests").start_span("left open")
    assert len(origins._begun) <= before + 1
