"""The `sdk_init` event: where this program runs, with which versions, and what it joined."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from agentpulse_exporter import names
from agentpulse_exporter.limits import MAX_LABEL, clean
from agentpulse_instrumentation import INSTRUMENTORS
from opentelemetry.sdk.trace import ReadableSpan

from agentpulse.instants import instant
from agentpulse.joined import Joined
from agentpulse.version import VERSION


def installed_version(distribution: str) -> str | None:
    """The version that is installed, without importing it; None where none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def sdk_init(joined: Joined | None, heartbeat_interval: float) -> ReadableSpan:
    """The event that `init` sends; `joined`, what it joined, where that is known."""
    kinds = INSTRUMENTORS.values()
    instrumented = [library.package for kind in kinds for library in kind.libraries()]
    versions = ((name, installed_version(name)) for name in instrumented)
    libraries = tuple(f"{name} {found}" for name, found in versions if found is not None)
    told: dict[str, object] = {
        "python": platform.python_version(),
        "os": platform.system(),
        "architecture": platform.machine(),
        "sdk_version": VERSION,
        "libraries": libraries,
        "program": _program(),
        # So that a receiver knows from when on silence means that this process was killed.
        "heartbeat_interval": heartbeat_interval,
    }
    if joined is not None:
        told["tracer_provider"] = joined.provider
        told["span_processors"] = joined.processors
        if joined.sampling is not None:
            told["sampling"] = joined.sampling
    return instant(
        "sdk_init", "sdk_init", {names.DATA_PREFIX + field: value for field, value in told.items()}
    )


def _program() -> str:
    """The base name of what Python was started with; `-c` and the empty name as they are."""
    # Where Python is embedded, there may be no arguments, and programs change them as they like.
    arguments: object = getattr(sys, "argv", None)
    given = cast("list[object]", arguments) if isinstance(arguments, list) else []
    first = given[0] if given else ""
    return clean(Path(first).name, MAX_LABEL) if isinstance(first, str) else ""
