"""The exporter behind the stock batch processor; prints what was imported for it."""

import sys

from agentpulse_exporter import AgentPulseSpanExporter
from call import tell
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(AgentPulseSpanExporter()))
trace.set_tracer_provider(provider)
tell()
provider.shutdown()
roots = {name.partition(".")[0] for name in sys.modules}
# An environment made by Python 3.11 loads setuptools' `_distutils_hack` by itself.
print(*sorted(roots - sys.stdlib_module_names - {"__main__", "call", "_distutils_hack"}))
