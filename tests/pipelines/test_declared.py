"""OpenTelemetry configured by a file (OTEL_CONFIG_FILE): its provider is joined as any other."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

pytestmark = [
    pytest.mark.timeout(120),
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
import sys, openai
from opentelemetry import trace
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
print(trace.get_tracer_provider().resource.attributes["service.name"])
"""


def test_a_program_is_recorded_on_the_provider_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text(FILE, encoding="utf-8")
    command = str(Path(sys.executable).parent / "agentpulse")
    with Receiver() as receiver, FakeProvider() as provider:
        done = subprocess.run(
            [command, "run", sys.executable, "-c", CALL, provider.openai_url],
            env={
                **os.environ,
                "AGENTPULSE_ENDPOINT": receiver.url,
                "OTEL_CONFIG_FILE": str(file),
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    # OpenTelemetry says which configurator it leaves out, where another one is installed too.
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
