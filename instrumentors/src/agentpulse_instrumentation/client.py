"""Instrumentors of the client libraries that are made by one generator, patched at their seam."""

from __future__ import annotations

import inspect
from types import ModuleType

from agentpulse_instrumentation.instrumentor import LibraryInstrumentor, Patches, Wanted
from agentpulse_instrumentation.seam import Family, Seam, awrapped, wrapped

_SEAMS = ("SyncAPIClient", "AsyncAPIClient")


class ClientInstrumentor(LibraryInstrumentor):
    """Instruments one client library of the generated kind; `defining` holds its seam."""

    family: Family

    def patch(self, module: ModuleType, wanted: Wanted) -> None:
        """Patches `request` of the sync and the async client."""
        seam = Seam(self.family, wanted)
        for class_name in _SEAMS:
            wanted.patches.replace(
                getattr(module, class_name),
                "request",
                lambda original: (awrapped if inspect.iscoroutinefunction(original) else wrapped)(
                    original, seam
                ),
            )
        self.patch_more(module, wanted.patches)

    def patch_more(self, module: ModuleType, patches: Patches) -> None:
        """Further patches that a library needs beside the seam."""

    def is_complete(self, module: ModuleType) -> bool:
        """Whether the classes to patch are there already."""
        return all(hasattr(module, seam) for seam in _SEAMS)
