"""Who answers a call: the one table of providers, by address and by other libraries' names.

OpenAI-compatible hosts are reached with the openai client, and some offer Anthropic's API too, so
the address counts more than the client library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.operation import Attributes


class Host(NamedTuple):
    """The server side of a client.

    Attributes:
        provider: None where it isn't known by the address.
        reports_usage_on_request: Whether chat streams have their usage when asked.
    """

    address: str | None = None
    port: int | None = None
    provider: str | None = None
    reports_usage_on_request: bool = False

    @property
    def attributes(self) -> Attributes:
        """Where a span's request went."""
        if self.address is None or self.port is None:
            return {}
        return {semconv.SERVER_ADDRESS: self.address, semconv.SERVER_PORT: self.port}


# By the name of the conventions: how the names of its hosts end, and its other names: those of
# LiteLLM (https://docs.litellm.ai/docs/providers), of LangChain (`ls_provider`), and of other
# tracing libraries. The exporter has the same names for the spans of others; a test compares them.
_PROVIDERS: Mapping[str, tuple[str, str]] = {
    "ai21": ("", "ai21_chat"),
    "anthropic": ("api.anthropic.com", "anthropic_text"),
    "aws.bedrock": (
        "amazonaws.com api.aws",
        "amazon amazon_bedrock aws aws_bedrock bedrock bedrock_converse",
    ),
    "aws.sagemaker": ("", "sagemaker sagemaker_chat"),
    "azure.ai.inference": ("inference.ai.azure.com", "az.ai.inference azure_ai"),
    "azure.ai.openai": (
        "openai.azure.com cognitiveservices.azure.com services.ai.azure.com",
        "az.ai.openai azure azure_openai azure_text",
    ),
    "cerebras": ("api.cerebras.ai", ""),
    "cloudflare": ("api.cloudflare.com", ""),
    "cohere": ("api.cohere.com api.cohere.ai", "cohere_chat"),
    "crusoe": ("inference.crusoecloud.com", ""),
    "databricks": ("azuredatabricks.net cloud.databricks.com", ""),
    "deepseek": ("api.deepseek.com", ""),
    "fireworks": ("api.fireworks.ai", "fireworks-ai fireworks_ai"),
    "gcp.gemini": ("generativelanguage.googleapis.com", "gemini google google-gla google_genai"),
    "gcp.vertex_ai": (
        "aiplatform.googleapis.com",
        "google-vertex google_vertexai vertex_ai vertex_ai_beta vertexai",
    ),
    "github": ("models.github.ai", ""),
    "groq": ("api.groq.com", ""),
    "huggingface": ("router.huggingface.co", ""),
    "ibm.watsonx.ai": ("ml.cloud.ibm.com", "ibm watsonx watsonx_text"),
    "mistral_ai": ("api.mistral.ai", "codestral mistral mistralai text-completion-codestral"),
    "moonshot_ai": ("api.moonshot.ai api.moonshot.cn", "moonshot"),
    "nvidia": ("integrate.api.nvidia.com", "nvidia_nim"),
    "ollama": ("ollama.com", "ollama_chat"),
    "openai": ("api.openai.com chatgpt.com", ""),
    "openrouter": ("openrouter.ai", ""),
    "perplexity": ("api.perplexity.ai", "perplexity_ai"),
    "snowflake": ("snowflakecomputing.com", ""),
    "together": ("api.together.xyz api.together.ai", "together.ai together_ai"),
    "voyageai": ("api.voyageai.com", "voyage"),
    "writer": ("api.writer.com", ""),
    "x_ai": ("api.x.ai", "xai"),
    "zai": ("api.z.ai", "z.ai z_ai"),
}
_HOSTS: dict[str, str] = {}
_NAMES: dict[str, str] = {}
for _name, (_hosts, _others) in _PROVIDERS.items():
    _HOSTS.update(dict.fromkeys(_hosts.split(), _name))
    _NAMES.update(dict.fromkeys(_others.split(), _name))
# Hosts whose chat streams report their usage if the openai client asks by
# `stream_options.include_usage` (operations with `usage_on_request=False` never ask). Only those
# whose API reference documents it, for an unknown parameter could be refused, and none that sends
# the usage unasked in a chunk of its own (OpenRouter, Together): the caller is to see that.
_REPORTING = {
    *("api.openai.com", "api.deepseek.com", "api.groq.com", "api.x.ai", "api.fireworks.ai"),
    *("api.cerebras.ai", "api.moonshot.ai", "api.moonshot.cn"),
}
_OLLAMA_PORT = 11434


def host_at(url: str) -> Host:
    """The host of an address."""
    parts = urlsplit(url)
    name = parts.hostname
    if name is None:
        return Host()
    port = parts.port or (80 if parts.scheme == "http" else 443)
    if name.endswith("services.ai.azure.com") and parts.path.startswith("/models"):
        return Host(name, port, "azure.ai.inference")
    if name.endswith(".openai.azure.com") and parts.path.startswith("/openai/v1"):
        # The versionless API has the parameter; the dated ones got it at dates of their own.
        return Host(name, port, "azure.ai.openai", reports_usage_on_request=True)
    labels = name.split(".")
    for end in (".".join(labels[first:]) for first in range(len(labels))):
        if end in _HOSTS:
            return Host(name, port, _HOSTS[end], end in _REPORTING)
    return Host(name, port, "ollama" if port == _OLLAMA_PORT else None)


def provider_named(name: str) -> str:
    """The conventions' name of a provider that a library calls `name`."""
    return _NAMES.get(name.lower(), name)
