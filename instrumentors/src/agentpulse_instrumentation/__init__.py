"""OpenTelemetry instrumentation of LLM client libraries, by the GenAI semantic conventions.

`instrument()` instruments every supported library that is installed; nothing is imported for it.
"""

from __future__ import annotations

from agentpulse_instrumentation.anthropic import AnthropicInstrumentor
from agentpulse_instrumentation.langchain import LangChainInstrumentor
from agentpulse_instrumentation.litellm import LiteLLMInstrumentor
from agentpulse_instrumentation.openai import OpenAIInstrumentor
from agentpulse_instrumentation.registry import (
    INSTRUMENTORS,
    instrument,
    not_recorded,
    uninstrument,
)

__all__ = [
    "INSTRUMENTORS",
    "AnthropicInstrumentor",
    "LangChainInstrumentor",
    "LiteLLMInstrumentor",
    "OpenAIInstrumentor",
    "instrument",
    "not_recorded",
    "uninstrument",
]
