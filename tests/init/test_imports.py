"""What is loaded when: nothing of a client library ever, and little before there is use for it."""

from __future__ import annotations

import json

import pytest
from fakes.sdk import Receiver, Run

LOADED = """
import json, sys, threading, agentpulse
{program}
print(json.dumps([sorted({{name.partition(".")[0] for name in sys.modules}}),
                  sorted(name for name in sys.modules if name.startswith("opentelemetry.")),
                  threading.active_count()]))
"""
CLIENT_LIBRARIES = {
    "openai", "anthropic", "litellm", "langchain_core",
    "httpx", "httpx2", "requests", "urllib3", "aiohttp", "pydantic",
}  # fmt: skip
SETTINGS = {
    "agentpulse_exporter._delivery",
    "agentpulse_exporter._delivery.endpoint",
    "agentpulse_exporter._delivery.kinds",
    "agentpulse_exporter.settings",
}
OF_EXTRAS = {"starlette", "uvicorn", "jinja2", "rich"}


def loaded_by(run_program: Run, program: str, **variables: str) -> tuple[set[str], list[str], int]:
    """Top-level modules, modules of OpenTelemetry and threads, at the end of the program."""
    ended = run_program(LOADED.format(program=program), **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    modules, opentelemetry, threads = json.loads(ended.stdout)
    return set(modules), opentelemetry, threads


def test_importing_agentpulse_loads_nothing_but_itself_and_the_standard_library(run_program: Run):
    modules, opentelemetry, threads = loaded_by(run_program, "")

    assert not modules & (CLIENT_LIBRARIES | OF_EXTRAS)
    assert not modules & {"agentpulse_exporter", "agentpulse_instrumentation", "asyncio", "wrapt"}
    assert (opentelemetry, threads) == ([], 1)


def test_init_loads_no_client_library_and_nothing_of_the_extras(
    receiver: Receiver, run_program: Run
):
    modules, opentelemetry, _ = loaded_by(
        run_program, "agentpulse.init()", AGENTPULSE_ENDPOINT=receiver.endpoint
    )

    assert "agentpulse_instrumentation" in modules
    assert not modules & (CLIENT_LIBRARIES | OF_EXTRAS)
    assert not [name for name in opentelemetry if name.startswith("opentelemetry.exporter")]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ("enabled=False", {}),
        ("", {"AGENTPULSE_ENABLED": "false"}),
        ("", {"OTEL_SDK_DISABLED": "true"}),
    ],
)
def test_switched_off_it_loads_and_starts_nothing(
    arguments: str, variables: dict[str, str], receiver: Receiver, run_program: Run
):
    program = f"""
import asyncio
agentpulse.init({arguments})
agentpulse.flush()
asyncio.run(agentpulse.aflush())
agentpulse.shutdown()
of_exporter = {{name for name in sys.modules if name.startswith("agentpulse_exporter.")}}
assert of_exporter == {SETTINGS}, of_exporter
"""

    modules, opentelemetry, threads = loaded_by(
        run_program, program, AGENTPULSE_ENDPOINT=receiver.endpoint, **variables
    )

    assert not modules & {"agentpulse_instrumentation", "wrapt"}
    assert (opentelemetry, threads) == ([], 1)
    assert receiver.requests == 0


def test_what_is_loaded_on_use_is_the_thing_itself(run_program: Run):
    program = """
import agentpulse_exporter
from importlib.metadata import version
assert agentpulse.Stats is agentpulse_exporter.Stats
assert agentpulse.calculate_cost is agentpulse_exporter.calculate_cost
assert agentpulse.__version__ == version("agentpulse-sdk")
assert all(hasattr(agentpulse, name) for name in agentpulse.__all__)
try:
    agentpulse.no_such_name
except AttributeError as error:
    assert str(error) == "module 'agentpulse' has no attribute 'no_such_name'"
else:
    raise AssertionError
"""

    loaded_by(run_program, program)
