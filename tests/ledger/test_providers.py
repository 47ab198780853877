"""A provider has one name, however its calls are recorded: one row in a roll-up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agentpulse_exporter import calculate_cost
from fakes.pipe import CALL, Pipe
from fakes.receiver import Receiver

pytestmark = pytest.mark.unconventional("its spans are made by hand, as much of them as matters")

SPELLINGS = {
    "aws.bedrock": ["bedrock", "amazon_bedrock", "aws_bedrock", "bedrock_converse", "AWS"],
    "azure.ai.openai": ["azure", "azure_openai", "az.ai.openai", "Azure OpenAI", "azure-openai"],
    "cohere": ["Cohere", "cohere_chat"],
    "fireworks": ["fireworks_ai", "fireworks-ai"],
    "gcp.gemini": ["gemini", "google_genai", "google-gla", "google"],
    "gcp.vertex_ai": ["vertex_ai", "vertexai", "google-vertex", "google_vertexai", "Vertex AI"],
    "ibm.watsonx.ai": ["ibm", "watsonx"],
    "mistral_ai": ["mistral", "mistralai", "Mistral AI", "mistral-ai"],
    "moonshot_ai": ["moonshot", "moonshotai"],
    "perplexity": ["perplexity_ai", "perplexity-ai"],
    "together": ["together_ai", "together.ai", "together-ai"],
    "x_ai": ["xai", "x-ai", "x.ai", "xAI"],
    "zai": ["z_ai", "z.ai"],
}


@pytest.mark.parametrize("scope", ["agentpulse_instrumentation.langchain", "somebody.else"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_all_spellings_of_a_provider_make_one_row_of_a_roll_up(
    name: str, scope: str, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    recorded = [name, *SPELLINGS[name]]
    for at, spelling in enumerate(recorded):
        call = {**CALL, "gen_ai.provider.name": spelling, "gen_ai.response.id": f"r{at}"}
        sending.provider.get_tracer(scope).start_span("chat", attributes=call).end()
    assert sending.processor.flush()

    (row,) = receiver.of_kind("cost")
    assert (row["data"]["provider"], row["data"]["calls"]) == (name, len(recorded))


@pytest.mark.parametrize(
    ("spelling", "model"),
    [
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("amazon_bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("azure-openai", "gpt-4o"),
        ("Vertex AI", "gemini-2.5-pro"),
        ("google-gla", "gemini-2.5-pro"),
        ("gcp.gen_ai", "gemini-2.5-pro"),
        ("mistralai", "mistral-large-latest"),
        ("xai", "grok-4"),
        ("x_ai", "grok-4"),
        ("moonshot_ai", "kimi-k2-0905-preview"),
    ],
)
def test_each_spelling_leads_to_the_prices_of_the_provider(spelling: str, model: str) -> None:
    assert calculate_cost(model, 1_000_000, 0, provider=spelling)
