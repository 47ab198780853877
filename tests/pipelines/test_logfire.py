"""Logfire, whose provider is a proxy: not set up yet, set up again, with an exporter of ours."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fakes import processes
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

pytestmark = [
    pytest.mark.skipif(
        find_spec("logfire") is None, reason="logfire is not installed (nox -s pipelines)"
    ),
]
BEGIN = """
import sys, agentpulse, logfire, openai
from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from agentpulse_exporter import AgentPulseSpanExporter
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
memory = InMemorySpanExporter()
proxy = logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider()

def configure(*processors):
    processors = [*processors, SimpleSpanProcessor(memory)]
    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False,
        additional_span_processors=processors)

def call(session):
    with agentpulse.session(session):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
"""


class Ran:
    """A program that was run, and what came of it."""

    def __init__(self, code: str) -> None:
        with Receiver() as receiver, FakeProvider() as provider:
            done = processes.run(
                [sys.executable, "-W", "error", "-c", BEGIN + code, provider.openai_url],
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parents[1]),
                    "AGENTPULSE_ENDPOINT": receiver.url,
                },
            )
        self.returncode, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        self.calls: list[dict[str, Any]] = receiver.of_kind("llm_call")

    def sessions(self) -> list[str]:
        return [call["session"].partition(":")[0] for call in self.calls]


def test_a_proxy_that_is_not_set_up_is_refused_with_what_to_do() -> None:
    ran = Ran("agentpulse.init(tracer_provider=proxy)")
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("agentpulse.errors.SettingTypeError: The argument tracer_provider is a ")
    assert last.endswith("call logfire.configure() before agentpulse.init.")


@pytest.mark.parametrize("joined", ["", "tracer_provider=proxy"])
def test_where_logfire_is_set_up_again_calls_are_sent_as_before(joined: str) -> None:
    code = f"""
configure()
client_of_ours = agentpulse.init({joined})
call("first")
configure()
assert sum("(AgentPulse)" in line for line in client_of_ours.joined.processors) == 2
call("second")
assert agentpulse.shutdown()
assert not [line for line in client_of_ours._pipeline.joined().processors if "(Agent" in line]
assert "set_provider" not in vars(proxy)
call("third")
stats = agentpulse.stats()
print(stats.ended, stats.accepted)
"""
    ran = Ran(code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.sessions() == ["first", "second"]
    # sdk_init, and of each session its start, its end and the call.
    assert ran.stdout == "7 7\n"


def test_where_logfire_ends_nothing_is_lost_and_nothing_hangs() -> None:
    ran = Ran("configure(); agentpulse.init(); call('day'); logfire.shutdown()")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.sessions() == ["day"]


@pytest.mark.parametrize("processor", ["BatchSpanProcessor", "SimpleSpanProcessor"])
def test_an_exporter_of_ours_among_logfires_processors_stands_aside(processor: str) -> None:
    code = f"""
from fakes.pipe import CALL
mine = AgentPulseSpanExporter()
configure({processor}(mine))
agentpulse.init()
call("day")
assert agentpulse.shutdown()
with logfire.span("work"):
    trace.get_tracer("program").start_span("chat", attributes=CALL).end()
logfire.force_flush()
assert mine.stats().ended == 1, mine.stats()
"""
    ran = Ran(code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.calls) == 2
    assert ran.sessions()[0] == "day"


def test_a_call_that_logfire_instruments_too_is_priced_once() -> None:
    code = """
configure()
agentpulse.init()
logfire.instrument_openai(client)
call("day")
assert agentpulse.flush()
"""
    ran = Ran(code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.sessions() == ["day"]
