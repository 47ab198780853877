"""Spans of LangChain and LangGraph are as the GenAI conventions ask, with and without content."""

from __future__ import annotations

from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes import recordings
from fakes.provider import FakeProvider, fails
from fakes.stacks import MODES, QUESTION, asked, chat_anthropic, chat_openai, clerk, embeddings
from langchain_core.language_models import FakeListLLM
from langchain_core.prompts import ChatPromptTemplate

pytestmark = [
    pytest.mark.skipif(not recordings.is_present(), reason=recordings.WHY_ABSENT),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("captures", [False, True])
def test_every_span_is_as_the_conventions_ask(captures: bool, spans: Any, provider: FakeProvider):
    instrument(tracer_provider=spans.provider, capture_messages=captures)
    chain = ChatPromptTemplate.from_template("{said}") | chat_anthropic(provider)
    for mode in ("invoke", "stream", "ainvoke", "astream"):
        MODES[mode](clerk(chat_openai(provider)), asked())
        MODES[mode](chain, {"said": QUESTION})
    embeddings(provider).embed_query(QUESTION)
    FakeListLLM(responses=["yes"]).invoke(QUESTION)
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        chain.invoke({"said": QUESTION})

    # Each was judged as it ended (`tests/conventions.py`).
    assert len(spans) > 50
