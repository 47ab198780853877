"""The third way: the exporter and the instrumentors in a pipeline that the program made itself."""

from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_instrumentation import instrument
from night import work
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(AgentPulseSpanExporter()))
instrument(tracer_provider=provider)
work()
provider.shutdown()
