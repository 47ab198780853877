"""Instrumentors of the client libraries that are made by one generator, patched at their seam."""

from __future__ import annotations

from types import ModuleType

from agentpulse_instrumentation.instrumentor import LibraryInstrumentor, Wanted
from agentpulse_instrumentation.patching import Patches
from agentpulse_instrumentation.seam import Family, Seam, awrapped, wrapped

_SEAMS = {"SyncAPIClient": wrapped, "AsyncAPIClient": awrapped}


class ClientInstrumentor(LibraryInstrumentor):
    """Instruments one client library of the generated kind; `defining` holds its seam."""

    family: Family

    def patch(self, module: ModuleType, patches: Patches, wanted: Wanted) -> None:
        """Patches `request` of the sync and the async client."""
        seam = Seam(self.family, wanted)
        for class_name, observed in _SEAMS.items():
            patches.replace(
                module,
                f"{class_name}.request",
                lambda original, observed=observed: observed(original, seam),
            )
        self.patch_more(module, patches)

    def patch_more(self, module: ModuleType, patches: Patches) -> None:
        """Further patches that a library needs beside the seam."""
