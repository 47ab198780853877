"""The request seam: the one method of a generated client that every call of every resource calls.

openai and anthropic clients are made by the same generator. Each resource method, in each variant,
ends in `SyncAPIClient.request` or `AsyncAPIClient.request` with the method, the path and the JSON
body. What is no operation of ours passes straight through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from opentelemetry.trace import TracerProvider

from agentpulse_instrumentation._engine.begin import begin
from agentpulse_instrumentation._engine.body import observe_body
from agentpulse_instrumentation._engine.hosts import Host, Servers
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor, Recording
from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import (
    ErrorReader,
    Operation,
    Routes,
    code_of,
    get,
    http_status,
    own,
    status_of,
)
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._engine.stream import json_object, observe_stream
from agentpulse_instrumentation._engine.usage import UsageChunk, asking_for_usage
from agentpulse_instrumentation._shield import shield

_OBSERVE = shield("observe an answer")


class Call:
    """A call under way: its arguments and its invocation."""

    __slots__ = ("_hidden", "_streams", "args", "invocation", "kwargs")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        invocation: Invocation,
        hidden: UsageChunk | None,
        *,
        streams: bool,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self.invocation = invocation
        self._hidden = hidden
        self._streams = streams

    def returned(self, result: Any) -> None:
        """The call returned: reads its answer, or observes the caller reading it. Never raises."""
        invocation = self.invocation
        if not invocation.is_open:
            return
        # Pydantic models, the plain answers, are known by this without a look at their class.
        if hasattr(result, "__pydantic_fields_set__"):
            invocation.answered(result)
            return
        observed = False
        with _OBSERVE:
            self._observe(result, invocation)
            observed = True
        if not observed:
            invocation.ended()

    def _observe(self, result: Any, invocation: Invocation) -> None:
        match _kind_of(cast("type[object]", type(result))):
            case "stream":
                observe_stream(result, invocation, self._hidden)
            case "raw":
                observe_body(result.http_response, invocation, stream=self._streams)
            case "http":
                # The HTTP library's response itself (`cast_to=httpx.Response`).
                observe_body(result, invocation, stream=self._streams)
            case "binary":
                observe_body(result.response, invocation, stream=False)
            case "text":
                # What was asked for, or JSON that has the type of one.
                invocation.answered(json_object(result))
            case _:
                invocation.answered(result)


@functools.lru_cache(256)  # a pydantic class takes a microsecond to find that it lacks an attribute
def _kind_of(answer: type[object]) -> str:
    if hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
        return "stream"
    if hasattr(answer, "parse") and hasattr(answer, "http_request"):
        return "raw"
    if hasattr(answer, "iter_raw") and hasattr(answer, "http_version"):
        return "http"
    if hasattr(answer, "iter_raw") and hasattr(answer, "write_to_file"):
        return "binary"
    return "text" if issubclass(answer, str) else "answer"


_BEGIN = shield("begin a span")
_UNCHANGED: dict[str, Any] = {}


def _never_changed(_client: Any, _options: Any, _provider: TracerProvider | None) -> dict[str, Any]:
    return _UNCHANGED


@dataclass(frozen=True, slots=True)
class Family:
    """A family of clients made by one generator."""

    routes: Routes
    provider: Callable[[Any, Host], str]
    """The provider's name for a client at a host."""
    changes: Callable[[Any, Any, TracerProvider | None], dict[str, Any] | None] = _never_changed
    """Fields of a request's options that must be otherwise for the call to be recorded; None for a
    client that records itself. Given the client, the options and the provider of our spans."""


class Seam:
    """Begins a call for the requests of one client family."""

    __slots__ = ("_family", "_recording", "_servers")

    def __init__(self, family: Family, recording: Recording) -> None:
        self._family = family
        self._servers = Servers(family.provider)
        self._recording = recording

    def begin(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The call, begun; None for a request that isn't ours to see. Never raises."""
        if not self._recording.active:
            return None
        with _BEGIN:
            options = kwargs["options"] if "options" in kwargs else args[1]
            found = self._family.routes.find(options.method, options.url)
            if found is None:
                return None
            changes = self._family.changes(client, options, self._recording.provider)
            if changes is not None:
                return self._begin(client, args, kwargs, options, found, changes)
        return None

    def _begin(
        self,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Any,
        found: tuple[Operation, str | None],
        changes: dict[str, Any],
    ) -> Call:
        operation, resource = found
        body = _body(options)
        host, attributes = self._servers.of(client, options.url)
        streams = kwargs.get("stream") is True
        if resource is not None and operation.resource_attribute is not None:
            attributes = {**attributes, operation.resource_attribute: resource}
        invocation = begin(self._recording, operation, body, attributes, stream=streams)
        hidden = None
        if invocation.is_open:
            asks = operation.usage_on_request and host.reports_usage_on_request
            if streams and asks and body.get("stream") is True:
                cast_to = kwargs["cast_to"] if "cast_to" in kwargs else args[0]
                asking = asking_for_usage(client, options, (cast_to, kwargs.get("stream_cls")))
                if asking:
                    changes = {**changes, **asking}
                    hidden = UsageChunk()
            if changes:
                args, kwargs = _with_options(args, kwargs, _copied(options, changes))
        return Call(args, kwargs, invocation, hidden, streams=streams)


def _body(options: Any) -> Mapping[str, Any]:
    body = options.json_data
    if not isinstance(body, dict):
        return {}
    extra = getattr(options, "extra_json", None)
    return {**body, **extra} if extra else cast("dict[str, Any]", body)


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
        with call.invocation:
            result = original(self, *call.args, **call.kwargs)
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
        with call.invocation:
            result = await original(self, *call.args, **call.kwargs)
        call.returned(result)
        return result

    return request


def api_error(error: BaseException) -> str | None:
    """The code of an exception of these clients, as the provider's answer has it.

    openai puts it on the exception (`code`, `type`), so does anthropic (`type`); groq, and older
    versions of anthropic, have it in the body alone: in its envelope, or bare for an error that a
    stream reports after its start.
    """
    body = own(error, "body")
    envelope = get(body, "error") or body
    code = code_of(
        *(own(error, "code"), own(error, "type")),
        *(get(envelope, "code"), get(envelope, "type")),
    )
    if code is None and http_status(error) is None:
        code = status_of(own(error, "code"))
    return code


_SEAMS = {"SyncAPIClient": wrapped, "AsyncAPIClient": awrapped}


class ClientInstrumentor(LibraryInstrumentor):
    """Instruments one client library of the generated kind; `defining` holds its seam."""

    family: Family
    read_error: ErrorReader | None = staticmethod(api_error)

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches `request` of the sync and the async client."""
        seam = Seam(self.family, recording)
        for class_name, observed in _SEAMS.items():
            patches.replace(
                module,
                f"{class_name}.request",
                lambda original, observed=observed: observed(original, seam),
            )
        self.patch_more(module, patches)

    def patch_more(self, module: ModuleType, patches: Patches) -> None:
        """Further patches that a library needs beside the seam."""
