"""Nothing that LangChain and LangGraph are reported leaves the process, unless it is captured."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from fakes.canaries import MARK, Canaries, Watched
from fakes.stacks import MODES, State, chat_anthropic, chat_openai
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

import agentpulse


class Own(BaseChatModel):
    """A model whose client nobody instruments."""

    spoken: str
    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, *_given: Any, **_more: Any) -> ChatResult:
        if self.fails:
            raise ValueError(self.spoken)
        call: Any = {"name": "search", "args": {"query": f"{self.spoken}-args"}, "id": "call_1"}
        message = AIMessage(self.spoken, tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


class Box(BaseRetriever):
    spoken: str

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(self.spoken, metadata={"source": f"{self.spoken}-source"})]


def graph_of(spoken: Canaries) -> Any:
    """A graph whose nodes ask a model, call a tool and find documents."""

    @tool
    def search(query: str) -> str:
        """Finds mails."""
        if "error" in query:
            raise LookupError(spoken("error of a tool"))
        return spoken("result of a tool")

    def ask(state: State) -> State:
        model = Own(spoken=spoken("answer of a model")).bind(stop=[spoken("stop sequence")])
        return {"messages": [model.invoke([SystemMessage(spoken("system")), *state["messages"]])]}

    def work(_state: State) -> State:
        search.invoke({"query": spoken("argument of a tool")})
        with suppress(LookupError):
            search.invoke({"query": f"{spoken('argument of a failing tool')} error"})
        Box(spoken=spoken("document")).invoke(spoken("query of a retriever"))
        return {"messages": [AIMessage(spoken("message of a node"))]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_node("work", work)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "work")
    graph.add_edge("work", END)
    return graph.compile()


def everything(watched: Watched) -> None:
    spoken = watched.canaries
    config: Any = {
        "metadata": {"note": spoken("metadata"), spoken("key of metadata"): 1},
        "configurable": {"note": spoken("configurable")},
    }
    for mode in ("invoke", "stream", "ainvoke", "astream", "astream_events"):
        graph = graph_of(spoken).with_config(config)
        MODES[mode](graph, {"messages": [HumanMessage(spoken("question"))]})
    prompt = ChatPromptTemplate.from_template(f"{spoken('template')} {{text}}")
    chain = prompt | chat_openai(watched.provider) | RunnableLambda(lambda _: spoken("output"))
    chain.invoke({"text": spoken("input of a chain")})
    (prompt | chat_anthropic(watched.provider)).invoke({"text": spoken("another input")})
    FakeListLLM(responses=[spoken("completion")]).invoke(spoken("legacy prompt"))
    failing = RunnableLambda(lambda _: 1 / 0) | Own(spoken="x")
    with suppress(ZeroDivisionError):
        failing.invoke(spoken("input of what fails"))
    with suppress(ValueError):
        Own(spoken=spoken("error of a model"), fails=True).invoke(spoken("prompt of what fails"))
    watched.provider.script(watched.fails("error of a provider"))
    with suppress(Exception):
        chat_openai(watched.provider).invoke(spoken("prompt that is refused"))


NEVER = {"metadata", "key of metadata", "configurable", "stop sequence"}
"""What is no message, argument or result."""

pytestmark = pytest.mark.filterwarnings("ignore")


def test_no_content_leaves_the_process(caplog: pytest.LogCaptureFixture):
    with Watched(caplog) as watched:
        everything(watched)

        kinds = {event["data"].get("span_kind") for event in watched.events()}
        assert {"workflow", "node", "chain", "tool", "retrieval"} <= kinds
        for left in (watched.sent(), watched.logged()):
            assert watched.canaries.within(left) == set()
            assert MARK not in left
        assert watched.canaries.within(watched.exported()) <= {"stop sequence"}


def test_messages_are_recorded_where_they_are_captured(caplog: pytest.LogCaptureFixture):
    with Watched(caplog, capture_messages=True) as watched:
        everything(watched)

        places = set(watched.canaries.places)
        assert watched.canaries.within(watched.sent()) == places - NEVER
        assert not watched.canaries.within(watched.logged())


def test_the_user_has_the_last_word_on_what_is_recorded(caplog: pytest.LogCaptureFixture):
    def redact(text: str) -> str:
        return text.replace(MARK, "hidden")

    with Watched(caplog, capture_messages=True, redact=redact) as watched:
        everything(watched)
        sent = watched.sent()

        assert watched.canaries.within(sent) == set()
        reported = watched.canaries.within(sent.replace("hidden", MARK))
        assert reported == set(watched.canaries.places) - NEVER
        assert agentpulse.stats().dropped == {}
