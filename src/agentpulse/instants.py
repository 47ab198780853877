"""Spans without length that are made outside any provider, and become one event each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agentpulse_exporter import names
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from agentpulse.provider import UrandomIds
from agentpulse.version import VERSION


def instant(kind: str, name: str, attributes: Mapping[str, Any]) -> ReadableSpan:
    """A span that becomes an event of this kind. No sampler drops it, no other exporter sees it."""
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
        attributes={names.SPAN_KIND: kind, **attributes},
        start_time=now,
        end_time=now,
        instrumentation_scope=InstrumentationScope("agentpulse", VERSION),
    )
