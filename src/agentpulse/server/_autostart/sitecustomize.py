"""Python imports this when a program starts: runs the one it shadows, then switches AgentPulse on.

`agentpulse dev COMMAND` uses it; `agentpulse run` uses OpenTelemetry's own.

Whatever happens here, the program runs as it would without. The Python that reads this may be any,
also one without AgentPulse, so nothing newer than Python 3.8 is used.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib takes a while to load


def _run_shadowed():
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    shadowed = module_from_spec(spec)
    sys.modules["sitecustomize"] = shadowed
    spec.loader.exec_module(shadowed)


def _switch_on():
    try:
        import agentpulse

        # The program's own first `init` is not a second one.
        agentpulse.init().is_automatic = True
    except ImportError:
        pass  # without AgentPulse in its Python, `agentpulse dev` reports that no call was recorded
    except Exception as error:  # noqa: BLE001  # never the program's problem
        sys.stderr.write(f"AgentPulse could not start: {type(error).__name__}: {error}\n")


# The program finds the path as it would be, and its own children still get PYTHONPATH.
sys.path[:] = [entry for entry in sys.path if entry != _FOLDER]
try:
    _run_shadowed()
finally:
    _switch_on()
