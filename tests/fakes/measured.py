"""Metrics, as a meter provider of the program's own has them."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader


class Measured:
    """The metrics as they are now."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def metrics(self) -> list[Any]:
        """As the SDK has them."""
        data: Any = self.reader.get_metrics_data()
        return [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def __call__(self) -> dict[str, Any]:
        """By name: unit, and each of its points."""
        reported: dict[str, Any] = {}
        for metric in self.metrics():
            reported.setdefault(metric.name, [metric.unit]).extend(metric.data.data_points)
        return reported
