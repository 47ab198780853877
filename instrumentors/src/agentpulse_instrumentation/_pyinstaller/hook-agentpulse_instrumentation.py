"""What PyInstaller can't see: a library is instrumented by its version, which its metadata says."""

from importlib.metadata import PackageNotFoundError

from packaging.requirements import Requirement
from PyInstaller.utils.hooks import copy_metadata  # pyright: ignore[reportMissingModuleSource]  # it runs this

from agentpulse_instrumentation import INSTRUMENTORS

datas = copy_metadata("agentpulse-instrumentation")
for kind in INSTRUMENTORS.values():
    for each in kind().instrumentation_dependencies():
        try:
            datas += copy_metadata(Requirement(each).name)
        except PackageNotFoundError:
            # It isn't installed, so the program doesn't use it.
            continue
