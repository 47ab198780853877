"""Records the spans that other instrumentations make, for tests/ledger/test_dialects.py.

Each dialect is recorded in an environment of its own, made for it and thrown away, by the real
packages, from calls to the fake provider: `python scripts/record_dialects.py [dialect …]`. The part
that runs in that environment is this file too, called with `--inside`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "ledger" / "dialects"
OURS = ["-e", "instrumentors", "-e", "exporters", "-e", ".[server]"]
CURRENT = ["openai==3.54.0", "anthropic==2.12.0"]
PACKAGES = {
    "genai": [
        "opentelemetry-instrumentation-genai-openai==1.3b0",
        "opentelemetry-instrumentation-genai-anthropic==1.3b0",
        *CURRENT,
    ],
    "anthropic": CURRENT,
    "openllmetry": [
        "opentelemetry-instrumentation-openai==0.62.4",
        "opentelemetry-instrumentation-anthropic==0.62.4",
        *CURRENT,
    ],
    "openinference": [
        "openinference-instrumentation-openai==0.1.66",
        "openinference-instrumentation-anthropic==3.1.0",
        *CURRENT,
    ],
    "openlit": ["openlit==1.45.0", "openai<3", "anthropic<1"],
    "logfire": ["logfire==5.2.0", *CURRENT],
    "langfuse": ["langfuse==5.0.4", *CURRENT],
    "pydantic_ai": ["pydantic-ai-slim[openai]==2.68.0", "anthropic==2.12.0"],
}
SYSTEM = [{"type": "text", "text": "CANARY-SYSTEM " * 20, "cache_control": {"type": "ephemeral"}}]
TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "CANARY-TOOL",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}


def main(dialects: list[str]) -> None:
    """Records the named dialects, or all."""
    for dialect in dialects or PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "bin" / "python"
            run("uv", "venv", "--quiet", "--python", sys.executable, folder)
            packages = [*OURS, *PACKAGES[dialect]]
            run("uv", "pip", "install", "--quiet", "--python", str(python), *packages)
            run(str(python), "-W", "ignore", str(Path(__file__)), "--inside", dialect)


def run(*command: str) -> None:
    """Runs a command in the repository, or ends with it."""
    subprocess.run(command, cwd=ROOT, check=True)


def record(dialect: str) -> None:
    """Makes the calls under the dialect's instrumentation, and writes down its spans."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from agentpulse.demo.provider import FakeProvider

    memory = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    if dialect != "logfire":
        trace.set_tracer_provider(tracers)
    instrument(dialect, tracers, SimpleSpanProcessor(memory))
    with FakeProvider() as provider:
        for call in calls(dialect, provider):
            with suppress(Exception):
                call()
        time.sleep(0.5)
        bill = [
            {
                "provider": charge.provider,
                "model": charge.model,
                "input": charge.input_tokens,
                "output": charge.output_tokens,
                "cached": charge.cached_tokens,
                "written": charge.cache_write_tokens,
            }
            for charge in provider.bill
        ]
    spans = sorted(memory.get_finished_spans(), key=lambda span: span.start_time or 0)
    source = [package for package in PACKAGES[dialect] if package not in OURS]
    told = {"source": source, "bill": bill, "spans": [*written(spans)]}
    FIXTURES.mkdir(exist_ok=True)
    text = json.dumps(told, indent=1, ensure_ascii=False, default=str)
    (FIXTURES / f"{dialect}.json").write_text(text + "\n")
    sys.stdout.write(f"{dialect}: {len(spans)} spans of {len(bill)} calls\n")
    sys.stdout.flush()
    # Some of the packages keep trying to reach their service.
    sys.exit(0)


def instrument(dialect: str, tracers: Any, processor: Any) -> None:
    """Turns the dialect's instrumentation on."""
    if dialect in ("genai", "openllmetry", "openinference"):
        from importlib import import_module

        package = {
            "genai": "opentelemetry.instrumentation.genai",
            "openllmetry": "opentelemetry.instrumentation",
            "openinference": "openinference.instrumentation",
        }[dialect]
        for library, name in (("openai", "OpenAI"), ("anthropic", "Anthropic")):
            instrumentor = getattr(import_module(f"{package}.{library}"), f"{name}Instrumentor")
            instrumentor().instrument(tracer_provider=tracers)
    elif dialect == "openlit":
        import openlit

        openlit.init(disable_metrics=True, disable_batch=True)
    elif dialect == "logfire":
        import logfire

        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[processor]
        )
        logfire.instrument_openai()
        logfire.instrument_anthropic()
    elif dialect == "langfuse":
        from langfuse import Langfuse

        # Nobody listens at this address.
        Langfuse(
            public_key="pk-lf-x",
            secret_key="sk-lf-x",  # noqa: S106  # it opens nothing
            base_url="http://127.0.0.1:9",
            tracer_provider=tracers,
        )


def calls(dialect: str, provider: Any) -> Iterator[Any]:
    """The calls, one after the other."""
    from agentpulse.demo.provider import fails

    if dialect == "pydantic_ai":
        yield lambda: run_agent(provider)
        return
    if dialect == "langfuse":
        from langfuse.openai import openai
    else:
        import openai
    if dialect != "anthropic":
        one = openai.OpenAI(api_key="x", base_url=provider.openai_url, max_retries=0)
        chat = one.chat.completions.create
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        yield lambda: chat(model="gpt-4o", messages=said(1), temperature=0.5)
        yield lambda: list(chat(model="gpt-4o", messages=said(2), **stream))
        yield lambda: one.embeddings.create(model="text-embedding-3-small", input="CANARY-INPUT")
        yield lambda: chat(model="gpt-4o", messages=said(3), tools=[TOOL])
        provider.script(fails(500))
        yield lambda: chat(model="gpt-4o", messages=said(4))
    if dialect == "langfuse":
        yield observe
        return
    import anthropic

    # Its own spans would be among those of the others.
    given: dict[str, Any] = {} if dialect in ("anthropic", "openlit") else {"open_telemetry": False}
    other = anthropic.Anthropic(
        api_key="x", base_url=provider.anthropic_url, max_retries=0, **given
    )
    body: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 99, "system": SYSTEM}
    yield lambda: other.messages.create(**body, messages=said(5))
    yield lambda: list(other.messages.create(**body, messages=said(6), stream=True))


def said(number: int) -> list[Any]:
    """What is asked."""
    return [{"role": "user", "content": f"CANARY-PROMPT number {number}, please"}]


def observe() -> None:
    """What a program tells Langfuse by hand."""
    from langfuse import get_client

    client = get_client()
    with client.start_as_current_observation(as_type="agent", name="clerk"):
        with client.start_as_current_observation(
            as_type="tool", name="search", input="CANARY-ARGS"
        ):
            pass
        with client.start_as_current_observation(
            as_type="generation", name="own", model="claude-haiku-4-5", input="CANARY-PROMPT"
        ) as generation:
            generation.update(
                output="CANARY-OUTPUT",
                usage_details={"input": 10, "input_cached_tokens": 30, "output": 5},
                cost_details={"total": 0.5},
            )


def run_agent(provider: Any) -> None:
    """An agent of pydantic-ai with a tool."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    Agent.instrument_all()
    where = OpenAIProvider(base_url=provider.openai_url, api_key="x")
    agent = Agent(OpenAIChatModel("gpt-4o", provider=where), name="clerk")

    @agent.tool_plain
    def search(query: str) -> str:
        return f"CANARY-RESULT of {query}"

    agent.run_sync("CANARY-PROMPT")


def written(spans: list[Any]) -> Iterator[dict[str, Any]]:
    """The spans as JSON, without what differs from one recording to the next."""
    numbers: dict[int, int] = {}
    for span in spans:
        parent = span.parent
        yield {
            "scope": span.instrumentation_scope.name,
            "name": span.name,
            "kind": span.kind.name,
            "trace": numbers.setdefault(span.context.trace_id, len(numbers) + 1),
            "span": numbers.setdefault(span.context.span_id, len(numbers) + 1),
            "parent": parent and numbers.setdefault(parent.span_id, len(numbers) + 1),
            "status": span.status.status_code.name,
            "description": span.status.description,
            "attributes": {name: settled(value) for name, value in span.attributes.items()},
            "events": [event.name for event in span.events],
        }


def settled(value: Any) -> Any:
    """A value of an attribute, with one address, time and id in place of those of this run."""
    if isinstance(value, tuple):
        return [settled(each) for each in value]
    if isinstance(value, float):
        return round(value, 3)
    if not isinstance(value, str):
        return value
    value = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", value)
    value = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "2026-01-01T00:00:00Z", value)
    value = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "0" * 32, value)
    return re.sub(r"(?<=[\"' ])/[^\"' ]*/", "", value)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        record(sys.argv[2])
    else:
        main(sys.argv[1:])
