"""The instrumentors by the name of their library, and all of them at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from packaging.requirements import Requirement

from agentpulse_instrumentation.anthropic import AnthropicInstrumentor
from agentpulse_instrumentation.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation.kill_switch import is_enabled
from agentpulse_instrumentation.langchain import LangChainInstrumentor
from agentpulse_instrumentation.litellm import LiteLLMInstrumentor
from agentpulse_instrumentation.openai import OpenAIInstrumentor

_logger = logging.getLogger("agentpulse.instrumentation")

INSTRUMENTORS: Mapping[str, type[LibraryInstrumentor]] = MappingProxyType(
    {
        "openai": OpenAIInstrumentor,
        "anthropic": AnthropicInstrumentor,
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

    A library that isn't installed is passed over; one in a version outside the tested range is
    left alone, with a warning. Works before and after the library's import.

    Args:
        names: names of `INSTRUMENTORS`; None for all.
        tracer_provider: where the spans go; None for the global provider, also one set later.
        meter_provider: where the GenAI metrics go; None for the global provider, if there is one.
        logger_provider: where the GenAI log events go, if they are wanted; None for the global
            provider, if there is one.
        capture_messages: whether prompts, completions and exception texts are recorded on spans;
            None for what OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says of spans and
            events, else not.
        enabled: whether it does anything; None for what AGENTPULSE_ENABLED says, else it does.

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
        instrumentor = INSTRUMENTORS[name]()
        if not instrumentor.is_instrumented_by_opentelemetry and _is_supported(
            instrumentor.supported
        ):
            # The versions are checked above: BaseInstrumentor logs an error for a library that is
            # merely absent.
            instrumentor.instrument(
                skip_dep_check=True,
                tracer_provider=tracer_provider,
                meter_provider=meter_provider,
                logger_provider=logger_provider,
                capture_messages=capture_messages,
                enabled=enabled,
            )


def uninstrument() -> None:
    """Takes every patch back. Twice is fine."""
    for kind in INSTRUMENTORS.values():
        instrumentor = kind()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def _is_supported(supported: str) -> bool:
    requirement = Requirement(supported)
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return False
    if requirement.specifier.contains(installed, prereleases=True):
        return True
    _logger.warning(
        "%s %s is not instrumented: AgentPulse supports %s. Install a supported version, or "
        "update agentpulse.",
        requirement.name,
        installed,
        supported,
    )
    return False
