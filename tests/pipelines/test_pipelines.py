"""AgentPulse beside other products on OpenTelemetry: set up before it, after it, passed to it."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fakes import processes

PACKAGES = {
    "the program": "opentelemetry",
    "logfire": "logfire",
    "langfuse": "langfuse",
    "sentry": "sentry_sdk",
    "sentry by OTLP": "sentry_sdk",
}
ONE_PROVIDER = [
    *((product, order) for product in PACKAGES for order in ("before", "passed")),
    *((product, "added") for product in PACKAGES if product != "logfire"),
]
"""Where both are on one provider."""
REFUSED = [(product, "after") for product in ("the program", "logfire", "sentry")]
"""Where OpenTelemetry refuses the second provider."""
REFUSAL = "Overriding of current TracerProvider is not allowed\n"


def cases(*pairs: tuple[str, str]) -> Any:
    marked = [
        pytest.param(
            *pair,
            marks=pytest.mark.skipif(
                find_spec(PACKAGES[pair[0]]) is None,
                reason=f"{PACKAGES[pair[0]]} is not installed (nox -s pipelines)",
            ),
        )
        for pair in pairs
    ]
    return pytest.mark.parametrize(("product", "order"), marked)


@cache
def outcome(product: str, order: str) -> Any:
    """The output of the program, and its lines on stderr."""
    tests = Path(__file__).parents[1]
    done = processes.run(
        [sys.executable, "-W", "error", "-m", "pipelines.program", product, order], cwd=tests
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {**json.loads(done.stdout), "stderr": done.stderr}


@cases(*ONE_PROVIDER, *REFUSED)
def test_each_call_is_sent_once_in_its_session(product: str, order: str) -> None:
    received = outcome(product, order)["received"]
    (call,) = [event for event in received if event["kind"] == "llm_call"]
    started, ended = [event for event in received if event["kind"] == "session"]
    assert call["session"] == started["session"] == ended["session"]
    assert ended["data"]["calls"] == 1
    assert ended["data"]["cost_usd"] == call["data"]["cost_usd"] > 0


@cases(*ONE_PROVIDER, *REFUSED)
def test_nothing_is_lost_and_nothing_is_sent_after_shutdown(product: str, order: str) -> None:
    result = outcome(product, order)
    assert result["complete"] == [True, True]
    assert result["received later"] == []


@cases(*ONE_PROVIDER)
def test_the_other_product_gets_its_spans_and_ours_with_their_parents(
    product: str, order: str
) -> None:
    seen = [span for span in outcome(product, order)["seen"] if span["name"] != "later"]
    by_name = {span["name"]: span for span in seen}
    # Langfuse takes calls of models, and what is its own.
    others = set() if product == "langfuse" else {"day"}
    assert sorted(span["name"] for span in seen) == sorted({"chat gpt-4o", "work", *others})
    (call,) = [
        event for event in outcome(product, order)["received"] if event["kind"] == "llm_call"
    ]
    (session, _) = [
        event for event in outcome(product, order)["received"] if event["kind"] == "session"
    ]
    assert by_name["chat gpt-4o"]["id"] == call["span_id"]
    assert by_name["chat gpt-4o"]["parent"] == by_name["work"]["id"]
    assert by_name["work"]["parent"] == session["span_id"]


@cases(*ONE_PROVIDER)
def test_a_call_is_inside_the_nearest_span_that_is_sent(product: str, order: str) -> None:
    received = outcome(product, order)["received"]
    (call,) = [event for event in received if event["kind"] == "llm_call"]
    around = {
        event["span_id"]: event for event in received if event["kind"] in ("session", "span_end")
    }
    inside = around[call["parent_span_id"]]
    # Spans of Langfuse are about agents, the others' are spans like any.
    assert inside["kind"] == ("span_end" if product == "langfuse" else "session")


@cases(*ONE_PROVIDER, *REFUSED)
def test_the_other_product_goes_on_after_shutdown(product: str, order: str) -> None:
    assert "later" in {span["name"] for span in outcome(product, order)["seen"]}


@cases(*REFUSED)
def test_a_provider_that_opentelemetry_refuses_has_its_own_spans_alone(
    product: str, order: str
) -> None:
    seen = outcome(product, order)["seen"]
    assert [span["name"] for span in seen] == ["work", "later"]
    (session, _) = [
        event for event in outcome(product, order)["received"] if event["kind"] == "session"
    ]
    assert seen[0]["parent"] == session["span_id"]


@cases(*ONE_PROVIDER, *REFUSED)
def test_uploads_are_requests_of_nobody(product: str, order: str) -> None:
    headers = outcome(product, order)["headers"]
    assert "user-agent" in headers
    assert {"sentry-trace", "baggage", "traceparent"}.isdisjoint(headers)


@cases(*ONE_PROVIDER, *REFUSED)
def test_nothing_is_logged_but_that_opentelemetry_refuses(product: str, order: str) -> None:
    assert outcome(product, order)["stderr"] == (REFUSAL if (product, order) in REFUSED else "")


@cases(*ONE_PROVIDER, *REFUSED)
def test_the_provider_and_its_processors_are_named(product: str, order: str) -> None:
    result = outcome(product, order)
    inside = [line for line in result["processors"] if "(AgentPulse)" not in line]
    expected = {
        "the program": ["SimpleSpanProcessor → InMemorySpanExporter"],
        "langfuse": ["LangfuseSpanProcessor → LangfuseTransformingSpanExporter → OTLPSpanExporter"],
        "sentry": ["SentrySpanProcessor"],
        "sentry by OTLP": ["BatchSpanProcessor → OTLPSpanExporter"],
    }
    if (product, order) in REFUSED:
        assert inside == []
    elif product != "logfire":  # its wrappers are its own affair
        assert inside == expected[product]
    if order in ("after", "added"):
        assert result["provider"].startswith("AgentPulse's own (")
    elif product == "logfire":
        assert result["provider"].startswith("logfire.")
    else:
        assert result["provider"] == "opentelemetry.sdk.trace.TracerProvider"
