"""Anthropic's own spans: one span a call, theirs or ours.

anthropic 1.14 and later start a CLIENT span for every call whose request options carry a span name
(`anthropic/_tracing.py`, `start_api_call_span`), by default on the global provider;
OpenTelemetry's suppression doesn't mute it. For a call that we record, the span name is taken off
its options. A client that was given an `open_telemetry=` option keeps what its user asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from agentpulse_instrumentation._engine.patching import Patches, shield

_NOTE = shield("note the option of a client")
_UNCHANGED: dict[str, Any] = {}
_WITHOUT_NAME: dict[str, Any] = {"span_name": None}
_given: WeakSet[object] = WeakSet()
"""Clients whose user gave them an `open_telemetry=` option."""


class _Inherited(dict[str, Any]):
    """The resolved option of a client that was given none, on its way into a copy of it."""


def watch_options(module: ModuleType, patches: Patches) -> None:
    """Learns which clients are given the option. Clients made earlier count as given none."""
    patches.replace(module, "BaseClient._set_open_telemetry", _noting, since="1.14")
    patches.replace(module, "BaseClient._copy_open_telemetry", _marking, since="1.14")


def _noting(original: Any) -> Any:
    @functools.wraps(original)
    def set_option(self: Any, open_telemetry: Any = None, *args: Any, **kwargs: Any) -> Any:
        with _NOTE:
            is_given = open_telemetry is not None and not isinstance(open_telemetry, _Inherited)
            (_given.add if is_given else _given.discard)(self)
        return original(self, open_telemetry, *args, **kwargs)

    return set_option


def _marking(original: Any) -> Any:
    @functools.wraps(original)
    def copy_option(self: Any, open_telemetry: Any = None, *args: Any, **kwargs: Any) -> Any:
        option = original(self, open_telemetry, *args, **kwargs)
        with _NOTE:
            if open_telemetry is None and self not in _given:
                return _Inherited(option)
        return option

    return copy_option


def without_native_span(
    client: Any, options: Any, tracer_provider: TracerProvider | None
) -> dict[str, Any] | None:
    """What to change in the options of a recorded call so that the client adds no span.

    None for the call of a client whose user has it trace itself, to the provider of our spans: it
    isn't recorded. A provider of None is the global one.
    """
    if getattr(options, "span_name", None) is None:
        return _UNCHANGED
    option = cast("Mapping[str, Any]", client._open_telemetry)  # noqa: SLF001  # resolved
    if not option["traces"]["enabled"]:
        return _UNCHANGED
    if client not in _given:
        return _WITHOUT_NAME
    theirs = option.get("tracer_provider") or trace.get_tracer_provider()
    return None if theirs is (tracer_provider or trace.get_tracer_provider()) else _UNCHANGED
