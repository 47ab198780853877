"""The groq client: OpenAI's operations on paths of its own.

Paths as the resources of groq 0.18 to 1.x write them.
"""

from __future__ import annotations

from dataclasses import replace

from agentpulse_instrumentation._engine.client import ClientInstrumentor
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation.openai import _chat as openai
from agentpulse_instrumentation.openai._endpoints import EMBEDDINGS, SPEECH, TRANSCRIPTION

# Streams report their usage without being asked for it, in the last chunk (`x_groq.usage`).
CHAT = replace(openai.CHAT, usage_on_request=False, constants={})


class GroqInstrumentor(ClientInstrumentor):
    """Records every call of the groq client library."""

    library = "groq"
    defining = "groq._base_client"
    supported = "groq >= 0.18.0, < 2"
    routes: Routes = Routes(
        (CHAT, "post", "/openai/v1/chat/completions"),
        (EMBEDDINGS, "post", "/openai/v1/embeddings"),
        (TRANSCRIPTION, "post", "/openai/v1/audio/transcriptions", "/openai/v1/audio/translations"),
        (SPEECH, "post", "/openai/v1/audio/speech"),
    )
