"""What PyInstaller can't see: the price table, and modules that are loaded when they are used."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata  # pyright: ignore[reportMissingModuleSource]  # it runs this

datas = [
    *collect_data_files("agentpulse_exporter._pricing", includes=["prices.json"]),
    *copy_metadata("agentpulse-exporter"),
]
hiddenimports = collect_submodules("agentpulse_exporter")
