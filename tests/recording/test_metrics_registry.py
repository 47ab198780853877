"""The metrics beside the registry of the conventions: names, units, buckets and attributes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from agentpulse_instrumentation._engine import recording
from agentpulse_instrumentation._engine.recording import Measure
from fakes.measured import Measured
from fakes.provider import FakeProvider, fails
from fakes.recordings import REGISTRY

pytestmark = pytest.mark.skipif(
    not REGISTRY.is_file(), reason="the registry of the conventions is not on this machine"
)
# What others than instrumentations of clients and agents record.
OTHERS = ("gen_ai.server.", "mcp.")
# The conventions have it for agents that are configured with one model, which nobody reports us.
NOT_KNOWN = {("gen_ai.invoke_agent.duration", "gen_ai.request.model")}
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def registry() -> dict[str, Any]:
    """By metric: the registry's entry, with what OpenAI's refinement adds to the attributes."""
    read = json.loads(REGISTRY.read_text(encoding="utf-8"))
    refined = read["metric_refinements"]["provider openai"]
    for name in refined["applies_to"]:
        read["metrics"][name]["attributes"] |= refined["adds"]
    return {name: metric for name, metric in read["metrics"].items() if not name.startswith(OTHERS)}


def ours() -> dict[str, Measure]:
    found: list[Measure] = []
    for value in vars(recording).values():
        entries = value.values() if isinstance(value, dict) else [value]
        found += [each for each in entries if isinstance(each, Measure)]
    return {measure.name: measure for measure in found}


def test_every_metric_of_the_registry_is_measured_as_it_says(registry: dict[str, Any]) -> None:
    assert ours().keys() == registry.keys()
    for name, measure in ours().items():
        entry = registry[name]
        assert measure.unit == entry["unit"], name
        assert (measure.buckets is None) is (entry["instrument"] == "counter"), name
        assert list(measure.buckets or ()) == entry.get("buckets", []), name
        left_out = {attribute for metric, attribute in NOT_KNOWN if metric == name}
        assert {*measure.attributes} | left_out == entry["attributes"].keys(), name


def test_what_is_recorded_is_what_the_registry_asks_for(
    registry: dict[str, Any], clients: Any, spans: Any, provider: FakeProvider
) -> None:
    measured = Measured()
    instrument(tracer_provider=spans.provider, meter_provider=measured.provider)
    clients.openai.chat.completions.create(**CHAT)
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    list(clients.openai.chat.completions.create(**CHAT, **asked))
    message = {**CHAT, "model": "claude-haiku-4-5", "max_tokens": 9}
    list(clients.anthropic.messages.create(**message, stream=True))
    clients.openai.embeddings.create(model="text-embedding-3-small", input="x")
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        clients.openai.chat.completions.create(**CHAT)

    reported = measured.metrics()
    assert len({metric.name for metric in reported}) == 9
    for metric in reported:
        entry = registry[metric.name]
        required = {
            name for name, each in entry["attributes"].items() if each["level"] == "required"
        }
        assert metric.unit == entry["unit"]
        for point in metric.data.data_points:
            assert required <= point.attributes.keys() <= entry["attributes"].keys(), metric.name
            if "buckets" in entry:
                assert list(point.explicit_bounds) == entry["buckets"], metric.name
