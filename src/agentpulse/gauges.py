"""`agentpulse.metric` as an OpenTelemetry gauge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agentpulse_instrumentation.shield import shield
from opentelemetry import metrics
from opentelemetry.metrics import Meter
from opentelemetry.util.types import Attributes

from agentpulse.values import attribute
from agentpulse.version import VERSION

_RECORD = shield("record a metric")
_MOST_GAUGES = 1_000


def record(name: str, value: float, tags: Mapping[str, Any]) -> None:
    """Sets the gauge of that name, in the program's meter provider where there is one."""
    with _RECORD:
        meter = metrics.get_meter("agentpulse", VERSION)
        attributes: Attributes = {key: attribute(tag) for key, tag in tags.items()}
        _gauge(meter, name).set(value, attributes)


@lru_cache(_MOST_GAUGES)
def _gauge(meter: Meter, name: str) -> Any:
    return meter.create_gauge(name)
