"""PyInstaller's hook for this package, which it finds by the entry point `pyinstaller40`."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Where the hook is."""
    return [str(Path(__file__).parent)]
