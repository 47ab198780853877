"""The log events of the conventions: what an inference was, and the exception that ended a call.

They go to the logger provider given, or to the global one if there is one, also one set later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from opentelemetry._logs import (
    Logger,
    LoggerProvider,
    LogRecord,
    SeverityNumber,
    get_logger_provider,
)
from opentelemetry.context import Context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation._version import VERSION

_FIND = shield("find a logger")
_OWN_RECORDS = ("1.36.", "1.37.")
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"


class EventLogger:
    """Emits events on a logger."""

    __slots__ = ("_is_enabled", "_logger", "_make_record")

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._make_record = _record_type(logger)
        # OpenTelemetry has this question since 1.45.
        self._is_enabled: Callable[..., bool] | None = getattr(logger, "enabled", None)

    @property
    def is_enabled(self) -> bool:
        """Whether anybody takes the events now."""
        enabled = self._is_enabled
        return enabled is None or enabled(severity_number=SeverityNumber.DEBUG, event_name=DETAILS)

    def emit_details(self, context: Context, attributes: Mapping[str, Any], timestamp: int) -> None:
        """Describes an inference that ended at `timestamp`, in nanoseconds since 1970."""
        self._emit(DETAILS, SeverityNumber.DEBUG, context, attributes, timestamp)

    def emit_exception(
        self, context: Context, attributes: Mapping[str, Any], timestamp: int
    ) -> None:
        """Records the exception that ended a call."""
        self._emit(EXCEPTION, SeverityNumber.WARN, context, attributes, timestamp)

    def _emit(
        self,
        name: str,
        severity: SeverityNumber,
        context: Context,
        attributes: Mapping[str, Any],
        timestamp: int,
    ) -> None:
        record = self._make_record(
            event_name=name,
            severity_number=severity,
            severity_text=severity.name,
            context=context,
            attributes=attributes,
            timestamp=timestamp,
        )
        self._logger.emit(record)


class Events:
    """Finds where the events of one scope go."""

    def __init__(self, scope: str, provider: LoggerProvider | None) -> None:
        """`scope` is the instrumentation's name."""
        self._scope = scope
        self._provider = provider
        self._found: tuple[LoggerProvider | None, EventLogger | None] = None, None

    def logger(self) -> EventLogger | None:
        """Where the events of a call that begins now go; None where nobody takes them.

        Never raises: a provider that fails costs the events, and not the span.
        """
        with _FIND:
            provider = self._provider or get_logger_provider()
            known, logger = self._found
            if provider is not known:
                logger = self._logger_of(provider)
                self._found = provider, logger
            if logger is not None and logger.is_enabled:
                return logger
        return None

    def _logger_of(self, provider: LoggerProvider) -> EventLogger | None:
        # Where none was set, the API hands out a stand-in, whose class has no public name.
        if type(provider).__name__ == "ProxyLoggerProvider":
            return None
        return EventLogger(provider.get_logger(self._scope, VERSION, schema_url=semconv.SCHEMA_URL))


def _record_type(logger: Logger) -> Callable[..., LogRecord]:
    module = type(logger).__module__
    is_sdk = module.startswith("opentelemetry.sdk.")
    # By its own module: in a packaged program its metadata may be missing.
    if is_sdk and import_module("opentelemetry.sdk.version").__version__.startswith(_OWN_RECORDS):
        # The SDK of 1.36 takes only records of its own class, which hold the resource; that of 1.37
        # makes such a record of any other, and warns of how it does that.
        resource = getattr(logger, "resource", None)
        return partial(sys.modules[module].LogRecord, resource=resource)
    return LogRecord
