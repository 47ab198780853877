"""The `sdk_init` event: where this program runs, and with which versions of what."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from agentpulse_exporter import names
from agentpulse_instrumentation import INSTRUMENTORS
from opentelemetry.sdk.trace import ReadableSpan
from packaging.requirements import Requirement

from agentpulse.instants import instant
from agentpulse.version import VERSION


def installed_version(distribution: str) -> str | None:
    """The version that is installed, without importing it; None where none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def sdk_init() -> ReadableSpan:
    """The event that `init` sends."""
    instrumented = [Requirement(kind.supported).name for kind in INSTRUMENTORS.values()]
    versions = ((name, installed_version(name)) for name in instrumented)
    libraries = tuple(f"{name} {found}" for name, found in versions if found is not None)
    told = {
        "python": platform.python_version(),
        "os": platform.system(),
        "architecture": platform.machine(),
        "sdk_version": VERSION,
        "libraries": libraries,
    }
    return instant(
        "sdk_init", "sdk_init", {names.DATA_PREFIX + field: value for field, value in told.items()}
    )
