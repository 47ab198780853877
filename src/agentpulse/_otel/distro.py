"""`opentelemetry-instrument python agent.py`: what `agentpulse.init()` does, with no code changed.

OpenTelemetry finds these two by their entry points. Where another distribution is installed too,
OTEL_PYTHON_DISTRO=agentpulse and OTEL_PYTHON_CONFIGURATOR=agentpulse pick ours; `agentpulse run`
sets them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
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
from agentpulse._otel.environment import DECLARED, obstacle, warn_once
from agentpulse._otel.exporters import (
    INSTRUMENTORS_BEGIN,
    add_exporters,
    choose_protocol,
    exported_by,
    is_disabled,
    listed,
)
from agentpulse._otel.provider import UrandomIds, naming, takes_processors
from agentpulse.settings import Settings, resolve

_OURS = "agentpulse"
_THREADS = "threading"
"""The instrumentation of threads, which AgentPulse does for sessions anyway."""


class AgentPulseDistro(BaseDistro):
    """Sends to AgentPulse where nothing else is said, and has each library instrumented once."""

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

    `agentpulse` among the OTEL_TRACES_EXPORTER is ours to do: with sessions, signs of life,
    crashes, and an end of the process that is bounded. Other exporters get the same spans as they
    would without us, with what calls of models cost, and their end is bounded too.
    """

    def _configure(self, **kwargs: Any) -> None:
        exporters, others = listed(OTEL_TRACES_EXPORTER), _other_exporters()
        settings = resolve({})
        starts = not exporters or _OURS in exporters
        choose_protocol()
        if others or not starts or os.environ.get(DECLARED) or obstacle(settings) is None:
            with ExitStack() as without:
                if not self._is_configured(others, settings, kwargs):
                    # What is wrong with these signals takes the traces not with it.
                    for variable in (OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER):
                        without.enter_context(exported_by(variable, []))
                    self._is_configured(others, settings, kwargs)
        if starts:
            # The program's own first `init` is not a second one.
            runtime.init(**_arguments()).is_automatic = True

    def _is_configured(
        self, exporters: list[str], settings: Settings, kwargs: dict[str, Any]
    ) -> bool:
        try:
            self._configure_others(exporters, settings, kwargs)
        except Exception as error:  # noqa: BLE001  # a wrong variable takes AgentPulse not with it
            warn_once(
                "OpenTelemetry could not be configured as its variables say: "
                f"{type(error).__name__}: {error}"
            )
            return False
        return True

    def _configure_others(
        self, exporters: list[str], settings: Settings, kwargs: dict[str, Any]
    ) -> None:
        """All but AgentPulse: providers, samplers, and the exporters that these are."""
        if os.environ.get(DECLARED):
            super()._configure()  # pyright: ignore[reportUnknownMemberType]
            return
        kwargs.setdefault("resource_attributes", naming(settings.agent_name))
        if not os.environ.get(OTEL_PYTHON_ID_GENERATOR):
            kwargs.setdefault("id_generator", UrandomIds())
        with exported_by(OTEL_TRACES_EXPORTER, []):
            super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        provider = trace.get_tracer_provider()
        if takes_processors(provider):
            add_exporters(exporters, provider, settings)


def _other_exporters() -> list[str]:
    return [name for name in listed(OTEL_TRACES_EXPORTER) if name not in (_OURS, "none")]


def _arguments() -> dict[str, Any]:
    """What OpenTelemetry's variables say of the libraries to instrument."""
    wanted = tuple(name for name in INSTRUMENTORS if not is_disabled(name))
    return {} if len(wanted) == len(INSTRUMENTORS) else {"instrument": wanted}
