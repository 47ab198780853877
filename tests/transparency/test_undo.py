"""What is patched, when it is, and that it is taken back exactly."""

from __future__ import annotations

import functools
import json
import os
import sys
from types import ModuleType
from typing import Any

import anthropic
import anthropic._base_client
import openai
import openai._base_client
import pytest
import wrapt
from agentpulse_instrumentation import Patches, instrument, uninstrument
from agentpulse_instrumentation._engine.patching import Library
from fakes import processes
from fakes.provider import FakeProvider

OWNERS = [
    (library._base_client, owner)
    for library in (openai, anthropic)
    for owner in ("BaseClient", "SyncAPIClient", "AsyncAPIClient")
]


@pytest.fixture(autouse=True)
def bare(spans: Any) -> None:
    uninstrument()


def held() -> dict[tuple[str, str], object]:
    """Every attribute of the classes that have the request method."""
    return {
        (f"{module.__name__}.{owner}", name): value
        for module, owner in OWNERS
        for name, value in vars(getattr(module, owner)).items()
        if not name.startswith("__")
    }


def changed(before: dict[tuple[str, str], object]) -> set[tuple[str, str]]:
    """Those that aren't the very same object any more."""
    now = held()
    return {name for name in {*before, *now} if before.get(name) is not now.get(name)}


def test_nothing_but_the_request_method_is_patched(spans: Any):
    before = held()
    instrument(tracer_provider=spans.provider)

    seam = {
        (f"{library}._base_client.{owner}", "request")
        for library in ("openai", "anthropic")
        for owner in ("SyncAPIClient", "AsyncAPIClient")
    }
    if hasattr(anthropic._base_client.BaseClient, "_set_open_telemetry"):
        base = "anthropic._base_client.BaseClient"
        seam |= {(base, "_set_open_telemetry"), (base, "_copy_open_telemetry")}
    assert changed(before) == seam


def test_uninstrument_puts_the_very_originals_back_in_every_round(spans: Any):
    before = held()

    for names in (None, ["openai"], ["anthropic"], None):
        instrument(names, tracer_provider=spans.provider)
        assert changed(before)
        uninstrument()
        assert changed(before) == set()


def test_instrumenting_twice_is_as_instrumenting_once(provider: FakeProvider, spans: Any):
    before = held()
    instrument(tracer_provider=spans.provider)
    once = held()
    instrument(tracer_provider=spans.provider)

    assert changed(once) == set()
    with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
        client.embeddings.create(model="text-embedding-3-small", input="x")
    assert len(spans()) == 1

    uninstrument()
    assert changed(before) == set()


def test_uninstrumenting_twice_is_as_uninstrumenting_once(spans: Any):
    before = held()
    instrument(tracer_provider=spans.provider)
    uninstrument()
    uninstrument()

    assert changed(before) == set()


def test_a_patch_that_somebody_else_put_over_ours_stays_and_ours_goes_silent(
    provider: FakeProvider, spans: Any, monkeypatch: pytest.MonkeyPatch
):
    owner, calls = openai._base_client.SyncAPIClient, []
    original = owner.request
    instrument(["openai"], tracer_provider=spans.provider)
    ours = owner.request

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return ours(self, *args, **kwargs)

    owner.request = theirs
    try:
        uninstrument()
        with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
            client.embeddings.create(model="text-embedding-3-small", input="x")
        assert owner.request is theirs
        assert (len(calls), spans()) == (1, [])
    finally:
        owner.request = original


def test_a_stream_open_while_uninstrumented_still_ends_its_span(provider: FakeProvider, spans: Any):
    instrument(tracer_provider=spans.provider)
    with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
        hello: list[Any] = [{"role": "user", "content": "hi"}]
        stream = client.chat.completions.create(model="gpt-4o", messages=hello, stream=True)
        next(stream)
        uninstrument()
        rest = list(stream)

    assert rest
    assert len(spans()) == 1


# Imports happen once in a process, so what follows runs in one of its own.

PROGRAM = """
import importlib, json, sys
import agentpulse_instrumentation
from agentpulse_instrumentation import Patches, instrument, uninstrument
from agentpulse_instrumentation._engine.patching import Library

LIBRARIES = ("openai", "anthropic")

def loaded():
    return sorted(name for name in ("openai", "anthropic", "httpx", "httpx2", "pydantic")
                  if name in sys.modules)

def patched():
    found = []
    for library in LIBRARIES:
        module = importlib.import_module(library + "._base_client")
        for owner in ("SyncAPIClient", "AsyncAPIClient"):
            request = vars(getattr(module, owner))["request"]
            original = getattr(request, "__wrapped__", None)
            found.append(original is not None and not hasattr(original, "__wrapped__"))
    return found
"""


def result_of(code: str) -> Any:
    done = processes.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + code], env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_instrument_imports_no_client_library_and_patches_when_the_user_does():
    assert result_of("""
before = loaded()
instrument()
after = loaded()
print(json.dumps({"before": before, "after": after, "patched": patched()}))
""") == {"before": [], "after": [], "patched": [True] * 4}


def test_uninstrumented_before_the_import_nothing_is_patched():
    assert (
        result_of("""
instrument()
uninstrument()
print(json.dumps(patched()))
""")
        == [False] * 4
    )


def test_instrumented_again_before_the_import_it_is_patched_once():
    assert result_of("""
instrument()
uninstrument()
instrument()
instrument()
on = patched()
uninstrument()
off = patched()
instrument()
print(json.dumps([on, off, patched()]))
""") == [[True] * 4, [False] * 4, [True] * 4]


def test_only_the_library_that_was_named_is_patched():
    assert result_of("""
instrument(["anthropic"])
print(json.dumps(patched()))
""") == [False, False, True, True]


def test_a_library_imported_before_is_patched_at_once():
    assert result_of("""
import openai, anthropic
before = patched()
instrument()
print(json.dumps([before, patched()]))
""") == [[False] * 4, [True] * 4]


def test_a_method_that_somebody_wrapped_before_us_still_learns_its_instance(
    clients: Any, instrumented: Any
) -> None:
    seen: list[Any] = []

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    kinds = (openai._base_client.SyncAPIClient, openai._base_client.AsyncAPIClient)
    originals = [vars(kind)["request"] for kind in kinds]
    wrappers = [wrapt.FunctionWrapper(original, note) for original in originals]
    for kind, wrapper in zip(kinds, wrappers, strict=True):
        kind.request = wrapper
    try:
        spans = instrumented()
        given: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
        clients.openai.chat.completions.create(**given)
        clients.run(clients.aopenai.chat.completions.create(**given))
        assert seen == [clients.openai, clients.aopenai]
        assert [span["name"] for span in spans()] == ["chat gpt-4o", "chat gpt-4o"]
        uninstrument()
        assert [vars(kind)["request"] for kind in kinds] == wrappers
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.request = original


class Mine:
    """Somebody's own, whose methods stand in a class of others."""

    def ask(self, *given: object) -> tuple[object, ...]:
        return given


class Called(Mine):
    __call__ = Mine.ask


@pytest.mark.parametrize("mine", [Mine().ask, Called()], ids=["bound", "not bindable"])
def test_what_never_learned_an_instance_gets_none(mine: Any) -> None:
    kind: Any = type("Asking", (), {"ask": mine})
    module = ModuleType("asking")
    vars(module)["Asking"] = kind
    patches = Patches(Library("asking", "asking", ("asking",)))

    def ours(original: Any) -> Any:
        @functools.wraps(original)
        def call(instance: Any, text: str) -> Any:
            return original(instance, text)

        return call

    patches.replace(module, "Asking.ask", ours)
    assert patches.problem is None
    assert kind().ask("a") == ("a",)


def passing(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


def by_a_function(original: Any) -> Any:
    @functools.wraps(original)
    def call(instance: Any, text: str, *, times: int) -> Any:
        return original(instance, text, times=times)

    return call


def by_a_wrapper_of_wrapt(original: Any) -> Any:
    return wrapt.FunctionWrapper(original, passing)


@pytest.mark.parametrize("ours", [by_a_function, by_a_wrapper_of_wrapt])
def test_so_it_does_however_ours_calls_it(ours: Any) -> None:
    seen: list[Any] = []

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    def ask(_self: object, text: str, *, times: int) -> str:
        return text * times

    kind: Any = type("Asking", (), {"ask": wrapt.FunctionWrapper(ask, note)})
    module = ModuleType("asking")
    vars(module)["Asking"] = kind
    patches = Patches(Library("asking", "asking", ("asking",)))
    patches.replace(module, "Asking.ask", ours)
    asking = kind()
    assert (asking.ask("a", times=2), kind.ask(asking, "b", times=1)) == ("aa", "b")
    assert seen == [asking, asking]
    assert patches.problem is None
