"""LiteLLM: one span a call, whichever provider it goes to.

LiteLLM calls OpenAI and what is like it with the openai client, whose instrumentor tells of these
calls; it calls all others with its own HTTP client, and those are told of here.

What is patched are the methods of `Logging`, the object through which LiteLLM tells its callbacks
of a call. A callback in `litellm.callbacks` would see the same, but later (what is logged when
`asyncio.run` ends is lost), it would be gone when a program sets the list anew, and it would stay
behind in the lists that LiteLLM copies it to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt

from agentpulse_instrumentation._engine.client import api_error
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor, Recording
from agentpulse_instrumentation._engine.operation import ErrorReader
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.litellm._observer import Observer

_OBSERVE = shield("observe a call of LiteLLM")
Step = Callable[[Observer, Any, tuple[Any, ...], dict[str, Any]], None]

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

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches the steps of `Logging`."""
        observer = Observer(recording)
        patches.replace(
            module,
            "Logging.__init__",
            lambda original: _observed_after(original, recording, observer),
        )
        for name, step in _STEPS.items():
            patches.replace(
                module,
                f"Logging.{name}",
                lambda original, step=step: _observed(original, step, recording, observer),
                since=_SINCE.get(name),
            )


def _observed(original: Any, step: Step, recording: Recording, observer: Observer) -> Any:
    """The method, observed before it runs: a coroutine function when its coroutine is made."""

    def call(
        method: Callable[..., Any], logging: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> Any:
        if recording.active:
            with _OBSERVE:
                step(observer, logging, args, given)
        return method(*args, **given)

    return wrapt.FunctionWrapper(original, call)


def _observed_after(original: Any, recording: Recording, observer: Observer) -> Any:
    """The constructor, observed after it ran."""

    def call(
        method: Callable[..., Any], logging: Any, args: tuple[Any, ...], given: dict[str, Any]
    ) -> None:
        method(*args, **given)
        if recording.active:
            with _OBSERVE:
                observer.begun(logging, args, given)

    return wrapt.FunctionWrapper(original, call)
