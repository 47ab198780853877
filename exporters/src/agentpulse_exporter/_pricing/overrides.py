"""The user's own prices, for models and contracts that the table doesn't know."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

from agentpulse_exporter._pricing.tariff import UNITS, Tariff
from agentpulse_exporter._semconv import provider_name
from agentpulse_exporter._shield import shielded

_EXAMPLE = '{"my-model": {"input": 2.5, "output": 10}}'


@dataclass(frozen=True, slots=True)
class PriceOverrides:
    """Prices by model, in USD and in the units of the price table.

    That is: per million tokens or characters, per hour of audio, per 1,000 searches or `requests`,
    and per single `request`. A key is `model` or `provider/model`, in any case, and may end in `*`.
    An exact key wins over a pattern, a longer pattern over a shorter one. A price that isn't given
    is that of the tokens it is a part of: `cache_read` of `input`, `cache_write_1h` of
    `cache_write`.
    """

    _exact: Mapping[str, Tariff]
    _patterns: tuple[tuple[str, Tariff], ...]

    @classmethod
    def load(cls, source: str | Path | Mapping[str, object] | None) -> PriceOverrides | None:
        """Reads prices from a mapping or a JSON file; `None` or an empty path means none.

        Raises:
            ValueError: The file can't be read or a price isn't one. The message names it, its
                origin and the expected value.
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
    def _of(cls, entries: Mapping[str, object], origin: str) -> PriceOverrides:
        exact: dict[str, Tariff] = {}
        patterns: list[tuple[str, Tariff]] = []
        for key, prices in entries.items():
            name = _name(key, origin)
            tariff = Tariff(_prices(key, prices, origin))
            seller, slash, model = name.partition("/")
            # The provider of a key may be spelt in any way, too.
            known = provider_name(seller) + slash + model if slash else name
            if name.endswith("*"):
                patterns += [(name[:-1], tariff), (known[:-1], tariff)]
            else:
                exact = {known: tariff, **exact, name: tariff}
        patterns.sort(key=lambda pattern: -len(pattern[0]))
        return cls(exact, tuple(patterns))

    def tariff(self, sellers: tuple[str, ...], model: str) -> Tariff | None:
        """The user's prices of a model whose provider goes by these names, or `None`."""
        model = model.lower()
        names = (*(f"{seller.lower()}/{model}" for seller in sellers), model)
        exact = (self._exact[name] for name in names if name in self._exact)
        by_start = (tariff for start, tariff in self._patterns if _any_starts(names, start))
        return next(exact, None) or next(by_start, None)


def _any_starts(names: tuple[str, ...], start: str) -> bool:
    return any(name.startswith(start) for name in names)


_in_use: WeakKeyDictionary[object, PriceOverrides] = WeakKeyDictionary()
"""By the exporter that runs with them, the newest last."""


def use(owner: object, overrides: PriceOverrides | None) -> None:
    """Makes them the user's own prices for all that is priced while `owner` runs, or ends that."""
    _in_use.pop(owner, None)
    if overrides is not None:
        _in_use[owner] = overrides


def own_prices() -> PriceOverrides | None:
    """The user's own prices: those of the exporter that runs, else those of AGENTPULSE_PRICES."""
    running = [*_in_use.values()]
    path = os.environ.get("AGENTPULSE_PRICES")
    if running or not path:
        return running[-1] if running else None
    return shielded("read the prices of AGENTPULSE_PRICES", lambda: _of_file(path), None)


_of_file = lru_cache(4)(PriceOverrides.load)


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
        if name not in UNITS:
            known = ", ".join(UNITS)
            message = f"{key!r} in {origin} has a price for {name!r}; expected one of {known}."
            raise ValueError(message)
        found[cast("str", name)] = _price(price, f"The price {name!r} of {key!r} in {origin}")
    return found


def _price(price: object, subject: str) -> Decimal:
    if isinstance(price, (int, float, Decimal)) and not isinstance(price, bool):
        exact = Decimal(repr(price)) if isinstance(price, float) else Decimal(price)
        if exact.is_finite() and exact >= 0:
            return exact
    message = f"{subject} is {price!r}; expected USD as a number from 0 up, for example 2.5."
    raise ValueError(message)
