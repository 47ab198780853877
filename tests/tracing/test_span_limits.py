"""Limits of spans: what a program adds displaces nothing that matters, and losses are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fakes.pipe import adds_up
from fakes.program import Init, start
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

import agentpulse
from agentpulse._tracing.spans import MOST_METADATA
from agentpulse.demo.provider import FakeProvider

LIMIT = 128
"""Attributes of a span, by OpenTelemetry's default."""


@pytest.fixture
def ask() -> Iterator[Any]:
    """Asks a model, by a client on this machine."""
    with (
        FakeProvider() as model_provider,
        openai.OpenAI(api_key="x", base_url=model_provider.openai_url, max_retries=0) as client,
    ):

        def ask() -> None:
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
            )

        yield ask


def data_of(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return [event["data"] for event in events if event["kind"] == kind][-1]


def values(number: int) -> dict[str, int]:
    return {f"key{at}": at for at in range(number)}


@pytest.mark.parametrize("number", [126, 300])
def test_metadata_displaces_nothing_of_a_call_and_its_session(
    number: int, started: Init, ask: Any
) -> None:
    events = started(auto_patch=True, instrument=("openai",))
    with agentpulse.session("mail", user="ada", metadata=values(number)) as session:
        ask()
        session.set_result("done")
    received = events()
    call, end = data_of(received, "llm_call"), data_of(received, "session")
    assert {event["session"] for event in received} == {session.id}
    assert (call["operation"], call["provider"], call["user"]) == ("chat", "openai", "ada")
    assert call["tokens"] > 0
    assert call["cost_usd"] > 0
    assert (end["action"], end["label"], end["result"]) == ("end", "mail", "done")
    assert end["cost_usd"] == call["cost_usd"]
    kept = {**values(MOST_METADATA), "…": "…"}
    assert call["metadata"] == end["metadata"] == kept


@pytest.mark.parametrize("where", ["session", "around", "outside"])
def test_metadata_that_comes_later_displaces_nothing_either(
    where: str, started: Init, ask: Any
) -> None:
    events = started(auto_patch=True, instrument=("openai",))
    if where == "outside":
        agentpulse.set_metadata(**values(300))
    with agentpulse.session("mail", metadata={"team": "mail"}) as session:
        for key, value in values(300).items() if where != "outside" else ():
            (session if where == "session" else agentpulse).set_metadata(**{key: value})
        session.set_metadata(key1="new")
        ask()
    received = events()
    call = data_of(received, "llm_call")
    assert call["tokens"] > 0
    assert call["metadata"]["key1"] == "new"
    assert len(call["metadata"]) == MOST_METADATA + 1
    assert data_of(received, "session")["action"] == "end"


def test_attributes_that_a_program_adds_displace_nothing_that_describes_a_span(
    started: Init,
) -> None:
    events = started()
    given = {f"given{at}": at for at in range(LIMIT)}
    with (
        agentpulse.session("mail", user="ada") as session,
        agentpulse.agent("clerk", attributes=given),
        agentpulse.task("sort") as task,
    ):
        for name, value in values(LIMIT).items():
            session.set_attribute(name, value)
            task.set_attribute(name, value)
        session.log("many", **values(LIMIT))
    received = events()
    assert {event["session"] for event in received} == {session.id}
    ends = {
        event["data"]["name"]: event["data"] for event in received if event["kind"] == "span_end"
    }
    assert ends["invoke_agent clerk"]["span_kind"] == "agent"
    assert (ends["sort"]["span_kind"], ends["sort"]["user"]) == ("task", "ada")
    assert ends["sort"]["attributes"]["…"] == "…"
    end = data_of(received, "session")
    assert (end["action"], end["user"], end["logs"][0]["message"]) == ("end", "ada", "many")


def test_an_event_with_more_fields_than_there_is_room_for_has_the_last_and_a_mark(
    started: Init,
) -> None:
    events = started()
    with agentpulse.session("mail", metadata=values(MOST_METADATA)):
        agentpulse.event("sorted", values(300))
    received = data_of(events(), "event")
    assert received["key299"] == 299
    assert received["…"] == "…"


TOO_SMALL = [
    *({"max_span_attributes": most} for most in (0, 1, 2, 4, 8, 12)),
    *({"max_span_attribute_length": longest} for longest in (0, 1, 3)),
]


@pytest.mark.unconventional("the limits take attributes that the conventions ask for")
@pytest.mark.parametrize("limits", TOO_SMALL, ids=str)
def test_a_call_that_limits_leave_too_little_of_is_counted_and_logged(
    limits: dict[str, int],
    strict_receiver: Receiver,
    ask: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(**limits))
    start(strict_receiver, provider, auto_patch=True, instrument=("openai",))

    ask()

    assert not agentpulse.flush()
    stats = agentpulse.stats()
    assert stats.dropped == {"attribute_limits": 1}
    assert adds_up(stats)
    (logged,) = [each.getMessage() for each in caplog.records if each.name == "agentpulse.exporter"]
    assert logged.startswith("1 span did not reach AgentPulse (in all attribute_limits: 1); raise ")


@pytest.mark.unconventional("the limits take attributes that the conventions ask for")
@pytest.mark.parametrize("limits", TOO_SMALL, ids=str)
def test_whatever_the_limits_leave_each_session_and_each_event_is_sent_or_counted(
    limits: dict[str, int], strict_receiver: Receiver
) -> None:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(**limits))
    start(strict_receiver, provider)

    for at in range(3):
        with agentpulse.session("mail", user="ada", metadata={"number": at}):
            agentpulse.event("sorted", {"mails": at})

    agentpulse.flush()
    stats = agentpulse.stats()
    ends = [each for each in strict_receiver.of_kind("session") if each["data"]["action"] == "end"]
    assert adds_up(stats)
    sent = len(ends) + len(strict_receiver.of_kind("event"))
    assert sent + stats.dropped.get("attribute_limits", 0) == 6
