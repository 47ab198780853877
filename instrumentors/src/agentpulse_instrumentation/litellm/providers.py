"""Who answers a call of LiteLLM: its names of providers, as the GenAI conventions have them."""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_instrumentation.hosts import Host

# Where the two say the same (`anthropic`, `groq`, `deepseek`, `perplexity`, …) nothing is listed.
# LiteLLM's names: https://docs.litellm.ai/docs/providers.
_NAMES: Mapping[str, str] = {
    "ai21_chat": "ai21",
    "anthropic_text": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "github_copilot": "github",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "nvidia_nim": "nvidia",
    "ollama_chat": "ollama",
    "sagemaker": "aws.sagemaker",
    "sagemaker_chat": "aws.sagemaker",
    "text-completion-codestral": "mistral_ai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "voyage": "voyageai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
# With these, LiteLLM is told to speak OpenAI's protocol to whoever is at the address.
_PROTOCOLS = ("openai", "text-completion-openai", "custom_openai", "openai_like")
UNKNOWN = "litellm"
"""For calls that failed before LiteLLM knew whom to ask."""


def provider_name(name: object, host: Host) -> str:
    """`gen_ai.provider.name` of what LiteLLM calls `name`, at a host."""
    if not isinstance(name, str) or not name:
        return host.provider or UNKNOWN
    if name in _PROTOCOLS:
        return host.provider or "openai"
    return _NAMES.get(name, name)
