"""What a program tells of itself: events, metrics, alerts, signs of life.

Each is a span without length, so that it travels, in order, in any pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, cast

from agentpulse._tracing import active


def event(name: str, data: Mapping[str, Any] | None = None) -> None:
    """Something happened.

    Args:
        name: What.
        data: Whatever belongs to it, as JSON can tell it.
    """
    # The event's name wins over a field of the same name, which is kept beside it. It comes last,
    # for of too many attributes the first are lost.
    _tell(
        "event",
        name,
        lambda: {
            **{("name_" if key == "name" else key): each for key, each in _fields(data).items()},
            "name": name,
        },
    )


def metric(name: str, value: float, tags: Mapping[str, Any] | None = None) -> None:
    """A figure, now; also recorded on an OpenTelemetry gauge of that name.

    Args:
        name: What was measured.
        value: The figure.
        tags: What it was measured of.
    """
    figure = _figure(value)
    _tell("metric", name, lambda: {"name": name, "value": figure, "tags": _fields(tags)})
    if active.recorder is not None:
        from agentpulse._tracing.recorder import (
            record,  # OpenTelemetry is loaded where a recorder runs
        )

        record(name, figure, _fields(tags))


def alert(title: str, severity: str = "warning", details: object = None) -> None:
    """Something that people should know of.

    Args:
        title: What is wrong, in a line.
        severity: "info", "warning", "error" or "critical".
        details: Whatever helps, as JSON can tell it.
    """
    told = {"title": title, "message": title, "severity": severity, "details": details}
    _tell("alert", title, lambda: told)


def heartbeat(data: Mapping[str, Any] | None = None) -> None:
    """A sign of life, beside the one that is sent every `heartbeat_interval`."""
    recorder = active.recorder
    if recorder is not None:
        _tell("heartbeat", "heartbeat", lambda: {**_fields(data), **recorder.vital_signs()})


def memory_report(file: str | os.PathLike[str], size_bytes: int, lines: int | None = None) -> None:
    """The size of a file that an agent keeps its memory in.

    Args:
        file: Its path.
        size_bytes: Its size.
        lines: How many lines it has.
    """
    _tell(
        "memory_report",
        "memory_report",
        lambda: {
            "file": os.fsdecode(file) if isinstance(file, (bytes, os.PathLike)) else str(file),
            "size_bytes": size_bytes,
            "lines": lines,
        },
    )


def set_metadata(**values: object) -> None:
    """Values that every span from here on carries: of the session around this, or outside any.

    Together with those that are set already they are 64 at most; further names are left out.
    """
    if active.recorder is not None:
        active.recorder.set_metadata(values)


def set_user(user: str) -> None:
    """For whom the session around this runs; outside any, for whom the program runs."""
    if active.recorder is not None:
        active.recorder.set_user(user)


def _figure(value: Any) -> Any:
    """The number that a `Decimal`, or a scalar of a numerical library, is."""
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _fields(given: object) -> dict[str, Any]:
    """Named values; what has no names is the only one, for nothing that is told gets lost."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): value for name, value in cast("Mapping[object, Any]", given).items()}
    return {"value": given}


def _tell(kind: str, name: str, data: Callable[[], Mapping[str, object]]) -> None:
    if active.recorder is not None:
        active.recorder.instant(kind, name, data)
