"""What the documentation shows: every program and command on its pages does what it says."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import processes
from fakes.collector import Collector, attributes_of
from fakes.pages import Block, blocks
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

BIN = Path(sys.executable).parent
PYTHON = blocks("python")
SHELL = [(block, line) for block in blocks("sh") for line in block.commands]
GIVEN = """
import re
import agentpulse
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
EMAIL, provider = re.compile("@"), TracerProvider()
"""
"""What the READMEs' fragments take for granted."""


class Surroundings:
    """A receiver, a collector and a fake provider, and the variables that lead to them."""

    def __init__(self, receiver: Receiver, collector: Collector, provider: FakeProvider) -> None:
        self.receiver, self.collector, self.provider = receiver, collector, provider
        self.variables = {
            "AGENTPULSE_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "20",  # a busy machine is no matter of these tests
            "OPENAI_API_KEY": "not-needed",
            "OPENAI_BASE_URL": provider.openai_url,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, command: list[str], folder: Path) -> None:
        """Runs a command to its end, which has to be a quiet and good one."""
        done = processes.run(
            command,
            cwd=folder,
            env={**os.environ, **self.variables},
        )
        assert (done.returncode, done.stderr) == (0, "")

    def prices(self) -> list[float]:
        """What calls that came by OTLP cost."""
        found = (attributes_of(span).get("agentpulse.cost.total") for span in self.collector.spans)
        return [price for price in found if price]


@pytest.fixture
def around() -> Iterator[Surroundings]:
    with Receiver() as receiver, Collector() as collector, FakeProvider() as provider:
        yield Surroundings(receiver, collector, provider)


@pytest.mark.parametrize("block", [b for b in PYTHON if not b.needs_a_vendor], ids=str)
def test_python_runs_and_reports_what_it_does(
    block: Block, around: Surroundings, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    given = GIVEN if block.page.name == "README.md" else ""
    program.write_text(given + block.text, encoding="utf-8")
    around.run([sys.executable, "-W", "error", str(program)], tmp_path)

    kinds = [event["kind"] for event in around.receiver.events]
    assert ("sdk_init" in kinds) == ("agentpulse.init" in block.text)
    calls = len(around.provider.requests)
    if "CostEnrichingExporter" in block.text:
        assert len(around.prices()) == calls
    elif "agentpulse" in block.text:
        assert kinds.count("llm_call") >= calls


@pytest.mark.parametrize(
    ("block", "command"),
    [
        pytest.param(block, line, id=f"{block} {line}")
        for block, line in SHELL
        # The local server has a port that everybody knows, so its commands run in tests of its own.
        if line.endswith("python agent.py") and "agentpulse dev" not in line
    ],
)
def test_commands_record_a_program_that_knows_nothing_of_us(
    block: Block, command: str, around: Surroundings, tmp_path: Path
) -> None:
    (agent,) = [b for b in PYTHON if b.page.name == "without-code.md"]
    (tmp_path / "agent.py").write_text(agent.text, encoding="utf-8")
    command = re.sub(r"http://\w+:4318", around.collector.url, command)
    around.run(["sh", "-c", command], tmp_path)

    assert len(around.provider.requests) == 1
    kinds = [event["kind"] for event in around.receiver.events]
    assert "sdk_init" in kinds
    # A sampler may have thrown its dice against this call.
    assert "llm_call" in kinds or "SAMPLER" in command
    if "otlp" in command.lower():
        assert [span["name"] for span in around.collector.spans] == ["chat gpt-4o-mini"]
    if "AGENTPULSE_OTLP_ENDPOINT" in command:
        assert len(around.prices()) == 1
