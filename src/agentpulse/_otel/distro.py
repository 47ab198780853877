"""`opentelemetry-instrument python agent.py`: `agentpulse.init()` with no code changed.

OpenTelemetry finds these two by their entry points. Where another distribution is installed too,
OTEL_PYTHON_DISTRO=agentpulse and OTEL_PYTHON_CONFIGURATOR=agentpulse pick ours; `agentpulse run`
sets them.
"""

from __future__ import annotations

import os
from typing import Any

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
from opentelemetry.sdk._configuration import (
    _OTelSDKConfigurator,  # pyright: ignore[reportPrivateUsage]  # made for distributions to build on
)

from agentpulse import runtime
from agentpulse._otel.environment import DECLARED, obstacle
from agentpulse._otel.exporters import (
    INSTRUMENTORS_BEGIN,
    add_exporters,
    choose_protocol,
    exported_by,
    is_disabled,
    listed,
)
from agentpulse._otel.provider import UrandomIds, naming, takes_processors
from agentpulse._output import warn_once
from agentpulse.settings import Settings, resolve

_OURS = "agentpulse"
_THREADS = "threading"
"""The instrumentation of threads, which AgentPulse does for sessions anyway."""


class AgentPulseDistro(BaseDistro):
    """Sends to AgentPulse by default, and has each library instrumented once."""

    def _configure(self, **_kwargs: Any) -> None:
        os.environ.setdefault(OTEL_TRACES_EXPORTER, _OURS)

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Instruments a library, unless it is one that AgentPulse has instrumented, or won't."""
        name = str(entry_point.name)
        client = runtime.get_client()
        is_on = client is not None and client.is_on
        if name.startswith(INSTRUMENTORS_BEGIN) and (is_on or not _other_exporters()):
            return
        if name == _THREADS and is_on:
            return
        super().load_instrumentor(entry_point, **kwargs)  # pyright: ignore[reportUnknownMemberType]


class AgentPulseConfigurator(_OTelSDKConfigurator):
    """Configures OpenTelemetry by its standard variables, and starts AgentPulse on top of it.

    For `agentpulse` among the OTEL_TRACES_EXPORTER AgentPulse itself is started, with sessions,
    heartbeats, crashes, and a bounded end of the process. Other exporters get the same spans as
    they would without us, with the cost of calls, and their end is bounded too.
    """

    def _configure(self, **kwargs: Any) -> None:
        exporters, others = listed(OTEL_TRACES_EXPORTER), _other_exporters()
        settings = resolve({})
        starts = not exporters or _OURS in exporters
        choose_protocol()
        is_wanted = others or not starts or os.environ.get(DECLARED) or obstacle(settings) is None
        if is_wanted and not self._configures_others(others, settings, kwargs):
            # A mistake in the settings of these signals doesn't stop the traces.
            with exported_by(OTEL_METRICS_EXPORTER, []), exported_by(OTEL_LOGS_EXPORTER, []):
                self._configures_others(others, settings, kwargs)
        if starts:
            # The program's own first `init` is not a second one.
            runtime.init(**_arguments()).is_automatic = True

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
            with exported_by(OTEL_TRACES_EXPORTER, []):
                super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
            provider = trace.get_tracer_provider()
            if takes_processors(provider):
                add_exporters(exporters, provider, settings)
        except Exception as error:  # noqa: BLE001  # a wrong variable doesn't stop AgentPulse
            warn_once(
                "OpenTelemetry could not be configured as its variables say: "
                f"{type(error).__name__}: {error}"
            )
            return False
        return True


def _other_exporters() -> list[str]:
    return [name for name in listed(OTEL_TRACES_EXPORTER) if name not in (_OURS, "none")]


def _arguments() -> dict[str, Any]:
    """The libraries to instrument, by OpenTelemetry's variables."""
    wanted = tuple(name for name in INSTRUMENTORS if not is_disabled(name))
    return {} if len(wanted) == len(INSTRUMENTORS) else {"instrument": wanted}
