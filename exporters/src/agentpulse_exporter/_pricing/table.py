"""The price table that comes with the package (`prices.json`), and the search for a model in it.

It is read when the first call is priced, never on import. Reading it twice at once does no harm, so
there is no lock that a fork could find taken. Routers, clouds and libraries add prefixes and
suffixes to a model's name, so it is looked up in ever barer spellings. Names are compared in lower
case.
"""

from __future__ import annotations

import json
import logging
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from itertools import islice, product
from typing import Any, NamedTuple

from agentpulse_exporter._pricing.tariff import Clause, Record
from agentpulse_exporter._semconv import provider_name

_logger = logging.getLogger("agentpulse.exporter")

_MOST_LOOKUPS = 2048
_NO_PRICES = '{"source": "no price table", "date": "unknown", "providers": {}}'

_IDS = {"gcp.gen_ai": "google", "x_ai": "x-ai"}
"""Ids of the table that neither the provider's name nor a clause of the table leads to."""
_GATEWAYS = {
    *("_other", "langchain", "litellm", "litellm_proxy", "llamaindex", "other", "portkey"),
    *("unknown", "vercel"),
}
"""Layers that sell no models themselves."""
_MAKERS = (
    *("openai", "anthropic", "google", "mistral", "cohere", "deepseek", "x-ai", "perplexity"),
    *("moonshotai", "zai"),
)
"""Providers that sell their own models. If only the model's name is known, they are tried."""
_OPEN = frozenset({"openai", "anthropic", "azure", "aws", "google"})
"""Names that don't bind the model. Clouds sell many makers' models; and a server that speaks the
protocol of OpenAI or Anthropic is reached with their clients and may go by their names."""

# us.anthropic.claude-sonnet-4-5-20250929-v1:0
_BEDROCK = re.compile(
    r"^(?P<region>[a-z]{2,6}(?:-gov)?\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai"
    r"|nvidia|openai|qwen|stability|twelvelabs|writer|zai)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)*(?::\d+k)?$")
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_DATE = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|default|00\d)$")
_OPENAI_BASE = re.compile(r"^(?:gpt-|o\d|davinci|babbage)")


class Found(NamedTuple):
    """A resolved name: `provider` is who was paid, `maker` whose price it is."""

    provider: str
    maker: str
    name: str
    record: Record


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of the table. `fallback` are those whose models it sells at their price."""

    id: str
    name: str
    models: Mapping[str, Record]
    provider_match: Clause = ()
    model_match: Clause = ()
    fallback: Sequence[str] = ()


class PriceTable:
    """All prices, by provider.

    Attributes:
        source: `genai-prices <version>`.
        date: The day of the data, as `2026-11-10`.
        providers: By id.
        find: The model meant by a provider's (or no) name and a model's name, or `None`.
    """

    def __init__(self, text: str | bytes) -> None:
        content = json.loads(text, parse_float=Decimal)
        self.source: str = content["source"]
        self.date: str = content["date"]
        providers = content["providers"].items()
        self.providers = {each: Provider(each, **record) for each, record in providers}
        self.find = lru_cache(_MOST_LOOKUPS)(self._find)

    def provider_id(self, name: str) -> str | None:
        """The id of the provider meant by a name in telemetry."""
        name = provider_name(name)
        if name.startswith(("azure", "az.")):
            return "azure"
        name = _IDS.get(name, name)
        known = (each.id for each in self.providers.values() if matches(each.provider_match, name))
        return name if name in self.providers else next(known, None)

    def sellers(self, provider: str | None) -> tuple[str, ...]:
        """The names of a provider that the user's own prices may have."""
        if not provider:
            return ()
        names = (provider.lower(), provider_name(provider), self.provider_id(provider))
        return tuple(dict.fromkeys(name for name in names if name))

    def _find(self, provider: str | None, model: str) -> Found | None:
        seller, model = (provider or "").strip().lower(), model.strip().lower()
        tried = self._candidates(seller, model) if model else ()
        return next((found for each in tried if (found := self._exactly(*each))), None)

    def _candidates(self, seller: str, model: str) -> Iterator[tuple[str, str]]:
        """The ids of providers, each with a name that a model of it may have."""
        names = tuple(dict.fromkeys(spellings(model)))
        if seller and seller not in _GATEWAYS:
            identity = self.provider_id(seller)
            if identity is None:
                # A local runtime, or somebody whose prices we don't know: another's price would be
                # a guess.
                return
            yield from product((identity,), names)
            if identity not in _OPEN:
                return
        yield from product(self._sellers_named_in(model), names)
        for name in names:
            yield from product(self._likely_sellers(name), (name,))

    def _sellers_named_in(self, model: str) -> Iterator[str]:
        if model.startswith("arn:aws") or _BEDROCK.match(model):
            yield "aws"
        elif model.startswith(("publishers/", "projects/")):
            yield "google"
        prefix, slash, _ = model.partition("/")
        seller = self.provider_id(prefix) if slash else None
        if seller is not None:
            yield seller

    def _likely_sellers(self, spelling: str) -> Iterator[str]:
        known = (each.id for each in self.providers.values() if matches(each.model_match, spelling))
        yield from islice(known, 1)
        yield from (maker for maker in _MAKERS if maker in self.providers)

    def _exactly(self, provider: str, spelling: str) -> Found | None:
        for seller in (provider, *self.providers[provider].fallback):
            for name, record in self.providers[seller].models.items():
                if matches(record.get("match", name.lower()), spelling):
                    return Found(provider, seller, name, record)
        return None


def matches(clause: Clause, name: str) -> bool:
    """Whether the clause recognises the name, which is in lower case."""
    if isinstance(clause, str):
        return name == clause
    if isinstance(clause, Mapping):
        return all(_TESTS[kind](name, value) for kind, value in clause.items())
    return any(matches(part, name) for part in clause)


_TESTS: Mapping[str, Callable[[str, Any], object]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": str.__contains__,
    "regex": lambda name, pattern: re.search(pattern, name),
    "and": lambda name, parts: all(matches(part, name) for part in parts),
}


def spellings(name: str) -> Iterator[str]:
    """The name as it is, then ever barer: without path, without cloud, without date."""
    last = name
    for last in _bare(name):
        yield from (last, _COMPACT_DATE.sub(r"-\1-\2-\3", last))
    undated = _DATE.sub("", last)
    # Azure writes `gpt-35`, because its deployments can't have a dot in their names.
    yield from (last.replace("@", "-"), undated, undated.replace("gpt-35", "gpt-3.5"))


def _bare(name: str) -> Iterator[str]:
    yield name
    while "/" in name:
        name = name.partition("/")[2]
        yield name
    if name.startswith("ft:"):
        base = name.split(":")[1]
        # OpenAI bills a fine-tuned model higher than its base (by half to four times), so where the
        # table has no price of its own for it, the base's would be wrong. Elsewhere (Mistral) calls
        # cost the same.
        if not _OPENAI_BASE.match(base):
            yield base
        return
    cloud = _BEDROCK.match(name)
    if cloud is None:
        return
    if cloud["region"]:
        yield name[cloud.end("region") :]
    name = name[cloud.end() :]
    yield from (name, _BEDROCK_VERSION.sub("", name))


@cache
def price_table() -> PriceTable:
    """The table, read at the first call. One that can't be read is empty, which is logged once."""
    try:
        # By the package's loader, which also reads from a zip file or a packaged program.
        return PriceTable(pkgutil.get_data(__package__ or "", "prices.json") or b"")
    except Exception as error:  # noqa: BLE001  # a file that is missing or damaged in any way
        _logger.warning(
            "The price table can't be read (%s), so costs are unknown but for your own prices"
            " (AGENTPULSE_PRICES). Reinstall agentpulse-exporter; a packaged program needs its"
            " file agentpulse_exporter/_pricing/prices.json.",
            type(error).__name__,
        )
        return PriceTable(_NO_PRICES)
