"""OpenTelemetry configured by a file (OTEL_CONFIG_FILE): joined as any other, or switched off."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from fakes import processes
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

pytestmark = [
    pytest.mark.skipif(
        find_spec("opentelemetry.configuration") is None,
        reason="opentelemetry-configuration is not installed (nox -s pipelines)",
    ),
]
FILE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: declared
tracer_provider:
  processors:
    - batch:
        exporter:
          console: {}
"""
CALL = """
import openai
from opentelemetry import trace
openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
print(trace.get_tracer_provider().resource.attributes["service.name"])
"""


def ran(tmp_path: Path, file: str, *command: str) -> tuple[CompletedProcess[str], Receiver]:
    """Runs a command of AgentPulse where OpenTelemetry is configured by this file."""
    path = tmp_path / "otel.yaml"
    path.write_text(file, encoding="utf-8")
    program = str(Path(sys.executable).parent / "agentpulse")
    with Receiver() as receiver, FakeProvider() as provider:
        done = processes.run(
            [program, *command],
            env={
                **os.environ,
                "AGENTPULSE_ENDPOINT": receiver.url,
                "OPENAI_API_KEY": "x",
                "OPENAI_BASE_URL": provider.openai_url,
                "OTEL_CONFIG_FILE": str(path),
            },
        )
    return done, receiver


def test_a_program_is_recorded_on_the_provider_of_the_file(tmp_path: Path) -> None:
    done, receiver = ran(tmp_path, FILE, "run", sys.executable, "-c", CALL)
    # OpenTelemetry logs which configurator it leaves out, where another one is installed too.
    left_out = (
        "Configuration of configurator not loaded because agentpulse is set by "
        "OTEL_PYTHON_CONFIGURATOR\n"
    )
    assert (done.returncode, done.stderr) in ((0, ""), (0, left_out))
    assert done.stdout.startswith("declared\n")
    assert done.stdout.count('"name": "chat gpt-4o"') == 1
    assert [event["data"]["name"] for event in receiver.of_kind("llm_call")] == ["chat gpt-4o"]
    (started,) = receiver.of_kind("sdk_init")
    assert "BatchSpanProcessor → ConsoleSpanExporter" in started["data"]["span_processors"]


@pytest.mark.parametrize("init", ["", "import agentpulse; agentpulse.init(agent_name='clerk')\n"])
def test_a_file_that_disables_opentelemetry_switches_agentpulse_off(
    init: str, tmp_path: Path
) -> None:
    program = init + CALL.partition("print(trace")[0]
    done, receiver = ran(tmp_path, f"disabled: true\n{FILE}", "run", sys.executable, "-c", program)
    assert (done.returncode, done.stdout, receiver.events) == (0, "", [])
    assert "disabled=true" in done.stderr


def test_the_status_has_the_file_that_switches_it_off(tmp_path: Path) -> None:
    done, _ = ran(tmp_path, f"disabled: true\n{FILE}", "status", "--json")
    assert json.loads(done.stdout)["findings"]["agentpulse"]["detail"] == (
        "AgentPulse is off, because the file that OTEL_CONFIG_FILE names says disabled: true."
    )
