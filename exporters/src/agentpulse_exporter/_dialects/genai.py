"""The GenAI conventions as they were, and OpenLLMetry, which is made of them.

Official packages of openai-v2's time, OpenLLMetry (`opentelemetry.instrumentation.openai.v1`, …),
AgentOps and others. The same scope name may be of either, so the words decide.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import Dialect, Told, inclusive_input
from agentpulse_exporter._semconv import text

WORDS = {
    semconv.PROVIDER_NAME: ("gen_ai.system",),
    semconv.USAGE_INPUT_TOKENS: ("gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    semconv.USAGE_OUTPUT_TOKENS: ("gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: ("gen_ai.usage.cache_read_input_tokens",),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ),
    semconv.OPENAI_RESPONSE_SERVICE_TIER: ("gen_ai.openai.response.service_tier",),
    semconv.OPENAI_REQUEST_SERVICE_TIER: ("gen_ai.openai.request.service_tier",),
    semconv.REQUEST_STREAM: ("gen_ai.is_streaming", "llm.is_streaming"),
    semconv.SESSION_ID: (
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id",
        "gen_ai.conversation.id",
    ),
    semconv.USER_ID: ("traceloop.association.properties.user_id", "enduser.id", "gen_ai.user"),
}

_PROVIDERS = {
    "ai21_chat": "ai21",
    "amazon": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "anthropic_text": "anthropic",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "nvidia_nim": "nvidia",
    "ollama_chat": "ollama",
    "perplexity_ai": "perplexity",
    "sagemaker": "aws.sagemaker",
    "sagemaker_chat": "aws.sagemaker",
    "text-completion-codestral": "mistral_ai",
    "together.ai": "together",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "voyage": "voyageai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
    "z.ai": "zai",
    "z_ai": "zai",
}
"""Other names of providers, by those of the conventions."""

_REQUESTS = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
_KINDS = {"workflow": "invoke_workflow", "agent": "invoke_agent", "tool": "execute_tool"}


def provider(told: Told) -> None:
    """The provider by its name in the conventions."""
    name = text(told, semconv.PROVIDER_NAME)
    if name is not None:
        name = name.lower()
        told[semconv.PROVIDER_NAME] = _PROVIDERS.get(name, name)


def finish_reasons(told: Told) -> None:
    """One reason of a kind that older packages tell as a text by itself."""
    reason = told.get(semconv.RESPONSE_FINISH_REASONS)
    if isinstance(reason, str):
        told[semconv.RESPONSE_FINISH_REASONS] = (reason,)


def _operation(told: Told) -> None:
    if semconv.OPERATION_NAME in told:
        return
    kind, request = text(told, "traceloop.span.kind"), text(told, "llm.request.type")
    if request in _REQUESTS:
        told[semconv.OPERATION_NAME] = _REQUESTS[request]
    elif kind in _KINDS:
        told[semconv.OPERATION_NAME] = _KINDS[kind]
        if kind in ("agent", "tool") and (entity := text(told, "traceloop.entity.name")):
            told.setdefault(semconv.AGENT_NAME if kind == "agent" else semconv.TOOL_NAME, entity)
    elif kind is not None:
        told.setdefault(semconv.SPAN_KIND, kind)


def is_of_a_package(span: ReadableSpan) -> bool:
    """Whether an instrumentation made the span, and not a program's author."""
    scope = span.instrumentation_scope
    return (scope is not None and scope.name.startswith("opentelemetry.")) or any(
        name.startswith(("traceloop.", "llm.")) for name in span.attributes or {}
    )


QUIRKS = (_operation, provider, finish_reasons, inclusive_input)
DIALECT = Dialect(
    scopes=("opentelemetry.instrumentation.genai", "opentelemetry.util.genai"),
    marks=("gen_ai.", "traceloop.", "llm.request.type", "llm.usage."),
    words=WORDS,
    quirks=QUIRKS,
    content=(
        messages.indexed("gen_ai.prompt", "gen_ai.completion"),
        messages.values("traceloop.entity.input", "traceloop.entity.output"),
    ),
)
