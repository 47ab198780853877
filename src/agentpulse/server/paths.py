"""What the local server keeps in the user's folder for data: its events, and its key as it runs."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agentpulse_exporter.local_key import data_folder, key_file, read_key


def default_database(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The database in the user's folder for data, by the rules of the platform."""
    return data_folder(environ, platform) / "agentpulse.sqlite3"


def publish_key(port: int, key: str) -> Path:
    """Leaves a key where programs of this user, and nobody else, find it by the port.

    Raises:
        OSError: The folder can't be written.
        RuntimeError: The user has no home.
    """
    file = key_file(port)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        file.parent.chmod(0o700)
    # A file of its own, which then takes the name: what a dead server left there, and whatever else
    # has the name, is not written to, and nobody ever reads half a key.
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:  # noqa: PTH123  # a path can't be opened with a mode of the file
            writing.write(f"{key}\n")
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    return file


def withdraw_key(file: Path, key: str) -> None:
    """Takes the key away again, unless another server has put its own there."""
    if read_key(file) == key:
        with suppress(OSError):
            file.unlink()
