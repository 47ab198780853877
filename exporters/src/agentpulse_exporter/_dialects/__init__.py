"""Reads spans of any instrumentation by the current GenAI conventions."""
