"""The ways to spell one model: routers, clouds and libraries add prefixes and suffixes to its name.

All names here are in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

# How a model's name is recognised: the match clauses of the price table.
#
# A clause is a text (the name is exactly this), a list (any of its clauses), or an object that says
# what it is: `{"starts_with": …}`, `{"ends_with": …}`, `{"contains": …}`, `{"regex": …}`, `{"and":
# [clause, …]}`.

Clause: TypeAlias = "str | Sequence[Clause] | Mapping[str, str | Sequence[Clause]]"


def matches(clause: Clause, name: str) -> bool:
    """Whether the clause recognises the name, which is in lower case."""
    if isinstance(clause, str):
        return name == clause
    if isinstance(clause, Mapping):
        return all(_holds(kind, value, name) for kind, value in clause.items())
    return any(matches(part, name) for part in clause)


def _holds(kind: str, value: str | Sequence[Clause], name: str) -> bool:
    if not isinstance(value, str):
        return all(matches(part, name) for part in value)
    if kind == "starts_with":
        return name.startswith(value)
    if kind == "ends_with":
        return name.endswith(value)
    if kind == "contains":
        return value in name
    return re.search(value, name) is not None


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


def spellings(name: str) -> Iterator[str]:
    """The name as it is, then ever barer: without path, without cloud, without date."""
    last = name
    for last in _bare(name):
        yield last
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", last)
        if dashed != last:
            yield dashed
    if "@" in last:
        yield last.replace("@", "-")
    undated = _DATE.sub("", last)
    if undated != last:
        yield undated
    if undated.startswith("gpt-35"):
        # Azure spells it so, because its deployments can't have a dot in their names.
        yield undated.replace("gpt-35", "gpt-3.5")


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
    yield name
    unversioned = _BEDROCK_VERSION.sub("", name)
    if unversioned != name:
        yield unversioned


def cloud_of(name: str) -> str | None:
    """The id of the cloud whose way of naming models this is, or `None`."""
    if name.startswith("arn:aws") or _BEDROCK.match(name):
        return "aws"
    if name.startswith(("publishers/", "projects/")):
        return "google"
    return None


# Which provider of the price table is meant by a provider's name in telemetry.
#
# The GenAI conventions, the tracing libraries and LiteLLM spell the same provider in different
# ways.

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
