"""Calls of models as LangChain tells of them.

Most chat models run a client that is instrumented itself, and its span tells more. Such a call has
no span of LangChain's; one that nothing underneath told of gets its span when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NOTHING_SAID, ContentPolicy, Said
from agentpulse_instrumentation._engine.invocation import end_call
from agentpulse_instrumentation._engine.nesting import Place
from agentpulse_instrumentation._engine.operation import (
    INFERENCE,
    Attributes,
    error_type,
    get,
    http_status,
)
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.langchain import _answers as answers
from agentpulse_instrumentation.langchain import _caching as caching
from agentpulse_instrumentation.langchain import _content as content
from agentpulse_instrumentation.langchain import _requests as requests
from agentpulse_instrumentation.langchain._runs import Run, Runs, inherited_from

_READ = shield("read the answer")

begun_here: ContextVar[list[Any] | None] = ContextVar("agentpulse_langchain_begun", default=None)
"""The runs that begin inside the `agenerate` around, which ends them where it is cancelled."""


@dataclass(slots=True)
class ModelCall:
    """One call, until it ends. `started` in nanoseconds since 1970, `first_chunk` in seconds."""

    operation: str
    about: dict[str, Any]
    started: int
    said: Said
    first_chunk: float | None = None
    has_cache: bool = False
    """Whether a cache may answer in place of the model."""


def begin(runs: Runs, operation: str, said: Any, about: dict[str, Any]) -> None:
    """A model is asked: says so to the clients underneath."""
    if not runs.is_recording:
        return
    parent = runs.get(about.get("parent_run_id"))
    inherited = inherited_from(parent, about)
    facts = {**inherited, **requests.labels(about)}
    context, wanted = runs.context_for(parent), runs.wanted
    ambient = nesting.within(nesting.inside(context), context_api.get_current())
    run = Run(about["run_id"], inherited=facts)
    run.place = Place(ambient, get_current_span(context), facts, operation=operation)
    given = NOTHING_SAID
    if wanted.keeps_content(wanted.event_logger()):
        given = content.read(_input, wanted.policy, said, about)
    run.call = ModelCall(operation, about, time.time_ns(), given)
    nesting.enter(run.place)
    runs.open(run, parent)
    begun = begun_here.get()
    if begun is not None:
        begun.append(run.id)


def chunk_arrived(runs: Runs, about: dict[str, Any]) -> None:
    """A chunk is about to reach the caller, whose own calls are not made inside the model."""
    run = runs.get(about.get("run_id"))
    if run is None or run.call is None or run.call.first_chunk is not None:
        return
    run.call.first_chunk = (time.time_ns() - run.call.started) / 1e9
    if run.place is not None:
        nesting.leave(run.place)


def may_be_cached(runs: Runs, manager: Any, model: Any) -> None:
    """The run that a manager stands for is about to be done, or answered by a cache."""
    run = runs.get(get(manager, "run_id"))
    if run is not None and run.call is not None:
        run.call.has_cache = caching.has_cache(model)


def goes_on_here(runs: Runs, managers: Any) -> None:
    """The runs were told to begin in other tasks than this one, in which they are done."""
    for manager in managers:
        run = runs.get(get(manager, "run_id"))
        if run is not None and run.place is not None and nesting.innermost() is not run.place:
            nesting.enter(run.place)


def end(
    runs: Runs, response: Any, about: dict[str, Any], error: BaseException | None = None
) -> None:
    """The model answered or failed: makes the span, if nothing underneath told of the call."""
    run = runs.close(about.get("run_id"))
    if run is None or run.place is None or run.call is None:
        return
    call: ModelCall = run.call
    answer: Attributes = {}
    is_cached = False
    with _READ:
        answer = answers.attributes(response)
        is_cached = error is None and call.has_cache and caching.answered(runs, run.id, response)
    if run.place.told and not is_another(run.place.tellers, call.about, answer):
        return
    if runs.wanted.active:
        nesting.told_here(run.place, call.operation)
        if is_cached:
            answer = {name: value for name, value in answer.items() if ".usage." not in name}
            answer[semconv.ANSWERED_BY] = "cache"
        _make_span(runs, run.place, call, response, answer, error)


def is_another(tellers: list[Span], about: dict[str, Any], answer: Attributes) -> bool:
    """Whether every call that was told of underneath is another one than this.

    A model may ask a second one before it answers: to judge what it is asked, for example. Such a
    call has another model, other tokens and another id; a call that differs in less is this one, in
    the words of another layer.
    """
    told: list[Mapping[str, Any]] = [getattr(span, "attributes", None) or {} for span in tellers]
    ours = _models({**requests.attributes(about), **answer})
    tokens = _tokens(answer)
    if not told or not ours or None in tokens:
        return False
    for each in told:
        theirs = _models(each)
        is_same = tokens == _tokens(each) or not theirs or not ours.isdisjoint(theirs)
        if is_same or answer.get(semconv.RESPONSE_ID, "") == each.get(semconv.RESPONSE_ID):
            return False
    return True


def _models(attributes: Mapping[str, Any]) -> set[str]:
    names = (attributes.get(semconv.REQUEST_MODEL), attributes.get(semconv.RESPONSE_MODEL))
    return {name.rpartition("/")[2] for name in names if name is not None}


def _tokens(attributes: Mapping[str, Any]) -> tuple[Any, Any]:
    return (
        attributes.get(semconv.USAGE_INPUT_TOKENS),
        attributes.get(semconv.USAGE_OUTPUT_TOKENS),
    )


def _make_span(
    runs: Runs,
    place: Place,
    call: ModelCall,
    response: Any,
    answer: Attributes,
    error: BaseException | None,
) -> None:
    wanted, policy, logger = runs.wanted, runs.wanted.policy, runs.wanted.event_logger()
    attributes: Attributes = {
        semconv.OPERATION_NAME: call.operation,
        **place.facts,
        **requests.attributes(call.about),
    }
    if call.first_chunk is not None:
        attributes[semconv.REQUEST_STREAM] = True
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = call.first_chunk
    attributes |= answer
    said = call.said
    if wanted.keeps_content(logger):
        said = {**said, **content.read(_output, policy, response)}
    model = attributes.get(semconv.REQUEST_MODEL) or attributes.get(semconv.RESPONSE_MODEL)
    if model is not None:
        attributes.setdefault(semconv.REQUEST_MODEL, model)
    # A caller that leaves a stream early closes it.
    failure = None if isinstance(error, GeneratorExit) else error
    if failure is not None:
        attributes[semconv.ERROR_TYPE] = error_type(failure)
        status = http_status(failure)
        if status is not None:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
    if semconv.ANSWERED_BY not in attributes and call.operation in INFERENCE:
        nesting.count_inference(place.context)
    span = wanted.tracer.start_span(
        call.operation if model is None else f"{call.operation} {model}",
        place.context,
        SpanKind.CLIENT,
        start_time=call.started,
        attributes={**attributes, **policy.span_attributes(said)},
    )
    try:
        if semconv.ERROR_TYPE in attributes:
            text = None if failure is None else policy.span_error_text(failure)
            span.set_status(Status(StatusCode.ERROR, text))
    finally:
        end_call(
            span,
            attributes,
            (time.time_ns() - call.started) / 1e9,
            policy=policy,
            metrics=wanted.metrics,
            logger=logger,
            said=said,
            error=failure,
        )


def _input(policy: ContentPolicy, said: Any, about: dict[str, Any]) -> Said:
    return policy.input_said(content.model_input(said, about))


def _output(policy: ContentPolicy, response: Any) -> Said:
    return policy.output_said(content.model_output(response))
