"""What LangChain calls at the start and the end of each run.

The handler gets LangChain's own base class once that is there: LangChain asks its handlers for the
attributes that it has.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.langchain import _chains as chains
from agentpulse_instrumentation.langchain import _models as models
from agentpulse_instrumentation.langchain._runs import Runs

_BEGIN = shield("begin a run")
_READ = shield("read a token")
_END = shield("end a run")


class Handler:
    """Turns callbacks into spans. Methods and arguments have the names that LangChain calls."""

    # In the caller's thread or task, so that what is current there is seen and can be changed.
    run_inline = True
    raise_error = False

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    # A handler that is copied would record every run twice.
    def __copy__(self) -> Handler:
        return self

    def __deepcopy__(self, _memo: object) -> Handler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Configurations that hold it are sent to other processes, which have their own.
        return sys.modules["langchain_core.callbacks.base"].BaseCallbackHandler, ()

    def on_chat_model_start(self, serialized: Any, messages: Any, **about: Any) -> None:  # noqa: ARG002  # LangChain names it
        """A chat model is asked."""
        with _BEGIN:
            models.begin(self._runs, "chat", messages, about)

    def on_llm_start(self, serialized: Any, prompts: Any, **about: Any) -> None:  # noqa: ARG002  # the same
        """A model that completes text is asked."""
        with _BEGIN:
            models.begin(self._runs, "text_completion", prompts, about)

    def on_llm_new_token(self, *_token: Any, **about: Any) -> None:
        """A chunk of an answer arrived, and is about to be given to the caller."""
        with _READ:
            models.chunk_arrived(self._runs, about)

    def on_stream_event(self, *_event: Any, **about: Any) -> None:
        """The same, in the newer protocol."""
        with _READ:
            models.chunk_arrived(self._runs, about)

    def on_llm_end(self, response: Any, **about: Any) -> None:
        """A model answered."""
        with _END:
            models.end(self._runs, response, about)

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        """A model failed."""
        with _END:
            models.end(self._runs, about.get("response"), about, error)

    def on_chain_start(self, serialized: Any, inputs: Any, **about: Any) -> None:  # noqa: ARG002  # LangChain names it
        """A chain, an agent, a graph or one of its nodes begins."""
        with _BEGIN:
            chains.begin_chain(self._runs, inputs, about)

    def on_tool_start(self, serialized: Any, input_str: Any, **about: Any) -> None:
        """A tool begins."""
        with _BEGIN:
            chains.begin_tool(self._runs, serialized, input_str, about)

    def on_retriever_start(self, serialized: Any, query: Any, **about: Any) -> None:
        """A retriever begins."""
        with _BEGIN:
            chains.begin_retriever(self._runs, serialized, query, about)

    def on_chain_end(self, outputs: Any, **about: Any) -> None:
        """A chain ended."""
        with _END:
            chains.end(self._runs, about, result=outputs)

    def on_tool_end(self, output: Any, **about: Any) -> None:
        """A tool returned."""
        with _END:
            chains.end(self._runs, about, result=output)

    def on_retriever_end(self, documents: Any, **about: Any) -> None:
        """A retriever found."""
        with _END:
            chains.end(self._runs, about, result=documents)

    def _failed(self, error: BaseException, **about: Any) -> None:
        with _END:
            chains.end(self._runs, about, error=error)

    on_chain_error = on_tool_error = on_retriever_error = _failed


def make_handler(runs: Runs) -> Handler:
    """A handler that LangChain takes for one of its own."""
    base = sys.modules["langchain_core.callbacks.base"].BaseCallbackHandler
    kind = cast("type[Handler]", type("AgentPulseCallbackHandler", (Handler, base), {}))
    return kind(runs)
