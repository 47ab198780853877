"""The callbacks of LangChain at the start and the end of each run.

Chains, graphs, nodes, agents, tools and retrievers are spans that hold the calls made inside;
models are in `_models.py`. The handler gets LangChain's own base class once that is there, because
LangChain asks its handlers for the attributes of that.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.trace import SpanKind, Status, StatusCode

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.nesting import Layer
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    InputContent,
    error_type,
    get,
    text,
)
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.langchain import _content as content
from agentpulse_instrumentation.langchain import _models as models
from agentpulse_instrumentation.langchain._runs import Run, Runs, inherited_from, labels

_BEGIN = shield("begin a run")
_READ = shield("read a token")
_END = shield("end a run")
_HIDDEN = ("langsmith:hidden", "langgraph:hidden")
_NODE = "graph:step:"
_BUBBLING = "GraphBubbleUp"
"""The base of the exceptions by which LangGraph pauses a graph or ends a node, no failures."""


class Handler:
    """Turns callbacks into spans. Methods and arguments have the names that LangChain calls."""

    # In the caller's thread or task, so that the current span is seen and can be changed.
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

    def on_chat_model_start(self, _serialized: Any, messages: Any, **about: Any) -> None:
        """A chat model is asked."""
        with _BEGIN:
            models.begin(self._runs, "chat", messages, about)

    def on_llm_start(self, _serialized: Any, prompts: Any, **about: Any) -> None:
        """A model that completes text is asked."""
        with _BEGIN:
            models.begin(self._runs, "text_completion", prompts, about)

    def on_llm_new_token(self, *_token: Any, **about: Any) -> None:
        """A chunk of an answer arrived, and is about to be given to the caller."""
        with _READ:
            models.chunk_arrived(self._runs, about)

    on_stream_event = on_llm_new_token  # the newer protocol

    def on_llm_end(self, response: Any, **about: Any) -> None:
        """A model answered."""
        with _END:
            models.end(self._runs, response, about)

    def on_llm_error(self, error: BaseException, **about: Any) -> None:
        """A model failed."""
        with _END:
            models.end(self._runs, about.get("response"), about, error)

    def on_chain_start(self, _serialized: Any, inputs: Any, **about: Any) -> None:
        """A chain, an agent, a graph or one of its nodes begins."""
        with _BEGIN:
            if self._runs.is_recording:
                _begin_chain(self._runs, inputs, about)

    def on_tool_start(self, serialized: Any, input_str: Any, **about: Any) -> None:
        """A tool begins."""
        with _BEGIN:
            if self._runs.is_recording:
                _begin_tool(self._runs, serialized, input_str, about)

    def on_retriever_start(self, serialized: Any, query: Any, **about: Any) -> None:
        """A retriever begins."""
        with _BEGIN:
            if self._runs.is_recording:
                _begin_retriever(self._runs, serialized, query, about)

    def _returned(self, result: Any, **about: Any) -> None:
        with _END:
            _end(self._runs, about, result, None)

    def _failed(self, error: BaseException, **about: Any) -> None:
        with _END:
            _end(self._runs, about, None, error)

    on_chain_end = on_tool_end = on_retriever_end = _returned
    on_chain_error = on_tool_error = on_retriever_error = _failed


def make_handler(runs: Runs) -> Handler:
    """A handler that LangChain takes for one of its own."""
    base = sys.modules["langchain_core.callbacks.base"].BaseCallbackHandler
    kind = cast("type[Handler]", type("AgentPulseCallbackHandler", (Handler, base), {}))
    return kind(runs)


def _begin_chain(runs: Runs, inputs: Any, about: dict[str, Any]) -> None:
    parent = runs.get(about.get("parent_run_id"))
    inherited = inherited_from(parent, about)
    tags: list[str] = about.get("tags") or []
    if any(tag in _HIDDEN for tag in tags):
        around = parent.span if parent is not None else None
        hidden = Run(about["run_id"], around, inherited, is_shown=False)
        hidden.inside = None if parent is None else parent.inside
        runs.open(hidden, parent)
        return
    name = text(about.get("name")) or "chain"
    attributes: Attributes = {**inherited, **labels(about)}
    attributes.pop(semconv.RUN_NAME, None)
    kind, span_name = _kind_of(name, parent, tags, about)
    if kind == "agent":
        attributes.pop(semconv.CALLED_IN_AGENT, None)
        attributes |= {semconv.OPERATION_NAME: "invoke_agent", semconv.AGENT_NAME: name}
        inherited[semconv.CALLED_IN_AGENT] = name
    elif kind == "workflow":
        attributes[semconv.OPERATION_NAME] = "invoke_workflow"
        if not _is_type_name(name):
            attributes[semconv.WORKFLOW_NAME] = name
    else:
        # The conventions know conversations of their operations only, and a chain is none.
        attributes.pop(semconv.CONVERSATION_ID, None)
    attributes[semconv.SPAN_KIND] = kind
    is_operation, policy = semconv.OPERATION_NAME in attributes, runs.recording.policy
    given = content.read(lambda: _input(policy, inputs, is_operation), NO_CONTENT)
    runs.start(about, span_name, attributes, inherited, content=given)


def _begin_tool(runs: Runs, serialized: Any, input_str: Any, about: dict[str, Any]) -> None:
    inherited = inherited_from(runs.get(about.get("parent_run_id")), about)
    name = text(get(serialized, "name")) or text(about.get("name")) or "tool"
    attributes: Attributes = {
        **inherited,
        semconv.OPERATION_NAME: "execute_tool",
        semconv.TOOL_NAME: name,
        semconv.TOOL_TYPE: "function",
        semconv.SPAN_KIND: "tool",
    }
    if (call_id := text(about.get("tool_call_id"))) is not None:
        attributes[semconv.TOOL_CALL_ID] = call_id
    inputs, policy = about.get("inputs"), runs.recording.policy
    given = content.read(
        lambda: _json(policy, semconv.TOOL_CALL_ARGUMENTS, input_str if inputs is None else inputs),
        NO_CONTENT,
    )
    runs.start(about, f"execute_tool {name}", attributes, inherited, content=given)


def _begin_retriever(runs: Runs, serialized: Any, query: Any, about: dict[str, Any]) -> None:
    """Its body has no context of its own, so calls inside find it as the layer above them."""
    inherited = inherited_from(runs.get(about.get("parent_run_id")), about)
    name = text(about.get("name")) or text(get(serialized, "name"))
    attributes: Attributes = {**inherited, semconv.OPERATION_NAME: "retrieval"}
    if name is not None:
        attributes[semconv.RUN_NAME] = name
    given = NO_CONTENT
    if isinstance(query, str):
        given = runs.recording.policy.span_text(semconv.RETRIEVAL_QUERY, query)
    ambient = context_api.get_current()
    run = runs.start(about, "retrieval", attributes, inherited, SpanKind.CLIENT, given)
    run.layer = Layer(ambient, run.span, inherited)
    nesting.enter(run.layer)


def _end(runs: Runs, about: dict[str, Any], result: Any, error: BaseException | None) -> None:
    run = runs.close(about.get("run_id"))
    if run is None or run.span is None or not run.is_shown:
        return
    policy = runs.recording.policy
    try:
        if error is None:
            run.span.set_attributes(content.read(lambda: _output(run, policy, result), NO_CONTENT))
        elif not _is_control_flow(error):
            run.attributes[semconv.ERROR_TYPE] = kind = error_type(error)
            run.span.set_attribute(semconv.ERROR_TYPE, kind)
            run.span.set_status(Status(StatusCode.ERROR, policy.span_error_text(error)))
    finally:
        runs.finish(run, error)


def _kind_of(
    name: str, parent: Run | None, tags: list[str], about: dict[str, Any]
) -> tuple[str, str]:
    metadata = cast("dict[str, Any]", about.get("metadata") or {})
    node = any(tag.startswith(_NODE) for tag in tags)
    # `create_agent` names the agent in the metadata of its graph, which everything inside inherits.
    made_agent = metadata.get("ls_integration") == "langchain_create_agent" and name == "LangGraph"
    if not node and (name in (metadata.get("lc_agent_name"), "AgentExecutor") or made_agent):
        return "agent", f"invoke_agent {name}"
    if parent is None:
        return "workflow", "invoke_workflow" if _is_type_name(name) else f"invoke_workflow {name}"
    return ("node" if node else "chain"), name


def _is_type_name(name: str) -> bool:
    # LangChain's names of runs that their user gave no name.
    return name == "LangGraph" or name.startswith("Runnable")


def _is_control_flow(error: BaseException) -> bool:
    # A caller that leaves a stream early closes it.
    return isinstance(error, GeneratorExit) or any(
        base.__name__ == _BUBBLING for base in type(error).__mro__
    )


def _json(policy: ContentPolicy, name: str, value: Any) -> Content:
    return policy.span_attribute(name, content.plain(value)) if policy.on_spans else NO_CONTENT


def _input(policy: ContentPolicy, inputs: Any, is_operation: bool) -> Content:
    messages = content.messages(inputs) if policy.on_spans and is_operation else None
    # As with conversations: a chain has no messages.
    if messages is None:
        return _json(policy, semconv.ARGUMENTS, inputs)
    return policy.input_attributes(InputContent(messages))


def _output(run: Run, policy: ContentPolicy, result: Any) -> Content:
    if not policy.on_spans:
        return NO_CONTENT
    operation = run.attributes.get(semconv.OPERATION_NAME)
    if operation == "execute_tool":
        value = get(result, "content")
        given = content.plain(result if value is None else value)
        # By the conventions, the result of a tool is an object.
        answer: object = cast("object", given) if isinstance(given, dict) else {"result": given}
        return policy.span_attribute(semconv.TOOL_CALL_RESULT, answer)
    if operation == "retrieval":
        return _json(policy, semconv.RETRIEVAL_DOCUMENTS, result)
    messages = content.messages(result) if operation is not None else None
    if messages is None:
        return _json(policy, semconv.RESULT, result)
    return policy.output_attributes(messages)
