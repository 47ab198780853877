"""The names that other instrumentations have for the attributes of the current GenAI conventions.

Earlier names of the conventions, and those of OpenLLMetry, OpenLIT, OpenInference, Langfuse,
Logfire, MLflow and Vercel's AI SDK.
"""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv

_LANGFUSE = "langfuse.observation"
_TRACELOOP = "traceloop.association.properties"

OBJECTS = {
    **dict.fromkeys(("llm.invocation_parameters", "embedding.invocation_parameters"), "parameters"),
    **dict.fromkeys(("gen_ai.usage.raw", "mlflow.chat.tokenUsage"), "usage"),
    **dict.fromkeys((f"{_LANGFUSE}.cost_details", "mlflow.llm.cost"), "cost"),
    f"{_LANGFUSE}.usage_details": "usage",
}
"""The attributes that hold a JSON object of figures or parameters, and the part of the names in
`NAMES` before the fields of these objects, at any depth."""

NAMES = {
    semconv.PROVIDER_NAME: "gen_ai.system llm.provider llm.system ai.model.provider"
    " mlflow.llm.provider",
    # Where a call failed, its model is among its parameters alone.
    semconv.REQUEST_MODEL: "parameters.model llm.request.model_name llm.model_name"
    f" embedding.model_name reranker.model_name {_LANGFUSE}.model.name mlflow.llm.model"
    " ai.model.id",
    semconv.RESPONSE_MODEL: "llm.response.model_name llm.model_name embedding.model_name"
    f" {_LANGFUSE}.model.name mlflow.llm.model ai.response.model",
    semconv.RESPONSE_ID: "ai.response.id",
    semconv.RESPONSE_FINISH_REASONS: f"llm.finish_reason {_LANGFUSE}.metadata.finish_reason"
    f" ai.response.finishReason {semconv.ANTHROPIC_STOP_REASON}",
    semconv.REQUEST_STREAM: "gen_ai.is_streaming llm.is_streaming parameters.stream",
    semconv.USAGE_INPUT_TOKENS: "gen_ai.usage.prompt_tokens llm.usage.prompt_tokens"
    " llm.token_count.prompt usage.prompt_tokens usage.input_tokens usage.input"
    " ai.usage.inputTokens ai.usage.promptTokens ai.usage.tokens",
    semconv.USAGE_OUTPUT_TOKENS: "gen_ai.usage.completion_tokens llm.usage.completion_tokens"
    " llm.token_count.completion usage.completion_tokens usage.output_tokens usage.output"
    " ai.usage.outputTokens ai.usage.completionTokens",
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: "gen_ai.usage.cache_read_input_tokens"
    " llm.token_count.prompt_details.cache_read usage.cached_tokens usage.cache_read_input_tokens"
    " usage.input_cached_tokens usage.input_cache_read usage.cache_read"
    " ai.usage.inputTokenDetails.cacheReadTokens ai.usage.cachedInputTokens",
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: "gen_ai.usage.cache_creation.input_tokens"
    " gen_ai.usage.cache_creation_input_tokens llm.token_count.prompt_details.cache_write"
    " usage.cache_creation_input_tokens usage.input_cache_creation usage.cache_creation"
    " usage.cache_write ai.usage.inputTokenDetails.cacheWriteTokens",
    semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS: "usage.ephemeral_5m_input_tokens",
    semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS: "usage.ephemeral_1h_input_tokens",
    semconv.USAGE_REASONING_OUTPUT_TOKENS: "gen_ai.usage.reasoning_tokens"
    " gen_ai.usage.details.reasoning_tokens llm.token_count.completion_details.reasoning"
    " usage.reasoning_tokens ai.usage.reasoningTokens",
    semconv.USAGE_AUDIO_INPUT_TOKENS: "llm.token_count.prompt_details.audio",
    semconv.USAGE_AUDIO_OUTPUT_TOKENS: "llm.token_count.completion_details.audio",
    semconv.OPENAI_RESPONSE_SERVICE_TIER: "gen_ai.openai.response.service_tier",
    semconv.OPENAI_REQUEST_SERVICE_TIER: "gen_ai.openai.request.service_tier",
    semconv.COST_FALLBACK: "gen_ai.usage.cost operation.cost llm.cost.total cost.total"
    " cost.total_cost",
    semconv.SESSION_ID: f"gen_ai.session.id {_TRACELOOP}.session_id {_TRACELOOP}.thread_id"
    " gen_ai.conversation.id langfuse.trace.session_id mlflow.trace.session"
    " ai.telemetry.metadata.sessionId ai.settings.context.sessionId",
    semconv.USER_ID: f"gen_ai.user.id gen_ai.request.user {_TRACELOOP}.user_id enduser.id"
    " gen_ai.user langfuse.trace.user_id mlflow.trace.user ai.telemetry.metadata.userId"
    " ai.settings.context.userId",
    semconv.TOOL_NAME: "tool.name ai.toolCall.name",
    semconv.AGENT_NAME: "agent.name",
}
"""The current name, and the others' names for the same thing, the best one first."""

KINDS = (
    *("llm.request.type", "openinference.span.kind", "langfuse.observation.type"),
    *("mlflow.spanType", "traceloop.span.kind"),
)
"""The attributes that hold the kind of a span."""
OPERATIONS = {
    **dict.fromkeys(("CHAT", "CHAT_MODEL", "GENERATION", "LLM"), "chat"),
    "AGENT": "invoke_agent",
    "COMPLETION": "text_completion",
    "EMBEDDING": "embeddings",
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
