"""The user's own prices, for models and contracts that the table doesn't know."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

from agentpulse_exporter._pricing.tariff import Tariff

_NAMES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "request",
)
_EXAMPLE = '{"my-model": {"input": 2.5, "output": 10}}'


@dataclass(frozen=True, slots=True)
class PriceOverrides:
    """Prices by model, in USD per million tokens (`request`: per request).

    A key is `model` or `provider/model`, in any case, and may end in `*`. An exact key wins over a
    pattern, a longer pattern over a shorter one. A price that isn't given is that of the tokens it
    is a part of: `cache_read` of `input`, `cache_write_1h` of `cache_write`.
    """

    _exact: Mapping[str, Tariff]
    _patterns: tuple[tuple[str, Tariff], ...]

    @classmethod
    def load(cls, source: str | Path | Mapping[str, object] | None) -> "PriceOverrides | None":
        """Reads prices from a mapping or a JSON file; `None` or an empty path means none.

        Raises:
            ValueError: The file can't be read or a price isn't one; says what, where and what was
                expected.
        """
        if source is None or source == "":
            return None
        if isinstance(source, Mapping):
            return cls._of(source, "prices")
        if isinstance(source, (str, Path)):  # pyright: ignore[reportUnnecessaryIsInstance]  # not all callers check types
            return cls._of(_read(Path(source)), f"the price file {source}")
        message = f"prices is {source!r}; expected a mapping like {_EXAMPLE} or a file of it."
        raise ValueError(message)

    @classmethod
    def _of(cls, entries: Mapping[str, object], origin: str) -> "PriceOverrides":
        exact: dict[str, Tariff] = {}
        patterns: list[tuple[str, Tariff]] = []
        for key, prices in entries.items():
            name = _name(key, origin)
            tariff = Tariff(_prices(key, prices, origin))
            if name.endswith("*"):
                patterns.append((name[:-1], tariff))
            else:
                exact[name] = tariff
        patterns.sort(key=lambda pattern: -len(pattern[0]))
        return cls(exact, tuple(patterns))

    def tariff(self, providers: tuple[str, ...], model: str) -> Tariff | None:
        """The user's prices of a model that goes by these provider names, or `None`."""
        model = model.lower()
        names = (*(f"{provider.lower()}/{model}" for provider in providers), model)
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for start, tariff in self._patterns:
            if any(name.startswith(start) for name in names):
                return tariff
        return None


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        reason = error.strerror
        message = f"The price file {path} can't be read ({reason}); expected JSON like {_EXAMPLE}."
        raise ValueError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"The price file {path} isn't JSON ({error}); expected something like {_EXAMPLE}."
        raise ValueError(message) from error
    if not isinstance(content, dict):
        message = f"The price file {path} holds no object; expected something like {_EXAMPLE}."
        raise ValueError(message)
    return cast("dict[str, object]", content)


def _name(key: object, origin: str) -> str:
    if not isinstance(key, str) or not key.strip():
        message = f"{key!r} in {origin} is no model name; expected, for example, {_EXAMPLE}."
        raise ValueError(message)
    if "*" in key.rstrip()[:-1]:
        message = f"The name {key!r} in {origin} has a * inside; expected at most one, at its end."
        raise ValueError(message)
    return key.strip().lower()


def _prices(key: str, prices: object, origin: str) -> dict[str, Decimal]:
    if not isinstance(prices, Mapping) or not prices:
        message = (
            f"The prices of {key!r} in {origin} are {prices!r}; expected, for example, {_EXAMPLE}."
        )
        raise ValueError(message)
    found: dict[str, Decimal] = {}
    for name, price in cast("Mapping[object, object]", prices).items():
        if name not in _NAMES:
            known = ", ".join(_NAMES)
            message = f"{key!r} in {origin} has a price for {name!r}; expected one of {known}."
            raise ValueError(message)
        found[cast("str", name)] = _price(price, f"The price {name!r} of {key!r} in {origin}")
    return found


def _price(price: object, what: str) -> Decimal:
    if isinstance(price, (int, float, Decimal)) and not isinstance(price, bool):
        exact = Decimal(repr(price)) if isinstance(price, float) else Decimal(price)
        if exact.is_finite() and exact >= 0:
            return exact
    message = f"{what} is {price!r}; expected USD as a number from 0 up, for example 2.5."
    raise ValueError(message)
