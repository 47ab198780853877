"""Where the local server keeps its events."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def default_database(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The database in the user's folder for data, by the rules of the platform."""
    return _data_folder(environ, platform) / "agentpulse" / "agentpulse.sqlite3"


def _data_folder(environ: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    # A variable that isn't an absolute path is to be ignored, says the XDG specification.
    chosen = environ.get("XDG_DATA_HOME", "")
    if Path(chosen).is_absolute():
        return Path(chosen)
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path.home() / ".local" / "share"
