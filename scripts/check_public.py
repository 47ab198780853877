"""Checks that users' type checkers know all public types, and that nothing else is public.

It runs where the three distributions are installed as pip installs them (`nox -s public`).
"""

from __future__ import annotations

import json
import subprocess
import sys

from agentpulse_instrumentation import INSTRUMENTORS

PUBLIC = {
    "agentpulse": {
        *("agentpulse", "agentpulse.__main__", "agentpulse.cli", "agentpulse.client"),
        *("agentpulse.demo", "agentpulse.demo.provider", "agentpulse.errors"),
        *("agentpulse.server", "agentpulse.settings"),
    },
    "agentpulse_exporter": {
        *("agentpulse_exporter", "agentpulse_exporter.enriching", "agentpulse_exporter.exporter"),
        *("agentpulse_exporter.processor", "agentpulse_exporter.settings"),
    },
    "agentpulse_instrumentation": {
        *("agentpulse_instrumentation", "agentpulse_instrumentation.registry"),
        *(f"agentpulse_instrumentation.{library}" for library in INSTRUMENTORS),
    },
}
"""The modules that a user may import, by package."""


def faults(package: str) -> list[str]:
    """The faults in the types and the names of a package, a line each."""
    command = ["pyright", "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    answered = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = json.loads(answered)["typeCompleteness"]
    modules = {module["name"] for module in found["modules"]}
    unknown = [each for each in found["symbols"] if each["isExported"] and not each["isTypeKnown"]]
    print(f"{package}: {found['completenessScore']:.1%} of {len(modules)} modules are typed")
    return [
        *(f"{module} is public" for module in sorted(modules - PUBLIC[package])),
        *(f"{module} is not public" for module in sorted(PUBLIC[package] - modules)),
        *(
            f"{each['name']}: {fault['message'].splitlines()[0]}"
            for each in unknown
            for fault in each.get("diagnostics") or [{"message": "its parts are not all typed"}]
        ),
    ]


def main() -> int:
    """Prints the faults; 1 if there are any."""
    found = [fault for package in PUBLIC for fault in faults(package)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
