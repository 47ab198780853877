"""A library that can't be patched: the rest of AgentPulse goes on, and names it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anthropic._base_client
import openai
import pytest
from agentpulse_instrumentation._engine import patching
from fakes.moved import Name, moved
from fakes.sdk import Receiver
from opentelemetry.sdk.trace import TracerProvider
from otel.test_distro import CALL, INSTRUMENT, PLAIN, RUN, ran

import agentpulse
from agentpulse.cli import main
from agentpulse.demo.provider import FakeProvider

NAME = Name("anthropic", anthropic._base_client.__name__, "AsyncAPIClient.request")


@pytest.fixture
def missing() -> Iterator[str]:
    """Moves a name of anthropic's away; how the reason begins."""
    patching.warn_once.cache_clear()
    with moved(NAME, "gone"):
        yield f"{version('anthropic')} is not recorded: "


def test_init_goes_on_with_the_others_and_stats_name_the_one(
    missing: str, receiver: Receiver, provider: TracerProvider, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            client = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
            assert client.is_on
            with FakeProvider() as fake, openai.OpenAI(api_key="x", base_url=fake.openai_url) as at:
                at.embeddings.create(model="text-embedding-3-small", input="x")
            assert agentpulse.flush()
            found = agentpulse.stats().not_recorded
            agentpulse.shutdown()
            assert agentpulse.stats().not_recorded == found

    assert len(receiver.of_kind("llm_call")) == 2
    assert list(found) == ["anthropic"]
    assert found["anthropic"].startswith(missing)
    assert f" patches could be put on and were taken back, because {NAME} is missing" in str(found)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"anthropic {found['anthropic']}. ")


@pytest.mark.parametrize(
    "options", [{"auto_patch": False}, {"instrument": ("openai",)}], ids=["no library", "another"]
)
def test_what_is_not_to_be_recorded_is_not_missed(
    options: dict[str, Any], missing: str, receiver: Receiver, provider: TracerProvider
):
    endpoint = receiver.endpoint
    agentpulse.init(endpoint=endpoint, tracer_provider=provider)
    assert agentpulse.stats().not_recorded
    agentpulse.shutdown()
    agentpulse.init(endpoint=endpoint, tracer_provider=provider, **options)

    assert agentpulse.stats().not_recorded == {}


def test_status_has_it_in_a_line(
    missing: str,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.endpoint)

    assert main(["status", "--json"]) == 1

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings["openai"] == {"ok": True, "detail": f"{openai.__version__} is recorded"}
    assert findings["anthropic"]["ok"] is False
    assert findings["anthropic"]["detail"].startswith(missing)
    assert f"because {NAME} is missing" in findings["anthropic"]["detail"]


INIT = "import agentpulse; agentpulse.init()\n"
WAYS = [(INSTRUMENT, ""), (RUN, ""), (PLAIN, INIT), (PLAIN, "import anthropic\n" + INIT)]


@pytest.mark.parametrize(("by", "first"), WAYS)
def test_each_way_in_records_the_others(by: tuple[str, ...], first: str, tmp_path: Path):
    # As a release might be.
    package = tmp_path / "anthropic"
    package.mkdir()
    (package / "__init__.py").write_text("from anthropic import _base_client\n")
    (package / "_base_client.py").write_text(
        "class BaseClient:\n"
        "    def _set_open_telemetry(self, option): ...\n"
        "    def _copy_open_telemetry(self, option): ...\n"
        "class SyncAPIClient(BaseClient):\n"
        "    def request(self): ...\n"
        "class AsyncAPIClient(BaseClient):\n"
        "    def request(self): ...\n"
    )
    program = first + CALL + "import anthropic\nprint(vars(anthropic._base_client.SyncAPIClient))\n"
    done = ran(program, by, PYTHONPATH=str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.models() == ["chat gpt-4o"]
    assert "<function SyncAPIClient.request at" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "anthropic._base_client.AsyncAPIClient.request is not async any more" in line
