"""Every model of the table, priced by us and by the library that the table comes from."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from math import isclose
from typing import Any

import pytest
from agentpulse_exporter._pricing import Usage, price
from agentpulse_exporter._pricing.table import matches, price_table
from genai_prices import Usage as ReferenceUsage
from genai_prices import types
from genai_prices.data import providers

PROVIDERS = {provider.id: provider for provider in providers}
MODELS = [(provider, model) for provider in providers for model in provider.models]
IDS = sorted(PROVIDERS)
ROUNDS = 4


def random_counts(dice: random.Random, sizes: list[int]) -> dict[str, Any]:
    """Counts that make sense together, sometimes with an input of one of these sizes."""
    read, written, audio, image = (dice.choice([0, dice.randrange(90_000)]) for _ in range(4))
    cached_audio = dice.randrange(min(read, audio) + 1)
    cached_image = dice.randrange(min(read - cached_audio, image) + 1)
    spoken, drawn, reasoned = (dice.choice([0, dice.randrange(30_000)]) for _ in range(3))
    parts = read + written + audio + image
    text = dice.choice([dice.randrange(5_000), dice.randrange(1_200_000)])
    fitting = [size for size in sizes if size >= parts]
    return {
        "input_tokens": dice.choice(fitting) if fitting and dice.random() < 0.5 else text + parts,
        "output_tokens": dice.randrange(60_000) + spoken + drawn + reasoned,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": dice.choice([0, written, dice.randrange(written + 1)]),
        "input_audio_tokens": audio,
        "cache_audio_read_tokens": cached_audio,
        "input_image_tokens": image,
        "cache_image_read_tokens": cached_image,
        "output_audio_tokens": spoken,
        "output_image_tokens": drawn,
        "output_reasoning_tokens": reasoned,
        "input_characters": dice.randrange(100_000),
        "audio_seconds": dice.choice([0, dice.randrange(9_000), round(dice.uniform(0, 30), 2)]),
        "web_searches": dice.randrange(9),
        "storage_searches": dice.randrange(9),
    }


def sizes(model: types.ModelInfo) -> list[int]:
    """Where the model's context tiers begin, and one token later."""
    sets = [variant.prices for variant in model.price_variants or ()]
    sets += (
        [period.prices for period in model.prices]
        if isinstance(model.prices, list)
        else [model.prices]
    )
    tiered = [
        price
        for prices in sets
        for price in vars(prices).values()
        if isinstance(price, types.TieredPrices)
    ]
    return [tier.start + extra for price in tiered for tier in price.tiers for extra in (0, 1)]


def times(model: types.ModelInfo, dice: random.Random) -> list[float]:
    """Now, a time long ago, any time, and the seconds around each change of the model's prices."""
    found = [datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 11, 23, 12, tzinfo=UTC)]
    constraints = [variant.constraint for variant in model.price_variants or ()]
    if isinstance(model.prices, list):
        constraints += [period.constraint for period in model.prices]
    for constraint in constraints:
        if isinstance(constraint, types.StartDateConstraint):
            found.append(datetime.combine(constraint.start_date, datetime.min.time(), UTC))
        elif isinstance(constraint, types.TimeOfDateConstraint):
            found += [
                datetime.combine(date(2026, 10, 20), moment)
                for moment in (constraint.start_time, constraint.end_time)
            ]
    edges = [moment.timestamp() + shift for moment in found for shift in (-1, 0, 1)]
    return [*edges, dice.uniform(1.6e9, 1.9e9)]


def contexts(model: types.ModelInfo) -> list[dict[str, str]]:
    asked = [{}, {"service_tier": "flex"}, {"service_tier": "standard", "speed": "standard"}]
    for variant in model.price_variants or ():
        if "processing" in variant.when:
            asked.append({"service_tier": "batch"})
        elif variant.when.keys() <= {"service_tier", "speed"}:
            asked.append(dict(variant.when))
    return asked


def reference(
    provider: types.Provider,
    model: types.ModelInfo,
    counts: dict[str, Any],
    at: float,
    served: dict[str, str],
) -> tuple[float, float, float]:
    if served.get("service_tier") == "batch":
        served = {**served, "processing": "batch"}
    usage = ReferenceUsage(**counts, input_audio_seconds=counts["audio_seconds"])
    answer = model.calc_price(
        usage,
        provider,
        genai_request_timestamp=datetime.fromtimestamp(at, UTC),
        price_context=served,
    )
    return float(answer.total_price), float(answer.input_price), float(answer.output_price)


def names(clause: Any) -> Iterator[str]:
    """Names that a match clause may recognise."""
    for part in getattr(clause, "or_", None) or getattr(clause, "and_", None) or ():
        yield from names(part)
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(clause, kind):
            yield getattr(clause, kind)


def close(ours: float, theirs: float) -> bool:
    return isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def test_the_table_has_every_provider_and_model_in_the_order_of_the_reference():
    table = price_table()
    assert [(provider.id, list(provider.models)) for provider in table.providers.values()] == [
        (provider.id, [model.id for model in provider.models]) for provider in providers
    ]


@pytest.mark.parametrize("identity", IDS)
def test_match_clauses_decide_as_those_of_the_reference(identity: str):
    provider, dice = PROVIDERS[identity], random.Random(identity)
    records = price_table().providers[identity].models
    pool = [name.lower() for model in provider.models for name in names(model.match)]
    tried = dice.sample(pool, min(25, len(pool)))
    tried += [f"{name}-20260131" for name in tried] + [f"x-{name}" for name in tried]
    for model in provider.models:
        clause = records[model.id].get("match", model.id.lower())
        for name in tried:
            assert matches(clause, name) == model.is_match(name), (model.id, name)


@pytest.mark.parametrize("identity", IDS)
def test_names_resolve_to_the_model_that_the_reference_finds(identity: str):
    provider, table = PROVIDERS[identity], price_table()
    for model in provider.models:
        for name in {model.id, *names(model.match)}:
            theirs = provider.find_model(name, all_providers=providers)
            if theirs is not None:
                ours = table.find(identity, name)
                assert ours is not None, name
                assert ours.model.id == theirs.id, name


@pytest.mark.parametrize("identity", IDS)
def test_random_usage_costs_what_the_reference_says(identity: str):
    provider, dice = PROVIDERS[identity], random.Random(identity)
    for model in provider.models:
        known = price_table().model(identity, model.id)
        moments = times(model, dice)
        served = contexts(model)
        for round_ in range(max(ROUNDS, len(moments), len(served))):
            counts = random_counts(dice, sizes(model))
            at = moments[round_] if round_ < len(moments) else dice.choice(moments)
            context = served[round_ % len(served)]
            theirs = reference(provider, model, counts, at, context)
            name = next((n for n in names(model.match) if provider.find_model(n) is model), None)
            if name is None:
                # Another model's rule comes first, so that no name leads to this one.
                ours = known.tariff(at, context).cost(counts, "")
            else:
                ours = price(Usage(provider=identity, model=name, at=at, **context, counts=counts))
            if ours is None:
                assert theirs == (0, 0, 0), (model.id, "sold by units that no call reports")
                continue
            for mine, other in zip((ours.total, ours.input, ours.output), theirs, strict=True):
                assert close(mine, other), (model.id, name, at, context, counts, ours, theirs)
