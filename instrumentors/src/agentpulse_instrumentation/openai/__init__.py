"""The openai client: which of its requests are which operations.

Paths as the resources of openai 1.66 to 3.x write them. `beta.*`, `parse`, the `stream()` helpers,
the raw and streaming variants and the Azure clients use the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_instrumentation._engine.client import ClientInstrumentor
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation.openai import _endpoints as endpoints
from agentpulse_instrumentation.openai._chat import CHAT, COMPLETION
from agentpulse_instrumentation.openai._responses import COMPACTION, FETCH_RESPONSE, RESPONSE


class OpenAIInstrumentor(ClientInstrumentor):
    """Records every call of the openai client library, to OpenAI and to compatible hosts."""

    library = "openai"
    defining = "openai._base_client"
    supported = "openai >= 1.66.0, < 4"
    clouds: Mapping[str, str] = {"AzureOpenAI": "azure.ai.openai", "BedrockOpenAI": "aws.bedrock"}
    routes: Routes = Routes(
        (CHAT, "post", "/chat/completions"),
        (RESPONSE, "post", "/responses"),
        (COMPACTION, "post", "/responses/compact"),
        (FETCH_RESPONSE, "get", "/responses/{id}"),
        (COMPLETION, "post", "/completions"),
        (endpoints.EMBEDDINGS, "post", "/embeddings"),
        (endpoints.IMAGE, "post", "/images/generations", "/images/edits", "/images/variations"),
        (endpoints.TRANSCRIPTION, "post", "/audio/transcriptions", "/audio/translations"),
        (endpoints.SPEECH, "post", "/audio/speech"),
        (endpoints.MODERATION, "post", "/moderations"),
    )
