"""Chains, graphs, nodes, agents, tools and retrievers: spans that hold the calls made inside."""

from __future__ import annotations

from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.trace import SpanKind, Status, StatusCode

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NOTHING_SAID, ContentPolicy, Said
from agentpulse_instrumentation._engine.nesting import Place
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    InputContent,
    error_type,
    get,
    text,
)
from agentpulse_instrumentation.langchain import _content as content
from agentpulse_instrumentation.langchain import _requests as requests
from agentpulse_instrumentation.langchain._runs import Run, Runs, inherited_from

_HIDDEN = ("langsmith:hidden", "langgraph:hidden")
_NODE = "graph:step:"
_BUBBLING = "GraphBubbleUp"
"""The base of what LangGraph raises to pause a graph or to leave a node, which is no failure."""


def begin_chain(runs: Runs, inputs: Any, about: dict[str, Any]) -> None:
    """A chain, a graph, one of its nodes or an agent begins."""
    if not runs.is_recording:
        return
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
    labels = requests.labels(about)
    labels.pop(semconv.RUN_NAME, None)
    attributes: Attributes = {**inherited, **labels}
    kind, spoken = _kind_of(name, parent, tags, about)
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
    operation = attributes.get(semconv.OPERATION_NAME)
    said = content.read(_input, runs.wanted.policy, inputs, operation)
    runs.start(about, spoken, attributes, inherited, said=said)


def begin_tool(runs: Runs, serialized: Any, said: Any, about: dict[str, Any]) -> None:
    """A tool begins."""
    if not runs.is_recording:
        return
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
    inputs = about.get("inputs")
    given = said if inputs is None else inputs
    arguments = content.read(_arguments, runs.wanted.policy, given)
    runs.start(about, f"execute_tool {name}", attributes, inherited, said=arguments)


def begin_retriever(runs: Runs, serialized: Any, query: Any, about: dict[str, Any]) -> None:
    """A retriever begins. Its body has no context of its own, so calls inside are told by place."""
    if not runs.is_recording:
        return
    inherited = inherited_from(runs.get(about.get("parent_run_id")), about)
    name = text(about.get("name")) or text(get(serialized, "name"))
    attributes: Attributes = {**inherited, semconv.OPERATION_NAME: "retrieval"}
    if name is not None:
        attributes[semconv.RUN_NAME] = name
    policy, said = runs.wanted.policy, NOTHING_SAID
    if isinstance(query, str):
        said = policy.span_text(semconv.RETRIEVAL_QUERY, query)
    ambient = context_api.get_current()
    run = runs.start(about, "retrieval", attributes, inherited, SpanKind.CLIENT, said)
    run.place = Place(ambient, run.span, inherited)
    nesting.enter(run.place)


def end(
    runs: Runs, about: dict[str, Any], *, result: Any = None, error: BaseException | None = None
) -> None:
    """A run ended, with a result or an error."""
    run = runs.close(about.get("run_id"))
    if run is None or run.span is None or not run.is_shown:
        return
    policy = runs.wanted.policy
    try:
        if error is None:
            run.span.set_attributes(content.read(_output, run, policy, result))
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
    # What LangChain calls runs that their user gave no name.
    return name == "LangGraph" or name.startswith("Runnable")


def _is_control_flow(error: BaseException) -> bool:
    # A caller that leaves a stream early closes it.
    return isinstance(error, GeneratorExit) or any(
        base.__name__ == _BUBBLING for base in type(error).__mro__
    )


def _input(policy: ContentPolicy, inputs: Any, operation: object) -> Said:
    if not policy.on_spans:
        return NOTHING_SAID
    said = content.messages(inputs)
    if said is None:
        return policy.span_attribute(semconv.ARGUMENTS, content.plain(inputs))
    # As with conversations: a chain has no messages.
    if operation is None:
        return policy.span_attribute(semconv.ARGUMENTS, said)
    return policy.input_said(InputContent(said))


def _arguments(policy: ContentPolicy, given: Any) -> Said:
    if not policy.on_spans:
        return NOTHING_SAID
    return policy.span_attribute(semconv.TOOL_CALL_ARGUMENTS, content.plain(given))


def _output(run: Run, policy: ContentPolicy, result: Any) -> Said:
    if not policy.on_spans:
        return NOTHING_SAID
    operation = run.attributes.get(semconv.OPERATION_NAME)
    if operation == "execute_tool":
        value = get(result, "content")
        given = content.plain(result if value is None else value)
        # By the conventions, what a tool gives is an object.
        told: object = cast("object", given) if isinstance(given, dict) else {"result": given}
        return policy.span_attribute(semconv.TOOL_CALL_RESULT, told)
    if operation == "retrieval":
        return policy.span_attribute(semconv.RETRIEVAL_DOCUMENTS, content.plain(result))
    said = content.messages(result)
    if said is None:
        return policy.span_attribute(semconv.RESULT, content.plain(result))
    if operation is None:
        return policy.span_attribute(semconv.RESULT, said)
    return policy.output_said(said)
