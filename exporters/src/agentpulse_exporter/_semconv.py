"""The span attributes that this distribution reads and writes.

The packaged constants of the GenAI conventions are marked deprecated since the conventions moved
(https://github.com/open-telemetry/semantic-conventions-genai), so the names are spelt out here,
once. `agentpulse_instrumentation._engine.semconv` spells them for the writing side; a test
compares the two.
"""

from __future__ import annotations

import re
from functools import lru_cache

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
"""Seconds from the request to the first chunk of a stream."""

USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
"""All input tokens, the cached ones included."""
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
"""All output tokens, reasoning included."""
USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"
USAGE_IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens"
USAGE_AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
USAGE_AUDIO_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.audio.cache_read.input_tokens"

# Anthropic's own spans use these names (anthropic 2.12, `_tracing.py`), which the conventions have
# no words for.
ANTHROPIC_CACHE_WRITE_5M_TOKENS = "anthropic.usage.cache_creation.ephemeral_5m_input_tokens"
ANTHROPIC_CACHE_WRITE_1H_TOKENS = "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"
ANTHROPIC_RESPONSE_SERVICE_TIER = "anthropic.response.service_tier"
ANTHROPIC_STOP_REASON = "anthropic.message.stop_reason"
ANTHROPIC_COMPACTION_INPUT_TOKENS = "anthropic.usage.compaction.input_tokens"
ANTHROPIC_COMPACTION_OUTPUT_TOKENS = "anthropic.usage.compaction.output_tokens"
"""Compaction is billed on top of the call's own tokens."""

OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier"

INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT = "gen_ai.tool.call.result"

ERROR_TYPE = "error.type"
SESSION_ID = "session.id"
USER_ID = "user.id"

AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"

SPAN_KIND = "agentpulse.span.kind"
"""session, cron, agent, task, trace, tool, event, metric, alert, heartbeat, sdk_init, …"""
SESSION_NAME = "agentpulse.session.name"
SESSION_ANCESTORS = "agentpulse.session.ancestors"
"""The ids of the sessions around this one, the innermost first; only where there are any."""
SESSION_RESULT = "agentpulse.session.result"
SESSION_LOG = "agentpulse.session.log"
"""The name of the span events for the lines of a session's log."""
SESSION_LOG_MESSAGE = "message"
METADATA_PREFIX = "agentpulse.metadata."
CRON_SCHEDULE = "agentpulse.cron.schedule"
"""The cron expression, five fields."""
CRON_TIMEZONE = "agentpulse.cron.timezone"
CRON_MAX_RUNTIME = "agentpulse.cron.max_runtime"
"""Seconds."""
CRON_SUMMARY = "agentpulse.cron.summary"
EXIT_CODE = "agentpulse.exit_code"
"""The exit code of a program that ended by `sys.exit` in the middle of a span."""
CALLED_IN_AGENT = "agentpulse.agent.name"
"""The agent around a span that isn't an agent itself."""
ARGUMENTS = "agentpulse.args"
"""The arguments of a decorated function, as JSON."""
RESULT = "agentpulse.result"
"""The result of a decorated function, as JSON."""
CODE_FUNCTION = "code.function.name"
CAPTURED = "agentpulse.captured"
"""True if the program asked for this function's arguments or result by name, so that they
travel without message capture."""
ANSWERED_BY = "agentpulse.response.answered_by"
"""`cache` or `mock`, if a framework answered in place of a model: nothing was billed."""
RUN_NAME = "agentpulse.run.name"
"""The name that a framework's user gave to the run that a call belongs to."""
RUN_TAGS = "agentpulse.run.tags"
JSON_PREFIX = "agentpulse.json."
"""Before the names of an event's fields that are lists or objects, as JSON."""
DATA_PREFIX = "agentpulse.data."
"""Before the names of an event's fields, for the kinds whose data is spelt out on the span."""
USAGE_ESTIMATED = "agentpulse.usage.estimated"
"""True if the provider reported no usage, so that tokens were estimated from the content."""
COST_REPORTED = "agentpulse.cost.reported"
"""USD, the provider's own figure for the call (OpenRouter's `usage.cost`, for example)."""
COST_FALLBACK = "agentpulse.cost.fallback"
"""USD, the figure of the layer that made the call: counts where no price is known."""
COST_TOTAL = "agentpulse.cost.total"
COST_INPUT = "agentpulse.cost.input"
COST_OUTPUT = "agentpulse.cost.output"
COST_SOURCE = "agentpulse.cost.source"
"""`provider` (its own figure), `override` (the user's prices), `genai-prices <version>`, or
`instrumentation` (the figure of the layer that made the call, where none of these knows)."""
COST_ESTIMATED = "agentpulse.cost.estimated"
"""True if the cost rests on estimated tokens."""
SPEED = "agentpulse.request.speed"
"""The speed mode served, if it changes the price (Anthropic's `speed: fast`)."""

_PROVIDERS = {
    "ai21": ("ai21_chat",),
    "anthropic": ("anthropic_text",),
    "aws.bedrock": ("amazon", "amazon_bedrock", "aws", "bedrock", "bedrock_converse"),
    "aws.sagemaker": ("amazon_sagemaker", "sagemaker", "sagemaker_chat"),
    "azure.ai.inference": ("az_ai_inference", "azure_ai"),
    "azure.ai.openai": ("az_ai_openai", "azure", "azure_openai", "azure_text"),
    "cohere": ("cohere_ai", "cohere_chat"),
    "gcp.gemini": ("gemini", "google", "google_ai", "google_gemini", "google_genai", "google_gla"),
    "gcp.gen_ai": ("gcp", "palm"),
    "gcp.vertex_ai": ("google_vertex", "google_vertex_ai", "vertex", "vertex_ai", "vertex_ai_beta"),
    "ibm.watsonx.ai": ("ibm", "watsonx", "watsonx_ai", "watsonx_text"),
    "mistral_ai": ("codestral", "mistral", "text_completion_codestral"),
    "moonshot_ai": ("moonshot",),
    "nvidia": ("nvidia_nim",),
    "ollama": ("ollama_chat",),
    "voyageai": ("voyage",),
    **{name: (f"{name}_ai",) for name in ("fireworks", "perplexity", "together")},
    **dict.fromkeys(("huggingface", "x_ai", "zai"), ()),
    "zhipuai": ("zhipu",),
}
"""The names of providers in the conventions, or else in AgentPulse's instrumentors, and their other
names, each in any case, with any separators or none between its parts."""
_SEPARATORS = re.compile(r"[\s._/-]+")

MODEL_OPERATIONS = {"chat", "text_completion", "generate_content", "embeddings", "moderation"}
"""One model call each. Only these are priced: an agent's usage repeats that of its calls."""


_PROVIDER_NAMES = {
    _SEPARATORS.sub("", each): name
    for name, others in _PROVIDERS.items()
    for each in (name, *others)
}


@lru_cache(256)
def provider_name(spelling: str) -> str:
    """The one name of a provider; one that isn't in the table keeps its own, in lower case."""
    spelling = spelling.strip().lower()
    return _PROVIDER_NAMES.get(_SEPARATORS.sub("", spelling), spelling)
