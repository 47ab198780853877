"""`opentelemetry-instrument python agent.py`: `agentpulse.init()` with no code changed.

OpenTelemetry finds these two by their entry points. Where another distribution is installed too,
OTEL_PYTHON_DISTRO=agentpulse and OTEL_PYTHON_CONFIGURATOR=agentpulse pick ours; `agentpulse run`
sets them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from agentpulse_exporter import CostEnrichingExporter
from agentpulse_instrumentation import INSTRUMENTORS
from opentelemetry import trace
from opentelemetry.environment_variables import (
    OTEL_LOGS_EXPORTER,
    OTEL_METRICS_EXPORTER,
    OTEL_PYTHON_ID_GENERATOR,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.instrumentation.distro import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    BaseDistro,
)
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk._configuration import (  # made for distributions to build on
    _get_exporter_names,  # pyright: ignore[reportPrivateUsage]
    _import_exporters,  # pyright: ignore[reportPrivateUsage]
    _OTelSDKConfigurator,  # pyright: ignore[reportPrivateUsage]
)
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_PROTOCOL
from opentelemetry.sdk.trace import TracerProvider

from agentpulse._otel.exporters import BoundedBatchProcessor, lasting
from agentpulse._otel.provider import UrandomIds, naming, takes_processors
from agentpulse._output import warn_once
from agentpulse.client import get_client, init
from agentpulse.settings import DECLARED, Settings, obstacle, resolve

_OURS = "agentpulse"
_PREFIX = "agentpulse_"
"""Of the entry points of our instrumentors; the library's name follows."""
_BY_GRPC, _BY_HTTP = "otlp_proto_grpc", "otlp_proto_http"
_THREADS = "threading"
"""The instrumentation of threads, which AgentPulse does for sessions anyway."""


class AgentPulseDistro(BaseDistro):
    """Sends to AgentPulse by default, and has each library instrumented once."""

    def _configure(self, **_kwargs: Any) -> None:
        os.environ.setdefault(OTEL_TRACES_EXPORTER, _OURS)

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Instruments a library, unless it is one of ours, or `threading`, while AgentPulse is on.

        `init` has instrumented ours, or they are excluded; `_process.carry_context` does the work
        of the latter. Without AgentPulse and other exporters, ours would have nobody to record for.
        """
        name = str(entry_point.name)
        client = get_client()
        is_on = client is not None and client.is_on
        is_done = name.startswith(_PREFIX) and (is_on or not _other_exporters())
        if not is_done and not (name == _THREADS and is_on):
            super().load_instrumentor(entry_point, **kwargs)  # pyright: ignore[reportUnknownMemberType]


class AgentPulseConfigurator(_OTelSDKConfigurator):
    """Configures OpenTelemetry by its standard variables, and starts AgentPulse on top of it.

    Where OTEL_TRACES_EXPORTER names `agentpulse`, or nothing, AgentPulse itself is started, with
    sessions, heartbeats, crashes, and a bounded end of the process. Other exporters get the same
    spans as they would without us, with the cost of calls, and their end is bounded too.
    """

    def _configure(self, **kwargs: Any) -> None:
        exporters, others = listed(OTEL_TRACES_EXPORTER), _other_exporters()
        settings = resolve({})
        starts = not exporters or _OURS in exporters
        _choose_protocol()
        is_wanted = others or not starts or os.environ.get(DECLARED) or obstacle(settings) is None
        if is_wanted and not self._configures_others(others, settings, kwargs):
            # A mistake in the settings of these signals doesn't stop the traces.
            with _exporting(OTEL_METRICS_EXPORTER), _exporting(OTEL_LOGS_EXPORTER):
                self._configures_others(others, settings, kwargs)
        if starts:
            # The program's own first `init` is not a second one.
            init(**_arguments()).is_automatic = True

    def _configures_others(
        self, exporters: list[str], settings: Settings, kwargs: dict[str, Any]
    ) -> bool:
        """Configures providers, samplers and other exporters; whether that worked."""
        try:
            if os.environ.get(DECLARED):
                super()._configure()  # pyright: ignore[reportUnknownMemberType]
                return True
            kwargs.setdefault("resource_attributes", naming(settings.agent_name))
            if not os.environ.get(OTEL_PYTHON_ID_GENERATOR):
                kwargs.setdefault("id_generator", UrandomIds())
            with _exporting(OTEL_TRACES_EXPORTER):
                super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
            provider = trace.get_tracer_provider()
            if takes_processors(provider):
                _add_exporters(exporters, provider, settings)
        except Exception as error:  # noqa: BLE001  # a wrong variable doesn't stop AgentPulse
            warn_once(
                "OpenTelemetry could not be configured as its variables say: "
                f"{type(error).__name__}: {error}"
            )
            return False
        return True


def listed(variable: str) -> list[str]:
    """The names that a variable holds, between commas, each once."""
    names = map(str.strip, os.environ.get(variable, "").split(","))
    return list(dict.fromkeys(filter(None, names)))


def is_disabled(library: str) -> bool:
    """Whether a variable excludes a library of ours from opentelemetry-instrument."""
    named = listed(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS)
    return not {"*", library, f"{_PREFIX}{library}"}.isdisjoint(named)


def _other_exporters() -> list[str]:
    return [name for name in listed(OTEL_TRACES_EXPORTER) if name not in (_OURS, "none")]


def _arguments() -> dict[str, Any]:
    """The libraries to instrument, by OpenTelemetry's variables."""
    wanted = tuple(name for name in INSTRUMENTORS if not is_disabled(name))
    return {} if len(wanted) == len(INSTRUMENTORS) else {"instrument": wanted}


def _add_exporters(names: list[str], provider: TracerProvider, settings: Settings) -> None:
    """Adds these exporters, configured by their variables. A broken one costs itself alone."""
    for name in names:
        try:
            processor = _processor(name, settings)
        except Exception as error:  # noqa: BLE001  # whatever an exporter of others raises
            warn_once(
                f"Nothing is sent by the exporter {name!r} of {OTEL_TRACES_EXPORTER}: "
                f"{type(error).__name__}: {error}"
            )
        else:
            provider.add_span_processor(processor)
            lasting.add(processor)


def _processor(name: str, settings: Settings) -> BoundedBatchProcessor:
    with _exporting(OTEL_TRACES_EXPORTER, name):
        (entry_point,) = _get_exporter_names("traces")
    make = _import_exporters([entry_point], [], [])[0][entry_point]
    return BoundedBatchProcessor(
        lambda: CostEnrichingExporter(make(), prices=settings.prices, enabled=settings.enabled),
        f"the exporter {entry_point!r}",
        shutdown_timeout=settings.shutdown_timeout,
    )


def _choose_protocol() -> None:
    """Sets the protocol of `otlp`, of all signals, to HTTP where only that exporter is installed.

    OpenTelemetry's default is gRPC, whether or not that is installed.
    """
    installed = entry_points(group="opentelemetry_traces_exporter").names
    is_set = os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL)
    if not is_set and _BY_HTTP in installed and _BY_GRPC not in installed:
        os.environ[OTEL_EXPORTER_OTLP_PROTOCOL] = "http/protobuf"


@contextmanager
def _exporting(variable: str, name: str = "none") -> Generator[None]:
    """Sets a variable such as OTEL_TRACES_EXPORTER to one exporter, for a while."""
    before = os.environ.get(variable)
    os.environ[variable] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
