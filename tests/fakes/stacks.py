"""What the tests run: models, chains and graphs on the fake provider."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypedDict

from agentpulse_instrumentation import LangChainInstrumentor
from fakes.pipe import becomes_true
from fakes.provider import Charge, FakeProvider
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph
from opentelemetry import trace

QUESTION = "How many mails are there?"


def chat_openai(provider: FakeProvider, **more: Any) -> Any:
    given = {"api_key": "x", "base_url": provider.openai_url, "max_retries": 0, **more}
    return ChatOpenAI(model="gpt-4o", stream_usage=True, **given)


def chat_anthropic(provider: FakeProvider, **more: Any) -> Any:
    given = {"api_key": "x", "base_url": provider.anthropic_url, "max_retries": 0, **more}
    return ChatAnthropic(model="claude-haiku-4-5", max_tokens=99, **given)


def embeddings(provider: FakeProvider) -> Any:
    given: Any = {"api_key": "x", "base_url": provider.openai_url, "max_retries": 0}
    return OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False, **given
    )


MODELS: dict[str, Callable[..., Any]] = {"openai": chat_openai, "anthropic": chat_anthropic}


_LOOP = asyncio.new_event_loop()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs it in the loop of all: LangChain keeps async HTTP clients for longer than a test."""
    return _LOOP.run_until_complete(coroutine)


def _invoke(thing: Any, given: Any) -> Any:
    return thing.invoke(given)


def _stream(thing: Any, given: Any) -> Any:
    return list(thing.stream(given))


def _batch(thing: Any, given: Any) -> Any:
    return thing.batch([given])


def _ainvoke(thing: Any, given: Any) -> Any:
    return run(thing.ainvoke(given))


def _abatch(thing: Any, given: Any) -> Any:
    return run(thing.abatch([given]))


def _astream(thing: Any, given: Any) -> Any:
    async def read() -> list[Any]:
        return [chunk async for chunk in thing.astream(given)]

    return run(read())


def _astream_events(thing: Any, given: Any) -> Any:
    async def read() -> list[Any]:
        return [event async for event in thing.astream_events(given, version="v2")]

    return run(read())


def _threaded(thing: Any, given: Any) -> Any:
    return run(asyncio.to_thread(thing.invoke, given))


MODES: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": _invoke,
    "stream": _stream,
    "batch": _batch,
    "ainvoke": _ainvoke,
    "astream": _astream,
    "abatch": _abatch,
    "astream_events": _astream_events,
    "threaded": _threaded,
}


def billed(provider: FakeProvider, calls: int) -> list[Charge]:
    """The bill, once so many calls are on it: a call's last byte may be read before it is."""
    becomes_true(lambda: len(provider.bill) >= calls)
    return list(provider.bill)


tracers: trace.TracerProvider | None = None
"""Where the user's own spans go."""


def user() -> trace.Tracer:
    """The tracer of somebody's program."""
    return trace.get_tracer("user", tracer_provider=tracers)


@tool
def search_mail(query: str) -> str:
    """Finds mails."""
    with user().start_as_current_span("look into the box"):
        return f"2 mails are {query}"


class State(TypedDict):
    messages: Annotated[list[Any], operator.add]


def clerk(model: Any) -> Any:
    """A graph of two nodes: one asks the model, one runs the tool that it asks for."""
    bound: Runnable[Any, Any] = model.bind_tools([search_mail])

    def ask(state: State) -> State:
        return {"messages": [bound.invoke(state["messages"])]}

    async def aask(state: State) -> State:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    def work(state: State) -> State:
        return {"messages": [search_mail.invoke(call) for call in state["messages"][-1].tool_calls]}

    def is_done(state: State) -> str:
        return "work" if state["messages"][-1].tool_calls else END

    graph = StateGraph(State)
    graph.add_node("ask", RunnableLambda(ask, afunc=aask))
    graph.add_node("work", work)
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", is_done, ["work", END])
    graph.add_edge("work", "ask")
    return graph.compile()


def open_runs() -> int:
    """The runs that the instrumentor knows as under way, which must not grow."""
    runs = LangChainInstrumentor()._runs
    assert runs is not None
    return len(runs)


def asked() -> State:
    return {"messages": [HumanMessage(QUESTION)]}
