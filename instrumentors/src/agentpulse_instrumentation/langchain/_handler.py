"""The callbacks of LangChain at the start and the end of each run.

Chains, graphs, nodes, agents, tools and retrievers are spans that hold the calls made inside;
models are in `_models.py`. The handler gets LangChain's own base class once that is there, because
LangChain asks its handlers for the attributes of that.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from agentpulse_instrumentation._engine import nesting, semconv
from agentpulse_instrumentation._engine.body import get, text
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.operation import Attributes, InputContent
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation.langchain import _content as content
from agentpulse_instrumentation.langchain import _models as models
from agentpulse_instrumentation.langchain._runs import About, Run, Runs, labels

_BEGIN = shield("begin a run")
_READ = shield("read a token")
_END = shield("end a run")
_OPERATIONS = {"agent": "invoke_agent", "workflow": "invoke_workflow"}
"""Those of the conventions, by the kind of a chain."""
_HIDDEN = ("langsmith:hidden", "langgraph:hidden")
_NODE = "graph:step:"
_BUBBLING = "GraphBubbleUp"
"""The base of the exceptions by which LangGraph pauses a graph or ends a node, no failures."""


def _begin_chain(runs: Runs, _serialized: Any, inputs: Any, about: About) -> None:
    run, tags = runs.new(about), cast("list[str]", about.get("tags") or [])
    if any(tag in _HIDDEN for tag in tags):
        run.invocation, run.is_shown = run.parent and run.parent.invocation, False
        runs.open(run)
        return
    name = text(about.get("name")) or "chain"
    attributes: Attributes = {**run.inherited, **labels(about)}
    attributes.pop(semconv.RUN_NAME, None)
    kind, span_name = _kind_of(name, run.parent, tags, about)
    if kind == "agent":
        attributes.pop(semconv.CALLED_IN_AGENT, None)
        attributes[semconv.AGENT_NAME] = name
        run.inherited[semconv.CALLED_IN_AGENT] = name
    elif kind == "workflow":
        if not _is_type_name(name):
            attributes[semconv.WORKFLOW_NAME] = name
    else:
        # The conventions know conversations of their operations only, and a chain is none.
        attributes.pop(semconv.CONVERSATION_ID, None)
    attributes[semconv.SPAN_KIND] = kind
    operation, policy = _OPERATIONS.get(kind, ""), runs.recording.policy
    capture = functools.partial(_input, policy, inputs, bool(operation))
    runs.start(run, operation, span_name, attributes, capture)


def _begin_tool(runs: Runs, serialized: Any, input_str: Any, about: About) -> None:
    run = runs.new(about)
    name = text(get(serialized, "name")) or text(about.get("name")) or "tool"
    attributes: Attributes = {semconv.TOOL_NAME: name, semconv.TOOL_TYPE: "function"}
    attributes |= {semconv.SPAN_KIND: "tool", **run.inherited}
    if (call_id := text(about.get("tool_call_id"))) is not None:
        attributes[semconv.TOOL_CALL_ID] = call_id
    given = input_str if about.get("inputs") is None else about["inputs"]
    capture = functools.partial(_json, runs.recording.policy, semconv.TOOL_CALL_ARGUMENTS, given)
    runs.start(run, "execute_tool", f"execute_tool {name}", attributes, capture)


def _begin_retriever(runs: Runs, serialized: Any, query: Any, about: About) -> None:
    """Its body has no context of its own, so calls inside find it as the layer above them."""
    run = runs.new(about)
    name, attributes = text(about.get("name")) or text(get(serialized, "name")), {**run.inherited}
    if name is not None:
        attributes[semconv.RUN_NAME] = name
    capture = functools.partial(runs.recording.policy.span_text, semconv.RETRIEVAL_QUERY, query)
    ambient = context_api.get_current()
    runs.start(run, "retrieval", "retrieval", attributes, capture)
    run.layer = nesting.Layer(ambient, run.invocation and run.invocation.span, run.inherited)
    nesting.enter(run.layer)


def _end(runs: Runs, result: Any, about: About) -> None:
    run = runs.close(about.get("run_id"))
    if run is not None and run.invocation is not None and run.is_shown:
        operation, policy = run.invocation.operation.name, runs.recording.policy
        run.end(content.read(lambda: _output(operation, policy, result), NO_CONTENT))


def _failed(runs: Runs, error: BaseException, about: About) -> None:
    run = runs.close(about.get("run_id"))
    if run is not None:
        run.end(error=None if _is_control_flow(error) else error)


def _kind_of(name: str, parent: Run | None, tags: list[str], about: About) -> tuple[str, str]:
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


def _output(operation: str, policy: ContentPolicy, result: Any) -> Content:
    if not policy.on_spans:
        return NO_CONTENT
    if operation == "execute_tool":
        value = get(result, "content")
        given = content.plain(result if value is None else value)
        # By the conventions, the result of a tool is an object.
        answer: object = cast("object", given) if isinstance(given, dict) else {"result": given}
        return policy.span_attribute(semconv.TOOL_CALL_RESULT, answer)
    if operation == "retrieval":
        return _json(policy, semconv.RETRIEVAL_DOCUMENTS, result)
    messages = content.messages(result) if operation else None
    if messages is None:
        return _json(policy, semconv.RESULT, result)
    return policy.output_attributes(messages)


def _callback(step: shield, do: Callable[..., None]) -> Callable[..., None]:
    """A callback; that of a begin does nothing where nothing is recorded now."""

    def callback(handler: Any, *given: Any, **about: Any) -> None:
        with step:
            runs = handler.runs
            if step is not _BEGIN or (runs.recording.active and is_instrumentation_enabled()):
                do(runs, *given, about)

    return callback


class Handler:
    """Turns callbacks into spans. Methods and arguments have the names that LangChain calls."""

    # In the caller's thread or task, so that the current span is seen and can be changed.
    run_inline = True
    raise_error = False

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    # A handler that is copied would record every run twice.
    def __copy__(self) -> Handler:
        return self

    def __deepcopy__(self, _memo: object) -> Handler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Configurations that hold it are sent to other processes, which have their own.
        return sys.modules["langchain_core.callbacks.base"].BaseCallbackHandler, ()

    on_chat_model_start = _callback(_BEGIN, functools.partial(models.begin, "chat"))
    on_llm_start = _callback(_BEGIN, functools.partial(models.begin, "text_completion"))
    on_chain_start = _callback(_BEGIN, _begin_chain)
    on_tool_start = _callback(_BEGIN, _begin_tool)
    on_retriever_start = _callback(_BEGIN, _begin_retriever)
    # The latter is that of the newer protocol.
    on_llm_new_token = on_stream_event = _callback(_READ, models.chunk_arrived)
    on_llm_end = _callback(_END, models.end)
    on_llm_error = _callback(_END, models.failed)
    on_chain_end = on_tool_end = on_retriever_end = _callback(_END, _end)
    on_chain_error = on_tool_error = on_retriever_error = _callback(_END, _failed)


def make_handler(runs: Runs) -> Handler:
    """A handler that LangChain takes for one of its own."""
    base = sys.modules["langchain_core.callbacks.base"].BaseCallbackHandler
    kind = cast("type[Handler]", type("AgentPulseCallbackHandler", (Handler, base), {}))
    return kind(runs)
