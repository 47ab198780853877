"""The kinds of values that settings have: how each is read from text, and what an argument may be.

A reader raises ValueError for text that makes no sense, a check TypeError for a wrong type and
ValueError for a wrong value. Neither says more: whoever asked knows where the value came from. Only
where there is more to say than what was expected does a check raise SettingError, with that text.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from agentpulse.errors import SettingError

if TYPE_CHECKING:
    from agentpulse_exporter.settings import ApiKey


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value."""

    expected: str
    """Completes the sentence "expected …"."""
    check: Callable[[object], object]
    """What an argument becomes."""
    read: Callable[[str], object] = str
    show: Callable[[object], str] = repr
    """The value as it may be printed, secrets masked."""


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _read_switch(text: str) -> bool:
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    stripped = value.strip()
    if not stripped or not stripped.isprintable():
        raise ValueError
    return stripped


def _key(value: object) -> ApiKey:
    from agentpulse_exporter.settings import ApiKey

    key = ApiKey.of(value)
    if not isinstance(key, ApiKey):
        raise TypeError
    if not key.is_valid:
        raise ValueError
    return key


def _endpoint(value: object) -> str:
    endpoint = _text(value).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if "@" in parts.netloc or "?" in endpoint or "#" in endpoint or " " in endpoint:
        raise ValueError
    if parts.port == 0:  # reading a port that is no number raises ValueError by itself
        raise ValueError
    return parts.scheme + endpoint[len(parts.scheme) :]  # the scheme in small letters


def _endpoint_without_secrets(value: object) -> str:
    # One that can't be used is shown too, so it may be no address at all.
    without_user = re.sub(r"^(\w+://)?.*@", r"\1…@", str(value), flags=re.DOTALL)
    return repr(re.sub(r"([?#]).+", r"\1…", without_user, flags=re.DOTALL))


def is_loopback(endpoint: str) -> bool:
    """Whether a valid endpoint is on this machine."""
    host = urlsplit(endpoint).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def seconds(lowest: float, *, example: str) -> Kind:
    """Seconds, a day at most."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        if not math.isfinite(value) or not lowest <= value <= 86_400:
            raise ValueError
        return float(value)

    return Kind(
        f"seconds as a number from {lowest:g} to 86400, for example {example}", check, float
    )


def count(lowest: int, highest: int) -> Kind:
    """A whole number between two others."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not lowest <= value <= highest:
            raise ValueError
        return value

    return Kind(f"a whole number from {lowest} to {highest}", check, int)


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise TypeError
    path = Path(cast("str | os.PathLike[str]", value))
    if path == Path():
        raise ValueError
    return path.expanduser()


def _prices(value: object) -> Mapping[str, object] | Path:
    # Only here, so that nothing of it is loaded where the user has no prices of their own.
    from agentpulse_exporter._pricing import PriceOverrides

    prices = cast("Mapping[str, object]", value) if isinstance(value, Mapping) else _path(value)
    try:
        PriceOverrides.load(prices)
    except ValueError as error:
        raise SettingError(str(error)) from None
    return prices


def _shown_prices(value: object) -> str:
    if isinstance(value, Mapping):
        return f"of {len(cast('Mapping[str, object]', value))} models"
    return str(value)


def _libraries(value: object) -> tuple[str, ...]:
    from agentpulse_instrumentation import INSTRUMENTORS

    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError
    names = tuple(cast("Iterable[object]", value))
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    if not set(names) <= set(INSTRUMENTORS):
        raise ValueError
    return cast("tuple[str, ...]", names)


def _function(value: object) -> object:
    if not callable(value):
        raise TypeError
    return value


def _shown_function(value: object) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


SWITCH = Kind("true or false", _switch, _read_switch)
TEXT = Kind("a name that isn't empty", _text)
KEY = Kind(
    "a key of your AgentPulse account; it begins with ap_ and has no blanks in it",
    _key,
)
ENDPOINT = Kind(
    "an address with a host and no user, query or fragment, for example https://api.agentpulse.dev",
    _endpoint,
    show=_endpoint_without_secrets,
)
PRICES = Kind(
    "a mapping from model to prices, or the path of a JSON file with one",
    _prices,
    show=_shown_prices,
)
LIBRARIES = Kind(
    'names of libraries that `agentpulse status` lists, for example ("openai", "anthropic")',
    _libraries,
)
REDACTION = Kind(
    "a function that is given a text and returns a text", _function, show=_shown_function
)
