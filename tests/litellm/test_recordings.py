"""Traffic that was recorded through LiteLLM, through LiteLLM again: every figure is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import as_dict
from fakes import lite, recordings
from fakes.replayed import Replayed

litellm = lite.imported()

pytestmark = pytest.mark.skipif(not recordings.is_present(), reason=recordings.WHY_ABSENT)

# How LiteLLM is asked for what was recorded: the provider's prefix and the path of its API, after
# the base. Bodies are in the provider's format, which the functions named here take.
FUNCTIONS = {
    ("openai", "chat"): "completion",
    ("openrouter", "chat"): "completion",
    ("openai", "responses"): "responses",
    ("openai", "embeddings"): "embedding",
    ("anthropic", "messages"): "anthropic_messages",
}
USAGE = "gen_ai.usage."
# LiteLLM reports Anthropic's reasons by OpenAI's names.
REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
}


def recorded_through_litellm() -> list[Any]:
    return [
        recording
        for recording in (recordings.recordings().values() if recordings.is_present() else ())
        if recording.get("via") == "litellm"
        and (recording["provider"], recording["operation"]) in FUNCTIONS
        and recording["response"]["status"] == 200
    ]


@pytest.fixture
def replayed() -> Iterator[Replayed]:
    with Replayed() as provider:
        yield provider


def calls(recording: Any, provider: Replayed, reported: Callable[[], bool]) -> list[Any]:
    """The ways to make the recorded call again; a stream is read until it is `reported` of."""
    key = recording["provider"], recording["operation"]
    body = dict(recording["request"]["body"])
    base = provider.anthropic_url if key[0] == "anthropic" else provider.openai_url
    body["model"] = f"{key[0]}/{body['model']}"
    given = {**body, "api_key": "x", "api_base": base, "max_retries": 0}
    name = FUNCTIONS[key]
    ways = [lambda: read(getattr(litellm, f"a{name}")(**given), given, reported)]
    if name == "anthropic_messages":
        ways = [lambda: read(litellm.anthropic_messages(**given), given, reported)]
        if "tools" not in given and isinstance(given.get("system", ""), str):
            ways.append(
                lambda: read(litellm.acompletion(**in_openai_format(given)), given, reported)
            )
        return ways
    return [lambda: drain(getattr(litellm, name)(**given), given), *ways]


def in_openai_format(given: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in given.items() if name != "system"}
    spoken = [{"role": "system", "content": given["system"]}] if given.get("system") else []
    return {**rest, "messages": [*spoken, *given["messages"]]}


def drain(result: Any, given: dict[str, Any]) -> None:
    if given.get("stream"):
        list(result)


def read(result: Any, given: dict[str, Any], reported: Callable[[], bool]) -> None:
    async def run() -> None:
        answer = await result
        if given.get("stream"):
            async for _ in answer:
                pass
            # Some streams are put together in a task of LiteLLM's own.
            until = time.monotonic() + 60
            while not reported() and time.monotonic() < until:  # noqa: ASYNC110  # spans wake nobody
                await asyncio.sleep(0.005)

    asyncio.run(run())


def differences(recording: Any, span: dict[str, Any]) -> list[str]:
    truth, reported = recordings.truths()[recording["id"]], span["attributes"]
    is_embedding = recording["operation"] == "embeddings"
    expected = {
        USAGE + "input_tokens": truth.get("input_tokens_with_cache", truth["input_tokens"]),
        USAGE + "output_tokens": None if is_embedding else truth["output_tokens"],
        USAGE + "cache_read.input_tokens": truth["cached_tokens"],
        USAGE + "cache_write.input_tokens": truth.get("cache_creation_tokens"),
        USAGE + "reasoning.output_tokens": truth["reasoning_tokens"],
        "gen_ai.response.model": truth["response_model"],
        "gen_ai.response.id": None if is_embedding else truth["response_id"],
        "gen_ai.response.finish_reasons": truth["finish_reasons"] or None,
    }
    found = []
    for name, value in expected.items():
        got, wanted = by_openais_names(reported.get(name)), by_openais_names(value)
        invented = is_invented(recording, name, value) and span["by"] == "litellm"
        invented = invented or (value is None and reported.get("agentpulse.usage.estimated"))
        if (got or None) != (wanted or None) and not invented:
            found.append(f"{name} is {got!r}, not {wanted!r}")
    _, findings = recordings.semconv_checker().check_record(
        {"status": "UNSET", "events": [], **span}
    )
    return found + [str(finding) for finding in findings if finding.level == "E"]


def by_openais_names(value: Any) -> Any:
    return [REASONS.get(reason, reason) for reason in value] if isinstance(value, list) else value


def is_invented(recording: Any, name: str, value: Any) -> bool:
    """What LiteLLM makes up: missing reasons to end, the id and at times the model of a stream.

    It guesses the thinking in Anthropic's streams, and doesn't report that. Before 1.106 it takes
    each of them for one that came to a natural end.
    """
    if value == [None]:
        return True
    if not recording["stream"] or recording["operation"] == "responses":
        return False
    if name.endswith("finish_reasons"):
        return lite.is_older_than("1.106.0")
    return name.endswith((".id", ".model", ".reasoning.output_tokens"))


@pytest.mark.parametrize(
    "recording", recorded_through_litellm(), ids=lambda r: r["id"].rpartition("/")[2]
)
def test_a_recorded_call_is_one_true_span(
    recording: Any, replayed: Replayed, recorded: Any
) -> None:
    replayed.spoken = recording["response"]
    spans = recorded()
    for call in calls(recording, replayed, lambda: bool(len(spans.spans))):
        try:
            call()
        except TypeError as error:
            pytest.skip(f"this LiteLLM has another format: {error}")
        (span,) = spans.finished(least=1)
        found = {"by": span.instrumentation_scope.name.rpartition(".")[2], **as_dict(span)}
        assert not differences(recording, found)
