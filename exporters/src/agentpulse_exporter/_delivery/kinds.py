"""The kinds of values that settings have: how each is read from text, checked and shown.

A reader raises ValueError for text that makes no sense, a check TypeError for a wrong type and
ValueError for a wrong value. A check raises ConfigurationError, with a text, where the
expectation alone doesn't explain the mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Self, TypeVar, cast

from agentpulse_exporter._delivery.endpoint import Endpoint

_SHORTEST_SHOWN = 16
_T = TypeVar("_T")


class ConfigurationError(ValueError):
    """A setting can't be used; the message names it, its origin and the expected value."""


class ConfigurationTypeError(ConfigurationError, TypeError):
    """An argument has a type that the setting can't have."""


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
        return re.fullmatch("ap_[!-~]+", self._reveal()) is not None

    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._reveal()}"

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
        message = "An API key is not pickled: it would be readable outside the process."
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value."""

    expected: str
    """Completes the sentence "expected …"."""
    check: Callable[[object], object]
    """Returns the value that an argument becomes."""
    read: Callable[[str], object] = str
    show: Callable[[object], str] = repr
    """The value as it may be printed, secrets masked."""


def _switch(value: object) -> bool:
    # Every text that isn't empty counts as true in Python, "false" too.
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


def _name(value: object) -> str:
    from agentpulse_exporter._wire.json import MAX_LABEL, clean  # only where a name is given

    return _text(clean(value, MAX_LABEL) if isinstance(value, str) else value)


def _key(value: object) -> ApiKey:
    key = ApiKey.of(value)
    if not isinstance(key, ApiKey):
        raise TypeError
    if not key.is_valid:
        raise ValueError
    return key


def _address(value: object) -> str:
    text = _text(value).rstrip("/")
    scheme = Endpoint.of(text).scheme
    return scheme + text[len(scheme) :]  # the scheme in small letters


def _address_without_secrets(value: object) -> str:
    # One that can't be used is shown too, so it may be no address at all.
    without_user = re.sub(r"^(\w+://)?.*@", r"\1…@", str(value), flags=re.DOTALL)
    return repr(re.sub(r"([?#]).+", r"\1…", without_user, flags=re.DOTALL))


def seconds(lowest: float, *, example: str) -> Kind:
    """Seconds, a day at most."""
    expected = f"seconds as a number from {lowest:g} to 86400, for example {example}"
    return Kind(expected, _between(lowest, 86_400, int | float, float), float)


def count(lowest: int, highest: int) -> Kind:
    """A whole number between two others."""
    expected = f"a whole number from {lowest} to {highest}"
    return Kind(expected, _between(lowest, highest, int, int), int)


def _between(
    lowest: float, highest: float, kind: type | UnionType, become: Callable[[Any], object]
) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError
        if not lowest <= cast("float", value) <= highest:
            raise ValueError
        return become(value)

    return check


def _prices(value: object) -> Mapping[str, object] | Path:
    # Only here, so that nothing of it is loaded where the user has no prices of their own.
    from agentpulse_exporter._pricing import PriceOverrides

    if isinstance(value, Mapping):
        prices = cast("Mapping[str, object]", value)
    elif isinstance(value, str | os.PathLike):
        prices = Path(cast("str | os.PathLike[str]", value)).expanduser()
    else:
        raise TypeError
    if prices == Path():
        raise ValueError
    try:
        PriceOverrides.load(prices)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return prices


def _shown_prices(value: object) -> str:
    if isinstance(value, Mapping):
        return f"of {len(cast('Mapping[str, object]', value))} models"
    return str(value)


def _function(value: object) -> object:
    if not callable(value):
        raise TypeError
    return value


def _shown_function(value: object) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


SWITCH = Kind("true or false", _switch, _read_switch)
ADDRESS = Kind(
    "an address with a host and no user, query or fragment, for example https://api.agentpulse.dev",
    _address,
    show=_address_without_secrets,
)
FLUSH_INTERVAL = seconds(0.01, example="5")
SHUTDOWN_TIMEOUT = seconds(0, example="5")
QUEUE_SIZE = count(1, 1_000_000)
BATCH_SIZE = count(1, 500)
NAME = Kind("a name that isn't empty", _name)
KEY = Kind("a key of your AgentPulse account; it begins with ap_ and has no blanks in it", _key)
PRICES = Kind(
    "a mapping from model to prices, or the path of a JSON file with one",
    _prices,
    show=_shown_prices,
)
REDACTION = Kind(
    "a function that is given a text and returns a text", _function, show=_shown_function
)
