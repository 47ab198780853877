"""Who answers a call: the one table of providers' names, by address and by other libraries' names.

OpenAI-compatible hosts are reached with the openai client, and some offer Anthropic's API too, so
the address counts more than the client library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from weakref import ref

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.operation import Attributes


@dataclass(frozen=True, slots=True)
class Host:
    """The server side of a client.

    Attributes:
        provider: None where it isn't known by the address.
        reports_usage_on_request: Whether chat streams have their usage when asked.
    """

    address: str | None
    port: int | None
    provider: str | None
    reports_usage_on_request: bool

    @property
    def attributes(self) -> Attributes:
        """Where a span's request went."""
        if self.address is None or self.port is None:
            return {}
        return {semconv.SERVER_ADDRESS: self.address, semconv.SERVER_PORT: self.port}


class Servers:
    """The servers of the clients seen so far."""

    __slots__ = ("_known", "_provider")

    def __init__(self, provider: Callable[[Any, Host], str]) -> None:
        """`provider` names the provider of a client at a host."""
        self._provider = provider
        # By identity: a client of somebody's own class may have no hash.
        self._known: dict[int, tuple[ref[object], object, Host, Attributes]] = {}

    def of(self, client: Any, url: str) -> tuple[Host, Attributes]:
        """The server that a request of `client` to `url` goes to, and its attributes."""
        if url.startswith(("http://", "https://")):
            return self._read(client, url)
        base_url = client._base_url  # noqa: SLF001  # the property computes it anew in some
        key = id(client)
        known = self._known.get(key)
        # A client's base URL can be set anew; then the object is another one.
        if known is None or known[0]() is not client or known[1] is not base_url:
            alive = ref(client, lambda _: self._known.pop(key, None))
            known = self._known[key] = (alive, base_url, *self._read(client, str(base_url)))
        return known[2], known[3]

    def _read(self, client: Any, url: str) -> tuple[Host, Attributes]:
        host = host_at(url)
        return host, {semconv.PROVIDER_NAME: self._provider(client, host), **host.attributes}


# By the end of the host name: (provider, whether chat streams report their usage when asked by
# `stream_options.include_usage`). The flag is set only where the provider's API reference documents
# it, as an unknown parameter could be refused, and never where the usage comes by itself
# (OpenRouter, Together): that is the caller's to see.
_PROVIDERS: dict[str, tuple[str, bool]] = {
    "api.openai.com": ("openai", True),
    "chatgpt.com": ("openai", False),
    "openai.azure.com": ("azure.ai.openai", False),
    "cognitiveservices.azure.com": ("azure.ai.openai", False),
    "services.ai.azure.com": ("azure.ai.openai", False),
    "inference.ai.azure.com": ("azure.ai.inference", False),
    "api.anthropic.com": ("anthropic", False),
    "api.deepseek.com": ("deepseek", True),
    "api.groq.com": ("groq", True),
    "api.mistral.ai": ("mistral_ai", False),
    "api.x.ai": ("x_ai", True),
    "api.perplexity.ai": ("perplexity", False),
    "openrouter.ai": ("openrouter", False),
    "api.together.xyz": ("together", False),
    "api.together.ai": ("together", False),
    "api.fireworks.ai": ("fireworks", True),
    "api.cerebras.ai": ("cerebras", True),
    "api.moonshot.ai": ("moonshot_ai", True),
    "api.moonshot.cn": ("moonshot_ai", True),
    "api.cohere.com": ("cohere", False),
    "api.cohere.ai": ("cohere", False),
    "generativelanguage.googleapis.com": ("gcp.gemini", False),
    "aiplatform.googleapis.com": ("gcp.vertex_ai", False),
    "amazonaws.com": ("aws.bedrock", False),
    "api.aws": ("aws.bedrock", False),
    "ml.cloud.ibm.com": ("ibm.watsonx.ai", False),
    "ollama.com": ("ollama", False),
    "router.huggingface.co": ("huggingface", False),
    "azuredatabricks.net": ("databricks", False),
    "cloud.databricks.com": ("databricks", False),
    "snowflakecomputing.com": ("snowflake", False),
    "api.cloudflare.com": ("cloudflare", False),
    "integrate.api.nvidia.com": ("nvidia", False),
    "models.github.ai": ("github", False),
    "api.z.ai": ("zai", False),
    "api.writer.com": ("writer", False),
    "api.voyageai.com": ("voyageai", False),
    "inference.crusoecloud.com": ("crusoe", False),
}
# The other names of providers, by the names of the conventions: those of LiteLLM
# (https://docs.litellm.ai/docs/providers), of LangChain (`ls_provider`), and of other tracing
# libraries. The exporter has the same table for the spans of others; a test compares them.
_NAMES: dict[str, str] = {
    "ai21_chat": "ai21",
    "amazon": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "anthropic_text": "anthropic",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "nvidia_nim": "nvidia",
    "ollama_chat": "ollama",
    "perplexity_ai": "perplexity",
    "sagemaker": "aws.sagemaker",
    "sagemaker_chat": "aws.sagemaker",
    "text-completion-codestral": "mistral_ai",
    "together.ai": "together",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "voyage": "voyageai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
    "z.ai": "zai",
    "z_ai": "zai",
}
_OLLAMA_PORT = 11434
_UNKNOWN = Host(None, None, None, reports_usage_on_request=False)


def host_at(url: str) -> Host:
    """The host of an address."""
    parts = urlsplit(url)
    name = parts.hostname
    if name is None:
        return _UNKNOWN
    port = parts.port or (80 if parts.scheme == "http" else 443)
    provider, reports_usage = _provider(name, port, parts.path)
    return Host(name, port, provider, reports_usage)


def _provider(name: str, port: int, path: str) -> tuple[str | None, bool]:
    if name.endswith("services.ai.azure.com") and path.startswith("/models"):
        return "azure.ai.inference", False
    if name.endswith(".openai.azure.com") and path.startswith("/openai/v1"):
        # The versionless API has the parameter; the dated ones got it at dates of their own.
        return "azure.ai.openai", True
    labels = name.split(".")
    for first in range(len(labels)):
        found = _PROVIDERS.get(".".join(labels[first:]))
        if found is not None:
            return found
    return ("ollama" if port == _OLLAMA_PORT else None), False


def provider_named(name: str) -> str:
    """The conventions' name of a provider that a library calls `name`."""
    return _NAMES.get(name.lower(), name)


def class_provider(client: object, by_class_name: dict[str, str], default: str) -> str:
    """The provider that a client's class stands for, where its address is of none."""
    for base in type(client).__mro__:
        found = by_class_name.get(base.__name__)
        if found is not None:
            return found
    declared = getattr(type(client), "_gen_ai_provider_name", None)
    return declared if isinstance(declared, str) else default
