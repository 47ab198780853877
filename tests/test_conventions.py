"""The plugin that holds the spans and events of all tests against the conventions."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import recordings

pytestmark = pytest.mark.skipif(not recordings.is_present(), reason=recordings.WHY_ABSENT)

SPANS = """
import pytest
from opentelemetry.sdk.trace import TracerProvider

def span(scope, **more):
    told = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", **more}
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer(scope)
    tracer.start_span("chat gpt-4o", attributes={"gen_ai.request.model": "gpt-4o", **told}).end()

def test_as_asked():
    span("agentpulse.tests", **{"gen_ai.provider.name": "ollama"})

def test_of_others():
    span("others", **{"gen_ai.system": "openai"})

@pytest.mark.unconventional("on purpose")
def test_on_purpose():
    span("agentpulse.tests", **{"gen_ai.system": "openai"})

def test_deprecated():
    span("agentpulse.tests", **{"gen_ai.system": "openai"})

def test_not_known():
    span("agentpulse.tests", **{"gen_ai.request.stream": False})

@pytest.fixture
def late():
    yield
    span("agentpulse.tests", **{"gen_ai.nothing": 1})

def test_late(late):
    pass

def test_an_event():
    from agentpulse_instrumentation._engine.recording import DETAILS, emit
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.trace import INVALID_SPAN

    logger = LoggerProvider(shutdown_on_exit=False).get_logger("agentpulse.tests")
    told = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    told["gen_ai.input.messages"] = "[]"
    emit(logger, DETAILS, INVALID_SPAN, told, 1)
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_span_that_is_not_as_asked_fails_its_test(
    workers: tuple[str, ...], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    # No more than the plugins it names, for it starts in a fifth of the time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("AGENTPULSE_TEST_SHARED", str(recordings.SHARED))
    pytester.makepyfile(SPANS)
    result = pytester.runpytest_subprocess("-p", "xdist", "-p", "conventions", *workers)

    result.assert_outcomes(passed=4, failed=3, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "The span 'chat gpt-4o' has deprecated-attribute of gen_ai.system*",
            "The span 'chat gpt-4o' has discouraged-value of gen_ai.request.stream*",
            "The span 'chat gpt-4o' has unknown-attribute of gen_ai.nothing*",
            "The event 'gen_ai.client.inference.operation.details' has bad-content*",
            "5 spans and 1 events of ours were checked*",
            "* 1 unlisted-value of gen_ai.provider.name: the*",
        ]
    )
