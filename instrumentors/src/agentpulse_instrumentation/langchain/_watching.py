"""What is put round methods of LangChain's models, where callbacks don't tell enough.

Where a task that awaits `agenerate` is cancelled, or a time-out ends it, LangChain (1.8 too) calls
no callback. Models that complete text call theirs in tasks of their own, out of sight of what they
then call.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.langchain import _models as models
from agentpulse_instrumentation.langchain._runs import Runs

_LOOK = shield("continue a run")
_END = shield("end a run")


def _until_cancelled(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    @functools.wraps(original)
    async def agenerate(model: Any, *args: Any, **kwargs: Any) -> Any:
        begun: list[Any] = []
        token = models.begun_here.set(begun)
        try:
            return await original(model, *args, **kwargs)
        except asyncio.CancelledError as error:
            with _END:
                for run_id in begun:
                    models.end(runs, None, {"run_id": run_id}, error)
            raise
        finally:
            models.begun_here.reset(token)

    return agenerate


def _in_place(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _agenerate_helper(model: Any, *args: Any, **kwargs: Any) -> Any:
        with _LOOK:
            # They come after the prompts and where to stop.
            models.goes_on_here(runs, args[2] if len(args) > 2 else kwargs["run_managers"])
        return await original(model, *args, **kwargs)

    return _agenerate_helper


_LANGUAGE_MODELS = "langchain_core.language_models"
METHODS: dict[str, tuple[str, dict[str, Callable[[Callable[..., Any], Runs], Any]]]] = {
    f"{_LANGUAGE_MODELS}.chat_models": (
        "BaseChatModel",
        {
            "agenerate": _until_cancelled,
        },
    ),
    f"{_LANGUAGE_MODELS}.llms": ("BaseLLM", {"_agenerate_helper": _in_place}),
}
"""By module: the class, its methods, and what is put round them."""
