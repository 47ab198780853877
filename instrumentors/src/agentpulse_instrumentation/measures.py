"""The GenAI metrics of the conventions: their names, units, buckets and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentpulse_instrumentation import semconv

INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
"""The operations that are inferences."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """One metric: a histogram, or (without buckets) a counter.

    Attributes:
        attributes: Those of the span that it has too.
    """

    name: str
    unit: str
    buckets: tuple[float, ...] | None
    attributes: tuple[str, ...]


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SECONDS_OF_AGENTS = tuple(round(0.1 * 2**power, 1) for power in range(13))
_SECONDS_OF_WORKFLOWS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS = tuple(4**power for power in range(14))
_CALLS = tuple(2**power for power in range(8))

_OF_CHUNKS = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
_OF_TOKENS = (
    *_OF_CHUNKS,
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_SYSTEM_FINGERPRINT,
)
_OF_CALLS = (*_OF_TOKENS, semconv.ERROR_TYPE)
_INFERENCE = "gen_ai.client.inference"


def _seconds(
    name: str, attributes: tuple[str, ...], buckets: tuple[float, ...] = _SECONDS
) -> Measure:
    return Measure(name=name, unit="s", buckets=buckets, attributes=attributes)


INFERENCE_DURATION = _seconds(f"{_INFERENCE}.duration", _OF_CALLS)
FIRST_CHUNK = _seconds(f"{_INFERENCE}.time_to_first_chunk", _OF_CHUNKS)
LATER_CHUNKS = _seconds(f"{_INFERENCE}.time_per_output_chunk", _OF_CHUNKS)
OTHER_DURATION = _seconds("gen_ai.client.operation.duration", _OF_CALLS)
RUNS: Mapping[object, Measure] = {
    "invoke_agent": _seconds(
        "gen_ai.invoke_agent.duration",
        (semconv.AGENT_NAME, semconv.ERROR_TYPE),
        _SECONDS_OF_AGENTS,
    ),
    "invoke_workflow": _seconds(
        "gen_ai.invoke_workflow.duration",
        (semconv.WORKFLOW_NAME, semconv.ERROR_TYPE),
        _SECONDS_OF_WORKFLOWS,
    ),
    "execute_tool": _seconds(
        "gen_ai.execute_tool.duration",
        (semconv.AGENT_NAME, semconv.TOOL_NAME, semconv.TOOL_TYPE, semconv.ERROR_TYPE),
    ),
}
"""The durations of what isn't a client's, by operation."""
INFERENCE_CALLS, TOOL_CALLS = (
    Measure(
        name=f"gen_ai.invoke_agent.{kind}s",
        unit=f"{{{kind}}}",
        buckets=_CALLS,
        attributes=(semconv.AGENT_NAME,),
    )
    for kind in ("inference_call", "tool_call")
)
SIZES: Mapping[str, Measure] = {
    f"gen_ai.usage.{kind}": Measure(
        name=f"{_INFERENCE}.operation.{kind}",
        unit="{token}",
        buckets=_TOKENS,
        attributes=_OF_TOKENS,
    )
    for kind in ("input_tokens", "output_tokens")
}
"""The tokens of one call, by the attribute that tells them."""
USAGE: Mapping[str, Measure] = {
    f"gen_ai.usage.{kind}": Measure(
        name=f"{_INFERENCE}.usage.{kind}", unit="{token}", buckets=None, attributes=_OF_TOKENS
    )
    for kind in (
        "input_tokens",
        "output_tokens",
        "cache_read.input_tokens",
        "cache_write.input_tokens",
        "reasoning.output_tokens",
    )
}
"""The tokens of all calls, by the attribute that tells them."""
MODALITIES: Mapping[str, Mapping[str, str]] = {
    semconv.USAGE_INPUT_TOKENS: {
        "text": semconv.USAGE_TEXT_INPUT_TOKENS,
        "image": semconv.USAGE_IMAGE_INPUT_TOKENS,
        "audio": semconv.USAGE_AUDIO_INPUT_TOKENS,
    },
    semconv.USAGE_OUTPUT_TOKENS: {
        "text": semconv.USAGE_TEXT_OUTPUT_TOKENS,
        "image": semconv.USAGE_IMAGE_OUTPUT_TOKENS,
        "audio": semconv.USAGE_AUDIO_OUTPUT_TOKENS,
    },
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: {
        "audio": semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
    },
}
"""The parts of a figure by their modality, as attributes."""
