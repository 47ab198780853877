"""Calls of models as LangChain tells of them.

Most chat models run a client that is instrumented itself, and its span tells more. Such a call has
no span of LangChain's; one that nothing underneath told of gets its span when it ends.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from agentpulse_instrumentation import places, semconv
from agentpulse_instrumentation.errors import error_type, http_status
from agentpulse_instrumentation.langchain import answers, content, requests
from agentpulse_instrumentation.langchain.runs import Run, Runs, inherited_from
from agentpulse_instrumentation.operation import Attributes
from agentpulse_instrumentation.places import Place


@dataclass(slots=True)
class ModelCall:
    """One call, until it ends. `started` in nanoseconds since 1970, `first_chunk` in seconds."""

    operation: str
    kind: str
    about: dict[str, Any]
    started: int
    input: Attributes
    first_chunk: float | None = None


def begin(runs: Runs, operation: str, serialized: Any, said: Any, about: dict[str, Any]) -> None:
    """A model is asked: says so to the clients underneath."""
    if not runs.is_recording:
        return
    parent = runs.get(about.get("parent_run_id"))
    inherited = inherited_from(parent, about)
    facts = {**inherited, **requests.labels(about)}
    span = get_current_span(runs.context_for(parent))
    run = Run(about["run_id"], inherited=facts)
    run.place = Place(context_api.get_current(), span, facts, operation=operation)
    policy = runs.wanted.policy
    given = policy.input_attributes(content.model_input(said, about)) if policy.captures else {}
    kind = requests.kind(serialized, about)
    run.call = ModelCall(operation, kind, about, time.time_ns(), given)
    places.enter(run.place)
    runs.open(run, parent)


def chunk_arrived(runs: Runs, about: dict[str, Any]) -> None:
    """A chunk is about to reach the caller, whose own calls are not made inside the model."""
    run = runs.get(about.get("run_id"))
    if run is None or run.call is None or run.call.first_chunk is not None:
        return
    run.call.first_chunk = (time.time_ns() - run.call.started) / 1e9
    if run.place is not None:
        places.leave(run.place)


def end(
    runs: Runs, response: Any, about: dict[str, Any], error: BaseException | None = None
) -> None:
    """The model answered or failed: makes the span, if nothing underneath told of the call."""
    run = runs.close(about.get("run_id"))
    if run is None or run.place is None or run.call is None:
        return
    call: ModelCall = run.call
    if run.place.told:
        runs.told_elsewhere.add(call.kind)
    elif runs.wanted.active:
        places.told_here(run.place, call.operation)
        _make_span(runs, run.place, call, response, error)


def _make_span(
    runs: Runs, place: Place, call: ModelCall, response: Any, error: BaseException | None
) -> None:
    policy = runs.wanted.policy
    attributes: Attributes = {
        semconv.OPERATION_NAME: call.operation,
        **place.facts,
        **requests.attributes(call.about),
        **call.input,
    }
    if call.first_chunk is not None:
        attributes[semconv.REQUEST_STREAM] = True
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = call.first_chunk
    answer = answers.attributes(response)
    if error is None and _is_from_cache(runs, call, response, answer):
        attributes[semconv.ANSWERED_BY] = "cache"
        answer = {name: value for name, value in answer.items() if ".usage." not in name}
    attributes |= answer
    if policy.captures:
        attributes |= policy.output_attributes(content.model_output(response))
    model = attributes.get(semconv.REQUEST_MODEL) or attributes.get(semconv.RESPONSE_MODEL)
    if model is not None:
        attributes.setdefault(semconv.REQUEST_MODEL, model)
    span = runs.wanted.tracer.start_span(
        call.operation if model is None else f"{call.operation} {model}",
        place.context,
        SpanKind.CLIENT,
        start_time=call.started,
        attributes=attributes,
    )
    # A caller that leaves a stream early closes it.
    if error is not None and not isinstance(error, GeneratorExit):
        span.set_attribute(semconv.ERROR_TYPE, error_type(error))
        status = http_status(error)
        if status is not None:
            span.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, status)
        span.set_status(Status(StatusCode.ERROR, policy.error_text(error)))
    span.end()


def _is_from_cache(runs: Runs, call: ModelCall, response: Any, answer: Attributes) -> bool:
    if call.kind in runs.told_elsewhere:
        # The client of such a model is instrumented, and it wasn't asked.
        return True
    answer_id = answer.get(semconv.RESPONSE_ID)
    known = (call.kind, answer_id)
    if answers.is_from_cache(response) or known in runs.answered:
        return True
    if answer_id is not None:
        runs.answered.add(known)
    return False
