"""A model of the price table: its prices through time, and in each way it is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from agentpulse_exporter.pricing.clauses import Clause
from agentpulse_exporter.pricing.periods import Condition, condition
from agentpulse_exporter.pricing.tariff import Prices, Tariff
from agentpulse_exporter.pricing.usage import Counts

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
