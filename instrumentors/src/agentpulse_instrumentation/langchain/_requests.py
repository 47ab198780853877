"""What LangChain tells of a model and its parameters when a run of it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.hosts import provider_named
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    count,
    double,
    integer,
    text,
    texts,
)

_READERS = {
    semconv.REQUEST_MODEL: (text, "ls_model_name", ("model", "model_name", "model_id")),
    semconv.REQUEST_TEMPERATURE: (double, "ls_temperature", ("temperature",)),
    semconv.REQUEST_MAX_TOKENS: (
        count,
        "ls_max_tokens",
        ("max_completion_tokens", "max_tokens", "max_output_tokens"),
    ),
    semconv.REQUEST_STOP_SEQUENCES: (texts, "ls_stop", ("stop", "stop_sequences")),
    semconv.REQUEST_TOP_P: (double, "", ("top_p",)),
    semconv.REQUEST_TOP_K: (integer, "", ("top_k",)),
    semconv.REQUEST_SEED: (integer, "", ("seed",)),
    semconv.REQUEST_FREQUENCY_PENALTY: (double, "", ("frequency_penalty",)),
    semconv.REQUEST_PRESENCE_PENALTY: (double, "", ("presence_penalty",)),
}
"""How an attribute reads, its name in the run's metadata, and those in the model's parameters."""

_INTERNAL_TAGS = ("seq:", "map:", "graph:", "langsmith:", "condition:", "branch:")


def attributes(about: Mapping[str, Any]) -> Attributes:
    """The request's attributes."""
    metadata, parameters = _dict(about.get("metadata")), _dict(about.get("invocation_params"))
    # A model of the user's own may not say whose it is, but the conventions ask for it.
    provider = text(metadata.get("ls_provider")) or "langchain"
    found: Attributes = {semconv.PROVIDER_NAME: provider_named(provider)}
    for name, (read, hinted, others) in _READERS.items():
        given = (metadata.get(hinted), *(parameters.get(other) for other in others))
        value = next((value for each in given if (value := read(each)) is not None), None)
        if value is not None:
            found[name] = value
    return found


def labels(about: Mapping[str, Any]) -> Attributes:
    """The run's name and tags, where its user gave it any."""
    found: Attributes = {}
    if (name := text(about.get("name"))) is not None:
        found[semconv.RUN_NAME] = name
    tags = [tag for tag in texts(about.get("tags")) or () if not tag.startswith(_INTERNAL_TAGS)]
    if tags:
        found[semconv.RUN_TAGS] = tags
    return found


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
