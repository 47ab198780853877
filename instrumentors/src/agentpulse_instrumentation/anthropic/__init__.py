"""The anthropic client: which of its requests are which operations.

Paths as the resources of anthropic 0.49 to 2.x write them. `stream`, `parse`, the tool runner, the
raw and streaming variants and the Bedrock, Vertex and Foundry clients use the same ones; those
clients rewrite them further down.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from agentpulse_instrumentation._engine.client import ClientInstrumentor, Family
from agentpulse_instrumentation._engine.hosts import Host, class_provider
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation.anthropic import _native as native
from agentpulse_instrumentation.anthropic._messages import COMPLETION, CREATE_BATCH, MESSAGE

ROUTES = Routes(
    (
        ("post", "/v1/messages", MESSAGE),
        ("post", "/v1/messages?beta=true", MESSAGE),
        ("post", "/v1/complete", COMPLETION),
        ("post", "/v1/messages/batches", CREATE_BATCH),
        ("post", "/v1/messages/batches?beta=true", CREATE_BATCH),
    )
)

# The clients' own word for it (`_gen_ai_provider_name`) came with anthropic 1.14; their names are
# older.
_CLASSES = {
    "AnthropicBedrock": "aws.bedrock",
    "AsyncAnthropicBedrock": "aws.bedrock",
    "AnthropicBedrockMantle": "aws.bedrock",
    "AsyncAnthropicBedrockMantle": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AsyncAnthropicVertex": "gcp.vertex_ai",
}


def _provider(client: Any, host: Host) -> str:
    provider = class_provider(client, _CLASSES, "anthropic")
    return provider if provider != "anthropic" else host.provider or provider


class AnthropicInstrumentor(ClientInstrumentor):
    """Records every call of the anthropic client library; the client's own span is left out."""

    library = "anthropic"
    defining = "anthropic._base_client"
    supported = "anthropic >= 0.49.0, < 3"
    family: Family = Family(ROUTES, _provider, native.without_native_span)

    def patch_more(self, module: ModuleType, patches: Patches) -> None:
        """Notes which clients trace themselves by their user's wish."""
        native.watch_options(module, patches)
