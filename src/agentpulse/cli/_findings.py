"""What `agentpulse status` says of one thing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.patching import Library
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk.environment_variables import (
    OTEL_ATTRIBUTE_COUNT_LIMIT,
    OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT,
    OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)
from opentelemetry.sdk.trace import SpanLimits

from agentpulse._otel.environment import DECLARED
from agentpulse._otel.exporters import is_disabled, listed
from agentpulse._otel.pipeline import installed_version
from agentpulse.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    is_well: bool | None
    """None where that can't be told, or doesn't matter."""
    said: str


# Whether the calls of each library would be recorded: it is imported and patched to see.


def libraries(settings: Settings, *, is_on: bool) -> dict[str, Finding]:
    """What becomes of the calls of each library that can be recorded."""
    return {
        library.name: _found(name, library, settings, is_on=is_on)
        for name, kind in INSTRUMENTORS.items()
        for library in kind.libraries()
    }


def _found(instrumentor: str, library: Library, settings: Settings, *, is_on: bool) -> Finding:
    installed = installed_version(library.package)
    specifier = library.specifier
    if installed is None:
        return Finding(None, f"not installed ({specifier} is supported)")
    if not library.supports(installed):
        return Finding(False, f"{installed} is not recorded: {specifier} is supported")
    if not is_on:
        return Finding(None, f"{installed} is supported, not recorded because AgentPulse is off")
    if not settings.auto_patch:
        return Finding(None, f"{installed} is supported, not recorded because auto_patch is false")
    if is_disabled(instrumentor):
        return Finding(
            None,
            f"{installed} is supported, left alone under opentelemetry-instrument by "
            f"{OTEL_PYTHON_DISABLED_INSTRUMENTATIONS}",
        )
    problem = _patch(INSTRUMENTORS[instrumentor](), library)
    return Finding(problem is None, problem or f"{installed} is recorded")


def _patch(instrumentor: LibraryInstrumentor, library: Library) -> str | None:
    """Patches a library as `init` does, and takes it back; what went wrong, or None."""
    instrument([instrumentor.library])
    try:
        for module in library.modules:
            if library.name not in instrumentor.not_recorded:
                import_module(module)
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        reason = f"{type(error).__name__}: {error}"
        return f"{library.installed()} is broken, importing it fails: {reason}"
    else:
        return instrumentor.not_recorded.get(library.name)
    finally:
        uninstrument()


# What OpenTelemetry's variables make of recording and sending, where they change it.

_ALL = frozenset({"", "always_on", "parentbased_always_on"})
_NONE = frozenset({"always_off", "parentbased_always_off"})
_RATIO = frozenset({"traceidratio", "parentbased_traceidratio"})
_ENOUGH_ATTRIBUTES = 48
"""A call with all that it may have, in a session without metadata, has that many."""
_ENOUGH_CHARACTERS = 64
"""Names of models and keys of sessions are that long."""


def by_variables(settings: Settings, *, is_on: bool) -> Mapping[str, Finding]:
    """A finding for each variable that changes something; none for those that don't."""
    found = {
        "traces_exporter": _exporter(),
        "traces_sampler": _sampler(),
        "attribute_limits": _limits(),
        "otlp_endpoint": _otlp(settings) if is_on else None,
    }
    return {name: finding for name, finding in found.items() if finding is not None}


def _exporter() -> Finding | None:
    names = listed(OTEL_TRACES_EXPORTER)
    if not names or "agentpulse" in names:
        return None
    return Finding(
        False,
        "nothing is sent to AgentPulse under opentelemetry-instrument, because "
        f"{OTEL_TRACES_EXPORTER} is {','.join(names)!r}",
    )


def _sampler() -> Finding | None:
    name = os.environ.get(OTEL_TRACES_SAMPLER, "").strip().lower()
    if name in _ALL or os.environ.get(DECLARED):
        return None
    reason = f"because {OTEL_TRACES_SAMPLER} is {name!r}"
    if name in _RATIO:
        ratio = _ratio()
        reason += f" and {OTEL_TRACES_SAMPLER_ARG} is '{ratio:g}'"
    elif name in _NONE:
        ratio = 0.0
    else:
        return Finding(None, f"not all calls may be recorded, {reason}")
    if ratio == 1:
        return None
    if ratio == 0:
        return Finding(False, f"none of the calls are recorded, {reason}")
    return Finding(None, f"calls in {ratio * 100:g} of 100 traces are recorded, {reason}")


def _ratio() -> float:
    """What OpenTelemetry samples by; where it can't read the argument, it takes all traces."""
    try:
        ratio = float(os.environ.get(OTEL_TRACES_SAMPLER_ARG, ""))
    except ValueError:
        return 1.0
    return ratio if 0 <= ratio <= 1 else 1.0


def _limits() -> Finding | None:
    if os.environ.get(DECLARED):
        return None
    try:
        limits = SpanLimits()
    except ValueError as error:
        return Finding(False, f"nothing is recorded, because {error}")
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    if most is not None and most < _ENOUGH_ATTRIBUTES:
        which = _set_one(OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, OTEL_ATTRIBUTE_COUNT_LIMIT)
        return Finding(
            False,
            f"calls are lost that have more than {most} attributes, because {which} is '{most}'; "
            f"up to {_ENOUGH_ATTRIBUTES} are needed",
        )
    if longest is not None and longest < _ENOUGH_CHARACTERS:
        which = _set_one(OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT)
        return Finding(
            False,
            "names of models and keys of sessions are cut, and calls without a price or lost, "
            f"because {which} is '{longest}'; up to {_ENOUGH_CHARACTERS} characters are needed",
        )
    return None


def _set_one(of_spans: str, of_all: str) -> str:
    """The variable that counts."""
    return of_spans if of_spans in os.environ else of_all


def _otlp(settings: Settings) -> Finding | None:
    if settings.otlp_endpoint is None:
        return None
    try:
        import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        return Finding(
            False,
            "nothing is sent by OTLP, because its exporter is not installed: "
            'pip install "agentpulse-sdk[otlp]"',
        )
    return Finding(None, f"also sent to {settings.shown('otlp_endpoint')} by OTLP")
