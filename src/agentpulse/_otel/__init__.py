"""The tracer provider, its processors and exporters, and the variables of OpenTelemetry."""
