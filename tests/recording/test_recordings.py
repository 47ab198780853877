"""Recorded provider traffic through the real clients: nothing changes, every figure is true."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes import recordings

pytestmark = [
    pytest.mark.skipif(not recordings.is_present(), reason=recordings.WHY_ABSENT),
    # Providers answer with more than the clients' types know of, and pydantic says so.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning"),
]

CASES = [(operation, stream) for operation in recordings.OPERATIONS for stream in (False, True)]


def outcome(call: Any) -> Any:
    """What a caller gets: types and values of all that comes back, or of what is raised."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001  # whatever the client raises
        return type(error), str(error)
    return [
        (type(part), plain(part)) for part in (result if isinstance(result, list) else [result])
    ]


def plain(part: Any) -> Any:
    return part.model_dump(exclude_unset=True) if hasattr(part, "model_dump") else part


def drive(recording: Any) -> Any:
    """Makes the recorded call, reads its stream to the end, and returns all the caller gets."""
    library = recordings.OPERATIONS[recording["operation"]][0]
    transport = recordings.tool("replay").transport(recording, http=recordings.http_of(library))

    def call() -> Any:
        client = recordings.client(recording, transport)
        result = recordings.call(client, recording)
        return list(result) if hasattr(type(result), "__next__") else result

    return outcome(call), transport.requests


def adrive(recording: Any) -> Any:
    """The same with the async client."""
    library = recordings.OPERATIONS[recording["operation"]][0]
    transport = recordings.tool("replay").transport(recording, http=recordings.http_of(library))

    async def call() -> Any:
        client = recordings.client(recording, transport, asynchronous=True)
        result = await recordings.call(client, recording)
        if hasattr(type(result), "__anext__"):
            return [chunk async for chunk in result]
        return result

    return outcome(lambda: asyncio.run(call())), transport.requests


@pytest.mark.parametrize("drive", [drive, adrive], ids=["sync", "async"])
@pytest.mark.parametrize(("operation", "stream"), CASES)
def test_a_recorded_call_gives_the_caller_the_same_and_one_true_span(
    operation: str, stream: bool, drive: Any, spans: Any
) -> None:
    cases = recordings.drivable(operation, stream=stream)
    without = [(recording, *drive(recording)) for recording in cases]
    problems: dict[str, list[str]] = {}
    instrument(tracer_provider=spans.provider, capture_messages=False)
    for recording, expected, requests in without:
        if is_too_new(expected, requests):
            continue
        got, requests_seen = drive(recording)
        found = (
            [f"{len(ended)} spans"]
            if len(ended := spans()) != 1
            else recordings.judge(recording, ended[0])
        )
        if repr(got) != repr(expected):
            found.append(f"the caller got {got!r:.300}, not {expected!r:.300}")
        if without_usage_option(requests_seen) != without_usage_option(requests):
            found.append("the requests differ")
        if found:
            problems[recording["id"]] = found
    assert not problems, problem_list(problems)
    assert cases or (operation, stream) in NEVER_RECORDED


def is_too_new(expected: Any, requests: list[Any]) -> bool:
    """Whether this version of the client can't make the call at all: no method, or no argument."""
    return not requests and expected[0] in (TypeError, AttributeError)


def problem_list(problems: dict[str, list[str]]) -> str:
    return "\n".join(f"{name}: {'; '.join(found)}" for name, found in problems.items())


NEVER_RECORDED = {("responses.compact", True), ("embeddings", True), ("moderations", True)}


def without_usage_option(requests: list[dict[str, Any]]) -> list[Any]:
    """The bodies of requests but for what we may add to them."""
    bodies = []
    for request in requests:
        body = dict(request["body"])
        options = {
            k: v
            for k, v in (body.pop("stream_options", None) or {}).items()
            if k != "include_usage"
        }
        bodies.append((request["method"], request["url"], {**body, "stream_options": options}))
    return bodies


@pytest.mark.parametrize(("operation", "stream"), CASES)
def test_captured_content_of_a_recorded_call_holds_its_tool_calls_and_the_conventions(
    operation: str, stream: bool, spans: Any
) -> None:
    problems = {}
    instrument(tracer_provider=spans.provider, capture_messages=True)
    for recording in recordings.drivable(operation, stream=stream):
        if is_too_new(*drive(recording)):
            continue
        (span,) = spans()
        found = recordings.judge(recording, span)
        messages = json.loads(span["attributes"].get("gen_ai.output.messages", "[]"))
        parts = [part for message in messages for part in message["parts"]]
        called = [part["name"] for part in parts if part["type"] == "tool_call"]
        if called != (recordings.truths()[recording["id"]]["tool_calls"] or []):
            found.append(f"tool calls are {called}")
        if found:
            problems[recording["id"]] = found
    assert not problems, problem_list(problems)
