"""The key of a local server of this user, and which key a request carries.

A local server (`agentpulse dev`) makes a key each time it starts, and keeps it, while it runs, in a
file that only its user can read, by its port. Programs outlive many runs of the server, so the file
is read for each request.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from agentpulse_exporter._delivery.endpoint import Endpoint
from agentpulse_exporter._delivery.http import Answer
from agentpulse_exporter.settings import ApiKey

_KEY = re.compile(r"ap_[!-~]{1,250}")
_UNKNOWN_KEY = (401, 403)


def data_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """AgentPulse's own folder in the user's folder for data, by the rules of the platform.

    Raises:
        RuntimeError: The user has no home.
    """
    return _data_of_all(environ, platform) / "agentpulse"


def key_file(port: int) -> Path:
    """Where the key of the local server on a port is.

    Raises:
        RuntimeError: The user has no home.
    """
    return data_folder() / f"local-{port}.key"


def read_key(file: Path) -> str | None:
    """The key in a file; None where there is none."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _KEY.fullmatch(text) else None


class Keys:
    """The keys that a request to one endpoint may carry.

    At an endpoint on this machine, the key of the local server there comes first, so that a key for
    the hosted API isn't sent; then the key that was given.
    """

    def __init__(self, endpoint: Endpoint, given: ApiKey | None) -> None:
        self._given = given
        self._file: Path | None = None
        if endpoint.is_loopback:
            try:
                self._file = key_file(endpoint.port)
            except RuntimeError:
                pass  # without a home there is no local server of this user either

    @property
    def local(self) -> ApiKey | None:
        """The key of the local server, if there is one of this user."""
        key = None if self._file is None else read_key(self._file)
        return None if key is None else ApiKey(key)

    def send(self, request: Callable[[Mapping[str, str]], Answer]) -> Answer:
        """The answer to a request, which is made with the headers that it is given.

        It is made again with the next key where one is refused: an event must not be lost because
        the server was started anew, or because a stopped server didn't remove its file.
        """
        tried: list[ApiKey | None] = []
        untried = self._known()
        while True:
            tried.append(key := untried[0])
            answer = request({} if key is None else {"Authorization": key.authorization()})
            # Read anew after each refusal: the server may have started only just now.
            untried = [key for key in self._known() if key not in tried]
            if answer.status not in _UNKNOWN_KEY or not untried:
                return answer

    def _known(self) -> list[ApiKey | None]:
        return [key for key in (self.local, self._given) if key is not None] or [None]


def _data_of_all(environ: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    # By the XDG specification, a variable that isn't an absolute path is to be ignored.
    chosen = environ.get("XDG_DATA_HOME", "")
    if Path(chosen).is_absolute():
        return Path(chosen)
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path.home() / ".local" / "share"
