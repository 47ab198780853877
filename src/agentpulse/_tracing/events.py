"""Events that a program records by itself: events, metrics, alerts, heartbeats.

Each is a span without length, so that it travels, in order, in any pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from agentpulse import _tracing


def event(name: str, data: Mapping[str, Any] | None = None) -> None:
    """Something happened.

    Args:
        name: The event's name.
        data: The values that belong to it; they are written as JSON.
    """

    def fields() -> dict[str, Any]:
        # The event's name wins over a field of the same name, which is kept beside it. It comes
        # last, for of too many attributes the first are lost.
        named = {("name_" if key == "name" else key): each for key, each in _fields(data).items()}
        return {**named, "name": name}

    _record("event", name, fields)


def metric(name: str, value: float, tags: Mapping[str, Any] | None = None) -> None:
    """A figure, now; also recorded on an OpenTelemetry gauge of that name.

    Args:
        name: The name of the figure.
        value: The figure.
        tags: The dimensions that it was measured by.
    """
    figure = _figure(value)
    _record("metric", name, lambda: {"name": name, "value": figure, "tags": _fields(tags)})
    if _tracing.active is not None:
        _tracing.active.metric(name, figure, _fields(tags))


def alert(title: str, severity: str = "warning", details: object = None) -> None:
    """Something that people should look at.

    Args:
        title: The problem, in a line.
        severity: "info", "warning", "error" or "critical".
        details: Further values; they are written as JSON.
    """
    data = {"title": title, "message": title, "severity": severity, "details": details}
    _record("alert", title, lambda: data)


def heartbeat(data: Mapping[str, Any] | None = None) -> None:
    """A sign of life, beside the one that is sent every `heartbeat_interval`."""
    recorder = _tracing.active
    if recorder is not None:
        _record("heartbeat", "heartbeat", lambda: {**_fields(data), **recorder.vital_signs()})


def memory_report(file: str | os.PathLike[str], size_bytes: int, lines: int | None = None) -> None:
    """The size of a file that an agent keeps its memory in.

    Args:
        file: Its path.
        size_bytes: Its size.
        lines: How many lines it has.
    """
    data = {"size_bytes": size_bytes, "lines": lines}
    _record("memory_report", "memory_report", lambda: {"file": str(file), **data})


def set_metadata(**values: object) -> None:
    """Values that every span from here on carries: of the session around this, or outside any.

    Together with those that are set already they are 64 at most; further names are left out.
    """
    if _tracing.active is not None:
        _tracing.active.set_metadata(values)


def set_user(user: str) -> None:
    """The user for whom the session around this runs; outside any, the program's."""
    if _tracing.active is not None:
        _tracing.active.set_user(user)


def _figure(value: Any) -> Any:
    """A number, also of a `Decimal` or a scalar of a numerical library."""
    with suppress(TypeError, ValueError, OverflowError):
        return value if isinstance(value, (int, float)) else float(value)
    return value


def _fields(given: object) -> dict[str, Any]:
    """Named values; a value that is no mapping is kept under the name `value`."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): value for name, value in cast("Mapping[object, Any]", given).items()}
    return {"value": given}


def _record(kind: str, name: str, data: Callable[[], Mapping[str, object]]) -> None:
    if _tracing.active is not None:
        _tracing.active.instant(kind, name, data)
