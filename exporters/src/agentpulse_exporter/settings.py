"""The exporter's settings: an argument counts first, then the environment, then the default."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._wire.json import MAX_LABEL, clean

# The key of an account, as an object that doesn't show it. Loads nothing of OpenTelemetry.

_T = TypeVar("_T")
_SHORTEST_SHOWN = 16


class ApiKey:
    """A key that shows no more than its end, however it is printed, and that can't be pickled."""

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        """Of this text, without the blanks around it."""
        exact = text.strip()
        # In a closure: crash reporters and serializers walk attributes, and find a function there.
        self._reveal = lambda: exact

    @classmethod
    def of(cls, given: str | _T) -> ApiKey | _T:
        """A text as a key, anything else as it is."""
        return cls(given) if isinstance(given, str) else given

    @property
    def is_valid(self) -> bool:
        """Whether it can be a key: printable ASCII that starts with `ap_`.

        Anything else could end the header that the key travels in, and start another.
        """
        text = self._reveal()
        begins, rest = text[:3], text[3:]
        return begins == "ap_" and rest != "" and all("!" <= each <= "~" for each in rest)

    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._reveal()}"

    def __bool__(self) -> bool:
        return bool(self._reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._reveal() == other._reveal()

    def __hash__(self) -> int:
        return hash(self._reveal())

    def __repr__(self) -> str:
        text = self._reveal()
        # Four of few characters would show too much of a short key.
        return f"ap_…{text[-4:]}" if len(text) >= _SHORTEST_SHOWN else "ap_…"

    # A copy would be the same; `dataclasses.asdict` makes one.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        message = "An API key is not pickled: it would leave the process in clear."
        raise TypeError(message)


DEFAULT_ENDPOINT = "https://api.agentpulse.dev"
DEFAULT_MAX_BATCH_SIZE = 100

_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


class ConfigurationError(ValueError):
    """A setting can't be used; the message says which, where it came from and what is expected."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go: `{scheme}://{host}:{port}{path}`, the path without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def authority(self) -> str:
        """Host and port as in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the exporter is told. Without a key, only this machine gets anything."""

    enabled: bool
    api_key: ApiKey | None
    endpoint: Endpoint
    agent_name: str
    capture_messages: bool
    overrides: PriceOverrides | None
    max_batch_size: int
    export_all_spans: bool

    @property
    def may_send(self) -> bool:
        """Whether there is anybody to send to."""
        return self.api_key is not None or self.endpoint.is_loopback


def resolve(
    *,
    enabled: bool | None = None,
    api_key: str | ApiKey | None = None,
    endpoint: str | None = None,
    agent_name: str | None = None,
    capture_messages: bool | None = None,
    prices: Mapping[str, object] | str | Path | None = None,
    max_batch_size: int | None = None,
    allow_insecure: bool | None = None,
    export_all_spans: bool | None = None,
) -> Settings:
    """Settings of arguments, environment and defaults.

    Where AgentPulse is switched off, the environment counts for nothing else.

    Raises:
        ConfigurationError: One of them can't be used. The message never holds the key.
    """
    is_on = is_enabled(enabled)
    environ: Mapping[str, str] = os.environ if is_on else {}
    insecure = _switch("allow_insecure", allow_insecure, environ)
    agent = agent_name or environ.get("AGENTPULSE_AGENT") or socket.gethostname()
    given_prices = prices if prices is not None else environ.get("AGENTPULSE_PRICES")
    try:
        overrides = PriceOverrides.load(given_prices)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return Settings(
        enabled=is_on,
        api_key=_key(api_key, environ),
        endpoint=_endpoint(endpoint, environ, insecure=insecure),
        agent_name=clean(agent, MAX_LABEL),
        capture_messages=_switch("capture_messages", capture_messages, environ),
        overrides=overrides,
        max_batch_size=_batch_size(max_batch_size, environ),
        export_all_spans=_switch("export_all_spans", export_all_spans, environ),
    )


def is_enabled(argument: bool | None = None) -> bool:
    """Whether AgentPulse may do anything: by this argument, else by AGENTPULSE_ENABLED, else yes.

    OTEL_SDK_DISABLED, OpenTelemetry's own kill switch, always counts.

    Raises:
        ConfigurationError: The argument, or AGENTPULSE_ENABLED, can't be used.
    """
    is_wanted = _switch("enabled", argument, os.environ, default=True)
    return is_wanted and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def _key(given: str | ApiKey | None, environ: Mapping[str, str]) -> ApiKey | None:
    source = "AGENTPULSE_API_KEY" if given is None else "The argument api_key"
    key = ApiKey.of(environ.get("AGENTPULSE_API_KEY", "") if given is None else given)
    if not key:
        return None
    if not key.is_valid:
        message = f"{source} is no API key: expected printable ASCII that starts with ap_."
        raise ConfigurationError(message)
    return key


def _endpoint(argument: str | None, environ: Mapping[str, str], *, insecure: bool) -> Endpoint:
    source = "AGENTPULSE_ENDPOINT" if argument is None else "The argument endpoint"
    text = (environ.get(source, "") if argument is None else argument).strip()
    expected = f"expected an address such as {DEFAULT_ENDPOINT}"
    # The address itself is not repeated: it may hold a password.
    try:
        parts = urlsplit(text or DEFAULT_ENDPOINT)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        message = f"{source} is no address; {expected}."
        raise ConfigurationError(message) from None
    if not all("!" <= character <= "~" for character in text):
        message = f"{source} has characters that no address has; {expected}."
        raise ConfigurationError(message)
    if parts.scheme not in _PORTS or not host:
        message = f"{source} is no http or https address with a host; {expected}."
        raise ConfigurationError(message)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        message = f"{source} has a user, a query or a fragment; {expected}."
        raise ConfigurationError(message)
    found = Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
    if found.scheme == "http" and not (found.is_loopback or insecure):
        message = (
            f"{source} is plain http to {host}, which would show the key to the network;"
            f" use https, or set allow_insecure (AGENTPULSE_ALLOW_INSECURE=1)."
        )
        raise ConfigurationError(message)
    return found


def _switch(
    name: str, argument: bool | None, environ: Mapping[str, str], *, default: bool = False
) -> bool:
    if isinstance(argument, bool):
        return argument
    source, given = f"The argument {name}", argument
    if argument is None:
        source = f"AGENTPULSE_{name.upper()}"
        given = environ.get(source, "").strip().lower()
        if given in _WORDS:
            return _WORDS[given]
        if not given:
            return default
    # Whatever isn't empty counts as true in Python, "false" too.
    message = f"{source} is {given!r}; expected true or false."
    raise ConfigurationError(message)


def _batch_size(argument: int | None, environ: Mapping[str, str]) -> int:
    text = environ.get("AGENTPULSE_MAX_BATCH_SIZE", "").strip()
    given: object = argument if argument is not None else text or DEFAULT_MAX_BATCH_SIZE
    source = "AGENTPULSE_MAX_BATCH_SIZE" if argument is None else "The argument max_batch_size"
    try:
        size = int(str(given))
    except ValueError:
        size = 0
    if size < 1:
        message = f"{source} is {given!r}; expected a number of events from 1 up, for example 100."
        raise ConfigurationError(message)
    return size
