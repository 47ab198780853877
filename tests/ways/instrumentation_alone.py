"""The instrumentors where there is no client library, nor an SDK; prints what was imported."""

import sys

from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument

instrument()
assert not any(kind().is_instrumented_by_opentelemetry for kind in INSTRUMENTORS.values())
uninstrument()
roots = {name.partition(".")[0] for name in sys.modules}
# An environment made by Python 3.11 loads setuptools' `_distutils_hack` by itself.
print(*sorted(roots - sys.stdlib_module_names - {"__main__", "_distutils_hack"}))
