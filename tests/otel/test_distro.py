"""`opentelemetry-instrument` and `agentpulse run`: what `init()` does, with no code changed."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import processes
from fakes.receiver import Receiver
from fakes.reported import without_what_differs
from opentelemetry.instrumentation import auto_instrumentation

from agentpulse.demo.provider import FakeProvider

BIN = Path(sys.executable).parent
CALL = """
import sys, openai
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
messages = [{"role": "user", "content": "x"}]
client.chat.completions.create(model="gpt-4o", messages=messages)
"""
AGENT = """
import sys, openai, agentpulse
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
with agentpulse.cron("nightly", schedule="0 3 * * *"), agentpulse.agent("clerk"):
    messages = [{"role": "user", "content": "x"}]
    list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
raise LookupError
"""
INSTRUMENT = (str(BIN / "opentelemetry-instrument"), sys.executable)
RUN = (str(BIN / "agentpulse"), "run", sys.executable)
PLAIN = (sys.executable,)


class Ran:
    """A program that was run, and what came of it."""

    def __init__(self, receiver: Receiver, done: subprocess.CompletedProcess[str]) -> None:
        self.events = receiver.events
        self.returncode, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def models(self) -> list[str]:
        return [e["data"]["name"] for e in self.events if e["kind"] == "llm_call"]


def ran(program: str, by: tuple[str, ...] = INSTRUMENT, **variables: str) -> Ran:
    """Runs a program by a command, on a fake provider and a receiver of its own."""
    with Receiver() as receiver, FakeProvider() as provider:
        environ = {**os.environ, "AGENTPULSE_ENDPOINT": receiver.url, **variables}
        done = processes.run([*by, "-c", program, provider.openai_url], env=environ)
        return Ran(receiver, done)


@pytest.mark.parametrize(
    "by", [INSTRUMENT, RUN], ids=["opentelemetry-instrument", "agentpulse run"]
)
def test_a_program_sends_the_same_as_one_that_calls_init(by: tuple[str, ...]) -> None:
    automatic = ran(AGENT, by)
    calling = AGENT.replace("agentpulse\n", "agentpulse; agentpulse.init()\n", 1)
    by_hand = ran(calling, PLAIN)

    assert (automatic.returncode, by_hand.returncode) == (1, 1)
    assert automatic.stderr == by_hand.stderr
    assert without_what_differs(automatic.events) == without_what_differs(by_hand.events)
    assert {"cron", "session", "span_start", "llm_call", "cost", "span_end", "error"} <= set(
        automatic.kinds()
    )


def test_a_program_that_knows_nothing_of_us_is_recorded() -> None:
    done = ran(CALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.models() == ["chat gpt-4o"]


@pytest.mark.parametrize("arguments", ["", "agent_name='clerk', flush_interval=1"])
def test_a_program_that_calls_init_too_has_one_pipeline(arguments: str) -> None:
    done = ran(f"import agentpulse; agentpulse.init({arguments})" + CALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.models() == ["chat gpt-4o"]


PARENT = f"""
import multiprocessing, subprocess, sys
subprocess.run([sys.executable, "-c", {CALL!r}, sys.argv[1]], check=True)
child = multiprocessing.get_context("forkserver").Process(target=exec, args=({CALL!r},))
child.start()
child.join()
sys.exit(child.exitcode)
"""


@pytest.mark.skipif(
    "auto_instrumentation_path_was_present" not in inspect.getsource(auto_instrumentation),
    reason="this version of opentelemetry-instrument leaves the programs of a program alone",
)
@pytest.mark.parametrize(
    "by", [INSTRUMENT, RUN], ids=["opentelemetry-instrument", "agentpulse run"]
)
def test_programs_that_the_program_starts_are_recorded_too(by: tuple[str, ...]) -> None:
    done = ran(PARENT, by)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.models() == ["chat gpt-4o"] * 2


def test_others_get_the_same_spans() -> None:
    done = ran(CALL, OTEL_TRACES_EXPORTER="console,agentpulse", AGENTPULSE_AGENT="night clerk")
    assert done.models() == ["chat gpt-4o"]
    assert done.stdout.count('"name": "chat gpt-4o"') == 1
    assert '"service.name": "night clerk"' in done.stdout


def test_where_others_alone_are_asked_for_nothing_is_sent_to_us() -> None:
    done = ran(CALL, OTEL_TRACES_EXPORTER="console")
    assert done.events == []
    assert done.stdout.count('"name": "chat gpt-4o"') == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"AGENTPULSE_ENABLED": "false"},
        {"AGENTPULSE_ENDPOINT": "https://api.agentpulse.dev"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
def test_where_it_is_off_the_program_runs_as_without(variables: dict[str, str]) -> None:
    program = CALL + "print(vars(openai._base_client.SyncAPIClient)['request'].__module__)\n"
    threads = "import threading; print(threading.active_count())\n"
    done = ran(program + threads, **variables)
    assert (done.returncode, done.events) == (0, [])
    assert done.stdout == "openai._base_client\n1\n"
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("by", [INSTRUMENT, RUN], ids=["instrument", "run"])
def test_switched_off_nothing_is_patched_beside_other_exporters_either(by: tuple[str, ...]) -> None:
    program = (
        CALL
        + """
from opentelemetry import trace
print(vars(openai._base_client.SyncAPIClient)["request"].__module__)
call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
used = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 10}
trace.get_tracer("mine").start_span("by hand", attributes={**call, **used}).end()
"""
    )
    exporters = {"OTEL_TRACES_EXPORTER": "agentpulse,console"}
    done = ran(program, by, AGENTPULSE_ENABLED="false", **exporters)

    assert (done.returncode, done.events, done.stderr) == (0, [], "")
    assert done.stdout.startswith("openai._base_client\n")
    assert done.stdout.count('"name": "by hand"') == done.stdout.count('"name": ') == 1
    assert "agentpulse.cost" not in done.stdout


def test_a_variable_that_opentelemetry_cannot_use_does_not_stop_the_program() -> None:
    done = ran(CALL + "print('done')\n", RUN, OTEL_PROPAGATORS="nosuch")
    assert (done.returncode, done.stdout, done.events) == (0, "done\n", [])
    assert "ValueError: Propagator nosuch not found." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("disabled", ["agentpulse_openai", "openai, requests", "*"])
def test_libraries_that_are_disabled_are_left_alone(disabled: str) -> None:
    done = ran(CALL, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled)
    assert (done.returncode, done.models()) == (0, [])
    assert "sdk_init" in done.kinds()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OTEL_SERVICE_NAME": "mailer"}, "mailer"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=mailer,team=night"}, "mailer"),
        ({"AGENTPULSE_AGENT": "clerk"}, "clerk"),
    ],
    ids=str,
)
def test_the_program_has_the_name_that_it_was_given(
    variables: dict[str, str], expected: str
) -> None:
    ask = "from opentelemetry import trace\nprint(trace.get_tracer_provider().resource.attributes)"
    printed = ran(ask, **variables).stdout
    assert f"'service.name': '{expected}'" in printed
    assert "'telemetry.distro.name': 'agentpulse-sdk'" in printed


def test_a_sampler_is_obeyed_and_named_events_are_sent() -> None:
    program = "import agentpulse; agentpulse.event('woke up')" + CALL
    done = ran(program, OTEL_TRACES_SAMPLER="always_off")
    assert (done.returncode, done.models()) == (0, [])
    assert "event" in done.kinds()


def test_ids_do_not_repeat_where_a_program_seeds_random() -> None:
    program = "import random; random.seed(1)" + CALL
    first, second = (ran(program).events[-1] for _ in range(2))
    assert first["id"] != second["id"]


def test_a_command_that_is_missing_is_reported() -> None:
    nothing = processes.run(RUN[:2])
    unknown = processes.run([*RUN[:2], "no-such-thing"])
    assert (nothing.returncode, unknown.returncode) == (2, 127)
    assert "agentpulse run python agent.py" in nothing.stderr
    assert unknown.stderr == "agentpulse: There is no command 'no-such-thing'.\n"


def test_a_file_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    (plain := tmp_path / "agent.py").write_text("")
    done = processes.run([*RUN[:2], str(plain)])
    assert done.returncode == 126
    assert done.stderr.startswith(f"agentpulse: {str(plain)!r} can't be run: ")


def test_the_exit_status_and_the_arguments_are_the_commands() -> None:
    program = "import sys; print(sys.argv[2:]); sys.exit(7)"
    command = [*RUN, "-c", program, "x", "--port", "--", "y"]
    environ = {**os.environ, "AGENTPULSE_ENABLED": "false"}
    done = processes.run(command, env=environ)
    assert (done.returncode, done.stdout) == (7, "['--port', '--', 'y']\n")
