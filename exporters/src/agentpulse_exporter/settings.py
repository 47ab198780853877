"""The settings: one table, resolved from arguments, then the environment, then defaults.

A wrong argument is a mistake in the program, so it raises. A wrong variable is a mistake of the
environment and must not stop the program: it is described in `Settings.problems`, and nothing is
sent.
`agentpulse-sdk` adds settings of its own. Nothing of OpenTelemetry is loaded here.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from agentpulse_exporter._delivery.endpoint import ApiKey, Endpoint, proxy_for

__all__ = [
    "ROWS",
    "ApiKey",
    "ConfigurationError",
    "ConfigurationTypeError",
    "Kind",
    "Row",
    "Settings",
    "resolve",
    "verify",
]

_logger = logging.getLogger("agentpulse.exporter")

ARGUMENT, DEFAULT = "argument", "default"
"""The source of a passed value, and the source of a default."""
DISABLED_VARIABLE = "OTEL_SDK_DISABLED"


class ConfigurationError(ValueError):
    """A setting can't be used; the message names it, its origin and the expected value."""


class ConfigurationTypeError(ConfigurationError, TypeError):
    """An argument has a type that the setting can't have."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: how it is read from text, checked and shown.

    A check raises TypeError for a wrong type and ValueError for a wrong value. If `expected`
    doesn't explain the mistake, it raises ConfigurationError with a text.
    """

    expected: str
    """Completes the sentence "expected …"."""
    types: Any
    """The types of an argument, as `isinstance` takes them."""
    check: Callable[[Any], object] = lambda value: value
    """Returns the value that an argument becomes."""
    read: Callable[[str], object] = str
    show: Callable[[object], str] = repr
    """The value as it may be printed, secrets masked."""


def _read_switch(text: str) -> bool:
    word = text.lower()
    if word not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        raise ValueError
    return word in ("true", "1", "yes", "on")


def _text(value: str) -> str:
    stripped = value.strip()
    if not stripped or not stripped.isprintable():
        raise ValueError
    return stripped


def _name(value: str) -> str:
    from agentpulse_exporter._values import MAX_LABEL, clean  # only if a name is given

    return _text(clean(value, MAX_LABEL))


def _key(value: str | ApiKey) -> ApiKey:
    key = ApiKey.of(value)
    if not key.is_valid:
        raise ValueError
    return key


def _address(value: str) -> str:
    text = _text(value).rstrip("/")
    scheme = Endpoint.of(text).scheme
    return scheme + text[len(scheme) :]  # the scheme in small letters


def _address_without_secrets(value: object) -> str:
    # An unusable value is shown too, so it may not be an address at all.
    without_user = re.sub(r"^(\w+://)?.*@", r"\1…@", str(value), flags=re.DOTALL)
    return repr(re.sub(r"([?#]).+", r"\1…", without_user, flags=re.DOTALL))


def _between(lowest: float, highest: float, become: Callable[[Any], float]) -> Callable[..., float]:
    def check(value: float) -> float:
        if not lowest <= value <= highest:
            raise ValueError
        return become(value)

    return check


def seconds(lowest: float, *, example: str) -> Kind:
    """Seconds, a day at most."""
    expected = f"seconds as a number from {lowest:g} to 86400, for example {example}"
    return Kind(expected, int | float, _between(lowest, 86_400, float), float)


def count(lowest: int, highest: int) -> Kind:
    """A whole number between two others."""
    expected = f"a whole number from {lowest} to {highest}"
    return Kind(expected, int, _between(lowest, highest, int), int)


def _prices(value: Mapping[str, object] | str | os.PathLike[str]) -> Mapping[str, object] | Path:
    # Imported only here, so that it isn't loaded for users without prices of their own.
    from agentpulse_exporter._pricing import PriceOverrides

    prices = value if isinstance(value, Mapping) else Path(value).expanduser()
    if prices == Path():
        raise ValueError
    try:
        PriceOverrides.load(prices)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return prices


SWITCH = Kind("true or false", bool, read=_read_switch)
ADDRESS = Kind(
    "an address with a host and no user, query or fragment, for example https://api.agentpulse.dev",
    str,
    _address,
    show=_address_without_secrets,
)
FLUSH_INTERVAL = seconds(0.01, example="5")
SHUTDOWN_TIMEOUT = seconds(0, example="5")
QUEUE_SIZE = count(1, 1_000_000)
BATCH_SIZE = count(1, 500)
_NAME = Kind("a name that isn't empty", str, _name)
_KEY = Kind(
    "a key of your AgentPulse account; it begins with ap_ and has no blanks in it",
    str | ApiKey,
    _key,
)
_PRICES = Kind(
    "a mapping from model to prices, or the path of a JSON file with one",
    Mapping | str | os.PathLike,
    _prices,
    show=str,
)
_REDACTION = Kind("a function that is given a text and returns a text", Callable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values in use, and where each came from. The API key shows no more than its end.

    So a copy, `dataclasses.asdict` and `repr` don't show it; pickling raises TypeError.
    """

    api_key: ApiKey | None = field(default=None, metadata={"kind": _KEY})
    """The `ap_…` key of your account. Without one nothing is sent and nothing is patched; an
    endpoint on this machine needs none, and the key of a local server of yours is found by itself.
    """
    agent_name: str = field(
        default_factory=socket.gethostname,
        metadata={"kind": _NAME, "environment": "AGENTPULSE_AGENT"},
    )
    """The name under which this program's events appear."""
    endpoint: str = field(default="https://api.agentpulse.dev", metadata={"kind": ADDRESS})
    """Where events are sent; plain `http` only to this machine, unless `allow_insecure`."""
    enabled: bool = field(default=True, metadata={"kind": SWITCH})
    """`false` is the kill switch: nothing is patched, no thread runs, every function does nothing;
    so it is with the exporter and `instrument()` in your own pipeline."""
    capture_messages: bool = field(default=False, metadata={"kind": SWITCH})
    """Whether prompts, answers and exception texts that spans carry are sent."""
    redact: Callable[[str], str] | None = field(
        default=None, metadata={"kind": _REDACTION, "environment": None}
    )
    """A function that is given each captured text and returns what is sent instead of it; where it
    fails, the event is dropped, and counted."""
    prices: Mapping[str, object] | Path | None = field(default=None, metadata={"kind": _PRICES})
    """Your own prices by model, a mapping or the path of a JSON file; they win over the built-in
    ones."""
    max_batch_size: int = field(default=100, metadata={"kind": BATCH_SIZE})
    """Events in one request; the free plan accepts 100, the pro plan 500."""
    export_all_spans: bool = field(default=False, metadata={"kind": SWITCH})
    """Whether spans that have nothing to do with agents or LLM calls are sent too."""
    allow_insecure: bool = field(default=False, metadata={"kind": SWITCH})
    """Allows plain `http` to another machine: key and events can then be read on the way."""
    # These two are no settings themselves.
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


@dataclass(frozen=True, slots=True)
class Row:
    """A setting, beside its name, type and default."""

    environment: str | None
    """Its variable: AGENTPULSE_ and the name, unless the table has another."""
    kind: Kind


def rows_of(table: type[Settings]) -> dict[str, Row]:
    """The rows by the names of the settings, those of the base class first."""
    return {
        name: Row(more.get("environment", f"AGENTPULSE_{name.upper()}"), more["kind"])
        for name, more in ((each.name, each.metadata) for each in fields(table))
        if "kind" in more
    }


ROWS: Mapping[str, Row] = rows_of(Settings)


def resolve(
    arguments: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    table: type[_Settings] = Settings,
    *,
    only: tuple[str, ...] = (),
) -> _Settings:
    """The settings for these arguments (None counts as not given) and this environment.

    With `only`, all other settings keep their defaults.

    Raises:
        ConfigurationError: An argument has a wrong value, or (ConfigurationTypeError) a wrong type.
    """
    rows = {name: row for name, row in rows_of(table).items() if name in only or not only}
    values = verify(arguments, rows)
    sources = dict.fromkeys(rows, DEFAULT) | dict.fromkeys(values, ARGUMENT)
    # `environ` is None for the process's environment: a mapping with the key in it must not be a
    # local variable of a frame that an error shows.
    problems = _read_environment(rows, values, sources, environ)
    settings = table(**cast("dict[str, Any]", values), sources=sources)
    if "endpoint" in rows:
        problems += _transport_problems(settings)
    return replace(settings, problems=tuple(problems))


def verify(arguments: Mapping[str, object], rows: Mapping[str, Row]) -> dict[str, object]:
    """The given arguments (not None), converted to the values of settings.

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
    # A truth value is an integer in Python, too.
    is_truth = isinstance(value, bool) and kind is not SWITCH
    try:
        if is_truth or not isinstance(value, kind.types):
            raise TypeError
        return kind.check(value)
    except TypeError:
        complaint = f"{origin} is of type {type(value).__name__}; expected {kind.expected}."
        raise ConfigurationTypeError(complaint) from None
    except ValueError as error:
        raise ConfigurationError(_complaint(kind, origin, value, error)) from None


def is_on(settings: Settings) -> bool:
    """Whether AgentPulse may do anything.

    An invalid variable is logged once per process and means off.
    """
    if settings.enabled and settings.problems:
        _log_problems(" ".join(settings.problems))
    return settings.enabled and not settings.problems


@cache
def _log_problems(text: str) -> None:
    _logger.warning("The exporter is off until this is corrected: %s", text)


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
    if kind is _KEY:
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
