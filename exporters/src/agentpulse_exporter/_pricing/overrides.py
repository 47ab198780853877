"""The user's own prices, for models and contracts that the table doesn't know."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NoReturn, cast
from weakref import WeakKeyDictionary

from agentpulse_exporter._pricing.tariff import UNITS, Prices
from agentpulse_exporter._semconv import provider_name
from agentpulse_exporter._values import shielded

_EXAMPLE = '{"my-model": {"input": 2.5, "output": 10}}'


def _refuse(problem: str, expected: str = f"something like {_EXAMPLE}") -> NoReturn:
    message = f"{problem}; expected {expected}."
    raise ValueError(message)


class PriceOverrides:
    """Prices by model, in USD and in the units of the price table.

    That is: per million tokens or characters, per hour of audio, per 1,000 searches or `requests`,
    and per single `request`. A key is `model` or `provider/model`, in any case, and may end in `*`.
    An exact key wins over a pattern, a longer one over a shorter one. A price that isn't given
    is that of the tokens it is a part of: `cache_read` of `input`, `cache_write_1h` of
    `cache_write`.

    Attributes:
        prices: The prices of a model whose provider goes by these names, or `None`.
    """

    def __init__(self, entries: Mapping[str, object], origin: str) -> None:
        """Prices as `origin` has them, which is named where they can't be used."""
        self._prices: dict[str, Prices] = {}
        for key, prices in entries.items():
            name, found = _name(key, origin), _prices(key, prices, origin)
            seller, slash, model = name.partition("/")
            # The provider of a key may be spelt in any way, too.
            known = provider_name(seller) + slash + model if slash else name
            self._prices.setdefault(known, found)
            self._prices[name] = found
        self.prices: Callable[[tuple[str, ...], str], Prices | None] = lru_cache(2048)(self._find)

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
            return cls(source, "prices")
        return cls(_read(Path(source)), f"the price file {source}")

    def _find(self, sellers: tuple[str, ...], model: str) -> Prices | None:
        model = model.lower()
        names = {*(f"{seller.lower()}/{model}" for seller in sellers), model}
        fitting = [key for key in self._prices if any(_fits(key, name) for name in names)]
        best = max(fitting, key=lambda key: (not key.endswith("*"), len(key)), default="")
        return self._prices.get(best)


def _fits(key: str, name: str) -> bool:
    return name.startswith(key[:-1]) if key.endswith("*") else name == key


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
        _refuse(f"The price file {path} can't be read ({error.strerror})")
    except (ValueError, RecursionError) as error:
        _refuse(f"The price file {path} isn't JSON ({error})")
    if not isinstance(content, dict):
        _refuse(f"The price file {path} holds no object")
    return cast("dict[str, object]", content)


def _name(key: object, origin: str) -> str:
    if not isinstance(key, str) or not key.strip():
        _refuse(f"{key!r} in {origin} is no model name")
    if "*" in key.rstrip()[:-1]:
        _refuse(f"The name {key!r} in {origin} has a * inside", "at most one, at its end")
    return key.strip().lower()


def _prices(key: str, prices: object, origin: str) -> dict[str, Decimal]:
    if not isinstance(prices, Mapping) or not prices:
        _refuse(f"The prices of {key!r} in {origin} are {prices!r}")
    found: dict[str, Decimal] = {}
    for name, price in cast("Mapping[str, object]", prices).items():
        if name not in UNITS:
            _refuse(f"{key!r} in {origin} has a price for {name!r}", f"one of {', '.join(UNITS)}")
        found[name] = _price(price, f"The price {name!r} of {key!r} in {origin}")
    return found


def _price(price: object, subject: str) -> Decimal:
    if isinstance(price, (int, float, Decimal)) and not isinstance(price, bool):
        exact = Decimal(repr(price)) if isinstance(price, float) else Decimal(price)
        if exact.is_finite() and exact >= 0:
            return exact
    _refuse(f"{subject} is {price!r}", "USD as a number from 0 up, for example 2.5")
