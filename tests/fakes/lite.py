"""The real LiteLLM, where it is installed: it has an environment of its own (`nox -s litellm`).

It asks for versions of the client libraries that the lock file doesn't hold.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
from conftest import as_dict

VOLATILE = ("server.port", "gen_ai.response.time_to_first_chunk", "agentpulse.cost.fallback")


def imported() -> Any:
    """The library; skips the module that asks for it where it isn't installed."""
    # Asked by the distribution's name, because a folder of tests has the package's.
    try:
        version("litellm")
    except PackageNotFoundError:
        pytest.skip("litellm is not installed: `nox -s litellm` is", allow_module_level=True)
    # Else it fetches its table of prices over the network.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with warnings.catch_warnings(action="ignore"):
        library = importlib.import_module("litellm")
    library.suppress_debug_info = True
    return library


def is_older_than(release: str) -> bool:
    parts = [tuple(map(int, text.split(".")[:3])) for text in (version("litellm"), release)]
    return parts[0] < parts[1]


def finish_logging() -> None:
    """Has LiteLLM log what the last event loop left to it, as it does in a program's next loop.

    Its worker holds the coroutine that logs a stream of Anthropic's API, and with it the call. A
    loop that ends at once never starts it.
    """
    if not is_older_than("1.106.0"):
        worker = importlib.import_module("litellm.litellm_core_utils.logging_worker")
        asyncio.run(worker.GLOBAL_LOGGING_WORKER.flush())


def reported(span: Any) -> dict[str, Any]:
    plain = as_dict(span)
    for name in VOLATILE:
        plain["attributes"].pop(name, None)
    return {"by": span.instrumentation_scope.name.rpartition(".")[2], **plain}
