"""Switches AgentPulse on in a Python program that doesn't mention it.

This folder goes first on the program's PYTHONPATH, where Python finds `sitecustomize` as it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def environment(endpoint: str, key: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables under which a program is recorded, and sends its events there."""
    folder = str(Path(__file__).parent)
    paths = [folder, environ["PYTHONPATH"]] if environ.get("PYTHONPATH") else [folder]
    return {
        **environ,
        "AGENTPULSE_ENDPOINT": endpoint,
        "AGENTPULSE_API_KEY": key,
        "PYTHONPATH": os.pathsep.join(paths),
    }
