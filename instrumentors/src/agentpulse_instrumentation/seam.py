"""The seam: `request` of a generated client, through which every call of every resource goes.

openai and anthropic clients are made by the same generator. Each resource method, in each variant,
ends in `SyncAPIClient.request` or `AsyncAPIClient.request` with the method, the path and the JSON
body. What is no operation of ours passes straight through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind, Tracer, TracerProvider

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation.call import Call
from agentpulse_instrumentation.hosts import Host, host_of
from agentpulse_instrumentation.invocation import Invocation
from agentpulse_instrumentation.messages import ContentPolicy
from agentpulse_instrumentation.operation import Attributes, Operation, Routes
from agentpulse_instrumentation.shield import shield
from agentpulse_instrumentation.usage_chunk import UsageChunk, asking_for_usage

_BEGIN = shield("begin a span")
_RAW_RESPONSE_HEADER = "X-Stainless-Raw-Response"


@dataclass(frozen=True, slots=True)
class Family:
    """A family of clients made by one generator."""

    routes: Routes
    provider: Callable[[Any, Host], str]
    """The provider's name for a client at a host."""
    records: Callable[[Any, TracerProvider | None], bool] = lambda _client, _provider: True
    """Whether we are to record this client's calls (it may record itself)."""
    changed_options: Callable[[Any, Any], dict[str, Any]] = lambda _client, _options: {}
    """Fields of the request options that a recorded call must have otherwise."""


class Seam:
    """Begins a call for the requests of one client family."""

    __slots__ = ("_family", "_policy", "_provider", "_tracer", "active")

    def __init__(
        self, family: Family, tracer: Tracer, provider: TracerProvider | None, policy: ContentPolicy
    ) -> None:
        self._family = family
        self._provider = provider
        self._tracer = tracer
        self._policy = policy
        self.active = True
        """False once uninstrumented: a wrapper that is still in somebody's hands passes through."""

    def begin(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The call, its span current; None for a request that isn't ours to see. Never raises."""
        if not self.active:
            return None
        with _BEGIN:
            options = kwargs["options"] if "options" in kwargs else args[1]
            found = self._family.routes.find(options.method, options.url)
            if (
                found is not None
                and is_instrumentation_enabled()
                and self._family.records(client, self._provider)
            ):
                return self._begin(client, args, kwargs, options, *found)
        return None

    def _begin(
        self,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Any,
        operation: Operation,
        resource: str | None,
    ) -> Call:
        body = _body(options)
        host = host_of(client, options.url)
        attributes = self._start_attributes(client, host, operation, resource, body)
        if kwargs.get("stream") is True:
            attributes[semconv.REQUEST_STREAM] = True
        model = attributes.get(semconv.REQUEST_MODEL)
        # Asked for once and handed on: each look at the current context costs 0.3 µs.
        context = context_api.get_current()
        span = self._tracer.start_span(
            f"{operation.name} {model}" if model else operation.name,
            context,
            SpanKind.CLIENT,
            attributes,
        )
        invocation = hidden = None
        if span.is_recording():
            names_model = model is not None
            invocation = Invocation(operation, self._policy, span, body, names_model=names_model)
            changes = self._family.changed_options(client, options)
            if operation.usage_on_request and host.reports_usage_on_request:
                asking = None if _is_raw(options) else asking_for_usage(options.json_data)
                if asking is not None:
                    changes = {**changes, "json_data": asking}
                    hidden = UsageChunk()
            if changes:
                args, kwargs = _with_options(args, kwargs, _copied(options, changes))
        call = Call(args, kwargs, invocation, hidden)
        call.enter(context, span)
        return call

    def _start_attributes(
        self,
        client: Any,
        host: Host,
        operation: Operation,
        resource: str | None,
        body: Mapping[str, Any],
    ) -> Attributes:
        attributes: Attributes = {
            semconv.OPERATION_NAME: operation.name,
            semconv.PROVIDER_NAME: self._family.provider(client, host),
            **operation.constants,
        }
        if host.address is not None:
            attributes[semconv.SERVER_ADDRESS] = host.address
            attributes[semconv.SERVER_PORT] = host.port
        if operation.resource_attribute is not None and resource is not None:
            attributes[operation.resource_attribute] = resource
        operation.request.read(body, attributes)
        operation.more_from_request(body, attributes)
        if self._policy.captures:
            with _BEGIN:
                content = operation.input_content(body)
                attributes.update(self._policy.input_attributes(content))
        return attributes


def _body(options: Any) -> Mapping[str, Any]:
    body = options.json_data
    if not isinstance(body, dict):
        return {}
    extra = getattr(options, "extra_json", None)
    return {**body, **extra} if extra else cast("dict[str, Any]", body)


def _is_raw(options: Any) -> bool:
    headers = options.headers
    return isinstance(headers, Mapping) and _RAW_RESPONSE_HEADER in headers


def _copied(options: Any, changes: dict[str, Any]) -> Any:
    # The caller's options may be used again, so they stay as they are. `copy` is the name before
    # pydantic 2.
    copy = getattr(options, "model_copy", None) or options.copy
    return copy(update=changes)


def _with_options(
    args: tuple[Any, ...], kwargs: dict[str, Any], options: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "options" in kwargs:
        return args, {**kwargs, "options": options}
    return (args[0], options, *args[2:]), kwargs


def wrapped(original: Callable[..., Any], seam: Seam) -> Callable[..., Any]:
    """`request` of a sync client, observed."""

    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = seam.begin(self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *call.args, **call.kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            call.leave()
        call.returned(result)
        return result

    return request


def awrapped(original: Callable[..., Any], seam: Seam) -> Callable[..., Any]:
    """`request` of an async client, observed: the same with one `await`."""

    @functools.wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = seam.begin(self, args, kwargs)
        if call is None:
            return await original(self, *args, **kwargs)
        try:
            result = await original(self, *call.args, **call.kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            call.leave()
        call.returned(result)
        return result

    return request
