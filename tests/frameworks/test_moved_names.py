"""A name that has moved in LangChain or LangGraph costs that library alone."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import langchain_core.language_models.chat_models  # its names are looked for
import langchain_core.language_models.llms
import langchain_core.runnables.config
import langchain_core.tracers.context
import langgraph._internal._runnable
import openai
import pytest
from agentpulse_instrumentation import (
    INSTRUMENTORS,
    LangChainInstrumentor,
    instrument,
    not_recorded,
    uninstrument,
)
from agentpulse_instrumentation._engine import patching
from fakes import moved, processes
from fakes.moved import MOVING, WAYS, Name
from fakes.provider import FakeProvider
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph

# Where they are read in, they are patched.
LOADED = (
    langchain_core.language_models.chat_models,
    langchain_core.language_models.llms,
    langchain_core.runnables.config,
    langchain_core.tracers.context,
    langgraph._internal._runnable,
)
ALL_NAMES = [*moved.names("langchain"), *moved.names("langgraph")]
# LangChain before 1.3 has the list of hooks in a second module, which imports it.
NAMES = [name for name in ALL_NAMES if name.module != "langchain_core.callbacks.manager"]
PACKAGES = {"langchain": "langchain-core", "langgraph": "langgraph"}
ALONG = "is not recorded: it needs langchain, which isn't"
OF_LANGCHAIN = [name for name in NAMES if name.library == "langchain"]
OF_LANGGRAPH = [name for name in NAMES if name.library == "langgraph"]


@pytest.fixture(autouse=True)
def bare(spans: Any) -> None:
    uninstrument()


def held() -> dict[str, moved.Held]:
    return {package: moved.held(package) for package in ("langchain_core", "langgraph")}


def changed(before: dict[str, moved.Held]) -> dict[str, set[tuple[str, str]]]:
    return {package: moved.changed(before[package], package) for package in before}


def run_a_graph() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("work", lambda _state: {"messages": []})
    graph.add_edge(START, "work")
    graph.add_edge("work", END)
    graph.compile(name="job").invoke({"messages": [("user", "hi")]})


def test_what_is_patched_is_found_by_patching_it():
    assert {(name.module, name.path) for name in NAMES} == {
        ("langchain_core.tracers.context", "_configure_hooks"),
        ("langchain_core.runnables.config", "_set_config_context"),
        ("langchain_core.language_models.chat_models", "BaseChatModel.agenerate"),
        ("langchain_core.language_models.llms", "BaseLLM._agenerate_helper"),
        ("langgraph._internal._runnable", "_set_config_context"),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OF_LANGCHAIN, ids=str)
def test_a_name_of_langchain_that_moved_costs_it_and_what_is_built_on_it(
    name: Name, way: str, provider: FakeProvider, spans: Any, warnings: list[str]
):
    with moved.moved(name, way):
        before = held()
        for _ in range(2):
            instrument(tracer_provider=spans.provider)

            assert not any(changed(before).values())
            assert not LangChainInstrumentor().is_patched
            assert not LangChainInstrumentor().is_instrumented_by_opentelemetry
            (warning,) = warnings
            started = f"langchain-core {version('langchain-core')} is not recorded: "
            assert warning.startswith(started)
            assert f"because {name} is " in warning
            # It has no handler of its own.
            assert not_recorded() == {
                "langchain": warning.removeprefix("langchain-core ").partition(". Install")[0],
                "langgraph": f"{version('langgraph')} {ALONG}",
            }
        with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
            client.embeddings.create(model="an-embedder", input="x")
        assert [span["name"] for span in spans()] == ["embeddings an-embedder"]
        assert INSTRUMENTORS["openai"]().is_patched
        uninstrument()

    instrument(tracer_provider=spans.provider)
    assert not_recorded() == {}
    run_a_graph()
    assert "invoke_workflow job" in [span["name"] for span in spans()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OF_LANGGRAPH, ids=str)
def test_a_name_of_langgraph_that_moved_costs_langgraph_alone(
    name: Name, way: str, spans: Any, warnings: list[str]
):
    with moved.moved(name, way):
        before = held()
        for _ in range(2):
            instrument(tracer_provider=spans.provider)

            assert changed(before)["langgraph"] == set()
            assert len(changed(before)["langchain_core"]) == len(ALL_NAMES) - len(OF_LANGGRAPH)
            # Not as a whole.
            assert not LangChainInstrumentor().is_patched
            assert LangChainInstrumentor().is_instrumented_by_opentelemetry
            (warning,) = warnings
            reason = not_recorded()["langgraph"]
            assert set(not_recorded()) == {"langgraph"}
            assert reason.startswith(f"{version('langgraph')} is not recorded: 0 of 1 patches ")
            assert f"because {name} is " in reason
            assert warning.startswith(f"langgraph {reason}. ")
            RunnableLambda(lambda given: given).with_config(run_name="job").invoke("x")
            assert [span["name"] for span in spans()] == ["invoke_workflow job"]
            uninstrument()
            assert not any(changed(before).values())

    # The runs of graphs are LangChain's, so they are recorded all the same.
    with moved.replaced(name.defining, name.last, None):
        instrument(tracer_provider=spans.provider)
    run_a_graph()
    assert "invoke_workflow job" in [span["name"] for span in spans()]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("langchain_core.callbacks.base", "BaseCallbackHandler"),
        ("langchain_core.tracers.context", "register_configure_hook"),
    ],
)
def test_what_the_handler_needs_is_a_name_that_may_move_too(
    module: str, name: str, spans: Any, warnings: list[str]
):
    before = held()
    with moved.replaced(sys.modules[module], name, moved.MISSING):
        instrument(tracer_provider=spans.provider)

        assert list(not_recorded()) == ["langchain", "langgraph"]
    assert not any(changed(before).values())
    assert f"has no attribute '{name}'" in warnings[0]


@pytest.mark.parametrize("found", ["0.6.8", "2.0.0"])
def test_an_unsupported_langgraph_is_left_alone_beside_langchain(
    found: str, spans: Any, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    real = patching.version
    monkeypatch.setattr(
        patching, "version", lambda name: found if name == "langgraph" else real(name)
    )
    before = held()
    for _ in range(2):
        instrument(tracer_provider=spans.provider)

        assert changed(before)["langgraph"] == set()
        assert not_recorded() == {"langgraph": f"{found} is not recorded: <2,>=1.0.0 is supported"}
        RunnableLambda(lambda given: given).with_config(run_name="job").invoke("x")
        assert [span["name"] for span in spans()] == ["invoke_workflow job"]
        uninstrument()
    assert len(warnings) == 1


def test_where_langgraph_is_not_installed_nothing_is_amiss(
    spans: Any, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    real = patching.version

    def without(name: str) -> str:
        if name == "langgraph":
            raise patching.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(patching, "version", without)
    instrument(tracer_provider=spans.provider)

    assert (LangChainInstrumentor().is_patched, not_recorded(), warnings) == (True, {}, [])


# Imports happen once in a process, so what follows runs in one of its own.

LATER = """
import agentpulse_instrumentation as instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(memory))
instrumentation.instrument(tracer_provider=provider)
from langchain_core.runnables import RunnableLambda
for module in (
    "langchain_core.tracers.context", "langchain_core.runnables.config", "langgraph.graph",
    "langchain_core.language_models.chat_models", "langchain_core.language_models.llms",
    "openai",
):
    importlib.import_module(module)  # none fails
if sys.argv[1] not in ("langchain_core.runnables.config", "langchain_core.tracers.context"):
    # Without these names, LangChain itself runs nothing.
    RunnableLambda(lambda x: x).with_config(run_name="job").invoke(1)
hooks = getattr(sys.modules["langchain_core.tracers.context"], "_configure_hooks", [])
print(json.dumps({
    "spans": [span.name for span in memory.get_finished_spans()],
    "not recorded": sorted(instrumentation.not_recorded()),
    "patched": [name for name, kind in instrumentation.INSTRUMENTORS.items() if kind().is_patched],
    "hooks of ours": len([hook for hook in hooks if hook[0].name == "agentpulse_handler"]),
}))
"""


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_it_is_the_same_where_they_are_imported_later(name: Name):
    if name.last == "_configure_hooks" and len(NAMES) < len(ALL_NAMES):
        pytest.skip("this LangChain can't be imported without the name")
    done = processes.run(
        [sys.executable, "-c", MOVING + LATER, name.module, name.path],
    )
    assert done.returncode == 0, done.stderr
    result, is_langchain = json.loads(done.stdout), name.library == "langchain"
    assert result == {
        "spans": [] if is_langchain else ["invoke_workflow job"],
        "not recorded": ["langchain", "langgraph"] if is_langchain else ["langgraph"],
        "patched": ["openai"],
        "hooks of ours": 0 if is_langchain else 1,
    }
    (line,) = [each for each in done.stderr.splitlines() if "is not recorded" in each]
    assert line.startswith(f"{PACKAGES[name.library]} {version(PACKAGES[name.library])} ")
    assert str(name) in line
