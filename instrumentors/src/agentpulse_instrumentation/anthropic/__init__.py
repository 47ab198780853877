"""The anthropic client: which of its requests are which operations.

Paths as the resources of anthropic 0.49 to 2.x write them. `stream`, `parse`, the tool runner, the
raw and streaming variants and the Bedrock, Vertex and Foundry clients use the same ones; those
clients rewrite them further down.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from agentpulse_instrumentation._engine.client import Changes, ClientInstrumentor
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.anthropic import _native as native
from agentpulse_instrumentation.anthropic._messages import CREATE_BATCH, MESSAGE


class AnthropicInstrumentor(ClientInstrumentor):
    """Records every call of the anthropic client library; the client's own span is left out."""

    library = "anthropic"
    defining = "anthropic._base_client"
    supported = "anthropic >= 0.49.0, < 3"
    clouds: Mapping[str, str] = {
        "AnthropicBedrock": "aws.bedrock",
        "AnthropicBedrockMantle": "aws.bedrock",
        "AnthropicVertex": "gcp.vertex_ai",
    }
    changes: Changes = staticmethod(native.without_native_span)
    routes: Routes = Routes(
        (MESSAGE, "post", "/v1/messages", "/v1/messages?beta=true"),
        (CREATE_BATCH, "post", "/v1/messages/batches", "/v1/messages/batches?beta=true"),
    )

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches `request`, and notes which clients trace themselves by their user's wish."""
        super().patch(module, patches, recording)
        native.watch_options(module, patches)
