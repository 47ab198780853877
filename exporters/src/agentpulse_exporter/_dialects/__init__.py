"""Anybody's span, read as one model call by the current GenAI conventions."""
