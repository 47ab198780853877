"""The exporters that OTEL_TRACES_EXPORTER names beside ours, which send spans with their cost.

Where one is missing, or can't be made, AgentPulse and the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points

from agentpulse_exporter import CostEnrichingExporter
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk._configuration import (  # made for distributions to build on
    _get_exporter_names,  # pyright: ignore[reportPrivateUsage]
    _import_exporters,  # pyright: ignore[reportPrivateUsage]
)
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_PROTOCOL
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from agentpulse._otel.bounded import BoundedBatchProcessor
from agentpulse._otel.otlp import lasting
from agentpulse._output import warn_once
from agentpulse.settings import Settings

INSTRUMENTORS_BEGIN = "agentpulse_"
"""The prefix of the entry points of our instrumentors; the library's name follows."""


def listed(variable: str) -> list[str]:
    """The names that a variable holds, between commas."""
    names = os.environ.get(variable, "").split(",")
    return [name.strip() for name in names if name.strip()]


def is_disabled(library: str) -> bool:
    """Whether a variable excludes a library of ours from opentelemetry-instrument."""
    named = listed(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS)
    return not {"*", library, f"{INSTRUMENTORS_BEGIN}{library}"}.isdisjoint(named)


_GROUP = "opentelemetry_traces_exporter"
_BY_GRPC, _BY_HTTP = "otlp_proto_grpc", "otlp_proto_http"


def add_exporters(names: Iterable[str], provider: TracerProvider, settings: Settings) -> None:
    """Adds these exporters to the provider, configured by OpenTelemetry's variables."""
    for name in names:
        try:
            processors = [*_processors(name, settings)]
        except Exception as error:  # noqa: BLE001  # whatever an exporter of others raises
            warn_once(
                f"Nothing is sent by the exporter {name!r} of {OTEL_TRACES_EXPORTER}: "
                f"{type(error).__name__}: {error}"
            )
            continue
        for processor in processors:
            provider.add_span_processor(processor)
            lasting.add(processor)


def _processors(name: str, settings: Settings) -> Iterator[BoundedBatchProcessor]:
    for entry_point, make in _import_exporters(_entry_points(name), [], [])[0].items():
        yield BoundedBatchProcessor(
            partial(_enriching, make, settings),
            f"the exporter {entry_point!r}",
            shutdown_timeout=settings.shutdown_timeout,
        )


def _enriching(make: Callable[[], SpanExporter], settings: Settings) -> SpanExporter:
    return CostEnrichingExporter(make(), prices=settings.prices, enabled=settings.enabled)


def _entry_points(name: str) -> list[str]:
    with exported_by(OTEL_TRACES_EXPORTER, [name]):
        return _get_exporter_names("traces")


def choose_protocol() -> None:
    """Sets the protocol of `otlp`, of all signals, to HTTP where only that exporter is installed.

    OpenTelemetry's default is gRPC, whether or not that is installed.
    """
    installed = entry_points(group=_GROUP).names
    is_set = os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL)
    if not is_set and _BY_HTTP in installed and _BY_GRPC not in installed:
        os.environ[OTEL_EXPORTER_OTLP_PROTOCOL] = "http/protobuf"


@contextmanager
def exported_by(variable: str, names: list[str]) -> Generator[None]:
    """Sets a variable such as OTEL_TRACES_EXPORTER to these exporters, for a while."""
    before = os.environ.get(variable)
    os.environ[variable] = ",".join(names) or "none"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
