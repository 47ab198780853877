"""The settings: one table of rows, resolved from arguments, then the environment, then defaults.

A wrong argument raises, for it is a mistake in the program. A wrong variable is a mistake where the
program runs, which must not stop it: it is a sentence in `Settings.problems`, and nothing is sent.
`agentpulse-sdk` adds its own rows. Nothing of OpenTelemetry is loaded here.
"""

# No `from __future__ import annotations` here: the rows are read from the annotations.

import inspect
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from agentpulse_exporter._delivery.endpoint import Endpoint, proxy_for
from agentpulse_exporter._delivery.kinds import (
    ADDRESS,
    BATCH_SIZE,
    KEY,
    NAME,
    PRICES,
    REDACTION,
    SWITCH,
    ApiKey,
    ConfigurationError,
    ConfigurationTypeError,
    Kind,
)

__all__ = [
    "ROWS",
    "ApiKey",
    "ConfigurationError",
    "ConfigurationTypeError",
    "Row",
    "Settings",
    "documentation_rows",
    "resolve",
    "verify",
]

_logger = logging.getLogger("agentpulse.exporter")

ARGUMENT, DEFAULT = "argument", "default"
"""The sources of a value that was passed, and of one that nobody gave."""
DISABLED_VARIABLE = "OTEL_SDK_DISABLED"


@dataclass(frozen=True, slots=True)
class Row:
    """A setting, beside its name, type and default."""

    environment: str | None
    kind: Kind
    sentence: str
    default_in_words: str | None = None
    """Where the default itself isn't clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values in use, and where each came from. The API key shows no more than its end.

    So a copy, `dataclasses.asdict` and `repr` don't show it; pickling raises TypeError.
    """

    api_key: Annotated[
        ApiKey | None,
        Row(
            "AGENTPULSE_API_KEY",
            KEY,
            "The `ap_…` key of your account. Without one nothing is sent and nothing is patched; "
            "an endpoint on this machine needs none, and the key of a local server of yours is "
            "found by itself.",
        ),
    ] = None
    agent_name: Annotated[
        str,
        Row(
            "AGENTPULSE_AGENT",
            NAME,
            "The name under which this program's events appear.",
            "host name",
        ),
    ] = field(default_factory=socket.gethostname)
    endpoint: Annotated[
        str,
        Row(
            "AGENTPULSE_ENDPOINT",
            ADDRESS,
            "Where events are sent; plain `http` only to this machine, unless `allow_insecure`.",
        ),
    ] = "https://api.agentpulse.dev"
    enabled: Annotated[
        bool,
        Row(
            "AGENTPULSE_ENABLED",
            SWITCH,
            "`false` is the kill switch: nothing is patched, no thread runs, every function does "
            "nothing; so it is with the exporter and `instrument()` in your own pipeline.",
        ),
    ] = True
    capture_messages: Annotated[
        bool,
        Row(
            "AGENTPULSE_CAPTURE_MESSAGES",
            SWITCH,
            "Whether prompts, answers and exception texts that spans carry are sent.",
        ),
    ] = False
    redact: Annotated[
        Callable[[str], str] | None,
        Row(
            None,
            REDACTION,
            "A function that is given each captured text and returns what is sent instead of it; "
            "where it fails, the event is dropped, and counted.",
        ),
    ] = None
    prices: Annotated[
        Mapping[str, object] | Path | None,
        Row(
            "AGENTPULSE_PRICES",
            PRICES,
            "Your own prices by model, a mapping or the path of a JSON file; "
            "they win over the built-in ones.",
        ),
    ] = None
    max_batch_size: Annotated[
        int,
        Row(
            "AGENTPULSE_MAX_BATCH_SIZE",
            BATCH_SIZE,
            "Events in one request; the free plan accepts 100, the pro plan 500.",
        ),
    ] = 100
    export_all_spans: Annotated[
        bool,
        Row(
            "AGENTPULSE_EXPORT_ALL_SPANS",
            SWITCH,
            "Whether spans that have nothing to do with agents or LLM calls are sent too.",
        ),
    ] = False
    allow_insecure: Annotated[
        bool,
        Row(
            "AGENTPULSE_ALLOW_INSECURE",
            SWITCH,
            "Allows plain `http` to another machine: key and events can then be read on the way.",
        ),
    ] = False
    sources: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """By setting: "argument", the name of a variable, or "default"."""
    problems: tuple[str, ...] = ()
    """The mistakes in the environment, a sentence each; those settings have defaults."""

    @property
    def address(self) -> Endpoint:
        """The endpoint in its parts."""
        return Endpoint.of(self.endpoint)

    @property
    def may_send(self) -> bool:
        """Whether there is a receiver: without a key, only this machine gets anything."""
        return self.api_key is not None or self.address.is_loopback

    def shown(self, name: str) -> str:
        """A setting as it may be printed: of the API key, the last four characters at most."""
        value = getattr(self, name)
        return "none" if value is None else rows_of(type(self))[name].kind.show(value)


_Settings = TypeVar("_Settings", bound=Settings)


def rows_of(table: type[Settings]) -> dict[str, Row]:
    """The rows by the names of the settings, those of the base class first."""
    return {
        name: annotation.__metadata__[0]
        for part in reversed(table.__mro__)
        for name, annotation in inspect.get_annotations(part).items()
        if hasattr(annotation, "__metadata__")
    }


ROWS: Mapping[str, Row] = rows_of(Settings)


def documentation_rows(table: type[Settings] = Settings) -> list[tuple[str, str, str, str]]:
    """Argument, environment variable, default and sentence of each setting, for people."""
    fields = cast("Mapping[str, Any]", table.__dataclass_fields__)
    return [
        (name, row.environment or "none", _in_words(row, fields[name].default), row.sentence)
        for name, row in rows_of(table).items()
    ]


def _in_words(row: Row, default: object) -> str:
    if row.default_in_words or default is None:
        return row.default_in_words or "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def resolve(
    arguments: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    table: type[_Settings] = Settings,
) -> _Settings:
    """The settings for these arguments (None counts as not given) and this environment.

    Raises:
        ConfigurationError: An argument has a wrong value, or (ConfigurationTypeError) a wrong type.
    """
    rows = rows_of(table)
    values = verify(arguments, rows)
    sources = {name: ARGUMENT if name in values else DEFAULT for name in rows}
    # `environ` is None for the process's own: no frame of an error may hold what shows the key.
    problems = _read_environment(rows, values, sources, environ)
    settings = table(**cast("dict[str, Any]", values), sources=sources)
    problems += _transport_problems(settings)
    return replace(settings, problems=tuple(problems))


def verify(arguments: Mapping[str, object], rows: Mapping[str, Row] = ROWS) -> dict[str, object]:
    """The arguments that are given (not None), each as the setting it becomes.

    Raises:
        ConfigurationError: As for `resolve`.
    """
    return {
        name: verify_one(name, value, rows[name].kind)
        for name, value in arguments.items()
        if value is not None
    }


def verify_one(name: str, value: object, kind: Kind) -> Any:
    """The value that an argument of this kind becomes.

    Raises:
        ConfigurationError: As for `resolve`.
    """
    origin = f"The argument {name}"
    try:
        return kind.check(value)
    except TypeError:
        complaint = f"{origin} is of type {type(value).__name__}; expected {kind.expected}."
        raise ConfigurationTypeError(complaint) from None
    except ValueError as error:
        raise ConfigurationError(_complaint(kind, origin, value, error)) from None


def is_enabled(argument: bool | None = None, *others: str) -> bool:
    """Whether AgentPulse may do anything: by this argument, else by AGENTPULSE_ENABLED, else yes.

    OTEL_SDK_DISABLED, OpenTelemetry's own kill switch, always counts. A variable that can't be
    read, this one or that of the `others`, is logged once, and counts as no.

    Raises:
        ConfigurationError: The argument can't be used.
    """
    rows = {name: ROWS[name] for name in ("enabled", *others)}
    values = verify({"enabled": argument}, rows)
    problems = _read_environment(rows, values, {}, None)
    is_on = values.get("enabled", True) is True
    if is_on:
        log_problems(problems)
    return is_on and not problems


def log_problems(problems: Sequence[str]) -> None:
    """Logs why an exporter is off, the same once a process."""
    text = " ".join(problems)
    if text and text not in _logged:
        _logged.add(text)
        _logger.warning("The exporter is off until this is corrected: %s", text)


_logged: set[str] = set()


def _read_environment(
    rows: Mapping[str, Row],
    values: dict[str, object],
    sources: dict[str, str],
    environ: Mapping[str, str] | None,
) -> list[str]:
    """Adds the values of variables for settings without an argument; returns the problems."""
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    for name, row in rows.items():
        text = environ.get(row.environment, "").strip() if row.environment else ""
        if not text or row.environment is None or name in values:
            continue
        try:
            values[name] = row.kind.check(row.kind.read(text))
            sources[name] = row.environment
        except ValueError as error:
            problems.append(_complaint(row.kind, row.environment, text, error))
    if environ.get(DISABLED_VARIABLE, "").strip().lower() == "true":
        values["enabled"], sources["enabled"] = False, DISABLED_VARIABLE
    return problems


def _complaint(kind: Kind, origin: str, value: object, error: ValueError) -> str:
    if isinstance(error, ConfigurationError):
        return f"{origin} can't be used: {error}"
    if kind is KEY:
        # A text that was given for a key may be another secret, so none of it is shown.
        return f"{origin} can't be used; expected {kind.expected}."
    return f"{origin} is {kind.show(value)}; expected {kind.expected}."


def _transport_problems(settings: Settings) -> list[str]:
    endpoint, source = settings.address, settings.sources["endpoint"]
    problems: list[str] = []
    if endpoint.scheme == "http" and not (endpoint.is_loopback or settings.allow_insecure):
        origin = "The argument endpoint" if source == ARGUMENT else source
        problems.append(
            f"{origin} is {settings.shown('endpoint')}, where key and events would travel "
            "unencrypted; expected https, or allow_insecure=True "
            "(AGENTPULSE_ALLOW_INSECURE=true) if that is meant."
        )
        if source == ARGUMENT:
            raise ConfigurationError(problems[0])
    try:
        proxy_for(endpoint)
    except ValueError as error:
        problems.append(str(error))
    return problems
