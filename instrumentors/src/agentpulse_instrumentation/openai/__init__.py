"""The openai client: which of its requests are which operations.

Paths as the resources of openai 1.66 to 3.x write them. `beta.*`, `parse`, the `stream()` helpers,
the raw and streaming variants and the Azure clients use the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_instrumentation._engine.client import ClientInstrumentor
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation.openai._chat import CHAT, COMPLETION
from agentpulse_instrumentation.openai._endpoints import (
    EMBEDDINGS,
    IMAGE,
    MODERATION,
    SPEECH,
    TRANSCRIPTION,
)
from agentpulse_instrumentation.openai._responses import COMPACTION, FETCH_RESPONSE, RESPONSE


class OpenAIInstrumentor(ClientInstrumentor):
    """Records every call of the openai client library, to OpenAI and to compatible hosts."""

    library = "openai"
    defining = "openai._base_client"
    supported = "openai >= 1.66.0, < 4"
    clouds: Mapping[str, str] = {"AzureOpenAI": "azure.ai.openai", "BedrockOpenAI": "aws.bedrock"}
    routes: Routes = Routes(
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
