"""OpenTelemetry's own configurator with our exporter by its name, and `init` on top of it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fakes import processes
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

pytestmark = [
    pytest.mark.skipif(
        find_spec("opentelemetry.distro") is None,
        reason="opentelemetry-distro is not installed (nox -s pipelines)",
    ),
]
AGENT = """
import sys, agentpulse, openai
agentpulse.init()
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
with agentpulse.session("day"), agentpulse.agent("clerk"):
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}])
print(*agentpulse.get_client().joined.processors, sep="\\n")
"""


def test_it_is_one_pipeline() -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        done = processes.run(
            [
                str(Path(sys.executable).parent / "opentelemetry-instrument"),
                *(sys.executable, "-c", AGENT, provider.openai_url),
            ],
            env={
                **os.environ,
                "AGENTPULSE_ENDPOINT": receiver.url,
                "OTEL_PYTHON_CONFIGURATOR": "configurator",
                "OTEL_PYTHON_DISTRO": "distro",
                "OTEL_TRACES_EXPORTER": "agentpulse",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
            },
        )
    # OpenTelemetry logs which of the two that are installed it leaves out.
    left_out = "Configuration of agentpulse not loaded, configurator already loaded\n"
    assert (done.returncode, done.stderr) in ((0, left_out), (0, ""))
    assert "BatchSpanProcessor → AgentPulseSpanExporter\n" in done.stdout
    kinds = sorted(event["kind"] for event in receiver.events if event["kind"] != "heartbeat")
    assert kinds == [
        *("cost", "llm_call", "sdk_init", "session", "session"),
        *("span_end", "span_start", "span_start"),
    ]
