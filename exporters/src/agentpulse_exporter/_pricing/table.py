"""The price table that comes with the package (`prices.json`), and the search for a model in it.

It is read when the first call is priced, never on import. Reading it twice at once does no harm, so
there is no lock that a fork could find taken.
"""

from __future__ import annotations

import json
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import NamedTuple, TypedDict, cast

from agentpulse_exporter._pricing.match import (
    MAKERS,
    OPEN,
    Clause,
    cloud_of,
    is_gateway,
    matches,
    provider_id,
    spellings,
)
from agentpulse_exporter._pricing.tariff import Prices, Tariff
from agentpulse_exporter._pricing.usage import Counts

# When a price holds: from a day on (`2026-03-13`) or daily between two times (UTC).

Condition = Callable[[float], bool]
"""Whether it holds at a time in seconds since 1970."""

_DAY = 86_400


def condition(text: str | None) -> Condition | None:
    """What the price table writes as `2026-03-13` or `00:30-16:30`; `None` holds always."""
    if text is None:
        return None
    if ":" not in text:
        start = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return lambda at: at >= start
    first, last = (_seconds(time.fromisoformat(part)) for part in text.split("-"))
    if last < first:
        return lambda at: at % _DAY >= first or at % _DAY < last
    return lambda at: first <= at % _DAY < last


def _seconds(moment: time) -> int:
    return moment.hour * 3_600 + moment.minute * 60 + moment.second


# A model of the price table: its prices through time, and in each way it is served.

Context = Mapping[str, str]
"""What a call says about how it was served: `service_tier`, `processing` (`batch`), `speed`."""


class _Required(TypedDict):
    prices: Prices | Sequence[tuple[str | None, Prices]]


class Record(_Required, total=False):
    """A model as the table writes it. Dated prices are a list; the last that holds is valid."""

    match: Clause
    variants: Sequence[tuple[Context, str | None, Prices]]
    least: Counts


class Model:
    """The prices of one model.

    Attributes:
        provider: The id of the provider that sells it.
        id: Its name in the table.
        record: What the table says of it.
    """

    __slots__ = ("_always", "_periods", "_tariffs", "_variants", "id", "provider", "record")

    def __init__(self, provider: str, name: str, record: Record) -> None:
        self.provider = provider
        self.id = name
        self.record = record
        self._periods = [(condition(when), prices) for when, prices in periods_of(record)]
        self._variants = [
            (served, condition(when), prices) for served, when, prices in record.get("variants", ())
        ]
        self._tariffs: dict[tuple[int, ...], Tariff] = {}
        # Most models have one price, whenever and however they are called.
        only = len(self._periods) == 1 and not self._variants
        self._always = self._compiled((0,)) if only else None

    def tariff(self, at: float, context: Context) -> Tariff:
        """The prices at a time (seconds since 1970) for a call served in this way."""
        if self._always is not None:
            return self._always
        asked = context.items()
        chosen = (
            _last_that_holds(self._periods, at),
            *(
                number
                for number, (served, holds, _) in enumerate(self._variants)
                if served.items() <= asked and (holds is None or holds(at))
            ),
        )
        return self._tariffs.get(chosen) or self._compiled(chosen)

    def _compiled(self, chosen: tuple[int, ...]) -> Tariff:
        period, *variants = chosen
        prices = dict(self._periods[period][1])
        # The first variant that prices a unit wins, so the last is laid on first.
        for number in reversed(variants):
            prices.update(self._variants[number][2])
        tariff = self._tariffs[chosen] = Tariff(prices, self.record.get("least"))
        return tariff


def periods_of(record: Record) -> Sequence[tuple[str | None, Prices]]:
    """The dated prices of a model; a single one has no condition."""
    prices = record["prices"]
    return [(None, prices)] if isinstance(prices, Mapping) else prices


def _last_that_holds(periods: Sequence[tuple[Condition | None, Prices]], at: float) -> int:
    for number in range(len(periods) - 1, -1, -1):
        holds = periods[number][0]
        if holds is None or holds(at):
            return number
    return 0


_logger = logging.getLogger("agentpulse.exporter")

_MOST_LOOKUPS = 2048
_NO_PRICES = '{"source": "no price table", "date": "unknown", "providers": {}}'


class _ProviderRecord(TypedDict, total=False):
    name: str
    provider_match: Clause
    model_match: Clause
    fallback: Sequence[str]
    models: Mapping[str, Record]


class Found(NamedTuple):
    """What a name resolved to: `provider` is who was paid, `model.provider` whose price it is."""

    provider: str
    model: Model


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of the table. `fallback` are those whose models it sells at their price."""

    id: str
    name: str
    match: Clause | None
    model_match: Clause | None
    fallback: Sequence[str]
    models: Mapping[str, Record]


class PriceTable:
    """All prices, by provider.

    Attributes:
        source: `genai-prices <version>`.
        date: The day of the data, as `2026-11-10`.
        providers: By id.
    """

    def __init__(self, text: str | bytes) -> None:
        content = json.loads(text, parse_float=Decimal)
        self.source: str = content["source"]
        self.date: str = content["date"]
        self.providers = {
            identity: _provider(identity, cast("_ProviderRecord", record))
            for identity, record in content["providers"].items()
        }
        self._names = {provider.id: provider.match for provider in self.providers.values()}
        self._models: dict[tuple[str, str], Model] = {}
        self._lookups: dict[tuple[str | None, str], Found | None] = {}

    def find(self, provider: str | None, model: str) -> Found | None:
        """The model meant by a name in telemetry, or `None`. Remembers its answers."""
        asked = (provider, model)
        try:
            return self._lookups[asked]
        except KeyError:
            pass
        found = self._search((provider or "").strip().lower(), model.strip().lower())
        if len(self._lookups) >= _MOST_LOOKUPS:
            # Somebody makes up names; starting again costs less than keeping an order.
            self._lookups.clear()
        self._lookups[asked] = found
        return found

    def provider_id(self, name: str) -> str | None:
        """The id of the provider meant by a name in telemetry."""
        return provider_id(name.strip().lower(), self._names)

    def model(self, provider: str, name: str) -> Model:
        """A model by the ids of the table; raises `KeyError` for another."""
        known = self._models.get((provider, name))
        if known is None:
            known = Model(provider, name, self.providers[provider].models[name])
            self._models[provider, name] = known
        return known

    def _search(self, provider: str, model: str) -> Found | None:
        if not model:
            return None
        if not provider or is_gateway(provider):
            return self._by_name(model)
        identity = provider_id(provider, self._names)
        if identity is None:
            # A local runtime, or somebody whose prices we don't know: another's price would be a
            # guess.
            return None
        found = self._sold_by(identity, model)
        return self._by_name(model) if found is None and identity in OPEN else found

    def _sold_by(self, provider: str, model: str) -> Found | None:
        for spelling in spellings(model):
            found = self._exactly(provider, spelling)
            if found is not None:
                return found
        return None

    def _by_name(self, model: str) -> Found | None:
        for seller in self._sellers_named_in(model):
            found = self._sold_by(seller, model)
            if found is not None:
                return found
        for spelling in spellings(model):
            for seller in self._claiming(spelling):
                found = self._exactly(seller, spelling)
                if found is not None:
                    return found
        return None

    def _sellers_named_in(self, model: str) -> Iterator[str]:
        cloud = cloud_of(model)
        if cloud is not None:
            yield cloud
        prefix, slash, _ = model.partition("/")
        seller = provider_id(prefix, self._names) if slash else None
        if seller is not None:
            yield seller

    def _claiming(self, spelling: str) -> Iterator[str]:
        """Those whose models have such names, the likeliest first."""
        for provider in self.providers.values():
            if provider.model_match is not None and matches(provider.model_match, spelling):
                yield provider.id
                break
        yield from (maker for maker in MAKERS if maker in self.providers)

    def _exactly(self, provider: str, spelling: str) -> Found | None:
        for seller in (provider, *self.providers[provider].fallback):
            for name, record in self.providers[seller].models.items():
                if matches(record.get("match", name.lower()), spelling):
                    return Found(provider, self.model(seller, name))
        return None


def _provider(identity: str, record: _ProviderRecord) -> Provider:
    return Provider(
        id=identity,
        name=record.get("name", identity),
        match=record.get("provider_match"),
        model_match=record.get("model_match"),
        fallback=record.get("fallback", ()),
        models=record.get("models", {}),
    )


_table: PriceTable | None = None


def price_table() -> PriceTable:
    """The table, read at the first call. One that can't be read is empty, which is logged once."""
    global _table  # noqa: PLW0603  # it is read once for the life of the process
    if _table is None:
        try:
            # By the package's loader, which also reads from a zip file or a packaged program.
            _table = PriceTable(pkgutil.get_data("agentpulse_exporter", "prices.json") or b"")
        except Exception as error:  # noqa: BLE001  # a file that is missing or damaged in any way
            _logger.warning(
                "The price table can't be read (%s), so costs are unknown but for your own prices"
                " (AGENTPULSE_PRICES). Reinstall agentpulse-exporter; a packaged program needs its"
                " file agentpulse_exporter/prices.json.",
                type(error).__name__,
            )
            _table = PriceTable(_NO_PRICES)
    return _table
