"""What PyInstaller can't see of the local server, where a program has it: its pages."""

from PyInstaller.utils.hooks import collect_data_files  # pyright: ignore[reportMissingModuleSource]  # it runs this

datas = collect_data_files("agentpulse", includes=["server/templates/*"])
