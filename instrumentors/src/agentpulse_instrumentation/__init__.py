"""OpenTelemetry instrumentation of LLM client libraries, by the GenAI semantic conventions.

`instrument()` instruments every supported library that is installed; nothing is imported for it.
An instrumentor of one's own is a `LibraryInstrumentor` whose patches call `begin`.
"""

from __future__ import annotations

from agentpulse_instrumentation._engine.body import Table
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.invocation import Invocation, begin
from agentpulse_instrumentation._engine.operation import Accumulator, InputContent, Operation
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation._engine.stream import Observer, aobserved, observed
from agentpulse_instrumentation.anthropic import AnthropicInstrumentor
from agentpulse_instrumentation.groq import GroqInstrumentor
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
    "Accumulator",
    "AnthropicInstrumentor",
    "GroqInstrumentor",
    "InputContent",
    "Invocation",
    "LangChainInstrumentor",
    "LibraryInstrumentor",
    "LiteLLMInstrumentor",
    "Observer",
    "OpenAIInstrumentor",
    "Operation",
    "Patches",
    "Recording",
    "Table",
    "aobserved",
    "begin",
    "instrument",
    "not_recorded",
    "observed",
    "uninstrument",
]
