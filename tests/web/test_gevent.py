"""gevent, whenever it comes: its event loop never stands still, and what is recorded arrives.

The sending interval is longer than any time limit here, so that a program in which the worker
stops the event loop for an interval doesn't end in time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest
from fakes import processes
from fakes.collector import Collector
from fakes.receiver import Receiver
from web.test_web import asked, serving

INTERVAL = "600"
PATCHED_EARLY = "patch()\nimport agentpulse\nagentpulse.init(**options)\n"
PATCHED_LATE = """
import agentpulse
agentpulse.init(**options)
agentpulse.event("before")
patch()
"""
PATCHED_AFTER_A_FORK = """
import agentpulse
agentpulse.init(**options)
agentpulse.event("before")
agentpulse.flush(20)
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
patch()
"""
WAYS = {"early": PATCHED_EARLY, "late": PATCHED_LATE, "after a fork": PATCHED_AFTER_A_FORK}
PROGRAM = """
import json, os, sys

def patch():
    from gevent import monkey
    monkey.patch_all()

options = {"heartbeat_interval": 0, "otlp_endpoint": os.environ.get("COLLECTOR")}
WAY
import gevent
from opentelemetry import trace

def call():
    attributes = {"gen_ai.operation.name": "chat"}
    trace.get_tracer("program").start_span("chat", attributes=attributes).end()

steps = []

def tick():
    for _ in range(50):
        gevent.sleep(0.002)
        steps.append(1)

ticking = gevent.spawn(tick)
call()
gevent.sleep(0.01)
calls = [gevent.spawn(call) for _ in range(20)]
gevent.joinall([ticking, *calls])
flushed = agentpulse.flush(20)
call()
print(json.dumps([len(steps), flushed, agentpulse.shutdown(20)]), flush=True)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by_otlp", [False, True], ids=["alone", "by OTLP too"])
def test_the_event_loop_goes_on_and_everything_arrives(
    way: str, by_otlp: bool, receiver: Receiver, collector: Collector
) -> None:
    environ = {
        **os.environ,
        "AGENTPULSE_ENDPOINT": receiver.url,
        "AGENTPULSE_FLUSH_INTERVAL": INTERVAL,
        "OTEL_BSP_SCHEDULE_DELAY": f"{INTERVAL}000",
        **({"COLLECTOR": collector.url} if by_otlp else {}),
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("WAY", WAYS[way])]
    done = processes.run(command, env=environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [50, True, True], done.stderr
    assert len(receiver.of_kind("llm_call")) == 22
    by_name = [span["name"] for span in collector.spans]
    assert by_name.count("chat") == (22 if by_otlp else 0)


@pytest.mark.parametrize("preloads", [False, True], ids=["workers load", "preloaded"])
@pytest.mark.parametrize("under", [(), ("agentpulse", "run")], ids=["init", "agentpulse run"])
def test_gunicorn_answers_and_its_workers_send(
    preloads: bool, under: tuple[str, ...], receiver: Receiver
) -> None:
    options = ("--worker-class", "gevent", *(("--preload",) if preloads else ()))
    environ = {
        "AGENTPULSE_ENDPOINT": receiver.url,
        "AGENTPULSE_FLUSH_INTERVAL": INTERVAL,
        **({} if under else {"INIT": "1"}),
    }
    with serving("green:app", under=under, options=options, path="/", **environ) as url:
        for _ in range(10):
            asked(f"{url}/ask")
        workers: dict[int, bool] = {}
        while len(workers) < 2:
            answer = asked(f"{url}/flush")
            workers[answer["pid"]] = answer["flushed"]
    assert list(workers.values()) == [True, True]
    assert len(receiver.of_kind("llm_call")) == 10
