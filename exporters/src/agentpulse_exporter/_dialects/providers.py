"""The names of providers: each by its name in the GenAI conventions, whatever spelling it has.

A provider that the conventions don't name has the name that AgentPulse's instrumentors give it.
"""

from __future__ import annotations

import re

_SPELLINGS = {
    "ai21": ("ai21_chat",),
    "anthropic": ("anthropic_text",),
    "aws.bedrock": ("amazon", "amazon_bedrock", "aws", "bedrock", "bedrock_converse"),
    "aws.sagemaker": ("amazon_sagemaker", "sagemaker", "sagemaker_chat"),
    "azure.ai.inference": ("az_ai_inference", "azure_ai"),
    "azure.ai.openai": ("az_ai_openai", "azure", "azure_openai", "azure_text"),
    "cohere": ("cohere_ai", "cohere_chat"),
    "fireworks": ("fireworks_ai",),
    "gcp.gemini": ("gemini", "google", "google_ai", "google_gemini", "google_genai", "google_gla"),
    "gcp.gen_ai": ("gcp", "palm"),
    "gcp.vertex_ai": (
        *("google_vertex", "google_vertex_ai", "google_vertexai"),
        *("vertex", "vertex_ai", "vertex_ai_beta", "vertexai"),
    ),
    "huggingface": ("hugging_face",),
    "ibm.watsonx.ai": ("ibm", "watsonx", "watsonx_ai", "watsonx_text"),
    "mistral_ai": ("codestral", "mistral", "mistralai", "text_completion_codestral"),
    "moonshot_ai": ("moonshot", "moonshotai"),
    "nvidia": ("nvidia_nim",),
    "ollama": ("ollama_chat",),
    "perplexity": ("perplexity_ai",),
    "together": ("together_ai", "togetherai"),
    "voyageai": ("voyage", "voyage_ai"),
    "x_ai": ("xai",),
    "zai": ("z_ai",),
    "zhipuai": ("zhipu",),
}
"""Other spellings by name, in lower case; dots, blanks and dashes as underscores."""
_SEPARATORS = re.compile(r"[\s./-]+")


def _key(name: str) -> str:
    return _SEPARATORS.sub("_", name)


_NAMES = {_key(each): name for name, others in _SPELLINGS.items() for each in (name, *others)}


def provider_name(spelling: str) -> str:
    """The one name of a provider; one that isn't in the table keeps its own, in lower case."""
    spelling = spelling.strip().lower()
    return _NAMES.get(_key(spelling), spelling)
