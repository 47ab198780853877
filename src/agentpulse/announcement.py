"""The `sdk_init` event: where this program runs, and with which versions of what."""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version

from agentpulse_exporter import names
from agentpulse_instrumentation import INSTRUMENTORS
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from packaging.requirements import Requirement

from agentpulse.provider import UrandomIds
from agentpulse.version import VERSION


def installed_version(distribution: str) -> str | None:
    """The version that is installed, without importing it; None where none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def instant(kind: str, name: str, data: dict[str, str | tuple[str, ...]]) -> ReadableSpan:
    """A span without length that becomes an event of this kind.

    It is made outside any provider, so that no sampler drops it and no other exporter sees it.
    """
    now = time.time_ns()
    ids = UrandomIds()
    return ReadableSpan(
        name=name,
        context=SpanContext(
            ids.generate_trace_id(),
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        ),
        resource=Resource.get_empty(),
        attributes={
            names.SPAN_KIND: kind,
            **{names.DATA_PREFIX + field: value for field, value in data.items()},
        },
        start_time=now,
        end_time=now,
        instrumentation_scope=InstrumentationScope("agentpulse", VERSION),
    )


def sdk_init() -> ReadableSpan:
    """The event that `init` sends."""
    instrumented = [Requirement(kind.supported).name for kind in INSTRUMENTORS.values()]
    versions = ((name, installed_version(name)) for name in instrumented)
    libraries = tuple(f"{name} {found}" for name, found in versions if found is not None)
    return instant(
        "sdk_init",
        "sdk_init",
        {
            "python": platform.python_version(),
            "os": platform.system(),
            "architecture": platform.machine(),
            "sdk_version": VERSION,
            "libraries": libraries,
        },
    )
