"""Calls of models, as LangChain reports them.

Most chat models run a client that is instrumented itself, and its span has more. Such a call has
no span of LangChain's; one that nothing underneath recorded gets its span when it ends.

`usage_metadata` is LangChain's own form of the usage, and its input tokens include the cached ones.
Older integrations and models that complete text put the provider's own form into `llm_output`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.trace import Span, get_current_span

from agentpulse_instrumentation._engine import nesting, semconv
from agentpulse_instrumentation._engine import operation as op
from agentpulse_instrumentation._engine.body import Table, count, get, text
from agentpulse_instrumentation._engine.content import NO_CONTENT
from agentpulse_instrumentation._engine.hosts import provider_named
from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.invocation import begin as begin_span
from agentpulse_instrumentation._engine.nesting import Layer
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.recording import is_captured
from agentpulse_instrumentation.anthropic._messages import MESSAGE
from agentpulse_instrumentation.langchain import _content as content
from agentpulse_instrumentation.langchain._runs import About, Run, Runs, labels
from agentpulse_instrumentation.openai._chat import CHAT

_READ = shield("read the answer")
_CONTINUE = shield("continue a run")
_END = shield("end a run")

_ANSWER = {
    "model": (semconv.RESPONSE_MODEL, str),
    "model_name": (semconv.RESPONSE_MODEL, str),
    "id": (semconv.RESPONSE_ID, str),
    "service_tier": (semconv.OPENAI_RESPONSE_SERVICE_TIER, str),
    "system_fingerprint": (semconv.OPENAI_SYSTEM_FINGERPRINT, str),
}
_OUTPUT = Table(
    {
        "token_usage.prompt_tokens": (semconv.USAGE_INPUT_TOKENS, int),
        "token_usage.completion_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
        "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, int),
        "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
        **_ANSWER,
    }
)
_USAGE = "usage_metadata"
_IN, _OUT = f"{_USAGE}.input_token_details", f"{_USAGE}.output_token_details"
_MESSAGE = Table(
    {
        f"{_USAGE}.input_tokens": (semconv.USAGE_INPUT_TOKENS, int),
        f"{_USAGE}.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
        f"{_IN}.cache_read": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, count),
        f"{_IN}.cache_creation": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count),
        f"{_IN}.ephemeral_5m_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, count),
        f"{_IN}.ephemeral_1h_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS, count),
        f"{_IN}.audio": (semconv.USAGE_AUDIO_INPUT_TOKENS, count),
        f"{_OUT}.reasoning": (semconv.USAGE_REASONING_OUTPUT_TOKENS, count),
        f"{_OUT}.audio": (semconv.USAGE_AUDIO_OUTPUT_TOKENS, count),
        **{f"response_metadata.{name}": row for name, row in _ANSWER.items()},
    }
)
_REASONS = ("finish_reason", "stop_reason", "done_reason")
_LIFETIMES = (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS)
# The parameters of a model, by the names of the providers' APIs and of some integrations; what
# LangChain itself has put into the run's metadata is better.
_PARAMETERS = Table(
    {
        "model_id": (semconv.REQUEST_MODEL, str),
        "model_name": (semconv.REQUEST_MODEL, str),
        "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    }
)
_REQUEST = _PARAMETERS | CHAT.request | MESSAGE.request
_METADATA = Table(
    {
        "ls_model_name": (semconv.REQUEST_MODEL, str),
        "ls_temperature": (semconv.REQUEST_TEMPERATURE, float),
        "ls_max_tokens": (semconv.REQUEST_MAX_TOKENS, int),
        "ls_stop": (semconv.REQUEST_STOP_SEQUENCES, list[str]),
    }
)

_begun_here: ContextVar[list[Any] | None] = ContextVar("agentpulse_langchain_begun", default=None)
"""The runs that begin inside the `agenerate` around, which ends them where it is cancelled."""


def begin(operation: str, runs: Runs, _serialized: Any, messages: Any, about: About) -> None:
    """A model is asked: the clients underneath record that with the facts of the run."""
    run, recording, policy = runs.new(about), runs.recording, runs.recording.policy
    facts = run.inherited = {**run.inherited, **labels(about)}
    context = runs.context_for(run.parent)
    ambient = nesting.within(nesting.agent_calls_of(context), context_api.get_current())
    run.about = about
    run.layer = Layer(ambient, get_current_span(context), facts, operation=operation)
    if is_captured(policy, recording.event_logger()):
        asked = functools.partial(content.model_input, messages, about)
        run.content = content.read(lambda: policy.input_attributes(asked()), NO_CONTENT)
    nesting.enter(run.layer)
    runs.open(run)
    if (begun := _begun_here.get()) is not None:
        begun.append(run.id)


def chunk_arrived(runs: Runs, _chunk: Any, about: About) -> None:
    """A chunk is about to reach the caller, whose own calls are not made inside the model."""
    run = runs.get(about.get("run_id"))
    if run is not None and run.layer is not None and run.first_chunk is None:
        run.first_chunk = (time.time_ns() - run.started) / 1e9
        nesting.leave(run.layer)


def failed(runs: Runs, error: BaseException, about: About) -> None:
    """The model failed, maybe after a part of its answer."""
    # A caller that closes a stream early is no error.
    failure = None if isinstance(error, GeneratorExit) else error
    end(runs, about.get("response"), about, failure)


def end(runs: Runs, response: Any, about: About, error: BaseException | None = None) -> None:
    """The model answered or failed: makes the span, if nothing underneath recorded the call."""
    run = runs.close(about.get("run_id"))
    if run is None or run.layer is None or run.about is None:
        return
    answer: Attributes = {}
    with _READ:
        answer = _answer_attributes(response)
    known = {**run.layer.facts, **_request_attributes(run.about)}
    is_recorded = run.layer.is_recorded and not _is_another(run.layer.spans, known, answer)
    if is_recorded or not runs.recording.active:
        return
    invocation = _begun(runs, run, run.layer, known, answer)
    messages: list[op.Message] = []
    if invocation.keeps_content:
        messages = content.read(lambda: content.model_output(response), messages)
    reported = answer.pop(semconv.ERROR_TYPE, None)
    invocation.ended(answer, messages=messages, failure=reported, error=error)


def _begun(runs: Runs, run: Run, layer: Layer, known: Attributes, answer: Attributes) -> Invocation:
    """The span of a call that is over, with what of the answer belongs to its beginning."""
    nesting.recorded_layers(layer, layer.operation or "")
    if semconv.RESPONSE_MODEL in answer:
        known.setdefault(semconv.REQUEST_MODEL, answer[semconv.RESPONSE_MODEL])
    if semconv.ANSWERED_BY in answer:
        known[semconv.ANSWERED_BY] = answer.pop(semconv.ANSWERED_BY)
    if run.first_chunk is not None:
        answer[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = run.first_chunk
    return begin_span(
        runs.recording,
        Operation(layer.operation or ""),
        attributes=known,
        stream=run.first_chunk is not None,
        parent=layer.context,
        start_time=run.started,
        content=run.content,
    )


def _is_another(recorded: list[Span], request: Attributes, answer: Attributes) -> bool:
    """Whether every call that was recorded underneath is another one than this.

    A model may ask a second one before it answers: to judge the question, for example. Such a call
    has another model, other tokens and another id; a call that differs in less is this one, in the
    words of another layer.
    """
    ours, tokens = _models({**request, **answer}), _tokens(answer)
    if not recorded or not ours or None in tokens:
        return False
    for span in recorded:
        each: Mapping[str, Any] = getattr(span, "attributes", None) or {}
        theirs = _models(each)
        is_same = tokens == _tokens(each) or not theirs or not ours.isdisjoint(theirs)
        if is_same or answer.get(semconv.RESPONSE_ID, "") == each.get(semconv.RESPONSE_ID):
            return False
    return True


def _models(attributes: Mapping[str, Any]) -> set[str]:
    names = (attributes.get(semconv.REQUEST_MODEL), attributes.get(semconv.RESPONSE_MODEL))
    return {name.rpartition("/")[2] for name in names if name is not None}


def _tokens(attributes: Mapping[str, Any]) -> list[Any]:
    names = (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS)
    return [attributes.get(name) for name in names]


def _request_attributes(about: About) -> Attributes:
    metadata, parameters = about.get("metadata"), about.get("invocation_params")
    # The conventions ask for a provider, which a model of the user's own may not name.
    provider = text(get(metadata, "ls_provider")) or "langchain"
    found: Attributes = {semconv.PROVIDER_NAME: provider_named(provider)}
    _REQUEST.read(parameters, found)
    _METADATA.read(metadata, found)
    return found


def _answer_attributes(response: Any) -> Attributes:
    found: Attributes = {}
    _OUTPUT.read(get(response, "llm_output"), found)
    reasons: list[str] = []
    costs: set[Any] = set()
    for generation in content.generations(response):
        message = get(generation, "message")
        nodes = (get(generation, "generation_info"), get(message, "response_metadata"))
        # The choices of one answer repeat its usage.
        if message is not None:
            _MESSAGE.read(message, found)
        named = (text(get(node, name)) for node in nodes for name in _REASONS)
        reasons += itertools.islice(filter(None, named), 1)
        costs.add(get(get(message, _USAGE), "total_cost"))
        for node in nodes:
            if (failure := op.reported_error({"choices": [node]})) is not None:
                found[semconv.ERROR_TYPE] = failure
    if reasons:
        found[semconv.RESPONSE_FINISH_REASONS] = reasons
    # Beside the lifetimes, ChatAnthropic reports 0 as their total.
    lifetimes = sum(cast("int", found.get(name, 0)) for name in _LIFETIMES)
    if lifetimes > cast("int", found.get(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, 0)):
        found[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = lifetimes
    if costs == {0}:
        # So LangChain marks the answers of its cache, which use nothing.
        found = {name: value for name, value in found.items() if ".usage." not in name}
        found[semconv.ANSWERED_BY] = "cache"
    return found


def until_cancelled(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    """`BaseChatModel.agenerate`: ends its runs where a time-out or the caller cancels it.

    LangChain (1.8 too) calls no callback then.
    """

    @functools.wraps(original)
    async def agenerate(model: Any, *args: Any, **kwargs: Any) -> Any:
        begun: list[Any] = []
        token = _begun_here.set(begun)
        try:
            return await original(model, *args, **kwargs)
        except asyncio.CancelledError as error:
            with _END:
                for run_id in begun:
                    failed(runs, error, {"run_id": run_id})
            raise
        finally:
            _begun_here.reset(token)

    return agenerate


def continued(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    """`BaseLLM._agenerate_helper`: continues runs in the task that asks the model.

    Their callbacks ran in tasks of their own, out of sight of the client that is called here.
    """

    @functools.wraps(original)
    async def _agenerate_helper(model: Any, *args: Any, **kwargs: Any) -> Any:
        with _CONTINUE:
            # They come after the prompts and the words to stop at.
            for manager in args[2] if len(args) > 2 else kwargs["run_managers"]:
                run = runs.get(get(manager, "run_id"))
                if run is not None and run.layer and nesting.innermost() is not run.layer:
                    nesting.enter(run.layer)
        return await original(model, *args, **kwargs)

    return _agenerate_helper
