"""The request method of a generated client, which every call of every resource goes through.

openai and anthropic clients are made by the same generator. Each resource method, in each variant,
ends in `SyncAPIClient.request` or `AsyncAPIClient.request` with the method, the path and the JSON
body. Requests that match no route are passed on unchanged. An OpenAI-style stream may be asked for
its usage (`include_usage`); the extra chunk is hidden from the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, cast, get_args
from weakref import ref

from opentelemetry.trace import TracerProvider

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import json_object
from agentpulse_instrumentation._engine.hosts import Host, host_at
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.invocation import Invocation, begin
from agentpulse_instrumentation._engine.operation import Attributes, ErrorReader, Routes, api_error
from agentpulse_instrumentation._engine.patching import Patches, shield
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation._engine.stream import observe_body, observe_stream

_BEGIN = shield("begin a span")
_OBSERVE = shield("observe an answer")


@dataclass(slots=True, eq=False)
class Call:
    """A call under way: the options with which it is made, and its invocation."""

    options: Any
    invocation: Invocation
    streams: bool
    hides_usage: bool

    def returned(self, result: Any) -> None:
        """The call returned: reads its answer, or observes the caller reading it. Never raises."""
        invocation = self.invocation
        if not invocation.is_open:
            return
        # Pydantic models, the plain answers, are known by this without a look at their class.
        if hasattr(result, "__pydantic_fields_set__"):
            invocation.answered(result)
            return
        with _OBSERVE:
            match _kind_of(cast("type[object]", type(result))):
                case "stream":
                    observe_stream(result, invocation, hides_usage=self.hides_usage)
                case "body":
                    # The HTTP library's response itself (`cast_to=httpx.Response`).
                    observe_body(result, invocation, stream=self.streams)
                case "text":
                    # What was asked for, or JSON that has the type of one.
                    invocation.answered(json_object(result))
                case "":
                    invocation.answered(result)
                case response:
                    observe_body(getattr(result, response), invocation, stream=self.streams)
            return
        invocation.ended()


@functools.lru_cache(256)  # a pydantic class takes a microsecond to find that it lacks an attribute
def _kind_of(answer: type[object]) -> str:
    """What an answer is, or the name of the attribute that holds its HTTP response."""
    if hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
        return "stream"
    if hasattr(answer, "parse") and hasattr(answer, "http_request"):
        return "http_response"
    if hasattr(answer, "iter_raw"):
        return "body" if hasattr(answer, "http_version") else "response"
    return "text" if issubclass(answer, str) else ""


Changes = Callable[[Any, Any, TracerProvider | None], Mapping[str, Any] | None]
_UNCHANGED: Mapping[str, Any] = {}


@dataclass(slots=True, eq=False)
class RequestWrapper:
    """Begins a call for the requests of one client family, and wraps its clients' `request`."""

    recording: Recording
    family: ClientInstrumentor
    # By identity: a client of somebody's own class may have no hash.
    servers: dict[int, tuple[ref[object], object, Host, Attributes]] = field(
        default_factory=dict[int, Any]
    )

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`request` of a sync client, observed."""

        @functools.wraps(original)
        def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            call = self._begin(client, cast_to, options, kwargs)
            if call is None:
                return original(client, cast_to, options, *args, **kwargs)
            with call.invocation:
                result = original(client, cast_to, call.options, *args, **kwargs)
            call.returned(result)
            return result

        return request

    def wrap_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`request` of an async client, observed: the same with one `await`."""

        @functools.wraps(original)
        async def request(
            client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any
        ) -> Any:
            call = self._begin(client, cast_to, options, kwargs)
            if call is None:
                return await original(client, cast_to, options, *args, **kwargs)
            with call.invocation:
                result = await original(client, cast_to, call.options, *args, **kwargs)
            call.returned(result)
            return result

        return request

    def _begin(self, client: Any, cast_to: Any, options: Any, kwargs: Any) -> Call | None:
        """Begins the call; None for a request that no route matches. Never raises."""
        if not self.recording.active:
            return None
        with _BEGIN:
            found = self.family.routes.find(options.method, options.url)
            changes = found and self.family.changes(client, options, self.recording.provider)
            if found is None or changes is None:
                return None
            (operation, resource), body = found, _body(options)
            host, attributes = self._server(client, options.url)
            streams = kwargs.get("stream") is True
            if resource is not None and operation.resource_attribute is not None:
                attributes = {**attributes, operation.resource_attribute: resource}
            invocation = begin(self.recording, operation, body, attributes, stream=streams)
            asking: dict[str, Any] = {}
            asks = operation.usage_on_request and host.reports_usage_on_request
            if streams and asks and body.get("stream") is True:
                asking = _options_for_usage(
                    self.family, client, options, cast_to, kwargs.get("stream_cls")
                )
            if (changes or asking) and invocation.is_open:
                # The caller's options may be used again, so they stay as they are. `copy` is the
                # name before pydantic 2.
                copy = getattr(options, "model_copy", None) or options.copy
                options = copy(update={**changes, **asking})
            return Call(options, invocation, streams, bool(asking))
        return None

    def _server(self, client: Any, url: str) -> tuple[Host, Attributes]:
        """The server that a request of `client` to `url` goes to, and its attributes."""
        if url.startswith(("http://", "https://")):
            return self._read(client, url)
        base_url = client._base_url  # noqa: SLF001  # the property computes it anew in some
        key = id(client)
        known = self.servers.get(key)
        # A client's base URL can be set anew; then the object is another one.
        if known is None or known[0]() is not client or known[1] is not base_url:
            alive = ref(client, lambda _: self.servers.pop(key, None))
            known = self.servers[key] = (alive, base_url, *self._read(client, str(base_url)))
        return known[2], known[3]

    def _read(self, client: Any, url: str) -> tuple[Host, Attributes]:
        host = host_at(url)
        return host, {semconv.PROVIDER_NAME: self.family.provider(client, host), **host.attributes}


def _body(options: Any) -> Mapping[str, Any]:
    body = options.json_data
    if not isinstance(body, dict):
        return {}
    extra = getattr(options, "extra_json", None)
    return {**body, **extra} if extra else cast("dict[str, Any]", body)


# The usage report that an OpenAI-style stream is asked for, for a caller who didn't decide about it
# (https://platform.openai.com/docs/api-reference/chat/create#stream_options).

_OPTION, _WANTED = "stream_options", "include_usage"
_RAW_RESPONSE_HEADER = "x-stainless-raw-response"
_HOOKS = ("_prepare_options", "_build_request", "_prepare_request", "_request")
"""Methods of a client through which a request goes after it was seen here."""


def _options_for_usage(
    family: ClientInstrumentor, client: Any, options: Any, cast_to: Any, stream_class: Any
) -> dict[str, Any]:
    """Fields of a request's options that must be otherwise for its stream to report the usage.

    Empty if the caller decided about it, or if the chunk could not be distinguished from those that
    the caller gets without us: in the provider's own bytes, in objects that have no field for it,
    and in a subclass of the client that may still ask.
    """
    extra = getattr(options, "extra_json", None)
    # `extra_body` is merged over the body by the client, so its fields count.
    name = "extra_json" if isinstance(extra, Mapping) and _OPTION in extra else "json_data"
    given = cast("Mapping[str, Any]", getattr(options, name))
    asked = given.get(_OPTION)
    if asked is None and name == "json_data":
        asked = {}
    if not isinstance(asked, Mapping) or _WANTED in asked:
        return {}
    if (
        any(map(_is_raw, (options.headers, getattr(client, "_custom_headers", None))))
        or not all(_is_of(family, getattr(client, hook, None)) for hook in _HOOKS)
        or not _is_of_chunks(cast_to, stream_class)
    ):
        return {}
    return {name: {**given, _OPTION: {**cast("Mapping[str, Any]", asked), _WANTED: True}}}


def _is_raw(headers: Any) -> bool:
    return isinstance(headers, Mapping) and any(
        str(name).lower() == _RAW_RESPONSE_HEADER for name in cast("Any", headers)
    )


def _is_of(family: ClientInstrumentor, method: Any) -> bool:
    """Whether it is the library's own method, and not that of a subclass."""
    package = family.defining.partition(".")[0]
    return method is None or str(getattr(method, "__module__", None)).startswith(f"{package}.")


def _is_of_chunks(cast_to: Any, stream_class: Any) -> bool:
    """Whether the caller gets objects in which the usage can be found."""
    of_stream = get_args(stream_class)
    chunk = of_stream[0] if of_stream else cast_to
    if not isinstance(chunk, type) or hasattr(cast_to, "iter_bytes"):
        return False
    if chunk in (object, dict):
        return True
    # The latter is the name before pydantic 2.
    return "usage" in (getattr(chunk, "model_fields", None) or vars(chunk).get("__fields__") or ())


class ClientInstrumentor(LibraryInstrumentor):
    """Instruments one client library of the generated kind; `defining` has its clients.

    The name of the library is that of its provider.
    """

    routes: Routes
    """Which requests are which operations."""
    clouds: Mapping[str, str] = {}
    """The providers of clients of another class than the library's usual one, by its name."""
    changes: Changes = staticmethod(lambda *_call: _UNCHANGED)
    """Fields of a request's options that must be otherwise for the call to be recorded.

    None for a client that records itself. Given the client, the options, and the provider of our
    spans.
    """
    read_error: ErrorReader | None = staticmethod(api_error)

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches `request` of the sync and the async client."""
        wrapper = RequestWrapper(recording, self)
        patches.replace(module, "SyncAPIClient.request", wrapper.wrap)
        patches.replace(module, "AsyncAPIClient.request", wrapper.wrap_async)

    def provider(self, client: object, host: Host) -> str:
        """The provider's name for a client at a host: of its class, else of the address."""
        names = (base.__name__.removeprefix("Async") for base in type(client).__mro__)
        cloud = next((self.clouds[name] for name in names if name in self.clouds), None)
        return cloud or host.provider or self.library
