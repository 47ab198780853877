"""The openai client: which of its requests are which operations.

Paths as the resources of openai 1.66 to 3.x write them. `beta.*`, `parse`, the `stream()` helpers,
the raw and streaming variants and the Azure clients use the same ones.
"""

from __future__ import annotations

from typing import Any

from agentpulse_instrumentation._engine.client import ClientInstrumentor, Family
from agentpulse_instrumentation._engine.hosts import Host, class_provider
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation.openai._chat import CHAT, COMPLETION
from agentpulse_instrumentation.openai._media import (
    EMBEDDINGS,
    IMAGE,
    MODERATION,
    SPEECH,
    TRANSCRIPTION,
)
from agentpulse_instrumentation.openai._responses import COMPACTION, FETCH_RESPONSE, RESPONSE

ROUTES = Routes(
    (
        ("post", "/chat/completions", CHAT),
        ("post", "/responses", RESPONSE),
        ("post", "/responses/compact", COMPACTION),
        ("get", "/responses/{id}", FETCH_RESPONSE),
        ("post", "/completions", COMPLETION),
        ("post", "/embeddings", EMBEDDINGS),
        ("post", "/images/generations", IMAGE),
        ("post", "/images/edits", IMAGE),
        ("post", "/images/variations", IMAGE),
        ("post", "/audio/transcriptions", TRANSCRIPTION),
        ("post", "/audio/translations", TRANSCRIPTION),
        ("post", "/audio/speech", SPEECH),
        ("post", "/moderations", MODERATION),
    )
)

_CLASSES = {
    "AzureOpenAI": "azure.ai.openai",
    "AsyncAzureOpenAI": "azure.ai.openai",
    "BedrockOpenAI": "aws.bedrock",
    "AsyncBedrockOpenAI": "aws.bedrock",
}


def _provider(client: Any, host: Host) -> str:
    return host.provider or class_provider(client, _CLASSES, "openai")


class OpenAIInstrumentor(ClientInstrumentor):
    """Records every call of the openai client library, to OpenAI and to compatible hosts."""

    library = "openai"
    defining = "openai._base_client"
    supported = "openai >= 1.66.0, < 4"
    family: Family = Family(ROUTES, _provider)
