"""Graphs, nodes, tools, retrievers and agents: one tree, however they are run."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from agentpulse_instrumentation import LangChainInstrumentor, instrument, uninstrument
from fakes import processes
from fakes.provider import FakeProvider
from fakes.stacks import (
    MODELS,
    MODES,
    QUESTION,
    State,
    asked,
    billed,
    chat_openai,
    clerk,
    embeddings,
    open_runs,
    run,
    search_mail,
    user,
)
from fakes.trees import calls, tree
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

TOOL = ("execute_tool search_mail", [("look into the box", [])])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", MODELS)
def test_a_graph_is_the_same_tree_however_it_is_run(
    library: str, mode: str, recorded: Any, provider: FakeProvider
):
    graph = clerk(MODELS[library](provider)).with_config(configurable={"thread_id": "t1"})
    MODES[mode](graph, asked())

    ended = recorded.finished()
    # The node is a lambda, for it has an async twin.
    call = ("ask", [(calls(ended)[0].name, [])])
    # A node that decides where to go on runs that inside itself.
    reported = [
        (name, [each for each in inside if each[0] != "is_done"])
        for name, inside in tree(ended)[0][1]
    ]
    assert [name for name, _ in tree(ended)] == ["invoke_workflow"]
    assert reported == [("ask", [call]), ("work", [TOOL]), ("ask", [call])]
    assert len(calls(ended)) == len(billed(provider, 2)) == 2
    assert {span.attributes.get("gen_ai.conversation.id") for span in calls(ended)} == {"t1"}
    nodes = [span for span in ended if span.attributes.get("agentpulse.span.kind") == "node"]
    assert nodes
    assert not any("gen_ai.conversation.id" in span.attributes for span in nodes)
    assert open_runs() == 0


def test_a_named_agent_is_an_agent(create_agent: Any, recorded: Any, provider: FakeProvider):
    agent = create_agent(chat_openai(provider), [search_mail], name="clerk")
    with user().start_as_current_span("user"):
        agent.invoke(asked())

    ended = recorded.finished()
    ((_, inside),) = tree(ended)
    ((name, nodes),) = inside
    assert name == "invoke_agent clerk"
    call = [("chat gpt-4o", [])]
    assert nodes == [("model", call), ("tools", [TOOL]), ("model", call)]
    agent_span = next(span for span in ended if span.name == name)
    assert agent_span.attributes["gen_ai.agent.name"] == "clerk"
    assert {call.attributes["agentpulse.agent.name"] for call in calls(ended)} == {"clerk"}


class Shelf(BaseRetriever):
    """Looks a query up by its embedding, as vector stores do."""

    embedded: Any

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.embedded.embed_query(query)
        return [Document("a mail")]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "batch"])
def test_what_a_retriever_embeds_belongs_to_it(mode: str, recorded: Any, provider: FakeProvider):
    chain = RunnableLambda(lambda spoken: spoken) | Shelf(embedded=embeddings(provider))
    MODES[mode](chain, QUESTION)

    assert tree(recorded.finished()) == [
        (
            "invoke_workflow",
            [
                ("RunnableLambda", []),
                ("retrieval", [("embeddings text-embedding-3-small", [])]),
            ],
        )
    ]


def test_what_a_body_traces_around_a_run_is_its_parent(recorded: Any, provider: FakeProvider):
    model = chat_openai(provider)

    def body(spoken: str) -> Any:
        with user().start_as_current_span("mine"):
            return (ChatPromptTemplate.from_template("{said}") | model).invoke({"said": spoken})

    RunnableLambda(body).invoke(QUESTION)

    chain = ("RunnableSequence", [("ChatPromptTemplate", []), ("chat gpt-4o", [])])
    assert tree(recorded.finished()) == [("invoke_workflow body", [("mine", [chain])])]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_is_on_every_span_that_it_leaves(asynchronous: bool, recorded: Any):
    def broken(_stated: str) -> Any:
        raise KeyError(QUESTION)

    chain = (RunnableLambda(lambda spoken: spoken) | RunnableLambda(broken)).with_config(
        run_name="job"
    )
    with pytest.raises(KeyError) as caught:
        run(chain.ainvoke("x")) if asynchronous else chain.invoke("x")

    assert caught.value.args == (QUESTION,)
    reported = {span["name"]: span["attributes"].get("error.type") for span in recorded()}
    assert reported == {
        "RunnableLambda": None,
        "broken": "KeyError",
        "invoke_workflow job": "KeyError",
    }


def test_a_graph_that_waits_for_somebody_has_not_failed(recorded: Any):
    def ask(_state: State) -> State:
        return {"messages": [interrupt("Are you sure?")]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    where: Any = {"configurable": {"thread_id": "t1"}}
    graph.compile(InMemorySaver()).invoke(asked(), where)

    assert [span.get("status") for span in recorded()] == [None, None]


def test_nothing_of_the_content_is_recorded(recorded: Any, provider: FakeProvider):
    clerk(chat_openai(provider)).invoke(asked())

    reported = str(recorded())
    assert QUESTION not in reported
    assert "unread" not in reported


def test_with_messages_captured_runs_have_what_went_in_and_out(spans: Any, provider: FakeProvider):
    uninstrument()
    instrument(tracer_provider=spans.provider, capture_messages=True)
    clerk(chat_openai(provider)).invoke(asked())

    reported = {span["name"]: span["attributes"] for span in spans()}
    assert QUESTION in reported["invoke_workflow"]["gen_ai.input.messages"]
    assert "2 mails are unread" in reported["invoke_workflow"]["gen_ai.output.messages"]
    tool = reported["execute_tool search_mail"]
    assert tool["gen_ai.tool.call.arguments"] == '{"query":"unread"}'
    assert tool["gen_ai.tool.call.result"] == '{"result":"2 mails are unread"}'


def test_runs_that_are_left_in_the_middle_are_forgotten(recorded: Any, provider: FakeProvider):
    graph = clerk(chat_openai(provider))

    async def leave() -> None:
        stream = graph.astream(asked())
        await anext(stream)
        await stream.aclose()

    stream = graph.stream(asked())
    next(stream)
    stream.close()
    assert open_runs() == 0
    run(leave())

    assert open_runs() == 0
    assert all("error.type" not in span["attributes"] for span in recorded())


def test_runs_that_never_end_are_given_up(recorded: Any, monkeypatch: pytest.MonkeyPatch):
    from agentpulse_instrumentation.langchain import _runs as runs  # its bound

    monkeypatch.setattr(runs, "MOST_RUNS", 3)
    (handler,) = [
        hook[0].get()
        for hook in sys.modules["langchain_core.tracers.context"]._configure_hooks
        if hook[0].name == "agentpulse_handler"
    ]
    for number in range(10):
        handler.on_chain_start(None, {}, run_id=number, parent_run_id=None, name="lost")

    assert open_runs() == 3
    assert len(recorded()) == 7


def test_taking_it_back_leaves_everything_as_it_was(recorded: Any):
    from langchain_core.runnables import config  # what is patched
    from langchain_core.tracers import context  # the same
    from langgraph._internal import _runnable  # the same

    uninstrument()
    before = list(context._configure_hooks), config._set_config_context
    graph_before = _runnable._set_config_context
    for _ in range(3):
        instrument(tracer_provider=recorded.provider)
        assert LangChainInstrumentor().is_patched
        assert config._set_config_context is not before[1]
        uninstrument()

    assert (list(context._configure_hooks), config._set_config_context) == before
    assert _runnable._set_config_context is graph_before
    RunnableLambda(lambda spoken: spoken).invoke("x")
    assert recorded() == []


PROGRAM = """
import sys
from agentpulse_instrumentation import instrument
from agentpulse_instrumentation._engine import patching
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
patching.strict = True
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda s: s.name)))
if sys.argv[1] == "before":
    instrument(["langchain"], tracer_provider=provider)
    assert "langchain_core" not in sys.modules
from langchain_core.runnables import RunnableLambda
if sys.argv[1] == "after":
    instrument(["langchain"], tracer_provider=provider)
RunnableLambda(lambda x: x).with_config(run_name="job").invoke(1)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_works_whichever_is_imported_first(when: str):
    done = processes.run([sys.executable, "-c", PROGRAM, when], check=True)
    assert done.stdout == "invoke_workflow job"
