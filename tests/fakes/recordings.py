"""Recorded provider traffic, driven through the real client libraries.

The recordings lie beside the checkout and not in it; where they are absent, their tests skip.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("AGENTPULSE_TEST_SHARED", Path(__file__).parents[3] / "shared"))
RECORDINGS = SHARED / "recordings"
WHY_ABSENT = "the recorded provider traffic (../shared/recordings) is not on this machine"
REGISTRY = SHARED / "semconv/genai-registry.json"


def is_present() -> bool:
    return (RECORDINGS / "truth.jsonl").exists()


@functools.cache
def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, SHARED / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def semconv_checker() -> Any:
    registry = json.loads((SHARED / "semconv" / "genai-registry.json").read_text(encoding="utf-8"))
    return tool("semconv_check").Checker(registry)


@functools.cache
def recordings() -> dict[str, Any]:
    return tool("replay").load(str(RECORDINGS))


@functools.cache
def truths() -> dict[str, Any]:
    lines = (RECORDINGS / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {truth["id"]: truth for truth in map(json.loads, lines)}


def http_of(library: str) -> Any:
    """The HTTP module that the installed version of a client library sits on."""
    base = importlib.import_module(f"{library}._base_client")
    return base.httpx2 if hasattr(base, "httpx2") else base.httpx


USAGE = "gen_ai.usage."
# By operation: the client library, the path the resource writes, and the resource's method.
OPERATIONS = {
    "chat": ("openai", "/chat/completions", "chat.completions.create"),
    "responses": ("openai", "/responses", "responses.create"),
    "responses.compact": ("openai", "/responses/compact", "responses.compact"),
    "completions": ("openai", "/completions", "completions.create"),
    "embeddings": ("openai", "/embeddings", "embeddings.create"),
    "moderations": ("openai", "/moderations", "moderations.create"),
    "messages": ("anthropic", "/v1/messages", "messages.create"),
}


def drivable(operation: str, *, stream: bool) -> list[Any]:
    """The recordings of an operation that its client library can make, by their path and body."""
    _, path, _ = OPERATIONS[operation]
    return [
        recording
        for recording in recordings().values()
        if recording["operation"] == operation
        and recording["stream"] == stream
        and isinstance(recording["request"]["body"], dict)
        and "encoding" not in recording["response"]
        and recording["request"]["path"].partition("?")[0].endswith(path)
    ]


def client(recording: Any, transport: Any, *, asynchronous: bool = False) -> Any:
    """A real client of the recording's provider, whose requests the recording answers."""
    library, path, _ = OPERATIONS[recording["operation"]]
    module, http = importlib.import_module(library), http_of(library)
    host, full = recording["request"]["host"], recording["request"]["path"].partition("?")[0]
    prefix = full[: -len(path)]
    kind = {"openai": "OpenAI", "anthropic": "Anthropic"}[library]
    http_client = (http.AsyncClient if asynchronous else http.Client)(transport=transport)
    is_local = host.startswith(("localhost", "127.")) or host.endswith(".local")
    scheme = "http" if is_local else "https"
    return getattr(module, f"Async{kind}" if asynchronous else kind)(
        api_key="test",
        base_url=f"{scheme}://{host}{prefix}",
        max_retries=0,
        timeout=60,
        http_client=http_client,
    )


def call(client: Any, recording: Any) -> Any:
    """The call that was recorded: by the resource's method, its unknown fields as `extra_body`."""
    _, path, name = OPERATIONS[recording["operation"]]
    method = client
    for part in name.split("."):
        method = getattr(method, part)
    known = inspect.signature(method).parameters
    body = recording["request"]["body"]
    given = {key: value for key, value in body.items() if key in known}
    extra = {key: value for key, value in body.items() if key not in known}
    if "model" in known and "model" not in body and recording["operation"] == "chat":
        # A deployment's address names the model; the method insists on one, `post` doesn't.
        types, module = map(importlib.import_module, ("openai.types.chat", "openai"))
        is_async = isinstance(client, module.AsyncOpenAI)
        kind = module.AsyncStream if is_async else module.Stream
        return client.post(
            path,
            body=body,
            cast_to=types.ChatCompletion,
            stream=bool(body.get("stream")),
            stream_cls=kind[types.ChatCompletionChunk],
        )
    return method(**given, **({"extra_body": extra} if extra else {}))


def judge(recording: Any, span: dict[str, Any]) -> list[str]:
    """What a span says otherwise than the recorded truth or the conventions."""
    truth, attributes = truths()[recording["id"]], span["attributes"]
    problems = []
    for name, expected in expected_attributes(recording, truth).items():
        value = attributes.get(name)
        unknown = expected is None and attributes.get("agentpulse.usage.estimated")
        if value != expected and not unknown:
            problems.append(f"{name} is {value!r}, not {expected!r}")
    failed = bool(truth["error"] or truth["stream_error"] or recording["response"]["status"] >= 400)
    if (span.get("status") == "ERROR") != failed or ("error.type" in attributes) != failed:
        problems.append(f"failed: {failed}, but the span has {span.get('status')}")
    record = {"status": span.get("status", "UNSET"), "events": [], **span}
    _, findings = semconv_checker().check_record(record)
    return problems + [str(finding) for finding in findings if finding.level == "E"]


def expected_attributes(recording: Any, truth: dict[str, Any]) -> dict[str, Any]:
    """The attributes as the truth has them, where it and the conventions count differently."""
    usage = truth["usage"] or {}
    cache_writes = truth.get("cache_creation_tokens")
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
    if cache_writes is None and isinstance(details, dict):
        # The truth leaves out the cache writes that OpenAI reports since GPT-5.6.
        cache_writes = details.get("cache_write_tokens")
    is_embedding = recording["operation"] == "embeddings"
    reasons = truth["finish_reasons"] or [None]
    if reasons == ["queued"]:
        # The status of a response in the background, which has no reason to have ended yet.
        reasons = []
    if truth["stream_error"]:
        reasons = [reason or "error" for reason in reasons]
    return {
        USAGE + "input_tokens": inclusive_input(truth),
        # Embeddings have no output; Mistral reports that they have 0 tokens of it.
        USAGE + "output_tokens": None if is_embedding else truth["output_tokens"],
        USAGE + "cache_read.input_tokens": truth["cached_tokens"],
        USAGE + "cache_write.input_tokens": cache_writes,
        USAGE + "reasoning.output_tokens": truth["reasoning_tokens"],
        "gen_ai.response.model": truth["response_model"] or None,  # Snowflake's are empty texts
        "gen_ai.response.id": None if is_embedding else truth["response_id"] or None,
        "gen_ai.response.finish_reasons": [reason for reason in reasons if reason] or None,
    }


def inclusive_input(truth: dict[str, Any]) -> int | None:
    """All input tokens; Grok on Azure and Mistral count cached and audio input beside the rest."""
    tokens = truth.get("input_tokens_with_cache", truth["input_tokens"])
    details = (truth["usage"] or {}).get("prompt_tokens_details") or {}
    for part in ("cached_tokens", "audio_tokens"):
        if tokens is not None and (details.get(part) or 0) > tokens:
            tokens += details[part]
    return tokens
