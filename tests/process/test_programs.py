"""What only a program of its own shows: the global provider, imports, exit and signals."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from fakes.sdk import Receiver, Run
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

CALL = """
def make_call(provider=None):
    from opentelemetry import trace
    tracer = (provider or trace.get_tracer_provider()).get_tracer("test")
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    tracer.start_span("chat gpt-4o", attributes=attributes).end()
"""


def printed(program: subprocess.CompletedProcess[str]) -> object:
    assert program.returncode == 0, program.stderr
    assert program.stderr == ""
    return json.loads(program.stdout)


def test_a_program_sends_what_is_queued_when_it_ends(receiver: Receiver, run_program: Run):
    program = run_program(
        CALL + "import agentpulse; agentpulse.init(); make_call()",
        AGENTPULSE_ENDPOINT=receiver.endpoint,
    )

    assert (program.returncode, program.stderr) == (0, "")
    assert [len(receiver.of_kind(kind)) for kind in ("sdk_init", "llm_call")] == [1, 1]


def test_without_a_global_provider_one_is_set_that_follows_the_standard_variables(
    receiver: Receiver, run_program: Run
):
    code = """
import json, random, agentpulse
from opentelemetry import trace
random.seed(42)
agentpulse.init(agent_name="mailer")
provider = trace.get_tracer_provider()
ids = []
for _ in range(2):
    random.seed(42)
    ids.append(provider.get_tracer("test").start_span("x").get_span_context().trace_id)
print(json.dumps({
    "name": provider.resource.attributes["service.name"],
    "sampler": provider.sampler.get_description(),
    "different ids": ids[0] != ids[1],
}))
"""

    plain = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)
    told = run_program(
        code,
        AGENTPULSE_ENDPOINT=receiver.endpoint,
        OTEL_SERVICE_NAME="from-opentelemetry",
        OTEL_TRACES_SAMPLER="always_off",
    )

    assert printed(plain) == {
        "name": "mailer",
        "sampler": DEFAULT_ON.get_description(),
        "different ids": True,
    }
    assert printed(told) == {
        "name": "from-opentelemetry",
        "sampler": "AlwaysOffSampler",
        "different ids": True,
    }
    assert len(receiver.of_kind("sdk_init")) == 2  # no sampler drops it


def test_a_global_provider_that_is_there_is_joined(receiver: Receiver, run_program: Run):
    code = (
        CALL
        + """
import json, agentpulse
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
agentpulse.init()
same = trace.get_tracer_provider() is provider
make_call()
agentpulse.shutdown()
make_call()
print(json.dumps([same, len(spans.get_finished_spans()), agentpulse.stats().accepted]))
"""
    )

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert printed(program) == [True, 2, 2]
    assert len(receiver.of_kind("llm_call")) == 1


def test_our_global_provider_is_used_again_after_shutdown(receiver: Receiver, run_program: Run):
    code = (
        CALL
        + """
import json, agentpulse
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
agentpulse.init()
provider = trace.get_tracer_provider()
others = InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(others))
make_call()
agentpulse.shutdown()
make_call()
agentpulse.init()
make_call()
print(json.dumps([trace.get_tracer_provider() is provider, len(others.get_finished_spans())]))
"""
    )

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert printed(program) == [True, 3]
    assert len(receiver.of_kind("llm_call")) == 2


def test_processors_that_others_add_to_our_provider_are_shut_down_at_exit(
    receiver: Receiver, run_program: Run
):
    code = (
        CALL
        + """
import agentpulse
from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
agentpulse.init()
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
make_call()
"""
    )

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert '"name": "chat gpt-4o"' in program.stdout
    assert len(receiver.of_kind("llm_call")) == 1


def test_beside_a_global_provider_of_another_make_our_spans_have_their_own(
    receiver: Receiver, run_program: Run
):
    code = """
import logging, openai, agentpulse
from opentelemetry import trace
trace.set_tracer_provider(trace.NoOpTracerProvider())
agentpulse.init()
client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9", max_retries=0)
try:
    client.chat.completions.create(model="gpt-4o", messages=[])
except openai.APIConnectionError:
    pass
agentpulse.shutdown()
"""

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert program.returncode == 0
    assert program.stderr.count("\n") == 1
    assert "NoOpTracerProvider, which takes no span processors" in program.stderr
    (call,) = receiver.of_kind("llm_call")
    assert call["data"]["status"] == "error"


def test_the_reason_to_be_off_is_said_once_on_stderr(run_program: Run):
    code = "import agentpulse; agentpulse.init(); agentpulse.shutdown(); agentpulse.init()"

    without_key = run_program(code)
    wrong = run_program(code, AGENTPULSE_MAX_QUEUE_SIZE="big")
    switched_off = run_program(code, AGENTPULSE_ENABLED="no", AGENTPULSE_MAX_QUEUE_SIZE="big")

    assert without_key.stderr.startswith("AgentPulse is off, because it has no API key")
    assert wrong.stderr.startswith("AgentPulse is off until this is corrected: AGENTPULSE_MAX")
    assert [without_key.stderr.count("\n"), wrong.stderr.count("\n")] == [1, 1]
    assert switched_off.stderr == ""
    assert [p.returncode for p in (without_key, wrong, switched_off)] == [0, 0, 0]


def test_debug_says_on_stderr_whether_it_is_on(receiver: Receiver, run_program: Run):
    code = "import agentpulse; agentpulse.init()"
    debugged = {"AGENTPULSE_DEBUG": "true", "AGENTPULSE_AGENT": "mailer"}

    on = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint, **debugged)
    off = run_program(code, AGENTPULSE_ENABLED="false", **debugged)

    assert f"DEBUG agentpulse: AgentPulse is on: mailer sends to {receiver.endpoint}" in on.stderr
    assert "DEBUG agentpulse: AgentPulse is switched off (enabled is false)." in off.stderr


def terminated(*, before: str = "", arguments: str = "", after: str = "") -> str:
    """A program that sends itself SIGTERM."""
    return f"""
import signal, agentpulse
{CALL}
{before}
agentpulse.init({arguments})
make_call()
{after}
signal.raise_signal(signal.SIGTERM)
print("went on", flush=True)
"""


def test_sigterm_sends_what_is_queued_and_still_ends_the_program_by_the_signal(
    receiver: Receiver, run_program: Run
):
    code = terminated(before="", arguments="flush_on_sigterm=True", after="")

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (program.returncode, program.stdout) == (-signal.SIGTERM, "")
    assert len(receiver.of_kind("llm_call")) == 1


def test_sigterm_is_left_alone_unless_asked_for(receiver: Receiver, run_program: Run):
    after = "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    code = terminated(before="", arguments="", after=after)

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (program.returncode, program.stderr) == (-signal.SIGTERM, "")


def test_the_handler_of_before_is_called_after_the_flush(receiver: Receiver, run_program: Run):
    before = """
def handler(number, frame):
    print("handled", agentpulse.stats().queued, flush=True)
signal.signal(signal.SIGTERM, handler)
"""
    code = terminated(
        before=before,
        arguments="",
        after="assert signal.getsignal(signal.SIGINT) is signal.default_int_handler",
    )

    program = run_program(
        code, AGENTPULSE_ENDPOINT=receiver.endpoint, AGENTPULSE_FLUSH_ON_SIGTERM="true"
    )

    assert (program.returncode, program.stdout) == (0, "handled 0\nwent on\n"), program.stderr


def test_shutdown_puts_the_handler_of_before_back(receiver: Receiver, run_program: Run):
    before = """
def handler(number, frame):
    print("handled", flush=True)
signal.signal(signal.SIGTERM, handler)
"""
    after = "agentpulse.shutdown(); assert signal.getsignal(signal.SIGTERM) is handler"
    code = terminated(before=before, arguments="flush_on_sigterm=True", after=after)

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (program.returncode, program.stdout) == (0, "handled\nwent on\n"), program.stderr


def test_a_handler_put_over_ours_is_kept_by_shutdown_and_passes_through_ours(
    receiver: Receiver, run_program: Run
):
    after = """
ours = signal.getsignal(signal.SIGTERM)
def theirs(number, frame):
    print("theirs", flush=True)
    ours(number, frame)
signal.signal(signal.SIGTERM, theirs)
agentpulse.shutdown()
assert signal.getsignal(signal.SIGTERM) is theirs
"""
    code = terminated(before="", arguments="flush_on_sigterm=True", after=after)

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (program.returncode, program.stdout) == (-signal.SIGTERM, "theirs\n"), program.stderr


def test_outside_the_main_thread_flush_on_sigterm_warns(receiver: Receiver, run_program: Run):
    code = """
import threading, agentpulse
thread = threading.Thread(target=agentpulse.init, kwargs={"flush_on_sigterm": True})
thread.start()
thread.join()
assert agentpulse.get_client().is_on
"""

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert program.returncode == 0
    assert program.stderr.startswith("flush_on_sigterm has no effect here")
    assert len(receiver.of_kind("sdk_init")) == 1


@pytest.mark.parametrize("fork_while_starting", [False, True])
def test_a_forked_child_sends_its_own_and_can_shut_down(
    fork_while_starting: bool, receiver: Receiver, run_program: Run
):
    code = (
        CALL
        + f"""
import os, sys, threading, warnings
import agentpulse
from agentpulse import client
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside a thread
agentpulse.init()
agentpulse.flush()
if {fork_while_starting}:
    threading.Thread(target=client.lifecycle.acquire).start()
child = os.fork()
if child == 0:
    make_call()
    os._exit(0 if agentpulse.shutdown() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    )

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert program.returncode == 0, program.stderr
    assert [len(receiver.of_kind(kind)) for kind in ("sdk_init", "llm_call")] == [1, 1]
