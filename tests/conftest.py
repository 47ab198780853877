"""What every test stands on: a clean environment, our shields made errors, finished spans."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import _values as exporter_shield
from agentpulse_instrumentation import instrument, uninstrument
from agentpulse_instrumentation._engine import patching
from fakes import ports
from fakes.logs import Logs
from opentelemetry import trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentpulse._otel import provider as agentpulse_provider

pytest_plugins = ("conventions", "grouping", "leftovers", "pytester")


@pytest.fixture(autouse=True, scope="session")
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where local servers leave their keys, and programs look for them; not the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AGENTPULSE_", "OTEL_", "OPENAI_", "ANTHROPIC_", "AZURE_OPENAI_")):
            monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def failures_of_ours_fail_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "strict", True)
    monkeypatch.setattr(exporter_shield, "strict", True)


@pytest.fixture(autouse=True)
def no_provider_is_left_behind() -> Iterator[None]:
    # The global provider is set once in a process, and clients that trace themselves take it.
    yield
    trace._TRACER_PROVIDER = None  # there is no public way back
    trace._TRACER_PROVIDER_SET_ONCE._done = False  # the same
    agentpulse_provider._own = None
    logs_api._LOGGER_PROVIDER = None
    logs_api._LOGGER_PROVIDER_SET_ONCE._done = False


@pytest.fixture
def port() -> Iterator[int]:
    """A port where nobody listens but what the test has listen there."""
    with ports.kept() as port:
        yield port


@pytest.fixture
def refusing(port: int) -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Spans:
    """A tracer provider of the test's own, and what ended on it."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def __len__(self) -> int:
        """How many spans ended since it was last asked for them."""
        return len(self._memory.get_finished_spans())

    def finished(self) -> list[Any]:
        """The spans that ended since it was last asked, as the SDK has them."""
        spans = list(self._memory.get_finished_spans())
        self._memory.clear()
        return spans

    def __call__(self) -> list[dict[str, Any]]:
        """The same as dicts: name, kind, status, attributes, events."""
        return [as_dict(span) for span in self.finished()]


def as_dict(span: Any) -> dict[str, Any]:
    plain = {
        "name": span.name,
        "kind": span.kind.name,
        "attributes": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in sorted(span.attributes.items())
        },
    }
    if span.status.status_code is not StatusCode.UNSET:
        plain["status"] = span.status.status_code.name
    if span.status.description is not None:
        plain["description"] = span.status.description
    if span.events:
        plain["events"] = [(event.name, dict(event.attributes)) for event in span.events]
    return plain


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Finished spans; what a test instruments is taken back when it ends."""
    spans = Spans()
    yield spans
    uninstrument()
    spans.provider.shutdown()


@pytest.fixture
def instrumented(spans: Spans) -> Callable[..., Spans]:
    """Instruments both client libraries, onto `spans`."""

    def begin(**options: Any) -> Spans:
        uninstrument()
        instrument(tracer_provider=spans.provider, **{"capture_messages": False, **options})
        return spans

    return begin


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the instrumentors warn of from now on, also what they have warned of before."""
    patching.warn_once.cache_clear()
    logged: list[str] = []

    def emit(record: logging.LogRecord) -> None:
        # A thread of an earlier test may still warn of an endpoint that is gone.
        if record.name.startswith("agentpulse"):
            logged.append(record.getMessage())

    monkeypatch.setattr(caplog.handler, "emit", emit)
    return logged


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Log events of the conventions, for tests that want some."""
    logs = Logs()
    yield logs
    uninstrument()
    logs.provider.shutdown()
