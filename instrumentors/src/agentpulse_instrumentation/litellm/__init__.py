"""LiteLLM: one span a call, whichever provider it goes to.

LiteLLM calls OpenAI and the hosts that are like it with the openai client, whose instrumentor
records these calls; it calls all others with its own HTTP client, and those are recorded here.

The methods of `Logging` are patched, the object through which LiteLLM calls its callbacks. A
callback in `litellm.callbacks` would see the same, but later (those of the end of `asyncio.run` are
lost), it would be gone when a program sets the list anew, and it would remain in the lists that
LiteLLM copies it to.

Its HTTP client and the end of its streams are patched too, for LiteLLM passes over errors that come
with status 200, and ends a stream that was cut as if it were whole.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt

from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.operation import ErrorReader, api_error
from agentpulse_instrumentation._engine.patching import Patches, shield
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.litellm._calls import Given, Observer

_OBSERVE = shield("observe a call of LiteLLM")
Args = tuple[Any, ...]
Step = Callable[..., None]
"""Is given the observer, the object, and the arguments of its method; then, what that returned."""

_LOGGING = "litellm.litellm_core_utils.litellm_logging"
_STREAMS = "litellm.litellm_core_utils.streaming_handler"
_HTTP = "litellm.llms.custom_httpx.http_handler"

# `litellm/litellm_core_utils/litellm_logging.py` of 1.80 to 1.110.
# Most of them report the same end; the first to be called is the one in the caller's own task.
_STEPS: Mapping[str, Mapping[str, Step]] = {
    _LOGGING: {
        "Logging.__init__": Observer.begun,
        "Logging.pre_call": Observer.sending,
        "Logging.post_call": Observer.got,
        "Logging.handle_sync_success_callbacks_for_async_calls": Observer.answered,
        "Logging.dispatch_success_handlers": Observer.answered,
        "Logging.async_success_handler": Observer.answered,
        "Logging.success_handler": Observer.answered,
        "Logging.dispatch_attempt_failure_handlers": Observer.failed,
        "Logging.dispatch_failure_handlers": Observer.failed,
        "Logging.async_failure_handler": Observer.failed,
        "Logging.failure_handler": Observer.failed,
    },
    _STREAMS: {"CustomStreamWrapper.finish_reason_handler": Observer.finishing},
    _HTTP: {"HTTPHandler.post": Observer.received, "AsyncHTTPHandler.post": Observer.received},
}
_AFTER = (Observer.begun, Observer.received)
"""The steps that are observed after they ran."""
_SINCE = {
    "Logging.dispatch_success_handlers": "1.88.0",
    "Logging.dispatch_failure_handlers": "1.95.0",
    "Logging.dispatch_attempt_failure_handlers": "1.109.0",
}
"""The versions in which the steps came that are younger than the oldest supported version."""


class LiteLLMInstrumentor(LibraryInstrumentor):
    """Records every call of LiteLLM that no instrumented client underneath records."""

    library = "litellm"
    defining = _LOGGING
    supported = "litellm >= 1.80.5, < 2"
    read_error: ErrorReader | None = staticmethod(api_error)

    also: tuple[str, ...] = (_STREAMS, _HTTP)
    _observer: Observer | None = None

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches the steps of `Logging`, and where answers come in."""
        if self._observer is None or self._observer.recording is not recording:
            self._observer = Observer(recording)
        for path, step in _STEPS.get(module.__name__, {}).items():
            observed = _observed_after if step in _AFTER else _observed
            patch = functools.partial(observed, step=step, observer=self._observer)
            patches.replace(module, path, patch, since=_SINCE.get(path))


def _observed(original: Any, step: Step, observer: Observer) -> Any:
    """The method, observed before it runs: a coroutine function when its coroutine is made."""

    def call(method: Any, instance: Any, args: Args, given: Given) -> Any:
        if observer.recording.active:
            with _OBSERVE:
                step(observer, instance, args, given)
        return method(*args, **given)

    return wrapt.FunctionWrapper(original, call)


def _observed_after(original: Any, step: Step, observer: Observer) -> Any:
    """The method, observed after it ran."""

    def observed(result: Any, instance: Any, args: Args, given: Given) -> Any:
        if observer.recording.active:
            with _OBSERVE:
                step(observer, instance, args, given, result)
        return result

    def call(method: Any, instance: Any, args: Args, given: Given) -> Any:
        return observed(method(*args, **given), instance, args, given)

    async def acall(method: Any, instance: Any, args: Args, given: Given) -> Any:
        return observed(await method(*args, **given), instance, args, given)

    is_async = inspect.iscoroutinefunction(inspect.unwrap(original))
    return wrapt.FunctionWrapper(original, acall if is_async else call)
