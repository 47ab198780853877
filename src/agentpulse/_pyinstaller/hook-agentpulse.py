"""What PyInstaller can't see: the metadata, by which programs ask for versions."""

from PyInstaller.utils.hooks import copy_metadata  # pyright: ignore[reportMissingModuleSource]  # it runs this

datas = copy_metadata("agentpulse-sdk")
