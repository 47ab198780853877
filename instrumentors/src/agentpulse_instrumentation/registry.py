"""The instrumentors by the name of their library, and all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor, is_enabled
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation.anthropic import AnthropicInstrumentor
from agentpulse_instrumentation.groq import GroqInstrumentor
from agentpulse_instrumentation.langchain import LangChainInstrumentor
from agentpulse_instrumentation.litellm import LiteLLMInstrumentor
from agentpulse_instrumentation.openai import OpenAIInstrumentor

_UNINSTRUMENT = shield("uninstrument a library")

INSTRUMENTORS: Mapping[str, type[LibraryInstrumentor]] = MappingProxyType(
    {
        "openai": OpenAIInstrumentor,
        "anthropic": AnthropicInstrumentor,
        "groq": GroqInstrumentor,
        "langchain": LangChainInstrumentor,
        "litellm": LiteLLMInstrumentor,
    }
)
"""By the name that `instrument` and `agentpulse.init(instrument=…)` take."""


def instrument(
    names: Iterable[str] | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    capture_messages: bool | None = None,
    enabled: bool | None = None,
) -> None:
    """Instruments the named libraries, or all that are supported. Twice is once.

    Switched off, by `enabled=False`, AGENTPULSE_ENABLED or OTEL_SDK_DISABLED, it does nothing.

    A library that isn't installed is passed over. One in a version outside the tested range, and
    one that can't be patched as a whole, is left as it was, is warned of once, and is in
    `not_recorded()`; the others are instrumented. Works before and after the library's import.

    Args:
        names: names of `INSTRUMENTORS`; None for all.
        tracer_provider: where the spans go; None for the global provider, also one set later.
        meter_provider: where the GenAI metrics go; None for the global provider, if there is one.
        logger_provider: where the GenAI log events go, if they are wanted; None for the global
            provider, if there is one.
        capture_messages: whether prompts, completions and exception texts are recorded on spans;
            None to follow OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, else not.
        enabled: whether it does anything; None to follow AGENTPULSE_ENABLED, else it does.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = tuple(INSTRUMENTORS if names is None else names)
    unknown = [name for name in wanted if name not in INSTRUMENTORS]
    if unknown:
        named, known = ", ".join(map(repr, unknown)), ", ".join(INSTRUMENTORS)
        message = f"instrument() knows no {named}; it takes names of {known}."
        raise ValueError(message)
    if not is_enabled(enabled):
        return
    for name in wanted:
        INSTRUMENTORS[name]().instrument_if_installed(
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            capture_messages=capture_messages,
            enabled=enabled,
        )


def uninstrument() -> None:
    """Takes every patch back. Twice is fine; what fails of one library fails alone."""
    for kind in INSTRUMENTORS.values():
        instrumentor = kind()
        if instrumentor.is_instrumented_by_opentelemetry:
            with _UNINSTRUMENT:
                instrumentor.uninstrument()


def not_recorded(names: Iterable[str] | None = None) -> dict[str, str]:
    """The libraries that are installed and could not be instrumented, with the reason.

    For example `{"langgraph": "1.4.0 is not recorded: 0 of 1 patches could be put on, because …"}`.
    It is about the last `instrument()`, and also about what was imported after it.

    Args:
        names: names of `INSTRUMENTORS`; None for all.
    """
    found: dict[str, str] = {}
    for name in INSTRUMENTORS if names is None else names:
        found.update(INSTRUMENTORS[name]().not_recorded)
    return found
