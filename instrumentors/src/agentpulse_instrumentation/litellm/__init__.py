"""LiteLLM: one span a call, whichever provider it goes to.

LiteLLM calls OpenAI and what is like it with the openai client, whose instrumentor tells of these
calls; it calls all others with its own HTTP client, and those calls are recorded here.

What is patched are the methods of `Logging`, the object through which LiteLLM tells its callbacks
of a call. A callback in `litellm.callbacks` would see the same, but later (what is logged when
`asyncio.run` ends is lost), it would be gone when a program sets the list anew, and it would stay
behind in the lists that LiteLLM copies it to.

Its HTTP client and the end of its streams are patched too, for LiteLLM passes over errors that come
with status 200, and ends a stream that was cut as if it were whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt

from agentpulse_instrumentation._engine.client import api_error
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.operation import ErrorReader
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.litellm._observer import Observer

_OBSERVE = shield("observe a call of LiteLLM")
Step = Callable[[Observer, Any, tuple[Any, ...], dict[str, Any]], None]
After = Callable[[Observer, Any, dict[str, Any], Any], None]

_STREAMS = "litellm.litellm_core_utils.streaming_handler"
_HTTP = "litellm.llms.custom_httpx.http_handler"

# `litellm/litellm_core_utils/litellm_logging.py` of 1.80 to 1.110.
# Most of them tell of the same end; the first to be called is the one in the caller's own task.
_STEPS: Mapping[str, Step] = {
    "pre_call": Observer.sending,
    "post_call": Observer.got,
    "handle_sync_success_callbacks_for_async_calls": Observer.answered,
    "dispatch_success_handlers": Observer.answered,
    "async_success_handler": Observer.answered,
    "success_handler": Observer.answered,
    "dispatch_attempt_failure_handlers": Observer.failed,
    "dispatch_failure_handlers": Observer.failed,
    "async_failure_handler": Observer.failed,
    "failure_handler": Observer.failed,
}
_SINCE = {
    "dispatch_success_handlers": "1.88.0",
    "dispatch_failure_handlers": "1.95.0",
    "dispatch_attempt_failure_handlers": "1.109.0",
}
"""The versions in which the steps came that are younger than what is supported."""


class LiteLLMInstrumentor(LibraryInstrumentor):
    """Records every call of LiteLLM that no instrumented client underneath records."""

    library = "litellm"
    defining = "litellm.litellm_core_utils.litellm_logging"
    supported = "litellm >= 1.80.5, < 2"
    read_error: ErrorReader | None = staticmethod(api_error)

    also: tuple[str, ...] = (_STREAMS, _HTTP)
    _observer: Observer | None = None

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches the steps of `Logging`, and where answers come in."""
        if self._observer is None or self._observer.recording is not recording:
            self._observer = Observer(recording)
        observer = self._observer
        if module.__name__ == _STREAMS:
            patches.replace(
                module,
                "CustomStreamWrapper.finish_reason_handler",
                lambda original: _observed(original, Observer.finishing, observer),
            )
        elif module.__name__ == _HTTP:
            patches.replace(
                module,
                "HTTPHandler.post",
                lambda original: _observed_after(original, Observer.received, observer),
            )
            patches.replace(
                module,
                "AsyncHTTPHandler.post",
                lambda original: _aobserved_after(original, Observer.received, observer),
            )
        else:
            self._patch_logging(module, patches, observer)

    def _patch_logging(self, module: ModuleType, patches: Patches, observer: Observer) -> None:
        patches.replace(
            module,
            "Logging.__init__",
            lambda original: _observed_after(original, Observer.begun, observer),
        )
        for name, step in _STEPS.items():
            patches.replace(
                module,
                f"Logging.{name}",
                lambda original, step=step: _observed(original, step, observer),
                since=_SINCE.get(name),
            )


def _observed(original: Any, step: Step, observer: Observer) -> Any:
    """The method, observed before it runs: a coroutine function when its coroutine is made."""

    def call(
        method: Callable[..., Any], instance: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> Any:
        if observer.recording.active:
            with _OBSERVE:
                step(observer, instance, args, given)
        return method(*args, **given)

    return wrapt.FunctionWrapper(original, call)


def _observed_after(original: Any, step: After, observer: Observer) -> Any:
    """The method, observed after it ran."""

    def call(
        method: Callable[..., Any], instance: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> Any:
        result = method(*args, **given)
        if observer.recording.active:
            with _OBSERVE:
                step(observer, instance, given, result)
        return result

    return wrapt.FunctionWrapper(original, call)


def _aobserved_after(original: Any, step: After, observer: Observer) -> Any:
    """The async twin."""

    async def call(
        method: Callable[..., Any], instance: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> Any:
        result = await method(*args, **given)
        if observer.recording.active:
            with _OBSERVE:
                step(observer, instance, given, result)
        return result

    return wrapt.FunctionWrapper(original, call)
