"""Which provider of the price table is meant by a provider's name in telemetry.

The GenAI conventions, the tracing libraries and LiteLLM spell the same provider in different ways.
"""

from __future__ import annotations

from agentpulse_exporter.pricing.clauses import Clause, matches

_ALIASES = {
    "amazon": "aws",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gcp": "google",
    "gcp.gen_ai": "google",
    "palm": "google",
    "perplexity_ai": "perplexity",
    "together.ai": "together",
    "together_ai": "together",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "z.ai": "zai",
    "z_ai": "zai",
    "zhipu": "zhipuai",
}

_GATEWAYS = {
    "_other",
    "langchain",
    "litellm",
    "litellm_proxy",
    "llamaindex",
    "other",
    "portkey",
    "unknown",
    "vercel",
}

MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "deepseek",
    "x-ai",
    "perplexity",
    "moonshotai",
    "zai",
)
"""Those who sell their own models: where nothing but the model's name is known, it is theirs."""

OPEN = frozenset({"openai", "anthropic", "azure", "aws", "google"})
"""Names that don't bind the model. Clouds sell many makers' models; and a server that speaks the
protocol of OpenAI or Anthropic is reached with their clients and may go by their names."""


def is_gateway(name: str) -> bool:
    """Whether the name, in lower case, is that of a layer that sells no models itself."""
    return name in _GATEWAYS


def provider_id(name: str, known: dict[str, Clause | None]) -> str | None:
    """The id of the provider called `name` (in lower case), among ids with their clauses."""
    if name.startswith(("azure", "az.")):
        return "azure"
    name = _ALIASES.get(name, name)
    if name in known:
        return name
    for identity, clause in known.items():
        if clause is not None and matches(clause, name):
            return identity
    return None
