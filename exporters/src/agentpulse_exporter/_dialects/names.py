"""The names that other instrumentations have for the attributes of the current GenAI conventions.

Earlier names of the conventions, and those of OpenLLMetry, OpenLIT, OpenInference, Langfuse,
Logfire, MLflow and Vercel's AI SDK. A name with more dots than its attribute is a field of the JSON
object that the attribute holds (`OBJECTS`).
"""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv

_RAW = "gen_ai.usage.raw"
_COUNT = "llm.token_count"
_LANGFUSE = "langfuse.observation.usage_details"
_MLFLOW = "mlflow.chat.tokenUsage"
_TRACELOOP = "traceloop.association.properties"

OBJECTS = (
    *("llm.invocation_parameters", "embedding.invocation_parameters", _RAW, _LANGFUSE, _MLFLOW),
    *("langfuse.observation.cost_details", "mlflow.llm.cost"),
)
"""The attributes that hold a JSON object of figures or parameters."""

NAMES: dict[str, tuple[str, ...]] = {
    semconv.PROVIDER_NAME: (
        *("gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"),
        "mlflow.llm.provider",
    ),
    semconv.REQUEST_MODEL: (
        # Where a call failed, its model is among its parameters alone.
        *("llm.invocation_parameters.model", "embedding.invocation_parameters.model"),
        *("llm.request.model_name", "llm.model_name"),
        *("embedding.model_name", "reranker.model_name", "langfuse.observation.model.name"),
        *("mlflow.llm.model", "ai.model.id"),
    ),
    semconv.RESPONSE_MODEL: (
        *("llm.response.model_name", "llm.model_name", "embedding.model_name"),
        *("langfuse.observation.model.name", "mlflow.llm.model", "ai.response.model"),
    ),
    semconv.RESPONSE_ID: ("ai.response.id",),
    semconv.RESPONSE_FINISH_REASONS: (
        *("llm.finish_reason", "langfuse.observation.metadata.finish_reason"),
        *("ai.response.finishReason", semconv.ANTHROPIC_STOP_REASON),
    ),
    semconv.REQUEST_STREAM: (
        *("gen_ai.is_streaming", "llm.is_streaming", "llm.invocation_parameters.stream"),
    ),
    semconv.USAGE_INPUT_TOKENS: (
        *("gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", f"{_COUNT}.prompt"),
        *(f"{_LANGFUSE}.prompt_tokens", f"{_LANGFUSE}.input_tokens", f"{_LANGFUSE}.input"),
        f"{_MLFLOW}.input_tokens",
        *("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
    ),
    semconv.USAGE_OUTPUT_TOKENS: (
        *("gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", f"{_COUNT}.completion"),
        *(f"{_LANGFUSE}.completion_tokens", f"{_LANGFUSE}.output_tokens", f"{_LANGFUSE}.output"),
        *(f"{_MLFLOW}.output_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens"),
    ),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: (
        "gen_ai.usage.cache_read_input_tokens",
        *(f"{_RAW}.prompt_tokens_details.cached_tokens", f"{_RAW}.cache_read_input_tokens"),
        *(f"{_RAW}.input_tokens_details.cached_tokens", f"{_COUNT}.prompt_details.cache_read"),
        *(f"{_LANGFUSE}.cache_read_input_tokens", f"{_LANGFUSE}.input_cached_tokens"),
        *(f"{_LANGFUSE}.input_cache_read", f"{_LANGFUSE}.cache_read"),
        f"{_LANGFUSE}.prompt_tokens_details.cached_tokens",
        f"{_LANGFUSE}.input_tokens_details.cached_tokens",
        *(f"{_MLFLOW}.cache_read_input_tokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        "ai.usage.cachedInputTokens",
    ),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
        *(f"{_RAW}.cache_creation_input_tokens", f"{_COUNT}.prompt_details.cache_write"),
        *(f"{_LANGFUSE}.cache_creation_input_tokens", f"{_LANGFUSE}.input_cache_creation"),
        *(f"{_LANGFUSE}.cache_creation", f"{_LANGFUSE}.cache_write"),
        *(f"{_MLFLOW}.cache_creation_input_tokens", "ai.usage.inputTokenDetails.cacheWriteTokens"),
    ),
    semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS: (f"{_RAW}.cache_creation.ephemeral_5m_input_tokens",),
    semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS: (f"{_RAW}.cache_creation.ephemeral_1h_input_tokens",),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        *("gen_ai.usage.reasoning_tokens", "gen_ai.usage.details.reasoning_tokens"),
        f"{_RAW}.completion_tokens_details.reasoning_tokens",
        f"{_RAW}.output_tokens_details.reasoning_tokens",
        f"{_COUNT}.completion_details.reasoning",
        f"{_LANGFUSE}.completion_tokens_details.reasoning_tokens",
        f"{_LANGFUSE}.output_tokens_details.reasoning_tokens",
        "ai.usage.reasoningTokens",
    ),
    semconv.USAGE_AUDIO_INPUT_TOKENS: (f"{_COUNT}.prompt_details.audio",),
    semconv.USAGE_AUDIO_OUTPUT_TOKENS: (f"{_COUNT}.completion_details.audio",),
    semconv.OPENAI_RESPONSE_SERVICE_TIER: ("gen_ai.openai.response.service_tier",),
    semconv.OPENAI_REQUEST_SERVICE_TIER: ("gen_ai.openai.request.service_tier",),
    semconv.COST_FALLBACK: (
        *("gen_ai.usage.cost", "operation.cost", "llm.cost.total"),
        *("langfuse.observation.cost_details.total", "mlflow.llm.cost.total_cost"),
    ),
    semconv.SESSION_ID: (
        *("gen_ai.session.id", f"{_TRACELOOP}.session_id", f"{_TRACELOOP}.thread_id"),
        *("gen_ai.conversation.id", "langfuse.trace.session_id", "mlflow.trace.session"),
        *("ai.telemetry.metadata.sessionId", "ai.settings.context.sessionId"),
    ),
    semconv.USER_ID: (
        *("gen_ai.user.id", "gen_ai.request.user", f"{_TRACELOOP}.user_id", "enduser.id"),
        *("gen_ai.user", "langfuse.trace.user_id", "mlflow.trace.user"),
        *("ai.telemetry.metadata.userId", "ai.settings.context.userId"),
    ),
    semconv.TOOL_NAME: ("tool.name", "ai.toolCall.name"),
    semconv.AGENT_NAME: ("agent.name",),
}
"""The current name, and the others' names for the same thing, the best one first."""

KINDS = (
    *("llm.request.type", "openinference.span.kind", "langfuse.observation.type"),
    *("mlflow.spanType", "traceloop.span.kind"),
)
"""The attributes that hold the kind of a span."""
OPERATIONS = {
    "AGENT": "invoke_agent",
    "CHAT": "chat",
    "CHAT_MODEL": "chat",
    "COMPLETION": "text_completion",
    "EMBEDDING": "embeddings",
    "GENERATION": "chat",
    "LLM": "chat",
    "RETRIEVER": "retrieval",
    "TOOL": "execute_tool",
    "WORKFLOW": "invoke_workflow",
}
"""Operations by kind. Chains, guardrails, evaluators and rerankers are none."""

# Messages: spread over attributes such as `gen_ai.prompt.0.content`, or in one, as text or JSON.
REQUESTS = (
    *("traceloop.entity.input", "input.value", "langfuse.observation.input", "mlflow.spanInputs"),
    *("ai.prompt.messages", "ai.toolCall.args"),
)
ANSWERS = (
    *("traceloop.entity.output", "output.value", "langfuse.observation.output"),
    *("mlflow.spanOutputs", "ai.response.text", "ai.toolCall.result"),
)
MESSAGES = {
    semconv.INPUT_MESSAGES: ("user", ("gen_ai.prompt.", "llm.input_messages."), REQUESTS),
    semconv.OUTPUT_MESSAGES: ("assistant", ("gen_ai.completion.", "llm.output_messages."), ANSWERS),
}
"""The current name, the role of text without one, the starts of names, and the names."""
