"""Nothing that LangChain and LangGraph are told leaves the process, unless it is captured."""

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

    said: str
    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, *_given: Any, **_more: Any) -> ChatResult:
        if self.fails:
            raise ValueError(self.said)
        call: Any = {"name": "search", "args": {"query": f"{self.said}-args"}, "id": "call_1"}
        message = AIMessage(self.said, tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


class Box(BaseRetriever):
    said: str

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(self.said, metadata={"source": f"{self.said}-source"})]


def graph_of(said: Canaries) -> Any:
    """A graph whose nodes ask a model, call a tool and find documents."""

    @tool
    def search(query: str) -> str:
        """Finds mails."""
        if "error" in query:
            raise LookupError(said("error of a tool"))
        return said("result of a tool")

    def ask(state: State) -> State:
        model = Own(said=said("answer of a model")).bind(stop=[said("stop sequence")])
        return {"messages": [model.invoke([SystemMessage(said("system")), *state["messages"]])]}

    def work(_state: State) -> State:
        search.invoke({"query": said("argument of a tool")})
        with suppress(LookupError):
            search.invoke({"query": f"{said('argument of a failing tool')} error"})
        Box(said=said("document")).invoke(said("query of a retriever"))
        return {"messages": [AIMessage(said("message of a node"))]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_node("work", work)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "work")
    graph.add_edge("work", END)
    return graph.compile()


def everything(watched: Watched) -> None:
    said = watched.canaries
    config: Any = {
        "metadata": {"note": said("metadata"), said("key of metadata"): 1},
        "configurable": {"note": said("configurable")},
    }
    for mode in ("invoke", "stream", "ainvoke", "astream", "astream_events"):
        graph = graph_of(said).with_config(config)
        MODES[mode](graph, {"messages": [HumanMessage(said("question"))]})
    prompt = ChatPromptTemplate.from_template(f"{said('template')} {{text}}")
    chain = prompt | chat_openai(watched.provider) | RunnableLambda(lambda _: said("output"))
    chain.invoke({"text": said("input of a chain")})
    (prompt | chat_anthropic(watched.provider)).invoke({"text": said("another input")})
    FakeListLLM(responses=[said("completion")]).invoke(said("legacy prompt"))
    failing = RunnableLambda(lambda _: 1 / 0) | Own(said="x")
    with suppress(ZeroDivisionError):
        failing.invoke(said("input of what fails"))
    with suppress(ValueError):
        Own(said=said("error of a model"), fails=True).invoke(said("prompt of what fails"))
    watched.provider.script(watched.fails("error of a provider"))
    with suppress(Exception):
        chat_openai(watched.provider).invoke(said("prompt that is refused"))


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
        told = watched.canaries.within(sent.replace("hidden", MARK))
        assert told == set(watched.canaries.places) - NEVER
        assert agentpulse.stats().dropped == {}
