"""What is put round methods of `BaseChatModel`, where callbacks don't tell enough.

`generate` and `agenerate` ask a cache for each of their prompts in methods of their own. Where a
task that awaits `agenerate` is cancelled, LangChain tells nobody.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from agentpulse_instrumentation.langchain import models
from agentpulse_instrumentation.langchain.runs import Runs
from agentpulse_instrumentation.shield import shield

_LOOK = shield("see whether a model has a cache")
_END = shield("end a run")


def _watched(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    @functools.wraps(original)
    def _generate_with_cache(model: Any, *args: Any, **kwargs: Any) -> Any:
        with _LOOK:
            models.may_be_cached(runs, kwargs.get("run_manager"), model)
        return original(model, *args, **kwargs)

    return _generate_with_cache


def _awatched(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _agenerate_with_cache(model: Any, *args: Any, **kwargs: Any) -> Any:
        with _LOOK:
            models.may_be_cached(runs, kwargs.get("run_manager"), model)
        return await original(model, *args, **kwargs)

    return _agenerate_with_cache


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


METHODS = {
    "_generate_with_cache": _watched,
    "_agenerate_with_cache": _awatched,
    "agenerate": _until_cancelled,
}
"""The methods of `BaseChatModel`, and what is put round them."""
